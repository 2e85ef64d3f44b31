"""When does one eigen-direction of a critical point attract? Exact inequalities and thresholds.

They come from the method's own step on a line, by :mod:`flatdyn.stability.multipliers`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.landscapes import saddle
from flatdyn.methods import ASAM, GD
from flatdyn.methods.base import FirstOrder, Method
from flatdyn.stability.multipliers import jacobian, no_derivative


def conditions(method: Method, curvature: Any) -> sympy.Basic:
    """The exact inequality under which an eigen-direction of a critical point attracts.

        0 < s < c,   s = η λ (GD),  η λ (1 + ρ λ) (USAM),  η λ (1 + ρ λ / ε) (smoothed SAM)
                     c = 2 (plain), 2 (1 + μ) (heavy ball), 2 (1 + μ) / (1 + 2 μ) (Nesterov)

    Weight decay w adds η w to s (coupled), or w to λ (in the loss), or shifts both limits (decoupled; for the heavy
    ball −η w (1 − μ) < s < (2 − η w)(1 + μ)); dampening τ divides them, for the heavy ball by 1 − τ. Decay moves the
    points at which a method rests: λ is then the curvature where it does.

    Along an eigenvector the linearised step has the characteristic polynomial p(z) of :func:`jacobian` on a
    quadratic in one dimension. By the Jury criterion its roots are inside the unit circle if p(1) > 0, p(−1) > 0 and
    |p(0)| < 1; for 0 ≤ μ, τ < 1 the first two imply the third. Both are linear in s, which gives the form above.

    For methods with a memory of their own (Friendly, momentum, lagged SAM, LookSAM, Lookahead) the three inequalities
    stand as they are, over as many steps as after which the map repeats itself.

    Args:
        method: GD, USAM, or one with eps > 0 of those that normalise; hyperparameters numbers or symbols
        curvature: λ, the Hessian's eigenvalue in that direction; a number or a symbol
    Returns:
        SymPy relation in the symbols given; true or false if there are none
    Raises:
        ValueError: for normalised SAM (eps = 0), which has no linearisation there; for a masked method
        TypeError: if the method does not follow one gradient, or is ASAM, or remembers more than two numbers
    """
    if checks.kind("method", method, Method).remembers:
        return _jury(method, curvature)
    step, least, limit, values = effective_step(method, curvature)
    step, least, limit = (part.xreplace(values) for part in (step, least, limit))
    return sympy.And(sympy.Gt(step, least), sympy.Lt(step, limit))


def region(condition: sympy.Basic, grids: Mapping[sympy.Symbol, Any]) -> np.ndarray:
    """Where a relation of :func:`conditions` holds, as a boolean array.

    Args:
        condition: a relation, or true or false
        grids: symbol -> numbers, which broadcast against each other
    Raises:
        ValueError: if the condition holds a symbol without numbers
    """
    checks.kind("condition", condition, (sympy.Basic, bool), "flatdyn.stability.conditions(method, curvature)")
    if not isinstance(grids, Mapping) or not all(isinstance(symbol, sympy.Symbol) for symbol in grids):
        raise TypeError(f"grids must be a dict from symbols to numbers, got {checks.shown(grids)}")
    grids = {symbol: checks.numbers(f"grids[{symbol}]", values) for symbol, values in grids.items()}
    condition = sympy.sympify(condition)
    missing = condition.free_symbols - set(grids)
    if missing:
        raise ValueError(f"grids has no numbers for {', '.join(sorted(map(str, missing)))} of the condition")
    try:
        shape = np.broadcast_shapes(*(values.shape for values in grids.values()))
    except ValueError:
        shapes = ", ".join(str(values.shape) for values in grids.values())
        raise ValueError(f"grids must have shapes that fit each other, got {shapes}") from None
    holds = sympy.lambdify(list(grids), condition, "numpy")(*(np.broadcast_to(x, shape) for x in grids.values()))
    return np.broadcast_to(np.asarray(holds, dtype=bool), shape)


class Threshold(NamedTuple):
    """Values of one hyperparameter at which an eigen-direction changes stability; see :func:`threshold`."""

    at_plus_one: list[sympy.Expr]
    at_minus_one: list[sympy.Expr]


def threshold(method: Method, curvature: Any, parameter: str) -> Threshold:
    """Where stability along an eigen-direction changes as one hyperparameter varies.

    A multiplier crosses +1 where s = 0 (for USAM on λ < 0: ρ = 1/|λ|), and −1 where s = c, in the notation of
    :func:`conditions`. Momentum does not enter s = 0: it cannot move that threshold.

    Args:
        method: as for :func:`conditions`; its own value of `parameter` is ignored
        curvature: λ, a number or a symbol
        parameter: "lr", "rho", "momentum", "weight_decay", ...
    Returns:
        Threshold: solutions for a multiplier +1 and for a multiplier −1, those in the parameter's range
    Raises:
        ValueError: if the method has no such hyperparameter, and as for :func:`conditions`
    """
    checks.text("parameter", parameter)
    step, least, limit, values = effective_step(method, curvature)
    unknown = _placeholder(parameter)
    if unknown not in values:
        known = ", ".join(symbol.name for symbol in values if symbol != CURVATURE)
        raise ValueError(f"parameter must be one of {known} for {type(method).__name__}, got {parameter!r}")
    others = {symbol: value for symbol, value in values.items() if symbol != unknown}
    upper = 1 if parameter in ("momentum", "dampening") else sympy.oo

    def solutions(equation: sympy.Expr) -> list[sympy.Expr]:
        roots = sympy.solve(equation.xreplace(others), sympy.Dummy() if not equation.has(unknown) else unknown)
        return [x for x in roots if not (x.is_number and not (x.is_real and 0 <= x < upper))]

    above, below = (sympy.fraction(sympy.together(step - bound))[0] for bound in (least, limit))
    return Threshold(solutions(above), solutions(below))


def _jury(method: Method, curvature: Any) -> sympy.Basic:
    """The inequality of :func:`conditions` for a method with a memory of its own, whose direction has two numbers."""
    if is_masked(method):
        raise ValueError("a masked method has no one-dimensional eigen-directions: ask jacobian for the whole map")
    slopes = jacobian(method, saddle((_as_symbolic("curvature", curvature),)), at=(0,))
    if slopes.rows > 2:
        raise TypeError(
            f"an eigen-direction of {method!r} has {slopes.rows} numbers, too many for an inequality in short: ask "
            "multipliers"
        )
    trace, product = slopes.trace(), slopes.det()
    within = 1 - trace + product > 0, 1 + trace + product > 0, product < 1
    return sympy.And(*(sympy.sympify(part).simplify() for part in within))


CURVATURE = sympy.Dummy("lambda", real=True)


@functools.cache
def _placeholder(name: str) -> sympy.Symbol:
    """The symbol that stands for a hyperparameter."""
    return sympy.Dummy(name, positive=True)


def effective_step(method: Method, curvature: Any) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr, dict]:
    """s and its limits of :func:`conditions` in placeholder symbols, and what to put in their place."""
    checks.kind("method", method, Method)
    if not isinstance(method, FirstOrder):
        raise TypeError(f"{type(method).__name__} does not follow one gradient: ask multipliers for its numbers")
    if isinstance(method, ASAM):
        raise TypeError(
            "ASAM's ascent depends on the parameters, not on the curvature alone: ask multipliers, at a point"
        )
    if is_masked(method):
        raise ValueError("a masked method has no one-dimensional eigen-directions: ask jacobian for the whole map")
    if method.remembers:
        raise TypeError(
            f"{type(method).__name__} remembers more than a velocity, so its threshold has another form: ask "
            "conditions, or multipliers for numbers"
        )
    if method.may_jump and isinstance(getattr(method, "eps", None), (int, float)):
        raise no_derivative(method, "a critical point")
    present, words = [], []
    for field in sorted(dataclasses.fields(method), key=lambda field: field.kw_only):
        if "hyperparameter" not in field.metadata:
            words += [(field.name, getattr(method, field.name))] * field.init
        elif field.name not in method.absent:
            present.append(field.name)
    values = {_placeholder(name): _as_symbolic(name, getattr(method, name)) for name in present}
    limits = _step_and_limits(type(method), tuple(present), tuple(words))
    return *limits, values | {CURVATURE: _as_symbolic("curvature", curvature)}


def is_masked(method: Method) -> bool:
    """Whether a method treats coordinates differently by a mask, of what it perturbs or of what decays."""
    return any(getattr(method, name, None) is not None for name in ("mask", "decay_mask"))


def _as_symbolic(name: str, value: Any) -> sympy.Expr:
    return sympy.sympify(checks.exact(name, value))


@functools.cache
def _step_and_limits(kind: type[FirstOrder], present: tuple[str, ...], words: tuple) -> tuple:
    """s and its limits from the method's own step: s from the plain step 1 − s, and the limits from p(±1) = 0.

    p is that of the step with momentum, dampening and decoupled decay, in which a step along the gradient is s.
    """
    numbers, words = {name: _placeholder(name) for name in present}, dict(words)
    line, s = saddle((CURVATURE,)), sympy.Dummy("s", real=True)
    after = {"momentum": numbers.get("momentum", 0.0), "dampening": numbers.get("dampening", 0.0)}
    if words["decay"] == "decoupled" and "weight_decay" in numbers:
        after |= {"decay": "decoupled", "weight_decay": numbers["lr"] * numbers["weight_decay"] / s}
    apart = {name: 0.0 for name in (*after, "momentum") if name != "decay"}
    plain_step = jacobian(kind(**{**numbers, **words, **apart, "start": "rest"}), line, at=(0,))[0, 0]
    moving = jacobian(GD(s, nesterov=words["nesterov"], **after), saddle((1,)), at=(0,))
    edges = [sympy.solve((side * sympy.eye(moving.rows) - moving).det(), s)[0] for side in (1, -1)]
    return sympy.factor(1 - plain_step), *(sympy.factor(edge) for edge in edges)
