"""Where a region of the plane lies: its test for many points, and a rectangle around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.laws.plane.steps import in_pieces
from flatdyn.processes.regions import Ball, Box, Region, as_test

_MOST_CELLS = 4000  # into which a region is cut at most
_PROBES = 7  # points of a cell, in each coordinate, at which a region is looked for


class Place(NamedTuple):
    """A region.

    Attributes:
        holds: whether one point is inside, in JAX
        test: whether points, (n, dim), are
        bounds: a rectangle around it, ((low, high), ...), or None
    """

    holds: Any
    test: Any
    bounds: np.ndarray | None


def placed(inside: Any, box: Any, dim: int) -> Place:
    """A region of `dim` coordinates, within a box if one is given.

    Raises:
        ValueError, TypeError: if it is no region of so many coordinates, or the box is not finite
    """
    with jax.enable_x64(True):
        one = as_test("inside", inside, jax.ShapeDtypeStruct((dim,), jnp.float64))
    inner = inside.inside if isinstance(inside, Region) else inside
    bounds = None if box is None else np.array(checks.box(box, dim))
    own = rectangle_of(inner)
    if own is not None:
        bounds = (
            own
            if bounds is None
            else np.stack([np.maximum(own[:, 0], bounds[:, 0]), np.minimum(own[:, 1], bounds[:, 1])], 1)
        )
    if bounds is not None and not np.isfinite(bounds).all():
        raise ValueError(
            f"inside must end somewhere for the transfer operator, and this reaches to infinity: {inner!r}; give "
            "box=((low, high), ...) where leaving it counts as leaving, or ask escape_times"
        )
    if bounds is not None and not (bounds[:, 0] < bounds[:, 1]).all():
        raise ValueError(f"box must meet the region {inner!r}, got {checks.shown(box)}")

    return within(one, bounds)


def within(one: Callable, bounds: np.ndarray | None) -> Place:
    """What of a region is in a rectangle."""

    def holds(point: jax.Array) -> jax.Array:
        answer = one(point)
        return answer if bounds is None else answer & ((point >= bounds[:, 0]) & (point <= bounds[:, 1])).all()

    asked = jax.jit(jax.vmap(holds))
    return Place(holds, lambda points: in_pieces(asked, points), bounds)


def rectangle_of(inside: Any) -> np.ndarray | None:
    """The rectangle around a region that says where it ends."""
    if isinstance(inside, Box):
        return np.asarray(inside.sides, float)
    if isinstance(inside, Ball):
        center, radius = np.asarray(inside.center, float), float(inside.radius)
        return np.stack([center - radius, center + radius], axis=1)
    return None


def rectangle(test: Any, start: np.ndarray, cell: np.ndarray, near: np.ndarray) -> np.ndarray:
    """A rectangle around what of a region is reached from the start in steps of at most `near` cells.

    Raises:
        ValueError: if it has no end within thousands of cells
    """
    unit = np.linspace(-0.5, 0.5, _PROBES)
    probes = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    around = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in near], indexing="ij"), axis=-1).reshape(-1, 2)
    seen, full, fresh = set(), [], {(0, 0)}
    while fresh:
        names = np.array(sorted(fresh))
        seen |= fresh
        points = start + cell * (names[:, None] + probes)
        holds = test(points.reshape(-1, 2)).reshape(len(names), -1).any(axis=1)
        full += [tuple(name) for name in names[holds].tolist()]
        if len(full) > _MOST_CELLS:
            raise ValueError(
                f"inside has no end within {_MOST_CELLS} cells of five standard deviations of a step around the start: "
                "give box=((low, high), (low, high)) where leaving it counts as leaving, or ask escape_times"
            )
        wider = (names[holds][:, None] + around).reshape(-1, 2)
        fresh = {tuple(name) for name in wider.tolist()} - seen
    names = np.array(full)
    return np.stack([start + cell * (names.min(axis=0) - 0.5), start + cell * (names.max(axis=0) + 0.5)], axis=1)
