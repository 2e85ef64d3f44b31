"""Small problems of which everything is known: bowls, a slope, a flat, all seen through minibatches.

    ∇ℓ(θ; k, b) = H θ + s(k, b)        k: the step, b = 0: its minibatch, b = 1: another one of the same step

Positions and moves are of order one, whatever the step size that is looked for: the gradients are made larger or
smaller until they are.
"""

from __future__ import annotations

import dataclasses

import numpy as np

STEPS = 12


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A quadratic loss with a minibatch for each step.

    Attributes:
        name: what it is for
        start: θ₀, shape (dim,)
        hessian: H, shape (dim, dim)
        shifts: s, shape (steps, 2, dim)
    """

    name: str
    start: np.ndarray
    hessian: np.ndarray
    shifts: np.ndarray

    @property
    def steps(self) -> int:
        """How many steps are taken."""
        return len(self.shifts)

    def gradient(self, theta: np.ndarray, step: int, batch: int = 0) -> np.ndarray:
        """∇ℓ at θ, shape (dim,)."""
        return self.hessian @ theta + self.shifts[step, batch]

    def value(self, theta: np.ndarray, step: int, batch: int = 0) -> float:
        """ℓ at θ, with zero at the origin."""
        return float(theta @ (self.hessian @ theta / 2 + self.shifts[step, batch]))

    def times(self, factor: float) -> Problem:
        """The same with gradients times a number."""
        return dataclasses.replace(self, hessian=factor * self.hessian, shifts=factor * self.shifts)


def _shape(rng: np.random.Generator, eigenvalues: np.ndarray) -> np.ndarray:
    turned, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))
    return (turned * eigenvalues) @ turned.T


def problems(dim: int) -> dict[str, Problem]:
    """All of them by name, for that many coordinates. The same for everybody: seeds are fixed."""
    rng = np.random.default_rng(20)

    def positions() -> np.ndarray:
        # No coordinate is small, so that measures by size can be told from others
        return rng.choice([-1.0, 1.0], dim) * rng.uniform(0.4, 1.6, dim)

    def batches(size: float) -> np.ndarray:
        return size * rng.normal(size=(STEPS, 2, dim))

    bowl, saddle = np.linspace(0.2, 1.0, dim), np.linspace(-0.3, 1.0, dim)
    constant = np.broadcast_to(rng.normal(size=dim), (STEPS, 2, dim)).copy()
    none = np.zeros((dim, dim))
    made = [
        Problem("batches", positions(), _shape(rng, bowl), batches(0.5)),
        Problem("bowl", positions(), _shape(rng, bowl), constant / 4),
        Problem("strong", positions(), 3 * _shape(rng, bowl), batches(1.5)),
        Problem("weak", positions(), _shape(rng, bowl) / 30, batches(0.02)),
        Problem("faint", positions(), 1e-6 * _shape(rng, bowl), batches(1e-6)),
        Problem("slope", positions(), none, constant),
        Problem("steep", positions(), none, batches(100.0)),
        Problem("still", positions(), none, np.zeros((STEPS, 2, dim))),
        Problem("unseen", 0.7 * positions(), _shape(rng, saddle), batches(0.4)),
    ]
    return {problem.name: problem for problem in made}


LEARNT = ("batches", "bowl", "strong", "weak")  # what numbers are learnt from
HELD_OUT = ("unseen", "slope")  # what they are tried on, beside these
