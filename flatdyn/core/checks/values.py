"""Single numbers, whole numbers, and entries of arrays: finite, real, inside their range."""

from __future__ import annotations

import operator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import precision
from flatdyn.core.checks.objects import is_traced, shown


def entries(name: str, value: Any, what: str = "a number") -> np.ndarray:
    """Real numbers of any shape as an array of Python's floats, else raise ValueError naming what they are instead."""
    wrong = f"{name} must be {what}, got {shown(value)}"
    if isinstance(value, Decimal | Fraction):
        wrong += ": write float(...)"
    if is_traced(value):
        raise ValueError(wrong)
    try:
        array = np.asarray(value)
        if array.dtype == object and not _exact(array):
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
    at_most: float | None = None,
    one: bool = False,
) -> Any:
    """Return `value` if it is finite and inside the range, else raise ValueError naming it.

    NumPy's integers come back as Python's, and arrays of them as floats, so that nothing wraps around. An array is
    checked in every entry. SymPy's symbols and values traced by JAX pass: they have no value yet.

    Args:
        one: whether it must be one number, neither an array nor a symbol; it comes back as a float, whatever it was
    """
    if is_traced(value):
        return value
    if isinstance(value, sympy.Basic) and not one:
        return _symbolic(name, value, above, at_least, below, at_most)
    if isinstance(value, sympy.Expr) and value.is_number and value.is_real:
        value = float(value)
    array = entries(name, value)
    if one and array.ndim:
        raise ValueError(f"{name} must be one number, got {shown(value)}")
    bounds = [
        (">", above, operator.gt),
        (">=", at_least, operator.ge),
        ("<", below, operator.lt),
        ("<=", at_most, operator.le),
    ]
    allowed = " and ".join(f"{sign} {bound:g}" for sign, bound, _ in bounds if bound is not None)
    inside = np.isfinite(array)
    for _, bound, holds in bounds:
        if bound is not None:
            inside = inside & holds(array, bound)
    if not inside.all():
        wrong = array[~inside].flat[0] if array.ndim else value
        raise ValueError(f"{name} must be finite{' and ' + allowed if allowed else ''}, got {wrong}")
    if one:
        return float(array)
    return _floating(real(value)) if isinstance(value, np.ndarray | np.generic | jax.Array) else value


def in_range(name: str, value: Any) -> None:
    """Raise ValueError if a finite number, or one in an array, would become infinite in the 32 bits of JAX here.

    So would a single number that became zero: among others, in an array, it is zero but for rounding.
    """
    if jax.config.jax_enable_x64 or isinstance(value, jax.Array):
        return
    array, range_ = np.asarray(value), np.finfo(np.float32)
    if array.dtype == np.float64:
        largest = np.max(np.abs(array), where=np.isfinite(array), initial=0)
        if largest > range_.max or (array.ndim == 0 and 0 < largest < range_.tiny):
            raise ValueError(
                f"{name} must be within the range of 32 bits, 1.2e-38 to 3.4e38 in size, got {largest:g}: "
                'jax.config.update("jax_enable_x64", True) allows more'
            )


def squarable(name: str, value: Any, dtype: Any = None) -> None:
    """Raise ValueError if the square of a number > 0 under- or overflows in floats of a type, or of the session's."""
    if is_traced(value):
        return
    limits = jnp.finfo(jax.dtypes.canonicalize_dtype(float if dtype is None else dtype))
    low, high = float(limits.tiny) ** 0.5, float(limits.max) ** 0.5
    if not low <= value <= high:
        more = "" if limits.bits == 64 else ', or jax.config.update("jax_enable_x64", True) first'
        raise ValueError(
            f"{name} must be {low:.1e} to {high:.1e}, as {limits.bits} bits hold its square, got {value:g}: "
            f"measure θ in another unit{more}"
        )


def floats(**values: Any) -> list[float]:
    """Single finite numbers by name, as floats in the order given, else ValueError."""
    return [number(name, value, one=True) for name, value in values.items()]


def exact(name: str, value: Any) -> Any:
    """One number as Python has it, a whole one as a whole one, and a symbol as it is: for formulas, else ValueError."""
    if isinstance(value, sympy.Basic):
        return number(name, value)
    number(name, entries(name, value), one=True)
    return np.asarray(value).item()


def _symbolic(name: str, value: sympy.Basic, *bounds: float | None) -> sympy.Expr:
    """A symbol or an expression as it is; a SymPy number if it is real, finite and inside the range."""
    if not isinstance(value, sympy.Expr):
        raise ValueError(f"{name} must be a number or a symbol, got {shown(value)}")
    if value.has(sympy.nan, sympy.oo, sympy.zoo, -sympy.oo) or (value.is_number and value.is_real is False):
        raise ValueError(f"{name} must be finite and real, got {shown(value)}")
    if value.is_number:
        above, at_least, below, at_most = bounds
        number(name, float(value), above=above, at_least=at_least, below=below, at_most=at_most)
    return value


def _exact(array: np.ndarray) -> bool:
    """Whether an array of objects holds real numbers: whole ones too large for a machine integer, or SymPy's."""
    return array.size > 0 and all(map(_is_real, array.flat))


def _is_real(value: Any) -> bool:
    if isinstance(value, sympy.Expr):
        return bool(value.is_number and value.is_extended_real)
    return isinstance(value, int | float) and not isinstance(value, bool)


def real(value: Any) -> Any:
    """A number of Python or NumPy as a float, so that lr=1 and lr=0.5 run the same compiled program; else unchanged."""
    if is_traced(value) or isinstance(value, bool | np.bool_ | sympy.Basic):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuO":
        value = value.item()
    if isinstance(value, int | np.integer | np.floating) and not isinstance(value, bool):
        return float(value) if not isinstance(value, int) or abs(value) < 1e300 else value
    return value


def plain(value: Any) -> Any:
    """A number as :func:`real` gives it, SymPy's too as a float: for what is never computed with in symbols."""
    if isinstance(value, sympy.Expr) and value.is_number and value.is_real:
        return float(value)
    return real(value)


def _floating(value: Any) -> Any:
    """An array of whole numbers as a floating one: theirs wrap around."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuO" and value.size:
        return value.astype(float) if value.dtype.kind != "O" or _exact(value) else value
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer):
        return precision.on_device(np.asarray(value).astype(float))
    return value


def whole(value: Any) -> Any:
    """A whole number of NumPy as Python's, which does not wrap around; else unchanged. For a field's converter."""
    return int(value) if isinstance(value, np.integer) else value


def counts(**values: Any) -> list[int]:
    """Whole numbers from 1 by name, below 2³¹ as extents of arrays are, in the order given, else ValueError."""
    return [count(name, value, at_least=1, at_most=2**31 - 1) for name, value in values.items()]


def count(name: str, value: Any, at_least: int = 0, at_most: int | None = None) -> int:
    """Return `value` as an int if it is a whole number inside the range, else raise ValueError naming it.

    What becomes an extent of an array has a ceiling, by :func:`counts`, or what it takes in memory is checked besides.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {shown(value)}") from None
    if isinstance(value, bool | np.bool_) or whole < at_least:
        raise ValueError(f"{name} must be a whole number >= {at_least}, got {shown(value)}")
    if at_most is not None and whole > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {shown(whole)}")
    return whole
