"""Gradient descent, and sharpness-aware minimization: the gradient is taken uphill of the point that is moved."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import numpy as np

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, is_coordinates, largest, length_of_each, norm, norm_of_each, sign
from flatdyn.methods import masks
from flatdyn.methods.base import FirstOrder, hyperparameter, is_zero, word
from flatdyn.methods.fields import GradientField

_MOST_ASCENTS = 1000  # they are written out in the program


class GD(FirstOrder):
    """Gradient descent.

        θ⁺ = θ − η ∇ℓ(θ; ξ);   with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    Args:
        lr: step size η > 0, in inverse curvature
        momentum: μ in [0, 1)
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`: weight_decay, dampening, ...
    Raises:
        ValueError: if a number is out of range, or a word is unknown
    References:
        Polyak 1964 (heavy ball); Sutskever et al. 2013, eqs 3-4 (Nesterov's form used by PyTorch).
    """

    lr: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    nesterov: bool = eqx.field(static=True, default=False)


SCOPES = ("masked", "all", "tensor")


class Ascending(FirstOrder):
    """Methods that take the gradient uphill of θ, at p: `ascents` times over, each from where the one before ended.

    Subclasses have the fields rho (ρ) and mask (m), and say how far one ascent goes: `climb`. Several ascents are each
    as long as one, normalised anew: together up to k ρ. That is sync_period = k + 1 of optax.contrib.sam.
    """

    ascents: int = eqx.field(static=True, kw_only=True, converter=checks.whole, default=1)

    def __check_init__(self):
        checks.number("rho", self.rho, at_least=0)
        checks.count("ascents", self.ascents, at_least=1, at_most=_MOST_ASCENTS)

    @property
    def jumps_elsewhere(self):
        return super().jumps_elsewhere or (self.may_jump and self.ascents != 1)

    @property
    def tied(self):
        return super().tied and self.mask is None and self.ascents == 1

    def masked(self, g: Any) -> Any:
        """g, or its part in the perturbed coordinates."""
        return masks.masked(self.mask, g)

    def climb(self, g: Any, theta: Any) -> Any:
        """The point to which one ascent leads from θ, where the gradient is g."""
        raise NotImplementedError

    def ascend(self, grad, theta):
        for _ in range(self.ascents):
            theta = self.climb(grad(theta), theta)
        return theta


class Normalised(Ascending):
    """Ascents of a given length, in a norm that is taken over a scope."""

    scope: str = word("masked")

    def __check_init__(self):
        checks.choice("scope", self.scope, SCOPES)

    def vanishes_apart(self, theta):
        if self.scope == "masked":
            known = not checks.any_traced(self.mask)
            return not known or any((np.asarray(leaf) == 0).any() for leaf in jax.tree.leaves(self.mask))
        coordinates = not isinstance(theta, Vector) or is_coordinates(theta.tree)
        return self.scope == "tensor" and not coordinates and len(jax.tree.leaves(theta)) > 1

    def scoped(self, g: Any) -> Any:
        """What the norm is taken of."""
        return self.masked(g) if self.scope == "masked" else g

    def perturbed(self, direction: Any) -> Any:
        """A direction found in the scope, in the coordinates that are perturbed."""
        return direction if self.scope == "masked" else self.masked(direction)

    def length(self, g: Any, eps: Any) -> Any:
        """The norm of g, or in the scope of a tensor the norm of each leaf."""
        return norm_of_each(g, eps) if self.scope == "tensor" else norm(g, eps)


class SAM(Normalised):
    """Sharpness-aware minimization, normalised.

        p = θ + ρ g / (‖g‖ + ε),   g = m ⊙ ∇ℓ(θ; ξ)
        θ⁺ = θ − η ∇ℓ(p; ξ);       with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    With ε = 0 there is no perturbation where g = 0, and the map is discontinuous there: critical points have no
    Jacobian, and SAM is drawn to saddles for every ρ > 0. With ε > 0 they have one, in which ρ/ε counts.

    Other norms than the 2-norm, whose ball p − θ stays in:

        p = θ + ρ sign(g)              the argument p=inf: jumps where any gᵢ changes its sign
        p = θ + ρ sign(gᵢ) eᵢ          p=1, with i the largest |gᵢ|, the first of several: jumps where that changes

    and other scopes of the norm:

        "masked"    of g = m ⊙ ∇ℓ, as above (the authors of SAM-ON)
        "all"       of all of ∇ℓ:  p = θ + ρ m ⊙ ∇ℓ / (‖∇ℓ‖ + ε). So do groups of pytorch_optimizer, and a radius for
                    each is a mask of numbers, ρ of the group over ρ
        "tensor"    of each leaf of the parameters by itself, then m ⊙: up to ρ √leaves long (torchzero). A point in
                    coordinates is one tensor

    Args:
        lr: step size η > 0, in inverse curvature
        rho: ascent radius ρ ≥ 0, in units of θ
        momentum: μ in [0, 1)
        eps: smoothing ε ≥ 0 of the norm, in units of ∇L; a parameter of the model, of p = 2 alone
        mask: m, which coordinates are perturbed (1 or True); None for all
        nesterov: PyTorch's Nesterov momentum instead of the heavy ball
        p: 1, 2 or infinity
        scope: "masked", "all" or "tensor"
        ascents: how often it is ascended by ρ before the gradient is taken; see :class:`Ascending`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, a word is unknown, or eps is given where no 2-norm is taken
    References:
        Foret, Kleiner, Mobahi, Neyshabur, arXiv 2010.01412, eqs 2-3, whose letter p this is.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)
    p: float = eqx.field(static=True, kw_only=True, converter=lambda p: _order(p, 1, 2, math.inf), default=2)

    def __check_init__(self):
        checks.number("eps", self.eps, at_least=0)
        _check_eps(self.eps, self.p == 2)

    @property
    def jumps(self):
        return (self.eps == 0) & (self.rho > 0)

    @property
    def may_jump(self):
        return not isinstance(self.eps, (int, float)) or self.eps == 0

    @property
    def jumps_on_surfaces(self):
        return self.p != 2

    @property
    def tied(self):
        return super().tied and is_zero(self.eps) and self.p == 2

    def climb(self, g, theta):
        g = self.scoped(g)
        if self.p == 2:
            return theta + self.perturbed(self.rho * g / self.length(g, self.eps))
        direction = sign(g) if self.p == math.inf else largest(g, each=self.scope == "tensor")
        return theta + self.rho * self.perturbed(direction)


class DNSAM(SAM):
    """SAM normalised by the full gradient, as theory often takes it for tractability.

        p = θ + ρ g / (‖m ⊙ ∇L(θ)‖ + ε),   g = m ⊙ ∇ℓ(θ; ξ)
        θ⁺ = θ − η ∇ℓ(p; ξ);               with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    Without noise it is SAM. With noise it is not: its ascent is not of length ρ, and grows without limit where ∇L
    vanishes but the noise does not.

    Args:
        lr, rho, momentum, eps, mask, nesterov, scope, conventions: as for :class:`SAM`
    Raises:
        ValueError: if a number is out of range, or p or ascents is given: it is one ascent of the 2-norm
    References:
        Compagnoni, Biggio, Orvieto, Proske, Kersting, Lucchi, arXiv 2301.08203.
    """

    def __check_init__(self):
        if self.p != 2 or self.ascents != 1:
            raise ValueError(f"DNSAM is one ascent of p = 2, got p={self.p}, ascents={self.ascents}: take fd.SAM")

    def gradient(self, grad, theta):
        if not isinstance(grad, GradientField):
            return super().gradient(grad, theta)
        reach = self.rho / self.length(self.scoped(grad.full(theta)), self.eps)
        return grad.each(lambda part: part(theta + reach * self.masked(part.ascent(theta))))


class USAM(Ascending):
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
        ascents: how often it is ascended before the gradient is taken; see :class:`Ascending`
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range
    References:
        Andriushchenko and Flammarion, arXiv 2206.06232, section 2; Kim et al., arXiv 2301.06308, Theorem 1.
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    nesterov: bool = eqx.field(static=True, default=False)

    def climb(self, g, theta):
        return theta + self.rho * self.masked(g)


def _order(p: Any, *known: float) -> float:
    if not isinstance(p, int | float | np.integer | np.floating) or isinstance(p, bool) or p not in known:
        names = [f"{order:g}" for order in known if order != math.inf]
        raise ValueError(f"p must be {', '.join(names)} or infinity (np.inf), got {checks.shown(p)}")
    return p


def _check_eps(eps: Any, taken: bool) -> None:
    """Raise ValueError for an eps where no 2-norm is taken that it would smooth."""
    if not taken and not is_zero(eps):
        raise ValueError(
            f"eps smooths the norm of p = 2, and here none is taken: leave it out, got {checks.shown(eps)}"
        )


class ASAM(Normalised):
    """Adaptive SAM: the ascent is measured in units of the parameters, so that rescaling them changes less.

        p = θ + ρ T² g / (‖T g‖ + ε)       the argument p=2, for the 2-norm
        p = θ + ρ T sign(g)                p=inf, for the maximum norm
        p = θ + ρ T² g                     normalized=False
        θ⁺ = θ − η ∇ℓ(p; ξ);               with momentum as in :class:`flatdyn.methods.base.FirstOrder`

    with g = m ⊙ ∇ℓ(θ; ξ) and T = |θ| + shift, element by element (and T = 1 outside the mask `scaled`). With p=inf the
    ascent jumps wherever a coordinate of g changes its sign, not only at critical points. With `layerwise` one T serves
    for all of a leaf, T = ‖leaf‖ (1 + shift), as in the authors' program of SAM-ON; a point in coordinates is one leaf.
    Several `ascents` take T anew, at the point from which they go on.

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
        layerwise: whether T is the length of a whole leaf
        scope, ascents: as for :class:`SAM`; the norm is of T g
        conventions: by name, those of :class:`flatdyn.methods.base.FirstOrder`
    Raises:
        ValueError: if a number is out of range, p is neither 2 nor infinity, p = ∞ is to be unnormalised, eps is
            given where no norm is taken, or scope where none is
    References:
        Kwon, Kim, Park, Choi, arXiv 2102.11600, whose letters T and p these are (T is element-wise there,
        too; the shift is their code's η). Müller, Vlaar, Rolnick, Hein, arXiv 2306.04226 (layer-wise).
    """

    lr: Any = hyperparameter()
    rho: Any = hyperparameter()
    momentum: Any = hyperparameter(default=0.0)
    eps: Any = hyperparameter(default=0.0)
    shift: Any = hyperparameter(default=0.01)
    p: float = eqx.field(static=True, converter=lambda p: _order(p, 2, math.inf), default=2)
    scaled: Any = eqx.field(converter=lambda mask: masks.settled(mask, "scaled"), default=None)
    mask: Any = eqx.field(converter=masks.settled, default=None)
    normalized: bool = eqx.field(static=True, default=True)
    nesterov: bool = eqx.field(static=True, default=False)
    layerwise: bool = eqx.field(static=True, kw_only=True, default=False)

    def __check_init__(self):
        checks.number("eps", self.eps, at_least=0)
        checks.number("shift", self.shift, at_least=0)
        checks.flag("normalized", self.normalized)
        if self.jumps_on_surfaces and not self.normalized:
            raise ValueError("normalized=False is the ascent without a norm: leave out p=inf, which is that of a norm")
        _check_eps(self.eps, self.normalized and self.p == 2)
        if self.scope != "masked" and not self.normalized:
            raise ValueError(f"scope={self.scope!r} is of a norm, and normalized=False takes none: leave it out")

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

    def climb(self, g, theta):
        g = self.scoped(g)
        size = length_of_each(theta) * (1 + self.shift) if self.layerwise else abs(theta) + self.shift

        def times(vector):
            return masks.pick(self.scaled, size * vector, vector)

        if self.p == math.inf:
            return theta + self.rho * self.perturbed(times(sign(g)))
        reach = times(g)
        if not self.normalized:
            return theta + self.rho * times(reach)
        return theta + self.perturbed(self.rho * times(reach) / self.length(reach, self.eps))
