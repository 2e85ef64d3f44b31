"""How many bits numbers have, and one warning where some of them are lost on the way in."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class PrecisionWarning(UserWarning):
    """Numbers given in 64 bits were rounded to 32, which changed them."""


def tell_rounded(name: str, given: Any, kept: Any) -> None:
    """Warn, once for all of them, if arrays as JAX keeps them are no longer the numbers that were given.

    JAX works in 32 bits by default. Numbers that 32 bits hold exactly pass, and so do arrays that have
    no more than 32 bits themselves.

    Args:
        name: what they are called where they were given
        given, kept: numbers, arrays or lists, and what has become of them; or trees of these
    """
    lost = max(map(_lost, jax.tree.leaves(given, is_leaf=_is_row), jax.tree.leaves(kept)), default=0.0)
    if lost > 0:
        warnings.warn(
            f"{name} is given in 64 bits and rounded to 32, by up to {lost:.1g} of itself: write "
            'jax.config.update("jax_enable_x64", True) before anything else to keep them, or give float32 numbers',
            PrecisionWarning,
            stacklevel=_outside(),
        )


def floating() -> np.dtype:
    """The type of floating numbers that are given none: 64 bits where they are switched on. No program is compiled."""
    return jax.dtypes.canonicalize_dtype(float)


def on_device(values: Any, dtype: Any = None) -> jax.Array:
    """Numbers of NumPy as an array of JAX, a copy; arrays of JAX stay what they are.

    `jnp.asarray` and `jnp.array` would compile a program for each shape and type, which takes 20 ms: nothing in the
    middle of a run, most of the wait for the first answer.
    """
    if isinstance(values, jax.Array):
        return values if dtype is None else values.astype(dtype)
    with np.errstate(over="ignore"):  # what is beyond a type's range is infinite in it
        return jax.device_put(np.array(values, dtype))


def as_here(function: Callable) -> Callable:
    """A function for another thread, which would not see that 64 bits are switched on, or off, around here alone."""
    wide = bool(jax.config.jax_enable_x64)

    def inside(*arguments: Any) -> Any:
        with jax.enable_x64(wide):
            return function(*arguments)

    return inside


def _is_row(part: Any) -> bool:
    return isinstance(part, list | tuple) and all(isinstance(x, int | float | np.number | list | tuple) for x in part)


def _lost(given: Any, kept: Any) -> float:
    """The largest relative change."""
    if isinstance(given, jax.Array) or not np.issubdtype(kept.dtype, np.floating):
        return 0.0
    exact, rounded = np.asarray(given), np.asarray(kept, np.float64)
    if exact.dtype != np.float64 or kept.dtype == np.float64 or exact.shape != rounded.shape:
        return 0.0
    changed = (exact != rounded) & np.isfinite(rounded)
    return float(np.max(np.abs(exact[changed] - rounded[changed]) / np.abs(exact[changed]), initial=0))


def _outside() -> int:
    """The `stacklevel` of whoever called into this package."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        frame, level = frame.f_back, level + 1
    return level
