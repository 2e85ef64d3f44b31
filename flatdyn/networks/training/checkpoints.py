"""The file of a training under way: from it the same call goes on after an interruption."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import records, stores
from flatdyn.processes import Process
from flatdyn.runs import devices, observers, stepping
from flatdyn.runs.devices import Chunk

_FORM = {"loss": "f runs times", "marks": "f runs times sets", "seconds": "f", "parts": "i parts four"}


@dataclasses.dataclass
class Progress:
    """How far a training has come.

    Attributes:
        parts: the runs in chunks
        loss: shape (runs, times); NaN where it is not known yet
        metrics: shape (runs, times, sets); NaN likewise
        observed: shape (runs, times, columns); NaN likewise
        seconds: spent so far
        done: steps that a chunk has taken, by the number of its first run
        carries: what the runs of a chunk carry after these steps, likewise
    """

    parts: list[Chunk]
    loss: np.ndarray
    metrics: np.ndarray
    observed: np.ndarray
    seconds: float = 0.0
    done: dict[int, int] = dataclasses.field(default_factory=dict)
    carries: dict[int, observers.Watched] = dataclasses.field(default_factory=dict)

    @classmethod
    def blank(cls, parts: list[Chunk], runs: int, times: int, sets: int, columns: int) -> Self:
        """Nothing is done."""
        return cls(parts, *(np.full((runs, times, *more), np.nan) for more in ((), (sets,), (columns,))))


class Checkpoint:
    """A file that keeps the :class:`Progress` of one training.

    Its words are those of the first version, marks and measure, so that training that an earlier version began goes on.

    Args:
        store: the folder
        config: what identifies the training, as in its record
        process: what moves, with its numbers as arrays
        starts: shape (runs, dim)
        steps: of each run
        watching: what is measured on the way
    """

    def __init__(
        self,
        store: str | Path,
        config: dict[str, str],
        process: Process,
        starts: jax.Array,
        steps: int,
        watching: observers.Watch | None = None,
    ):
        config = {"measure" if name == "metric" else name: value for name, value in config.items()}
        self.file = stores.File(store, config, "another training")
        self.process, self.starts, self.steps, self.watching = process, starts, steps, watching
        self.form = _FORM | ({} if watching is None else {"observed": "f runs times columns"})

    def read(self, blank: Progress) -> Progress:
        """What the file holds, or `blank` if it holds nothing that is done.

        Raises:
            ValueError: if it is damaged, or another training's
        """
        arrays = self.file.read(functools.partial(self._misfit, blank))
        if arrays is None or not arrays["parts"][:, 3].any():
            return blank  # chunks in which nothing is done may have been too large for the device
        parts = [Chunk(start, length, _padded(size)) for start, length, size, _ in arrays["parts"].tolist()]
        observed = arrays.get("observed", blank.observed)
        progress = Progress(parts, arrays["loss"], arrays["marks"], observed, float(arrays["seconds"]))
        for part, done in zip(parts, arrays["parts"][:, 3].tolist(), strict=True):
            if done:
                structure = jax.tree.structure(self._carried(self.starts[:1]))
                leaves = [arrays[f"carry.{part.start}.{i}"][: part.length] for i in range(structure.num_leaves)]
                padded = [devices.place(_fill(leaf, part.size)) for leaf in leaves]
                progress.done[part.start], progress.carries[part.start] = done, jax.tree.unflatten(structure, padded)
        return progress

    def prepare(self, progress: Progress) -> None:
        """Raise CannotWrite if the whole training can't be kept."""
        leaves = jax.tree.leaves(self._carried(self.starts))
        carried = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        self.file.prepare(carried + progress.loss.nbytes + progress.metrics.nbytes + progress.observed.nbytes)

    def write(self, progress: Progress) -> None:
        """Write everything, complete or not at all; a failure is a warning."""
        arrays = {"loss": progress.loss, "marks": progress.metrics, "seconds": np.asarray(progress.seconds)}
        if self.watching is not None:
            arrays["observed"] = progress.observed
        arrays["parts"] = np.array([(*part, progress.done.get(part.start, 0)) for part in progress.parts])
        for start, carry in progress.carries.items():
            for i, leaf in enumerate(jax.tree.leaves(carry)):
                arrays[f"carry.{start}.{i}"] = np.asarray(leaf)
        self.file.write(arrays)

    def finish(self) -> None:
        """Say so if the end of the training is not in the file."""
        self.file.finish()

    def _carried(self, starts: jax.Array) -> observers.Watched:
        """Shapes of what runs from `starts` carry."""

        def begun(starts):
            runs = stepping.at_rest(self.process, starts)
            seed = jnp.zeros(2, jnp.uint32) if self.process.random else None
            numbers = jnp.zeros(len(starts), jnp.uint32)
            return observers.Watched(runs, observers.begun(self.watching, self.process, runs, seed, numbers))

        return jax.eval_shape(begun, starts)

    def _misfit(self, blank: Progress, arrays: dict[str, np.ndarray]) -> str | None:
        """What is wrong with the arrays of a file, or None."""
        problem = records.misfit(arrays, self.form)
        if problem:
            return problem
        parts, shapes = arrays["parts"], (arrays["loss"].shape, arrays["marks"].shape, arrays["parts"].shape[1])
        if shapes != (blank.loss.shape, blank.metrics.shape, 4):
            return f"loss, marks and parts have shapes {shapes}"
        if self.watching is not None and arrays["observed"].shape != blank.observed.shape:
            return f"observed has shape {arrays['observed'].shape}"
        ends = np.append(0, np.cumsum(parts[:, 1]))
        whole = (parts[:, 0] == ends[:-1]).all() and ends[-1] == len(self.starts) and (parts[:, 1] > 0).all()
        taken = ((parts[:, 3] >= 0) & (parts[:, 3] <= self.steps)).all()
        if not (whole and taken and (parts[:, 2] >= parts[:, 1]).all() and arrays["seconds"] >= 0):
            return "its parts do not make up the runs"
        wanted = set(self.form)
        for start, length, size, done in parts[parts[:, 3] > 0].tolist():
            leaves = jax.tree.leaves(self._carried(self.starts[start : start + length]))
            for i, leaf in enumerate(leaves):
                name, shape = f"carry.{start}.{i}", (size, *leaf.shape[1:])
                array = arrays[name]
                if array.shape != shape or array.dtype != leaf.dtype:
                    return f"{name} is {array.dtype} of shape {array.shape}"
                wanted.add(name)
            last = len(jax.tree.leaves(self._carried(self.starts[:1]).runs))
            alive, steps = (arrays[f"carry.{start}.{last - k}"][:length] for k in (2, 1))
            if not (steps <= done).all() or (steps[alive] != done).any():
                return "steps do not fit what was done"
        return None if set(arrays) == wanted else f"it holds {', '.join(sorted(set(arrays) ^ wanted))}"


def _padded(size: int) -> int:
    """A size of chunks that all devices share, should there be others than when the file was written."""
    return size + -size % len(jax.local_devices())


def _fill(rows: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
