"""Mean and covariance of the gradient that a method follows under noise: derived from the step, and as published.

    m(θ) = E G(θ; ξ),   C(θ) = Cov G(θ; ξ),   G(θ; ξ) = ∇ℓ(p; ξ) at the method's perturbed point p

*Derived*: G is the method's own, and the expectations are sums over a rule for ξ: cubature for normal numbers, all
batches of a finite sum.

*Published*: to first order in ρ, with uᵢ = gᵢ (USAM), gᵢ/‖∇L‖ (DNSAM), gᵢ/‖gᵢ‖ (SAM) of a minibatch's gradient gᵢ
and Hessian Hᵢ, Σ = Cov gᵢ and K = Cov(gᵢ, Hᵢuᵢ):

    m = ∇L + ρ E[Hᵢuᵢ],   C = Σ + ρ (K + Kᵀ)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import quadrature
from flatdyn.core.algebra import Vector, norm
from flatdyn.methods import DNSAM, GD, GSAM, SAM, USAM
from flatdyn.noise import Curvature, FiniteSum, Gaussian, Normal
from flatdyn.processes import Iteration
from flatdyn.processes.batches import MOST_BATCHES, all_batches, number_of_batches


class Moments(NamedTuple):
    """Mean m, shape (dim,), and covariance C, shape (dim, dim), of the gradient that is followed."""

    mean: jax.Array
    covariance: jax.Array


# --- derived --------------------------------------------------------------------------------------------------


def check_brownian(process: Iteration) -> None:
    """Raise TypeError if the samples add up to no Brownian motion: they hang together, or have no variance."""
    if process.noise.remembers:
        raise TypeError(
            "a diffusion needs samples that are independent from step to step, and those of one epoch are not: take "
            f"FiniteSum in place of {process.noise!r}"
        )
    if not isinstance(process.noise, Normal | FiniteSum):
        raise TypeError(
            "a diffusion needs noise with a variance: Gaussian, Curvature, StateDependent or FiniteSum, got "
            f"{process.noise!r}"
        )


def check_derived(process: Iteration) -> None:
    """Raise TypeError if the step has moments that cannot be summed."""
    check_brownian(process)
    if isinstance(process.noise, FiniteSum):
        if isinstance(process.method, GD):
            return
        number = number_of_batches(process)
        if number > MOST_BATCHES:
            raise TypeError(
                f"the moments of a step are sums over all minibatches, here {number:,}, and more than {MOST_BATCHES} "
                "are too many: take a smaller batch or fewer examples, or Gaussian noise of the same covariance"
            )
    elif process.method.jumps_on_surfaces and process.ascent != "full":
        raise TypeError(
            "the moments of ASAM with p=inf, which jumps along surfaces, are not available by cubature: take p=2"
        )
    elif process.method.jumps_elsewhere and process.ascent != "full" and not isinstance(process.method, DNSAM):
        raise TypeError(
            "cubature follows a step that jumps where ∇ℓ(θ) vanishes, and nowhere else: take one ascent, and decay "
            "that is coupled or in the landscape, or eps > 0"
        )
    elif _vanishes_apart(process) and process.ascent != "full":
        raise TypeError(
            "cubature follows a step that jumps where ∇ℓ(θ) vanishes, and nowhere else, and with a mask, or a norm for "
            "each tensor, it jumps where a part of it does: take eps > 0, scope='all', or a sum over minibatches"
        )
    elif process.ascent == "independent" and isinstance(process.method, GSAM):
        raise TypeError(
            "what GSAM follows is not linear in the descent's sample, which cubature makes use of: take "
            "ascent='shared', or a sum over minibatches"
        )
    elif process.dim > 2 and not isinstance(process.method, GD):
        raise TypeError(
            f"the moments of a {type(process.method).__name__} step are computed by cubature in 1 and 2 dimensions, "
            f"this landscape has {process.dim}: the published form of GD, USAM and DNSAM under additive noise knows any"
        )


def _vanishes_apart(process: Iteration) -> bool:
    """Whether a normalised ascent jumps where a part of the gradient vanishes."""
    method = process.method
    sharp = method.may_jump and not isinstance(method, DNSAM)
    return process.dim > 1 and sharp and method.vanishes_apart(process.shapes())


def derived(process: Iteration, theta: Vector) -> Moments:
    """m and C of the gradient that `process` follows from θ.

    Under normal noise in the plane a SAM step takes 2048 gradients, others 400; on a line 112 and 32. Curvature noise
    that is taken anew at each point is not smooth where an eigenvalue passes 0: there the result has two digits.
    """
    if isinstance(process.method, GD):
        return _pulled(process, theta)
    drawn, weights = _rule(process, theta)
    return _moments(jax.vmap(lambda xi: _followed(process, xi, theta))(drawn), weights)


def _followed(process: Iteration, drawn: tuple, theta: Vector) -> jax.Array:
    return process.landscape.array(process.method.pull(process.sample(drawn), theta))


def _moments(values: jax.Array, weights: jax.Array) -> Moments:
    mean = jnp.tensordot(weights, values, axes=1)
    return Moments(mean, _covariance(values, values, weights))


def _covariance(a: jax.Array, b: jax.Array, weights: jax.Array) -> jax.Array:
    a, b = (x - jnp.tensordot(weights, x, axes=1) for x in (a, b))
    return jnp.einsum("n,ni,nj->ij", weights, a, b)


def _pulled(process: Iteration, theta: Vector) -> Moments:
    """Those of GD: weight decay pulls the mean, wherever it acts, and spreads nothing."""
    mean, covariance = _plain(process, theta)
    if "weight_decay" in process.method.absent:
        return Moments(mean, covariance)
    return Moments(mean + process.landscape.array(process.method.pulled(theta)), covariance)


def _plain(process: Iteration, theta: Vector) -> Moments:
    """∇L and the covariance of its sample: S Sᵀ/B, or Σ/B over n examples, without replacement Σ/B·(n − B)/(n − 1)."""
    landscape, noise = process.landscape, process.noise
    if isinstance(noise, Normal):
        factor = noise.factor(landscape, theta)
        return Moments(landscape.array(landscape.field(theta)), factor @ factor.T)
    n, B = landscape.number, noise.batch_size
    each = jax.vmap(lambda i: landscape.array(landscape.batch_field(theta, i[None])))(jnp.arange(n))
    mean, covariance = _moments(each, jnp.full(n, 1 / n, each.dtype))
    return Moments(mean, covariance / B * (1 if noise.replace or n == 1 else (n - B) / (n - 1)))


def _rule(process: Iteration, theta: Vector) -> tuple[tuple, jax.Array]:
    """All that can be drawn, as a tuple of batches of samples (descent, and ascent if it has its own); weights."""
    kind = jnp.result_type(*jax.tree.leaves(theta))
    one = all_batches(process) if isinstance(process.noise, FiniteSum) else _normal_rule(process, theta)
    one = jax.tree.map(lambda x: x.astype(kind) if jnp.issubdtype(x.dtype, jnp.inexact) else x, one)
    if process.ascent != "independent":
        return (one[0],), one[1]
    # The sampled gradient is linear in a normal ξ: for the descent ±1 in each coordinate are exact.
    descent = one if isinstance(process.noise, FiniteSum) else _vectors(process, quadrature.smooth(process.dim, 2))
    first, second = (x.ravel() for x in np.meshgrid(range(len(descent[1])), range(len(one[1])), indexing="ij"))
    pair = tuple(jax.tree.map(lambda x, i=i: x[i], samples) for samples, i in ((descent[0], first), (one[0], second)))
    return pair, descent[1][first] * one[1][second]


def _normal_rule(process: Iteration, theta: Vector) -> tuple[Vector, jax.Array]:
    if not process.method.may_jump or isinstance(process.method, DNSAM) or process.ascent == "full":
        return _vectors(process, quadrature.smooth(process.dim))
    return _vectors(process, quadrature.jumping(process.noise.vanishing(process.landscape, theta)))


def _vectors(process: Iteration, rule: quadrature.Rule) -> tuple[Vector, jax.Array]:
    return jax.vmap(process.landscape.vector)(rule.nodes), rule.weights


# --- published ------------------------------------------------------------------------------------------------


def check_published(process: Iteration) -> None:
    """Raise if no closed form is published for this method and noise."""
    check_brownian(process)
    method = process.method
    if not isinstance(method, (GD, SAM, USAM)):
        raise TypeError(f"SDEs are published for GD, USAM, DNSAM and SAM, not for {method!r}: take form='derived'")
    if not isinstance(method, GD) and not _as_published(method):
        raise ValueError(
            f"SDEs are published for one ascent of p = 2, without weight decay: take form='derived' for {method!r}"
        )
    if process.ascent != "shared":
        raise ValueError(
            f"published SDEs are of ascents that share their minibatch, not {process.ascent!r}: take form='derived'"
        )
    if getattr(process.noise, "ascent_size", None) is not None:
        raise ValueError("published SDEs know no ascent_size: take form='derived'")
    if closed(process) is None:
        check_derived(process)


def _as_published(method: SAM | USAM) -> bool:
    norm_of_all = getattr(method, "p", 2) == 2 and getattr(method, "scope", "masked") == "masked"
    return norm_of_all and method.ascents == 1 and "weight_decay" in method.absent


def closed(process: Iteration) -> str | None:
    """Which closed form there is: "matrix", "line" (SAM), or None if E[Hᵢuᵢ] and K are to be summed."""
    method, noise = process.method, process.noise
    if isinstance(method, GD):
        return "matrix"
    if not (isinstance(noise, Gaussian) or (isinstance(noise, Curvature) and noise.root is not None)):
        return None
    if isinstance(method, (USAM, DNSAM)):
        return "matrix"
    smoothed = not isinstance(method.eps, (int, float)) or method.eps > 0
    return "line" if process.dim == 1 and method.mask is None and not smoothed else None


def published(process: Iteration, theta: Vector, exact: str | None) -> Moments:
    """m and C to first order in ρ, as in the papers.

    With Hᵢ = H (additive noise) and a mask M:
        USAM    m = ∇L + ρ HM∇L,        C = (I + ρHM) Σ (I + ρMH), the same up to ρ², and never negative
        DNSAM   the same with ρ/‖M∇L‖
        SAM     1-D: m = L' + ρ L'' erf(L'/(s√2)),   C = s² + 4 ρ L'' s φ(L'/s),   s² = Σ
    and otherwise the expectations over all that can be drawn. `exact` is what :func:`closed` said.

    References:
        SGD: Li, Tai, E, arXiv 1511.06251 (order 1). USAM, DNSAM, SAM: Compagnoni et al., arXiv 2301.08203,
        as drift and covariance; the closed form of SAM on a line is worked out here.
    """
    method, landscape = process.method, process.landscape
    if isinstance(method, GD):
        return _pulled(process, theta)
    if exact == "line":
        return _sam_on_a_line(process, theta)
    if exact is None:
        return _first_order(process, theta)
    mean, covariance = _plain(process, theta)
    ascent = landscape.array(method.masked(landscape.vector(mean)))
    rho = method.rho if isinstance(method, USAM) else method.rho / norm(ascent, method.eps)
    hessian = landscape.hessian(landscape.array(theta))
    mask = landscape.array(method.masked(landscape.vector(jnp.ones_like(mean))))
    spread = jnp.eye(process.dim, dtype=mean.dtype) + rho * hessian * mask
    return Moments(mean + rho * hessian @ ascent, spread @ covariance @ spread.T)


def _sam_on_a_line(process: Iteration, theta: Vector) -> Moments:
    (slope,), ((variance,),) = _plain(process, theta)
    curvature, s = process.landscape.hessian(process.landscape.array(theta))[0, 0], jnp.sqrt(variance)
    rho, z = process.method.rho, slope / s
    mean = slope + rho * curvature * jax.scipy.special.erf(z / np.sqrt(2))
    return Moments(mean[None], (variance + 4 * rho * curvature * s * jax.scipy.stats.norm.pdf(z))[None, None])


def _first_order(process: Iteration, theta: Vector) -> Moments:
    """Σ over all that can be drawn, with gᵢ and Hᵢuᵢ from one forward derivative."""
    landscape, method = process.landscape, process.method
    full = norm(method.masked(landscape.field(theta)), getattr(method, "eps", 0.0))

    def one(drawn):
        field = process.sample(drawn)
        ascent = method.masked(field(theta))
        if isinstance(method, DNSAM):
            ascent = ascent / full
        elif isinstance(method, SAM):
            ascent = ascent / norm(ascent, method.eps)
        g, curved = jax.jvp(field, (theta,), (ascent,))
        return landscape.array(g), landscape.array(curved)

    drawn, weights = _rule(process, theta)
    g, curved = jax.vmap(one)(drawn)
    mean, covariance = _moments(g, weights)
    K = _covariance(g, curved, weights)
    average = jnp.tensordot(weights, curved, axes=1)
    return Moments(mean + method.rho * average, covariance + method.rho * (K + K.T))
