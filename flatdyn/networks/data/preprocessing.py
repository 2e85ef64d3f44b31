"""Preprocessing: train and test parts, label noise, scaling fitted on the training part alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np

from flatdyn.core import checks
from flatdyn.networks.data.builtin import Split, package


def shuffled(data: Split, seed: int = 0) -> Split:
    """All examples, in an order drawn from `seed`."""
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    seed = checks.count("seed", seed)
    number = _length(data)
    if not number:
        raise ValueError("data must hold an example, got none")
    return split(data, [number], seed)[0]


def split(data: Split, sizes: Sequence[int], seed: int = 0) -> tuple[Split, ...]:
    """Disjoint parts of these sizes, drawn without replacement: training, validation, test.

    Args:
        data: where the examples come from; x may be a tree of arrays
        sizes: numbers of examples, in all at most as many as there are
        seed: of the generator
    Returns:
        one Split for each size
    Raises:
        ValueError: if a size is below 1, there are fewer examples, or x and y hold different numbers of them
    """
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    seed = checks.count("seed", seed)
    sizes = checks.sequence("sizes", sizes, "whole numbers")
    sizes = [checks.count("sizes", size, at_least=1) for size in sizes]
    total = _length(data)
    if sum(sizes) > total:
        raise ValueError(f"sizes must sum to at most the {total} examples, got {' + '.join(map(str, sizes))}")
    # scikit-learn's train_test_split does these two lines for two parts, and refuses to leave the second one empty
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
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1 or not y.size or y.min() < 0 or y.max() < 1:
        raise ValueError(f"labels must be whole numbers from 0, at least two classes, got {y.dtype} of shape {y.shape}")
    fraction = checks.number("fraction", fraction, at_least=0, one=True)
    if fraction > 1:
        raise ValueError(f"fraction must be at most 1, got {fraction}")
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(y))[: round(fraction * len(y))]
    y, kind = y.astype(np.int64), y.dtype  # sums of narrow whole numbers wrap around
    classes = int(y.max()) + 1
    y[rows] = (y[rows] + rng.integers(1, classes, size=len(rows))) % classes
    return Split(data.x, y.astype(kind))


def standardize(train: Split, *others: Split) -> tuple[Split, ...]:
    """Each feature with mean 0 and variance 1 on the training part, the other parts by the same rule.

        x ↦ (x − m)/s,   and y likewise where it is real; s = 1 where a feature is constant

    Done by scikit-learn's `StandardScaler`.

    Args:
        train: the part that m and s are taken from; x an array
        others: the parts that must not be looked at
    Returns:
        one Split for each given, train first
    Raises:
        ValueError: if x is not of finite numbers, or the parts have other features than train
        DataMissing: if scikit-learn is not installed
    """
    of_x = _flat_inputs(train, others)
    xs, ys = _scaled(of_x), [np.asarray(split.y) for split in (train, *others)]
    if np.issubdtype(ys[0].dtype, np.floating):
        scaled = zip(_scaled(_flat_parts(ys, "y")), ys, strict=True)
        ys = [one.reshape(y.shape) for one, y in scaled]
    shapes = [np.shape(split.x) for split in (train, *others)]
    return tuple(Split(x.reshape(shape), y) for x, y, shape in zip(xs, ys, shapes, strict=True))


def principal_components(train: Split, *others: Split, number: int) -> tuple[Split, ...]:
    """The coordinates along the directions in which the training part varies most.

        x ↦ Vᵀ (x − m),   V the first right singular vectors of the centred training inputs

    Their means on the training part are 0, their variances fall from the first to the last. The sign of a direction is
    such that its largest entry is positive. Done by scikit-learn's `PCA`.

    Args:
        train: the part that m and V are taken from; x an array (n, ...), flattened
        others: the parts that must not be looked at
        number: of components, at most the smaller of n and the features
    Returns:
        one Split for each given, train first; x of shape (n, number)
    Raises:
        ValueError: if there are not that many components, or as for :func:`standardize`
        DataMissing: if scikit-learn is not installed
    """
    flat = _flat_inputs(train, others)
    shape = flat[0].shape
    number = checks.count("number", number, at_least=1)
    if number > min(shape):
        raise ValueError(f"number must be at most {min(shape)}, for inputs {shape}, got {number}")
    # The full decomposition: what is chosen for many rows, that of the covariance matrix, squares rounding errors
    fitted = package("sklearn.decomposition", "scikit-learn", _DONE_BY).PCA(number, svd_solver="full")
    with np.errstate(divide="ignore", invalid="ignore"):  # of shares of the variance, if there is none
        fitted.fit(flat[0])
    largest = np.take_along_axis(fitted.components_, np.abs(fitted.components_).argmax(axis=1)[:, None], axis=1)
    signs = np.sign(largest[:, 0])  # scikit-learn had another rule for them before 1.5
    parts = zip(flat, (train, *others), strict=True)
    return tuple(
        Split(fitted.transform(x) * signs if len(x) else np.empty((0, number)), np.asarray(split.y))
        for x, split in parts
    )


_DONE_BY = "this is done by"  # what to say if scikit-learn is missing


def _flat_inputs(train: Split, others: Sequence[Split]) -> list[np.ndarray]:
    """Inputs of all parts as rows of one length, as many as there are targets."""
    for one in (train, *others):
        checks.kind("train and others", one, Split, "flatdyn.networks.Split(x, y)")
    flat = _flat_parts([one.x for one in (train, *others)], "x")
    for x, one in zip(flat, (train, *others), strict=True):
        _length(Split(x, one.y))
    return flat


def _length(data: Split) -> int:
    """How many examples there are: x and y are arrays with as many in front.

    Raises:
        ValueError: if they are not
    """
    shapes = [np.shape(leaf) for leaf in (*jax.tree.leaves(data.x), data.y)]
    if not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"x and y must be arrays with as many examples in front, got the shapes {shapes}")
    return shapes[-1][0]


def _flat_parts(parts: Sequence, name: str) -> list[np.ndarray]:
    """Inputs of all parts as rows of one length, of finite numbers."""
    arrays = [checks.numbers(name, part) for part in parts]
    fits = all(one.ndim and one.shape[1:] == arrays[0].shape[1:] for one in arrays)
    if not fits or not arrays[0].size:
        shapes = ", ".join(str(one.shape) for one in arrays)
        raise ValueError(
            f"{name} must have shape (n, ...), n > 0 in train, the same but for n in all parts, got {shapes}"
        )
    return [one.reshape(len(one), math.prod(one.shape[1:])) for one in arrays]


def _scaled(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    scaler = package("sklearn.preprocessing", "scikit-learn", _DONE_BY).StandardScaler().fit(parts[0])
    return [scaler.transform(part) if len(part) else part for part in parts]
