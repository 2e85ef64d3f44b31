"""Results: named arrays with status codes and provenance, saved whole or not at all, read without pickle."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import io
import json
import os
import platform
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np


class Status(enum.IntEnum):
    """How a run ended. Every summary counts them, every plot shows them."""

    UNDECIDED = 0
    CONVERGED = 1
    DIVERGED = 2
    IMPOSSIBLE = 3  # the method's next step does not exist: a constraint's multiplier was not found


def provenance() -> dict[str, Any]:
    """What a number depends on besides its configuration: versions, device, precision."""
    devices = jax.devices()
    return {
        "versions": _versions(),
        "python": platform.python_version(),
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "x64": bool(jax.config.jax_enable_x64),
    }


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("flatdyn", "jax", "numpy", "sympy")}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record:
    """Base of all results: a frozen dataclass whose other fields are NumPy arrays.

    Attributes:
        config: what was asked for, as text by name
        provenance: versions, device, precision
    """

    config: dict[str, str]
    provenance: dict[str, Any]
    _own: ClassVar = ("config", "provenance")

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in self.arrays().items())
        return f"{type(self).__name__}({shapes})"

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in self._own]
        return {name: np.asarray(getattr(self, name)) for name in names}

    def save(self, path: str | Path) -> Path:
        """Write to `path` as a .npz file, complete or not at all; the same record gives the same bytes."""
        header = {"record": type(self).__name__} | {name: getattr(self, name) for name in self._own}
        return save_arrays(path, self.arrays(), header)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: if the file is truncated, damaged, or another kind of record
        """
        arrays, header = load_arrays(path)
        wanted = {field.name for field in dataclasses.fields(cls)} - set(cls._own)
        if header.get("record") != cls.__name__ or set(arrays) != wanted:
            raise ValueError(f"{path} holds a {header.get('record')} record, not {cls.__name__}: compute it again")
        return cls(**{name: header[name] for name in cls._own}, **arrays)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Record):
    """Trajectories of many runs; see :func:`flatdyn.simulate`.

    Attributes:
        times: step numbers at which positions were kept, shape (times,)
        theta: positions, shape (runs, times, dim); (times, dim) for a single run
        final: position after the last step, shape (runs, dim) or (dim,)
        status: a :class:`Status` per run, shape (runs,) or ()
        steps: steps taken before a run ended early, or all, shape (runs,) or ()
        observed: what `observe` gave at these times, shape (runs, times, ...) or (times, ...); empty if not asked for
    """

    times: np.ndarray
    theta: np.ndarray
    final: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    observed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def counts(self) -> dict[str, int]:
        """Number of runs by status, for summaries."""
        return {status.name: int(np.sum(self.status == status)) for status in Status}

    def __repr__(self) -> str:
        counted = ", ".join(f"{number} {name.lower()}" for name, number in self.counts().items() if number)
        return f"Ensemble({np.size(self.status)} runs x {self.times[-1]} steps: {counted})"


def described(thing: Any) -> str:
    """What a thing calls itself, without the addresses in memory that functions add: the same text tomorrow."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))


def digest(*parts: Any) -> str:
    """One word for some texts and arrays, the same tomorrow: it tells one call's unfinished work from another's.

    Args:
        parts: texts and arrays, in order
    """
    told = hashlib.sha256()
    for part in parts:
        array = np.asarray(part)
        told.update(f"{array.dtype} {array.shape} ".encode())
        told.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(array).tobytes())
    return told.hexdigest()


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> Path:
    """Write named arrays and a JSON header as one .npz file, through a temporary file beside it."""
    path = Path(path)
    text = np.frombuffer(json.dumps(header, sort_keys=True, default=str).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=text, **arrays)
    write_whole(path, buffer.getvalue())
    return path


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote: arrays by name, header.

    Raises:
        ValueError: if the file is truncated or damaged
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        header = json.loads(arrays.pop("header").tobytes())
    except Exception as error:  # a damaged file can break the reader anywhere: zip, zlib, array header, JSON
        raise ValueError(f"{path} is not a complete record ({error}): delete it and compute it again") from None
    return arrays, header


def check_same(path: str | Path, header: dict[str, Any], config: dict[str, Any], what: str) -> None:
    """Raise ValueError if a file of unfinished work, `what`, was written under another configuration."""
    if header != config:
        different = [name for name, value in config.items() if header.get(name) != value]
        raise ValueError(
            f"{path} holds {what} (different: {', '.join(different) or 'the kind of record'}): "
            "give another file, or delete this one"
        )


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
