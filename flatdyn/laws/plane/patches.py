"""Functions on a part of the plane, kept at Gauss–Legendre nodes of rectangles and interpolated between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from flatdyn.core.quadrature import Panels

_POINTS = 8000  # at which basis functions are evaluated at a time


class Patches:
    """Tensor products of Lagrange polynomials on rectangles.

    Attributes:
        nodes: (n, 2), those of one rectangle in a row
        weights: of the nodes for integrals over the rectangles, (n,)
    """

    def __init__(self, edges: tuple[np.ndarray, np.ndarray], order: int, used: np.ndarray | None = None):
        self._panels = tuple(Panels(edge, np.zeros(0), order) for edge in edges)
        self._order, self._shape = order, tuple(len(edge) - 1 for edge in edges)
        self._corners = np.array([[edge[0] for edge in edges], [edge[-1] for edge in edges]])
        used = np.ones(self._shape, bool) if used is None else used
        self._first = np.where(used, np.cumsum(used).reshape(self._shape) - 1, -1)
        unit, mass = np.polynomial.legendre.leggauss(order)
        names = np.argwhere(used)
        low = np.stack([edges[i][names[:, i]] for i in (0, 1)], axis=1)
        size = np.stack([np.diff(edges[i])[names[:, i]] for i in (0, 1)], axis=1)
        grid = np.stack(np.meshgrid((unit + 1) / 2, (unit + 1) / 2, indexing="ij"), axis=-1).reshape(-1, 2)
        self.nodes = (low[:, None] + size[:, None] * grid).reshape(-1, 2)
        self.weights = (size.prod(axis=1)[:, None] * np.outer(mass, mass).ravel() / 4).ravel()

    def rows(self, state: np.ndarray, place: np.ndarray, mass: np.ndarray, count: int) -> tuple[Any, np.ndarray]:
        """Σ mass · (interpolation at places, (n, 2)) for each of `count` states, as a sparse matrix (count, nodes).

        Also the mass of each state, (count,), that lies in no rectangle in use.
        """
        from scipy import sparse

        place = np.clip(place, self._corners[0], self._corners[1])  # of a memory, beyond the strip: 1e-11 of them
        panel = [self._panels[i].panel(place[:, i]) for i in (0, 1)]
        cell = self._first[panel[0], panel[1]]
        lost = np.bincount(state[cell < 0], mass[cell < 0], minlength=count)
        cells, size = int(self._first.max()) + 1, self._order**2
        key = np.where(cell < 0, -1, state.astype(np.int64) * cells + cell)
        turn = np.argsort(key, kind="stable")
        turn = turn[np.searchsorted(key[turn], 0) :]
        groups, begin = np.unique(key[turn], return_index=True)
        values = np.empty((len(groups), size))
        ends = np.append(begin, len(turn))
        done = 0
        while done < len(groups):
            last = max(done + 1, int(np.searchsorted(ends, ends[done] + _POINTS, side="right")) - 1)
            some = turn[ends[done] : ends[last]]
            left, right = (self._panels[i].basis(place[some, i], panel[i][some]) for i in (0, 1))
            terms = ((left * mass[some, None])[:, :, None] * right[:, None, :]).reshape(len(some), size)
            values[done:last] = np.add.reduceat(terms, begin[done:last] - ends[done], axis=0)
            done = last
        row = np.repeat(groups // cells, size)
        column = ((groups % cells)[:, None] * size + np.arange(size)).ravel()
        return sparse.csr_array((values.ravel(), (row, column)), shape=(count, len(self.nodes))), lost
