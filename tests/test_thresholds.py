"""Jury conditions, thresholds and the edge of stability, against eigenvalues and the literature."""

import dataclasses

import numpy as np
import optax
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import stability

eta, rho, mu, eps = sympy.symbols("eta rho mu epsilon", positive=True)
lam = sympy.Symbol("lambda", real=True)

METHODS = {
    "GD": fd.GD(eta),
    "heavy ball": fd.GD(eta, mu),
    "Nesterov": fd.GD(eta, mu, nesterov=True),
    "USAM": fd.USAM(eta, rho),
    "USAM heavy ball": fd.USAM(eta, rho, mu),
    "USAM Nesterov": fd.USAM(eta, rho, mu, nesterov=True),
    "SAM smoothed": fd.SAM(eta, rho, eps=eps),
    "SAM smoothed heavy ball": fd.SAM(eta, rho, mu, eps=eps),
}


@pytest.mark.parametrize("name", METHODS)
def test_conditions_are_the_eigenvalues_of_the_map_without_a_mismatch(name):
    method, rng, number = METHODS[name], np.random.default_rng(0), 20_000
    grids = {
        eta: 10 ** rng.uniform(-3, 1, number),
        rho: 10 ** rng.uniform(-2, 1, number),
        mu: rng.uniform(0, 1, number),
        eps: 10 ** rng.uniform(-2, 1, number),
        lam: rng.choice([-1, 1], number) * 10 ** rng.uniform(-2, 2, number),
    }
    predicted = stability.region(stability.conditions(method, lam), grids)
    jacobian = stability.jacobian(method, fd.landscapes.saddle((lam,)), at=(0,))
    entries = sympy.lambdify(list(grids), jacobian.tolist(), "numpy")(*grids.values())
    size = len(entries)
    matrices = np.array([[np.broadcast_to(e, number) for e in row] for row in entries]).transpose(2, 0, 1)
    radius = np.abs(np.linalg.eigvals(matrices.reshape(number, size, size))).max(axis=1)
    clear = np.abs(radius - 1) > 1e-9  # on the boundary rounding decides
    assert (predicted == (radius < 1))[clear].all()
    assert clear.mean() > 0.999
    assert 0.01 < predicted.mean() < 0.99


def test_conditions_print_in_the_fields_terms():
    s = sympy.factor(eta * lam * (1 + rho * lam))
    expected = sympy.And(s > 0, s < 2 * mu + 2)
    assert stability.conditions(fd.USAM(eta, rho, mu), lam) == expected
    assert r"\eta" in sympy.latex(stability.conditions(fd.GD(eta, mu), lam))


def test_numbers_give_an_answer():
    assert stability.conditions(fd.USAM(1e-3, 0.05, 0.9), -27.75) == True  # noqa: E712
    assert stability.conditions(fd.USAM(1e-3, 0.03, 0.9), -27.75) == False  # noqa: E712
    assert bool(stability.conditions(fd.GD(np.float64(0.1)), np.float64(19.0)))
    assert not bool(stability.conditions(fd.GD(0.1), 21.0))


def test_the_limits_of_the_table():
    def limit(method):
        (value,) = stability.threshold(method, 1, "lr").at_minus_one
        return sympy.simplify(value)

    assert limit(fd.GD(eta)) == 2
    assert sympy.simplify(limit(fd.GD(eta, mu)) - 2 * (1 + mu)) == 0
    assert sympy.simplify(limit(fd.GD(eta, mu, nesterov=True)) - 2 * (1 + mu) / (1 + 2 * mu)) == 0


def test_beales_threshold_and_that_momentum_does_not_move_it():
    curvature = sympy.Rational(-111, 4)
    for method in (fd.USAM(eta, rho), fd.USAM(eta, rho, mu), fd.USAM(eta, rho, mu, nesterov=True)):
        assert stability.threshold(method, curvature, "rho").at_plus_one == [sympy.Rational(4, 111)]
    assert stability.threshold(fd.SAM(eta, rho, eps=eps), curvature, "rho").at_plus_one == [4 * eps / 111]
    assert stability.threshold(fd.USAM(0.1, 0.3, 0.9), 4.0, "momentum").at_plus_one == []


def test_momentum_threshold_of_a_large_step():
    # s = ηλ = 2.5 attracts if 2.5 < 2 (1 + μ): μ > 1/4
    (value,) = stability.threshold(fd.GD(0.1, mu), 25.0, "momentum").at_minus_one
    assert_allclose(float(value), 0.25)
    assert stability.threshold(fd.GD(0.1, mu), 50.0, "momentum").at_minus_one == []  # μ = 1.5 is out of range


def test_edges_against_independent_numbers(reference):
    for row in reference["8_edge_of_stability"]["sam_edge"]:
        edge = stability.edge(fd.SAM(row["eta"], row["rho"]), row["grad_norm"])
        assert_allclose(edge, row["threshold"], rtol=1e-13)
        assert_allclose(stability.edge(fd.GD(row["eta"])), row["gd_threshold"])
    for row in reference["8_edge_of_stability"]["usam_edge"]:
        assert_allclose(stability.edge(fd.USAM(row["eta"], row["rho"])), row["lam_max"], rtol=1e-13)


def test_the_edge_is_where_one_step_reflects_the_gradient():
    for momentum in (0.0, 0.6):
        method = fd.SAM(0.05, 0.1, momentum)
        edge = stability.edge(method, 1.0)
        at_edge = fd.USAM(0.05, 0.1 / 1.0, momentum)  # ρ/‖g‖
        radius = max(abs(fd.stability.multipliers(at_edge, fd.landscapes.saddle((edge,)), at=(0.0,))))
        assert_allclose(radius, 1, rtol=1e-9)
    symbol = sympy.Symbol("g", positive=True)
    assert stability.edge(fd.SAM(eta, rho), symbol).free_symbols == {eta, rho, symbol}
    assert_allclose(stability.edge(fd.SAM(0.1, 0.0), 1.0), 20)


def test_the_edge_of_a_smoothed_step_has_the_norm_plus_epsilon():
    """λ* solves η λ (1 + ρ λ/n) = c with n = ‖g‖ + ε, where SAM's step of length ρ ‖g‖/n is USAM's with radius ρ/n."""
    for norm, smooth in ((0.3, 0.2), (1.0, 1e-3), (1e-4, 0.5)):
        for momentum, limit in ((0.0, 2.0), (0.6, 3.2)):
            n = norm + smooth
            exact = n * (np.sqrt(1 + 4 * limit * 0.1 / (0.05 * n)) - 1) / (2 * 0.1)
            found = stability.edge(fd.SAM(0.05, 0.1, momentum, eps=smooth), norm)
            assert_allclose(found, exact, rtol=1e-12)
            assert_allclose(found, stability.edge(fd.USAM(0.05, 0.1 / n, momentum)), rtol=1e-12)


def test_the_edge_in_symbols_is_that_of_numbers_whatever_is_said_of_them():
    numbers, bare = dict(zip("hrmg", (0.05, 0.1, 0.6, 0.3), strict=True)), sympy.symbols("h r m g")
    expected = stability.edge(fd.SAM(0.05, 0.1, 0.6), 0.3)
    for h, r, m, g in (bare, sympy.symbols("h r m g", positive=True), sympy.symbols("h r m g", real=True)):
        found = stability.edge(fd.SAM(h, r, m), g)
        assert_allclose(float(found.subs({x: numbers[x.name] for x in (h, r, m, g)})), expected, rtol=1e-12)
    one = stability.edge(fd.SAM(0.05, 0.1, 0.6), bare[3] ** 2)
    assert_allclose(float(one.subs(bare[3], 0.3**0.5)), expected, rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_edge_with_momentum_in_closed_form(nesterov):
    """c = 2 (1 + μ), or 2 (1 + μ)/(1 + 2 μ), for every method, and with radius 0."""
    mu_, lr, radius, norm = 0.6, 0.05, 0.1, 0.3
    limit = 2 * (1 + mu_) / (1 + 2 * mu_ if nesterov else 1)
    for n, method in (
        (1.0, fd.USAM(lr, radius, mu_, nesterov=nesterov)),
        (norm, fd.SAM(lr, radius, mu_, nesterov=nesterov)),
    ):
        exact = n * (np.sqrt(1 + 4 * limit * radius / (lr * n)) - 1) / (2 * radius)
        assert_allclose(stability.edge(method, norm), exact, rtol=1e-12)
    for method in (
        fd.GD(lr, mu_, nesterov),
        fd.USAM(lr, 0.0, mu_, nesterov=nesterov),
        fd.SAM(lr, 0.0, mu_, nesterov=nesterov),
    ):
        assert_allclose(stability.edge(method, norm), limit / lr, rtol=1e-12)


def test_what_multipliers_say():
    for row, kind in (
        ([0.5, -0.9], "stable"),
        ([1.5, -0.9], "saddle"),
        ([1.5, 1.1j], "repelling"),
        ([1.5, 1j], "neutral"),
        ([-1.0, 0.5], "neutral"),
        ([np.nan, 0.5], "singular"),
    ):
        assert stability.kind_of(np.array(row)) == kind
    assert stability.kind_of(np.array([1 - 1e-6])) == "stable"
    assert stability.kind_of(np.array([1 - 1e-6]), tol=1e-5) == "neutral"


def test_the_two_cycle_sits_on_the_edge(reference):
    row = reference["8_edge_of_stability"]["period2_sits_on_edge"]
    cycle = fd.quadratic.two_cycle(fd.SAM(row["eta"], row["rho"]), [row["lam"]], 0)
    norm = row["lam"] * cycle.amplitude
    assert_allclose(norm, row["grad_norm"])
    assert_allclose(stability.edge(fd.SAM(row["eta"], row["rho"]), norm), row["lam"])


def test_what_has_no_condition_says_so():
    with pytest.raises(ValueError, match=r"no Jacobian at a critical point.*flatdyn.quadratic"):
        stability.conditions(fd.SAM(eta, rho), lam)
    with pytest.raises(ValueError, match="masked"):
        stability.conditions(fd.USAM(eta, rho, mask=(1, 0)), lam)
    with pytest.raises(ValueError, match=r"one of lr for GD, got 'rho'"):
        stability.threshold(fd.GD(eta), lam, "rho")
    with pytest.raises(ValueError, match="give gradient_norm"):
        stability.edge(fd.SAM(0.1, 0.1))
    with pytest.raises(TypeError, match="does not follow one gradient"):
        stability.conditions(fd.from_optax(optax.sgd(0.1)), lam)
    with pytest.raises(ValueError, match="no numbers for eta"):
        stability.region(stability.conditions(fd.GD(eta), lam), {lam: [1.0]})
    with pytest.raises(ValueError, match="curvature must be finite"):
        stability.conditions(fd.GD(0.1), np.nan)


def test_conditions_are_those_of_the_instance():
    method = dataclasses.replace(fd.USAM(0.1, 0.3, 0.5), lr=0.2)
    s = 0.2 * 4 * (1 + 0.3 * 4)
    assert bool(stability.conditions(method, 4.0)) == (s < 3)
