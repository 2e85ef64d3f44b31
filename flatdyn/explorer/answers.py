"""What an explorer shows of a setup: each a record of the library's own questions, asked in the usual way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.basins import Basins, map_basins
from flatdyn.core import checks
from flatdyn.escape import Ball, Escapes, escape_times
from flatdyn.explorer.setups import Setup, check_plane
from flatdyn.landscapes import CriticalPoint, Landscape
from flatdyn.methods import FirstOrder, Method
from flatdyn.processes import Iteration
from flatdyn.processes.flat import flattening, ordered_eigenvalues
from flatdyn.runs import simulate, stepping
from flatdyn.stability import conditions, kind_of

GRID = 101  # points per side on which the loss is drawn
ARROWS = 17  # per side, of the field of steps
MANY = 8  # starts per side of "many starts"
BASIN_STEPS = 2000  # of a run in a basin map
RUNS, LONGEST_STAY = 512, 20_000  # of escapes
_FAR = 1e-9  # relative: closer points are one


@dataclass(frozen=True)
class Scene:
    """What does not change with the method: the loss in view and its critical points.

    Attributes:
        box: that is seen, one (lower, upper) per coordinate
        axes: the grid's coordinates, one array per coordinate
        loss: on the grid, shape (ny, nx), or (nx,)
        points: critical points in view
        note: what is wrong with the view, or empty
    """

    box: tuple
    axes: tuple[np.ndarray, ...]
    loss: np.ndarray
    points: tuple[CriticalPoint, ...]
    note: str

    @property
    def diagonal(self) -> float:
        return float(np.linalg.norm(np.diff(np.asarray(self.box), axis=1)))

    def nearest(self, theta: Any) -> CriticalPoint | None:
        """The critical point nearest to θ, or None if there is none."""
        gaps = [float(np.linalg.norm(np.asarray(theta) - point.theta)) for point in self.points]
        return self.points[int(np.argmin(gaps))] if gaps and np.isfinite(gaps).all() else None

    @property
    def curvature(self) -> float:
        """The largest |λ| at a minimum in view, or at another critical point; 1 if there is none."""
        minima = [point for point in self.points if point.kind == "minimum"] or self.points
        return max((float(np.abs(point.eigenvalues).max()) for point in minima), default=0.0) or 1.0


def look(landscape: Landscape, box: Any = None) -> Scene:
    """The scene of a landscape of one or two coordinates.

    Raises:
        ValueError: if there is no box, or the loss is finite nowhere in it
    """
    check_plane(landscape)
    box = landscape.box if box is None else box
    if box is None:
        raise ValueError("the landscape has no box: give box=((lower, upper), ...), one pair per coordinate")
    box = checks.box(box, landscape.dim)
    axes = tuple(np.linspace(*side, GRID) for side in box)
    mesh = lattice(axes)
    with np.errstate(all="ignore"):
        loss = np.asarray(landscape.loss(mesh), float)
    bad = ~np.isfinite(loss)
    if bad.all():
        raise ValueError("the loss is finite nowhere in view: write another one, or give another box")
    notes = [f"the loss is not finite at {bad.sum()} of {bad.size} points in view"] if bad.any() else []
    try:
        points = landscape.critical_points(progress=False)
    except (ValueError, TypeError, NotImplementedError) as error:
        notes, points = [*notes, f"critical points are not known: {error}"], []
    inside = [point for point in points if all(a <= x <= b for x, (a, b) in zip(point.theta, box, strict=True))]
    return Scene(box, axes, loss.reshape([GRID] * len(box)), tuple(inside), "; ".join(notes))


def lattice(axes: Sequence[np.ndarray]) -> np.ndarray:
    """The points of a grid, the first axis fastest, shape (points, dim)."""
    return np.stack([part.ravel() for part in np.meshgrid(*axes)], axis=-1)


def path(setup: Setup) -> Any:
    """The run that begins at the start: the record of `flatdyn.simulate`, every step kept."""
    return simulate(setup.process, list(setup.start), setup.steps, setup.key, progress=False)


def many(setup: Setup, scene: Scene) -> Any:
    """Runs from a regular grid of starts in view, fifty positions kept of each."""
    starts = lattice([np.linspace(*side, MANY + 2)[1:-1] for side in scene.box])
    return simulate(setup.process, starts, setup.steps, setup.key, max(1, setup.steps // 50), progress=False)


def perturbed(setup: Setup, theta: np.ndarray) -> np.ndarray | None:
    """Where a method of the SAM family takes its gradient, without noise, shape of θ; None for other methods."""
    method = setup.process.method
    if not isinstance(method, FirstOrder) or "rho" not in setup.numbers:
        return None
    with jax.enable_x64(True):
        return np.asarray(_perturbed(stepping.prepared(exact(setup), jnp.float64), jnp.asarray(theta, float)))


def field(setup: Setup, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Points of a grid in view, and the displacement of a first step without noise from each."""
    points = lattice([np.linspace(*side, ARROWS + 2)[1:-1] for side in scene.box])
    with jax.enable_x64(True):
        return points, np.asarray(_moved(stepping.prepared(exact(setup), jnp.float64), jnp.asarray(points))) - points


def multipliers(setup: Setup, scene: Scene) -> list[np.ndarray] | None:
    """Multipliers of the step without noise at each critical point in view, as `flatdyn.stability.multipliers` gives.

    None where the step has no derivative there: a normalised ascent jumps at every critical point.
    """
    process = exact(setup)
    if not scene.points or process.method.jumps:
        return None if scene.points else []
    points = np.array([point.theta for point in scene.points])
    with jax.enable_x64(True):
        slopes = np.asarray(_slopes(stepping.prepared(process, jnp.float64), jnp.asarray(points)))
    return [ordered_eigenvalues(slope) for slope in slopes] if np.isfinite(slopes).all() else None


def words(setup: Setup, scene: Scene, values: list[np.ndarray] | None) -> str:
    """What the multipliers say, in a sentence."""
    name = setup.called
    if values is None:
        return (
            f"{name} has no multipliers at a critical point: its ascent jumps there. It can stay near minima, saddles "
            "and maxima alike (notebooks 01 and 02)"
        )
    if not values:
        return "there is no critical point in view"
    holding = [point.kind for point, own in zip(scene.points, values, strict=True) if kind_of(own) == "stable"]
    counts = [_counted(holding.count(kind), kind) for kind in dict.fromkeys(holding)]
    rule = condition(setup.process.method)
    sentence = f"Attracting among the {len(values)} critical points in view: {', '.join(counts) or 'none'}."
    return sentence + (f" A direction of curvature λ attracts if {rule}." if rule else "")


def _counted(number: int, kind: str) -> str:
    plural = {"minimum": "minima", "maximum": "maxima", "saddle": "saddles"}
    return f"{number} {kind if number == 1 else plural.get(kind, kind)}"


def condition(method: Method) -> str:
    """The condition under which a direction of curvature λ attracts, in symbols; empty if there is no short one."""
    if not isinstance(method, FirstOrder):
        return ""
    values = {"lr": sympy.Symbol("η", positive=True)}
    if hasattr(method, "rho"):
        values["rho"] = sympy.Symbol("ρ", positive=True)
    if method.inertial:
        values["momentum"] = sympy.Symbol("μ", positive=True)
    template = dataclasses.replace(method, **dict.fromkeys(values, 0.5))  # what its condition depends on besides
    return _rule(type(method), repr(template), lambda: dataclasses.replace(method, **values))


_RULES: dict[tuple, str] = {}


def _rule(kind: type, rest: str, make: Callable[[], Method]) -> str:
    """The condition as text, derived once for methods that differ in the numbers with a slider only."""
    if (kind, rest) not in _RULES:
        try:
            relation = str(conditions(make(), sympy.Symbol("λ", real=True)))
        except (TypeError, ValueError):
            relation = ""
        _RULES[kind, rest] = relation.replace("**", "^").replace("*", "·").replace(" & ", " and ")
    return _RULES[kind, rest]


def basins(setup: Setup, scene: Scene, resolution: int) -> Basins:
    """Which critical point in view is reached from where, by :func:`flatdyn.map_basins` over the view.

    Where there is none, attractors are discovered. Runs that reach none within `BASIN_STEPS` steps are undecided.
    """
    attractors, steps = list(scene.points) or None, BASIN_STEPS
    box, key = scene.box, setup.key
    return map_basins(setup.process, box, resolution, attractors, max_steps=steps, key=key, progress=False)


def stay(setup: Setup, scene: Scene) -> tuple[Escapes, CriticalPoint, float] | None:
    """How long runs stay near the critical point nearest to the start; None without noise or critical points.

    Returns:
        the record of :func:`flatdyn.escape_times`; the point; the radius, half the way to the next one
    """
    center = scene.nearest(setup.start)
    if center is None or not setup.process.random:
        return None
    gaps = [float(np.linalg.norm(point.theta - center.theta)) for point in scene.points]
    others = [gap for gap in gaps if gap > _FAR * scene.diagonal]
    radius = min(others, default=scene.diagonal / 5) / 2
    inside = Ball(center.theta, radius)
    start = np.asarray(center.theta, float)
    times = escape_times(setup.process, start, inside, RUNS, LONGEST_STAY, setup.key, progress=False)
    return times, center, radius


def exact(setup: Setup) -> Iteration:
    """The process without noise."""
    return Iteration(setup.landscape, setup.process.method)


@eqx.filter_jit
def _slopes(process, points):
    _, whole, flatten = flattening(process)

    def slope(theta):
        return jax.jacfwd(lambda row: flatten(process.step(whole(row))))(flatten(process.init(theta)))

    return jax.vmap(slope)(points)


@eqx.filter_jit
def _moved(process, points):
    return jax.vmap(lambda theta: process.position(process.step(process.init(theta))))(points)


@eqx.filter_jit
def _perturbed(process, points):
    method, landscape = process.method, process.landscape

    def one(theta):
        return landscape.array(method.ascend(method.field(landscape.field), landscape.vector(theta)))

    return jax.vmap(one)(points)
