"""Which attractor is reached next, and from where: committors.

    q_j(x) = P(θ_T ∈ A_j | θ₀ = x),    T = min {k ≥ 0 : θ_k ∈ A_1 ∪ … ∪ A_n},    A_j the core of attractor j

By the transfer operator on the line and in the plane, by runs anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, precision, records
from flatdyn.core.records import Record
from flatdyn.core.statistics import binomial_error
from flatdyn.escape import operated
from flatdyn.escape.cores import NOWHERE, Cores, cores_of, index_of, refuse_overlap, region_of
from flatdyn.processes import Process
from flatdyn.runs import queues, stepping
from flatdyn.runs.queues import GOING, StepJob
from flatdyn.runs.stepping import Carry

METHODS = ("operator", "runs")
_RUN_BYTES = 64  # of a run's state, number and outcome


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Committor(Record):
    """Which attractor is reached next from some points; see :func:`committor`.

    For each point probability sums to 1 with lost and undecided.

    Attributes:
        names: of the attractors, shape (attractors,)
        points: where the runs begin, shape (..., dim)
        probability: of reaching each attractor first, shape (..., attractors)
        error: its standard error by runs; by the operator an estimate of its error, shape (..., attractors)
        lost: probability of leaving `inside`, or the finite numbers, before, shape (...)
        undecided: share of runs that were still under way after max_steps, shape (...)
    """

    names: np.ndarray
    points: np.ndarray
    probability: np.ndarray
    error: np.ndarray
    lost: np.ndarray
    undecided: np.ndarray
    _form: ClassVar = {
        "names": "U attractors",
        "points": "f *places dim",
        "probability": "f *places attractors",
        "error": "f *places attractors",
        "lost": "f *places",
        "undecided": "f *places",
    }
    _units: ClassVar = {"points": "theta"} | dict.fromkeys(("probability", "error", "lost", "undecided"), "1")

    def of(self, name: str | int) -> np.ndarray:
        """The probability of one attractor, by its name or number, shape (...)."""
        return self.probability[..., index_of(self.names, "name", name)]

    def __repr__(self) -> str:
        places = " x ".join(map(str, self.lost.shape)) or "1"
        worst = f", errors up to {self.error.max():.1g}" if self.error.size else ""
        return f"Committor({places} points, {', '.join(map(str, self.names))}{worst}; {self.dtype})"


def committor(
    process: Process,
    attractors: Any,
    points: Any = None,
    *,
    method: str | None = None,
    radius: float | None = None,
    inside: Any = None,
    box: Any = None,
    resolution: int = 41,
    runs: int = 1000,
    max_steps: int = 100_000,
    key: jax.Array | None = None,
    panels: int | None = None,
    progress: bool | None = None,
) -> Committor:
    """The probability of each attractor to be the next that is reached.

        q_j(x) = P(θ_T ∈ A_j | θ₀ = x, at rest),    T = min {k ≥ 0 : θ_k ∈ A_1 ∪ … ∪ A_n}

    Args:
        process: what moves
        attractors: a list or a dict by name: regions (Ball, Box, …, Region, in a dict any function θ -> bool), which
            are cores themselves; positions, critical points, cycles, or what `map_basins` returned, which have cores
            of `radius`. Cores must not overlap
        points: where the runs begin, shape (..., dim)
        method: "operator" (one or two coordinates, normal numbers: no sampling), "runs" (anything); if not given, the
            operator where that is one coordinate with `inside`, else runs
        radius: of the cores of what is a position
        inside: a region that is not to be left, outside of which a run is lost; for the operator on the line an
            interval (a, b), in the plane a Box. All of space if not given, for runs
        box, resolution: in place of points a grid, shape (resolution, resolution, 2) in the plane
        runs, max_steps, key: for runs: how many from each point, for how long at most, and a JAX key
        panels: for the operator, how finely it is cut; the error is from half as many on the line, from a second order
            in the plane
        progress: show a bar; if not given, after two seconds
    Returns:
        Committor
    Raises:
        ValueError: if attractors overlap or points do not fit
        TypeError: if the operator does not know the process
    """
    checks.kind("process", process, Process)
    cores = cores_of(attractors, process.dim, radius)
    points = _places(process, points, box, resolution)
    method = checks.choice("method", method, (*METHODS, None))
    if method is None:
        method = operated.usual(process, inside)
    config = {"process": records.described(process), "attractors": ", ".join(cores.names), "method": method}
    if method == "operator":
        if inside is None:
            raise ValueError(
                "inside must be given: the region that the operator covers, outside of which a run is lost"
            )
        answer = operated.committor(process, cores, points.reshape(-1, process.dim), inside, panels)
    else:
        answer = _by_runs(process, cores, points.reshape(-1, process.dim), inside, runs, max_steps, key, progress)
        config |= {"runs": str(runs), "max_steps": str(max_steps)}
    probability, error, lost, undecided = answer
    shape = points.shape[:-1]
    return Committor(
        config=config,
        provenance=records.provenance(),
        names=np.array(cores.names),
        points=np.asarray(points),
        probability=probability.reshape(*shape, -1),
        error=error.reshape(*shape, -1),
        lost=lost.reshape(shape),
        undecided=undecided.reshape(shape),
    )


def _places(process: Process, points: Any, box: Any, resolution: int) -> np.ndarray:
    if (points is None) == (box is None):
        raise ValueError("give either points, shape (..., dim), or a box to be covered by a grid of them")
    if points is not None:
        return np.asarray(checks.coordinates("points", points, process.dim, finite=True))
    sides, resolution = checks.box(box, process.dim), checks.count("resolution", resolution, at_least=2)
    if process.dim > 2:
        raise ValueError(f"box is covered in one or two coordinates, got {process.dim}: give points")
    axes = [np.linspace(*side, resolution) for side in sides]
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    return grid.astype(precision.floating())


# --- by runs --------------------------------------------------------------------------------------------------


def _by_runs(process, cores, points, inside, runs, max_steps, key, progress) -> tuple:
    runs = checks.count("runs", runs, at_least=1)
    max_steps = stepping.check_steps("max_steps", max_steps, at_least=1)
    needed = memory.array_bytes(2, len(points), runs, process.dim) + len(points) * runs * _RUN_BYTES
    memory.check_memory(needed, "the runs", "ask for fewer `runs` or points")
    starts = np.repeat(points, runs if process.random else 1, axis=0)
    each = len(starts) // max(len(points), 1)
    if not len(starts):
        none = np.zeros((0, len(cores)))
        return none, none, np.zeros(0), np.zeros(0)
    limits = precision.on_device(np.int32(max_steps))
    task = Arriving(*stepping.prepared((cores, region_of(inside, process.dim)), starts.dtype), limits)
    ends = queues.run(process, starts, task, key=key, progress=progress)
    refuse_overlap(cores, ends.place[ends.ended == OVERLAP])
    ended = ends.ended.reshape(len(points), each)
    counts = np.stack([(ended == j).sum(axis=1) for j in range(len(cores))], axis=1)
    probability = counts / each
    return probability, binomial_error(counts, each), (ended == LOST).mean(axis=1), (ended == UNDECIDED).mean(axis=1)


class Ends(NamedTuple):
    """How runs ended: the number of an attractor, or LOST, UNDECIDED, OVERLAP; after how many steps, and where."""

    ended: np.ndarray
    steps: np.ndarray
    place: np.ndarray


LOST, UNDECIDED, OVERLAP = -2, -3, -4


class _Lane(NamedTuple):
    carry: Carry
    ended: jax.Array


class Arriving(StepJob):
    """Runs until they are in a core."""

    cores: Cores
    inside: Callable | None
    max_steps: jax.Array

    def begin(self, process, starts):
        carry = stepping.at_rest(process, starts)
        ended = jax.vmap(self._where)(jax.vmap(process.position)(carry.state))
        return _Lane(carry._replace(alive=ended == GOING), ended)

    def step(self, process, lane, seed, number):
        after = stepping.guarded_step(process, lane.carry, seed, number, lane.carry.taken, jnp.inf)
        ended = self._where(process.position(after.state))
        ended = jnp.where((ended == GOING) & (after.taken >= self.max_steps), UNDECIDED, ended)
        ended = jnp.where(after.alive, ended, LOST)
        ended = jnp.where(lane.carry.alive, ended, lane.ended).astype(jnp.int32)
        return _Lane(after._replace(alive=ended == GOING), ended)

    def _where(self, theta):
        """The core in which θ is, or what else ends a run there."""
        label = self.cores(theta)
        out = jnp.asarray(False) if self.inside is None else ~self.inside(theta)
        nowhere = jnp.where(out, LOST, GOING)
        return jnp.where(label == NOWHERE, nowhere, jnp.where(label < 0, OVERLAP, label)).astype(jnp.int32)

    def blank(self, starts):
        return Ends(np.zeros(len(starts), np.int32), np.zeros(len(starts), np.int64), np.array(starts))

    def outcome(self, process, lanes):
        return lanes.ended, lanes.carry.taken, jax.vmap(process.position)(lanes.carry.state)

    def results(self, outcome):
        ended, taken, place = outcome
        return Ends(ended, taken.astype(np.int64), place)
