"""PyTorch's optimisers and training steps on the problems. Nothing here imports torch: who hands one over has it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from flatdyn.audits.problems import Problem
from flatdyn.audits.runs import Call, Recording, Tensors
from flatdyn.core import checks

SHAPES = {"hidden.weight": (3, 3), "hidden.bias": (3,), "out.weight": (2, 3), "out.bias": (2,)}


class Torch:
    """A function of the parameters, or of an argument called model, that makes an optimiser, or a step of training.

    It returns either an optimiser, of which each step is then

        optimiser.zero_grad(); loss.backward(); optimiser.step()          or optimiser.step(closure) if it needs one,
                                                                          or first_step, backward, second_step
    or a function train(loss), which does all of this itself: `loss()` is the loss at the parameters as they are,
    `loss.another()` that of another minibatch.
    """

    def __init__(self, make: Callable, like: Any, closure: bool | None, dtype: Any):
        if "torch" not in sys.modules:
            raise TypeError(
                f"step takes one argument, as a function that makes a PyTorch optimiser for given parameters, got "
                f"{checks.shown(make)}; but torch is not imported: write `import torch` first, or hand over "
                "step(theta, gradient)"
            )
        self._torch = sys.modules["torch"]
        self._make, self._closure = make, closure
        self._dtype = self._torch.float64 if dtype is None else getattr(self._torch, str(np.dtype(dtype)))
        self.form = Tensors([np.zeros(shape) for shape in SHAPES.values()])
        first = next(iter(inspect.signature(make).parameters), "")
        self._wants_model = first in ("model", "module", "net", "network")
        self.counts = False  # whether a step is the user's own, who then cares for running statistics
        self.stated: dict[str, float] = {}

    def run(self, problem: Problem) -> Recording:
        """The steps of a problem by an optimiser that is made anew."""
        model = _model(self._torch, self._dtype)
        session = _Session(self._torch, model, problem, self.form, self._wants_model)
        session.write(problem.start)
        made = self._make(model if self._wants_model else list(model.parameters()))
        step = self._step(made, session)
        positions, record = [session.row()], []
        for k in range(problem.steps):
            session.step, session.calls = k, []
            try:
                step()
            except Exception as error:
                raise ValueError(f"step, on PyTorch, failed: {type(error).__name__}: {error}") from error
            positions.append(session.row())
            record.append(tuple(session.calls))
            if not np.isfinite(positions[-1]).all():
                break
        return Recording(problem, np.array(positions), tuple(record))

    def _step(self, made: Any, session: _Session) -> Callable:
        loss = session.loss
        self.counts = False
        if not hasattr(made, "step") or not hasattr(made, "zero_grad"):
            if not callable(made):
                raise TypeError(
                    "step must make an optimiser, with step() and zero_grad(), or a function train(loss), "
                    f"got {checks.shown(made)}"
                )
            self.counts = self._wants_model
            return lambda: made(loss)
        if getattr(made, "param_groups", None):
            self.stated = {"lr": float(made.param_groups[0].get("lr", np.nan))}

        def closure(backward: bool = True) -> Any:
            with self._torch.enable_grad():
                value = loss()
                if backward:
                    made.zero_grad()
                    value.backward()
            return value

        def begun() -> None:
            made.zero_grad()
            loss().backward()

        def two_passes() -> None:
            begun()
            made.first_step(zero_grad=True)
            loss().backward()
            made.second_step(zero_grad=True)

        def alone() -> None:
            begun()
            made.step()

        def by_closure() -> None:
            begun()
            made.step(closure)

        if self._closure is None and hasattr(made, "first_step") and hasattr(made, "second_step"):
            return two_passes
        if self._closure is None:
            parameter = inspect.signature(made.step).parameters.get("closure")
            needed = parameter is not None and parameter.default is parameter.empty
            self._closure = needed or not self._works(alone, made, session)
        return by_closure if self._closure else alone

    def _works(self, alone: Callable, made: Any, session: _Session) -> bool:
        """Whether an optimiser steps without a closure; the parameters are put back, and the optimiser is made anew."""
        try:
            trial = _Session(self._torch, _model(self._torch, self._dtype), session.problem, self.form, False)
            trial.write(session.problem.start)
            model = trial.model
            other = self._make(model if self._wants_model else list(model.parameters()))
            other.zero_grad()
            trial.loss().backward()
            other.step()
        except Exception:  # whatever an optimiser says that wants one
            return False
        return True


def _model(torch: Any, dtype: Any) -> Any:
    """Two layers of parameters, and a normalisation with running statistics and no parameters."""
    model = torch.nn.ModuleDict(
        {
            "hidden": torch.nn.Linear(3, 3),
            "out": torch.nn.Linear(3, 2),
            "norm": torch.nn.BatchNorm1d(3, affine=False),
        }
    )
    return model.to(dtype)


class _Loss:
    """loss() at the parameters as they are; loss.another() on another minibatch."""

    def __init__(self, session: _Session):
        self._session = session

    def __call__(self) -> Any:
        return self._session.value(0)

    def another(self) -> Any:
        return self._session.value(1)


class _Session:
    """One run: the model, the problem, and the record of gradients."""

    def __init__(self, torch: Any, model: Any, problem: Problem, form: Tensors, counts: bool):
        self.torch, self.model, self.problem, self.form, self.counts = torch, model, problem, form, counts
        self.step = 0
        self.calls: list[Call] = []
        self.loss = _Loss(self)
        self.parameters = [dict(model.named_parameters())[name] for name in SHAPES]
        self._passes = 0
        session = self

        class Surrogate(torch.autograd.Function):
            """The loss of the problem, whose gradient is written down when it is asked for."""

            @staticmethod
            def forward(ctx, batch, step, counted, *parameters):
                ctx.batch, ctx.step, ctx.counted = batch, step, counted
                ctx.point = np.concatenate([one.detach().double().numpy().reshape(-1) for one in parameters])
                ctx.kinds = [one.dtype for one in parameters]
                value = session.problem.value(ctx.point, step, batch)
                return torch.tensor(value, dtype=parameters[0].dtype)

            @staticmethod
            def backward(ctx, weight):
                gradient = session.problem.gradient(ctx.point, ctx.step, ctx.batch)
                parts = [
                    torch.tensor(gradient[part].reshape(shape), dtype=kind)
                    for part, shape, kind in zip(session.form.slices, session.form.shapes, ctx.kinds, strict=True)
                ]
                kept = np.concatenate([part.double().numpy().reshape(-1) for part in parts])
                shift = session.problem.shifts[ctx.step, ctx.batch]
                session.calls.append(Call(ctx.point, kept, shift, (ctx.step, ctx.batch), ctx.counted))
                return (None, None, None, *(weight * part for part in parts))

        self._surrogate = Surrogate

    def value(self, batch: int) -> Any:
        """The loss, which moves running statistics as a network's would."""
        counted = False
        if self.counts:
            norm = self.model["norm"]
            before = None if norm.running_mean is None else norm.running_mean.clone()
            self._passes += 1
            kind = self.parameters[0].dtype
            inputs = self.torch.arange(12, dtype=kind).reshape(4, 3) + self._passes  # whose mean is new each time
            with self.torch.no_grad():
                norm(inputs)
            counted = before is not None and not self.torch.equal(before, norm.running_mean)
        return self._surrogate.apply(batch, self.step, counted, *self.parameters)

    def write(self, row: np.ndarray) -> None:
        """Set the parameters."""
        with self.torch.no_grad():
            for part, shape, one in zip(self.form.slices, self.form.shapes, self.parameters, strict=True):
                one.copy_(self.torch.tensor(row[part].reshape(shape)))

    def row(self) -> np.ndarray:
        """The parameters as they are."""
        return np.concatenate([one.detach().double().numpy().reshape(-1) for one in self.parameters])
