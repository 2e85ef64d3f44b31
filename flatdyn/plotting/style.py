"""The house style, and checks of what drawing functions are given."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like

from flatdyn.core import checks


def check_axes(ax: Any, *, surface: bool = False) -> None:
    """Raise TypeError unless this is an axis of matplotlib, in three dimensions for a surface."""
    checks.kind("ax", ax, Axes, "_, ax = plt.subplots()")
    if surface and not hasattr(ax, "plot_surface"):
        raise TypeError('ax must be in three dimensions: write plt.subplots(subplot_kw={"projection": "3d"})')


def check_color(name: str, value: Any) -> None:
    """Raise ValueError unless matplotlib knows this colour; None is its choice."""
    if value is not None and not is_color_like(value):
        raise ValueError(f"{name} must be a colour of matplotlib, got {checks.shown(value)}")


def check_label(value: Any) -> None:
    """Raise TypeError unless a label is a text, or None for no entry in a legend."""
    if value is not None:
        checks.text("label", value)


def check_colors(colors: Any, names: Any) -> None:
    """Raise TypeError or ValueError unless there is a colour for each name; None is the house's choice."""
    if colors is None:
        return
    for name, color in checks.mapping("colors", colors, "name -> colour").items():
        check_color(f"colors[{name!r}]", color)
    if missing := [name for name in names if name not in colors]:
        raise ValueError(f"colors must hold one for each name, {missing[0]!r} has none: basin_colors gives all")


def use_style() -> None:
    """Switch on the house style (flatdyn/paper.mplstyle) for all figures that follow.

    A notebook then displays a figure only when :func:`flatdyn.notebook.show` or `plt.show()` asks it to, and not
    half-drawn at the end of the cell that begins it.
    """
    plt.style.use("flatdyn.paper")
    plt.draw_if_interactive()  # loads the backend: Jupyter's switches interactive display on when it is loaded
    plt.ioff()
