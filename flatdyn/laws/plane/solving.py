"""Linear algebra of a chain that ends: its slowest mode, and what it collects until then.

    (I − K) u = f,      K ≥ 0 with row sums 1 − e,  e the chance to end in one step

A chain that hardly ends has a leading eigenvalue r of which 1 − r is lost in rounding. But from the left eigenvector π,
π K = r π, summed up,

    1 − r = π · e / π · 1

in which nothing cancels: so it is as accurate, relative to itself, as e is. With the right eigenvector h,

    u = h (π · f) / ((1 − r) π · h) + w,    (I − K + h πᵀ/(π · h)) w = f − h (π · f)/(π · h)

and the system for w is not singular any more.

References:
    Saad, Iterative Methods for Sparse Linear Systems (2nd ed.), sections 6.5 and 9.3 (GMRES, deflation).
    Alfa, Xue, Ye, Math. Comp. 71 (2002) 217 (M-matrices by their off-diagonal entries and row sums).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_RESIDUAL = 1e-12  # of a solution, relative to the right side
_POLISH = 20_000  # power steps at most, in which nothing cancels
_SETTLED = 1e-12  # change of 1 − r per step, relative, at which they end
_RARE = 1e-5  # 1 − r below which eigenvectors are polished so
_SMALL = 1200  # states up to which eigenvectors and solutions are those of dense matrices


class Modes(NamedTuple):
    """The slowest modes of K: eigenvalues, largest modulus first, and of the first 1 − r and its vectors.

    left sums to 1 (the quasi-stationary law); right has left · right = 1.
    """

    values: np.ndarray
    escape: float
    left: np.ndarray
    right: np.ndarray
    laws: np.ndarray


def modes(matrix: Any, ending: np.ndarray, number: int = 1) -> Modes:
    """The slowest modes of a matrix K (sparse) whose rows sum to 1 − ending."""
    size, transposed = matrix.shape[0], matrix.T
    number = max(1, min(number, size))
    if size <= _SMALL:
        dense = matrix.toarray()
        right_values, right = np.linalg.eig(dense)
        left_values, left = np.linalg.eig(dense.T)
    else:
        from scipy.sparse import linalg  # a fifth of a second, which those who ask for no plane need not wait

        def forward(vector):
            return matrix @ vector

        def backward(vector):
            return transposed @ vector

        ones, steps = np.ones(size), min(size - 1, max(20, 4 * number))
        both = [linalg.LinearOperator((size, size), matvec=side, dtype=float) for side in (forward, backward)]
        (right_values, right), (left_values, left) = (
            linalg.eigs(side, k=number, v0=ones, ncv=steps, tol=1e-12) for side in both
        )
    first = np.argsort(-np.abs(right_values), kind="stable")[:number]
    left = left[:, np.argsort(-np.abs(left_values), kind="stable")[:number]]
    values = right_values[first]
    law, function = _positive(left[:, 0].real), _positive(right[:, first[0]].real)
    law = law / law.sum()
    escape = float(law @ ending)
    for _ in range(_POLISH if escape < _RARE else 0):
        law, function = transposed @ law, matrix @ function
        law, function = law / law.sum(), function / np.abs(function).max()
        before, escape = escape, float(law @ ending)
        if abs(escape - before) <= _SETTLED * escape:
            break
    function = function / (law @ function)
    return Modes(values, escape, law, function, left.T)


def _positive(vector: np.ndarray) -> np.ndarray:
    return vector * np.sign(vector[np.argmax(np.abs(vector))] or 1)


def collected(matrix: Any, slowest: Modes, sources: np.ndarray) -> np.ndarray:
    """Solve (I − K) u = f for the columns f, (n, k), with the slowest mode taken out."""
    from scipy.sparse import linalg

    law, function, escape = slowest.left, slowest.right, slowest.escape
    amounts = law @ sources  # (k,)
    rest = sources - np.outer(function, amounts)

    def applied(w):
        return w - matrix @ w + function * (law @ w)

    size = len(law)
    if size <= _SMALL:
        solved = np.linalg.solve(np.eye(size) - matrix.toarray() + np.outer(function, law), rest)
    else:
        operator = linalg.LinearOperator((size, size), matvec=applied, dtype=float)
        columns = []
        for column in rest.T:
            solution, failed = linalg.gmres(operator, column, rtol=_RESIDUAL, atol=0.0, restart=80, maxiter=60)
            if failed:
                raise ValueError(
                    "the equations of the transfer operator did not settle: the region holds too many slow modes; take "
                    "a smaller one, or ask multilevel_splitting"
                )
            columns.append(solution)
        solved = np.stack(columns, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slow = np.where(amounts == 0, 0.0, amounts / escape)
    return np.outer(function, slow) + solved
