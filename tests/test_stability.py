"""Symbolic maps and Jacobians, multipliers of any process, and what has no Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd

L = fd.landscapes.beale()
eta, rho, mu, eps = sympy.symbols("eta rho mu epsilon", positive=True)


def test_usam_at_a_critical_point_is_one_minus_eta_h_one_plus_rho_h():
    x, y = L.symbols
    H = sympy.hessian(L.expression, (x, y)).subs({x: 0, y: 1})
    assert fd.stability.jacobian(fd.USAM(eta, rho), L, at=(0, 1)) == sympy.eye(2) - eta * H * (sympy.eye(2) + rho * H)


def test_smoothed_sam_is_usam_with_radius_rho_over_eps():
    smoothed = fd.stability.jacobian(fd.SAM(eta, rho, eps=eps), L, at=(0, 1))
    usam = fd.stability.jacobian(fd.USAM(eta, rho / eps), L, at=(0, 1))
    assert sympy.simplify(smoothed - usam) == sympy.zeros(2)


def test_heavy_ball_jacobian_has_position_and_velocity():
    J = fd.stability.jacobian(fd.USAM(eta, rho, momentum=mu), fd.landscapes.saddle((sympy.Symbol("c"),)), at=(0,))
    c = sympy.Symbol("c")
    s = sympy.expand(eta * c * (1 + rho * c))
    assert sympy.simplify(J - sympy.Matrix([[1 - s, mu], [-s, mu]])) == sympy.zeros(2)
    assert [str(v) for v in fd.stability.state_symbols(fd.GD(eta, momentum=mu), L)] == ["x", "y", "v_x", "v_y"]
    assert fd.stability.update_map(fd.GD(eta), L).shape == (2, 1)


def test_multipliers_at_beales_saddle_against_independent_eigenvalues(reference):
    for row in reference["1_usam"]["momentum_eigenvalues_at_beale_saddle"]["rows"]:
        if row["landscape"] != "beale":
            continue
        nesterov = row["method"] != "heavy_ball"
        method = fd.USAM(row["eta"], row["rho"], momentum=row["beta"], nesterov=nesterov)
        found = fd.stability.multipliers(method, L, at=row["point"])
        expected = np.array([complex(*pair) for pair in row["eigs"]])
        expected = expected[np.argsort(-abs(expected))][: len(found)]  # without momentum there is no velocity
        for value in expected:
            assert np.abs(found - value).min() < 1e-7  # a double eigenvalue loses half its digits


def test_numeric_and_symbolic_jacobians_agree_at_a_point():
    for method in (fd.SAM(0.01, 0.3, momentum=0.9), fd.USAM(0.001, 0.02), fd.GD(0.1, 0.5, nesterov=True)):
        symbolic = np.array(fd.stability.jacobian(method, L, at=(0.3, 1.2)), dtype=float)
        assert_allclose(fd.stability.numeric_jacobian(method, L, at=(0.3, 1.2)), symbolic, rtol=1e-10, atol=1e-10)


def test_multipliers_of_any_process():
    adam = fd.Iteration(L, fd.from_optax(optax.sgd(0.01, momentum=0.9)))
    ours = fd.stability.multipliers(fd.GD(0.01, momentum=0.9), L, at=(3.0, 0.5))
    assert_allclose(np.abs(fd.stability.multipliers(adam, at=(3.0, 0.5))), np.abs(ours), rtol=1e-9)
    newton = fd.Map(lambda t: t - jnp.linalg.solve(L.hessian(t), L.grad(t)), dim=2)
    assert_allclose(fd.stability.multipliers(newton, at=(3.0, 0.5)), 0, atol=1e-12)
    quartic = fd.Landscape.from_function(lambda t: jnp.sum(t**2) + jnp.sum(t**4), 3)
    assert_allclose(fd.stability.multipliers(fd.GD(0.1), quartic, at=np.zeros(3)), 0.8, rtol=1e-14)


HIMMELBLAU = fd.landscapes.himmelblau()
MINIMUM = (3.0, 2.0)


@pytest.mark.parametrize(
    "optimiser",
    [optax.adam(1e-3), optax.lion(1e-3), optax.contrib.muon(1e-3), optax.rmsprop(1e-2), optax.sign_sgd(0.1)],
    ids=["adam", "lion", "muon", "rmsprop", "sign"],
)
def test_where_no_finite_step_follows_the_derivative_a_point_is_singular(optimiser):
    """Himmelblau's minimum (3, 2) in exact numbers, and another one in rounded ones."""
    for at in (MINIMUM, (-3.7793102533777469, -3.2831859912861694)):
        with pytest.raises(ValueError, match=r"no Jacobian at .* \(singular\).*ask simulate or map_basins"):
            fd.stability.multipliers(fd.from_optax(optimiser), HIMMELBLAU, at=at)


def test_multipliers_of_smooth_optimisers_are_those_of_their_recursions():
    """At a minimum with curvature λ; v of RMSprop and Adam forgets at its own rate and moves nothing to first order."""
    lam = np.linalg.eigvalsh(HIMMELBLAU.hessian(jnp.array(MINIMUM)))
    lr, mu = 0.01, 0.9

    def pairs(*matrices):
        return np.concatenate([np.linalg.eigvals(np.array(m)) for m in matrices])

    heavy = pairs(*[[[1 - lr * c, -lr * mu], [c, mu]] for c in lam])
    nesterov = pairs(*[[[1 - lr * (1 + mu) * c, -lr * mu**2], [c, mu]] for c in lam])
    # long after the start, when the bias correction is over; ε = 1 divides by 1 at g = 0
    adam = pairs(*[[[1 - lr * (1 - mu) * c, -lr * mu], [(1 - mu) * c, mu]] for c in lam])
    cases = [
        (optax.sgd(lr), 1 - lr * lam),
        (optax.sgd(lr, momentum=mu), heavy),
        (optax.sgd(lr, momentum=mu, nesterov=True), nesterov),
        (optax.rmsprop(lr, decay=0.8, eps=1.0), [*(1 - lr * lam), 0.8, 0.8]),
        (optax.rmsprop(lr, decay=0.8, eps=1.0, eps_in_sqrt=False), [*(1 - lr * lam), 0.8, 0.8]),
        (optax.adam(lr, b1=mu, b2=0.99, eps=1.0), [*adam, 0.99, 0.99]),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(lr)), 1 - lr * lam),
    ]
    for optimiser, expected in cases:
        found = fd.stability.multipliers(fd.from_optax(optimiser), HIMMELBLAU, at=MINIMUM)
        # where √v has no derivative at v = 0 the limit of differences over 1e-3, 1e-4, 1e-5 of the state stands in
        assert_allclose(np.sort_complex(found), np.sort_complex(np.asarray(expected, complex)), atol=1e-5)


def test_kinks_and_jumps_of_losses_and_maps_are_singular_and_stiff_smooth_ones_are_not():
    kinked = fd.Landscape.from_function(lambda t: jnp.abs(t[0]) + t[1] ** 2, 2)
    for method in (fd.GD(0.1, momentum=0.5), fd.SAM(0.1, 0.1, eps=0.1)):
        with pytest.raises(ValueError, match="no Jacobian"):
            fd.stability.multipliers(method, kinked, at=(0.0, 0.0))
        assert np.isfinite(fd.stability.multipliers(method, kinked, at=(0.5, 0.0))).all()
    relu = fd.Map(lambda t: t - 0.1 * jnp.maximum(t, 0), dim=1)
    with pytest.raises(ValueError, match=r"Map has no Jacobian at \[0.0\]"):
        fd.stability.multipliers(relu, at=[0.0])
    # the ε of a norm is a parameter of the model, however small: the formula of the smoothed step holds within it
    lam = np.linalg.eigvalsh(HIMMELBLAU.hessian(jnp.array(MINIMUM)))
    for eps in (1e-6, 0.1):
        found = fd.stability.multipliers(fd.SAM(1e-3 * eps, 0.1, eps=eps), HIMMELBLAU, at=MINIMUM)
        expected = 1 - 1e-3 * eps * lam * (1 + 0.1 * lam / eps)
        assert_allclose(np.sort(found.real), np.sort(expected), rtol=1e-9)
    steep = fd.Map(lambda t: jnp.tanh(30 * t) / 40, dim=1)
    assert_allclose(fd.stability.multipliers(steep, at=[0.0]), 0.75, rtol=1e-12)


def test_landscape_parameters_may_stay_symbols():
    b = sympy.Symbol("b", positive=True)
    J = fd.stability.jacobian(fd.GD(eta), fd.landscapes.rosenbrock(b=b), at=(1, 1))
    assert sympy.simplify(J[1, 1] - (1 - 2 * b * eta)) == 0


@pytest.mark.parametrize(
    "process",
    [
        fd.Iteration(L, fd.GD(0.05, momentum=0.8)),
        fd.Map(lambda t: jnp.array([1 - 1.4 * t[0] ** 2 + t[1], 0.3 * t[0] * jnp.cos(t[1])]), dim=2),
    ],
    ids=["heavy ball on Beale", "map"],
)
def test_the_jacobian_over_three_steps_is_that_of_the_steps_one_after_the_other(process):
    """The factors do not commute: in the wrong order they have another product, and other eigenvalues."""

    def thrice(theta):
        state = process.init(theta)
        for _ in range(3):
            state = process.step(state)
        return process.position(state)

    at = np.array([0.4, 0.7])
    found = fd.stability.numeric_jacobian(process, at=at, period=3)
    exact = np.asarray(jax.jacfwd(thrice)(jnp.asarray(at)))
    assert_allclose(found[:2, :2], exact, rtol=1e-12, atol=1e-13)  # from rest, the first rows and columns of a state
    # and it is not the product the other way round
    states = [process.init(jnp.asarray(at))]
    for _ in range(2):
        states.append(process.step(states[-1]))
    rows = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state)]) for state in states]
    single = [fd.stability.numeric_jacobian(process, at=row) for row in rows]
    assert_allclose(found, single[2] @ single[1] @ single[0], rtol=1e-12, atol=1e-13)
    assert np.abs(found - single[0] @ single[1] @ single[2]).max() > 1e-2


@pytest.mark.parametrize("point", [p.theta for p in L.critical_points()], ids=str)
def test_sam_has_no_jacobian_at_critical_points_and_says_what_to_ask(point):
    # the coordinates are rounded to double precision, so the gradient is tiny but not zero
    for ask in (
        lambda: fd.stability.jacobian(fd.SAM(eta, rho), L, at=point),
        lambda: fd.stability.multipliers(fd.SAM(0.01, 0.1), L, at=point),
        lambda: fd.stability.multipliers(fd.Iteration(L, fd.SAM(0.01, 0.1, momentum=0.9)), at=point),
    ):
        with pytest.raises(ValueError, match=r"no Jacobian.*eps > 0, use USAM, or ask flatdyn.quadratic"):
            ask()


def test_a_region_is_asked_of_plain_truths_too():
    lr, rho = sympy.symbols("lr rho", positive=True)
    assert fd.stability.region(False, {}) == False  # noqa: E712
    assert_array_equal(fd.stability.region(sympy.true, {lr: [0.1, 0.2]}), [True, True])
    assert_array_equal(fd.stability.region(lr < rho, {lr: [0.1, 0.2], rho: 0.15}), [True, False])
    with pytest.raises(ValueError, match=r"grids must have shapes that fit each other, got \(2,\), \(3,\)"):
        fd.stability.region(lr < rho, {lr: [0.1, 0.2], rho: [1, 2, 3]})


def test_symbolic_questions_that_have_no_answer_are_refused():
    function = fd.Landscape.from_function(lambda t: t @ t, 2)
    with pytest.raises(TypeError, match=r"has no expression.*multipliers"):
        fd.stability.jacobian(fd.GD(0.1), function)
    with pytest.raises(TypeError, match="no symbolic step"):
        fd.stability.update_map(fd.from_optax(optax.adam(0.1)), L)
    with pytest.raises(ValueError, match="2 coordinates of the landscape, or the 4 numbers of the full state, got 3"):
        fd.stability.jacobian(fd.GD(0.1, momentum=0.9), L, at=(0, 1, 2))
    with pytest.raises(
        ValueError, match=r"shape \(2,\), a position of the landscape, or \(2,\), the full state, got \(3,\)"
    ):
        fd.stability.multipliers(fd.GD(0.1), L, at=(0, 1, 2))
    with pytest.raises(ValueError, match="give the landscape"):
        fd.stability.multipliers(fd.GD(0.1), at=(0, 1))
    with pytest.raises(ValueError, match="random map"):
        fd.stability.multipliers(fd.Iteration(L, fd.GD(0.1), fd.noise.Gaussian(1.0)), at=(0, 1))
