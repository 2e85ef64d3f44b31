"""Weak order of every SDE: how fast its expectations approach the method's as the step shrinks. Nothing is sampled.

The method's expectations come from its transfer operator, the SDE's from its backward equation; both are compared
with independent numbers. The problem: L = w⁴/4 − w²/2, gradient noise N(0, 1/4), w₀ = 1/2, time 1, E of w, w², e^(−w²).
"""

import functools

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd

LINE = fd.Landscape.from_expression("w**4/4 - w**2/2", symbols="w", box=[(-2, 2)])
PARABOLA = fd.Landscape.from_expression("w**2/2", symbols="w", box=[(-2, 2)])
NOISE = fd.noise.Gaussian(0.5)
FUNCTIONS = [lambda w: w, lambda w: w**2, lambda w: np.exp(-(w**2))]
ETAS = [0.1, 0.05, 0.025, 0.0125, 0.00625]
PANELS = 24  # of 16 nodes: these functions are smooth, and the default, made for exits, changes them by 2e-14

# Name in the reference: method at a step, order and form of its SDE.
SHRINKING, FIXED = (lambda eta: 0.5 * eta**0.5), (lambda eta: 0.2)
TESTS = {
    "sgd_order1": (fd.GD, 1, "published"),
    "sgd_order2": (fd.GD, 2, "published"),
    "usam_order1_rho=0.5sqrt(eta)": (lambda eta: fd.USAM(eta, SHRINKING(eta)), 1, "published"),
    "usam_taylorSDE_fixed_rho=0.2": (lambda eta: fd.USAM(eta, FIXED(eta)), 1, "published"),
    "usam_exactmomentSDE_fixed_rho=0.2": (lambda eta: fd.USAM(eta, FIXED(eta)), 1, "derived"),
    "sam_order1_rho=0.5sqrt(eta)": (lambda eta: fd.SAM(eta, SHRINKING(eta)), 1, "published"),
    "sam_exactmomentSDE_fixed_rho=0.2": (lambda eta: fd.SAM(eta, FIXED(eta)), 1, "derived"),
}
CONTROLS = {
    "usam_with_SGD_sde(control)": ("usam_order1_rho=0.5sqrt(eta)", "sgd_order1"),
    "sam_with_SGD_sde(control)": ("sam_order1_rho=0.5sqrt(eta)", "sgd_order1"),
}


def discrete(name, eta):
    method = TESTS[name][0](eta)
    return steps_of(type(method), eta, getattr(method, "rho", 0.0))


@functools.cache
def steps_of(kind, eta, rho):
    process = fd.Iteration(LINE, kind(eta) if kind is fd.GD else kind(eta, rho), NOISE)
    return fd.transfer.expectation(process, FUNCTIONS, 0.5, round(1 / eta), (-1.8, 1.8), panels=PANELS)


@functools.cache
def continuous(name, eta, order=None, form=None):
    method, *rest = TESTS[name]
    order, form = order or rest[0], form or rest[1]
    diffusion = fd.flows.Diffusion(LINE, method(eta), NOISE, order=order, form=form)
    return fd.flows.expectation(diffusion, FUNCTIONS, 0.5, 1.0, (-1.8, 1.8))


def slopes(errors):
    """Fitted slope of ln error against ln η, one per function."""
    return np.polyfit(np.log(ETAS), np.log(np.abs(errors)), 1)[0]


def errors(name, other=None):
    return [discrete(name, eta) - continuous(other or name, eta) for eta in ETAS]


@pytest.mark.parametrize("name", TESTS)
def test_expectations_are_the_independent_ones(name, reference):
    for row in reference["4_sde_weak"]["tests"][name]["rows"]:
        # 1e-8: the resolution of both sides is 2e-9 or better with the default nodes
        assert_allclose(continuous(name, row["eta"]), row["sde"], atol=1e-8)
        if name.startswith("usam") and row["eta"] == 0.1:
            continue  # there the reference is off by up to 2e-3: see the next test
        assert_allclose(discrete(name, row["eta"]), row["discrete"], atol=2e-8)


def test_usam_with_large_steps_against_plain_sampling():
    """Ten steps of USAM in NumPy, ρ = 0.2, η = 0.1: the reference's E w² there is 19 standard errors away."""
    for seed in range(3):
        rng, w = np.random.default_rng(seed), np.full(400_000, 0.5)
        for _ in range(10):
            z = 0.5 * rng.normal(size=len(w))
            p = w + 0.2 * (w**3 - w + z)
            w = w - 0.1 * (p**3 - p + z)
        for function, expected in zip(FUNCTIONS, discrete("usam_taylorSDE_fixed_rho=0.2", 0.1), strict=True):
            values = function(w)
            assert abs(values.mean() - expected) < 4.5 * values.std() / np.sqrt(len(w))


@pytest.mark.parametrize(
    ("name", "order", "within"),
    [
        ("sgd_order1", 1, 0.1),
        ("sgd_order2", 2, 0.15),
        ("usam_order1_rho=0.5sqrt(eta)", 1, 0.1),
        ("sam_order1_rho=0.5sqrt(eta)", 1, 0.1),
    ],
)
def test_published_equations_have_their_order(name, order, within):
    assert_allclose(slopes(errors(name)), order, atol=within)


def test_at_fixed_rho_the_published_equation_stops_improving():
    found = np.abs(errors("usam_taylorSDE_fixed_rho=0.2"))
    assert np.abs(slopes(found)).max() < 0.2
    assert found[-1].min() > 0.015  # at η = 0.00625, where the derived equation is off by 2e-4


@pytest.mark.parametrize("name", ["usam_exactmomentSDE_fixed_rho=0.2", "sam_exactmomentSDE_fixed_rho=0.2"])
def test_at_fixed_rho_derived_equations_have_order_one(name, reference):
    found = errors(name)
    assert np.abs(found[-1]).max() < 4e-4
    local = np.log2(np.abs(found[-2]) / np.abs(found[-1]))
    assert_allclose(local, reference["4_sde_weak"]["tests"][name]["local_slopes"][-1], atol=1e-3)
    assert 1 < slopes(found).min() < slopes(found).max() < 1.35


@pytest.mark.parametrize("name", ["usam_exactmomentSDE_fixed_rho=0.2", "sam_exactmomentSDE_fixed_rho=0.2"])
def test_derived_equations_of_order_two_have_it_at_fixed_rho(name):
    found = [discrete(name, eta) - continuous(name, eta, order=2) for eta in ETAS[2:]]
    local = np.log2(np.abs(found[-2]) / np.abs(found[-1]))
    assert_allclose(local, 2, atol=0.15)  # asymptotically 2


@pytest.mark.parametrize("name", CONTROLS)
def test_with_the_wrong_equation_the_error_does_not_shrink_with_the_step(name, reference):
    found = np.abs(errors(*CONTROLS[name]))
    row = reference["4_sde_weak"]["tests"][name]["rows"][-1]
    assert_allclose(found[-1], row["abs_err"], atol=1e-7)
    assert found[-1].min() > 2e-3
    assert slopes(found).max() < 0.6


def test_dnsam(reference):
    rows, functions = reference["4_sde_weak"]["dnsam"]["rows"], [lambda w: w, lambda w: w**2, lambda w: np.exp(-w)]
    found = []
    for row in rows:
        method = fd.DNSAM(row["eta"], row["rho"])
        noise = fd.noise.Gaussian(0.2)
        process, diffusion = fd.Iteration(PARABOLA, method, noise), fd.flows.Diffusion(PARABOLA, method, noise)
        steps = fd.transfer.expectation(process, functions, 2.0, round(0.5 / row["eta"]), (0.3, 3.5), PANELS)
        sde = fd.flows.expectation(diffusion, functions, 2.0, 0.5, (0.3, 3.0))
        # 2e-6: this part of the reference is accurate to six digits only
        assert_allclose(steps, row["discrete"], atol=2e-6)
        assert_allclose(sde, row["sde"], atol=2e-6)
        found.append(np.abs(steps - sde))
    assert_allclose(np.log(found[-2] / found[-1]) / np.log(4), 1, atol=0.1)


# --- the same as a question of its own ------------------------------------------------------------------------


def test_weak_errors_are_the_differences_of_the_two_sides():
    equations = {"first": {}, "wrong": {"method": fd.GD}}
    method = lambda lr: fd.USAM(lr, 0.2)  # noqa: E731
    found = fd.weak.weak_errors(LINE, method, NOISE, equations, [0.1, 0.05], FUNCTIONS, 0.5, 1.0, (-1.8, 1.8))
    for i, eta in enumerate((0.1, 0.05)):
        assert_allclose(found["first"].method[i], discrete("usam_taylorSDE_fixed_rho=0.2", eta), atol=1e-13)
        assert_allclose(found["first"].sde[i], continuous("usam_taylorSDE_fixed_rho=0.2", eta), atol=1e-13)
        assert_allclose(found["wrong"].sde[i], continuous("sgd_order1", eta), atol=1e-13)
    assert_allclose(found["wrong"].slopes, found["wrong"].local_slopes[0], rtol=1e-12)  # two points: the same line
    with pytest.raises(ValueError, match=r"lrs must be steps that divide the time 1, got 0\.3"):
        fd.weak.weak_errors(LINE, fd.GD, NOISE, equations, [0.3], FUNCTIONS, 0.5, 1.0, (-1.8, 1.8))


def test_slopes_are_those_of_lines_through_the_errors():
    lr, error = np.array([0.2, 0.1, 0.02]), np.array([[4e-2, 3e-3], [2e-2, 1e-3], [1e-3, 4e-5]])
    found = fd.weak.WeakError({}, {}, lr, 1 + error * [1, -1], np.ones((3, 2)))
    assert_allclose(found.error, error, rtol=1e-11)  # the rounding of 1 in 4e-5
    assert_allclose(found.local_slopes[0], np.log2([2, 3]), rtol=1e-11)
    assert_allclose(found.local_slopes[1], np.log([20, 25]) / np.log(5), rtol=1e-11)
    x, y = np.log(lr) - np.log(lr).mean(), np.log(error)
    assert_allclose(found.slopes, x @ y / (x @ x), rtol=1e-11)


def test_the_simulated_error_is_the_exact_one():
    method = fd.USAM(0.1, 0.2)
    pair = fd.Iteration(LINE, method, NOISE), fd.flows.Diffusion(LINE, method, NOISE, dt=0.1)
    sides = [fd.transfer.expectation(p, [lambda w: w, lambda w: w**2], 0.5, 10, (-1.8, 1.8)) for p in pair]
    (own, sde), spread = np.transpose(sides)[0], sum(square - mean**2 for mean, square in sides)
    for seed in range(3):
        key = jax.random.key(seed)
        value, error = fd.weak.simulated_error(*pair, lambda theta: theta[:, 0], [0.5], 1.0, 40_000, key)
        assert abs(value - (own - sde)) < 4.5 * error
        # variances of 40,000 nearly normal numbers are known to √(2/40,000) each, their root to half of it
        assert_allclose(error, np.sqrt(spread / 40_000), rtol=4.5 * np.sqrt(1 / 2 / 40_000))
    unstable = fd.USAM(0.5, 2.0)
    pair = fd.Iteration(LINE, unstable, NOISE), fd.flows.Diffusion(LINE, unstable, NOISE)
    with pytest.raises(ValueError, match="runs diverged"):
        fd.weak.simulated_error(*pair, lambda theta: theta[:, 0], [1.5], 10.0, 64, jax.random.key(0))
