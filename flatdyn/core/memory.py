"""Memory is checked before it is allocated: how much is free here, and may be used.

A machine that runs out of memory kills the process, and with it everything that was not on disk. So functions whose
memory grows with an argument say what they are about to take, and what to do if that is too much.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

_LITTLE = 2**24  # bytes that are taken without a look at the limits, which costs a millisecond
_SHARE = 0.8  # of what is free may be taken by one request
_MOST = 2**47  # bytes: what a process can address at all, whatever the machine says
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def check_memory(needed: int, what: str, remedy: str, *, device: int = 0) -> None:
    """Refuse what does not fit into the memory that is free and allowed, before it is taken.

    Args:
        needed: bytes on the host, a Python number: such products overflow NumPy's
        what: what would take them, such as "the trajectories"
        remedy: how the caller's own arguments make it less
        device: bytes on the device, shared out over all of them; on a CPU they come out of the same memory
    Raises:
        ValueError: if they do not fit
    """
    if needed + device <= _LITTLE:
        return
    if jax.default_backend() == "cpu":
        needed, device = needed + device, 0
    free = free_bytes()
    if needed > _SHARE * free:
        limit = (
            f"{_size(free)} of memory are free and allowed here" if free < _MOST else "no machine has so much memory"
        )
        raise ValueError(f"{what} would take {_size(needed)}, but {limit}: {remedy}")
    if device and device > _SHARE * (free := device_bytes()):
        raise ValueError(f"{what} would take {_size(device)}, but the devices have {_size(free)} free: {remedy}")


def free_bytes() -> int:
    """Bytes that this process can still take: of the machine, of its control groups, and of its own limits."""
    return max(0, min([_MOST, *_of_the_machine(), *_of_the_groups(), *_of_the_process()]))


def device_bytes() -> int:
    """Bytes that are free on the devices of this process together."""
    available = [device.memory_stats() or {} for device in jax.local_devices()]
    free = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in available if "bytes_limit" in stats]
    return min(free) * len(available) if free else _MOST


def _size(number: float) -> str:
    if number >= 2**100:  # a float may not hold it
        return "over 1e+18 TiB"
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if number >= 2**power:
            return f"{number / 2**power:.3g} {unit}"
    return f"{number / 2**10:.3g} KiB"


def _of_the_machine() -> Iterator[int]:
    """What the system calls available; where it does not say, the machine's whole memory."""
    for line in _text(_PROC / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield int(value.split()[0]) * 1024
            return
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_the_groups() -> Iterator[int]:
    """What the control groups of this process leave: containers, batch systems, services. Of both versions."""
    for line in _text(_PROC / "self" / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _walk(_CGROUPS, group, ("memory.max", "memory.high"), "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            limits, used = ("memory.limit_in_bytes",), "memory.usage_in_bytes"
            yield from _walk(_CGROUPS / "memory", group, limits, used, "total_inactive_file")


def _walk(root: Path, group: str, limits: tuple[str, ...], used: str, cached: str) -> Iterator[int]:
    """What is left below each limit, of the group and of those that it is in, as far as they can be seen from here."""
    place = root / group.lstrip("/")
    for folder in (place, *place.parents):
        for limit in limits:
            allowed = _text(folder / limit).strip()
            if allowed.isdecimal():  # and not "max"
                stat = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
                # Files that were read lie in the group's memory, and leave it when it is needed
                yield int(allowed) - int(_text(folder / used).strip() or 0) + int(stat.get(cached, 0))
        if folder == root:
            return


def _of_the_process() -> Iterator[int]:
    """What `ulimit` leaves."""
    if resource is None:
        return
    pages = _text(_PROC / "self" / "statm").split()
    page = os.sysconf("SC_PAGE_SIZE")
    for name, field in (("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)):
        limit = resource.getrlimit(getattr(resource, name))[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - (int(pages[field]) * page if len(pages) > field else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def array_bytes(*shape: int, itemsize: int = 8) -> int:
    """Bytes of an array, as a Python number of any size."""
    return math.prod(map(int, shape)) * itemsize
