"""Random numbers that belong to a run and a step, not to a chunk or a device.

A counter-based generator (Threefry-2x32 of the Random123 family) turns (seed; run, step) into a JAX key:
walker 17 draws at step 1000 what it draws however many walkers run beside it, in whatever order, on however
many devices. The rounds are plain integer arithmetic and fuse with the step that uses them, and both output
words of a block are used; that is where the speed of noisy ensembles comes from.

As everywhere in JAX a key is used once: :func:`split` it if two things need randomness.

References:
    Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3, SC11 (2011), section 4.2;
    13 rounds pass BigCrush (table 2), 20 are their default and JAX's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.core.algebra import Vector

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_ROUNDS = 20


def threefry2x32(key: tuple, counter: tuple, rounds: int = _ROUNDS) -> tuple[jax.Array, jax.Array]:
    """Two random words from a two-word key and a two-word counter, elementwise on uint32 arrays.

    Reproduces the Random123 test vectors; with 20 rounds the same words as JAX's own generator. What NumPy holds is
    computed by NumPy: a few words are not worth a compiled program.
    """
    k0, k1 = map(_word, key)
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = map(_word, counter)
    with np.errstate(over="ignore"):  # words wrap around
        x0, x1 = x0 + keys[0], x1 + keys[1]
        for i in range(rounds):
            distance = _ROTATIONS[(i // 4) % 2][i % 4]
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(distance)) | (x1 >> np.uint32(32 - distance))) ^ x0
            if i % 4 == 3:
                injection = i // 4 + 1
                x0 = x0 + keys[injection % 3]
                x1 = x1 + keys[(injection + 1) % 3] + np.uint32(injection)
    return x0, x1


def _word(value: Any) -> Any:
    return value.astype(jnp.uint32) if isinstance(value, jax.Array) else np.asarray(value, np.uint32)


def seed_words(key: jax.Array) -> jax.Array:
    """Two mixed words from a user's key (`jax.random.key(0)`, or the older `PRNGKey(0)`), a uint32 array (2,).

    Raises:
        ValueError: if `key` is not one JAX key
    """
    key = checks.key(key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    if isinstance(key, jax.core.Tracer):
        return jnp.stack(threefry2x32((key[-2], key[-1]), (0, _SEED)))
    return precision.on_device(threefry2x32(np.asarray(key)[-2:], (0, _SEED)))


def run_key(seed: jax.Array, run: jax.Array, step: jax.Array) -> jax.Array:
    """The key of one run at one step: the seed's words with the counters added, all different within a seed.

    It costs nothing until it is used, and whatever uses it mixes it with a full Threefry call.
    """
    return _wrap((seed[0] + run.astype(jnp.uint32), seed[1] + step.astype(jnp.uint32)))


def split(key: jax.Array, number: int = 2) -> tuple[jax.Array, ...]:
    """Independent keys from one; like `jax.random.split`, but it fuses with the step."""
    return tuple(_wrap(threefry2x32(_words(key), (i, _SPLIT))) for i in range(number))


def normals(key: jax.Array, like: Vector) -> Vector:
    """A vector of independent standard normal numbers, with the components' shapes and type.

    float32 takes one random word a number, so a step in the plane costs one Threefry call; float64 takes two.
    The tails reach as far as the words do: 6.2 σ and 9.1 σ.
    """
    leaves, tree = jax.tree.flatten(like)
    kind = jnp.result_type(*leaves)
    width = 2 if kind == jnp.float64 else 1
    transform = _normal_from_two_words if width == 2 else _normal_from_word
    scalars = all(leaf.ndim == 0 for leaf in leaves)
    words = _stream(key, width * sum(leaf.size for leaf in leaves), scalars)
    if scalars:
        drawn = [transform(*words[width * i : width * (i + 1)]).astype(kind) for i in range(len(leaves))]
        return jax.tree.unflatten(tree, _once(drawn) if kind == jnp.float32 and len(drawn) > 1 else drawn)
    drawn, used = [], 0
    for leaf in leaves:
        taken, used = words[used : used + width * leaf.size], used + width * leaf.size
        drawn.append(transform(*taken.reshape(leaf.size, width).T).reshape(leaf.shape).astype(kind))
    return jax.tree.unflatten(tree, drawn)


def indices(key: jax.Array, number: int, below: int) -> jax.Array:
    """Whole numbers ⌊w n / 2³²⌋ from 0 to below n, with replacement, one random word w each, shape (number,).

    Each of them is drawn with a probability that differs from 1/n by at most 2⁻³².
    """
    words = _stream(key, number, scalars=False)
    # The upper half of the product of two words, by halves: no machine word holds it all.
    (high, low), (upper, lower) = (words >> 16, words & 0xFFFF), (np.uint32(below >> 16), np.uint32(below & 0xFFFF))
    middle = high * lower + (low * lower >> 16)
    rest = low * upper + (middle & 0xFFFF)
    return (high * upper + (middle >> 16) + (rest >> 16)).astype(jnp.int32)


def drawn(sample: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, ...], **options: Any) -> jax.Array:
    """`sample(key, shape, **options)`, of `jax.random.uniform` or another, with one compiled program for many shapes.

    JAX compiles its generator anew for each shape, which takes longer than to draw. But number i depends on the key
    and i alone. So :func:`room` for the array is drawn and cut.
    """
    number = math.prod(shape)
    if room(number) == number:
        return sample(key, shape, **options)
    return _cut(sample(key, (room(number),), **options), shape)


def room(number: int) -> int:
    """How many numbers :func:`drawn` draws for so many: 256, 1024 or 4096; and no more than asked for beyond."""
    return next((size for size in (256, 1024, 4096) if size >= number), number)


@partial(jax.jit, static_argnums=1)
def _cut(numbers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return numbers[: math.prod(shape)].reshape(shape)


_SEED, _SPLIT, _BLOCK = 0x73656564, 0x73706C74, 0x626C6F63  # second counter words that keep the uses of a key apart


def _wrap(words: tuple) -> jax.Array:
    return jax.random.wrap_key_data(jnp.stack(words, axis=-1), impl="threefry2x32")


def _words(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    data = jax.random.key_data(key)
    return data[0], data[1]


def _stream(key: jax.Array, length: int, scalars: bool):
    """Words Threefry(key; block), block = 0, 1, …, in order: a list of scalars, or one array."""
    blocks = -(-length // 2)
    if not scalars:
        pair = threefry2x32(_words(key), (jnp.arange(blocks, dtype=jnp.uint32), _BLOCK))
        return jnp.stack(pair, axis=-1).reshape(-1)[:length]
    pairs = [_wrap(threefry2x32(_words(key), (b, _BLOCK))) for b in range(blocks)]  # a detour, see _once
    return [word for pair in pairs for word in _words(pair)]


def _once(numbers: list[jax.Array]) -> list[jax.Array]:
    """The same numbers, held in keys on the way, which makes XLA compute them once.

    Left alone it fuses generator and transformation into the update of each coordinate, and so runs them once per
    coordinate: half the speed in the plane.
    """
    words = [jax.lax.bitcast_convert_type(number, jnp.uint32) for number in numbers]
    words += words[: len(words) % 2]
    held = [word for pair in zip(words[::2], words[1::2], strict=True) for word in _words(_wrap(pair))]
    return [jax.lax.bitcast_convert_type(word, jnp.float32) for word in held[: len(numbers)]]


# Giles, Approximating the erfinv function (GPU Computing Gems, 2011), single precision, in w = −log(1 − u²):
# central (w < 5, in w − 2.5) and tail (in √w − 3) coefficients, highest power first.
_CENTRAL = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503)
_CENTRAL += (-0.00417768164, 0.246640727, 1.50140941)
_TAIL = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613)
_TAIL += (0.00943887047, 1.00167406, 2.83297682)


def _normal_from_word(word: jax.Array) -> jax.Array:
    """z = √2 erfinv(u), with |u| = 1 − q and q from the low 31 bits, so that the tails keep full precision."""
    q = ((word & np.uint32(0x7FFFFFFF)).astype(jnp.float32) + np.float32(0.5)) * np.float32(2**-31)
    w = -jnp.log(q * (2 - q))
    central = w < 5
    x = jnp.where(central, w - np.float32(2.5), jnp.sqrt(w) - 3)
    value = jnp.zeros_like(x)
    for inner, outer in zip(_CENTRAL, _TAIL, strict=True):
        value = value * x + jnp.where(central, np.float32(inner), np.float32(outer))
    magnitude = np.float32(np.sqrt(2)) * value * (1 - q)
    return jnp.where(word >> np.uint32(31), -magnitude, magnitude)


def _normal_from_two_words(high: jax.Array, low: jax.Array) -> jax.Array:
    """z = ∓Φ⁻¹(q/2), with q from 63 bits and the sign from one."""
    q = (high & np.uint32(0x7FFFFFFF)).astype(jnp.float64) * 2.0**-31 + (low.astype(jnp.float64) + 0.5) * 2.0**-63
    magnitude = -jax.scipy.special.ndtri(q / 2)
    return jnp.where(high >> np.uint32(31), -magnitude, magnitude)
