"""Laws of a noisy step without sampling: against independent numbers, closed forms, and each other."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

import flatdyn as fd
from flatdyn import transfer
from flatdyn.laws import operators

REFERENCE = json.loads((Path(__file__).parent / "data" / "reference.json").read_text())["5_escape"]
SETS = REFERENCE["discrete_exit"]["sets"]
LINE = fd.landscapes.saddle((-1.0,))


def law(landscape, method, scale, batch_size=1, ascent="shared", interval=(-1.0, 1.0), start=0.0, **options):
    process = fd.Iteration(landscape, method, fd.noise.Gaussian(scale, batch_size), ascent=ascent)
    return fd.escape.exit_law(process, interval, start, **options)


def of_reference(row, name):
    """The process, interval and start of a row of the reference."""
    lr, rho, momentum = row["eta"], row.get("rho", 0.0), row.get("beta", 0.0)
    well = name.startswith("doublewell")
    landscape = fd.Landscape.from_expression("w**4/4 - w**2/2", "w") if well else LINE
    kinds = [("usam", fd.USAM(lr, rho, momentum)), ("sam", fd.SAM(lr, rho, momentum)), ("sgd", fd.GD(lr, momentum))]
    method = next(method for kind, method in kinds if kind in name)
    noise = fd.noise.Gaussian(np.sqrt(row["s2"]))
    process = fd.Iteration(landscape, method, noise, ascent="full" if "full" in name else "shared")
    # The reference leaves the well above 0 only; below −4 nothing arrives (the force there is 60, the noise √2).
    return process, (-4.0, 0.0) if well else (-row["L"], row["L"]), float(row["w0"])


SINGLE = [name for name in SETS if not name.startswith("hb")]


@pytest.mark.parametrize(
    ("name", "panels", "error"),
    # Both sides are deterministic; the reference states its mean to about 1e-8. Pairs with as many panels as they take
    # are exact to that too; with 20 to a few 1e-7: four panels more make the error ten times smaller.
    [(name, None, 2e-8) for name in SINGLE]
    + [("hb_sgd_beta0.5", 20, 5e-7), pytest.param("hb_sgd_beta0.5", None, 2e-8, marks=pytest.mark.slow)],
)
def test_exit_laws_of_the_reference(name, panels, error):
    row = SETS[name]
    found = fd.escape.exit_law(*of_reference(row, name), panels=panels)
    assert_allclose(found.mean, row["mean_exit_step"], rtol=1.5 * error)
    steps = np.array([int(k) for k in row["survival"]])
    assert_allclose(found.survival(steps), list(row["survival"].values()), atol=error)
    assert (found.quantile(0.1), found.median, found.quantile(0.9)) == (row["q10"], row["median"], row["q90"])
    if "leading_eigenvalue" in row:
        assert_allclose(found.factor, row["leading_eigenvalue"], rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "batch_size", "ascent", "radius", "mean", "median"),
    [  # further rows of independent work, to the digits in which they are given
        (fd.GD(0.1), 64, "shared", 1.0, 44.95754, 42),
        (fd.USAM(0.1, 0.5), 16, "shared", 1.0, 80.00418, 75),
        (fd.USAM(0.1, 1.2), 4, "full", 0.75, 2772.620, 1935),
        (fd.SAM(0.1, 0.1), 16, "shared", 1.0, 53.40062, 50),
        (fd.SAM(0.1, 0.2), 16, "full", 1.0, 2664.2279, 1861),
    ],
)
def test_more_exit_laws(method, batch_size, ascent, radius, mean, median):
    found = law(LINE, method, 1.0, batch_size, ascent, (-radius, radius))
    assert_allclose(found.mean, mean, rtol=1e-6)
    assert found.median == median


@pytest.mark.parametrize(
    ("ascent", "factor", "panels"),
    [
        ("shared", 0.6, None),
        ("full", 1.0, None),
        ("independent", np.sqrt(1 + 0.16), 12),
        pytest.param("independent", np.sqrt(1 + 0.16), None, marks=pytest.mark.slow),
    ],
)
def test_usam_on_a_quadratic_is_gradient_descent_with_other_numbers(ascent, factor, panels):
    # Drift λ(1 + ρλ) and noise s·|1 + ρλ|, s·√(1 + ρ²λ²), s: the same law from another method, and, when the ascent
    # is independent, from a two-dimensional instead of a one-dimensional integral over the noise.
    # Twelve panels resolve it to 2e-10 already; how many it takes is found at twice the cost and more.
    usam = law(LINE, fd.USAM(0.1, 0.4), 0.3, ascent=ascent, panels=panels)
    plain = law(fd.landscapes.saddle((-0.6,)), fd.GD(0.1), 0.3 * factor)
    assert_allclose(usam.mean, plain.mean, rtol=1e-9)
    assert_allclose(usam.survival(np.arange(60)), plain.survival(np.arange(60)), atol=1e-9 if panels else 1e-11)


def test_a_pair_without_momentum_is_a_point():
    # A momentum of 1e-9 takes the other code, over pairs; the law changes in the ninth digit.
    assert_allclose(law(LINE, fd.GD(0.1, 1e-9), 1.0).mean, law(LINE, fd.GD(0.1), 1.0).mean, rtol=1e-7)


@pytest.mark.parametrize("ascent", ["shared", "full"])
def test_finer_panels_change_nothing(ascent):
    found = [law(LINE, fd.SAM(0.1, 0.2), 0.25, ascent=ascent, panels=number).mean for number in (30, 47)]
    assert_allclose(found[0], found[1], rtol=1e-9)


def test_a_law_is_read_in_its_head_and_beyond():
    exits = fd.escape.ExitLaw(3.25, 0.5, 0.5, np.array([1.0, 0.75, 0.5, 0.25]))
    assert [exits.quantile(q) for q in (0.25, 0.26, 0.5, 0.75, 0.76, 0.875, 0.9)] == [1, 2, 2, 3, 4, 4, 5]
    assert_allclose(exits.survival([0, 2, 3, 4, 6]), [1, 0.5, 0.25, 0.125, 0.03125], rtol=1e-14)


def test_lower_bound_of_levy_is_nearly_exact():
    found = law(LINE, fd.GD(0.1), 0.25)
    for row in REFERENCE["levy_sandwich"]["rows"]:
        left = 1 - found.survival(row["k"])
        assert row["lower"] <= left <= row["upper"]
        assert_allclose(left, row["exact"], rtol=1e-9)


def test_where_it_leaves():
    # By symmetry half of the exits from the middle are above. From elsewhere: a martingale far from the ends,
    # p = Φ-ratio of the diffusion, approached as the step gets small.
    assert_allclose(law(LINE, fd.GD(0.1), 0.25).right, 0.5, atol=1e-10)
    fine = law(LINE, fd.GD(0.01), np.sqrt(2 * 0.05 / 0.01), start=0.2)
    exact = fd.escape.exit_probability_1d(LINE, 0.05, (-1, 1), 0.2)
    assert abs(fine.right - exact) < 0.02  # O(√η): overshoot beyond the ends
    assert abs(fine.right - exact) < abs(law(LINE, fd.GD(0.05), np.sqrt(2 * 0.05 / 0.05), start=0.2).right - exact)


@pytest.mark.parametrize(("method", "panels"), [(fd.GD(0.1), None), (fd.GD(0.1, 0.3), 12)], ids=["points", "pairs"])
def test_one_end_or_the_other_is_left_by(method, panels):
    """The chance to leave above and that of the mirror image, which leaves below, make 1; neither is a half here."""
    well = fd.Landscape.from_expression("w**2/2 + w/2", "w"), fd.Landscape.from_expression("w**2/2 - w/2", "w")
    one, other = (law(L, method, 2.5, start=s, panels=panels) for L, s in zip(well, (0.3, -0.3), strict=True))
    assert_allclose(one.right + other.right, 1, atol=1e-7)
    assert_allclose([one.mean, one.factor], [other.mean, other.factor], rtol=1e-8)
    assert abs(one.right - 0.5) > 0.02
    sampled = fd.escape_times(
        fd.Iteration(well[0], method, fd.noise.Gaussian(2.5)), np.array([0.3]), fd.escape.Ball([0.0], 1.0), 20_000,
        key=jax.random.key(0),
    )  # fmt: skip
    assert abs((sampled.exit > 0).mean() - one.right) < 4.5 * np.sqrt(0.25 / 20_000)


@pytest.mark.parametrize("steps", [1, 7, 5000])
def test_expectations_of_a_linear_recursion(steps):
    # w⁺ = q w − η s z is normal: mean qᵏ w₀, variance η² s² (1 − q²ᵏ)/(1 − q²).
    q, spread = 1 - 0.1, 0.1 * 0.5
    process = fd.Iteration(fd.landscapes.saddle((1.0,)), fd.GD(0.1), fd.noise.Gaussian(0.5))
    found = transfer.expectation(process, [lambda w: w, lambda w: w**2, np.cos], 1.0, steps, (-3.0, 3.0))
    mean, variance = q**steps, spread**2 * (1 - q ** (2 * steps)) / (1 - q**2)
    exact = [mean, mean**2 + variance, np.cos(mean) * np.exp(-variance / 2)]
    assert_allclose(found, exact, atol=1e-11)


def test_expectation_of_one_sam_step():
    # p = w + ρ sign(g + z), θ⁺ = w − η (λ p + z): E θ⁺ = w − η λ (w + ρ (1 − 2 Φ(−g/s))).
    process = fd.Iteration(fd.landscapes.saddle((2.0,)), fd.SAM(0.1, 0.3), fd.noise.Gaussian(0.7))
    found = transfer.expectation(process, [lambda w: w], 0.2, 1, (-5.0, 5.0))
    exact = 0.2 - 0.1 * 2 * (0.2 + 0.3 * (1 - 2 * norm.cdf(-0.4 / 0.7)))
    assert_allclose(found, [exact], atol=1e-12)


@pytest.mark.parametrize(
    "method", [pytest.param(fd.GD(0.0125), marks=pytest.mark.slow), fd.SAM(0.0125, 0.2)], ids=["GD", "SAM"]
)
def test_panels_are_as_many_as_it_takes(method):
    well = fd.Landscape.from_expression("w**4/4 - w**2/2", "w")
    process, interval = fd.Iteration(well, method, fd.noise.Gaussian(0.5)), (-1.8, 1.8)
    functions, most = [lambda w: w, np.square], operators.panels(process, *interval, pairs=False)
    assert most == 150  # as many as there may be, for steps this short; smooth functions need a fifth of them
    finest = transfer.expectation(process, functions, 0.5, 80, interval, panels=most)
    assert_allclose(transfer.expectation(process, functions, 0.5, 80, interval), finest, atol=1e-12)
    # What jumps where the law is needs them all, and gets them.
    jump = transfer.expectation(process, [lambda w: w > 0.505], 0.5, 2, interval)
    assert jump == transfer.expectation(process, [lambda w: w > 0.505], 0.5, 2, interval, panels=most)


def test_what_practically_never_leaves_has_an_infinite_mean():
    # The drift λ(1 + ρλ) vanishes at ρ = 1, and so does shared noise: nothing moves.
    found = law(LINE, fd.USAM(0.1, 1.0), 0.25)
    assert found.mean == np.inf
    assert_allclose(found.survival([0, 10, 10**9]), 1, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "start", "steps", "right"),
    [
        (fd.GD(0.1), 0.5, 8, 1.0),  # 0.5 · 1.1⁸ = 1.07
        (fd.GD(0.1), -0.5, 8, 0.0),
        (fd.GD(0.1, 0.5), 0.5, 5, 1.0),  # x⁺ = x + v, v⁺ = v/2 + x/10: 0.55, 0.63, 0.733, 0.858, 1.006
        (fd.SAM(0.1, 0.1), 0.5, 9, 1.0),  # x⁺ = x + (x − 0.1)/10: after k steps 0.1 + 0.4 · 1.1ᵏ; 1.043 at 9
        (fd.GD(3.0), 0.9, 1, 1.0),
    ],
)
def test_without_noise_the_exit_is_one_number(method, start, steps, right):
    found = law(LINE, method, 0.0, start=start)
    assert (found.mean, found.right, found.median, found.factor) == (steps, right, steps, 0)
    assert list(found.survival([0, steps - 1, steps, 10 * steps])) == [1, 1, 0, 0]


def test_without_noise_what_stays_stays_for_ever():
    well = fd.landscapes.saddle((1.0,))
    for lr, start in ((0.1, 0.5), (2.0, 0.5), (1.0, 0.5), (0.1, 0.0)):  # into the minimum; a two-cycle; at once; there
        found = law(well, fd.GD(lr), 0.0, start=start)
        assert found.mean == np.inf
        assert list(found.survival([0, 1, 10**9])) == [1, 1, 1]
    assert law(LINE, fd.GD(0.1), 0.0, start=0.0).mean == np.inf  # on top of the hill
    # noise that vanishes with the curvature's scale is none either
    process = fd.Iteration(LINE, fd.GD(0.1), fd.noise.Curvature(0.0))
    assert fd.escape.exit_law(process, (-1.0, 1.0), 0.5).mean == 8


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e12])
def test_noise_so_strong_that_one_step_leaves(scale):
    """P(stay) = P(|r x + η s z| < 1) = 2φ(0)/(η s) for x inside, up to 1/(η s)² of it: a geometric law."""
    found = law(LINE, fd.GD(0.1), scale)
    stay = 2 / np.sqrt(2 * np.pi) / (0.1 * scale)
    higher = stay / (0.1 * scale) ** 2
    assert_allclose(found.factor, stay, atol=higher + 1e-11)  # where a step leaves is known to 1e-11 in z
    assert_allclose(found.mean - 1, stay / (1 - stay), atol=2 * higher + 1e-11)
    assert_allclose(found.right, 0.5, atol=1e-9)
    assert found.median == 1


def test_bad_questions_are_refused():
    quiet = fd.Iteration(LINE, fd.GD(0.1))
    with pytest.raises(TypeError, match="random process"):
        fd.escape.exit_law(quiet, (-1, 1), 0.0)
    with pytest.raises(ValueError, match=r"start must .*shape"):
        law(fd.landscapes.saddle((1.0, -1.0)), fd.GD(0.1), 1.0)
    with pytest.raises(TypeError, match="heavy-ball"):
        transfer.expectation(
            fd.Iteration(LINE, fd.GD(0.1, 0.5, True), fd.noise.Gaussian(1.0)), [np.cos], 0.0, 1, (-1, 1)
        )
    with pytest.raises(ValueError, match="sides is for the plane"):
        law(LINE, fd.GD(0.1), 1.0, sides=lambda theta: 0)
    with pytest.raises(ValueError, match=r"start must lie inside the interval \(-1, 1\), got 2"):
        law(LINE, fd.GD(0.1), 1.0, start=2.0)
    with pytest.raises(ValueError, match="lower < upper"):
        law(LINE, fd.GD(0.1), 1.0, interval=(1.0, -1.0))
    process = fd.Iteration(LINE, fd.GD(0.1, 0.5), fd.noise.Gaussian(1.0))
    with pytest.raises(TypeError, match="without momentum"):
        transfer.expectation(process, [np.cos], 0.0, 1, (-1.0, 1.0))
