"""Drawings of the least noise: the cheapest path in the plane, and the cost of reaching each point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from flatdyn.core import checks
from flatdyn.escape import LeastNoise, QuasiPotential
from flatdyn.plotting.keys import explain
from flatdyn.plotting.planes import contour, levels_of, spaced_levels
from flatdyn.plotting.style import check_axes, check_color, check_label


def draw_quasipotential(
    ax: Axes, field: QuasiPotential, *, levels: int | Sequence[float] = 10, bar: bool = True, label: str | None = None
):
    """The cost V of reaching each point: shades and contours in the plane, a curve on a line.

    Args:
        ax: where to draw
        field: from `fd.escape.quasipotential`
        levels: of V, their number or the levels themselves
        bar: draw the colour bar in the plane; leave it for several fields with one
        label: of the curve on a line
    Returns:
        the contour set, or the line
    """
    check_axes(ax)
    checks.kind("field", field, QuasiPotential, "fd.escape.quasipotential(process, box, start)")
    levels = levels_of(levels)
    checks.flag("bar", bar)
    check_label(label)
    name = "least noise $V$, per unit of batch size"
    if len(field.axes) == 1:
        (line,) = ax.plot(field.axes[0], field.values, label=label)
        ax.set_ylabel(name)
        return line
    if np.ndim(levels) == 0:
        levels = spaced_levels(field.values, levels, "linear")
    x, y = field.axes
    shades = ax.pcolormesh(x, y, np.ma.masked_invalid(field.values), shading="gouraud", cmap="cividis", vmin=0)
    if bar:
        ax.figure.colorbar(shades, ax=ax, label=name)
    contours = contour(ax, x, y, field.values, levels, colors="white", linewidths=0.5)
    ax.plot(*field.start, "o", color="black", mec="white", mew=0.5, zorder=4)
    explain(ax, "start", marker="o", ls="none", color="black")
    return contours


def draw_least_noise(
    ax: Axes, luck: LeastNoise, *, color: Any = "black", label: str | None = None, **line: Any
) -> Line2D:
    """The cheapest path in the plane: a dot at each step, a ring at each that rides where an ascent jumps.

    Args:
        ax: where to draw
        luck: from `fd.escape.least_noise`, of two coordinates
        color, label, line: for matplotlib's `plot`
    Returns:
        the line
    Raises:
        ValueError: if the path is not in the plane
    """
    check_axes(ax)
    checks.kind("luck", luck, LeastNoise, "fd.escape.least_noise(process, start, target)")
    check_color("color", color)
    check_label(label)
    if luck.path.shape[1] != 2:
        raise ValueError(f"luck must be of two coordinates to be drawn in the plane, this has {luck.path.shape[1]}")
    style = {"marker": ".", "ms": 3, "lw": 0.9} | line
    (drawn,) = ax.plot(*luck.path.T, color=color, label=label, **style)
    ax.plot(*luck.path[-1:].T, "s", color=color, mec="white", mew=0.5, zorder=4)
    explain(ax, "end of the cheapest path", marker="s", ls="none", color=color)
    if luck.riding.any():
        ring = {"marker": "o", "ls": "none", "mfc": "none", "mec": color, "ms": 5}
        ax.plot(*luck.path[:-1][luck.riding].T, zorder=4, **ring)
        explain(ax, "step on a jump of the ascent", **ring)
    return drawn
