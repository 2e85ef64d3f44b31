"""Data for networks: inputs and labels, split for training, choosing and judging."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flatdyn import checks


class Split(NamedTuple):
    """Inputs x, shape (n, ...), and labels y, shape (n,), whole numbers from 0."""

    x: np.ndarray
    y: np.ndarray


def spirals(number: int = 500, turns: float = 2.0, spread: float = 0.02, seed: int = 0) -> Split:
    """Two arms of a spiral in the plane: generated from a seed, not real data.

        x = √t (cos φ, sin φ) · (±1) + spread · R,   φ = 2π turns √t,   t uniform in [0, 1]

    Args:
        number: points in all, an even number, half on each arm
        turns: how often each arm goes round
        spread: standard deviation of each coordinate around the arm
        seed: of the generator
    Returns:
        x, shape (number, 2), within about the unit disc; y: 0 or 1, the arm
    Raises:
        ValueError: if `number` is odd or below 2, or turns or spread is out of range
    References:
        The test problem of Leimkuhler, Matthews, Vlaar, arXiv 1908.11843, in this parametrisation.
    """
    if checks.count("number", number, at_least=2) % 2:
        raise ValueError(f"number must be even, half on each arm, got {number}")
    checks.number("turns", turns, above=0)
    checks.number("spread", spread, at_least=0)
    rng = np.random.default_rng(seed)
    radius = np.sqrt(rng.uniform(size=number))
    angle = 2 * np.pi * turns * radius
    y = np.arange(number) % 2
    x = (radius * (1 - 2 * y) * np.stack([np.cos(angle), np.sin(angle)])).T
    return Split(x + spread * rng.normal(size=x.shape), y)
