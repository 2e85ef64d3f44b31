"""Refuse bad input where it enters, saying what was wrong, the value, and the remedy."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> Any:
    """Return `value` unchanged if it is finite and inside the range, else raise ValueError naming it.

    An array is checked in every entry. SymPy expressions and values traced by JAX pass: they have no value yet.
    """
    if isinstance(value, (sympy.Basic, jax.core.Tracer)):
        return value
    try:
        entries = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    bounds = [
        (">", above, operator.gt),
        (">=", at_least, operator.ge),
        ("<", below, operator.lt),
    ]
    allowed = " and ".join(f"{sign} {bound:g}" for sign, bound, _ in bounds if bound is not None)
    inside = np.isfinite(entries)
    for _, bound, holds in bounds:
        if bound is not None:
            inside = inside & holds(entries, bound)
    if not inside.all():
        wrong = entries[~inside].flat[0] if entries.ndim else value
        raise ValueError(f"{name} must be finite{' and ' + allowed if allowed else ''}, got {wrong}")
    return value


def real(value: Any) -> Any:
    """A whole Python number as a float, so that lr=1 and lr=0.5 run the same compiled program; else unchanged."""
    return float(value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else value


def count(name: str, value: Any, at_least: int = 0) -> int:
    """Return `value` as an int if it is a whole number ≥ `at_least`, else raise ValueError naming it."""
    try:
        whole = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or whole < at_least:
        raise ValueError(f"{name} must be a whole number >= {at_least}, got {value}")
    return whole


def box(value: Any, dim: int) -> tuple[tuple[float, float], ...]:
    """Return a box as ((lower, upper), ...) if it has `dim` finite, non-empty sides, else raise ValueError."""
    try:
        sides = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"box must be a list of (lower, upper) pairs, got {value!r}") from None
    if sides.shape != (dim, 2):
        raise ValueError(f"box must be {dim} pairs (lower, upper), shape ({dim}, 2), got shape {sides.shape}")
    for lower, upper in sides:
        if not (np.isfinite([lower, upper]).all() and lower < upper):
            raise ValueError(f"box needs finite lower < upper on every side, got ({lower:g}, {upper:g})")
    return tuple((float(lower), float(upper)) for lower, upper in sides)


def points(name: str, value: Any, dim: int) -> jax.Array:
    """Return one point (dim,) or many (runs, dim) as a floating JAX array, else raise ValueError with both shapes."""
    array = jnp.asarray(value)
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


def symmetric(name: str, value: Any) -> np.ndarray:
    """Return a finite symmetric matrix as an array, else raise ValueError saying what it is instead."""
    if isinstance(value, jax.core.Tracer):
        return value
    matrix = np.asarray(number(name, value), dtype=float)
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
