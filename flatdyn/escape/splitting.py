"""Escapes too rare to wait for: multilevel splitting, with the variance of its estimate.

A run that leaves a well has first left its core, then reached one level of the score after another. Each such step
up is not rare, and the product of their chances gives the rate of escape:

    1 / E T = (1 / E gap) · p₁ p₂ ⋯ pₙ

gap = steps from one departure out of the core to the next, pᵢ = chance to reach level i + 1 from level i before
falling back into the core. Runs that got one level up are drawn again, with replacement, to try the next.

References:
    Allen, Valeriani, ten Wolde, J. Phys.: Condens. Matter 21, 463102 (2009), section 2 (forward flux sampling);
    Bréhier et al., Ann. Appl. Probab. 26, 3559 (2016), on unbiasedness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from flatdyn.core import checks, memory, records, segments
from flatdyn.core.records import Record
from flatdyn.core.statistics import mean_sem_of
from flatdyn.escape.climbers import Climbers, check_levels
from flatdyn.processes import Process
from flatdyn.processes.regions import ExactScore, Region, Scored, check_inside, check_score
from flatdyn.runs import devices, stepping

_WALKER_BYTES, _COPIES = 32, 4  # of what is counted of a walker; of its state: before, after, at the start, drawn
_RARE = 0.1  # escapes per departure from the core: with more, no quasi-stationary state is reached before


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Splitting(Record):
    """The result of multilevel splitting; see :func:`multilevel_splitting`.

    Attributes:
        mean: E T in steps, shape ()
        stderr: its standard error, from the replicates, shape ()
        rates: 1/E T of each replicate, shape (replicates,)
        levels: scores: of the core, of the first level, … up to 1
        chances: p of each level, mean over the replicates
        gap: mean steps between departures from the core, shape ()
        steps: how many steps were run in all, shape ()
    """

    mean: np.ndarray
    stderr: np.ndarray
    rates: np.ndarray
    levels: np.ndarray
    chances: np.ndarray
    gap: np.ndarray
    steps: np.ndarray
    _form: ClassVar = {
        "mean": "fiu",
        "stderr": "fiu",
        "rates": "fiu replicates",
        "gap": "fiu",
        "steps": "iu",
    }
    _dims: ClassVar = {"levels": "levels", "chances": "passed"}
    _units: ClassVar = {"mean": "steps", "stderr": "steps", "rates": "per step", "gap": "steps"}
    _units |= {"levels": "1", "chances": "1"}

    def __repr__(self) -> str:
        return f"Splitting({self.mean:.4g} +- {self.stderr:.2g} steps, {len(self.chances)} levels)"


def multilevel_splitting(
    process: Process,
    theta0: Any,
    inside: Callable,
    key: jax.Array,
    *,
    score: Callable | None = None,
    walkers: int = 1000,
    replicates: int = 10,
    levels: Sequence[float] | None = None,
    relax: int = 1000,
    max_steps: int = 1_000_000,
    progress: bool | None = None,
) -> Splitting:
    """Mean escape time out of a region that is hardly ever left, by multilevel splitting.

        1 / E T = (1 / E gap) · p₁ p₂ ⋯ pₙ

    from the quasi-stationary state that a run reaches before it leaves: E T from θ₀ differs by the time it takes to
    reach that state. Replicates are independent and their rates unbiased, so their spread is an honest error.

    Args:
        process: what moves, with its full state (velocity included) at every level
        theta0: a point well inside, shape (dim,)
        inside: the region: a :class:`Ball`, :class:`Box`, :class:`Sublevel`, :class:`HalfSpace`
        key: a JAX key
        score: how far out θ is, at most 1 inside and more than 1 outside; the region's own if not given. A score that
            follows the way out gives a small error; any gives an unbiased rate
        walkers: runs in each replicate
        replicates: at least 2
        levels: scores of the core, the first level, …, increasing, without the last, 1; from a pilot if not given
        relax: steps after which a run from θ₀ has forgotten it
        max_steps: a single climb that takes longer is refused
        progress: show a bar over the levels
    Returns:
        Splitting
    Raises:
        ValueError: if θ₀ is not inside, levels do not increase, walkers escape so fast that splitting makes no sense,
            or no walker of any replicate reaches a level
        TypeError: if there is no score, or the process is not random
    """
    checks.kind("process", process, Process)
    if score is not None:
        check_score("score", score, process.dim)
    theta0 = checks.point("theta0", theta0, process.dim)
    theta0 = np.asarray(checks.points("theta0", theta0, process.dim))
    check_inside(inside, np.atleast_2d(theta0))
    score = _score(score, inside, process)
    sizes = {"walkers": walkers, "replicates": replicates, "relax": relax, "max_steps": max_steps}
    climb = climbed(process, theta0, score, key, levels=levels, progress=progress, **sizes)
    rate, error = mean_sem_of(climb.rates)
    if not climb.rare:
        raise ValueError(f"runs leave after about {1 / rate:.3g} steps, which is not rare: ask escape_times")
    config = {"process": records.described(process), "inside": records.described(inside)}
    config |= {"walkers": str(walkers), "replicates": str(replicates)}
    return Splitting(
        config=config,
        provenance=records.provenance(),
        mean=np.asarray(1 / rate),
        stderr=np.asarray(error / rate**2),
        rates=climb.rates,
        levels=np.asarray(climb.levels),
        chances=climb.chances,
        gap=np.asarray(climb.gap),
        steps=np.asarray(climb.steps),
    )


class Climb(NamedTuple):
    """What walkers have done: rates of each replicate, and where those are that came all the way up.

    Attributes:
        rates, levels, chances, gap, steps: as in :class:`Splitting`
        ends: positions of the walkers after the last level, shape (replicates, walkers, dim)
        reached: which of them reached it, shape (replicates, walkers)
    """

    rates: np.ndarray
    levels: list[float]
    chances: np.ndarray
    gap: float
    steps: int
    ends: np.ndarray
    reached: np.ndarray

    @property
    def rare(self) -> bool:
        """Whether a run settles in the core before it leaves, as rates of leaving need."""
        return bool(self.rates.mean() * self.gap <= _RARE)


def climbed(
    process: Process,
    theta0: np.ndarray,
    score: Callable,
    key: jax.Array,
    *,
    walkers: int,
    replicates: int,
    levels: Sequence[float] | None,
    relax: int,
    max_steps: int,
    progress: bool | None,
) -> Climb:
    """The climb of :func:`multilevel_splitting`, whose arguments these are, from a checked point and with its score."""
    checks.key(key)
    walkers = checks.count("walkers", walkers, at_least=10)
    replicates = checks.count("replicates", replicates, at_least=2)
    relax = stepping.check_steps("relax", relax, at_least=1)
    max_steps = stepping.check_steps("max_steps", max_steps, at_least=1)
    levels = None if levels is None else check_levels(levels)
    total = walkers * replicates
    needed = total * (devices.state_bytes(process, theta0.dtype) + _WALKER_BYTES) * _COPIES
    memory.check_memory(needed, "the walkers", "take fewer `walkers` or `replicates`", device=needed)
    climbers = Climbers(process, score, key, np.tile(theta0, (total, 1)), max_steps)
    with segments.progress_bar(0, "levels", progress) as bar:
        states = climbers.relaxed(relax)
        if levels is None:
            levels = check_levels(climbers.pilot(states, climbers.scores(states), bar))
        gaps, states = climbers.departures(states, levels[0], levels[1])
        chances = []
        for high in levels[2:]:
            reached, states = climbers.climb(states, levels[0], high)
            if not reached.any():
                raise ValueError(f"no walker reached level {high:g} from the one before: give more walkers or levels")
            chances.append(reached.reshape(replicates, walkers).mean(axis=1))
            if high < 1:
                states = climbers.again(states, reached, replicates)
            bar.update(1)
    chances, ends = np.array(chances), climbers.positions(states).reshape(replicates, walkers, -1)
    rates = chances.prod(axis=0) / gaps.reshape(replicates, walkers).mean(axis=1)
    reached = reached.reshape(replicates, walkers)
    return Climb(rates, levels, chances.mean(axis=1), float(gaps.mean()), climbers.steps, ends, reached)


def _score(score: Callable | None, inside: Callable, process: Process) -> Callable:
    if not process.random:
        raise TypeError(f"only a random process leaves rarely, got {process!r}")
    if score is None:
        test = inside.inside if isinstance(inside, Region) else inside
        score = ExactScore(test) if isinstance(test, Scored) else getattr(test, "score", None)
    if score is None:
        raise TypeError("splitting needs a score: use a region such as Ball or HalfSpace, or pass score=")
    return score
