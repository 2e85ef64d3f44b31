"""The law of the first exit from a region of the plane, by its transfer operator.

    P(T > k) = (Kᵏ 1)(θ₀)

The powers are taken in the Krylov space of 1, K 1, K² 1, … where they are those of a small matrix: exactly up to its
size, and beyond because the slow modes are in it.

References:
    Saad, SIAM J. Numer. Anal. 29 (1992) 209 (functions of a matrix in its Krylov space).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.laws.plane import solving
from flatdyn.laws.plane.operators import GridOperator, PlaneOperator
from flatdyn.laws.plane.steps import in_pieces
from flatdyn.processes.regions import Box, Region

_KRYLOV = 40, 80, 160, 320  # sizes of the space, until the mean is that of the operator
_AGREES = 1e-9  # to which it must be
_RARE = 1e-6  # 1 − r below which the small matrix cannot tell it from 0, so that its mean says nothing
_LONGEST = 2_000_000  # steps after which survival must be a geometric sequence
_SECTORS, _MOST_SIDES = 8, 10_000


class Exit(NamedTuple):
    """The first exit: mean and its error, 1 − r, P(T > k), shares of the sides and to the right, the left law."""

    mean: float
    error: float
    escape: float
    head: np.ndarray
    shares: np.ndarray
    above: float
    points: np.ndarray
    density: np.ndarray


class Occupation(NamedTuple):
    """From one start, until the exit: the mean number of steps, landing places and their chances."""

    mean: float
    landings: np.ndarray
    chances: np.ndarray


def exit_from(operator: PlaneOperator, start: np.ndarray, side: Callable, sides: int) -> Exit:
    """The first exit of a process from the region of its operator.

    Args:
        start: (dim,)
        side: which side landing places (n, dim) belong to, whole numbers from 0 on
        sides: how many there are at least
    """
    fine, coarse = (_occupation(grid, operator.steps.at_rest(start[None])) for grid in operator.grids)
    places = operator.steps.positions(fine.landings)
    shares = np.bincount(side(places), fine.chances, minlength=sides)
    above = float(fine.chances[places[:, 0] >= start[0]].sum())
    slowest = operator.leading()
    drift = slowest.errors[0] / slowest.escape if slowest.escape else 0.0  # where the means of both happen to agree
    head = survival(operator, start, fine.mean, slowest.escape)
    error = max(2 * abs(fine.mean - coarse.mean), float(drift) * fine.mean)
    return Exit(fine.mean, error, slowest.escape, head, shares, above, slowest.points, slowest.density)


def _occupation(grid: GridOperator, state: np.ndarray) -> Occupation:
    """From the transposed equations, ν (I − K) = k₀, of which one solution answers all questions about one start."""
    first, slowest = grid.kernel.rows(state), grid.modes(1)
    turned = slowest._replace(left=slowest.right, right=slowest.left)
    row = first.matrix.T @ np.ones(1)
    visits = solving.collected(grid.rows.matrix.T, turned, row[:, None])[:, 0]
    places = np.concatenate([grid.rows.landings, first.landings])
    chances = np.concatenate([grid.rows.out.T @ visits, (first.out.T @ np.ones(1)).ravel()])
    return Occupation(1 + float(visits.sum()), places, chances)


def survival(operator: PlaneOperator, start: np.ndarray, mean: float, escape: float) -> np.ndarray:
    """P(T > k) for k = 0, 1, … until it is a geometric sequence."""
    rows = operator.grids[0].kernel.rows(operator.steps.at_rest(start[None]))
    matrix = operator.grids[0].rows.matrix
    checked = np.isfinite(mean) and escape > _RARE
    for size in _KRYLOV if checked else _KRYLOV[-1:]:
        weights, small, first = _krylov(matrix, rows.matrix, min(size, matrix.shape[0]))
        if checked:
            reached = 1 + weights @ np.linalg.solve(np.eye(len(small)) - small, first)
            if abs(reached - mean) <= _AGREES * mean or size >= matrix.shape[0]:
                break
    head, now = [1.0], first
    while len(head) < _LONGEST:
        head.append(float(weights @ now))
        following = small @ now
        # Against its own factor: that of the small matrix is 1 − r to some 1e-12, and rare escapes need it to less.
        change = np.abs(following - (now @ following) / (now @ now) * now).max()
        if change <= (1e-12 + 1e-10 * escape) * np.abs(now).max():
            break
        now = following
    return np.array(head)


def _krylov(matrix: Any, row: Any, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arnoldi's basis V from 1: k₀ V of a row k₀, Vᵀ K V, and Vᵀ 1."""
    count = matrix.shape[0]
    basis, small = np.zeros((size, count)), np.zeros((size, size))
    basis[0] = 1 / np.sqrt(count)
    last = size
    for j in range(size):
        new = matrix @ basis[j]
        for _ in range(2):  # twice is enough
            amount = basis[: j + 1] @ new
            new = new - amount @ basis[: j + 1]
            small[: j + 1, j] += amount
        length = np.linalg.norm(new)
        if j + 1 < size:
            if length <= 1e-13:
                last = j + 1
                break
            small[j + 1, j] = length
            basis[j + 1] = new / length
    first = np.zeros(last)
    first[0] = np.sqrt(count)
    return (row @ basis[:last].T).ravel(), small[:last, :last], first


def sides_of(inside: Any, bounds: np.ndarray, sides: Any) -> tuple[Callable, int]:
    """Which side landing places belong to, and how many there are.

    Those of a box: the coordinates in their order, below and above; a place beyond two of them belongs to that which
    it passed by more half widths. Of any other region: eight sectors of the direction from its middle.
    """
    dim = len(bounds)
    if sides is not None:
        return _of_yours(sides, dim)
    inner = inside.inside if isinstance(inside, Region) else inside
    middle, half = bounds.mean(axis=1), np.diff(bounds, axis=1)[:, 0] / 2
    if isinstance(inner, Box) or dim == 1:

        def side(places):
            gaps = (places - middle) / half
            return np.stack([-gaps, gaps], axis=2).reshape(len(places), 2 * dim).argmax(axis=1)

        return side, 2 * dim

    def sector(places):
        angle = np.arctan2(places[:, 1] - middle[1], places[:, 0] - middle[0])
        return np.floor(angle / (2 * np.pi / _SECTORS)).astype(int) % _SECTORS

    return sector, _SECTORS


def _of_yours(sides: Any, dim: int) -> tuple[Callable, int]:
    with jax.enable_x64(True):
        theta = jax.ShapeDtypeStruct((dim,), jnp.float64)
        answer = checks.traced("sides", sides, theta, what="a JAX function from θ (dim,) to a whole number")
    if getattr(answer, "shape", None) != () or not jnp.issubdtype(getattr(answer, "dtype", float), jnp.integer):
        raise ValueError(f"sides must return one whole number from 0 on, got {checks.shown(answer)}")
    asked = jax.jit(jax.vmap(sides))

    def side(places):
        numbers = in_pieces(asked, places).astype(int)
        if numbers.min() < 0 or numbers.max() > _MOST_SIDES:
            raise ValueError(f"sides must number them from 0 to {_MOST_SIDES}, got {numbers.min()} to {numbers.max()}")
        return numbers

    return side, 1
