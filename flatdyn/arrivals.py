"""Run until decided: each run stops at the check at which its fate is known, and the next start takes its place.

Most starts of a basin map settle early and a few never do, so a batch that advances together would wait for its
slowest run. Here a fixed number of lanes advances in rounds; between rounds finished runs leave and new ones enter,
on every device at once (on one CPU device: one set of lanes per core). A run's fate depends on its start, its number
and the rules alone, not on its neighbours.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn import ensembles, records
from flatdyn.ensembles import Carry
from flatdyn.processes import Process
from flatdyn.records import Status

_LANES = 1 << 15  # on a CPU: enough to drown the bookkeeping between rounds, few enough for the cache
_FEWEST_LANES = 1 << 8
_SHRINKING = 8  # lanes become fewer by this factor at the end: often would compile a program each time
_MOST_CHECKS = 1 << 12
_ROUND_SECONDS = 0.5  # the longest a round should take: often enough for Ctrl-C and the progress bar
_CHECKPOINT_SECONDS = 20.0


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
    """

    max_steps: int
    check_every: int
    stay: int
    bound: float
    tol: float


class Arrivals(NamedTuple):
    """Fate of each run, arrays of shape (runs,) and (runs, dim).

    Attributes:
        label: number of the attractor or region; −1 if it diverged or is undecided
        status: a :class:`Status`
        steps: at which it came near its attractor to stay, diverged, or stopped
        final: last position
    """

    label: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    final: np.ndarray


class _Lanes(NamedTuple):
    """What a lane carries: its run, the target it is near (−1: none) and since when, how it ended (or −1)."""

    carry: Carry
    near: jax.Array
    since: jax.Array
    ended: jax.Array


def decide(
    process: Process,
    starts: np.ndarray,
    targets: Targets,
    rules: Rules,
    *,
    numbers: np.ndarray | None = None,
    key: jax.Array | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
    store: str | Path | None = None,
    config: dict[str, str] | None = None,
) -> Arrivals:
    """Run every start until a rule decides about it.

    Args:
        process, starts: what moves, from where, shape (runs, dim)
        targets, rules: what decides
        numbers: of the runs, for a random process; 0, 1, 2, … if not given
        key: needed if the process is random
        chunk: lanes on each device
        progress: as for :func:`flatdyn.simulate`
        store: a file in which finished runs are kept every few seconds, and from which the same call goes on
        config: what identifies the call in that file
    Raises:
        ValueError: if `store` holds another call's runs, or is damaged
    """
    work = _Work(starts, np.arange(len(starts)) if numbers is None else numbers, store, config or {})
    if len(work.todo) == 0:
        return work.results
    process = ensembles.prepared(process, starts.dtype)
    seed = ensembles.seed_of(process, key)
    places = _places()
    size = _lanes(len(work.todo), len(places), chunk, places[0].platform)
    with ensembles.progress_bar(len(starts), "points", progress) as bar, ThreadPoolExecutor(len(places)) as threads:
        bar.update(len(starts) - len(work.todo))
        workers = [threads.submit(_worker, work, process, seed, targets, rules, size, at) for at in places]
        try:
            _oversee(work, workers, bar)
        finally:  # an interrupt, or an error in one worker, ends the others at the end of their round
            work.stop.set()
            wait(workers)
            work.save()
    for worker in workers:
        worker.result()
    return work.results


def _oversee(work: _Work, workers: list, bar: Any) -> None:
    """Show progress and keep what is finished until the workers are done."""
    saved, shown = time.monotonic(), len(work.decided) - len(work.todo)
    while wait(workers, timeout=0.1).not_done:
        count = int(work.decided.sum())
        bar.update(count - shown)
        shown = count
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            work.save()
            saved = time.monotonic()
        if any(worker.done() and worker.exception() for worker in workers):
            return


class _Work:
    """Starts that wait, results that are there, and the file that keeps them."""

    def __init__(self, starts: np.ndarray, numbers: np.ndarray, store: str | Path | None, config: dict[str, str]):
        runs = len(starts)
        self.starts, self.numbers, self.config = starts, numbers, config | {"runs": str(runs)}
        self.store = None if store is None else Path(store)
        self.results = Arrivals(
            np.full(runs, -1, np.int32), np.zeros(runs, np.int8), np.zeros(runs, np.int64), np.array(starts)
        )
        self.decided = np.zeros(runs, bool)
        self.stop, self._lock, self._next = threading.Event(), threading.Lock(), 0
        self._compiling, self._compiled = threading.Lock(), set()
        if self.store is not None and self.store.exists():
            self._resume()
        self.todo = np.flatnonzero(~self.decided)

    @property
    def empty(self) -> bool:
        """Whether no start waits."""
        return self._next >= len(self.todo)

    def take(self, number: int) -> np.ndarray:
        """Numbers of the next runs, at most `number`."""
        with self._lock:
            taken = self.todo[self._next : self._next + number]
            self._next += len(taken)
        return taken

    @contextlib.contextmanager
    def first_time(self, size: int):
        """Lets workers pass one at a time until one has come through with this size, then all."""
        with contextlib.nullcontext() if size in self._compiled else self._compiling:
            yield
        self._compiled.add(size)

    def put(self, runs: np.ndarray, arrivals: Arrivals) -> None:
        """Keep what became of some runs; marked decided last, so that :meth:`save` never sees half of one."""
        for kept, new in zip(self.results, arrivals, strict=True):
            kept[runs] = new
        self.decided[runs] = True

    def save(self) -> None:
        """Write what is decided, complete or not at all."""
        if self.store is not None:
            decided = self.decided.copy()
            arrays = {name: values[decided] for name, values in self.results._asdict().items()}
            records.save_arrays(self.store, {"decided": decided} | arrays, {"record": "arrivals"} | self.config)

    def _resume(self) -> None:
        arrays, header = records.load_arrays(self.store)
        if header != {"record": "arrivals"} | self.config:
            different = [name for name, value in self.config.items() if header.get(name) != value]
            raise ValueError(
                f"{self.store} holds another call's runs (different: {', '.join(different) or 'the kind of record'}): "
                "give another file, or delete this one"
            )
        self.decided = arrays["decided"]
        for name, values in self.results._asdict().items():
            values[self.decided] = arrays[name]


# --- lanes ----------------------------------------------------------------------------------------------------


def _places() -> list[jax.Device]:
    """A device for each worker: all of them, or the one CPU device once for every core."""
    devices = jax.local_devices()
    if len(devices) == 1 and devices[0].platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return devices * cores
    return devices


def _lanes(runs: int, workers: int, chunk: int | None, platform: str) -> int:
    """Lanes of a worker: a power of 2 that fits the cache, and no more than there is work for."""
    wanted = (_LANES if platform == "cpu" else _LANES << 5) if chunk is None else chunk
    enough = -(-runs // workers)
    return max(_FEWEST_LANES, 1 << (max(min(wanted, enough), 1) - 1).bit_length())


def _worker(work: _Work, process, seed, targets, rules: Rules, size: int, device) -> None:
    """Advance lanes in rounds until no start waits and no lane is under way."""
    process, seed, targets = (_on(device, tree) for tree in (process, seed, targets))
    runs, lanes, checks = np.zeros(0, np.int64), None, 4
    while not work.stop.is_set():
        fresh = work.take(size - len(runs))
        if len(runs) + len(fresh) == 0:
            return
        with work.first_time(size):  # one worker compiles for this size, the others wait for it
            lanes = _filled(process, lanes, work.starts[fresh], size)
            runs = np.append(runs, fresh)
            lanes, final, ended, checks = _round(process, lanes, seed, work.numbers[runs], size, targets, rules, checks)
        while not ended.any() and not work.stop.is_set():
            lanes, final, ended, checks = _round(process, lanes, seed, work.numbers[runs], size, targets, rules, checks)
        gone, left = np.flatnonzero(ended), np.flatnonzero(~ended)
        work.put(runs[gone], _arrivals(_rows(lanes, gone), np.asarray(final)[gone]))
        lanes, runs = _rows(lanes, left), runs[left]
        while work.empty and size // _SHRINKING >= 4 * _FEWEST_LANES and len(runs) <= size // _SHRINKING:
            size //= _SHRINKING


def _round(process, lanes: _Lanes, seed, numbers, size, targets, rules: Rules, checks: int):
    """Advance; return lanes, positions, which runs ended, and how many checks the next round should take."""
    begun = time.perf_counter()
    padded = np.resize(numbers, size).astype(np.uint32)
    lanes, final = jax.block_until_ready(_advance(process, lanes, seed, padded, targets, rules, jnp.int32(checks)))
    ended = np.asarray(lanes.ended)[: len(numbers)] >= 0
    if ended.mean() > 0.5 or time.perf_counter() - begun > _ROUND_SECONDS:
        checks = max(1, checks // 2)
    elif ended.mean() < 0.2:
        checks = min(2 * checks, _MOST_CHECKS)
    return lanes, final, ended, checks


def _filled(process: Process, lanes: _Lanes | None, starts: np.ndarray, size: int) -> _Lanes:
    """The lanes under way, then new ones at `starts`, then idle ones up to `size`."""
    if len(starts) == 0:
        return jax.tree.map(lambda leaf: np.resize(leaf, (size, *leaf.shape[1:])), lanes)
    fresh = jax.tree.map(np.asarray, _begin(process, np.resize(starts, (size, starts.shape[1]))))
    if lanes is None:
        return fresh
    return jax.tree.map(lambda old, new: np.concatenate([old, new])[:size], lanes, fresh)


@eqx.filter_jit
def _begin(process: Process, starts: jax.Array) -> _Lanes:
    carry = ensembles.at_rest(process, starts)
    nowhere = jnp.full(len(starts), -1, jnp.int32)
    return _Lanes(carry, nowhere, jnp.zeros_like(nowhere), nowhere)


@eqx.filter_jit
def _advance(process, lanes: _Lanes, seed, numbers, targets: Targets, rules: Rules, checks: jax.Array):
    """So many checks, each after `check_every` steps; lanes that have ended stand still."""

    def check(_, lanes):
        before = ensembles.advanced(process, lanes.carry, seed, numbers, rules.check_every - 1, rules.bound)
        after = ensembles.advanced(process, before, seed, numbers, 1, rules.bound)
        return jax.vmap(_judged, (None, 0, 0, 0, None, None))(process, lanes, before, after, targets, rules)

    lanes = jax.lax.fori_loop(0, checks, check, lanes)
    return lanes, jax.vmap(process.position)(lanes.carry.state)


def _judged(process: Process, lane: _Lanes, before: Carry, after: Carry, targets: Targets, rules: Rules) -> _Lanes:
    """One lane after a check: what it is near, since when, and whether it has ended."""
    theta = process.position(after.state)
    near, trapped = _nearest(theta, targets)
    entered = jnp.bool_(False)
    for i, (inside, absorbing) in enumerate(zip(targets.regions, targets.absorbing, strict=True)):
        if absorbing:
            caught = (near < 0) & inside(theta)
            near, entered = jnp.where(caught, targets.number + i, near), entered | caught
    since = jnp.where(near == lane.near, lane.since, after.taken)
    trapped = (trapped & (after.taken - since >= rules.stay)) | entered
    still = _unmoved(before.state, after.state, rules.tol) & (not process.random)
    done = trapped | still | (after.taken >= rules.max_steps)
    going = lane.carry.alive
    status = jnp.where(after.alive, jnp.where(done, Status.UNDECIDED, -1), Status.DIVERGED)
    return _Lanes(
        after._replace(alive=after.alive & ~done),
        jnp.where(going, near, lane.near).astype(jnp.int32),
        jnp.where(going, since, lane.since),
        jnp.where(going, status, lane.ended).astype(jnp.int32),
    )


def _nearest(theta: jax.Array, targets: Targets) -> tuple[jax.Array, jax.Array]:
    """Number of the nearest attractor within whose radius θ lies, or −1; and whether it lies in that one's trap."""
    if len(targets.radius) == 0:
        return jnp.int32(-1), jnp.bool_(False)
    square = sum((theta[i] - targets.points[..., i]) ** 2 for i in range(theta.shape[0]))
    square = jnp.where(jnp.isnan(square), jnp.inf, square).min(axis=1)
    inside = jnp.where(square <= targets.radius**2, square, jnp.inf)
    nearest = jnp.argmin(inside)
    near = jnp.isfinite(inside[nearest])
    return jnp.where(near, nearest, -1).astype(jnp.int32), near & (square[nearest] <= targets.trap[nearest] ** 2)


def _unmoved(before: Any, after: Any, tol: float) -> jax.Array:
    """Whether no number of the state has moved by more than tol (1 + |it|)."""
    pairs = [
        (jnp.abs(new - old) <= tol * (1 + jnp.abs(new))).all()
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]
    return functools.reduce(operator.and_, pairs)


def _arrivals(lanes: _Lanes, final: np.ndarray) -> Arrivals:
    diverged = lanes.ended == Status.DIVERGED
    label = np.where(diverged, -1, lanes.near)
    status = np.where(diverged, Status.DIVERGED, np.where(label >= 0, Status.CONVERGED, Status.UNDECIDED))
    return Arrivals(label, status, np.where(label >= 0, lanes.since, lanes.carry.taken), final)


def _rows(tree: Any, chosen: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], tree)


def _on(device: jax.Device, tree: Any) -> Any:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.device_put(arrays, device), rest)
