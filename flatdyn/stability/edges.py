"""The edge of stability of a method: the sharpness at which its step just stops shrinking what is left.

Along an eigenvector of the Hessian one step is a linear map of a few numbers, from the method's own step: in
symbols where two of them are enough, by :mod:`flatdyn.stability.directions`, and as numbers for all others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.landscapes import Landscape, saddle
from flatdyn.methods import ASAM, GD, Averaged, Scheduled, Started, Switched
from flatdyn.methods.base import FirstOrder, Method, Wrapper
from flatdyn.noise import Exact, Noise
from flatdyn.processes import Iteration
from flatdyn.stability import meansquare, norms, preconditioners
from flatdyn.stability.directions import CURVATURE, effective_step, is_masked
from flatdyn.stability.responses import Response, check_size, first_crossing, radii, sharpest

_SMALL = 1e-9  # a gradient that no clipping reaches, with squares held
_WRITTEN_OUT = 8  # ascents up to which the polynomial in λ is solved


def edge(
    method: Method,
    gradient_norm: Any = None,
    *,
    landscape: Landscape | None = None,
    at: Any = None,
    noise: Noise | None = None,
) -> Any:
    """The sharpness at which a method just stops shrinking what is left along the top eigenvector.

        GD            λ* = c/η,   c = 2, or 2 (1 + μ), or 2 (1 + μ)/(1 + 2 μ) for Nesterov
        USAM          λ* = (√(1 + 4cρ/η) − 1)/(2ρ)
        SAM, DNSAM    λ* = ‖g‖ (√(1 + 4cρ/(η‖g‖)) − 1)/(2ρ),   2/η as ρ/‖g‖ → 0
        WSAM          the same with w ρ in place of ρ;  UnifiedSAM with ρ (1 − b + b/‖g‖) in place of ρ/‖g‖, b = blend
        Adam          λ* = (2 + 2β₁)/((1 − β₁) η)   of P⁻¹∇²L, RMSProp 2/η, P = :func:`preconditioner`
        others        the smallest λ > 0 at which the spectral radius of the step passes 1

    with c as in :func:`conditions`, and weight decay and dampening as there. Where a method that remembers more has a
    pair of complex multipliers, these may be first. With ‖g‖ given it is the edge where the gradient has that norm (at
    the ascents, for LookSAM); without, of smoothed methods (ε > 0), that at the critical point. An average has the edge
    of what it averages. On a quadratic SAM's two-cycle sits exactly on its edge, so comparing sharpness with the edge
    there tests nothing.

    With a landscape the Hessian at a point is taken as a whole, for methods that treat parameters differently
    (Multirate, masks, ASAM): its sharpness where, all of it being as many times as large, the step stops shrinking. So
    a point attracts if its sharpness is below. With noise it is E‖θ‖² that stops shrinking:

        P⁺ = E[A(ξ) P A(ξ)ᵀ],   GD in one direction: λ* = (2/η) h²/(h² + var(hᵢ)/B),  h = mean hᵢ

    A(ξ) being the step with the Hessian of a minibatch; of normal noise it is the growth of its covariance Σ(θ) that
    counts, Σ being as many times as large as all of the loss squared. Noise that does not vanish at the point besides
    holds E‖θ‖² above 0, and moves no edge.

    Args:
        method: GD, SAM, ..., from_optax(...), Averaged(...); hyperparameters numbers, or symbols where c is known
        gradient_norm: ‖g‖ > 0 at the iterate, needed where an ascent is normalised; of ∇L + λθ if weight decay is in
            the loss
        landscape: whose Hessian; needed with noise
        at: the point of the landscape, shape (dim,); the origin if not given
        noise: FiniteSum of a landscape made from examples, or normal noise whose size depends on θ
    Returns:
        a float, or a SymPy expression if a symbol was given
    Raises:
        ValueError: for a normalised ascent without a positive gradient norm, or with another norm than the 2-norm of
            all, or several ascents; if there is no edge, as weight decay alone is beyond it; if a state of an optimiser
            of optax is not known; if noise is given without a landscape
        TypeError: if the method changes in time, or needs a landscape
    References:
        Long and Bartlett, arXiv 2309.12488, for SAM without momentum (re-derived). Cohen et al., arXiv 2207.14484, for
        Adam. Ma and Ying, arXiv 2105.13462, and Mulayoff and Michaeli, arXiv 2306.07850, for the mean square of GD.
    """
    checks.kind("method", method, Method)
    method = _moved(method)
    if landscape is None and (noise is not None or at is not None):
        raise ValueError(f"{'at' if noise is None else 'noise'} is of a landscape: give landscape")
    smooth, slope = method, 0.0
    if gradient_norm is not None:
        norm = checks.number("gradient_norm", checks.exact("gradient_norm", gradient_norm), above=0)
        smooth, slope = norms.at_norm(method, norm)
    if norms.sharp(smooth) and slope == 0:
        _refuse_whole(method, landscape)
        raise ValueError("the edge of normalised SAM depends on the gradient: give gradient_norm")
    if landscape is None and isinstance(smooth, FirstOrder) and not smooth.remembers:
        return _along_an_eigenvector(smooth)
    if any(isinstance(leaf, sympy.Basic) and leaf.free_symbols for leaf in jax.tree.leaves(smooth)):
        raise TypeError(f"the edge of {type(method).__name__} is known for numbers: give numbers for the symbols in it")
    with jax.enable_x64(True):
        if landscape is None:
            _refuse_whole(method, landscape)
            return _on_a_line(smooth, slope)
        checks.kind("landscape", landscape, Landscape)
        return _of_a_hessian(smooth, slope, landscape, at, noise)


def _moved(method: Method) -> Method:
    """The method whose iterates count: an average is none of its own, nor is a start."""
    if isinstance(method, Averaged | Started):
        return _moved(method.method)
    if isinstance(method, Scheduled | Switched):
        raise TypeError(
            f"the edge of {type(method).__name__} changes from step to step: ask for that of the method at a step"
        )
    return method


def _refuse_whole(method: Method, landscape: Landscape | None) -> None:
    """Raise if a method has no edge along an eigenvector alone."""
    inner = method
    while isinstance(inner, Wrapper):
        inner = inner.method
    if landscape is not None:
        return
    if isinstance(inner, ASAM):
        raise TypeError("ASAM's ascent depends on the parameters, not on the curvature alone: give landscape and at")
    if is_masked(inner):
        raise ValueError("a masked method has no one-dimensional eigen-directions: give landscape and at")
    if getattr(inner, "blocks", None) is not None:
        raise TypeError(f"{type(inner).__name__} moves blocks of parameters differently: give landscape and at")


# --- a direction of two numbers, in closed form ---------------------------------------------------------------


def _along_an_eigenvector(method: FirstOrder) -> Any:
    curvature = sympy.Dummy("lambda", positive=True)
    step, _, limit, values = effective_step(method, curvature)
    del values[CURVATURE]
    if _ascents(method) <= _WRITTEN_OUT and not any(value.free_symbols for value in values.values()):
        edges = _positive_roots(_polynomial(step - limit, tuple(values)), values)
    else:
        values[CURVATURE] = curvature
        # Symbols of the user's may not say that they are positive, as these quantities are; placeholders do
        unknown = {symbol: value for symbol, value in values.items() if value.free_symbols and not value.is_positive}
        known = {symbol: value for symbol, value in values.items() if symbol not in unknown}
        edges = sympy.solve((step - limit).xreplace(known), curvature)
        edges = [root.xreplace(unknown) for root in edges if root.is_positive is not False]
    if len(edges) != 1:
        raise ValueError(f"there is no single edge for {method!r}: ask conditions, and region for where it holds")
    (only,) = edges
    return float(only) if only.is_number else only


def _ascents(method: FirstOrder) -> int:
    """How often it is ascended before the gradient is taken."""
    return getattr(method, "ascents", 1)


@functools.cache
def _polynomial(difference: sympy.Expr, symbols: tuple) -> Callable:
    """Coefficients of s − c as a polynomial in λ, highest first, as a function of the hyperparameters."""
    numerator = sympy.fraction(sympy.together(difference))[0]
    return sympy.lambdify(symbols, sympy.Poly(sympy.expand(numerator), CURVATURE).all_coeffs(), "math")


def _positive_roots(coefficients: Callable, values: dict) -> list[sympy.Float]:
    kept = np.trim_zeros(np.array(coefficients(*map(float, values.values()))), "f")
    if len(kept) == 3:
        a, b, c = kept
        under = b * b - 4 * a * c
        if under < 0:
            return []
        larger = -(b + np.copysign(np.sqrt(under), b)) / 2
        roots = np.array([larger / a, c / larger])  # neither is a difference of what is nearly the same
    else:
        roots = np.roots(kept)
        roots = roots.real[np.abs(roots.imag) <= 1e-9 * np.abs(roots)]
        slopes = np.polyval(np.polyder(kept), roots)
        roots = roots - np.divide(np.polyval(kept, roots), slopes, where=slopes != 0, out=np.zeros_like(roots))
    return [sympy.Float(root) for root in roots if root > 0 and np.isfinite(root)]


# --- as numbers -----------------------------------------------------------------------------------------------


def _on_a_line(method: Method, slope: float) -> float:
    """The smallest curvature of a line, of the preconditioned one for optimisers that adapt."""
    process = _Line.of(method)
    state, moving, divisor = _begun(process, np.zeros(1))
    response = Response(process, state, moving, slope)
    return _crossed(process, response, np.array([[divisor]]), 1.0)


class _Line:
    """Methods on a line, whose checks are made once."""

    landscape = saddle((1.0,))

    @classmethod
    def of(cls, method: Method) -> Iteration:
        return Iteration(cls.landscape, method)


def _of_a_hessian(method: Method, slope: float, landscape: Landscape, at: Any, noise: Noise | None) -> float:
    if noise is not None:
        checks.kind("noise", noise, Noise)
    process = Iteration(landscape, method, Exact() if noise is None else noise)
    at = np.zeros(landscape.dim) if at is None else checks.entries("at", at, "coordinates")
    at = np.asarray(checks.point("at", checks.points("at", at, landscape.dim), landscape.dim), float)
    hessian = np.asarray(landscape.hessian(at), float)
    if not np.isfinite(hessian).all():
        raise ValueError(f"at must be a point where the Hessian of {landscape.name} is finite")
    top = sharpest(hessian)
    quiet = Iteration(landscape, method)
    state, moving, divisor = _begun(quiet, at)
    if divisor != 1:
        raise TypeError(
            "an optimiser that adapts has its edge on the preconditioned Hessian, with the state of a run: leave out "
            "landscape, and compare with the sharpness of P⁻¹∇²L"
        )
    response = Response(quiet, state, moving, slope)
    check_size(response.size)
    without = _crossed(quiet, response, hessian, top)
    if noise is None or not noise.random:
        return without
    return meansquare.edge(process, response, at, hessian, top, without)


def _begun(process: Iteration, at: np.ndarray) -> tuple[Any, Any, float]:
    """The state at rest past what first steps do, which numbers of it move, and by what its gradient is divided."""
    method = process.method
    process.check(np.asarray(at)[None])
    if method.gap(process.landscape.vector(jnp.asarray(at))) is not None:
        raise TypeError(f"{type(method).__name__} is held by a constraint: ask multipliers for its numbers")
    state = process.seasoned(jax.tree.map(jnp.asarray, process.init(jnp.asarray(at))))
    if method.cycles(state):
        raise ValueError(f"the steps of {method!r} take turns by a count in its state: one step is not its map")
    if not preconditioners.is_optax(method):
        return state, None, 1.0
    own, divisor = preconditioners.marks(state.inner), 1.0
    moving = eqx.tree_at(lambda s: s.inner, jax.tree.map(eqx.is_inexact_array, state), own.moving)
    if any(jax.tree.leaves(own.squares)):
        if not isinstance(method.follows, GD | None):
            raise TypeError("the ascent of `follows` sees no preconditioner: there is no one edge of both together")
        state, divisor = preconditioners.large(process, state)
    return state, moving, divisor


def _crossed(process: Iteration, response: Response, hessian: np.ndarray, top: float) -> float:
    """The sharpness, top times a factor, at which the radius passes 1."""
    method = process.method
    unit = response.unit(hessian)
    response.check(unit * hessian, _SMALL if preconditioners.is_optax(method) else _eps(method))
    if preconditioners.is_optax(method):
        response.check_scale(_SMALL / np.abs(hessian).max() * hessian)

    def radius(factors):
        return radii(response.matrices(factors[:, None, None] * hessian, factors * top))

    factor = first_crossing(radius, unit, response.size)
    if factor is None:
        raise ValueError(f"there is no edge for {type(method).__name__}: its step grows at no curvature")
    return factor * top


def _eps(method: Any) -> float | None:
    if isinstance(method, Wrapper):
        return _eps(method.method)
    eps = getattr(method, "eps", None)
    return float(eps) if isinstance(eps, int | float | np.floating) else None
