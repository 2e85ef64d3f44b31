"""Each run is checked every `check_every` steps and stops when its label is certain.

It is near an attractor to stay, in a region, diverged, or at rest where nothing is known to be.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core.records import Status
from flatdyn.processes import Process
from flatdyn.runs import queues, stepping
from flatdyn.runs.stepping import Carry

_UNROLLED = 64  # numbers of targets up to which all are written out, one after the other


class Targets(eqx.Module):
    """What positions are held against: attractors first, then regions.

    Attributes:
        points: samples of each attractor, shape (attractors, samples, dim); NaN where there are fewer
        radius: distance from a sample that counts as near, shape (attractors,)
        trap: distance within which a run is there to stay, shape (attractors,); 0 if there is none
        number: of attractors; rows beyond it are empty
        regions: tests θ (dim,) -> bool of the regions
        absorbing: whether being in the region once is enough; else it counts at the end
    """

    points: jax.Array
    radius: jax.Array
    trap: jax.Array
    number: jax.Array
    regions: tuple[Callable, ...] = ()
    absorbing: tuple[bool, ...] = eqx.field(static=True, default=())


class Rules(NamedTuple):
    """When a run stops; see :func:`flatdyn.map_basins` for what they mean.

    Attributes:
        max_steps, check_every, stay: whole numbers of steps
        bound: largest |coordinate|
        tol: relative move in one step that counts as none
        unit: what is large enough to be measured by itself; smaller numbers are measured by it
    """

    max_steps: int
    check_every: int
    stay: int
    bound: float
    tol: float
    unit: float = 1.0


class Arrivals(NamedTuple):
    """Fate of each run, arrays of shape (runs,) and (runs, dim).

    Attributes:
        label: index of the attractor or region; −1 if it diverged or is undecided
        status: a :class:`Status`
        steps: at which it came near its attractor to stay, diverged, or stopped
        final: last position
    """

    label: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    final: np.ndarray


def decide(process: Process, starts: np.ndarray, targets: Targets, rules: Rules, **options: Any) -> Arrivals:
    """Run every start until a rule decides about it.

    Args:
        process, starts: what moves, from where, shape (runs, dim)
        targets, rules: what decides
        options: numbers, key, chunk, progress, store, config: as for :func:`flatdyn.runs.queues.run`
    Raises:
        ValueError: if `store` holds another call's runs, or is damaged
    """
    # As arrays they are traced: other numbers need no new program.
    with np.errstate(over="ignore"):  # beyond the precision of the starts: as good as infinite
        exact = {name: jnp.asarray(getattr(rules, name), starts.dtype) for name in ("bound", "tol", "unit")}
    counts = {name: jnp.int32(min(getattr(rules, name), 2**31 - 1)) for name in ("max_steps", "check_every", "stay")}
    rules = rules._replace(**exact, **counts)
    return queues.run(process, starts, _Decision(targets, rules), unit="points", **options)


class _Lane(NamedTuple):
    """What a lane carries: its run, the target it is near (−1: none) and since when, how it ended (or −1)."""

    carry: Carry
    near: jax.Array
    since: jax.Array
    ended: jax.Array


class _Decision(queues.Job):
    """One turn is a check, after `check_every` steps."""

    targets: Targets
    rules: Rules
    most_turns = 1 << 12

    def begin(self, process, starts):
        nowhere = jnp.full(len(starts), -1, jnp.int32)
        return _Lane(stepping.at_rest(process, starts), nowhere, jnp.zeros_like(nowhere), nowhere)

    def turn(self, process, lanes, seed, numbers):
        rules, nowhere = self.rules, jnp.full(len(numbers), -1, jnp.int32)

        def part(i, so_far):
            """All steps but one, then one: so the step is compiled once, and its end is looked at once."""
            before, steps = so_far[1], jnp.where(i == 0, rules.check_every - 1, 1)
            after = stepping.advanced(process, before, seed, numbers, steps, rules.bound)
            theta = jax.vmap(process.position)(after.state)
            return before, after, jax.vmap(_nearest, (0, None))(theta, self.targets)

        before, after, nearest = jax.lax.fori_loop(0, 2, part, (lanes.carry, lanes.carry, nowhere))
        over = (None, 0, 0, 0, 0, None, None)
        return jax.vmap(_checked, over)(process, lanes, before, after, nearest, self.targets, rules)

    def finished(self, lanes):
        return lanes.ended >= 0

    def blank(self, starts):
        runs = len(starts)
        return Arrivals(
            np.full(runs, -1, np.int32), np.zeros(runs, np.int8), np.zeros(runs, np.int64), np.array(starts)
        )

    def outcome(self, process, lanes):
        carry = lanes.carry
        return lanes.near, lanes.since, lanes.ended, carry.taken, jax.vmap(process.position)(carry.state)

    def results(self, outcome):
        near, since, ended, taken, positions = outcome
        diverged = ended == Status.DIVERGED
        label = np.where(diverged, -1, near)
        status = np.where(diverged, Status.DIVERGED, np.where(label >= 0, Status.CONVERGED, Status.UNDECIDED))
        return Arrivals(label, status, np.where(label >= 0, since, taken), positions)

    def possible(self, results):
        label, status, steps = results.label, results.status, results.steps
        most = self.targets.number + len(self.targets.regions)
        ranges = (label >= -1) & (label < int(most)) & (steps >= 0) & (steps <= int(self.rules.max_steps))
        right = np.where(label >= 0, status == Status.CONVERGED, np.isin(status, [Status.UNDECIDED, Status.DIVERGED]))
        return bool((ranges & right).all() and not np.isnan(results.final).any())


def _checked(process: Process, lane: _Lane, before: Carry, after: Carry, nearest, targets, rules: Rules) -> _Lane:
    """One lane after a check: what it is near, since when, and whether it has ended."""
    theta = process.position(after.state)
    near, trapped = nearest >> 1, nearest & 1 == 1
    entered = jnp.bool_(False)
    for i, (inside, absorbing) in enumerate(zip(targets.regions, targets.absorbing, strict=True)):
        if absorbing:
            caught = (near < 0) & inside(theta)
            near, entered = jnp.where(caught, targets.number + i, near), entered | caught
    since = jnp.where(near == lane.near, lane.since, after.taken)
    trapped = (trapped & (after.taken - since >= rules.stay)) | entered
    still = _unmoved(before.state, after.state, rules.tol, rules.unit) & (not process.random)
    done = trapped | still | (after.taken >= rules.max_steps)
    going = lane.carry.alive
    status = jnp.where(after.alive, jnp.where(done, Status.UNDECIDED, -1), Status.DIVERGED)
    return _Lane(
        after._replace(alive=after.alive & ~done),
        jnp.where(going, near, lane.near).astype(jnp.int32),
        jnp.where(going, since, lane.since),
        jnp.where(going, status, lane.ended).astype(jnp.int32),
    )


def _nearest(theta: jax.Array, targets: Targets) -> jax.Array:
    """Twice the index of the nearest attractor within whose radius θ lies, plus 1 in its trap; −2 if there is none.

    One target after the other: what is known of the nearest so far are two numbers, which many runs keep abreast.
    """
    twice = jnp.asarray(2 * np.arange(len(targets.radius), dtype=np.int32))
    rows = (targets.points, targets.radius**2, targets.trap**2, twice)

    def look(so_far, row):
        (best, _), (points, near, trapping, twice) = so_far, row
        square = sum((theta[i] - points[:, i]) ** 2 for i in range(theta.shape[0]))
        square = square[0] if len(square) == 1 else jnp.where(jnp.isnan(square), jnp.inf, square).min()
        better = (square <= near) & (square < best)  # never where it is NaN
        new = (square, twice + (square <= trapping))
        return [jnp.where(better, *pair) for pair in zip(new, so_far, strict=True)], None

    unroll = max(1, len(targets.radius)) if targets.points.size <= _UNROLLED else 1
    start = [jnp.asarray(jnp.inf, theta.dtype), jnp.int32(-2)]
    return jax.lax.scan(look, start, rows, unroll=unroll)[0][1]


def _unmoved(before: Any, after: Any, tol: float, unit: float) -> jax.Array:
    """Whether no number of the state has moved by more than tol (unit + |it|), and none that is whole at all.

    A state that counts its steps may belong to a step that changes with them, as under a schedule: it stands still
    while its step size is zero, and goes on.
    """

    def same(old, new):
        near = (
            jnp.abs(new - old) <= tol * (unit + jnp.abs(new)) if jnp.issubdtype(new.dtype, jnp.inexact) else new == old
        )
        return near.all()

    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return functools.reduce(operator.and_, (same(old, new) for old, new in pairs))
