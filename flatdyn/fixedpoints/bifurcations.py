"""Where a branch changes stability: test functions, defining equations, and the branch that crosses.

Between two points of a branch a test function changes sign where (t the tangent, p the parameter, C₂ the second
compound matrix, whose eigenvalues are the products zᵢ zⱼ of the multipliers)

    t_p = 0                              fold: a multiplier +1, the branch turns back
    det [R_x R_p; t] = 0                 two branches cross: transcritical, or pitchfork if ψ·R_xx φφ = 0
    det (DF + I) = 0                     flip: a multiplier −1
    det (C₂(DF) − I) = 0, pair complex   Neimark–Sacker: a pair on the unit circle

Brent's method along the branch brackets the point; a root search on equations that have it as a regular solution then
gives it to full precision.

References:
    Kuznetsov, Elements of Applied Bifurcation Theory, chapter 10; Moore 1980 for the equations of a branch point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from flatdyn.fixedpoints.arclength import Equations, oriented
from flatdyn.processes.flat import ordered_eigenvalues

_TESTS = ("fold", "branch", "flip", "neimark-sacker")  # in the order of the test functions


@dataclass(frozen=True, eq=False)
class Bifurcation:
    """Where a branch changes stability or direction.

    Attributes:
        kind: "fold", "transcritical", "pitchfork", "flip" or "neimark-sacker"
        parameter: its value there
        theta: position, shape (dim,)
        state: full state, shape (n,)
        multipliers: shape (n,), largest modulus first
        tangent: of the branch it lies on, in scaled (state, parameter), shape (n + 1,)
        period: of the orbit
    """

    kind: str
    parameter: float
    theta: np.ndarray
    state: np.ndarray
    multipliers: np.ndarray
    tangent: np.ndarray = field(repr=False)
    period: int = 1

    def __repr__(self) -> str:
        place = ", ".join(f"{x:.8g}" for x in self.theta)
        return f"Bifurcation({self.kind} at {self.parameter:.10g}, theta ({place}))"


class FixedPointProblem:
    """R(x, p) = F_p(x) − x in scaled unknowns z = (x/scale, (p − p₀)/(p₁ − p₀)), with what is asked of its solutions.

    Args:
        cycle: (x, p) -> F_p(x) on the full state, shape (n,); one period of the orbit
        position: full state -> θ
        size: n
        low, span: p₀ and p₁ − p₀
        scale: of x
        period: of the orbit
    """

    def __init__(
        self, cycle: Callable, position: Callable, size: int, low: float, span: float, scale: float, period: int
    ):
        self.position, self.size, self.low, self.span = position, size, low, span
        self.scale, self.period = scale, period

        def residual(z):
            x, p = self.unscaled(z)
            return (cycle(x, p) - x) / scale

        self.residual, self.equations = residual, Equations(residual)
        self._forms = jax.jit(self._second_and_third_derivative)
        self._defining: dict[str, tuple[Callable, Callable]] = {}

    def unscaled(self, z):
        """State and parameter of scaled unknowns, shape (..., n + 1)."""
        return z[..., :-1] * self.scale, self.low + z[..., -1] * self.span

    def scaled(self, x: Any, p: float) -> np.ndarray:
        """Scaled unknowns of a state and a parameter."""
        return np.append(np.asarray(x) / self.scale, (p - self.low) / self.span)

    def map_slope(self, z: np.ndarray) -> np.ndarray:
        """DF, shape (n, n)."""
        return np.asarray(self.equations.slope(z))[:, :-1] + np.eye(self.size)

    def multipliers(self, z: np.ndarray) -> np.ndarray:
        """Eigenvalues of DF, largest modulus first."""
        return ordered_eigenvalues(self.map_slope(z))

    # --- finding them -----------------------------------------------------------------------------------------

    def bifurcations(self, points: list[tuple[np.ndarray, np.ndarray]]) -> list[Bifurcation]:
        """The bifurcations between neighbouring points (z, t) of a branch, in order."""
        kept: list[Bifurcation] = []
        signs = [np.sign(self._tests(z, t)) for z, t in points]
        for (z, t), (after, _), before, later in zip(points, points[1:], signs, signs[1:], strict=False):
            here = []
            for which in np.flatnonzero(before * later < 0):
                near = self._bracket(z, t, float(np.linalg.norm(after - z)), which)
                located = None if near is None else self._locate(near, after - z, _TESTS[which])
                here += [located] if located else []
            crosses = any(b.kind in ("transcritical", "pitchfork") for b in here)
            # A branch that turns back exactly where another one crosses is a pitchfork's: that is no fold.
            kept += [b for b in here if not (crosses and b.kind == "fold")]
        return kept

    def _tests(self, z: np.ndarray, t: np.ndarray) -> np.ndarray:
        slope = np.asarray(self.equations.slope(z))
        moved, one = slope[:, :-1] + np.eye(self.size), np.eye(self.size)
        pairs = compound(moved)
        bordered = np.vstack([slope / np.abs(slope).max(), t])
        with np.errstate(over="ignore", invalid="ignore"):
            return np.array([t[-1], *map(np.linalg.det, (bordered, moved + one, pairs - np.eye(len(pairs))))])

    def _bracket(self, z: np.ndarray, t: np.ndarray, length: float, which: int) -> np.ndarray | None:
        """The point on the branch where a test function vanishes."""
        last = z

        def test(share):
            nonlocal last
            point = self.equations.solve(z + share * length * t, t)
            if point is None:  # at a branch point itself the plane across the branch holds no isolated solution
                return 0.0
            last = point
            return self._tests(point, self.equations.tangent(point, t))[which]

        try:
            scipy.optimize.brentq(test, 0.0, 1.05, xtol=1e-13)
        except ValueError:  # no change of sign in reach: the branch bent away
            return None
        return last

    def _locate(self, z: np.ndarray, along: np.ndarray, kind: str) -> Bifurcation | None:
        """The point itself. `along` is the direction of the branch: at a crossing the Jacobian does not tell it."""
        guess = self._guess(z, kind)
        if guess is None:
            return None
        if kind not in self._defining:
            system = self._defining_equations(kind)
            self._defining[kind] = jax.jit(system), jax.jit(jax.jacfwd(system))
        value, slope = self._defining[kind]
        root = scipy.optimize.root(value, guess, jac=slope, options={"xtol": 1e-14})
        place = root.x[: self.size + 1]
        if not np.isfinite(root.x).all() or np.abs(place - z).max() > 1e-3:
            return None
        if kind == "branch":
            kind = self._crossing_kind(place)
        x, p = self.unscaled(place)
        theta = np.asarray(self.position(jnp.asarray(x)))
        tangent = along / np.linalg.norm(along)
        return Bifurcation(kind, float(p), theta, x, self.multipliers(place), tangent, self.period)

    def _guess(self, z: np.ndarray, kind: str) -> np.ndarray | None:
        """Start for the defining equations: the point, and the vectors that come with it."""
        slope, n = self.map_slope(z), self.size
        if kind == "branch":
            return np.concatenate([z, np.linalg.svd(slope - np.eye(n))[0][:, -1], [0.0]])
        if kind != "neimark-sacker":
            return np.concatenate([z, np.linalg.svd(slope - (1 if kind == "fold" else -1) * np.eye(n))[2][-1]])
        values, vectors = np.linalg.eig(slope)
        upper = np.flatnonzero(values.imag > 1e-6)
        if len(upper) == 0:
            return None  # two real multipliers with product 1
        nearest = upper[np.argmin(np.abs(np.abs(values[upper]) - 1))]
        vector = vectors[:, nearest] / np.linalg.norm(vectors[:, nearest])
        vector = vector * np.exp(-0.5j * np.angle(vector @ vector))  # the phase with Re ⟂ Im
        return np.concatenate([z, vector.real, vector.imag, [np.angle(values[nearest])]])

    def _defining_equations(self, kind: str) -> Callable:
        """A square system that has the bifurcation as a regular root."""
        n, slope = self.size, jax.jacfwd(self.residual)
        one = jnp.ones(1)

        def eigenvector(y):  # R = 0, (DF ∓ I) φ = 0, ‖φ‖ = 1
            z, phi = y[: n + 1], y[n + 1 :]
            matrix = slope(z)[:, :n] + (0 if kind == "fold" else 2) * jnp.eye(n)
            return jnp.concatenate([self.residual(z), matrix @ phi, phi @ phi - one])

        def branch(y):  # R + β ψ = 0, ψᵀ [R_x R_p] = 0, ‖ψ‖ = 1
            z, psi, beta = y[: n + 1], y[n + 1 : -1], y[-1]
            return jnp.concatenate([self.residual(z) + beta * psi, psi @ slope(z), psi @ psi - one])

        def pair(y):  # R = 0, (DF − e^{iω}) (a + ib) = 0, ‖a + ib‖ = 1, a ⟂ b
            z, a, b, omega = y[: n + 1], y[n + 1 : 2 * n + 1], y[2 * n + 1 : -1], y[-1]
            matrix, c, s = slope(z)[:, :n] + jnp.eye(n), jnp.cos(omega), jnp.sin(omega)
            vectors = [matrix @ a - c * a + s * b, matrix @ b - c * b - s * a]
            return jnp.concatenate([self.residual(z), *vectors, a @ a + b @ b - one, a @ b * one])

        return {"branch": branch, "neimark-sacker": pair}.get(kind, eigenvector)

    # --- where two branches cross -----------------------------------------------------------------------------

    def _second_and_third_derivative(self, z, psi, u, v):
        """ψ·D²R[u, v] and ψ·D³R[u, u, v]."""

        def along(function, direction):
            return lambda z: jax.jvp(function, (z,), (direction,))[1]

        first = along(lambda z: psi @ self.residual(z), v)
        second = along(first, u)
        return second(z), along(second, u)(z)

    def _crossing_kind(self, z: np.ndarray) -> str:
        psi, phi, _ = self._null_vectors(z)
        quadratic, cubic = self._forms(z, psi, np.append(phi, 0.0), np.append(phi, 0.0))
        return "pitchfork" if abs(quadratic) <= 1e-6 * abs(cubic) else "transcritical"

    def _null_vectors(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ψ left of [R_x R_p], φ right of R_x, and the two right of [R_x R_p]."""
        slope = np.asarray(self.equations.slope(z))
        left, _, right = np.linalg.svd(slope)
        return left[:, -1], np.linalg.svd(slope[:, :-1])[2][-1], right[-2:]

    def crossing(self, bifurcation: Bifurcation) -> tuple[np.ndarray, np.ndarray]:
        """A branch point, and the direction of the branch that crosses the first one.

        Solutions leave in the directions w = u cos a + v sin a with ψ·D²R[w, w] = 0.

        Raises:
            ValueError: if the bifurcation is not one where branches cross
        """
        if bifurcation.kind not in ("transcritical", "pitchfork"):
            raise ValueError(f"branches cross at transcritical and pitchfork points, not at a {bifurcation.kind}")
        z = self.scaled(bifurcation.state, bifurcation.parameter)
        psi, _, (u, v) = self._null_vectors(z)
        uu, uv, vv = (float(self._forms(z, psi, *pair)[0]) for pair in ((u, u), (u, v), (v, v)))
        # (uu + vv)/2 + (uu − vv)/2 cos 2a + uv sin 2a = 0
        half, radius = (uu - vv) / 2, np.hypot((uu - vv) / 2, uv)
        swing = np.arccos(np.clip(-(uu + vv) / (2 * radius), -1, 1))
        angles = (np.arctan2(uv, half) + np.array([swing, -swing])) / 2
        directions = np.outer(np.cos(angles), u) + np.outer(np.sin(angles), v)
        return z, oriented(directions[np.argmin(np.abs(directions @ bifurcation.tangent))])


def compound(matrix):
    """Second compound matrix: its eigenvalues are the products zᵢ zⱼ, i < j."""
    i, j = np.triu_indices(matrix.shape[0], 1)
    with np.errstate(over="ignore", invalid="ignore"):  # of multipliers that large none is near the unit circle
        return matrix[i][:, i] * matrix[j][:, j] - matrix[i][:, j] * matrix[j][:, i]
