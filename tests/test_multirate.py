"""Fast and slow blocks: Algorithm 1 against independent code, its special cases, its cost, and what it refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.core.algebra import Vector

FAST = (False, True)
RATES = (1, 4, 2)


def quadratic(row):
    values = {"a": row["a_S"], "c": row["coupling"], "b": row["a_F"]}
    return fd.Landscape.from_expression("a*s**2/2 + c*s*f + b*f**2/2", "s f", parameters=values)


def network():
    """Parameters of a small network, and its loss as a landscape."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = ((16, 24), (24, 24), (24, 4))
    weights = [jax.random.normal(key, shape) / 4 for key, shape in zip(keys[:3], shapes, strict=True)]
    params = [{"weight": weight, "bias": jnp.zeros(len(weight.T))} for weight in weights]
    x = jax.random.normal(keys[3], (40, 16))

    def loss(params):
        out = x
        for layer in params[:-1]:
            out = jnp.maximum(out @ layer["weight"] + layer["bias"], 0)
        return ((out @ params[-1]["weight"] + params[-1]["bias"] - x[:, :4]) ** 2).mean()

    return params, fd.Landscape.from_function(loss, like=params)


# --- what it does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", range(3))
def test_spectral_radii_and_paths_of_the_reference(reference, row):
    row = reference["9_langevin"]["multirate"]["rows"][row]
    L, method = quadratic(row), fd.Multirate(row["h"], FAST, row["k"], row["mu"])
    radius = np.abs(fd.stability.multipliers(method, L, at=(0.0, 0.0))).max()
    symbolic = np.array(fd.stability.jacobian(method, L, at=(0, 0)), dtype=float)
    assert symbolic.shape == ((2, 2) if row["mu"] == 0 else (4, 4))
    # 1e-12 is asked for: a few dozen double-precision operations
    assert_allclose(radius, row["spectral_radius"], rtol=0, atol=1e-12)
    assert_allclose(np.abs(np.linalg.eigvals(symbolic)).max(), row["spectral_radius"], rtol=0, atol=1e-12)
    end = fd.simulate(fd.Iteration(L, method), np.ones(2), 3).final
    assert_allclose(end, row["state_after_3_macro_steps_from_1_1"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "radius"), [(5, 1.00022), (10, 0.80102)])
def test_a_stiff_block_is_tamed_by_more_inner_steps(k, radius):
    method = fd.Multirate(0.2, FAST, k)
    found = fd.stability.multipliers(method, quadratic({"a_S": 1, "coupling": 0.5, "a_F": 50}), at=(0.0, 0.0))
    assert_allclose(np.abs(found).max(), radius, atol=5e-6)  # the digits in which it is known


def test_blocks_that_do_not_feel_each_other_have_the_multipliers_of_their_own_steps():
    method = fd.Multirate(0.2, FAST, 8)
    found = fd.stability.multipliers(method, quadratic({"a_S": 1, "coupling": 0, "a_F": 30}), at=(0.0, 0.0))
    assert_allclose(sorted(found.real), sorted([1 - 0.2, (1 - 0.2 * 30 / 8) ** 8]), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("momentum", "options"), [(0.0, {"fast": FAST, "k": 1}), (0.9, {"blocks": [(True, True)], "rates": [1]})]
)
def test_rates_of_one_are_gradient_descent(momentum, options):
    L, start = fd.landscapes.himmelblau(), np.array([1.0, 0.5])
    ours = fd.simulate(fd.Iteration(L, fd.Multirate(0.005, momentum=momentum, **options)), start, 50)
    theirs = fd.simulate(fd.Iteration(L, fd.GD(0.005, momentum)), start, 50)
    assert_allclose(ours.theta, theirs.theta, rtol=1e-11)  # rounding over 50 steps: p is −v/η


def test_any_number_of_rates_is_the_recursion_written_out():
    """Independent: clocks and index lists in NumPy, the gradient by hand."""
    L = fd.Landscape.from_expression("(x*y - 1)**2/2 + (y - z**2)**2 + x**2/8", "x y z")
    momenta, h = (0.3, 0.5, 0.0), 0.05

    def gradient(w):
        x, y, z = w
        return np.array([(x * y - 1) * y + x / 4, (x * y - 1) * x + 2 * (y - z**2), -4 * z * (y - z**2)])

    w, p = np.array([0.5, 1.2, -0.7]), np.zeros(3)
    start = w.copy()
    for micro in range(4 * 20):
        g = gradient(w)
        for i, every in enumerate([4, 1, 2]):
            if micro % every == 0:
                p[i] = momenta[i] * p[i] + g[i]
        w = w - h / 4 * p
    blocks = [np.eye(3)[i] for i in range(3)]
    method = fd.Multirate(h, momentum=momenta, blocks=blocks, rates=RATES)
    run = fd.simulate(fd.Iteration(L, method), start, 20, observe=lambda state: jnp.stack(state.momentum.tree))
    assert_allclose(run.final, w, rtol=1e-12)
    assert_allclose(run.observed[-1], p, rtol=1e-11)


def test_it_follows_the_gradient_flow_to_first_order():
    L = quadratic({"a_S": 1, "coupling": 0.5, "a_F": 4})
    values, vectors = np.linalg.eigh([[1, 0.5], [0.5, 4]])
    exact = vectors @ (np.exp(-values) * (vectors.T @ np.ones(2)))
    steps = np.array([40, 80, 160])
    runs = [fd.simulate(fd.Iteration(L, fd.Multirate(1 / n, FAST, 3)), np.ones(2), n, every=n) for n in steps]
    errors = [np.linalg.norm(run.final - exact) for run in runs]
    # slope −1 up to O(h): halving the step changes it by a few percent
    assert_allclose(np.polyfit(np.log(steps), np.log(errors), 1)[0], -1, atol=0.05)


def test_each_micro_step_has_its_own_sample_and_the_slow_block_uses_the_first():
    flat = fd.Landscape.from_function(lambda theta: 0 * theta.sum(), 3)
    blocks = [np.eye(3)[i] for i in range(3)]
    method = fd.Multirate(0.8, blocks=blocks, rates=RATES)
    process = fd.Iteration(flat, method, noise=fd.noise.Gaussian(1.0))
    assert method.samples == 4
    xi = np.random.default_rng(1).normal(size=(4, 3))
    moved = process.driven(process.init(jnp.zeros(3)), jnp.asarray(xi.ravel())).theta.tree
    expected = -0.8 * np.array([xi[0, 0], xi[:, 1].mean(), (xi[0, 2] + xi[2, 2]) / 2])
    assert_allclose(moved, expected, rtol=1e-12)


def test_the_map_in_symbols():
    import sympy

    h, a, b, c = sympy.symbols("h a b c", positive=True)
    L = fd.Landscape.from_expression("a*s**2/2 + c*s*f + b*f**2/2", "s f", parameters={"a": a, "b": b, "c": c})
    s, f = L.symbols
    slow = s - h * (a * s + c * f)
    middle = f - h / 2 * (b * f + c * s)
    fast = middle - h / 2 * (b * middle + c * (s - h / 2 * (a * s + c * f)))
    gap = fd.stability.update_map(fd.Multirate(h, FAST, 2), L) - sympy.Matrix([slow, fast])
    assert gap.applyfunc(sympy.expand) == sympy.zeros(2, 1)


# --- on networks ----------------------------------------------------------------------------------------------


def test_only_the_gradients_whose_turn_it_is_are_computed():
    params, L = network()
    head = fd.masks.where(params, lambda path, _: path.startswith("[2]"))

    def operations(method):
        state = method.init(Vector(params))
        compiled = jax.jit(lambda state: method.step(L.field, state)).lower(state).compile()
        return compiled.cost_analysis()["flops"]

    full = operations(fd.GD(0.1))
    subset = fd.Multirate(0.1, fd.masks.random(params, 300, jax.random.key(1)), 2)
    # Forward, and backward to weights and to activations, cost about one part each: the head alone needs one of
    # the three in all layers, so 4 steps cost (3 + 3) / 12 of the full ones, and something for the head.
    assert operations(fd.Multirate(0.1, head, 4)) / (4 * full) < 0.65
    assert operations(subset) / (2 * full) > 0.95  # nothing is saved: every layer has some of it


def test_partitions_of_a_network():
    params, L = network()
    theta = L.flatten(params)
    random = fd.masks.random(params, 300, jax.random.key(1))
    head, chosen = fd.masks.named(params, "[2]"), np.asarray(L.flatten(random), dtype=bool)
    gradient = np.asarray(L.grad(theta))
    for mask, fast in ((random, chosen), (head, np.asarray(L.flatten(jax.tree.map(jnp.full_like, params, head))) == 1)):
        process = fd.Iteration(L, fd.Multirate(0.1, mask, 2, 0.5))
        moved = np.asarray(process.position(eqx.filter_jit(process.step)(process.init(theta))))
        # the slow block has moved along its gradient at the start; the fast one has taken two steps of its own
        assert_allclose(moved[~fast], (theta - 0.1 * gradient)[~fast], rtol=1e-10, atol=1e-14)
        assert np.abs(moved - (theta - 0.1 * gradient))[fast].max() > 1e-6
    by_leaf = fd.Multirate(0.1, blocks=fd.masks.each(params), rates=(1, 1, 2, 2, 4, 4))
    assert fd.Iteration(L, by_leaf).method.samples == 4  # leaves are a partition


# --- what it refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give either fast"),
        ({"fast": FAST, "blocks": [FAST], "rates": [1]}, "give either fast"),
        ({"blocks": [FAST, (True, False)]}, "both blocks and rates"),
        ({"fast": FAST, "k": 0}, "k must be a whole number >= 1, got 0"),
        ({"fast": FAST, "k": 2.5}, "k must be a whole number"),
        ({"fast": FAST, "momentum": 1.0}, "momentum must be finite and >= 0 and < 1, got 1"),
        ({"fast": FAST, "momentum": (0.9,)}, "rates and momentum must hold one value for each block"),
        ({"fast": FAST, "lr": 0.0}, "lr must be finite and > 0"),
        ({"blocks": [FAST, (True, False)], "rates": [2, 3]}, "divide the largest, 3, got 2"),
        ({"blocks": [FAST, (True, False)], "rates": [1]}, "rates and momentum must hold one"),
        ({"blocks": [], "rates": []}, "rates and momentum must hold one"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fd.Multirate(**({"lr": 0.1} | options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fast": (False, False)}, "block 2 is empty"),
        ({"fast": (True, True)}, "block 1 is empty"),
        ({"fast": (True, False, True)}, "one entry per coordinate, 2 in all, got 3"),
        ({"blocks": [(True, True), FAST], "rates": [1, 2]}, r"blocks overlap.*\[1\] is selected 2 times"),
        ({"blocks": [FAST, FAST], "rates": [1, 2]}, r"do not cover everything.*\[0\] is selected 0 times"),
    ],
)
def test_blocks_that_are_no_partition_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fd.Iteration(fd.landscapes.beale(), fd.Multirate(0.1, **options))


def test_blocks_of_a_network_that_are_no_partition_are_refused_with_their_place():
    params, L = network()
    head, middle = fd.masks.named(params, "[2]"), fd.masks.named(params, "[1]", "[2]")
    with pytest.raises(ValueError, match=r"do not cover everything.*\[0\]\['bias'\]"):
        fd.Iteration(L, fd.Multirate(0.1, blocks=[middle], rates=[1]))
    with pytest.raises(ValueError, match=r"blocks overlap.*\[1\]\['bias'\]"):
        fd.Iteration(L, fd.Multirate(0.1, blocks=[fd.masks.complement(head), middle, head], rates=[1, 2, 2]))
    with pytest.raises(ValueError, match="block 1 must be a tree like the parameters"):
        fd.Iteration(L, fd.Multirate(0.1, {"weight": True}))


@pytest.mark.parametrize(("blocks", "words"), [([FAST, (True, True)], "overlap"), ([FAST, FAST], "do not cover")])
def test_alternating_holds_its_blocks_to_the_same(blocks, words):
    method = fd.Alternating((fd.GD(0.1), fd.GD(0.2)), blocks)
    with pytest.raises(ValueError, match=words):
        fd.Iteration(fd.landscapes.beale(), method)


def test_alternating_accepts_weights_of_a_partition():
    halves = [np.array([0.0, 1.0]), np.array([1.0, 0.0])]
    process = fd.Iteration(fd.landscapes.beale(), fd.Alternating((fd.GD(0.1), fd.GD(0.1)), halves))
    assert_array_equal(process.position(process.init(jnp.array([1.0, 2.0]))), [1, 2])
