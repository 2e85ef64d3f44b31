"""The least noise on a line by dynamic programming, for steps that jump: which way each ascent is best turned.

    V(θ) = min over the controls of cost + V(F(θ; control)),   V = 0 where the goal is reached

V is kept at points of a grid and is linear between them. On a line a search can't change the signs of ascents; this
finds them all. It can't be wrong by a local minimum, but by the grid: the search goes on from its path.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.escape.shooting import Shooting
from flatdyn.escape.steering import Steered

_POINTS, _LENGTHS = 401, 301  # of the grid, and of each sign's controls
_SWEEPS, _CHANGE = 2000, 1e-9  # iterations, and the change at which they end, as a share of the cost
_MARGIN = 0.25  # by which the grid is longer than the best path so far
_FAR = 1e6  # what it costs to leave the grid, in units of the best cost so far


def programmable(problem: Shooting) -> bool:
    """Whether a state is its position on a line, and steps jump."""
    leaves = jax.tree.leaves(problem.state)
    return problem.steered.way != "plain" and problem.steered.process.dim == 1 and sum(x.size for x in leaves) == 1


def programmed(problems: list[Shooting], path: np.ndarray, cost: float) -> tuple[float, Shooting | None, np.ndarray]:
    """The least cost, the problem of them whose goal is reached at it, and the controls (n, size) of a path there.

    Args:
        problems: the same process and start, and goals of which one is to be reached
        path: positions of the best path so far, shape (n + 1, 1)
        cost: its cost: a step costs no more
    """
    low, high = float(path.min()), float(path.max())
    points = np.linspace(low - _MARGIN * (high - low), high + _MARGIN * (high - low), _POINTS)
    problem, goals = problems[0], [problem.goal for problem in problems]
    choices = jnp.asarray(_choices(problem.steered, cost))
    options = _options(problem, goals, jnp.asarray(points)[:, None], choices)
    sides = np.asarray(_sides(problem, jnp.asarray(points)[:, None]))
    V = np.asarray(_iterated(options, points, sides, _FAR * cost, _CHANGE * cost))
    theta, controls = np.asarray(problem.steered.process.position(problem.state)), []
    least = None
    while len(controls) < 4 * _POINTS:
        options = _options(problem, goals, theta[None], choices)
        after, side, paid, there, steered = (np.asarray(part)[0] for part in options)
        onwards = np.where(there, paid, paid + _between(points, sides, V, after, side, _FAR * cost))
        onwards[after == theta[0]] = np.inf  # to stay is free at a fixed point, for ever
        best = int(np.argmin(onwards))
        least = float(onwards[best]) if least is None else least
        controls.append(steered[best])
        theta = after[best : best + 1]
        if there[best]:
            misses = [float(np.max(goal.misses(jnp.asarray(theta)))) for goal in goals]
            return least, problems[int(np.argmin(misses))], np.stack(controls)
    return least, None, np.zeros((0, problem.steered.size))


def _choices(whole: Steered, cost: float) -> np.ndarray:
    """Controls that may be best, (choices, own + 2): what is steered besides, the length r, and u."""
    reach = (2 * cost) ** 0.5  # of one normal number
    line = np.linspace(-reach, reach, 2 * _LENGTHS - 1)
    first = np.linspace(0, 2 * reach, 2 * _LENGTHS) if not whole.own else line
    return np.array([[value, u] for u in (-1.0, 1.0) for value in first])


@eqx.filter_jit
def _options(problem: Shooting, goals: list, places: jax.Array, choices: jax.Array):
    """Where choices lead from places, on which side, at what cost, whether that is the goal, and the controls."""
    whole = problem.steered
    init, position, gradient = whole.process.init, whole.process.position, whole.gradient

    def one(theta, choice):
        value, u = choice
        state = init(theta)
        g = gradient(state)[0] / whole.unit
        if whole.way == "full":
            control = jnp.stack([value, jnp.sign(g)])
        elif whole.own:  # the cheapest sample that turns the ascent to u
            control = jnp.stack([value, jnp.maximum(u * g, 0), u])
        else:
            control = jnp.stack([value, u])
        new, z, _ = whole.step(state, control)
        after = position(new)
        there = jnp.stack([jnp.all(goal.misses(after) <= 0) for goal in goals]).any()
        return after[0], _side(whole, after), z @ z / 2, there, control

    return jax.vmap(lambda theta: jax.vmap(lambda choice: one(theta, choice))(choices))(places)


def _side(whole: Steered, theta: jax.Array) -> jax.Array:
    """On which side of critical points a place is, where steps jump there."""
    return jnp.sign(whole.gradient(whole.process.init(theta))[0]) if whole.way == "full" else jnp.zeros(())


@eqx.filter_jit
def _sides(problem: Shooting, places: jax.Array) -> jax.Array:
    return jax.vmap(lambda theta: _side(problem.steered, theta))(places)


def _between(points: Any, sides: Any, V: Any, at: Any, side: Any, beyond: float) -> Any:
    """V at places: between points, or at the one of them on the same side, as V jumps where steps do."""
    place = (at - points[0]) / (points[1] - points[0])
    left = jnp.clip(jnp.floor(place), 0, len(points) - 2).astype(int)
    first, second = sides[left], sides[left + 1]
    share = jnp.where(first == second, place - left, jnp.where(side == first, 0.0, 1.0))
    value = (1 - share) * V[left] + share * V[left + 1]
    return jnp.where((place >= 0) & (place <= len(points) - 1), value, beyond)


@jax.jit
def _iterated(options, points, sides, beyond, change):
    after, side, paid, there, _ = options

    def sweep(carry):
        V, _, count = carry
        onwards = jnp.where(there, paid, paid + _between(points, sides, V, after, side, beyond))
        new = jnp.minimum(V, onwards.min(axis=1))
        return new, jnp.abs(new - V).max(), count + 1

    start = (jnp.full(len(points), beyond), jnp.inf, 0)
    return jax.lax.while_loop(lambda carry: (carry[1] > change) & (carry[2] < _SWEEPS), sweep, start)[0]
