"""Circles and spheres: constraints whose moves have a closed form."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.core.algebra import Vector
from flatdyn.methods.constraints.base import Constraint


class Circle(Constraint):
    """A circle for each weight, with a slack variable s, which bounds the weights.

        θ² + s² = r²

    A(t) is the rotation by the angle ω t, ω = (s p_θ − θ p_s)/r², of both variables at once, and so always exists:

        θ⁺ = θ cos ωt + s sin ωt,   s⁺ = s cos ωt − θ sin ωt,   p_θ = ω s⁺,   p_s = −ω θ⁺

    (The paper writes ξ for the slack variable s; here ξ is the sample of a minibatch.)

    The measure that is sampled is that of the arc length: a weight that feels no loss has the arcsine law on (−r, r).

    Args:
        radius: r > 0
    Raises:
        ValueError: if the radius is not positive, or its square no number in the session's precision
    """

    radius: Any = eqx.field(converter=checks.plain)
    elementwise = True
    copies = 2

    def __check_init__(self):
        checks.squarable("radius", checks.number("radius", self.radius, above=0, one=True))

    def lift(self, array, slack=None):
        if slack is None:
            slack = jnp.sqrt(jnp.maximum(self.radius**2 - array**2, 0))
        return Vector((array, slack))

    def lower(self, x, shape):
        return x.tree[0]

    def slack(self, x):
        return x.tree[1]

    def vector(self, *parts):
        return Vector(parts if len(parts) == 2 else (parts[0], jnp.zeros_like(parts[0])))

    def thermal(self, x, normal):
        return self._turning(x, normal / self.radius)

    def tangent(self, x, p):
        (theta, slack), (p_theta, p_slack) = x.tree, p.tree
        return self._turning(x, (slack * p_theta - theta * p_slack) / self.radius**2)

    def drift(self, x, p, time):
        (theta, slack), (p_theta, p_slack) = x.tree, p.tree
        speed = (slack * p_theta - theta * p_slack) / self.radius**2
        cos, sin = jnp.cos(time * speed), jnp.sin(time * speed)
        moved = self._polished(Vector((theta * cos + slack * sin, slack * cos - theta * sin)))
        return moved, self._turning(moved, speed), True

    def shake(self, x, d):
        inside = 1 - self._squared(d)
        moved = x.map(lambda own, by: jnp.sqrt(jnp.maximum(inside, 0)) * own + by, d)
        return self._polished(moved), (inside >= 0).all()

    def nearest(self, x):
        square = self._squared(x)
        return x.map(lambda own: own / jnp.sqrt(square)), (square > 0).all()

    def residual(self, x):
        return jnp.max(self.radius * jnp.abs(jnp.sqrt(self._squared(x)) - 1))

    def gap(self, array):
        return jnp.max(jnp.maximum(jnp.abs(array) - self.radius, 0))

    def feasible(self, array):
        return jnp.clip(array, -self.radius, self.radius)

    def _turning(self, x: Vector, speed: jax.Array) -> Vector:
        theta, slack = x.tree
        return Vector((speed * slack, -speed * theta))

    def _squared(self, x: Vector) -> jax.Array:
        theta, slack = x.tree
        return (theta**2 + slack**2) / self.radius**2

    def _polished(self, x: Vector) -> Vector:
        """One Newton step back to the circle, so that rounding errors do not add up."""
        scale = (3 - self._squared(x)) / 2
        return x.map(lambda own: scale * own)


class Sphere(Constraint):
    """All coordinates together on a sphere.

        ‖θ‖ = r

    A(t) is RATTLE in closed form, x⁺ = √(1 − a²) x + t p with a = t ‖p‖/r; the multiplier exists while a ≤ 1.

    Args:
        radius: r > 0
    Raises:
        ValueError: if the radius is not positive, or its square no number in the session's precision
    """

    radius: Any = eqx.field(converter=checks.plain)

    def __check_init__(self):
        checks.squarable("radius", checks.number("radius", self.radius, above=0, one=True))

    def check(self, shape):
        if np.prod(shape) < 2:
            raise ValueError(
                f"a sphere needs at least 2 coordinates, got shape {tuple(shape)}: in one it is two points"
            )

    def tangent(self, x, p):
        return p - (x @ p) / (x @ x) * x

    def shake(self, x, d):
        inside = 1 - (d @ d) / self.radius**2
        moved = jnp.sqrt(jnp.maximum(inside, 0)) * x + d
        return (3 - (moved @ moved) / self.radius**2) / 2 * moved, inside >= 0

    def nearest(self, x):
        length = jnp.sqrt(x @ x)
        return x * (self.radius / length), length > 0

    def residual(self, x):
        return jnp.abs(jnp.sqrt(x @ x) - self.radius)
