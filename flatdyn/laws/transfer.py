"""Laws of a noisy step without sampling: expectations, survival, exit times, by its transfer operator.

A process that is driven by standard normal numbers, θ⁺ = F(θ, z), moves functions backwards:

    (K u)(x) = ∫ u(F(x, z)) φ(z) dz   over the z with F(x, z) inside (a, b)

    E u(θ_k), killed on leaving (a, b) = (Kᵏ u)(θ₀),       P(T > k) = (Kᵏ 1)(θ₀)

How K is made, and how accurate it is: :mod:`flatdyn.laws.operators` on the line, :mod:`flatdyn.laws.plane` beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, segments
from flatdyn.laws import operators, plane
from flatdyn.laws.plane import exits, regions
from flatdyn.laws.plane.steps import Steps
from flatdyn.processes import Process
from flatdyn.processes.regions import Box

_FEWEST, _CHANGE = 8, 1e-11  # panels to begin with, and the change with twice as many at which they are enough
_LONGEST = 10**8  # steps of a run without noise
_UNRESOLVED = 1e-3  # by which a probability may leave [0, 1]; where steps are resolved it is 1e-9
_FORGOTTEN = 1e-12  # escapes per step that rounding hides


class ExitLaw(NamedTuple):
    """How a process leaves a region; see :func:`exit_law`.

    Attributes:
        mean: E T in steps; infinite where it is above 10¹², which rounding cannot tell from never
        factor: leading eigenvalue r, P(T > k + 1)/P(T > k) for large k
        right: probability of leaving above; in the plane of landing where the first coordinate is not below that of the
            start; NaN where the mean is infinite
        head: P(T > k) for k = 0, 1, … until it is a geometric sequence
        error: estimated error of the mean, from a second grid; NaN on the line, which takes one: there it is about
            1e-9 of the mean with the panels that are taken if none are given
        shares: probability of each side to be left by, (sides,): below and above on the line; in the plane left,
            right, bottom, top of a box, else eight sectors from its middle, from the first axis anticlockwise
        points: nodes in the region, (n, 2) in the plane; else None
        density: of the quasi-stationary law at the points, where a run that has not left for long is; else None
    """

    mean: float
    factor: float
    right: float
    head: np.ndarray
    error: float = np.nan
    shares: np.ndarray | None = None
    points: np.ndarray | None = None
    density: np.ndarray | None = None

    def survival(self, steps: Any) -> np.ndarray:
        """P(T > k) at these numbers of steps k."""
        steps, last = checks.wholes("steps", steps), len(self.head) - 1
        return self.head[np.minimum(steps, last)] * self.factor ** np.maximum(steps - last, 0)

    def quantile(self, q: float) -> int:
        """The smallest k with P(T ≤ k) ≥ q."""
        q = checks.number("q", q, above=0, below=1, one=True)
        low = np.flatnonzero(self.head <= 1 - q)
        if len(low):
            return int(low[0])
        last = len(self.head) - 1
        if not 0 < self.factor < 1:
            raise ValueError(f"q = {q} has no number of steps: P(T > k) stays at {self.head[last]:.6g}, as far as seen")
        return last + int(np.ceil(np.log((1 - q) / self.head[last]) / np.log(self.factor)))

    @property
    def median(self) -> int:
        """The smallest k with P(T ≤ k) ≥ ½."""
        return self.quantile(0.5)


def exit_law(
    process: Process,
    inside: Any,
    start: Any,
    panels: int | None = None,
    *,
    sides: Callable | None = None,
    box: Any = None,
    progress: bool | None = None,
) -> ExitLaw:
    """The law of the first exit from a region of the line or the plane, without sampling.

        T = min {k : θ_k outside},   P(T > k) = (Kᵏ 1)(θ₀),   E T = Σ P(T > k)

    In the plane there are two grids, whose difference is the estimated error: about 1e-8 of the mean where a step is
    normal given where it starts (GD, SAM with a full ascent), 1e-5 for a SAM step that shares its minibatch.

    Args:
        process: one coordinate, or two, driven by normal numbers: an Iteration under Gaussian, Curvature or
            state-dependent noise, or a Diffusion; of one coordinate with any memory of one more number (heavy ball,
            Nesterov), of two without memory
        inside: (a, b), finite, on the line: put an end that is not to count where practically nothing arrives. In the
            plane an escape.Box, Ball or Sublevel, or any JAX function from θ to True or False
        start: θ₀ inside, at rest: one number, or two coordinates
        panels: how finely the region is cut along its side that takes most; from the size of a step if not given
        sides: of the plane: which side a landing place belongs to, a JAX function from θ to a whole number from 0 on
        box: of the plane: ((low, high), (low, high)) which is left when the region is, too, for one without an end
        progress: show a bar; if not given, after two seconds
    Returns:
        ExitLaw
    Raises:
        ValueError: if the region or start does not fit, or there is too little noise to be resolved
        TypeError: if the state is more than two numbers, or the noise is not made of normal numbers
    References:
        theory of the line and the plane: Kress, Linear Integral Equations (3rd ed.), chapter 12
    """
    if panels is not None:
        panels = checks.count("panels", panels, at_least=1)
    checks.kind("process", process, Process)
    if process.dim > 1 or _remembers(process):
        return _in_plane(process, inside, start, panels, sides, box, progress)
    for name, value in (("sides", sides), ("box", box)):
        if value is not None:
            raise ValueError(f"{name} is for the plane: on the line a run leaves (a, b) below or above")
    return _on_line(process, inside, start, panels, progress)


def _remembers(process: Process) -> bool:
    """Whether a process of one coordinate has a memory of one number that the line does not know."""
    if not (process.random and hasattr(process, "driven")):
        return False
    with jax.enable_x64(True):
        state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((1,), jnp.float64))
    numbers = [leaf.size for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum(numbers) == 2 and not operators.is_heavy_ball(process)


def _in_plane(process, inside, start, panels, sides, box, progress) -> ExitLaw:
    steps = Steps(process)
    start = np.asarray(checks.point("start", [start] if np.ndim(start) == 0 else start, process.dim), float)
    if process.dim == 1 and not callable(inside):
        inside = Box([checks.interval("inside", inside)])
    place = regions.placed(inside, box, process.dim)
    if not place.test(start[None])[0]:
        raise ValueError(f"start must lie inside the region, got {start.tolist()}")
    if not steps.spread(start):
        return _certain(process, place.holds, start, progress)
    with segments.progress_bar(2, "grids", progress) as bar:
        operator = plane.operator(process, inside, start, box=box, panels=panels)
        bar.update()
        side, number = exits.sides_of(inside, operator.bounds, sides)
        left = exits.exit_from(operator, start, side, number)
        bar.update()
    if left.escape < _FORGOTTEN:
        return ExitLaw(np.inf, 1.0, np.nan, left.head, points=left.points, density=left.density)
    return ExitLaw(
        left.mean, 1 - left.escape, left.above, left.head, left.error, left.shares, left.points, left.density
    )


def _on_line(process: Process, interval: Any, start: Any, panels: int | None, progress: bool | None) -> ExitLaw:
    ends = operators.fits(process, interval, start)[0]
    if not operators.swing(process, *ends).any():
        return _certain(process, operators.Between(np.array(ends)), np.array([float(start)]), progress)
    operator, first = operators.built(process, interval, start, panels, progress)
    inside, above = operator.ones(), operator.right
    head, right = [1.0], first.right
    while True:
        if not (inside.max() <= 1 + _UNRESOLVED and inside.min() >= -_UNRESOLVED):
            raise ValueError(
                f"P(tau > {len(head)}) leaves [0, 1]: the panels do not resolve what so little noise does; give more "
                "`panels`, a shorter interval, or ask escape_times"
            )
        head.append(first.value(inside))
        leaving = first.value(above)
        right += leaving
        following = operator.apply(inside)
        top = inside.max()
        factor = float(following.max() / top) if top > 0 else 0.0
        if np.abs(following - factor * inside).max() <= (1e-13 + 1e-10 * (1 - factor)) * top:
            break
        inside, above = following, operator.apply(above)
    if 1 - factor < _FORGOTTEN:
        return ExitLaw(np.inf, 1.0, np.nan, np.array(head))
    tail = factor / (1 - factor)  # from here on everything shrinks by the same factor a step
    mean, right = sum(head) + head[-1] * tail, right + leaving * tail
    return ExitLaw(mean, factor, right, np.array(head), shares=np.array([1 - right, right]))


def _certain(process: Process, holds: Callable, start: np.ndarray, progress: bool | None) -> ExitLaw:
    """The law where nothing in a step is random: one run, until it leaves or comes back to where it was."""
    with segments.progress_bar(0, "steps", progress) as bar, jax.enable_x64(True):
        steps, place, back = operators.followed(process, holds, start, _LONGEST, bar)
        inside = bool(holds(jnp.asarray(place)))
    if inside:
        if not back:
            raise ValueError(f"nothing in a step is random here, and the run is still inside after {steps} steps")
        return ExitLaw(np.inf, 1.0, np.nan, np.ones(1))
    return ExitLaw(float(steps), 0.0, float(place[0] >= start[0]), np.append(np.ones(steps), 0.0), 0.0)


def expectation(
    process: Process,
    functions: Sequence[Callable],
    start: float,
    steps: int,
    interval: tuple[float, float],
    panels: int | None = None,
    *,
    progress: bool | None = None,
) -> np.ndarray:
    """Expectations of functions of the position after some steps, without sampling.

        E u(θ_k),   on the paths that have not left (a, b): choose it so large that practically none does

    Args:
        process: as for :func:`exit_law`, without momentum
        functions: u, each from an array of positions to an array of values
        start: θ₀
        steps: k ≥ 1
        interval: (a, b), finite
        panels: how finely (a, b) is cut; if not given, ever finer until nothing changes by more than 1e-11 of the
            largest value, or the panels are those of :func:`exit_law`
        progress: show a bar; if not given, after two seconds
    Returns:
        one number per function
    Raises:
        ValueError, TypeError: as :func:`exit_law`
    """
    if panels is not None:
        panels = checks.count("panels", panels, at_least=1)
    checks.kind("process", process, Process)
    functions = checks.sequence("functions", functions, "functions")
    steps, ends = checks.count("steps", steps, at_least=1, at_most=10**9), checks.interval("interval", interval)
    if operators.fits(process, interval, start)[1]:
        raise TypeError("expectation knows processes without momentum only: ask simulate for a sample")
    if panels:
        return _expected(process, functions, start, steps, ends, panels, progress)[0]
    most, number, before = operators.panels(process, *ends, False), _FEWEST, None
    while number < most:
        fine, size = _expected(process, functions, start, steps, ends, number, progress)
        if before is not None and (np.abs(fine - before) <= _CHANGE * size).all():
            return fine
        before, number = fine, 2 * number
    return _expected(process, functions, start, steps, ends, most, progress)[0]


def _expected(process, functions, start, steps: int, interval, panels: int, progress) -> tuple[np.ndarray, np.ndarray]:
    """The result of :func:`expectation` with so many panels, and the largest value of each function."""
    operator, first = operators.built(process, interval, start, panels, progress)
    values = np.stack([checks.answers("functions", function, operator.nodes) for function in functions], axis=1)
    size = np.abs(values).max(axis=0)
    if steps > 4 * len(operator.nodes):
        values = np.linalg.matrix_power(operator.matrix, steps - 1) @ values
    else:
        for _ in range(steps - 1):
            values = operator.matrix @ values
    return first.row @ values, size
