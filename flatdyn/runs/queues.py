"""A work queue: a fixed batch of lanes advances in rounds, and waiting runs replace finished ones.

Most runs end early and a few never do, so a batch that advances together would wait for its slowest run. Between
rounds finished runs leave and new ones enter, on every device at once (on one CPU device: one set of lanes per core).
The fate of a run depends on its start, its index and the task alone, not on its neighbours.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision, segments, stores
from flatdyn.processes import Process
from flatdyn.runs import devices, stepping

_LANES = 1 << 15  # on a CPU: enough to drown the bookkeeping between rounds, few enough for the cache
_LANE_BYTES = 1 << 19  # of positions, on a CPU: networks have few lanes
_FEWEST_LANES = 1 << 8  # of runs that are neighbours in the processor's vectors
_SHRINKING = 8  # lanes become fewer by this factor at the end: often would compile a program each time
_MOST_TURNS = 1 << 20


class Job(eqx.Module):
    """What lanes do, and when a run is finished. Its numbers are leaves; it is the same on every device.

    Attributes:
        most_turns: turns that a round may have at most
    """

    most_turns = _MOST_TURNS

    def begin(self, process: Process, starts: jax.Array) -> Any:
        """What lanes carry at the starts, shape (runs, dim): a tree of arrays with the runs in front."""
        raise NotImplementedError

    def turn(self, process: Process, lanes: Any, seed: jax.Array | None, numbers: jax.Array) -> Any:
        """The lanes after one turn; finished ones stand still."""
        raise NotImplementedError

    def finished(self, lanes: Any) -> jax.Array:
        """Which lanes are finished, shape (runs,)."""
        raise NotImplementedError

    def positions(self, process: Process, lanes: Any) -> jax.Array:
        """Where the lanes are, shape (runs, dim)."""
        raise NotImplementedError

    def blank(self, starts: np.ndarray) -> NamedTuple:
        """Results before anything is known: arrays with the runs in front."""
        raise NotImplementedError

    def results(self, lanes: Any, positions: np.ndarray) -> NamedTuple:
        """Results of finished lanes, in the form of :meth:`blank`."""
        raise NotImplementedError

    def possible(self, results: NamedTuple) -> bool:
        """Whether results that a file holds could be this task's: numbers within their ranges."""
        raise NotImplementedError


def run(
    process: Process,
    starts: np.ndarray,
    task: Job,
    *,
    numbers: np.ndarray | None = None,
    key: jax.Array | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
    unit: str = "runs",
    store: str | Path | None = None,
    config: dict[str, str] | None = None,
) -> NamedTuple:
    """Run every start until its task is finished.

    Args:
        process, starts: what moves, from where, shape (runs, dim)
        task: what decides
        numbers: indices of the runs, for a random process; 0, 1, 2, … if not given
        key: needed if the process is random
        chunk: lanes on each device
        progress: as for :func:`flatdyn.simulate`
        unit: what the progress bar counts
        store: a folder in which finished runs are kept every few seconds, and from which the same call goes on
        config: what identifies the call in that file
    Returns:
        what `task.blank` begins and `task.results` fills
    Raises:
        ValueError: if `store` is a file, or what it holds is damaged; if the process cannot start from `starts`
        OSError: if `store` can't be written, before the first step; later on that is a warning
    """
    if len(starts) > 2**32:
        raise ValueError(f"runs are numbered in 32 bits: start at most 2**32 at once, got {len(starts)}")
    if chunk is not None:
        chunk = checks.count("chunk", chunk, at_least=1)
    process.check(jax.device_put(starts))
    numbers = np.arange(len(starts)) if numbers is None else numbers
    work = _Work(starts, numbers, task, store, config or {})
    if len(work.todo) == 0:
        return work.results
    work.prepare()
    process = stepping.prepared(process, starts.dtype)
    seed = stepping.seed_of(process, key)
    places = devices.places()
    fewest = _FEWEST_LANES if devices.neighbours(process, starts) else 1
    size = max(fewest, _lanes(len(work.todo), len(places), chunk, places[0].platform, starts.nbytes // len(starts)))
    with segments.progress_bar(len(starts), unit, progress) as bar:
        bar.update(len(starts) - len(work.todo))

        def attempt(size: int) -> NamedTuple:
            with devices.memory_guard(size):
                work.rewind()
                jobs = [(work, process, seed, task, size, min(fewest, size), at) for at in places]
                _abreast(work, jobs, bar)
            return work.results

        results = devices.fitting(attempt, size)
    work.finish()
    return results


def _abreast(work: _Work, jobs: list, bar: Any) -> None:
    """One worker on each place, to the end."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        workers = [threads.submit(precision.as_here(_worker), *job) for job in jobs]
        try:
            _oversee(work, workers, bar)
        finally:  # an interrupt, or an error in one worker, ends the others at the end of their round
            work.stop.set()
            wait(workers)
            work.save()
    for worker in workers:
        worker.result()


def _oversee(work: _Work, workers: list, bar: Any) -> None:
    """Show progress and keep what is finished until the workers are done."""
    saved, shown = time.monotonic(), len(work.finished) - len(work.todo)
    while wait(workers, timeout=0.1).not_done:
        count = int(work.finished.sum())
        bar.update(count - shown)
        shown = count
        if time.monotonic() - saved > stores.CHECKPOINT_SECONDS:
            work.save()
            saved = time.monotonic()
        if any(worker.done() and worker.exception() for worker in workers):
            return


class _Work:
    """Starts that wait, results that are there, and the file that keeps them."""

    def __init__(self, starts: np.ndarray, numbers: np.ndarray, task: Job, store: Any, config: dict):
        runs = len(starts)
        self.starts, self.numbers, self.task, self.results = starts, numbers, task, task.blank(starts)
        config = {"record": type(self.results).__name__} | config | {"runs": str(runs)}
        self.file = None if store is None else stores.File(store, config, "another call's runs")
        self.finished = np.zeros(runs, bool)
        self._lock = threading.Lock()
        self._compiling, self._compiled = threading.Lock(), set()
        if self.file is not None and (kept := self.file.read(self._misfit)):
            self.finished = kept["finished"]
            for name, values in self.results._asdict().items():
                values[self.finished] = kept[name]
        self.rewind()

    def rewind(self) -> None:
        """Begin with what is not finished."""
        self.todo, self._next, self.stop = np.flatnonzero(~self.finished), 0, threading.Event()

    @property
    def empty(self) -> bool:
        """Whether no start waits."""
        return self._next >= len(self.todo)

    def take(self, number: int) -> np.ndarray:
        """Indices of the next runs, at most `number`."""
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

    def put(self, runs: np.ndarray, results: NamedTuple) -> None:
        """Keep what became of some runs; marked finished last, so that :meth:`save` never sees half of one."""
        for kept, new in zip(self.results, results, strict=True):
            kept[runs] = new
        self.finished[runs] = True

    def prepare(self) -> None:
        """Look whether all results can be kept, now that there is work to do."""
        if self.file is not None:
            self.file.prepare(self.finished.nbytes + sum(values.nbytes for values in self.results))

    def save(self) -> None:
        """Write what is finished, complete or not at all."""
        if self.file is not None:
            finished = self.finished.copy()
            arrays = {name: values[finished] for name, values in self.results._asdict().items()}
            self.file.write({"finished": finished} | arrays)

    def finish(self) -> None:
        """Say so if the results are not all in the file."""
        if self.file is not None:
            self.file.finish()

    def _misfit(self, arrays: dict[str, np.ndarray]) -> str | None:
        """What is wrong with the arrays of a file, or None."""
        blank = self.results._asdict()
        if set(arrays) != {"finished", *blank}:
            return f"it holds {', '.join(sorted(arrays))}"
        finished = arrays["finished"]
        if finished.dtype != bool or finished.shape != self.finished.shape:
            return f"finished is {finished.dtype} of shape {finished.shape}"
        for name, values in blank.items():
            array, shape = arrays[name], (int(finished.sum()), *values.shape[1:])
            if array.dtype != values.dtype or array.shape != shape:
                return f"{name} is {array.dtype} of shape {array.shape}"
        possible = self.task.possible(type(self.results)(**{name: arrays[name] for name in blank}))
        return None if possible else "numbers are out of range"


# --- lanes ----------------------------------------------------------------------------------------------------


def _lanes(runs: int, workers: int, chunk: int | None, platform: str, bytes_per_run: int) -> int:
    """Lanes of a worker: a power of 2 that fits the cache, and no more than there is work for."""
    scale = 0 if platform == "cpu" else 8
    fitting = min(_LANES << min(scale, 5), max((_LANE_BYTES << scale) // bytes_per_run, 1))
    wanted = fitting if chunk is None else chunk
    enough = -(-runs // workers)
    return 1 << (max(min(wanted, enough), 1) - 1).bit_length()


def _worker(work: _Work, process, seed, task: Job, size: int, fewest: int, device) -> None:
    """Advance lanes in rounds until no start waits and no lane is under way."""
    process, seed, task = (_on(device, tree) for tree in (process, seed, task))
    runs, lanes, turns = np.zeros(0, np.int64), None, 1
    while not work.stop.is_set():
        fresh = work.take(size - len(runs))
        if len(runs) + len(fresh) == 0:
            return
        with work.first_time(size):  # one worker compiles for this size, the others wait for it
            lanes = jax.device_put(_filled(process, lanes, work.starts[fresh], size, task), device)
            runs = np.append(runs, fresh)
            lanes, final, ended, turns = _round(process, lanes, seed, work.numbers[runs], size, task, turns)
        while not ended.any() and not work.stop.is_set():
            lanes, final, ended, turns = _round(process, lanes, seed, work.numbers[runs], size, task, turns)
        gone, left = np.flatnonzero(ended), np.flatnonzero(~ended)
        work.put(runs[gone], task.results(_rows(lanes, gone), np.asarray(final)[gone]))
        lanes, runs = _rows(lanes, left), runs[left]
        while work.empty and size // _SHRINKING >= 4 * fewest and len(runs) <= size // _SHRINKING:
            size //= _SHRINKING


def _round(process, lanes: Any, seed, numbers, size, task: Job, turns: int):
    """Advance; return lanes, positions, which runs ended, and how many turns the next round should take."""
    begun = time.perf_counter()
    padded = np.resize(numbers, size).astype(np.uint32)
    lanes, final, ended = jax.block_until_ready(_advance(process, lanes, seed, padded, task, jnp.int32(turns)))
    ended = np.asarray(ended)[: len(numbers)]
    heard = segments.next_length(turns, time.perf_counter() - begun)  # more would be deaf to Ctrl-C for too long
    if ended.mean() > 0.5:
        turns = max(1, turns // 2)
    elif ended.mean() < 0.2:
        turns = min(2 * turns, task.most_turns)
    return lanes, final, ended, min(turns, heard)


def _filled(process: Process, lanes: Any, starts: np.ndarray, size: int, task: Job) -> Any:
    """The lanes under way, then new ones at `starts`, then idle ones up to `size`."""
    if len(starts) == 0:
        return jax.tree.map(lambda leaf: np.resize(leaf, (size, *leaf.shape[1:])), lanes)
    fresh = jax.tree.map(np.asarray, _begin(task, process, np.resize(starts, (size, starts.shape[1]))))
    if lanes is None:
        return fresh
    return jax.tree.map(lambda old, new: np.concatenate([old, new])[:size], lanes, fresh)


@eqx.filter_jit
def _begin(task: Job, process: Process, starts: jax.Array) -> Any:
    return task.begin(process, starts)


@eqx.filter_jit
def _advance(process, lanes: Any, seed, numbers, task: Job, turns: jax.Array):
    """So many turns of the lanes; lanes, positions, and which are finished."""
    lanes = jax.lax.fori_loop(0, turns, lambda _, lanes: task.turn(process, lanes, seed, numbers), lanes)
    return lanes, task.positions(process, lanes), task.finished(lanes)


def _rows(tree: Any, chosen: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], tree)


def _on(device: jax.Device, tree: Any) -> Any:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.device_put(arrays, device), rest)
