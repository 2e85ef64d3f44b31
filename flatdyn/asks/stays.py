"""How long do runs stay? Asks about escapes from a region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flatdyn.asks.base import Ask
from flatdyn.core import checks
from flatdyn.escape.times import Escapes, escapes_together
from flatdyn.runs import cohorts


@dataclass(frozen=True, eq=False, repr=False)
class _OfEscapes(Ask):
    """What `then` makes of the escapes of a cell."""

    name: str
    then: Callable[[Escapes], Any]
    theta0: Any
    inside: Callable
    runs: int | None
    max_steps: int
    chunk: int | None = None

    def batches(self, processes):
        return cohorts.batches(processes, self.runs or len(self.theta0), self.theta0)

    def together(self, processes, keys):
        several = escapes_together(
            processes, self.theta0, self.inside, self.runs, self.max_steps, keys, chunk=self.chunk, progress=False
        )
        return [self.then(one) for one in several]


def escapes(
    then: Callable[[Escapes], Any],
    theta0: Any,
    inside: Callable,
    runs: int | None = None,
    max_steps: int = 100_000,
    *,
    chunk: int | None = None,
    name: str = "escapes",
) -> Ask:
    """What a function of yours makes of the escapes of a cell, which :func:`flatdyn.escape_times` would give.

    Args:
        then: from an :class:`flatdyn.escape.Escapes` to an answer, such as `lambda X: X.quantile(0.9)`
        theta0, inside, runs, max_steps: as for :func:`flatdyn.escape_times`, the same in all cells
        chunk: runs that advance together on a device
        name: of the question, for records
    Returns:
        an ask for :func:`flatdyn.sweep`
    Raises:
        ValueError: if theta0 is no start or starts, a number is out of range, or runs is missing with a single start
        TypeError: if `then` or `inside` is not a function
    """
    checks.function("then", then, "a function from Escapes to an answer", 1)
    checks.function("inside", inside, "a function from θ (dim,) to a boolean, or a region", 1)
    start, max_steps = checks.numbers("theta0", theta0, (1, 2), 1), checks.count("max_steps", max_steps, at_least=1)
    runs = checks.count("runs", runs, at_least=1) if runs is not None else None
    if runs is None and start.ndim == 1:
        raise ValueError("runs must be given with a single start: how many times is it left?")
    if runs is not None and start.ndim == 2 and runs != len(start):
        raise ValueError(f"theta0 holds {len(start)} starts, but runs={runs}: give one start, or as many as runs")
    chunk = checks.count("chunk", chunk, at_least=1) if chunk is not None else None
    return _OfEscapes(checks.text("name", name), then, theta0, inside, runs, max_steps, chunk)


def mean_stay(theta0: Any, inside: Callable, runs: int | None = None, max_steps: int = 100_000) -> Ask:
    """The mean number of steps that runs stay in a region, with its standard error and the share of censored runs.

        value = E T,   T = min {k ≥ 1 : θₖ not inside}

    Args:
        theta0: start, shape (dim,), or one per run, shape (runs, dim)
        inside: region that is left, as for :func:`flatdyn.escape_times`
        runs: how many; needed with a single start
        max_steps: after which a run that is still inside is censored; :func:`flatdyn.survival.mean` accounts for it
    Returns:
        an ask for :func:`flatdyn.sweep`: (value, stderr, censored)
    """
    return escapes(Escapes.mean, theta0, inside, runs, max_steps, name="mean_stay")


def median_stay(theta0: Any, inside: Callable, runs: int | None = None, max_steps: int = 100_000) -> Ask:
    """The median number of steps that runs stay in a region, with its interval of 95 %.

    It is known where more than half of the runs were seen to leave, whatever became of the others.

    Args:
        theta0, inside, runs, max_steps: as for :func:`mean_stay`
    Returns:
        an ask for :func:`flatdyn.sweep`: value, lower, upper
    """
    return escapes(Escapes.median, theta0, inside, runs, max_steps, name="median_stay")
