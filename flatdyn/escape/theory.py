"""Closed forms for escape times: the unstable and the stable line, barriers, jumps, and bounds for the discrete walk.

Of a diffusion dX = −U'(X) dt + √(2D) dW. SGD with a gradient noise of standard deviation s has D = η s²/2 in the time
t = steps × η, so divide these times by η for steps. Times of jumps are in steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import scipy

from flatdyn.core import checks
from flatdyn.landscapes import Landscape

_OVERFLOWS = 2000.0  # exponent from which e^{z²}/λ exceeds the largest number whatever λ is
_LIMIT = 1e17  # −λ L²/(2D) from which the limit, in error by its inverse, is exact in double precision


class MeanTime(NamedTuple):
    """A mean escape time, exact, and its limit for small noise."""

    exact: float
    asymptotic: float


def ornstein_uhlenbeck(curvature: float, diffusion: float, radius: float) -> MeanTime:
    """Mean time at which dX = −λ X dt + √(2D) dW leaves (−L, L), from 0.

        E T = (L²/2D) ₂F₂(1, 1; 3/2, 2; λ L²/(2D))

    and for small noise, with z² = |λ| L²/(2D) → ∞,

        λ < 0    E T → (ln 4z² + γ)/(2|λ|)           (γ = 0.5772…)
        λ > 0    E T → √π e^{z²}/(2 λ z)
        λ = 0    E T = L²/(2D)

    Args:
        curvature: λ; negative on the unstable direction of a saddle
        diffusion: D > 0; η s²/2 for SGD
        radius: L > 0
    Returns:
        MeanTime(exact, asymptotic), in units of time (steps × η); infinite where it exceeds the largest number
    """
    curvature, diffusion, radius = checks.floats(curvature=curvature, diffusion=diffusion, radius=radius)
    curvature = float(checks.number("curvature", curvature))
    diffusion, radius = checks.number("diffusion", diffusion, above=0), checks.number("radius", radius, above=0)
    # Powers of two keep L²/(2D) and z² in the range of numbers, and change no digit
    (length, length_power), (noise, noise_power), (rate, rate_power) = map(np.frexp, (radius, diffusion, curvature))
    spread, power = length**2 / (2 * noise), 2 * int(length_power) - int(noise_power)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        z2 = np.ldexp(rate * spread, rate_power + power)
        if curvature == 0:
            asymptotic = np.ldexp(spread, power)
        elif curvature > 0:
            within = np.sqrt(np.pi / z2) * np.exp(z2) / (2 * curvature)
            beyond = np.exp(z2 - np.log(2 * curvature) - np.log(z2 / np.pi) / 2) if np.isfinite(z2) else np.inf
            asymptotic = within if z2 < 700 else beyond
        else:
            log_z2 = np.log(-4 * z2)
            if not np.isfinite(log_z2):
                log_z2 = np.log(-4 * rate * spread) + (rate_power + power) * np.log(2)
            asymptotic = (log_z2 + np.euler_gamma) / (-2 * curvature)
    if z2 > _OVERFLOWS:
        return MeanTime(np.inf, float(asymptotic))
    if z2 < -_LIMIT:
        return MeanTime(float(asymptotic), float(asymptotic))
    factor = mpmath.hyp2f2(1, 1, 1.5, 2, float(z2))
    return MeanTime(float(mpmath.ldexp(float(spread) * factor, power)), float(asymptotic))


def kramers(landscape: Landscape, minimum: Any, saddle: Any, diffusion: float) -> float:
    """Mean time to go from a minimum over a saddle to the other side, by Eyring and Kramers, for small D.

        E T ≈ (2π/|λ₋|) √(|det H(s)| / det H(m)) e^{(U(s) − U(m))/D}

    with λ₋ the negative eigenvalue at the saddle s. The relative error is of the order of D. To the top of the barrier
    it takes half as long; over several saddles the rates 1/E T add.

    Args:
        landscape: U, in any dimension
        minimum, saddle: m and s, shape (dim,) each
        diffusion: D > 0, the same in all directions; η s²/2 for SGD with isotropic noise
    Returns:
        E T, in units of time (steps × η); infinite where it exceeds the largest number
    Raises:
        ValueError: if m is not a minimum, s is not a critical point with one negative eigenvalue, or U(s) ≤ U(m)
    References:
        Berglund, Kramers' law: validity, derivations and generalisations, Markov Processes Relat. Fields 19, 459
        (2013).
    """
    checks.kind("landscape", landscape, Landscape)
    diffusion = checks.number("diffusion", diffusion, above=0, one=True)
    bottom, at_minimum = _critical("minimum", landscape, minimum)
    top, at_saddle = _critical("saddle", landscape, saddle)
    if not (at_minimum > 0).all():
        raise ValueError(f"minimum must have positive curvatures only, got {at_minimum.tolist()}")
    if (at_saddle < 0).sum() != 1 or (at_saddle == 0).any():
        raise ValueError(f"saddle must have one negative curvature and no zero, got {at_saddle.tolist()}")
    if top <= bottom:
        raise ValueError(f"the saddle must lie above the minimum, got losses {top:g} and {bottom:g}")
    prefactor = 2 * np.pi / -at_saddle[0] * np.sqrt(-np.prod(at_saddle) / np.prod(at_minimum))
    with np.errstate(over="ignore"):
        return float(prefactor * np.exp((top - bottom) / diffusion))


def _critical(name: str, landscape: Landscape, theta: Any) -> tuple[float, np.ndarray]:
    """Loss and Hessian eigenvalues at what must be a critical point up to 1e-6 of its size."""
    if not isinstance(landscape, Landscape):
        raise TypeError(f"kramers needs a landscape (Landscape.from_expression, from_function), got {landscape!r}")
    point = checks.numbers(name, theta)
    if point.shape != (landscape.dim,):
        raise ValueError(f"{name} must have shape ({landscape.dim},), got {point.shape}")
    with jax.enable_x64(True):
        at = jnp.asarray(point)
        loss, slope, hessian = (np.asarray(f(at)) for f in (landscape.loss, landscape.grad, landscape.hessian))
    eigenvalues = np.linalg.eigvalsh(hessian)
    # A critical point is where a Newton step does not lead away, whatever the scale of the loss.
    away = np.linalg.norm(slope) / max(np.abs(eigenvalues).min(), np.finfo(float).tiny)
    if away > 1e-6 * (1 + np.linalg.norm(point)):
        raise ValueError(f"{name} must be a critical point, got a gradient of {slope.tolist()} there")
    return float(loss), eigenvalues


def jump_time(
    lr: float, alpha: float, scale: float, distances: Any, batch_size: float = 1, *, dim: int | None = None
) -> float:
    """Mean number of steps until SGD under α-stable noise jumps out of a minimum's neighbourhood, for small noise.

        E T → 1 / (c (η s)^α B^{1 − α} Σᵢ dᵢ^{−α}),   c = Γ(α) sin(πα/2)/π

    One large jump leads out; how high the way out is does not matter, how far does. So E T grows like s^{−α} and like
    width^α where the noise has heavy tails, and like e^{B V} where it is normal. A larger batch makes it longer by
    B^{α − 1} only; for α < 1, shorter.

    It holds where runs come back from anywhere inside, and in much less time than E T. With momentum divide the
    distances by the largest one to which a kick of 1 from rest leads, 1/(1 − μ) for small steps.

    Args:
        lr: η > 0
        alpha: α in (0, 2) of :class:`flatdyn.noise.Stable`
        scale: s > 0 of the same
        distances: dᵢ > 0 from the minimum to the ends of the region, one for each way to jump: both sides on a line,
            both sides along each axis where coordinates are independent. Where their scales differ, give s = 1 and
            divide each distance by its own
        batch_size: B ≥ 1
        dim: number of coordinates if the noise is isotropic; then `distances` are those in directions spread evenly
            over the sphere, one for a ball, and the mean stands in place of the sum, with
            c = 2^α Γ((dim + α)/2)/(Γ(dim/2) Γ(1 − α/2))
    Returns:
        E T in steps; infinite where it exceeds the largest number
    Raises:
        ValueError: if a number is out of range; at α = 2 there are no jumps
    References:
        Imkeller, Pavlyukevich, First exit times of SDEs driven by stable Lévy processes, Stoch. Proc. Appl. 116, 611
        (2006), in continuous time.
    """
    lr, alpha, scale, batch_size = checks.floats(lr=lr, alpha=alpha, scale=scale, batch_size=batch_size)
    if checks.number("alpha", alpha, above=0, at_most=2) == 2:
        raise ValueError("alpha=2 is normal noise, which has no jumps: ask exit_law, kramers or ornstein_uhlenbeck")
    lr, scale = checks.number("lr", lr, above=0), checks.number("scale", scale, above=0)
    batch_size = checks.number("batch_size", batch_size, at_least=1)
    distances = checks.number("distances", np.atleast_1d(checks.numbers("distances", distances, at_least=1)), above=0)
    gamma = scipy.special.gammaln
    if dim is None:
        constant = gamma(alpha) + np.log(np.sin(np.pi * alpha / 2) / np.pi)
    else:
        dim = checks.count("dim", dim, at_least=1)
        constant = alpha * np.log(2) + gamma((dim + alpha) / 2) - gamma(dim / 2) - gamma(1 - alpha / 2)
        constant -= np.log(distances.size)
    ways = scipy.special.logsumexp(-alpha * np.log(distances))
    rate = constant + alpha * (np.log(lr) + np.log(scale)) + (1 - alpha) * np.log(batch_size) + ways
    with np.errstate(over="ignore"):
        return float(np.exp(-rate))


class Bounds(NamedTuple):
    """Bounds of a probability; arrays of one shape."""

    lower: np.ndarray
    upper: np.ndarray


def levy_bounds(lr: float, curvature: float, scale: float, radius: float, steps: Any, batch_size: float = 1) -> Bounds:
    """Bounds of the probability that SGD has left |w| ≤ L after k steps, on a direction that does not attract.

        P(|w_k| > L) ≤ P(T ≤ k) ≤ 2 P(|w_k| > L)
        w⁺ = r w − η s ξ,   w₀ = 0,   r = 1 + η|λ|,   Var w_k = η² s² (r^{2k} − 1)/(r² − 1),   s = σ/√B

    Proof of the right side: when the walk is first outside, at step j, then w_k = r^{k−j} w_j plus a symmetric term,
    which with probability ≥ ½ does not lead it back; and r ≥ 1. The walk rarely comes back, so the lower bound is
    nearly exact where η|λ|k is large.

    Args:
        lr: η > 0
        curvature: λ ≤ 0
        scale: σ > 0, standard deviation of one example's gradient
        radius: L > 0
        steps: k ≥ 0, any shape
        batch_size: B ≥ 1
    Returns:
        Bounds(lower, upper) of P(T ≤ k), of the shape of `steps`; upper at most 1
    """
    lr, curvature, scale, radius, batch_size = checks.floats(
        lr=lr, curvature=curvature, scale=scale, radius=radius, batch_size=batch_size
    )
    for name, value in (("lr", lr), ("scale", scale), ("radius", radius)):
        checks.number(name, value, above=0)
    if checks.number("curvature", curvature) > 0:
        raise ValueError(f"curvature must be <= 0, got {curvature}: where runs are drawn back the upper bound fails")
    steps = checks.number("steps", checks.numbers("steps", steps), at_least=0)
    share = checks.number("batch_size", batch_size, at_least=1) ** -0.5
    # Powers of two keep the product η s in the range of numbers, and change no digit
    (x, lr_power), (y, scale_power), (z, radius_power) = map(np.frexp, (lr, scale, radius))
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        steep = -lr * curvature
        growth = 2 * (np.log1p(steep) if np.isfinite(steep) else np.log(lr) + np.log(-curvature))
        summed = np.expm1(steps * growth) / np.expm1(growth) if growth else steps
        widths = np.ldexp(z / (np.sqrt(2) * (x * y * share * np.sqrt(summed))), radius_power - lr_power - scale_power)
        if not np.isfinite(summed).all():  # (r^{2k} − 1)/(r² − 1) by its logarithm
            log_summed = (steps - 1) * growth + np.log(np.expm1(-steps * growth) / np.expm1(-growth))
            log_width = np.log(radius) - np.log(lr) - np.log(scale) - np.log(2) / 2 - np.log(share) - log_summed / 2
            widths = np.where(np.isfinite(summed), widths, np.exp(log_width))
    lower = scipy.special.erfc(widths)
    return Bounds(lower, np.minimum(2 * lower, 1))
