"""Normalised SAM on quadratics, exactly: where it is captured, when it arrives, and on which cycle it then stays.

    L = ½ Σ λᵢ wᵢ²,   map θ⁺ = θ − η ∇L(θ + ρ ∇L/‖∇L‖),   flow θ' = −∇L(θ + ρ ∇L/‖∇L‖)

Near a critical point SAM has no linearisation. In its place there are: around a saddle a capture set of size ρ, with a
strip along the whole stable axis, bounded by the stable manifold of fixed points of the flow where the perturbed
point is the saddle itself; arrival in finite time; and then, for the map, a two-cycle or a small chaotic band.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy

from flatdyn.core import checks
from flatdyn.core.renaming import renamed_keywords
from flatdyn.methods import SAM

KAPPA_ZERO = 1.8540746773013719  # Γ(¼)²/(4√π); a number, as scipy.special takes a fifth of a second to load


@renamed_keywords(tau="ratio")
def kappa(ratio: Any) -> np.ndarray:
    """The function that bounds the capture set of the symmetric saddle (a = b).

        κ(q) = ½ ∫_q^∞ ds / √(s (1 + s²)) = ∫_0^{q^(−1/2)} du / √(1 + u⁴),   κ(0) = Γ(¼)²/(4√π)

    Args:
        ratio: q = |w₂/w₁| ≥ 0, any shape; infinity is allowed
    """
    ratio = checks.entries("ratio", ratio)
    if not (ratio >= 0).all():
        raise ValueError(f"ratio must be >= 0, got {ratio[~(ratio >= 0)].flat[0]}")
    with np.errstate(divide="ignore"):
        upper = 1 / np.sqrt(np.asarray(ratio, dtype=float))

    def integral(x):  # for x ≤ 1
        return x * scipy.special.hyp2f1(0.25, 0.5, 1.25, -(x**4))

    with np.errstate(divide="ignore"):
        beyond = KAPPA_ZERO - integral(np.minimum(1 / upper, 1.0))  # u → 1/u maps the tail to the same integral
    return np.where(upper <= 1, integral(np.minimum(upper, 1.0)), beyond)


@renamed_keywords(tau="ratio")
def capture_curve(ratio: Any, rho: float) -> np.ndarray:
    """Boundary of the capture set of the symmetric saddle (a = b) in one quadrant, as a curve in q = w₂/w₁.

        (w₁, w₂) = ρ κ(q) (q^(−1/2), q^(1/2))

    Args:
        ratio: q, above 0 and finite, shape (points,)
        rho: ascent radius ρ > 0, in units of θ
    Returns:
        w₁ and w₂ in units of θ, shape (2, points); with other signs they bound the other quadrants
    """
    ratio = checks.number("ratio", checks.numbers("ratio", ratio, ndim=1), above=0)
    rho = checks.number("rho", rho, above=0, one=True)
    with np.errstate(over="ignore"):  # beyond the largest number: infinite
        return rho * kappa(ratio) * np.stack([ratio**-0.5, ratio**0.5])


def captured(theta: Any, rho: float) -> np.ndarray:
    """Whether SAM's flow on the symmetric saddle L = (a/2)(w₁² − w₂²) ends at the saddle, exactly.

        captured  ⟺  |w₁ w₂| < ρ² κ(|w₂/w₁|)²

    Args:
        theta: starting points (w₁, w₂), shape (..., 2), w₂ the unstable coordinate
        rho: ascent radius ρ > 0, in units of θ
    Returns:
        boolean array, shape (...)
    """
    theta = checks.numbers("theta", theta)
    if theta.ndim == 0 or theta.shape[-1] != 2:
        raise ValueError(f"theta must have shape (..., 2), got {theta.shape}")
    rho = checks.number("rho", rho, above=0, one=True)
    stable, unstable = np.abs(np.moveaxis(np.asarray(theta, dtype=float), -1, 0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        ratio = np.where(unstable == 0, 0.0, unstable / stable)
        # Powers of two keep the products in the range of numbers, and change no digit
        (x, stable_power), (y, unstable_power), (unit, power) = np.frexp(stable), np.frexp(unstable), np.frexp(rho)
        product = np.ldexp(x * y, stable_power + unstable_power - 2 * power)
    # Near the unstable axis both sides vanish; the limit of the condition, in error by 1/q², q = |w₂/w₁|, is |w₂| < ρ.
    return np.where(ratio > 1e16, unstable < rho, product < unit**2 * kappa(ratio) ** 2)


def capture_boundary(stable: Any, rho: float, curvatures: tuple[float, float] = (1.0, -1.0)) -> np.ndarray:
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
    curvatures = checks.numbers("curvatures", curvatures, ndim=1)
    if len(curvatures) != 2:
        raise ValueError(f"curvatures must be a pair, got {checks.shown(curvatures)}")
    rho = checks.number("rho", rho, above=0, one=True)
    a = checks.number("curvatures[0]", curvatures[0], above=0)
    b = -checks.number("curvatures[1]", curvatures[1], below=0)
    a, b = np.ldexp([a, b], -np.frexp(max(a, b))[1])  # only their ratio counts: a power of two changes no digit
    with np.errstate(over="ignore"):
        reach = np.abs(checks.numbers("stable", stable)) / rho  # in units of ρ the boundary is the same for every ρ
    if not np.isfinite(reach).all():
        raise ValueError(f"stable must be below 1e308 times rho, got {np.max(np.abs(stable)):g} and rho={rho:g}")
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
        if not path.success:
            raise ValueError(f"curvatures {curvatures.tolist()} are too different for the boundary to be followed")
        result[outside] = path.y[0][back]
    return rho * result


class FlowFixedPoint(NamedTuple):
    """A fixed point of SAM's flow that is not critical: its place, and the eigenvalues of the flow's Jacobian there."""

    theta: np.ndarray
    eigenvalues: np.ndarray


def flow_fixed_points(curvatures: Any, rho: float) -> list[FlowFixedPoint]:
    """Fixed points of SAM's flow away from the critical point of a quadratic: ±ρ eₖ for each negative λₖ.

    The perturbed point is the saddle. The Jacobian is diagonal: |λₖ| > 0 along eₖ, −λᵢ (1 + λᵢ/|λₖ|) on the other axes,
    so none attracts, and the pair of the least negative λ has one unstable direction: it bounds the capture set.

    Args:
        curvatures: λ, shape (dim,), negative ones distinct
        rho: ascent radius ρ > 0, in units of θ
    Returns:
        list of FlowFixedPoint(theta (dim,), eigenvalues (dim,)), two for each negative λ
    """
    curvatures, rho = _curvatures(curvatures), checks.number("rho", rho, above=0, one=True)
    points = []
    for k in np.flatnonzero(curvatures < 0):
        with np.errstate(over="ignore"):  # beyond the largest number: infinite
            eigenvalues = -curvatures * (1 + curvatures / abs(curvatures[k]))
        eigenvalues[k] = abs(curvatures[k])
        for side in (rho, -rho):
            points.append(FlowFixedPoint(side * np.eye(len(curvatures))[k], eigenvalues))
    return points


def capture_bounds(theta: Any, rho: float, curvatures: Any) -> np.ndarray:
    """What is certain about the flow's capture at a saddle in any dimension, without integrating.

        ‖∇L‖ < ρ min |λ₋|          captured (+1): every component of the gradient decreases
        ‖(∇L)₋‖ ≥ ρ max |λ₋|      never (−1): no unstable component decreases
        else                       open (0)

    with λ₋ the negative curvatures and (∇L)₋ the gradient in their directions.

    Args:
        theta: starting points, shape (..., dim)
        rho: ascent radius ρ > 0, in units of θ
        curvatures: λ, shape (dim,), at least one negative
    Returns:
        +1, −1 or 0, shape (...)
    """
    curvatures, rho = _curvatures(curvatures), float(checks.number("rho", rho, above=0, one=True))
    theta, unstable = _fitting(theta, curvatures), curvatures < 0
    # Only ratios matter: powers of two bring curvatures, and each point with rho, to 1, and change no digit
    curvatures = curvatures * 2.0 ** -np.frexp(np.abs(curvatures).max())[1]
    unit = np.frexp(np.maximum(np.abs(theta).max(axis=-1), rho))[1]
    gradient, rho = np.ldexp(theta, -unit[..., None]) * curvatures, np.ldexp(rho, -unit)
    if not unstable.any():
        raise ValueError(
            f"curvatures must hold a negative one, got {curvatures.tolist()}: a minimum draws in everything"
        )
    inside = np.linalg.norm(gradient, axis=-1) < rho * np.abs(curvatures[unstable]).min()
    outside = np.linalg.norm(gradient[..., unstable], axis=-1) >= rho * np.abs(curvatures[unstable]).max()
    return inside.astype(int) - outside.astype(int)


def arrival_time(theta: Any, rho: float, curvatures: Any) -> float:
    """When SAM's flow from one point reaches the critical point of a quadratic: a finite time, or infinity if never.

    In the gradient's coordinates gᵢ = λᵢ wᵢ, r = ‖g‖, and with dσ = (1 + ρ c/r) dt, c = max |λ|, the flow has no
    singularity, and is as fast far away as near:

        d ln gᵢ / dσ = −λᵢ (r + ρ λᵢ)/(r + ρ c),   T = ∫ r/(r + ρ c) dσ

    In one dimension T = ln(1 + |w|/ρ)/a at a minimum, and ln(ρ/(ρ − |w|))/b for |w| < ρ on a maximum.

    Args:
        theta: starting point, shape (dim,)
        rho: ascent radius ρ > 0, in units of θ
        curvatures: λ, shape (dim,), none zero, within 1e100 of each other
    Returns:
        T, in units of steps × η; relative error about 1e-9
    """
    curvatures, rho = _curvatures(curvatures), float(checks.number("rho", rho, above=0, one=True))
    theta = _fitting(theta, curvatures)
    if theta.shape != curvatures.shape:
        raise ValueError(f"theta must be one point of shape {curvatures.shape}, got {theta.shape}")
    moving = theta != 0
    if not moving.any():
        return 0.0
    # T scales as 1/λ, and does not change with the unit of θ and ρ: powers of two bring both to 1
    steep = int(np.frexp(np.abs(curvatures).max())[1])
    unit = int(np.frexp(max(np.abs(theta).max(), rho))[1])
    curvatures, small = np.ldexp(curvatures, -steep), np.log(rho) - unit * np.log(2)
    rates, rho, sizes = curvatures[moving], np.ldexp(rho, -unit), np.abs(curvatures)
    if sizes.min() < 1e-100 * sizes.max():
        raise ValueError(f"curvatures must be within 1e100 of each other, got {sizes.max() / sizes.min():.3g}")
    start = np.log(np.abs(theta[moving])) - unit * np.log(2) + np.log(np.abs(rates))
    first = start.max()  # a start may be nearer than what counts as there beside ρ, and its time as short
    reach = np.log(1e3 * (np.linalg.norm(np.exp(start)) + rho * sizes.max()))  # beyond it the saddle has let go
    small = np.log(1e-12) + min(small + np.log(sizes.min()), first)

    def slope(sigma, state):
        largest = state[:-1].max()
        length = np.linalg.norm(np.exp(state[:-1] - largest))  # whose squares don't vanish, as those of r may
        r = np.exp(largest) * length
        passed = np.exp(largest - first) * length
        return np.append(-rates * (r + rho * rates), passed) / (r + rho * sizes.max())

    def left(sigma, state):
        return np.max(state[:-1]) - reach

    def arrived(sigma, state):
        return np.max(state[:-1]) - small

    left.terminal = arrived.terminal = True
    path = scipy.integrate.solve_ivp(
        slope, (0, np.inf), np.append(start, 0.0), "DOP853", events=(left, arrived), rtol=1e-11, atol=1e-13
    )
    if not len(path.t_events[1]):
        return np.inf
    with np.errstate(over="ignore"):  # beyond the largest number: infinite
        return float(np.ldexp(path.y[-1, -1], -steep) * np.exp(first))


class TwoCycle(NamedTuple):
    """The orbit w → −w along one eigenvector; see :func:`two_cycle`."""

    amplitude: float
    multipliers: np.ndarray
    stable: bool


def has_two_cycles(method: Any, *, decay: bool = True) -> bool:
    """Whether a method has the orbits of :func:`two_cycle`; with or without weight decay, which moves their centre."""
    if not isinstance(method, SAM) or method.mask is not None or method.decay_mask is not None:
        return False
    plain = method.eps == 0 and method.p == 2 and method.ascents == 1
    damped = method.nesterov and "dampening" not in method.absent
    decayed = method.inertial and method.decays("decoupled") if decay else "weight_decay" not in method.absent
    return plain and not damped and not decayed


def two_cycle(method: SAM, curvatures: Any, direction: int) -> TwoCycle:
    """SAM's period-2 orbit ±A eₖ on a quadratic, and whether it attracts.

        A = η ρ |λₖ| / (c − η λₖ),   c = 2 (1 + μ), or 2 (1 + μ)/(1 + 2 μ) for Nesterov

    Over half a period the component i is moved as gradient descent with momentum moves it at the step

        sᵢ = η λᵢ + (c − η λₖ)(λᵢ/λₖ)²  for i ≠ k,   sₖ = η λₖ

    and the orbit attracts if 0 < s < c for all of them. At a saddle, along a positive direction a against −b, that is
    ηa < c and c (1/a − 1/b) < η < c b/(a (a + b)). Other cycles may coexist with it, with momentum above all.

    Weight decay w in the loss is λ + w in place of every λ. If it is coupled, the ascent does not see it,

        A = η ρ |λₖ| / (c − η (λₖ + w)),   sᵢ = η (λᵢ + w) + (c − η (λₖ + w))(λᵢ/λₖ)²,   sₖ = η (λₖ + w)

    which without momentum is decoupled decay as well. A heavy ball with dampening τ is one with η (1 − τ).

    Args:
        method: SAM with eps = 0, p = 2, one ascent, and numbers as hyperparameters
        curvatures: λ, shape (dim,), none zero
        direction: k
    Returns:
        TwoCycle: amplitude A in units of θ; multipliers over half a period, shape (dim,) or, with momentum, (2·dim,);
        stable
    Raises:
        ValueError: if the method is smoothed or masked, of another norm or several ascents, has decoupled decay with
            momentum or dampening with Nesterov's, k is not a direction, or there is no such orbit (η λₖ ≥ c)
    """
    checks.kind("method", method, SAM, "fd.SAM(lr, rho)")
    if not has_two_cycles(method):
        raise ValueError(
            "two-cycles in closed form are those of SAM with eps=0 and no mask, of p=2 and one ascent, and, with "
            f"momentum, without decoupled decay or a dampened Nesterov velocity, got {method!r}"
        )
    curvatures = _curvatures(curvatures)
    k = checks.count("direction", direction)
    if k >= len(curvatures):
        raise ValueError(f"direction must be one of 0 to {len(curvatures) - 1}, got {k}")
    mu = float(method.momentum)
    limit = 2 * (1 + mu) / (1 + 2 * mu if method.nesterov else 1)
    lr, pulled = method.lr, curvatures
    if "dampening" not in method.absent:
        lr = lr * (1 - method.dampening)
    if "weight_decay" not in method.absent:
        pulled = curvatures + method.weight_decay
        if method.decays("loss"):
            curvatures = _curvatures(pulled)
    room = limit - lr * pulled[k]
    if room <= 0:
        raise ValueError(f"no two-cycle along direction {k}: lr * curvature = {limit - room:g} >= {limit:g}")
    steps = lr * pulled + room * (curvatures / curvatures[k]) ** 2
    steps[k] = lr * pulled[k]
    if method.inertial:
        keep = mu * (1 - steps) if method.nesterov else np.full(len(steps), mu)  # product of the two roots
        total = (1 + mu) * (1 - steps) if method.nesterov else 1 + mu - steps  # and their sum
        root = np.sqrt((total**2 - 4 * keep).astype(complex))
        multipliers = np.concatenate([(total + root) / 2, (total - root) / 2])
    else:
        multipliers = 1 - steps
    amplitude = lr * method.rho * abs(curvatures[k]) / room
    return TwoCycle(float(amplitude), multipliers, bool((np.abs(multipliers) < 1).all()))


class Band(NamedTuple):
    """The chaotic band on a negative direction; see :func:`chaotic_band`."""

    half_width: float
    lyapunov: float
    trapped: bool


def chaotic_band(lr: float, rho: float, curvature: float) -> Band:
    """Where SAM without momentum moves along one negative direction λ = −b once it has arrived.

        w⁺ = (1 + ηb) w − ηρb sign w:   |w| ≤ ηbρ,   Lyapunov exponent ln(1 + ηb),   trapped while ηb ≤ 1

    An expanding map on each side of the point, folded back by the jump. All of |w| < ρ is captured until the band meets
    its own basin boundary ρ, at ηb = 1.

    Args:
        lr: step size η > 0
        rho: ascent radius ρ > 0, in units of θ
        curvature: λ < 0
    Returns:
        Band: half_width in units of θ, Lyapunov exponent per step, whether runs stay
    """
    lr, rho, curvature = checks.floats(lr=lr, rho=rho, curvature=curvature)
    growth = -checks.number("curvature", curvature, below=0) * checks.number("lr", lr, above=0)
    return Band(growth * checks.number("rho", rho, above=0, one=True), float(np.log1p(growth)), bool(growth <= 1))


def crisis_lr(curvature: float, momentum: float = 0.0) -> float:
    """The step size at which the trap along a negative direction opens: η* = (1 − μ)/|λ|, for the heavy ball.

    There the unstable manifold of the boundary point (ρ, v = 0) touches the stable manifold of (−ρ, 0).

    Args:
        curvature: λ < 0
        momentum: μ in [0, 1)
    """
    curvature, momentum = checks.floats(curvature=curvature, momentum=momentum)
    checks.number("momentum", momentum, at_least=0, below=1)
    return (1 - momentum) / -checks.number("curvature", curvature, below=0)


def _fitting(theta: Any, curvatures: np.ndarray) -> np.ndarray:
    """θ, shape (..., dim), in as many coordinates as there are curvatures."""
    theta = checks.numbers("theta", theta)
    if theta.ndim == 0 or theta.shape[-1] != len(curvatures):
        raise ValueError(f"theta must have shape (..., {len(curvatures)}), one for each curvature, got {theta.shape}")
    return theta


def _curvatures(values: Any) -> np.ndarray:
    array = checks.numbers("curvatures", values)
    if array.ndim != 1 or len(array) == 0 or (array == 0).any():
        raise ValueError(f"curvatures must be one row of non-zero numbers, got {values!r}")
    return array
