"""Numbers of JAX's generator, the same to the last bit, drawn by NumPy where weights are made.

A program for each shape of weights would take a quarter of a second to compile.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import precision, randomness
from flatdyn.core.randomness import threefry2x32

_ROUNDS = 20  # of JAX's generator


def keys(key: jax.Array, number: int = 2) -> tuple[jax.Array, ...]:
    """Independent keys: those of `jax.random.split(key, number)`."""
    if (data := _data(key)) is None:
        return tuple(jax.random.split(key, number))
    words = threefry2x32(data, (0, np.arange(number)), _ROUNDS)
    rows = map(precision.on_device, np.stack(words, axis=-1))
    return tuple(jax.random.wrap_key_data(row, impl="threefry2x32") for row in rows)


def folded(key: jax.Array, number: int) -> jax.Array:
    """Keys `jax.random.fold_in(key, i)` for i from 0 to below `number`, an array (number,)."""
    if (data := _data(key)) is None:
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))
    words = threefry2x32(data, (0, np.arange(number)), _ROUNDS)
    return jax.random.wrap_key_data(precision.on_device(np.stack(words, axis=-1)), impl="threefry2x32")


def uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
    """Numbers uniform between −bound and bound: those of `jax.random.uniform(key, shape, minval=-bound, maxval=bound)`.

    u = max(−b, fma(m, 2 b, −b)),   m = 0 … 1 − ε in steps of ε, from a word

    The compiler rounds product and sum once, where the processor can, so that is what is done here.
    """
    if (data := _data(key)) is None:
        return randomness.drawn(jax.random.uniform, key, shape, minval=-bound, maxval=bound)
    kind = precision.floating()
    unsigned, low, one = np.dtype(f"uint{8 * kind.itemsize}"), kind.type(-bound), kind.type(1)
    words = _words(data, math.prod(shape), unsigned)
    share = (words >> unsigned.type(np.finfo(kind).nexp + 1) | one.view(unsigned)).view(kind) - one
    return precision.on_device(np.maximum(low, _fused(share, kind.type(bound) - low, low)).reshape(shape))


def _is_threefry(key: jax.Array) -> bool:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return bool(typed and key.ndim == 0 and str(jax.random.key_impl(key)) == "threefry2x32")


def _data(key: jax.Array) -> np.ndarray | None:
    """The two words of a key that has a value here and now, and is of this generator."""
    data = jax.random.key_data(key) if _is_threefry(key) else None
    return None if data is None or isinstance(data, jax.core.Tracer) else np.asarray(data)


def _words(key: Any, number: int, unsigned: np.dtype) -> Any:
    """Words of 32 or 64 bits, as `jax.random.bits` draws them."""
    high, low = threefry2x32(key, (0, np.arange(number)), _ROUNDS)
    return high ^ low if unsigned.itemsize == 4 else high.astype(unsigned) << np.uint64(32) | low.astype(unsigned)


def _fused(a: np.ndarray, b: Any, c: Any) -> np.ndarray:
    """The sum a b + c, rounded once.

    References:
        Boldo, Melquiond, Emulation of FMA and correctly rounded sums, IEEE Trans. Comput. 57 (2008), 462.
    """
    if a.dtype == np.float32:  # a product of two is exact in 64 bits
        high, low = _two_sum(a.astype(float) * float(b), float(c))
    else:
        product, error = _two_product(a, b)
        high, rest = _two_sum(product, c)
        low, last = _two_sum(rest, error)
        # what is lost sticks to the last bit, so that no tie is made of what is none
        even = (low.view(np.uint64) & np.uint64(1)) == 0
        low = np.where((last != 0) & even, np.nextafter(low, np.copysign(np.inf, last)), low)
        return high + low
    even = (high.view(np.uint64) & np.uint64(1)) == 0
    return np.where((low != 0) & even, np.nextafter(high, np.copysign(np.inf, low)), high).astype(a.dtype)


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """The sum of a and b, and what rounding took away."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """The product of a and b, and what rounding took away."""

    def halves(x):
        scaled = x * 134217729.0  # 2²⁷ + 1
        high = scaled - (scaled - x)
        return high, x - high

    product, (a1, a2), (b1, b2) = a * b, halves(a), halves(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
