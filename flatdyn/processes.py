"""The narrow waist: everything that moves is a process, and every question is asked of a process.

    process.init(theta) -> state            theta: coordinates, shape (dim,)
    process.step(state, key) -> state       one step, one run; key is that run's own at that step
    process.position(state) -> theta        where the state is, shape (dim,)

:class:`Iteration` (landscape × noise × method) is one; :class:`Map` makes one of your own function; or subclass
:class:`Process` and implement `init` and `step` on any state you like. Batching, chunks, devices, keys and
what happens to runs that diverge are the business of :mod:`flatdyn.ensembles`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn import checks, noise, records
from flatdyn.algebra import Vector, norm
from flatdyn.landscapes import Landscape
from flatdyn.methods.base import FirstOrder, Method, Sample, State, match
from flatdyn.randomness import split


class Process(eqx.Module):
    """A state and a rule to step it.

    Attributes:
        dim: number of coordinates of a position
        box: ((lower, upper), ...) in which it is interesting, or None
        random: whether `step` uses its key
    """

    random = False

    def init(self, theta: jax.Array) -> Any:
        """The state at rest at θ, shape (dim,)."""
        raise NotImplementedError

    def step(self, state: Any, key: jax.Array | None = None) -> Any:
        """The next state."""
        raise NotImplementedError

    def position(self, state: Any) -> jax.Array:
        """The coordinates of a state, shape (dim,)."""
        raise NotImplementedError


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
        ValueError: if `ascent` is another word, or the method's mask does not fit the landscape or is empty
    """

    landscape: Landscape
    method: Method
    noise: noise.Noise = noise.Exact()
    ascent: str = eqx.field(static=True, default="shared")

    def __check_init__(self):
        if self.ascent not in ASCENTS:
            raise ValueError(f"ascent must be one of {', '.join(map(repr, ASCENTS))}, got {self.ascent!r}")
        _check_mask(getattr(self.method, "mask", None), self.landscape)
        self.noise.check(self.landscape)

    @property
    def random(self) -> bool:
        return self.noise.random

    def init(self, theta):
        return self.method.init(self.landscape.vector(theta))

    def step(self, state, key=None):
        return self.method.step(self.sample(self.draw(key, state.theta)), state)

    def draw(self, key: jax.Array | None, theta: Vector) -> tuple:
        """What is random in one step: ξ of the descent, and of the ascent if it has its own."""
        if not self.random:
            return ()
        keys = split(key) if self.ascent == "independent" else (key,)
        return tuple(self.noise.draw(one, self.landscape, theta) for one in keys)

    def sample(self, drawn: tuple) -> Sample:
        """The gradient field of one step, given what `draw` gave."""
        if not drawn:
            return Sample(self.landscape.field, self.landscape.field)
        parts = tuple(self.noise.parts(xi) for xi in drawn)
        if parts[0] is None:
            return self._sample(drawn)
        full = self.landscape.field
        return Sample(self._field(drawn[0]), full, functools.partial(self._averaged, parts), full)

    def driven(self, state: State, normals: jax.Array) -> State:
        """The step with given standard normal numbers in place of a key.

        Args:
            normals: ξ of the descent, then of the ascent if it has its own, shape (draws,)
        """
        drawn = tuple(self.landscape.vector(xi) for xi in normals.reshape(-1, self.dim))
        return self.method.step(self.sample(drawn), state)

    @property
    def draws(self) -> int:
        """How many standard normal numbers drive a step.

        Raises:
            TypeError: if the noise is not made of normal numbers
        """
        if not isinstance(self.noise, noise.Normal):
            raise TypeError(f"this needs noise made of normal numbers (Gaussian, Curvature, ...), got {self.noise!r}")
        return self.dim * (2 if self.ascent == "independent" else 1)

    def _field(self, xi: Any) -> Callable:
        return lambda theta: self.noise.gradient(self.landscape, theta, xi)

    def _sample(self, drawn: tuple) -> Sample:
        ascent = self.landscape.field if self.ascent == "full" else self._field(drawn[-1])
        return Sample(self._field(drawn[0]), ascent, full=self.landscape.field)

    def _averaged(self, parts: tuple, function: Callable) -> Vector:
        found = jax.vmap(lambda *part: function(self._sample(part)))(*parts)
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), found)


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
    dim: int = eqx.field(static=True)
    box: tuple | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        checks.count("dim", self.dim, at_least=1)
        if self.box is not None:
            checks.box(self.box, self.dim)
        result = jax.eval_shape(self.function, jax.ShapeDtypeStruct((self.dim,), jnp.zeros(0).dtype))
        if getattr(result, "shape", None) != (self.dim,):
            raise ValueError(f"function must map shape ({self.dim},) to shape ({self.dim},), got {result}")

    def init(self, theta):
        return State(theta)

    def step(self, state, key=None):
        return State(self.function(state.theta))

    def position(self, state):
        return state.theta


def fingerprint(process: Process) -> str:
    """A digest of what a process computes: of its step as JAX sees it, and of all its numbers.

    Two processes that differ in a constant inside your own function have different ones; the same program has the
    same one tomorrow. Files that keep unfinished work are told apart by it.
    """
    theta = jax.ShapeDtypeStruct((process.dim,), jnp.zeros(0).dtype)
    state = jax.eval_shape(process.init, theta)
    key = jax.eval_shape(lambda: jax.random.key(0)) if process.random else None
    return records.digest(digest_of(process.init, theta), digest_of(process.step, state, key))


def digest_of(function: Callable, *args: Any) -> str:
    """A digest of a function's computation, with the constants it holds; `args` are arrays or their shapes."""
    traced = eqx.filter_make_jaxpr(function)(*args)[0]
    return records.digest(re.sub(r" at 0x[0-9a-f]+", "", str(traced.jaxpr)), *traced.consts)


class Probe(NamedTuple):
    """What a method sees at a point; see :func:`probe`."""

    perturbed: jax.Array
    gradient: jax.Array
    followed: jax.Array
    cosine: jax.Array


@eqx.filter_jit
def probe(process: Iteration, theta: Any) -> Probe:
    """Where a noiseless method looks from θ, and how what it follows there compares with the gradient at θ.

        p = perturbed point,   cos = ∇L(θ)·∇L(p) / (‖∇L(θ)‖ ‖∇L(p)‖)

    Args:
        process: an iteration of GD, SAM, USAM, ...
        theta: positions, shape (..., dim)
    Returns:
        Probe with perturbed (..., dim), gradient (..., dim), followed (..., dim), cosine (...); the cosine is 0
        where a gradient vanishes
    Raises:
        TypeError: if the method does not take one gradient at one point
    """
    if not isinstance(process.method, FirstOrder):
        raise TypeError(f"probe needs a method that follows one gradient (GD, SAM, USAM), got {process.method}")
    landscape = process.landscape

    def one(theta):
        point = landscape.vector(theta)
        perturbed = process.method.ascend(landscape.field, point)
        here, there = landscape.field(point), landscape.field(perturbed)
        cosine = here @ there / (norm(here) * norm(there))
        return landscape.array(perturbed), landscape.array(here), landscape.array(there), cosine

    return Probe(*jnp.vectorize(one, signature="(d)->(d),(d),(d),()")(jnp.asarray(theta)))


def _check_mask(mask: Any, landscape: Landscape) -> None:
    if mask is None or isinstance(mask, jax.core.Tracer):
        return
    entries = jnp.concatenate([jnp.ravel(jnp.asarray(leaf)) for leaf in jax.tree.leaves(mask)])
    if entries.size != landscape.dim:
        raise ValueError(f"mask must have one entry per coordinate, {landscape.dim} in all, got {entries.size}")
    if not bool(entries.any()):
        raise ValueError("mask is empty: no coordinate would be perturbed; use GD, or rho=0")


__all__ = ["Iteration", "Map", "Probe", "Process", "match", "probe"]
