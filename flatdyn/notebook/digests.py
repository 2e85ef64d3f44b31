"""A figure in a few numbers that are the same on every machine: what nbval compares of a picture.

Each artist is listed with the size of its data, their range, their mean and two weighted means. The weights differ
from place to place, so that a flip, a transposition or one changed pixel shows too. Every number is rounded on the
scale of its axis: the range to 1e-5 of it, means to 1e-6. So what is zero but for rounding is 0, what lies far outside
the axes is at their border, and two machines print the same, or differ by one in the last place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.quiver import Quiver

RANGE, MEANS, WHOLE = 5, 6, 9  # places behind the scale: of a range, of means, of means of whole numbers
SMALLEST = 1e-9  # a linear axis that spans less shows rounding, and has no scale of its own
ZOOM = 1e-4  # of the largest value: an axis that spans less of it is compared no finer


class Plotted(NamedTuple):
    """An array that an artist shows, and along which axis: "x", "y", or "" where it has a scale of its own."""

    name: str
    axis: str
    values: np.ndarray
    limits: tuple[float, float] | None = None


def digest(figure: Figure) -> str:
    """The figure's axes and artists, one array a line.

    An artist whose gid is "chaotic" is listed with its size only: its digits differ from machine to machine, and so
    do the limits of its axes, which then serve no other artist as scale.
    """
    lines = []
    for axes in figure.axes:
        lines.append(f"[{axes.get_title(loc='left') or axes.get_title()}|{axes.get_xlabel()}|{axes.get_ylabel()}]")
        artists = [*axes.lines, *axes.images, *axes.collections, *axes.patches]
        chaotic = [artist.get_gid() == "chaotic" for artist in artists]
        shown = [list(_plotted(artist, axes)) for artist in artists]
        quiet = [one for some, noisy in zip(shown, chaotic, strict=True) for one in some if not noisy]
        limits = {axis: _limits(axes, axis, quiet, any(chaotic)) for axis in "xy"}
        for some, noisy in zip(shown, chaotic, strict=True):
            for one in some:
                text = f"n {one.values.size}" if noisy else _fingerprint(one, limits.get(one.axis))
                lines.append(f"  {one.name} {text}")
    return "\n".join(lines)


def _limits(axes: Axes, axis: str, quiet: list[Plotted], any_chaotic: bool) -> tuple[float, float, bool]:
    """The scale of an axis, from and to, and whether what lies beyond is cut: limits set by hand, else of the data."""
    given = not (axes.get_autoscalex_on() if axis == "x" else axes.get_autoscaley_on())
    if given and not any_chaotic and not hasattr(axes, "get_zlim"):
        low, high = _straight(np.array(axes.get_xlim() if axis == "x" else axes.get_ylim()), axes, axis)
        return min(low, high), max(low, high), True
    values = [one.values[np.isfinite(one.values)] for one in quiet if one.axis == axis]
    values = np.concatenate([*values, np.zeros(0)])
    return (values.min(), values.max(), False) if values.size else (0.0, 1.0, False)


def _straight(values: Any, axes: Axes, axis: str) -> np.ndarray:
    """The values as lengths along the paper: logarithms on a logarithmic axis."""
    values = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).ravel()
    scale = axes.xaxis if axis == "x" else axes.yaxis
    if scale.get_scale() == "log":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0, np.log10(values), np.where(np.isnan(values), np.nan, -np.inf))
    return values if scale.get_scale() == "linear" else scale.get_transform().transform(values)


def _plotted(artist: Any, axes: Axes) -> Iterator[Plotted]:
    """The arrays that an artist shows."""
    if hasattr(artist, "get_data_3d"):
        for axis, data in zip("xyz", artist.get_data_3d(), strict=True):
            yield Plotted(f"line3d {axis}", "", _flat(data))
    elif hasattr(artist, "get_xydata"):
        yield from _placed(
            "line", artist.get_xdata(orig=False), artist.get_ydata(orig=False), artist.get_transform(), axes
        )
    elif isinstance(artist, ContourSet):
        yield Plotted("contour levels", "", _flat(artist.levels))
        for name, moments in zip(("lengths", "x", "y"), _moments(artist.get_paths()), strict=True):
            yield Plotted(f"contour {name}", "", moments)
    elif isinstance(artist, Quiver):
        yield from _placed("arrows", *np.transpose(artist.get_offsets()), artist.get_offset_transform(), axes)
        yield Plotted("arrows u", "", _flat(artist.U))
        yield Plotted("arrows v", "", _flat(artist.V))
    elif isinstance(artist, PathCollection):
        places = np.ma.filled(np.ma.asarray(artist.get_offsets(), dtype=float), np.nan)
        yield from _placed("points", *places.T, artist.get_offset_transform(), axes)
        if artist.get_array() is not None:
            yield _coloured("points colour", artist, artist.get_array())
    elif isinstance(artist, AxesImage):
        left, right, bottom, top = artist.get_extent()
        yield from _placed("image", [left, right], [bottom, top], axes.transData, axes)
        data = artist.get_array()
        yield _coloured("image", artist, data[::-1] if artist.origin == "upper" else data)
    elif isinstance(artist, QuadMesh):
        corners = artist.get_coordinates()
        yield from _placed("image", corners[..., 0], corners[..., 1], axes.transData, axes)
        yield _coloured("image", artist, artist.get_array())
    elif isinstance(artist, Collection):
        vertices = np.concatenate([*(path.vertices for path in artist.get_paths()), np.zeros((0, 2))])
        yield from _placed("outline", *vertices.T, artist.get_transform(), axes)
    elif isinstance(artist, Patch):
        vertices = artist.get_patch_transform().transform(artist.get_path().vertices)
        yield from _placed("patch", *vertices.T, artist.get_data_transform(), axes)


def _placed(name: str, x: Any, y: Any, transform: Any, axes: Axes) -> Iterator[Plotted]:
    """Places along both axes; an end of a line across the axes has no place on theirs, but one of its own."""
    on_axis = transform.contains_branch_seperately(axes.transData)
    for axis, data, mine in zip("xy", (x, y), on_axis, strict=True):
        yield Plotted(f"{name} {axis}", axis if mine else "", _straight(data, axes, axis) if mine else _flat(data))


def _flat(data: Any) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(data, dtype=float), np.nan).ravel()


def _coloured(name: str, artist: Any, data: Any) -> Plotted:
    """Values that are shown as colours, between the ends of the colour scale."""
    values, norm = _flat(data), artist.norm
    if np.ndim(data) == 3 or norm.vmin is None:
        return Plotted(name, "", values)
    ends = np.array([norm.vmin, norm.vmax], dtype=float)
    if isinstance(norm, LogNorm):
        with np.errstate(divide="ignore", invalid="ignore"):
            values, ends = np.log10(values), np.log10(ends)
    return Plotted(name, "", values, (ends[0], ends[1]))


def _moments(paths: list[Path]) -> np.ndarray:
    """Length of each contour, and its first moments along x and y, in units of what all of them span.

    Unlike the number of corners, they follow the data smoothly.
    """
    corners = np.concatenate([*(path.vertices for path in paths), np.zeros((0, 2))])
    if not len(corners):
        return np.zeros((3, len(paths)))
    low, span = corners.min(axis=0), np.ptp(corners, axis=0)
    span = np.where(span > 0, span, 1.0)
    moments = []
    for path in paths:
        places = (path.vertices - low) / span
        joined = np.ones(max(len(places) - 1, 0), bool) if path.codes is None else path.codes[1:] != Path.MOVETO
        lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)[joined]
        middles = ((places[1:] + places[:-1]) / 2)[joined]
        moments.append([lengths.sum(), *(lengths @ middles)])
    return np.transpose(moments)


def _fingerprint(one: Plotted, limits: tuple[float, float, bool] | None) -> str:
    good = one.values[~np.isnan(one.values)]
    missing = one.values.size - good.size
    head = f"n {one.values.size}" + (f" nan {missing}" if missing else "")
    finite = good[np.isfinite(good)]
    if not finite.size:
        return head
    if limits is None:
        low, high, cut = (*one.limits, True) if one.limits else (finite.min(), finite.max(), False)
    else:
        low, high, cut = limits
    span = high - low
    if cut:  # beyond the axes by its width: not seen, however far
        good = np.clip(good, low - span, high + span)
    good = good[np.isfinite(good)]
    scale = _power(max(span, ZOOM * max(abs(low), abs(high)), SMALLEST))
    if good.size == one.values.size == 1:
        return f"at {_rounded(good[0], scale, RANGE)}"
    whole, places = np.round(good), MEANS
    if np.abs(good - whole).max() < 1e-9:
        good, places = whole, WHOLE
    i = np.arange(good.size)
    weights = 1.0, np.cos(2 * np.pi * 0.618 * i), np.cos(np.pi * (i + 0.5) / good.size)
    ends = " ".join(_rounded(end, scale, RANGE) for end in (good.min(), good.max()))
    means = " ".join(_rounded(np.mean(good * weight), scale, places) for weight in weights)
    return f"{head} range {ends} means {means}"


def _power(scale: float) -> int:
    """The power of ten of a scale. One that rounding alone keeps below a power has reached it."""
    return int(np.floor(np.log10(scale) + 1e-6))


def _rounded(value: float, power: int, places: int) -> str:
    """The value to 10^(power − places); what lies in the middle goes up on every machine."""
    places_shown = places - power
    units = int(np.floor(value * 10.0**places_shown + 0.5 + 1e-3))
    if 1 <= places_shown <= 12:
        return f"{units / 10**places_shown:.{places_shown}f}"
    return f"{units / 10**places:.{places}f}e{power:+03d}"
