"""Optimisers from elsewhere as methods: any optax transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.core.algebra import Vector
from flatdyn.methods import masks
from flatdyn.methods.base import FirstOrder, Method
from flatdyn.methods.fields import GradientField
from flatdyn.methods.transformations import Facts, evaluated, examined, holds_keys, pair


class OptaxState(eqx.Module):
    """State of :class:`FromOptax`.

    Attributes:
        theta: parameters θ, which is where a run says it is
        inner: what the optax optimiser keeps
        other: the other point of an optimiser that holds two, see `at` of :func:`from_optax`; else None
    """

    theta: Any
    inner: Any
    other: Any = None


class FromOptax(Method):
    """Any optax optimiser: θ⁺ = θ + u, with u and the optimiser's own state from `transformation.update`."""

    transformation: Any
    follows: FirstOrder | None = None
    at: str = eqx.field(static=True, default="gradient")

    @property
    def jumps(self):
        return self.follows is not None and self.follows.jumps

    @property
    def may_jump(self):
        return self.follows is not None and self.follows.may_jump

    @property
    def jumps_on_surfaces(self):
        return self.follows is not None and self.follows.jumps_on_surfaces

    def check(self, theta):
        if self.follows is not None:
            self.follows.check(theta)
        facts = self._facts(theta)
        if self._apart and not (facts.two_points or facts.averages == 1):
            raise ValueError(
                "at='evaluation' is for one schedule_free or lookahead, which is judged at another point than where "
                "its gradients are taken: leave it out"
            )
        if facts.wants_value or facts.calls & {"value_fn", "obj_fn"}:
            self._check_has_loss()

    def check_sample(self, theta, ascent, noise):
        parts = getattr(noise, "ascent_size", None) not in (None, getattr(noise, "batch_size", None))
        if "grad_fn" in self._facts(theta).calls and (ascent != "shared" or parts):
            raise ValueError(
                "transformation takes the gradient at other points by itself, as contrib.sam does, and shows them the "
                "sample of its step: ascent and ascent_size are for fd.from_optax(optimizer, follows=fd.SAM(1.0, rho))"
            )

    def keyed(self, form):
        return holds_keys(self.transformation, lambda: _form(form()))

    def init(self, theta):
        facts = self._facts(theta)
        params = whole(theta)
        state = self.transformation.init(pair(params, params) if facts.two_points else params)
        return OptaxState(theta, facts.packed(state), theta if facts.two_points or self._apart else None)

    def step(self, grad: Callable, state: OptaxState) -> OptaxState:
        facts = self._facts(state.theta)
        here, other = (state.other, state.theta) if self._apart else (state.theta, state.other)
        gradient, value = self._gradient(grad), self._loss(grad, here)

        def grad_fn(params: Any, *_: Any) -> Any:
            return whole(gradient(like(params, here)))

        def value_fn(params: Any, grad_fn: Any = None, obj_fn: Any = None) -> jax.Array:
            return value(like(params, here))  # a line search hands its value_fn what it does not know itself

        followed = whole(gradient(here))
        given = {"grad": followed, "value_fn": value_fn, "grad_fn": grad_fn, "obj_fn": value_fn}
        if facts.wants_value:
            given["value"] = value(here)
        extras = {name: given[name] for name in facts.extras if name in given}
        params = pair(whole(here), whole(other)) if facts.two_points else whole(here)
        inner = facts.unpacked(state.inner, getattr(grad, "key", None))
        updates, inner = self.transformation.update(followed, inner, params, **extras)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        kept = facts.packed(inner)
        if facts.two_points:
            here, other = like(params.fast, here), like(params.slow, here)
        elif self._apart:
            here, other = like(params, here), like(evaluated(inner, params), here)
        else:
            return OptaxState(like(params, here), kept)
        return OptaxState(other, kept, here) if self._apart else OptaxState(here, kept, other)

    def seasoned(self, state: OptaxState) -> OptaxState:
        """The same state with the optimiser's step counters at a million, past bias corrections and warm-ups.

        A counter is a whole number that a thousand steps without gradient raise by a thousand; others stay.
        """
        later = jax.jit(lambda inner: jax.lax.fori_loop(0, 1000, lambda _, inner: self._idle(state, inner), inner))

        def counted(before, after):
            return before + _SEASON if _is_count(before) and int(after) - int(before) == 1000 else before

        return OptaxState(state.theta, jax.tree.map(counted, state.inner, later(state.inner)), state.other)

    def cycles(self, state):
        first = self._idle(state, state.inner)  # which sets what a state begins without, such as a best loss so far
        counts = [jax.tree.leaves(eqx.filter(inner, _is_count)) for inner in (first, self._idle(state, first))]
        return any(int(before) < _SEASON and int(after) != int(before) for before, after in zip(*counts, strict=True))

    def _idle(self, state: OptaxState, inner: Any) -> Any:
        """The optimiser's own state after a step without gradient."""

        def still(theta: Any) -> Any:
            return jax.tree.map(jnp.zeros_like, theta)

        def level(theta: Any, _: Any) -> jax.Array:
            return jnp.zeros((), jnp.result_type(*jax.tree.leaves(theta)))

        field = GradientField(still, still, value=level)
        field.key = jax.random.key(0)
        return self.step(field, OptaxState(state.theta, inner, state.other)).inner

    @property
    def _apart(self) -> bool:
        """Whether a run says that it is at another point than where its gradients are taken."""
        return self.at == "evaluation"

    def _facts(self, theta: Any) -> Facts:
        if any(isinstance(leaf, sympy.Basic) for leaf in jax.tree.leaves(theta)):
            raise TypeError("an optimiser of optax computes with numbers alone")
        return examined(self.transformation, _form(theta))

    def _gradient(self, grad: Callable) -> Callable:
        """The field that is followed."""
        return grad if self.follows is None else lambda theta: self.follows.followed(grad, theta)

    def _loss(self, grad: Callable, origin: Any) -> Callable:
        """The loss of the step's own sample, whose gradient is the field that is followed.

        Around θ SAM's loss is ℓ(θ + s), with the shift s = p(θ) − θ held in derivatives, as in its gradient.
        """
        known = getattr(grad, "value", None)

        def loss(theta: Any) -> jax.Array:
            if known is None:
                raise ValueError("transformation wants the loss's value, and a gradient alone does not tell it")
            if self.follows is None:
                return known(theta, origin)

            def part(one: GradientField) -> jax.Array:
                point = theta + jax.lax.stop_gradient(self.follows.ascend(one.ascent, theta) - theta)
                return one.value(point, origin) + (self._decay(point) if self.follows.decays("loss") else 0)

            mean = self.follows.field(grad).each(part)
            return mean + self._decay(theta) if self.follows.decays("coupled") else mean

        return loss

    def _decay(self, theta: Any) -> jax.Array:
        """λ ‖θ‖²/2 of the method that is followed."""
        return self.follows.weight_decay / 2 * (masks.masked(self.follows.decay_mask, theta) @ theta)

    def _check_has_loss(self) -> None:
        if self.follows is not None and type(self.follows).gradient is not FirstOrder.gradient:
            raise ValueError(
                f"transformation wants the loss's value, and what {type(self.follows).__name__} follows is the "
                "gradient of no loss at one point: leave out follows, or take SAM or USAM"
            )


_SEASON = 10**6


def _is_count(leaf: Any) -> bool:
    """Whether a leaf of a state may count steps: one whole number, but not the bits of another one."""
    return eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.signedinteger) and leaf.ndim == 0


def from_optax(transformation: Any, follows: FirstOrder | None = None, at: str = "gradient") -> FromOptax:
    """Make a method of any `optax.GradientTransformation`, such as `optax.adam(1e-2)`, schedules included.

        θ⁺ = θ + u(g),   g = ∇ℓ(θ; ξ), or the gradient that `follows` takes

    The transformation sees the parameters as the loss does: the tree of `Landscape.from_function(loss, like=tree)`, to
    which masks, labels and layer-wise rules (lars, fromage, muon) refer. An expression's coordinates are one array
    (dim,), like those of a function of one, and so is a tuple of single numbers.

    Where its `update` wants them it is given the loss and gradient of the step's own sample: `value` = ℓ(θ; ξ) and
    `grad` = g at θ, `value_fn` and `obj_fn` (ℓ of any parameters), `grad_fn` (g there). So polyak_sgd, lbfgs, line
    searches, reduce_on_plateau, momo, sophia and contrib.sam(..., opaque_mode=True) run as they are. With minibatches
    ℓ is the minibatch's loss; with other noise it is L(θ) tilted by the noise of the gradient at θ₀, where the step
    begins: L(θ) + (∇ℓ(θ₀; ξ) − ∇L(θ₀)) · (θ − θ₀). With `follows` it is ℓ at the perturbed point.

    Keys in its state (noisy_sgd, add_noise) are replaced at every step by keys that belong to the run and the step, so
    its seed plays no part, and runs differ. Then the process is random, and simulate needs a key.

    contrib.sam in its default mode is refused, as every second position would be a perturbed one; in opaque mode it
    gives NaN where ∇L = 0 (a run is DIVERGED there), where :class:`flatdyn.SAM` stays.

    Args:
        transformation: what turns gradients into steps
        follows: a method whose gradient is followed, such as `SAM(lr, rho)`: Adam on SAM's gradient, with its weight
            decay unless that is decoupled. Its own step, lr and momentum play no part.
        at: which point a run's positions are, for optimisers that hold two. "gradient": where gradients are taken,
            y of contrib.schedule_free, the fast weights of lookahead. "evaluation": what their authors judge, the
            average x = optax.contrib.schedule_free_eval_params(state, y), the slow weights
    Raises:
        ValueError: if `transformation` has no `init` and `update`, or the decay of `follows` is decoupled; on a
            landscape, if it does not fit the parameters or wants what a landscape can't give
        TypeError: if `follows` is not a method that follows one gradient
    """
    if isinstance(transformation, type) or not (hasattr(transformation, "init") and hasattr(transformation, "update")):
        raise ValueError(
            f"transformation: from_optax needs an optax.GradientTransformation, got {checks.shown(transformation)}"
        )
    if follows is not None and (not isinstance(follows, FirstOrder) or follows.remembers):
        raise TypeError(f"follows must be a method that follows one gradient (GD, SAM, USAM, ASAM), got {follows!r}")
    if follows is not None and follows.decays("decoupled"):
        raise ValueError(
            "follows has decoupled weight decay, which is of its own step, and that plays no part: write "
            "optax.chain(transformation, optax.add_decayed_weights(-lr * weight_decay)), or decay='coupled'"
        )
    return FromOptax(transformation, follows, checks.choice("at", at, ("gradient", "evaluation")))


def _is_apart(vector: Any) -> bool:
    """Whether a vector is held as separate coordinates, as that of an expression is."""
    tree = getattr(vector, "tree", None)
    return type(tree) is tuple and bool(tree) and all(np.ndim(leaf) == 0 for leaf in tree)


def whole(vector: Any) -> Any:
    """A vector as the tree that its loss takes, separate coordinates as one array."""
    if not isinstance(vector, Vector):
        return vector
    return jnp.stack(vector.tree) if _is_apart(vector) else vector.tree


def like(tree: Any, vector: Any) -> Any:
    """The way back: a tree as a vector of the same kind as `vector`."""
    if not isinstance(vector, Vector):
        return tree
    return Vector(tuple(tree[i] for i in range(len(vector.tree)))) if _is_apart(vector) else Vector(tree)


def _form(vector: Any) -> Any:
    """Shapes of `whole(vector)`, without computing it."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), vector)
    return jax.eval_shape(whole, shapes)
