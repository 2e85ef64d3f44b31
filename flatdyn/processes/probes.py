"""What a method sees at a point: where it looks from there, and what it follows."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks
from flatdyn.core.algebra import norm, scaled
from flatdyn.methods.base import FirstOrder
from flatdyn.processes.base import Iteration


class Probe(NamedTuple):
    """What a method sees at a point; see :func:`probe`."""

    perturbed: jax.Array
    gradient: jax.Array
    followed: jax.Array
    cosine: jax.Array


def probe(process: Iteration, theta: Any) -> Probe:
    """Where a noiseless method looks from θ, and how what it follows there compares with the gradient at θ.

        p = perturbed point,   cos = ∇L(θ)·∇L(p) / (‖∇L(θ)‖ ‖∇L(p)‖)

    Weight decay in the loss is in all of it, that which is coupled in what is followed. Of a method that remembers more
    than a velocity (LookSAM, FriendlySAM, MSAM, LaggedSAM) it is the first step, from rest.

    Args:
        process: an iteration of GD, SAM, USAM, ...
        theta: positions, shape (..., dim)
    Returns:
        Probe with perturbed (..., dim), gradient (..., dim), followed (..., dim), cosine (...) of the last two; the
        cosine is 0 where one vanishes, and what the loss gives no finite numbers for is not finite here either
    Raises:
        TypeError: if the method does not take one gradient at one point
    """
    if not isinstance(checks.kind("process", process, Iteration).method, FirstOrder):
        raise TypeError(f"probe needs a method that follows one gradient (GD, SAM, USAM), got {process.method}")
    theta = checks.coordinates("theta", theta, process.dim, finite=True)
    return _probed(process, theta)


@eqx.filter_jit
def _probed(process: Iteration, theta: jax.Array) -> Probe:
    landscape, method = process.landscape, process.method
    field = method.field(landscape.field)

    def one(theta):
        point = landscape.vector(theta)
        perturbed = method.ascend(field, point)
        here, there = field(point), method.followed(landscape.field, point)
        (_, a), (_, b) = scaled(here), scaled(there)
        cosine = a @ b / (norm(a) * norm(b))
        return landscape.array(perturbed), landscape.array(here), landscape.array(there), cosine

    return Probe(*jnp.vectorize(one, signature="(d)->(d),(d),(d),()")(theta))
