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

    The velocity of a heavy ball is a displacement here, v⁺ = μ v − ηₖ g: a smaller step size acts on new gradients
    and leaves what was gathered before.

    Args:
        method: has a step size, lr (η)
        factor: f, from the number of steps taken to a number: :class:`Cosine`, or any JAX function, such as a schedule
            of optax that begins with 1
    Raises:
        TypeError: if `method` has no lr, or `factor` is not a function
    """

    factor: Callable

    def __check_init__(self):
        if not hasattr(self.method, "lr"):
            raise TypeError(f"Scheduled needs a method with a step size lr of its own, got {self.method!r}")
        factor = checks.traced(
            "factor", self.factor, jax.ShapeDtypeStruct((), jnp.int32), what="a function of the number of steps taken"
        )
        if (
            jax.tree.structure(factor) != jax.tree.structure(0)
            or jnp.shape(factor)
            or not jnp.issubdtype(jnp.result_type(factor), jnp.floating)
        ):
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
    """From 1 to 0 along half a cosine, and 0 from then on.

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
