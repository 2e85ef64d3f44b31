"""Lyapunov exponents: how fast neighbouring orbits of a process separate."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, randomness, segments
from flatdyn.core.statistics import batch_mean
from flatdyn.processes import Process
from flatdyn.processes.base import as_before
from flatdyn.processes.flat import as_row, whole_from
from flatdyn.runs import stepping

_ROWS = 1 << 12  # steps that are looked at in one segment


class Exponents(NamedTuple):
    """Lyapunov exponents per step, largest first, with their standard errors; shape (number,) each."""

    values: np.ndarray
    stderr: np.ndarray


def lyapunov_exponents(
    process: Process,
    theta0: Any,
    steps: int,
    key: jax.Array | None = None,
    *,
    transient: int = 1000,
    number: int | None = None,
    progress: bool | None = None,
) -> Exponents:
    """Average growth rates of small displacements along an orbit, by QR factorisation at every step.

        DF(sₖ) Qₖ = Qₖ₊₁ Rₖ,   λᵢ = mean over k of ln |Rᵢᵢ|

    On the full state (velocities included). For a random process, the exponents under its own noise, the same for
    both neighbours. The errors are those of batch means.

    This needs the map. From a recorded series alone, nolds and neurokit2 estimate the largest exponent;
    choose embedding and delay by hand there: for ln 2 of the logistic map at r = 4, nolds 0.6.2 gives 0.00 by default.

    Args:
        process: what moves; its map must have a derivative along the orbit
        theta0: starting point, shape (dim,)
        steps: number of steps averaged over, at least 20
        key: a JAX key; needed if the process is random
        transient: steps left out at the start
        number: how many exponents; all if not given
        progress: show a bar; if not given, after two seconds
    Returns:
        Exponents(values, stderr); −∞ ± 0 in a direction that a step of the orbit takes to a point
    Raises:
        ValueError: if the orbit leaves the finite numbers or meets a point without derivative, or arguments do not fit
    """
    checks.kind("process", process, Process)
    steps = stepping.check_steps("steps", steps, at_least=20)
    transient = stepping.check_steps("transient", transient)
    total = stepping.check_steps("transient + steps", transient + steps)
    seed = stepping.seed_of(process, key)
    with jax.enable_x64(True):
        theta = checks.points("theta0", checks.entries("theta0", theta0, "coordinates"), process.dim).astype(float)
        if theta.ndim != 1:
            raise ValueError(f"theta0 must be one point, shape ({process.dim},), got {theta.shape}")
        start = process.init(theta)
        flat, whole, others = as_row(start), whole_from(start), eqx.filter(start, eqx.is_inexact_array, inverse=True)
        size = flat.size
        number = size if number is None else checks.count("number", number, at_least=1)
        if number > size:
            raise ValueError(f"number must be at most the size of the state, {size}, got {number}")
        needed = memory.array_bytes(3 * size + steps, number)
        memory.check_memory(
            needed, "the exponents' growth at each step", "ask for fewer `steps`, or a smaller `number`"
        )

        def step(flat, others, i):
            """The row after a step, and what a state holds besides: counters go on, keys of an epoch are kept."""
            random_key = randomness.run_key(seed, jnp.uint32(0), i) if process.random else None
            before = eqx.combine(eqx.filter(whole(flat), eqx.is_inexact_array), others)
            state = as_before(process.step(before, random_key), before)
            return as_row(state), eqx.filter(state, eqx.is_inexact_array, inverse=True)

        def both(carry, i):
            flat, others, frame = carry

            def along(direction):
                return jax.jvp(lambda flat: step(flat, others, i), (flat,), (direction,), has_aux=True)

            moved, stretched, others = jax.vmap(along, out_axes=(None, 1, None))(frame.T)
            frame, triangle = jnp.linalg.qr(stretched)
            return (moved, others, frame), jnp.log(jnp.abs(jnp.diagonal(triangle)))

        capacity = min(_ROWS, total)

        @jax.jit
        def some(carry, first, steps):
            def one(i, kept):
                carry, logs = kept
                carry, log = both(carry, first + i)
                return carry, jax.lax.dynamic_update_index_in_dim(logs, log, i, 0)

            return jax.lax.fori_loop(0, steps, one, (carry, jnp.zeros((capacity, number))))

        carry, kept = (flat, others, np.eye(size)[:, :number]), []
        with segments.progress_bar(total, "steps", progress) as bar:
            for done, now in segments.cut(total, bar=bar, most=capacity):
                carry, logs = some(carry, jnp.asarray(done), jnp.asarray(now))
                kept.append(np.asarray(logs)[max(transient - done, 0) : now])
        logs = np.concatenate(kept)
    good = np.isfinite(logs) | (logs == -np.inf)  # ln 0: what a step takes to a point
    if not good.all():
        lost = int(np.argmax(~good.all(axis=1)))
        raise ValueError(
            f"the orbit of theta0 has no derivative, or leaves the finite numbers, at step {transient + lost}"
        )
    pairs = np.array([(-np.inf, 0.0) if np.isinf(column).any() else batch_mean(column) for column in logs.T])
    order = np.argsort(-pairs[:, 0])
    return Exponents(pairs[order, 0], pairs[order, 1])
