"""Eigenvalues of the Hessian: the largest and the smallest, each with its residual, and the density of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from matfree import decomp

from flatdyn import checks, records
from flatdyn.curvature.places import Loss, placed
from flatdyn.landscapes import Landscape
from flatdyn.records import Record, Status

DENSE = 300  # parameters up to which the whole Hessian is decomposed unless told otherwise


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Record):
    """The two ends of the Hessian's spectrum; see :func:`extreme_eigenvalues`. Pairs are (largest, smallest).

    Attributes:
        largest, smallest: λmax, λmin, shape ()
        residuals: ‖Hv − λv‖ of the pair, v of length 1, shape (2,): an eigenvalue lies within that of λ
        status: CONVERGED, or UNDECIDED where the residual is too large or the starts disagree, shape (2,)
        directions: v of the pair, shape (2, dim)
        starts: the pair as each random start found it, shape (starts, 2); one row from the dense Hessian
        k: products Hv per start, shape (); dim from the dense Hessian
    """

    largest: np.ndarray
    smallest: np.ndarray
    residuals: np.ndarray
    status: np.ndarray
    directions: np.ndarray
    starts: np.ndarray
    k: np.ndarray

    @property
    def converged(self) -> bool:
        """Whether both ends are."""
        return bool((self.status == Status.CONVERGED).all())

    def __repr__(self) -> str:
        ends = zip(("largest", "smallest"), (self.largest, self.smallest), self.residuals, self.status, strict=True)
        told = ", ".join(f"{name} {x:.6g} ± {r:.1e} {Status(int(s)).name.lower()}" for name, x, r, s in ends)
        return f"Spectrum({told}, k={self.k})"


def extreme_eigenvalues(
    loss: Loss,
    theta: Any,
    k: int = 40,
    key: jax.Array | None = None,
    *,
    most: int = 320,
    starts: int = 2,
    tol: float | None = None,
    method: str | None = None,
) -> Spectrum:
    """Largest and smallest eigenvalue of ∇²L(θ), and how far to trust them.

        H v = λ v,   residual r = ‖Hv − λv‖ with ‖v‖ = 1:   some eigenvalue lies in [λ − r, λ + r]

    Lanczos with full reorthogonalisation, from several random starts. The smallest eigenvalue converges long after
    the largest: it sits at the edge of a crowd near zero, and comes out too large, even positive, when k is small.
    So k is doubled, up to `most`, until each end has r ≤ tol · max|λ| from every start and the starts agree within
    2 tol · max|λ|. What does not get there is UNDECIDED: λmax found is then a lower, λmin an upper bound.

    Args:
        loss: a landscape, or a JAX function of an array (dim,) or a tree
        theta: the point, shape (dim,), or a tree
        k: products Hv per start to begin with, at most dim
        key: of the random starts; `jax.random.key(0)` if not given, for what is converged does not depend on it
        most: largest k; memory is k vectors like θ
        starts: number of random starts
        tol: relative residual that counts as converged; 1e-6, or 1e-3 in single precision, if not given
        method: "dense" (the whole Hessian), "lanczos", or by size: dense up to 300 parameters
    Returns:
        Spectrum
    Raises:
        ValueError: if an argument does not fit, or the Hessian is not finite at θ
    """
    k, most = checks.count("k", k, at_least=2), checks.count("most", most, at_least=2)
    starts = checks.count("starts", starts, at_least=1)
    if method not in (None, "dense", "lanczos"):
        raise ValueError(f'method must be "dense", "lanczos" or None, got {method!r}')
    landscape, theta = placed(loss, theta)
    method = method or ("dense" if landscape.dim <= DENSE else "lanczos")
    tol = _tolerance(theta.dtype) if tol is None else checks.number("tol", tol, above=0)
    config = {"loss": records.described(landscape), "method": method, "tol": f"{tol:g}"}
    if method == "dense":
        vectors, values, residuals = (part[None] for part in _dense_ends(landscape, theta))
        k = landscape.dim
    else:
        key = jax.random.key(0) if key is None else key
        begins = jax.random.normal(key, (starts, landscape.dim), theta.dtype)
        k = min(k, landscape.dim)
        while True:
            found = [_lanczos_ends(landscape, theta, begin, k) for begin in begins]
            vectors, values, residuals = (np.stack(part) for part in zip(*found, strict=True))
            larger = min(2 * k, landscape.dim)
            if larger == k or larger > most or _settled(values, residuals, tol).all():
                break
            k = larger
    status = np.where(_settled(values, residuals, tol), Status.CONVERGED, Status.UNDECIDED).astype(np.int8)
    best = np.array([values[:, 0].argmax(), values[:, 1].argmin()])
    return Spectrum(
        config=config,
        provenance=records.provenance(),
        largest=values[best[0], 0],
        smallest=values[best[1], 1],
        residuals=residuals[best, [0, 1]],
        status=status,
        directions=vectors[best, [0, 1]],
        starts=values,
        k=np.asarray(k),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Density(Record):
    """Where the Hessian's eigenvalues are; see :func:`density`.

    Attributes:
        nodes: quadrature nodes of each probe, shape (probes, k)
        weights: their weights, which sum to 1 over a probe, shape (probes, k)
        dim: number of eigenvalues, shape ()
    """

    nodes: np.ndarray
    weights: np.ndarray
    dim: np.ndarray

    def mean(self, function: Any) -> tuple[np.ndarray, np.ndarray]:
        """(1/dim) Σᵢ f(λᵢ) with its standard error over the probes; f maps (n,) to (n,) or (..., n)."""
        each = np.stack([np.sum(function(x) * w, axis=-1) for x, w in zip(self.nodes, self.weights, strict=True)])
        return each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(len(each))

    @property
    def trace(self) -> tuple[float, float]:
        """tr H with its standard error."""
        return self.moment(1)

    def moment(self, power: int) -> tuple[float, float]:
        """tr Hᵖ with its standard error over the probes."""
        value, error = self.mean(lambda x: x**power)
        return float(self.dim * value), float(self.dim * error)

    def smoothed(self, grid: Any, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Density of eigenvalues at the points `grid`, seen through a Gaussian of standard deviation `width`.

            φ(x) = (1/dim) Σᵢ N(x; λᵢ, width²)

        Returns:
            φ and its standard error over the probes, shapes of grid; in inverse units of λ
        """
        checks.number("width", width, above=0)
        grid = np.asarray(grid, dtype=float)
        scale = np.sqrt(2 * np.pi) * width
        return self.mean(lambda x: np.exp(-(((grid[..., None] - x) / width) ** 2) / 2) / scale)

    def __repr__(self) -> str:
        return f"Density({len(self.nodes)} probes, trace {self.trace[0]:.4g} ± {self.trace[1]:.1g})"


def density(loss: Loss, theta: Any, key: jax.Array, k: int = 40, probes: int = 20) -> Density:
    """Density of the eigenvalues of ∇²L(θ) by stochastic Lanczos quadrature.

        (1/dim) Σᵢ f(λᵢ) = E[zᵀ f(H) z]/dim ≈ mean over probes z of Σⱼ wⱼ f(xⱼ),   z random signs

    Nodes xⱼ and weights wⱼ are those of Gauss quadrature after k Lanczos steps from z: exact for polynomials f up to
    degree 2k − 1, so the trace is in error by its probes alone. With 20 probes errors of 10 % are usual.

    Args:
        loss: a landscape, or a JAX function of an array (dim,) or a tree
        theta: the point, shape (dim,), or a tree
        key: a JAX key
        k: products Hz per probe, at most dim
        probes: number of probes, at least 2 for an error
    Returns:
        Density, with moments and their errors
    Raises:
        ValueError: if an argument does not fit, or the Hessian is not finite at θ
    References:
        Ubaru, Chen, Saad, SIAM J. Matrix Anal. Appl. 38, 1075 (2017); Ghorbani, Krishnan, Xiao, arXiv 1901.10159.
    """
    probes = checks.count("probes", probes, at_least=2)
    landscape, theta = placed(loss, theta)
    k = min(checks.count("k", k, at_least=1), landscape.dim)
    signs = jax.random.rademacher(key, (probes, landscape.dim), theta.dtype)
    nodes, weights = np.zeros((2, probes, k))
    for probe, (diagonal, beside) in enumerate(
        zip(*map(np.asarray, _tridiagonals(landscape, theta, signs, k)), strict=True)
    ):
        x, vectors = _ritz(diagonal, beside)
        nodes[probe, : len(x)], weights[probe, : len(x)] = x, vectors[0] ** 2
    config = {"loss": records.described(landscape), "k": str(k), "probes": str(probes)}
    return Density(config, records.provenance(), nodes=nodes, weights=weights, dim=np.asarray(landscape.dim))


def hessian_product(landscape: Landscape, theta: jax.Array, vector: jax.Array) -> jax.Array:
    """The Hessian times a vector, without the Hessian: for compiled code.

        ∇²L(θ) v = d/dt ∇L(θ + t v) at t = 0,   forward over reverse

    Args:
        landscape: L
        theta: θ, shape (dim,)
        vector: v, shape (dim,)
    Returns:
        array (dim,); the cost is about that of two gradients
    References:
        Pearlmutter, Neural Computation 6, 147 (1994).
    """
    return jax.jvp(landscape.grad, (theta,), (vector,))[1]


# --- the parts ------------------------------------------------------------------------------------------------


def _tolerance(dtype: Any) -> float:
    return 1e-6 if dtype == jnp.float64 else 1e-3


def _dense_ends(landscape: Landscape, theta: jax.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hessian = np.asarray(landscape.hessian(theta), dtype=float)
    if not np.isfinite(hessian).all():
        raise _not_finite(landscape)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    values, vectors = values[[-1, 0]], vectors[:, [-1, 0]]
    return vectors.T, values, np.linalg.norm(hessian @ vectors - vectors * values, axis=0)


def _lanczos_ends(landscape: Landscape, theta: jax.Array, start: jax.Array, k: int) -> tuple[np.ndarray, ...]:
    """(directions, values, residuals) of the largest and the smallest eigenvalue seen from one start."""
    basis, diagonal, beside = _lanczos(landscape, theta, start, k)
    values, small = _ritz(np.asarray(diagonal), np.asarray(beside))
    combined = np.zeros((2, k))
    combined[:, : len(values)] = small[:, [-1, 0]].T
    vectors, products = _along(landscape, theta, basis, jnp.asarray(combined, theta.dtype))
    vectors, products, values = np.asarray(vectors), np.asarray(products), values[[-1, 0]]
    return vectors, values, np.linalg.norm(products - values[:, None] * vectors, axis=1)


@eqx.filter_jit
def _lanczos(landscape: Landscape, theta: jax.Array, start: jax.Array, k: int) -> tuple[jax.Array, ...]:
    """Basis (k, dim), diagonal (k,) and off-diagonal (k − 1,) of the Hessian's tridiagonal form."""
    decompose = decomp.tridiag_sym(k, reortho="full", materialize=False, custom_vjp=False)
    basis, (diagonal, beside), *_ = decompose(lambda v: hessian_product(landscape, theta, v), start)
    return basis, diagonal, beside


@eqx.filter_jit
def _tridiagonals(landscape: Landscape, theta: jax.Array, starts: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Diagonals (starts, k) and off-diagonals (starts, k − 1), one start after the other to spare memory."""
    return jax.lax.map(lambda start: _lanczos(landscape, theta, start, k)[1:], starts)


@eqx.filter_jit
def _along(landscape: Landscape, theta: jax.Array, basis: jax.Array, combined: jax.Array) -> tuple[jax.Array, ...]:
    """Vectors of length 1 from their coefficients in the basis, and their products with the Hessian."""
    # A basis that ended early goes on as NaN, with coefficient 0
    vectors = combined @ jnp.where(jnp.isfinite(basis), basis, 0)
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, jax.lax.map(lambda v: hessian_product(landscape, theta, v), vectors)


def _ritz(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors (columns) of the tridiagonal matrix, as far as the Lanczos basis went.

    Where H maps the basis so far to itself the next vector is made of rounding, or is 0/0: what came before is exact.
    """
    sizes = np.abs(diagonal)
    sizes[1:] = np.maximum(sizes[1:], np.abs(beside))
    rounding = 100 * np.finfo(diagonal.dtype).eps * np.maximum.accumulate(sizes)
    ended = ~np.isfinite(diagonal)
    ended[1:] |= ~(np.abs(beside) > rounding[:-1])
    length = np.append(np.flatnonzero(ended), len(diagonal))[0]
    if length == 0:
        raise ValueError("the Hessian is not finite at theta")
    return scipy.linalg.eigh_tridiagonal(diagonal[:length].astype(float), beside[: length - 1].astype(float))


def _settled(values: np.ndarray, residuals: np.ndarray, tol: float) -> np.ndarray:
    """Which of the two ends have small residuals from all starts, which agree; arguments (starts, 2)."""
    scale = tol * np.abs(values).max()
    return (residuals <= scale).all(axis=0) & (np.ptp(values, axis=0) <= 2 * scale)


def _not_finite(landscape: Landscape) -> ValueError:
    return ValueError(f"the Hessian of {landscape.name} is not finite at theta")
