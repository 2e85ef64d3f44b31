"""Many runs: what is kept, statuses, and that nothing depends on how the work is cut."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.core.segments import next_cut
from flatdyn.methods import State
from flatdyn.runs import devices, ensembles, queues

L = fd.landscapes.himmelblau()
GRID = np.random.default_rng(0).uniform(-5, 5, (100, 2))


def test_shapes_and_times():
    many = fd.simulate(fd.Iteration(L, fd.GD(1e-3)), GRID, 10, every=3)
    assert many.theta.shape == (100, 4, 2)
    assert_array_equal(many.times, [0, 3, 6, 9])
    assert many.final.shape == (100, 2)
    assert many.status.shape == many.steps.shape == (100,)
    assert_array_equal(many.theta[:, 0], GRID)
    one = fd.simulate(fd.Iteration(L, fd.GD(1e-3)), GRID[0], 10)
    assert one.theta.shape == (11, 2)
    assert one.status.shape == ()
    assert_array_equal(one.theta[-1], one.final)
    none = fd.simulate(fd.Iteration(L, fd.GD(1e-3)), GRID, 0)
    assert_array_equal(none.theta, GRID[:, None])


@given(st.integers(0, 60), st.integers(1, 70), st.lists(st.integers(1, 80), min_size=1, max_size=30))
def test_segments_cover_all_steps_and_stop_at_kept_positions(steps, every, lengths):
    done, kept, lengths = 0, [], lengths * (steps + 1)
    for length in lengths:
        if done == steps:
            break
        now = next_cut(done, steps, length, every=every, most=7 * every)
        assert 1 <= now <= min(length, 7 * every)
        periods = max(now // every, 1)
        if now >= every:
            assert now % every == done % every == 0
        assert now == min(length, steps - done, every - done % every) or now >= every
        done += now
        if done % every == 0:
            kept += range(done // every - periods + 1, done // every + 1)
    assert done == steps
    assert kept == list(range(1, steps // every + 1))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_what_is_kept_does_not_depend_on_every(steps, every):
    process = fd.Iteration(L, fd.SAM(1e-3, 0.1))
    full, thinned = fd.simulate(process, GRID[:3], steps), fd.simulate(process, GRID[:3], steps, every=every)
    assert_array_equal(thinned.theta, full.theta[:, ::every])
    assert_array_equal(thinned.final, full.final)


@pytest.mark.optimised
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [fd.noise.Exact(), fd.noise.Gaussian(1.0, 4)])
def test_chunks_do_not_change_a_bit(noise, dtype):
    process = fd.Iteration(L, fd.SAM(1e-3, 0.1, momentum=0.5), noise)
    runs = [
        fd.simulate(process, GRID.astype(dtype), 50, key=jax.random.key(1), every=10, chunk=chunk)
        for chunk in (None, 33)
    ]
    for other in runs[1:]:
        assert_array_equal(other.theta, runs[0].theta)
        assert_array_equal(other.status, runs[0].status)
    assert runs[0].theta.dtype == dtype


def test_keys_change_the_noise_and_nothing_else_does():
    process = fd.Iteration(L, fd.GD(1e-3), fd.noise.Gaussian(1.0))
    a, b, c = (fd.simulate(process, GRID, 5, jax.random.key(k)).final for k in (0, 0, 1))
    assert_array_equal(a, b)
    assert (a != c).all()
    # runs from the same start differ from each other
    same = fd.simulate(process, np.zeros((50, 2)), 1, jax.random.key(0)).final
    assert len(np.unique(same)) == 100


# --- statuses -------------------------------------------------------------------------------------------------


def test_a_run_that_overflows_is_diverged_and_keeps_its_last_good_position():
    run = fd.simulate(fd.Iteration(L, fd.GD(0.01)), np.array([[50.0, 50.0], [3.0, 2.0]]), 50)
    assert_array_equal(run.status, [fd.Status.DIVERGED, fd.Status.CONVERGED])
    assert np.isfinite(run.theta).all()
    assert run.steps[0] < 10
    assert run.steps[1] == 50
    assert_array_equal(run.theta[0, run.steps[0] :], np.tile(run.final[0], (51 - run.steps[0], 1)))
    assert run.counts() == {"UNDECIDED": 0, "CONVERGED": 1, "DIVERGED": 1, "IMPOSSIBLE": 0}


def test_a_bound_stops_runs_that_leave_it():
    q = fd.landscapes.saddle()
    run = fd.simulate(fd.Iteration(q, fd.GD(0.1)), np.array([[0.0, 1.0], [1.0, 0.0]]), 500, bound=10.0)
    assert_array_equal(run.status, [fd.Status.DIVERGED, fd.Status.UNDECIDED])  # the other one ends on the saddle
    # y grows by 1.2 a step: 1.2^12 = 8.9, 1.2^13 = 10.7
    assert run.steps[0] == 12
    assert_allclose(run.final[0], [0, 1.2**12])


def test_a_cycle_is_not_converged():
    # SAM's period-2 orbit w → −w of amplitude ηρλ/(2 − ηλ)
    line = fd.landscapes.saddle((2.0,))
    run = fd.simulate(fd.Iteration(line, fd.SAM(0.01, 0.5)), np.array([0.3]), 2000)
    assert run.status == fd.Status.UNDECIDED
    assert_allclose(abs(run.theta[-2:, 0]), 0.01 * 0.5 * 2 / (2 - 0.01 * 2), rtol=1e-10)


def test_nan_of_a_users_map_is_a_status():
    process = fd.Map(lambda t: jnp.log(t), dim=1)
    run = fd.simulate(process, np.array([[2.0], [0.5]]), 10)
    assert_array_equal(run.status, [fd.Status.DIVERGED] * 2)
    assert np.isfinite(run.theta).all()


def test_overflow_of_the_velocity_counts():
    class Growing(fd.Process):
        dim: int = 1
        box: None = None

        def init(self, theta):
            return State(theta, jnp.ones_like(theta))

        def step(self, state, key=None):
            return State(state.theta, state.velocity * 1e200)

        def position(self, state):
            return state.theta

    run = fd.simulate(Growing(), np.array([1.0]), 5)
    assert run.status == fd.Status.DIVERGED
    assert run.steps == 1


# --- any process ----------------------------------------------------------------------------------------------


def test_newtons_map_converges_quadratically_to_a_critical_point():
    newton = fd.Map(lambda t: t - jnp.linalg.solve(L.hessian(t), L.grad(t)), dim=2)
    run = fd.simulate(newton, np.array([2.8, 2.2]), 8)
    assert run.status == fd.Status.CONVERGED
    assert_allclose(run.final, [3, 2], rtol=1e-14)


def test_a_users_random_process_gets_a_jax_key():
    class Walk(fd.Process):
        dim: int = 2
        box: None = None
        random = True

        def init(self, theta):
            return theta

        def step(self, state, key=None):
            return state + jax.random.normal(key, (2,))

        def position(self, state):
            return state

    run = fd.simulate(Walk(), np.zeros((20_000, 2)), 10, key=jax.random.key(0), every=10)
    # variance 10 after ten steps; five standard errors
    assert_allclose(run.final.var(axis=0), 10, atol=5 * 10 * np.sqrt(2 / 20_000))


def test_a_state_may_hold_whole_numbers():
    class Counting(fd.Process):
        dim: int = 1
        box: None = None

        def init(self, theta):
            return theta, jnp.array(0)

        def step(self, state, key=None):
            return state[0] + state[1], state[1] + 1

        def position(self, state):
            return state[0]

    assert fd.simulate(Counting(), np.zeros(1), 5).final == 0 + 1 + 2 + 3 + 4


def test_probe_sees_what_the_step_uses():
    process = fd.Iteration(L, fd.SAM(1e-3, 0.3))
    theta = jnp.asarray(GRID)
    seen = fd.probe(process, theta)
    assert_allclose(jnp.linalg.norm(seen.perturbed - theta, axis=-1), 0.3, rtol=1e-13)
    stepped = fd.simulate(process, GRID, 1).final
    assert_allclose(stepped, theta - 1e-3 * seen.followed, rtol=1e-13)
    cosine = jnp.sum(seen.gradient * seen.followed, -1) / (
        jnp.linalg.norm(seen.gradient, axis=-1) * jnp.linalg.norm(seen.followed, axis=-1)
    )
    assert_allclose(seen.cosine, cosine, rtol=1e-12)
    assert_array_equal(fd.probe(fd.Iteration(L, fd.GD(0.1)), theta).cosine.round(12), 1)


# --- bad input ------------------------------------------------------------------------------------------------

P = fd.Iteration(L, fd.GD(1e-3))
BAD = [
    (lambda: fd.simulate(P, np.zeros(3), 1), r"shape \(2,\) or \(runs, 2\), got \(3,\)"),
    (lambda: fd.simulate(P, np.zeros((2, 2, 2)), 1), r"got \(2, 2, 2\)"),
    (lambda: fd.simulate(P, np.zeros((0, 2)), 1), "at least one point"),
    (lambda: fd.simulate(P, np.array([1, 2]), 1), "floating-point.*int64.*astype"),
    (lambda: fd.simulate(P, [np.nan, 0.0], 1), "finite.*nan"),
    (lambda: fd.simulate(P, GRID, -1), "steps must be a whole number >= 0, got -1"),
    (lambda: fd.simulate(P, GRID, 1.5), "steps must be a whole number, got 1.5"),
    (lambda: fd.simulate(P, GRID, 5, every=0), "every must be a whole number >= 1, got 0"),
    (lambda: fd.simulate(P, GRID, 5, chunk=0), "chunk must be"),
    (lambda: fd.simulate(P, GRID, 5, bound=0.0), "bound must be > 0"),
    (lambda: fd.simulate(P, GRID, 5, tol=-1.0), "tol must be"),
    (lambda: fd.simulate(P, GRID, 10**10), "GiB.*larger `every`"),
    (lambda: fd.simulate(fd.Iteration(L, fd.GD(sympy.Symbol("eta"))), GRID, 1), "eta is a symbol"),
    (lambda: fd.Map(lambda t: t[:1], dim=2), r"shape \(2,\) to shape \(2,\)"),
    (lambda: fd.Map(lambda t: t, dim=0), "dim must be"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_refused_with_a_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_probe_of_an_optax_optimiser_is_refused():
    import optax

    with pytest.raises(TypeError, match="follows one gradient"):
        fd.probe(fd.Iteration(L, fd.from_optax(optax.sgd(0.1))), GRID)


def test_a_new_value_needs_no_new_program():
    traces = []

    def loss(theta):
        traces.append(1)
        return theta @ theta

    landscape = fd.Landscape.from_function(loss, 2)
    fd.simulate(fd.Iteration(landscape, fd.SAM(0.1, 0.1)), GRID, 20)
    before = len(traces)
    for rho in (0, 0.2, 1):
        fd.simulate(fd.Iteration(landscape, fd.SAM(0.2, rho)), GRID, 30)
    assert len(traces) == before


def test_filter_jit_sees_a_process_as_arrays():
    from flatdyn.runs.stepping import prepared

    process = prepared(fd.Iteration(L, fd.SAM(1, 0.5)), jnp.float32)
    numbers = jax.tree.leaves(eqx.filter(process, eqx.is_array))
    assert all(leaf.dtype == jnp.float32 for leaf in numbers)
    assert sorted(map(float, numbers)) == [0, 0, 0, 0, 0.5, 1]  # μ, ε, weight decay, dampening; ρ; η


def test_runs_that_do_not_fit_are_cut(monkeypatch):
    process, starts = fd.Iteration(L, fd.GD(1e-3)), np.tile([1.0, 1.0], (128, 1))
    whole, segment = fd.simulate(process, starts, 5), ensembles._segment
    out_of_memory = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80000000000 bytes.")

    def small(program, carry, *args):
        if len(carry.runs.alive) > 64:
            raise out_of_memory
        return segment(program, carry, *args)

    monkeypatch.setattr(ensembles, "_segment", small)
    with pytest.warns(UserWarning, match="runs at once do not fit into the device's memory: going on with chunk=64"):
        assert_array_equal(fd.simulate(process, starts, 5).theta, whole.theta)
    monkeypatch.setattr(ensembles, "_segment", lambda *_: (_ for _ in ()).throw(out_of_memory))
    with (
        pytest.warns(UserWarning, match="chunk="),
        pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"),
    ):
        fd.simulate(process, starts, 5)


def test_lanes_that_do_not_fit_are_cut(monkeypatch):
    process, ball = fd.Iteration(L, fd.GD(0.01)), fd.escape.Ball([1.0, 1.0], 0.1)
    ask = lambda: fd.escape_times(process, [1.0, 1.0], ball, runs=1000, max_steps=100)  # noqa: E731
    whole, advance = ask(), queues._advance

    def small(process, found, *args):
        if len(found.ended) > 256:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80000000000 bytes.")
        return advance(process, found, *args)

    monkeypatch.setattr(queues, "_advance", small)
    with pytest.warns(UserWarning, match="going on with chunk=256"):
        assert_array_equal(ask().steps, whole.steps)


def test_only_what_does_not_fit_is_cut_and_only_while_fewer_could_do():
    full, other = "RESOURCE_EXHAUSTED: Out of memory", "INTERNAL: something else"
    for size, text, kind in ((64, full, devices.TooMany), (64, other, None), (1, full, None), (1, other, None)):
        with pytest.raises(RuntimeError) as raised, devices.memory_guard(size):
            raise jax.errors.JaxRuntimeError(text)
        assert type(raised.value) is (kind or jax.errors.JaxRuntimeError)


@pytest.mark.optimised
def test_chunks_of_many_coordinates_do_not_change_a_bit_either():
    # Kept one by one (an expression), where 64 runs at least go side by side, and as one array (a function)
    wide = fd.landscapes.saddle(np.linspace(-1.0, 2.0, 12))
    curved = fd.Landscape.from_function(lambda t: jnp.sum(jnp.sin(t) * jnp.exp(-t) + t**4 / 4), dim=40)
    for landscape, dtype, runs, chunks in ((wide, np.float32, 100, (100, 50)), (curved, float, 37, (37, 13, 1))):
        starts = np.random.default_rng(0).normal(size=(runs, landscape.dim)).astype(dtype)
        process = fd.Iteration(landscape, fd.SAM(0.01, 0.1, momentum=0.5), fd.noise.Gaussian(0.3))
        ends = [fd.simulate(process, starts, 60, jax.random.key(0), 60, chunk=chunk).final for chunk in chunks]
        for other in ends[1:]:
            assert_array_equal(other, ends[0])
