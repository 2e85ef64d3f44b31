"""What is measured of runs now and then: functions of a state, and observers, which may remember what they found.

`observe` of :func:`flatdyn.simulate` and `watch` of `networks.train` take them by name. A program measures all of them
at once and keeps one row of numbers; :meth:`Watch.layout` says which columns are whose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks, randomness
from flatdyn.core.curves import Layout
from flatdyn.processes import Extended, Iteration, Process
from flatdyn.runs.stepping import Carry


class Watched(NamedTuple):
    """What a batch of runs carries: the runs, and what is remembered of each for its next measurement."""

    runs: Carry
    memory: tuple


class Moment(eqx.Module):
    """A run where it is measured.

    Attributes:
        process: what moves
        state: of the run, the full one
        seed: the mixed words of the key of the call; None if the process is not random
        run: number of the run
        step: steps it has taken
    """

    process: Process
    state: Any
    seed: Any
    run: jax.Array
    step: jax.Array

    @property
    def iteration(self) -> Process:
        """The process without what a run has of its own beside θ, such as hyperparameters."""
        return _within(self.process)

    @property
    def own(self) -> Any:
        """The state of :attr:`iteration`."""
        state, process = self.state, self.process
        while isinstance(process, Extended):
            state, process = state.inner, process.process
        return state

    @property
    def theta(self) -> jax.Array:
        """θ, shape (dim,), where the run says that it is."""
        return self.iteration.position(self.own)

    def next(self) -> Moment:
        """The same run a step later, by the random numbers which that step will have."""
        key = randomness.run_key(self.seed, self.run, self.step) if self.process.random else None
        return Moment(self.process, self.process.step(self.state, key), self.seed, self.run, self.step + 1)


class Observer(eqx.Module):
    """The contract of what is measured: values of a moment, and what is remembered for the next one.

    A measurement that fails gives NaN, which is a gap in the curve, and ends nothing.
    """

    made_by = "flatdyn.curvature.TopEigenvalues(3), or another of its observers"

    def check(self, process: Process, dtype: Any) -> None:
        """Raise ValueError or TypeError if this can't be measured of a process, in a precision."""

    def begin(self, moment: Moment) -> Any:
        """What is remembered before the first measurement: a tree of arrays."""
        return ()

    def measure(self, moment: Moment, memory: Any) -> tuple[Any, Any]:
        """An array, or several by name ("" for the one that has the observer's own), and what is remembered then."""
        raise NotImplementedError


class Watch(eqx.Module):
    """What is measured of each run, by name.

    Attributes:
        names: of the parts; None for one function alone, whose value is kept as it is
        parts: observers, and functions of a state
    """

    names: tuple[str, ...] | None = eqx.field(static=True)
    parts: tuple

    def begin(self, moment: Moment) -> tuple:
        """What the parts remember before the first measurement."""
        return tuple(part.begin(moment) if isinstance(part, Observer) else () for part in self.parts)

    def measure(self, moment: Moment, memory: tuple) -> tuple[Any, tuple]:
        """One row of all values, shape (columns,), and what is remembered; of one function alone its value."""
        if self.names is None:
            return self.parts[0](moment.state), memory
        values, memory = self._all(moment, memory)
        kind = jnp.result_type(float)
        return jnp.concatenate([jnp.ravel(jnp.asarray(one, kind)) for one in values.values()]), memory

    def layout(self, process: Process, theta: Any) -> Layout:
        """Names of the values and their shapes, in the order of the columns."""
        names: list[str] = []

        def shapes(theta):
            values, _ = self._all(*self._first(process, theta))
            names[:] = values  # a tree would sort them
            return list(values.values())

        return {name: value.shape for value, name in zip(jax.eval_shape(shapes, theta), names, strict=True)}

    def shape(self, process: Process, theta: Any) -> Any:
        """Shape and type of what is kept of one measurement."""
        if self.names is None:
            state = jax.eval_shape(process.init, theta)
            seen = checks.traced("observe", self.parts[0], state, what="a function of the state of a run")
            if not isinstance(seen, jax.ShapeDtypeStruct):
                raise ValueError(f"observe must give one array of a state, got {seen}")
            return seen
        return jax.eval_shape(lambda theta: self.once(process, theta), theta)

    def once(self, process: Process, theta: Any) -> Any:
        """What is measured of a run that starts at θ, for compiled code."""
        return self.measure(*self._first(process, theta))[0]

    def _first(self, process: Process, theta: Any) -> tuple[Moment, tuple]:
        count = jnp.zeros((), jnp.uint32)
        seed = jnp.zeros(2, jnp.uint32) if process.random else None
        moment = Moment(process, process.init(theta), seed, count, count.astype(jnp.int32))
        return moment, self.begin(moment)

    def _all(self, moment: Moment, memory: tuple) -> tuple[dict[str, Any], tuple]:
        values, kept = {}, []
        for name, part, own in zip(self.names, self.parts, memory, strict=True):
            value, own = part.measure(moment, own) if isinstance(part, Observer) else (part(moment.state), own)
            for word, array in (value if isinstance(value, dict) else {"": value}).items():
                values[f"{name}.{word}" if word else name] = array
            kept.append(own)
        return values, tuple(kept)


def watch(name: str, given: Any, process: Process, dtype: Any) -> Watch | None:
    """What a user asks to be measured, checked.

    Args:
        name: of the argument
        given: None, a function of a state, or a mapping from names to functions and observers
        process, dtype: of the runs
    Raises:
        TypeError, ValueError: if it is something else, or one of them can't be measured of the process
    """
    if given is None:
        return None
    if isinstance(given, Observer):
        raise TypeError(f"{name} must say what to call it: give {name}={{'a name': {type(given).__name__}(...)}}")
    if not isinstance(given, Mapping):
        return Watch(None, (checks.function(name, given, "a function of the state of a run, or a mapping of names"),))
    given = checks.mapping(name, given, "name -> an observer, or a function of the state of a run")
    if not given:
        return None
    for word, part in given.items():
        checks.text(f"a name in {name}", word)
        if isinstance(part, Observer):
            part.check(process, dtype)
            continue
        checks.function(f"{name}[{word!r}]", part, "an observer, or a function of the state of a run")
        state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((process.dim,), dtype))
        value = checks.traced(f"{name}[{word!r}]", part, state, what="a function of the state of a run")
        if not isinstance(value, jax.ShapeDtypeStruct):
            raise ValueError(f"{name}[{word!r}] must give one array of a state, got {value}")
    return Watch(tuple(given), tuple(given.values()))


def _within(process: Process) -> Process:
    while isinstance(process, Extended):
        process = process.process
    return process


def on_a_landscape(process: Process) -> Iteration:
    """The iteration that moves a run.

    Raises:
        TypeError: if it is another process
    """
    process = _within(process)
    if not isinstance(process, Iteration):
        raise TypeError(f"this is measured of a method on a landscape: give its landscape, got {process!r}")
    return process


def begun(watching: Watch | None, process: Process, carry: Any, seed: Any, numbers: jax.Array) -> tuple:
    """What is remembered of each run before the first measurement; for compiled code."""
    if watching is None:
        return ()

    def one(state, taken, run):
        return watching.begin(Moment(process, state, seed, run, taken))

    return jax.vmap(one)(carry.state, carry.taken, numbers)


def measured(row: tuple, watching: Watch, process: Process, seed: Any) -> tuple:
    """What is watched of one run, (state, taken, number, memory), and what is remembered of it."""
    state, taken, run, memory = row
    return watching.measure(Moment(process, state, seed, run, taken), memory)
