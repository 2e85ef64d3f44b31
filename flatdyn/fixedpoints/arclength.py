"""Following a curve that is given by m equations in m + 1 unknowns, in arclength.

Pseudo-arclength continuation (Keller 1977): a step along the tangent, then a root search in the plane across it. The
step shrinks where the curve bends and grows where it is straight.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import scipy

_TURN = 0.15  # largest angle between neighbouring tangents, in radians
_SHORTEST, _LONGEST = 1e-9, 0.02  # step in arclength; unknowns are scaled to about 1


def oriented(direction: np.ndarray) -> np.ndarray:
    """The one of ±direction that every machine takes: its last entry that is more than rounding is positive.

    The sign of an eigenvector or null vector is left open by linear algebra, and its kernels differ.
    """
    seen = direction[np.abs(direction) > 1e-6 * np.abs(direction).max()]
    return -direction if len(seen) and seen[-1] < 0 else direction


class Equations:
    """m equations in m + 1 unknowns, with their Jacobian."""

    def __init__(self, function: Callable):
        self.value = jax.jit(function)
        self.slope = jax.jit(jax.jacfwd(function))

    def tangent(self, z: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Unit null vector of the Jacobian on the side of `along`."""
        null = np.linalg.svd(np.asarray(self.slope(z)))[2][-1]
        return null if null @ along >= 0 else -null

    def solve(self, guess: np.ndarray, across: np.ndarray) -> np.ndarray | None:
        """The solution in the plane through `guess` across a direction, or None."""
        root = scipy.optimize.root(
            lambda z: np.append(np.asarray(self.value(z)), across @ (z - guess)),
            guess,
            jac=lambda z: np.vstack([np.asarray(self.slope(z)), across]),
            options={"xtol": 1e-14},
        )
        if not (np.isfinite(root.x).all() and np.isfinite(np.asarray(self.slope(root.x))).all()):
            return None
        square = np.vstack([np.asarray(self.slope(root.x)), across])
        correction = np.linalg.lstsq(square, np.append(np.asarray(self.value(root.x)), 0.0), rcond=1e-13)[0]
        return root.x - correction if np.abs(correction).max() < 1e-8 else None


def follow(equations: Equations, z: np.ndarray, along: np.ndarray, ends: list[int], inside: Callable, most: int):
    """Points (z, tangent) along a curve, the first one included.

    It ends where one of the components `ends` leaves [0, 1] (there exactly), outside `inside`, when it has closed, or
    after `most` points.
    """
    is_tangent = np.linalg.norm(np.asarray(equations.slope(z)) @ along) < 1e-6  # at a branch point there are two
    t = along / np.linalg.norm(along) if is_tangent else equations.tangent(z, along)
    first, step = z, _LONGEST / 4
    yield z, t
    for count in range(1, most):
        while True:
            new = equations.solve(z + step * t, t)
            if new is not None:
                turned = equations.tangent(new, t)
                bent = np.arccos(np.clip(turned @ t, -1, 1))
                if bent < _TURN and np.linalg.norm(new - z) < 2 * step:
                    break
            step /= 2
            if step < _SHORTEST:
                return
        for end in ends:
            if not 0 <= new[end] <= 1:
                share = (np.clip(new[end], 0, 1) - z[end]) / (new[end] - z[end])
                new = equations.solve(z + share * (new - z), np.eye(len(z))[end])
                if new is not None and np.linalg.norm(new - z) > 0:
                    yield new, equations.tangent(new, t)
                return
        z, t = new, turned
        yield z, t
        if not inside(z) or (count > 10 and np.linalg.norm(z - first) < step / 2):
            return
        step = min(_LONGEST, step * (1.5 if bent < _TURN / 3 else 1.0))
