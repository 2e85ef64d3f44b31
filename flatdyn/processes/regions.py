"""Regions to leave: a ball, a box, a sublevel set, a half space. Each is a test θ -> bool and a score.

    inside ⟺ score(θ) ≤ 1

The score says how far a point has come on its way out; multilevel splitting needs it. Where it is 1 and a little, its
rounding is that of 1; whether a point is inside is decided without it, as exactly as numbers of any size can. Your own
region is any JAX function from θ to True or False (whole numbers count as in Python: 0 is False, others are True; a
real number would say nothing clear); with a `score` method it can be split too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.core.algebra import scaled
from flatdyn.landscapes import Landscape


@dataclass(frozen=True)
class Region:
    """A region with a name: runs end in it without coming to rest, as in a valley that descends to infinity, or they
    are to leave it.

    Attributes:
        name: for legends and dictionaries
        inside: JAX function from θ, shape (dim,), to a boolean: your own, or a Ball, Box, HalfSpace or Sublevel
        absorbing: of basins: True if a run never leaves it, so that it can stop there; else the end of a run decides
    """

    name: str
    inside: Callable
    absorbing: bool = False

    def __post_init__(self):
        checks.text("name", self.name)
        checks.function("inside", self.inside, "a JAX function from θ (dim,) to a boolean")
        checks.flag("absorbing", self.absorbing)

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Whether θ is inside."""
        return self.inside(theta)


class Scored(eqx.Module):
    """A region of positions with a score; its numbers are leaves, so a sweep over them needs no new program."""

    made_by = "fd.escape.Ball(center, radius), or another of them"

    def score(self, theta: jax.Array) -> jax.Array:
        """How far out θ, shape (dim,), is: at most 1 inside, more than 1 outside."""
        raise NotImplementedError

    def excess(self, theta: jax.Array) -> jax.Array:
        """How far outside θ is, at most 0 inside: without the 1 of a score, in which small numbers are lost."""
        return self.score(theta) - 1

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Whether θ is inside."""
        theta = checks.reals("theta", theta)
        if theta.ndim != 1:
            raise ValueError(f"theta must have shape (dim,), got {theta.shape}: jax.vmap(region) takes many points")
        return self.excess(theta) <= 0

    def check(self, dim: int) -> None:
        """Raise ValueError if the region is one of other than `dim` coordinates."""


def _fit(name: str, own: int, dim: int, what: str) -> None:
    if own != dim:
        raise ValueError(f"{name} has {own} {what}, but θ has {dim} coordinates: give one for each")


class Ball(Scored):
    """|θ − c| ≤ r.

    Args:
        center: c, shape (dim,)
        radius: r > 0, in units of θ
    Raises:
        ValueError: if the radius is not positive, or the center not finite
    """

    center: Any = eqx.field(converter=lambda value: checks.row("center", value))
    radius: Any = eqx.field(converter=checks.plain)

    def __check_init__(self):
        checks.number("center", self.center)
        checks.number("radius", self.radius, above=0, one=True)

    def score(self, theta):
        # Squares of a tiny or huge ball leave the range of numbers; a power of two changes no digit.
        unit, radius = scaled(jnp.asarray(self.radius, theta.dtype))
        square = sum(((theta[i] - self.center[i]) * unit) ** 2 for i in range(theta.shape[0]))
        return square / radius**2

    def __call__(self, theta):
        return self.score(checks.point("theta", theta, len(self.center))) <= 1  # a ratio: as exact at any size

    def check(self, dim):
        _fit("center", len(self.center), dim, "numbers")


class Box(Scored):
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

    def check(self, dim):
        _fit("sides", len(self.sides), dim, "pairs")

    def score(self, theta):
        return 1 + self.excess(theta)

    def excess(self, theta):
        low, high = self.sides[:, 0], self.sides[:, 1]
        width = jnp.where(jnp.isfinite(high - low), (high - low) / 2, 1)
        return jnp.max(jnp.maximum(low - theta, theta - high) / width)


class Sublevel(Scored):
    """L(θ) ≤ level.

    Args:
        landscape: L
        level: in units of the loss
    """

    landscape: Landscape
    level: Any = eqx.field(converter=checks.plain)

    def __check_init__(self):
        checks.kind("landscape", self.landscape, Landscape)
        checks.number("level", self.level, one=True)

    def check(self, dim):
        _fit("landscape", self.landscape.dim, dim, "coordinates")

    def score(self, theta):
        return 1 + self.landscape.value(self.landscape.vector(theta)) - self.level

    def excess(self, theta):
        return self.landscape.value(self.landscape.vector(theta)) - self.level


class HalfSpace(Scored):
    """n · θ ≤ offset.

    Args:
        normal: n ≠ 0, shape (dim,)
        offset: in units of n · θ
    Raises:
        ValueError: if the normal vanishes
    """

    normal: Any = eqx.field(converter=lambda value: checks.row("normal", value))
    offset: Any = eqx.field(converter=checks.plain, default=0.0)

    def __check_init__(self):
        checks.number("normal", self.normal)
        checks.number("offset", self.offset, one=True)
        if not checks.is_traced(self.normal) and not np.any(self.normal):
            raise ValueError("normal must not be zero: it says which way is out")

    def check(self, dim):
        _fit("normal", len(self.normal), dim, "numbers")

    def score(self, theta):
        return 1 + self.excess(theta)

    def excess(self, theta):
        # A power of two changes no digit, and keeps products in the range of numbers
        unit, normal = scaled(jnp.asarray(self.normal, theta.dtype))
        beyond = sum(theta[i] * normal[i] for i in range(theta.shape[0])) - self.offset * unit
        return beyond / jnp.sqrt(jnp.sum(normal**2))


class _Truth(eqx.Module):
    """A test that answers in whole numbers, as one that answers True or False."""

    inside: Callable

    def __call__(self, theta):
        return self.inside(theta) != 0


def check_score(name: str, score: Callable, dim: int) -> None:
    """Raise ValueError or TypeError unless a function of θ, shape (dim,), gives one real number."""
    theta = jax.ShapeDtypeStruct((dim,), precision.floating())
    answer = checks.traced(name, score, theta, what="a JAX function from θ (dim,) to a number")
    if getattr(answer, "shape", None) != () or not jnp.issubdtype(answer.dtype, jnp.floating):
        raise ValueError(f"{name} must return one real number, got {checks.shown(answer)}")


def as_test(name: str, inside: Callable, theta: jax.ShapeDtypeStruct) -> Callable:
    """Return a test that answers True or False for θ, of this shape and type, else say what it answers instead.

    Raises:
        TypeError: if it is not a function
        ValueError: if it does not answer so, or is a region of other coordinates
    """
    (dim,) = theta.shape
    if isinstance(inside, Region):
        inside = inside.inside
    if isinstance(inside, Scored):
        inside.check(dim)
    answer = checks.traced(name, inside, theta, what="a function from θ (dim,) to a boolean, or a region")
    if not hasattr(answer, "dtype"):
        raise ValueError(f"{name} must return one boolean, got {checks.shown(answer)}")
    if answer.shape != ():
        raise ValueError(f"{name} must return one boolean for θ of shape {theta.shape}, got shape {answer.shape}")
    if answer.dtype == bool:
        return inside
    if not jnp.issubdtype(answer.dtype, jnp.integer):
        raise ValueError(
            f"{name} must return True or False, got a number of type {answer.dtype}, which could mean either: "
            "compare it with something, as in value <= level"
        )
    return _Truth(inside)


def check_inside(inside: Callable, starts: np.ndarray) -> Callable:
    """Return a region that holds all the starts, shape (runs, dim), else say which it does not, or what it is."""
    test = as_test("inside", inside, jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype))
    distinct = np.unique(starts, axis=0)
    number = lambda leaf: np.asarray(leaf, starts.dtype) if isinstance(leaf, float) else leaf  # noqa: E731
    answers = np.asarray(_asked(jax.tree.map(number, test), precision.on_device(distinct)))  # one program for all radii
    if not answers.all():
        outside = distinct[~answers][0]
        raise ValueError(f"every start must be inside the region, got {outside}: start further in, or widen the region")
    return test


@eqx.filter_jit
def _asked(test: Callable, points: jax.Array) -> jax.Array:
    return jax.vmap(test)(points)


class ExactScore(eqx.Module):
    """The score of a region, which is above 1 just where the region says that a point is outside."""

    region: Scored

    def __call__(self, theta):
        score = self.region.score(theta)
        beyond = jnp.maximum(score, jnp.nextafter(jnp.ones_like(score), jnp.full_like(score, 2)))  # NaN stays so
        return jnp.where(self.region(theta), jnp.minimum(score, 1), beyond)
