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
import secrets
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import numpy as np

from flatdyn.core import checks, tables
from flatdyn.core.curves import Observed

if TYPE_CHECKING:
    import pandas
    import xarray as xr


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
    _form: ClassVar[dict[str, str]] = {}  # of fields, as in misfit
    _dims: ClassVar[dict[str, str]] = {}  # names of dimensions of fields that have no form
    _units: ClassVar[dict[str, str]] = {}  # of fields, where their names alone do not say them: see tables.unit_of
    _over: ClassVar[str] = ""  # the dimension that the rows of a table run over, where it is not the usual one
    _flags: ClassVar[dict[str, str]] = {"status": ", ".join(f"{int(one)} {one.name}" for one in Status)}
    _asked: ClassVar[tuple[str, ...]] = ()  # entries of config that the record itself reads

    @property
    def dtype(self) -> str:
        """ "float32" or "float64": the fewest bits of its numbers, and of what they were computed with."""
        kinds = [values.dtype for values in self.arrays().values() if values.dtype.kind == "f"]
        session = np.dtype("float64" if self.provenance.get("x64", True) else "float32")
        return str(min([*kinds, session], key=lambda kind: kind.itemsize))

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in self.arrays().items())
        return f"{type(self).__name__}({shapes}; {self.dtype})"

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in self._own]
        return {name: np.asarray(getattr(self, name)) for name in names}

    def to_xarray(self, *, split_complex: bool = False) -> xr.Dataset:
        """The arrays as an xarray.Dataset, with names of dimensions and units; configuration in the attributes.

        `record.to_xarray().to_netcdf("runs.nc")` needs the package h5netcdf or netCDF4, and `.to_zarr("runs.zarr")` the
        package zarr: pip install h5netcdf zarr. Arrays that were not asked for, and so are empty, are left out.

        Args:
            split_complex: complex arrays x as x_real and x_imag, for netCDF, which has no complex numbers
        """
        return tables.dataset(self, split_complex=split_complex)

    def to_dataframe(self, over: str | Sequence[str] | None = None) -> pandas.DataFrame:
        """The arrays as a pandas.DataFrame, one row for each run, or for each index of other dimensions.

        Arrays with one further dimension take a column for each entry, theta_0, theta_1, …; those without the
        dimensions, or with more, are left out.

        Args:
            over: the dimensions that the rows run over, of those that :meth:`to_xarray` has, such as ["runs", "times"];
                the runs, or what the first array has in front, if not given
        Raises:
            ValueError: if the record has no such dimension
        """
        return tables.dataframe(self, over)

    def save(self, path: str | Path) -> Path:
        """Write to `path` as a .npz file, complete or not at all; the same record gives the same bytes."""
        return save_arrays(path, self.arrays(), self.header())

    def header(self) -> dict[str, Any]:
        """What stands in the file besides the arrays."""
        return {"record": type(self).__name__} | {name: getattr(self, name) for name in self._own}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: if the file is truncated, damaged, or another kind of record
        """
        return cls.from_arrays(*load_arrays(path), path)

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], header: dict[str, Any], path: str | Path) -> Self:
        """The record that a file at `path` holds; errors as for :meth:`load`."""
        wanted = {field.name for field in dataclasses.fields(cls)} - set(cls._own)
        if header.get("record") != cls.__name__:
            raise ValueError(f"{path} holds a {header.get('record')} record, not {cls.__name__}: compute it again")
        later = {field.name for field in dataclasses.fields(cls) if field.default_factory is not dataclasses.MISSING}
        if different := sorted((set(arrays) ^ wanted) - (later - set(arrays))):
            raise _of_another_version(path, cls, different)
        if not all(isinstance(header.get(name), dict) for name in cls._own):
            raise damaged(path, "its configuration or provenance is missing")
        if missing := sorted(set(cls._asked) - set(header["config"])):
            raise _of_another_version(path, cls, missing)
        if problem := cls.misfit(arrays):
            raise damaged(path, problem)
        return cls(**{name: header[name] for name in cls._own}, **arrays)

    @classmethod
    def misfit(cls, arrays: dict[str, np.ndarray]) -> str | None:
        """What is wrong with arrays that should make such a record, or None: types, shapes, ranges of numbers."""
        return misfit(arrays, cls._form)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Observed, Record):
    """Trajectories of many runs; see :func:`flatdyn.simulate`.

    Attributes:
        times: step numbers at which positions were kept, shape (times,)
        theta: positions, shape (runs, times, dim); (times, dim) for a single run
        final: position after the last step, shape (runs, dim) or (dim,)
        status: a :class:`Status` per run, shape (runs,) or ()
        steps: steps taken before a run ended early, or all, shape (runs,) or ()
        observed: what `observe` gave at these times, shape (runs, times, ...) or (times, ...); empty if not asked for.
            Of what was given by name :meth:`curve` finds it
    """

    times: np.ndarray
    theta: np.ndarray
    final: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    observed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    _form: ClassVar = {
        "times": "iu times",
        "theta": "f ?runs times dim",
        "final": "f ?runs dim",
        "status": "iu ?runs",
        "steps": "iu ?runs",
    }
    _dims: ClassVar = {"observed": "?runs times"}
    _units: ClassVar = {"observed": ""}

    def counts(self) -> dict[str, int]:
        """Number of runs by status, for summaries."""
        return {status.name: int(np.sum(self.status == status)) for status in Status}

    def __repr__(self) -> str:
        counted = ", ".join(f"{number} {name.lower()}" for name, number in self.counts().items() if number)
        return f"Ensemble({np.size(self.status)} runs x {self.times[-1]} steps in {self.dtype}: {counted})"


def described(value: Any) -> str:
    """The text of an object without the memory addresses that functions add, so that it is the same tomorrow."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def digest(*parts: Any) -> str:
    """A hash of texts and arrays, the same tomorrow: it distinguishes one call's unfinished work from another's.

    Args:
        parts: texts and arrays, in order
    """
    hashed = hashlib.sha256()
    for part in parts:
        array = np.asarray(part)
        if array.dtype.hasobject:  # its bytes are addresses, others tomorrow
            raise TypeError(f"only texts and arrays of numbers have a word, got {part!r}")
        hashed.update(f"{array.dtype} {array.shape} ".encode())
        hashed.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()


def misfit(arrays: dict[str, np.ndarray], form: dict[str, str]) -> str | None:
    """What is wrong with arrays, or None.

    Args:
        arrays: by name
        form: name -> kinds of type (as `dtype.kind`) and names of dimensions, which are of one size wherever they
            occur: "f runs dim". A dimension ?x is there everywhere or nowhere, *x stands for any number of them.
            What is called status must hold a :class:`Status`, what is called steps whole numbers from 0
    """
    sizes: dict[str, Any] = {}
    for name, axes in form.items():
        kinds, *dims = axes.split()
        array, single = arrays[name], [dim for dim in dims if not dim.startswith(("?", "*"))]
        many = array.shape[: max(array.ndim - len(single), 0)]  # ?x and *x come first
        shown = array.shape[len(many) :]
        optional = [dim for dim in dims if dim not in single]
        bad = len(shown) != len(single) or (not optional and many) or (len(many) > 1 and optional[0].startswith("?"))
        for dim, size in [*zip(optional, [many] * len(optional), strict=True), *zip(single, shown, strict=False)]:
            bad = bad or sizes.setdefault(dim, size) != size
        if bad or array.dtype.kind not in kinds:
            return f"{name} is {array.dtype} of shape {array.shape}"
        if name == "status" and not np.isin(array, list(Status)).all():
            return "status holds unknown numbers"
        if name == "steps" and (array < 0).any():
            return "steps are below zero"
    return None


def damaged(path: str | Path, why: Any) -> ValueError:
    """The error for a file that can't be read as what it should be."""
    return ValueError(f"{path} is not a complete record ({why}): delete it and compute it again")


def _of_another_version(path: str | Path, kind: type[Record], different: list[str]) -> ValueError:
    """The error for a whole file whose record had other parts; it is not read in part."""
    return ValueError(
        f"{path} holds a {kind.__name__} record of another version of flatdyn (different: {', '.join(different)}): "
        "compute it again"
    )


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> Path:
    """Write named arrays and a JSON header as one .npz file, through a temporary file beside it."""
    checks.kind("path", path, (str, Path))
    checks.mapping("arrays", arrays, "name -> array")
    checks.mapping("header", header, "name -> text or number")
    write_whole(path, packed(arrays, header))
    return Path(path)


def packed(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> bytes:
    """What :func:`save_arrays` writes."""
    text = np.frombuffer(json.dumps(header, sort_keys=True, default=str).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=text, **arrays)
    return buffer.getvalue()


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote: arrays by name, header.

    Raises:
        ValueError: if the file is truncated or damaged
    """
    checks.kind("path", path, (str, Path))
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        header = json.loads(arrays.pop("header").tobytes())
        if not isinstance(header, dict):
            raise ValueError("its header is no table of names")
    except Exception as error:  # a damaged file can break the reader anywhere: zip, zlib, array header, JSON
        raise damaged(path, error) from None
    return arrays, header


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one, never a part."""
    write_together({Path(path): content})


def write_together(contents: dict[Path, bytes]) -> None:
    """Write files that belong together: all on the disk, each whole, before the first takes its place."""
    beside: list[Path] = []
    try:
        for path, content in contents.items():
            if not path.name:
                raise ValueError(f"path must name a file, got the folder {str(path)!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.append(write_beside(path, content))
        for temporary, path in zip(beside, contents, strict=True):
            os.replace(temporary, path)
    except BaseException:
        for temporary in beside:
            temporary.unlink(missing_ok=True)
        raise


def write_beside(path: Path, content: bytes) -> Path:
    """Write content under another name in the folder of `path`, down to the disk; return that name.

    The name begins with a dot and ends with .part, so that nothing takes it for a record. The file has the mode that
    the user's umask gives.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
