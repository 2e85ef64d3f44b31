"""Committors and rates by the transfer operator: of one coordinate exactly, in the plane by its cells.

A run that is in core i at step k belongs to i until it is in another core. With the stationary law π of a step, every
visit of core i begins a cycle that ends with the next visit of any core, so

    k_ij = ∫_{A_i} π (K q_j) / ∫_{A_i} π (1 + K m)

q_j the committor of j, m the mean steps until any core is reached (0 in them). Only the shape of π in one core matters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.escape.cores import NOWHERE, Cores
from flatdyn.laws import operators
from flatdyn.processes import Process

_SCAN = 4097  # points of an interval between which the ends of cores are looked for
_HALVINGS = 60
_SHIFT = 1e-9  # of the eigenvalue 1, with which the stationary law is iterated
_ITERATIONS = 6


class Chances(NamedTuple):
    """What happens next from some places: chances of each core, (places, cores), and mean steps until one."""

    reached: np.ndarray
    steps: np.ndarray


def committor(process: Process, cores: Cores, points: np.ndarray, inside: Any, panels: int | None, progress: Any):
    """Probability of each core, its estimated error, what is lost, and zeros: nothing is left undecided."""
    if panels is not None:
        panels = checks.count("panels", panels, at_least=2)
    values = [chain.at(points).reached for chain in _lines(process, cores, inside, panels)]
    fine, coarse = (np.clip(value, 0.0, 1.0) for value in values)
    return fine, np.abs(fine - coarse), np.clip(1 - fine.sum(axis=1), 0.0, 1.0), np.zeros(len(points))


def rates(process: Process, cores: Cores, inside: Any, panels: int | None):
    """k_ij with its estimated error, (cores, cores), and the rate at which each is lost, (cores,)."""
    if panels is not None:
        panels = checks.count("panels", panels, at_least=2)
    (fine, lost), (coarse, _) = (chain.rates() for chain in _lines(process, cores, inside, panels))
    return fine, np.abs(fine - coarse), lost


def _lines(process: Process, cores: Cores, inside: Any, panels: int | None) -> list[_Line]:
    """The operator on a line, as finely as asked for and half so finely."""
    ends = checks.interval(
        "inside", getattr(inside, "sides", [inside])[0] if not callable(inside) or hasattr(inside, "sides") else inside
    )
    middle = (ends[0] + ends[1]) / 2
    if operators.fits(process, ends, middle)[1]:
        raise TypeError("on the line this knows steps without memory: ask by runs")
    if not operators.swing(process, *ends).any():
        raise ValueError('nothing in a step is random here: ask with method="runs", runs=1')
    number = operators.panels(process, *ends, False) if panels is None else panels
    edges = _edges(cores, *ends)
    return [_Line(process, cores, ends, count, edges) for count in (number, -(-number // 2))]


class _Line:
    """A step on the line as a matrix between nodes, each of which is in one core or in none."""

    def __init__(self, process: Process, cores: Cores, ends: tuple[float, float], panels: int, edges: np.ndarray):
        self.cores, self.line = cores, operators.LineOperator(process, ends, panels, edges)
        self.labels = _labels(cores, self.line.nodes)
        missing = [name for j, name in enumerate(cores.names) if not (self.labels == j).any()]
        if missing:
            raise ValueError(
                f"inside must hold every attractor, but no part of {missing[0]!r} is in ({ends[0]:g}, {ends[1]:g})"
            )
        out, matrix = self.labels == NOWHERE, self.line.matrix
        into = np.stack([matrix[:, self.labels == j].sum(axis=1) for j in range(len(cores))], axis=1)
        sources = np.column_stack([into[out], np.ones(out.sum())])
        solved = np.linalg.solve(np.eye(out.sum()) - matrix[np.ix_(out, out)], sources)
        own = (self.labels[:, None] == np.arange(len(cores))).astype(float)
        own[out] = solved[:, :-1]
        steps = np.zeros(len(out))
        steps[out] = solved[:, -1]
        self.chances = Chances(own, steps)

    def at(self, points: np.ndarray) -> Chances:
        """What happens next from points, (points, 1), by one step from there; in a core nothing more."""
        labels, rows = _labels(self.cores, points[:, 0]), self.line.rows(points[:, 0])
        there = labels != NOWHERE
        reached = np.where(there[:, None], labels[:, None] == np.arange(len(self.cores)), rows @ self.chances.reached)
        return Chances(reached, np.where(there, 0.0, 1 + rows @ self.chances.steps))

    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """k_ij, and the rates at which runs are lost."""
        matrix = self.line.matrix
        law = _stationary(matrix)
        after, lasting = matrix @ self.chances.reached, 1 + matrix @ self.chances.steps
        number = len(self.cores)
        rates, lost = np.zeros((number, number)), np.zeros(number)
        for i in range(number):
            here = self.labels == i
            spent = law[here] @ lasting[here]
            rates[i] = law[here] @ after[here] / spent
            lost[i] = law[here] @ (1 - after[here].sum(axis=1)) / spent
        np.fill_diagonal(rates, 0.0)
        return rates, np.maximum(lost, 0.0)


def _stationary(matrix: np.ndarray) -> np.ndarray:
    """The law to which runs that stay inside settle, by inverse iteration."""
    from scipy import linalg

    law = np.full(len(matrix), 1 / len(matrix))
    factors = linalg.lu_factor((1 + _SHIFT) * np.eye(len(matrix)) - matrix.T)
    for _ in range(_ITERATIONS):
        law = linalg.lu_solve(factors, law)
        law /= law.sum()
    return law


def _labels(cores: Cores, nodes: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return cores.labels(nodes[:, None])


def _edges(cores: Cores, low: float, high: float) -> np.ndarray:
    """Where cores begin and end in an interval."""
    with jax.enable_x64(True):
        middles = jnp.ravel(cores.centers)
        known = np.asarray(middles)[np.isfinite(middles)]
        points = np.unique(np.concatenate([np.linspace(low, high, _SCAN), known[(known > low) & (known < high)]]))
        labels = cores.labels(points[:, None])
        cell = np.flatnonzero(labels[1:] != labels[:-1])
        left, right, before = points[cell], points[cell + 1], labels[cell]
        for _ in range(_HALVINGS if len(cell) else 0):
            middle = (left + right) / 2
            same = cores.labels(middle[:, None]) == before
            left, right = np.where(same, middle, left), np.where(same, right, middle)
    return np.unique((left + right) / 2)
