"""What can be audited: a function, a transformation of optax, a maker of PyTorch optimisers. Each run is afresh."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.audits import pytorch
from flatdyn.audits.problems import Problem
from flatdyn.audits.runs import Call, Recording, Tensors, run
from flatdyn.core import checks

WHAT = (
    "step must be a function step(theta, gradient) -> theta, a function without arguments that makes one, an optax "
    "transformation, a function of one argument that makes a PyTorch optimiser for given parameters, or a recorded run "
    "(positions, gradients)"
)
ARGUMENTS = (("value", "grad", "value_fn", "grad_fn"), ("value", "grad", "value_fn"), ("value",), ("grad_fn",))
DIM = 12  # coordinates of a step that takes one vector


class Subject:
    """Something that takes steps.

    Attributes:
        form: of the parameters
        counts: whether running statistics are of interest
        stated: numbers that the object itself says, by name
    """

    form: Tensors
    counts = False
    stated: dict[str, float] = {}  # noqa: RUF012 - replaced, never changed

    def run(self, problem: Problem) -> Recording:
        """The steps of a problem, with no memory of others."""
        raise NotImplementedError


class Function(Subject):
    """A Python function step(theta, gradient) -> theta; what it remembers between calls is put back for each run."""

    def __init__(self, make: Callable, form: Tensors, counts: bool):
        self._make, self.form, self.counts = make, form, counts

    def run(self, problem):
        return run(self._make(), problem, self.form)


class Optax(Subject):
    """An optax transformation: θ⁺ = θ + update(g, state, θ), with value, grad, value_fn, grad_fn if it takes them."""

    def __init__(self, transformation: Any, form: Tensors):
        self.form, self._transformation = form, transformation
        self._now: tuple[Problem, int] | None = None
        self._calls: list[Call] = []

        self._update: Callable | None = None

    def _updates(self, names: tuple[str, ...]) -> Callable:
        """θ, state, gradient, value -> θ, state, by an update that is handed further arguments of these names."""

        def update(theta: Any, state: Any, gradient: Any, value: Any) -> tuple:
            words = {"value": value, "grad": gradient, "value_fn": self._value, "grad_fn": self._gradient}
            given = {name: words[name] for name in names}
            updates, state = self._transformation.update(gradient, state, theta, **given)
            return jax.tree.map(lambda a, b: (a + b).astype(a.dtype), theta, updates), state

        return jax.jit(update)

    def _which(self, *arguments: Any) -> Callable:
        """The update, with as many further arguments as it takes."""
        optax = sys.modules.get("optax")
        extra = optax is not None and isinstance(self._transformation, optax.GradientTransformationExtraArgs)
        for names in ARGUMENTS if extra else ():
            try:
                jax.eval_shape(self._updates(names), *arguments)
            except TypeError:
                continue
            return self._updates(names)
        return self._updates(())

    def _gradient(self, theta: Any, *_: Any) -> Any:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), theta)
        return jax.pure_callback(self._answer, shapes, theta)

    def _value(self, theta: Any, *_: Any) -> Any:
        def answer(theta: Any) -> np.ndarray:
            problem, step = self._now
            return np.asarray(problem.value(self.form.row("theta", theta), step), jax.tree.leaves(theta)[0].dtype)

        return jax.pure_callback(answer, jax.ShapeDtypeStruct((), jax.tree.leaves(theta)[0].dtype), theta)

    def _answer(self, theta: Any, *_: Any) -> Any:
        problem, step = self._now
        point = self.form.row("theta", theta)
        gradient = self.form.tree(problem.gradient(point, step), theta)
        self._calls.append(Call(point, self.form.row("gradient", gradient), problem.shifts[step, 0], (step, 0)))
        return jax.tree.map(np.asarray, gradient)

    def run(self, problem):
        with jax.enable_x64(True):
            theta = jax.tree.map(jnp.asarray, self.form.tree(problem.start))
            try:
                state = self._transformation.init(theta)
                positions, record = [self.form.row("theta", theta)], []
                for step in range(problem.steps):
                    self._now, self._calls = (problem, step), []
                    value = jnp.asarray(problem.value(positions[-1], step), jax.tree.leaves(theta)[0].dtype)
                    gradient = jax.tree.map(jnp.asarray, self._answer(theta))
                    self._update = self._update or self._which(theta, state, gradient, value)
                    theta, state = self._update(theta, state, gradient, value)
                    positions.append(self.form.row("theta", theta))
                    record.append(tuple(self._calls))
                    if not np.isfinite(positions[-1]).all():
                        break
            except Exception as error:
                raise ValueError(
                    f"step, an optax transformation, failed on parameters of shapes {self.form.shapes}: "
                    f"{type(error).__name__}: {error}. like= says another form, such as the tree that its masks want"
                ) from error
        return Recording(problem, np.array(positions), tuple(record))


def source(step: Any, like: Any, statistics: bool, closure: bool | None, dtype: Any) -> Subject:
    """The source that an object of the user's is; TypeError if it is none."""
    if hasattr(step, "init") and hasattr(step, "update") and not isinstance(step, type):
        return Optax(step, Tensors(_parameters(like, dtype, {"weight": (3, 3), "bias": (3,), "out": (2, 3)})))
    if not callable(step):
        raise TypeError(f"{WHAT}, got {checks.shown(step)}")
    wanted = _arguments(step)
    if wanted == 1:
        return pytorch.Torch(step, like, closure, dtype)
    form = Tensors(_parameters(like, dtype, None))
    if wanted == 0:
        return Function(lambda: _made(step), form, statistics)
    if wanted not in (2, None):
        raise TypeError(f"{WHAT}, got {checks.shown(step)}, which takes {wanted} arguments: fix the others by a lambda")
    return Function(functools.partial(renewed, renewed(step)), form, statistics)


def _made(make: Callable) -> Callable:
    return checks.function("what step() returned", make(), "a function step(theta, gradient) -> theta", 2)


def _parameters(like: Any, dtype: Any, shapes: dict | None) -> Any:
    if like is None:
        like = np.zeros(DIM) if shapes is None else {name: np.zeros(shape) for name, shape in shapes.items()}
    leaves = jax.tree.leaves(like)
    if not leaves or sum(int(np.prod(np.shape(leaf))) for leaf in leaves) < 3:
        raise ValueError(f"like must hold three parameters or more, got {checks.shown(like)}: a rule is read off them")
    whole = [leaf for leaf in leaves if hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.integer)]
    if whole:
        raise ValueError(f"like must hold real numbers, as steps move them, got whole ones: {checks.shown(whole[0])}")
    return like if dtype is None else jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), like)


def _arguments(step: Callable) -> int | None:
    """How many arguments a function must be given; None if it does not say."""
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):
        return None
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = [one for one in places if one.default is one.empty]
    if any(one.kind == one.VAR_POSITIONAL for one in parameters) and not needed:
        return 2
    return len(needed)


def renewed(step: Callable) -> Callable:
    """A copy of a step with a memory of its own: variables that it encloses, its attributes, globals that it names."""
    memo: dict[int, Any] = {}
    if isinstance(step, functools.partial):
        return functools.partial(renewed(step.func), *_copied(step.args, memo), **_copied(step.keywords, memo))
    if inspect.ismethod(step):
        return getattr(_copied(step.__self__, memo), step.__name__)
    if not isinstance(step, types.FunctionType):
        return _copied(step, memo)
    names = [name for name in step.__code__.co_names if name in step.__globals__]
    own = {name: step.__globals__[name] for name in names}
    data = {name: value for name, value in own.items() if not callable(value) and not inspect.ismodule(value)}
    space = step.__globals__ | _copied(data, memo)
    cells = tuple(types.CellType() for _ in step.__closure__ or ())
    made = types.FunctionType(step.__code__, space, step.__name__, _copied(step.__defaults__, memo), cells or None)
    for new, old in zip(cells, step.__closure__ or (), strict=True):
        try:
            value = old.cell_contents
        except ValueError:  # of a variable that has no value yet
            continue
        new.cell_contents = made if value is step else _copied(value, memo)
    space.update({name: made for name, value in own.items() if value is step})
    made.__kwdefaults__ = _copied(step.__kwdefaults__, memo)
    made.__dict__.update(_copied(vars(step), memo))
    return made


def _copied(value: Any, memo: dict) -> Any:
    """A deep copy, or the thing itself if it can't be copied."""
    if isinstance(value, dict):
        return {name: _copied(one, memo) for name, one in value.items()}
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_copied(one, memo) for one in value)
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # files, locks, generators, tensors of a graph
        return value
