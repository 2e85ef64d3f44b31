"""Work in the background of which only the newest counts: a thread that takes the last job given to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from math import inf

Job = Callable[[Callable[[], bool]], None]  # is called with a function that says whether it is out of date


class Lane:
    """A thread that runs one job at a time, and of those that wait the newest alone.

    Args:
        name: of the thread
        failed: is told what a job raised; the lane goes on
    """

    def __init__(self, name: str, failed: Callable[[Exception], None]):
        self._name, self._failed = name, failed
        self._changed = threading.Condition()
        self._next: Job | None = None
        self._number = 0
        self._busy = self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Run this job as soon as the one that runs has ended; jobs that still wait are dropped."""
        with self._changed:
            if self._closed:
                return
            self._next, self._number = job, self._number + 1
            if self._thread is None:  # a lane that nobody uses costs no thread
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left to do; whether that came about."""
        with self._changed:
            done = lambda: self._next is None and not self._busy  # noqa: E731
            return self._changed.wait_for(done, None if seconds == inf else seconds)

    def pause(self, seconds: float, stale: Callable[[], bool]) -> bool:
        """Within a job: wait so long for a newer one; whether none came."""
        with self._changed:
            return not self._changed.wait_for(stale, seconds)

    def close(self) -> None:
        """End the thread after the job that runs."""
        with self._changed:
            self._closed, self._next = True, None
            self._number += 1
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next is not None)
                if self._closed:
                    return
                job, number, self._next, self._busy = self._next, self._number, None, True
            try:
                job(lambda number=number: self._number != number)
            except Exception as error:
                with contextlib.suppress(Exception):  # a view that is gone, to whom nothing can be said
                    self._failed(error)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
