"""Does a run that stands still rest at a point that attracts? The step and its derivative decide it, in 64 bits.

A step that is smaller than rounding moves nothing, wherever that is: on a gentle slope, or so close to a saddle that
its push is lost. So a run that stands still has to pass three tests.

* Is there a fixed point? Newton's method on the step has to find one within the resolution of the run.
* Does it let go? No multiplier may lie outside |z| = 1.
* Where multipliers of 1 leave it open (a valley of minima, but also x³ and −x⁴ at 0): a small displacement along such a
  direction, the others at rest, may not grow.

Where the map has no derivative that its steps follow (normalised SAM at a critical point, Adam), a run displaced by a
thousandth may not be further away a thousand steps later.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.methods.base import FirstOrder
from flatdyn.processes import Iteration, Process
from flatdyn.processes.flat import as_row, repeating, whole_from

_LARGEST = 128  # numbers in a state up to which its whole Jacobian is taken
_SIZES = 8, 128, 2048  # states at a time, so that few programs are compiled
_NEWTON, _RANK = 3, 1e-6  # iterations, and the share of the largest slope below which a direction is left alone
_NEUTRAL = 1e-6  # of the largest |1 − multiplier| round about: what is less is decided by a displacement
_ALONG, _ROUND_ABOUT = 1e-3, 1e-2  # displacements, in units of 1 + |state|
_GROWTH = 1e-11  # of a displacement, which is rounded at 1e-13 of itself
_POWERS, _STEPS = 64, 1000


def attracting(process: Process, states: Any, tol: float) -> np.ndarray:
    """Which of some states, from which a step moves nothing by more than `tol`, are at rest where they attract.

    Args:
        process: deterministic, its numbers in 64 bits
        states: full states with the runs in front
        tol: resolution of the runs: a fixed point has to lie within √tol (1 + |state|)
    Returns:
        boolean array, shape (runs,)
    """
    with jax.enable_x64(True):
        states = jax.tree.map(lambda leaf: _widened(np.asarray(leaf)), states)
        rows = np.concatenate([x.reshape(len(x), -1) for x in jax.tree.leaves(states) if _moves(x)], axis=1)
        reach = np.sqrt(max(tol, np.finfo(float).eps))
        first, group = _distinct(rows, reach)
        asked = _Asked(process, jax.tree.map(lambda leaf: leaf[first], states))
        return asked.answer(rows[first], reach)[group]


def _distinct(rows: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """One row of each cell of size `reach`, and each row's cell; of larger cells where there would be too many."""
    while True:
        cells = np.round(rows / (reach * (1 + np.abs(rows))))
        order = np.lexsort(cells.T[::-1])  # rows in order, as np.unique finds them, several times sooner
        new = np.append(True, (np.diff(cells[order], axis=0) != 0).any(axis=1))[: len(rows)]
        if new.sum() <= _SIZES[-1]:
            group = np.empty(len(rows), int)
            group[order] = np.cumsum(new) - 1
            return order[new], group
        reach = 2 * reach


def _moves(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _widened(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float64) if _moves(leaf) else leaf


class _Asked:
    """A process around some states, whose numbers are rows (runs, n)."""

    def __init__(self, process: Process, states: Any):
        self.process, self.states = process, states
        self.smooth = True  # whether JAX can differentiate a step: until it says that it can't

    def answer(self, rows: np.ndarray, reach: float) -> np.ndarray:
        if rows.shape[1] > _LARGEST:
            return self.padded(_growth, rows) <= 1 + _NEUTRAL
        place, near = self.polished(rows, reach)
        moved, slope = self.linearised(place)
        finite = np.isfinite(slope).all(axis=(1, 2))
        slope = np.where(finite[:, None, None], slope, 0)
        follows = finite & self.follows(place, moved, slope)
        held = near & self.holds(place, slope)
        return np.where(follows, held, follows.all() or self.padded(_returns, rows))

    def polished(self, rows: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Where Newton's method leads, and whether that is a fixed point within reach."""
        place = rows
        for _ in range(_NEWTON):
            moved, slope = self.linearised(place)
            matrix = np.eye(rows.shape[1]) - np.where(np.isfinite(slope), slope, 0)
            step = (np.linalg.pinv(matrix, rcond=_RANK) @ (moved - place)[..., None])[..., 0]
            place = np.where(np.isfinite(step).all(axis=1, keepdims=True), place + step, place)
        moved, _ = self.linearised(place)
        size = 1 + np.abs(place)
        rests = (np.abs(moved - place) <= 64 * np.finfo(float).eps * size).all(axis=1)
        return place, rests & (np.abs(place - rows) <= reach * size).all(axis=1)

    def follows(self, place: np.ndarray, moved: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Whether the map is its derivative, roughly, over a small but finite step."""
        direction = np.abs(np.random.default_rng(0).normal(size=place.shape[1]))
        step = 1e-4 * (1 + np.abs(place).max(axis=1, keepdims=True)) * direction / np.linalg.norm(direction)
        there, _ = self.linearised(place + step)
        wanted = (slope @ step[..., None])[..., 0]
        return np.abs(there - moved - wanted).max(axis=1) <= 0.5 * (np.abs(step) + np.abs(wanted)).max(axis=1)

    def holds(self, place: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Whether fixed points, with the Jacobians there, let nothing go."""
        runs, n = place.shape
        size = 1 + np.abs(place).max(axis=1, keepdims=True)
        values, vectors = np.linalg.eig(slope)
        away = np.random.default_rng(0).normal(size=n)
        around = self.linearised(place + _ROUND_ABOUT * size * away / np.linalg.norm(away))[1]
        largest = np.nanmax(
            np.abs(np.eye(n) - np.concatenate([slope, around], axis=1).reshape(runs, 2, n, n)), (1, 2, 3)
        )
        # How far a multiplier of 1 may be from it: rounding, of differences over a millionth where there are no slopes
        rounding = 4 * np.finfo(float).eps if self.smooth else 1e-9
        tolerance = (_NEUTRAL * largest + rounding)[:, None]
        held = (np.abs(values) <= 1 + tolerance).all(axis=1)
        neutral = (np.abs(values - 1) <= tolerance) & held[:, None]
        if neutral.any():
            held &= ~neutral.any(axis=1) | ~self.stalled(place)
            inverse = np.linalg.pinv(vectors)
            back = np.where(neutral, 0, 1 / np.where(neutral | (values == 1), 1, 1 - values))
            others = np.real((vectors * back[:, None, :]) @ inverse)  # brings what is not neutral to rest
            for j in np.flatnonzero(neutral.any(axis=0)):
                along, across = np.real(vectors[:, :, j]), np.real(inverse[:, j])
                for side in (-_ALONG, _ALONG):
                    held &= ~neutral[:, j] | self.stays(place, place + side * size * along, across, others)
        return held

    def stalled(self, place: np.ndarray) -> np.ndarray:
        """Whether the gradient that is followed is not zero up to the rounding of θ: a slope below resolution."""
        process = self.process
        method = getattr(process, "method", None)
        if not (isinstance(process, Iteration) and isinstance(method, FirstOrder)) or method.remembers:
            return np.zeros(len(place), bool)
        theta = place[:, : process.dim]
        gradient, slope = self.padded(_followed, theta)
        rounding = 1e-12 * (1 + np.abs(theta).max(axis=1)) * np.abs(slope).max(axis=(1, 2))
        return np.abs(gradient).max(axis=1) > rounding

    def stays(self, place, displaced, across, others) -> np.ndarray:
        """Whether a displacement does not grow, as `across` measures it, once all others have come to rest."""
        for _ in range(_NEWTON + 3):
            moved, _ = self.linearised(displaced)
            displaced = displaced + (others @ (moved - displaced)[..., None])[..., 0]
        moved, _ = self.linearised(displaced)
        before, after = (np.abs(((x - place) * across).sum(axis=1)) for x in (displaced, moved))
        return after <= before * (1 + _GROWTH)

    def linearised(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where steps from rows lead, and their Jacobians."""
        if self.smooth:
            try:
                return self.padded(_linearised, rows)
            except TypeError:  # a step that is solved for, as that of an ODE solver, may have no slopes
                self.smooth = False
        return self.padded(_differences, rows)

    def padded(self, program: Any, rows: np.ndarray) -> Any:
        """The results of a compiled program for rows, one for each state."""
        size = next(size for size in _SIZES if len(rows) <= size)
        index = np.resize(np.arange(len(rows)), size)
        results = program(self.process, jax.tree.map(lambda leaf: leaf[index], self.states), rows[index])
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(rows)], results)


def _on_rows(process: Process, state: Any) -> Any:
    """A step (or one period of steps) as a function of the row of a state's numbers; whole numbers stay as they are."""
    whole, advance = whole_from(state), repeating(process)
    return lambda row: as_row(advance(whole(row)))


def _difference(row: jax.Array) -> jax.Array:
    return 1e-6 * (1 + jnp.abs(row).max())


def _along(step: Any, row: jax.Array, direction: jax.Array) -> jax.Array:
    """The derivative of a step in a direction; by a difference where JAX has none, as for the step of an ODE solver."""
    try:
        return jax.jvp(step, (row,), (direction,))[1]
    except TypeError:
        h = _difference(row)
        return (step(row + h * direction) - step(row - h * direction)) / (2 * h)


@eqx.filter_jit
def _linearised(process: Process, states: Any, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(state, row):
        step = _on_rows(process, state)

        def twice(row):  # a step can be a long program: it is traced once for both
            return (after := step(row)), after

        slope, after = jax.jacfwd(twice, has_aux=True)(row)
        return after, slope

    return jax.vmap(one)(states, rows)


@eqx.filter_jit
def _differences(process: Process, states: Any, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As :func:`_linearised` where JAX has no slopes. All steps are taken side by side: one is a long program."""

    def one(state, row):
        h = _difference(row)
        moves = h * jnp.eye(row.size)
        places = jnp.concatenate([row[None], row + moves, row - moves])
        here, after, before = jnp.split(jax.vmap(_on_rows(process, state))(places), [1, 1 + row.size])
        return here[0], ((after - before) / (2 * h)).T

    return jax.vmap(one)(states, rows)


@eqx.filter_jit
def _growth(process: Process, states: Any, rows: jax.Array) -> jax.Array:
    """The largest |multiplier|, by the power method: what a direction that was turned often grows by in a step."""

    def one(state, row):
        step = _on_rows(process, state)

        def turn(_, carry):
            direction, _ = carry
            new = _along(step, row, direction)
            length = jnp.linalg.norm(new)
            return new / jnp.where(length > 0, length, 1), length

        start = jax.random.normal(jax.random.key(0), row.shape, row.dtype)
        return jax.lax.fori_loop(0, _POWERS, turn, (start / jnp.linalg.norm(start), jnp.zeros((), row.dtype)))[1]

    return jax.lax.map(lambda pair: one(*pair), (states, rows))


@eqx.filter_jit
def _returns(process: Process, states: Any, rows: jax.Array) -> jax.Array:
    """Whether runs from a little beside end no further away, on either side in some directions."""

    def one(state):
        theta = process.position(state)
        size = _ALONG * (1 + jnp.abs(theta).max())
        directions = jax.random.normal(jax.random.key(0), (4, theta.size), theta.dtype)
        directions = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)

        def end(direction):
            begun = process.init(theta + size * direction)
            final = jax.lax.fori_loop(0, _STEPS, lambda _, state: process.step(state), begun)
            return jnp.linalg.norm(process.position(final) - theta)

        return (jax.vmap(end)(jnp.concatenate([directions, -directions])) <= size).all()

    return jax.vmap(one)(states)


@eqx.filter_jit
def _followed(process: Iteration, states: Any, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradient that a method follows, with its decay, and its derivative."""
    landscape = process.landscape

    def gradient(theta):
        return landscape.array(process.method.pull(landscape.field, landscape.vector(theta)))

    return jax.vmap(lambda theta: (gradient(theta), jax.jacfwd(gradient)(theta)))(rows)
