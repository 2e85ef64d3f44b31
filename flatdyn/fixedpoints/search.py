"""Every fixed point and short cycle of a process in a box, and whether it attracts.

    find(process, box)              fixed points: θ = F(θ)
    find(process, box, period=2)    cycles of that period

For methods that follow one gradient ∇L(p(θ)) the problem is reduced, not searched. A fixed point needs ∇L(p) = 0, so
the perturbed point p is a critical point of L, which :meth:`Landscape.critical_points` lists, and θ is what sees it:

    GD      θ = p
    SAM     θ = p − ρ u,  ‖u‖ = 1,  ∇L(θ) = ‖∇L(θ)‖ u     a root search on the circle of radius ρ around p
    USAM    θ + ρ ∇L(θ) = p                               the critical points of L(θ) + ‖θ − p‖²/(2ρ)

Those with θ ≠ p are the points at which the method stops although the loss is not stationary there ("hallucinated
minimizers", Park et al., arXiv 2509.21818). For all other processes there is a search, and the result says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
import sympy

from flatdyn import stability
from flatdyn.core import checks, memory, segments
from flatdyn.landscapes import critical
from flatdyn.methods import SAM, USAM
from flatdyn.methods.base import FirstOrder
from flatdyn.processes import Iteration, Process
from flatdyn.processes.flat import MOST_WRITTEN, FlatState, flat_state, ordered_eigenvalues, turns
from flatdyn.stability import quadratic

_ANGLES = 4096  # samples of the circle: roots closer than 2π/4096 to each other could be missed
_SAME = 1e-7  # states closer than this, relative to 1 + |state|, are one point
_RAYS, _KNOWN, _CELLS = 64, 64, 256  # directions per dimension; roots that repel at once; cells that give a start


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point or a cycle.

    Attributes:
        theta: its position, or the first one of the cycle, shape (dim,)
        multipliers: eigenvalues of the Jacobian of the full state map over one period, largest modulus first;
            NaN where there is no Jacobian
        kind: "stable", "saddle", "repelling", "neutral" (a multiplier of modulus 1), or "singular": finite steps follow
            no Jacobian, as of Adam, Lion, or normalised SAM at a critical point (then ask :mod:`flatdyn.quadratic`)
        is_critical: whether ∇L vanishes at theta; None if the process has no landscape
        period: 1 for a fixed point
        orbit: positions over one period, shape (period, dim)
        perturbed: where the method takes its gradient from theta, shape (dim,); None if the process has no such point
    """

    theta: np.ndarray
    multipliers: np.ndarray
    kind: str
    is_critical: bool | None
    period: int
    orbit: np.ndarray
    perturbed: np.ndarray | None

    def __repr__(self) -> str:
        place = ", ".join(f"{x:.8g}" for x in self.theta)
        largest = "" if self.kind == "singular" else f", |multiplier| {abs(self.multipliers[0]):.6g}"
        what = "fixed point" if np.ptp(self.orbit, axis=0).max() <= _SAME else f"{self.period}-cycle"
        critical_or_not = {True: ", critical", False: ", not critical", None: ""}[self.is_critical]
        return f"FixedPoint({self.kind} {what} at ({place}){critical_or_not}{largest})"


class FixedPoints(list):
    """A list of :class:`FixedPoint` that says how complete it is.

    Attributes:
        complete: True if it is certain that the box holds no other isolated one (for SAM: none that is further than
            2π/4096 from the others on its circle)
        how: one sentence on how the list was made
        unconverged: for a search, the starts that led nowhere, shape (number, dim)
    """

    def __init__(self, points: Iterable[FixedPoint], complete: bool, how: str, unconverged: Any = ()):
        super().__init__(sorted(points, key=lambda point: tuple(np.round(point.theta, 9))))
        self.complete = complete
        self.how = how
        self.unconverged = np.asarray(unconverged, dtype=float)


def find(
    process: Process, box: Any = None, period: int | None = None, *, starts: int = 256, progress: bool | None = None
) -> FixedPoints:
    """All fixed points, or all cycles of one period, of a process in a box.

    Args:
        process: deterministic; a method on a landscape, an optax optimiser, your own map
        box: ((lower, upper), ...), one pair per coordinate; the process's own if not given
        period: 1, if not given, for fixed points; 2, 3, 4, … for cycles of exactly that period, one entry each. Where
            steps are counted and the map repeats itself only after some (LookSAM, Lookahead), these are the least
        starts: starting points of a search, where one is needed
        progress: show a bar over them; if not given, after two seconds
    Returns:
        FixedPoints: a list with the attributes `complete`, `how`, `unconverged`
    Raises:
        ValueError: if there is no finite box, the period is not a positive whole number, or the process is random
    """
    checks.kind("process", process, Process)
    period = checks.count("period", process.period if period is None else period, at_least=1, at_most=MOST_WRITTEN)
    turns(process, period)
    box = process.box if box is None else box
    if box is None:
        raise ValueError("fixed points are looked for in a box: give box=((lower, upper), ...)")
    box = checks.box(box, process.dim)
    if process.random:
        raise ValueError("a random process has no fixed points: ask for those of the process without noise")
    with jax.enable_x64(True):
        reduced = _reduced(process, box) if period == 1 else None
        if reduced is not None:
            places, complete, how = reduced
            inside = [theta for theta in places if _inside(theta, box)]
            flat = flat_state(process)
            points = [_describe(process, flat, theta[None], flat.at_rest(theta), 1) for theta in inside]
            return FixedPoints(points, complete, how)
        starts = checks.count("starts", starts, at_least=1)
        memory.check_memory(memory.array_bytes(6, starts, process.dim), "the starts", "search from fewer `starts`")
        return _searched(process, box, period, starts, progress)


# --- reduction to critical points -----------------------------------------------------------------------------


def _reduced(process: Process, box: tuple) -> tuple[list[np.ndarray], bool, str] | None:
    """Places, completeness and how, for a method whose fixed points are tied to critical points; else None."""
    method = getattr(process, "method", None)
    known = isinstance(process, Iteration) and isinstance(method, FirstOrder)
    if not known or not method.tied or method.vanishes_apart(process.shapes()):
        return None
    points = process.landscape.critical_points()
    places = [point.theta for point in points]
    how = f"critical points: {points.how}"
    if points.continua:
        how += "; those on continua are not listed"
    complete = points.complete and not points.continua
    if (rho := float(getattr(method, "rho", 0.0))) == 0:
        return places, complete, how
    if isinstance(method, SAM):
        seeing, certain, way = _circle_points(process, places, rho)
    elif isinstance(method, USAM):
        seeing, certain, way = _pulled_points(process, places, rho, box)
    else:
        return None
    return _distinct([*places, *seeing]), complete and certain, f"{how}; others: {way}"


def _circle_points(process: Iteration, centres: list, rho: float) -> tuple[list[np.ndarray], bool, str]:
    """θ = p − ρ u with ∇L(θ) along +u, for every critical point p."""
    grad = process.landscape.grad
    if process.dim == 1:
        places = [p - rho * u for p in centres for u in (-1.0, 1.0) if float(grad(p - rho * u)[0]) * u > 0]
        return [np.asarray(place) for place in places], True, "both sides of each critical point"
    if process.dim > 2:
        return _sphere_points(process, centres, rho)

    def unit(angle):
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    def across(angle, p):
        """Component of ∇L(p − ρ u) across u, relative to its length: zero where the gradient is along ±u."""
        g = np.asarray(grad(p - rho * unit(angle)))
        u = unit(angle)
        return (u[..., 0] * g[..., 1] - u[..., 1] * g[..., 0]) / np.maximum(np.linalg.norm(g, axis=-1), 1e-300)

    places, angles = [], np.linspace(0, 2 * np.pi, _ANGLES + 1) + 1e-3  # off the axes, where roots like to be
    for p in centres:
        values = across(angles, p)
        for i in np.flatnonzero(values[:-1] * values[1:] < 0):
            angle = scipy.optimize.brentq(across, angles[i], angles[i + 1], args=(p,), xtol=1e-15)
            theta, u = p - rho * unit(angle), unit(angle)
            if np.asarray(grad(theta)) @ u > 0 and abs(across(angle, p)) < 1e-6:
                places.append(theta)
    return places, True, f"a root search at {_ANGLES} angles around each critical point"


def _sphere_points(process: Iteration, centres: list, rho: float) -> tuple[list[np.ndarray], bool, str]:
    """As :func:`_circle_points` in three or more dimensions: ∇L(p − ρu) = m u, ‖u‖ = 1, from many u. Not exhaustive."""
    dim = process.dim
    directions = np.random.default_rng(0).normal(size=(_RAYS * dim, dim))
    grad, hessian = process.landscape.grad, process.landscape.hessian
    places = []

    def residual(x, p):
        return np.append(np.asarray(grad(p - rho * x[:-1])) - x[-1] * x[:-1], x[:-1] @ x[:-1] - 1)

    def slope(x, p):
        upper = -rho * np.asarray(hessian(p - rho * x[:-1])) - x[-1] * np.eye(dim)
        return np.block([[upper, -x[:-1, None]], [2 * x[None, :-1], np.zeros((1, 1))]])

    for p in centres:
        axes = np.linalg.eigh(np.asarray(hessian(p)))[1].T
        for u in np.concatenate([axes, -axes, directions]):
            u = u / np.linalg.norm(u)
            start = np.append(u, np.asarray(grad(p - rho * u)) @ u)
            root = scipy.optimize.root(residual, start, args=(p,), jac=slope, options={"xtol": 1e-14})
            if root.success and root.x[-1] > 0 and np.abs(residual(root.x, p)).max() < 1e-8 * (1 + abs(root.x[-1])):
                places.append(p - rho * root.x[:-1])
    return places, False, f"a search from {(_RAYS + 2) * dim} directions around each critical point, not exhaustive"


def _pulled_points(process: Iteration, centres: list, rho: float, box: tuple) -> tuple[list[np.ndarray], bool, str]:
    """θ + ρ ∇L(θ) = p, as the critical points of L(θ) + ‖θ − p‖²/(2ρ), for every critical point p."""
    landscape, places, complete, how = process.landscape, [], True, ""
    for p in centres:
        if hasattr(landscape, "template"):
            exact = sum((x - sympy.Rational(value)) ** 2 for x, value in zip(landscape.symbols, p, strict=True))
            pulled = sympy.nsimplify(landscape.expression, rational=True) + exact / (2 * sympy.Rational(str(rho)))
            points = critical.of_expression(pulled, landscape.symbols, box)
        else:
            points = critical.of_function(
                lambda w, p=p: landscape.loss(w) + ((w - p) ** 2).sum() / (2 * rho),
                lambda w, p=p: np.asarray(landscape.grad(w)) + (w - p) / rho,
                lambda w: np.asarray(landscape.hessian(w)) + np.eye(landscape.dim) / rho,
                box,
                landscape.dim,
            )
        places += [point.theta for point in points]
        complete, how = complete and points.complete, points.how
    return places, complete, f"critical points of L + |theta - p|^2/(2 rho): {how}"


# --- search ---------------------------------------------------------------------------------------------------


def _searched(process: Process, box: tuple, period: int, starts: int, progress: bool | None) -> FixedPoints:
    """Newton's method on the full state from many starts, then deflated: known roots repel, others get their turn."""
    lower, upper = np.array(box).T
    sobol = scipy.stats.qmc.Sobol(process.dim, rng=np.random.default_rng(0))
    seeds = lower + (upper - lower) * sobol.random(1 << (starts - 1).bit_length())[:starts]
    seeds = np.concatenate([_hints(process, box), _sign_changes(process, box), seeds])
    system = _System(process, period)
    orbits, states, lost = [], [], []
    passes = [(seed, False) for seed in seeds] + [(seed, True) for seed in seeds[-starts:]]  # True: deflated
    with segments.progress_bar(len(passes), "starts", progress) as bar:
        for seed, deflated in passes:
            bar.update()
            for state in system.starts(seed):
                root = system.solve(state, np.array(states) if deflated and states else None)
                if root is not None:
                    break
            else:
                lost += [] if deflated else [seed]
                continue
            orbit = system.orbit(root)
            if not _inside(orbit[0], box) and not any(_inside(theta, box) for theta in orbit):
                continue
            if system.turns(root) != system.period or any(_same_orbit(orbit, known) for known in orbits):
                continue
            orbits.append(orbit)
            states.append(root)
    how = (
        f"not proven complete: Newton's method from {len(seeds)} starts, then deflated from {starts}; "
        f"{len(lost)} of the starts did not converge"
    )
    points = [_describe(process, system.state, *pair, period) for pair in zip(orbits, states, strict=True)]
    return FixedPoints(points, False, how, lost)


class _System:
    """The equation F^period(s) = s on the flat full state, and Newton's method on it."""

    def __init__(self, process: Process, period: int):
        self.state, self.period = flat_state(process), turns(process, period)

        def deflated(flat, known, count):
            """(F^period(s) − s) Π (1/‖s − sᵢ‖² + 1): the factor blows up at known roots, and is 1 far from them."""
            moved = flat
            for _ in range(period):
                moved = self.state.step(moved)
            gaps = jnp.sum((flat - known) ** 2, axis=-1)
            factors = jnp.where(jnp.arange(len(known)) < count, 1 / jnp.where(gaps > 0, gaps, 1) + 1, 1)
            return (moved - flat) * jnp.prod(factors)

        self.residual = jax.jit(deflated)
        self.slope = jax.jit(jax.jacfwd(deflated))

    def starts(self, theta: np.ndarray) -> list[np.ndarray]:
        """The state at rest at θ and, if there is more to a state than θ, the one after a few steps."""
        state = np.asarray(self.state.at_rest(theta))
        if len(state) == len(theta):
            return [state]
        later = state
        for _ in range(4):
            later = np.asarray(self.state.step(later))
        return [state, later]

    def solve(self, state: np.ndarray, known: np.ndarray | None) -> np.ndarray | None:
        """A root near `state`, other than the known ones, or None."""
        padded, count = np.zeros((_KNOWN, len(state))), 0
        if known is not None:
            count = min(len(known), _KNOWN)
            padded[:count] = known[:count]
        root = scipy.optimize.root(
            lambda s: np.asarray(self.residual(s, padded, count)),
            state,
            jac=lambda s: np.asarray(self.slope(s, padded, count)),
            options={"xtol": 1e-14},
        )
        if not np.isfinite(root.x).all():
            return None
        empty = np.zeros((_KNOWN, len(state)))
        for _ in range(2):  # polish on the plain equation, and judge by Newton's own step
            slope = np.asarray(self.slope(root.x, empty, 0))
            if not np.isfinite(slope).all() or np.linalg.matrix_rank(slope) < len(state):
                return root.x if np.abs(self.residual(root.x, empty, 0)).max() == 0 else None
            newton = np.linalg.solve(slope, np.asarray(self.residual(root.x, empty, 0)))
            root.x = root.x - newton
        return root.x if np.abs(newton).max() < 1e-9 * (1 + np.abs(root.x).max()) else None

    def orbit(self, state: np.ndarray) -> np.ndarray:
        """Positions over one period, shape (period, dim)."""
        positions = []
        for _ in range(self.period):
            positions.append(np.asarray(self.state.places(state)))
            state = np.asarray(self.state.step(state))
        return np.concatenate(positions)

    def turns(self, state: np.ndarray) -> int:
        """After how many periods of the map a state returns."""
        moved = state
        for steps in range(1, self.period + 1):
            moved = np.asarray(self.state.step(moved))
            if np.abs(moved - state).max() < _SAME * (1 + np.abs(state).max()):
                return steps
        return self.period


def _hints(process: Process, box: tuple) -> np.ndarray:
    """Where cycles are to be expected: critical points, and SAM's two-cycles on their quadratic approximation."""
    if not isinstance(process, Iteration) or not hasattr(process.landscape, "template"):
        return np.zeros((0, process.dim))
    hints, method = [], process.method
    for point in process.landscape.critical_points():
        hints.append(point.theta)
        if not quadratic.has_two_cycles(method, decay=False) or (point.eigenvalues == 0).any():
            continue
        curvatures, axes = np.linalg.eigh(np.asarray(process.landscape.hessian(point.theta)))
        for k in range(process.dim):
            if method.lr * curvatures[k] < 2 / (1 + 2 * method.momentum):
                amplitude = quadratic.two_cycle(method, curvatures, k).amplitude
                hints += [point.theta + amplitude * axes[:, k]]
    return np.array([hint for hint in hints if _inside(hint, box)]).reshape(-1, process.dim)


def _sign_changes(process: Process, box: tuple, side: int = 65) -> np.ndarray:
    """Centres of grid cells in the plane in which both coordinates of F(θ) − θ change sign."""
    if process.dim != 2:
        return np.zeros((0, process.dim))
    ticks = [np.linspace(*sides, side) for sides in box]
    grid = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    moved = jax.vmap(lambda theta: process.position(process.step(process.init(theta))) - theta)(grid)
    sign = np.sign(np.asarray(moved)).reshape(side, side, 2)
    corners = np.stack([sign[:-1, :-1], sign[1:, :-1], sign[:-1, 1:], sign[1:, 1:]])
    both = ((corners.min(axis=0) < 0) & (corners.max(axis=0) > 0)).all(axis=-1)
    cells = np.argwhere(both)[:_CELLS]
    return np.stack([(ticks[i][cells[:, i]] + ticks[i][cells[:, i] + 1]) / 2 for i in range(2)], axis=-1)


# --- description ----------------------------------------------------------------------------------------------


def _describe(process: Process, flat: FlatState, orbit: np.ndarray, state: Any, period: int) -> FixedPoint:
    theta, is_critical, perturbed = orbit[0], None, None
    if isinstance(process, Iteration):
        is_critical = stability.is_critical(process.landscape, theta)
        if isinstance(process.method, FirstOrder) and not process.method.remembers:
            field, point = process.method.field(process.landscape.field), process.landscape.vector(jnp.asarray(theta))
            # where the gradient vanishes nothing is perturbed; rounded coordinates would say otherwise
            ascended = point if stability.unperturbed(process, theta) else process.method.ascend(field, point)
            perturbed = np.asarray(process.landscape.array(ascended))
    slope = stability.orbit_jacobian(process, flat, state, turns(process, period))
    multipliers = np.full(process.dim, np.nan + 0j) if slope is None else ordered_eigenvalues(slope)
    return FixedPoint(theta, multipliers, stability.kind_of(multipliers), is_critical, period, orbit, perturbed)


def _inside(theta: np.ndarray, box: tuple) -> bool:
    lower, upper = np.array(box).T
    return bool((theta >= lower).all() and (theta <= upper).all())


def _distinct(points: list) -> list[np.ndarray]:
    kept: list[np.ndarray] = []
    for point in points:
        if not any(np.abs(point - other).max() < _SAME * (1 + np.abs(point).max()) for other in kept):
            kept.append(point)
    return kept


def _same_orbit(orbit: np.ndarray, other: np.ndarray) -> bool:
    return any(np.abs(orbit[0] - theta).max() < _SAME * (1 + np.abs(theta).max()) for theta in other)
