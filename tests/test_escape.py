"""First passages by simulation: against the exact law, whatever the work is cut into, and for every region."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import survival
from flatdyn.core import segments
from flatdyn.escape import Ball, Box, HalfSpace, Sublevel
from flatdyn.runs import queues

pytestmark = pytest.mark.optimised  # thousands of runs, of thousands of steps: longer than what compiling them takes

SETS = json.loads((Path(__file__).parent / "data" / "reference.json").read_text())["5_escape"]["discrete_exit"]["sets"]
LINE = fd.landscapes.saddle((-1.0,))
KEYS = [0, pytest.param(1, marks=pytest.mark.slow)]  # of expensive tests, whose bounds are passed once in 10⁴ by chance
ORIGIN = np.zeros(1)


def noisy(method, scale=1.0, batch_size=16, ascent="shared", landscape=LINE):
    return fd.Iteration(landscape, method, fd.noise.Gaussian(scale, batch_size), ascent=ascent)


def escapes(process, runs, key, **options):
    return fd.escape_times(process, ORIGIN, Ball([0.0], 1.0), runs, 100_000, jax.random.key(key), **options)


@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize(
    ("name", "process", "runs"),
    [
        ("sgd_B16", noisy(fd.GD(0.1)), 100_000),
        ("sam_shared_rho0.2_B16", noisy(fd.SAM(0.1, 0.2)), 100_000),
        ("sam_full_rho0.1_B16", noisy(fd.SAM(0.1, 0.1), ascent="full"), 20_000),
        pytest.param("usam_full_rho0.5_B16", noisy(fd.USAM(0.1, 0.5), ascent="full"), 20_000, marks=pytest.mark.slow),
        ("hb_sgd_beta0.5", noisy(fd.GD(0.05, 0.5), 0.5, 1), 50_000),
        pytest.param(
            "hb_sam_full_rho0.1_beta0.5", noisy(fd.SAM(0.05, 0.1, 0.5), 0.5, 1, "full"), 20_000, marks=pytest.mark.slow
        ),
        ("hb_usam_full_rho0.5_beta0.9", noisy(fd.USAM(0.05, 0.5, 0.9), 0.5, 1, "full"), 50_000),
    ],
)
def test_simulated_exits_follow_the_exact_law(name, process, runs, key):
    row = SETS[name]
    found = escapes(process, runs, key)
    value, stderr, censored = found.mean()
    assert abs(value - row["mean_exit_step"]) < 4 * stderr
    assert censored == 0
    assert found.median(level=0.9999).lower <= row["median"] <= found.median(level=0.9999).upper
    steps = np.array([k for k in map(int, row["survival"]) if k <= found.steps.max()])
    exact = np.array([min(row["survival"][str(k)], 1.0) for k in steps])  # 1 + 1e-15 in the reference
    curve = found.survival(steps, level=0.9999)  # four standard errors, exact where the share is near 0 or 1
    assert ((curve.lower <= exact) & (exact <= curve.upper)).all()


def test_sharing_the_minibatch_frees_sam_thirtyfold():
    # exact: 83.19 and 2664.2 steps
    shared, full = (escapes(noisy(fd.SAM(0.1, 0.2), ascent=ascent), 1_000, 5) for ascent in ("shared", "full"))
    assert abs(shared.mean().value - 83.18974) < 4 * shared.mean().stderr
    assert abs(full.mean().value - 2664.2279) < 4 * full.mean().stderr
    apart = full.compare(shared)
    assert apart.pvalue < 1e-10
    assert apart.mean_interval[0] < 2664.2279 / 83.18974 < apart.mean_interval[1]


@pytest.mark.parametrize("key", KEYS)
def test_sam_leaves_a_minimum_sooner_than_gradient_descent(key):
    # Independent Monte Carlo and exact laws: 8110 for SGD, 6812 for USAM and 3017 for SAM with noiseless ascent.
    well = fd.Landscape.from_expression("w**4/4 - w**2/2", "w")
    for method, exact in [(fd.GD(0.05), 8110.39), (fd.USAM(0.05, 0.2), 6811.80), (fd.SAM(0.05, 0.2), 3016.73)]:
        process = noisy(method, np.sqrt(2.0), 1, "full", well)
        start, runs = np.array([-0.9], np.float32), 1_000
        found = fd.escape_times(process, start, HalfSpace([1.0]), runs, 200_000, jax.random.key(key))
        # Almost all of the law is its exponential tail, whose standard deviation is the mean; four standard errors.
        assert abs(found.mean().value / exact - 1) < 4 / np.sqrt(runs)


def test_censored_runs_are_counted_and_not_left_out():
    process = noisy(fd.SAM(0.1, 0.2), ascent="full")
    whole = escapes(process, 1_000, 1)
    short = fd.escape_times(process, ORIGIN, Ball([0.0], 1.0), 1_000, 2_000, jax.random.key(1))
    assert_array_equal(short.steps, np.minimum(whole.steps, 2_000))
    assert_array_equal(short.escaped, whole.steps <= 2_000)
    assert short.mean().censored == np.mean(whole.steps > 2_000)
    assert abs(short.mean().value - 2664.2279) < 4 * short.mean().stderr
    assert "tail" in short.mean().estimator
    assert (np.abs(short.exit[~short.escaped]) <= 1).all()
    assert (np.abs(short.exit[short.escaped]) > 1).all()


def test_results_do_not_depend_on_how_the_work_is_cut(monkeypatch):
    process = noisy(fd.SAM(0.1, 0.2))
    whole = escapes(process, 1_000, 3)
    few = escapes(process, 1_000, 3, chunk=300)
    monkeypatch.setattr(segments, "_SEGMENT_SECONDS", 0.0)
    short = escapes(process, 1_000, 3)
    for other in (few, short):
        assert_array_equal(whole.steps, other.steps)
        assert_array_equal(whole.exit, other.exit)
    assert_array_equal(whole.steps[:700], escapes(process, 700, 3).steps)


def test_finished_runs_are_kept_and_another_call_has_its_own(tmp_path, monkeypatch):
    process, store = noisy(fd.SAM(0.1, 0.2)), tmp_path / "runs"
    whole = escapes(process, 1_500, 3)

    class Interrupted(Exception):
        pass

    def stop(work, workers, bar):
        while work.finished.sum() < 200:
            pass
        raise Interrupted

    def put(self, *args):
        keep(self, *args)
        if self.finished.sum() >= 200:  # or all would be finished before the interrupt comes
            assert self.stop.wait(60)

    keep = queues._Work.put
    with monkeypatch.context() as patch:
        patch.setattr(queues, "_oversee", stop)
        patch.setattr(queues._Work, "put", put)
        with pytest.raises(Interrupted):
            escapes(process, 1_500, 3, store=store, chunk=64)
    (file,) = store.glob("*.npz")
    kept, _ = fd.records.load_arrays(file)
    assert 200 <= kept["finished"].sum() < 1_500
    again = escapes(process, 1_500, 3, store=store)
    assert_array_equal(whole.steps, again.steps)
    assert_array_equal(whole.exit, again.exit)
    for other in ((process, 1_500, 4), (noisy(fd.SAM(0.1, 0.21)), 1_500, 3)):
        found = escapes(*other, store=store)
        assert (found.steps != whole.steps).any()
    assert len(list(store.glob("*.npz"))) == 3
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete record"):
        escapes(process, 1_500, 3, store=store)


def test_a_record_survives_saving(tmp_path):
    found = escapes(noisy(fd.GD(0.1)), 200, 0)
    again = fd.escape.Escapes.load(found.save(tmp_path / "x.npz"))
    assert again.mean() == found.mean()
    assert repr(found) == "Escapes(200 escaped; float64)"


def test_regions_hold_what_they_say():
    theta = jnp.array([0.6, 0.8 + 1e-9])
    assert not Ball([0.0, 0.0], 1.0)(theta)
    assert Ball([0.0, 0.1], 1.0)(theta)
    assert Box([(-1, 0.7), (-np.inf, 2)])(theta)
    assert not Box([(-1, 0.5), (-np.inf, 2)])(theta)
    assert HalfSpace([3.0, 4.0], 5.1)(theta)
    assert not HalfSpace([3.0, 4.0], 4.9)(theta)
    q = fd.landscapes.saddle((2.0, -2.0))  # x² − y² is −0.28 there
    assert Sublevel(q, -0.2)(theta)
    assert not Sublevel(q, -0.3)(theta)
    for region in (Ball([0.0, 0.0], 2.0), Box([(-3, 3), (-2, 2)]), HalfSpace([1.0, 0.0], 4.0), Sublevel(q, 1.0)):
        assert region(theta) == (region.score(theta) <= 1)


@pytest.mark.parametrize(
    "method", [fd.GD(0.05), fd.SAM(0.05, 0.1), fd.USAM(0.05, 0.2, 0.5)], ids=lambda m: type(m).__name__
)
def test_a_saddle_is_left_along_its_unstable_direction(method):
    plane = fd.landscapes.saddle((2.0, -1.0))
    process = noisy(method, 0.1, 1, landscape=plane)
    found = fd.escape_times(process, np.zeros(2), Ball([0.0, 0.0], 2.0), 2_000, 10_000, jax.random.key(0))
    assert found.escaped.all()
    assert (np.abs(found.direction[:, 1]) > 0.9).all()
    up = (found.direction[:, 1] > 0).mean()
    assert abs(up - 0.5) < 5 * np.sqrt(0.25 / 2_000)  # symmetry, five binomial standard errors
    assert_allclose(np.linalg.norm(found.direction, axis=1), 1)


def test_a_run_that_leaves_the_numbers_has_escaped():
    # w⁺ = w + η w³ grows without end; the last steps overflow before a radius of 1e300 is passed on the way.
    cubic = fd.Landscape.from_function(lambda w: -(w[0] ** 4) / 4, 1)
    process = fd.Iteration(cubic, fd.GD(1.0), fd.noise.Gaussian(0.0))
    found = fd.escape_times(process, np.array([2.0]), lambda w: jnp.abs(w[0]) < 1e300, 3, 100, jax.random.key(0))
    assert found.escaped.all()
    assert found.diverged.all()
    places = [2.0]
    while np.isfinite(places[-1]):
        with np.errstate(over="ignore"):
            places.append(places[-1] + np.float64(places[-1]) ** 3)
    assert (found.steps == len(places) - 1).all()  # the step that left the numbers counts
    assert_allclose(found.exit[:, 0], places[-2], rtol=1e-9)
    assert_allclose(found.direction, 1)


def test_what_an_escape_record_is_asked_it_asks_of_its_times():
    steps = np.array([3, 5, 5, 8, 13, 20, 20, 21, 34, 40] * 3)
    escaped = np.arange(30) % 4 > 0
    start, moved = np.full((30, 2), 0.25), np.array([[3e-3, -4e-3]] * 30)
    moved[::2] = 0
    record = {"config": {}, "provenance": {}, "diverged": ~escaped & False, "dt": np.asarray(1.0)}
    found = fd.escape.Escapes(steps=steps, escaped=escaped, start=start, exit=start + moved, **record)
    other = fd.escape.Escapes(steps=2 * steps, escaped=escaped, start=start, exit=start, **record)
    assert_allclose(found.direction[1::2], [[0.6, -0.8]] * 15, rtol=1e-12)  # of length 1, however near the end is
    assert (found.direction[::2] == 0).all()
    for size in (1e-200, 1e200):
        away = dataclasses.replace(found, start=size * start, exit=size * (start + 50 * moved))
        assert_allclose(away.direction[1::2], [[0.6, -0.8]] * 15, rtol=1e-12)
    assert found.mean(after=4) == survival.mean(steps, escaped, after=4)
    assert found.median(0.8) == survival.quantile(steps, escaped, 0.5, 0.8)
    assert found.quantile(0.3, 0.8) == survival.quantile(steps, escaped, 0.3, 0.8)
    assert found.rate(6, 0.8) == survival.rate(steps, escaped, 6, 0.8)
    assert_array_equal(found.survival([4, 9], 0.8), survival.survival(steps, escaped, [4, 9], 0.8))
    assert found.compare(other, 0.8) == survival.compare((steps, escaped), (2 * steps, escaped), 0.8)
    assert found.compare(other).hazard_ratio > 1  # it leaves sooner


def test_the_time_of_a_step_is_kept():
    slow = fd.flows.Diffusion(LINE, fd.GD(0.1), fd.noise.Gaussian(1.0), dt=0.02)
    assert fd.escape_times(slow, ORIGIN, Ball([0.0], 1.0), 3, 5, jax.random.key(0)).dt == 0.02
    assert fd.escape_times(noisy(fd.GD(0.1)), ORIGIN, Ball([0.0], 1.0), 3, 5, jax.random.key(0)).dt == 1


def test_a_deterministic_process_can_be_asked_too():
    found = fd.escape_times(fd.Iteration(LINE, fd.GD(0.1)), np.array([0.01]), Ball([0.0], 1.0), 3)
    assert (found.steps == np.ceil(np.log(100) / np.log(1.1))).all()  # 0.01 · 1.1ᵏ > 1


def test_another_radius_or_hyperparameter_needs_no_new_program():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )

    def ask(lr, radius):
        region = Ball(ORIGIN, radius)
        return fd.escape_times(noisy(fd.SAM(lr, 0.2)), ORIGIN, region, 300, 10_000, jax.random.key(0))

    ask(0.1, 1.0)
    compiled.clear()
    ask(0.11, 0.9)
    assert not [name for name in compiled if "compile" in name]


def test_bad_questions_are_refused():
    process, ball = noisy(fd.GD(0.1)), Ball([0.0], 1.0)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"every start must be inside the region, got \[2\.\]"):
        fd.escape_times(process, np.array([2.0]), ball, 10, 10, key)
    with pytest.raises(ValueError, match="key="):
        fd.escape_times(process, ORIGIN, ball, 10, 10)
    with pytest.raises(ValueError, match="runs must be given"):
        fd.escape_times(process, ORIGIN, ball, None, 10, key)
    with pytest.raises(ValueError, match="theta0 holds 3 starts, but runs=2"):
        fd.escape_times(process, np.zeros((3, 1)), ball, 2, 10, key)
    with pytest.raises(ValueError, match="theta0 must have shape"):
        fd.escape_times(process, np.zeros(2), ball, 2, 10, key)
    with pytest.raises(ValueError, match="max_steps"):
        fd.escape_times(process, ORIGIN, ball, 2, 2**31, key)
    with pytest.raises(TypeError, match="inside must be a function"):
        fd.escape_times(process, ORIGIN, 1.0, 2, 10, key)
    with pytest.raises(ValueError, match="one boolean"):
        fd.escape_times(process, ORIGIN, lambda w: w < 1, 2, 10, key)
    with pytest.raises(ValueError, match="radius must be finite and > 0"):
        Ball([0.0], 0.0)
    with pytest.raises(ValueError, match="lower < upper"):
        Box([(1, 0)])
    with pytest.raises(ValueError, match="normal must not be zero"):
        HalfSpace([0.0])


# --- splitting ------------------------------------------------------------------------------------------------

WELL = fd.Landscape.from_expression("w**4/4 - w**2/2", "w")
OUT = HalfSpace([1.0], 0.0)


RARE = {
    "GD": noisy(fd.GD(0.05), np.sqrt(0.6), 1, landscape=WELL),  # 9e8 steps
    "SAM": noisy(fd.SAM(0.05, 0.2), np.sqrt(0.5), 1, landscape=WELL),  # 3e8 steps
    "heavy ball": noisy(fd.GD(0.05, 0.5), 1.0, 1, landscape=WELL),  # 5e3; with a velocity that is part of the state
}


WALKERS = {"walkers": 200, "replicates": 20}  # one number for all tests, so that they share programs


@functools.cache
def exact_mean(name):
    # The coarse panels for pairs of points change the mean by 1e-5 of itself; splitting knows it to a tenth.
    return fd.escape.exit_law(RARE[name], (-3.5, 0.0), -1.0, panels=10 if name == "heavy ball" else None).mean


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ["GD", pytest.param("SAM", marks=pytest.mark.slow), "heavy ball"])
def test_splitting_finds_rare_escapes(name, key):
    exact = exact_mean(name)
    found = fd.escape.multilevel_splitting(RARE[name], np.array([-1.0]), OUT, jax.random.key(key), **WALKERS)
    # The error comes from 20 replicates: 4.6 of them are passed once in 10⁴ (Student's t, 19 degrees of freedom).
    assert abs(1 / found.mean - 1 / exact) < 4.6 * found.stderr / found.mean**2
    assert found.stderr < 0.25 * found.mean
    assert found.steps < 0.2 * exact or exact < 1e5
    assert found.levels[-1] == 1
    assert_allclose(found.mean * found.rates.mean(), 1, rtol=1e-12)
    assert_allclose(found.stderr, found.mean**2 * found.rates.std(ddof=1) / np.sqrt(20), rtol=1e-12)
    assert len(found.chances) == len(found.levels) - 2
    # what is shown of it multiplies to the rate, up to the correlation of its factors over the replicates
    assert abs(found.chances.prod() / found.gap * found.mean - 1) < 4 * found.stderr / found.mean
    if name == "heavy ball" and key == 0:  # the same levels, given: other random numbers, the same rate
        levels = list(found.levels[:-1])
        again = fd.escape.multilevel_splitting(
            RARE[name], np.array([-1.0]), OUT, jax.random.key(5), levels=levels, **WALKERS
        )
        assert_allclose(again.levels, found.levels, rtol=1e-12)
        assert abs(1 / again.mean - 1 / exact) < 4.6 * again.stderr / again.mean**2
    if name == "GD":
        gap, error = time_between_departures(RARE[name], *found.levels[:2], jax.random.key(key))
        # Splitting's own gap comes from 32,000 departures, that of the plain run from some 10,000: 5 errors, and 2 %
        assert abs(found.gap - gap) < 5 * error + 0.02 * gap


def time_between_departures(process, core, first, key):
    """Mean steps from one departure out of the core to the next in plain runs, with its standard error."""
    run = fd.simulate(process, np.full((200, 1), -1.0), 5000, key)
    scores = np.asarray(jax.jit(jax.vmap(jax.vmap(OUT.score)))(run.theta))
    ready, counts = np.zeros(200, bool), np.zeros(200)
    for step in range(scores.shape[1]):
        ready |= scores[:, step] < core
        departed = ready & (scores[:, step] >= first)
        ready &= ~departed
        counts += departed & (step > 1000)  # by then the start is forgotten
    rates = counts / 4000
    return 1 / rates.mean(), rates.std(ddof=1) / np.sqrt(200) / rates.mean() ** 2


def test_splitting_refuses_what_it_cannot_do():
    process, at, key = noisy(fd.GD(0.05), 1.0, 1, landscape=WELL), np.array([-1.0]), jax.random.key(0)
    with pytest.raises(ValueError, match="not rare"):
        fd.escape.multilevel_splitting(noisy(fd.GD(0.05), 3.0, 1, landscape=WELL), at, OUT, key, **WALKERS)
    with pytest.raises(TypeError, match="needs a score"):
        fd.escape.multilevel_splitting(process, at, lambda w: w[0] < 0, key)
    with pytest.raises(ValueError, match=r"scores are 0.5 \(median\) and 0.5 \(90 %\): they must differ"):
        fd.escape.multilevel_splitting(
            process, at, OUT, key, score=lambda w: 0 * w[0] + 0.5, walkers=10, replicates=2, relax=1
        )
    with pytest.raises(ValueError, match="levels must increase"):
        fd.escape.multilevel_splitting(process, at, OUT, key, levels=[0.3, 0.2])
    with pytest.raises(ValueError, match="within max_steps"):
        fd.escape.multilevel_splitting(process, at, OUT, key, max_steps=3, **WALKERS)
    with pytest.raises(TypeError, match="only a random process"):
        fd.escape.multilevel_splitting(fd.Iteration(WELL, fd.GD(0.05)), at, OUT, key)
