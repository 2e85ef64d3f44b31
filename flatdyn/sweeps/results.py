"""What the `ask` callback may return, and how the results of all cells of a sweep become one Dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatdyn.core.statistics import mean_sem_of
from flatdyn.sweeps.grid import Plan, Results, describe

if TYPE_CHECKING:  # it brings pandas, a third of the time of `import flatdyn`, and only a sweep needs it
    import xarray as xr

PARTS = ("value", "stderr", "censored")


def as_results(answer: Any, name: str) -> Results:
    """What an ask returned, as arrays by name and part.

    Raises:
        ValueError: if it is none of the forms that :func:`flatdyn.sweep` takes
    """
    if hasattr(answer, "_fields") and not hasattr(answer, "value"):
        answer = answer._asdict()
    named = answer if isinstance(answer, Mapping) else {name: answer}
    if not named or not all(isinstance(key, str) and key for key in named):
        raise ValueError(f"the ask must give its results names that are texts, got {list(named)}")
    return {(key, part): array for key, value in named.items() for part, array in _parts(key, value).items()}


def _parts(name: str, value: Any) -> dict[str, np.ndarray]:
    if not isinstance(value, tuple):
        return {"value": _array(name, value)}
    parts = getattr(value, "_fields", PARTS[: len(value)])
    if "value" not in parts or len(parts) != len(value) or len(parts) < 2:
        raise ValueError(
            f"{name} must be a number, an array, (value, stderr) or (value, stderr, censored), got {value!r}: "
            "give several results names, in a dict"
        )
    arrays = {part: _array(name, entry) for part, entry in zip(parts, value, strict=True)}
    for part, array in arrays.items():
        if array.shape not in ((), arrays["value"].shape):
            raise ValueError(f"{name} has shape {arrays['value'].shape}, its {part} {array.shape}")
    return {part: np.broadcast_to(array, arrays["value"].shape) for part, array in arrays.items()}


def _array(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value) if value is not None else np.array(None)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{name} must hold numbers, got {value!r}: an ask returns numbers, arrays, pairs, or a dict")
    return array


Parts = dict[str, np.ndarray]  # of one result in one cell, seeds along the first axis


class _Statistic(NamedTuple):
    """A variable of the Dataset: its name, meaning, unit, function of a cell, and whether it has the seeds' axis."""

    label: str
    description: str
    unit: str
    compute: Callable[[Parts], np.ndarray]
    per_seed: bool = False


class Layout:
    """Names, dimensions and units of a Dataset, settled by the first answer and kept by all others.

    Args:
        grid: the cells
        seeds: repetitions of each
        dims: names of the dimensions of a result's array, by result
        units: by result or hyperparameter
        known: hyperparameter -> what it is, unit
    """

    def __init__(
        self,
        grid: Plan,
        seeds: int,
        dims: Mapping[str, Sequence[str]],
        units: Mapping[str, str],
        known: Mapping[str, tuple[str, str]],
    ):
        self.grid, self.seeds, self.dims, self.units, self.known = grid, seeds, dims, units, known
        self._shapes: dict[tuple[str, str], tuple[int, ...]] | None = None

    def check(self, answer: Results) -> None:
        """Whether an answer has the form of the first.

        Raises:
            ValueError: if not; or, for the first, if names, `dims` and `units` do not fit each other
        """
        shapes = {which: array.shape for which, array in answer.items()}
        if self._shapes is None:
            self._check_names(shapes)
            self._shapes = shapes
        elif shapes != self._shapes:
            raise ValueError(f"the ask gave {_described(shapes)}, and {_described(self._shapes)} in another cell")

    def _check_names(self, shapes: dict[tuple[str, str], tuple[int, ...]]) -> None:
        results = {name: shape for (name, part), shape in shapes.items() if part == "value"}
        for what, given, allowed in (
            ("dims", self.dims, results),
            ("units", self.units, {**results, **self.grid.coords}),
        ):
            if unknown := set(given) - set(allowed):
                raise ValueError(f"{what} are given for {sorted(unknown)}, which are none of {list(allowed)}")
        taken = [*self.grid.coords, "seed"]
        for name, shape in results.items():
            taken += [statistic.label for statistic in self._statistics(name, shapes)]
            if len(self._axes(name, len(shape))) != len(shape):
                raise ValueError(f"{name} has shape {shape}, its dims are {tuple(self.dims[name])}")
        if twice := {label for label in taken if taken.count(label) > 1}:
            raise ValueError(
                f"results, their errors and hyperparameters need different names, got {sorted(twice)} twice"
            )
        sizes: dict[str, int] = {}
        for name, shape in results.items():
            axes = self._axes(name, len(shape))
            for axis, size in zip(axes, shape, strict=True):
                if sizes.setdefault(axis, size) != size or axis in taken or axes.count(axis) > 1:
                    raise ValueError(f"{name} of shape {shape} does not fit the dimensions {axes}: name them with dims")

    def _axes(self, name: str, ndim: int) -> tuple[str, ...]:
        return tuple(self.dims.get(name, (f"{name}_{i}" for i in range(ndim))))

    def _statistics(self, name: str, shapes: Any) -> list[_Statistic]:
        """The variables made from a result."""
        unit, n = self.units.get(name, ""), self.seeds
        parts = [part for other, part in shapes if other == name]
        if n == 1:
            description = {"value": "", "stderr": f"standard error of {name}, as the ask gave it"}
            units = {part: "1" if part == "censored" else unit for part in parts}
            return [
                _Statistic(_label(name, p), description.get(p, f"{p} of {name}"), units[p], lambda v, p=p: v[p][0])
                for p in parts
            ]
        statistics = [
            _Statistic(name, f"mean over {n} seeds", unit, lambda v: v["value"].mean(axis=0)),
            _Statistic(f"{name}_stderr", f"standard error of {name}, from the spread of {n} seeds", unit, _spread),
        ]
        if "stderr" in parts:
            statistics.append(_Statistic(f"{name}_within", f"standard error of {name} by the ask's own", unit, _within))
        if "censored" in parts:
            description = f"censored of {name}, mean over {n} seeds"
            statistics.append(_Statistic(f"{name}_censored", description, "1", lambda v: v["censored"].mean(axis=0)))
        for label, part in ((_label(name, part), part) for part in parts if part not in ("stderr", "censored")):
            seeds = _Statistic(f"{label}_seeds", f"{label} of each seed", unit, lambda v, p=part: v[p], per_seed=True)
            statistics.append(seeds)
        return statistics

    def dataset(self, answers: Sequence[Results], attrs: dict[str, str]) -> xr.Dataset:
        """The Dataset of the answers of all cells and seeds, seeds fastest."""
        import xarray as xr

        for answer in answers:
            self.check(answer)
        variables, n = {}, self.seeds
        for name in [name for name, part in answers[0] if part == "value"]:
            parts = [part for other, part in answers[0] if other == name]
            # cell by cell: NumPy may add up in another order when the array around is of another shape
            cells = [
                {part: np.stack([answer[name, part] for answer in answers[i : i + n]]) for part in parts}
                for i in range(0, len(answers), n)
            ]
            axes = self._axes(name, answers[0][name, "value"].ndim)
            for statistic in self._statistics(name, answers[0]):
                values = np.stack([np.asarray(statistic.compute(cell)) for cell in cells])
                values = values.reshape(*self.grid.sizes.values(), *values.shape[1:])
                inner = ("seed", *axes) if statistic.per_seed else axes
                attributes = _attrs(statistic.description, statistic.unit)
                variables[statistic.label] = xr.Variable((*self.grid.sizes, *inner), values, attributes)
        return xr.Dataset(variables, self._coords(), attrs | self._not_finite(answers))

    def _coords(self) -> dict[str, xr.Variable]:
        import xarray as xr

        coords = {}
        for name, (dim, values) in self.grid.coords.items():
            description, unit = self.known.get(name, ("", ""))
            coords[name] = xr.Variable(dim, values, _attrs(description, self.units.get(name, unit)))
        if self.seeds > 1:
            coords["seed"] = xr.Variable("seed", np.arange(self.seeds), _attrs("index of the repetition", ""))
        return coords

    def _not_finite(self, answers: Sequence[Results]) -> dict[str, str]:
        """An attribute that counts the results with NaN or infinity in them, if there are any."""
        wrong = [i for i, answer in enumerate(answers) if not all(np.isfinite(a).all() for a in answer.values())]
        if not wrong:
            return {}
        first = describe(self.grid.cells[wrong[0] // self.seeds], wrong[0] % self.seeds if self.seeds > 1 else None)
        return {"not_finite": f"{len(wrong)} of {len(answers)} results, the first at {first}"}


def _label(name: str, part: str) -> str:
    return name if part == "value" else f"{name}_{part}"


def _spread(parts: Parts) -> np.ndarray:
    return mean_sem_of(parts["value"])[1]


def _within(parts: Parts) -> np.ndarray:
    return np.sqrt((parts["stderr"] ** 2).sum(axis=0)) / len(parts["stderr"])


def _attrs(description: str, unit: str) -> dict[str, str]:
    return {key: text for key, text in (("long_name", description), ("units", unit)) if text}


def _described(shapes: dict[tuple[str, str], tuple[int, ...]]) -> str:
    return ", ".join(
        f"{name if part == 'value' else f'{name} ({part})'} {shape}" for (name, part), shape in shapes.items()
    )
