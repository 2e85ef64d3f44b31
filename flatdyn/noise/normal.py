"""Noises that are linear in one standard normal vector: additive, shaped like the curvature, or as you say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import normals
from flatdyn.landscapes import Landscape
from flatdyn.noise.base import Noise


class Normal(Noise):
    """Noises that are linear in one standard normal vector.

        ∇ℓ(θ; ξ) = ∇L(θ) + S(θ) ξ / √B,   ξ ~ N(0, I),   Σ(θ) = S Sᵀ

    Subclasses have the field batch_size (B) and say what S is: `spread`.
    """

    def spread(self, landscape: Landscape, theta: Vector) -> Any:
        """S: one number, one per coordinate, or a matrix (dim, dim)."""
        raise NotImplementedError

    def draw(self, key, landscape, theta):
        return normals(key, theta)

    def gradient(self, landscape, theta, sample):
        return landscape.field(theta) + self._tilt(landscape, theta, sample)

    def value(self, landscape, theta, sample, origin):
        return landscape.value(theta) + self._tilt(landscape, origin, sample) @ (theta - origin)

    def _tilt(self, landscape: Landscape, theta: Vector, sample: Vector) -> Vector:
        """S(θ) ξ / √B."""
        return times(self.spread(landscape, theta), sample, landscape) * self.batch_size**-0.5

    def factor(self, landscape: Landscape, theta: Vector) -> jax.Array:
        """S/√B as a matrix, shape (dim, dim): the covariance of the sampled gradient is its square."""
        spread = jnp.asarray(self.spread(landscape, theta)) * self.batch_size**-0.5
        return spread if spread.ndim == 2 else spread * jnp.eye(landscape.dim)

    def vanishing(self, landscape: Landscape, theta: Vector) -> jax.Array:
        """The ξ with ∇ℓ(θ; ξ) = 0, where the direction of an ascent turns round, on a line or in the plane.

        ξ = −(S/√B)⁻¹ ∇L,   shape (dim,);  infinite or NaN where S is singular
        """
        factor, gradient = self.factor(landscape, theta), landscape.array(landscape.field(theta))
        if landscape.dim == 1:
            return -gradient / factor[0]
        (a, b), (c, d) = factor
        x, y = gradient
        return jnp.stack([b * y - d * x, c * x - a * y]) / (a * d - b * c)

    def leading_to(self, landscape: Landscape, theta: Vector, gradient: jax.Array) -> jax.Array:
        """The ξ with ∇ℓ(θ; ξ) = gradient, shape (dim,); infinite or NaN where S is singular.

        ξ = √B S⁻¹ (gradient − ∇L)
        """
        spread = jnp.asarray(self.spread(landscape, theta))
        beyond = (gradient - landscape.array(landscape.field(theta))) * self.batch_size**0.5
        return beyond / spread if spread.ndim < 2 else jnp.linalg.solve(spread, beyond)


class Gaussian(Normal):
    """Additive normal noise, the same everywhere.

        ∇ℓ(θ; ξ) = ∇L(θ) + S ξ / √B,   ξ ~ N(0, I)

    so one example's gradient has covariance Σ = S Sᵀ, and a batch of B has Σ/B.

    Args:
        scale: S ≥ 0 in units of ∇L: one standard deviation, or one per coordinate
        batch_size: B ≥ 1
        covariance: Σ itself instead of `scale`, symmetric positive semidefinite, shape (dim, dim)
    Raises:
        ValueError: if a number is out of range, both or neither of scale and covariance are given, or the
            covariance is not symmetric positive semidefinite
    """

    scale: Any = eqx.field(converter=checks.plain, default=None)
    batch_size: Any = eqx.field(converter=checks.plain, default=1)
    root: Any = None

    def __init__(self, scale: Any = None, batch_size: Any = 1, covariance: Any = None):
        if (scale is None) == (covariance is None):
            raise ValueError("Gaussian needs either scale (standard deviations) or covariance (a matrix)")
        self.scale = checks.numbers("scale", scale) if isinstance(scale, list | tuple) else checks.plain(scale)
        self.batch_size = checks.plain(batch_size)
        self.root = (
            None if covariance is None else _kept_root("covariance", checks.covariance("covariance", covariance))
        )

    def __check_init__(self):
        if self.scale is not None:
            checks.number("scale", self.scale, at_least=0)
            if np.ndim(self.scale) > 1:
                raise ValueError(f"scale holds standard deviations, got shape {np.shape(self.scale)}: use covariance=")
        checks.number("batch_size", self.batch_size, at_least=1)

    def check(self, landscape):
        check_single("batch_size", self.batch_size)
        check_width("scale" if self.root is None else "covariance", self.spread(landscape, None), landscape)

    def spread(self, landscape, theta):
        return self.scale if self.root is None else self.root


class Curvature(Normal):
    """Normal noise shaped like the curvature, as the gradient noise of a network near a critical point is.

        Σ(θ) = scale · |∇²L(θ)|,   or scale · |matrix| everywhere

    with |H| = V |Λ| Vᵀ for H = V Λ Vᵀ, so that an eigen-direction of curvature λ has the variance scale |λ| / B.

    Args:
        scale: ≥ 0, in units of the loss
        batch_size: B ≥ 1
        matrix: a symmetric matrix, shape (dim, dim), in place of the Hessian at θ. The Hessian at one point, such as
            `L.hessian(saddle)`, gives additive noise, as the papers assume, and is faster than a new one each step
    Raises:
        ValueError: if a number is out of range or the matrix is not symmetric
    References:
        Xie, Sato, Sugiyama, arXiv 2006.15815; Kim et al., arXiv 2301.06308.
    """

    scale: Any
    batch_size: Any
    root: Any

    def __init__(self, scale: Any = 1.0, batch_size: Any = 1, matrix: Any = None):
        self.scale, self.batch_size = checks.plain(scale), checks.plain(batch_size)
        self.root = None if matrix is None else _kept_root("matrix", checks.symmetric("matrix", matrix))

    def __check_init__(self):
        checks.number("scale", self.scale, at_least=0)
        checks.number("batch_size", self.batch_size, at_least=1)

    def check(self, landscape):
        check_single("scale", self.scale)
        check_single("batch_size", self.batch_size)
        if self.root is not None:
            check_width("matrix", self.root, landscape)

    def spread(self, landscape, theta):
        root = _root(landscape.hessian(landscape.array(theta))) if self.root is None else self.root
        return root * self.scale**0.5


class StateDependent(Normal):
    """Normal noise whose covariance varies over the plane as you say.

        ∇ℓ(θ; ξ) = ∇L(θ) + S(θ) ξ / √B,   Σ(θ) = S(θ) S(θ)ᵀ

    A SAM step sees the same ξ at both its points, through S at each.

    Args:
        function: S, from coordinates (dim,) to one number, one per coordinate, or a matrix (dim, dim); in JAX
        batch_size: B ≥ 1
    Raises:
        ValueError: if the batch size is out of range, or S has another shape
    """

    function: Callable
    batch_size: Any = eqx.field(converter=checks.plain, default=1)

    def __check_init__(self):
        checks.function("function", self.function, "a function from θ (dim,) to S")
        checks.number("batch_size", self.batch_size, at_least=1)

    def check(self, landscape):
        check_single("batch_size", self.batch_size)
        theta = jax.ShapeDtypeStruct((landscape.dim,), precision.floating())
        spread = checks.traced("function", self.function, theta, what="a function from θ (dim,) to S")
        if not jnp.issubdtype(getattr(spread, "dtype", object), jnp.number) or jnp.issubdtype(
            spread.dtype, jnp.complexfloating
        ):
            raise ValueError(f"the value of function must be real numbers, got {spread}")
        check_width("the value of function", spread, landscape)

    def spread(self, landscape, theta):
        return self.function(landscape.array(theta))


def times(spread: Any, xi: Vector, landscape: Landscape) -> Vector:
    """S ξ, in ξ's form and precision. Coordinates are summed one by one, so that the product fuses with the step."""
    if hasattr(spread, "dtype"):
        spread = jnp.asarray(spread, jnp.result_type(*jax.tree.leaves(xi)))
    if jnp.ndim(spread) == 0:
        return xi * spread
    if jnp.ndim(spread) == 1:
        return landscape.vector(spread) * xi
    if isinstance(xi.tree, tuple):
        return Vector(tuple(sum(row[j] * x for j, x in enumerate(xi.tree)) for row in spread))
    return landscape.vector(spread @ landscape.array(xi))


def _root(matrix: Any) -> jax.Array:
    """|A|^½ of a symmetric matrix."""
    matrix = jnp.asarray(matrix)
    if matrix.shape[-1] == 1:
        return jnp.sqrt(jnp.abs(matrix))
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.abs(values))) @ vectors.T


def _kept_root(name: str, matrix: Any) -> Any:
    """The same in 64 bits, for runs in either precision; of a traced matrix as it is."""
    if checks.is_traced(matrix):
        return _root(matrix)
    with jax.enable_x64(True):
        root = np.asarray(_root(matrix))
    checks.in_range(f"the root of {name}", root)
    return root


def check_single(name: str, value: Any) -> None:
    if np.ndim(value):
        raise ValueError(f"{name} must be one number, got {checks.shown(value)}")


def check_width(name: str, spread: Any, landscape: Landscape) -> None:
    shape, dim = jnp.shape(spread), landscape.dim
    if shape not in ((), (dim,), (dim, dim)):
        raise ValueError(f"{name} must have shape (), ({dim},) or ({dim}, {dim}) on {landscape!r}, got {shape}")
