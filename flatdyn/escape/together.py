"""Least costs of many ends of one start, all at once: the same problem as in shooting, with a point for each lane.

SciPy minimises one function at a time, and a step of one path is too little work for a processor. Here each evaluation
takes all lanes, and each lane goes its own way: a step of L-BFGS where the last one was good, a shorter one where not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.escape import shooting
from flatdyn.escape.shooting import Forces, Shooting
from flatdyn.escape.targets import Goal

_MEMORY = 8  # steps that each lane remembers
_EVALUATIONS = 120  # between updates of multipliers
_UPDATES = 25
_MISS, _STRAY = 1e-9, 1e-7  # in units of the box, and of the noise
_FLAT = 1e-7  # gradient at an end, in units of the controls
_STILL = 1e-13, 3  # relative fall of a value, and how often in a row it is so small, at which a lane has ended
_FEWEST = 32  # lanes of a program


class Lanes(NamedTuple):
    """Paths to many points: controls (lanes, n, size), costs, multipliers (lanes, dim); NaN costs did not arrive."""

    controls: np.ndarray
    costs: np.ndarray
    multipliers: np.ndarray


@eqx.filter_jit
def _evaluated(problem: Shooting, points, controls, steps, forces):
    def one(point, controls, forces):
        return shooting.lagrangian(problem._replace(goal=Goal(point, "point")), controls, steps, forces)

    return jax.vmap(one)(points, controls, forces)


@eqx.filter_jit
def _ends(problem: Shooting, controls, steps):
    """Positions after so many steps, the strays of all of them, and the cost of the first ones."""

    def one(controls):
        places, normals, strays = shooting.along(problem, controls)
        taken = jnp.arange(len(controls))[:, None] < steps
        return places[steps - 1], jnp.where(taken, strays, 0), jnp.sum(jnp.where(taken, normals, 0) ** 2) / 2

    return jax.vmap(one)(controls)


def solved(problem: Shooting, points: np.ndarray, controls: np.ndarray, unit: float, first: np.ndarray) -> Lanes:
    """The local optima that controls (lanes, n, size) lead to, at points (lanes, dim).

    Args:
        unit: the size of the box
        first: multipliers to begin with, (lanes, dim)
    """
    number, steps, size = controls.shape
    lanes = max(_FEWEST, 1 << int(number - 1).bit_length())
    index = np.minimum(np.arange(lanes), number - 1)
    points, x, multipliers = points[index], controls[index].reshape(lanes, -1), first[index]
    low = problem.steered.lowest(steps).ravel()
    x = np.maximum(x, low)
    exact = problem.steered.exact
    room = shooting.capacity(steps)

    def roomy(x):
        wide = np.ones((lanes, room, size))
        wide[:, :steps] = x.reshape(lanes, steps, size)
        return wide

    _, _, cost = (np.asarray(part) for part in _ends(problem, roomy(x), steps))
    scale = np.maximum(cost, np.linalg.norm(multipliers, axis=1) * unit)
    scale = np.where(np.isfinite(scale), np.maximum(scale, 1e-3 * np.nanmax(scale, initial=1e-9)), 1.0)
    weight, stiffness = 10 * scale / unit**2, 10 * scale
    path = np.zeros((lanes, room, len(exact)))
    missed, strayed = np.full(lanes, np.inf), np.full(lanes, np.inf)
    done, left = np.zeros(lanes, bool), np.zeros(lanes, bool)
    for _ in range(_UPDATES):
        forces = Forces(multipliers, weight, path, stiffness)

        def evaluated(x, forces=forces):
            value, slope = _evaluated(problem, points, roomy(x), steps, forces)
            return np.asarray(value), np.asarray(slope)[:, :steps].reshape(lanes, -1)

        x = minimised(evaluated, x, low, ~done)
        places, strays, cost = (np.asarray(part) for part in _ends(problem, roomy(x), steps))
        gap = places - points
        miss = np.abs(gap).max(axis=1) / unit
        stray = np.where(exact, np.abs(strays), np.maximum(strays, 0)).max(axis=(1, 2), initial=0.0)
        left |= ~np.isfinite(miss + cost + stray)
        going = (~done & ~left)[:, None]
        multipliers = np.where(going, multipliers + weight[:, None] * gap, multipliers)
        pushed = path + stiffness[:, None, None] * strays
        path = np.where(going[..., None], np.where(exact, pushed, np.maximum(0, pushed)), path)
        done |= (miss <= _MISS) & (stray <= _STRAY) & ~left
        if (done | left).all():
            break
        weight = np.where(~done & (miss > missed / 4), 8 * weight, weight)
        stiffness = np.where(~done & (stray > np.maximum(strayed / 4, _STRAY)), 8 * stiffness, stiffness)
        missed, strayed = miss, stray
    cost = np.where(done, cost, np.nan)
    return Lanes(x.reshape(lanes, steps, size)[:number], cost[:number], multipliers[:number])


def minimised(function: Callable, x: np.ndarray, low: np.ndarray, going: np.ndarray) -> np.ndarray:
    """Local minima of many functions, x of shape (lanes, n), above bounds (n,); only lanes that are `going` move.

    Args:
        function: from x to values (lanes,) and slopes (lanes, n)
    """
    value, slope = function(x)
    old = [np.zeros((_MEMORY, *x.shape)) for _ in range(2)]
    going = going & np.isfinite(value) & np.isfinite(slope).all(axis=1)
    direction = -_inside(x, slope, low)
    idle = np.zeros(len(x), int)
    length = np.minimum(1.0, 1 / np.maximum(np.linalg.norm(direction, axis=1), 1e-300))
    for _ in range(_EVALUATIONS):
        inner = _inside(x, slope, low)
        going = going & (np.linalg.norm(inner, axis=1) > _FLAT * (1e-3 + np.linalg.norm(x, axis=1))) & (length > 1e-10)
        if not going.any():
            break
        trial = np.where(going[:, None], np.maximum(x + length[:, None] * direction, low), x)
        new, bent = function(trial)
        expected = np.sum(inner * (trial - x), axis=1)
        good = going & np.isfinite(new) & (new <= value + 1e-4 * expected + 1e-14 * np.abs(value))
        good &= np.isfinite(bent).all(axis=1)
        step, change = trial - x, bent - slope
        useful = good & (np.sum(step * change, axis=1) > 1e-12 * np.sum(step**2, axis=1))
        for kept, latest in zip(old, (step, change), strict=True):
            kept[:-1, useful] = kept[1:, useful]
            kept[-1, useful] = latest[useful]
        small = value - new <= _STILL[0] * np.abs(value)
        idle = np.where(good, np.where(small, idle + 1, 0), idle)
        going = going & (idle < _STILL[1])
        x = np.where(good[:, None], trial, x)
        value, slope = np.where(good, new, value), np.where(good[:, None], bent, slope)
        inner = _inside(x, slope, low)
        onwards = -_times_inverse(old, inner)
        onwards = np.where((x <= low) & (onwards < 0), 0, onwards)
        downhill = np.sum(onwards * inner, axis=1) < 0
        onwards = np.where(downhill[:, None], onwards, -inner)
        direction = np.where(good[:, None], onwards, direction)
        length = np.where(good, 1.0, np.where(going, 0.3 * length, length))
    return x


def _inside(x: np.ndarray, slope: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The slope without what leads below the bounds."""
    return np.where((x <= low) & (slope > 0), 0, slope)


def _times_inverse(old: list[np.ndarray], slope: np.ndarray) -> np.ndarray:
    """The slope times the inverse second derivative that L-BFGS knows, lane by lane."""
    steps, changes = old
    products = np.einsum("kln,kln->kl", steps, changes)
    inverse = np.where(products > 0, 1 / np.where(products > 0, products, 1), 0)
    q, shares = slope.copy(), []
    for s, y, r in zip(steps[::-1], changes[::-1], inverse[::-1], strict=True):
        share = r * np.einsum("ln,ln->l", s, q)
        q -= share[:, None] * y
        shares.append(share)
    size = np.einsum("ln,ln->l", changes[-1], changes[-1])
    q *= np.where(size > 0, products[-1] / np.where(size > 0, size, 1), 1)[:, None]
    for s, y, r, share in zip(steps, changes, inverse, shares[::-1], strict=True):
        q += (share - r * np.einsum("ln,ln->l", y, q))[:, None] * s
    return q
