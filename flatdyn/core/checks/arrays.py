"""Arrays of the right shape: points, coordinates, boxes, matrices, what a function of the user's returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import precision
from flatdyn.core.checks.objects import any_traced, function, is_traced, sequence, shown
from flatdyn.core.checks.values import entries, exact, in_range, number


def interval(name: str, value: Any) -> tuple[float, float]:
    """Return a pair of finite numbers (lower, upper) with lower < upper, else raise ValueError."""
    ends = entries(name, value, "a pair (lower, upper)")
    if ends.shape != (2,) or not (np.isfinite(ends).all() and ends[0] < ends[1]):
        raise ValueError(f"{name} must be a pair (lower, upper) of finite numbers, lower < upper, got {shown(value)}")
    return float(ends[0]), float(ends[1])


def box(value: Any, dim: int) -> tuple[tuple[float, float], ...]:
    """Return a box as ((lower, upper), ...) if it has `dim` finite, non-empty sides, else raise ValueError."""
    sides = entries("box", value, "a list of (lower, upper) pairs")
    if sides.shape != (dim, 2):
        raise ValueError(f"box must be {dim} pairs (lower, upper), shape ({dim}, 2), got shape {sides.shape}")
    for lower, upper in sides:
        if not (np.isfinite([lower, upper]).all() and lower < upper):
            raise ValueError(f"box needs finite lower < upper on every side, got ({lower:g}, {upper:g})")
    in_range("box", sides)
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
    _finite(name, array)
    precision.tell_rounded(name, value, array)
    return array


def row(name: str, value: Any) -> Any:
    """Return finite numbers, shape (n,), as an array, else raise ValueError; values traced by JAX pass."""
    if is_traced(value):
        return value
    array = numbers(name, value, ndim=1, at_least=1)
    return value if isinstance(value, np.ndarray | jax.Array) and value.dtype.kind == "f" else array


def point(name: str, value: Any, dim: int) -> jax.Array:
    """Return one finite point (dim,) as a floating JAX array, else raise ValueError with both shapes."""
    array = coordinates(name, value, dim)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape ({dim},), got {array.shape}")
    return _finite(name, array)


def coordinates(name: str, value: Any, dim: int, on: str = "", finite: bool = False) -> jax.Array:
    """Return points of shape (..., dim) as a floating JAX array, else raise ValueError with both shapes.

    Whole numbers become floating ones.

    Args:
        finite: whether what is not finite is refused; else it stays: its loss, say, is not finite either
    """
    place = f" on {on}" if on else ""
    array = _real(name, value, f"coordinates, an array of shape (..., {dim}){place}")
    if array.ndim == 0 or array.shape[-1] != dim:
        raise ValueError(f"{name} must have shape (..., {dim}){place}, got {array.shape}")
    array = array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)
    return _finite(name, array) if finite else array


def reals(name: str, value: Any) -> jax.Array:
    """Return real numbers of any shape as a floating JAX array, else raise ValueError."""
    array = _real(name, value, "an array")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def tree(name: str, value: Any) -> Any:
    """Return a tree of arrays of real numbers, (n, ...) each and n the same, else raise ValueError."""
    leaves = [_real(name, leaf, "an array (n, ...), or a tree of them") for leaf in jax.tree.leaves(value)]
    if not leaves or any(leaf.ndim == 0 for leaf in leaves) or len({len(leaf) for leaf in leaves}) > 1:
        raise ValueError(f"{name} must be an array (n, ...), or a tree of them, got {shown(value)}")
    return value


def bound(name: str, value: Any) -> float:
    """Return a bound of coordinates as a float if it is one number > 0, as infinity is, else raise ValueError."""
    number = entries(name, value)
    if number.ndim:
        raise ValueError(f"{name} must be one number, got {shown(value)}")
    if not number > 0:
        raise ValueError(f"{name} must be > 0, got {number}")
    return float(number)


def _finite(name: str, array: jax.Array) -> jax.Array:
    """The array if all of it is finite, or has no value yet, else raise ValueError with what is not."""
    if not is_traced(array) and not np.isfinite(np.asarray(array)).all():
        raise ValueError(f"{name} must be finite, got {np.asarray(array)[~np.isfinite(array)].flat[0]} in it")
    return array


def _real(name: str, value: Any, what: str) -> jax.Array:
    """Real numbers of any type as a JAX array, else raise ValueError saying what they are instead."""
    if isinstance(value, list | tuple):  # which may hold arrays of JAX, and these values that are traced
        if any_traced(value):
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
        in_range(name, array)
        value = precision.on_device(array)
    if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == bool) or jnp.issubdtype(
        value.dtype, jnp.complexfloating
    ):
        raise ValueError(f"{name} must be {what} of real numbers, got {shown(value)}")
    return value


def _is_tree(value: Any) -> bool:
    return value is not None and not jax.tree_util.all_leaves([value])


def symmetric(name: str, value: Any) -> np.ndarray:
    """Return a finite symmetric matrix as an array, else raise ValueError saying what it is instead."""
    if is_traced(value):
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
    if is_traced(matrix):
        return matrix
    lowest, *_, highest = np.linalg.eigvalsh(matrix)[[0, -1]]
    if lowest < -1e-8 * max(highest, 0):
        raise ValueError(f"{name} must be positive semidefinite, got the eigenvalue {lowest:g}")
    return matrix


def labels(name: str, value: Any, number: int) -> np.ndarray:
    """A table of whole numbers from 0 to below `number`, else raise ValueError."""
    array = numbers(name, value, ndim=2, at_least=4)
    if (array != np.floor(array)).any() or array.min() < 0 or array.max() >= number:
        raise ValueError(
            f"{name} must hold whole numbers from 0 to {number - 1}, got {array.min():g} to {array.max():g}"
        )
    return array.astype(int)


def flags(name: str, value: Any) -> np.ndarray:
    """An array of True and False, else raise ValueError."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.zeros((), dtype=object)
    if array.dtype != bool:
        raise ValueError(f"{name} must hold True or False, got {shown(value)}: write {name} == 1")
    return array


def answers(name: str, value: Callable, points: np.ndarray, *, many: bool = False) -> np.ndarray:
    """What a user's function gives for an array of points, one real number for each or one for all; else TypeError.

    Args:
        many: whether it may give several for each, with the points along the last axis
    """
    function(name, value)
    try:
        values = np.asarray(value(points))
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise TypeError(f"{name} must take an array of points, but it failed there: see the error above") from error
    shape = np.shape(points)
    fits = values.shape in ((), shape) or (many and values.shape[-len(shape) :] == shape)
    if values.dtype.kind not in "biuf" or not fits:
        raise ValueError(f"{name} must return one real number for each point, shape {shape}, got {shown(values)}")
    return np.broadcast_to(values.astype(float), values.shape or shape)


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


def wholes(name: str, value: Any, ndim: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Return whole numbers ≥ 0 as an array of integers, else raise ValueError."""
    array = number(name, numbers(name, value, ndim), at_least=0, below=2.0**63)
    if (array != np.floor(array)).any():
        raise ValueError(f"{name} must hold whole numbers, got {array[array != np.floor(array)].flat[0]}")
    return array.astype(np.int64)


def symbols(name: str, values: Any) -> list[sympy.Expr]:
    """Numbers and symbols as SymPy's, else raise ValueError."""
    if isinstance(values, sympy.MatrixBase | np.ndarray | jax.Array):
        values = list(values) if np.ndim(values) else values
    return [sympy.sympify(exact(name, value)) for value in sequence(name, values, "numbers or symbols")]


def multipliers(value: Any) -> np.ndarray:
    """Multipliers, shape (n,), as a complex array, else raise ValueError; NaN says that there is no derivative."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.zeros(0, dtype=object)
    if array.dtype.kind not in "iufc" or array.ndim != 1 or not array.size:
        raise ValueError(f"multipliers must be numbers, shape (n,), got {shown(value)}")
    return array
