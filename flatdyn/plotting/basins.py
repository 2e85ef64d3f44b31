"""Drawings of where runs end: basins, their shares, maps of labels, and branches of fixed points over a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb

from flatdyn.basins import Basins, FractionCurve, Labels
from flatdyn.core import checks
from flatdyn.fixedpoints import Branch
from flatdyn.plotting.colors import DIVERGED_COLOR, KIND_MARKERS, UNDECIDED_COLOR
from flatdyn.plotting.keys import draw_key, explain, quantity_name
from flatdyn.plotting.style import check_axes, check_color, check_colors, check_label

# Greens for what attracts as it should, purple to red for what holds runs at a saddle; unlike GD's blue, SAM's orange
_BASIN_PALETTES = {
    "minimum": ["#4DBB6A", "#C3EBC3", "#5FD3DC", "#2E7D4F"],
    "saddle": ["#D272E8", "#874B87", "#C02442", "#F3BDF0"],
    "maximum": ["#33246B"],
    "region": ["#D9C7A3", "#A08A6A", "#E6E0D4"],
    "other": ["#A8A0D6", "#7FC8B0", "#E6D690", "#C7A5B8"],
}

_BIFURCATION_MARKERS = {"fold": "o", "transcritical": "X", "pitchfork": "P", "flip": "^", "neimark-sacker": "s"}


def draw_labels(
    ax: Axes, box: Any, labels: np.ndarray, names: Sequence[str], colors: Sequence[Any], *, legend: bool = True
):
    """A map of whole-number labels over a box in the plane: `labels[j, i]` at the i-th x and j-th y.

    Args:
        ax: where to draw
        box: ((x lower, x upper), (y lower, y upper)): centres of the outermost cells
        labels: whole numbers 0 … len(names) − 1, shape (ny, nx)
        names, colors: one per label
        legend: name the labels that occur
    """
    check_axes(ax)
    if not len(checks.sequence("names", names, "texts")):
        raise ValueError("names must hold at least one text, one for each label")
    for name in names:
        checks.text("names", name)
    labels = checks.labels("labels", labels, len(names))
    if len(checks.sequence("colors", colors, "colours")) != len(names):
        raise ValueError(f"colors must be as many as names, {len(names)}, got {len(colors)}")
    for color in colors:
        check_color("colors", color)
    checks.flag("legend", legend)
    extent = _extent(checks.box(box, 2), labels.shape)
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
    image = ax.imshow(labels, cmap=ListedColormap(list(colors)), norm=norm, **_laid(extent))
    for i in [i for i in range(len(names)) if (labels == i).any()]:
        explain(ax, names[i], patch=True, color=colors[i])
    if legend:
        draw_key(ax, loc="upper right")
    return image


def basin_colors(*results: Labels | FractionCurve) -> dict[str, Any]:
    """A colour for every name in some results: green for minima, purple and red for saddles and maxima.

    Pass it to several `draw_basins` and `draw_fractions` so that a colour means the same in all of them.
    """
    for result in results:
        checks.kind("results", result, (Labels, FractionCurve), "fd.map_basins(process)")
    kinds: dict[str, str] = {}
    for result in results:
        if isinstance(result, Labels):
            kinds |= dict.fromkeys(map(str, result.names), "region")
            kinds |= {attractor.name: attractor.kind for attractor in result.attractors}
        else:
            last = [next((k for k in column[::-1] if k), "region") for column in result.kinds.T]
            kinds |= dict(zip(map(str, result.names), map(str, last), strict=True))
    colors = {"diverged": DIVERGED_COLOR, "undecided": UNDECIDED_COLOR}
    palettes = {kind: iter(palette * 9) for kind, palette in _BASIN_PALETTES.items()}
    for name, kind in kinds.items():
        colors.setdefault(name, None if name in colors else next(palettes[kind if kind in palettes else "other"]))
    return colors


def draw_basins(
    ax: Axes,
    basins: Basins,
    *,
    colors: dict[str, Any] | None = None,
    shade: bool = True,
    attractors: bool = True,
    legend: bool = True,
):
    """Basins on a plane grid: a colour per attractor, darker where it takes more steps to get there.

    Args:
        ax: where to draw
        basins: labels on a grid of two axes
        colors: name -> colour, as :func:`basin_colors` gives, which is used if not given
        shade: darken by the logarithm of the steps
        attractors: mark their positions, as far as they lie in the plane that is drawn
        legend: name what occurs, undecided and diverged points with their number; `draw_key(figure)` writes one key
            for several maps without
    Raises:
        ValueError: if the grid has another number of axes than two
    """
    check_axes(ax)
    checks.kind("basins", basins, Basins, "fd.map_basins(process)")
    for name, value in {"shade": shade, "attractors": attractors, "legend": legend}.items():
        checks.flag(name, value)
    check_colors(colors, [*map(str, basins.names), "diverged", "undecided"])
    if basins.labels.ndim != 2:
        raise ValueError(f"only a grid over two axes can be drawn, this has {basins.labels.ndim}")
    colors = basin_colors(basins) if colors is None else colors
    order = [*map(str, basins.names), "diverged", "undecided"]  # labels −2 and −1 count from the end
    table = np.array([to_rgb(colors[name]) for name in order])
    pixels = table[basins.labels]
    counts = {name: count for name, count in basins.counts().items() if count}
    for name, count in counts.items():
        label = f"{count} {name}" if legend and name in ("diverged", "undecided") else name
        explain(ax, label, patch=True, color=colors[name])
    arrived = (basins.labels >= 0) & (basins.labels < len(basins.kinds))  # what ends in a region arrives nowhere
    if shade and arrived.any():
        time = np.log1p(basins.steps)
        low, high = np.percentile(time[arrived], [1, 99])
        share = np.clip((time - low) / max(high - low, 1e-9), 0, 1)
        pixels = np.where(arrived[..., None], pixels * (1 - 0.45 * share[..., None]), pixels)
        explain(ax, "darker: arrives later", patch=True, color="0.55")
    extent = _extent(basins.box, basins.labels.shape)
    image = ax.imshow(pixels, **_laid(extent))
    if attractors:
        for attractor in basins.attractors:
            if (basins.labels == order.index(attractor.name)).any() and len(attractor.theta) == 2:
                look = {"marker": KIND_MARKERS.get(attractor.kind, "o"), "ls": "none", "color": "white"}
                look |= {"mec": "black", "mew": 0.7, "ms": 5}
                ax.plot(*attractor.theta, zorder=4, **look)
                explain(ax, f"attractor: {attractor.kind or 'point'}", **look)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    if legend:
        draw_key(ax)
    return image


def draw_fractions(
    ax: Axes, curve: FractionCurve, *, colors: dict[str, Any] | None = None, legend: bool = True, **style: Any
):
    """Basin fractions against a parameter as areas that add up to one; names with no share are left out.

    Args:
        ax: where to draw
        curve: from `fractions_in`
        colors: name -> colour, as :func:`basin_colors` gives, which is used if not given
        legend: name the areas
        style: of the areas, for matplotlib's `stackplot`, such as gid
    """
    check_axes(ax)
    checks.kind("curve", curve, FractionCurve, "fd.fractions_in(...)")
    checks.flag("legend", legend)
    check_colors(colors, map(str, curve.names))
    colors = basin_colors(curve) if colors is None else colors
    shown = [(str(name), column) for name, column in zip(curve.names, curve.fractions.T, strict=True) if column.any()]
    order = np.argsort(curve.parameter, kind="stable")
    values, low, high = curve.parameter[order], curve.parameter.min(), curve.parameter.max()
    if low == high:  # one value alone has no width of its own
        low, high = low - 0.5, high + 0.5
        values, order = np.array([low, high]), order[[0, -1]]
    areas = ax.stackplot(
        values,
        [column[order] for _, column in shown],
        labels=[name for name, _ in shown],
        colors=[colors[name] for name, _ in shown],
        **{"lw": 0.3, "ec": "white"} | style,
    )
    ax.set(xlim=(low, high), ylim=(0, 1))
    ax.set(xlabel=quantity_name(curve.config["parameter"]), ylabel="share of the box")
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return areas


def draw_branch(
    ax: Axes, branch: Branch, coordinate: int | None = 0, *, color: Any = "black", label: str | None = None
):
    """A branch of fixed points over its parameter: solid where it attracts, dashed where not, bifurcations marked.

    Args:
        ax: where to draw
        branch: from `fixedpoints.continue_in`
        coordinate: which coordinate of θ is drawn; None for ‖θ‖
        color, label: of the lines
    Returns:
        the lines
    """
    check_axes(ax)
    checks.kind("branch", branch, Branch, "fd.fixedpoints.continue_in(...)")
    check_color("color", color)
    check_label(label)
    if coordinate is not None:
        coordinate = checks.count("coordinate", coordinate, at_most=branch.theta.shape[1] - 1)
    height = np.linalg.norm(branch.theta, axis=1) if coordinate is None else branch.theta[:, coordinate]
    changes = np.flatnonzero(branch.stable[1:] != branch.stable[:-1]) + 1
    lines, pieces = [], np.split(np.arange(len(height)), changes)
    named = next((i for i, piece in enumerate(pieces) if branch.stable[piece[0]]), 0)  # solid in a key, if any is
    for i, piece in enumerate(pieces):
        reach = np.append(piece, piece[-1] + 1)[: len(height) - piece[0]]  # up to the first point of the next piece
        stable = branch.stable[piece[0]]
        explain(ax, "attracts" if stable else "repels", ls="-" if stable else "--", lw=1.4 if stable else 0.9)
        lines += ax.plot(
            branch.parameter[reach],
            height[reach],
            ls="-" if stable else "--",
            lw=1.4 if stable else 0.9,
            color=color,
            label=label if i == named else None,
        )
    for b in branch.bifurcations:
        place = np.linalg.norm(b.theta) if coordinate is None else b.theta[coordinate]
        look = {"marker": _BIFURCATION_MARKERS[b.kind], "ls": "none", "mfc": "white", "ms": 5}
        ax.plot(b.parameter, place, color=color, zorder=4, **look)
        explain(ax, b.kind, **look)
    ax.set(xlabel=quantity_name(branch.config["parameter"]))
    return lines


def _extent(box: Any, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Edges of an image whose outermost pixels have their centres on the box."""
    (left, right), (low, high) = box
    x, y = (right - left) / max(shape[1] - 1, 1) / 2, (high - low) / max(shape[0] - 1, 1) / 2
    return left - x, right + x, low - y, high + y


def _laid(extent: tuple) -> dict[str, Any]:
    """How an image lies on its axis, whatever the style in use says: the first row at the bottom, no mixed colours."""
    return {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
