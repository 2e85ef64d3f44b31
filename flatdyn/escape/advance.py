"""How far a run has come from one attractor towards the others: the score by which rare transitions are split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from flatdyn.escape.cores import Cores, Near
from flatdyn.processes.regions import Ball


class Advance(eqx.Module):
    """s(θ) = d_i/(d_i + min_j d_j), d the distance from a core: 0 at the own core, below 0 in it, above 1 in another.

    Attributes:
        cores: of all attractors
        source: i
        inside: a region outside of which the score is above 1, too
        own: another function to take its place, at most 1 counting
    """

    cores: Cores
    source: int = eqx.field(static=True)
    inside: Callable | None
    own: Callable | None

    def __check_init__(self):
        if self.own is None:
            for name, test in zip(self.cores.names, self.cores.tests, strict=True):
                if not isinstance(test, Ball | Near):
                    raise TypeError(
                        f"splitting needs a score: the core of {name!r} is a function from which no distance is known; "
                        "pass scores={name: function}, or give positions with a radius"
                    )

    def __call__(self, theta: Any) -> Any:
        label = self.cores(theta)
        out = (label >= 0) & (label != self.source)
        out = out if self.inside is None else out | ~(self.inside(theta) | (label >= 0))
        if self.own is None:
            gaps = [_distance(test, theta) for test in self.cores.tests]
            here = gaps[self.source]
            other = jnp.min(jnp.stack([gap for j, gap in enumerate(gaps) if j != self.source]))
            away, left = jnp.maximum(here, 0), jnp.maximum(other, 0)
            score = jnp.where(here < 0, here / _radius(self.cores.tests[self.source], theta), away / (away + left))
        else:
            score = self.own(theta)
        return jnp.where(out, jnp.asarray(2, score.dtype), jnp.minimum(score, 1))


def _radius(test: Any, theta: Any) -> Any:
    return jnp.asarray(test.radius, theta.dtype)


def _distance(test: Any, theta: Any) -> Any:
    """From the surface of a core, negative in it."""
    points = jnp.atleast_2d(jnp.asarray(test.center if isinstance(test, Ball) else test.points, theta.dtype))
    return jnp.sqrt(jnp.min(jnp.sum((theta - points) ** 2, axis=1))) - _radius(test, theta)
