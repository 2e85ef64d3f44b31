"""How noise enters a step, and the three ways a SAM step can see its sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd

SIGMA, BATCH, RHO, LR = 0.7, 4, 0.3, 0.1
Q = fd.landscapes.saddle((2.0, -1.0))
RUNS = 40_000


def one_step(method, ascent, start, key):
    process = fd.Iteration(Q, method, noise=fd.noise.Gaussian(SIGMA, BATCH), ascent=ascent)
    return fd.simulate(process, np.tile(start, (RUNS, 1)), 1, key=jax.random.key(key), every=1).final


@pytest.mark.parametrize("key", [0, 1, 2])
@pytest.mark.parametrize(
    ("ascent", "factor"),
    # USAM on a quadratic: step = −η [λ(1 + ρλ) w + n], Var n = σ²/B · (1 + ρλ)², 1 + ρ²λ², 1
    [("shared", lambda c: (1 + RHO * c) ** 2), ("independent", lambda c: 1 + RHO**2 * c**2), ("full", lambda c: 1.0)],
)
def test_usam_sees_its_sample_in_three_ways(ascent, factor, key):
    start = np.array([0.5, 1.0])
    moved = one_step(fd.USAM(LR, RHO), ascent, start, key) - start
    for i, curvature in enumerate((2.0, -1.0)):
        variance = LR**2 * SIGMA**2 / BATCH * factor(curvature)
        mean = -LR * curvature * (1 + RHO * curvature) * start[i]
        # five standard errors of a mean, and of a variance of normal numbers
        assert abs(moved[:, i].mean() - mean) < 5 * np.sqrt(variance / RUNS)
        assert abs(moved[:, i].var() / variance - 1) < 5 * np.sqrt(2 / RUNS)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 5 / np.sqrt(RUNS)


@pytest.mark.parametrize("key", [0, 1])
def test_sam_at_the_saddle_has_the_exact_first_step_variance(key):
    # One dimension, w = 0, λ = −b: shared noise moves by −η(Z − bρ sign Z), so the variance is
    # η² (s² − 2bρ s √(2/π) + b²ρ²), s² = σ²/B; noiseless ascent perturbs by 0 there and leaves η² s².
    line = fd.landscapes.saddle((-1.0,))
    s = SIGMA / np.sqrt(BATCH)
    for ascent, exact in [("shared", s**2 - 2 * RHO * s * np.sqrt(2 / np.pi) + RHO**2), ("full", s**2)]:
        process = fd.Iteration(line, fd.SAM(LR, RHO), noise=fd.noise.Gaussian(SIGMA, BATCH), ascent=ascent)
        final = fd.simulate(process, np.zeros((RUNS, 1)), 1, key=jax.random.key(key)).final[:, 0]
        fourth = (final**4).mean() / (final**2).mean() ** 2
        # the standard error of a mean square, from its own fourth moment
        assert abs((final**2).mean() / (LR**2 * exact) - 1) < 5 * np.sqrt((fourth - 1) / RUNS)


def test_scale_may_differ_between_coordinates():
    process = fd.Iteration(Q, fd.GD(LR), noise=fd.noise.Gaussian(np.array([0.0, 2.0])))
    final = fd.simulate(process, np.zeros((RUNS, 2)), 1, key=jax.random.key(0)).final
    assert (final[:, 0] == 0).all()
    assert abs(final[:, 1].std() / (2 * LR) - 1) < 5 / np.sqrt(2 * RUNS)


def test_zero_noise_is_the_exact_gradient():
    noisy = fd.Iteration(Q, fd.SAM(LR, RHO), noise=fd.noise.Gaussian(0.0))
    exact = fd.Iteration(Q, fd.SAM(LR, RHO))
    start = np.array([0.5, 1.0])
    assert_allclose(
        fd.simulate(noisy, start, 20, key=jax.random.key(0)).theta, fd.simulate(exact, start, 20).theta, rtol=1e-14
    )


def test_a_function_and_an_expression_see_the_same_noise():
    function = fd.Landscape.from_function(lambda t: t[0] ** 2 - t[1] ** 2 / 2, 2)
    start, key = np.array([0.5, 1.0]), jax.random.key(3)
    for dtype in (np.float32, np.float64):
        paths = [
            fd.simulate(fd.Iteration(L, fd.SAM(LR, RHO), fd.noise.Gaussian(1.0)), start.astype(dtype), 5, key).theta
            for L in (function, Q)
        ]
        assert_allclose(paths[0], paths[1], rtol=1e-5 if dtype == np.float32 else 1e-13)


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match=r"scale must be .*>= 0, got -1"):
        fd.noise.Gaussian(-1.0)
    with pytest.raises(ValueError, match=r"batch_size must be .*>= 1, got 0"):
        fd.noise.Gaussian(1.0, batch_size=0)
    with pytest.raises(ValueError, match="random: pass key"):
        fd.simulate(fd.Iteration(Q, fd.GD(LR), fd.noise.Gaussian(1.0)), jnp.zeros(2), 1)
