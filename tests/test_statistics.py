"""Standard errors, of means, intervals, correlated series and shares."""

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from numpy.testing import assert_allclose

from flatdyn.core.statistics import batch_mean, binomial_error, mean_sem, sem_of_interval


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_batch_means_have_the_error_of_a_correlated_series(memory):
    # AR(1): Var x̄ = σ²/n (1 + φ)/(1 − φ) for n much longer than the memory
    rng = np.random.default_rng(0)
    length, repeats = 20_000, 400
    noise = rng.normal(size=(repeats, length))
    series = scipy.signal.lfilter([1.0], [1.0, -memory], noise, axis=1)
    exact = np.sqrt(1 / (1 - memory**2) * (1 + memory) / (1 - memory) / length)
    pairs = np.array([batch_mean(row) for row in series])
    assert pairs[:, 0].std() == pytest.approx(exact, rel=5 / np.sqrt(2 * repeats))
    # the batches' own spread, averaged: five standard errors of χ₁₉/√19, and 2 % for the memory across batches
    assert np.sqrt((pairs[:, 1] ** 2).mean()) == pytest.approx(exact, rel=5 / np.sqrt(2 * 19 * repeats) + 0.02)


def test_the_mean_of_flags_is_a_share_of_time():
    flags = np.arange(40) % 4 == 0
    assert batch_mean(flags, 10) == batch_mean(flags.astype(float), 10) == (0.25, 0.0)


def test_what_does_not_fill_the_batches_is_left_out_at_the_start():
    assert batch_mean([99.0, 1.0, 1.0, 2.0, 2.0], batches=2) == (1.5, 0.5)


def test_the_error_of_a_mean_is_that_of_its_own_spread():
    # 1, 2, 6: mean 3, squares of the distances 4 + 1 + 9 = 14, over n (n - 1) = 6
    values = np.array([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]])
    mean, stderr = mean_sem(values)
    assert_allclose(mean, [3, 10])
    assert_allclose(stderr, [np.sqrt(14 / 6), 0], rtol=1e-15)
    for same in (mean_sem(values.T, axis=-1), mean_sem(values.tolist())):
        assert_allclose(same, (mean, stderr), rtol=1e-15)


def test_the_error_of_a_mean_is_its_spread_over_repetitions():
    means, errors = mean_sem(np.random.default_rng(0).normal(2.0, 3.0, size=(10, 4000)))
    # five standard errors of a spread of 4000, and of the mean of 4000 variances of nine degrees of freedom
    assert means.std() == pytest.approx(3 / np.sqrt(10), rel=5 / np.sqrt(2 * 4000))
    assert np.sqrt((errors**2).mean()) == pytest.approx(3 / np.sqrt(10), rel=5 / np.sqrt(2 * 9 * 4000))


@pytest.mark.parametrize(
    ("values", "axis", "message"),
    [
        ([1.0], 0, "two repetitions"),
        (3.0, 0, "single number"),
        ([1.0, np.nan], 0, "values must"),
        ([1.0, 2.0], 1, "axis must be"),
        (["a", "b"], 0, "values must"),
    ],
)
def test_too_few_repetitions_and_other_things_are_refused(values, axis, message):
    with pytest.raises(ValueError, match=message):
        mean_sem(values, axis)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_error_of_a_normal_interval_is_its_standard_deviation(level):
    ends = np.array([scipy.stats.norm.interval(level, 3.0, s) for s in (0.1, 2.0)])
    assert_allclose(sem_of_interval(*ends.T, level), [0.1, 2.0], rtol=1e-12)
    assert sem_of_interval(1.0, np.inf, level) == np.inf
    assert sem_of_interval(2, 2, level) == 0


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((2.0, 1.0), "upper must be at least lower, got 2 and 1"),
        ((1.0, [1.0, 2.0]), "must have one shape"),
        (("a", 1.0), "lower must be"),
        ((0.0, 1.0, 95), "level must be"),
    ],
)
def test_what_is_no_interval_is_refused(ends, message):
    with pytest.raises(ValueError, match=message):
        sem_of_interval(*ends)


@pytest.mark.parametrize(("series", "batches"), [([1.0], 2), (np.zeros((3, 3)), 2), ([1.0, 2.0], 1)])
def test_too_little_is_refused(series, batches):
    with pytest.raises(ValueError, match=r"series must|batches must be"):
        batch_mean(series, batches)


def test_a_share_of_none_is_not_certain_and_others_have_their_binomial_error():
    assert_allclose(binomial_error(300, 1000), np.sqrt(0.3 * 0.7 / 1000), rtol=1e-3)
    for count, runs in ((300, 1000), (3, 7), (0, 1)):  # √(p (1 − p)/n) with p = (k + ½)/(n + 1), as stated
        p = (count + 0.5) / (runs + 1)
        assert_allclose(binomial_error(count, runs), np.sqrt(p * (1 - p) / runs), rtol=1e-14)
    none, every = binomial_error(np.array([0, 1000]), 1000)
    assert_allclose([none, every], np.sqrt(0.5 / 1001 * (1000.5 / 1001) / 1000), rtol=1e-12)
    # none of 1000 is seen in 1/e of all samples when the true share is 1/1000: two errors must reach it
    assert 2 * none > 1e-3


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_binomial_errors_cover(share):
    runs = 2000
    counts = np.random.default_rng(0).binomial(runs, share, 20_000)
    misses = np.abs(counts / runs - share) > 2 * binomial_error(counts, runs)
    assert 0.03 < misses.mean() < 0.065  # 4.6 % for a normal law; counts are whole numbers
