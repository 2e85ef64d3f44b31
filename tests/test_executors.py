"""Sweeps on executors: the numbers of one process, nothing lost by workers that die, calls that share a store."""

import concurrent.futures
import functools
import importlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
import types
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import flatdyn as fd
from flatdyn.__main__ import main
from flatdyn.core import leases
from flatdyn.sweeps import grid, handing, manifest, remote, travel
from flatdyn.sweeps.workers import Processes, WorkerDied

KEY = jax.random.key(0)
L = fd.landscapes.saddle((2.0, -2.0))
LISTS = {"rho": [0.0, 0.1, 0.2, 0.3], "momentum": [0.0, 0.5]}


def make(rho, momentum):
    return fd.Iteration(L, fd.SAM(0.1, rho, momentum), fd.noise.Gaussian(1.0))


def drawn(process, key):
    return np.asarray(jax.random.normal(key, (2,))) + np.asarray(process.method.rho)


@functools.cache
def whole():
    return fd.sweep(make, LISTS, drawn, KEY)


@pytest.fixture(scope="module")
def workers():
    """Two processes for all tests: a start takes seconds."""
    with Processes(2) as executor:
        yield executor


def files(folder):
    return len(list(folder.glob("*.npz")))


def same(a, b):
    return {name: a[name].values.tobytes() for name in a.variables} == {
        name: b[name].values.tobytes() for name in b.variables
    }


# --- what travels ---------------------------------------------------------------------------------------------

NOTEBOOK = """
import collections
import equinox as eqx
import jax
import numpy as np
import flatdyn as fd

class Tilted(fd.GD):  # a field of its own: an array in the process
    tilt: float = eqx.field(converter=float, default=0.0)

    def ascend(self, grad, theta):
        return super().ascend(grad, theta) + self.tilt

L = fd.landscapes.saddle((2.0, -2.0))
Means = collections.namedtuple("Means", "value stderr")
scale = 2.0

@jax.jit
def scaled(x):
    return scale * x

def make(lr, tilt):
    return fd.Iteration(L, Tilted(lr, tilt=tilt), fd.noise.Gaussian(1.0))

def ask(process, key):
    final = fd.simulate(process, np.ones((5, 2)), 3, key, progress=False).final
    number = len(jax.tree.leaves(process.method))
    return {"x": Means(scaled(final[:, 0]).mean(), final[:, 0].std()), "leaves": number, "size": final.itemsize}
"""


def notebook():
    """What a notebook defines: no module has it."""
    names = {"__name__": "__main__"}
    exec(NOTEBOOK, names)
    return types.SimpleNamespace(**names)


@pytest.mark.parametrize("wide", [True, False])
def test_what_a_notebook_defines_travels_with_its_precision_and_gives_the_same_bits(workers, wide, tmp_path):
    book = notebook()
    lists = {"lr": [0.1, 0.2], "tilt": [0.0, 0.5]}
    with jax.enable_x64(wide):
        alone = fd.sweep(book.make, lists, book.ask, KEY, seeds=2)
        there = fd.sweep(book.make, lists, book.ask, KEY, seeds=2, executor=workers, store=tmp_path)
        read = fd.sweep(book.make, lists, book.ask, KEY, seeds=2, store=tmp_path)
    assert same(alone, there)
    assert same(alone, read)
    assert there.attrs == alone.attrs
    assert float(there["size"][0, 0]) == (8 if wide else 4)
    assert files(tmp_path) == 8


def test_what_cannot_travel_is_named_with_a_remedy(tmp_path):
    with open(tmp_path / "log", "w") as log:

        class Asks:
            def __init__(self):
                self.parts = [log]

            def __call__(self, process, key):
                return 0.0

        def ask(process, key):
            log.write("asked")
            return 0.0

        lock = threading.Lock()
        for asked, name in (
            (ask, "log in ask, of <class '_io.TextIOWrapper'>"),
            (Asks(), "ask.parts[0], of <class '_io.TextIOWrapper'>"),
            (lambda p, k: float(lock.locked()), "lock in ask, of <class '_thread.lock'>"),
        ):
            with pytest.raises(ValueError, match=re.escape(name) + ".*can't travel to a worker.*make it inside"):
                fd.sweep(make, LISTS, asked, KEY, workers=2)
        with ThreadPoolExecutor(2) as threads:  # which share it
            assert float(fd.sweep(make, LISTS, ask, KEY, executor=threads).value.sum()) == 0.0


def test_a_module_that_the_worker_has_not_or_has_in_another_state(tmp_path, workers, monkeypatch):
    (tmp_path / "study_of_mine.py").write_text("def ask(process, key):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)  # the workers started without it
    study_of_mine = importlib.import_module("study_of_mine")

    with pytest.raises(RuntimeError, match=r"there is no module 'study_of_mine': give the workers the same file"):
        fd.sweep(make, LISTS, study_of_mine.ask, KEY, executor=workers)
    content, modules = travel.packed(fd.sweeps.asking.Question(make, study_of_mine.ask, "value"))
    assert set(modules) == {"study_of_mine", __name__}
    assert travel.unpacked(content, modules).name == "value"
    (tmp_path / "study_of_mine.py").write_text("def ask(process, key):\n    return 2.0\n")
    with pytest.raises(ImportError, match="module 'study_of_mine' is not that of the process which asks"):
        travel.unpacked(content, modules)


def test_keys_of_both_kinds_travel_whole():
    for key in (KEY, jax.random.PRNGKey(3), jax.random.key(1, impl="rbg"), None):
        back = travel.key_of(travel.key_words(key))
        assert (back is None) == (key is None)
        if key is not None:
            assert back.dtype == key.dtype
            assert_array_equal(jax.random.key_data(back), jax.random.key_data(key))


# --- workers --------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_costs_its_cell_another_try_and_nothing_else(workers, tmp_path, caplog):
    marks = str(tmp_path)

    def ask(process, key):
        name = f"{marks}/{float(process.method.rho)}-{float(process.method.momentum)}"
        with open(name, "a") as file:
            file.write("x")
        if process.method.rho == 0.1 and os.path.getsize(name) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn(process, key)

    there = fd.sweep(make, LISTS, ask, KEY, executor=workers, store=tmp_path / "kept")
    assert same(there, whole())
    asked = {path.name: path.stat().st_size for path in tmp_path.glob("*-*")}
    assert asked == {f"{r}-{m}": 1 + (r == 0.1) for r in LISTS["rho"] for m in LISTS["momentum"]}
    assert sum("ended by signal SIGKILL" in message for message in caplog.messages) == 2
    assert not list((tmp_path / "kept").glob(".*"))  # no lease is left


def test_a_cell_that_kills_two_workers_ends_the_sweep_with_its_name_and_the_others_are_kept(workers, tmp_path):
    def ask(process, key):
        if process.method.rho == 0.3 and process.method.momentum == 0.5:
            os._exit(7)
        return drawn(process, key)

    # The other worker may be at the last but one still, which it then ends
    sentence = (
        r"two workers in turn did not answer in the cell rho=0.3, momentum=0.5, seed 0: .*exit code 7; [12] cells"
    )
    with pytest.raises(RuntimeError, match=sentence + " are left: the same call goes on with what is finished in"):
        fd.sweep(make, LISTS, ask, KEY, executor=workers, store=tmp_path)
    assert files(tmp_path) == 7


def test_an_error_on_a_worker_is_that_of_one_process_with_its_place(workers, tmp_path):
    def ask(process, key):
        if process.method.rho == 0.2:
            raise OSError("no more")
        return {"a" if process.method.rho == 0.3 else "b": 1.0}

    sentence = "ask, in the cell rho=0.2, momentum=0, seed 0: OSError: no more"
    with pytest.raises(RuntimeError, match=re.escape(sentence)) as caught:
        fd.sweep(make, LISTS | {"momentum": [0.0]}, ask, KEY, executor=workers, store=tmp_path, version="1")
    assert "test_executors.py" in caught.value.__notes__[0]
    (path,) = tmp_path.glob("sweep-*.json")
    (failure,) = json.loads(path.read_text())["failures"].values()
    assert failure["message"] == sentence
    lists = {"rho": [0.1, 0.3], "momentum": [0.0]}
    with pytest.raises(ValueError, match=r"rho=0\.\d, momentum=0, seed 0: the ask gave . \(\), and . \(\) in another"):
        fd.sweep(make, lists, ask, KEY, executor=workers, store=tmp_path, version="1")
    assert files(tmp_path) >= 2


def test_what_an_ask_prints_warns_of_and_draws_is_told_here(workers, capsys):
    def ask(process, key):
        import warnings

        import matplotlib.pyplot as plt

        print("rho is", float(process.method.rho))
        warnings.warn("look at this", UserWarning, stacklevel=1)
        plt.figure()
        return drawn(process, key)

    with pytest.warns(UserWarning, match=r"look at this|closed") as caught:
        assert same(fd.sweep(make, LISTS, ask, KEY, executor=workers), whole())
    texts = [str(one.message) for one in caught]
    assert texts.count("look at this") == 1
    assert sum("which a worker can't show and has closed: save them in the ask" in text for text in texts) == 1
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 8
    assert "in the cell rho=0.1, momentum=0.5, seed 0: rho is 0.1" in printed


def test_a_worker_that_makes_another_process_is_noticed(workers):
    book = notebook()
    exec("import os\ndef make(lr):\n    return fd.Iteration(L, fd.GD(lr * os.getpid()))", vars(book))
    with pytest.raises(ValueError, match="a worker makes another process than the process that asks"):
        fd.sweep(book.make, {"lr": [0.1, 0.2]}, drawn, KEY, executor=workers)


def test_processes_are_an_executor_like_others():
    with Processes(1) as executor:
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            executor.submit(divmod, 1, 0).result()
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(WorkerDied, match="exit code 3"):
            executor.submit(os._exit, 3).result()
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
        sleeping = executor.submit(time.sleep, 60)
        waiting = executor.submit(divmod, 7, 2)
        while not sleeping.running():
            time.sleep(0.01)
        executor.shutdown(cancel_futures=True)
        assert waiting.cancelled()
        assert isinstance(sleeping.exception(), WorkerDied)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(divmod, 7, 2)


# --- executors that are not well ------------------------------------------------------------------------------


class Odd(concurrent.futures.Executor):
    """Does its work at once; a task may be done twice, dropped, refused, or answered with something else."""

    def __init__(self, odd=lambda number, order: None):
        self.odd, self.orders = odd, []

    def submit(self, function, order):
        future = Future()
        self.orders.append(order)
        what = self.odd(len(self.orders), order)
        if isinstance(what, BaseException):
            future.set_exception(what)
        elif what != "drop":
            results = [function(what if isinstance(what, tuple) else order) for _ in range(2 if what == "twice" else 1)]
            future.set_result(results[-1] if what != "else" else 3.5)
        return future

    @property
    def cells(self):
        return [task.cell["rho"] for order in self.orders for task in order.tasks]


@pytest.mark.parametrize(
    "what", ["twice", "drop", "else", OSError("connection lost"), concurrent.futures.CancelledError()]
)
def test_tasks_done_twice_dropped_cancelled_or_answered_with_nonsense_lose_nothing(what, tmp_path, monkeypatch):
    monkeypatch.setattr(handing, "SILENCE", 0.2)
    executor = Odd(lambda number, order: what if number in (2, 5) else None)
    assert same(fd.sweep(make, LISTS, drawn, KEY, executor=executor, store=tmp_path), whole())
    assert len(executor.orders) == 8 + (0 if what == "twice" else 2)
    assert len(set(map(pickle.dumps, executor.orders))) == len(executor.orders)  # some remember what they have done
    assert files(tmp_path) == 8


def test_a_silent_executor_is_waited_for_with_a_sentence(monkeypatch, caplog):
    monkeypatch.setattr(handing, "SILENCE", 0.1)
    executor = Odd(lambda number, order: "drop" if number == 3 else None)
    submit = executor.submit

    def submitted(function, order):
        future = submit(function, order)
        if len(executor.orders) == 3:
            threading.Timer(1.5, lambda: future.set_result(function(order))).start()
        return future

    executor.submit = submitted
    assert same(fd.sweep(make, LISTS, drawn, KEY, executor=executor), whole())
    assert any("nothing has come back from the executor for" in message for message in caplog.messages)


def test_an_executor_that_is_closed_broken_or_none_is_a_sentence(tmp_path):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match=r"takes no work .*shutdown\); 8 cells are left: give store= a folder"):
        fd.sweep(make, LISTS, drawn, KEY, executor=executor)

    class Broken(Odd):
        def submit(self, function, order):
            if len(self.orders) > 3:
                raise concurrent.futures.BrokenExecutor("a worker has died")
            return super().submit(function, order)

    with pytest.raises(RuntimeError, match=r"takes no work .*a worker has died.*the same call goes on with what is"):
        fd.sweep(make, LISTS, drawn, KEY, executor=Broken(), store=tmp_path)
    assert files(tmp_path) == 4
    for given, error, match in (
        ({"executor": 3}, TypeError, "must be a concurrent.futures.Executor, of Dask client.get_executor"),
        ({"executor": types.SimpleNamespace(get_executor=3)}, TypeError, r"Executor, client.get_executor\(\), got"),
        ({"executor": Odd(), "workers": 2}, ValueError, "executor or workers, not both"),
        ({"workers": 0}, ValueError, "workers must be a whole number >= 1"),
        ({"workers": 1.5}, ValueError, "workers must be a whole number"),
    ):
        with pytest.raises(error, match=match):
            fd.sweep(make, LISTS, drawn, KEY, **given)


def test_a_worker_of_another_version_or_a_fork_is_refused(monkeypatch):
    older = travel.versions() | {"jax": "0.9.0"}
    executor = Odd(lambda number, order: order._replace(versions=older))
    with pytest.raises(
        RuntimeError, match=r"can't work for this sweep: it has jax .* instead of 0.9.0: install the same"
    ):
        fd.sweep(make, LISTS, drawn, KEY, executor=executor)
    assert set(older) >= {"Python", "flatdyn", "jax", "numpy", "the files of flatdyn"}
    monkeypatch.setattr(remote, "_IMPORTED_IN", 1)
    forked = Odd(lambda number, order: order._replace(parent=(1, order.parent[1])))
    with pytest.raises(RuntimeError, match="it is a fork of the process that asks"):
        fd.sweep(make, LISTS, drawn, KEY, executor=forked)


def test_an_executor_that_is_empty_is_there():
    class Sized(Odd):
        def __len__(self):
            return 0

    assert same(fd.sweep(make, LISTS, drawn, KEY, executor=Sized()), whole())


def test_a_large_question_travels_once_to_each_worker(monkeypatch):
    monkeypatch.setattr(handing, "_SMALL", 100)
    monkeypatch.setattr(handing, "_FIRST", 1)
    monkeypatch.setattr(handing, "_LARGE", 100)
    executor = Odd()
    lists = {"rho": list(np.arange(20) / 20), "momentum": [0.0]}
    fd.sweep(make, lists, drawn, KEY, executor=executor)
    assert sum(order.content is not None for order in executor.orders) == 8 < len(executor.orders)
    # A worker that has forgotten it says so, and is sent it again
    forgetting = Odd(lambda number, order: order._replace(word=f"{number}") if order.content is None else None)
    found = fd.sweep(make, lists, drawn, KEY, executor=forgetting)
    assert len(forgetting.orders) > 20
    assert same(found, fd.sweep(make, lists, drawn, KEY))


def test_the_longest_cells_come_first_where_the_store_knows_them(tmp_path):
    fd.sweep(make, LISTS, drawn, KEY, store=tmp_path)
    (path,) = tmp_path.glob("sweep-*.json")
    content = json.loads(path.read_text())
    assert all(entry["seconds"] > 0 for entry in content["cells"].values())
    for entry in content["cells"].values():
        entry["seconds"] = {"rho=0": 1.0, "rho=0.1": 5.0, "rho=0.2": 3.0, "rho=0.3": 2.0}[entry["cell"].split(",")[0]]
    path.write_text(json.dumps(content))
    executor = Odd()
    fd.sweep(make, LISTS | {"rho": [0.0, 0.1, 0.2, 0.3, 0.4]}, drawn, KEY, seeds=2, store=tmp_path, executor=executor)
    assert executor.cells == [0.4] * 4 + [0.1] * 2 + [0.2] * 2 + [0.3] * 2 + [0.0] * 2


def test_a_worker_that_cannot_write_gives_its_results_to_who_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(grid.Store, "write_once", lambda self, *a: False)
    with ThreadPoolExecutor(2) as executor:
        assert same(fd.sweep(make, LISTS, drawn, KEY, store=tmp_path, executor=executor), whole())
    assert files(tmp_path) == 8


# --- several cells as one program -----------------------------------------------------------------------------


class Joined:
    """Answers cells of one momentum together, and counts how often it is asked."""

    def __init__(self, wrong=None):
        self.wrong, self.sizes, self.alone = wrong, [], 0

    def __call__(self, process, key):
        self.alone += 1
        return drawn(process, key)

    def batches(self, processes):
        if self.wrong == "batches":
            return [[0, 1], [1, 2]]
        momenta = [float(process.method.momentum) for process in processes]
        return [[i for i, m in enumerate(momenta) if m == momentum] for momentum in sorted(set(momenta))]

    def together(self, processes, keys):
        self.sizes.append(len(processes))
        if self.wrong == "error":
            raise MemoryError("no room")
        answers = [drawn(process, key) for process, key in zip(processes, keys, strict=True)]
        return answers[:-1] if self.wrong == "number" else answers


def test_an_ask_that_answers_several_cells_as_one_program_is_asked_in_batches(tmp_path):
    ask = Joined()
    assert same(fd.sweep(make, LISTS, ask, KEY), whole())
    assert (ask.sizes, ask.alone) == ([4, 4], 0)
    part = LISTS | {"rho": [0.1, 0.2]}
    fd.sweep(make, part, ask, KEY, store=tmp_path, version="1")
    assert same(fd.sweep(make, LISTS, ask, KEY, store=tmp_path, version="1"), whole())
    assert ask.sizes[2:] == [2, 2, 2, 2]  # what is there is not asked again
    executor = Odd()
    assert same(fd.sweep(make, LISTS, Joined(), KEY, executor=executor), whole())
    assert [len(order.tasks) for order in executor.orders] == [4, 4]  # a batch is a unit of work


@pytest.mark.parametrize("wrong", ["error", "number"])
def test_cells_that_cannot_be_asked_together_are_asked_one_by_one(wrong):
    ask = Joined(wrong)
    with pytest.warns(UserWarning, match=r"4 cells, the first of them rho=0.*could not be asked together .*by itself"):
        assert same(fd.sweep(make, LISTS, ask, KEY), whole())
    assert ask.alone == 8


def test_batches_that_leave_a_cell_out_are_refused():
    with pytest.raises(ValueError, match=r"lists of indices in which each of 0 … 7 stands once, got \[\[0, 1\]"):
        fd.sweep(make, LISTS, Joined("batches"), KEY)


def test_a_batch_whose_worker_dies_is_asked_cell_by_cell(tmp_path):
    executor = Odd(lambda number, order: OSError("gone") if len(order.tasks) > 1 else None)
    assert same(fd.sweep(make, LISTS, Joined(), KEY, executor=executor, store=tmp_path, version="1"), whole())
    assert [len(order.tasks) for order in executor.orders] == [4, 4] + [1] * 8


# --- calls that share a store ---------------------------------------------------------------------------------


def test_two_calls_at_once_share_the_work(tmp_path, caplog):
    asked, lock, begun, all_three = [], threading.Lock(), set(), threading.Barrier(3)

    def ask(process, key):
        with lock:
            asked.append((float(process.method.rho), float(process.method.momentum)))
            first = threading.get_ident() not in begun
            begun.add(threading.get_ident())
        if first:
            all_three.wait(60)  # each has a cell before the first is done
        return drawn(process, key)

    def call(_):
        return fd.sweep(make, LISTS, ask, KEY, store=tmp_path, version="1", progress=False)

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(call, range(3)))
    assert all(same(one, whole()) for one in found)
    assert len(asked) == len(set(asked)) == 8
    assert any("computes cells of the same sweep in" in message for message in caplog.messages)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("executor", [Odd(), None], ids=["executor", "here"])
def test_what_another_call_has_begun_is_left_to_it_and_taken_over_if_it_dies(executor, tmp_path, monkeypatch):
    fd.sweep(make, LISTS | {"rho": [0.0]}, drawn, KEY, store=tmp_path)
    process = make(0.1, 0.5)
    cell = {"rho": 0.1, "momentum": 0.5}
    store = grid.Store(tmp_path, fd.records.digest(fd.core.hashing.identity(drawn), "value"))
    name = grid.name_of(store.header(store.word(process), grid.cell_keys(KEY, cell, 1)[0], cell, 0))
    monkeypatch.setattr(leases, "PATIENCE", 1.0)
    (tmp_path / f".{name}.lease").write_text(json.dumps(leases.Holder("other", "1", "elsewhere", 5)._asdict()))
    begun = time.monotonic()
    assert same(fd.sweep(make, LISTS, drawn, KEY, store=tmp_path, executor=executor), whole())
    assert time.monotonic() - begun > 1.0
    if executor is not None:
        assert executor.cells.count(0.1) == 3  # the one of the other call twice
        assert len(set(map(pickle.dumps, executor.orders))) == len(executor.orders)


@pytest.mark.parametrize("holder", [{"call": "mine"}, {"host": "here", "process": 2**22 + 1}, {"host": "far"}, {}])
def test_leases_expire_when_their_holder_is_dead(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "PATIENCE", 0.3)
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "here")
    mine = leases.Leases(tmp_path, "mine")
    (tmp_path / ".part.lease").write_text(json.dumps(holder) if holder else "")
    at_once = bool(holder) and holder.get("host") != "far"  # an earlier try; a process that is no more
    assert mine.take("part") == at_once
    if not at_once:
        assert mine.holder("part") is not None
        os.utime(tmp_path / ".part.lease")
        time.sleep(0.2)
        assert not mine.take("part")  # it was touched
        time.sleep(0.35)
        assert mine.holder("part") is None
        assert mine.take("part")
    other = leases.Leases(tmp_path, "another")
    assert not other.take("part")
    assert other.holder("part") == mine.holder("part") != None  # noqa: E711
    mine.free("part")
    assert other.take("part")
    other.close()
    assert not list(tmp_path.glob(".*"))


def test_a_lease_is_touched_while_it_is_held_and_not_taken_from_its_successor(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    mine = leases.Leases(tmp_path, "mine")
    assert mine.take("part")
    path = tmp_path / ".part.lease"
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.stat().st_mtime > 0
    path.write_text(json.dumps(leases.Holder("other", "2", "far", 1)._asdict()))
    mine.close()
    assert path.exists()


def test_a_disk_without_leases_is_said_once_and_nothing_is_lost(tmp_path, monkeypatch):
    opened = os.open

    def without(path, flags, *mode, **options):
        if str(path).endswith(".lease"):
            raise OSError(95, "Operation not supported")
        return opened(path, flags, *mode, **options)

    monkeypatch.setattr(leases.os, "open", without)
    with pytest.warns(UserWarning, match="keeps no leases .*not supported.*twice; nothing is lost") as caught:
        assert same(fd.sweep(make, LISTS, drawn, KEY, store=tmp_path), whole())
    assert len(caught) == 1
    assert files(tmp_path) == 8


# --- the manifest ---------------------------------------------------------------------------------------------


def test_a_store_says_what_is_in_it(tmp_path, capsys):
    def ask(process, key):
        if process.method.rho == 0.3:
            raise OSError("no more")
        return 1.0

    with pytest.raises(RuntimeError, match="no more"):
        fd.sweep(make, LISTS, ask, KEY, store=tmp_path, seeds=2)
    assert main(["sweeps", "show", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for text in (
        f"{tmp_path}: 12 finished cells",
        "ask of Iteration(",
        "  rho: 0.0, 0.1, 0.2, 0.3\n",
        "  cells: 12 finished; 2 seeds each",
        "  seconds: ",
        "the longest rho=",
        f"flatdyn {fd.__version__}, jax {jax.__version__}",
        "  failures: 1\n    ask, in the cell rho=0.3, momentum=0, seed 0: OSError: no more\n",
    ):
        assert text in printed, text
    fd.sweep(make, {"rho": [0.0, 0.1], "momentum": [0.0]}, ask, KEY, store=tmp_path, seeds=2)
    (path,) = tmp_path.glob("sweep-*.json")
    content = json.loads(path.read_text())
    assert len(content["cells"]) == 12  # a smaller call forgets nothing
    assert all(entry["seconds"] >= 0 for entry in content["cells"].values())
    next(tmp_path.glob("*.npz")).unlink()
    (tmp_path / ".abc.lease").write_text(json.dumps(leases.Holder("1", "2", "far", 5)._asdict()))
    text = manifest.shown(tmp_path)
    assert "1 cells were finished, but their files are gone" in text
    assert "by process 5 on far" in text
    path.write_text('{"cells": {"a": 3}, "failures": [], "parameters": 3, "provenance": {"versions": 1}}')
    assert "11 cells stand in no manifest" in manifest.shown(tmp_path)  # and a damaged manifest breaks nothing
    assert fd.sweep(make, LISTS | {"rho": [0.2]}, ask, KEY, store=tmp_path, seeds=2).value.sum() == 2


def test_a_folder_without_a_sweep_is_a_sentence(tmp_path, capsys):
    for folder, said in (
        (tmp_path, "there is no sweep in"),
        (tmp_path / "none", "is no folder: give the one that was"),
    ):
        assert main(["sweeps", "show", str(folder)]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sweeps"])


def test_the_console_script_is_the_module():
    setup = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert setup["scripts"] == {"flatdyn": "flatdyn.__main__:main"}
    done = subprocess.run([sys.executable, "-m", "flatdyn", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"flatdyn {fd.__version__}\n"


# --- the whole machine: Ctrl-C, Dask --------------------------------------------------------------------------

SCRIPT = """
import os, sys, time, signal
import jax, numpy as np, flatdyn as fd
jax.config.update("jax_enable_x64", True)
L = fd.landscapes.saddle((2.0, -2.0))
folder = sys.argv[1]

def make(rho):
    return fd.Iteration(L, fd.SAM(0.1, rho), fd.noise.Gaussian(1.0))

def ask(process, key):
    with open(folder + "/asked", "a") as file:
        file.write(f"{float(process.method.rho)} {os.getpid()}\\n")
    time.sleep(float(os.environ.get("PAUSE", 0.1)))
    return np.asarray(jax.random.normal(key, (5,)))

LISTS = {"rho": np.arange(40) / 40}

def swept(**options):
    return fd.sweep(make, LISTS, ask, jax.random.key(3), store=folder + "/kept", **options)

def alone():
    return fd.sweep(make, LISTS, lambda p, key: np.asarray(jax.random.normal(key, (5,))), jax.random.key(3))
"""


def asked(folder):
    path = folder / "asked"
    return [line.split() for line in path.read_text().splitlines() if len(line.split()) == 2] if path.exists() else []


def until(true, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()


def run(code, folder, *words):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + code, str(folder), *words],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_who_asks_and_what_is_finished_stays(sent, tmp_path):
    """No `if __name__ == "__main__"` around it; Ctrl-C, and the death of the process that asks."""
    process = run("swept(workers=2)", tmp_path)
    until(lambda: len(asked(tmp_path)) > 8)
    process.send_signal(sent)
    _, said = process.communicate(timeout=30)
    assert ("KeyboardInterrupt" in said) == (sent == signal.SIGINT)
    workers = {int(number) for _, number in asked(tmp_path)}
    assert len(workers) == 2
    until(lambda: not any(os.path.exists(f"/proc/{number}") for number in workers), 10)
    before = len(asked(tmp_path))
    assert files(tmp_path / "kept") >= before - 2
    done = run("print(fd.records.digest(swept().value.values) == fd.records.digest(alone().value.values))", tmp_path)
    assert done.communicate(timeout=120)[0] == "True\n"
    assert len(asked(tmp_path)) <= 40 + 2  # those under way


@pytest.mark.slow
def test_a_call_that_is_killed_does_not_hold_its_cells_against_another(tmp_path, monkeypatch):
    monkeypatch.setenv("PAUSE", "0.5")  # the second has to start before the first ends
    first = run("swept()", tmp_path)
    until(lambda: len(asked(tmp_path)) > 2)
    second = run("print(fd.records.digest(swept().value.values) == fd.records.digest(alone().value.values))", tmp_path)
    until(lambda: len({number for _, number in asked(tmp_path)}) == 2 or first.poll() is not None)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL, "it had ended before"
    said, log = second.communicate(timeout=120)
    assert said == "True\n", log
    assert len(asked(tmp_path)) <= 40 + 1


DASK = """
from distributed import Client, LocalCluster
if __name__ == "__main__":
    here = {"host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **here) as cluster:
        with Client(cluster) as client:
            found = swept(executor=client.get_executor())
            print(fd.records.digest(found.value.values) == fd.records.digest(alone().value.values))
"""


@pytest.mark.slow
def test_dask_loses_nothing_when_workers_are_killed_ten_times(tmp_path):
    pytest.importorskip("distributed", reason="pip install distributed: Dask's own workers are killed here")
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = run(DASK, folder)
        until(lambda folder=folder, number=number: len(asked(folder)) > 4 + number)
        os.kill(int(asked(folder)[-1][1]), signal.SIGKILL)
        said, log = process.communicate(timeout=200)
        assert said == "True\n", log
        assert len(asked(folder)) <= 40 + 1
        assert files(folder / "kept") == 40


@pytest.mark.slow
def test_a_dask_scheduler_that_is_killed_is_a_sentence_and_the_call_goes_on(tmp_path):
    pytest.importorskip("distributed", reason="pip install distributed: Dask's own scheduler is killed here")
    address = "tcp://127.0.0.1:47386"
    client = f"""
from distributed import Client
with Client("{address}", timeout=60) as client:
    try:
        swept(executor=client.get_executor())
    except RuntimeError as error:
        print(error)
"""
    environment = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "47386"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "2", "--nthreads", "1"]
    scheduler = subprocess.Popen([*dask, "--no-dashboard"], **quiet)
    workers = subprocess.Popen([*worker, "--death-timeout", "20", "--no-dashboard"], **quiet)
    try:
        process = run(client, tmp_path)
        until(lambda: len(asked(tmp_path)) > 4)
        scheduler.kill()
        said, log = process.communicate(timeout=120)
        assert "cells are left: the same call goes on with what is finished in" in said, log
    finally:
        for one in (scheduler, workers):
            one.kill() if one is scheduler else one.terminate()
            one.wait()
    done = run("print(fd.records.digest(swept().value.values) == fd.records.digest(alone().value.values))", tmp_path)
    assert done.communicate(timeout=120)[0] == "True\n"
    assert len(asked(tmp_path)) <= 40 + 8
