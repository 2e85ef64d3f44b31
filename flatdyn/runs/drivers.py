"""What every driver of runs needs: chunks that fit, devices, guarded steps, and what to do when memory runs out.

:mod:`flatdyn.runs.ensembles` drives runs for a number of steps, :mod:`flatdyn.runs.lanes` until they are finished, and
:mod:`flatdyn.networks.training` while it judges them.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flatdyn.core import checks, precision, randomness
from flatdyn.core.memory import array_bytes as array_bytes
from flatdyn.core.memory import check_memory as check_memory
from flatdyn.core.segments import mapped as mapped
from flatdyn.core.segments import next_length as next_length
from flatdyn.core.segments import progress_bar as progress_bar
from flatdyn.core.segments import segments as segments
from flatdyn.processes import Process
from flatdyn.processes.base import as_before

_CHUNK_BYTES = 2**19  # of state per chunk on a CPU: what stays in its cache
_SMALL_RUN = 1 << 8  # bytes of a position up to which a vector of the processor may hold several runs
CHECKPOINT_SECONDS = 20.0
_WORTH_A_THREAD = 2**13  # runs


class Chunk(NamedTuple):
    """Runs `start … start + length − 1`, padded to `size` so that all chunks share one compiled program."""

    start: int
    length: int
    size: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.length)


def neighbours(process: Process, starts: jax.Array) -> bool:
    """Whether runs lie side by side in the vectors of the processor: coordinates kept one by one, or few of them.

    The compiler rounds the odd end of a loop differently from its vectorised body. So there must then be many runs at
    once, idle ones if need be, or the last bit of one would depend on how many others there are.
    """
    if starts.nbytes // len(starts) <= _SMALL_RUN:
        return True
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype))
    single = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return 2 * len(single) >= process.dim


def chunks(process: Process, starts: jax.Array, chunk: int | None) -> list[Chunk]:
    """Cut runs into equal chunks: what fits the cache on a CPU, much more on a GPU.

    Sizes are multiples of the devices, and of 64 runs on each where they are :func:`neighbours`.
    """
    devices, runs, bytes_per_run = jax.local_devices(), len(starts), starts.nbytes // len(starts)
    if chunk is None:
        chunk = max(_CHUNK_BYTES * (1 if devices[0].platform == "cpu" else 256) // bytes_per_run, 1) * len(devices)
    chunk = checks.count("chunk", chunk, at_least=1)
    number = max(-(-runs // chunk), min(len(places()) if len(devices) == 1 else 1, runs // _WORTH_A_THREAD))
    size = -(-runs // number)
    size += -size % (len(devices) * (64 if runs > 1 and neighbours(process, starts) else 1))
    return [Chunk(start, min(size, runs - start), size) for start in range(0, runs, size)]


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
        array = jnp.asarray(checks.real(leaf))
        return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map_with_path(as_array, process, is_leaf=lambda leaf: isinstance(leaf, sympy.Basic))


def places() -> list[jax.Device]:
    """A device for each program that can run by itself: all of them, or the one CPU device once for every core."""
    devices = jax.local_devices()
    if len(devices) == 1 and devices[0].platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return devices * cores
    return devices


def side_by_side(run: Callable, parts: list) -> None:
    """Call `run(part, stopped)` for all parts: one per core of a single CPU device, else one over all devices.

    An interrupt, or an error in one part, sets the event `stopped`, which the others look at between segments.
    """
    stopped = threading.Event()
    abreast = len(places()) if len(jax.local_devices()) == 1 else 1
    with ThreadPoolExecutor(min(abreast, len(parts))) as threads:
        try:
            for job in [threads.submit(precision.as_here(run), part, stopped) for part in parts]:
                job.result()
        finally:
            stopped.set()
            threads.shutdown(wait=False, cancel_futures=True)  # parts that have not begun never do


class TooMany(RuntimeError):
    """So many runs at once do not fit into the memory of a device."""

    def __init__(self, size: int):
        super().__init__(f"{size} runs at once do not fit into the device's memory")
        self.size = size


@contextlib.contextmanager
def memory_guard(size: int):
    """Tell a device that runs out of memory over `size` runs at once from other errors, while fewer could do."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if size <= len(jax.local_devices()) or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TooMany(size) from error


def fitting(attempt: Callable[[int | None], Any], chunk: int | None) -> Any:
    """Call `attempt(chunk)`, with half as many runs at once as long as they do not fit, and say so."""
    failed = np.inf
    while True:
        try:
            return attempt(chunk)
        except TooMany as error:
            if error.size >= failed:  # sizes are rounded up
                raise error.__cause__ from None
            failed, chunk = error.size, error.size // 2
            warnings.warn(f"{error}: going on with chunk={chunk}", stacklevel=3)


def state_bytes(process: Process, dtype: Any) -> int:
    """Bytes of one run's full state."""
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((process.dim,), dtype))
    return sum(array_bytes(*leaf.shape, itemsize=leaf.dtype.itemsize) for leaf in jax.tree.leaves(state))


def check_steps(name: str, value: Any, at_least: int = 0) -> int:
    """Return `value` if it is a number of steps: a whole number below 2³¹, which is as far as the runs count.

    Raises:
        ValueError: if it is none
    """
    steps = checks.count(name, value, at_least)
    if steps >= 2**31:
        raise ValueError(f"{name} must be below 2**31, got {steps}: steps are counted in 32 bits")
    return steps


class Carry(NamedTuple):
    """What a batch of runs carries from step to step: states, whether still going, steps taken."""

    state: Any
    alive: jax.Array
    taken: jax.Array


def guarded_step(process: Process, carry: Carry, seed: jax.Array | None, run: jax.Array, step: Any, bound: Any):
    """One step of one run; one whose next state is not finite, not possible or beyond `bound` stays where it was."""
    key = randomness.run_key(seed, run, step) if process.random else None
    state = as_before(process.step(carry.state, key), carry.state)
    position, beside = process.position(state), jax.tree.leaves(process.beside(state))
    finite = [jnp.isfinite(leaf).all() for leaf in beside if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    inside = (jnp.abs(position) <= jnp.minimum(bound, jnp.finfo(position.dtype).max)).all()  # finite, too
    alive = functools.reduce(operator.and_, finite, carry.alive & inside) & process.possible(state)
    state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), state, carry.state)
    return Carry(state, alive, carry.taken + alive)


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


def place(array: jax.Array) -> jax.Array:
    """Spread the leading axis over all devices of this process."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return jax.device_put(array)
    mesh = Mesh(np.array(devices), ("runs",))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec("runs")))


def start(process: Process, starts: jax.Array, part: Chunk) -> tuple[jax.Array, Carry]:
    """Numbers of the runs of a chunk, and what they carry at step 0, on their devices."""
    numbers = np.arange(part.start, part.start + part.size, dtype=np.uint32)
    states = _init(process, place(np.asarray(starts)[np.minimum(numbers, len(starts) - 1)]))
    alive, taken = np.ones(part.size, bool), np.zeros(part.size, np.int32)
    return place(numbers), Carry(states, place(alive), place(taken))


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


@eqx.filter_jit
def _init(process: Process, theta: jax.Array) -> Any:
    return jax.vmap(process.init)(theta)


def next_exists(process, carry: Carry, seed, run):
    """Whether the step that a run would take next, or whose failure ended it, is one that the method can take."""
    key = randomness.run_key(seed, run, carry.taken) if process.random else None
    return jnp.asarray(process.possible(process.step(carry.state, key)))
