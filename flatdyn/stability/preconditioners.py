"""What an adaptive optimiser of optax divides a gradient by, read from its own state.

    θ⁺ = θ − η P⁻¹ m⁺,   P = (1 − β₁ᵗ)(√(v/(1 − β₂ᵗ)) + ε) for Adam

Nothing of it is written here: P is the derivative of the optimiser's own update, against that at a v so large that
nothing but √v counts. What a state's fields mean is known for the optimisers whose squares of gradients lie in `nu` or
`sum_of_squares`; another one can't be told from its functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.methods.base import Method
from flatdyn.processes import Iteration, Process

# By the name of a state's class in optax: fields that a step carries on linearly, and fields that hold squares.
_FIELDS = {
    "TraceState": (("trace",), ()),
    "EmaState": (("ema",), ()),
    "ScaleByAdamState": (("mu",), ("nu",)),
    "ScaleByBeliefState": (("mu",), ("nu",)),
    "ScaleByAmsgradState": (("mu",), ("nu", "nu_max")),
    "ScaleByRmsState": ((), ("nu",)),
    "ScaleByRmsWithCountState": ((), ("nu",)),
    "ScaleByRssState": ((), ("sum_of_squares",)),
}
_NUMBERS = ("InjectHyperparamsState", "InjectStatefulHyperparamsState")  # whose floats are hyperparameters
_LARGE, _SEASON = 60, 10**6  # √v in powers of 2; steps after which no bias is corrected any more


class Marks(NamedTuple):
    """What the leaves of a state are, as trees of True and False like it."""

    moving: Any
    squares: Any
    counts: Any


def is_optax(method: Method) -> bool:
    """Whether a method is an optimiser of optax."""
    return hasattr(method, "transformation")


def marks(inner: Any) -> Marks:
    """What each leaf of the state of a transformation is.

    Raises:
        ValueError: if a state that holds numbers is not known
    """
    words = _words(inner, None)
    return Marks(*(jax.tree.map(lambda own, word=word: own == word, words) for word in ("moving", "squares", "count")))


def adapts(method: Method, inner: Any) -> bool:
    """Whether an optimiser of optax divides by squares of gradients."""
    return is_optax(method) and any(jax.tree.leaves(marks(inner).squares))


def with_squares(inner: Any, squares: float | None, settled: bool = True) -> Any:
    """A state with all squares at one value, its own if None, no momentum, and counts past all corrections of bias."""
    own = marks(inner)

    def changed(leaf, moves, square, counts):
        if moves:
            return jnp.zeros_like(leaf)
        if square and squares is not None:
            return jnp.full_like(leaf, squares)
        return jnp.full_like(leaf, _SEASON) if counts and settled else leaf

    return jax.tree.map(changed, inner, own.moving, own.squares, own.counts)


def large(process: Iteration, state: Any) -> tuple[Any, float]:
    """The state with squares so large that nothing else counts, and √v of the step after it, by which it divides.

    Raises:
        ValueError: if the step does not go as 1/√v there
    """
    near = eqx.tree_at(lambda s: s.inner, state, with_squares(state.inner, 4.0**_LARGE))
    after = _after(process, near).inner
    squares = jax.tree.leaves(eqx.filter(after, marks(after).squares))
    wide = eqx.tree_at(lambda s: s.inner, state, with_squares(state.inner, 4.0 ** (_LARGE + 1)))
    ratio = np.asarray(_gains(process, near) / _gains(process, wide))
    if not np.allclose(ratio, 2, rtol=1e-9):
        raise _unknown("does not divide by the root of what it calls squares")
    return near, float(np.sqrt(np.asarray(squares[-1]).flat[0]))


def preconditioner(process: Process | Method, state: Any) -> jax.Array:
    """P by which an optimiser divides the gradient of each parameter, from its own state; for compiled code, too.

        θ⁺ = θ − η P⁻¹ m⁺;   P = (1 − β₁ᵗ)(√(v/(1 − β₂ᵗ)) + ε) for Adam, √v + ε for RMSProp, 1 if nothing is divided by

    after the t steps that the state has behind it. With the edge of :func:`flatdyn.stability.edge`, (2 + 2 β₁)/((1 −
    β₁) η) for Adam, the sharpness that counts is the largest eigenvalue of P^(−1/2) ∇²L P^(−1/2).

    Args:
        process: an iteration whose method is `fd.from_optax(...)`, or any that divides by nothing
        state: its state, as `process.init` and `process.step` give it
    Returns:
        array (dim,)
    Raises:
        ValueError: if a state of the optimiser is not known
        TypeError: if the process is not a method on a landscape, or the state is none of its own
    References:
        Cohen, Ghorbani, Krishnan, Agarwal, Medapati, Badura, Suo, Cardoze, Nado, Dahl, Gilmer, arXiv 2207.14484.
    """
    process = checks.kind("process", process, Iteration, "fd.Iteration(landscape, fd.from_optax(optax.adam(1e-3)))")
    form = jax.eval_shape(process.init, jax.ShapeDtypeStruct((process.dim,), precision.floating()))
    if jax.tree.structure(state) != jax.tree.structure(form):
        raise TypeError(f"state must be one that process.init or process.step gave, got {checks.shown(state)}")
    theta = process.position(state)
    state = getattr(state, "inner", state) if process.noise.remembers else state
    if not adapts(process.method, getattr(state, "inner", None)):
        return jnp.ones_like(theta)
    near = with_squares(state.inner, 4.0 ** (_LARGE if theta.dtype == jnp.float64 else _LARGE // 2))
    reference = eqx.tree_at(lambda s: s.inner, state, near)
    after = _after(process, reference).inner
    own = marks(after)
    kept = jax.tree.map(lambda new, old, square: new / old if square else None, after, near, own.squares)
    squares = jax.tree.leaves(eqx.filter(after, own.squares))[-len(jax.tree.leaves(state.theta)) :]
    # The step to come renews squares and counts before it uses them: what it finds is one step younger.
    younger = jax.tree.map(
        lambda leaf, square, counts, share: leaf / share if square else jnp.maximum(leaf - 1, 0) if counts else leaf,
        with_squares(state.inner, None, settled=False),
        own.squares,
        own.counts,
        jax.tree.map(lambda share, leaf: 1.0 if share is None else share, kept, near, is_leaf=lambda x: x is None),
    )
    now = eqx.tree_at(lambda s: s.inner, state, younger)
    root = jnp.sqrt(jnp.max(jnp.stack([jnp.max(one) for one in squares])))
    return root * _gains(process, reference) / _gains(process, now)


def _after(process: Iteration, state: Any) -> Any:
    """The state after a step without a gradient."""
    return process.method.step(lambda theta: 0 * theta, state)


def _gains(process: Iteration, state: Any) -> jax.Array:
    """−∂θᵢ⁺/∂gᵢ of the next step at g = 0, shape (dim,)."""
    landscape = process.landscape

    def moved(t):
        def field(theta):
            return landscape.vector(t * jnp.ones_like(landscape.array(theta)))

        return landscape.array(process.method.step(field, state).theta)

    like = landscape.array(state.theta)
    return -jax.jvp(moved, (jnp.zeros((), like.dtype),), (jnp.ones((), like.dtype),))[1]


def _words(node: Any, owner: str | None) -> Any:
    """The tree of a state with a word in the place of each leaf."""
    name = type(node).__name__
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        moving, squares = _FIELDS.get(name, ((), ()))
        words = {}
        for field, value in zip(node._fields, node, strict=True):
            word = "moving" if field in moving else "squares" if field in squares else None
            if word is None and (name in _NUMBERS and field == "hyperparams"):
                word = "held"
            if word is None and squares and field == "count":
                word = "count"
            words[field] = _words(value, name) if word is None else jax.tree.map(lambda _, word=word: word, value)
        return type(node)(**words)
    if isinstance(node, tuple | list):
        return type(node)(_words(one, owner) for one in node)
    if isinstance(node, dict):
        return {key: _words(one, owner) for key, one in node.items()}

    def word(leaf):
        if jnp.issubdtype(getattr(leaf, "dtype", np.int32), jnp.inexact):
            raise _unknown(f"keeps numbers in {owner or 'a state of its own'}")
        return "held"

    return jax.tree.map(word, node)


def _unknown(what: str) -> ValueError:
    return ValueError(
        f"the preconditioner of an optimiser is not known that {what}: pass what you divide the gradient by yourself, "
        "as preconditioner=function of the state, and compare with the edge of its linear step, such as "
        "stability.edge(fd.GD(lr, momentum))"
    )
