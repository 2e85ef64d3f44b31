"""What the transfer operator in the plane asks of a process: its step on states of two numbers, and its noise's form.

A state is θ of two coordinates, or one coordinate and one number of memory, in the order of
:func:`flatdyn.processes.flat.flat_state`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.landscapes import searches
from flatdyn.processes import Iteration, Process
from flatdyn.processes.flat import FlatState
from flatdyn.runs import stepping

_PIECES = 1 << 9, 1 << 13  # states that a compiled step takes
_TRIES = 3  # random draws with which a step is asked whether it is affine in its noise
_FIRST = 4  # steps in which noise shows
_AFFINE = 1e-9  # deviation in units of the noise that rounding makes


class Affine(NamedTuple):
    """Steps that are normal given where they start: mean (n, 2), and covariance (n, 2, 2)."""

    mean: np.ndarray
    covariance: np.ndarray


class Steps:
    """The step of a process on rows of two numbers, in 64 bits.

    Attributes:
        process: with its numbers as arrays
        draws: how many normal numbers drive a step
        memory: whether the second number is a memory and not a coordinate
        driven, position: in JAX, of one state (2,)
    """

    def __init__(self, process: Process):
        checks.kind("process", process, Process)
        if not (process.random and hasattr(process, "driven")):
            raise TypeError(
                f"the transfer operator needs a random process driven by normal numbers, got {process!r}: simulate it "
                "without noise, and ask escape_times under other noise"
            )
        self.draws = process.draws  # says so where the noise is not made of normal numbers
        with jax.enable_x64(True):
            self.process = stepping.prepared(process, jnp.float64)
            self._flat = FlatState(self.process)
            size = self._flat.size
            state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((process.dim,), jnp.float64))
            if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(state)):
                raise TypeError(
                    f"the transfer operator is that of a step which is the same every time, and this one counts its "
                    f"steps or begins with another: {process!r}; ask escape_times"
                )
            if size != 2 or process.dim > 2:
                raise TypeError(
                    "the transfer operator knows states of two numbers: two coordinates, or one and one number of "
                    f"memory; got {process.dim} coordinates and {size} numbers in all: escape_times and "
                    "multilevel_splitting answer in any dimension"
                )
            self.driven, self.position = self._flat.driven, self._flat.position
            self._moved = jax.jit(jax.vmap(self._flat.driven))
            self._at = jax.jit(jax.vmap(self._flat.position))
            self._rest = jax.jit(jax.vmap(self._flat.at_rest))
        self.memory = process.dim == 1

    def moved(self, states: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """F(x, z) for states (n, 2) and normals (n, draws)."""
        return in_pieces(self._moved, states, normals)

    def positions(self, states: np.ndarray) -> np.ndarray:
        """The coordinates of states, (n, dim)."""
        return in_pieces(self._at, states)

    def at_rest(self, points: np.ndarray) -> np.ndarray:
        """The states at rest at points (n, dim), shape (n, 2)."""
        return in_pieces(self._rest, points)

    def spread(self, start: np.ndarray) -> bool:
        """Whether anything in a step from rest at a point (dim,), or in the next ones, is random."""
        states = self.at_rest(np.repeat(start[None], _TRIES, axis=0))
        z = np.random.default_rng(3).normal(size=(_FIRST, _TRIES, self.draws))
        for row in z:
            states = self.moved(states, row)
        return bool((states != states[0]).any())

    def affine(self, states: np.ndarray) -> Affine | None:
        """F(x, z) = m(x) + A(x) z as m and A Aᵀ; None where a step is not of this form."""
        count, draws = len(states), self.draws
        mean = self.moved(states, np.zeros((count, draws)))
        columns = [self.moved(states, np.tile(row, (count, 1))) - mean for row in np.eye(draws)]
        slopes = np.stack(columns, axis=2)  # (n, 2, draws)
        rng = np.random.default_rng(0)
        for _ in range(_TRIES):
            z = 3 * rng.normal(size=(count, draws))
            expected = mean + np.einsum("nij,nj->ni", slopes, z)
            size = np.abs(slopes).max() + np.abs(mean) * 1e-6  # the rounding of the mean, in units of the noise
            if not (np.abs(self.moved(states, z) - expected) <= _AFFINE * size + 1e-14 * np.abs(mean)).all():
                return None
        return Affine(mean, slopes @ slopes.transpose(0, 2, 1))


def check_jumps(steps: Steps) -> None:
    """Refuse steps that jump elsewhere than where the sampled gradient vanishes.

    Raises:
        TypeError: if this one may
    """
    method = getattr(steps.process, "method", None)
    if getattr(method, "jumps_elsewhere", False) or getattr(method, "jumps_on_surfaces", False):
        raise TypeError(
            "the transfer operator follows a step that jumps where ∇ℓ(θ) vanishes, and nowhere else: take one ascent "
            f"in the 2-norm, and decay that is coupled or in the landscape, or eps > 0; got {checks.shown(method)}"
        )


def critical(steps: Steps, bounds: np.ndarray) -> np.ndarray:
    """Critical points in a rectangle (dim, 2), where the direction of an ascent turns round, (m, dim); none if none."""
    process = steps.process
    if not (isinstance(process, Iteration) and getattr(process.method, "may_jump", False)):
        return np.zeros((0, process.dim))
    check_jumps(steps)
    box = tuple(map(tuple, bounds.tolist()))
    with jax.enable_x64(True):
        points = searches.search(process.landscape.grad, process.landscape.hessian, box, process.dim, False)[0]
    return np.array([point for point, _ in points]).reshape(-1, process.dim)


def in_pieces(function: Any, *arrays: np.ndarray) -> np.ndarray:
    """A compiled function of many rows, in pieces of two sizes, so that two programs are compiled."""
    count = len(arrays[0])
    size = next((size for size in _PIECES if count <= size), _PIECES[-1])
    parts = []
    with jax.enable_x64(True):
        for begin in range(0, max(count, 1), size):
            some = [np.asarray(part[begin : begin + size], float) for part in arrays]
            short = size - len(some[0])
            if short:
                some = [np.concatenate([part, np.zeros((short, *part.shape[1:]))]) for part in some]
            parts.append(np.asarray(function(*some))[: size - short])
    return np.concatenate(parts)
