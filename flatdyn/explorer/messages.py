"""What a view is sent: each answer as a small dictionary and its numbers in binary, 32-bit floats in order.

The same messages feed the widget in a notebook and the static page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from flatdyn.basins import Basins
from flatdyn.basins.labels import DIVERGED, UNDECIDED
from flatdyn.core.records import Ensemble, Status
from flatdyn.escape import Escapes, exit_law
from flatdyn.explorer import answers
from flatdyn.explorer.answers import Scene
from flatdyn.explorer.setups import Setup
from flatdyn.landscapes import CriticalPoint
from flatdyn.plotting import basin_colors
from flatdyn.plotting.planes import spaced_levels

LEVELS = 16  # contour lines
_SHOWN = 2000  # positions of a path that a view gets at most
_BINS = 40
_PANELS = 32  # of an exact law: the same for all noises, so that a slider compiles nothing

Message = tuple[dict[str, Any], list[bytes]]


def of_scene(setup: Setup, scene: Scene) -> Message:
    """The loss on a grid, and the critical points."""
    points = [{"at": p.theta.tolist(), "kind": p.kind, "eigenvalues": p.eigenvalues.tolist()} for p in scene.points]
    levels = spaced_levels(scene.loss, LEVELS, "log").tolist() if len(scene.box) == 2 else []
    names = [symbol.name for symbol in getattr(setup.landscape, "symbols", ())] or ["θ₁", "θ₂"]
    message = {"kind": "scene", "box": scene.box, "points": points, "levels": levels, "names": names}
    return message | {"grid": answers.GRID, "note": scene.note}, [_binary(scene.loss)]


def of_path(setup: Setup, scene: Scene, run: Ensemble) -> Message:
    """Positions, loss, and distance to the critical point that is nearest to the end."""
    theta = np.asarray(run.theta, float)
    every = max(1, -(-len(theta) // _SHOWN))
    shown = theta[::every]
    with np.errstate(all="ignore"):
        loss = np.asarray(setup.landscape.loss(jnp.asarray(shown)), float)
    end = scene.nearest(run.final)
    gap = np.full(len(shown), np.nan) if end is None else np.linalg.norm(shown - end.theta, axis=1)
    message = {
        "kind": "path",
        "every": every,
        "steps": int(run.steps),
        "status": Status(int(run.status)).name.lower(),
        "end": np.asarray(run.final, float).tolist(),
        "near": None if end is None else _name(end),
        "code": setup.code,
    }
    return message, [_binary(shown), _binary(loss), _binary(gap)]


def of_multipliers(setup: Setup, scene: Scene, multipliers: list[np.ndarray] | None) -> Message:
    """Real parts, then imaginary parts, for each critical point."""
    parts = [_binary(np.stack([np.stack([values.real, values.imag]) for values in multipliers]))] if multipliers else []
    count = len(multipliers[0]) if multipliers else 0
    return {"kind": "multipliers", "count": count, "text": answers.words(setup, scene, multipliers)}, parts


def of_field(points: np.ndarray, moves: np.ndarray) -> Message:
    return {"kind": "field"}, [_binary(points), _binary(moves)]


def of_perturbed(seen: np.ndarray | None) -> Message:
    return {"kind": "perturbed"}, [] if seen is None else [_binary(seen)]


def of_many(paths: Ensemble) -> Message:
    return {"kind": "many", "runs": len(paths.theta)}, [_binary(paths.theta)]


def of_basins(basins: Basins) -> Message:
    """One byte a point: the number of its name."""
    colors, shares, errors = basin_colors(basins), basins.fractions(), basins.errors()
    names = [*map(str, basins.names), "undecided", "diverged"]
    index = np.where(basins.labels == UNDECIDED, len(names) - 2, basins.labels)
    index = np.where(basins.labels == DIVERGED, len(names) - 1, index).astype(np.uint8)
    message = {
        "kind": "basins",
        "shape": index.shape,
        "names": names,
        "colors": [colors[name] for name in names],
        "shares": [shares.get(name, 0.0) for name in names],
        "errors": [errors.get(name, 0.0) for name in names],
    }
    return message, [index.tobytes()]


def of_stay(setup: Setup, answer: tuple[Escapes, CriticalPoint, float] | None) -> Message:
    """A histogram of escape times and, on the line, how many runs the exact law expects in each bar."""
    if answer is None:
        text = "Runs leave by luck where there is noise, and a critical point in view: move the slider of the noise."
        return {"kind": "stay", "text": text}, []
    escapes, center, radius = answer
    left = escapes.steps[escapes.escaped]
    counts, edges = np.histogram(left, _BINS if len(left) else 1)
    if not len(left):
        text = f"No run of {len(escapes.steps)} left {_name(center)} within {answers.LONGEST_STAY} steps."
        return {"kind": "stay", "text": text}, [_binary(counts), _binary(edges)]
    mean, error, censored = escapes.mean()
    text = f"{_name(center)}, radius {radius:.3g}: mean {mean:.4g} ± {error:.2g} steps"
    text += f"; {censored:.1%} stay longer than {answers.LONGEST_STAY}" if censored else ""
    parts = [_binary(counts), _binary(edges)]
    if (law := _law(setup, center, radius)) is not None:
        survival = law.survival(np.maximum(np.ceil(edges) - 1, 0).astype(int))
        parts.append(_binary(-np.diff(survival) * len(escapes.steps)))
        text += f"; exact mean {law.mean:.4g}"
    return {"kind": "stay", "text": text, "mean": float(mean)}, parts


def _law(setup: Setup, center: CriticalPoint, radius: float):
    """The exact law of the exit from an interval, or None where it is not known."""
    if setup.landscape.dim != 1:
        return None
    place = float(center.theta[0])
    try:
        return exit_law(setup.process, (place - radius, place + radius), place, _PANELS, progress=False)
    except (ValueError, TypeError):
        return None


def _name(point: CriticalPoint) -> str:
    return f"{point.kind} ({', '.join(f'{x:.3g}' for x in point.theta)})"


def _binary(values: Sequence | np.ndarray) -> bytes:
    return np.ascontiguousarray(values, np.float32).tobytes()
