"""Branches and bifurcations, against exact ones."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.fixedpoints import Branch, continue_in, curve_in, find

BEALE, UV = fd.landscapes.beale(), fd.landscapes.factorization()


def usam_on_beale(rho, lr=1e-3):
    return fd.Iteration(BEALE, fd.USAM(lr, rho))


def usam_on_uv(rho):
    return fd.Iteration(UV, fd.USAM(0.05, rho))


@pytest.fixture(scope="module")
def trivial():
    return continue_in(usam_on_beale, "rho", (0.02, 0.05), (0.0, 1.0))


@pytest.fixture(scope="module")
def crossing(trivial):
    return continue_in(usam_on_beale, "rho", (0.02, 0.05), trivial.bifurcations[0])


def test_beales_saddle_becomes_an_attractor_by_a_transcritical_bifurcation(trivial):
    (point,) = trivial.bifurcations
    assert point.kind == "transcritical"
    assert_allclose(point.parameter, 1 / 27.75, atol=1e-8)
    assert_allclose(trivial.theta, np.tile([0.0, 1.0], (len(trivial.theta), 1)), atol=1e-12)
    assert (trivial.stable == (trivial.parameter > 1 / 27.75)).all()


def test_the_crossing_branch_folds_where_independent_continuation_says(crossing, reference):
    fold = next(b for b in crossing.bifurcations if b.kind == "fold")
    expected = reference["1_usam"]["beale_saddle_01"]["branch_fold"]
    assert_allclose(fold.parameter, expected["rho"], atol=1e-6)
    assert_allclose(fold.theta, expected["w"], atol=1e-3)  # the reference gives ±1e-5 in ρ, so √1e-5 along the branch
    assert_allclose(fold.multipliers[0], 1, atol=1e-9)


def test_the_crossing_branch_holds_the_independent_points(crossing, reference):
    for row in reference["1_usam"]["beale_saddle_01"]["transcritical_branch"]["rows"]:
        # the branch's own points are exact, `at` interpolates between them over at most 0.02
        distances = [np.linalg.norm(theta - row["w"]) for theta in crossing.at(row["rho"])]
        assert min(distances) < 1e-3


def test_a_stable_point_that_is_not_critical_between_fold_and_crossing(crossing):
    between = (crossing.parameter > 0.0298) & (crossing.parameter < 0.036) & crossing.stable
    assert between.sum() > 5
    theta = crossing.theta[between]
    assert (np.linalg.norm(BEALE.grad(theta), axis=1) > 0.01).all()


def test_every_point_of_a_branch_is_a_fixed_point(crossing):
    for theta, rho in zip(crossing.theta[::7], crossing.parameter[::7], strict=True):
        process = usam_on_beale(float(rho))
        moved = process.position(process.step(process.init(jnp.asarray(theta))))
        assert_allclose(moved, theta, atol=1e-13)


def test_the_subcritical_pitchfork_of_the_smallest_linear_network(monkeypatch):
    trivial = continue_in(usam_on_uv, "rho", (0.5, 3.0), (0.0, 0.0))
    (point,) = trivial.bifurcations
    assert point.kind == "pitchfork"
    assert_allclose(point.parameter, 1, atol=1e-8)
    branch = continue_in(usam_on_uv, "rho", (0.5, 3.0), point)
    exact = np.sqrt((branch.parameter - 1).clip(0) / branch.parameter)
    side = np.sign(branch.theta[:, 0])
    assert_allclose(branch.theta, np.outer(side * exact, [1, 1]), atol=1e-10)
    assert not branch.stable.any()
    assert set(side) >= {-1.0, 1.0}  # both arms
    assert branch.bifurcations == []
    # another machine's linear algebra may give every vector with the other sign
    svd = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda a: (-svd(a)[0], svd(a)[1], -svd(a)[2]))
    assert_allclose(continue_in(usam_on_uv, "rho", (0.5, 3.0), point).theta, branch.theta, atol=1e-10)


def test_flips_of_the_logistic_map():
    def logistic(r):
        return fd.Map(lambda t: r * t * (1 - t), dim=1)

    (first,) = continue_in(logistic, "r", (2.0, 4.0), [0.5]).bifurcations
    assert first.kind == "flip"
    assert_allclose(first.parameter, 3, atol=1e-8)
    (cycle,) = find(logistic(3.2), [(0, 1)], period=2)
    (second,) = continue_in(logistic, "r", (3.2, 3.9), cycle).bifurcations
    assert second.kind == "flip"
    assert_allclose(second.parameter, 1 + np.sqrt(6), atol=1e-8)
    assert second.period == 2
    assert_allclose(second.multipliers, [-1], atol=1e-8)


def test_branches_cross_in_one_coordinate_and_in_four():
    """x⁺ = r x (1 − x) at r = 1, by the branch x = 1 − 1/r; and USAM's crossing on Beale with velocities as well."""
    (point,) = continue_in(lambda r: fd.Map(lambda t: r * t * (1 - t), dim=1), "r", (0.5, 1.7), [0.0]).bifurcations
    assert point.kind == "transcritical"
    assert_allclose([point.parameter, *point.multipliers], [1, 1], atol=1e-8)
    branch = continue_in(lambda r: fd.Map(lambda t: r * t * (1 - t), dim=1), "r", (0.5, 1.7), point)
    assert_allclose(branch.theta[:, 0], 1 - 1 / branch.parameter, atol=1e-12)
    assert_allclose(np.sort(branch.parameter[[0, -1]]), [0.5, 1.7], atol=1e-12)
    assert (branch.kinds == np.where(branch.parameter > 1, "stable", "repelling"))[
        np.abs(branch.theta[:, 0]) > 1e-6
    ].all()
    (at,) = branch.at(1.3)
    for far in (1e200, -1e200, 5e-324):  # squares of the distances overflow, and would vanish
        assert branch.at(far) == []
    assert_allclose(at, 1 - 1 / 1.3, atol=1e-4)  # a chord of 0.02 is off by 0.02² x''/8
    ranges = ((0.5, 1.7), (-0.1, 0.1))
    with pytest.raises(ValueError, match="transcritical point moves with r and shift: it cannot be followed"):
        curve_in(
            lambda r, s: fd.Map(lambda t: r * (t - s) * (1 - t + s) + s, dim=1), ("r", "shift"), ranges, point, 0.0
        )
    moving = continue_in(lambda rho: fd.Iteration(BEALE, fd.USAM(1e-3, rho, 0.5)), "rho", (0.034, 0.038), (0.0, 1.0))
    (point,) = moving.bifurcations
    assert (point.kind, point.state.shape) == ("transcritical", (4,))
    assert_allclose(point.parameter, 1 / 27.75, atol=1e-8)  # momentum does not move it
    assert_allclose(point.state, [0, 1, 0, 0], atol=1e-8)


def test_a_branch_ends_where_it_is_told_to():
    def ask(**options):
        return continue_in(lambda r: fd.Map(lambda t: r * t * (1 - t), dim=1), "r", (2.0, 2.9), [0.5], **options)

    whole, boxed, few = ask(), ask(box=[(0.0, 0.6)]), ask(most=5)
    assert_allclose(whole.parameter[[0, -1]], [2, 2.9], atol=1e-12)
    assert (boxed.theta[:-1, 0] <= 0.6).all()
    assert 0.6 < boxed.theta[-1, 0] < 0.62  # the first point beyond, at most a step of 0.02 away
    assert len(few.theta) == 5
    assert_allclose(few.theta, whole.theta[:5], rtol=1e-12)
    assert len(ask(scale=10.0).theta) < len(whole.theta)  # θ counts for a tenth in the length of a step


def test_the_neimark_sacker_point_of_the_delayed_logistic_map():
    def delayed(r):
        return fd.Map(lambda t: jnp.array([r * t[0] * (1 - t[1]), t[0]]), dim=2)

    (point,) = continue_in(delayed, "r", (1.5, 2.5), [1 / 3, 1 / 3]).bifurcations
    assert point.kind == "neimark-sacker"
    assert_allclose(point.parameter, 2, atol=1e-8)
    assert_allclose(point.theta, [0.5, 0.5], atol=1e-8)
    assert_allclose(np.abs(point.multipliers), 1, atol=1e-8)


def test_the_step_size_at_which_gradient_descent_with_momentum_flips():
    def descent(lr):
        return fd.Iteration(BEALE, fd.GD(lr, momentum=0.9))

    (point,) = continue_in(descent, "lr", (0.01, 0.1), (3.0, 0.5)).bifurcations
    top = BEALE.critical_points()[0].eigenvalues[-1]
    assert point.kind == "flip"
    assert_allclose(point.parameter, 2 * 1.9 / top, atol=1e-8)
    assert point.state.shape == (4,)


def test_a_landscapes_parameter_can_be_followed():
    def descent(b):
        return fd.Iteration(fd.landscapes.rosenbrock(b=b), fd.GD(1e-3))

    branch = continue_in(descent, "b", (50.0, 600.0), (1.0, 1.0))
    assert [b.kind for b in branch.bifurcations] == ["flip"]
    top = np.linalg.eigvalsh(fd.landscapes.rosenbrock(b=branch.bifurcations[0].parameter).hessian([1.0, 1.0]))[-1]
    assert_allclose(top, 2 / 1e-3, rtol=1e-8)


def test_sams_stable_point_of_the_double_well_is_followed_to_its_end():
    def sam(rho):
        return fd.Iteration(fd.landscapes.double_well(1), fd.SAM(0.05, rho))

    branch = continue_in(sam, "rho", (1.9, 1.01), [0.9])
    assert branch.stable.all()
    assert_allclose(branch.theta[:, 0], branch.parameter - 1, atol=1e-12)
    assert_allclose(branch.parameter[-1], 1.01, atol=1e-12)


def test_curves_of_bifurcations_in_two_parameters(trivial, crossing):
    def make(rho, lr):
        return usam_on_beale(rho, lr)

    ranges = ((0.02, 0.06), (1e-4, 2e-2))
    # neither threshold depends on the step size
    for point in (trivial.bifurcations[0], next(b for b in crossing.bifurcations if b.kind == "fold")):
        curve = curve_in(make, ("rho", "lr"), ranges, point, 1e-3)
        assert_allclose(curve.parameters[:, 0], point.parameter, atol=1e-8)
        assert_allclose(np.sort(curve.parameters[[0, -1], 1]), ranges[1], atol=1e-12)


def test_the_flip_curve_of_the_heavy_ball_is_the_jury_limit():
    top = BEALE.critical_points()[0].eigenvalues[-1]

    def make(lr, momentum):
        return fd.Iteration(BEALE, fd.GD(lr, momentum=momentum))

    branch = continue_in(lambda lr: make(lr, 0.5), "lr", (0.02, 0.1), (3.0, 0.5))
    curve = curve_in(make, ("lr", "momentum"), ((0.01, 0.1), (0.05, 0.95)), branch.bifurcations[0], 0.5)
    lr, momentum = curve.parameters.T
    assert_allclose(lr, 2 * (1 + momentum) / top, rtol=1e-8)
    assert momentum.max() - momentum.min() > 0.85


def test_a_branch_survives_the_disk(crossing, tmp_path):
    back = Branch.load(crossing.save(tmp_path / "branch.npz"))
    np.testing.assert_array_equal(back.theta, crossing.theta)
    assert [repr(b) for b in back.bifurcations] == [repr(b) for b in crossing.bifurcations]
    (cross,) = [b for b in back.bifurcations if b.kind == "transcritical"]
    again = continue_in(usam_on_beale, "rho", (0.02, 0.05), cross)  # and can be taken up again
    assert "fold" not in [b.kind for b in again.bifurcations]


BAD = [
    (lambda: continue_in(usam_on_beale, "rho", (0.02, 0.02), (0.0, 1.0)), "range of rho"),
    (lambda: continue_in(usam_on_beale, "rho", (0.02, np.nan), (0.0, 1.0)), "values must be finite"),
    (lambda: continue_in(usam_on_beale, "rho", (0.02, 0.05), (0.0, 1.0, 2.0)), r"shape \(2,\).*got \(3,\)"),
    (lambda: continue_in(usam_on_beale, "rho", (0.02, 0.05), (1.3, -0.2)), "no orbit of period 1 found near"),
    (lambda: continue_in(usam_on_beale, "rho", (0.02, 0.05), (0.0, 1.0), period=0), "period must be"),
    (
        lambda: continue_in(lambda rho: fd.Iteration(BEALE, fd.SAM(1e-3, rho)), "rho", (0.1, 0.5), (0.0, 1.0)),
        "no derivative at .*eps > 0",
    ),
    (
        lambda: continue_in(
            lambda rho: fd.Iteration(BEALE, fd.GD(rho), fd.noise.Gaussian(1.0)), "lr", (0.1, 0.5), (0.0, 1.0)
        ),
        "random process",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_fold_has_no_crossing_branch(crossing):
    fold = next(b for b in crossing.bifurcations if b.kind == "fold")
    with pytest.raises(ValueError, match="not at a fold"):
        continue_in(usam_on_beale, "rho", (0.02, 0.05), fold)
    with pytest.raises(ValueError, match="outside the ranges"):
        curve_in(usam_on_beale, ("rho", "lr"), ((0.04, 0.06), (1e-4, 1e-2)), fold, 1e-3)
