import jax
import jax.numpy as jnp
import numpy as np
import sympy
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from flatdyn.core.algebra import Length, Vector, norm, plain

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5)


@given(numbers, st.floats(-1e3, 1e3))
def test_vector_acts_as_the_array_of_its_components(values, factor):
    a = np.array(values)
    b = a[::-1] + 1
    v, w = Vector(tuple(a)), Vector(tuple(b))
    for vector, array in [
        (v + w, a + b),
        (v - w, a - b),
        (v * w, a * b),
        (factor * v, factor * a),
        (v * factor, a * factor),
        (np.float64(factor) * v, factor * a),
        (factor - v, factor - a),
        (np.float64(factor) - v, factor - a),
        (-v, -a),
        (abs(v), abs(a)),
    ]:
        assert_array_equal(vector.components, array)
    # n terms of one rounding each
    assert_allclose(v @ w, a @ b, rtol=1e-12, atol=1e-14 * np.abs(a * b).sum())


def test_the_inner_product_runs_over_a_whole_tree():
    tree = {"weight": jnp.arange(6.0).reshape(2, 3), "bias": jnp.array([1.0, 2.0])}
    assert Vector(tree) @ Vector(tree) == 55 + 5


def test_a_jax_scalar_times_a_vector_is_a_vector():
    assert isinstance(jnp.float64(2.0) * Vector((1.0, 2.0)), Vector)
    assert isinstance(sympy.Symbol("a") * Vector((1, 2)), Vector)


def test_norm_is_the_length_and_one_where_there_is_none():
    assert norm(jnp.array([3.0, 4.0])) == 5
    assert norm(jnp.array([3.0, 4.0]), 0.5) == 5.5
    assert norm(jnp.zeros(2)) == 1
    assert norm(jnp.zeros(2), 0.5) == 0.5
    x, y = sympy.symbols("x y", real=True)
    assert plain(norm(Vector((x, y)), 0)) == sympy.sqrt(x**2 + y**2)


def test_the_direction_has_the_exact_derivative_where_it_has_one():
    def direction(v, eps):
        return v / norm(v, eps)

    v = jnp.array([3.0, 4.0])
    unit = v / 5
    exact = (jnp.eye(2) - jnp.outer(unit, unit)) / 5
    assert_allclose(jax.jacfwd(direction)(v, 0.0), exact, atol=1e-16)
    # smoothed, at the origin: I/ε
    assert_allclose(jax.jacfwd(direction)(jnp.zeros(2), 0.25), 4 * jnp.eye(2), atol=0)
    assert_allclose(jax.jacrev(direction)(jnp.zeros(2), 0.25), 4 * jnp.eye(2), atol=0)


def test_the_direction_at_the_origin_has_no_derivative_and_says_nan():
    assert np.isnan(jax.jacfwd(lambda v: v / norm(v))(jnp.zeros(2))).all()


def test_symbolic_length_differentiates_like_the_square_root():
    s = sympy.Symbol("s", positive=True)
    for order in (1, 2):
        assert plain(Length(s).diff(s, order)).equals(sympy.sqrt(s).diff(s, order))
    assert Length(sympy.Integer(0)) == 0
    assert Length(s).diff(s).subs(s, 0) == 0
