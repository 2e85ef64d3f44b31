"""Training of networks, many at once: evaluations on the way, checkpoints, and a record of it all."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, records, segments, stores
from flatdyn.core.records import Record, Status
from flatdyn.core.renaming import renamed_attribute, renamed_keywords
from flatdyn.networks.data import Split
from flatdyn.networks.training.tasks import Task
from flatdyn.processes import Process
from flatdyn.runs import devices, fingerprints, stepping
from flatdyn.runs.devices import Chunk
from flatdyn.runs.stepping import Carry


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Training(Record):
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
    """

    times: np.ndarray
    loss: np.ndarray
    metrics: np.ndarray
    eval_names: np.ndarray
    theta: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
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


@renamed_keywords(watch="eval_sets")
def train(
    task: Task,
    process: Process,
    starts: Any,
    steps: int,
    key: jax.Array | None = None,
    every: int | None = None,
    *,
    eval_sets: Mapping[str, Split] | None = None,
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
        store: a folder that keeps weights, velocities and metrics every 20 seconds and when interrupted; the same call
            goes on from there, and its result is that of an uninterrupted one
        version: a text that stands for what `store` can't see of the process or the task, such as a callback
        chunk: networks that advance together; chosen by the memory of the device if not given
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
    starts = jnp.atleast_2d(checks.points("starts", starts, process.dim))
    steps = stepping.check_steps("steps", steps, at_least=1)
    every = max(1, steps // 20) if every is None else checks.count("every", every, at_least=1)
    eval_sets = dict(checks.mapping("eval_sets", {} if eval_sets is None else eval_sets, "name -> Split"))
    curves = memory.array_bytes(len(starts), 1 + steps // every, 1 + len(eval_sets))
    memory.check_memory(curves, "the curves", "evaluate less often, with a larger `every`")
    states = 3 * len(starts) * devices.state_bytes(process, starts.dtype)  # a step back, now, and in the record
    memory.check_memory(states, "the networks", "train fewer at once, in `starts`", device=states)
    process.check(starts)
    config = {"process": records.described(process), "steps": str(steps), "every": str(every), "metric": task.metric}
    splits = tuple(jax.tree.map(jnp.asarray, split) for split in eval_sets.values())

    def attempt(chunk: int | None) -> Training:
        work = _Work(
            task, process, starts, steps, every, splits, tuple(eval_sets), key, (store, version), chunk, config
        )
        return work.run(progress)

    return devices.fitting(attempt, chunk)


class _Work:
    """A training under way: what each chunk of runs carries, its curves, and the file that keeps both."""

    def __init__(self, task, process, starts, steps, every, splits, names, key, kept, chunk, config):
        self.task, self.steps, self.every, self.splits, self.names = task, steps, every, splits, names
        self.times = np.arange(1 + steps // every) * every
        self.config, self.file, (store, version) = config, None, kept
        self.process = stepping.prepared(process, starts.dtype)
        self.seed = stepping.seed_of(process, key)
        self.parts = devices.chunks(self.process, starts, chunk)
        self.starts, runs = starts, len(starts)
        self.loss = np.full((runs, len(self.times)), np.nan)
        self.metrics = np.full((runs, len(self.times), len(names)), np.nan)
        self.seconds, self._lock = 0.0, threading.Lock()
        self.done: dict[int, int] = {}  # chunk -> steps taken
        self.carries: dict[int, Carry] = {}
        if store is not None:
            self.config = config | {"fingerprint": self._identity(process, key, version)}
            self.file = stores.File(store, _in_the_file(self.config), "another training")
            if kept := self.file.read(self._misfit):
                self._resume(kept)
            if all(self.done.get(part.start, 0) == steps for part in self.parts):
                self.file = None  # nothing will change, and the place may be read-only
            else:
                self.file.prepare(self._size())

    def run(self, progress: bool | None) -> Training:
        begun, kept = time.perf_counter(), self.seconds
        self._saved = time.monotonic()
        total = self.steps * len(self.parts)
        with segments.progress_bar(total, "steps", progress) as bar, devices.memory_guard(self.parts[0].size):
            bar.update(sum(self.done.values()))
            if len(self.parts) > 1:  # compiled here once, and not by each thread for itself
                self._advanced(self._begin(self.parts[0]), 0)
                self._evaluated(self._begin(self.parts[0])[1])

            def one(part: Chunk, stopped: threading.Event) -> None:
                self._train(part, stopped, bar, lambda: kept + time.perf_counter() - begun)

            try:
                devices.side_by_side(one, self.parts)
            finally:
                self.seconds = kept + time.perf_counter() - begun
                self._save()
        if self.file is not None:
            self.file.finish()
        return self._record()

    def _train(self, part: Chunk, stopped: threading.Event, bar: Any, clock: Any) -> None:
        numbers, carry = self._begin(part)
        done, length = self.done.get(part.start, 0), 1
        if done == 0:
            self._evaluate(part, carry, 0, stopped)
        while done < self.steps and not stopped.is_set():
            now = min(length, self.every - done % self.every, self.steps - done)
            begun = time.perf_counter()
            carry = self._advanced((numbers, carry), now)
            length = segments.next_length(now, time.perf_counter() - begun)
            done += now
            if done % self.every == 0 and not self._evaluate(part, carry, done, stopped):
                return  # stopped before it was evaluated: what is kept is from before these steps
            bar.update(now)
            with self._lock:
                self.done[part.start], self.carries[part.start] = done, carry
                self.seconds = clock()
                if time.monotonic() - self._saved > stores.CHECKPOINT_SECONDS:
                    self._save()

    def _begin(self, part: Chunk) -> tuple[jax.Array, Carry]:
        """Numbers of the runs, and what they carry: from the file, else at rest."""
        numbers, carry = stepping.start(self.process, self.starts, part)
        return numbers, self.carries.get(part.start, carry)

    def _advanced(self, numbers_and_carry: tuple, steps: int) -> Carry:
        numbers, carry = numbers_and_carry
        return jax.block_until_ready(_advance(self.process, carry, self.seed, numbers, jnp.int32(steps)))

    def _evaluated(self, carry: Carry, stopped: threading.Event | None = None) -> tuple[np.ndarray, np.ndarray]:
        theta = _positions(self.task, self.process, carry)
        loss, sums = segments.mapped(_metrics, theta, self.task, self.splits, stopped=stopped)
        sizes = [np.size(split.y) for split in self.splits]
        return loss, np.stack([m / n for m, n in zip(sums, sizes, strict=True)] or [[]], -1)

    def _evaluate(self, part: Chunk, carry: Carry, done: int, stopped: threading.Event) -> bool:
        """Put down loss and metrics of the runs, and say that it is done: it is not where the work was stopped."""
        if stopped.is_set():
            return False
        loss, metrics = self._evaluated(carry, stopped)
        if len(loss) < part.size:
            return False
        going, slot = np.asarray(carry.alive), done // self.every
        self.loss[part.rows, slot] = np.where(going, loss, np.nan)[: part.length]
        if self.names:
            self.metrics[part.rows, slot] = np.where(going[:, None], metrics, np.nan)[: part.length]
        return True

    def _record(self) -> Training:
        runs, dim = self.starts.shape
        theta, alive = np.empty((runs, dim), self.starts.dtype), np.empty(runs, bool)
        taken, possible = np.empty(runs, np.int64), np.empty(runs, bool)
        for part in self.parts:
            carry = self.carries[part.start]
            found = (*_ended(self.process, carry, self.seed, self._begin(part)[0]), carry.alive, carry.taken)
            for target, values in zip((theta, possible, alive, taken), found, strict=True):
                target[part.rows] = np.asarray(values)[: part.length]
        status = np.where(alive, Status.UNDECIDED, np.where(possible, Status.DIVERGED, Status.IMPOSSIBLE))
        return Training(
            config=self.config,
            provenance=records.provenance(),
            times=self.times,
            loss=self.loss,
            metrics=self.metrics,
            eval_names=np.array(self.names, dtype=str),
            theta=theta,
            status=status.astype(np.int8),
            steps=taken,
            seconds=np.asarray(self.seconds),
        )

    def _identity(self, process: Process, key: Any, version: str | None) -> str:
        """What tells this training from another: process, task, evaluation sets, starts and key."""
        moves = fingerprints.of_process(process, self.starts.dtype, version)
        evaluated = fingerprints.of_function(
            lambda theta: (self.task.loss(theta), [self.task.metric_sum(theta, split) for split in self.splits]),
            self.task.dim,
            self.starts.dtype,
            version,
        )
        return records.digest(moves, evaluated, self.starts, fingerprints.of_key(key))

    def _size(self) -> int:
        """Bytes that the file may take."""
        carry = jax.eval_shape(lambda one: stepping.at_rest(self.process, one), self.starts)
        leaves = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry))
        return leaves + self.loss.nbytes + self.metrics.nbytes

    def _save(self) -> None:
        """Write everything, complete or not at all."""
        self._saved = time.monotonic()
        if self.file is None:
            return
        arrays = {"loss": self.loss, "marks": self.metrics, "seconds": np.asarray(self.seconds)}
        arrays["parts"] = np.array([(*part, self.done.get(part.start, 0)) for part in self.parts])
        for start, carry in self.carries.items():
            for i, leaf in enumerate(jax.tree.leaves(carry)):
                arrays[f"carry.{start}.{i}"] = np.asarray(leaf)
        self.file.write(arrays)

    def _misfit(self, arrays: dict[str, np.ndarray]) -> str | None:
        """What is wrong with the arrays of a file, or None."""
        form = {"loss": "f runs times", "marks": "f runs times watched", "seconds": "f", "parts": "i parts four"}
        problem = records.misfit(arrays, form)
        if problem:
            return problem
        parts, shapes = arrays["parts"], (arrays["loss"].shape, arrays["marks"].shape, arrays["parts"].shape[1])
        if shapes != (self.loss.shape, self.metrics.shape, 4):
            return f"loss, marks and parts have shapes {shapes}"
        ends = np.append(0, np.cumsum(parts[:, 1]))
        whole = (parts[:, 0] == ends[:-1]).all() and ends[-1] == len(self.starts) and (parts[:, 1] > 0).all()
        taken = ((parts[:, 3] >= 0) & (parts[:, 3] <= self.steps)).all()
        if not (whole and taken and (parts[:, 2] >= parts[:, 1]).all() and arrays["seconds"] >= 0):
            return "its parts do not make up the runs"
        wanted = set(form)
        for start, length, size, done in parts[parts[:, 3] > 0].tolist():
            carry = jax.eval_shape(lambda one: stepping.at_rest(self.process, one), self.starts[start : start + length])
            for i, leaf in enumerate(jax.tree.leaves(carry)):
                name, shape = f"carry.{start}.{i}", (size, *leaf.shape[1:])
                array = arrays[name]
                if array.shape != shape or array.dtype != leaf.dtype:
                    return f"{name} is {array.dtype} of shape {array.shape}"
                wanted.add(name)
            alive, steps = (arrays[f"carry.{start}.{i + k}"][:length] for k in (-1, 0))
            if not (steps <= done).all() or (steps[alive] != done).any():
                return "steps do not fit what was done"
        return None if set(arrays) == wanted else f"it holds {', '.join(sorted(set(arrays) ^ wanted))}"

    def _resume(self, arrays: dict[str, np.ndarray]) -> None:
        self.loss, self.metrics, self.seconds = arrays["loss"], arrays["marks"], float(arrays["seconds"])
        self.parts = [Chunk(start, length, _padded(size)) for start, length, size, _ in arrays["parts"].tolist()]
        for part, done in zip(self.parts, arrays["parts"][:, 3].tolist(), strict=True):
            if done:
                structure = jax.tree.structure(stepping.start(self.process, self.starts, part)[1])
                leaves = [arrays[f"carry.{part.start}.{i}"][: part.length] for i in range(structure.num_leaves)]
                padded = [devices.place(_fill(leaf, part.size)) for leaf in leaves]
                self.done[part.start], self.carries[part.start] = done, jax.tree.unflatten(structure, padded)


def _in_the_file(config: dict[str, str]) -> dict[str, str]:
    """What identifies a training, in the words of its file, which are those of the first version: marks, measure.

    So training that an earlier version began goes on.
    """
    return {"measure" if name == "metric" else name: value for name, value in config.items()}


def _padded(size: int) -> int:
    """A size of chunks that all devices share, should there be others than when the file was written."""
    return size + -size % len(jax.local_devices())


def _fill(rows: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


@eqx.filter_jit
def _advance(process: Process, carry: Carry, seed: Any, numbers: jax.Array, steps: jax.Array) -> Carry:
    return stepping.advanced(process, carry, seed, numbers, steps, jnp.inf)


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
