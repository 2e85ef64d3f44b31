"""Numbers with honest errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from flatdyn.core import checks


def mean_sem(values: Any, axis: int = 0) -> tuple[Any, Any]:
    """Mean of independent values with its standard error.

        x̄ = Σ xₖ / n,   s.e. = √(Σ (xₖ − x̄)² / (n (n − 1)))

    For few values an interval takes Student's t of n − 1 degrees of freedom.

    Args:
        values: repetitions of one number, or of an array of them
        axis: along which the repetitions lie
    Returns:
        mean, standard error, of the shape of `values` without `axis`
    Raises:
        ValueError: if there are fewer than two repetitions, or one is not finite
    """
    values = checks.numbers("values", values)
    if not values.ndim:
        raise ValueError(f"values must be at least two repetitions, got the single number {values}")
    axis = checks.count("axis", axis, at_least=-values.ndim, at_most=values.ndim - 1)
    if values.shape[axis] < 2:
        raise ValueError(f"values must hold at least two repetitions along axis {axis}, got shape {values.shape}")
    return mean_sem_of(values, axis)


def mean_sem_of(values: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    """As :func:`mean_sem`, of an array that needs no check: of any type of numbers, NaN where one of them is NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.mean(axis=axis), values.std(axis=axis, ddof=1) / np.sqrt(values.shape[axis])


def sem_of_interval(lower: Any, upper: Any, level: float = 0.95) -> Any:
    """Standard error of what is known by a confidence interval, as if its law were normal.

        s.e. = (upper − lower)/(2 z),   z = Φ⁻¹((1 + level)/2),  1.96 for 95 %

    Args:
        lower, upper: ends of the interval, numbers or arrays of one shape; an end may be infinite
        level: its confidence, in (0, 1)
    Returns:
        of the shape of `upper`; infinite where an end is
    Raises:
        ValueError: if an upper end is below its lower one
    """
    lower, upper = (checks.entries(name, end) for name, end in {"lower": lower, "upper": upper}.items())
    if lower.shape != upper.shape:
        raise ValueError(f"lower and upper must have one shape, got {lower.shape} and {upper.shape}")
    if (lower > upper).any():
        raise ValueError(
            f"upper must be at least lower, got {lower[lower > upper][0]:g} and {upper[lower > upper][0]:g}"
        )
    level = checks.number("level", level, above=0, below=1, one=True)
    width = scipy.special.ndtri((1 + level) / 2) or np.sqrt(2) * scipy.special.erfinv(level)  # (1 + level)/2 may be ½
    with np.errstate(invalid="ignore", over="ignore"):
        return (upper - lower) / (2 * width)


def batch_mean(series: Any, batches: int = 20) -> tuple[float, float]:
    """Mean of a correlated series with its standard error, by batch means.

        x̄ = mean of the batch means x̄ₖ,   s.e. = √(Σ (x̄ₖ − x̄)² / (n (n − 1))),   n batches

    The error is right if the batches are much longer than the memory of the series.

    Args:
        series: numbers in order of time, or True and False (the mean is then a share of time), shape (length,); what
            does not fill the batches is left out at the start
        batches: n ≥ 2
    Returns:
        mean, standard error
    Raises:
        ValueError: if there are fewer numbers than batches
    """
    batches = checks.count("batches", batches, at_least=2)
    try:
        flags = np.asarray(series).dtype == bool
    except (TypeError, ValueError):  # keys of JAX, rows of several lengths: said below
        flags = False
    values = checks.numbers("series", np.asarray(series, dtype=float) if flags else series, ndim=1)
    if values.ndim != 1 or len(values) < batches:
        each = f"one number for each of {checks.shown(batches)} batches, in one row"
        raise ValueError(f"series must hold at least {each}, got shape {values.shape}")
    means = values[len(values) % batches :].reshape(batches, -1).mean(axis=1)
    mean, stderr = mean_sem_of(means)
    return float(mean), float(stderr)


def binomial_error(count: Any, runs: int) -> Any:
    """Standard error of a share count/runs that is honest at its ends.

        √(p (1 − p)/n),   p = (k + ½)/(n + 1)

    p is Jeffreys' estimate: with k/n itself a share of none or all of the runs would seem certain (Brown, Cai,
    DasGupta, Statistical Science 16, 101 (2001), section 4.1.2).

    Args:
        count: k, whole numbers
        runs: n ≥ 1
    """
    count = checks.number("count", checks.numbers("count", count), at_least=0)
    runs = checks.number("runs", checks.numbers("runs", runs), above=0)
    if (count > runs).any():
        raise ValueError(f"count must be at most the number of runs, got {count.max():g} of {runs}")
    p = (np.asarray(count) + 0.5) / (runs + 1)
    return np.sqrt(p * (1 - p) / runs)
