"""How far does a stable point let a disturbance grow before it takes it back?

Multipliers say what is left in the end. Where eigenvectors are nearly parallel, as momentum makes them, a disturbance
grows first, and may leave the neighbourhood in which the multipliers decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, records
from flatdyn.core.records import Record
from flatdyn.landscapes import Landscape
from flatdyn.methods.base import Method
from flatdyn.processes import Process
from flatdyn.processes.flat import confirmed, flattening, reach, repeating, turns
from flatdyn.stability.kreiss import kreiss_constant
from flatdyn.stability.multipliers import no_derivative, orbit_slopes, point_of

_NEUTRAL = 1e-9  # distance from 1 within which a spectral radius is not told from 1, as in kind_of
_CONTRACTS = 1 + 1e-12  # a norm that is 1 but for rounding
_BLOCK = 1 << 16  # numbers of the powers that are looked at together


@dataclass(frozen=True, eq=False, repr=False)
class TransientGrowth(Record):
    """How far disturbances grow, at a point or at the points of a branch; see :func:`transient_growth`.

    Attributes:
        growth: largest ‖Jᵏ‖₂ over k ≥ 0; ∞ where a multiplier is outside |z| = 1; shape () or (points,)
        step: the k at which it is reached first; −1 if it is infinite
        start: the disturbance of the full state, of length 1, that grows so far, shape (n,) or (points, n)
        end: what it has become then, of length `growth`
        position: the same as `growth` for a disturbance of θ alone, measured in θ alone
        position_step: the k of `position`
        kreiss: the Kreiss constant K of one period's Jacobian: K ≤ sup over periods ≤ e n K
        radius: modulus of the largest multiplier of one period
        certain: whether ‖Jᵏ‖ has fallen to 1, after which nothing can be larger; if not, `growth` and `position` are
            the largest over as many steps as were allowed
        parameter: values along the branch, shape (points,); NaN at a point alone
    """

    growth: np.ndarray
    step: np.ndarray
    start: np.ndarray
    end: np.ndarray
    position: np.ndarray
    position_step: np.ndarray
    kreiss: np.ndarray
    radius: np.ndarray
    certain: np.ndarray
    parameter: np.ndarray
    _form: ClassVar = {
        "growth": "f ?points",
        "step": "iu ?points",
        "start": "f ?points n",
        "end": "f ?points n",
        "position": "f ?points",
        "position_step": "iu ?points",
        "kreiss": "f ?points",
        "radius": "f ?points",
        "certain": "b ?points",
        "parameter": "f ?points",
    }
    _units: ClassVar = dict.fromkeys(("growth", "start", "end", "position", "kreiss", "radius"), "1") | {
        "step": "steps",
        "position_step": "steps",
        "parameter": "",
    }

    def __repr__(self) -> str:
        if self.growth.ndim == 0:
            least = "" if self.certain else "at least "
            return (
                f"TransientGrowth({least}{self.growth:.4g} at step {self.step}, Kreiss {self.kreiss:.4g}, radius "
                f"{self.radius:.6g})"
            )
        finite = self.growth[np.isfinite(self.growth)]
        largest = f"largest finite growth {finite.max():.4g}" if len(finite) else "no finite growth"
        return f"TransientGrowth({len(self.growth)} points, {largest})"


def transient_growth(
    process: Process | Method | Callable[[Any], Process],
    landscape: Landscape | None = None,
    *,
    at: Any,
    period: int | None = None,
    most: int = 100_000,
    kreiss: bool = True,
) -> TransientGrowth:
    """How far a small disturbance of the full state grows before a stable point or cycle takes it back.

        sup over k of ‖Jᵏ‖₂,   K = sup over |z| > 1 of (|z| − 1) ‖(z − J)⁻¹‖₂,   K ≤ sup ‖Jᵏ‖₂ ≤ e n K

    with J the Jacobian of a step, n numbers in the state; both are 1 where J is normal and stable, as for gradient
    descent. For a cycle k counts its single steps from `at` on, and J of K is that of a whole period. What is large
    depends on the units of velocities; `position` does not: a disturbance of θ alone, measured in θ alone.

    Args:
        process, landscape, period: as for :func:`multipliers`; for a branch, the function from the parameter's value to
            a process from which :func:`flatdyn.fixedpoints.continue_in` made it
        at: θ, shape (dim,), at rest there; the full state, shape (n,); or a branch, at whose every point it is asked
        most: number of steps to look at where ‖Jᵏ‖ does not fall to 1 before
        kreiss: whether to compute K (a search in the plane, milliseconds at ten numbers, seconds at a hundred); NaN if
            not
    Returns:
        TransientGrowth; at points of a branch that are singular, NaN and not certain
    Raises:
        ValueError: as :func:`multipliers`
    References:
        Trefethen, Embree, Spectra and pseudospectra (2005), chapters 16 and 18.
    """
    most = checks.count("most", most, at_least=1, at_most=10**9)
    checks.flag("kreiss", kreiss)
    if _is_branch(at):
        if landscape is not None or period is not None:
            raise ValueError("a branch has its landscape and its period: leave them out")
        return _along(process, at, most, kreiss)
    if not isinstance(process, Process | Method) and callable(process):
        raise TypeError("a function from a parameter to a process needs a branch of fixed points as `at`")
    process, state, flat, number = point_of(process, landscape, at, period)
    with jax.enable_x64(True):
        slopes = list(orbit_slopes(process, state, flat, number))
        if slopes[-1] is None:
            raise no_derivative(getattr(process, "method", process), at)
        places = np.asarray(jax.jit(jax.jacfwd(state.position))(flat))
    one = _grown(slopes, places, most, kreiss)
    return _record([one], process, process.period, {}, None)


def _is_branch(at: Any) -> bool:
    return all(hasattr(at, name) for name in ("parameter", "state", "period", "kinds"))


def _along(make_process: Callable[[Any], Process], branch: Any, most: int, kreiss: bool) -> TransientGrowth:
    """At every point of a branch. The steps are compiled once, with the parameter open."""
    checks.function("process", make_process, "the function from a value to a Process that made the branch", 1)
    name, values = branch.config["parameter"], np.asarray(branch.parameter, float)
    with jax.enable_x64(True):
        made = checks.called("process", make_process, float(values[0]))
        example = checks.kind("what process returns", made, Process)
        if example.random:
            raise ValueError("a random map has no single Jacobian: give the process without noise")
        size, whole, flatten = flattening(example)
        if branch.state.shape[1] != size:
            raise ValueError(
                f"at must be a branch of states of {size} numbers, as process makes them, got {branch.state.shape[1]}"
            )
        number = turns(example, int(branch.period))

        def step(x, parameter):
            return flatten(repeating(make_process(parameter))(whole(x)))

        slope, stepped = jax.jit(jax.jacfwd(step)), jax.jit(step)
        steps = jax.jit(jax.vmap(step, (0, None)))
        places = np.asarray(jax.jit(jax.jacfwd(lambda x: example.position(whole(x))))(jnp.asarray(branch.state[0])))
        growths = []
        for x, value, kind in zip(branch.state, values, branch.kinds, strict=True):
            slopes = [None] if kind == "singular" else []
            for i in range(number if not slopes else 0):
                x = np.asarray(stepped(x, value)) if i else x
                exact = np.asarray(slope(x, value))
                slopes.append(confirmed(lambda rows, v=value: steps(rows, v), x, exact, reach(example, x)))
            known = all(one is not None for one in slopes)
            growths.append(_grown(slopes, places, most, kreiss) if known else _unknown(size))
    return _record(growths, example, example.period, {"parameter": name}, values)


class _Growth(NamedTuple):
    """The numbers of one point, as in :class:`TransientGrowth`; steps count Jacobians."""

    growth: float
    step: int
    start: np.ndarray
    end: np.ndarray
    position: float
    position_step: int
    kreiss: float
    radius: float
    certain: bool


def _unknown(size: int) -> _Growth:
    nothing = np.full(size, np.nan)
    return _Growth(np.nan, -1, nothing, nothing, np.nan, -1, np.nan, np.nan, False)


def _record(growths: list[_Growth], process: Process, each: int, config: dict, parameter: Any) -> TransientGrowth:
    columns = {name: np.array([getattr(one, name) for one in growths]) for name in _Growth._fields}
    for name in ("step", "position_step"):  # of Jacobians, each of so many steps of the process
        columns[name] = np.where(columns[name] > 0, columns[name] * each, columns[name])
    if parameter is None:
        columns = {name: column[0] for name, column in columns.items()}
    return TransientGrowth(
        config={"process": records.described(process)} | config,
        provenance=records.provenance(),
        parameter=np.asarray(np.nan if parameter is None else parameter),
        **{name: np.asarray(column) for name, column in columns.items()},
    )


def _grown(slopes: list[np.ndarray], places: np.ndarray, most: int, kreiss: bool) -> _Growth:
    """The growth under Jacobians of the steps of a period, of which `places` picks the positions, shape (dim, n)."""
    size, period = slopes[0].shape[0], len(slopes)
    parts = [np.eye(size)]
    for slope in slopes:
        parts.append(slope @ parts[-1])
    whole, parts = parts[-1], np.array(parts[:-1])
    radius = float(np.abs(np.linalg.eigvals(whole)).max())
    constant = kreiss_constant(whole) if kreiss else np.nan
    if radius > 1 + _NEUTRAL:
        nothing = np.full(size, np.nan)
        return _Growth(np.inf, -1, nothing, nothing, np.inf, -1, constant, radius, True)
    back = np.linalg.pinv(places)  # a displacement of θ alone, as one of the state
    spread = np.linalg.norm(places, 2) * np.linalg.norm(back, 2)
    every, seen = _Largest(), _Largest()
    length = min(int(np.clip(_BLOCK // (period * size**2), 1, 256)), most // period + 1)
    powers = [np.eye(size)]
    for _ in range(length):
        powers.append(whole @ powers[-1])
    block, stride, base, done, certain = np.array(powers[:-1]), powers[-1], np.eye(size), 0, False
    while not certain and done * period <= most:
        steps = (parts[None] @ (block @ base)[:, None]).reshape(-1, size, size)[: most + 1 - done * period]
        every.look(steps, done * period)
        seen.look(places @ steps @ back, done * period)
        base, done = stride @ base, done + length
        # ‖Jᵏ⁺ʲ‖ ≤ ‖Jᵏ‖ ‖Jʲ‖: once it has fallen to 1, what comes is no larger than what was, in θ alone either
        left = float(np.linalg.norm(base, 2))
        if done == length:  # the first power is among those that were seen, too
            left = min(left, float(np.linalg.norm(whole, 2)))
        certain = left <= _CONTRACTS and left * every.value * spread <= max(seen.value, 1) * _CONTRACTS
        certain = certain and done * period <= most + 1  # none of the steps before it was left out
    at, phase = divmod(every.step, period)
    power = parts[phase] @ np.linalg.matrix_power(whole, at)
    start = np.linalg.svd(power)[2][0]
    start = start * (np.sign(start[np.argmax(np.abs(start))]) or 1.0)
    return _Growth(every.value, every.step, start, power @ start, seen.value, seen.step, constant, radius, certain)


class _Largest:
    """The largest norm of the matrices seen so far, and the first one that has it."""

    def __init__(self):
        self.value, self.step = 0.0, 0

    def look(self, matrices: np.ndarray, first: int) -> None:
        """At more matrices, the first of which is that of step `first`. Singular values are asked for where needed."""
        bounds = np.sqrt((matrices**2).sum(axis=(1, 2)))  # Frobenius' norm is no smaller
        likely = np.flatnonzero(bounds > self.value * _CONTRACTS)
        if not len(likely):
            return
        norms = np.linalg.norm(matrices[likely], 2, axis=(1, 2))
        largest = int(np.argmax(norms >= norms.max() / _CONTRACTS))
        if norms[largest] > self.value * _CONTRACTS:
            self.value, self.step = float(norms[largest]), first + int(likely[largest])
