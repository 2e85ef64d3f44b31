"""Entropies and dimensions of boundaries that are known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_basins import NEWTON, ROOTS

import flatdyn as fd
from flatdyn import boundaries
from flatdyn.basins.boundaries import basin_entropy, box_dimension, uncertainty_exponent

HALVES = fd.Map(lambda t: jnp.stack([jnp.where(t[0] < 0, -2.0, 2.0), 0 * t[1]]), 2)
SIDES = {"left": (-2.0, 0.0), "right": (2.0, 0.0)}


@functools.cache
def blank():
    return fd.map_basins(HALVES, [(0, 1), (0, 1)], 2, SIDES, max_steps=10)


def painted(labels):
    """A basin map with these labels on the unit square."""
    return dataclasses.replace(blank(), labels=np.asarray(labels))


def test_entropy_of_stripes():
    columns = np.zeros((40, 40), int)
    columns[:, 22:] = 1  # of 8 columns of boxes one is mixed, 2 to 3
    entropy = basin_entropy(painted(columns), 5)
    mixed = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert_allclose([entropy.value, entropy.boundary], [mixed / 8, mixed], rtol=1e-12)
    assert (entropy.boxes, entropy.boundary_boxes) == (64, 8)
    assert_allclose(entropy.stderr, np.append(np.zeros(56), [mixed] * 8).std(ddof=1) / 8, rtol=1e-12)
    assert entropy.boundary_stderr < 1e-15
    assert_allclose(entropy.boundary_least, mixed, rtol=1e-12)
    assert not entropy.is_fractal


def test_entropy_of_noise_is_that_of_a_coin_and_undecided_points_do_not_count():
    coin = np.random.default_rng(0).integers(0, 2, (1000, 1000))
    entropy = basin_entropy(painted(coin), 10)
    # 100 coins: E[S] = ln 2 − 1/200 to second order in 1/100 (Miller–Madow), 1e4 boxes
    assert abs(entropy.value - (np.log(2) - 1 / 200)) < 4 * entropy.stderr + 1e-4
    masked = np.where(np.random.default_rng(1).random(coin.shape) < 0.5, -1, coin)
    masked = basin_entropy(painted(masked), 10)
    assert abs(masked.value - (np.log(2) - 1 / 100)) < 4 * masked.stderr + 3e-4


def test_one_label_has_no_boundary():
    one = painted(np.zeros((200, 200), int))
    assert basin_entropy(one).value == 0
    assert np.isnan(basin_entropy(one).boundary)
    with pytest.raises(ValueError, match="no boundary"):
        box_dimension(one)


def test_lengths_and_counts_of_a_box_dimension_are_those_of_the_grid():
    """A vertical boundary meets one column of boxes, in a picture that is 3 wide: boxes of 2 strides at each scale."""
    side = 193
    labels = np.tile(np.arange(side) > 101, (side, 1))
    found = box_dimension(dataclasses.replace(painted(labels), box=np.array([(1.0, 4.0), (0.0, 1.0)])))
    strides = np.array([1, 2, 3, 4, 6])  # 32 strides are at most the side
    assert_allclose(found.scales, 2 * strides * 3 / (side - 1), rtol=1e-12)
    assert_allclose(found.counts, (side - 1) // (2 * strides))
    assert_allclose(found.value, 1, atol=1e-12)


def test_dimension_of_a_line_is_one():
    x, y = np.meshgrid(*[np.linspace(0, 1, 400)] * 2)
    for slope in (0.3, 1.7):
        dimension = box_dimension(painted((y > slope * (x - 0.4)).astype(int)))
        assert abs(dimension.value - 1) <= max(3 * dimension.stderr, 0.02)


def test_the_stated_error_of_a_box_dimension_is_that_of_pseudovalues():
    """Tukey's form of the jackknife: the mean of n θ − (n − 1) θ₍ᵢ₎ has the error of the mean of n numbers.

    One half of the picture has a straight boundary, the other one of dimension 2, so that tiles differ.
    """
    side = 192
    labels = np.random.default_rng(0).integers(0, 2, (side, side))
    labels[:, : side // 2] = np.arange(side)[:, None] > 0.7 * np.arange(side // 2)
    found = box_dimension(painted(labels))
    strides = np.array([1, 2, 3, 4])  # 32 strides are less than the side
    tiles = np.array([boundaries._mixed_by_tile(labels, stride) for stride in strides])

    def fitted(counts):
        mixed, boxes = counts.T
        x, y = np.log(strides), np.log(mixed / boxes)
        slope, at_zero = np.polyfit(x, y, 1, w=np.sqrt(mixed))
        around = x - np.average(x, weights=mixed)
        excess = np.sum(mixed * (y - at_zero - slope * x) ** 2) / (len(x) - 2)
        return slope, max(excess, 1) / np.sum(mixed * around**2)

    whole, scatter = fitted(tiles.sum(axis=1))
    held = np.flatnonzero(tiles[:, :, 0].any(axis=0))  # tiles with some of the boundary
    n = len(held)
    pseudo = [n * whole - (n - 1) * fitted(tiles.sum(axis=1) - tiles[:, i])[0] for i in held]
    jackknife = np.var(pseudo, ddof=1) / n
    assert jackknife > scatter  # or this would not see it
    assert_allclose(found.value, 2 - whole, rtol=1e-10)
    assert_allclose(found.stderr, np.sqrt(scatter + jackknife), rtol=1e-10)


def test_dimension_of_cantor_stripes():
    # labels change at the 3-adic Cantor set's gaps: the boundary is a Cantor set times a line, 1 + ln 2/ln 3
    n = 3**7
    x = np.arange(n)
    in_a_gap = np.any([x // 3**level % 3 == 1 for level in range(1, 7)], axis=0)
    square = np.tile(in_a_gap.astype(int), (n, 1))
    dimension = box_dimension(painted(square))
    exact = 1 + np.log(2) / np.log(3)
    assert abs(dimension.value - exact) <= 3 * dimension.stderr + 0.02, dimension  # 2 % for log-periodic bias
    assert dimension.stderr < 0.1


def test_uncertain_fraction_of_a_straight_boundary_is_exact():
    scales, runs = 0.4 * 0.5 ** np.arange(6), 20_000
    for seed in range(3):
        found = uncertainty_exponent(
            HALVES, [(-1, 1), (-1, 1)], scales, runs, jax.random.key(seed), SIDES, max_steps=10
        )
        # the box is 2 wide; ε u crosses x = 0 with probability E|ε cos φ|/2 = ε/π, as ε < 1
        exact = scales / np.pi
        error = np.sqrt(exact * (1 - exact) / runs)
        assert (np.abs(found.counts / runs - exact) <= 4.5 * error).all()  # 18 comparisons: 1e-4 for a false alarm
        assert abs(found.value - 1) <= 4 * found.stderr
        assert_allclose(found.scales, scales)
        # weighted least squares in ln f, whose variance is (1 − f)/(f n), by another program
        share = found.counts / runs
        x, y, inverse = np.log(scales), np.log(share), np.sqrt(runs * share / (1 - share))
        (slope, at_zero), covariance = np.polyfit(x, y, 1, w=inverse, cov="unscaled")
        excess = np.sum((inverse * (y - slope * x - at_zero)) ** 2) / (len(x) - 2)
        assert_allclose(found.value, 2 - slope, rtol=1e-10)
        assert_allclose(found.stderr, np.sqrt(covariance[0, 0] * max(excess, 1)), rtol=1e-10)


def test_both_dimensions_of_newtons_boundary_agree():
    grid = fd.map_basins(NEWTON, [(-1, 1)] * 2, 500, ROOTS, max_steps=200, check_every=1)
    counted = box_dimension(grid)
    scales = 0.5 ** np.arange(3, 12)
    for seed in range(2):
        key = jax.random.key(seed)
        sampled = uncertainty_exponent(NEWTON, [(-1, 1)] * 2, scales, 10_000, key, ROOTS, max_steps=200, check_every=1)
        both = np.hypot(counted.stderr, sampled.stderr)
        assert abs(counted.value - sampled.value) <= 2.5 * both
        assert both < 0.05
    entropy = basin_entropy(grid)
    assert entropy.is_fractal


def test_bad_input_is_refused_with_a_reason():
    small = painted(np.zeros((50, 50), int))
    with pytest.raises(ValueError, match="at least 128 points"):
        box_dimension(small)
    with pytest.raises(ValueError, match="size must fit into the grid"):
        basin_entropy(small, 51)
    with pytest.raises(ValueError, match="at least 3 numbers"):
        uncertainty_exponent(HALVES, [(-1, 1)] * 2, [0.1], 10, jax.random.key(0), SIDES)
    with pytest.raises(ValueError, match="no start is uncertain"):
        uncertainty_exponent(HALVES, [(1, 2), (-1, 1)], [0.1, 0.2, 0.3], 10, jax.random.key(0), SIDES, max_steps=10)
