"""Regions to leave: a ball, a box, a sublevel set, a half space. Each is a test θ -> bool and a score.

    inside ⟺ score(θ) ≤ 1

The score says how far a point has come on its way out; multilevel splitting needs it. Your own region is any JAX
function θ -> bool; with a `score` method it can be split too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn import checks
from flatdyn.landscapes import Landscape


class Region(eqx.Module):
    """A region of positions; its numbers are leaves, so a sweep over them needs no new program."""

    def score(self, theta: jax.Array) -> jax.Array:
        """How far out θ, shape (dim,), is: at most 1 inside, more than 1 outside."""
        raise NotImplementedError

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Whether θ is inside."""
        return self.score(checks.reals("theta", theta)) <= 1


class Ball(Region):
    """|θ − c| ≤ r.

    Args:
        center: c, shape (dim,)
        radius: r > 0, in units of θ
    Raises:
        ValueError: if the radius is not positive, or the center not finite
    """

    center: Any = eqx.field(converter=lambda value: checks.row("center", value))
    radius: Any = eqx.field(converter=checks.real)

    def __check_init__(self):
        checks.number("center", self.center)
        checks.number("radius", self.radius, above=0, one=True)

    def score(self, theta):
        square = sum((theta[i] - self.center[i]) ** 2 for i in range(theta.shape[0]))
        return square / self.radius**2


class Box(Region):
    """lowerᵢ ≤ θᵢ ≤ upperᵢ for all i.

    Args:
        sides: ((lower, upper), ...), one pair per coordinate; infinite ends are allowed
    Raises:
        ValueError: if a side is empty
    """

    sides: Any

    def __init__(self, sides: Any):
        self.sides = checks.entries("sides", sides, "pairs (lower, upper)")
        if self.sides.ndim != 2 or self.sides.shape[1] != 2 or not (self.sides[:, 0] < self.sides[:, 1]).all():
            raise ValueError(f"sides must be pairs (lower, upper) with lower < upper, got {checks.shown(sides)}")

    def score(self, theta):
        low, high = self.sides[:, 0], self.sides[:, 1]
        width = jnp.where(jnp.isfinite(high - low), (high - low) / 2, 1)
        return 1 + jnp.max(jnp.maximum(low - theta, theta - high) / width)


class Sublevel(Region):
    """L(θ) ≤ level.

    Args:
        landscape: L
        level: in units of the loss
    """

    landscape: Landscape
    level: Any = eqx.field(converter=checks.real)

    def __check_init__(self):
        checks.kind("landscape", self.landscape, Landscape)
        checks.number("level", self.level, one=True)

    def score(self, theta):
        return 1 + self.landscape.value(self.landscape.vector(theta)) - self.level


class HalfSpace(Region):
    """n · θ ≤ offset.

    Args:
        normal: n ≠ 0, shape (dim,)
        offset: in units of n · θ
    Raises:
        ValueError: if the normal vanishes
    """

    normal: Any = eqx.field(converter=lambda value: checks.row("normal", value))
    offset: Any = eqx.field(converter=checks.real, default=0.0)

    def __check_init__(self):
        checks.number("normal", self.normal)
        checks.number("offset", self.offset, one=True)
        if not isinstance(self.normal, jax.core.Tracer) and not np.any(self.normal):
            raise ValueError("normal must not be zero: it says which way is out")

    def score(self, theta):
        length = jnp.sqrt(jnp.sum(self.normal**2))
        return 1 + (sum(theta[i] * self.normal[i] for i in range(theta.shape[0])) - self.offset) / length


def check_inside(inside: Callable, starts: np.ndarray) -> Callable:
    """Return a region that holds all the starts, shape (runs, dim), else say which it does not, or what it is."""
    theta = jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)
    checks.traced("inside", inside, theta, what="a function from θ (dim,) to a boolean, or a region")
    distinct = np.unique(starts, axis=0)
    answers = np.asarray(jax.vmap(inside)(distinct))
    if answers.shape != (len(distinct),):
        raise ValueError(f"inside must return one boolean for θ of shape {starts.shape[1:]}, got {answers.shape[1:]}")
    if not answers.all():
        outside = distinct[~answers.astype(bool)][0]
        raise ValueError(f"every start must be inside the region, got {outside}: start further in, or widen the region")
    return inside
