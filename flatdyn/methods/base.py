"""The contract of a method: one step, written in vector algebra, given the gradient *field*.

    method.init(theta) -> state                    state.theta is where it is
    method.step(grad, state, *normals) -> state    grad: theta -> gradient there

A method gets the field, not a gradient, so it may evaluate it where it likes (SAM does so twice). `grad` may be
any function; the :class:`GradientField` that a process hands over also knows how the ascent of SAM sees the minibatch.
A method that is random itself (Langevin) says how many standard normal vectors it uses, and is handed them: so the
same step runs in a simulation, on symbols, and under an integral over its noise.
Vectors are NumPy-like arrays of shape (dim,), or :class:`flatdyn.core.algebra.Vector`: coordinates, SymPy symbols, or
the parameters of a network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from flatdyn.core import checks
from flatdyn.methods import masks


def hyperparameter(**default: Any) -> Any:
    """A field for a number, an array of them, or a symbol; `default=...` if it has one."""
    return eqx.field(converter=checks.real, metadata={"hyperparameter": True}, **default)


def check_single(name: str, value: Any) -> None:
    """Raise ValueError if a hyperparameter of a run is an array."""
    if np.ndim(value):
        raise ValueError(
            f"{name} must be one number in a run, got {checks.shown(value)}: "
            "flatdyn.sweep, or jax.vmap over the method, takes several"
        )


class State(eqx.Module):
    """Where a method is.

    Attributes:
        theta: parameters θ
        velocity: v, the last displacement, in units of θ; None without momentum
    """

    theta: Any
    velocity: Any = None


class GradientField:
    """The gradient field θ ↦ ∇ℓ(θ; ξ) of one step, with ξ drawn.

    Attributes:
        ascent: the field that a method should use to look around (SAM's first gradient)
        each: maps a function of a GradientField over the parts of a batch that look around for themselves, and averages
        full: θ ↦ ∇L(θ), the gradient without noise
        further: samples beyond the first, for a method that uses several in a step
    """

    further: tuple[GradientField, ...] = ()

    def __init__(self, descent: Callable, ascent: Callable, each: Callable | None = None, full: Callable | None = None):
        self._descent = descent
        self.ascent = ascent
        self.full = full or descent
        self.each = each or (lambda function: function(self))

    def __call__(self, theta):
        return self._descent(theta)

    def restricted(self, mask: Any) -> GradientField:
        """The same sample with m ⊙ ∇ℓ in place of ∇ℓ."""

        def part(field: Callable) -> Callable:
            return lambda theta: masks.masked(mask, field(theta))

        def each(function: Callable) -> Any:
            return self.each(lambda one: function(one.restricted(mask) if one is not self else own))

        own = GradientField(part(self), part(self.ascent), each, part(self.full))
        own.further = tuple(sample.restricted(mask) for sample in self.further)
        return own


def samples_of(grad: Callable, number: int) -> tuple[Callable, ...]:
    """The fields that a method with `samples = number` uses; a plain function serves for all of them."""
    fields = (grad, *getattr(grad, "further", ()))
    return fields if len(fields) >= number else (grad,) * number


def restricted(grad: Callable, mask: Any) -> Callable:
    """The field θ ↦ m ⊙ ∇ℓ(θ; ξ), for a method that moves one block of the parameters."""
    return grad.restricted(mask) if isinstance(grad, GradientField) else lambda theta: masks.masked(mask, grad(theta))


class Method(eqx.Module):
    """One step of an optimiser. Its numbers are leaves, so a sweep is a vmap over arrays in its fields.

    Attributes:
        draws: how many standard normal vectors like θ one step uses; 0 for a method that is not random itself
        samples: how many samples of the gradient one step uses
        several: hyperparameters that may be several numbers, one for each coordinate or leaf
        jumps: whether the gradient that is followed jumps where ∇L = 0
        may_jump: the same, True also where that depends on a number which a sweep may vary
        jumps_on_surfaces: whether it jumps also where only one coordinate of the gradient vanishes
    """

    draws = 0
    samples = 1
    several = ()
    jumps = False
    may_jump = False
    jumps_on_surfaces = False
    made_by = "fd.GD(lr), fd.SAM(lr, rho), or another of flatdyn.methods"

    def __check_init__(self):
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool):
                checks.flag(field.name, getattr(self, field.name))

    def single(self) -> None:
        """Raise ValueError if a hyperparameter is an array; a run takes one number for each."""
        for field in dataclasses.fields(self):
            if "hyperparameter" in field.metadata and field.name not in self.several:
                check_single(field.name, getattr(self, field.name))

    def init(self, theta: Any) -> State:
        """State at rest at θ."""
        raise NotImplementedError

    def step(self, grad: Callable, state: State, *normals: Any) -> State:
        """One step from `state` down the field `grad`, driven by `draws` standard normal vectors."""
        raise NotImplementedError

    def check(self, theta: Any) -> None:
        """Raise ValueError if the method does not fit parameters of this form; a vector of shapes, not of numbers."""
        masks.check(getattr(self, "mask", None), theta)

    def gap(self, theta: Any) -> jax.Array | None:
        """How far θ is from where this method can start; None for one that starts anywhere."""
        return None

    @property
    def starts_anywhere(self) -> bool:
        """Whether `gap` is None, as far as that is known without a trace of it."""
        return type(self).gap is Method.gap

    def project(self, theta: Any) -> Any:
        """The point nearest to θ where this method can start; NaN if there is none."""
        return theta

    def possible(self, state: State) -> jax.Array | bool:
        """Whether the step that led to `state` could be taken; where not, a run stays where it was."""
        return True


class Wrapper(Method):
    """A method around another one, its field `method`, which answers every question that is asked before a step.

    The state has the other method's state as `inner`.
    """

    method: Method

    def __check_init__(self):
        checks.kind("method", self.method, Method)

    @property
    def draws(self):
        return self.method.draws

    @property
    def samples(self):
        return self.method.samples

    @property
    def jumps(self):
        return self.method.jumps

    @property
    def may_jump(self):
        return self.method.may_jump

    @property
    def jumps_on_surfaces(self):
        return self.method.jumps_on_surfaces

    def single(self):
        super().single()
        self.method.single()

    def check(self, theta):
        self.method.check(theta)

    def gap(self, theta):
        return self.method.gap(theta)

    @property
    def starts_anywhere(self):
        return type(self).gap is Wrapper.gap and self.method.starts_anywhere

    def project(self, theta):
        return self.method.project(theta)

    def possible(self, state):
        return self.method.possible(state.inner)


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
    """

    inertial: bool = eqx.field(static=True, init=False)

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
        if not isinstance(grad, GradientField):
            return grad(self.ascend(grad, theta))
        return grad.each(lambda part: part(self.ascend(part.ascent, theta)))

    def step(self, grad, state):
        g = self.gradient(grad, state.theta)
        if not self.inertial:
            return State(state.theta - self.lr * g)
        velocity = self.momentum * state.velocity - self.lr * g
        displacement = self.momentum * velocity - self.lr * g if self.nesterov else velocity
        return State(state.theta + displacement, velocity)
