"""One source, two algebras: the vector that an update rule is written in, and its norm.

A rule uses ``+ - * / @``, ``abs`` and :func:`norm`. It does not depend on what a vector is made of: two
coordinates (fast, see below), one array, the parameters of a network, or SymPy symbols. The same source
line therefore runs in a simulation and yields the symbolic map whose Jacobian is taken.

A point of low dimension is kept as its separate coordinates, not as an array with a trailing axis of
length 2: under ``vmap`` every coordinate becomes one contiguous array over the runs, which XLA fuses into
one loop (about three times as fast as rows of an (N, 2) array; tests/benchmarks/bench_layout.py measures it).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy
from jax.flatten_util import ravel_pytree

from flatdyn.core import precision


@jax.tree_util.register_pytree_with_keys_class
class Vector:
    """A vector held as any tree of components; arithmetic acts on each of them.

        (a + b)ᵢ = aᵢ + bᵢ,   (a b)ᵢ = aᵢ bᵢ,   a @ b = Σᵢ aᵢ bᵢ

    The other operand is a Vector of the same tree, or one number for all components.

    Args:
        tree: components: a tuple of numbers, one array, SymPy expressions, the parameters of a network
    """

    __slots__ = ("tree",)
    __array_ufunc__ = None  # NumPy must hand `number * vector` to this class, not try it elementwise

    def __init__(self, tree: Any):
        self.tree = tree

    @property
    def components(self) -> list:
        """The components in a fixed order."""
        return jax.tree.leaves(self.tree)

    def map(self, function: Callable, *others: Vector) -> Vector:
        """A Vector of `function(component, components of the others ...)`."""
        return Vector(jax.tree.map(function, self.tree, *(other.tree for other in others)))

    def _combine(self, other: Any, operation: Callable) -> Vector:
        if isinstance(other, Vector):
            return self.map(operation, other)
        return self.map(lambda component: operation(component, other))

    def __add__(self, other):
        return self._combine(other, operator.add)

    def __sub__(self, other):
        return self._combine(other, operator.sub)

    def __mul__(self, other):
        return self._combine(other, operator.mul)

    def __truediv__(self, other):
        return self._combine(other, operator.truediv)

    def __rmul__(self, number):
        return self.map(lambda component: number * component)

    def __rsub__(self, number):
        return self.map(lambda component: number - component)

    def __rtruediv__(self, number):
        return self.map(lambda component: number / component)

    __radd__ = __add__

    def __neg__(self):
        return self.map(operator.neg)

    def __abs__(self):
        return self.map(abs)

    def __matmul__(self, other: Vector):
        products = self.map(lambda a, b: _total(a * b), other)
        return sum(products.components[1:], start=products.components[0])

    def __repr__(self) -> str:
        return f"Vector({self.tree!r})"

    def tree_flatten_with_keys(self):
        return ((jax.tree_util.GetAttrKey("tree"), self.tree),), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def _total(product):
    return product.sum() if getattr(product, "ndim", 0) else product


def norm(vector, eps=0.0):
    """Length of a vector, smoothed by `eps`, for use as a divisor.

        norm(v, ε) = ‖v‖ + ε,   and 1 where that is zero, so that v / norm(v) = 0 at v = 0

    `eps` is a parameter of the model, not a guard against a division by zero. With ε > 0 the direction v/(‖v‖+ε)
    has the derivative I/ε at v = 0, which :func:`flatdyn.stability.jacobian` then uses; with ε = 0 it has none,
    and differentiating it there gives NaN instead of a number that would be wrong.

    The squares are of v times a power of two, so they neither vanish nor overflow: any length is right that is itself
    a normal number. Components below the smallest normal number (1e-38 in 32 bits, 2e-308 in 64) count as zero.

    Args:
        vector: a :class:`Vector`, or an array of shape (dim,)
        eps: smoothing ε ≥ 0, in units of the vector
    """
    if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(vector)):
        return Length(vector @ vector) + eps
    s, unit = scaled(vector)
    return _divisor(unit @ unit, s, jnp.asarray(eps, s.dtype))


def is_coordinates(tree: Any) -> bool:
    """Whether a vector's components are single numbers, and not leaves of a network, which may be a tuple, too."""
    return isinstance(tree, tuple) and all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(tree))


def norm_of_each(vector, eps=0.0):
    """The :func:`norm` of every leaf of a vector, as a vector of these; one number for a point or an array."""
    if not isinstance(vector, Vector) or is_coordinates(vector.tree):
        return norm(vector, eps)
    return vector.map(lambda leaf: norm(Vector(leaf), eps))


def length_of_each(vector):
    """‖leaf‖ of every leaf of a vector, 0 where it is 0, as a vector of these; one number for a point or an array."""

    def length(part):
        divisor = norm(part)
        if isinstance(divisor, sympy.Basic):
            return divisor
        return jnp.where(sum(abs(leaf).sum() for leaf in jax.tree.leaves(part)) == 0, 0, divisor)

    if not isinstance(vector, Vector) or is_coordinates(vector.tree):
        return length(vector)
    return vector.map(lambda leaf: length(Vector(leaf)))


def largest(vector, *, each: bool = False):
    """sign(vᵢ) at the largest |vᵢ|, the first of several, and 0 elsewhere; `each`: so for every leaf by itself."""
    if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(vector)):
        raise TypeError("which coordinate is the largest has no symbol")
    if each and isinstance(vector, Vector) and not is_coordinates(vector.tree):
        return vector.map(largest)
    flat, back = ravel_pytree(vector)
    place = jnp.abs(flat).argmax()
    return back(jnp.zeros_like(flat).at[place].set(jnp.sign(flat[place])))


def scaled(*vectors):
    """A power of two that brings vectors to order one, and the vectors times it, which rounds nothing.

        s Σ |vᵢ| between 2 and 4, over the components of all of them, or less if they are tiny;   (s, s v, …)

    What does not depend on the common length of some vectors (an angle, which of them is longer, where a line is
    lowest) is computed from s v, whose products neither vanish nor overflow.
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(vectors)]
    dtype = jnp.result_type(*leaves)
    dtype = dtype if jnp.issubdtype(dtype, jnp.inexact) else precision.floating()
    numbers = jnp.finfo(dtype)
    # At v = 0 the scale stays far from overflow, so that tangents times s do too: squares of the smallest normal number
    # times it are normal. The opposite exponent is the one with all bits turned.
    least = np.ldexp(np.ones((), dtype), int(0.6 * numbers.minexp))
    size = sum(jnp.abs(leaf).sum() for leaf in leaves).astype(dtype) + least
    bits = np.dtype(f"uint{numbers.bits}").type
    exponent = bits(((1 << numbers.nexp) - 1) << numbers.nmant)
    s = jax.lax.bitcast_convert_type(~jax.lax.bitcast_convert_type(size, bits) & exponent, dtype)
    # Of constant vectors the compiler would otherwise make (s c)(s c) = s² c², which overflows.
    return s, *(jax.tree.map(lambda leaf: jax.lax.optimization_barrier(s * leaf), vector) for vector in vectors)


@jax.custom_jvp
def _divisor(square, s, eps):
    # A division, not a product with 1/s: XLA then ends a loop there, and the loops after it read the length in place of
    # computing it again.
    length = jnp.sqrt(square) / s + eps
    return jnp.where(length == 0, 1, length)


@_divisor.defjvp
def _divisor_jvp(primals, tangents):
    square, s, eps = primals
    length = jnp.sqrt(square)
    # At v = 0 the length has no derivative. Times v = 0 any finite number serves where ε > 0, and where ε = 0
    # the direction itself jumps: NaN says so.
    at_zero = jnp.where(eps > 0, 0.0, jnp.nan)
    slope = jnp.where(length > 0, 0.5 / jnp.where(length > 0, length, 1), at_zero)
    return _divisor(square, s, eps), slope * tangents[0] / s + tangents[2]


def exp(value):
    """eˣ of a number, an array, a symbol, or each component of a :class:`Vector`."""
    return _apply("exp", value)


def sqrt(value):
    """√x of a number, an array, a symbol, or each component of a :class:`Vector`."""
    return _apply("sqrt", value)


def sign(value):
    """−1, 0 or 1, of an array, a symbol, or each component of a :class:`Vector`."""
    return _apply("sign", value)


def _apply(name: str, value: Any) -> Any:
    if isinstance(value, Vector):
        return value.map(lambda component: _apply(name, component))
    if isinstance(value, (int, float)):
        return getattr(math, name)(value)
    return getattr(sympy if isinstance(value, sympy.Basic) else jnp, name)(value)


class Deferred(sympy.Function):
    """A SymPy function that is spelled out only at the end, by :func:`plain`; until then expressions stay small."""

    def spelled_out(self) -> sympy.Expr:
        """The same in ordinary SymPy functions."""
        raise NotImplementedError


def plain(expression):
    """The same SymPy expression or matrix without :class:`Deferred` functions."""
    return expression.replace(lambda part: isinstance(part, Deferred), lambda part: part.spelled_out())


class Length(Deferred):
    """√s in symbols, with the same derivative at s = 0 as the numeric form: zero, where only 0 · slope is needed."""

    nargs = 1
    is_nonnegative = True

    @classmethod
    def eval(cls, square):
        if square.is_number:
            return sympy.sqrt(square)

    def fdiff(self, argindex=1):
        return _HalfInverse(self.args[0])

    def spelled_out(self):
        return sympy.sqrt(self.args[0])


class _HalfInverse(Deferred):
    """1/(2√s), and 0 at s = 0: the slope of :class:`Length`."""

    nargs = 1

    @classmethod
    def eval(cls, square):
        if square.is_zero:
            return sympy.Integer(0)
        if square.is_number:
            return 1 / (2 * sympy.sqrt(square))

    def fdiff(self, argindex=1):
        return -1 / (4 * self.args[0] ** sympy.Rational(3, 2))

    def spelled_out(self):
        return 1 / (2 * sympy.sqrt(self.args[0]))
