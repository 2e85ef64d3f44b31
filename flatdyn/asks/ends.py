"""Where are runs in the end? Asks about positions after a given number of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from flatdyn.asks.base import Ask
from flatdyn.core import checks, precision
from flatdyn.core.records import Ensemble, Status
from flatdyn.core.statistics import binomial_error, mean_sem_of
from flatdyn.processes import Process
from flatdyn.processes.regions import as_test
from flatdyn.runs import cohorts
from flatdyn.runs.ensembles import simulate_together


@dataclass(frozen=True, eq=False, repr=False)
class _OfEnsembles(Ask):
    """What `then` makes of the runs of a cell."""

    name: str
    then: Callable[[Ensemble, Process], Any]
    theta0: Any
    steps: int
    every: int
    bound: float = np.inf
    chunk: int | None = None

    def batches(self, processes):
        kept = 1 + self.steps // self.every
        runs = len(self.theta0) if np.ndim(self.theta0) == 2 else 1
        return cohorts.batches(processes, runs * max(1, kept // 2), self.theta0)

    def together(self, processes, keys):
        several = simulate_together(
            processes, self.theta0, self.steps, keys, self.every, bound=self.bound, chunk=self.chunk, progress=False
        )
        return [self.then(one, process) for one, process in zip(several, processes, strict=True)]


def ensembles(
    then: Callable[[Ensemble, Process], Any],
    theta0: Any,
    steps: int,
    runs: int | None = None,
    *,
    every: int | None = None,
    bound: float = np.inf,
    chunk: int | None = None,
    name: str = "ensembles",
) -> Ask:
    """What a function of yours makes of the runs of a cell, which :func:`flatdyn.simulate` would give.

    Args:
        then: from a :class:`flatdyn.records.Ensemble` and the process to an answer
        theta0: start, shape (dim,), or starts, shape (runs, dim), the same in all cells
        steps: number of steps
        runs: that many from a single start
        every: as for :func:`flatdyn.simulate`; every=steps if not given, which keeps the first and the last position
        bound, chunk: as for :func:`flatdyn.simulate`
        name: of the question, for records
    Returns:
        an ask for :func:`flatdyn.sweep`
    Raises:
        ValueError: if theta0 is no start or starts, or a number is out of range
        TypeError: if `then` is not a function
    """
    checks.function("then", then, "a function from an Ensemble and a process to an answer", 2)
    start, steps = checks.numbers("theta0", theta0, (1, 2), 1), checks.count("steps", steps, at_least=1)
    every = steps if every is None else checks.count("every", every, at_least=1)
    if runs is not None:
        runs = checks.count("runs", runs, at_least=1)
        if start.ndim == 2 and runs != len(start):
            raise ValueError(f"theta0 holds {len(start)} starts, but runs={runs}: give one start, or as many as runs")
        theta0 = np.tile(np.asarray(theta0), (runs, 1)) if start.ndim == 1 else theta0
    chunk = checks.count("chunk", chunk, at_least=1) if chunk is not None else None
    return _OfEnsembles(checks.text("name", name), then, theta0, steps, every, checks.bound("bound", bound), chunk)


def final_loss(theta0: Any, steps: int, runs: int | None = None) -> Ask:
    """The mean loss after so many steps, with its standard error and the share of runs that did not get there.

        value = mean of L(θ_steps) over the runs that took all steps;   infinite if none did

    Args:
        theta0: start, shape (dim,), or starts, shape (runs, dim)
        steps: number of steps
        runs: that many from a single start
    Returns:
        an ask for :func:`flatdyn.sweep`: (value, stderr, censored); one run has an infinite standard error
    """
    return ensembles(_loss, theta0, steps, runs, name="final_loss")


def share_captured(theta0: Any, inside: Callable, steps: int, runs: int | None = None) -> Ask:
    """The share of runs that are in a region after so many steps, with its binomial error.

    With a ball around a saddle for the region: which share does the saddle hold? A run that diverged is in no region.

    Args:
        theta0: start, shape (dim,), or starts, shape (runs, dim)
        inside: region: a Ball, Box, Sublevel, HalfSpace, or any JAX function from θ, shape (dim,), to a boolean
        steps: number of steps
        runs: that many from a single start
    Returns:
        an ask for :func:`flatdyn.sweep`: (value, stderr)
    """
    checks.function("inside", inside, "a function from θ (dim,) to a boolean, or a region", 1)
    return ensembles(_Captured(inside), theta0, steps, runs, name="share_captured")


def _loss(ensemble: Ensemble, process: Process) -> tuple[float, float, float]:
    landscape = getattr(process, "landscape", None)
    if landscape is None:
        raise ValueError(f"a process without a landscape has no loss: {process!r}")
    final, there = np.atleast_2d(ensemble.final), ~_failed(ensemble)
    losses = np.asarray(landscape.loss(precision.on_device(final)), float)[there]
    if not len(losses):
        return np.inf, np.inf, 1.0
    value, stderr = mean_sem_of(losses) if len(losses) > 1 else (losses[0], np.inf)
    return float(value), float(stderr), 1 - float(there.mean())


@dataclass(frozen=True, eq=False)
class _Captured:
    """The share of the runs that end in a region."""

    inside: Callable

    def __call__(self, ensemble: Ensemble, process: Process) -> tuple[float, float]:
        final = np.atleast_2d(ensemble.final)
        test = as_test("inside", self.inside, jax.ShapeDtypeStruct(final.shape[1:], final.dtype))
        held = np.asarray(jax.vmap(test)(precision.on_device(final)), bool) & ~_failed(ensemble)
        return held.mean(), float(binomial_error(held.sum(), len(held)))


def _failed(ensemble: Ensemble) -> np.ndarray:
    """Which runs did not take all steps, shape (runs,)."""
    return np.isin(np.atleast_1d(ensemble.status), [Status.DIVERGED, Status.IMPOSSIBLE])
