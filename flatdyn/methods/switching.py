"""Methods one after the other in time: first SGD, then SAM."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import sympy

from flatdyn.core import checks
from flatdyn.methods.base import FirstOrder, Method, State
from flatdyn.methods.partitioned import with_theta, without_theta

MEMORIES = ("keep", "reset")


class SwitchedState(eqx.Module):
    """State of :class:`Switched`.

    Attributes:
        theta: parameters θ
        inner: the state of each method less its parameters; zero but for the method whose turn it is
        count: how many steps were taken
    """

    theta: Any
    inner: tuple
    count: jax.Array


class Switched(Method):
    """One method for some steps, then another, and so on.

        Switched((GD(0.1), 500), (SAM(0.1, 0.05), None))              500 steps of GD, then SAM for ever

    What a method hands over to the next one, with memory="keep": the velocity, if both have one, in the units of the
    next, b = −v/η or v = −η b with the step sizes of the two; all of the state if both states are alike, as of two
    optax optimisers of one kind. What the next has no place for is lost, and where nothing is handed over it starts at
    rest. With memory="reset" it starts at rest always. The step is a choice between the methods; where runs that are
    side by side make it together, all of the methods are computed, as long as the run goes.

    Args:
        stages: pairs of a method and the number of its steps; None for the last one
        memory: "keep" or "reset"
    Raises:
        ValueError: if there are no stages, a number of steps is none, but for the last, a method has a constraint, or
            memory is to be kept between states that nothing is known of
        TypeError: if one is not a method
    """

    methods: tuple[Method, ...]
    lengths: tuple
    memory: str = eqx.field(static=True)

    def __init__(self, *stages: Any, memory: str = "keep"):
        stages = [checks.sequence("stages", stage, "a method and the number of its steps") for stage in stages]
        if not stages or any(len(stage) != 2 for stage in stages):
            raise ValueError(
                "stages must be pairs of a method and the number of its steps, such as (fd.GD(0.1), 500), "
                f"(fd.SAM(0.1, 0.05), None); got {checks.shown(tuple(map(tuple, stages)))}"
            )
        self.methods, lengths = zip(*stages, strict=True)
        if lengths[-1] is not None:
            raise ValueError(f"the last method goes on for ever: give it None steps, got {checks.shown(lengths[-1])}")
        self.lengths = tuple(_steps(length) for length in lengths[:-1])
        self.memory = checks.choice("memory", memory, MEMORIES)

    def __check_init__(self):
        for method in self.methods:
            checks.kind("stages", method, Method)
            if not method.starts_anywhere:
                raise ValueError(f"a method that is switched must start anywhere, and has a constraint: {method!r}")

    @property
    def draws(self):
        return max(method.draws for method in self.methods)

    @property
    def samples(self):
        return max(method.samples for method in self.methods)

    @property
    def jumps(self):
        return functools.reduce(lambda a, b: a | b, (method.jumps for method in self.methods))

    @property
    def may_jump(self):
        return any(method.may_jump for method in self.methods)

    @property
    def jumps_on_surfaces(self):
        return any(method.jumps_on_surfaces for method in self.methods)

    @property
    def period(self):
        return self.methods[-1].period

    def single(self):
        for method in self.methods:
            method.single()

    def check(self, theta):
        for method in self.methods:
            method.check(theta)
        if self.memory == "keep":
            states = [jax.eval_shape(method.init, theta) for method in self.methods]
            for pair in zip(itertools.pairwise(self.methods), itertools.pairwise(states), strict=True):
                _check_handed(*pair)

    def check_sample(self, theta, ascent, noise):
        for method in self.methods:
            method.check_sample(theta, ascent, noise)

    def keyed(self, form):
        return any(method.keyed(form) for method in self.methods)

    def init(self, theta):
        if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(theta)):
            raise TypeError("the method changes from step to step")
        return SwitchedState(theta, tuple(without_theta(one.init(theta)) for one in self.methods), jnp.asarray(0))

    def step(self, grad, state, *normals):
        ends = list(itertools.accumulate(jnp.asarray(length).astype(state.count.dtype) for length in self.lengths))

        def turn(number: int, state: SwitchedState) -> SwitchedState:
            method, inner = self.methods[number], list(jax.tree.map(_nothing, state.inner))
            own = with_theta(state.inner[number], state.theta)
            if number:
                before = with_theta(state.inner[number - 1], state.theta)
                begun = self._handed(number, before)
                first = state.count == ends[number - 1]
                own = jax.tree.map(lambda new, old: jnp.where(first, new, old), begun, own)
            moved = method.step(grad, own, *normals[: method.draws])
            moved = jax.tree.map(_typed, moved, own)
            inner[number] = without_theta(moved)
            return SwitchedState(moved.theta, tuple(inner), state.count + 1)

        if not ends:
            return turn(0, state)
        stage = sum((state.count >= end).astype(jnp.int32) for end in ends)
        turns = [functools.partial(turn, number) for number in range(len(self.methods))]
        return jax.lax.switch(stage, turns, state)

    def _handed(self, number: int, before: Any) -> Any:
        """The state with which a method begins, from the last one of the method before."""
        method, new = self.methods[number], self.methods[number].init(before.theta)
        if self.memory == "reset":
            return new
        old = self.methods[number - 1]
        same = getattr(method, "units", None) == getattr(old, "units", None)
        if type(new) is not State and _alike(before, new) and same:
            return before
        if _velocities(new, before):
            velocity = _in_units(method, old, before.velocity)
            return eqx.tree_at(lambda state: state.velocity, method.seasoned(new), velocity)
        return new

    def seasoned(self, state):
        inner = tuple(
            without_theta(one.seasoned(with_theta(own, state.theta)))
            for one, own in zip(self.methods, state.inner, strict=True)
        )
        return SwitchedState(state.theta, inner, state.count + int(sum(self.lengths)) + 1)

    def cycles(self, state):
        return self.methods[-1].cycles(with_theta(state.inner[-1], state.theta))

    def possible(self, state):
        return functools.reduce(
            lambda a, b: a & b,
            [one.possible(with_theta(own, state.theta)) for one, own in zip(self.methods, state.inner, strict=True)],
        )


def _nothing(leaf: Any) -> Any:
    return jnp.zeros_like(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf


def _typed(new: Any, old: Any) -> Any:
    return new.astype(old.dtype) if jnp.issubdtype(old.dtype, jnp.inexact) else new


def _steps(length: Any) -> Any:
    """A number of steps as a float, so that others run the same program."""
    if checks.is_traced(length):
        return length
    if length is None:
        raise ValueError("stages: only the last method goes on for ever; give the others a number of steps, got None")
    return float(checks.count("the steps of stages", length, at_least=1, at_most=2**31 - 1))


def _velocities(*states: Any) -> bool:
    return all(isinstance(state, State) and state.velocity is not None for state in states)


def _in_units(method: FirstOrder, before: FirstOrder, velocity: Any) -> Any:
    if method.units == before.units:
        return velocity
    return -method.lr * velocity if before.units == "gradient" else velocity * (-1 / before.lr)


def _alike(state: Any, other: Any) -> bool:
    if jax.tree.structure(state) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
    return all((one.shape, one.dtype) == (two.shape, two.dtype) for one, two in pairs)


def _check_handed(methods: tuple[Method, Method], states: tuple[Any, Any]) -> None:
    """Raise ValueError if it is not known what one method hands over to the next."""
    plain = all(isinstance(method, FirstOrder) for method in methods) and all(isinstance(one, State) for one in states)
    memoryless = not jax.tree.leaves(without_theta(states[1]))
    if not (plain or memoryless or _alike(*states)):
        raise ValueError(
            f"it is not known what {methods[0]!r} hands over to {methods[1]!r}, whose states are unlike: "
            'take memory="reset", and the second starts at rest'
        )
