"""When is a point an attractor? The one-step map in symbols, its Jacobian, and its multipliers.

The map is not written here: it is what the method's own `step` gives when it runs on SymPy symbols.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, plain
from flatdyn.landscapes import Landscape, saddle
from flatdyn.methods import ASAM, GD, SAM, USAM
from flatdyn.methods.base import FirstOrder, Method
from flatdyn.noise import Exact
from flatdyn.processes import Iteration, Process
from flatdyn.processes.flat import FlatState, flat_state, ordered_eigenvalues

_LONGEST = 1_000_000  # steps of a cycle whose derivatives are multiplied


def state_symbols(method: Method, landscape: Landscape) -> tuple[sympy.Symbol, ...]:
    """Symbols of the full state: the coordinates, then, with momentum, the velocities v_x, v_y, …"""
    checks.kind("method", method, Method)
    checks.kind("landscape", landscape, Landscape)
    return tuple(symbolic_state(method, landscape.symbols)[0])


def update_map(method: Method, landscape: Landscape) -> sympy.Matrix:
    """One noiseless step in symbols: the new θ, then the new velocity if there is one.

    Hyperparameters and landscape parameters may be symbols. Of a method that is random itself (Langevin) it is the
    step with all its normal numbers zero, whose Jacobian is that of the mean where the gradient is linear.

    Args:
        method: GD, SAM, USAM, … whose `step` uses vector algebra alone
        landscape: one with an expression
    Returns:
        column of expressions in :func:`state_symbols`, shape (n, 1), n = dim or 2·dim
    Raises:
        TypeError: if the landscape has no expression, or the method computes with arrays (use :func:`multipliers`)
    """
    checks.kind("method", method, Method)
    checks.kind("landscape", landscape, Landscape)
    return plain(_symbolic_step(method, landscape)[1])


def jacobian(method: Method, landscape: Landscape, at: Any = None) -> sympy.Matrix:
    """Jacobian of the full state map, in symbols or at a point.

        Jᵢⱼ = ∂sᵢ⁺/∂sⱼ,   s = (θ, v)

    Args:
        method, landscape: as for :func:`update_map`
        at: None for symbols; else θ, shape (dim,) (at rest), or the full state, shape (n,); numbers or symbols
    Returns:
        SymPy matrix, shape (n, n)
    Raises:
        TypeError: as for :func:`update_map`
        ValueError: if `at` has another length, or the map has no derivative there
    """
    checks.kind("method", method, Method)
    checks.kind("landscape", landscape, Landscape)
    symbols, step = _symbolic_step(method, landscape)
    slopes = step.jacobian(symbols)
    if at is None:
        return plain(slopes)
    values = checks.symbols("at", at)
    if len(values) == landscape.dim:
        values += [sympy.Integer(0)] * (len(symbols) - landscape.dim)
    if len(values) != len(symbols):
        raise ValueError(
            f"at must hold the {landscape.dim} coordinates of the landscape, or the {len(symbols)} numbers of the full "
            f"state, got {len(values)}"
        )
    point = dict(zip(symbols, values, strict=True))
    divisors = {power.base.xreplace(point) for power in slopes.atoms(sympy.Pow) if power.exp.is_negative}
    numbers = all(value.is_number for value in values[: landscape.dim])
    jumps = numbers and _jumps_at(Iteration(landscape, method), values[: landscape.dim])
    if jumps or any(divisor.is_zero for divisor in divisors):
        raise _no_derivative(method, at)
    return plain(slopes.xreplace(point))


def multipliers(
    process: Process | Method, landscape: Landscape | None = None, *, at: Any, period: int = 1
) -> np.ndarray:
    """Eigenvalues of the Jacobian of the full state map at a point; a fixed point attracts if all are inside |z| = 1.

    Computed by forward differentiation in 64 bits, so it works for any process: a method on a landscape, an optax
    optimiser (past its first steps), your own map. The derivative is compared with differences over finite steps
    (:mod:`flatdyn.processes.flat`): where it holds for none of them, as for Adam and Lion at critical points, the point
    is singular and has no multipliers.

    Args:
        process: a process, or a method (then give the landscape)
        landscape: what the method descends
        at: θ, shape (dim,), for a start at rest there; or the full state, its floating-point numbers in order
        period: number of steps; for a cycle, its period
    Returns:
        complex array, shape (n,), largest modulus first
    Raises:
        ValueError: if the map has no derivative there that its steps follow, or is random
    """
    return ordered_eigenvalues(numeric_jacobian(process, landscape, at=at, period=period))


def kind_of(multipliers: np.ndarray, tol: float = 1e-9) -> str:
    """What the multipliers say: "stable", "saddle", "repelling" or "neutral"; "singular" where they are NaN."""
    multipliers = checks.multipliers(multipliers)
    (tol,) = checks.floats(tol=tol)
    modulus = np.abs(multipliers)
    if np.isnan(modulus).any():
        return "singular"
    if (np.abs(modulus - 1) <= tol).any():
        return "neutral"
    if (modulus < 1).all():
        return "stable"
    return "repelling" if (modulus > 1).all() else "saddle"


def numeric_jacobian(
    process: Process | Method, landscape: Landscape | None = None, *, at: Any, period: int = 1
) -> np.ndarray:
    """The matrix of :func:`jacobian` as numbers, of any process; arguments and errors as :func:`multipliers`."""
    checks.kind("process", process, (Process, Method))
    if landscape is not None:
        checks.kind("landscape", landscape, Landscape)
    if isinstance(process, Method):
        if landscape is None:
            raise ValueError("a method alone has no dynamics: give the landscape as the second argument")
        process = Iteration(landscape, process)
    if process.random and not (isinstance(process, Iteration) and isinstance(process.noise, Exact)):
        raise ValueError("a random map has no single Jacobian: ask for that of the process without noise")
    with jax.enable_x64(True):
        state = flat_state(process)
        values = checks.numbers("at", at)
        if values.shape not in ((process.dim,), (state.size,)):
            where = "process" if landscape is None else "landscape"
            raise ValueError(
                f"at must have shape ({process.dim},), a position of the {where}, or ({state.size},), the full state, "
                f"got {values.shape}"
            )
        flat = state.at_rest(values) if values.shape == (process.dim,) else jnp.asarray(values)
        slopes = orbit_jacobian(process, state, flat, checks.count("period", period, at_least=1, at_most=_LONGEST))
    if slopes is None:
        raise _no_derivative(getattr(process, "method", process), at)
    return slopes


def orbit_jacobian(process: Process, state: FlatState, flat: Any, period: int) -> np.ndarray | None:
    """The Jacobian of so many steps of a process from a flat state, or None where there is none; in 64 bits."""
    if isinstance(process, Iteration) and _jumps_at(process, lambda: np.asarray(state.position(flat))):
        return None
    slopes = np.eye(state.size)
    for i in range(period):
        flat = state.step(flat) if i else flat  # none after the last Jacobian: it would be a program of its own
        if (slope := state.slope(flat)) is None:
            return None
        slopes = slope @ slopes
    return slopes


def is_critical(landscape: Landscape, theta: Any, *, partly: bool = False) -> bool:
    """Whether ∇L, or `partly` one of its coordinates, vanishes at θ, shape (dim,), up to the rounding of θ."""
    checks.kind("landscape", landscape, Landscape)
    checks.flag("partly", partly)
    with jax.enable_x64(True):
        theta = jnp.asarray(
            checks.point("theta", np.asarray(checks.entries("theta", theta, "coordinates")), landscape.dim)
        )
        gradient, hessian = landscape.grad(theta), landscape.hessian(theta)
    reach = (1 + np.abs(theta).max()) * 64 * np.finfo(float).eps
    size = np.abs(gradient).min() if partly else np.abs(gradient).max()
    return bool(size <= reach * np.abs(hessian).max())


def _jumps_at(process: Iteration, theta: Any) -> bool:
    """Whether θ, or what a function gives, is critical for a normalised method, or another place where it jumps."""
    eps, partly = getattr(process.method, "eps", None), process.method.jumps_on_surfaces
    sharp = isinstance(eps, (int, float)) and eps == 0 and process.method.may_jump
    return sharp and is_critical(process.landscape, theta() if callable(theta) else theta, partly=partly)


# --- one eigen-direction: when does it attract? ---------------------------------------------------------------


def conditions(method: Method, curvature: Any) -> sympy.Basic:
    """The exact inequality under which an eigen-direction of a critical point attracts.

        0 < s < c,   s = η λ (GD),  η λ (1 + ρ λ) (USAM),  η λ (1 + ρ λ / ε) (smoothed SAM)
                     c = 2 (plain), 2 (1 + μ) (heavy ball), 2 (1 + μ) / (1 + 2 μ) (Nesterov)

    Along an eigenvector the linearised step has the characteristic polynomial p(z) of :func:`jacobian` on a
    quadratic in one dimension. By the Jury criterion its roots are inside the unit circle if p(1) > 0, p(−1) > 0 and
    |p(0)| < 1; for 0 ≤ μ < 1 the first two imply the third. Both are linear in s, which gives the form above.

    Args:
        method: GD, USAM, or SAM with eps > 0; hyperparameters numbers or symbols
        curvature: λ, the Hessian's eigenvalue in that direction; a number or a symbol
    Returns:
        SymPy relation in the symbols given; true or false if there are none
    Raises:
        ValueError: for normalised SAM (eps = 0), which has no linearisation there; for a masked method
        TypeError: if the method does not follow one gradient, or is ASAM
    """
    step, limit, values = _effective_step(method, curvature)
    step, limit = step.xreplace(values), limit.xreplace(values)
    return sympy.And(sympy.Gt(step, 0), sympy.Lt(step, limit))


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
        parameter: "lr", "rho", or "momentum"
    Returns:
        Threshold: solutions for a multiplier +1 and for a multiplier −1, those in the parameter's range
    Raises:
        ValueError: if the method has no such hyperparameter, and as for :func:`conditions`
    """
    checks.text("parameter", parameter)
    step, limit, values = _effective_step(method, curvature)
    unknown = _HYPERPARAMETERS.get(parameter)
    if unknown not in values:
        known = ", ".join(symbol.name for symbol in values if symbol in _HYPERPARAMETERS.values())
        raise ValueError(f"parameter must be one of {known} for {type(method).__name__}, got {parameter!r}")
    others = {symbol: value for symbol, value in values.items() if symbol != unknown}
    upper = 1 if parameter == "momentum" else sympy.oo

    def solutions(equation: sympy.Expr) -> list[sympy.Expr]:
        roots = sympy.solve(equation.xreplace(others), sympy.Dummy() if not equation.has(unknown) else unknown)
        return [x for x in roots if not (x.is_number and not (x.is_real and 0 <= x < upper))]

    return Threshold(solutions(step), solutions(sympy.fraction(sympy.together(step - limit))[0]))


def edge_of_stability(method: Method, gradient_norm: Any = None) -> Any:
    """The curvature at which a step along the top eigenvector just fails to shrink: a multiplier −1.

        GD    λ* = c / η
        USAM  λ* = (√(1 + 4cρ/η) − 1) / (2ρ)
        SAM   λ* = ‖g‖ (√(1 + 4cρ/(η‖g‖)) − 1) / (2ρ),   2/η as ρ/‖g‖ → 0

    with c as in :func:`conditions`. On a quadratic SAM's two-cycle sits exactly on this edge, so comparing sharpness
    with the edge there tests nothing.

    Args:
        method: GD, SAM or USAM; hyperparameters numbers or symbols
        gradient_norm: ‖g‖ > 0 at the iterate, needed for SAM
    Returns:
        a float, or a SymPy expression if a symbol was given
    Raises:
        ValueError: for SAM without a positive gradient norm
    References:
        Long and Bartlett, arXiv 2309.12488, for SAM without momentum (re-derived).
    """
    checks.kind("method", method, Method)
    if isinstance(method, SAM):
        if gradient_norm is None:
            raise ValueError("the edge of normalised SAM depends on the gradient: give gradient_norm")
        norm = checks.number("gradient_norm", checks.exact("gradient_norm", gradient_norm), above=0) + method.eps
        method = USAM(method.lr, method.rho / norm, method.momentum, nesterov=method.nesterov)
    curvature = sympy.Dummy("lambda", positive=True)
    step, limit, values = _effective_step(method, curvature)
    # Symbols of the user's may not say that they are positive, as these quantities are; placeholders do
    unknown = {symbol: value for symbol, value in values.items() if value.free_symbols and not value.is_positive}
    known = {symbol: value for symbol, value in values.items() if symbol not in unknown}
    edges = sympy.solve((step - limit).xreplace(known), curvature)
    (edge,) = [root.xreplace(unknown) for root in edges if root.is_positive is not False]
    return float(edge) if edge.is_number else edge


_HYPERPARAMETERS = {name: sympy.Dummy(name, positive=True) for name in ("lr", "rho", "momentum", "eps")}
_CURVATURE = sympy.Dummy("lambda", real=True)


def _effective_step(method: Method, curvature: Any) -> tuple[sympy.Expr, sympy.Expr, dict]:
    """s and c of :func:`conditions` in placeholder symbols, and what to put in their place."""
    checks.kind("method", method, Method)
    if not isinstance(method, FirstOrder):
        raise TypeError(f"{type(method).__name__} does not follow one gradient: ask multipliers for its numbers")
    if isinstance(method, ASAM):
        raise TypeError(
            "ASAM's ascent depends on the parameters, not on the curvature alone: ask multipliers, at a point"
        )
    if getattr(method, "mask", None) is not None:
        raise ValueError("a masked method has no one-dimensional eigen-directions: ask jacobian for the whole map")
    if isinstance(method, SAM) and isinstance(method.eps, (int, float)) and method.eps == 0:
        raise _no_derivative(method, "a critical point")
    present = [name for name in _HYPERPARAMETERS if hasattr(method, name) and (name != "momentum" or method.inertial)]
    step, limit = _step_and_limit(type(method), tuple(present), method.nesterov)
    values = {_HYPERPARAMETERS[name]: _as_symbolic(name, getattr(method, name)) for name in present}
    return step, limit, values | {_CURVATURE: _as_symbolic("curvature", curvature)}


def _as_symbolic(name: str, value: Any) -> sympy.Expr:
    return sympy.sympify(checks.exact(name, value))


@functools.cache
def _step_and_limit(kind: type[FirstOrder], present: tuple[str, ...], nesterov: bool) -> tuple:
    """s and c from the method's own step: s from the plain step 1 − s, c from p(−1) = 0 of the step with momentum."""
    line = saddle((_CURVATURE,))
    named = {name: _HYPERPARAMETERS[name] for name in present}
    plain_step = jacobian(kind(**{**named, "momentum": 0.0}), line, at=(0,))[0, 0]
    s = sympy.Dummy("s", positive=True)
    moving = jacobian(GD(s, named.get("momentum", 0.0), nesterov), saddle((1,)), at=(0,))
    (limit,) = sympy.solve((sympy.eye(moving.rows) + moving).det(), s)  # p(−1) = ± det(−1 − J)
    return sympy.factor(1 - plain_step), sympy.factor(limit)


def _no_derivative(method: Any, at: Any) -> ValueError:
    place, name = at if isinstance(at, str) else np.asarray(at).tolist(), type(method).__name__
    if isinstance(method, FirstOrder) and hasattr(method, "eps"):
        return ValueError(
            f"{name} has no Jacobian at {place}: its map jumps there. Normalised SAM "
            "does so at every critical point: smooth the norm with eps > 0, use USAM, or ask flatdyn.quadratic for "
            "SAM's capture set, two-cycles and fixed points"
        )
    return ValueError(
        f"{name} has no Jacobian at {place} that its steps follow (singular): it jumps or bends there, as sign(g) and "
        "Adam's g/(|g| + 1e-8) do at every critical point. No multiplier says then whether runs come to rest: ask "
        "simulate or map_basins, or give the optimiser a larger eps"
    )


def _symbolic_step(method: Method, landscape: Landscape) -> tuple[list[sympy.Symbol], sympy.Matrix]:
    """State symbols and one step from them, norms as :class:`flatdyn.core.algebra.Length`."""
    symbolic = landscape.symbols  # a landscape without expression says so here
    try:
        symbols, state = symbolic_state(method, symbolic)
        new = method.step(landscape.field, state, *[Vector((sympy.Integer(0),) * len(symbolic))] * method.draws)
    except TypeError as error:
        raise TypeError(
            f"{type(method).__name__} has no symbolic step ({error}): ask multipliers for its numeric Jacobian"
        ) from error
    return symbols, sympy.Matrix([sympy.sympify(leaf) for leaf in jax.tree.leaves(new)])


def symbolic_state(method: Method, coordinates: tuple) -> tuple[list[sympy.Symbol], Any]:
    """The method's state with a symbol in every place, and these symbols in order."""
    coordinates = tuple(checks.symbols("coordinates", coordinates))
    checks.kind("method", method, Method)
    start = method.init(Vector(coordinates))
    paths, tree = jax.tree.flatten_with_path(start)
    symbols = []
    for i, (path, _) in enumerate(paths):
        coordinate = coordinates[i % len(coordinates)]
        field = path[0].name
        prefix = {"velocity": "v", "momentum": "p"}.get(field, field)
        symbols.append(coordinate if field == "theta" else sympy.Symbol(f"{prefix}_{coordinate.name}", real=True))
    return symbols, jax.tree.unflatten(tree, symbols)
