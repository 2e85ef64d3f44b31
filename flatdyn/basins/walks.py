"""Where long runs are: samples of their second half, and their last positions in a row.

The search for attractors uses these. They are always in 64 bits: in 32, a run stands still wherever a step is smaller
than the rounding of its position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import segments
from flatdyn.processes import Process
from flatdyn.runs import devices, stepping

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
        self.bound, self.progress = jnp.asarray(float(bound)), progress
        quarter = max(max_steps // 4, SAMPLES)
        stride = quarter // SAMPLES
        self.stride = stride - (stride > 1 and stride % 2 == 0)  # odd: a short even cycle is seen in all its phases
        self.skipped = 4 * quarter - 2 * SAMPLES * self.stride
        self.steps = self.skipped + 2 * SAMPLES * self.stride + CONSECUTIVE

    def walk(self, starts: np.ndarray) -> Walks:
        """Runs from `starts`, shape (runs, dim), in segments that hear Ctrl-C."""
        runs, whole = len(starts), 64 * len(jax.local_devices())  # whole vectors, as devices.chunks explains
        numbers, carry = stepping.start(self.process, starts, devices.Chunk(0, runs, -(-runs // whole) * whole))
        kept = []

        def advance(carry, times: int, steps: int, bar: Any):
            plan = jnp.array([times, steps])
            carry, seen = jax.block_until_ready(_advanced(self.process, carry, self.seed, numbers, self.bound, plan))
            bar.update(times * steps)
            return carry, np.asarray(seen)[:times, :runs]

        with segments.progress_bar(self.steps, "steps in search of attractors", self.progress) as bar:
            for _, steps in segments.cut(self.skipped):
                carry, _ = advance(carry, 1, steps, bar)
            for _, times in segments.cut(2 * SAMPLES, most=SAMPLES):
                if times == 1:  # from one sample to the next it may be far
                    for _, steps in segments.cut(self.stride):
                        carry, seen = advance(carry, 1, steps, bar)
                else:
                    carry, seen = advance(carry, times, self.stride, bar)
                kept.append(seen)
            carry, ends = advance(carry, CONSECUTIVE, 1, bar)
        tails, ends = (np.swapaxes(seen, 0, 1) for seen in (np.concatenate(kept), ends))
        states = jax.tree.map(lambda leaf: np.asarray(leaf)[:runs], carry.state)
        return Walks(starts, tails, ends, np.asarray(carry.alive)[:runs], states)


@eqx.filter_jit
def _advanced(process: Process, carry: stepping.Carry, seed, numbers, bound, plan):
    """Advance so many times so many steps; positions after each, (SAMPLES, runs, dim)."""
    times, steps = plan

    def one(i, carry_and_seen):
        carry, seen = carry_and_seen
        carry = stepping.advanced(process, carry, seed, numbers, steps, bound)
        return carry, seen.at[i].set(jax.vmap(process.position)(carry.state))

    seen = jnp.zeros((SAMPLES, len(numbers), process.dim))
    return jax.lax.fori_loop(0, times, one, (carry, seen))
