"""The contract of a method: one step, written in vector algebra, given the gradient *field*.

    method.init(theta) -> state          state.theta is where it is
    method.step(grad, state) -> state    grad: theta -> gradient there

A method gets the field, not a gradient, so it may evaluate it where it likes (SAM does so twice). `grad` may be
any function; the :class:`Sample` that a process hands over also knows how the ascent of SAM sees the minibatch.
Vectors are NumPy-like arrays of shape (dim,), or :class:`flatdyn.algebra.Vector`: coordinates, SymPy symbols, or
the parameters of a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx

from flatdyn import checks
from flatdyn.algebra import Vector


def hyperparameter(**default: Any) -> Any:
    """A field for a number, an array of them, or a symbol; `default=...` if it has one."""
    return eqx.field(converter=checks.real, **default)


class State(eqx.Module):
    """Where a method is.

    Attributes:
        theta: parameters θ
        velocity: v, the last displacement, in units of θ; None without momentum
    """

    theta: Any
    velocity: Any = None


class Sample:
    """The gradient field θ ↦ ∇ℓ(θ; ξ) of one step, with ξ drawn.

    Attributes:
        ascent: the field that a method should use to look around (SAM's first gradient)
        each: maps a function of a Sample over the parts of a batch that look around for themselves, and averages
        full: θ ↦ ∇L(θ), the gradient without noise
    """

    def __init__(self, descent: Callable, ascent: Callable, each: Callable | None = None, full: Callable | None = None):
        self._descent = descent
        self.ascent = ascent
        self.full = full or descent
        self.each = each or (lambda function: function(self))

    def __call__(self, theta):
        return self._descent(theta)


class Method(eqx.Module):
    """One step of an optimiser. Its numbers are leaves, so a sweep is a vmap over arrays in its fields."""

    def init(self, theta: Any) -> State:
        """State at rest at θ."""
        raise NotImplementedError

    def step(self, grad: Callable, state: State) -> State:
        """One step from `state` down the field `grad`."""
        raise NotImplementedError


class FirstOrder(Method):
    """Methods that follow one gradient, taken at θ or near it, with or without momentum.

        g = ∇ℓ(p; ξ),                 p = θ (GD) or the perturbed point (SAM, USAM)
        v⁺ = μ v − η g
        θ⁺ = θ + v⁺                   heavy ball
        θ⁺ = θ + μ v⁺ − η g           Nesterov

    With μ = 0 both are θ⁺ = θ − η g, and the state has no velocity. Nesterov is PyTorch's form
    (v⁺ = μ v + g, θ⁺ = θ − η(g + μ v⁺), its parameter being the look-ahead variable), with v in units of −η g.

    Subclasses have the fields lr (η), momentum (μ), nesterov, and say where the gradient is taken: `ascend`.

    Attributes:
        inertial: whether the state has a velocity
        jumps: whether the gradient that is followed jumps where ∇L = 0
        may_jump: the same, True also where that depends on a number which a sweep may vary
    """

    inertial: bool = eqx.field(static=True, init=False)
    jumps = False
    may_jump = False

    def __post_init__(self):
        # Whether there is a velocity is part of the state's shape, so it is settled here, from the literal 0.
        self.inertial = not (isinstance(self.momentum, (int, float)) and self.momentum == 0)

    def __check_init__(self):
        checks.number("lr", self.lr, above=0)
        checks.number("momentum", self.momentum, at_least=0, below=1)

    def init(self, theta):
        return State(theta, 0 * theta if self.inertial else None)

    def ascend(self, grad: Callable, theta: Any) -> Any:
        """The point at which the gradient is taken."""
        return theta

    def gradient(self, grad: Callable, theta: Any) -> Any:
        """The gradient that is followed from θ."""
        if not isinstance(grad, Sample):
            return grad(self.ascend(grad, theta))
        return grad.each(lambda part: part(self.ascend(part.ascent, theta)))

    def step(self, grad, state):
        g = self.gradient(grad, state.theta)
        if not self.inertial:
            return State(state.theta - self.lr * g)
        velocity = self.momentum * state.velocity - self.lr * g
        displacement = self.momentum * velocity - self.lr * g if self.nesterov else velocity
        return State(state.theta + displacement, velocity)


class FromOptax(Method):
    """Any optax optimiser: θ⁺ = θ + u, with u and the optimiser's own state from `transformation.update`."""

    transformation: Any

    def init(self, theta):
        return OptaxState(theta, self.transformation.init(theta))

    def step(self, grad, state):
        updates, inner = self.transformation.update(grad(state.theta), state.inner, state.theta)
        return OptaxState(state.theta + updates, inner)


class OptaxState(eqx.Module):
    """State of :class:`FromOptax`: parameters and what the optax optimiser keeps."""

    theta: Any
    inner: Any


def from_optax(transformation: Any) -> FromOptax:
    """Make a method of any `optax.GradientTransformation`, such as `optax.adam(1e-2)`.

    Raises:
        ValueError: if `transformation` has no `init` and `update`
    """
    if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
        raise ValueError(f"from_optax needs an optax.GradientTransformation, got {transformation!r}")
    return FromOptax(transformation)


def match(mask: Any, theta: Any) -> Any:
    """A mask given as an array, tuple or tree, in the form of `theta`."""
    if isinstance(mask, Vector) or not isinstance(theta, Vector):
        return mask
    return Vector(tuple(mask)) if isinstance(theta.tree, tuple) else Vector(mask)
