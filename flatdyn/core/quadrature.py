"""Expectations over standard normal numbers of functions that jump at one point.

    E f(ξ) ≈ Σᵢ wᵢ f(ξᵢ),   ξ ~ N(0, I_d),   d = 1, 2

A SAM step is a smooth function of its noise except where the sampled gradient vanishes: there its direction turns
round. Gauss–Hermite rules, made for polynomials, gain only one digit from a tenfold number of nodes then. So the line
is split at that point, and the plane is swept in polar coordinates around it, in which there is no jump. Functions on
an interval that jump at known places are kept on :class:`Panels` between them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.core.memory import array_bytes, check_memory

_REACH = 9.0  # standard deviations: beyond lies 1e-19 of the probability
_FAR = 7.0  # a jump out there concerns 1e-12 of it
_PANELS, _NODES = 4, 14  # on each side of the point, on a line
_ANGLES, _RADII = 64, 32
_HERMITE = {1: 32, 2: 20}  # nodes in each coordinate, for smooth functions


class Rule(NamedTuple):
    """Nodes, shape (number, d), and weights, shape (number,), that sum to 1."""

    nodes: jax.Array
    weights: jax.Array

    def mean(self, values: jax.Array) -> jax.Array:
        """E f from the values f(ξᵢ), shape (number, ...)."""
        return jnp.tensordot(self.weights, values, axes=1)


def smooth(dim: int, nodes: int | None = None) -> Rule:
    """Gauss–Hermite: exact for polynomials of degree 2·nodes − 1 in each coordinate.

    Args:
        dim: d ≥ 1
        nodes: in each coordinate; 32 on a line and 20 in the plane if not given
    """
    dim = checks.count("dim", dim, at_least=1)
    nodes = checks.count("nodes", _HERMITE.get(dim, 8) if nodes is None else nodes, at_least=1)
    points = 2**62 if dim * math.log2(max(nodes, 2)) > 62 else nodes**dim
    needed = max(array_bytes(6, points, dim), array_bytes(3, nodes, nodes))
    check_memory(needed, "the nodes", "take fewer `nodes` in each coordinate, or a smaller `dim`")
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.stack(np.meshgrid(*[points] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    product = np.prod(np.meshgrid(*[weights / weights.sum()] * dim, indexing="ij"), axis=0).ravel()
    return Rule(jnp.asarray(grid), jnp.asarray(product))


def jumping(centre: jax.Array) -> Rule:
    """A rule for functions that are smooth except at `centre`, where they may jump: along a line to the other side,
    in the plane with the direction of approach.

    Accurate to about 1e-10 for functions that vary over a standard deviation or more. A point further than 7 standard
    deviations from the origin hardly matters and is left out.

    Args:
        centre: shape (1,) or (2,)
    Raises:
        TypeError: in more dimensions
    """
    if centre.shape not in ((1,), (2,)):
        raise TypeError(f"the rule for functions that jump is made for 1 and 2 dimensions, got {centre.shape[0]}")
    far = ~(jnp.sum(centre**2) < _FAR**2)  # NaN, where there is no such point, counts as far
    centre = jnp.where(far, 0.0, centre)
    return _on_line(centre) if centre.shape == (1,) else _in_plane(centre)


class Panels(NamedTuple):
    """Gauss–Legendre nodes in panels of an interval, and interpolation between them.

    Attributes:
        edges: of the panels, increasing
        jumps: the edges at which a function may jump, so that no panel contains one
        order: nodes in a panel
    """

    edges: np.ndarray
    jumps: np.ndarray
    order: int

    @property
    def nodes(self) -> np.ndarray:
        """All nodes, increasing, (panels · order,)."""
        half, middle = np.diff(self.edges) / 2, (self.edges[1:] + self.edges[:-1]) / 2
        return (middle[:, None] + half[:, None] * np.polynomial.legendre.leggauss(self.order)[0]).ravel()

    def panel(self, points: np.ndarray) -> np.ndarray:
        """Index of the panel of each point."""
        return np.clip(np.searchsorted(self.edges, points, side="right") - 1, 0, len(self.edges) - 2)

    def basis(self, points: np.ndarray, panel: np.ndarray) -> np.ndarray:
        """Lagrange polynomials of the panel's nodes at the points, (points, order): ℓⱼ = wⱼ Σ (m + ½) Pₘ(xⱼ) Pₘ."""
        unit, weights = np.polynomial.legendre.leggauss(self.order)
        degrees = np.arange(self.order)
        legendre = np.polynomial.legendre.legvander
        transform = (legendre(unit, self.order - 1) * (degrees + 0.5) * weights[:, None]).T
        low, high = self.edges[panel], self.edges[panel + 1]
        return legendre((2 * points - low - high) / (high - low), self.order - 1) @ transform

    def row(self, point: float) -> np.ndarray:
        """Weights of all nodes that interpolate at one point."""
        panel, weights = self.panel(np.array([point])), np.zeros(len(self.nodes))
        weights[panel[0] * self.order + np.arange(self.order)] = self.basis(np.array([point]), panel)[0]
        return weights


def _on_line(centre: jax.Array) -> Rule:
    nodes, weights = (jnp.asarray(x, centre.dtype) for x in _composite())
    left, right = centre[0] + _REACH, _REACH - centre[0]
    points = jnp.concatenate([centre[0] - left * nodes, centre[0] + right * nodes])
    density = jnp.concatenate([left * weights, right * weights]) * jnp.exp(-0.5 * points**2)
    return Rule(points[:, None], density / density.sum())


def _in_plane(centre: jax.Array) -> Rule:
    angles = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    towards = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=-1), centre.dtype)  # (angles, 2)
    nodes, weights = (jnp.asarray(x, centre.dtype) for x in _unit_interval(_RADII))
    along = towards @ centre
    length = jnp.sqrt(along**2 + _REACH**2 - centre @ centre) - along  # to the circle of radius _REACH around 0
    radius = length[:, None] * nodes  # (angles, radii)
    points = centre + radius[..., None] * towards[:, None]
    density = length[:, None] * weights * radius * jnp.exp(-0.5 * jnp.sum(points**2, axis=-1))
    return Rule(points.reshape(-1, 2), density.ravel() / density.sum())


def _unit_interval(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return (nodes + 1) / 2, weights / 2


def _composite() -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre on equal panels of [0, 1]."""
    nodes, weights = _unit_interval(_NODES)
    starts = np.arange(_PANELS)[:, None]
    return ((starts + nodes) / _PANELS).ravel(), np.tile(weights / _PANELS, _PANELS)
