"""Random numbers that belong to a run and a step, not to a chunk or a device.

A counter-based generator (Threefry-2x32 of the Random123 family) turns (seed; run, step) into a JAX key:
walker 17 draws at step 1000 what it draws however many walkers run beside it, in whatever order, on however
many devices. The rounds are plain integer arithmetic, both output words of a block are used, and two words become two
normal numbers with one logarithm; that is where the speed of noisy ensembles comes from.

As everywhere in JAX a key is used once: :func:`split` it if two things need randomness.

References:
    Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3, SC11 (2011), section 4.2;
    13 rounds pass BigCrush (table 2) and draw the numbers here; 20 are their default and JAX's, and mix keys.
    Box and Muller, A note on the generation of random normal deviates, Ann. Math. Stat. 29 (1958).
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

NORMALS = "Threefry-2x32-13, Box and Muller"  # for whatever keeps numbers that were drawn
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_ROUNDS, _FAST = 20, 13  # for keys; for the words of a draw


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


def shifted(key: jax.Array, words: tuple) -> jax.Array:
    """The key whose two words are those of `key` with others added, modulo 2³²."""
    own = _words(key)
    return _wrap((own[0] + words[0], own[1] + words[1]))


def split(key: jax.Array, number: int = 2) -> tuple[jax.Array, ...]:
    """Independent keys from one; like `jax.random.split`, but it fuses with the step."""
    return tuple(_wrap(threefry2x32(_words(key), (i, _SPLIT))) for i in range(number))


def normals(key: jax.Array, like: Vector) -> Vector:
    """A vector of independent standard normal numbers, with the components' shapes and type.

    float32 takes one random word a number, so the two of a step in the plane take one block; float64 takes two words.
    The tails reach as far as the words do: 6.6 σ and 9.5 σ.
    """
    leaves, tree = jax.tree.flatten(like)
    kind = jnp.result_type(*leaves)
    pair = _pair_in_64_bits if kind == jnp.float64 else _pair_in_32_bits
    number = sum(leaf.size for leaf in leaves)
    if all(leaf.ndim == 0 for leaf in leaves):
        flat = [z.astype(kind) for i in range(-(-number // 2)) for z in pair(key, i)][:number]
        return jax.tree.unflatten(tree, flat)
    flat = _in_order(pair(key, jnp.arange(-(-number // 2), dtype=jnp.uint32))).astype(kind)
    return in_form(flat, like)


def in_form(flat: jax.Array, like: Vector) -> Vector:
    """The numbers of a row in the components of a vector like another."""
    leaves, tree = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = [flat[end - leaf.size : end].reshape(leaf.shape) for end, leaf in zip(ends, leaves, strict=True)]
    return jax.tree.unflatten(tree, parts)


def indices(key: jax.Array, number: int, below: int) -> jax.Array:
    """Whole numbers ⌊w n / 2³²⌋ from 0 to below n, with replacement, one random word w each, shape (number,).

    Each of them is drawn with a probability that differs from 1/n by at most 2⁻³².
    """
    words = _in_order(block(key, jnp.arange(-(-number // 2), dtype=jnp.uint32)))[:number]
    # The upper half of the product of two words, by halves: no machine word holds it all.
    (high, low), (upper, lower) = (words >> 16, words & 0xFFFF), (np.uint32(below >> 16), np.uint32(below & 0xFFFF))
    middle = high * lower + (low * lower >> 16)
    rest = low * upper + (middle & 0xFFFF)
    return (high * upper + (middle >> 16) + (rest >> 16)).astype(jnp.int32)


def shuffled(key: jax.Array, places: jax.Array, number: int) -> jax.Array:
    """What lies at some places of a random order of 0, 1, … n − 1 that belongs to the key, shape of `places`.

    The order is never written down, so a place costs no more in an order of a million. Up to 64 all orders are equally
    likely: what lies at a place is the rank of its random word. Beyond, the swap-or-not shuffle: in each round a random
    K pairs x with K − x mod n, and a random bit of the pair, a hash of its larger member, says whether the two are
    swapped. A round halves what is left of the start: 32 + 2 log₂ n of them leave less than 2⁻³² of it in where one
    place goes, and about as little in where a few go together.

    References:
        Hoang, Morris, Rogaway, An enciphering scheme based on a card shuffle, arXiv 1208.1176 (CRYPTO 2012).
    """
    if number <= _RANKED:
        words = _in_order(block(key, jnp.arange(-(-number // 2), dtype=jnp.uint32)))[:number]
        mine = words[places][..., None]
        before = (words < mine) | ((words == mine) & (jnp.arange(number) < places[..., None]))
        return before.sum(axis=-1, dtype=jnp.int32)
    return swapped(*split(key), places, number, 32 + 2 * math.ceil(math.log2(number)))


def swapped(pairing: jax.Array, swapping: jax.Array, places: jax.Array, number: int, rounds: int) -> jax.Array:
    """The swap-or-not shuffle of :func:`shuffled`, its keys and its number of rounds given."""
    partners = indices(pairing, rounds, number).astype(jnp.uint32)
    words = _in_order(block(swapping, jnp.arange(-(-rounds // 2), dtype=jnp.uint32)))[:rounds]

    def turn(i, x):
        other = jnp.where(partners[i] >= x, partners[i] - x, partners[i] - x + np.uint32(number))
        swap = _mixed(jnp.maximum(x, other) ^ words[i]) >> np.uint32(31)
        return jnp.where(swap != 0, other, x)

    return jax.lax.fori_loop(0, rounds, turn, places.astype(jnp.uint32)).astype(jnp.int32)


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


_RANKED = 64  # the longest order in which ranks are sooner found than swaps made


def _mixed(word: jax.Array) -> jax.Array:
    """A word whose every bit hangs on all bits of the given one."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x7FEB352D)
    word = (word ^ (word >> np.uint32(15))) * np.uint32(0x846CA68B)
    return word ^ (word >> np.uint32(16))


# Second words, which keep the uses of a key apart.
_SEED, _SPLIT, _BLOCK = 0x73656564, 0x73706C74, 0x626C6F63


def _wrap(words: tuple) -> jax.Array:
    return jax.random.wrap_key_data(jnp.stack(words, axis=-1), impl="threefry2x32")


def _words(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    data = jax.random.key_data(key)
    return data[0], data[1]


def block(key: jax.Array, number: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Two words of a key. The key is what Threefry counts with: so its own key schedule is made of constants."""
    return threefry2x32((number, _BLOCK), _words(key), _FAST)


def _in_order(pairs: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Both of pair 0, both of pair 1, … as one array."""
    return jnp.stack(pairs, axis=-1).reshape(-1)


def _pair_in_32_bits(key: jax.Array, number: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Numbers 2i and 2i + 1 of a key, from block i."""
    first, second = block(key, number)
    return _turned(_radius_in_32_bits(first), held(second), *_angle_in_32_bits(held(second)))


def _pair_in_64_bits(key: jax.Array, number: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Numbers 2i and 2i + 1 of a key, from blocks 2i and 2i + 1."""
    radius = _radius_in_64_bits(*block(key, 2 * number))
    high, low = block(key, 2 * number + 1)
    both = held((high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64))
    high, low = (both >> np.uint64(32)).astype(jnp.uint32), both.astype(jnp.uint32)
    return _turned(radius, high, *_angle_in_64_bits(high, low))


def held(value: jax.Array) -> jax.Array:
    """The same value, computed once: all bits set would become zero, which no finite number has.

    Left alone XLA fuses generator and transformation into the update of each coordinate, and so runs them once for each
    loop that reads them. It does not repeat what it takes for expensive, such as a remainder. For LLVM this one is a
    comparison.
    """
    bits = np.dtype(f"uint{8 * value.dtype.itemsize}").type
    whole = jax.lax.bitcast_convert_type(value, bits)
    return jax.lax.bitcast_convert_type(jax.lax.rem(whole, bits(np.iinfo(bits).max)), value.dtype)


# --- Box and Muller: (R cos φ, R sin φ) with R² = −2 log u is a pair of standard normal numbers -----------------------


def _radius_in_32_bits(word: jax.Array) -> jax.Array:
    """R from the upper 31 bits of a word, u = (k + ½)/2³¹ < 1."""
    u = ((word >> np.uint32(1)).astype(jnp.int32).astype(jnp.float32) + np.float32(0.5)) * np.float32(2**-31)
    return jnp.sqrt(-2 * _log_in_32_bits(jnp.minimum(u, np.float32(1 - 2**-24))))


def _radius_in_64_bits(high: jax.Array, low: jax.Array) -> jax.Array:
    """R from 64 bits, u = (k + ½)/2⁶⁴ < 1."""
    u = high.astype(jnp.float64) * 2.0**-32 + (low.astype(jnp.float64) + 0.5) * 2.0**-64
    return jnp.sqrt(-2 * _log_in_64_bits(jnp.minimum(u, 1 - 2.0**-53)))


def _angle_in_32_bits(word: jax.Array) -> tuple[jax.Array, jax.Array]:
    """cos x and sin x at x uniform on (−π/4, π/4), from the lower 30 bits of a word."""
    whole = (word & np.uint32(2**30 - 1)).astype(jnp.int32) - np.int32(2**29)
    x = (whole.astype(jnp.float32) + np.float32(0.5)) * np.float32(np.pi / 2**31)
    return _cos_and_sin(x, _COS_IN_32_BITS, _SIN_IN_32_BITS)


def _angle_in_64_bits(high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same from the lower 62 of 64 bits."""
    whole = (high & np.uint32(2**30 - 1)).astype(jnp.int32) - np.int32(2**29)
    x = (whole.astype(jnp.float64) + (low.astype(jnp.float64) + 0.5) * 2.0**-32) * (np.pi / 2**31)
    return _cos_and_sin(x, _COS_IN_64_BITS, _SIN_IN_64_BITS)


def _turned(radius: jax.Array, word: jax.Array, cos: jax.Array, sin: jax.Array) -> tuple[jax.Array, jax.Array]:
    """R (cos φ, sin φ) with φ on the whole circle: the word's two upper bits reflect at the origin and the diagonal."""
    radius = jnp.where(word >> np.uint32(31), -radius, radius)
    swap = (word & np.uint32(2**30)) != 0
    return held(radius * jnp.where(swap, sin, cos)), held(radius * jnp.where(swap, cos, sin))


def _polynomial(x: jax.Array, coefficients: tuple[float, ...]) -> jax.Array:
    """Σ cᵢ xⁱ, lowest power first."""
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + np.asarray(coefficient, x.dtype)
    return value


def _cos_and_sin(x: jax.Array, cos: tuple, sin: tuple) -> tuple[jax.Array, jax.Array]:
    """cos x = 1 − x²/2 + x⁴ C(x²),   sin x = x + x³ S(x²),   |x| ≤ π/4"""
    y = x * x
    return 1 - (y / 2 - y * y * _polynomial(y, cos)), x + x * y * _polynomial(y, sin)


def _split_number(u: jax.Array, root: int, mantissa: int) -> tuple[jax.Array, jax.Array]:
    """u = 2ᵉ (1 + f) as e and f, with 1 + f between √½, whose bits are `root`, and √2."""
    whole = jnp.int32 if u.dtype == jnp.float32 else jnp.int64
    bits = jax.lax.bitcast_convert_type(u, whole)
    exponent = (bits - whole(root)) >> whole(mantissa)
    return exponent.astype(u.dtype), jax.lax.bitcast_convert_type(bits - (exponent << whole(mantissa)), u.dtype) - 1


def _log_in_32_bits(u: jax.Array) -> jax.Array:
    """log u of a positive normal number, as in Cephes' logf.c: log(1 + f) = f − f²/2 + f³ P(f)."""
    exponent, f = _split_number(u, 0x3F3504F3, 23)
    return exponent * np.float32(np.log(2)) + (f - (f * f / 2 - f * f * f * _polynomial(f, _LOG_IN_32_BITS)))


def _log_in_64_bits(u: jax.Array) -> jax.Array:
    """log u, as in fdlibm's e_log.c: log(1 + f) = f − f²/2 + s (f²/2 + s² P(s²)), s = f/(2 + f)."""
    exponent, f = _split_number(u, 0x3FE6A09E667F3BCD, 52)
    s, half = f / (2 + f), f * f / 2
    rest = s * (half + s * s * _polynomial(s * s, _LOG_IN_64_BITS))
    return exponent * np.log(2) + (f - (half - rest))


# Cephes (Moshier), logf.c and sinf.c, lowest power first.
_LOG_IN_32_BITS = (3.3333331174e-1, -2.4999993993e-1, 2.0000714765e-1, -1.6668057665e-1, 1.4249322787e-1)
_LOG_IN_32_BITS += (-1.2420140846e-1, 1.1676998740e-1, -1.1514610310e-1, 7.0376836292e-2)
_SIN_IN_32_BITS = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
_COS_IN_32_BITS = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)
# fdlibm (Sun Microsystems 1993), e_log.c, k_sin.c and k_cos.c, lowest power first.
_LOG_IN_64_BITS = (6.666666666666735130e-1, 3.999999999940941908e-1, 2.857142874366239149e-1, 2.222219843214978396e-1)
_LOG_IN_64_BITS += (1.818357216161805012e-1, 1.531383769920937332e-1, 1.479819860511658591e-1)
_SIN_IN_64_BITS = (-1.66666666666666324348e-1, 8.33333333332248946124e-3, -1.98412698298579493134e-4)
_SIN_IN_64_BITS += (2.75573137070700676789e-6, -2.50507602534068634195e-8, 1.58969099521155010221e-10)
_COS_IN_64_BITS = (4.16666666666666019037e-2, -1.38888888888741095749e-3, 2.48015872894767294178e-5)
_COS_IN_64_BITS += (-2.75573143513906633035e-7, 2.08757232129817482790e-9, -1.13596475577881948265e-11)
