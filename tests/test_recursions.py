"""Linear recursions: their laws against derived formulas and simulation, and the released circle program as one."""

import jax
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.laws import LinearRecursion

h, k, a, T = sympy.symbols("h k a T", positive=True)
EULER = LinearRecursion([[1, h], [-h * k, 1 - a * h]], [[0, 0], [0, 2 * a * h * T]], stable="h k < a")


def euler(step, curvature, friction, temperature):
    """The same in numbers."""
    noise = [[0, 0], [0, 2 * friction * step * temperature]]
    return LinearRecursion([[1, step], [-step * curvature, 1 - friction * step]], noise, stable="h k < a")


def test_the_law_of_explicit_euler_is_the_derived_one():
    """The three equations of P = A P Aᵀ + Q, solved by hand; where h k = a areas are kept, and it has a pole."""
    variance = 2 * T * a * (2 - a * h + h**2 * k) / (k * (a - h * k) * (4 - 2 * a * h + h**2 * k))
    found = fd.stationary.formula(EULER)
    assert sympy.simplify(found[0, 0] - variance) == 0
    assert sympy.simplify(found[0, 1] + h * found[1, 1] / 2) == 0  # θ⁺ = θ + h p: 0 = 2 h E θp + h² E p²
    numbers = {h: 0.3, k: 1.2, a: 0.9, T: 0.5}
    exact = np.array(found.subs(numbers), dtype=float)
    assert_allclose(fd.stationary.covariance(euler(0.3, 1.2, 0.9, 0.5)), exact, rtol=1e-12)  # rounding of the solver


def test_an_unstable_one_is_refused_with_when_it_is_stable():
    with pytest.raises(ValueError, match=r"modulus 1\.02\d*; it is stable where h k < a"):
        fd.stationary.covariance(euler(0.5, 1.0, 0.4, 1.0))


def test_steps_together_are_one_step():
    one = euler(0.2, 1.5, 0.7, 0.3)
    seven = one.repeated(7)
    by_hand = one
    for _ in range(6):
        by_hand = by_hand.then(one)
    assert_allclose(seven.matrix, by_hand.matrix, rtol=1e-13)  # rounding
    assert_allclose(seven.noise_covariance, by_hand.noise_covariance, rtol=1e-13)
    assert_allclose(fd.stationary.covariance(seven), fd.stationary.covariance(one), rtol=1e-12)
    assert_allclose(np.sort_complex(seven.multipliers()), np.sort_complex(one.multipliers() ** 7), rtol=1e-12)
    symbolic = EULER.then(LinearRecursion([[1, 0], [0, 0]], [[0, 0], [0, 1]]))
    assert symbolic.matrix == sympy.Matrix([[1, h], [0, 0]])
    assert symbolic.noise_covariance == sympy.Matrix([[0, 0], [0, 1]])


def test_a_methods_step_is_the_recursion_of_its_derivatives():
    """OBA on ½ k θ² with time h: O, then B, then A, multiplied out by hand."""
    step, curvature, memory = 0.4, 1.3, np.exp(-0.4)
    found = fd.stationary.recursion(fd.Langevin(step, splitting="OBA"), fd.landscapes.saddle((curvature,)))
    kick = np.array([[1, 0], [-step * curvature, 1]])
    drift = np.array([[1, step], [0, 1]])
    gain = drift @ kick @ np.array([[0], [np.sqrt(1 - memory**2)]])
    assert_allclose(found.matrix, drift @ kick @ np.diag([1, memory]), rtol=1e-14, atol=1e-15)
    assert_allclose(found.noise_covariance, gain @ gain.T, rtol=1e-14)


def test_the_law_is_that_of_a_simulation():
    """Three keys; each variance of n = 20,000 runs has the relative error √(2/n), and 5 of it are allowed."""
    step, n = euler(0.5, 1.0, 1.0, 1.0), 20_000
    spread = np.sqrt(step.noise_covariance[1, 1])
    exact = fd.stationary.covariance(step)
    for seed in range(3):
        state = np.zeros((2, n))
        for normal in np.random.default_rng(seed).normal(size=(120, n)):  # its slowest multiplier to the 120 is 1e-8
            state = step.matrix @ state
            state[1] += spread * normal
        assert_allclose(np.diag(np.cov(state)), np.diag(exact), rtol=5 * np.sqrt(2 / n))


def released_circle_program(step, friction):
    """A O A, then a kick by the gradient from before them, free parameters, on ½ θ² at temperature 1."""
    memory = np.exp(-friction * step)
    spread = np.sqrt(1 - memory**2)
    gain = np.array([[step / 2 * spread], [spread]])
    return LinearRecursion([[1, step / 2 * (1 + memory)], [-step, memory]], gain @ gain.T)


@pytest.mark.parametrize(("step", "friction", "printed"), [(0.3, 1.0, 1.433), (0.2, 0.7, 1.401), (0.1, 1.0, 1.111)])
def test_the_released_circle_programs_stale_gradient_has_the_variance_that_its_runs_have(step, friction, printed):
    """1.433, … were seen in runs of the authors' program with its one line mended, to four digits; AOAB has 1."""
    assert_allclose(
        fd.stationary.covariance(released_circle_program(step, friction))[0, 0], printed, atol=5e-4
    )  # digits
    aoab = fd.Langevin(step, friction, splitting="AOAB")
    assert_allclose(fd.stationary.covariance(aoab, fd.landscapes.saddle((1.0,)))[0, 0], 1, rtol=1e-12)


def test_what_is_no_recursion_is_refused():
    for matrix, noise, message in (
        ([[1, 2]], None, r"matrix must be a square matrix, got shape \(1, 2\)"),
        ([[0.5]], [[1, 0], [0, 1]], r"noise_covariance must have the shape of matrix, \(1, 1\), got \(2, 2\)"),
        ([[0.5]], [[-1.0]], "noise_covariance must be positive semidefinite"),
        ([[0.5, 0], [0, 0.5]], [[1, 2], [0, 1]], "noise_covariance must be symmetric"),
        ([[h, 0], [0, 0.5]], [[1, h], [0, 1]], "noise_covariance must be symmetric"),
        ([[np.nan]], None, "matrix must be finite"),
        ("A", None, "matrix must be an array of numbers, got 'A'"),
    ):
        with pytest.raises(ValueError, match=message):
            LinearRecursion(matrix, noise)
    half = LinearRecursion([[0.5]], [[1.0]])
    with pytest.raises(ValueError, match="leave out landscape and at"):
        fd.stationary.covariance(half, fd.landscapes.saddle((1.0,)))
    with pytest.raises(ValueError, match="leave out landscape"):
        fd.stationary.formula(half, fd.landscapes.saddle((1.0,)))
    with pytest.raises(TypeError, match=r"in the symbols T, a, h, k has no numbers: ask stationary\.formula"):
        fd.stationary.covariance(EULER)
    with pytest.raises(ValueError, match="steps must be"):
        half.repeated(0)
    with pytest.raises(ValueError, match="a state of the same size"):
        half.then(EULER)
    assert jax.config.jax_enable_x64  # as the session was
