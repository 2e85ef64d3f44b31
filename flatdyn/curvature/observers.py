"""Quantities to measure along runs, by `observe` of :func:`flatdyn.simulate` and `watch` of `networks.train`.

TopEigenvalues      the largest eigenvalues of the Hessian, or of the preconditioned one, carried along
BatchSharpness      E[g·H_B g]/E‖g‖² over minibatches
GradientNorm, UpdateNorm, Distance
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory
from flatdyn.curvature.carried import top
from flatdyn.curvature.spectra import tolerance
from flatdyn.landscapes import Landscape
from flatdyn.landscapes.finite_sums import Examples
from flatdyn.noise import FiniteSum
from flatdyn.processes import Process
from flatdyn.runs.observers import Moment, Observer, on_a_landscape
from flatdyn.stability import preconditioner as preconditioner_of

_GUARD = 1  # vectors below those that are wanted, which are carried, too
_SPARE = 8  # further directions that are held
_LOOSE = 0.05  # residual of a random vector, over the largest modulus, to which it is followed


class OnLoss(Observer):
    """Measured of a loss: the process's own, or another one over the same coordinates, the field `landscape`."""

    def __check_init__(self):
        if self.landscape is not None:
            checks.kind("landscape", self.landscape, Landscape)

    def check(self, process, dtype):
        landscape, dim = self.of(process), on_a_landscape(process).dim
        if landscape.dim != dim:
            raise ValueError(f"landscape must have the {dim} coordinates of the process, got {landscape.dim}")

    def of(self, process: Process) -> Landscape:
        """The loss that is measured of a process."""
        return on_a_landscape(process).landscape if self.landscape is None else self.landscape


class TopEigenvalues(OnLoss):
    """The k largest eigenvalues of the Hessian along a run, with eigenvectors that are carried along.

        ∇²L v = λ v,   or P^(−1/2) ∇²L P^(−1/2) v = λ v

    Each measurement begins with the eigenvectors of the one before, so that a few products Hv are enough where θ has
    moved little, and goes on along their residuals until the estimated relative error of each, min(r, r²/gap)/max|λ|
    with r = ‖Hv − λv‖, is below tol. The first one begins with a random vector, as Lanczos' method. One vector below
    those that are wanted is carried, too, so that an eigenvalue that overtakes the last of them is seen. One whose
    direction is unlike all of these, in a Hessian with blocks, is not: so a random vector takes the place of that one
    at every `fresh`-th measurement, and is followed until no such eigenvalue is likely; between, one may be missed.

    Gives three values: λ, shape (k,); "residuals" r, shape (k,); "products" Hv, (). Where a product is not finite, or
    after `most` products the errors are larger, they are NaN, or as they are, with residuals that say so.

    Args:
        k: how many, from the largest down
        preconditioner: None for the Hessian; "state" for P of :func:`flatdyn.stability.preconditioner` (Adam, RMSProp
            by fd.from_optax); or a function from the state of the run to P > 0, shape (dim,)
        landscape: whose Hessian, such as that of some of the examples; the process's own if not given
        tol: 1e-6, or 1e-3 in single precision, if not given
        fresh: measurements from one that begins with a random vector as well to the next; 1 for all
        most: products of one measurement at most
        key: of the random vectors; `jax.random.key(0)` if not given
    """

    k: int = eqx.field(static=True, converter=checks.whole, default=1)
    preconditioner: Any = eqx.field(default=None)
    landscape: Landscape | None = None
    tol: float | None = eqx.field(static=True, default=None)
    fresh: int = eqx.field(static=True, converter=checks.whole, default=10)
    most: int = eqx.field(static=True, converter=checks.whole, default=200)
    key: Any = None

    def __check_init__(self):
        checks.count("k", self.k, at_least=1)
        checks.count("fresh", self.fresh, at_least=1, at_most=2**31 - 1)
        checks.count("most", self.most, at_least=2)
        if self.tol is not None:
            checks.number("tol", self.tol, above=0, one=True)
        if self.key is not None:
            checks.key(self.key)
        if isinstance(self.preconditioner, str):
            checks.choice("preconditioner", self.preconditioner, ("state",))
        elif self.preconditioner is not None:
            checks.function("preconditioner", self.preconditioner, 'None, "state", or a function from a state to P')

    def check(self, process, dtype):
        super().check(process, dtype)
        dim = self.of(process).dim
        if self.k > dim:
            raise ValueError(f"k must be at most the {dim} coordinates of the loss, got {self.k}")
        needed = memory.array_bytes(3 * (self.k + _GUARD + _SPARE), dim, itemsize=np.dtype(dtype).itemsize)
        memory.check_memory(0, "the directions", "ask for fewer eigenvalues, `k`", device=needed)
        if self.preconditioner is None:
            return
        theta = jax.ShapeDtypeStruct((process.dim,), dtype)

        def divisor(theta):
            zero = jnp.zeros((), jnp.uint32)
            return self._divisor(Moment(process, process.init(theta), jnp.zeros(2, jnp.uint32), zero, zero))

        if self.preconditioner == "state":
            jax.eval_shape(divisor, theta)  # what has no known preconditioner says so
            return
        shape = checks.traced("preconditioner", divisor, theta, what="a function from the state of a run to P (dim,)")
        if getattr(shape, "shape", None) != (dim,):
            raise ValueError(f"preconditioner must give P of shape ({dim},), got {shape}")

    def begin(self, moment):
        kept, dim = self._sizes(moment)
        count = jnp.zeros((), jnp.int32)
        return jnp.zeros((kept, dim), moment.theta.dtype), count, count

    def measure(self, moment, memory):
        (kept, dim), (before, known, count) = self._sizes(moment), memory
        landscape, theta = self.of(moment.process), moment.theta
        product = jax.linearize(landscape.grad, theta)[1]
        if self.preconditioner is not None:
            root = jnp.sqrt(self._divisor(moment))
            plain = product
            product = lambda v: plain(v / root) / root  # noqa: E731
        key = jax.random.fold_in(jax.random.key(0) if self.key is None else self.key, count)
        anything, fresh = jax.random.normal(key, (dim,), theta.dtype), count % self.fresh == 0
        renewed = before.at[-1].set(jnp.where(fresh, anything, before[-1])) if kept > self.k else before
        start = jnp.where(known > 0, renewed, jnp.zeros_like(before).at[0].set(anything))
        tol = tolerance(theta.dtype) if self.tol is None else self.tol
        room, loose = min(kept + _SPARE, dim), jnp.where(fresh, _LOOSE, jnp.inf)
        ends = top(product, start, jnp.maximum(known, 1), self.k, room, tol, self.most, loose)
        fine = jnp.isfinite(ends.values).all() & jnp.isfinite(ends.vectors).all()
        vectors, known = jnp.where(fine, ends.vectors, before), jnp.where(fine, kept, known)
        values, residuals = (jnp.where(fine, part, jnp.nan) for part in (ends.values, ends.residuals))
        products = jnp.asarray(ends.products, theta.dtype)
        return {"": values, "residuals": residuals, "products": products}, (vectors, known, count + 1)

    def _sizes(self, moment: Moment) -> tuple[int, int]:
        dim = self.of(moment.process).dim
        return min(self.k + _GUARD, dim), dim

    def _divisor(self, moment: Moment) -> jax.Array:
        if callable(self.preconditioner):
            return self.preconditioner(moment.state)
        return preconditioner_of(moment.iteration, moment.own)


class BatchSharpness(OnLoss):
    """How sharp a loss is along the gradients of its minibatches: batch sharpness.

        E[g_B · H_B g_B] / E‖g_B‖²,   g_B = ∇ℓ_B, H_B = ∇²ℓ_B of one and the same minibatch

    estimated from so many minibatches, others at every measurement and the same for all runs. Gives two values: the
    ratio, and "stderr", its standard error, both (). NaN where they are not finite.

    Args:
        batch_size: B ≥ 1
        batches: how many minibatches, at least 2
        replace: draw the examples of one minibatch with replacement
        landscape: made from examples; the process's own if not given
        key: of the minibatches; `jax.random.key(0)` if not given
    Raises:
        ValueError: if there are too few minibatches for an error, or fewer examples than a minibatch has
    References:
        Andreyev and Beneventano, arXiv 2412.20553.
    """

    batch_size: int = eqx.field(static=True, converter=checks.whole)
    batches: int = eqx.field(static=True, converter=checks.whole, default=32)
    replace: bool = eqx.field(static=True, default=False)
    landscape: Landscape | None = None
    key: Any = None

    def __check_init__(self):
        checks.counts(batch_size=self.batch_size)
        checks.count("batches", self.batches, at_least=1)
        if self.batches < 2:
            raise ValueError("batches must be at least 2, got 1: one minibatch says nothing of the error of a mean")
        checks.flag("replace", self.replace)
        if self.key is not None:
            checks.key(self.key)

    def check(self, process, dtype):
        super().check(process, dtype)
        landscape = self.of(process)
        if not isinstance(landscape, Examples):
            raise TypeError(f"batch sharpness needs a landscape made by Landscape.from_examples, got {landscape!r}")
        if self.batch_size > landscape.number and not self.replace:
            raise ValueError(
                f"too few data for batch sharpness: batch_size={self.batch_size} is larger than the "
                f"{landscape.number} examples; take a smaller one, or replace=True"
            )

    def measure(self, moment, memory):
        landscape = self.of(moment.process)
        theta, minibatches = moment.theta, FiniteSum(self.batch_size, self.replace)
        key = jax.random.fold_in(jax.random.key(0) if self.key is None else self.key, moment.step)

        def one(key):
            grad = landscape.batch(minibatches.draw(key, landscape, theta)).grad
            g = grad(theta)
            return g @ jax.jvp(grad, (theta,), (g,))[1], g @ g

        curved, squares = jax.lax.map(one, jax.random.split(key, self.batches))
        ratio = curved.mean() / squares.mean()
        spread = jnp.sqrt(jnp.sum((curved - ratio * squares) ** 2) / (self.batches * (self.batches - 1)))
        values = {"": ratio, "stderr": spread / squares.mean()}
        return jax.tree.map(lambda one: jnp.where(jnp.isfinite(one), one, jnp.nan), values), memory


class GradientNorm(OnLoss):
    """‖∇L(θ)‖, the gradient of the whole loss, without noise.

    Args:
        landscape: the process's own if not given
    """

    landscape: Landscape | None = None

    def measure(self, moment, memory):
        landscape = self.of(moment.process)
        return jnp.linalg.norm(landscape.grad(moment.theta)), memory


class UpdateNorm(Observer):
    """‖θ⁺ − θ‖ of the step that comes next, under its own noise."""

    def check(self, process, dtype):
        on_a_landscape(process)

    def measure(self, moment, memory):
        return jnp.linalg.norm(moment.next().theta - moment.theta), memory


class Distance(Observer):
    """‖θ − point‖.

    Args:
        point: shape (dim,)
    """

    point: jax.Array = eqx.field(converter=lambda point: checks.numbers("point", point, ndim=1, at_least=1))

    def check(self, process, dtype):
        dim = on_a_landscape(process).dim
        if len(self.point) != dim:
            raise ValueError(f"point must have shape ({dim},), as the process, got {np.shape(self.point)}")

    def measure(self, moment, memory):
        theta = moment.theta
        return jnp.linalg.norm(theta - jnp.asarray(self.point, theta.dtype)), memory
