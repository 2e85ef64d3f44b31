"""How far has noise carried a run from a saddle? Mean squared displacements on a quadratic, exact and as published.

Along an eigen-direction λ of the Hessian, with a gradient noise of variance c/B:

    w⁺ = (1 − η M) w − η √(c/B) ξ        Var w_k = (η² c/B) (q^{2k} − 1)/(q² − 1),   q = 1 − η M
    dw = −M w dt + √(η c/B) dW           Var w(t) = (η c/(2BM)) (1 − e^{−2Mt}),      t = k η

Papers take |λ| for the variance of one example's gradient. What M and c then are depends on which SAM is meant:

    variant                                M            c               (Var SGD − Var) B/η, leading terms, l = |λ| = −λ
    A as published                         λ (1 + ρλ)²  l               t² (2ρl³ − ρ²l⁴)
    B USAM, noiseless ascent ("full")      λ (1 + ρλ)   l               t² ρl³
    C USAM, shared minibatch ("shared")    λ (1 + ρλ)   l (1 + ρλ)²     t (2ρl² − ρ²l³)
    D USAM, two minibatches (independent)  λ (1 + ρλ)   l (1 + ρ²λ²)    −t ρ²l³

A is gradient descent on L(w + ρ∇L(w)): it holds one factor 1 + ρλ more than any USAM computes, nobody runs it, and
its drift never changes sign, so it knows no attracting saddle. C is the usual implementation. B, C, D are derived from
the method's own step (:func:`msd_theory`), and tests hold the table to it.

References:
    H. Kim, J. Park, Y. Choi, J. Lee, arXiv 2301.06308, Theorems 2 and 3, as quoted by a reader of the paper; Z. Xie et
    al., arXiv 2006.15815. What is not called published is derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import sympy
from numpy.polynomial import legendre

from flatdyn import checks, drivers
from flatdyn.landscapes import saddle
from flatdyn.methods import Method
from flatdyn.noise import Gaussian, Noise
from flatdyn.processes import ASCENTS, Iteration
from flatdyn.slopes import flat_state
from flatdyn.stationary import derivatives


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


# --- exact, from the method's own step ------------------------------------------------------------------------


def msd_theory(
    method: Method,
    curvature: float,
    steps: int,
    *,
    scale: float | None = None,
    batch_size: float = 1,
    ascent: str = "shared",
    start: float = 0.0,
) -> np.ndarray:
    """Mean squared displacement along an eigen-direction after each step, exact for every linear method.

        s⁺ = A s + G ξ,   P⁺ = A P Aᵀ + G Gᵀ,   E (w_k − w₀)² = P_ww + (E w_k − w₀)²

    A and G are the derivatives of the method's step on ½ λ w² by its state and by its normal draws, so momentum,
    Nesterov and the three ways in which an ascent sees its minibatch are what `simulate` runs.

    Args:
        method: GD or USAM, with or without momentum, or any method whose step is linear on a quadratic
        curvature: λ
        steps: k ≥ 0
        scale: σ, standard deviation of one example's gradient; √|λ| if not given, as in the papers
        batch_size: B ≥ 1; the noise has variance σ²/B
        ascent: as for :class:`flatdyn.Iteration`
        start: w₀, at rest; at the saddle (0) the displacement is the variance
    Returns:
        array (steps + 1,), in units of θ²; relative error about 1e-13
    Raises:
        ValueError: if the step is not linear, as that of normalised SAM
    """
    checks.kind("method", method, Method)
    checks.choice("ascent", ascent, ASCENTS)
    (batch_size,) = checks.floats(batch_size=batch_size)
    scale = None if scale is None else checks.number("scale", scale, at_least=0, one=True)
    curvature = float(checks.number("curvature", curvature, one=True))
    steps, start = _counted(steps), float(checks.number("start", start, one=True))
    # Powers of two bring the scale to 1, and change no digit
    share, power = np.frexp(abs(curvature) ** 0.5 if scale is None else scale)
    transition, gain = _linear_step(method, curvature, Gaussian(float(share), batch_size), ascent)
    covariance, mean = np.zeros_like(transition), np.zeros(len(transition))
    mean[0], added = start, gain @ gain.T
    displacement = np.zeros(steps + 1)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the largest number: infinite
        for k in range(1, steps + 1):
            covariance, mean = transition @ covariance @ transition.T + added, transition @ mean
            displacement[k] = np.ldexp(covariance[0, 0], 2 * power) + (mean[0] - start) ** 2
    return np.where(np.isnan(displacement), np.inf, displacement)  # ∞ − ∞, and 0 · ∞ where a number is lost


def _linear_step(method: Method, curvature: float, noise: Noise, ascent: str) -> tuple[np.ndarray, np.ndarray]:
    """A (n, n) and G (n, draws) of a step; G has a column for the descent's draw, and one for another of the ascent."""
    process = Iteration(saddle((curvature,)), method, noise, ascent)
    with jax.enable_x64(True):
        step, size = derivatives(process), flat_state(process).size
        somewhere = np.linspace(0.3, 1.7, size), np.linspace(-0.7, 0.4, process.draws)
        landed, transition, gain = map(np.asarray, step(*somewhere))
        landed_else, *again = map(np.asarray, step(*(-2 * x for x in somewhere)))
    through_zero = np.allclose(
        [landed, landed_else], np.outer([1, -2], transition @ somewhere[0] + gain @ somewhere[1])
    )
    if not (through_zero and np.allclose(transition, again[0]) and np.allclose(gain, again[1])):
        raise ValueError(
            f"the step of {type(method).__name__} is not linear on a quadratic, so no recursion of second moments "
            "closes: simulate it, or ask for its transfer operator; sam_first_step_variance has SAM's first step"
        )
    return transition, gain


def sam_first_step_variance(
    lr: float, curvature: float, rho: float, scale: float | None = None, batch_size: float = 1
) -> float:
    """Variance of normalised SAM after its first step from the critical point, with a shared minibatch.

        w₁ = −η (Z + λρ sign Z),   Var w₁ = η² (s² + 2 λρ s √(2/π) + λ²ρ²),   Z ~ N(0, s²),  s = σ/√B

    Its step is not linear, so no recursion follows: what the table of this module says of USAM does not hold for it.

    Args:
        lr, rho: η > 0, ρ ≥ 0 in units of θ
        curvature, scale, batch_size: λ, σ, B as for :func:`msd_theory`
    """
    lr, curvature, rho, batch_size = checks.floats(lr=lr, curvature=curvature, rho=rho, batch_size=batch_size)
    scale = np.sqrt(abs(curvature)) if scale is None else checks.number("scale", scale, at_least=0, one=True)
    checks.number("lr", lr, above=0)
    s = scale / np.sqrt(checks.number("batch_size", batch_size, at_least=1))
    with np.errstate(over="ignore"):  # beyond the largest number: infinite
        push = np.float64(curvature) * checks.number("rho", rho, at_least=0)
        power = np.frexp(max(s, abs(push)))[1]  # powers of two bring these lengths to 1, and change no digit
        s, push, lr = np.ldexp(s, -power), np.ldexp(push, -power), np.ldexp(lr, power)
        return float(lr**2 * (s**2 + 2 * push * s * np.sqrt(2 / np.pi) + push**2)) if s or push else 0.0


# --- closed forms ---------------------------------------------------------------------------------------------


def heavy_ball_msd(
    lr: float, drift: float, steps: int, momentum: float = 0.0, *, noise: float = 1.0, batch_size: float = 1
) -> np.ndarray:
    """Variance of the heavy ball from rest at the critical point, in closed form.

        Var w_k = (η² c/B) Σ_{j ≤ k} ((z₁ʲ − z₂ʲ)/(z₁ − z₂))²,   z² − (1 + μ − ηM) z + μ = 0

    For μ = 0 this is the geometric sum of the plain step.

    Args:
        lr, momentum: η > 0, μ in [0, 1)
        drift: M; λ for GD, λ (1 + ρλ) for USAM
        steps: k ≥ 0
        noise: c ≥ 0, variance of one example's gradient as it enters the step
        batch_size: B ≥ 1
    Returns:
        array (steps + 1,), in units of θ²
    """
    lr, drift, momentum, noise, batch_size = checks.floats(
        lr=lr, drift=drift, momentum=momentum, noise=noise, batch_size=batch_size
    )
    strength = _strength(lr, noise, batch_size)
    momentum = checks.number("momentum", momentum, at_least=0, below=1)
    j = np.arange(1, _counted(steps) + 1)
    s = lr * checks.number("drift", drift)
    if momentum == 0:
        kernel = (1.0 - s) ** (j - 1)
    else:
        # z = ±√μ e^{±δ}, cosh δ = x: ratios of sines, accurate where the roots nearly meet. The sign squares away.
        x = abs(1 + momentum - s) / (2 * np.sqrt(momentum))
        fade, angle = np.log(momentum) / 2 * (j - 1), np.arccos(min(x, 1.0))
        if x > 1:
            delta = np.arccosh(x)
            kernel = np.exp(fade + delta * (j - 1)) * np.expm1(-2 * j * delta) / np.expm1(-2 * delta)
        else:
            kernel = np.exp(fade) * (np.sin(j * angle) / np.sin(angle) if angle else j)
    return lr * strength * np.append(0, np.cumsum(kernel**2))


def ou_msd(lr: float, drift: float, times: Any, *, noise: float = 1.0, batch_size: float = 1) -> np.ndarray:
    """Variance of the Ornstein–Uhlenbeck process that stands for the step.

        dw = −M w dt + √(η c/B) dW,   Var w(t) = (η c/(2BM)) (1 − e^{−2Mt})

    Args:
        times: t = steps × η ≥ 0, any shape
        lr, drift, noise, batch_size: as for :func:`heavy_ball_msd`
    """
    lr, drift, noise, batch_size = checks.floats(lr=lr, drift=drift, noise=noise, batch_size=batch_size)
    times = checks.number("times", checks.numbers("times", times), at_least=0)
    strength = _strength(lr, noise, batch_size)
    with np.errstate(over="ignore"):  # beyond the largest number: infinite
        return strength * (np.expm1(-2 * drift * times) / (-2 * drift) if checks.number("drift", drift) else times)


def overdamped_msd(
    lr: float, drift: float, steps: Any, momentum: float, *, noise: float = 1.0, batch_size: float = 1
) -> np.ndarray:
    """The heavy ball as plain SGD at the step η/(1 − μ): good for k ≫ 1/(1 − μ) and η|M| ≪ (1 − μ)²/4 only.

    Arguments as for :func:`heavy_ball_msd`; `steps` of any shape. It is :func:`ou_msd` with η/(1 − μ) for η.
    """
    lr, drift, momentum, noise, batch_size = checks.floats(
        lr=lr, drift=drift, momentum=momentum, noise=noise, batch_size=batch_size
    )
    checks.number("lr", lr, above=0)
    steps = checks.number("steps", checks.numbers("steps", steps), at_least=0)
    effective = lr / (1 - checks.number("momentum", momentum, at_least=0, below=1))
    return ou_msd(effective, drift, np.asarray(steps) * effective, noise=noise, batch_size=batch_size)


def langevin_msd(
    lr: float,
    drift: float,
    steps: int,
    momentum: float,
    *,
    noise: float = 1.0,
    batch_size: float = 1,
    velocity: str = "rest",
) -> np.ndarray:
    """Variance of the underdamped Langevin equation that stands for the heavy ball.

        dw = v dt,   dv = −γ v dt − (M/η) w dt + √(c/(Bη)) dW,   γ = (1 − μ)/η,   t = k η

    Args:
        velocity: "rest" for v₀ = 0, as a run starts; "stationary" for E v₀² = c/(2Bηγ), as Xie et al. assume
        lr, drift, steps, momentum, noise, batch_size: as for :func:`heavy_ball_msd`
    Returns:
        array (steps + 1,), in units of θ²
    """
    lr, drift, momentum, noise, batch_size = checks.floats(
        lr=lr, drift=drift, momentum=momentum, noise=noise, batch_size=batch_size
    )
    checks.choice("velocity", velocity, ("rest", "stationary"))
    heat = _strength(lr, noise, batch_size) / lr**2
    friction = (1 - checks.number("momentum", momentum, at_least=0, below=1)) / lr
    split = np.sqrt(complex(friction**2 / 4 - checks.number("drift", drift) / lr))

    def response(t):
        """What a kick of v at 0 has moved by t: (e^{r₁t} − e^{r₂t})/(r₁ − r₂)."""
        with np.errstate(over="ignore", invalid="ignore"):
            fading = np.exp((split - friction / 2) * t)
            moved = (fading * (np.expm1(-2 * split * t) / (-2 * split) if split else t)).real
        return np.where(np.isnan(moved), np.inf, moved)  # complex numbers beyond the largest have NaN for a product

    places, weights = legendre.leggauss(16)
    ends = lr * np.arange(_counted(steps) + 1)
    kicks = response(ends[:-1, None] + lr / 2 * (1 + places)) ** 2 @ weights * lr / 2
    initial = heat / (2 * friction) * response(ends) ** 2 if velocity == "stationary" else 0.0
    return heat * np.append(0, np.cumsum(kicks)) + initial


def _counted(steps: int) -> int:
    steps = checks.count("steps", steps)
    drivers.check_memory(steps * 512, "one number for each step", "ask for fewer `steps`")
    return steps


def _strength(lr: float, noise: float, batch_size: float) -> float:
    """η c/B: what the variance grows by in a unit of time."""
    noise = checks.number("noise", noise, at_least=0)
    return checks.number("lr", lr, above=0) * noise / checks.number("batch_size", batch_size, at_least=1)


# --- what is published, and how far it holds ------------------------------------------------------------------


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
        drift, variance = (float(f(np.float64(curvature), rho)) for f in (row.drift, row.noise))
    checks.floats(**{"drift of curvature and rho": drift, "noise of curvature and rho": variance})
    if continuous:
        times = lr * np.arange(_counted(steps) + 1)
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
    return 2 * lr * np.asarray(times, dtype=float) ** 2 * abs(curvature) ** 3 * rho / batch_size


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
    friction = (1 - checks.number("momentum", momentum, at_least=0, below=1)) / lr
    times, d = lr * np.asarray(steps, dtype=float), _strength(lr, noise, batch_size) / 2
    velocity = d * lr / (1 - momentum) ** 3 * np.expm1(-friction * times) ** 2
    diffusion = overdamped_msd(lr, curvature, steps, momentum, noise=noise, batch_size=batch_size)
    return MomentumFormula(velocity, diffusion)
