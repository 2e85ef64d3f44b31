"""Does a run stay where it is? The tests look at the dynamics around it, not at its own past.

A run on a plateau, in a ravine or with tiny steps has stood still for as long as it was watched, and yet it will go on.
A run at an attractor is *drawn back*: runs from a little beside it, also ahead of it and behind it along its own way,
are much nearer to it at the end. That is a sufficient sign, in any dimension, for points, cycles, bands and clouds of
noise. Where this sign is missing (a valley along which nothing moves, a saddle that a run sits on, a basin whose
boundary is close), a point or cycle holds if Newton's method on the step finds one

* near the end of the run, within `grain`, by steps that become smaller; on a plateau they do not;
* to which the run has come at least half of the way from its start: with tiny steps it has not;
* which does not let go: no multiplier is so far outside |z| = 1 that the run would have left before long.

A point at which a run has been at rest to the last digit holds without the last two. Nothing holds where a step from
rest changes nothing in any direction, or on a slope without curvature: there the steps are smaller than rounding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import scipy

from flatdyn.basins.attractors import distance
from flatdyn.basins.walks import SAMPLES, Walkers
from flatdyn.processes import Process
from flatdyn.processes.flat import as_row, repeating, whole_from

_BESIDE = np.array([2.0, 0.5, 0.1])  # distances of the runs beside, in grains
_ROWS = 4  # directions and their opposites
_BACK = 0.7  # of its distance a run must lose that is drawn back: one that creeps does not lose it on both sides
_ULPS = 64 * np.finfo(float).eps
_LARGEST_STATE = 512  # numbers, beyond which no Jacobian is asked
_FLAT, _FURTHER = 1e-9, 8  # share of the largest curvature that is none; places where the slope is looked at
_ITERATIONS, _SHRINKS = 100, 0.97  # Newton's steps towards a zero of order p shrink by 1 − 1/p
_BATCHES, _CERTAIN = 16, 8.0  # means along a band's tail, and standard errors of its slope that show that it moves


class Candidate(NamedTuple):
    """One set of positions: a run that shows it.

    Attributes:
        starts: of all runs that visit it, shape (runs, dim)
        tail, end: of the run, shapes (2 SAMPLES, dim), (CONSECUTIVE, dim)
        state: its last full state
        period: up to a small part of the grain; 0 if there is none
    """

    starts: np.ndarray
    tail: np.ndarray
    end: np.ndarray
    state: Any
    period: int


def holds(walkers: Walkers, candidates: list[Candidate], grain: float, batch: int) -> np.ndarray:
    """Which candidates hold what is there, shape (candidates,). To be called in 64 bits.

    Args:
        walkers: of the process
        candidates: what is asked about
        grain: positions closer than this are one attractor's
        batch: runs of which positions are kept at once
    """
    process = walkers.process
    known = np.array([not process.random and c.period == 0 and not _moves(c.tail) for c in candidates], dtype=bool)
    asked = np.flatnonzero(~known)
    if len(asked):
        known[asked] = _drawn_back(walkers, [candidates[i] for i in asked], grain, batch)
    for i in np.flatnonzero(~known):
        known[i] = not process.random and candidates[i].period > 0 and _rests(walkers, candidates[i], grain)
    return known


def _moves(tail: np.ndarray) -> bool:
    """Whether the mean position of a band goes somewhere, by more than its fluctuations explain."""
    means = tail.reshape(_BATCHES, -1, tail.shape[-1]).mean(axis=1)
    time = np.arange(_BATCHES) - (_BATCHES - 1) / 2
    slope = time @ means / (time @ time)
    left = means - means.mean(axis=0) - time[:, None] * slope
    error = np.sqrt((left**2).sum(axis=0) / (_BATCHES - 2) / (time @ time))
    return bool((np.abs(slope) > _CERTAIN * error + _ULPS * np.abs(tail).max() / _BATCHES).any())


# --- what is beside it ----------------------------------------------------------------------------------------


def _drawn_back(walkers: Walkers, candidates: list[Candidate], grain: float, batch: int) -> np.ndarray:
    """Whether runs from beside each candidate, on all sides at one of the distances, come back to it."""
    rough = np.array([_roughness(c) for c in candidates])
    starts = np.array([_beside(c, max(grain, 2 * r)) for c, r in zip(candidates, rough, strict=True)])
    each, flat = starts.shape[1], starts.reshape(-1, starts.shape[2])
    back = np.zeros(len(flat), bool)
    for first in range(0, len(flat), batch):
        rows = np.arange(first, min(first + batch, len(flat)))
        walks = walkers.walk(flat[rows])
        for i in np.unique(rows // each):
            own = rows // each == i
            cloud = _cloud(candidates[i])
            begun, ended = distance(flat[rows[own]], cloud), distance(walks.tails[own, SAMPLES:], cloud)
            near = ended.max(axis=1) <= np.maximum(_BACK * begun, rough[i])
            back[rows[own]] = walks.alive[own] & (begun > rough[i]) & near
    return back.reshape(len(candidates), len(_BESIDE), -1).all(axis=2).any(axis=1)


def _beside(candidate: Candidate, scale: float) -> np.ndarray:
    """Starts at each distance, in directions along the run's way and across, shape (distances × directions, dim)."""
    dim, rng = candidate.end.shape[1], np.random.default_rng(0)
    way = candidate.end[-1] - candidate.tail[0]
    known = [way] if np.linalg.norm(way) > _ULPS * np.abs(candidate.end).max() else []
    rows = np.concatenate([np.reshape(known, (-1, dim)), np.eye(dim)[: _ROWS - 1], rng.normal(size=(_ROWS, dim))])
    rows = rows[:_ROWS] if dim < _ROWS else np.concatenate([rows[: len(known)], rows[-_ROWS:]])[:_ROWS]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    directions = np.concatenate([rows, -rows])
    return (candidate.end[-1] + scale * _BESIDE[:, None, None] * directions).reshape(-1, dim)


def _cloud(candidate: Candidate) -> np.ndarray:
    """Where it is at the end."""
    return candidate.end[-candidate.period :] if candidate.period else np.append(candidate.tail, candidate.end, axis=0)


def _roughness(candidate: Candidate) -> float:
    """How far a position of a band may be from the others that are known."""
    if candidate.period:
        return 0.0
    third = scipy.spatial.KDTree(candidate.tail[:SAMPLES])
    return 1.5 * float(third.query(candidate.tail[SAMPLES:])[0].max())


# --- what is under it -----------------------------------------------------------------------------------------


def _rests(walkers: Walkers, candidate: Candidate, grain: float) -> bool:
    """Whether Newton's method finds a point or cycle to which the run has come."""
    flat = np.asarray(as_row(candidate.state))
    period = _short_period(candidate)
    size = _ULPS * np.abs(candidate.end).max()
    at_rest = scipy.spatial.KDTree(candidate.end[-period:]).query(candidate.tail)[0].max() <= size
    if len(flat) > _LARGEST_STATE:
        return bool(at_rest)
    solution = _root(walkers.process, candidate, flat, period, grain)
    if solution is None:
        return False
    root, slope = solution
    growth = np.abs(np.linalg.eigvals(slope)).max()
    gone, left = (np.linalg.norm(x - root, axis=-1) for x in (candidate.starts, candidate.end[-1]))
    arrived = (left <= gone / 2).any() and growth <= 1 + 0.1 * period / walkers.steps
    return bool(at_rest or arrived) and not _stalled(walkers.process, candidate.end[-1], grain)


def _root(process: Process, candidate: Candidate, flat: np.ndarray, period: int, grain: float):
    """Position and multipliers' matrix of the fixed point or cycle next to a state, or None."""
    before = np.inf
    for _ in range(_ITERATIONS):
        moved, slope, theta, resting = map(np.asarray, _linearised(process, candidate.state, flat, period))
        gap, matrix = moved - flat, np.eye(len(flat)) - slope
        resolution = _ULPS * (np.abs(flat).max() + grain)
        if not (np.isfinite(gap).all() and np.isfinite(matrix).all()) or np.abs(matrix @ resting).max() <= _ULPS:
            return None
        if np.linalg.norm(theta - candidate.end[-1]) > grain:
            return None
        step = np.linalg.lstsq(matrix, gap, rcond=1e-12)[0]
        length = np.linalg.norm(step)
        if length <= max(1e-9 * grain, resolution):
            return (theta, slope) if np.abs(gap - matrix @ step).max() <= resolution else None
        if length > _SHRINKS * before:
            return None
        flat, before = flat + step, length
    return None


def _stalled(process: Process, theta: np.ndarray, grain: float) -> bool:
    """Whether the loss falls along a direction without curvature, by less than a step can resolve.

    Along a valley whose floor is level the gradient is rounding, which changes from point to point; on a slope it is
    the same a little further on.
    """
    landscape = getattr(process, "landscape", None)
    if landscape is None:
        return False
    values, vectors = np.linalg.eigh(np.asarray(landscape.hessian(theta)))
    flat = vectors[:, np.abs(values) <= _FLAT * np.abs(values).max()]
    way = flat @ (flat.T @ np.asarray(landscape.grad(theta)))
    length = np.linalg.norm(way)
    if not length > 0:
        return False
    way /= length
    further = theta + 1e-6 * grain * np.linspace(-1, 1, _FURTHER)[:, None] * way
    slopes = np.asarray(landscape.grad(further)) @ way
    return bool((slopes > 0).all() and np.ptp(slopes) <= 0.1 * length)


def _short_period(candidate: Candidate) -> int:
    """The period up to a small part of what the last positions span, not of the grain: a tiny cycle has it, too."""
    end = candidate.end
    span = np.ptp(end, axis=0).max()
    for period in range(1, len(end) // 2 + 1):
        if np.abs(end[period:] - end[:-period]).max() <= max(1e-3 * span, _ULPS * np.abs(end).max()):
            return period
    return candidate.period


@eqx.filter_jit
def _linearised(process: Process, state: Any, flat: jax.Array, period: jax.Array):
    """A full state after one period, the Jacobian of that, its position, and how a state at rest moves with it.

    Whole numbers in the state stay as they are.
    """
    whole, advance = whole_from(state), repeating(process)

    def moved(flat):
        return jax.lax.fori_loop(0, period, lambda _, row: as_row(advance(whole(row))), flat)

    theta = process.position(whole(flat))
    return moved(flat), jax.jacfwd(moved)(flat), theta, jax.jacfwd(lambda at: as_row(process.init(at)))(theta)
