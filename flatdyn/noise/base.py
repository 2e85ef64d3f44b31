"""The contract of a noise: draw a sample once a step, then evaluate the gradient with it anywhere."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from flatdyn.core.algebra import Vector
from flatdyn.landscapes import Landscape


class Noise(eqx.Module):
    """The contract: `draw` a sample ξ, then evaluate `gradient` with it anywhere.

    A noise whose samples hang together, such as the minibatches of one pass through the data, `remembers`. Then the
    process keeps what `init` begins in its state, and `following` takes the place of `draw`:

        memory = noise.init(landscape),   ξ, memory⁺ = noise.following(key, landscape, theta, memory)

    Attributes:
        random: whether `draw` uses its key
        remembers: whether a sample depends on those before it
    """

    random = True
    remembers = False
    made_by = "fd.noise.Gaussian(scale), or another of flatdyn.noise"

    def check(self, landscape: Landscape) -> None:
        """Raise ValueError or TypeError if this noise does not fit the landscape."""

    def draw(self, key: jax.Array, landscape: Landscape, theta: Vector) -> Any:
        """ξ, everything that is random in one step from θ; of a noise that remembers, the first one."""
        raise NotImplementedError

    def init(self, landscape: Landscape) -> Any:
        """What is remembered before the first sample: a tree of arrays."""
        return None

    def following(self, key: jax.Array, landscape: Landscape, theta: Vector, memory: Any) -> tuple[Any, Any]:
        """The next sample, and what is remembered after it."""
        return self.draw(key, landscape, theta), memory

    def gradient(self, landscape: Landscape, theta: Vector, sample: Any) -> Vector:
        """∇ℓ(θ; ξ), a vector like θ."""
        raise NotImplementedError

    def value(self, landscape: Landscape, theta: Vector, sample: Any, origin: Vector) -> jax.Array:
        """ℓ(θ; ξ) for a method that asks for it, a line search for one, in a step that begins at `origin`, θ₀.

            ℓ(θ; ξ) = L(θ) + (∇ℓ(θ₀; ξ) − ∇L(θ₀)) · (θ − θ₀)

        A noise of gradients has no loss of its own. This one has the sampled gradient at θ₀, everywhere if the noise is
        the same everywhere, and the value L(θ₀) there.
        """
        tilt = self.gradient(landscape, origin, sample) - landscape.field(origin)
        return landscape.value(theta) + tilt @ (theta - origin)

    def parts(self, sample: Any) -> Any:
        """The parts of a sample, along a leading axis, that each take a SAM step's ascent; None if it is one."""
        return None


class Exact(Noise):
    """No noise: ∇ℓ(θ; ξ) = ∇L(θ)."""

    random = False

    def draw(self, key, landscape, theta):
        return None

    def gradient(self, landscape, theta, sample):
        return landscape.field(theta)

    def value(self, landscape, theta, sample, origin):
        return landscape.value(theta)
