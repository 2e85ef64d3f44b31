"""Transient growth and Kreiss constants, against powers of matrices, bounds of the theory, and branches."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.stability import TransientGrowth, kreiss_constant, transient_growth, transients

LINE = fd.landscapes.saddle((1.0,))


def powers(matrix, number):
    """‖Aᵏ‖₂ for k = 0, 1, …"""
    norms, power = [1.0], np.eye(len(matrix))
    for _ in range(number):
        power = matrix @ power
        norms.append(np.linalg.norm(power, 2))
    return np.array(norms)


def heavy_ball(lr, momentum=0.9):
    return np.array([[1 - lr, momentum], [-lr, momentum]])


@pytest.mark.parametrize(("lr", "known"), [(0.1, 2.35), (1.0, 1.50), (3.0, 4.13)])
def test_heavy_balls_growth_is_that_of_the_reference(lr, known):
    """The table of transients: μ = 0.9 and ηλ = 0.1, 1, 3 have the spectral radius √0.9 each."""
    found = transient_growth(fd.GD(lr, momentum=0.9), LINE, at=[0.0])
    assert abs(found.growth - known) <= 0.005  # two digits of the table
    norms = powers(heavy_ball(lr), 300)
    assert_allclose(found.growth, norms.max(), rtol=1e-13)
    assert found.step == norms.argmax()
    assert found.certain
    assert_allclose(found.radius, np.sqrt(0.9), rtol=1e-13)
    # the start has length 1 and becomes the end, both in the state (θ, v)
    assert_allclose(np.linalg.norm(found.start), 1, rtol=1e-13)
    assert_allclose(np.linalg.norm(found.end), found.growth, rtol=1e-13)
    assert_allclose(np.linalg.matrix_power(heavy_ball(lr), int(found.step)) @ found.start, found.end, rtol=1e-12)
    # θ alone, from rest: the upper left entry of the powers
    alone = [abs(np.linalg.matrix_power(heavy_ball(lr), k)[0, 0]) for k in range(300)]
    assert_allclose(found.position, max(alone), rtol=1e-13)
    assert found.position_step == np.argmax(alone)
    assert found.kreiss <= found.growth <= np.e * 2 * found.kreiss


def test_normal_maps_give_one_and_unstable_ones_no_end():
    plane = fd.landscapes.saddle((2.0, 0.5))
    for landscape, lr in ((plane, 0.9), (fd.landscapes.saddle((1.0, 0.0)), 0.3)):  # also a valley, multiplier 1
        found = transient_growth(fd.GD(lr), landscape, at=[0.0, 0.0])
        assert (found.growth, found.step, found.position, found.kreiss, found.certain) == (1, 0, 1, 1, True)
    away = transient_growth(fd.GD(0.1, momentum=0.5), fd.landscapes.saddle((1.0, -1.0)), at=[0.0, 0.0])
    assert (away.growth, away.step, away.position, away.position_step) == (np.inf, -1, np.inf, -1)
    assert away.kreiss == np.inf
    assert np.isnan(away.start).all()
    # defective at |z| = 1: ‖Jᵏ‖ grows like k, and what was seen is all that is said
    free = transients._grown([np.array([[1.0, 1.0], [0.0, 1.0]])], np.eye(2), 1000, False)
    assert free.step == 1000
    assert not free.certain
    assert np.isnan(free.kreiss)


def stable_matrix(rng, size, radius):
    """A matrix far from normal, of a given spectral radius."""
    matrix = rng.normal(size=(size, size)) + np.triu(5 * rng.normal(size=(size, size)), 1)
    return matrix * radius / np.abs(np.linalg.eigvals(matrix)).max()


@pytest.mark.parametrize("size", [2, 3, pytest.param(8, marks=pytest.mark.slow)])
def test_growth_is_the_largest_power_and_kreiss_theorem_bounds_it(size):
    for seed, radius in ((0, 0.5), (1, 0.95), (2, 0.999)):
        matrix = stable_matrix(np.random.default_rng(seed), size, radius)
        norms = powers(matrix, 3000)
        found = transients._grown([matrix], np.eye(size)[:1], 100_000, True)
        assert found.certain
        assert_allclose(found.growth, norms.max(), rtol=1e-11)
        assert found.step == np.argmax(norms >= norms.max() * (1 - 1e-12))
        # the same as a cycle of two steps: J = B A with k counting halves; A alone is a step of it
        half = stable_matrix(np.random.default_rng(seed + 10), size, 1.0)
        pair = transients._grown([half, matrix @ np.linalg.inv(half)], np.eye(size), 100_000, False)
        both = [np.linalg.norm(half @ np.linalg.matrix_power(matrix, k), 2) for k in range(2000)]
        assert_allclose(pair.growth, max(norms.max(), max(both)), rtol=1e-9)  # of the inverse, of condition up to 1e5
        constant = found.kreiss
        assert constant <= found.growth * (1 + 1e-12)
        assert found.growth <= np.e * size * constant
        # by brute force; a grid of 0.05 in ln(|z| − 1) and 0.01 in the angle is below the top by their squares,
        # in units of the gap, which is 0.001 at the least
        z = (1 + np.exp(np.arange(-9, 4, 0.05)))[:, None] * np.exp(1j * np.linspace(0, np.pi, 315))
        gaps = np.linalg.svd(z.reshape(-1, 1, 1) * np.eye(size) - matrix, compute_uv=False)[:, -1]
        brute = max(1, ((np.abs(z).ravel() - 1) / gaps).max())
        assert brute * (1 - 1e-12) <= constant <= brute * (1 + 5e-3)


def test_kreiss_constant_of_a_nilpotent_matrix_is_a_maximum_over_one_radius():
    """‖(z − A)⁻¹‖ of [[0, c], [0, 0]] does not depend on the angle: it is that of [[1/r, c/r²], [0, 1/r]]."""
    for c in (3.0, 5.0, 50.0):

        def depth(r, c=c):
            return -(r - 1) * np.linalg.norm([[1 / r, c / r**2], [0, 1 / r]], 2)

        exact = -scipy.optimize.minimize_scalar(
            depth, bounds=(1.01, 100), method="bounded", options={"xatol": 1e-9}
        ).fun
        assert_allclose(kreiss_constant([[0, c], [0, 0]]), max(exact, 1), rtol=1e-9)
    assert kreiss_constant([[1.5]]) == np.inf
    assert kreiss_constant([[0.0, 1.0], [-1.0, 0.0]]) == 1.0
    with pytest.raises(ValueError, match="matrix must be square"):
        kreiss_constant(np.ones((2, 3)))


def test_steps_of_a_cycle_are_counted_one_by_one():
    """The logistic map's two-cycle at r = 3.2: slopes r(1 − 2x) are −0.083 and −1.917 in turn."""
    logistic = fd.Map(lambda x: 3.2 * x * (1 - x), 1)
    low, high = (3.2 + 1 + np.array([-1, 1]) * np.sqrt((3.2 + 1) * (3.2 - 3))) / (2 * 3.2)
    from_high = transient_growth(logistic, at=[high], period=2)
    assert_allclose(from_high.growth, 3.2 * (2 * high - 1), rtol=1e-9)
    assert from_high.step == 1
    assert_allclose(from_high.radius, abs(4 + 2 * 3.2 - 3.2**2), rtol=1e-9)  # multiplier of the cycle
    from_low = transient_growth(logistic, at=[low], period=2)
    assert (from_low.growth, from_low.step) == (1, 0)


def test_a_map_that_repeats_itself_after_some_steps_counts_those_steps():
    method = fd.methods.Lookahead(fd.GD(0.1, momentum=0.9), 3)
    found = transient_growth(method, LINE, at=[0.0])
    norms = powers(fd.stability.numeric_jacobian(method, LINE, at=[0.0]), 300)
    assert_allclose(found.growth, norms.max(), rtol=1e-12)
    assert found.step == 3 * np.argmax(norms)


def make(curvature):
    return fd.Iteration(fd.landscapes.saddle((curvature,)), fd.GD(0.1, momentum=0.9))


@pytest.fixture(scope="module")
def along():
    branch = fd.fixedpoints.continue_in(make, "curvature", (1.0, 60.0), [0.0])
    return branch, transient_growth(make, at=branch)


def test_along_a_branch_every_point_has_its_own(along, tmp_path):
    branch, found = along
    assert_array_equal(found.parameter, branch.parameter)
    assert_array_equal(np.isinf(found.growth), branch.kinds == "saddle")  # past the flip at ηλ = 2(1 + μ)
    for i in np.flatnonzero(branch.stable)[::5]:
        norms = powers(heavy_ball(0.1 * branch.parameter[i]), 600)
        assert_allclose(found.growth[i], norms.max(), rtol=1e-10)
        assert_allclose(found.radius[i], np.abs(branch.multipliers[i]).max(), rtol=1e-10)
        assert found.step[i] == norms.argmax()
    # the nearer to the flip, the more it grows: 1/(1 − μ)-fold and more
    last = np.flatnonzero(branch.stable)[-1]
    assert found.growth[last] == found.growth[branch.stable].max() > 10
    assert "largest finite growth" in repr(found)
    back = TransientGrowth.load(found.save(tmp_path / "growth.npz"))
    assert_array_equal(back.growth, found.growth)


def test_what_was_not_looked_at_is_not_certain():
    """The heavy ball grows up to step 4: of fewer steps the largest is said to be that at least."""
    norms = powers(heavy_ball(0.1), 10)
    for most in (1, 2, 3, 4, 5, 300):
        short = transient_growth(make(1.0), at=[0.0], most=most, kreiss=False)
        assert short.step == min(most, 4)
        assert_allclose(short.growth, norms[: most + 1].max(), rtol=1e-12)
        assert short.certain == (most == 300)
        assert ("at least" in repr(short)) == (most < 300)


def test_singular_points_of_a_branch_are_not_known(along):
    branch, found = along
    kinds = branch.kinds.astype("U16")
    kinds[3] = "singular"
    spoilt = transient_growth(make, at=dataclasses.replace(branch, kinds=kinds), kreiss=False)
    assert np.isnan(spoilt.growth[3])
    assert not spoilt.certain[3]
    assert_allclose(np.delete(spoilt.growth, 3), np.delete(found.growth, 3))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda b: transient_growth(make, at=[0.0]), TypeError, "needs a branch"),
        (lambda b: transient_growth(make, LINE, at=b), ValueError, "leave them out"),
        (lambda b: transient_growth(lambda c: make(c).landscape, at=b), TypeError, "what process returns must be"),
        (lambda b: transient_growth(lambda c: fd.Iteration(LINE, fd.GD(0.1)), at=b), ValueError, "states of 1 numbers"),
        (lambda b: transient_growth(fd.SAM(0.1, 0.1), LINE, at=[0.0]), ValueError, "no Jacobian"),
        (lambda b: transient_growth(fd.GD(0.1), LINE, at=[0.0], most=0), ValueError, "most must be"),
        (
            lambda b: transient_growth(fd.Iteration(LINE, fd.GD(0.1), fd.noise.Stable(1.5)), at=[0.0]),
            ValueError,
            "random map",
        ),
    ],
)
def test_bad_input_is_refused(call, error, words, along):
    with pytest.raises(error, match=words):
        call(along[0])
