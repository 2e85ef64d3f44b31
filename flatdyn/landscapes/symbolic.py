"""A SymPy expression as JAX code: what it may hold, the numbers in it, the compiled loss and gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import mpmath
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.core.algebra import Deferred
from flatdyn.landscapes.parsing import parse
from flatdyn.landscapes.special import ELEMENTARY, JAX_CODE, PREFIX, SPECIAL, Sinc

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
_KINKED = (sympy.Abs, sympy.Max, sympy.Min)  # their derivatives are among the above, but for those that cancel


_FLOATS = {name: getattr(mpmath.fp, name) for name in dir(mpmath.fp) if not name.startswith("_")}
_FLOATS["Ei"] = mpmath.fp.ei


# --- reading --------------------------------------------------------------------------------------------------


def parameter(name: str) -> sympy.Symbol:
    """The symbol that stands for a parameter in a template."""
    return sympy.Symbol(name, real=True)


def coordinates(symbols: Any) -> tuple[sympy.Symbol, ...]:
    """The coordinates from names ("x y") or SymPy symbols.

    Raises:
        ValueError: if there are none, one is not a symbol or not real, or two have the same name
    """
    wanted = "symbols must be names of coordinates, such as 'x y', or SymPy symbols"
    if isinstance(symbols, str):
        try:
            symbols = sympy.symbols(symbols, real=True, seq=True)
        except ValueError as error:
            raise ValueError(f"{wanted}, got {symbols!r}: {error}") from None
    elif isinstance(symbols, sympy.Symbol):
        symbols = (symbols,)
    try:
        checked = tuple(parameter(one) if isinstance(one, str) else one for one in symbols)
    except TypeError:
        raise ValueError(f"{wanted}, got {symbols!r}") from None
    for symbol in checked:
        if not isinstance(symbol, sympy.Symbol) or symbol.is_real is False:
            raise ValueError(f"{wanted} of real numbers, got {symbol!r} in it")
    names = [symbol.name for symbol in checked]
    if not names:
        raise ValueError(f"{wanted}, got none")
    if len(set(names)) < len(names):
        raise ValueError(f"symbols must be different coordinates, got {' '.join(names)}")
    return checked


def numbers(parameters: Mapping[str, Any], taken: Mapping[str, sympy.Symbol]) -> dict[str, Any]:
    """Values of parameters by name, each as :func:`number` gives it.

    Raises:
        ValueError: if a name is not one, or is that of a coordinate
    """
    if not isinstance(parameters, Mapping):
        raise ValueError(f"parameters must be a mapping from names to numbers, got {_short(parameters)}")
    for name in parameters:
        if not isinstance(name, str) or name in taken:
            what = "a coordinate too" if name in taken else "no name"
            raise ValueError(f"parameters must have names of their own, got {name!r}, which is {what}")
    return {name: number(name, one) for name, one in parameters.items()}


def number(name: str, value: Any) -> Any:
    """A parameter's value in a kind of number that can't wrap around or overflow, or a SymPy expression with symbols.

    Whole numbers of NumPy, fractions and SymPy's numbers become Python numbers, floats of any width 64 bits; arrays and
    values traced by JAX stay what they are.

    Raises:
        ValueError: for anything that is not one finite real number (or an array of such), or beyond 64 bits
    """
    if checks.is_traced(value) or (isinstance(value, sympy.Expr) and value.free_symbols):
        return value
    wanted = f"parameter {name} must be a finite real number"
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise ValueError(f"{wanted}, got {value!r}")
    try:
        converted = value if isinstance(value, (int, float)) else _converted(value)
        if not np.size(converted) or not np.isfinite(np.asarray(converted, dtype=float)).all():
            raise ValueError
    except OverflowError:
        raise ValueError(f"{wanted} of at most 64 bits, got {_short(value)}") from None
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}, got {_short(value)}") from None
    return converted


def _converted(value: Any) -> Any:
    if isinstance(value, sympy.Integer):
        return int(value)
    if isinstance(value, (sympy.Basic, Fraction, Decimal)):
        number = float(value)
        if number == 0 and not (value.is_zero if isinstance(value, sympy.Basic) else value == 0):
            raise OverflowError
        return number
    array = np.asarray(value)
    if np.issubdtype(array.dtype, np.integer):
        return array.astype(np.float64) if array.ndim else array.item()
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError
    if array.ndim:
        return value if hasattr(value, "dtype") else array
    with np.errstate(over="ignore"):  # of a long double; the caller refuses the infinity
        return np.float64(array)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def value(name: str, value: Any) -> sympy.Expr:
    """A parameter's value in an expression.

    Raises:
        TypeError: if it is a batch of values
    """
    if checks.is_traced(value) or np.ndim(value):
        raise TypeError(f"parameter {name} holds a batch of values: a symbolic question needs one number or symbol")
    return value if isinstance(value, sympy.Basic) else sympy.sympify(np.asarray(value).item())


def read(expression: Any, symbols: Mapping[str, sympy.Symbol]) -> sympy.Expr:
    """A loss, from text or a SymPy expression, in the given symbols by name, whatever was assumed of its own.

    Raises:
        ValueError: if it is not one real scalar, differentiable, in these symbols alone, of functions that JAX has
    """
    if isinstance(expression, str):
        template = parse(expression, symbols)
    else:
        try:
            template = sympy.sympify(expression, strict=True)
        except (sympy.SympifyError, TypeError, ValueError, AttributeError):  # of an object's own float(), too
            template = expression
    if isinstance(expression, np.generic) and not isinstance(expression, np.floating | np.integer):
        template = expression  # a complex number, of which SymPy makes a text
    if not isinstance(template, sympy.Expr) or template.is_Matrix:
        raise ValueError(f"a loss must be one scalar expression, got {type(template).__name__}: {_short(expression)}")
    own = {symbol: symbols.get(symbol.name, symbol) for symbol in template.free_symbols}
    template = template.xreplace(own)
    _check_scalar_field(template, symbols)
    return template


def _check_scalar_field(template: sympy.Expr, symbols: Mapping[str, sympy.Symbol]) -> None:
    unknown = template.free_symbols - set(symbols.values())
    if unknown:
        raise ValueError(
            f"the expression holds the symbols {names(template.free_symbols)}, of which {names(unknown)} are "
            f"neither coordinates nor parameters (known: {', '.join(symbols)})"
        )
    listed = f"(symbols found: {names(template.free_symbols)})"
    _check_numbers(template)
    if template.has(sympy.I) or template.is_real is False:
        raise ValueError(f"a loss must be real, got {template} {listed}")
    _check_functions(template)
    gradient = [sympy.diff(template, symbol) for symbol in symbols.values()]
    if template.has(*_NOT_SMOOTH) or any(entry.has(*_NOT_SMOOTH) for entry in gradient):
        raise ValueError(
            f"a loss must be differentiable everywhere, {template} is not {listed}: smooth it, "
            "or give JAX code to Landscape.from_function if the kink is meant"
        )
    for entry in gradient:
        _check_functions(entry)


def _check_functions(expression: sympy.Expr) -> None:
    for part in sorted(expression.atoms(sympy.Function, sympy.Piecewise), key=sympy.default_sort_key):
        name = type(part).__name__
        function, takes = SPECIAL.get(name, (None, lambda *_, name=name: name in ELEMENTARY))
        if not isinstance(part, (*_NOT_SMOOTH, *_KINKED)) and not takes(*part.args):
            what = f"the function {name}" if function is None else str(part)
            raise ValueError(
                f"{what} has no JAX code here: write the loss with {', '.join(sorted({*ELEMENTARY, *SPECIAL}))} "
                "(orders of special functions are fixed numbers), or give JAX code to Landscape.from_function"
            )


def _check_numbers(template: sympy.Expr) -> None:
    if template.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise ValueError(f"a loss must be finite, got {template}")
    for one in template.atoms(sympy.Number):
        if not fits(one, np.float64):
            raise ValueError(f"the number {_short(one)} of the loss is beyond what 64 bits hold (1e-308 to 1e308)")
    for constant in _constants(template):
        try:
            value = complex(sympy.lambdify([], constant, [_FLOATS, "mpmath"])())
        except (ArithmeticError, ValueError):  # ... of an overflow, or at a pole
            value = complex(np.inf)
        if not np.isfinite(value):
            raise ValueError(f"the number {constant} of the loss is beyond what 64 bits hold (1e-308 to 1e308)")
        if value.imag:
            raise ValueError(f"a loss must be real, got {constant} in {template}")


def _constants(expression: sympy.Expr) -> list[sympy.Expr]:
    """The largest parts without symbols that are not numbers yet, such as exp(2)."""
    if expression.is_Number or not expression.args:
        return []
    if not expression.free_symbols and isinstance(expression, sympy.Expr):
        return [expression]
    return [constant for part in expression.args for constant in _constants(part)]


def fits(one: sympy.Number, dtype: Any) -> bool:
    """Whether a number is zero or, in size, between the smallest and the largest of a kind of float."""
    range_ = jnp.finfo(dtype)
    return bool(one.is_zero) or bool(sympy.Float(float(range_.tiny)) <= abs(one) <= sympy.Float(float(range_.max)))


def names(symbols: Any) -> str:
    """Names of symbols in order, for messages."""
    return ", ".join(sorted(symbol.name for symbol in symbols)) or "none"


# --- compiling ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def compiled(what: str, template: sympy.Expr, symbols: tuple, parameters: tuple[str, ...]) -> Callable:
    """The loss or gradient as JAX code with common subexpressions shared: coordinates, parameters -> list."""
    arguments = [*symbols, *map(parameter, parameters)]
    if template.has(sympy.sinc):
        template = template.replace(sympy.sinc, lambda x: Sinc(0, x))
    outputs = [template] if what == "loss" else [sympy.diff(template, symbol) for symbol in symbols]
    outputs = [_for_jax(output) for output in outputs]
    return sympy.lambdify(arguments, outputs, modules=[JAX_CODE, "jax"], cse=True)


@lru_cache(maxsize=256)
def exponents(template: sympy.Expr) -> frozenset[str]:
    """Names of the symbols that stand in an exponent."""
    powers = template.atoms(sympy.Pow)
    return frozenset(symbol.name for power in powers for symbol in power.exp.free_symbols)


def operand(name: str, value: Any, kind: Any, in_exponent: bool) -> Any:
    """A parameter's value as compiled code in floats of a kind takes it: nothing may wrap around or overflow early.

    Raises:
        TypeError: if it is a symbol, or a batch of values outside of jax.vmap
    """
    if isinstance(value, sympy.Basic):
        raise TypeError(f"the landscape must have a number for its parameter {name}, got the symbol {value}")
    if isinstance(value, int):
        if in_exponent and abs(value) <= 64:  # small whole powers are products, exact for negative bases
            return value
        value = float(value)
    if np.ndim(value):
        raise TypeError(
            f"parameter {name} holds a batch of values: ask for one at a time, or with equinox.filter_vmap over the "
            "landscape"
        )
    if isinstance(value, float):
        check_size(name, value, kind)
        return value
    return jnp.asarray(value, jnp.promote_types(jnp.result_type(value), kind))


def check_size(name: str, value: Any, kind: Any) -> None:
    """Raise ValueError if a parameter, one number or several, would become zero or infinite in floats of a kind."""
    for one in np.ravel(value):
        if not fits(sympy.Float(float(one)), kind):
            raise ValueError(
                f"the parameter {name} = {one:g} is beyond what {jnp.finfo(kind).bits} bits hold: "
                'call jax.config.update("jax_enable_x64", True) first, or scale the loss'
            )


@lru_cache(maxsize=256)
def check_precision(template: sympy.Expr, kind: Any) -> None:
    """Raise ValueError if a number of the loss is zero or infinite in floats of this kind."""
    for one in template.atoms(sympy.Number):
        if not fits(one, kind):
            raise ValueError(
                f"the number {_short(one)} of the loss is beyond what {jnp.finfo(kind).bits} bits hold: "
                'call jax.config.update("jax_enable_x64", True) first, or scale the loss'
            )


def _for_jax(expression: sympy.Expr) -> sympy.Expr:
    """With whole numbers beyond 32 bits as floats, as JAX has no longer ones, and JAX's names of special functions."""
    long = [one for one in expression.atoms(sympy.Integer) if abs(one) >= 2**31]
    expression = expression.xreplace({one: sympy.Float(float(one)) for one in long})
    special = [part for part in expression.atoms(sympy.Function) if type(part).__name__ in SPECIAL]
    kinds = {type(part) for part in special}
    for kind in kinds:
        expression = expression.replace(kind, sympy.Function(PREFIX + kind.__name__))
    return expression


@lru_cache(maxsize=4096)
def derivative(expression: sympy.Expr, symbols: tuple, by: tuple[int, ...]) -> type[Deferred]:
    """∂L/∂x_i∂x_j… as a function of a point, spelled out last: differentiating ∇L(p(θ)) stays a short chain rule."""
    slope = sympy.diff(expression, *(symbols[i] for i in by))

    def at(point) -> sympy.Expr:
        return slope.xreplace(dict(zip(symbols, point, strict=True)))

    class Entry(Deferred):
        nargs = len(symbols)
        is_real = True

        @classmethod
        def eval(cls, *point):
            return at(point) if all(x.is_number for x in point) else None

        def fdiff(self, argindex=1):
            return derivative(expression, symbols, tuple(sorted((*by, argindex - 1))))(*self.args)

        def spelled_out(self):
            return at(self.args)

    Entry.__name__ = "dL_" + "".join(symbols[i].name for i in by)  # SymPy distinguishes functions by their names too
    return Entry
