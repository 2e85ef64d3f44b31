"""A method that starts with a velocity of your own."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy
from jax.flatten_util import ravel_pytree

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, is_coordinates
from flatdyn.methods.base import Method, Wrapper


class Started(Wrapper):
    """A method whose velocity, or momentum, is not zero at the start.

        v₀ = velocity,   θ₀ as a run is given it

    in the method's own units: of θ for a heavy ball, which starts with the move v₀ = −η b₀ behind it; of ∇L if its
    `units` are "gradient"; of θ per time for Langevin methods. All runs start with the same.

    Args:
        method: has a velocity (GD, SAM, … with momentum) or momenta (Langevin)
        velocity: v₀, shape (dim,), or a tree like the parameters
    Raises:
        TypeError: if `method` is not a method
        ValueError: if the method has no velocity, starts in a way of its own (`start`, a constraint), or v₀ is unlike θ
    """

    velocity: Any

    def __init__(self, method: Method, velocity: Any):
        self.method = method
        numbers = int | float | np.generic | jax.Array
        row = isinstance(velocity, list | tuple) and all(
            isinstance(one, numbers) and np.ndim(one) == 0 for one in velocity
        )
        self.velocity = jnp.asarray(checks.reals("velocity", velocity)) if row else velocity

    def __check_init__(self):
        checks.kind("method", self.method, Method)
        for leaf in jax.tree.leaves(self.velocity):
            checks.reals("velocity", leaf)
        if getattr(self.method, "start", "rest") != "rest" or not self.method.starts_anywhere:
            raise ValueError(f"Started needs a method that starts at rest, got {self.method!r}")

    def init(self, theta):
        state = self.method.init(theta)
        name = next((name for name in ("velocity", "momentum") if getattr(state, name, None) is not None), None)
        if name is None:
            raise ValueError(f"Started needs a method with momentum, got {self.method!r}: it has no velocity")
        if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(theta)):
            return state  # symbols stand for any velocity
        velocity = _like(self.velocity, theta)
        return eqx.tree_at(lambda state: getattr(state, name), state, velocity)

    def check(self, theta):
        super().check(theta)
        jax.eval_shape(self.init, theta)

    def step(self, grad, state, *normals):
        return self.method.step(grad, state, *normals)

    def seasoned(self, state):
        return self.method.seasoned(state)

    def possible(self, state):
        return self.method.possible(state)


def _like(velocity: Any, theta: Any) -> Any:
    """A velocity in the form of the vector θ, and of its type."""
    if not isinstance(theta, Vector):
        return jnp.broadcast_to(jnp.asarray(velocity, theta.dtype), theta.shape)
    if is_coordinates(theta.tree):
        if getattr(velocity, "shape", None) != (len(theta.tree),):
            dim = len(theta.tree)
            raise ValueError(
                f"velocity must have one number per coordinate, {dim} in all, got {checks.shown(velocity)}"
            )
        pairs = zip(velocity, theta.tree, strict=True)
        return Vector(tuple(jnp.asarray(value, jnp.result_type(x)) for value, x in pairs))
    if jax.tree.structure(velocity) == jax.tree.structure(theta.tree):
        pairs = zip(jax.tree.leaves(velocity), jax.tree.leaves(theta.tree), strict=True)
        if all(np.shape(own) == np.shape(leaf) for own, leaf in pairs):
            return Vector(jax.tree.map(lambda own, leaf: jnp.asarray(own, leaf.dtype), velocity, theta.tree))
    flat, back = ravel_pytree(theta)
    if getattr(velocity, "shape", None) != flat.shape:
        raise ValueError(f"velocity must be a tree like the parameters, or a row of {len(flat)} numbers")
    return back(jnp.asarray(velocity, flat.dtype))
