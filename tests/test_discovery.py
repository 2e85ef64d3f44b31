"""Slow stretches are no attractors, and slow attractors are."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_boundaries import painted
from test_fractions import Halving

import flatdyn as fd
from flatdyn.basins import attractors
from flatdyn.basins.boundaries import basin_entropy

L = fd.Landscape.from_expression
H = fd.landscapes.himmelblau()


def gd(loss, symbols="x", lr=0.1, **more):
    return fd.Iteration(L(loss, symbols), fd.GD(lr, **more))


def found(process, box, resolution=64, **rules):
    return fd.map_basins(process, box, resolution, progress=False, **rules)


# --- what creeps ----------------------------------------------------------------------------------------------


def test_a_plateau_around_a_minimum_is_not_many_attractors():
    basins = found(gd("x**2/(1 + x**2)"), [(-300, 300)], 201)
    assert [a.kind for a in basins.attractors] == ["minimum"]
    assert_allclose(basins.attractors[0].theta, 0, atol=1e-9)
    # GD from x takes about x⁴/0.8 steps, 11 from where 20,000 are enough: beyond, and beyond what counts as near (a
    # twentieth of the box), nothing is decided
    (x,) = basins.coordinates()
    assert (basins.labels[np.abs(x) < 10] == 0).all()
    assert (basins.labels[np.abs(x) > 35] == -1).all()


def test_momentum_makes_no_attractors_of_a_plateau_and_hides_none_beside_what_still_creeps():
    # From |x| = 4 to 6 runs have still not come to the minimum, a grain (3) away from those that have.
    basins = found(gd("tanh(x)**2", momentum=0.9), [(-300, 300)], 201, max_steps=3_000)
    assert [(a.kind, a.period) for a in basins.attractors] == [("minimum", 1)]
    assert (basins.labels[np.abs(basins.coordinates()[0]) > 35] == -1).all()


@pytest.mark.parametrize("method", [fd.GD(1e-9), fd.GD(1e-9, momentum=0.9), fd.SAM(1e-9, 0.1)])
def test_steps_that_are_too_small_settle_nothing(method):
    basins = found(fd.Iteration(H, method), [(-5, 5)] * 2, 16)
    assert basins.attractors == []
    assert basins.counts()["undecided"] == 16 * 16
    assert not basin_entropy(basins).is_fractal


CREEPING = {
    "exponential": (gd("exp(-x)", lr=0.01), [(-1, 300)]),  # x = ln(lr k), and standing still to the last digit from 37
    "logarithm": (gd("log(1 + x**2)", lr=1e-9), [(2, 300)]),
    "ravine": (gd("exp(-x) + y**2", "x y", lr=0.01), [(-1, 300), (-1, 1)]),
    "bouncing": (gd("1e-7*x + 10*y**2", "x y", lr=0.0999), [(-1, 1)] * 2),
    "momentum": (gd("1/x", lr=1e-3, momentum=0.9), [(2, 50)]),
    "a saddle": (gd("x**2/2 - y**2/2", "x y", lr=2e-4), [(-2, 2), (-1e-9, 2e-9)]),
    "every point": (fd.Map(lambda t: t, 1), [(-1, 1)]),
}


@pytest.mark.parametrize("name", CREEPING)
def test_what_creeps_is_undecided(name):
    process, box = CREEPING[name]
    basins = found(process, box, 16)
    assert basins.attractors == []


def test_noise_on_a_plateau_does_not_make_attractors():
    process = fd.Iteration(L("x**2/(1 + x**2)", "x"), fd.GD(0.1), fd.noise.Gaussian(1e-3))
    basins = found(process, [(-300, 300)], 64, max_steps=2000, key=jax.random.key(0))
    assert [a.kind for a in basins.attractors] == ["minimum"]


def test_where_32_bits_stand_still_is_no_attractor():
    with jax.enable_x64(False):  # a step of 2e-9 is less than the rounding of every start that is not near 0
        basins = found(gd("x**2", lr=1e-9), [(1.0, 3.0)], 32)
        assert basins.final.dtype == np.float32
        assert (basins.final[:, 0] == np.linspace(1, 3, 32, dtype=np.float32)).all()
    assert basins.attractors == []


# --- what is slow, and real -----------------------------------------------------------------------------------

REAL = {
    "x^4": (gd("x**4"), [(-1, 1)], [0.0]),  # as (8 lr k)^(-1/2)
    "x^4 across": (gd("x**4 + y**2", "x y"), [(-1, 1)] * 2, [0.0, 0.0]),
    "a kink": (fd.Map(lambda t: t - 1e-3 * jnp.sign(t), 1), [(-1, 1)], [0.0]),
    "a saddle on its own manifold": (gd("x**2/2 - y**2/2", "x y"), [(-1, 1), (-1, 1)], [0.0, 0.0]),
    "a tiny band": (fd.Iteration(L("x**2", "x"), fd.SAM(1e-3, 1e-3)), [(-1, 1)], [0.0]),
}


@pytest.mark.parametrize("name", REAL)
def test_what_comes_to_rest_slowly_or_in_its_own_way_is_found(name):
    process, box, where = REAL[name]
    (attractor,) = found(process, box, 17).attractors
    assert_allclose(attractor.theta, where, atol=0.01)  # a grain: a 200th of the box


def test_a_level_valley_is_found():
    level = found(gd("(a*b - 1)**2", "a b", lr=0.05), [(0.5, 2)] * 2, 16)
    assert level.attractors
    for attractor in level.attractors:
        assert attractor.kind == "degenerate"
        assert_allclose(attractor.points.prod(axis=1), 1, atol=1e-6)


def test_undecided_points_do_not_make_a_boundary_fractal():
    """Three labels side by side in every box are beyond ln 2; with as many undecided points around, nothing is."""
    thirds = np.arange(60) % 3 * np.ones((60, 1), int)
    assert basin_entropy(painted(thirds), 3).is_fractal
    hidden = np.full((60, 60), -1)
    hidden[:6, :6] = thirds[:6, :6]
    entropy = basin_entropy(painted(hidden), 3)
    assert entropy.boundary == pytest.approx(np.log(3))
    assert entropy.boundary_least < np.log(2)
    assert not entropy.is_fractal
    nothing = basin_entropy(painted(np.full((60, 60), -1)), 3)
    assert nothing.boxes == 0
    assert np.isnan(nothing.value)
    assert not nothing.is_fractal


# --- starts at one place, memory, interrupts ------------------------------------------------------------------


def test_runs_from_a_single_place_end_at_one_attractor():
    halving = fd.Map(lambda t: 3 + (t - 3) / 2, 2)  # no box of its own: the scale is how far the runs go
    for place in ([0.0, 0.0], [3.0, 3.0], [1e6, 0.0]):
        sample = fd.basin_fractions(
            halving, lambda key, n, place=place: np.tile(place, (n, 1)), 5, jax.random.key(0), bound=1e9
        )
        assert list(sample.fractions().values()) == [1, 0, 0]
        assert_allclose(sample.attractors[0].theta, 3, atol=1e-6)
    point = fd.basin_fractions(
        fd.Iteration(H, fd.GD(1e-3)), lambda key, n: np.tile([1.0, 1.0], (n, 1)), 1, jax.random.key(0)
    )
    assert [a.kind for a in point.attractors] == ["minimum"]
    share, error = fd.basin_stability(
        halving, (3.0, 3.0), lambda key, n: 5 + 1e-17 * jax.random.normal(key, (n, 2)), 3, jax.random.key(0)
    )
    assert share == 1
    assert error < 1
    curve = fd.fractions_in(
        lambda x: fd.Map(Halving(x, wells=1), 1),
        "x",
        [3.0, 3.1],
        lambda key, n: np.zeros((n, 1)),
        3,
        jax.random.key(0),
    )
    assert curve.fractions.shape == (2, 3)  # one attractor throughout, diverged, undecided
    assert (curve.fractions[:, 0] == 1).all()


def test_what_does_not_fit_into_memory_is_refused_before_it_is_taken():
    process = fd.Iteration(H, fd.GD(1e-3))
    with pytest.raises(ValueError, match=r"the map would take .*TiB.*smaller `resolution`"):
        fd.map_basins(process, None, 3_000_000)
    with pytest.raises(ValueError, match=r"the runs would take .*fewer `runs`"):
        fd.basin_fractions(process, H.box, 10**13, jax.random.key(0))


def test_traps_are_tested_in_pieces_that_fit(monkeypatch):
    """Traps in pieces are those of all at once."""
    process = fd.Iteration(H, fd.GD(1e-2))
    call = process, [(-5, 5)] * 2, 9, [(3.0, 2.0), (-2.805118, 3.131312)]
    whole = fd.map_basins(*call, max_steps=100)
    monkeypatch.setattr(attractors, "_TRAP_BYTES", 200 * 8 * 66 * 2)
    parts = fd.map_basins(*call, max_steps=100)
    assert (whole.labels == parts.labels).all()
    assert (whole.steps == parts.steps).all()


INTERRUPTED = """
import signal, sys, threading, time
import flatdyn as fd
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without it
process = fd.Iteration(fd.landscapes.himmelblau(), fd.SAM(1e-3, 1.0))  # whose bands never repeat themselves
walk = fd.basins.walks.Walkers.walk
def begun(self, starts):
    threading.Timer(2.0, lambda: (print(time.time()), signal.raise_signal(signal.SIGINT))).start()
    return walk(self, starts)
fd.basins.walks.Walkers.walk = begun
try:
    fd.map_basins(process, None, 64, max_steps=10**9, progress=True)
except KeyboardInterrupt:
    print(time.time())
"""


def test_ctrl_c_is_heard_while_attractors_are_looked_for():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    sent, heard = map(float, done.stdout.split())
    assert heard - sent < 4  # two seconds, and as much again for a machine with other work
    assert "steps in search of attractors" in done.stderr  # the bar


def test_what_walks_take_is_known_before():
    """Positions of tails and ends, twice; how many scouts there are follows from it."""
    walkers = fd.basins.walks.Walkers(fd.Map(lambda t: t / 2, 3), 4 * fd.basins.walks.SAMPLES, 1e3, None, False)
    with jax.enable_x64(True):
        found = walkers.walk(np.ones((5, 3)))
    assert fd.basins.walks.bytes_of(5, 3) == 2 * (found.tails.nbytes + found.ends.nbytes)
