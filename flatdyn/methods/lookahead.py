"""Lookahead: a method's iterates are pulled back towards where they were some steps ago."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks
from flatdyn.methods.averaging import Averaged
from flatdyn.methods.base import Method, Wrapper, hyperparameter
from flatdyn.methods.remembering import chosen, is_symbolic

_LONGEST = 1_000_000
MEMORIES = ("keep", "reset", "pull")


class LookaheadState(eqx.Module):
    """State of :class:`Lookahead`.

    Attributes:
        inner: the state of the method, whose θ is the fast iterate
        slow: the slow iterate
        count: steps since the last pull; below zero, minus the steps until the slow iterate is set
        held: the method's state after the last pull, where its memory is pulled too; else None
    """

    inner: Any
    slow: Any
    count: Any
    held: Any = None

    @property
    def theta(self):
        """Parameters θ, those of the method: the fast iterate."""
        return self.inner.theta


class Lookahead(Wrapper):
    """k steps of a method, then a pull back towards the point where they began.

        after every k steps:   φ ← φ + α (θ − φ),   θ ← φ

    with θ the fast iterate, at which gradients are taken and where a run says that it is, and φ the slow one, which
    `observe=lambda state: landscape.array(state.slow)` of :func:`flatdyn.simulate` keeps. α = 1 is the method.

    On a quadratic a direction in which the method has the multiplier z has 1 − α + α zᵏ, for k steps together; the map
    repeats itself only after k steps, and `stability.multipliers` are those of k. Where the method leaves a saddle, so
    does this.

    Packages differ in when φ is first set, `start`, and so in which steps pull:

        start=0    φ₀ = θ₀, pulls after steps k, 2k, …           optax, pytorch_optimizer
        start=1    φ = θ after step 1, pulls after k + 1, …      torch_optimizer
        start=k    φ = θ after step k, pulls after 2k, …         timm

    Args:
        method: whose iterates are pulled
        k: steps from one pull to the next, at least 1
        alpha: α in [0, 1]
        memory: what a pull does to the rest of the method's state, such as a velocity: "keep" it; "reset" it to that
            of a start there (optax's reset_state); "pull" it back in the same way, the slow one being at rest at first
        start: s ≥ 0, the step after which the slow iterate is set
    Raises:
        ValueError: if a number is out of range, a word is unknown, or the method is an average or held by a constraint
        TypeError: if `method` is not a method
    References:
        Zhang, Lucas, Hinton, Ba, arXiv 1907.08610, Algorithm 1.
    """

    k: int = eqx.field(static=True, converter=checks.whole, default=5)
    alpha: Any = hyperparameter(default=0.5)
    memory: str = eqx.field(static=True, kw_only=True, default="keep")
    start: int = eqx.field(static=True, kw_only=True, converter=checks.whole, default=0)

    def __check_init__(self):
        checks.kind("method", self.method, Method)
        checks.count("k", self.k, at_least=1, at_most=_LONGEST)
        checks.number("alpha", self.alpha, at_least=0, at_most=1)
        checks.choice("memory", self.memory, MEMORIES)
        checks.count("start", self.start, at_most=_LONGEST)
        if isinstance(self.method, Averaged):
            raise ValueError(
                "an average inside Lookahead would be pulled, not its iterates: use Averaged(Lookahead(...))"
            )
        if not self.method.starts_anywhere:
            raise ValueError(f"a pull leaves the constraint of {self.method!r}: Lookahead needs a method without one")

    remembers = True

    @property
    def period(self):
        return math.lcm(self.k, self.method.period)

    def init(self, theta):
        inner = self.method.init(theta)
        held = inner if self.memory == "pull" else None
        return LookaheadState(inner, theta, 0 if is_symbolic(theta) else jnp.asarray(-self.start), held)

    def seasoned(self, state):
        return dataclasses.replace(super().seasoned(state), count=0 * state.count)

    def step(self, grad, state, *normals):
        inner = self.method.step(grad, state.inner, *normals)
        count = state.count + 1
        pulls, sets = count == self.k, count == 0
        theta = chosen(pulls, state.slow + self.alpha * (inner.theta - state.slow), inner.theta)
        moved, held = _at(inner, theta), state.held
        if self.memory == "reset":
            moved = chosen(pulls, self.method.init(theta), moved)
        elif self.memory == "pull":
            pulled = jax.tree.map(self._pulled, held, inner)
            moved = _at(chosen(pulls, pulled, inner), theta)
            held = chosen(pulls | sets, moved, held)
        return LookaheadState(moved, chosen(pulls | sets, theta, state.slow), chosen(pulls, 0 * count, count), held)

    def _pulled(self, slow: Any, fast: Any) -> Any:
        """A number of the method's memory, pulled back; counters stay."""
        whole = hasattr(fast, "dtype") and not jnp.issubdtype(fast.dtype, jnp.inexact)
        return fast if whole else slow + self.alpha * (fast - slow)


def _at(state: Any, theta: Any) -> Any:
    """A method's state with other parameters."""
    return eqx.tree_at(lambda s: s.theta, state, theta)
