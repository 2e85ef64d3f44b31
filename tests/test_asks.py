"""Ready-made asks: cells that differ in numbers only move together, and each has the numbers that it has alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.core.hashing import identity
from flatdyn.escape.times import escapes_together
from flatdyn.runs import cohorts
from flatdyn.runs.ensembles import simulate_together

KEY = jax.random.key(0)
L = fd.landscapes.saddle((1.0, -1.0))
BALL = fd.escape.Ball([0.0, 0.0], 1.0)
AT = [0.0, 0.0]


def noisy(lr=0.1, rho=0.1, momentum=0.9, batch_size=1, ascent="shared"):
    return fd.Iteration(L, fd.SAM(lr, rho, momentum), fd.noise.Gaussian(1.0, batch_size), ascent)


CELLS = [noisy(lr, rho, 0.9, b) for lr in (0.05, 0.1) for rho in (0.0, 0.2) for b in (1, 3, 16)]
KEYS = [jax.random.fold_in(KEY, i) for i in range(len(CELLS))]


# --- which go together ------------------------------------------------------------------------------------------


def test_what_differs_in_numbers_only_goes_together():
    other = fd.landscapes.saddle((2.0, -1.0))
    processes = [
        noisy(),
        noisy(momentum=0.0),  # has no velocity
        noisy(lr=0.3, batch_size=7),
        noisy(ascent="full"),
        noisy(momentum=0.5),
        noisy(momentum=np.array(0.0)),  # has one
        fd.Iteration(other, fd.SAM(0.1, 0.1, 0.9), fd.noise.Gaussian(1.0)),
        fd.Iteration(L, fd.GD(0.1)),
        fd.Iteration(L, fd.SAM(0.1, 0.1, 0.9), fd.noise.Gaussian([1.0, 2.0])),
    ]
    assert cohorts.batches(processes) == [[0, 2, 4, 5, 6], [1], [3], [7], [8]]
    assert max(map(len, cohorts.batches([noisy()] * 100, runs=2**14))) == 8


def test_functions_of_ones_own_and_large_arrays_are_shared_or_apart():
    def maps(function):
        return fd.Map(function, dim=2)

    def halved(t):
        return t / 2

    assert cohorts.batches([maps(halved), maps(halved), maps(lambda t: t / 2)]) == [[0, 1], [2]]
    few, many = (
        [fd.Landscape.from_examples("(a*x - 1)**2", {"a": np.full(n, v)}, symbols="x") for v in (1.0, 2.0)]
        for n in (4, 400)
    )
    for landscapes, wanted in ((few, [[0, 1, 2]]), (many, [[0, 1], [2]])):
        processes = [fd.Iteration(one, fd.GD(0.1)) for one in (landscapes[0], landscapes[0], landscapes[1])]
        assert cohorts.batches(processes) == wanted
    symbolic = fd.Iteration(L, fd.GD(sympy.Rational(1, 10)))
    assert cohorts.batches([symbolic, noisy(), symbolic]) == [[0, 2], [1]]  # repetitions
    one, two = simulate_together([symbolic, symbolic], np.array([1.0, 0.0]), 3)
    assert_array_equal(one.theta, fd.simulate(fd.Iteration(L, fd.GD(0.1)), np.array([1.0, 0.0]), 3).theta)
    assert_array_equal(one.theta, two.theta)
    with pytest.raises(ValueError, match="differ in numbers only to go together, got 2 forms of 2"):
        cohorts.joined([noisy(), noisy(momentum=0.0)], KEYS, 1, np.float64)


# --- the numbers of a cell are those of the cell alone ------------------------------------------------------------


@pytest.fixture(scope="module")
def together():
    return escapes_together(CELLS, AT, BALL, 64, 300, KEYS)


def same(one, other):
    for name, values in one.arrays().items():
        assert_array_equal(values, getattr(other, name), err_msg=name)


def test_escapes_do_not_depend_on_what_is_beside_them(together):
    for i in (0, 7, 11):
        same(escapes_together([CELLS[i]], AT, BALL, 64, 300, [KEYS[i]])[0], together[i])
    turned = escapes_together(CELLS[::-1], AT, BALL, 64, 300, KEYS[::-1], chunk=100)
    for one, other in zip(together, turned[::-1], strict=True):
        same(one, other)


def test_escapes_are_those_of_escape_times_to_rounding(together):
    """The compiler joins products and sums elsewhere where numbers belong to a run: a few units in the last place."""
    for process, key, one in zip(CELLS, KEYS, together, strict=True):
        alone = fd.escape_times(process, AT, BALL, 64, 300, key)
        assert_array_equal(alone.start, one.start)
        # At a saddle a difference grows, by the size of the ball over that of a step, 1e4 at most, before a run leaves.
        # One whose last step ends within that of the edge could leave a step later: none of these does.
        assert_array_equal(alone.steps, one.steps)
        assert_array_equal(alone.escaped, one.escaped)
        assert_allclose(alone.exit, one.exit, atol=1e-11)  # 1e4 times some units of rounding
        if process.noise.batch_size in (1, 16):  # a power of 2: nothing is rounded there
            assert_array_equal(alone.exit, one.exit)


def test_ensembles_do_not_depend_on_what_is_beside_them():
    points = np.array([[0.3, 0.0], [0.1, 1e-3], [1e3, -1e3]])
    processes = [fd.Iteration(L, fd.SAM(lr, 0.1, 0.5, 0.01)) for lr in (0.1, 0.5, 5.0)]
    assert cohorts.batches(processes) == [[0, 1, 2]]
    several = simulate_together(processes, points, 400, every=100, bound=1e30)
    for process, one in zip(processes, several, strict=True):
        same(simulate_together([process], points, 400, every=100, bound=1e30)[0], one)
        alone = fd.simulate(process, points, 400, every=100, bound=1e30)
        assert_array_equal(alone.status, one.status)
        assert_array_equal(alone.steps, one.steps)
        assert_allclose(alone.theta, one.theta, rtol=1e-9, atol=1e-12)  # 400 steps of rounding
    assert {int(status) for one in several for status in one.status} >= {0, 2}
    single = simulate_together(processes, points[0], 10)[0]
    assert single.theta.shape == (11, 2)
    assert single.status.shape == ()


def test_runs_that_rest_are_told_from_those_that_are_held_at_a_saddle():
    wells = fd.Landscape.from_expression("((x**2 - 1)**2 + 2*y**2)/4", "x y")
    processes = [fd.Iteration(wells, fd.GD(lr)) for lr in (0.1, 0.3)]
    starts = np.array([[0.5, 0.3], [0.0, 0.3]])  # the second comes to the saddle at 0
    for one in simulate_together(processes, starts, 1000, every=1000):
        assert_array_equal(one.status, [fd.Status.CONVERGED, fd.Status.UNDECIDED])


def test_noise_that_remembers_and_methods_that_draw_have_their_own_keys():
    sums = fd.Landscape.from_examples("(a*x - b)**2/2", {"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 2.0]}, symbols="x")
    makers = (
        lambda lr: fd.Iteration(sums, fd.GD(lr), fd.noise.Epochs(2)),
        lambda lr: fd.Iteration(L, fd.Langevin(lr, temperature=0.1)),
    )
    for make in makers:
        processes = [make(lr) for lr in (0.01, 0.02)]
        starts = np.zeros((3, processes[0].dim))
        for one, process, key in zip(simulate_together(processes, starts, 9, KEYS[:2]), processes, KEYS, strict=False):
            assert_allclose(one.theta, fd.simulate(process, starts, 9, key).theta, rtol=1e-12, atol=1e-14)


# --- in a sweep ---------------------------------------------------------------------------------------------------

GRID = {"lr": [0.05, 0.1]}
ASKS = {
    "mean_stay": fd.asks.mean_stay(AT, BALL, 64, 300),
    "median_stay": fd.asks.median_stay(np.zeros((64, 2)), BALL, max_steps=300),
    "final_loss": fd.asks.final_loss(AT, 10, runs=8),
    "share_captured": fd.asks.share_captured(AT, BALL, 20, 64),
    "escapes": fd.asks.escapes(lambda X: {"late": X.quantile(0.9), "left": X.escaped.mean()}, AT, BALL, 64, 300),
}


@pytest.mark.parametrize("name", ASKS)
def test_a_sweep_has_the_numbers_of_each_cell_alone(name, tmp_path):
    ask = ASKS[name]
    grid = GRID | {"momentum": [0.0, 0.9]} if name == "mean_stay" else GRID
    swept = fd.sweep(noisy, grid, ask, KEY, seeds=2, store=tmp_path)
    one_by_one = fd.sweep(noisy, grid, lambda process, key: ask(process, key), KEY, seeds=2)
    assert list(swept) == list(one_by_one)
    for variable in swept:
        assert_array_equal(swept[variable], one_by_one[variable])
    assert swept.equals(fd.sweep(noisy, grid, ask, KEY, seeds=2, store=tmp_path))
    assert f'"ask": "{name}"' in swept.attrs["config"]


def test_numbers_of_asks_are_those_of_the_questions():
    process = noisy()
    assert tuple(ASKS["mean_stay"](process, KEY)) == tuple(fd.escape_times(process, AT, BALL, 64, 300, KEY).mean())
    ends = fd.simulate(process, np.zeros((64, 2)), 20, KEY, every=20).final
    share, error = ASKS["share_captured"](process, KEY)
    held = (np.linalg.norm(ends, axis=1) <= 1).sum()
    assert share == held / 64
    assert error == fd.statistics.binomial_error(held, 64)
    losses = np.asarray(L.loss(jnp.asarray(fd.simulate(process, np.zeros((8, 2)), 10, KEY, every=10).final)))
    value, error, lost = ASKS["final_loss"](process, KEY)
    assert_allclose([value, error], [losses.mean(), losses.std(ddof=1) / np.sqrt(8)], rtol=1e-9)  # rounding of 10 steps
    assert lost == 0


def test_runs_that_diverge_are_counted_and_have_no_loss():
    ask = fd.asks.final_loss([[1.0, 0.0], [0.0, 1e300]], 500)
    value, error, lost = ask(fd.Iteration(L, fd.GD(1.0)), None)
    assert (value, error, lost) == (0.0, np.inf, 0.5)
    assert ask(fd.Iteration(L, fd.GD(30.0)), None) == (np.inf, np.inf, 1.0)
    with pytest.raises(ValueError, match="without a landscape has no loss"):
        fd.asks.final_loss(AT, 5)(fd.Map(lambda t: t / 2, dim=2), None)


def test_share_of_a_basin():
    wells = fd.Landscape.from_expression("((x**2 - 1)**2 + 2*y**2)/4", "x y")
    ask = fd.asks.basin_share([1.0, 0.0], [(-2.0, 2.0), (-1.0, 1.0)], 64, max_steps=500)
    swept = fd.sweep(lambda lr: fd.Iteration(wells, fd.GD(lr)), {"lr": [0.1, 0.2]}, ask, KEY, common=True)
    assert (abs(swept.value - 0.5) < 4 * swept.value_stderr).all()  # by symmetry; four binomial errors


def test_a_store_knows_an_ask_by_its_values():
    words = [
        identity(fd.asks.mean_stay(AT, fd.escape.Ball(AT, radius), runs)) for radius, runs in [(1, 8), (2, 8), (1, 9)]
    ]
    assert len(set(words)) == 3
    assert words[0] == identity(fd.asks.mean_stay(AT, fd.escape.Ball(AT, 1), 8))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fd.asks.mean_stay(AT, BALL), ValueError, "runs must be given with a single start"),
        (lambda: fd.asks.mean_stay([AT, AT], BALL, 3), ValueError, "theta0 holds 2 starts, but runs=3"),
        (lambda: fd.asks.mean_stay("here", BALL, 3), ValueError, "theta0 must be"),
        (lambda: fd.asks.mean_stay(AT, 1.0, 3), TypeError, "inside must be"),
        (lambda: fd.asks.escapes("mean", AT, BALL, 3), TypeError, "then must be"),
        (lambda: fd.asks.ensembles(None, AT, 3), TypeError, "then must be"),
        (lambda: fd.asks.final_loss(AT, 0), ValueError, "steps must be"),
        (lambda: fd.asks.final_loss([AT, AT], 5, 3), ValueError, "theta0 holds 2 starts, but runs=3"),
        (lambda: fd.asks.basin_share([0.0], [(0, 1)], 0), ValueError, "runs must be"),
        (lambda: fd.asks.mean_stay([0.0, 5.0], BALL, 3)(noisy(), KEY), ValueError, "every start must be inside"),
        (lambda: fd.asks.mean_stay(AT, BALL, 3)(noisy()), ValueError, "this process is random: pass key"),
        (lambda: fd.asks.mean_stay([0.0], BALL, 3)(noisy(), KEY), ValueError, "theta0 must have shape"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
