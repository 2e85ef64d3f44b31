"""All points where a landscape is flat: exactly for polynomials, numerically (and saying so) for the rest.

For a polynomial loss the gradient system ∇L = 0 is solved in the whole space, by elimination, not by search:

1. independent groups of variables are solved apart and multiplied out;
2. each equation is factored, and the system splits into one system per choice of factors;
3. a Gröbner basis tells whether such a part is empty, finite, or a continuum (reported as equations);
4. in a finite part the eliminant of each variable has its real roots isolated exactly (rational intervals
   narrower than 1e-40), so every real solution lies in one box of a finite grid;
5. each box is then excluded because an equation is provably non-zero on it (interval arithmetic), or accepted
   because it provably holds a solution (exact substitution, or the Krawczyk operator maps it into itself).

If step 5 leaves a box undecided, or the polynomial is too large, the list says that it is not proven complete.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import mpmath
import numpy as np
import scipy
import sympy
from mpmath import iv, mp

_DIGITS = 60  # working precision of the proofs; isolating intervals are narrower than _WIDTH
_WIDTH = sympy.Rational(1, 10**40)
_RADIUS = mpmath.mpf(10) ** -30  # half-width of the box in which the Krawczyk operator proves a unique solution
_FLAT = 1e-20  # an eigenvalue below this share of the largest is zero: coordinates are good to 1e-30
_MOST_SOLUTIONS = 64  # Bézout bound above which exact elimination in SymPy takes minutes
_MOST_PARTS = 4096
_CONTINUUM = object()


@dataclass(frozen=True)
class CriticalPoint:
    """A point with ∇L = 0.

    Attributes:
        theta: position, shape (dim,)
        loss: L(θ)
        eigenvalues: of the Hessian, ascending, shape (dim,), relative error below 1e-10
        kind: "minimum", "saddle", "maximum", or "degenerate" where an eigenvalue is zero
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
        super().__init__(sorted(points, key=lambda point: (round(point.loss, 9), *np.round(point.theta, 9))))
        self.complete = complete
        self.how = how
        self.continua = tuple(continua)


@lru_cache(maxsize=128)
def of_expression(expression: sympy.Expr, symbols: tuple, box: tuple | None) -> CriticalPoints:
    """Every critical point of a SymPy expression; see the module's text for the method.

    Args:
        expression: L in the given symbols alone
        symbols: the coordinates
        box: where to search if `expression` is not a polynomial
    Raises:
        ValueError: if the expression is not a polynomial and there is no box
    """
    exact = sympy.nsimplify(expression, rational=True)
    gradient = [sympy.diff(exact, symbol) for symbol in symbols]
    if all(entry.is_polynomial(*symbols) for entry in gradient):
        solved = _solve([sympy.expand(entry) for entry in gradient], symbols)
        if solved is not None:
            solutions, continua, proven = solved
            how = "exact elimination in the whole space, each point verified by interval arithmetic"
            if not proven:
                how = "exact elimination in the whole space, but a degenerate point could not be verified"
            points = [_describe(exact, symbols, solution) for solution in solutions]
            return CriticalPoints(points, proven, how, continua)
    functions = [sympy.lambdify([symbols], e, "numpy") for e in (gradient, sympy.hessian(exact, symbols).tolist())]
    found, how = _search(*functions, box, len(symbols))
    return CriticalPoints([_describe(exact, symbols, _refine(gradient, symbols, p)) for p in found], False, how)


def of_function(loss: Callable, grad: Callable, hessian: Callable, box: tuple | None, dim: int) -> CriticalPoints:
    """The critical points that a search from many starts finds in a box, for a loss without expression.

    Args:
        loss, grad, hessian: functions of a float64 array (dim,), returning arrays (), (dim,), (dim, dim)
        box: where to search
    Raises:
        ValueError: if there is no box
    """
    found, how = _search(grad, hessian, box, dim)
    points = []
    for point in found:
        eigenvalues = np.linalg.eigvalsh(np.asarray(hessian(point), dtype=float))
        points.append(CriticalPoint(point, float(loss(point)), eigenvalues, _kind(eigenvalues, flat=0.0)))
    return CriticalPoints(points, False, how)


# --- exact solution of polynomial systems ---------------------------------------------------------------------
# A solution is a dict symbol -> mpf, a part is a set of polynomials that vanish together.


def _solve(gradient: list, symbols: tuple) -> tuple[list, list, bool] | None:
    """Isolated real solutions, continua as equations, proven or not. None if the system is too large."""
    solutions, continua, proven = [{}], [], True
    for group in _independent_groups(gradient, symbols):
        solved = _solve_group([gradient[i] for i in group], [symbols[i] for i in group])
        if solved is None:
            return None
        found, group_continua, group_proven = solved
        others = [gradient[i] for i in range(len(symbols)) if i not in group and gradient[i] != 0]
        continua += [tuple(sympy.Eq(entry, 0) for entry in (*part, *others)) for part in group_continua]
        solutions = [before | new for before in solutions for new in found]
        proven = proven and group_proven
    return [[solution[symbol] for symbol in symbols] for solution in solutions], continua, proven


def _independent_groups(gradient: list, symbols: tuple) -> list[list[int]]:
    """Indices of variables that share an equation, as connected groups."""
    groups: list[set[int]] = []
    for i, entry in enumerate(gradient):
        linked = {i} | {symbols.index(symbol) for symbol in entry.free_symbols}
        touching = [group for group in groups if group & linked]
        groups = [group for group in groups if not group & linked] + [linked.union(*touching)]
    return [sorted(group) for group in groups]


def _solve_group(equations: list, symbols: list) -> tuple[list, list, bool] | None:
    parts = _split_by_factors(equations, symbols)
    if parts is None:
        return None
    solutions, continua, proven = [], [], True
    for part in parts:
        solved = _solve_part(part, symbols)
        if solved is None:
            return None
        found, part_proven = solved
        if found is _CONTINUUM:
            continua.append(part)
            continue
        solutions += found
        proven = proven and part_proven
    solutions = [solution for solution in solutions if not any(_vanish(part, solution) for part in continua)]
    for part, other in itertools.combinations(continua, 2):  # where two continua meet, as at a deep linear origin
        found, part_proven = _solve_part(sorted({*part, *other}, key=sympy.default_sort_key), symbols) or ([], False)
        if found is not _CONTINUUM:
            solutions += found
            proven = proven and part_proven
    distinct: list[dict] = []
    for solution in solutions:
        if not any(_same(solution, other) for other in distinct):
            distinct.append(solution)
    return distinct, continua, proven


def _solve_part(part: list, symbols: list) -> tuple[list[dict] | object, bool] | None:
    """Real points where all polynomials of a part vanish, or _CONTINUUM; proven or not. None if it is too large."""
    defined, rest, left = _eliminate_linear(part, symbols)
    if math.prod(sympy.total_degree(polynomial, *left) for polynomial in rest) > _MOST_SOLUTIONS:
        return None
    if any(polynomial.is_number for polynomial in rest):
        return [], True  # a non-zero constant
    if left and not (rest and sympy.groebner(rest, *left, order="grevlex").is_zero_dimensional):
        return _CONTINUUM, True
    found, proven = _real_solutions(rest, left)
    return [_insert(defined, solution) for solution in found], proven


def _split_by_factors(equations: list, symbols: list) -> list[list] | None:
    """Systems of irreducible polynomials, one per choice of a factor from each equation, supersets dropped."""
    choices = []
    for equation in equations:
        if equation != 0:
            choices.append([factor for factor, _ in sympy.factor_list(equation, *symbols)[1]])
    if math.prod(len(factors) for factors in choices) > _MOST_PARTS:
        return None
    parts = {frozenset(choice) for choice in itertools.product(*choices)}
    minimal = [part for part in parts if not any(other < part for other in parts)]
    ordered = [sorted(part, key=sympy.default_sort_key) for part in minimal]
    return sorted(ordered, key=lambda part: [sympy.default_sort_key(polynomial) for polynomial in part])


def _eliminate_linear(part: list, symbols: list) -> tuple[list, list, list]:
    """Solve equations of the form c·v + p(others) = 0 for v as long as there are any.

    Returns the (v, expression) in the order found, the remaining equations, the remaining symbols.
    """
    defined, rest, left = [], list(part), list(symbols)
    while True:
        for equation, symbol in itertools.product(rest, left):
            slope = sympy.diff(equation, symbol)
            if slope.is_number and slope != 0:
                value = sympy.expand(symbol - equation / slope)
                break
        else:
            return defined, rest, left
        defined.append((symbol, value))
        left.remove(symbol)
        replaced = [sympy.expand(other.subs(symbol, value)) for other in rest if other is not equation]
        rest = [other for other in replaced if other != 0]


def _insert(defined: list, solution: dict) -> dict:
    with mp.workdps(_DIGITS):
        for symbol, expression in reversed(defined):
            known = list(solution)
            solution = solution | {symbol: mpmath.mpf(_numeric(expression, known)(*solution.values()))}
    return solution


def _real_solutions(rest: list, left: list) -> tuple[list[dict], bool]:
    """Real solutions of a finite system: grid of isolated roots, each box excluded or verified."""
    if not left:
        return [{}], True
    integral = [sympy.Poly(polynomial, *left).clear_denoms()[1].as_expr() for polynomial in rest]
    candidates = [[]]
    for depth, symbol in enumerate(left, start=1):
        roots = _isolated_roots(integral, symbol, left)
        known = left[:depth]
        testable = [polynomial for polynomial in integral if polynomial.free_symbols <= set(known)]
        tests = [_numeric(polynomial, known) for polynomial in testable]
        grown = [[*box, root] for box in candidates for root in roots]
        candidates = [box for box in grown if all(_may_vanish(test, box) for test in tests)]
    verified = [box for box in candidates if _holds_solution(integral, left, box)]
    undecided = [box for box in candidates if box not in verified and not _is_rational(box)]
    with mp.workdps(_DIGITS):
        points = [dict(zip(left, map(_middle, box), strict=True)) for box in verified + undecided]
    return points, not undecided


def _isolated_roots(polynomials: list, symbol: sympy.Symbol, left: list) -> list[tuple]:
    """Real roots of the eliminant of one variable, as rational intervals (lower, upper) with one root in each."""
    order = [other for other in left if other != symbol] + [symbol]
    basis = sympy.groebner(polynomials, *order, order="grevlex").fglm("lex")
    eliminant = sympy.Poly(basis.exprs[-1], symbol).sqf_part()
    return [interval for interval, _ in eliminant.intervals(eps=_WIDTH)]


def _numeric(expression: sympy.Expr, symbols: list) -> Callable:
    return sympy.lambdify(symbols, expression, "mpmath")


def _interval(lower_upper: tuple):
    lower, upper = lower_upper
    low, high = (iv.mpf(int(end.p)) / iv.mpf(int(end.q)) for end in (sympy.Rational(lower), sympy.Rational(upper)))
    return iv.mpf([low.a, high.b])


def _middle(lower_upper: tuple):
    centre = (sympy.Rational(lower_upper[0]) + sympy.Rational(lower_upper[1])) / 2
    return mpmath.mpf(int(centre.p)) / mpmath.mpf(int(centre.q))


def _is_rational(box: list) -> bool:
    return all(lower == upper for lower, upper in box)


def _may_vanish(test: Callable, box: list) -> bool:
    iv.dps = _DIGITS
    return 0 in iv.mpf(test(*map(_interval, box)))


def _holds_solution(polynomials: list, symbols: list, box: list) -> bool:
    """Exact substitution for a rational box; else K(X) = m − C F(m) + (I − C J(X))(X − m) ⊂ X (Krawczyk)."""
    if _is_rational(box):
        exact = dict(zip(symbols, (sympy.Rational(lower) for lower, _ in box), strict=True))
        return all(polynomial.subs(exact) == 0 for polynomial in polynomials)
    if len(polynomials) != len(symbols):
        return False
    slopes = sympy.Matrix(polynomials).jacobian(symbols).tolist()
    value, slope = _numeric(polynomials, symbols), _numeric(slopes, symbols)
    iv.dps = _DIGITS
    with mp.workdps(_DIGITS):
        middle = [_middle(interval) for interval in box]
        around = iv.matrix([iv.mpf([m - _RADIUS, m + _RADIUS]) for m in middle])
        try:
            inverse = iv.matrix(mp.matrix(slope(*middle)) ** -1)
        except ZeroDivisionError:
            return False
    centre = iv.matrix([iv.mpf(m) for m in middle])
    spread = iv.eye(len(symbols)) - inverse * iv.matrix(slope(*around))
    image = centre - inverse * iv.matrix(value(*centre)) + spread * (around - centre)
    return all(new.a > old.a and new.b < old.b for new, old in zip(image, around, strict=True))


def _vanish(polynomials: list, solution: dict) -> bool:
    with mp.workdps(_DIGITS):
        values = [_numeric(polynomial, list(solution))(*solution.values()) for polynomial in polynomials]
    return all(abs(value) < 1e-25 for value in values)


def _same(solution: dict, other: dict) -> bool:
    return all(abs(solution[symbol] - other[symbol]) < 1e-25 for symbol in other)


# --- description and numerical search -------------------------------------------------------------------------


def _describe(expression: sympy.Expr, symbols: tuple, point: list) -> CriticalPoint:
    with mp.workdps(_DIGITS):
        loss = _numeric(expression, list(symbols))(*point)
        hessian = mp.matrix(_numeric(sympy.hessian(expression, symbols).tolist(), list(symbols))(*point))
        eigenvalues = np.array([float(value) for value in mp.eigsy(hessian, eigvals_only=True)])
    return CriticalPoint(
        theta=np.array([float(x) for x in point]),
        loss=float(loss) if abs(loss) > _FLAT else 0.0,
        eigenvalues=np.sort(eigenvalues),
        kind=_kind(eigenvalues, _FLAT * np.abs(eigenvalues).max(initial=0.0)),
    )


def _kind(eigenvalues: np.ndarray, flat: float) -> str:
    if (np.abs(eigenvalues) <= flat).any():
        return "degenerate"
    if (eigenvalues > 0).all():
        return "minimum"
    return "maximum" if (eigenvalues < 0).all() else "saddle"


def _search(grad: Callable, hessian: Callable, box: tuple | None, dim: int) -> tuple[list[np.ndarray], str]:
    """Non-degenerate roots of the gradient, by Powell's hybrid method from the box's centre and Sobol' points."""
    if box is None:
        raise ValueError("critical points of this loss must be searched in a box: give the landscape a box=")
    lower, upper = np.array(box, dtype=float).T
    count = 2 ** min(dim + 7, 11)
    sobol = scipy.stats.qmc.Sobol(dim, rng=np.random.default_rng(0))
    found: list[np.ndarray] = []
    degenerate = 0
    for start in [np.full(dim, 0.5), *sobol.random(count)]:
        with np.errstate(all="ignore"):  # a trial point far outside may overflow; the solver then steps back
            root = scipy.optimize.root(
                lambda x: np.asarray(grad(x), dtype=float),
                lower + (upper - lower) * start,
                jac=lambda x: np.asarray(hessian(x), dtype=float),
                options={"xtol": 1e-13},
            )
        slope = np.asarray(hessian(root.x), dtype=float)
        curvatures = np.abs(np.linalg.eigvalsh(slope))
        if not root.success or curvatures.min() <= 1e-6 * curvatures.max():
            degenerate += root.success
            continue
        newton = np.linalg.solve(slope, np.asarray(grad(root.x), dtype=float))
        point, size = root.x - newton, upper - lower
        # The solver's own verdict is not enough: it also stops, satisfied, on steep slopes.
        is_root = (np.abs(newton) < 1e-7 * size).all() and (point >= lower).all() and (point <= upper).all()
        if is_root and not any((np.abs(point - other) < 1e-6 * size).all() for other in found):
            found.append(point)
    how = f"not proven complete: a root search from {count + 1} starts in the box"
    if degenerate:
        how += f"; {degenerate} of them ended at degenerate points, perhaps a continuum, which are not listed"
    return found, how


def _refine(gradient: list, symbols: tuple, point: np.ndarray) -> list:
    """Newton in high precision; a degenerate point, where Newton stalls, keeps its double precision."""
    with mp.workdps(_DIGITS):
        try:
            return list(mp.findroot(_numeric(gradient, list(symbols)), tuple(map(mpmath.mpf, point)), tol=1e-40))
        except (ValueError, ZeroDivisionError):
            return [mpmath.mpf(x) for x in point]
