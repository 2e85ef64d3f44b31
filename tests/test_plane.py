"""The transfer operator in the plane: against products of lines, each other, and simulations."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.laws import plane

SADDLE = fd.landscapes.saddle((-1.0, 0.5))
SGD = fd.Iteration(SADDLE, fd.GD(0.1), fd.noise.Gaussian((0.6, 0.9)))
SIDES = ((-1.0, 1.0), (-0.5, 0.7))


@pytest.fixture(scope="module")
def box():
    return plane.operator(SGD, fd.escape.Box(SIDES))


def lines(starts):
    """The laws of the two coordinates, which on a quadratic do not know each other."""
    parts = zip((-1.0, 0.5), (0.6, 0.9), SIDES, starts, strict=True)
    return [
        fd.escape.exit_law(
            fd.Iteration(fd.landscapes.saddle((c,)), fd.GD(0.1), fd.noise.Gaussian(s)), side, start
        )
        for c, s, side, start in parts
    ]  # fmt: skip


def test_a_box_on_a_quadratic_is_a_product_of_lines(box):
    times = box.expected(running=1)
    for start in ((0.0, 0.0), (0.3, 0.2)):
        x, y = lines(start)
        steps = np.arange(1000)
        mean = (x.survival(steps) * y.survival(steps)).sum()
        value, error = times.at(start)
        # 12 nodes in five standard deviations integrate a normal density to 1e-9.
        assert_allclose(value, mean, rtol=1e-8)
        assert abs(value - mean) <= error <= 1e-6 * mean
        assert_allclose(box.leading().eigenvalues[0], x.factor * y.factor, rtol=1e-9)


def test_where_it_lands_adds_up(box):
    right = box.expected(lambda theta: jnp.stack([theta[0] > 1, theta[0] < -1, theta[1] > 0.7, theta[1] < -0.5]))
    both = box.expected(lambda theta: (jnp.abs(theta[0]) > 1) & ((theta[1] > 0.7) | (theta[1] < -0.5)))
    shares = right([0.0, 0.0])
    assert_allclose(shares.sum() - both([0.0, 0.0]), 1, atol=1e-9)  # those that pass a corner are in two shares
    assert_allclose(shares[0], shares[1], rtol=1e-9)


def test_a_region_is_what_it_holds_not_how_it_is_written():
    ball = plane.operator(SGD, fd.escape.Ball([0.0, 0.0], 0.8))
    assert_allclose(ball.weights.sum(), np.pi * 0.64, rtol=1e-12)  # smooth between the places where lines change
    same = plane.operator(SGD, lambda theta: theta @ theta <= 0.64, [0.1, 0.0])
    values = [part.expected(running=1).at([[0.0, 0.0], [0.3, 0.2]]) for part in (ball, same)]
    assert_allclose(values[0][0], values[1][0], rtol=1e-8)
    assert (values[0][1] < 1e-5).all()
