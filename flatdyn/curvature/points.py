"""A loss and a point in it, in whatever form they come, as a landscape and coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flatdyn.core import checks
from flatdyn.landscapes import Landscape, parameters

Loss = Landscape | Callable


def placed(loss: Loss, theta: Any, name: str = "theta") -> tuple[Landscape, jax.Array]:
    """The landscape and the coordinates (dim,) of a point in it.

    Args:
        loss: a landscape, or a JAX function of one array (dim,) or of a tree like `theta`
        theta: coordinates (dim,), or a tree of parameters
    Raises:
        ValueError: if theta is no such point or not finite, or a tree on a landscape without parameters in a tree
        TypeError: if loss is neither
    """
    if not isinstance(loss, Landscape):
        checks.function("loss", loss, "a Landscape or a JAX function")
        if not _is_array(theta):
            parameters.check_tree(name, theta)
        form = {"dim": np.size(theta)} if _is_array(theta) else {"like": theta}
        loss = Landscape.from_function(loss, **form, name=getattr(loss, "__name__", "function").strip("<>"))
    return loss, coordinates(loss, theta, name)


def coordinates(landscape: Landscape, theta: Any, name: str = "theta", beside: str = "") -> jax.Array:
    """Coordinates (dim,) of one point given as an array, or as a tree like the landscape's parameters.

    Args:
        beside: name of another point in the landscape, which messages tell
    """
    if not _is_array(theta):
        if not hasattr(landscape, "flatten"):
            return checks.point(name, theta, landscape.dim)
        if jax.tree.structure(theta) != landscape.form.tree:
            raise ValueError(
                f"{name} must be a tree like the parameters of {landscape.name}, got {checks.shown(theta)}"
            )
        theta = landscape.flatten(theta)
    if np.shape(theta) != (landscape.dim,):
        as_beside = f" as that of {beside}" if beside else ""
        raise ValueError(f"{name} must be one point, shape ({landscape.dim},){as_beside}, got {np.shape(theta)}")
    return checks.points(name, theta, landscape.dim)


def _is_array(theta: Any) -> bool:
    return isinstance(getattr(theta, "shape", None), tuple) or (
        isinstance(theta, (list, tuple)) and all(map(np.isscalar, theta))
    )
