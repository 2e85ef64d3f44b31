"""Refuse bad input where it enters, saying what was wrong, the value, and the remedy.

One family, used at the head of every public function and in every constructor:

    kind(name, value, Process)      an object of the right kind, else TypeError
    function(name, value)           something that can be called, else TypeError
    traced(name, f, *shapes)        a function that JAX can follow, and what it returns, else TypeError
    text, choice, flag, key         a text, one of several words, True or False, one JAX key
    number, count                   one number, or an array of them; a whole number, else ValueError
    numbers, points, box, ...       arrays of the right shape, else ValueError

The wrong kind of object is a TypeError; a number, an array or a word that does not fit is a ValueError, and so is
something that is no number at all where a number belongs. Values traced by JAX pass: they have no value yet.
"""

from __future__ import annotations

import operator
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel, _SHORT.maxlong = 60, 80, 2, 30


# --- objects --------------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A value in a few words, for messages."""
    if value is None or isinstance(value, bool | int | float | complex):
        return _SHORT.repr(value)
    if isinstance(value, jax.core.Tracer):
        return f"a value of shape {value.shape} that a transformation of JAX passes through"
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "a JAX key" if value.ndim == 0 else f"JAX keys of shape {value.shape}"
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    try:
        words = " ".join((repr(value) if isinstance(value, tuple | str) else _SHORT.repr(value)).split())
    except Exception:  # what an object says of itself may fail, too
        words = f"an object of class {type(value).__name__}"
    words = re.sub(r" at 0x[0-9a-f]+", "", words)
    return words if len(words) <= 100 else f"{words[:60]}... ({type(value).__name__})"


def kind(name: str, value: Any, wanted: type | tuple[type, ...], remedy: str = "") -> Any:
    """Return `value` if it is of a class, else raise TypeError with how to make one.

    Args:
        name: of the argument
        wanted: the class, or several
        remedy: how to make one, if the class does not say so itself by its attribute `made_by`
    """
    if isinstance(value, wanted):
        return value
    classes = wanted if isinstance(wanted, tuple) else (wanted,)
    remedy = remedy or next((one.made_by for one in classes if hasattr(one, "made_by")), "")
    words = " or ".join(f"{'an' if one.__name__[0] in 'AEIOU' else 'a'} {one.__name__}" for one in classes)
    raise TypeError(f"{name} must be {words}, got {shown(value)}{': write ' + remedy if remedy else ''}")


def function(name: str, value: Any, what: str = "a function") -> Any:
    """Return `value` if it can be called, else raise TypeError saying what it should be."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be {what}, got {shown(value)}")
    return value


def traced(name: str, value: Callable, *shapes: Any, what: str = "a JAX function") -> Any:
    """What a user's function returns for arrays of such shapes, as shapes; TypeError if JAX can't follow it."""
    function(name, value, what)
    try:
        return jax.eval_shape(value, *shapes)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        why = "it needs the values of its argument" if isinstance(error, jax.errors.JAXTypeError) else "it failed"
        given = ", ".join(str(tuple(leaf.shape)) for leaf in jax.tree.leaves(shapes))
        raise TypeError(
            f"{name} must be {what}, written with jax.numpy, but for an argument of shape {given} {why}: "
            f"see the error above; got {shown(value)}"
        ) from error


def answers(name: str, value: Callable, points: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """What a user's function gives for an array of points, one real number for each or one for all; else TypeError."""
    function(name, value)
    try:
        found = np.asarray(value(points))
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise TypeError(f"{name} must take an array of points, but it failed there: see the error above") from error
    shape = np.shape(points) if shape is None else shape
    if found.dtype.kind not in "biuf" or found.shape not in ((), shape):
        raise ValueError(f"{name} must return one real number for each point, shape {shape}, got {shown(found)}")
    return found.astype(float)


def text(name: str, value: Any) -> str:
    """Return `value` if it is a text, else raise TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {shown(value)}")
    return value


def choice(name: str, value: Any, words: Iterable[str | None]) -> Any:
    """Return `value` if it is one of some words, else raise ValueError with all of them."""
    words = tuple(words)
    if not (value is None or isinstance(value, str)) or value not in words:
        known = " or ".join(map(repr, words)) if len(words) == 2 else f"one of {', '.join(map(repr, words))}"
        raise ValueError(f"{name} must be {known}, got {shown(value)}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return True or False, else raise TypeError."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def flags(name: str, value: Any) -> np.ndarray:
    """An array of True and False, else raise ValueError."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.zeros((), dtype=object)
    if array.dtype != bool:
        raise ValueError(f"{name} must hold True or False, got {shown(value)}")
    return array


def labels(name: str, value: Any, number: int) -> np.ndarray:
    """A table of whole numbers from 0 to below `number`, else raise ValueError."""
    array = numbers(name, value, ndim=2, at_least=4)
    if (array != np.floor(array)).any() or array.min() < 0 or array.max() >= number:
        raise ValueError(
            f"{name} must hold whole numbers from 0 to {number - 1}, got {array.min():g} to {array.max():g}"
        )
    return array.astype(int)


def mapping(name: str, value: Any, what: str) -> Mapping:
    """Return `value` if it is a dict with texts for keys, else raise TypeError saying of what."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dict, {what}, got {shown(value)}")
    return value


def sequence(name: str, value: Any, what: str) -> Sequence:
    """Return a list or tuple, or an array as a list, else raise TypeError saying of what."""
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
        return list(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a list of {what}, got {shown(value)}")
    return value


def key(value: Any, name: str = "key", why: str = "") -> jax.Array:
    """Return one JAX key, `jax.random.key(0)` or the older `PRNGKey(0)`, else raise ValueError."""
    remedy = f"pass {name}=jax.random.key(0), or another seed"
    if value is None:
        raise ValueError(f"{why or f'{name} is missing'}: {remedy}")
    if isinstance(value, jax.Array):
        typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if (typed and value.ndim == 0) or (value.dtype == jnp.uint32 and value.ndim == 1 and value.size >= 2):
            return value
    raise ValueError(f"{name} must be one JAX key, such as jax.random.key(0), got {shown(value)}")


# --- numbers --------------------------------------------------------------------------------------------------------


def entries(name: str, value: Any, what: str = "a number") -> np.ndarray:
    """Real numbers of any shape as an array of Python's floats, else raise ValueError naming what they are instead."""
    wrong = f"{name} must be {what}, got {shown(value)}"
    if isinstance(value, Decimal | Fraction):
        wrong += ": write float(...)"
    if isinstance(value, jax.core.Tracer):
        raise ValueError(wrong)
    try:
        array = np.asarray(value)
        if array.dtype == object and not _whole(array):
            raise ValueError(wrong)
        if array.dtype.kind not in "iufO" or isinstance(value, np.ma.MaskedArray):
            raise ValueError(wrong)
        return np.asarray(array, dtype=float)
    except (TypeError, OverflowError, ValueError, RuntimeError):
        if isinstance(value, int) and not isinstance(value, bool):
            wrong = f"{name} must be finite, got a whole number beyond 64-bit floats"
        raise ValueError(wrong) from None


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    one: bool = False,
) -> Any:
    """Return `value` if it is finite and inside the range, else raise ValueError naming it.

    NumPy's integers come back as Python's, and arrays of them as floats, so that nothing wraps around. An array is
    checked in every entry. SymPy's symbols and values traced by JAX pass: they have no value yet.

    Args:
        one: whether it must be one number, neither an array nor a symbol
    """
    if isinstance(value, jax.core.Tracer):
        return value
    if isinstance(value, sympy.Basic) and not one:
        return _symbolic(name, value, above, at_least, below)
    if isinstance(value, sympy.Expr) and value.is_number and value.is_real:
        value = float(value)
    array = entries(name, value)
    if one and array.ndim:
        raise ValueError(f"{name} must be one number, got {shown(value)}")
    bounds = [
        (">", above, operator.gt),
        (">=", at_least, operator.ge),
        ("<", below, operator.lt),
    ]
    allowed = " and ".join(f"{sign} {bound:g}" for sign, bound, _ in bounds if bound is not None)
    inside = np.isfinite(array)
    for _, bound, holds in bounds:
        if bound is not None:
            inside = inside & holds(array, bound)
    if not inside.all():
        wrong = array[~inside].flat[0] if array.ndim else value
        raise ValueError(f"{name} must be finite{' and ' + allowed if allowed else ''}, got {wrong}")
    return _floating(real(value)) if isinstance(value, np.ndarray | np.generic | jax.Array) else value


def floats(**values: Any) -> list[float]:
    """Single finite numbers by name, as floats in the order given, else ValueError."""
    return [float(number(name, value, one=True)) for name, value in values.items()]


def symbols(name: str, values: Any) -> list[sympy.Expr]:
    """Numbers and symbols as SymPy's, else raise ValueError."""
    if isinstance(values, sympy.MatrixBase | np.ndarray | jax.Array):
        values = list(values) if np.ndim(values) else values
    found = []
    for value in sequence(name, values, "numbers or symbols"):
        if not isinstance(value, sympy.Basic):
            value = np.asarray(number(name, value, one=True)).item()
        found.append(sympy.sympify(number(name, value)))
    return found


def multipliers(value: Any) -> np.ndarray:
    """Multipliers, shape (n,), as a complex array, else raise ValueError; NaN says that there is no derivative."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.zeros(0, dtype=object)
    if array.dtype.kind not in "iufc" or array.ndim != 1 or not array.size:
        raise ValueError(f"multipliers must be numbers, shape (n,), got {shown(value)}")
    return array


def _symbolic(name: str, value: sympy.Basic, *bounds: float | None) -> sympy.Expr:
    """A symbol or an expression as it is; a SymPy number if it is real, finite and inside the range."""
    if not isinstance(value, sympy.Expr):
        raise ValueError(f"{name} must be a number or a symbol, got {shown(value)}")
    if value.has(sympy.nan, sympy.oo, sympy.zoo, -sympy.oo) or (value.is_number and value.is_real is False):
        raise ValueError(f"{name} must be finite and real, got {shown(value)}")
    if value.is_number:
        above, at_least, below = bounds
        number(name, float(value), above=above, at_least=at_least, below=below)
    return value


def _whole(array: np.ndarray) -> bool:
    """Whether an array of objects holds whole numbers, too large ones for a machine integer."""
    return array.size > 0 and all(isinstance(x, int | float) and not isinstance(x, bool) for x in array.flat)


def real(value: Any) -> Any:
    """A number of Python or NumPy as a float, so that lr=1 and lr=0.5 run the same compiled program; else unchanged."""
    if isinstance(value, bool | np.bool_ | sympy.Basic | jax.core.Tracer):
        return value
    if isinstance(value, int | np.integer | np.floating):
        return float(value) if not isinstance(value, int) or abs(value) < 1e300 else value
    return value


def _floating(value: Any) -> Any:
    """An array of whole numbers as a floating one: theirs wrap around."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuO" and value.size:
        return value.astype(float) if value.dtype.kind != "O" or _whole(value) else value
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(float)
    return value


def count(name: str, value: Any, at_least: int = 0, at_most: int | None = None) -> int:
    """Return `value` as an int if it is a whole number inside the range, else raise ValueError naming it."""
    try:
        whole = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {shown(value)}") from None
    if isinstance(value, bool | np.bool_) or whole < at_least:
        raise ValueError(f"{name} must be a whole number >= {at_least}, got {value}")
    if at_most is not None and whole > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {shown(whole)}")
    return whole


def numbers(name: str, value: Any, ndim: int | tuple[int, ...] | None = None, at_least: int = 0) -> np.ndarray:
    """Return finite numbers as an array of floats, else raise ValueError.

    Args:
        ndim: number of axes, or several that are allowed; any if not given
        at_least: how many there must be
    """
    array = np.asarray(entries(name, value, "an array of numbers"))
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        axes = " or ".join({0: "one number", 1: "a list of numbers", 2: "a table of numbers"}[n] for n in allowed)
        raise ValueError(f"{name} must be {axes}, got shape {array.shape}")
    if array.size < at_least:
        raise ValueError(f"{name} must hold at least {at_least} numbers, got {array.size}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
    return array


def box(value: Any, dim: int) -> tuple[tuple[float, float], ...]:
    """Return a box as ((lower, upper), ...) if it has `dim` finite, non-empty sides, else raise ValueError."""
    sides = entries("box", value, "a list of (lower, upper) pairs")
    if sides.shape != (dim, 2):
        raise ValueError(f"box must be {dim} pairs (lower, upper), shape ({dim}, 2), got shape {sides.shape}")
    for lower, upper in sides:
        if not (np.isfinite([lower, upper]).all() and lower < upper):
            raise ValueError(f"box needs finite lower < upper on every side, got ({lower:g}, {upper:g})")
    return tuple((float(lower), float(upper)) for lower, upper in sides)


def points(name: str, value: Any, dim: int) -> jax.Array:
    """Return one point (dim,) or many (runs, dim) as a floating JAX array, else raise ValueError with both shapes."""
    array = _real(name, value, f"coordinates, an array of shape ({dim},) or (runs, {dim})")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{name} must hold floating-point numbers, got dtype {array.dtype}: "
            "write 1.0 for 1, or convert with .astype(float)"
        )
    if array.ndim not in (1, 2) or array.shape[-1] != dim:
        raise ValueError(f"{name} must have shape ({dim},) or (runs, {dim}), got {array.shape}")
    if not isinstance(array, jax.core.Tracer) and not bool(jnp.isfinite(array).all()):
        raise ValueError(f"{name} must be finite, got {np.asarray(array)[~np.isfinite(array)].flat[0]} in it")
    return array


def row(name: str, value: Any) -> Any:
    """Return finite numbers, shape (n,), as an array, else raise ValueError; values traced by JAX pass."""
    if isinstance(value, jax.core.Tracer):
        return value
    array = numbers(name, value, ndim=1, at_least=1)
    return value if isinstance(value, np.ndarray | jax.Array) and value.dtype.kind == "f" else array


def point(name: str, value: Any, dim: int) -> jax.Array:
    """Return one finite point (dim,) as a floating JAX array, else raise ValueError with both shapes."""
    array = coordinates(name, value, dim)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape ({dim},), got {array.shape}")
    if not isinstance(array, jax.core.Tracer) and not bool(jnp.isfinite(array).all()):
        raise ValueError(f"{name} must be finite, got {np.asarray(array)[~np.isfinite(array)].flat[0]} in it")
    return array


def coordinates(name: str, value: Any, dim: int) -> jax.Array:
    """Return points of shape (..., dim) as a floating JAX array, else raise ValueError with both shapes.

    Whole numbers become floating ones; what is not finite stays: its loss, say, is not finite either.
    """
    array = _real(name, value, f"coordinates, an array of shape (..., {dim})")
    if array.ndim == 0 or array.shape[-1] != dim:
        raise ValueError(f"{name} must have shape (..., {dim}), got {array.shape}")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def reals(name: str, value: Any) -> jax.Array:
    """Return real numbers of any shape as a floating JAX array, else raise ValueError."""
    array = _real(name, value, "an array")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def bound(name: str, value: Any) -> None:
    """Raise ValueError if a bound of coordinates is not one number > 0; infinity is."""
    number = entries(name, value)
    if number.ndim:
        raise ValueError(f"{name} must be one number, got {shown(value)}")
    if not number > 0:
        raise ValueError(f"{name} must be > 0, got {number}")


def _real(name: str, value: Any, what: str) -> jax.Array:
    """Real numbers of any type as a JAX array, else raise ValueError saying what they are instead."""
    if isinstance(value, list | tuple):  # which may hold arrays of JAX, and these values that are traced
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            value = jnp.asarray(value)
        else:
            value = jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, value)
    if not isinstance(value, jax.Array):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError):
            array = np.zeros(0, dtype=object)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or isinstance(value, np.ma.MaskedArray):
            remedy = "; landscape.flatten(tree) makes one of a network's parameters"
            raise ValueError(f"{name} must be {what}, got {shown(value)}{remedy if _is_tree(value) else ''}")
        value = jnp.asarray(array)
    if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == bool) or jnp.issubdtype(
        value.dtype, jnp.complexfloating
    ):
        raise ValueError(f"{name} must be {what} of real numbers, got {shown(value)}")
    return value


def _is_tree(value: Any) -> bool:
    return value is not None and not jax.tree_util.all_leaves([value])


def symmetric(name: str, value: Any) -> np.ndarray:
    """Return a finite symmetric matrix as an array, else raise ValueError saying what it is instead."""
    if isinstance(value, jax.core.Tracer):
        return value
    matrix = np.asarray(number(name, entries(name, value, "a square matrix")), dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    gap = np.abs(matrix - matrix.T).max(initial=0)
    if gap > 1e-8 * np.abs(matrix).max(initial=0):
        raise ValueError(f"{name} must be symmetric, got entries that differ by {gap:g}: try (A + A.T) / 2")
    return matrix


def covariance(name: str, value: Any) -> np.ndarray:
    """Return a symmetric positive semidefinite matrix as an array, else raise ValueError with its lowest eigenvalue."""
    matrix = symmetric(name, value)
    if isinstance(matrix, jax.core.Tracer):
        return matrix
    lowest, *_, highest = np.linalg.eigvalsh(matrix)[[0, -1]]
    if lowest < -1e-8 * max(highest, 0):
        raise ValueError(f"{name} must be positive semidefinite, got the eigenvalue {lowest:g}")
    return matrix
