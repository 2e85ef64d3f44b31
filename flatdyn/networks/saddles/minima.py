"""The minimum of a network's loss to rounding, by SciPy's minimizers and the whole Hessian: for small networks."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import scipy

from flatdyn.landscapes import Landscape


def minimum(landscape: Landscape, inside: Any, start: Any, tol: float = 1e-11) -> np.ndarray:
    """A minimum of L over θ = z · P, to rounding.

        z = argmin L(z P):   L-BFGS, then a trust region with the whole Hessian, then a root of the gradient

    Args:
        landscape: L, in 64 bits
        inside: P, orthonormal rows that span the places allowed, shape (m, dim)
        start: where the search begins, z of shape (m,)
        tol: largest ‖∇L‖ that counts as zero, in that set
    Returns:
        θ, shape (dim,)
    Raises:
        ValueError: if the search does not end at a minimum; the message gives gradient and smallest eigenvalue
    """
    inside = np.asarray(inside)

    def value(z):
        return float(landscape.loss(z @ inside))

    def gradient(z):
        return inside @ np.asarray(landscape.grad(z @ inside))

    def hessian(z):
        return inside @ np.asarray(landscape.hessian(z @ inside)) @ inside.T

    near = scipy.optimize.minimize(value, start, jac=gradient, method="L-BFGS-B", options={"maxiter": 5000})
    size = smallest = np.nan
    with contextlib.suppress(ValueError):  # of SciPy, where numbers have become infinite: then there is none
        exact = {"jac": gradient, "hess": hessian, "method": "trust-exact", "options": {"gtol": 1e-8, "maxiter": 1000}}
        near = scipy.optimize.minimize(value, near.x, **exact)
        # A minimizer compares losses, and these are blind to gradients below the root of the rounding unit
        z = scipy.optimize.root(gradient, near.x, jac=hessian, tol=1e-15).x
        size, smallest = float(np.linalg.norm(gradient(z))), float(np.linalg.eigvalsh(hessian(z))[0])
    if not (size <= tol and smallest > 0):
        raise ValueError(
            f"no minimum was found: the gradient is {size:.1e} and the Hessian's smallest eigenvalue {smallest:.1e}. "
            "Start from other weights, or use some weight_decay, without which the weights may run to infinity"
        )
    return np.asarray(z @ inside)
