"""Where a path is to end, as numbers that are at most 0 there: to reach a region, a point, or to leave a region."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.processes.regions import Ball, Box, Region, Scored, check_score

_FACES = 16  # of a box that are tried one by one


class Goal(eqx.Module):
    """A path has arrived where every number of `misses` is at most 0, or is 0 where it is `exact`."""

    region: Any
    way: str = eqx.field(static=True)
    side: Any = np.int32(0)

    @property
    def exact(self) -> bool:
        return self.way == "point"

    def misses(self, theta: jax.Array) -> jax.Array:
        """How far θ is from where it is to be, shape (constraints,)."""
        region = self.region
        if self.way == "point":
            return theta - region
        if isinstance(region, Box):
            low, high = region.sides[:, 0], region.sides[:, 1]
            beyond = jnp.concatenate([low - theta, theta - high])
            return -beyond[self.side][None] if self.way == "leave" else beyond[np.flatnonzero(_finite(region))]
        excess = region.excess(theta) if isinstance(region, Scored) else region.score(theta) - 1
        return (-excess if self.way == "leave" else excess)[None]


def _finite(box: Box) -> np.ndarray:
    """Which of the lower sides, then of the upper ones, are finite."""
    return np.isfinite(np.asarray(box.sides).T.ravel())


def goals(target: Any, inside: Any, tolerance: float, dim: int) -> list[Goal]:
    """The goals of which one is to be reached: several, where a box can be left by several sides.

    Raises:
        TypeError: if there is no way to tell how far from the target a point is
        ValueError: if both or neither of target and inside are given, or one does not fit
    """
    if (target is None) == (inside is None):
        raise ValueError("give either target, which is to be reached, or inside, a region that is to be left")
    name, region = ("target", target) if inside is None else ("inside", inside)
    region = region.inside if isinstance(region, Region) else region
    if inside is None and not callable(region):
        point = checks.point("target", region, dim)
        return [Goal(Ball(point, tolerance), "reach") if tolerance > 0 else Goal(point, "point")]
    if isinstance(region, Scored):
        region.check(dim)
    elif not callable(getattr(region, "score", None)):
        remedy = "take a Ball, Box, Sublevel or HalfSpace, or give the function a method `score`"
        raise TypeError(
            f"{name} must say how far from it a point is, which True or False does not: {remedy}; got "
            f"{checks.shown(region)}"
        )
    else:
        check_score(f"the score of {name}", region.score, dim)
    if inside is None or not isinstance(region, Box):
        return [Goal(region, "reach" if inside is None else "leave")]
    faces = np.flatnonzero(_finite(region))
    if not len(faces):
        raise ValueError("inside must have a side that is finite: this box can't be left")
    if len(faces) > _FACES:
        raise TypeError(f"inside must be a box of at most {_FACES} finite sides, got {len(faces)}: take a Ball")
    return [Goal(region, "leave", np.int32(face)) for face in faces]
