"""Walkers that climb from level to level of a score, for multilevel splitting: their states, and compiled steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision, randomness, segments
from flatdyn.processes import Process
from flatdyn.runs import stepping

_SHARE = 0.25  # of the runs that should reach the next level
_CORE, _FIRST = 0.5, 0.9  # quantiles of the score: the core, and the first level
_SETTLING, _COUNTED = 4, 8  # departures of each walker before and while they are counted
_MOST_LEVELS = 200


class _Walk(NamedTuple):
    """A walker: its state, whether it was in the core since it last departed, departures, steps counted and taken."""

    state: Any
    ready: jax.Array
    departures: jax.Array
    counted: jax.Array
    taken: jax.Array


class Climbers:
    """All walkers of all replicates, and the random numbers of each stage."""

    def __init__(self, process: Process, score: Callable, key: jax.Array, starts: np.ndarray, max_steps: int):
        self.process = stepping.prepared(process, starts.dtype)
        self.score, self.key, self.starts, self.max_steps = score, key, jnp.asarray(starts), max_steps
        self.numbers, self.steps, self._stage = np.arange(len(starts), dtype=np.uint32), 0, 0

    def _fresh(self) -> jax.Array:
        """A key of its own for each stage."""
        self._stage += 1
        return jax.random.fold_in(self.key, self._stage)

    def scores(self, states: Any) -> np.ndarray:
        """How far out walkers are."""
        return np.asarray(_scores(self.process, self.score, states))

    def positions(self, states: Any) -> np.ndarray:
        """Where walkers are, (walkers, dim)."""
        return np.asarray(_positions(self.process, states))

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


def check_levels(levels: Sequence[float]) -> list[float]:
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
def _positions(process, states):
    return jax.vmap(process.position)(states)


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
        departed = walk.ready & ~(at < high)  # NaN is outside
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
    begun = jnp.nan_to_num(_scores(process, score, states), nan=jnp.inf)  # NaN is outside
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
