"""Methods for different blocks of the parameters, one after the other."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from flatdyn import masks
from flatdyn.methods.base import Method, restricted


class BlockState(eqx.Module):
    """State of :class:`Alternating`: parameters, and the state of each method."""

    theta: Any
    inner: tuple


class Alternating(Method):
    """A method for each block, one after the other; each sees what the ones before it have done.

        θ ← step i on the block mᵢ, with all other parameters held,   i = 1, 2, …

    Args:
        methods: one per block
        blocks: their masks, which together select everything once
    Raises:
        ValueError: if there are not as many masks as methods, or a mask is empty or does not fit
    """

    methods: tuple[Method, ...]
    blocks: tuple

    def __init__(self, methods: Any, blocks: Any):
        self.methods, self.blocks = tuple(methods), tuple(masks.settled(block) for block in blocks)
        if len(self.methods) != len(self.blocks):
            raise ValueError(f"as many blocks as methods are needed, got {len(self.blocks)} and {len(self.methods)}")

    @property
    def draws(self):
        return sum(method.draws for method in self.methods)

    @property
    def samples(self):
        return max(method.samples for method in self.methods)

    def check(self, theta):
        for number, (method, block) in enumerate(zip(self.methods, self.blocks, strict=True), start=1):
            method.check(theta)
            masks.check(block, theta, f"block {number}")

    def init(self, theta):
        return BlockState(theta, tuple(method.init(theta) for method in self.methods))

    def step(self, grad, state, *normals):
        theta, inner = state.theta, []
        for method, block, own in zip(self.methods, self.blocks, state.inner, strict=True):
            noise, normals = normals[: method.draws], normals[method.draws :]
            noise = [masks.masked(block, part) for part in noise]
            moved = method.step(restricted(grad, block), eqx.tree_at(lambda s: s.theta, own, theta), *noise)
            theta = masks.pick(block, moved.theta, theta)
            inner.append(moved)
        return BlockState(theta, tuple(inner))
