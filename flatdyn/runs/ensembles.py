"""Many runs of a process: chunks that fit the cache, all devices, progress, and a status for each run.

Runs are independent, and a run's random numbers depend on its index and the step alone, so results do not
depend on how the work is cut: chunk size, number of devices, length of a compiled segment. For points in the plane that
holds to the last bit. Networks agree to rounding: XLA chooses the order of a sum by what lies beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, curves, memory, precision, records
from flatdyn.core.memory import array_bytes
from flatdyn.core.records import Ensemble, Status
from flatdyn.processes import Process
from flatdyn.runs import cohorts, devices, loop, observers, rest, stepping
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
    observe: Callable | Mapping[str, Any] | None = None,
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
            one array, is kept along with the positions; or name -> such functions and observers, such as
            `curvature.TopEigenvalues(3)`, whose values `Ensemble.curve(name)` gives
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
    asked = _asked(process, theta0, steps, every, observe, bound, tol)
    starts, times = asked.starts, asked.times
    process.check(starts)
    seed, given = stepping.seed_of(process, key), process
    program = _Program(stepping.prepared(process, starts.dtype), asked.watching, seed, asked.bound, asked.tol)
    finished = _finished(program, asked, starts, chunk, progress)
    if finished.still:
        finished.status[_held(given, finished.still, float(asked.tol))] = Status.UNDECIDED
    per_run = finished.per_run()
    if asked.single:
        per_run = {name: values[0] for name, values in per_run.items()}
    config = {"process": records.described(given)} | asked.config
    return Ensemble(config=config, provenance=records.provenance(), times=times, **per_run)


def simulate_together(
    processes: Sequence[Process],
    theta0: Any,
    steps: int,
    keys: Sequence[jax.Array | None] | None = None,
    every: int = 1,
    *,
    bound: float = np.inf,
    tol: float | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
) -> list[Ensemble]:
    """What :func:`simulate` gives for each of several processes, which move as one ensemble.

    Args:
        processes: which differ in numbers only: :func:`flatdyn.runs.cohorts.batches` says which do
        keys: one for each, if they are random
        theta0, steps, every, bound, tol, chunk, progress: as for :func:`simulate`, the same for all
    Returns:
        one Ensemble for each process. It does not depend on the others
    """
    asked = _asked(processes[0], theta0, steps, every, None, bound, tol, len(processes))
    for process in processes:
        process.check(asked.starts)
    kind, runs = asked.starts.dtype, len(asked.starts)
    cohort = cohorts.joined(processes, keys, runs, kind)
    seed = stepping.seed_of(cohort, cohorts.driving_key(cohort))
    starts = precision.on_device(cohort.starts(np.asarray(asked.starts)))
    program = _Program(stepping.prepared(cohort, kind), None, seed, asked.bound, asked.tol)
    finished = _finished(program, asked, starts, chunk, progress)
    per_run = finished.per_run()
    per_run |= {name: per_run[name][..., :-1] for name in ("theta", "final")}
    ensembles, given, words = [], records.provenance(), cohorts.described(processes)
    for process, rows, word in zip(processes, cohort.slices(), words, strict=True):
        own = {name: values[rows] for name, values in per_run.items()}
        if still := _those_in(finished.still, rows):
            own["status"][_held(process, still, float(asked.tol))] = Status.UNDECIDED
        if asked.single:
            own = {name: values[0] for name, values in own.items()}
        config = {"process": word} | asked.config
        ensembles.append(Ensemble(config=config, provenance=given, times=asked.times, **own))
    return ensembles


# --- the parts of simulate ------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """What is asked of the runs of one process, checked."""

    starts: jax.Array
    single: bool
    steps: int
    every: int
    watching: observers.Watch | None
    extra: Any
    bound: jax.Array
    tol: jax.Array
    config: dict[str, str]

    @property
    def times(self) -> np.ndarray:
        return np.arange(0, self.steps + 1, self.every)


def _asked(process, theta0, steps, every, observe, bound, tol, processes: int = 1) -> _Asked:
    checks.kind("process", process, Process)
    steps, every = checks.count("steps", steps), checks.count("every", every, at_least=1)
    theta0 = checks.points("theta0", theta0, process.dim)
    starts = theta0 if theta0.ndim == 2 else precision.on_device(np.asarray(theta0)[None])
    runs, dim = starts.shape
    if runs == 0:
        raise ValueError(f"theta0 must hold at least one point, got shape {theta0.shape}")
    kept = 1 + steps // every
    watching = observers.watch("observe", observe, process, starts.dtype)
    point = jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)
    extra = jax.ShapeDtypeStruct((0,), starts.dtype) if watching is None else watching.shape(process, point)
    remedy = "keep fewer positions with a larger `every` (every=steps keeps the first and the last)"
    if kept <= 2:
        remedy = "start fewer runs at once, in `theta0`"
    row = array_bytes(dim, itemsize=starts.dtype.itemsize) + array_bytes(*extra.shape, itemsize=extra.dtype.itemsize)
    memory.check_memory(processes * runs * (kept + 1) * row, "the trajectories", remedy)
    stepping.check_steps("steps", steps)
    tol = float(jnp.finfo(starts.dtype).eps) if tol is None else checks.number("tol", tol, at_least=0, one=True)
    bound = checks.bound("bound", bound)
    config = {"steps": str(steps), "bound": f"{bound:g}", "tol": f"{tol:g}"}
    if watching is not None and watching.names is not None:
        config["observed"] = curves.as_text(watching.layout(process, point))
    bound, tol = (precision.on_device(float(number), starts.dtype) for number in (bound, tol))
    return _Asked(starts, theta0.ndim == 1, steps, every, watching, extra, bound, tol, config)


def _finished(program: _Program, asked: _Asked, starts: jax.Array, chunk: Any, progress: Any) -> _Trajectories:
    """All runs from `starts` at their end."""

    def attempt(chunk: int | None) -> _Trajectories:
        parts = devices.chunks(program.process, starts, chunk)
        work = _Trajectories(program, starts, asked.steps, asked.every, asked.extra, parts)
        loop.run(work, progress)
        return work

    return devices.fitting(attempt, chunk)


def _those_in(still: list[tuple], rows: slice) -> list[tuple]:
    """Of the runs of a cohort that stand still, those of one of its processes, in the form that :func:`_held` takes."""
    kept = []
    for numbers, states in still:
        own = (rows.start <= numbers) & (numbers < rows.stop)
        if own.any():
            kept.append((numbers[own] - rows.start, jax.tree.map(lambda leaf, own=own: leaf[own], states.inner)))
    return kept


class _Program(NamedTuple):
    """What is done with every run, as compiled code sees it."""

    process: Process
    watching: observers.Watch | None
    seed: jax.Array | None
    bound: jax.Array
    tol: jax.Array


class _Trajectories(loop.Work):
    """Runs whose positions are kept, and what `observe` gives of them, after each period."""

    def __init__(self, program: _Program, starts: jax.Array, steps: int, every: int, extra: Any, parts: list[Chunk]):
        super().__init__(program.process, starts, steps, every, parts)
        (runs, dim), kind, kept = starts.shape, starts.dtype, 1 + steps // every
        self.program = program
        self.theta, self.final = np.empty((runs, kept, dim), kind), np.empty((runs, dim), kind)
        self.status, self.taken = np.empty(runs, np.int8), np.empty(runs, np.int64)
        self.observed = np.empty((runs, kept, *extra.shape), extra.dtype)
        self.still: list[tuple] = []  # (numbers of runs, their states) of each chunk, where a step moves nothing
        width = dim + int(np.prod(extra.shape))
        capacity = max(1, _BUFFER_BYTES // (parts[0].size * width * kind.itemsize))
        self.most_periods = min(capacity, 1 << (kept - 1).bit_length())  # a power of 2: similar lengths share a program

    def per_run(self) -> dict[str, np.ndarray]:
        """The fields of an Ensemble that have the runs in front."""
        names = ("theta", "final", "status", "observed")
        return {name: getattr(self, name) for name in names} | {"steps": self.taken}

    def begin(self, part):
        done, numbers, carry = super().begin(part)
        if self.program.watching is None:
            return done, numbers, observers.Watched(carry, ())
        values, memory = _first(self.program, carry, numbers)
        self.observed[part.rows, 0] = np.asarray(values)[: part.length]
        return done, numbers, observers.Watched(carry, memory)

    def compile(self, numbers, carry):
        self.advance(numbers, carry, 0, 0, 1)
        _outcome(self.program, carry.runs, numbers)

    def advance(self, numbers, carry, done, periods, period):
        where = np.array([done, periods, period])  # traced: a Python number would compile anew each time
        carry, buffers = _segment(self.program, carry, numbers, where, self.most_periods)
        return carry, (periods, buffers)

    def keep(self, part, done, carry, seen, stopped):
        if done == 0:
            self.theta[part.rows, 0] = np.asarray(self.starts)[part.rows]
        elif done % self.every == 0:
            (periods, buffers), last = seen, done // self.every
            slots = slice(last - periods + 1, last + 1)
            for target, buffer in zip((self.theta, self.observed), buffers, strict=True):
                rows = np.asarray(buffer)[:periods]  # NumPy cuts: JAX would compile a program for each length
                target[part.rows, slots] = np.swapaxes(rows, 0, 1)[: part.length]
        return True

    def end(self, part, numbers, carry):
        carry, whole = carry.runs, carry
        final, status, taken = (np.asarray(x)[: part.length] for x in _outcome(self.program, carry, numbers))
        if not self.program.process.random:
            status = np.where(self._unmoved(numbers, whole, final), np.int8(Status.CONVERGED), status)
        self.final[part.rows], self.status[part.rows], self.taken[part.rows] = final, status, taken
        still = np.flatnonzero(status == Status.CONVERGED)
        if len(still):
            self.still.append((part.start + still, jax.tree.map(lambda leaf: np.asarray(leaf)[still], carry.state)))

    def _unmoved(self, numbers, carry, final) -> np.ndarray:
        """Which runs one more step moves by no more than tol. The program of a segment takes it."""
        after, (_, buffers) = self.advance(numbers, carry, self.steps, 1, 1)
        moved = np.abs(np.asarray(buffers[0])[0, : len(final)] - final)
        near = (moved <= np.asarray(self.program.tol) * (1 + np.abs(final))).all(axis=-1)
        return near & np.asarray(after.runs.alive)[: len(final)]


@eqx.filter_jit
def _first(program: _Program, carry: Carry, numbers: jax.Array) -> tuple:
    """What is measured at the start, and what is remembered then."""
    memory = observers.begun(program.watching, program.process, carry, program.seed, numbers)
    return _observed(program, carry, memory, numbers)


def _observed(program: _Program, carry: Carry, memory: tuple, numbers: jax.Array) -> tuple:
    """What is measured of a batch of runs, and what is remembered of each."""
    watching = program.watching
    if watching is None:
        return jnp.zeros((len(carry.alive), 0)), memory

    rows = carry.state, carry.taken, numbers, memory
    return jax.vmap(lambda *row: observers.measured(row, watching, program.process, program.seed))(*rows)


@eqx.filter_jit(compiler_options=stepping.WIDE)
def _segment(program: _Program, carry: observers.Watched, numbers, where: jax.Array, capacity: int):
    """Advance `periods` times `period` steps; positions and what is observed after each, (capacity, runs, ...)."""
    done, periods, period = where
    process, _, seed, bound, _ = program

    def step(i, carry):
        return jax.vmap(stepping.guarded_step, (None, 0, None, 0, None, None))(process, carry, seed, numbers, i, bound)

    def advance(p, carry_and_buffer):
        (carry, memory), buffers = carry_and_buffer
        first = done + p * period
        carry = jax.lax.fori_loop(first, first + period, step, carry)
        new, memory = seen(carry, memory)
        return observers.Watched(carry, memory), jax.tree.map(lambda buffer, one: buffer.at[p].set(one), buffers, new)

    def seen(carry, memory):
        observed, memory = _observed(program, carry, memory, numbers)
        return (jax.vmap(process.position)(carry.state), observed), memory

    shapes, _ = jax.eval_shape(seen, *carry)
    buffers = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
    return jax.lax.fori_loop(0, periods, advance, (carry, buffers))


@eqx.filter_jit
def _outcome(program: _Program, carry: Carry, numbers):
    """Positions of a batch of runs that is finished, what became of them, and steps taken."""
    process, ended = program.process, Status.DIVERGED
    if process.possible(jax.tree.map(lambda leaf: leaf[0], carry.state)) is not True:
        exists = jax.vmap(stepping.next_exists, (None, 0, None, 0))(process, carry, program.seed, numbers)
        ended = jnp.where(exists, Status.DIVERGED, Status.IMPOSSIBLE)
    status = jnp.where(carry.alive, Status.UNDECIDED, ended)
    return jax.vmap(process.position)(carry.state), status.astype(jnp.int8), carry.taken


def _held(process: Process, still: list[tuple], tol: float) -> np.ndarray:
    """Numbers of the runs that stand still where nothing attracts. All at once: chunks make no difference.

    A process is prepared again in 64 bits, from its numbers as they were given, only where runs stand still.
    """
    with jax.enable_x64(True):
        exact = stepping.prepared(process, np.float64)
    parts = sorted(still, key=lambda part: part[0][0])
    numbers = np.concatenate([part[0] for part in parts])
    states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part[1] for part in parts))
    return numbers[~rest.attracting(exact, states, tol)]
