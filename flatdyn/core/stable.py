"""Symmetric stable random numbers: normal ones whose variance is random itself, with tails as heavy as you like."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import block, held, in_form, normals, split


def stable(key: jax.Array, like: Vector, alpha: Any, isotropic: bool = False) -> Vector:
    """A vector of symmetric α-stable numbers ξ, with the components' shapes and type.

        ξ = √(2A) z,   z ~ N(0, 1),   E e^{−sA} = e^{−s^{α/2}},   so that   E e^{iuξ} = e^{−|u|^α}

    At α = 2 A is 1, and ξ is √2 times what `normals` gives for the key. The tails reach as far as the random words do,
    to events of probability 2⁻³² in 32 bits and 2⁻⁶⁴ in 64, or to the largest number.

    Args:
        alpha: α in (0, 2]
        isotropic: one A for all components, so that all directions are alike; else one each, independent
    References:
        Kanter, Stable densities under change of scale and total variation inequalities, Ann. Probab. 3, 697 (1975);
        Samorodnitsky, Taqqu, Stable non-Gaussian random processes (1994), proposition 1.3.1.
    """
    z, (other,) = normals(key, like), split(key, 1)  # a block and a split of one key share no random word
    leaves, tree = jax.tree.flatten(z)
    index = jnp.asarray(alpha, jnp.result_type(*leaves)) / 2
    if isotropic:
        return z * _width(other, 0, index)
    if all(leaf.ndim == 0 for leaf in leaves):
        return z * jax.tree.unflatten(tree, [_width(other, i, index) for i in range(len(leaves))])
    number = sum(leaf.size for leaf in leaves)
    return z * in_form(_width(other, jnp.arange(number, dtype=jnp.uint32), index), z)


def _width(key: jax.Array, number: jax.Array | int, a: jax.Array) -> jax.Array:
    """√(2A), the `number`-th of a key, for a positive stable A of index a = α/2.

    A = sin(aU)/sin U · (sin((1 − a)U)/(W sin U))^{(1 − a)/a},   U uniform on (0, π), W exponential
    """
    if a.dtype == jnp.float64:
        (v, beyond), (w, above) = _share_in_64_bits(key, 2 * number), _share_in_64_bits(key, 2 * number + 1)
    else:
        first, second = block(key, number)
        (v, beyond), (w, above) = _share(first, jnp.float32(0.5)), _share(second, jnp.float32(0.5))
    # The tail is where sin U vanishes: U is measured from the nearer end, and π − U is never a difference
    t, below = np.pi * v, 1 - a
    sine, around = jnp.sin(t), jnp.sin(jnp.where(beyond, below * np.pi, 0) + a * t)
    rest = jnp.sin(below * jnp.where(beyond, np.pi - t, t))
    waiting = jnp.where(above, -jnp.log1p(-w), -jnp.log(w))
    kind = jnp.finfo(a.dtype)
    power = jnp.log(2 * around / sine) + below / a * jnp.log(jnp.maximum(rest / (waiting * sine), kind.tiny))
    # ξ is a number whatever z is, though it be the largest; at α = 2 nothing of U and W is left but rounding
    width = jnp.exp(jnp.minimum(power / 2, float(np.log(kind.max)) - 3))
    return held(jnp.where(a == 1, jnp.sqrt(jnp.asarray(2, a.dtype)), width))


def _share(word: jax.Array, lower: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A uniform number on (0, 1) as its distance from the nearer end, and whether that is 1."""
    beyond = word >> np.uint32(31) != 0
    near = jnp.where(beyond, ~word, word).astype(jnp.int32).astype(lower.dtype)
    return (near + lower) * 2.0**-32, beyond


def _share_in_64_bits(key: jax.Array, number: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    high, low = block(key, number)
    return _share(high, (low.astype(jnp.float64) + 0.5) * 2.0**-32)
