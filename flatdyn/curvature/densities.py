"""The density of the Hessian's eigenvalues, and means over all of them, from products with random vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from flatdyn.core import checks, memory, randomness, records, segments
from flatdyn.core.records import Record
from flatdyn.core.statistics import mean_sem_of
from flatdyn.curvature.krylov import basis_bytes, lanczos, not_finite, ritz
from flatdyn.curvature.points import Loss, placed


@dataclass(frozen=True, eq=False, repr=False)
class Density(Record):
    """Where the Hessian's eigenvalues are; see :func:`density`.

    A probe that needs fewer nodes than k repeats its largest with weight 0.

    Attributes:
        nodes: quadrature nodes of each probe, none outside the spectrum, shape (probes, k)
        weights: their weights, which sum to 1 over a probe, shape (probes, k)
        coarser_nodes, coarser_weights: the same after k/3 and after k − 1 steps, shape (2, probes, k): what changes
            is the error of the quadrature. For k = 1 there are none, shape (0, probes, k)
        exact: whether the probe's quadrature has no error, as it knows all eigenvalues in it, shape (probes,)
        dim: number of eigenvalues, shape ()
    """

    nodes: np.ndarray
    weights: np.ndarray
    coarser_nodes: np.ndarray
    coarser_weights: np.ndarray
    exact: np.ndarray
    dim: np.ndarray
    _form: ClassVar = {
        "nodes": "fiu probes k",
        "weights": "fiu probes k",
        "coarser_nodes": "fiu coarser probes k",
        "coarser_weights": "fiu coarser probes k",
        "exact": "b probes",
        "dim": "iu",
    }
    _units: ClassVar = dict.fromkeys(("nodes", "coarser_nodes"), "curvature") | {
        **dict.fromkeys(("weights", "coarser_weights", "dim"), "1")
    }

    def mean(self, function: Callable) -> tuple[np.ndarray, np.ndarray]:
        """(1/dim) Σᵢ f(λᵢ) with its standard error; f maps (n,) to (n,) or (..., n).

            error² = (error of the mean over the probes)² + (error of the quadrature)²

        The second is the larger of what changes with a third of the nodes and with one less. It is an estimate: a
        kink or a step of f that no node has passed, as that of |λ| in a crowd around 0, it does not see. It is 0
        where every probe knows all its eigenvalues, and infinite where k = 1 says nothing about it. The first, from
        n probes, has n − 1 degrees of freedom: for 95 % take 2.1 errors with 20 probes, but 2.8 with 5, 12.7 with 2.
        An eigenvalue 0 comes out as the rounding of the largest one: log |λ| is then a large number, not infinite.
        """
        with np.errstate(all="ignore"):  # also at nodes without weight, where it may be infinite
            checks.answers("function", function, self.nodes[0], many=True)
        return self._mean(function, polynomial=False)

    @property
    def trace(self) -> tuple[float, float]:
        """tr H with its standard error."""
        return self.moment(1)

    def moment(self, power: int) -> tuple[float, float]:
        """tr Hᵖ with its standard error; that of the quadrature is 0 for p ≤ 2k − 1."""
        power = checks.count("power", power, at_most=2**31 - 1)
        value, error = self._mean(lambda x: x**power, polynomial=power < 2 * self.nodes.shape[1])
        return float(self.dim * value), float(self.dim * error)

    def smoothed(self, grid: Any, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Density of eigenvalues at the points `grid`, seen through a Gaussian of standard deviation `width`.

            φ(x) = (1/dim) Σᵢ N(x; λᵢ, width²)

        Returns:
            φ and its standard error, shapes of grid; in inverse units of λ
        """
        grid = checks.numbers("grid", grid)
        width = checks.number("width", width, above=0, one=True)
        grid = np.asarray(grid, dtype=float)
        scale = np.sqrt(2 * np.pi) * width

        def bell(x):
            with np.errstate(over="ignore"):  # so many widths away that nothing is left
                return np.exp(-(((grid[..., None] - x) / width) ** 2) / 2) / scale

        return self.mean(bell)

    def __repr__(self) -> str:
        return f"Density({len(self.nodes)} probes, trace {self.trace[0]:.4g} ± {self.trace[1]:.1g})"

    def _mean(self, function: Callable, polynomial: bool) -> tuple[np.ndarray, np.ndarray]:
        each = _quadrature(function, self.nodes, self.weights)
        value, error = each.mean(axis=0), _error(each)
        if polynomial or self.exact.all():
            return value, error
        if not len(self.coarser_nodes):
            return value, np.full_like(value, np.inf)
        rules = zip(self.coarser_nodes, self.coarser_weights, strict=True)
        with np.errstate(invalid="ignore"):
            changes = [np.abs(value - _quadrature(function, *rule).mean(axis=0)) for rule in rules]
        return value, np.hypot(error, np.max(changes, axis=0))


def density(
    loss: Loss, theta: Any, key: jax.Array, k: int = 40, probes: int = 20, *, progress: bool | None = None
) -> Density:
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
        progress: show a bar; if not given, after two seconds
    Returns:
        Density, with moments and their errors
    Raises:
        ValueError: if an argument does not fit, or the Hessian is not finite at θ
    References:
        Ubaru, Chen, Saad, SIAM J. Matrix Anal. Appl. 38, 1075 (2017); Ghorbani, Krishnan, Xiao, arXiv 1901.10159.
    """
    checks.key(key)
    probes = checks.count("probes", probes, at_least=2)
    landscape, theta = placed(loss, theta)
    k = min(checks.count("k", k, at_least=1), landscape.dim)
    needed = memory.array_bytes(2, probes, landscape.dim, itemsize=theta.dtype.itemsize)
    nodes = memory.array_bytes(10, probes, k)
    memory.check_memory(nodes, "the probes and their nodes", "take fewer `probes`", device=needed)
    basis = basis_bytes(landscape.dim, k, theta.dtype)
    memory.check_memory(0, "the basis of a probe", "ask for fewer products, with a smaller `k`", device=basis)
    signs = _signs(key, probes, landscape.dim, theta.dtype)
    with segments.progress_bar(probes * k, "products", progress) as bar:
        starts = map(jax.device_put, signs)
        each = [tuple(map(np.asarray, lanczos(landscape, theta, start, k, bar)[1:])) for start in starts]
    forms = [np.stack(part) for part in zip(*each, strict=True)]
    if not np.isfinite(forms[0]).all():
        raise not_finite(landscape)
    nodes, weights = _rule(*forms, k)
    coarser = [_rule(*forms, fewer) for fewer in (max(1, (k + 1) // 3), k - 1)] if k > 1 else []
    steps, complete = forms[2], forms[1][:, -1] == 0
    config = {"loss": records.described(landscape), "k": str(k), "probes": str(probes)}
    return Density(
        config=config,
        provenance=records.provenance(),
        nodes=nodes,
        weights=weights,
        coarser_nodes=np.array([rule[0] for rule in coarser]).reshape(-1, probes, k),
        coarser_weights=np.array([rule[1] for rule in coarser]).reshape(-1, probes, k),
        exact=(steps < k) | complete,
        dim=np.asarray(landscape.dim),
    )


def _signs(key: jax.Array, probes: int, dim: int, dtype: Any) -> np.ndarray:
    """Random signs (probes, dim), not all the same up to the sign of a row: those would agree, and be in error by 0.

    What is left out is the same after any change of signs of a coordinate, so that each row alone stays random signs.
    """
    while True:
        signs = np.asarray(randomness.drawn(jax.random.rademacher, key, (probes, dim), dtype=dtype))
        if dim == 1 or (signs * signs[:, :1] != signs[0] * signs[0, 0]).any():
            return signs
        key = jax.random.fold_in(key, 0)


def _rule(diagonals: np.ndarray, beside: np.ndarray, steps: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (probes, k) after `most` steps at most."""
    nodes, weights = np.zeros((2, *diagonals.shape))
    for probe, (diagonal, off, there) in enumerate(zip(diagonals, beside, np.minimum(steps, most), strict=True)):
        x, vectors = ritz(diagonal, off, int(there))
        nodes[probe], weights[probe, :there] = np.append(x, np.full(len(diagonal) - there, x[-1])), vectors[0] ** 2
    return nodes, weights


def _quadrature(function: Callable, nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σⱼ wⱼ f(xⱼ) of each probe, over the nodes that weigh something: 0 times an infinite f is not a number."""
    pairs = [(x[w > 0], w[w > 0]) for x, w in zip(nodes, weights, strict=True)]
    integrals = np.stack([np.sum(function(x) * w, axis=-1) for x, w in pairs])
    if np.isnan(integrals).any():
        raise ValueError("function must have a value at every eigenvalue, got NaN")
    return integrals


def _error(each: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the probes, 0 where all are the same; infinite or NaN where they are not finite.

    An f may be infinite at an eigenvalue, as log |λ| is at 0. Squares are taken on the scale of the values.
    """
    scale = np.abs(each).max(axis=0)
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1)
    with np.errstate(invalid="ignore"):
        error = scale * mean_sem_of(each / scale)[1]
    return np.where((each == each[0]).all(axis=0), 0.0, error)
