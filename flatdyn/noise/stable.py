"""Noise with heavy tails: a run under it leaves by one large jump, where under normal noise it diffuses."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np

from flatdyn.core import checks
from flatdyn.core.stable import stable
from flatdyn.noise.base import Noise
from flatdyn.noise.normal import check_single, check_width, times


class Stable(Noise):
    """Additive symmetric α-stable noise, the same everywhere.

        ∇ℓ(θ; ξ) = ∇L(θ) + s B^{1/α − 1} ξ,   E e^{iuξ} = e^{−|u|^α},   P(|ξ| > x) → (2/π) Γ(α) sin(πα/2) x^{−α}

    At α = 2 it is normal with variance 2s²/B. Below, the variance is infinite, for α ≤ 1 the mean of |ξ| too, and a
    mean over a batch of B is narrower by B^{1 − 1/α} only: not at all at α = 1, and wider for α < 1. What asks for
    normal numbers or a variance (exact laws, moments, diffusions) refuses this noise; whatever samples takes it.

    Args:
        alpha: α in (0, 2], the index: the smaller, the heavier the tails
        scale: s ≥ 0 in units of ∇L: one number, or one per coordinate
        batch_size: B ≥ 1
        isotropic: whether all directions are alike, E e^{iu·ξ} = e^{−‖u‖^α}: then all coordinates jump together, any
            way. If not, as in most papers, they are independent, so that a large jump goes along one axis
    Raises:
        ValueError: if a number is out of range, or `scale` does not fit the landscape
    References:
        Şimşekli, Sagun, Gürbüzbalaban, arXiv 1901.06053, for SGD with such noise;
        :func:`flatdyn.escape.jump_time` for how long it stays.
    """

    alpha: Any = eqx.field(converter=checks.plain)
    scale: Any
    batch_size: Any
    isotropic: bool = eqx.field(static=True)

    def __init__(self, alpha: Any, scale: Any = 1.0, batch_size: Any = 1, isotropic: bool = False):
        self.alpha, self.batch_size, self.isotropic = checks.plain(alpha), checks.plain(batch_size), isotropic
        self.scale = checks.numbers("scale", scale) if isinstance(scale, list | tuple) else checks.plain(scale)

    def __check_init__(self):
        checks.number("alpha", self.alpha, above=0, at_most=2)
        checks.number("scale", self.scale, at_least=0)
        checks.number("batch_size", self.batch_size, at_least=1)
        checks.flag("isotropic", self.isotropic)
        if np.ndim(self.scale) > 1:
            raise ValueError(f"scale must be one number or one per coordinate, got shape {np.shape(self.scale)}")
        if not any(map(checks.is_traced, (self.alpha, self.batch_size))):
            with np.errstate(over="ignore", divide="ignore"):
                share = np.asarray(self.batch_size, float) ** (1 / np.asarray(self.alpha, float) - 1)
            if not np.isfinite(share).all():
                raise ValueError(
                    f"alpha={checks.shown(self.alpha)} widens a mean over batch_size={checks.shown(self.batch_size)} "
                    "beyond the largest number: take a smaller batch"
                )

    def check(self, landscape):
        check_single("alpha", self.alpha)
        check_single("batch_size", self.batch_size)
        check_width("scale", self.scale, landscape)

    def draw(self, key, landscape, theta):
        return stable(key, theta, self.alpha, self.isotropic)

    def gradient(self, landscape, theta, sample):
        share = self.batch_size ** (1 / self.alpha - 1)
        return landscape.field(theta) + times(self.scale, sample, landscape) * share
