"""`audit`: which map does a training step really run?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from flatdyn.audits import views
from flatdyn.audits.examining import SAME, TRIED, Seen, examine, paced
from flatdyn.audits.faults import faults, is_lost, too_few_bits
from flatdyn.audits.recorded import read_record
from flatdyn.audits.replays import Difference, difference
from flatdyn.audits.report import FAULTS, Audit
from flatdyn.audits.runs import Recording
from flatdyn.audits.sources import Subject, source
from flatdyn.audits.wording import lines, measured
from flatdyn.core import checks
from flatdyn.methods import Method

TYPES = ("float64", "float32", "bfloat16", "float16")


def audit(
    step: Any,
    *,
    expected: Method | None = None,
    like: Any = None,
    dtype: str | None = None,
    statistics: bool = False,
    closure: bool | None = None,
) -> Audit:
    """Which map a training step really runs: a method of flatdyn with its numbers, and what is wrong with it.

    Small problems of known answer are run: bowls seen through minibatches, a slope, a flat, tiny and huge gradients.
    Where gradients are asked for says what the ascent is, what follows says the rest; the method that comes out is then
    run on them and on a problem that was held out, and must agree.

    Args:
        step: what to audit, one of
            - a function step(theta, gradient) -> theta. `gradient` is a function of theta, `gradient.another()` that of
              another minibatch; in `gradient(theta, statistics=False)` running statistics stay. Memory between calls is
              allowed: variables that the function encloses or names are copied for each run
            - a function without arguments that makes such a step
            - an optax transformation
            - a function of one argument that makes a PyTorch optimiser for the parameters it is given, or, if its
              argument is called model, for a model with a BatchNorm; or that makes a function train(loss), which takes
              one step of training: `loss()` is the loss, `loss.another()` that of another minibatch
            - a recorded run (positions, gradients) of shapes (steps + 1, dim) and (steps, dim) or (steps, calls, dim);
              a third array of the gradients' shape says where they were taken
        expected: the method that you believe it is: faults then say where it departs from it
        like: a tree of arrays in whose form, kind and precision a function takes theta; one NumPy vector of 64 bits if
            not given. An optax transformation gets a matrix, a vector and a matrix
        dtype: "float64", "float32", "bfloat16" or "float16", the precision of parameters in which it is used, and in
            which what is lost is looked for; the rule itself is read in 64 bits
        statistics: whether a function has to care for running statistics, such as those of BatchNorm
        closure: whether a PyTorch optimiser gets a closure; found out if not given
    Returns:
        an Audit, whose text is the report
    Raises:
        TypeError: if `step` is none of these
        ValueError: if it fails, does not return parameters, or a record is too short to decide
    """
    if expected is not None:
        checks.kind("expected", expected, Method)
    statistics = checks.flag("statistics", statistics)
    if dtype is not None:
        checks.choice("dtype", dtype, TYPES)
    if closure is not None:
        closure = checks.flag("closure", closure)
    if isinstance(step, tuple | list) and not hasattr(step, "update"):
        return read_record(step, expected)
    taken = source(step, like, statistics, closure, None)
    runs = paced(taken.run, taken.form.dim)
    repeats = not _differs(taken, runs["batches"])
    seen = examine(runs, taken.form, repeats)
    words = faults(seen, runs, taken.form, expected, taken.stated.get("lr"))
    usual = [run for name, run in runs.items() if name != "still" and run.calls]
    if not repeats:
        words.append("hidden state")
    if taken.counts and views.moves_statistics_again(usual):
        words.append("statistics moved twice")
    coarse = views.coarse(usual)
    words += ["low precision"] if too_few_bits(seen, usual) and seen.descent is not None else []
    details = {"low precision": f"gradients are taken at points of {coarse}"} if coarse else {}
    tried = [name for name in TRIED if name in runs]
    if dtype not in (None, "float64"):
        seen, words, details = _in_precision(step, like, statistics, closure, dtype, seen, words, details)
    off, nearest = seen.off, seen.method
    accepted = off is not None and off.share <= _tolerance(dtype or coarse)
    if expected is not None:
        apart = _apart(expected, runs, taken, seen)
        if not apart.share <= _tolerance(dtype or coarse):
            words.append("not as expected")
            details["not as expected"] = (
                f"iterates are up to {apart.largest:.1e} away, from step {apart.departs} on" if apart.departs else ""
            )
    ordered = [word for word in FAULTS if word in words]
    return Audit(
        nearest if accepted else None,
        float("nan") if off is None else off.largest,
        tuple(ordered),
        nearest,
        None if off is None else off.departs,
        measured(seen),
        lines(seen, runs, ordered, details, accepted, len(tried)),
    )


def _tolerance(kind: str | None) -> float:
    """Share of its moves by which the iterates of one map differ at most: by rounding, which a dozen steps gather."""
    return {None: SAME, "float64": SAME, "float32": 1e-4, "float16": 0.1, "bfloat16": 0.5}[kind]


def _differs(taken: Subject, run: Recording) -> bool:
    """Whether the same problem is run otherwise a second time."""
    again = taken.run(run.problem)
    return again.positions.shape != run.positions.shape or not np.allclose(
        again.positions, run.positions, rtol=1e-12, atol=1e-13, equal_nan=True
    )


def _apart(expected: Method, runs: dict[str, Recording], taken: Subject, seen: Seen) -> Difference:
    used = [runs[name] for name in TRIED if name in runs and runs[name].finite]
    held = np.ones(taken.form.dim) if seen.held is None else seen.held
    return difference(expected, used, taken.form, held)


def _in_precision(step, like, statistics, closure, dtype, seen, words, details) -> tuple:
    """The same in fewer bits: what is lost of an ascent, and how far the iterates are from the method's."""
    rounded = source(step, like, statistics, closure, dtype)
    names = [name for name in TRIED if name in seen.runs]
    runs = {name: rounded.run(seen.runs[name].problem) for name in names}
    usual = [run for run in runs.values() if run.calls]
    if is_lost(usual):
        words.append("perturbation lost")
        details["perturbation lost"] = f"in {dtype} {FAULTS['perturbation lost']}"
    names = [name for name in names if name != "faint"]  # whose moves are less than the spacing of numbers
    if seen.method is not None:
        finite = [runs[name] for name in names if runs[name].finite]
        seen = dataclasses.replace(seen, off=difference(seen.method, finite, rounded.form, seen.held))
    return seen, words, details
