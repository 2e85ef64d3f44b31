"""Stable and unstable manifolds of saddle points of a map of the plane: basin boundaries, and the ways out.

The unstable manifold is grown from a small segment along the unstable eigenvector, between a point and its image: the
images of that segment lie end to end along the manifold. The stable manifold is the unstable one of the inverse map,
which is solved for by Newton's method at each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, records, segments
from flatdyn.core.records import Record, Status
from flatdyn.fixedpoints.arclength import oriented
from flatdyn.methods.base import State
from flatdyn.processes import Process
from flatdyn.processes.flat import flat_state
from flatdyn.runs import simulate, stepping

_NEWTON = 8  # iterations for a preimage; from 2θ − F(θ) three or four reach rounding where the map is invertible
_MOST_STARTS = 1 << 12


@dataclass(frozen=True, eq=False, repr=False)
class Manifold(Record):
    """A one-dimensional manifold of a saddle point; see :func:`invariant_manifold`.

    Attributes:
        theta: the curve through the saddle, from the end of one side to the end of the other, shape (points, 2); a row
            of NaN separates pieces where it leaves the box and returns
        saddle: the saddle point, shape (2,)
        multiplier: of the direction, real
        ends: why each side ends: "box", "point" (another fixed point is reached), "steps", or "inverse" (there is
            no preimage), shape (2,)
    """

    theta: np.ndarray
    saddle: np.ndarray
    multiplier: np.ndarray
    ends: np.ndarray
    _form: ClassVar = {
        "theta": "fiu points two",
        "saddle": "fiu two",
        "multiplier": "fiu",
        "ends": "U two",
    }
    _units: ClassVar = {"saddle": "theta", "multiplier": "1"}


def invariant_manifold(
    process: Process,
    saddle: Any,
    kind: str,
    box: Any = None,
    *,
    spacing: float | None = None,
    offset: float = 1e-6,
    max_steps: int = 100_000,
    progress: bool | None = None,
) -> Manifold:
    """The stable or unstable manifold of a saddle point of a map of the plane, inside a box.

    Args:
        process: deterministic, with a state of two numbers (no momentum); the map must be invertible along a stable
            manifold
        saddle: a fixed point, or its θ, shape (2,)
        kind: "stable" or "unstable"
        box: where to draw it; the process's own if not given
        spacing: largest distance between neighbouring points; 1/400 of the box if not given
        offset: distance from the saddle at which the linear direction is taken for the manifold; the error is of
            the order of its square
        max_steps: steps after which a side ends
        progress: show a bar over the images; if not given, after two seconds
    Returns:
        Manifold
    Raises:
        ValueError: if the state is not two numbers, the point is not a saddle, or there is no box
    """
    offset = checks.number("offset", offset, above=0, one=True)
    if spacing is not None:
        spacing = checks.number("spacing", spacing, above=0, one=True)
    checks.kind("process", process, Process)
    checks.choice("kind", kind, ("stable", "unstable"))
    theta = checks.numbers("saddle", getattr(saddle, "theta", saddle), ndim=1)
    if len(theta) != process.dim:
        raise ValueError(f"saddle must have shape ({process.dim},), got {theta.shape}")
    box = process.box if box is None else box
    if box is None:
        raise ValueError("a manifold is followed inside a box: give box=((lower, upper), (lower, upper))")
    box, max_steps = checks.box(box, 2), stepping.check_steps("max_steps", max_steps, at_least=1)
    _check_memory(1, max_steps)
    with jax.enable_x64(True):
        state = flat_state(process)
        if process.random or state.size != 2:
            raise ValueError(
                f"manifolds are drawn for deterministic maps with two numbers as state, this has {state.size}"
            )
        slope = state.slope(jnp.asarray(theta))
        if slope is None:
            raise ValueError(
                f"{theta.tolist()} is singular: finite steps follow no Jacobian there, so it has no manifolds"
            )
        values, vectors = np.linalg.eig(slope)
        chosen = np.abs(values) < 1 if kind == "stable" else np.abs(values) > 1
        if np.iscomplex(values).any() or chosen.sum() != 1:
            raise ValueError(f"{theta.tolist()} is no saddle: its multipliers are {values.tolist()}")
        multiplier, direction = values[chosen][0].real, oriented(vectors[:, chosen][:, 0].real)
        # with a negative multiplier the sides alternate: follow each with every second step
        moving = _Alone(process, backwards=kind == "stable", times=1 if multiplier > 0 else 2)
        growth = abs(multiplier) ** (1 if multiplier > 0 else 2)
        growth = max(growth, 1 / growth)
        gap = spacing or np.diff(np.array(box), axis=1).max() / 400
        finest = np.finfo(float).eps * np.abs(box).max()
        if gap < finest:
            raise ValueError(
                f"spacing must be at least {finest:.1e}, the rounding of positions in the box, got {gap:g}"
            )
        with segments.progress_bar(0, "images", progress) as bar:
            sides = [_side(moving, theta, s * offset * direction, growth, box, gap, max_steps, bar) for s in (-1, 1)]
        provenance = records.provenance()
    return Manifold(
        config={"process": records.described(process), "kind": kind},
        provenance=provenance,
        theta=np.concatenate([sides[0][0][::-1], theta[None], sides[1][0]]),
        saddle=theta,
        multiplier=np.array(multiplier),
        ends=np.array([sides[0][1], sides[1][1]]),
    )


class _Alone(Process):
    """A process as a map of its positions alone, forwards or backwards, once or twice a step."""

    process: Process
    backwards: bool = eqx.field(static=True)
    times: int = eqx.field(static=True)
    dim: int = eqx.field(static=True, default=2)

    def init(self, theta):
        return State(theta)

    def step(self, state, key=None):
        theta = state.theta
        for _ in range(self.times):
            theta = self.preimage(theta) if self.backwards else self.image(theta)
        return State(theta)

    def position(self, state):
        return state.theta

    def image(self, theta: jax.Array) -> jax.Array:
        return self.process.position(self.process.step(self.process.init(theta)))

    def preimage(self, theta: jax.Array) -> jax.Array:
        """By Newton's method; NaN where it does not get there."""

        def newton(_, guess):
            return guess - jnp.linalg.solve(jax.jacfwd(self.image)(guess), self.image(guess) - theta)

        source = jax.lax.fori_loop(0, _NEWTON, newton, 2 * theta - self.image(theta))
        missed = jnp.abs(self.image(source) - theta).max() > 1e-9 * (1 + jnp.abs(theta).max())
        return jnp.where(missed, jnp.nan, source)


def _check_memory(points: int, steps: int) -> None:
    needed = memory.array_bytes(6, points, steps, 2)
    memory.check_memory(needed, "the images of the manifold", "give a larger `spacing`, or a smaller `max_steps`")


def _side(
    moving: Process, saddle, first, growth: float, box: tuple, gap: float, max_steps: int, bar: Any
) -> tuple[np.ndarray, str]:
    """Images of the segment from δ to growth·δ, end to end; points are put in where their images lie too far apart."""
    low, high = np.array(box).T

    def images(shares, steps):
        size = 1 << (len(shares) - 1).bit_length()  # a power of 2, so that few sizes are compiled
        starts = saddle + first * growth ** np.resize(shares, size)[:, None]
        _check_memory(size, steps)
        bar.update(len(shares) * steps)
        return simulate(moving, starts, steps, progress=False)

    steps = min(256, max_steps)
    while True:  # how many images it takes to leave the box
        run = images(np.zeros(1), steps)
        path = run.theta[0, : int(run.steps[0]) + 1]
        outside = ((path < low) | (path > high)).any(axis=1)
        arrived = np.abs(path - path[-1]).max(axis=1) < gap / 10
        resting = arrived[len(path) // 2 :].all() and not arrived[0]
        if outside.any() or resting or run.status[0] == Status.DIVERGED or steps == max_steps:
            break
        steps = min(4 * steps, max_steps)
    if outside.any():
        why, steps = "box", int(np.argmax(outside))
    elif resting:
        why, steps = "point", len(path) - int(np.argmin(arrived[::-1]))
    else:
        why, steps = "inverse" if run.status[0] == Status.DIVERGED else "steps", len(path) - 1
    shares, runs = np.zeros(1), path[None, : steps + 1]
    while True:
        curve = np.swapaxes(runs, 0, 1).reshape(-1, 2)  # image after image, along the segment in each
        wide = np.linalg.norm(np.diff(curve, axis=0), axis=1) > gap
        within = ((curve >= low) & (curve <= high)).all(axis=1)
        # a gap between place j of one image and the next is closed by a point between shares j and j + 1
        places = np.unique(np.flatnonzero(wide & within[:-1]) % len(shares))
        if len(places) == 0 or len(shares) >= _MOST_STARTS:
            return _pieces(curve, wide, within), why
        between = (shares[places] + np.append(shares, 1.0)[places + 1]) / 2
        fresh = images(between, steps).theta[: len(between)]
        order = np.argsort(np.append(shares, between))
        shares, runs = np.append(shares, between)[order], np.concatenate([runs, fresh])[order]


def _pieces(curve: np.ndarray, wide: np.ndarray, within: np.ndarray) -> np.ndarray:
    """The curve inside the box, up to the first point outside; a row of NaN wherever points are not neighbours."""
    beside = np.pad(within, 1)
    kept = np.flatnonzero(within | beside[:-2] | beside[2:])
    apart = (np.diff(kept) > 1) | wide[kept[:-1]] | ~(within[kept[:-1]] | within[kept[1:]])
    return np.insert(curve[kept], np.flatnonzero(apart) + 1, np.nan, axis=0)
