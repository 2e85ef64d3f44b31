"""The gradient field of one step, which a method may ask where it likes: its samples, and how an ascent sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from flatdyn.methods import masks


class GradientField:
    """The gradient field θ ↦ ∇ℓ(θ; ξ) of one step, with ξ drawn.

    Attributes:
        ascent: the field that a method should use to look around (SAM's first gradient)
        each: maps a function of a GradientField over the parts of a batch that look around for themselves, and averages
        full: θ ↦ ∇L(θ), the gradient without noise
        value: (θ, θ₀) ↦ ℓ(θ; ξ) of a step that begins at θ₀, see :meth:`flatdyn.noise.Noise.value`; None if not known
        further: samples beyond the first, for a method that uses several in a step
        key: the step's own, for a method that is `keyed`; else None
        block: mask of the parameters that are moved, if those of others are held; else None
    """

    further: tuple[GradientField, ...] = ()
    key: jax.Array | None = None
    block: Any = None

    def __init__(
        self,
        descent: Callable,
        ascent: Callable,
        each: Callable | None = None,
        full: Callable | None = None,
        value: Callable | None = None,
    ):
        self._descent = descent
        self.ascent = ascent
        self.full = full or descent
        self.value = value
        self.each = each or (lambda function: function(self))

    def __call__(self, theta):
        return self._descent(theta)

    def changed(self, change: Callable) -> GradientField:
        """The same sample with change(θ, ∇ℓ(θ)) in place of ∇ℓ(θ), in all of its fields; `value` stays that of ℓ."""

        def part(field: Callable) -> Callable:
            return lambda theta: change(theta, field(theta))

        def each(function: Callable) -> Any:
            return self.each(lambda one: function(one.changed(change) if one is not self else own))

        own = GradientField(part(self), part(self.ascent), each, part(self.full), self.value)
        own.further = tuple(sample.changed(change) for sample in self.further)
        own.key, own.block = self.key, self.block
        return own

    def restricted(self, mask: Any) -> GradientField:
        """The same sample with m ⊙ ∇ℓ in place of ∇ℓ."""
        own = self.changed(lambda theta, g: masks.masked(mask, g))
        own.block = mask
        return own


def changed(grad: Callable, change: Callable) -> Callable:
    """The field θ ↦ change(θ, ∇ℓ(θ; ξ)), of a :class:`GradientField` or of a plain function."""
    return grad.changed(change) if isinstance(grad, GradientField) else lambda theta: change(theta, grad(theta))


def samples_of(grad: Callable, number: int) -> tuple[Callable, ...]:
    """The fields that a method with `samples = number` uses; a plain function serves for all of them."""
    fields = (grad, *getattr(grad, "further", ()))
    return fields if len(fields) >= number else (grad,) * number


def restricted(grad: Callable, mask: Any) -> Callable:
    """The field θ ↦ m ⊙ ∇ℓ(θ; ξ), for a method that moves one block of the parameters."""
    return (grad if isinstance(grad, GradientField) else GradientField(grad, grad)).restricted(mask)
