"""Partitioned methods: a method for each block of the parameters, or a rate for each."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.core.randomness import split
from flatdyn.methods import masks
from flatdyn.methods.averaging import Averaged
from flatdyn.methods.base import Method, check_single, hyperparameter
from flatdyn.methods.fields import restricted, samples_of

_MOST_MICRO = 1000  # micro steps, which are written out in the program


def check_partition(blocks: Sequence[Any], theta: Any) -> None:
    """Raise ValueError unless each mask fits the vector θ and together they select every coordinate once.

    Args:
        blocks: masks, with entries 0 and 1
        theta: a vector of parameters, or of their shapes
    """
    for number, block in enumerate(blocks, start=1):
        masks.check(block, theta, f"block {number}")
    if checks.any_traced(blocks):
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
        if any(getattr(method, "at", "gradient") == "evaluation" for method in self.methods):
            raise ValueError("an average inside Alternating would be moved by it: leave out at='evaluation'")
        if len(self.methods) != len(self.blocks) or not self.methods:
            raise ValueError(f"as many blocks as methods are needed, got {len(self.blocks)} and {len(self.methods)}")

    @property
    def draws(self):
        return sum(method.draws for method in self.methods)

    @property
    def samples(self):
        return max(method.samples for method in self.methods)

    @property
    def period(self):
        return math.lcm(*(method.period for method in self.methods))

    @property
    def jumps(self):
        return functools.reduce(operator.or_, (method.jumps for method in self.methods))

    @property
    def may_jump(self):
        return any(method.may_jump for method in self.methods)

    @property
    def jumps_on_surfaces(self):
        return self.may_jump  # where the gradient of one block vanishes

    def single(self):
        for method in self.methods:
            method.single()

    def seasoned(self, state):
        return BlockState(state.theta, tuple(without_theta(m.seasoned(own)) for m, own in self._each(state)))

    def cycles(self, state):
        return any(method.cycles(own) for method, own in self._each(state))

    def _each(self, state: BlockState) -> list[tuple[Method, Any]]:
        """The methods and their states."""
        return [(m, with_theta(own, state.theta)) for m, own in zip(self.methods, state.inner, strict=True)]

    def check(self, theta):
        for method in self.methods:
            method.check(theta)
        check_partition(self.blocks, theta)

    def check_sample(self, theta, ascent, noise):
        for method in self.methods:
            method.check_sample(theta, ascent, noise)

    def keyed(self, form):
        return any(method.keyed(form) for method in self.methods)

    def init(self, theta):
        return BlockState(theta, tuple(without_theta(method.init(theta)) for method in self.methods))

    def step(self, grad, state, *normals):
        theta, inner = state.theta, []
        key = getattr(grad, "key", None)
        keys = itertools.repeat(None) if key is None else split(key, len(self.methods))
        for method, block, own, its in zip(self.methods, self.blocks, state.inner, keys, strict=False):
            noise, normals = normals[: method.draws], normals[method.draws :]
            noise = [masks.masked(block, part) for part in noise]
            field = restricted(grad, block)
            if its is not None:
                field.key = its
            moved = method.step(field, with_theta(own, theta), *noise)
            theta = masks.pick(block, moved.theta, theta)
            inner.append(without_theta(moved))
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


def without_theta(state: Any) -> Any:
    """A method's state without the parameters, which are kept once for all."""
    return eqx.tree_at(lambda s: s.theta, state, None)


def with_theta(state: Any, theta: Any) -> Any:
    return eqx.tree_at(lambda s: s.theta, state, theta, is_leaf=lambda leaf: leaf is None)


class MultirateState(eqx.Module):
    """State of :class:`Multirate`: θ, and the momentum p in units of ∇L; None without momentum."""

    theta: Any
    momentum: Any = None


class Multirate(Method):
    """Gradient descent with a rate for each block of parameters. One step is one macro step, of time η.

        p_S ← μ p_S + ∇_S ℓ(θ; ξ₁)
        k times:   p_F ← μ p_F + ∇_F ℓ(θ; ξⱼ)
                   θ_F ← θ_F − (η/k) p_F
                   θ_S ← θ_S − (η/k) p_S           (the slow block drifts along a line)

    With any number of rates rᵢ, K = max rᵢ: in the micro steps j = 0 … K − 1 the blocks whose turn it is, those for
    which K/rᵢ divides j, renew pᵢ at one and the same θ, and then all blocks move by −(η/K) pᵢ.

    With all rates 1 it is :class:`flatdyn.GD` with its heavy ball. Each micro step has its own minibatch; the slow
    and the first fast gradient share theirs, so that one pass gives both. Where the masks are True or False the
    gradient of a block is computed only when it is its turn: on a deep network whose last layer is fast, most of the
    backward passes are left out. The K micro steps are written out in the compiled program: fine up to about 20, in
    symbols up to about 10 (`stability.multipliers` gives the numbers beyond).

        Multirate(0.5, masks.named(params, "head"), k=5)                   the head fast, the rest slow
        Multirate(0.5, masks.random(params, 100, key), k=5)                a random subset fast, at no saving
        Multirate(0.5, blocks=masks.each(params), rates=(1, 5, 20))        a rate for each leaf

    Args:
        lr: η > 0, the time of a macro step, in inverse curvature
        fast: mask of the fast block; the slow one is the rest
        k: how many steps the fast block takes in one of the slow, ≥ 1
        momentum: μ in [0, 1), per renewal of p; a number, or one for each block (slow before fast). With the number 0
            no p is kept between macro steps
        blocks: instead of `fast` and `k`, masks that together select every parameter once
        rates: one for each of the blocks, ≥ 1, each a divisor of the largest
    Raises:
        ValueError: if a number is out of range, `fast` selects nothing or everything, blocks overlap or leave out a
            parameter, or a rate does not divide the largest
    References:
        Vlaar and Leimkuhler, arXiv 2106.10771, Algorithm 1.

    In the authors' released program k − 1 of k minibatches move, and its lr is that of one move: it is this with
    η = (k − 1) lr, where Algorithm 1 has η/k for a move. Its slow gradient has a minibatch of its own, which Algorithm
    1 leaves open, and its momenta start at ∇L, which then counts twice.
    """

    lr: Any = hyperparameter()
    momentum: tuple
    blocks: tuple
    rates: tuple[int, ...] = eqx.field(static=True)
    inertial: bool = eqx.field(static=True)

    def __init__(
        self, lr: Any, fast: Any = None, k: int = 5, momentum: Any = 0.0, *, blocks: Any = None, rates: Any = None
    ):
        if (fast is None) == (blocks is None) or (blocks is None) != (rates is None):
            raise ValueError("give either fast, the mask of the fast block, and k; or both blocks and rates")
        if blocks is None:
            blocks, rates = (masks.complement(fast), fast), (1, checks.count("k", k, at_least=1, at_most=_MOST_MICRO))
        self.lr = checks.real(lr)
        self.blocks = tuple(
            masks.settled(one, "blocks", needed=True) for one in checks.sequence("blocks", blocks, "masks")
        )
        rates = checks.sequence("rates", rates, "whole numbers")
        self.rates = tuple(checks.count("rates", rate, at_least=1, at_most=_MOST_MICRO) for rate in rates)
        each = tuple(momentum) if isinstance(momentum, tuple | list) else (momentum,) * len(self.rates)
        self.momentum = tuple(checks.real(one) for one in each)
        # Whether p is kept is part of the state's shape, so it is settled here, from the literal 0.
        self.inertial = not all(isinstance(one, int | float) and one == 0 for one in self.momentum)

    def __check_init__(self):
        checks.number("lr", self.lr, above=0)
        for one in self.momentum:
            checks.number("momentum", one, at_least=0, below=1)
        if not len(self.rates) == len(self.momentum) == len(self.blocks) >= 1:
            numbers = f"{len(self.rates)} and {len(self.momentum)} for {len(self.blocks)} blocks"
            raise ValueError(f"rates and momentum must hold one value for each block, got {numbers}")
        odd = [rate for rate in self.rates if self.samples % rate]
        if odd:
            raise ValueError(f"every rate must divide the largest, {self.samples}, got {odd[0]}: take another for it")

    def single(self):
        super().single()
        for one in self.momentum:
            check_single("momentum", one)

    @property
    def samples(self):
        return max(self.rates)

    def check(self, theta):
        check_partition(self.blocks, theta)

    def init(self, theta):
        return MultirateState(theta, 0 * theta if self.inertial else None)

    def step(self, grad, state):
        theta, momentum, micro_steps = state.theta, state.momentum, self.samples
        for j, field in enumerate(samples_of(grad, micro_steps)[:micro_steps]):
            momentum = self._renewed(momentum, field(theta), j)
            theta = theta - self.lr / micro_steps * momentum
        return MultirateState(theta, momentum if self.inertial else None)

    def _renewed(self, momentum: Any, g: Any, j: int) -> Any:
        """p in micro step j: new where it is a block's turn."""
        if momentum is None:
            return g  # the first micro step, in which it is every block's turn
        for mu, block, rate in zip(self.momentum, self.blocks, self.rates, strict=True):
            if j * rate % self.samples == 0:
                momentum = masks.pick(block, mu * momentum + g if self.inertial else g, momentum)
        return momentum
