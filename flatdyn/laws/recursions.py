"""Any linear recursion with noise, s⁺ = A s + e: a sampler of another package as well as a step of flatdyn's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.core.algebra import plain


@dataclasses.dataclass(frozen=True, eq=False)
class LinearRecursion:
    """A step that is linear in its state, with noise that does not depend on the state.

        s⁺ = A s + e,   E e = 0,   E e eᵀ = Q,   independent from step to step

    Its laws need no more than A and Q, so nothing has to be a method: hand it to
    :func:`flatdyn.laws.stationary.covariance`, or with symbols to :func:`flatdyn.laws.stationary.formula`. A step
    s⁺ = A s + G R with normal R has Q = G Gᵀ.

        LinearRecursion([[1, h], [-h * k, 1 - h * a]], [[0, 0], [0, 2 * h * a * T]])     explicit Euler on ½ k θ²

    Args:
        matrix: A, shape (n, n): numbers or SymPy symbols
        noise_covariance: Q, shape (n, n), symmetric and positive semidefinite; 0 if not given
        stable: when all multipliers are inside the unit circle, in words: an error that finds one outside says it
    Raises:
        ValueError: if A is not square, Q is not a covariance, or their shapes differ
    """

    matrix: Any
    noise_covariance: Any = None
    stable: str = ""

    def __post_init__(self):
        matrix = _square("matrix", self.matrix)
        size = matrix.shape[0]
        noise = np.zeros((size, size)) if self.noise_covariance is None else self.noise_covariance
        noise = _square("noise_covariance", noise)
        if noise.shape != matrix.shape:
            raise ValueError(f"noise_covariance must have the shape of matrix, {matrix.shape}, got {noise.shape}")
        symbolic = isinstance(matrix, sympy.MatrixBase) or isinstance(noise, sympy.MatrixBase)
        if isinstance(noise, sympy.MatrixBase):
            if any((noise - noise.T).applyfunc(sympy.expand)):
                raise ValueError(f"noise_covariance must be symmetric, got {noise.tolist()}")
        else:
            checks.covariance("noise_covariance", noise)
        if symbolic:
            matrix, noise = _in_symbols(matrix), _in_symbols(noise)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "noise_covariance", noise)
        checks.text("stable", self.stable)

    @property
    def symbolic(self) -> bool:
        """Whether there are symbols in it."""
        return isinstance(self.matrix, sympy.MatrixBase)

    def then(self, other: LinearRecursion) -> LinearRecursion:
        """One step of this and then one of `other`, as one step:  A = A₂ A₁,  Q = A₂ Q₁ A₂ᵀ + Q₂."""
        checks.kind("other", other, LinearRecursion)
        if other.matrix.shape != self.matrix.shape:
            raise ValueError(f"other must have a state of the same size, {self.matrix.shape}, got {other.matrix.shape}")
        first, second = (self, other) if self.symbolic == other.symbolic else (self._symbolic(), other._symbolic())
        spread = second.matrix @ first.noise_covariance @ second.matrix.T + second.noise_covariance
        return LinearRecursion(second.matrix @ first.matrix, (spread + spread.T) / 2, self.stable or other.stable)

    def repeated(self, steps: int) -> LinearRecursion:
        """`steps` ≥ 1 steps as one:  A = A₁ⁿ,  Q = Σ A₁ᵏ Q₁ (A₁ᵏ)ᵀ over k < n."""
        steps = checks.count("steps", steps, at_least=1)
        half = self.repeated(steps // 2) if steps > 1 else None
        whole = self if half is None else half.then(half)
        return whole.then(self) if steps > 1 and steps % 2 else whole

    def multipliers(self) -> np.ndarray:
        """The eigenvalues of A, shape (n,), complex.

        Raises:
            TypeError: if A has symbols
        """
        return np.linalg.eigvals(self.numbers()[0]).astype(complex)

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """A and Q as numbers.

        Raises:
            TypeError: if they have symbols
        """
        if self.symbolic:
            free = sorted(map(str, self.matrix.free_symbols | self.noise_covariance.free_symbols))
            raise TypeError(f"a recursion in the symbols {', '.join(free)} has no numbers: ask stationary.formula")
        return self.matrix, self.noise_covariance

    def _symbolic(self) -> LinearRecursion:
        """The same with matrices of SymPy, which the constructor makes of those without symbols again numbers."""
        whole = object.__new__(LinearRecursion)
        for name, value in (("matrix", self.matrix), ("noise_covariance", self.noise_covariance)):
            object.__setattr__(whole, name, _in_symbols(value))
        object.__setattr__(whole, "stable", self.stable)
        return whole


def _in_symbols(matrix: Any) -> sympy.ImmutableMatrix:
    """A matrix of SymPy, in which whole numbers are exact."""

    def exact(entry: sympy.Expr) -> sympy.Expr:
        return sympy.Integer(int(entry)) if entry.is_Float and float(entry).is_integer() else entry

    return sympy.ImmutableMatrix(plain(sympy.Matrix(matrix)).applyfunc(exact))


def _square(name: str, value: Any) -> Any:
    """A square matrix: an array of finite numbers, or a matrix of SymPy if it has a symbol in it."""
    if isinstance(value, list | tuple | sympy.MatrixBase):
        rows = value.tolist() if isinstance(value, sympy.MatrixBase) else value
        inside = [entry for row in rows if isinstance(row, list | tuple) for entry in row]
        if any(isinstance(entry, sympy.Basic) and entry.free_symbols for entry in inside):
            try:
                matrix = sympy.Matrix(rows)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name} must be a square matrix, got {checks.shown(value)}") from error
            if matrix.shape[0] != matrix.shape[1]:
                raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
            return matrix
        value = np.array(rows, dtype=float) if isinstance(value, sympy.MatrixBase) else value
    matrix = checks.numbers(name, value, ndim=2, at_least=1).astype(float)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    return matrix
