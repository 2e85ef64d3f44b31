"""Many runs of a process: chunks that fit the cache, all devices, progress, and a status for each run.

Runs are independent, and a run's random numbers depend on its number and the step alone, so results do not
depend on how the work is cut: chunk size, number of devices, length of a compiled segment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, records, segments
from flatdyn.core.memory import array_bytes
from flatdyn.core.records import Ensemble, Status
from flatdyn.processes import Process
from flatdyn.runs import devices, rest, stepping
from flatdyn.runs.devices import Chunk
from flatdyn.runs.stepping import Carry

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
    A deterministic run is CONVERGED if it rests at a point that attracts: one more step would move no coordinate by
    more than tol (1 + |θᵢ|), there is a fixed point within √tol (1 + |θᵢ|), and it does not let go of what is beside
    it; the last two are asked in 64 bits (:mod:`flatdyn.runs.rest`). So a run on a cycle is not, nor one that rounding
    holds at a saddle or on a slope, nor one that began on a saddle. Everything else, and every noisy run, is UNDECIDED.

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
    checks.kind("process", process, Process)
    steps, every = checks.count("steps", steps), checks.count("every", every, at_least=1)
    theta0 = checks.points("theta0", theta0, process.dim)
    starts = jnp.atleast_2d(theta0)
    runs, dim = starts.shape
    if runs == 0:
        raise ValueError(f"theta0 must hold at least one point, got shape {theta0.shape}")
    kept = 1 + steps // every
    extra = _shape_of(observe, process, starts)
    remedy = "keep fewer positions with a larger `every` (every=steps keeps the first and the last)"
    if kept <= 2:
        remedy = "start fewer runs at once, in `theta0`"
    row = array_bytes(dim, itemsize=starts.dtype.itemsize) + array_bytes(*extra.shape, itemsize=extra.dtype.itemsize)
    memory.check_memory(runs * (kept + 1) * row, "the trajectories", remedy)
    stepping.check_steps("steps", steps)
    process.check(starts)
    tol = float(jnp.finfo(starts.dtype).eps) if tol is None else checks.number("tol", tol, at_least=0, one=True)
    bound = checks.bound("bound", bound)
    config = {"process": records.described(process), "steps": str(steps), "bound": f"{bound:g}", "tol": f"{tol:g}"}
    exact, seed = _in_64_bits(process), stepping.seed_of(process, key)
    process = stepping.prepared(process, starts.dtype)
    bound, tol = jnp.asarray(bound, starts.dtype), jnp.asarray(tol, starts.dtype)

    program = _Program(process, observe, seed, bound, tol)
    times = np.arange(0, kept * every, every)
    found = devices.fitting(lambda chunk: _recorded(program, starts, times, steps, extra, chunk, progress), chunk)
    if exact is not None:
        _judge(exact, found, float(tol))
    per_run = {name: values for name, values in found._asdict().items() if name != "still"}
    if theta0.ndim == 1:
        per_run = {name: values[0] for name, values in per_run.items()}
    return Ensemble(config=config, provenance=records.provenance(), times=times, **per_run)


# --- the parts of simulate ------------------------------------------------------------------------------------


class _Program(NamedTuple):
    """What is done with every run, as compiled code sees it."""

    process: Process
    observe: Callable | None
    seed: jax.Array | None
    bound: jax.Array
    tol: jax.Array


class _Found(NamedTuple):
    """What is kept of every run, with the runs in front."""

    theta: np.ndarray
    final: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    observed: np.ndarray
    still: list  # (numbers of runs, their states) of each chunk, where a step moves nothing


def _recorded(
    program: _Program, starts: jax.Array, times: np.ndarray, steps: int, extra: Any, chunk: int | None, progress: Any
) -> _Found:
    """All runs, cut into chunks."""
    (runs, dim), kind, kept = starts.shape, starts.dtype, len(times)
    found = _Found(
        theta=np.empty((runs, kept, dim), kind),
        final=np.empty((runs, dim), kind),
        status=np.empty(runs, np.int8),
        steps=np.empty(runs, np.int64),
        observed=np.empty((runs, kept, *extra.shape), extra.dtype),
        still=[],
    )
    parts = devices.chunks(program.process, starts, chunk)
    width = dim + int(np.prod(extra.shape))
    capacity = max(1, _BUFFER_BYTES // (parts[0].size * width * kind.itemsize))
    capacity = min(capacity, 1 << (kept - 1).bit_length())  # a power of 2: similar lengths share a program
    total = steps * len(parts)
    with segments.progress_bar(total, "steps", progress) as bar, devices.memory_guard(parts[0].size):
        if len(parts) > 1:  # compiled here once, and not by each thread for itself
            numbers, carry = stepping.start(program.process, starts, parts[0])
            _segment(program, carry, numbers, jnp.array([0, 0, 1]), capacity)
            _outcome(program, carry, numbers)
        every = int(times[1]) if kept > 1 else steps + 1
        devices.side_by_side(lambda *job: _record(program, starts, found, steps, every, capacity, bar, *job), parts)
    return found


def _record(
    program: _Program, starts, found: _Found, steps: int, every: int, capacity: int, bar: Any, part: Chunk, stopped: Any
) -> None:
    """The runs of one chunk, in segments."""
    numbers, carry = stepping.start(program.process, starts, part)
    found.theta[part.rows, 0] = np.asarray(starts)[part.rows]
    found.observed[part.rows, 0] = np.asarray(_observed(program.observe, carry.state))[: part.length]
    done, length = 0, 1
    while done < steps and not stopped.is_set():
        periods, period = _cut(done, steps, every, length, capacity)
        begun = time.perf_counter()
        where = jnp.array([done, periods, period])  # traced: a Python number would compile anew each time
        carry, kept = jax.block_until_ready(_segment(program, carry, numbers, where, capacity))
        length = segments.next_length(periods * period, time.perf_counter() - begun)
        done += periods * period
        bar.update(periods * period)
        if done % every == 0:
            slots = slice(done // every - periods + 1, done // every + 1)
            for target, buffer in zip((found.theta, found.observed), kept, strict=True):
                rows = np.asarray(buffer)[:periods]  # NumPy cuts: JAX would compile a program for each length
                target[part.rows, slots] = np.swapaxes(rows, 0, 1)[: part.length]
    outcome = _outcome(program, carry, numbers)
    for target, values in zip((found.final, found.status, found.steps), outcome, strict=True):
        target[part.rows] = np.asarray(values)[: part.length]
    still = np.flatnonzero(found.status[part.rows] == Status.CONVERGED)
    if len(still):
        found.still.append((part.start + still, jax.tree.map(lambda leaf: np.asarray(leaf)[still], carry.state)))


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
    state = jax.eval_shape(process.init, point)
    found = checks.traced("observe", observe, state, what="a function of the state of a run")
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise ValueError(f"observe must give one array of a state, got {found}")
    return found


@eqx.filter_jit
def _observed(observe: Callable | None, states: Any) -> jax.Array:
    if observe is None:
        return jnp.zeros((len(jax.tree.leaves(states)[0]), 0))
    return jax.vmap(observe)(states)


@eqx.filter_jit
def _segment(program: _Program, carry: Carry, numbers, where: jax.Array, capacity: int):
    """Advance `periods` times `period` steps; positions and what is observed after each, (capacity, runs, ...)."""
    done, periods, period = where
    process, observe, seed, bound, _ = program

    def step(i, carry):
        return jax.vmap(stepping.guarded_step, (None, 0, None, 0, None, None))(process, carry, seed, numbers, i, bound)

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
def _outcome(program: _Program, carry: Carry, numbers):
    """Positions, status and steps taken of a batch of runs that is finished."""
    process, _, seed, _, tol = program
    final = jax.vmap(process.position)(carry.state)
    ended = Status.DIVERGED
    if process.possible(jax.tree.map(lambda leaf: leaf[0], carry.state)) is not True:
        exists = jax.vmap(stepping.next_exists, (None, 0, None, 0))(process, carry, seed, numbers)
        ended = jnp.where(exists, Status.DIVERGED, Status.IMPOSSIBLE)
    status = jnp.where(carry.alive, Status.UNDECIDED, ended)
    if not process.random:
        after = jax.vmap(lambda state: process.position(process.step(state)))(carry.state)
        settled = (jnp.abs(after - final) <= tol * (1 + jnp.abs(final))).all(axis=-1)
        status = jnp.where(carry.alive & settled, Status.CONVERGED, status)
    return final, status.astype(jnp.int8), carry.taken


def _in_64_bits(process: Process) -> Process | None:
    """A deterministic process with its numbers in 64 bits, as given: what decides where a run rests."""
    if process.random:
        return None
    with jax.enable_x64(True):
        return stepping.prepared(process, np.float64)


def _judge(exact: Process, found: _Found, tol: float) -> None:
    """Call runs UNDECIDED that stand still where nothing attracts. All at once: chunks make no difference."""
    if found.still:
        parts = sorted(found.still, key=lambda part: part[0][0])
        numbers = np.concatenate([part[0] for part in parts])
        states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part[1] for part in parts))
        found.status[numbers[~rest.attracting(exact, states, tol)]] = Status.UNDECIDED
