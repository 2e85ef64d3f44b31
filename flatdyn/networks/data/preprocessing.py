"""Preprocessing: train and test parts, label noise, scaling fitted on the training part alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from flatdyn.core import checks
from flatdyn.networks.data.builtin import Split


def shuffled(data: Split, seed: int = 0) -> Split:
    """All examples, in an order drawn from `seed`."""
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    seed = checks.count("seed", seed)
    return split(data, [len(data.y)], seed)[0]


def split(data: Split, sizes: Sequence[int], seed: int = 0) -> tuple[Split, ...]:
    """Disjoint parts of these sizes, drawn without replacement: training, validation, test.

    Args:
        data: where the examples come from; x may be a tree of arrays
        sizes: numbers of examples, in all at most as many as there are
        seed: of the generator
    Returns:
        one Split for each size
    Raises:
        ValueError: if a size is below 1, or there are fewer examples
    """
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    seed = checks.count("seed", seed)
    sizes = checks.sequence("sizes", sizes, "whole numbers")
    sizes = [checks.count("sizes", size, at_least=1) for size in sizes]
    total = len(data.y)
    if sum(sizes) > total:
        raise ValueError(f"sizes must sum to at most the {total} examples, got {' + '.join(map(str, sizes))}")
    order = np.random.default_rng(seed).permutation(total)
    chosen = np.split(order, np.cumsum(sizes))[: len(sizes)]
    return tuple(jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], data) for rows in chosen)


def flip_labels(data: Split, fraction: float, seed: int = 0) -> Split:
    """The same inputs with wrong labels: of exactly round(fraction · n), each any other class, equally likely.

    Args:
        data: with labels y, whole numbers from 0, shape (n,); there are max y + 1 classes
        fraction: between 0 and 1
        seed: of the generator, both for whose label and for which
    Raises:
        ValueError: if the labels are not classes, or `fraction` is out of range
    """
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    seed = checks.count("seed", seed)
    y = np.asarray(data.y)
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1 or y.min() < 0 or y.max() < 1:
        raise ValueError(f"labels must be whole numbers from 0, at least two classes, got {y.dtype} of shape {y.shape}")
    fraction = checks.number("fraction", fraction, at_least=0, one=True)
    if fraction > 1:
        raise ValueError(f"fraction must be at most 1, got {fraction}")
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(y))[: round(fraction * len(y))]
    classes = y.max() + 1
    y = y.copy()
    y[rows] = (y[rows] + rng.integers(1, classes, size=len(rows))) % classes
    return Split(data.x, y)


def standardize(train: Split, *others: Split) -> tuple[Split, ...]:
    """Each feature with mean 0 and variance 1 on the training part, the other parts by the same rule.

        x ↦ (x − m)/s,   and y likewise where it is real; s = 1 where a feature is constant

    Args:
        train: the part that m and s are taken from; x an array
        others: the parts that must not be looked at
    Returns:
        one Split for each given, train first
    """
    for one in (train, *others):
        checks.kind("train and others", one, Split, "flatdyn.networks.Split(x, y)")
    of_x = _scale(train.x)
    of_y = _scale(train.y) if np.issubdtype(np.asarray(train.y).dtype, np.floating) else np.asarray
    return tuple(Split(of_x(split.x), of_y(split.y)) for split in (train, *others))


def principal_components(train: Split, *others: Split, number: int) -> tuple[Split, ...]:
    """The coordinates along the directions in which the training part varies most.

        x ↦ Vᵀ (x − m),   V the first right singular vectors of the centred training inputs

    Their means on the training part are 0, their variances fall from the first to the last. The sign of a direction is
    such that its largest entry is positive.

    Args:
        train: the part that m and V are taken from; x an array (n, ...), flattened
        others: the parts that must not be looked at
        number: of components, at most the smaller of n and the features
    Returns:
        one Split for each given, train first; x of shape (n, number)
    Raises:
        ValueError: if there are not that many components
    """
    for one in (train, *others):
        checks.kind("train and others", one, Split, "flatdyn.networks.Split(x, y)")
    flat = _flat(train.x)
    if checks.count("number", number, at_least=1) > min(flat.shape):
        raise ValueError(f"number must be at most {min(flat.shape)}, for inputs {flat.shape}, got {number}")
    mean = flat.mean(axis=0)
    directions = np.linalg.svd(flat - mean, full_matrices=False)[2][:number]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    turned = directions * np.sign(largest)
    return tuple(Split((_flat(split.x) - mean) @ turned.T, np.asarray(split.y)) for split in (train, *others))


def _flat(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, float)
    return x.reshape(len(x), -1)


def _scale(values: np.ndarray) -> Callable:
    values = np.asarray(values, float)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    # a constant column is centred to rounding errors, which must not be blown up to variance 1
    spread = np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1e-300), spread, 1)
    return lambda other: (np.asarray(other, float) - mean) / spread
