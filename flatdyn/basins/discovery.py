"""Attractors discovered from the runs themselves.

A discovered attractor is a set of positions that runs keep returning to: one point, a cycle, or a small band, regular
or chaotic, such as the one in which SAM is held at a saddle. The search has four steps.

1. Runs from many starts are sampled over the third and the last quarter of `max_steps`, in 64 bits.
2. A run has *settled* if every position of its last quarter lies near one of its third quarter: within `grain`, or a
   few times the distance between neighbours there. So a run that still drifts down a valley has not, a band has.
   A run also counts as unsettled if it moves on as steadily as before, or if extrapolating its slowing drift moves it
   further than `grain`.
3. Positions of settled runs that lie within `grain` of each other, or that one run visits, belong together.
4. A plateau looks settled too: the past of a run that slows down does not show how far it still has to go. So each set
   is tested by other means (:mod:`flatdyn.basins.settling`): does it hold what is there? Where it does not, or where
   the steps are too small to decide it, the runs are undecided.
"""

from __future__ import annotations

import itertools

import jax
import numpy as np
import scipy

from flatdyn.basins import settling, walks
from flatdyn.basins.attractors import KEPT, Attractor, distance, place
from flatdyn.basins.walks import SAMPLES
from flatdyn.landscapes.searches import critical_near
from flatdyn.processes import Process

_WINDOW, _WINDOWS = 60, (0, 98, 196)  # of these samples, equally far apart, means are taken; 60 has many divisors
_STEADY = 0.8  # share of its pace that a run keeps if it goes on and on; one that slows as t^(-1/p), any p, keeps less
_WALK_BYTES = 2**29
_SEEN = 4  # positions of a short cycle


def scouts(dim: int) -> int:
    """How many runs are worth looking at: many, but what is kept of them must fit."""
    return max(64, min(1024, _WALK_BYTES // walks.bytes_of(1, dim)))


def discover(
    process: Process,
    starts: np.ndarray,
    *,
    max_steps: int,
    grain: float,
    bound: float,
    key: jax.Array | None = None,
    progress: bool | None = None,
) -> list[Attractor]:
    """Attractors in which runs from `starts`, shape (runs, dim), have settled after `max_steps`, most visited first."""
    with jax.enable_x64(True):
        walkers = walks.Walkers(process, max_steps, bound, key, progress)
        seen = walkers.walk(np.asarray(starts, dtype=float))
        return _attractors(walkers, seen, grain)


def _attractors(walkers: walks.Walkers, seen: walks.Walks, grain: float) -> list[Attractor]:
    periods = _periods(seen.ends, grain)
    creeping, drift = _creeping(seen.tails, periods, grain)
    settled = np.flatnonzero(seen.alive & ~creeping & _settled(seen.tails, grain))
    clouds = np.append(seen.tails[settled, SAMPLES:], seen.ends[settled], axis=1)  # in a row: all of a short cycle
    sets = _clusters(clouds, grain)
    batch = -(-len(seen.starts) // 64) * 64
    shown = [_shown(settled[runs], periods, drift, grain) for runs in sets]
    candidates = [_candidate(seen, settled[runs], run, periods) for runs, run in zip(sets, shown, strict=True)]
    kept = settling.holds(walkers, candidates, grain, batch)
    attractors = []
    for runs, first in itertools.compress(zip(sets, shown, strict=True), kept):
        cloud = clouds[runs].reshape(-1, clouds.shape[-1])
        points = seen.ends[first][-periods[first] :] if periods[first] else _spread_out(cloud)
        attractors.append((len(runs), _named(walkers.process, points, periods[first], _reach(cloud, points), grain)))
    return [attractor for _, attractor in sorted(attractors, key=lambda pair: -pair[0])]


def _shown(runs: np.ndarray, periods: np.ndarray, drift: np.ndarray, grain: float) -> int:
    """The run that shows a set: the first that hardly moves, of those at a point or cycle if there are any."""
    regular = runs[periods[runs] > 0]
    runs = regular if len(regular) else runs
    moved = drift[runs]
    return int(runs[np.argmax(moved <= np.maximum(1e-3 * grain, 2 * moved.min()))])


def _candidate(seen: walks.Walks, runs: np.ndarray, shown: int, periods: np.ndarray) -> settling.Candidate:
    state = jax.tree.map(lambda leaf: leaf[shown], seen.states)
    return settling.Candidate(seen.starts[runs], seen.tails[shown], seen.ends[shown], state, int(periods[shown]))


def _settled(tails: np.ndarray, grain: float) -> np.ndarray:
    """Whether each run's last quarter stays near its third."""

    def one(third, last):
        tree = scipy.spatial.KDTree(third)
        return tree.query(last)[0].max() <= max(grain, 3 * tree.query(third, k=2)[0][:, 1].max())

    settled = np.linalg.norm(np.ptp(tails, axis=1), axis=-1) <= grain  # most runs: no need to look any closer
    left = np.flatnonzero(~settled)
    distance = np.full((len(left), SAMPLES), np.inf)
    for sample in range(_SEEN):  # a short cycle, too, is near a few positions of the third quarter
        apart = tails[left, SAMPLES:] - tails[left, sample, None]
        distance = np.minimum(distance, np.linalg.norm(apart, axis=-1))
    settled[left] = (distance <= grain).all(axis=1)
    for run in np.flatnonzero(~settled):
        settled[run] = one(tails[run, :SAMPLES], tails[run, SAMPLES:])
    return settled


def _creeping(tails: np.ndarray, periods: np.ndarray, grain: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point or cycle goes on and on, and how far it went last.

    It does if it hardly slows down, or has more than `grain` to go by the geometric series of its last two moves.
    """
    windows = [tails[:, first : first + _WINDOW] for first in _WINDOWS]
    means = [window.mean(axis=1) for window in windows]
    before, last = (np.linalg.norm(b - a, axis=1) for a, b in itertools.pairwise(means))
    with np.errstate(divide="ignore", invalid="ignore"):
        to_go = np.where(last < before, last**2 / (before - last), np.where(last > 0, np.inf, 0.0))
    regular = (periods > 0) & (_WINDOW % np.maximum(periods, 1) == 0)  # else the means move by themselves
    width = np.linalg.norm(windows[-1].std(axis=1), axis=-1) + 64 * np.finfo(float).eps * np.abs(tails).max(axis=(1, 2))
    steady = (last > 2 * width) & (last > _STEADY * before)
    return regular & (steady | ((last > 1e-3 * grain) & (to_go > grain))), np.where(regular, last, 0.0)


def _clusters(clouds: np.ndarray, grain: float) -> list[np.ndarray]:
    """Groups of runs whose positions come within `grain` of each other."""
    if len(clouds) == 0:
        return []
    cells = np.round(clouds / grain)
    alone = (cells == cells[:, :1]).all(axis=(1, 2))  # runs in one cell, mostly all of them, need but one row
    rows = [np.flatnonzero(alone), np.repeat(np.flatnonzero(~alone), cells.shape[1])]
    places = np.concatenate([cells[alone, 0], cells[~alone].reshape(-1, cells.shape[-1])])
    unique, cell = np.unique(places, axis=0, return_inverse=True)
    near = scipy.spatial.KDTree(unique).query_pairs(1.5, output_type="ndarray")  # neighbours, diagonal ones included
    ends = np.append(np.concatenate(rows), near[:, 0] + len(clouds))
    others = np.append(cell.ravel(), near[:, 1]) + len(clouds)
    size = len(clouds) + len(unique)
    graph = scipy.sparse.coo_matrix((np.ones(len(ends), bool), (ends, others)), shape=(size, size))
    group = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][: len(clouds)]
    return [np.flatnonzero(group == g) for g in np.unique(group)]


def _periods(ends: np.ndarray, grain: float) -> np.ndarray:
    """The shortest period of each run's last positions, up to a thousandth of `grain`; 0 if there is none."""
    periods = np.zeros(len(ends), dtype=int)
    for period in range(1, ends.shape[1] // 2 + 1):
        left = np.flatnonzero(periods == 0)
        gaps = np.abs(ends[left, period:] - ends[left, :-period]).max(axis=(1, 2))
        periods[left[gaps <= 1e-3 * grain]] = period
    return periods


def _spread_out(cloud: np.ndarray) -> np.ndarray:
    """A few points of a cloud, each as far from the others as possible."""
    chosen = [cloud[0]]
    distance = np.linalg.norm(cloud - chosen[0], axis=1)
    while len(chosen) < KEPT and distance.max() > 0:
        chosen.append(cloud[np.argmax(distance)])
        distance = np.minimum(distance, np.linalg.norm(cloud - chosen[-1], axis=1))
    return np.array(chosen)


def _reach(cloud: np.ndarray, points: np.ndarray) -> float:
    return float(distance(cloud, points).max())


def _named(process: Process, points: np.ndarray, period: int, spread: float, grain: float) -> Attractor:
    """With the kind of the critical point that lies inside it, or within its own width, if there is one."""
    centre = points.mean(axis=0)
    width = max(float(np.linalg.norm(points - centre, axis=1).max()), grain)
    landscape = getattr(process, "landscape", None)
    critical = None if landscape is None else critical_near(landscape, centre, 2 * width)
    if critical is not None:
        centre, kind = np.where(np.abs(critical[0]) < 1e-9 * grain, 0.0, critical[0]), critical[1]
    else:
        kind = {0: "band", 1: "point"}.get(period, "cycle")
    return Attractor(f"{kind} ({place(centre, grain)})", centre, kind, period, points, spread)
