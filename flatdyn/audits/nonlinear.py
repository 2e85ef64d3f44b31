"""Steps that are no linear rule in the gradient: clipped, normalised, by signs, adaptive.

d = −η g min(1, c/‖g‖)     clipped        d = −η g/‖g‖     normalised        dᵢ = −η sign(gᵢ)     by signs
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from flatdyn.audits.descents import rows
from flatdyn.audits.fits import constant, fit, short
from flatdyn.audits.runs import Recording


@dataclasses.dataclass(frozen=True)
class NonlinearRule:
    """A step that is not linear.

    Attributes:
        kind: what it is called
        fault: the word for it, or None
        lr: η
        numbers: others by name
    """

    kind: str
    fault: str | None
    lr: float
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)

    def method(self, follows: Any) -> Any:
        """The flatdyn method, or None without optax."""
        try:
            optax = importlib.import_module("optax")
        except ImportError:
            return None
        from_optax = importlib.import_module("flatdyn.methods").from_optax
        lr, own = self.lr, self.numbers
        momentum = own.get("momentum") or None
        base = optax.sgd(lr, momentum)
        made = {
            "clipped": lambda: optax.chain(optax.clip_by_global_norm(own["most"]), base),
            "clipped by coordinate": lambda: optax.chain(optax.clip(own["most"]), base),
            "normalised": lambda: optax.chain(optax.normalize_by_update_norm(eps=own.get("eps", 0.0)), base),
            "signs": lambda: optax.chain(optax.scale_by_sign(), base),
            "Adam": lambda: _adam(optax, lr, own),
            "RMSprop": lambda: _rmsprop(optax, lr, own),
            "Lion": lambda: optax.lion(lr, own["b1"], own["b2"], weight_decay=own.get("weight_decay", 0.0)),
        }
        return from_optax(made[self.kind](), follows)

    def __str__(self) -> str:
        words = {name: value for name, value in self.numbers.items() if value}
        return f"{self.kind}({', '.join(f'{k}={v:.6g}' for k, v in ({'lr': self.lr} | words).items())})"


def _adam(optax: Any, lr: float, own: dict) -> Any:
    words = {name: own[name] for name in ("b1", "b2", "eps")}
    if own.get("coupled_decay"):
        return optax.chain(optax.add_decayed_weights(own["coupled_decay"]), optax.adam(lr, **words))
    if own.get("weight_decay"):
        return optax.adamw(lr, **words, weight_decay=own["weight_decay"])
    return optax.adam(lr, **words)


def _rmsprop(optax: Any, lr: float, own: dict) -> Any:
    inside = bool(own.get("eps_in_sqrt"))
    return optax.chain(
        optax.scale_by_rms(decay=own["b2"], eps=own["eps"], eps_in_sqrt=inside),
        optax.scale(-lr),
    )


def rule(runs: list[Recording], enough: float) -> NonlinearRule | None:
    """The rule of several runs, or None."""
    used = [row for run in runs for row in rows(run) if row.calls]
    pairs = [(row, row.features[f"g{row.calls - 1}"], row.move) for row in used]
    pairs = [(row, g, d) for row, g, d in pairs if g.any()]
    if not pairs:
        return None
    return _signs(pairs) or _shortened(pairs, enough) or _with_momentum(pairs, enough) or _by_coordinate(pairs, enough)


def _signs(pairs: list) -> NonlinearRule | None:
    sizes = np.abs(np.concatenate([d for _, _, d in pairs]))
    if not constant(sizes, 1e-6) or not sizes.max():
        return None
    if all((np.sign(d) == -np.sign(g)).all() for _, g, d in pairs):
        return NonlinearRule("signs", "sign step", short(float(np.median(sizes)), 1e-8))
    return None


def _shortened(pairs: list, enough: float) -> NonlinearRule | None:
    """A multiple of the gradient, by a factor of its length alone."""
    if any(np.linalg.norm(d + g * (-(d @ g) / (g @ g))) > 1e-7 * np.linalg.norm(d) for _, g, d in pairs):
        return None
    norms = np.array([np.linalg.norm(g) for _, g, _ in pairs])
    return _by_length(norms, np.array([-(d @ g) / (g @ g) for _, g, d in pairs]), {}, enough)


def _by_length(norms: np.ndarray, s: np.ndarray, own: dict, enough: float) -> NonlinearRule | None:
    share = max(enough, 1e-7)
    if (s <= 0).any() or constant(s, share):
        return None
    if constant(s * norms, share):
        return NonlinearRule("normalised", "normalised step", short(float(np.median(s * norms)), 1e-8), own)
    line = fit({"norm": np.ones_like(norms), "one": 1 / norms}, 1 / (s * norms))  # (‖g‖ + ε)/η over ‖g‖
    if line.left <= share and line["one"] > 0:
        lr = 1 / line["norm"]
        eps = short(line["one"] * lr, 1e-3)
        return NonlinearRule("normalised", "normalised step", short(lr, 1e-7), own | {"eps": eps})
    lr = s.max()
    short_ones, long_ones = s >= lr * (1 - share), s < lr * (1 - share)
    if constant(s[long_ones] * norms[long_ones], share):
        most = float(np.median(s[long_ones] * norms[long_ones])) / lr
        if norms[short_ones].max() <= most * (1 + 1e-6):
            return NonlinearRule(
                "clipped", "clipped gradient", short(float(lr), 1e-8), own | {"most": short(most, 1e-5)}
            )
    return None


def _with_momentum(pairs: list, enough: float) -> NonlinearRule | None:
    """The same through a heavy ball: d = μ d₋₁ − s g."""
    momenta, norms, s = [], [], []
    for row, g, d in pairs:
        if row.before is None:
            continue
        matrix = np.stack([row.before.move, g], axis=1)
        solved, *_ = np.linalg.lstsq(matrix / np.linalg.norm(matrix, axis=0), d, rcond=None)
        solved = solved / np.linalg.norm(matrix, axis=0)
        if np.linalg.norm(matrix @ solved - d) > 1e-7 * np.linalg.norm(d):
            return None
        momenta.append(solved[0])
        norms.append(np.linalg.norm(g))
        s.append(-solved[1])
    if not momenta or not constant(np.array(momenta), 1e-5):
        return None
    return _by_length(np.array(norms), np.array(s), {"momentum": short(float(np.median(momenta)), 1e-7)}, enough)


def _by_coordinate(pairs: list, enough: float) -> NonlinearRule | None:
    g, d = (np.concatenate(parts) for parts in zip(*[(g, d) for _, g, d in pairs], strict=True))
    s = -d / np.where(g == 0, 1, g)
    share = max(enough, 1e-7)
    if (s <= 0).any() or constant(s, share):
        return None
    lr = s.max()
    long_ones = s < lr * (1 - share)
    if not constant(np.abs(d[long_ones]), share):
        return None
    most = float(np.median(np.abs(d[long_ones]))) / lr
    if np.abs(g[~long_ones]).max() > most * (1 + 1e-6):
        return None
    return NonlinearRule(
        "clipped by coordinate", "clipped gradient", short(float(lr), 1e-8), {"most": short(most, 1e-6)}
    )


# --- adaptive steps -------------------------------------------------------------------------------------------


def _followed(run: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    made = rows(run)
    gradients = np.array([row.features[f"g{row.calls - 1}"] for row in made])
    return gradients, run.positions[: len(made)], run.moves[: len(made)]


def _moments(values: np.ndarray, share: float, corrected: bool) -> np.ndarray:
    kept, made = np.zeros_like(values[0]), []
    for k, value in enumerate(values):
        kept = (1 - share) * kept + share * value
        made.append(kept / (1 - (1 - share) ** (k + 1)) if corrected else kept)
    return np.array(made)


def adam_moves(numbers: np.ndarray, gradients: np.ndarray, thetas: np.ndarray, kind: str, decay: str) -> np.ndarray:
    """Moves of Adam or RMSprop for given gradients; numbers are logarithms of η, 1 − b1, 1 − b2, ε, λ."""
    lr, own1, own2, eps, weight = np.exp(numbers)
    g = gradients + (weight * thetas if decay == "coupled" else 0)
    first = _moments(g, own1, True) if kind == "Adam" else g
    second = _moments(g**2, own2, kind == "Adam")
    inside = kind == "RMSprop in root"
    down = np.sqrt(second + eps) if inside else np.sqrt(second) + eps
    return -lr * first / down - (lr * weight * thetas if decay == "decoupled" else 0)


def adaptive(runs: list[Recording]) -> NonlinearRule | None:
    """Adam, AdamW or RMSprop, by least squares over the moves."""
    # Every coordinate obeys the rule by itself, so a few of them say it
    data = [tuple(part[:, :5] for part in _followed(run)) for run in runs if all(run.calls)]
    if not data:
        return None
    sizes = [np.abs(moves).max() or 1.0 for *_, moves in data]
    start_lr = float(np.median([np.abs(moves[0]) for *_, moves in data]))
    if not start_lr:
        return None
    for kind in ("Adam", "RMSprop", "RMSprop in root"):
        for decay in ("none", "decoupled", "coupled"):
            one = _best(data, sizes, start_lr, kind, decay)
            if one is not None:
                return one
    return None


def _best(data: list, sizes: list, start_lr: float, kind: str, decay: str) -> NonlinearRule | None:
    def off(free: np.ndarray) -> np.ndarray:
        numbers = np.concatenate([free[:4], free[4:] if decay != "none" else [-700.0]])
        with np.errstate(all="ignore"):
            made = [adam_moves(numbers, g, x, kind, decay) - moves for g, x, moves in data]
        return np.nan_to_num(
            np.concatenate([(one / size).ravel() for one, size in zip(made, sizes, strict=True)]), nan=1e3, posinf=1e3
        )

    best = None
    for b2 in (0.999, 0.9):
        lr = start_lr if kind == "Adam" else start_lr * np.sqrt(1 - b2)
        start = [np.log(lr), np.log(0.1), np.log(1 - b2), np.log(1e-8)] + ([np.log(1e-2)] if decay != "none" else [])
        with np.errstate(all="ignore"):
            one = least_squares(off, start, x_scale=1.0, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=40)
        best = one if best is None or one.cost < best.cost else best
        if best.cost < 1e-16:
            break
    if np.abs(best.fun).max() > 1e-6 or best.x.max() > 100:  # whose exponential may overflow
        return None
    lr, own1, own2, eps = np.exp(best.x[:4])
    if own2 < 1e-7 or eps > 1e6:  # with these it is no adaptive step at all
        return None
    own = {"b1": 1 - short(float(own1), 1e-5)} if kind == "Adam" else {}
    own |= {"b2": 1 - short(float(own2), 1e-5), "eps": short(float(eps), 3e-2)}
    own = {name: short(value, 1e-10) for name, value in own.items()}
    own |= {"eps_in_sqrt": 1.0} if kind == "RMSprop in root" else {}
    weight = short(float(np.exp(best.x[4])), 1e-4) if decay != "none" else 0.0
    own |= {"coupled_decay" if decay == "coupled" else "weight_decay": weight} if weight else {}
    return NonlinearRule(kind.split()[0], None, short(float(lr), 1e-7), own)


def lion(runs: list[Recording]) -> NonlinearRule | None:
    """Lion with its usual numbers, or the sign of a momentum: only inequalities say which numbers they are."""
    data = [_followed(run) for run in runs if all(run.calls)]
    for b1, b2 in ((0.9, 0.99), (0.95, 0.98), (0.9, 0.9), (0.0, 0.9)):
        rates, ok = [], True
        for gradients, thetas, moves in data:
            kept = np.zeros_like(gradients[0])
            for g, x, d in zip(gradients, thetas, moves, strict=True):
                signs = np.sign(b1 * kept + (1 - b1) * g)
                kept = b2 * kept + (1 - b2) * g
                matrix = np.stack([-signs, -x], axis=1)
                solved, *_ = np.linalg.lstsq(matrix, d, rcond=None)
                ok = ok and np.abs(matrix @ solved - d).max() <= 1e-7 * np.abs(d).max()
                rates.append(solved)
        rates = np.array(rates)
        if ok and constant(rates[:, 0], 1e-6) and rates[0, 0] > 0:
            lr = float(np.median(rates[:, 0]))
            weight = float(np.median(rates[:, 1])) / lr
            own = {"b1": b1, "b2": b2} | ({"weight_decay": short(weight, 1e-5)} if weight > 1e-9 else {})
            return NonlinearRule("Lion", "sign step", short(lr, 1e-7), own)
    return None
