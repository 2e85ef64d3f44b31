"""All real solutions of a system of polynomials, by elimination and interval arithmetic, not by search.

1. independent groups of variables are solved apart and multiplied out;
2. each equation is factored, and the system splits into one system per choice of factors;
3. a Gröbner basis tells whether such a part is empty, finite, or a continuum (reported as equations);
4. in a finite part the eliminant of each variable has its real roots isolated exactly (rational intervals
   narrower than 1e-40), so every real solution lies in one box of a finite grid;
5. each box is then excluded because an equation is provably non-zero on it (interval arithmetic), or accepted
   because it provably holds a solution (exact substitution, or the Krawczyk operator maps it into itself).

A solution is a dict symbol -> mpf, a part is a set of polynomials that vanish together.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence

import mpmath
import sympy

DIGITS = 60  # working precision of the proofs; isolating intervals are narrower than _WIDTH
_ROUNDED = 120  # digits of irrational coefficients
_WIDTH = sympy.Rational(1, 10**40)
_RADIUS = mpmath.mpf(10) ** -30  # half-width of the box in which the Krawczyk operator proves a unique solution
_ZERO = 1e-30  # share of the size of its terms below which a sum is zero: coordinates are good to 1e-40
_MOST_SOLUTIONS = 64  # Bézout bound above which exact elimination in SymPy takes minutes
_MOST_PARTS = 4096
_CONTINUUM = object()


class _Arithmetic(threading.local):
    """Numbers and intervals of many digits, each thread its own: mpmath's own ones are global to the process."""

    def __init__(self):
        self.mp, self.iv = mpmath.MPContext(), mpmath.MPIntervalContext()
        self.mp.dps = self.iv.dps = DIGITS
        self.names = {name: getattr(self.mp, name) for name in dir(self.mp) if not name.startswith("_")}
        self.names["Ei"] = self.mp.ei


arithmetic = _Arithmetic()


def numeric(expression, symbols: Sequence[sympy.Symbol]) -> Callable:
    """A SymPy expression, or nested lists of them, as a function of numbers of this thread's precision."""
    return sympy.lambdify(symbols, expression, [arithmetic.names, "mpmath"])


def size_of_terms(expression: sympy.Expr) -> sympy.Expr:
    """What an expression would be without cancellation: the sum of the sizes of its terms, as an expression."""
    if isinstance(expression, (sympy.Add, sympy.Mul)):
        return expression.func(*map(size_of_terms, expression.args))
    if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and expression.exp > 0:
        return size_of_terms(expression.base) ** expression.exp
    return sympy.Abs(expression)


def terms_and_degree(expression: sympy.Expr) -> tuple[int, int]:
    """Bounds on the number of terms of the expanded polynomial, and on its degree."""
    parts = [terms_and_degree(part) for part in expression.args]
    if isinstance(expression, sympy.Add):
        return sum(terms for terms, _ in parts), max(degree for _, degree in parts)
    if isinstance(expression, sympy.Mul):
        return math.prod(terms for terms, _ in parts), sum(degree for _, degree in parts)
    if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and expression.exp > 0:
        (terms, degree), power = parts[0], min(int(expression.exp), 10**4)
        return math.comb(terms + power - 1, power), degree * power
    return 1, int(expression.is_Symbol)


def solve(equations: list, symbols: tuple) -> tuple[list, list, bool, str] | None:
    """Isolated real solutions, continua as equations, whether that is proven, and how. None if it is too large.

    Args:
        equations: polynomials in the symbols, expanded, with coefficients of any kind; irrational ones are rounded to
            120 digits once the factors are known, and then nothing is proven
        symbols: the variables, as many as equations; a solution is a list of numbers in their order
    """
    solutions, continua, proven = [{}], [], True
    for group in _independent_groups(equations, symbols):
        solved = _solve_group([equations[i] for i in group], [symbols[i] for i in group])
        if solved is None:
            return None
        roots, group_continua, group_proven = solved
        others = [equations[i] for i in range(len(symbols)) if i not in group and equations[i] != 0]
        continua += [tuple(sympy.Eq(entry, 0) for entry in (*part, *others)) for part in group_continua]
        solutions = [before | new for before in solutions for new in roots]
        proven = proven and group_proven
    how = "exact elimination in the whole space"
    if not all(map(_is_exact, equations)):
        proven = False
        how += f", with irrational coefficients rounded to {_ROUNDED} digits: not proven complete"
    else:
        how += (
            ", each point verified by interval arithmetic"
            if proven
            else ", but a degenerate point could not be verified"
        )
    return [[solution[symbol] for symbol in symbols] for solution in solutions], continua, proven, how


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
        roots, part_proven = solved
        if roots is _CONTINUUM:
            continua.append(part)
            continue
        solutions += roots
        proven = proven and part_proven
    solutions = [solution for solution in solutions if not any(_vanish(part, solution) for part in continua)]
    for part, other in itertools.combinations(continua, 2):  # where two continua meet, as at a deep linear origin
        roots, part_proven = _solve_part(sorted({*part, *other}, key=sympy.default_sort_key), symbols) or ([], False)
        if roots is not _CONTINUUM:
            solutions += roots
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
    roots, proven = _real_solutions(rest, left)
    return [_insert(defined, solution) for solution in roots], proven


def _split_by_factors(equations: list, symbols: list) -> list[list] | None:
    """Systems of irreducible polynomials, one per choice of a factor from each equation, supersets dropped."""
    choices = []
    for equation in equations:
        if equation != 0:
            choices.append([_rounded(factor) for factor in _factors(equation, symbols)])
    if math.prod(len(factors) for factors in choices) > _MOST_PARTS:
        return None
    parts = {frozenset(choice) for choice in itertools.product(*choices)}
    minimal = [part for part in parts if not any(other < part for other in parts)]
    ordered = [sorted(part, key=sympy.default_sort_key) for part in minimal]
    return sorted(ordered, key=lambda part: [sympy.default_sort_key(polynomial) for polynomial in part])


def _factors(equation: sympy.Expr, symbols: list) -> list[sympy.Expr]:
    if _is_exact(equation):
        return [factor for factor, _ in sympy.factor_list(equation, *symbols)[1]]
    try:  # over the field of the coefficients, so that a multiple factor is not split by rounding
        factors = sympy.factor_list(equation, *symbols, extension=True)[1]
    except (NotImplementedError, sympy.polys.polyerrors.BasePolynomialError):  # π, or too many roots to combine
        return [equation]
    return [sympy.expand(factor) for factor, _ in factors]


def _eliminate_linear(part: list, symbols: list) -> tuple[list, list, list]:
    """Solve equations of the form c·v + p(others) = 0 for v as long as there are any.

    Returns the (v, expression) in the order of their elimination, the remaining equations, the remaining symbols.
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
    for symbol, expression in reversed(defined):
        value = numeric(expression, list(solution))(*solution.values())
        solution = solution | {symbol: arithmetic.mp.mpf(value)}
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
        tests = [numeric(polynomial, known) for polynomial in testable]
        grown = [[*box, root] for box in candidates for root in roots]
        candidates = [box for box in grown if all(_may_vanish(test, box) for test in tests)]
    verified = [box for box in candidates if _holds_solution(integral, left, box)]
    undecided = [box for box in candidates if box not in verified and not _is_rational(box)]
    points = [dict(zip(left, map(_middle, box), strict=True)) for box in verified + undecided]
    return points, not undecided


def _isolated_roots(polynomials: list, symbol: sympy.Symbol, left: list) -> list[tuple]:
    """Real roots of the eliminant of one variable, as rational intervals (lower, upper) with one root in each."""
    order = [other for other in left if other != symbol] + [symbol]
    basis = sympy.groebner(polynomials, *order, order="grevlex").fglm("lex")
    eliminant = sympy.Poly(basis.exprs[-1], symbol).sqf_part()
    return [interval for interval, _ in eliminant.intervals(eps=_WIDTH)]


def _interval(lower_upper: tuple):
    lower, upper = lower_upper
    iv = arithmetic.iv
    low, high = (iv.mpf(int(end.p)) / iv.mpf(int(end.q)) for end in (sympy.Rational(lower), sympy.Rational(upper)))
    return iv.mpf([low.a, high.b])


def _middle(lower_upper: tuple):
    centre = (sympy.Rational(lower_upper[0]) + sympy.Rational(lower_upper[1])) / 2
    return arithmetic.mp.mpf(int(centre.p)) / int(centre.q)


def _is_rational(box: list) -> bool:
    return all(lower == upper for lower, upper in box)


def _may_vanish(test: Callable, box: list) -> bool:
    return 0 in arithmetic.iv.mpf(test(*map(_interval, box)))


def _holds_solution(polynomials: list, symbols: list, box: list) -> bool:
    """Exact substitution for a rational box; else K(X) = m − C F(m) + (I − C J(X))(X − m) ⊂ X (Krawczyk)."""
    if _is_rational(box):
        exact = dict(zip(symbols, (sympy.Rational(lower) for lower, _ in box), strict=True))
        return all(polynomial.subs(exact) == 0 for polynomial in polynomials)
    if len(polynomials) != len(symbols):
        return False
    slopes = sympy.Matrix(polynomials).jacobian(symbols).tolist()
    value, slope = numeric(polynomials, symbols), numeric(slopes, symbols)
    mp, iv = arithmetic.mp, arithmetic.iv
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
    point = list(solution.values())
    for polynomial in polynomials:
        value, size = numeric([polynomial, size_of_terms(polynomial)], list(solution))(*point)
        if abs(value) > _ZERO * size:
            return False
    return True


def _same(solution: dict, other: dict) -> bool:
    return all(abs(solution[symbol] - other[symbol]) < 1e-25 for symbol in other)


def _is_exact(polynomial: sympy.Expr) -> bool:
    return all(number.is_Rational for number in _coefficients(polynomial))


def _coefficients(polynomial: sympy.Expr) -> list[sympy.Expr]:
    return [term.as_independent(*polynomial.free_symbols)[0] for term in sympy.Add.make_args(polynomial)]


def _rounded(polynomial: sympy.Expr) -> sympy.Expr:
    """The polynomial with its irrational coefficients as fractions good to 120 digits."""
    if _is_exact(polynomial):
        return polynomial
    mp, terms = arithmetic.mp, []
    for term in sympy.Add.make_args(polynomial):
        number, rest = term.as_independent(*polynomial.free_symbols)
        with mp.workdps(_ROUNDED + 20):
            digits = mp.nstr(mp.mpf(numeric(number, [])()), _ROUNDED)
        terms.append((number if number.is_Rational else sympy.Rational(digits)) * rest)
    return sympy.Add(*terms)
