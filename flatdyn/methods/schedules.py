"""Step sizes that change as training goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import sympy

from flatdyn.core import checks
from flatdyn.methods.base import Wrapper, hyperparameter


class ScheduledState(eqx.Module):
    """State of :class:`Scheduled`.

    Attributes:
        inner: the state of the method
        count: how many steps were taken
    """

    inner: Any
    count: jax.Array

    @property
    def theta(self):
        """Parameters θ, those of the method."""
        return self.inner.theta


class Scheduled(Wrapper):
    """A method whose step size changes from step to step.

        step k = 0, 1, …  is taken with  ηₖ = η f(k)

    f is a factor, as in optax.scale_by_schedule, so any schedule of optax is taken as it is. One that gives step sizes
    themselves goes with lr = 1:

        Scheduled(SAM(0.1, rho), optax.cosine_decay_schedule(1.0, 500))                               from 0.1 to 0
        Scheduled(SAM(1.0, rho), optax.warmup_cosine_decay_schedule(0.0, 0.1, 50, 500))      from 0 to 0.1, and to 0

    The velocity of a heavy ball is a displacement here, v⁺ = μ v − ηₖ g: a smaller step size acts on new gradients
    and leaves what was gathered before.

    Args:
        method: has a step size, lr (η)
        factor: f, from the number of steps taken to a number: a schedule of optax, or any JAX function. Processes that
            share one schedule share a compiled program; a schedule that is made anew is compiled anew, but for numbers
            of a `jax.tree_util.Partial(f, numbers)`
    Raises:
        TypeError: if `method` has no lr, or `factor` is not a function
        ValueError: if `factor` does not return one real number
    """

    factor: Callable

    def __check_init__(self):
        if not hasattr(self.method, "lr"):
            raise TypeError(f"Scheduled needs a method with a step size lr of its own, got {self.method!r}")
        factor = checks.traced(
            "factor", self.factor, jax.ShapeDtypeStruct((), jnp.int32), what="a function of the number of steps taken"
        )
        one = jax.tree.structure(factor) == jax.tree.structure(0) and not jnp.shape(factor)
        if not one or not any(jnp.issubdtype(factor.dtype, kind) for kind in (jnp.floating, jnp.integer)):
            raise ValueError(f"factor must return one real number, got {factor}")

    def init(self, theta):
        if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(theta)):
            raise TypeError("the step size changes from step to step")
        return ScheduledState(self.method.init(theta), jnp.asarray(0))

    def step(self, grad, state, *normals):
        lr = self.method.lr * self.factor(state.count)
        now = eqx.tree_at(lambda method: method.lr, self.method, lr)
        return ScheduledState(now.step(grad, state.inner, *normals), state.count + 1)


class Cosine(eqx.Module):
    """The old name of `optax.cosine_decay_schedule(1.0, steps)`, for one release: from 1 to 0 along half a cosine.

        f(k) = ½ (1 + cos(π min(k/n, 1)))

    Args:
        steps: n > 0
    Raises:
        ValueError: if `steps` is not above zero
    References:
        Loshchilov and Hutter, arXiv 1608.03983, eq. 5, without restarts.
    """

    steps: Any = hyperparameter()

    def __check_init__(self):
        checks.number("steps", self.steps, above=0, one=True)

    def __call__(self, count: jax.Array) -> jax.Array:
        return (1 + jnp.cos(jnp.pi * jnp.minimum(count / jnp.asarray(self.steps), 1))) / 2
