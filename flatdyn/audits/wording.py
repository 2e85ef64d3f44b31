"""The report in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from flatdyn.audits.examining import Seen, evaluations, zero_gradient
from flatdyn.audits.naming import in_loss, numbers
from flatdyn.audits.report import FAULTS, shown
from flatdyn.audits.runs import Recording

PLACES = {
    "coupled": "coupled, at the unperturbed point",
    "decoupled": "decoupled",
    "loss": "in the loss, the ascent included",
    "other": "at a place that is none of the usual ones",
}
SCOPES = {"all": "over all parameters", "masked": "over what is perturbed", "tensor": "over each tensor by itself"}


def measured(seen: Seen) -> dict[str, float | str]:
    """Numbers by name."""
    made: dict[str, float | str] = {}
    if seen.descent is not None:
        read = numbers(seen.descent, in_loss(seen.ascent, seen.descent))
        made |= {"lr": read.lr, "momentum": read.momentum}
        made |= {"nesterov": "yes"} if read.nesterov else {}
        made |= {"dampening": read.dampening} if read.dampening else {}
        if read.weight_decay:
            made |= {"weight_decay": read.weight_decay, "decay": read.decay}
    elif seen.rule is not None:
        made |= {"lr": seen.rule.lr} | seen.rule.numbers
    for name, value in seen.ascent.numbers.items():
        made[name] = value if isinstance(value, str) else float(value)
    if seen.method is not None and hasattr(seen.method, "rho") and seen.same:
        made["rho"] = float(seen.method.rho)
        made["lr"] = float(seen.method.lr)
    return made


def lines(
    seen: Seen, runs: dict[str, Recording], words: list[str], details: dict[str, str], accepted: bool, count: int
) -> tuple[str, ...]:
    """The report, line by line."""
    made = [_head(seen, accepted)]
    if seen.off is not None:
        far = f"{seen.off.largest:.1e}" if np.isfinite(seen.off.largest) else "without bound"
        depart = "" if seen.off.departs is None or accepted else f", departs at step {seen.off.departs}"
        made.append(f"  difference   {far} at most, over {count} problems of {len(runs['bowl'].calls)} steps{depart}")
    made += [f"  {name:12s} {text}" for name, text in _parts(seen, runs).items()]
    made += [f"  fault        {word}: {details.get(word) or FAULTS[word]}" for word in words]
    if not words:
        made.append("  fault        none")
    return tuple(made)


def _head(seen: Seen, accepted: bool) -> str:
    name = shown(seen.method) if seen.rule is None else f"from_optax: {seen.rule}{_on(seen)}"
    if accepted:
        return name
    nearest = f"; the nearest is {name}" if seen.method is not None else ""
    rule = f"; it moves as {seen.rule}" if seen.rule is not None and seen.method is None else ""
    return f"no method of flatdyn runs this map{nearest}{rule}"


def _on(seen: Seen) -> str:
    follows = getattr(seen.method, "follows", None)
    return "" if follows is None else f", which follows {shown(follows)}"


def _parts(seen: Seen, runs: dict[str, Recording]) -> dict[str, str]:
    made: dict[str, str] = {}
    if seen.descent is not None:
        made["step"] = _step(seen)
    elif seen.rule is not None:
        made["step"] = str(seen.rule)
    elif any(seen.parts):
        made["step"] = "tensors move differently: " + "; ".join(_short(part) for part in seen.parts)
    went = seen.ascent
    if went.kind != "none":
        made["ascent"] = _ascent(seen)
    made["gradients"] = evaluations(runs)
    if seen.each > 1 and went.kind == "none":
        made["between"] = f"one step of the method is {seen.each} calls; in between the parameters stay"
    elif seen.each > 1:
        made["between"] = f"one step of the method is {seen.each} calls; in between the parameters are perturbed"
    elif seen.average:
        made["between"] = "what it returns is the average; gradients are taken at iterates that it keeps to itself"
    if "still" in runs:
        made["no gradient"] = zero_gradient(
            seen.runs.get("still", runs["still"]) if runs["still"].finite else runs["still"]
        )
    return made


def _short(part: Any) -> str:
    if part is None:
        return "one that is no linear rule, or stays"
    decay = f", decay {part.weight_decay:.6g}" if part.weight_decay else ", no decay"
    return f"step size {part.whole(part.followed):.6g}{decay}"


def _step(seen: Seen) -> str:
    fell = seen.descent
    read = numbers(fell, in_loss(seen.ascent, fell))
    if fell.fits:
        g = fell.followed
        rates = ", ".join(f"{-one[g]:.4g}" for one in fell.fits[:4])
        return f"size {rates}, ...: it changes from step to step"
    words = [f"size {read.lr:.8g}"]
    if read.momentum:
        words.append(f"momentum {read.momentum:.8g} ({'Nesterov' if read.nesterov else 'heavy ball'})")
    if read.dampening:
        words.append(f"dampening {read.dampening:.6g}")
    if fell.weight_decay:
        words.append(f"decay {fell.weight_decay:.6g}, {PLACES['loss' if in_loss(seen.ascent, fell) else fell.decay]}")
    used = [name for name in ("g0", fell.followed, "e", "perp") if fell.whole(name) and name != fell.followed]
    if used:
        names = {"g0": "the gradient at θ", "e": "the ascent itself", "perp": "the gradient at θ across the other one"}
        words.append(
            "along the gradient of the last call, and "
            + ", ".join(f"{-fell.whole(name):.6g} times {names[name]}" for name in dict.fromkeys(used))
        )
    return ", ".join(words)


def _ascent(seen: Seen) -> str:
    went = seen.ascent
    if went.kind == "unknown":
        return "to points that are none of the usual ones"
    along = {
        "gradient": "along the gradient",
        "stale": "along the gradient that the step before followed",
        "sum": "along the gradient and that of the step before",
        "all": "along all gradients so far",
        "move": "along the move before",
    }[went.along]
    kind = {"SAM": "radius", "USAM": "rate", "ASAM": "radius, by the size of parameters,", "UnifiedSAM": "radius"}[
        went.kind
    ]
    radii = [f"{radius:.4g}" for radius in went.radii[:4]] if went.changes else [f"{went.numbers['rho']:.8g}"]
    words = [f"{kind} {', '.join(radii)}{', ...' if went.changes else ''} {along}"]
    if went.kind == "SAM" and went.numbers.get("p", 2) == 2:
        scope = "all" if went.mask is None and "scope" not in went.numbers else went.numbers.get("scope", "masked")
        words.append("norm " + SCOPES[str(scope)])
    words += [f"{name} {went.numbers[name]:.3g}" for name in ("p", "eps", "shift", "blend") if name in went.numbers]
    if went.decay:
        words.append(f"with decay {went.decay:.6g}")
    if went.mask is not None:
        words.append("share of each tensor " + ", ".join(f"{weight:.3g}" for weight in went.mask))
    return ", ".join(words)
