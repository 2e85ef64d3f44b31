"""The linear step of a method for a given Hessian, as numbers, and the curvature from which on it no longer shrinks.

    s⁺ = A(H) s,   ∇ℓ(θ) = H (θ − θ*)

A is the derivative of the method's own step at the state at rest at θ*, over as many steps as after which the map
repeats itself. So it is there for what has no symbols, too: an optimiser of optax, blocks of parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory
from flatdyn.processes import Iteration
from flatdyn.processes.flat import as_row, confirmed, whole_from
from flatdyn.runs import stepping
from flatdyn.stability.multipliers import no_derivative

_POINTS = 512  # curvatures that are tried at once
_OCTAVES = 64  # to each side of the unit in which they are tried
ROUNDING = 1e-9  # above 1 by which a modulus counts: a double multiplier keeps half of its digits
_LEAST = 16 * float(np.finfo(float).eps), 1e-13  # the same of simple ones of a few numbers, and of many
_FEW = 8
_REACH, _CURVED = 1e-3, 1e-2  # over which the derivative is to hold, and of ε where a norm is smoothed by one


class Response:
    """A(H) of a method, for many Hessians at once.

    Args:
        process: a method on a landscape, whose form of θ it has; only the Hessians that are asked for count
        start: the state at θ*, past what only the first steps do
        moving: which numbers of a state take part, a tree of True and False; the others are held
        slope: what is added to the method's ε, over the curvature: see :mod:`flatdyn.stability.norms`
    """

    def __init__(self, process: Iteration, start: Any, moving: Any = None, slope: float = 0.0):
        self._given, self._start = process, start
        self._slope = None if slope == 0 else jnp.asarray(slope)
        self._process = stepping.prepared(process, np.float64)
        self._moving = jax.tree.map(eqx.is_inexact_array, start) if moving is None else moving
        self.size = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(start, self._moving)))

    def matrices(self, hessians: np.ndarray, curvatures: np.ndarray | None = None) -> np.ndarray:
        """A, shape (n, size, size), of Hessians (n, dim, dim), whose sharpness is `curvatures`, shape (n,)."""
        hessians = jnp.asarray(hessians, float)
        sharp = jnp.ones(len(hessians)) if curvatures is None else jnp.asarray(curvatures, float)
        matrices = np.asarray(_matrices(self._process, self._start, self._moving, self._slope, hessians, sharp))
        if not np.isfinite(matrices).all():
            raise no_derivative(self._given.method, "a critical point")
        return matrices

    def unit(self, hessian: np.ndarray) -> float:
        """The factor of H with which a gradient moves θ by the order of θ itself, in a step or in two."""
        slope = np.asarray(_slope(self._process, self._start, self._moving, self._slope, jnp.asarray(hessian, float)))
        dim = len(hessian)  # θ comes first in a state
        size = np.abs(slope[:dim, :dim]).max() or np.abs(slope).max()
        if not np.isfinite(size):
            raise no_derivative(self._given.method, "a critical point")
        return 1 / size if size > 0 else 1.0

    def check(self, hessian: np.ndarray, eps: float | None) -> None:
        """Raise ValueError if the step does not follow A(H) over a finite distance: it jumps, or bends at once.

        Args:
            hessian: H
            eps: size of a gradient up to which the step is straight, if that is less than a thousandth
        """
        row = np.asarray(as_row(eqx.filter(self._start, self._moving)))
        slope = self.matrices(hessian[None], np.ones(1))[0]
        reach = _REACH * min(1.0, _CURVED * eps / np.abs(hessian).max()) if eps else _REACH

        def steps(rows):
            hessians = jnp.broadcast_to(jnp.asarray(hessian, float), (len(rows), *hessian.shape))
            return _steps(self._process, self._start, self._moving, self._slope, jnp.asarray(rows), hessians)

        held = confirmed(steps, row, slope, reach)
        if held is None or np.abs(held - slope).max() > _REACH * (1 + np.abs(slope).max()):
            raise no_derivative(self._given.method, "a critical point")

    def check_scale(self, hessian: np.ndarray) -> None:
        """Raise ValueError if a step at θ of size 1 is not that of A(H), as where it is measured by θ's own length."""
        row = np.asarray(as_row(eqx.filter(self._start, self._moving)))
        aside = np.where(np.arange(len(row)) < len(hessian), 1.0, 0.0)
        rows, hessians = np.stack([row, row + aside]), np.broadcast_to(hessian, (2, *hessian.shape))
        rest, moved = np.asarray(
            _steps(self._process, self._start, self._moving, self._slope, jnp.asarray(rows), jnp.asarray(hessians))
        )
        if not np.abs(moved - rest - self.matrices(hessian[None])[0] @ aside).max() <= ROUNDING:
            raise no_derivative(self._given.method, "a critical point")


def radii(matrices: np.ndarray) -> np.ndarray:
    """The spectral radius of each matrix, shape (n,)."""
    return np.abs(np.linalg.eigvals(matrices)).max(axis=-1)


def first_crossing(radius: Callable[[np.ndarray], np.ndarray], unit: float, size: int) -> float | None:
    """The smallest x > 0 at which a radius passes 1; None if it does not within 2⁶⁴ units.

    Args:
        radius: of many x at once, always as many, shape (n,)
        unit: of x
        size: of the matrices
    """
    least = _LEAST[size > _FEW]
    tried = unit * 2.0 ** np.linspace(-_OCTAVES, _OCTAVES, _POINTS)
    moduli = radius(tried)
    above = np.flatnonzero(moduli > 1 + ROUNDING)
    first = int(above[0]) if len(above) else len(moduli)
    low, high = (tried[max(first - 1, 0)], tried[first]) if len(above) else (None, None)
    peaks = [i for i in range(1, min(first, len(moduli) - 1)) if moduli[i] >= max(moduli[i - 1], moduli[i + 1], 0.5)]
    for i in peaks:  # it may pass 1 and come back between two of those that were tried
        if moduli[i] >= 1 - ROUNDING:
            continue  # it is flat there: a multiplier that no curvature moves
        between = np.geomspace(tried[i - 1], tried[i + 1], _POINTS)
        values = radius(between)
        if values.max() > 1 + ROUNDING:
            over = int(np.argmax(values > 1 + ROUNDING))
            first, low, high = i, between[max(over - 1, 0)], between[over]
            break
    if high is None:
        return None
    while True:
        between = np.geomspace(low, high, _POINTS)
        passed = np.flatnonzero(radius(between)[1:-1] > 1 + least)
        over = int(passed[0]) + 1 if len(passed) else len(between) - 1
        narrower = between[over - 1], between[over]
        if narrower == (low, high):
            break
        low, high = narrower
    return float(low / 2 + high / 2)


def check_size(size: int) -> None:
    """Raise MemoryError if a scan takes too much memory."""
    needed = memory.array_bytes(6, _POINTS, size, size)
    memory.check_memory(needed, "the linear steps", "ask for a `landscape` of fewer coordinates")


def sharpest(hessian: np.ndarray) -> float:
    """λmax of a Hessian.

    Raises:
        ValueError: if it is not above 0
    """
    largest = float(np.linalg.eigvalsh(hessian)[-1])
    if not largest > 0:
        raise ValueError(
            f"landscape must have a positive curvature at `at`, got {checks.shown(largest)} as the largest"
        )
    return largest


# --- compiled ---------------------------------------------------------------------------------------------------


def _advance(process: Iteration, start: Any, moving: Any, slope: Any, hessian: Any, sharp: Any) -> tuple:
    """The map of a row of moving numbers over one period, and the row at rest."""
    own, held = eqx.partition(start, moving)
    whole, landscape = whole_from(own), process.landscape
    method = process.method if slope is None else _smoothed(process.method, slope / sharp)
    rest = landscape.array(start.theta)

    def field(theta):
        return landscape.vector(hessian @ (landscape.array(theta) - rest))

    def advance(row):
        def step(_, state):
            normals = (0 * state.theta,) * method.draws
            return jax.tree.map(
                lambda new, old: jnp.asarray(new, old.dtype), method.step(field, state, *normals), state
            )

        state = eqx.combine(whole(row), held)
        state = step(0, state) if method.period == 1 else jax.lax.fori_loop(0, method.period, step, state)
        return as_row(eqx.filter(state, moving))

    return advance, as_row(own)


def _smoothed(method: Any, more: Any) -> Any:
    """A method with more ε, its own or that of the one inside."""

    def eps(method):
        return method.eps if hasattr(method, "eps") else eps(method.method)

    return eqx.tree_at(eps, method, eps(method) + more)


@eqx.filter_jit
def _matrices(process, start, moving, slope, hessians, sharp):
    def one(hessian, sharp):
        advance, row = _advance(process, start, moving, slope, hessian, sharp)
        return jax.jacfwd(advance)(row)

    return jax.vmap(one)(hessians, sharp)


@eqx.filter_jit
def _slope(process, start, moving, slope, hessian):
    """∂A/∂t at t = 0 of A(t H): a method that looks uphill does so to higher order."""

    def matrix(t):
        advance, row = _advance(process, start, moving, slope, t * hessian, 1.0)
        return jax.jacfwd(advance)(row)

    return jax.jvp(matrix, (0.0,), (1.0,))[1]


@eqx.filter_jit
def _steps(process, start, moving, slope, rows, hessians):
    def one(row, hessian):
        return _advance(process, start, moving, slope, hessian, 1.0)[0](row)

    return jax.vmap(one)(rows, hessians)
