"""The house style, and the colours and markers that mean the same in every figure."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb

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
KIND_MARKERS = {"minimum": "o", "saddle": "X", "maximum": "^", "degenerate": "D"}


def use_style() -> None:
    """Switch on the house style (flatdyn/paper.mplstyle) for all figures that follow."""
    plt.style.use("flatdyn.paper")


def rho_colors(values: Sequence[float]) -> list:
    """A colour per ρ: GD's blue at ρ = 0, then SAM's orange from light to dark."""
    positive = [value for value in values if value > 0]
    shades = plt.get_cmap("YlOrRd")(np.linspace(0.4, 0.95, max(len(positive), 1)))
    darker = {value: tuple(shade[:3]) for value, shade in zip(sorted(positive), shades, strict=False)}
    return [darker.get(value, to_rgb(METHOD_COLORS["GD"])) for value in values]
