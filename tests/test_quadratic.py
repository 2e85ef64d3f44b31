"""What SAM captures at a quadratic saddle: closed form, stable manifold and brute force against each other."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import quadratic


def test_the_capture_curve_bounds_what_is_captured():
    ratio, rho = np.geomspace(1e-4, 1e4, 41), 0.7
    curve = quadratic.capture_curve(ratio, rho)
    assert_allclose(curve[1] / curve[0], ratio, rtol=1e-14)
    assert quadratic.captured(0.999 * curve.T, rho).all()
    assert not quadratic.captured(1.001 * curve.T * [-1, 1], rho).any()
    some = (ratio > 1e-3) & (ratio < 1e3)
    assert_allclose(quadratic.capture_boundary(curve[0, some], rho), curve[1, some], rtol=1e-9)
    for bad in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="ratio must be"):
            quadratic.capture_curve([1.0, bad], rho)


def test_kappa_at_zero_is_a_gamma_function():
    assert_allclose(quadratic.KAPPA_ZERO, math.gamma(0.25) ** 2 / (4 * math.sqrt(math.pi)), rtol=1e-15)


def test_kappa_against_its_integral():
    for ratio in (0.0, 1e-3, 0.5, 1.0, 3.0, 200.0):
        upper = np.inf if ratio == 0 else ratio**-0.5
        integral, error = scipy.integrate.quad(lambda u: 1 / np.sqrt(1 + u**4), 0, upper, epsabs=1e-13)
        assert_allclose(quadratic.kappa(ratio), integral, atol=max(error, 1e-12))
    assert quadratic.kappa(np.inf) == 0
    with pytest.warns(DeprecationWarning, match=r"kappa\(tau=\) is now kappa\(ratio=\)"):
        assert quadratic.kappa(tau=1.0) == quadratic.kappa(1.0)
    # Γ(¼)²/(4√π), and half of it at q = 1 by symmetry
    assert_allclose(quadratic.kappa([0, 1]), [1.8540746773013719, 0.9270373386506829], rtol=1e-14)


def test_the_symmetric_boundary_against_independent_bisection(reference):
    for row in reference["2_sam_quadratic"]["capture_boundary_symmetric_saddle"]["rows"]:
        x, y, rho = row["x"], row["y_exact"], row["rho"]
        inside, outside = quadratic.captured([[x, y * (1 - 1e-9)], [-x, -y * (1 + 1e-9)]], rho)
        assert inside
        assert not outside
        assert_allclose(quadratic.capture_boundary(x, rho), y, rtol=1e-10)


def test_the_general_boundary_against_independent_integration(reference):
    for row in reference["2_sam_quadratic"]["capture_boundary_general_saddle"]["rows"]:
        found = quadratic.capture_boundary([row["x"]], row["rho"], (row["a"], -row["b"]))
        assert_allclose(found, row["y_manifold"], atol=1e-9)  # the reference's own error


def test_the_boundary_scales_with_rho_and_not_with_the_loss():
    x = np.array([0.0, 0.01, 0.3, 2.0])
    assert_allclose(
        quadratic.capture_boundary(3 * x, 1.5, (2, -1)), 3 * quadratic.capture_boundary(x, 0.5, (2, -1)), rtol=1e-12
    )
    assert_allclose(
        quadratic.capture_boundary(x, 0.5, (20, -10)), quadratic.capture_boundary(x, 0.5, (2, -1)), rtol=1e-12
    )
    assert_allclose(quadratic.capture_boundary(x, 0.5)[0], 0.5, rtol=1e-12)


def test_axes_are_captured_as_they_should_be():
    assert list(quadratic.captured([[5.0, 0.0], [0.0, 0.49], [0.0, 0.51], [0.0, 0.0]], 0.5)) == [
        True,
        True,
        False,
        True,
    ]


MIRRORS = np.array([(-1, 1), (1, -1), (-1, -1)])


def held(process, ticks, steps, bound):
    """Which runs from a grid over the quadrant x, y ≥ 0 stay, in a row; the others are their mirror images."""
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    some = np.arange(0, len(grid), len(grid) // 100)  # of these the images are run too, and are images to the last bit
    starts = np.concatenate([grid, *(grid[some] * mirror for mirror in MIRRORS)])
    runs = fd.simulate(process, starts, steps, every=steps, bound=bound)
    images = np.concatenate([runs.final[some] * mirror for mirror in MIRRORS])
    np.testing.assert_array_equal(runs.final[len(grid) :], images)
    stays = (np.abs(runs.final[:, 1]) <= 10) & (runs.status != fd.Status.DIVERGED)
    return stays[: len(grid)]


def mirrored(quadrant, axes=0):
    """A quadrant and its images on the whole grid; `axes`: 1 if the quadrant's first row and column lie on the axes."""
    half = np.concatenate([quadrant[axes:][::-1], quadrant])
    return np.concatenate([half[:, axes:][:, ::-1], half], axis=1)


@pytest.mark.optimised
@pytest.mark.parametrize("curvatures", [(2.0, -2.0), (3.0, -1.0), (1.0, -2.0)])
def test_brute_force_fills_the_set_up_to_one_cell(curvatures):
    rho, side = 0.5, 400
    ticks = np.linspace(-2, 2, side)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    process = fd.Iteration(fd.landscapes.saddle(curvatures), fd.SAM(0.01, rho))
    stays = held(process, ticks[side // 2 :], steps=2000, bound=10.0)  # no run leaves later: as many stay for 5000
    simulated = mirrored(stays.reshape(side // 2, side // 2))
    exact = np.abs(grid[..., 1]) < quadratic.capture_boundary(np.abs(grid[..., 0]), rho, curvatures)
    if curvatures == (2.0, -2.0):
        np.testing.assert_array_equal(exact, quadratic.captured(grid, rho))
    # a step of 0.01 moves the flow's boundary by a fraction of the cell of 0.01
    cell = np.ones((3, 3))
    band = scipy.ndimage.binary_dilation(exact, cell) & ~scipy.ndimage.binary_erosion(exact, cell, border_value=1)
    assert not (simulated != exact)[~band].any()
    assert simulated.any()


@pytest.mark.optimised
def test_captured_fraction_against_independent_counts(reference):
    ticks = np.linspace(-2, 2, 401)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    rows = reference["2_sam_quadratic"]["capture_fraction_grid"]["rows"]
    assert quadratic.captured(grid, 0.5).sum() == rows[0]["count"]
    for row in rows[1:]:
        process = fd.Iteration(fd.landscapes.saddle(), fd.SAM(row["eta"], 0.5))
        # the reference waits for 20,000 steps; at rates of 10 % a step 2,000 decide every cell
        inside = mirrored(held(process, ticks[200:], steps=2000, bound=1e3).reshape(201, 201), axes=1)
        # cells on the boundary are decided by rounding
        assert abs(inside.mean() - row["fraction"]) < 0.0005


def test_the_demo_run_ends_on_the_predicted_two_cycle(reference):
    row = reference["2_sam_quadratic"]["paper_demo_map"]
    run = fd.simulate(fd.Iteration(fd.landscapes.saddle(), fd.SAM(row["eta"], row["rho"])), np.array(row["w0"]), 500)
    assert_allclose(run.theta[[499, 500]], row["w_at_499_500"], atol=1e-12)
    gd = fd.simulate(fd.Iteration(fd.landscapes.saddle(), fd.GD(row["eta"])), np.array(row["w0"]), 500)
    assert_allclose(gd.final, row["gd_w_at_500"], rtol=1e-11)


@pytest.mark.optimised
def test_momentum_shrinks_the_captured_set_as_independent_counts_say(reference):
    ticks = np.linspace(-2, 2, 201)
    for row in reference["2_sam_quadratic"]["heavy_ball"]["capture_fraction"]["rows"][1:]:  # the first is without
        process = fd.Iteration(fd.landscapes.saddle(), fd.SAM(row["eta"], 0.5, momentum=row["beta"]))
        inside = mirrored(held(process, ticks[100:], steps=5000, bound=1e3).reshape(101, 101), axes=1)
        assert abs(inside.mean() - row["fraction"]) < 0.002


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"rho must be .* > 0"):
        quadratic.captured([1.0, 1.0], 0.0)
    with pytest.raises(ValueError, match=r"curvatures\[1\] must be .* < 0, got 1"):
        quadratic.capture_boundary([1.0], 0.5, (1.0, 1.0))
    with pytest.raises(ValueError, match="stable must be below 1e308 times rho"):
        quadratic.capture_boundary([1e300], 1e-300)
    with pytest.raises(ValueError, match=r"curvatures must be within 1e100 of each other, got 1e\+200"):
        quadratic.arrival_time([0.1, 0.1], 0.5, [2e200, -2.0])
    with pytest.raises(ValueError, match=r"theta must be one point of shape \(2,\), got \(3, 2\)"):
        quadratic.arrival_time(np.ones((3, 2)), 0.5, [2.0, -2.0])


# --- fixed points of the flow, arrival, two-cycles ------------------------------------------------------------


def test_flow_fixed_points_against_independent_finite_differences(reference):
    row = reference["2_sam_quadratic"]["noncritical_fixed_points"]
    lam, rho = np.array(row["lam"]), row["rho"]
    points = quadratic.flow_fixed_points(lam, rho)
    assert len(points) == 4
    for point in points:
        k = int(np.argmax(np.abs(point.theta)))
        assert_allclose(np.abs(point.theta), rho * np.eye(4)[k], atol=0)

        def flow(w):
            g = lam * w
            return -lam * (w + rho * g / np.linalg.norm(g))

        h = 1e-6
        slopes = np.array([(flow(point.theta + h * e) - flow(point.theta - h * e)) / (2 * h) for e in np.eye(4)]).T
        assert_allclose(slopes, np.diag(point.eigenvalues), atol=1e-7)


def test_certain_cases_of_capture_are_never_wrong():
    # 4-D, against the flow's own arrival: the reference found no exception in 3000 cases
    rng = np.random.default_rng(0)
    for _ in range(60):
        lam = np.append(rng.uniform(0.2, 3, 2), -rng.uniform(0.2, 3, 2))
        theta = rng.normal(size=4) * rng.choice([0.05, 0.3])
        verdict = quadratic.capture_bounds(theta, 0.3, lam)
        if verdict != 0:
            assert np.isfinite(quadratic.arrival_time(theta, 0.3, lam)) == (verdict == 1)


def test_a_point_has_as_many_coordinates_as_there_are_curvatures():
    for ask in (quadratic.capture_bounds, quadratic.arrival_time):
        for theta in (np.ones(3), 1.0, np.ones((2, 1))):
            with pytest.raises(ValueError, match=r"theta must have shape \(\.\.\., 2\), one for each curvature"):
                ask(theta, 0.5, [2.0, -1.0])


def test_what_is_certain_of_capture_is_said_and_the_rest_is_open():
    """By hand: ‖∇L‖ below ρ min |λ₋| is captured, the unstable part from ρ max |λ₋| on never is."""
    lam, rho = np.array([3.0, -0.5, -2.0]), 0.4  # bounds on the gradient 0.2 and 0.8
    gradients = np.array([[0.1, 0.1, 0.1], [0.19, 0, 0], [0.21, 0, 0], [0, 0.3, 0.7], [0, 0.5, 0.7], [9, 0.1, 0]])
    assert list(quadratic.capture_bounds(gradients / lam, rho, lam)) == [1, 1, 0, 0, -1, 0]


def test_arrival_times_against_closed_forms(reference):
    for row in reference["2_sam_quadratic"]["arrival_time_1d"]["rows"]:
        assert_allclose(quadratic.arrival_time([row["w0"]], row["rho"], [-row["b"]]), row["T"], rtol=1e-9)
    assert_allclose(quadratic.arrival_time([0.7], 0.5, [2.0]), np.log(1 + 0.7 / 0.5) / 2, rtol=1e-9)
    row = reference["2_sam_quadratic"]["paper_demo_flow_arrival"]
    # the reference stops at ‖∇L‖ = 1e-6, 1e-6/(ρ λ²) = 5e-7 before arrival
    assert_allclose(quadratic.arrival_time(row["w0"], row["rho"], [2, -2]), row["T"] + 5e-7, atol=2e-9)
    assert quadratic.arrival_time([0.51], 0.5, [-2.0]) == np.inf
    assert quadratic.arrival_time([0.0, 0.0], 0.5, [2.0, -2.0]) == 0.0


@pytest.mark.parametrize("unit", [1.0, 1e-200, 1e200])
@pytest.mark.parametrize("steep", [1.0, 1e-200, 1e200])
def test_arrival_times_know_no_units(unit, steep):
    theta, rho, lam = np.array([0.1, 0.05]), 0.5, np.array([2.0, -1.0])
    found = quadratic.arrival_time(theta * unit, rho * unit, lam * steep) * steep
    assert_allclose(found, quadratic.arrival_time(theta, rho, lam), rtol=2e-9)  # its stated error, twice
    w, b = 3e-3 * unit, 1.5 * steep  # from near to far in units of ρ
    for far in (1e-90, 1.0, 1e90):
        assert_allclose(quadratic.arrival_time([w], w / far, [b]) * b, np.log1p(far), rtol=1e-9)
    assert quadratic.arrival_time([w], w / 1.001, [-b]) == np.inf


@pytest.mark.parametrize("unit", [2.0**-900, 2.0**900])
def test_the_capture_set_knows_no_units(unit):
    theta = np.random.default_rng(0).normal(size=(200, 2)) * [1.0, 0.3]
    assert 20 < quadratic.captured(theta, 0.5).sum() < 180
    assert_array_equal(quadratic.captured(theta * unit, 0.5 * unit), quadratic.captured(theta, 0.5))
    far = [[1e-310, 0.49], [1e-310, 0.51], [1e300, 1e-322], [1e300, 1e-290]]  # |w₁ w₂| < ρ² κ(0)² on the last two
    assert quadratic.captured(far[:2], 0.5).tolist() == [True, False]
    assert quadratic.captured(far[2:], 1e-10).tolist() == [True, False]
    curves = [quadratic.capture_curve([0.1, 2.0], rho) for rho in (0.5, 0.5 * unit)]
    assert_array_equal(curves[1], curves[0] * unit)


def test_the_capture_boundary_knows_no_units():
    stable, units = np.array([0.0, 0.1, 3.0]), 2.0**600
    found = quadratic.capture_boundary(units * stable, units * 0.3, (2.0**400, -(2.0**399)))
    assert_array_equal(found / units, quadratic.capture_boundary(stable, 0.3, (1.0, -0.5)))  # powers of two


def test_arrival_is_finite_exactly_inside_the_capture_set():
    rng = np.random.default_rng(1)
    points = rng.uniform(-2, 2, (100, 2)) * [1, 0.4]
    finite = [np.isfinite(quadratic.arrival_time(point, 0.5, [2.0, -2.0])) for point in points]
    assert list(quadratic.captured(points, 0.5)) == finite
    assert 20 < sum(finite) < 80


def test_two_cycles_at_minima_against_independent_numbers(reference):
    for row in reference["2_sam_quadratic"]["period2_minimum_1d"]["rows"]:
        cycle = quadratic.two_cycle(fd.SAM(row["eta"], row["rho"]), [row["lam"]], 0)
        assert_allclose(cycle.amplitude, row["A_pred"], rtol=1e-12)
        assert cycle.stable
        assert_allclose([cycle.amplitude] * 2, np.abs([row["w_even"], row["w_odd"]]), rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_two_cycles_are_orbits_with_the_multipliers_stated(momentum, nesterov):
    lam = np.array([2.0, 0.7, -1.1])
    method = fd.SAM(0.05, 0.4, momentum, nesterov=nesterov)
    for k in range(3):
        cycle = quadratic.two_cycle(method, lam, k)
        process = fd.Iteration(fd.landscapes.saddle(lam), method)
        theta = cycle.amplitude * np.eye(3)[k]
        if momentum == 0:
            run = fd.simulate(process, theta, 2)
            assert_allclose(run.theta, [theta, -theta, theta], atol=1e-14)
            found = np.sort(np.abs(fd.stability.multipliers(process, at=theta, period=2)))
            assert_allclose(found, np.sort(np.abs(cycle.multipliers)) ** 2, rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_two_cycles_with_momentum_in_plain_numbers(momentum, nesterov):
    """The step (θ, v) -> (θ⁺, v⁺) written out: it takes the cycle to its mirror image, with these multipliers."""
    lam, lr, rho = np.array([2.0, 0.7, -1.1]), 0.05, 0.4

    def moved(state):
        theta, v = state[:3], state[3:]
        g = lam * theta
        g = lam * (theta + rho * g / np.linalg.norm(g))
        v = momentum * v - lr * g
        return np.append(theta + (momentum * v - lr * g if nesterov else v), v)

    for k in range(3):
        cycle = quadratic.two_cycle(fd.SAM(lr, rho, momentum, nesterov=nesterov), lam, k)
        theta = cycle.amplitude * np.eye(3)[k]
        seen = lam * (theta + rho * np.sign(lam[k]) * np.eye(3)[k])  # ∇L there
        state = np.append(theta, lr * seen / (1 + momentum))  # v⁺ = −v
        assert_allclose(moved(state), -state, atol=1e-14)
        rows = np.eye(6) * 1e-7
        slopes = np.array([(moved(state + h) - moved(state - h)) / 2e-7 for h in rows]).T
        exact = np.poly(np.linalg.eigvals(slopes))  # coefficients, as double roots hold half the digits only
        assert_allclose(np.poly(cycle.multipliers), exact, rtol=1e-6)  # of the differences
        assert cycle.stable == (np.abs(np.linalg.eigvals(slopes)).max() < 1)


def test_period_two_stability_on_random_saddles_without_a_mismatch():
    # the closed condition (no momentum): ηa < 2 and 2(1/a − 1/b) < η < 2b/(a(a + b))
    rng = np.random.default_rng(0)
    a, b, lr = rng.uniform(0.3, 3, 3000), rng.uniform(0.3, 3, 3000), 10 ** rng.uniform(-3, 0.5, 3000)
    closed = (lr * a < 2) & (2 * (1 / a - 1 / b) < lr) & (lr < 2 * b / (a * (a + b)))
    ours = [
        h * x < 2 and quadratic.two_cycle(fd.SAM(h, 0.5), [x, -y], 0).stable for h, x, y in zip(lr, a, b, strict=True)
    ]
    assert list(closed) == ours
    assert 100 < sum(ours) < 2900


def test_period_two_outcomes_against_independent_simulation(reference):
    for row in reference["2_sam_quadratic"]["period2_positive_direction_at_saddle"]["examples"]:
        cycle = quadratic.two_cycle(fd.SAM(row["eta"], row["rho"]), [row["a"], -row["b"]], 0)
        assert_allclose(cycle.multipliers[1], row["m2"], rtol=1e-9)
        assert cycle.stable == (row["outcome"]["period2_e1"] == 40)


def test_momentum_amplitudes_against_independent_numbers(reference):
    for row in reference["2_sam_quadratic"]["heavy_ball"]["period2"]["cycles"]:
        cycle = quadratic.two_cycle(fd.SAM(row["eta"], row["rho"], row["beta"]), [row["lam"]], 0)
        assert_allclose(cycle.amplitude, row["A_period2"], rtol=1e-12)


def test_what_has_no_two_cycle_is_refused():
    with pytest.raises(ValueError, match="eps=0 and no mask"):
        quadratic.two_cycle(fd.SAM(0.1, 0.1, eps=0.1), [1.0], 0)
    with pytest.raises(ValueError, match="one of 0 to 0, got 1"):
        quadratic.two_cycle(fd.SAM(0.1, 0.1), [1.0], 1)
    with pytest.raises(ValueError, match="no two-cycle"):
        quadratic.two_cycle(fd.SAM(0.1, 0.1), [30.0], 0)
    with pytest.raises(ValueError, match="non-zero"):
        quadratic.two_cycle(fd.SAM(0.1, 0.1), [1.0, 0.0], 0)
    with pytest.raises(ValueError, match="a negative one"):
        quadratic.capture_bounds([0.1], 0.1, [1.0])
