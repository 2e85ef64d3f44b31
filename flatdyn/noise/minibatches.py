"""Minibatches of a landscape that is a mean over examples: drawn anew every step, or shuffled passes through all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks, memory
from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import indices, shuffled
from flatdyn.landscapes import Landscape
from flatdyn.landscapes.finite_sums import Examples
from flatdyn.noise.base import Noise

LAST = ("drop", "keep")


class Minibatches(Noise):
    """Noises whose sample is a minibatch: ∇ℓ(θ; ξ) = (1/B) Σ_{i ∈ ξ} ∇ℓᵢ(θ). Subclasses have its sizes as fields."""

    def __check_init__(self):
        checks.counts(batch_size=self.batch_size)
        if self.ascent_size is not None and self.batch_size % checks.count("ascent_size", self.ascent_size, 1):
            raise ValueError(f"ascent_size must divide batch_size={self.batch_size}, got {self.ascent_size}")
        whole = self.ascent_size or self.batch_size
        if self.micro_size is not None and whole % checks.count("micro_size", self.micro_size, 1):
            raise ValueError(f"micro_size must divide the {whole} examples of a gradient, got {self.micro_size}")

    def check(self, landscape):
        if not isinstance(landscape, Examples):
            name = type(self).__name__
            raise TypeError(f"the noise {name} needs a landscape made by Landscape.from_examples, got {landscape!r}")
        shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(landscape.examples)]
        each = memory.array_bytes(1) + sum(memory.array_bytes(*shape) for shape in shapes) * (self.micro_size is None)
        memory.check_memory(
            0, "a minibatch", "take a smaller `batch_size`, or `micro_size`", device=each * self.batch_size
        )

    def gradient(self, landscape, theta, sample):
        if self.micro_size in (None, len(sample)):
            return landscape.batch_field(theta, sample)

        def add(total, part):
            return total + landscape.batch_field(theta, part), None

        parts = sample.reshape(-1, self.micro_size)
        return jax.lax.scan(add, 0 * theta, parts)[0] * (1 / len(parts))

    def value(self, landscape, theta, sample, origin):
        """(1/B) Σ_{i ∈ ξ} ℓᵢ(θ), the minibatch's own loss."""
        if self.micro_size in (None, len(sample)):
            return landscape.batch(sample).value(theta)
        parts = sample.reshape(-1, self.micro_size)
        return jax.lax.map(lambda part: landscape.batch(part).value(theta), parts).mean()

    def parts(self, sample):
        return sample.reshape(-1, self.ascent_size) if self._several_ascents else None

    @property
    def _several_ascents(self) -> bool:
        return self.ascent_size not in (None, self.batch_size)


class FiniteSum(Minibatches):
    """Minibatches of a landscape that is a mean over examples.

        ∇ℓ(θ; ξ) = (1/B) Σ_{i ∈ ξ} ∇ℓᵢ(θ),   ξ = B examples, drawn anew every step

    With replacement the covariance is Σ/B; without, Σ/B · (n − B)/(n − 1), and a batch of all n is exact. Papers mean
    this one; programs shuffle the examples and pass through them: :class:`Epochs`.

    Args:
        batch_size: B ≥ 1, a whole number
        replace: draw with replacement
        ascent_size: m, a divisor of B: each m examples make the ascent of a SAM step by themselves, and their
            gradients are averaged (m-sharpness); the whole batch if not given
        micro_size: a divisor of B, and of m: gradients are computed for so many examples at a time and averaged
            (gradient accumulation), which takes less memory and gives the same step, SAM's too, up to rounding.
            A network with BatchNorm normalises each of these parts by itself, and so is another network
    Raises:
        ValueError: if a size does not fit; on a landscape that has fewer than B examples, without replacement
        TypeError: on a landscape that is not a mean over examples
    References:
        m-sharpness: Foret, Kleiner, Mobahi, Neyshabur, arXiv 2010.01412.
    """

    batch_size: int = eqx.field(static=True, converter=checks.whole)
    replace: bool = eqx.field(static=True, default=True)
    ascent_size: int | None = eqx.field(static=True, converter=checks.whole, default=None)
    micro_size: int | None = eqx.field(static=True, converter=checks.whole, default=None)

    def __check_init__(self):
        checks.flag("replace", self.replace)

    def check(self, landscape):
        super().check(landscape)
        if not self.replace and self.batch_size > landscape.number:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the {landscape.number} examples: draw with replacement, "
                f"or at most {landscape.number}"
            )

    def draw(self, key, landscape, theta):
        if self.replace:
            return indices(key, self.batch_size, landscape.number)
        return jax.random.choice(key, landscape.number, (self.batch_size,), replace=False)


class EpochState(NamedTuple):
    """Where a run is in its pass through the examples.

    Attributes:
        words: the two words of the key that their order belongs to, shape (2,)
        batch: the number of the next minibatch, 0 if the next pass begins
    """

    words: jax.Array
    batch: jax.Array


class Unequal(NamedTuple):
    """A minibatch that may be the shorter last one of a pass: then only its first examples count."""

    examples: jax.Array
    last: jax.Array


class Epochs(Minibatches):
    """Shuffled passes through the examples, as programs make them: within an epoch no example comes twice.

        ∇ℓ(θ; ξ) = (1/B) Σ_{i ∈ ξ} ∇ℓᵢ(θ),   ξ at step b of epoch e = examples π_e(b B), …, π_e(b B + B − 1)

    with the π_e independent random orders of all n examples: PyTorch's DataLoader with shuffle=True. Each minibatch
    alone is drawn without replacement, as that of `FiniteSum(B, replace=False)`; but those of one epoch add up to ∇L,
    so that after an epoch their noise has cancelled to first order in η, and runs spread much less around a minimum
    and start later from a saddle.

    The order belongs to the run and the epoch alone. Its key, that of the epoch's first step, and the number of the
    next minibatch are part of the state of a process, so a run that was interrupted goes on within its epoch. A method
    that uses k samples a step (:class:`flatdyn.Multirate`) takes the next k minibatches; an independent ascent passes
    through the examples in an order of its own.

    Args:
        batch_size: B ≥ 1, a whole number
        last: what becomes of the n mod B examples that fill no minibatch: "drop": an epoch leaves them out, others
            each time (drop_last=True); "keep": they make a shorter last minibatch, whose gradient is the mean over its
            own examples (drop_last=False, PyTorch's default). Where runs go side by side every step computes both and
            takes one, so that it costs (B + n mod B)/B as much: take a B that divides n where that matters
        ascent_size: as for :class:`FiniteSum`; not with a shorter last minibatch
        micro_size: as for :class:`FiniteSum`; a divisor of the last minibatch's size, too
    Raises:
        ValueError: if a size does not fit; on a landscape that has fewer than B examples
        TypeError: on a landscape that is not a mean over examples
    References:
        Gürbüzbalaban, Ozdaglar, Parrilo, arXiv 1510.08560 (why it converges faster). :mod:`flatdyn.laws.epochs` has
        exact laws.
    """

    batch_size: int = eqx.field(static=True, converter=checks.whole)
    last: str = eqx.field(static=True, default="drop")
    ascent_size: int | None = eqx.field(static=True, converter=checks.whole, default=None)
    micro_size: int | None = eqx.field(static=True, converter=checks.whole, default=None)

    remembers = True

    def __check_init__(self):
        checks.choice("last", self.last, LAST)

    def steps(self, examples: Any) -> int:
        """Minibatches in an epoch: ⌊n/B⌋, or ⌈n/B⌉ if the last is kept.

        Args:
            examples: n, or a landscape that is a mean over n examples
        Raises:
            ValueError: if n < B
        """
        number = examples.number if isinstance(examples, Examples) else checks.count("examples", examples, at_least=1)
        if self.batch_size > number:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the {number} examples of an epoch: take at most {number}"
            )
        return -(-number // self.batch_size) if self.last == "keep" else number // self.batch_size

    def check(self, landscape):
        super().check(landscape)
        self.steps(landscape)
        rest = self._rest(landscape)
        if rest and self._several_ascents:
            raise ValueError(
                f"ascent_size needs minibatches of one size, but the last of {landscape.number} examples has {rest}: "
                "take last='drop', or a batch_size that divides the examples"
            )
        if rest and self.micro_size is not None and rest % self.micro_size:
            raise ValueError(f"micro_size must divide the {rest} examples of the last minibatch, got {self.micro_size}")

    def draw(self, key, landscape, theta):
        return self.following(key, landscape, theta, self.init(landscape))[0]

    def init(self, landscape):
        return EpochState(jnp.zeros(2, jnp.uint32), jnp.zeros((), jnp.int32))

    def following(self, key, landscape, theta, memory):
        words = jnp.where(memory.batch == 0, jax.random.key_data(key)[:2], memory.words)
        order = jax.random.wrap_key_data(words, impl="threefry2x32")
        places = memory.batch * self.batch_size + jnp.arange(self.batch_size, dtype=jnp.int32)
        examples = shuffled(order, jnp.minimum(places, landscape.number - 1), landscape.number)
        last = memory.batch == self.steps(landscape) - 1
        sample = Unequal(examples, last) if self._rest(landscape) else examples
        return sample, EpochState(words, jnp.where(last, 0, memory.batch + 1))

    def gradient(self, landscape, theta, sample):
        return self._of_its_size(super().gradient, landscape, theta, sample)

    def value(self, landscape, theta, sample, origin):
        return self._of_its_size(super().value, landscape, theta, sample, origin)

    def _of_its_size(self, mean: Callable, landscape: Landscape, theta: Vector, sample: Any, *others: Any) -> Any:
        """A mean over the examples of a minibatch, the shorter last one included."""
        if not isinstance(sample, Unequal):
            return mean(landscape, theta, sample, *others)
        rest = self._rest(landscape)
        return jax.lax.cond(
            sample.last,
            lambda: mean(landscape, theta, sample.examples[:rest], *others),
            lambda: mean(landscape, theta, sample.examples, *others),
        )

    def _rest(self, landscape: Landscape) -> int:
        """How many examples the shorter last minibatch has; 0 if all are of one size."""
        return landscape.number % self.batch_size if self.last == "keep" else 0
