"""Flows: ordinary differential equations that a method follows as its step becomes small."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, norm, scaled
from flatdyn.landscapes import Landscape
from flatdyn.methods.base import FirstOrder
from flatdyn.methods.fields import GradientField
from flatdyn.processes import Iteration, OnLandscape


class FlowState(eqx.Module):
    """State of a flow.

    Attributes:
        theta: θ
        velocity: θ', in θ per unit of time; None for flows of first order
        arrived: whether it has come to rest at a point where its field jumps; None if the field has no such points
    """

    theta: Any
    velocity: Any = None
    arrived: Any = None


class Flow(OnLandscape):
    """The differential equation of a first-order method, in the time t = steps × lr.

        G(θ) = ∇L(p(θ)),  p as the method's           what the method follows, without noise; with its weight decay
        θ' = −G/(1−μ) − order · η c DG·G              c = (1+μ)/(2(1−μ)³);  Nesterov: (1−μ+2μ²)/(2(1−μ)³)

    Order 0 is the limit η → 0; the method stays O(η) close to it. Order 1 is the modified equation, to which it stays
    O(η²) close. With momentum that holds for a start with the velocity that belongs to it, v₀ = −ηG/(1−μ): from rest
    the method first loses η μ G/(1−μ)² (Nesterov: η μ² G/(1−μ)²), which an equation of first order cannot know. With
    `inertia` the equation is of second order and holds from rest on,

        order 0:  η θ'' + (1−μ) θ' = −G,                               θ'(0) = 0
        order 1:  η (1+μ)/2 θ'' + (1−μ) θ' [+ η μ DG·θ'] = −G,         θ'(0) = −G/(1+μ) [(1 + 2μ)]

    with [ ] for Nesterov alone. θ'(0) is not 0 at order 1 because v₀ = 0 is the move half a step before the start.
    SAM's jump is then passed through, not stopped at; `solve` gives up where it is passed again and again.

    **Where SAM's field jumps**, at critical points, its flow arrives in finite time and then slides: a flow stops
    there for good. It is taken to arrive when the gradient would turn round within one step.

    Args:
        landscape: what is descended
        method: GD, SAM, USAM, or another :class:`FirstOrder` method
        dt: time that one `step` covers; the method's lr if not given
        order: 0 or 1
        inertia: keep the velocity as a variable
    Raises:
        TypeError: if the method does not follow one gradient, or jumps along surfaces (ASAM with p = ∞)
        ValueError: if dt or order is out of range; inertia without momentum; SAM with eps = 0 and a mask that leaves
            parts out, or a norm for each tensor, whose flow slides along the surface on which such a part of the
            gradient vanishes, or with decay that does not vanish there; a convention that is known at order 0 alone
            (dampening, decoupled decay of a velocity)
    References:
        Modified equations: Barrett and Dherin, arXiv 2009.11162 (GD); Kovachki and Stuart, JMLR 22 (2021) (momentum).
        Inertia: Qian, Neural Networks 12 (1999); Hessian damping of Nesterov: Shi, Du, Jordan, Su, Math. Program. 195
        (2022). Here derived anew, and tested by orders.
    """

    landscape: Landscape
    method: FirstOrder
    dt: Any
    order: int = eqx.field(static=True)
    inertia: bool = eqx.field(static=True)
    jumping: bool = eqx.field(static=True)

    def __init__(
        self, landscape: Landscape, method: FirstOrder, dt: Any = None, order: int = 0, *, inertia: bool = False
    ):
        if not isinstance(method, FirstOrder) or method.remembers:
            raise TypeError(f"a flow needs a method that follows one gradient (GD, SAM, USAM, ...), got {method!r}")
        if not isinstance(order, int | np.integer) or order not in (0, 1):
            raise ValueError(f"order must be 0 (the limit of small steps) or 1 (its first correction), got {order!r}")
        if checks.flag("inertia", inertia) and not method.inertial:
            raise ValueError("inertia needs a method with momentum: without it the equation is of first order")
        _check_conventions(method, order, inertia)
        form = Iteration(landscape, method).shapes()  # refuses a mask that does not fit
        self.landscape, self.method, self.order, self.inertia = landscape, method, order, bool(inertia)
        self.dt = method.lr if dt is None else checks.number("dt", checks.real(dt), above=0, one=True)
        self.jumping = method.may_jump and not self.inertia
        if self.jumping and method.jumps_on_surfaces:
            raise TypeError(f"the flow of {method!r} slides along the surfaces where its gradient jumps: take p=2")
        if self.jumping and method.vanishes_apart(form):
            raise ValueError(
                "with a mask, or a norm for each tensor, SAM's flow slides along the surface on which that part of the "
                "gradient vanishes: give eps > 0, or scope='all'"
            )
        if self.jumping and not method.decays("loss") and "weight_decay" not in method.absent:
            raise ValueError(
                "a flow that jumps where ∇L vanishes does not rest there if weight decay pulls it on: take "
                "decay='loss', or give eps > 0"
            )
        if self.jumping and getattr(method, "ascents", 1) != 1:
            raise ValueError(f"the flow of several ascents jumps elsewhere as well: give eps > 0, got {method!r}")

    @property
    def _whole(self) -> bool:
        """Whether the velocity takes all of a gradient."""
        return "dampening" in self.method.absent

    def init(self, theta):
        point = self.landscape.vector(theta)
        velocity = self._from_rest(point) if self.inertia else None
        gradient = self.seen(point)
        _, unit = scaled(gradient)
        arrived = (unit @ unit == 0) & self.method.jumps if self.jumping else None
        return FlowState(point, velocity, arrived)

    def step(self, state, key=None):
        """Advance by dt: one step of Tsitouras' method of order 5 (diffrax.Tsit5)."""
        if self.inertia:
            theta, velocity = self._advance((state.theta, state.velocity))
            return FlowState(theta, velocity)
        theta = self._advance(state.theta)
        if not self.jumping:
            return FlowState(theta)
        turns, critical = self._arrival(state.theta)
        arrived = state.arrived | turns
        stopped = _where(state.arrived, state.theta, critical)
        return FlowState(_where(arrived, stopped, theta), None, arrived)

    def seen(self, theta: Vector) -> Vector:
        """∇L, with weight decay if that is in the loss: the field jumps where it vanishes."""
        return self.method.field(self.landscape.field)(theta)

    def gradient(self, theta: Vector) -> Vector:
        """G(θ), the gradient that the method follows, by its own formula; weight decay included."""
        return self.method.pull(GradientField(self.landscape.field, self.landscape.field), theta)

    def field(self, state: Any) -> Any:
        """The right-hand side: of θ, or with inertia of the pair (θ, θ')."""
        if self.inertia:
            return self._of_second_order(*state)
        lr, mu = self.method.lr, self.method.momentum
        if self.order == 0:
            return -self.gradient(state) / (1 - mu) if self._whole else -self.method.gain * self.gradient(state)
        G, curved = self._with_slope(state)
        c = (1 - mu + 2 * mu**2 if self.method.nesterov else 1 + mu) / (2 * (1 - mu) ** 3)
        return -G / (1 - mu) - lr * c * curved

    def _of_second_order(self, theta: Vector, velocity: Vector) -> tuple[Vector, Vector]:
        lr, mu = self.method.lr, self.method.momentum
        mass = lr * ((1 + mu) / 2 if self.order else 1)
        if not (self.order and self.method.nesterov):
            return velocity, -((1 - mu) * velocity + self.gradient(theta)) / mass
        G, curved = jax.jvp(self.gradient, (theta,), (velocity,))
        return velocity, -((1 - mu) * velocity + lr * mu * curved + G) / mass

    def _from_rest(self, theta: Vector) -> Vector:
        """θ' with which a method at rest sets out."""
        mu = self.method.momentum
        return -self.order * (1 + 2 * mu if self.method.nesterov else 1) * self.gradient(theta) / (1 + mu)

    def _with_slope(self, theta: Vector) -> tuple[Vector, Vector]:
        """G and DG·G."""
        G = self.gradient(theta)
        return G, jax.jvp(self.gradient, (theta,), (G,))[1]

    def _advance(self, state: Any) -> Any:
        import diffrax  # a second of loading, for flows alone

        term, solver = diffrax.ODETerm(lambda t, y, args: self.field(y)), diffrax.Tsit5(scan_kind="lax")
        dt = jnp.asarray(self.dt, jax.tree.leaves(state)[0].dtype)
        memory = solver.init(term, 0 * dt, dt, state, None)
        return solver.step(term, 0 * dt, dt, state, None, memory, made_jump=False)[0]

    def _arrival(self, theta: Vector) -> tuple[jax.Array, Vector]:
        """Whether ∇L turns round within one step straight ahead, and where on the way it is smallest."""
        ahead = theta + self.dt * self.field(theta)
        here, there = self.seen(theta), self.seen(ahead)
        _, here, there = scaled(here, there)
        change = there - here
        share = -(here @ change) / norm(change) ** 2
        turns = (here @ there < 0) & self.method.jumps
        return turns, theta + share * (ahead - theta)


def _check_conventions(method: FirstOrder, order: int, inertia: bool) -> None:
    """Raise ValueError for what only the limit of small steps, order 0, is known for."""
    if not (order or inertia):
        return
    what = "the modified equation" if order else "the equation with inertia"
    if "dampening" not in method.absent:
        raise ValueError(
            f"{what} is not known with dampening: a heavy ball with dampening τ is one with lr (1 − τ), so give that"
        )
    if method.inertial and method.decays("decoupled"):
        raise ValueError(f"{what} is not known for decoupled decay with momentum: take order=0, or decay='coupled'")
    if inertia and method.start != "rest":
        raise ValueError(f"inertia is that of a method that starts at rest, got start={method.start!r}")


def _where(condition: jax.Array, yes: Vector, no: Vector) -> Vector:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
