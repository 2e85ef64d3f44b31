"""Values from sources other than flatdyn, at points that are not minima; critical points; bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import landscapes

# L at a point, worked out by hand from the published definition or quoted from the literature.
VALUES = [
    (landscapes.saddle(), (3.0, 2.0), 5.0),
    (landscapes.saddle((1, -4, 0.5)), (2.0, 1.0, 2.0), 2 - 2 + 1),
    (landscapes.monkey_saddle(), (1.0, 2.0), -11.0),
    (landscapes.beale(), (0.0, 0.0), 14.203125),
    (landscapes.beale(), (1.0, 2.0), 2.5**2 + 5.25**2 + 9.625**2),
    (landscapes.rosenbrock(), (-1.2, 1.0), 24.2),  # the standard start; Moré, Garbow, Hillstrom 1981, problem 1
    (landscapes.rosenbrock(3), (0.0, 0.0, 0.0), 2.0),
    (landscapes.rosenbrock(2, a=2, b=10), (1.0, 3.0), 1 + 40),
    (landscapes.rosenbrock_saddle(), (0.5, 0.0), 0.25 * 0.75**2 + 100 * 0.25**2),
    (landscapes.himmelblau(), (0.0, 0.0), 170.0),
    (landscapes.himmelblau(), (-0.270845, -0.923039), 181.617),  # the maximum, as commonly quoted
    (landscapes.muller_brown(), (-0.558, 1.442), -146.700),  # Müller and Brown 1979, table: minima and saddles
    (landscapes.muller_brown(), (0.212, 0.293), -72.249),
    (landscapes.muller_brown(), (-0.822, 0.624), -40.665),
    (landscapes.six_hump_camel(), (1.0, 1.0), 4 - 2.1 + 1 / 3 + 1),
    (landscapes.three_hump_camel(), (1.0, 1.0), 2 - 1.05 + 1 / 6 + 2),
    (landscapes.styblinski_tang(), (1.0, 1.0), -10.0),
    (landscapes.double_well(), (0.0,), 0.25),
    (landscapes.double_well(2, stiffness=3), (2.0, 1.0), 9 / 4 + 1.5),
    (landscapes.flat_and_sharp(1, 4, 0.5), (2.0, 1.0), 0.5 * 9 + 2.5**2 / 2),
    (landscapes.factorization(), (2.0, 3.0), 12.5),
    (landscapes.deep_linear(4, target=2), (1.0, 2.0, 3.0, 1.0), 8.0),
    (landscapes.deep_linear(2, width=2), (1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 1.0, 0.0), (4 + 16 + 1 + 1) / 2),
]


@pytest.mark.parametrize(("landscape", "point", "value"), VALUES, ids=lambda case: str(case)[:40])
def test_values_from_the_literature(landscape, point, value):
    # six figures where the source gives six; the exact ones agree far better
    assert_allclose(landscape.loss(point), value, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", landscapes.CATALOGUE)
def test_jax_code_agrees_with_the_expression_it_is_derived_from(name):
    landscape = landscapes.CATALOGUE[name]()
    rng = np.random.default_rng(1)
    lower, upper = np.array(landscape.box).T
    points = rng.uniform(lower, upper, (5, landscape.dim))
    gradient = [sympy.diff(landscape.expression, s) for s in landscape.symbols]
    hessian = sympy.hessian(landscape.expression, landscape.symbols)
    answers = landscape.loss, landscape.grad, landscape.hessian
    for answer, form in zip(answers, [landscape.expression, gradient, hessian.tolist()], strict=True):
        in_mpmath = sympy.lambdify([landscape.symbols], form, "mpmath")
        exact = np.array([in_mpmath(point) for point in points], dtype=float)
        # double precision, with room for the cancellation between terms of very different size
        assert_allclose(answer(points), exact, rtol=1e-11, atol=1e-11 * np.abs(exact).max())
    # and jax.grad of the loss is the compiled gradient
    assert_allclose(jax.vmap(jax.grad(landscape.loss))(points), landscape.grad(points), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("name", landscapes.CATALOGUE)
def test_precision_follows_the_point(name):
    landscape = landscapes.CATALOGUE[name]()
    theta = jnp.full(landscape.dim, 0.3, jnp.float32)
    assert landscape.loss(theta).dtype == landscape.grad(theta).dtype == landscape.hessian(theta).dtype == jnp.float32


# --- critical points ------------------------------------------------------------------------------------------

KINDS = {"min": "minimum", "max": "maximum", "saddle": "saddle"}


@pytest.mark.parametrize("name", ["beale", "himmelblau", "rosenbrock"])
def test_critical_points_against_independent_forty_digit_values(name, reference):
    expected = reference["6_critical_points"]["functions"][name]["points"]
    found = landscapes.CATALOGUE[name]().critical_points()
    assert found.complete
    assert len(found) == len(expected)
    for row in expected:
        point = min(found, key=lambda p: np.linalg.norm(p.theta - row["point"]))
        assert_allclose(point.theta, row["point"], atol=1e-12)  # the reference prints 13 digits
        assert_allclose(point.eigenvalues, row["hess_eigs"], rtol=1e-10)
        assert_allclose(point.loss, row["value"], atol=1e-11)
        assert point.kind == KINDS[row["type"]]


@pytest.mark.parametrize(
    ("landscape", "minima", "saddles", "maxima"),
    [
        (landscapes.six_hump_camel(), 6, 7, 2),
        (landscapes.three_hump_camel(), 3, 2, 0),
        (landscapes.styblinski_tang(), 4, 4, 1),
        (landscapes.styblinski_tang(3), 8, 18, 1),
        (landscapes.himmelblau(), 4, 4, 1),
        (landscapes.rosenbrock_saddle(), 2, 1, 0),
        (landscapes.rosenbrock_saddle(10), 2, 1, 0),
        (landscapes.rosenbrock(3), 1, 0, 0),
        (landscapes.rosenbrock(4), 2, 1, 0),  # Kok and Sandrock, Evol. Comput. 17 (2009) 437
        (landscapes.double_well(2), 2, 1, 0),
        (landscapes.flat_and_sharp(), 2, 1, 0),
        (landscapes.saddle((1, 2, -1)), 0, 1, 0),
    ],
    ids=str,
)
def test_counts_are_complete_and_obey_morse(landscape, minima, saddles, maxima):
    found = landscape.critical_points()
    kinds = [p.kind for p in found]
    assert found.complete
    assert (kinds.count("minimum"), kinds.count("saddle"), kinds.count("maximum")) == (minima, saddles, maxima)
    if landscape.name != "saddle":  # a loss that grows to infinity in all directions has Σ (−1)^index = 1
        assert sum((-1) ** int((p.eigenvalues < 0).sum()) for p in found) == 1


def test_a_search_says_that_it_is_one():
    found = landscapes.muller_brown().critical_points()
    assert not found.complete
    assert "not proven" in found.how
    assert [p.kind for p in found] == ["minimum"] * 3 + ["saddle"] * 2
    # Müller and Brown 1979: energies of the three minima and two saddles
    assert_allclose([p.loss for p in found], [-146.700, -108.167, -80.768, -72.249, -40.665], atol=5e-4)


def test_degenerate_points_and_continua_are_named():
    (monkey,) = landscapes.monkey_saddle().critical_points()
    assert monkey.kind == "degenerate"
    found = landscapes.factorization().critical_points()
    u, v = landscapes.factorization().symbols
    assert [p.kind for p in found] == ["saddle"]
    assert_allclose(found[0].eigenvalues, [-1, 1])
    assert found.continua == ((sympy.Eq(u * v - 1, 0),),)
    deep = landscapes.deep_linear(3).critical_points()
    assert [p.kind for p in deep] == ["degenerate"]  # the origin, where the lines of critical points meet
    assert len(deep.continua) == 4


def test_a_lucky_search_would_miss_these_points():
    # Two minima 2e-4 apart and one far outside any box that one would search.
    x = sympy.Symbol("x", real=True)
    roots = [sympy.Rational(text) for text in ("1", "1.0001", "1.0002", "500", "501")]
    slope = sympy.prod(x - root for root in roots)
    landscape = fd.Landscape.from_expression(sympy.integrate(sympy.expand(slope), x), [x])
    found = landscape.critical_points()
    assert found.complete
    assert_allclose(sorted(p.theta[0] for p in found), [1, 1.0001, 1.0002, 500, 501], rtol=1e-12)


def test_irrational_points_of_a_user_expression_are_roots():
    landscape = fd.Landscape.from_expression("x**4 + y**4 - 3*x*y + x**3*y - 2*x**2 + y", symbols="x y")
    found = landscape.critical_points()
    assert found.complete
    assert len(found) % 2 == 1  # Morse, coercive
    for point in found:
        assert_allclose(landscape.grad(point.theta), 0, atol=1e-13)


def test_parameters_move_the_critical_points():
    for a in (0.5, 2.0):
        (point,) = landscapes.rosenbrock(a=a).critical_points()
        assert_allclose(point.theta, [a, a * a], rtol=1e-15)


def test_a_jax_function_is_searched_in_its_box():
    landscape = fd.Landscape.from_function(lambda t: (t[0] ** 2 - 1) ** 2 / 4 + t[1] ** 2 / 2, 2, box=[(-2, 2)] * 2)
    found = landscape.critical_points()
    assert not found.complete
    assert [p.kind for p in found] == ["minimum", "minimum", "saddle"]
    assert_allclose([p.theta for p in found], [[-1, 0], [1, 0], [0, 0]], atol=1e-10)


# --- your own -------------------------------------------------------------------------------------------------


def test_an_expression_from_a_string_keeps_its_symbols_and_box():
    landscape = fd.Landscape.from_expression("x**2 - y**2 + x*y**3", symbols="x y", box=[(-2, 2), (-2, 2)])
    assert [s.name for s in landscape.symbols] == ["x", "y"]
    assert landscape.box == ((-2.0, 2.0), (-2.0, 2.0))
    assert landscape.dim == 2
    assert_allclose(landscape.loss([1.0, 2.0]), 1 - 4 + 8)
    assert_allclose(landscape.grad([1.0, 2.0]), [2 + 8, -4 + 12])


@pytest.mark.parametrize("names", ["beta gamma", "N S", "E Q"])
def test_names_that_sympy_knows_are_still_coordinates(names):
    first, second = names.split()
    landscape = fd.Landscape.from_expression(f"{first}**2 + 3*{second}", symbols=names)
    assert_allclose(landscape.grad([2.0, 5.0]), [4, 3])


def test_parameters_can_be_numbers_or_symbols():
    landscape = fd.Landscape.from_expression("k*x**2/2", symbols="x", parameters={"k": 3.0})
    assert_allclose(landscape.hessian([1.0]), [[3.0]])
    k = sympy.Symbol("k", positive=True)
    assert landscapes.saddle((k,)).expression.diff(*landscapes.saddle((k,)).symbols, 2) == k


def test_a_batch_of_parameters_maps_over_landscapes():
    losses = jax.vmap(lambda b: landscapes.rosenbrock(b=b).loss(jnp.array([1.0, 3.0])))(jnp.array([1.0, 10.0]))
    assert_allclose(losses, [4, 40])


BAD_EXPRESSIONS = [
    ("x**2 + z", "x y", "x, z.*z are neither"),
    ("I*x", "x", "must be real"),
    ("abs(x) + y", "x y", "differentiable.*symbols found: x, y"),
    ("Max(x, y)", "x y", "differentiable"),
    ("floor(x)", "x", "differentiable"),
    ("f(x)", "x", "the function f is not among exp, sqrt"),
    ("[x, y]", "x y", "List.* one scalar"),
    ("x < y", "x y", "Compare.* one scalar"),
    ("x +* y", "x y", "cannot read"),
]


@pytest.mark.parametrize(("expression", "symbols", "message"), BAD_EXPRESSIONS)
def test_bad_expressions_are_refused(expression, symbols, message):
    with pytest.raises(ValueError, match=message):
        fd.Landscape.from_expression(expression, symbols=symbols)


def test_a_matrix_is_not_a_loss():
    with pytest.raises(ValueError, match="one scalar"):
        fd.Landscape.from_expression(sympy.Matrix([1, 2]), symbols="x")


@pytest.mark.parametrize("box", [[(1, 1)], [(2, 1)], [(0, 1), (0, 1)], [(0, np.inf)], "wide", [0, 1]])
def test_bad_boxes_are_refused(box):
    with pytest.raises(ValueError, match="box"):
        fd.Landscape.from_expression("x**2", symbols="x", box=box)


def test_bad_functions_and_sizes_are_refused():
    with pytest.raises(ValueError, match="one real number"):
        fd.Landscape.from_function(lambda t: t, 2)
    with pytest.raises(ValueError, match="dim"):
        landscapes.rosenbrock(1)
    with pytest.raises(ValueError, match="curvature"):
        landscapes.saddle(())
    with pytest.raises(ValueError, match="finite"):
        landscapes.saddle((1.0, np.nan))
    with pytest.raises(ValueError, match=r"shape \(..., 2\).*\(3,\)"):
        landscapes.beale().loss([1.0, 2.0, 3.0])


def test_a_function_has_no_symbols():
    landscape = fd.Landscape.from_function(lambda t: t @ t, 2)
    with pytest.raises(TypeError, match="multipliers"):
        _ = landscape.expression
    with pytest.raises(ValueError, match="box"):
        landscape.critical_points()


def test_symbolic_parameters_have_no_numbers():
    with pytest.raises(ValueError, match="numbers for the parameters k"):
        fd.Landscape.from_expression("k*x**2", symbols="x", parameters={"k": sympy.Symbol("k")}).critical_points()
