"""Averages of the iterates: SWA around gradient descent, WASAM around SAM, around any other method alike."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.methods.base import Wrapper, hyperparameter
from flatdyn.methods.schedules import LATE, check_schedule, settled


class AveragedState(eqx.Module):
    """State of :class:`Averaged`.

    Attributes:
        theta: the average a, which is where a run says it is
        inner: the state of the method; its iterate is inner.theta
        count: how many steps were taken
    """

    theta: Any
    inner: Any
    count: jax.Array


class Averaged(Wrapper):
    """A method, and along with it the average of its iterates: SWA if it is GD, WASAM if it is SAM.

        aₖ = (θ_s + θ_{s+e} + … + θ_{s+(n−1)e}) / n,   s + (n − 1) e ≤ k      uniform
        a ← d a + (1 − d) θₖ   at k = s + e, s + 2e, …;   a = θ_s at k = s    exponential

    with s = start, e = every, d = decay, and θ₀ the starting point. Until step s the average is the iterate.

    Packages differ in the first update, n = 1 at step s + e. With `copy_first` it copies the iterate, and what came
    before does not count: start=0 is then PyTorch's `AveragedModel`, Lightning's and Keras' averages, updated every e
    steps; timm's and torch_ema's begin with the initial weights. A decay that warms up is a function of n,

        decay=lambda n: jnp.minimum(0.999, (1 + n) / (10 + n))            torch_ema
        start=101, every=10, decay=lambda n: 1 - (1 + 10 * n) ** (-2 / 3)     ema_pytorch, from its 101st call on

    and `momentum` of Ignite and MMEngine is the share of the new weights, 1 − d. Lightning's StochasticWeightAveraging
    of N epochs of E steps from epoch s on is start=(s − 1) E, every=E, read at step (N − 1) E: it leaves the last out.

    The method itself never sees the average: its gradients are those at its iterates. A run's positions are averages;
    `observe=lambda state: landscape.array(state.inner.theta)` of :func:`flatdyn.simulate` keeps the iterates too.

    On a curved set (a constraint, a valley) the average of points of the set lies off it.

    Args:
        method: whose iterates are averaged; it may be random itself
        start: s ≥ 0, the first step that counts
        every: e ≥ 1, steps between those that count
        decay: d in [0, 1) for an exponential average, or a JAX function of n that gives it; None for a uniform one
        copy_first: whether the first update copies the iterate
    Raises:
        ValueError: if start or every is not a whole number, or a number is out of range
        TypeError: if `method` is not a method, or a decay not a number or function
    References:
        SWA: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, arXiv 1803.05407. WASAM: Kaddour, Liu, Silva, Kusner,
        arXiv 2202.00661. Uniform averages: Polyak and Juditsky, SIAM J. Control Optim. 30, 838 (1992).
    """

    start: Any = hyperparameter(default=0.0)
    every: Any = hyperparameter(default=1.0)
    decay: Any = hyperparameter(default=None)
    copy_first: bool = eqx.field(static=True, kw_only=True, default=False)

    def __check_init__(self):
        _check_whole("start", self.start, 0)
        _check_whole("every", self.every, 1)
        if callable(self.decay):
            check_schedule("decay", self.decay, "the number of the update")
        elif self.decay is not None:
            checks.number("decay", self.decay, at_least=0, below=1)

    def init(self, theta):
        if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(theta)):
            raise TypeError("the weights of an average change from step to step")
        return AveragedState(theta, self.method.init(theta), jnp.asarray(0))

    def seasoned(self, state):
        return dataclasses.replace(super().seasoned(state), count=state.count + int(self.start) + LATE)

    def cycles(self, state):
        # The share of a uniform average falls for ever; between updates there is none
        if super().cycles(state) or self.decay is None or self.every != 1:
            return True
        return callable(self.decay) and not settled(self.decay, state.count)

    def step(self, grad, state, *normals):
        inner = self.method.step(grad, state.inner, *normals)
        count = state.count + 1
        share = self._share(count)

        def moved(average, iterate):
            # share 1 replaces the average: a + (θ − a) would be θ but for rounding
            return jnp.where(share == 1, iterate, average + share.astype(iterate.dtype) * (iterate - average))

        return AveragedState(jax.tree.map(moved, state.theta, inner.theta), inner, count)

    def _share(self, count: jax.Array) -> jax.Array:
        """What the iterate after `count` steps contributes to the average."""
        since = count - jnp.asarray(self.start).astype(count.dtype)
        every = jnp.asarray(self.every).astype(count.dtype)
        update = since // every
        if self.decay is None:
            share = 1 / (update + (0 if self.copy_first else 1))
        else:
            share = jnp.asarray(1 - (self.decay(update) if callable(self.decay) else self.decay))
        if self.copy_first:
            share = jnp.where(update <= 1, 1.0, share)
        return jnp.where(since <= 0, 1.0, jnp.where(since % every == 0, share, 0.0))


def _check_whole(name: str, value: Any, at_least: int) -> None:
    checks.number(name, value)
    if checks.is_traced(value):
        return
    entries = checks.entries(name, value)
    wrong = (entries != np.floor(entries)) | (entries < at_least)
    if wrong.any():
        raise ValueError(f"{name} must be a whole number >= {at_least}, got {value}")
