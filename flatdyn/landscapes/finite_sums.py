"""Losses that are means over examples, which a minibatch samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks, precision
from flatdyn.core.algebra import Vector
from flatdyn.landscapes.base import FunctionLandscape, Landscape, SymbolicLandscape
from flatdyn.landscapes.symbolic import parameter


class Examples(Landscape):
    """A landscape L(θ) = (1/n) Σᵢ ℓ(θ; xᵢ).

    Attributes:
        examples: the data, a tree of arrays whose leading axis counts the examples
    """

    examples: eqx.AbstractVar[Any]

    @property
    def number(self) -> int:
        """n, how many examples there are."""
        return len(jax.tree.leaves(self.examples)[0])

    def batch_field(self, point: Vector, indices: jax.Array) -> Vector:
        """The mean of ∇ℓ(θ; xᵢ) over the examples with these indices, a vector like θ."""
        return self.batch(indices).field(point)

    def batch(self, indices: jax.Array) -> Landscape:
        """The landscape of some of the examples."""
        picked = jax.tree.map(lambda leaf: leaf[indices], self.examples)
        return eqx.tree_at(lambda landscape: landscape.examples, self, picked)


class FunctionExamples(Examples, FunctionLandscape):
    """A mean over examples of a JAX function ℓ(θ, x), or a function ℓ(θ, batch) that takes the mean itself."""

    examples: Any
    batched: bool = eqx.field(static=True, default=False)

    def value(self, point):
        if self.batched:
            return self.function(point.tree, self.examples)
        return jax.vmap(self.function, (None, 0))(point.tree, self.examples).mean()

    def field(self, point):
        return Vector(jax.grad(lambda theta: self.value(Vector(theta)))(point.tree))


class SymbolicExamples(Examples, SymbolicLandscape):
    """A mean over examples of a SymPy expression ℓ in the coordinates and the symbols of the data."""

    examples: dict[str, Any]

    @property
    def expression(self):
        whole = self.template.subs({parameter(key): value for key, value in self.parameters.items()})
        rows = zip(*(np.asarray(column).tolist() for column in self.examples.values()), strict=True)
        names = [parameter(key) for key in self.examples]
        return sum(whole.subs(dict(zip(names, row, strict=True))) for row in rows) / self.number

    def _evaluate(self, what, point):
        kind = jnp.result_type(*point.tree)
        outputs = self._compiled(what, (*self.parameters, *self.examples), kind)(
            *point.tree, *self._numbers(kind), *self.examples.values()
        )
        return tuple(jnp.broadcast_to(jnp.asarray(v, kind), (self.number,)).mean() for v in outputs)


def from_examples(
    loss: Any,
    examples: Any,
    *,
    dim: int | None = None,
    like: Any = None,
    batched: bool = False,
    symbols: Any = None,
    box: Any = None,
    parameters: Any = None,
    name: str = "examples",
) -> Examples:
    """See :meth:`Landscape.from_examples`."""
    checks.flag("batched", batched)
    if not callable(loss) and not isinstance(loss, str | sympy.Basic):
        raise TypeError(f"loss must be a function or an expression, got {checks.shown(loss)}")
    if parameters is not None:
        checks.mapping("parameters", parameters, "name -> number")
    columns = jax.tree.map(_column, examples, is_leaf=lambda part: isinstance(part, list))  # a list is numbers
    precision.tell_rounded("examples", examples, columns)
    lengths = {np.shape(leaf)[0] for leaf in jax.tree.leaves(columns)}
    if len(lengths) != 1:
        raise ValueError(f"examples must be arrays with one and the same leading length, got lengths {sorted(lengths)}")
    if isinstance(loss, Callable):
        return _of_function(loss, columns, dim, like, batched, box, name)
    if not isinstance(columns, dict) or any(np.ndim(column) != 1 for column in columns.values()):
        raise ValueError("for an expression, examples must be a mapping from symbol names to lists of numbers")
    values = {key: column[0] for key, column in columns.items()} | dict(parameters or {})
    one = Landscape.from_expression(loss, symbols, box, values, name)
    others = {key: value for key, value in one.parameters.items() if key not in columns}
    return SymbolicExamples(
        name=name, box=one.box, template=one.template, symbols=one.symbols, parameters=others, examples=columns
    )


def _of_function(loss: Callable, columns: Any, dim: int | None, like: Any, batched: bool, box: Any, name: str):
    if dim is None and like is None:
        raise ValueError("a loss that is a function does not tell its coordinates: give dim, their number, or like")
    first = jax.tree.map(
        lambda leaf: precision.on_device(np.asarray(leaf)[:1] if batched else np.asarray(leaf)[0]), columns
    )
    one = Landscape.from_function(lambda theta: loss(theta, first), dim, box, name, like)
    return FunctionExamples(name=name, box=one.box, function=loss, form=one.form, examples=columns, batched=batched)


def _column(values: Any) -> jax.Array:
    if not isinstance(values, jax.Array):
        array = np.asarray(values)
        values = checks.entries("examples", values, "arrays of numbers") if array.dtype.kind == "O" else array
    if values.dtype != jnp.bool_:  # masks are data too
        checks.number("examples", values)
        checks.in_range("examples", values)
    array = precision.on_device(values)
    if array.ndim == 0 or not len(array):
        raise ValueError("examples must hold at least one example along the leading axis")
    return array
