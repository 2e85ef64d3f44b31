"""Where the gradient that is followed was asked for: the ascent e = p − θ, and what it is made from.

e = ρ g / (‖g‖ + ε)       1 / s is a line in ‖g‖, where e = s g
e = ρ (1 − c + c/‖g‖) g   s is a line in 1/‖g‖
e = ρ T² g / ‖T g‖        √(eᵢ/gᵢ) is a line in |θᵢ|
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from flatdyn.audits.fits import EXACT, constant, fit, short
from flatdyn.audits.runs import Recording


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One ascent: from where, which gradient was known there, and how far it went."""

    run: Recording
    number: int
    theta: np.ndarray
    gradient: np.ndarray
    known: dict[str, np.ndarray]
    reach: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Ascent:
    """How the ascent is made.

    Attributes:
        kind: "none", "SAM", "USAM", "ASAM", "UnifiedSAM", or "unknown"
        numbers: arguments of the flatdyn method
        along: what it follows: "gradient", "stale", "sum", "move", "decayed"
        decay: λ of θ in the ascent's gradient
        radii: ρ of each step, where it was measured
        left: what the fit leaves over
        length_off, direction_off: how far the length and the direction are from exact, as shares
        mask: for each tensor how much of ρ it gets, if not all the same; zeros where nothing is perturbed
        changes: whether ρ changes from step to step
    """

    kind: str
    numbers: dict[str, float]
    along: str = "gradient"
    decay: float = 0.0
    radii: tuple[float, ...] = ()
    left: float = 0.0
    length_off: float = 0.0
    direction_off: float = 0.0
    mask: tuple[float, ...] | None = None
    changes: bool = False


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def parallel(a: np.ndarray, b: np.ndarray) -> float:
    """How far a is from a multiple of b, as a share of a."""
    size = np.linalg.norm(a)
    if not size:
        return 0.0
    direction = _unit(b)
    return float(np.linalg.norm(a - direction * (a @ direction)) / size)


def _sizes(steps: list[Step], name: str) -> np.ndarray:
    """s of each step, where e = s f."""
    return np.array([step.reach @ step.known[name] / (step.known[name] @ step.known[name]) for step in steps])


def direction(steps: list[Step], names: tuple[str, ...], enough: float) -> tuple[str, float] | None:
    """The first of several vectors along which all ascents go, and how far they are from it at most."""
    for name in names:
        used = [step for step in steps if name in step.known and step.known[name].any()]
        if used and len(used) >= len(steps) // 2:
            off = max(parallel(step.reach, step.known[name]) for step in used)
            if off <= enough:
                return name, off
    return None


def rounding(steps: list[Step]) -> float:
    """What rounding of p and θ leaves of the lengths of p − θ, as a share: most where the ascent is short."""
    return max(4e-16 * float(np.abs(step.theta).max() / max(np.abs(step.reach).max(), 1e-300)) for step in steps)


def beyond(left: float, steps: list[Step]) -> float:
    """What a fit leaves over, or 0 where that is rounding."""
    return left if left > 30 * rounding(steps) else 0.0


def lengths(steps: list[Step], name: str, norms: np.ndarray, enough: float) -> tuple[str, dict, float] | None:
    """What makes the length: (kind, numbers, what is left over)."""
    s = _sizes(steps, name)
    if not np.all(np.isfinite(s)) or (s == 0).any():
        return None
    if constant(s, enough):
        return "USAM", {"rho": float(np.median(s))}, float(np.ptp(s) / abs(np.median(s)))
    line = fit({"norm": norms / np.abs(norms), "one": 1 / norms}, 1 / (s * norms))  # (‖g‖ + ε)/ρ over ‖g‖
    if line.left <= enough:
        rho = 1 / line["norm"]
        eps = line["one"] * rho
        plain = fit({"norm": norms / np.abs(norms)}, 1 / (s * norms))
        # ε counts where it explains most of what is left over without it
        if plain.left <= max(EXACT, 0) and line.left > plain.left / 10:
            eps = 0.0
        if eps < 0 or abs(eps) / norms.min() < 30 * line.left or line.left > plain.left / 10:
            eps = 0.0
            rho = 1 / plain["norm"]
        return "SAM", {"rho": rho} | ({"eps": eps} if eps else {}), plain.left if not eps else line.left
    both = fit({"rate": np.ones_like(norms) / s, "radius": 1 / norms / s}, np.ones_like(s))
    if both.left <= enough:
        rho = both["rate"] + both["radius"]
        return "UnifiedSAM", {"rho": rho, "blend": both["radius"] / rho}, both.left
    return None


def adaptive(steps: list[Step], enough: float) -> Ascent | None:
    """Ascents measured by the size of each parameter."""
    sizes, ratios, reaches = [], [], []
    for step in steps:
        good = np.abs(step.gradient) > 1e-3 * np.abs(step.gradient).max()
        ratio = step.reach[good] / step.gradient[good]
        if (ratio <= 0).any():
            break
        sizes.append(np.abs(step.theta[good]))
        ratios.append(np.sqrt(ratio))
        line = fit({"size": sizes[-1], "one": np.ones_like(sizes[-1])}, ratios[-1])
        if line.left > math.sqrt(enough):
            break
        reaches.append((line["size"], line["one"] / line["size"], line.left))
    else:
        shift = float(np.median([one[1] for one in reaches]))
        shift = 0.0 if abs(shift) < 30 * max(one[2] for one in reaches) + 1e-13 else shift
        left = max(one[2] for one in reaches)
        s = np.array([one[0] ** 2 for one in reaches])
        if constant(s, enough):
            return Ascent("ASAM", {"rho": float(np.median(s)), "shift": shift, "normalized": False}, left=left)
        norms = np.array([np.linalg.norm((np.abs(step.theta) + shift) * step.gradient) for step in steps])
        rho = s * norms
        if constant(rho, max(enough, 100 * left)):
            left = max(left, float(np.ptp(rho) / rho.max()))
            eps = fit({"norm": np.ones_like(norms), "one": 1 / norms}, 1 / rho)
            radius = 1 / eps["norm"]
            extra = {"eps": eps["one"] * radius} if eps["one"] * radius / norms.min() > 100 * max(left, 1e-12) else {}
            return Ascent("ASAM", {"rho": radius, "shift": shift} | extra, left=left)
        return None
    return _by_signs(steps, enough)


def _by_signs(steps: list[Step], enough: float) -> Ascent | None:
    if any(
        (np.sign(step.reach) != np.sign(step.gradient)).any() and np.count_nonzero(step.reach) > 1 for step in steps
    ):
        return None
    single = [np.count_nonzero(step.reach) == 1 for step in steps]
    if all(single):
        where = [int(np.argmax(np.abs(step.gradient))) for step in steps]
        sizes = np.array([np.abs(step.reach[i]) for step, i in zip(steps, where, strict=True)])
        return Ascent("SAM", {"rho": float(np.median(sizes)), "p": 1}) if constant(sizes, enough) else None
    sizes = np.abs(np.concatenate([step.reach for step in steps]))
    if constant(sizes, max(enough, 1e-4)):  # by Adam at its first step it is so but for eps
        return Ascent("SAM", {"rho": float(np.median(sizes)), "p": math.inf})
    line = fit({"size": np.abs(np.concatenate([step.theta for step in steps])), "one": np.ones_like(sizes)}, sizes)
    if line.left <= enough:
        shift = line["one"] / line["size"]
        return Ascent("ASAM", {"rho": line["size"], "shift": 0.0 if abs(shift) < 1e-9 else shift, "p": math.inf})
    return None


def rounded(ascent: Ascent) -> Ascent:
    """The same with numbers of few digits, where those are as good."""
    share = max(3e-9, 3 * ascent.left)
    numbers = {
        name: short(value, share if name != "eps" else 1e-2)
        if isinstance(value, float) and value != math.inf
        else value
        for name, value in ascent.numbers.items()
    }
    return dataclasses.replace(ascent, numbers=numbers, decay=short(ascent.decay, share) if ascent.decay else 0.0)
