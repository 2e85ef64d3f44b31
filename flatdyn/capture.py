"""What normalised SAM is drawn to at a quadratic saddle, whatever the radius ρ > 0.

    L = (a/2) w₁² − (b/2) w₂²,   flow θ' = −∇L(θ + ρ ∇L/‖∇L‖)

Near a saddle SAM has no linearisation; it has a capture set instead, a neighbourhood of size ρ with a strip along
the whole stable axis. Its boundary is the stable manifold of the flow's two fixed points (0, ±ρ), where the
perturbed point is the saddle itself. It does not depend on the scale of L, only on a/b.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.integrate
import scipy.special

from flatdyn import checks

KAPPA_ZERO = float(scipy.special.gamma(0.25) ** 2 / (4 * np.sqrt(np.pi)))


def kappa(tau: Any) -> np.ndarray:
    """The function that bounds the capture set of the symmetric saddle (a = b).

        κ(τ) = ½ ∫_τ^∞ ds / √(s (1 + s²)) = ∫_0^{τ^(−1/2)} du / √(1 + u⁴),   κ(0) = Γ(¼)²/(4√π)

    Args:
        tau: |w₂/w₁| ≥ 0, any shape; infinity is allowed
    """
    with np.errstate(divide="ignore"):
        upper = 1 / np.sqrt(np.asarray(tau, dtype=float))

    def integral(x):  # for x ≤ 1
        return x * scipy.special.hyp2f1(0.25, 0.5, 1.25, -(x**4))

    with np.errstate(divide="ignore"):
        beyond = KAPPA_ZERO - integral(np.minimum(1 / upper, 1.0))  # u → 1/u maps the tail to the same integral
    return np.where(upper <= 1, integral(np.minimum(upper, 1.0)), beyond)


def captured(theta: Any, rho: float) -> np.ndarray:
    """Whether SAM's flow on the symmetric saddle L = (a/2)(w₁² − w₂²) ends at the saddle, exactly.

        captured  ⟺  |w₁ w₂| < ρ² κ(|w₂/w₁|)²

    Args:
        theta: starting points (w₁, w₂), shape (..., 2), w₂ the unstable coordinate
        rho: ascent radius ρ > 0, in units of θ
    Returns:
        boolean array, shape (...)
    """
    rho = checks.number("rho", rho, above=0)
    stable, unstable = np.abs(np.moveaxis(np.asarray(theta, dtype=float), -1, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        tau = np.where(unstable == 0, 0.0, unstable / stable)
    # On the unstable axis both sides vanish; the limit of the condition is |w₂| < ρ.
    return np.where(stable == 0, unstable < rho, stable * unstable < rho**2 * kappa(tau) ** 2)


def boundary(stable: Any, rho: float, curvatures: tuple[float, float] = (1.0, -1.0)) -> np.ndarray:
    """Boundary of the capture set of L = (a/2) w₁² − (b/2) w₂²: the |w₂| below which |w₁| is captured.

    The stable manifold of (0, ρ), followed outwards with s = ln w₁ and r = ‖∇L‖:

        dw₂/ds = −(b/a) w₂ (r − ρ b) / (r + ρ a)

    Args:
        stable: |w₁| ≥ 0 along the stable axis, any shape
        rho: ascent radius ρ > 0, in units of θ
        curvatures: (a, −b) with a > 0 > −b
    Returns:
        |w₂| on the boundary, shape of `stable`, relative error about 1e-10
    Raises:
        ValueError: if ρ ≤ 0, or the curvatures are not one positive and one negative
    """
    rho = checks.number("rho", rho, above=0)
    a = checks.number("curvatures[0]", curvatures[0], above=0)
    b = -checks.number("curvatures[1]", curvatures[1], below=0)
    reach = np.abs(np.asarray(stable, dtype=float)) / rho  # in units of ρ the boundary is the same for every ρ
    start = 1e-7  # the manifold leaves w₂ = 1 quadratically: 1e-14 off here

    def slope(s, w2):
        r = np.hypot(a * np.exp(s), b * w2)
        return -(b / a) * w2 * (r - b) / (r + a)

    result = np.ones(reach.shape)
    outside = reach > start
    if outside.any():
        places, back = np.unique(np.log(reach[outside]), return_inverse=True)
        span = (np.log(start), places[-1])
        path = scipy.integrate.solve_ivp(slope, span, [1.0], "DOP853", places, rtol=1e-12, atol=1e-14)
        result[outside] = path.y[0][back]
    return rho * result
