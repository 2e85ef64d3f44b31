"""Where long runs are: samples of their second half, and their last positions in a row.

The search for attractors uses these. They are always in 64 bits: in 32, a run stands still wherever a step is smaller
than the rounding of its position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from flatdyn.processes import Process
from flatdyn.runs import stepping
from flatdyn.runs.visits import visits

SAMPLES = 128  # of each quarter of a run
CONSECUTIVE = 64  # positions at the end of a run


class Walks(NamedTuple):
    """What is known of some runs, with the runs in front.

    Attributes:
        starts: shape (runs, dim)
        tails: samples of the third and the last quarter, in order, shape (runs, 2 SAMPLES, dim)
        ends: the very last positions in a row, shape (runs, CONSECUTIVE, dim)
        alive: who has not diverged, shape (runs,)
        states: the last full states, a tree
    """

    starts: np.ndarray
    tails: np.ndarray
    ends: np.ndarray
    alive: np.ndarray
    states: Any


def bytes_of(runs: int, dim: int) -> int:
    """What the walks of so many runs take, twice: while they are put in order."""
    return 2 * runs * dim * 8 * (2 * SAMPLES + CONSECUTIVE)


class Walkers:
    """Runs of one process, all of the same length. To be used in 64 bits.

    Args:
        process: what moves
        max_steps: after which the tails end; at least 4 SAMPLES
        bound: largest |coordinate|
        key: a JAX key, if the process is random
        progress: as for :func:`flatdyn.simulate`
    """

    def __init__(self, process: Process, max_steps: int, bound: float, key: jax.Array | None, progress: bool | None):
        self.process = stepping.prepared(process, np.dtype(float))
        self.seed = stepping.seed_of(process, key)
        self.bound, self.progress = float(bound), progress
        quarter = max(max_steps // 4, SAMPLES)
        stride = quarter // SAMPLES
        stride -= stride > 1 and stride % 2 == 0  # odd: a short even cycle is seen in all its phases
        skipped = 4 * quarter - 2 * SAMPLES * stride
        sampled = skipped + stride * np.arange(1, 2 * SAMPLES + 1)
        self.times = np.append(sampled, sampled[-1] + np.arange(1, CONSECUTIVE + 1))
        self.steps = int(self.times[-1])

    def walk(self, starts: np.ndarray) -> Walks:
        """Runs from `starts`, shape (runs, dim)."""
        seen = visits(
            self.process,
            starts,
            self.times,
            self.seed,
            self.bound,
            progress=self.progress,
            unit="steps in search of attractors",
        )
        tails, ends = np.split(seen.positions, [2 * SAMPLES], axis=1)
        return Walks(starts, tails, ends, seen.alive, seen.states)
