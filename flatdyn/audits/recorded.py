"""Runs that were recorded elsewhere: positions, gradients, and maybe where these were taken."""

from __future__ import annotations

from typing import Any

import numpy as np

from flatdyn.audits.ascents import Ascent
from flatdyn.audits.descents import descent
from flatdyn.audits.examining import SAME, Seen
from flatdyn.audits.faults import faults
from flatdyn.audits.fits import ROUNDED
from flatdyn.audits.naming import candidates, scheduled
from flatdyn.audits.replays import recorded_difference
from flatdyn.audits.report import Audit
from flatdyn.audits.runs import Call, Recording, Tensors
from flatdyn.audits.surveys import ascent, further
from flatdyn.audits.wording import lines, measured
from flatdyn.core import checks
from flatdyn.methods import Method

LEAST = 6  # steps, of which the first two say how it starts
SHAPES = "positions of shape (steps + 1, dim) and gradients of shape (steps, dim) or (steps, calls, dim)"


def read_record(record: Any, expected: Method | None) -> Audit:
    """The audit of a recorded run."""
    run, known = _run(record)
    form = Tensors(run.positions[0])
    went = ascent([run], form, ROUNDED) if known else Ascent("none", {})
    fell = descent([run], np.arange(form.dim))
    seen = Seen({"bowl": run}, went, fell, held=np.ones(form.dim))
    tried: list = []
    if fell is not None and (known or all(len(calls) == 1 for calls in run.calls)):
        tried = scheduled(went, fell, form) if fell.fits else candidates(went, fell, form, further([run]))
    for method, _ in tried:
        off = recorded_difference(method, run)
        if seen.off is None or off < seen.off:
            seen = Seen({"bowl": run}, went, fell, None, method, off, held=seen.held)
    accepted = seen.off is not None and seen.off.share <= SAME
    words, details = faults(seen, {"bowl": run}, form, expected), {}
    if expected is not None:
        apart = recorded_difference(expected, run)
        if not apart.share <= SAME:
            words.append("not as expected")
            details["not as expected"] = f"iterates are up to {apart.largest:.1e} away, from step {apart.departs} on"
    return Audit(
        seen.method if accepted else None,
        float("nan") if seen.off is None else seen.off.largest,
        tuple(words),
        seen.method,
        None if seen.off is None else seen.off.departs,
        measured(seen),
        lines(seen, {"bowl": run}, words, details, accepted, 1),
    )


def _run(record: Any) -> tuple[Recording, bool]:
    """The run, and whether it is known where gradients were taken."""
    if len(record) not in (2, 3):
        raise ValueError(f"a recorded run is a pair, {SHAPES}, or three with points; got {len(record)} things")
    positions, gradients, *points = (
        np.asarray(checks.entries(name, part, "an array of numbers"), float)
        for name, part in zip(("positions", "gradients", "points"), record, strict=False)
    )
    if positions.ndim != 2:
        raise ValueError(f"positions must have the shape (steps + 1, dim), got {positions.shape}")
    gradients = gradients[:, None] if gradients.ndim == 2 else gradients
    if gradients.ndim != 3 or gradients.shape[::2] != (len(positions) - 1, positions.shape[1]):
        raise ValueError(
            f"a recorded run has {SHAPES}, got {positions.shape} and {np.shape(record[1])}: "
            "one position more than there are steps, the first being the start"
        )
    if len(gradients) < LEAST or positions.shape[1] * len(gradients) < 24:
        raise ValueError(
            f"a recorded run of {len(gradients)} steps in {positions.shape[1]} coordinates is too short to decide: "
            f"record {LEAST} steps or more, and 24 numbers or more"
        )
    if not (np.isfinite(positions).all() and np.isfinite(gradients).all()):
        raise ValueError("a recorded run must be finite: leave out the steps after it diverged")
    known = len(record) == 3
    at = points[0] if known else np.broadcast_to(positions[:-1, None], gradients.shape)
    at = at[:, None] if at.ndim == 2 else at
    if at.shape != gradients.shape:
        raise ValueError(f"points must have the shape of gradients, {np.shape(record[1])}, got {np.shape(record[2])}")
    none = np.zeros(positions.shape[1])
    calls = tuple(
        tuple(Call(point, gradient, none, (k, 0)) for point, gradient in zip(at[k], gradients[k], strict=True))
        for k in range(len(gradients))
    )
    return Recording(None, positions, calls), known
