"""What a reader of a figure alone would miss: names of axes, keys, room for ticks, one colour for each method."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colors import rgb_to_hsv, to_hex, to_rgb, to_rgba
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import AxLine, Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text

from flatdyn.core import checks
from flatdyn.plotting.colors import METHOD_COLORS, method_of, rho_colors, shades
from flatdyn.plotting.keys import meanings

_GREY = 0.08  # of saturation: below, a colour is black, white or grey
_HUE = np.pi / 9  # by which shades of one colour differ
_TOUCH = 1.0  # pixels by which labels may overlap: their boxes are larger than the ink
_SOLID = ("-", "solid")
_NONE = ("None", "none", " ", "", None)


def check_figure(figure: Figure) -> list[str]:
    """What is missing for a figure to stand alone, in plain sentences; an empty list where nothing is.

    - Every axis with ticks has a name, of its own or of an axis that shares it, unless its ticks are words.
    - Every label is in a legend or stands beside what it names, and so is every meaning that :func:`explain` noted.
    - Where there are several colours, markers or line styles on one pair of axes, each is in a legend of the figure.
      Grey lines across the axes are references, and bands of a line's colour are its errors: they need no key.
    - A map has a colour bar, a legend, or numbers in its cells.
    - No two tick labels overlap, and no two titles.
    - A method has one colour, or shades of it or of :func:`shades` for the values of a parameter; the colours of GD and
      SAM mean nothing else, unless a title or the name of an axis says so.

    It draws the figure to measure its texts. It cannot see whether words are true: look at the figure, too.

    Args:
        figure: a figure of matplotlib
    """
    checks.kind("figure", figure, Figure, "figure, ax = plt.subplots()")
    figure.canvas.draw()
    axes = [ax for ax in figure.axes if ax.get_visible() and ax.axison]
    bars = {id(image.colorbar.ax) for ax in axes for image in _images(ax) if image.colorbar is not None}
    panels = [ax for ax in axes if id(ax) not in bars]
    key = _Key(figure)
    sentences = []
    for ax in axes:
        sentences += _unnamed(ax, figure, id(ax) in bars)
        sentences += _overlapping(ax)
    for ax in panels:
        sentences += _not_in_key(ax, key)
        sentences += _unkeyed_looks(ax, key)
        sentences += _unkeyed_map(ax, key)
    return [*sentences, *_overlapping_titles(figure, panels), *_method_colors(panels)]


def _where(ax: Axes) -> str:
    title = next((text for text in (ax.get_title(loc=loc) for loc in ("left", "center", "right")) if text), "")
    return repr(title) if title else f"axes {list(ax.figure.axes).index(ax) + 1}"


# --- names of axes and room for texts ---------------------------------------------------------------------------


def _sides(ax: Axes) -> Iterator[tuple[str, Any]]:
    yield from (("x", ax.xaxis), ("y", ax.yaxis))
    if hasattr(ax, "zaxis"):
        yield "z", ax.zaxis


def _tick_texts(axis: Any) -> list:
    shown = []
    if not axis.get_visible():
        return shown
    low, high = sorted(axis.get_view_interval())
    for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
        for text in (tick.label1, tick.label2):
            if text.get_visible() and text.get_text() and low <= tick.get_loc() <= high:
                shown.append(text)
    return shown


def _words(texts: list) -> bool:
    """Whether ticks are labelled by words, which say themselves what they are."""
    return bool(texts) and all(sum(letter.isalpha() for letter in text.get_text()) > 2 for text in texts if text)


def _unnamed(ax: Axes, figure: Figure, is_bar: bool) -> Iterator[str]:
    for letter, axis in _sides(ax):
        texts = [text for text in _tick_texts(axis) if "mathdefault" not in text.get_text()] or _tick_texts(axis)
        if not texts or axis.get_label_text() or _words(texts):
            continue
        shared = ax.get_shared_x_axes() if letter == "x" else ax.get_shared_y_axes()
        siblings = shared.get_siblings(ax) if letter != "z" else [ax]
        if any(getattr(one, f"{letter}axis").get_label_text() for one in siblings):
            continue
        if getattr(figure, f"get_sup{letter}label", str)():
            continue
        if is_bar:
            yield f"A colour bar has no name: colorbar(label=...) at {_where(ax)}."
        else:
            yield f"The {letter} axis of {_where(ax)} has no name."


def _overlapping(ax: Axes) -> Iterator[str]:
    if hasattr(ax, "zaxis"):
        return  # in perspective boxes of texts say little
    for letter, axis in _sides(ax):
        texts = _tick_texts(axis)
        pair = _first_overlap(texts)
        if pair:
            one, other = (repr(text.get_text()) for text in pair)
            yield f"Tick labels {one} and {other} overlap on the {letter} axis of {_where(ax)}."


def _overlapping_titles(figure: Figure, panels: list[Axes]) -> Iterator[str]:
    titles = [text for ax in panels for text in ax.get_children() if _is_title(ax, text)]
    pair = _first_overlap(titles)
    if pair:
        one, other = (repr(text.get_text()) for text in pair)
        yield f"The titles {one} and {other} overlap."


def _is_title(ax: Axes, artist: Any) -> bool:
    words = [ax.get_title(loc=loc) for loc in ("left", "center", "right")]
    return isinstance(artist, Text) and bool(artist.get_text()) and artist.get_text() in words


def _first_overlap(texts: list) -> tuple | None:
    boxes = [text.get_window_extent() for text in texts]
    for i, one in enumerate(boxes):
        for j in range(i):
            other = boxes[j]
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            if wide > _TOUCH and high > _TOUCH:
                return texts[j], texts[i]
    return None


# --- keys -------------------------------------------------------------------------------------------------------


class _Key:
    """All legends of a figure: their labels, and the colours, markers, dashes and areas that they show."""

    def __init__(self, figure: Figure):
        legends = figure.findobj(Legend)
        self.labels = {text.get_text() for legend in legends for text in legend.get_texts()}
        self.colors, self.markers, self.dashes, self.areas = set(), set(), set(), set()
        for legend in legends:  # a handle of bars has several parts: all of them, but not the frame
            shown = legend.findobj(lambda artist: isinstance(artist, Line2D | Patch | Collection))
            self.add([artist for artist in shown if artist is not legend.get_frame()])

    def with_meanings(self, ax: Axes) -> _Key:
        """The same with what is noted on these axes."""
        more = copy.deepcopy(self)
        more.add([meaning.handle for meaning in meanings(ax)])
        return more

    def add(self, handles: list) -> None:
        """Add what some handles show."""
        for handle in _leaves(handles):
            if isinstance(handle, Line2D):
                self.colors.add(_hex(handle.get_color()))
                if handle.get_marker() not in _NONE:
                    self.markers.add(str(handle.get_marker()))
                    self.colors |= {_hex(handle.get_markerfacecolor()), _hex(handle.get_markeredgecolor())}
                if handle.get_linestyle() not in _NONE:
                    self.dashes.add(_dash(handle))
            elif isinstance(handle, Patch):
                self.areas.add(_hex(handle.get_facecolor()))
                self.colors.add(_hex(handle.get_facecolor()))
            elif isinstance(handle, Collection):
                for color in [*handle.get_facecolor(), *handle.get_edgecolor()]:
                    self.colors.add(_hex(color))
                    self.areas.add(_hex(color))


def _leaves(handles: Any) -> Iterator[Any]:
    for handle in handles:
        if handle is None:
            continue
        if isinstance(handle, tuple | list):
            yield from _leaves(handle)
        else:
            yield handle


def _hex(color: Any) -> str | None:
    """A colour without its transparency; None for no colour."""
    red, green, blue, alpha = to_rgba(color)
    return to_hex((red, green, blue)) if alpha > 0 else None


def _dash(line: Line2D) -> str:
    """The kind of a line's dashes, in words that do not depend on its width."""
    style = line.get_linestyle()
    if style in _SOLID:
        return "-"
    if style in ("--", ":", "-."):
        return {"--": "--", ":": ":", "-.": "-."}[style]
    return str(style)


def _is_grey(color: Any) -> bool:
    rgb = np.array(to_rgb(color))
    return rgb.max() - rgb.min() <= _GREY


def _label(artist: Any) -> str:
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else label


def _in_text(ax: Axes, label: str) -> bool:
    """Whether a label is written into the axes or stands in its title: what it names is labelled directly."""
    words = [text.get_text() for text in ax.texts] + [ax.get_title(loc=loc) for loc in ("left", "center", "right")]
    return any(label in word for word in words)


def _not_in_key(ax: Axes, key: _Key) -> Iterator[str]:
    labels = [_label(artist) for artist in [*ax.lines, *ax.patches, *ax.collections, *ax.containers]]
    labels += [str(meaning.get_label()) for meaning in meanings(ax)]
    missing = [label for label in dict.fromkeys(labels) if label and label not in key.labels]
    missing = [repr(label) for label in missing if not _in_text(ax, label)]
    if missing:
        more = [f"{len(missing) - 3} more"] if len(missing) > 4 else []
        words = [*missing[: 3 if more else 4], *more]
        listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
        yield f"In {_where(ax)} no key shows {listed}: draw_key(ax)."


def _curves(ax: Axes) -> list[Line2D]:
    """Lines that show data: not the grey ones across the axes."""
    shown = []
    for line in ax.lines:
        across = isinstance(line, AxLine) or _across(ax, line)
        if line.get_visible() and len(line.get_xdata()) and not (across and _is_grey(line.get_color())):
            shown.append(line)
    return shown


def _across(ax: Axes, artist: Any) -> bool:
    """Whether an artist runs from one side of the axes to the other, whatever the data: axhline, axvspan."""
    return not all(artist.get_transform().contains_branch_seperately(ax.transData))


def _unkeyed_looks(ax: Axes, key: _Key) -> Iterator[str]:
    lines = _curves(ax)
    key = key.with_meanings(ax)  # which are reported by their names
    written = {_hex(text.get_color()) for text in ax.texts}
    colors = {_hex(line.get_color()) for line in lines} - {None}
    markers = {str(line.get_marker()) for line in lines if line.get_marker() not in _NONE and not _is_cap(ax, line)}
    dashes = {_dash(line) for line in lines if line.get_linestyle() not in _NONE}
    if len(colors) > 1:
        for color in sorted(color for color in colors - key.colors - written if not _is_grey(color)):
            yield f"Lines or points of the colour {color} in {_where(ax)} have no key."
    if len(markers) > 1:
        for marker in sorted(markers - key.markers):
            yield f"The marker {marker!r} in {_where(ax)} has no key."
    if len(dashes) > 1:
        for dash in sorted(dashes - key.dashes):
            yield f"The line style {dash!r} in {_where(ax)} has no key."
    yield from _unkeyed_areas(ax, key, colors)


def _is_cap(ax: Axes, line: Line2D) -> bool:
    """Whether a line is the cap of an error bar, which matplotlib draws as markers."""
    return line.get_marker() in ("|", "_")


def _unkeyed_areas(ax: Axes, key: _Key, lines: set[str | None]) -> Iterator[str]:
    areas = {}
    for artist in [*ax.patches, *ax.collections]:
        if not artist.get_visible() or isinstance(artist, ContourSet | QuadMesh) or _label(artist):
            continue
        if isinstance(artist, Collection) and (artist.get_array() is not None or not len(artist.get_facecolor())):
            continue  # lines of error bars, and colours of a map
        faces = [artist.get_facecolor()] if isinstance(artist, Patch) else artist.get_facecolor()
        for face in faces:
            if face[3] > 0 and _hex(face) is not None:
                areas.setdefault(_hex(face), artist)
    bars = all(isinstance(artist, Rectangle) and not _across(ax, artist) for artist in areas.values())
    if bars and areas and (_words(_tick_texts(ax.xaxis)) or _words(_tick_texts(ax.yaxis)) or len(areas) == 1):
        return  # bars with words below
    for color in sorted(areas):
        if color not in key.areas | key.colors | lines:
            yield f"The area of the colour {color} in {_where(ax)} has no key."


def _images(ax: Axes) -> list:
    return [*ax.images, *(one for one in ax.collections if isinstance(one, QuadMesh))]


def _unkeyed_map(ax: Axes, key: _Key) -> Iterator[str]:
    for image in _images(ax):
        others = [one for panel in ax.figure.axes for one in _images(panel)]
        keyed = any(
            one.colorbar is not None and one.get_cmap() == image.get_cmap() and one.get_clim() == image.get_clim()
            for one in others
        )
        cells = np.size(image.get_array()) if np.ndim(image.get_array()) == 2 else np.inf
        numbers = len(ax.texts) >= cells
        direct = len(ax.texts) >= 2  # regions with their names in them
        if not (keyed or numbers or direct or key.areas) and isinstance(image, AxesImage | QuadMesh):
            yield f"The map in {_where(ax)} has neither a colour bar nor a key."


# --- colours of methods -----------------------------------------------------------------------------------------


def _labelled(ax: Axes) -> Iterator[tuple[str, str]]:
    """Labels with the colours of what they name."""
    for line in ax.lines:
        if _label(line):
            yield _label(line), _hex(line.get_color()) or "#ffffff"
    for container in ax.containers:
        first = next((one for one in _leaves(container.get_children()) if isinstance(one, Line2D | Patch)), None)
        if _label(container) and first is not None:
            color = first.get_color() if isinstance(first, Line2D) else first.get_facecolor()
            yield _label(container), _hex(color) or "#ffffff"
    for artist in [*ax.patches, *ax.collections]:
        faces = [artist.get_facecolor()] if isinstance(artist, Patch) else artist.get_facecolor()
        if _label(artist) and len(faces) and not isinstance(artist, ContourSet):
            yield _label(artist), _hex(faces[0]) or "#ffffff"


def _method_colors(panels: list[Axes]) -> Iterator[str]:
    own = {color.lower(): name for name, color in METHOD_COLORS.items()}
    seen: dict[str, dict[str, str]] = {}
    sentences = set()
    for ax in panels:
        context = " ".join([ax.get_title(loc=loc) for loc in ("left", "center", "right")])
        context += " " + ax.get_xlabel() + " " + ax.get_ylabel()
        for label, color in _labelled(ax):
            name = method_of(label)
            if name is None:
                meant = own.get(color)
                if meant in ("GD", "SAM") and method_of(context) != meant and "rho" not in label:
                    sentences.add(f"{label!r} in {_where(ax)} has the colour of {meant}, and is something else.")
                continue
            if own.get(color, name) != name:
                sentences.add(f"{label!r} in {_where(ax)} has the colour of {own[color]}.")
            if not _on(shades(64), color):  # which stands for the value of a parameter
                seen.setdefault(name, {}).setdefault(color, label)
    for name, colors in seen.items():
        if len(colors) > 1 and not _one_hue([*colors, METHOD_COLORS[name]]):
            (one, first), (other, second) = list(colors.items())[:2]
            sentences.add(f"{name} has two colours: {one} for {first!r} and {other} for {second!r}.")
    yield from sorted(sentences)


def _one_hue(colors: list[str]) -> bool:
    """Whether colours are shades of the last one: of hues near its own, or of the ramp that is SAM's."""
    ramp = rho_colors(range(1, 65))
    hues = 2 * np.pi * rgb_to_hsv([to_rgb(color) for color in colors])[:, 0]
    near = np.abs(np.angle(np.exp(1j * (hues - hues[-1])))) <= _HUE
    is_sam = colors[-1] == METHOD_COLORS["SAM"]
    return all(
        (like or (is_sam and _on(ramp, color))) and not _is_grey(color)
        for color, like in zip(colors[:-1], near, strict=False)
    )


def _on(ramp: list, color: str) -> bool:
    """Whether a colour is one of a ramp, but for rounding and for those between."""
    steps = np.abs(np.array([to_rgb(one) for one in ramp]) - to_rgb(color))
    return bool(steps.max(axis=1).min() < 0.03)
