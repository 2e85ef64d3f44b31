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

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, precision, randomness, records, segments
from flatdyn.core.records import Record
from flatdyn.core.statistics import mean_sem_of
from flatdyn.processes import Process
from flatdyn.processes.regions import ExactScore, Region, Scored, check_inside
from flatdyn.runs import devices, stepping

_SHARE = 0.25  # of the runs that should reach the next level
_CORE, _FIRST = 0.5, 0.9  # quantiles of the score: the core, and the first level
_SETTLING, _COUNTED = 4, 8  # departures of each walker before and while they are counted
_MOST_LEVELS = 200
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
        theta = jax.ShapeDtypeStruct((process.dim,), precision.floating())
        out = checks.traced("score", score, theta, what="a function from θ (dim,) to a number")
        if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
            raise ValueError(f"score must return one real number, got {out}")
    theta0 = checks.point("theta0", theta0, process.dim)
    checks.key(key)
    walkers = checks.count("walkers", walkers, at_least=10)
    replicates = checks.count("replicates", replicates, at_least=2)
    relax = stepping.check_steps("relax", relax, at_least=1)
    max_steps = stepping.check_steps("max_steps", max_steps, at_least=1)
    theta0 = np.asarray(checks.points("theta0", theta0, process.dim))
    check_inside(inside, np.atleast_2d(theta0))
    score = _score(score, inside, process)
    levels = None if levels is None else _check_levels(levels)
    total = walkers * replicates
    needed = total * (devices.state_bytes(process, theta0.dtype) + _WALKER_BYTES) * _COPIES
    memory.check_memory(needed, "the walkers", "take fewer `walkers` or `replicates`", device=needed)
    climbers = _Climbers(process, score, key, np.tile(theta0, (total, 1)), max_steps)
    with segments.progress_bar(0, "levels", progress) as bar:
        states = climbers.relaxed(relax)
        if levels is None:
            scores = np.asarray(_scores(climbers.process, score, states))
            levels = _check_levels(climbers.pilot(states, scores, bar))
        gaps, states = climbers.departures(states, levels[0], levels[1])
        chances = []
        for high in levels[2:]:
            reached, states = climbers.climb(states, levels[0], high)
            if not reached.any():
                raise ValueError(f"no walker reached level {high:g} from the one before: give more walkers or levels")
            chances.append(reached.reshape(replicates, walkers).mean(axis=1))
            states = climbers.again(states, reached, replicates)
            bar.update(1)
    chances = np.array(chances)
    rates = chances.prod(axis=0) / gaps.reshape(replicates, walkers).mean(axis=1)
    rate, error = mean_sem_of(rates)
    if rate * gaps.mean() > _RARE:
        raise ValueError(f"runs leave after about {1 / rate:.3g} steps, which is not rare: ask escape_times")
    config = {"process": records.described(process), "inside": records.described(inside)}
    config |= {"walkers": str(walkers), "replicates": str(replicates)}
    return Splitting(
        config=config,
        provenance=records.provenance(),
        mean=np.asarray(1 / rate),
        stderr=np.asarray(error / rate**2),
        rates=rates,
        levels=np.asarray(levels),
        chances=chances.mean(axis=1),
        gap=np.asarray(gaps.mean()),
        steps=np.asarray(climbers.steps),
    )


class _Walk(NamedTuple):
    """A walker: its state, whether it was in the core since it last departed, departures, steps counted and taken."""

    state: Any
    ready: jax.Array
    departures: jax.Array
    counted: jax.Array
    taken: jax.Array


class _Climbers:
    """All walkers of all replicates, and the random numbers of each stage."""

    def __init__(self, process: Process, score: Callable, key: jax.Array, starts: np.ndarray, max_steps: int):
        self.process = stepping.prepared(process, starts.dtype)
        self.score, self.key, self.starts, self.max_steps = score, key, jnp.asarray(starts), max_steps
        self.numbers, self.steps, self._stage = np.arange(len(starts), dtype=np.uint32), 0, 0

    def _fresh(self) -> jax.Array:
        """A key of its own for each stage."""
        self._stage += 1
        return jax.random.fold_in(self.key, self._stage)

    def relaxed(self, steps: int) -> Any:
        """States after `steps` steps from θ₀; a run that leaves begins again."""
        seed = randomness.seed_words(self._fresh())
        self.steps += steps * len(self.starts)
        states = fresh = _fresh(self.process, self.starts)
        for done, now in segments.cut(steps):
            where = precision.on_device(np.int32([done, done + now]))
            states = _relaxed(self.process, self.score, fresh, states, seed, self.numbers, where)
            jax.block_until_ready(states)
        return states

    def pilot(self, states: Any, scores: np.ndarray, bar: Any) -> list[float]:
        """Levels that about a quarter of the runs reach from the one before."""
        levels = [float(np.quantile(scores, _CORE)), float(np.quantile(scores, _FIRST))]
        if not levels[0] < levels[1] < 1:
            raise ValueError(f"scores are {levels[0]:g} (median) and {levels[1]:g} (90 %): they must differ and be < 1")
        _, states = self.departures(states, *levels)
        while len(levels) < _MOST_LEVELS:
            highest = self.highest(states, levels[0])
            level = float(np.quantile(highest, 1 - _SHARE))
            if level >= 1:
                return levels
            level = max(level, levels[-1] + 1e-6 * (1 - levels[-1]))
            levels.append(level)
            reached, states = self.climb(states, levels[0], level)
            states = self.again(states, reached, 1)
            bar.update(1)
        raise ValueError(f"{_MOST_LEVELS} levels did not reach the end: give a score that follows the way out")

    def departures(self, states: Any, low: float, high: float) -> tuple[np.ndarray, Any]:
        """Mean steps of each walker between departures from the core, and its state at the last one."""
        number, fresh = len(self.starts), _fresh(self.process, self.starts)
        zeros = jnp.zeros(number, jnp.int32)
        walk = _Walk(states, jnp.zeros(number, bool), zeros, zeros, zeros)
        bounds = jnp.asarray([low, high], self.starts.dtype)
        seed = randomness.seed_words(self._fresh())
        for done, now in segments.cut(self.max_steps):
            until = precision.on_device(np.int32(done + now))
            walk, going = _departures(self.process, self.score, fresh, walk, seed, self.numbers, bounds, until)
            if not going:
                break
        self._check(np.asarray(walk.departures) == _SETTLING + _COUNTED, "depart from the core often enough")
        self.steps += int(np.asarray(walk.taken).sum())
        return np.asarray(walk.counted) / _COUNTED, walk.state

    def climb(self, states: Any, low: float, high: float) -> tuple[np.ndarray, Any]:
        """Which walkers reach `high` before they fall back to `low`, and their states at the end."""
        end, score, _ = self._run(states, low, high)
        return score >= high if high < 1 else score > 1, end

    def highest(self, states: Any, low: float) -> np.ndarray:
        """The highest score of each walker before it falls back to `low` or leaves."""
        return self._run(states, low, 1.0)[2]

    def _run(self, states: Any, low: float, high: float):
        bounds = jnp.asarray([low, high], self.starts.dtype)
        seed = randomness.seed_words(self._fresh())
        climb = _standing(self.process, self.score, states)
        for done, now in segments.cut(self.max_steps):
            until = precision.on_device(np.int32(done + now))
            climb, going = _climbed(self.process, self.score, climb, seed, self.numbers, bounds, until)
            if not going.any():
                break
        end, score, top, taken = climb
        self._check(~np.asarray(going), f"finish a climb to {high:g}")
        self.steps += int(np.asarray(taken).sum())
        return end, np.asarray(score), np.asarray(top)

    def again(self, states: Any, reached: np.ndarray, replicates: int) -> Any:
        """Walkers that succeeded, drawn with replacement within each replicate."""
        rng = np.random.default_rng(np.asarray(randomness.seed_words(self._fresh())))
        groups = np.split(np.arange(len(reached)), replicates)
        # A replicate without a success has the rate 0; what its walkers do from here on does not matter.
        chosen = [rng.choice(g[reached[g]] if reached[g].any() else g, len(g)) for g in groups]
        return _drawn(states, np.concatenate(chosen))

    def _check(self, done: np.ndarray, what: str) -> None:
        if not done.all():
            raise ValueError(
                f"{(~done).sum()} of {len(done)} walkers did not {what} within max_steps={self.max_steps}: allow more, "
                "or give levels that are nearer to each other"
            )


def _score(score: Callable | None, inside: Callable, process: Process) -> Callable:
    if not process.random:
        raise TypeError(f"only a random process leaves rarely, got {process!r}")
    if score is None:
        test = inside.inside if isinstance(inside, Region) else inside
        score = ExactScore(test) if isinstance(test, Scored) else getattr(test, "score", None)
    if score is None:
        raise TypeError("splitting needs a score: use a region such as Ball or HalfSpace, or pass score=")
    return score


def _check_levels(levels: Sequence[float]) -> list[float]:
    levels = [*map(float, checks.numbers("levels", levels, ndim=1)), 1.0]
    if len(levels) < 3 or not (np.diff(levels) > 0).all():
        raise ValueError(f"levels must increase and end below 1: the core, the first level, ...; got {levels[:-1]}")
    return levels


def _advance(process, state, seed, number, step):
    return process.step(state, randomness.run_key(seed, number, step))


@eqx.filter_jit
def _fresh(process, starts):
    return jax.vmap(process.init)(starts)


@eqx.filter_jit
def _scores(process, score, states):
    """How far out they are."""
    return jax.vmap(lambda state: score(process.position(state)))(states)


@eqx.filter_jit
def _drawn(states, chosen):
    return jax.tree.map(lambda leaf: leaf[chosen], states)


@eqx.filter_jit
def _relaxed(process, score, fresh, states, seed, numbers, where):
    def step(i, states):
        def one(state, first, number):
            new = _advance(process, state, seed, number, i)
            return _choose(score(process.position(new)) <= 1, new, first)  # NaN is outside

        return jax.vmap(one)(states, fresh, numbers)

    return jax.lax.fori_loop(where[0], where[1], step, states)


@eqx.filter_jit
def _departures(process, score, fresh, walk: _Walk, seed, numbers, bounds, until):
    """Walkers after `until` steps in all, or when the last one is finished; and whether one is not."""
    low, high = bounds

    def one(walk: _Walk, first, number):
        going = walk.departures < _SETTLING + _COUNTED
        new = _advance(process, walk.state, seed, number, walk.taken)
        at = score(process.position(new))
        departed = walk.ready & (at >= high)
        ended = departed & (walk.departures + 1 == _SETTLING + _COUNTED)
        # One that leaves the region altogether begins again, so that the others are not waited for in vain.
        state = _choose((at <= 1) | ended, new, first)
        after = _Walk(
            state,
            (walk.ready | (at < low) | ~(at <= 1)) & ~departed,
            walk.departures + departed,
            walk.counted + (walk.departures >= _SETTLING),
            walk.taken + 1,
        )
        return _choose(going, after, walk)

    def going(walk):
        return (walk.departures < _SETTLING + _COUNTED).any()

    def body(walk):
        return jax.vmap(one)(walk, fresh, numbers)

    walk = jax.lax.while_loop(lambda walk: going(walk) & (walk.taken.max() < until), body, walk)
    return walk, going(walk)


@eqx.filter_jit
def _standing(process, score, states):
    """What a climb carries at its start: states, scores, the highest so far, steps taken."""
    begun = _scores(process, score, states)
    return states, begun, begun, jnp.zeros(len(begun), jnp.int32)


@eqx.filter_jit
def _climbed(process, score, climb, seed, numbers, bounds, until):
    """The climb after `until` steps in all, or when the last walker is done; and which are not."""
    low, high = bounds

    def done(at):
        # NaN is outside; the end of the region itself belongs to it
        return (at < low) | jnp.where(high < 1, at >= high, at > 1) | jnp.isnan(at)

    def one(state, at, top, taken, number):
        new = _advance(process, state, seed, number, taken)
        now = jnp.nan_to_num(score(process.position(new)), nan=jnp.inf)
        going = ~done(at)
        state, at = _choose(going, (new, now), (state, at))
        return state, at, jnp.maximum(top, at), taken + going

    def body(carry):
        return jax.vmap(one)(*carry, numbers)

    def unfinished(carry):
        return (~done(carry[1])).any() & (carry[3].max() < until)

    climb = jax.lax.while_loop(unfinished, body, climb)
    return climb, ~done(climb[1])


def _choose(condition, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
