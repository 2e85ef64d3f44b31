"""Gradient descent, and sharpness-aware minimization: the gradient is taken uphill of the point that is moved."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import numpy as np

from flatdyn.core import checks
from flatdyn.core.algebra import norm, sign
from flatdyn.methods import masks
from flatdyn.methods.base import FirstOrder, GradientField, hyperparameter


class GD(FirstOrder):
    """Gradient descent.

        θ⁺ = θ − η ∇ℓ(θ; ξ);   with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    Args:
        lr: step size η > 0, in inverse curvature
        momentum: μ in [0, 1)
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
    Raises:
        ValueError: if lr or momentum is out of range
    References:
        Polyak 1964 (heavy ball); Sutskever et al. 2013, eqs 3-4 (Nesterov's form used by PyTorch).
    """

    lr: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    nesterov: bool = eqx.field(static=True, default=False)


class _Ascending(FirstOrder):
    def __check_init__(self):
        checks.number("rho", self.rho, at_least=0)

    def masked(self, g: Any) -> Any:
        """g, or its part in the perturbed coordinates."""
        return masks.masked(self.mask, g)


class SAM(_Ascending):
    """Sharpness-aware minimization, normalised.

        p = θ + ρ g / (‖g‖ + ε),   g = m ⊙ ∇ℓ(θ; ξ)
        θ⁺ = θ − η ∇ℓ(p; ξ);       with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    With ε = 0 there is no perturbation where g = 0, and the map is discontinuous there: critical points have no
    Jacobian, and SAM is drawn to saddles for every ρ > 0. With ε > 0 they have one, in which ρ/ε counts.

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, in units of θ
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of ∇L; a parameter of the model
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
    Raises:
        ValueError: if lr, rho, momentum or eps is out of range
    References:
        Foret, Kleiner, Mobahi, Neyshabur, arXiv 2010.01412, eqs 2-3 (p = 2).
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        checks.number("eps", self.eps, at_least=0)

    @property
    def jumps(self):
        return (self.eps == 0) & (self.rho > 0)

    @property
    def may_jump(self):
        return not isinstance(self.eps, (int, float)) or self.eps == 0

    def ascend(self, grad, theta):
        g = self.masked(grad(theta))
        return theta + self.rho * g / norm(g, self.eps)


class DNSAM(SAM):
    """SAM normalised by the full gradient, as theory often takes it for tractability.

        p = θ + ρ g / (‖m ⊙ ∇L(θ)‖ + ε),   g = m ⊙ ∇ℓ(θ; ξ)
        θ⁺ = θ − η ∇ℓ(p; ξ);               with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    Without noise it is SAM. With noise it is not: its ascent is not of length ρ, and grows without limit where ∇L
    vanishes but the noise does not.

    Args:
        lr, rho, momentum, eps, mask, nesterov: as for :class:`SAM`
    Raises:
        ValueError: if lr, rho, momentum or eps is out of range
    References:
        Compagnoni, Biggio, Orvieto, Proske, Kersting, Lucchi, arXiv 2301.08203.
    """

    def gradient(self, grad, theta):
        if not isinstance(grad, GradientField):
            return super().gradient(grad, theta)
        reach = self.rho / norm(self.masked(grad.full(theta)), self.eps)
        return grad.each(lambda part: part(theta + reach * self.masked(part.ascent(theta))))


class USAM(_Ascending):
    """Unnormalised SAM.

        p = θ + ρ g,             g = m ⊙ ∇ℓ(θ; ξ)
        θ⁺ = θ − η ∇ℓ(p; ξ);     with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    A smooth map: a critical point with Hessian eigenvalues λᵢ has the multipliers 1 − η λᵢ (1 + ρ λᵢ), so a
    saddle attracts once ρ |λ| > 1 for each negative λ (and η is small enough).

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent step ρ ≥ 0, in units of θ per gradient (an inverse curvature)
        momentum: μ in [0, 1)
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
    Raises:
        ValueError: if lr, rho or momentum is out of range
    References:
        Andriushchenko and Flammarion, arXiv 2206.06232, section 2; Kim et al., arXiv 2301.06308, Theorem 1.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)

    def ascend(self, grad, theta):
        return theta + self.rho * self.masked(grad(theta))


def _order(p: Any) -> float:
    if not isinstance(p, int | float | np.integer | np.floating) or p not in (2, math.inf):
        raise ValueError(f"p must be 2 or infinity (np.inf), got {checks.shown(p)}")
    return p


class ASAM(_Ascending):
    """Adaptive SAM: the ascent is measured in units of the parameters, so that rescaling them changes less.

        p = θ + ρ T² g / (‖T g‖ + ε)       the argument p=2, for the 2-norm
        p = θ + ρ T sign(g)                p=inf, for the maximum norm
        p = θ + ρ T² g                     normalized=False
        θ⁺ = θ − η ∇ℓ(p; ξ);               with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    with g = m ⊙ ∇ℓ(θ; ξ) and T = |θ| + shift, element by element (and T = 1 outside the mask `scaled`). With p=inf the
    ascent jumps wherever a coordinate of g changes its sign, not only at critical points.

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, a share of θ; unnormalised an inverse curvature over θ²
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of the loss; a parameter of the model, of p = 2 alone
        shift: ≥ 0, in units of θ: keeps coordinates in play that are zero
        p: 2 or infinity, the norm whose ball the ascent stays in
        scaled: which coordinates are measured by their size; None for all. Networks often leave their biases out
        mask: m, which coordinates are perturbed (1 or True); None for all
        normalized: whether the ascent has length ρ in the norm of T⁻¹(p − θ)
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
    Raises:
        ValueError: if a number is out of range, p is neither 2 nor infinity, p = ∞ is to be unnormalised, or eps is
            given where no norm is taken
    References:
        Kwon, Kim, Park, Choi, arXiv 2102.11600, whose letters T and p these are (T is element-wise there,
        too; the shift is their code's η).
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    shift: Any = hyperparameter(default=0.01)
    p: float = eqx.field(static=True, converter=_order, default=2)
    scaled: Any = eqx.field(converter=lambda mask: masks.settled(mask, "scaled"), default=None)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    normalized: bool = eqx.field(static=True, default=True)
    nesterov: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        checks.number("eps", self.eps, at_least=0)
        checks.number("shift", self.shift, at_least=0)
        checks.flag("normalized", self.normalized)
        if self.jumps_on_surfaces and not self.normalized:
            raise ValueError("normalized=False is the ascent without a norm: leave out p=inf, which is that of a norm")
        smooths = not isinstance(self.eps, (int, float)) or self.eps > 0
        if smooths and not self._takes_norm:
            raise ValueError(f"eps smooths the norm of p = 2, and here none is taken: leave it out, got {self.eps}")

    @property
    def _takes_norm(self) -> bool:
        return self.normalized and self.p == 2

    @property
    def jumps_on_surfaces(self):
        return self.p == math.inf

    @property
    def jumps(self):
        return self.normalized & (self.eps == 0) & (self.rho > 0)

    @property
    def may_jump(self):
        return self.normalized and (not isinstance(self.eps, (int, float)) or self.eps == 0)

    def check(self, theta):
        super().check(theta)
        masks.check(self.scaled, theta, "scaled")

    def ascend(self, grad, theta):
        g = self.masked(grad(theta))
        size = abs(theta) + self.shift

        def times(vector):
            return masks.pick(self.scaled, size * vector, vector)

        if self.p == math.inf:
            return theta + self.rho * times(sign(g))
        reach = times(g)
        return theta + self.rho * times(reach) / (norm(reach, self.eps) if self.normalized else 1)
