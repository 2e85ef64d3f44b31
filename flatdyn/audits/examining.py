"""An audit: run the problems, read the rule, try the method on what was held out, say what was seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from flatdyn.audits import views
from flatdyn.audits.ascents import Ascent
from flatdyn.audits.descents import Descent, descent
from flatdyn.audits.fits import ROUNDED, short
from flatdyn.audits.naming import candidates, scheduled
from flatdyn.audits.nonlinear import NonlinearRule, adaptive, lion, rule
from flatdyn.audits.periodic import begun, lookaheads, looks
from flatdyn.audits.problems import LEARNT, problems
from flatdyn.audits.replays import Difference, difference
from flatdyn.audits.runs import Recording, Tensors, distinct
from flatdyn.audits.surveys import ascent, further
from flatdyn.methods import Averaged, FirstOrder, Method

SAME = 2e-6  # share of the moves by which the iterates of one map may differ: norms in 32 bits leave 1e-7
TRIED = (*LEARNT, "faint", "unseen", "slope")


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """One reading of the runs.

    Attributes:
        runs: by name of the problem
        ascent, descent, rule: what was read off; None where nothing fits
        method, off: the method that comes closest, and how far it is
        each: how many calls of the user's step make one of these steps
        passes: how many gradients at one point are taken for one
        average: (d,) of the average whose iterates the runs are, (None,) of a uniform one
        whole: the runs of the average
        parts: the descent of each tensor, where they differ
        held: 0 for coordinates that never move, else 1
    """

    runs: dict[str, Recording]
    ascent: Ascent
    descent: Descent | None = None
    rule: NonlinearRule | None = None
    method: Method | None = None
    off: Difference | None = None
    each: int = 1
    passes: int = 1
    average: tuple = ()
    whole: dict[str, Recording] | None = None
    parts: tuple[Descent | None, ...] = ()
    held: Any = None

    @property
    def same(self) -> bool:
        """Whether the method runs the same map."""
        return self.off is not None and self.off.share <= SAME


def paced(run: Any, dim: int) -> dict[str, Recording]:
    """Runs of all problems by name, with gradients so large that moves are of order one and stay finite."""
    every = problems(dim)
    pilot = every["batches"]
    trial = run(pilot)
    move = np.abs(trial.moves[0]).max() if len(trial.moves) else 0.0
    factor = 0.3 / move if np.isfinite(move) and move > 0 else 1.0
    factor = float(2.0 ** np.round(np.log2(np.clip(factor, 1e-6, 1e6))))
    for _ in range(12):
        trials = [run(every[name].times(factor)) for name in ("strong", "unseen")]
        far = max(np.abs(trial.positions).max() if trial.finite else np.inf for trial in trials)
        if far < 30:
            break
        factor /= 4
    return {
        name: run(problem.times(factor)) if name not in ("still",) else run(problem) for name, problem in every.items()
    }


def examine(runs: dict[str, Recording], form: Tensors, repeats: bool = True) -> Seen:
    """The reading that comes closest to the runs, which are read as a rule of memory only if they repeat."""
    read: list[Seen] = []
    for look in _looks(runs):
        one = _read(look, form)
        if one is None:
            continue
        if one.same:
            return one
        if not read and any(one.parts):
            return one
        read.append(one)
        # A rule that fits and has no name in flatdyn needs no other way to look at it
        if one.each == 1 and one.descent is not None and not one.descent.fits:
            return one
    if not read:
        return Seen(runs, Ascent("unknown", {}))
    usual = read[0]
    if usual.descent is None and usual.held is not None and repeats:
        usual = _periodic(usual, form)
        if usual.same:
            return usual
        usual = _nonlinear(usual, form)
        if usual.rule is not None or any(usual.parts):
            return usual
    close = [one for one in read[1:] if one.off is not None and one.off.share < 0.1]
    return min([usual, *close], key=lambda one: np.inf if one.off is None else one.off.share)


def _looks(runs: dict[str, Recording]) -> Any:
    """Ways to look at runs, the usual first."""
    merged = {name: views.accumulated(run) for name, run in runs.items()}
    if all(run is not None for run in merged.values()):
        yield Seen(merged, Ascent("none", {}), passes=len(next(iter(runs.values())).calls[0]))
    usual = [runs[name] for name in LEARNT if runs[name].finite]
    behind = views.behind_average(usual)
    if behind is not None:
        made = {name: views.behind_average([run]) for name, run in runs.items()}
        inner = {name: one[0][0] for name, one in made.items() if one is not None}
        yield Seen(inner, Ascent("none", {}), average=(behind[1],), whole=runs)
    yield Seen(runs, Ascent("none", {}))
    for number in (2, 3, 4):
        yield Seen({name: views.together(run, number) for name, run in runs.items()}, Ascent("none", {}), each=number)


def frozen(runs: list[Recording], form: Tensors) -> list[bool]:
    """For each tensor whether it never moves, though there is a gradient."""
    return [
        all(not run.moves[:, part].any() for run in runs)
        and any(call.gradient[part].any() for run in runs for calls in run.calls for call in calls)
        for part in form.slices
    ]


def _read(look: Seen, form: Tensors) -> Seen | None:
    used = [look.runs[name] for name in LEARNT if name in look.runs and look.runs[name].finite]
    if not used:
        return None
    if not all(all(run.calls) for run in used):
        return look
    still = frozen(used, form)
    if all(still):
        return look
    held = np.concatenate([np.full(size, 0.0 if flag else 1.0) for size, flag in zip(form.sizes, still, strict=True)])
    moved = np.flatnonzero(held)
    faint = [look.runs["faint"]] if "faint" in look.runs and look.runs["faint"].finite else []
    went = ascent(used + faint, form, ROUNDED)
    fell = descent(used, moved)
    one = dataclasses.replace(look, ascent=went, descent=fell, held=held)
    tried: list[tuple[Method, str]] = []
    if fell is not None:
        tried = scheduled(went, fell, form) if fell.fits else candidates(went, fell, form, further(used))
    one = _tried(one, tried, form)
    if one.average and not one.same:
        return None
    if one.same or look.each > 1:
        return one
    if fell is None and len(form.sizes) > 1:
        parts = tuple(
            None if flag else descent(used, np.arange(form.dim)[part])
            for part, flag in zip(form.slices, still, strict=True)
        )
        if any(part is not None for part in parts):
            return _nearest_of_parts(dataclasses.replace(one, parts=parts), form, used)
    return one


def _tried(one: Seen, methods: list[tuple[Method, str]], form: Tensors, without: str = "") -> Seen:
    source = one.whole or one.runs
    runs = [source[name] for name in TRIED if name in source and source[name].finite and name != without]
    if one.average:
        (decay,) = one.average
        keywords = [{}, {"start": 1}] if decay is None else [{"decay": short(decay, 1e-8), "start": s} for s in (0, 1)]
        methods = [(Averaged(method, **words), note) for method, note in methods for words in keywords]
    for method, _ in methods:
        off = difference(method, runs, form, one.held)
        if one.off is None or off < one.off:
            one = dataclasses.replace(one, method=method, off=off)
        if one.same:
            break
    return one


def _periodic(one: Seen, form: Tensors) -> Seen:
    used = [one.runs[name] for name in LEARNT if name in one.runs and one.runs[name].finite]
    tried = looks(used, form)
    if tried:  # On a slope both gradients are one, and packages push along the rounding of their difference
        return _tried(one, tried, form, "slope")
    return _tried(one, lookaheads(used, form, one.held, ascent([begun(run) for run in used], form, ROUNDED)), form)


def _nonlinear(one: Seen, form: Tensors) -> Seen:
    used = [one.runs[name] for name in (*LEARNT, "faint") if name in one.runs and one.runs[name].finite]
    read = rule(used, 1e-7) or lion(used) or adaptive(used)
    if read is None:
        return one
    follows = None
    if one.ascent.kind != "none":
        plain = Descent(0.0, {"g1": 1.0}, {}, "g1", 0.0)
        made = candidates(one.ascent, plain, form, further(used))
        if not made or not isinstance(made[0][0], FirstOrder):
            return dataclasses.replace(one, rule=read)
        follows = made[0][0]
    method = read.method(follows)
    one = dataclasses.replace(one, rule=read)
    return one if method is None else _tried(one, [(method, "rule")], form)


def _nearest_of_parts(one: Seen, form: Tensors, used: list[Recording]) -> Seen:
    made: list[tuple[Method, str]] = []
    for part in one.parts:
        if part is not None and not part.fits:
            made += candidates(one.ascent, part, form, further(used))
    return _tried(one, made, form)


def zero_gradient(run: Recording) -> str:
    """What happens where the gradient is zero, in a few words."""
    if not run.finite:
        return "NaN"
    moves = run.moves
    if not moves.size or np.abs(moves).max() <= 1e-14 * np.abs(run.positions).max():
        return "stays"
    shrunk = run.positions[1:] / run.positions[:-1]
    if np.ptp(shrunk[0]) <= 1e-9 and np.all(shrunk > 0):
        return f"shrinks by {shrunk[0].mean():.8g} in the first step"
    return f"moves by up to {np.abs(moves).max():.2g}"


def evaluations(runs: dict[str, Recording]) -> str:
    """How many gradients a step asks for."""
    counts = sorted({len(calls) for run in runs.values() for calls in run.calls})
    again = {len(calls) - len(distinct(calls)) for name, run in runs.items() if name != "still" for calls in run.calls}
    words = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return words + " a step" + (", some at the same point" if again != {0} else "")
