"""The quasi-potential: what the cheapest noise costs that leads from one point to each point of a box.

Each point of a grid has its own path, found from those of its neighbours: first outwards from the start, then wherever
a neighbour's path, with its slope, promises a lower cost. So fronts at which the cheapest path changes lie where they
should, and no interpolation enters: the values are as exact as :func:`flatdyn.escape.least_noise`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, records, segments
from flatdyn.core.records import Record
from flatdyn.escape import shooting, together
from flatdyn.escape.shooting import Shooting
from flatdyn.escape.steering import steered
from flatdyn.escape.targets import Goal
from flatdyn.processes import Process

_FIRST = 32  # steps to begin with
_ROUNDS = 40  # of neighbours asking each other
_LOWER = 1e-6  # by how much of the largest value a neighbour must promise less
_BENT = 0.1  # of the difference of two slopes, by which their mean may be wrong
_LANES = 1024  # paths at once
_TRIES = 3  # neighbours that a point is reached from before it is given up


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class QuasiPotential(Record):
    """The cost of reaching each point of a grid; see :func:`quasipotential`.

    Attributes:
        axes: coordinates of the grid, shape (dim, resolution)
        values: V at batch size 1, at the j-th y and the i-th x, shape (resolution, resolution), or (resolution,) on a
            line; NaN where a point was not reached
        slope: ∇V, shape (…, dim)
        start: where paths begin, shape (dim,)
        steps: how many steps they have, shape ()
        change: the largest change of V when this number was doubled last, as a share of the largest V; NaN if it was
            given
    """

    axes: np.ndarray
    values: np.ndarray
    slope: np.ndarray
    start: np.ndarray
    steps: np.ndarray
    change: np.ndarray
    _form: ClassVar = {
        "axes": "f dim resolution",
        "values": "f *grid",
        "slope": "f *grid dim",
        "start": "f dim",
        "steps": "iu",
        "change": "f",
    }
    _units: ClassVar = {
        "axes": "theta",
        "values": "1",
        "slope": "1/theta",
        "start": "theta",
        "steps": "steps",
        "change": "1",
    }

    def __repr__(self) -> str:
        reached = np.isfinite(self.values)
        most = np.max(self.values, where=reached, initial=0.0)
        return f"QuasiPotential({reached.sum()} of {reached.size} points, up to {most:.4g}; {self.dtype})"


def quasipotential(
    process: Process,
    box: Any,
    start: Any,
    *,
    resolution: int = 21,
    steps: int | None = None,
    max_steps: int = 1024,
    rtol: float = 1e-6,
    progress: bool | None = None,
) -> QuasiPotential:
    """The cost of the cheapest noise from one point to each point of a grid, on a line or in the plane.

        V(x) = min Σ ‖z_k‖²/2   over n and z₁, …, z_n with θ_n = x

    per unit of the batch size, as for :func:`flatdyn.escape.least_noise`. Near an attractor the long-run law of the
    process is like exp(−B V), and where V is the same on two ways out of it both are taken equally often.

    Args:
        process: as for :func:`flatdyn.escape.least_noise`, of one or two coordinates; of steps that jump, in the plane
        box: ((lower, upper), ...), one pair per coordinate
        start: the point, shape (dim,): a stable fixed point, as a rule
        resolution: grid points per side
        steps: n; if not given it is doubled from 32 on until nothing changes
        max_steps: up to which steps are doubled
        rtol: change of V, as a share of its largest value, at which nothing changes any more
        progress: show a bar; if not given, after two seconds
    Returns:
        QuasiPotential
    Raises:
        ValueError: if arguments are out of range, or no point is reached
        TypeError: if the process is not driven by normal numbers, has more coordinates, or jumps on a line, where
            least_noise knows the answer point by point
    """
    checks.kind("process", process, Process)
    dim = process.dim
    if dim > 2:
        raise TypeError(f"this draws a line or a plane, got {dim} coordinates: ask least_noise for single points")
    sides = checks.box(box, dim)
    resolution = checks.count("resolution", resolution, at_least=2, at_most=1000)
    max_steps = checks.count("max_steps", max_steps, at_least=1, at_most=2**16)
    rtol = checks.number("rtol", rtol, above=0, below=1, one=True)
    if steps is not None:
        steps = checks.count("steps", steps, at_least=1, at_most=2**16)
    config = {"process": records.described(process), "box": repr(sides)}
    with jax.enable_x64(True):
        theta = jnp.asarray(np.asarray(checks.point("start", start, dim), float))
        whole = steered(process, theta)
        if whole.way != "plain" and dim == 1:
            raise TypeError(
                "on a line the signs of ascents that jump are not found from neighbours: ask least_noise for single "
                f"points, or give the method eps > 0; got {process!r}"
            )
        needed = 8 * resolution**dim * shooting.capacity(steps or max_steps) * whole.size * (2 if dim == 2 else 1)
        memory.check_memory(needed, "the paths", "ask for a lower `resolution`, or fewer `max_steps`")
        problem = Shooting(whole, jax.tree.map(jnp.asarray, whole.process.init(theta)), Goal(theta, "point"), 1.0)
        field = _Field(problem, np.asarray(theta), sides, resolution)
        with segments.progress_bar(0, "points", progress) as bar:
            change = field.grown(steps, max_steps, rtol, bar)
    shape = (resolution,) * dim
    return QuasiPotential(
        config=config,
        provenance=records.provenance(),
        axes=np.stack(field.axes),
        values=field.values.reshape(shape),
        slope=field.slope.reshape(*shape, dim),
        start=np.asarray(theta),
        steps=np.asarray(field.controls.shape[1]),
        change=np.asarray(change),
    )


class _Field:
    """Paths to all points of a grid, in row order: the last axis is x."""

    def __init__(self, problem: Shooting, start: np.ndarray, sides: Any, resolution: int):
        self.problem, self.start, self.shape = problem, start, (resolution,) * len(sides)
        self.axes = [np.linspace(low, high, resolution) for low, high in sides]
        grid = np.meshgrid(*self.axes[::-1], indexing="ij")[::-1]
        self.points = np.stack([part.ravel() for part in grid], axis=1)
        self.unit = float(np.max([high - low for low, high in sides]))
        self.values = np.full(len(self.points), np.inf)
        self.slope = np.zeros_like(self.points)
        self.controls = np.zeros((len(self.points), 0, problem.steered.size))
        self.rng = np.random.default_rng(0)

    def grown(self, steps: int | None, most: int, rtol: float, bar: Any) -> float:
        """Paths of the number of steps that is enough; how much the last doubling changed."""
        number = steps or min(_FIRST, most)
        self.controls = np.tile(self.quiet(number), (len(self.points), 1, 1))
        self.outwards(bar)
        if not np.isfinite(self.values).any():
            raise ValueError(
                f"no point of the box was reached in {number} steps: the noise does not lead there, or it takes more"
            )
        self.exchanged(bar)
        change = np.nan
        while steps is None and 2 * number <= most:
            number *= 2
            before = self.values.copy()
            early = np.tile(self.quiet(number - self.controls.shape[1]), (len(self.points), 1, 1))
            self.controls = np.concatenate([early, self.controls], axis=1)
            self.improve(np.flatnonzero(np.isfinite(before)), self.controls, -self.slope, bar)
            self.exchanged(bar)
            reached = np.isfinite(self.values) & np.isfinite(before)
            change = float(np.max((before - self.values)[reached]) / np.max(self.values[reached]))
            if change <= rtol:
                break
        self.values = np.where(np.isfinite(self.values), self.values, np.nan)
        self.slope[np.isnan(self.values)] = np.nan
        return change

    def quiet(self, number: int) -> np.ndarray:
        """Controls of hardly any noise."""
        draws = self.problem.steered.process.draws
        return shooting.controls_of(self.problem, 1e-4 * self.rng.normal(size=(number, draws)))

    def improve(self, which: np.ndarray, controls: np.ndarray, first: np.ndarray, bar: Any) -> np.ndarray:
        """Search from these controls at these points; which of them are cheaper now."""
        better = np.zeros(len(which), bool)
        for i in range(0, len(which), _LANES):
            part = which[i : i + _LANES]
            lanes = together.solved(self.problem, self.points[part], controls[part], self.unit, first[part])
            lower = lanes.costs < self.values[part]
            self.values[part[lower]], self.controls[part[lower]] = lanes.costs[lower], lanes.controls[lower]
            self.slope[part[lower]] = -lanes.multipliers[lower]
            better[i : i + _LANES] = lower
            bar.update(len(part))
        return better

    def outwards(self, bar: Any) -> None:
        """Reach all points, the nearest first and each from a neighbour that is reached."""
        near = np.linalg.norm((self.points - self.start) / self.unit, axis=1)
        cell = 1.5 / (self.shape[0] - 1)
        first = np.flatnonzero(near <= max(cell, near.min()))
        self.improve(first, self.controls, self.slope, bar)
        tries = np.zeros(len(self.points), int)
        while True:
            promised, source = self.promises()
            fresh = ~np.isfinite(self.values) & np.isfinite(promised) & (tries < _TRIES)
            if not fresh.any():
                return
            which = np.flatnonzero(fresh)
            tries[which] += 1
            self.improve(which, self.controls[source], -self.slope[source], bar)

    def exchanged(self, bar: Any) -> None:
        """Paths of neighbours, wherever one promises a lower cost than the slopes at both ends explain."""
        asked: set[tuple[int, float]] = set()
        for _ in range(_ROUNDS):
            lower, source = self.lower()
            which = [i for i in np.flatnonzero(lower) if (i, self.values[source[i]]) not in asked]
            if not which:
                return
            asked |= {(i, self.values[source[i]]) for i in which}
            self.improve(np.array(which), self.controls[source], -self.slope[source], bar)

    def pairs(self) -> Any:
        """Each point with each of its neighbours, a direction at a time: indices, and the way from one to the other."""
        index = np.arange(len(self.values)).reshape(self.shape)
        for shift in np.ndindex(*(3,) * len(self.shape)):
            if any(s != 1 for s in shift):
                here = tuple(
                    slice(max(0, s - 1), size + min(0, s - 1)) for s, size in zip(shift, self.shape, strict=True)
                )
                there = tuple(
                    slice(max(0, 1 - s), size + min(0, 1 - s)) for s, size in zip(shift, self.shape, strict=True)
                )
                at, of = index[here].ravel(), index[there].ravel()
                yield at, of, self.points[at] - self.points[of]

    def lower(self) -> tuple[np.ndarray, np.ndarray]:
        """Which points cost more than a neighbour with the mean slope of both suggests, and which neighbour."""
        most, source = np.zeros(len(self.values)), np.arange(len(self.values))
        tiny = _LOWER * np.max(self.values, where=np.isfinite(self.values), initial=0.0)
        for at, of, way in self.pairs():
            ends = [np.sum(self.slope[i] * way, axis=1) for i in (at, of)]
            with np.errstate(invalid="ignore"):
                beyond = self.values[at] - self.values[of] - (ends[0] + ends[1]) / 2
            beyond = beyond - _BENT * np.abs(ends[0] - ends[1]) - tiny
            better = beyond > most[at]
            most[at[better]], source[at[better]] = beyond[better], of[better]
        return most > 0, source

    def promises(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest cost that a neighbour's value and slope promise for each point, and which one it is."""
        promised, source = np.full(len(self.values), np.inf), np.arange(len(self.values))
        for at, of, way in self.pairs():
            ahead = self.values[of] + np.sum(self.slope[of] * way, axis=1)
            lower = ahead < promised[at]
            promised[at[lower]], source[at[lower]] = ahead[lower], of[lower]
        return promised, source
