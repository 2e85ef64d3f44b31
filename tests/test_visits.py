"""Runs that repeat themselves are where all their steps would have taken them."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import flatdyn as fd
from flatdyn.runs import stepping, visits

BOUND, LAST = 1e4, 23_000


def turned(state):
    """x² + 1 mod m, whose periods are 1, 2, 3, … up to hundreds; a counter that recurs or not; doubling until BOUND."""
    x, m, count, by, large = state
    return jax.numpy.stack([jax.numpy.mod(x * x + 1, m), m, count + by, by, 2 * large])


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(0)
    number = 150  # three blocks
    m = rng.choice([2, 3, 7, 101, 1009, 9973], number)
    counting, growing = rng.integers(0, 2, number) * (np.arange(number) % 5 == 0), np.arange(number) % 7 == 0
    return np.stack([rng.integers(0, 100, number) % m, m, np.zeros(number), 1e-3 * counting, growing], axis=1)


def visited(starts, times):
    process = stepping.prepared(fd.Map(turned, 5), starts.dtype)
    return visits.visits(process, starts, times, None, BOUND, progress=False, unit="steps")


def expected(starts, times):
    """Whole numbers and sums, step by step: no rounding but that of the counter, which is the same."""
    now, alive, seen = starts.copy(), np.ones(len(starts), bool), []
    for step in range(1, times[-1] + 1):
        x, m, count, by, large = now.T
        new = np.stack([(x * x + 1) % m, m, count + by, by, 2 * large], axis=1)
        alive &= (np.abs(new) <= BOUND).all(axis=1)
        now = np.where(alive[:, None], new, now)
        if step in times:
            seen.append(now)
    return np.stack(seen, axis=1), alive


def test_what_repeats_itself_is_where_all_its_steps_would_take_it(runs):
    """At steps before, at and after those at which states are compared; points, cycles, counters, and who diverges."""
    times = np.unique(
        np.concatenate([[1, 239, 240, 299, 300, 301], np.arange(5000, 5600, 7), [17_000, LAST - 1, LAST]])
    )
    with jax.enable_x64(True):
        found = visited(runs, times)
    positions, alive = expected(runs, times)
    assert_array_equal(found.positions, positions)
    assert_array_equal(found.alive, alive)
    assert 0 < alive.sum() < len(alive)
    assert_array_equal(found.states.theta, positions[:, -1])


def test_looks_do_not_go_back():
    for last in (100, 1000, 12_000, 20_064, 10**6):
        now = 0
        for look, lag in visits._looks(last):
            assert now <= look - lag < look < last
            now = look


def test_what_repeats_itself_takes_few_steps(runs, monkeypatch):
    taken, call = [], visits._Journey._call

    def counted(self, part, carried, blocks, fresh, gaps):
        taken.append(blocks * gaps.sum())
        return call(self, part, carried, blocks, fresh, gaps)

    monkeypatch.setattr(visits._Journey, "_call", counted)
    with jax.enable_x64(True):
        short = runs[(runs[:, 1] < 10) & (runs[:, 3] == 0)]
        visited(short, np.array([LAST]))
        assert sum(taken) < 400 * -(-len(short) // 64)  # a look at 300, and what is left of 60
        taken.clear()
        visited(runs[runs[:, 3] > 0], np.array([LAST]))
        assert sum(taken) >= LAST  # counters never repeat themselves


def test_zeros_of_two_signs_are_two_states():
    """1/x tells −0 from 0."""
    one, other = (visits._Group(np.arange(1), stepping.Carry(np.array([zero]), None, None)) for zero in (0.0, -0.0))
    assert visits._same(one, one).all()
    assert not visits._same(one, other).any()
