"""Odd values to put in the place of an argument: wrong kinds, wrong numbers, wrong shapes, functions that misbehave.

Each has a name, by which a call can be repeated, and is made anew for each call: from the fixtures, or from the value
that it takes the place of.
"""

from __future__ import annotations

import decimal
import fractions
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

import flatdyn as fd

PLAIN = {
    "None": None,
    "'0.1'": "0.1",
    "''": "",
    "'nan'": "nan",
    "b'x'": b"x",
    "True": True,
    "False": False,
    "0": 0,
    "-1": -1,
    "1": 1,
    "3": 3,
    "10**20": 10**20,
    "10**400": 10**400,
    "-0.5": -0.5,
    "0.5": 0.5,
    "1.5": 1.5,
    "1e300": 1e300,
    "1e-300": 1e-300,
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "1j": 0.1 + 1j,
    "Decimal": decimal.Decimal("0.1"),
    "Fraction": fractions.Fraction(1, 10),
    "sympy 1/3": sympy.Rational(1, 3),
    "sympy sqrt(2)": sympy.sqrt(2),
    "sympy symbol": sympy.Symbol("q"),
    "sympy nan": sympy.nan,
    "sympy oo": sympy.oo,
    "sympy I": sympy.I,
    "np.uint8(3)": np.uint8(3),
    "np.int8(-1)": np.int8(-1),
    "np.float16(0.1)": np.float16(0.1),
    "np.float32(0.1)": np.float32(0.1),
    "np.bool_": np.bool_(True),
    "np.complex64": np.complex64(1j),
    "np.str_": np.str_("x"),
    "datetime64": np.datetime64("2020-01-01"),
    "()": (),
    "[]": [],
    "{}": {},
    "set": {1.0, 2.0},
    "ragged": [[1.0, 2.0], [3.0]],
    "[[0.1]]": [[0.1]],
    "[0.1, None]": [0.1, None],
    "['a', 'b']": ["a", "b"],
    "(0, 1)": (0, 1),
    "(1, 0)": (1.0, 0.0),
    "(0, inf)": (0.0, np.inf),
    "range": range(3),
    "dict": {"a": 1.0},
    "dict of arrays": {"w": np.ones(2), "b": np.zeros(1)},
    "object()": object(),
    "Ellipsis": ...,
    "slice": slice(2),
    "type": float,
    "module": np,
    "Path": pathlib.Path("nowhere") / "at all",
    "zero key word": "key",
}

ARRAYS = {
    "0-d": lambda: np.array(0.1),
    "0-d jax": lambda: jnp.array(0.1),
    "(1,)": lambda: np.array([0.1]),
    "(2,) jax": lambda: jnp.array([0.1, 0.2]),
    "(3,)": lambda: np.array([0.1, 0.2, 0.3]),
    "(0,)": lambda: np.zeros(0),
    "(0, 2)": lambda: np.zeros((0, 2)),
    "(2, 3, 4)": lambda: np.zeros((2, 3, 4)),
    "ints": lambda: np.array([0, 1]),
    "uint8": lambda: np.array([0, 1], np.uint8),
    "bools": lambda: np.array([True, False]),
    "complex": lambda: np.array([0.1, 1j]),
    "nans": lambda: np.array([np.nan, 0.1]),
    "objects": lambda: np.array([None, "a"], dtype=object),
    "texts": lambda: np.array(["a", "b"]),
    "float16": lambda: np.array([0.1, 0.2], np.float16),
    "masked": lambda: np.ma.array([0.1, 0.2], mask=[True, False]),
    "matrix": lambda: np.array([[1.0, 2.0], [2.0, 1.0]]),
    "not symmetric": lambda: np.array([[1.0, 2.0], [0.0, 1.0]]),
    "generator": lambda: (x for x in (0.1, 0.2)),
}


def _fails(x):
    raise ZeroDivisionError("a fault of the user's own function")


FUNCTIONS = {
    "f()": lambda: 0.1,
    "f(x)=x": lambda x: x,
    "f(x,y)": lambda x, y: x,
    "f(**k)": lambda **named: 0.1,
    "f(x)=None": lambda x: None,
    "f(x)='a'": lambda x: "a",
    "f(x)=nan": lambda x: float("nan"),
    "f(x)=x[0]": lambda x: x[0],
    "f(x)=nan*x": lambda x: x * jnp.nan,
    "f(x)=[x,x]": lambda x: [x, x],
    "f(x)=x[7:]": lambda x: x[7:],
    "f(x)=1j*x": lambda x: 1j * x,
    "f(x)=True": lambda x: True,
    "f(x)=0": lambda x: 0,
    "f(x)=float(x)": lambda x: float(x),
    "f(x)=if x": lambda x: 1.0 if x else 0.0,
    "f(x)=np.array(x)": lambda x: np.asarray(x).sum(),
    "f fails": _fails,
    "print": print,
}

KEYS = {
    "key": lambda: jax.random.key(3),
    "raw key": lambda: jax.random.PRNGKey(3),
    "keys": lambda: jax.random.split(jax.random.key(3), 2),
    "raw keys": lambda: jax.random.split(jax.random.PRNGKey(3), 2),
    "rbg key": lambda: jax.random.key(3, impl="rbg"),
    "np key": lambda: np.array([0, 3], np.uint32),
    "seed": lambda: 3,
}

THINGS = {
    "process": lambda f: f.process,
    "noisy process": lambda f: f.noisy,
    "map": lambda f: f.map,
    "flow": lambda f: f.flow,
    "method": lambda f: fd.SAM(0.1, 0.1),
    "method class": lambda f: fd.GD,
    "landscape": lambda f: f.L,
    "landscape on a line": lambda f: f.line,
    "landscape of a function": lambda f: f.function,
    "landscape with a symbol": lambda f: f.symbolic,
    "noise": lambda f: fd.noise.Gaussian(0.1),
    "noise class": lambda f: fd.noise.Gaussian,
    "noise of another width": lambda f: fd.noise.Gaussian([0.1, 0.2, 0.3]),
    "finite sum": lambda f: fd.noise.FiniteSum(2),
    "epochs": lambda f: fd.noise.Epochs(2),
    "ensemble": lambda f: f.ensemble,
    "basins": lambda f: f.basins,
    "region": lambda f: fd.escape.Ball([0.0, 0.0], 1.0),
    "region of another width": lambda f: fd.escape.Ball([0.0, 0.0, 0.0], 1.0),
    "constraint": lambda f: fd.constraints.Circle(1.0),
    "network": lambda f: f.network,
    "equinox network": lambda f: eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0)),
    "task": lambda f: f.task,
    "split": lambda f: f.split,
    "pair": lambda f: (np.zeros((4, 2)), np.array([0, 1, 0, 1])),
    "saddle": lambda f: f.saddle,
    "axes": lambda f: f.ax,
    "vector": lambda f: fd.core.algebra.Vector((0.1, 0.2)),
    "tree": lambda f: eqx.filter(f.network, eqx.is_inexact_array),
}


def _array(x):
    return np.asarray(x, dtype=float)


FROM_IT = {  # made from the right value
    "it as text": str,
    "it in a list": lambda x: [x],
    "it twice": lambda x: [x, x],
    "its class": type,
    "its negative": lambda x: -x,
    "it as ints": lambda x: _array(x).astype(int),
    "it in 32 bits": lambda x: _array(x).astype(np.float32),
    "it in 16 bits": lambda x: _array(x).astype(np.float16),
    "it as complex": lambda x: _array(x) + 0j,
    "it as objects": lambda x: np.asarray(x, dtype=object),
    "it with nan": lambda x: _array(x) * np.where(np.arange(np.size(x)).reshape(np.shape(x)) == 0, np.nan, 1),
    "it with inf": lambda x: _array(x) + np.where(np.arange(np.size(x)).reshape(np.shape(x)) == 0, np.inf, 0),
    "it with an axis": lambda x: _array(x)[None],
    "it with two axes": lambda x: _array(x)[None, None],
    "it without its last": lambda x: _array(x)[..., :-1],
    "it with one more": lambda x: np.concatenate([_array(x), _array(x)[..., :1]], axis=-1),
    "it reversed": lambda x: x[::-1],
    "it transposed": lambda x: _array(x).T,
    "its first": lambda x: x[0],
    "it scaled up": lambda x: _array(x) * 1e200,
    "it scaled down": lambda x: _array(x) * 1e-200,
    "it as a list": lambda x: np.asarray(x).tolist(),
    "it as a dict": lambda x: {"value": x},
}

NAMES = (
    [("plain", n) for n in PLAIN]
    + [("array", n) for n in ARRAYS]
    + [("function", n) for n in FUNCTIONS]
    + [("key", n) for n in KEYS]
    + [("thing", n) for n in THINGS]
    + [("from", n) for n in FROM_IT]
)


def make(kind: str, name: str, right, fixtures):
    """The odd value; raises whatever if it can't be made from the right one."""
    if kind == "plain":
        return PLAIN[name]
    if kind == "array":
        return ARRAYS[name]()
    if kind == "function":
        return FUNCTIONS[name]
    if kind == "key":
        return KEYS[name]()
    if kind == "thing":
        return THINGS[name](fixtures)
    return FROM_IT[name](right)
