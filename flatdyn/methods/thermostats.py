"""Thermostats: what the letter O of a Langevin splitting does to the momenta of one block of parameters.

Friction      p ← c p + √((1 − c²) τ) R,  c = e^{−γ t}:  friction and noise, exactly
NoseHoover    C(t/2) D(t/2) E(t) D(t/2) C(t/2):          a friction ζ that adapts itself, where
              C(t) p *= e^{−t ζ},  D(t) p += σ √t R,  E(t) ζ += t ε (p·p − N τ)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from flatdyn.core import checks
from flatdyn.core.algebra import exp, sqrt
from flatdyn.methods import masks
from flatdyn.methods.base import hyperparameter


class Friction(eqx.Module):
    """O(t): p ← c p + √((1 − c²) τ) R with c = e^{−γ t}, which leaves the normal law of variance τ as it is.

    Args:
        friction: γ ≥ 0 in inverse time: a number, or one per coordinate or leaf
        temperature: τ ≥ 0 in units of the loss, likewise
    """

    friction: Any = hyperparameter()
    temperature: Any = hyperparameter()
    draws = 1

    def __check_init__(self):
        check_positive("friction", self.friction)
        check_positive("temperature", self.temperature)

    def check(self, theta):
        check_form("friction", self.friction, theta)
        check_form("temperature", self.temperature, theta)

    def init(self, theta, mask):
        return None

    def act(self, momentum, time, zeta, mask, noise):
        """The momentum after O(time), and the thermostat's own state."""
        decay = exp(-time * spread_over(self.friction, momentum))
        return decay * momentum + sqrt((1 - decay * decay) * spread_over(self.temperature, momentum)) * noise, zeta


class NoseHoover(eqx.Module):
    """C D E D C: a friction ζ that grows while the kinetic energy is too high, and so absorbs unknown gradient noise.

    Scaling of the text: C(t) p *= e^{−t ε ζ}, so that ζ ~ N(σ²/(2 ε τ), τ). Scaling of the released code: C(t)
    p *= e^{−t ζ}, so that ζ ~ N(σ²/(2τ), ε τ). The one is the other with ζ_code = ε ζ_text and ε_code = ε_text².

    Args:
        temperature: τ ≥ 0
        sigma: σ ≥ 0, strength of the noise that is added
        coupling: ε > 0, how fast ζ adapts
        start: ζ at the start
        scaling: "text" or "code"
    """

    temperature: Any = hyperparameter()
    sigma: Any = hyperparameter()
    coupling: Any = hyperparameter()
    start: Any = hyperparameter(default=0.0)
    scaling: str = eqx.field(
        static=True, converter=lambda word: checks.choice("scaling", word, ("text", "code")), default="text"
    )
    draws = 2

    def __check_init__(self):
        checks.number("temperature", self.temperature, at_least=0)
        checks.number("sigma", self.sigma, at_least=0)
        checks.number("coupling", self.coupling, above=0)
        checks.number("start", self.start)

    def check(self, theta):
        """Accept any form of parameters: there is one thermostat."""
        for name in ("temperature", "sigma", "coupling", "start"):
            if np.shape(getattr(self, name, 0.0)) != ():
                raise ValueError(f"{name} must be one number, got {checks.shown(getattr(self, name))}")

    def init(self, theta, mask):
        return self.start + 0 * (theta @ theta)

    def act(self, momentum, time, zeta, mask, *noise):
        """The momentum after C D E D C, and ζ."""
        kick = self.sigma * sqrt(time / 2)
        momentum = self._damping(zeta, time / 2) * momentum + kick * noise[0]
        own, number = masks.masked(mask, momentum), masks.count(momentum, mask)
        zeta = zeta + time * self.coupling * (own @ own - number * self.temperature)
        return self._damping(zeta, time / 2) * (momentum + kick * noise[1]), zeta

    def _damping(self, zeta, time):
        """The factor of C(time)."""
        return exp(-time * (self.coupling * zeta if self.scaling == "text" else zeta))


# --- numbers that may differ between blocks ---------------------------------------------------------------------


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless a number, or each number of a tree, is finite and ≥ 0."""
    if not jax.tree.leaves(value):
        raise ValueError(f"{name} must be one number, or a tree of numbers, got {checks.shown(value)}")
    for entry in jax.tree.leaves(value):
        checks.number(name, entry, at_least=0)


def check_form(name: str, value: Any, theta: Any) -> None:
    """Raise ValueError if numbers do not fit the parameters θ, one for all or one for each coordinate or leaf."""
    if jax.tree.structure(value).num_leaves <= 1 and np.ndim(jax.tree.leaves(value)[0]) == 0:
        return
    try:
        matched = jax.tree.map(lambda leaf, own: np.shape(own) in ((), leaf.shape), theta, masks.match(value, theta))
        fits = not isinstance(value, Mapping) or isinstance(getattr(theta, "tree", theta), Mapping)
        fits = fits and all(jax.tree.leaves(matched))
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be one number, or one for each coordinate or leaf of the parameters, "
            f"got {checks.shown(value)}"
        )


def spread_over(value: Any, theta: Any) -> Any:
    """One number as it is; several in the form of θ."""
    leaves = jax.tree.leaves(value)
    return leaves[0] if len(leaves) == 1 and getattr(leaves[0], "ndim", 0) == 0 else masks.match(value, theta)
