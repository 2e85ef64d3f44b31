"""Diffusions: stochastic differential equations that approximate a method under gradient noise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import normals
from flatdyn.flows import moments
from flatdyn.flows.moments import Moments
from flatdyn.landscapes import Landscape
from flatdyn.methods import GD, State
from flatdyn.methods.base import FirstOrder
from flatdyn.noise import Noise
from flatdyn.processes import Iteration, OnLandscape
from flatdyn.processes.base import as_before
from flatdyn.runs import stepping

FORMS = ("published", "derived")


class Diffusion(OnLandscape):
    """The SDE of a method under gradient noise, in the time t = steps × lr.

        dθ = −m(θ) dt + √η C(θ)^½ dW                                   order 1
        dθ = −(m + (η/2) Dm·m) dt + √η C(θ)^½ dW                       order 2
        dθ = p dt,   η dp = −((1−μ) p + m(θ)) dt + √η C(θ)^½ dW        with heavy-ball momentum μ, order 1

    m and C are mean and covariance of the gradient that the method follows:

    * form="derived": of the very step, E[θ⁺ − θ]/(−η) and Cov[θ⁺]/η², by cubature over the normal numbers that drive
      it (in 1 and 2 dimensions), or over all batches of a finite sum. Weak order 1, or 2, in η for any fixed ρ.
    * form="published": the closed forms of the papers, to first order in ρ. They approximate USAM, DNSAM and SAM to
      first order in η only if ρ shrinks like √η; at fixed ρ their error does not vanish with η. See
      :func:`flatdyn.flows.moments.published`. C may fail to be positive where ρ is large: then it is cut at zero.

    For SGD both are −∇L dt + (ηΣ)^½ dW, and order 2 is −∇(L + (η/4)‖∇L‖²) dt. With momentum it is the Langevin
    equation of mass η, friction (1−μ)/η and diffusion ηC/2.

    **Steps.** `step` advances by dt with Euler–Maruyama, or for order 2 with Heun's drift, which has weak order 2 in
    dt for additive noise, and an error of order η dt besides where C varies. With dt = η it costs an error as large
    as the one that the SDE makes; take a smaller dt to see the SDE's own.

    Args:
        landscape: what is descended
        method: GD, USAM, DNSAM, SAM; for the derived form any :class:`FirstOrder` method
        noise: how the gradient is sampled: Gaussian, Curvature, StateDependent, FiniteSum
        order: 1 or 2; 2 of the published form is for GD alone, and for no momentum
        form: "published" or "derived"
        ascent: how a SAM step sees its sample, as for :class:`flatdyn.Iteration`; published is "shared" alone
        dt: time that one step covers; the method's lr if not given
    Raises:
        ValueError: if an argument is out of range, or no such equation is published (the derived form is)
        TypeError: if the noise is exact, or the moments cannot be summed
    References:
        Li, Tai, E, arXiv 1511.06251 (SGD, orders 1 and 2). Monzio Compagnoni et al., arXiv 2301.08203 (USAM, DNSAM,
        SAM). Xie, Sato, Sugiyama, arXiv 2006.15815, and Kim et al., arXiv 2301.06308 (momentum).
    """

    landscape: Landscape
    method: FirstOrder
    noise: Noise
    dt: Any
    order: int = eqx.field(static=True)
    form: str = eqx.field(static=True)
    ascent: str = eqx.field(static=True)
    closed: str | None = eqx.field(static=True)

    random = True

    def __init__(
        self,
        landscape: Landscape,
        method: FirstOrder,
        noise: Noise,
        order: int = 1,
        form: str = "published",
        ascent: str = "shared",
        dt: Any = None,
    ):
        if not isinstance(method, FirstOrder) or method.remembers:
            raise TypeError(
                f"a diffusion needs a method that follows one gradient (GD, SAM, USAM, ...), got {method!r}"
            )
        checks.choice("form", form, FORMS)
        if not isinstance(order, int | np.integer) or order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order!r}")
        if method.nesterov and method.inertial:
            raise ValueError("there is no diffusion for Nesterov momentum here: take the heavy ball, nesterov=False")
        if "dampening" not in method.absent:
            raise ValueError("a heavy ball with dampening τ is one with lr (1 − τ): give that, and no dampening")
        if method.inertial and (method.decays("decoupled") or method.start != "rest"):
            raise ValueError("the diffusion with momentum is known for a start at rest, and without decoupled decay")
        if order == 2 and (method.inertial or not (form == "derived" or isinstance(method, GD))):
            raise ValueError("order 2 is published for GD without momentum: take order=1, or form='derived'")
        process = Iteration(landscape, method, noise, ascent)
        (moments.check_published if form == "published" else moments.check_derived)(process)
        self.landscape, self.method, self.noise, self.order = landscape, method, noise, order
        self.form, self.ascent, self.closed = form, ascent, moments.closed(process)
        self.dt = method.lr if dt is None else checks.number("dt", checks.real(dt), above=0, one=True)

    @property
    def draws(self) -> int:
        """How many standard normal numbers drive a step: one per coordinate."""
        return self.dim

    def init(self, theta):
        point = self.landscape.vector(theta)
        return State(point, 0 * point if self.method.inertial else None)

    def step(self, state, key=None):
        return as_before(self._driven(state, normals(key, state.theta)), state)

    def driven(self, state: State, normals: jax.Array) -> State:
        """The step with given standard normal numbers, shape (draws,), in place of a key."""
        return self._driven(state, self.landscape.vector(normals))

    def moments(self, theta: Any) -> Moments:
        """m(θ), shape (..., dim), and C(θ), shape (..., dim, dim), at θ of shape (..., dim)."""
        theta = checks.coordinates("theta", theta, self.dim, finite=True)
        theta = jnp.asarray(theta)
        return _moments(stepping.prepared(self, theta.dtype), theta)

    def coefficients(self, theta: Any) -> tuple[jax.Array, jax.Array]:
        """Drift, shape (..., dim), and diffusion matrix ηC, shape (..., dim, dim), at θ of shape (..., dim).

        Raises:
            TypeError: with momentum, where they are those of the pair (θ, p)
        """
        theta = checks.coordinates("theta", theta, self.dim, finite=True)
        if self.method.inertial:
            raise TypeError("with momentum the diffusion is one of the pair (θ, p): ask `moments` for m and C")
        theta = jnp.asarray(theta)
        return _coefficients(stepping.prepared(self, theta.dtype), theta)

    def on_a_line(self) -> dict[str, Callable]:
        """Drift b and variance v of dx = b dt + √v dW as functions of a NumPy array, by those names.

        They are what :func:`flatdyn.escape.first_passage_1d` asks for: its times, divided by lr, are in steps.

        Raises:
            TypeError: in more dimensions, or with momentum
        """
        if self.dim != 1:
            raise TypeError(f"this needs a diffusion with one coordinate, got {self.dim}")

        def part(which: int, x: Any) -> np.ndarray:
            x = np.asarray(x, float)
            padded = np.resize(x, max(1024, 1 << max(x.size - 1, 0).bit_length()))  # few shapes, few compilations
            with jax.enable_x64(True):
                values = np.asarray(self.coefficients(padded[:, None])[which]).reshape(len(padded))
            return values[: x.size].reshape(x.shape)

        return {"drift": functools.partial(part, 0), "variance": functools.partial(part, 1)}

    def _moments(self, theta: Vector) -> Moments:
        process = Iteration(self.landscape, self.method, self.noise, self.ascent)
        if self.form == "published":
            return moments.published(process, theta, self.closed)
        return moments.derived(process, theta)

    def _mean(self, theta: Vector) -> Vector:
        return self.landscape.vector(self._moments(theta).mean)

    def _drift(self, theta: Vector) -> Vector:
        mean = self._mean(theta)
        if self.order == 1:
            return -mean
        return -mean - self.method.lr / 2 * jax.jvp(self._mean, (theta,), (mean,))[1]

    def _driven(self, state: State, xi: Vector) -> State:
        dt, lr = self.dt, self.method.lr
        m, C = self._moments(state.theta)
        kick = self.landscape.vector(_root(C) @ self.landscape.array(xi)) * (lr * dt) ** 0.5
        if self.method.inertial:
            velocity = state.velocity
            change = (1 - self.method.momentum) * velocity + self.landscape.vector(m)
            # The new velocity moves θ, as in the method: with dt = lr this is its very step.
            velocity = velocity + (kick - change * dt) / lr
            return State(state.theta + velocity * dt, velocity)
        if self.order == 1:
            return State(state.theta - self.landscape.vector(m) * dt + kick)
        drift = self._drift(state.theta)
        ahead = self._drift(state.theta + drift * dt + kick)
        return State(state.theta + (drift + ahead) * (dt / 2) + kick)


@eqx.filter_jit
def _moments(process: Diffusion, theta: jax.Array) -> Moments:
    def one(theta):
        return tuple(process._moments(process.landscape.vector(theta)))

    return Moments(*jnp.vectorize(one, signature="(d)->(d),(d,d)")(theta))


@eqx.filter_jit
def _coefficients(process: Diffusion, theta: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(theta):
        point = process.landscape.vector(theta)
        return process.landscape.array(process._drift(point)), process.method.lr * process._moments(point).covariance

    return jnp.vectorize(one, signature="(d)->(d),(d,d)")(theta)


def _root(C: jax.Array) -> jax.Array:
    """A with A Aᵀ = C, where C is positive; its negative part is left out."""
    if len(C) == 1:
        return jnp.sqrt(jnp.maximum(C, 0))
    if len(C) == 2:
        return _root_in_the_plane(C)
    values, vectors = jnp.linalg.eigh(C)
    return vectors * jnp.sqrt(jnp.maximum(values, 0))


def _root_in_the_plane(C: jax.Array) -> jax.Array:
    """Cholesky's factor, written out so that it fuses with the step."""
    a = jnp.sqrt(jnp.maximum(C[0, 0], 0))
    b = jnp.where(a > 0, C[1, 0] / jnp.where(a > 0, a, 1), 0)
    return jnp.stack([jnp.stack([a, jnp.zeros_like(a)]), jnp.stack([b, jnp.sqrt(jnp.maximum(C[1, 1] - b * b, 0))])])
