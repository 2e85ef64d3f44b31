"""The transfer operator in the plane: what is to be expected of a process until it leaves a region, without sampling.

    (K u)(x) = E[u(F(x, z)); F(x, z) inside],      z standard normal

    u(x) = E[g(θ_T) + Σ_{k<T} f(θ_k) | θ₀ = x],    T = min {k : θ_k outside}
    solves  (I − K) u = f + E[g(F); F outside]

With f = 1 it is the mean exit time, with g the indicator of a part of the outside the chance to land there (a
committor). Everything is computed on two grids, and the difference is the error that is stated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.laws.plane import building, solving
from flatdyn.laws.plane.steps import Steps, in_pieces
from flatdyn.processes import Process

_PROBES = 32  # nodes at which two grids are compared
_UNRESOLVED = 1e-3  # by which the chances of a step may miss 1


class Leading(NamedTuple):
    """The slowest modes of K.

    Attributes:
        eigenvalues: largest modulus first, shape (k,)
        escape: 1 − r of the first, in which nothing cancels
        points: nodes in the region, (n, 2)
        laws: left eigenvectors as weights of the points, (k, n); the first sums to 1: the quasi-stationary law
        density: of the quasi-stationary law at the points, (n,)
        errors: estimated errors of the eigenvalues, (k,)
    """

    eigenvalues: np.ndarray
    escape: float
    points: np.ndarray
    laws: np.ndarray
    density: np.ndarray
    errors: np.ndarray


class Expectation:
    """u(x) = E[g(θ_T) + Σ_{k<T} f(θ_k) | θ₀ = x], a function on the region.

    Attributes:
        points: nodes of the finer grid, (n, 2)
        values: u there, (n, ...)
    """

    def __init__(self, fine: _Solved, coarse: _Solved, shape: tuple):
        self._fine, self._coarse, self._shape = fine, coarse, shape
        self.points, self.values = fine.kernel.nodes, fine.values.reshape(-1, *shape)
        some = self.points[np.linspace(0, len(self.points) - 1, _PROBES).astype(int)]
        value = fine.at(some)
        gap = np.abs(value - coarse.at(some))
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(gap > 0, gap / np.abs(value), 0.0)
        self._usual = np.sqrt((gap**2).mean(axis=0)), np.sqrt((relative**2).mean(axis=0))

    def __call__(self, points: Any) -> np.ndarray:
        """u at points of the region, (..., dim), by one step of the process from there, shape (..., *values)."""
        return self.at(points)[0]

    def at(self, points: Any) -> tuple[np.ndarray, np.ndarray]:
        """u at points of the region, (..., dim), by one step from there; and its estimated error, of the same shape.

        The error is twice the difference of the two grids, or of what it is in the mean over the region if that is
        more: where they happen to agree both may be wrong.
        """
        steps = self._fine.kernel.steps
        dim = steps.process.dim
        points = checks.numbers("points", points)
        if points.shape[-1:] not in ((dim,), (2,)):
            raise ValueError(f"points must have shape (..., {dim}), got {points.shape}")
        states = points.reshape(-1, points.shape[-1])
        states = steps.at_rest(states) if states.shape[-1] == 1 else states
        fine, coarse = self._fine.at(states), self._coarse.at(states)
        usual = np.fmin(self._usual[0], self._usual[1] * np.abs(fine))
        error = 2 * np.maximum(np.abs(fine - coarse), usual)
        shape = (*points.shape[:-1], *self._shape)
        return fine.reshape(shape), error.reshape(shape)


class _Solved(NamedTuple):
    """u on one grid, and the functions that made it: of the landings, and of the region."""

    kernel: Any
    payoff: Callable
    running: Callable
    values: np.ndarray

    def at(self, states: np.ndarray) -> np.ndarray:
        rows = self.kernel.rows(states)
        return rows.matrix @ self.values + rows.out @ self.payoff(rows.landings) + self.running(states)


class GridOperator:
    """K at the nodes of one grid, and its slowest modes."""

    def __init__(self, kernel: Any):
        self.kernel = kernel
        self.rows = kernel.rows(kernel.nodes)
        self.ending = self.rows.out @ np.ones(len(self.rows.landings))
        self._modes: solving.Modes | None = None
        if kernel.worst > _UNRESOLVED:
            raise ValueError(
                f"the grid does not resolve a step: its chances miss 1 by {kernel.worst:.2g}; give more `panels`, a "
                "smaller region, or ask escape_times"
            )

    def modes(self, number: int) -> solving.Modes:
        """The slowest modes, at least so many of them."""
        if self._modes is None or len(self._modes.values) < number:
            self._modes = solving.modes(self.rows.matrix, self.ending, number)
        return self._modes

    def expected(self, payoff: Callable, running: Callable) -> _Solved:
        """u at the nodes."""
        source = self.rows.out @ payoff(self.rows.landings) + running(self.kernel.nodes)
        return _Solved(self.kernel, payoff, running, solving.collected(self.rows.matrix, self.modes(1), source))


class PlaneOperator:
    """The transfer operator of a process in a region of the plane; see :func:`operator`."""

    def __init__(self, process: Process, grids: tuple[GridOperator, GridOperator], steps: Steps, bounds: np.ndarray):
        self.process, self._grids, self._steps, self.bounds = process, grids, steps, bounds

    @property
    def steps(self) -> Steps:
        """The process on states of two numbers."""
        return self._steps

    @property
    def grids(self) -> tuple[GridOperator, GridOperator]:
        """Two grids with the rows of K, the finer first."""
        return self._grids

    @property
    def points(self) -> np.ndarray:
        """Nodes of the finer grid, (n, 2)."""
        return self._grids[0].kernel.nodes

    @property
    def weights(self) -> np.ndarray:
        """Weights of the nodes, with which sums are integrals over the region, (n,)."""
        return self._grids[0].kernel.weights

    def expected(self, payoff: Any = None, running: Any = None) -> Expectation:
        """u(x) = E[payoff(θ_T) + Σ_{k<T} running(θ_k) | θ₀ = x] as a function on the region.

        Args:
            payoff: g, a JAX function from θ (dim,) where the process lands, to a number or an array; or a number
            running: f, the same of θ inside the region, from the start on
        Returns:
            Expectation
        """
        functions, shape = _vectorised(payoff, running, self._steps)
        fine, coarse = (grid.expected(*functions) for grid in self._grids)
        return Expectation(fine, coarse, shape)

    def leading(self, k: int = 1) -> Leading:
        """The k slowest modes of K."""
        k = checks.count("k", k, at_least=1, at_most=len(self._grids[1].kernel.nodes) - 2)
        fine, coarse = (grid.modes(k) for grid in self._grids)
        values = fine.values[:k]
        errors = 2 * np.abs(values - coarse.values[:k])
        errors[0] = 2 * abs(fine.escape - coarse.escape)
        values = np.concatenate([[1 - fine.escape], values[1:]])
        laws = np.concatenate([fine.left[None], fine.laws[1:k]])
        laws = laws.real if not np.iscomplex(laws).any() else laws
        return Leading(values, fine.escape, self.points, laws, fine.left / self.weights, errors)


def operator(
    process: Process,
    inside: Any,
    start: Any = None,
    *,
    box: Any = None,
    panels: int | None = None,
) -> PlaneOperator:
    """The transfer operator of a process in a region of the plane.

    Args:
        process: two coordinates without memory, or one with one number of memory, driven by normal numbers
        inside: the region: an escape.Box, Ball or Sublevel, or any JAX function from θ (dim,) to a boolean
        start: a point of the region, (dim,), from which it is looked for where it does not say itself where it ends
        box: ((low, high), ...) which is left when the region is, too; for regions that have no end
        panels: how many cells along the side of the region that takes most; from the size of a step if not given
    Returns:
        PlaneOperator, with `expected`, `leading`
    Raises:
        ValueError: if the region has no end or no inside, or steps are too short or too uneven for a grid
        TypeError: if the process has other states than two numbers, or other noise
    """
    built = building.kernels(process, inside, start, box, panels)
    return PlaneOperator(process, tuple(GridOperator(kernel) for kernel in built.kernels), built.steps, built.bounds)


def _vectorised(payoff: Any, running: Any, steps: Steps) -> tuple[tuple[Callable, Callable], tuple]:
    """Both functions for many states, with values (n, k), and the shape of one value."""
    shapes, made = [], []
    theta = jax.ShapeDtypeStruct((steps.process.dim,), jnp.float64)
    for name, value in (("payoff", payoff), ("running", running)):
        if value is None or isinstance(value, int | float | np.number):
            number = 0.0 if value is None else checks.number(name, value, one=True)
            shapes.append(())
            made.append(functools.partial(_constant, number))
            continue
        with jax.enable_x64(True):
            answer = checks.traced(name, value, theta, what="a JAX function from θ (dim,) to a number or an array")
        if not hasattr(answer, "shape"):
            raise ValueError(f"{name} must return a number or an array, got {checks.shown(answer)}")
        shapes.append(answer.shape)
        made.append(functools.partial(_asked, jax.jit(jax.vmap(value)), steps))
    shape = np.broadcast_shapes(*shapes)
    size = int(np.prod(shape, dtype=int))
    return tuple(functools.partial(_flat, function, shape, size) for function in made), shape


def _constant(number: float, states: np.ndarray) -> np.ndarray:
    return np.full(len(states), number)


def _asked(function: Callable, steps: Steps, states: np.ndarray) -> np.ndarray:
    return in_pieces(function, steps.positions(states)).astype(float)


def _flat(function: Callable, shape: tuple, size: int, states: np.ndarray) -> np.ndarray:
    values = function(states)
    values = values.reshape(len(states), *(1,) * (len(shape) + 1 - values.ndim), *values.shape[1:])
    return np.broadcast_to(values, (len(states), *shape)).reshape(len(states), size)
