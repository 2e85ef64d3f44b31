"""Where runs go: chunks that fit the cache, devices and cores, and what to do when memory runs out."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flatdyn.core import checks, memory, precision
from flatdyn.processes import Process

# Of positions per chunk: with what a step computes besides, they stay in the cache of a CPU.
_CHUNK_BYTES, _NETWORK_CHUNK_BYTES, _GPU_CHUNK_BYTES = 2**17, 2**18, 2**27
_SMALL_RUN = 1 << 8  # bytes of a position up to which a vector of the processor may hold several runs
_WORTH_A_THREAD = 2**13  # runs


class Chunk(NamedTuple):
    """Runs `start … start + length − 1`, padded to `size` so that all chunks share one compiled program."""

    start: int
    length: int
    size: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.length)


def neighbours(process: Process, starts: jax.Array) -> bool:
    """Whether runs lie side by side in the vectors of the processor: coordinates kept one by one, or few of them.

    The compiler rounds the odd end of a loop differently from its vectorised body. So there must then be many runs at
    once, idle ones if need be, or the last bit of one would depend on how many others there are.
    """
    if starts.nbytes // len(starts) <= _SMALL_RUN:
        return True
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype))
    single = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return 2 * len(single) >= process.dim


def chunks(process: Process, starts: jax.Array, chunk: int | None) -> list[Chunk]:
    """Cut runs into equal chunks: what fits the cache on a CPU, much more on a GPU.

    Sizes are multiples of the devices, and of 64 runs on each where they are :func:`neighbours`.
    """
    devices, runs, bytes_per_run = jax.local_devices(), len(starts), starts.nbytes // len(starts)
    abreast, cpu = len(places()) if len(devices) == 1 else 1, devices[0].platform == "cpu"
    if chunk is None:
        room = _GPU_CHUNK_BYTES
        if cpu:
            room = _CHUNK_BYTES if neighbours(process, starts) else _NETWORK_CHUNK_BYTES
        number = -(-runs // (max(room // bytes_per_run, 1) * len(devices)))
        number += -number % abreast if number > 1 else 0  # no core waits while others take the last chunk
    else:
        number = -(-runs // checks.count("chunk", chunk, at_least=1))
    number = max(number, min(abreast, runs // _WORTH_A_THREAD))
    size = -(-runs // number)
    size += -size % (len(devices) * (64 if runs > 1 and neighbours(process, starts) else 1))
    return [Chunk(start, min(size, runs - start), size) for start in range(0, runs, size)]


def state_bytes(process: Process, dtype: Any) -> int:
    """Bytes of one run's full state."""
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((process.dim,), dtype))
    return sum(memory.array_bytes(*leaf.shape, itemsize=leaf.dtype.itemsize) for leaf in jax.tree.leaves(state))


def places() -> list[jax.Device]:
    """A device for each program that can run by itself: all of them, or the one CPU device once for every core."""
    devices = jax.local_devices()
    if len(devices) == 1 and devices[0].platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return devices * cores
    return devices


def place(array: jax.Array) -> jax.Array:
    """Spread the leading axis over all devices of this process."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return jax.device_put(array)
    mesh = Mesh(np.array(devices), ("runs",))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec("runs")))


def side_by_side(run: Callable, parts: list) -> None:
    """Call `run(part, stopped)` for all parts: one per core of a single CPU device, else one over all devices.

    An interrupt, or an error in one part, sets the event `stopped`, which the others look at between segments.
    """
    stopped = threading.Event()
    abreast = len(places()) if len(jax.local_devices()) == 1 else 1
    with ThreadPoolExecutor(min(abreast, len(parts))) as threads:
        try:
            for job in [threads.submit(precision.as_here(run), part, stopped) for part in parts]:
                job.result()
        finally:
            stopped.set()
            threads.shutdown(wait=False, cancel_futures=True)  # parts that have not begun never do


class TooMany(RuntimeError):
    """So many runs at once do not fit into the memory of a device."""

    def __init__(self, size: int):
        super().__init__(f"{size} runs at once do not fit into the device's memory")
        self.size = size


@contextlib.contextmanager
def memory_guard(size: int):
    """Distinguish a device that runs out of memory with `size` runs at once from other errors, while fewer could do."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if size <= len(jax.local_devices()) or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TooMany(size) from error


def fitting(attempt: Callable[[int | None], Any], chunk: int | None) -> Any:
    """Call `attempt(chunk)`, with half as many runs at once as long as they do not fit, and say so."""
    failed = np.inf
    while True:
        try:
            return attempt(chunk)
        except TooMany as error:
            if error.size >= failed:  # sizes are rounded up
                raise error.__cause__ from None
            failed, chunk = error.size, error.size // 2
            warnings.warn(f"{error}: going on with chunk={chunk}", stacklevel=3)
