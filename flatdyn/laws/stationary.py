"""How far does it spread? The stationary law of a noisy method around a point at which it rests.

A step that is linear in its state and its normal numbers, s⁺ = A s + G R, has a normal stationary law whose covariance
solves P = A P Aᵀ + G Gᵀ. On a quadratic landscape that is exact for GD and USAM under additive noise, and for the
Langevin methods; elsewhere it is the law to leading order in the noise. A and G are derivatives of the method's own
step, so nothing is written twice: as numbers (:func:`covariance`) or in symbols (:func:`formula`). What is no method
of flatdyn's, such as the sampler of another package, comes as a :class:`flatdyn.laws.LinearRecursion`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy
import sympy

from flatdyn.core import checks, memory
from flatdyn.core.algebra import Vector, plain
from flatdyn.landscapes import Landscape
from flatdyn.laws.recursions import LinearRecursion
from flatdyn.methods.base import Method
from flatdyn.processes import Iteration
from flatdyn.processes.flat import flat_state
from flatdyn.stability import symbolic_state


def derivatives(process: Iteration) -> Callable:
    """What a step does, and its derivatives by its full state and by the normal numbers that drive it.

        (s, R) -> s⁺, A = ∂s⁺/∂s, G = ∂s⁺/∂R;   shapes (n,), (n, n), (n, draws)

    Compiled once for all points. To be called in 64 bits.

    Args:
        process: an iteration whose noise is made of normal numbers, its own or its method's
    Raises:
        TypeError: if the noise is not made of normal numbers
    """
    checks.kind("process", process, Iteration)
    process.draws  # noqa: B018, it says so if the noise is not made of normal numbers
    driven = flat_state(process).driven
    return jax.jit(lambda s, normals: (driven(s, normals), *jax.jacfwd(driven, argnums=(0, 1))(s, normals)))


def recursion(process: Iteration | Method, landscape: Landscape | None = None, *, at: Any = None) -> LinearRecursion:
    """The step around a point at which the noiseless one rests, as a linear recursion of its full state.

        s⁺ = A s + e,   A = ∂s⁺/∂s,  E e eᵀ = G Gᵀ,  G = ∂s⁺/∂R;   s as a difference from the point

    Args:
        process: an iteration, or a method (then give the landscape)
        landscape: what the method descends
        at: θ, shape (dim,): a minimum; the origin if not given
    Returns:
        LinearRecursion; the first dim numbers of its state are θ's, then come velocity or momentum
    Raises:
        ValueError: if the step does not rest there
        TypeError: if the noise is not made of normal numbers
    """
    checks.kind("process", process, (Iteration, Method))
    if landscape is not None:
        checks.kind("landscape", landscape, Landscape)
    if isinstance(process, Method):
        if landscape is None:
            raise ValueError("a method alone has no dynamics: give the landscape as the second argument")
        process = Iteration(landscape, process)
    with jax.enable_x64(True):
        at = checks.points(
            "at", np.zeros(process.dim) if at is None else checks.entries("at", at, "coordinates"), process.dim
        )
        checks.point("at", at, process.dim)
        draws, size = process.draws, flat_state(process).size
        needed = memory.array_bytes(12, size, size + draws)
        memory.check_memory(needed, f"the covariance of {size} numbers", "ask for a `landscape` of fewer coordinates")
        start = flat_state(process).at_rest(np.asarray(at, float))
        linear = derivatives(process)(start, np.zeros(draws))
    start, landed, transition, gain = map(np.asarray, (start, *linear))
    moved = np.abs(landed - start).max()
    if not moved <= 1e-9 * (1 + np.abs(start).max()):
        raise ValueError(f"the noiseless step moves by {moved:.3g} from there: give a point at which it rests")
    return LinearRecursion(transition, gain @ gain.T)


def covariance(
    process: Iteration | Method | LinearRecursion, landscape: Landscape | None = None, *, at: Any = None
) -> np.ndarray:
    """Covariance of the stationary law around a point at which the noiseless step rests, or of a linear recursion.

        P = A P Aᵀ + Q;   of a step A = ∂s⁺/∂s,  Q = G Gᵀ,  G = ∂s⁺/∂R;   the first dim rows and columns are θ's

    Args:
        process: an iteration, a method (then give the landscape), or a LinearRecursion (alone)
        landscape: what the method descends
        at: θ, shape (dim,): a minimum; the origin if not given
    Returns:
        array (n, n) for the full state (θ, then velocity or momentum); rounding aside exact where the step is linear
    Raises:
        ValueError: if the step does not rest there, or the point does not attract, so that no stationary law exists
        TypeError: if the noise is not made of normal numbers, or a recursion has symbols
    References:
        Mandt, Hoffman, Blei, arXiv 1704.04289, for the continuous limit of SGD.
    """
    checks.kind("process", process, (Iteration, Method, LinearRecursion))
    if isinstance(process, LinearRecursion):
        if landscape is not None or at is not None:
            raise ValueError(
                "a linear recursion has its point and its curvatures in its matrix: leave out landscape and at"
            )
        linear = process
    else:
        linear = recursion(process, landscape, at=at)
    transition, noise = linear.numbers()
    radius = np.abs(linear.multipliers()).max()
    if radius >= 1:
        why = f"; it is stable where {linear.stable}" if linear.stable else ""
        raise ValueError(f"process has no stationary law: a multiplier of its step has modulus {radius:.6g}{why}")
    return scipy.linalg.solve_discrete_lyapunov(transition, noise)


def formula(method: Method | LinearRecursion, landscape: Landscape | None = None) -> sympy.Matrix:
    """The stationary covariance in symbols: of a method that is random itself on a quadratic, or of a linear recursion.

        P = A P Aᵀ + Q

    Hyperparameters and curvatures may be symbols; declare them positive, and the result simplifies further. That there
    is a stationary law at all is not asked: it holds where all multipliers are inside the unit circle.

    Args:
        method: SGLD, Langevin, …, or a LinearRecursion (alone)
        landscape: quadratic, with an expression
    Returns:
        SymPy matrix (n, n) for the full state, simplified
    Raises:
        ValueError: if the step is not linear
        TypeError: if the landscape has no expression, or the method draws nothing
    """
    checks.kind("method", method, (Method, LinearRecursion))
    if isinstance(method, LinearRecursion):
        if landscape is not None:
            raise ValueError("a linear recursion has its curvatures in its matrix: leave out landscape")
        return _solved(sympy.Matrix(method.matrix), sympy.Matrix(method.noise_covariance))
    checks.kind("landscape", landscape, Landscape)
    if not method.draws:
        raise TypeError(f"{type(method).__name__} draws no random numbers itself: ask covariance, with noise")
    if method.period > 1:
        raise TypeError(
            f"this needs a map that is the same at every step, and that of {type(method).__name__} repeats itself only "
            f"after {method.period}: ask simulate"
        )
    symbols, state = symbolic_state(method, landscape.symbols)
    drive = sympy.symbols(f"R:{len(landscape.symbols) * method.draws}", real=True)
    width = len(landscape.symbols)
    normals = [Vector(tuple(drive[i : i + width])) for i in range(0, len(drive), width)]
    new = plain(sympy.Matrix(jax.tree.leaves(method.step(landscape.field, state, *normals))))
    transition, gain = new.jacobian(symbols), new.jacobian(drive)
    if (transition.free_symbols | gain.free_symbols) & (set(symbols) | set(drive)):
        raise ValueError(
            f"{type(method).__name__} takes no linear step on the landscape {landscape!r}: ask covariance at a point"
        )
    return _solved(transition, gain * gain.T)


def _solved(transition: sympy.Matrix, noise: sympy.Matrix) -> sympy.Matrix:
    """The solution P of P = A P Aᵀ + Q in symbols."""
    size = transition.shape[0]
    unknown = sympy.Matrix(size, size, lambda i, j: sympy.Symbol(f"P{min(i, j)}_{max(i, j)}"))
    equations = (unknown - transition * unknown * transition.T - noise).applyfunc(sympy.expand)
    upper = [equations[i, j] for i in range(size) for j in range(i, size)]  # the lower half is the same
    (solution,) = sympy.linsolve(upper, *(wanted := sorted(unknown.free_symbols, key=str)))
    return unknown.subs(dict(zip(wanted, solution, strict=True))).applyfunc(lambda entry: sympy.factor(entry))
