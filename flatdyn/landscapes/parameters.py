"""What the parameters of a loss look like: one array, or a tree of arrays, and the coordinates of both."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.core.algebra import Vector


class Form(eqx.Module):
    """Shapes of the leaves of a tree, and the tree; by default one array (dim,)."""

    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    tree: Any = eqx.field(static=True)

    @staticmethod
    def of(dim: int | None, like: Any) -> Form:
        """The form of one array of `dim` numbers, or of a tree of arrays.

        Raises:
            ValueError: if both or neither are given, or the tree holds something else than floating-point arrays
        """
        if (dim is None) == (like is None):
            raise ValueError("give either dim, the number of coordinates, or like, a tree of parameters")
        if like is None:
            return Form((tuple(checks.counts(dim=dim)),), jax.tree.structure(0))
        check_tree("like", like)
        leaves, tree = jax.tree.flatten(like)
        return Form(tuple(np.shape(leaf) for leaf in leaves), tree)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return sum(map(math.prod, self.shapes))

    def vector(self, theta: jax.Array | jax.ShapeDtypeStruct) -> Vector:
        """The parameters with coordinates `theta`, shape (dim,); shapes of shapes."""
        if isinstance(theta, jax.ShapeDtypeStruct):
            return jax.eval_shape(self.vector, theta)
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        leaves = [part.reshape(shape) for part, shape in zip(jnp.split(theta, ends), self.shapes, strict=True)]
        return Vector(jax.tree.unflatten(self.tree, leaves))

    def flatten(self, tree: Any) -> jax.Array:
        """Coordinates of a tree of parameters, shape (dim,)."""
        if jax.tree.structure(tree) != self.tree:
            raise ValueError(f"tree must be like that of the landscape, {self}, got {checks.shown(tree)}")
        leaves = [checks.reals("tree", leaf) for leaf in jax.tree.leaves(tree)]
        if [leaf.shape for leaf in leaves] != list(self.shapes):
            raise ValueError(f"tree must hold arrays of the shapes {self.shapes}, got {checks.shown(tree)}")
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return leaves[0].reshape(-1) if len(leaves) == 1 else jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
        return precision.on_device(np.concatenate([np.asarray(leaf).reshape(-1) for leaf in leaves]))

    def numbers(self) -> Any:
        """Which coordinates each leaf holds: a tree of arrays of whole numbers."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        leaves = [
            part.reshape(shape) for part, shape in zip(np.split(np.arange(self.dim), ends), self.shapes, strict=True)
        ]
        return jax.tree.unflatten(self.tree, leaves)

    def __str__(self) -> str:
        if self.tree == jax.tree.structure(0):
            return f"an array of shape {self.shapes[0]}"
        return f"a tree of {len(self.shapes)} arrays with {self.dim} numbers"


def check_tree(name: str, tree: Any) -> None:
    """Raise ValueError if a tree of parameters holds something else than floating-point arrays."""
    for leaf in jax.tree.leaves(tree):
        if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            raise ValueError(
                f"{name} must hold floating-point arrays alone, got {checks.shown(leaf)} in it: for an Equinox network "
                "take eqx.filter(network, eqx.is_inexact_array)"
            )
