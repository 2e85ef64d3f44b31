"""Training of networks, many at once: evaluations on the way, checkpoints, and a record of it all."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, curves, memory, precision, programs, records, segments, stores
from flatdyn.core.records import Record, Status
from flatdyn.core.renaming import moved_keyword, renamed_attribute
from flatdyn.networks.data import Split
from flatdyn.networks.training.checkpoints import Checkpoint, Progress
from flatdyn.networks.training.tasks import Task
from flatdyn.processes import Process
from flatdyn.runs import devices, fingerprints, loop, observers, stepping
from flatdyn.runs.stepping import Carry


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Training(curves.Observed, Record):
    """Networks in training; see :func:`train`.

    Attributes:
        times: steps after which the networks were evaluated, 0 first, shape (times,)
        loss: training loss, on at most 4096 examples, shape (runs, times); NaN after a run has ended early
        metrics: accuracy, or mean squared error, on the evaluation sets, shape (runs, times, sets); NaN likewise
        eval_names: names of these sets, shape (sets,)
        theta: where each run ended, shape (runs, dim)
        status: a :class:`flatdyn.Status` per run, shape (runs,)
        steps: taken by each run, shape (runs,)
        seconds: that the training took, evaluation and compiling included, over all interruptions, shape ()
        observed: what `watch` measured at these times, shape (runs, times, columns), which :meth:`curve` gives by name;
            NaN after a run has ended early, and where a measurement was not finite
    """

    times: np.ndarray
    loss: np.ndarray
    metrics: np.ndarray
    eval_names: np.ndarray
    theta: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
    observed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0, 0)))
    _form: ClassVar = {
        "times": "iu times",
        "loss": "f runs times",
        "metrics": "f runs times sets",
        "eval_names": "U sets",
        "theta": "f runs dim",
        "status": "iu runs",
        "steps": "iu runs",
        "seconds": "f",
    }
    _dims: ClassVar = {"observed": "runs times columns"}
    _units: ClassVar = {"metrics": "accuracy or squared error", "observed": ""}
    _asked: ClassVar = ("metric",)

    def metric(self, name: str) -> np.ndarray:
        """The metric on the evaluation set of this name, shape (runs, times)."""
        checks.text("name", name)
        if name not in self.eval_names:
            raise ValueError(f"{name!r} was not evaluated, only {', '.join(self.eval_names) or 'nothing'}")
        return self.metrics[..., list(self.eval_names).index(name)]

    def last(self, name: str) -> np.ndarray:
        """The metric at the last evaluation, shape (runs,)."""
        return self.metric(name)[:, -1]

    def early_stopped(self, by: str, name: str) -> np.ndarray:
        """Early stopping: the metric on `name` when that on `by` was best for the first time, shape (runs,)."""
        checks.text("by", by)
        checks.text("name", name)
        better = self.metric(by) if self.config["metric"] == "accuracy" else -self.metric(by)
        best = np.argmax(np.nan_to_num(better, nan=-np.inf), axis=1)
        return self.metric(name)[np.arange(len(best)), best]

    final = renamed_attribute("last")
    marks = renamed_attribute("metrics")
    of = renamed_attribute("metric")
    stopped = renamed_attribute("early_stopped")
    watched = renamed_attribute("eval_names")

    def __repr__(self) -> str:
        return (
            f"Training({len(self.loss)} networks x {self.times[-1]} steps, evaluated on {', '.join(self.eval_names)})"
        )


def train(
    task: Task,
    process: Process,
    starts: Any,
    steps: int,
    key: jax.Array | None = None,
    every: int | None = None,
    *,
    eval_sets: Mapping[str, Split] | None = None,
    watch: Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    version: str | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
) -> Training:
    """Train networks side by side and evaluate them on the way.

        θ₀ given,   stateₖ₊₁ = process.step(stateₖ, key(run, k)),   metrics after 0, every, 2·every, … steps

    The runs are those of :func:`flatdyn.simulate`, with the same key the same numbers; instead of whole trajectories
    this keeps metrics. They are evaluated at `process.position`: of an averaging method at the average.
    A run that leaves the finite numbers is DIVERGED and keeps its last good weights.

    Args:
        task: whose networks are evaluated
        process: what moves them, an :class:`flatdyn.Iteration` on `task.landscape` or an :class:`flatdyn.Extended` one,
            whose runs have hyperparameters of their own
        starts: θ₀, shape (runs, dim) or (dim,), as `task.starts` makes them
        steps: number of steps
        key: a JAX key, if the process is random
        every: steps between evaluations; a twentieth of all if not given
        eval_sets: data to evaluate on, by name
        watch: what else to measure whenever the networks are evaluated, by name: observers, such as
            `curvature.TopEigenvalues(3)`, which begin each measurement with what the one before gave, and functions
            of the full state; `Training.curve(name)` gives them
        store: a folder that keeps weights, velocities and metrics every 20 seconds and when interrupted; the same call
            goes on from there, and its result is that of an uninterrupted one
        version: a text that stands for what `store` can't see of the process or the task, such as a callback
        chunk: networks that advance together; chosen by the memory of the device if not given. Others give the same
            networks to rounding, as XLA chooses the order of a sum by what lies beside it
        progress: show a bar; if not given, after two seconds
    Returns:
        Training
    Raises:
        ValueError: if starts, counts or key do not fit, the process moves something else than the task's networks, or
            `store` holds another call's training, or is damaged
        OSError: if `store` can't be written, before the first step; later on that is a warning
    """
    checks.kind("task", task, Task, "flatdyn.networks.classifier(network, data)")
    checks.kind("process", process, Process)
    if process.dim < task.dim:
        raise ValueError(f"process moves {process.dim} coordinates, the task's networks have {task.dim}")
    starts = checks.points("starts", starts, process.dim)
    starts = starts if starts.ndim == 2 else precision.on_device(np.asarray(starts)[None])
    steps = stepping.check_steps("steps", steps, at_least=1)
    every = max(1, steps // 20) if every is None else stepping.check_steps("every", every, 1)
    if isinstance(watch, Mapping) and watch and all(isinstance(one, Split) for one in watch.values()):
        eval_sets, watch = moved_keyword("train", "watch", "eval_sets", watch, eval_sets), None
    eval_sets = dict(checks.mapping("eval_sets", {} if eval_sets is None else eval_sets, "name -> Split"))
    layout, watching = _watching(watch, process, starts)
    columns = sum(math.prod(shape) for shape in layout.values())
    needed = memory.array_bytes(len(starts), 1 + steps // every, 1 + len(eval_sets) + columns)
    memory.check_memory(needed, "the curves", "evaluate less often, with a larger `every`")
    states = 3 * len(starts) * devices.state_bytes(process, starts.dtype)  # a step back, now, and in the record
    memory.check_memory(states, "the networks", "train fewer at once, in `starts`", device=states)
    process.check(starts)
    config = {"process": records.described(process), "steps": str(steps), "every": str(every), "metric": task.metric}
    if watching is not None:
        config["observed"] = curves.as_text(layout)
    sets = {name: jax.tree.map(precision.on_device, split) for name, split in eval_sets.items()}
    given, seed = process, stepping.seed_of(process, key)
    process = stepping.prepared(process, starts.dtype)
    checkpoint = None
    if store is not None:
        config["fingerprint"] = _identity(task, sets, given, starts, key, version, watching)
        checkpoint = Checkpoint(store, config, process, starts, steps, watching)
    asked = _Asked(task, process, seed, starts, steps, every, sets, watching)

    def attempt(chunk: int | None) -> _Networks:
        parts = devices.chunks(process, starts, chunk)
        done = Progress.blank(parts, len(starts), 1 + steps // every, len(sets), columns)
        work = _Networks(asked, done if checkpoint is None else checkpoint.read(done), checkpoint)
        work.run(progress)
        return work

    finished = devices.fitting(attempt, chunk)
    return Training(
        config=config,
        provenance=records.provenance(),
        times=np.arange(1 + steps // every) * every,
        loss=finished.progress.loss,
        metrics=finished.progress.metrics,
        eval_names=np.array(list(sets), dtype=str),
        theta=finished.theta,
        status=finished.status,
        steps=finished.taken,
        seconds=np.asarray(finished.progress.seconds),
        observed=finished.progress.observed,
    )


def _watching(watch: Any, process: Process, starts: jax.Array) -> tuple[curves.Layout, observers.Watch | None]:
    """What is measured besides, and the columns of its values."""
    if watch is not None:
        watch = checks.mapping("watch", watch, "name -> an observer, such as curvature.TopEigenvalues(3)")
    watching = observers.watch("watch", watch, process, starts.dtype)
    if watching is None:
        return {}, None
    return watching.layout(process, jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)), watching


# --- the parts of train ---------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """What is trained, how long, and how it is evaluated; numbers and data as arrays."""

    task: Task
    process: Process
    seed: jax.Array | None
    starts: jax.Array
    steps: int
    every: int
    sets: dict[str, Split]
    watching: observers.Watch | None


class _Networks(loop.Work):
    """Networks in training, which are evaluated after each period; what is done is kept in a file, if there is one.

    Attributes:
        progress: steps, weights and curves so far
        theta, status, taken: of each run at its end
    """

    def __init__(self, asked: _Asked, progress: Progress, checkpoint: Checkpoint | None):
        super().__init__(asked.process, asked.starts, asked.steps, asked.every, progress.parts)
        self.asked, self.progress, self.checkpoint = asked, progress, checkpoint
        runs = len(asked.starts)
        self.theta = np.empty(asked.starts.shape, asked.starts.dtype)
        self.status, self.taken = np.empty(runs, np.int8), np.empty(runs, np.int64)
        self.first: dict[int, np.ndarray] = {}  # what was measured before the first step, by chunk
        self._lock, self._saved = threading.Lock(), time.monotonic()
        self._begun = time.perf_counter() - progress.seconds

    def run(self, shown: bool | None) -> None:
        """Train to the end, and keep what is done whatever happens."""
        done = self.progress.done
        if self.checkpoint is not None and all(done.get(part.start, 0) == self.steps for part in self.parts):
            self.checkpoint = None  # nothing will change, and the place may be read-only
        if self.checkpoint is not None:
            self.checkpoint.prepare(self.progress)
        try:
            loop.run(self, shown, sum(done.values()))
        finally:
            self._save()
        if self.checkpoint is not None:
            self.checkpoint.finish()

    def begin(self, part):
        done, numbers, carry = super().begin(part)
        if part.start in self.progress.done:
            return self.progress.done[part.start], numbers, self.progress.carries[part.start]
        if self.asked.watching is None:
            return done, numbers, observers.Watched(carry, ())
        memory = _begun(self.asked.watching, self.process, carry, self.asked.seed, numbers)
        self.first[part.start], memory = self._measured(numbers, carry, memory)
        return done, numbers, observers.Watched(carry, memory)

    def compile(self, numbers, carry):
        self.advance(numbers, carry, 0, 0, 1)
        self._evaluated(carry.runs)
        _ended(self.process, carry.runs, self.asked.seed, numbers)

    def advance(self, numbers, carry, done, periods, period):
        steps, memory, seen = precision.on_device(np.int32(periods * period)), carry.memory, None
        runs = _advance(self.process, carry.runs, self.asked.seed, numbers, steps)
        if self.asked.watching is not None and periods and (done + periods * period) % self.every == 0:
            seen, memory = self._measured(numbers, runs, memory)
        return observers.Watched(runs, memory), seen

    def _measured(self, numbers: jax.Array, runs: Carry, memory: tuple) -> tuple[np.ndarray, tuple]:
        """What is watched of the runs of a chunk, shape (runs, columns), and what is remembered of it."""
        rows = runs.state, runs.taken, numbers, memory
        values, memory = segments.mapped(observers.measured, rows, self.asked.watching, self.process, self.asked.seed)
        return values, jax.tree.map(devices.place, memory)

    def keep(self, part, done, carry, seen, stopped):
        if done % self.every == 0:
            values = None if stopped.is_set() else self._evaluated(carry.runs, stopped)
            if values is None:
                return False  # what is kept is from before these steps
            going, slot = np.asarray(carry.runs.alive), done // self.every
            if self.asked.watching is not None:
                values = *values, self.first[part.start] if seen is None else seen
            kept = self.progress.loss, self.progress.metrics, self.progress.observed
            for curve, new in zip(kept[: len(values)], values, strict=True):
                alive = going.reshape(-1, *[1] * (new.ndim - 1))
                curve[part.rows, slot] = np.where(alive, new, np.nan)[: part.length]
        if done:
            with self._lock:
                self.progress.done[part.start], self.progress.carries[part.start] = done, carry
                if time.monotonic() - self._saved > stores.CHECKPOINT_SECONDS:
                    self._save()
        return True

    def end(self, part, numbers, carry):
        carry = carry.runs
        theta, possible = _ended(self.process, carry, self.asked.seed, numbers)
        ended = np.where(possible, Status.DIVERGED, Status.IMPOSSIBLE)
        status = np.where(carry.alive, Status.UNDECIDED, ended)
        for target, values in zip((self.theta, self.status, self.taken), (theta, status, carry.taken), strict=True):
            target[part.rows] = np.asarray(values)[: part.length]

    def _evaluated(self, carry: Carry, stopped: threading.Event | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Loss, shape (runs,), and metrics, shape (runs, sets), of a chunk; None if it was stopped on the way."""
        task, sets = self.asked.task, tuple(self.asked.sets.values())
        theta = _positions(task, self.process, carry)
        loss, sums = segments.mapped(_metrics, theta, task, sets, stopped=stopped)
        if len(loss) < len(theta):
            return None
        metrics = np.zeros((len(loss), len(sets)))
        for i, split in enumerate(sets):
            metrics[:, i] = sums[i] / np.size(split.y)
        return loss, metrics

    def _save(self) -> None:
        """Write what is done, complete or not at all."""
        self._saved, self.progress.seconds = time.monotonic(), time.perf_counter() - self._begun
        if self.checkpoint is not None:
            self.checkpoint.write(self.progress)


def _identity(
    task: Task,
    sets: dict,
    process: Process,
    starts: jax.Array,
    key: Any,
    version: str | None,
    watching: observers.Watch | None,
) -> str:
    """What tells this training from another: process, task, evaluation sets, starts and key, and what is watched."""
    moves = fingerprints.of_process(process, starts.dtype, version)
    evaluated = fingerprints.of_function(
        lambda theta: _metrics(theta, task, tuple(sets.values())), task.dim, starts.dtype, version
    )
    parts = [moves, evaluated, starts, fingerprints.of_key(key)]
    if watching is not None:
        point = jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)
        ready = stepping.prepared(process, starts.dtype)
        parts.append(programs.word(lambda theta: watching.once(ready, theta), point, version=version))
    return records.digest(*parts)


@eqx.filter_jit(compiler_options=stepping.WIDE)
def _advance(process: Process, carry: Carry, seed: Any, numbers: jax.Array, steps: jax.Array) -> Carry:
    return stepping.advanced(process, carry, seed, numbers, steps, jnp.inf)


@eqx.filter_jit
def _begun(watching, process, carry, seed, numbers):
    return observers.begun(watching, process, carry, seed, numbers)


@eqx.filter_jit
def _positions(task: Task, process: Process, carry: Carry) -> jax.Array:
    return jax.vmap(process.position)(carry.state)[:, : task.dim]


def _metrics(theta: jax.Array, task: Task, splits: tuple) -> tuple:
    """Training loss of a run, and the sums of its metric over each split."""
    return task.loss(theta), [task.metric_sum(theta, split) for split in splits]


@eqx.filter_jit
def _ended(process: Process, carry: Carry, seed: Any, numbers: jax.Array) -> tuple:
    """Where runs are, and whether the step after it, which a run that ended early failed to take, exists."""
    theta = jax.vmap(process.position)(carry.state)
    return theta, jax.vmap(stepping.next_exists, (None, 0, None, 0))(process, carry, seed, numbers)
