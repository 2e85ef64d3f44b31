"""Escape times with censoring: known laws, coverage over many replicates, scipy and plain formulas beside it."""

import itertools
import pickle

import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

from flatdyn import survival
from flatdyn.core.statistics import binomial_error


def sample(seed, runs, hazard, cap=None, wait=0):
    """Geometric escape times after `wait` steps in which nothing leaves; whatever is inside at the cap is censored."""
    times = wait + np.random.default_rng(seed).geometric(hazard, runs)
    cap = np.inf if cap is None else cap
    return np.minimum(times, cap).astype(int), times <= cap


def censored_at_random(seed, runs):
    r = np.random.default_rng(seed)
    times, ends = r.geometric(0.02, runs), r.integers(1, 100, runs)
    return np.minimum(times, ends), times <= ends


def scipys(steps, escaped):
    return scipy.stats.CensoredData.right_censored(steps, ~escaped)


def outside(misses, replicates, level):
    """Whether a number of misses is incredible (1e-4) for intervals of the level."""
    return scipy.stats.binom.sf(misses - 1, replicates, 1 - level) < 1e-4


# --- without censoring: textbook formulas ---------------------------------------------------------------------


def test_without_censoring_the_mean_is_the_sample_mean():
    steps, escaped = sample(0, 1000, 0.03)
    value, stderr, censored = result = survival.mean(steps, escaped)
    assert_allclose(value, steps.mean(), rtol=1e-13)
    assert_allclose(stderr, steps.std(ddof=1) / np.sqrt(1000), rtol=1e-12)
    assert censored == 0
    assert result.estimator == "sample mean"
    assert len(result) == 3
    assert pickle.loads(pickle.dumps(result)).estimator == "sample mean"


def test_without_censoring_the_band_is_the_binomial_one():
    steps, escaped = sample(1, 50, 0.1)
    for at in (1, 5, 12, 40):
        inside = int((steps > at).sum())
        exact = scipy.stats.binomtest(inside, 50).proportion_ci(method="exact")
        found = survival.survival(steps, escaped, [at])
        assert_allclose([found.value[0], found.lower[0], found.upper[0]], [inside / 50, *exact], rtol=1e-10)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.999])
def test_bands_and_intervals_of_any_level_are_the_exact_ones(level):
    """Without censoring a curve is a share, and a rate a Poisson count over the time at risk."""
    steps, escaped = sample(1, 50, 0.1)
    for at in (2, 5, 12):
        exact = scipy.stats.binomtest(int((steps > at).sum()), 50).proportion_ci(level, method="exact")
        found = survival.survival(steps, escaped, [at], level)
        assert_allclose([found.lower[0], found.upper[0]], exact, rtol=1e-10)
    # the classical interval for the median of 100: its ends are the ranks that the binomial law gives
    found = survival.median(np.arange(1, 101), np.ones(100, bool), level)
    low, high = scipy.stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], 100, 0.5)
    assert (found.lower, found.upper) == (low, high + 1)
    rate = survival.rate(steps, escaped, after=3, level=level)
    events, exposure = (steps > 3).sum(), np.maximum(steps - 3, 0).sum()
    assert (rate.events, rate.after) == (events, 3)
    assert_allclose([rate.value, rate.stderr], [events / exposure, np.sqrt(events + 0.5) / exposure], rtol=1e-13)
    chances = (
        scipy.stats.poisson.sf(events - 1, rate.lower * exposure),
        scipy.stats.poisson.cdf(events, rate.upper * exposure),
    )
    assert_allclose(chances, (1 - level) / 2, rtol=1e-9)


def test_a_tail_begins_at_the_median_escape_unless_too_few_come_later():
    """The median of the escapes seen, not of all runs: 21 escapes at 1, 2, …, 21, and as many runs seen until 50."""
    steps, escaped = np.append(np.arange(1, 22), np.full(21, 50)), np.arange(42) < 21
    rate = survival.rate(steps, escaped)
    assert (rate.after, rate.events) == (11, 10)
    assert_allclose(rate.value, 10 / (np.arange(1, 11).sum() + 21 * 39), rtol=1e-13)
    assert survival.mean(steps, escaped) == survival.mean(steps, escaped, after=11)
    rate = survival.rate(steps[1:], escaped[1:])  # nine are later than the 11th of 20, at 11 or 12
    assert (rate.after, rate.events) == (11, 10)
    rate = survival.rate(steps[2:], escaped[2:])  # nine after the tenth of 19, at 12: all count
    assert (rate.after, rate.events) == (0, 19)


def test_a_curve_begins_at_zero_and_has_every_time_that_occurs():
    curve = survival.survival([3, 1, 3, 7], np.array([True, True, False, True]))
    assert_allclose(curve.steps, [0, 1, 3, 7])
    assert_allclose(curve.value, [1, 3 / 4, 1 / 2, 0])


def test_the_error_of_a_quantile_is_its_spread_over_repetitions():
    found = [
        survival.median(*sample(seed, 400, 0.01), level)
        for seed, level in zip(range(200), itertools.cycle([0.8, 0.95, 0.99]), strict=False)
    ]
    spread = np.std([one.value for one in found])
    # five standard errors of a spread of 200; and ranks that are whole numbers make an interval of 400 up to 5 % wide
    assert_allclose(np.mean([one.stderr for one in found]), spread, rtol=5 / np.sqrt(400) + 0.05)
    value, lower, upper = wide = survival.median(*sample(0, 400, 0.01), 0.99)
    assert_allclose(wide.stderr, (upper - lower) / 2 / scipy.stats.norm.ppf(0.995), rtol=1e-12)
    assert survival.median(np.arange(1, 9), np.arange(8) < 2).stderr == np.inf
    assert survival.Quantile(value, lower, upper) == wide  # it is these three numbers


def test_quantiles_are_order_statistics():
    steps, escaped = np.arange(1, 101), np.ones(100, bool)
    median, lower, upper = survival.median(steps, escaped)
    assert median == 50
    # the classical binomial interval for the median of 100: ranks 40 and 61
    assert (lower, upper) == (40, 61)
    assert survival.quantile(steps, escaped, 0.9).value == 90


# --- with censoring -------------------------------------------------------------------------------------------


def test_the_curve_is_scipys_kaplan_meier():
    for seed in range(3):
        steps, escaped = censored_at_random(seed, 400)
        known = steps < steps[escaped].max()  # scipy's curve has NaN bounds at its ends
        theirs = scipy.stats.ecdf(scipys(steps, escaped)).sf
        at = np.unique(steps[known])
        ours = survival.survival(steps, escaped, at)
        assert_allclose(ours.value, theirs.evaluate(at), rtol=1e-12)
        low, high = (curve.evaluate(at) for curve in theirs.confidence_interval(0.95, method="log-log"))
        middle = (ours.value > 0.1) & (ours.value < 0.9)
        # two constructions of one interval: they differ by terms of order 1/n
        assert np.abs(ours.lower - low)[middle].max() < 0.03
        assert np.abs(ours.upper - high)[middle].max() < 0.03


def test_a_worked_example():
    """Remission times of 21 patients under 6-MP (Freireich et al. 1963; Kaplan-Meier values as in the textbooks)."""
    times = np.array([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35])
    escaped = np.arange(21) < 9
    found = survival.survival(times, escaped, [6, 7, 10, 13, 16, 22, 23])
    assert_allclose(found.value, [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], atol=5e-4)
    assert survival.median(times, escaped).value == 23
    placebo = np.array([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23])
    compared = survival.compare((placebo, np.ones(21, bool)), (times, escaped))
    assert_allclose(compared.statistic**2, 16.79, atol=5e-3)  # the log-rank chi-square of this example


@pytest.mark.parametrize("cap", [400, 60, 20])
def test_a_censored_mean_is_right_and_its_error_too(cap):
    """The mean of a geometric law is 1/h whatever share the cap cuts off; errors cover as they claim."""
    hazard, replicates = 0.02, 400
    means = [survival.mean(*sample(seed, 300, hazard, cap)) for seed in range(replicates)]
    z = np.array([(m.value - 1 / hazard) / m.stderr for m in means])
    assert not outside((np.abs(z) > 1.96).sum(), replicates, 0.93)  # few escapes: a skew estimate
    # the spread of the estimates is what the errors say, within the error of a standard deviation (4 s.e. = 14 %)
    assert_allclose(np.std([m.value for m in means]) / np.mean([m.stderr for m in means]), 1, atol=0.2)
    if cap == 60:  # of constant rates as many seem to change as pass 2.5 standard errors, 1.2 %
        remarks = sum("still changes" in m.estimator for m in means)
        low, high = scipy.stats.binom.ppf([1e-2, 1 - 1e-4], replicates, 2 * scipy.stats.norm.sf(2.5))
        assert low <= remarks <= high


def test_the_error_of_the_censored_mean_against_the_jackknife():
    steps, escaped = sample(5, 400, 0.02, 40)
    found = survival.mean(steps, escaped, after=7)
    keep = ~np.eye(400, dtype=bool)
    left_out = [survival.mean(steps[k], escaped[k], after=7).value for k in keep]
    jackknife = np.sqrt(399 / 400 * np.sum((left_out - np.mean(left_out)) ** 2))
    assert_allclose(found.stderr, jackknife, rtol=0.02)  # they agree up to O(1/n)
    steps, escaped = censored_at_random(6, 400)
    left_out = [survival.mean(steps[k], escaped[k], restricted=True, until=80).value for k in keep]
    jackknife = np.sqrt(399 / 400 * np.sum((left_out - np.mean(left_out)) ** 2))
    assert_allclose(survival.mean(steps, escaped, restricted=True, until=80).stderr, jackknife, rtol=0.02)


def test_a_transient_before_the_tail_is_not_counted_into_the_rate():
    for seed in range(5):
        steps, escaped = sample(seed, 20_000, 0.01, cap=150, wait=80)
        mean = survival.mean(steps, escaped)
        assert abs(mean.value - 180) < 4.5 * mean.stderr
        assert "tail" in mean.estimator
        assert "still changes" not in mean.estimator
        rate = survival.rate(steps, escaped)
        assert abs(rate.value - 0.01) < 4.5 * rate.stderr


def test_a_rate_that_changes_is_told():
    times = np.random.default_rng(0).weibull(3.0, 20_000) * 100  # hazard grows as t²
    cap = 90.0
    mean = survival.mean(np.minimum(times, cap), times <= cap)
    assert "the rate still changes" in mean.estimator


def test_a_tail_that_was_hardly_watched_is_told(reference):
    """A linear unstable walk, cut off before its rate has settled: too few late steps to see the rate rise."""
    generator = np.random.default_rng(0)
    w, times = np.zeros(1000), np.full(1000, 400)
    for k in range(1, 400):
        w = 1.1 * w + 0.025 * generator.normal(size=1000)
        times = np.where((np.abs(w) > 1) & (times == 400), k, times)
    cut = survival.mean(np.minimum(times, 30), times <= 30)
    assert "too short to tell" in cut.estimator or "still changes" in cut.estimator
    whole = survival.mean(np.minimum(times, 100), times <= 100)
    assert "short" not in whole.estimator
    exact = reference["5_escape"]["discrete_exit"]["sets"]["sgd_B16"]["mean_exit_step"]
    assert abs(whole.value - exact) < 4.5 * whole.stderr


def test_restricted_means_need_no_assumption():
    steps, escaped = sample(2, 1000, 0.02, 60)
    found = survival.mean(steps, escaped, restricted=True)
    assert_allclose(found.value, steps.mean(), rtol=1e-12)
    assert_allclose(found.stderr, steps.std(ddof=1) / np.sqrt(1000), rtol=1e-10)
    shorter = survival.mean(steps, escaped, restricted=True, until=25)
    assert_allclose(shorter.value, np.minimum(steps, 25).mean(), rtol=1e-12)
    assert "25" in shorter.estimator


def test_nobody_escaped():
    steps, escaped = np.full(200, 1000), np.zeros(200, bool)
    mean = survival.mean(steps, escaped)
    assert mean == (np.inf, np.inf, 1.0)
    # 95 %: exp(-runs · steps / mean) = 0.05
    assert f"{200 * 1000 / np.log(20):.3g}" in mean.estimator
    assert survival.median(steps, escaped) == (np.inf, 1000, np.inf)
    rate = survival.rate(steps, escaped)
    assert (rate.value, rate.events, rate.lower) == (0, 0, 0)
    assert_allclose(rate.upper, -np.log(0.025) / 200_000, rtol=1e-10)
    assert rate.stderr > 0
    curve = survival.survival(steps, escaped, [10, 1000])
    assert_allclose(curve.value, 1)
    assert_allclose(curve.lower, 0.025 ** (1 / 200), rtol=1e-10)
    value, stderr, _ = survival.mean(steps, escaped, restricted=True)
    assert value == 1000
    assert_allclose(stderr, 1000 * binomial_error(0, 200), rtol=1e-12)  # each that left would take at most 1000 away


def test_quantiles_beyond_the_cap_are_infinite_with_a_bound():
    steps, escaped = sample(3, 500, 0.001, 400)
    share = escaped.mean()
    assert survival.quantile(steps, escaped, share / 2).upper < 400
    assert survival.median(steps, escaped) == (np.inf, 400, np.inf)


@pytest.mark.parametrize("cap", [None, 40])
def test_intervals_cover(cap):
    """Over 400 replicates; discrete laws cover more than they must, so only too many misses count."""
    hazard, replicates = 0.02, 400
    true_median = np.ceil(np.log(0.5) / np.log(1 - hazard))
    misses = np.zeros(3)
    for seed in range(replicates):
        steps, escaped = sample(seed, 120, hazard, cap)
        quantile = survival.median(steps, escaped)
        misses[0] += not quantile.lower <= true_median <= quantile.upper
        curve = survival.survival(steps, escaped, [30])
        misses[1] += not curve.lower[0] <= (1 - hazard) ** 30 <= curve.upper[0]
        rate = survival.rate(steps, escaped)
        misses[2] += not rate.lower <= hazard <= rate.upper
    assert not any(outside(m, replicates, 0.95) for m in misses)


def test_the_band_covers_under_random_censoring():
    misses = 0
    for seed in range(400):
        curve = survival.survival(*censored_at_random(seed, 150), [50])
        misses += not curve.lower[0] <= 0.98**50 <= curve.upper[0]
    assert not outside(misses, 400, 0.95)


# --- two samples ----------------------------------------------------------------------------------------------


def test_the_test_is_scipys_log_rank_test():
    a, b = censored_at_random(0, 200), sample(1, 150, 0.03, 60)
    ours, theirs = survival.compare(a, b), scipy.stats.logrank(scipys(*a), scipys(*b))
    assert_allclose([ours.statistic, ours.pvalue], [theirs.statistic, theirs.pvalue], rtol=1e-10)


def test_a_million_runs_do_not_overflow():
    """Copies of a sample: the statistic grows as √copies, up to the (n − d)/(n − 1) of ties."""
    a, b = sample(0, 1000, 0.02, 100), sample(1, 1000, 0.021, 100)
    once = survival.compare(a, b).statistic
    often = survival.compare(*(tuple(np.tile(x, 1000) for x in pair) for pair in (a, b))).statistic
    assert_allclose(often, once * np.sqrt(1000), rtol=2e-3)


def test_effects_are_found_with_their_size():
    misses = np.zeros(3)
    for seed in range(300):
        a, b = sample(2 * seed, 300, 0.004, 300), sample(2 * seed + 1, 300, 0.002, 300)
        found = survival.compare(a, b)
        misses += [
            found.pvalue > 0.05,
            not found.hazard_interval[0] <= 2 <= found.hazard_interval[1],
            not found.mean_interval[0] <= 0.5 <= found.mean_interval[1],
        ]
    assert misses[0] < 10  # an effect of about 5 standard errors
    assert not outside(misses[1], 300, 0.95)
    assert not outside(misses[2], 300, 0.93)
    # nor are they wider than they say: as few misses have a chance of 1e-4, and of twice the width next to none
    assert misses[1:].min() > scipy.stats.binom.ppf(1e-4, 300, 0.05)


def test_intervals_of_a_comparison_have_the_level_asked_for():
    """In logarithms they are symmetric about the ratio and as wide as the normal law says for this level."""
    a, b = sample(0, 300, 0.004, 300), sample(1, 300, 0.002, 300)
    wide, narrow = survival.compare(a, b, 0.95), survival.compare(a, b, 0.5)
    assert (wide.statistic, wide.pvalue, wide.hazard_ratio) == (narrow.statistic, narrow.pvalue, narrow.hazard_ratio)
    for name in ("mean", "hazard"):
        ratio, ends, near = (getattr(wide, f"{name}_ratio"), *(getattr(x, f"{name}_interval") for x in (wide, narrow)))
        assert_allclose(np.log(ends) - np.log(ratio), np.array([-1, 1]) * np.log(ends[1] / ratio), rtol=1e-9)
        stderr, same = (getattr(x, f"{name}_stderr") for x in (wide, narrow))  # to first order, and of any level
        assert_allclose([stderr, same], ratio * np.log(ends[1] / ratio) / scipy.stats.norm.ppf(0.975), rtol=1e-9)
        share = np.log(near[1] / ratio) / np.log(ends[1] / ratio)
        assert_allclose(share, scipy.stats.norm.ppf(0.75) / scipy.stats.norm.ppf(0.975), rtol=1e-9)


def test_no_effect_is_found_as_often_as_the_level_says():
    pvalues = [
        survival.compare(sample(2 * s, 100, 0.01, 150), sample(2 * s + 1, 80, 0.01, 80)).pvalue for s in range(400)
    ]
    assert scipy.stats.kstest(pvalues, "uniform").pvalue > 1e-4


def test_one_side_without_escapes():
    found = survival.compare(sample(0, 100, 0.05), (np.full(100, 200), np.zeros(100, bool)))
    assert found.pvalue < 1e-10
    assert found.mean_ratio == 0
    assert found.mean_interval == (0, np.inf)
    assert found.mean_stderr == found.hazard_stderr == np.inf
    *_, mean_interval, hazard_ratio, hazard_interval, estimator = found[:7]  # where they stood before errors came
    assert (mean_interval, hazard_ratio, hazard_interval) == ((0, np.inf), np.inf, (0, np.inf))
    assert estimator == found.estimator
    assert found.hazard_ratio == np.inf


def test_results_of_other_kinds_can_be_compared():
    class Result:
        steps, escaped = sample(0, 100, 0.05)

    assert survival.compare(Result, Result).hazard_ratio == 1


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "escaped", "message"),
    [
        ([1, 2], [True], "one length"),
        ([], np.zeros(0, bool), "one length"),
        ([[1, 2]], [[True, True]], "one length"),
        ([1, 2], [1, 0], "True or False"),
        ([1, np.nan], [True, False], "finite"),
        ([1, -2], [True, False], "steps must be finite and >= 0"),
        ([1, 0], [True, True], "escape must be finite and > 0"),
    ],
)
def test_bad_samples_are_refused(steps, escaped, message):
    for ask in (survival.mean, survival.median, survival.survival, survival.rate):
        with pytest.raises(ValueError, match=message):
            ask(steps, np.array(escaped))


def test_bad_questions_are_refused():
    steps, escaped = sample(0, 50, 0.01, 60)
    with pytest.raises(ValueError, match="at must be at most 60"):
        survival.survival(steps, escaped, [61])
    with pytest.raises(ValueError, match="until must be at most 60"):
        survival.mean(steps, escaped, restricted=True, until=61)
    with pytest.raises(ValueError, match="restricted=True"):
        survival.mean(steps, escaped, until=50)
    with pytest.raises(ValueError, match="smaller `after`"):
        survival.mean(steps, escaped, after=60)
    with pytest.raises(ValueError, match="smaller `after`"):
        survival.rate(steps, escaped, after=60)
    with pytest.raises(ValueError, match="q must be"):
        survival.quantile(steps, escaped, 1.0)
    with pytest.raises(ValueError, match="level must be"):
        survival.median(steps, escaped, level=95)
    with pytest.raises(ValueError, match="nothing to compare"):
        survival.compare((steps, np.zeros(50, bool)), (steps, np.zeros(50, bool)))


def test_times_beyond_all_escapes_or_of_any_unit_change_nothing_else():
    """Runs that have all escaped are watched in vain: the mean of min(T, K) is that of T, and its error, too."""
    steps, escaped = np.array([1.0, 2.0, 2.0, 5.0]), np.ones(4, bool)
    plain = survival.mean(steps, escaped)
    assert_allclose((plain.value, plain.stderr), (2.5, np.std(steps, ddof=1) / 2), rtol=1e-14)
    for until in (5.0, 6.0, 1e300):
        assert_allclose(survival.mean(steps, escaped, restricted=True, until=until)[:2], plain[:2], rtol=1e-14)
    escaped[-1] = False
    for seen in (np.ones(4, bool), escaped):  # powers of two change no digit, though squares of times are infinite
        found = survival.mean(steps * 2.0**600, seen, restricted=True)
        assert_array_equal(found[:2], 2.0**600 * np.array(survival.mean(steps, seen, restricted=True)[:2]))
