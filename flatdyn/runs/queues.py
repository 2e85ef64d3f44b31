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

_LANES = 1 << 14  # on a CPU: enough to drown the bookkeeping between rounds, few enough for the cache
_LANE_BYTES = 1 << 19  # of positions, on a CPU: networks have few lanes
_FEWEST_LANES = 1 << 8  # of runs that are neighbours in the processor's vectors
_FILLED = 1 << 2  # times that many lanes are to be filled
_ENOUGH = 1 << 2  # lanes of which one has finished: time to replace them
_SHRINKING = 1 << 5  # fewer lanes by this factor for few runs, and at the end: other sizes would be other programs
_MOST_TURNS = 1 << 20
GOING = -1  # of a run that has not ended


class Job(eqx.Module):
    """What lanes do, and when a run is finished. Its numbers are leaves; it is the same on every device.

    Attributes:
        most_turns: turns that a round may have at most
        looks_every: turns after which is looked how many runs are finished
    """

    most_turns = _MOST_TURNS
    looks_every = 1

    def begin(self, process: Process, starts: jax.Array) -> Any:
        """What lanes carry at the starts, shape (runs, dim): a tree of arrays with the runs in front."""
        raise NotImplementedError

    def turn(self, process: Process, lanes: Any, seed: jax.Array | None, numbers: jax.Array) -> Any:
        """The lanes after one turn; finished ones stand still."""
        raise NotImplementedError

    def finished(self, lanes: Any) -> jax.Array:
        """Which lanes are finished, shape (runs,)."""
        raise NotImplementedError

    def outcome(self, process: Process, lanes: Any) -> Any:
        """What :meth:`results` needs of the lanes, in compiled code: a tree of arrays with the runs in front."""
        raise NotImplementedError

    def results(self, outcome: Any) -> NamedTuple:
        """Results of finished lanes, as NumPy arrays in the form of :meth:`blank`."""
        raise NotImplementedError

    def blank(self, starts: np.ndarray) -> NamedTuple:
        """Results before anything is known: arrays with the runs in front."""
        raise NotImplementedError

    def possible(self, results: NamedTuple) -> bool:
        """Whether results that a file holds could be this task's: numbers within their ranges."""
        raise NotImplementedError


class StepJob(Job):
    """One turn is one step of each run. Lanes carry at least `carry`, and `ended`: GOING, or how the run ended."""

    looks_every = 8

    def step(self, process: Process, lane: Any, seed: jax.Array | None, number: jax.Array) -> Any:
        """One lane after one step."""
        raise NotImplementedError

    def turn(self, process, lanes, seed, numbers):
        return jax.vmap(self.step, (None, 0, None, 0))(process, lanes, seed, numbers)

    def finished(self, lanes):
        return lanes.ended != GOING


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
    fitting = min(_LANES << min(scale, 6), max((_LANE_BYTES << scale) // bytes_per_run, 1))
    enough = -(-runs // workers)
    wanted = fitting if chunk is None else chunk
    if chunk is None and scale == 0 and enough < _FILLED * fitting:
        wanted = min(fitting, _LANES // _SHRINKING)  # or the slowest run would keep many idle
    return 1 << (max(min(wanted, enough), 1) - 1).bit_length()


class _Lanes:
    """The lanes of one worker: what they carry on the device, and which runs are in them (−1: none)."""

    def __init__(self, work: _Work, process, seed, task: Job, size: int, device: jax.Device):
        self.work, self.device = work, device
        self.process, self.seed, self.task = (_on(device, tree) for tree in (process, seed, task))
        self.runs, self.turns = np.full(size, -1), 1
        self.starts = np.repeat(work.starts[:1], size, axis=0)
        shapes = eqx.filter_eval_shape(task.begin, self.process, self.starts)
        self.carried = jax.device_put(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), device)
        self.fresh = np.ones(size, bool)  # idle lanes, too, must hold a possible state

    def fill(self) -> int:
        """Put waiting runs into idle lanes; how many are under way."""
        idle = np.flatnonzero(self.runs < 0)
        new = self.work.take(len(idle))
        lanes = idle[: len(new)]
        self.runs[lanes], self.fresh[lanes], self.starts[lanes] = new, True, self.work.starts[new]
        return len(self.runs) - len(idle) + len(new)

    def advance(self, enough: int) -> None:
        """One round: until `enough` runs have finished, or the segment has been long enough to hear Ctrl-C."""
        begun, busy = time.perf_counter(), self.runs >= 0
        lanes = self.fresh, self.starts, busy, self.work.numbers[self.runs].astype(np.uint32)
        plan = np.array([self.turns, enough], np.int32)
        advanced = _advance(self.process, self.carried, lanes, self.seed, self.task, plan)
        self.carried, outcome, finished, taken = jax.block_until_ready(advanced)
        self.turns = min(segments.next_length(int(taken), time.perf_counter() - begun), self.task.most_turns)
        self.fresh = np.zeros(len(busy), bool)
        gone = np.flatnonzero(np.asarray(finished) & busy)
        if len(gone):
            self.work.put(self.runs[gone], self.task.results(_rows(outcome, gone)))
            self.runs[gone] = -1

    def shrink(self, size: int) -> None:
        """Go on in so many lanes."""
        lanes = np.resize(np.flatnonzero(self.runs >= 0), size)
        runs = self.runs[lanes]
        runs[np.count_nonzero(self.runs >= 0) :] = -1  # copies of others
        self.carried = jax.device_put(_rows(self.carried, lanes), self.device)
        self.runs, self.fresh, self.starts = runs, self.fresh[lanes], self.starts[lanes]


def _worker(work: _Work, process, seed, task: Job, size: int, fewest: int, device) -> None:
    """Advance lanes in rounds until no start waits and no lane is under way."""
    lanes = _Lanes(work, process, seed, task, size, device)
    while not work.stop.is_set() and (under_way := lanes.fill()):
        fewer = size // _SHRINKING
        if work.empty and fewer >= fewest and under_way <= fewer:
            lanes.shrink(fewer)
            size = fewer
        enough = -(-size // _ENOUGH)
        if work.empty:
            enough = under_way - fewer if fewer >= fewest and under_way > fewer else under_way
        with work.first_time(size):  # one worker compiles for this size, the others wait for it
            lanes.advance(enough)


@eqx.filter_jit(compiler_options=stepping.WIDE)
def _advance(process, carried: Any, lanes: tuple, seed, task: Job, plan: jax.Array):
    """Turns of the lanes, some of them fresh, until enough runs have finished; at most so many turns."""
    (fresh, starts, busy, numbers), (turns, enough) = lanes, plan

    def begun(new, old):
        return jnp.where(fresh.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    def going(taken_and_carried):
        taken, carried = taken_and_carried
        return (taken < turns) & ((task.finished(carried) & busy).sum(dtype=jnp.int32) < enough)

    def look(taken_and_carried):
        taken, carried = taken_and_carried
        if task.looks_every == 1:
            return taken + 1, task.turn(process, carried, seed, numbers)
        now = jnp.minimum(task.looks_every, turns - taken)
        carried = jax.lax.fori_loop(0, now, lambda _, carried: task.turn(process, carried, seed, numbers), carried)
        return taken + now, carried

    carried = jax.tree.map(begun, task.begin(process, starts), carried)
    taken, carried = jax.lax.while_loop(going, look, (jnp.int32(0), carried))
    return carried, task.outcome(process, carried), task.finished(carried), taken


def _rows(tree: Any, chosen: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], tree)


def _on(device: jax.Device, tree: Any) -> Any:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.device_put(arrays, device), rest)
