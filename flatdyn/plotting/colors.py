"""Colours, markers and line styles: one for each method in every figure, other palettes for other things.

    methods             METHOD_COLORS, and a marker and line style beside it: method_style("SAM, noisy")
    other things        OTHER_COLORS: tasks, quantities, settings that have no order; none looks like a method's
    values              shades(n): from dark to light, for the values of a parameter
    ρ of SAM            rho_colors: GD's blue at 0, then SAM's orange from light to dark

Methods that share a figure stay at least 15 apart (CIE 1976 ΔE; 2.3 is just seen) in colour and for protanopes,
deuteranopes and tritanopes; in grey they are told apart by marker and line style. The tests hold it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_hex, to_rgb

from flatdyn.core import checks
from flatdyn.plotting.style import check_color

# GD … DNSAM are Okabe and Ito's colours. SGD is GD with another noise and has its colour.
METHOD_COLORS = {
    "GD": "#0072B2",
    "heavy ball": "#56B4E9",
    "Nesterov": "#009E73",
    "SAM": "#D55E00",
    "USAM": "#CC79A7",
    "DNSAM": "#E69F00",
    "ASAM": "#7A2BE0",
    "SAM-ON": "#4A2511",
    "SWA": "#5C0A33",
    "WASAM": "#C9A98B",
    "Langevin": "#4B1FA3",
    "LaLa": "#8C6A4F",
    "AdLaLa": "#A9B665",
    "LOL": "#7A0E6B",
    "Adam": "#000000",
    "multirate": "#3F4A12",
}
OTHER_COLORS = ("#1A1A1A", "#909090", "#7A1D54", "#9CCB5A", "#D2A6DC", "#7A5520")
DIVERGED_COLOR, UNDECIDED_COLOR = "#999999", "#F0E442"
KIND_MARKERS = {"minimum": "o", "saddle": "X", "maximum": "^", "degenerate": "D"}

_LOOKS = {  # marker and line style, which are all that is left in grey
    "GD": ("o", "-"),
    "heavy ball": ("v", ":"),
    "Nesterov": ("^", "-."),
    "SAM": ("s", "--"),
    "USAM": ("D", (0, (5, 1, 1, 1))),
    "DNSAM": ("P", (0, (1, 1))),
    "ASAM": ("X", ":"),
    "SAM-ON": ("d", "-."),
    "SWA": ("*", "-."),
    "WASAM": ("p", ":"),
    "Langevin": ("<", "-."),
    "LaLa": (">", "-."),
    "AdLaLa": ("d", "--"),
    "LOL": ("X", (0, (5, 1, 1, 1))),
    "Adam": ("*", (0, (1, 1))),
    "multirate": ("h", ":"),
}
# How methods are called in labels. Of two that begin at the same place the longer one is meant.
_WORDS = {name: name for name in METHOD_COLORS} | {
    "SGD": "GD",
    "gradient descent": "GD",
    "GD, heavy ball": "heavy ball",
    "SGD, heavy ball": "heavy ball",
    "GD, momentum": "heavy ball",
    "SGD, momentum": "heavy ball",
    "GD with momentum": "heavy ball",
    "SGD with momentum": "heavy ball",
    "GD, Nesterov": "Nesterov",
    "SGD, Nesterov": "Nesterov",
    "SGLD": "Langevin",
    "Multirate": "multirate",
}
_PATTERN = re.compile(
    r"(?<![\w-])(" + "|".join(re.escape(word) for word in sorted(_WORDS, key=len, reverse=True)) + r")(?![\w-])"
)
_OPEN_AND_LINE = [(False, None), (True, ":"), (False, "-."), (True, "--")]  # further curves of one method
_MARKERS = "osD^vPX*<>ph"


def method_of(label: str) -> str | None:
    """The method that a label names, as METHOD_COLORS calls it; None if it names none. The first one counts."""
    word = _PATTERN.search(checks.text("label", label))
    return _WORDS[word[1]] if word else None


def method_color(label: str) -> str:
    """The colour of the method in a label, such as "SAM, ρ = 0.5" or "SGD".

    Raises:
        ValueError: if the label names no method of METHOD_COLORS
    """
    return METHOD_COLORS[_method(label)]


def method_style(label: str) -> dict[str, Any]:
    """Colour, marker and line style of the method in a label, for matplotlib's `plot` and `errorbar`.

    Raises:
        ValueError: if the label names no method of METHOD_COLORS
    """
    name = _method(label)
    marker, line = _LOOKS[name]
    return {"color": METHOD_COLORS[name], "marker": marker, "ls": line}


def _method(label: str) -> str:
    name = method_of(label)
    if name is None:
        raise ValueError(f"label must name a method, one of {', '.join(METHOD_COLORS)}, got {label!r}")
    return name


def styles(labels: Sequence[str], colors: Any = None) -> dict[str, dict[str, Any]]:
    """A colour, marker and line style for each label of a figure: label -> keywords of matplotlib's `plot`.

    A label that names a method has its colour; a second label of the same method has the same colour, and another
    marker face and line. Labels without a method take OTHER_COLORS in turn.

    Args:
        labels: as they stand in the key, each once
        colors: instead, one for each label, in their order or as label -> colour
    """
    labels = [checks.text("labels", label) for label in checks.sequence("labels", labels, "texts")]
    given = _given(labels, colors)
    seen: dict[Any, int] = {}
    looks, others = {}, 0
    for i, label in enumerate(labels):
        name = method_of(label)
        if name is not None:
            look = method_style(label)
        else:
            look = {"color": OTHER_COLORS[others % len(OTHER_COLORS)], "marker": _MARKERS[i % len(_MARKERS)], "ls": "-"}
            others += given.get(label) is None
        if given.get(label) is not None:
            look["color"] = given[label]
        repeated = seen[name] = seen.get(name, -1) + 1
        if name is not None and repeated:
            hollow, line = _OPEN_AND_LINE[repeated % len(_OPEN_AND_LINE)]
            look |= {"ls": line or look["ls"]} | ({"mfc": "white"} if hollow else {})
            look["marker"] = look["marker"] if repeated < 2 else _MARKERS[(repeated + 1) % len(_MARKERS)]
        looks[label] = look
    return looks


def _given(labels: list[str], colors: Any) -> dict[str, Any]:
    if colors is None:
        return {}
    if isinstance(colors, dict):
        given = {checks.text("colors", label): color for label, color in colors.items()}
    else:
        colors = list(checks.sequence("colors", colors, "colours"))
        if len(colors) != len(labels):
            raise ValueError(f"colors must be as many as labels, {len(labels)}, got {len(colors)}")
        given = dict(zip(labels, colors, strict=True))
    for label, color in given.items():
        check_color(f"colors[{label!r}]", color)
    return given


def shades(number: int) -> list[str]:
    """Colours from dark to light for the values of a parameter in their order, unlike those of GD and SAM.

    They are of matplotlib's cividis, whose lightness alone tells them apart. More than 6 are too close to be read.
    """
    number = checks.count("number", number, at_least=1, at_most=256)
    return [to_hex(color) for color in plt.get_cmap("cividis")(np.linspace(0, 0.85, number))]


def rho_colors(values: Sequence[float]) -> list:
    """A colour per ρ: GD's blue at ρ = 0, then SAM's orange from light to dark."""
    values = checks.numbers("values", values, ndim=1).tolist()
    positive = [value for value in values if value > 0]
    ramp = plt.get_cmap("YlOrRd")(np.linspace(0.4, 0.95, max(len(positive), 1)))
    darker = {value: tuple(shade[:3]) for value, shade in zip(sorted(positive), ramp, strict=False)}
    return [darker.get(value, to_rgb(METHOD_COLORS["GD"])) for value in values]
