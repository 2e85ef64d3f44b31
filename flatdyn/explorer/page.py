"""The explorer as one page without a kernel: the same controls over results that were computed before.

    write_page("explorer.html")        three landscapes, three methods, a grid of η, ρ and μ, and of starts

The page holds everything: the view, its style, and the answers in binary. A control goes to the nearest value of the
grid, and says so. What is shown of a cell is what the explorer in a notebook shows of it.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flatdyn.core import checks, records, segments
from flatdyn.explorer import answers, messages, setups
from flatdyn.explorer.answers import Scene
from flatdyn.explorer.exploring import ranges, usual
from flatdyn.explorer.setups import Setup
from flatdyn.runs import simulate

LANDSCAPES = "himmelblau", "beale", "six_hump_camel"
METHODS = "GD", "SAM", "USAM"
RATES = 0.1, 0.3, 0.9, 2.1  # η in units of 1/λ, the largest curvature at a minimum in view
RADII = 0.5, 1.0, 3.0  # ρ in units of its usual value
MOMENTA = 0.0, 0.5, 0.9
_STARTS, _POINTS, _STEPS = 9, 21, 200  # starts per side; positions of a path, and its steps
_CELLS = 40  # per side of a basin map
_ROOM = 0.25  # of the view, around it: where a path is drawn at most
_HERE = Path(__file__).parent
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>flatdyn: drag the start, and see where it goes</title>
<style>
body {{ margin: 0 auto; max-width: 1080px; font-family: system-ui, sans-serif; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #1b1b1b; color: #e8e8e8; }} }}
body > p {{ margin: 10px 8px; }}
{style}
</style>
</head>
<body>
<p>{words}</p>
<div id="explorer"></div>
<script type="application/json" id="answers">{answers}</script>
<script type="module">
{view}
{carrier}
</script>
</body>
</html>
"""
_WORDS = (
    "Drag the start, or choose a method and its numbers. The answers were computed before, on a grid: each control "
    "goes to the nearest value. In a notebook, <code>fd.explore()</code> computes every value live, and escapes, too."
)


def write_page(
    path: Any,
    landscapes: Sequence[str] = LANDSCAPES,
    methods: Sequence[str] = METHODS,
    *,
    rates: Sequence[float] = RATES,
    radii: Sequence[float] = RADII,
    momenta: Sequence[float] = MOMENTA,
    progress: bool | None = None,
) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: of the file
        landscapes: names of the catalogue, each of two coordinates
        methods: names of `flatdyn.explorer.setups.METHODS`
        rates: η in units of 1/λ, the largest curvature at a minimum in view
        radii: ρ in units of the value that an explorer begins with
        momenta: μ
        progress: show a bar; if not given, after two seconds
    Returns:
        the path
    Raises:
        ValueError: if a name is unknown, or a number can't be used
    """
    for name in checks.sequence("landscapes", landscapes, "names"):
        checks.choice("landscapes", name, setups.landscapes())
    for name in checks.sequence("methods", methods, "names"):
        checks.choice("methods", name, setups.METHODS)
    cells = [(method, *numbers) for method in methods for numbers in _numbers(method, rates, radii, momenta)]
    planes: dict[str, Any] = {}
    with segments.progress_bar(len(landscapes) * len(cells), "cells", progress) as bar:
        for name in landscapes:
            landscape = setups.read_landscape(name)
            scene = answers.look(landscape)
            planes[name] = _plane(landscape, scene)
            for method, rate, radius, momentum in cells:
                begin = usual(scene, method)
                setup = Setup(
                    landscape,
                    setups.METHODS[method],
                    rate / scene.curvature,
                    radius * begin["rho"],
                    momentum,
                    start=tuple(begin["start"]),
                    words=(f"fd.landscapes.{name}()", method),
                )
                planes[name]["cells"].append(_cell(setup, scene))
                bar.update()
    whole = {"planes": planes, "methods": list(methods), "starts": _STARTS, "points": _POINTS, "room": _ROOM}
    whole |= {"every": _STEPS // (_POINTS - 1)}
    text = _PAGE.format(
        style=(_HERE / "view.css").read_text(),
        words=_WORDS,
        answers=json.dumps(whole, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/"),
        view=(_HERE / "view.js").read_text(),
        carrier=(_HERE / "still.js").read_text(),
    )
    path = Path(path)
    records.write_whole(path, text.encode())
    return path


def _numbers(method: str, rates: Sequence[float], radii: Sequence[float], momenta: Sequence[float]):
    """All (η, ρ, μ) of a method, in their units; one ρ for a method without."""
    own = radii if hasattr(setups.METHODS[method], "rho") else (1.0,)
    return itertools.product(rates, own, momenta)


def _plane(landscape: Any, scene: Scene) -> dict[str, Any]:
    """What a landscape shows, and where its controls begin."""
    setup = Setup(landscape, setups.METHODS["GD"], start=tuple(usual(scene, "GD")["start"]))
    message, parts = messages.of_scene(setup, scene)
    return {"scene": message, "loss": _text(parts[0]), "ranges": ranges(scene), "cells": []}


def _cell(setup: Setup, scene: Scene) -> dict[str, Any]:
    """The answers to one setting: multipliers, basins, and a path from each start of a grid."""
    values = answers.multipliers(setup, scene)
    circle, numbers = messages.of_multipliers(setup, scene, values)
    basins, labels = messages.of_basins(answers.basins(setup, scene, _CELLS))
    lows, sides = np.array(scene.box)[:, 0], np.diff(scene.box, axis=1)[:, 0]
    starts = answers.lattice([np.linspace(*side, _STARTS) for side in scene.box])
    paths = simulate(setup.process, starts, _STEPS, every=_STEPS // (_POINTS - 1), progress=False)
    share = np.clip((np.asarray(paths.theta, float) - lows) / sides, -_ROOM, 1 + _ROOM)
    place = np.round((share + _ROOM) / (1 + 2 * _ROOM) * 65535).astype("<u2")
    return {
        "method": setup.called,
        **{name: setup.numbers.get(name, 0.0) for name in setups.NUMBERS},
        "multipliers": [circle, [_text(part) for part in numbers]],
        "basins": [basins, _text(labels[0])],
        "paths": _text(place.tobytes()),
        "ends": [[round(float(x), 6) for x in end] for end in paths.final],
        "status": np.asarray(paths.status).tolist(),
    }


def _text(part: bytes) -> str:
    return base64.b64encode(part).decode()
