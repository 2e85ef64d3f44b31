"""Published mean squared displacements of SAM near a saddle, and how far they hold.

Papers take |λ| for the variance of one example's gradient. What M and c then are depends on which SAM is meant:

    variant                                M            c               (Var SGD − Var) B/η, leading terms, l = |λ| = −λ
    A as published                         λ (1 + ρλ)²  l               t² (2ρl³ − ρ²l⁴)
    B USAM, noiseless ascent ("full")      λ (1 + ρλ)   l               t² ρl³
    C USAM, shared minibatch ("shared")    λ (1 + ρλ)   l (1 + ρλ)²     t (2ρl² − ρ²l³)
    D USAM, two minibatches (independent)  λ (1 + ρλ)   l (1 + ρ²λ²)    −t ρ²l³

A is gradient descent on L(w + ρ∇L(w)): it holds one factor 1 + ρλ more than any USAM computes, nobody runs it, and
its drift never changes sign, so it knows no attracting saddle. C is the usual implementation. B, C, D are derived from
the method's own step (:func:`flatdyn.escape.msd_theory`), and tests hold the table to it.

References:
    H. Kim, J. Park, Y. Choi, J. Lee, arXiv 2301.06308, Theorems 2 and 3, as quoted by a reader of the paper; Z. Xie et
    al., arXiv 2006.15815. What is not called published is derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.escape.displacement import driven, heavy_ball_msd, ou_msd, overdamped_msd, step_count


class Variant(NamedTuple):
    """M and c as functions of (λ, ρ), numbers or symbols; `ascent` of the iteration that is meant, None if none."""

    drift: Callable
    noise: Callable
    ascent: str | None


VARIANTS = {
    "A": Variant(lambda lam, rho: lam * (1 + rho * lam) ** 2, lambda lam, rho: abs(lam), None),
    "B": Variant(lambda lam, rho: lam * (1 + rho * lam), lambda lam, rho: abs(lam), "full"),
    "C": Variant(lambda lam, rho: lam * (1 + rho * lam), lambda lam, rho: abs(lam) * (1 + rho * lam) ** 2, "shared"),
    "D": Variant(
        lambda lam, rho: lam * (1 + rho * lam), lambda lam, rho: abs(lam) * (1 + rho**2 * lam**2), "independent"
    ),
}


def variant_msd(
    variant: str, curvature: float, rho: float, lr: float, steps: int, batch_size: float = 1, continuous: bool = False
) -> np.ndarray:
    """Variance after each step of one row of this module's table, from the critical point; ρ = 0 gives SGD.

    Args:
        variant: "A", "B", "C" or "D"
        curvature, rho: λ, ρ ≥ 0 in units of θ per gradient
        lr, steps, batch_size: as for :func:`heavy_ball_msd`
        continuous: the Ornstein–Uhlenbeck form instead of the exact step
    Returns:
        array (steps + 1,)
    """
    checks.flag("continuous", continuous)
    curvature, rho, lr, batch_size = checks.floats(curvature=curvature, rho=rho, lr=lr, batch_size=batch_size)
    row, rho = VARIANTS[checks.choice("variant", variant, VARIANTS)], checks.number("rho", rho, at_least=0)
    with np.errstate(over="ignore", invalid="ignore"):
        drift, variance = (float(f(np.float64(curvature), np.float64(rho))) for f in (row.drift, row.noise))
    checks.floats(**{"drift of curvature and rho": drift, "noise of curvature and rho": variance})
    if continuous:
        times = lr * np.arange(step_count(steps) + 1)
        return ou_msd(lr, drift, times, noise=variance, batch_size=batch_size)
    return heavy_ball_msd(lr, drift, steps, noise=variance, batch_size=batch_size)


_ORDERS = 30  # of a series in symbols, a second of work


def short_time_series(variant: str, order: int = 3) -> dict[int, sympy.Expr]:
    """By how much a variant's variance falls behind that of SGD at short times, in symbols.

        Var SGD − Var = (η/B) Σ_j a_j t^j,   on a negative direction λ = −l

    Args:
        variant: "A", "B", "C" or "D"
        order: highest power of t
    Returns:
        j -> a_j, factored, in the positive symbols l and rho
    """
    l, rho = sympy.symbols("l rho", positive=True)
    t, drift = sympy.symbols("t M", positive=True)
    order = checks.count("order", order, at_least=1, at_most=_ORDERS)
    growth = sympy.series((1 - sympy.exp(-2 * drift * t)) / (2 * drift), t, 0, order + 1).removeO()

    def variance(m, c):
        return (c * growth).subs(drift, m)

    row = VARIANTS[checks.choice("variant", variant, VARIANTS)]
    gap = sympy.expand(variance(-l, l) - variance(row.drift(-l, rho), row.noise(-l, rho)))
    return {power: sympy.factor(gap.coeff(t, power)) for power in range(1, order + 1)}


def published_gap(lr: float, curvature: float, rho: float, times: Any, batch_size: float = 1) -> np.ndarray:
    """The published short-time gap Var SGD − Var SAM = 2 η t² |λ|³ ρ/B.

    It is the leading term of variant A for ρ|λ| ≪ 1. For USAM with noiseless ascent (B) the factor is 1, not 2; for
    a shared minibatch (C) the gap is of first order in t, and for independent ones (D) it has the other sign.

    References:
        Kim et al., arXiv 2301.06308, Theorem 2 and Corollary 1.
    """
    lr, curvature, rho, batch_size = checks.floats(lr=lr, curvature=curvature, rho=rho, batch_size=batch_size)
    checks.number("lr", lr, above=0)
    checks.number("rho", rho, at_least=0)
    checks.number("batch_size", batch_size, at_least=1)
    times = checks.number("times", checks.numbers("times", times), at_least=0)
    # Powers of two keep the products in the range of numbers, and change no digit
    (x, lr_power), (t, time_power), (y, power), (z, rho_power) = map(np.frexp, (lr, times, abs(curvature), rho))
    with np.errstate(over="ignore", under="ignore"):  # beyond the largest number: infinite
        return np.ldexp(2 * x * t**2 * y**3 * z / batch_size, lr_power + 2 * time_power + 3 * power + rho_power)


class MomentumFormula(NamedTuple):
    """The two terms of the published mean squared displacement with momentum."""

    velocity: np.ndarray
    diffusion: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.velocity + self.diffusion


def published_momentum_msd(
    lr: float, curvature: float, steps: Any, momentum: float, *, noise: float | None = None, batch_size: float = 1
) -> MomentumFormula:
    """The published mean squared displacement of the heavy ball; no oracle: use :func:`msd_theory`.

        D/(γ³m²) (1 − e^{−γt})² + D/(γ m λ) (1 − e^{−2λt/(γm)}),   m = η,  γ = (1 − μ)/η,  D = ηc/(2B),  t = k η

    The first term is the displacement of a stationary initial velocity, which no run has that starts at rest; the
    second is the overdamped limit. At η = 1e-4, μ = 0.9 the sum is 100 times too large after one step and 12 % after
    200; at μ = 0.99 it is never within a factor of 18 in 200 steps.

    Args:
        curvature: λ, or the drift M of a variant
        noise: c; |λ| if not given
        lr, steps, momentum, batch_size: as for :func:`heavy_ball_msd`; `steps` of any shape
    Returns:
        MomentumFormula(velocity, diffusion), with `total`
    References:
        Xie et al., arXiv 2006.15815; Kim et al., arXiv 2301.06308, Theorem 3 (its constant η/t should read t/η).
    """
    if noise is not None:
        (noise,) = checks.floats(noise=noise)
    lr, curvature, momentum, batch_size = checks.floats(
        lr=lr, curvature=curvature, momentum=momentum, batch_size=batch_size
    )
    checks.number("lr", lr, above=0)
    steps = checks.number("steps", checks.numbers("steps", steps), at_least=0)
    noise = abs(curvature) if noise is None else noise
    unit = np.frexp(lr)[0]  # of time, which is that of γ and t alone: a power of two changes no digit
    friction = (1 - checks.number("momentum", momentum, at_least=0, below=1)) / unit
    times = unit * np.asarray(steps, dtype=float)
    velocity = driven(2, lr, noise, batch_size, np.expm1(-friction * times) ** 2 / 2, (1 - momentum) ** 3)
    diffusion = overdamped_msd(lr, curvature, steps, momentum, noise=noise, batch_size=batch_size)
    return MomentumFormula(velocity, diffusion)
