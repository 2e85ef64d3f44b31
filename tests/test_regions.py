"""Regions: what counts as inside, at any size and in either precision, and what is no region."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.escape import Ball, Box, HalfSpace, Sublevel, escape_times, splitting
from flatdyn.processes.regions import ExactScore

WALK = fd.Map(lambda t: t * 1.1, 2)  # from x outwards: beyond 1 after ⌈ln(1/x)/ln 1.1⌉ steps
SCALES = [1e-30, 1e-10, 1.0, 1e10, 1e30]


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("scale", SCALES)
def test_a_region_is_left_after_as_many_steps_at_any_size(x64, scale):
    if not x64 and abs(np.log10(scale)) > 20:
        scale = scale**0.5  # squares of a length are beyond float32
    with jax.enable_x64(x64):
        start = jnp.array([0.01 * scale, 0.0])
        sides = [(-scale, scale), (-scale, scale)]
        regions = [Ball((0.0, 0.0), scale), Box(sides), HalfSpace((1.0, 0.0), scale), HalfSpace((1e-25, 0.0), 0.0)]
        steps = [int(escape_times(WALK, start, region, 1, 100).steps[0]) for region in regions[:3]]
        assert steps == [49, 49, 49]  # 0.01 · 1.1^48 = 0.97, 0.01 · 1.1^49 = 1.07
        assert not bool(regions[3](start))
        assert bool(regions[3](-start))


def test_scores_say_how_far_out_in_units_of_the_region():
    """By hand: (|θ − c|/r)², 1 + the distance beyond a side over half its width, or over 1, and 1 + L − level."""
    at, plane = jnp.array([5.0, -2.0]), fd.landscapes.saddle((2.0, -4.0))  # L = 25 − 8 there
    for region, score in (
        (Ball((2.0, 2.0), 2.5), 4.0),
        (Box([(-1, 3), (-5, 5)]), 2.0),
        (Box([(0, 8), (-1, 1)]), 2.0),
        (Box([(0, 8), (1, np.inf)]), 4.0),
        (Box([(0, 8), (-4, 4)]), 1 - 0.5),
        (HalfSpace((3.0, -4.0), 8.0), 4.0),
        (HalfSpace((0.0, 2.0), -6.0), 2.0),
        (Sublevel(plane, 15.0), 3.0),
    ):
        assert_allclose(region.score(at), score, rtol=1e-14)
        assert bool(region(at)) == (score <= 1)


def test_a_score_is_above_one_just_outside():
    with jax.enable_x64(False):
        score, at = ExactScore(HalfSpace((1.0, 0.0), 0.0)), jnp.array([1e-10, 0.0])
        assert score(at) > 1
        assert score(-at) <= 1
        assert np.isnan(score(at * jnp.nan))


def test_whole_numbers_are_truth_values_and_real_ones_are_none():
    start = np.array([0.01, 0.0])
    whole = escape_times(WALK, start, lambda t: jnp.where(t[0] <= 1, 2, 0), 1, 100)
    assert_array_equal(whole.steps, [49])
    with pytest.raises(ValueError, match=r"True or False, got a number of type float64.*value <= level"):
        escape_times(WALK, start, lambda t: 1.0 - t[0], 1, 100)
    with pytest.raises(ValueError, match=r"one boolean for θ of shape \(2,\), got shape \(2,\)"):
        escape_times(WALK, start, lambda t: t < 1, 1, 100)
    for nothing in (lambda t: None, lambda t: (t[0] < 1, t[1] < 1), lambda t: {"inside": t[0] < 1}):
        with pytest.raises(ValueError, match="inside must return one boolean, got"):
            escape_times(WALK, start, nothing, 1, 100)
    right = fd.Map(lambda t: t + 1.0, 1)
    ends = {"far": fd.Region("far", lambda t: 2 * (t[0] > 50), absorbing=True)}
    assert fd.map_basins(right, [(0.0, 1.0)], 2, ends, max_steps=100).counts()["far"] == 2
    with pytest.raises(ValueError, match="region 'far': inside must return True or False"):
        fd.map_basins(right, [(0.0, 1.0)], 2, {"far": lambda t: t[0]}, max_steps=100)


def test_one_region_serves_basins_and_escapes():
    """θ grows by 1 a step: from 0 it leaves the ball of radius 3.5 after four steps, and ends beyond 50."""
    right, ball = fd.Map(lambda t: t + 1.0, 1), Ball((0.0,), 3.5)
    named = fd.Region("near", ball)
    for inside in (ball, named, fd.Region("near", lambda t: abs(t[0]) <= 3.5)):
        assert_array_equal(escape_times(right, [0.0], inside, 1, 100).steps, [4])
    for beyond in (HalfSpace((-1.0,), -50.0), fd.Region("any name", HalfSpace((-1.0,), -50.0), absorbing=True)):
        ends = {"far": beyond} if not isinstance(beyond, fd.Region) else [beyond]
        counts = fd.map_basins(right, [(0.0, 1.0)], 2, ends, max_steps=100).counts()
        assert counts["far" if isinstance(ends, dict) else "any name"] == 2
    with pytest.raises(ValueError, match="center has 1 numbers, but θ has 2 coordinates"):
        escape_times(fd.Map(lambda t: t + 1.0, 2), [0.0, 0.0], named, 1, 100)
    noisy = fd.Iteration(fd.landscapes.double_well(), fd.GD(0.1), fd.noise.Gaussian(1.0))
    assert (
        splitting._score(None, named, noisy)(jnp.array([7.0]))
        == splitting._score(None, ball, noisy)(jnp.array([7.0]))
        == 4
    )


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Ball((0.0, 0.0, 0.0), 1.0), "center has 3 numbers, but θ has 2 coordinates"),
        (HalfSpace((1.0, 0.0, 0.0), 1.0), "normal has 3 numbers, but θ has 2 coordinates"),
        (Box([(-1, 1)]), "sides has 1 pairs, but θ has 2 coordinates"),
        (Sublevel(fd.landscapes.rosenbrock(3), 1.0), "landscape has 3 coordinates, but θ has 2"),
    ],
)
def test_a_region_of_other_coordinates_is_refused(region, message):
    with pytest.raises(ValueError, match=message):
        escape_times(WALK, np.array([0.01, 0.0]), region, 1, 100)
    with pytest.raises(ValueError, match=message):
        fd.map_basins(WALK, [(-1, 1)] * 2, 3, {"region": region})


def test_a_center_is_one_point():
    with pytest.raises(ValueError, match=r"must be a list of numbers, got shape"):
        Ball(1.0, 1.0)


class Two(eqx.Module):
    """Half of the way to the scale with θ's sign; the scale is a number that the map holds: one program for all."""

    scale: float

    def __call__(self, t):
        return (t + self.scale * jnp.sign(t)) / 2


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_basins_are_the_same_at_any_size(scale):
    """The map x/s -> f(x/s) with two points, in float32, where 1 + |x| would swallow a scale of 1e-10."""
    with jax.enable_x64(False):
        two = fd.Map(Two(scale), 1)
        found = fd.map_basins(two, [(-3 * scale, 5 * scale)], 16, bound=100 * scale, max_steps=400)
        assert sorted(found.counts().values()) == [0, 0, 6, 10]
        assert len(set(map(str, found.names))) == 2
        assert not any("'" in str(name) for name in found.names)  # their positions distinguish them
