"""A normalised ascent at a given gradient norm, as the smoothed one that has the same step along an eigenvector.

Where ‖∇L‖ = n, an ascent ρ g/(‖g‖ + ε) is that of ε + n at the critical point itself, where it has a derivative. At the
edge a step reflects the gradient, g⁺ = −g; so where something else than g is normalised, its length is known, too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx

from flatdyn.core import checks
from flatdyn.methods import ASAM, GSAM, MSAM, SAM, FriendlySAM, LaggedSAM
from flatdyn.methods.base import FirstOrder, Method, Wrapper, is_zero
from flatdyn.methods.first_order import Normalised


def sharp(method: Method) -> bool:
    """Whether an ascent of the method, or of the one inside it, is normalised without an ε, and needs a norm."""
    if isinstance(method, Wrapper):
        return sharp(method.method)
    if not isinstance(method, FirstOrder):
        follows = getattr(method, "follows", None)
        return follows is not None and sharp(follows)
    eps = getattr(method, "eps", None)
    return bool(method.may_jump) and isinstance(eps, int | float) and eps == 0


def at_norm(method: Method, norm: Any) -> tuple[Method, float]:
    """The method with what a gradient of a given norm adds to its ε, and what else is added to it, over the curvature.

    Args:
        method: any; one that is not normalised comes back as it is
        norm: n > 0, a number or a symbol
    Raises:
        ValueError: if the ascent is not one by the 2-norm of the whole gradient
        TypeError: if it depends on the parameters (ASAM)
    """
    if isinstance(method, Wrapper):
        inner, slope = at_norm(method.method, norm)
        return eqx.tree_at(lambda wrapper: wrapper.method, method, inner), slope
    follows = getattr(method, "follows", None)
    if follows is not None:
        inner, slope = at_norm(follows, norm)
        return eqx.tree_at(lambda one: one.follows, method, inner), slope
    if isinstance(method, ASAM):
        raise TypeError(
            "ASAM's ascent depends on the parameters, too, and not on a gradient's norm alone: its edge is known with "
            "eps > 0, at a point of a landscape; leave gradient_norm out"
        )
    if not isinstance(method, Normalised):
        return method, 0.0
    if method.mask is not None or getattr(method, "p", 2) != 2 or method.ascents != 1 or method.scope == "tensor":
        raise ValueError(f"the edge is known for one ascent by the 2-norm of the whole gradient, got {method!r}")
    if isinstance(method, GSAM):
        return _without_aside(method, norm), 0.0
    own, slope = norm, 0.0
    if isinstance(method, FriendlySAM):
        # At the edge the average of gradients that change sign at every step is (1 − κ)/(1 + κ) times the last.
        left = abs(1 - method.sigma * (1 - method.ema) / (1 + method.ema))
        own = left * norm if left else norm  # where nothing is left to ascend along, no norm counts
    elif isinstance(method, MSAM | LaggedSAM):
        own, slope = 0.0, float(norm) * _remembered(method)
    return dataclasses.replace(method, eps=method.eps + own), slope


def _without_aside(method: GSAM, norm: Any) -> SAM:
    """GSAM along an eigenvector, where both its gradients point the same way: nothing is left at right angles."""
    if not is_zero(method.eps):
        raise ValueError(
            f"the edge of GSAM at a gradient norm is known for eps=0, got {checks.shown(method.eps)}: leave out "
            "gradient_norm, and it is that at the critical point"
        )
    names = [field.name for field in dataclasses.fields(SAM) if field.init and hasattr(method, field.name)]
    return SAM(**{name: getattr(method, name) for name in names} | {"eps": norm})


def _remembered(method: MSAM | LaggedSAM) -> float:
    """Length of what is looked along, over the distance ‖θ‖ = n/λ, where a step takes θ to −θ.

    With the followed gradient f a heavy ball moves by v = −η (1 − τ) f/(1 + μ), and Nesterov's momentum by μ v − η f.
    """
    if "weight_decay" not in method.absent:
        raise ValueError(
            f"the edge of {type(method).__name__} at a gradient norm is known without weight decay, got "
            f"weight_decay={checks.shown(method.weight_decay)}: leave it out"
        )
    lr, mu, kept = (float(x) for x in (method.lr, method.momentum, 1 - method.dampening))
    velocity = kept / (1 + mu)  # of a followed gradient, per η
    followed = 2 / (mu * velocity + 1 if method.nesterov else velocity)  # of θ, per 1/η
    if isinstance(method, LaggedSAM):
        return followed / lr
    return velocity * followed / (lr if method.units == "gradient" else 1)
