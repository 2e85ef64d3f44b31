"""Processes of this machine that work for one sweep: what `workers=n` starts.

Each is a fresh Python without the script that asks, so no `if __name__ == "__main__"` is needed. One that dies takes
only its own task with it, and the next task starts another. They end with the process that started them, however that
ends.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from flatdyn.sweeps.workers import serve; serve()"
_TOLD = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "disable_most_optimizations", "platforms")
_GRACE = 5.0  # seconds in which a worker without work has to end


class WorkerDied(RuntimeError):
    """A worker ended in the middle of a task."""


class Processes(concurrent.futures.Executor):
    """An executor with a number of fresh processes.

    Args:
        number: how many; each starts with its first task
    """

    def __init__(self, number: int):
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self.number, self._closed, self._killed = number, False, False
        self._workers = [_Worker(self._tasks, self) for _ in range(number)]

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        """As any executor does; the function and its arguments must be what pickle can carry."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future = Future()
        self._tasks.put((future, pickle.dumps((function, arguments, options))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all workers when their tasks are done, or at once if what waits is cancelled."""
        self._closed = True
        if cancel_futures:
            self._killed = True
            with contextlib.suppress(queue.Empty):
                while True:
                    task = self._tasks.get_nowait()
                    if task is not None:
                        task[0].cancel()
            for worker in self._workers:
                worker.kill()
        for _ in self._workers:
            self._tasks.put(None)
        if wait:
            for worker in self._workers:
                worker.thread.join()

    @property
    def killed(self) -> bool:
        """Whether the workers were ended at once."""
        return self._killed


class _Worker:
    """One process, and the thread that gives it its tasks."""

    def __init__(self, tasks: queue.SimpleQueue, owner: Processes):
        self.tasks, self.owner = tasks, owner
        self.process: subprocess.Popen | None = None
        self.thread = threading.Thread(target=self._run, name="flatdyn worker", daemon=True)
        self.thread.start()

    def kill(self) -> None:
        if (process := self.process) is not None:
            process.kill()

    def _run(self) -> None:
        while (task := self.tasks.get()) is not None:
            future, content = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = self._asked(content)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        self._end()

    def _asked(self, content: bytes) -> Any:
        process = self.process = self.process or _started()
        if self.owner.killed:  # between the last look and now
            process.kill()
        try:
            process.stdin.write(len(content).to_bytes(8, "big") + content)
            process.stdin.flush()
            fine, answer = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            self.process = None
            process.kill()
            raise WorkerDied(_how_it_ended(process)) from None
        if not fine:
            raise answer
        return answer

    def _end(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # which it takes for the end
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def _started() -> subprocess.Popen:
    paths = [str(Path.cwd() / path) for path in sys.path]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", _BOOT, json.dumps(paths)], env=_environment(), **pipes)


def _environment() -> dict[str, str]:
    """As here, with what was set for JAX since; no windows, no bars, and no more of a GPU's memory than is used."""
    here = dict(os.environ) | {"MPLBACKEND": "Agg", "FLATDYN_PROGRESS": "0"}
    here.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    given = {f"JAX_{name.upper()}": getattr(jax.config, f"jax_{name}", None) for name in _TOLD}
    return here | {name: str(value) for name, value in given.items() if value not in (None, "")}


def _how_it_ended(process: subprocess.Popen) -> str:
    code = process.wait()
    process.stdout.close()
    with contextlib.suppress(OSError):
        process.stdin.close()
    if code >= 0:
        return f"the worker ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    return f"the worker was ended by signal {name}" + (", as a full memory does" if name == "SIGKILL" else "")


# --- in the worker --------------------------------------------------------------------------------------------


def serve() -> None:
    """Do what comes in on stdin; the results go where stdout was, and what others write to stdout goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that asks
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    while True:
        content = tasks.get()
        try:
            function, arguments, options = pickle.loads(content)
            answer = pickle.dumps((True, function(*arguments, **options)))
        except Exception as error:
            answer = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        answers.write(answer)
        answers.flush()


def _listen(tasks: queue.SimpleQueue) -> None:
    """Hand tasks on; where there will be none any more, this process ends, whatever it does."""
    with contextlib.suppress(OSError, ValueError):
        while len(head := sys.stdin.buffer.read(8)) == 8:
            tasks.put(sys.stdin.buffer.read(int.from_bytes(head, "big")))
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
