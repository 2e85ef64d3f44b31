"""Laws of a noisy step on the line without sampling: expectations, survival, exit times, by its transfer operator.

A process that is driven by standard normal numbers, θ⁺ = F(θ, z), moves functions backwards:

    (K u)(x) = ∫ u(F(x, z)) φ(z) dz   over the z with F(x, z) inside (a, b)

    E u(θ_k), killed on leaving (a, b) = (Kᵏ u)(θ₀),       P(T > k) = (Kᵏ 1)(θ₀)

How K is made, and how accurate it is: :mod:`flatdyn.laws.operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from flatdyn.core import checks, segments
from flatdyn.laws import operators
from flatdyn.processes import Process

_FEWEST, _CHANGE = 8, 1e-11  # panels to begin with, and the change with twice as many at which they are enough
_LONGEST = 10**8  # steps of a run without noise
_UNRESOLVED = 1e-3  # by which a probability may leave [0, 1]; where steps are resolved it is 1e-9
_FORGOTTEN = 1e-12  # escapes per step that rounding hides


class ExitLaw(NamedTuple):
    """How a process leaves an interval; see :func:`exit_law`.

    Attributes:
        mean: E T in steps; infinite where it is above 10¹², which rounding cannot tell from never
        factor: leading eigenvalue r, P(T > k + 1)/P(T > k) for large k
        right: probability of leaving above; NaN where the mean is infinite
        head: P(T > k) for k = 0, 1, … until it is a geometric sequence
    """

    mean: float
    factor: float
    right: float
    head: np.ndarray

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
    interval: tuple[float, float],
    start: float,
    panels: int | None = None,
    *,
    progress: bool | None = None,
) -> ExitLaw:
    """The law of the first exit from an interval of the line, without sampling.

        T = min {k : θ_k ∉ (a, b)},   P(T > k) = (Kᵏ 1)(θ₀),   E T = Σ P(T > k)

    Args:
        process: one coordinate, driven by normal numbers: an Iteration under Gaussian, Curvature or state-dependent
            noise, with or without heavy-ball momentum, or a Diffusion
        interval: (a, b), finite; put an end that is not to count where practically nothing arrives
        start: θ₀ in (a, b), at rest
        panels: how finely (a, b) is cut; from the size of a step if not given
        progress: show a bar; if not given, after two seconds
    Returns:
        ExitLaw
    Raises:
        ValueError: if the interval or start does not fit, or there is too little noise to be resolved
        TypeError: if the process has more coordinates, other noise, or another memory than heavy-ball momentum
    """
    if panels is not None:
        panels = checks.count("panels", panels, at_least=1)
    checks.kind("process", process, Process)
    ends = operators.fits(process, interval, start)[0]
    if not operators.swing(process, *ends).any():
        return _certain(process, ends, start, progress)
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
    return ExitLaw(sum(head) + head[-1] * tail, factor, right + leaving * tail, np.array(head))


def _certain(process: Process, ends: tuple[float, float], start: float, progress: bool | None) -> ExitLaw:
    """The law where nothing in a step is random: one run, until it leaves or comes back to where it was."""
    with segments.progress_bar(0, "steps", progress) as bar, jax.enable_x64(True):
        steps, place, back = operators.followed(process, ends, start, _LONGEST, bar)
    if ends[0] < place < ends[1]:
        if not back:
            raise ValueError(f"nothing in a step is random here, and the run is still inside after {steps} steps")
        return ExitLaw(np.inf, 1.0, np.nan, np.ones(1))
    return ExitLaw(float(steps), 0.0, float(place >= ends[1]), np.append(np.ones(steps), 0.0))


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
