"""The generator: published vectors, statistics with stated bounds over several keys, and one way to call it."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_array_equal

from flatdyn.core import randomness
from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import drawn, indices, normals, room, run_key, seed_words, split, threefry2x32

# Random123's known-answer file (kat_vectors), threefry2x32: rounds, key, counter, result.
ALL = 0xFFFFFFFF
PI_KEY, PI_COUNTER = (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3)
VECTORS = [
    (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    (13, (ALL, ALL), (ALL, ALL), (0xFD36D048, 0x2D17272C)),
    (13, PI_KEY, PI_COUNTER, (0xBA3E4725, 0xF27D669E)),
    (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    (20, (ALL, ALL), (ALL, ALL), (0x1CB996FC, 0xBB002BE7)),
    (20, PI_KEY, PI_COUNTER, (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("rounds", "key", "counter", "expected"), VECTORS)
def test_published_vectors(rounds, key, counter, expected):
    words = threefry2x32([np.uint32(k) for k in key], [np.uint32(c) for c in counter], rounds)
    assert tuple(map(int, words)) == expected


def test_twenty_rounds_are_jaxs_generator():
    key = jax.random.key(7)
    # fold_in hashes the counter (0, data) with the key
    expected = jax.random.key_data(jax.random.fold_in(key, 12345))
    assert_array_equal(jnp.stack(threefry2x32(jax.random.key_data(key), (0, 12345))), expected)


def draws(seed, runs, steps, dtype):
    """Two normals for every run and step, as an ensemble draws them, shape (runs, steps, 2)."""
    words = seed_words(jax.random.key(seed))
    like = Vector((jnp.zeros((), dtype), jnp.zeros((), dtype)))

    def one(run, step):
        return jnp.stack(normals(run_key(words, run, step), like).tree)

    grid = jnp.arange(runs), jnp.arange(steps)
    return np.asarray(jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(*grid), dtype=float)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_are_independent_standard_normal(seed, dtype):
    z = draws(seed, 400, 500, dtype)
    n = z.size
    # All bounds are 5 standard errors, or a p-value of 1e-6: about 1e-5 of chance to fail for all of them together.
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)]:
        assert abs((z**power).mean() - mean) < 5 * np.sqrt(variance / n)
    assert scipy.stats.kstest(z.ravel(), "norm").pvalue > 1e-6
    # neighbours in run, in step, and the two coordinates: keys that differ by one must not be correlated
    for a, b in [(z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z[..., 0], z[..., 1]), (z[1:, 1:], z[:-1, :-1])]:
        assert abs((a * b).mean()) < 5 / np.sqrt(a.size)
        assert abs((a**2 * b**2).mean() - 1) < 5 * np.sqrt(8 / a.size)
    # tails, in counts
    for threshold in (3.0, 4.0):
        expected = n * 2 * scipy.stats.norm.sf(threshold)
        assert abs((np.abs(z) > threshold).sum() - expected) < 5 * np.sqrt(expected) + 5
    # every bit of the draw's uniform is used: no two draws among a thousand are equal in double precision
    if dtype == jnp.float64:
        assert len(np.unique(z)) == n


def words():
    """Known words: the ends, where a bit changes, and many between, of every size."""
    rng = np.random.default_rng(0)
    ends = [edge + np.arange(-30, 30) for edge in (0, 2**29, 2**30, 2**31, 2**32)]
    every = np.concatenate([*ends, rng.integers(0, 2**32, 200), (2 ** rng.uniform(0, 32, 200)).astype(np.int64)])
    return every[(every >= 0) & (every < 2**32)].astype(np.uint32)


def test_radius_is_right_for_every_word_to_the_end_of_the_tails():
    high = words()
    low = np.random.default_rng(1).integers(0, 2**32, len(high)).astype(np.uint32)
    low[high < 30] = high[high < 30]  # the smallest u that there is, too
    with mpmath.workdps(40):
        of_32 = [-2 * mpmath.log((int(h) // 2 + mpmath.mpf(0.5)) / 2**31) for h in high]
        of_64 = [
            -2 * mpmath.log((int(h) * 2**32 + int(k) + mpmath.mpf(0.5)) / 2**64) for h, k in zip(high, low, strict=True)
        ]
    for found, squares, unit in [
        (randomness._radius_in_32_bits(high), of_32, 2**-24),
        (randomness._radius_in_64_bits(high, low), of_64, 2**-53),
    ]:
        squares = np.array(squares, dtype=float)
        # u near 1 is rounded to half a unit, or to one at the end; the logarithm, root and product to few units
        np.testing.assert_allclose(np.asarray(found, float) ** 2, squares, rtol=8 * unit, atol=4 * unit)
        assert (np.asarray(found) > 0).all()
    assert float(randomness._radius_in_32_bits(jnp.uint32(0))) == pytest.approx(np.sqrt(64 * np.log(2)))  # 6.66
    smallest = randomness._radius_in_64_bits(jnp.uint32(0), jnp.uint32(0))
    assert float(smallest) == pytest.approx(np.sqrt(130 * np.log(2)), rel=1e-15)  # 9.49


def test_angle_is_right_for_every_word():
    high, low = words(), np.random.default_rng(1).integers(0, 2**32, len(words())).astype(np.uint32)
    whole = (high.astype(object) % 2**30) - 2**29
    with mpmath.workdps(40):
        of_32 = [(int(h) + mpmath.mpf(0.5)) * mpmath.pi / 2**31 for h in whole]
        of_64 = [
            (int(h) + (int(k) + mpmath.mpf(0.5)) / 2**32) * mpmath.pi / 2**31 for h, k in zip(whole, low, strict=True)
        ]
        exact = [[np.array([float(f(x)) for x in xs]) for f in (mpmath.cos, mpmath.sin)] for xs in (of_32, of_64)]
    found = randomness._angle_in_32_bits(high), randomness._angle_in_64_bits(high, low)
    # relative, small sines too: two to four roundings and the polynomials' own error, below one unit
    for values, right, unit in zip(found, exact, (2**-24, 2**-53), strict=True):
        for value, correct in zip(values, right, strict=True):
            np.testing.assert_allclose(np.asarray(value, float), correct, rtol=4 * unit)


def test_turns_go_all_round():
    word = np.array([0, 1, 2, 3], np.uint32) << np.uint32(30)
    pairs = np.stack(randomness._turned(jnp.float32(1), word, jnp.float32(0.8), jnp.float32(0.6)), axis=1)
    np.testing.assert_allclose(pairs, [(0.8, 0.6), (0.6, 0.8), (-0.8, -0.6), (-0.6, -0.8)], rtol=1e-7)


def test_what_is_held_is_the_same_number():
    numbers = np.array([0.0, -0.0, 1.5, -3e-38, 6.66, -1e-45], np.float32)
    for value in (numbers, numbers.astype(float), np.array([0, 7, 2**32 - 2], np.uint32)):
        assert np.asarray(jax.jit(randomness.held)(value)).tobytes() == value.tobytes()


@pytest.mark.parametrize("below", [1, 2, 1797, 2**16 - 1, 2**16, 2**16 + 1, 2**31 - 1])
def test_indices_are_the_upper_halves_of_words_times_their_number(below):
    key = jax.random.key(5)
    words = threefry2x32((np.arange(50, dtype=np.uint32), 0x626C6F63), jax.random.key_data(key), rounds=13)
    words = np.stack(words, axis=-1).ravel()[:99]
    assert_array_equal(indices(key, 99, below), [int(word) * below >> 32 for word in words])


def test_indices_are_equally_likely_and_no_two_know_of_each_other():
    for seed in range(3):
        found = np.asarray(jax.vmap(lambda key: indices(key, 32, 7))(jax.random.split(jax.random.key(seed), 4000)))
        counts = np.bincount(found.ravel(), minlength=7)
        pairs = np.bincount(7 * found[:, :-1].ravel() + found[:, 1:].ravel(), minlength=49)
        # A right generator falls below once in 10^5 tests
        assert scipy.stats.chisquare(counts).pvalue > 1e-5
        assert scipy.stats.chisquare(pairs).pvalue > 1e-5


def test_seeds_do_not_overlap():
    a, b = draws(0, 50, 50, jnp.float64), draws(1, 50, 50, jnp.float64)
    assert not set(a.ravel()) & set(b.ravel())


def test_the_same_numbers_whether_coordinates_or_one_array():
    key = jax.random.key(5)
    for dtype in (jnp.float32, jnp.float64):
        as_array = jax.jit(normals)(key, Vector(jnp.zeros(5, dtype))).tree
        as_scalars = jax.jit(normals)(key, Vector(tuple(jnp.zeros(5, dtype)))).tree
        np.testing.assert_allclose(as_array, jnp.stack(as_scalars), rtol=1e-6 if dtype == jnp.float32 else 1e-14)
        tree = jax.jit(normals)(key, Vector({"a": jnp.zeros((2, 2), dtype), "b": jnp.zeros(1, dtype)})).tree
        assert_array_equal(jnp.concatenate([tree["a"].ravel(), tree["b"]]), as_array)


def test_split_keys_draw_different_numbers():
    like = Vector(jnp.zeros(100))
    key = jax.random.key(0)
    drawn = [normals(k, like).tree for k in (key, *split(key, 3))]
    assert len(np.unique(np.concatenate(drawn))) == 400


@pytest.mark.parametrize("key", [0, None, jnp.zeros(2), jax.random.split(jax.random.key(0), 3), "seed"])
def test_what_is_not_a_key_is_refused(key):
    with pytest.raises(ValueError, match=r"jax.random.key\(0\)"):
        seed_words(key)


def test_old_style_keys_are_keys():
    assert_array_equal(seed_words(jax.random.PRNGKey(3)), seed_words(jax.random.key(3)))


def test_cut_from_a_larger_draw_the_numbers_are_jaxs_own():
    assert [room(number) for number in (0, 1, 257, 4096, 4097)] == [256, 256, 1024, 4096, 4097]
    bounds = {"minval": -0.3, "maxval": 0.2}
    for sample, shape, options in [(jax.random.normal, (33, 12), {}), (jax.random.uniform, (7,), bounds)]:
        for key in (jax.random.key(1), jax.random.PRNGKey(2)):
            assert_array_equal(drawn(sample, key, shape, **options), sample(key, shape, **options))
