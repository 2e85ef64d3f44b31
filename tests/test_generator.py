"""Numbers of JAX's generator without its programs: the same numbers, and arrays on the device without any program."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatdyn.core import generator, precision
from flatdyn.landscapes.parameters import Form

SEEDS = range(4)


@pytest.mark.parametrize("wide", [True, False])
def test_keys_are_jaxs(wide):
    with jax.enable_x64(wide):
        for seed in SEEDS:
            key = jax.random.key(seed)
            split = [jax.random.key_data(one) for one in generator.keys(key, 3)]
            assert_array_equal(split, jax.random.key_data(jax.random.split(key, 3)))
            folded = jax.vmap(lambda i, key=key: jax.random.fold_in(key, i))(np.arange(3))
            assert_array_equal(jax.random.key_data(generator.folded(key, 3)), jax.random.key_data(folded))


def test_numbers_inside_a_program_are_those_outside():
    key = jax.random.key(1)
    inside = jax.jit(lambda key: jax.random.key_data(generator.keys(key, 3)[2]))(key)
    assert_array_equal(inside, jax.random.key_data(generator.keys(key, 3)[2]))


def test_a_key_of_another_generator_draws_by_it():
    key = jax.random.key(0, impl="rbg")
    assert_array_equal(generator.uniform(key, (9,), 0.5), jax.random.uniform(key, (9,), minval=-0.5, maxval=0.5))


@pytest.mark.parametrize("wide", [True, False])
def test_uniform_numbers_are_jaxs_but_for_a_rounding(wide):
    with jax.enable_x64(wide):
        for seed in SEEDS:
            found = np.asarray(generator.uniform(jax.random.key(seed), (20, 30), 1 / 3))
            expected = np.asarray(jax.random.uniform(jax.random.key(seed), (20, 30), minval=-1 / 3, maxval=1 / 3))
            # JAX rounds the product by itself where the processor has no instruction for both
            assert_allclose(found, expected, rtol=0, atol=np.finfo(found.dtype).eps / 3)
            assert found.dtype == expected.dtype
            assert (np.abs(found) <= found.dtype.type(1 / 3)).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_product_and_a_sum_are_rounded_once(kind):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        a, (b, c) = rng.uniform(size=300).astype(kind), rng.normal(size=2).astype(kind)
        for value, one in zip(generator._fused(a, b, c), a, strict=True):
            exact = Fraction(float(one)) * Fraction(float(b)) + Fraction(float(c))
            beside = [value, np.nextafter(value, kind(9)), np.nextafter(value, kind(-9))]
            assert min(beside, key=lambda x, exact=exact: abs(Fraction(float(x)) - exact)) == value


def test_arrays_reach_the_device_without_a_program():
    given = np.arange(17.0).reshape(17, 1)
    seen = []
    listener = lambda event, *_, **__: seen.append(event)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    kept = precision.on_device(given)
    single, whole, kind = precision.on_device(given, np.float32), precision.on_device([1, 2, 3]), precision.floating()
    assert not [event for event in seen if "compile" in event]
    jax.numpy.asarray(np.zeros((17, 2)))  # JAX's own way compiles: should it no longer do so, on_device can go
    assert [event for event in seen if "compile" in event]
    given[0] = 9
    assert_array_equal(kept, np.arange(17)[:, None])  # a copy
    assert precision.on_device(kept) is kept
    assert (single.dtype, whole.dtype) == (np.float32, jax.numpy.arange(3).dtype)
    assert kind == jax.numpy.zeros(1).dtype


def test_leaves_know_their_coordinates():
    tree = {"a": np.zeros((2, 3)), "b": np.zeros(4)}
    form = Form.of(None, jax.tree.map(precision.on_device, tree))
    numbers = form.numbers()
    assert_array_equal(numbers["a"], np.arange(6).reshape(2, 3))
    assert_array_equal(numbers["b"], np.arange(6, 10))
    assert_array_equal(form.flatten(numbers), np.arange(10))
