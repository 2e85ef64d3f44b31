"""The cells of a sweep: their hyperparameters, their keys, and the folder that keeps their results."""

from __future__ import annotations

import inspect
import itertools
import json
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flatdyn.core import checks, randomness, records, stores
from flatdyn.core.hashing import of_array
from flatdyn.processes import Process
from flatdyn.runs import fingerprints

Results = dict[tuple[str, str], np.ndarray]  # of a cell, by name and part: see flatdyn.sweeps.results


class Plan(NamedTuple):
    """Which cells there are and how they are laid out.

    Attributes:
        cells: hyperparameters of each cell by name, in order
        coords: name -> (dimension, values)
        sizes: dimension -> length; the product is the number of cells
    """

    cells: list[dict[str, Any]]
    coords: dict[str, tuple[str, np.ndarray]]
    sizes: dict[str, int]


def plan(parameters: Mapping[str, Iterable] | Sequence[Mapping[str, Any]]) -> Plan:
    """The full product of lists of values, or the points of a list.

    Raises:
        ValueError: if a list is empty, a value occurs twice, is not finite, or is neither number, text nor bool
    """
    if isinstance(parameters, Mapping):
        lists = {name: _values(name, values) for name, values in parameters.items()}
        for name, values in lists.items():
            _check_different(f"values of {name}", [word(value) for value in values])
        cells = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
        coords = {name: (name, np.array(values)) for name, values in lists.items()}
        return Plan(cells, coords, {name: len(values) for name, values in lists.items()})
    points = checks.listed(parameters)
    if not points or not all(isinstance(point, Mapping) and point for point in points):
        raise ValueError(
            'parameters must be lists by name, {"rho": [0.1, 0.2]}, or a list of points, '
            f'[{{"rho": 0.1, "lr": 0.01}}], got {checks.shown(parameters)}'
        )
    names = list(points[0])
    for number, point in enumerate(points):
        if set(point) != set(names):
            raise ValueError(f"all points need the same names: point {number} has {list(point)}, point 0 has {names}")
    lists = {name: _values(name, [point[name] for point in points]) for name in names}
    cells = [dict(zip(names, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    _check_different("points", [describe(cell) for cell in cells])
    coords = {"point": ("point", np.arange(len(cells)))}
    coords |= {name: ("point", np.array(values)) for name, values in lists.items()}
    return Plan(cells, coords, {"point": len(cells)})


def _values(name: Any, values: Any) -> list:
    """Plain Python values, all of one kind."""
    if not isinstance(name, str) or not name.isidentifier() or name in ("seed", "point"):
        raise ValueError(f"hyperparameters need names that make_process takes, other than seed and point, got {name!r}")
    if isinstance(values, (str, numbers.Number)):
        values = [values]
    if isinstance(values, (np.ndarray, np.generic, jax.Array)):
        if values.ndim > 1:
            raise ValueError(f"values of {name} must be one list, got an array of shape {values.shape}")
        values = np.atleast_1d(values).tolist()
    several = checks.listed(values)
    if several is None:
        raise ValueError(f"values of {name} must be a list, got {checks.shown(values)}")
    values = [value.item() if isinstance(value, (np.generic, np.ndarray, jax.Array)) else value for value in several]
    if not values:
        raise ValueError(f"values of {name} must hold at least one value")
    if all(isinstance(value, (bool, str)) for value in values) and len({type(value) for value in values}) == 1:
        return values
    if not all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values):
        raise ValueError(
            f"values of {name} must be numbers, or texts, or True and False, got {values!r}: for anything else give "
            "names, and let make_process look them up"
        )
    checks.number(f"values of {name}", values)
    whole = all(isinstance(value, numbers.Integral) for value in values)
    return [int(value) if whole else float(value) for value in values]


def _check_different(what: str, words: list[str]) -> None:
    seen = set()
    for one in words:
        if one in seen:
            raise ValueError(f"{what} must be different, got {one} twice")
        seen.add(one)


def word(value: Any) -> str:
    """A value as exact text; 1 and 1.0 are the same value."""
    if isinstance(value, (bool, str)):
        return repr(value)
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def describe(cell: Mapping[str, Any], seed: int | None = None) -> str:
    """A cell as it is called in messages: rho=0.1, momentum=0.9, seed 3."""
    parts = [f"{name}={word(value)}" for name, value in cell.items()]
    return ", ".join([*parts, *([] if seed is None else [f"seed {seed}"])]) or "the only one"


def cell_keys(key: jax.Array | None, cell: Mapping[str, Any], seeds: int, common: bool = False) -> list:
    """The keys of a cell: they depend on the sweep's key, the cell's own names and values, and the seed alone.

    Args:
        key: of the sweep, or None
        cell: hyperparameters by name; their order does not matter
        seeds: how many repetitions
        common: leave the cell out, so that all cells have the same random numbers
    """
    if key is None:
        return [None] * seeds
    if not common:
        hashed = records.digest(*sorted(describe({name: value}) for name, value in cell.items()))
        for part in (hashed[:8], hashed[8:16]):
            key = jax.random.fold_in(key, np.uint32(int(part, 16)))
    return [jax.random.fold_in(key, np.uint32(seed)) for seed in range(seeds)]


def check_signature(make_process: Callable, names: Iterable[str]) -> None:
    """Whether `make_process` takes these names.

    Raises:
        ValueError: if not, saying which
    """
    try:
        signature = inspect.signature(make_process)
    except (TypeError, ValueError):  # some built-in callables have none
        return
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        raise ValueError(f"make_process{signature} does not fit the hyperparameters {list(names)}: {error}") from None


# --- the folder -----------------------------------------------------------------------------------------------


class Store:
    """A folder with one file for each finished cell and seed, written whole at once and named by what it depends on.

    Args:
        folder: where; made if it is not there
        ask: the word that identifies the question
        version: a text that stands for what can't be seen of a process
    """

    def __init__(self, folder: str | Path, ask: str, version: str | None = None):
        self.folder, self.ask, self._traces = stores.Folder(folder, "cell"), ask, fingerprints.Traces(version)
        self._refused: dict[str, int] = {}  # files that are no cell's, and when they were written

    def word(self, process: Process) -> str:
        """A hash of all that the ask may read in a process."""
        return self._traces.all_of(process)

    def header(self, process: str, key: jax.Array | None, cell: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """All that the results of a cell depend on, as the header of its file; the process by its word."""
        return {
            "record": "cell",
            "cell": {name: word(value) for name, value in sorted(cell.items())},
            "seed": seed,
            "key": "" if key is None else of_array(key),
            "process": process,
            "ask": self.ask,
            "normals": randomness.NORMALS,  # the ask may draw, too
        }

    def read(self, header: dict[str, Any]) -> tuple[Results, dict[str, Any], float | None] | None:
        """The results of a cell, their provenance, and the seconds they took, if known.

        None if the cell is not there, or its file is damaged, which is said once.
        """
        name = name_of(header)
        written = _written(self.folder.file(name))
        if written is not None and written == self._refused.get(name):
            return None
        before = self.folder.read(name, header)
        if before is not None:
            arrays, others = before
            results = {_split(entry): array for entry, array in arrays.items()}
            problem = _misfit(results, others)
            if problem is None:
                return results, others["provenance"], others.get("seconds")
            self.folder.refuse(records.damaged(self.folder.file(name), problem))
        if written is not None:
            self._refused[name] = written
        return None

    def prepare(self) -> None:
        """Raise OSError if nothing can be kept; call it before a cell is asked."""
        self.folder.prepare()

    def write(self, header: dict[str, Any], results: Results, provenance: dict[str, Any], seconds: float) -> None:
        """Keep a cell; a failure is a warning, and the cell is tried again with the next."""
        self.folder.write(name_of(header), *_content(header, results, provenance, seconds))

    def write_once(self, header: dict[str, Any], results: Results, provenance: dict[str, Any], seconds: float) -> bool:
        """Keep a cell if that is possible here."""
        try:
            packed = records.packed(*_content(header, results, provenance, seconds))
            records.write_whole(self.folder.file(name_of(header)), packed)
        except OSError:
            return False
        return True

    def there(self, header: dict[str, Any]) -> bool:
        """Whether the cell has a file."""
        return self.folder.file(name_of(header)).exists()

    def finish(self) -> None:
        """Say so if not all is in the folder."""
        self.folder.finish()


def name_of(header: dict[str, Any]) -> str:
    """The name of the file of the cell that a header describes."""
    return records.digest(json.dumps(header, sort_keys=True))[:32]


def _content(header: dict[str, Any], results: Results, provenance: dict[str, Any], seconds: float) -> tuple:
    arrays = {f"{part}.{name}": array for (name, part), array in results.items()}
    return arrays, header | {"provenance": provenance, "seconds": seconds}


def _written(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _split(entry: str) -> tuple[str, str]:
    part, _, name = entry.partition(".")
    return name, part


def _misfit(results: Results, others: dict[str, Any]) -> str | None:
    """What is wrong with the results in a file, or None."""
    if not isinstance(others.get("provenance"), dict) or not results:
        return "its provenance or its results are missing"
    for (name, part), array in results.items():
        whole = results.get((name, "value"))
        if not name or whole is None or array.shape != whole.shape or array.dtype.kind not in "biufc":
            return f"{part} of {name!r} is {array.dtype} of shape {array.shape}"
    return None
