"""Methods for different blocks of the parameters, one after the other."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.methods import masks
from flatdyn.methods.averaging import Averaged
from flatdyn.methods.base import Method, restricted


def check_partition(blocks: Sequence[Any], theta: Any) -> None:
    """Raise ValueError unless each mask fits the vector θ and together they select every coordinate once.

    Args:
        blocks: masks, with entries 0 and 1
        theta: a vector of parameters, or of their shapes
    """
    for number, block in enumerate(blocks, start=1):
        masks.check(block, theta, f"block {number}")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(blocks)):
        return
    entries = zip(*(jax.tree.leaves(masks.match(block, theta)) for block in blocks), strict=True)
    for (path, _), own in zip(jax.tree.leaves_with_path(getattr(theta, "tree", theta)), entries, strict=True):
        chosen = sum(np.asarray(entry, dtype=float) for entry in own)
        if (chosen != 1).any():
            place, often = jax.tree_util.keystr(path), np.ravel(chosen)[np.ravel(chosen) != 1][0]
            what = "overlap" if often > 1 else "do not cover everything"
            raise ValueError(
                f"blocks {what}: they must select every parameter once, and one at {place or 'θ'} is selected "
                f"{often:g} times; masks.complement gives the rest of a mask"
            )


class BlockState(eqx.Module):
    """State of :class:`Alternating`: parameters, and the state of each method less its parameters."""

    theta: Any
    inner: tuple


class Alternating(Method):
    """A method for each block, one after the other; each sees what the ones before it have done.

        θ ← step i on the block mᵢ, with all other parameters held,   i = 1, 2, …

    Args:
        methods: one per block
        blocks: their masks, which together select everything once
    Raises:
        ValueError: if there are not as many masks as methods, one of them is an average, a mask is empty or does not
            fit, or blocks overlap or leave out a parameter
    """

    methods: tuple[Method, ...]
    blocks: tuple

    def __init__(self, methods: Any, blocks: Any):
        self.methods = tuple(checks.sequence("methods", methods, "methods, one for each block"))
        blocks = checks.sequence("blocks", blocks, "masks, one for each method")
        self.blocks = tuple(masks.settled(one, "blocks", needed=True) for one in blocks)
        for method in self.methods:
            checks.kind("methods", method, Method)
        if any(isinstance(method, Averaged) for method in self.methods):
            raise ValueError("an average inside Alternating would be moved by it: use Averaged(Alternating(...))")
        if len(self.methods) != len(self.blocks) or not self.methods:
            raise ValueError(f"as many blocks as methods are needed, got {len(self.blocks)} and {len(self.methods)}")

    @property
    def draws(self):
        return sum(method.draws for method in self.methods)

    @property
    def samples(self):
        return max(method.samples for method in self.methods)

    def single(self):
        for method in self.methods:
            method.single()

    def check(self, theta):
        for method in self.methods:
            method.check(theta)
        check_partition(self.blocks, theta)

    def init(self, theta):
        return BlockState(theta, tuple(_without(method.init(theta)) for method in self.methods))

    def step(self, grad, state, *normals):
        theta, inner = state.theta, []
        for method, block, own in zip(self.methods, self.blocks, state.inner, strict=True):
            noise, normals = normals[: method.draws], normals[method.draws :]
            noise = [masks.masked(block, part) for part in noise]
            moved = method.step(restricted(grad, block), _with(own, theta), *noise)
            theta = masks.pick(block, moved.theta, theta)
            inner.append(_without(moved))
        return BlockState(theta, tuple(inner))

    def gap(self, theta):
        gaps = [gap for method in self.methods if (gap := method.gap(theta)) is not None]
        return functools.reduce(jnp.maximum, gaps) if gaps else None

    def project(self, theta):
        for method, block in zip(self.methods, self.blocks, strict=True):
            theta = masks.pick(block, method.project(theta), theta)
        return theta

    def possible(self, state):
        each = [method.possible(own) for method, own in zip(self.methods, state.inner, strict=True)]
        return functools.reduce(operator.and_, each)


def _without(state: Any) -> Any:
    """A method's state without the parameters, which are kept once for all."""
    return eqx.tree_at(lambda s: s.theta, state, None)


def _with(state: Any, theta: Any) -> Any:
    return eqx.tree_at(lambda s: s.theta, state, theta, is_leaf=lambda leaf: leaf is None)
