"""Treat hyperparameters as constant state variables, so that one compiled program runs many settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.processes.base import Process


class ExtendedState(NamedTuple):
    """State of the process, and its hyperparameters, shape (names,)."""

    inner: Any
    values: jax.Array


class Extended(Process):
    """A process over its extended phase space: some of its numbers are further coordinates, which stay constant.

        z = (θ, p),   θ⁺ = f(θ; p, ξ),   p⁺ = p

    So runs with different ρ, η, μ, … advance side by side in one program, spread over all devices, wherever a process
    can go: `simulate`, `escape_times`, basins over a plane of θ and ρ. A sweep asks one cell after the other instead;
    that is as fast where a cell has work enough, and it alone can vary what changes the program: the batch size, the
    kind of method, momentum 0 against no velocity at all.

        many = Extended(Iteration(L, SAM(lr=0.1, rho=0.1), noise), ["rho", "lr"])
        simulate(many, many.starts(theta0, rho=[0.1, 0.2, 0.5], lr=0.1), steps, key)

    Args:
        process: with any values for the numbers that will vary
        names: fields of its method ("rho"), or of the process by their path ("noise.scale", "method.inner.rho")
    Raises:
        ValueError: if there is no such number, a name is there twice, or one that the method leaves out where it is 0
            (momentum, weight_decay, dampening) is 0
    """

    process: Process
    names: Sequence[str] = eqx.field(
        converter=lambda names: tuple(checks.sequence("names", names, "texts")), static=True
    )

    def __check_init__(self):
        checks.kind("process", self.process, Process)
        for name in self.names:
            checks.text("names", name)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"names must hold at least one name, and none twice, got {list(self.names)}")
        for name in self.names:
            value = _value_of(self.process, name)
            if (
                isinstance(value, bool)
                or callable(value)
                or (not isinstance(value, (int, float)) and np.shape(value) != ())
            ):
                raise ValueError(f"{name} must be one number to vary, it is {value!r}")
            holder = _holder(self.process, name)
            number = name.split(".")[-1]
            if number in getattr(holder, "absent", ()):
                term = "the velocity" if number == "momentum" else "its term"
                raise ValueError(f"{number} cannot vary from 0, which leaves {term} out: give the process another")

    @property
    def dim(self) -> int:
        return self.process.dim + len(self.names)

    @property
    def random(self) -> bool:
        return self.process.random

    @property
    def period(self) -> int:
        return self.process.period

    def starts(self, theta: Any, **values: Any) -> jax.Array:
        """Starting points (θ, p): every name has a number, or one for each run.

        Args:
            theta: shape (dim of the process,), or one row per run
            values: by name; a path's points are written as two underscores, noise__scale=0.1
        Returns:
            array (runs, dim), or (dim,) if nothing has several values
        Raises:
            ValueError: if a name is missing or unknown, a value is out of range, or lengths differ
        """
        given = {name.replace("__", "."): value for name, value in values.items()}
        if set(given) != set(self.names):
            raise ValueError(f"values must be given for {', '.join(self.names)}, got {', '.join(given) or 'none'}")
        theta = checks.points("theta", theta, self.process.dim)
        given = {name: _row(name, given[name]) for name in self.names}
        columns = [jnp.asarray(value, theta.dtype) for value in given.values()]
        lengths = {*map(len, filter(jnp.ndim, columns)), *theta.shape[:-1]}
        if len(lengths) > 1 or any(column.ndim > 1 for column in columns):
            raise ValueError(f"theta and values must be one, or as many as runs, got lengths {sorted(lengths)}")
        self._check_range(given)
        shape = (*lengths,)
        traced = any(map(checks.is_traced, (theta, *columns)))
        xp = jnp if traced else np  # a program for each shape is not worth it
        parts = [xp.broadcast_to(column, shape)[..., None] for column in columns]
        z = xp.concatenate([xp.broadcast_to(theta, (*shape, theta.shape[-1])), *parts], axis=-1)
        return z if traced else precision.on_device(z)

    def theta(self, z: jax.Array) -> jax.Array:
        """The coordinates of the process itself: θ of z, shape (..., dim)."""
        z = checks.coordinates("z", z, self.dim)
        return z[..., : self.process.dim]

    def inside(self, region: Callable) -> Callable:
        """A region of θ as a region of z, for `escape_times`."""
        checks.function("region", region, "a function from θ (dim,) to a boolean, or a region")
        return _Within(region, self.process.dim)

    def init(self, theta):
        inner, values = jnp.split(theta, [self.process.dim])
        return ExtendedState(self._with(values).init(inner), values)

    def step(self, state, key=None):
        return ExtendedState(self._with(state.values).step(state.inner, key), state.values)

    def position(self, state):
        return jnp.concatenate([self.process.position(state.inner), state.values])

    def possible(self, state):
        return self._with(state.values).possible(state.inner)

    def check(self, starts):
        self.process.check(precision.on_device(np.asarray(starts)[:, : self.process.dim]))

    def _with(self, values: jax.Array) -> Process:
        process = self.process
        for name, value in zip(self.names, values, strict=True):
            process = eqx.tree_at(lambda whole, name=name: _value_of(whole, name), process, value)
        return process

    def _check_range(self, given: dict[str, Any]) -> None:
        """Build the method anew with the smallest and the largest value of each number: it says what is wrong."""
        for name, values in given.items():
            holder, field = _holder(self.process, name), name.split(".")[-1]
            if checks.is_traced(values):
                continue
            for value in (np.min(values), np.max(values)):
                changed = eqx.tree_at(lambda whole, field=field: getattr(whole, field), holder, float(value))
                for kind in type(changed).__mro__:
                    if "__check_init__" in vars(kind):
                        vars(kind)["__check_init__"](changed)


class _Within(eqx.Module):
    """A region of the first coordinates."""

    region: Callable
    dim: int = eqx.field(static=True)

    def __call__(self, z):
        return self.region(z[: self.dim])

    def score(self, z):
        return self.region.score(z[: self.dim])


def _holder(process: Process, name: str) -> Any:
    """What has the last field of a path: the method for a bare name that it has, else from the process down."""
    *path, field = name.split(".")
    holder = process
    if not path and not hasattr(process, field):
        path = ["method"]
    for part in path:
        holder = getattr(holder, part, None)
    if not hasattr(holder, field):
        raise ValueError(
            f"names must be of numbers that there are, but the process {process!r} has no number {name}: "
            "name a field of its method, or a path such as noise.scale"
        )
    return holder


def _row(name: str, value: Any) -> Any:
    """One number, or one for each run; values traced by JAX pass."""
    if checks.is_traced(value):
        return value
    numbers = checks.numbers(name, value, ndim=(0, 1), at_least=1)
    checks.in_range(name, numbers)
    return numbers


def _value_of(process: Process, name: str) -> Any:
    return getattr(_holder(process, name), name.split(".")[-1])
