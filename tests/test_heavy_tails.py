"""Stable noise: its law, who takes it and who refuses it, and that runs under it leave by jumps."""

import re

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import escape
from flatdyn.core import stable
from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import normals, run_key, seed_words
from flatdyn.noise import Stable

RUNS, KEY = 100_000, jax.random.key(0)
STABLE = jax.jit(stable.stable, static_argnums=3)
LINE, PLANE = fd.landscapes.saddle((1.0,)), fd.landscapes.saddle((1.0, 2.0))
SUM = fd.Landscape.from_examples("(x - c)**2/2", {"c": [1.0, 2.0, 6.0]}, symbols="x")


@jax.jit
def _draws(words, like, alphas):
    """Independent and isotropic pairs of every run for every α, shape (runs, alphas, 2, 2)."""

    def one(run, alpha):
        key = run_key(words, run, jnp.uint32(7))
        return jnp.stack([jnp.stack(stable.stable(key, like, alpha, both).tree) for both in (False, True)])

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(jnp.arange(RUNS), alphas)


ALPHAS = (0.5, 1.0, 1.7, 2.0)


@pytest.fixture(scope="module", params=[jnp.float32, jnp.float64], ids=["32", "64"])
def draws(request):
    like = Vector((jnp.zeros((), request.param),) * 2)
    keys = [seed_words(jax.random.key(seed)) for seed in (0, 1)]
    alphas = jnp.asarray(ALPHAS, request.param)
    return [np.asarray(_draws(words, like, alphas), float) for words in keys]


def test_numbers_have_the_characteristic_function_and_the_tails_of_their_index(draws):
    """E e^{iu·ξ} of one coordinate, of a slanting direction, and the share of large numbers."""
    u = np.array([0.1, 0.5, 1.0, 2.0, 4.0])
    for x in draws:
        assert np.isfinite(x).all()
        for i, alpha in enumerate(ALPHAS):
            for pair, slanting in ((x[:, i, 0], 0.6**alpha + 0.8**alpha), (x[:, i, 1], 1.0)):
                # the standard deviation of a cosine is below √½ (and near it for u = 4); 5 of them
                bound = 5 * np.sqrt(0.5 / RUNS)
                assert_allclose(np.cos(pair[:, :1] * u).mean(0), np.exp(-(u**alpha)), atol=bound)
                assert_allclose(np.cos(pair[:, 1:] * u).mean(0), np.exp(-(u**alpha)), atol=bound)
                assert abs(np.cos(pair @ [0.6, 0.8]).mean() - np.exp(-slanting)) < bound
                # as many are above 0 as below
                assert abs((pair > 0).mean(0) - 0.5).max() < 2.5 / np.sqrt(RUNS)
            if alpha == 2:
                continue
            # one in a thousand is beyond q: P(|ξ| > x) = (2/π) Γ(α) sin(πα/2) x^{−α} up to a few per cent at 1.7
            # (next term −Γ(2α) sin(πα)/2 x^{−2α}), and SciPy's law knows the rest
            q = scipy.stats.levy_stable.isf(5e-4, alpha, 0)
            expected = RUNS * 1e-3
            for each in np.moveaxis(x[:, i], (1, 2), (0, 1)).reshape(4, RUNS):
                assert abs((np.abs(each) > q).sum() - expected) < 5 * np.sqrt(expected)


def test_at_index_one_they_are_cauchy_and_at_two_normal_with_the_normals_of_the_key(draws):
    for x in draws:
        assert scipy.stats.kstest(x[:, 1, 0, 0], "cauchy").pvalue > 1e-6
        assert scipy.stats.kstest(x[:, 3, 1, 1] / np.sqrt(2), "norm").pvalue > 1e-6
    key = run_key(seed_words(jax.random.key(0)), jnp.uint32(3), jnp.uint32(5))
    tree = Vector({"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)})
    two = STABLE(key, tree, 2.0)
    assert_allclose(two.tree["a"], np.sqrt(2) * normals(key, tree).tree["a"], rtol=1e-15)
    spread = STABLE(key, tree, 1.2)
    assert {k: v.shape for k, v in spread.tree.items()} == {"a": (2, 3), "b": (4,)}
    ratio = spread.tree["a"] / normals(key, tree).tree["a"]
    assert len(np.unique(np.asarray(ratio).round(9))) == 6  # each its own width; isotropic ones share it
    ratio = STABLE(key, tree, 1.2, True).tree["a"] / normals(key, tree).tree["a"]
    assert np.ptp(np.asarray(ratio)) < 1e-13


@pytest.mark.parametrize(("kind", "low"), [(jnp.float32, None), (jnp.float64, 77)])
def test_the_width_is_kanters_to_the_end_of_the_words(kind, low, monkeypatch):
    """At the smallest and largest random words, where U is next to 0 or π, and W next to 0 or large."""
    edges = np.array([0, 1, 12345, 2**31 - 1, 2**31, 2**32 - 12345, 2**32 - 1], np.uint32)
    words = [word.ravel() for word in np.meshgrid(edges, edges)]
    blocks = words if low is None else [(word, np.full_like(word, low)) for word in words]
    monkeypatch.setattr(stable, "block", lambda key, i: blocks if low is None else blocks[i])

    def exact(alpha, u, w):
        a, u, w = mpmath.mpf(alpha) / 2, u * mpmath.pi, -mpmath.log(w)
        rest = (mpmath.sin((1 - a) * u) / (w * mpmath.sin(u))) ** (1 / a - 1)
        return float(min(mpmath.sqrt(2 * mpmath.sin(a * u) / mpmath.sin(u) * rest), largest))

    largest = float(jnp.finfo(kind).max) * np.exp(-3)
    with mpmath.workdps(40):
        lower = mpmath.mpf(0.5) if low is None else (low + mpmath.mpf(0.5)) / 2**32
        # what stands below a word is counted from the nearer end
        shares = [[(int(k) + (lower if k < 2**31 else 1 - lower)) / 2**32 for k in word] for word in words]
        for alpha in (0.25, 0.5, 1.0, 1.5, 1.9375):
            found = stable._width(None, 0, jnp.asarray(alpha / 2, kind))
            right = np.array([exact(alpha, u, w) for u, w in zip(*shares, strict=True)])
            # logarithms of up to 50 in 32 bits and 100 in 64, times 1/α, are rounded to a unit, and the two sines
            unit = float(jnp.finfo(kind).eps) / 2
            assert_allclose(np.asarray(found, float), right, rtol=(8 + 100 / alpha) * unit)


def test_a_batch_is_the_mean_of_its_examples_numbers():
    """s B^{1/α − 1} ξ: wider for α < 1. From the gradient alone, by hand."""
    theta, key = PLANE.vector(jnp.array([0.3, -0.4])), jax.random.key(3)
    for alpha, factor in ((0.5, 16.0), (1.0, 1.0), (1.5, 16 ** (-1 / 3)), (2.0, 0.25)):
        noise = Stable(alpha, [0.7, 0.1], 16)
        xi = noise.draw(key, PLANE, theta)
        found = PLANE.array(noise.gradient(PLANE, theta, xi))
        # the sum of B numbers is B^{1/α} times one in law: over B this is B^{1/α − 1}, 16 to the 1, 0, −1/3, −1/2
        assert_allclose(found - np.array([0.3, -0.8]), factor * np.array([0.7, 0.1]) * PLANE.array(xi), rtol=1e-12)


def test_at_index_two_runs_are_those_under_normal_noise():
    """Variance 2 s²/B, with the same numbers drawn, in the ascent, too."""
    start, key = np.tile([0.5, 1.0], (40, 1)), jax.random.key(2)
    pair = [Stable(2.0, 0.3, 4), fd.noise.Gaussian(0.3 * np.sqrt(2), 4)]
    runs = [fd.simulate(fd.Iteration(PLANE, fd.SAM(0.1, 0.3), one, "independent"), start, 20, key) for one in pair]
    # rounding of 20 steps, which SAM near its jump makes larger
    assert_allclose(*(run.final for run in runs), rtol=1e-9)


def test_runs_do_not_depend_on_those_beside_them():
    process, start = fd.Iteration(PLANE, fd.SAM(0.1, 0.1), Stable(1.3, 0.1, isotropic=True)), np.zeros((37, 2))
    all_of_them = fd.simulate(process, start, 50, jax.random.key(5)).final
    assert_array_equal(fd.simulate(process, start, 50, jax.random.key(5), chunk=7).final, all_of_them)


@pytest.mark.parametrize("alpha", [0.05, 1.5])
def test_numbers_beyond_the_range_end_a_run_by_its_status(alpha):
    """At α = 0.05 every tenth number is cut at the largest one, e⁸⁵; times a scale of 1000 it is beyond."""
    process = fd.Iteration(LINE, fd.SAM(0.1, 0.1), Stable(alpha, 1e3))
    run = fd.simulate(process, np.zeros((200, 1), np.float32), 500, jax.random.key(0))
    assert np.isfinite(run.final).all()
    assert ((run.status == fd.Status.DIVERGED).mean() > 0.9) == (alpha < 1)
    quiet = fd.simulate(fd.Iteration(LINE, fd.GD(0.1), Stable(alpha, 0.0)), np.ones((9, 1), np.float32), 9, KEY)
    assert_array_equal(quiet.final, fd.simulate(fd.Iteration(LINE, fd.GD(0.1)), np.ones((9, 1), np.float32), 9).final)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda p: escape.exit_law(p, (-1, 1), 0.0), "normal numbers .* Stable"),
        (lambda p: fd.stationary.covariance(p), "normal numbers .* Stable"),
        (lambda p: fd.stationary.derivatives(p), "normal numbers .* escape_times take any"),
        (lambda p: fd.flows.Diffusion(LINE, p.method, p.noise), "a variance: .* got Stable"),
        (lambda p: fd.flows.Diffusion(LINE, fd.SAM(0.1, 0.1), p.noise, form="derived"), "a variance: .* got Stable"),
        (lambda p: fd.flows.Diffusion(LINE, fd.GD(0.1), fd.noise.Exact()), "a variance: .* got Exact"),
        (
            lambda p: fd.laws.epochs.stationary_law(fd.Iteration(SUM, p.method, p.noise)),
            "Epochs or FiniteSum, got Stable",
        ),
    ],
)
def test_what_needs_normal_numbers_or_a_variance_refuses(ask, words):
    with pytest.raises(TypeError, match=words):
        ask(fd.Iteration(LINE, fd.GD(0.1), Stable(1.5, 0.1)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stable(0.0), "alpha must be finite and > 0"),
        (lambda: Stable(2.1), r"alpha must be .* <= 2, got 2\.1"),
        (lambda: Stable(1.5, -1.0), "scale must be finite and >= 0"),
        (lambda: Stable(1.5, np.eye(2)), r"one per coordinate, got shape \(2, 2\)"),
        (lambda: Stable(1.5, 1.0, 0), "batch_size must be .* >= 1"),
        (lambda: Stable(0.01, 1.0, 1e9), "take a smaller batch"),
        (lambda: fd.Iteration(PLANE, fd.GD(0.1), Stable(1.5, [1.0, 1.0, 1.0])), "scale must have shape"),
        (lambda: fd.Iteration(PLANE, fd.GD(0.1), Stable(np.array([1.5, 1.0]))), "alpha must be one number"),
        (lambda: escape.jump_time(0.1, 2.0, 0.1, 1.0), "no jumps: ask exit_law"),
        (lambda: escape.jump_time(0.1, 2.5, 0.1, 1.0), "alpha must be"),
        (lambda: escape.jump_time(0.1, 1.5, 0.1, [1.0, -1.0]), "distances must be finite and > 0"),
        (lambda: escape.jump_time(0.1, 1.5, 0.1, []), "distances must hold at least 1"),
    ],
)
def test_bad_numbers_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
    with pytest.raises(TypeError, match="isotropic must be True or False"):
        Stable(1.5, isotropic="yes")


# --- escapes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.6])
def test_a_jump_has_the_chance_that_the_tail_of_the_law_gives(alpha):
    """1/E T against the tail by Fourier inversion, far out, and c of several coordinates against c on the line."""
    # P(|ξ| > x) = (2/π) ∫ sin(v)/v (1 − e^{−(v/x)^α}) dv; the tail's next term is smaller by x^{−α} = 1e-4 or less
    x = mpmath.mpf(10) ** (4 / alpha)
    with mpmath.workdps(20):
        tail = mpmath.quadosc(lambda v: mpmath.sin(v) / v * -mpmath.expm1(-((v / x) ** alpha)), [0, mpmath.inf], 1)
    time = escape.jump_time(0.1, alpha, 10 / float(x), [1.0, 1.0])
    assert_allclose(1 / time, float(2 / mpmath.pi * tail), rtol=1e-3)
    ball = escape.jump_time(0.1, alpha, 1e-2, 100.0, dim=1)
    assert_allclose(ball, escape.jump_time(0.1, alpha, 1e-2, [100.0, 100.0]), rtol=1e-12)
    # in the plane, the projection on a line is the line's law: jumps over a distance, averaged over angles
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False) + 1e-3
    projected = escape.jump_time(0.1, alpha, 1e-2, 100 / np.abs(np.cos(angles)), dim=2)
    assert_allclose(projected, ball, rtol=2e-3)  # a kink of |cos|^α on 2000 angles: 2000^{−1−α} and less


def test_a_batch_delays_a_jump_little():
    assert_allclose(escape.jump_time(0.1, 1.5, 0.1, 1.0, 16) / escape.jump_time(0.1, 1.5, 0.1, 1.0), 4.0, rtol=1e-12)
    assert escape.jump_time(1e-300, 1.9, 1e-300, 1.0) == np.inf


# mean times on the line: α, s, and how far E T may be from its limit. Below α = 1 positions hardly spread, so nothing
# but the error of the mean; above, the spread in the well is a share of about (η s/d)^{α/(1 + α)} of its width
CASES = [(0.7, 0.01, 0.0), (1.0, 0.03, 0.02), (1.5, 0.15, 0.08)]


@pytest.mark.parametrize(("alpha", "scale", "apart"), CASES)
@pytest.mark.parametrize("key", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_mean_escape_times_and_sides_are_those_of_one_jump(alpha, scale, apart, key):
    runs, time = 2500, escape.jump_time(0.2, alpha, scale, [1.0, 2.0])
    process = fd.Iteration(LINE, fd.GD(0.2), Stable(alpha, scale))
    left = fd.escape_times(process, [0.0], escape.Box([(-1.0, 2.0)]), runs, int(40 * time), jax.random.key(key))
    assert left.escaped.all()  # e⁻⁴⁰ of an exponential law is left
    # 5 standard errors of exponential times, and 10 η λ = 2 steps before the law of the well is reached
    assert abs(left.steps.mean() / time - 1) < 5 / np.sqrt(runs) + apart + 10 / time
    share = 2**-alpha / (1 + 2**-alpha)
    assert abs((left.exit[:, 0] > 0).mean() - share) < 5 * np.sqrt(share * (1 - share) / runs) + apart / 4


@pytest.mark.parametrize("isotropic", [False, True])
def test_in_the_plane_it_jumps_along_the_axes_or_anywhere(isotropic):
    runs, args = 3000, (0.2, 1.2, 0.05)
    time = escape.jump_time(*args, 1.0, dim=2) if isotropic else escape.jump_time(*args, np.ones(4))
    process = fd.Iteration(PLANE, fd.GD(0.2), Stable(1.2, 0.05, isotropic=isotropic))
    left = fd.escape_times(process, np.zeros(2), escape.Ball([0.0, 0.0], 1.0), runs, int(40 * time), KEY)
    assert abs(left.steps.mean() / time - 1) < 5 / np.sqrt(runs) + 0.03  # of the well's own width, as on the line
    along = (np.abs(left.direction).max(axis=1) > 0.95).mean()
    # evenly spread directions are within arccos 0.95 of an axis in 8 arccos(0.95)/2π of all cases
    if isotropic:
        assert abs(along - 4 * np.arccos(0.95) / np.pi) < 2.5 / np.sqrt(runs)
    else:
        assert along > 0.97


def test_momentum_jumps_as_far_as_a_kick_leads():
    runs, mu = 3000, 0.8
    kick = np.linalg.matrix_power  # largest θ after v = 1 at rest, by the map itself
    steps = [kick(np.array([[1 - 0.05, mu], [-0.05, mu]]), k) @ [1.0, 1.0] for k in range(60)]
    reach = max(theta for theta, _ in steps)
    time = escape.jump_time(0.05, 1.2, 0.08, np.array([1.0, 1.0]) / reach)
    process = fd.Iteration(LINE, fd.GD(0.05, momentum=mu), Stable(1.2, 0.08))
    left = fd.escape_times(process, [0.0], escape.Ball([0.0], 1.0), runs, int(40 * time), KEY)
    assert abs(left.steps.mean() / time - 1) < 5 / np.sqrt(runs) + 0.05  # of the well's own width, wider here


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "key"), [(0.8, 0), (1.3, 1)])
def test_exponents_are_the_index_for_scale_and_width_where_normal_noise_is_exponential(alpha, key):
    """ln E T against ln s and ln width has the slopes −α and α, by runs; under normal noise no power does it."""

    def mean(noise, width):
        process, ball = fd.Iteration(LINE, fd.GD(0.2), noise), escape.Ball([0.0], width)
        return fd.escape_times(process, [0.0], ball, 2000, 100_000, jax.random.key(key)).steps.mean()

    scales = np.array([0.03, 0.06, 0.12])
    times = [mean(Stable(alpha, s), 1.0) for s in scales]
    # a slope over a factor of 4 from times known to 1/√2000 each: their difference over ln 4, 4 of it; and the well's
    # own width, which shortens the last time by a few per cent
    error = 4 * np.sqrt(2 / 2000) / np.log(4) + 0.03
    assert abs(np.polyfit(np.log(scales), np.log(times), 1)[0] + alpha) < error
    assert abs(np.log(mean(Stable(alpha, 0.03), 2.0) / times[0]) / np.log(2) - alpha) < 2 * error
    # V = λ(2 − ηλ) width²/(2 η s²) is 2.9 at s = 1.25: twice the width makes E T e^{3 V}-fold, and a power 2^α or less
    normal = [mean(fd.noise.Gaussian(1.25), width) for width in (1.0, 1.6)]
    assert normal[1] / normal[0] > 4 * 1.6**2


@pytest.mark.slow
def test_splitting_agrees_with_plain_runs_where_jumps_pass_over_levels():
    process, ball = fd.Iteration(LINE, fd.GD(0.2), Stable(1.5, 0.05)), escape.Ball([0.0], 1.0)
    plain = fd.escape_times(process, [0.0], ball, 10_000, 200_000, KEY).steps
    rates = []
    for key in range(3):
        found = escape.multilevel_splitting(process, [0.0], ball, jax.random.key(key), walkers=1000)
        rates += found.rates.tolist()
    rate, error = np.mean(rates), np.std(rates, ddof=1) / np.sqrt(len(rates))
    # 4 standard errors of 30 replicates, and of the mean of 10⁴ exponential times
    assert abs(rate - 1 / plain.mean()) < 4 * (error + rate / 100)


@pytest.mark.slow
def test_splitting_counts_those_whose_score_is_no_number_as_left():
    """Beyond the range a score of differences is NaN: it is outside, also right after a departure from the core."""

    def beyond(value):
        return lambda theta: jnp.where(jnp.abs(theta[0]) > 1, value, jnp.abs(theta[0]))

    process, levels = fd.Iteration(LINE, fd.GD(0.2), Stable(1.0, 0.004)), [0.001, 0.004, 0.05]
    ball = escape.Ball([0.0], 1.0)
    found = [
        escape.multilevel_splitting(process, [0.0], ball, KEY, walkers=100, levels=levels, score=one)
        for one in (beyond(jnp.inf), beyond(jnp.nan))
    ]
    assert_array_equal(found[1].rates, found[0].rates)


@pytest.mark.slow
def test_basins_are_found_under_it():
    process = fd.Iteration(fd.landscapes.double_well(), fd.GD(0.1), Stable(1.5, 1e-4))
    found = fd.map_basins(process, box=[(-2.0, 2.0)], resolution=10, key=KEY)
    assert sorted(re.findall(r"50\.00 % minimum \((-?1)\)", repr(found))) == ["-1", "1"]
