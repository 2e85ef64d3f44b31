"""The contract of a landscape, and the two ways to make one: from an expression, or from a JAX function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import sympy

from flatdyn.core import checks, precision
from flatdyn.core.algebra import Vector
from flatdyn.landscapes import critical, programs, symbolic
from flatdyn.landscapes.critical import CriticalPoints
from flatdyn.landscapes.parameters import Form
from flatdyn.landscapes.symbolic import parameter


class Landscape(eqx.Module):
    """A loss L: R^dim → R. Subclasses say how its value and gradient are computed.

    Attributes:
        name: for legends and records
        dim: number of coordinates
        box: ((lower, upper), ...) that shows what is interesting, or None
    """

    made_by = "fd.landscapes.beale(), fd.Landscape.from_expression(text, symbols) or from_function(loss, dim)"

    @staticmethod
    def from_expression(
        expression: str | sympy.Expr,
        symbols: str | Sequence[sympy.Symbol],
        box: Any = None,
        parameters: Mapping[str, Any] | None = None,
        name: str = "expression",
    ) -> SymbolicLandscape:
        """A landscape from a SymPy expression, or from text.

        Text is read, never evaluated: numbers, coordinates, parameters, pi, E, ``+ - * / **`` (or ``^``), brackets and
        the functions listed in :mod:`flatdyn.landscapes.parsing`. Of SymPy's special functions those work that JAX has:
        erf, erfc, erfinv, gamma, loggamma, polygamma, beta, besseli, Ei, expint, zeta, sinc.

        Args:
            expression: L, in the coordinates and parameters alone; real and differentiable. Its symbols are known by
                name, whatever is assumed of them. Whether the pieces of a Piecewise join smoothly is not checked.
            symbols: the coordinates in order: names ("x y"), or SymPy symbols
            box: ((lower, upper), ...), one pair per coordinate, or None
            parameters: values of the other symbols by name: numbers, or SymPy symbols to stay symbolic
            name: for legends and records
        Raises:
            ValueError: if the expression holds other symbols, is complex, not a scalar, has a kink or jump, a number
                beyond 64 bits, or a function without JAX code; if a parameter is not a finite real number
        """
        if parameters is not None:
            checks.mapping("parameters", parameters, "name -> number")
        checks.text("name", name)
        coordinates = symbolic.coordinates(symbols)
        known = {symbol.name: symbol for symbol in coordinates}
        values = symbolic.numbers(parameters or {}, taken=known)
        known |= {key: parameter(key) for key in values}
        return SymbolicLandscape(
            name=name,
            box=None if box is None else checks.box(box, len(coordinates)),
            template=symbolic.read(expression, known),
            symbols=coordinates,
            parameters=values,
        )

    @staticmethod
    def from_function(
        loss: Callable, dim: int | None = None, box: Any = None, name: str = "function", like: Any = None
    ) -> FunctionLandscape:
        """A landscape from any JAX function of an array of shape (dim,), or of a tree of parameters.

        It answers no symbolic question.

        Args:
            loss: differentiable by JAX, returns a scalar; a pure function, as always in JAX: what it reads besides its
                argument is read when it is first compiled, so a number to be changed makes another function
            dim: number of coordinates
            box: ((lower, upper), ...), one pair per coordinate, or None
            name: for legends and records
            like: instead of `dim`, a tree of arrays such as the parameters of a network: `loss` takes trees like it.
                Points are still arrays (dim,), the leaves one after the other; `landscape.flatten(tree)` makes one and
                `landscape.vector(theta).tree` undoes it.
        Raises:
            ValueError: if both or neither of dim and like are given, or `loss` does not map to one real number
        """
        checks.text("name", name)
        form = Form.of(dim, like)
        point = form.vector(jax.ShapeDtypeStruct((form.dim,), precision.floating())).tree
        shape = checks.traced("loss", loss, point, what=f"a JAX function of {form} that returns one real number")
        if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
            raise ValueError(f"loss must map {form} to one real number, got {shape}")
        box = None if box is None else checks.box(box, form.dim)
        return FunctionLandscape(name=name, box=box, function=loss, form=form)

    @staticmethod
    def from_examples(loss: Any, examples: Any, **options: Any) -> Landscape:
        """A landscape L(θ) = (1/n) Σᵢ ℓ(θ; xᵢ), which :class:`flatdyn.noise.FiniteSum` samples in minibatches.

            Landscape.from_examples("(a*x - b)**2 / 2", {"a": [1, 2], "b": [0, 1]}, symbols="x")
            Landscape.from_examples(lambda theta, example: ..., examples, dim=5)

        Args:
            loss: ℓ: an expression in the coordinates and the names in `examples`, or a JAX function of θ (dim,) and
                one example
            examples: for an expression a mapping name -> n numbers; for a function a tree of arrays (n, ...)
            options: `symbols` (and `parameters`) with an expression; with a function `dim`, or `like` for a tree of
                parameters as in :meth:`from_function`, and `batched=True` if the function takes a batch of examples
                and its mean itself (a network with BatchNorm must); `box` and `name`
        Raises:
            ValueError: if the examples have different lengths, are none or not finite, or the loss does not fit
        """
        from flatdyn.landscapes.finite_sums import from_examples

        return from_examples(loss, examples, **options)

    def value(self, point: Vector) -> jax.Array:
        """L at a vector, a scalar."""
        raise NotImplementedError

    def field(self, point: Vector) -> Vector:
        """∇L at a vector, a vector of the same kind."""
        raise NotImplementedError

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        raise NotImplementedError

    def vector(self, theta: jax.Array) -> Vector:
        """The point with coordinates `theta`, shape (dim,), in the form in which this landscape computes."""
        raise NotImplementedError

    def array(self, point: Vector) -> jax.Array:
        """Inverse of :meth:`vector`: coordinates of shape (dim,)."""
        raise NotImplementedError

    def loss(self, theta) -> jax.Array:
        """L(θ) for theta of shape (..., dim); result of shape (...)."""
        return programs.call("loss", self, theta)

    def grad(self, theta) -> jax.Array:
        """∇L(θ) for theta of shape (..., dim); result of the same shape."""
        return programs.call("grad", self, theta)

    def hessian(self, theta) -> jax.Array:
        """∇²L(θ) for theta of shape (..., dim); result of shape (..., dim, dim)."""
        return programs.call("hessian", self, theta)

    def critical_points(self, progress: bool | None = None) -> CriticalPoints:
        """Where ∇L = 0: a list of :class:`CriticalPoint`, lowest loss first; in 64 bits whatever the session's mode.

        Polynomials are solved exactly in the whole space. Elsewhere a search in `box` finds what it finds; the
        attributes `complete` and `how` of the list say which it was, `continua` what is critical but not isolated.

        Args:
            progress: a bar for a search: always, never, or (None) when it takes longer than two seconds
        Raises:
            ValueError: if a search is needed and there is no box, or a parameter is a symbol
        """
        raise NotImplementedError


class SymbolicLandscape(Landscape):
    """A landscape given by a SymPy expression in coordinates and parameters.

    Attributes:
        expression: L in the coordinates, parameter values put in
        template: L in the coordinates and the parameters' symbols
        symbols: the coordinates
        parameters: name -> number or symbol; numbers are leaves, so a sweep can batch them
    """

    name: str = eqx.field(static=True)
    box: tuple | None = eqx.field(static=True)
    template: sympy.Expr = eqx.field(static=True)
    symbols: tuple[sympy.Symbol, ...] = eqx.field(static=True)
    parameters: dict[str, Any]

    @property
    def dim(self) -> int:
        return len(self.symbols)

    @property
    def expression(self) -> sympy.Expr:
        return self.template.subs({parameter(key): symbolic.value(key, v) for key, v in self.parameters.items()})

    def value(self, point):
        return self._evaluate("loss", point)[0]

    def field(self, point):
        if isinstance(point.tree[0], sympy.Expr):
            entries = [symbolic.derivative(self.expression, self.symbols, (i,)) for i in range(self.dim)]
            return Vector(tuple(entry(*point.tree) for entry in entries))
        return Vector(self._evaluate("gradient", point))

    def vector(self, theta):
        return Vector(tuple(theta[i] for i in range(self.dim)))

    def array(self, point):
        return jnp.stack(point.tree)

    def _evaluate(self, what: str, point: Vector) -> tuple:
        kind = jnp.result_type(*point.tree)
        outputs = self._compiled(what, tuple(self.parameters), kind)(*point.tree, *self._numbers(kind))
        return tuple(jnp.asarray(v, kind) for v in outputs)

    def _compiled(self, what: str, parameters: tuple[str, ...], kind: Any) -> Callable:
        symbolic.check_precision(self.template, kind)
        return symbolic.compiled(what, self.template, self.symbols, parameters)

    def _numbers(self, kind: Any) -> list:
        """Values of the parameters as the compiled code takes them."""
        exponents = symbolic.exponents(self.template)
        return [symbolic.operand(key, v, kind, key in exponents) for key, v in self.parameters.items()]

    def critical_points(self, progress=None):
        unknown = self.expression.free_symbols - set(self.symbols)
        if unknown:
            raise ValueError(
                f"critical points need numbers for the parameters {symbolic.names(unknown)} of {self.name}"
            )
        return critical.of_expression(self.expression, self.symbols, self.box, progress)

    def __repr__(self) -> str:
        shown = ({"dim": self.dim} if self.dim != 2 else {}) | self.parameters
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in shown.items())})"


class FunctionLandscape(Landscape):
    """A landscape given by a JAX function of an array of shape (dim,), or of a tree. Its gradient is `jax.grad`'s."""

    name: str = eqx.field(static=True)
    box: tuple | None = eqx.field(static=True)
    function: Callable
    form: Form

    @property
    def dim(self) -> int:
        return self.form.dim

    @property
    def expression(self):
        raise TypeError(
            f"{self.name} is a JAX function and has no expression: ask flatdyn.stability.multipliers for numbers, "
            "or build it with Landscape.from_expression"
        )

    symbols = expression

    def value(self, point):
        return self.function(point.tree)

    def field(self, point):
        return Vector(jax.grad(self.function)(point.tree))

    def vector(self, theta):
        return self.form.vector(theta)

    def array(self, point):
        return self.form.flatten(point.tree)

    def flatten(self, tree: Any) -> jax.Array:
        """Coordinates (dim,) of parameters given as the tree that the loss takes."""
        return self.form.flatten(tree)

    def critical_points(self, progress=None):
        return critical.of_function(self, self.box, progress)

    def __repr__(self) -> str:
        return f"{self.name}(dim={self.dim})"
