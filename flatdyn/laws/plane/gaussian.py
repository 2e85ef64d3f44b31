"""The transfer operator of steps that are normal given where they start, at the nodes of a region.

    (K u)(x) = ∫ N(y; m(x), C(x)) u(y) dy over the region ≈ Σⱼ wⱼ N(yⱼ; m(x), C(x)) u(yⱼ)

It is Nyström's method: u is asked for at quadrature nodes alone. Cells of five standard deviations of a step with n
nodes in each coordinate integrate a normal density to 2e-6 (n = 9), 1e-9 (n = 12). The same nodes outside say with
which chance, and where, a step ends.

References:
    Kress, Linear Integral Equations (3rd ed.), chapter 12.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flatdyn.laws.plane import cells
from flatdyn.laws.plane.steps import Affine, Steps

REACH = 8.3  # of a step, in standard deviations: beyond it lies 1e-15, a thousandth of the rarest escape
CELL = 5.0  # width of a cell in standard deviations of a step
_PAIRS = 150_000  # of states and nodes that are worked on at a time
_HERMITE = 8  # nodes in each coordinate of a step that ends far outside


class Rows(NamedTuple):
    """Where one step leads: chances of the nodes (rows, nodes), and of landings outside, sparse; the landings."""

    matrix: Any
    out: Any
    landings: np.ndarray


class NormalKernel:
    """K at the nodes of a region.

    Attributes:
        steps: of the process
        nodes: (n, 2), with their weights (n,)
        worst: by how much the chances of a step miss 1, before they are divided by their sum
    """

    def __init__(self, steps: Steps, grid: cells.Cells, bounds: np.ndarray):
        self.steps, self._grid, self._bounds = steps, grid, bounds
        self.nodes, self.weights = grid.points[grid.inside], grid.weights[grid.inside]
        self._outside = grid.points[~grid.inside]
        self._place = np.where(grid.inside, np.cumsum(grid.inside), np.cumsum(~grid.inside)) - 1
        self.worst = 0.0

    def rows(self, states: np.ndarray) -> Rows:
        """The rows of K at any states, (rows, 2)."""
        affine = self.steps.affine(states)
        if affine is None:
            raise ValueError("a step is not normal given where it starts at some of these states")
        return self.rows_of(affine)

    def rows_of(self, affine: Affine) -> Rows:
        """The rows of K for steps of these means and covariances."""
        from scipy import sparse

        deviation = np.sqrt(np.einsum("nii->ni", affine.covariance))
        gone = (affine.mean < self._bounds[:, 0] - REACH * deviation).any(axis=1)
        gone |= (affine.mean > self._bounds[:, 1] + REACH * deviation).any(axis=1)
        near = np.flatnonzero(~gone)
        row, node, mass = self._pairs(affine, near)
        total = np.bincount(row, mass, minlength=len(affine.mean))
        if len(near):
            self.worst = max(self.worst, float(np.abs(total[near] - 1).max()))
        mass = mass / total[row]
        inside, count = self._grid.inside[node], len(affine.mean)
        column = self._place[node]

        def table(which, width):
            return sparse.csr_array((mass[which], (row[which], column[which])), shape=(count, width))

        matrix, out = table(inside, len(self.nodes)), table(~inside, len(self._outside))
        if not gone.any():
            return Rows(matrix, out, self._outside)
        places, chances = _spread(affine, gone)
        extra = np.arange(places.shape[0] * places.shape[1]), np.repeat(np.flatnonzero(gone), places.shape[1])
        beyond = sparse.csr_array((np.tile(chances, len(places)), extra[::-1]), shape=(count, len(extra[0])))
        return Rows(
            matrix, sparse.hstack([out, beyond], format="csr"), np.concatenate([self._outside, places.reshape(-1, 2)])
        )

    def _pairs(self, affine: Affine, near: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States, nodes within reach, and the chance of each."""
        inverse = np.linalg.inv(affine.covariance[near])
        scale = np.sqrt(np.linalg.det(inverse)) / (2 * np.pi)
        deviation = np.sqrt(np.einsum("nii->ni", affine.covariance[near]))
        mean, (wide, high) = affine.mean[near], self._grid.shape
        ends = []
        for i, (edges, most) in enumerate(zip(self._grid.edges, (wide, high), strict=True)):
            low = np.searchsorted(edges, mean[:, i] - REACH * deviation[:, i], side="right") - 1
            top = np.searchsorted(edges, mean[:, i] + REACH * deviation[:, i], side="left")
            ends.append((np.clip(low, 0, most), np.clip(top, 0, most)))
        (left, right), (bottom, top) = ends
        number = np.maximum(right - left, 0)
        row = np.repeat(np.arange(len(near)), number)
        strip = left[row] + _counted(number)
        begin = self._grid.first[strip * high + bottom[row]]
        length = self._grid.first[strip * high + np.maximum(top, bottom)[row]] - begin
        parts, done = [], 0
        bounds = np.concatenate([[0], np.cumsum(length)])
        while done < len(row):
            last = max(done + 1, int(np.searchsorted(bounds, bounds[done] + _PAIRS, side="right")) - 1)
            some = slice(done, last)
            who, node = (
                np.repeat(row[some], length[some]),
                np.repeat(begin[some], length[some]) + _counted(length[some]),
            )
            gap = self._grid.points[node] - mean[who]
            a, b, c = inverse[who, 0, 0], inverse[who, 0, 1], inverse[who, 1, 1]
            square = a * gap[:, 0] ** 2 + 2 * b * gap[:, 0] * gap[:, 1] + c * gap[:, 1] ** 2
            kept = square < REACH**2
            who, node = who[kept], node[kept]
            chance = scale[who] * np.exp(-square[kept] / 2) * self._grid.weights[node]
            parts.append((near[who].astype(np.int32), node.astype(np.int32), chance))
            done = last
        if not parts:
            return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _counted(number: np.ndarray) -> np.ndarray:
    """0, 1, … for each entry as many as it says, in a row."""
    return np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)


def _spread(affine: Affine, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landing places (rows, nodes, 2) of steps that end outside for certain, and their chances (nodes,)."""
    unit, mass = np.polynomial.hermite_e.hermegauss(_HERMITE)
    grid = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    chances = np.outer(mass, mass).ravel() / mass.sum() ** 2
    root = np.linalg.cholesky(affine.covariance[which])
    return affine.mean[which][:, None] + np.einsum("nij,qj->nqi", root, grid), chances


def edges(bounds: np.ndarray, panels: int | None, sample: Affine) -> tuple[np.ndarray, np.ndarray]:
    """Edges of cells over the rectangle of a region and as far around it as steps lead.

    Args:
        bounds: the rectangle
        panels: cells along the coordinate that takes most; by the size of a step if not given
        sample: steps from points all over the rectangle
    """
    fine = finest(sample)
    number = np.maximum(np.ceil((bounds[:, 1] - bounds[:, 0]) / (CELL * fine)), 1)
    if panels is not None:
        number = np.maximum(np.ceil(number * panels / number.max()), 1)
    deviation = np.sqrt(np.einsum("nii->ni", sample.covariance)).max(axis=0)
    cut = []
    for i, (low, high) in enumerate(bounds):
        width = max((high - low) / number[i], CELL * fine[i])  # where a step is much longer than the region is wide
        below = min(2 * REACH * deviation[i], low - sample.mean[:, i].min() + REACH * deviation[i])
        above = min(2 * REACH * deviation[i], sample.mean[:, i].max() - high + REACH * deviation[i])
        extra = [int(np.ceil(max(x, 0) / width)) + 1 for x in (below, above)]
        inner = np.linspace(low, high, int(number[i]) + 1)
        left, right = low - width * np.arange(extra[0], 0, -1), high + width * np.arange(1, extra[1] + 1)
        cut.append(np.concatenate([left, inner, right]))
    return tuple(cut)


def finest(sample: Affine) -> np.ndarray:
    """The scale that nodes must resolve, in each coordinate: the smallest deviation of one given the other."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.linalg.inv(sample.covariance)
    return 1 / np.sqrt(np.einsum("nii->ni", precision).max(axis=0))
