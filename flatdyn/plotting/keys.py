"""Keys of figures: what each marker, line and shade means, and labels made from the values they stand for."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flatdyn.core import checks
from flatdyn.plotting.style import check_axes, check_color

_SYMBOLS = {
    "lr": r"\eta",
    "eta": r"\eta",
    "rho": r"\rho",
    "momentum": r"\mu",
    "mu": r"\mu",
    "batch_size": "B",
    "batch": "B",
    "eps": r"\varepsilon",
    "theta": r"\theta",
    "lam": r"\lambda",
    "tau": r"\tau",
    "temperature": r"\tau",
    "friction": r"\gamma",
    "gamma": r"\gamma",
    "dim": "d",
    "sigma": r"\sigma",
}
_NEUTRAL = "0.35"  # of a key that holds for every colour


class Meaning(Artist):
    """What a look means, kept on its axes without being drawn: it goes where the axes goes, also into a pickle."""

    def __init__(self, label: str, handle: Artist):
        super().__init__()
        self.handle = handle
        self.set_label(label)
        self.set_in_layout(False)

    def draw(self, renderer: Any) -> None:
        """Draw nothing: :func:`draw_key` does."""


def quantity_name(name: str) -> str:
    """The symbol of a parameter, r"$\\rho$" for "rho"; other names as words."""
    name = checks.text("name", name)
    if name in _SYMBOLS:
        return f"${_SYMBOLS[name]}$"
    return f"${name}$" if len(name) == 1 else name.replace("_", " ")


def setting(**values: Any) -> str:
    """Values as a label that follows them: `setting(rho=0.5, lr=0.01)` is r"$\\rho = 0.5$, $\\eta = 0.01$".

    Numbers have up to six significant digits; words stand as they are.
    """
    return ", ".join(_one_setting(name, value) for name, value in values.items())


def _one_setting(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    number = checks.number(name, value, one=True)
    return f"${_SYMBOLS.get(name, _math(name))} = {_digits(number)}$"


def _math(name: str) -> str:
    return name if len(name) == 1 else r"\mathrm{" + name.replace("_", r"\ ") + "}"


def _digits(number: float) -> str:
    text = f"{number:.6g}"
    if "e" not in text:
        return text
    head, power = text.split("e")
    return rf"10^{{{int(power)}}}" if head == "1" else rf"{head} \times 10^{{{int(power)}}}"


def explain(ax: Axes, label: str, *, patch: bool = False, **look: Any) -> None:
    """Note what a look means, for the key of these axes: `explain(ax, "start", marker="o", ls="none")`.

    Drawing functions note what they draw; use it for what you draw yourself without a label of its own.

    Args:
        ax: where it is drawn
        label: what it means, in a few words
        patch: an area, with keywords of matplotlib's Patch, instead of a line or marker with those of Line2D
        look: as it is drawn; grey where no colour is given, for what holds for every colour
    """
    check_axes(ax)
    checks.text("label", label)
    if checks.flag("patch", patch):
        handle = Patch(**({"color": _NEUTRAL} if not {"color", "facecolor", "fc"} & set(look) else {}) | look)
    else:
        check_color("color", look.get("color"))
        handle = Line2D([], [], **{"color": _NEUTRAL} | look)
    for known in meanings(ax):
        if known.get_label() == label:  # the last word counts, in the first one's place
            known.handle = handle
            return
    ax.add_artist(Meaning(label, handle))


def meanings(ax: Axes) -> list[Meaning]:
    """What :func:`explain` noted on these axes, in order."""
    return [artist for artist in ax.get_children() if isinstance(artist, Meaning)]


def draw_key(target: Axes | FigureBase, **legend: Any) -> Legend | None:
    """One legend with all that is labelled or explained, each label once.

    Args:
        target: axes; or a figure, for one key of all its axes below them
        legend: passed to matplotlib's `legend`, such as loc, ncols, fontsize
    Returns:
        the legend; None if there is nothing to explain
    """
    checks.kind("target", target, (Axes, FigureBase), "figure, ax = plt.subplots()")
    whole = isinstance(target, FigureBase)
    entries: dict[str, Any] = {}
    for ax in target.axes if whole else [target]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for ax in target.axes if whole else [target]:
        for meaning in meanings(ax):
            entries.setdefault(meaning.get_label(), meaning.handle)
    if not entries:
        return None
    style: dict[str, Any] = {"frameon": True}
    if whole:
        style = {"loc": "outside lower center", "ncols": min(len(entries), 5)}
    return target.legend(list(entries.values()), list(entries), **style | legend)
