"""The contract of a constraint.

A constraint acts on one array: all coordinates, or one leaf of a network's parameters. It lifts the array to a point x
of the space in which it is an equation. There a move ends exactly on the constraint, or says that it cannot, because
the multiplier along the normal does not exist or Newton's method does not reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.methods import masks

ALONG = ("new", "old")


class Constraint(eqx.Module):
    """What a constrained step needs; a subclass implements `tangent`, `shake`, `nearest` and `residual`.

    Points x and vectors of their space are arrays, or a :class:`flatdyn.core.algebra.Vector` of arrays.

    Attributes:
        elementwise: whether it acts on each coordinate by itself
        copies: how many arrays like θ a vector of the space of x takes
        core: axes of the array that it acts on, for `project`
    """

    elementwise = False
    copies = 1
    made_by = "flatdyn.constraints.Circle(radius), or another of them"
    core = "(d)"

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if an array of this shape cannot be constrained so."""

    def lift(self, array: jax.Array, slack: Any = None) -> Any:
        """The point x above an array; `slack` is what x has besides, chosen if not given."""
        return jnp.ravel(array)

    def lower(self, x: Any, shape: tuple[int, ...]) -> jax.Array:
        """The array of this shape below a point."""
        return x.reshape(shape)

    def slack(self, x: Any) -> Any:
        """What a point has besides the array below it; None if nothing."""
        return None

    def vector(self, *parts: jax.Array) -> Any:
        """A vector of the space of x from one array like θ, such as a gradient, or from all `copies` of them."""
        return jnp.ravel(parts[0])

    def thermal(self, x: Any, normal: jax.Array) -> Any:
        """A vector whose tangential part is standard normal, from one array like θ."""
        return self.vector(normal)

    def tangent(self, x: Any, p: Any) -> Any:
        """The part of the vector p that is tangential at x."""
        raise NotImplementedError

    def shake(self, x: Any, d: Any) -> tuple[Any, Any]:
        """x + d + N(x) λ on the constraint, for tangential d and the normals N at the old point; whether λ exists."""
        raise NotImplementedError

    def nearest(self, x: Any) -> tuple[Any, Any]:
        """The point of the constraint next to x, and whether there is one."""
        raise NotImplementedError

    def residual(self, x: Any) -> jax.Array:
        """How far x is from the constraint."""
        raise NotImplementedError

    def drift(self, x: Any, p: Any, time: Any) -> tuple[Any, Any, Any]:
        """The step A of a splitting, by RATTLE.

            x⁺ = x + t p + N(x) λ on the constraint,   p⁺ = tangential part at x⁺ of (x⁺ − x)/t

        Args:
            x, p: a point of the constraint and a tangential momentum
            time: t > 0
        Returns:
            x⁺, p⁺, and whether the multiplier λ exists
        """
        moved, ok = self.shake(x, time * p)
        return moved, self.tangent(moved, (moved - x) / time), ok

    def retract(self, away: Any, x: Any, along: str = "new") -> tuple[Any, Any]:
        """Back to the constraint from a point `away` that was reached from x.

        Args:
            away: the point
            x: where it came from, on the constraint
            along: "new": to the nearest point; "old": along the normals at x
        Returns:
            the point on the constraint, and whether it exists
        """
        return self.nearest(away) if along == "new" else self.shake(x, self.tangent(x, away - x))

    def gap(self, array: jax.Array) -> jax.Array:
        """How far one array is from the constraint."""
        return self.residual(self.lift(array))

    def feasible(self, array: jax.Array) -> jax.Array:
        """One array moved to the constraint; NaN where there is no point of it to move to."""
        x, ok = self.nearest(self.lift(array))
        return jnp.where(ok, self.lower(x, jnp.shape(array)), jnp.nan)

    def project(self, theta: Any) -> jax.Array:
        """Points on the constraint, near the given ones: starts from which a run may set out.

        Args:
            theta: shape (dim,), or (runs, dim) for many; matrices (n, d) or (runs, n, d) for `Orthogonal()`
        Returns:
            the nearest points, of the same shape; for `Implicit` near ones
        Raises:
            ValueError: if the shape does not fit, or there is no nearest point
        """
        theta = checks.reals("theta", theta)
        if theta.ndim == 0:
            raise ValueError(f"theta must have shape (dim,) or (runs, dim), got {theta.shape}")
        if theta.ndim < self.core.count(",") + 1:
            self.check(theta.shape)
        projected = jnp.vectorize(self._checked, signature=f"{self.core}->{self.core}")(theta)
        if not checks.is_traced(projected) and not np.isfinite(np.asarray(projected)).all():
            raise ValueError(f"{self!r} has no point that is nearest to some of theta: start elsewhere")
        return projected

    @eqx.filter_jit
    def _checked(self, array: jax.Array) -> jax.Array:
        self.check(array.shape)
        return self.feasible(array)


class Free(Constraint):
    """No constraint: x⁺ = x + t p."""

    def lift(self, array, slack=None):
        return array

    def lower(self, x, shape):
        return x

    def vector(self, *parts):
        return parts[0]

    def tangent(self, x, p):
        return p

    def drift(self, x, p, time):
        return x + time * p, p, True

    def retract(self, away, x, along="new"):
        return away, True

    def residual(self, x):
        return jnp.zeros((), jnp.result_type(x))

    def feasible(self, array):
        return array


def named(theta: Any, rules: Mapping[str, Constraint]) -> Any:
    """Constraints for the leaves whose path contains a word; None, which is free, for the rest.

        named(params, {"layers[0].weight": Orthogonal(), "weight": Circle(0.5)})

    Args:
        theta: parameters, any tree of arrays
        rules: word -> constraint; the first word that a path contains counts
    Returns:
        a tree like `theta` with a constraint or None at its leaves
    Raises:
        ValueError: if a word rules no leaf; it lists the paths
    """
    checks.mapping("rules", rules, "word -> Constraint")
    for rule in rules.values():
        checks.kind("rules", rule, Constraint)
    used = set()

    def ruled(path, _):
        text = jax.tree_util.keystr(path)
        word = next((word for word in rules if word in text), None)
        used.add(word)
        return rules.get(word)

    tree = jax.tree.map_with_path(ruled, masks.check_tree_of_arrays("theta", theta))
    if idle := [word for word in rules if word not in used]:
        paths = ", ".join(jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(theta))
        raise ValueError(f"{idle[0]!r} rules none of {paths}")
    return tree
