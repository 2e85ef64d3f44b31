"""Critical points by search in a box, and the kind of a point by its Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy

from flatdyn.core.segments import progress_bar

_MOST_COORDINATES = 1000
_NEAR = 1e-6  # of the box: points closer to each other than this are one
_ROUNDING = 1e-10  # of the typical curvature: what an eigenvalue may owe to rounding
_NOTHING = 1e-24  # of the typical gradient: less than any rounding leaves at an ordinary root
_PATCH = 1e-3  # of the box: ends at degenerate points this close are one
_BESIDE = 1e-2  # of the box: how far from a degenerate point another one is looked for
_MOST_PATCHES = 8


def kind_of_signs(signs: np.ndarray) -> str:
    """ "minimum", "maximum", "saddle", or "degenerate", by the signs (−1, 0, 1) of the Hessian's eigenvalues."""
    if (signs == 0).any():
        return "degenerate"
    if (signs > 0).all():
        return "minimum"
    return "maximum" if (signs < 0).all() else "saddle"


def kind_of(hessian: Callable, point: np.ndarray, size: np.ndarray, typical: float) -> str:
    """The kind of a critical point that is known to 1e-6 of `size`.

    An eigenvalue counts as zero if it is below rounding, 1e-10 of the typical curvature, or changes by more than
    itself from the point to those beside it: a critical point that is only known so well may then be another kind.

    Args:
        hessian: from coordinates (dim,) to (dim, dim), in 64 bits
        point: shape (dim,)
        size: lengths over which the loss is looked at, shape (dim,)
        typical: curvature to compare with: of ordinary places around
    """
    values, vectors = np.linalg.eigh(_array(hessian(point)))
    signs = np.sign(values)
    for i, (value, vector) in enumerate(zip(values, vectors.T, strict=True)):
        step = _NEAR * np.linalg.norm(size * vector) * vector
        beside = [vector @ _array(hessian(point + sign * step)) @ vector for sign in (-1, 1)]
        if abs(value) <= max(_ROUNDING * typical, *(abs(other - value) for other in beside)):
            signs[i] = 0
    return kind_of_signs(signs)


def critical_near(landscape: Any, theta: np.ndarray, width: float) -> tuple[np.ndarray, str] | None:
    """The critical point within `width` of θ, and its kind, in 64 bits; None if there is none.

    Args:
        landscape: with `grad` and `hessian` of points
        theta: coordinates (dim,)
        width: how far to look
    """
    with jax.enable_x64(True):
        theta = np.asarray(theta, dtype=float)
        around = [theta, *(theta + sign * width * unit for unit in np.eye(len(theta))[:16] for sign in (-1, 1))]
        steep = max(np.abs(_array(landscape.grad(place))).max() for place in around)
        root = _root(landscape.grad, landscape.hessian, theta, steep)
        if not root.success or np.linalg.norm(root.x - theta) > width:
            return None
        typical = max(_largest(landscape.hessian(place)) for place in [root.x, *around])
        return root.x, kind_of(landscape.hessian, root.x, np.full(len(theta), width), typical)


def search(
    grad: Callable, hessian: Callable, box: tuple | None, dim: int, progress: bool | None = None
) -> tuple[list[tuple[np.ndarray, str]], str]:
    """Roots of the gradient with their kinds, by Powell's hybrid method from the box's centre and Sobol' points.

    Returns the points and one sentence on the search. A degenerate point is listed if none lies beside it.

    Args:
        grad, hessian: functions of a float64 array (dim,), returning arrays (dim,), (dim, dim)
        box: where to search
        progress: a bar: always, never, or (None) after two seconds
    Raises:
        ValueError: if there is no box, or there are too many coordinates
    """
    if box is None:
        raise ValueError("critical points of this loss must be searched in a box: give the landscape a box=")
    if dim > _MOST_COORDINATES:
        raise ValueError(f"critical points are searched for in at most {_MOST_COORDINATES} coordinates, got {dim}")
    place = _Box(grad, hessian, box)
    count = 2 ** min(dim + 7, 11)
    sobol = scipy.stats.qmc.Sobol(dim, rng=np.random.default_rng(0))
    starts = place.lower + place.size * np.array([np.full(dim, 0.5), *sobol.random(count)])
    places: list[tuple[np.ndarray, str]] = []
    degenerate: list[np.ndarray] = []
    ended = 0
    with progress_bar(count + 1, "starts", progress) as bar:
        place.look_around(starts[:33])
        for start in starts:
            point, kind = place.end_of(start, [point for point, _ in places], degenerate)
            if kind == "degenerate":
                ended += 1
                if not any(place.close(point, other, _PATCH) for other in degenerate):
                    degenerate.append(point)
            elif kind is not None and not any(place.close(point, other, _NEAR) for other, _ in places):
                places.append((point, kind))
            bar.update()
    isolated = [point for point in degenerate if place.is_isolated(point)] if len(degenerate) <= _MOST_PATCHES else []
    how = f"not proven complete: a root search from {count + 1} starts in the box"
    if len(isolated) < len(degenerate):
        how += f"; {ended} of them ended at degenerate points, perhaps a continuum, which are not all listed"
    return [*places, *((point, "degenerate") for point in isolated)], how


class _Box:
    """The box of a search, and the gradient and the curvature that are typical in it."""

    def __init__(self, grad: Callable, hessian: Callable, box: tuple):
        self.grad, self.hessian = grad, hessian
        self.lower, self.upper = np.array(box, dtype=float).T
        self.size = self.upper - self.lower
        self.slope = self.curvature = 0.0

    def look_around(self, places: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            slopes = [np.abs(_array(self.grad(place))).max() for place in places]
            curvatures = [_largest(self.hessian(place)) for place in places]
        self.slope, self.curvature = _median(slopes), _median(curvatures)

    def end_of(self, start: np.ndarray, known: list, degenerate: list) -> tuple[np.ndarray, str | None]:
        """Where the search from a start ends, and the kind of critical point there; None if it is none or known.

        What is beside a degenerate point already known is degenerate.
        """
        root = _root(self.grad, self.hessian, start, self.slope)
        point = root.x
        if any(self.close(point, other, _NEAR) for other in known):
            return point, None
        with np.errstate(all="ignore"):
            slope, curvature = _array(self.grad(point)), _array(self.hessian(point))
        if not (np.isfinite(slope).all() and np.isfinite(curvature).all()):
            return point, None
        flat = np.abs(slope).max() <= _ROUNDING * self.slope  # where the Hessian vanishes the solver is never content
        if not (root.success or flat) or not self._inside(point):
            return point, None
        if flat and any(self.close(point, other, _PATCH) for other in degenerate):
            return point, "degenerate"
        kind = kind_of(self.hessian, point, self.size, self.curvature)
        if kind == "degenerate":
            return point, kind if flat else None
        newton = np.linalg.solve(curvature, slope)
        point = point - newton
        # The solver's own verdict is not enough: it also stops, satisfied, on steep slopes.
        is_root = root.success and (np.abs(newton) < 1e-7 * self.size).all() and self._inside(point)
        return point, kind if is_root else None

    def is_isolated(self, point: np.ndarray) -> bool:
        """Whether a search from beside a degenerate point, where the loss is flattest, leads back to it or far away."""
        values, vectors = np.linalg.eigh(_array(self.hessian(point)))
        for vector in vectors.T[np.argsort(np.abs(values))][: len(point)]:
            step = _BESIDE * np.linalg.norm(self.size * vector) * vector
            for sign in (-1, 1):
                end, kind = self.end_of(point + sign * step, [], [])
                away = np.linalg.norm(end - point)
                if kind == "degenerate" and 0.3 * np.linalg.norm(step) < away < 3 * np.linalg.norm(step):
                    return False
        return True

    def close(self, point: np.ndarray, other: np.ndarray, share: float) -> bool:
        return bool((np.abs(point - other) < share * self.size).all())

    def _inside(self, point: np.ndarray) -> bool:
        return bool((point >= self.lower).all() and (point <= self.upper).all())


class _Flat(Exception):
    """The gradient is far below rounding: at a degenerate point the solver would go on for hundreds of steps."""


def _root(grad: Callable, hessian: Callable, start: np.ndarray, slope: float = 0.0) -> Any:
    """What SciPy's solver says; `slope` is a typical gradient."""

    def gradient(x):
        slope_at = _array(grad(x))
        if 0 < np.abs(slope_at).max() < _NOTHING * slope:
            raise _Flat(x.copy())
        return slope_at

    with np.errstate(all="ignore"):  # a trial point far outside may overflow; the solver then steps back
        try:
            return scipy.optimize.root(gradient, start, jac=lambda x: _array(hessian(x)), options={"xtol": 1e-13})
        except _Flat as end:
            return scipy.optimize.OptimizeResult(x=end.args[0], success=True)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=float)


def _largest(hessian: Any) -> float:
    hessian = _array(hessian)
    return float(np.abs(np.linalg.eigvalsh(hessian)).max()) if np.isfinite(hessian).all() else np.inf


def _median(values: list) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else 0.0
