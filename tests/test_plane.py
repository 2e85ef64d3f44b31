"""The transfer operator in the plane: against products of lines, each other, and simulations."""

import json
import resource
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.laws import plane

SETS = json.loads((Path(__file__).parent / "data" / "reference.json").read_text())["5_escape"]["discrete_exit"]["sets"]
SADDLE = fd.landscapes.saddle((-1.0, 0.5))
LINE = fd.landscapes.saddle((-1.0,))
SGD = fd.Iteration(SADDLE, fd.GD(0.1), fd.noise.Gaussian((0.6, 0.9)))
SIDES = ((-1.0, 1.0), (-0.5, 0.7))
BOX = fd.escape.Box(((-0.5, 0.5), (-0.5, 0.5)))  # ten standard deviations of a step of SAM below


def sam(ascent, curvatures=(-1.0, 1.0), scale=1.0):
    return fd.Iteration(
        fd.landscapes.saddle(curvatures), fd.SAM(0.2, 0.1), fd.noise.Gaussian(scale, 4), ascent=ascent
    )  # fmt: skip


def lines(curvatures, scales, sides, start):
    """The laws of the two coordinates, which on a quadratic do not know each other."""
    return [
        fd.escape.exit_law(fd.Iteration(fd.landscapes.saddle((c,)), fd.GD(0.1), fd.noise.Gaussian(s)), ends, x)
        for c, s, ends, x in zip(curvatures, scales, sides, start, strict=True)
    ]


def product(x, y):
    """Mean and survival of whichever leaves first."""
    last = max(len(x.head), len(y.head))
    both = x.survival(np.arange(last + 1)) * y.survival(np.arange(last + 1))
    return both[:last].sum() + both[last] / (1 - x.factor * y.factor), both


@pytest.fixture(scope="module")
def box():
    return plane.operator(SGD, fd.escape.Box(SIDES))


# --- exact ----------------------------------------------------------------------------------------------------


def test_a_box_on_a_quadratic_is_a_product_of_lines(box):
    # 12 nodes in five standard deviations integrate a normal density to 1e-9.
    start = (0.3, 0.2)
    x, y = lines((-1.0, 0.5), (0.6, 0.9), SIDES, start)
    mean, both = product(x, y)
    law = fd.escape.exit_law(SGD, fd.escape.Box(SIDES), start)
    assert_allclose(law.mean, mean, rtol=1e-8)
    assert abs(law.mean - mean) <= law.error <= 1e-6 * mean
    assert_allclose(law.survival(np.arange(len(both))), both, atol=1e-8)
    assert_allclose(law.factor, x.factor * y.factor, rtol=1e-9)
    assert_allclose(law.shares.sum(), 1, atol=1e-9)
    value, error = box.expected(running=1).at(start)
    assert_allclose(value, law.mean, rtol=1e-11)  # the same equations, solved as they are and transposed
    assert error < 1e-6 * mean
    assert_allclose((law.density * box.weights).sum(), 1, rtol=1e-12)
    assert_allclose(box.leading(2).eigenvalues[0], law.factor, rtol=1e-11)


def test_where_it_lands_adds_up(box):
    right = box.expected(lambda theta: jnp.stack([theta[0] > 1, theta[0] < -1, theta[1] > 0.7, theta[1] < -0.5]))
    both = box.expected(lambda theta: (jnp.abs(theta[0]) > 1) & ((theta[1] > 0.7) | (theta[1] < -0.5)))
    shares = right([0.0, 0.0])
    assert_allclose(shares.sum() - both([0.0, 0.0]), 1, atol=1e-9)  # those that pass a corner are in two shares
    assert_allclose(shares[0], shares[1], rtol=1e-9)


@pytest.mark.slow
def test_a_region_is_what_it_holds_not_how_it_is_written():
    ball = plane.operator(SGD, fd.escape.Ball([0.0, 0.0], 0.8))
    assert_allclose(ball.weights.sum(), np.pi * 0.64, rtol=1e-12)  # smooth between the places where lines change
    same = plane.operator(SGD, lambda theta: theta @ theta <= 0.64, [0.1, 0.0])
    values = [part.expected(running=1).at([[0.0, 0.0], [0.3, 0.2]]) for part in (ball, same)]
    assert_allclose(values[0][0], values[1][0], rtol=1e-8)
    assert (values[0][1] < 1e-5).all()


@pytest.mark.parametrize("width", [0.95, pytest.param(1.25, marks=pytest.mark.slow)])
def test_rare_exits_keep_their_digits(width):
    """A box in a bowl, left after 10⁶ and 10¹⁰ steps: 1 − r is not what is left of 1 after r, on the line nor here."""
    sides = ((-width, width), (-width, width))
    law = fd.escape.exit_law(
        fd.Iteration(fd.landscapes.saddle((1.0, 1.5)), fd.GD(0.1), fd.noise.Gaussian(0.8)), fd.escape.Box(sides), (0, 0)
    )
    x, y = lines((1.0, 1.5), (0.8, 0.8), sides, (0.0, 0.0))
    # On the line rounding leaves some 1e-15 of a probability, so as much of 1 − r.
    mean = product(x, y)[0]
    assert 1e5 < mean < 1e11
    assert_allclose(law.mean, mean, rtol=1e-7 + 5e-15 * mean)
    assert law.error < 1e-3 * law.mean


def test_the_other_way_to_heavy_ball():
    """(θ, v) against pairs (θ_{k−1}, θ_k), whose mean is known to 1e-8 from an independent program."""
    row = SETS["hb_sgd_beta0.5"]
    process = fd.Iteration(LINE, fd.GD(row["eta"], row["beta"]), fd.noise.Gaussian(np.sqrt(row["s2"])))
    operator = plane.operator(process, fd.escape.Box([(-1.0, 1.0)]))
    value, error = operator.expected(running=1).at([0.0])
    assert_allclose(value, row["mean_exit_step"], rtol=1e-7)  # ten nodes in five standard deviations
    assert error < 1e-4 * value


# --- sampled --------------------------------------------------------------------------------------------------


def agree(process, region, start, runs, keys, law):
    """Mean, survival at ten times, and shares of the sides: within 4 standard errors each, for each key."""
    center, half = np.mean(region.sides, axis=1), np.diff(region.sides, axis=1)[:, 0] / 2
    times = np.unique([law.quantile(q) for q in np.linspace(0.05, 0.95, 10)])
    for key in keys:
        sampled = fd.escape_times(
            process, start, region, runs, max_steps=100 * int(law.mean), key=jax.random.key(key), progress=False
        )
        mean = sampled.mean()
        assert abs(mean.value - law.mean) < 4 * mean.stderr + law.error
        exact = law.survival(times)
        left = (np.asarray(sampled.steps)[:, None] > times).mean(axis=0)
        assert (np.abs(left - exact) < 4 * np.sqrt(exact * (1 - exact) / runs) + 1e-4).all()
        gaps = (np.asarray(sampled.exit) - center) / half
        side = np.stack([-gaps, gaps], axis=2).reshape(runs, -1).argmax(axis=1)
        shares = np.bincount(side, minlength=len(law.shares)) / runs
        assert (np.abs(shares - law.shares) < 4 * np.sqrt(law.shares * (1 - law.shares) / runs) + 1e-4).all()


@pytest.mark.parametrize("ascent", [pytest.param("full", marks=pytest.mark.slow), "shared", "independent"])
def test_sam_leaves_as_sampled(ascent):
    start = [0.3, 0.2]
    law = fd.escape.exit_law(sam(ascent), BOX, start)
    assert law.error < 1e-3 * law.mean
    agree(sam(ascent), BOX, start, 20_000, [0], law)


NESTEROV = fd.Iteration(LINE, fd.GD(0.1, 0.5, nesterov=True), fd.noise.Gaussian(1.0, 2))


def test_nesterov_leaves_as_sampled():
    law = fd.escape.exit_law(NESTEROV, (-1.0, 1.0), 0.2)
    assert_allclose(law.right, law.shares[1], rtol=1e-12)
    agree(NESTEROV, fd.escape.Box([(-1.0, 1.0)]), [0.2], 20_000, [0], law)


@pytest.mark.slow
@pytest.mark.parametrize(
    "process", [sam("full"), sam("shared"), sam("independent"), NESTEROV], ids=["full", "shared", "own", "nesterov"]
)
def test_a_million_runs_agree(process):
    region, start = (BOX, [0.3, 0.2]) if process.dim == 2 else (fd.escape.Box([(-1.0, 1.0)]), [0.2])
    law = fd.escape.exit_law(process, region if process.dim == 2 else (-1.0, 1.0), start)
    agree(process, region, start, 1_000_000, range(3), law)


@pytest.mark.slow
@pytest.mark.parametrize("ascent", ["full", "shared", "independent"])
@pytest.mark.parametrize("region", [BOX, fd.escape.Ball([0.0, 0.0], 0.5)], ids=["box", "ball"])
def test_the_error_covers_what_other_grids_say(ascent, region):
    laws = [fd.escape.exit_law(sam(ascent), region, [0.3, 0.2], panels=number) for number in (3, 4, 5)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(laws[one].mean - laws[other].mean) <= laws[one].error + laws[other].error
        assert abs(laws[one].mean - laws[other].mean) < 1e-3 * laws[one].mean


@pytest.mark.slow
def test_splitting_agrees_after_a_hundred_million_steps():
    process = sam("shared", curvatures=(1.0, 1.5), scale=0.9)
    region = fd.escape.Ball([0.0, 0.0], 0.98)
    law = fd.escape.exit_law(process, region, [0.0, 0.0])
    assert law.mean > 1e8
    assert law.error < 0.02 * law.mean
    found = fd.escape.multilevel_splitting(
        process, [0.0, 0.0], region, jax.random.key(0), walkers=1000, replicates=20, progress=False
    )
    # Student's t with 19 degrees of freedom passes 4.6 once in 10⁴.
    assert abs(1 / found.mean - 1 / law.mean) < 4.6 * found.stderr / found.mean**2 + law.error / law.mean**2


@pytest.mark.slow
def test_beale_takes_a_fraction_of_the_time_that_sampling_does():
    process = fd.Iteration(fd.landscapes.beale(), fd.SAM(0.01, 0.1), fd.noise.Gaussian(4.0))
    region, start = fd.escape.Ball([0.0, 1.0], 0.3), [0.0, 1.0]

    def sampled(key):
        return fd.escape_times(process, start, region, 100_000, max_steps=100_000, key=key, progress=False)

    sampled(jax.random.key(9)), fd.escape.exit_law(process, region, start)  # compile
    begin = time.perf_counter()
    law = fd.escape.exit_law(process, region, start)
    middle = time.perf_counter()
    mean = sampled(jax.random.key(0)).mean()
    end = time.perf_counter()
    assert abs(mean.value - law.mean) < 4 * mean.stderr + law.error
    assert law.error < 1e-4 * law.mean
    to_four_digits = (end - middle) * (mean.stderr / (1e-4 * mean.value)) ** 2
    print(f"{law.mean:.6g} ± {law.error:.1g}: {middle - begin:.3g} s against {to_four_digits:.3g} s", file=sys.stderr)
    assert to_four_digits > 5 * (middle - begin)  # 13 on two busy cores
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20  # KiB


# --- refused, and degenerate ----------------------------------------------------------------------------------


def plain(landscape=SADDLE, method=None, scale=1.0):
    return fd.Iteration(landscape, method or fd.GD(0.1), fd.noise.Gaussian(scale))


FINITE = fd.Landscape.from_examples("(x - c)**2/2 + y**2", {"c": [1.0, 2.0]}, symbols="x y")
UNIT = fd.escape.Box(((-1, 1), (-1, 1)))


@pytest.mark.parametrize(
    ("process", "inside", "start", "error", "words"),
    [
        (plain(), fd.escape.HalfSpace([1.0, 0.0], 1.0), (0, 0), ValueError, "no end within.*box=.*escape_times"),
        (plain(), fd.escape.Sublevel(SADDLE, 0.3), (0, 0), ValueError, "no end within.*box=.*escape_times"),
        (plain(), fd.escape.Box(((-1, 1), (-np.inf, 1))), (0, 0), ValueError, "reaches to infinity.*escape_times"),
        (plain(fd.landscapes.saddle((1.0,) * 3)), UNIT, (0, 0, 0), TypeError, "two numbers.*escape_times and multil"),
        (plain(method=fd.GD(0.1, 0.5)), UNIT, (0, 0), TypeError, "got 2 coordinates and 4 numbers.*escape_times"),
        (plain(method=fd.from_optax(optax.adam(0.1))), UNIT, (0, 0), TypeError, "two numbers|counts its"),
        (fd.Iteration(FINITE, fd.GD(0.1), fd.noise.FiniteSum(1)), UNIT, (0, 0), TypeError, "made of normal numbers"),
        (fd.Iteration(SADDLE, fd.GD(0.1)), UNIT, (0, 0), TypeError, "random process"),
        (plain(), UNIT, (2, 0), ValueError, r"start must lie inside the region, got \[2.0, 0.0\]"),
        (plain(), (-1, 1), (0, 0), TypeError, "inside must be"),
        (plain(), lambda theta: theta[0], (0, 0), ValueError, "inside must return True or False"),
        (plain(scale=(1.0, 0.0)), UNIT, (0.1, 0), ValueError, "noise must reach both coordinates.*escape_times"),
        (plain(scale=1e-3), UNIT, (0.1, 0), ValueError, "steps are too short.*escape_times or multilevel_splitting"),
        (plain(method=fd.ASAM(0.1, 0.1, p=np.inf)), UNIT, (0.1, 0), TypeError, "jumps where"),
        (plain(LINE, fd.GD(0.1, 0.9999, True)), (-1, 1), 0.1, ValueError, "reaches too far back.*escape_times"),
    ],
)
def test_bad_questions_name_what_answers(process, inside, start, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        fd.escape.exit_law(process, inside, start)


def test_without_noise_the_answer_is_one_run():
    found = fd.escape.exit_law(plain(scale=0.0), fd.escape.HalfSpace([1.0, 0.0], 1.0), (0.1, 0.5))
    assert (found.mean, found.right, found.error, found.median) == (25, 1, 0, 25)  # 0.1 · 1.1²⁵ = 1.083
    assert fd.escape.exit_law(plain(scale=0.0), UNIT, (0.0, 0.5)).mean == np.inf
    nesterov = plain(LINE, fd.GD(0.1, 0.5, nesterov=True), 0.0)
    steps = fd.escape_times(nesterov, [0.3], fd.escape.Ball([0.0], 1.0), 1, key=jax.random.key(0)).steps
    assert fd.escape.exit_law(nesterov, (-1, 1), 0.3).mean == steps[0]


@pytest.mark.parametrize("method", [fd.GD(0.1), fd.SAM(0.1, 0.1)], ids=["GD", "SAM"])
def test_noise_so_strong_that_one_step_leaves(method):
    """P(stay) = area of the box · density at 0 = 4/(2π (η s)²), up to 1/(η s)² of it."""
    strong = fd.escape.exit_law(plain(method=method, scale=1e3), UNIT, (0.1, 0.0))
    stay = 4 / (2 * np.pi * 100**2)
    assert_allclose(strong.mean - 1, stay, rtol=0.01)  # of rays that are asked every 0.3 standard deviations
    assert_allclose(strong.shares.sum(), 1, atol=1e-9)


def test_your_own_sides():
    law = fd.escape.exit_law(SGD, BOX, (0.0, 0.0), sides=lambda theta: jnp.where(theta[0] > 0, 2, 1), panels=2)
    assert_allclose(law.shares, [0, 0.5, 0.5], atol=1e-6)  # by symmetry
    with pytest.raises(ValueError, match="sides must return one whole number"):
        fd.escape.exit_law(SGD, BOX, (0.0, 0.0), sides=lambda theta: theta[0])
