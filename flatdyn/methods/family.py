"""Methods that look uphill once, as SAM does, and make what they follow of the gradients here and there."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from flatdyn.core import checks
from flatdyn.core.algebra import norm
from flatdyn.methods import masks
from flatdyn.methods.base import hyperparameter, is_zero
from flatdyn.methods.fields import GradientField
from flatdyn.methods.first_order import Normalised


def sampled(grad: Any) -> GradientField:
    """A gradient field as one that knows how an ascent sees it, which a plain function does not."""
    return grad if isinstance(grad, GradientField) else GradientField(grad, grad)


class Uphill(Normalised):
    """An ascent as SAM's: p = θ + ρ g/(‖g‖ + ε), where the norm is the 2-norm."""

    def __check_init__(self):
        checks.number("eps", self.eps, at_least=0)

    @property
    def jumps(self):
        return (self.eps == 0) & (self.rho > 0)

    @property
    def may_jump(self):
        return not isinstance(self.eps, (int, float)) or self.eps == 0

    def towards(self, g: Any) -> Any:
        """ρ g/(‖g‖ + ε), in the coordinates that are perturbed; 0 where g = 0."""
        g = self.scoped(g)
        return self.perturbed(self.rho * g / self.length(g, self.eps))

    def climb(self, g, theta):
        return theta + self.towards(g)

    def seen(self, part: GradientField, theta: Any) -> tuple[Any, Any]:
        """The gradient of a sample at θ, and at the perturbed point: ∇ℓ(θ; ξ) and ∇ℓ(p; ξ)."""
        return part(theta), part(self.ascend(part.ascent, theta))


class WSAM(Uphill):
    """Weighted SAM: the sharpness ∇ℓ(p) − ∇ℓ(θ) as a term of its own weight.

        p = θ + ρ g / (‖g‖ + ε),   g = m ⊙ ∇ℓ(θ; ξ),   w = γ / (1 − γ)
        θ⁺ = θ − η (∇ℓ(θ; ξ) + w (∇ℓ(p; ξ) − ∇ℓ(θ; ξ)))

    γ = 0 is gradient descent, 1/2 is SAM, 9/10 weighs the sharpness nine times. With momentum the velocity gathers
    ∇ℓ(θ; ξ) alone and the sharpness of this step is added to the move, as the authors have it; with decouple=False it
    gathers both.

    On a quadratic it is SAM with the radius w ρ: the same two-cycles, and the multipliers 1 − η λ (1 + w ρ λ/ε) at a
    critical point, so that a saddle attracts once w ρ |λ| > ε for each negative λ (and η is small enough).

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, in units of θ
        gamma: γ in [0, 1)
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of ∇L; a parameter of the model
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        decouple: whether the momentum leaves out the sharpness
        scope, ascents: as for :class:`flatdyn.SAM`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, or a word is unknown
    References:
        Yue, Jiang, Ye, Gao, Liu, Zhang, arXiv 2305.15817, section 4. `max_norm` of pytorch_optimizer, which clips
        ∇ℓ(p) and not ∇ℓ(θ), and so climbs where gradients are large, is not offered.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    gamma: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)
    decouple: bool = eqx.field(static=True, kw_only=True, default=True)

    def __check_init__(self):
        checks.number("gamma", self.gamma, at_least=0, below=1)

    @property
    def remembers(self):
        return self.decouple and self.inertial

    @property
    def weight(self) -> Any:
        """w = γ/(1 − γ), how much the sharpness counts."""
        return self.gamma / (1 - self.gamma)

    def gradient(self, grad, theta):
        def of(part):
            here, there = self.seen(part, theta)
            return here + self.weight * (there - here)

        return sampled(grad).each(of)

    def step(self, grad, state):
        if not self.remembers:
            return super().step(grad, state)

        def of(part):
            here, there = self.seen(part, state.theta)
            return here, there - here

        here, sharpness = sampled(self.field(grad)).each(of)
        moved = self.moved(state, self.coupled(here, state.theta))
        return eqx.tree_at(lambda s: s.theta, moved, moved.theta - self.lr * self.weight * sharpness)


class GSAM(Uphill):
    """Surrogate-gap guided SAM: SAM's step, and up the part of the gradient that SAM's step is blind to.

        p = θ + ρ g / (‖g‖ + ε),   g = m ⊙ ∇ℓ(θ; ξ)
        θ⁺ = θ − η (∇ℓ(p) − α ∇ℓ(θ)⊥),   ∇ℓ(θ)⊥ = ∇ℓ(θ) − (∇ℓ(θ) · u) u,   u = ∇ℓ(p) / (‖∇ℓ(p)‖ + ε)

    with momentum as in :class:`flatdyn.methods.base.FirstOrder`. α = 0 is SAM, and so is every α along an eigenvector
    of a quadratic with ε = 0, where both gradients point the same way. Where ∇ℓ(p) = 0 but ∇ℓ(θ) is not, SAM stops and
    GSAM climbs. With ε > 0 the multipliers at a critical point are 1 − η λ (1 − α + ρ λ/ε): a saddle attracts once
    ρ |λ| > (1 − α) ε for each negative λ (and η is small enough).

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, in units of θ; the authors let it fall with η: `Scheduled(..., rho=...)`
        alpha: α ≥ 0
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of both norms, in units of ∇L; a parameter of the model
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        scope, ascents: as for :class:`flatdyn.SAM`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, or a word is unknown
    References:
        Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan, Liu, arXiv 2203.08065, Algorithm 1.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    alpha: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        checks.number("alpha", self.alpha, at_least=0)

    @property
    def jumps_elsewhere(self):
        return self.may_jump  # where ∇ℓ(p) vanishes

    def gradient(self, grad, theta):
        def of(part):
            here, there = self.seen(part, theta)
            return there - self.alpha * across(here, there, self.eps)

        return sampled(grad).each(of)


def across(vector: Any, along: Any, eps: Any) -> Any:
    """The part of a vector at right angles to another one: v − (v · u) u, u = a/(‖a‖ + ε); all of it where a = 0."""
    unit = along / norm(along, eps)
    return vector - (vector @ unit) * unit


class UnifiedSAM(Uphill):
    """Between SAM and unnormalised SAM.

        p = θ + ρ (1 − λ + λ/(‖g‖ + ε)) g,   g = m ⊙ ∇ℓ(θ; ξ),   λ = blend
        θ⁺ = θ − η ∇ℓ(p; ξ);                 with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    λ = 0 is USAM, with ρ an inverse curvature, and 1 is SAM, with ρ in units of θ: between them ρ is a number for units
    that were chosen. Along an eigenvector of a quadratic, of curvature a > 0, the two-cycle has the amplitude

        A = η ρ λ a / (2 − η a (1 + ρ (1 − λ) a))

    and with ε > 0 the multiplier at a critical point is 1 − η a (1 + ρ (1 − λ + λ/ε) a).

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ρ ≥ 0
        blend: λ in [0, 1]; the schedules "1/t" and "1-1/t" of the authors' package are
            `Scheduled(UnifiedSAM(lr, rho, 1.0), blend=lambda k: 1 / (k + 1))`, and 1 minus that
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of ∇L; a parameter of the model
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        scope, ascents: as for :class:`flatdyn.SAM`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, or a word is unknown
    References:
        Oikonomou and Loizou, arXiv 2503.02225, the update rule "Unified SAM".
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    blend: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        checks.number("blend", self.blend, at_least=0, at_most=1)

    @property
    def jumps(self):
        return (self.eps == 0) & (self.rho > 0) & (self.blend > 0)

    @property
    def may_jump(self):
        return not is_zero(self.blend) and (not isinstance(self.eps, (int, float)) or self.eps == 0)

    def towards(self, g):
        g = self.scoped(g)
        return self.perturbed(self.rho * (1 - self.blend + self.blend / self.length(g, self.eps)) * g)
