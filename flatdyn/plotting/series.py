"""Drawings of numbers with errors against a setting, beside the law they should follow; and of gains over a rival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from flatdyn.core import checks
from flatdyn.plotting.colors import METHOD_COLORS, method_of, styles
from flatdyn.plotting.keys import draw_key, explain, quantity_name, setting
from flatdyn.plotting.style import check_axes, check_label

_SEEN = {"ls": "none", "marker": "o"}


def draw_series(
    ax: Axes,
    x: Any,
    series: Mapping[str, Any],
    *,
    laws: Mapping[str, Any] | None = None,
    seen: str = "simulated",
    law: str = "theory",
    band: bool = False,
    colors: Any = None,
    reference: float | Mapping[str, float] | None = None,
    ticks: bool = False,
    legend: bool = True,
    **style: Any,
) -> dict[str, list]:
    """Numbers with their errors against one setting, a curve for each name, and the law beside them as a line.

    Where there are laws, the numbers are points that no line joins, so that line and points tell law and data apart.

    Args:
        ax: where to draw
        x: the setting, shape (points,), or words, beside which the curves stand next to each other; or name -> its
            own, or name -> (its own, standard errors)
        series: name -> values, shape (points,); or (values, standard errors); or (values, lower ends, upper ends)
        laws: name -> (x, y), arrays of any one length; of the same colour as the series of that name
        seen, law: what the key calls points and lines, where there are laws
        band: a band instead of bars
        colors: one for each name; if not given those of the methods that the names name: :func:`styles`
        reference: a height that is marked by a thin line, such as 0; or name -> height, with the name in the key
        ticks: label exactly the values of x
        legend: write the key
        style: of the curves, for matplotlib's `errorbar`, such as ms or gid
    Returns:
        name -> its artists
    Raises:
        ValueError: if arrays are of other lengths than x
    """
    check_axes(ax)
    series = checks.mapping("series", series, "name -> (values, standard errors)")
    if not series:
        raise ValueError("series must hold at least one name -> (values, standard errors)")
    laws = {} if laws is None else checks.mapping("laws", laws, "name -> (x, y)")
    for name, value in {"band": band, "ticks": ticks, "legend": legend}.items():
        checks.flag(name, value)
    checks.text("seen", seen), checks.text("law", law)
    words = _words(x)
    places, spread = _beside(len(words), series) if words else _places(x, series)
    looks = styles(list(dict.fromkeys([*series, *laws])), colors)
    drawn: dict[str, list] = {}
    for name, values in series.items():
        value, low, high = _with_ends(f"series[{name!r}]", values, len(places[name]))
        look = dict(looks[name]) | ({"ls": "none"} if laws or words else {}) | {"xerr": spread.get(name)} | style
        drawn[name] = _curve(ax, places[name], value, low, high, band, name, look)
    for name, curve in laws.items():
        at, height = _pair(f"laws[{name!r}]", curve)
        line = "-" if name in series else looks[name]["ls"]
        label = None if name in series else name
        drawn.setdefault(name, []).extend(ax.plot(at, height, ls=line, color=looks[name]["color"], label=label))
    if laws:
        explain(ax, seen, **_SEEN)
        explain(ax, law, ls="-")
    _refer(ax, reference)
    if words:
        ax.set_xticks(range(len(words)), words)
    elif ticks:
        set_ticks(ax, np.concatenate(list(places.values())))
    if legend:
        draw_key(ax)
    return drawn


def draw_sweep(
    ax: Axes,
    sweep: Any,
    value: str | None = None,
    along: str | None = None,
    *,
    law: str | None = None,
    law_name: str = "theory",
    label: str | None = None,
    colors: Any = None,
    **options: Any,
) -> dict[str, list]:
    """A result of a sweep with its errors against one parameter, a curve for each value of the others.

    The errors are those that the sweep gave with it, `value_stderr`, or its interval `value_lower`, `value_upper`.

    Args:
        ax: where to draw
        sweep: the Dataset of `fd.sweep`, or a part of it: `found.sel(momentum=0.9)`
        value: which result; the first if not given
        along: the parameter on the axis, all others label the curves; that of numbers with most values if not given
        law: another result, drawn as a line beside the points
        law_name: what the key calls it
        label: of the only curve, or what precedes the settings in the labels of several, such as the method
        colors, options: as in :func:`draw_series`
    Returns:
        label -> its artists
    Raises:
        ValueError: if the sweep has no such result or parameter
    """
    import xarray as xr

    check_axes(ax)
    checks.kind("sweep", sweep, xr.Dataset, "fd.sweep(make_process, parameters, ask)")
    check_label(label)
    checks.text("law_name", law_name)
    value = next(iter(sweep), None) if value is None else value
    if value is None:
        raise ValueError("sweep must hold a result to draw: it has none")
    for name, word in {"value": value, **({"law": law} if law is not None else {})}.items():
        if checks.text(name, word) not in sweep:
            raise ValueError(f"{name} must be a result of the sweep, got {word!r}; there are {', '.join(sweep)}")
    along = _longest(sweep[value]) if along is None else along
    if checks.text("along", along) not in sweep[value].dims:
        raise ValueError(f"along must be a parameter of the sweep, got {along!r}; there are {sweep[value].dims}")
    others = [dim for dim in sweep[value].dims if dim != along]
    table = sweep.stack(cell=others) if others else sweep.expand_dims("cell", axis=-1)
    parts = [value, f"{value}_stderr"], [value, f"{value}_lower", f"{value}_upper"]
    part = next((some for some in parts if all(name in sweep for name in some)), [value])
    series, laws = {}, {}
    for i in range(table.sizes["cell"]):
        cell = table.isel(cell=i)
        words = [_shown(dim, cell[dim].item()) for dim in others]
        name = ", ".join(([label] if label else []) + words) or value.replace("_", " ")
        series[name] = [np.asarray(cell[one], dtype=float) for one in part]
        if law is not None:
            laws[name] = (np.asarray(sweep[along]), np.asarray(cell[law], dtype=float))
    drawn = draw_series(ax, np.asarray(sweep[along]), series, laws=laws or None, law=law_name, colors=colors, **options)
    ax.set(xlabel=_axis_name(sweep[along]), ylabel=_axis_name(sweep[value]))
    return drawn


def _longest(result: Any) -> str:
    """The parameter of numbers with most values, the first of several."""
    parameters = [dim for dim in result.dims if dim in result.coords and dim != "seed"]
    numbers = [dim for dim in parameters if result[dim].dtype.kind in "iuf"]
    if not numbers:
        raise ValueError("along must be given, as no parameter of the sweep is of numbers")
    return str(max(numbers, key=lambda dim: result.sizes[dim]))


def _shown(name: str, value: Any) -> str:
    return value if isinstance(value, str) else setting(**{name: value})


def _axis_name(array: Any) -> str:
    words, unit = array.attrs.get("long_name", ""), array.attrs.get("units", "")
    name = words if words and len(words) < 40 else quantity_name(str(array.name))
    return f"{name} ({unit})" if unit else name


def draw_gains(
    ax: Axes,
    gains: Mapping[tuple[str, str], Any],
    *,
    over: str,
    of: str = "test accuracy",
    unit: str = "points",
    colors: Any = None,
    legend: bool = True,
    **style: Any,
) -> dict[str, Any]:
    """Gains over a rival with their standard errors, one row for each task and one colour for each method.

    Args:
        ax: where to draw
        gains: (task, method) -> (gain, standard error); a method may be missing in a task
        over: the rival, at 0
        of, unit: what is gained, and its unit, for the name of the axis
        colors: one for each method; the methods' own if not given
        legend: write the key
        style: for matplotlib's `errorbar`
    Returns:
        method -> its points with bars
    """
    check_axes(ax)
    checks.text("over", over), checks.text("of", of), checks.text("unit", unit), checks.flag("legend", legend)
    what = "gains must be a dict, (task, method) -> (gain, standard error)"
    if not isinstance(gains, Mapping):
        raise TypeError(f"{what}, got {checks.shown(gains)}")
    if not gains:
        raise ValueError(f"{what}, got none")
    for cell in gains:
        if not isinstance(cell, tuple) or len(cell) != 2 or not all(isinstance(word, str) for word in cell):
            raise TypeError(f"{what}, got the key {checks.shown(cell)}")
    values = {cell: _gain(cell, pair) for cell, pair in gains.items()}
    tasks, methods = (list(dict.fromkeys(words)) for words in zip(*gains, strict=True))
    looks = styles(methods, colors)
    apart = min(0.8 / len(methods), 0.2)
    drawn = {}
    for j, method in enumerate(methods):
        rows = [i for i, task in enumerate(tasks) if (task, method) in values]
        gain, error = np.transpose([values[tasks[i], method] for i in rows])
        height = -np.array(rows) - apart * (j - (len(methods) - 1) / 2)
        look = {"ms": 3.5, "elinewidth": 0.9} | looks[method] | {"ls": "none"} | style
        drawn[method] = ax.errorbar(gain, height, xerr=error, label=method, **look)
        _tag(drawn[method], style.get("gid"))
    ax.axvline(0, color="0.5", lw=0.7, zorder=0)
    for i in range(1, len(tasks)):
        ax.axhline(0.5 - i, color="0.9", lw=0.5, zorder=0)
    ax.set_yticks(-np.arange(len(tasks)), tasks)
    ax.set(ylim=(-len(tasks) + 0.4, 0.6), xlabel=f"{of} minus that of {over} ({unit})")
    explain(ax, "one standard error", ls="-", lw=0.9)
    if legend:  # below: rows leave no room between them
        draw_key(ax, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
    return drawn


def _gain(cell: tuple[str, str], pair: Any) -> np.ndarray:
    pair = checks.numbers(f"gains[{cell!r}]", pair, ndim=1)
    if len(pair) != 2 or pair[1] < 0:
        raise ValueError(f"gains[{cell!r}] must be (gain, standard error >= 0), got {pair.tolist()}")
    return pair


def set_ticks(ax: Axes, values: Any, axis: str = "x") -> None:
    """Label exactly these values on an axis, whatever its scale, with no ticks between them."""
    check_axes(ax)
    values = np.unique(checks.numbers("values", values))
    side = ax.xaxis if checks.choice("axis", axis, ("x", "y")) == "x" else ax.yaxis
    side.set_ticks(values, [f"{value:g}" for value in values])
    side.set_minor_locator(NullLocator())


def _curve(
    ax: Axes, x: np.ndarray, value: np.ndarray, low: Any, high: Any, band: bool, label: str, look: dict[str, Any]
) -> list:
    look = {"ms": 3.5, "lw": 1.0} | look
    if band and low is not None:
        del look["xerr"]
        (line,) = ax.plot(x, value, label=label, **look)
        shade = ax.fill_between(x, low, high, color=look["color"], alpha=0.25, lw=0, gid=look.get("gid"))
        return [line, shade]
    ends = None if low is None else np.abs([value - low, high - value])
    bars = ax.errorbar(x, value, ends, label=label, **{"elinewidth": 0.9} | look)
    _tag(bars, look.get("gid"))
    return [bars]


def _tag(container: Any, gid: str | None) -> None:
    """Give every artist of a container its gid, which matplotlib gives to the first alone."""
    if gid is not None:
        for artist in container.get_children():
            artist.set_gid(gid)


def _words(x: Any) -> list[str]:
    """The words on the axis, if there are words instead of numbers; none otherwise."""
    listed = list(x) if isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.ndim == 1) else []
    return [str(word) for word in listed] if all(isinstance(word, str) for word in listed) else []


def _beside(number: int, series: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Places of the curves next to each other above each word."""
    apart = min(0.7 / len(series), 0.2)
    shift = apart * (np.arange(len(series)) - (len(series) - 1) / 2)
    return {name: np.arange(number) + one for name, one in zip(series, shift, strict=True)}, {}


def _places(x: Any, series: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The places of each curve, and the errors of those that have any."""
    if not isinstance(x, Mapping):
        return dict.fromkeys(series, checks.numbers("x", x, ndim=1, at_least=1)), {}
    if missing := [name for name in series if name not in x]:
        raise ValueError(f"x must hold one array for each of the series, {missing[0]!r} has none")
    tables = {name: checks.numbers(f"x[{name!r}]", x[name], ndim=(1, 2), at_least=1) for name in series}
    for name, table in tables.items():
        if table.ndim == 2 and (len(table) != 2 or (table[1] < 0).any()):
            raise ValueError(f"x[{name!r}] must be places or (places, standard errors >= 0), got shape {table.shape}")
    errors = {name: table[1] for name, table in tables.items() if table.ndim == 2}
    return {name: np.atleast_2d(table)[0] for name, table in tables.items()}, errors


def _with_ends(name: str, values: Any, points: int) -> tuple[np.ndarray, Any, Any]:
    """Values and the ends of their bars, from values, (values, errors) or (values, lower, upper)."""
    table = np.asarray(checks.entries(name, values, "numbers"), dtype=float)
    if table.shape == (points,):
        return table, None, None
    if table.ndim != 2 or table.shape[1] != points or len(table) not in (1, 2, 3):
        raise ValueError(
            f"{name} must be values, (values, errors) or (values, lower, upper) with as many as x, {points}; "
            f"got shape {table.shape}"
        )
    if len(table) == 2:
        if (table[1] < 0).any():
            raise ValueError(f"{name} must have errors >= 0, got {table[1].min():g}")
        return table[0], table[0] - table[1], table[0] + table[1]
    return (table[0], *(table[1:] if len(table) == 3 else (None, None)))


def _pair(name: str, curve: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(curve, Sequence | np.ndarray) or isinstance(curve, str) or len(curve) != 2:
        raise TypeError(f"{name} must be a pair (x, y), got {checks.shown(curve)}")
    x, y = (np.asarray(checks.entries(name, part, "numbers"), dtype=float) for part in curve)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"{name} must be two lists of one length, got shapes {x.shape} and {y.shape}")
    return x, y


def _refer(ax: Axes, reference: Any) -> None:
    """Thin lines at heights, grey or of the method that they name, with their names in the key if they have any."""
    if reference is None:
        return
    if not isinstance(reference, Mapping):
        reference = {"": checks.number("reference", reference, one=True)}
    lines = ("-", ":", "--", "-.")
    for i, (name, height) in enumerate(checks.mapping("reference", reference, "name -> height").items()):
        height = checks.number(f"reference[{name!r}]", height, one=True)
        color = METHOD_COLORS.get(method_of(name) or "", "0.5")
        ax.axhline(height, color=color, lw=0.8, ls=lines[i % len(lines)], zorder=0, label=name or None)
