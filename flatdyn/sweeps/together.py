"""Several processes of a distributed run in one sweep: they meet in the folder that keeps its cells.

Each process keeps its cells there as it finishes them, and reads those of the others as they appear. A small file for
each process says which sweep it makes, and what went wrong in it. A file that an earlier run has left is not believed:
only one that stays as it is for a while is, as a process that makes the call writes its own anew.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax

from flatdyn.core import records

PATIENCE = 10.0  # seconds that a file must stay before it is believed
_PAUSE = 0.1


class Meeting:
    """This process and the others of one sweep.

    Args:
        folder: which all of them see
        call: a word for the sweep, the same in all of them
    """

    def __init__(self, folder: Path, call: str):
        self.folder, self.call = folder, call
        self.tell()

    def tell(self, problem: str | None = None) -> None:
        """Say which sweep this is, and what went wrong, if anything did."""
        self.folder.mkdir(parents=True, exist_ok=True)
        records.write_whole(self._file(jax.process_index()), json.dumps([self.call, problem]).encode())

    def wait(self, missing: Callable[[], bool]) -> None:
        """Wait until nothing is missing.

        Raises:
            RuntimeError: if another process has failed
            ValueError: if another process makes another sweep
        """
        since: dict[tuple, float] = {}
        while missing():
            now = time.monotonic()
            messages = {
                (rank, *self._message(rank)) for rank in range(jax.process_count()) if rank != jax.process_index()
            }
            since = {one: since.get(one, now) for one in messages}
            for (rank, call, problem), first in since.items():
                if now - first < PATIENCE:
                    continue
                if call not in (self.call, None):
                    raise ValueError(f"process {rank} makes another sweep: all processes must make the same calls")
                if problem is not None:
                    raise RuntimeError(f"process {rank}: {problem}")
            time.sleep(_PAUSE)

    def leave(self) -> None:
        """Take this process's file away."""
        with contextlib.suppress(OSError):
            self._file(jax.process_index()).unlink()

    def _file(self, rank: int) -> Path:
        return self.folder / f".process-{rank}.json"

    def _message(self, rank: int) -> tuple[str | None, str | None]:
        try:
            call, problem = json.loads(self._file(rank).read_text())
        except (OSError, ValueError):  # it has not begun, or has left
            return None, None
        return call, problem
