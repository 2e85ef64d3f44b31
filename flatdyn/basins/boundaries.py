"""How entangled are the basins? Entropies and dimensions of basins and of the boundary between them.

Diverged runs count as a basin of their own; points that are undecided are left out. What they could change is taken
into account where something is claimed: :attr:`Entropy.is_fractal`.

References:
    Daza, Wagemakers, Georgeot, Guéry-Odelin, Sanjuán, Basin entropy, Scientific Reports 6, 31416 (2016)
    McDonald, Grebogi, Ott, Yorke, Fractal basin boundaries, Physica D 17, 125 (1985)
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flatdyn.basins.labels import UNDECIDED, Basins
from flatdyn.basins.mapper import Mapper, as_mapper
from flatdyn.basins.maps import basin_fractions
from flatdyn.core import checks, randomness
from flatdyn.core.statistics import mean_sem_of
from flatdyn.processes import Process


class Entropy(NamedTuple):
    """Basin entropy and boundary basin entropy, in nats; see :func:`basin_entropy`.

    Attributes:
        value, stderr: mean over all boxes
        boundary, boundary_stderr: mean over boxes that hold more than one label; NaN if there are none
        boxes, boundary_boxes: their numbers
        boundary_least: the least that the boundary entropy can be, whatever the undecided points turn out to be
    """

    value: float
    stderr: float
    boundary: float
    boundary_stderr: float
    boxes: int
    boundary_boxes: int
    boundary_least: float

    @property
    def is_fractal(self) -> bool:
        """The log 2 criterion: a smooth boundary between two basins has boundary entropy at most ln 2.

        Sufficient, not necessary: True means fractal, by more than two standard errors and whatever the undecided
        points turn out to be; False says nothing.
        """
        return bool(self.boundary_least - 2 * self.boundary_stderr > np.log(2))


class Dimension(NamedTuple):
    """A fitted dimension of the boundary and what it was fitted to.

    Attributes:
        value, stderr: of the dimension
        scales: lengths ε, shape (scales,)
        counts: what was counted at each, shape (scales,)
    """

    value: float
    stderr: float
    scales: np.ndarray
    counts: np.ndarray


def basin_entropy(basins: Basins, size: int = 5) -> Entropy:
    """Uncertainty of the final state inside small boxes (Daza et al., eqs. 2 to 4).

        S = (1/N) Σ_boxes Σ_labels −p ln p,     S_b = the same over boxes with more than one label

    Standard errors are those of a mean over boxes. Where every point is undecided the entropies are NaN.

    Args:
        basins: labels on a grid
        size: cells along each side of a box, at least 2; boxes that do not fit are left out
    Raises:
        ValueError: if the grid is smaller than one box
    """
    checks.kind("basins", basins, Basins, "fd.map_basins(process)")
    size = checks.count("size", size, at_least=2)
    boxes = _boxes(basins.labels, size)
    labels = [label for label in np.unique(boxes) if label != UNDECIDED]
    counts = np.array([(boxes == label).sum(axis=1) for label in labels]).reshape(len(labels), len(boxes)).T
    entropy, several = _entropies(counts)
    seen = counts.sum(axis=1) > 0
    return Entropy(
        *_mean(entropy[seen]),
        *_mean(entropy[several]),
        int(seen.sum()),
        int(several.sum()),
        _least(counts, boxes.shape[1]),
    )


def _entropies(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entropy of each box, and whether it holds several labels, from its counts of each, shape (boxes, labels)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    return entropy, (shares > 0).sum(axis=1) > 1


def _least(counts: np.ndarray, cells: int) -> float:
    """The mean over mixed boxes at its least: undecided points have the label that their box has most often, and every
    box that may be mixed because of them is, as little as can be."""
    if counts.shape[1] == 0:
        return float("nan")
    missing = cells - counts.sum(axis=1)
    filled = counts.copy()
    filled[np.arange(len(counts)), counts.argmax(axis=1)] += missing
    entropy, several = _entropies(filled)
    one = np.array([cells - 1, 1]) / cells  # a single point that is another one's
    entropy = np.where(several, entropy, -(one * np.log(one)).sum())
    return _mean(entropy[several | (missing > 0)])[0]


def box_dimension(basins: Basins) -> Dimension:
    """Dimension of the boundary by counting boxes that hold more than one label.

        p(ε) = share of mixed boxes of side ε ∝ ε^(axes − d)

    A box is looked at through 3 points along each side whatever its size, so that a filament thinner than the grid is
    missed equally often at all scales; looking at all points of a box would count coarse boxes better than fine ones,
    and find too small a dimension. The line is fitted to ln p over ln ε, weighted by the number of mixed boxes. Its
    standard error has two parts, added in squares: the scatter about the line, and what changes when each sixteenth of
    the picture in turn is left out (jackknife).

    Args:
        basins: labels on a grid of at least 128 points on each side
    Returns:
        Dimension, its counts the numbers of mixed boxes
    Raises:
        ValueError: if the grid is coarser, or there is no boundary
    """
    checks.kind("basins", basins, Basins, "fd.map_basins(process)")
    side = min(basins.labels.shape)
    if side < 128:
        raise ValueError(f"basins must have at least 128 points on each side for box counting, got {side}")
    strides = np.array([s for s in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if 2 * s * 16 < side])
    tiles = np.array([_mixed_by_tile(basins.labels, stride) for stride in strides])  # (strides, tiles, [mixed, boxes])
    mixed, boxes = tiles.sum(axis=1).T
    if (mixed == 0).any():
        raise ValueError("there is no boundary: all points have one label")

    def codimension(mixed, boxes):
        return _weighted_line(np.log(strides), np.log(mixed / boxes), mixed)

    slope, scatter = codimension(mixed, boxes)
    without = [codimension(*(tiles.sum(axis=1) - tile).T)[0] for tile in tiles.swapaxes(0, 1) if tile[:, 0].any()]
    n = len(without)
    jackknife = np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
    cell = np.ptp(basins.box[0]) / (basins.labels.shape[-1] - 1)
    return Dimension(basins.labels.ndim - slope, float(np.hypot(scatter, jackknife)), 2 * strides * cell, mixed)


def uncertainty_exponent(
    process: Process | Mapper,
    box: Any,
    scales: Any,
    runs: int,
    key: jax.Array,
    attractors: Any = None,
    *,
    max_steps: int = 20_000,
    radius: float | None = None,
    tol: float | None = None,
    stay: int | None = None,
    check_every: int = 10,
    bound: float = 1e6,
    chunk: int | None = None,
    progress: bool | None = None,
    store: str | Path | None = None,
    version: str | None = None,
) -> Dimension:
    """Dimension of the boundary from the share of starts that an error ε in their position makes uncertain.

        f(ε) = P(label(θ) ≠ label(θ + ε u)) ∝ ε^α,    d = dim − α,    θ uniform in the box, u a random direction

    (McDonald et al., eq. 2.1.) The line is fitted to ln f over ln ε with binomial weights; if it does not fit within
    them the error is enlarged by √(χ²/(n − 2)).

    Args:
        process: what moves, or a :class:`flatdyn.basins.Mapper`
        box: of starts, ((lower, upper), ...)
        scales: values of ε, at least 3
        runs: starts for each
        key: a JAX key
        attractors, max_steps, …: as for :func:`flatdyn.map_basins`
    Returns:
        Dimension with the fractions f(ε) as counts/runs; pairs of starts with an undecided one are left out of the fit
    Raises:
        ValueError: if there are fewer than 3 scales, or one at which no start is uncertain, or every one
    """
    mapper = as_mapper(
        process,
        attractors,
        max_steps=max_steps,
        radius=radius,
        tol=tol,
        stay=stay,
        check_every=check_every,
        bound=bound,
    )
    process = mapper.process
    checks.key(key)
    scales = np.asarray(checks.number("scales", scales, above=0), dtype=float)
    checks.in_range("scales", scales)
    runs = checks.count("runs", runs, at_least=1)
    if scales.ndim != 1 or len(scales) < 3:
        raise ValueError(f"scales must be at least 3 numbers, got {scales}")
    low, high = np.array(checks.box(box, process.dim)).T

    def pairs(key, number):
        place, turn = jax.random.split(key)
        theta = np.asarray(jax.random.uniform(place, (len(scales), runs, process.dim), minval=low, maxval=high))
        u = np.asarray(randomness.drawn(jax.random.normal, turn, theta.shape))
        moved = theta + scales[:, None, None] * u / np.linalg.norm(u, axis=-1, keepdims=True)
        return np.stack([theta, moved]).reshape(number, process.dim)

    number, options = 2 * len(scales) * runs, {"chunk": chunk, "progress": progress, "store": store}
    sample = basin_fractions(mapper, pairs, number, key, version=version, **options)
    here, there = sample.labels.reshape(2, len(scales), runs)
    decided = (here != UNDECIDED) & (there != UNDECIDED)
    counts, pairs_seen = ((here != there) & decided).sum(axis=1), decided.sum(axis=1)
    if (counts == 0).any():
        raise ValueError(f"no start is uncertain at scales {scales[counts == 0]}: take more runs or larger scales")
    share = counts / pairs_seen
    if (share == 1).any():
        raise ValueError(f"every start is uncertain at scales {scales[share == 1]}: take smaller scales")
    weight = counts / (1 - share)  # inverse variance of ln f
    alpha, error = _weighted_line(np.log(scales), np.log(share), weight)
    return Dimension(process.dim - alpha, error, scales, counts)


def _boxes(labels: np.ndarray, size: int) -> np.ndarray:
    """Labels of each box of `size` cells along each axis, shape (boxes, cells)."""
    whole = labels[tuple(slice(0, n - n % size) for n in labels.shape)]
    if whole.size == 0:
        raise ValueError(
            f"size must fit into the grid of shape {labels.shape}, got boxes of {checks.shown(size)} cells"
        )
    shape = [part for n in whole.shape for part in (n // size, size)]
    order = [*range(0, 2 * whole.ndim, 2), *range(1, 2 * whole.ndim, 2)]
    return whole.reshape(shape).transpose(order).reshape(-1, size**whole.ndim)


def _mixed_by_tile(labels: np.ndarray, stride: int) -> np.ndarray:
    """Boxes of 2 strides that hold more than one label, and all boxes, in each of 16 tiles of the first two axes."""
    coarse = labels[(slice(None, None, stride),) * labels.ndim]
    number = [(n - 1) // 2 for n in coarse.shape]
    lowest, highest = np.full(number, np.inf), np.full(number, -np.inf)
    for offset in itertools.product(range(3), repeat=labels.ndim):  # neighbouring boxes share the points between them
        part = coarse[tuple(slice(o, o + 2 * n - 1, 2) for o, n in zip(offset, number, strict=True))]
        known = part != UNDECIDED
        lowest = np.minimum(lowest, np.where(known, part, np.inf))
        highest = np.maximum(highest, np.where(known, part, -np.inf))
    mixed = lowest < highest
    tiles = [tile for row in np.array_split(mixed, 4) for tile in np.array_split(row, 4, axis=min(1, labels.ndim - 1))]
    return np.array([(tile.sum(), tile.size) for tile in tiles], dtype=float)


def _mean(values: np.ndarray) -> tuple[float, float]:
    if len(values) == 0:
        return float("nan"), float("nan")
    if len(values) < 2:
        return float(values.mean()), float("nan")
    mean, stderr = mean_sem_of(values)
    return float(mean), float(stderr)


def _weighted_line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope by weighted least squares, and its standard error, enlarged if the scatter exceeds the weights."""
    centre = (weight @ x) / weight.sum()
    spread = weight @ (x - centre) ** 2
    slope = (weight * (x - centre)) @ y / spread
    left = y - (weight @ y) / weight.sum() - slope * (x - centre)
    excess = (weight @ left**2) / (len(x) - 2)
    return float(slope), float(np.sqrt(max(excess, 1.0) / spread))
