"""When is a point an attractor? The one-step map in symbols, its Jacobian, and its multipliers.

The map is not written here: it is what the method's own `step` gives when it runs on SymPy symbols.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, plain
from flatdyn.landscapes import Landscape
from flatdyn.methods.base import FirstOrder, Method
from flatdyn.noise import Exact
from flatdyn.processes import Iteration, Process
from flatdyn.processes.flat import FlatState, flat_state, ordered_eigenvalues, turns

_LONGEST = 1_000_000  # steps of a cycle whose derivatives are multiplied


def state_symbols(method: Method, landscape: Landscape) -> tuple[sympy.Symbol, ...]:
    """Symbols of the full state: the coordinates, then, with momentum, the velocities v_x, v_y, …"""
    checks.kind("method", method, Method)
    checks.kind("landscape", landscape, Landscape)
    return tuple(symbolic_state(method, landscape.symbols)[0])


def update_map(method: Method, landscape: Landscape) -> sympy.Matrix:
    """One noiseless step in symbols: the new θ, then the new velocity if there is one, then what else is remembered.

    Of a method that counts its steps (LookSAM, Lookahead) it is as many steps as after which the map repeats itself.

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
    return plain(_composed(list(_symbolic_steps(method, landscape))))


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
    steps = list(_symbolic_steps(method, landscape))
    symbols = steps[0][0]
    if at is None:
        return plain(_composed(steps).jacobian(symbols))
    values = checks.symbols("at", at)
    if len(values) == landscape.dim:
        values = _numbers(method.init(Vector(tuple(values))))
    if len(values) != len(symbols):
        raise ValueError(
            f"at must hold the {landscape.dim} coordinates of the landscape, or the {len(symbols)} numbers of the full "
            f"state, got {len(values)}"
        )
    numbers = all(value.is_number for value in values[: landscape.dim])
    jumps = numbers and _jumps_at(Iteration(landscape, method), values[: landscape.dim])
    slopes = sympy.eye(len(symbols))
    for _, step in steps:
        point = dict(zip(symbols, values, strict=True))
        slope = step.jacobian(symbols)
        divisors = {power.base.xreplace(point) for power in slope.atoms(sympy.Pow) if power.exp.is_negative}
        if jumps or any(divisor.is_zero for divisor in divisors):
            raise no_derivative(method, at)
        slope, values = plain(slope.xreplace(point)), plain(step.xreplace(point))
        slopes = slope * slopes if len(steps) > 1 else slope
    return slopes


def multipliers(
    process: Process | Method, landscape: Landscape | None = None, *, at: Any, period: int | None = None
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
        period: number of steps; for a cycle, its period. If not given, 1, or the steps after which the map of a method
            that counts them repeats itself (k of LookSAM), of which it must be a multiple
    Returns:
        complex array, shape (n,), largest modulus first
    Raises:
        ValueError: if the map has no derivative there that its steps follow, or is random, or the period does not fit
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
    process: Process | Method, landscape: Landscape | None = None, *, at: Any, period: int | None = None
) -> np.ndarray:
    """The matrix of :func:`jacobian` as numbers, of any process; arguments and errors as :func:`multipliers`."""
    process, state, flat, steps = point_of(process, landscape, at, period)
    with jax.enable_x64(True):
        slopes = orbit_jacobian(process, state, flat, steps)
    if slopes is None:
        raise no_derivative(getattr(process, "method", process), at)
    return slopes


def point_of(
    process: Process | Method, landscape: Landscape | None, at: Any, period: int | None
) -> tuple[Process, FlatState, jax.Array, int]:
    """The process, its flat state, that at the point, and how often the map repeats itself in the period."""
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
        if period is not None:
            period = checks.count("period", period, at_least=1, at_most=_LONGEST)
        return process, state, flat, turns(process, period)


def orbit_jacobian(process: Process, state: FlatState, flat: Any, steps: int) -> np.ndarray | None:
    """The Jacobian of so many steps of a flat state from one of its rows, or None where there is none; in 64 bits."""
    slopes = np.eye(state.size)
    for slope in orbit_slopes(process, state, flat, steps):
        if slope is None:
            return None
        slopes = slope @ slopes
    return slopes


def orbit_slopes(process: Process, state: FlatState, flat: Any, steps: int) -> Iterator[np.ndarray | None]:
    """The Jacobians of these steps one by one, or None where there is none; in 64 bits."""
    if isinstance(process, Iteration) and _jumps_at(process, lambda: np.asarray(state.position(flat))):
        yield None
        return
    for i in range(steps):
        flat = state.step(flat) if i else flat  # none after the last Jacobian: it would be a program of its own
        yield state.slope(flat)


def is_critical(landscape: Landscape, theta: Any, *, partly: bool = False) -> bool:
    """Whether ∇L, or `partly` one of its coordinates, vanishes at θ, shape (dim,), up to the rounding of θ."""
    checks.kind("landscape", landscape, Landscape)
    checks.flag("partly", partly)
    with jax.enable_x64(True):
        theta = jnp.asarray(
            checks.point("theta", np.asarray(checks.entries("theta", theta, "coordinates")), landscape.dim)
        )
        gradient, hessian = landscape.grad(theta), landscape.hessian(theta)
    return _vanishes(theta, gradient, hessian, partly)


def unperturbed(process: Iteration, theta: Any, *, partly: bool = False) -> bool:
    """Whether the gradient that a method looks at vanishes at θ: ∇L, or ∇L + λθ if weight decay is in the loss."""
    method, landscape = process.method, process.landscape
    if not (isinstance(method, FirstOrder) and method.decays("loss")):
        return is_critical(landscape, theta, partly=partly)
    with jax.enable_x64(True):
        theta = jnp.asarray(checks.entries("theta", theta, "coordinates"), float)
        pulls = landscape.array(method.pulled(landscape.vector(jnp.ones_like(theta))))
        gradient = landscape.grad(theta) + pulls * theta
        hessian = landscape.hessian(theta) + jnp.diag(pulls)
    return _vanishes(theta, gradient, hessian, partly)


def _vanishes(theta: Any, gradient: Any, hessian: Any, partly: bool) -> bool:
    reach = (1 + np.abs(theta).max()) * 64 * np.finfo(float).eps
    size = np.abs(gradient).min() if partly else np.abs(gradient).max()
    return bool(size <= reach * np.abs(hessian).max())


def _jumps_at(process: Iteration, theta: Any) -> bool:
    """Whether θ, or what a function gives, is critical for a normalised method, or another place where it jumps."""
    eps = getattr(process.method, "eps", None)
    sharp = isinstance(eps, (int, float)) and eps == 0 and process.method.may_jump
    partly = getattr(process.method, "p", 2) == math.inf
    return sharp and unperturbed(process, theta() if callable(theta) else theta, partly=partly)


def no_derivative(method: Any, at: Any) -> ValueError:
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


def _symbolic_steps(method: Method, landscape: Landscape) -> Iterator[tuple[list[sympy.Symbol], sympy.Matrix]]:
    """State symbols and one step from them, norms as :class:`flatdyn.core.algebra.Length`, for each of a period."""
    symbolic = landscape.symbols  # a landscape without expression says so here
    try:
        symbols, state = symbolic_state(method, symbolic)
        for _ in range(method.period):
            new = method.step(landscape.field, state, *[Vector((sympy.Integer(0),) * len(symbolic))] * method.draws)
            yield symbols, sympy.Matrix(_numbers(new))
            state = jax.tree.map(lambda own, after: after if isinstance(after, int) else own, state, new)
    except TypeError as error:
        raise TypeError(
            f"{type(method).__name__} has no symbolic step ({error}): ask multipliers for its numeric Jacobian"
        ) from error


def _composed(steps: list[tuple[list[sympy.Symbol], sympy.Matrix]]) -> sympy.Matrix:
    """One step after the other, as an expression in the symbols of the first."""
    (symbols, whole), *others = steps
    for _, step in others:
        whole = step.xreplace(dict(zip(symbols, whole, strict=True)))
    return whole


def _numbers(state: Any) -> list[sympy.Expr]:
    """The numbers of a state of symbols, without counters, in order."""
    return [sympy.sympify(leaf) for leaf in jax.tree.leaves(state) if not isinstance(leaf, int)]


def symbolic_state(method: Method, coordinates: tuple) -> tuple[list[sympy.Symbol], Any]:
    """The method's state with a symbol in every place, and these symbols in order; counters stay."""
    coordinates = tuple(checks.symbols("coordinates", coordinates))
    checks.kind("method", method, Method)
    start = method.init(Vector(coordinates))
    paths, tree = jax.tree.flatten_with_path(start)
    symbols, leaves = [], []
    for path, leaf in paths:
        if isinstance(leaf, int):
            leaves.append(leaf)
            continue
        coordinate = coordinates[len(symbols) % len(coordinates)]
        fields = [key.name for key in path if getattr(key, "name", "tree") not in ("tree", "inner")]
        prefix = "_".join({"velocity": "v", "momentum": "p"}.get(field, field) for field in fields)
        symbol = coordinate if prefix == "theta" else sympy.Symbol(f"{prefix}_{coordinate.name}", real=True)
        symbols.append(symbol)
        leaves.append(symbol)
    return symbols, jax.tree.unflatten(tree, leaves)
