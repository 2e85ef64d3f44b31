"""Critical points beyond the catalogue: kinds where the Hessian is singular, functions, precision, what a list says."""

import _thread
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import landscapes
from flatdyn.landscapes.searches import critical_near

expression, function = fd.Landscape.from_expression, fd.Landscape.from_function
PLANE = [(-2, 2)] * 2


def as_function(landscape):
    code = sympy.lambdify([landscape.symbols], landscape.expression, "jax")
    return function(lambda theta: code(theta), landscape.dim, box=landscape.box)


def kinds(found):
    return [(point.kind, *np.round(point.theta, 6)) for point in found]


# --- kinds ----------------------------------------------------------------------------------------------------

ROOTS = [("degenerate", -(2**0.5)), ("degenerate", 2**0.5)]
MONKEY = function(lambda t: 1e-9 * ((t[0] - 0.3) ** 3 - 3 * (t[0] - 0.3) * t[1] ** 2), 2, PLANE)
WELLS = function(lambda t: 1e-30 * (t[0] ** 2 - 1) ** 2 + 1e-27 * t[1] ** 2, 2, PLANE)


@pytest.mark.parametrize(
    ("landscape", "expected", "complete"),
    [
        (expression("(x**2 - 2)**3", "x"), [("minimum", 0), *ROOTS], True),
        (expression("(3*x - 1)**4 + y**2", "x y"), [("degenerate", 1 / 3, 0)], True),
        (expression("10**12*(x**2 - 2)**3 - y**2/10**9", "x y"), [("saddle", 0, 0), *((*p, 0) for p in ROOTS)], True),
        # a ratio of 1e25 between eigenvalues is no reason: they are known to more digits
        (expression("10**20*x**2 + y**2/10**5", "x y"), [("minimum", 0, 0)], True),
        (expression("(x**2 - 1)**2/10**25", "x"), [("minimum", -1), ("minimum", 1), ("maximum", 0)], True),
        (expression("(exp(x) - 3)**4 + y**2", "x y", box=PLANE), [("degenerate", np.log(3), 0)], False),
        (function(lambda t: (t[0] ** 2 - 2) ** 3, 1, [(-3, 3)]), [("minimum", 0), *ROOTS], False),
        (MONKEY, [("degenerate", 0.3, 0)], False),
        (WELLS, [("minimum", -1, 0), ("minimum", 1, 0), ("saddle", 0, 0)], False),
    ],
)
def test_kinds_where_the_hessian_is_singular_or_small(landscape, expected, complete):
    found = landscape.critical_points()
    assert found.complete == complete
    assert [point.kind for point in found if point.kind == "degenerate"] == [
        k for k, *_ in expected if k == "degenerate"
    ]
    for (kind, *theta), point in zip(sorted(expected), sorted(found, key=lambda p: (p.kind, *p.theta)), strict=True):
        assert point.kind == kind
        assert_allclose(point.theta, theta, atol=2e-5)  # a root of order 3 is known to the cube root of rounding


def test_a_continuum_of_a_function_is_not_listed_point_by_point():
    found = function(lambda t: (t[0] * t[1] - 1) ** 2 / 2, 2, PLANE).critical_points()
    assert kinds(found) == [("saddle", 0, 0)]
    assert "perhaps a continuum" in found.how


@pytest.mark.parametrize(
    ("landscape", "start", "expected"),
    [
        (landscapes.monkey_saddle(), [1e-3, -2e-3], "degenerate"),
        (landscapes.himmelblau(), [3.01, 1.99], "minimum"),
        (landscapes.himmelblau(), [-0.27, -0.92], "maximum"),
        (landscapes.beale(), [1e-3, 1.001], "saddle"),
        (landscapes.factorization(), [0.99, 1.02], "degenerate"),
    ],
    ids=str,
)
def test_the_kind_of_the_critical_point_nearby(landscape, start, expected):
    with jax.enable_x64(False):
        theta, kind = critical_near(landscape, start, 0.1)
    assert kind == expected
    assert_allclose(landscape.grad(theta), 0, atol=1e-9)  # Himmelblau's slope is 1e2 per unit, its roots good to 1e-12
    assert critical_near(landscape, start, 1e-6) is None


# --- precision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "landscape",
    [landscapes.himmelblau(), landscapes.beale(), expression("cos(x) + y**2", "x y", box=[(-4, 4), (-3, 3)])],
    ids=["himmelblau", "beale", "cosine"],
)
def test_a_function_has_the_critical_points_of_its_expression_in_32_bits_too(landscape):
    exact = landscape.critical_points()
    with jax.enable_x64(False):
        found = as_function(landscape).critical_points()
    assert kinds(found) == kinds(exact)
    for one, other in zip(found, exact, strict=True):
        assert_allclose(one.theta, other.theta, atol=1e-11)  # rounding times the condition of the Hessian, up to 1e3
        assert_allclose(one.eigenvalues, other.eigenvalues, rtol=1e-9)


def test_threads_leave_the_precision_of_others_alone():
    before, seen = (mpmath.mp.prec, mpmath.iv.prec), []

    def solve(k):
        found = expression(f"(x**2 + y - {k})**2 + (x + y**2 - 7)**2 + (1 - x)**2", "x y").critical_points()
        seen.append((mpmath.mp.prec, mpmath.iv.prec))
        return found.complete

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(solve, range(11, 14)))
    assert {*seen, (mpmath.mp.prec, mpmath.iv.prec)} == {before}


Y = np.log(2) / (8 * 5**0.5) ** 0.5  # x = −y log(2)/2, and 4 √5 y³ = y log(2)²/2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x**4 - sqrt(2)*x**2 + y**2", [("minimum", -(0.5**0.25), 0), ("minimum", 0.5**0.25, 0), ("saddle", 0, 0)]),
        ("pi*x**4/4 - x + E*y**2", [("minimum", np.pi ** (-1 / 3), 0)]),
        ("(x**2 - sqrt(3))**3", [("minimum", 0), ("degenerate", -(3**0.25)), ("degenerate", 3**0.25)]),
        (
            "(x*y - sqrt(2))**2 + (x - y)**2*log(2)",
            [
                (
                    "minimum",
                    -(2**0.25),
                )
                * 1
                + (-(2**0.25),),
                ("minimum", 2**0.25, 2**0.25),
                ("saddle", 0, 0),
            ],
        ),
    ],
)
def test_irrational_coefficients_are_solved_and_not_called_proven(text, expected):
    found = expression(text, "x y" if "y" in text else "x").critical_points()
    assert not found.complete
    assert "irrational" in found.how
    for (kind, *theta), point in zip(sorted(expected), sorted(found, key=lambda p: (p.kind, *p.theta)), strict=True):
        assert point.kind == kind
        assert_allclose(point.theta, theta, atol=1e-14)


# --- what the list says, and how long it takes ----------------------------------------------------------------


def test_a_list_says_whether_it_is_complete():
    assert "complete=True, how='exact elimination" in repr(landscapes.beale().critical_points())
    assert "complete=False, how='not proven complete" in repr(expression("cos(x)", "x", [(-1, 1)]).critical_points())
    assert "continua=" in repr(landscapes.factorization().critical_points())


def test_a_list_belongs_to_who_asked():
    mine = landscapes.beale().critical_points()
    mine[0].theta[:] = 7
    mine.clear()
    assert_allclose(landscapes.beale().critical_points()[0].theta, [3, 0.5])


def test_the_lowest_loss_comes_first_whatever_the_scale():
    x = sympy.Symbol("x", real=True)
    wells = sympy.expand((x**2 - 1) ** 2 + x / 10)
    for scale in (1, sympy.Rational(1, 10**15), 10**15):
        losses = [point.loss for point in expression(scale * wells, "x").critical_points()]
        assert losses == sorted(losses)
        assert len(losses) == 3


def test_a_long_search_hears_an_interrupt_and_shows_a_bar(capsys):
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without
    slow = function(lambda t: jnp.sum(jnp.cos(t)) + jnp.prod(t) + t @ t / 9, 20, [(-4, 4)] * 20)
    slow.grad(np.zeros(20)), slow.hessian(np.zeros(20))
    timer, begun = threading.Timer(3.0, _thread.interrupt_main), time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        slow.critical_points(progress=True)
    signal.signal(signal.SIGINT, ours)
    timer.join()
    assert time.perf_counter() - begun < 8  # after three seconds, then heard within two; the rest is for a busy machine
    assert "starts" in capsys.readouterr().err


def test_a_search_in_too_many_coordinates_is_refused():
    with pytest.raises(ValueError, match="at most 1000 coordinates, got 1500"):
        function(lambda t: t @ t, 1500, [(-1, 1)] * 1500).critical_points()


def test_a_power_that_can_not_be_expanded_is_searched():
    found = expression("(x + 2*y)**4000 + (x**2 + y**2)/2", "x y", box=[(-0.1, 0.1)] * 2).critical_points()
    assert kinds(found) == [("minimum", 0, 0)]
