"""Optimisers from elsewhere as methods: any optax transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks
from flatdyn.methods.base import FirstOrder, Method


class OptaxState(eqx.Module):
    """State of :class:`FromOptax`: parameters and what the optax optimiser keeps."""

    theta: Any
    inner: Any


class FromOptax(Method):
    """Any optax optimiser: θ⁺ = θ + u, with u and the optimiser's own state from `transformation.update`."""

    transformation: Any
    follows: FirstOrder | None = None

    @property
    def jumps(self):
        return self.follows is not None and self.follows.jumps

    @property
    def may_jump(self):
        return self.follows is not None and self.follows.may_jump

    @property
    def jumps_on_surfaces(self):
        return self.follows is not None and self.follows.jumps_on_surfaces

    def check(self, theta):
        if self.follows is not None:
            self.follows.check(theta)

    def init(self, theta):
        return OptaxState(theta, self.transformation.init(theta))

    def step(self, grad: Callable, state: OptaxState) -> OptaxState:
        followed = grad(state.theta) if self.follows is None else self.follows.gradient(grad, state.theta)
        updates, inner = self.transformation.update(followed, state.inner, state.theta)
        return OptaxState(state.theta + updates, inner)

    def seasoned(self, state: OptaxState) -> OptaxState:
        """The same state with the optimiser's step counters at a million, past bias corrections and warm-ups.

        A counter is a whole number that a thousand steps without gradient raise by a thousand; others stay.
        """
        nothing = jax.tree.map(jnp.zeros_like, state.theta)

        def idle(_, inner):
            return self.transformation.update(nothing, inner, state.theta)[1]

        later = jax.jit(lambda inner: jax.lax.fori_loop(0, 1000, idle, inner))(state.inner)

        def counted(before, after):
            whole = eqx.is_array(before) and jnp.issubdtype(before.dtype, jnp.integer) and before.ndim == 0
            return before + 10**6 if whole and int(after) - int(before) == 1000 else before

        return OptaxState(state.theta, jax.tree.map(counted, state.inner, later))


def from_optax(transformation: Any, follows: FirstOrder | None = None) -> FromOptax:
    """Make a method of any `optax.GradientTransformation`, such as `optax.adam(1e-2)`, schedules included.

        θ⁺ = θ + u(g),   g = ∇ℓ(θ; ξ), or the gradient that `follows` takes

    Args:
        transformation: what turns gradients into steps
        follows: a method whose gradient is followed, such as `SAM(lr, rho)`: Adam on SAM's gradient. Its own step,
            lr and momentum play no part.
    Raises:
        ValueError: if `transformation` has no `init` and `update`
        TypeError: if `follows` is not a method that follows one gradient
    """
    if isinstance(transformation, type) or not (hasattr(transformation, "init") and hasattr(transformation, "update")):
        raise ValueError(
            f"transformation: from_optax needs an optax.GradientTransformation, got {checks.shown(transformation)}"
        )
    if follows is not None and not isinstance(follows, FirstOrder):
        raise TypeError(f"follows must be a method that follows one gradient (GD, SAM, USAM, ASAM), got {follows!r}")
    return FromOptax(transformation, follows)
