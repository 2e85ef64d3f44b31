"""Where E‖θ‖² stops shrinking: the second-moment recursion of a step whose noise is multiplied by θ.

    s⁺ = A(ξ) s + e(ξ),   P = E s sᵀ:   P⁺ = E[A(ξ) P A(ξ)ᵀ] + what holds it up

A(ξ) is the method's linear step with the Hessian of a minibatch. Where it is linear in the Hessian (GD, with any
momentum) the expectation is a sum over single examples, and else over all minibatches. Of normal noise S(θ) ξ it takes
what is quadratic in the covariance Σ(θ) = S Sᵀ, so that the recursion is exact where Σ is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy

from flatdyn.core import checks, memory
from flatdyn.noise import FiniteSum, Normal
from flatdyn.processes import Iteration
from flatdyn.processes.batches import MOST_BATCHES, all_batches, number_of_batches
from flatdyn.stability.responses import ROUNDING, Response

_DENSE = 20  # numbers in a state up to which the recursion of their second moments is one matrix
_TRIED, _OCTAVES = 81, 20  # factors of the Hessian below that of the noiseless edge
_REACH = 1e-3  # of the differences that find how noise grows


def edge(
    process: Iteration, response: Response, at: np.ndarray, hessian: np.ndarray, top: float, without: float
) -> float:
    """The sharpness at which the largest multiplier of the second moments passes 1, from below.

    Args:
        process: a method on a landscape, under noise
        response: its linear step, without noise
        at: the point, shape (dim,)
        hessian: H there
        top: its largest eigenvalue
        without: the edge without noise, which that with noise can't exceed
    """
    step = _steps(process, response, at, hessian)

    def radius(factor: float) -> float:
        return _radius(step(factor))

    limit = without / top
    tried = limit * 2.0 ** np.linspace(-_OCTAVES, 0, _TRIED)
    low = 0.0
    for high in tried:
        if radius(high) > 1 + ROUNDING:
            break
        low = high
    else:
        return without
    if low == 0.0:
        raise ValueError(f"there is no edge under {process.noise!r}: E‖θ‖² grows at every sharpness")
    # A direction without curvature keeps its multiplier 1 at every factor, but for rounding: it is to be passed
    flat = min(max(1e-13, 2 * (radius(low) - 1)), (radius(high) - 1) / 2)
    root = scipy.optimize.brentq(lambda f: radius(f) - 1 - flat, low, high, xtol=1e-15 * high, rtol=1e-13)
    return float(root) * top


class _Step(NamedTuple):
    """P⁺ = Σ w F P Fᵀ + G Σ₂(P) Gᵀ.

    Attributes:
        matrices, weights: F, shape (number, size, size), and w
        gain: G, what a gradient adds to the state, shape (size, dim); None without normal noise
        growth: Σ₂, shape (dim, dim, dim, dim): Σ(θ* + u) = Σ(θ*) + … + Σ₂ u uᵀ, in its last two
    """

    matrices: np.ndarray
    weights: np.ndarray
    gain: np.ndarray | None = None
    growth: np.ndarray | None = None


def _steps(process: Iteration, response: Response, at: np.ndarray, hessian: np.ndarray) -> Callable[[float], _Step]:
    """The recursion by a factor of the loss, noise included."""
    noise = process.noise
    if process.method.samples > 1 or noise.remembers or process.ascent != "shared":
        raise TypeError(
            f"the mean-square edge is that of one sample a step, independent of others: take FiniteSum, got {noise!r}"
        )
    if isinstance(noise, FiniteSum):
        return _of_minibatches(process, response, at, hessian)
    if not isinstance(noise, Normal):
        raise TypeError(f"the mean-square edge needs FiniteSum or normal noise, got {noise!r}")
    growth = _growth(process, at, hessian)
    nudges = np.eye(process.dim)[:, :, None] * np.eye(process.dim)[0]  # of the slope along the first coordinate
    if not _is_linear(response, hessian, nudges):
        raise TypeError(
            f"the step of {type(process.method).__name__} is not linear in the gradient's noise, and its mean square "
            "under normal noise is not known: take FiniteSum, or GD"
        )

    def step(factor):
        own = response.matrices(factor * hessian[None])
        gain = (response.matrices(factor * hessian + nudges) - own)[:, :, 0].T
        return _Step(own, np.ones(1), factor * gain, growth)

    return step


def _of_minibatches(process: Iteration, response: Response, at: np.ndarray, hessian: np.ndarray) -> Callable:
    noise, landscape = process.noise, process.landscape
    if noise.parts(np.zeros(noise.batch_size, int)) is not None:
        raise TypeError("the mean-square edge is that of ascents that share their minibatch: leave out ascent_size")
    number, size = landscape.number, noise.batch_size
    needed = memory.array_bytes(2, number, *hessian.shape) + memory.array_bytes(number, response.size, response.size)
    memory.check_memory(needed, "the Hessians of the examples", "ask for a `landscape` of fewer examples")
    each = np.asarray(_hessians(landscape, jnp.asarray(at)), float)
    if not np.isfinite(each).all():
        raise ValueError(f"at must be a point where the Hessians of all examples are finite, got {checks.shown(at)}")
    aside = each - hessian
    if _is_linear(response, hessian, aside):
        share = 1 / size if noise.replace or number == 1 else (number - size) / (number - 1) / size

        def step(factor):
            own = response.matrices(factor * hessian[None])
            more = response.matrices(factor * each) - own
            return _Step(np.concatenate([own, more]), np.append(1.0, np.full(number, share / number)))

        return step
    if number_of_batches(process) > MOST_BATCHES:
        raise TypeError(
            f"the mean square of this step is a sum over all minibatches, here {number_of_batches(process):,}, and "
            f"more than {MOST_BATCHES} are too many: take a smaller batch or fewer examples"
        )
    batches, chances = (np.asarray(x) for x in all_batches(process))
    means = each[batches].mean(axis=1)
    return lambda factor: _Step(response.matrices(factor * means), chances)


def _is_linear(response: Response, hessian: np.ndarray, aside: np.ndarray) -> bool:
    """Whether A(H) is linear, but for a constant, in the Hessians that occur."""
    if not len(aside):
        return True
    unit = response.unit(hessian)
    pair = unit * np.stack([hessian, hessian + aside[0], hessian - aside[0], 2 * hessian, 0 * hessian])
    here, up, down, twice, none = response.matrices(pair)
    size = 1e-9 * (1 + np.abs(pair[1:3] * unit).max() + np.abs([up, down]).max())
    return bool(np.abs(up + down - 2 * here).max() <= size and np.abs(twice + none - 2 * here).max() <= size)


def _radius(step: _Step) -> float:
    """The largest multiplier of the recursion; it has a positive semidefinite P, and is real."""
    matrices, weights, gain, growth = step
    size = matrices.shape[1]
    if size <= _DENSE:
        whole = np.einsum("n,nij,nkl->ikjl", weights, matrices, matrices, optimize=True)
        if growth is not None:
            dim = gain.shape[1]
            whole[:, :, :dim, :dim] += np.einsum("ia,kb,abjl->ikjl", gain, gain, growth, optimize=True)
        return float(np.abs(np.linalg.eigvals(whole.reshape(size**2, size**2))).max())

    def after(P):
        P = P.reshape(size, size)
        new = np.einsum("n,nij,nkj->ik", weights, matrices @ P, matrices, optimize=True)
        if growth is not None:
            dim = gain.shape[1]
            new = new + gain @ np.tensordot(growth, P[:dim, :dim]) @ gain.T
        return new.ravel()

    operator = scipy.sparse.linalg.LinearOperator((size**2, size**2), matvec=after, dtype=float)
    start = np.eye(size).ravel()
    return float(np.abs(scipy.sparse.linalg.eigs(operator, 1, v0=start, tol=1e-12, return_eigenvectors=False)[0]))


@eqx.filter_jit
def _hessians(landscape, at):
    """The Hessian of each example."""
    return jax.lax.map(lambda i: landscape.batch(i[None]).hessian(at), jnp.arange(landscape.number))


def _growth(process: Iteration, at: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Σ₂ of the noise at a point, by differences: they are exact where Σ is quadratic, and Σ = S Sᵀ may be smooth where
    S is not, as that of noise whose size goes with the loss's root."""
    dim = process.dim
    needed = memory.array_bytes(4, dim, dim, dim, dim)
    memory.check_memory(needed, "the growth of the noise", "ask for a `landscape` of fewer coordinates")
    first, second = np.triu_indices(dim)
    sums, axes = np.eye(dim)[first] + np.eye(dim)[second], np.eye(dim)
    reach = _REACH * (1 + np.abs(at).max())
    directions = np.concatenate([axes, sums])
    places = at + reach * np.concatenate([np.zeros((1, dim)), directions, -directions])
    covariances = np.asarray(_covariances(process, jnp.asarray(places)), float)
    if not np.isfinite(covariances).all():
        raise ValueError(f"at must be a point beside which the noise is finite, got {checks.shown(at)}")
    up, down = np.split(covariances[1:], 2)
    along = (up + down - 2 * covariances[0]) / (2 * reach**2)  # Σ₂ of each direction
    single, pairs = along[:dim], along[dim:]
    growth = np.zeros((dim, dim, dim, dim))
    mixed = (pairs - single[first] - single[second]) / 2
    growth[:, :, first, second] = growth[:, :, second, first] = np.moveaxis(mixed, 0, -1)
    return growth


@eqx.filter_jit
def _covariances(process, places):
    def covariance(theta):
        factor = process.noise.factor(process.landscape, process.landscape.vector(theta))
        return factor @ factor.T

    return jax.lax.map(covariance, places)
