"""Escape times in closed form and by quadrature: reference numbers, other quadratures, finite differences, limits."""

import time

import jax
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import escape

DOUBLE_WELL = fd.Landscape.from_expression("x**4/4 - x**2/2", symbols="x")


@pytest.fixture(scope="module")
def rows(reference):
    return reference["5_escape"]


def well(x):
    return x**4 / 4 - x**2 / 2


def by_mpmath(potential, diffusion, left, right, start):
    """The double integral over a reflecting left end, with 30 digits."""
    with mpmath.workdps(30):
        inner = mpmath.memoize(lambda y: mpmath.quad(lambda z: mpmath.exp(-potential(z) / diffusion), [left, y]))
        outer = mpmath.quad(lambda y: mpmath.exp(potential(y) / diffusion) * inner(y), [start, right])
        return float(outer / diffusion)


def by_finite_differences(drift, variance, left, right, cells):
    """Mean and second moment of the exit time from a grid: b T' + v T''/2 = −1, then = −2T."""
    x = np.linspace(left, right, cells + 1)[1:-1]
    h = (right - left) / cells
    b, v = drift(x), variance(x)
    up, down = v / (2 * h**2) + b / (2 * h), v / (2 * h**2) - b / (2 * h)
    bands = np.zeros((3, len(x)))
    bands[0, 1:], bands[1], bands[2, :-1] = up[:-1], -v / h**2, down[1:]
    first = scipy.linalg.solve_banded((1, 1), bands, -np.ones(len(x)))
    return x, first, scipy.linalg.solve_banded((1, 1), bands, -2 * first)


# --- quadrature -----------------------------------------------------------------------------------------------


def test_reference_numbers(rows):
    for row in rows["mfpt_ou"]["rows"]:
        b, L = row["b"], row["L"]
        assert_allclose(
            escape.mean_first_passage_1d(lambda x, b=b: -b * x**2 / 2, row["D"], (-L, L), 0.0), row["T"], rtol=1e-12
        )
    row = rows["mfpt_two_sided"]["example"]
    asked = (lambda x: -(x**2) / 2, row["D"], (row["a"], row["b"]), row["x0"])
    assert_allclose(escape.mean_first_passage_1d(*asked), row["T"], rtol=1e-11)  # the reference's own quadrature
    assert_allclose(escape.exit_probability_1d(*asked), row["prob_exit_right"], rtol=1e-12)
    for row in rows["mfpt_double_well"]["rows"]:
        for end, name in ((0, "T_minus1_to_0"), (1, "T_minus1_to_1")):
            for potential in (well, DOUBLE_WELL):
                with jax.enable_x64(False):  # a landscape is evaluated in 64 bits all the same
                    found = escape.mean_first_passage_1d(potential, row["D"], (-np.inf, end), -1.0, reflecting="left")
                assert_allclose(found, row[name], rtol=1e-11)


def test_brownian_motion():
    """E T = (x − a)(c − x)/2D between two absorbing ends; from the middle of (−L, L), Var T = (L²/D)²/6."""
    x = np.linspace(-1, 2, 7)
    found = escape.first_passage_1d((-1, 2), x, potential=lambda x: 0 * x, diffusion=0.3)
    assert_allclose(found.mean, (x + 1) * (2 - x) / 0.6, rtol=1e-13, atol=1e-14)
    assert_allclose(found.right, (x + 1) / 3, rtol=1e-13, atol=1e-14)
    middle = escape.first_passage_1d((-1, 1), 0.0, potential=lambda x: 0 * x, diffusion=0.5)
    assert_allclose(middle.std**2, 4 / 6, rtol=1e-12)
    reflected = escape.first_passage_1d((0, 1), 0.0, potential=lambda x: 0 * x, diffusion=0.5, reflecting="left")
    assert_allclose([reflected.mean, reflected.std**2, reflected.right], [1, 2 / 3, 1], rtol=1e-12)


def test_constant_drift():
    """An inverse Gaussian law: mean L/b, variance 2DL/b³, if the other end is far uphill."""
    found = escape.first_passage_1d((-40, 3), 0.0, drift=lambda x: 1 + 0 * x, variance=0.5)
    assert_allclose([found.mean, found.std**2, found.right], [3, 3 * 0.5, 1], rtol=1e-12)


def test_against_high_precision():
    asked = (well, 0.1, (-2.0, 0.5), -0.7)
    expected = by_mpmath(well, mpmath.mpf("0.1"), -2, 0.5, mpmath.mpf("-0.7"))
    assert_allclose(escape.mean_first_passage_1d(*asked, reflecting="left"), expected, rtol=1e-12)


def test_state_dependent_noise_against_finite_differences():
    def drift(x):
        return x - x**3

    def variance(x):
        return 0.2 + 0.3 * x**2

    errors = []
    for cells in (200, 400):
        x, first, second = by_finite_differences(drift, variance, -1.2, 0.8, cells)
        found = escape.first_passage_1d((-1.2, 0.8), x, drift=drift, variance=variance)
        assert_allclose(found.std, np.sqrt(second - first**2), rtol=5e-3)
        errors.append(np.abs(first - found.mean).max())
    assert errors[1] < 1e-4
    assert_allclose(errors[0] / errors[1], 4, rtol=0.02)  # the difference is the grid's, of second order


def test_both_forms_are_one():
    by_potential = escape.first_passage_1d((-1.5, 0.3), [-1.4, -1.0, 0.1], potential=well, diffusion=0.02)
    by_drift = escape.first_passage_1d((-1.5, 0.3), [-1.4, -1.0, 0.1], drift=lambda x: x - x**3, variance=0.04)
    for one, other in zip(by_potential, by_drift, strict=True):
        assert_allclose(one, other, rtol=1e-10)


def test_mirror_images():
    left = escape.first_passage_1d(
        (-2, 0.4), -1.0, potential=lambda x: well(x) + x / 9, diffusion=0.05, reflecting="left"
    )
    right = escape.first_passage_1d(
        (-0.4, 2), 1.0, potential=lambda x: well(x) - x / 9, diffusion=0.05, reflecting="right"
    )
    assert_allclose([left.mean, left.std], [right.mean, right.std], rtol=1e-12)
    assert (left.right, right.right) == (1, 0)


def test_an_end_at_infinity_is_either_end():
    """Half a parabola with the wall at infinity, from several starts on its side: times of the mirror image."""
    asked = {"diffusion": 0.4, "potential": lambda x: x**2 / 2}
    left = escape.first_passage_1d((-np.inf, 1.0), [-12.0, -0.5, 0.8], reflecting="left", **asked)
    right = escape.first_passage_1d((-1.0, np.inf), [12.0, 0.5, -0.8], reflecting="right", **asked)
    for one, other in zip(left[:2], right[:2], strict=True):
        assert_allclose(one, other, rtol=1e-11)
    far = escape.first_passage_1d((-20.0, 1.0), [-12.0, -0.5, 0.8], reflecting="left", **asked)  # none gets there
    assert_allclose(left.mean, far.mean, rtol=1e-11)
    assert_allclose(left.std, far.std, rtol=1e-11)


def test_kinks_and_jumps():
    """A drift that jumps, as SAM's with noiseless ascent does: T'' of each side is known, here −sign(x)."""
    D = 0.1
    kink = escape.mean_first_passage_1d(np.abs, D, (-1, 1), 0.0)
    jump = escape.first_passage_1d((-1, 1), 0.0, drift=lambda x: -np.sign(x), variance=2 * D).mean
    exact = D * (np.expm1(1 / D)) - 1  # T(0) = ∫_0^1 e^{y/D} ∫_0^y e^{−z/D} dz dy / D
    assert_allclose([kink, jump], exact, rtol=1e-11)


def test_small_noise_does_not_overflow():
    for D in (1e-2, 1e-3):
        found = escape.first_passage_1d((-np.inf, 0), -1.0, potential=well, diffusion=D, reflecting="left")
        kramers = escape.kramers(DOUBLE_WELL, [-1], [0], D) / 2
        assert_allclose(found.mean / kramers, 1, atol=2 * D)
        assert_allclose(found.std / found.mean, 1, rtol=1e-3)  # the exponential law of rare events
    assert escape.mean_first_passage_1d(well, 1e-5, (-np.inf, 0), -1.0, reflecting="left") == np.inf
    assert_allclose(escape.exit_probability_1d(lambda x: -(x**2) / 2, 1e-4, (-1, 1), 0.0), 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((well, 0.1, (1, -1), 0.0), {}, "left < right"),
        ((well, 0.1, (-1, 1), 2.0), {}, "start must lie in"),
        ((well, 0.0, (-1, 1), 0.0), {}, "diffusion must be"),
        ((well, 0.1, (-np.inf, 1), 0.0), {}, "absorbing end must be finite"),
        ((lambda x: -x, 0.1, (-1, np.inf), 0.0), {"reflecting": "right"}, "must confine"),
        ((np.zeros_like, 0.1, (-np.inf, 1), 0.0), {"reflecting": "left"}, "must confine"),
        ((well, 0.1, (-1, 1), 0.0), {"reflecting": "both"}, "reflecting must be"),
        ((lambda x: np.where(x > 0, np.nan, x), 0.1, (-1, 1), 0.0), {}, "potential must be finite"),
        ((fd.landscapes.beale(), 0.1, (-1, 1), 0.0), {}, "one dimension"),
    ],
)
def test_bad_questions(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        escape.mean_first_passage_1d(*arguments, **options)


def test_bad_forms():
    with pytest.raises(ValueError, match="either potential and diffusion, or drift and variance"):
        escape.first_passage_1d((-1, 1), 0.0, potential=well)
    with pytest.raises(ValueError, match="both ends must be finite"):
        escape.first_passage_1d((-np.inf, 1), 0.0, drift=lambda x: -x, variance=1.0, reflecting="left")
    with pytest.raises(ValueError, match="variance must be > 0"):
        escape.first_passage_1d((-1, 1), 0.0, drift=lambda x: -x, variance=0.0)
    with pytest.raises(TypeError, match="function or a landscape"):
        escape.mean_first_passage_1d(3.0, 0.1, (-1, 1), 0.0)


# --- closed forms ---------------------------------------------------------------------------------------------


def test_ornstein_uhlenbeck(rows):
    for row in rows["mfpt_ou"]["rows"]:
        found = escape.ornstein_uhlenbeck(-row["b"], row["D"], row["L"])
        assert_allclose(found, [row["T"], row["asymptotic"]], rtol=1e-12)


@pytest.mark.parametrize("curvature", [-3.0, -0.1, 0.0, 0.2, 2.0, 7.0])
def test_ornstein_uhlenbeck_of_either_sign_is_the_quadrature(curvature):
    found = escape.ornstein_uhlenbeck(curvature, 0.05, 0.8)
    quadrature = escape.mean_first_passage_1d(lambda x: curvature * x**2 / 2, 0.05, (-0.8, 0.8), 0.0)
    assert_allclose(found.exact, quadrature, rtol=1e-12)


def test_its_limits():
    for curvature in (-1.0, 1.0):
        # the next term is of relative order 1/z² = 2D, with a factor below 1
        exact, asymptotic = escape.ornstein_uhlenbeck(curvature, 0.002, 1.0)
        assert_allclose(asymptotic / exact, 1, atol=4e-3)
    assert escape.ornstein_uhlenbeck(1.0, 1e-6, 1.0) == (np.inf, np.inf)
    exact, asymptotic = escape.ornstein_uhlenbeck(-1.0, 1e-9, 1.0)
    assert_allclose(exact, asymptotic, rtol=1e-9)


def test_kramers(rows):
    for row in rows["mfpt_double_well"]["rows"]:
        found = escape.kramers(DOUBLE_WELL, [-1.0], [0.0], row["D"])
        assert_allclose(found, row["kramers_full"], rtol=1e-12)
        assert_allclose(row["T_minus1_to_1"] / found, row["ratio_full"], rtol=1e-12)


def test_kramers_in_the_plane():
    """A separable channel with stiffer walls at the saddle: the prefactor by hand."""
    channel = fd.Landscape.from_expression("x**4/4 - x**2/2 + y**2*(3 - 2*x**2)/2", symbols="x y")
    expected = 2 * np.pi / 1 * np.sqrt(1 * 3 / (2 * 1)) * np.exp(0.25 / 0.03)
    assert_allclose(escape.kramers(channel, [-1.0, 0.0], [0.0, 0.0], 0.03), expected, rtol=1e-12)
    function = fd.Landscape.from_function(lambda t: well(t[0]) + t[1] ** 2 * (3 - 2 * t[0] ** 2) / 2, dim=2)
    assert_allclose(escape.kramers(function, [-1.0, 0.0], [0.0, 0.0], 0.03), expected, rtol=1e-12)
    beale = fd.landscapes.beale()
    points = beale.critical_points()
    assert escape.kramers(beale, points[0].theta, points[1].theta, 1.0) > 0


@pytest.mark.parametrize(
    ("minimum", "saddle", "message"),
    [
        ([0.0], [0.0], "minimum must have positive"),
        ([-1.0], [1.0], "saddle must have one negative"),
        ([-0.9], [0.0], "minimum must be a critical point"),
        ([-1.0], [0.1], "saddle must be a critical point"),
        ([-1.0, 0.0], [0.0], "shape"),
    ],
)
def test_kramers_needs_a_minimum_and_a_saddle(minimum, saddle, message):
    with pytest.raises(ValueError, match=message):
        escape.kramers(DOUBLE_WELL, minimum, saddle, 0.1)


def test_levy_sandwich(rows):
    steps = [row["k"] for row in rows["levy_sandwich"]["rows"]]
    found = escape.levy_bounds(0.1, -1.0, 1.0, 1.0, steps, batch_size=16)
    for lower, upper, row in zip(*found, rows["levy_sandwich"]["rows"], strict=True):
        assert_allclose([lower, upper], [row["lower"], min(row["upper"], 1)], rtol=1e-11)
        assert lower <= row["exact"] <= upper
    with pytest.raises(ValueError, match="curvature must be <= 0"):
        escape.levy_bounds(0.1, 1.0, 1.0, 1.0, 10)


@pytest.mark.parametrize("curvature", [0.0, -0.2, -2.0])
def test_simulated_walks_stay_inside_the_sandwich(curvature):
    """A plain NumPy walk; at λ = 0 it is the reflection principle."""
    runs, steps, lr, scale = 20_000, 60, 0.05, 1.5
    lower, upper = escape.levy_bounds(lr, curvature, scale, 0.6, np.arange(1, steps + 1))
    for seed in range(3):
        generator = np.random.default_rng(seed)
        w, left = np.zeros(runs), np.zeros(runs, bool)
        for k in range(steps):
            w = w - lr * (curvature * w + scale * generator.normal(size=runs))
            left |= np.abs(w) > 0.6
            slack = 4.5 * np.sqrt(0.25 / runs)
            assert lower[k] - slack < left.mean() < upper[k] + slack


def test_the_sandwich_at_the_start_and_far_out():
    lower, upper = escape.levy_bounds(0.1, -1.0, 1.0, 1.0, [0, 1, 10_000])
    assert_allclose(lower, [0, 2 * scipy.stats.norm.sf(10), 1], rtol=1e-12)
    assert (upper <= 1).all()


@pytest.mark.parametrize("unit", [2.0**-500, 2.0**500])
def test_escape_times_know_no_units(unit):
    """θ → u θ takes L to u L, D to u² D, σ to u σ; t → t/u takes λ to u λ, D to u D: powers of two change no digit."""
    for curvature in (-2.0, 0.0, 2.0):
        expected = escape.ornstein_uhlenbeck(curvature, 0.5, 1.5)
        assert escape.ornstein_uhlenbeck(curvature, 0.5 * unit**2, 1.5 * unit) == expected
        assert escape.ornstein_uhlenbeck(curvature * unit, 0.5 * unit, 1.5) == tuple(x / unit for x in expected)
    bounds = escape.levy_bounds(0.1, -1.0, 2.0, 1.0, [0, 1, 9])
    assert_array_equal(escape.levy_bounds(0.1, -1.0, 2.0 * unit, unit, [0, 1, 9]), bounds)
    assert_array_equal(escape.levy_bounds(0.1 * unit, -1.0 / unit, 2.0 / unit, 1.0, [0, 1, 9]), bounds)


def test_escape_times_beyond_the_range_of_numbers():
    """z² = 5e400 has a logarithm, and e^{1000} is far below λ = 1e300 times the largest number."""
    slide = (np.log(20) + 400 * np.log(10) + np.euler_gamma) / 2
    assert_allclose(escape.ornstein_uhlenbeck(-1.0, 0.1, 1e200), [slide, slide], rtol=1e-14)
    held = escape.ornstein_uhlenbeck(1e300, 5e299, 1000**0.5)  # z² = 1000
    expected = np.exp(1000 - 300 * np.log(10) - np.log(2) + np.log(np.pi / 1000) / 2)
    # The limit is in error by 1/(2 z²); rounding of z² = 1000 in the exponent
    assert_allclose(held.asymptotic, expected, rtol=1e-11)
    assert_allclose(held.exact, expected, rtol=1e-3)
    assert escape.ornstein_uhlenbeck(1.0, 1e-300, 1e200) == (np.inf, np.inf)
    # P at step k, where r^{2k} is beyond the largest number: L/(√2 η s r^{k−1}) = 1/√2 of the last
    lower, _ = escape.levy_bounds(1e-200, -1e300, 1e-100, 1.0, [0, 1, 4])
    assert_allclose(lower, [0, 0, scipy.special.erfc(1 / np.sqrt(2))], rtol=1e-11)


def test_hardly_any_noise_is_answered_at_once():
    """A time above the largest number is infinite, one that no panels resolve is refused; neither takes seconds."""
    begun = time.perf_counter()
    for curvature, diffusion in ((1.0, 1e-300), (1e-3, 1e-9), (1e300, 1.0)):
        assert escape.ornstein_uhlenbeck(curvature, diffusion, 1.0).exact == np.inf
    for curvature in (0.0, 1.0):  # L² is more than a float holds
        assert escape.ornstein_uhlenbeck(curvature, 1.0, 1e300) == (np.inf, np.inf)
    slide = escape.ornstein_uhlenbeck(-1.0, 1.0, 1e300)
    assert_allclose(slide, 2 * [np.log(1e300) + (np.log(2) + np.euler_gamma) / 2], rtol=1e-14)
    slide = escape.ornstein_uhlenbeck(-1.0, 1e-300, 1.0)
    assert_allclose(slide.exact, slide.asymptotic, rtol=1e-12)
    for diffusion in (1e-300, 1e-12):
        with pytest.raises(ValueError, match="panels needed: diffusion or variance is too small"):
            escape.mean_first_passage_1d(lambda x: x**2 / 2, diffusion, (-1.0, 1.0), 0.0)
    assert time.perf_counter() - begun < 10  # it takes a tenth of a second, and took for ever
