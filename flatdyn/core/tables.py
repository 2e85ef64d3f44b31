"""Records as tables with names and units: Datasets of xarray, and DataFrames of pandas.

    record.to_xarray()        every array with its dimensions, its unit and what it is; from there netCDF and Zarr
    record.to_dataframe()     one row for each run, or for whatever the arrays of the record have in common

What a record is computed from goes along in the attributes `config` and `provenance`, as JSON texts.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from flatdyn.core import checks

if TYPE_CHECKING:
    import pandas
    import xarray as xr

_UNITS = {  # of what is called so in whatever record
    **dict.fromkeys(("steps", "times"), "steps"),
    **dict.fromkeys(("theta", "final", "start", "starts", "exit"), "theta"),
    "loss": "loss",
    "seconds": "s",
}


def dataset(record: Any, *, split_complex: bool = False) -> xr.Dataset:
    """See :meth:`flatdyn.records.Record.to_xarray`."""
    import xarray as xr

    checks.flag("split_complex", split_complex)
    variables, words = {}, _meanings(type(record))
    every = {name: array for name, array in record.arrays().items() if array.size or array.ndim == 1}
    dims = {name: _dims(record, name, array) for name, array in every.items()}
    for name, array in every.items():
        attributes = {"units": unit_of(type(record), name), "comment": _meaning(words, name)}
        attributes["flag_meanings"] = record._flags.get(name, "")
        attributes = {key: text for key, text in attributes.items() if text}
        for part, values in _parts(name, array, split_complex):
            variables[part] = xr.Variable(_apart(dims[name], dims), values, attributes)
    about = {name: json.dumps(getattr(record, name), default=str) for name in ("config", "provenance")}
    data = xr.Dataset(variables, attrs={"record": type(record).__name__, **about})
    return data.set_coords([name for name, variable in variables.items() if variable.dims == (name,)])


def dataframe(record: Any, over: Any = None) -> pandas.DataFrame:
    """See :meth:`flatdyn.records.Record.to_dataframe`."""
    import pandas

    data = dataset(record)
    usual = _rows(record, {name: data[name].dims for name in record.arrays() if name in data})
    over = usual if over is None else [over] if isinstance(over, str) else over
    over = [checks.text("over", dim) for dim in checks.sequence("over", over, "names of dimensions")]
    if unknown := [dim for dim in over if dim not in data.dims]:
        raise ValueError(f"over must be dimensions of the record, {', '.join(map(str, data.dims))}; got {unknown}")
    columns = {}
    for name, variable in data.variables.items():
        further = [dim for dim in variable.dims if dim not in over]
        if len(further) > 1 or len(further) + len(over) != variable.ndim or (name in data.coords and name in over):
            continue
        values = variable.transpose(*over, *further).values
        if not further:
            columns[name] = values.reshape(-1)
            continue
        labels = data[further[0]].values if further[0] in data.coords else range(values.shape[-1])
        for i, label in enumerate(labels):
            columns[f"{name}_{label}"] = values[..., i].reshape(-1)
    levels = [data[dim].values if dim in data.coords else np.arange(data.sizes[dim]) for dim in over]
    if not over:
        return pandas.DataFrame({name: np.atleast_1d(values) for name, values in columns.items()})
    index = (
        pandas.MultiIndex.from_product(levels, names=over) if len(over) > 1 else pandas.Index(levels[0], name=over[0])
    )
    return pandas.DataFrame(columns, index=index)


def unit_of(kind: type, name: str) -> str:
    """The unit of a field of a record; "1" for shares and counts, "" for words."""
    return {**_UNITS, **kind._units}.get(name, "")


def _dims(record: Any, name: str, array: np.ndarray) -> tuple[str, ...]:
    """Names of the dimensions of an array, as its form says; name_0, name_1, … for those that have none."""
    spec = record._form.get(name, "").split()[1:] or record._dims.get(name, "").split()
    single = [dim for dim in spec if dim[0] not in "?*"]
    free = array.ndim - len(single)
    first = spec[0] if spec and spec[0] not in single else None
    if first is None:
        leading: list[str] = []
    elif first[0] == "?":  # there or not there in all of the record
        leading = [first[1:]] if free > 0 and _is_many(record, first) else []
    else:
        leading = [first[1:]] if free == 1 else [f"{first[1:]}_{i}" for i in range(max(free, 0))]
    known = (leading + single)[: array.ndim]
    known = [f"other_{dim}" if dim in known[:i] else dim for i, dim in enumerate(known)]  # from one to another
    return (*known, *(f"{name}_{i}" for i in range(array.ndim - len(known))))


def _is_many(record: Any, optional: str) -> bool:
    """Whether the optional dimension is there, which the forms without others show."""
    for name, form in record._form.items():
        spec = form.split()[1:]
        if optional in spec:
            return record.arrays()[name].ndim == len(spec)
    return False


def _apart(own: tuple[str, ...], dims: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Dimensions under other names where an array that is no axis is called the same."""
    return tuple(f"{dim}_" if dim in dims and dims[dim] != (dim,) else dim for dim in own)


def _parts(name: str, array: np.ndarray, split: bool) -> Iterator[tuple[str, np.ndarray]]:
    if split and array.dtype.kind == "c":
        yield from ((f"{name}_real", array.real), (f"{name}_imag", array.imag))
    else:
        yield name, array


def _rows(record: Any, dims: dict[str, tuple[str, ...]]) -> list[str]:
    """The dimension that rows run over: the runs, or what the first array has in front; of a grid all of its axes."""
    leading = [own[0] for own in dims.values() if own]
    if record._over or "runs" in leading or not leading:
        return [record._over or "runs"] if leading else []
    name = next(name for name, own in dims.items() if own)
    starred = [dim[1:] for dim in record._form.get(name, "").split()[1:] if dim[0] == "*"]
    axes = [dim for dim in dims[name] if starred and re.fullmatch(rf"{starred[0]}(_\d+)?", dim)]
    return axes or leading[:1]


def _meaning(words: dict[str, str], name: str) -> str:
    """What a field is; of many that are called alike, such as special_…, what all of them are."""
    alike = [text for one, text in words.items() if one.endswith("…") and name.startswith(one[:-1])]
    return words.get(name) or next(iter(alike), "")


def _meanings(kind: type) -> dict[str, str]:
    """What each field is, as the docstrings of a record and of those it is made from say under Attributes."""
    words: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        text = inspect.cleandoc(one.__doc__ or "")
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", text, re.M)
        for entry in re.findall(
            r"^    (\w[\w, …]*): ((?:.*)(?:\n {5,}.*)*)", section.group(1) if section else "", re.M
        ):
            for name in re.split(r", (?=\w)", entry[0]):
                words[name] = re.sub(r"\s+", " ", entry[1])
    return words
