"""Quadrature on both sides of the boundary of a region in the plane.

The plane near the region is cut into equal rectangles. In one that the boundary does not cross the nodes are those of
Gauss and Legendre in each coordinate. Where it does, the integral is taken line by line: along a line the places where
the region begins or ends are found by bisection, and so are, from line to line, the places where their number
changes. Between them everything is smooth. Where two of them meet (at the top of a ball) the length of a line goes
like a square root; a substitution, t = s² near that end, takes it away.

References:
    Saye, SIAM J. Sci. Comput. 37 (2015) A993 (quadrature on implicitly defined regions, dimension by dimension).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_SCAN = 24  # stretches of a line in a rectangle in which a crossing is looked for
_LINES = 12  # lines of a rectangle on which their number is looked at
_HALVINGS = 46


class Cells(NamedTuple):
    """Nodes of a plane cut by a grid of rectangles, those of one rectangle in a row.

    Attributes:
        edges: of the rectangles, in each coordinate
        points: nodes, (n, 2)
        weights: (n,)
        inside: whether a node is in the region, (n,)
        first: index of the first node of each rectangle, row by row, and the number of all nodes
    """

    edges: tuple[np.ndarray, np.ndarray]
    points: np.ndarray
    weights: np.ndarray
    inside: np.ndarray
    first: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rectangles in each coordinate."""
        return len(self.edges[0]) - 1, len(self.edges[1]) - 1


def cut(test: Callable[[np.ndarray], np.ndarray], edges: tuple[np.ndarray, np.ndarray], order: int) -> Cells:
    """Nodes of a grid of rectangles.

    Args:
        test: whether points, (n, 2), are inside
        edges: of the rectangles, increasing, in each coordinate
        order: nodes in each coordinate of a rectangle, or of a piece of it
    """
    rectangles, crossed, within = _sorted(test, edges)
    unit, mass = np.polynomial.legendre.leggauss(order)
    unit, mass = (unit + 1) / 2, mass / 2
    grid = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    product = np.outer(mass, mass).ravel()
    plain = np.flatnonzero(~crossed)
    low, size = rectangles[:, 0], rectangles[:, 1] - rectangles[:, 0]
    points = (low[plain, None] + size[plain, None] * grid).reshape(-1, 2)
    weights = (size[plain].prod(axis=1)[:, None] * product).ravel()
    owner, inside = np.repeat(plain, order**2), np.repeat(within[plain], order**2)
    special = _crossed(test, rectangles[crossed], np.flatnonzero(crossed), order)
    owner, points, weights, inside = (
        np.concatenate(parts) for parts in zip((owner, points, weights, inside), special, strict=True)
    )
    kept = weights > 0
    owner, points, weights, inside = owner[kept], points[kept], weights[kept], inside[kept]
    turn = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[turn], np.arange(len(rectangles) + 1))
    return Cells(edges, points[turn], weights[turn], inside[turn], first)


def _sorted(test, edges):
    """The rectangles as corners (n, 2, 2), whether the boundary crosses each, and whether its middle is inside."""
    low = np.stack(np.meshgrid(edges[0][:-1], edges[1][:-1], indexing="ij"), axis=-1).reshape(-1, 2)
    high = np.stack(np.meshgrid(edges[0][1:], edges[1][1:], indexing="ij"), axis=-1).reshape(-1, 2)
    inset = 1e-9  # a side that lies on the boundary crosses nothing
    unit = np.linspace(inset, 1 - inset, _LINES + 1)
    grid = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    sides = grid[((grid == unit[0]) | (grid == unit[-1])).any(axis=1)]
    inner = grid[:: 2 * _LINES // 3]
    probes = np.concatenate([sides, inner])
    answers = test((low[:, None] + (high - low)[:, None] * probes).reshape(-1, 2)).reshape(len(low), -1)
    return np.stack([low, high], axis=1), ~(answers.all(axis=1) | ~answers.any(axis=1)), answers[:, -1]


def _crossed(test, rectangles, names, order):
    """Owner, points, weights, sides of nodes of rectangles that the boundary crosses."""
    if not len(rectangles):
        return np.zeros(0, int), np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool)
    along = _direction(test, rectangles)
    low, size = rectangles[:, 0], rectangles[:, 1] - rectangles[:, 0]

    def placed(cell, outer, inner):
        """Points of rectangles from their coordinates in [0, 1], across lines and along them."""
        local = np.where(along[cell, None] == 1, np.stack([outer, inner], -1), np.stack([inner, outer], -1))
        return low[cell] + size[cell] * local

    def asked(cell, outer, inner):
        return test(placed(cell, outer, inner))

    cell, start, end, meeting = _stretches(asked, len(rectangles))
    unit, mass = np.polynomial.legendre.leggauss(order)
    s, ds = (unit + 1) / 2, mass / 2
    # By whether two crossings meet at neither end, at the second, at the first, at both.
    outer = np.stack([s, 1 - (1 - s) ** 2, s * s, s * s * (3 - 2 * s)])[meeting]
    share = (np.stack([np.ones(order), 2 * (1 - s), 2 * s, 6 * s * (1 - s)]) * ds)[meeting]
    outer = start[:, None] + (end - start)[:, None] * outer
    share = (end - start)[:, None] * share
    cell = np.broadcast_to(cell[:, None], outer.shape)
    cell, outer, share = cell.ravel(), outer.ravel(), share.ravel()
    line, begin, finish, within = _pieces(asked, cell, outer)
    inner = begin[:, None] + (finish - begin)[:, None] * s
    weights = share[line][:, None] * (finish - begin)[:, None] * ds * size[cell[line]].prod(axis=1)[:, None]
    whose = np.broadcast_to(cell[line][:, None], inner.shape).ravel()
    where = placed(whose, np.broadcast_to(outer[line][:, None], inner.shape).ravel(), inner.ravel())
    return names[whose], where, weights.ravel(), np.repeat(within, order)


def _direction(test, rectangles):
    """The coordinate along which lines are taken: that in which the boundary is crossed more often."""
    unit = (np.arange(_LINES) + 0.5) / _LINES
    grid = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    points = rectangles[:, None, 0] + (rectangles[:, 1] - rectangles[:, 0])[:, None] * grid
    answers = test(points.reshape(-1, 2)).reshape(-1, _LINES, _LINES)
    flips = [(np.diff(answers.astype(int), axis=axis) != 0).sum(axis=(1, 2)) for axis in (1, 2)]
    return np.where(flips[1] >= flips[0], 1, 0)


def _pattern(asked, cell, outer):
    """Twice the number of crossings of a line, plus 1 if it begins inside: lines with the same are alike."""
    inner = np.linspace(0, 1, _SCAN + 1)[None] * np.ones((len(cell), 1))
    shape = inner.shape
    cells, outers = (np.broadcast_to(x[:, None], shape).ravel() for x in (cell, outer))
    answers = asked(cells, outers, inner.ravel()).reshape(shape)
    return 2 * (np.diff(answers.astype(int), axis=1) != 0).sum(axis=1) + answers[:, 0]


def _stretches(asked, count):
    """Stretches of the rectangles across the lines, between which the pattern of the lines changes.

    Rectangle, begin, end, and 2 if two crossings meet at the begin, plus 1 if they do at the end.
    """
    inset = 1e-12
    outer = np.linspace(inset, 1 - inset, _LINES + 1)
    cell = np.repeat(np.arange(count), len(outer))
    seen = _pattern(asked, cell, np.tile(outer, count)).reshape(count, -1)
    row, place = np.nonzero(seen[:, 1:] != seen[:, :-1])
    low, high, before = outer[place], outer[place + 1], seen[row, place]
    touching = (seen[row, place + 1] - before) % 4 == 0  # the number of crossings changes by two
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        same = _pattern(asked, row, middle) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    every = np.arange(count)
    cells = np.concatenate([every, row, every])
    places = np.concatenate([np.zeros(count), (low + high) / 2, np.ones(count)])
    meets = np.concatenate([np.zeros(count, bool), touching, np.zeros(count, bool)])
    turn = np.lexsort((places, cells))
    cells, places, meets = cells[turn], places[turn], meets[turn]
    together = cells[1:] == cells[:-1]
    kinds = 2 * meets[:-1] + meets[1:]
    return tuple(part[together] for part in (cells[:-1], places[:-1], places[1:], kinds))


def _pieces(asked, cell, outer):
    """Pieces of lines between crossings: line, begin, end, and whether they are inside."""
    count = len(cell)
    grid = np.linspace(0, 1, _SCAN + 1)
    inner = np.broadcast_to(grid, (count, _SCAN + 1))
    cells, outers = (np.broadcast_to(x[:, None], inner.shape).ravel() for x in (cell, outer))
    answers = asked(cells, outers, inner.ravel()).reshape(inner.shape)
    line, place = np.nonzero(answers[:, 1:] != answers[:, :-1])
    low, high, before = grid[place], grid[place + 1], answers[line, place]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        same = asked(cell[line], outer[line], middle) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    every = np.arange(count)
    lines = np.concatenate([every, line, every])
    places = np.concatenate([np.zeros(count), (low + high) / 2, np.ones(count)])
    after = np.concatenate([answers[:, 0], ~before, answers[:, -1]])
    turn = np.lexsort((places, lines))
    lines, places, after = lines[turn], places[turn], after[turn]
    together = lines[1:] == lines[:-1]
    return lines[:-1][together], places[:-1][together], places[1:][together], after[:-1][together]
