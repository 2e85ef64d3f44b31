"""Starting points labelled by the attractor that their runs reached: what basin maps and samples are stored as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flatdyn.basins.attractors import Attractor
from flatdyn.core import checks
from flatdyn.core.records import Record
from flatdyn.core.statistics import binomial_error

UNDECIDED, DIVERGED = -1, -2


@dataclass(frozen=True, eq=False, repr=False)
class Labels(Record):
    """Runs by the attractor they reached: what grids and samples have in common.

    Attributes:
        labels: index of the attractor or region, UNDECIDED (−1) or DIVERGED (−2)
        steps: after which a run was near its attractor to stay (a multiple of `check_every`), diverged, or stopped
        status: a :class:`Status` per run: CONVERGED where labels ≥ 0
        final: last positions, shape (..., dim)
        names: of attractors, then regions, shape (names,)
        kinds, periods, theta: of the attractors, shapes (attractors,), (attractors,), (attractors, dim)
        points: positions that stand for each, shape (attractors, most, dim), NaN where there are fewer
        spread: how far each reaches beyond `points`, shape (attractors,)
    """

    labels: np.ndarray
    steps: np.ndarray
    status: np.ndarray
    final: np.ndarray
    names: np.ndarray
    kinds: np.ndarray
    periods: np.ndarray
    theta: np.ndarray
    points: np.ndarray
    spread: np.ndarray
    _form: ClassVar = {
        "labels": "i *grid",
        "steps": "iu *grid",
        "status": "iu *grid",
        "final": "f *grid dim",
        "names": "U names",
        "kinds": "U attractors",
        "periods": "iu attractors",
        "theta": "f attractors dim",
        "points": "f attractors most dim",
        "spread": "f attractors",
    }
    _units: ClassVar = {"labels": "1", "periods": "steps", "points": "theta", "spread": "theta"}
    _units |= {"box": "theta", "axes": "1", "at": "theta"}
    _flags: ClassVar = Record._flags | {"labels": f"{UNDECIDED} undecided, {DIVERGED} diverged, others are of names"}

    @classmethod
    def misfit(cls, arrays):
        problem, labels = super().misfit(arrays), arrays["labels"]
        if problem is None and labels.size and not (labels.min() >= DIVERGED and labels.max() < len(arrays["names"])):
            return "labels are none of its attractors"
        return problem

    @property
    def attractors(self) -> list[Attractor]:
        """The attractors; regions have none."""
        rows = zip(self.names, self.theta, self.kinds, self.periods, self.points, self.spread, strict=False)
        return [
            Attractor(str(name), theta, str(kind), int(period), points[np.isfinite(points[:, 0])], float(spread))
            for name, theta, kind, period, points, spread in rows
        ]

    def counts(self) -> dict[str, int]:
        """Number of runs by name, those that diverged and the undecided at the end."""
        numbers = {name: i for i, name in enumerate(map(str, self.names))}
        numbers |= {"diverged": DIVERGED, "undecided": UNDECIDED}
        return {name: int(np.sum(self.labels == i)) for name, i in numbers.items()}

    def fractions(self) -> dict[str, float]:
        """Shares by name; they add up to 1."""
        return {name: count / self.labels.size for name, count in self.counts().items()}

    def errors(self) -> dict[str, float]:
        """Binomial error of each share (:func:`flatdyn.statistics.binomial_error`); on a grid an upper estimate."""
        return {name: float(binomial_error(count, self.labels.size)) for name, count in self.counts().items()}

    def of_kind(self, *kinds: str) -> tuple[float, float]:
        """Share of the runs that end at attractors of these kinds, and its binomial error, as in :meth:`errors`."""
        for kind in kinds:
            checks.text("kind", kind)
        count = int(np.isin(self.labels, np.flatnonzero(np.isin(self.kinds, kinds))).sum())
        return count / self.labels.size, float(binomial_error(count, self.labels.size))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, reversed(self.labels.shape)))
        shares = ", ".join(f"{100 * f:.2f} % {name}" for name, f in self.fractions().items() if f)
        return f"{type(self).__name__}({shape} in {self.dtype}: {shares})"


@dataclass(frozen=True, eq=False, repr=False)
class Basins(Labels):
    """Labels on a grid; `labels[j, i]` belongs to the i-th value of the first axis and the j-th of the second.

    Attributes:
        box: ranges of the axes that vary, shape (axes, 2)
        axes: which coordinates they are, shape (axes,)
        at: values of the other coordinates, shape (dim,)
    """

    box: np.ndarray
    axes: np.ndarray
    at: np.ndarray
    _form: ClassVar = Labels._form | {"box": "fiu axes two", "axes": "iu axes", "at": "f dim"}

    def coordinates(self) -> list[np.ndarray]:
        """The grid's values along each axis."""
        return [np.linspace(*side, n) for side, n in zip(self.box, reversed(self.labels.shape), strict=True)]


@dataclass(frozen=True, eq=False, repr=False)
class Sample(Labels):
    """Labels of random starts.

    Attributes:
        starts: shape (runs, dim)
    """

    starts: np.ndarray
    _form: ClassVar = Labels._form | {"starts": "f *grid dim"}
