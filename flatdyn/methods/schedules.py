"""Numbers of a method that change as training goes on: the step size above all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.methods.base import Method, Wrapper, hyperparameter


class ScheduledState(eqx.Module):
    """State of :class:`Scheduled`.

    Attributes:
        inner: the state of the method
        count: how many steps were taken
    """

    inner: Any
    count: jax.Array

    @property
    def theta(self):
        """Parameters θ, those of the method."""
        return self.inner.theta


class Scheduled(Wrapper):
    """A method whose step size, or any other of its numbers, changes from step to step.

        step k = 0, 1, …  is taken with  ηₖ = η f(k),  and with  ρₖ = ρ g(k)  for rho=g

    f is a factor, as in optax.scale_by_schedule, so any schedule of optax is taken as it is. One that gives step sizes
    themselves goes with lr = 1:

        Scheduled(SAM(0.1, rho), optax.cosine_decay_schedule(1.0, 500))                               from 0.1 to 0
        Scheduled(SAM(1.0, rho), optax.warmup_cosine_decay_schedule(0.0, 0.1, 50, 500))      from 0 to 0.1, and to 0
        Scheduled(SAM(0.1, 0.05), f, rho=f)                                            a radius that falls with the step

    What a smaller step size does to a velocity is a convention of the method. It acts on new gradients alone, and
    leaves what was gathered before, if the velocity is a displacement, v⁺ = μ v − ηₖ g (units="displacement", the
    default: Keras). PyTorch and optax keep gradients and scale all of it, θ⁺ = θ − ηₖ b⁺: units="gradient" of the
    method. For a constant step it is the same; a step that drops moves the two far apart.

    What asks where steps lead in the end (multipliers, fixed points, stationary laws) sees the numbers of a late step,
    past warm-ups and decays; of a schedule that goes round there is no such step, and it is refused.

    Args:
        method: has the numbers that change; inside of it they may be those of another one, as of `Averaged(SAM(…))`
        factor: f, of the step size lr: from the number of steps taken to a number. A schedule of optax, or any JAX
            function. Processes that share one schedule share a compiled program; a schedule that is made anew is
            compiled anew, but for numbers of a `jax.tree_util.Partial(f, numbers)`
        schedules: the same for other numbers, by their names: rho, momentum, weight_decay, temperature, …
    Raises:
        TypeError: if `method` has no such number, or a schedule is not a function
        ValueError: if a schedule does not return one real number, the number that it multiplies is a literal 0 which
            the method leaves out, or there is no schedule
    """

    factor: Callable | None = None
    schedules: dict[str, Callable] | None = None

    def __init__(self, method: Method, factor: Callable | None = None, **schedules: Callable):
        self.method, self.factor, self.schedules = method, factor, schedules or None

    def __check_init__(self):
        if self.factor is not None and "lr" in (self.schedules or {}):
            raise ValueError("lr has two schedules, factor and lr: give one of them")
        if not self._factors:
            raise ValueError("Scheduled needs a schedule: a factor of the step size, or of another number by its name")
        for name, factor in self._factors.items():
            check_schedule("factor" if factor is self.factor else name, factor, "the number of steps taken")
            holder = _holder(self.method, name)
            if holder is None and (name == "lr" or not isinstance(self.method, Method)):
                raise TypeError(f"Scheduled needs a method with a step size lr of its own, got {self.method!r}")
            if holder is None:
                raise TypeError(f"{name} is no number of the method, whose numbers are {_numbers(self.method)}")
            if name in getattr(holder, "absent", ()):
                raise ValueError(f"{name} is 0, which leaves its term out, and stays 0 times {name}: give another")

    @property
    def _factors(self) -> dict[str, Callable]:
        """The schedule of each number."""
        return ({} if self.factor is None else {"lr": self.factor}) | (self.schedules or {})

    def init(self, theta):
        if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(theta)):
            raise TypeError("the step size changes from step to step")
        return ScheduledState(self.method.init(theta), jnp.asarray(0))

    def seasoned(self, state):
        return dataclasses.replace(super().seasoned(state), count=state.count + LATE)

    def cycles(self, state):
        return super().cycles(state) or not all(settled(factor, state.count) for factor in self._factors.values())

    def step(self, grad, state, *normals):
        now = self.method
        for name, factor in self._factors.items():
            value = factor(state.count)
            scaled = jax.tree.map(lambda number, value=value: number * value, getattr(_holder(now, name), name))
            now = eqx.tree_at(lambda method, name=name: getattr(_holder(method, name), name), now, scaled)
        return ScheduledState(now.step(grad, state.inner, *normals), state.count + 1)


LATE = 10**6  # steps, updates: past what only first ones do
_SETTLED = 1e-3  # what a schedule that has come to its end may still change by, as a share of itself


def settled(schedule: Callable, count: Any) -> bool:
    """Whether a schedule has come to its end at a count: it hardly changes over the next few."""
    values = np.array([schedule(count + more) for more in range(8)], float)
    return bool(np.ptp(values) <= _SETTLED * np.abs(values).max())


def check_schedule(name: str, schedule: Any, of: str) -> None:
    """Raise unless a schedule is a JAX function of a whole number that returns one real number."""
    result = checks.traced(name, schedule, jax.ShapeDtypeStruct((), jnp.int32), what=f"a function of {of}")
    one = jax.tree.structure(result) == jax.tree.structure(0) and not jnp.shape(result)
    if not one or not any(jnp.issubdtype(result.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise ValueError(f"{name} must return one real number, got {result}")


def _holder(method: Method, name: str) -> Method | None:
    """The method, or the one inside of it, that has a number of this name."""
    if not isinstance(method, Method):
        return None
    fields = {field.name for field in dataclasses.fields(method) if not field.metadata.get("static")}
    if name in fields and _is_number(getattr(method, name)):
        return method
    return _holder(method.method, name) if isinstance(method, Wrapper) else None


def _is_number(value: Any) -> bool:
    """Whether a field holds numbers: neither a word, nor True or False, nor a method or function."""
    leaves = jax.tree.leaves(value)
    return bool(leaves) and not any(isinstance(leaf, str | bool) or callable(leaf) for leaf in leaves)


def _numbers(method: Method) -> str:
    own = [field.name for field in dataclasses.fields(method) if "hyperparameter" in field.metadata]
    inside = [_numbers(method.method)] if isinstance(method, Wrapper) else []
    return ", ".join(own + inside)


class Cosine(eqx.Module):
    """The old name of `optax.cosine_decay_schedule(1.0, steps)`, for one release: from 1 to 0 along half a cosine.

        f(k) = ½ (1 + cos(π min(k/n, 1)))

    Args:
        steps: n > 0
    Raises:
        ValueError: if `steps` is not above zero
    References:
        Loshchilov and Hutter, arXiv 1608.03983, eq. 5, without restarts.
    """

    steps: Any = hyperparameter()

    def __check_init__(self):
        checks.number("steps", self.steps, above=0, one=True)

    def __call__(self, count: jax.Array) -> jax.Array:
        return (1 + jnp.cos(jnp.pi * jnp.minimum(count / jnp.asarray(self.steps), 1))) / 2
