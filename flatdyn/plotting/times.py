"""Drawings against the step: distances and losses of named runs, and the share of runs that is still inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from flatdyn.core import checks
from flatdyn.core.records import Ensemble
from flatdyn.escape import Escapes, ExitLaw
from flatdyn.landscapes import Landscape
from flatdyn.plotting.colors import styles
from flatdyn.plotting.keys import draw_key, explain
from flatdyn.plotting.style import check_axes, check_color

_POINTS = 36  # of a survival curve beside a law


def draw_distance(
    ax: Axes,
    runs: Mapping[str, Ensemble],
    point: Any,
    *,
    of: str = "the saddle",
    colors: Any = None,
    legend: bool = True,
    **line: Any,
) -> dict[str, list]:
    """Distance ‖θ − θ*‖ from a point against the step, on a logarithmic axis, for several named runs.

    Args:
        ax: where to draw
        runs: name -> what `fd.simulate` gave; of many runs each is a line
        point: θ*, shape (dim,)
        of: what the point is, for the name of the axis
        colors: one for each name; those of the methods that the names name if not given
        legend: write the key
        line: for matplotlib's `plot`
    Returns:
        name -> its lines
    """
    runs = _check_runs(ax, runs, legend)
    checks.text("of", of)
    dim = next(iter(runs.values())).theta.shape[-1]
    point = np.asarray(checks.point("point", point, dim))
    drawn = _against_steps(ax, runs, lambda theta: np.linalg.norm(theta - point, axis=-1), colors, legend, line)
    ax.set(ylabel=f"distance from {of}", yscale="log")
    return drawn


def draw_loss(
    ax: Axes,
    runs: Mapping[str, Ensemble],
    landscape: Landscape,
    *,
    above: float = 0.0,
    colors: Any = None,
    legend: bool = True,
    **line: Any,
) -> dict[str, list]:
    """Loss L(θ) against the step for several named runs.

    Args:
        ax: where to draw
        runs: name -> what `fd.simulate` gave; of many runs each is a line
        landscape: whose loss
        above: a number that is taken off, such as the smallest loss, for a logarithmic axis
        colors, legend, line: as in :func:`draw_distance`
    Returns:
        name -> its lines
    """
    runs = _check_runs(ax, runs, legend)
    checks.kind("landscape", landscape, Landscape)
    above = checks.number("above", above, one=True)
    if (dim := next(iter(runs.values())).theta.shape[-1]) != landscape.dim:
        raise ValueError(f"landscape must have as many coordinates as the runs, {dim}, this has {landscape.dim}")
    drawn = _against_steps(
        ax, runs, lambda theta: np.asarray(landscape.loss(theta), dtype=float) - above, colors, legend, line
    )
    ax.set(ylabel="loss" if above == 0 else f"loss above {above:.3g}")
    return drawn


def draw_survival(
    ax: Axes,
    escapes: Mapping[str, Escapes],
    *,
    laws: Mapping[str, ExitLaw] | None = None,
    at: Any = None,
    level: float = 0.95,
    bounds: Mapping[str, Any] | None = None,
    colors: Any = None,
    legend: bool = True,
    **style: Any,
) -> dict[str, list]:
    """Share of runs still inside, P(T > k), against the step k: Kaplan and Meier's estimate, and the law beside it.

    Without a law the estimate is a line with a band; where there are laws, it is points with bars beside lines.

    Args:
        ax: where to draw
        escapes: name -> what `fd.escape_times` gave
        laws: name -> what `fd.escape.exit_law` gave
        at: steps at which points are drawn, where there are laws; if not given some 36, evenly on a logarithmic axis
        level: of the pointwise intervals
        bounds: name -> (steps, lower, upper): a shaded region in which theory says that the curve lies
        colors: one for each name; those of the methods that the names name if not given
        legend: write the key
        style: of the estimates
    Returns:
        name -> its artists
    """
    check_axes(ax)
    escapes = checks.mapping("escapes", escapes, "name -> fd.escape_times(...)")
    if not escapes:
        raise ValueError("escapes must hold at least one name -> fd.escape_times(...)")
    for name, seen in escapes.items():
        checks.kind(f"escapes[{name!r}]", seen, Escapes, "fd.escape_times(...)")
    laws = {} if laws is None else checks.mapping("laws", laws, "name -> fd.escape.exit_law(...)")
    for name, law in laws.items():
        checks.kind(f"laws[{name!r}]", law, ExitLaw, "fd.escape.exit_law(...)")
    bounds = {} if bounds is None else checks.mapping("bounds", bounds, "name -> (steps, lower, upper)")
    level = checks.number("level", level, above=0, below=1, one=True)
    at = None if at is None else np.unique(checks.wholes("at", at, ndim=1))
    checks.flag("legend", legend)
    looks = styles(list(dict.fromkeys([*escapes, *laws])), colors)
    last = int(max(seen.steps.max() for seen in escapes.values()))
    drawn: dict[str, list] = {}
    for name, region in bounds.items():
        steps, low, high = _region(name, region)
        drawn[name] = [ax.fill_between(steps, low, high, color="0.8", lw=0, zorder=0, label=name)]
    for name, seen in escapes.items():
        color = looks[name]["color"]
        if laws:
            steps = np.unique(np.geomspace(1, max(last, 2), _POINTS).astype(int)) if at is None else at
            curve = seen.survival(steps[steps <= seen.steps.max()], level)
            look = {"fmt": looks[name]["marker"], "ms": 2.5, "lw": 0.8, "mfc": looks[name].get("mfc")} | style
            ends = np.maximum([curve.value - curve.lower, curve.upper - curve.value], 0)
            bars = ax.errorbar(curve.steps, curve.value, ends, color=color, label=name, **look)
            for artist in bars.get_children():
                artist.set_gid(style.get("gid"))
            drawn[name] = [bars]
        else:
            curve = seen.survival(np.arange(int(seen.steps.max()) + 1) if last < 10**6 else None, level)
            look = {"color": color, "ls": looks[name]["ls"]} | style
            (line,) = ax.plot(curve.steps, curve.value, drawstyle="steps-post", label=name, **look)
            shade = {"step": "post", "color": color, "alpha": 0.25, "lw": 0, "gid": style.get("gid")}
            drawn[name] = [line, ax.fill_between(curve.steps, curve.lower, curve.upper, **shade)]
    steps = np.unique(np.geomspace(1, max(last, 2), 400).astype(int))
    for name, law in laws.items():
        look = {"color": looks[name]["color"], "ls": "-", "label": None if name in escapes else name}
        drawn.setdefault(name, []).extend(ax.plot(steps, law.survival(steps), **look))
    if laws:
        explain(ax, "simulated", marker="o", ls="none")
        explain(ax, f"{100 * level:g} % interval", ls="-", lw=0.9)
        explain(ax, "exact law", ls="-")
    else:
        explain(ax, f"{100 * level:g} % interval", patch=True, color="0.35", alpha=0.25, lw=0)
    ax.set(xlabel="step $k$", ylabel="share still inside, $P(T > k)$", ylim=(0, 1.03))
    if legend:
        draw_key(ax)
    return drawn


def _region(name: str, region: Any) -> list[np.ndarray]:
    table = checks.numbers(f"bounds[{name!r}]", region, ndim=2)
    if len(table) != 3:
        raise ValueError(f"bounds[{name!r}] must be (steps, lower, upper), got shape {table.shape}")
    return list(table)


def _check_runs(ax: Axes, runs: Any, legend: bool) -> Mapping[str, Ensemble]:
    check_axes(ax)
    checks.flag("legend", legend)
    runs = checks.mapping("runs", runs, "name -> fd.simulate(process, theta0, steps)")
    if not runs:
        raise ValueError("runs must hold at least one name -> fd.simulate(process, theta0, steps)")
    for name, run in runs.items():
        checks.kind(f"runs[{name!r}]", run, Ensemble, "fd.simulate(process, theta0, steps)")
    if len({run.theta.shape[-1] for run in runs.values()}) > 1:
        raise ValueError("runs must all have as many coordinates")
    return runs


def _against_steps(
    ax: Axes, runs: Mapping[str, Ensemble], value: Any, colors: Any, legend: bool, line: dict[str, Any]
) -> dict[str, list]:
    looks, drawn = styles(list(runs), colors), {}
    for i, (name, run) in enumerate(runs.items()):
        heights = np.atleast_2d(value(run.theta))
        # few markers, at other places on each curve: in grey they tell the curves apart
        few = {"markevery": (0.03 + 0.17 * i / len(runs), 0.17), "ms": 4}
        check_color("color", line.get("color"))
        look = looks[name] | few | line
        drawn[name] = [
            ax.plot(run.times, height, label=name if j == 0 else None, **look)[0] for j, height in enumerate(heights)
        ]
    ax.set(xlabel="step")
    if legend:
        draw_key(ax)
    return drawn
