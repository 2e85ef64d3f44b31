"""Drawings in a plane of two parameters: a loss, trajectories on it, a field of steps, critical points, a manifold."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from flatdyn.core import checks, memory
from flatdyn.core.records import Ensemble, Status
from flatdyn.fixedpoints import Manifold
from flatdyn.landscapes import CriticalPoint, Landscape
from flatdyn.plotting.colors import DIVERGED_COLOR, KIND_MARKERS
from flatdyn.plotting.keys import draw_key, explain
from flatdyn.plotting.style import check_axes, check_color, check_label
from flatdyn.processes import Process


def draw_landscape(
    ax: Axes,
    landscape: Landscape,
    box: Any = None,
    *,
    levels: int | Sequence[float] = 14,
    spacing: str = "log",
    resolution: int = 201,
):
    """Contour lines of L over a box in the plane.

    Args:
        ax: where to draw
        landscape: a loss in two dimensions
        box: ((x lower, x upper), (y lower, y upper)); the landscape's own if not given
        levels: their number, or the levels themselves
        spacing: "log": equal ratios of L − min L, for losses that span decades; "linear": equal differences
        resolution: grid points per side
    Returns:
        the contour set
    Raises:
        ValueError: if the landscape is not in the plane, there is no box, or `spacing` is another word
    """
    check_axes(ax)
    checks.kind("landscape", landscape, Landscape)
    levels = levels_of(levels)
    checks.choice("spacing", spacing, ("log", "linear"))
    x, y, loss = _on_grid(landscape, box, resolution)
    if np.ndim(levels) == 0:
        levels = spaced_levels(loss, checks.count("levels", levels, at_least=1), spacing)
    contours = contour(ax, x, y, loss, levels, colors="0.72", linewidths=0.5)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    _name_axes(ax, landscape)
    return contours


def draw_paths(
    ax: Axes, ensemble: Ensemble, *, color: Any = None, label: str | None = None, ends: bool = True, **line: Any
) -> list[Line2D]:
    """Trajectories in the plane: a dot where each starts, a square where it ends, a grey cross where it diverged."""
    check_axes(ax)
    checks.kind("ensemble", ensemble, Ensemble, "fd.simulate(process, theta0, steps)")
    check_color("color", color)
    check_label(label)
    checks.flag("ends", ends)
    if ensemble.theta.shape[-1] != 2:
        raise ValueError(
            f"ensemble must be of two coordinates to be drawn in the plane, this has {ensemble.theta.shape[-1]}"
        )
    theta = ensemble.theta if ensemble.theta.ndim == 3 else ensemble.theta[None]
    diverged = np.atleast_1d(ensemble.status) == Status.DIVERGED
    lines = []
    for i, path in enumerate(theta):
        (drawn,) = ax.plot(*path.T, color=color, label=label if i == 0 else None, **line)
        lines.append(drawn)
        if ends:
            marker = {"color": drawn.get_color(), "mec": "white", "mew": 0.5, "zorder": 3}
            ax.plot(*path[0], "o", **marker)
            ended = {"marker": "x", "color": DIVERGED_COLOR, "mec": None} if diverged[i] else {"marker": "s"}
            ax.plot(*path[-1:].T, ls="none", gid=line.get("gid"), **(marker | ended))
    if ends:
        explain(ax, "start", marker="o", ls="none")
        if not diverged.all():
            explain(ax, "end", marker="s", ls="none")
        if diverged.any():
            explain(ax, "last point of a run that diverged", marker="x", ls="none", color=DIVERGED_COLOR)
    return lines


def draw_field(
    ax: Axes, process: Process, box: Any = None, *, resolution: int = 17, color: Any = "0.45", **quiver: Any
):
    """Arrows along one noiseless step from rest, all of the same length: where a process goes, not how fast.

    Args:
        ax: where to draw
        process: in two dimensions
        box: ((x lower, x upper), (y lower, y upper)); the process's own if not given
        resolution: arrows per side
        color, quiver: passed to matplotlib's `quiver`
    Raises:
        ValueError: if the process is not in the plane, or there is no box
    """
    check_axes(ax)
    checks.kind("process", process, Process)
    check_color("color", color)
    if getattr(getattr(process, "noise", None), "random", False):
        raise ValueError(
            "process must be without noise: its step is not one arrow; draw that of the method with noise.Exact()"
        )
    _, _, points = _grid(process, box, resolution)
    step = jax.vmap(lambda theta: process.position(process.step(process.init(theta))))(points)
    u, v = (np.asarray(step) - points).T
    length = np.hypot(u, v)
    length[length == 0] = 1
    style = {"scale": 1.3 * resolution, "width": 0.004, "pivot": "mid", "color": color} | quiver
    return ax.quiver(points[:, 0], points[:, 1], u / length, v / length, **style)


def draw_critical_points(ax: Axes, points: Iterable[CriticalPoint], *, color: Any = "black", legend: bool = False):
    """Critical points in the plane: circle minimum, cross saddle, triangle maximum, diamond degenerate."""
    check_axes(ax)
    check_color("color", color)
    checks.flag("legend", legend)
    for point in checks.sequence("points", points, "critical points"):
        checks.kind("points", point, CriticalPoint, "landscape.critical_points()")
    drawn = {}
    for point in points:
        _check_plane("points", len(point.theta))
        marker = KIND_MARKERS[point.kind]
        look = {"marker": marker, "ls": "none", "color": color, "mfc": "white" if marker in "o^D" else color, "ms": 5}
        drawn[point.kind] = ax.plot(*point.theta, zorder=4, **look)[0]
        explain(ax, point.kind, **look)
    if legend:
        draw_key(ax)
    return drawn


def draw_manifold(ax: Axes, manifold: Manifold, *, color: Any = "black", **line: Any):
    """A stable or unstable manifold in the plane, and its saddle as a cross."""
    check_axes(ax)
    checks.kind("manifold", manifold, Manifold, "fd.invariant_manifold(process, saddle, kind)")
    check_color("color", color)
    _check_plane("manifold", len(manifold.saddle))
    drawn = ax.plot(*manifold.theta.T, color=color, **({"lw": 0.9} | line))
    ax.plot(*manifold.saddle, "X", color=color, mec="white", mew=0.5, ms=5, zorder=4)
    kind = "stable" if abs(float(manifold.multiplier)) < 1 else "unstable"
    explain(ax, f"{kind} manifold", color=color, **({"lw": 0.9} | {k: v for k, v in line.items() if k in ("lw", "ls")}))
    explain(ax, "saddle", marker="X", ls="none", color=color)
    return drawn


def draw_surface(
    ax: Axes,
    landscape: Landscape,
    box: Any = None,
    *,
    paths: Iterable[tuple[Ensemble, str, Any]] = (),
    resolution: int = 61,
    zlim: tuple[float, float] | None = None,
):
    """The graph of L in three dimensions, with trajectories lying on it.

    Args:
        ax: a 3-D axis (`subplot_kw={"projection": "3d"}`)
        landscape: a loss in two dimensions
        box: ((x lower, x upper), (y lower, y upper)); the landscape's own if not given
        paths: (ensemble of one run, label, colour); the part outside the box is left out
        resolution: grid points per side
        zlim: range of L shown
    Raises:
        ValueError: if the landscape is not in the plane, or there is no box
    """
    check_axes(ax, surface=True)
    checks.kind("landscape", landscape, Landscape)
    if zlim is not None:
        zlim = checks.interval("zlim", zlim)
    for path in checks.sequence("paths", paths, "(ensemble, label, colour)"):
        if not isinstance(path, tuple | list) or len(path) != 3:
            raise TypeError(f"paths must hold (ensemble, label, colour), got {checks.shown(path)}")
        checks.kind("paths", path[0], Ensemble, "fd.simulate(process, theta0, steps)")
    x, y, loss = _on_grid(landscape, box, resolution)
    surface = ax.plot_surface(
        *np.meshgrid(x, y), loss, cmap="Greys", alpha=0.45, rcount=resolution, ccount=resolution, linewidth=0
    )
    ax.computed_zorder = False  # paths lie on the surface; let them be drawn over it
    for ensemble, label, color in paths:
        path = ensemble.theta
        inside = (path[:, 0] >= x[0]) & (path[:, 0] <= x[-1]) & (path[:, 1] >= y[0]) & (path[:, 1] <= y[-1])
        path = path[: len(path) if inside.all() else np.argmin(inside)]
        heights = np.asarray(landscape.loss(path))
        ax.plot(path[:, 0], path[:, 1], heights, color=color, label=label, zorder=5)
        ax.plot(*path[-1:].T, heights[-1:], "s", color=color, mec="white", mew=0.5, zorder=6)
    names = _axis_names(landscape)
    ax.set(xlabel=names[0], ylabel=names[1], zlabel="$L$", zlim=zlim)
    return surface


def levels_of(levels: Any) -> Any:
    """A number of levels as it is, or increasing levels, else ValueError."""
    if isinstance(levels, int | np.integer):
        return checks.count("levels", levels, at_least=1, at_most=1000)
    levels = checks.numbers("levels", levels, ndim=1, at_least=1)
    if (np.diff(levels) <= 0).any():
        raise ValueError(f"levels must increase, got {levels.tolist()}")
    return levels


def contour(ax: Axes, x: np.ndarray, y: np.ndarray, loss: np.ndarray, levels: Sequence[float], **style: Any):
    """Contour lines around what is finite, solid at every level; none, and no warning, where the loss is constant."""
    style = {"linestyles": "solid", "negative_linestyles": "solid"} | style
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No contour levels were found")
        return ax.contour(x, y, np.ma.masked_invalid(loss), levels=levels, **style)


def spaced_levels(loss: np.ndarray, number: int, spacing: str) -> np.ndarray:
    """Levels between the smallest and the largest finite loss; one alone where they are the same.

    Raises:
        ValueError: if no loss is finite, or `spacing` is another word
    """
    finite = np.asarray(loss, dtype=float)[np.isfinite(loss)]
    if finite.size == 0:
        raise ValueError("the loss is finite nowhere on the grid: draw another box")
    unit = max(1.0, np.abs(finite).max() / 2**1000)  # differences of the largest numbers are infinite
    lowest, highest = finite.min() / unit, finite.max() / unit
    checks.choice("spacing", spacing, ("log", "linear"))
    if spacing == "linear":
        levels = np.linspace(lowest, highest, number + 2)[1:-1]
    else:
        span = highest - lowest
        steps = np.geomspace(1e-4 * span, span, number + 1)[:-1] if 1e-4 * span > 0 else np.zeros(1)
        levels = lowest + steps
    return unit * np.unique(levels)  # where rounding leaves fewer, there are fewer


def _check_plane(name: str, dim: int) -> None:
    if dim != 2:
        raise ValueError(f"{name} must have two coordinates to be drawn in the plane, got {dim}")


def _grid(subject: Landscape | Process, box: Any, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _check_plane("landscape" if isinstance(subject, Landscape) else "process", subject.dim)
    box = subject.box if box is None else box
    if box is None:
        raise ValueError("no box to draw in: pass box=((x lower, x upper), (y lower, y upper))")
    sides = checks.box(box, 2)
    resolution = checks.count("resolution", resolution, at_least=2)
    needed = memory.array_bytes(12, resolution, resolution)
    memory.check_memory(needed, "the grid", "draw with a smaller `resolution`")
    x, y = (np.linspace(*side, resolution) for side in sides)
    return x, y, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _on_grid(landscape: Landscape, box: Any, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, points = _grid(landscape, box, resolution)
    return x, y, np.asarray(landscape.loss(points)).reshape(len(y), len(x))


def _axis_names(landscape: Landscape) -> list[str]:
    names = [symbol.name for symbol in getattr(landscape, "symbols", ())] if hasattr(landscape, "template") else []
    return [f"${name}$" for name in names] or [r"$\theta_1$", r"$\theta_2$"]


def _name_axes(ax: Axes, landscape: Landscape) -> None:
    ax.set(**dict(zip(("xlabel", "ylabel"), _axis_names(landscape), strict=True)))
