"""How parameters move, given the gradients that were asked for: step size, momentum, decay, what was forgotten.

    dₖ = μ dₖ₋₁ + Σᵢ (aᵢ fᵢ(k) + lᵢ fᵢ(k−1)),     f: gradients, θ, the ascent e = p − θ
    dₖ = vₖ − Σᵢ Fᵢ fᵢ(k),   vₖ = μ vₖ₋₁ − Σᵢ Sᵢ fᵢ(k):       F = l/μ,   S = −a − F

What goes through the momentum is S, what does not is F: heavy ball F = 0, Nesterov S = μ F. Of θ itself there is one
column, as dₖ₋₁ = θₖ − θₖ₋₁: decay that is coupled and decay that is decoupled differ in their first step alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from flatdyn.audits.fits import EXACT, ROUNDED, Fit, fit
from flatdyn.audits.runs import Recording, distinct


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One step of a run as columns, each of shape (dim,)."""

    step: int
    run: Recording
    move: np.ndarray
    features: dict[str, np.ndarray]
    before: Row | None

    @property
    def calls(self) -> int:
        """How many gradients at points of their own."""
        return sum(name.startswith("g") for name in self.features)


def rows(run: Recording) -> list[Row]:
    """All steps of a run."""
    made: list[Row] = []
    for k, (calls, move) in enumerate(zip(run.calls, run.moves, strict=True)):
        theta, calls = run.positions[k], distinct(calls)
        features = {f"g{i}": call.gradient for i, call in enumerate(calls)}
        if calls:
            features["e"] = calls[-1].point - theta
        if len(calls) == 2:
            first, last = calls[0].gradient, calls[-1].gradient
            features["perp"] = first - last * (first @ last) / max(float(last @ last), 1e-300)
        features["x"] = theta
        made.append(Row(k, run, move, features, made[-1] if made else None))
    return made


@dataclasses.dataclass(frozen=True, eq=False)
class Descent:
    """How parameters move.

    Attributes:
        momentum: μ
        slow, fast: S and F by feature
        followed: the feature that is followed: the gradient of the last call, or of the first
        left: what the fit leaves over
        first: the number before the followed gradient in the first step
        weight_decay, decay: λ and its place, "coupled" or "decoupled"; for λ < 0 or another place `decay` is "other"
        fits: of each step, where numbers change from step to step; else empty
    """

    momentum: float
    slow: dict[str, float]
    fast: dict[str, float]
    followed: str
    left: float
    first: float = 0.0
    weight_decay: float = 0.0
    decay: str = "coupled"
    fits: tuple[Fit, ...] = ()

    def whole(self, name: str) -> float:
        """S + F."""
        return self.slow.get(name, 0.0) + self.fast.get(name, 0.0)


def bases(calls: int) -> list[tuple[str, ...]]:
    """Sets of features to explain a move by, the plainer first."""
    last = f"g{calls - 1}"
    if calls == 1:
        return [("g0",), ("g0", "e")]
    return [(last,), ("g0",), (last, "e"), ("g0", last), (last, "perp"), ("g0", last, "e")] + (
        [tuple(f"g{i}" for i in range(calls))] if calls > 2 else []
    )


def columns(used: list[Row], base: tuple[str, ...], memory: bool, part: Any, decay: bool = True) -> dict:
    """The columns of a fit, by name; `was` is the move before, a name with ' the same feature one step before."""

    def gathered(of) -> np.ndarray:
        return np.concatenate([of(row)[part] for row in used])

    names = (*base, "x") if decay else base
    made = {name: gathered(lambda row, name=name: row.features[name]) for name in names}
    if memory:
        made["was"] = gathered(lambda row: row.before.move)
        made |= {f"{name}'": gathered(lambda row, name=name: row.before.features[name]) for name in base}
    return made


def _weighted(used: list[Row], made: dict, part: Any) -> tuple[dict, np.ndarray]:
    """Each run weighs the same, whatever the size of its moves."""
    sizes: dict[int, float] = {}
    for row in used:
        sizes[id(row.run)] = max(sizes.get(id(row.run), 0.0), float(np.abs(row.move[part]).max()))
    weights = np.concatenate([np.full(row.move[part].shape, 1 / (sizes[id(row.run)] or 1.0)) for row in used])
    target = np.concatenate([row.move[part] for row in used])
    return {name: column * weights for name, column in made.items()}, target * weights


def explained(used: list[Row], base: tuple[str, ...], memory: bool, part: Any = slice(None), decay: bool = True) -> Fit:
    """The fit of moves by a set of features."""
    return fit(*_weighted(used, columns(used, base, memory, part, decay), part))


def descent(runs: list[Recording], part: Any = slice(None), enough: float = ROUNDED) -> Descent | None:
    """What moves the parameters, or those in `part`; None if no linear rule does."""
    usual = [row for run in runs for row in rows(run)]
    later = [row for row in usual if row.step >= 2]
    counts = {row.calls for row in later}
    if len(counts) != 1 or 0 in counts or not later:
        return None
    (calls,) = counts
    best: tuple[Fit, tuple, bool] | None = None
    for memory in (False, True):
        for base in bases(calls):
            if any(name not in of.features for row in later for of in (row, row.before) for name in base):
                continue
            one = explained(later, base, memory, part)
            if one.left <= EXACT or (one.left <= enough and (best is None or one.left < best[0].left / 100)):
                best = (one, base, memory)
            if one.left <= EXACT:
                break
        if best is not None and best[0].left <= EXACT:
            break
    if best is None:
        return _changing(usual, calls, part, enough)
    return _read(*best, _first(usual, best[1], part))


def _first(usual: list[Row], base: tuple[str, ...], part: Any) -> Fit | None:
    """The fit of the first step alone."""
    start = [row for row in usual if row.step == 0 and all(name in row.features for name in base)]
    one = explained(start, base, False, part) if start else None
    return one if one is not None and one.left < 1e-4 else None


def _followed(base: tuple[str, ...]) -> str:
    return max((name for name in base if name.startswith("g")), key=lambda name: int(name[1:]))


def _read(one: Fit, base: tuple[str, ...], memory: bool, first: Fit | None, fits: tuple[Fit, ...] = ()) -> Descent:
    g = _followed(base)
    size = max(abs(one[name]) for name in base)
    rate, pull = -one[g], 0.0 if one.is_zero("x", size) else -one["x"]
    along = memory and not one.is_zero("was")
    start = -first[g] if first is not None else 0.0
    momentum, weight, place = (one["was"] if along else 0.0), (pull / rate if rate else 0.0), "coupled"
    if along and pull:
        momentum, weight, place = _with_decay(one, first, g)
    slow, fast = {}, {}
    for name in base:
        # A share of the largest gradient's coefficient below rounding is none
        a = 0.0 if one.is_zero(name, size) else one[name]
        lagged = 0.0 if one.is_zero(f"{name}'", size) else one[f"{name}'"]
        fast[name] = lagged / momentum if momentum else 0.0
        slow[name] = -a - fast[name]
        if abs(slow[name]) <= max(1e-8 * abs(fast[name]), 60 * one.errors[name]):
            slow[name] = 0.0
    return Descent(momentum, slow, fast, g, one.left, start, weight, place, fits)


def _with_decay(one: Fit, first: Fit | None, g: str) -> tuple[float, float, str]:
    """Momentum, λ and its place, where both are there: the numbers A of dₖ₋₁ and B of θₖ, and those of the first step.

    coupled:    λ = B₀/a₀,  heavy ball A = μ, B = −λ S;  Nesterov A = μ − λ l, with l that of the gradient before
    decoupled:  η λ = −B₀,  A = μ (1 − η λ),  B = −η λ (1 − μ)
    """
    if first is None or not first[g]:
        return one["was"], one["x"] / one[g], "other"
    lagged = 0.0 if one.is_zero(f"{g}'", abs(one[g])) else one[f"{g}'"]
    weight, step = first["x"] / first[g], -first["x"]
    coupled = one["was"] + weight * lagged
    decoupled = one["was"] / (1 - step)
    whole = -one[g] - lagged if lagged else -one[g]  # η (1 − τ μ) with Nesterov, S of a heavy ball
    off = abs(one["x"] + weight * whole), abs(one["x"] + step * (1 - decoupled))
    if min(off) > 1e-4 * abs(one["x"]):
        return one["was"], weight, "other"
    if off[0] <= off[1]:
        return coupled, weight, "coupled"
    fast = lagged / decoupled
    return decoupled, step / (fast or -one[g]), "decoupled"


def _changing(usual: list[Row], calls: int, part: Any, enough: float) -> Descent | None:
    """A rule whose numbers change from step to step: each step is fitted over all runs."""
    last = max(row.step for row in usual)
    for memory in (False, True):
        for base in bases(calls):
            by_step = [[row for row in usual if row.step == k] for k in range(last + 1)]
            steps = [one for one in by_step if one and all(name in row.features for row in one for name in base)]
            if len(steps) <= last:
                continue
            fits = [explained(one, base, memory and k > 0, part) for k, one in enumerate(steps)]
            if all(one.left <= enough for one in fits):
                return _read(fits[1], base, memory, fits[0], tuple(fits))
    return None
