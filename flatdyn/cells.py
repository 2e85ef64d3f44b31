"""The cells of a sweep: their hyperparameters, their keys, and the folder that keeps what was found in them."""

from __future__ import annotations

import inspect
import itertools
import json
import logging
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn import checks, records
from flatdyn.drivers import prepared
from flatdyn.processes import Process, digest_of

_LOG = logging.getLogger(__name__)
_TRACES = 32

Found = dict[tuple[str, str], np.ndarray]  # what an ask found, by name and part: see flatdyn.answers


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
    points = list(parameters) if isinstance(parameters, Iterable) and not isinstance(parameters, str) else []
    if not points or not all(isinstance(point, Mapping) and point for point in points):
        raise ValueError(
            'parameters must be lists by name, {"rho": [0.1, 0.2]}, or a list of points, '
            f'[{{"rho": 0.1, "lr": 0.01}}], got {parameters!r}'
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
    if not isinstance(values, Iterable):
        raise ValueError(f"values of {name} must be a list, got {values!r}")
    values = [value.item() if isinstance(value, (np.generic, np.ndarray, jax.Array)) else value for value in values]
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
    told = [f"{name}={word(value)}" for name, value in cell.items()]
    return ", ".join([*told, *([] if seed is None else [f"seed {seed}"])]) or "the only one"


def cell_key(key: jax.Array | None, cell: Mapping[str, Any], seed: int, common: bool = False) -> jax.Array | None:
    """The key of a cell: it depends on the sweep's key, the cell's own names and values, and the seed's number alone.

    Args:
        key: of the sweep, or None
        cell: hyperparameters by name; their order does not matter
        seed: number of the repetition
        common: leave the cell out, so that all cells have the same random numbers
    """
    if key is None:
        return None
    if not common:
        told = records.digest(*sorted(describe({name: value}) for name, value in cell.items()))
        for part in (told[:8], told[8:16]):
            key = jax.random.fold_in(key, np.uint32(int(part, 16)))
    return jax.random.fold_in(key, np.uint32(seed))


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
    """

    def __init__(self, folder: str | Path, ask: str):
        self.folder, self.ask, self._traced = Path(folder), ask, {}
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"store must be a folder, {folder} is a file")
        self.folder.mkdir(parents=True, exist_ok=True)

    def told(self, process: Process, key: jax.Array | None, cell: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """All that the results of a cell depend on, as the header of its file."""
        return {
            "record": "cell",
            "cell": {name: word(value) for name, value in sorted(cell.items())},
            "seed": seed,
            "key": "" if key is None else _plain(key).tobytes().hex(),
            "process": self._process(process),
            "ask": self.ask,
        }

    def _process(self, process: Process) -> str:
        """A word for what a process computes and all its numbers; processes that differ in numbers share a trace."""
        theta = jax.ShapeDtypeStruct((process.dim,), jnp.zeros(0).dtype)
        leaves, tree = jax.tree.flatten(process)
        plain = [isinstance(leaf, (bool, int, float, np.ndarray, np.generic, jax.Array)) for leaf in leaves]
        values = [_plain(leaf) for leaf, kept in zip(leaves, plain, strict=True) if kept]
        others = tuple(leaf for leaf, kept in zip(leaves, plain, strict=True) if not kept)
        same = tree, others, tuple((value.shape, str(value.dtype)) for value in values)
        try:
            traced = self._traced.get(same)
        except (TypeError, ValueError):  # something in it has no hash: traced each time
            return records.digest(_computation(process, theta), *values)
        if traced is None:
            if len(self._traced) >= _TRACES:  # landscapes made anew in every cell would pile up
                self._traced.clear()
            traced = self._traced[same] = _computation(process, theta)
        return records.digest(traced, *values)

    def path(self, told: dict[str, Any]) -> Path:
        return self.folder / f"{records.digest(json.dumps(told, sort_keys=True))[:32]}.npz"

    def read(self, told: dict[str, Any]) -> tuple[Found, dict[str, Any]] | None:
        """What was found and its provenance; None if the cell is not there. A file that is damaged is not either."""
        path = self.path(told)
        if not path.exists():
            return None
        try:
            arrays, header = records.load_arrays(path)
        except ValueError as error:
            _LOG.warning("%s; this is done now", error)
            return None
        provenance = header.pop("provenance", None)
        if header != told:
            _LOG.warning("%s holds another cell: it is computed again", path)
            return None
        return {_split(name): array for name, array in arrays.items()}, provenance

    def write(self, told: dict[str, Any], results: Found, provenance: dict[str, Any]) -> None:
        arrays = {f"{part}.{name}": array for (name, part), array in results.items()}
        records.save_arrays(self.path(told), arrays, told | {"provenance": provenance})


def _split(entry: str) -> tuple[str, str]:
    part, _, name = entry.partition(".")
    return name, part


def _computation(process: Process, theta: jax.ShapeDtypeStruct) -> str:
    """A digest of a process as JAX sees it, its numbers left open.

    The loss is part of it: two losses can have the same gradient, and so the same steps.
    """
    arrays, rest = eqx.partition(prepared(process, theta.dtype), eqx.is_array)

    def seen(arrays, theta, key):
        process = eqx.combine(arrays, rest)
        state = process.init(theta)
        loss = process.landscape.loss(theta) if hasattr(process, "landscape") else None
        return process.position(state), process.step(state, key), loss

    key = jax.eval_shape(lambda: jax.random.key(0)) if process.random else None
    return digest_of(seen, arrays, theta, key)


def _plain(value: Any) -> np.ndarray:
    is_key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(value) if is_key else value)
