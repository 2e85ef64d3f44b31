"""Numbers with honest errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from flatdyn.core import checks


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
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(batches))


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
