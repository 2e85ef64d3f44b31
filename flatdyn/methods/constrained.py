"""Langevin methods for parameters that are held on a constraint: circles, a sphere, orthogonal matrices, any g(θ) = 0.

    A(t)   θ moves with p, and stays on the constraint    drift
    B(t)   p ← P(p − t ∇ℓ(θ; ξ))                          kick
    O(t)   p ← P(c p + √((1 − c²) τ) R), c = e^{−γ t}     thermostat

P takes the tangential part. What each constraint does is written in :mod:`flatdyn.constraints`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import sympy
from jax.flatten_util import ravel_pytree

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, sqrt
from flatdyn.methods.base import Method, hyperparameter
from flatdyn.methods.constraints.base import ALONG, Constraint, Free
from flatdyn.methods.langevin import check_word
from flatdyn.methods.thermostats import Friction


class ConstrainedState(eqx.Module):
    """State of a constrained method.

    Attributes:
        theta: parameters θ
        slack: what each constraint has besides (the s of circles), or None
        momentum: p, a vector in the space of the constraints; None for an overdamped method
        exists: whether the step that led here existed
    """

    theta: Any
    slack: tuple
    momentum: Any
    exists: Any


class Pieces(NamedTuple):
    """Parameters as the arrays on which constraints act."""

    constraints: list[Constraint]
    arrays: list
    join: Callable[[list], Any]

    def points(self, slack: Any) -> list:
        return [c.lift(array, own) for c, array, own in zip(self.constraints, self.arrays, slack, strict=True)]

    def below(self, points: list) -> Any:
        """The parameters below points."""
        triples = zip(self.constraints, points, self.arrays, strict=True)
        return self.join([c.lower(x, jnp.shape(array)) for c, x, array in triples])

    def each(self, function: Callable, *vectors: Any) -> Vector:
        """`function(constraint, ...)` for every constraint, with its own part of each of the points and vectors."""
        columns = [vector.tree if isinstance(vector, Vector) else vector for vector in vectors]
        return Vector(tuple(function(*own) for own in zip(self.constraints, *columns, strict=True)))

    def vector(self, *parts: list) -> Vector:
        """A vector of the space of the constraints, from one list of arrays like θ or from several."""
        return self.each(lambda c, *own: c.vector(*own), *parts)

    def tangent(self, points: Any, p: Vector) -> Vector:
        """The tangential part of a vector p at points."""
        return self.each(lambda c, x, own: c.tangent(x, own), points, p)


class Constrained(Method):
    """What constrained methods share.

    Attributes:
        constraint: one for all coordinates, or a tree like the parameters with one, or None (free), at its leaves
    """

    constraint: eqx.AbstractVar[Any]

    def __check_init__(self):
        given = jax.tree.leaves(self.constraint, is_leaf=_is_constraint)
        if not given or not all(map(_is_constraint, given)):
            raise ValueError(
                "constraint must be one of flatdyn.constraints, or a tree like the parameters with one or None at each "
                f"leaf and at least one in all, got {self.constraint!r}"
            )

    def check(self, theta):
        def shapes(theta):
            pieces = self.pieces(theta)
            for constraint, array in zip(pieces.constraints, pieces.arrays, strict=True):
                constraint.check(jnp.shape(array))

        jax.eval_shape(shapes, theta)

    def pieces(self, theta: Any) -> Pieces:
        """The arrays of θ, or of a vector like it, each with its constraint.

        Raises:
            ValueError: if the constraints do not have the form of θ
        """
        leaves, tree = jax.tree.flatten(theta)
        if isinstance(leaves[0], sympy.Basic):
            raise TypeError("constrained methods have no form in symbols: simulate, or ask stability.multipliers")
        join = functools.partial(jax.tree.unflatten, tree)
        if not _is_constraint(self.constraint):
            return Pieces(_per_leaf(self.constraint, theta), leaves, join)
        if self.constraint.elementwise or len(leaves) == 1:
            return Pieces([self.constraint] * len(leaves), leaves, join)
        whole, unravel = ravel_pytree(theta)
        return Pieces([self.constraint], [whole], lambda arrays: unravel(arrays[0]))

    def init(self, theta):
        pieces = self.pieces(theta)
        points = pieces.points([None] * len(pieces.arrays))
        slack = tuple(c.slack(x) for c, x in zip(pieces.constraints, points, strict=True))
        return ConstrainedState(theta, slack, self._at_rest(Vector(tuple(points))), jnp.asarray(True))

    @eqx.filter_jit
    def gap(self, theta):
        pieces = self.pieces(theta)
        return functools.reduce(jnp.maximum, pieces.each(lambda c, array: c.gap(array), pieces.arrays).tree)

    @eqx.filter_jit
    def project(self, theta):
        pieces = self.pieces(theta)
        return pieces.join(list(pieces.each(lambda c, array: c.feasible(array), pieces.arrays).tree))

    def possible(self, state):
        return state.exists

    def residual(self, state: ConstrainedState) -> jax.Array:
        """Largest distance of a state from its constraints; for `observe`."""
        pieces = self.pieces(state.theta)
        distances = pieces.each(lambda c, x: c.residual(x), pieces.points(state.slack))
        return functools.reduce(jnp.maximum, distances.tree)

    def _at_rest(self, points: Vector) -> Any:
        return None

    def _state(self, pieces: Pieces, points: list, momentum: Any, exists: list) -> ConstrainedState:
        slack = tuple(c.slack(x) for c, x in zip(pieces.constraints, points, strict=True))
        return ConstrainedState(
            pieces.below(points), slack, momentum, functools.reduce(operator.and_, map(jnp.asarray, exists))
        )


class ConstrainedLangevin(Constrained):
    """Underdamped Langevin dynamics on a constraint, by a splitting that is named by its letters.

        dθ = p dt,   dp = −∇L dt − γ p dt + √(2γτ) dW + N(θ) dλ,   g(θ) = 0,   N = ∂g/∂θᵀ

    The stationary law is proportional to exp(−(L + ½ p·p)/τ) on the constraint and its tangents, to order η². "AOAB"
    takes one gradient a step, and the law of θ is that of "BAOAB"; "OBABO" is another word of order 2, while "OBA"
    and "BAO" are of order 1. At the start the momentum is zero.

    Args:
        lr: η > 0, the time of a step
        constraint: one of :mod:`flatdyn.constraints` for all coordinates, or a tree like the parameters of a network
            with one, or None for free parameters, at each leaf
        friction: γ ≥ 0
        temperature: τ ≥ 0, in units of the loss
        splitting: a word of A, B, O in which each occurs
    Raises:
        ValueError: if a number is out of range, the word is not one, or nothing is constrained
    References:
        Leimkuhler, Vlaar, Pouchon, Storkey, arXiv 2106.10704; Leimkuhler and Matthews, Proc. R. Soc. A 472, 20160138
        (2016), for the splittings under constraints.

    The authors' released program differs in more than its units (momenta in units of ∇L, so that its step size is η²
    and its memory e^(−γη)). Its kick comes after A O A, but with the gradient from before: on ½ λ θ², free, that has
    the variance 1.433 τ/λ at η = 0.3, γ = λ = 1, where "AOAB" has τ/λ. On circles it moves the slack variable with the
    new θ, so that the radius drifts. On orthogonal weights with more columns than rows it projects the new momentum
    with the old transposed weight, and its word is OBA. Its momenta start uphill, at +∇L on circles, and at −0.01 ∇L on
    orthogonal weights; none of it is printed.
    """

    lr: Any = hyperparameter()
    constraint: Any
    thermostat: Friction
    splitting: str = eqx.field(static=True)

    def __init__(self, lr: Any, constraint: Any, friction: Any = 1.0, temperature: Any = 1.0, splitting: str = "AOAB"):
        self.lr, self.constraint, self.splitting = checks.real(lr), constraint, splitting
        self.thermostat = Friction(friction, temperature)

    def __check_init__(self):
        checks.number("lr", self.lr, above=0)
        check_word(self.splitting)
        for name in ("friction", "temperature"):
            checks.number(name, getattr(self.thermostat, name), one=True)  # one for all: a tree has no place here

    @property
    def draws(self):
        return self.splitting.count("O")

    def step(self, grad, state, *normals):
        pieces = self.pieces(state.theta)
        points, p, exists = pieces.points(state.slack), state.momentum, [True]
        normals = iter(normals)
        for letter in self.splitting:
            time = self.lr / self.splitting.count(letter)
            if letter == "A":
                moved = pieces.each(lambda c, x, own, time=time: c.drift(x, own, time), points, p).tree
                points, momenta, now = zip(*moved, strict=True)
                p, exists = Vector(momenta), [*exists, *now]
            elif letter == "B":
                force = pieces.vector(self.pieces(grad(pieces.below(points))).arrays)
                p = pieces.tangent(points, p - time * force)
            else:
                noise = pieces.each(
                    lambda c, x, normal: c.thermal(x, normal), points, self.pieces(next(normals)).arrays
                )
                p = pieces.tangent(points, self.thermostat.act(p, time, None, None, noise)[0])
        return self._state(pieces, points, p, exists)

    def tangency(self, state: ConstrainedState) -> jax.Array:
        """Largest component of the momentum along a normal; for `observe`."""
        pieces = self.pieces(state.theta)
        normal = state.momentum - pieces.tangent(pieces.points(state.slack), state.momentum)
        return functools.reduce(jnp.maximum, [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(normal)])

    def _at_rest(self, points):
        return 0 * points


class ConstrainedSGLD(Constrained):
    """Overdamped Langevin dynamics on a constraint: a step of SGLD, then back to the constraint.

        x̄ = x − η ∇ℓ(x; ξ) + √(2 η τ) R,   x⁺ = x̄ + N λ on the constraint

    N are the normals at the new point ("new": x⁺ is the point nearest to x̄; circles and spheres radially, matrices by
    the polar factor) or at the old one ("old"). Both are of order 1 in η. For circles R has a part along s too.

    Args:
        lr: η > 0, a time
        constraint: as for :class:`ConstrainedLangevin`
        temperature: τ ≥ 0, in units of the loss
        along: "new" or "old"
    Raises:
        ValueError: if a number or the word is out of range, or nothing is constrained
    References:
        Leimkuhler, Vlaar, Pouchon, Storkey, arXiv 2106.10704 has the overdamped limit; the step is our reading of it.
    """

    lr: Any = hyperparameter()
    constraint: Any
    temperature: Any = hyperparameter()
    along: str = eqx.field(static=True)

    def __init__(self, lr: Any, constraint: Any, temperature: Any = 1.0, along: str = "new"):
        self.lr, self.constraint = checks.real(lr), constraint
        self.temperature, self.along = checks.real(temperature), along

    def __check_init__(self):
        checks.number("lr", self.lr, above=0)
        checks.number("temperature", self.temperature, at_least=0)
        checks.choice("along", self.along, ALONG)

    @property
    def draws(self):
        return max(one.copies for one in jax.tree.leaves(self.constraint, is_leaf=_is_constraint))

    def step(self, grad, state, *normals):
        pieces = self.pieces(state.theta)
        points = pieces.points(state.slack)
        noise = pieces.vector(*(self.pieces(normal).arrays for normal in normals))
        force = pieces.vector(self.pieces(grad(state.theta)).arrays)
        away = Vector(tuple(points)) - self.lr * force + sqrt(2 * self.lr * self.temperature) * noise
        moved = pieces.each(lambda c, x, start: c.retract(x, start, self.along), away, points).tree
        points, exists = zip(*moved, strict=True)
        return self._state(pieces, points, None, list(exists))


def _is_constraint(value: Any) -> bool:
    return isinstance(value, Constraint)


def _per_leaf(constraint: Any, theta: Any) -> list[Constraint]:
    """The constraint of each leaf of θ, from a tree of them."""
    tree = jax.tree.structure(theta.tree if isinstance(theta, Vector) else theta)
    try:
        entries = tree.flatten_up_to(constraint)
    except ValueError:
        raise ValueError(f"constraint must be a tree like the parameters, got {checks.shown(constraint)}") from None
    if not all(entry is None or _is_constraint(entry) for entry in entries):
        raise ValueError(
            f"constraint must have a Constraint or None at each leaf of the parameters, got {checks.shown(constraint)}"
        )
    return [Free() if entry is None else entry for entry in entries]
