"""Sharpness at a radius: how much the loss can rise within a ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, precision, randomness, records, segments
from flatdyn.core.algebra import norm
from flatdyn.core.records import Record
from flatdyn.curvature.points import Loss, placed
from flatdyn.landscapes import Landscape
from flatdyn.runs import stepping


@dataclass(frozen=True, eq=False, repr=False)
class Sharpness(Record):
    """How much the loss rises within a ball; see :func:`sharpness`. Every number is a lower bound of the maximum.

    Attributes:
        rho: radius ρ, in units of θ, shape ()
        one_step: rise at SAM's ascent point, shape (); may be negative
        ascent: largest rise of all starts, shape ()
        starts: rise that the ascent reached from each start (the first is SAM's point), shape (starts,)
        loss: L(θ), shape ()
        displacement: ε of the largest rise, ‖ε‖ ≤ ρ, shape (dim,)
    """

    rho: np.ndarray
    one_step: np.ndarray
    ascent: np.ndarray
    starts: np.ndarray
    loss: np.ndarray
    displacement: np.ndarray
    _form: ClassVar = {
        "rho": "fiu",
        "one_step": "fiu",
        "ascent": "fiu",
        "starts": "fiu ascents",
        "loss": "fiu",
        "displacement": "fiu dim",
    }
    _units: ClassVar = dict.fromkeys(("one_step", "ascent", "starts"), "loss") | {
        "rho": "theta",
        "displacement": "theta",
    }

    def __repr__(self) -> str:
        return f"Sharpness(rho {self.rho:g}: one step {self.one_step:.4g}, ascent {self.ascent:.4g})"


def sharpness(
    loss: Loss,
    theta: Any,
    rho: float,
    *,
    steps: int = 50,
    starts: int = 4,
    key: jax.Array | None = None,
    progress: bool | None = None,
) -> Sharpness:
    """The rise of the loss within distance ρ, by one ascent step and by projected gradient ascent.

        s(ρ) = max over ‖ε‖ ≤ ρ of L(θ + ε) − L(θ)

        one step:   ε = ρ g/‖g‖,  g = ∇L(θ);   ε = 0 where g = 0
        ascent:     ε ← P(ε + a ∇L(θ + ε)/‖·‖),  P the projection onto the ball

    The ascent starts from SAM's point and from random points of the sphere; it takes a step only if the loss rises,
    with a longer next time, and halves a otherwise. Both give lower bounds of s(ρ); far from the quadratic regime,
    and where starts differ, the maximum may be higher. At a minimum one step gives 0 and says nothing.

    Args:
        loss: a landscape, or a JAX function of an array (dim,) or a tree
        theta: the point, shape (dim,), or a tree
        rho: radius ρ ≥ 0 in the Euclidean norm of all parameters, in units of θ
        steps: of the ascent, one gradient each
        starts: of the ascent, at least 1
        key: of the random starts; `jax.random.key(0)` if not given
        progress: show a bar; if not given, after two seconds
    Returns:
        Sharpness
    Raises:
        ValueError: if an argument does not fit
    References:
        Foret, Kleiner, Mobahi, Neyshabur, arXiv 2010.01412 (one step).
    """
    if key is not None:
        checks.key(key)
    landscape, theta = placed(loss, theta)
    rho = checks.number("rho", rho, at_least=0, one=True)
    checks.in_range("rho", rho)
    steps, starts = stepping.check_steps("steps", steps), checks.count("starts", starts, at_least=1)
    needed = memory.array_bytes(2, starts, landscape.dim, itemsize=theta.dtype.itemsize)
    memory.check_memory(needed, "the starts of the ascent", "take fewer `starts`")
    key = jax.random.key(0) if key is None else key
    begin = randomness.drawn(jax.random.normal, key, (starts, landscape.dim), dtype=theta.dtype)
    rho = jnp.asarray(rho, theta.dtype)
    here, begun, ascents, displacements = _ascents(landscape, theta, rho, begin, steps, progress)
    if not np.isfinite(here):
        raise ValueError(f"the loss of {landscape.name} is not finite at theta, but {here}")
    best = int(np.argmax(np.where(np.isfinite(ascents), ascents, -np.inf)))
    return Sharpness(
        config={"loss": records.described(landscape), "steps": str(steps), "starts": str(starts)},
        provenance=records.provenance(),
        rho=np.asarray(rho),
        one_step=begun[0],
        ascent=ascents[best],
        starts=ascents,
        loss=here,
        displacement=displacements[best],
    )


def _ascents(landscape: Landscape, theta: jax.Array, rho: jax.Array, begin: jax.Array, steps: int, progress: Any):
    """L(θ), and from SAM's point and the others in `begin`: the rise there, that of the ascent, its displacement."""
    here, climbs = _begun(landscape, theta, rho, begin)
    ends = []
    with segments.progress_bar(len(begin) * steps, "steps", progress) as bar:
        for i in range(len(begin)):
            climb = jax.tree.map(lambda leaf, i=i: leaf[i], climbs), rho
            for _, now in segments.cut(steps, bar=bar):
                climb = jax.block_until_ready(
                    _ascended(landscape, theta, rho, climb, precision.on_device(np.int32(now)))
                )
            ends.append(climb[0][:2])
    displacements, values = (np.stack(part) for part in zip(*ends, strict=True))
    here = np.asarray(here)
    return here, np.asarray(climbs[1]) - here, values - here, displacements


@eqx.filter_jit
def _begun(landscape: Landscape, theta: jax.Array, rho: jax.Array, begin: jax.Array) -> tuple:
    """L(θ), and where the ascents start: displacements, losses and gradients, with the starts in front."""
    at = _around(landscape, theta)
    here, g = at(jnp.zeros_like(theta))
    starts = jax.vmap(lambda v: rho * v / norm(v))(begin.at[0].set(g))
    return here, jax.lax.map(lambda start: (start, *at(start)), starts)


def _around(landscape: Landscape, theta: jax.Array) -> Callable:
    """Loss and gradient of a displacement."""
    return jax.value_and_grad(lambda displacement: landscape.loss(theta + displacement))


@eqx.filter_jit
def _ascended(landscape: Landscape, theta: jax.Array, rho: jax.Array, climb: tuple, steps: jax.Array) -> tuple:
    """One of them, and the length of its steps, after so many more steps of a monotone projected gradient ascent."""
    at = _around(landscape, theta)

    def step(_, carry):
        (displacement, value, g), length = carry
        trial = displacement + length * g / norm(g)
        trial = trial * jnp.minimum(1, rho / norm(trial))
        there = (trial, *at(trial))
        better = there[1] > value
        kept = jax.tree.map(lambda new, old: jnp.where(better, new, old), there, (displacement, value, g))
        return kept, length * jnp.where(better, 2.0, 0.5)

    return jax.lax.fori_loop(0, steps, step, climb)
