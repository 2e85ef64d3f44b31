"""Methods side by side on one task: hyperparameters chosen on one split, metrics on another, differences run by run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np

from flatdyn.core import checks, records
from flatdyn.core.records import Record
from flatdyn.core.renaming import renamed_attribute, renamed_keywords
from flatdyn.core.statistics import mean_sem_of
from flatdyn.landscapes.base import FunctionLandscape
from flatdyn.networks.data import Split
from flatdyn.networks.training.tasks import Task, decay
from flatdyn.networks.training.training import Training, train
from flatdyn.processes import Process


@dataclass(frozen=True, eq=False, repr=False)
class MethodComparison(Record):
    """Methods on one task; see :func:`compare`. A candidate is a method with one setting of its hyperparameters.

    Attributes:
        methods: names, shape (methods,)
        settings: what distinguishes each candidate from the others of its method, shape (candidates,)
        owner: index of its method, shape (candidates,)
        chosen: index of the candidate that was chosen for each method, shape (methods,)
        valid: metric at the end on the split that chose, shape (candidates, runs); NaN after a run has ended early
        test: metric at the end on the split that is reported, shape (candidates, runs); NaN likewise
        stopped: that metric when the one on the split that chose was best, shape (candidates, runs)
        loss: training loss at the end, shape (candidates, runs); NaN likewise
        theta: where each run ended, shape (candidates, runs, dim)
        status: a :class:`flatdyn.Status` per run, shape (candidates, runs)
    """

    methods: np.ndarray
    settings: np.ndarray
    owner: np.ndarray
    chosen: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    stopped: np.ndarray
    loss: np.ndarray
    theta: np.ndarray
    status: np.ndarray
    _form: ClassVar = {
        "methods": "U methods",
        "settings": "U candidates",
        "owner": "iu candidates",
        "chosen": "iu methods",
        "valid": "fiu candidates runs",
        "test": "fiu candidates runs",
        "stopped": "fiu candidates runs",
        "loss": "fiu candidates runs",
        "theta": "fiu candidates runs dim",
        "status": "iu candidates runs",
    }
    _units: ClassVar = dict.fromkeys(("valid", "test", "stopped"), "accuracy or squared error")
    _units |= {"owner": "1", "chosen": "1"}
    _over: ClassVar = "candidates"
    _asked: ClassVar = ("metric",)

    def number(self, name: str) -> int:
        """The index of the candidate that was chosen for a method."""
        return self._number("name", name)

    def _number(self, argument: str, name: str) -> int:
        checks.choice(argument, name, tuple(map(str, self.methods)))
        return int(self.chosen[list(self.methods).index(name)])

    def setting(self, name: str) -> str:
        """The setting that was chosen for a method."""
        return str(self.settings[self.number(name)])

    def metric(self, name: str, stopped: bool = False) -> np.ndarray:
        """Metric of a method on the split that is reported, at the end or stopped early, shape (runs,)."""
        checks.flag("stopped", stopped)
        return self._metric("name", name, stopped)

    def _metric(self, argument: str, name: str, stopped: bool = False) -> np.ndarray:
        return (self.stopped if stopped else self.test)[self._number(argument, name)]

    def gain(self, name: str, over: str, *, stopped: bool = False, over_stopped: bool = False) -> tuple[float, float]:
        """How much better a method is than another, with its standard error over the pairs of runs.

            d̄ = mean of dᵣ,   s.e. = √(Σ (dᵣ − d̄)²/(n (n − 1))),   dᵣ = metric of the one − metric of the other in run r

        Of squared errors the sign is turned: above zero is better. `stopped` and `over_stopped` take the first or the
        second method as stopped early. Pairs of which a run ended early are left out.
        """
        checks.flag("stopped", stopped)
        checks.flag("over_stopped", over_stopped)
        return paired(self._sign * (self.metric(name, stopped) - self._metric("over", over, over_stopped)))

    def gains(self, name: str, over: str) -> tuple[np.ndarray, np.ndarray]:
        """How much better each setting of a method is than another method with its own, in the order of the settings.

        Returns:
            means and standard errors over the pairs of runs, as in :meth:`gain`, each of shape (settings,)
        """
        differences = self._sign * (self.test[self._rows(name)] - self._metric("over", over))
        mean, stderr = np.transpose([paired(one) for one in differences])
        return mean, stderr

    def ends(self, name: str) -> np.ndarray:
        """Where the runs of a method ended, with the setting that was chosen for it, shape (runs, dim)."""
        return self.theta[self.number(name)]

    def settings_of(self, name: str) -> np.ndarray:
        """All settings of a method, in their order, shape (settings,)."""
        return self.settings[self._rows(name)]

    def _rows(self, name: str) -> np.ndarray:
        return np.flatnonzero(self.owner == self.owner[self.number(name)])

    marks = renamed_attribute("metric")

    @property
    def _sign(self) -> int:
        return 1 if self.config["metric"] == "accuracy" else -1

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {np.nanmean(self.metric(name)):.4g}" for name in self.methods)
        return f"MethodComparison({self.config['metric']} of {self.test.shape[1]} runs: {shown})"


class Tally(NamedTuple):
    """How often one method was better than another, no different within the errors, or worse."""

    wins: int
    ties: int
    losses: int


@renamed_keywords(watch="eval_sets", judged="evaluations")
def compare(
    task: Task,
    methods: Mapping[str, Mapping[str, Process]],
    starts: Any,
    steps: int | Mapping[str, int],
    key: jax.Array,
    eval_sets: Mapping[str, Split],
    *,
    choose: str = "valid",
    report: str = "test",
    evaluations: int = 10,
) -> MethodComparison:
    """Train with several methods, each with the setting that does best on one split, and evaluate them on another.

        chosen setting of a method = argmax over its settings of the mean over runs of the metric on `choose`

    Every candidate has the same starts and the same key: run r of all of them begins at the same weights and draws the
    same minibatches, so that differences are taken run by run. One setting is chosen for all runs. A setting with a
    run that ended early is chosen only if there is no other.

    Args:
        task: evaluates the networks
        methods: by name, the processes to choose from by what distinguishes them; they may minimise another loss than
            the task's, such as one with more weight decay, over the same parameters
        starts: θ₀, shape (runs, dim)
        steps: number of steps, or one for each method by name
        key: a JAX key
        eval_sets: data by name, `choose` and `report` among them
        evaluations: how often in a run, for early stopping; a divisor of the steps
    Returns:
        MethodComparison
    Raises:
        ValueError: if a name is missing, a method has nothing to choose from, or a number does not fit
    """
    checks.kind("task", task, Task, "flatdyn.networks.classifier(network, data)")
    checks.key(key)
    checks.mapping("methods", methods, "method -> setting -> Process")
    for name, settings in methods.items():
        for process in checks.mapping(f"methods[{name!r}]", settings, "setting -> Process").values():
            checks.kind(f"methods[{name!r}]", process, Process)
    checks.mapping("eval_sets", eval_sets, "name -> Split")
    checks.text("choose", choose)
    checks.text("report", report)
    for name in (choose, report):
        if name not in eval_sets:
            raise ValueError(f"eval_sets must hold the split {name!r}, got {', '.join(eval_sets) or 'none'}")
    if not methods or not all(methods.values()):
        raise ValueError(f"methods must hold at least one, each with at least one process, got {dict(methods)}")
    each = steps if isinstance(steps, Mapping) else dict.fromkeys(methods, steps)
    steps = {name: checks.count("steps", number, at_least=1) for name, number in each.items()}
    if set(steps) != set(methods):
        raise ValueError(f"steps must be given for {', '.join(methods)}, got {', '.join(steps)}")
    evaluations = checks.count("evaluations", evaluations, at_least=1)
    if any(number % evaluations for number in steps.values()):
        raise ValueError(f"evaluations must divide the steps, so that the last is that of the end, got {evaluations}")
    rows = [(name, setting, process) for name, settings in methods.items() for setting, process in settings.items()]
    splits = {name: eval_sets[name] for name in (choose, report)}
    done: dict[tuple, Training] = {}  # a process that two methods may choose is run once
    for name, _, process in rows:
        if (id(process), steps[name]) not in done:
            every = steps[name] // evaluations
            done[id(process), steps[name]] = train(task, process, starts, steps[name], key, every, eval_sets=splits)
    runs = [done[id(process), steps[name]] for name, _, process in rows]
    owner = np.array([list(methods).index(name) for name, *_ in rows])
    valid = np.stack([run.last(choose) for run in runs])
    return MethodComparison(
        config={"metric": task.metric, "steps": str(steps), "choose": choose, "report": report},
        provenance=records.provenance(),
        methods=np.array(list(methods)),
        settings=np.array([setting for _, setting, _ in rows]),
        owner=owner,
        chosen=_best(valid, owner, task.metric),
        valid=valid,
        test=np.stack([run.last(report) for run in runs]),
        stopped=np.stack([run.early_stopped(choose, report) for run in runs]),
        **{name: _last(runs, name) for name in ("loss", "theta", "status")},
    )


def with_weight_decay(landscape: FunctionLandscape, weight_decay: float) -> FunctionLandscape:
    """The same loss with weight decay, which is a number like a method's: another value needs no new program.

        L(θ) + ½ λ ‖θ‖²

    SAM's ascent sees it. The decay of PyTorch, which no ascent sees, is a number of the method: `weight_decay`.

    Args:
        landscape: of a task without weight decay of its own
        weight_decay: λ ≥ 0
    """
    checks.kind("landscape", landscape, FunctionLandscape, "task.landscape")
    weight_decay = checks.number("weight_decay", weight_decay, at_least=0, one=True)
    checks.in_range("weight_decay", weight_decay)
    return eqx.tree_at(lambda whole: whole.function, landscape, _Decayed(landscape.function, weight_decay))


def paired(differences: Any) -> tuple[float, float]:
    """Mean and standard error of differences of pairs, shape (runs,), without those that are NaN.

    Raises:
        ValueError: if fewer than two are left
    """
    values = checks.entries("differences", differences, "numbers, shape (runs,)")
    if values.ndim != 1:
        raise ValueError(f"differences must have shape (runs,), got {values.shape}")
    values = values[np.isfinite(values)]
    if len(values) < 2:
        raise ValueError(
            f"differences: an error needs at least two pairs of runs that reached the end, got {len(values)}"
        )
    mean, stderr = mean_sem_of(values)
    return float(mean), float(stderr)


def factor(logarithms: Any) -> tuple[float, float]:
    """Factor by which the one of a pair is larger, with its standard error, from differences of logarithms.

    e^d̄ and e^d̄ s.e.,   d̄ and s.e. as in :func:`paired`
    """
    mean, stderr = paired(checks.numbers("logarithms", logarithms, ndim=1, at_least=2))
    return float(np.exp(mean)), float(np.exp(mean) * stderr)


def count_wins(gains: Iterable[tuple[float, float]], errors: float = 2.0) -> Tally:
    """Count gains by their standard errors: wins, ties and losses.

        win: d̄ > k s.e.,   loss: d̄ < −k s.e.,   tie: |d̄| ≤ k s.e.

    Args:
        gains: pairs (d̄, s.e.)
        errors: k ≥ 0
    """
    errors = checks.number("errors", errors, at_least=0, one=True)
    table = checks.numbers("gains", [*checks.sequence("gains", gains, "pairs (gain, error)")])
    if table.size and (table.ndim != 2 or table.shape[1] != 2):
        raise ValueError(f"gains must be pairs (gain, error), got shape {table.shape}")
    table = table.reshape(-1, 2)
    wins, losses = (int((side * table[:, 0] > errors * table[:, 1]).sum()) for side in (1, -1))
    return Tally(wins, len(table) - wins - losses, losses)


class _Decayed(eqx.Module):
    """A loss of parameters and examples, with weight decay."""

    loss: Callable
    weight_decay: Any

    def __call__(self, tree, *examples):
        penalty = decay(tree, self.weight_decay)  # first: the compiler rounds by this order, and figures show it
        return self.loss(tree, *examples) + penalty


def _best(valid: np.ndarray, owner: np.ndarray, metric: str) -> np.ndarray:
    """The candidate of each method with the best mean over runs; the first of several."""
    score = valid.mean(axis=1) if metric == "accuracy" else -valid.mean(axis=1)
    score = np.where(np.isfinite(score), score, -np.inf)
    return np.array([np.flatnonzero(owner == i)[score[owner == i].argmax()] for i in range(owner.max() + 1)])


def _last(runs: list[Training], name: str) -> np.ndarray:
    values = [getattr(run, name) for run in runs]
    return np.stack([value[:, -1] if name == "loss" else value for value in values])
