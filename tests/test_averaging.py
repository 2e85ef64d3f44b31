"""Averages of iterates, against the means of recorded iterates."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd

L = fd.landscapes.beale()
START = np.array([1.0, 2.0])
NOISE = fd.noise.Gaussian(1.0)
KEY = jax.random.key(3)


def both(method, noise=None, steps=60, start=START, key=KEY):
    """Averages, and the iterates that are averaged."""
    process = fd.Iteration(L, method, noise or fd.noise.Exact())
    run = fd.simulate(process, start, steps, key if process.random else None, observe=iterate)
    return run.theta, run.observed


def iterate(state):
    return L.array(state.inner.theta)


def means(path, start, every):
    """The uniform average after every step, from the iterates, each mean taken anew."""
    after = [path[k] if k <= start else path[start : k + 1 : every].mean(0) for k in range(len(path))]
    return np.array(after)


@pytest.mark.parametrize("method", [fd.GD(1e-4, momentum=0.9), fd.SAM(1e-4, 0.1), fd.SGLD(1e-4, 1.0)], ids=repr)
def test_a_uniform_average_is_the_mean_of_the_recorded_iterates(method):
    alone = fd.simulate(fd.Iteration(L, method, NOISE), START, 60, KEY).theta
    for start, every in [(0, 1), (10, 1), (7, 5), (0, 7), (100, 1)]:
        average, path = both(fd.Averaged(method, start, every), NOISE)
        # a running mean of n numbers is off by at most n rounding errors
        assert_allclose(average, means(path, start, every), rtol=1e-13)
        assert_array_equal(average[: start + 1], path[: start + 1])
        # another program may round the same step differently, and 60 steps amplify that a hundredfold at most
        assert_allclose(path, alone, rtol=1e-13)


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.99])
def test_an_exponential_average_is_its_recursion(decay):
    average, path = both(fd.Averaged(fd.SAM(1e-3, 0.1), start=5, every=4, decay=decay))
    expected = path[5]
    for k in range(5, 61):
        if k > 5 and (k - 5) % 4 == 0:
            expected = decay * expected + (1 - decay) * path[k]
        assert_allclose(average[k], expected, rtol=1e-14)


def test_the_average_of_a_stationary_run_has_the_variance_of_theory():
    """On λθ²/2 with noise of variance s² the iterates are an AR(1) process, a = 1 − ηλ, and Var(mean) is known."""
    lr, curvature, scale, start, number, runs = 0.1, 1.0, 1.0, 200, 100, 20_000
    line = fd.landscapes.saddle((curvature,))
    method = fd.Averaged(fd.GD(lr), start)
    process = fd.Iteration(line, method, fd.noise.Gaussian(scale))
    ends = fd.simulate(process, np.zeros((runs, 1)), start + number - 1, KEY, every=start + number - 1).final[:, 0]
    a = 1 - lr * curvature
    variance = (lr * scale) ** 2 / (1 - a**2)
    lags = np.arange(1, number)
    exact = variance / number * (1 + 2 * np.sum((1 - lags / number) * a**lags))
    # a variance of n normal numbers has the relative error √(2/n); a²⁰⁰ of the start is below 1e-9
    assert abs(ends.var() / exact - 1) < 4.5 * np.sqrt(2 / runs)
    assert abs(ends.mean()) < 4.5 * np.sqrt(exact / runs)


def test_a_new_start_or_every_needs_no_new_program():
    def ends(start, every):
        process = fd.Iteration(L, fd.Averaged(fd.GD(1e-3), start, every))
        return jax.lax.fori_loop(0, 4, lambda _, state: process.step(state), process.init(START)).theta

    program = jax.jit(ends)
    for start, every in [(0, 1), (2, 1), (1, 3)]:
        average, _ = both(fd.Averaged(fd.GD(1e-3), start, every), steps=4)
        assert_allclose(program(float(start), float(every)).tree, average[-1], rtol=1e-14)
    assert program._cache_size() == 1


def test_an_average_asks_of_the_process_what_its_method_asks():
    method = fd.Averaged(fd.Langevin(0.1, splitting="OBABO"))
    assert (method.draws, method.samples) == (2, 1)
    assert fd.Averaged(fd.GD(0.1)).gap(None) is None
    with pytest.raises(ValueError, match="mask must have one entry per coordinate"):
        fd.Iteration(L, fd.Averaged(fd.SAM(0.1, 0.1, mask=(1, 1, 1))))
    with pytest.raises(TypeError, match=r"Averaged has no symbolic step .*from step to step.*ask multipliers"):
        fd.stability.jacobian(method, L)


def test_fixed_points_are_those_of_the_method():
    process = fd.Iteration(fd.landscapes.double_well(), fd.Averaged(fd.GD(0.1), start=50, decay=0.9))
    found = fd.fixedpoints.find(process)
    assert_allclose(sorted(point.theta[0] for point in found), [-1, 0, 1], atol=1e-9)
    assert sorted(point.kind for point in found) == ["saddle", "stable", "stable"]  # the average follows


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start": -1}, ValueError, "start must be a whole number >= 0, got -1"),
        ({"start": 1.5}, ValueError, "start must be a whole number >= 0, got 1.5"),
        ({"start": True}, ValueError, "start must be a number, got True"),
        ({"every": 0}, ValueError, "every must be a whole number >= 1, got 0"),
        ({"every": np.nan}, ValueError, "every must be finite"),
        ({"every": "often"}, ValueError, "every must be a number, got 'often'"),
        ({"decay": 1.0}, ValueError, "decay must be .* >= 0 and < 1, got 1.0"),
        ({"decay": -0.1}, ValueError, "decay must be .*got -0.1"),
        ({"method": "SGD"}, TypeError, "method must be a Method, got 'SGD'"),
    ],
)
def test_bad_averages_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fd.Averaged(**{"method": fd.GD(0.1)} | arguments)


def test_an_average_inside_an_alternation_is_refused():
    with pytest.raises(ValueError, match=r"use Averaged\(Alternating"):
        fd.Alternating([fd.Averaged(fd.GD(0.1)), fd.GD(0.1)], [(1, 0), (0, 1)])
