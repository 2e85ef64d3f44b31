"""Fingerprints: a hash of all that an answer depends on, by which files of unfinished work are identified.

    process    its start, step, position and loss as JAX sees them, with every constant in them, and its numbers
    function   a region, a measure: likewise
    object     what a question of your own may read besides: boxes and other fields that no step uses, classes

For what nothing shows (a callback into Python, an object of compiled code) the user gives a `version`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import precision, programs, randomness, records
from flatdyn.core.hashing import of_array, of_object, stated
from flatdyn.processes import Process
from flatdyn.runs.stepping import prepared

_MOST = 32


def of_process(process: Process, dtype: Any = None, version: str | None = None) -> str:
    """A hash of what a process computes in a precision, the session's if not given, and of all its numbers.

    Two processes that differ in a constant inside your own function have different hashes; the same program has the
    same hash tomorrow.

    Raises:
        ValueError: if a part of it can't be seen, and no `version` stands for it
    """
    return Traces(version).of(process, dtype)


def of_function(function: Callable, dim: int, dtype: Any = None, version: str | None = None) -> str:
    """A hash of what a function of θ, shape (dim,), computes; errors as for :func:`of_process`."""
    dtype = precision.floating() if dtype is None else dtype
    function = prepared(function, dtype)
    return programs.word(lambda theta: function(theta), jax.ShapeDtypeStruct((dim,), dtype), version=version)


def of_key(key: jax.Array | None) -> str:
    """A hash of the random numbers of a call; empty without a key."""
    return "" if key is None else records.digest(randomness.seed_words(key))


class Traces:
    """Hashes of many processes; those that differ in numbers share a trace.

    Args:
        version: a text that stands for what can't be seen
    """

    def __init__(self, version: str | None = None):
        self.version = stated(version)
        self._known: dict[Any, str] = {}

    def of(self, process: Process, dtype: Any = None) -> str:
        """As :func:`of_process`."""
        traced, values = self._shared(process, dtype)
        return records.digest(traced, *map(of_array, values))

    def all_of(self, process: Process) -> str:
        """A hash of all that a question of the user's own may read in a process: what it computes, what it holds."""
        return records.digest(self._shared(process, None)[0], of_object(process, "the process", self.version))

    def _shared(self, process: Process, dtype: Any) -> tuple[str, list]:
        """The hash of the trace, and the numbers that it leaves open."""
        dtype = np.dtype(precision.floating() if dtype is None else dtype)
        leaves, tree = jax.tree.flatten(process)
        plain = [isinstance(leaf, (bool, int, float, np.ndarray, np.generic, jax.Array)) for leaf in leaves]
        values = [leaf for leaf, kept in zip(leaves, plain, strict=True) if kept]
        others = tuple(leaf for leaf, kept in zip(leaves, plain, strict=True) if not kept)
        same = tree, others, dtype, tuple((np.shape(value), type(value), jnp.result_type(value)) for value in values)
        try:
            traced = self._known.get(same)
        except (TypeError, ValueError):  # something in it has no hash: traced each time
            return self._trace(process, dtype), values
        if traced is None:
            if len(self._known) >= _MOST:  # landscapes made anew in every cell would pile up
                self._known.clear()
            traced = self._known[same] = self._trace(process, dtype)
        return traced, values

    def _trace(self, process: Process, dtype: Any) -> str:
        """A hash of the process with its numbers left open.

        The loss is part of it: two losses can have the same gradient, and so the same steps.
        """
        arrays, rest = eqx.partition(prepared(process, dtype), eqx.is_array)

        def seen(arrays, theta, key):
            process = eqx.combine(arrays, rest)
            state = process.init(theta)
            after = process.step(state, key)
            loss = process.landscape.loss(theta) if hasattr(process, "landscape") else None
            return state, process.position(state), after, process.possible(after), loss

        key = jax.eval_shape(lambda: jax.random.key(0)) if process.random else None
        return programs.word(seen, arrays, jax.ShapeDtypeStruct((process.dim,), dtype), key, version=self.version)
