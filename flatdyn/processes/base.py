"""The narrow waist: everything that moves is a process, and every question is asked of a process.

    process.init(theta) -> state            theta: coordinates, shape (dim,)
    process.step(state, key) -> state       one step, one run; key is that run's own at that step
    process.position(state) -> theta        where the state is, shape (dim,)

:class:`Iteration` (landscape × noise × method) is one; :class:`Map` makes one of your own function; or subclass
:class:`Process` and implement `init` and `step` on any state you like. Batching, chunks, devices, keys and
runs that diverge are left to :mod:`flatdyn.runs.ensembles`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn import noise
from flatdyn.core import checks, precision
from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import normals, split
from flatdyn.landscapes import Landscape
from flatdyn.methods.base import Method, State
from flatdyn.methods.fields import GradientField


class Process(eqx.Module):
    """A discrete-time dynamical system: a state and a step.

    Attributes:
        dim: number of coordinates of a position
        box: ((lower, upper), ...) in which it is interesting, or None
        random: whether `step` uses its key
        period: after how many steps the map repeats itself: 1, unless steps are counted
    """

    random = False
    period = 1
    made_by = "fd.Iteration(landscape, method)"

    def init(self, theta: jax.Array) -> Any:
        """The state at rest at θ, shape (dim,)."""
        raise NotImplementedError

    def step(self, state: Any, key: jax.Array | None = None) -> Any:
        """The next state."""
        raise NotImplementedError

    def position(self, state: Any) -> jax.Array:
        """The coordinates of a state, shape (dim,)."""
        raise NotImplementedError

    def beside(self, state: Any) -> Any:
        """What a state holds besides its position; all of it, if the process does not separate them."""
        return state

    def coordinates(self, state: Any) -> Any:
        """The numbers of a position in whatever tree the state holds them: the same, without bringing them together."""
        return self.position(state)

    def seasoned(self, state: Any) -> Any:
        """The same state past what only the first steps do, such as bias corrections."""
        return state

    def check(self, starts: jax.Array) -> None:
        """Raise ValueError if a run cannot start from these points, shape (runs, dim)."""

    def possible(self, state: Any) -> jax.Array | bool:
        """Whether the step that led to `state` could be taken; where not, the run stays where it was."""
        return True


def as_before(new: Any, old: Any) -> Any:
    """A state in the precision of the one before it, which numbers of yours in 64 bits would widen."""

    def kept(new, old):
        return new.astype(old.dtype) if jnp.issubdtype(old.dtype, jnp.inexact) else new

    return jax.tree.map(kept, new, old)


class OnLandscape(Process):
    """A process over a landscape: its coordinates, box and positions are the landscape's."""

    landscape: eqx.AbstractVar[Landscape]

    @property
    def dim(self) -> int:
        return self.landscape.dim

    @property
    def box(self):
        return self.landscape.box

    def position(self, state):
        return self.landscape.array(state.theta)

    def coordinates(self, state):
        own = type(self).position is OnLandscape.position
        return state.theta if own else self.position(state)

    def beside(self, state):
        if not dataclasses.is_dataclass(state):
            return state
        return [getattr(state, field.name) for field in dataclasses.fields(state) if field.name != "theta"]


class Remembering(eqx.Module):
    """The state of an iteration whose noise remembers: the method's own, and what the noise keeps of each stream.

    What the method's state has, such as `theta` and `velocity`, is there under the same name.
    """

    inner: Any
    memory: tuple

    def __getattr__(self, name):
        if name.startswith("__") or name in ("inner", "memory"):  # not there yet, while this is made or copied
            raise AttributeError(name)
        return getattr(self.inner, name)


ASCENTS = ("shared", "independent", "full")


class Iteration(OnLandscape):
    """A method on a landscape, step by step, under noise.

    Args:
        landscape: what is descended
        method: how a step is taken
        noise: how the gradient is sampled; exact if not given
        ascent: how the ascent of a SAM step sees its sample. "shared": the descent's own minibatch, as in the usual
            implementations; "independent": another one; "full": without noise. This changes escape times up to
            thirtyfold, and papers mean different ones.
    Raises:
        ValueError: if `ascent` is another word, or masks, blocks or constraints of the method do not fit the landscape
    """

    landscape: Landscape
    method: Method
    noise: noise.Noise = noise.Exact()
    ascent: str = eqx.field(static=True, default="shared")

    def __check_init__(self):
        checks.kind("landscape", self.landscape, Landscape)
        checks.kind("method", self.method, Method)
        checks.kind("noise", self.noise, noise.Noise)
        checks.choice("ascent", self.ascent, ASCENTS)
        self.noise.check(self.landscape)
        form = self.shapes()
        self.method.check(form)
        self.method.check_sample(form, self.ascent, self.noise)

    @property
    def random(self) -> bool:
        return self.noise.random or self.method.draws > 0 or self._keyed

    @property
    def period(self) -> int:
        return self.method.period

    def init(self, theta):
        state = self.method.init(self.landscape.vector(theta))
        return Remembering(state, (self.noise.init(self.landscape),) * self._streams) if self.noise.remembers else state

    def step(self, state, key=None):
        """One step. Without a key, a method's own noise is set to zero."""
        if self.noise.random and key is None:
            raise ValueError("the noise of this process is random: pass key=jax.random.key(0), or another seed")
        keyed = self._keyed and key is not None
        both = self.noise.random and (self.method.draws > 0 or keyed)
        of_noise, of_method = split(key) if both else (key, key)
        of_normals, of_method = split(of_method) if keyed and self.method.draws else (of_method, of_method)
        own = (state.theta,) * self.method.draws
        own = tuple(0 * like for like in own) if key is None else normals(of_normals, own) if own else ()
        remembers = self.noise.remembers
        drawn, memory = self._following(of_noise, state) if remembers else (self.draw(of_noise, state.theta), ())
        field = self.sample(drawn)
        field.key = of_method if keyed else None
        moved = self.method.step(field, state.inner if remembers else state, *own)
        return as_before(Remembering(moved, memory) if remembers else moved, state)

    @property
    def _keyed(self) -> bool:
        """Whether the method draws by itself, from a key."""
        return self.method.keyed(self.shapes)

    def shapes(self) -> Vector:
        """The vector of shapes of a position."""
        coordinates = jax.ShapeDtypeStruct((self.landscape.dim,), precision.floating())
        return jax.eval_shape(self.landscape.vector, coordinates)

    def beside(self, state):
        if isinstance(state, Remembering):
            return [super().beside(state.inner), state.memory]
        return super().beside(state)

    def seasoned(self, state):
        if isinstance(state, Remembering):
            return Remembering(self.method.seasoned(state.inner), state.memory)
        return self.method.seasoned(state)

    def check(self, starts):
        self.method.single()
        if self.method.starts_anywhere:
            return  # without the trace below, which is a tenth of a small call

        def gap(theta):
            return self.method.gap(self.landscape.vector(theta))

        if jax.eval_shape(gap, jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)) is None:
            return
        worst = float(_worst(self, starts))
        if not worst <= 1e3 * float(jnp.finfo(starts.dtype).eps):
            raise ValueError(
                f"theta0 is {worst:.3g} away from the constraint of {self.method!r}: start from process.project(theta0)"
            )

    def project(self, theta: Any) -> jax.Array:
        """Where the method can start: the points nearest to the given ones on its constraint, if it has one.

        Args:
            theta: shape (dim,) or (runs, dim)
        Raises:
            ValueError: if theta does not fit, or there is no such point
        """
        starts = checks.points("theta", theta, self.dim)
        projected = jnp.vectorize(self._projected, signature="(d)->(d)")(starts)
        if not bool(jnp.isfinite(projected).all()):
            raise ValueError(f"theta has no nearest point on the constraint of {self.method!r}: start elsewhere")
        return projected

    def _projected(self, theta: jax.Array) -> jax.Array:
        return self.landscape.array(self.method.project(self.landscape.vector(theta)))

    def possible(self, state):
        return self.method.possible(state.inner if isinstance(state, Remembering) else state)

    def draw(self, key: jax.Array | None, theta: Vector) -> tuple:
        """What is random in the gradient: for each sample ξ of the descent, and of the ascent if it has its own.

        Of a noise that remembers each is the first one.
        """
        if not self.noise.random:
            return ()
        number = self._samples
        keys = split(key, number) if number > 1 else (key,)
        return tuple(self.noise.draw(one, self.landscape, theta) for one in keys)

    def _following(self, key: jax.Array, state: Remembering) -> tuple[tuple, tuple]:
        """The same of a noise that remembers, in the order of :meth:`draw`, and what it remembers then."""
        memory, drawn = list(state.memory), []
        for i, one in enumerate(split(key, self._samples) if self._samples > 1 else (key,)):
            stream = i % self._streams
            xi, memory[stream] = self.noise.following(one, self.landscape, state.theta, memory[stream])
            drawn.append(xi)
        return tuple(drawn), tuple(memory)

    def sample(self, drawn: tuple) -> GradientField:
        """The gradient field of one step, given what `draw` gave."""
        if not drawn:
            return GradientField(self.landscape.field, self.landscape.field, value=self._exact)
        each = len(drawn) // self.method.samples
        fields = [self._one(drawn[i : i + each]) for i in range(0, len(drawn), each)]
        fields[0].further = tuple(fields[1:])
        return fields[0]

    def driven(self, state: State, normals: jax.Array, seen: jax.Array | None = None) -> State:
        """The step with given standard normal numbers in place of a key.

        Args:
            normals: ξ of the descent, then of the ascent if it has its own, then the method's own, shape (draws,)
            seen: the gradient that an ascent sees, shape (dim,), in place of its sample's at any point: where that
                vanishes the direction of an ascent jumps, and a sample near by has any direction
        """
        drawn = [self.landscape.vector(xi) for xi in normals.reshape(-1, self.dim)]
        first = self._samples if self.noise.random else 0
        field = self.sample(tuple(drawn[:first]))
        if seen is not None:
            field.ascent = lambda theta: self.landscape.vector(seen)
        return self.method.step(field, state, *drawn[first:])

    @property
    def draws(self) -> int:
        """How many standard normal numbers drive a step.

        Raises:
            TypeError: if the noise is not made of normal numbers
        """
        if not isinstance(self.noise, noise.Normal | noise.Exact):
            raise TypeError(
                f"this needs noise made of normal numbers (Gaussian, Curvature, ...), got {self.noise!r}: simulate and "
                "escape_times take any"
            )
        if self._keyed:
            raise TypeError(f"this needs noise made of normal numbers, and the method draws by itself: {self.method!r}")
        return self.dim * ((self._samples if self.noise.random else 0) + self.method.draws)

    @property
    def _samples(self) -> int:
        return self.method.samples * self._streams

    @property
    def _streams(self) -> int:
        """Whose samples follow one another: those of the descent, and those of the ascent if it has its own."""
        return 2 if self.ascent == "independent" else 1

    def _one(self, drawn: tuple) -> GradientField:
        parts = tuple(self.noise.parts(xi) for xi in drawn)
        if parts[0] is None:
            return self._sample(drawn)
        full = self.landscape.field
        averaged = functools.partial(self._averaged, parts)
        return GradientField(self._field(drawn[0]), full, averaged, full, self._value(drawn[0]))

    def _field(self, xi: Any) -> Callable:
        return lambda theta: self.noise.gradient(self.landscape, theta, xi)

    def _value(self, xi: Any) -> Callable:
        return lambda theta, origin: self.noise.value(self.landscape, theta, xi, origin)

    def _exact(self, theta: Vector, origin: Vector) -> jax.Array:
        return self.landscape.value(theta)

    def _sample(self, drawn: tuple) -> GradientField:
        ascent = self.landscape.field if self.ascent == "full" else self._field(drawn[-1])
        return GradientField(self._field(drawn[0]), ascent, full=self.landscape.field, value=self._value(drawn[0]))

    def _averaged(self, parts: tuple, function: Callable) -> Vector:
        samples = jax.vmap(lambda *part: function(self._sample(part)))(*parts)
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), samples)


@eqx.filter_jit
def _worst(process: Iteration, starts: jax.Array) -> jax.Array:
    """How far the worst start is from the method's constraint."""
    return jax.vmap(lambda theta: process.method.gap(process.landscape.vector(theta)))(starts).max()


def _as_tuples(box: Any) -> Any:
    """The sides of a box as tuples of floats: static parts of a program are compared, and arrays can't be."""
    if box is None:
        return None
    sides = checks.entries("box", box, "a list of (lower, upper) pairs")
    return tuple(map(tuple, sides.tolist())) if sides.ndim == 2 else sides.tolist()


class Map(Process):
    """Your own map θ⁺ = f(θ) as a process: Newton's method, a recursion, anything written in JAX.

    Args:
        function: from an array of shape (dim,) to one of the same shape
        dim: number of coordinates
        box: ((lower, upper), ...), one pair per coordinate, or None
    Raises:
        ValueError: if `function` does not keep the shape
    """

    function: Callable
    dim: int = eqx.field(static=True, converter=checks.whole)
    box: tuple | None = eqx.field(static=True, converter=_as_tuples, default=None)

    def __check_init__(self):
        checks.count("dim", self.dim, at_least=1)
        if self.box is not None:
            checks.box(self.box, self.dim)
        theta = jax.ShapeDtypeStruct((self.dim,), precision.floating())
        result = checks.traced("function", self.function, theta, what=f"a function from θ ({self.dim},) to the next")
        if getattr(result, "shape", None) != (self.dim,) or not jnp.issubdtype(result.dtype, jnp.floating):
            raise ValueError(f"function must map shape ({self.dim},) to shape ({self.dim},), got {result}")

    def init(self, theta):
        return State(theta)

    def step(self, state, key=None):
        return as_before(State(self.function(state.theta)), state)

    def position(self, state):
        return state.theta


__all__ = ["Iteration", "Map", "Process"]
