"""The work of a sweep: units of one cell, or of several that are asked together, done here or by an executor's workers.

Each outcome is kept, checked and counted as it comes. Cells that another call of the same sweep computes are left to
it, and read when they are there, or taken over if it dies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from flatdyn.core import checks
from flatdyn.core.leases import Leases
from flatdyn.core.progress import Bar, Lines
from flatdyn.processes import Process
from flatdyn.sweeps.asking import Errand, Outcome, Question, blame, leased
from flatdyn.sweeps.grid import Results, Store, describe
from flatdyn.sweeps.manifest import Manifest
from flatdyn.sweeps.results import Layout

_LOG = logging.getLogger(__name__)
_PAUSE = 0.05, 1.0  # seconds between two looks at what another call computes: at first, at most


class Asked(NamedTuple):
    """All that a sweep asks, seeds fastest.

    Attributes:
        tasks: all cells and seeds in order
        keys: of each
        processes: of each, by index, if the ask answers several together
        words: for each what a worker's process must be
    """

    tasks: list[Errand]
    keys: list[jax.Array | None]
    processes: dict[int, Process]
    words: list[str]

    def add(self, cell: dict, seed: int, header: dict | None, key: Any, process: Process | None, word: str) -> None:
        """One more."""
        index = len(self.tasks)
        self.tasks.append(Errand(index, cell, seed, header))
        self.keys.append(key)
        self.words.append(word)
        if process is not None:
            self.processes[index] = process


@dataclass(eq=False)
class Unit:
    """What is asked in one go.

    Attributes:
        tasks: one, or several that the ask answers together
        tries: workers that have died over it
        sent: whether the question has to travel with it
    """

    tasks: list[Errand]
    tries: int = 0
    sent: bool = False


@dataclass
class Gathering:
    """One call's question, and what is known of the answers.

    Attributes:
        question: what is asked
        asked: in which cells
        store, leases, manifest: None without a folder
        layout: which all answers have
        bar: counts them
        results: of what is finished, with provenance, by index
    """

    question: Question
    asked: Asked
    store: Store | None
    manifest: Manifest | None
    layout: Layout
    bar: Bar | Lines
    leases: Leases | None = None
    results: dict[int, tuple[Results, dict]] = field(default_factory=dict)
    _said: bool = False

    def read(self) -> list[Errand]:
        """Take what the store has; what is left to do."""
        for task in self.asked.tasks if self.store else ():
            before = self.store.read(task.header)
            if before is not None:
                self.take(Outcome(task.index, *before, kept=True))
        return [task for task in self.asked.tasks if task.index not in self.results]

    def take(self, outcome: Outcome, worker: str = "") -> None:
        """Keep an outcome, check that it has the form of the others, count it.

        Raises:
            ValueError, RuntimeError: that of the cell
        """
        task = self.asked.tasks[outcome.index]
        if outcome.error is not None:
            if self.manifest is not None:
                self.manifest.failed(task, outcome.error)
            raise outcome.error
        if outcome.index in self.results:  # done twice, with the same bits
            return
        kept = outcome.results, outcome.provenance, outcome.seconds
        if self.store is not None and not (outcome.kept and self.store.there(task.header)):
            self.store.write(task.header, *kept)
        with blame("ask", describe(task.cell, task.seed)):
            self.layout.check(outcome.results)
        self.results[outcome.index] = kept[:2]
        if self.manifest is not None:
            self.manifest.done(task, outcome.seconds, worker, new=bool(worker) or not outcome.kept)
        self.bar.update()

    def say_elsewhere(self, tasks: Sequence[Errand]) -> None:
        """Say once that another call computes some of the cells."""
        if not self._said:
            self._said = True
            holder = self.leases.holder(tasks[0].file) or "another process"
            _LOG.warning(
                "%s computes cells of the same sweep in %s, the first of them %s: this call does the others, and "
                "reads those when they are there",
                holder,
                self.store.folder.path,
                describe(tasks[0].cell, tasks[0].seed),
            )

    # --- who does what ----------------------------------------------------------------------------------------

    def units(self, tasks: list[Errand], most: int | None = None) -> list[Unit]:
        """Units of tasks: as the ask says if it answers several together, else one by one.

        Args:
            tasks: what is left to do
            most: tasks in a unit
        Raises:
            ValueError: if the ask leaves a cell out, or has it twice
        """
        if not self.question.joins or not tasks:
            return [Unit([task]) for task in tasks]
        groups = checks.listed(self.question.ask.batches([self.asked.processes[task.index] for task in tasks])) or []
        groups = [[int(i) for i in group] for group in groups]
        if sorted(i for group in groups for i in group) != list(range(len(tasks))):
            raise ValueError(
                f"ask.batches must give lists of indices in which each of 0 … {len(tasks) - 1} stands once, got "
                f"{checks.shown(groups)}"
            )
        most = most or len(tasks)
        cut = [group[i : i + most] for group in groups for i in range(0, len(group), most)]
        return [Unit([tasks[i] for i in group]) for group in cut]

    def here(self, units: Sequence[Unit]) -> None:
        """Do the work in this process."""
        left, pause = [unit.tasks for unit in units], _PAUSE[0]

        def ask(tasks: list[Errand]) -> Iterator[Outcome]:
            made = [self.asked.processes[task.index] for task in tasks] if self.question.joins else None
            return self.question.answers(tasks, [self.asked.keys[task.index] for task in tasks], made)

        while left:
            before, elsewhere = len(self.results), []
            for tasks in left:
                others = []
                for outcome in leased(tasks, self.store, self.leases, ask):
                    if outcome.elsewhere:
                        others.append(self.asked.tasks[outcome.index])
                    else:
                        self.take(outcome)
                elsewhere += [others] if others else []
            left = elsewhere
            if left:
                self.say_elsewhere(left[0])
                pause = _PAUSE[0] if len(self.results) > before else min(2 * pause, _PAUSE[1])
                time.sleep(pause)
