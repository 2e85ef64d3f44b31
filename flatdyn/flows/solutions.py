"""A flow to given accuracy at given times, with the time at which it arrives where its field jumps."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, records, segments
from flatdyn.core.algebra import norm, scaled
from flatdyn.core.records import Record, Status
from flatdyn.flows.odes import Flow
from flatdyn.runs import stepping

_CLOSE = 1e-5  # ‖∇L‖/‖G‖ at which the rest of the way is straight: what is neglected is its square
_BLOCK, _BLOCK_NUMBERS = 1 << 8, 1 << 14  # runs that are solved at once, and coordinates of all of them


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Solution(Record):
    """Solutions of a flow; see :func:`solve`.

    Attributes:
        times: t, shape (times,)
        theta: positions, shape (runs, times, dim); (times, dim) for a single run
        arrival: time of arrival where the field jumps, infinite if not before the last time, shape (runs,) or ()
        status: CONVERGED: arrived; UNDECIDED: still under way at the last time; DIVERGED: not finite, or given up
            after max_steps steps of the solver; theta keeps the last good position. Shape (runs,) or ()
    """

    times: np.ndarray
    theta: np.ndarray
    arrival: np.ndarray
    status: np.ndarray
    _form: ClassVar = {
        "times": "fiu times",
        "theta": "fiu ?runs times dim",
        "arrival": "fiu ?runs",
        "status": "iu ?runs",
    }
    _units: ClassVar = {"times": "steps times lr", "arrival": "steps times lr"}


def solve(
    flow: Flow,
    theta0: Any,
    times: Any,
    *,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    max_steps: int = 20_000,
    progress: bool | None = None,
) -> Solution:
    """Solve a flow with adaptive steps.

        θ' = flow.field(θ),   θ(0) = θ₀

    SAM's flow stops where its field jumps: just before, the rest of the way is straight, and the time of arrival
    t + ‖g‖²/(g·HG) is accurate to 1e-10 of the time scale there, or to `rtol`.

    Args:
        flow: what is solved; its dt plays no role
        theta0: starting points at rest, shape (dim,) or (runs, dim)
        times: at which the solution is wanted, increasing, ≥ 0
        rtol, atol: tolerances of the solver (diffrax.Dopri8 with a PID controller)
        max_steps: of the solver, for each run
        progress: show a bar over the runs; if not given, after two seconds
    Returns:
        Solution
    Raises:
        ValueError: if theta0 or times do not fit
        TypeError: if `flow` is not a Flow
    """
    checks.kind("flow", flow, Flow, "fd.flows.Flow(landscape, method)")
    if not isinstance(flow, Flow):
        raise TypeError(f"solve needs a Flow, got {flow!r}: simulate runs every process with fixed steps")
    with jax.enable_x64(True):  # tolerances like these are out of reach of 32 bits
        return _solution(flow, theta0, times, rtol, atol, max_steps, progress)


def _solution(flow: Flow, theta0: Any, times: Any, rtol: float, atol: float, max_steps: int, progress: Any) -> Solution:
    theta0 = checks.points("theta0", theta0, flow.dim).astype(float)
    times = np.atleast_1d(checks.numbers("times", times, ndim=(0, 1), at_least=1))
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise ValueError(f"times must be increasing numbers >= 0, got {times}")
    rtol, atol = checks.number("rtol", rtol, above=0, one=True), checks.number("atol", atol, above=0, one=True)
    max_steps = stepping.check_steps("max_steps", max_steps, at_least=1)
    config = {"flow": records.described(flow), "rtol": f"{rtol:g}", "atol": f"{atol:g}", "max_steps": str(max_steps)}
    starts = jnp.atleast_2d(theta0)
    # The solver starts and ends on a time of its own, so that a first or last time of 0 is none that is special.
    end = jnp.asarray(times[-1] or 1.0, starts.dtype)
    prepared = stepping.prepared(flow, starts.dtype)
    needed = memory.array_bytes(4, len(starts), len(times), flow.dim, itemsize=starts.dtype.itemsize)
    memory.check_memory(needed, "the paths", "ask for fewer `times`, or start fewer runs at once, in `theta0`")
    options = jnp.asarray(times, starts.dtype), end, rtol, atol, max_steps
    theta, arrival, status = _in_blocks(prepared, starts, options, progress)
    if theta0.ndim == 1:
        theta, arrival, status = theta[0], arrival[0], status[0]
    return Solution(config, records.provenance(), times, theta, arrival, status)


def _in_blocks(flow: Flow, starts: jax.Array, options: tuple, progress: bool | None) -> list[np.ndarray]:
    """The results of :func:`_solved` for all runs, in blocks so that an interrupt is heard in between."""
    runs, size = len(starts), max(1, min(_BLOCK, _BLOCK_NUMBERS // flow.dim))
    blocks = []
    with segments.progress_bar(runs, "runs", progress) as bar:
        for first in range(0, runs, size):
            # All blocks are of one size, so that one program does
            block = starts if runs <= size else starts[jnp.minimum(jnp.arange(first, first + size), runs - 1)]
            blocks.append([np.asarray(part)[: runs - first] for part in _solved(flow, block, *options)])
            bar.update(len(blocks[-1][0]))
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


@eqx.filter_jit
def _solved(flow: Flow, starts: jax.Array, times: jax.Array, end: jax.Array, rtol, atol, max_steps: int):
    import diffrax  # a second of loading, for flows alone

    def close(t, y, args, **kwargs):
        theta = y[0] if flow.inertia else y
        return norm(flow.seen(theta)) < _CLOSE * norm(flow.gradient(theta))

    def one(start):
        state = flow.init(start)
        y0 = (state.theta, state.velocity) if flow.inertia else state.theta
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: flow.field(y)),
            diffrax.Dopri8(),
            t0=jnp.zeros_like(end),
            t1=end,
            dt0=None,
            y0=y0,
            saveat=diffrax.SaveAt(subs=[diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True)]),
            stepsize_controller=diffrax.ClipStepSizeController(
                diffrax.PIDController(rtol=rtol, atol=atol),
                step_ts=times,  # interpolated values would be less accurate
            ),
            event=diffrax.Event(lambda *a, **k: close(*a, **k) & flow.method.jumps) if flow.jumping else None,
            max_steps=max_steps,
            throw=False,
        )
        arrived = solution.result == diffrax.RESULTS.event_occurred
        failed = ~arrived & (solution.result != diffrax.RESULTS.successful)
        return _outcome(flow, state, start, times, solution, jnp.asarray(arrived), jnp.asarray(failed))

    return jax.vmap(one)(starts)


def _outcome(flow: Flow, state: Any, start: jax.Array, times: jax.Array, solution: Any, arrived, failed):
    path, end = ((y[0] if flow.inertia else y) for y in solution.ys)
    path, last = jax.vmap(flow.landscape.array)(path), solution.ts[1][0]  # path is infinite at times not reached
    end = jax.tree.map(lambda leaf: leaf[0], end)
    arrival, resting = jnp.asarray(jnp.inf, last.dtype), start
    if flow.jumping:
        left, resting = _last_stretch(flow, end)
        at_start = state.arrived
        arrived, failed = arrived | at_start, failed & ~at_start
        arrival = jnp.where(arrived, jnp.where(at_start, 0.0, last + left), jnp.inf)
        resting = jnp.where(at_start, start, resting)
    good = jnp.isfinite(path).all(axis=-1)
    kept = jax.lax.cummax(jnp.where(good, jnp.arange(len(times)), -1))
    held = jnp.where((kept < 0)[:, None], start, path[kept])
    theta = jnp.where((times >= arrival)[:, None], resting, held)
    status = jnp.where(arrived, Status.CONVERGED, jnp.where(failed, Status.DIVERGED, Status.UNDECIDED))
    return theta, arrival, status.astype(jnp.int8)


def _last_stretch(flow: Flow, theta: Any) -> tuple[jax.Array, jax.Array]:
    """Time to the jump straight ahead, ‖g‖²/(g·HG), and where that leads."""
    velocity = flow.field(theta)
    gradient, change = jax.jvp(flow.landscape.field, (theta,), (velocity,))
    s, gradient = scaled(gradient)
    change = s * change
    left = -(gradient @ gradient) / (gradient @ change)
    return left, flow.landscape.array(theta + left * velocity)
