"""The top of a spectrum by a space of directions that grows along residuals, and begins with what was known before.

From one random vector it is Lanczos' method with full reorthogonalisation: the residual of every Ritz vector is then
along the next Lanczos vector. From the eigenvectors of a Hessian nearby it needs one product for each of these, and a
few along what they leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Space(NamedTuple):
    """Directions and what the operator makes of them.

    Attributes:
        basis: Q, orthonormal rows, shape (room, dim); zeros after the first `size`
        images: H Q, likewise
        form: T = Q H Qᵀ, shape (room, room)
        size: how many there are, ()
        products: with H so far, ()
    """

    basis: jax.Array
    images: jax.Array
    form: jax.Array
    size: jax.Array
    products: jax.Array


class Top(NamedTuple):
    """The largest eigenvalues, first the largest.

    Attributes:
        values: shape (k,)
        residuals: ‖Hv − λv‖, shape (k,)
        vectors: Ritz vectors of these and of a few below, shape (kept, dim)
        products: with H, ()
    """

    values: jax.Array
    residuals: jax.Array
    vectors: jax.Array
    products: jax.Array


def top(
    product: Callable,
    start: jax.Array,
    known: jax.Array,
    k: int,
    room: int,
    tol: float,
    most: int,
    loose: Any = jnp.inf,
) -> Top:
    """The k largest eigenvalues of a symmetric operator, for compiled code.

    An eigenvalue counts as settled where min(r, r²/gap) ≤ tol max|λ|, r its residual and gap the distance to where the
    next one below those that are wanted may reach, its Ritz value and residual together.

    Args:
        product: v -> H v, shape (dim,)
        start: rows to begin with, shape (kept, dim), kept ≥ k, at most the dimension
        known: how many of them count, (); they need not be orthogonal
        room: directions that are held, more than `kept`, at most the dimension
        tol: relative error that counts as settled
        most: products at most
        loose: residual, over max|λ|, to which the vectors below those that are wanted are followed, too
    Returns:
        Top; its numbers are not finite where a product was not
    """
    kept, dim = start.shape
    space = _begun(product, start, known, room)

    def unsettled(carry):
        space, ritz = carry
        more = ~ritz.done.all() & (space.products < most)
        return more & jnp.isfinite(ritz.values).all() & (space.size < dim)

    def grown(carry):
        space, ritz = carry
        full = space.size >= room
        space = jax.lax.cond(full, lambda: _restarted(space, ritz, kept), lambda: space)
        worst = jnp.argmax(jnp.where(ritz.done, -1.0, ritz.errors))
        aside = _aside(space.basis, ritz.rests[worst])
        length = jnp.linalg.norm(aside)
        fine = length > 1e-3 * jnp.linalg.norm(ritz.rests[worst])
        other = _aside(space.basis, _anything(dim, start.dtype, space.products))  # where a span closes on itself
        direction = jnp.where(fine, aside / jnp.where(fine, length, 1), other / jnp.linalg.norm(other))
        direction = _aside(space.basis, direction)
        direction = direction / jnp.linalg.norm(direction)
        space = _with(space, direction, product(direction))
        return space, _ritz(space, k, kept, tol, loose)

    space, ritz = jax.lax.while_loop(unsettled, grown, (space, _ritz(space, k, kept, tol, loose)))
    return Top(ritz.values, ritz.lengths, ritz.coefficients @ space.basis, space.products)


class _Ritz(NamedTuple):
    """Of the wanted pairs values and lengths of residuals; of all that are kept residuals, estimated errors, which of
    them are settled, coefficients in the basis, and values."""

    values: jax.Array
    rests: jax.Array
    lengths: jax.Array
    errors: jax.Array
    done: jax.Array
    coefficients: jax.Array
    kept: jax.Array


def _begun(product: Callable, start: jax.Array, known: jax.Array, room: int) -> Space:
    kept, dim = start.shape
    rows = jnp.where(jnp.arange(kept)[:, None] < known, start, 0)
    basis = jnp.linalg.qr(rows.T)[0].T
    basis = jnp.where(jnp.arange(kept)[:, None] < known, basis, 0)

    def image(row):
        return jax.lax.cond((row != 0).any(), product, jnp.zeros_like, row)

    images = jax.lax.map(image, basis)  # one after the other: side by side they cost more
    form = basis @ images.T
    space = jnp.zeros((room, dim), start.dtype)
    whole = jnp.zeros((room, room), start.dtype).at[:kept, :kept].set((form + form.T) / 2)
    return Space(space.at[:kept].set(basis), space.at[:kept].set(images), whole, known, known)


def _ritz(space: Space, k: int, kept: int, tol: float, loose: Any) -> _Ritz:
    room = len(space.basis)
    there = jnp.arange(room) < space.size
    largest = jnp.abs(space.form).sum(axis=1).max()
    form = jnp.where(there[:, None] & there, space.form, 0) + jnp.diag(jnp.where(there, 0, -2 * largest - 1))
    values, vectors = jnp.linalg.eigh(form)
    values, coefficients = values[::-1], vectors.T[::-1]
    coefficients = jnp.where(there[:, None], coefficients, 0)[:kept]
    scale = jnp.max(jnp.where(there, jnp.abs(values), 0))
    rests = coefficients @ space.images - values[:kept, None] * (coefficients @ space.basis)
    lengths = jnp.linalg.norm(rests, axis=1)
    # Above what is not wanted there is room, as far as the next one below may reach
    below = values[k] + lengths[k] if kept > k else jnp.inf
    gaps = jnp.where(space.size > k, values[:k] - below, 0)
    sharp = jnp.where(gaps > lengths[:k], lengths[:k] ** 2 / jnp.where(gaps > 0, gaps, 1), lengths[:k])
    errors = jnp.concatenate([sharp, lengths[k:] * (tol / loose)]) / jnp.where(scale > 0, scale, 1)
    done = (errors <= tol) & (space.size >= kept) & there[:kept]
    errors = jnp.where(there[:kept], errors, 0)
    return _Ritz(values[:k], rests, lengths[:k], errors, done, coefficients, values[:kept])


def _restarted(space: Space, ritz: _Ritz, kept: int) -> Space:
    """The space of the Ritz vectors that are kept alone."""
    basis = jnp.zeros_like(space.basis).at[:kept].set(ritz.coefficients @ space.basis)
    images = jnp.zeros_like(space.images).at[:kept].set(ritz.coefficients @ space.images)
    form = jnp.zeros_like(space.form).at[jnp.arange(kept), jnp.arange(kept)].set(ritz.kept)
    return Space(basis, images, form, jnp.asarray(kept, space.size.dtype), space.products)


def _with(space: Space, direction: jax.Array, image: jax.Array) -> Space:
    basis, images = space.basis.at[space.size].set(direction), space.images.at[space.size].set(image)
    row = basis @ image
    form = space.form.at[space.size].set(row).at[:, space.size].set(row)
    return Space(basis, images, form, space.size + 1, space.products + 1)


def _aside(basis: jax.Array, vector: jax.Array) -> jax.Array:
    """What is left of a vector across the basis."""
    return vector - (basis @ vector) @ basis


def _anything(dim: int, kind: Any, number: jax.Array) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(jax.random.key(1), number), (dim,), kind)
