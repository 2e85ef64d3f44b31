"""What SAM captures at a quadratic saddle: closed form, stable manifold and brute force against each other."""

import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import capture


def test_kappa_against_its_integral():
    for tau in (0.0, 1e-3, 0.5, 1.0, 3.0, 200.0):
        upper = np.inf if tau == 0 else tau**-0.5
        integral, error = scipy.integrate.quad(lambda u: 1 / np.sqrt(1 + u**4), 0, upper, epsabs=1e-13)
        assert_allclose(capture.kappa(tau), integral, atol=max(error, 1e-12))
    assert capture.kappa(np.inf) == 0
    # Γ(¼)²/(4√π), and half of it at τ = 1 by symmetry
    assert_allclose(capture.kappa([0, 1]), [1.8540746773013719, 0.9270373386506829], rtol=1e-14)


def test_the_symmetric_boundary_against_independent_bisection(reference):
    for row in reference["2_sam_quadratic"]["capture_boundary_symmetric_saddle"]["rows"]:
        x, y, rho = row["x"], row["y_exact"], row["rho"]
        inside, outside = capture.captured([[x, y * (1 - 1e-9)], [-x, -y * (1 + 1e-9)]], rho)
        assert inside
        assert not outside
        assert_allclose(capture.boundary(x, rho), y, rtol=1e-10)


def test_the_general_boundary_against_independent_integration(reference):
    for row in reference["2_sam_quadratic"]["capture_boundary_general_saddle"]["rows"]:
        found = capture.boundary([row["x"]], row["rho"], (row["a"], -row["b"]))
        assert_allclose(found, row["y_manifold"], atol=1e-9)  # the reference's own error


def test_the_boundary_scales_with_rho_and_not_with_the_loss():
    x = np.array([0.0, 0.01, 0.3, 2.0])
    assert_allclose(capture.boundary(3 * x, 1.5, (2, -1)), 3 * capture.boundary(x, 0.5, (2, -1)), rtol=1e-12)
    assert_allclose(capture.boundary(x, 0.5, (20, -10)), capture.boundary(x, 0.5, (2, -1)), rtol=1e-12)
    assert_allclose(capture.boundary(x, 0.5)[0], 0.5, rtol=1e-12)


def test_axes_are_captured_as_they_should_be():
    assert list(capture.captured([[5.0, 0.0], [0.0, 0.49], [0.0, 0.51], [0.0, 0.0]], 0.5)) == [True, True, False, True]


@pytest.mark.parametrize("curvatures", [(2.0, -2.0), (3.0, -1.0), (1.0, -2.0)])
def test_brute_force_fills_the_set_up_to_one_cell(curvatures):
    rho, side = 0.5, 400
    ticks = np.linspace(-2, 2, side)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    process = fd.Iteration(fd.landscapes.saddle(curvatures), fd.SAM(0.01, rho))
    runs = fd.simulate(process, grid.reshape(-1, 2), 5000, every=5000, bound=10.0)
    simulated = (runs.status != fd.Status.DIVERGED).reshape(side, side)
    exact = np.abs(grid[..., 1]) < capture.boundary(np.abs(grid[..., 0]), rho, curvatures)
    if curvatures == (2.0, -2.0):
        np.testing.assert_array_equal(exact, capture.captured(grid, rho))
    # a step of 0.01 moves the flow's boundary by a fraction of the cell of 0.01
    cell = np.ones((3, 3))
    band = scipy.ndimage.binary_dilation(exact, cell) & ~scipy.ndimage.binary_erosion(exact, cell, border_value=1)
    assert not (simulated != exact)[~band].any()
    assert simulated.any()


def test_captured_fraction_against_independent_counts(reference):
    ticks = np.linspace(-2, 2, 401)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    rows = reference["2_sam_quadratic"]["capture_fraction_grid"]["rows"]
    assert capture.captured(grid, 0.5).sum() == rows[0]["count"]
    for row in rows[1:]:
        process = fd.Iteration(fd.landscapes.saddle(), fd.SAM(row["eta"], 0.5))
        # the reference waits for 20,000 steps; at rates of 10 % a step 2,000 decide every cell
        runs = fd.simulate(process, grid, 2000, every=2000, bound=1e3)
        inside = (np.abs(runs.final[:, 1]) <= 10) & (runs.status != fd.Status.DIVERGED)
        # cells on the boundary are decided by rounding
        assert abs(inside.mean() - row["fraction"]) < 0.0005


def test_the_demo_run_ends_on_the_predicted_two_cycle(reference):
    row = reference["2_sam_quadratic"]["paper_demo_map"]
    run = fd.simulate(fd.Iteration(fd.landscapes.saddle(), fd.SAM(row["eta"], row["rho"])), np.array(row["w0"]), 500)
    assert_allclose(run.theta[[499, 500]], row["w_at_499_500"], atol=1e-12)
    gd = fd.simulate(fd.Iteration(fd.landscapes.saddle(), fd.GD(row["eta"])), np.array(row["w0"]), 500)
    assert_allclose(gd.final, row["gd_w_at_500"], rtol=1e-11)


def test_momentum_shrinks_the_captured_set_as_independent_counts_say(reference):
    ticks = np.linspace(-2, 2, 201)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    for row in reference["2_sam_quadratic"]["heavy_ball"]["capture_fraction"]["rows"]:
        process = fd.Iteration(fd.landscapes.saddle(), fd.SAM(row["eta"], 0.5, momentum=row["beta"]))
        runs = fd.simulate(process, grid, 5000, every=5000, bound=1e3)
        inside = (np.abs(runs.final[:, 1]) <= 10) & (runs.status != fd.Status.DIVERGED)
        assert abs(inside.mean() - row["fraction"]) < 0.002


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"rho must be .* > 0"):
        capture.captured([1.0, 1.0], 0.0)
    with pytest.raises(ValueError, match=r"curvatures\[1\] must be .* < 0, got 1"):
        capture.boundary([1.0], 0.5, (1.0, 1.0))
