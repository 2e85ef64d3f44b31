"""Which kernel a process takes, and on which grids: steps are looked at before anything is built.

normal given where it starts        nodes of the region, jumps at critical points        gaussian
normal given what the ascent saw    the same, and an expectation over the ascent         pushed, mixed
of one or two normal numbers        landings, looked up in rectangles                    pushed
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.laws.plane import cells, gaussian, memory, pushed, regions
from flatdyn.laws.plane.patches import Patches
from flatdyn.laws.plane.rays import ANGLES, Rays
from flatdyn.laws.plane.steps import Affine, Steps, check_jumps, critical
from flatdyn.processes import Process

_ORDERS, _ORDERS_WIDE = (12, 9), (8, 6)  # nodes of a cell, on the grid and on the one it is compared with; for many
_PUSHED_ORDERS, _PUSHED_WIDE = (10, 8), (8, 6)  # the same of rectangles between whose nodes is interpolated
_PATCH = 3.5  # width of such a rectangle in standard deviations of a step
_MANY_CELLS, _MOST_CELLS = 280, 1200
_SAMPLE = 33  # points in each coordinate at which the size of steps is looked at
_LANDINGS = 64  # of a step that is not normal, from which its moments are estimated


class Built(NamedTuple):
    """The steps of a process, its kernels on two grids, the finer first, and the rectangle around the region."""

    steps: Steps
    kernels: list
    bounds: np.ndarray


def kernels(process: Process, inside: Any, start: Any, box: Any, panels: int | None) -> Built:
    """The kernels of a process in a region.

    The arguments are those of :func:`flatdyn.laws.plane.operator`.
    """
    steps = Steps(process)
    if panels is not None:
        panels = checks.count("panels", panels, at_least=1)
    if start is not None:
        start = np.asarray(checks.point("start", start, process.dim), float)
    if steps.memory:
        return Built(steps, *memory.kernels(steps, inside, box, panels))
    place = regions.placed(inside, box, process.dim)
    if start is not None and not place.test(start[None])[0]:
        raise ValueError(f"start must lie inside the region, got {start.tolist()}")
    if place.bounds is None:
        place = _looked_for(steps, place, start)
    points = _points_of(place)
    affine = steps.affine(points)
    sample = _moments(steps, points) if affine is None else affine
    _check(steps, sample)
    if affine is not None:
        edges = _limited(gaussian.edges(place.bounds, panels, sample))
        orders = _orders(edges, _ORDERS, _ORDERS_WIDE)
        return Built(steps, [_normal(steps, place, edges, order) for order in orders], place.bounds)
    check_jumps(steps)
    if steps.draws == 4 and process.ascent == "independent":
        return Built(steps, _mixed(steps, place, panels, points), place.bounds)
    if steps.draws != 2:
        raise TypeError(
            f"the transfer operator in the plane knows steps of two normal numbers, or of any number that they are "
            f"linear in; this takes {steps.draws}: ask escape_times"
        )
    return Built(steps, _pushed(steps, place, panels, sample), place.bounds)


def _normal(steps, place, edges, order):
    grid = cells.cut(place.test, edges, order, critical(steps, place.bounds))
    return gaussian.NormalKernel(steps, grid, place.bounds)


def _pushed(steps, place, panels, sample):
    edges = _limited(_patch_edges(place.bounds, sample, panels))
    orders, used = _orders(edges, _PUSHED_ORDERS, _PUSHED_WIDE), cells.touched(place.test, edges)

    def label(state):
        return jnp.where(place.holds(steps.position(state)), 0, -1)

    return [
        pushed.PushedKernel(steps, Patches(edges, order, used), Rays(steps, label, angles))
        for order, angles in zip(orders, ANGLES, strict=True)
    ]


def _mixed(steps, place, panels, points):
    """Kernels of steps with a minibatch of its own in the ascent: rays over what the ascent sees."""
    means, covariance = _given_ascents(steps, points)
    sample = Affine(means.reshape(-1, 2), np.broadcast_to(covariance, (means[..., 0].size, 2, 2)))
    edges = _limited(gaussian.edges(place.bounds, panels, sample))
    reach = np.stack([means.min(axis=(0, 1)), means.max(axis=(0, 1))], axis=1)
    margin = 0.05 * (reach[:, 1] - reach[:, 0])[:, None] * np.array([-1, 1])
    # Beyond this nothing reaches the region, and what is interpolated there is zero.
    most = place.bounds + 2 * gaussian.REACH * np.sqrt(np.diag(covariance))[:, None] * np.array([-1, 1])
    span = np.stack([np.maximum(reach, most)[:, 0], np.minimum(reach, most)[:, 1]], axis=1) + margin
    outer = _limited(_patch_edges(span, sample, panels))
    orders = zip(_orders(edges, _ORDERS, _ORDERS_WIDE), _PUSHED_ORDERS, ANGLES, strict=True)
    made = []
    for order, other, angles in orders:
        rays = Rays(steps, lambda state: jnp.asarray(0), angles, lead=2)
        smooth = gaussian.NormalKernel(steps, cells.cut(place.test, edges, order), place.bounds)
        made.append(pushed.MixedKernel(smooth, covariance, Patches(outer, other), rays))
    return made


def _given_ascents(steps: Steps, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of steps from points given numbers of the ascent, (points, draws, 2), and the covariance about them.

    Raises:
        TypeError: if they are not normal given these, or with another covariance elsewhere
    """
    rng = np.random.default_rng(1)
    count = len(points)
    ascents = rng.normal(size=(_LANDINGS, 2)) * 2
    means, slopes = [], []
    for row in ascents:
        z = np.concatenate([np.zeros((count, 2)), np.tile(row, (count, 1))], axis=1)
        mean = steps.moved(points, z)
        units = np.eye(4)[:2]
        slopes.append(np.stack([steps.moved(points, z + unit) - mean for unit in units], axis=2))
        twice = steps.moved(points, z + 2 * units.sum(axis=0))
        if not np.allclose(twice, mean + 2 * slopes[-1].sum(axis=2), rtol=1e-9, atol=1e-9 * np.abs(slopes[-1]).max()):
            raise TypeError("the step is not normal given what its ascent saw: ask escape_times")
        means.append(mean)
    slopes = np.stack(slopes, axis=1)
    if np.ptp(slopes, axis=(0, 1)).max() > 1e-7 * np.abs(slopes).max():
        raise TypeError(
            "with an ascent of its own the operator knows noise that is the same everywhere: take Gaussian noise, or "
            "ask escape_times"
        )
    slope = slopes[0, 0]
    return np.stack(means, axis=1), slope @ slope.T


def _orders(edges, usual, wide):
    return usual if np.prod([len(edge) - 1.0 for edge in edges]) <= _MANY_CELLS else wide


def _limited(edges):
    """The edges, if they make few enough cells."""
    number = np.prod([len(edge) - 1.0 for edge in edges])
    if number > _MOST_CELLS:
        raise ValueError(
            f"steps are too short for a grid: the region takes {number:.3g} cells of a few standard deviations, of "
            f"which at most {_MOST_CELLS} are worked on; take a smaller region, or ask escape_times or "
            "multilevel_splitting"
        )
    return edges


def _patch_edges(bounds: np.ndarray, sample: Affine, panels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Edges of rectangles for interpolation: as wide as a few deviations of a step, for nearly all steps."""
    deviation = np.sqrt(np.einsum("nii->ni", sample.covariance))
    number = np.ceil((bounds[:, 1] - bounds[:, 0]) / (_PATCH * np.quantile(deviation, 0.1, axis=0)))
    if panels is not None:
        number = np.ceil(number * panels / number.max())
    if not np.isfinite(number).all() or number.max() > _MOST_CELLS:
        return _limited(tuple(np.zeros(_MOST_CELLS + 2) for _ in bounds))
    return tuple(np.linspace(*ends, int(max(n, 1)) + 1) for ends, n in zip(bounds, number, strict=True))


def _looked_for(steps: Steps, place: regions.Place, start: np.ndarray | None) -> regions.Place:
    """The region within a rectangle around what is reached of it from the start."""
    if start is None:
        raise ValueError("inside does not say where it ends: give `start`, a point in it, or `box` around it")
    sample = steps.affine(start[None]) or _moments(steps, start[None])
    _check(steps, sample)
    cell = gaussian.CELL * gaussian.finest(sample)
    deviation = np.sqrt(np.diagonal(sample.covariance[0]))
    near = np.ceil(gaussian.REACH * deviation / cell).astype(int)
    return regions.within(place.holds, regions.rectangle(place.test, start, cell, near))


def _points_of(place: regions.Place) -> np.ndarray:
    """Points all over the region."""
    lines = [np.linspace(low, high, _SAMPLE) for low, high in place.bounds]
    points = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    points = points[place.test(points)]
    if not len(points):
        raise ValueError(
            f"inside holds none of {_SAMPLE} × {_SAMPLE} points of the rectangle around it: give a smaller `box`"
        )
    return points


def _moments(steps: Steps, points: np.ndarray) -> Affine:
    """Mean and covariance of steps that are not normal, from a few landings of each."""
    z = np.random.default_rng(2).normal(size=(_LANDINGS, steps.draws))
    landed = np.stack([steps.moved(points, np.tile(row, (len(points), 1))) for row in z])
    mean = landed.mean(axis=0)
    return Affine(mean, np.einsum("kni,knj->nij", landed - mean, landed - mean) / (_LANDINGS - 1))


def _check(steps: Steps, sample: Affine) -> None:
    if not (np.isfinite(sample.mean).all() and np.isfinite(sample.covariance).all()):
        raise ValueError("inside must be where steps are finite: take a smaller region")
    size = np.einsum("nii->ni", sample.covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = np.linalg.det(sample.covariance) <= 1e-12 * size.prod(axis=1)
    if flat.any():
        raise ValueError(
            "the noise must reach both coordinates everywhere in the region, and at some points a step spreads along a "
            "line at most, on which no grid follows it: ask escape_times"
        )
