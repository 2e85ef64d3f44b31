"""Any transformation of optax: all that the installed one has, each against a plain loop, and the words of refusals."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.core.randomness import split

# --- two landscapes, and a loop written by hand ---------------------------------------------------------------

TREE = {"b": jnp.array([0.4, -0.2]), "w": jnp.array([[0.9, -0.7], [0.3, 1.2]])}


def of_array(theta):
    x, y = theta
    return (x**2 - 1) ** 2 / 4 + y**2 + x * y / 2


def of_tree(tree):
    out = jnp.tanh(tree["w"] @ jnp.array([1.0, -0.5]) + tree["b"])
    return jnp.sum((out - jnp.array([0.5, -0.5])) ** 2) + 0.1 * jnp.sum(tree["w"] ** 4)


EXPRESSION = fd.Landscape.from_expression("(x**2 - 1)**2/4 + y**2 + x*y/2", symbols="x y")
NETWORK = fd.Landscape.from_function(of_tree, like=TREE)
KINDS = {
    "expression": (EXPRESSION, of_array, [jnp.array([0.7, -0.4]), jnp.array([-0.3, 0.8])]),
    "tree": (NETWORK, of_tree, [TREE, jax.tree.map(lambda leaf: 0.5 * leaf, TREE)]),
}
KEY = jax.random.key(3)


def row(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or (leaf.dtype == jnp.uint32 and leaf.shape == (2,))


def with_key(state, key):
    """The state with `key` in place of the key in it."""
    mine = split(key, 1)[0]

    def replaced(leaf):
        if not (isinstance(leaf, jax.Array) and is_key(leaf)):
            return leaf
        return mine if leaf.dtype == mine.dtype else jax.random.key_data(mine)

    return jax.tree.map(replaced, state)


def by_hand(transformation, loss, params, steps, extras=(), keys=None):
    """θ after each step of a plain loop of optax, shape (steps + 1, dim)."""
    state, kept = transformation.init(params), [row(params)]
    for k in range(steps):
        if keys is not None:
            state = with_key(state, keys[k])
        value, grad = jax.value_and_grad(loss)(params)
        given = {
            "value": value,
            "grad": grad,
            "value_fn": loss,
            "obj_fn": loss,
            "grad_fn": lambda params, _: jax.grad(loss)(params),
        }
        updates, state = transformation.update(grad, state, params, **{name: given[name] for name in extras})
        params = optax.apply_updates(params, updates)
        kept.append(row(params))
    return np.array(kept)


# --- every public transformation of the installed optax -------------------------------------------------------

RATE = 0.02
ASCENT = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
SGD = optax.sgd(RATE)
MASKS = {"expression": True, "tree": {"b": True, "w": False}}
MATRICES = {"expression": False, "tree": {"b": False, "w": True}}
AXES = {
    "expression": optax.MaskedNode(),
    "tree": {"b": optax.MaskedNode(), "w": optax.contrib.MuonDimensionNumbers(0, 1)},
}
LABELS = {"expression": "slow", "tree": {"b": "fast", "w": "slow"}}
BLOCKS = {"fast": optax.adam(0.05), "slow": SGD}
SEARCH = ("value", "grad", "value_fn")


def norm(tree):
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


# What needs other arguments than a learning rate; made for a kind of landscape.
MADE = {
    "adaptive_grad_clip": lambda kind: optax.adaptive_grad_clip(0.1),
    "add_decayed_weights": lambda kind: optax.chain(optax.add_decayed_weights(0.1, mask=MASKS[kind]), SGD),
    "add_noise": lambda kind: optax.chain(optax.add_noise(0.1, 0.5, key=0), SGD),
    "apply_if_finite": lambda kind: optax.apply_if_finite(SGD, 3),
    "chain": lambda kind: optax.chain(optax.clip(0.1), SGD),
    "clip": lambda kind: optax.clip(0.1),
    "clip_by_block_rms": lambda kind: optax.clip_by_block_rms(0.1),
    "clip_by_global_norm": lambda kind: optax.clip_by_global_norm(0.1),
    "conditionally_mask": lambda kind: optax.conditionally_mask(SGD, lambda step: step % 2 == 0),
    "conditionally_transform": lambda kind: optax.conditionally_transform(optax.scale(-0.02), lambda step: step > 0),
    "ema": lambda kind: optax.ema(0.9),
    "flatten": lambda kind: optax.flatten(optax.adam(RATE)),
    "freeze": lambda kind: optax.chain(SGD, optax.freeze(MASKS[kind])),
    "inject_hyperparams": lambda kind: optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(0.1, 0.0, 4)),
    "inject_stateful_hyperparams": lambda kind: optax.inject_stateful_hyperparams(optax.adam)(RATE),
    "masked": lambda kind: optax.masked(SGD, MASKS[kind]),
    "multi_transform": lambda kind: optax.multi_transform(BLOCKS, LABELS[kind]),
    "MultiSteps": lambda kind: optax.MultiSteps(SGD, every_k_schedule=2),
    "named_chain": lambda kind: optax.named_chain(("clip", optax.clip(0.1)), ("sgd", SGD)),
    "noisy_sgd": lambda kind: optax.noisy_sgd(RATE, key=0),
    "partition": lambda kind: optax.partition(BLOCKS, LABELS[kind]),
    "scale": lambda kind: optax.scale(-RATE),
    "scale_by_backtracking_linesearch": lambda kind: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10)
    ),
    "scale_by_muon": lambda kind: optax.masked(
        optax.contrib.scale_by_muon(weight_dimension_numbers=AXES[kind]), MATRICES[kind]
    ),
    "scale_by_schedule": lambda kind: optax.scale_by_schedule(optax.linear_schedule(-0.1, 0.0, 4)),
    "scale_by_zoom_linesearch": lambda kind: optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(10)),
    "selective_transform": lambda kind: optax.selective_transform(SGD, freeze_mask=MASKS[kind]),
    "snapshot": lambda kind: optax.chain(SGD, optax.snapshot("norm", norm)),
    "stateless": lambda kind: optax.stateless(lambda updates, params: jax.tree.map(lambda u: -RATE * u, updates)),
    "stateless_with_tree_map": lambda kind: optax.stateless_with_tree_map(lambda u, p: -RATE * u),
    "trace": lambda kind: optax.chain(optax.trace(0.9), SGD),
    "with_extra_args_support": lambda kind: optax.with_extra_args_support(SGD),
    "galore": lambda kind: optax.contrib.galore(RATE, rank=1, update_proj_gap=2),
    "mechanize": lambda kind: optax.contrib.mechanize(SGD),
    "sam": lambda kind: optax.contrib.sam(SGD, ASCENT, opaque_mode=True),
    "scale_by_galore": lambda kind: optax.contrib.scale_by_galore(rank=1, update_proj_gap=2),
    "schedule_free": lambda kind: optax.contrib.schedule_free(SGD, RATE),
    "schedule_free_adamw": lambda kind: optax.contrib.schedule_free_adamw(RATE),
    "split_real_and_imaginary": lambda kind: optax.contrib.split_real_and_imaginary(SGD),
}
EXTRAS = dict.fromkeys(["momo", "momo_adam", "polyak_sgd", "reduce_on_plateau", "scale_by_polyak"], ("value",))
EXTRAS |= dict.fromkeys(["lbfgs", "scale_by_backtracking_linesearch", "scale_by_zoom_linesearch"], SEARCH)
EXTRAS |= dict.fromkeys(["hutchinson_estimator_diag_hessian", "sophia"], ("obj_fn",)) | {"sam": ("grad_fn",)}
DRAWING = {"add_noise", "noisy_sgd", "hutchinson_estimator_diag_hessian", "sophia"}
# Refused: they take one gradient per example, or measure steps in place of taking them.
REFUSED = {"differentially_private_aggregate", "dpsgd", "measure_with_ema", "monitor"}
APART = {"lookahead"}  # its parameters are a pair: see its own test
# without a word on what they return, and not a transformation
OTHERS = {"bias_correction", "matrix_inverse_pth_root", "sigmoid_binary_cross_entropy", "update_infinity_moment"}
OTHERS |= {"WrappedSchedule", "update_moment", "update_moment_per_elem_norm", "schedule_free_eval_params"}


def public():
    """Names of all public functions and classes of optax that make transformations, and these."""
    for package in (optax, optax.contrib):
        for name, thing in vars(package).items():
            if name.startswith("_") or not callable(thing):
                continue
            if inspect.isclass(thing):
                wanted = hasattr(thing, "init") and hasattr(thing, "update") and not issubclass(thing, tuple)
            else:
                returns = inspect.signature(thing).return_annotation if inspect.isfunction(thing) else ""
                wanted = "GradientTransformation" in str(returns) or returns is inspect.Signature.empty
            if wanted and name not in OTHERS:
                yield name, thing


ALL = dict(public())
# Run by every suite, the others by the slow one: plain and layer-wise rules, masks, labels, values, keys.
QUICK = {"adam", "adaptive_grad_clip", "fromage", "lars", "masked", "muon", "noisy_sgd", "partition", "polyak_sgd"}
QUICK |= {"sam", "scale_by_backtracking_linesearch", "hutchinson_estimator_diag_hessian"}
SLOWER = sorted(set(ALL) - REFUSED - APART - QUICK)
TRIED = [*sorted(QUICK), *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)]
# optax has transformations of old names
OLD = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")


def made(name, kind):
    if name in MADE:
        return MADE[name](kind)
    wanted = [p.name for p in inspect.signature(ALL[name]).parameters.values() if p.default is p.empty]
    assert set(wanted) <= {"learning_rate"}, f"{name} wants {wanted}: say in MADE how to make one"
    return ALL[name](**dict.fromkeys(wanted, RATE))


@OLD
def test_no_public_transformation_of_optax_is_left_out():
    assert len(ALL) > 100
    assert QUICK | DRAWING | REFUSED | APART | set(EXTRAS) | set(MADE) <= set(ALL) | {"inject_stateful_hyperparams"}
    for kind in KINDS:
        for name in set(ALL) - REFUSED - APART:
            assert callable(made(name, kind).update), name


@OLD
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRIED)
def test_every_transformation_of_optax_takes_the_steps_of_a_plain_loop(name, kind):
    landscape, loss, starts = KINDS[kind]
    transformation = made(name, kind)
    process = fd.Iteration(landscape, fd.from_optax(transformation))
    assert process.random == (name in DRAWING)
    keys = jax.random.split(KEY, 3) if process.random else None
    start = np.array([row(tree) for tree in starts])
    states, one, paths, single = jax.vmap(process.init)(start), process.init(start[1]), [start], [start[1]]
    for k in range(3):
        key = None if keys is None else keys[k]
        states = jax.vmap(process.step, (0, None))(states, key)
        one = process.step(one, key)
        paths.append(jax.vmap(process.position)(states))
        single.append(process.position(one))
    expected = by_hand(transformation, loss, starts[1], 3, EXTRAS.get(name, ()), keys)
    assert np.isfinite(expected).all()
    # sums run in another order under vmap, and SymPy writes gradients in another one than JAX
    assert_allclose(np.array(paths)[:, 1], expected, rtol=1e-12, atol=1e-12)
    assert_allclose(single, expected, rtol=1e-12, atol=1e-12)


# --- the loss of the step's own sample ------------------------------------------------------------------------

DATA = {"a": np.array([1.0, -0.5, 0.7, 2.0, -1.2, 0.3]), "b": np.array([0.2, 1.0, -0.4, 0.5, 0.1, -1.0])}
SUM = fd.Landscape.from_examples("(a*x + y - b)**2/2 + x**4/20", DATA, symbols="x y")


def of_examples(theta, picked):
    a, b = DATA["a"][picked], DATA["b"][picked]
    return jnp.mean((a * theta[0] + theta[1] - b) ** 2 / 2 + theta[0] ** 4 / 20)


@pytest.mark.parametrize(
    "noise",
    [
        fd.noise.FiniteSum(3),
        fd.noise.FiniteSum(4, micro_size=2),
        fd.noise.Epochs(4, last="keep"),
        fd.noise.Gaussian(0.3),
        fd.noise.Gaussian(covariance=[[0.2, 0.1], [0.1, 0.3]]),
        fd.noise.Curvature(0.1),
        fd.noise.StateDependent(lambda theta: 0.1 + theta**2),
        fd.noise.Stable(1.5, 0.3),
    ],
    ids=repr,
)
def test_the_value_of_a_sample_has_the_sampled_gradient(noise):
    """Where the step begins; and everywhere, unless the noise differs from place to place."""
    at, there = SUM.vector(jnp.array([0.3, -0.7])), SUM.vector(jnp.array([1.1, 0.4]))
    xi = noise.draw(jax.random.key(1), SUM, at)
    field = jax.grad(lambda theta: noise.value(SUM, theta, xi, at))
    everywhere = not isinstance(noise, fd.noise.Curvature | fd.noise.StateDependent)
    for theta in (at, there) if everywhere else (at,):
        assert_allclose(SUM.array(field(theta)), SUM.array(noise.gradient(SUM, theta, xi)), rtol=1e-13, atol=1e-15)
    if not isinstance(noise, fd.noise.FiniteSum | fd.noise.Epochs):
        assert_allclose(noise.value(SUM, at, xi, at), SUM.value(at), rtol=1e-15)


def test_values_are_those_of_the_minibatch_and_of_the_perturbed_point():
    """Polyak's step is (ℓ − 0)/‖g‖² g: by hand from the minibatches that the noise draws."""
    key, rho, decay = jax.random.key(5), 0.05, 0.1
    method = fd.from_optax(optax.polyak_sgd(10.0), follows=fd.SAM(1.0, rho, weight_decay=decay))
    process = fd.Iteration(SUM, method, fd.noise.FiniteSum(4))
    state = process.init(jnp.array([0.3, -0.7]))
    for k in range(3):
        at, step_key = state.theta, jax.random.fold_in(key, k)
        theta = process.position(state)
        picked = np.asarray(process.draw(step_key, at)[0])
        slope = jax.grad(of_examples)(theta, picked)
        point = theta + rho * slope / jnp.linalg.norm(slope)
        g = jax.grad(of_examples)(point, picked) + decay * theta
        loss = of_examples(point, picked) + decay / 2 * theta @ theta
        state = process.step(state, step_key)
        assert_allclose(process.position(state), theta - loss / (g @ g) * g, rtol=1e-12)


def test_with_an_ascent_for_each_part_of_the_batch_the_value_is_the_mean_over_the_parts():
    noise = fd.noise.FiniteSum(4, ascent_size=2)
    process = fd.Iteration(SUM, fd.from_optax(optax.polyak_sgd(10.0), follows=fd.USAM(1.0, 0.05)), noise)
    state, key = process.init(jnp.array([0.3, -0.7])), jax.random.key(2)
    theta, picked = jnp.array([0.3, -0.7]), np.asarray(process.draw(key, state.theta)[0]).reshape(2, 2)
    points = [theta + 0.05 * jax.grad(of_examples)(theta, part) for part in picked]
    g = sum(jax.grad(of_examples)(point, part) for point, part in zip(points, picked, strict=True)) / 2
    loss = sum(of_examples(point, part) for point, part in zip(points, picked, strict=True)) / 2
    assert_allclose(process.position(process.step(state, key)), theta - loss / (g @ g) * g, rtol=1e-12)


def test_numbers_that_begin_as_infinity_end_no_run():
    """The best loss so far of reduce_on_plateau is infinite until it has gathered its values."""
    plateau = optax.chain(optax.sgd(RATE), optax.contrib.reduce_on_plateau(0.5, patience=1, accumulation_size=3))
    runs = fd.simulate(fd.Iteration(EXPRESSION, fd.from_optax(plateau)), (0.7, -0.4), 6)
    assert runs.status == fd.Status.UNDECIDED
    assert_allclose(runs.theta, by_hand(plateau, of_array, jnp.array([0.7, -0.4]), 6, ("value",)), rtol=1e-12)


# --- noise that a transformation carries ----------------------------------------------------------------------


def test_noise_of_a_transformation_belongs_to_the_run_and_the_step():
    process = fd.Iteration(EXPRESSION, fd.from_optax(optax.noisy_sgd(RATE, eta=0.5, key=0)))
    starts, key = np.tile([0.7, -0.4], (6, 1)), jax.random.key(0)
    runs = fd.simulate(process, starts, 4, key=key).theta
    assert_array_equal(fd.simulate(process, starts, 4, key=key, chunk=4).theta, runs)
    assert_array_equal(fd.simulate(process, starts[:3], 4, key=key).theta, runs[:3])
    other = fd.Iteration(EXPRESSION, fd.from_optax(optax.noisy_sgd(RATE, eta=0.5, key=7)))
    assert_array_equal(fd.simulate(other, starts, 4, key=key).theta, runs)  # its seed plays no part
    assert len(np.unique(runs[:, 1:, 0])) == 24
    with pytest.raises(ValueError, match="this process is random: pass key"):
        fd.simulate(process, starts, 4)
    with pytest.raises(ValueError, match=r"draws random numbers: give its step a key"):
        process.step(process.init(jnp.array([0.7, -0.4])))
    with pytest.raises(TypeError, match="the method draws by itself"):
        process.draws  # noqa: B018


class Raw:
    """Noise with an old key, as of jax.random.PRNGKey, and one more."""

    def init(self, params):
        return {"old": jax.random.PRNGKey(0), "new": jax.random.split(jax.random.key(1), 3), "count": 0}

    def update(self, updates, state, params=None):
        first = jax.random.normal(state["old"], updates.shape)
        second = jax.random.normal(state["new"][2], updates.shape)
        keys = {"old": jax.random.split(state["old"])[0], "new": jax.random.split(state["new"][0], 3)}
        return jnp.where(state["count"] % 2, second, first), keys | {"count": state["count"] + 1}


def test_noises_of_runs_steps_keys_and_gradients_are_independent():
    """Displacements are ξ: unit normals with no correlation among each other and with the noise of the gradient."""
    runs, flat = 4000, fd.Landscape.from_function(lambda theta: 0.0 * jnp.sum(theta), 2)
    both = optax.chain(optax.add_noise(1.0, 0.0, key=0), optax.add_noise(1.0, 0.0, key=0), optax.sgd(-1.0))
    cases = {
        "old and new keys": (fd.from_optax(Raw()), fd.noise.Exact(), 1),
        "two in a chain": (fd.from_optax(both), fd.noise.Exact(), 2),
        "beside that of the gradient": (
            fd.from_optax(optax.noisy_sgd(-1.0, 1.0, 0.0, key=0)),
            fd.noise.Gaussian(1.0),
            2,
        ),
        "averaged": (fd.Averaged(fd.from_optax(Raw()), start=9), fd.noise.Exact(), 1),
        "alternating": (
            fd.Alternating([fd.from_optax(Raw())] * 2, [(True, False), (False, True)]),
            fd.noise.Exact(),
            1,
        ),
        "alternating with a sampler": (
            fd.Alternating([fd.SGLD(0.5), fd.from_optax(Raw())], [(True, False), (False, True)]),
            fd.noise.Exact(),
            1,
        ),
    }
    for name, (method, noise, variance) in cases.items():
        process = fd.Iteration(flat, method, noise)
        paths = fd.simulate(process, np.zeros((runs, 2)), 3, key=jax.random.key(1)).theta
        steps = np.diff(paths, axis=1).reshape(runs, 6)
        # an entry of a sample covariance has an error of variance √(1 + δᵢⱼ)/√runs; 5 of them in 6 · 21 entries
        assert_allclose(
            steps.T @ steps / runs, variance * np.eye(6), atol=5 * 2**0.5 * variance / runs**0.5, err_msg=name
        )


# --- contrib.sam ----------------------------------------------------------------------------------------------

QUADRATIC = fd.Landscape.from_expression("2*x**2 + y**2/2", symbols="x y")
H, RHO = 0.1, 0.1


def path(method, steps=6, start=(1.0, 2.0), landscape=QUADRATIC):
    """Positions step by step, without a compiled program for each of many methods."""
    process = fd.Iteration(landscape, method)
    states = [process.init(jnp.array(start))]
    for _ in range(steps):
        states.append(process.step(states[-1]))
    return np.array([process.position(state) for state in states])


def opaque(ascent=ASCENT, outer=None, **options):
    return fd.from_optax(optax.contrib.sam(outer or optax.sgd(H), ascent, opaque_mode=True, **options))


def test_opaque_sam_is_the_method_that_its_inner_optimiser_makes_it():
    # a few roundings of numbers of order one
    assert_allclose(path(opaque()), path(fd.SAM(H, RHO)), atol=1e-15)
    assert_allclose(path(opaque(optax.sgd(RHO))), path(fd.USAM(H, RHO)), atol=1e-15)
    assert_allclose(path(opaque(sync_period=1)), path(fd.GD(H)), atol=1e-15)
    assert_allclose(path(opaque(sync_period=4)), path(fd.SAM(H, RHO, ascents=3)), atol=1e-15)
    outer = optax.chain(optax.add_decayed_weights(0.3), optax.sgd(H))
    decayed = fd.SAM(H, RHO, weight_decay=0.3)
    assert_allclose(path(opaque(outer=outer)), path(decayed), atol=1e-15)
    assert_allclose(path(fd.from_optax(outer, follows=fd.SAM(1.0, RHO))), path(decayed), atol=1e-15)
    assert_allclose(
        path(fd.from_optax(optax.sgd(H), follows=fd.SAM(1.0, RHO, weight_decay=0.3))), path(decayed), atol=1e-15
    )
    # Adam's first step is ρ g/(|g| + 1e-8), to 5e-9 of the sign here; the state is anew at each
    signs = optax.chain(optax.contrib.normalize(), optax.adam(RHO))
    assert_allclose(path(opaque(signs), 3), path(fd.SAM(H, RHO, p=np.inf), 3), atol=1e-7)
    # the schedule of the radius never moves, as the inner state is reset; its numbers are in single precision
    radius = optax.chain(optax.contrib.normalize(), optax.sgd(optax.linear_schedule(RHO, 0.0, 10)))
    assert_allclose(path(opaque(radius)), path(fd.SAM(H, RHO)), atol=1e-8)


def test_masked_ascents_of_optax_are_what_they_are_by_hand():
    """Masked, the rest is pushed down by its whole gradient; partitioned with set_to_zero it is SAM with a mask."""
    both = fd.Landscape.from_function(
        lambda t: 2 * jnp.sum(t["a"] ** 2) + jnp.sum(t["b"] ** 2) / 2, like={"a": jnp.zeros(1), "b": jnp.zeros(1)}
    )
    parts = optax.partition({"up": ASCENT, "not": optax.set_to_zero()}, {"a": "up", "b": "not"})
    masked = path(fd.SAM(H, RHO, mask={"a": True, "b": False}), landscape=both)
    assert_allclose(path(opaque(parts), landscape=both), masked, atol=1e-15)
    pushed = path(opaque(optax.masked(ASCENT, {"a": True, "b": False})), 1, landscape=both)[1]
    assert_allclose(pushed, [1 - H * 4 * 1.1, 2 - H * (2 - 2)], rtol=1e-15)


def test_a_schedule_with_momentum_is_the_convention_in_units_of_gradients():
    drop = optax.piecewise_constant_schedule(0.05, {5: 0.1})
    theirs = path(fd.from_optax(optax.sgd(drop, momentum=0.9)), 12)
    # schedules are in single precision: 12 roundings of steps of size one
    assert_allclose(theirs, path(fd.Scheduled(fd.GD(1.0, 0.9, units="gradient"), drop), 12), atol=1e-6)
    assert np.abs(theirs - path(fd.Scheduled(fd.GD(1.0, 0.9), drop), 12)).max() > 1


# --- optimisers that hold two points --------------------------------------------------------------------------


def test_lookahead_holds_the_fast_weights_or_the_slow_ones():
    start, look = jnp.array([0.7, -0.4]), optax.lookahead(optax.sgd(0.1, momentum=0.5), 3, 0.4)
    params = optax.LookaheadParams.init_synced(start)
    state, kept = look.init(params), [params]
    for _ in range(7):
        updates, state = look.update(jax.grad(of_array)(params.fast), state, params)
        params = optax.apply_updates(params, updates)
        kept.append(params)
    for at, name in (("gradient", "fast"), ("evaluation", "slow")):
        runs = fd.simulate(fd.Iteration(EXPRESSION, fd.from_optax(look, at=at)), [start] * 2, 7).theta
        assert_allclose(runs[1], [getattr(params, name) for params in kept], rtol=1e-13)


def test_schedule_free_holds_the_point_of_its_gradients_or_the_average():
    start, free = jnp.array([0.7, -0.4]), optax.contrib.schedule_free_sgd(0.1)
    y, state = start, free.init(start)
    held, judged = [y], [y]
    for _ in range(6):
        updates, state = free.update(jax.grad(of_array)(y), state, y)
        y = optax.apply_updates(y, updates)
        held.append(y)
        judged.append(optax.contrib.schedule_free_eval_params(state, y))
    for at, expected in (("gradient", held), ("evaluation", judged)):
        chained = optax.chain(optax.identity(), free)
        runs = fd.simulate(fd.Iteration(EXPRESSION, fd.from_optax(chained, at=at)), [start] * 2, 6).theta
        assert_allclose(runs[1], expected, rtol=1e-12)


# --- what does not fit ----------------------------------------------------------------------------------------

SAM_BY_TWO = optax.contrib.sam(SGD, ASCENT)
PRIVACY = optax.contrib.differentially_private_aggregate(1.0, 1.0, key=0)


def wants_more(updates, state, params=None, *, batch):
    return updates, state


def grows(updates, state, params=None):
    return updates, jnp.concatenate([state, state])


def one(update, init=lambda params: jnp.zeros(1)):
    return optax.GradientTransformationExtraArgs(init, update)


@pytest.mark.parametrize(
    ("transformation", "landscape", "words"),
    [
        (SAM_BY_TWO, EXPRESSION, r"contrib.sam in its default mode.*opaque_mode=True.*follows=fd.SAM\(1.0, rho\)"),
        (optax.chain(optax.clip(1.0), SAM_BY_TWO), NETWORK, "contrib.sam in its default mode"),
        (
            optax.masked(SGD, (True, False)),
            EXPRESSION,
            r"does not fit .*shape \(2,\).*of an expression are one array.*like=",
        ),
        (optax.adamw(RATE, mask={"w": True}), NETWORK, r"does not fit .*tree of 2 arrays.*masks.*like the parameters"),
        (optax.partition(BLOCKS, {"b": "fast", "w": "other"}), NETWORK, "does not fit .*labels.*like the parameters"),
        (optax.contrib.scale_by_muon(), EXPRESSION, "can take no step on .*one array"),
        (
            optax.contrib.differentially_private_aggregate(1.0, 1.0, key=0),
            EXPRESSION,
            "steps of another form.*one gradient per example",
        ),
        (one(wants_more), NETWORK, "can take no step.*value, grad, value_fn, grad_fn, obj_fn, but nothing else"),
        (optax.measure_with_ema(norm, 0.9), NETWORK, "steps of another form"),
        (optax.chain(SGD, optax.monitor({"norm": norm})), EXPRESSION, "changes the form.*leave out optax.monitor"),
        (one(grows), NETWORK, "changes the form of its state"),
    ],
)
def test_what_does_not_fit_is_told_when_the_process_is_made(transformation, landscape, words):
    with pytest.raises(ValueError, match=words) as caught:
        fd.Iteration(landscape, fd.from_optax(transformation))
    assert not re.search(r"[Pp]ytree|Tracer|PyTree|jit|NoneType", str(caught.value))


def test_arguments_that_do_not_fit_each_other_are_told():
    with pytest.raises(ValueError, match=r"at='evaluation' is for one schedule_free or lookahead"):
        fd.Iteration(EXPRESSION, fd.from_optax(SGD, at="evaluation"))
    with pytest.raises(ValueError, match="at must be 'gradient' or 'evaluation', got 'slow'"):
        fd.from_optax(SGD, at="slow")
    with pytest.raises(ValueError, match="decoupled weight decay, which is of its own step"):
        fd.from_optax(SGD, follows=fd.SAM(0.1, 0.1, weight_decay=0.1, decay="decoupled"))
    with pytest.raises(ValueError, match="what DNSAM follows is the gradient of no loss"):
        fd.Iteration(EXPRESSION, fd.from_optax(optax.polyak_sgd(), follows=fd.DNSAM(0.1, 0.1)))
    with pytest.raises(ValueError, match="ascent and ascent_size are for fd"):
        fd.Iteration(SUM, opaque(), fd.noise.FiniteSum(4, ascent_size=2))
    with pytest.raises(ValueError, match="ascent and ascent_size are for fd"):
        fd.Iteration(SUM, opaque(), fd.noise.FiniteSum(4), ascent="full")
    free = fd.from_optax(optax.contrib.schedule_free_sgd(0.1), at="evaluation")
    with pytest.raises(ValueError, match="leave out at='evaluation'"):
        fd.Alternating([free, fd.GD(0.1)], [(True, False), (False, True)])
    polyak = fd.from_optax(optax.polyak_sgd())
    state = polyak.init(jnp.ones(2))
    with pytest.raises(ValueError, match="wants the loss's value, and a gradient alone does not tell it"):
        polyak.step(lambda theta: theta, state)
    with pytest.raises(ValueError, match="give its step a key"):
        fd.stability.multipliers(fd.from_optax(optax.noisy_sgd(0.1, key=0)), EXPRESSION, at=(1.0, 0.0))


def test_a_step_that_takes_turns_is_not_a_map():
    """Its one-step Jacobian would be that of the turn at which it starts: neutral, for one that only gathers."""
    at, L = (1.0, 0.0), fd.landscapes.saddle((1.0, 0.5))
    plateau = fd.from_optax(optax.chain(SGD, optax.contrib.reduce_on_plateau()))
    look, gathering = fd.from_optax(optax.lookahead(SGD, 3, 0.5)), fd.from_optax(optax.MultiSteps(SGD, 2))
    for method in (look, gathering, fd.Averaged(plateau)):
        with pytest.raises(ValueError, match=r"take turns.*one step is not their map, so simulate it"):
            fd.stability.multipliers(method, L, at=at)
    searching = optax.chain(SGD, optax.scale_by_backtracking_linesearch(3, store_grad=True))
    found = fd.stability.multipliers(fd.from_optax(searching), L, at=(0.0, 0.0))
    assert (np.abs(found) <= 1).all()
