"""Sharpness-aware minimization: the gradient is taken uphill of the point that is moved."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from flatdyn import checks, masks
from flatdyn.algebra import norm
from flatdyn.methods.base import FirstOrder, Sample, hyperparameter


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
        if not isinstance(grad, Sample):
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
