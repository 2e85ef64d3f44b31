"""How long does it stay? First passage of many runs out of a region; every answer accounts for censored runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, precision, records
from flatdyn.core.memory import array_bytes
from flatdyn.core.records import Record
from flatdyn.escape import survival
from flatdyn.processes import Process
from flatdyn.processes.regions import check_inside
from flatdyn.runs import cohorts, fingerprints, queues, stepping
from flatdyn.runs.queues import GOING, StepJob
from flatdyn.runs.stepping import Carry

_RUN_BYTES = 48  # of a run's index, steps and outcome, while it waits and when it is done


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Escapes(Record):
    """First passages of many runs; see :func:`escape_times`.

    Attributes:
        steps: at which each run was first outside, or until which it was seen inside, shape (runs,)
        escaped: whether it left; where False it is censored, shape (runs,)
        diverged: whether it left by leaving the finite numbers, shape (runs,)
        start: where the runs began, shape (runs, dim)
        exit: first position outside; the last one inside if censored or diverged, shape (runs, dim)
        dt: time per step, in steps × lr for continuous time; 1 for a discrete process
    """

    steps: np.ndarray
    escaped: np.ndarray
    diverged: np.ndarray
    start: np.ndarray
    exit: np.ndarray
    dt: np.ndarray
    _form: ClassVar = {
        "steps": "iu runs",
        "escaped": "b runs",
        "diverged": "b runs",
        "start": "f runs dim",
        "exit": "f runs dim",
        "dt": "f",
    }
    _units: ClassVar = {"dt": "time per step"}

    @property
    def direction(self) -> np.ndarray:
        """Unit vectors from start to exit, shape (runs, dim); 0 where a run ended where it began."""
        moved = self.exit - self.start
        most = np.abs(moved).max(axis=1, keepdims=True)
        moved = moved / np.where(most > 0, most, 1)  # whose squares may leave the range of numbers
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        return moved / np.where(length > 0, length, 1)

    def mean(self, **options: Any) -> survival.Mean:
        """E T as (value, standard error, censored share); options of :func:`flatdyn.survival.mean`."""
        return survival.mean(self.steps, self.escaped, **options)

    def median(self, level: float = 0.95) -> survival.Quantile:
        """Median of T with a confidence interval."""
        return survival.median(self.steps, self.escaped, level)

    def quantile(self, q: float, level: float = 0.95) -> survival.Quantile:
        """The time by which a share q has left, with a confidence interval."""
        return survival.quantile(self.steps, self.escaped, q, level)

    def survival(self, at: Any = None, level: float = 0.95) -> survival.Survival:
        """P(T > k) with a confidence band, at `at` or at every time that occurs."""
        return survival.survival(self.steps, self.escaped, at, level)

    def rate(self, after: float | None = None, level: float = 0.95) -> survival.Rate:
        """The rate at which runs leave late, per step."""
        return survival.rate(self.steps, self.escaped, after, level)

    def compare(self, other: Escapes, level: float = 0.95) -> survival.Comparison:
        """This process against another: log-rank test, ratio of means and of hazards."""
        checks.kind("other", other, Escapes, "fd.escape_times(...)")
        return survival.compare(self, other, level)

    def __repr__(self) -> str:
        counts = {"escaped": self.escaped.sum(), "censored": (~self.escaped).sum(), "diverged": self.diverged.sum()}
        return f"Escapes({', '.join(f'{number} {name}' for name, number in counts.items() if number)}; {self.dtype})"


def escape_times(
    process: Process,
    theta0: Any,
    inside: Callable,
    runs: int | None = None,
    max_steps: int = 100_000,
    key: jax.Array | None = None,
    *,
    chunk: int | None = None,
    progress: bool | None = None,
    store: str | Path | None = None,
    version: str | None = None,
) -> Escapes:
    """First passage of many runs out of a region.

        T = min {k ≥ 1 : θₖ not inside},   censored if T > max_steps

    A run that leaves the finite numbers has left every region: it counts as escaped there, and as diverged.

    Args:
        process: what moves; run r draws with (key, r, step), so no result depends on how the work is cut
        theta0: start, shape (dim,), or one per run, shape (runs, dim); its precision is the runs' precision
        inside: region: a :class:`Ball`, :class:`Box`, :class:`Sublevel`, :class:`HalfSpace`, or any JAX function from
            θ, shape (dim,), to a boolean
        runs: how many; needed with a single start
        max_steps: after which a run that is still inside is censored
        key: a JAX key, if the process is random
        chunk: runs that advance together on a device
        progress: show a bar; if not given, after two seconds
        store: a folder that keeps finished runs; the same call goes on from there after an interruption
        version: a text that stands for what `store` can't see of the process or the region, such as a callback
    Returns:
        Escapes
    Raises:
        ValueError: if a start is not inside, shapes or counts do not fit, a key is missing, or `store` holds another
            call's runs, or can't be distinguished from another call's
        OSError: if `store` can't be written, before the first step; later on that is a warning
        TypeError: if `inside` is not a function
    """
    checks.kind("process", process, Process)
    starts = _starts(process, theta0, runs)
    max_steps = _check_most(max_steps)
    inside = check_inside(inside, starts)
    config = {"process": records.described(process), "inside": records.described(inside)}
    config |= {"max_steps": str(max_steps), "runs": str(len(starts))}
    identity = {"fingerprint": _identity(process, inside, starts, key, version)} if store is not None else {}
    task = _Leaving(stepping.prepared(inside, starts.dtype), precision.on_device(np.int32(max_steps)))
    options = {"key": key, "chunk": chunk, "progress": progress, "store": store}
    outcome = queues.run(process, starts, task, config=config | identity, **options)
    return Escapes(config=config, provenance=records.provenance(), start=starts, dt=_dt(process), **outcome._asdict())


def escapes_together(
    processes: Sequence[Process],
    theta0: Any,
    inside: Callable,
    runs: int | None = None,
    max_steps: int = 100_000,
    keys: Sequence[jax.Array | None] | None = None,
    *,
    chunk: int | None = None,
    progress: bool | None = None,
) -> list[Escapes]:
    """What :func:`escape_times` gives for each of several processes, which move as one ensemble.

    Args:
        processes: which differ in numbers only: :func:`flatdyn.runs.cohorts.batches` says which do
        keys: one for each, if they are random
        theta0, inside, runs, max_steps, chunk, progress: as for :func:`escape_times`, the same for all
    Returns:
        one Escapes for each process. It does not depend on the others
    """
    starts = _starts(processes[0], theta0, runs)
    inside = check_inside(inside, starts)
    max_steps = _check_most(max_steps)
    for process in processes:
        process.check(jax.device_put(starts[:1] if np.ndim(theta0) == 1 else starts))
    cohort = cohorts.joined(processes, keys, len(starts), starts.dtype)
    test = stepping.prepared(cohorts.Within(inside), starts.dtype)
    task = _Leaving(test, precision.on_device(np.int32(max_steps)))
    key = cohorts.driving_key(cohort)
    outcome = queues.run(cohort, cohort.starts(starts), task, key=key, chunk=chunk, progress=progress)
    outcome = outcome._replace(exit=outcome.exit[:, :-1])
    config = {"inside": records.described(inside), "max_steps": str(max_steps), "runs": str(len(starts))}
    given, escapes, words = records.provenance(), [], cohorts.described(processes)
    for process, rows, word in zip(processes, cohort.slices(), words, strict=True):
        own = {name: values[rows] for name, values in outcome._asdict().items()} | {"start": starts, "dt": _dt(process)}
        escapes.append(Escapes(config=config | {"process": word}, provenance=given, **own))
    return escapes


class _Outcome(NamedTuple):
    """Results of runs, shapes (runs,) and (runs, dim)."""

    steps: np.ndarray
    escaped: np.ndarray
    diverged: np.ndarray
    exit: np.ndarray


_CENSORED, _LEFT, _DIVERGED = range(3)


class _Lane(NamedTuple):
    """What a lane carries: its run, and how it ended."""

    carry: Carry
    ended: jax.Array


class _Leaving(StepJob):
    """Until a run is outside."""

    inside: Callable
    max_steps: jax.Array

    def begin(self, process, starts):
        return _Lane(stepping.at_rest(process, starts), jnp.full(len(starts), GOING, jnp.int32))

    def step(self, process, lane, seed, number):
        after = stepping.guarded_step(process, lane.carry, seed, number, lane.carry.taken, jnp.inf)
        left = ~self.inside(process.position(after.state))
        out_of_time = jnp.where(after.taken >= self.max_steps, _CENSORED, GOING)
        ended = jnp.where(after.alive, jnp.where(left, _LEFT, out_of_time), _DIVERGED)
        ended = jnp.where(lane.carry.alive, ended, lane.ended)
        return _Lane(after._replace(alive=ended == GOING), ended.astype(jnp.int32))

    def blank(self, starts):
        never = np.zeros(len(starts), bool)
        return _Outcome(np.zeros(len(starts), np.int64), never, never.copy(), np.array(starts))

    def outcome(self, process, lanes):
        return lanes.ended, lanes.carry.taken, jax.vmap(process.position)(lanes.carry.state)

    def results(self, outcome):
        ended, taken, positions = outcome
        diverged = ended == _DIVERGED
        # A diverged run stands at its last good position, one step before the step that left.
        return _Outcome(taken + diverged, ended != _CENSORED, diverged, positions)

    def possible(self, results):
        steps, most = results.steps, int(self.max_steps)
        ranges = (steps >= 1) & (steps <= most) & (results.escaped | (steps == most) & ~results.diverged)
        return bool(ranges.all() and not np.isnan(results.exit).any())


def _check_most(max_steps: Any) -> int:
    max_steps = checks.count("max_steps", max_steps, at_least=1)
    if max_steps >= 2**31:
        raise ValueError(
            f"max_steps must be below 2**31, got {max_steps}: ask flatdyn.escape.multilevel_splitting for rare escapes"
        )
    return max_steps


def _dt(process: Process) -> np.ndarray:
    """Time per step."""
    return np.asarray(getattr(process, "dt", 1.0), float)


def _starts(process: Process, theta0: Any, runs: int | None) -> np.ndarray:
    theta0 = checks.points("theta0", theta0, process.dim)
    if theta0.ndim == 1:
        if runs is None:
            raise ValueError("runs must be given with a single start: how many times is it left?")
        runs = checks.count("runs", runs, at_least=1)
        needed = runs * (array_bytes(2, process.dim, itemsize=theta0.dtype.itemsize) + _RUN_BYTES)
        memory.check_memory(needed, "the runs", "ask for fewer `runs`, with several keys one after the other")
        return np.tile(np.asarray(theta0), (runs, 1))
    if runs not in (None, len(theta0)) or not len(theta0):
        raise ValueError(f"theta0 holds {len(theta0)} starts, but runs={runs}: give one start, or as many as runs")
    return np.asarray(theta0)


def _identity(process: Process, inside: Callable, starts: np.ndarray, key: Any, version: str | None) -> str:
    """What distinguishes this call's unfinished work from another's."""
    moves = fingerprints.of_process(process, starts.dtype, version)
    region = fingerprints.of_function(inside, process.dim, starts.dtype, version)
    return records.digest(moves, region, starts, fingerprints.of_key(key))
