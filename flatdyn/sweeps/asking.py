"""Asking: the question put to one cell or to several together, wherever that happens, in this process or in another."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from flatdyn.core import records
from flatdyn.core.leases import Leases
from flatdyn.processes import Process
from flatdyn.runs import stepping
from flatdyn.sweeps.grid import Results, Store, describe, name_of
from flatdyn.sweeps.results import as_results


class Errand(NamedTuple):
    """One cell and seed to be asked.

    Attributes:
        index: its number in the sweep
        cell: its hyperparameters by name
        seed: index of the repetition
        header: all that its results depend on; None without a store
    """

    index: int
    cell: dict[str, Any]
    seed: int
    header: dict[str, Any] | None = None

    @property
    def file(self) -> str:
        """The name of its file in the store."""
        return name_of(self.header)


class Outcome(NamedTuple):
    """What has become of a task: results, or an error, or nothing, as another call has it.

    Attributes:
        index: as in the task
        results: what the ask gave
        provenance: what it was computed with; None for what another call has
        seconds: what it took; None if it is not known
        kept: whether it is in the store
        error: a ValueError or RuntimeError that names the cell
    """

    index: int
    results: Results | None = None
    provenance: dict[str, Any] | None = None
    seconds: float | None = None
    kept: bool = False
    error: Exception | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether another call computes it."""
        return self.results is None and self.error is None


@dataclass(frozen=True, eq=False)
class Question:
    """What a sweep asks in its cells.

    Attributes:
        make_process: from hyperparameters to a process
        ask: (process, key) -> answer. If it has methods `batches(processes) -> lists of indices` and `together
            (processes, keys) -> answers`, cells that it puts into one list are asked together
        name: of a result to which the ask gives none
    """

    make_process: Callable[..., Process]
    ask: Callable[[Process, jax.Array | None], Any]
    name: str

    @property
    def joins(self) -> bool:
        """Whether the ask answers many cells as one program."""
        return all(callable(getattr(self.ask, method, None)) for method in ("together", "batches"))

    def built(self, cell: Mapping[str, Any], key: jax.Array | None) -> Process:
        """The process of a cell.

        Raises:
            ValueError: if it is none, or needs a key; or, as RuntimeError, what else `make_process` raises
        """
        with blame("make_process", describe(cell)):
            process = self.make_process(**cell)
            if not isinstance(process, Process):
                raise ValueError(f"it must return a Process, got {type(process)}")
            stepping.check_key(process, key)
        return process

    def answers(self, tasks: Sequence[Errand], keys: Sequence, processes: Sequence | None = None) -> Iterator[Outcome]:
        """The outcome of each task; of those that the ask answers together an error belongs to one of them.

        Args:
            tasks: several if the ask answers them together
            keys: of each
            processes: of each, if they are made already
        """
        if len(tasks) > 1:
            joined = self._together(tasks, keys, processes)
            if joined is not None:
                yield from joined
                return
        for i, (task, key) in enumerate(zip(tasks, keys, strict=True)):
            begun = time.perf_counter()
            try:
                process = processes[i] if processes else self.built(task.cell, key)
                with blame("ask", describe(task.cell, task.seed)):
                    results = as_results(self.ask(process, key), self.name)
            except Exception as error:
                yield Outcome(task.index, error=error)
            else:
                yield Outcome(task.index, results, records.provenance(), time.perf_counter() - begun)

    def _together(self, tasks: Sequence[Errand], keys: Sequence, processes: Sequence | None) -> list[Outcome] | None:
        """None, and a warning, if that fails: each cell by itself says which is to blame, and needs less memory."""
        begun = time.perf_counter()
        try:
            processes = processes or [self.built(task.cell, key) for task, key in zip(tasks, keys, strict=True)]
            answers = list(self.ask.together(list(processes), list(keys)))
            if len(answers) != len(tasks):
                raise ValueError(f"it gave {len(answers)} answers for {len(tasks)} cells")
            results = [as_results(answer, self.name) for answer in answers]
        except Exception as error:
            warnings.warn(
                f"{len(tasks)} cells, the first of them {describe(tasks[0].cell, tasks[0].seed)}, could not be asked "
                f"together ({type(error).__name__}: {error}): each is asked by itself",
                stacklevel=2,
            )
            return None
        seconds = (time.perf_counter() - begun) / len(tasks)
        given = records.provenance()
        return [Outcome(task.index, one, given, seconds) for task, one in zip(tasks, results, strict=True)]


def leased(tasks: Sequence[Errand], store: Store | None, leases: Leases | None, ask: Callable) -> Iterator[Outcome]:
    """Outcomes of tasks of which this process can have the leases. A lease is given back when its outcome is used.

    Args:
        tasks: several if the ask answers them together
        store, leases: of the sweep; None if there is no store
        ask: from those tasks that are left to the iterator of their outcomes
    """
    mine = []
    try:
        for task in tasks:
            if leases is None:
                mine.append(task)
            elif not leases.take(task.file):
                yield Outcome(task.index)
            elif (before := store.read(task.header)) is not None:
                leases.free(task.file)  # finished between the last look and the lease
                yield Outcome(task.index, *before, kept=True)
            else:
                mine.append(task)
        files = {} if leases is None else {task.index: task.file for task in mine}
        for outcome in ask(mine) if mine else ():
            yield outcome
            if leases is not None:
                leases.free(files[outcome.index])
    finally:
        if leases is not None:
            for task in mine:
                leases.free(task.file)


@contextlib.contextmanager
def blame(who: str, where: str) -> Iterator[None]:
    """Errors that say in which cell they happened."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{who}, in the cell {where}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{who}, in the cell {where}: {type(error).__name__}: {error}") from error
