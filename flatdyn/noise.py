"""How the gradient is sampled: what of a step is random, and how it enters ∇L.

A noise draws its sample ξ once a step, before any gradient is evaluated, and then answers ∇ℓ(θ; ξ) at whatever
points the method asks for. So both gradients of a SAM step share their minibatch, unless the process is told
otherwise (`ascent` of :class:`flatdyn.Iteration`).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn import checks
from flatdyn.algebra import Vector
from flatdyn.landscapes import Landscape
from flatdyn.randomness import normals


class Noise(eqx.Module):
    """The contract: `draw` a sample ξ, then evaluate `gradient` with it anywhere.

    Attributes:
        random: whether `draw` uses its key
    """

    random = True

    def draw(self, key: jax.Array, like: Vector) -> Any:
        """ξ, everything that is random in one step; `like` is the current θ."""
        raise NotImplementedError

    def gradient(self, landscape: Landscape, theta: Vector, sample: Any) -> Vector:
        """∇ℓ(θ; ξ), a vector like θ."""
        raise NotImplementedError


class Exact(Noise):
    """No noise: ∇ℓ(θ; ξ) = ∇L(θ)."""

    random = False

    def draw(self, key, like):
        return None

    def gradient(self, landscape, theta, sample):
        return landscape.field(theta)


class Gaussian(Noise):
    """Additive normal noise, the same everywhere.

        ∇ℓ(θ; ξ) = ∇L(θ) + σ ξ / √B,   ξ ~ N(0, I)

    so one example's gradient has covariance Σ = σ² I, and a batch of B has Σ/B.

    Args:
        scale: σ ≥ 0, standard deviation of one example's gradient, in units of ∇L; one number, or one per coordinate
        batch_size: B ≥ 1
    """

    scale: Any = eqx.field(converter=checks.real)
    batch_size: Any = eqx.field(converter=checks.real, default=1)

    def __check_init__(self):
        checks.number("scale", self.scale, at_least=0)
        checks.number("batch_size", self.batch_size, at_least=1)

    def draw(self, key, like):
        return normals(key, like)

    def gradient(self, landscape, theta, sample):
        spread = landscape.vector(self.scale) if jnp.ndim(self.scale) else self.scale
        return landscape.field(theta) + sample * spread * self.batch_size**-0.5
