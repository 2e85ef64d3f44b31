"""How far has noise carried a run from a saddle? Mean squared displacements on a quadratic, exactly.

Along an eigen-direction λ of the Hessian, with a gradient noise of variance c/B:

    w⁺ = (1 − η M) w − η √(c/B) ξ        Var w_k = (η² c/B) (q^{2k} − 1)/(q² − 1),   q = 1 − η M
    dw = −M w dt + √(η c/B) dW           Var w(t) = (η c/(2BM)) (1 − e^{−2Mt}),      t = k η

References:
    Z. Xie et al., arXiv 2006.15815. Published results on SAM are in :mod:`flatdyn.escape.published`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from numpy.polynomial import legendre

from flatdyn.core import checks, memory
from flatdyn.landscapes import saddle
from flatdyn.methods import Method
from flatdyn.noise import Gaussian
from flatdyn.processes import Iteration
from flatdyn.processes.base import ASCENTS
from flatdyn.processes.flat import as_row, whole_from

_STIFFEST = 100.0  # ηM up to which 16 nodes a step resolve the turns of the Langevin equation


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
    Nesterov and the three ways in which an ascent sees its minibatch are what `simulate` runs. Of a method that counts
    its steps (schedules, switches, averages, Lookahead, a first step of its own) they are those of each step.

    Args:
        method: GD or USAM, with or without momentum, or any method whose step is linear on a quadratic
        curvature: λ
        steps: k ≥ 0
        scale: σ, standard deviation of one example's gradient; √|λ| if not given, as in the papers
        batch_size: B ≥ 1; the noise has variance σ²/B
        ascent: as for :class:`flatdyn.Iteration`
        start: w₀, with the velocity that the method starts with; at the saddle (0) and at rest the displacement is the
            variance
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
    steps, start = step_count(steps), float(checks.number("start", start, one=True))
    # Powers of two bring the scale to 1, and change no digit
    share, power = np.frexp(abs(curvature) ** 0.5 if scale is None else scale)
    process = Iteration(saddle((curvature,)), method, Gaussian(float(share), batch_size), ascent)
    with jax.enable_x64(True):
        mean = np.asarray(as_row(process.init(np.array([start]))))
        covariance, displacement = np.zeros((len(mean), len(mean))), np.zeros(steps + 1)
        linear = _linear_steps(process)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond the largest number: infinite
            for k, (transition, gain) in zip(range(1, steps + 1), linear, strict=False):
                covariance, mean = transition @ covariance @ transition.T + gain @ gain.T, transition @ mean
                displacement[k] = np.ldexp(covariance[0, 0], 2 * power) + (mean[0] - start) ** 2
    return np.where(np.isnan(displacement), np.inf, displacement)  # ∞ − ∞, and 0 · ∞ where a number is lost


def _linear_steps(process: Iteration) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A (n, n) and G (n, draws) of each step; G has a column for the descent's draw, and one for the ascent's own."""
    start = process.init(np.zeros(1))
    counts = eqx.filter(start, eqx.is_inexact_array, inverse=True)
    whole = whole_from(start)

    def step(row, normals, counts):
        state = eqx.combine(eqx.filter(whole(row), eqx.is_inexact_array), counts)
        after = process.driven(state, normals)
        return as_row(after), eqx.filter(after, eqx.is_inexact_array, inverse=True)

    @jax.jit
    def linear(row, normals, counts):
        landed, after = step(row, normals, counts)
        slopes = jax.jacfwd(lambda row, normals: step(row, normals, counts)[0], argnums=(0, 1))(row, normals)
        return (landed, *slopes), after

    counted = bool(jax.tree.leaves(counts))
    while True:
        transition, gain, counts = _checked(process, linear, len(as_row(start)), counts)
        yield transition, gain
        while not counted:  # every step is the same
            yield transition, gain


def _checked(process: Iteration, linear: Callable, size: int, counts: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """A and G of one step, and what its state counts after it; ValueError unless it is linear."""
    somewhere = np.linspace(0.3, 1.7, size), np.linspace(-0.7, 0.4, process.draws)
    first, after = linear(*somewhere, counts)
    landed, transition, gain = map(np.asarray, first)
    landed_else, *again = map(np.asarray, linear(*(-2 * x for x in somewhere), counts)[0])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.outer([1, -2], transition @ somewhere[0] + gain @ somewhere[1])
    through_zero = np.allclose([landed, landed_else], expected, equal_nan=True)
    if not (through_zero and np.allclose(transition, again[0]) and np.allclose(gain, again[1])):
        raise ValueError(
            f"the step of {type(process.method).__name__} is not linear on a quadratic, so no recursion of second "
            "moments closes: simulate it, or ask for its transfer operator; sam_first_step_variance has SAM's first "
            "step"
        )
    return transition, gain, after


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
    (c, power), (r, rho_power), (s, s_power) = map(np.frexp, (curvature, checks.number("rho", rho, at_least=0), s))
    push, push_power = c * r, power + rho_power
    power = max([p for x, p in ((s, s_power), (push, push_power)) if x], default=0)
    with np.errstate(over="ignore", under="ignore"):  # beyond the largest number: infinite
        # Powers of two bring these lengths to 1, and change no digit
        s, push, lr = np.ldexp(s, s_power - power), np.ldexp(push, push_power - power), np.ldexp(lr, power)
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
    momentum = checks.number("momentum", momentum, at_least=0, below=1)
    j, s = np.arange(1, step_count(steps) + 1), lr * drift
    with np.errstate(over="ignore", invalid="ignore"):
        x = abs(1 + momentum - s) / (2 * np.sqrt(momentum)) if momentum else np.inf
        if np.isinf(x):
            kernel = (1.0 - s) ** (j - 1)
        else:
            # z = ±√μ e^{±δ}, cosh δ = x: ratios of sines, accurate where the roots nearly meet. The sign squares away.
            fade, angle = np.log(momentum) / 2 * (j - 1), np.arccos(min(x, 1.0))
            if x > 1:
                delta = np.arccosh(x)
                kernel = np.exp(fade + delta * (j - 1)) * np.expm1(-2 * j * delta) / np.expm1(-2 * delta)
            else:
                kernel = np.exp(fade) * (np.sin(j * angle) / np.sin(angle) if angle else j)
        growth = np.append(0, np.cumsum(kernel**2))
    return driven(2, lr, noise, batch_size, growth)


def ou_msd(lr: float, drift: float, times: Any, *, noise: float = 1.0, batch_size: float = 1) -> np.ndarray:
    """Variance of the Ornstein–Uhlenbeck process that stands for the step.

        dw = −M w dt + √(η c/B) dW,   Var w(t) = (η c/(2BM)) (1 − e^{−2Mt})

    Args:
        times: t = steps × η ≥ 0, any shape
        lr, drift, noise, batch_size: as for :func:`heavy_ball_msd`
    """
    lr, drift, noise, batch_size = checks.floats(lr=lr, drift=drift, noise=noise, batch_size=batch_size)
    times = checks.number("times", checks.numbers("times", times), at_least=0)
    with np.errstate(over="ignore"):
        growth = np.expm1(-2 * drift * times) / (-2 * drift) if drift else times
    return driven(1, lr, noise, batch_size, growth)


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
    with np.errstate(over="ignore"):
        times = checks.number("steps * lr / (1 - momentum)", np.asarray(steps) * effective)
    return ou_msd(effective, drift, times, noise=noise, batch_size=batch_size)


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
    Raises:
        ValueError: if an argument does not fit, or ηM is above 100: the equation then turns too often within a step
    """
    lr, drift, momentum, noise, batch_size = checks.floats(
        lr=lr, drift=drift, momentum=momentum, noise=noise, batch_size=batch_size
    )
    checks.choice("velocity", velocity, ("rest", "stationary"))
    if checks.number("lr", lr, above=0) * drift > _STIFFEST:
        raise ValueError(f"lr * drift must be at most {_STIFFEST:g}, got {lr * drift:g}: take a smaller `lr`")
    # In another unit of time, a power of two near η: no digit changes, and squares stay numbers
    (lr, power), (share, noise_power) = np.frexp(lr), np.frexp(checks.number("noise", noise, at_least=0))
    heat = lr * share / checks.number("batch_size", batch_size, at_least=1) / lr**2
    if noise == 0:
        return np.zeros(step_count(steps) + 1)
    friction = (1 - checks.number("momentum", momentum, at_least=0, below=1)) / lr
    with np.errstate(over="ignore"):
        split = np.sqrt(complex(friction**2 / 4 - np.ldexp(drift, power) / lr))

    def response(t):
        """What a kick of v at 0 has moved by t: (e^{r₁t} − e^{r₂t})/(r₁ − r₂)."""
        with np.errstate(over="ignore", invalid="ignore"):
            fading = np.exp((split - friction / 2) * t)
            moved = (fading * (np.expm1(-2 * split * t) / (-2 * split) if split else t)).real
        return np.where(np.isnan(moved), np.inf, moved)  # complex numbers beyond the largest have NaN for a product

    places, weights = legendre.leggauss(16)
    ends = lr * np.arange(step_count(steps) + 1)
    with np.errstate(over="ignore"):  # beyond the largest number: infinite
        kicks = response(ends[:-1, None] + lr / 2 * (1 + places)) ** 2 @ weights * lr / 2
        initial = heat / (2 * friction) * response(ends[1:]) ** 2 if velocity == "stationary" else np.zeros(len(kicks))
        return np.ldexp(heat * np.append(0, np.cumsum(kicks)) + np.append(0, initial), 2 * power + noise_power)


def step_count(steps: int) -> int:
    steps = checks.count("steps", steps)
    memory.check_memory(steps * 512, "one number for each step", "ask for fewer `steps`")
    return steps


def driven(steps: int, lr: float, noise: float, batch_size: float, growth: np.ndarray, over: float = 1) -> np.ndarray:
    """η c/B or, for `steps` = 2, η² c/B, over a number, times what has grown: 0 without noise, however much that is."""
    noise = checks.number("noise", noise, at_least=0)
    # Powers of two keep the factors in the range of numbers, and change no digit
    (one, power), (share, noise_power) = np.frexp(checks.number("lr", lr, above=0)), np.frexp(noise)
    strength = one ** (steps - 1) * (one * share / checks.number("batch_size", batch_size, at_least=1))
    with np.errstate(over="ignore", under="ignore"):  # beyond the largest number: infinite
        return np.ldexp(strength / over * growth, steps * power + noise_power) if noise else np.zeros_like(growth)
