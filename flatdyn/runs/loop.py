"""The loop of runs that all take the same number of steps: chunks side by side, each in compiled segments.

:func:`flatdyn.simulate` keeps positions between the segments, :func:`flatdyn.networks.train` evaluates networks and
writes a checkpoint. They say so in a subclass of :class:`Work`.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import jax

from flatdyn.core import segments
from flatdyn.processes import Process
from flatdyn.runs import devices, stepping
from flatdyn.runs.devices import Chunk
from flatdyn.runs.stepping import Carry


class Work:
    """Runs under way; a subclass says what a segment computes, and what is kept of it.

    Args:
        process: what moves, with its numbers as arrays: see :func:`flatdyn.runs.stepping.prepared`
        starts: θ₀, shape (runs, dim)
        steps: number of steps of each run
        every: steps in a period; a segment holds whole periods, or a part of one
        parts: the runs in chunks
    """

    most_periods = 1  # in a segment

    def __init__(self, process: Process, starts: jax.Array, steps: int, every: int, parts: list[Chunk]):
        self.process, self.starts, self.steps, self.every, self.parts = process, starts, steps, every, parts

    def begin(self, part: Chunk) -> tuple[int, jax.Array, Carry]:
        """Steps that a chunk has done, the indices of its runs, and what they carry."""
        return 0, *stepping.start(self.process, self.starts, part)

    def compile(self, numbers: jax.Array, carry: Carry) -> None:
        """Call each program once, so that not every thread compiles it for itself."""
        raise NotImplementedError

    def advance(self, numbers: jax.Array, carry: Carry, done: int, periods: int, period: int) -> tuple[Carry, Any]:
        """What runs carry after `periods` times `period` more steps, and what was seen on the way."""
        raise NotImplementedError

    def keep(self, part: Chunk, done: int, carry: Carry, seen: Any, stopped: threading.Event) -> bool:
        """Keep what a segment has led to, or the start if nothing is done; False if it was stopped before it could."""
        raise NotImplementedError

    def end(self, part: Chunk, numbers: jax.Array, carry: Carry) -> None:
        """Keep what became of the runs of a chunk after all steps."""
        raise NotImplementedError


def run(work: Work, progress: bool | None, done: int = 0) -> None:
    """Take all steps of all runs.

    Args:
        work: whose runs
        progress: as for :func:`flatdyn.simulate`
        done: steps of its chunks that were done before, for the progress bar
    Raises:
        devices.TooMany: if the runs of a chunk do not fit into the memory of a device
    """
    parts = work.parts
    with segments.progress_bar(work.steps * len(parts), "steps", progress) as bar, devices.memory_guard(parts[0].size):
        bar.update(done)
        if len(parts) > 1:
            work.compile(*work.begin(parts[0])[1:])
        devices.side_by_side(functools.partial(_run_chunk, work, bar), parts)


def _run_chunk(work: Work, bar: Any, part: Chunk, stopped: threading.Event) -> None:
    done, numbers, carry = work.begin(part)
    if done == 0 and not work.keep(part, 0, carry, None, stopped):
        return
    length, most = 1, work.most_periods * work.every
    while done < work.steps:
        if stopped.is_set():
            return
        now = segments.next_cut(done, work.steps, length, every=work.every, most=most)
        periods, period = (now // work.every, work.every) if now >= work.every else (1, now)
        begun = time.perf_counter()
        carry, seen = jax.block_until_ready(work.advance(numbers, carry, done, periods, period))
        length = segments.next_length(now, time.perf_counter() - begun)
        done += now
        if not work.keep(part, done, carry, seen, stopped):
            return
        bar.update(now)
    work.end(part, numbers, carry)
