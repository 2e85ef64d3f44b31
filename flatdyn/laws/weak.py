"""Is an SDE a good model of a method? The weak error: how far its expectations are from the method's.

    e(η) = | E u(θ_k) − E u(θ(t)) |,   t = kη

On the line both sides are computed without sampling: the method's by its transfer operator, the SDE's from its
backward equation; beyond it they are simulated. An SDE has weak order p if e falls like η^p.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from flatdyn import flows
from flatdyn.core import checks, memory, records, segments
from flatdyn.core.records import Record
from flatdyn.core.statistics import mean_sem_of
from flatdyn.landscapes import Landscape
from flatdyn.laws import transfer
from flatdyn.noise import Noise
from flatdyn.processes import Iteration
from flatdyn.runs import ensembles


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WeakError(Record):
    """Expectations of a method and of an SDE; see :func:`weak_errors`.

    Attributes:
        lr: steps η, shape (steps,)
        method: E u(θ_k), shape (steps, functions)
        sde: E u(θ(t)), shape (steps, functions)
    """

    lr: np.ndarray
    method: np.ndarray
    sde: np.ndarray
    _form: ClassVar = {
        "lr": "fiu steps",
        "method": "fiu steps functions",
        "sde": "fiu steps functions",
    }
    _units: ClassVar = {"lr": "inverse curvature", "method": "u", "sde": "u"}

    @property
    def error(self) -> np.ndarray:
        """e(η), shape (steps, functions)."""
        return np.abs(self.method - self.sde)

    @property
    def slopes(self) -> np.ndarray:
        """Slope of the line fitted to ln e against ln η, one per function."""
        return np.polyfit(np.log(self.lr), np.log(self.error), 1)[0]

    @property
    def local_slopes(self) -> np.ndarray:
        """The same between neighbouring steps, shape (steps − 1, functions)."""
        return np.diff(np.log(self.error), axis=0) / np.diff(np.log(self.lr))[:, None]


def weak_errors(
    landscape: Landscape,
    method: Callable,
    noise: Noise,
    equations: Mapping[str, Mapping[str, Any]],
    lrs: Sequence[float],
    functions: Sequence[Callable],
    start: float,
    time: float,
    interval: tuple[float, float],
    *,
    progress: bool | None = None,
) -> dict[str, WeakError]:
    """Expectations of a method and of one or more SDEs for it, at several steps, without sampling.

    Args:
        landscape: of one coordinate
        method: from η to a method without momentum, such as `lambda lr: fd.SAM(lr, lr**0.5 / 2)`
        noise: how the gradient is sampled: Gaussian, Curvature or StateDependent
        equations: name -> options of :class:`flatdyn.flows.Diffusion` (order, form), and "method": another function
            from η to the method whose equation it is, if it is not the one above
        lrs: steps η that divide `time`
        functions: u, each from an array of positions to an array of values
        start: θ₀
        time: t, in steps × lr
        interval: (a, c) around the paths, with ends where practically nothing arrives
        progress: show a bar; if not given, after two seconds
    Returns:
        name -> WeakError
    Raises:
        ValueError: if a step does not divide the time, or the start is outside
        TypeError: if there are more coordinates, momentum, or noise that is not normal
    """
    time = checks.number("time", time, above=0, one=True)
    checks.kind("landscape", landscape, Landscape)
    checks.function("method", method, "a function from lr to a method", 1)
    checks.kind("noise", noise, Noise)
    checks.mapping("equations", equations, "name -> options of flows.Diffusion")
    for options in equations.values():
        checks.mapping("equations", options, "name -> options of flows.Diffusion")
    lrs = checks.number("lrs", checks.numbers("lrs", lrs, ndim=1, at_least=1), above=0).tolist()
    for one in checks.sequence("functions", functions, "functions"):
        checks.function("functions", one, "functions of an array of points", 1)
    time, methods, sdes = checks.number("time", time, above=0), [], {name: [] for name in equations}
    with segments.progress_bar(len(lrs) * (1 + len(equations)), "expectations", progress) as bar:
        for lr in lrs:
            iteration, steps = Iteration(landscape, checks.called("method", method, lr), noise), _steps("lrs", time, lr)
            methods.append(transfer.expectation(iteration, functions, start, steps, interval, progress=False))
            bar.update()
            for name, options in equations.items():
                others = {key: value for key, value in options.items() if key != "method"}
                own = checks.called("the method of equations", options.get("method", method), lr)
                diffusion = flows.Diffusion(landscape, own, noise, **others)
                sdes[name].append(flows.expectation(diffusion, functions, start, time, interval))
                bar.update()
    with jax.enable_x64(True):
        provenance = records.provenance()
    config = {"process": records.described(iteration), "start": f"{start:g}", "time": f"{time:g}"}
    return {
        name: WeakError(config, provenance, np.array(lrs, float), np.array(methods), np.array(expectations))
        for name, expectations in sdes.items()
    }


def simulated_error(
    iteration: Iteration,
    diffusion: flows.Diffusion,
    function: Callable,
    start: Any,
    time: float,
    runs: int,
    key: jax.Array,
    *,
    progress: bool | None = None,
) -> tuple[float, float]:
    """The weak error in any number of dimensions, by simulation.

        E u(θ_k) − E u(θ(t)),   each a mean over `runs` runs

    The diffusion moves in steps of its own dt, whose error is part of the result: take it well below lr.

    Args:
        iteration: the method under noise
        diffusion: its equation
        function: u, from positions (runs, dim) to values (runs,)
        start: θ₀, shape (dim,)
        time: t, in steps × lr; lr and dt divide it
        runs: of each of the two
        key: a JAX key
        progress: show a bar; if not given, after two seconds
    Returns:
        the difference and its standard error
    Raises:
        ValueError: if a step does not divide the time; if runs diverge, so that there is no mean
    """
    checks.kind("iteration", iteration, Iteration)
    checks.function("function", function, "a function of θ (dim,)", 1)
    runs = checks.count("runs", runs, at_least=2)
    with jax.enable_x64(True):
        start = checks.point("start", start, iteration.dim)
    time = checks.number("time", time, above=0, one=True)
    checks.kind("diffusion", diffusion, flows.Diffusion, "fd.flows.Diffusion(landscape, method, noise)")
    checks.key(key)
    means = []
    needed = memory.array_bytes(6, runs, iteration.dim)
    memory.check_memory(needed, "the runs", "take fewer `runs`, with several keys one after the other")
    sides = ((iteration, iteration.method.lr), (diffusion, diffusion.dt))
    for (process, step), own in zip(sides, jax.random.split(key), strict=True):
        steps = _steps("lr", time, step)
        with jax.enable_x64(True):
            starts = np.tile(np.asarray(start, float), (runs, 1))
            ensemble = ensembles.simulate(process, starts, steps, own, every=steps, progress=progress)
        diverged = ensemble.counts()["DIVERGED"]
        if diverged:
            raise ValueError(
                f"{diverged} of {runs} runs diverged, so there is no mean of {process!r}: lower lr or rho, or take "
                "another start"
            )
        means.append(mean_sem_of(np.asarray(function(ensemble.final))))
    (discrete, error), (continuous, other) = means
    return float(discrete - continuous), float(np.hypot(error, other))


def _steps(name: str, time: float, lr: float) -> int:
    lr = checks.number("lr", lr, above=0)
    if not 0.5 < time / lr < 2**31 - 1:
        raise ValueError(f"time must be from 1 to 2**31 - 1 steps of {name}, got {time:g} with {name} = {lr:g}")
    steps = round(time / lr)
    if not np.isclose(steps * lr, time, rtol=1e-9):
        raise ValueError(f"{name} must be steps that divide the time {time:g}, got {lr:g}")
    return steps
