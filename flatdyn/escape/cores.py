"""Attractors between which runs go, each with a core: a run has been at an attractor when it was in its core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.processes.regions import Ball, Box, Region, Scored, as_test

NOWHERE, SEVERAL = -1, -2  # labels of a point in no core, and in more than one
_POINTS = 256  # of one attractor, at most: more make no other core


class Near(Scored):
    """Within r of one of some points: of a cycle, or of a band."""

    points: Any
    radius: Any

    def score(self, theta):
        moved = (theta - jnp.asarray(self.points, theta.dtype)) / jnp.asarray(self.radius, theta.dtype)
        return jnp.min(jnp.sum(moved**2, axis=-1))

    def check(self, dim):
        if self.points.shape[1] != dim:
            raise ValueError(f"an attractor of {self.points.shape[1]} coordinates, but θ has {dim}")


class Cores(eqx.Module):
    """The cores of some attractors; called with θ it says in which one θ is.

    Attributes:
        names: of the attractors
        tests: θ -> bool, one for each
        centers: a point of each, shape (attractors, dim); NaN where a core is a function of which none is known
    """

    names: tuple[str, ...] = eqx.field(static=True)
    tests: tuple[Callable, ...]
    centers: Any

    def __len__(self) -> int:
        return len(self.names)

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Index of the core in which θ, shape (dim,), is; NOWHERE or SEVERAL."""
        held = jnp.stack([test(theta) for test in self.tests])
        number = held.sum(dtype=jnp.int32)
        first = jnp.argmax(held).astype(jnp.int32)
        return jnp.where(number == 1, first, jnp.where(number == 0, NOWHERE, SEVERAL))

    def labels(self, points: Any) -> np.ndarray:
        """The core of each of many points, shape (..., dim).

        Raises:
            ValueError: if one is in several
        """
        points = np.asarray(points)
        flat = points.reshape(-1, points.shape[-1])
        labels = np.concatenate([_labelled(self, part) for part in _parts(flat)]) if len(flat) else np.zeros(0, int)
        refuse_overlap(self, flat[labels == SEVERAL])
        return labels.reshape(points.shape[:-1])

    def index(self, name: str, value: Any) -> int:
        """The number of an attractor from its name or number, else ValueError; `name` is that of the argument."""
        return index_of(self.names, name, value)


def index_of(names: Sequence[str], word: str, value: Any) -> int:
    """The number of an attractor from its name or number, else ValueError about the argument `word`."""
    names = [str(name) for name in names]
    if isinstance(value, str):
        return names.index(checks.choice(word, value, names))
    return checks.count(word, value, at_most=len(names) - 1)


def refuse_overlap(cores: Cores, places: np.ndarray) -> None:
    """Raise ValueError if there are places, (places, dim), that lie in several cores."""
    if not len(places):
        return
    theta = places[0]
    held = [name for name, test in zip(cores.names, cores.tests, strict=True) if bool(test(jnp.asarray(theta)))]
    raise ValueError(
        f"attractors must not overlap, but {theta} is in the cores of {' and '.join(map(repr, held))}: shrink them"
    )


def cores_of(attractors: Any, dim: int, radius: float | None = None, at_least: int = 1) -> Cores:
    """The cores of what a user names.

    Args:
        attractors: a list, or a dict by name, of regions (Region, Ball, Box, …, a function θ -> bool in a dict) and of
            positions: arrays, critical points, fixed points, cycles, attractors; or what map_basins returned
        dim: number of coordinates
        radius: of the core of what is a position
        at_least: how many are needed
    Raises:
        ValueError, TypeError: if one is neither, a position has no radius, a name occurs twice, or two cores overlap
    """
    attractors = getattr(attractors, "attractors", attractors)
    if isinstance(attractors, Mapping):
        items = list(checks.mapping("attractors", attractors, "name -> region or position").items())
    elif (several := checks.listed(attractors)) is not None:
        items = [(None, value) for value in several]
    else:
        raise ValueError(f"attractors must be a list or a dict of regions or positions, got {checks.shown(attractors)}")
    if radius is not None:
        radius = checks.number("radius", radius, above=0, one=True)
    if len(items) < at_least:
        raise ValueError(f"attractors must be at least {at_least}, got {len(items)}")
    read = [_read(name, value, dim, radius) for name, value in items]
    names = tuple(name for name, _, _ in read)
    if len(set(names)) < len(names):
        raise ValueError(f"attractors need different names, got {list(names)}")
    cores = Cores(names, tuple(test for _, test, _ in read), np.stack([center for _, _, center in read]))
    _check_apart(cores)
    return cores


def _read(name: Any, value: Any, dim: int, radius: float | None) -> tuple[str, Callable, np.ndarray]:
    """Name, test and a point of one attractor."""
    if name is not None:
        checks.text("names of attractors", name)
    theta = jax.ShapeDtypeStruct((dim,), precision.floating())
    if callable(value):
        name = name or (value.name if isinstance(value, Region) else None)
        inner = value.inside if isinstance(value, Region) else value
        if name is None and not isinstance(inner, Ball):
            raise ValueError(f"regions need names, {{'left': region}}, got {checks.shown(value)} in a list")
        test = as_test(f"attractor {name!r}" if name else "attractor", inner, theta)
        center = np.asarray(inner.center, float) if isinstance(inner, Ball) else np.full(dim, np.nan)
        return name or shown_place(center), test, center
    spread = float(getattr(value, "spread", 0.0))
    where = next((getattr(value, word) for word in ("points", "orbit", "theta") if hasattr(value, word)), value)
    points = np.atleast_2d(checks.entries("attractors", where, f"regions, or positions of shape ({dim},)"))
    if points.ndim != 2 or points.shape[1] != dim or not len(points) or not np.isfinite(points).all():
        raise ValueError(
            f"an attractor must be a region or a finite position of shape ({dim},), got {checks.shown(value)}"
        )
    if radius is None:
        raise ValueError("attractors that are positions need the radius of their cores: give radius=")
    points, radius = points[:: -(-len(points) // _POINTS)], radius + spread
    test = Ball(points[0], radius) if len(points) == 1 else Near(points, radius)
    own = getattr(value, "name", None)
    return name or (own if isinstance(own, str) else shown_place(points[0])), test, points[0]


def region_of(inside: Any, dim: int) -> Callable | None:
    """The region that must not be left, or None for all of space."""
    if inside is None:
        return None
    if not callable(inside):
        sides = checks.entries("inside", inside, "a region, or pairs (low, high)")
        sides = sides[None] if dim == 1 and sides.ndim == 1 else sides
        if sides.shape != (dim, 2) or not (sides[:, 0] < sides[:, 1]).all():
            raise ValueError(
                f"inside must be a region, or {dim} pairs (low, high) with low < high, got {checks.shown(inside)}"
            )
        inside = Box(sides)
    return as_test("inside", inside, jax.ShapeDtypeStruct((dim,), precision.floating()))


def shown_place(theta: np.ndarray) -> str:
    """A position as a name."""
    shown = [f"{x:.3g}" for x in theta]
    return f"({', '.join(shown if len(shown) <= 4 else [*shown[:3], '…'])})"


def _check_apart(cores: Cores) -> None:
    """Raise ValueError where two cores of points meet; of functions it is seen where a run comes into both."""
    known = []
    for name, test in zip(cores.names, cores.tests, strict=True):
        if isinstance(test, Ball | Near):
            points = np.atleast_2d(np.asarray(test.center if isinstance(test, Ball) else test.points, float))
            radius = float(np.asarray(test.radius))
            for other, places, size in known:
                gap = min(np.linalg.norm(places - point, axis=1).min() for point in points)
                if gap <= radius + size:
                    raise ValueError(
                        f"attractors must not overlap, but the cores of {other!r} and {name!r} are {gap:.3g} apart, "
                        f"with radii {size:.3g} and {radius:.3g}: give a smaller radius"
                    )
            known.append((name, points, radius))
    middles = np.isfinite(cores.centers).all(axis=1)
    labels = cores.labels(cores.centers[middles])
    for i, label in zip(np.flatnonzero(middles), labels, strict=True):
        if label != i:
            raise ValueError(
                f"the core of {cores.names[i]!r} does not hold its own point {cores.centers[i]}, as rounded: give "
                "a larger radius"
            )


_ROWS = 1 << 16  # labelled at a time, in pieces of two sizes


def _parts(flat: np.ndarray):
    return np.split(flat, range(_ROWS, len(flat), _ROWS))


def _labelled(cores: Cores, points: np.ndarray) -> np.ndarray:
    size = 1 << max(6, (len(points) - 1).bit_length())
    padded = np.resize(points, (size, points.shape[1]))
    return np.asarray(_label(cores, precision.on_device(padded)))[: len(points)]


@eqx.filter_jit
def _label(cores: Cores, points: jax.Array) -> jax.Array:
    return jax.vmap(cores)(points)
