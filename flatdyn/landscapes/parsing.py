"""Text as a SymPy expression, from an allow-list of names and syntax; the text is never evaluated.

Accepted are numbers, the coordinates, the parameters, the constants pi and E, the operators ``+ - * / **`` (``^`` is a
power too), the functions in :data:`FUNCTIONS`, and ``Piecewise((value, condition), ..., (value, True))`` with
comparisons as conditions. Whole numbers and their quotients stay exact: x/3 is a third of x.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import sympy

_MOST_CHARACTERS = 20_000
_DEEPEST = 100
_MOST_BITS = 2**13  # of a whole number; a float holds numbers of 2**10 bits

# Names a text may call, and with how many arguments (None: one or more).
FUNCTIONS: dict[str, tuple[Callable, tuple[int, ...] | None]] = {
    **{
        name: (getattr(sympy, name), (1,))
        for name in (
            *("exp", "sqrt", "cbrt", "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "acot"),
            *("sinh", "cosh", "tanh", "sech", "csch", "coth", "asinh", "acosh", "atanh", "acoth"),
            *("erf", "erfc", "erfinv", "gamma", "loggamma", "digamma", "Ei", "sinc", "factorial"),
        )
    },
    "log": (sympy.log, (1, 2)),
    "ln": (sympy.log, (1,)),
    "zeta": (sympy.zeta, (1, 2)),
    **{name: (getattr(sympy, name), (2,)) for name in ("atan2", "polygamma", "beta", "besseli", "expint")},
    "pow": (operator.pow, (2,)),
    "Rational": (lambda p, q=1: p / q, (1, 2)),
    "S": (lambda n: n, (1,)),
}
# These are read, so that a loss with a kink or jump is refused for what it is.
_NOT_SMOOTH: dict[str, tuple[Callable, tuple[int, ...] | None]] = {
    **{name: (getattr(sympy, name), (1,)) for name in ("Abs", "sign", "floor", "ceiling", "Heaviside")},
    "abs": (sympy.Abs, (1,)),
    "Max": (sympy.Max, None),
    "Min": (sympy.Min, None),
}
_CONSTANTS = {name: getattr(sympy, name) for name in ("pi", "E", "I", "GoldenRatio", "EulerGamma", "oo", "zoo", "nan")}
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.BitXor: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_COMPARISONS = {ast.Lt: sympy.Lt, ast.LtE: sympy.Le, ast.Gt: sympy.Gt, ast.GtE: sympy.Ge}


def parse(text: str, names: Mapping[str, sympy.Symbol]) -> sympy.Expr:
    """The expression that a text stands for; see the module's text for what is accepted.

    Args:
        text: at most 20,000 characters
        names: the symbols it may use, by name; they go before functions and constants of the same name
    Raises:
        ValueError: for any other name or syntax, saying which, and for numbers and powers beyond any use
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"an expression has at most {_MOST_CHARACTERS} characters, got {len(text)}")
    source = text.strip().replace("^", "**")
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, getattr(error, "msg", None) or str(error) or "it is nested too deeply") from None
    try:
        return _Reader(source, names).read(tree.body, 0)
    except _NotAccepted as error:
        raise _refused(text, str(error)) from None


class _NotAccepted(Exception):
    """What in a text is not accepted."""


class _Reader:
    def __init__(self, source: str, names: Mapping[str, sympy.Symbol]):
        self.source, self.names = source, names

    def read(self, node: ast.expr, depth: int) -> Any:
        if depth > _DEEPEST:
            raise _NotAccepted("it is nested too deeply")
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self._name(node.id)
            case ast.UnaryOp() if type(node.op) in _OPERATORS:
                return _OPERATORS[type(node.op)](self.read(node.operand, depth + 1))
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return self._chain(node, depth + 1)
            case ast.Call():
                return self._call(node, depth + 1)
        kind = f"{self._text(node)!r} ({type(node).__name__})"
        raise _NotAccepted(f"{kind} is not among numbers, names, + - * / ** and calls: a loss is one scalar")

    def _text(self, node: ast.AST) -> str:
        text = ast.get_source_segment(self.source, node) or type(node).__name__
        return text if len(text) <= 60 else text[:57] + "..."

    def _number(self, node: ast.Constant) -> sympy.Expr:
        digits = self._text(node)
        if type(node.value) is int:
            _check_bits(node.value.bit_length(), digits)
            return sympy.Integer(node.value)
        if type(node.value) is float:  # taken from its digits, of which a float may not hold all
            if not math.isfinite(node.value):
                raise _NotAccepted(f"the number {digits} is too large for 64 bits")
            return sympy.Float(ast.get_source_segment(self.source, node).replace("_", ""))
        raise _NotAccepted(f"{digits} is not a real number")

    def _name(self, name: str) -> sympy.Expr:
        if name in self.names:
            return self.names[name]
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in FUNCTIONS or name == "Piecewise":
            raise _NotAccepted(f"the function {name} is not called")
        return sympy.Symbol(name)  # the caller knows which symbols are missing

    def _chain(self, node: ast.BinOp, depth: int) -> sympy.Expr:
        """From left to right, not one level deeper for each term of a sum."""
        right = []
        while isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            right.append((node.op, node.right))
            node = node.left
        value = self.read(node, depth)
        for sign, operand in reversed(right):
            value = _combined(type(sign), value, self.read(operand, depth))
        return value

    def _call(self, node: ast.Call, depth: int) -> sympy.Expr:
        if not isinstance(node.func, ast.Name) or node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise _NotAccepted(f"{self._text(node)!r} is not a plain call: write a name and its arguments")
        name = node.func.id
        if name in self.names:
            raise _NotAccepted(f"{name} is a symbol here and can't be called: write * for a product")
        if name == "Piecewise":
            return sympy.Piecewise(*(self._piece(argument, depth) for argument in node.args))
        if name not in FUNCTIONS and name not in _NOT_SMOOTH:
            raise _NotAccepted(f"the function {name} is not among {', '.join((*FUNCTIONS, 'Piecewise'))}")
        function, numbers = FUNCTIONS.get(name) or _NOT_SMOOTH[name]
        if len(node.args) not in numbers if numbers else not node.args:
            wanted = " or ".join(map(str, numbers)) if numbers else "some"
            raise _NotAccepted(f"{name} takes {wanted} arguments, got {len(node.args)}")
        arguments = [self.read(argument, depth) for argument in node.args]
        if function is operator.pow:
            return _combined(ast.Pow, *arguments)
        if name == "factorial":
            return sympy.gamma(arguments[0] + 1) if arguments[0].free_symbols else _whole(function, *arguments)
        if name in ("gamma", "polygamma", "beta", "zeta"):
            return _whole(function, *arguments)
        return function(*arguments)

    def _piece(self, node: ast.expr, depth: int) -> tuple:
        if not isinstance(node, ast.Tuple) or len(node.elts) != 2:
            raise _NotAccepted(f"{self._text(node)!r} is not a piece: write (value, condition)")
        value, condition = node.elts
        return self.read(value, depth), self._condition(condition, depth)

    def _condition(self, node: ast.expr, depth: int) -> Any:
        if isinstance(node, ast.Constant) and node.value is True:
            return sympy.true
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            sides = self.read(node.left, depth), self.read(node.comparators[0], depth)
            return _COMPARISONS[type(node.ops[0])](*sides)
        raise _NotAccepted(
            f"{self._text(node)!r} is not a condition: write one of < <= > >= between two terms, or True"
        )


def _combined(sign: type, left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    if sign in (ast.Pow, ast.BitXor):
        _check_power(left, right)
    return _OPERATORS[sign](left, right)


def _check_power(base: sympy.Expr, exponent: sympy.Expr) -> None:
    """SymPy works out powers of whole numbers, those in (2 x)ⁿ too; that must end."""
    if exponent.is_Rational:
        _check_bits(_bits(base) * abs(exponent), f"{base}**{exponent}")


def _bits(expression: sympy.Expr) -> int:
    return max((max(abs(n.p), n.q).bit_length() for n in expression.atoms(sympy.Rational) if abs(n) != 1), default=0)


def _check_bits(bits: Any, what: str) -> None:
    if bits > _MOST_BITS:
        raise _NotAccepted(f"{what if len(what) <= 60 else what[:57] + '...'} is too large a number or power")


def _whole(function: Callable, *arguments: sympy.Expr) -> sympy.Expr:
    """A function that SymPy works out for whole numbers: (10**9)! would not end."""
    largest = max((abs(a) for a in arguments if a.is_Rational), default=0)
    if largest > 1000:
        raise _NotAccepted(f"{', '.join(map(str, arguments))}: whole numbers above 1000 are too large here")
    return function(*arguments)


def _refused(text: str, why: str) -> ValueError:
    shown = text if len(text) <= 200 else text[:197] + "..."
    return ValueError(f"cannot read {shown!r} as an expression: {why}")
