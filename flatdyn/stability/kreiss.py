"""The Kreiss constant of a matrix: how far its resolvent exceeds what its eigenvalues say."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from flatdyn.core import checks

_OUTSIDE = 1e-9  # of a multiplier beyond |z| = 1
_NEAR, _FAR = 1e-2, 1e2  # distances from the circle that are searched, in units of the gap and of the norm
_RADII, _ANGLES, _STARTS = 40, 24, 4
_SMALL, _FEW = 32, 12  # numbers in a state up to which every multiplier's angle is searched, and all radii; else so few


def kreiss_constant(matrix: Any) -> float:
    """The Kreiss constant of a real square matrix.

        K = sup over |z| > 1 of (|z| − 1) ‖(z − A)⁻¹‖₂ ≥ 1,   K ≤ sup over k ≥ 0 of ‖Aᵏ‖₂ ≤ e n K

    It is found by a search from the largest values on a grid of radii and angles, those of the eigenvalues among them;
    so it is a lower bound that is sharp unless the search has missed the highest of several peaks.

    Args:
        matrix: A, shape (n, n), finite
    Returns:
        K; ∞ if an eigenvalue is outside |z| = 1
    Raises:
        ValueError: if A is not square
    References:
        Trefethen, Embree, Spectra and pseudospectra (2005), chapter 18.
    """
    matrix = checks.numbers("matrix", matrix, ndim=2, at_least=1)
    size = len(matrix)
    if matrix.shape != (size, size):
        raise ValueError(f"matrix must be square, got shape {matrix.shape}")
    values = np.linalg.eigvals(matrix)
    radius, norm = float(np.abs(values).max()), float(np.linalg.norm(matrix, 2))
    if radius > 1 + _OUTSIDE:
        return np.inf
    if norm <= 1:
        return 1.0  # then no power is larger than 1, and K is no larger than they

    def height(distance: np.ndarray, angle: np.ndarray) -> np.ndarray:
        z = (1 + distance) * np.exp(1j * angle)
        gaps = np.linalg.svd(z[..., None, None] * np.eye(size) - matrix, compute_uv=False)[..., -1]
        return distance / np.maximum(gaps, np.finfo(float).tiny)

    few = size > _SMALL
    first = values[np.argsort(-np.abs(values))[: _FEW if few else size]]  # A is real: the upper half is enough
    angles = np.unique(np.concatenate([np.linspace(0, np.pi, _FEW if few else _ANGLES), np.abs(np.angle(first))]))
    ends = np.log(_NEAR * max(1 - radius, _OUTSIDE)), np.log(_FAR * max(norm, 1))
    distances = np.linspace(*ends, _FEW if few else _RADII)
    heights = np.array([height(np.exp(one), angles) for one in distances])
    padded = np.pad(heights, 1, mode="constant", constant_values=-np.inf)
    around = [padded[1 + i : 1 + i + len(distances), 1 + j : 1 + j + len(angles)] for i, j in _NEIGHBOURS]
    peaks = np.argwhere((heights >= np.max(around, axis=0)) & (heights > 1))
    peaks = sorted(peaks.tolist(), key=lambda at: -heights[*at])[:_STARTS]

    def depth(at: np.ndarray) -> float:
        return -float(height(np.exp(at[:1]), at[1:])[0])

    best = max(1.0, float(heights.max()))
    for i, j in peaks:
        at = np.array([distances[i], angles[j]])
        corners = at + np.array([[0, 0], [distances[1] - distances[0], 0], [0, np.pi / len(angles)]])
        options = {"initial_simplex": corners, "xatol": 1e-9, "fatol": 1e-13, "maxiter": 400}
        best = max(best, -scipy.optimize.minimize(depth, at, method="Nelder-Mead", options=options).fun)
    return best


_NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
