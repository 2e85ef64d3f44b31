"""Long work in pieces: often enough for Ctrl-C, with a bar that shows how far it is.

Python hears an interrupt between compiled programs, not in one. So what a compiled program does is cut into segments
of about half a second, whose length follows the clock: no result depends on how the work is cut.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.core.progress import Bar, Lines, on_a_screen

_SEGMENT_SECONDS = 0.5
_ROWS = 1 << 12  # that a segment of :func:`mapped` may have


def next_length(steps: int, seconds: float) -> int:
    """How many steps the next compiled segment should take, after `steps` took `seconds` (compiling included)."""
    return max(1, int(steps * min(64.0, max(0.25, _SEGMENT_SECONDS / max(seconds, 1e-6)))))


def next_cut(done: int, total: int, length: int, *, every: int | None = None, most: int | None = None) -> int:
    """How many of `total` steps the next segment takes, if `length` are wanted.

    Args:
        done: steps before
        every: steps in a period: the segment takes whole periods, or a part of one
        most: steps in a segment; whole periods
    """
    now = min(length, total - done, total if most is None else most)
    if every is None:
        return now
    left = every - done % every  # of the period
    return now - now % every if left == every <= now else min(now, left)


def cut(
    total: int, *, bar: Bar | Lines | None = None, stopped: threading.Event | None = None, most: int | None = None
) -> Iterator[tuple[int, int]]:
    """Cut `total` steps into segments (done before, steps now), each as long as the one before lets expect.

    The body of the loop has to wait for its results, or the clock is not theirs.

    Args:
        total: number of steps
        bar: progress bar, which counts the steps that are done
        stopped: ends the work when it is set
        most: steps in a segment
    """
    done, length = 0, 1
    while done < total and not (stopped is not None and stopped.is_set()):
        now = next_cut(done, total, length, most=most)
        begun = time.perf_counter()
        yield done, now
        length = next_length(now, time.perf_counter() - begun)
        done += now
        if bar is not None:
            bar.update(now)


def progress_bar(total: int, unit: str, shown: bool | None) -> Bar | Lines:
    """A bar that appears after two seconds (`shown=None`), at once (True), or never (False), and vanishes at the end.

    Where stderr is no terminal but a file, a line every 30 s takes its place, and one at once with True. Set
    FLATDYN_PROGRESS=0 to have none by default, as recorded notebooks do.
    """
    if shown is not None:
        checks.flag("progress", shown)
    hidden = shown is False or (shown is None and os.environ.get("FLATDYN_PROGRESS") == "0")
    if not hidden and not on_a_screen():
        return Lines(total, f" {unit}", at_once=shown is True)
    return Bar(total=total, unit=f" {unit}", unit_scale=True, disable=hidden, delay=0 if shown else 2)


def mapped(
    function: Callable,
    rows: Any,
    *arguments: Any,
    bar: Bar | Lines | None = None,
    stopped: threading.Event | None = None,
) -> Any:
    """`function(row, *arguments)` of every row, one after the other as by `jax.lax.map`, in segments.

    Args:
        function: from a row and the arguments to a tree of arrays; defined at the top of a module, so that another
            call finds the compiled program
        rows: a tree of arrays with the rows in front, at least one
        arguments: the same for all rows
        bar, stopped: as for :func:`cut`
    Returns:
        a tree of NumPy arrays with the rows in front; those done so far, if it was stopped
    """
    number, pieces = len(jax.tree.leaves(rows)[0]), []
    capacity = min(_ROWS, number)
    for done, now in cut(number, bar=bar, stopped=stopped, most=capacity):
        piece = _some(function, rows, arguments, *map(precision.on_device, np.int32([done, now])), capacity)
        pieces.append(jax.tree.map(lambda leaf, now=now: np.asarray(leaf)[:now], piece))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


@eqx.filter_jit
def _some(function: Callable, rows: Any, arguments: tuple, first: jax.Array, number: jax.Array, capacity: int) -> Any:
    def row(i):
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), rows)

    def one(i, kept):
        new = function(row(first + i), *arguments)
        return jax.tree.map(lambda leaf, x: jax.lax.dynamic_update_index_in_dim(leaf, x, i, 0), kept, new)

    shapes = jax.eval_shape(lambda: function(row(first), *arguments))
    empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, number, one, empty)
