"""Running averages in a network's state: what they would be if they were those of the training data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks

_FAR = 2.0**20  # a state so large that the share that is kept of it is read off to rounding
_MANY = 10**6  # of passes, after which no package corrects an average for its start


def is_floating(leaf: Any) -> bool:
    """Whether a leaf holds floating-point numbers; keys of random numbers have types of their own."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def in_precision(tree: Any, dtype: Any) -> Any:
    """The floating-point leaves of a tree in another precision, the others as they are."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_floating(leaf) and leaf.dtype != dtype else leaf, tree)


class Running(eqx.Module):
    """How a pass in training mode moves the state: s⁺ = m s + (1 − m) b, with b of the batch alone.

    Attributes:
        given: the state as it was given; leaves that no pass changes, and whole numbers, stay what they are
        kept: m, for each entry of a floating-point leaf of the state; 1 where no pass changes it
    """

    given: Any
    kept: Any

    @staticmethod
    def of(train: Callable, parameters: Any, state: Any, x: Any) -> Running:
        """Read m off from two passes, and check with others that this is how the state moves.

        Args:
            train: (parameters, state, x) -> outputs, new state
        Raises:
            ValueError: if the outputs depend on the state, or the state is no running average
        """
        late = jax.tree.map(lambda leaf: leaf if is_floating(leaf) else _counted(leaf), state)
        compiled = jax.jit(train)

        def passed(number: float) -> tuple:
            filled = jax.tree.map(lambda leaf: jnp.full_like(leaf, number) if is_floating(leaf) else leaf, late)
            return compiled(parameters, filled, x)

        (outputs, none), (others, far), (_, below) = passed(0.0), passed(_FAR), passed(-1.0)
        scale = 1 + np.max(np.abs(outputs), initial=0)
        rounding = np.sqrt(np.finfo(outputs.dtype).eps)
        if not np.max(np.abs(np.asarray(outputs) - np.asarray(others)), initial=0) <= rounding * scale:
            raise ValueError(
                "train must normalise by the minibatch, but its outputs depend on the state: switch the layers to "
                'training mode (in Equinox BatchNorm(..., mode="batch")), or leave `train` away, which keeps the state'
            )
        kept = jax.tree.map(lambda a, b: (b - a) / _FAR if is_floating(a) else a, none, far)
        running = Running(late, kept)
        statistics = running.statistics(none)
        again = compiled(parameters, statistics, x)[1]  # what belongs to these data stays
        for path, m in jax.tree.leaves_with_path(kept):
            if is_floating(m) and not (np.min(m, initial=0) > -rounding and np.max(m, initial=0) < 1 + rounding):
                raise ValueError(_no_average(path))
        straight = jax.tree.map(lambda a, m: a - m if is_floating(a) else a, none, kept)
        for moved in (jax.tree.map(_moved, statistics, again), jax.tree.map(_moved, straight, below)):
            for path, share in jax.tree.leaves_with_path(moved):
                if not share <= rounding:
                    raise ValueError(_no_average(path))
        return running

    def empty(self, dtype: Any) -> Any:
        """The state from which a pass starts, so that of what it returns nothing is left of before."""
        return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype) if is_floating(leaf) else leaf, self.given)

    def statistics(self, new: Any) -> Any:
        """b, as a state, where `new` is what a pass made of :meth:`empty`."""

        def own(new, given, kept):
            if not is_floating(given):
                return given
            stays = kept > 1 - 1e-7
            kept = kept.astype(new.dtype)
            return jnp.where(stays, given.astype(new.dtype), new / jnp.where(stays, 1, 1 - kept))

        return jax.tree.map(own, new, self.given, self.kept)


def _counted(leaf: Any) -> Any:
    """A counter after many passes."""
    return jnp.full_like(leaf, _MANY) if jnp.issubdtype(leaf.dtype, jnp.signedinteger) else leaf


def _moved(before: Any, after: Any) -> float:
    """How far one leaf is from another that it should be equal to, relative to it."""
    if not is_floating(before):
        return 0.0
    before, after = np.asarray(before), np.asarray(after)
    return float(np.max(np.abs(after - before), initial=0) / (1e-30 + np.max(np.abs(before), initial=0)))


def _no_average(path: Any) -> str:
    return (
        f"state: {jax.tree_util.keystr(path)} is no running average of the batch's numbers, so it cannot be taken from "
        "the training data: leave `train` away, which keeps the state as it is given"
    )


def check_state(state: Any) -> Any:
    """The state as arrays on the device.

    Raises:
        TypeError: if a leaf is no array of numbers
    """

    def one(path, leaf):
        if not (hasattr(leaf, "dtype") and hasattr(leaf, "shape")):
            raise TypeError(f"state must be a tree of arrays, got {checks.shown(leaf)} at {jax.tree_util.keystr(path)}")
        return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)

    return jax.tree.map_with_path(one, state)
