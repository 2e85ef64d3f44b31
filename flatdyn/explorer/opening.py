"""`flatdyn.explore`: from what a user names to an explorer that shows itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flatdyn import noise as noises
from flatdyn.core import checks
from flatdyn.explorer import setups
from flatdyn.explorer.exploring import Explorer
from flatdyn.landscapes import Landscape
from flatdyn.methods import Method

SHOWN = "basins", "field", "perturbed", "many"


def explore(
    landscape: Landscape | str = "himmelblau",
    method: Method | str = "SAM",
    noise: noises.Noise | None = None,
    *,
    start: Any = None,
    steps: int = 2000,
    ascent: str = "shared",
    seed: int = 0,
    box: Any = None,
    shown: Sequence[str] = ("basins",),
) -> Explorer:
    """Controls for a method on a landscape, and what follows: the path, basins, multipliers, how long runs stay.

    Args:
        landscape: a landscape of one or two coordinates, its name in `flatdyn.landscapes`, or a text in x and y
        method: a method, whose lr, rho and momentum get sliders; or "GD", "Nesterov", "SAM", "USAM", "DNSAM", "ASAM"
        noise: how the gradient is sampled: `flatdyn.noise.Gaussian` gets sliders, another stays as it is; none if not
            given
        start: θ₀; beside a saddle if not given
        steps: how long the path is, at most 20,000
        ascent: which minibatch SAM's ascent sees, as of :class:`flatdyn.Iteration`
        seed: of all random numbers
        box: that is seen, ((lower, upper), ...); the landscape's own if not given
        shown: what is drawn besides the path: "basins", the "field" of steps, the "perturbed" points at which SAM takes
            its gradient, and "many" paths
    Returns:
        an :class:`Explorer`, which shows itself in JupyterLab, Notebook, VS Code and marimo when it ends a cell
    Raises:
        ValueError: if the landscape has more than two coordinates or can't be read, or a value can't be used
    """
    own = {"landscape": None, "method": None, "noise": None}
    place, text, kind = setups.OWN, "", setups.OWN
    if isinstance(landscape, str):
        known = landscape in setups.landscapes()
        place, text = (landscape, "") if known else (setups.EXPRESSION, landscape)
        _ = setups.read_landscape(place, text)
        if box is not None:  # of a view of one's own
            own["landscape"], place = setups.read_landscape(place, text), setups.OWN
    else:
        own["landscape"] = checks.kind("landscape", landscape, Landscape)
        place = setups.name_of(landscape) if box is None else setups.OWN
    if isinstance(method, str):
        kind = checks.choice("method", method, setups.METHODS)
    else:
        own["method"] = checks.kind("method", method, Method)
        kind = setups.method_name(method)
    for word in checks.sequence("shown", shown, "words"):
        checks.choice("shown", word, SHOWN)
    values: dict[str, Any] = {"landscape": place, "expression": text, "method": kind}
    values |= dict.fromkeys(setups.NUMBERS) | {"scale": 0.0, "batch_size": 1.0}
    if own["method"] is not None:
        values |= setups.numbers_of(method)
    own |= {name: None for name, called in (("landscape", place), ("method", kind)) if called != setups.OWN}
    if isinstance(noise, noises.Gaussian) and noise.scale is not None and not hasattr(noise.scale, "__len__"):
        values |= {"scale": float(noise.scale), "batch_size": float(noise.batch_size)}
    elif noise is not None:
        own["noise"] = checks.kind("noise", noise, noises.Noise)
    values |= {"ascent": ascent, "start": None if start is None else list(start), "steps": steps, "seed": seed}
    return Explorer(own, values | {"shown": list(shown)}, box)
