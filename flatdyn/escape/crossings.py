"""The ways that runs take from one attractor to another: sampled paths, and the current that they make.

A reactive path begins with the last position in the core of its source and ends with the first one in the core of its
target. Most of a run is no part of one. So the runs keep only their state at the last visit of the source; when they
have arrived, the path from there is run once more, with the same random numbers.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, precision, records
from flatdyn.core.records import Record
from flatdyn.escape.cores import SEVERAL, Cores, cores_of, refuse_overlap, region_of
from flatdyn.processes import Process
from flatdyn.runs import queues, stepping
from flatdyn.runs.queues import GOING, StepJob
from flatdyn.runs.stepping import Carry

ARRIVED, UNDECIDED, LOST, OVERLAP = range(4)
_TOGETHER = 1 << 22  # positions of paths that are run again in one program
_BETWEEN = 8  # points of a step between which its displacement is shared


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ReactivePaths(Record):
    """Sampled ways from one attractor to another; see :func:`reactive_paths`.

    Attributes:
        theta: positions of all paths, one after the other, shape (positions, dim)
        first: where each begins in theta, and the number of positions, shape (paths + 1,)
        waited: steps of the run before its path began, shape (paths,)
        undecided: runs that had not arrived after max_steps, shape ()
        lost: runs that left `inside` or the finite numbers before, shape ()
    """

    theta: np.ndarray
    first: np.ndarray
    waited: np.ndarray
    undecided: np.ndarray
    lost: np.ndarray
    _form: ClassVar = {
        "theta": "f positions dim",
        "first": "iu ends",
        "waited": "iu paths",
        "undecided": "iu",
        "lost": "iu",
    }
    _units: ClassVar = {"waited": "steps"} | dict.fromkeys(("first", "undecided", "lost"), "1")

    def __len__(self) -> int:
        return len(self.waited)

    def path(self, number: int) -> np.ndarray:
        """The positions of one path, shape (steps + 1, dim)."""
        number = checks.count("number", number, at_most=len(self) - 1)
        return self.theta[self.first[number] : self.first[number + 1]]

    @property
    def durations(self) -> np.ndarray:
        """Steps from the source to the target, shape (paths,)."""
        return np.diff(self.first) - 1

    def current(self, box: Any, cells: int = 20) -> Current:
        """Where the paths pass a box in the plane, and in which direction.

        Args:
            box: ((x lower, x upper), (y lower, y upper))
            cells: per side
        Raises:
            ValueError: if the paths are not in the plane, or there is none
        """
        if self.theta.shape[1] != 2:
            raise ValueError(f"a current is one of paths in the plane, these have {self.theta.shape[1]} coordinates")
        if not len(self):
            raise ValueError("a current needs at least one path, and no run has arrived: allow more max_steps")
        sides, cells = np.array(checks.box(box, 2)), checks.count("cells", cells, at_least=1, at_most=2000)
        within = np.ones(len(self.theta) - 1, bool)
        within[self.first[1:-1] - 1] = False  # from the end of one path to the begin of the next is no step
        owner = np.repeat(np.arange(len(self)), np.diff(self.first))[:-1][within]
        begin, move = self.theta[:-1][within], np.diff(self.theta, axis=0)[within]
        shape, area = (len(self), cells, cells), np.diff(sides, axis=1).prod() / cells**2
        memory.check_memory(memory.array_bytes(4, *shape), "the current", "take fewer `cells` or paths")
        flow, time = np.zeros((*shape, 2)), np.zeros(shape)
        for share in (np.arange(_BETWEEN) + 0.5) / _BETWEEN:
            x, y = np.floor((begin + share * move - sides[:, 0]) / np.diff(sides, axis=1)[:, 0] * cells).astype(int).T
            here = (x >= 0) & (x < cells) & (y >= 0) & (y < cells)
            where = owner[here], y[here], x[here]
            np.add.at(flow, where, move[here] / (_BETWEEN * area))
            np.add.at(time, where, 1 / (_BETWEEN * area))
        error = flow.std(axis=0, ddof=1) / np.sqrt(len(self)) if len(self) > 1 else np.full(flow.shape[1:], np.inf)
        return Current(
            config=self.config,
            provenance=records.provenance(),
            box=sides,
            flow=flow.mean(axis=0),
            error=error,
            time=time.mean(axis=0),
        )

    def __repr__(self) -> str:
        rest = {"undecided": int(self.undecided), "lost": int(self.lost)}
        more = "".join(f", {count} {name}" for name, count in rest.items() if count)
        return f"ReactivePaths({len(self)} paths{more}; {self.dtype})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Current(Record):
    """The reactive current in the plane, for one passage: through each line that parts the two attractors flows 1.

    Attributes:
        box: ((x lower, x upper), (y lower, y upper))
        flow: J, displacement per area, at the j-th y and the i-th x, shape (ny, nx, 2)
        error: its standard error from the paths, shape (ny, nx, 2)
        time: steps that a path spends there, per area, shape (ny, nx)
    """

    box: np.ndarray
    flow: np.ndarray
    error: np.ndarray
    time: np.ndarray
    _form: ClassVar = {"box": "f sides ends", "flow": "f ny nx dim", "error": "f ny nx dim", "time": "f ny nx"}
    _units: ClassVar = {"box": "theta", "flow": "1/theta", "error": "1/theta", "time": "steps/theta^2"}

    @property
    def centers(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates x and y of the middles of the cells."""
        (ny, nx), ((left, right), (low, high)) = self.time.shape, self.box
        return left + (np.arange(nx) + 0.5) * (right - left) / nx, low + (np.arange(ny) + 0.5) * (high - low) / ny


def reactive_paths(
    process: Process,
    attractors: Any,
    source: Any,
    target: Any,
    *,
    radius: float | None = None,
    inside: Any = None,
    start: Any = None,
    runs: int = 100,
    max_steps: int = 100_000,
    key: jax.Array | None = None,
    progress: bool | None = None,
) -> ReactivePaths:
    """Sampled paths from the last visit of one attractor to the first visit of another.

    Each run begins in the core of the source and is followed to that of the target; other cores on the way do not
    count.

    Args:
        process: what moves
        attractors: as for :func:`flatdyn.escape.committor`
        source, target: two of them, by name or number
        radius: of the cores of what is a position
        inside: a region that is not to be left, outside of which a run is lost; all of space if not given
        start: a point in the source; its centre if not given
        runs: how many
        max_steps: after which a run that has not arrived is given up
        key: a JAX key, if the process is random
        progress: show a bar; if not given, after two seconds
    Returns:
        ReactivePaths
    Raises:
        ValueError: if attractors overlap, the start is not in the source, or the two are the same
    """
    checks.kind("process", process, Process)
    cores = cores_of(attractors, process.dim, radius, at_least=2)
    i, j = cores.index("source", source), cores.index("target", target)
    if i == j:
        raise ValueError(f"source and target must be two attractors, got {cores.names[i]!r} twice")
    runs = checks.count("runs", runs, at_least=1)
    max_steps = stepping.check_steps("max_steps", max_steps, at_least=1)
    start = np.asarray(checks.point("start", cores.centers[i] if start is None else start, process.dim))
    start = start.astype(precision.floating())
    if cores.labels(start[None])[0] != i:
        raise ValueError(f"start must be in the core of {cores.names[i]!r}, got {start}")
    starts = np.tile(start, (runs, 1))
    needed = runs * (4 * memory.array_bytes(2, process.dim) + 64)
    memory.check_memory(needed, "the runs", "ask for fewer `runs`")
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct(start.shape, start.dtype))
    form = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state))
    own = stepping.prepared((cores, region_of(inside, process.dim)), start.dtype)
    limits = (precision.on_device(np.int32(x)) for x in (i, j, max_steps))
    runs_ended = queues.run(process, starts, Crossing(form, *own, *limits), key=key, progress=progress)
    ended, begun, taken, place, *leaves = runs_ended
    refuse_overlap(cores, place[ended == OVERLAP])
    arrived = np.flatnonzero(ended == ARRIVED)
    leaves = [np.asarray(leaf)[arrived] for leaf in leaves]
    states = jax.tree.unflatten(jax.tree.structure(state), leaves)
    theta, first = _again(process, states, arrived, begun[arrived], (taken - begun)[arrived], start, key)
    return ReactivePaths(
        config={
            "process": records.described(process),
            "source": cores.names[i],
            "target": cores.names[j],
            "runs": str(runs),
            "max_steps": str(max_steps),
        },
        provenance=records.provenance(),
        theta=theta,
        first=first,
        waited=begun[arrived].astype(np.int64),
        undecided=np.asarray((ended == UNDECIDED).sum()),
        lost=np.asarray((ended == LOST).sum()),
    )


class _Lane(NamedTuple):
    carry: Carry
    left: Any
    begun: jax.Array
    ended: jax.Array


class Crossing(StepJob):
    """Runs from the core of a source to that of a target, with their state at the last visit of the source."""

    form: tuple = eqx.field(static=True)
    cores: Cores
    inside: Callable | None
    source: jax.Array
    target: jax.Array
    max_steps: jax.Array

    def begin(self, process, starts):
        carry = stepping.at_rest(process, starts)
        ended = jnp.full(len(starts), GOING, jnp.int32)
        return _Lane(carry, carry.state, jnp.zeros(len(starts), jnp.int32), ended)

    def step(self, process, lane, seed, number):
        going = lane.carry.alive
        after = stepping.guarded_step(process, lane.carry, seed, number, lane.carry.taken, jnp.inf)
        theta = process.position(after.state)
        label = self.cores(theta)
        out = jnp.asarray(False) if self.inside is None else ~self.inside(theta) & (label < 0)
        ended = jnp.where(after.taken >= self.max_steps, UNDECIDED, GOING)
        ended = jnp.where(out | ~after.alive, LOST, jnp.where(label == self.target, ARRIVED, ended))
        ended = jnp.where(label == SEVERAL, OVERLAP, ended)
        ended = jnp.where(going, ended, lane.ended).astype(jnp.int32)
        back = going & after.alive & (label == self.source)
        left = jax.tree.map(lambda new, old: jnp.where(back, new, old), after.state, lane.left)
        return _Lane(after._replace(alive=ended == GOING), left, jnp.where(back, after.taken, lane.begun), ended)

    def _results(self):
        leaves = [f"leaf{number}" for number in range(len(self.form))]
        return collections.namedtuple("Crossed", ["ended", "begun", "taken", "place", *leaves])

    def blank(self, starts):
        zeros = [np.zeros(len(starts), np.int32) for _ in range(3)]
        return self._results()(
            *zeros, np.array(starts), *(np.zeros((len(starts), *shape), dtype) for shape, dtype in self.form)
        )

    def outcome(self, process, lanes):
        place = jax.vmap(process.position)(lanes.carry.state)
        return lanes.ended, lanes.begun, lanes.carry.taken, place, *jax.tree.leaves(lanes.left)

    def results(self, outcome):
        return self._results()(*outcome)


def _again(process, states, numbers, begun, steps, start, key) -> tuple[np.ndarray, np.ndarray]:
    """The positions of all paths, run once more, and where each begins among them."""
    first = np.concatenate([[0], np.cumsum(steps + 1)]).astype(np.int64)
    needed = memory.array_bytes(4, int(first[-1]), process.dim)
    memory.check_memory(needed, "the paths", "ask for fewer `runs`")
    theta = np.empty((first[-1], process.dim), start.dtype)
    moving, seed = stepping.prepared(process, start.dtype), stepping.seed_of(process, key)
    order, done = np.argsort(steps, kind="stable"), 0
    while done < len(order):
        most = np.maximum.accumulate(steps[order[done:]]) + 1
        together = max(1, int(np.searchsorted(most * np.arange(1, len(most) + 1), _TOGETHER)))
        some = order[done : done + together]
        length = 1 << int(steps[some].max()).bit_length()
        rows = np.resize(some, 1 << max(len(some) - 1, 0).bit_length())
        part = jax.tree.map(lambda leaf, rows=rows: precision.on_device(np.asarray(leaf)[rows]), states)
        which = [
            precision.on_device(array[rows].astype(kind)) for array, kind in ((numbers, np.uint32), (begun, np.int32))
        ]
        seen = np.asarray(_replayed(moving, part, seed, *which, length))
        for row, path in enumerate(some):
            theta[first[path] : first[path + 1]] = seen[row, : steps[path] + 1]
        done += len(some)
    return theta, first


@eqx.filter_jit(compiler_options=stepping.WIDE)
def _replayed(process, states, seed, numbers, begun, length: int):
    """Positions at the states and after each of so many steps from there, (runs, length + 1, dim)."""
    carry = Carry(states, jnp.ones(len(numbers), bool), begun)

    def step(carry, _):
        guarded = jax.vmap(stepping.guarded_step, (None, 0, None, 0, 0, None))
        carry = guarded(process, carry, seed, numbers, carry.taken, jnp.inf)
        return carry, jax.vmap(process.position)(carry.state)

    seen = jax.lax.scan(step, carry, None, length)[1]
    return jnp.concatenate([jax.vmap(process.position)(states)[:, None], seen.swapaxes(0, 1)], axis=1)
