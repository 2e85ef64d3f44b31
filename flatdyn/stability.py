"""When is a point an attractor? The one-step map in symbols, its Jacobian, and its multipliers.

The map is not written here: it is what the method's own `step` gives when it runs on SymPy symbols.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy
from jax.flatten_util import ravel_pytree

from flatdyn.algebra import Vector, plain
from flatdyn.landscapes import Landscape
from flatdyn.methods.base import Method
from flatdyn.processes import Iteration, Process


def state_symbols(method: Method, landscape: Landscape) -> tuple[sympy.Symbol, ...]:
    """Symbols of the full state: the coordinates, then, with momentum, the velocities v_x, v_y, …"""
    return tuple(_symbolic_state(method, landscape.symbols)[0])


def update_map(method: Method, landscape: Landscape) -> sympy.Matrix:
    """One noiseless step in symbols: the new θ, then the new velocity if there is one.

    Hyperparameters and landscape parameters may be symbols.

    Args:
        method: GD, SAM, USAM, … whose `step` uses vector algebra alone
        landscape: one with an expression
    Returns:
        column of expressions in :func:`state_symbols`, shape (n, 1), n = dim or 2·dim
    Raises:
        TypeError: if the landscape has no expression, or the method computes with arrays (use :func:`multipliers`)
    """
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
    symbols, step = _symbolic_step(method, landscape)
    slopes = step.jacobian(symbols)
    if at is None:
        return plain(slopes)
    values = [sympy.sympify(value.item() if hasattr(value, "item") else value) for value in at]
    if len(values) == landscape.dim:
        values += [sympy.Integer(0)] * (len(symbols) - landscape.dim)
    if len(values) != len(symbols):
        raise ValueError(f"at must hold {landscape.dim} coordinates or {len(symbols)} state values, got {len(values)}")
    point = dict(zip(symbols, values, strict=True))
    divisors = {power.base.xreplace(point) for power in slopes.atoms(sympy.Pow) if power.exp.is_negative}
    numbers = all(value.is_number for value in values[: landscape.dim])
    if any(d.is_zero for d in divisors) or (numbers and _jumps_at(method, landscape, values[: landscape.dim])):
        raise _no_derivative(method, at)
    return plain(slopes.xreplace(point))


def multipliers(process: Process | Method, landscape: Landscape | None = None, *, at: Any) -> np.ndarray:
    """Eigenvalues of the Jacobian of the full state map at a point; a fixed point attracts if all are inside |z| = 1.

    Computed by forward differentiation in 64 bits, so it works for any process: a method on a landscape, an optax
    optimiser, your own map.

    Args:
        process: a process, or a method (then give the landscape)
        landscape: what the method descends
        at: θ, shape (dim,); the rest of the state is that of a start at rest there
    Returns:
        complex array, shape (n,), largest modulus first
    Raises:
        ValueError: if the map has no derivative there, or is random
    """
    slopes = numeric_jacobian(process, landscape, at=at)
    values = np.linalg.eigvals(slopes).astype(complex)
    return values[np.lexsort((values.imag, values.real, -np.abs(values)))]


def numeric_jacobian(process: Process | Method, landscape: Landscape | None = None, *, at: Any) -> np.ndarray:
    """The matrix of :func:`jacobian` as numbers, by `jax.jacfwd` of the state map; arguments as :func:`multipliers`."""
    if isinstance(process, Method):
        if landscape is None:
            raise ValueError("a method alone has no dynamics: give the landscape as the second argument")
        process = Iteration(landscape, process)
    if process.random:
        raise ValueError("a random map has no single Jacobian: ask for that of the process without noise")
    with jax.enable_x64(True):
        theta = jnp.asarray(np.asarray(at, dtype=float))
        if theta.shape != (process.dim,):
            raise ValueError(f"at must have shape ({process.dim},), got {theta.shape}")
        moving, fixed = eqx.partition(process.init(theta), eqx.is_inexact_array)
        flat, unravel = ravel_pytree(moving)

        def state_map(flat):
            new = process.step(eqx.combine(unravel(flat), fixed))
            return ravel_pytree(eqx.filter(new, eqx.is_inexact_array))[0]

        slopes = np.asarray(jax.jacfwd(state_map)(flat))
    method = getattr(process, "method", process)
    if np.isnan(slopes).any() or (isinstance(process, Iteration) and _jumps_at(method, process.landscape, at)):
        raise _no_derivative(method, at)
    return slopes


def _jumps_at(method: Method, landscape: Landscape, at: Any) -> bool:
    """Whether a normalised method is asked about a critical point, up to the rounding of its coordinates."""
    eps = getattr(method, "eps", None)
    if not isinstance(eps, (int, float)) or eps != 0:
        return False
    with jax.enable_x64(True):
        theta = jnp.asarray([float(x) for x in at])
        gradient, hessian = landscape.grad(theta), landscape.hessian(theta)
    reach = (1 + np.abs(theta).max()) * 64 * np.finfo(float).eps
    return bool(np.abs(gradient).max() <= reach * np.abs(hessian).max())


def _no_derivative(method: Any, at: Any) -> ValueError:
    return ValueError(
        f"{type(method).__name__} has no Jacobian at {np.asarray(at).tolist()}: its map jumps there. Normalised SAM "
        "does so at every critical point: smooth the norm with eps > 0, use USAM, or ask flatdyn.capture where SAM "
        "is drawn in"
    )


def _symbolic_step(method: Method, landscape: Landscape) -> tuple[list[sympy.Symbol], sympy.Matrix]:
    """State symbols and one step from them, norms as :class:`flatdyn.algebra.Length`."""
    symbolic = landscape.symbols  # a landscape without expression says so here
    try:
        symbols, state = _symbolic_state(method, symbolic)
        new = method.step(landscape.field, state)
    except TypeError as error:
        raise TypeError(
            f"{type(method).__name__} has no symbolic step ({error}): ask multipliers for its numeric Jacobian"
        ) from error
    return symbols, sympy.Matrix([sympy.sympify(leaf) for leaf in jax.tree.leaves(new)])


def _symbolic_state(method: Method, coordinates: tuple) -> tuple[list[sympy.Symbol], Any]:
    """The method's state with a symbol in every place, and these symbols in order."""
    start = method.init(Vector(coordinates))
    paths, tree = jax.tree.flatten_with_path(start)
    symbols = []
    for i, (path, _) in enumerate(paths):
        coordinate = coordinates[i % len(coordinates)]
        field = path[0].name
        prefix = {"velocity": "v"}.get(field, field)
        symbols.append(coordinate if field == "theta" else sympy.Symbol(f"{prefix}_{coordinate.name}", real=True))
    return symbols, jax.tree.unflatten(tree, symbols)
