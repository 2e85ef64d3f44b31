"""Drawings of ratios: how much faster, or larger, something is than each of its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from flatdyn.core import checks
from flatdyn.plotting.colors import OTHER_COLORS
from flatdyn.plotting.keys import draw_key, explain
from flatdyn.plotting.style import check_axes

_FORM = "ratios must be a dict, (work, rival) -> (ratio, lowest, highest)"


def draw_ratios(
    ax: Axes,
    ratios: Mapping[tuple[str, str], Any],
    *,
    name: str = "times as fast as the rival",
    spread: str = "lowest to highest round",
    equal: str = "as fast",
    legend: bool = True,
    **style: Any,
) -> Any:
    """Ratios on a logarithmic axis with a line at 1: a row for each rival, below the work that both do.

    Args:
        ax: where to draw
        ratios: (work, rival) -> (ratio, lowest, highest), all above 0; rivals at the same work stand together
        name: of the axis
        spread, equal: what the key calls the bars, and the line at 1
        legend: write the key
        style: for matplotlib's `errorbar`
    Returns:
        the points with bars
    Raises:
        ValueError: if a ratio is not within its ends
    """
    check_axes(ax)
    for word, text in {"name": name, "spread": spread, "equal": equal}.items():
        checks.text(word, text)
    checks.flag("legend", legend)
    if not isinstance(ratios, Mapping):
        raise TypeError(f"{_FORM}, got {checks.shown(ratios)}")
    if not ratios:
        raise ValueError(f"{_FORM}, got none")
    values = {row: _ratio(row, given) for row, given in ratios.items()}
    works = list(dict.fromkeys(work for work, _ in values))
    places, heads, height = {}, {}, 0.0
    for work in works:
        heads[work] = height
        for row in (row for row in values if row[0] == work):
            height -= 1
            places[row] = height
        height -= 1.3
    ratio, low, high = np.transpose([values[row] for row in places])
    look = {"color": OTHER_COLORS[0], "marker": "o", "ms": 3.5, "ls": "none", "elinewidth": 0.9} | style
    bars = ax.errorbar(ratio, list(places.values()), xerr=[ratio - low, high - ratio], **look)
    ax.axvline(1, color="0.5", lw=0.8, zorder=0)
    beside = blended_transform_factory(ax.transAxes, ax.transData)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for work, top in heads.items():  # it begins above the rivals' names, for it may be long
        ax.text(-0.4, top, work, transform=beside, va="center", fontsize=7, fontweight="bold", bbox=ground)
    ax.set_yticks(list(places.values()), [rival for _, rival in places])
    ax.tick_params(axis="y", length=0)
    ax.set(xscale="log", ylim=(height + 0.7, 0.7), xlabel=name)
    explain(ax, spread, ls="-", lw=0.9, color=look["color"])
    explain(ax, equal, ls="-", lw=0.8, color="0.5")
    if legend:
        draw_key(ax, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
    return bars


def _ratio(row: Any, given: Any) -> np.ndarray:
    if not isinstance(row, tuple) or len(row) != 2 or not all(isinstance(word, str) for word in row):
        raise TypeError(f"{_FORM}, got the key {checks.shown(row)}")
    values = checks.numbers(f"ratios[{row!r}]", given, ndim=1)
    if len(values) != 3 or not 0 < values[1] <= values[0] <= values[2]:
        raise ValueError(
            f"ratios[{row!r}] must be (ratio, lowest, highest), 0 < lowest <= ratio, got {values.tolist()}"
        )
    return values
