"""Many runs of a process: chunks that fit the cache, all devices, progress, and a status for each run.

Runs are independent, and a run's random numbers depend on its number and the step alone, so results do not
depend on how the work is cut: chunk size, number of devices, length of a compiled segment.
"""

from __future__ import annotations

import functools
import operator
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm.auto import tqdm

from flatdyn import checks, randomness, records
from flatdyn.processes import Process
from flatdyn.records import Ensemble, Status

_SEGMENT_SECONDS = 0.5  # how long a compiled segment should take: often enough for Ctrl-C and the progress bar
_CHUNK_BYTES = 2**19  # of state per chunk on a CPU: what stays in its cache
_WORTH_A_THREAD = 2**13  # runs
_BUFFER_BYTES = 2**26  # of recorded positions per segment


def simulate(
    process: Process,
    theta0: Any,
    steps: int,
    key: jax.Array | None = None,
    every: int = 1,
    *,
    observe: Callable | None = None,
    bound: float = np.inf,
    tol: float | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
) -> Ensemble:
    """Run a process from one or many starting points and keep every `every`-th position.

        θ₀ given,   stateₖ₊₁ = process.step(stateₖ, key(run, k)),   k = 0 … steps − 1

    A run that leaves the finite numbers, or `bound`, stops there: it keeps its last good position and is DIVERGED.
    So does a run whose next step does not exist (a constraint's multiplier), and is IMPOSSIBLE.
    A deterministic run is CONVERGED if one more step would move no coordinate by more than tol (1 + |θᵢ|), so a
    cycle is not. Everything else, and every noisy run, is UNDECIDED.

    Args:
        process: what moves
        theta0: starting points, shape (dim,) or (runs, dim), floating point; its precision is the run's precision
        steps: number of steps
        key: a JAX key; needed if the process is random
        every: keep the positions at steps 0, every, 2·every, …; `every=steps` keeps first and last
        observe: a function of the full state, such as `lambda state: state.momentum @ state.momentum`, whose value,
            one array, is kept along with the positions
        bound: largest |coordinate| that counts as not diverged
        tol: for CONVERGED; the rounding unit if not given, which means "until nothing moves any more"
        chunk: runs that advance together; chosen to fit the cache if not given
        progress: show a bar; if not given, when the work takes more than two seconds
    Returns:
        Ensemble with theta of shape (runs, times, dim), or (times, dim) for a single starting point
    Raises:
        ValueError: if theta0, steps, every, bound, tol, chunk or key do not fit; if the method cannot start at theta0;
            if the trajectories would not fit into memory; if a hyperparameter is a symbol
    """
    steps, every = checks.count("steps", steps), checks.count("every", every, at_least=1)
    theta0 = checks.points("theta0", theta0, process.dim)
    starts = jnp.atleast_2d(theta0)
    runs, dim = starts.shape
    if runs == 0:
        raise ValueError(f"theta0 must hold at least one point, got shape {theta0.shape}")
    kept = 1 + steps // every
    extra = _shape_of(observe, process, starts)
    width = dim + int(np.prod(extra.shape))
    _check_memory(runs * kept * width * starts.dtype.itemsize)
    process.check(starts)
    tol = float(jnp.finfo(starts.dtype).eps) if tol is None else checks.number("tol", tol, at_least=0)
    if not bound > 0:
        raise ValueError(f"bound must be > 0, got {bound}")
    config = {"process": repr(process), "steps": str(steps), "bound": f"{bound:g}", "tol": f"{tol:g}"}
    process, seed = prepared(process, starts.dtype), seed_of(process, key)
    bound, tol = jnp.asarray(bound, starts.dtype), jnp.asarray(tol, starts.dtype)

    theta = np.empty((runs, kept, dim), starts.dtype)
    final, status, taken = np.empty((runs, dim), starts.dtype), np.empty(runs, np.int8), np.empty(runs, np.int64)
    observed = np.empty((runs, kept, *extra.shape), extra.dtype)
    parts = chunks(runs, chunk, dim * starts.dtype.itemsize)

    capacity = max(1, _BUFFER_BYTES // (parts[0].size * width * starts.dtype.itemsize))
    capacity = min(capacity, 1 << (kept - 1).bit_length())  # a power of 2: similar lengths share a program

    def run(part: Chunk, stopped: threading.Event) -> None:
        numbers, carry = start(process, starts, part)
        theta[part.rows, 0] = starts[part.rows]
        observed[part.rows, 0] = np.asarray(_observed(observe, carry.state))[: part.length]
        done, length = 0, 64
        while done < steps and not stopped.is_set():
            periods, period = _cut(done, steps, every, length, capacity)
            begun = time.perf_counter()
            where = jnp.array([done, periods, period])  # traced: a Python number would compile anew each time
            arguments = (process, observe, carry, seed, numbers, where, bound, capacity)
            carry, kept_now = jax.block_until_ready(_segment(*arguments))
            length = next_length(periods * period, time.perf_counter() - begun)
            done += periods * period
            bar.update(periods * period)
            if done % every == 0:
                slots = slice(done // every - periods + 1, done // every + 1)
                for target, buffer in zip((theta, observed), kept_now, strict=True):
                    target[part.rows, slots] = np.swapaxes(buffer[:periods], 0, 1)[: part.length]
        outcome = _outcome(process, carry, seed, numbers, tol)
        final[part.rows], status[part.rows], taken[part.rows] = (np.asarray(x)[: part.length] for x in outcome)

    if len(parts) > 1:  # compiled here once, and not by each thread for itself
        numbers, carry = start(process, starts, parts[0])
        _segment(process, observe, carry, seed, numbers, jnp.array([0, 0, 1]), bound, capacity)
        _outcome(process, carry, seed, numbers, tol)
    with progress_bar(steps * len(parts), "steps", progress) as bar:
        side_by_side(run, parts)
    per_run = {"theta": theta, "final": final, "status": status, "steps": taken, "observed": observed}
    if theta0.ndim == 1:
        per_run = {name: values[0] for name, values in per_run.items()}
    return Ensemble(config=config, provenance=records.provenance(), times=np.arange(kept) * every, **per_run)


# --- what every driver of runs needs --------------------------------------------------------------------------


class Chunk(NamedTuple):
    """Runs `start … start + length − 1`, padded to `size` so that all chunks share one compiled program."""

    start: int
    length: int
    size: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.length)


def chunks(runs: int, chunk: int | None, bytes_per_run: int) -> list[Chunk]:
    """Cut `runs` into equal chunks: what fits the cache on a CPU, much more on a GPU.

    Sizes are multiples of the devices, and of 64 runs on each if runs are small: the compiler rounds the odd end of
    a loop differently from its vectorised body, and a run's last bit would depend on its neighbours.
    """
    devices = jax.local_devices()
    if chunk is None:
        chunk = max(_CHUNK_BYTES * (1 if devices[0].platform == "cpu" else 256) // bytes_per_run, 1) * len(devices)
    chunk = checks.count("chunk", chunk, at_least=1)
    number = max(-(-runs // chunk), min(len(places()) if len(devices) == 1 else 1, runs // _WORTH_A_THREAD))
    size = -(-runs // number)
    size += -size % (len(devices) * (64 if runs > 1 and bytes_per_run <= 1024 else 1))
    return [Chunk(start, min(size, runs - start), size) for start in range(0, runs, size)]


def prepared(process: Process, dtype: Any) -> Process:
    """The process with its numbers as arrays of the runs' precision, so that a new value needs no new program.

    Raises:
        ValueError: if a number is still a symbol
    """

    def as_array(leaf):
        if isinstance(leaf, sympy.Basic):
            raise ValueError(f"a simulation needs numbers: {leaf} is a symbol in {process!r}")
        if isinstance(leaf, (bool, np.bool_)) or not isinstance(leaf, (int, float, np.ndarray, np.generic, jax.Array)):
            return leaf
        array = jnp.asarray(checks.real(leaf))
        return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map(as_array, process, is_leaf=lambda leaf: isinstance(leaf, sympy.Basic))


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
            for job in [threads.submit(run, part, stopped) for part in parts]:
                job.result()
        finally:
            stopped.set()


class Carry(NamedTuple):
    """What a batch of runs carries from step to step: states, whether still going, steps taken."""

    state: Any
    alive: jax.Array
    taken: jax.Array


def guarded_step(process: Process, carry: Carry, seed: jax.Array | None, run: jax.Array, step: Any, bound: Any):
    """One step of one run; one whose next state is not finite, not possible or beyond `bound` stays where it was."""
    key = randomness.run_key(seed, run, step) if process.random else None
    state = process.step(carry.state, key)
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    inside = (jnp.abs(process.position(state)) <= bound).all()
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


def next_length(steps: int, seconds: float) -> int:
    """How many steps the next compiled segment should take, after `steps` took `seconds` (compiling included)."""
    return max(1, int(steps * min(8.0, max(0.25, _SEGMENT_SECONDS / max(seconds, 1e-6)))))


def progress_bar(total: int, unit: str, shown: bool | None) -> tqdm:
    """A bar that appears after two seconds (`shown=None`), at once (True), or never (False).

    Set FLATDYN_PROGRESS=0 to have none by default, as recorded notebooks do.
    """
    hidden = shown is False or (shown is None and os.environ.get("FLATDYN_PROGRESS") == "0")
    return tqdm(total=total, unit=f" {unit}", unit_scale=True, disable=hidden, delay=0 if shown else 2, leave=False)


def place(array: jax.Array) -> jax.Array:
    """Spread the leading axis over all devices of this process."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return jnp.asarray(array)
    mesh = Mesh(np.array(devices), ("runs",))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec("runs")))


def start(process: Process, starts: jax.Array, part: Chunk) -> tuple[jax.Array, Carry]:
    """Numbers of the runs of a chunk, and what they carry at step 0, on their devices."""
    numbers = np.arange(part.start, part.start + part.size, dtype=np.uint32)
    states = _init(process, place(starts[np.minimum(numbers, len(starts) - 1)]))
    alive, taken = np.ones(part.size, bool), np.zeros(part.size, np.int32)
    return place(numbers), Carry(states, place(alive), place(taken))


def seed_of(process: Process, key: jax.Array | None) -> jax.Array | None:
    """The mixed words of a key, or None for a process that draws nothing.

    Raises:
        ValueError: if the process is random and there is no key
    """
    if not process.random:
        return None
    if key is None:
        raise ValueError("this process is random: pass key=jax.random.key(0), or another seed")
    return randomness.seed_words(key)


@eqx.filter_jit
def _init(process: Process, theta: jax.Array) -> Any:
    return jax.vmap(process.init)(theta)


# --- the parts of simulate ------------------------------------------------------------------------------------


def _check_memory(wanted: int) -> None:
    if hasattr(os, "sysconf") and wanted > 0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise ValueError(
            f"the trajectories would take {wanted / 2**30:.1f} GiB, more than this machine has: keep fewer positions "
            "with a larger `every` (every=steps keeps the first and the last)"
        )


def _cut(done: int, steps: int, every: int, length: int, capacity: int) -> tuple[int, int]:
    """The next segment as (periods, period): whole periods of `every` steps, or a piece of one."""
    to_next = every - done % every
    if to_next < every or length < every:
        return 1, min(length, to_next, steps - done)
    periods = min(length // every, (steps - done) // every, capacity)
    return (periods, every) if periods else (1, steps - done)


def _shape_of(observe: Callable | None, process: Process, starts: jax.Array) -> Any:
    """Shape and type of what `observe` gives of one state."""
    if observe is None:
        return jax.ShapeDtypeStruct((0,), starts.dtype)
    point = jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)
    found = jax.eval_shape(lambda theta: observe(process.init(theta)), point)
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise ValueError(f"observe must give one array of a state, got {found}")
    return found


@eqx.filter_jit
def _observed(observe: Callable | None, states: Any) -> jax.Array:
    if observe is None:
        return jnp.zeros((len(jax.tree.leaves(states)[0]), 0))
    return jax.vmap(observe)(states)


@eqx.filter_jit
def _segment(process, observe, carry: Carry, seed, numbers, where: jax.Array, bound: jax.Array, capacity: int):
    """Advance `periods` times `period` steps; positions and what is observed after each, (capacity, runs, ...)."""
    done, periods, period = where

    def step(i, carry):
        return jax.vmap(guarded_step, (None, 0, None, 0, None, None))(process, carry, seed, numbers, i, bound)

    def advance(p, carry_and_buffer):
        carry, buffers = carry_and_buffer
        first = done + p * period
        carry = jax.lax.fori_loop(first, first + period, step, carry)
        return carry, jax.tree.map(lambda buffer, new: buffer.at[p].set(new), buffers, seen(carry))

    def seen(carry):
        return jax.vmap(process.position)(carry.state), _observed(observe, carry.state)

    buffers = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), jax.eval_shape(seen, carry))
    return jax.lax.fori_loop(0, periods, advance, (carry, buffers))


@eqx.filter_jit
def _outcome(process, carry: Carry, seed, numbers, tol):
    """Positions, status and steps taken of a batch of runs that is finished."""
    final = jax.vmap(process.position)(carry.state)
    ended = Status.DIVERGED
    if process.possible(jax.tree.map(lambda leaf: leaf[0], carry.state)) is not True:
        exists = jax.vmap(_next_exists, (None, 0, None, 0))(process, carry, seed, numbers)
        ended = jnp.where(exists, Status.DIVERGED, Status.IMPOSSIBLE)
    status = jnp.where(carry.alive, Status.UNDECIDED, ended)
    if not process.random:
        after = jax.vmap(lambda state: process.position(process.step(state)))(carry.state)
        settled = (jnp.abs(after - final) <= tol * (1 + jnp.abs(final))).all(axis=-1)
        status = jnp.where(carry.alive & settled, Status.CONVERGED, status)
    return final, status.astype(jnp.int8), carry.taken


def _next_exists(process, carry: Carry, seed, run):
    """Whether the step that a run would take next, or whose failure ended it, is one that the method can take."""
    key = randomness.run_key(seed, run, carry.taken) if process.random else None
    return jnp.asarray(process.possible(process.step(carry.state, key)))
