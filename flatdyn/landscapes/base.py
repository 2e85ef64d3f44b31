"""The contract of a landscape, and the two ways to make one: from an expression, or from a JAX function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn import checks
from flatdyn.algebra import Deferred, Vector
from flatdyn.landscapes import critical
from flatdyn.landscapes.critical import CriticalPoints
from flatdyn.landscapes.forms import Form


class Landscape(eqx.Module):
    """A loss L: R^dim → R. Subclasses say how its value and gradient are computed.

    Attributes:
        name: for legends and records
        dim: number of coordinates
        box: ((lower, upper), ...) that shows what is interesting, or None
    """

    @staticmethod
    def from_expression(
        expression: str | sympy.Expr,
        symbols: str | Sequence[sympy.Symbol],
        box: Any = None,
        parameters: Mapping[str, Any] | None = None,
        name: str = "expression",
    ) -> SymbolicLandscape:
        """A landscape from a SymPy expression, or a string that SymPy reads as one.

        Args:
            expression: L, in the coordinates and parameters alone; real and differentiable
            symbols: the coordinates in order: names ("x y"), or SymPy symbols
            box: ((lower, upper), ...), one pair per coordinate, or None
            parameters: values of the other symbols by name: numbers, or SymPy symbols to stay symbolic
            name: for legends and records
        Raises:
            ValueError: if the expression holds other symbols, is complex, not a scalar, or has a kink or jump
        """
        coordinates = sympy.symbols(symbols, real=True, seq=True) if isinstance(symbols, str) else symbols
        coordinates, parameters = tuple(coordinates), dict(parameters or {})
        names = {symbol.name: symbol for symbol in coordinates}
        names |= {key: parameter(key) for key in parameters}
        template = _parse(expression, names)
        _check_scalar_field(template, names)
        for key, value in parameters.items():
            checks.number(key, value)
        return SymbolicLandscape(
            name=name,
            box=None if box is None else checks.box(box, len(coordinates)),
            template=template,
            symbols=coordinates,
            parameters=parameters,
        )

    @staticmethod
    def from_function(
        loss: Callable, dim: int | None = None, box: Any = None, name: str = "function", like: Any = None
    ) -> FunctionLandscape:
        """A landscape from any JAX function of an array of shape (dim,), or of a tree of parameters.

        It answers no symbolic question.

        Args:
            loss: differentiable by JAX, returns a scalar
            dim: number of coordinates
            box: ((lower, upper), ...), one pair per coordinate, or None
            name: for legends and records
            like: instead of `dim`, a tree of arrays such as the parameters of a network: `loss` takes trees like it.
                Points are still arrays (dim,), the leaves one after the other; `landscape.flatten(tree)` makes one and
                `landscape.vector(theta).tree` undoes it.
        Raises:
            ValueError: if both or neither of dim and like are given, or `loss` does not map to one real number
        """
        form = Form.of(dim, like)
        shape = jax.eval_shape(loss, form.vector(jax.ShapeDtypeStruct((form.dim,), jnp.zeros(0).dtype)).tree)
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
        from flatdyn.landscapes.examples import from_examples

        return from_examples(loss, examples, **options)

    def value(self, point: Vector) -> jax.Array:
        """L at a vector, a scalar."""
        raise NotImplementedError

    def field(self, point: Vector) -> Vector:
        """∇L at a vector, a vector of the same kind."""
        raise NotImplementedError

    def vector(self, theta: jax.Array) -> Vector:
        """The point with coordinates `theta`, shape (dim,), in the form in which this landscape computes."""
        raise NotImplementedError

    def array(self, point: Vector) -> jax.Array:
        """Inverse of :meth:`vector`: coordinates of shape (dim,)."""
        raise NotImplementedError

    @eqx.filter_jit
    def loss(self, theta) -> jax.Array:
        """L(θ) for theta of shape (..., dim); result of shape (...)."""
        return self._on_points(lambda theta: self.value(self.vector(theta)), "()", theta)

    @eqx.filter_jit
    def grad(self, theta) -> jax.Array:
        """∇L(θ) for theta of shape (..., dim); result of the same shape."""
        return self._on_points(self._grad, "(d)", theta)

    @eqx.filter_jit
    def hessian(self, theta) -> jax.Array:
        """∇²L(θ) for theta of shape (..., dim); result of shape (..., dim, dim)."""
        return self._on_points(jax.jacfwd(self._grad), "(d,d)", theta)

    def _grad(self, theta: jax.Array) -> jax.Array:
        return self.array(self.field(self.vector(theta)))

    def _on_points(self, function: Callable, result: str, theta) -> jax.Array:
        theta = jnp.asarray(theta)
        if theta.ndim == 0 or theta.shape[-1] != self.dim:
            raise ValueError(f"theta must have shape (..., {self.dim}) on {self.name}, got {theta.shape}")
        theta = theta if jnp.issubdtype(theta.dtype, jnp.floating) else theta.astype(float)
        return jnp.vectorize(function, signature=f"(d)->{result}")(theta)

    def critical_points(self) -> CriticalPoints:
        """Where ∇L = 0: a list of :class:`CriticalPoint`, lowest loss first.

        Polynomials are solved exactly in the whole space. Elsewhere a search in `box` finds what it finds; the
        attributes `complete` and `how` of the list say which it was, `continua` what is critical but not isolated.

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
        return self.template.subs({parameter(key): _symbolic_value(key, v) for key, v in self.parameters.items()})

    def value(self, point):
        return self._evaluate("loss", point)[0]

    def field(self, point):
        if isinstance(point.tree[0], sympy.Expr):
            entries = [_derivative(self.expression, self.symbols, (i,)) for i in range(self.dim)]
            return Vector(tuple(entry(*point.tree) for entry in entries))
        return Vector(self._evaluate("gradient", point))

    def vector(self, theta):
        return Vector(tuple(theta[i] for i in range(self.dim)))

    def array(self, point):
        return jnp.stack(point.tree)

    def _evaluate(self, what: str, point: Vector) -> tuple:
        outputs = self._compiled(what, tuple(self.parameters))(*point.tree, *self.parameters.values())
        kind = jnp.result_type(*point.tree)
        return tuple(jnp.asarray(v, kind) for v in outputs)

    def _compiled(self, what: str, parameters: tuple[str, ...]) -> Callable:
        return _compiled(what, self.template, self.symbols, parameters)

    def critical_points(self):
        unknown = self.expression.free_symbols - set(self.symbols)
        if unknown:
            raise ValueError(f"critical points need numbers for the parameters {_names(unknown)} of {self.name}")
        return critical.of_expression(self.expression, self.symbols, self.box)

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

    def critical_points(self):
        return critical.of_function(self.loss, self.grad, self.hessian, self.box, self.dim)

    def __repr__(self) -> str:
        return f"{self.name}(dim={self.dim})"


@lru_cache(maxsize=256)
def _compiled(what: str, template: sympy.Expr, symbols: tuple, parameters: tuple) -> Callable:
    """The loss or gradient as JAX code with common subexpressions shared: coordinates, parameters -> list."""
    outputs = [template] if what == "loss" else [sympy.diff(template, symbol) for symbol in symbols]
    return sympy.lambdify([*symbols, *map(parameter, parameters)], outputs, modules="jax", cse=True)


@lru_cache(maxsize=4096)
def _derivative(expression: sympy.Expr, symbols: tuple, by: tuple[int, ...]) -> type[Deferred]:
    """∂L/∂x_i∂x_j… as a function of a point, spelled out last: differentiating ∇L(p(θ)) stays a short chain rule."""
    derivative = sympy.diff(expression, *(symbols[i] for i in by))

    def at(point) -> sympy.Expr:
        return derivative.xreplace(dict(zip(symbols, point, strict=True)))

    class Entry(Deferred):
        nargs = len(symbols)
        is_real = True

        @classmethod
        def eval(cls, *point):
            return at(point) if all(x.is_number for x in point) else None

        def fdiff(self, argindex=1):
            return _derivative(expression, symbols, tuple(sorted((*by, argindex - 1))))(*self.args)

        def spelled_out(self):
            return at(self.args)

    Entry.__name__ = "dL_" + "".join(symbols[i].name for i in by)  # SymPy tells functions apart by their names too
    return Entry


def parameter(name: str) -> sympy.Symbol:
    """The symbol that stands for a parameter in a template."""
    return sympy.Symbol(name, real=True)


def _symbolic_value(name: str, value: Any) -> sympy.Expr:
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        raise TypeError(f"parameter {name} holds a batch of values: a symbolic question needs one number or symbol")
    return value if isinstance(value, sympy.Basic) else sympy.sympify(np.asarray(value).item())


def _names(symbols) -> str:
    return ", ".join(sorted(symbol.name for symbol in symbols)) or "none"


def _parse(expression: Any, names: dict[str, sympy.Symbol]) -> sympy.Expr:
    try:
        parsed = sympy.sympify(expression, locals=names)
    except (sympy.SympifyError, TypeError, SyntaxError, AttributeError) as error:
        raise ValueError(f"cannot read {expression!r} as an expression: {error}") from None
    if not isinstance(parsed, sympy.Expr) or parsed.is_Matrix:
        raise ValueError(f"a loss must be one scalar expression, got {type(parsed).__name__}: {expression!r}")
    return parsed


# What a gradient contains where the loss has a kink or a jump, or is not a function SymPy can differentiate.
_NOT_SMOOTH = (
    sympy.sign,
    sympy.Heaviside,
    sympy.DiracDelta,
    sympy.floor,
    sympy.ceiling,
    sympy.Derivative,
    sympy.Subs,
    sympy.re,
    sympy.im,
    sympy.arg,
)


def _check_scalar_field(template: sympy.Expr, names: dict[str, sympy.Symbol]) -> None:
    unknown = template.free_symbols - set(names.values())
    if unknown:
        raise ValueError(
            f"the expression holds the symbols {_names(template.free_symbols)}, of which {_names(unknown)} are "
            f"neither coordinates nor parameters (known: {', '.join(names)})"
        )
    found = f"(symbols found: {_names(template.free_symbols)})"
    if template.has(sympy.I) or template.is_real is False:
        raise ValueError(f"a loss must be real, got {template} {found}")
    undefined = template.atoms(sympy.core.function.AppliedUndef)
    gradient = [sympy.diff(template, symbol) for symbol in names.values()]
    if undefined or template.has(*_NOT_SMOOTH) or any(entry.has(*_NOT_SMOOTH) for entry in gradient):
        raise ValueError(
            f"a loss must be differentiable everywhere, {template} is not {found}: smooth it, "
            "or give JAX code to Landscape.from_function if the kink is meant"
        )
