"""From runs to the ascent: which calls were made uphill of θ, along what, and how far."""

from __future__ import annotations

import dataclasses

import numpy as np

from flatdyn.audits.ascents import Ascent, Step, adaptive, beyond, direction, lengths, parallel, rounded
from flatdyn.audits.fits import constant
from flatdyn.audits.runs import Recording, Tensors, distinct

# What an ascent may go along, the usual first
ALONG = ("gradient", "stale", "sum", "all", "move")


def steps_of(runs: list[Recording]) -> list[Step]:
    """The first ascent of every step, or the only call of a step where that is not at θ."""
    made = []
    for run in runs:
        everything = np.zeros_like(run.positions[0])
        stale = None
        for k, calls in enumerate(map(distinct, run.calls)):
            theta = run.positions[k]
            if not calls:
                continue
            here = np.array_equal(calls[0].point, theta)
            everything = everything + (calls[0].gradient if here else 0)
            known = {"gradient": calls[0].gradient, "all": everything} if here else {}
            if k:
                known["move"] = run.positions[k] - run.positions[k - 1]
                known["stale"] = stale
                if here:
                    known["sum"] = calls[0].gradient + stale
            ahead = calls[1] if here and len(calls) > 1 else calls[0]
            gradient = calls[0].gradient if here else np.zeros_like(theta)
            made.append(Step(run, k, theta, gradient, known, ahead.point - theta))
            stale = calls[-1].gradient
            everything = everything + sum((call.gradient for call in calls[1:]), 0 * theta)
    return made


def further(runs: list[Recording]) -> int:
    """How many ascents follow each other in a step: calls at points of their own, less one."""
    counts = [len(distinct(calls)) - 1 for run in runs for calls in run.calls[2:]]
    return max(counts, default=0) if counts else 0


def ascent(runs: list[Recording], form: Tensors, enough: float) -> Ascent:
    """How the ascent is made, from several runs."""
    steps = steps_of(runs)
    size = max((float(np.abs(step.theta).max()) for step in steps), default=1.0)
    if not steps or max(float(np.abs(step.reach).max()) for step in steps) <= 1e-14 * size:
        return Ascent("none", {})
    # The first step may have nothing to go along yet
    later = [step for step in steps if step.number >= 1]
    if not any(np.abs(step.reach).max() > 1e-14 * size for step in later):
        return Ascent("unknown", {})
    perturbed = [any(np.abs(step.reach[part]).max() > 0 for step in later) for part in form.slices]
    kept = np.concatenate([np.full(size, flag) for size, flag in zip(form.sizes, perturbed, strict=True)])
    made = (
        _whole(later, kept, enough, steps)
        or _by_tensor(later, form, perturbed, enough)
        or _with_decay(later, kept, enough)
    )
    made = made or adaptive([_part(step, kept) for step in later], enough) or _adaptive_by_tensor(later, form, enough)
    if made is None:
        return Ascent("unknown", {})
    made = dataclasses.replace(made, left=beyond(made.left, [_part(step, kept) for step in later]))
    if made.mask is None and not all(perturbed):
        made = dataclasses.replace(made, mask=tuple(map(float, perturbed)))
    return rounded(made)


def _part(step: Step, kept: np.ndarray) -> Step:
    known = {name: vector[kept] for name, vector in step.known.items() if vector is not None}
    return Step(step.run, step.number, step.theta[kept], step.gradient[kept], known, step.reach[kept])


def _whole(steps: list[Step], kept: np.ndarray, enough: float, all_steps: list[Step]) -> Ascent | None:
    """Along one vector, with one length for all that is perturbed."""
    parts = [_part(step, kept) for step in steps]
    along = direction(parts, ALONG, max(enough, 1e-8))
    if along is None:
        return None
    name, off = along
    scopes = {"masked": parts} | ({} if kept.all() else {"all": steps})
    results = []
    for scope, of in scopes.items():
        norms = np.array([np.linalg.norm(step.known[name]) for step in of])
        length = lengths(parts, name, norms, enough)
        if length is not None:
            kind, numbers, left = length
            numbers = numbers | ({"scope": "all"} if scope == "all" and kind == "SAM" else {})
            results.append(Ascent(kind, numbers, name, 0.0, _radii(parts), left, left, off))
    if not results:
        # A radius that changes from step to step is the same in every run; the first step may have none to go along
        asked = all_steps if name == "gradient" else steps
        pairs = [(step, _part(step, kept)) for step in asked]
        return _changing(pairs, name, {} if kept.all() else {"scope": "all"}, off)
    return min(results, key=lambda one: one.left)


def _radii(steps: list[Step]) -> tuple[float, ...]:
    return tuple(float(np.linalg.norm(step.reach)) for step in steps)


def _changing(pairs: list[tuple[Step, Step]], name: str, everything: dict, off: float) -> Ascent | None:
    """An ascent whose radius belongs to the step, of whole steps and of what is perturbed of them."""
    whole, parts = zip(*pairs, strict=True)
    reach = np.array(_radii(list(parts)))
    norms = np.array([np.linalg.norm(step.known[name]) for step in parts])
    total = np.array([np.linalg.norm(step.known[name]) for step in whole])
    sizes = [("SAM", {}, reach), ("USAM", {}, reach / norms)]
    if everything:
        sizes.insert(1, ("SAM", everything, reach * total / norms))
    for kind, numbers, values in sizes:
        by_step: dict[int, list[float]] = {}
        for step, value in zip(parts, values, strict=True):
            by_step.setdefault(step.number, []).append(float(value))
        if all(constant(np.array(several), 1e-6) for several in by_step.values()):
            radii = tuple(float(np.median(by_step[number])) for number in sorted(by_step))
            rho = radii[0] or max(radii)
            return Ascent(kind, {"rho": rho} | numbers, name, radii=radii, direction_off=off, changes=True)
    return None


def _by_tensor(steps: list[Step], form: Tensors, perturbed: list[bool], enough: float) -> Ascent | None:
    """Along the gradient in each tensor, with lengths of their own."""
    if len(form.sizes) < 2:
        return None
    parts = [part for part, flag in zip(form.slices, perturbed, strict=True) if flag]
    if any(not step.gradient.any() for step in steps):
        return None
    if max(parallel(step.reach[part], step.gradient[part]) for step in steps for part in parts) > max(enough, 1e-8):
        return None
    s = np.array(
        [[step.reach[p] @ step.gradient[p] / (step.gradient[p] @ step.gradient[p]) for p in parts] for step in steps]
    )
    own = np.array([[np.linalg.norm(step.gradient[p]) for p in parts] for step in steps])
    share = max(enough, 1e-8)
    if constant(s * own, share):
        return Ascent("SAM", {"rho": float(np.median(s * own)), "scope": "tensor"}, left=_spread(s * own))
    thetas = np.array([[np.linalg.norm(step.theta[p]) for p in parts] for step in steps])
    layered = s / thetas**2
    if all(constant(row, share) for row in layered):
        rho = layered[:, 0] * np.linalg.norm(thetas * own, axis=1)
        if constant(rho, share):
            numbers = {"rho": float(np.median(rho)), "shift": 0.0, "layerwise": True}
            return Ascent("ASAM", numbers, left=_spread(rho))
    for scope in ("all", "masked"):
        weights = s[0] / s[0].max()
        norms = np.array([np.linalg.norm(step.gradient) for step in steps])
        if scope == "masked":
            norms = np.linalg.norm(own * weights, axis=1)
        rho = s * norms[:, None]
        if all(constant(column, share) for column in rho.T):
            median = np.median(rho, axis=0)
            ratios = iter(median / median.max())
            mask = tuple(float(next(ratios)) if flag else 0.0 for flag in perturbed)
            return Ascent("SAM", {"rho": float(median.max()), "scope": scope}, mask=mask, left=_spread(rho[:, 0]))
    return None


def _spread(values: np.ndarray) -> float:
    return float(np.ptp(values) / np.abs(values).max())


def _adaptive_by_tensor(steps: list[Step], form: Tensors, enough: float) -> Ascent | None:
    """Measured by the size of each parameter, with a norm of each tensor's own."""
    made = []
    for part in form.slices if len(form.slices) > 1 else ():
        kept = np.zeros(form.dim, bool)
        kept[part] = True
        made.append(adaptive([_part(step, kept) for step in steps], enough))
    if not made or any(one is None or one.kind != "ASAM" or "normalized" in one.numbers for one in made):
        return None
    if any(not constant(np.array([one.numbers[name] for one in made]), 1e-6) for name in ("rho", "shift")):
        return None
    return dataclasses.replace(made[0], numbers=made[0].numbers | {"scope": "tensor"})


def _with_decay(steps: list[Step], kept: np.ndarray, enough: float) -> Ascent | None:
    """Along the gradient with weight decay."""
    parts = [_part(step, kept) for step in steps]
    if any(not step.gradient.any() for step in parts):
        return None
    shares = []
    for step in parts:
        matrix = np.stack([step.gradient, step.theta], axis=1)
        solved, *_ = np.linalg.lstsq(matrix, step.reach, rcond=None)
        if np.linalg.norm(matrix @ solved - step.reach) > max(enough, 1e-8) * np.linalg.norm(step.reach):
            return None
        shares.append(solved[1] / solved[0])
    # Weak gradients show it best
    decay = float(np.median(shares))
    if not constant(np.array(shares), max(100 * enough, 1e-6)):
        return None
    pulled = [dataclasses.replace(step, known={"gradient": step.gradient + decay * step.theta}) for step in parts]
    length = lengths(pulled, "gradient", np.array([np.linalg.norm(step.known["gradient"]) for step in pulled]), enough)
    if length is None:
        return None
    kind, numbers, left = length
    return Ascent(kind, numbers, "gradient", decay, _radii(parts), left)
