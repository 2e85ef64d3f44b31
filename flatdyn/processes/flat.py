"""A process as a map of one row of numbers, and its derivative where the steps follow it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatdyn.core import precision
from flatdyn.landscapes.programs import given_back
from flatdyn.processes.base import OnLandscape, Process, Remembering

_STEPS = np.array([1.0, 0.1, 0.01])  # of the differences, in units of the largest
_LARGEST, _CURVED = 1e-3, 1e-2  # step, see `reach`
_TOLERANCE = 1e-4
_AXES = 32  # numbers in a state up to which each is moved alone; more are moved along as many random directions
MOST_WRITTEN = 1000  # steps of a cycle, which are written out in one program


class FlatState:
    """A process on its full state as one row of numbers: what Jacobians and root searches work on.

    One step is one of the process, or as many as after which its map repeats itself (`process.period`).

    Attributes:
        size: how many numbers; whole numbers in the state are kept, see :func:`flattening`
        period: steps of the process in a step
    """

    def __init__(self, process: Process):
        self._process, self.period = process, process.period
        self.size, whole, flatten = flattening(process)
        advance = repeating(process)

        def step(flat):
            return flatten(advance(whole(flat)))

        def driven(flat, normals):
            if self.period > 1:
                raise TypeError(
                    f"this needs a map that is the same at every step, and that of {_name(process)} repeats itself "
                    f"only after {self.period}"
                )
            return flatten(process.driven(whole(flat), normals))

        def places(flat):
            """Where the process is, step by step, over one period from a flat state on: shape (period, dim)."""
            positions, state = [], whole(flat)
            for _ in range(self.period):
                positions.append(process.position(state))
                state = process.step(state)
            return jnp.stack(positions)

        self.step, self.driven = jax.jit(step), driven
        self._slope, self._steps = jax.jit(jax.jacfwd(step)), jax.jit(jax.vmap(step))
        self.at_rest = jax.jit(lambda theta: flatten(process.init(jnp.asarray(theta))))
        self.position = jax.jit(lambda flat: process.position(whole(flat)))
        self.places = jax.jit(places)

    def slope(self, flat: np.ndarray) -> np.ndarray | None:
        """The Jacobian of a step, shape (size, size), or None where the map has none that holds over a finite step."""
        return confirmed(self._steps, np.asarray(flat), np.asarray(self._slope(flat)), reach(self._process, flat))


def flat_state(process: Process) -> FlatState:
    """A process as :class:`FlatState`; the same process gives the same one, which is compiled once for many points."""
    leaves, tree = jax.tree.flatten(process)
    if any(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves):
        return FlatState(process)
    words = tuple((type(leaf), repr(leaf)) for leaf in leaves)  # 1 is not 1.0 and 0.0 not -0.0, though they are equal
    try:
        return _known(tree, tuple(leaves), words, bool(jax.config.jax_enable_x64))
    except (TypeError, ValueError):  # something in it has no hash
        return FlatState(process)


@given_back
@functools.lru_cache(maxsize=4)  # it holds the process, with the data in its loss
def _known(tree: Any, leaves: tuple, words: tuple, wide: bool) -> FlatState:
    return FlatState(jax.tree.unflatten(tree, leaves))


def repeating(process: Process) -> Callable[[Any], Any]:
    """A noiseless step of a process, as a function of the state; as many of them as the map takes to repeat itself."""
    if process.period == 1:
        return process.step
    return lambda state: jax.lax.fori_loop(0, process.period, lambda _, state: process.step(state), state)


def turns(process: Process, period: int | None) -> int:
    """How often the map repeats itself in `period` steps; None is once.

    Raises:
        ValueError: if the number is not whole
    """
    if period is None:
        return 1
    if period % process.period:
        raise ValueError(
            f"period must be a multiple of {process.period}, the steps after which the map of {_name(process)} repeats "
            f"itself, got {period}"
        )
    return period // process.period


def _name(process: Process) -> str:
    return type(getattr(process, "method", process)).__name__


def flattening(process: Process) -> tuple[int, Callable, Callable]:
    """How a state becomes a row of its floating-point numbers: how many, the state of a row, and the row of a state.

    Whole numbers in the state are kept as they are at the start; but what only the first steps do is over (the step
    counters of an optax optimiser stand at a million), as the question is what steps lead to in the end, not what a
    bias correction does at first.
    """
    begin = jax.ShapeDtypeStruct((process.dim,), precision.floating())
    start = jax.eval_shape(process.init, begin)
    if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(start)):  # these keep their values
        start = jax.jit(lambda theta: process.init(theta))(np.zeros(begin.shape, begin.dtype))  # it may have no hash
        start = process.seasoned(start)
        own = start.inner if isinstance(start, Remembering) else start
        if hasattr(process, "method") and process.method.cycles(own):
            raise ValueError(
                f"the steps of {process.method!r} take turns by a count in its state, as those of MultiSteps, "
                "lookahead, reduce_on_plateau and schedules that go round, or differ for ever, as those of a uniform "
                "average: one step is not their map, so simulate it, or ask the method inside"
            )
    return sum(leaf.size for leaf in jax.tree.leaves(_moving(start))), whole_from(start), as_row


def as_row(state: Any) -> jax.Array:
    """The floating-point numbers of a state in a row."""
    return ravel_pytree(_moving(state))[0]


def _moving(state: Any) -> Any:
    """The floating-point numbers of a state, or their shapes; None in place of the others."""
    return eqx.filter(state, _is_moving)


def _is_moving(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct) and jnp.issubdtype(
        leaf.dtype, jnp.inexact
    )


def whole_from(state: Any) -> Callable[[jax.Array], Any]:
    """The way back: a row as a state, whose whole numbers are those of `state`."""
    moving, fixed = eqx.partition(state, _is_moving)
    kept = []
    jax.eval_shape(lambda moving: kept.append(ravel_pytree(moving)[1]), moving)  # shapes tell it: nothing is compiled
    return lambda row: eqx.combine(kept[0](row), fixed)


def ordered_eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues of a Jacobian, complex, largest modulus first."""
    values = np.linalg.eigvals(matrix).astype(complex)
    return values[np.lexsort((values.imag, values.real, -np.abs(values)))]


def reach(process: Process, flat: np.ndarray) -> float:
    """The largest step over which a derivative is to hold at a state.

    A thousandth of the size of the state, or of the box if that is smaller. Where a method divides by ‖∇L‖ + ε, its ε
    is a parameter of the model: then the reach is a step that changes ∇L by little of that, for curvatures up to 10⁴.
    """
    size = 1 + float(np.abs(flat).max(initial=0))
    if process.box is not None:
        size = min(size, float(np.diff(np.asarray(process.box, dtype=float), axis=1).max()))
    eps = getattr(getattr(process, "method", None), "eps", None)
    if isinstance(eps, (int, float)) and isinstance(process, OnLandscape):
        gradient = np.asarray(process.landscape.grad(jnp.asarray(flat)[: process.dim]))
        size = min(size, _CURVED * (float(np.linalg.norm(gradient)) + eps) or size)
    return _LARGEST * size


def confirmed(steps: Callable, flat: np.ndarray, slope: np.ndarray, reach: float) -> np.ndarray | None:
    """A Jacobian that the map follows over finite steps; None if it holds for no run.

        (F(x ± h d) − F(x))/(± h) → J d   along each direction d, for three steps h

    A map may jump (the sign of a gradient), or be straight only so close to a point that no run sees it (Adam, within
    its ε = 1e-8). Then its derivative decides nothing. Where automatic differentiation gives NaN or a slope
    that holds on one side of a root alone (√v at v = 0), the limit of the differences stands in, if there is one. A
    side on which the map is not defined (v < 0) is left out.

    Args:
        steps: F on many states, (n, size) -> (n, size)
        flat: x, shape (size,)
        slope: J as automatic differentiation gives it, shape (size, size)
        reach: the largest h
    Returns:
        J, or None
    """
    size = len(flat)
    axes = size <= _AXES
    directions = np.eye(size) if axes else np.abs(np.random.default_rng(0).normal(size=(_AXES, size)))
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    signed = reach * _STEPS[:, None, None, None] * np.array([1.0, -1.0])[:, None, None]  # (steps, sides, 1, 1)
    moved = flat + signed * directions
    after = np.asarray(steps(np.vstack([flat[None], moved.reshape(-1, size)])))
    quotients = (after[1:].reshape(moved.shape) - after[0]) / signed  # (steps, sides, directions, size)
    defined = np.isfinite(quotients).all(axis=(0, 3))  # (sides, directions)
    if not defined.any(axis=0).all():
        return None
    rounding = 1e-14 * np.abs(after[np.isfinite(after)]).max() / np.abs(signed).min()

    def meets(value: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """Whether gaps to a value are small, or become much smaller with every step; (sides, directions)."""
        small = gaps[-1] <= _TOLERANCE * (1 + np.abs(value).max(axis=-1)) + rounding
        return ((gaps[1:] <= gaps[:-1] / 4) | small).all(axis=0) | ~defined

    exact = (slope @ directions.T).T
    follows = meets(exact, np.abs(quotients - exact).max(axis=3)).all(axis=0)
    if follows.all():
        return slope
    changes = np.abs(np.diff(quotients, axis=0)).max(axis=3)
    first = quotients[1:] + (quotients[1:] - quotients[:-1]) / 9  # without what is of first order in h, and
    limits = first[1] + (first[1] - first[0]) / 99  # of second order
    limit = np.mean(limits, axis=0, where=defined[..., None])
    apart = np.abs(limits - limit).max(axis=2)
    settled = (meets(limits, changes) & meets(limit, np.stack([4 * changes[1], apart]))).all(axis=0)
    return np.where(follows[:, None], exact, limit).T if axes and (follows | settled).all() else None
