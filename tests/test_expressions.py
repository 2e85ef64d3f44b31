"""Losses from text and from SymPy: what is read, what is refused, special functions, numbers of any type."""

import gc
import weakref
from decimal import Decimal
from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import landscapes
from flatdyn.landscapes import programs
from flatdyn.landscapes.parsing import parse
from flatdyn.processes import flat

expression = fd.Landscape.from_expression
X, Y = sympy.symbols("x y", real=True)


# --- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("x/3", "x^2 + y**2", "-x**2", "2**-1*x", "x - y - 3 + 4*x/2/3*y", "x**y**2", "+x - -y", "1_000*x"),
        *("0.1*x", "1e-3*x", "0.12345678901234567890123*x", "10**20*x", "2**(1/2)*x", "pi*x + E*y", "log(x, 10)"),
        "(3/2 - x + x*y)**2 + (9/4 - x + x*y**2)**2 + (21/8 - x + x*y**3)**2",
        "Piecewise((x**2, x < 1/2), (x - 1/4, True))",
        " + ".join(f"{k}*x**{k}" for k in range(300)),
    ],
)
def test_text_means_what_sympy_reads_in_it(text):
    own, theirs = parse(text, {"x": X, "y": Y}), sympy.sympify(text, locals={"x": X, "y": Y})
    assert sympy.srepr(own) == sympy.srepr(theirs)


NOT_ACCEPTED = [
    *("len('abc')", "x.name", "x.diff(x)", "f(x)", "lambda: x", "x[0]", "'x'", "f'{x}'", "[x for x in y]", "{x: y}"),
    *("x if y else x", "x := 3", "x and y", "not x", "~x", "x @ y", "x // 2", "x % 2", "x, y", "...", "None", "1j*x"),
    *(
        "exp(x, y)",
        "exp()",
        "exp(x=3)",
        "exp(*x)",
        "x(3)",
        "sin",
        "print(x)",
        "Symbol(x)",
        "x; y",
        "",
        "x +",
        "x x",
        "x\0",
    ),
    *("9**9**9*x", "(2*x)**10**9", "10**10**10", "factorial(10**9)*x", "gamma(10**8)*x", "2**(10**9 + 1/2)*x"),
    *("((2*x)**1000)**1000", "(" * 300 + "x" + ")" * 300, "-" * 9999 + "x", "x**" * 300 + "x", "x+" * 20_000 + "x"),
    *(
        "1e400*x",
        "1e-400*x",
        "10**400*x",
        "1/10**400*x",
        "nan",
        "oo*x",
        "zoo",
        "1/0*x",
        "exp(1000)*x",
        "1e999999999999",
    ),
    *(
        "exp(exp(exp(100)))*x",
        "asin(2)*x",
        "sqrt(-1)*x",
        "log(-2)*x",
        "I*x",
        "abs(x)",
        "Piecewise(x)",
        "Piecewise((x, y))",
    ),
    *("LambertW(x)", "besselj(0, x)", "besseli(x, 2)", "besseli(1/2, x)", "zeta(x)", "polygamma(x, 2)", "Heaviside(x)"),
]


@pytest.mark.parametrize("text", NOT_ACCEPTED, ids=lambda text: text[:20].replace("\0", "0"))
def test_what_is_not_a_loss_is_refused_with_a_sentence(text):
    with pytest.raises(
        ValueError, match=r"cannot read|has no JAX code|a loss must be|of the loss is beyond|has at most"
    ):
        expression(text, "x y")


def test_a_refusal_names_the_function_and_those_there_are():
    for loss in ("LambertW(x)", sympy.LambertW(sympy.Symbol("x"))):
        with pytest.raises(ValueError, match=r"function LambertW .*\bcosh\b.*\bgamma\b"):
            expression(loss, "x")


@pytest.mark.parametrize(
    "symbols", ["x x", "", [X, sympy.Symbol("x")], 3, None, [X + 1], [sympy.I], [None], ()], ids=str
)
def test_coordinates_are_different_real_symbols(symbols):
    with pytest.raises(ValueError, match="symbols must be"):
        expression("1", symbols)


def test_symbols_are_known_by_their_names_whatever_is_assumed_of_them():
    plain, positive = sympy.symbols("x y"), sympy.symbols("x y", positive=True)
    for symbols in ("x y", ["x", "y"], plain, positive, (X, Y)):
        for x, y in (plain, positive, (X, Y)):
            landscape = expression(x**2 * y, symbols, parameters={"k": 2})
            assert_allclose(landscape.grad([3.0, 2.0]), [12, 9])
    with pytest.raises(ValueError, match=r"x, z.*z are neither"):
        expression(plain[0] * sympy.Symbol("z"), "x")
    with pytest.raises(ValueError, match="'x', which is a coordinate too"):
        expression("x**2", "x", parameters={"x": 1.0})


# --- special functions ----------------------------------------------------------------------------------------

ELEMENTARY = [
    *("exp(x)", "log(x)", "sqrt(x)", "cbrt(x)", "x**pi", "2**x", "sin(x)", "cos(x)", "tan(x)", "sec(x)", "csc(x)"),
    *("cot(x)", "asin(x/2)", "acos(x/2)", "atan(x)", "acot(x)", "atan2(x, 2)", "sinh(x)", "cosh(x)", "tanh(x)"),
    *("sech(x)", "csch(x)", "coth(x)", "asinh(x)", "acosh(4*x)", "atanh(x/4)", "acoth(4*x)", "erf(x)", "erfc(x)"),
    "Piecewise((x**2, x < 1/2), (x - 1/4, True))",
]
SPECIAL = ["erfinv(x/3)", "gamma(x)", "loggamma(x)", "digamma(x)", "besseli(1, x)", "Ei(x)", "sinc(x)"]
SLOW_TO_COMPILE = ["beta(x, 5/2)", "besseli(2, x)", "polygamma(2, x)", "expint(3, x)", "zeta(3, x)"]


@pytest.mark.parametrize(("functions", "orders"), [(ELEMENTARY, 1), (SPECIAL, 2), (SLOW_TO_COMPILE, 1)])
def test_functions_and_their_derivatives_against_mpmath(functions, orders):
    x = [sympy.Symbol(f"x{i}", real=True) for i in range(len(functions))]
    each = [parse(text, {"x": symbol}) for text, symbol in zip(functions, x, strict=True)]
    landscape = expression(sympy.Add(*each), x)
    for places in (np.linspace(0.83, 1.37, len(x)), np.linspace(1.31, 0.27, len(x))):
        rows = []
        for one, symbol, place in zip(each, x, places, strict=True):
            code = sympy.lambdify(symbol, one, "mpmath")
            rows.append([float(mpmath.diff(code, mpmath.mpf(place), order)) for order in range(orders + 1)])
        exact = np.array(rows)
        # mpmath's differences are good to 1e-15 or so, JAX's gamma functions and their kin to 1e-14
        assert_allclose(landscape.loss(places), exact[:, 0].sum(), rtol=1e-13)
        assert_allclose(landscape.grad(places), exact[:, 1], rtol=1e-12, atol=1e-13)
        if orders == 2:
            # a sum over coordinates: its Hessian times (1, …, 1) is the diagonal, and cheaper to compile than all of it
            along = jax.jvp(landscape.grad, (jnp.array(places),), (jnp.ones(len(x)),))[1]
            assert_allclose(along, exact[:, 2], rtol=1e-12, atol=1e-12)


def test_special_functions_at_the_origin_and_far_out():
    landscape = expression("besseli(0, x) + 3*sinc(y)", "x y")
    assert_allclose(landscape.hessian([0.0, 0.0]), [[1 / 2, 0], [0, -1]], atol=1e-12)  # I₀'' = 1/2, sinc'' = −1/3
    far = expression("beta(x, 200)*1e80 + coth(9*x)", "x")  # Γ(300) and e^900 overflow
    assert_allclose(far.loss([100.0]), float(mpmath.beta(100, 200)) * 1e80 + 1, rtol=1e-11)  # logarithms of size 1e3


# --- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *(
            kind(3)
            for kind in (np.uint8, np.int8, np.int32, np.float16, np.float32, np.longdouble, Fraction, Decimal, int)
        ),
        *(sympy.Integer(3), sympy.Float(3), sympy.sqrt(9), np.array(3, np.uint8), jnp.int8(3)),
    ],
    ids=repr,
)
def test_a_number_of_any_type_keeps_its_value(value):
    assert_allclose(landscapes.factorization(value).loss([1, 1]), 2)
    large = expression("(1000*t)**4*x**2 + x**(2*t)", "x", parameters={"t": value})
    assert_allclose(large.loss([-1.0]), 3000.0**4 + 1, rtol=1e-15)  # the power is whole: no NaN for x < 0
    assert_allclose(large.grad([1.0]), 2 * 3000.0**4 + 6, rtol=1e-15)
    assert float(large.expression.subs(large.symbols[0], 1)) == 3000**4 + 1


@pytest.mark.parametrize(
    "value", [np.int32(1000), 10**20, np.uint64(2**63), Fraction(1, 3), sympy.pi, np.float32(0.1)], ids=repr
)
def test_large_and_broken_numbers_are_the_nearest_floats(value):
    assert_allclose(
        expression("a**4*x**2", "x", parameters={"a": value}).loss([2.0]), 4 * float(value) ** 4, rtol=1e-15
    )


@pytest.mark.parametrize(
    "value",
    [
        *(
            "3",
            b"3",
            True,
            np.bool_(True),
            None,
            1j,
            sympy.I,
            np.nan,
            np.inf,
            sympy.oo,
            sympy.nan,
            Decimal("NaN"),
            {},
            [],
        ),
        *(10**400, Fraction(10**400, 3), Fraction(1, 10**400), Decimal("1e-400"), sympy.true),
        *(np.datetime64("2020"), ["a"], sympy.Integer(10) ** 400),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "make",
    [
        landscapes.factorization,
        lambda value: landscapes.saddle((1.0, value)),
        lambda value: expression("k*x**2", "x", parameters={"k": value}),
    ],
    ids=["factorization", "saddle", "expression"],
)
def test_what_is_no_finite_real_number_is_refused(make, value):
    with pytest.raises(ValueError, match=r"(target|parameter t|curvatures|parameter c2|parameter k) must be"):
        make(value)


def test_coefficients_beyond_32_bits():
    for text, loss, slope in (("10**20*x**2", 4e20, 4e20), ("3000000000*x", 6e9, 3e9), ("x**2/10**30", 4e-30, 4e-30)):
        landscape = expression(text, "x")
        for wide, digits in ((False, 1e-6), (True, 1e-15)):  # rounding of 32 and 64 bits
            with jax.enable_x64(wide):
                assert_allclose(landscape.loss([2.0]), loss, rtol=digits)
                assert_allclose(landscape.grad([2.0]), [slope], rtol=digits)
    for text in ("10**60*x**2", "x**2/10**60"):
        assert_allclose(expression(text, "x").loss([2.0]), 4e60 if text[0] == "1" else 4e-60)
        with jax.enable_x64(False), pytest.raises(ValueError, match=r"beyond what 32 bits hold.*jax_enable_x64"):
            expression(text, "x").loss([2.0])


@pytest.mark.parametrize("kind", [float, np.float64, np.array, sympy.Float])
def test_parameters_beyond_32_bits_are_refused_there_and_zero_is_none_of_them(kind):
    for value in (1e60, 1e-60):
        landscape = landscapes.rosenbrock(b=kind(value))
        assert_allclose(landscape.loss([1.0, 2.0]), value)
        with jax.enable_x64(False), pytest.raises(ValueError, match=r"parameter b = .*beyond what 32 bits hold"):
            landscapes.rosenbrock(b=kind(value)).loss([1.0, 2.0])
    for wide in (False, True):
        with jax.enable_x64(wide):
            assert landscapes.rosenbrock(a=kind(0.0)).loss([1.0, 1.0]) == 1


@pytest.mark.parametrize("theta", [{"a": 1}, "x", None, [1.0, 2.0, 3.0], 1j * np.ones(2), ["a", "b"]], ids=repr)
def test_points_are_real_numbers_of_the_right_shape(theta):
    for ask in ("loss", "grad", "hessian"):
        with pytest.raises(ValueError, match="theta must"):
            getattr(landscapes.beale(), ask)(theta)


# --- programs that are given back -----------------------------------------------------------------------------


def test_programs_of_landscapes_that_are_gone_are_given_back():
    gone = []

    def ask(k):
        def loss(theta):
            return jnp.sum(theta**2) * k

        gone.append(weakref.ref(loss))
        landscape = fd.Landscape.from_function(loss, 2)
        assert_allclose(landscape.grad([1.0, 2.0]), [2 * k, 4 * k])

    programs.clear_programs()
    ask(1)
    for k in range(programs._KEPT):  # others, that cost no compiling
        programs._program("loss", jax.tree.structure(0), (k,), ())
    gc.collect()
    assert gone[0]() is None


def test_landscapes_that_differ_in_numbers_share_programs():
    programs.clear_programs()
    for b in np.linspace(1, 2, 5):
        landscapes.rosenbrock(b=b).grad([1.0, 2.0])
    assert programs._program.cache_info().currsize == 1


def test_one_call_gives_back_all_compiled_programs():
    client = jax.devices()[0].client
    landscape = fd.Landscape.from_function(lambda theta: jnp.sum(jnp.cosh(theta)), 2)
    fd.simulate(fd.Iteration(landscape, fd.GD(0.1)), [1.0, 2.0], 2)
    landscape.hessian([1.0, 2.0])
    fd.stability.multipliers(fd.Iteration(landscape, fd.GD(0.1)), at=[0.0, 0.0])
    before = len(client.live_executables())
    landscapes.clear_programs()
    assert len(client.live_executables()) <= before - 4  # of the run, of its start, of the Hessian, of a step's slope
    assert flat._known.cache_info().currsize == 0
    assert_allclose(landscape.grad([1.0, 0.0]), [np.sinh(1), 0])  # and what is asked again is compiled again
