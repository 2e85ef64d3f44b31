"""Variants of SAM: ASAM against its formulas in NumPy, masks and what they save, SAM under optimisers of optax."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import masks
from flatdyn.core.algebra import Vector

L = fd.landscapes.beale()
START = np.array([1.0, 2.0])


def gradient(w):
    """∇L of Beale, written out by hand."""
    x, y = w
    f = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return np.array(
        [
            2 * (f[0] * (y - 1) + f[1] * (y**2 - 1) + f[2] * (y**3 - 1)),
            2 * (f[0] * x + f[1] * 2 * x * y + f[2] * 3 * x * y**2),
        ]
    )


def path(method, steps=100, start=START):
    return fd.simulate(fd.Iteration(L, method), start, steps).theta


def by_hand(perturbation, lr, steps=100, start=START):
    """θ after each step down the gradient at θ + perturbation(θ, ∇L(θ))."""
    kept = [np.array(start)]
    for _ in range(steps):
        w = kept[-1]
        kept.append(w - lr * gradient(w + perturbation(w, gradient(w))))
    return np.array(kept)


# --- ASAM -----------------------------------------------------------------------------------------------------


def asam(w, g, rho, shift, scaled=(1, 1), mask=(1, 1), eps=0.0):
    """The two loops of the authors' program (ascent of ASAM), tensor by tensor, with a mask and eps besides."""
    sizes, total = [], 0.0
    for k in range(len(w)):
        t = abs(w[k]) + shift if scaled[k] else 1.0
        sizes.append(t)
        total += (t * g[k] * mask[k]) ** 2
    length = total**0.5 + eps
    return np.array([rho * sizes[k] * sizes[k] * g[k] * mask[k] / length for k in range(len(w))])


# the same operations up to rounding, which 100 steps amplify by a few hundred
CLOSE = {"rtol": 1e-12}


@pytest.mark.parametrize(
    "options",
    [{}, {"shift": 0.3}, {"scaled": (1, 0)}, {"mask": (0, 1)}, {"scaled": (0, 1), "mask": (0, 1), "eps": 0.4}],
)
def test_asam_is_its_formula(options):
    lr, rho, shift = 1e-4, 0.3, options.get("shift", 0.01)
    expected = by_hand(lambda w, g: asam(w, g, rho, **{"shift": shift} | options), lr)
    assert_allclose(path(fd.ASAM(lr, rho, **options)), expected, **CLOSE)


@pytest.mark.parametrize(("scaled", "mask"), [(None, None), ((True, False), None), (None, (False, True))])
def test_asam_of_the_maximum_norm_and_the_unnormalised_one_are_their_formulas(scaled, mask):
    lr, rho, shift = 1e-4, 0.1, 0.05
    s, m = (np.ones(2) if value is None else np.array(value, float) for value in (scaled, mask))

    def size(w):
        return s * (np.abs(w) + shift) + 1 - s

    sharp = fd.ASAM(lr, rho, shift=shift, p=np.inf, scaled=scaled, mask=mask)
    assert_allclose(path(sharp), by_hand(lambda w, g: rho * size(w) * np.sign(m * g), lr), **CLOSE)
    plain = fd.ASAM(lr / 10, rho / 100, shift=shift, normalized=False, scaled=scaled, mask=mask)
    assert_allclose(path(plain), by_hand(lambda w, g: rho / 100 * size(w) ** 2 * m * g, lr / 10), **CLOSE)


def test_asam_does_not_change_when_parameters_are_rescaled_against_each_other():
    """uv = (cu)(v/c): the perturbed product is the same for ASAM without shift, and is not for SAM."""
    network = fd.landscapes.factorization(2.0)

    def product(method, c):
        return np.prod(fd.probe(fd.Iteration(network, method), np.array([1.5 * c, 0.7 / c])).perturbed)

    for method in (fd.ASAM(0.1, 0.2, shift=0), fd.ASAM(0.1, 0.2, shift=0, p=np.inf)):
        assert_allclose(product(method, 5.0), product(method, 1.0), rtol=1e-14)
    assert abs(product(fd.SAM(0.1, 0.2), 5.0) / product(fd.SAM(0.1, 0.2), 1.0) - 1) > 0.1


def test_asam_measured_nowhere_is_sam_and_with_radius_zero_gd():
    options = {"momentum": 0.5, "nesterov": True}
    none = fd.ASAM(1e-4, 0.3, scaled=np.array([0.0, 1e-300]), shift=0, **options)
    assert_allclose(path(none), path(fd.SAM(1e-4, 0.3, **options)), **CLOSE)
    assert_array_equal(path(fd.ASAM(1e-4, 0.0, **options)), path(fd.GD(1e-4, **options)))


def test_asam_ends_at_critical_points_and_never_in_nan():
    for method in (fd.ASAM(0.1, 0.5), fd.ASAM(0.1, 0.5, p=np.inf), fd.ASAM(0.1, 0.5, normalized=False)):
        process = fd.Iteration(L, method)
        step, state = jax.jit(lambda state, process=process: process.step(state)), process.init(jnp.array([0.0, 1.0]))
        for _ in range(5):
            state = step(state)
            assert_array_equal(process.position(state), [0.0, 1.0])


# --- what the rest of the library makes of it -----------------------------------------------------------------


def test_formulas_of_sam_are_not_used_for_asam():
    well, noise = fd.landscapes.double_well(2), fd.noise.Gaussian(1.0)
    for method in (fd.ASAM(0.1, 0.5), fd.ASAM(0.1, 0.5, eps=0.1), fd.ASAM(0.1, 0.5, normalized=False)):
        for ask in (fd.stability.conditions, fd.stability.edge):
            with pytest.raises(TypeError, match="ASAM's ascent depends on the parameters"):
                ask(method, 1.0)
        with pytest.raises(TypeError, match="method must be a SAM"):
            fd.quadratic.two_cycle(method, [1.0], 0)
        with pytest.raises(TypeError, match="take form='derived'"):
            fd.flows.Diffusion(well, method, noise, form="published")
    surfaces = fd.ASAM(0.1, 0.5, p=np.inf)
    with pytest.raises(TypeError, match="take p=2"):
        fd.flows.Flow(well, surfaces)
    with pytest.raises(TypeError, match="take p=2"):
        fd.flows.Diffusion(well, surfaces, noise, form="derived")


def test_jacobians_exist_where_the_map_is_smooth_and_only_there():
    well = fd.landscapes.double_well(2)
    where_one_vanishes = (0.0, 0.5)
    for method, jumps in [
        (fd.ASAM(0.1, 0.2), {(0, 0)}),
        (fd.ASAM(0.1, 0.2, p=np.inf), {(0, 0), where_one_vanishes}),
        (fd.ASAM(0.1, 0.2, eps=0.1), set()),
        (fd.ASAM(0.1, 0.2, normalized=False), set()),
    ]:
        for at in [(0, 0), where_one_vanishes, (0.3, 0.4)]:
            for ask in (fd.stability.jacobian, fd.stability.numeric_jacobian):
                if at in jumps:
                    with pytest.raises(ValueError, match="no Jacobian"):
                        ask(method, well, at=at)
                else:
                    assert np.isfinite(np.array(ask(method, well, at=at), dtype=float)).all()


def test_fixed_points_of_asam_that_are_not_critical_see_a_critical_point():
    """p = θ + ρ T u with p = 0 and θ < 0 < −L': |θ| (1 − ρ) = ρ · shift, on both sides of the maximum."""
    line, rho, shift = fd.landscapes.double_well(), 0.5, 0.1
    found = fd.fixedpoints.find(fd.Iteration(line, fd.ASAM(0.1, rho, shift=shift)))
    seeing = rho * shift / (1 - rho)
    # the root search ends within about √rounding of where the gradient at p vanishes
    assert_allclose(sorted(p.theta[0] for p in found), [-1, -seeing, 0, seeing, 1], atol=1e-7)


# --- masks, and what they save --------------------------------------------------------------------------------


class Network(eqx.Module):
    """Two blocks of a linear map, a normalization, and tanh, as wide as to make everything else small."""

    weights: list
    norms: list

    def __init__(self, width, depth=2):
        keys = jax.random.split(jax.random.key(0), depth)
        self.weights = [jax.random.normal(key, (width, width)) / width**0.5 for key in keys]
        self.norms = [{"gain": jnp.ones(width), "offset": jnp.zeros(width)} for _ in keys]

    def __call__(self, x):
        for weight, norm in zip(self.weights, self.norms, strict=True):
            x = x @ weight
            x = (x - x.mean(0)) / (x.std(0) + 1e-5)
            x = jnp.tanh(norm["gain"] * x + norm["offset"])
        return x


def network_and_loss(width=64, batch=128, depth=2):
    network = Network(width, depth)
    x, y = jax.random.normal(jax.random.key(1), (2, batch, width))
    return network, lambda network: jnp.mean((network(x) - y) ** 2)


def test_sam_on_costs_less_than_sam():
    """A gradient is one pass forward and two back, and without those of the weights one back: 5/6 of SAM in all."""
    network, loss = network_and_loss()
    on = masks.named(network, "norms")

    def flops(method):
        state = method.init(Vector(network))
        step = jax.jit(lambda state: method.step(lambda v: Vector(jax.grad(loss)(v.tree)), state))
        return step.lower(state).compile().cost_analysis()["flops"]

    once = flops(fd.GD(0.1))
    assert 1.95 < flops(fd.SAM(0.1, 0.05)) / once < 2.15
    for method in (fd.SAM(0.1, 0.05, mask=on), fd.ASAM(0.1, 0.05, mask=on)):
        assert 1.4 < flops(method) / once < 1.8


@pytest.mark.parametrize("make", [fd.SAM, fd.ASAM])
def test_masks_of_flags_arrays_and_weights_are_one_method(make):
    network, loss = network_and_loss(4, 8, depth=1)
    on = masks.named(network, "norms")
    size = masks.count(network, on)
    field = lambda v: Vector(jax.grad(loss)(v.tree))  # noqa: E731

    @eqx.filter_jit
    def ascended(method):
        return method.ascend(field, Vector(network)).tree

    def seen(mask):
        return ascended(make(0.1, 0.05, mask=mask))

    for kind in (bool, float):
        arrays = jax.tree.map(lambda flag, leaf, kind=kind: jnp.full(leaf.shape, flag, kind), on, network)
        # another mask is another program: sums may be in another order
        for a, b in zip(jax.tree.leaves(seen(on)), jax.tree.leaves(seen(arrays)), strict=True):
            assert_allclose(a, b, rtol=1e-13)
    for mask in (on, masks.random(network, size, jax.random.key(2)), masks.largest(network, size)):
        moved = jax.tree.map(lambda a, b: np.sum(a != b), seen(mask), network)
        assert sum(jax.tree.leaves(moved)) == size == masks.count(network, mask)
    for part in jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), seen(on).weights, network.weights)):
        assert not part


# --- optax ----------------------------------------------------------------------------------------------------


@pytest.mark.optimised
@pytest.mark.parametrize("follows", [fd.SAM(1e-4, 0.3), fd.ASAM(1e-4, 0.3), fd.USAM(1e-4, 0.01)], ids=repr)
def test_gradients_of_sam_under_sgd_of_optax_are_the_method_bit_for_bit(follows):
    other = fd.from_optax(optax.sgd(1e-4), follows=follows)
    assert_array_equal(path(other, 500), path(follows, 500))


def test_adam_on_the_gradient_of_sam_is_the_loop_by_hand():
    lr, rho = 1e-2, 0.1
    adam = optax.adam(lr)
    theta, state, kept = jnp.array(START), adam.init(jnp.array(START)), [START]
    for _ in range(50):
        g = L.grad(theta)
        updates, state = adam.update(L.grad(theta + rho * g / jnp.linalg.norm(g)), state, theta)
        theta = optax.apply_updates(theta, updates)
        kept.append(theta)
    # Adam divides by root mean squares of gradients: rounding is amplified by a few thousand in 50 steps
    assert_allclose(path(fd.from_optax(adam, follows=fd.SAM(1.0, rho)), 50), kept, rtol=1e-11)


def test_adam_on_the_gradient_of_sam_is_that_of_optax_contrib():
    lr, rho = 1e-2, 0.1
    theirs = optax.contrib.sam(optax.adam(lr), optax.chain(optax.contrib.normalize(), optax.sgd(rho)), opaque_mode=True)
    theta, state, kept = jnp.array(START), theirs.init(jnp.array(START)), [START]
    for _ in range(30):
        updates, state = theirs.update(L.grad(theta), state, theta, grad_fn=lambda w, _: L.grad(w))
        theta = optax.apply_updates(theta, updates)
        kept.append(theta)
    assert_allclose(path(fd.from_optax(optax.adam(lr), follows=fd.SAM(1.0, rho)), 30), kept, rtol=1e-11)


def test_schedules_of_optax_advance_with_the_steps():
    schedule = optax.exponential_decay(1e-4, 10, 0.5)
    expected = [START]
    for k in range(60):
        expected.append(expected[-1] - 1e-4 * 0.5 ** (k / 10) * gradient(expected[-1]))
    # optax counts in 32 bits, and so computes this schedule in single precision
    assert_allclose(path(fd.from_optax(optax.sgd(schedule)), 60), expected, rtol=1e-7)
    assert np.abs(path(fd.GD(1e-4), 60)[-1] - expected[-1]).max() > 0.1


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 1}, r"p must be 2 or infinity \(np.inf\), got 1"),
        ({"p": "inf"}, "p must be 2 or infinity .*got 'inf'"),
        ({"p": jax.random.key(0)}, "p must be 2 or infinity .*got a JAX key"),
        ({"p": np.ones(2)}, "p must be 2 or infinity .*got an array"),
        ({"p": np.inf, "normalized": False}, "leave out p=inf"),
        ({"p": np.inf, "eps": 0.1}, "eps smooths the norm of p = 2.*got 0.1"),
        ({"normalized": False, "eps": 0.1}, "eps smooths the norm"),
        ({"shift": -0.1}, "shift must be .*>= 0, got -0.1"),
        ({"rho": -1}, "rho must be .*>= 0"),
    ],
)
def test_bad_asam_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fd.ASAM(**{"lr": 0.1, "rho": 0.1} | options)


def test_masks_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="scaled must have one entry per coordinate, 2 in all, got 3"):
        fd.Iteration(L, fd.ASAM(0.1, 0.1, scaled=(1, 0, 1)))
    with pytest.raises(ValueError, match="mask is empty"):
        fd.Iteration(L, fd.ASAM(0.1, 0.1, mask=(0, 0)))
