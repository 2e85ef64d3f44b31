"""First passage of a diffusion on a line, exactly, by quadrature.

    dX = b(X) dt + √v(X) dW,   leaving (a, c)
    s = exp(−∫ 2b/v)  (scale density),   m = 2/(v s)  (speed density),   S = ∫ s
    E T(x) = [ V(x) ∫_a^x A m dy + A(x) ∫_x^c V m dy ] / W
    A = S(a, ·) if a absorbs, 1 if it reflects;   V = S(·, c) likewise;   W = S(a, c) if both absorb, else 1

Every term is positive, so nothing cancels, and all are kept as logarithms, so nothing overflows however small the
noise is. The line is cut into panels on which the logarithm of s varies little and is resolved by a polynomial; on a
panel the integrals up to each node are those of the interpolating polynomial.

References:
    Karlin and Taylor, A Second Course in Stochastic Processes (1981), chapter 15.3; Gardiner, Handbook of Stochastic
    Methods (2004), section 5.2.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import legendre

from flatdyn.core import checks
from flatdyn.landscapes import Landscape

_ORDER = 16
_NODES, _WEIGHTS = legendre.leggauss(_ORDER)
_TO_COEFFICIENTS = np.linalg.inv(legendre.legvander(_NODES, _ORDER - 1))
# Values at the nodes -> integral from −1 to each node.
_INTEGRATE = legendre.legval(_NODES, legendre.legint(_TO_COEFFICIENTS, lbnd=-1)).T
_RISE = 4.0  # how much the logarithm of s may vary over a panel
_CUT = 60.0  # an infinite end is cut where the speed density has fallen by exp(−60)
_PANELS = 2**20


class FirstPassage(NamedTuple):
    """Moments of the time T at which a diffusion leaves an interval: numbers, or arrays over the starts.

    `mean` and `std` of T in units of time, and `right`: the probability to leave through the right end.
    """

    mean: Any
    std: Any
    right: Any


def first_passage_1d(
    interval: tuple[float, float],
    start: Any,
    *,
    potential: Callable | Landscape | None = None,
    diffusion: float | None = None,
    drift: Callable | None = None,
    variance: Callable | float | None = None,
    reflecting: str | None = None,
) -> FirstPassage:
    """Mean and standard deviation of the time at which a diffusion leaves an interval, and through which end.

        dX = −U'(X) dt + √(2D) dW     give potential U and diffusion D
        dX = b(X) dt + √v(X) dW       give drift b and variance v

    SGD with a gradient noise of standard deviation s has D = η s²/2, or v = η s², in the time t = steps × η: divide
    by η for steps. The discrete walk leaves later than this diffusion, as it is looked at only once a step.

    Args:
        interval: (a, c); an end that reflects may be infinite (with a potential that confines)
        start: x in [a, c], a number or an array
        potential: U, a function of a NumPy array, or a landscape in one dimension; kinks are allowed
        diffusion: D > 0
        drift, variance: b and v > 0, functions of a NumPy array; v may be a number. Jumps are allowed
        reflecting: None, "left" or "right"
    Returns:
        FirstPassage(mean, std, right), of the shape of `start`; infinite where a time exceeds the largest number. The
        relative error is about 1e-12, or the rounding of U/D where that is larger
    Raises:
        ValueError: for other arguments, a start outside, a function that is not finite inside, v ≤ 0, or a potential
            that does not confine at an infinite end
    """
    by_potential = potential is not None and diffusion is not None
    if by_potential == (drift is not None and variance is not None):
        raise ValueError("give either potential and diffusion, or drift and variance")
    starts = np.atleast_1d(checks.numbers("start", start))
    a, c = _interval(interval, starts, reflecting)
    if by_potential:
        diffusion = checks.number("diffusion", diffusion, above=0, one=True)
        scale = _over(potential, diffusion)
        a, c = _finite(scale, a, c, starts)
        grid = _from_potential(scale, diffusion, np.union1d([a, c], starts))
    else:
        if not np.isfinite([a, c]).all():
            raise ValueError(f"with a drift both ends must be finite, got ({a:g}, {c:g}): cut where few runs get")
        grid = _from_drift(drift, variance, np.union1d([a, c], starts))
    place = np.searchsorted(grid.edges, starts)
    moments = [x[place].reshape(np.shape(start)) for x in _solve(grid, reflecting)]
    return FirstPassage(*(float(x) if x.ndim == 0 else x for x in moments))


def mean_first_passage_1d(
    potential: Callable | Landscape,
    diffusion: float,
    interval: tuple[float, float],
    start: Any,
    reflecting: str | None = None,
) -> Any:
    """Mean time at which dX = −U'(X) dt + √(2D) dW leaves an interval.

        E T(x) = (1/D) ∫_x^c e^{U(y)/D} ∫_a^y e^{−U(z)/D} dz dy        for a reflecting, c absorbing

    Arguments, units and accuracy as for :func:`first_passage_1d`, which also knows other drifts and variances.

    Returns:
        E T, in units of time (steps × η), of the shape of `start`
    """
    return first_passage_1d(interval, start, potential=potential, diffusion=diffusion, reflecting=reflecting).mean


def exit_probability_1d(
    potential: Callable | Landscape, diffusion: float, interval: tuple[float, float], start: Any
) -> Any:
    """Probability that dX = −U'(X) dt + √(2D) dW leaves (a, c) through c.

        p(x) = ∫_a^x e^{U/D} dy / ∫_a^c e^{U/D} dy

    Arguments as for :func:`first_passage_1d`; the result has the shape of `start`.
    """
    return first_passage_1d(interval, start, potential=potential, diffusion=diffusion).right


# --- the panels -----------------------------------------------------------------------------------------------


class _Grid(NamedTuple):
    """Panels: edges (n + 1,), half widths (n,), and at the nodes (n, order) log s and log m."""

    edges: np.ndarray
    half: np.ndarray
    log_scale: np.ndarray
    log_speed: np.ndarray


def _interval(interval: Any, starts: np.ndarray, reflecting: Any) -> tuple[float, float]:
    checks.choice("reflecting", reflecting, (None, "left", "right"))
    ends = checks.entries("interval", interval, "a pair (left, right)")
    if ends.shape != (2,):
        raise ValueError(f"interval must be a pair (left, right), got {checks.shown(interval)}")
    a, c = map(float, ends)
    if not a < c:
        raise ValueError(f"interval needs left < right, got ({a:g}, {c:g})")
    if (np.isinf(a) and reflecting != "left") or (np.isinf(c) and reflecting != "right"):
        raise ValueError(f"an absorbing end must be finite, got ({a:g}, {c:g})")
    if starts.size == 0 or (starts < a).any() or (starts > c).any():
        raise ValueError(f"start must lie in the interval [{a:g}, {c:g}], got {starts.tolist()}")
    return a, c


def _over(potential: Any, diffusion: float) -> Callable:
    """U/D as a function of an array."""
    if isinstance(potential, Landscape):
        if potential.dim != 1:
            raise ValueError(f"potential must be a landscape in one dimension, got dim {potential.dim}")
        potential = _in_blocks(potential)
    checks.function("potential", potential, "a function or a landscape")
    return lambda x: _values("potential", potential, x) / diffusion


def _in_blocks(landscape: Landscape, block: int = 4096) -> Callable:
    """The loss as a NumPy function; blocks of one size compile once."""

    def loss(x):
        flat = np.ravel(x)
        padded = np.resize(flat, -(-flat.size // block) * block).reshape(-1, block, 1)
        with jax.enable_x64(True):
            values = [np.asarray(landscape.loss(jnp.asarray(rows))) for rows in padded]
        return np.concatenate(values)[: flat.size].reshape(np.shape(x))

    return loss


def _values(name: str, function: Any, x: np.ndarray) -> np.ndarray:
    values = checks.answers(name, function, x) if callable(function) else checks.floats(**{name: function})[0]
    values = np.broadcast_to(values, x.shape)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite inside the interval, got {name}({x[~np.isfinite(values)].flat[0]:g})")
    return values


def _finite(scale: Callable, a: float, c: float, starts: np.ndarray) -> tuple[float, float]:
    """The interval with an infinite end cut where U/D is larger by 60 than further inside."""
    if np.isfinite(a) and np.isfinite(c):
        return a, c
    sign, origin, far = (-1, starts.min(), c) if np.isinf(a) else (1, starts.max(), a)
    reach, lowest = abs(far - origin) or 1.0, np.inf
    for _ in range(60):
        sampled = scale(origin + sign * np.linspace(0, reach, 4097))
        lowest = min(lowest, sampled.min())
        above = np.flatnonzero(sampled - lowest <= _CUT)
        if above[-1] < 4096 // 2:  # beyond, for as far again, hardly any run gets
            end = float(origin + sign * reach * (above[-1] + 1) / 4096)
            return (end, c) if sign < 0 else (a, end)
        reach *= 2
    raise ValueError("potential must confine at the infinite end, it does not grow there: give a finite end")


def _too_many() -> ValueError:
    return ValueError(f"more than {_PANELS} panels needed: diffusion or variance is too small, or a function too rough")


def _refined(edges: np.ndarray, fits: Callable) -> np.ndarray:
    """Panels halved until `fits(nodes, half widths)` holds on each; kinks and jumps end up in panels of no width."""
    narrow = 1e-14 * (edges[-1] - edges[0])
    todo, done = np.stack([edges[:-1], edges[1:]], axis=1), []
    while len(todo):
        half = np.diff(todo)[:, 0] / 2
        middle = todo.mean(axis=1)
        good = fits(middle[:, None] + half[:, None] * _NODES, half) | (half < narrow)
        done.append(todo[good])
        rest, middle = todo[~good], middle[~good]
        todo = np.concatenate([np.stack([rest[:, 0], middle], axis=1), np.stack([middle, rest[:, 1]], axis=1)])
        if len(todo) + sum(map(len, done)) > _PANELS:
            raise _too_many()
    left = np.sort(np.concatenate(done)[:, 0])
    return np.append(left, edges[-1])


def _resolved(values: np.ndarray, tol: float = 1e-13) -> np.ndarray:
    """Whether the last Legendre coefficients on each panel are down to rounding."""
    tail = np.abs(values @ _TO_COEFFICIENTS[-3:].T).max(axis=1)
    return tail <= tol * (1 + np.abs(values).max(axis=1))


def _nodes(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = np.diff(edges) / 2
    return edges[:-1, None] + half[:, None] * (1 + _NODES), half


def _from_potential(scale: Callable, diffusion: float, edges: np.ndarray) -> _Grid:
    def fits(x, half):
        values = scale(x)
        return _resolved(values) & (np.ptp(values, axis=1) < _RISE)

    # U/D rises by _RISE at most on a panel, so what it rises in all is too much before a panel is cut
    if np.abs(np.diff(scale(np.linspace(edges[0], edges[-1], 4097)))).sum() > _RISE * _PANELS:
        raise _too_many()
    edges = _refined(edges, fits)
    x, half = _nodes(edges)
    log_scale = scale(x)
    return _Grid(edges, half, log_scale, -log_scale - np.log(diffusion))


def _from_drift(drift: Any, variance: Any, edges: np.ndarray) -> _Grid:
    def slope_and_spread(x):
        spread = _values("variance", variance, x)
        if (spread <= 0).any():
            raise ValueError(f"variance must be > 0 inside the interval, got {spread.min():g}")
        return -2 * _values("drift", drift, x) / spread, np.log(spread)

    def fits(x, half):
        slope, spread = slope_and_spread(x)
        steep = np.abs(slope).max(axis=1) * 2 * half
        return _resolved(slope) & _resolved(spread) & (steep < _RISE) & (np.ptp(spread, axis=1) < _RISE)

    edges = _refined(edges, fits)
    x, half = _nodes(edges)
    slope, spread = slope_and_spread(x)
    rise = np.cumsum(half * (slope @ _WEIGHTS))
    log_scale = np.append(0, rise[:-1])[:, None] + half[:, None] * (slope @ _INTEGRATE.T)
    return _Grid(edges, half, log_scale, np.log(2) - spread - log_scale)


# --- the integrals, as logarithms -----------------------------------------------------------------------------


def _solve(grid: _Grid, reflecting: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation, and probability to leave on the right, from every edge."""
    left_edges, left_nodes = _from_left(grid, grid.log_scale)
    right_edges, right_nodes = _from_right(grid, grid.log_scale)
    total = left_edges[-1]
    right = np.exp(left_edges - total)
    if reflecting is not None:
        total, right = 0.0, np.full_like(right, reflecting == "left")
    if reflecting == "left":
        left_edges, left_nodes = np.zeros_like(left_edges), np.zeros_like(left_nodes)
    elif reflecting == "right":
        right_edges, right_nodes = np.zeros_like(right_edges), np.zeros_like(right_nodes)

    def integrated(log_weight):
        """log ∫ G m w dy at edges and nodes, for w = exp(log_weight) given at the nodes."""
        below = _from_left(grid, grid.log_speed + log_weight + left_nodes)
        above = _from_right(grid, grid.log_speed + log_weight + right_nodes)
        at_edges = np.logaddexp(right_edges + below[0], left_edges + above[0]) - total
        return at_edges, np.logaddexp(right_nodes + below[1], left_nodes + above[1]) - total

    first, at_nodes = integrated(0.0)
    second, _ = integrated(np.log(2) + at_nodes)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.exp(first)
        std = mean * np.sqrt(np.maximum(np.expm1(second - 2 * first), 0))
    return mean, np.where(mean == 0, 0.0, std), right


def _from_left(grid: _Grid, log_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log ∫_a^x exp(log_values) at the edges (n + 1,) and at the nodes (n, order)."""
    return _cumulated(grid.half, log_values)


def _from_right(grid: _Grid, log_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log ∫_x^c exp(log_values), likewise."""
    edges, nodes = _cumulated(grid.half[::-1], log_values[::-1, ::-1])
    return edges[::-1], nodes[::-1, ::-1]


def _cumulated(half: np.ndarray, log_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    highest = log_values.max(axis=1, keepdims=True)
    scaled = np.exp(log_values - highest)
    with np.errstate(divide="ignore"):
        whole = np.log(half * (scaled @ _WEIGHTS)) + highest[:, 0]
        part = np.log(np.maximum(half[:, None] * (scaled @ _INTEGRATE.T), 0)) + highest
        edges = np.append(-np.inf, np.logaddexp.accumulate(whole))
    return edges, np.logaddexp(edges[:-1, None], part)
