"""One way to draw each kind of result: `draw_*(ax, record)` draws into an axis you give, and never simulates.

`import flatdyn.plotting` leaves matplotlib's settings alone; `plotting.use_style()` switches the house style on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flatdyn import checks
from flatdyn.continuation import Branch
from flatdyn.fractions import FractionCurve
from flatdyn.labels import Basins, Labels
from flatdyn.landscapes import CriticalPoint, Landscape
from flatdyn.manifolds import Manifold
from flatdyn.processes import Process
from flatdyn.records import Ensemble, Status

# The same colour for the same method in every figure (Okabe-Ito).
METHOD_COLORS = {
    "GD": "#0072B2",
    "heavy ball": "#56B4E9",
    "Nesterov": "#009E73",
    "SAM": "#D55E00",
    "USAM": "#CC79A7",
    "DNSAM": "#E69F00",
}
DIVERGED_COLOR, UNDECIDED_COLOR = "#999999", "#F0E442"

# Light enough for black lines on top (Tol's light scheme); what holds runs at a saddle stands out.
_BASIN_PALETTES = {
    "minimum": ["#77AADD", "#44BB99", "#99DDFF", "#BBCC33"],
    "saddle": ["#EE8866", "#FFAABB", "#D9694A", "#E3A6C4"],
    "maximum": ["#AA4499"],
    "region": ["#C9B79C", "#BDD5E7", "#8FA89B"],
    "other": ["#88AAEE", "#66C2A5", "#B3A2C8", "#EEDD88"],
}

_BIFURCATION_MARKERS = {"fold": "o", "transcritical": "X", "pitchfork": "P", "flip": "^", "neimark-sacker": "s"}
_KIND_MARKERS = {"minimum": "o", "saddle": "X", "maximum": "^", "degenerate": "D"}


def use_style() -> None:
    """Switch on the house style (flatdyn/paper.mplstyle) for all figures that follow."""
    plt.style.use("flatdyn.paper")


def rho_colors(values: Sequence[float]) -> list:
    """A colour per ρ: GD's blue at ρ = 0, then SAM's orange from light to dark."""
    positive = [value for value in values if value > 0]
    shades = plt.get_cmap("YlOrRd")(np.linspace(0.4, 0.95, max(len(positive), 1)))
    darker = {value: tuple(shade[:3]) for value, shade in zip(sorted(positive), shades, strict=False)}
    return [darker.get(value, to_rgb(METHOD_COLORS["GD"])) for value in values]


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
    x, y, loss = _on_grid(landscape, box, resolution)
    if np.ndim(levels) == 0:
        levels = _levels(loss, checks.count("levels", levels, at_least=1), spacing)
    contours = ax.contour(x, y, loss, levels=levels, colors="0.72", linewidths=0.5, negative_linestyles="solid")
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    _name_axes(ax, landscape)
    return contours


def draw_paths(
    ax: Axes, ensemble: Ensemble, *, color: Any = None, label: str | None = None, ends: bool = True, **line: Any
) -> list[Line2D]:
    """Trajectories in the plane: a dot where each starts, a square where it ends, a grey cross where it diverged."""
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
    _, _, points = _grid(process, box, resolution)
    step = jax.vmap(lambda theta: process.position(process.step(process.init(theta))))(points)
    u, v = (np.asarray(step) - points).T
    length = np.hypot(u, v)
    length[length == 0] = 1
    style = {"scale": 1.3 * resolution, "width": 0.004, "pivot": "mid", "color": color} | quiver
    return ax.quiver(points[:, 0], points[:, 1], u / length, v / length, **style)


def draw_critical_points(ax: Axes, points: Iterable[CriticalPoint], *, color: Any = "black", legend: bool = False):
    """Critical points in the plane: circle minimum, cross saddle, triangle maximum, diamond degenerate."""
    drawn = {}
    for point in points:
        marker = _KIND_MARKERS[point.kind]
        drawn[point.kind] = ax.plot(
            *point.theta, marker, color=color, mfc="white" if marker in "o^D" else color, ms=5, zorder=4
        )[0]
    if legend:
        ax.legend(drawn.values(), drawn.keys())
    return drawn


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
    extent = _extent(checks.box(box, 2), labels.shape)
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
    image = ax.imshow(labels, extent=extent, cmap=ListedColormap(list(colors)), norm=norm, aspect="auto")
    if legend:
        present = [i for i in range(len(names)) if (labels == i).any()]
        ax.legend(handles=[Patch(color=colors[i], label=names[i]) for i in present], loc="upper right", frameon=True)
    return image


def basin_colors(*results: Labels | FractionCurve) -> dict[str, Any]:
    """A colour for every name in some results: cool for minima and other attractors, warm for saddles and maxima.

    Pass it to several `draw_basins` and `draw_fractions` so that a colour means the same in all of them.
    """
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
        legend: name what occurs, undecided and diverged points with their number
    Raises:
        ValueError: if the grid has another number of axes than two
    """
    if basins.labels.ndim != 2:
        raise ValueError(f"only a grid over two axes can be drawn, this has {basins.labels.ndim}")
    colors = basin_colors(basins) if colors is None else colors
    order = [*map(str, basins.names), "diverged", "undecided"]  # labels −2 and −1 count from the end
    table = np.array([to_rgb(colors[name]) for name in order])
    pixels = table[basins.labels]
    arrived = (basins.labels >= 0) & (basins.labels < len(basins.kinds))  # what ends in a region arrives nowhere
    if shade and arrived.any():
        time = np.log1p(basins.steps)
        low, high = np.percentile(time[arrived], [1, 99])
        share = np.clip((time - low) / max(high - low, 1e-9), 0, 1)
        pixels = np.where(arrived[..., None], pixels * (1 - 0.45 * share[..., None]), pixels)
    extent = _extent(basins.box, basins.labels.shape)
    image = ax.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest")
    if attractors:
        for attractor in basins.attractors:
            if (basins.labels == order.index(attractor.name)).any() and len(attractor.theta) == 2:
                marker = _KIND_MARKERS.get(attractor.kind, "o")
                ax.plot(*attractor.theta, marker, color="white", mec="black", mew=0.7, ms=5, zorder=4)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    if legend:
        counts = {name: count for name, count in basins.counts().items() if count}
        label = {
            name: f"{count} {name}" if name in ("diverged", "undecided") else name for name, count in counts.items()
        }
        ax.legend(handles=[Patch(color=colors[name], label=label[name]) for name in counts], frameon=True)
    return image


def draw_fractions(ax: Axes, curve: FractionCurve, *, colors: dict[str, Any] | None = None, legend: bool = True):
    """Basin fractions against a parameter as areas that add up to one; names with no share are left out.

    Args:
        ax: where to draw
        curve: from `fractions_in`
        colors: name -> colour, as :func:`basin_colors` gives, which is used if not given
        legend: name the areas
    """
    colors = basin_colors(curve) if colors is None else colors
    shown = [(str(name), column) for name, column in zip(curve.names, curve.fractions.T, strict=True) if column.any()]
    areas = ax.stackplot(
        curve.parameter,
        [column for _, column in shown],
        labels=[name for name, _ in shown],
        colors=[colors[name] for name, _ in shown],
        lw=0.3,
        ec="white",
    )
    ax.set(xlim=(curve.parameter.min(), curve.parameter.max()), ylim=(0, 1))
    ax.set(xlabel=curve.config["parameter"], ylabel="share of the box")
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return areas


def draw_manifold(ax: Axes, manifold: Manifold, *, color: Any = "black", **line: Any):
    """A stable or unstable manifold in the plane, and its saddle as a cross."""
    drawn = ax.plot(*manifold.theta.T, color=color, **({"lw": 0.9} | line))
    ax.plot(*manifold.saddle, "X", color=color, mec="white", mew=0.5, ms=5, zorder=4)
    return drawn


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
    height = np.linalg.norm(branch.theta, axis=1) if coordinate is None else branch.theta[:, coordinate]
    changes = np.flatnonzero(branch.stable[1:] != branch.stable[:-1]) + 1
    lines = []
    for i, piece in enumerate(np.split(np.arange(len(height)), changes)):
        reach = np.append(piece, piece[-1] + 1)[: len(height) - piece[0]]  # up to the first point of the next piece
        stable = branch.stable[piece[0]]
        lines += ax.plot(
            branch.parameter[reach],
            height[reach],
            ls="-" if stable else "--",
            lw=1.4 if stable else 0.9,
            color=color,
            label=label if i == 0 else None,
        )
    for b in branch.bifurcations:
        place = np.linalg.norm(b.theta) if coordinate is None else b.theta[coordinate]
        ax.plot(b.parameter, place, _BIFURCATION_MARKERS[b.kind], color=color, mfc="white", ms=5, zorder=4)
    ax.set(xlabel=branch.config["parameter"])
    return lines


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


def _grid(thing: Landscape | Process, box: Any, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if thing.dim != 2:
        raise ValueError(f"only what has two coordinates can be drawn in the plane, this has {thing.dim}")
    box = thing.box if box is None else box
    if box is None:
        raise ValueError("no box to draw in: pass box=((x lower, x upper), (y lower, y upper))")
    sides = checks.box(box, 2)
    resolution = checks.count("resolution", resolution, at_least=2)
    x, y = (np.linspace(*side, resolution) for side in sides)
    return x, y, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _on_grid(landscape: Landscape, box: Any, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, points = _grid(landscape, box, resolution)
    return x, y, np.asarray(landscape.loss(points)).reshape(len(y), len(x))


def _levels(loss: np.ndarray, number: int, spacing: str) -> np.ndarray:
    lowest, highest = np.nanmin(loss), np.nanmax(loss)
    if spacing == "linear":
        return np.linspace(lowest, highest, number + 2)[1:-1]
    if spacing == "log":
        span = highest - lowest
        return lowest + np.geomspace(1e-4 * span, span, number + 1)[:-1]
    raise ValueError(f"spacing must be 'log' or 'linear', got {spacing!r}")


def _extent(box: Any, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Edges of an image whose outermost pixels have their centres on the box."""
    (left, right), (low, high) = box
    x, y = (right - left) / (shape[1] - 1) / 2, (high - low) / (shape[0] - 1) / 2
    return left - x, right + x, low - y, high + y


def _axis_names(landscape: Landscape) -> list[str]:
    names = [symbol.name for symbol in getattr(landscape, "symbols", ())] if hasattr(landscape, "template") else []
    return [f"${name}$" for name in names] or [r"$\theta_1$", r"$\theta_2$"]


def _name_axes(ax: Axes, landscape: Landscape) -> None:
    ax.set(**dict(zip(("xlabel", "ylabel"), _axis_names(landscape), strict=True)))
