"""Where runs are after given numbers of steps, in as few steps as that takes.

A step of a process that draws nothing depends on the state alone. So a run whose state occurs twice, to the last bit,
repeats what lies between for ever: where it is after a million steps is known from one turn of that. Runs at a point
or cycle do so soon, by rounding; the states of others (bands, counters of steps) do not, and take all their steps.
"""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import segments
from flatdyn.processes import Process
from flatdyn.runs import devices, stepping

_LANES, _LANES_ELSEWHERE = 64, 1024  # runs that advance together on a core, and on other devices
_BLOCKS, _SEEN_BYTES = 16, 1 << 22  # of so many lanes, one after the other, that a call takes; what it may keep
_STOPS = 64  # that a call makes at most
_FIRST_LOOK, _GROWTH = 300, 1.5  # steps after which is looked whether states recur, and how much later next
_LAGS = 60, 720, 5_040  # over how many steps states are compared: numbers of many divisors
_WORTH_A_THREAD = 10_000  # steps of a block
_FIRST_LENGTH = 64  # steps of the first call


class Visits(NamedTuple):
    """What is known of some runs, with the runs in front.

    Attributes:
        positions: after each of the numbers of steps, shape (runs, times, dim)
        alive: who has not diverged, shape (runs,)
        states: full states after the last, a tree; where a run has been found to repeat itself, one of its states
    """

    positions: np.ndarray
    alive: np.ndarray
    states: Any


def visits(
    process: Process, starts: np.ndarray, times: np.ndarray, seed: Any, bound: float, *, progress: Any, unit: str
) -> Visits:
    """Runs from `starts` after each of `times` steps.

    Args:
        process: what moves, with its numbers as arrays (:func:`flatdyn.runs.stepping.prepared`)
        starts: shape (runs, dim); the r-th is run number r of a random process
        times: numbers of steps, increasing, at least 1
        seed: of a random process
        bound: largest |coordinate|
        progress: as for :func:`flatdyn.simulate`
        unit: what the progress bar calls a step
    """
    last = int(times[-1])
    with segments.progress_bar(last, unit, progress) as bar:
        journey = _Journey(process, np.asarray(starts), np.asarray(times), seed, bound, bar)
        group, now = journey.everyone, 0
        for look, lag in [] if process.random else _looks(last):
            before = journey.on(group, now, look - lag)
            group, now = journey.on(before, look - lag, look), look
            same = _same(before, group)
            if same.any():
                journey.repeat(group.those(same), now, lag)
                group = group.those(~same)
            if not len(group.rows):
                break
        else:
            journey.keep(journey.on(group, now, last))
        return journey.visits


def _looks(last: int) -> list[tuple[int, int]]:
    """When states are compared, and with those how many steps before: as many as fit since the look before."""
    looks, before, look = [], 0, _FIRST_LOOK
    while look + _LAGS[0] < last:
        looks.append((look, max(lag for lag in _LAGS if lag <= look - before)))
        before, look = look, int(_GROWTH * look)
    return [(look, lag) for look, lag in looks if look + lag < last]


class _Group(NamedTuple):
    """Some of the runs: their numbers, and what they carry with the runs in front (`fresh`: nothing yet)."""

    rows: np.ndarray
    carried: stepping.Carry
    fresh: bool = False

    def those(self, chosen: np.ndarray) -> _Group:
        return _Group(self.rows[chosen], jax.tree.map(lambda leaf: leaf[chosen], self.carried))


class _Journey:
    """All runs of one call, and what is found out about them."""

    def __init__(self, process: Process, starts: np.ndarray, times: np.ndarray, seed: Any, bound: float, bar: Any):
        self.process, self.starts, self.times, self.seed, self.bar = process, starts, times, seed, bar
        with np.errstate(over="ignore"):  # beyond the precision of the starts: as good as infinite
            self.bound, runs = np.asarray(bound, starts.dtype), len(starts)
        here, self.blocks = jax.local_devices(), 1
        self.lanes = (_LANES if here[0].platform == "cpu" else _LANES_ELSEWHERE) * len(here)
        if len(here) == 1 and here[0].platform == "cpu":
            self.blocks = max(1, min(_BLOCKS, _SEEN_BYTES // (_STOPS * self.lanes * (starts.nbytes // runs))))
        self.length = _FIRST_LENGTH
        shapes = jax.eval_shape(process.init, jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype))
        states = jax.tree.map(lambda leaf: np.zeros((runs, *leaf.shape), leaf.dtype), shapes)
        taken = np.zeros(runs, np.int32) if process.random else None  # nobody else asks how many
        self.everyone = _Group(np.arange(runs), stepping.Carry(states, np.ones(runs, bool), taken), fresh=True)
        positions = np.empty((runs, len(times), process.dim), starts.dtype)
        self.visits = Visits(positions, np.ones(runs, bool), jax.tree.map(np.copy, states))
        self._call(*self._part(self.everyone, np.arange(1)), True, np.zeros(0, np.int64))  # compiled here alone

    def on(self, group: _Group, now: int, end: int) -> _Group:
        """The runs after `end` steps; `now` have been taken."""
        slots = slice(*np.searchsorted(self.times, [now, end], "right"))
        stops = np.union1d(self.times[slots], [end])
        seen, group = self._travel(group, np.diff(stops, prepend=now))
        self.visits.positions[group.rows, slots] = seen[:, np.searchsorted(stops, self.times[slots])]
        self.bar.update((end - now) * len(group.rows) / len(self.starts))
        return group

    def repeat(self, group: _Group, now: int, lag: int) -> None:
        """All that is left to know of runs whose states recur after `lag` steps."""
        slots = slice(np.searchsorted(self.times, now, "right"), None)
        phases = (self.times[slots] - now) % lag
        stops = np.unique(phases)
        end = phases[-1] + (lag if phases[-1] < stops[-1] else 0)
        seen, group = self._travel(group, np.diff(np.append(stops, end), prepend=0))
        self.visits.positions[group.rows, slots] = seen[:, np.searchsorted(stops, phases)]
        self.bar.update((self.times[-1] - now) * len(group.rows) / len(self.starts))
        self.keep(group)

    def keep(self, group: _Group) -> None:
        """States of runs that have come to their end."""
        self.visits.alive[group.rows] = group.carried.alive
        for kept, new in zip(jax.tree.leaves(self.visits.states), jax.tree.leaves(group.carried.state), strict=True):
            kept[group.rows] = new

    def _travel(self, group: _Group, gaps: np.ndarray) -> tuple[np.ndarray, _Group]:
        """Positions after each gap, shape (runs, gaps, dim), and the runs after all.

        In parts, abreast: what becomes of a run does not depend on its neighbours.
        """
        runs = len(group.rows)
        seen = np.empty((runs, len(gaps), self.process.dim), self.starts.dtype)
        carried = jax.tree.map(np.empty_like, group.carried)

        def advance(rows: np.ndarray, stopped: Any) -> None:
            after, positions = self._through(group, rows, gaps, stopped)
            seen[rows] = positions
            for kept, new in zip(jax.tree.leaves(carried), jax.tree.leaves(after), strict=True):
                kept[rows] = np.asarray(new)[: len(rows)]

        blocks = -(-runs // self.lanes)
        abreast = len(devices.places()) if blocks * int(gaps.sum()) >= _WORTH_A_THREAD else 1
        size = self.lanes * min(self.blocks, -(-blocks // abreast))
        parts = [np.arange(first, min(first + size, runs)) for first in range(0, runs, size)]
        if len(parts) == 1:
            advance(parts[0], threading.Event())
        else:
            devices.side_by_side(advance, parts)
        return seen, _Group(group.rows, carried)

    def _through(self, group: _Group, rows: np.ndarray, gaps: np.ndarray, stopped: Any) -> tuple[Any, np.ndarray]:
        """Some of the runs through all gaps, in calls that end soon enough to hear Ctrl-C."""
        (part, carried, blocks), fresh = self._part(group, rows), group.fresh
        seen, done, gaps = [], 0, gaps.copy()
        while done < len(gaps) and not stopped.is_set():
            most = max(1, self.length // blocks)
            whole = int(np.searchsorted(np.cumsum(gaps[done : done + _STOPS]), most, "right"))
            some = gaps[done : done + whole] if whole else np.array([most])
            carried, positions = self._call(part, carried, blocks, fresh, some)
            fresh = False
            if whole:
                seen.append(np.asarray(positions)[:, :whole].swapaxes(1, 2).reshape(-1, whole, self.process.dim))
            else:
                gaps[done] -= most
            done += whole
        return carried, np.concatenate([x[: len(rows)] for x in seen], axis=1)

    def _part(self, group: _Group, rows: np.ndarray) -> tuple:
        """Starts and numbers of some of the runs, what they carry, and how many blocks they are."""
        blocks, rows = -(-len(rows) // self.lanes), np.resize(rows, self.blocks * self.lanes)
        part = self.starts[group.rows[rows]], group.rows[rows].astype(np.uint32)
        carried = jax.tree.map(lambda leaf: leaf[rows], group.carried)
        if len(jax.local_devices()) > 1:
            part, carried = jax.tree.map(devices.place, (part, carried))
        return part, carried, blocks

    def _call(self, part: tuple, carried: Any, blocks: int, fresh: bool, gaps: np.ndarray) -> tuple:
        plan = np.zeros(_STOPS + 3, np.int32)
        plan[: len(gaps)], plan[-3:] = gaps, (len(gaps), fresh, blocks)
        begun = time.perf_counter()
        called = _advanced(self.process, part, carried, self.seed, self.bound, plan, self.blocks)
        called = jax.block_until_ready(called)
        if steps := int(gaps.sum()) * blocks:
            self.length = segments.next_length(steps, time.perf_counter() - begun)
        return called


@eqx.filter_jit(compiler_options=stepping.WIDE)
def _advanced(process: Process, part: tuple, carried: stepping.Carry, seed, bound, plan, blocks: int):
    """Runs after each of some gaps: what they carry, and positions (blocks, _STOPS, runs of a block, dim).

    Block after block: that few runs stay in the processor's innermost cache.
    """
    gaps, (number, fresh, used) = plan[:-3], plan[-3:]

    def block(part, carried):
        starts, numbers = part
        states = jax.tree.map(
            lambda new, old: jnp.where(fresh, new, old), jax.vmap(process.init)(starts), carried.state
        )
        taken = jnp.zeros(len(numbers), jnp.int32) if carried.taken is None else carried.taken

        def one(i, carry_and_seen):
            carry, seen = carry_and_seen
            carry = stepping.advanced(process, carry, seed, numbers, gaps[i], bound)
            return carry, seen.at[i].set(jax.vmap(process.position)(carry.state))

        seen = jnp.zeros((_STOPS, len(numbers), process.dim), starts.dtype)
        carry, seen = jax.lax.fori_loop(0, number, one, (carried._replace(state=states, taken=taken), seen))
        return carry._replace(taken=None if carried.taken is None else carry.taken), seen

    if blocks == 1:
        carried, seen = block(part, carried)
        return carried, seen[None]

    def put(b, done):
        new = block(*jax.tree.map(lambda leaf: leaf[b], parts))
        return jax.tree.map(lambda leaf, x: leaf.at[b].set(x), done, new)

    parts = jax.tree.map(lambda leaf: leaf.reshape(blocks, -1, *leaf.shape[1:]), (part, carried))
    seen = jnp.zeros((blocks, _STOPS, parts[0][1].shape[1], process.dim), part[0].dtype)
    carried, seen = jax.lax.fori_loop(0, used, put, (parts[1], seen))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), carried), seen


def _same(one: _Group, other: _Group) -> np.ndarray:
    """Which runs are in the same state in both, to the last bit."""
    same = np.ones(len(one.rows), bool)
    for a, b in zip(jax.tree.leaves(one.carried.state), jax.tree.leaves(other.carried.state), strict=True):
        a, b = (np.ascontiguousarray(leaf).reshape(len(same), -1).view(np.uint8) for leaf in (a, b))
        same &= (a == b).all(axis=1)
    return same
