"""What a step can be steered by: its normal numbers, and where SAM's ascent jumps the direction that it takes.

A step of SAM jumps where the gradient g that its ascent sees vanishes: the ascent goes along u = g/‖g‖, and close by
any direction u is to be had. Derivatives say nothing there, and the cheapest paths stay there. In u, and the length r
of g, the step is smooth with r = 0 included. So these are what is steered, u as w/‖w‖:

    of a sampled g = ∇ℓ(θ; ξ):   g = r u with r ≥ 0,   ξ = √B S⁻¹ (r u − ∇L(θ)),   θ⁺ = F(θ; ξ) with an ascent along u
    of g = ∇L(θ):                θ⁺ = F(θ; ξ) with an ascent along u, on paths where g points along u or vanishes

On a line u is 1 or −1, and keeps the sign that it began with. Where g = 0 exactly there is no ascent: u = 0.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.methods import DNSAM, FirstOrder
from flatdyn.noise import Normal
from flatdyn.processes import Iteration, Process
from flatdyn.runs import stepping

_APART = 1e-9  # from a jump in units of the noise, so that rounding does not decide on which side a step is
_AHEAD = 1e-6  # the same where a search decides, which is less exact


class Steered(eqx.Module):
    """A process as one that is steered.

    Attributes:
        process: its numbers as arrays, the batch size 1 where it has one
        way: "plain", by normal numbers alone; or along u too, of an ascent that sees "sampled" or "full" gradients
        own: numbers that steer what does not hang on u
        unit: of r, in units of ∇L
    """

    process: Process
    way: str = eqx.field(static=True, default="plain")
    own: int = eqx.field(static=True, default=0)
    unit: Any = 1.0

    @property
    def size(self) -> int:
        """How many numbers steer a step."""
        if self.way == "plain":
            return self.process.draws
        return self.own + (self.way == "sampled") + self.process.dim

    def step(self, state: Any, control: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        """The next state, the normal numbers that lead there, and how far u is from where g points.

        The last is g's part across u, which is to vanish, and −g·u, which is to be below zero, in units of the noise;
        of shape (0,) where u is free. Where u = 0 all of g is to vanish.
        """
        if self.way == "plain":
            return self.process.driven(state, control), control, jnp.zeros(0)
        if self.way == "full":
            u, g = _unit(control[self.own :]), self.gradient(state) / self.unit
            along = g @ u
            ahead = jnp.where(jnp.any(u != 0), _AHEAD - along, 0)
            strays = jnp.concatenate([g - along * u, ahead[None]])
            normals = control[: self.own]
            return self.process.driven(state, normals, u), normals, strays
        u = _unit(control[self.own + 1 :])
        xi = self._sample(state, self.unit * control[self.own] * u)
        normals = jnp.concatenate([control[: self.own], xi])
        return self.process.driven(state, normals, u), normals, jnp.zeros(0)

    @property
    def exact(self) -> np.ndarray:
        """Which of the numbers that a path is to keep are to vanish, and not just to be below zero."""
        return np.arange(self.process.dim + 1) < self.process.dim if self.way == "full" else np.zeros(0, bool)

    def steer(self, state: Any, normals: jax.Array) -> jax.Array:
        """The control that takes the step of these normal numbers."""
        if self.way == "plain":
            return normals
        landscape = self.process.landscape
        if self.way == "full":
            return jnp.concatenate([normals, _unit(self.gradient(state))])
        xi = landscape.vector(normals[self.own :])
        g = landscape.array(self.process.noise.gradient(landscape, state.theta, xi))
        return jnp.concatenate([normals[: self.own], (jnp.linalg.norm(g) / self.unit)[None], _unit(g)])

    def lowest(self, steps: int) -> np.ndarray:
        """The least that controls can be, (steps, size): r stays off a jump by as little as rounding allows."""
        low = np.full((steps, self.size), -np.inf)
        if self.way == "sampled":
            low[:, self.own] = _APART
        return low

    def rides(self, controls: np.ndarray, strays: np.ndarray) -> np.ndarray:
        """Which steps stand on a jump."""
        on = np.zeros(len(controls), bool)
        if self.way == "plain":
            return on
        steered = np.any(controls[:, -self.process.dim :] != 0, axis=1)
        return steered & ((-strays[:, -1] if self.way == "full" else controls[:, self.own]) < 10 * _AHEAD)

    def free(self, controls: np.ndarray) -> np.ndarray:
        """Which controls, (n, size), can vary by a little: not a sign of w on a line, nor what is at its least."""
        able = controls > self.lowest(len(controls))
        if self.way != "plain":
            w = controls[:, -self.process.dim :]
            able[:, -self.process.dim :] &= (self.process.dim > 1) & np.any(w != 0, axis=1, keepdims=True)
        return able

    def idle(self, controls: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """The part of changes, (n, size), that changes nothing: along w, of which the direction alone counts."""
        part = np.zeros_like(changes)
        if self.way != "plain":
            w, turned = (array[:, -self.process.dim :] for array in (controls, changes))
            w = w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-300)
            part[:, -self.process.dim :] = w * (w * turned).sum(axis=1, keepdims=True)
        return part

    def plain(self) -> Steered:
        """The same, steered by normal numbers alone."""
        return Steered(self.process, "plain", 0, self.unit)

    def gradient(self, state: Any) -> jax.Array:
        """∇L where a state is, shape (dim,)."""
        landscape = self.process.landscape
        return landscape.array(landscape.field(state.theta))

    def _sample(self, state: Any, gradient: jax.Array) -> jax.Array:
        return self.process.noise.leading_to(self.process.landscape, state.theta, gradient)


def _unit(w: jax.Array) -> jax.Array:
    """w/‖w‖, and 0 where w = 0, with derivatives there."""
    zero = jnp.all(w == 0)
    if w.shape == (1,):
        return jnp.where(zero, 0, jnp.sign(w))  # the ascent's own derivative is NaN there, and goes no further
    return jnp.where(zero, 0, w / jnp.linalg.norm(jnp.where(zero, 1, w)))


def steered(process: Process, start: jax.Array) -> Steered:
    """A process as one that is steered.

    Raises:
        TypeError: if it isn't random, not driven by normal numbers, or jumps where this does not follow
        ValueError: if it jumps, and its noise does not reach every coordinate
    """
    if not (process.random and hasattr(process, "driven")):
        raise TypeError(
            "process must be random and driven by normal numbers: an Iteration under Gaussian, Curvature or "
            f"state-dependent noise, a Langevin method, or a Diffusion; got {process!r}"
        )
    if not process.draws:
        raise TypeError(f"process must be driven by normal numbers, and here none are drawn: {process!r}")
    noise = getattr(process, "noise", None)
    if isinstance(noise, Normal) and not getattr(getattr(process, "method", None), "draws", 0):
        process = eqx.tree_at(lambda whole: whole.noise.batch_size, process, 1.0)
    process = stepping.prepared(process, jnp.float64)
    if not _jumps(process):
        return Steered(process)
    if _jumps_otherwise(process):
        raise TypeError(
            "the least noise is known of a step that jumps where ∇ℓ(θ) vanishes, and nowhere else: take one ascent of "
            f"the 2-norm over all coordinates, coupled decay, or eps > 0, or ask multilevel_splitting; got {process!r}"
        )
    dim, state = process.dim, process.init(start)
    way = "full" if process.ascent == "full" else "sampled"
    whole = Steered(process, way, {"full": process.draws, "independent": dim, "shared": 0}[process.ascent])
    one = np.asarray(whole._sample(state, jnp.ones(dim)) - whole._sample(state, jnp.zeros(dim)))
    if not np.isfinite(one).all():
        raise ValueError(
            "the noise must reach every coordinate where the ascent of a step jumps: give each a scale > 0, or the "
            f"method eps > 0; got {process.noise!r}"
        )
    return Steered(process, way, whole.own, jnp.asarray(dim**0.5 / np.linalg.norm(one)))


def _jumps(process: Process) -> bool:
    if not isinstance(process, Iteration) or not process.noise.random:
        return False
    method = process.method
    return bool(method.may_jump and np.any(method.jumps) and not isinstance(method, DNSAM))


def _jumps_otherwise(process: Iteration) -> bool:
    method = process.method
    plain = isinstance(method, FirstOrder) and not method.remembers and isinstance(process.noise, Normal)
    if not plain or method.jumps_elsewhere or method.jumps_on_surfaces:
        return True
    return getattr(method, "mask", None) is not None or getattr(method, "scope", "masked") == "tensor"
