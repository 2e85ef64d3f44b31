"""Expectations over the normal numbers of a step, along rays from the point at which it jumps.

    E f(F(x, z)) = ∫∫ f(F(x, z* + r e(φ))) (2π)⁻¹ exp(−‖z* + r e‖²/2) r dr dφ      (two numbers)
                 = Σ over both directions e = ±1 of ∫ f(F(x, z* + r e)) (2π)^−½ exp(−(z* + r e)²/2) dr     (one)

A SAM step with its own minibatch in the ascent jumps where the sampled gradient vanishes, at z*; in (r, φ) it does not.
Along each ray the integral is cut where F passes from one piece of the plane to another: out of a region, or over a
line at which what follows jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.laws.plane.steps import Steps, in_pieces
from flatdyn.noise import Normal
from flatdyn.processes import Iteration

REACH = 8.3  # standard deviations: beyond it lies 1e-15, a thousandth of the rarest escape
_FAR = 6.5  # a jump out there concerns 1e-9 of the probability
ANGLES = (48, 128), (36, 88)  # rays of a step that stays in one piece, and of one that does not; on the coarser grid
_NODES = 8, 12, 16, 20, 26, 32  # on a stretch of a ray
_PER_NODE, _LEAST = 1.4, 6  # nodes of a stretch: so many for each standard deviation, and so many more
_LITTLE = 1e-18  # a probability that is left out
_SCAN = 24  # cells of a ray in which a passage is looked for
_HALVINGS = 28
_INSET = 1e-7  # at the jump a direction is lost in rounding


class Landings(NamedTuple):
    """Where steps from states lead: index of the state, place (n, 2), probability, and the piece it is in, all (n,)."""

    state: np.ndarray
    place: np.ndarray
    mass: np.ndarray
    label: np.ndarray


class Rays:
    """Landings of steps from any states.

    Args:
        steps: of a process driven by one or two normal numbers, apart from those that come first
        label: which piece of the plane a state (2,) is in, a whole number, in JAX; −1 is outside
        angles: how many rays in the plane
        lead: how many normal numbers come before those, and are zero
    """

    def __init__(self, steps: Steps, label: Callable, angles: tuple[int, int], lead: int = 0):
        self._dim, self._angles = steps.draws - lead, angles
        driven = steps.driven

        def point(state, centre, direction, r):
            return driven(state, jnp.concatenate([jnp.zeros(lead), centre + r * direction]))

        def seen(state, centre, direction, r):
            return label(point(state, centre, direction, r))

        def scanned(state, centre, direction, length):
            r = jnp.linspace(_INSET, 1.0, _SCAN + 1) * length
            return jax.vmap(lambda r: seen(state, centre, direction, r))(r)

        def passage(state, centre, direction, low, high, before):
            def halve(_, ends):
                middle = (ends[0] + ends[1]) / 2
                same = seen(state, centre, direction, middle) == before
                return jnp.where(same, middle, ends[0]), jnp.where(same, ends[1], middle)

            low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
            return (low + high) / 2

        def places(state, centre, direction, r):
            place = point(state, centre, direction, r)
            return jnp.concatenate([place, label(place)[None].astype(place.dtype)])

        self._scanned, self._passage = jax.jit(jax.vmap(scanned)), jax.jit(jax.vmap(passage))
        self._places = jax.jit(jax.vmap(places))
        self._vanishing = jax.jit(jax.vmap(_vanishing(steps, self._dim)))

    def landings(self, states: np.ndarray) -> Landings:
        """Landings of steps from states (m, 2), in no order."""
        centre = in_pieces(self._vanishing, states)
        near = (np.linalg.norm(centre, axis=1) < _FAR)[:, None]  # NaN is none
        centre = np.where(near, centre, 0.0)
        rays = self._directions(self._angles[0])
        whose, direction, length = self._cast(centre, rays)
        labels = in_pieces(self._scanned, states[whose], centre[whose], direction, length)
        labels = labels.reshape(len(states), -1)
        mixed = (labels != labels[:, :1]).any(axis=1)
        parts = [self._landed(states, centre, np.flatnonzero(mixed == several), several) for several in (False, True)]
        return Landings(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _cast(self, centre, rays):
        """One row per state and ray: whose, its direction, and its length to the circle of REACH around 0."""
        whose = np.repeat(np.arange(len(centre)), len(rays))
        direction = np.tile(rays, (len(centre), 1))
        along = np.einsum("nd,nd->n", centre[whose], direction)
        return whose, direction, np.sqrt(along**2 + REACH**2 - (centre[whose] ** 2).sum(axis=1)) - along

    def _landed(self, states, centre, group, several):
        rays = self._directions(self._angles[several])
        whose, direction, length = self._cast(centre[group], rays)
        whose = group[whose]
        ray, cut = np.zeros(0, int), np.zeros(0)
        if several:
            ray, cut = self._passages(states[whose], centre[whose], direction, length)
        every = np.arange(len(whose))
        rays_of = np.concatenate([every, ray, every])
        ends = np.concatenate([np.zeros(len(whose)), cut, length])
        turn = np.lexsort((ends, rays_of))
        rays_of, ends = rays_of[turn], ends[turn]
        together = (rays_of[1:] == rays_of[:-1]) & (ends[1:] > ends[:-1])
        ray, low, high = rays_of[:-1][together], ends[:-1][together], ends[1:][together]
        parts = [self._on(states, centre, direction, whose, *some) for some in _by_length(ray, low, high)]
        parts.append((np.zeros(0, int), np.zeros((0, 2)), np.zeros(0), np.zeros(0)))
        state, place, mass, label = (np.concatenate(part) for part in zip(*parts, strict=True))
        return state, place, mass * ((2 * np.pi / len(rays)) if self._dim == 2 else 1.0), label

    def _passages(self, states, centre, direction, length):
        """Where rays pass from one piece to another: which ray, and how far from its start."""
        labels = in_pieces(self._scanned, states, centre, direction, length)
        ray, cell = np.nonzero(labels[:, 1:] != labels[:, :-1])
        r = np.linspace(_INSET, 1.0, _SCAN + 1)
        low, high, before = r[cell] * length[ray], r[cell + 1] * length[ray], labels[ray, cell]
        return ray, in_pieces(self._passage, states[ray], centre[ray], direction[ray], low, high, before)

    def _on(self, states, centre, direction, whose, ray, low, high, nodes):
        """Nodes on stretches of rays, and their probability per angle."""
        unit, weights = np.polynomial.legendre.leggauss(nodes)
        r = low[:, None] + (high - low)[:, None] * (unit + 1) / 2
        mass = ((high - low)[:, None] * weights / 2 * r ** (self._dim - 1)).ravel()
        ray, r = np.repeat(ray, nodes), r.ravel()
        along = np.einsum("nd,nd->n", centre[whose], direction)
        square = (centre**2).sum(axis=1)[whose][ray] + 2 * r * along[ray] + r * r  # of z
        mass = mass * np.exp(-square / 2) / (2 * np.pi) ** (self._dim / 2)
        used = mass > _LITTLE
        ray, r, mass = ray[used], r[used], mass[used]
        state = whose[ray]
        rows = in_pieces(self._places, states[state], centre[state], direction[ray], r)
        return state, rows[:, :2], mass, rows[:, 2]

    def _directions(self, number: int) -> np.ndarray:
        if self._dim == 1:
            return np.array([[1.0], [-1.0]])
        angles = 2 * np.pi * (np.arange(number) + 0.5) / number
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _by_length(ray: np.ndarray, low: np.ndarray, high: np.ndarray):
    """Stretches of rays by how many nodes they take."""
    number = np.searchsorted(_NODES[:-1], _LEAST + _PER_NODE * (high - low))
    for i, nodes in enumerate(_NODES):
        some = number == i
        if some.any():
            yield ray[some], low[some], high[some], nodes


def _vanishing(steps: Steps, draws: int) -> Callable:
    """The normal numbers of the ascent at which a step jumps, for a state (2,); NaN where there are none."""
    process = steps.process
    own = isinstance(process, Iteration) and isinstance(process.noise, Normal) and process.ascent != "full"
    if not (own and process.dim == draws and getattr(process.method, "may_jump", False)):
        return lambda state: jnp.full(draws, jnp.nan)

    def vanishing(state):
        theta = process.landscape.vector(steps.position(state))
        return process.noise.vanishing(process.landscape, theta)

    return vanishing
