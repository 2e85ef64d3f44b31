"""Conventions of the methods, against independent implementations, and on everything a vector can be."""

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
START = jnp.array([1.0, 2.0])


def path(process, steps, start=START):
    return fd.simulate(process, start, steps).theta


def plain_loop(update, steps, start=START):
    """θ after each step of a hand-written (θ, v) recursion, in NumPy."""
    theta, velocity, kept = np.array(start), np.zeros(len(start)), [np.array(start)]
    for _ in range(steps):
        theta, velocity = update(theta, velocity)
        kept.append(theta)
    return np.array(kept)


def beale_gradient(w):
    """∇L of Beale, written out by hand."""
    x, y = w
    f = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return np.array(
        [
            2 * (f[0] * (y - 1) + f[1] * (y**2 - 1) + f[2] * (y**3 - 1)),
            2 * (f[0] * x + f[1] * 2 * x * y + f[2] * 3 * x * y**2),
        ]
    )


def test_heavy_ball_is_the_textbook_recursion():
    lr, mu = 1e-4, 0.9

    def update(w, v):
        v = mu * v - lr * beale_gradient(w)
        return w + v, v

    # the same operations in the same order up to rounding, amplified by at most a few hundred over 200 steps
    assert_allclose(path(fd.Iteration(L, fd.GD(lr, momentum=mu)), 200), plain_loop(update, 200), rtol=1e-12)


def test_nesterov_is_pytorchs():
    lr, mu = 1e-4, 0.9

    def update(w, v):  # torch.optim.SGD(nesterov=True): v ← μv + g, w ← w − η(g + μv)
        g = beale_gradient(w)
        v = mu * v + g
        return w - lr * (g + mu * v), v

    assert_allclose(path(fd.Iteration(L, fd.GD(lr, mu, nesterov=True)), 200), plain_loop(update, 200), rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_agrees_with_optax(nesterov):
    ours = fd.Iteration(L, fd.GD(1e-4, momentum=0.9, nesterov=nesterov))
    theirs = fd.Iteration(L, fd.from_optax(optax.sgd(1e-4, momentum=0.9, nesterov=nesterov)))
    assert_allclose(path(ours, 300), path(theirs, 300), rtol=1e-11)


SCHEDULES = {  # each a factor; some begin with 0, one is a whole number, one starts again
    "constant": optax.constant_schedule(1),
    "cosine": optax.cosine_decay_schedule(1.0, 20, alpha=0.1),
    "exponential": optax.exponential_decay(1.0, 5, 0.5, staircase=True),
    "joined": optax.join_schedules([optax.linear_schedule(1.0, 0.5, 8), optax.constant_schedule(0.2)], [12]),
    "piecewise": optax.piecewise_constant_schedule(1.0, {6: 0.3, 15: 0.5}),
    "polynomial": optax.polynomial_schedule(1.0, 0.1, 2, 20, transition_begin=3),
    "restarts": optax.sgdr_schedule(
        [{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 3, "decay_steps": 10, "end_value": 0.1}] * 3
    ),
    "warm-up": optax.warmup_cosine_decay_schedule(0.0, 1.0, 5, 20),
}


def test_schedules_are_optaxs_as_they_are():
    """GD with lr f(k) against optax's own two ways: a factor of the update, and a step size that is injected."""
    line, lr = fd.landscapes.saddle((2.0, -1.0)), 0.3
    start = jnp.array([1.0, 0.5])

    def ours(schedule):
        method = fd.Scheduled(fd.GD(lr), schedule)
        states = jax.lax.scan(lambda s, _: (method.step(line.grad, s), s.theta), method.init(start), length=35)
        return states[1]

    def theirs(transformation):
        def step(carry, _):
            theta, inner = carry
            updates, inner = transformation.update(line.grad(theta), inner, theta)
            return (optax.apply_updates(theta, updates), inner), theta

        return jax.lax.scan(step, (start, transformation.init(start)), length=35)[1]

    @jax.jit  # one program for all of them
    def paths():
        scaled = [theirs(optax.chain(optax.scale_by_schedule(f), optax.sgd(lr))) for f in SCHEDULES.values()]
        injected = [
            theirs(optax.inject_hyperparams(optax.sgd)(lambda k, f=f: jnp.asarray(lr * f(k), float)))
            for f in SCHEDULES.values()
        ]
        return [ours(f) for f in SCHEDULES.values()], scaled, injected

    found, scaled, injected = paths()
    for name, path_, one, other in zip(SCHEDULES, found, scaled, injected, strict=True):
        # optax counts in 32 bits, and so computes factors in single precision: 35 roundings of them
        for same in (one, other):
            assert_allclose(path_, same, rtol=35 * np.finfo(np.float32).eps, err_msg=name)
        assert (np.abs(np.diff(path_[:, 0])) > 0).sum() > 18, name  # it moves, but for cosines that have ended


def test_a_schedule_of_step_sizes_goes_with_a_step_size_of_one():
    schedule = optax.cosine_decay_schedule(1e-3, 60)
    ours = fd.Iteration(L, fd.Scheduled(fd.SAM(1.0, 0.1), schedule))
    theirs = fd.Iteration(L, fd.from_optax(optax.sgd(schedule), follows=fd.SAM(1.0, 0.1)))
    assert_allclose(path(ours, 80), path(theirs, 80), rtol=1e-12)  # 20 steps beyond the end: nothing moves any more
    assert_array_equal(path(ours, 80)[-1], path(ours, 60)[-1])


def test_the_old_cosine_is_handed_on_and_is_optaxs():
    with pytest.warns(DeprecationWarning, match=r"Cosine is now optax.cosine_decay_schedule\(1.0, steps\)"):
        old = fd.methods.Cosine(60)
    at = jnp.arange(80)
    assert_allclose(old(at), optax.cosine_decay_schedule(1.0, 60)(at), atol=2e-16)  # π (k/n) for (π k)/n
    with pytest.raises(AttributeError, match="no attribute 'Cosines'"):
        _ = fd.methods.Cosines


def test_a_schedule_on_a_line_is_a_product():
    line, lr, factor = fd.landscapes.saddle((2.0,)), 0.3, lambda k: 1 / (1 + k)
    process = fd.Iteration(line, fd.Averaged(fd.Scheduled(fd.GD(lr), factor), start=100))
    product = np.cumprod([1.0, *(1 - lr * 2.0 / (1 + np.arange(9)))])
    assert_allclose(path(process, 9, jnp.ones(1))[:, 0], product, rtol=1e-13)


HALVING = SCHEDULES["exponential"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fd.Scheduled(fd.Alternating((fd.GD(0.1),), ((1, 1),)), HALVING), "step size lr of its own"),
        (lambda: fd.Scheduled(fd.GD(0.1), 0.5), "factor must be a function"),
        (lambda: fd.Scheduled(lambda g: g, HALVING), "needs a method"),
        (lambda: fd.stability.update_map(fd.Scheduled(fd.GD(0.1), HALVING), L), "changes from step to"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(build, message):
    with pytest.raises(TypeError, match=message):
        build()


@pytest.mark.parametrize("rho", [0.01, 0.5])
def test_sam_agrees_with_optax_away_from_critical_points(rho):
    lr = 1e-4
    optimiser = optax.contrib.sam(
        optax.sgd(lr), optax.chain(optax.contrib.normalize(), optax.sgd(rho)), opaque_mode=True
    )
    theta, state, kept = START, optimiser.init(START), [START]
    for _ in range(50):
        updates, state = optimiser.update(L.grad(theta), state, theta, grad_fn=lambda w, _: L.grad(w))
        theta = optax.apply_updates(theta, updates)
        kept.append(theta)
    assert_allclose(path(fd.Iteration(L, fd.SAM(lr, rho)), 50), kept, rtol=1e-12)


def test_sam_and_usam_are_their_formulas():
    lr, rho = 1e-3, 0.05

    def sam(w, v):
        g = beale_gradient(w)
        return w - lr * beale_gradient(w + rho * g / np.linalg.norm(g)), v

    def usam(w, v):
        return w - lr * beale_gradient(w + rho * beale_gradient(w)), v

    start = jnp.array([0.5, 0.5])
    assert_allclose(path(fd.Iteration(L, fd.SAM(lr, rho)), 100, start), plain_loop(sam, 100, start), rtol=1e-10)
    assert_allclose(path(fd.Iteration(L, fd.USAM(lr, rho)), 100, start), plain_loop(usam, 100, start), rtol=1e-10)


@pytest.mark.optimised
def test_zero_radius_is_gradient_descent_bit_for_bit():
    for method in (fd.SAM(1e-4, 0, momentum=0.5), fd.USAM(1e-4, 0, momentum=0.5)):
        assert_array_equal(path(fd.Iteration(L, method), 50), path(fd.Iteration(L, fd.GD(1e-4, momentum=0.5)), 50))


def test_a_critical_point_is_a_fixed_point_of_every_method():
    # optax.contrib.sam returns NaN here
    for method in (fd.GD(0.1), fd.SAM(0.1, 0.5), fd.SAM(0.1, 0.5, eps=0.1), fd.USAM(0.1, 0.5)):
        run = fd.simulate(fd.Iteration(L, method), jnp.array([0.0, 1.0]), 5)
        assert_array_equal(run.theta, np.tile([0.0, 1.0], (6, 1)))
        assert run.status == fd.Status.UNDECIDED  # a saddle that lets go of everything beside it


def test_the_official_demo_adds_two_gradients_which_is_sam_with_other_constants():
    # saddle/demo.py of the official code does not zero the first gradient; H is constant on x² − y².
    q = fd.landscapes.saddle((2.0, -2.0))
    lr, rho = 0.01, 0.5

    def summed(w, v):
        g = np.array([2.0, -2.0]) * w
        return w - lr * (g + np.array([2.0, -2.0]) * (w + rho * g / np.linalg.norm(g))), v

    start = jnp.array([-3.0, -0.01])
    exact = path(fd.Iteration(q, fd.SAM(2 * lr, rho / 2)), 500, start)
    assert_allclose(plain_loop(summed, 500, start), exact, atol=1e-15)
    assert np.abs(path(fd.Iteration(q, fd.SAM(lr, rho)), 500, start) - exact).max() > 0.01


def test_a_mask_perturbs_only_what_it_selects():
    g = beale_gradient(np.array(START))
    seen = fd.probe(fd.Iteration(L, fd.SAM(0.1, 0.5, mask=(False, True))), START)
    assert_allclose(seen.perturbed, [1.0, 2.0 + 0.5 * np.sign(g[1])], rtol=1e-15)
    seen = fd.probe(fd.Iteration(L, fd.USAM(0.1, 1e-3, mask=np.array([1, 0]))), START)
    assert_allclose(seen.perturbed, [1.0 + 1e-3 * g[0], 2.0], rtol=1e-14)


# --- one step on everything a vector can be -------------------------------------------------------------------

# Each is made from a mask of the first block, of the form of θ; most have no use for it.
ALL = {
    "GD": lambda first: fd.GD(0.01),
    "heavy ball": lambda first: fd.GD(0.01, momentum=0.9),
    "Nesterov": lambda first: fd.GD(0.01, momentum=0.9, nesterov=True),
    "SAM": lambda first: fd.SAM(0.01, 0.1),
    "SAM, smoothed": lambda first: fd.SAM(0.01, 0.1, momentum=0.9, eps=1e-3),
    "SAM-ON": lambda first: fd.SAM(0.01, 0.1, mask=first),
    "DNSAM": lambda first: fd.DNSAM(0.01, 0.1, mask=first),
    "USAM": lambda first: fd.USAM(0.01, 0.1, momentum=0.9, nesterov=True),
    "ASAM": lambda first: fd.ASAM(0.01, 0.1, momentum=0.9, scaled=first),
    "ASAM, p = inf": lambda first: fd.ASAM(0.01, 0.1, p=np.inf, mask=first),
    "ASAM, unnormalised": lambda first: fd.ASAM(0.01, 0.1, normalized=False),
    "optax": lambda first: fd.from_optax(optax.adam(0.01)),
    "optax on SAM": lambda first: fd.from_optax(optax.adam(0.01), follows=fd.SAM(1, 0.1)),
    "SWA": lambda first: fd.Averaged(fd.GD(0.01, momentum=0.9), start=1),
    "a schedule": lambda first: fd.Scheduled(fd.SAM(0.01, 0.1, momentum=0.5), SCHEDULES["warm-up"]),
    "radii that fall": lambda first: fd.Scheduled(fd.SAM(0.01, 0.1, mask=first), rho=SCHEDULES["warm-up"]),
    "a start": lambda first: fd.Started(fd.GD(0.01, 0.9), np.full(8, 0.1)),
    "a switch": lambda first: fd.Switched((fd.GD(0.01, 0.9), 1), (fd.SAM(0.01, 0.1, 0.5, units="gradient"), None)),
    "decay": lambda first: fd.SAM(
        0.01, 0.1, 0.9, weight_decay=0.1, dampening=0.2, start="twice", scope="all", mask=first
    ),
    "decay in the loss": lambda first: fd.SAM(0.01, 0.1, p=1, ascents=2, weight_decay=0.1, decay="loss", mask=first),
    "WASAM": lambda first: fd.Averaged(fd.SAM(0.01, 0.1), every=2, decay=0.5),
    "an average of a sampler": lambda first: fd.Averaged(fd.SGLD(0.01)),
    "Alternating": lambda first: fd.Alternating((fd.SAM(0.01, 0.1), fd.SGLD(0.01)), (first, masks.complement(first))),
    "SGLD": lambda first: fd.SGLD(0.01),
    "LeimkuhlerMatthews": lambda first: fd.LeimkuhlerMatthews(0.01),
    "Langevin": lambda first: fd.Langevin(0.1, splitting="OBABO"),
    "AdaptiveLangevin": lambda first: fd.AdaptiveLangevin(0.1, blocks=(first, masks.complement(first))),
    "LaLa": lambda first: fd.LaLa(0.1, first, friction=(1, 2), temperature=(1, 0.5)),
    "AdLaLa": lambda first: fd.AdLaLa(0.1, first),
    "LOL": lambda first: fd.LOL(0.1, first),
    "Multirate": lambda first: fd.Multirate(0.01, first, 3, 0.5),
    "WSAM": lambda first: fd.methods.WSAM(0.01, 0.1, 0.75, momentum=0.9, mask=first),
    "GSAM": lambda first: fd.methods.GSAM(0.01, 0.1, 0.4, scope="all"),
    "UnifiedSAM": lambda first: fd.methods.UnifiedSAM(0.01, 0.1, 0.5, mask=first),
    "LookSAM": lambda first: fd.methods.LookSAM(0.01, 0.1, 2, 0.5, momentum=0.9, mask=first),
    "FriendlySAM": lambda first: fd.methods.FriendlySAM(0.01, 0.1, 0.7, mask=first, copy_first=True),
    "MSAM": lambda first: fd.methods.MSAM(0.01, 0.1, 0.9, mask=first),
    "LaggedSAM": lambda first: fd.methods.LaggedSAM(0.01, 0.1, eps=1e-3, mask=first),
    "Lookahead": lambda first: fd.methods.Lookahead(fd.SAM(0.01, 0.1, momentum=0.5), 2, memory="pull"),
}
CONSTRAINED = {"ConstrainedLangevin", "ConstrainedSGLD"}  # do not start anywhere: see their own tests
W, B = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3))), jnp.array([0.5, -0.3])


def loss(w, b):
    return jnp.sum(jnp.tanh(w @ jnp.arange(1.0, 4.0) + b) ** 2) + jnp.sum(w**4)


def gradient_of_row(row):
    return jax.grad(lambda row: loss(row[:6].reshape(2, 3), row[6:]))(row)


# (from a row of numbers, back to it, the gradient field, a mask of w) for each form of θ
FORMS = {
    "array": (
        lambda row: row,
        lambda theta: theta,
        gradient_of_row,
        np.arange(8) < 6,
    ),
    "coordinates": (
        lambda row: Vector(tuple(row)),
        lambda theta: jnp.stack(theta.tree),
        lambda theta: Vector(tuple(gradient_of_row(jnp.stack(theta.tree)))),
        (True,) * 6 + (False,) * 2,
    ),
    "network": (
        lambda row: Vector({"w": row[:6].reshape(2, 3), "b": row[6:]}),
        lambda theta: jnp.concatenate([theta.tree["w"].ravel(), theta.tree["b"]]),
        lambda theta: Vector(jax.grad(lambda tree: loss(tree["w"], tree["b"]))(theta.tree)),
        {"w": True, "b": False},
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_a_step_is_the_same_on_arrays_coordinates_and_networks(name):
    start, rng, ends = jnp.concatenate([W.ravel(), B]), np.random.default_rng(1), {}
    kicks = rng.normal(size=(3, 8, 8))  # for each of three steps as many normal vectors as any method uses
    for form, (make, back, field, mask) in FORMS.items():
        method = ALL[name](mask)
        state = method.init(make(start))
        for k in range(3):
            state = method.step(field, state, *[make(jnp.asarray(kick)) for kick in kicks[k, : method.draws]])
        ends[form] = back(state.theta)
    assert (ends["array"] != start).all()
    # sums over components run in another order
    assert_allclose(ends["coordinates"], ends["array"], rtol=1e-13)
    assert_allclose(ends["network"], ends["array"], rtol=1e-13)


def test_no_method_is_left_out():
    exported = [thing for thing in vars(fd.methods).values() if isinstance(thing, type)]
    names = {kind.__name__ for kind in exported if issubclass(kind, fd.methods.Method)}
    tried = {type(make(np.arange(8) < 6)).__name__ for make in ALL.values()}
    assert names - {"Method", "FirstOrder", "Wrapper"} - CONSTRAINED <= tried


def test_an_equinox_network_is_a_vector():
    network = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    weights, static = eqx.partition(network, eqx.is_array)
    x, y = jnp.array([[1.0, 2.0], [0.5, -1.0]]), jnp.array([1.0, -1.0])

    def loss(weights):
        return jnp.mean((jax.vmap(eqx.combine(weights, static))(x)[:, 0] - y) ** 2)

    method = fd.SAM(0.1, 0.05, momentum=0.9)

    @jax.jit
    def trained(weights):
        step = lambda _, state: method.step(lambda v: Vector(jax.grad(loss)(v.tree)), state)  # noqa: E731
        return loss(weights), loss(jax.lax.fori_loop(0, 20, step, method.init(Vector(weights))).theta.tree)

    before, after = trained(weights)
    assert after < 0.5 * before


def test_a_sweep_is_a_vmap_over_fields():
    radii = jnp.array([0.0, 0.1, 0.5])

    def step(method):
        process = fd.Iteration(L, method)
        return process.position(process.step(process.init(START)))

    together = eqx.filter_jit(eqx.filter_vmap(step))(fd.SAM(1e-3, radii, momentum=0.5))
    alone = [step(fd.SAM(1e-3, float(rho), momentum=0.5)) for rho in radii]
    assert_allclose(together, alone, rtol=1e-14)


# --- bad input ------------------------------------------------------------------------------------------------

BAD = [
    (lambda: fd.GD(0.0), "lr must be finite and > 0, got 0.0"),
    (lambda: fd.GD(-1), "lr must be .* > 0, got -1"),
    (lambda: fd.GD(np.nan), "lr must be finite.*nan"),
    (lambda: fd.GD("fast"), "lr must be a number, got 'fast'"),
    (lambda: fd.GD(0.1, momentum=1.0), "momentum must be .*>= 0 and < 1, got 1.0"),
    (lambda: fd.GD(0.1, momentum=-0.1), "momentum must be .*got -0.1"),
    (lambda: fd.SAM(0.1, -0.1), "rho must be .*>= 0, got -0.1"),
    (lambda: fd.SAM(0.1, np.inf), "rho must be finite.*inf"),
    (lambda: fd.SAM(0.1, 0.1, eps=-1e-3), "eps must be .*>= 0, got -0.001"),
    (lambda: fd.USAM(0.1, -0.1), "rho must be .*>= 0, got -0.1"),
    (lambda: fd.SAM(np.array([0.1, -0.2]), 0.1), "lr must be .*got -0.2"),
    (lambda: fd.from_optax("adam"), "GradientTransformation, got 'adam'"),
    (lambda: fd.Iteration(L, fd.SAM(0.1, 0.1, mask=(1, 0, 0))), "mask .* 2 in all, got 3"),
    (lambda: fd.Iteration(L, fd.SAM(0.1, 0.1, mask=(0, 0))), "mask is empty"),
    (lambda: fd.Iteration(L, fd.GD(0.1), ascent="both"), "'shared', 'independent', 'full', got 'both'"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_hyperparameters_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
