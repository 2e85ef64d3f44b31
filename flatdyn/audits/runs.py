"""What a step did on a problem: where it asked for gradients, what it was answered, and where it went."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.audits.problems import Problem
from flatdyn.core import checks


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One gradient that was asked for.

    Attributes:
        point: where, shape (dim,)
        gradient: the answer, shape (dim,)
        shift: what the minibatch adds to the gradient, shape (dim,)
        batch: step and number of the minibatch
        counted: whether running statistics, as those of BatchNorm, moved
    """

    point: np.ndarray
    gradient: np.ndarray
    shift: np.ndarray
    batch: tuple[int, int]
    counted: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """Steps on one problem.

    Attributes:
        problem: None of a run that was recorded elsewhere
        positions: shape (steps + 1, dim)
        calls: for each step, in order
    """

    problem: Problem | None
    positions: np.ndarray
    calls: tuple[tuple[Call, ...], ...]

    @property
    def finite(self) -> bool:
        """Whether all positions are numbers."""
        return bool(np.isfinite(self.positions).all())

    @property
    def moves(self) -> np.ndarray:
        """Displacements, shape (steps, dim)."""
        return np.diff(self.positions, axis=0)


def distinct(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """Calls without repetitions at the same point of the same minibatch."""
    kept: list[Call] = []
    for call in calls:
        again = kept and np.array_equal(call.point, kept[-1].point) and np.array_equal(call.gradient, kept[-1].gradient)
        if not again:
            kept.append(call)
    return tuple(kept)


class Tensors:
    """The tree, the kind of arrays and the precision in which parameters are handed over.

    Args:
        like: a tree of arrays
    """

    def __init__(self, like: Any):
        self.leaves, self.structure = jax.tree.flatten(like)
        self.shapes = [tuple(np.shape(leaf)) for leaf in self.leaves]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.dim = sum(self.sizes)
        edges = np.cumsum([0, *self.sizes])
        self.slices = [slice(a, b) for a, b in itertools.pairwise(edges)]

    def tree(self, vector: np.ndarray, like: Any = None) -> Any:
        """Parameters from their numbers in one row, shape (dim,); of the kind that `like` has."""
        examples = self.leaves if like is None else jax.tree.leaves(like)
        return self.structure.unflatten(
            [
                as_like(vector[part].reshape(shape), example)
                for part, shape, example in zip(self.slices, self.shapes, examples, strict=True)
            ]
        )

    def row(self, name: str, tree: Any) -> np.ndarray:
        """The numbers of parameters in one row, 64 bits; ValueError if they have another form."""
        if tree is None:
            raise ValueError(f"{name} returned None: let it return the new parameters")
        leaves, structure = jax.tree.flatten(tree)
        if any(map(checks.is_traced, leaves)):
            raise ValueError(
                f"{name} hands on values that JAX is tracing: hand over the step without jax.jit around it, as every "
                "gradient that it asks for is recorded"
            )
        shapes = [tuple(np.shape(leaf)) for leaf in leaves]
        if structure != self.structure or shapes != self.shapes:
            wanted = self.shapes[0] if len(self.shapes) == 1 else self.shapes
            given = shapes[0] if len(shapes) == 1 else shapes
            raise ValueError(
                f"{name} must have the form of the parameters, of shape {wanted}, got {given}: "
                "say by like= in what form the step takes them"
            )
        return np.concatenate([as_numbers(name, leaf) for leaf in leaves])


def as_numbers(name: str, leaf: Any) -> np.ndarray:
    """A leaf of any kind as a row of 64-bit numbers, a copy."""
    if _of_torch(leaf):
        leaf = leaf.detach().double().numpy()
    try:
        return np.array(leaf, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be real numbers, got {checks.shown(leaf)}") from None


def as_like(values: np.ndarray, example: Any) -> Any:
    """Numbers as an array of the same kind and precision as another one, a copy."""
    if _of_torch(example):
        return sys.modules["torch"].tensor(values, dtype=example.dtype)
    if isinstance(example, jax.Array):
        return jnp.asarray(values, dtype=example.dtype)
    kind = np.asarray(example).dtype
    return np.array(values, dtype=kind if jnp.issubdtype(kind, jnp.floating) else np.float64)


def _of_torch(leaf: Any) -> bool:
    return type(leaf).__module__.partition(".")[0] == "torch"


class Gradient:
    """θ ↦ ∇ℓ(θ), as a step is handed it: it answers in the kind of array that it is asked with, and keeps a record.

    `statistics=False` in a call leaves running statistics alone, as those of BatchNorm in evaluation mode;
    `another()` is the gradient on another minibatch.
    """

    def __init__(self, problem: Problem, step: int, form: Tensors, calls: list[Call], batch: int = 0):
        self._problem, self._step, self._form, self._calls, self._batch = problem, step, form, calls, batch

    def __call__(self, theta: Any, statistics: bool = True) -> Any:
        point = self._form.row("the point at which step asks for a gradient", theta)
        gradient = self._problem.gradient(point, self._step, self._batch)
        answer = self._form.tree(gradient, theta)
        kept = self._form.row("the gradient", answer)  # rounded, if it is asked for in fewer bits
        shift = self._problem.shifts[self._step, self._batch]
        self._calls.append(Call(point, kept, shift, (self._step, self._batch), statistics))
        return answer

    def another(self) -> Gradient:
        """The gradient on another minibatch of this step."""
        return Gradient(self._problem, self._step, self._form, self._calls, 1)


def run(step: Callable, problem: Problem, form: Tensors) -> Recording:
    """Take the steps of a problem by a Python function step(theta, gradient) -> theta.

    Raises:
        ValueError: if the function fails, or does not return parameters
    """
    theta, positions, record = form.tree(problem.start), [], []
    positions.append(form.row("theta", theta))
    for k in range(problem.steps):
        calls: list[Call] = []
        # The list is filled by the gradient of this step, in whichever step it is asked: a step may keep an old one
        gradient = Gradient(problem, k, form, _Now(record))
        record.append(calls)
        with np.errstate(all="ignore"):
            theta = _taken(step, theta, gradient, form)
        positions.append(form.row("what step returned", theta))
        if not np.isfinite(positions[-1]).all():
            break
    return Recording(problem, np.array(positions), tuple(map(tuple, record)))


class _Now:
    """Appends to the last list of several."""

    def __init__(self, record: list[list[Call]]):
        self._record = record

    def append(self, call: Call) -> None:
        self._record[-1].append(call)


def _taken(step: Callable, theta: Any, gradient: Gradient, form: Tensors) -> Any:
    try:
        # A copy: a step may write into what it is handed
        return step(form.tree(form.row("theta", theta), theta), gradient)
    except Exception as error:
        inner = isinstance(error, ValueError) and ": " in str(error) and "step" in str(error)
        why = str(error) if inner else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"step failed for parameters of shape {form.shapes[0] if len(form.shapes) == 1 else form.shapes}: {why}. "
            "It is called as step(theta, gradient), gradient being a function of theta; like= says another form"
        ) from error
