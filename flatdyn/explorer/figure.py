"""What an explorer shows as a figure of matplotlib, drawn by the functions of `flatdyn.plotting`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from flatdyn.explorer import answers
from flatdyn.plotting import (
    basin_colors,
    draw_basins,
    draw_critical_points,
    draw_distance,
    draw_field,
    draw_landscape,
    draw_loss,
    draw_paths,
)

if TYPE_CHECKING:
    from flatdyn.explorer.exploring import Explorer

_FURTHEST = 2.2  # half-width of the plane of multipliers at most


def draw(explorer: Explorer) -> Figure:
    """The plane at the left; loss, distance, multipliers and basins at the right."""
    scene, run = explorer.scene, explorer.run
    figure = plt.figure(figsize=(9.6, 4.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1))
    plane, ((loss, distance), (circle, shares)) = left.subplots(), right.subplots(2, 2)
    if len(scene.box) == 2:
        _draw_plane(plane, explorer)
    else:
        _draw_line(plane, explorer)
    name = explorer.setup.called
    draw_loss(loss, {name: run}, explorer.setup.landscape, legend=False, marker="")
    end = scene.nearest(run.final)
    if end is not None:
        draw_distance(distance, {name: run}, end.theta, of=f"the {end.kind}", legend=False, marker="")
        distance.set_ylabel(f"distance to the {end.kind}", fontsize="small")
    else:
        distance.set_axis_off()
    _draw_circle(circle, explorer)
    _draw_shares(shares, explorer)
    return figure


def _draw_plane(ax, explorer: Explorer) -> None:
    scene, setup = explorer.scene, explorer.setup
    if explorer.basins is not None:
        draw_basins(ax, explorer.basins, shade=False, attractors=False, legend=False)
    draw_landscape(ax, setup.landscape, scene.box)
    if "field" in explorer.values["shown"]:
        draw_field(ax, answers.exact(setup), scene.box)
    draw_paths(ax, explorer.run, color="black", lw=1)
    draw_critical_points(ax, scene.points, legend=False)


def _draw_line(ax, explorer: Explorer) -> None:
    scene, run = explorer.scene, explorer.run
    ax.plot(scene.axes[0], scene.loss, color="0.5")
    theta = np.asarray(run.theta)[:, 0]
    ax.plot(theta, explorer.setup.landscape.loss(run.theta), ".-", color="black", lw=0.8, ms=3)
    ax.set(xlabel="θ", ylabel="loss L", xlim=scene.box[0])


def _draw_circle(ax, explorer: Explorer) -> None:
    turn = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(turn), np.sin(turn), color="0.6", lw=0.8)
    for point, values in zip(explorer.scene.points, explorer.multipliers or (), strict=False):
        color = "#2E7D4F" if point.kind == "minimum" else "#7A1FA0"
        ax.plot(values.real, values.imag, "o", ms=4, color=color)
    if explorer.multipliers is None:
        ax.text(0, 0, "none: the\nstep jumps", ha="center", va="center", fontsize="small")
    reach = max([1.25, *(np.abs(values).max() for values in explorer.multipliers or ())])
    reach = 1.1 * min(reach, _FURTHEST)
    ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xlabel="Re z", ylabel="Im z")
    ax.set_title("multipliers", fontsize="medium")


def _draw_shares(ax, explorer: Explorer) -> None:
    if explorer.basins is None:
        ax.set_axis_off()
        return
    colors = basin_colors(explorer.basins)
    shares = {name: share for name, share in explorer.basins.fractions().items() if share > 0}
    shares = dict(sorted(shares.items(), key=lambda item: item[1]))
    ax.barh(list(shares), list(shares.values()), color=[colors[name] for name in shares])
    ax.tick_params(axis="y", labelsize="x-small")
    ax.set(xlabel="share of the view")
    ax.set_title("basins", fontsize="medium")
