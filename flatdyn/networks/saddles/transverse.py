"""Which way do minibatches push a network at a saddle? The growth of small displacements, under any method.

The sets in which the saddles of :mod:`flatdyn.networks.saddles` lie are kept by every minibatch: noise does not push a
network off them, it multiplies the distance z. To first order that is a product of random matrices,

    z⁺ = A(s; ξ) z,   A = the derivative of the method's own step, with the minibatch ξ, at s

whose growth rate, the transverse Lyapunov exponent, says whether the saddle traps. The base s is the saddle itself
("frozen"), or moves under the same minibatches within the set ("moving"), as it does in truth.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, precision, randomness, segments
from flatdyn.core.algebra import Vector
from flatdyn.core.statistics import mean_sem_of
from flatdyn.escape import Ball, Escapes, escape_times
from flatdyn.methods.base import FirstOrder, Method
from flatdyn.networks.saddles.constructions import Saddle
from flatdyn.noise import Noise
from flatdyn.processes import Iteration, Process
from flatdyn.runs import devices, stepping

BASES = ("frozen", "moving")


class _Pair(NamedTuple):
    """The base's state, and the displacement from it: a tree like the state, with None for whole numbers."""

    base: Any
    shift: Any


class Displacement(Process):
    """A small displacement from the set a saddle lies in, carried along by a method's own step.

        δ⁺ = Q DF(s; ξ) δ,   s⁺ = F(s; ξ) ("moving"), or with its parameters held ("frozen")

    What a method remembers of gradients goes on in a frozen base, too. Its position is z = Q δθ, shape (k,). With the
    same key it sees the minibatches that the network itself would see.

    Args:
        process: the method on the saddle's landscape
        saddle: θ where the base starts, shape (dim,)
        basis: Q, orthonormal rows, shape (k, dim)
        base: "frozen" or "moving"
    """

    process: Iteration
    saddle: Any
    basis: Any
    base: str = eqx.field(static=True, default="frozen")

    @property
    def dim(self) -> int:
        return len(self.basis)

    @property
    def box(self):
        return None

    @property
    def random(self) -> bool:
        return self.process.random

    def init(self, theta):
        def whole(point):
            return eqx.filter(self.process.init(point), eqx.is_inexact_array)

        at = jnp.asarray(self.saddle, theta.dtype)
        base = self.process.init(at)
        if self.base == "frozen" and isinstance(self.process.method, FirstOrder):
            base = self.process.seasoned(base)  # else every step would be the first
        return _Pair(base, jax.jvp(whole, (at,), (theta @ self.basis,))[1])

    def step(self, state, key=None):
        numbers, others = eqx.partition(state.base, eqx.is_inexact_array)

        def stepped(numbers):
            new = self.process.step(eqx.combine(numbers, others), key)
            return eqx.partition(new, eqx.is_inexact_array)

        moved, shift, others = jax.jvp(stepped, (numbers,), (state.shift,), has_aux=True)
        # Counters of steps, where an epoch is, and what is remembered of gradients go on beside weights that stay
        base = eqx.combine(moved if self.base == "moving" else _held(moved, numbers), others)
        # Rounding leaks into the set, where displacements may shrink more slowly
        return _Pair(base, jax.tree.map(self._across, shift, is_leaf=lambda part: isinstance(part, Vector)))

    def position(self, state):
        return self.basis @ self.process.position(state.shift)

    def _across(self, part: Any) -> Any:
        if not isinstance(part, Vector):
            return part
        landscape = self.process.landscape
        return landscape.vector((self.basis @ landscape.array(part)) @ self.basis)


_PLACES = ("theta", "slow", "other")  # fields of a state that are points


def _held(moved: Any, before: Any) -> Any:
    """A state after a step, with its points where they were."""

    def one(path: tuple, new: Any, old: Any) -> Any:
        return old if any(getattr(key, "name", "") in _PLACES for key in path) else new

    return jax.tree.map_with_path(one, moved, before)


def displacement(
    saddle: Saddle, method: Method, noise: Noise, *, base: str = "frozen", ascent: str = "shared"
) -> Displacement:
    """The process of a small displacement from the set that a saddle lies in.

    Args:
        saddle: from :mod:`flatdyn.networks.saddles`
        method: any
        noise: how the gradient is sampled
        base: "frozen": the other weights stay at the saddle; "moving": they move under the same minibatches
        ascent: as for :class:`flatdyn.Iteration`
    Raises:
        ValueError: if a word is another one, minibatches do not keep the set, or the step has no derivative at the
            saddle: normalised SAM has none where the gradient of its ascent vanishes
    """
    checks.kind("saddle", saddle, Saddle, "flatdyn.networks.zero_unit(network, data)")
    checks.kind("method", method, Method)
    checks.kind("noise", noise, Noise)
    checks.choice("base", base, BASES)
    process = Iteration(saddle.landscape, method, noise, ascent)
    if process.random and not saddle.kept:
        raise ValueError(
            f"minibatches do not keep the set that {saddle!r} lies in: only without noise has it directions"
        )
    if np.any(method.jumps) and not _sampled(saddle, process):
        raise ValueError(
            f"{method!r} has no derivative at the saddle: the gradient of its ascent vanishes there, and the direction "
            "of the ascent jumps. Ask escape_times, or use minibatches with a shared or independent ascent, or eps > 0"
        )
    return Displacement(process, precision.on_device(saddle.theta), precision.on_device(saddle.basis), base)


def _sampled(saddle: Saddle, process: Iteration) -> bool:
    """Whether the ascent's gradient at the saddle is other than zero."""
    theta = precision.on_device(saddle.theta)
    process = stepping.prepared(process, theta.dtype)  # numbers of the method are data: others need no new program
    return float(_ascent(process, theta, jax.random.key(0) if process.random else None)) > 1e-9


@eqx.filter_jit
def _ascent(process: Iteration, theta: jax.Array, key: jax.Array | None) -> jax.Array:
    point = process.landscape.vector(theta)
    return jnp.linalg.norm(process.landscape.array(process.sample(process.draw(key, point)).ascent(point)))


class Exponent(NamedTuple):
    """A transverse Lyapunov exponent per step; arrays (m,) if a number of the method is one.

    Attributes:
        value: mean over the chains
        stderr: its standard error, from their spread
        chains: of each chain, shape (chains,) or (m, chains)
    """

    value: Any
    stderr: Any
    chains: np.ndarray


def transverse_exponent(
    saddle: Saddle,
    method: Method,
    noise: Noise,
    steps: int = 4000,
    chains: int = 8,
    key: jax.Array | None = None,
    *,
    base: str = "frozen",
    ascent: str = "shared",
    transient: int | None = None,
    progress: bool | None = None,
) -> Exponent:
    """Growth rate of the distance from the set that a saddle lies in, by products of random matrices.

        Λ = lim (1/k) ln ‖z_k‖,   z⁺ = A(s; ξ) z

    Directions that no example acts on, such as the common shift of all scores, are left out: they only shrink, by
    weight decay. A negative Λ means that the saddle traps what starts near enough.

    Args:
        saddle, method, noise, base, ascent: as for :func:`displacement`. Numbers of the method may be arrays (m,): all
            then see the same minibatches
        steps: averaged over, in each chain
        chains: independent, at least 2
        key: a JAX key, if there is chance
        transient: steps left out at the start; a quarter of `steps` if not given. A moving base needs many, about
            1/(lr · smallest curvature in the set), if the law of its long run is meant
        progress: show a bar; if not given, after two seconds
    Returns:
        Exponent
    Raises:
        ValueError: if arguments do not fit, as for :func:`displacement`, or a chain leaves the finite numbers
    """
    checks.kind("saddle", saddle, Saddle, "flatdyn.networks.zero_unit(network, data)")
    checks.kind("method", method, Method)
    checks.kind("noise", noise, Noise)
    steps, chains = checks.count("steps", steps, at_least=1), checks.count("chains", chains, at_least=2)
    transient = steps // 4 if transient is None else checks.count("transient", transient)
    total = stepping.check_steps("transient + steps", transient + steps)
    process = displacement(saddle, method, noise, base=base, ascent=ascent)
    process = eqx.tree_at(lambda p: p.basis, process, precision.on_device(saddle.basis[: saddle.acted_on]))
    names, values = _arrays(method)
    stepping.check_key(process, key)
    seed = randomness.seed_words(jax.random.key(0) if key is None else key)
    needed = chains * max(map(len, values), default=1) * devices.state_bytes(process, precision.floating()) * 3
    memory.check_memory(needed, "the chains", "take fewer `chains`", device=needed)
    begin = randomness.drawn(jax.random.normal, jax.random.wrap_key_data(seed), (chains, process.dim))
    process = stepping.prepared(process, begin.dtype)
    carry = _begun(process, names, values, begin)
    with segments.progress_bar(total, "steps", progress) as bar:
        for done, now in segments.cut(total, bar=bar):
            where = precision.on_device(np.int32([done, done + now, transient]))
            carry = jax.block_until_ready(_grown(process, names, values, carry, seed, where))
    logs = np.asarray(carry[1]) / steps
    if not np.isfinite(logs).all():
        raise ValueError(
            "a displacement has left the finite numbers: take a smaller step, or base='frozen'. A method that divides "
            "by what it remembers (momentum SAM, lagged SAM: give eps > 0; Adam) has no derivative where that is zero, "
            "as at the start"
        )
    logs = logs if names else logs[0]
    value, stderr = mean_sem_of(logs, axis=-1)
    return Exponent(*(float(x) if not names else x for x in (value, stderr)), logs)


def _arrays(method: Method) -> tuple[tuple[str, ...], tuple[jax.Array, ...]]:
    """Names and values of the method's numbers that are arrays (m,)."""
    numbers = [field.name for field in dataclasses.fields(method) if "hyperparameter" in field.metadata]
    named = {name: getattr(method, name) for name in numbers if np.ndim(getattr(method, name)) == 1}
    if len({len(value) for value in named.values()}) > 1:
        raise ValueError(f"arrays of numbers must be of one length, got { ({n: len(v) for n, v in named.items()}) }")
    return tuple(named), tuple(map(jnp.asarray, named.values()))


@eqx.filter_jit
def _begun(process, names, values, begin):
    """What is carried at step 0: base, displacement, Σ ln of its growth; (m, chains) in front, m = 1 without arrays."""

    def one(values, z):
        return _with(process, names, values).init(z / jnp.linalg.norm(z)), jnp.zeros(())

    over = jax.vmap(one, (None, 0))
    return jax.vmap(over, (0, None))(values, begin) if names else jax.tree.map(lambda x: x[None], over(values, begin))


@eqx.filter_jit
def _grown(process, names, values, carry, seed, where):
    """The same after the steps from where[0] to where[1]; growth counts from where[2] on."""

    def one(values, carry, chain):
        own = _with(process, names, values)

        def turn(i, carry):
            state, total = carry
            state = own.step(state, randomness.run_key(seed, chain, i) if own.random else None)
            size = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state.shift)))
            shift = jax.tree.map(lambda leaf: leaf / size, state.shift)
            return _Pair(state.base, shift), total + jnp.where(i >= where[2], jnp.log(size), 0)

        return jax.lax.fori_loop(where[0], where[1], turn, carry)

    over = jax.vmap(one, (None, 0, 0))
    chains = jnp.arange(carry[1].shape[1], dtype=jnp.uint32)
    if names:
        return jax.vmap(over, (0, 0, None))(values, carry, chains)
    alone = jax.tree.map(lambda leaf: leaf[0], carry)
    return jax.tree.map(lambda leaf: leaf[None], over(values, alone, chains))


def _with(process: Displacement, names: tuple, values: tuple) -> Displacement:
    if not names:
        return process
    where = lambda p: [getattr(p.process.method, name) for name in names]  # noqa: E731
    return eqx.tree_at(where, process, list(values))


def transverse_escape(
    saddle: Saddle,
    method: Method,
    noise: Noise,
    starts: Any,
    radius: float,
    max_steps: int = 2000,
    key: jax.Array | None = None,
    *,
    base: str = "moving",
    ascent: str = "shared",
    progress: bool | None = None,
) -> Escapes:
    """When the linear product has carried a run from its start to a transverse distance: a prediction of the escape.

        T = min {k : ‖z_k‖ > r},   z⁺ = A(s; ξ) z

    With the key of :func:`flatdyn.escape_times` run r sees the same minibatches as the network there, so predicted and
    true times can be compared run by run.

    Args:
        saddle, method, noise, base, ascent: as for :func:`displacement`
        starts: points of the network, shape (runs, dim); only their transverse part counts
        radius: r, in units of θ
        max_steps: after which a run is censored
        key: a JAX key, if there is chance
        progress: show a bar; if not given, after two seconds
    Returns:
        Escapes, with z in place of θ
    """
    checks.kind("saddle", saddle, Saddle, "flatdyn.networks.zero_unit(network, data)")
    checks.kind("method", method, Method)
    checks.kind("noise", noise, Noise)
    process = displacement(saddle, method, noise, base=base, ascent=ascent)
    starts = checks.points("starts", starts, saddle.task.dim)
    across = (jnp.atleast_2d(starts) - saddle.theta) @ saddle.basis.T
    region = Ball(np.zeros(process.dim), radius)
    return escape_times(process, across, region, max_steps=max_steps, key=key, progress=progress)
