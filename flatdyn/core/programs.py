"""A hash of a compiled computation: of every operation in it and every constant, however deep.

The text of a traced function does not show the constants of the programs inside it: of `jax.jit` in a loss, of the
body of a loop, of a function with a derivative of its own. So this module walks through the operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from flatdyn.core import records
from flatdyn.core.hashing import hidden, of_array, stated

_SILENT = ("debug_callback", "debug_print")  # they show something and change nothing
_FOREIGN = ("ffi_call", "custom_call")


def word(function: Callable, *args: Any, version: str | None = None) -> str:
    """A hash of what a function computes as JAX sees it, the same tomorrow and in another Python.

    Args:
        function: of arrays, in JAX
        args: arrays or their shapes
        version: a text that stands for what JAX cannot see: what Python or compiled code does that it calls back
    Raises:
        ValueError: if there is something that JAX cannot see, and no version
    """
    traced = eqx.filter_make_jaxpr(function)(*args)[0]
    # what JAX settles only when it compiles, or when the question is asked
    settings = (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision)
    settings += (jax.config.jax_threefry_partitionable, jax.config.jax_numpy_dtype_promotion)
    return records.digest(str(settings), _Reading(stated(version)).closed(traced))


class _Reading:
    """One reading of a program; a program that occurs twice in it is read once."""

    def __init__(self, version: str | None):
        self.version = version
        self.known: dict[int, tuple[str, Any]] = {}  # by id, with the value, which keeps the id its own

    def closed(self, program: ClosedJaxpr) -> str:
        return records.digest("closed", self.open(program.jaxpr), *map(self.constant, program.consts))

    def open(self, program: Jaxpr) -> str:
        return self._once(program, self._operations)

    def constant(self, value: Any) -> str:
        return self._once(value, _of_constant)

    def _once(self, value: Any, read: Callable[[Any], str]) -> str:
        if id(value) not in self.known:
            self.known[id(value)] = read(value), value
        return self.known[id(value)][0]

    def _operations(self, program: Jaxpr) -> str:
        numbers: dict[Any, int] = {}

        def named(variable: Any) -> str:
            if isinstance(variable, Literal):
                return f"{_type(variable)} {self.constant(variable.val)}"
            return f"{_type(variable)} {numbers.setdefault(variable, len(numbers))}"

        lines = [" ".join(map(named, (*program.constvars, *program.invars)))]
        for step in program.eqns:
            name = step.primitive.name
            if name in _SILENT:
                continue
            if name.endswith("callback") or name in _FOREIGN:
                if self.version is None:
                    raise hidden(f"what is computed from something else, as it calls code that JAX can't see ({name})")
                lines.append(f"version {self.version}")
            else:
                lines += [f"{key}={self.parameter(value)}" for key, value in sorted(step.params.items())]
            lines.append(f"{name} {' '.join(map(named, step.invars))} -> {' '.join(map(named, step.outvars))}")
        lines.append(" ".join(map(named, program.outvars)))
        return records.digest("\n".join(lines))

    def parameter(self, value: Any) -> str:
        """A parameter of an operation: programs, arrays and plain values, in any nesting."""
        if isinstance(value, ClosedJaxpr):
            return self.closed(value)
        if isinstance(value, Jaxpr):
            return self.open(value)
        if isinstance(value, (tuple, list)):
            return f"({', '.join(map(self.parameter, value))})"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{key}: {self.parameter(entry)}' for key, entry in value.items())}}}"
        if isinstance(value, (set, frozenset)):
            return f"{{{', '.join(sorted(map(self.parameter, value)))}}}"
        if hasattr(value, "__array__"):
            return self.constant(value)
        if callable(value) and not isinstance(value, type):
            return "function"  # a rule of derivatives, which is in the program wherever a derivative was taken
        return records.described(value)


def _of_constant(value: Any) -> str:
    if not hasattr(value, "__array__") and not isinstance(value, (jax.Array, bool, int, float, complex)):
        raise hidden(f"a constant of what is computed from another value, because it is of {type(value)}")
    return of_array(value)


def _type(variable: Any) -> str:
    return f"{variable.aval}{'w' * bool(getattr(variable.aval, 'weak_type', False))}"
