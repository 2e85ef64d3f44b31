"""What runs end at: attractors and regions, and how near a run must come to be there to stay.

Attractors are given by you, or discovered from the runs themselves (:mod:`flatdyn.basins.discovery`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from flatdyn.basins.arrivals import Targets
from flatdyn.core import checks
from flatdyn.core.hashing import of_object
from flatdyn.processes import Process
from flatdyn.processes.regions import Region, as_test
from flatdyn.runs import fingerprints, stepping
from flatdyn.runs.visits import visits

KEPT = 16  # positions that stand for a band
_ROWS = 4  # attractors are filled up to a multiple of this, so that searches with a few more share a program
_FEW = 4  # positions that need no tree
_MOST_DIRECTIONS, _TRAP_BYTES = 512, 2**29  # in which runs start from a ball; what is kept of them at once
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

    def __post_init__(self):
        checks.text("name", self.name)
        checks.text("kind", self.kind)
        object.__setattr__(self, "period", checks.count("period", self.period, at_most=2**31 - 1))
        theta, points = checks.numbers("theta", self.theta, ndim=1), checks.numbers("points", self.points, ndim=2)
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "points", points)
        if not len(points) or points.shape[1:] != theta.shape:
            raise ValueError(f"points must have shape (number, {len(theta)}) as theta has, got {points.shape}")
        object.__setattr__(self, "spread", checks.number("spread", self.spread, at_least=0, one=True))

    def __repr__(self) -> str:
        what = {0: "band", 1: "point"}.get(self.period, f"{self.period}-cycle")
        return f"Attractor({self.name!r}: {what} at ({place(self.theta)}))"


def given(attractors: Any, dim: int) -> tuple[list[Attractor], list[Region]]:
    """Attractors and regions from what a user writes.

    Args:
        attractors: positions, shape (number, dim), or a list of positions, CriticalPoint, FixedPoint, Attractor and
            Region; or a dict name -> one of them, or a function θ -> bool, which makes a Region
    Raises:
        ValueError: if a position has another shape or is not finite, a name occurs twice, or a region is no test of θ
    """
    if isinstance(attractors, Mapping):
        items = list(checks.mapping("attractors", attractors, "name -> position").items())
    elif (several := checks.listed(attractors)) is not None:
        items = [(None, value) for value in several]
    else:
        raise ValueError(f"attractors must be a list or a dict of positions, got {checks.shown(attractors)}")
    points, regions, theta = [], [], jax.ShapeDtypeStruct((dim,), jnp.zeros(0).dtype)
    for name, value in items:
        if callable(value) and name is None and not isinstance(value, Region):
            raise ValueError(
                f"attractors that are functions need names, {{'far': function}}, got {checks.shown(value)}"
            )
        if isinstance(value, Region) or callable(value):
            region = value if isinstance(value, Region) else Region(name, value)
            inside = as_test(f"region {region.name!r}: inside", region.inside, theta)
            regions.append(region if inside is region.inside else dataclasses.replace(region, inside=inside))
        else:
            points.append(value if isinstance(value, Attractor) else _read(name, value, dim))
    names = [end.name for end in (*points, *regions)]
    twice = {name for name in names if names.count(name) > 1}
    if twice or {"diverged", "undecided"} & set(names):
        raise ValueError(f"attractors need different names, other than 'diverged' and 'undecided', got {names}")
    return points, regions


def _read(name: str | None, value: Any, dim: int) -> Attractor:
    where = getattr(value, "orbit", getattr(value, "theta", value))
    orbit = np.atleast_2d(checks.entries("attractors", where, f"positions of shape ({dim},)"))
    if orbit.ndim != 2 or orbit.shape[1] != dim or not np.isfinite(orbit).all():
        raise ValueError(f"an attractor must be a finite position of shape ({dim},), got {checks.shown(value)}")
    kind = getattr(value, "kind", "point")
    return Attractor(name or f"{kind} ({place(orbit[0])})", orbit.mean(axis=0), kind, len(orbit), orbit)


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


def place(theta: np.ndarray, scale: float = 1.0) -> str:
    """A position for a name: what is nothing beside `scale`, or 1 if that is less, is written as 0."""
    shown = [f"{x:.3g}" for x in np.where(np.abs(theta) < 1e-9 * min(scale, 1.0), 0.0, theta)]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], "…"])


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
    progress: bool | None = None,
) -> Targets:
    """What :func:`flatdyn.basins.arrivals.decide` holds positions against, traps included.

    A ball around an attractor is a trap if 64 runs from its surface (4 per dimension up to 512), and from that
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
        checks.in_range("attractors' points", points)
        name = "radius + spread of an attractor"
        checks.squarable(name, radii.max(), dtype)
        checks.squarable(name, radii[: len(attractors)].min(), dtype)
        traps[: len(attractors)] = _traps(
            process, attractors, radii, dtype, {"max_steps": max_steps, "bound": bound, "key": key}, progress
        )
    return Targets(
        jnp.asarray(points, dtype),
        jnp.asarray(radii, dtype),
        jnp.asarray(traps, dtype),
        jnp.int32(len(attractors)),
        tuple(region.inside for region in regions),
        tuple(region.absorbing for region in regions),
    )


def _traps(process: Process, attractors: list, radii: np.ndarray, dtype, limits: dict, progress: bool | None):
    """The largest of the shrinking radii from which, and from below which, no run leaves; 0 if there is none."""
    dim, number = process.dim, len(attractors)
    directions = _directions(dim)
    sizes = radii[:number, None] * _SHRINKING
    centres = np.stack([np.resize(a.points, (len(directions), dim)) for a in attractors])
    starts = centres[:, None] + sizes[..., None, None] * directions  # (attractors, sizes, directions, dim)
    shape, each = starts.shape[:3], starts.size // dim // number
    flat, owner = starts.astype(dtype).reshape(-1, dim), np.arange(starts.size // dim) // each
    piece = max(64, _TRAP_BYTES // (8 * 66 * dim))
    parts = [slice(first, first + piece) for first in range(0, len(flat), piece)]
    pieces = [_furthest(process, flat[part], attractors, owner[part], limits, progress) for part in parts]
    furthest, going = (np.concatenate(arrays).reshape(shape) for arrays in zip(*pieces, strict=True))
    held = (going & (furthest <= radii[:number, None, None] * (1 + 1e-6))).all(axis=2)
    smaller_too = np.flip(np.logical_and.accumulate(np.flip(held, 1), axis=1), 1)
    return np.where(smaller_too.any(axis=1), sizes[np.arange(number), smaller_too.argmax(axis=1)], 0.0)


def _directions(dim: int) -> np.ndarray:
    """Unit vectors along the axes and random ones; in many dimensions only random ones."""
    rng = np.random.default_rng(0)
    if 4 * dim <= _MOST_DIRECTIONS:
        along = np.concatenate([np.eye(dim), -np.eye(dim)])
        directions = np.concatenate([along, rng.normal(size=(max(64, 4 * dim) - 2 * dim, dim))])
    else:
        directions = rng.normal(size=(_MOST_DIRECTIONS, dim))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _furthest(process: Process, starts: np.ndarray, attractors: list, owner: np.ndarray, limits: dict, progress):
    """How far each run has been from its attractor, of index `owner`, and whether the run has not diverged."""
    last, bound, unit = limits["max_steps"], limits["bound"], "steps in search of traps"
    every = max(1, last // 64)
    times = np.unique(np.append(np.arange(every, last, every), last))
    process.check(starts)
    moving, seed = stepping.prepared(process, starts.dtype), stepping.seed_of(process, limits["key"])
    runs = visits(moving, starts, times, seed, bound, progress=progress, unit=unit)
    furthest = np.zeros(len(starts))
    for i in np.unique(owner):
        furthest[owner == i] = distance(runs.positions[owner == i], attractors[i].points).max(axis=1)
    return furthest, runs.alive


def _width(attractor: Attractor) -> float:
    centre = attractor.points.mean(axis=0)
    return attractor.spread + float(np.linalg.norm(attractor.points - centre, axis=1).max())


def _as_point(attractor: Attractor) -> Attractor:
    centre = attractor.points.mean(axis=0, keepdims=True)
    return dataclasses.replace(attractor, points=centre, spread=_width(attractor))


def padded(attractors: list[Attractor], dim: int) -> np.ndarray:
    """The points of all attractors as one array (attractors, 1 or more, dim), NaN where there are fewer."""
    most = 1 if all(len(a.points) == 1 for a in attractors) else max(KEPT, *(len(a.points) for a in attractors))
    points = np.full((len(attractors), most, dim), np.nan)
    for row, attractor in zip(points, attractors, strict=True):
        row[: len(attractor.points)] = attractor.points
    return points


def distance(positions: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Distance from each position (..., dim) to the nearest sample (number, dim)."""
    if len(samples) <= _FEW:
        return np.min([np.sqrt(((positions - sample) ** 2).sum(axis=-1)) for sample in samples], axis=0)
    return scipy.spatial.KDTree(samples).query(positions)[0]


def gap(attractors: list[Attractor]) -> float:
    """Smallest distance between positions of two different attractors; ∞ if there are fewer than two."""
    pairs = [
        distance(a.points, b.points).min() - a.spread - b.spread
        for i, a in enumerate(attractors)
        for b in attractors[:i]
    ]
    return float(min(pairs, default=np.inf))
