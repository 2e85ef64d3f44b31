"""Gradient descent: plain, heavy ball, Nesterov."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from flatdyn.methods.base import FirstOrder, hyperparameter


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
