"""Drawings of what goes between attractors in the plane: committors, sampled paths, and the current that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from flatdyn.core import checks
from flatdyn.escape import Committor, Current, ReactivePaths
from flatdyn.plotting.keys import explain
from flatdyn.plotting.style import check_axes, check_color

_HALF = 0.5


def draw_committor(ax: Axes, committor: Committor, name: str, *, bar: bool = True, half: bool = True, **style: Any):
    """The probability of one attractor to be reached next, as colours over the plane, with the curve where it is ½.

    Args:
        ax: where to draw
        committor: on a grid of the plane: of `fd.escape.committor(process, attractors, box=…)`
        name: of the attractor
        bar: draw the colour bar
        half: draw the curve where the probability is ½
        style: for matplotlib's `pcolormesh`, such as cmap
    Returns:
        the image
    """
    check_axes(ax)
    checks.kind("committor", committor, Committor, "fd.escape.committor(process, attractors, box=box)")
    for word, flag in {"bar": bar, "half": half}.items():
        checks.flag(word, flag)
    values = committor.of(name)
    if values.ndim != 2 or committor.points.shape[-1] != 2 or min(values.shape) < 2:
        raise ValueError(
            f"committor must lie on a grid of the plane, as with box=…, got points of shape {committor.points.shape}"
        )
    x, y = committor.points[0, :, 0], committor.points[:, 0, 1]
    image = ax.pcolormesh(x, y, values, **({"cmap": "cividis", "vmin": 0, "vmax": 1, "shading": "nearest"} | style))
    if bar:
        ax.figure.colorbar(image, ax=ax, label=f"probability of {name} next")
    if half and values.min() < _HALF < values.max():
        ax.contour(x, y, values, levels=[_HALF], colors="white", linewidths=1.1)
        explain(ax, f"{name} next in half of the cases", color="white", lw=1.1)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    return image


def draw_current(ax: Axes, current: Current, *, color: Any = "black", least: float = 0.02, **quiver: Any):
    """The reactive current as arrows, whose length is its strength.

    Args:
        ax: where to draw
        current: of `paths.current(box)`
        color, quiver: passed to matplotlib's `quiver`
        least: share of the strongest current below which there is no arrow
    Returns:
        the arrows
    """
    check_axes(ax)
    checks.kind("current", current, Current, "fd.escape.reactive_paths(…).current(box)")
    check_color("color", color)
    least = checks.number("least", least, at_least=0, below=1, one=True)
    strength = np.linalg.norm(current.flow, axis=2)
    shown = (strength > least * strength.max()) if strength.max() > 0 else np.zeros(strength.shape, bool)
    x, y = np.meshgrid(*current.centers)
    cell = np.diff(current.box, axis=1).min() / max(strength.shape)
    style = {"angles": "xy", "scale_units": "xy", "pivot": "mid", "width": 0.004, "color": color}
    style |= {"scale": (strength.max() or 1.0) / (2 * cell)}
    arrows = ax.quiver(x[shown], y[shown], *current.flow[shown].T, **(style | quiver))
    explain(ax, "reactive current", marker=r"$\rightarrow$", ls="none", color=color, ms=8)
    ax.set(xlim=current.box[0], ylim=current.box[1])
    return arrows


def draw_reactive_paths(
    ax: Axes, paths: ReactivePaths, *, most: int = 30, color: Any = "0.35", label: str = "path", **line: Any
) -> list[Line2D]:
    """Sampled paths between two attractors in the plane.

    Args:
        ax: where to draw
        paths: of `fd.escape.reactive_paths`
        most: how many are drawn, the first ones
        color, line: passed to matplotlib's `plot`
        label: what one is called in the key
    Returns:
        the lines
    """
    check_axes(ax)
    checks.kind("paths", paths, ReactivePaths, "fd.escape.reactive_paths(process, attractors, source, target)")
    most = checks.count("most", most, at_least=1)
    check_color("color", color)
    checks.text("label", label)
    if paths.theta.shape[1] != 2:
        raise ValueError(f"paths must be of two coordinates to be drawn, these have {paths.theta.shape[1]}")
    style = {"lw": 0.6, "alpha": 0.6} | line
    lines = [ax.plot(*paths.path(i).T, color=color, **style)[0] for i in range(min(most, len(paths)))]
    explain(ax, label, color=color, lw=style["lw"])
    return lines
