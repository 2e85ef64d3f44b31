"""Weight decay, dampening, units, starts, norms, schedules and averages as packages have them, by their own numbers."""

import itertools
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import flows, stability
from flatdyn.core.algebra import Vector, norm

STORED = json.loads((Path(__file__).parent / "data" / "conventions.json").read_text())
BOWL, LINE = fd.landscapes.saddle((4.0, 1.0)), fd.landscapes.saddle((1.0,))
START = [1.0, 2.0]
TENSORS = fd.Landscape.from_function(
    lambda t: (jnp.array([4.0, 1.0]) @ t["a"] ** 2 + jnp.array([2.0, 5.0]) @ t["b"] ** 2) / 2,
    like={"a": np.ones(2), "b": np.ones(2)},
)
DECAYS = ("coupled", "decoupled", "loss")


def drop(k):
    return jnp.where(k < 5, 1.0, 0.1)


def cosine(k):
    return (1 + jnp.cos(jnp.pi * k / 20)) / 2


def path(method, start=START, steps=20, landscape=BOWL):
    return np.asarray(fd.simulate(fd.Iteration(landscape, method), start, steps, progress=False).theta)


def torch_sgd(**conventions):
    return fd.GD(0.05, 0.9, units="gradient", **conventions)


# --- numbers of packages --------------------------------------------------------------------------------------

EXACT = 2e-14  # 20 steps of a contracting map in float64: rounding of a few units in the last place, and no more
SINGLE = 2e-8  # pytorch_optimizer takes the norm in float32 (6e-8 of it), which moves θ by lr ρ H times that, 20 times
EQUAL = {
    "sgd_drop": (fd.Scheduled(torch_sgd(), drop), EXACT),
    "sgd_cosine": (fd.Scheduled(torch_sgd(), cosine), EXACT),
    "sgd_drop_nesterov": (fd.Scheduled(torch_sgd(nesterov=True), drop), EXACT),
    "sgd_cosine_nesterov": (fd.Scheduled(torch_sgd(nesterov=True), cosine), EXACT),
    "sgd_decay": (fd.GD(0.05, 0.9, weight_decay=0.5), EXACT),
    "sgd_decay_nesterov": (fd.GD(0.05, 0.9, nesterov=True, weight_decay=0.5), EXACT),
    "sgd_decay_drop": (fd.Scheduled(torch_sgd(weight_decay=0.5), drop), EXACT),
    "sgd_dampened": (fd.Scheduled(torch_sgd(weight_decay=0.5, dampening=0.4, start="first"), drop), EXACT),
    "heavy_ball": (fd.GD(0.1, 0.9, start="twice"), EXACT),
    "sam_decay": (fd.SAM(0.1, 0.1, 0.9, eps=1e-12, weight_decay=0.3), SINGLE),
    "average_ema": (fd.Averaged(fd.GD(0.1), decay=0.9, copy_first=True), EXACT),
    "average_ema_every_3": (fd.Averaged(fd.GD(0.1), decay=0.9, every=3, copy_first=True), EXACT),
    "torch_ema": (fd.Averaged(fd.GD(0.1), decay=lambda n: jnp.minimum(0.9, (1 + n) / (10 + n))), EXACT),
    "ema_pytorch": (
        fd.Averaged(fd.GD(0.01), start=101, every=10, decay=lambda n: 1 - (1 + 10 * n) ** (-2 / 3)),
        EXACT,
    ),
}
ON_TENSORS = {
    "sam_groups": (fd.SAM(0.05, 0.1, scope="all", mask={"a": True, "b": False}, eps=1e-12), SINGLE),
    "sam_tensors": (fd.SAM(0.05, 0.1, scope="tensor"), EXACT),
    "asam_tensors": (fd.ASAM(0.05, 0.1, scope="tensor", shift=0.0), EXACT),
    "layerwise": (fd.ASAM(0.05, 0.1, layerwise=True, scaled={"a": True, "b": False}), EXACT),
    "layerwise_inf": (fd.ASAM(0.05, 0.1, layerwise=True, p=np.inf), EXACT),
}


def stored(name):
    """Steps and positions, each row a step."""
    theta = np.array(STORED[name]["theta"])
    return STORED[name].get("steps", range(len(theta))), theta


@pytest.mark.parametrize("name", EQUAL)
def test_iterates_are_the_packages(name):
    method, tolerance = EQUAL[name]
    steps, theta = stored(name)
    assert_allclose(path(method, steps=max(steps))[list(steps)], theta, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ON_TENSORS)
def test_iterates_on_several_tensors_are_the_packages(name):
    method, tolerance = ON_TENSORS[name]
    _, theta = stored(name)
    assert_allclose(path(method, [1.0, 2.0, 3.0, -1.0], 5, TENSORS), theta, rtol=0, atol=tolerance)


def test_every_stored_path_is_compared():
    assert {*EQUAL, *ON_TENSORS, "average_uniform"} == set(STORED)


def test_a_uniform_average_is_pytorchs_from_its_first_update_on():
    theta = np.array(STORED["average_uniform"]["theta"])  # until step 3 AveragedModel holds the initial weights
    assert_allclose(path(fd.Averaged(fd.GD(0.1), start=3, every=2))[3:], theta[3:], rtol=0, atol=EXACT)
    copied = path(fd.Averaged(fd.GD(0.1), start=1, every=2, copy_first=True))
    assert_allclose(copied[3:], theta[3:], rtol=0, atol=EXACT)


def test_a_velocity_kept_as_a_displacement_is_not_pytorchs_under_a_schedule():
    _, torch = stored("sgd_drop")
    keras = path(fd.Scheduled(fd.GD(0.05, 0.9), drop))
    assert 1.7 < np.abs(keras - torch).max() < 1.8
    assert_allclose(keras[5:9, 0], [-0.580, -0.813, -1.007, -1.161], atol=5e-4)  # printed to three digits
    assert_allclose(torch[5:9, 0], [-0.580, -0.593, -0.593, -0.581], atol=5e-4)


@pytest.mark.parametrize(
    ("method", "numbers"),
    [
        (fd.GD(0.1, 0.9), [0.9, 0.72, 0.486]),
        (fd.GD(0.1, 0.9, nesterov=True), [0.81, 0.5751]),
        (fd.GD(0.1, 0.9, dampening=0.9, start="first"), [0.9, 0.801, 0.70389]),  # torch
        (fd.GD(0.1, 0.9, dampening=0.9), [0.99, 0.9711]),  # optimi
        (fd.GD(0.1, 0.9, start="twice"), [0.81, 0.558]),  # torchzero
    ],
)
@pytest.mark.parametrize("units", ["displacement", "gradient"])
def test_first_steps_from_1_at_curvature_1(method, numbers, units):
    method = eqx.tree_at(lambda m: m.lr, fd.GD(0.1, 0.9, **words(method) | {"units": units}), 0.1)
    assert_allclose(path(method, [1.0], len(numbers), LINE)[1:, 0], numbers, rtol=1e-14)


def words(method):
    names = ("nesterov", "weight_decay", "decay", "dampening", "units", "start")
    return {name: getattr(method, name) for name in names}


def test_decay_on_its_own():
    flat = fd.Landscape.from_function(lambda t: 0 * t.sum(), dim=1)
    coupled = path(fd.GD(0.1, 0.9, weight_decay=0.5), [1.0], 3, flat)[1:, 0]
    assert_allclose(coupled, [0.95, 0.8575, 0.731375], rtol=1e-14)
    decoupled = path(fd.GD(0.1, 0.9, weight_decay=0.5, decay="decoupled"), [1.0], 3, flat)[1:, 0]
    assert_allclose(decoupled, 0.95 ** np.arange(1, 4), rtol=1e-14)


@pytest.mark.parametrize("method", [fd.GD, fd.SAM, fd.USAM])
def test_without_momentum_decoupled_decay_is_coupled_decay(method):
    numbers = (0.1,) if method is fd.GD else (0.1, 0.1)
    ways = [path(method(*numbers, weight_decay=0.3, decay=way)) for way in DECAYS[:2]]
    assert_allclose(*ways, rtol=1e-13)


@pytest.mark.parametrize(
    "make",
    [lambda **k: fd.SAM(0.1, 0.1, 0.5, **k), lambda **k: fd.ASAM(0.1, 0.1, **k), lambda **k: fd.DNSAM(0.1, 0.1, **k)],
)
def test_decay_in_the_loss_is_decay_in_the_landscape(make):
    decayed = fd.Landscape.from_expression("2*x**2 + y**2/2 + 0.15*(x**2 + y**2)", "x y")
    noise, key = fd.noise.Gaussian(0.5), jax.random.key(0)
    runs = [
        fd.simulate(fd.Iteration(*process, noise), START, 20, key, progress=False).theta
        for process in [(BOWL, make(weight_decay=0.3, decay="loss")), (decayed, make())]
    ]
    assert_allclose(*runs, rtol=1e-11)  # SAM's direction is amplified by less than 100 on the way


# --- ordinary methods are what they were ----------------------------------------------------------------------


def by_hand(kind):
    """θ⁺ of two steps of ordinary methods, in so many words."""
    lr, rho, mu = 0.1, 0.2, 0.9

    def step(grad, theta, velocity):
        g = grad(theta)
        if kind == "heavy ball":
            velocity = mu * velocity - lr * g
            return theta + velocity, velocity
        if kind == "SAM":
            g = grad(theta + rho * g / norm(g, 0.0))
        elif kind == "USAM":
            g = grad(theta + rho * g)
        elif kind == "ASAM":
            size = abs(theta) + 0.01
            reach = size * g
            g = grad(theta + rho * (size * reach) / norm(reach, 0.0))
        return theta - lr * g, velocity

    return step


@pytest.mark.parametrize("kind", ["GD", "heavy ball", "SAM", "USAM", "ASAM"])
def test_an_ordinary_method_compiles_to_what_it_says_and_nothing_else(kind):
    methods = {"GD": fd.GD(0.1), "heavy ball": fd.GD(0.1, 0.9), "SAM": fd.SAM(0.1, 0.2), "USAM": fd.USAM(0.1, 0.2)}
    method, step = (methods | {"ASAM": fd.ASAM(0.1, 0.2)})[kind], by_hand(kind)

    def ours(theta):
        state = method.init(BOWL.vector(theta))
        for _ in range(2):
            state = method.step(BOWL.field, state)
        return jax.tree.leaves(state)

    def plain(theta):
        point = BOWL.vector(theta)
        state = (point, 0 * point if method.inertial else None)
        for _ in range(2):
            state = step(BOWL.field, *state)
        return jax.tree.leaves(state)

    assert str(jax.make_jaxpr(ours)(jnp.ones(2))) == str(jax.make_jaxpr(plain)(jnp.ones(2)))


# --- ascents --------------------------------------------------------------------------------------------------


def optax_sam(ascent, period=2):
    return optax.contrib.sam(optax.sgd(0.05), ascent, sync_period=period, opaque_mode=True)


def optax_path(transformation, steps=20):
    theta = jnp.array(START)
    state, kept = transformation.init(theta), [theta]
    for _ in range(steps):
        updates, state = transformation.update(BOWL.grad(theta), state, theta, grad_fn=lambda w, _: BOWL.grad(w))
        theta = theta + updates
        kept.append(theta)
    return np.array(kept)


@pytest.mark.parametrize("ascents", [2, 3])
def test_several_ascents_are_optaxs_sync_period(ascents):
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    expected = optax_path(optax_sam(climb, ascents + 1))
    assert_allclose(path(fd.SAM(0.05, 0.1, ascents=ascents)), expected, rtol=0, atol=EXACT)
    unnormalised = optax_path(optax_sam(optax.sgd(0.1), ascents + 1))
    assert_allclose(path(fd.USAM(0.05, 0.1, ascents=ascents)), unnormalised, rtol=0, atol=EXACT)


def test_the_ascent_of_the_maximum_norm_is_optaxs_with_adam():
    climb = optax.chain(optax.contrib.normalize(), optax.adam(0.1))
    # Adam's 1e-8 beside |gᵢ| of 1 ‖g‖ shortens the ascent by 1e-8, times lr ρ H over 20 steps of a contraction
    assert_allclose(path(fd.SAM(0.05, 0.1, p=np.inf)), optax_path(optax_sam(climb)), rtol=0, atol=2e-8)


@pytest.mark.parametrize("mask", [None, [1.0, 0.0, 1.0], [0.5, 2.0, 1.0]])
def test_no_ascent_of_a_ball_gains_more(mask):
    """The ascents of p = 1, 2, ∞ maximise g·d over ‖d‖ₚ ≤ ρ; of several equal |gᵢ| the first is taken for p = 1."""
    g, rho = Vector((jnp.array(0.5), jnp.array(-3.0), jnp.array(3.0))), 0.2
    weights = np.ones(3) if mask is None else np.array(mask)
    seen = weights * np.array(g.tree)
    zero = 0 * g
    for p, dual in ((1, np.inf), (2, 2), (np.inf, 1)):
        moved = np.array(fd.SAM(0.1, rho, mask=mask, p=p).ascend(lambda _: g, zero).tree)
        assert_allclose(np.linalg.norm(moved, p), rho, rtol=1e-14)
        assert_allclose(seen @ moved, rho * np.linalg.norm(seen, dual), rtol=1e-14)
    assert_array_equal(np.array(fd.SAM(0.1, rho, p=1).ascend(lambda _: g, zero).tree), [0, -rho, 0])


def test_scopes_say_what_the_norm_is_taken_of():
    g = TENSORS.vector(jnp.array([3.0, 4.0, 0.0, 10.0]))  # of norm 5 beside one of norm 10
    mask, zero = {"a": True, "b": False}, 0 * g
    moved = {
        scope: np.asarray(TENSORS.array(fd.SAM(0.1, 0.1, scope=scope, mask=mask).ascend(lambda _: g, zero)))
        for scope in ("masked", "all", "tensor")
    }
    lengths = {scope: np.linalg.norm(step) for scope, step in moved.items()}
    assert_allclose([lengths[s] for s in moved], [0.1, 0.1 * 5 / 125**0.5, 0.1], rtol=1e-14)  # 0.0447 of all
    both = fd.SAM(0.1, 0.1, scope="tensor").ascend(lambda _: g, zero)
    assert_allclose(np.linalg.norm(TENSORS.array(both)), 0.1 * 2**0.5, rtol=1e-14)
    radii = fd.SAM(0.1, 0.1, scope="all", mask={"a": 1.0, "b": 0.5}).ascend(lambda _: g, zero)
    assert_allclose(TENSORS.array(radii), [0.3 / 125**0.5, 0.4 / 125**0.5, 0, 0.5 / 125**0.5], rtol=1e-14)


def test_a_point_in_coordinates_is_one_tensor_and_one_layer():
    assert_array_equal(path(fd.SAM(0.05, 0.1, scope="tensor")), path(fd.SAM(0.05, 0.1)))
    point, g = Vector((jnp.array(3.0), jnp.array(4.0))), Vector((jnp.array(1.0), jnp.array(0.0)))
    moved = fd.ASAM(0.1, 0.1, layerwise=True, shift=0.0).ascend(lambda _: g, point)
    assert_allclose([*moved.tree], [3 + 0.1 * 5, 4], rtol=1e-14)  # T = ‖θ‖ = 5 in both coordinates
    nothing = fd.ASAM(0.1, 0.1, layerwise=True).ascend(lambda _: g, 0 * point)
    assert_array_equal([*nothing.tree], [0.0, 0.0])  # where the whole leaf is 0, T is, and not 1


# --- closed forms follow, or refuse ---------------------------------------------------------------------------

h, r, lam, mu, w, tau = sympy.symbols("h rho lambda mu w tau", positive=True)
VALUES = {h: 0.2, r: 0.3, mu: 0.6, w: 0.7, tau: 0.3}
SYMBOLIC = [
    fd.GD(h, mu, weight_decay=w),
    fd.GD(h, mu, weight_decay=w, decay="decoupled"),
    fd.GD(h, mu, weight_decay=w, decay="decoupled", nesterov=True, dampening=tau),
    fd.GD(h, mu, dampening=tau, start="first", units="gradient"),
    fd.USAM(h, r, mu, weight_decay=w, decay="loss", nesterov=True),
    fd.USAM(h, r, ascents=2, weight_decay=w),
    fd.SAM(h, r, mu, eps=tau, weight_decay=w, decay="loss"),
]


def with_numbers(method, values=VALUES):
    return jax.tree.map(
        lambda leaf: float(leaf.subs(values)) if isinstance(leaf, sympy.Basic) else leaf,
        method,
        is_leaf=lambda leaf: isinstance(leaf, sympy.Basic),
    )


@pytest.mark.parametrize("method", SYMBOLIC, ids=range(len(SYMBOLIC)))
def test_the_jacobian_in_symbols_is_the_derivative_of_the_step(method):
    twisted = fd.Landscape.from_expression("x**4/4 + x*y + y**2", "x y", box=[(-2, 2)] * 2)
    dim = len(stability.state_symbols(method, twisted))
    at = np.linspace(0.3, 0.9, dim)
    symbolic = stability.jacobian(method, twisted, at=tuple(map(sympy.Float, at))).subs(VALUES)
    numeric = stability.numeric_jacobian(with_numbers(method), twisted, at=at)
    assert_allclose(np.array(symbolic, float), numeric, rtol=1e-11, atol=1e-13)  # an algebraic step: rounding


@pytest.mark.parametrize("method", SYMBOLIC, ids=range(len(SYMBOLIC)))
def test_conditions_are_the_spectrum(method):
    """At 40 random numbers and curvatures of both signs the inequality holds where all multipliers are inside."""
    draw, curvature = np.random.default_rng(3), sympy.Symbol("c", real=True)
    condition, agree = stability.conditions(method, curvature), []
    symbols = sorted(condition.free_symbols - {curvature}, key=str)
    jacobian = stability.jacobian(method, fd.landscapes.saddle((curvature,)), at=(0,))
    spectrum = sympy.lambdify([curvature, *symbols], jacobian)
    holds = sympy.lambdify([curvature, *symbols], condition)
    for _ in range(40):
        numbers = [draw.uniform(-2, 9), *(draw.uniform(0.05, 0.95) for _ in symbols)]
        inside = np.abs(np.linalg.eigvals(np.array(spectrum(*numbers), float))).max() < 1
        agree.append((inside, bool(holds(*numbers))))
    assert all(a == b for a, b in agree)
    assert len(set(agree)) == 2  # some attract and some do not


def test_thresholds_and_edges_with_decay_are_where_a_multiplier_is_one():
    plus = stability.threshold(fd.GD(0.1, 0.5, weight_decay=0.1, decay="decoupled"), -0.5, "weight_decay").at_plus_one
    # one more λ than |curvature| times what the velocity makes of a gradient, 1/(1 − μ)
    assert_allclose(np.array(plus, float), [1.0], rtol=1e-12)
    method = fd.USAM(0.1, 0.2, 0.5, weight_decay=0.4)
    edge = stability.edge(method)
    multipliers = stability.multipliers(method, fd.landscapes.saddle((edge,)), at=[0.0])
    assert_allclose(np.abs(multipliers + 1).min(), 0, atol=1e-9)
    with pytest.raises(ValueError, match="2-norm of the whole gradient"):
        stability.edge(fd.SAM(0.1, 0.1, p=np.inf), 1.0)


@pytest.mark.parametrize(("decay", "amplitude"), [("coupled", 0.025478), ("loss", 0.027389)])
def test_cycles_with_decay(decay, amplitude):
    """pytorch_optimizer's SAM with weight_decay=0.3 ends in a cycle of .025478, decay in the loss in one of .027389."""
    method = fd.SAM(0.1, 0.1, weight_decay=0.3, decay=decay)
    line = fd.landscapes.saddle((4.0,))
    cycle = fd.quadratic.two_cycle(method, [4.0], 0)
    ends = path(method, [1.0], 400, line)[-2:, 0]
    assert_allclose(np.abs(ends), cycle.amplitude, rtol=1e-12)
    assert_allclose(cycle.amplitude, amplitude, rtol=2e-5)  # printed to five digits


@pytest.mark.parametrize("numbers", [{"weight_decay": 0.3}, {"dampening": 0.4, "weight_decay": 0.2, "decay": "loss"}])
def test_cycles_of_a_heavy_ball_with_conventions_have_the_multipliers_of_their_orbit(numbers):
    method, bowl = fd.SAM(0.1, 0.1, 0.3, **numbers), fd.landscapes.saddle((4.0, 1.5))
    cycle = fd.quadratic.two_cycle(method, [4.0, 1.5], 0)
    ends = path(method, [0.5, 0.01], 500, bowl)
    assert cycle.stable
    assert_allclose(np.abs(ends[-2:, 0]), cycle.amplitude, rtol=1e-9)
    state = [*ends[-1], *(ends[-1] - ends[-2])]  # the velocity is the last move
    around = stability.multipliers(fd.Iteration(bowl, method), at=state, period=2)
    assert_allclose(sorted(np.abs(around)), sorted(np.abs(cycle.multipliers) ** 2), rtol=1e-6)  # ends are at 1e-9 of it


FLOWS = [
    ("coupled", 0.0, 0.0),
    ("loss", 0.5, 0.0),
    ("decoupled", 0.5, 0.0),
    ("coupled", 0.5, 0.4),
]


@pytest.mark.parametrize(("decay", "momentum", "dampening"), FLOWS)
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_flow_of_a_decayed_method_is_its_limit(decay, momentum, dampening, nesterov):
    """On a line a step of 1e-7 shrinks the slow direction by the flow's rate, to first order in the step."""

    def method(lr):
        return fd.GD(lr, momentum, nesterov, weight_decay=0.7, decay=decay, dampening=dampening)

    flow = flows.Flow(LINE, method(0.1))
    rate = -np.asarray(LINE.array(flow.field(LINE.vector(jnp.ones(1)))))[0]
    slope = np.array(stability.jacobian(method(1e-7), LINE, at=(0,)), float)
    slow = np.abs(np.linalg.eigvals(slope)).max()
    assert_allclose((1 - slow) / 1e-7, rate, rtol=3e-6)  # the next order is 1e-7 times a few, rounding 1e-9


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: flows.Flow(BOWL, fd.GD(0.1, 0.9, dampening=0.5), order=1), r"lr \(1 − τ\)"),
        (lambda: flows.Flow(BOWL, fd.GD(0.1, 0.9, weight_decay=0.1, decay="decoupled"), order=1), "decoupled decay"),
        (lambda: flows.Flow(BOWL, fd.SAM(0.1, 0.1, weight_decay=0.1)), "does not rest there"),
        (lambda: flows.Flow(BOWL, fd.SAM(0.1, 0.1, ascents=2)), "jumps elsewhere"),
        (
            lambda: flows.Diffusion(BOWL, fd.SAM(0.1, 0.1, weight_decay=0.1), fd.noise.Gaussian(1.0)),
            "without weight decay",
        ),
        (lambda: flows.Diffusion(BOWL, fd.SAM(0.1, 0.1, p=np.inf), fd.noise.Gaussian(1.0)), "p = 2"),
        (lambda: flows.Diffusion(BOWL, fd.GD(0.1, 0.9, dampening=0.5), fd.noise.Gaussian(1.0)), "dampening"),
        (lambda: fd.quadratic.two_cycle(fd.SAM(0.1, 0.1, ascents=2), [1.0], 0), "one ascent"),
        (lambda: fd.quadratic.two_cycle(fd.SAM(0.1, 0.1, p=1), [1.0], 0), "p=2"),
        (
            lambda: fd.quadratic.two_cycle(fd.SAM(0.1, 0.1, 0.5, weight_decay=1.0, decay="decoupled"), [1.0], 0),
            "decoupled decay",
        ),
        (
            lambda: fd.escape.exit_law(
                fd.Iteration(LINE, fd.SAM(0.1, 0.1, weight_decay=0.1, decay="loss"), fd.noise.Gaussian(1.0)),
                (-1, 1),
                0.0,
            ),
            "nowhere else",
        ),
        (lambda: fd.Extended(fd.Iteration(BOWL, fd.GD(0.1)), ["weight_decay"]), "weight_decay cannot vary from 0"),
        (lambda: fd.Scheduled(fd.GD(0.1), weight_decay=drop), "weight_decay is 0"),
        (lambda: fd.Scheduled(fd.GD(0.1), rho=drop), "rho is no number"),
        (lambda: fd.Scheduled(fd.GD(0.1)), "needs a schedule"),
        (lambda: fd.Scheduled(fd.GD(0.1), drop, lr=drop), "two schedules"),
        (lambda: fd.GD(0.1, dampening=0.5), "none without momentum"),
        (lambda: fd.GD(0.1, start="twice"), "none without momentum"),
        (lambda: fd.GD(0.1, weight_decay=-1.0), "weight_decay must be finite and >= 0"),
        (lambda: fd.GD(0.1, decay="l2"), "decay must be one of"),
        (lambda: fd.SAM(0.1, 0.1, p=3), "p must be 1, 2 or infinity"),
        (lambda: fd.SAM(0.1, 0.1, p=1, eps=0.1), "here none is taken"),
        (lambda: fd.SAM(0.1, 0.1, ascents=0), "ascents must be a whole number >= 1"),
        (lambda: fd.ASAM(0.1, 0.1, scope="all", normalized=False), "takes none"),
        (lambda: fd.DNSAM(0.1, 0.1, ascents=2), "one ascent"),
        (lambda: fd.Iteration(BOWL, fd.Started(fd.GD(0.1), START)), "it has no velocity"),
        (lambda: fd.Iteration(BOWL, fd.Started(fd.GD(0.1, 0.9), [1.0])), "one number per coordinate"),
        (lambda: fd.Started(fd.GD(0.1, 0.9, start="twice"), START), "starts at rest"),
        (lambda: fd.Switched((fd.GD(0.1), 3)), "goes on for ever"),
        (lambda: fd.Switched((fd.GD(0.1), 0), (fd.GD(0.1), None)), "steps of stages must be"),
        (
            lambda: fd.Iteration(BOWL, fd.Switched((fd.GD(0.1, 0.9), 3), (fd.from_optax(optax.adam(0.1)), None))),
            'memory="reset"',
        ),
    ],
)
def test_what_no_closed_form_or_program_knows_is_refused(ask, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ask()


def test_what_the_operator_knows_of_decay_is_what_runs_do():
    """Mean exit times by the transfer operator, with coupled decay and momentum: those of decay in the landscape."""
    decayed = fd.Landscape.from_expression("-w**2/2 + 0.15*w**2", "w", box=[(-2, 2)])
    hill, noise = fd.landscapes.saddle((-1.0,)), fd.noise.Gaussian(1.0)
    laws = [
        fd.escape.exit_law(fd.Iteration(landscape, method, noise), (-1, 1), 0.0, progress=False).mean
        for landscape, method in [(hill, fd.GD(0.1, 0.5, weight_decay=0.3)), (decayed, fd.GD(0.1, 0.5))]
    ]
    assert_allclose(*laws, rtol=1e-7)  # ten times what the two, whose panels are not the same, leave of each other


def test_probe_and_rest_see_the_decay():
    seen = fd.probe(fd.Iteration(BOWL, fd.SAM(0.1, 0.1, weight_decay=0.5)), START)
    g = np.array([4.0, 2.0])
    perturbed = START + 0.1 * g / np.linalg.norm(g)
    assert_allclose(seen.perturbed, perturbed, rtol=1e-14)
    assert_allclose(seen.followed, [4.0, 1.0] * perturbed + 0.5 * np.array(START), rtol=1e-14)
    with_loss = fd.probe(fd.Iteration(BOWL, fd.SAM(0.1, 0.1, weight_decay=0.5, decay="loss")), START)
    assert_allclose(with_loss.gradient, [4.5, 3.0], rtol=1e-14)
    tilted = fd.Landscape.from_expression("(x - 1)**2/2", "x", box=[(-2, 2)])
    for decay in DECAYS[:2]:  # at rest where 1 − x = λ x, with the gradient not zero
        method = fd.GD(0.1, 0.5, weight_decay=0.5 if decay != "decoupled" else 1.0, decay=decay)
        (point,) = fd.fixedpoints.find(fd.Iteration(tilted, method), starts=4, progress=False)
        assert_allclose(point.theta, [2 / 3], rtol=1e-9)


# --- in time --------------------------------------------------------------------------------------------------


def test_any_number_has_a_schedule_and_optaxs_are_taken():
    falls = optax.exponential_decay(1.0, 3, 0.5)
    method = fd.Scheduled(
        fd.Averaged(fd.SAM(0.05, 0.2, 0.5, weight_decay=0.3), start=100), falls, rho=falls, weight_decay=drop
    )
    theta, velocity = np.array(START), np.zeros(2)
    for k in range(8):
        f = float(falls(k))
        g = np.array([4.0, 1.0]) * theta
        g = np.array([4.0, 1.0]) * (theta + 0.2 * f * g / np.linalg.norm(g)) + 0.3 * float(drop(k)) * theta
        velocity = 0.5 * velocity - 0.05 * f * g
        theta = theta + velocity
    assert_allclose(path(method, steps=8)[-1], theta, rtol=1e-13)


def test_a_start_with_a_velocity():
    ahead = path(fd.GD(0.05, 0.9), steps=6)
    moves = np.diff(ahead, axis=0)
    assert_allclose(path(fd.Started(fd.GD(0.05, 0.9), moves[1]), ahead[2], 4), ahead[2:], rtol=1e-13)
    gathered = fd.Started(fd.GD(0.05, 0.9, units="gradient"), moves[1] / -0.05)
    assert_allclose(path(gathered, ahead[2], 4), ahead[2:], rtol=1e-13)
    tree = fd.Started(fd.GD(0.05, 0.9), {"a": np.ones(2), "b": np.zeros(2)})
    row = fd.Started(fd.GD(0.05, 0.9), [1.0, 1.0, 0.0, 0.0])
    assert_array_equal(path(tree, np.ones(4), 2, TENSORS), path(row, np.ones(4), 2, TENSORS))


HEAVY, BY_GRADIENTS = fd.GD(0.05, 0.9), fd.GD(0.05, 0.9, units="gradient")


@pytest.mark.parametrize(("first", "second"), [*itertools.product((HEAVY, BY_GRADIENTS), repeat=2)])
def test_a_velocity_is_handed_on_in_the_units_of_the_next(first, second):
    assert_allclose(path(fd.Switched((first, 5), (second, None))), path(HEAVY), rtol=0, atol=EXACT)


def test_methods_follow_each_other():
    start = path(fd.GD(0.1), steps=5)
    switched = path(fd.Switched((fd.GD(0.1), 5), (fd.SAM(0.05, 0.1), 5), (HEAVY, None)))
    assert_array_equal(switched[:6], start)
    between = path(fd.SAM(0.05, 0.1), start[5], 5)
    assert_array_equal(switched[5:11], between)
    assert_array_equal(switched[10:], path(HEAVY, between[-1], 10))
    reset = path(fd.Switched((HEAVY, 5), (HEAVY, None), memory="reset"))
    assert_array_equal(reset[5:], path(HEAVY, path(HEAVY, steps=5)[-1], 15))
    adam = fd.from_optax(optax.adam(0.1))
    assert_array_equal(path(fd.Switched((adam, 5), (adam, None))), path(adam))
    side_by_side = path(fd.Switched((adam, 5), (adam, None)), [START, [0.5, 0.5]])
    assert_allclose(side_by_side[0], path(adam), rtol=1e-14)
    in_the_end = stability.multipliers(fd.Switched((HEAVY, 5), (fd.GD(0.1), None)), LINE, at=[0.0])
    assert_allclose(in_the_end, [0.9, 0.0], atol=1e-14)  # the first method's velocity is no longer there


def test_a_number_that_is_varied_is_the_number_that_is_given():
    many = fd.Extended(fd.Iteration(BOWL, fd.SAM(0.05, 0.1, weight_decay=1.0)), ["weight_decay"])
    runs = fd.simulate(many, many.starts(START, weight_decay=[0.0, 0.3]), 10, progress=False).theta[..., :2]
    assert_allclose(runs[0], path(fd.SAM(0.05, 0.1), steps=10), rtol=1e-13)
    assert_allclose(runs[1], path(fd.SAM(0.05, 0.1, weight_decay=0.3), steps=10), rtol=1e-13)


def test_decay_in_the_loss_pulls_a_block_alone():
    """In a method for one block the other blocks' decay is no part of SAM's norm."""
    block = [True, False]
    both = fd.Alternating((fd.SAM(0.1, 0.1, weight_decay=0.3, decay="loss"), fd.GD(0.1)), (block, [False, True]))
    alone = path(fd.SAM(0.1, 0.1, weight_decay=0.3, decay="loss"), [1.0], 10, fd.landscapes.saddle((4.0,)))
    assert_allclose(path(both, steps=10)[:, 0], alone[:, 0], rtol=1e-13)
