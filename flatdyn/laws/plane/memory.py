"""The transfer operator of one coordinate with one number of memory, on a strip of (θ, v).

A step of heavy-ball or Nesterov momentum moves (θ, v) along a curve as its normal number varies:

    (K u)(θ, v) = ∫ u(F(θ, v, z)) φ(z) dz   over the z with θ⁺ inside the region

The memory fades by a factor μ a step. So it stays within what the gradient and seven standard deviations of the noise
can feed: that is where the strip ends.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.laws.plane import regions
from flatdyn.laws.plane.patches import Patches
from flatdyn.laws.plane.pushed import PushedKernel
from flatdyn.laws.plane.rays import ANGLES, REACH, Rays
from flatdyn.laws.plane.steps import Steps, check_jumps, critical

_ORDERS = 10, 8  # nodes of a rectangle in each coordinate
_PATCH = 5.0  # width of a rectangle in standard deviations of a step
_SAMPLE = 65  # points at which steps are looked at
_MOST_CELLS = 1200
_FADES = 0.999  # the slowest memory that is followed


def kernels(steps: Steps, inside: Any, box: Any, panels: int | None) -> tuple[list, np.ndarray]:
    """Kernels on two grids, the finer first, and the interval around the region, (1, 2).

    Raises:
        ValueError: if the region has no end, or the memory does not fade
        TypeError: if more than one normal number drives a step, or it jumps at places that are not known
    """
    if steps.draws != 1:
        raise TypeError(
            "with a memory the transfer operator knows steps of one normal number, so an ascent that shares its "
            f"minibatch or has no noise; this takes {steps.draws}: ask escape_times"
        )
    method = getattr(steps.process, "method", None)
    if getattr(method, "may_jump", False) and getattr(method, "remembers", False):
        raise TypeError(f"it is not known where a step of {checks.shown(method)} jumps: ask escape_times, or eps > 0")
    check_jumps(steps)
    place = regions.placed(inside, box, 1)
    if place.bounds is None:
        raise ValueError("inside does not say where it ends: give `box`, ((low, high),) around it")
    theta = np.linspace(*place.bounds[0], _SAMPLE)
    theta = theta[place.test(theta[:, None])]
    if not len(theta):
        raise ValueError(f"inside holds none of {_SAMPLE} points of the interval around it: give a smaller `box`")
    strip, deviation = _strip(steps, theta, place.bounds[0])
    jumps = critical(steps, place.bounds)[:, 0]
    edges = _edges(strip, deviation, jumps, panels)
    number = np.prod([len(edge) - 1.0 for edge in edges])
    if number > _MOST_CELLS:
        raise ValueError(
            f"steps are too short for a grid: the strip of (θ, v) takes {number:.3g} cells of a few standard "
            f"deviations, of which at most {_MOST_CELLS} are worked on; take a smaller region, or ask escape_times"
        )
    corners = jnp.asarray(jumps)

    def label(state):
        piece = jnp.sum(state[0] > corners)
        return jnp.where(place.holds(steps.position(state)), piece, -1)

    made = [PushedKernel(steps, Patches(edges, order), Rays(steps, label, ANGLES[0])) for order in _ORDERS]
    return made, place.bounds


def _strip(steps: Steps, theta: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rectangle of (θ, v) in which runs stay, and the standard deviations of a step in both."""

    def moved(theta, v, z):
        theta, v, z = (x.ravel() for x in np.broadcast_arrays(theta, v, z))
        return steps.moved(np.stack([theta, v], axis=1), z[:, None])

    rest = moved(theta, 0.0, 0.0)
    swing = moved(theta, 0.0, 1.0) - moved(theta, 0.0, -1.0)
    if not (np.isfinite(rest).all() and np.isfinite(swing).all()):
        raise ValueError("inside must be where steps are finite: take a smaller region")
    deviation = np.quantile(np.abs(swing) / 2, 0.1, axis=0)
    if not (deviation > 0).all():
        raise ValueError("the noise must reach both the coordinate and its memory: ask escape_times")
    fades = np.abs(moved(theta, deviation[1], 0.0) - rest)[:, 1].max() / deviation[1]
    if fades > _FADES:
        raise ValueError(
            f"a memory that fades by a factor {fades:.4g} a step reaches too far back for a grid: ask escape_times"
        )
    shock = max(np.abs(moved(theta, 0.0, z) - rest)[:, 1].max() for z in (REACH, -REACH)) / np.sqrt(1 - fades**2)
    low, high = rest[:, 1].min() / (1 - fades) - shock, rest[:, 1].max() / (1 - fades) + shock
    z = np.linspace(-REACH, REACH, 29)
    for _ in range(3):  # less, where those that stay inside do not get so far
        v = np.linspace(low, high, 33)
        after = moved(theta[:, None, None], v[:, None], z)
        within = after[(after[:, 0] >= ends[0]) & (after[:, 0] <= ends[1]), 1]
        if not len(within):
            break
        margin = deviation[1]
        low, high = max(low, within.min() - margin), min(high, within.max() + margin)
    return np.array([ends, [low, high]]), deviation


def _edges(strip: np.ndarray, deviation: np.ndarray, jumps: np.ndarray, panels: int | None) -> tuple:
    number = np.maximum(np.ceil((strip[:, 1] - strip[:, 0]) / (_PATCH * deviation)), 2)
    if panels is not None:
        number = np.maximum(np.ceil(number * panels / number.max()), 1)
    ends = np.array([strip[0, 0], *np.sort(jumps), strip[0, 1]])
    share = [max(1, round(float(number[0]) * side / (strip[0, 1] - strip[0, 0]))) for side in np.diff(ends)]
    first = np.concatenate(
        [np.linspace(a, b, n + 1)[:-1] for a, b, n in zip(ends[:-1], ends[1:], share, strict=True)] + [strip[0, 1:]]
    )
    return first, np.linspace(*strip[1], int(number[1]) + 1)
