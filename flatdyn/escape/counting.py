"""Transitions between attractors, counted: while runs go on, or in a run that was recorded; and rates from counts.

A run belongs to the attractor in whose core it was last. Every step is spent by the one to which the run belongs before
it, and a transition from i to j is a step after which a run of i belongs to j.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.escape.cores import NOWHERE, SEVERAL, Cores
from flatdyn.processes import Process
from flatdyn.runs import stepping
from flatdyn.runs.queues import GOING, StepJob
from flatdyn.runs.stepping import Carry

LASTED, LOST, OVERLAP = range(3)


class Counts(NamedTuple):
    """What was seen of independent runs, or of parts of one.

    Attributes:
        transitions: from one attractor to another, shape (parts, attractors, attractors)
        spent: steps that belonged to each, shape (parts, attractors)
        lost: whether the run was lost while it belonged to each, shape (parts, attractors)
    """

    transitions: np.ndarray
    spent: np.ndarray
    lost: np.ndarray


class CountedRuns(NamedTuple):
    """As :class:`Counts`, with how each run ended, and where."""

    transitions: np.ndarray
    spent: np.ndarray
    ended: np.ndarray
    last: np.ndarray
    place: np.ndarray


class _Lane(NamedTuple):
    carry: Carry
    last: jax.Array
    transitions: jax.Array
    spent: jax.Array
    ended: jax.Array


class Counting(StepJob):
    """So many steps of each run, of which the first are not counted."""

    cores: Cores
    inside: Callable | None
    relax: jax.Array
    steps: jax.Array

    def begin(self, process: Process, starts: jax.Array) -> Any:
        carry, number = stepping.at_rest(process, starts), len(self.cores)
        label = jax.vmap(self.cores)(jax.vmap(process.position)(carry.state))
        counts = jnp.zeros((len(starts), number, number), jnp.int32), jnp.zeros((len(starts), number), jnp.int32)
        ended = jnp.where(label == SEVERAL, OVERLAP, GOING).astype(jnp.int32)
        return _Lane(carry._replace(alive=ended == GOING), label.astype(jnp.int32), *counts, ended)

    def step(self, process, lane, seed, number):
        going = lane.carry.alive
        after = stepping.guarded_step(process, lane.carry, seed, number, lane.carry.taken, jnp.inf)
        theta = process.position(after.state)
        label = self.cores(theta)
        inside = jnp.asarray(True) if self.inside is None else self.inside(theta)
        kept = after.alive & (inside | (label != NOWHERE))
        counted = going & (lane.carry.taken >= self.relax)
        index = jnp.arange(len(self.cores))
        was, now = lane.last == index, label == index
        moved = counted & kept & (label >= 0) & (lane.last >= 0) & (label != lane.last)
        transitions = lane.transitions + (moved & was[:, None] & now)
        spent = lane.spent + (counted & was)
        last = jnp.where(going & kept & (label >= 0), label, lane.last).astype(jnp.int32)
        ended = jnp.where(after.taken >= self.relax + self.steps, LASTED, GOING)
        ended = jnp.where(label == SEVERAL, OVERLAP, jnp.where(kept, ended, LOST))
        ended = jnp.where(going, ended, lane.ended).astype(jnp.int32)
        return _Lane(after._replace(alive=ended == GOING), last, transitions, spent, ended)

    def blank(self, starts):
        runs, number = len(starts), len(self.cores)
        whole, counts = np.zeros(runs, np.int32), np.zeros((runs, number), np.int32)
        return CountedRuns(np.zeros((runs, number, number), np.int32), counts, whole, whole.copy(), np.array(starts))

    def outcome(self, process, lanes):
        return lanes.transitions, lanes.spent, lanes.ended, lanes.last, jax.vmap(process.position)(lanes.carry.state)

    def results(self, outcome):
        return CountedRuns(*outcome)


def recorded(labels: np.ndarray, gaps: np.ndarray, number: int, parts: int) -> Counts:
    """Counts of recorded runs, each cut into parts of equal length.

    Args:
        labels: the core in which a run is at each time, or NOWHERE, shape (runs, times)
        gaps: steps from each time to the next, shape (times − 1,)
        number: of attractors
        parts: of each run
    """
    runs, times = labels.shape
    place = np.where(labels >= 0, np.arange(times), -1)
    seen = np.maximum.accumulate(place, axis=1)
    last = np.where(seen >= 0, np.take_along_axis(labels, np.maximum(seen, 0), axis=1), NOWHERE)
    before, after = last[:, :-1], last[:, 1:]
    part = np.arange(runs)[:, None] * parts + np.arange(times - 1) * parts // max(times - 1, 1)
    known = before >= 0
    moved = known & (after != before)
    shape, total = (runs * parts, number, number), runs * parts
    codes = (part[moved] * number + before[moved]) * number + after[moved]
    transitions = np.bincount(codes, minlength=total * number * number).reshape(shape)
    steps = np.broadcast_to(gaps, before.shape)[known]
    spent = np.bincount(part[known] * number + before[known], steps, total * number).reshape(total, number)
    return Counts(transitions, spent, np.zeros((total, number), int))


def estimated(counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k_ij = N_ij/T_i, its standard error, and the rates of being lost.

    The error is that of a ratio of sums over independent parts, and never below √(N + ½)/T, that of so many events at
    random times: few parts, or none with an event, would know less than that.
    """
    spent = counts.spent.sum(axis=0).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        number, lost = counts.transitions.sum(axis=0), counts.lost.sum(axis=0)
        rates = number / spent[:, None]
        parts = len(counts.spent)
        rest = counts.transitions - rates * counts.spent[:, :, None]
        spread = np.sqrt((rest**2).sum(axis=0) * parts / max(parts - 1, 1)) / spent[:, None]
        error = np.maximum(spread, np.sqrt(number + 0.5) / spent[:, None])
        np.fill_diagonal(rates, 0.0)
        np.fill_diagonal(error, 0.0)
        return rates, error, lost / spent
