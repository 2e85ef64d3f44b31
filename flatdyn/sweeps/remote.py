"""What a worker of an executor does: it unpacks the question once, asks it in cells, and keeps what it finds.

The one function that executors are given is :func:`work`. It takes and returns what the pickle of any Python can carry.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
import threading
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

from flatdyn.core.leases import Leases
from flatdyn.sweeps import travel
from flatdyn.sweeps.asking import Errand, Outcome, Question, blame, leased
from flatdyn.sweeps.grid import Store, describe

_IMPORTED_IN = os.getpid()
_MOST_PRINTED = 10_000  # characters of one order
_MOST_QUESTIONS = 4  # that a worker remembers, with their compiled programs
_QUESTIONS: OrderedDict[str, Question] = OrderedDict()
_UNPACKING = threading.Lock()  # workers of Dask have several threads


class Order(NamedTuple):
    """What a worker is to do.

    Attributes:
        word: of the question
        content: the question in bytes; None if the worker may have it
        modules, versions, settings: what the worker must have in common; see flatdyn.sweeps.travel
        parent: number and host of the process that asks
        store, call: folder of the sweep, or None, and the word of the call
        tasks: the cells
        keys: of each, as words
        processes: a word for each process
        attempt: a number of its own in the call, as executors may not do the same thing twice
    """

    word: str
    content: bytes | None
    modules: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, Any]
    parent: tuple[int, str]
    store: str | None
    call: str
    tasks: list[Errand]
    keys: list
    processes: list[str]
    attempt: int = 0


class Reply(NamedTuple):
    """What a worker gives back.

    Attributes:
        worker: its process and host
        outcomes: of the tasks, in any order
        unknown: it does not have the question yet
        refused: why it can't work for this sweep
        printed: what the ask has printed
        warned: what it warned of: kind, text
        drawn: number of figures that it left open
    """

    worker: str
    outcomes: tuple[Outcome, ...] = ()
    unknown: bool = False
    refused: str | None = None
    printed: str = ""
    warned: tuple[tuple[type, str], ...] = ()
    drawn: int = 0


def remember(word: str, question: Question) -> None:
    """Let threads of this process have the question itself."""
    _QUESTIONS[word] = question
    while len(_QUESTIONS) > _MOST_QUESTIONS:
        _QUESTIONS.popitem(last=False)


def forget(word: str) -> None:
    """The sweep is over."""
    _QUESTIONS.pop(word, None)


def work(order: Order) -> Reply:
    """Ask the question of an order in its cells, write what is found into the store, and return it."""
    worker = f"process {os.getpid()} on {socket.gethostname()}"
    if refused := _unfit(order):
        return Reply(worker, refused=refused)
    with travel.as_there(order.settings):
        try:
            question = _question(order)
        except Exception as error:
            return Reply(worker, refused=f"it can't unpack the question ({type(error).__name__}: {error})")
        if question is None:
            return Reply(worker, unknown=True)
        with _overheard((os.getpid(), socket.gethostname()) == order.parent) as heard:
            outcomes = tuple(_answers(order, question))
    return Reply(worker, outcomes, printed=heard.printed, warned=tuple(heard.warned), drawn=heard.drawn)


def _unfit(order: Order) -> str | None:
    if os.getpid() != _IMPORTED_IN and order.parent == (_IMPORTED_IN, socket.gethostname()):
        return (
            "it is a fork of the process that asks, in which JAX would hang: give an executor that starts processes "
            'anew, ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")), or workers='
        )
    return travel.misfit(order.versions)


def _question(order: Order) -> Question | None:
    """The same object for all orders of a sweep: with it live the compiled programs."""
    with _UNPACKING:
        if order.word not in _QUESTIONS:
            if order.content is None:
                return None
            remember(order.word, travel.unpacked(order.content, order.modules))
        return _QUESTIONS[order.word]


def _answers(order: Order, question: Question) -> Iterator[Outcome]:
    store = None if order.store is None else Store(order.store, "")
    reachable = store is not None and store.folder.path.is_dir()  # or else it is not on this machine
    leases = Leases(store.folder.path, order.call) if reachable else None
    keys = {task.index: travel.key_of(words) for task, words in zip(order.tasks, order.keys, strict=True)}
    expected = {task.index: word for task, word in zip(order.tasks, order.processes, strict=True)}

    def ask(tasks: list[Errand]) -> Iterator[Outcome]:
        """Those tasks whose process is the one of the process that asks."""
        fit, processes = [], []
        for task in tasks:
            try:
                process = question.built(task.cell, keys[task.index])
                with blame("make_process", describe(task.cell)):
                    if (word := travel.of_process(process)) != expected[task.index]:
                        raise ValueError(
                            f"a worker makes another process than the process that asks ({word} instead of "
                            f"{expected[task.index]}): make_process must depend on its arguments alone"
                        )
            except Exception as error:
                yield Outcome(task.index, error=_travelling(error))
            else:
                fit.append(task)
                processes.append(process)
        if fit:
            yield from question.answers(fit, [keys[task.index] for task in fit], processes)

    try:
        by_index = {task.index: task for task in order.tasks}
        for outcome in leased(order.tasks, store if reachable else None, leases, ask):
            if outcome.error is not None:
                outcome = outcome._replace(error=_travelling(outcome.error))
            elif reachable and outcome.results is not None and not outcome.kept:
                header = by_index[outcome.index].header
                outcome = outcome._replace(kept=store.write_once(header, *outcome[1:4]))
            yield outcome
    finally:
        if leases is not None:
            leases.close()


def _travelling(error: Exception) -> Exception:
    """An error with the place where it was raised, which does not travel otherwise."""
    plain = ValueError(str(error)) if isinstance(error, ValueError) else RuntimeError(str(error))
    plain.add_note("On the worker:\n" + "".join(traceback.format_exception(error)))
    return plain


class _Heard:
    """What an ask did besides to answer."""

    def __init__(self) -> None:
        self.printed, self.warned, self.drawn = "", [], 0


@contextlib.contextmanager
def _overheard(at_home: bool) -> Iterator[_Heard]:
    """Take what an ask prints, warns of and draws along to the process that asks.

    Not in a thread beside others, as these are matters of the whole process: a worker of Dask prints into its own log.
    """
    heard = _Heard()
    if at_home or threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before, printed = _figures(), io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("default")
        yield heard
    heard.printed = printed.getvalue()[:_MOST_PRINTED]
    for one in caught:
        known = one.category.__module__.partition(".")[0] in ("builtins", "flatdyn", "jax", "numpy")
        heard.warned.append((one.category if known else UserWarning, str(one.message)))
    for number in _figures() - before:
        sys.modules["matplotlib.pyplot"].close(number)
        heard.drawn += 1


def _figures() -> set[int]:
    """Numbers of the open figures, if anything has drawn."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set() if pyplot is None else set(pyplot.get_fignums())
