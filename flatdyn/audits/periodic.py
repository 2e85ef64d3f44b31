"""Rules that repeat themselves after several steps: a pull back every k steps, an ascent every k steps.

Lookahead    the rule of the first steps holds until step k, where the parameters are pulled back to the start
LookSAM      at steps 0, k, 2k, … SAM, whose push to the side is used again between them
"""

from __future__ import annotations

import dataclasses

import numpy as np

from flatdyn import methods
from flatdyn.audits.ascents import Ascent
from flatdyn.audits.descents import descent, rows
from flatdyn.audits.fits import constant, short
from flatdyn.audits.naming import candidates
from flatdyn.audits.replays import iterates, usable
from flatdyn.audits.runs import Recording, Tensors, distinct
from flatdyn.methods import Method

FIRST = 4  # steps from which a rule is read that a pull ends


def begun(run: Recording, steps: int = FIRST) -> Recording:
    """The first steps of a run."""
    return dataclasses.replace(run, positions=run.positions[: steps + 1], calls=run.calls[:steps])


def lookaheads(runs: list[Recording], form: Tensors, held: np.ndarray, went: Ascent) -> list[tuple[Method, str]]:
    """Lookahead around the rule of the first steps, whatever that is; the pull comes where it no longer holds."""
    fell = descent([begun(run) for run in runs], np.flatnonzero(held))
    if fell is None or fell.fits:
        return []
    whole = usable(runs)
    for method, _ in candidates(went, fell, form):
        off = iterates(method, whole, form, held) - np.stack([run.positions[1:] for run in whole])
        late = np.flatnonzero(np.abs(off).max(axis=(0, 2)) > 1e-6)
        if late.size and late[0] >= FIRST:
            return _pulled(method, whole, int(late[0]), off[:, late[0]])
    return []


def _pulled(method: Method, runs: list[Recording], last: int, off: np.ndarray) -> list[tuple[Method, str]]:
    """Lookaheads whose first pull ends step `last` (from 0); `off` is what the method without it is away then."""
    made: list[tuple[Method, str]] = []
    seen = np.stack([run.positions for run in runs])
    for start, k in ((0, last + 1), (1, last), *(((last + 1) // 2, (last + 1) // 2),) * (last % 2)):
        way = seen[:, last + 1] + off - seen[:, start]  # from φ to the fast iterate
        alpha = 1 - float((off * way).sum() / (way * way).sum())
        if not 0 <= alpha <= 1 or k < 2 or np.abs(off - (1 - alpha) * way).max() > 1e-6 * np.abs(off).max():
            continue
        for memory in ("keep", "reset", "pull"):
            made.append((methods.Lookahead(method, k, short(alpha, 1e-7), memory=memory, start=start), memory))
    return made


def looks(runs: list[Recording], form: Tensors) -> list[tuple[Method, str]]:
    """LookSAM, from runs in which only some steps ask for a gradient uphill."""
    uphill = [[len(distinct(calls)) > 1 for calls in run.calls] for run in runs]
    first = np.flatnonzero(uphill[0])
    if any(one != uphill[0] for one in uphill) or not first.size or first[0] != 0 or len(first) == len(uphill[0]):
        return []
    k = int(first[1]) if len(first) > 1 else len(uphill[0])
    if not np.array_equal(first, np.arange(0, len(uphill[0]), k)):
        return []
    starts = [rows(run)[0] for run in runs]
    rates = [-(row.move @ row.features["g1"]) / (row.features["g1"] @ row.features["g1"]) for row in starts]
    radii = [np.linalg.norm(row.features["e"]) for row in starts]
    if not constant(np.array(rates), 1e-6) or not constant(np.array(radii), 1e-6):
        return []
    lr, rho = short(float(np.median(rates)), 1e-7), short(float(np.median(radii)), 1e-7)
    made: list[tuple[Method, str]] = []
    for layerwise, parts in ((False, [slice(None)]), (True, form.slices)):
        pushes = [share for run in runs for share in _pushes(run, lr, parts)]
        if pushes and constant(np.array(pushes), 1e-3):
            alpha = short(float(np.median(pushes)), 1e-4)
            made.append((methods.LookSAM(lr, rho, k, alpha, layerwise=layerwise), "layerwise" if layerwise else "all"))
    return made


def _pushes(run: Recording, lr: float, parts: list[slice]) -> list[float]:
    """α of the step after an ascent, for each part: −d/η = g + α ‖g‖ v/‖v‖, v across g."""
    ascended, after = rows(run)[:2]
    made = []
    for part in parts:
        here, there = ascended.features["g0"][part], ascended.features["g1"][part]
        across = there - here * (here @ there) / (here @ here)
        g = after.features["g0"][part]
        push = -after.move[part] / lr - g
        if np.linalg.norm(across) < 1e-9 * np.linalg.norm(there):
            continue
        across = across / np.linalg.norm(across)
        if np.linalg.norm(push - across * (push @ across)) > 1e-4 * np.linalg.norm(push):
            return []
        made.append(float(push @ across / np.linalg.norm(g)))
    return made
