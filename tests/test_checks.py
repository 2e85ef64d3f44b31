"""What the checks at the boundary hand back: plain numbers inside a range, whatever they came as."""

import re
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

import flatdyn as fd
from flatdyn import curvature, escape, fixedpoints
from flatdyn.core import checks

ONES = {
    "int": (3, 3.0),
    "large": (10**20, 1e20),
    "eight bits": (np.uint8(200), 200.0),
    "half": (np.float16(0.5), 0.5),
    "array": (np.array(2), 2.0),
    "jax": (jnp.array(0.25), 0.25),
    "share": (sympy.Rational(1, 4), 0.25),
    "root": (sympy.sqrt(2), float(sympy.sqrt(2))),
}


@pytest.mark.parametrize("name", ONES)
def test_one_number_comes_back_as_a_float(name):
    value, expected = ONES[name]
    found = [checks.number("x", value, one=True, at_least=0), *checks.floats(x=value), checks.bound("x", value)]
    assert [type(number) for number in found] == [float] * 3
    assert found == [expected] * 3


def test_one_number_of_a_formula_stays_exact():
    assert [checks.exact("x", value) for value in (3, np.uint8(200), 0.5, sympy.pi)] == [3, 200, 0.5, sympy.pi]
    assert type(checks.exact("x", np.uint8(200))) is int
    assert checks.symbols("at", [1, sympy.Rational(1, 3)]) == [sympy.Integer(1), sympy.Rational(1, 3)]


@pytest.mark.parametrize("value", [10**400, Decimal(1), "1", None, [1.0, 2.0], np.nan, sympy.oo, sympy.Symbol("q")])
def test_what_is_not_one_number_is_refused(value):
    for check in (lambda: checks.number("x", value, one=True), lambda: checks.floats(x=value)):
        with pytest.raises(ValueError, match="x must be"):
            check()


def test_extents_of_arrays_have_a_ceiling():
    assert checks.counts(n=2**31 - 1) == [2**31 - 1]
    with pytest.raises(ValueError, match="n must be at most 2147483647, got 2147483648"):
        checks.counts(n=2**31)
    with pytest.raises(ValueError, match="n must be at most 4, got 5"):
        checks.count("n", 5, at_most=4)


def test_what_can_be_gone_through_is_listed():
    assert checks.listed(x for x in (1, 2)) == checks.listed((1, 2)) == checks.listed({1: "a", 2: "b"}.keys()) == [1, 2]
    assert [checks.listed(value) for value in ("ab", b"ab", 3, np.array(1.0), jax.random.key(0))] == [None] * 5


@pytest.mark.parametrize("wide", [False, True])
def test_a_number_that_is_squared_has_a_square(wide):
    kind = jnp.float64 if wide else jnp.float32
    with jax.enable_x64(wide):
        for value, outside in ((2e-154, 5e-155), (1e154, 4e154)) if wide else ((2e-19, 5e-20), (1e19, 4e19)):
            checks.squarable("r", value, kind)
            assert fd.constraints.Circle(value).radius == value
            with pytest.raises(ValueError, match=re.escape(f"hold its square, got {outside:g}: measure θ in another")):
                checks.squarable("r", outside, kind)
            with pytest.raises(ValueError, match=r"radius must be .* as .. bits hold its square"):
                fd.constraints.Circle(outside)
            with pytest.raises(ValueError, match=r"radius must be .* as .. bits hold its square"):
                fd.constraints.Sphere(outside)


# --- numbers of SymPy, and whole ones without end, where a user may give them -----------------------------------

WELLS = fd.Landscape.from_expression("((x**2 - 1)**2 + 2*y**2)/4", "x y", box=[(-2, 2), (-2, 2)])
DESCENT = fd.Iteration(WELLS, fd.GD(0.1))


def test_an_exact_number_is_its_float():
    """SymPy's numbers are numbers: what they are asked of gives the same bits as with their floats."""
    half = sympy.Rational(1, 2)
    passage = [escape.mean_first_passage_1d(lambda x: x**2, d, (-1.0, 1.0), 0.0) for d in (half, 0.5)]
    assert passage[0] == passage[1]
    runs = [fd.simulate(DESCENT, [0.5, 0.25], 3, bound=b, progress=False) for b in (half + 1, 1.5)]
    assert runs[0].config == runs[1].config
    noise = [fd.noise.Gaussian(scale, batch) for scale, batch in ((half, sympy.Integer(2)), (0.5, 2.0))]
    assert noise[0] == noise[1]
    assert fd.noise.Curvature(half) == fd.noise.Curvature(0.5)


def test_a_box_may_be_an_array():
    """Static parts of a program are compared: arrays can't be."""
    maps = [fd.Map(jnp.sin, 2, box) for box in (np.array([[-2, 2], [-2.0, 2]]), [(-2, 2), (-2, 2)])]
    assert maps[0].box == maps[1].box == ((-2.0, 2.0), (-2.0, 2.0))
    assert len(fd.simulate(maps[0], [0.5, 0.25], 2, progress=False).theta) == 3


HUGE = {
    "dim": lambda n: fd.Landscape.from_function(jnp.sum, dim=n),
    "k": lambda n: fd.Multirate(0.1, (True, False), k=n),
    "rates": lambda n: fd.Multirate(0.1, blocks=((True, False), (False, True)), rates=(1, n)),
    "batch_size": lambda n: fd.noise.FiniteSum(n),
    "period": lambda n: fixedpoints.find(DESCENT, period=n),
    "width": lambda n: fd.networks.BatchNorm(n),
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("number", [2**63, 10**400])
def test_absurd_counts_are_refused(name, number):
    with pytest.raises(ValueError, match=rf"{name} must be at most "):
        HUGE[name](number)


def beyond_32_bits():
    box, far = [(-1e40, 1e40)] * 2, {"a": (1e40, 0.0), "b": (0.0, 0.0)}
    basins = {"max_steps": 20, "progress": False}
    return {
        "box": lambda: fd.map_basins(DESCENT, box, 4, **basins),
        "attractors' points": lambda: fd.map_basins(DESCENT, resolution=4, attractors=far, **basins),
        "radius + spread of an attractor": lambda: fd.map_basins(
            DESCENT, resolution=4, attractors={"a": (1.0, 0.0)}, radius=1e20, **basins
        ),
        "the root of covariance": lambda: fd.noise.Gaussian(covariance=[[1e80, 0.0], [0.0, 1.0]]),
        "the root of matrix": lambda: fd.noise.Curvature(matrix=[[1e80, 0.0], [0.0, 1.0]]),
        "lr": lambda: fd.Extended(DESCENT, ["lr"]).starts([0.5, 0.25], lr=1e40),
        "mask": lambda: fd.masks.union((1e40, True), (True, False)),
        "rho": lambda: curvature.sharpness(WELLS, [0.5, 0.25], 1e40),
        "beyond": lambda: curvature.slice1d(WELLS, [-1.0, 0.0], [1.0, 0.0], beyond=1e40),
        "reach": lambda: curvature.slice2d(WELLS, [0.5, 0.25], [[1.0, 0.0], [0.0, 1.0]], reach=1e40),
    }


@pytest.mark.parametrize("name", beyond_32_bits())
def test_what_32_bits_do_not_hold_is_refused_there(name):
    with jax.enable_x64(False), pytest.raises(ValueError, match=re.escape(name) + " must be .*32 bits.*jax_enable_x64"):
        beyond_32_bits()[name]()


def test_what_no_steps_or_positions_resolve_is_refused():
    noisy, line = fd.noise.Gaussian(0.5), fd.Landscape.from_expression("w**2", "w", box=[(-2, 2)])
    sides = fd.Iteration(line, fd.GD(0.1), noisy), fd.flows.Diffusion(line, fd.GD(0.1), noisy)
    steep = fd.Iteration(fd.Landscape.from_expression("w**4", "w", box=[(-2, 2)]), fd.GD(0.1), noisy)
    for time in (1e300, 1e-300):
        with pytest.raises(ValueError, match=re.escape("time must be from 1 to 2**31 - 1 steps of lr, got")):
            fd.weak.simulated_error(*sides, lambda t: t[:, 0], [0.5], time, 8, jax.random.key(0))
    with pytest.raises(
        ValueError, match=r"spacing must be at least .*, the rounding of positions in the box, got 1e-200"
    ):
        fd.invariant_manifold(DESCENT, [0.0, 0.0], "unstable", spacing=1e-200)
    with pytest.raises(ValueError, match=r"interval must be where steps are finite, got \(-1e\+200, 1e\+200\)"):
        fd.transfer.expectation(steep, [jnp.sin], 0.5, 2, (-1e200, 1e200), panels=4)


def test_limits_beyond_32_bits_are_none():
    with jax.enable_x64(False):
        runs = [fd.simulate(DESCENT, [0.5, 0.25], 3, bound=b, tol=0.0, progress=False) for b in (1e300, 1e30)]
    assert runs[0].theta.tolist() == runs[1].theta.tolist()
    assert runs[0].status == runs[1].status


@pytest.mark.parametrize("error", [ValueError, TypeError, AttributeError, IndexError, KeyError])
def test_a_users_function_that_fails_is_named(error):
    def fails(*arguments):
        raise error("mine")

    with pytest.raises((ValueError, TypeError), match=r"predicate failed for .*mine"):
        fd.masks.where({"w": np.ones(2)}, fails)


@pytest.mark.parametrize("bad", [fd.escape.Ball([0.0, 0.0], 1.0), [np.nan, 1.0], [np.inf, 0.0], [10**400, 1]])
def test_a_mask_holds_finite_weights(bad):
    for use in (fd.masks.complement, lambda mask: fd.SAM(0.1, 0.1, mask=mask)):
        with pytest.raises(ValueError, match="mask must"):
            use(bad)


def test_a_minibatch_fits_into_memory():
    examples = fd.Landscape.from_examples("(a*x - b)**2", {"a": [1.0, 2.0], "b": [0.0, 1.0]}, symbols="x")
    with pytest.raises(ValueError, match=r"a minibatch would take .*: take a smaller `batch_size`, or `micro_size`"):
        fd.Iteration(examples, fd.GD(0.1), fd.noise.FiniteSum(2**31 - 1))


def test_examples_may_be_exact_numbers():
    exact = [sympy.Rational(1, 2), 2, 10**20]
    made = fd.Landscape.from_examples("a*x**2", {"a": exact}, symbols="x")
    assert np.asarray(made.examples["a"]).tolist() == np.array([0.5, 2, 1e20]).astype(made.examples["a"].dtype).tolist()
    with pytest.raises(ValueError, match="examples must be arrays of numbers"):
        fd.Landscape.from_examples("a*x**2", {"a": [sympy.Symbol("q")]}, symbols="x")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8])
def test_a_vector_of_another_type_is_multiplied_by_the_hessian(kind):
    found = curvature.hessian_product(WELLS, jnp.array([0.5, 0.25]), np.array([1, 2], kind))
    expected = WELLS.hessian(jnp.array([0.5, 0.25])) @ jnp.array([1.0, 2.0])
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # rounding of 32 bits, in which some sessions are


def test_what_is_no_tree_of_parameters_has_no_largest_ones():
    with pytest.raises(ValueError, match="scores must be a tree of arrays"):
        fd.masks.largest(fd.noise.Gaussian([0.1, 0.2, 0.3]), 1)
