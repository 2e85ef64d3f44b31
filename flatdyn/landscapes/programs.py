"""Compiled programs of landscapes: loss, gradient and Hessian at many points, and when their memory is freed.

Landscapes that differ in their numbers alone (arrays and NumPy's floats) share their programs. Those of the last
64 landscapes in use are kept, the memory of earlier ones is freed. :func:`clear_programs` frees what JAX keeps of
simulations and other questions.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.landscapes import symbolic

_KEPT = 3 * 64
_CACHES: list[Any] = [symbolic.compiled, symbolic.derivative]
_RESULTS = {"loss": "()", "grad": "(d)", "hessian": "(d,d)"}


def call(what: str, landscape: Any, theta: Any) -> jax.Array:
    """Loss, gradient or Hessian ("loss", "grad", "hessian") of a landscape at points of shape (..., dim).

    Raises:
        ValueError: if theta is not of this shape, or not of real numbers
    """
    return bound(what, landscape)(_points(landscape, theta))


def bound(what: str, landscape: Any) -> Callable:
    """The same as a function of a floating array alone, for many calls."""
    for name, value in getattr(landscape, "parameters", {}).items():
        if isinstance(value, np.ndarray | np.generic):
            symbolic.check_size(name, value, precision.floating())
    numbers, rest = eqx.partition(landscape, eqx.is_array)
    leaves, tree = jax.tree.flatten(rest)
    return partial(_program(what, tree, tuple(leaves), tuple(map(type, leaves))), numbers)


def clear_programs() -> None:
    """Free the memory of all compiled programs, JAX's own included; what is used again is compiled again.

    For a long session that makes many landscapes, each with a loss of its own (a new expression or function): every
    simulation, sweep or map of basins of such a landscape keeps some megabytes of compiled code.
    """
    for cache in _CACHES:
        cache.cache_clear()
    eqx.clear_caches()
    jax.clear_caches()
    gc.collect()


def given_back(cache: Any) -> Any:
    """Decorate a cache of :mod:`functools` that holds programs: :func:`clear_programs` empties it."""
    _CACHES.append(cache)
    return cache


@given_back
@lru_cache(maxsize=_KEPT)
def _program(what: str, tree: Any, leaves: tuple, types: tuple):
    """One compiled program. It lives in this cache alone, so that dropping it here frees its memory."""
    rest = jax.tree.unflatten(tree, leaves)

    def at(landscape, theta):
        if what == "loss":
            return landscape.value(landscape.vector(theta))
        gradient = lambda theta: landscape.array(landscape.field(landscape.vector(theta)))  # noqa: E731
        return gradient(theta) if what == "grad" else jax.jacfwd(gradient)(theta)

    @jax.jit
    def program(numbers, theta):
        landscape = eqx.combine(numbers, rest)
        return jnp.vectorize(lambda theta: at(landscape, theta), signature=f"(d)->{_RESULTS[what]}")(theta)

    return program


def _points(landscape: Any, theta: Any) -> jax.Array:
    if any(np.ndim(leaf) for leaf in getattr(landscape, "parameters", {}).values()):
        batched = ", ".join(name for name, value in landscape.parameters.items() if np.ndim(value))
        raise ValueError(f"the parameters {batched} of {landscape.name} must be one number each, to ask for its loss")
    return checks.coordinates("theta", theta, landscape.dim, on=landscape.name)
