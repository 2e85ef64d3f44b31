"""From an ascent and a descent to flatdyn methods that run the same map."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn import methods
from flatdyn.audits.ascents import Ascent
from flatdyn.audits.descents import Descent
from flatdyn.audits.fits import constant, short
from flatdyn.audits.runs import Tensors
from flatdyn.core import precision
from flatdyn.core.algebra import Vector
from flatdyn.methods import Method, Scheduled


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a descent says, in the words of a method's fields."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0
    weight_decay: float = 0.0
    decay: str = "coupled"
    starts: tuple[str, ...] = ("rest",)
    plain: bool = True

    def keywords(self, start: str) -> dict[str, Any]:
        """Arguments of a method, without those that are as usual."""
        made: dict[str, Any] = {"lr": self.lr}
        made |= {"momentum": self.momentum} if self.momentum else {}
        made |= {"nesterov": True} if self.nesterov else {}
        made |= {"dampening": self.dampening} if self.dampening else {}
        made |= {"weight_decay": self.weight_decay} if self.weight_decay else {}
        made |= {"decay": self.decay} if self.weight_decay and self.decay != "coupled" else {}
        return made | ({"start": start} if start != "rest" else {})


def numbers(descent: Descent, in_loss: bool = False) -> Numbers:
    """Step size, momentum, decay and its place."""
    g, share = descent.followed, max(1e-8, 30 * descent.left)
    momentum, slow, fast = descent.momentum, descent.slow.get(g, 0.0), descent.fast.get(g, 0.0)
    momentum = short(momentum, share) if momentum else 0.0
    nesterov, dampening, lr, plain = False, 0.0, slow + fast, True
    starts: tuple[str, ...] = ("rest",)
    if momentum:
        if abs(fast) <= share * abs(slow):
            lr, ratio = slow, descent.first / slow if slow else 1.0
            if constant(np.array([ratio, 1 + momentum]), 1e-4):
                starts = ("twice",)
            elif ratio > 1 + 1e-5:  # the first step is not damped
                dampening, lr, starts = 1 - 1 / ratio, descent.first, ("first",)
        else:
            nesterov, lr = True, fast
            dampening = 1 - slow / (momentum * fast)
            dampening = 0.0 if abs(dampening) <= 10 * share else dampening
            starts = ("rest", "first", "twice")
            plain = -1e-6 <= dampening < 1
    cut = max(1e-8, share)
    place = "loss" if in_loss else descent.decay
    weight = descent.weight_decay
    if place == "decoupled" and not momentum:
        place = "coupled"
    return Numbers(
        short(lr, cut),
        momentum,
        nesterov,
        short(dampening, 1e-6),
        short(weight, cut) if weight > 0 else 0.0,
        place if place != "other" else "coupled",
        starts,
        plain,
    )


def in_loss(ascent: Ascent, descent: Descent) -> bool:
    """Whether weight decay acts wherever a gradient is taken: in the ascent, and at the perturbed point after it."""
    pull = descent.weight_decay * descent.whole(descent.followed)
    return bool(ascent.decay) and abs(descent.whole("e") - pull) <= 1e-6 * abs(pull)


def candidates(ascent: Ascent, descent: Descent, form: Tensors, ascents: int = 1) -> list[tuple[Method, str]]:
    """Methods that could be meant, the likelier first, with the name of what they assume."""
    if descent.followed == "g0" and ascent.along == "gradient":  # what was asked for uphill is not used
        ascent = Ascent("none", {})
    read = numbers(descent, in_loss(ascent, descent))
    both = descent.followed != "g0" and descent.whole("g0")
    if not both and not (read.lr > 0 and read.plain):
        return []
    made = []
    for start in read.starts:
        words = read.keywords(start)
        one = _made(ascent, descent, words, form, ascents)
        if one is not None:
            made.append((one, start))
    return made


def _made(ascent: Ascent, descent: Descent, words: dict[str, Any], form: Tensors, ascents: int) -> Method | None:
    kind, own = ascent.kind, dict(ascent.numbers)
    if ascent.mask is not None:
        own["mask"] = _mask(ascent.mask, form)
    if ascents > 1:
        own["ascents"] = ascents
    name, own = ("GD", {}) if kind == "none" else _family(kind, own, ascent, descent, words)
    if name is None:
        return None
    try:
        one = getattr(methods, name)(**words, **own)
    except (TypeError, ValueError, AttributeError):  # a number out of the method's range
        return None
    if not ascent.changes or kind == "none":
        return one
    if ascent.along != "gradient":  # the radius of the first step was not seen
        return None
    return Scheduled(one, rho=table(np.array(ascent.radii) / ascent.numbers["rho"]))


def _family(kind: str, own: dict, ascent: Ascent, descent: Descent, words: dict) -> tuple[str | None, dict]:
    """The class, for an ascent and what is followed after it."""
    if kind == "unknown":
        return None, own
    if ascent.along in ("stale", "move") and kind == "SAM":
        return ("LaggedSAM" if ascent.along == "stale" else "MSAM"), own
    if ascent.along != "gradient":
        return None, own
    perp, before = descent.whole("perp"), descent.whole("g0") if descent.followed != "g0" else 0.0
    if perp:
        return (
            ("GSAM", own | {"alpha": short(-perp / descent.whole(descent.followed), 1e-7)})
            if kind == "SAM"
            else (None, own)
        )
    if before:
        both = before + descent.whole(descent.followed)
        share = descent.whole(descent.followed) / both
        if abs(share - 0.5) < 1e-6 and kind in ("SAM", "USAM"):
            # ∇ℓ(θ) + ∇ℓ(θ + e) is 2 ∇ℓ(θ + e/2) where the Hessian is constant
            words["lr"], own["rho"] = 2 * words["lr"], own["rho"] / 2
            return kind, own
        return ("WSAM", _weighted(descent, own, words)) if kind == "SAM" else (None, own)
    return kind, own


def _weighted(descent: Descent, own: dict, words: dict[str, Any]) -> dict:
    """Arguments of WSAM, of which η S₀ and w come from how two gradients move the parameters; sets η in `words`."""
    last = descent.followed
    if descent.momentum and not descent.slow[last]:  # the momentum sees the gradient at θ alone
        rate, weight = descent.slow["g0"], descent.fast[last] / descent.slow["g0"]
        own = own | {"gamma": short(weight / (1 + weight), 1e-7)}
    else:
        rate = descent.whole("g0") + descent.whole(last)
        weight = descent.whole(last) / rate
        own = own | {"gamma": short(weight / (1 + weight), 1e-7)} | ({"decouple": False} if descent.momentum else {})
    for name in ("nesterov", "dampening", "start"):
        words.pop(name, None)
    if "weight_decay" in words:
        words["weight_decay"] = short(words["weight_decay"] * descent.whole(last) / rate, 1e-7)
    words["lr"] = short(rate, 1e-8)
    return own


def _mask(weights: tuple[float, ...], form: Tensors) -> Vector:
    whole = set(weights) <= {0.0, 1.0}
    leaves = [
        bool(weight) if whole else jnp.full(shape, weight) for weight, shape in zip(weights, form.shapes, strict=True)
    ]
    return Vector(leaves)


def scheduled(ascent: Ascent, descent: Descent, form: Tensors) -> list[tuple[Method, str]]:
    """A method whose step size follows a table, for numbers that change from step to step."""
    g = descent.followed
    rates = np.array([0.0 if one.is_zero(g) else -one[g] for one in descent.fits])
    if not rates[0] > 0 or (rates < 0).any() or (descent.momentum and not rates.all()):
        return []
    momenta = np.array([one["was"] for one in descent.fits[2:]])
    base, units = float(rates[0]), "displacement"
    if descent.momentum:
        kept = momenta / (rates[2:] / rates[1:-1])
        units = "gradient" if not constant(momenta, 1e-6) and constant(kept, 1e-6) else "displacement"
        momenta = kept if units == "gradient" else momenta
        if not constant(momenta, 1e-6):
            return []
    if any(abs(one[f"{g}'"]) > 1e-6 * base for one in descent.fits[2:]):
        return []
    decays = np.array([-one["x"] / rate for one, rate in zip(descent.fits, rates, strict=True) if rate])
    if not constant(decays, 1e-6) and np.abs(decays).max() > 1e-8:
        return []
    words: dict[str, Any] = {"lr": short(base, 1e-7)}
    if descent.momentum:
        words["momentum"] = short(float(np.median(momenta)), 1e-8)
        words |= {"units": "gradient"} if units == "gradient" else {}
    if np.abs(decays).max() > 1e-8:
        words["weight_decay"] = short(float(np.median(decays)), 1e-7)
    one = _made(ascent, descent, words, form, 1)
    if one is None:
        return []
    inner, others = (one.method, one.schedules) if isinstance(one, Scheduled) else (one, {})
    return [(Scheduled(inner, table(rates / base), **others), "table")]


def table(factors: np.ndarray) -> Any:
    """A schedule that was seen: the factor of each step; the last one for all that come after."""
    return jax.tree_util.Partial(_looked_up, precision.on_device(factors))


def _looked_up(factors: jax.Array, count: jax.Array) -> jax.Array:
    return factors[jnp.minimum(count, len(factors) - 1)]
