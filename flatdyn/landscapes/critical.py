"""All points where a landscape is flat: exactly for polynomials, numerically (and saying so) for the rest.

For a polynomial loss the gradient system ∇L = 0 is solved in the whole space (:mod:`flatdyn.landscapes.elimination`),
each real solution proven. If one is left undecided, or the polynomial is too large, the list says that it is not
proven complete. Other losses are searched in a box (:mod:`flatdyn.landscapes.searches`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import sympy

from flatdyn.landscapes import programs
from flatdyn.landscapes.elimination import arithmetic, numeric, size_of_terms, solve, terms_and_degree
from flatdyn.landscapes.searches import kind_of_signs, search

_FLAT = 1e-30  # an eigenvalue below this share of the terms it is made of is zero: coordinates are good to 1e-40
_MOST_TERMS, _HIGHEST_DEGREE = 10_000, 100  # of a polynomial that is expanded


@dataclass(frozen=True)
class CriticalPoint:
    """A point with ∇L = 0.

    Attributes:
        theta: position, shape (dim,)
        loss: L(θ)
        eigenvalues: of the Hessian, ascending, shape (dim,), relative error below 1e-10
        kind: "minimum", "saddle", "maximum", or "degenerate" where an eigenvalue is zero, to the accuracy with which
            the point is known
    """

    theta: np.ndarray
    loss: float
    eigenvalues: np.ndarray
    kind: str

    def __repr__(self) -> str:
        place = ", ".join(f"{x:.10g}" for x in self.theta)
        spectrum = ", ".join(f"{x:.6g}" for x in self.eigenvalues)
        return f"CriticalPoint({self.kind} at ({place}), loss {self.loss:.6g}, eigenvalues [{spectrum}])"


class CriticalPoints(list):
    """A list of :class:`CriticalPoint`, lowest loss first, that knows whether it is complete.

    Attributes:
        complete: True if it is proven that there is no other isolated critical point anywhere
        how: one sentence on how that is known, or how the search was done
        continua: systems of equations whose solutions are critical points that are not isolated
    """

    def __init__(self, points: Iterable[CriticalPoint], complete: bool, how: str, continua: Sequence = ()):
        points = list(points)
        scale = max((abs(point.loss) for point in points), default=0.0) or 1.0
        super().__init__(sorted(points, key=lambda point: (round(point.loss / scale, 12), *np.round(point.theta, 9))))
        self.complete = complete
        self.how = how
        self.continua = tuple(continua)

    def __repr__(self) -> str:
        points = "".join(f"\n  {point!r}," for point in self) + ("\n" if self else "")
        continua = f", continua={self.continua}" if self.continua else ""
        return f"CriticalPoints([{points}], complete={self.complete}, how={self.how!r}{continua})"


def of_expression(
    expression: sympy.Expr, symbols: tuple, box: tuple | None, progress: bool | None = None
) -> CriticalPoints:
    """Every critical point of a SymPy expression; see the module's text for the method.

    Args:
        expression: L in the given symbols alone
        symbols: the coordinates
        box: where to search if `expression` is not a polynomial
        progress: see :meth:`flatdyn.Landscape.critical_points`
    Raises:
        ValueError: if the expression is not a polynomial and there is no box
    """
    known = _of_expression(expression, symbols, box, progress)
    points = [dataclasses.replace(p, theta=p.theta.copy(), eigenvalues=p.eigenvalues.copy()) for p in known]
    return CriticalPoints(points, known.complete, known.how, known.continua)  # the caller's own


@lru_cache(maxsize=128)
def _of_expression(expression: sympy.Expr, symbols: tuple, box: tuple | None, progress: bool | None) -> CriticalPoints:
    exact = sympy.nsimplify(expression, rational=True)
    gradient = [sympy.diff(exact, symbol) for symbol in symbols]
    is_polynomial = all(entry.is_polynomial(*symbols) for entry in gradient)
    if is_polynomial and all(map(_is_moderate, gradient)):
        solved = solve([sympy.expand(entry) for entry in gradient], symbols)
        if solved is not None:
            solutions, continua, proven, how = solved
            describe = _describer(exact, symbols)
            points = [describe(solution) for solution in solutions]
            return CriticalPoints(points, proven, how, continua)
    functions = [sympy.lambdify([symbols], e, "numpy") for e in (gradient, sympy.hessian(exact, symbols).tolist())]
    candidates, how = search(*functions, box, len(symbols), progress)
    describe, refine = _describer(exact, symbols), _refiner(gradient, symbols)
    points = [describe(refine(point), kind) for point, kind in candidates]
    return CriticalPoints(points, False, how)


def _is_moderate(polynomial: sympy.Expr) -> bool:
    terms, degree = terms_and_degree(polynomial)
    return terms <= _MOST_TERMS and degree <= _HIGHEST_DEGREE


def of_function(landscape: Any, box: tuple | None, progress: bool | None = None) -> CriticalPoints:
    """The critical points that a search from many starts finds in a box, in 64 bits, for a loss without expression.

    Args:
        landscape: a landscape
        box: where to search
        progress: see :meth:`flatdyn.Landscape.critical_points`
    Raises:
        ValueError: if there is no box
    """
    with jax.enable_x64(True):
        loss, grad, hessian = (programs.bound(what, landscape) for what in ("loss", "grad", "hessian"))
        candidates, how = search(grad, hessian, box, landscape.dim, progress)
        points = []
        for point, kind in candidates:
            eigenvalues = np.linalg.eigvalsh(np.asarray(hessian(point), dtype=float))
            points.append(CriticalPoint(point, float(loss(point)), eigenvalues, kind))
    return CriticalPoints(points, False, how)


def _describer(expression: sympy.Expr, symbols: tuple) -> Callable:
    """From a point known to many digits, and its kind if that is known, to loss, eigenvalues and kind there."""
    hessian = sympy.hessian(expression, symbols)
    wanted = [expression, size_of_terms(expression), hessian.tolist(), hessian.applyfunc(size_of_terms).tolist()]
    values, mp = numeric(wanted, list(symbols)), arithmetic.mp

    def describe(point: list, kind: str | None = None) -> CriticalPoint:
        loss, terms, curvature, sizes = values(*point)
        eigenvalues = mp.eigsy(mp.matrix(curvature), eigvals_only=True)
        flat = _FLAT * max(max(row) for row in sizes)
        signs = np.array([0 if abs(value) <= flat else 1 if value > 0 else -1 for value in eigenvalues])
        return CriticalPoint(
            theta=np.array([float(x) for x in point]),
            loss=float(loss) if abs(loss) > _FLAT * terms else 0.0,
            eigenvalues=np.sort(np.array([float(value) for value in eigenvalues])),
            kind=kind_of_signs(signs) if kind is None else kind,
        )

    return describe


def _refiner(gradient: list, symbols: tuple) -> Callable:
    """Newton in high precision; a degenerate point, where Newton stalls, keeps its double precision."""
    slopes, mp = numeric(gradient, list(symbols)), arithmetic.mp

    def refine(point: np.ndarray) -> list:
        start = [mp.mpf(float(x)) for x in point]
        try:
            return list(mp.findroot(slopes, tuple(start), tol=1e-40))
        except (ValueError, ZeroDivisionError):
            return start

    return refine
