"""The catalogue: saddles, valleys and wells from the literature, each one line of algebra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import sympy
from sympy import Rational

from flatdyn.core import checks
from flatdyn.landscapes.base import Landscape, SymbolicLandscape
from flatdyn.landscapes.symbolic import parameter

_MOST = 10_000  # coordinates: an expression is written out term by term, a function of an array has no such limit


def _coordinates(dim: int) -> tuple[sympy.Symbol, ...]:
    names = ["x", "y", "z"][:dim] if dim <= 3 else [f"x{i + 1}" for i in range(dim)]
    return tuple(sympy.symbols(names, real=True))


def _dim(dim: int, at_least: int) -> int:
    """A number of coordinates for which an expression can be written out."""
    return checks.count("dim", dim, at_least=at_least, at_most=_MOST)


def _make(name: str, template: sympy.Expr, symbols: Sequence, box: Any, **parameters: Any) -> SymbolicLandscape:
    return Landscape.from_expression(template, symbols, box, parameters, name)


def _check_parameters(**values: Any) -> None:
    """Raise ValueError, by the argument's own name, unless a parameter is a number, a batch of numbers or a symbol."""
    for name, value in values.items():
        if not isinstance(value, Decimal | Fraction):
            checks.number(name, value)


def saddle(curvatures: Sequence = (2.0, -2.0)) -> SymbolicLandscape:
    """Quadratic: L = ½ Σᵢ cᵢ wᵢ². The default is x² − y², the toy problem of Kim et al. (arXiv 2301.06308).

    Args:
        curvatures: c, the Hessian's eigenvalues; any number of them
    Raises:
        ValueError: if there are none, or one is not finite
    """
    values = list(checks.sequence("curvatures", curvatures, "numbers or symbols"))
    for value in values:
        _check_parameters(curvatures=value)
    if not values:
        raise ValueError("saddle needs at least one curvature, got none")
    w = _coordinates(len(values))
    named = {f"c{i + 1}": value for i, value in enumerate(values)}
    template = sum(parameter(key) * x**2 for key, x in zip(named, w, strict=True)) / 2
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
    _check_parameters(a=a, b=b)
    x = _coordinates(_dim(dim, 2))
    centre, steepness = parameter("a"), parameter("b")
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
    _check_parameters(a=a, b=b)
    x = _coordinates(_dim(dim, 2))
    along, across = parameter("a"), parameter("b")
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
    x = _coordinates(_dim(dim, 1))
    return _make("styblinski_tang", sum(w**4 - 16 * w**2 + 5 * w for w in x) / 2, x, [(-5, 5)] * dim)


def double_well(dim: int = 1, stiffness: Any = 1) -> SymbolicLandscape:
    """Double well: L = ¼ (x₁² − 1)² + (k/2) Σᵢ xᵢ², i = 2 … dim. Minima at x₁ = ±1, saddle at 0.

    Args:
        dim: number of coordinates
        stiffness: k, the curvature across the path between the wells
    """
    _check_parameters(stiffness=stiffness)
    x = _coordinates(_dim(dim, 1))
    across = parameter("k") / 2 * sum(w**2 for w in x[1:])
    parameters = {"k": stiffness} if dim > 1 else {}
    return _make("double_well", (x[0] ** 2 - 1) ** 2 / 4 + across, x, [(-2, 2)] * dim, **parameters)


def flat_and_sharp(flat: Any = 1, sharp: Any = 16, barrier: Any = 0.0625) -> SymbolicLandscape:
    """Two minima of equal depth, one flat and one sharp: L = b (x² − 1)² + ½ k(x) y².

        √k(x) = ((√s + √f) + (√s − √f) x) / 2

    The wall across the path, k, grows from f at the flat minimum (−1, 0) to s at the sharp one (1, 0); along the path
    both wells are alike. For s ≠ f these and the saddle (0, 0) are all critical points: ∂L/∂y = k y vanishes off the
    path only where k does, and there ∂L/∂x = 4 b x (x² − 1) does not, for that is beyond x = −1.

    Args:
        flat: f > 0, the curvature across the path at the flat minimum
        sharp: s > f, at the sharp one
        barrier: b > 0, the height of the saddle; the curvature along the path is 8b at the minima
    """
    _check_parameters(flat=flat, sharp=sharp, barrier=barrier)
    x, y = _coordinates(2)
    low, high = sympy.sqrt(parameter("f")), sympy.sqrt(parameter("s"))
    across = ((high + low) / 2 + (high - low) / 2 * x) ** 2
    template = parameter("b") * (x**2 - 1) ** 2 + across * y**2 / 2
    return _make("flat_and_sharp", template, (x, y), [(-2, 2), (-1.5, 1.5)], f=flat, s=sharp, b=barrier)


def factorization(target: Any = 1) -> SymbolicLandscape:
    """The smallest deep linear network: L = ½ (uv − t)². A saddle at the origin, minima on the curve uv = t.

    Args:
        target: t; the origin's eigenvalues are ±t
    """
    _check_parameters(target=target)
    u, v = sympy.symbols("u v", real=True)
    return _make("factorization", (u * v - parameter("t")) ** 2 / 2, (u, v), [(-2.5, 2.5)] * 2, t=target)


def deep_linear(depth: int = 3, width: int = 1, target: Any = 1) -> SymbolicLandscape:
    """Deep linear network: L = ½ ‖W_depth ⋯ W₂ W₁ − T‖²_F with square matrices and T = t·I.

    The origin is a saddle with eigenvalues ±t at depth 2, and has a vanishing Hessian from depth 3 on.

    Args:
        depth: number of layers, at least 2
        width: rows and columns of each matrix; the landscape has depth · width² coordinates
        target: t
    """
    _check_parameters(target=target)
    depth = checks.count("depth", depth, at_least=2, at_most=_MOST)
    width = checks.count("width", width, at_least=1, at_most=_MOST)
    if depth * width**2 > _MOST:
        raise ValueError(f"depth · width² must be at most {_MOST}, got {depth * width**2}: take fewer coordinates")
    layers, product = [], sympy.eye(width)
    for layer in range(1, depth + 1):
        names = [f"w{layer}" if width == 1 else f"w{layer}_{i}{j}" for i in range(width) for j in range(width)]
        layers.append(sympy.Matrix(width, width, sympy.symbols(names, real=True)))
        product = layers[-1] * product
    residual = product - parameter("t") * sympy.eye(width)
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
        flat_and_sharp,
        factorization,
        deep_linear,
    )
}
