"""One guarded step of many runs: numbers as arrays, the key, and a run that stays where its next step is impossible.

:mod:`flatdyn.runs.ensembles` takes a number of steps, :mod:`flatdyn.runs.queues` steps until runs are finished, and
:mod:`flatdyn.networks.training` steps between which it evaluates.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks, precision, randomness
from flatdyn.processes import Process
from flatdyn.processes.base import as_before
from flatdyn.runs.devices import Chunk, place

# The widest vectors that a CPU has: LLVM takes half of AVX-512 unless it is asked. Others are what they were.
WIDE = {"xla_cpu_prefer_vector_width": 512}


class Carry(NamedTuple):
    """What a batch of runs carries from step to step: states, whether still going, steps taken."""

    state: Any
    alive: jax.Array
    taken: jax.Array


def prepared(process: Process, dtype: Any) -> Process:
    """The process with its numbers as arrays of the runs' precision, so that a new value needs no new program.

    Raises:
        ValueError: if a number is still a symbol
    """

    def as_array(path, leaf):
        if isinstance(leaf, sympy.Basic):
            if not leaf.is_number:
                raise ValueError(f"a simulation needs numbers: {leaf} is a symbol in {process!r}")
            leaf = float(leaf)
        if isinstance(leaf, (bool, np.bool_)) or not isinstance(leaf, (int, float, np.ndarray, np.generic, jax.Array)):
            return leaf
        checks.in_range(jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        number = checks.real(leaf)
        array = jnp.asarray(number) if isinstance(number, int | jax.Array) else np.asarray(number)
        return precision.on_device(array, dtype if jnp.issubdtype(array.dtype, jnp.floating) else None)

    return jax.tree.map_with_path(as_array, process, is_leaf=lambda leaf: isinstance(leaf, sympy.Basic))


def check_steps(name: str, value: Any, at_least: int = 0) -> int:
    """Return `value` if it is a number of steps: a whole number below 2³¹, which is as far as the runs count.

    Raises:
        ValueError: if it is none
    """
    steps = checks.count(name, value, at_least)
    if steps >= 2**31:
        raise ValueError(f"{name} must be below 2**31, got {steps}: steps are counted in 32 bits")
    return steps


def check_key(process: Process, key: jax.Array | None) -> None:
    """Refuse a random process without a key.

    Raises:
        ValueError: if the process is random and there is no key
    """
    if process.random and key is None:
        raise ValueError("this process is random: pass key=jax.random.key(0), or another seed")


def seed_of(process: Process, key: jax.Array | None) -> jax.Array | None:
    """The mixed words of a key, or None for a process that draws nothing; it needs one that is random."""
    check_key(process, key)
    return randomness.seed_words(key) if process.random else None


def guarded_step(process: Process, carry: Carry, seed: jax.Array | None, run: jax.Array, step: Any, bound: Any):
    """One step of one run; one whose next state is not finite, not possible or beyond `bound` stays where it was."""
    key = randomness.run_key(seed, run, step) if process.random else None
    state = as_before(process.step(carry.state, key), carry.state)
    coordinates, beside = jax.tree.leaves(process.coordinates(state)), jax.tree.leaves(process.beside(state))
    good = [jnp.abs(x) <= jnp.minimum(bound, jnp.finfo(x.dtype).max) for x in coordinates]  # finite, too
    good += [jnp.isfinite(leaf) for leaf in beside if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    alive = carry.alive & _all(good) & process.possible(state)
    state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), state, carry.state)
    return Carry(state, alive, carry.taken + alive)


def _all(conditions: list[jax.Array]) -> jax.Array:
    """Whether all hold everywhere; those of one shape are brought together first, so that each shape is read once."""
    together: dict[tuple, jax.Array] = {}
    for condition in conditions:
        before = together.get(condition.shape)
        together[condition.shape] = condition if before is None else before & condition
    return functools.reduce(operator.and_, [condition.all() for condition in together.values()])


def at_rest(process: Process, starts: jax.Array) -> Carry:
    """What runs carry at step 0 from `starts`, shape (runs, dim)."""
    alive, taken = jnp.ones(len(starts), bool), jnp.zeros(len(starts), jnp.int32)
    return Carry(jax.vmap(process.init)(starts), alive, taken)


def advanced(process: Process, carry: Carry, seed: jax.Array | None, runs: jax.Array, steps: Any, bound: Any) -> Carry:
    """Runs after `steps` more steps, each from the step at which it is itself."""

    def step(_, carry):
        guarded = jax.vmap(guarded_step, (None, 0, None, 0, 0, None))
        return guarded(process, carry, seed, runs, carry.taken, bound)

    return jax.lax.fori_loop(0, steps, step, carry)


def next_exists(process, carry: Carry, seed, run):
    """Whether the step that a run would take next, or whose failure ended it, is one that the method can take."""
    key = randomness.run_key(seed, run, carry.taken) if process.random else None
    return jnp.asarray(process.possible(process.step(carry.state, key)))


def start(process: Process, starts: jax.Array, part: Chunk) -> tuple[jax.Array, Carry]:
    """Indices of the runs of a chunk, and what they carry at step 0, on their devices."""
    numbers = np.arange(part.start, part.start + part.size, dtype=np.uint32)
    states = _init(process, place(np.asarray(starts)[np.minimum(numbers, len(starts) - 1)]))
    alive, taken = np.ones(part.size, bool), np.zeros(part.size, np.int32)
    return place(numbers), Carry(states, place(alive), place(taken))


@eqx.filter_jit
def _init(process: Process, theta: jax.Array) -> Any:
    return jax.vmap(process.init)(theta)
