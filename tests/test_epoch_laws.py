"""Exact laws of shuffled passes, against closed forms, simulations and a NumPy loop; beside fresh minibatches."""

import itertools

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.laws import epochs

H, C, LR = np.array([0.5, 1.0, 2.0, 3.0, 1.5]), np.array([1.0, -2.0, 0.5, 3.0, 0.0]), 0.1
SUM = fd.Landscape.from_examples("h*(x - c)**2/2", {"h": H, "c": C}, symbols="x")
PASSES, FRESH = fd.noise.Epochs(1), fd.noise.FiniteSum(1)
SIGMAS = 5  # of each comparison with a simulation; a chance of 6e-7


def law(method, noise):
    mean, covariance = epochs.stationary_law(fd.Iteration(SUM, method, noise))
    return mean[0], covariance[0, 0]


def test_all_orders_of_an_epoch_by_hand():
    found = epochs.outcomes(fd.Iteration(SUM, fd.SAM(LR, 0.2), fd.noise.Epochs(2, "keep")), [0.3])

    def ended(order):
        x = 0.3
        for batch in (order[:2], order[2:4], order[4:]):
            h, c = H[list(batch)], C[list(batch)]
            p = x + 0.2 * np.sign((h * (x - c)).mean())
            x -= LR * (h * (p - c)).mean()
        return x

    ends = [ended(order) for order in itertools.permutations(range(5))]
    assert_allclose(np.unique(np.round(found.theta[:, 0], 12)), np.unique(np.round(ends, 12)))
    assert_allclose(found.probability @ found.theta[:, 0] ** 2, np.mean(np.square(ends)), rtol=1e-12)
    assert len(found.theta) == 30  # two, two, and the last


def test_on_a_line_the_integrals_are_the_sum_over_all_orders():
    for lr in (0.6, 0.01):
        # the variance is of order η³ beside squares of order η²: digits are lost in proportion
        assert_allclose(law(fd.GD(lr), PASSES), epochs.line_law(H, C, lr), rtol=1e-11)


def test_with_equal_curvatures_the_variance_is_a_geometric_sum():
    """Σ wₖ c of n targets without replacement, wₖ = aᵏ: σ² n/(n − 1) (Σ w² − (Σ w)²/n)."""
    n, h, lr = 30, 0.7, 0.05
    c = np.random.default_rng(0).normal(size=n)
    a = 1 - lr * h
    spread = (1 - a ** (2 * n)) / (1 - a**2) - ((1 - a**n) / (1 - a)) ** 2 / n
    exact = lr**2 * h**2 * c.var() * n / (n - 1) * spread / (1 - a ** (2 * n))
    assert_allclose(epochs.line_law(np.full(n, h), c, lr), (c.mean(), exact), rtol=1e-11)


def test_shuffled_passes_spread_less_by_the_square_of_the_step():
    """To leading order, with different curvatures and targets; the error of the leading order is one order smaller."""
    star, n, h = H @ C / H.sum(), len(H), H.mean()
    g = H * (star - C)
    leading = (n**2 * h**2 * (g @ g) + (g @ g) * (H @ H) - (g @ H) ** 2) / (24 * n * h)
    gaps = []
    for lr in (2e-3, 1e-3):
        mean, variance = epochs.line_law(H, C, lr)
        gaps.append((mean - (star - lr / 2 * (g * H).mean() / h), variance / (lr**3 * leading) - 1))
        fresh = law(fd.GD(lr), FRESH)
        assert_allclose(fresh[0], star, rtol=1e-9)
        assert_allclose(fresh[1], lr * g.var() / (2 * h), rtol=10 * lr)  # of order 1 in η, not 3
    assert_allclose(np.divide(*gaps), (4, 2), rtol=0.01)


@pytest.mark.parametrize(
    ("method", "noise"),
    [
        (fd.GD(LR), PASSES),
        (fd.GD(LR), FRESH),
        (fd.GD(LR, 0.5), fd.noise.Epochs(2, "keep")),
        (fd.USAM(LR, 0.2), fd.noise.Epochs(2, ascent_size=1)),
    ],
)
def test_the_law_is_that_of_simulations(method, noise):
    process, runs = fd.Iteration(SUM, method, noise), 5000
    steps = noise.steps(SUM) if noise.remembers else 1
    mean, variance = law(method, noise)
    for key in range(2):
        # 120 steps multiply what is left of the start by 0.85^120 = 3e-9
        x = fd.simulate(process, np.full((runs, 1), 0.3), steps * (120 // steps), jax.random.key(key)).final[:, 0]
        assert abs(x.mean() - mean) < SIGMAS * np.sqrt(variance / runs)
        fourth = ((x - x.mean()) ** 4).mean() / x.var() ** 2
        assert abs(x.var() / variance - 1) < SIGMAS * np.sqrt((fourth - 1) / runs)


OFFSETS = np.array([2.0, -1.0, -2.5, 1.5])
SADDLE = fd.Landscape.from_examples("-(x - c)**2/2", {"c": OFFSETS}, symbols="x")


def by_hand(shuffled, runs, rng):
    """Steps until |x| > 1 from the saddle, by a loop in NumPy."""
    x, steps, k, n = np.zeros(runs), np.zeros(runs), 0, len(OFFSETS)
    while (going := steps == 0).any():
        if k % n == 0:
            orders = rng.permuted(np.tile(np.arange(n), (runs, 1)), axis=1)
        drawn = OFFSETS[orders[:, k % n] if shuffled else rng.integers(n, size=runs)]
        k, x = k + 1, np.where(going, x + LR / 2 * (x - drawn), x)
        steps[going & (np.abs(x) > 1)] = k
    return steps


def test_shuffled_passes_stay_longer_at_a_saddle():
    """Escape under both schemes, against a loop of NumPy's own; and the rare escape by splitting."""
    runs, means = 20_000, {}
    rng = np.random.default_rng(3)
    for noise in (PASSES, FRESH):
        process = fd.Iteration(SADDLE, fd.GD(LR / 2), noise)
        wanted = by_hand(noise.remembers, runs, rng)
        for key in range(2):
            escapes = fd.escape_times(
                process, np.zeros((runs, 1)), fd.escape.Ball([0.0], 1.0), max_steps=2000, key=jax.random.key(key)
            )
            assert escapes.escaped.all()
            error = np.sqrt((wanted.var() + escapes.steps.var()) / runs)
            assert abs(escapes.steps.mean() - wanted.mean()) < SIGMAS * error
            assert abs(np.median(escapes.steps) - np.median(wanted)) < 3  # of some 50
        means[noise.remembers] = wanted.mean()
    # seeds of order η³ in place of η: longer by about ln(12/((ηh)² n (n + 1)))/(2ηh), of some 50
    assert means[True] > 1.5 * means[False]


@pytest.mark.slow
@pytest.mark.optimised  # a hundred million steps
def test_splitting_follows_a_pass():
    """A rare escape from a well: walkers that are copied within an epoch share what is left of its order."""
    targets = [2.0, -1.0, -2.5, 1.5, 0.4, -0.9, 0.8, -0.3]
    well = fd.Landscape.from_examples("(x - c)**2/2", {"c": targets}, symbols="x")
    process, region = fd.Iteration(well, fd.GD(0.3), PASSES), fd.escape.Ball([0.0], 1.245)
    starts = np.zeros((2000, 1))
    direct = fd.escape_times(process, starts, region, max_steps=100_000, key=jax.random.key(9)).steps
    for key in range(3):
        options = {"walkers": 4000, "relax": 40, "levels": [0.3, 0.6, 0.8, 0.9]}
        found = fd.escape.multilevel_splitting(process, [0.0], region, jax.random.key(key), **options)
        error = np.hypot(found.stderr, direct.std() / np.sqrt(len(direct)))
        assert error < 0.1 * direct.mean()
        # the spread over ten replicates has nine degrees of freedom: 1e-4 lies beyond 6.6
        assert abs(found.mean - direct.mean()) < 6.6 * error


def test_what_has_no_such_law_is_refused():
    law, GD = epochs.stationary_law, fd.GD
    many = fd.Landscape.from_examples("(x - c)**2/2", {"c": np.arange(12.0)}, symbols="x")
    falling = fd.Scheduled(GD(LR), lambda k: 1 / (1 + k))
    cases = [
        (TypeError, lambda: law(fd.Iteration(SUM, GD(LR))), "must have the noise Epochs or FiniteSum, got Exact"),
        (TypeError, lambda: law(fd.Iteration(SUM, fd.SGLD(LR, 1.0), PASSES)), "no random numbers a step"),
        (ValueError, lambda: law(fd.Iteration(SUM, fd.SAM(LR, LR), PASSES, "independent")), "'shared' or 'full'"),
        (ValueError, lambda: law(fd.Iteration(SUM, fd.SAM(LR, LR), fd.noise.Epochs(2))), "affine in its state"),
        (ValueError, lambda: law(fd.Iteration(SUM, falling, PASSES)), "counts its steps"),
        (ValueError, lambda: law(fd.Iteration(SUM, GD(4.0), PASSES)), "no stationary law"),
        (ValueError, lambda: law(fd.Iteration(many, GD(LR), PASSES)), "at most 50000 different outcomes"),
        (ValueError, lambda: epochs.line_law([1.0], [1.0, 2.0], LR), "must be as many, got 1 and 2"),
        (ValueError, lambda: epochs.line_law(np.ones(101), np.ones(101), LR), "at most 100, got 101"),
        (ValueError, lambda: epochs.line_law([1.0, -1.0], [1.0, 2.0], 2.0), "no stationary law"),
    ]
    for kind, ask, words in cases:
        with pytest.raises(kind, match=words):
            ask()
