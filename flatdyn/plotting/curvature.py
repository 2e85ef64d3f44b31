"""Drawings of the loss along a line and on a plane, and of the density of the Hessian's eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from flatdyn.core import checks
from flatdyn.curvature import Density, Line, Plane
from flatdyn.plotting.colors import method_color, method_of
from flatdyn.plotting.keys import explain
from flatdyn.plotting.planes import contour, levels_of, spaced_levels
from flatdyn.plotting.style import check_axes, check_color, check_label


def draw_line(
    ax: Axes, line: Line, *, layers: Sequence[str] = (), color: Any = None, label: str | None = None, **style: Any
) -> list[Line2D]:
    """The loss along a line against α, or that with one layer alone on its way.

    Args:
        ax: where to draw
        line: from `curvature.interpolate` or `curvature.slice1d`
        layers: words; each layer whose name holds one is drawn instead, under its own name
        color, label, style: of the lines; with `layers` colours follow the axis' cycle if not given
    Returns:
        the lines
    Raises:
        ValueError: if no layer has such a name
    """
    check_axes(ax)
    checks.kind("line", line, Line, "flatdyn.curvature.slice1d(loss, a, b)")
    check_color("color", color)
    check_label(label)
    if isinstance(layers, str):
        layers = [layers] if layers else []
    layers = checks.sequence("layers", layers, "words")
    for word in layers:
        checks.text("layers", word)
    ax.set(xlabel=r"$\alpha$", ylabel="$L$")
    if not layers:
        return ax.plot(line.alpha, line.loss, color=color, label=label, **style)
    chosen = [i for i, name in enumerate(line.names) if any(word in name for word in layers)]
    if not chosen:
        known = ", ".join(line.names) or "none: interpolate with by_layer=True"
        raise ValueError(f"layers must be words from the names of layers, got {list(layers)}; there are {known}")
    return [
        ax.plot(line.alpha, line.layer_loss[i], color=color, label=line.names[i].lstrip("."), **style)[0]
        for i in chosen
    ]


def draw_plane(
    ax: Axes,
    plane: Plane,
    *,
    names: Sequence[str] = (),
    levels: int | Sequence[float] = 14,
    spacing: str = "log",
    marks: bool = True,
    gid: str | None = None,
):
    """Contours of the loss on a plane through parameter space, with their values, and the points it was laid through.

    Args:
        ax: where to draw
        plane: from `curvature.slice2d`
        names: of the points, as many as the plane has marks, the centre first
        levels: their number, or the levels themselves
        spacing: "log": equal ratios of L − min L, for losses that span decades; "linear": equal differences
        marks: whether to mark the points
        gid: of the contours and the points: "chaotic" where the last digits of what was trained count
    Returns:
        the contour set
    Raises:
        ValueError: if there are names for more or fewer points than there are, or `spacing` is another word
    """
    check_axes(ax)
    checks.kind("plane", plane, Plane, "flatdyn.curvature.slice2d(loss, theta)")
    for name in checks.sequence("names", names, "texts"):
        checks.text("names", name)
    levels = levels_of(levels)
    checks.choice("spacing", spacing, ("log", "linear"))
    checks.flag("marks", marks)
    if gid is not None:
        checks.text("gid", gid)
    if len(names) not in (0, len(plane.marks)):
        raise ValueError(f"names must be as many as the plane has marks, {len(plane.marks)}, got {list(names)}")
    if np.ndim(levels) == 0:
        levels = spaced_levels(plane.loss, checks.count("levels", levels, at_least=1), spacing)
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(levels)))  # by rank: levels may span decades
    contours = contour(ax, plane.x, plane.y, plane.loss, levels, colors=shades, linewidths=0.7)
    contours.set_gid(gid)
    ax.clabel(contours, fmt="%.3g", fontsize=5)
    if marks:
        ax.plot(*plane.marks.T, "o", color="black", mec="white", mew=0.5, zorder=4, gid=gid)
    if marks and not len(names):
        explain(ax, "points that the plane goes through", marker="o", ls="none", color="black")
    for name, place in zip(names, plane.marks, strict=False):
        ax.annotate(name, place, (4, 4), textcoords="offset points", zorder=5)
    ax.set(xlabel="$x$ along $d_1$", ylabel="$y$ along $d_2$")
    return contours


def draw_density(
    ax: Axes,
    density: Density,
    *,
    width: float | None = None,
    box: tuple[float, float] | None = None,
    color: Any = None,
    label: str | None = None,
    points: int = 601,
    **style: Any,
) -> Line2D:
    """Density of the Hessian's eigenvalues on a logarithmic axis, and a band of one standard error over the probes.

    Args:
        ax: where to draw
        density: from `curvature.density`
        width: standard deviation of the Gaussian it is seen through, in units of λ; a hundredth of the range drawn if
            not given
        box: λ from where to where; all that the probes saw, and a little more, if not given
        color, label, style: of the line; the colour of the method that the label names, if no other is given
        points: at which it is drawn
    Returns:
        the line
    Raises:
        ValueError: if width or points are out of range
    """
    check_axes(ax)
    checks.kind("density", density, Density, "flatdyn.curvature.density(loss, theta, key)")
    check_color("color", color)
    check_label(label)
    if color is None and label is not None and method_of(label):
        color = method_color(label)
    if width is not None:
        width = checks.number("width", width, above=0, one=True)
    box = None if box is None else checks.interval("box", box)
    weighty = density.nodes[density.weights > 0]
    low, high = (weighty.min(), weighty.max()) if box is None else box
    width = ((high - low) or abs(high) or 1.0) / 100 if width is None else width
    margin = 0 if box else 4 * width
    grid = np.linspace(low - margin, high + margin, checks.count("points", points, at_least=2, at_most=10**6))
    value, error = density.smoothed(grid, width)
    # One eigenvalue alone, seen through the Gaussian, has the height 1/(dim √(2π) width): far less is nothing.
    floor = 1 / (float(density.dim) * np.sqrt(2 * np.pi) * width) / 30
    bottom = min(floor, ax.get_ylim()[0]) if ax.lines else floor
    (line,) = ax.plot(grid, value, color=color, label=label, **style)
    band = {"color": line.get_color(), "alpha": 0.25, "lw": 0, "gid": style.get("gid")}
    ax.fill_between(grid, np.maximum(value - error, floor), np.maximum(value + error, floor), **band)
    explain(ax, "one standard error", patch=True, color="0.35", alpha=0.25, lw=0)
    top = 3 * max(np.max(drawn.get_ydata()) for drawn in ax.lines)
    ax.set(yscale="log", ylim=(bottom, top), xlabel=r"eigenvalue $\lambda$", ylabel="density")
    return line
