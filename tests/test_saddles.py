"""Saddles of trained networks against NumPy, and how fast runs leave them against products of their own steps."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import networks as nw
from flatdyn.networks.saddles.critical_radius import _crossing as crossing
from flatdyn.networks.saddles.minima import minimum
from flatdyn.networks.saddles.transverse import displacement

KEY = jax.random.key(3)
FEW = fd.noise.FiniteSum(5)


@pytest.fixture(scope="module")
def digits():
    """500 digits, 12 principal components, a fifth of the labels wrong."""
    data = nw.principal_components(nw.split(nw.digits(), [500])[0], number=12)[0]
    return nw.flip_labels(nw.standardize(data)[0], 0.2)


@pytest.fixture(scope="module")
def saddle(digits):
    return nw.zero_unit(nw.MLP((12, 4, 10), jax.random.key(0), jnp.tanh), digits, 1e-3)


@pytest.fixture(scope="module")
def data():
    """A small set for what takes many steps: 120 digits 0, 1, 2 in 4 principal components."""
    x, y = nw.digits()
    some = nw.split(nw.Split(x[y < 3], y[y < 3]), [120])[0]
    return nw.flip_labels(nw.standardize(nw.principal_components(some, number=4)[0])[0], 0.2)


@pytest.fixture(scope="module")
def small(data):
    return nw.zero_unit(nw.MLP((4, 2, 3), jax.random.key(0), jnp.tanh), data, 2e-3)


@pytest.fixture(scope="module")
def pair(data):
    return nw.tied_pair(nw.MLP((4, 3, 3), jax.random.key(1), jax.nn.gelu), data, 1e-2, units=(0, 2))


def weights(saddle):
    layers = saddle.landscape.vector(jnp.asarray(saddle.theta)).tree.layers
    return [np.asarray(part) for layer in layers for part in (layer.weight, layer.bias)]


@eqx.filter_jit
def distances(saddle, process, starts, steps):
    """Transverse distance after each of `steps` steps without noise, shape (steps, runs)."""

    def step(states, _):
        states = jax.vmap(process.step)(states)
        theta = jax.vmap(process.position)(states)
        return states, jnp.linalg.norm((theta - saddle.theta) @ saddle.basis.T, axis=-1)

    return jax.lax.scan(step, jax.vmap(process.init)(starts), None, steps)[1]


# --- where they are -------------------------------------------------------------------------------------------


def test_a_zero_unit_of_a_digits_network_is_a_saddle_with_the_predicted_curvature(saddle, digits):
    found = saddle.verify()
    assert found.gradient <= 1e-13
    assert_allclose(found.smallest, saddle.eigenvalues[0], atol=1e-8)
    assert max(found.error, found.leak, found.residual) < 1e-12
    w, b, v, c = weights(saddle)
    scores = np.tanh(digits.x @ w.T + b) @ v.T + c
    share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    residual = share - np.eye(10)[digits.y]
    correlation = residual.T @ np.c_[digits.x, np.ones(500)] / 500
    sigma = np.linalg.svd(correlation, compute_uv=False)
    # nine pairs λ ± σ, as residuals sum to zero over the classes, and λ itself in what is left of 13 + 10 directions
    expected = np.sort(np.r_[1e-3 - sigma[:9], 1e-3 + sigma[:9], np.full(5, 1e-3)])
    assert_allclose(saddle.eigenvalues, expected, atol=1e-12)
    assert saddle.eigenvalues[0] < -0.1
    assert_allclose(
        saddle.direction @ saddle.landscape.hessian(saddle.theta) @ saddle.direction, expected[0], atol=1e-12
    )


def test_a_tied_pair_is_a_saddle_for_any_activation(pair):
    w, b, v, _ = weights(pair)
    assert_allclose(np.c_[w, b, v.T][0], np.c_[w, b, v.T][2], rtol=1e-14)
    found = pair.verify()
    assert found.gradient < 1e-13
    assert max(found.error, found.leak) < 1e-12
    assert pair.eigenvalues[0] < -1e-3
    assert found.smallest <= pair.eigenvalues[0] + 1e-12


def test_a_split_unit_has_fukumizu_and_amaris_curvature():
    share = -0.5
    (data,) = nw.standardize(nw.diabetes())
    split = nw.split_unit(nw.MLP((10, 1, 1), jax.random.key(0), jnp.tanh), data, share)
    found = split.verify()
    assert found.gradient < 1e-12
    assert max(found.error, found.residual) < 1e-12
    w, b, v, c = weights(split)
    tilde = np.c_[data.x, np.ones(len(data.x))]
    a = np.tanh(data.x @ w[0] + b[0])
    residual = a * v.sum() + c[0] - data.y[:, 0]
    bent = tilde.T @ ((residual * v.sum() * -2 * a * (1 - a**2))[:, None] * tilde) / len(tilde)
    factor = share * (1 - share) / (share**2 + (1 - share) ** 2)
    assert_allclose(split.eigenvalues, np.sort(np.r_[factor * np.linalg.eigvalsh(bent), 0]), atol=1e-13)
    assert split.eigenvalues[0] < -0.01
    whole = np.linalg.eigvalsh(split.landscape.hessian(split.theta))
    assert (whole < -1e-10).sum() == (split.eigenvalues < -1e-10).sum()  # for s ≠ ½ the signs alone are the Hessian's
    assert whole[0] < split.eigenvalues[0]
    with pytest.raises(ValueError, match="minibatches do not keep"):
        displacement(split, fd.GD(0.1), FEW)


def test_deep_linear_networks_have_a_saddle_at_the_origin_that_is_flat_from_depth_three():
    x, y = nw.principal_components(nw.digits(), number=5)[0]
    data = nw.Split(x, np.eye(10)[y] - 0.1)
    two, three = nw.linear_origin(data, 2, width=3), nw.linear_origin(data, 3, width=2)
    sigma = np.linalg.svd(data.y.T @ x / len(x), compute_uv=False)
    assert_allclose(two.eigenvalues[:15], -np.repeat(sigma, 3), rtol=1e-12)
    found = two.verify()
    assert found.gradient == 0
    assert found.error < 1e-12
    assert not three.eigenvalues.any()
    assert not three.landscape.hessian(three.theta).any()


def test_minibatches_do_not_push_a_network_off_the_set(pair):
    process = fd.Iteration(pair.landscape, fd.SAM(0.1, 0.1, momentum=0.5), FEW)
    run = fd.simulate(process, pair.theta, 200, key=KEY)
    assert np.linalg.norm(run.final - pair.theta) > 0.1
    assert float(pair.transverse(run.final)) < 1e-10  # the two units differ by rounding, which grows


# --- how they are left ----------------------------------------------------------------------------------------


def test_gradient_descent_leaves_a_digits_network_as_predicted_and_sam_stays(saddle):
    starts = saddle.start(1e-3, KEY, 4)
    assert_allclose(saddle.transverse(starts), 1e-3, rtol=1e-9)
    gone = distances(saddle, fd.Iteration(saddle.landscape, fd.GD(0.2)), starts, 800) > 0.5
    seen = 1 + np.argmax(gone, axis=0)
    values, vectors = np.linalg.eigh(saddle.block)
    along = (starts - saddle.theta) @ saddle.basis.T @ vectors
    far = np.linalg.norm(along * (1 - 0.2 * values) ** np.arange(1, 801)[:, None, None], axis=-1) > 0.5
    assert np.all(gone[-1])
    assert_allclose(seen, 1 + np.argmax(far, axis=0), rtol=0.05)
    radii = jnp.array([0.01, 0.1, 1.0])
    many = fd.Extended(fd.Iteration(saddle.landscape, fd.SAM(0.2, 0.1)), ["rho"])
    at = many.starts(starts[:3], rho=radii)

    @eqx.filter_jit
    def last(many, at):
        after = jax.lax.fori_loop(0, 1000, lambda _, s: jax.vmap(many.step)(s), jax.vmap(many.init)(at))
        return many.theta(jax.vmap(many.position)(after))

    # drawn to the set, SAM bounces within a ball that scales with ρ
    assert np.all(saddle.transverse(last(many, at)) < 0.2 * np.asarray(radii))


def test_usam_grows_along_the_steepest_direction_as_its_multiplier_says(saddle):
    step = eqx.filter_jit(lambda process, z: process.position(process.step(process.init(z))))
    z, size = saddle.basis @ saddle.direction, -saddle.eigenvalues[0]
    for rho in (1.0, 5.0):
        process = displacement(saddle, fd.USAM(np.array(0.2), np.array(rho)), fd.noise.Exact())
        assert_allclose(step(process, jnp.asarray(z)), (1 + 0.2 * size * (1 - rho * size)) * z, atol=1e-10)


def test_the_exponent_of_heavy_ball_is_its_largest_multiplier(small):
    found = nw.transverse_exponent(small, fd.GD(0.05, 0.9), fd.noise.Exact(), 200, 2, transient=8000)
    roots = np.roots([1, -(1.9 - 0.05 * small.eigenvalues[0]), 0.9])
    assert_allclose(found.value, np.log(np.abs(roots).max()), rtol=1e-6)  # the next direction has died out


def test_linear_theory_with_a_moving_base_says_when_each_minibatch_run_leaves(small):
    method, starts = fd.SAM(0.2, 0.1, momentum=0.5), small.start(1e-8, KEY, 8)
    process = fd.Iteration(small.landscape, method, FEW)
    seen = fd.escape_times(process, starts, small.inside(1e-7), max_steps=4000, key=KEY)
    expected = nw.transverse_escape(small, method, FEW, starts, 1e-7, 4000, KEY)
    assert seen.escaped.all()
    assert seen.steps.std() > 5
    # the same minibatches: what is not linear is of order 1e-7
    assert_allclose(expected.steps, seen.steps, atol=1)


def test_a_frozen_base_remembers_gradients(small):
    """Lagged SAM ascends along the last step's gradient, which is that of a minibatch at the saddle, and not zero."""
    rho, eps, lr = 0.3, 0.01, 0.05
    process = displacement(small, fd.methods.LaggedSAM(lr, rho, eps=eps), FEW)
    landscape, basis = small.landscape, small.basis
    theta, z = jnp.asarray(small.theta), jnp.eye(len(small.basis))[0]
    state, last, shift, turned = process.init(z), jnp.zeros_like(theta), z @ basis, jnp.zeros_like(theta)
    for i in range(2):
        key = jax.random.key(i)
        sample = process.process.sample(process.process.draw(key, landscape.vector(theta)))

        def step(theta, last, sample=sample):
            ahead = theta + rho * last / (jnp.linalg.norm(last) + eps)
            g = landscape.array(sample(landscape.vector(ahead)))
            return theta - lr * g, g

        # ‖·‖ has no slope at the first step's zero, where ρ s/(‖s‖ + ε) has ρ/ε, and nothing has changed s yet
        slopes = (shift, turned) if i else (shift,)
        function = step if i else lambda theta, step=step: step(theta, jnp.zeros_like(theta))
        (_, last), (shift, turned) = jax.jvp(function, (theta, last) if i else (theta,), slopes)
        shift, turned = ((basis @ part) @ basis for part in (shift, turned))
        state = process.step(state, key)
        assert_allclose(process.position(state), basis @ shift, rtol=1e-9, atol=1e-12)


def test_another_minibatch_for_the_ascent_traps_less(small):
    rhos = np.linspace(0, 0.4, 5)
    shared = nw.transverse_exponent(small, fd.SAM(0.2, rhos), FEW, 500, 8, KEY)
    apart = nw.transverse_exponent(small, fd.SAM(0.2, rhos), FEW, 500, 8, KEY, ascent="independent")
    assert shared.chains.shape == (5, 8)
    assert_allclose(shared.value, shared.chains.mean(axis=1), rtol=1e-12)
    assert_allclose(shared.stderr, shared.chains.std(axis=1, ddof=1) / np.sqrt(8), rtol=1e-9)
    difference, error = apart.value - shared.value, np.hypot(shared.stderr, apart.stderr)
    assert abs(difference[0]) < 5 * error[0]  # without an ascent there is nothing to share
    assert difference[-1] > 5 * error[-1]


def test_the_critical_rho_of_sam_is_largest_at_a_middle_batch_size(saddle):
    rules = [nw.critical_rho(saddle, fd.SAM(0.2, 0.1), size, KEY, batches=300, points=0) for size in (1, 50, 400)]
    assert np.isnan(rules[1].root)
    for other in (rules[0], rules[2]):
        assert rules[1].rule - other.rule > 5 * np.hypot(rules[1].rule_stderr, other.rule_stderr)


def test_the_stated_errors_of_a_critical_rho_are_its_spread(small):
    rules = [nw.critical_rho(small, fd.SAM(0.2, 0.1), 5, jax.random.key(i), batches=300, points=0) for i in range(40)]
    errors = np.mean([rule.rule_stderr**2 for rule in rules]) ** 0.5
    # a standard deviation of 40 numbers is known to 1/√78 = 11 %; 4.5 of these, in its logarithm
    assert abs(np.log(np.std([rule.rule for rule in rules], ddof=1) / errors)) < 0.5
    # chains that differ by a constant cross zero in places that spread as these constants do, over the slope
    own = np.array([0.1, -0.3, 0.4, -0.2, 0.0])
    root, error = crossing(np.array([0.1, 0.3]), np.array([own + 0.5, own - 1.5]))
    assert_allclose([root, error], [0.15, 0.1 * own.std(ddof=1) / np.sqrt(5)], rtol=1e-12)


def test_the_exponent_vanishes_at_the_critical_rho(small):
    found = nw.critical_rho(small, fd.SAM(0.2, 0.1), 5, KEY, batches=300, steps=1000, points=5)
    assert 0.5 < found.root / found.rule < 2
    assert 0 < found.root_stderr < 0.2 * found.root
    assert_allclose(np.interp(found.root, found.rhos, found.exponents), 0, atol=0.1 * np.ptp(found.exponents))
    usam = nw.critical_rho(small, fd.USAM(0.2, 0.1), 5, KEY, batches=300, points=0)
    # E H_B² ≥ (E H_B)²: any minibatch traps before the whole set does, at 1/|λ|
    assert usam.rule + 5 * usam.rule_stderr < -1 / small.eigenvalues[0]


BAD = [
    (lambda s, d: nw.zero_unit(nw.MLP((4, 2, 3), KEY, jax.nn.relu), d, 1e-2), "a slope there"),
    (lambda s, d: nw.zero_unit(nw.MLP((4, 2, 3), KEY, jax.nn.sigmoid), d, 1e-2), r"a\(0\) = 0"),
    (lambda s, d: nw.zero_unit(nw.MLP((4, 2, 2, 3), KEY, jnp.tanh), d), "one hidden layer"),
    (lambda s, d: nw.tied_pair(nw.MLP((4, 2, 3), KEY, jnp.tanh), d, 0.1, (0, 2)), "0 to 1, got"),
    (lambda s, d: nw.split_unit(nw.MLP((4, 2, 3), KEY, jnp.tanh), d), "one output, got 3"),
    (lambda s, d: nw.split_unit(nw.MLP((4, 1, 1), KEY, jnp.tanh), nw.Split(d.x, d.x[:, :1]), 1), "neither 0 nor 1"),
    (lambda s, d: nw.linear_origin(nw.Split(d.x, d.x), 1), "depth must be .*got 1"),
    (lambda s, d: nw.transverse_exponent(s, fd.SAM(0.1, 0.1), fd.noise.Exact()), "has no derivative at the saddle"),
    (lambda s, d: nw.transverse_exponent(s, fd.SAM(0.1, 0.1), FEW, key=KEY, ascent="full"), "no derivative"),
    (lambda s, d: nw.transverse_exponent(s, fd.SAM(0.1, 0.1), FEW), "pass key"),
    (
        lambda s, d: nw.critical_rho(
            dataclasses.replace(s, block=0.5 * np.eye(len(s.block))), fd.SAM(0.1, 0.1), 5, KEY
        ),
        r"no direction down: its smallest transverse eigenvalue is 0\.5",
    ),
    (lambda s, d: nw.transverse_exponent(s, fd.SAM(0.1, 0.1), FEW, key=KEY, base="still"), "base must be"),
    (lambda s, d: nw.transverse_exponent(s, fd.SAM(np.ones(2), np.ones(3)), FEW, key=KEY), "of one length"),
    (lambda s, d: nw.transverse_escape(s, fd.GD(0.1), FEW, KEY, 0.1, key=KEY), "starts must be coordinates.*a JAX key"),
    (lambda s, d: nw.transverse_escape(s, fd.GD(0.1), FEW, ["a", "b"], 0.1, key=KEY), "starts must be coordinates"),
    (lambda s, d: nw.transverse_escape(s, fd.GD(0.1), FEW, [1.0, 2.0], 0.1, key=KEY), "starts must have shape"),
    (lambda s, d: s.transverse(s.theta * np.nan), "theta must be finite, got nan"),
    (lambda s, d: s.task.evaluate(s.theta + np.inf, d), "theta must be finite"),
    (lambda s, d: s.task.starts(lambda key: float(key), KEY, 2), "make failed .*: it needs the value of its argument"),
]


@pytest.mark.parametrize(("ask", "message"), BAD)
def test_what_is_no_saddle_or_has_no_exponent_is_refused(small, data, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(small, data)


def test_what_is_no_minimum_is_told():
    with pytest.raises(ValueError, match=r"no minimum was found: .*smallest eigenvalue -1\.0e\+00"):
        minimum(fd.landscapes.saddle((1.0, -1.0)), np.eye(2), np.array([1.0, 0.0]))


def test_rules_are_for_sam_and_usam_alone(small):
    with pytest.raises(TypeError, match="known for SAM and USAM"):
        nw.critical_rho(small, fd.GD(0.1), 5, KEY)
