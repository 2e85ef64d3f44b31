"""Least cost of steering to a goal in a given number of steps: an augmented Lagrangian, minimised by L-BFGS.

    minimise ½ Σ ‖z_k‖²   such that c(θ_n) ≤ 0,   by L(x) = ½ Σ ‖z_k‖² + (max(0, ν + μ c)² − ν²)/(2μ) in the controls x

ν ← max(0, ν + μ c) until c vanishes. What a path is to keep at every step is treated alike. Gradients are those of the
steps, taken backwards through the path. In normal numbers the cost is the same in all directions, so the problem is
well conditioned at any length.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import memory
from flatdyn.escape.steering import Steered
from flatdyn.escape.targets import Goal

_OUTER, _INNER = 40, 500  # updates of ν, and steps of L-BFGS between them
_KEPT, _LARGE = 30, 10**6  # gradients that L-BFGS remembers, and controls from which on these are fewer
_MISS = 1e-10  # by which a goal may be missed, in units of how far it was at the start
_SLOPE = 1e-3  # of an end that counts as found, in units of the noise
_STRAY = 1e-8  # by which a path may leave what it is to keep, in units of the noise
_FAILED = 1e6  # what a path that leaves the numbers costs, in units of the cost at the start
_DIFFERENCE = 1e-5  # of controls, for second derivatives
_DENSE = 300  # controls up to which all second derivatives are taken


class Shooting(NamedTuple):
    """Steps from a state to a goal, which is so far away there."""

    steered: Steered
    state: Any
    goal: Goal
    far: float

    def plain(self) -> Shooting:
        """The same, steered by normal numbers."""
        return self._replace(steered=self.steered.plain())


class Forces(NamedTuple):
    """Multipliers ν and weights μ: of the goal, and of what a path is to keep, (room, strays)."""

    goal: Any
    weight: Any
    path: Any
    stiffness: Any


class Best(NamedTuple):
    """A local optimum; see :func:`solve`."""

    controls: np.ndarray
    cost: float
    miss: float
    slope: float
    forces: Forces


class Path(NamedTuple):
    """A path that was steered: positions (n + 1, dim), normal numbers (n, draws), strays (n, numbers)."""

    places: np.ndarray
    normals: np.ndarray
    strays: np.ndarray


def capacity(steps: int) -> int:
    """Paths of several lengths share one program, which has room for so many steps."""
    return 1 << max(7, int(steps - 1).bit_length()) if steps <= 512 else 1 << (2 * -(-int(steps - 1).bit_length() // 2))


def padded(controls: np.ndarray) -> np.ndarray:
    """Controls (n, size) in the room of a program."""
    room = np.ones((capacity(len(controls)), controls.shape[1]))
    room[: len(controls)] = controls
    return room


def _split(state: Any) -> tuple[Any, Any]:
    return eqx.partition(state, eqx.is_inexact_array)


def _advanced(problem: Shooting, state: Any, control: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    new, z, strays = problem.steered.step(state, control)
    return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), new, state), z, strays


def _pushed(c: jax.Array, exact: Any, multipliers: jax.Array, weight: Any) -> jax.Array:
    """The penalty on c ≤ 0, or c = 0 where that is to be exact."""
    pushed = jnp.maximum(0, multipliers + weight * c)
    below = (pushed**2 - multipliers**2) / (2 * weight)
    return jnp.sum(jnp.where(exact, multipliers * c + weight * c**2 / 2, below))


def lagrangian(problem: Shooting, controls: jax.Array, steps: Any, forces: Forces):
    """Its value, and its derivative in the controls; those of steps that aren't taken are zero."""
    exact = problem.steered.exact

    def step(moving, rest, k):
        new, z, strays = _advanced(problem, eqx.combine(moving, rest), controls[k])
        return new, z @ z / 2 + _pushed(strays, exact, forces.path[k], forces.stiffness)

    def onwards(k, carry):
        state, kept, cost = carry
        kept = jax.tree.map(lambda all_, one: all_.at[k].set(one), kept, state)
        state, more = step(*_split(state), k)
        return state, kept, cost + more

    many = jax.tree.map(lambda leaf: jnp.zeros((len(controls), *leaf.shape), leaf.dtype), problem.state)
    end, states, cost = jax.lax.fori_loop(0, steps, onwards, (problem.state, many, jnp.zeros(())))
    moving, rest = _split(end)

    def ending(moving):
        c = problem.goal.misses(problem.steered.process.position(eqx.combine(moving, rest)))
        return _pushed(c, problem.goal.exact, forces.goal, forces.weight)

    value, back = jax.vjp(ending, moving)

    def backwards(i, carry):
        pull, slope = carry
        k = steps - 1 - i
        moving, rest = _split(jax.tree.map(lambda leaf: leaf[k], states))

        def taken(moving, control):
            new, z, strays = _advanced(problem, eqx.combine(moving, rest), control)
            return _split(new)[0], z @ z / 2 + _pushed(strays, exact, forces.path[k], forces.stiffness)

        out, back = jax.vjp(taken, moving, controls[k])
        pull, own = back((pull, jnp.ones_like(out[1])))
        return pull, slope.at[k].set(own)

    pull = back(jnp.ones_like(value))[0]
    _, slope = jax.lax.fori_loop(0, steps, backwards, (pull, jnp.zeros_like(controls)))
    return cost + value, slope


_valued = eqx.filter_jit(lagrangian)


def along(problem: Shooting, controls: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Positions, normal numbers and strays of a path."""

    def step(state, control):
        new, z, strays = _advanced(problem, state, control)
        return new, (problem.steered.process.position(new), z, strays)

    return jax.lax.scan(step, problem.state, controls)[1]


_followed = eqx.filter_jit(along)


@eqx.filter_jit
def _apart(problem, controls):
    """By how much the process itself, from each place of a path and with its noise, leads elsewhere."""
    position = problem.steered.process.position
    plain = problem.plain()

    def step(state, control):
        new, z, _ = _advanced(problem, state, control)
        return new, jnp.abs(position(_advanced(plain, state, z)[0]) - position(new)).max()

    return jax.lax.scan(step, problem.state, controls)[1]


@eqx.filter_jit
def _steered(problem, normals):
    """The controls that take the steps of normal numbers, (room, draws)."""
    plain = problem.plain()

    def step(state, normals):
        control = problem.steered.steer(state, normals)
        return _advanced(plain, state, normals)[0], control

    return jax.lax.scan(step, problem.state, normals)[1]


def controls_of(problem: Shooting, normals: np.ndarray) -> np.ndarray:
    """The controls that take the steps of normal numbers, (n, draws)."""
    return np.asarray(_steered(problem, padded(normals)))[: len(normals)]


def followed(problem: Shooting, controls: np.ndarray) -> Path:
    """The path of controls."""
    places, normals, strays = (np.asarray(part)[: len(controls)] for part in _followed(problem, padded(controls)))
    first = np.asarray(problem.steered.process.position(problem.state))
    return Path(np.vstack([first[None], places]), normals, strays)


def apart(problem: Shooting, controls: np.ndarray) -> float:
    """By how much a step of the process itself, with the noise of a path, leaves it at most."""
    return float(np.asarray(_apart(problem, padded(controls)))[: len(controls)].max(initial=0.0))


class _Standing(NamedTuple):
    """Where a search stands: misses c of the goal, strays of the path, its cost."""

    c: np.ndarray
    strays: np.ndarray
    cost: float

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.c).all() and np.isfinite(self.strays).all() and np.isfinite(self.cost))


def standing(problem: Shooting, controls: np.ndarray) -> _Standing:
    """What a path misses, how it strays, and what it costs."""
    path = followed(problem, controls)
    c = np.asarray(problem.goal.misses(jnp.asarray(path.places[-1])))
    return _Standing(c, path.strays, float(np.sum(path.normals**2) / 2))


def off(c: np.ndarray, exact: Any) -> float:
    """By how much c ≤ 0, or c = 0, is missed."""
    return float(np.where(exact, np.abs(c), np.maximum(c, 0)).max(initial=0.0))


def _renewed(multipliers: np.ndarray, weight: float, c: np.ndarray, exact: Any) -> np.ndarray:
    pushed = multipliers + weight * c
    return np.where(exact, pushed, np.maximum(0, pushed))


def solve(problem: Shooting, controls: np.ndarray, near: Best | None = None) -> Best | None:
    """The local optimum that controls (n, size) lead to, or None if the goal is not reached.

    Args:
        near: an optimum of another number of steps, whose multiplier is a first guess
    """
    best = _solved(problem, controls, near, False)
    if best is not None and best.slope <= _SLOPE * (2 * best.cost) ** 0.5:
        return best
    other = _solved(problem, controls, near, True)  # where ends are so sensitive that the search stood still
    return min((one for one in (best, other) if one is not None), key=lambda one: one.cost, default=None)


def _solved(problem: Shooting, controls: np.ndarray, near: Best | None, gentle: bool) -> Best | None:
    """The same with a penalty as steep as far ends make it, or as gentle as sensitive ones."""
    from scipy.optimize import minimize

    (steps, size), whole, exact = controls.shape, problem.steered, problem.goal.exact
    kept = _KEPT if steps * size < _LARGE else _KEPT // 3
    needed = 8 * (2 * kept + 20) * capacity(steps) * size
    memory.check_memory(needed, "the search for the least noise", "allow fewer `max_steps`, or give `steps`")
    low = whole.lowest(steps).ravel()
    bounds = np.stack([low, np.full_like(low, np.inf)], axis=1)
    x = np.maximum(controls.ravel(), low)
    now = standing(problem, x.reshape(steps, size))
    if not now.finite:
        return None
    scale = max(now.cost, 1e-12)
    path = np.zeros((capacity(steps), len(whole.exact)))
    goal = np.zeros(len(now.c)) if near is None else near.forces.goal
    weight = np.float64(10 * scale / problem.far**2)
    if gentle:
        weight = np.minimum(weight, 10 * _steepness(problem, x.reshape(steps, size), now.c))
    forces = Forces(goal, weight, path, np.float64(10 * scale))

    def evaluated(x):
        value, slope = _valued(problem, padded(x.reshape(steps, size)), steps, forces)
        value, slope = float(value), np.asarray(slope)[:steps].ravel()
        if np.isfinite(value) and np.isfinite(slope).all():
            return value, slope
        return _FAILED * (1 + scale), np.zeros_like(x)

    missed, strayed = np.inf, np.inf
    options = {"maxiter": _INNER, "maxfun": 2 * _INNER, "maxcor": kept, "ftol": 1e-14, "gtol": 1e-11 * (1 + scale)}
    for _ in range(_OUTER):
        x = minimize(evaluated, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        now = standing(problem, x.reshape(steps, size))
        if not now.finite:
            return None
        miss, stray = off(now.c, exact) / problem.far, off(now.strays, whole.exact)
        path[:steps] = _renewed(path[:steps], forces.stiffness, now.strays, whole.exact)
        forces = forces._replace(goal=_renewed(forces.goal, forces.weight, now.c, exact))
        slack = 0.0 if exact else float(np.max(forces.goal * np.maximum(0, -now.c)))
        if miss <= _MISS and stray <= _STRAY and slack <= _MISS * (1 + now.cost):
            forces = forces._replace(weight=weight, stiffness=np.float64(10 * scale))
            best = _judged(problem, x.reshape(steps, size), now.cost, miss, forces)
            return best if np.isfinite(best.slope) else None
        if miss > max(missed / 4, _MISS):
            forces = forces._replace(weight=8 * forces.weight)
        if stray > max(strayed / 4, _STRAY):
            forces = forces._replace(stiffness=8 * forces.stiffness)
        missed, strayed = miss, stray
    return None


def _steepness(problem: Shooting, controls: np.ndarray, c: np.ndarray) -> float:
    """1/‖∂c/∂controls‖²: such a weight is as steep as the cost; infinite where nothing is steep."""
    path = np.zeros((capacity(len(controls)), len(problem.steered.exact)))
    ends = [Forces(np.full(len(c), size), np.float64(1e-12), path, np.float64(1e-12)) for size in (1.0, 0.0)]
    one, none = (np.asarray(_valued(problem, padded(controls), len(controls), end)[1]) for end in ends)
    square = float(np.sum((one - none)[: len(controls)] ** 2))
    return 1 / square if np.isfinite(square) and square > 0 else np.inf


def _judged(problem: Shooting, controls: np.ndarray, cost: float, miss: float, forces: Forces) -> Best:
    """The optimum with the multipliers of its goal that leave the least slope, under light weights."""
    steps, low = len(controls), problem.steered.lowest(len(controls))

    def slope(goal):
        value = np.asarray(_valued(problem, padded(controls), steps, forces._replace(goal=goal))[1])[:steps]
        return np.where(controls > low, value, np.minimum(value, 0)).ravel()

    here, goal = slope(forces.goal), forces.goal
    changes = np.diag(1e-3 * np.maximum(np.abs(goal), 1e-3 * np.abs(goal).max(initial=1e-300)))
    along = np.stack([(slope(goal + change) - here) / change.max() for change in changes], axis=1)
    if np.isfinite(along).all():
        better = goal - np.linalg.lstsq(along, here, rcond=None)[0]
        if np.linalg.norm(slope(better)) < np.linalg.norm(here):
            goal = better
    return Best(controls, cost, miss, float(np.linalg.norm(slope(goal))), forces._replace(goal=goal))


def curvature(problem: Shooting, best: Best) -> float:
    """The smallest second derivative of the Lagrangian along directions that keep the goal, per normal number squared.

    1 for a straight problem, above 0 at a strict minimum, below 0 where a cheaper path is near; NaN if not found.
    """
    steps, size = best.controls.shape
    free = np.flatnonzero(problem.steered.free(best.controls))
    number, far = len(free), _DIFFERENCE * (1 + np.sqrt(np.mean(best.controls**2)))

    def slope(controls):
        return np.asarray(_valued(problem, padded(controls), steps, best.forces)[1])[:steps]

    def bent(direction):
        # By differences: a second derivative through a state where SAM's direction is 0 would be NaN
        change = np.zeros((steps, size))
        change.flat[free] = direction
        step = far / np.linalg.norm(change)
        second = (slope(best.controls + step * change) - slope(best.controls - step * change)) / (2 * step)
        return (second + problem.steered.idle(best.controls, change)).flat[free]

    # The penalty's own weight lifts what leads off the goal, so that the rest is the least.
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    if number <= _DENSE:
        matrix = np.stack([bent(row) for row in np.eye(number)])
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        return float(values[0])
    try:
        operator = LinearOperator((number, number), matvec=bent, dtype=float)
        start = np.random.default_rng(0).normal(size=number)
        return float(eigsh(operator, 1, which="SA", v0=start, tol=1e-3, maxiter=400, return_eigenvectors=False)[0])
    except ArpackError:
        return float("nan")
