"""What a notebook needs besides the science: two sizes, numbers and figures that can be checked, one place to save.

Numbers go out through :func:`report` and figures through :func:`show`. nbval compares the texts of stored and new
output, but not pictures: so a figure carries a digest of the plotted data, which no reader sees.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from flatdyn.core import checks, records, stores
from flatdyn.core.records import Record
from flatdyn.notebook import agreement, digests

DIGEST = "text/x-flatdyn-digest"  # MIME type of a figure's digest, which JupyterLab, nbconvert and forges do not show


def is_full() -> bool:
    """Whether the full preset is on: FLATDYN_PRESET=full. Anything else, or nothing, means quick."""
    name = os.environ.get("FLATDYN_PRESET", "quick")
    if name not in ("quick", "full"):
        raise ValueError(f"FLATDYN_PRESET must be quick or full, got {name!r}")
    return name == "full"


def preset(*, quick: Any, full: Any) -> Any:
    """`quick` in seconds, for reading and for regression; `full` at the paper's scale, for the committed figures.

    Raises:
        OSError: at the full preset, if figures can't be written: better now than after hours
    """
    if not is_full():
        return quick
    check_figures(figures_folder())
    return full


@functools.cache
def check_figures(folder: Path) -> None:
    """Whether figures and their data can be written, looked at once; raises OSError if not."""
    for part in (folder, folder / "data"):
        stores.check_writable(part / "figure", what="figures")


def number(value: float, uncertainty: float | None = None, sig: int = 6, zero: float = 0.0) -> str:
    """A number as text: `sig` significant digits with trailing zeros, or value(uncertainty), 0.894(2).

    A number in the middle between two texts, such as 0.25 with one digit, is rounded away from 0 on every machine.
    Without an uncertainty, one of size `zero` or less is 0.
    """
    # The package `uncertainties` has this notation, but neither "(exact)" nor a rounding that is the same everywhere
    sig = checks.count("sig", sig, at_least=1, at_most=17)
    if isinstance(value, (bool, np.bool_, str)):
        return str(value)
    if isinstance(value, (int, np.integer)) and uncertainty is None:
        return str(int(value))
    value = measured("value", value)
    uncertainty = None if uncertainty is None else measured("uncertainty", uncertainty)
    if uncertainty is not None and uncertainty < 0:
        raise ValueError(f"uncertainty, the error of a number, must be >= 0, got {uncertainty}")
    if uncertainty is None or not np.isfinite(uncertainty):
        return f"{_off_the_middle(0.0 if abs(value) <= zero else value, sig):#.{sig}g}"
    if uncertainty == 0 or (
        np.isfinite(value) and uncertainty <= 1e-13 * abs(value)
    ):  # of runs that agree but for rounding
        return f"{_off_the_middle(value, sig):.{sig}g} (exact)"
    uncertainty = _off_the_middle(uncertainty)
    places = -int(np.floor(np.log10(uncertainty)))
    last = round(uncertainty * 10.0**places)
    if last == 10:
        places, last = places - 1, 1
    if places <= 0:
        return f"{round(value, places):.0f}({last * 10**-places})"
    if max(abs(value), uncertainty) < 1e-3:
        exponent = int(np.floor(np.log10(max(abs(value), uncertainty))))
        return f"{value / 10.0**exponent:.{places + exponent}f}({last})e{exponent:+03d}"
    return f"{value:.{places}f}({last})"


def measured(name: str, value: Any) -> float:
    """One number as a float, be it infinite or NaN: a missing result is printed as it is."""
    array = checks.entries(name, value)
    if array.size != 1:
        raise ValueError(f"{name} must be one number, got {checks.shown(value)}")
    return float(array.item())


def _off_the_middle(value: float, sig: int = 1) -> float:
    """The number, moved by more than its rounding and far less than the last digit that is shown."""
    return value * (1 + min(1e-11, 10.0 ** -(sig + 3)))


def report(
    values: Mapping[str, Any], sig: int = 6, unc: Mapping[str, float] | None = None, zero: float = agreement.ZERO
) -> None:
    """Print `name = value`, one a line, so that nbval can hold a rerun to it.

    What is zero but for rounding has other digits on every machine and is printed as 0: numbers without an error up
    to the size `zero`, and entries of an array up to 1e-12 of its largest.

    Args:
        values: name -> number, word, or array of numbers
        sig: significant digits; as many as are stable between machines
        unc: name -> standard error, printed as value(uncertainty) instead
        zero: size up to which a number without an error is 0; give 0 if yours are as small as that
    """
    checks.mapping("values", values, "name -> number")
    if unc is not None:
        checks.mapping("unc", unc, "name -> standard error")
    sig = checks.count("sig", sig, at_least=1, at_most=17)
    width = max(map(len, values), default=0)
    for name, value in values.items():
        entries = np.ravel(np.asarray(value, dtype=object))
        sizes = [abs(entry) for entry in entries if isinstance(entry, (float, np.floating)) and np.isfinite(entry)]
        floor = max(zero, 1e-12 * max(sizes, default=0.0)) if len(entries) > 1 else zero
        text = ", ".join(number(entry, (unc or {}).get(name), sig, floor) for entry in entries)
        print(f"{name:<{width}} = {text}")


def say(name: str, value: Any, error: Any, unknown: str | None = None) -> tuple[float, float]:
    """Print `name = value(error)`, and return both as floats.

    Args:
        name: what it is
        value, error: a number and its standard error, such as :func:`flatdyn.statistics.mean_sem` gives
        unknown: what to print where the error is not finite; the value if not given
    """
    checks.text("name", name)
    value, error = measured("value", value), measured("error", error)
    known = unknown is None or np.isfinite(error)
    report({name: value if known else checks.text("unknown", unknown)}, unc={name: error})
    return value, error


def show(figure: Figure) -> None:
    """Display a figure. Its digest travels unseen with it, as one more MIME type, for nbval to compare."""
    checks.kind("figure", figure, Figure, "plt.figure()")
    import matplotlib.pyplot as plt

    try:
        from IPython import get_ipython
        from IPython.display import publish_display_data
    except ImportError:  # a plain Python run of the notebook's cells
        shell = None
    else:
        shell = get_ipython()
    if shell is None:
        print(digest(figure))
    else:
        data, metadata = shell.display_formatter.format(figure)
        publish_display_data(data | {DIGEST: digest(figure)}, metadata)
    plt.close(figure)


def digest(figure: Figure) -> str:
    """The plotted data in a few numbers, each rounded on the scale of its axis; see :mod:`flatdyn.notebook.digests`."""
    checks.kind("figure", figure, Figure, "plt.figure()")
    return digests.digest(figure)


def save_figure(figure: Figure, name: str, **data: Record | Any) -> None:
    """Write figures/NAME.pdf, NAME.png and the numbers behind it, figures/data/NAME.npz; full preset only.

    The files carry no date and no version of matplotlib: the same numbers give the same bytes.

    Args:
        figure: what to save
        name: the notebook's own name, with a suffix if it has several figures
        data: records, or arrays; the arrays of a record `gd` are stored as `gd.theta`, …
    """
    checks.kind("figure", figure, Figure, "plt.figure()")
    checks.text("name", name)
    if not is_full():
        print(f"figures/{name} is left as it is: FLATDYN_PRESET=full writes it")
        return
    arrays = {}
    for key, value in data.items():
        arrays |= {f"{key}.{k}": a for k, a in value.arrays().items()} if isinstance(value, Record) else {key: value}
    folder = figures_folder()
    config = {key: value.config for key, value in data.items() if isinstance(value, Record)}
    header = {"figure": name, "config": config, "provenance": records.provenance(), "digest": digest(figure)}
    arrays = {k: np.asarray(v) for k, v in arrays.items()}
    files = {folder / "data" / f"{name}.npz": records.packed(arrays, header)}
    plain = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    for kind, metadata in plain.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata)
        files[folder / f"{name}.{kind}"] = buffer.getvalue()
    records.write_together(files)
    print(f"figures/{name}.pdf, .png and data written")


def figures_folder() -> Path:
    """Where figures live: FLATDYN_FIGURES, else the `figures` folder beside or above the working directory."""
    if "FLATDYN_FIGURES" in os.environ:
        return Path(os.environ["FLATDYN_FIGURES"])
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "figures" / "regenerate.py").exists():
            return folder / "figures"
    return Path.cwd() / "figures"
