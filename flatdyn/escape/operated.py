"""Committors and rates by the transfer operator: of one coordinate exactly, in the plane by its cells.

A run that is in core i at step k belongs to i until it is in another core. With the stationary law π of a step, every
visit of core i begins a cycle that ends with the next visit of any core, so

    k_ij = ∫_{A_i} π (K q_j) / ∫_{A_i} π (1 + K m)

q_j the committor of j, m the mean steps until any core is reached (0 in them). Only the shape of π in one core matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.escape.cores import NOWHERE, Cores, region_of
from flatdyn.laws import operators, plane
from flatdyn.processes import Process
from flatdyn.processes.regions import Ball, Box, Region

_SCAN = 4097  # points of an interval between which the ends of cores are looked for
_HALVINGS = 60
_SHIFT = 1e-9  # of the eigenvalue 1, with which the stationary law is iterated
_ITERATIONS = 6
_UNSETTLED = 3  # times that a run leaves while its law settles: in a double well the rate is off by 2 of them


class Chances(NamedTuple):
    """What happens next from some places: chances of each core, (places, cores), and mean steps until one."""

    reached: np.ndarray
    steps: np.ndarray


def usual(process: Process, inside: Any) -> str:
    """The method if none is given: the operator on a line where it knows the process, else runs."""
    try:
        known = process.dim == 1 and inside is not None and process.random and process.draws in (1, 2)
    except (AttributeError, TypeError):  # it is not driven by normal numbers
        known = False
    return "operator" if known else "runs"


def committor(process: Process, cores: Cores, points: np.ndarray, inside: Any, panels: int | None):
    """Probability of each core, its estimated error, what is lost, and zeros: nothing is left undecided."""
    if _on_a_line(process):
        values = [chain.at(points) for chain in _lines(process, cores, inside, panels)]
        fine, coarse = (np.clip(value, 0.0, 1.0) for value in values)
        error = np.abs(fine - coarse)
    else:
        fine, error = _in_the_plane(process, cores, points, inside, panels)
    return fine, error, np.clip(1 - fine.sum(axis=1), 0.0, 1.0), np.zeros(len(points))


def rates(process: Process, cores: Cores, inside: Any, panels: int | None):
    """k_ij with its estimated error, (cores, cores), and the rate at which each is lost, (cores,)."""
    if not _on_a_line(process):
        return _settled(process, cores, inside, panels)
    (fine, lost), (coarse, _) = (chain.rates() for chain in _lines(process, cores, inside, panels))
    return fine, np.abs(fine - coarse), lost


def _on_a_line(process: Process) -> bool:
    """Whether a state is one number."""
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((process.dim,), jnp.float32))
    return process.dim == 1 and sum(leaf.size for leaf in jax.tree.leaves(state)) == 1


# --- in the plane ---------------------------------------------------------------------------------------------


class _Between(eqx.Module):
    """In a region, but in no core other than of `source`."""

    cores: Cores
    inside: Callable
    source: int = eqx.field(static=True, default=NOWHERE)

    def __call__(self, theta):
        label = self.cores(theta)
        return self.inside(theta) & ((label == NOWHERE) | (label == self.source))


def _operator(
    process: Process, cores: Cores, inside: Any, panels: int | None, source: int = NOWHERE
) -> plane.PlaneOperator:
    """K between the cores, and the box around."""
    region = region_of(inside, process.dim)
    box, start = plane.rectangle_of(region), None
    if box is None:
        if source != NOWHERE and np.isfinite(cores.centers[source]).all():
            start = cores.centers[source]
        if start is None:
            raise ValueError(
                f"inside must say where it ends: give a Box or a Ball, or pairs (low, high), got {inside!r}"
            )
    if box is not None:
        _check_cores_within(cores, box)
    return plane.operator(process, _Between(cores, region, source), start, box=box, panels=panels)


def _check_cores_within(cores: Cores, box: Any) -> None:
    for name, center in zip(cores.names, cores.centers, strict=True):
        if np.isfinite(center).all() and len(center) == len(box) and not _within(center, np.asarray(box, float)):
            raise ValueError(f"inside must hold every attractor, but {name!r} at {center} is outside")


def _within(center: np.ndarray, box: np.ndarray) -> bool:
    return bool(((center >= box[:, 0]) & (center <= box[:, 1])).all())


def _arrivals(cores: Cores) -> Callable:
    """One number for each core, 1 where θ is in it."""
    return lambda theta: (cores(theta) == jnp.arange(len(cores))).astype(float)


def _in_the_plane(process, cores, points, inside, panels) -> tuple[np.ndarray, np.ndarray]:
    operator = _operator(process, cores, inside, panels)
    labels = _labels(cores, points)
    reached = (labels[:, None] == np.arange(len(cores))).astype(float)
    error = np.zeros_like(reached)
    with jax.enable_x64(True):
        free = labels == NOWHERE
        free[free] = np.asarray(jax.vmap(region_of(inside, process.dim))(jnp.asarray(points[free], float)))
        if free.any():
            value, error[free] = operator.expected(_arrivals(cores)).at(points[free])
            reached[free] = np.clip(value, 0.0, 1.0)
    return reached, error


def _settled(process, cores, inside, panels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates out of the quasi-stationary law of each: its rate of leaving, times where it arrives.

    That law takes 1/(1 − |r₂|) steps to settle, r₂ the second eigenvalue. As large a share of the rate as runs leave
    in that time is what it may miss of the stationary rate, and stands in the error.
    """
    number = len(cores)
    rates, error, lost = np.zeros((number, number)), np.zeros((number, number)), np.zeros(number)
    for i in range(number):
        operator = _operator(process, cores, inside, panels, source=i)
        slowest, exits = operator.leading(2), operator.expected(_arrivals(cores))
        law = slowest.laws[0].real
        shares = law @ exits.values
        doubt = np.asarray(exits.at(operator.points[np.argmax(law)][None])[1])[0]
        rates[i] = slowest.escape * shares
        unsettled = _UNSETTLED * slowest.escape / max(1 - abs(slowest.eigenvalues[1]), slowest.escape)
        error[i] = slowest.errors[0] * shares + slowest.escape * doubt + unsettled * rates[i]
        lost[i] = max(slowest.escape * (1 - shares.sum()), 0.0)
        rates[i, i] = error[i, i] = 0.0
    return rates, error, lost


# --- on the line ----------------------------------------------------------------------------------------------


def _lines(process: Process, cores: Cores, inside: Any, panels: int | None) -> list[_Line]:
    """The operator on a line, as finely as asked for and half so finely."""
    inside = inside.inside if isinstance(inside, Region) else inside
    if isinstance(inside, Box | Ball):
        inside.check(1)
        inside = plane.rectangle_of(inside)[0]
    if panels is not None:
        panels = checks.count("panels", panels, at_least=2)
    ends = checks.interval("inside", inside)
    operators.fits(process, ends, (ends[0] + ends[1]) / 2)
    if not operators.swing(process, *ends).any():
        raise ValueError('nothing in a step is random here: ask with method="runs", runs=1')
    number = operators.panels(process, *ends, False) if panels is None else panels
    edges = _edges(cores, *ends)
    return [_Line(process, cores, ends, count, edges) for count in (number, -(-number // 2))]


class _Line:
    """A step on the line as a matrix between nodes, each of which is in one core or in none."""

    def __init__(self, process: Process, cores: Cores, ends: tuple[float, float], panels: int, edges: np.ndarray):
        self.cores, self.line = cores, operators.LineOperator(process, ends, panels, edges)
        self.labels = _labels(cores, self.line.nodes[:, None])
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

    def at(self, points: np.ndarray) -> np.ndarray:
        """Chances of each core from points, (points, 1), by one step from there; in a core it is reached."""
        labels, rows = _labels(self.cores, points), self.line.rows(points[:, 0])
        there = labels != NOWHERE
        return np.where(there[:, None], labels[:, None] == np.arange(len(self.cores)), rows @ self.chances.reached)

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


def _labels(cores: Cores, points: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return cores.labels(points)


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
