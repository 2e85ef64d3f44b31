"""A question for sweeps: how well are networks trained? Settings that differ in numbers are trained together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flatdyn.asks import Ask
from flatdyn.core import checks, precision
from flatdyn.core.records import provenance
from flatdyn.core.statistics import mean_sem_of
from flatdyn.networks.data import Split
from flatdyn.networks.training.tasks import Task
from flatdyn.networks.training.training import Training, train
from flatdyn.runs import cohorts, stepping


@dataclass(frozen=True, eq=False, repr=False)
class _Trained(Ask):
    """What `then` makes of the training of a cell."""

    then: Callable[[Training], Any]
    task: Task
    starts: Any
    steps: int
    every: int
    eval_sets: dict[str, Split]
    name = "trained"

    def batches(self, processes):
        return cohorts.batches(processes, len(self.starts), self.starts)

    def together(self, processes, keys):
        starts = checks.points("starts", self.starts, processes[0].dim)
        for process in processes:
            process.check(starts)
        cohort = cohorts.joined(processes, keys, len(starts), starts.dtype)
        training = train(
            self.task,
            cohort,
            precision.on_device(cohort.starts(np.asarray(starts))),
            self.steps,
            cohorts.driving_key(cohort),
            self.every,
            eval_sets=self.eval_sets,
            progress=False,
        )
        words = cohorts.described(processes)
        return [self.then(one) for one in _apart(training, cohort.slices(), words)]


def _apart(training: Training, slices: list[slice], words: list[str]) -> list[Training]:
    """The training of each process; each has its share of the seconds."""
    arrays, given, several = training.arrays(), provenance(), []
    for rows, word in zip(slices, words, strict=True):
        own = {name: arrays[name][rows] for name in ("loss", "metrics", "status", "steps")}
        shared = {name: arrays[name] for name in ("times", "eval_names")}
        own |= {"theta": arrays["theta"][rows, :-1], "seconds": arrays["seconds"] / len(slices)}
        several.append(Training(config=training.config | {"process": word}, provenance=given, **own, **shared))
    return several


def trained(
    task: Task,
    starts: Any,
    steps: int,
    then: Callable[[Training], Any] | None = None,
    *,
    every: int | None = None,
    eval_sets: Mapping[str, Split] | None = None,
) -> Ask:
    """How well are networks trained at each setting? Mean over the networks, with its standard error.

        value = mean of the loss, or of the metric on an evaluation set, after all steps

    Settings that differ in numbers only are trained side by side. A network gets the same numbers as alone up to
    rounding, as XLA chooses the order of a sum by what lies beside it. One that ends early makes the mean NaN, which
    the sweep counts.

    Args:
        task: whose networks are trained; the processes of the sweep are iterations on `task.landscape`
        starts: θ₀, shape (runs, dim), as `task.starts` makes them, the same in all cells
        steps: number of steps
        then: from a :class:`flatdyn.networks.Training` to an answer; if not given, loss and metrics by name
        every: steps between evaluations; at the start and the end if not given
        eval_sets: data to evaluate on, by name
    Returns:
        an ask for :func:`flatdyn.sweep`: {"loss": (value, stderr), name of each evaluation set: (value, stderr)}
    Raises:
        ValueError: if a number is out of range, or an evaluation set is called loss
    """
    checks.kind("task", task, Task, "flatdyn.networks.classifier(network, data)")
    starts = checks.points("starts", starts, task.dim)
    starts = starts if starts.ndim == 2 else precision.on_device(np.asarray(starts)[None])
    steps = stepping.check_steps("steps", steps, at_least=1)
    every = steps if every is None else stepping.check_steps("every", every, 1)
    eval_sets = dict(checks.mapping("eval_sets", {} if eval_sets is None else eval_sets, "name -> Split"))
    if "loss" in eval_sets:
        raise ValueError("eval_sets must have other names than loss, which is that of the training loss")
    for name, split in eval_sets.items():
        checks.kind(f"eval_sets[{name!r}]", split, Split)
    then = _ends if then is None else checks.function("then", then, "a function from a Training to an answer", 1)
    return _Trained(then, task, np.asarray(starts), steps, every, eval_sets)


def _ends(training: Training) -> dict[str, tuple[float, float]]:
    """Loss and metrics at the last evaluation, mean over runs with standard error; one run has an infinite one."""
    last = {"loss": training.loss[:, -1]} | {str(name): training.last(str(name)) for name in training.eval_names}
    many = len(training.loss) > 1
    return {name: mean_sem_of(values) if many else (values[0], np.inf) for name, values in last.items()}
