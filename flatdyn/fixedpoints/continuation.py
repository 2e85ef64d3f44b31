"""Branches of fixed points and cycles as a parameter varies, and curves of bifurcations in two.

    branch = continue_in(lambda rho: Iteration(L, USAM(lr, rho)), "rho", (0.02, 0.05), start=(0.0, 1.0))
    branch.bifurcations                                                folds, crossings, flips, Neimark–Sacker points
    continue_in(make, "rho", (0.02, 0.05), branch.bifurcations[0])     the branch that crosses there
    curve_in(make2, ("rho", "lr"), ranges, branch.bifurcations[0], lr) where it lies in the plane of two parameters

Unstable points are followed as well as stable ones, through folds, on the full state (velocities included).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, records, segments
from flatdyn.core.records import Record
from flatdyn.fixedpoints.arclength import Equations, follow
from flatdyn.fixedpoints.bifurcations import Bifurcation, FixedPointProblem, compound
from flatdyn.processes import Process
from flatdyn.processes.flat import MOST_WRITTEN, confirmed, flattening, ordered_eigenvalues, reach, turns
from flatdyn.stability import kind_of


@dataclass(frozen=True, eq=False, repr=False)
class Branch(Record):
    """A branch of fixed points or cycles; see :func:`continue_in`.

    Attributes:
        parameter: values along the branch, shape (points,); not monotone where there are folds
        theta: positions, shape (points, dim)
        state: full states, shape (points, n)
        multipliers: shape (points, n), largest modulus first
        kinds: "stable", "saddle", "repelling", "neutral", or "singular" where finite steps follow no Jacobian and the
            multipliers are NaN, shape (points,)
        special_…: the bifurcations as arrays, for the file; read `bifurcations`
        period: of the orbits
    """

    parameter: np.ndarray
    theta: np.ndarray
    state: np.ndarray
    multipliers: np.ndarray
    kinds: np.ndarray
    special_kind: np.ndarray
    special_parameter: np.ndarray
    special_theta: np.ndarray
    special_state: np.ndarray
    special_multipliers: np.ndarray
    special_tangent: np.ndarray
    period: np.ndarray
    _form: ClassVar = {
        "parameter": "fiu points",
        "theta": "fiu points dim",
        "state": "fiu points n",
        "multipliers": "fiuc points n",
        "kinds": "U points",
        "period": "iu",
    }
    _dims: ClassVar = dict.fromkeys(("special_kind", "special_parameter"), "special") | {
        "special_theta": "special dim",
        "special_state": "special n",
        "special_multipliers": "special n",
        "special_tangent": "special tangent",
    }
    _units: ClassVar = {"multipliers": "1", "special_theta": "theta", "special_multipliers": "1", "period": "steps"}
    _units |= dict.fromkeys(
        ("parameter", "state", "special_kind", "special_parameter", "special_state", "special_tangent"), ""
    )

    @property
    def bifurcations(self) -> list[Bifurcation]:
        """The bifurcations on the branch, in order along it."""
        columns = (self.special_theta, self.special_state, self.special_multipliers, self.special_tangent)
        rows = zip(self.special_kind, self.special_parameter, *columns, strict=True)
        return [Bifurcation(str(kind), float(p), *rest, period=int(self.period)) for kind, p, *rest in rows]

    @property
    def stable(self) -> np.ndarray:
        """Whether each point attracts, shape (points,)."""
        return self.kinds == "stable"

    def at(self, parameter: float) -> list[np.ndarray]:
        """Positions on the branch at one value of the parameter, by linear interpolation between its points."""
        (parameter,) = checks.floats(parameter=parameter)
        gap = self.parameter - parameter
        crossings = [self.theta[i] for i in np.flatnonzero(gap == 0)]
        for i in np.flatnonzero(np.sign(gap[:-1]) * np.sign(gap[1:]) < 0):
            crossings.append(self.theta[i] + gap[i] / (gap[i] - gap[i + 1]) * (self.theta[i + 1] - self.theta[i]))
        return crossings

    def __repr__(self) -> str:
        low, high = self.parameter.min(), self.parameter.max()
        labels = ", ".join(f"{b.kind} at {b.parameter:.6g}" for b in self.bifurcations) or "no bifurcation"
        return f"Branch({len(self.parameter)} points, parameter {low:.6g} to {high:.6g}: {labels})"


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Record):
    """Where a bifurcation lies in the plane of two parameters; see :func:`curve_in`.

    Attributes:
        parameters: values along the curve, shape (points, 2)
        theta: positions, shape (points, dim)
        kind: of the bifurcation
    """

    parameters: np.ndarray
    theta: np.ndarray
    kind: np.ndarray
    _form: ClassVar = {
        "parameters": "fiu points two",
        "theta": "fiu points dim",
        "kind": "U",
    }
    _units: ClassVar = {"parameters": ""}

    def __repr__(self) -> str:
        return f"Curve({self.kind}, {len(self.parameters)} points in {self.config['parameters']})"


def continue_in(
    make_process: Callable[[Any], Process],
    parameter: str,
    values: Sequence[float],
    start: Any,
    *,
    period: int = 1,
    box: Any = None,
    scale: float = 1.0,
    most: int = 2000,
    progress: bool | None = None,
) -> Branch:
    """Follow a branch of fixed points or cycles as one parameter varies.

    Args:
        make_process: the process at a value of the parameter, which may be traced: any hyperparameter of the method,
            or parameter of the landscape
        parameter: its name, for records
        values: its range, from values[0] to values[-1]; the branch is followed from the first towards the last, and
            ends where it leaves the range on either side
        start: what lies on the branch at values[0]: a FixedPoint, a position (dim,) at rest, or a full state (n,), near
            enough for a root search; or a transcritical or pitchfork Bifurcation inside the range, to follow the
            branch that crosses there, in both directions
        period: of the orbit; a FixedPoint or Bifurcation brings its own
        box: the branch also ends where θ leaves it
        scale: typical size of θ on the branch; steps are at most 0.02 of it and of the range
        most: number of points at which to stop, in each direction
        progress: show a bar over the points; if not given, after two seconds
    Returns:
        Branch
    Raises:
        ValueError: if the range is empty, `start` does not lead to a solution, or the map has no derivative there
    """
    checks.function("make_process", make_process, "a function from a value to a Process", 1)
    checks.text("parameter", parameter)
    most = checks.count("most", most, at_least=1)
    scale = checks.number("scale", scale, above=0, one=True)
    values = np.asarray(checks.number("values", values), dtype=float)
    if values.ndim != 1 or len(values) < 2 or values[0] == values[-1]:
        raise ValueError(f"values must be a range of {parameter}, at least two different numbers, got {values}")
    period = checks.count("period", getattr(start, "period", period), at_least=1, at_most=MOST_WRITTEN)
    with jax.enable_x64(True):
        example = _made(make_process, float(values[0]))
        orbit = _Orbit(make_process, example, period)
        problem = FixedPointProblem(
            orbit.cycle, orbit.position, orbit.size, values[0], values[-1] - values[0], scale, period
        )
        sides = None if box is None else np.array(checks.box(box, orbit.dim)).T

        def inside(z):
            if sides is None:
                return True
            theta = np.asarray(orbit.position(jnp.asarray(problem.unscaled(z)[0])))
            return bool((theta >= sides[0]).all() and (theta <= sides[1]).all())

        if isinstance(start, Bifurcation):
            z, towards = problem.crossing(start)
            ways = [follow(problem.equations, z, t, [-1], inside, most) for t in (-towards, towards)]
            back, forth = _counted(ways, progress)
            points = [(z, -t) for z, t in reversed(back)] + forth[1:]
        else:
            z = _first(problem, orbit, start)
            (points,) = _counted([follow(problem.equations, z, np.eye(len(z))[-1], [-1], inside, most)], progress)
        return _record(problem, orbit, points, {"parameter": parameter, "process": records.described(example)})


def curve_in(
    make_process: Callable[[Any, Any], Process],
    parameters: tuple[str, str],
    ranges: Sequence[Sequence[float]],
    start: Bifurcation,
    second: float,
    *,
    scale: float = 1.0,
    most: int = 1000,
    progress: bool | None = None,
) -> Curve:
    """Follow a bifurcation in the plane of two parameters, in both directions.

    Folds, flips and Neimark–Sacker points are followed as they move. A transcritical or pitchfork point is followed
    where the crossing point itself stays (a critical point of the loss does).

    Args:
        make_process: the process at values of both parameters, which may be traced
        parameters: their names, for records
        ranges: ((low, high), (low, high))
        start: a bifurcation in the first parameter, from :func:`continue_in`
        second: value of the second parameter at that bifurcation
        scale: typical size of θ
        most: number of points at which to stop, in each direction
        progress: show a bar over the points; if not given, after two seconds
    Returns:
        Curve
    Raises:
        ValueError: if `start` does not lie on such a curve inside the ranges
    """
    checks.function("make_process", make_process, "a function from two values to a Process", 2)
    checks.kind("start", start, Bifurcation, "one of branch.bifurcations")
    parameters = [checks.text("parameters", one) for one in checks.sequence("parameters", parameters, "two names")]
    if len(parameters) != 2:
        raise ValueError(f"parameters must be two names, got {parameters}")
    if checks.numbers("ranges", ranges).shape != (2, 2):
        raise ValueError(f"ranges must be two pairs (low, high), got {checks.shown(ranges)}")
    most = checks.count("most", most, at_least=1)
    scale = checks.number("scale", scale, above=0, one=True)
    (second,) = checks.floats(second=second)
    for pair in ranges:
        checks.interval("ranges", pair)
    (low, high), place = np.array(checks.box(ranges, 2)).T, np.array([start.parameter, second])
    if not ((place >= low) & (place <= high)).all():
        raise ValueError(f"start ({place[0]:g}, {place[1]:g}) is outside the ranges {ranges}")
    with jax.enable_x64(True):
        orbit = _Orbit(make_process, _made(make_process, *map(float, place)), start.period)
        stays = start.kind in ("transcritical", "pitchfork")
        if stays and any(np.abs(orbit.moved(start.state, *p) - start.state).max() > 1e-9 * scale for p in (low, high)):
            raise ValueError(f"this {start.kind} point moves with {' and '.join(parameters)}: it cannot be followed")
        function = _special_equations(orbit, start, low, high - low, scale, stays)
        z = (place - low) / (high - low)
        equations, z = Equations(function), z if stays else np.append(np.asarray(start.state) / scale, z)
        starts = [equations.solve(z, along) for along in np.eye(len(z))[-2:]]
        starts = [s for s in starts if s is not None and np.abs(s - z).max() < 1e-3]
        if not starts:
            raise ValueError(f"{start!r} is no such point at ({place[0]:g}, {place[1]:g}): do the processes agree?")
        t = equations.tangent(starts[0], np.eye(len(z))[-1])
        ways = [follow(equations, starts[0], s * t, [-2, -1], lambda z: True, most) for s in (-1, 1)]
        sides = _counted(ways, progress)
        points = np.array([z for z, _ in [*reversed(sides[0]), *sides[1][1:]]])
        states = np.tile(start.state, (len(points), 1)) if stays else points[:, :-2] * scale
        return Curve(
            config={"parameters": ", ".join(parameters)},
            provenance=records.provenance(),
            parameters=low + points[:, -2:] * (high - low),
            theta=np.asarray(orbit.positions(states)),
            kind=np.array(start.kind),
        )


def _counted(ways: list[Iterable], progress: bool | None) -> list[list]:
    """All points of each way, counted by a bar."""
    with segments.progress_bar(0, "points", progress) as bar:
        return [[bar.update() or point for point in way] for way in ways]


def _made(make_process: Callable, *parameters: float) -> Process:
    """What a user's function makes of parameters, if it is a process."""
    return checks.kind("what make_process returns", checks.called("make_process", make_process, *parameters), Process)


class _Orbit:
    """One period of a process on its flat full state, as a function of parameters that may be traced."""

    def __init__(self, make_process: Callable, example: Process, period: int):
        if example.random:
            raise ValueError("a random process has no fixed points: continue that of the process without noise")
        turns(example, period)
        self.dim, self.period, self.example = example.dim, period, example
        self.size, whole, flatten = flattening(example)

        def cycle(x, *parameters):
            process, state = make_process(*parameters), whole(x)
            for _ in range(period):
                state = process.step(state)
            return flatten(state)

        self.cycle, self.moved = cycle, jax.jit(cycle)
        self._cycles = jax.jit(jax.vmap(cycle, in_axes=(0, None)))
        self.at_rest = lambda theta: flatten(example.init(theta))
        self.position = jax.jit(lambda x: example.position(whole(x)))
        self.positions = jax.jit(jax.vmap(self.position))

    def multipliers(self, slope: np.ndarray, x: np.ndarray, parameter: float) -> np.ndarray:
        """Those of a Jacobian of one period, or NaN where finite steps do not follow it."""
        slope = confirmed(lambda rows: self._cycles(rows, parameter), x, slope, reach(self.example, x))
        return np.full(self.size, np.nan + 0j) if slope is None else ordered_eigenvalues(slope)


def _first(problem: FixedPointProblem, orbit: _Orbit, start: Any) -> np.ndarray:
    """The solution at the first value of the parameter, near what was given."""
    given = checks.numbers("start", getattr(start, "theta", start))
    if given.shape not in ((orbit.dim,), (orbit.size,)):
        raise ValueError(f"start must have shape ({orbit.dim},) or be a state ({orbit.size},), got {given.shape}")
    x = given if given.shape == (orbit.size,) else np.asarray(orbit.at_rest(jnp.asarray(given)))
    z = problem.scaled(x, problem.low)
    if not np.isfinite(np.asarray(problem.equations.slope(z))).all():
        raise ValueError(
            f"the map has no derivative at {given.tolist()}: normalised SAM jumps at critical points; start at a fixed "
            "point that is not critical, smooth the norm with eps > 0, or use USAM"
        )
    solution = problem.equations.solve(z, np.eye(len(z))[-1])
    if solution is None or np.abs(solution - z).max() > 0.5:
        raise ValueError(f"no orbit of period {orbit.period} found near {given.tolist()} at {problem.low:g}")
    return solution


def _record(problem: FixedPointProblem, orbit: _Orbit, points: list, config: dict[str, str]) -> Branch:
    z = np.array([z for z, _ in points])
    states, values = problem.unscaled(z)
    each = zip(map(problem.map_slope, z), states, values, strict=True)
    multipliers = np.array([orbit.multipliers(*one) for one in each])
    special = problem.bifurcations(points)

    def column(name: str, *shape: int, kind: Any = float) -> np.ndarray:
        return np.array([getattr(b, name) for b in special], dtype=kind).reshape(len(special), *shape)

    return Branch(
        config=config,
        provenance=records.provenance(),
        parameter=values,
        theta=np.asarray(orbit.positions(states)),
        state=states,
        multipliers=multipliers,
        kinds=np.array([kind_of(row) for row in multipliers]),
        special_kind=column("kind", kind="U16"),
        special_parameter=column("parameter"),
        special_theta=column("theta", orbit.dim),
        special_state=column("state", orbit.size),
        special_multipliers=column("multipliers", orbit.size, kind=complex),
        special_tangent=column("tangent", orbit.size + 1),
        period=np.array(orbit.period),
    )


def _special_equations(orbit: _Orbit, start: Bifurcation, low, span, scale: float, stays: bool) -> Callable:
    """R = 0 and the determinant that vanishes at a kind of bifurcation, in (x/scale, scaled parameters)."""

    def determinant(x, p):
        slope = jax.jacfwd(orbit.cycle)(x, *p)
        matrix, target = (compound(slope), 1) if start.kind == "neimark-sacker" else (slope, 1)
        target = -1 if start.kind == "flip" else target
        return jnp.linalg.det(matrix - target * jnp.eye(len(matrix)))

    state = jnp.asarray(start.state)
    slope = jax.jit(jax.jacfwd(lambda q: determinant(state, low + q * span)))(np.full(2, 0.5))
    unit = float(np.abs(slope).max()) or 1.0

    def function(z):
        p = low + z[-2:] * span
        x = state if stays else z[:-2] * scale
        vanishing = determinant(x, p)[None] / unit
        return vanishing if stays else jnp.concatenate([(orbit.cycle(x, *p) - x) / scale, vanishing])

    return function
