"""The transfer operator of steps that are not normal: its values are looked up where the step leads.

    (K u)(x) = Σ over landings y of a step from x, inside the region, of their probability · u(y)

u is kept at nodes of rectangles that cover the region, some of them outside of it, and interpolated. Where the landings
are comes from :mod:`flatdyn.laws.plane.rays`.

An ascent with a minibatch of its own leaves the step normal, given what the ascent saw. Then

    (K u)(x) = E over the ascent's numbers of v(m(x, z)),     v(y) = ∫ N(y′; y, C) u(y′) dy′ over the region

and v, which is smooth everywhere, is what is interpolated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flatdyn.laws.plane.gaussian import NormalKernel, Rows
from flatdyn.laws.plane.patches import Patches
from flatdyn.laws.plane.rays import Rays
from flatdyn.laws.plane.steps import Affine, Steps

_ROWS = 400  # states that are worked on at a time


class PushedKernel:
    """K at nodes of rectangles, for steps whose landings are known.

    Attributes:
        steps: of the process
        nodes: (n, 2), with their weights (n,)
        worst: by how much the chances of a step miss 1, before they are divided by their sum
    """

    def __init__(self, steps: Steps, patches: Patches, rays: Rays):
        self.steps, self._patches, self._rays = steps, patches, rays
        self.nodes, self.weights, self.worst = patches.nodes, patches.weights, 0.0

    def rows(self, states: np.ndarray) -> Rows:
        """The rows of K at any states, (rows, 2)."""
        from scipy import sparse

        tables, parts = [], []
        for begin in range(0, len(states), _ROWS):
            some = states[begin : begin + _ROWS]
            landed = self._rays.landings(some)
            inside, total = landed.label >= 0, np.bincount(landed.state, landed.mass, minlength=len(some))
            chance = landed.mass / total[landed.state]
            tables.append(self._looked_up(landed, inside, chance, len(some)))
            self.worst = max(self.worst, float(np.abs(total - 1).max()))
            parts.append((begin + landed.state[~inside], chance[~inside], landed.place[~inside]))
        row, chance, places = (np.concatenate(part) for part in zip(*parts, strict=True))
        out = sparse.csr_array((chance, (row, np.arange(len(row)))), shape=(len(states), len(row)))
        return Rows(sparse.vstack(tables, format="csr"), out, places)

    def _looked_up(self, landed, inside, chance, count):
        table, lost = self._patches.rows(landed.state[inside], landed.place[inside], chance[inside], count)
        self.worst = max(self.worst, float(lost.max()))
        return table


class Product:
    """A product of two matrices that is not multiplied out."""

    def __init__(self, left: Any, right: Any):
        self._left, self._right = left, right
        self.shape = left.shape[0], right.shape[1]

    def __matmul__(self, values: np.ndarray) -> np.ndarray:
        return self._left @ (self._right @ values)

    @property
    def T(self) -> Product:
        return Product(self._right.T, self._left.T)

    def toarray(self) -> np.ndarray:
        return (self._left @ self._right).toarray()


class MixedKernel:
    """K at the nodes of a region, for steps that are normal given what their ascent saw.

    Args:
        smooth: K of normal steps, at the nodes of the region
        covariance: of a step, given what its ascent saw: the same everywhere, (2, 2)
        patches: rectangles that cover wherever a step's mean may be
        rays: over the numbers of the ascent; landings are means
    """

    def __init__(self, smooth: NormalKernel, covariance: np.ndarray, patches: Patches, rays: Rays):
        self.steps, self._patches, self._rays = smooth.steps, patches, rays
        covariance = np.broadcast_to(covariance, (len(patches.nodes), 2, 2))
        self.nodes, self.weights = smooth.nodes, smooth.weights
        self._smoothed = smooth.rows_of(Affine(patches.nodes, covariance))
        self.worst = smooth.worst

    def rows(self, states: np.ndarray) -> Rows:
        """The rows of K at any states, (rows, 2)."""
        from scipy import sparse

        tables = []
        for begin in range(0, len(states), _ROWS):
            some = states[begin : begin + _ROWS]
            landed = self._rays.landings(some)
            total = np.bincount(landed.state, landed.mass, minlength=len(some))
            table, lost = self._patches.rows(landed.state, landed.place, landed.mass / total[landed.state], len(some))
            self.worst = max(self.worst, float(np.abs(total - 1).max()), float(lost.max()))
            tables.append(table)
        table = sparse.vstack(tables, format="csr")
        smoothed = self._smoothed
        return Rows(Product(table, smoothed.matrix), Product(table, smoothed.out), smoothed.landings)
