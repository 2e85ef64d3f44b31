"""What tells one question's files from another's: each thing that an answer depends on, changed by itself."""

import ast
import collections
import dataclasses
import functools
import itertools
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from jax.experimental import io_callback

import flatdyn as fd
from flatdyn import records
from flatdyn.basins import Mapper, attractors, fractions
from flatdyn.core.hashing import identity
from flatdyn.runs import fingerprints

KEY = jax.random.key(0)
L = fd.landscapes.saddle((2.0, -2.0))


def module(**values):
    """A module of the user's own, as it is after its values were set."""
    made = types.ModuleType("settings_of_mine")
    made.__file__ = __file__
    vars(made).update(values)
    return made


# --- one thing at a time: each of these takes 0 or 1 ----------------------------------------------------------


def moved(function, dim=2):
    return fingerprints.of_process(fd.Map(function, dim))


def lost(loss):
    return fingerprints.of_process(fd.Iteration(fd.Landscape.from_function(loss, 2), fd.GD(0.1)))


def asked(thing):
    return identity(lambda process, key: thing)


def inside_jit(v):
    A = jnp.array([1.0, 2.0 + v])
    return moved(jax.jit(lambda t: t - A))


def inside_two_jits(v):
    A = jnp.array([1.0, 2.0 + v])
    inner = jax.jit(lambda t: t - A)
    return moved(jax.jit(lambda t: 2 * inner(t)))


def jitted_loss(v):
    A = jnp.array([1.0, 1.0 + v])
    return lost(jax.jit(lambda t: jnp.sum((t - A) ** 2)))


def filter_jitted_loss(v):
    A = jnp.array([1.0, 1.0 + v])
    return lost(eqx.filter_jit(lambda t: jnp.sum((t - A) ** 2)))


def numpy_in_a_loop(v):
    A = np.array([1.0, 1.0 + v])
    return moved(lambda t: jax.lax.fori_loop(0, 3, lambda i, t: t + jnp.asarray(A), t))


def scan_body(v):
    A = jnp.array([0.0, v])
    return moved(lambda t: jax.lax.scan(lambda t, _: (t + A, None), t, length=2)[0])


def while_condition(v):
    A = jnp.array([1.0 + v, 1.0])
    return moved(lambda t: jax.lax.while_loop(lambda t: (t < A).all(), lambda t: t + 1, t))


def branch(v):
    A = jnp.array([v, 0.0])
    return moved(lambda t: jax.lax.cond(t[0] > 0, lambda t: t + A, lambda t: t, t))


def mapped(v):
    A = jnp.array([v, 0.0])
    return moved(lambda t: jax.lax.map(lambda one: one + A, t[None])[0])


def checkpointed(v):
    A = jnp.array([v, 0.0])
    return lost(jax.checkpoint(lambda t: jnp.sum((t - A) ** 2)))


def rule_of_a_derivative(v):
    @jax.custom_jvp
    def loss(t):
        return jnp.sum(t**2)

    loss.defjvp(lambda at, along: (loss(*at), jnp.sum(along[0]) * (1.0 + v)))
    return lost(loss)


def rule_backwards(v):
    @jax.custom_vjp
    def loss(t):
        return jnp.sum(t**2)

    loss.defvjp(lambda t: (loss(t), t), lambda t, g: (g * t * (1.0 + v),))
    return lost(jax.jit(loss))


def value_under_a_rule(v):
    A = jnp.array([v, 0.0])

    @jax.custom_jvp
    def add(t):
        return t + A

    add.defjvp(lambda at, along: (add(*at), along[0]))
    return moved(add)


def same_gradient(v):
    return lost(lambda t: jnp.sum(t**2) + v)


def one_entry_of_many(v):
    table = np.zeros(5000)
    table[2500] = v
    return moved(lambda t: t + jnp.asarray(table)[2499:2501])


def last_bit(v):
    return moved(lambda t: t * np.nextafter(0.1, v))


def kind_of_a_constant(v):
    table = np.ones(2, (np.float64, np.float32)[v])
    return moved(lambda t: t + jnp.asarray(table))


def a_number_of_the_method(v):
    return fingerprints.of_process(fd.Iteration(L, fd.SAM(0.1, 0.1 + v * 1e-15)))


def an_array_of_the_method(v):
    return fingerprints.of_process(fd.Iteration(L, fd.GD(jnp.asarray(0.1 + v))))


def which_number(v):
    return fingerprints.of_process(fd.Iteration(L, fd.SAM(*((0.1, 0.2), (0.2, 0.1))[v])))


def ascent(v):
    return fingerprints.of_process(fd.Iteration(L, fd.SAM(0.1, 0.1), fd.noise.Gaussian(1.0), ("shared", "full")[v]))


def noise(v):
    return fingerprints.of_process(fd.Iteration(L, fd.GD(0.1), fd.noise.Gaussian(1.0, 1 + v)))


def precision_of_the_runs(v):
    return fingerprints.of_process(fd.Iteration(L, fd.GD(0.1)), (np.float64, np.float32)[v])


def precision_of_the_session(v):
    with jax.enable_x64(not v):
        return fingerprints.of_process(fd.Iteration(L, fd.GD(0.1)), np.float32)


def precision_of_products(v):
    with jax.default_matmul_precision(("bfloat16", "float32")[v]):
        return fingerprints.of_process(fd.Iteration(L, fd.GD(0.1)))


class Seen(fd.Process):
    dim = 2
    where: float = 1.0
    limit: float = 1.0

    def init(self, theta):
        return theta

    def step(self, state, key=None):
        return 0.5 * state

    def position(self, state):
        return state * jnp.where(self.where > 1, 3.0, 2.0)

    def possible(self, state):
        return (state < self.limit).all()


def position(v):
    class Other(Seen):
        def position(self, state):
            return state * (1.0 + v)

    return fingerprints.of_process(Other())


def possible(v):
    class Other(Seen):
        def possible(self, state):
            return (state < 1.0 + v).all()

    return fingerprints.of_process(Other())


def region(v):
    A = jnp.array([1.0, 1.0 + v])
    return fingerprints.of_function(jax.jit(lambda t: (t < A).all()), 2)


def radius_of_a_region(v):
    return fingerprints.of_function(fd.escape.Ball((0.0, 0.0), 1.0 + v * 1e-15), 2)


def box(v):
    landscape = fd.Landscape.from_expression("x**2", "x", box=((-2.0, 2.0 - v),))
    return fingerprints.Traces().all_of(fd.Iteration(landscape, fd.GD(0.1)))


def field_that_no_step_uses(v):
    class Other(Seen):
        note: str = eqx.field(static=True, default="")

    return fingerprints.Traces().all_of(Other(note="ab"[v]))


def method_that_no_step_uses(v):
    class Other(Seen):
        def target(self):
            return 1.0 + v

    return fingerprints.Traces().all_of(Other())


def field_equal_to_another(v):
    class Other(Seen):
        note: float = eqx.field(static=True, default=1)

    return fingerprints.Traces().all_of(Other(note=(1, 1.0)[v]))


def layers(v):
    data = fd.networks.spirals(6, 1.0)
    task = fd.networks.classifier(fd.networks.MLP((2, 3 + v, 2), KEY), data)
    return asked(task.landscape)


def activation(v):
    def steep(x):
        return jnp.tanh(x * (1.0 + v))

    return asked(fd.networks.MLP((2, 3, 2), KEY, activation=steep))


def structure_of_a_tree(v):
    return asked(jax.tree.structure({"ab"[v]: (1, None)}))


def of_a_class(v):
    class Limits:
        most = 1.0 + v

    return identity(lambda process, key: Limits.most)


def of_a_property(v):
    class Limits(NamedTuple):
        most: float = 1.0

        @property
        def twice(self):
            return self.most * (2.0 + v)

    return asked(Limits())


def of_class_methods(v):
    class Limits:
        @classmethod
        def most(cls):
            return 1.0 + v

        @staticmethod
        def least():
            return 0.0

    return identity(lambda process, key: Limits.most())


def of_an_item_method(v):
    @dataclasses.dataclass
    class Limits:
        most: float = 1.0

        def __getitem__(self, name):
            return self.most + v

    return asked(Limits())


def besides_its_fields(v):
    @dataclasses.dataclass
    class Limits:
        most: float = 1.0

        def __post_init__(self):
            self.least = v

    return asked(Limits())


def of_a_module(v):
    settings = module(limit=1.0 + v)
    return identity(lambda process, key: settings.limit)


def of_a_module_inside(v):
    settings = module(inner=module(limit=1.0 + v))
    return identity(lambda process, key: settings.inner.limit)


def of_a_modules_function(v):
    settings = module(limit=lambda: 1.0 + v)
    return identity(lambda process, key: settings.limit())


def imported_inside(v):
    sys.modules["settings_of_mine"] = module(limit=1.0 + v)

    def ask(process, key):
        import settings_of_mine

        return settings_of_mine.limit

    return identity(ask)


def attribute_of_a_function(v):
    def ask(process, key):
        return ask.limit

    ask.limit = 1.0 + v
    return identity(ask)


def vectorised(v):
    return asked(np.vectorize(lambda x: x + v, otypes=[float]))


def second_derivative(v):
    @jax.custom_jvp
    def square(t):
        return t * t

    square.defjvp(lambda at, along: (square(*at), along[0] * (2.0 + v)))
    return asked(square)


def method_of_a_list(v):
    return asked([1, 2 + v].count)


def mask(v):
    return asked(np.ma.masked_array([1.0, 2.0], [False, bool(v)]))


def digits_of_an_expression(v):
    return asked(sympy.Float("0.1", 30) + v * sympy.Float("1e-25", 30) + sympy.Symbol("x"))


def assumptions(v):
    return asked(sympy.Symbol("x", real=bool(v)))


def pattern(v):
    import re

    return asked(re.compile("a" * 300 + "bc"[v]))


def entry_of_a_set(v):
    return asked({"a", "b", "c", ("d", 1 + v)})


def order_of_a_dict(v):
    return asked(({"a": 1, "b": 2}, {"b": 2, "a": 1})[v])


def kind_of_a_key(v):
    return asked(jax.random.key(0, impl=("rbg", "unsafe_rbg")[v]))


def entry_of_a_matrix(v):
    return asked(sympy.Matrix([[1, 2 + v]]))


def last_of_a_queue(v):
    return asked(collections.deque([1, 2 + v]))


def spread_of_an_attractor(v):
    band = attractors.Attractor("band", np.zeros(1), "band", 0, np.zeros((1, 1)), 0.1 + v)
    return attractors.digests([band], [], 1, float, None)[0]


def sampled(sampler=((-1.0, 1.0),), rules=(), ends=None):
    gd = fd.Iteration(fd.Landscape.from_expression("x**2", "x"), fd.GD(0.1))
    return fractions._Kept("unused", None)._word(Mapper(gd, ends, **dict(rules)), np.zeros((2, 1)), sampler, KEY)


def box_of_a_sampler(v):
    return sampled(((-1.0, 1.0 + v),))  # from which the same starts may have come


def rule_of_a_sample(v):
    return sampled(rules={"radius": 0.1 + v * 1e-15})


def region_of_a_sample(v):
    return sampled(ends={"right": jax.jit(lambda theta: theta[0] > v)})


def weak_type(v):
    return asked(jnp.asarray(1.0) if v else jnp.asarray(1.0, jnp.float64))


CASES = {name: case for name, case in list(globals().items()) if getattr(case, "__code__", None) is not None}
CASES = {name: case for name, case in CASES.items() if case.__code__.co_varnames[: case.__code__.co_argcount] == ("v",)}


@functools.cache
def here(name):
    return CASES[name](0)


@pytest.mark.parametrize("name", CASES)
def test_one_thing_changed_is_another_question_and_nothing_changed_is_the_same(name):
    assert CASES[name](0) == here(name)  # everything made anew
    assert CASES[name](1) != here(name)


def test_words_are_the_same_in_a_new_process():
    code = (
        "import jax; jax.config.update('jax_enable_x64', True); import sys; sys.path.insert(0, sys.argv[1]);"
        "import test_identity as t; print({name: case(0) for name, case in t.CASES.items()})"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    env = os.environ | {"PYTHONHASHSEED": "7", "JAX_PLATFORMS": "cpu"}
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert {name for name, word in ast.literal_eval(printed).items() if word != here(name)} == set()


def test_functions_of_libraries_are_known_by_name_and_their_arguments():
    things = [np.sin, np.add, jnp.sin, jnp.add, jax.nn.relu, jax.nn.gelu, jax.vmap(jnp.sin), jax.grad(jnp.sin), len]
    things += [L, fd.Iteration(L, fd.GD(0.1)), fd.simulate, fd.SAM, np.linalg.norm, fd.escape.Ball((0.0,), 1.0)]
    words = [asked(thing) for thing in things]
    assert len(set(words)) == len(things)


def test_many_functions_that_call_each_other_are_looked_at_once():
    names = {}
    for i in range(60):  # in another order of looking this takes for ever
        exec(f"def f{i}(x): return {' + '.join(f'f{j}(x)' for j in range(60) if j != i)}", names)
    assert identity(names["f0"]) != identity(names["f1"])


# --- what can't be seen ---------------------------------------------------------------------------------------


def called_back(t):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(t.shape, t.dtype), t)


def in_order(t):
    return io_callback(np.sin, jax.ShapeDtypeStruct(t.shape, t.dtype), t)


class Wrapper:
    """Looks like the function it wraps and is another."""

    def __init__(self, function, scale):
        self.scale = scale
        functools.update_wrapper(self, function)

    def __call__(self, x):
        return self.scale * self.__wrapped__(x)


@pytest.mark.parametrize("function", [called_back, in_order, jax.jit(called_back)])
def test_a_callback_asks_for_a_version(function):
    for version in (3, 10**20, b"1"):
        with pytest.raises(TypeError, match="version must be a text, got"):
            fingerprints.of_process(fd.Map(lambda t: t, dim=2), version=version)
        with pytest.raises(TypeError, match="version must be a text, got"):
            identity(function, version)
    process = fd.Map(function, 2)
    with pytest.raises(ValueError, match=r"the store cannot tell .* give version='1'"):
        fingerprints.of_process(process)
    words = [fingerprints.of_process(process, version=version) for version in "112"]
    assert words[0] == words[1] != words[2]
    other = fd.Map(lambda t: 2 * function(t), 2)  # what can be seen is looked at still
    assert fingerprints.of_process(other, version="1") != words[0]


def test_printing_is_no_part_of_a_question():
    def printing(t):
        jax.debug.print("{}", t)
        return t

    assert fingerprints.of_process(fd.Map(printing, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: open(__file__),  # noqa: SIM115, closed below
        lambda: np.random.default_rng(0),
        lambda: np.random.default_rng(0).normal,
        lambda: threading.Lock(),
        lambda: iter([1]),
        lambda: itertools.count(),
        lambda: Wrapper(np.sin, 2.0),
        lambda: np.frompyfunc(lambda x: x, 1, 1),
        lambda: object.__new__(type("Mine", (), {})),
    ],
)
def test_an_object_that_hides_something_asks_for_a_version(make):
    thing = make()

    def ask(process, key):
        return thing

    with pytest.raises(ValueError, match=r"cannot tell thing in ask.*version='1'"):
        identity(ask)
    assert identity(ask, "1") != identity(ask, "2")
    if hasattr(thing, "close"):
        thing.close()


def test_only_texts_and_numbers_have_a_digest():
    with pytest.raises(TypeError, match="only texts and arrays of numbers"):
        records.digest(None)  # the bytes of such an array are an address
