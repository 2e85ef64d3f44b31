"""A flatdyn method on the same problems from the same starts: how far is each step's result from what was seen?"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.audits.runs import Recording, Tensors, distinct
from flatdyn.core import precision
from flatdyn.core.algebra import Vector
from flatdyn.methods.base import GradientField, Method
from flatdyn.processes.base import as_before


@dataclasses.dataclass(frozen=True, eq=False)
class Difference:
    """Between a method's iterates and those that were seen.

    Attributes:
        largest: in units of θ
        share: the same as a share of how far the run moves, where that is less than one
        departs: the first step after which it is more than rounding, or None
    """

    largest: float
    share: float
    departs: int | None

    def __lt__(self, other: Difference) -> bool:
        return self.share < other.share


def _batches(run: Recording) -> np.ndarray:
    """What the minibatches of a step's calls add to the gradient, in order, shape (steps, calls, dim)."""
    by_step = [[call.shift for call in distinct(calls)] for calls in run.calls]
    most = max(map(len, by_step))
    return np.array([[shifts[min(i, len(shifts) - 1)] for i in range(most)] for shifts in by_step])


def usable(runs: list[Recording]) -> list[Recording]:
    """Those that did not end early."""
    most = max((len(run.calls) for run in runs), default=0)
    return [run for run in runs if len(run.calls) == most and all(run.calls)]


def iterates(method: Method, runs: list[Recording], form: Tensors, held: np.ndarray) -> np.ndarray:
    """Positions of a method after each step of several problems, shape (runs, steps, dim).

    Args:
        runs: on problems, of the same number of steps
        held: 0 for coordinates that never move, 1 for others, shape (dim,)
    """
    with jax.enable_x64(True):
        starts = precision.on_device(np.stack([run.positions[0] for run in runs]))
        hessians = precision.on_device(np.stack([run.problem.hessian for run in runs]))
        batches = [_batches(run) for run in runs]
        wide = max(one.shape[1] for one in batches)
        last = [np.minimum(np.arange(wide), one.shape[1] - 1) for one in batches]
        shifts = precision.on_device(np.stack([one[:, at] for one, at in zip(batches, last, strict=True)]))
        shape = (tuple(form.sizes), tuple(form.shapes))
        return np.asarray(_iterates(method, starts, hessians, shifts, precision.on_device(held), shape))


def difference(method: Method, runs: list[Recording], form: Tensors, held: np.ndarray) -> Difference:
    """How far a method's iterates are from those of runs; see :func:`iterates`."""
    runs = usable(runs)
    if not runs:
        return Difference(np.inf, np.inf, 1)
    seen = np.stack([run.positions for run in runs])
    return compared(iterates(method, runs, form, held), seen[:, 1:], seen[:, 0])


def compared(positions: np.ndarray, seen: np.ndarray, starts: np.ndarray, rounding: float = 1e-9) -> Difference:
    """Two sets of iterates, shapes (runs, steps, dim), from the same starts, shape (runs, dim)."""
    off = np.abs(positions - seen).max(axis=2)
    off = np.where(np.isfinite(off), off, np.inf)
    far = np.abs(seen - starts[:, None]).max(axis=(1, 2))
    size = np.maximum(np.abs(seen).max(axis=(1, 2)), np.abs(starts).max(axis=1))
    size = np.where(np.isfinite(size), size, 1.0)
    far = np.where(np.isfinite(far) & (far > 0), far, 1.0)
    # Positions far out are rounded in proportion; short ways magnify what differs
    share = off / np.maximum(np.minimum(far, 1.0), 1e-6 * size)[:, None] / np.maximum(size, 1.0)[:, None]
    late = np.flatnonzero((share > rounding).any(axis=0))
    return Difference(float(off.max()), float(share.max()), int(late[0]) + 1 if late.size else None)


@eqx.filter_jit
def _iterates(method: Method, starts: Any, hessians: Any, shifts: Any, held: Any, shape: tuple) -> jax.Array:
    sizes, shapes = shape
    edges = np.cumsum(sizes)[:-1]

    def tree(row: jax.Array) -> Vector:
        parts = [part.reshape(one) for part, one in zip(jnp.split(row, edges), shapes, strict=True)]
        return Vector(parts)

    def row(vector: Vector) -> jax.Array:
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(vector)])

    def one(start: jax.Array, hessian: jax.Array, shifts: jax.Array) -> jax.Array:
        def step(state: Any, batches: jax.Array) -> tuple:
            asked: list[int] = []

            def field(theta: Vector) -> Vector:
                batch = batches[min(len(asked), len(batches) - 1)]
                asked.append(1)
                return tree(hessian @ row(theta) + batch)

            def moved(theta: Vector) -> Vector:
                return tree(held * row(field(theta)))

            new = as_before(method.step(GradientField(moved, field), state), state)
            return new, row(new.theta)

        return jax.lax.scan(step, method.init(tree(start)), shifts)[1]

    return jax.vmap(one)(starts, hessians, shifts)


@eqx.filter_jit
def _answered(method: Method, start: Any, answers: Any) -> jax.Array:
    def step(state: Any, gradients: jax.Array) -> tuple:
        asked: list[int] = []

        def field(theta: Vector) -> Vector:
            asked.append(1)
            return Vector([gradients[min(len(asked), len(gradients)) - 1]])

        new = as_before(method.step(GradientField(field, field), state), state)
        return new, new.theta.tree[0]

    return jax.lax.scan(step, method.init(Vector([start])), answers)[1]


def recorded_difference(method: Method, run: Recording) -> Difference:
    """How far a method's iterates are from those of a run, with the recorded gradients in the order of the calls."""
    with jax.enable_x64(True):
        answers = precision.on_device(np.stack([np.stack([call.gradient for call in calls]) for calls in run.calls]))
        positions = np.asarray(_answered(method, precision.on_device(run.positions[0]), answers))
    return compared(positions[None], run.positions[None, 1:], run.positions[None, 0])
