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
from flatdyn.laws.plane.operators import Plane
from flatdyn.processes.regions import Box, Region

_KRYLOV = 40, 80, 160, 320  # sizes of the space, until the mean is that of the operator
_AGREES = 1e-9  # to which it must be
_LONGEST = 2_000_000  # steps after which survival must be a geometric sequence
_SECTORS = 8


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


def exit_from(operator: Plane, start: np.ndarray, side: Callable, sides: int) -> Exit:
    """The first exit of a process from the region of its operator.

    Args:
        start: (dim,)
        side: which side a landing place (dim,) belongs to, a whole number from 0 to sides − 1, in JAX
    """

    def payoff(theta):
        above = theta[0] >= start[0]
        return jnp.concatenate([jnp.arange(sides) == side(theta), jnp.stack([above, False])]).astype(float)

    def running(theta):
        return jnp.append(jnp.zeros(sides + 1), 1.0)

    value, error = operator.expected(payoff, running).at(start)
    slowest = operator.leading()
    head = survival(operator, start, value[-1], slowest.escape)
    return Exit(
        float(value[-1]),
        float(error[-1]),
        slowest.escape,
        head,
        value[:-2],
        float(value[-2]),
        slowest.points,
        slowest.density,
    )


def survival(operator: Plane, start: np.ndarray, mean: float, escape: float) -> np.ndarray:
    """P(T > k) for k = 0, 1, … until it is a geometric sequence."""
    rows = operator.grid.kernel.rows(operator.steps.at_rest(start[None]))
    matrix = operator.grid.rows.matrix
    for size in _KRYLOV:
        weights, small, first = _krylov(matrix, rows.matrix, min(size, matrix.shape[0]))
        if np.isfinite(mean) and escape > 1e-6:
            reached = 1 + weights @ np.linalg.solve(np.eye(len(small)) - small, first)
            if abs(reached - mean) <= _AGREES * mean or size >= matrix.shape[0]:
                break
    head, now = [1.0], first
    while len(head) < _LONGEST:
        head.append(float(weights @ now))
        following = small @ now
        change = np.abs(following - (1 - escape) * now).max()
        if change <= (1e-13 + 1e-10 * escape) * np.abs(now).max():
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


def sides_of(inside: Any, bounds: np.ndarray, sides: Any, dim: int) -> tuple[Callable, int]:
    """Which side a landing place belongs to, and how many there are.

    Those of a box: the coordinates in their order, below and above; a place beyond two of them belongs to that which
    it passed by more half widths. Of any other region: eight sectors of the direction from its middle.
    """
    if sides is not None:
        with jax.enable_x64(True):
            answer = checks.traced(
                "sides",
                sides,
                jax.ShapeDtypeStruct((dim,), jnp.float64),
                what="a JAX function from θ (dim,) to a number",
            )
        if getattr(answer, "shape", None) != () or not jnp.issubdtype(answer.dtype, jnp.integer):
            raise ValueError(f"sides must return one whole number, 0 to {_SECTORS - 1}, got {checks.shown(answer)}")
        return sides, _SECTORS
    inner = inside.inside if isinstance(inside, Region) else inside
    middle, half = bounds.mean(axis=1), np.diff(bounds, axis=1)[:, 0] / 2
    if isinstance(inner, Box) or dim == 1:
        return lambda theta: jnp.argmax(jnp.stack([-(theta - middle) / half, (theta - middle) / half], axis=1)), 2 * dim

    def sector(theta):
        angle = jnp.arctan2(theta[1] - middle[1], theta[0] - middle[0])
        return jnp.floor(angle / (2 * jnp.pi / _SECTORS)).astype(int) % _SECTORS

    return sector, _SECTORS
