"""Methods of SAM's family that look uphill with the help of what they saw before: their state remembers it."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import sympy

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, is_coordinates, norm
from flatdyn.methods import masks
from flatdyn.methods.base import State, hyperparameter
from flatdyn.methods.family import Uphill, across, sampled
from flatdyn.methods.fields import GradientField

_LONGEST = 1_000_000  # steps between two ascents, which are counted in 32 bits
_ULPS = 64  # of a gradient: what is left of it across another one, and is less, is rounding


def is_symbolic(vector: Any) -> bool:
    return any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(vector))


def chosen(condition: Any, a: Any, b: Any) -> Any:
    """a where a condition holds, else b, for trees; in symbols the condition is known."""
    if isinstance(condition, bool):
        return a if condition else b
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


class WithMemory(Uphill):
    """A step that depends on more than θ and the velocity. Subclasses have a state of their own, and say in `look` what
    is followed from it and what is remembered of that.

    What asks about one gradient at one point (`probe`, `from_optax`, a flow) sees the first step from rest, or refuses.
    """

    remembers = True
    tied = False

    @property
    def jumps_elsewhere(self):
        return self.may_jump  # where the direction that is remembered vanishes

    def look(self, part: GradientField, state: State) -> tuple[Any, dict[str, Any]]:
        """The gradient that is followed from a state, and the fields of the state that change with it."""
        raise NotImplementedError

    def gradient(self, grad, theta):
        return self.look(sampled(grad), self.init(theta))[0]

    def step(self, grad, state):
        followed, remembered = self.look(sampled(self.field(grad)), state)
        return dataclasses.replace(self.moved(state, self.coupled(followed, state.theta)), **remembered)


class _OneAscent(WithMemory):
    def __check_init__(self):
        if self.ascents != 1:
            raise ValueError(f"{type(self).__name__} is one ascent along what it remembers, got ascents={self.ascents}")


class LookState(State):
    """State of :class:`LookSAM`.

    Attributes:
        across: g_v, the part of the last perturbed gradient at right angles to the gradient
        count: steps since the last ascent
    """

    across: Any = None
    count: Any = None


class LookSAM(WithMemory):
    """SAM at every k-th step; between them its sideways push is used again.

        at steps 0, k, 2k, …   p = θ + ρ m ⊙ g/(‖m ⊙ g‖ + ε),  g = ∇ℓ(θ; ξ);   followed: g′ = ∇ℓ(p; ξ)
                               remembered: g_v = g′ − (g′ · u) u,  u = g/(‖g‖ + ε)
        at the other steps     followed: g + α (g · u) g_v/(‖g_v‖ + ε),   where g · u = ‖g‖ if ε = 0

    with momentum as in :class:`flatdyn.methods.base.FirstOrder`. k = 1 is SAM. Where g′ is along g but for rounding, as
    on an eigenvector of a quadratic, g_v counts as zero here; the packages divide that rounding by its length, and push
    sideways by α ‖g‖ in a direction that is none.

    The map repeats itself only after k steps: `stability.multipliers` are those of k steps. With ε > 0 those of an
    eigen-direction of a critical point are, without momentum,

        (1 − η λ (1 + ρ λ/ε)) (1 − η λ)^(k−1)

    (g_v counts to second order only), and zeros. So a saddle attracts if |1 + η b − η ρ b²/ε| < (1 + η b)^(1−k) for
    each negative λ = −b: a window of radii, which narrows with k. With ε = 0, on a line of curvature λ, runs end on a
    cycle that is at ± η λ ρ q/(1 + (1 − η λ) q), q = (1 − η λ)^(k−1), before every ascent.

    Both kinds of step are computed at every step here: this saves no time, as it does in training.

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, in units of θ
        k: steps from one ascent to the next, at least 1
        alpha: α ≥ 0, the length of the push in units of ‖g‖
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norms, in units of ∇L; a parameter of the model
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        layerwise: whether g_v is taken, and used, for each leaf of the parameters by itself, as pytorch_optimizer does;
            the paper has one for all
        scope, ascents: as for :class:`flatdyn.SAM`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, or a word is unknown
    References:
        Liu, Mai, Chen, Hsieh, You, arXiv 2203.02714, Algorithm 1.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    k: int = eqx.field(static=True, converter=checks.whole)
    alpha: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)
    layerwise: bool = eqx.field(static=True, kw_only=True, default=False)

    def __check_init__(self):
        checks.count("k", self.k, at_least=1, at_most=_LONGEST)
        checks.number("alpha", self.alpha, at_least=0)

    @property
    def period(self):
        return self.k

    def init(self, theta):
        state = super().init(theta)
        return LookState(theta, state.velocity, state.fresh, 0 * theta, 0 if is_symbolic(theta) else jnp.asarray(0))

    def seasoned(self, state):
        return dataclasses.replace(super().seasoned(state), count=0 * state.count)

    def look(self, part, state):
        def of(part):
            here, there = self.seen(part, state.theta)
            aside = self._each(self._aside, there, here)
            again = here + self._each(self._push, here, state.across)
            ascends = state.count == 0
            return chosen(ascends, there, again), chosen(ascends, aside, state.across)

        followed, remembered = part.each(of)
        return followed, {"across": remembered, "count": (state.count + 1) % self.k}

    def _aside(self, there: Any, here: Any) -> Any:
        """g_v: what is left of g′ without its part along g, unless it is rounding."""
        left = across(there, here, self.eps)
        if is_symbolic(left):
            return left
        least = _ULPS * jnp.finfo(jax.tree.leaves(left)[0].dtype).eps * norm(there)
        return jax.tree.map(lambda leaf: jnp.where(norm(left) > least, leaf, 0), left)

    def _push(self, here: Any, aside: Any) -> Any:
        return self.alpha * (here @ (here / norm(here, self.eps))) * (aside / norm(aside, self.eps))

    def _each(self, function: Any, a: Any, b: Any) -> Any:
        """A function of two vectors, or of each pair of their leaves."""
        if not self.layerwise or not isinstance(a, Vector) or is_coordinates(a.tree):
            return function(a, b)
        return a.map(lambda x, y: function(Vector(x), Vector(y)).tree, b)


class FriendlyState(State):
    """State of :class:`FriendlySAM`.

    Attributes:
        average: m, the running average of gradients
        empty: whether it has none yet, if the first is to be copied; else None
    """

    average: Any = None
    empty: Any = None


class FriendlySAM(_OneAscent):
    """Friendly SAM: the ascent leaves out the part of the gradient that is always there, estimated by its average.

        m⁺ = κ m + (1 − κ) g,   g = ∇ℓ(θ; ξ),   m = 0 at first,   κ = ema
        d = g − σ m⁺,           p = θ + ρ M ⊙ d/(‖M ⊙ d‖ + ε),     M = mask
        θ⁺ = θ − η ∇ℓ(p; ξ);    with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    σ = 0 is SAM. On full batches the average lags behind a gradient that shrinks, so with σ = 1 the ascent is along −g
    from the second step on: downhill. It then comes to rest at a distance ρ from the minimum, where p is the minimum.

    With ε > 0 a multiplier at a critical point crosses 1 where λ (1 + (1 − σ) ρ λ/ε) = 0, λ an eigenvalue of the
    Hessian: as for SAM of radius (1 − σ) ρ, whatever κ is. So with σ = 1 no saddle attracts.

    The authors' program, and pytorch_optimizer, copy the first gradient to m, ascend along it, and subtract m before it
    is renewed: d = g − s m. That is the same direction with

        copy_first=True,   sigma = s/(κ + s (1 − κ))

    and the same σ if s = 1.

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, in units of θ
        sigma: σ ≥ 0, how much of the average is left out
        ema: κ in [0, 1), how much of the average a step keeps
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of ∇L; a parameter of the model
        mask: M, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        copy_first: whether m is the first gradient after the first step, which then ascends along it
        scope: as for :class:`flatdyn.SAM`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, a word is unknown, or ascents is given
    References:
        Li, Zhou, He, Cheng, Huang, arXiv 2403.12350, Algorithm 1.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    sigma: Any = hyperparameter(default=1.0)
    ema: Any = hyperparameter(default=0.9)
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)
    copy_first: bool = eqx.field(static=True, kw_only=True, default=False)

    def __check_init__(self):
        checks.number("sigma", self.sigma, at_least=0)
        checks.number("ema", self.ema, at_least=0, below=1)

    def init(self, theta):
        state = super().init(theta)
        empty = jnp.asarray(True) if self.copy_first and not is_symbolic(theta) else None
        return FriendlyState(theta, state.velocity, state.fresh, 0 * theta, empty)

    def seasoned(self, state):
        state = super().seasoned(state)
        return state if state.empty is None else dataclasses.replace(state, empty=jnp.asarray(False))

    def renewed(self, state: FriendlyState, g: Any) -> tuple[Any, Any]:
        """The average with a gradient in it, and what of it an ascent leaves out."""
        average = self.ema * state.average + (1 - self.ema) * g
        if state.empty is None:
            return average, average
        return chosen(state.empty, g, average), chosen(state.empty, 0 * average, average)

    def ascend(self, grad, theta):
        g = grad(theta)
        return theta + self.towards(g - self.sigma * self.renewed(self.init(theta), g)[1])

    def look(self, part, state):
        average, usual = self.renewed(state, part.each(lambda part: part.ascent(state.theta)))

        def of(part):
            return part(state.theta + self.towards(part.ascent(state.theta) - self.sigma * usual))

        return part.each(of), {
            "average": average,
            "empty": None if state.empty is None else jnp.zeros_like(state.empty),
        }


class MSAM(_OneAscent):
    """Momentum SAM: the gradient is taken ahead along the velocity, at a given distance. One gradient a step.

        p = θ + ρ m ⊙ v/(‖m ⊙ v‖ + ε);     v⁺ = μ v − η ∇ℓ(p; ξ),   θ⁺ = θ + v⁺

    with the conventions of :class:`flatdyn.methods.base.FirstOrder`; with velocities in units of gradients (b = −v/η)
    it is p = θ − ρ m ⊙ b/(‖m ⊙ b‖ + ε), as in the paper. From rest the first step is gradient descent.

    Packages and the authors' program store p of the next step as their parameters: :meth:`stored`. There a minimum
    looks like a two-cycle of length ρ. On a quadratic of curvature λ > 0 the one of θ has the amplitude

        A = η ρ λ/(2 (1 + μ) − η λ),   the same as SAM's with a heavy ball, and A + ρ in the stored point

    With ε > 0 (in units of v) it is, near a critical point, a heavy ball with the momentum μ − η λ ρ/ε: no saddle
    attracts, and a minimum does if η λ < 2 (1 + μ − η λ ρ/ε).

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ρ ≥ 0, in units of θ
        momentum: μ in (0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of the velocity; a parameter of the model
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        scope: as for :class:`flatdyn.SAM`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`; the authors' program decays the stored
            point, which is decay="loss"
    Raises:
        ValueError: if a number is out of range, a word is unknown, there is no momentum, or ascents is given
    References:
        Becker, Altrock, Risse, arXiv 2401.12033, Algorithm 1.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter()
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if not self.inertial:
            raise ValueError(
                "momentum must be above 0, got 0: MSAM looks along the velocity, and there is none without"
            )

    def stored(self, state: State) -> Any:
        """p of the next step: where the gradient is taken from a state, and what programs hold as their parameters."""
        ahead = self.towards(state.velocity)
        return state.theta - ahead if self.units == "gradient" else state.theta + ahead

    def ascend(self, grad, theta):
        return theta

    def look(self, part, state):
        return part(self.stored(state)), {}


class LaggedState(State):
    """State of :class:`LaggedSAM`.

    Attributes:
        last: the gradient that the step before followed
    """

    last: Any = None


class LaggedSAM(_OneAscent):
    """SAM on one gradient a step: the ascent is along the one that was followed the step before.

        p = θ + ρ m ⊙ s/(‖m ⊙ s‖ + ε);   s⁺ = ∇ℓ(p; ξ),   s₀ = 0
        θ⁺ = θ − η s⁺;                    with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    The first step is gradient descent. It is what `SAM.step(closure)` of pytorch_optimizer runs if no gradient was
    computed before. (Single-step SAM, S²-SAM, is this after a first step of SAM.)

    It holds on to a direction: on a line of curvature λ the step keeps θ + ρ sign s on one side of zero while η λ < 1,
    so it ends where p is the minimum, at a distance ρ from it. With ε > 0 the multipliers z at a critical point solve
    z² − (1 − η λ + ρ λ/ε) z + ρ λ/ε = 0: no saddle attracts, and a minimum does if ρ λ < ε and η λ < 2 (1 + ρ λ/ε).

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, in units of θ
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of ∇L; a parameter of the model
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        scope: as for :class:`flatdyn.SAM`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, a word is unknown, or ascents is given
    References:
        Ji et al., "A single-step, sharpness-aware minimization is all you need ...", NeurIPS 2024 (S²-SAM).
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)

    def init(self, theta):
        state = super().init(theta)
        return LaggedState(theta, state.velocity, state.fresh, 0 * theta)

    def ascend(self, grad, theta):
        return theta

    def look(self, part, state):
        followed = part(state.theta + self.towards(state.last))
        return followed, {"last": followed}
