"""Manifolds and Lyapunov exponents, against exact ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.core.statistics import batch_mean

SADDLE = fd.landscapes.saddle()
HENON = fd.Map(lambda t: jnp.array([1 - 1.4 * t[0] ** 2 + t[1], 0.3 * t[0]]), dim=2, box=((-1.5, 1.5), (-0.5, 0.5)))


def test_the_stable_manifold_bounds_sams_capture_set_to_first_order_in_the_step():
    errors = []
    for lr in (4e-3, 1e-3):
        curve = fd.invariant_manifold(fd.Iteration(SADDLE, fd.SAM(lr, 0.5)), (0.0, 0.5), "stable")
        assert list(curve.ends) == ["box", "box"]
        x, y = curve.theta.T
        errors.append(np.abs(y - fd.quadratic.capture_boundary(np.abs(x), 0.5)).max())
    assert_allclose(np.diff(np.log2(errors)), -2, atol=0.2)  # a quarter of the step, a quarter of the error
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("curvatures", [(4.0, -1.0), (1.0, -2.0)])
def test_unequal_curvatures_too(curvatures):
    process = fd.Iteration(fd.landscapes.saddle(curvatures), fd.SAM(1e-3, 0.5))
    curve = fd.invariant_manifold(process, (0.0, 0.5), "stable")
    x, y = curve.theta.T
    assert_allclose(y, fd.quadratic.capture_boundary(np.abs(x), 0.5, curvatures), atol=3e-4)  # 0.1 lr ρ λ²


def test_the_unstable_manifold_of_gradient_descent_on_a_curved_landscape_is_invariant(monkeypatch):
    landscape = fd.Landscape.from_expression("x**2 - y**2 + x*y**2", symbols="x y", box=[(-1, 1)] * 2)
    process = fd.Iteration(landscape, fd.GD(0.05))
    curve = fd.invariant_manifold(process, (0.0, 0.0), "unstable", spacing=0.005)
    assert_allclose(curve.multiplier, 1.1, rtol=1e-12)
    assert_allclose(curve.saddle, [0, 0], atol=1e-15)
    assert np.linalg.norm(np.diff(curve.theta, axis=0), axis=1).max() <= 0.005 * (1 + 1e-9)
    inner = curve.theta[np.abs(curve.theta[:, 1]) < 0.8]
    moved = fd.simulate(process, inner, 1).final
    # the image of each point lies on the curve again; between points spaced by h a chord is off by h² curvature / 8
    x, y = curve.theta[np.argsort(curve.theta[:, 1])].T
    assert np.abs(np.interp(moved[:, 1], y, x) - moved[:, 0]).max() < 1e-5
    # leading term, from invariance under the flow: x = −y²/6 (x' = −2x − y², y' = 2y)
    small = inner[np.abs(inner[:, 1]) < 0.1]
    assert_allclose(small[:, 0], -(small[:, 1] ** 2) / 6, atol=2e-4)
    # another machine's linear algebra may give the eigenvectors with the other sign
    eig = np.linalg.eig
    monkeypatch.setattr(np.linalg, "eig", lambda a: (eig(a)[0], -eig(a)[1]))
    assert_allclose(
        fd.invariant_manifold(process, (0.0, 0.0), "unstable", spacing=0.005).theta, curve.theta, atol=1e-12
    )


def test_henons_attractor_lies_on_its_unstable_manifold():
    point = fd.fixedpoints.find(HENON, [(-2, 2)] * 2, starts=32)[1]
    curve = fd.invariant_manifold(HENON, point, "unstable", max_steps=11)
    assert point.multipliers[0].real < -1  # sides alternate
    attractor = fd.simulate(HENON, np.array([0.1, 0.1]), 1000).theta[900:]
    line = curve.theta[np.isfinite(curve.theta).all(axis=1)]
    distances = np.linalg.norm(attractor[:, None] - line[None], axis=-1).min(axis=1)
    assert np.median(distances) < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fd.invariant_manifold(HENON, (0.3, 0.3), "sideways"), "'stable' or 'unstable'"),
        (
            lambda: fd.invariant_manifold(fd.Iteration(SADDLE, fd.GD(0.1, momentum=0.9)), (0.0, 0.0), "stable"),
            "two numbers",
        ),
        (
            lambda: fd.invariant_manifold(fd.Iteration(fd.landscapes.himmelblau(), fd.GD(1e-3)), (3.0, 2.0), "stable"),
            "no saddle",
        ),
        (lambda: fd.invariant_manifold(fd.Map(lambda t: t, dim=2), (0.0, 0.0), "stable"), "give box"),
        (lambda: fd.lyapunov_exponents(HENON, [0.1, 0.1], 5), "steps must be"),
        (lambda: fd.lyapunov_exponents(HENON, [[0.1, 0.1]], 100), "one point"),
        (lambda: fd.lyapunov_exponents(HENON, [0.1, 0.1], 100, number=3), "at most the size of the state, 2"),
        (lambda: fd.lyapunov_exponents(HENON, [3.0, 3.0], 100), "leaves the finite numbers, at step"),
        (
            lambda: fd.lyapunov_exponents(fd.Iteration(SADDLE, fd.GD(0.1), fd.noise.Gaussian(1.0)), [0.0, 0.0], 100),
            "random: pass key",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("start", [0.3123, 0.7771, 0.1234])
def test_the_logistic_map_at_four_has_exponent_ln_2(start):
    (value,), (error,) = fd.lyapunov_exponents(fd.Map(lambda t: 4 * t * (1 - t), dim=1), [start], 50_000)
    assert error < 1e-3
    assert abs(value - np.log(2)) < 5 * error


def test_values_and_errors_are_batch_means_of_the_growth_at_each_step():
    """A rotation that stretches one coordinate: the logarithms of an orbit are known, the mean of the others is 0."""

    def turned(t):
        return jnp.array([(t[0] + 0.3137) % 1.0, (1.5 + jnp.sin(2 * jnp.pi * t[0])) * t[1]])

    places = (0.1 + 0.3137 * np.arange(7 + 59)) % 1.0
    exact, error = batch_mean(np.log(1.5 + np.sin(2 * np.pi * places[7:])))
    # one step more would fill the 20 batches another time
    found = fd.lyapunov_exponents(fd.Map(turned, dim=2), [0.1, 0.0], 59, transient=7)
    assert exact > 0
    assert_allclose(found.values, [exact, 0], atol=1e-12)
    assert_allclose(found.stderr, [error, 0], atol=1e-12)


def test_henons_exponents_sum_to_the_logarithm_of_the_determinant():
    values, errors = fd.lyapunov_exponents(HENON, [0.1, 0.1], 50_000)
    assert_allclose(values.sum(), np.log(0.3), atol=1e-12)
    assert abs(values[0] - 0.41922) < 5 * errors[0]  # Sprott, Chaos and Time-Series Analysis, table of exponents
    alone = fd.lyapunov_exponents(HENON, [0.1, 0.1], 50_000, number=1)
    assert_allclose(alone.values, values[:1], rtol=1e-9)
    assert_allclose(alone.stderr, errors[:1], rtol=1e-6)


@pytest.mark.parametrize("growth", [0.05, 0.3, 0.95])
def test_sams_band_on_a_negative_direction_is_chaotic_with_the_exact_exponent(growth, reference):
    process = fd.Iteration(fd.landscapes.saddle((-1.0,)), fd.SAM(growth, 0.5))
    band = fd.quadratic.chaotic_band(growth, 0.5, -1.0)
    (value,), _ = fd.lyapunov_exponents(process, [0.1], 2000)
    assert_allclose(value, band.lyapunov, rtol=1e-12)  # the slope is the same everywhere
    run = fd.simulate(process, np.linspace(-0.4, 0.4, 64)[:, None], 5000)
    late = np.abs(run.theta[:, 1000:])
    assert band.trapped
    assert late.max() <= band.half_width * (1 + 1e-12)
    assert late.max() > 0.98 * band.half_width


def test_the_trap_opens_at_the_crisis():
    band = fd.quadratic.chaotic_band(1.05, 0.5, -1.0)
    assert not band.trapped
    process = fd.Iteration(fd.landscapes.saddle((-1.0,)), fd.SAM(1.05, 0.5))
    runs = fd.simulate(process, np.linspace(-0.4, 0.4, 64)[:, None], 5000, every=5000, bound=10.0)
    assert (runs.status == fd.Status.DIVERGED).all()


def test_the_crisis_with_momentum_against_independent_bisection(reference):
    for row in reference["2_sam_quadratic"]["heavy_ball"]["crisis"]["rows"]:
        # measured crises lie late by at most 0.005: runs need ever longer to find the opening
        beta = 1 - row["eta_b"] * 1.0
        assert_allclose(fd.quadratic.crisis_lr(-1.0, beta), row["eta_b"], atol=1e-12)
        assert 0 <= row["beta_crisis"] - beta < 0.005


def test_contraction_of_a_noisy_descent_does_not_depend_on_the_noise():
    process = fd.Iteration(fd.landscapes.saddle((1.0, 3.0)), fd.GD(0.1), fd.noise.Gaussian(1.0))
    values, _ = fd.lyapunov_exponents(process, [0.1, 0.1], 200, key=jax.random.key(0))
    assert_allclose(values, np.log([0.9, 0.7]), rtol=1e-10)


@pytest.mark.parametrize("number", [0, 1, *(pytest.param(saddle, marks=pytest.mark.slow) for saddle in (2, 3))])
def test_a_stable_manifold_that_comes_from_another_fixed_point_ends_there(number):
    landscape = fd.landscapes.himmelblau()
    points = landscape.critical_points()
    (top,) = [point.theta for point in points if point.kind == "maximum"]
    saddle = [point for point in points if point.kind == "saddle"][number]
    curve = fd.invariant_manifold(fd.Iteration(landscape, fd.GD(1e-3)), saddle, "stable")
    assert sorted(curve.ends) == ["box", "point"]
    assert_allclose(curve.multiplier, 1 - 1e-3 * saddle.eigenvalues[-1], rtol=1e-9)
    finite = curve.theta[np.isfinite(curve.theta).all(axis=1)]
    assert np.linalg.norm(finite - top, axis=1).min() < 0.01  # of the order of the spacing, 10/400
    assert len(finite) < 20_000  # and does not creep towards it for ever
