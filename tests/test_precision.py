"""32 and 64 bits: lengths of any size, rest that is rest, float32 starts anywhere, answers that need 64 bits."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import flows, noise
from flatdyn.core.algebra import Vector, norm, scaled
from flatdyn.escape import Ball, HalfSpace
from flatdyn.runs import stepping

x, y = sympy.symbols("x y", real=True)
KINDS = (np.float32, np.float64)
BEALE, HIMMELBLAU = fd.landscapes.beale(), fd.landscapes.himmelblau()


def on(expression, *symbols, box=2.0):
    return fd.Landscape.from_expression(expression, symbols or (x,), box=((-box, box),) * len(symbols or (x,)))


# --- lengths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_is_right_at_any_size(kind):
    info = np.finfo(kind)
    exponents = np.arange(info.minexp + 2, info.maxexp - 3)
    sizes = np.ldexp(np.ones(1, kind), exponents).astype(kind)
    lengths = np.asarray(jax.jit(jax.vmap(lambda s: norm(Vector((3 * s, -4 * s)))))(jnp.asarray(sizes)))
    assert lengths.dtype == kind
    assert_array_equal(lengths, 5 * sizes)  # 3, 4, 5: nothing is rounded
    arrays = np.asarray(jax.jit(jax.vmap(lambda s: norm(s * jnp.array([3, 0, -4], kind))))(jnp.asarray(sizes)))
    assert_array_equal(arrays, 5 * sizes)


@pytest.mark.optimised
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_lengths_are_the_square_root_of_the_squares_to_the_last_bit(kind):
    v = np.random.default_rng(0).normal(size=(1000, 2)).astype(kind)
    own = jax.jit(jax.vmap(lambda v: norm(Vector((v[0], v[1])), 0.0)))(v)
    plain = jax.jit(jax.vmap(lambda v: jnp.sqrt(v[0] * v[0] + v[1] * v[1])))(v)
    assert_array_equal(own, plain)


def test_what_is_not_finite_has_no_length_and_smoothing_is_in_units_of_the_vector():
    length, parts = jax.jit(norm), jax.jit(scaled)
    assert np.isnan(length(np.array([np.inf, 1.0])))
    assert np.isnan(length(np.array([np.nan, 1.0])))
    assert length(np.array([3e-200, 4e-200]), 5e-200) == 1e-199
    assert length(np.array([3e-200, 4e-200]), 1.0) == 1.0
    assert length(np.zeros(2, np.float32), 0.5) == 0.5
    for leaf in (np.array([3e-9, 4e5]), np.array([1e-20, 0.0], np.float32), np.ones(3, jnp.bfloat16)):
        s, unit = parts(leaf)
        assert np.log2(float(s)) % 1 == 0
        assert 2 <= np.abs(np.asarray(unit, float)).sum() <= 4


@pytest.mark.parametrize("size", [1e-100, 1e-8, 1e8, 1e100])
def test_a_direction_has_its_derivative_at_any_size(size):
    def direction(v):
        return v / norm(v)

    unit = np.array([0.6, 0.8])
    exact = (np.eye(2) - np.outer(unit, unit)) / 5
    for derivative in (jax.jacfwd, jax.jacrev):
        # a dozen roundings; entries are of order 1/5
        found = jax.jit(derivative(direction))(size * np.array([3.0, 4.0]))
        assert_allclose(found * size, exact, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_sam_looks_by_rho_however_small_the_gradient(kind):
    tiny = {np.float32: 1e-8, np.float64: 1e-60}[kind]
    start = np.array([tiny], kind)
    run = fd.simulate(fd.Iteration(on(x**4), fd.SAM(0.1, 0.5)), start, 1)
    assert_allclose(run.final, [-0.1 * 4 * 0.5**3], rtol=1e-6)
    assert run.status == fd.Status.UNDECIDED
    # In the plane: the gradient is (3, -4) units, of which the square vanishes, or overflows.
    for power in (-0.75, 0.55):
        unit = float(np.finfo(kind).max) ** power
        plane = fd.Iteration(on(unit * (3 * x - 4 * y), x, y), fd.SAM(0.1, 0.5))
        found = fd.probe(plane, np.array([1.0, 1.0], kind))
        assert_allclose(found.perturbed, [1.3, 0.6], rtol=1e-6)
        assert_allclose(found.cosine, 1, rtol=1e-6)
    adaptive = fd.Iteration(on(unit**-1 * (3 * x - 4 * y), x, y), fd.ASAM(0.1, 0.5, shift=0.0))
    assert_allclose(fd.probe(adaptive, np.array([1.0, 1.0], kind)).perturbed, [1.3, 0.6], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power", [-0.8, 0.8])
def test_regions_of_any_size(kind, power):
    unit = kind(float(np.finfo(kind).max) ** (power / 1.5))
    ball = Ball(np.zeros(2), 5 * float(unit))
    assert bool(ball(unit * jnp.array([3, 3.9], kind)))
    assert not bool(ball(unit * jnp.array([3, 4.1], kind)))
    # the normal's length does not matter: 3, 4, 5
    half = HalfSpace(float(unit) * np.array([3.0, 4.0]), 0.0)
    assert_allclose(half.score(jnp.array([3, 4], kind)), 1 + 5, rtol=1e-6)


def test_a_flow_arrives_where_it_jumps_on_a_loss_of_any_size():
    for unit in (1e-200, 1.0, 1e200):
        bowl = fd.Landscape.from_expression("s*(x**2/2 + y**2)", "x y", parameters={"s": unit})  # one program for all
        flow = flows.Flow(bowl, fd.SAM(0.01 / unit, 0.1))
        run = fd.simulate(flow, np.array([0.05, 0.02]), 200, every=200)
        assert run.status == fd.Status.CONVERGED
        assert_allclose(run.final, 0, atol=1e-4)  # it stops within a step of the minimum


# --- rest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [fd.GD(1e-3), fd.SAM(1e-3, 0.1)])
def test_rounding_does_not_settle_a_run_at_a_saddle(kind, method):
    starts = np.array([(1e-8, 1.0), (0.0, 1.0), (1e-8, 1 + 1e-8)], kind)
    run = fd.simulate(fd.Iteration(BEALE, method), starts, 5)
    assert run.counts()["UNDECIDED"] == 3


def rests(landscape, method, *starts, steps=3000, kind=np.float64):
    run = fd.simulate(fd.Iteration(landscape, method), np.array(starts, kind), steps, every=steps)
    return [bool(status == fd.Status.CONVERGED) for status in run.status]


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_to_rest_at_a_minimum_has_converged(kind):
    assert all(rests(HIMMELBLAU, fd.GD(0.01), (3.1, 2.1), (-3.0, 3.0), (-3.5, -3.0), kind=kind))
    assert all(rests(HIMMELBLAU, fd.GD(0.005, 0.9), (3.1, 2.1), (-3.0, 3.0), kind=kind))
    # a saddle that attracts: rho |lambda| > 1
    assert all(rests(on(x**2 - y**2, x, y), fd.USAM(0.1, 1.0), (0.1, 0.1), kind=kind))
    # a valley of minima, in which one multiplier is 1
    assert all(rests(on((x * y - 1) ** 2, x, y), fd.GD(0.1), (1.2, 0.7), (0.6, 0.9), (1.0, 1.0), kind=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_below_resolution_is_no_rest(kind):
    assert not any(rests(HIMMELBLAU, fd.GD(1e-12), (1.0, 1.0), (-2.0, 0.5), steps=5, kind=kind))
    assert not any(rests(on(x**2 / (1 + x**2)), fd.GD(0.1), (1e4,), (1e6,), steps=5, kind=kind))
    assert not any(rests(on(x), fd.GD(1e-30), (1.0,), steps=5, kind=kind))


def test_where_multipliers_are_one_a_displacement_decides():
    start = ((0.0,),)

    def signed(text, symbols, sign):  # the sign is data: one program for both
        return fd.Landscape.from_expression(text, symbols, [(-2, 2)] * len(symbols.split()), parameters={"c": sign})

    quartic = [signed("c*x**4", "x", sign) for sign in (1.0, -1.0)]
    assert [rests(one, fd.GD(0.1), *start, steps=5) for one in quartic] == [[True], [False]]
    assert rests(on(x**3), fd.GD(0.1), *start, steps=5) == [False]
    assert rests(on((x**2 - 2) ** 3), fd.GD(0.01), (2**0.5,), steps=5) == [False]
    weak = [signed("x**2 + c*y**2/10**6", "x y", sign) for sign in (-1.0, 1.0)]
    assert [rests(one, fd.GD(0.1), (0.0, 1e-12), steps=5) for one in weak] == [[False], [True]]
    assert fd.simulate(fd.Map(lambda t: t, 1), np.array([0.3]), 5).status == fd.Status.CONVERGED


def test_many_coordinates_are_judged_by_their_largest_multiplier():
    for curvature, kept in ((1.0, True), (-0.01, False)):
        diagonal = jnp.ones(200).at[7].set(curvature)
        bowl = fd.Landscape.from_function(lambda t, d=diagonal: (d * t**2).sum() / 2, dim=200)
        run = fd.simulate(fd.Iteration(bowl, fd.GD(0.1)), np.zeros(200), 3)
        assert (run.status == fd.Status.CONVERGED) == kept


# --- float32 starts while 64 bits are on ----------------------------------------------------------------------

METHODS = {
    "GD": fd.GD(0.01),
    "heavy ball": fd.GD(0.01, 0.9),
    "Nesterov": fd.GD(0.01, 0.9, nesterov=True),
    "SAM": fd.SAM(0.01, 0.1),
    "SAM, eps, mask": fd.SAM(0.01, 0.1, eps=0.1, mask=[1.0, 0.5]),
    "DNSAM": fd.DNSAM(0.01, 0.1),
    "USAM": fd.USAM(0.01, 0.1),
    "ASAM": fd.ASAM(0.01, 0.1),
    "ASAM, infinity": fd.ASAM(0.01, 0.1, p=np.inf),
    "SGLD": fd.SGLD(0.01, 0.1),
    "Langevin": fd.Langevin(0.01, 0.1, 1.0),
    "average": fd.Averaged(fd.SAM(0.01, 0.1)),
    "WSAM": fd.methods.WSAM(0.01, 0.1, 0.9, 0.9),
    "LookSAM": fd.methods.LookSAM(0.01, 0.1, 3, 0.5),
    "FriendlySAM": fd.methods.FriendlySAM(0.01, 0.1, copy_first=True),
    "Lookahead": fd.methods.Lookahead(fd.methods.MSAM(0.01, 0.1, 0.9), 3, memory="pull"),
}
NOISES = {
    "exact": noise.Exact(),
    "Gaussian": noise.Gaussian(np.array([1.0, 0.3])),
    "covariance": noise.Gaussian(covariance=[[1.0, 0.2], [0.2, 1.0]]),
    "curvature": noise.Curvature(),
    "matrix": noise.Curvature(matrix=[[1.0, 0.2], [0.2, 1.0]]),
    "state": noise.StateDependent(lambda t: np.array([1.0, 0.3]) * (1 + t**2)),
    "stable": noise.Stable(1.5, np.array([1.0, 0.3])),
}


def keeps(process, kind=np.float32):
    """That the loop over steps takes the state as it gives it; traced, not compiled."""
    process = stepping.prepared(process, kind)
    carry = stepping.at_rest(process, jnp.ones((3, process.dim), kind))
    seed = stepping.seed_of(process, jax.random.key(0))
    after = jax.eval_shape(
        lambda c: stepping.advanced(process, c, seed, jnp.arange(3, dtype=jnp.uint32), 2, np.inf), carry
    )
    for old, new in zip(jax.tree.leaves(carry), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        assert new.dtype == kind or not jnp.issubdtype(new.dtype, jnp.inexact)
    if process.random:
        state = jax.tree.map(lambda leaf: leaf[0], carry.state)
        one = jax.eval_shape(process.step, state, jax.random.key(0))
        assert jax.tree.map(lambda leaf: leaf.dtype, one) == jax.tree.map(lambda leaf: leaf.dtype, state)


@pytest.mark.parametrize("method", METHODS)
def test_a_float32_run_stays_one_whatever_the_method(method):
    for each in (NOISES["exact"], NOISES["state"]):
        keeps(fd.Iteration(BEALE, METHODS[method], each))


SOME = ("SAM", "Langevin")  # one that asks for two gradients, one with noise of its own
EVERY = [name if name in SOME else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


@pytest.mark.parametrize("method", EVERY)
def test_a_float32_run_stays_one_whatever_the_noise_and_ascent(method):
    for name in NOISES.keys() - {"exact", "state"}:
        keeps(fd.Iteration(BEALE, METHODS[method], NOISES[name]))
    for ascent in ("independent", "full"):
        keeps(fd.Iteration(BEALE, METHODS[method], NOISES["state"], ascent))


def test_float32_runs_of_other_processes():
    keeps(fd.Map(lambda t: np.array([0.5, 0.2]) * t, 2))
    own = fd.Landscape.from_function(lambda t: (np.array([1.0, 0.2]) * t**2).sum(), dim=2)
    keeps(fd.Iteration(own, fd.SAM(0.1, 0.1), noise.Gaussian(1.0)))
    keeps(flows.Flow(BEALE, fd.SAM(0.01, 0.1), order=1))
    keeps(flows.Flow(BEALE, fd.GD(0.01, 0.5), order=1, inertia=True))
    examples = fd.Landscape.from_examples("(a*x - b)**2 / 2", {"a": [1, 0.2], "b": [0, 1]}, symbols=(x,))
    line = on(x**2 / 2)
    for form in ("published", "derived"):
        for source, each in ((line, noise.Gaussian(1.0)), (line, NOISES["curvature"]), (examples, noise.FiniteSum(1))):
            for order in (1, 2) if form == "derived" else (1,):
                keeps(flows.Diffusion(source, fd.SAM(0.01, 0.1), each, order=order, form=form))


def test_questions_take_float32_starts():
    start = np.array([0.5, 0.4], np.float32)
    noisy = fd.Iteration(BEALE, fd.GD(0.01), NOISES["state"])
    left = fd.escape_times(noisy, start, Ball(start, 0.2), 64, 1000, jax.random.key(0))
    assert left.escaped.all()
    assert left.exit.dtype == np.float32
    plain = fd.Iteration(BEALE, fd.GD(0.01))
    both = [fd.lyapunov_exponents(plain, start.astype(kind), 50, transient=10).values for kind in KINDS]
    assert_array_equal(*both)
    run = fd.simulate(plain, start, 3)
    assert run.theta.dtype == np.float32
    assert "float32" in repr(run)
    assert "float64" in repr(fd.simulate(plain, start.astype(float), 3))
    assert "float32" in repr(left)


def test_an_exponent_of_a_step_that_hits_the_minimum_is_minus_infinity():
    found = fd.lyapunov_exponents(fd.Iteration(on(x**2 / 2 + y**2, x, y), fd.GD(0.5)), [1.0, 1.0], 40, transient=1)
    assert_array_equal(found.values, [np.log(0.5), -np.inf])
    assert_allclose(found.stderr, 0, atol=1e-15)


# --- 64 bits for what decides ---------------------------------------------------------------------------------

LINE = on(x**2 / 2 + x**4 / 4, box=3.0)
OWN = fd.Landscape.from_function(
    lambda t: (t[0] ** 2 + t[1] - 11) ** 2 + (t[0] + t[1] ** 2 - 7) ** 2, 2, ((-5, 5),) * 2
)
NOISY = noise.Gaussian(0.3)
SOMEWHERE = np.array([0.1, 0.3])


def _weak():
    equations = {"SDE": {"form": "derived"}}
    return fd.weak.weak_errors(LINE, lambda lr: fd.SAM(lr, 0.1), NOISY, equations, [0.1], [np.cos], 0.3, 1.0, (-3, 3))


DECIDED = {
    "multipliers": lambda: fd.stability.multipliers(fd.SAM(0.01, 0.1), BEALE, at=SOMEWHERE),
    "branch": lambda: (
        fd.fixedpoints.continue_in(
            lambda rho: fd.Iteration(BEALE, fd.USAM(0.01, rho)), "rho", (0.02, 0.03), (0.0, 1.0)
        ).multipliers
    ),
    "exit law, covariance": lambda: (
        fd.transfer.exit_law(
            fd.Iteration(LINE, fd.GD(0.1), noise.Gaussian(covariance=[[0.1]])), (-1, 1), 0.1, panels=8
        ).mean
    ),
    "expectation": lambda: fd.flows.expectation(
        flows.Diffusion(LINE, fd.GD(0.1), NOISY), [np.cos], 0.3, 1.0, (-3, 3), 64
    ),
    "weak errors": lambda: _weak()["SDE"].method,
    "stationary law": lambda: fd.stationary.covariance(fd.Iteration(HIMMELBLAU, fd.GD(0.01), NOISY), at=(3.0, 2.0)),
    "Kramers": lambda: fd.escape.kramers(on((x**2 - 1) ** 2), [1.0], [0.0], 0.1),
}


@pytest.mark.parametrize("name", DECIDED)
def test_what_decides_works_in_64_bits_in_a_session_of_32(name):
    exact = np.array(DECIDED[name]())
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is rounded, so nothing is said
        found = np.array(DECIDED[name]())
    # not bit by bit: constants folded by a compiler may be rounded otherwise; 32 bits would show at 1e-8
    assert_allclose(found, exact, rtol=1e-11, atol=1e-11)


def test_a_manifold_is_followed_in_64_bits():
    with jax.enable_x64(False):
        found = fd.invariant_manifold(
            fd.Iteration(BEALE, fd.GD(0.01)), (0.0, 1.0), "unstable", ((-1, 1), (0, 2)), spacing=0.1
        )
    assert found.theta.dtype == np.float64
    assert found.dtype == "float64"
    assert_allclose(found.multiplier, 1 + 0.01 * 27.75, rtol=1e-12)  # Beale's Hessian there is 27.75 (0 1; 1 0)


# --- the warning ----------------------------------------------------------------------------------------------


def warned_by(ask):
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask()
    return caught


STEPPED = functools.partial(fd.simulate, fd.Iteration(BEALE, fd.GD(0.01)), steps=1)


@pytest.mark.parametrize("start", [[1e-8, 1.0], np.array([[1e-8, 1.0], [1.0, 1.0]]), (0.1, 0.2)])
def test_one_warning_says_that_64_bits_were_rounded_and_what_to_write(start):
    (warning,) = warned_by(lambda: STEPPED(start))
    assert issubclass(warning.category, fd.PrecisionWarning)
    assert "theta0" in str(warning.message)
    assert 'jax.config.update("jax_enable_x64", True)' in str(warning.message)
    assert warning.filename == __file__


def test_nothing_is_said_where_nothing_is_lost():
    for start in (
        [1.0, 2.0],
        np.array([0.5, 3.0]),
        np.array([0.1, 0.2], np.float32),
        jnp.array([0.1, 0.2], jnp.float32),
    ):
        assert not warned_by(lambda start=start: STEPPED(start))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        STEPPED(np.array([0.1, 0.2]))  # in 64 bits


def test_data_are_told_of_as_starts_are():
    def given(column):
        return lambda: fd.Landscape.from_examples("(a*x - b)**2 / 2", {"a": column, "b": [0.0, 1.0]}, symbols=(x,))

    (warning,) = warned_by(given([0.1, 1.0]))
    assert issubclass(warning.category, fd.PrecisionWarning)
    assert "examples" in str(warning.message)
    assert not warned_by(given(np.array([0.1, 1.0], np.float32)))
    assert not warned_by(given([0.5, 1.0]))


# --- the range of 32 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e60, 1e-60])
def test_a_number_that_32_bits_lose_is_refused_by_name_and_one_of_64_bits_is_not(size):
    asked = {
        "method.lr": (BEALE, fd.GD(size)),
        "method.rho": (BEALE, fd.SAM(0.01, np.float64(size))),
        "landscape.parameters.b": (fd.landscapes.rosenbrock(b=size), fd.GD(1e-3 / max(size, 1))),
    }
    for name, (landscape, method) in asked.items():
        process = fd.Iteration(landscape, method)
        fd.simulate(process, [1.0, 1.0], 1)
        with jax.enable_x64(False), pytest.raises(ValueError, match=f"{name} must be within the range of 32 bits"):
            fd.simulate(process, np.ones(2, np.float32), 1)
    # Zero itself is fine; beside others a small number is rounded to it, with a warning
    with jax.enable_x64(False), pytest.warns(fd.PrecisionWarning, match="theta0 is given in 64 bits and rounded"):
        fd.simulate(fd.Iteration(BEALE, fd.SAM(0.01, 0.0)), np.array([1.0, 1e-60]), 1)
