"""Which words of the list hold for what was seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from flatdyn.audits import views
from flatdyn.audits.examining import Seen, frozen
from flatdyn.audits.fits import in_single
from flatdyn.audits.problems import STEPS
from flatdyn.audits.report import FAULTS
from flatdyn.audits.runs import Recording, Tensors, distinct
from flatdyn.methods.base import Wrapper

ALIKE = 1e-6  # share within which two numbers are meant to be one


def faults(
    seen: Seen, runs: dict[str, Recording], form: Tensors, expected: Any = None, stated: float | None = None
) -> list[str]:
    """Words for runs and how they were read.

    Args:
        runs: of all problems by name, as the user's step took them
        expected: the method that was expected, or None
        stated: the step size that the user's object says it has, or None
    """
    usual = [run for name, run in runs.items() if name != "still" and run.calls]
    tests = {
        "never moves": any(frozen(usual, form)) or not any(run.moves.any() for run in usual),
        "NaN at zero gradient": "still" in runs and not runs["still"].finite,
        "average stored": bool(seen.average),
        "perturbed points stored": seen.each > 1 and seen.ascent.kind != "none",
        "other minibatch": views.on_other_minibatch(usual) and seen.each == 1,
        "perturbation lost": is_lost(usual),
    }
    words = [word for word, holds in tests.items() if holds]
    words += _of_ascent(seen, usual, form) + _of_descent(seen, form) + _of_expected(seen, expected, stated)
    if seen.rule is not None and seen.rule.fault:
        words.append(seen.rule.fault)
    return [word for word in FAULTS if word in words]


def _of_ascent(seen: Seen, usual: list[Recording], form: Tensors) -> list[str]:
    went, words = seen.ascent, []
    still = frozen(usual, form)
    shared = went.mask is None or went.numbers.get("scope") == "all"
    if any(still) and went.kind in ("SAM", "ASAM") and shared and went.numbers.get("scope") != "tensor":
        words.append("norm of what is frozen")
    if went.decay:
        words.append("decay in the ascent")
    if went.along == "stale" or (views.of_old_minibatch(usual) and seen.each == 1):
        words.append("stale gradient")
    if went.along in ("sum", "all"):
        words.append("missing zero_grad")
    return words


def _of_descent(seen: Seen, form: Tensors) -> list[str]:
    fell, words = seen.descent, []
    if fell is None:
        return ["decay of some tensors"] if _decays_in_part(seen) else []
    used = [name for name in {*fell.slow, *fell.fast} if name.startswith("g") and fell.whole(name)]
    weights = [fell.whole(name) for name in used]
    if fell.whole(fell.followed) < 0:
        words.append("ascends")
    several = len(used) > 1 and np.ptp(weights) <= ALIKE * np.abs(weights).max()
    if several or abs(fell.momentum - 1) <= ALIKE:
        words.append("missing zero_grad")
    if fell.momentum and len(used) > 1:
        through = {name for name in used if abs(fell.slow[name]) > ALIKE * abs(fell.whole(name))}
        besides = {name for name in used if abs(fell.fast[name]) > ALIKE * abs(fell.whole(name))}
        if through and besides - through:
            words.append("momentum of one gradient")
    if abs(fell.whole("e") + 1) <= ALIKE:
        words.append("not restored")
    asked = max((len(distinct(calls)) for run in seen.runs.values() for calls in run.calls[2:]), default=1)
    if asked > 1 and used == ["g0"]:
        words.append("unused ascent")
    return words


def _decays_in_part(seen: Seen) -> bool:
    """Whether tensors move alike but for weight decay, which some have and some have not."""
    read = [part for part in seen.parts if part is not None]
    pulls = [part.weight_decay for part in read]
    rates = [part.whole(part.followed) for part in read]
    alike = len(read) > 1 and np.ptp(rates) <= ALIKE * np.abs(rates).max()
    return alike and any(pulls) and not all(pulls)


def _of_expected(seen: Seen, expected: Any, stated: float | None) -> list[str]:
    words = []
    wanted = getattr(getattr(expected, "method", expected), "lr", stated)
    fell = seen.descent
    if seen.passes > 1 and fell is not None and wanted:
        ratio = (fell.whole(fell.followed) if not fell.momentum else fell.slow[fell.followed]) / float(wanted)
        if abs(ratio - seen.passes) <= ALIKE * seen.passes:
            words.append("accumulation not divided")
    if _moves_radius(expected) and "rho" in seen.ascent.numbers and not seen.ascent.changes:
        words.append("constant radius")
    return words


def _moves_radius(method: Any) -> bool:
    """Whether a method, or one inside of it, has a schedule for its radius that changes within a run."""
    if not isinstance(method, Wrapper):
        return False
    factor = (getattr(method, "schedules", None) or {}).get("rho")
    moves = factor is not None and len({float(factor(count)) for count in range(STEPS)}) > 1
    return moves or _moves_radius(method.method)


def is_lost(runs: list[Recording]) -> bool:
    """Whether an ascent is rounded away: its point is the one before it in coordinates that have a gradient."""
    if views.coarse(runs) not in ("bfloat16", "float16"):
        return False
    lost = asked = 0
    for run in runs:
        for calls in run.calls:
            if len(calls) < 2:
                continue
            first, last = calls[0], calls[-1]
            there = first.gradient != 0
            before = first.point if np.array_equal(first.point, last.point) else _as_coarse(first.point, last.point)
            asked += int(there.sum())
            lost += int((there & (last.point == before)).sum())
    return asked > 0 and lost > 0.01 * asked


def _as_coarse(point: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A point on the grid of another one, of 8 bits."""
    import jax.numpy as jnp

    return point.astype(jnp.bfloat16).astype(np.float64) if like.any() else point


def too_few_bits(seen: Seen, runs: list[Recording]) -> bool:
    """Whether something is rounded to fewer bits than parameters of 64 have: a step, or a number of the method."""
    # Between SAM and USAM an ε in the norm, which is not looked for, leaves something over as rounding does
    of_ascent = 0.0 if seen.ascent.kind == "UnifiedSAM" else seen.ascent.left
    left, numbers = of_ascent, []
    if seen.descent is not None:
        left = max(left, seen.descent.left)
        numbers = [seen.descent.momentum, seen.descent.whole(seen.descent.followed)]
    if seen.ascent.kind == "SAM" and seen.ascent.radii and not seen.ascent.changes:
        numbers.append(float(np.median(seen.ascent.radii)))
    rounded = any(in_single(number) is not None for number in numbers)
    return views.coarse(runs) is not None or left > 1e-11 or rounded
