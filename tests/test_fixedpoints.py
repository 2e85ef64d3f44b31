"""Fixed points and cycles: against independent lists, closed forms and maps whose orbits are known."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.fixedpoints import find

BEALE = fd.landscapes.beale()
FEW = {"starts": 32}  # an eighth of what is usual finds all that there is here


def test_beale_has_exactly_four_points_where_sam_stops_and_all_are_unstable(reference):
    expected = reference["6_critical_points"]["sam_noncritical_fixed_points"]["beale_rho0.5"]
    found = find(fd.Iteration(BEALE, fd.SAM(1e-3, 0.5)))
    assert found.complete
    points = [point for point in found if not point.is_critical]
    assert len(points) == len(expected) == 4
    for row in expected:
        point = min(points, key=lambda p: np.linalg.norm(p.theta - row["w"]))
        assert_allclose(point.theta, row["w"], atol=1e-10)
        assert_allclose(point.perturbed, row["perturbed_point"], atol=1e-10)
        assert point.kind != "stable"
        # the flow's eigenvalues ν give the map's multipliers 1 + ην
        flow = sorted(1 + 1e-3 * real for real, _ in row["flow_jac_eigs"])
        assert_allclose(sorted(point.multipliers.real), flow, rtol=1e-6)  # eigenvalues of 4e6 beside ones of 1
    assert [p.kind for p in found if p.is_critical] == ["singular"] * 3


@pytest.mark.parametrize("rho", [0.1, 1.0])
def test_four_at_other_radii_too(rho):
    found = find(fd.Iteration(BEALE, fd.SAM(1e-3, rho)), box=[(-6, 6)] * 2)
    assert sum(not p.is_critical for p in found) == 4
    assert not any(p.kind == "stable" for p in found)


def test_the_double_well_has_stable_ones_between_one_and_two(reference):
    rows = reference["6_critical_points"]["sam_noncritical_fixed_points"]["doublewell_1d"]
    well, lr = fd.landscapes.double_well(1), 0.05
    for rho in {row["rho"] for row in rows} | {2.1}:
        found = [p for p in find(fd.Iteration(well, fd.SAM(lr, rho)), box=[(-3, 3)]) if not p.is_critical]
        expected = [row for row in rows if row["rho"] == rho]
        assert len(found) == len(expected)
        for row in expected:
            point = min(found, key=lambda p: abs(p.theta[0] - row["w"]))
            assert_allclose(point.theta, [row["w"]], atol=1e-12)
            assert_allclose(point.perturbed, [row["p"]], atol=1e-12)
            assert_allclose(point.multipliers, [1 + lr * row["flow_jac"]], atol=1e-12)
            assert (point.kind == "stable") == row["stable"]


def test_the_double_well_in_the_plane(reference):
    table = reference["6_critical_points"]["sam_noncritical_fixed_points"]
    well = fd.landscapes.double_well(2)
    for rho, rows in ((0.5, table["doublewell_2d_rho0.5"]), (1.2, table["doublewell_2d_rho1.2"])):
        found = [p for p in find(fd.Iteration(well, fd.SAM(0.05, rho)), box=[(-3, 3)] * 2) if not p.is_critical]
        for row in rows:
            point = min(found, key=lambda p: np.linalg.norm(p.theta - row["w"]))
            assert_allclose(point.theta, row["w"], atol=1e-10)
            assert (point.kind == "stable") == row["stable_flow"]


def test_sam_settles_where_find_says_it_can():
    # the reference's simulation: ρ = 1.2, η = 0.05 from (−0.3, 0.4) ends at (−0.2, 0)
    process = fd.Iteration(fd.landscapes.double_well(2), fd.SAM(0.05, 1.2))
    run = fd.simulate(process, np.array([-0.3, 0.4]), 2000)
    stable = [p for p in find(process, box=[(-3, 3)] * 2) if p.kind == "stable"]
    assert min(np.linalg.norm(p.theta - run.final) for p in stable) < 1e-12


FURTHER = [pytest.param(rho, marks=pytest.mark.slow) for rho in (0.04, 0.05)]  # from the crossing, at 0.036


@pytest.mark.parametrize("rho", [0.03, 0.0355, 0.0365, *FURTHER])
def test_usam_on_beale_against_the_independent_branch(rho, reference):
    (row,) = (r for r in reference["1_usam"]["beale_saddle_01"]["transcritical_branch"]["rows"] if r["rho"] == rho)
    found = find(fd.Iteration(BEALE, fd.USAM(1e-3, rho)))
    assert found.complete
    point = min(found, key=lambda p: np.linalg.norm(p.theta - row["w"]))
    assert_allclose(point.theta, row["w"], atol=1e-8)
    assert not point.is_critical
    assert_allclose(sorted(point.multipliers.real), sorted(1 + 1e-3 * np.array(row["eigs_branch"])), atol=1e-6)
    assert point.kind == ("stable" if max(row["eigs_branch"]) < 0 else "saddle")


def test_usam_on_the_factorization_has_the_pitchforks_branches():
    process = fd.Iteration(fd.landscapes.factorization(), fd.USAM(0.05, 1.5))
    found = find(process)
    assert not found.complete
    assert "continua" in found.how
    u = np.sqrt(0.5 / 1.5)
    assert_allclose([p.theta for p in found], [[-u, -u], [0, 0], [u, u]], atol=1e-12)
    assert [p.kind for p in found] == ["saddle", "stable", "saddle"]


def test_gradient_descent_stops_at_critical_points_only():
    himmelblau = fd.landscapes.himmelblau()
    found = find(fd.Iteration(himmelblau, fd.GD(1e-3, momentum=0.9)))
    assert found.complete
    assert all(p.is_critical for p in found)
    assert [p.kind for p in found].count("stable") == 4
    assert all(len(p.multipliers) == 4 for p in found)
    inside = find(fd.Iteration(himmelblau, fd.GD(1e-3)), box=[(0, 5), (0, 5)])
    assert [np.round(p.theta, 2).tolist() for p in inside] == [[0.09, 2.88], [3.0, 2.0], [3.39, 0.07]]


def test_the_reduction_agrees_with_a_plain_search():
    # the same map without its structure
    process = fd.Iteration(BEALE, fd.USAM(1e-3, 0.032))
    step = fd.Map(lambda t: process.position(process.step(process.init(t))), dim=2)
    box = [(-1, 3.5), (-1, 2)]
    reduced, searched = find(process, box), find(step, box, **FEW)
    assert not searched.complete
    assert "not proven" in searched.how
    assert len(searched) == len(reduced)
    for a, b in zip(reduced, searched, strict=True):
        assert_allclose(a.theta, b.theta, atol=1e-8)
        assert a.kind == b.kind


# Hénon's map at a = 1.4, b = 0.3 has two fixed points and 1, 0, 1, 0, 2 cycles of period 2 to 6
# (Biham and Wenzel, Phys. Rev. Lett. 63 (1989) 819).
HENON = fd.Map(lambda t: jnp.array([1 - 1.4 * t[0] ** 2 + t[1], 0.3 * t[0]]), dim=2)


@pytest.mark.parametrize(("period", "number"), [(1, 2), (2, 1), (3, 0), (4, 1), (5, 0), (6, 2)])
def test_henons_cycles_are_all_found(period, number):
    found = find(HENON, [(-2, 2)] * 2, period=period, **FEW)
    assert len(found) == number
    for cycle in found:
        assert cycle.period == period
        assert cycle.orbit.shape == (period, 2)
        assert_allclose(abs(np.prod(cycle.multipliers)), 0.3**period, rtol=1e-6)  # the determinant is −b each step
        assert cycle.is_critical is None


def test_what_did_not_converge_is_listed():
    found = find(HENON, [(-2, 2)] * 2, period=3, **FEW)
    assert len(found.unconverged) > 0
    assert found.unconverged.shape[1] == 2
    assert f"{len(found.unconverged)} of the starts did not converge" in found.how


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sams_two_cycle_on_a_saddle_is_the_closed_form(momentum):
    method = fd.SAM(0.01, 0.5, momentum)
    found = find(fd.Iteration(fd.landscapes.saddle(), method), box=[(-0.1, 0.1)] * 2, period=2, **FEW)
    for k in (0, 1):
        exact = fd.quadratic.two_cycle(method, [2.0, -2.0], k)
        cycle = min(found, key=lambda p, k=k: abs(abs(p.theta[k]) - exact.amplitude) + abs(p.theta[1 - k]))
        assert_allclose(np.abs(cycle.theta[k]), exact.amplitude, rtol=1e-9)
        assert (cycle.kind == "stable") == exact.stable
        squared = np.sort(np.abs(exact.multipliers) ** 2)
        assert_allclose(np.sort(np.abs(cycle.multipliers)), squared, rtol=1e-8)


def test_small_two_cycles_of_sam_are_found_in_a_wide_box_and_smoothed_sam_is_searched():
    wide = [(-50.0, 50.0)] * 2
    method = fd.SAM(0.01, 0.5)
    found = find(fd.Iteration(fd.landscapes.saddle(), method), box=wide, period=2, starts=4)
    for k in (0, 1):  # of amplitude 0.005, which no start hits
        exact = fd.quadratic.two_cycle(method, [2.0, -2.0], k).amplitude * np.eye(2)[k]
        assert min(np.abs(np.abs(cycle.theta) - exact).max() for cycle in found) < 1e-9
    assert (
        len(find(fd.Iteration(fd.landscapes.saddle(), fd.SAM(0.01, 0.5, eps=1.0)), box=wide, period=2, starts=4)) == 0
    )


def test_optax_optimisers_are_searched():
    process = fd.Iteration(fd.landscapes.double_well(1), fd.from_optax(optax.sgd(0.1, momentum=0.9)))
    found = find(process, box=[(-2, 2)], **FEW)
    assert_allclose([p.theta[0] for p in found], [-1, 0, 1], atol=1e-8)
    assert [p.kind for p in found] == ["stable", "saddle", "stable"]


def test_points_where_steps_follow_no_derivative_are_singular():
    """Adam's derivative at a minimum is 10⁸ within its ε, where no run gets; its sign of −lr λ/ε makes it no saddle."""
    well = fd.landscapes.double_well(1)
    found = find(fd.Iteration(well, fd.from_optax(optax.adam(0.1))), box=[(-2, 2)], starts=8)
    assert found
    for point in found:
        assert point.kind == "singular"
        assert np.isnan(point.multipliers).all()
    branch = fd.fixedpoints.continue_in(
        lambda lr: fd.Iteration(well, fd.from_optax(optax.rmsprop(lr))), "lr", [0.1, 0.2], [1.0]
    )
    assert set(branch.kinds) == {"singular"}
    assert not branch.stable.any()


def test_sam_in_three_dimensions_is_searched_on_the_sphere():
    process = fd.Iteration(fd.landscapes.saddle((3.0, 1.0, -0.5)), fd.SAM(0.01, 0.3))
    found = find(process, box=[(-1, 1)] * 3)
    assert not found.complete
    others = [p.theta for p in found if not p.is_critical]
    assert_allclose(others, [[0, 0, -0.3], [0, 0, 0.3]], atol=1e-10)


def test_bad_input_is_refused():
    process = fd.Iteration(BEALE, fd.SAM(1e-3, 0.5))
    with pytest.raises(ValueError, match="period must be a whole number >= 1, got 0"):
        find(process, period=0)
    with pytest.raises(ValueError, match=r"period must be a whole number, got 1.5"):
        find(process, period=1.5)
    with pytest.raises(ValueError, match="finite lower < upper"):
        find(process, box=[(-np.inf, np.inf)] * 2)
    with pytest.raises(ValueError, match="give box"):
        find(HENON)
    with pytest.raises(ValueError, match="random process"):
        find(fd.Iteration(BEALE, fd.GD(1e-3), fd.noise.Gaussian(1.0)))
    with pytest.raises(ValueError, match=r"numbers for the parameters b"):
        find(fd.Iteration(fd.landscapes.rosenbrock(b=sympy.Symbol("b")), fd.GD(1e-3)))
