"""The least luck that an escape takes: the cheapest normal numbers that lead from a point to a region.

For noise of variance 1/B the chance of a path falls like exp(−B Σ ‖z_k‖²/2), and the mean time until a rare event
grows like exp(B V), V the least of all costs. How a path is steered: :mod:`flatdyn.escape.steering`; how the least cost
in so many steps is found: :mod:`flatdyn.escape.shooting`.

References:
    Freidlin, Wentzell, Random Perturbations of Dynamical Systems; Kifer, Random Perturbations of Dynamical Systems
    (1988), for discrete time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, records, segments
from flatdyn.core.records import Record
from flatdyn.escape import programming, shooting
from flatdyn.escape.shooting import Best, Shooting
from flatdyn.escape.steering import steered
from flatdyn.escape.targets import Goal, goals
from flatdyn.processes import Process

_FREE = 1024  # steps in which a run without noise may arrive by itself
_FIRST = 16  # steps to begin with
_KEPT = 3  # optima that are followed to more steps
_NOTHING = 1e-9  # a cost that counts as none
_RISING = 1e-4  # relative rise of a cost with more steps at which their number is searched for
_GRID = 1e-2  # relative difference to dynamic programming that its grid explains
_ENTRIES, _IDLE = 8, 1e-4  # beginnings that are tried, and the share of the cost of what they take the place of
_SAME = 1e-6  # relative difference of costs that count as one


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LeastNoise(Record):
    """The cheapest way from a point to a region; see :func:`least_noise`.

    Attributes:
        path: positions θ₀, …, θ_n, shape (n + 1, dim)
        noise: the normal numbers z₁, …, z_n at batch size 1, shape (n, draws)
        cost: V = Σ ‖z_k‖²/2
        settled: whether it was seen that more steps do not lower the cost; False if `steps` was given
        lengths: numbers of steps that were tried, shape (lengths,)
        costs: the least cost in so many steps, infinite where none was reached, shape (lengths,)
        attempts: the cost that each start of the search led to, infinite where it failed, shape (attempts,)
        gradient_norm: ‖∇(cost − multiplier × miss)‖/‖z‖ at the end, zero at an optimum
        curvature: the least second derivative of the same along ways that arrive: above 0 at a strict minimum, 1
            for a linear problem; NaN where it was not found
        programmed: V by dynamic programming on a grid, where that is made: of steps that jump, on a line; else NaN
        miss: by how much the end misses the target, in units of how far it was at the start
        replayed: by how much a step of the process itself leaves the path, with this noise and from a point of it
        riding: whether a step stands where an ascent jumps, shape (n,)
    """

    path: np.ndarray
    noise: np.ndarray
    cost: np.ndarray
    settled: np.ndarray
    lengths: np.ndarray
    costs: np.ndarray
    attempts: np.ndarray
    gradient_norm: np.ndarray
    curvature: np.ndarray
    programmed: np.ndarray
    miss: np.ndarray
    replayed: np.ndarray
    riding: np.ndarray
    _form: ClassVar = {
        "path": "f times dim",
        "noise": "f steps draws",
        "cost": "f",
        "settled": "b",
        "lengths": "iu lengths",
        "costs": "f lengths",
        "attempts": "f attempts",
        "gradient_norm": "f",
        "curvature": "f",
        "programmed": "f",
        "miss": "f",
        "replayed": "f",
        "riding": "b steps",
    }
    _units: ClassVar = {"path": "theta", "replayed": "theta", "lengths": "steps"} | dict.fromkeys(
        ("noise", "cost", "settled", "costs", "attempts", "gradient_norm", "curvature", "programmed", "miss", "riding"),
        "1",
    )

    @property
    def steps(self) -> int:
        """n."""
        return len(self.noise)

    def log_mean(self, batch_size: Any) -> Any:
        """ln E T ≈ B V, which for large B misses terms that grow more slowly."""
        batch_size = checks.number("batch_size", batch_size, above=0)
        return np.asarray(batch_size) * float(self.cost)

    def __repr__(self) -> str:
        more = "" if self.settled else ", others not known to cost more"
        return f"LeastNoise(cost {float(self.cost):.6g} in {self.steps} steps{more}; {self.dtype})"


def least_noise(
    process: Process,
    start: Any,
    target: Any = None,
    *,
    inside: Callable | None = None,
    tolerance: float = 0.0,
    steps: int | None = None,
    max_steps: int = 4096,
    attempts: int = 8,
    rtol: float = 1e-7,
    progress: bool | None = None,
) -> LeastNoise:
    """The least luck that it takes to get from a point to a region.

        V = min Σ ‖z_k‖²/2   over n and z₁, …, z_n with θ_k = F(θ_{k−1}, z_k) and θ_n in the target,   ln E T ≈ B V

    at batch size B = 1: with noise of variance 1/B the mean time until a rare arrival grows like exp(B V), times
    factors that grow more slowly. V is that of the process as it is where its noise has no batch size.

    The number of steps is doubled from 16 on until the cost stops falling; each time the search goes on from the
    best paths so far, at first also from random ones. An answer is a local minimum, the best of all `attempts`: its
    `gradient_norm`, `curvature` and `replayed` certify that, and `attempts` shows what the others led to.

    **Jumps.** A step of normalised SAM under shared or independent noise jumps where the sampled gradient vanishes,
    and the cheapest paths ride on the jump (`riding`), for there any direction of the ascent is to be had. Such a step
    is steered by length and direction of that gradient, in which it is smooth (:mod:`flatdyn.escape.steering`). On a
    line the direction is a sign, which a search does not change: there all of them come from dynamic programming on a
    grid, whose V (`programmed`) no local minimum can spoil, and the search goes on from its path. An ascent without
    noise jumps at critical points of the landscape: it is steered by u too, on paths on which ∇L points along u. In
    more coordinates, and with momentum, V is the best of the attempts, and an upper bound. So it is for methods whose
    steps have no derivative for other reasons, such as Adam's root where it has seen no gradient: then `gradient_norm`
    is not small, or `curvature` is below zero. A larger ε of such a method mends that.

    For a :class:`flatdyn.flows.Diffusion` V η is the action of Freidlin and Wentzell, up to an error of order dt.

    Args:
        process: driven by normal numbers: an Iteration under Gaussian, Curvature or state-dependent noise with any
            method, a Langevin method, a Diffusion, or a process of yours with `draws` and `driven(state, normals)`
        start: θ₀, shape (dim,), at rest; from an unstable point V is 0 in the limit of many steps
        target: where to: a Ball, Box, Sublevel, HalfSpace, anything with a `score` (at most 1 inside), or a point
        inside: a region that is to be left, instead of a target
        tolerance: radius of the ball around a point in which a path has arrived; 0 for the point itself
        steps: n, if it is not to be searched for
        max_steps: up to which steps are doubled
        attempts: how many starts the search has
        rtol: relative fall of the cost at which it has stopped falling
        progress: show a bar; if not given, after two seconds
    Returns:
        LeastNoise
    Raises:
        ValueError: if the start is in the target, the target can't be reached, or arguments are out of range
        TypeError: if the process is not driven by normal numbers, or it can't be said how far a target is
    """
    checks.kind("process", process, Process)
    tolerance = checks.number("tolerance", tolerance, at_least=0, one=True)
    rtol = checks.number("rtol", rtol, above=0, below=1, one=True)
    attempts = checks.count("attempts", attempts, at_least=1, at_most=10_000)
    max_steps = checks.count("max_steps", max_steps, at_least=1, at_most=2**20)
    if steps is not None:
        steps = checks.count("steps", steps, at_least=1, at_most=2**20)
    config = {"process": records.described(process), "start": records.described(start)}
    config |= {"target": records.described(target), "inside": records.described(inside)}
    with jax.enable_x64(True):
        theta = jnp.asarray(np.asarray(checks.point("start", start, process.dim), float))
        ways = goals(target, inside, tolerance, process.dim)
        whole = steered(process, theta)
        state = jax.tree.map(jnp.asarray, whole.process.init(theta))
        problems = [Shooting(whole, state, goal, _far(goal, theta)) for goal in ways]
        search = _Search(problems, np.asarray(theta), attempts, rtol, max_steps)
        with segments.progress_bar(attempts, "attempts", progress) as bar:
            answer = search.free() or search.run(steps, bar)
    return LeastNoise(config=config, provenance=records.provenance(), **answer)


def _far(goal: Goal, start: jax.Array) -> float:
    """How far a goal is at the start."""
    miss = np.asarray(goal.misses(start))
    far = float(np.abs(miss).max() if goal.exact else miss.max())
    if not np.isfinite(far):
        raise ValueError(f"start must be where the target's score is finite, got {far} at {start.tolist()}")
    if far <= 0:
        where = "inside the region that is to be left" if goal.way == "leave" else "outside of the target"
        raise ValueError(f"start must be {where}, got {start.tolist()}: no step is needed")
    return far


class _Search:
    """From random paths to the best one in ever more steps."""

    def __init__(self, problems: list[Shooting], start: np.ndarray, attempts: int, rtol: float, max_steps: int):
        self.problems, self.start, self.attempts = problems, start, attempts
        self.rtol, self.max_steps = rtol, max_steps
        self.rng = np.random.default_rng(0)
        self.costs: dict[int, float] = {}
        self.tried: list[float] = []
        self.grid = np.nan

    def free(self) -> dict[str, Any] | None:
        """The run without noise, if it arrives by itself."""
        first = self.problems[0].plain()
        steps = min(self.max_steps, _FREE)
        path = shooting.followed(first, np.zeros((steps, first.steered.process.draws)))
        for problem in self.problems:
            if problem.goal.exact:
                continue
            there = np.asarray(jax.vmap(problem.goal.misses)(jnp.asarray(path.places))).max(axis=1) <= 0
            if there.any():
                steps = int(np.argmax(there))
                self.costs[steps], self.tried = 0.0, [0.0]
                quiet = np.zeros((steps, first.steered.process.draws))
                return self.answer(problem.plain(), Best(quiet, 0.0, 0.0, 0.0, None), True)
        return None

    def run(self, steps: int | None, bar: Any) -> dict[str, Any]:
        number = steps or min(_FIRST, self.max_steps)
        leaders = self.fresh(number, bar)
        while not leaders and steps is None and 4 * number <= self.max_steps:
            number *= 4
            leaders = self.fresh(number, bar)
        if not leaders:
            raise ValueError(
                f"no attempt reached the target in {number} steps: the noise does not lead there, or it takes more "
                "`attempts` or `max_steps`; escape_times says whether runs ever arrive"
            )
        self.costs[number] = leaders[0][1].cost
        if steps is not None:
            return self.answer(*leaders[0], False)
        if programming.programmable(self.problems[0]):
            leaders = self.programmed(leaders)
            if leaders[0][1].cost <= (1 + _GRID) * self.grid:
                return self.answer(*leaders[0], True)
        settled = False
        while not settled and 2 * number <= self.max_steps:
            number *= 2
            longer = self.longer(leaders, number)
            if not longer:
                break
            before, now = min(self.costs.values()), longer[0][1].cost
            self.costs[number] = now
            settled = now > before * (1 - self.rtol) - _NOTHING or now < _NOTHING
            if now < before:
                leaders = longer
        if self.costs.get(number, np.inf) > leaders[0][1].cost * (1 + _RISING):
            leaders = self.between(leaders)
        if leaders[0][0].steered.way != "plain":
            leaders = self.entered(leaders[0])
        return self.answer(*leaders[0], settled)

    def fresh(self, number: int, bar: Any) -> list[tuple[Shooting, Best]]:
        """Optima that random paths lead to, the best first."""
        reached, self.tried = [], []
        for i in range(max(self.attempts, len(self.problems))):
            problem = self.problems[i % len(self.problems)]
            controls = self.guess(problem, number, i // len(self.problems))
            best = None if controls is None else shooting.solve(problem, controls)
            self.tried.append(np.inf if best is None else best.cost)
            if best is not None:
                reached.append((problem, best))
            bar.update(1)
        return _distinct(reached)

    def guess(self, problem: Shooting, number: int, turn: int) -> np.ndarray | None:
        """A path by noise of a random direction after hardly any, as weak as it can be to arrive."""
        whole = problem.steered
        draws, line = whole.process.draws, whole.process.dim == 1
        push = self.rng.normal(size=draws)
        push /= np.linalg.norm(push)
        if line:
            push = np.abs(push) * (-1) ** turn  # to both sides
        if whole.way == "sampled" and turn % 2:
            return self.ride(whole, number, (-1.0) ** (turn // 2) if line else None)
        shape = push + 0.3 * self.rng.normal(size=(number, draws)) * (turn % 4 == 3)
        shape[: min(turn // 2 % 3, number - 1)] *= 1e-3 * (-1) ** turn
        nearest, least = None, np.inf
        for size in 2.0 ** np.arange(-8, 24):
            controls = shooting.controls_of(problem, size * shape)
            now = shooting.standing(problem, controls)
            if not now.finite:
                break
            miss = np.abs(now.c).max() if problem.goal.exact else now.c.max()
            if miss < least:
                nearest, least = controls, miss
            if miss <= 0:
                break
        return nearest

    def ride(self, whole: Any, number: int, sign: float | None) -> np.ndarray:
        """Controls on the jump, with an ascent in one direction."""
        controls = 0.1 * np.abs(self.rng.normal(size=(number, whole.size)))
        direction = self.rng.normal(size=whole.process.dim) if sign is None else np.array([sign])
        controls[:, whole.own + 1 :] = direction / np.linalg.norm(direction)
        return controls

    def longer(self, leaders: list[tuple[Shooting, Best]], number: int) -> list[tuple[Shooting, Best]]:
        """The same optima in more steps, after steps of hardly any noise, or in more or fewer at another pace."""
        reached = []
        for problem, best in leaders:
            controls = best.controls
            more = number - len(controls)
            guesses = [self.paced(problem, controls, number)]
            for size in (1e-3, 0.0)[: 1 + (problem.steered.way != "plain")] if more > 0 else ():
                early = size * self.rng.normal(size=(more, problem.steered.process.draws))
                guesses.append(np.vstack([shooting.controls_of(problem, early), controls]))
            if more < 0:
                guesses.append(controls[-more:])
            for guess in guesses:
                new = shooting.solve(problem, guess, best)
                if new is not None:
                    reached.append((problem, new))
        return _distinct(reached)

    def paced(self, problem: Shooting, controls: np.ndarray, number: int) -> np.ndarray:
        """Controls at another pace; directions of an ascent are not mixed."""
        at = np.linspace(0, len(controls) - 1, number)
        new = np.stack([np.interp(at, np.arange(len(controls)), c) for c in controls.T], axis=1)
        if problem.steered.way != "plain":
            dim = problem.steered.process.dim
            new[:, -dim:] = controls[np.round(at).astype(int), -dim:]
        return new

    def between(self, leaders: list[tuple[Shooting, Best]]) -> list[tuple[Shooting, Best]]:
        """The best number of steps near that of the best path, where more and fewer cost more."""
        stride = len(leaders[0][1].controls) // 2
        while stride:
            middle = len(leaders[0][1].controls)
            for number in (middle + stride, middle - stride):
                near = self.longer(leaders, number) if number > 0 and number not in self.costs else []
                self.costs[number] = self.costs.get(number, near[0][1].cost if near else np.inf)
                if near and near[0][1].cost < leaders[0][1].cost:
                    leaders = near
                    break
            else:
                stride //= 2
        return leaders

    def programmed(self, leaders: list[tuple[Shooting, Best]]) -> list[tuple[Shooting, Best]]:
        """The best paths, and what that of dynamic programming leads to."""
        problem, best = leaders[0]
        path = shooting.followed(problem, best.controls)
        self.grid, problem, controls = programming.programmed(self.problems, path.places, best.cost)
        new = None if problem is None else shooting.solve(problem, controls)
        self.tried.append(np.inf if new is None else new.cost)
        if new is not None:
            self.costs[len(controls)] = new.cost
        return _distinct([*leaders, (problem, new)] if new is not None else leaders)

    def entered(self, leader: tuple[Shooting, Best]) -> list[tuple[Shooting, Best]]:
        """The best path after other beginnings: where a step jumps, runs without noise move among several places."""
        problem, best = leader
        path = shooting.followed(problem, best.controls)
        paid = np.cumsum(np.sum(path.normals**2, axis=1) / 2)
        core = best.controls[int(np.argmax(paid > _IDLE * paid[-1])) :]
        reached = [leader] if np.any(best.controls[0, -problem.steered.process.dim :]) else []
        for turn in range(_ENTRIES):
            early = 1e-2 * self.rng.normal(size=(turn // 2, problem.steered.process.draws))
            guess = np.vstack([shooting.controls_of(problem, early), core]) if turn > 1 else core
            new = shooting.solve(problem, guess)
            self.tried.append(np.inf if new is None else new.cost)
            if new is not None:
                reached.append((problem, new))
        return _distinct(reached or [leader])

    def answer(self, problem: Shooting, best: Best, settled: bool) -> dict[str, Any]:
        path = shooting.followed(problem, best.controls)
        z = np.linalg.norm(path.normals)
        return {
            "path": path.places,
            "noise": path.normals,
            "cost": np.asarray(z**2 / 2),
            "settled": np.asarray(settled),
            "lengths": np.asarray(list(self.costs)),
            "costs": np.asarray(list(self.costs.values())),
            "attempts": np.asarray(self.tried),
            "gradient_norm": np.asarray(best.slope / z if z > 0 else 0.0),
            "curvature": np.asarray(shooting.curvature(problem, best) if z > 0 else 1.0),
            "programmed": np.asarray(self.grid),
            "miss": np.asarray(best.miss / problem.far),
            "replayed": np.asarray(shooting.apart(problem, best.controls)),
            "riding": problem.steered.rides(best.controls, path.strays),
        }


def _distinct(reached: list[tuple[Shooting, Best]]) -> list[tuple[Shooting, Best]]:
    """The best optima of different costs."""
    kept: list[tuple[Shooting, Best]] = []
    for problem, best in sorted(reached, key=lambda pair: pair[1].cost):
        if all(abs(best.cost - other.cost) > _SAME * (1e-300 + other.cost) for _, other in kept):
            kept.append((problem, best))
    return kept[:_KEPT]
