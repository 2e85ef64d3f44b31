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
_NESTED = 8  # times that a rectangle around a centre is cut into nine, to get the boundary out of it


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


def cut(
    test: Callable[[np.ndarray], np.ndarray],
    edges: tuple[np.ndarray, np.ndarray],
    order: int,
    centres: np.ndarray | None = None,
) -> Cells:
    """Nodes of a grid of rectangles.

    Args:
        test: whether points, (n, 2), are inside
        edges: of the rectangles, increasing, in each coordinate
        order: nodes in each coordinate of a rectangle, or of a piece of it
        centres: points around which what is integrated depends on the direction, (m, 2)
    """
    low = np.stack(np.meshgrid(edges[0][:-1], edges[1][:-1], indexing="ij"), axis=-1).reshape(-1, 2)
    high = np.stack(np.meshgrid(edges[0][1:], edges[1][1:], indexing="ij"), axis=-1).reshape(-1, 2)
    count = len(low)
    rectangles, names = np.stack([low, high], axis=1), np.arange(count)
    parts = []
    for centre in np.zeros((0, 2)) if centres is None else centres:
        rectangles, names, around = _without(test, rectangles, names, centre, order)
        parts += around
    crossed, within = _sorted(test, rectangles)
    unit, mass = _gauss(order)
    grid = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    product = np.outer(mass, mass).ravel()
    plain = ~crossed
    low, size = rectangles[plain, 0], rectangles[plain, 1] - rectangles[plain, 0]
    points = (low[:, None] + size[:, None] * grid).reshape(-1, 2)
    weights = (size.prod(axis=1)[:, None] * product).ravel()
    parts.append((np.repeat(names[plain], order**2), points, weights, np.repeat(within[plain], order**2)))
    parts.append(_crossed(test, rectangles[crossed], names[crossed], order))
    owner, points, weights, inside = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = weights > 0
    owner, points, weights, inside = owner[kept], points[kept], weights[kept], inside[kept]
    turn = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[turn], np.arange(count + 1))
    return Cells(edges, points[turn], weights[turn], inside[turn], first)


def _gauss(order):
    """Gauss and Legendre on [0, 1]."""
    unit, mass = np.polynomial.legendre.leggauss(order)
    return (unit + 1) / 2, mass / 2


def _without(test, rectangles, names, centre, order):
    """The rectangles but for one around a centre, and the nodes of that one, on four triangles that meet at the centre.

    A rectangle that holds the centre and the boundary, or another one's nodes, is cut into nine until one does not
    hold the boundary.
    """
    for _ in range(_NESTED):
        holds = ((rectangles[:, 0] <= centre) & (centre <= rectangles[:, 1])).all(axis=1)
        if not holds.any():
            return rectangles, names, []
        one = int(np.flatnonzero(holds)[0])
        corners, name = rectangles[one], names[one]
        others = np.arange(len(names)) != one
        rectangles, names = rectangles[others], names[others]
        if not _sorted(test, corners[None])[0][0]:
            return rectangles, names, [_triangles(corners, centre, name, order, bool(test(centre[None])[0]))]
        thirds = np.linspace(corners[0], corners[1], 4)
        at = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 2)
        pieces = np.stack(
            [np.stack([thirds[at[:, 0] + k, 0], thirds[at[:, 1] + k, 1]], axis=1) for k in (0, 1)], axis=1
        )
        rectangles, names = np.concatenate([rectangles, pieces]), np.concatenate([names, np.full(9, name)])
    return rectangles, names, []


def _triangles(corners, centre, name, order, within):
    """Nodes of a rectangle around a centre: y = c + t (edge − c), dy = 2 · area · t dt ds (Duffy's coordinates)."""
    unit, mass = _gauss(order)
    (a, b), (c, d) = corners
    ring = np.array([(a, b), (c, b), (c, d), (a, d)])
    points, weights = [], []
    for one, other in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        edge = one + unit[:, None] * (other - one) - centre  # (s, 2)
        area = abs(np.linalg.det(np.stack([one - centre, other - centre])))
        points.append((centre + unit[:, None, None] * edge).reshape(-1, 2))
        weights.append(area * np.outer(mass * unit, mass).ravel())
    points, weights = np.concatenate(points), np.concatenate(weights)
    return np.full(len(points), name), points, weights, np.full(len(points), within)


def touched(test: Callable[[np.ndarray], np.ndarray], edges: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Which rectangles of a grid the region meets, shape as the grid."""
    low = np.stack(np.meshgrid(edges[0][:-1], edges[1][:-1], indexing="ij"), axis=-1)
    high = np.stack(np.meshgrid(edges[0][1:], edges[1][1:], indexing="ij"), axis=-1)
    crossed, within = _sorted(test, np.stack([low, high], axis=2).reshape(-1, 2, 2))
    return (crossed | within).reshape(low.shape[:2])


def _sorted(test, rectangles):
    """Whether the boundary crosses rectangles, (n, 2, 2), and whether their corners are inside."""
    low, high = rectangles[:, 0], rectangles[:, 1]
    inset = 1e-9  # a side that lies on the boundary crosses nothing
    unit = np.linspace(inset, 1 - inset, _LINES + 1)
    grid = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    sides = grid[((grid == unit[0]) | (grid == unit[-1])).any(axis=1)]
    inner = grid[:: 2 * _LINES // 3]
    probes = np.concatenate([sides, inner])
    answers = test((low[:, None] + (high - low)[:, None] * probes).reshape(-1, 2)).reshape(len(low), -1)
    return ~(answers.all(axis=1) | ~answers.any(axis=1)), answers[:, -1]


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
    s, ds = _gauss(order)
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
