"""The largest and the smallest eigenvalue of the Hessian, each with its residual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, randomness, records, segments
from flatdyn.core.records import Record, Status
from flatdyn.curvature.krylov import basis_bytes, hessian_product, lanczos, not_finite, ritz
from flatdyn.curvature.points import Loss, placed
from flatdyn.landscapes import Landscape

DENSE = 300  # parameters up to which the whole Hessian is decomposed by default


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum(Record):
    """The two ends of the Hessian's spectrum; see :func:`extreme_eigenvalues`. Pairs are (largest, smallest).

    Attributes:
        largest, smallest: λmax, λmin, shape ()
        residuals: ‖Hv − λv‖ of the pair, v of length 1, but at least the rounding of H, shape (2,): an eigenvalue lies
            within that of λ
        status: CONVERGED, or UNDECIDED where the residual is too large or the starts disagree, shape (2,)
        directions: v of the pair, shape (2, dim)
        starts: the pair from each random start, shape (starts, 2); one row from the dense Hessian
        k: products Hv per start, shape (); dim from the dense Hessian
    """

    largest: np.ndarray
    smallest: np.ndarray
    residuals: np.ndarray
    status: np.ndarray
    directions: np.ndarray
    starts: np.ndarray
    k: np.ndarray
    _form: ClassVar = {
        "largest": "fiu",
        "smallest": "fiu",
        "residuals": "fiu two",
        "status": "iu two",
        "directions": "fiu two dim",
        "starts": "fiu trials two",
        "k": "iu",
    }
    _units: ClassVar = dict.fromkeys(("largest", "smallest", "residuals", "starts"), "curvature") | {
        "directions": "theta",
        "k": "1",
    }

    @property
    def converged(self) -> bool:
        """Whether both ends are."""
        return bool((self.status == Status.CONVERGED).all())

    def __repr__(self) -> str:
        ends = zip(("largest", "smallest"), (self.largest, self.smallest), self.residuals, self.status, strict=True)
        pairs = ", ".join(f"{name} {x:.6g} ± {r:.1e} {Status(int(s)).name.lower()}" for name, x, r, s in ends)
        return f"Spectrum({pairs}, k={self.k})"


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
    progress: bool | None = None,
) -> Spectrum:
    """Largest and smallest eigenvalue of ∇²L(θ), and how far to trust them.

        H v = λ v,   residual r = ‖Hv − λv‖ with ‖v‖ = 1:   some eigenvalue lies in [λ − r, λ + r]

    Lanczos with full reorthogonalisation, from several random starts. The smallest eigenvalue converges long after
    the largest: it sits at the edge of a crowd near zero, and comes out too large, even positive, when k is small.
    So k is doubled, up to `most`, until each end has r ≤ tol · max|λ| from every start and the starts agree within
    2 tol · max|λ|. An eigenvalue that does not get there is UNDECIDED: λmax is then a lower bound, λmin an upper one.

    Args:
        loss: a landscape, or a JAX function of an array (dim,) or a tree
        theta: the point, shape (dim,), or a tree
        k: products Hv per start to begin with, at most dim
        key: of the random starts; `jax.random.key(0)` if not given, for what is converged does not depend on it
        most: largest k; memory is k vectors like θ
        starts: number of random starts
        tol: relative residual that counts as converged; 1e-6, or 1e-3 in single precision, if not given
        method: "dense" (the whole Hessian), "lanczos", or by size: dense up to 300 parameters
        progress: show a bar; if not given, after two seconds
    Returns:
        Spectrum
    Raises:
        ValueError: if an argument does not fit, or the Hessian is not finite at θ
    """
    if key is not None:
        checks.key(key)
    k, most = checks.count("k", k, at_least=2), checks.count("most", most, at_least=2)
    starts = checks.count("starts", starts, at_least=1)
    checks.choice("method", method, (None, "dense", "lanczos"))
    landscape, theta = placed(loss, theta)
    method = method or ("dense" if landscape.dim <= DENSE else "lanczos")
    tol = tolerance(theta.dtype) if tol is None else checks.number("tol", tol, above=0, one=True)
    config = {"loss": records.described(landscape), "method": method, "tol": f"{tol:g}"}
    if method == "dense":
        needed = memory.array_bytes(4, landscape.dim, landscape.dim)
        memory.check_memory(
            needed, "the whole Hessian", 'take another `method`, "lanczos", which needs its products alone'
        )
        vectors, values, residuals = (part[None] for part in _dense_ends(landscape, theta))
        k = landscape.dim
    else:
        key = jax.random.key(0) if key is None else key
        needed = memory.array_bytes(5, starts, landscape.dim, itemsize=theta.dtype.itemsize)
        memory.check_memory(needed, "the starts and directions", "take fewer `starts`")
        begins = randomness.drawn(jax.random.normal, key, (starts, landscape.dim), dtype=theta.dtype)
        k = min(k, landscape.dim)
        with segments.progress_bar(0, "products", progress) as bar:
            while True:
                basis = basis_bytes(landscape.dim, k, theta.dtype)
                remedy = "ask for fewer products, with a smaller `k` and `most`"
                memory.check_memory(0, f"the basis of {k} vectors", remedy, device=basis)
                ends = [_lanczos_ends(landscape, theta, begin, k, bar) for begin in begins]
                vectors, values, residuals = (np.stack(part) for part in zip(*ends, strict=True))
                larger = min(2 * k, landscape.dim)
                if larger == k or larger > most or _settled(values, residuals, tol).all():
                    break
                k = larger
    status = np.where(_settled(values, residuals, tol), Status.CONVERGED, Status.UNDECIDED).astype(np.int8)
    best = np.array([values[:, 0].argmax(), values[:, 1].argmin()])
    rounding = float(jnp.finfo(theta.dtype).eps) * np.abs(values).max()
    return Spectrum(
        config=config,
        provenance=records.provenance(),
        largest=values[best[0], 0],
        smallest=values[best[1], 1],
        residuals=np.maximum(residuals[best, [0, 1]], rounding),
        status=status,
        directions=vectors[best, [0, 1]],
        starts=values,
        k=np.asarray(k),
    )


# --- the parts ------------------------------------------------------------------------------------------------


def tolerance(dtype: Any) -> float:
    """What counts as converged in numbers of a type, if the user does not say it."""
    return 1e-6 if dtype == jnp.float64 else 1e-3


def _dense_ends(landscape: Landscape, theta: jax.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hessian = np.asarray(landscape.hessian(theta), dtype=float)
    if not np.isfinite(hessian).all():
        raise not_finite(landscape)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    values, vectors = values[[-1, 0]], vectors[:, [-1, 0]]
    return vectors.T, values, np.linalg.norm(hessian @ vectors - vectors * values, axis=0)


def _lanczos_ends(landscape: Landscape, theta: jax.Array, start: jax.Array, k: int, bar: Any) -> tuple[np.ndarray, ...]:
    """(directions, values, residuals) of the largest and the smallest eigenvalue seen from one start."""
    basis, diagonal, beside, steps = lanczos(landscape, theta, start, k, bar)
    if not np.isfinite(np.asarray(diagonal)).all():
        raise not_finite(landscape)
    values, small = ritz(diagonal, beside, int(steps))
    combined = np.zeros((2, k))
    combined[:, : len(values)] = small[:, [-1, 0]].T
    vectors, products = _along(landscape, theta, basis, jnp.asarray(combined, theta.dtype))
    vectors, products, values = np.asarray(vectors), np.asarray(products), values[[-1, 0]]
    scale = np.abs(values).max() or 1.0  # so that squares do not underflow
    return vectors, values, scale * np.linalg.norm((products - values[:, None] * vectors) / scale, axis=1)


@eqx.filter_jit
def _along(landscape: Landscape, theta: jax.Array, basis: jax.Array, combined: jax.Array) -> tuple[jax.Array, ...]:
    """Vectors of length 1 from their coefficients in the basis, and their products with the Hessian."""
    vectors = combined @ basis
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, jax.lax.map(lambda v: hessian_product(landscape, theta, v), vectors)


def _settled(values: np.ndarray, residuals: np.ndarray, tol: float) -> np.ndarray:
    """Which of the two ends have small residuals from all starts, which agree; arguments (starts, 2)."""
    scale = tol * np.abs(values).max()
    return (residuals <= scale).all(axis=0) & (np.ptp(values, axis=0) <= 2 * scale)
