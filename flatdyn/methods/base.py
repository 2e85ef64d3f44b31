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
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.methods import masks
from flatdyn.methods.fields import GradientField, changed


def hyperparameter(**default: Any) -> Any:
    """A field for a number, an array of them, or a symbol; `default=...` if it has one."""
    return eqx.field(converter=checks.real, metadata={"hyperparameter": True}, **default)


def word(default: str) -> Any:
    """A field, given by name, for one of several words, which are settled when a program is compiled."""
    return eqx.field(static=True, kw_only=True, default=default)


def is_zero(value: Any) -> bool:
    """Whether a number is a literal 0: the term that it stands before is then left out of the compiled step."""
    return isinstance(value, (int, float)) and value == 0


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
        velocity: v, the last displacement, in units of θ, or b, a sum of gradients; None without momentum
        fresh: whether no step was taken, for a method whose first step is another one; else None
    """

    theta: Any
    velocity: Any = None
    fresh: Any = None


class Method(eqx.Module):
    """One step of an optimiser. Its numbers are leaves, so a sweep is a vmap over arrays in its fields.

    Attributes:
        draws: how many standard normal vectors like θ one step uses; 0 for a method that is not random itself
        samples: how many samples of the gradient one step uses
        period: after how many steps the map repeats itself: 1, unless steps are counted
        remembers: whether a step is more than one along a gradient that θ alone decides
        several: hyperparameters that may be several numbers, one for each coordinate or leaf
        absent: hyperparameters that are a literal 0, which leaves their terms out of the step: they can't be varied
        jumps: whether the gradient that is followed jumps where ∇L = 0
        may_jump: the same, True also where that depends on a number which a sweep may vary
        jumps_on_surfaces: whether it jumps also where only one coordinate of the gradient vanishes
    """

    draws = 0
    samples = 1
    period = 1
    remembers = False
    several = ()
    absent = ()
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

    def seasoned(self, state: State) -> State:
        """The same state past what only the first steps do, such as bias corrections."""
        return state

    def cycles(self, state: State) -> bool:
        """Whether steps from a seasoned state differ by a count, in turn or for ever: then one is not the map."""
        return False

    def check(self, theta: Any) -> None:
        """Raise ValueError if the method does not fit parameters of this form; a vector of shapes, not of numbers."""
        masks.check(getattr(self, "mask", None), theta)

    def check_sample(self, theta: Any, ascent: str, noise: Any) -> None:
        """Raise ValueError if the method can't see its sample in the way that a process is told to show it."""

    def keyed(self, form: Callable) -> bool:
        """Whether a step needs `grad.key`, for it draws by itself and not normal numbers alone.

        Args:
            form: gives the vector of shapes that `check` gets
        """
        return False

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
    def period(self):
        return self.method.period

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

    def seasoned(self, state):
        return eqx.tree_at(lambda whole: whole.inner, state, self.method.seasoned(state.inner))

    def cycles(self, state):
        return self.method.cycles(state.inner)

    def check(self, theta):
        self.method.check(theta)

    def check_sample(self, theta, ascent, noise):
        self.method.check_sample(theta, ascent, noise)

    def keyed(self, form):
        return self.method.keyed(form)

    def gap(self, theta):
        return self.method.gap(theta)

    @property
    def starts_anywhere(self):
        return type(self).gap is Wrapper.gap and self.method.starts_anywhere

    def project(self, theta):
        return self.method.project(theta)

    def possible(self, state):
        return self.method.possible(state.inner)


DECAYS, UNITS, STARTS = ("coupled", "decoupled", "loss"), ("displacement", "gradient"), ("rest", "first", "twice")


class FirstOrder(Method):
    """Methods that follow one gradient, taken at θ or near it, with or without momentum.

        g = ∇ℓ(p; ξ),                 p = θ (GD) or the perturbed point (SAM, USAM)
        v⁺ = μ v − η g
        θ⁺ = θ + v⁺                   heavy ball
        θ⁺ = θ + μ v⁺ − η g           Nesterov

    With μ = 0 both are θ⁺ = θ − η g, and the state has no velocity. Nesterov is PyTorch's form
    (v⁺ = μ v + g, θ⁺ = θ − η(g + μ v⁺), its parameter being the look-ahead variable), with v in units of −η g.

    **Conventions.** Packages agree on this and differ in the rest. Every method of this kind takes, by name:

        weight_decay    λ ≥ 0, a pull to zero, and where it acts, `decay`:
            "coupled"     g ← g + λ θ, at the unperturbed θ, through the momentum; no ascent sees it (PyTorch)
            "decoupled"   θ⁺ = (1 − η λ) θ + the displacement (AdamW, SGDW)
            "loss"        ∇ℓ + λ θ wherever a gradient is asked for, in the ascent too: that of ℓ + λ ‖θ‖²/2
        decay_mask      which parameters are pulled, m ⊙ θ in place of θ; None for all. Programs often spare biases and
                        norms: masks.where(parameters, lambda path, leaf: leaf.ndim > 1)
        dampening       τ in [0, 1):  v⁺ = μ v − η (1 − τ) g;  Nesterov's −η g stays whole, as in PyTorch
        units           what the velocity is kept in, which matters if η changes:
            "displacement"  as above: a smaller η leaves what was gathered before (Keras)
            "gradient"      b⁺ = μ b + (1 − τ) g,  θ⁺ = θ − η b⁺, or θ − η (g + μ b⁺) (PyTorch, optax)
        start           the velocity after the first gradient g₀, in units of −η:
            "rest"          (1 − τ) g₀, from v = 0
            "first"         g₀ without dampening (PyTorch)
            "twice"         μ g₀ + (1 − τ) g₀, as if g₀ had been there before (torchzero)

    Subclasses have the fields lr (η), momentum (μ), nesterov, and say where the gradient is taken: `ascend`, or what is
    made of several: `gradient`. Neither has to know of decay: the field that they are handed has it if it is in the
    loss, and :meth:`followed` adds it if it is coupled. A method with a step of its own ends it with :meth:`moved`.

    Attributes:
        inertial: whether the state has a velocity
    Raises:
        ValueError: if a number is out of range, a word is unknown, or dampening or start is given without momentum
    """

    inertial: bool = eqx.field(static=True, init=False)
    absent: tuple[str, ...] = eqx.field(static=True, init=False, repr=False)
    weight_decay: Any = hyperparameter(kw_only=True, default=0.0)
    decay: str = word("coupled")
    decay_mask: Any = eqx.field(converter=lambda m: masks.settled(m, "decay_mask"), kw_only=True, default=None)
    dampening: Any = hyperparameter(kw_only=True, default=0.0)
    units: str = word("displacement")
    start: str = word("rest")

    def __post_init__(self):
        # What is in the state and in the step is part of the program, so it is settled here, from the literal 0.
        self.absent = tuple(name for name in ("momentum", "weight_decay", "dampening") if is_zero(getattr(self, name)))
        self.inertial = "momentum" not in self.absent

    def __check_init__(self):
        checks.number("lr", self.lr, above=0)
        checks.number("momentum", self.momentum, at_least=0, below=1)
        checks.number("weight_decay", self.weight_decay, at_least=0)
        checks.number("dampening", self.dampening, at_least=0, below=1)
        checks.choice("decay", self.decay, DECAYS)
        checks.choice("units", self.units, UNITS)
        checks.choice("start", self.start, STARTS)
        if self.decay_mask is not None and "weight_decay" in self.absent:
            raise ValueError("decay_mask says what weight decay pulls, and there is none: give weight_decay")
        if not self.inertial and self.start != "rest":
            raise ValueError(f"start={self.start!r} is of a velocity, and there is none without momentum: leave it out")
        if not self.inertial and "dampening" not in self.absent:
            raise ValueError(
                f"dampening is of what the velocity takes, and there is none without momentum: leave it out, "
                f"got {checks.shown(self.dampening)}"
            )

    def check(self, theta):
        super().check(theta)
        masks.check(self.decay_mask, theta, "decay_mask")

    def init(self, theta):
        # Symbols are of the steps after the first.
        unlike = self.start != "rest" and not any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(theta))
        return State(theta, 0 * theta if self.inertial else None, jnp.asarray(True) if unlike else None)

    def seasoned(self, state):
        return state if state.fresh is None else dataclasses.replace(state, fresh=jnp.asarray(False))

    def decays(self, where: str) -> bool:
        """Whether there is weight decay at this place: "coupled", "decoupled" or "loss"."""
        return self.decay == where and "weight_decay" not in self.absent

    def field(self, grad: Callable) -> Callable:
        """The gradient field as the method sees it: with weight decay, if that is in the loss."""
        block = getattr(grad, "block", None)
        pulled = lambda theta, g: g + masks.masked(block, self.pulled(theta))  # noqa: E731
        return changed(grad, pulled) if self.decays("loss") else grad

    def pulled(self, theta: Any) -> Any:
        """λ θ, of what weight decay pulls: the gradient of λ ‖θ‖²/2."""
        return self.weight_decay * masks.masked(self.decay_mask, theta)

    def ascend(self, grad: Callable, theta: Any) -> Any:
        """The point at which the gradient is taken; `grad` is that of :meth:`field`."""
        return theta

    def gradient(self, grad: Callable, theta: Any) -> Any:
        """The gradient that is followed from θ, but for coupled decay; `grad` is that of :meth:`field`."""
        if not isinstance(grad, GradientField):
            return grad(self.ascend(grad, theta))
        return grad.each(lambda part: part(self.ascend(part.ascent, theta)))

    def followed(self, grad: Callable, theta: Any) -> Any:
        """The gradient that is followed from θ, weight decay included unless that is decoupled."""
        return self.coupled(self.gradient(self.field(grad), theta), theta)

    def coupled(self, g: Any, theta: Any) -> Any:
        """g with weight decay, if that is coupled."""
        return g + self.pulled(theta) if self.decays("coupled") else g

    def pull(self, grad: Callable, theta: Any) -> Any:
        """What vanishes where the method rests: the gradient that is followed, and decay wherever it acts.

        θ' = −gain · pull, per η, is the limit of small steps.
        """
        g = self.followed(grad, theta)
        pulled = masks.masked(self.decay_mask, theta)
        return g + (self.weight_decay / self.gain) * pulled if self.decays("decoupled") else g

    @property
    def jumps_elsewhere(self) -> bool:
        """Whether it may jump where the sampled gradient ∇ℓ(θ; ξ) does not vanish, apart from surfaces."""
        return self.may_jump and self.decays("loss")

    @property
    def tied(self) -> bool:
        """Whether it rests where ∇L vanishes at θ or at the one point to which it ascends with the whole gradient."""
        return "weight_decay" in self.absent

    def vanishes_apart(self, theta: Any) -> bool:
        """Whether what a norm is taken of may vanish where the gradient does not: a part of it, or one tensor of θ."""
        return False

    @property
    def gain(self) -> Any:
        """How far a gradient moves θ in the end, in units of η g: (1 − τ)/(1 − μ), Nesterov (1 − μτ)/(1 − μ)."""
        if not self.inertial:
            return 1.0
        return (1 - (self.momentum if self.nesterov else 1) * self.dampening) / (1 - self.momentum)

    def step(self, grad, state):
        return self.moved(state, self.followed(grad, state.theta))

    def moved(self, state: State, g: Any) -> State:
        """The state after a step along −g, with momentum and decoupled decay."""
        theta = state.theta
        if self.decays("decoupled"):
            whole = self.decay_mask is None
            theta = (1 - self.lr * self.weight_decay) * theta if whole else theta - self.lr * self.pulled(theta)
        if not self.inertial:
            return dataclasses.replace(state, theta=theta - self.lr * g)
        share = self._share(state.fresh)
        fresh = None if state.fresh is None else jnp.zeros_like(state.fresh)
        if self.units == "gradient":
            velocity = self.momentum * state.velocity + (g if share is None else share * g)
            theta = theta - self.lr * (g + self.momentum * velocity if self.nesterov else velocity)
            return dataclasses.replace(state, theta=theta, velocity=velocity, fresh=fresh)
        velocity = self.momentum * state.velocity - (self.lr if share is None else self.lr * share) * g
        displacement = self.momentum * velocity - self.lr * g if self.nesterov else velocity
        return dataclasses.replace(state, theta=theta + displacement, velocity=velocity, fresh=fresh)

    def _share(self, fresh: Any) -> Any:
        """How much of a gradient the velocity takes; None for all of it."""
        share = None if "dampening" in self.absent else 1 - self.dampening
        if fresh is None:
            return share
        usual = 1.0 if share is None else share
        return jnp.where(fresh, 1.0 if self.start == "first" else usual + self.momentum, usual)
