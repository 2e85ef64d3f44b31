"""Handing out the units of a sweep to the workers of an executor, and taking back what they find.

A few units for each worker are under way at any time; the longest come first where their length is known. A worker
that dies costs its cells another try on another worker. What can't be mended ends the sweep with a sentence; what is
finished is in the store.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import os
import socket
import time
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from flatdyn.sweeps import remote, travel
from flatdyn.sweeps.engine import Gathering, Unit
from flatdyn.sweeps.grid import describe
from flatdyn.sweeps.workers import Processes

_LOG = logging.getLogger(__name__)
_TICK = 0.5  # seconds between two looks around
_FIRST = 64  # units that are given to an executor whose workers are not known
_EACH = 4  # units for each worker that has answered
_SMALL = 1 << 16  # bytes of a question that travels with each unit
_LARGE = 1 << 26  # bytes of all questions that travel at the start
SILENCE = 30.0  # seconds in which nobody works, after which units are handed out again


class Handing:
    """One call's use of an executor.

    Args:
        work: the call
        executor: of whatever kind
    """

    def __init__(self, work: Gathering, executor: concurrent.futures.Executor):
        self.work, self.executor, self.numbers = work, executor, itertools.count()
        self.own = isinstance(executor, Processes)
        self.queue: deque[Unit] = deque()
        self.flying: dict[Future, Unit] = {}
        self.aside: list[Unit] = []  # whose cells another call computes
        self.workers: set[str] = set()
        self.silent, self.patience, self.looked = time.monotonic(), SILENCE, 0.0
        self._warned: set[tuple] = set()
        self._pack()

    def _pack(self) -> None:
        question = self.work.question
        self.word, self.content, self.modules = os.urandom(8).hex(), None, {}
        remote.remember(self.word, question)
        try:
            self.content, self.modules = travel.packed(question)
        except ValueError:
            if not isinstance(self.executor, concurrent.futures.ThreadPoolExecutor):  # threads have it
                remote.forget(self.word)
                raise
        size = len(self.content or b"")
        self.everywhere = size <= _SMALL
        self.window = self.first = _FIRST if self.everywhere else max(8, min(_FIRST, _LARGE // size))

    def run(self, units: Sequence[Unit]) -> None:
        """Do all of the work.

        Raises:
            ValueError, RuntimeError: that of a cell; RuntimeError if a cell has cost two workers, if a worker does
                not fit, if the executor takes no more work
        """
        self.queue.extend(units)
        if self.own:
            self.window = 2 * self.executor.number
        try:
            while self.queue or self.flying or self.aside:
                while self.queue and len(self.flying) < self.window:
                    self._submit(self.queue.popleft())
                self._wait()
                self._look_around()
        except Exception:
            self._end_well()
            raise
        finally:
            for future in list(self.flying):
                future.cancel()
            remote.forget(self.word)

    def _submit(self, unit: Unit) -> None:
        work, begin = self.work, self.first > 0
        self.first -= 1
        order = remote.Order(
            word=self.word,
            content=self.content if self.everywhere or begin or unit.sent else None,
            modules=self.modules,
            versions=travel.versions(),
            settings=travel.settings(),
            parent=(os.getpid(), socket.gethostname()),
            store=None if work.store is None else str(work.store.folder.path.resolve()),
            call="" if work.leases is None else work.leases.call,
            tasks=unit.tasks,
            keys=[travel.key_words(work.asked.keys[task.index]) for task in unit.tasks],
            processes=[work.asked.words[task.index] for task in unit.tasks],
            attempt=next(self.numbers),
        )
        try:
            future = self.executor.submit(remote.work, order)
        except Exception as error:
            self.queue.appendleft(unit)
            raise self._ended(f"the executor takes no work ({type(error).__name__}: {error})") from error
        self.flying[future] = unit

    def _wait(self) -> None:
        if not self.flying:
            time.sleep(_TICK)
            return
        done, _ = concurrent.futures.wait(self.flying, _TICK, concurrent.futures.FIRST_COMPLETED)
        for future in done:
            self._landed(future, self.flying.pop(future))
        if done:
            self.silent, self.patience = time.monotonic(), SILENCE

    def _landed(self, future: Future, unit: Unit) -> None:
        try:
            reply = future.result()
        except (Exception, CancelledError, asyncio.CancelledError) as error:
            self._again(unit, f"{type(error).__name__}: {error}".rstrip(": "))
            return
        if not isinstance(reply, remote.Reply):
            self._again(unit, f"the executor gave back {type(reply)} instead of its answer")
            return
        if reply.refused:
            raise self._ended(f"a worker, {reply.worker}, can't work for this sweep: {reply.refused}")
        if reply.unknown:
            remote.remember(self.word, self.work.question)  # for threads; other sweeps have pushed it out
            unit.sent = True
            self.queue.appendleft(unit)
            return
        self.workers.add(reply.worker)
        if not self.own:
            self.window = max(self.window, _EACH * len(self.workers))
        self._hand_on(reply, unit)
        failed = None
        others = [self.work.asked.tasks[outcome.index] for outcome in reply.outcomes if outcome.elsewhere]
        for outcome in reply.outcomes:
            if not outcome.elsewhere:
                try:
                    self.work.take(outcome, reply.worker)
                except (ValueError, RuntimeError) as error:  # the others of the same reply are kept before
                    failed = failed or error
        if failed:
            raise failed
        if others:
            self.work.say_elsewhere(others)
            self.aside.append(Unit(others))

    def _again(self, unit: Unit, why: str) -> None:
        """Once more on another worker; cells that were asked together one by one, to see which it was."""
        if unit.tries:
            cell = describe(unit.tasks[0].cell, unit.tasks[0].seed)
            raise self._ended(f"two workers in turn did not answer in the cell {cell}: {why}")
        _LOG.warning(
            "a worker did not answer in the cell %s (%s): another is asked",
            describe(unit.tasks[0].cell, unit.tasks[0].seed),
            why,
        )
        self.queue.extendleft(Unit([task], tries=1, sent=True) for task in unit.tasks)

    def _ended(self, why: str) -> RuntimeError:
        left = len(self.work.asked.tasks) - len(self.work.results)
        if self.work.store is None:
            return RuntimeError(f"{why}; {left} cells are left: give store= a folder, and what is finished stays")
        folder = self.work.store.folder.path
        return RuntimeError(f"{why}; {left} cells are left: the same call goes on with what is finished in {folder}")

    def _end_well(self) -> None:
        """After an error in one cell, take what is there, and let own workers finish what they have in hand."""
        for future in list(self.flying):
            if not future.done() and (future.cancel() or not (self.own and self.work.store is not None)):
                self.flying.pop(future)
        for future in concurrent.futures.as_completed(list(self.flying)):
            unit = self.flying.pop(future)
            with contextlib.suppress(Exception):
                self._landed(future, unit)

    def _look_around(self) -> None:
        """Take up cells that another call has given back, and units on which nobody works."""
        now = time.monotonic()
        if now - self.looked < _TICK:
            return
        self.looked = now
        for unit in list(self.aside):
            if any(self.work.leases.is_free(task.file) for task in unit.tasks):
                self.aside.remove(unit)
                self.queue.append(unit)
        if self.own or not self.flying:  # whose deaths are noticed
            self.silent = now
        if now - self.silent < self.patience:
            return
        cells = [errand for unit in self.flying.values() for errand in unit.tasks]
        if self.work.leases is None or not self.workers:
            _LOG.warning(
                "nothing has come back from the executor for %.0f s; it has %d cells", now - self.silent, len(cells)
            )
        elif any(self.work.leases.holder(errand.file) for errand in cells):
            self.silent = now  # somebody is at one
            return
        else:
            _LOG.warning(
                "the executor has %d cells and no worker has been at one for %.0f s: they are handed out again",
                len(cells),
                now - self.silent,
            )
            self.queue.extendleft(Unit(unit.tasks, unit.tries, sent=True) for unit in self.flying.values())
            for future in list(self.flying):
                future.cancel()
            self.flying.clear()
        self.patience *= 2

    def _hand_on(self, reply: remote.Reply, unit: Unit) -> None:
        """Print, warn and say here what happened there."""
        cell = describe(unit.tasks[0].cell, unit.tasks[0].seed)
        if reply.printed:
            print(f"in the cell {cell}: {reply.printed.rstrip()}")
        new = [(kind, text) for kind, text in reply.warned if (kind, text) not in self._warned]
        if reply.drawn and (UserWarning, "drawn") not in self._warned:
            self._warned.add((UserWarning, "drawn"))
            new.append(
                (
                    UserWarning,
                    f"the ask has drawn {reply.drawn} figures in the cell {cell}, which a worker can't show and has "
                    "closed: save them in the ask, or return numbers and draw these",
                )
            )
        for kind, text in new:
            self._warned.add((kind, text))
            warnings.warn(text, kind, stacklevel=2)


def longest_first(units: Sequence[Unit], seconds: dict[str, float]) -> list[Unit]:
    """Units in the order in which they are handed out: those of unknown length, then the longest.

    Args:
        units: in the order of the sweep
        seconds: what cells took, by their text, as the store knows
    """

    def expected(unit: Unit) -> float:
        return sum(seconds.get(describe(task.cell), float("inf")) for task in unit.tasks)

    return sorted(units, key=expected, reverse=True)  # which keeps the order of those alike


def check_executor(executor: Any, workers: int | None) -> None:
    """Whether there is one of both, or none.

    Raises:
        TypeError: if the executor is none
        ValueError: if there are both
    """
    if executor is None:
        return
    if not isinstance(executor, concurrent.futures.Executor):
        what = "client.get_executor()" if hasattr(executor, "get_executor") else "of Dask client.get_executor()"
        raise TypeError(f"executor must be a concurrent.futures.Executor, {what}, got {type(executor)}")
    if workers is not None:
        raise ValueError("give executor or workers, not both: an executor has its own workers")
