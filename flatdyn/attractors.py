"""What runs end at: given by you, or discovered from the runs themselves.

A discovered attractor is a set of positions that runs keep returning to: one point, a cycle, or a small band, regular
or chaotic, such as the one in which SAM is held at a saddle. It is found as follows.

1. Runs from many starts are sampled over the third and the last quarter of `max_steps`.
2. A run has *settled* if every position of its last quarter lies near one of its third quarter: within `grain`, or a
   few times the distance between neighbours there. So a run that still drifts down a valley has not, a band has.
   Nor has one that creeps along: a point or cycle that would move by more than `grain` if its pace went on falling as
   it has fallen.
3. Positions of settled runs that lie within `grain` of each other, or that one run visits, belong together.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy

from flatdyn import drivers, ensembles, fingerprints
from flatdyn.arrivals import Targets
from flatdyn.identity import of_object
from flatdyn.processes import Process
from flatdyn.records import Status

_SAMPLES = 128  # of each quarter of a run
_WINDOW, _WINDOWS = 60, (0, 98, 196)  # of these samples, equally far apart, means are taken; 60 has many divisors
_CONSECUTIVE = 64  # positions at the end of a run in which a period is looked for
_KEPT = 16  # positions that stand for a band
_ROWS = 4
_SHRINKING = 1 / 3.0 ** np.arange(4)  # shares of the radius that are tried as traps


@dataclass(frozen=True)
class Attractor:
    """Where runs end.

    Attributes:
        name: for legends and dictionaries
        theta: its position, or the mean of its points, shape (dim,)
        kind: "minimum", "saddle", "maximum", "degenerate" if there is such a critical point at theta; else "stable",
            "saddle", … of a fixed point, "point", "cycle", or "band"
        period: 1 for a point, n for a cycle, 0 for a band
        points: positions that stand for it, shape (number, dim)
        spread: largest distance of one of its positions from `points`
    """

    name: str
    theta: np.ndarray
    kind: str
    period: int
    points: np.ndarray
    spread: float = 0.0

    def __repr__(self) -> str:
        what = {0: "band", 1: "point"}.get(self.period, f"{self.period}-cycle")
        return f"Attractor({self.name!r}: {what} at ({_place(self.theta)}))"


@dataclass(frozen=True)
class Region:
    """Where runs can end without coming to rest: a valley that descends to infinity, a sublevel set.

    Attributes:
        name: for legends and dictionaries
        inside: JAX function from θ, shape (dim,), to a boolean
        absorbing: True if a run never leaves it, so that it can stop there; else the end of a run decides
    """

    name: str
    inside: Callable
    absorbing: bool = False


def given(attractors: Any, dim: int) -> tuple[list[Attractor], list[Region]]:
    """Attractors and regions from what a user writes.

    Args:
        attractors: positions, shape (number, dim), or a list of positions, CriticalPoint, FixedPoint, Attractor and
            Region; or a dict name -> one of them, or a function θ -> bool, which makes a Region
    Raises:
        ValueError: if a position has another shape or is not finite, or a name occurs twice
    """
    if isinstance(attractors, Mapping):
        items = [(name, value) for name, value in attractors.items()]
    elif isinstance(attractors, Iterable):
        items = [(None, value) for value in attractors]
    else:
        raise ValueError(f"attractors must be a list or a dict of positions, got {attractors!r}")
    points, regions = [], []
    for name, value in items:
        if isinstance(value, Region) or callable(value):
            regions.append(value if isinstance(value, Region) else Region(name, value))
        else:
            points.append(value if isinstance(value, Attractor) else _read(name, value, dim))
    names = [thing.name for thing in (*points, *regions)]
    twice = {name for name in names if names.count(name) > 1}
    if twice or {"diverged", "undecided"} & set(names):
        raise ValueError(f"attractors need different names, other than 'diverged' and 'undecided', got {names}")
    return points, regions


def _read(name: str | None, value: Any, dim: int) -> Attractor:
    orbit = np.atleast_2d(np.asarray(getattr(value, "orbit", getattr(value, "theta", value)), dtype=float))
    if orbit.ndim != 2 or orbit.shape[1] != dim or not np.isfinite(orbit).all():
        raise ValueError(f"an attractor must be a finite position of shape ({dim},), got {np.asarray(value)!r}")
    kind = getattr(value, "kind", "point")
    return Attractor(name or f"{kind} ({_place(orbit[0])})", orbit.mean(axis=0), kind, len(orbit), orbit)


def unused(name: str, attractors: Iterable[Attractor]) -> str:
    """The name, with primes if one of the attractors has it already."""
    taken = {attractor.name for attractor in attractors}
    while name in taken:
        name += "'"
    return name


def digests(
    attractors: Iterable[Attractor], regions: Iterable[Region], dim: int, dtype: Any, version: Any
) -> list[str]:
    """A word for each attractor by all that it is, and for each region by what it computes: for unfinished work."""
    words = [of_object(attractor, f"attractor {attractor.name!r}") for attractor in attractors]
    inside = [fingerprints.of_function(region.inside, dim, dtype, version) for region in regions]
    return words + [f"{r.name} {r.absorbing} {word}" for r, word in zip(regions, inside, strict=True)]


def _place(theta: np.ndarray) -> str:
    shown = [f"{x:.3g}" for x in np.where(np.abs(theta) < 1e-9, 0.0, theta)]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], "…"])


# --- discovery ------------------------------------------------------------------------------------------------


def discover(
    process: Process, starts: np.ndarray, *, max_steps: int, grain: float, bound: float, key: jax.Array | None = None
) -> list[Attractor]:
    """Attractors in which runs from `starts`, shape (runs, dim), have settled after `max_steps`, most visited first."""
    tails, ends, alive = _tails(process, starts, max_steps, bound, key)
    settled = alive & _settled(tails, grain) & ~_creeping(tails, ends, grain)
    ends = ends[settled]
    tails = np.append(tails[settled, _SAMPLES:], ends, axis=1)  # in a row they show every phase of a short cycle
    found = []
    for runs in _clusters(tails, grain):
        period = _period(ends[runs[0]], grain)
        cloud = tails[runs].reshape(-1, tails.shape[-1])
        points = ends[runs[0]][-period:] if period else _spread_out(cloud)
        found.append((len(runs), _named(process, points, period, _reach(cloud, points), grain)))
    return [attractor for _, attractor in sorted(found, key=lambda pair: -pair[0])]


def _tails(process: Process, starts: np.ndarray, max_steps: int, bound: float, key):
    """Samples of the second half (runs, 2·samples, dim), the very last positions in a row, and who has not diverged."""
    process = drivers.prepared(process, starts.dtype)
    seed = drivers.seed_of(process, key)
    quarter = max(max_steps // 4, _SAMPLES)
    stride = quarter // _SAMPLES
    stride -= stride > 1 and stride % 2 == 0  # odd, so that a short even cycle is seen in all its phases
    size = -(-len(starts) // 64) * 64  # whole vectors, as drivers.chunks explains
    padded = np.resize(starts, (size, starts.shape[1]))
    skipped = 4 * quarter - 2 * _SAMPLES * stride
    sampled = _sampled(process, seed, padded, jnp.array([skipped, stride]), jnp.asarray(bound, starts.dtype))
    tails, ends, alive = (np.asarray(x) for x in sampled)
    return np.swapaxes(tails, 0, 1)[: len(starts)], np.swapaxes(ends, 0, 1)[: len(starts)], alive[: len(starts)]


@eqx.filter_jit
def _sampled(process, seed, starts, plan, bound):
    skipped, stride = plan
    runs = jnp.arange(len(starts), dtype=jnp.uint32)

    def sample(carry, steps):
        carry = drivers.advanced(process, carry, seed, runs, steps, bound)
        return carry, jax.vmap(process.position)(carry.state)

    carry, _ = sample(drivers.at_rest(process, starts), skipped)
    carry, tails = jax.lax.scan(lambda carry, _: sample(carry, stride), carry, length=2 * _SAMPLES)
    carry, ends = jax.lax.scan(lambda carry, _: sample(carry, 1), carry, length=_CONSECUTIVE)
    return tails, ends, carry.alive


def _settled(tails: np.ndarray, grain: float) -> np.ndarray:
    """Whether each run's last quarter stays near its third."""

    def one(third, last):
        tree = scipy.spatial.KDTree(third)
        return tree.query(last)[0].max() <= max(grain, 3 * tree.query(third, k=2)[0][:, 1].max())

    return np.array([one(tail[:_SAMPLES], tail[_SAMPLES:]) for tail in tails], dtype=bool)


def _creeping(tails: np.ndarray, ends: np.ndarray, grain: float) -> np.ndarray:
    """Whether each point or cycle still has more than `grain` to go, by the geometric series of its last two moves."""
    means = [tails[:, first : first + _WINDOW].mean(axis=1) for first in _WINDOWS]
    before, last = (np.linalg.norm(b - a, axis=1) for a, b in itertools.pairwise(means))
    with np.errstate(divide="ignore", invalid="ignore"):
        to_go = np.where(last < before, last**2 / (before - last), np.where(last > 0, np.inf, 0.0))
    periods = np.array([_period(end, grain) for end in ends], dtype=int)
    regular = (periods > 0) & (_WINDOW % np.maximum(periods, 1) == 0)  # else the means move by themselves
    return regular & (last > 1e-3 * grain) & (to_go > grain)


def _clusters(tails: np.ndarray, grain: float) -> list[np.ndarray]:
    """Groups of runs whose positions come within `grain` of each other."""
    if len(tails) == 0:
        return []
    cells = np.round(tails / grain).reshape(-1, tails.shape[-1])
    unique, cell = np.unique(cells, axis=0, return_inverse=True)
    run = np.repeat(np.arange(len(tails)), tails.shape[1])
    near = scipy.spatial.KDTree(unique).query_pairs(
        1.5, output_type="ndarray"
    )  # neighbouring cells, diagonal ones included
    rows, columns = (
        np.append(run, near[:, 0] + len(tails)),
        np.append(cell.ravel() + len(tails), near[:, 1] + len(tails)),
    )
    size = len(tails) + len(unique)
    graph = scipy.sparse.coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    group = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][: len(tails)]
    return [np.flatnonzero(group == g) for g in np.unique(group)]


def _period(end: np.ndarray, grain: float) -> int:
    """The shortest period of the last positions, up to a thousandth of `grain`; 0 if there is none."""
    for period in range(1, len(end) // 2 + 1):
        if np.abs(end[period:] - end[:-period]).max() <= 1e-3 * grain:
            return period
    return 0


def _spread_out(cloud: np.ndarray) -> np.ndarray:
    """A few points of a cloud, each as far from the others as possible."""
    chosen = [cloud[0]]
    distance = np.linalg.norm(cloud - chosen[0], axis=1)
    while len(chosen) < _KEPT and distance.max() > 0:
        chosen.append(cloud[np.argmax(distance)])
        distance = np.minimum(distance, np.linalg.norm(cloud - chosen[-1], axis=1))
    return np.array(chosen)


def _reach(cloud: np.ndarray, points: np.ndarray) -> float:
    return float(scipy.spatial.KDTree(points).query(cloud)[0].max())


def _named(process: Process, points: np.ndarray, period: int, spread: float, grain: float) -> Attractor:
    """With the kind of the critical point that lies inside it, or within its own width, if there is one."""
    centre = points.mean(axis=0)
    width = max(float(np.linalg.norm(points - centre, axis=1).max()), grain)
    landscape = getattr(process, "landscape", None)
    critical = None if landscape is None else _critical_near(landscape, centre, 2 * width)
    if critical is not None:
        centre, kind = np.where(np.abs(critical[0]) < 1e-9 * grain, 0.0, critical[0]), critical[1]
    else:
        kind = {0: "band", 1: "point"}.get(period, "cycle")
    return Attractor(f"{kind} ({_place(centre)})", centre, kind, period, points, spread)


def _critical_near(landscape: Any, theta: np.ndarray, width: float) -> tuple[np.ndarray, str] | None:
    """The critical point within `width` of θ, and its kind by the signs of the Hessian's eigenvalues."""
    with jax.enable_x64(True):
        theta = np.asarray(theta, dtype=float)
        root = scipy.optimize.root(
            lambda t: np.asarray(landscape.grad(t)), theta, jac=lambda t: np.asarray(landscape.hessian(t))
        )
        if not root.success or np.linalg.norm(root.x - theta) > width:
            return None
        values = np.linalg.eigvalsh(np.asarray(landscape.hessian(root.x)))
    if np.abs(values).min() <= 1e-9 * np.abs(values).max():
        return root.x, "degenerate"
    return root.x, "minimum" if (values > 0).all() else "maximum" if (values < 0).all() else "saddle"


# --- when has a run arrived? ----------------------------------------------------------------------------------


def targets(
    process: Process,
    attractors: list[Attractor],
    regions: list[Region],
    radius: float,
    *,
    max_steps: int,
    bound: float,
    dtype: Any,
    key: jax.Array | None = None,
) -> Targets:
    """What :func:`flatdyn.arrivals.decide` holds positions against, traps included.

    A ball around an attractor is a trap if 64 runs from its surface (4 per dimension, if that is more), and from that
    of every smaller ball tried, never leave `radius` within `max_steps`. This is a numerical test, not a proof; where
    no ball passes it (a saddle under GD) runs are not stopped early, and where they are after `max_steps` decides.
    """
    attractors = [_as_point(a) if _width(a) <= radius / 4 else a for a in attractors]  # fewer distances to compute
    points = padded(attractors, process.dim)
    rows = len(attractors) if len(attractors) < _ROWS else -(-len(attractors) // _ROWS) * _ROWS  # few programs
    points = np.concatenate([points, np.full((rows - len(points), *points.shape[1:]), np.nan)])
    radii = np.array([radius + attractor.spread for attractor in attractors] + [0.0] * (rows - len(attractors)))
    traps = np.zeros(rows)
    if attractors:
        traps[: len(attractors)] = _traps(process, attractors, radii, dtype, max_steps, bound, key)
    return Targets(
        jnp.asarray(points, dtype),
        jnp.asarray(radii, dtype),
        jnp.asarray(traps, dtype),
        jnp.int32(len(attractors)),
        tuple(region.inside for region in regions),
        tuple(region.absorbing for region in regions),
    )


def _traps(process: Process, attractors: list, radii: np.ndarray, dtype, max_steps: int, bound: float, key):
    """The largest of the shrinking radii from which, and from below which, no run leaves; 0 if there is none."""
    dim, rng = process.dim, np.random.default_rng(0)
    directions = np.concatenate([np.eye(dim), -np.eye(dim), rng.normal(size=(max(64, 4 * dim) - 2 * dim, dim))])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    number, sizes = len(attractors), radii[: len(attractors), None] * _SHRINKING
    centres = np.stack([np.resize(a.points, (len(directions), dim)) for a in attractors])
    starts = centres[:, None] + sizes[..., None, None] * directions  # (attractors, sizes, directions, dim)
    flat = np.resize(starts.astype(dtype), (starts.size // dim // number * len(radii), dim))
    runs = ensembles.simulate(process, flat, max_steps, key, every=max(1, max_steps // 64), bound=bound, progress=False)
    used = slice(0, starts.size // dim)
    visited = np.append(runs.theta[used], runs.final[used, None], axis=1).reshape(*starts.shape[:3], -1, dim)
    distance = np.stack([_distance(v, a.points) for v, a in zip(visited, attractors, strict=True)])
    going = (runs.status[used] != Status.DIVERGED).reshape(starts.shape[:3])
    held = (going & (distance.max(axis=3) <= radii[:number, None, None] * (1 + 1e-6))).all(axis=2)
    smaller_too = np.flip(np.logical_and.accumulate(np.flip(held, 1), axis=1), 1)
    return np.where(smaller_too.any(axis=1), sizes[np.arange(number), smaller_too.argmax(axis=1)], 0.0)


def _width(attractor: Attractor) -> float:
    centre = attractor.points.mean(axis=0)
    return attractor.spread + float(np.linalg.norm(attractor.points - centre, axis=1).max())


def _as_point(attractor: Attractor) -> Attractor:
    centre = attractor.points.mean(axis=0, keepdims=True)
    return dataclasses.replace(attractor, points=centre, spread=_width(attractor))


def padded(attractors: list[Attractor], dim: int) -> np.ndarray:
    """The points of all attractors as one array (attractors, 1 or more, dim), NaN where there are fewer."""
    most = 1 if all(len(a.points) == 1 for a in attractors) else max(_KEPT, *(len(a.points) for a in attractors))
    points = np.full((len(attractors), most, dim), np.nan)
    for row, attractor in zip(points, attractors, strict=True):
        row[: len(attractor.points)] = attractor.points
    return points


def _distance(positions: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Distance from each position (..., dim) to the nearest sample (number, dim)."""
    return scipy.spatial.KDTree(samples).query(positions)[0]


def gap(attractors: list[Attractor]) -> float:
    """Smallest distance between positions of two different attractors; ∞ if there are fewer than two."""
    pairs = [
        _distance(a.points, b.points).min() - a.spread - b.spread
        for i, a in enumerate(attractors)
        for b in attractors[:i]
    ]
    return float(min(pairs, default=np.inf))
