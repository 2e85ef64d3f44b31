"""Exact laws of steps on minibatches, without sampling: shuffled passes beside minibatches that are drawn anew.

A *period* is one epoch of :class:`flatdyn.noise.Epochs`, or one step of :class:`flatdyn.noise.FiniteSum`: periods are
independent of one another, steps within an epoch are not. For small sums all that can happen in a period is written
out. On a quadratic sum each of it is an affine map of the state, s⁺ = A s + d, and mean and covariance of the
stationary law at the end of a period solve linear equations.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.noise import Epochs, FiniteSum
from flatdyn.processes import Iteration
from flatdyn.processes.batches import all_batches, number_of_batches
from flatdyn.processes.flat import as_row, whole_from

MOST_OUTCOMES = 50_000
_MOST_ON_A_LINE = 100  # examples: the work grows with their fourth power
_MOST_NUMBERS = 16  # in a state, whose covariance is solved for with a square of them squared


class Outcomes(NamedTuple):
    """All that can become of a point in a period: theta, shape (outcomes, dim), and probability, (outcomes,)."""

    theta: np.ndarray
    probability: np.ndarray


class PeriodLaw(NamedTuple):
    """Mean, shape (n,), and covariance, (n, n), of the full state at the end of a period; θ's numbers come first."""

    mean: np.ndarray
    covariance: np.ndarray


def outcomes(process: Iteration, theta: object) -> Outcomes:
    """Where one epoch of shuffled passes, or one step of minibatches drawn anew, leads from a point at rest.

        θ_e = f_{π, S} ∘ … ∘ f_{π, 1} (θ),   all orders π of the examples alike

    Args:
        process: under :class:`flatdyn.noise.Epochs` or :class:`flatdyn.noise.FiniteSum`, of so few examples that at
            most 50,000 different things can happen
        theta: shape (dim,)
    Returns:
        Outcomes; those that differ only in the order within minibatches are one
    Raises:
        TypeError: if the noise is another one, or the method is random itself or takes several samples a step
        ValueError: if too much can happen, the ascent is independent, or θ does not fit
    """
    sequences, weights = _sequences(process)
    with jax.enable_x64(True):
        point = jnp.asarray(checks.point("theta", theta, process.dim), float)
        ends = _ends(process, process.method.init(process.landscape.vector(point)), sequences)
        return Outcomes(np.asarray(jax.vmap(process.position)(ends)), weights)


def stationary_law(process: Iteration) -> PeriodLaw:
    """The stationary law of a method on a quadratic sum, at the ends of epochs or after steps drawn anew.

        s⁺ = A s + d,   m = E A m + E d,   P = E[A P Aᵀ] + E[e eᵀ],   e = A m + d − m

    with the means over all that can happen in a period. Nothing is small here: curvatures that differ, momentum and
    large steps are all in it.

    Args:
        process: as for :func:`outcomes`, with a step that is affine in its state: GD with or without momentum, USAM
            without, … on examples whose losses are quadratic
    Returns:
        PeriodLaw
    Raises:
        TypeError: as :func:`outcomes`
        ValueError: if steps are not affine or change with time, or nothing is stationary
    """
    sequences, weights = _sequences(process)
    with jax.enable_x64(True):
        begin = process.method.init(process.landscape.vector(jnp.zeros(process.dim)))
        begin = process.method.seasoned(begin)
        size = as_row(begin).size
        if size > _MOST_NUMBERS:
            raise ValueError(f"process must have a state of at most {_MOST_NUMBERS} numbers, this one has {size}")
        slopes, shifts, straight, timeless = map(np.asarray, _affine(process, begin, sequences))
    if not timeless.all():
        raise ValueError(f"process must take the same step at all times, but {process.method!r} counts its steps")
    if not straight.all():
        raise ValueError(
            f"process must take steps that are affine in its state, got {process.method!r} on {process.landscape!r}: "
            "ask outcomes, or simulate"
        )
    twice = np.einsum("o,oij,okl->ikjl", weights, slopes, slopes).reshape(size**2, size**2)  # E[A ⊗ A]
    radius = np.abs(np.linalg.eigvals(twice)).max()
    if not radius < 1:
        raise ValueError(f"process has no stationary law: E[A ⊗ A] has an eigenvalue of modulus {radius:.6g} ≥ 1")
    mean = np.linalg.solve(np.eye(size) - np.tensordot(weights, slopes, 1), weights @ shifts)
    kicks = slopes @ mean + shifts - mean
    spread = np.einsum("o,oi,oj->ij", weights, kicks, kicks)
    covariance = np.linalg.solve(np.eye(size**2) - twice, spread.ravel()).reshape(size, size)
    return PeriodLaw(mean, (covariance + covariance.T) / 2)


def line_law(curvatures: object, targets: object, lr: float) -> tuple[float, float]:
    """Mean and variance at the ends of epochs of SGD on a line, one example a step, for up to 100 examples.

        ℓᵢ = hᵢ (θ − cᵢ)²/2,   aᵢ = 1 − ηhᵢ,   bᵢ = ηhᵢcᵢ,   A = Π aᵢ
        θ⁺ = A θ + D,   D = Σᵢ bᵢ Π aₖ over the k that come after i
        m = E D/(1 − A),   V = Var D/(1 − A²)

    An example comes at a uniform time in [0, 1], so that with pₖ(s) = s + (1 − s) aₖ

        E D = Σᵢ bᵢ ∫ Π_{k≠i} pₖ(s) ds

    and E D² is a sum of such integrals over one time and two; they are of polynomials, and Gauss' rule is exact.
    To leading order in η, with gᵢ = hᵢ (θ* − cᵢ) the examples' gradients at the minimum θ* and h = mean hᵢ,

        m = θ* − (η/2) mean(g h)/h,   V = η³ (n² h² Σg² + Σg² Σh² − (Σ g h)²)/(24 n h)

    and with equal curvatures V = η³h³σ²n(n + 1)/24, σ² = Σ(cᵢ − θ*)²/n: (ηh)² n(n + 1)/12 of the variance
    ηhσ²/2 of examples that are drawn anew.

    Args:
        curvatures: hᵢ, shape (n,)
        targets: cᵢ, shape (n,)
        lr: η > 0
    Returns:
        m and V
    Raises:
        ValueError: if shapes differ, there are more than 100, or |A| ≥ 1, so that nothing is stationary
    References:
        Gürbüzbalaban, Ozdaglar, Parrilo, arXiv 1510.08560, for the order of m and V.
    """
    h, c = (
        np.asarray(checks.numbers(name, values, ndim=1, at_least=1), float)
        for name, values in (("curvatures", curvatures), ("targets", targets))
    )
    if h.shape != c.shape:
        raise ValueError(f"curvatures and targets must be as many, got {len(h)} and {len(c)}")
    if len(h) > _MOST_ON_A_LINE:
        raise ValueError(f"curvatures must be at most {_MOST_ON_A_LINE}, got {len(h)}: simulate, or ask for fewer")
    lr = checks.number("lr", checks.real(lr), above=0, one=True)
    a, n = 1 - lr * h, len(h)
    whole = a.prod()
    if not abs(whole) < 1:
        raise ValueError(f"curvatures have no stationary law at lr={lr:g}: an epoch multiplies by {whole:.6g}")
    center = (h @ c) / h.sum() if h.sum() else 0.0  # differences to it: no digits are lost
    b = lr * h * (c - center)
    unit = np.abs(b).max() or 1.0  # squares of what is large or small would over- or underflow
    b = b / unit
    nodes, weights = np.polynomial.legendre.leggauss(n // 2 + 1)  # exact up to degree n
    nodes, weights = (nodes + 1) / 2, weights / 2

    late, later = (nodes + (1 - nodes) * power[:, None] for power in (a, a**2))  # (n, nodes)
    first = b @ (_others(late) @ weights)
    second = b**2 @ (_others(later) @ weights)
    # i at s before j at t = s + (1 − s) u: k before both, between, or after both counts 1, aₖ, aₖ²
    s, u = nodes[:, None], nodes[None, :]
    t = s + (1 - s) * u
    three = s + (t - s) * a[:, None, None] + (1 - t) * (a**2)[:, None, None]
    area = weights[:, None] * weights[None, :] * (1 - s)
    for i in range(1, n):
        rest = three[np.arange(n) != i]
        both = (_others(rest)[:i] * area).sum(axis=(1, 2))  # over all but i and the j < i
        second += 2 * b[i] * (b[:i] * (a[:i] + a[i])) @ both
    width = float(unit * np.sqrt(max(second - first**2, 0.0) / (1 - whole**2)))
    if not np.isfinite(width * width):
        raise ValueError(f"targets must lie closer together: the deviation {width:.3g} has no square in 64 bits")
    return float(center + unit * first / (1 - whole)), width * width


def _others(factors: np.ndarray) -> np.ndarray:
    """The product of all rows but one, for each of them; a factor may be zero."""
    one = np.ones_like(factors[:1])
    before, after = np.cumprod([*one, *factors[:-1]], axis=0), np.cumprod([*one, *factors[:0:-1]], axis=0)[::-1]
    return before * after


def _sequences(process: Iteration) -> tuple[list[np.ndarray], np.ndarray]:
    """The minibatches of a period, one array (outcomes, size) for each of its steps, and probabilities."""
    checks.kind("process", process, Iteration)
    if not isinstance(process.noise, FiniteSum | Epochs):
        raise TypeError(f"process must have the noise Epochs or FiniteSum, got {process.noise!r}")
    if process.method.samples > 1 or Iteration(process.landscape, process.method).random:
        raise TypeError(
            f"process must have a method that takes one sample and no random numbers a step, got {process.method!r}"
        )
    if process.ascent == "independent":
        raise ValueError("process must have an ascent that is 'shared' or 'full': two orders at once are too many")
    if isinstance(process.noise, FiniteSum):
        _check_number(number_of_batches(process))
        batches, weights = all_batches(process)
        return [np.asarray(batches)], np.asarray(weights, float)
    return _all_epochs(process)


def _all_epochs(process: Iteration) -> tuple[list[np.ndarray], np.ndarray]:
    noise, n = process.noise, process.landscape.number
    steps, size = noise.steps(n), noise.batch_size
    sizes = [min(size, n - k * size) for k in range(steps)]
    ordered = noise.ascent_size not in (None, size)
    number, left = 1, n
    for one in sizes:
        number *= math.perm(left, one) if ordered else math.comb(left, one)
        left -= one
    _check_number(number)
    choose = itertools.permutations if ordered else itertools.combinations
    rows = [()]
    for one in sizes:
        rows = [(*row, *batch) for row in rows for batch in choose(sorted(set(range(n)) - set(row)), one)]
    table = np.array(rows).reshape(number, -1)
    return np.split(table, np.cumsum(sizes)[:-1], axis=1), np.full(number, 1 / number)


def _check_number(number: int) -> None:
    if number > MOST_OUTCOMES:
        raise ValueError(
            f"process must have at most {MOST_OUTCOMES} different outcomes in a period, this one has {number:,}: take "
            "fewer examples or a larger batch, line_law on a line, or simulate"
        )


def _after(process: Iteration, state: object, batches: tuple) -> object:
    for batch in batches:
        state = process.method.step(process.sample((batch,)), state)
    return state


@eqx.filter_jit
def _ends(process: Iteration, begin: object, sequences: list) -> object:
    return jax.vmap(lambda batches: _after(process, begin, batches))([jnp.asarray(x) for x in sequences])


@eqx.filter_jit
def _affine(process: Iteration, begin: object, sequences: list) -> tuple:
    """A, d of each outcome; whether it is affine, and whether nothing else in the state has changed."""
    whole, zero = whole_from(begin), 0 * as_row(begin)
    other = 1 + jnp.abs(jax.random.normal(jax.random.key(0), zero.shape))

    def one(batches):
        def turn(row):
            state = _after(process, whole(row), batches)
            kept = eqx.filter(state, eqx.is_inexact_array, inverse=True)
            return as_row(state), kept

        shift, kept = turn(zero)
        slope = jax.jacfwd(lambda row: turn(row)[0])(zero)
        there, predicted = turn(other)[0], shift + slope @ other
        straight = (jnp.abs(there - predicted) <= 1e-10 * (1 + jnp.abs(slope) @ other + jnp.abs(shift))).all()
        before = jax.tree.leaves(eqx.filter(begin, eqx.is_inexact_array, inverse=True))
        same = [jnp.all(a == b) for a, b in zip(jax.tree.leaves(kept), before, strict=True)]
        return slope, shift, straight, jnp.all(jnp.array([True, *same]))

    return jax.vmap(one)([jnp.asarray(x) for x in sequences])


__all__ = ["MOST_OUTCOMES", "Outcomes", "PeriodLaw", "line_law", "outcomes", "stationary_law"]
