"""Constraints given by equations whose multipliers are computed by iteration: orthogonal matrices, any smooth g."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.methods.constraints.base import Constraint

SWEEPS = 200  # after which an iteration has not converged


class Orthogonal(Constraint):
    """Orthonormal columns of a matrix; orthonormal rows if it has more columns than rows.

        WᵀW = I,   tangential: P with WᵀP + PᵀW = 0

    A(t) is RATTLE. With D = t P, A = WᵀD and the multiplier Λ = Z − A − I, W⁺ = W + D + W Λ has orthonormal columns if

        ZᵀZ = I − DᵀD − A²,   solved by   Z ← Z − ½ (ZᵀZ − I + DᵀD + A²)   from   Z = I + A

    which is the iteration W⁺ ← W⁺ − ½ W (W⁺ᵀW⁺ − I) of the references, in d × d numbers, run until it has converged.
    It contracts by about ‖D‖ a sweep. The law that is sampled is relative to the invariant (Haar) measure.

    Args:
        shape: (n, d) of a matrix that is kept as an array of another shape, such as coordinates (n d,); if not given
            the array is the matrix
    Raises:
        ValueError: if the shape is not two whole numbers ≥ 1
    """

    shape: tuple[int, int] | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.shape is not None and (not isinstance(self.shape, tuple) or len(self.shape) != 2):
            raise ValueError(f"shape must be a pair (rows, columns), got {self.shape!r}")
        for side in self.shape or ():
            checks.count("shape", side, at_least=1)

    @property
    def core(self):
        return "(n,d)" if self.shape is None else "(d)"

    def check(self, shape):
        if self.shape is None and len(shape) != 2:
            raise ValueError(
                f"Orthogonal() needs a matrix, got an array of shape {tuple(shape)}: say its form, such as "
                "Orthogonal(shape=(4, 2)) on 8 coordinates"
            )
        wanted = self.shape or shape
        if np.prod(wanted) != np.prod(shape):
            raise ValueError(f"Orthogonal(shape={wanted}) does not fit an array of shape {tuple(shape)}")
        if np.prod(wanted) < 2:
            raise ValueError("Orthogonal needs a matrix of at least 2 entries: one entry could only be 1 or −1")

    def lift(self, array, slack=None):
        matrix = array.reshape(self.shape or array.shape)
        return matrix.T if matrix.shape[0] < matrix.shape[1] else matrix

    def lower(self, x, shape):
        rows, columns = self.shape or shape
        return (x.T if rows < columns else x).reshape(shape)

    def vector(self, *parts):
        return self.lift(parts[0])

    def tangent(self, x, p):
        inner = _dot(x.T, p)
        return p - _dot(x, inner + inner.T) / 2

    def shake(self, x, d):
        skew = _dot(x.T, d)
        target = _identity(x) - _dot(d.T, d) - _dot(skew, skew)
        z, ok = _settled(lambda z: z - (_dot(z.T, z) - target) / 2, _identity(x) + skew)
        return _newton_schulz(d + _dot(x, z - skew)), ok  # the last step is against rounding errors that add up

    def nearest(self, x):
        """The polar factor, by the iteration of Newton and Schulz from a matrix with singular values ≤ 1."""
        scale = jnp.sqrt(jnp.abs(_dot(x.T, x)).sum(axis=0).max())
        z, ok = _settled(_newton_schulz, x / jnp.where(scale > 0, scale, 1))
        return z, ok & (self.residual(z) < 1e-3)

    def residual(self, x):
        return jnp.max(jnp.abs(_dot(x.T, x) - _identity(x)))


class Implicit(Constraint):
    """Any smooth equations.

        g(θ) = 0,   g: ℝ^dim → ℝ^m with m < dim and a Jacobian of full rank

    The multipliers are computed by Newton's method. The law that is sampled is relative to the area of the surface.

    Args:
        function: g, a JAX function of an array (dim,) (a matrix is handed over flattened) to one number or (m,)
    """

    function: Callable

    def __check_init__(self):
        checks.function("function", self.function, "g, a JAX function of an array (dim,)")

    def check(self, shape):
        dim = int(np.prod(shape))
        theta = jax.ShapeDtypeStruct((dim,), precision.floating())
        checks.traced("function", self.function, theta, what="g, a JAX function of an array (dim,)")
        values = checks.traced("function", self._value, theta, what="g, a JAX function to one number or (m,)")
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise ValueError(f"function must return real numbers, which are 0 on the constraint, got {values.dtype}")
        if values.ndim != 1 or values.size >= dim:
            raise ValueError(
                f"the constraint's function must map ({dim},) to fewer than {dim} numbers, got shape {values.shape}"
            )

    def tangent(self, x, p):
        normals = jax.jacrev(self._value)(x)
        return p - normals.T @ _solved(normals @ normals.T, normals @ p)

    def shake(self, x, d):
        normals = jax.jacrev(self._value)(x)

        def sweep(y):
            return y - normals.T @ _solved(jax.jacrev(self._value)(y) @ normals.T, self._value(y))

        return _settled(sweep, x + d)

    def nearest(self, x):
        return _settled(lambda y: y - self._to_surface(y), x)

    def residual(self, x):
        """Length of a Newton step to the constraint: the distance, to first order."""
        return jnp.sqrt((self._to_surface(x) ** 2).sum())

    def _value(self, x):
        return jnp.atleast_1d(self.function(x))

    def _to_surface(self, x):
        normals = jax.jacrev(self._value)(x)
        return normals.T @ _solved(normals @ normals.T, self._value(x))


# --- small numerics -------------------------------------------------------------------------------------------


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """A B, in full precision also where an accelerator would round the factors first."""
    return jnp.matmul(a, b, precision="highest")


def _identity(w: jax.Array) -> jax.Array:
    return jnp.eye(w.shape[1], dtype=w.dtype)


def _newton_schulz(w: jax.Array) -> jax.Array:
    """W (3 I − WᵀW)/2: one step to the polar factor of W, from singular values below √3."""
    return _dot(w, 3 * _identity(w) - _dot(w.T, w)) / 2


def _solved(matrix: jax.Array, right: jax.Array) -> jax.Array:
    return right / matrix[0] if len(right) == 1 else jnp.linalg.solve(matrix, right)


def _settled(sweep: Callable, start: jax.Array) -> tuple[Any, jax.Array]:
    """Repeat z ← sweep(z) until only rounding errors are left; z, and whether it came to that.

    |Δz| ≤ 50 ε (1 + |z|) in every entry,   ε the rounding unit
    """
    tol = 50 * float(jnp.finfo(start.dtype).eps)

    def move(carry):
        z, _, count = carry
        after = sweep(z)
        return after, jnp.max(jnp.abs(after - z) / (1 + jnp.abs(after))), count + 1

    first = start, jnp.full((), jnp.inf, start.dtype), 0
    z, moved, _ = jax.lax.while_loop(lambda carry: (carry[1] > tol) & (carry[2] < SWEEPS), move, first)
    return z, moved <= tol
