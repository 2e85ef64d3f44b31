"""What is descended: losses L(θ), each one SymPy expression from which the JAX code is derived.

    L = landscapes.beale()
    L.loss(theta), L.grad(theta), L.hessian(theta)      numbers, by JAX; theta of shape (..., dim)
    L.expression, L.symbols                             the same loss in symbols
    L.critical_points()                                 where ∇L = 0, and of what kind

Your own: `Landscape.from_expression("x**2 - y**2 + x*y**3", symbols="x y")`, or, without symbolic questions,
`Landscape.from_function(loss, dim)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy
from sympy import Rational

from flatdyn import checks, criticalpoints
from flatdyn.algebra import Vector
from flatdyn.criticalpoints import CriticalPoint as CriticalPoint
from flatdyn.criticalpoints import CriticalPoints


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
        names |= {key: sympy.Symbol(key, real=True) for key in parameters}
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
    def from_function(loss: Callable, dim: int, box: Any = None, name: str = "function") -> FunctionLandscape:
        """A landscape from any JAX function of an array of shape (dim,). It answers no symbolic question.

        Args:
            loss: differentiable by JAX, returns a scalar
            dim: number of coordinates
            box: ((lower, upper), ...), one pair per coordinate, or None
            name: for legends and records
        Raises:
            ValueError: if `loss` does not map shape (dim,) to one real number
        """
        dim = checks.count("dim", dim, at_least=1)
        shape = jax.eval_shape(loss, jax.ShapeDtypeStruct((dim,), jnp.zeros(0).dtype))
        if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
            raise ValueError(f"loss must map an array of shape ({dim},) to one real number, got {shape}")
        return FunctionLandscape(name=name, box=None if box is None else checks.box(box, dim), function=loss, dim=dim)

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
        return self.template.subs({_parameter(key): _symbolic_value(key, v) for key, v in self.parameters.items()})

    def value(self, point):
        return self._evaluate("loss", point)[0]

    def field(self, point):
        if isinstance(point.tree[0], sympy.Expr):
            at = dict(zip(self.symbols, point.tree, strict=True))
            gradient = [sympy.diff(self.expression, symbol) for symbol in self.symbols]
            return Vector(tuple(entry.subs(at, simultaneous=True) for entry in gradient))
        return Vector(self._evaluate("gradient", point))

    def vector(self, theta):
        return Vector(tuple(theta[i] for i in range(self.dim)))

    def array(self, point):
        return jnp.stack(point.tree)

    def _evaluate(self, what: str, point: Vector) -> tuple:
        compiled = _compiled(what, self.template, self.symbols, tuple(self.parameters))
        kind = jnp.result_type(*point.tree)
        return tuple(jnp.asarray(v, kind) for v in compiled(*point.tree, *self.parameters.values()))

    def critical_points(self):
        unknown = self.expression.free_symbols - set(self.symbols)
        if unknown:
            raise ValueError(f"critical points need numbers for the parameters {_names(unknown)} of {self.name}")
        return criticalpoints.of_expression(self.expression, self.symbols, self.box)

    def __repr__(self) -> str:
        shown = ({"dim": self.dim} if self.dim != 2 else {}) | self.parameters
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in shown.items())})"


class FunctionLandscape(Landscape):
    """A landscape given by a JAX function of an array of shape (dim,). Its gradient is `jax.grad`'s."""

    name: str = eqx.field(static=True)
    box: tuple | None = eqx.field(static=True)
    function: Callable
    dim: int = eqx.field(static=True)

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
        return Vector(theta)

    def array(self, point):
        return point.tree

    def critical_points(self):
        return criticalpoints.of_function(self.loss, self.grad, self.hessian, self.box, self.dim)

    def __repr__(self) -> str:
        return f"{self.name}(dim={self.dim})"


@lru_cache(maxsize=256)
def _compiled(what: str, template: sympy.Expr, symbols: tuple, parameters: tuple) -> Callable:
    """The loss or gradient as JAX code with common subexpressions shared: coordinates, parameters -> list."""
    outputs = [template] if what == "loss" else [sympy.diff(template, symbol) for symbol in symbols]
    return sympy.lambdify([*symbols, *map(_parameter, parameters)], outputs, modules="jax", cse=True)


def _parameter(name: str) -> sympy.Symbol:
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
    if not isinstance(parsed, sympy.Expr):
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


# --- catalogue ------------------------------------------------------------------------------------------------


def _coordinates(dim: int) -> tuple[sympy.Symbol, ...]:
    names = ["x", "y", "z"][:dim] if dim <= 3 else [f"x{i + 1}" for i in range(dim)]
    return tuple(sympy.symbols(names, real=True))


def _make(name: str, template: sympy.Expr, symbols: Sequence, box: Any, **parameters: Any) -> SymbolicLandscape:
    return Landscape.from_expression(template, symbols, box, parameters, name)


def saddle(curvatures: Sequence = (2.0, -2.0)) -> SymbolicLandscape:
    """Quadratic: L = ½ Σᵢ cᵢ wᵢ². The default is x² − y², the toy problem of Kim et al. (arXiv 2301.06308).

    Args:
        curvatures: c, the Hessian's eigenvalues; any number of them
    Raises:
        ValueError: if there are none, or one is not finite
    """
    values = list(curvatures)
    if not values:
        raise ValueError("saddle needs at least one curvature, got none")
    w = _coordinates(len(values))
    named = {f"c{i + 1}": value for i, value in enumerate(values)}
    template = sum(_parameter(key) * x**2 for key, x in zip(named, w, strict=True)) / 2
    return _make("saddle", template, w, [(-2, 2)] * len(w), **named)


def monkey_saddle() -> SymbolicLandscape:
    """Monkey saddle: L = x³ − 3xy². Its one critical point is degenerate: the Hessian vanishes there."""
    x, y = _coordinates(2)
    return _make("monkey_saddle", x**3 - 3 * x * y**2, (x, y), [(-2, 2)] * 2)


def beale() -> SymbolicLandscape:
    """Beale: L = (3/2 − x + xy)² + (9/4 − x + xy²)² + (21/8 − x + xy³)². Minimum (3, ½), saddle (0, 1).

    References:
        Beale 1958; used by Kim et al. (arXiv 2301.06308) from the start (1, 2).
    """
    x, y = _coordinates(2)
    constants = (Rational(3, 2), Rational(9, 4), Rational(21, 8))
    template = sum((c - x + x * y**power) ** 2 for power, c in enumerate(constants, start=1))
    return _make("beale", template, (x, y), [(-4.5, 4.5)] * 2)


def rosenbrock(dim: int = 2, a: Any = 1, b: Any = 100) -> SymbolicLandscape:
    """Rosenbrock's curved valley: L = Σᵢ (a − xᵢ)² + b (xᵢ₊₁ − xᵢ²)², i = 1 … dim − 1.

    In two dimensions the only critical point is the minimum (a, a²); from four on there are saddles.

    Args:
        dim: number of coordinates, at least 2
        a: position of the minimum
        b: steepness of the valley's walls
    """
    x = _coordinates(checks.count("dim", dim, at_least=2))
    centre, steepness = _parameter("a"), _parameter("b")
    template = sum((centre - p) ** 2 + steepness * (q - p**2) ** 2 for p, q in pairwise(x))
    box = [(-2, 2), (-1, 3)] if dim == 2 else [(-2, 2)] * dim
    return _make("rosenbrock", template, x, box, a=a, b=b)


def rosenbrock_saddle(dim: int = 2, a: Any = 1, b: Any = 100) -> SymbolicLandscape:
    """A curved valley with a saddle on its floor: L = (a/4)(x₁² − 1)² + b Σᵢ (xᵢ₊₁ − xᵢ²)².

    For a, b > 0 and any dim there are exactly three critical points: the minima (±1, 1, …, 1) and, between them,
    the saddle 0 with eigenvalues −a, 2b, …, 2b. (The last equation gives x_n = x_{n−1}², then each one above it the
    same for its coordinate; what is left is x₁(x₁² − 1) = 0.)

    Args:
        dim: number of coordinates, at least 2
        a: curvature of the double well along the valley: −a at the saddle
        b: steepness of the valley's walls
    """
    x = _coordinates(checks.count("dim", dim, at_least=2))
    along, across = _parameter("a"), _parameter("b")
    walls = sum((q - p**2) ** 2 for p, q in pairwise(x))
    template = along / 4 * (x[0] ** 2 - 1) ** 2 + across * walls
    return _make("rosenbrock_saddle", template, x, [(-2, 2)] + [(-1, 3)] * (dim - 1), a=a, b=b)


def himmelblau() -> SymbolicLandscape:
    """Himmelblau: L = (x² + y − 11)² + (x + y² − 7)². Four minima with L = 0, four saddles, one maximum."""
    x, y = _coordinates(2)
    return _make("himmelblau", (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2, (x, y), [(-5, 5)] * 2)


def muller_brown() -> SymbolicLandscape:
    """Müller–Brown: L = Σₖ Aₖ exp(aₖ(x − x̄ₖ)² + bₖ(x − x̄ₖ)(y − ȳₖ) + cₖ(y − ȳₖ)²), k = 1 … 4.

    Three minima and two saddles, the standard test of methods for transition states.

    References:
        Müller and Brown, Theor. Chim. Acta 53 (1979) 75.
    """
    x, y = _coordinates(2)
    rows = [
        (-200, -1, 0, -10, 1, 0),
        (-100, -1, 0, -10, 0, Rational(1, 2)),
        (-170, Rational(-13, 2), 11, Rational(-13, 2), Rational(-1, 2), Rational(3, 2)),
        (15, Rational(7, 10), Rational(6, 10), Rational(7, 10), -1, 1),
    ]
    template = sum(
        height * sympy.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + c * (y - y0) ** 2)
        for height, a, b, c, x0, y0 in rows
    )
    return _make("muller_brown", template, (x, y), [(-1.5, 1.2), (-0.2, 2.0)])


def six_hump_camel() -> SymbolicLandscape:
    """Six-hump camel: L = (4 − 2.1x² + x⁴/3) x² + xy + (4y² − 4) y². Six minima, seven saddles, two maxima."""
    x, y = _coordinates(2)
    template = (4 - Rational(21, 10) * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2
    return _make("six_hump_camel", template, (x, y), [(-3, 3), (-2, 2)])


def three_hump_camel() -> SymbolicLandscape:
    """Three-hump camel: L = 2x² − 1.05x⁴ + x⁶/6 + xy + y². Three minima, two saddles."""
    x, y = _coordinates(2)
    template = 2 * x**2 - Rational(21, 20) * x**4 + x**6 / 6 + x * y + y**2
    return _make("three_hump_camel", template, (x, y), [(-2.5, 2.5)] * 2)


def styblinski_tang(dim: int = 2) -> SymbolicLandscape:
    """Styblinski–Tang: L = ½ Σᵢ (xᵢ⁴ − 16xᵢ² + 5xᵢ). Separable, with 2^dim minima and 3^dim critical points.

    Args:
        dim: number of coordinates
    """
    x = _coordinates(checks.count("dim", dim, at_least=1))
    return _make("styblinski_tang", sum(w**4 - 16 * w**2 + 5 * w for w in x) / 2, x, [(-5, 5)] * dim)


def double_well(dim: int = 1, stiffness: Any = 1) -> SymbolicLandscape:
    """Double well: L = ¼ (x₁² − 1)² + (k/2) Σᵢ xᵢ², i = 2 … dim. Minima at x₁ = ±1, saddle at 0.

    Args:
        dim: number of coordinates
        stiffness: k, the curvature across the path between the wells
    """
    x = _coordinates(checks.count("dim", dim, at_least=1))
    across = _parameter("k") / 2 * sum(w**2 for w in x[1:])
    parameters = {"k": stiffness} if dim > 1 else {}
    return _make("double_well", (x[0] ** 2 - 1) ** 2 / 4 + across, x, [(-2, 2)] * dim, **parameters)


def factorization(target: Any = 1) -> SymbolicLandscape:
    """The smallest deep linear network: L = ½ (uv − t)². A saddle at the origin, minima on the curve uv = t.

    Args:
        target: t; the origin's eigenvalues are ±t
    """
    u, v = sympy.symbols("u v", real=True)
    return _make("factorization", (u * v - _parameter("t")) ** 2 / 2, (u, v), [(-2.5, 2.5)] * 2, t=target)


def deep_linear(depth: int = 3, width: int = 1, target: Any = 1) -> SymbolicLandscape:
    """Deep linear network: L = ½ ‖W_depth ⋯ W₂ W₁ − T‖²_F with square matrices and T = t·I.

    The origin is a saddle with eigenvalues ±t at depth 2, and has a vanishing Hessian from depth 3 on.

    Args:
        depth: number of layers, at least 2
        width: rows and columns of each matrix; the landscape has depth · width² coordinates
        target: t
    """
    checks.count("depth", depth, at_least=2)
    checks.count("width", width, at_least=1)
    layers, product = [], sympy.eye(width)
    for layer in range(1, depth + 1):
        names = [f"w{layer}" if width == 1 else f"w{layer}_{i}{j}" for i in range(width) for j in range(width)]
        layers.append(sympy.Matrix(width, width, sympy.symbols(names, real=True)))
        product = layers[-1] * product
    residual = product - _parameter("t") * sympy.eye(width)
    template = sum(entry**2 for entry in residual) / 2
    symbols = [symbol for layer in layers for symbol in layer]
    return _make("deep_linear", template, symbols, [(-2, 2)] * len(symbols), t=target)


CATALOGUE: dict[str, Callable[..., SymbolicLandscape]] = {
    constructor.__name__: constructor
    for constructor in (
        saddle,
        monkey_saddle,
        beale,
        rosenbrock,
        rosenbrock_saddle,
        himmelblau,
        muller_brown,
        six_hump_camel,
        three_hump_camel,
        styblinski_tang,
        double_well,
        factorization,
        deep_linear,
    )
}
