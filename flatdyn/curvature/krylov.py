"""Products of the Hessian with vectors, and the tridiagonal form that Lanczos' method makes of them."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy

from flatdyn.core import checks, memory, precision, segments
from flatdyn.landscapes import Landscape


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
    checks.kind("landscape", landscape, Landscape)
    theta, vector = checks.point("theta", theta, landscape.dim), checks.point("vector", vector, landscape.dim)
    return jax.jvp(landscape.grad, (theta,), (vector.astype(theta.dtype),))[1]


def lanczos(landscape: Landscape, theta: jax.Array, start: jax.Array, k: int, bar: Any = None) -> tuple[jax.Array, ...]:
    """The Hessian's tridiagonal form after k steps from a start, as far as there are any.

        H Q = Q T + (remainder in the last column),   Q orthonormal, T = QᵀHQ tridiagonal

    Where H maps the span of the vectors so far to itself the form is complete: T's eigenvalues are eigenvalues of H.
    What is left of the next vector is then rounding, so no vector is made of it. As Q stays orthonormal, no eigenvalue
    of T is outside H's spectrum by more than rounding.

    Args:
        landscape: L
        theta: θ, shape (dim,)
        start: first vector, not zero, shape (dim,)
        k: steps, at most dim
        bar: progress bar, which counts the products
    Returns:
        Qᵀ (k, dim), diagonal of T (k,), what is beside it (k,), of which the last leads out of the span, and the
        number of steps that there are, (); zeros after these
    """
    carry = _begun(start, k)
    for done, now in segments.cut(k, bar=bar):
        where = precision.on_device(np.int32([done, done + now]))
        carry = jax.block_until_ready(_decomposed(landscape, theta, carry, where))
    return *carry[:3], carry[5]


@eqx.filter_jit
def _begun(start: jax.Array, k: int) -> tuple[jax.Array, ...]:
    """What is carried at step 0: basis, T, next vector, largest ‖Hv‖, steps, whether there is a next vector."""
    zeros = jnp.zeros(k, start.dtype)
    basis, first = jnp.zeros((k, len(start)), start.dtype), start / _length(start)
    return basis, zeros, zeros, first, zeros[0], jnp.int32(0), jnp.bool_(True)


@eqx.filter_jit
def _decomposed(landscape: Landscape, theta: jax.Array, carry: tuple, where: jax.Array) -> tuple[jax.Array, ...]:
    """The same after the steps from where[0] to where[1]."""
    rounding = 4 * jnp.finfo(theta.dtype).eps

    def step(i, carry):
        basis, diagonal, beside, vector, largest, steps, going = carry
        basis = basis.at[i].set(vector)
        product = hessian_product(landscape, theta, vector)
        onto = basis @ product
        once = product - onto @ basis
        rest = once - (basis @ once) @ basis
        size, left = _length(once), _length(rest)
        largest = jnp.maximum(largest, _length(product))
        # What the second projection takes away lay in the span: if that is most of it, the first left rounding alone.
        on = going & (left > rounding * largest) & (left > size / 2) & (i + 1 < len(vector))
        diagonal = diagonal.at[i].set(jnp.where(going, onto[i], 0))
        beside = beside.at[i].set(jnp.where(on, left, 0))
        vector = jnp.where(on, rest / jnp.where(on, left, 1), 0)
        return basis, diagonal, beside, vector, largest, steps + going, on

    return jax.lax.fori_loop(where[0], where[1], step, carry)


def basis_bytes(dim: int, k: int, dtype: Any) -> int:
    """Bytes that :func:`lanczos` takes on the device: the basis before a segment and after it."""
    return memory.array_bytes(2, k + 4, dim, itemsize=np.dtype(dtype).itemsize)


def ritz(diagonal: Any, beside: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (steps,) and eigenvectors (columns) of the tridiagonal form after so many steps."""
    diagonal, beside = np.asarray(diagonal, dtype=float), np.asarray(beside, dtype=float)
    return scipy.linalg.eigh_tridiagonal(diagonal[:steps], beside[: steps - 1])


def not_finite(landscape: Landscape) -> ValueError:
    """The error where a product is not a number."""
    return ValueError(f"the Hessian of {landscape.name} is not finite at theta")


def _length(vector: jax.Array) -> jax.Array:
    """‖v‖ without under- or overflow of the squares."""
    largest = jnp.abs(vector).max()
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum((vector / scale) ** 2))
