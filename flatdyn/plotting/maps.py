"""Drawings of a number over two settings, with its values in the cells or with contours, and of SAM's capture set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import NullLocator

from flatdyn.core import checks
from flatdyn.plotting.basins import draw_labels
from flatdyn.plotting.keys import draw_key, explain, setting
from flatdyn.plotting.style import check_axes
from flatdyn.stability import quadratic

_CAPTURED, _ESCAPES = "#F5B78E", "0.93"  # a light SAM, dark enough in grey to be told from what escapes


def draw_map(
    ax: Axes,
    x: Any,
    y: Any,
    values: Any,
    *,
    name: str,
    numbers: Any = None,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    contours: Mapping[str, Any] | None = None,
    bar: bool = True,
    legend: bool = True,
    **style: Any,
):
    """A number over two settings as colours, with numbers in its cells, or on its axes with curves where others are 0.

    With `numbers` the cells are equally large and labelled by their settings; without, they lie where their settings
    are, so that the axes may be logarithmic.

    Args:
        ax: where to draw
        x, y: settings, increasing, shapes (nx,) and (ny,)
        values: at the j-th y and the i-th x, shape (ny, nx); NaN is left white
        name: of the values, for the colour bar
        numbers: to write into the cells, shape (ny, nx), or True for the values; infinite and NaN are "–"
        limits: of the colours; those of the values if not given, beyond them the colours stay
        log: colours by the logarithm
        contours: name -> z, shape (ny, nx), or (x, y, z) on a grid of its own; a curve where z = 0
        bar: draw the colour bar; leave it for several maps with one: figure.colorbar(image, ax=axes, label=name)
        legend: write the key of the contours
        style: for matplotlib's `pcolormesh` or `imshow`, such as cmap
    Returns:
        the image
    """
    check_axes(ax)
    checks.text("name", name)
    for word, flag in {"log": log, "bar": bar, "legend": legend}.items():
        checks.flag(word, flag)
    x, y = _increasing("x", x), _increasing("y", y)
    values = _table("values", values, (len(y), len(x)))
    norm = _norm(values, limits, log)
    style = {"cmap": "cividis", "norm": norm} | style
    if numbers is None or numbers is False:
        image = ax.pcolormesh(x, y, values, shading="nearest", **style)
    else:
        written = values if numbers is True else _table("numbers", numbers, values.shape)
        image = ax.imshow(values, origin="lower", aspect="auto", interpolation="nearest", **style)
        _write(ax, image, written)
        for axis, settings in ((ax.xaxis, x), (ax.yaxis, y)):
            axis.set_ticks(range(len(settings)), [f"{one:g}" for one in settings])
            axis.set_minor_locator(NullLocator())
    contours = {} if contours is None else checks.mapping("contours", contours, "name -> (x, y, z)")
    if contours and numbers is not None and numbers is not False:
        raise ValueError("contours must be drawn on the axes of the settings: leave out numbers")
    for (label, curve), line in zip(contours.items(), ("-", "--", ":", "-.") * len(contours), strict=False):
        _zero(ax, label, curve, (x, y, values.shape), line)
    if bar:
        ax.figure.colorbar(image, ax=ax, label=name, extend=_beyond(values, norm))
    if contours and legend:
        draw_key(ax)
    return image


def draw_capture_set(
    ax: Axes, rho: float, box: Any, *, captured: Any = None, resolution: int = 200, legend: bool = True
):
    """SAM's capture set at the saddle L = (a/2)(w₁² − w₂²), w₁ along x: where it ends at the saddle, and the boundary.

        captured  ⟺  |w₁ w₂| < ρ² κ(|w₂/w₁|)²

    Args:
        ax: where to draw
        rho: ascent radius ρ > 0, in units of θ
        box: ((x lower, x upper), (y lower, y upper)): centres of the outermost cells
        captured: which starts of a grid over the box ended at the saddle in a simulation, shape (ny, nx) bool; if not
            given the exact set is shaded
        resolution: cells per side of the exact set
        legend: write the key
    Returns:
        the image and the lines of the exact boundary, one in each quadrant that the box reaches
    """
    check_axes(ax)
    rho = checks.number("rho", rho, above=0, one=True)
    checks.flag("legend", legend)
    sides = checks.box(box, 2)
    if captured is None:
        ticks = [np.linspace(*side, checks.count("resolution", resolution, at_least=2, at_most=5000)) for side in sides]
        inside = quadratic.captured(np.stack(np.meshgrid(*ticks), axis=-1), rho)
    else:
        inside = checks.flags("captured", captured)
        if inside.ndim != 2:
            raise ValueError(f"captured must have shape (ny, nx), got {inside.shape}")
    names = ["escapes", "ends at the saddle" + (" (simulated)" if captured is not None else "")]
    image = draw_labels(ax, box, inside.astype(int), names, [_ESCAPES, _CAPTURED], legend=False)
    # logarithmic spirals of ratios: from far out along one axis to far out along the other
    curve = quadratic.capture_curve(np.geomspace(1e-6, 1e6, 800), rho)
    lines = []
    for sign in np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]):
        x, y = sign[:, None] * curve
        if ((x >= sides[0][0]) & (x <= sides[0][1]) & (y >= sides[1][0]) & (y <= sides[1][1])).any():
            label = f"exact boundary, {setting(rho=rho)}" if not lines else None
            lines += ax.plot(x, y, color="black", lw=0.9, label=label)
    ax.set(xlim=sides[0], ylim=sides[1], xlabel="$x$ (stable)", ylabel="$y$ (unstable)")
    if legend:
        draw_key(ax, loc="upper right")
    return image, lines


def _increasing(name: str, values: Any) -> np.ndarray:
    values = checks.numbers(name, values, ndim=1, at_least=1)
    if (np.diff(values) <= 0).any():
        raise ValueError(f"{name} must increase, got {checks.shown(values.tolist())}")
    return values


def _table(name: str, values: Any, shape: tuple[int, int]) -> np.ndarray:
    values = checks.entries(name, values, "a table of numbers")
    if values.shape != shape:
        raise ValueError(f"{name} must have one row for each y and one column for each x, {shape}, got {values.shape}")
    return values


def _norm(values: np.ndarray, limits: Any, log: bool) -> Normalize:
    good = values[np.isfinite(values) & ((values > 0) | (not log))]
    if limits is None:
        if not good.size:
            raise ValueError("values must hold at least one finite number" + (" above 0" if log else ""))
        limits = good.min(), good.max()
        if limits[0] == limits[1]:
            limits = (limits[0] / 2, limits[0] * 2) if log else (limits[0] - 0.5, limits[0] + 0.5)
    else:
        limits = checks.interval("limits", limits)
        if log:
            checks.number("limits", limits[0], above=0)
    return (LogNorm if log else Normalize)(*limits)


def _beyond(values: np.ndarray, norm: Normalize) -> str:
    good = values[~np.isnan(values)]
    low, high = bool((good < norm.vmin).any()), bool((good > norm.vmax).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[low, high]


def _write(ax: Axes, image: Any, numbers: np.ndarray) -> None:
    """Numbers in the middle of the cells, white on dark ones."""
    values = image.get_array()
    colors = image.cmap(image.norm(values))[..., :3]
    for (j, i), number in np.ndenumerate(numbers):
        text = f"{number:.3g}" if np.isfinite(number) and abs(number) < 100 else f"{number:.0f}"
        dark = colors[j, i] @ [0.2126, 0.7152, 0.0722] < 0.45 and not np.ma.getmaskarray(values)[j, i]
        shown = text if np.isfinite(number) else "–"
        ax.text(i, j, shown, ha="center", va="center", fontsize=6, color="white" if dark else "black")


def _zero(ax: Axes, label: str, curve: Any, grid: tuple[np.ndarray, np.ndarray, tuple], line: str) -> None:
    """The curve where z = 0, black on white so that it is seen on every colour, and its place in the key."""
    x, y, shape = grid
    if isinstance(curve, tuple | list) and len(curve) == 3 and np.ndim(curve[0]) == 1:
        x, y = _increasing(f"contours[{label!r}]", curve[0]), _increasing(f"contours[{label!r}]", curve[1])
        shape, curve = (len(y), len(x)), curve[2]
    z = _table(f"contours[{label!r}]", curve, shape)
    if min(z.shape) < 2:
        raise ValueError(f"contours[{label!r}] must lie on at least 2 by 2 settings, got {z.shape}")
    stroke = [effects.withStroke(linewidth=2.5, foreground="white")]
    if np.nanmin(z) < 0 < np.nanmax(z):
        drawn = ax.contour(x, y, np.ma.masked_invalid(z), levels=[0], colors="black", linewidths=1.1, linestyles=[line])
        drawn.set_path_effects(stroke)
    explain(ax, label, color="black", lw=1.1, ls=line, path_effects=stroke)
