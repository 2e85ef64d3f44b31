"""Audits: every known map gets its name and numbers, every broken step the words for what is wrong, and no others."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatdyn as fd
from flatdyn.audits import FAULTS, problems

LR, RHO = 0.1, 0.05
TREE = {"weight": np.zeros((2, 3)), "bias": np.zeros(4), "scale": np.zeros(3)}


def direction(gradient):
    return gradient / max(np.linalg.norm(gradient), 1e-300)


# --- steps as people write them -------------------------------------------------------------------------------


def descent(theta, gradient):
    return theta - LR * gradient(theta)


def sam(theta, gradient):
    return theta - LR * gradient(theta + RHO * direction(gradient(theta)))


def usam(theta, gradient):
    return theta - LR * gradient(theta + RHO * gradient(theta))


def signed_sam(theta, gradient):
    return theta - LR * gradient(theta + RHO * np.sign(gradient(theta)))


def twofold_sam(theta, gradient):
    first = theta + RHO * direction(gradient(theta))
    return theta - LR * gradient(first + RHO * direction(gradient(first)))


def asam(theta, gradient):
    size, g = abs(theta) + 0.01, gradient(theta)
    return theta - LR * gradient(theta + RHO * size**2 * g / max(np.linalg.norm(size * g), 1e-300))


def smoothed_sam(theta, gradient):
    g = gradient(theta)
    return theta - LR * gradient(theta + RHO * g / (np.linalg.norm(g) + 1e-3))


def momentum(mu=0.9, nesterov=False, dampening=0.0, coupled=0.0, decoupled=0.0, first=False, look=lambda x, g: x):
    """PyTorch's SGD, and with `first=False` that of others, on the gradient at the point that `look` gives."""

    def make():
        velocity = None

        def step(theta, gradient):
            nonlocal velocity
            g = gradient(look(theta, gradient)) + coupled * theta
            share = 1 if first and velocity is None else 1 - dampening
            velocity = mu * (0 if velocity is None else velocity) + share * g
            return (1 - LR * decoupled) * theta - LR * (g + mu * velocity if nesterov else velocity)

        return step

    return make


def up(theta, gradient):
    return theta + RHO * direction(gradient(theta))


def decay_in_loss(theta, gradient):
    def field(x):
        return gradient(x) + 0.3 * x

    return theta - LR * field(theta + RHO * direction(field(theta)))


def by_tensor(theta, gradient):
    g = gradient(theta)
    g = gradient({name: theta[name] + RHO * direction(g[name]) for name in theta})
    return {name: theta[name] - LR * g[name] for name in theta}


def groups(theta, gradient):
    """A norm over everything, a perturbation of some."""
    g = gradient(theta)
    length = math.sqrt(sum((one**2).sum() for one in g.values())) or 1.0
    g = gradient({name: theta[name] + (RHO * g[name] / length if name != "bias" else 0) for name in theta})
    return {name: theta[name] - LR * g[name] for name in theta}


def halving():
    count = 0

    def step(theta, gradient):
        nonlocal count
        count += 1
        return theta - LR / count * gradient(theta)

    return step


def lookahead(pull=0.5):
    inner, slow, count = momentum()(), None, 0

    def step(theta, gradient):
        nonlocal slow, count
        slow, count = (theta if slow is None else slow), count + 1
        theta = inner(theta, gradient)
        if count % 5 == 0:
            theta = slow = slow + pull * (theta - slow)
        return theta

    return step


def looking(every=4, push=0.7):
    count, aside = 0, 0

    def step(theta, gradient):
        nonlocal count, aside
        g, ascends, count = gradient(theta), count % every == 0, count + 1
        if not ascends:
            return theta - LR * (g + push * np.linalg.norm(g) * direction(aside))
        there = gradient(theta + RHO * direction(g))
        aside = there - (there @ direction(g)) * direction(g)
        return theta - LR * there

    return step


def ahead():
    velocity = None

    def step(theta, gradient):
        nonlocal velocity
        velocity = np.zeros_like(theta) if velocity is None else velocity
        velocity = 0.9 * velocity - LR * gradient(theta + RHO * direction(velocity))
        return theta + velocity

    return step


def weighted(theta, gradient):
    g = gradient(theta)
    return theta - LR * (g + 9 * (gradient(theta + RHO * direction(g)) - g))


def surrogate(theta, gradient):
    g = gradient(theta)
    there = gradient(theta + RHO * direction(g))
    return theta - LR * (there - 0.4 * (g - (g @ direction(there)) * direction(there)))


def between(theta, gradient):
    g = gradient(theta)
    return theta - LR * gradient(theta + RHO * (0.3 * g + 0.7 * direction(g)))


NAMED = {
    "GD": (descent, fd.GD, {"lr": LR}),
    "SAM": (sam, fd.SAM, {"lr": LR, "rho": RHO, "p": 2}),
    "USAM": (usam, fd.USAM, {"lr": LR, "rho": RHO}),
    "SAM, maximum norm": (signed_sam, fd.SAM, {"rho": RHO, "p": math.inf}),
    "SAM, two ascents": (twofold_sam, fd.SAM, {"rho": RHO, "ascents": 2}),
    "SAM, smoothed": (smoothed_sam, fd.SAM, {"rho": RHO, "eps": 1e-3}),
    "ASAM": (asam, fd.ASAM, {"rho": RHO, "shift": 0.01}),
    "heavy ball": (momentum(), fd.GD, {"lr": LR, "momentum": 0.9, "nesterov": False}),
    "Nesterov": (momentum(nesterov=True), fd.GD, {"lr": LR, "momentum": 0.9, "nesterov": True}),
    "dampened": (momentum(dampening=0.3, first=True), fd.GD, {"lr": LR, "dampening": 0.3, "start": "first"}),
    "Nesterov, all": (
        momentum(0.8, True, 0.2, coupled=0.1, first=True),
        fd.GD,
        {"lr": LR, "momentum": 0.8, "dampening": 0.2, "weight_decay": 0.1, "decay": "coupled", "start": "first"},
    ),
    "coupled decay": (momentum(coupled=0.2), fd.GD, {"weight_decay": 0.2, "decay": "coupled"}),
    "decoupled decay": (momentum(decoupled=0.2), fd.GD, {"weight_decay": 0.2, "decay": "decoupled"}),
    "SAM, momentum, decay": (
        momentum(coupled=0.2, look=up),
        fd.SAM,
        {"lr": LR, "rho": RHO, "momentum": 0.9, "weight_decay": 0.2, "decay": "coupled"},
    ),
    "SAM by tensor": (by_tensor, fd.SAM, {"rho": RHO, "scope": "tensor"}),
    "SAM by groups": (groups, fd.SAM, {"rho": RHO, "scope": "all"}),
    "schedule": (halving, fd.Scheduled, {}),
    "Lookahead": (lookahead, fd.methods.Lookahead, {"k": 5, "alpha": 0.5, "memory": "keep", "start": 0}),
    "LookSAM": (looking, fd.methods.LookSAM, {"lr": LR, "rho": RHO, "k": 4, "alpha": 0.7}),
    "momentum SAM": (ahead, fd.methods.MSAM, {"lr": LR, "rho": RHO, "momentum": 0.9}),
    "weighted SAM": (weighted, fd.methods.WSAM, {"lr": LR, "rho": RHO, "gamma": 0.9}),
    "surrogate gap": (surrogate, fd.methods.GSAM, {"lr": LR, "rho": RHO, "alpha": 0.4}),
    "between SAM and USAM": (between, fd.methods.UnifiedSAM, {"lr": LR, "rho": RHO, "blend": 0.7}),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_step_gets_its_name_and_numbers_and_no_fault(name):
    step, kind, numbers = NAMED[name]
    audit = fd.audit(step, like=TREE if step in (by_tensor, groups) else None)
    assert type(audit.method) is kind, audit
    assert audit.faults == (), audit
    # The iterates are of order one. Numbers of a schedule are read off single steps.
    assert audit.difference < (1e-6 if kind is fd.Scheduled else 1e-12), audit
    for field, value in numbers.items():
        # They are rounded to the fewest digits that are as good
        assert getattr(audit.method, field) == value, audit


# --- broken steps ---------------------------------------------------------------------------------------------


def missing_zero_grad(theta, gradient):
    g = gradient(theta)
    return theta - LR * (g + gradient(theta + RHO * direction(g)))


def never_zeroed():
    total = 0

    def step(theta, gradient):
        nonlocal total
        total = total + gradient(theta)
        return theta - LR * total

    return step


def zeroed_between_the_passes_alone():
    held = 0

    def step(theta, gradient):
        nonlocal held
        held = gradient(theta + RHO * direction(held + gradient(theta)))
        return theta - LR * held

    return step


def not_restored(theta, gradient):
    perturbed = up(theta, gradient)
    return perturbed - LR * gradient(perturbed)


def other_minibatch(theta, gradient):
    return theta - LR * gradient(theta + RHO * direction(gradient.another()(theta)))


def minibatch_of_before():
    old = None

    def step(theta, gradient):
        nonlocal old
        first, old = old or gradient, gradient
        return theta - LR * gradient(theta + RHO * direction(first(theta)))

    return step


def gradient_of_before():
    old = None

    def step(theta, gradient):
        nonlocal old
        old = gradient(theta if old is None else theta + RHO * direction(old))
        return theta - LR * old

    return step


def decay_in_ascent(theta, gradient):
    return theta - LR * gradient(theta + RHO * direction(gradient(theta) + 0.3 * theta))


def lost_in_bfloat16(theta, gradient):
    perturbed = (theta + RHO * direction(gradient(theta))).astype(jnp.bfloat16).astype(float)
    return theta - LR * gradient(perturbed)


def norm_in_32_bits(theta, gradient):
    g = gradient(theta)
    return theta - LR * gradient(theta + RHO * g / max(float(np.linalg.norm(g.astype(np.float32))), 1e-30))


def added(theta, gradient):
    return theta - LR * (gradient(theta) + gradient.another()(theta))


def nan_at_zero(theta, gradient):
    g = gradient(theta)
    return theta - LR * gradient(theta + RHO * g / np.linalg.norm(g))


def random_step(theta, gradient):
    return theta - LR * gradient(theta) * np.random.default_rng().uniform(0.9, 1.1)


def clipped(theta, gradient):
    g = gradient(theta)
    return theta - LR * g / max(1.0, np.linalg.norm(g))


def clipped_by_coordinate(theta, gradient):
    return theta - LR * np.clip(gradient(theta), -0.5, 0.5)


def signs(theta, gradient):
    return theta - 0.01 * np.sign(gradient(theta))


def normalised(theta, gradient):
    return theta - LR * direction(gradient(theta))


def uphill(theta, gradient):
    return theta + LR * gradient(theta)


def still(theta, gradient):
    gradient(theta)
    return theta


def unused(theta, gradient):
    g = gradient(theta)
    gradient(theta + RHO * direction(g))
    return theta - LR * g


def average():
    inner = None

    def step(theta, gradient):
        nonlocal inner
        inner = theta if inner is None else inner
        inner = inner - LR * gradient(inner)
        return 0.9 * theta + 0.1 * inner

    return step


def one_pass_a_call():
    before = None

    def step(theta, gradient):
        nonlocal before
        if before is None:
            before = theta
            return up(theta, gradient)
        after, before = before - LR * gradient(theta), None
        return after

    return step


def momentum_of_one():
    velocity = 0

    def step(theta, gradient):
        nonlocal velocity
        here = gradient(theta)
        sharpness = gradient(theta + RHO * direction(here)) - here
        velocity = 0.9 * velocity + here
        return theta - LR * velocity - LR * 0.4 * sharpness

    return step


def decay_of_matrices(theta, gradient):
    g = gradient(theta)
    return {name: one - LR * (g[name] + (0.2 * one if one.ndim > 1 else 0)) for name, one in theta.items()}


def frozen_in_the_norm(theta, gradient):
    after = groups(theta, gradient)
    return after | {"bias": theta["bias"]}


def frozen_out_of_the_norm(theta, gradient):
    g = gradient(theta)
    length = math.sqrt(sum((g[name] ** 2).sum() for name in g if name != "bias")) or 1.0
    g = gradient({name: theta[name] + (RHO * g[name] / length if name != "bias" else 0) for name in theta})
    return {name: theta[name] - (LR * g[name] if name != "bias" else 0) for name in theta}


BROKEN = {
    missing_zero_grad: ("missing zero_grad",),
    never_zeroed: ("missing zero_grad",),
    zeroed_between_the_passes_alone: ("missing zero_grad",),
    not_restored: ("not restored",),
    other_minibatch: ("other minibatch",),
    minibatch_of_before: ("other minibatch", "stale gradient"),
    gradient_of_before: ("stale gradient",),
    decay_in_ascent: ("decay in the ascent",),
    decay_in_loss: ("decay in the ascent",),
    lost_in_bfloat16: ("low precision", "perturbation lost"),
    norm_in_32_bits: ("low precision",),
    added: ("accumulation not divided", "not as expected"),
    nan_at_zero: ("NaN at zero gradient",),
    random_step: ("hidden state",),
    clipped: ("clipped gradient",),
    clipped_by_coordinate: ("clipped gradient",),
    signs: ("sign step",),
    normalised: ("normalised step",),
    uphill: ("ascends",),
    still: ("never moves",),
    unused: ("unused ascent",),
    average: ("average stored",),
    one_pass_a_call: ("perturbed points stored",),
    momentum_of_one: ("momentum of one gradient",),
    decay_of_matrices: ("decay of some tensors",),
    frozen_in_the_norm: ("never moves", "norm of what is frozen"),
    frozen_out_of_the_norm: ("never moves",),
}
OF_TREES = (decay_of_matrices, frozen_in_the_norm, frozen_out_of_the_norm)


@functools.cache
def broken(step):
    return fd.audit(step, like=TREE if step in OF_TREES else None, expected=fd.GD(LR) if step is added else None)


@pytest.mark.parametrize("step", BROKEN, ids=lambda step: step.__name__)
def test_a_broken_step_gets_its_words_and_no_others(step):
    audit = broken(step)
    assert audit.faults == BROKEN[step], audit
    assert all(word in str(audit) for word in audit.faults)


def test_a_broken_step_is_named_only_if_the_map_is_the_same():
    # The sum of both gradients is twice the gradient half way up, where the Hessian is constant
    twice = broken(missing_zero_grad).method
    assert (type(twice), twice.lr, twice.rho) == (fd.SAM, 2 * LR, RHO / 2)
    for step in (not_restored, decay_in_ascent, lost_in_bfloat16, never_zeroed, uphill, decay_of_matrices):
        audit = broken(step)
        assert audit.method is None, audit
        assert "no method of flatdyn" in str(audit)
    nearest = broken(not_restored)
    assert type(nearest.nearest) is fd.SAM
    assert nearest.departs == 1
    assert nearest.difference > RHO  # each step leaves the ascent behind
    in_loss = broken(decay_in_loss).method
    assert (in_loss.weight_decay, in_loss.decay) == (0.3, "loss")
    assert (broken(average).method.decay, broken(average).method.method.lr) == (0.9, LR)
    assert broken(one_pass_a_call).method.rho == RHO
    assert broken(added).method.lr == 2 * LR
    assert type(broken(gradient_of_before).method) is fd.methods.LaggedSAM
    assert (broken(momentum_of_one).method.lr, broken(momentum_of_one).method.momentum) == (LR, 0.9)


# optax computes schedules in 32 bits
STUCK = ("constant radius", "low precision", "NaN at zero gradient", "not as expected")


def test_every_fault_is_in_a_test():
    elsewhere = {"statistics moved twice", *STUCK}
    assert {word for words in BROKEN.values() for word in words} | elsewhere == set(FAULTS)


def shrinking(kind):
    """An ascent whose radius, or rate, is halved at the second step, and so on: 1, 1/2, 1/3, ..."""

    def make():
        count = 0

        def step(theta, gradient):
            nonlocal count
            count += 1
            g = gradient(theta)
            return theta - LR * gradient(theta + RHO / count * (direction(g) if kind == "SAM" else g))

        return step

    return make


def sam_of_optax(schedule, reset):
    """Its schedule counts the inner optimiser's steps, which begin anew at every step if that is reset."""
    inner = optax.chain(optax.contrib.normalize(), optax.sgd(schedule))
    return optax.contrib.sam(optax.sgd(LR), inner, reset_state=reset, opaque_mode=True)


def falling(k):
    return 1 / (1 + k)


def test_a_radius_that_was_to_move_and_does_not_is_a_fault():
    wanted = fd.Scheduled(fd.SAM(LR, RHO), rho=falling)
    stays = fd.audit(sam_of_optax(lambda k: RHO * falling(k), reset=True), expected=wanted)
    assert stays.faults == STUCK
    assert (type(stays.method), stays.method.rho) == (fd.SAM, RHO)
    moves = fd.audit(sam_of_optax(lambda k: RHO * falling(k), reset=False), expected=wanted)
    assert moves.faults == ("NaN at zero gradient",)
    for outer in (fd.Averaged(wanted), fd.Scheduled(wanted, falling)):
        assert "constant radius" in fd.audit(sam, expected=outer).faults
    # a schedule that was not to move within the steps that are seen
    assert fd.audit(sam, expected=fd.Scheduled(fd.SAM(LR, RHO), rho=lambda k: 1.0 + (k > 1000))).faults == ()


@pytest.mark.parametrize("lr", [0.1, 0.125])
def test_a_step_size_of_32_bits_is_told_from_one_of_64(lr):
    """As heavyball's, on parameters of 64 bits: 1/8 is the same in both, so that nothing is lost."""

    def step(theta, gradient):
        return theta - float(np.float32(lr)) * gradient(theta)

    audit = fd.audit(step)
    assert (audit.method.lr, audit.faults) == (lr, ("low precision",) if lr == 0.1 else ())


@pytest.mark.parametrize("kind", ["SAM", "USAM"])
def test_a_radius_that_moves_has_a_name(kind):
    audit = fd.audit(shrinking(kind))
    assert (type(audit.method), type(audit.method.method)) == (fd.Scheduled, getattr(fd, kind))
    assert audit.method.method.rho == pytest.approx(RHO, rel=1e-12)  # a radius that was computed: rounding
    factors = [float(audit.method.schedules["rho"](k)) for k in range(4)]
    assert factors == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4], rel=1e-12)
    assert audit.faults == ()
    assert audit.difference < 1e-13


def test_running_statistics_are_asked_about_where_they_are_cared_for():
    def careful(theta, gradient):
        return theta - LR * gradient(theta + RHO * direction(gradient(theta)), statistics=False)

    assert fd.audit(sam).faults == ()
    assert fd.audit(sam, statistics=True).faults == ("statistics moved twice",)
    assert fd.audit(careful, statistics=True).faults == ()


def test_what_was_expected_is_compared():
    assert fd.audit(descent, expected=fd.GD(LR)).faults == ()
    audit = fd.audit(descent, expected=fd.GD(0.2))
    assert audit.faults == ("not as expected",)
    assert type(audit.method) is fd.GD
    assert "from step 1 on" in str(audit)


# --- optax ----------------------------------------------------------------------------------------------------

UP = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
OPTAX = {
    "sgd": (optax.sgd(LR), fd.GD, {"lr": LR}, ()),
    "small steps": (optax.sgd(1e-4, 0.9), fd.GD, {"lr": 1e-4, "momentum": 0.9}, ()),
    "nesterov": (optax.sgd(LR, 0.9, nesterov=True), fd.GD, {"nesterov": True, "momentum": 0.9}, ()),
    "decay": (optax.chain(optax.add_decayed_weights(0.2), optax.sgd(LR, 0.9)), fd.GD, {"weight_decay": 0.2}, ()),
    "schedule": (optax.sgd(optax.cosine_decay_schedule(LR, 20), 0.9), fd.Scheduled, {}, ()),
    "adamw": (optax.adamw(0.01, weight_decay=0.1), None, {}, ()),
    "rmsprop": (optax.rmsprop(0.01), None, {}, ()),
    "lion": (optax.lion(0.001), None, {}, ("sign step",)),
    "clipped": (
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(LR, 0.9)),
        None,
        {},
        ("clipped gradient",),
    ),
    "sam": (
        optax.contrib.sam(optax.sgd(LR), UP),
        fd.SAM,
        {"lr": LR, "rho": RHO},
        ("NaN at zero gradient", "perturbed points stored"),
    ),
    "opaque sam": (
        optax.contrib.sam(optax.sgd(LR), UP, sync_period=3, opaque_mode=True),
        fd.SAM,
        {"rho": RHO, "ascents": 2},
        ("NaN at zero gradient",),
    ),
    "decay before sam": (
        optax.chain(optax.add_decayed_weights(0.1), optax.contrib.sam(optax.sgd(LR), UP)),
        fd.SAM,
        {"weight_decay": 0.1, "decay": "loss"},
        ("decay in the ascent", "perturbed points stored"),
    ),
    "adam on sam": (
        optax.contrib.sam(optax.adam(0.01), UP, opaque_mode=True),
        None,
        {},
        ("NaN at zero gradient",),
    ),
    "frozen": (
        optax.partition({"a": optax.sgd(LR), "b": optax.set_to_zero()}, {"weight": "a", "bias": "b", "out": "a"}),
        fd.GD,
        {"lr": LR},
        ("never moves",),
    ),
    # Its sums are in 32 bits, whatever the gradients are in
    "accumulated": (
        optax.MultiSteps(optax.sgd(LR), 2).gradient_transformation(),
        fd.GD,
        {"lr": LR},
        ("low precision",),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_a_transformation_of_optax_gets_its_name(name):
    transformation, kind, numbers, faults = OPTAX[name]
    audit = fd.audit(transformation)
    assert type(audit.method) is (kind or type(fd.from_optax(optax.sgd(LR)))), audit
    assert audit.faults == faults, audit
    for field, value in numbers.items():
        assert getattr(audit.method, field) == value, audit


def test_what_flatdyn_has_not_is_not_named():
    assert fd.audit(optax.contrib.schedule_free_sgd(LR)).method is None
    assert fd.audit(lambda theta, gradient: theta - LR * np.arctan(gradient(theta))).method is None


# --- memory, records, bad input -------------------------------------------------------------------------------

VELOCITY = 0.0


def global_momentum(theta, gradient):
    global VELOCITY
    VELOCITY = 0.9 * VELOCITY + gradient(theta)
    return theta - LR * VELOCITY


def attribute_momentum(theta, gradient):
    attribute_momentum.velocity = 0.9 * attribute_momentum.velocity + gradient(theta)
    return theta - LR * attribute_momentum.velocity


attribute_momentum.velocity = 0.0


class Trainer:
    def __init__(self):
        self.velocity = 0.0

    def __call__(self, theta, gradient):
        self.velocity = 0.9 * self.velocity + gradient(theta)
        return theta - LR * self.velocity

    def train(self, theta, gradient):
        return self(theta, gradient)


@pytest.mark.parametrize(
    "step",
    [global_momentum, attribute_momentum, momentum()(), Trainer(), Trainer().train, functools.partial(momentum()())],
    ids=["global", "attribute", "closure", "object", "method", "partial"],
)
def test_memory_is_put_back_for_each_run(step):
    audit = fd.audit(step)
    assert audit.faults == (), audit
    assert audit.method.momentum == 0.9
    assert VELOCITY == 0.0  # what is the user's stays as it was


def recorded(step, steps=8):
    """A run as somebody would have kept it: positions, and for each call the gradient and its point."""
    problem = problems.problems(6)["batches"]
    theta, positions, gradients, points = problem.start, [problem.start], [], []
    for k in range(steps):
        asked = []

        def gradient(x, k=k, asked=asked):
            asked.append((x, problem.gradient(x, k)))
            return asked[-1][1]

        theta = step(theta, gradient)
        positions.append(theta)
        points.append([x for x, _ in asked])
        gradients.append([g for _, g in asked])
    return np.array(positions), np.array(gradients), np.array(points)


def test_a_recorded_run_is_read():
    positions, gradients, _ = recorded(momentum(coupled=0.2)())
    audit = fd.audit((positions, gradients[:, 0]))
    assert (audit.method.momentum, audit.method.weight_decay) == (0.9, 0.2)
    assert audit.difference < 1e-13
    audit = fd.audit(recorded(sam))
    assert (audit.method.lr, audit.method.rho) == (LR, RHO)
    # Without the points it is known what is followed, but not where it was taken
    positions, gradients, _ = recorded(missing_zero_grad)
    assert fd.audit((positions, gradients)).method is None
    assert "missing zero_grad" in fd.audit((positions, gradients)).faults
    assert fd.audit((positions, gradients[:, 1]), expected=fd.GD(LR)).faults == ("not as expected",)


P, G = np.zeros((9, 6)), np.ones((8, 6))


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        (3, TypeError, "step must be a function"),
        (lambda: 3, TypeError, "what step\\(\\) returned must be a function"),
        (lambda theta, gradient, lr: theta, TypeError, "takes 3 arguments"),
        (lambda theta, gradient: None, ValueError, "returned None: let it return"),
        (lambda theta, gradient: theta[:2], ValueError, "must have the form of the parameters"),
        (lambda theta, gradient: theta - gradient(theta[0]), ValueError, "asks for a gradient must have the form"),
        (lambda theta, gradient: theta / "a", ValueError, "step failed for parameters of shape"),
        (jax.jit(lambda theta, gradient: theta, static_argnums=1), ValueError, "step failed|jax.jit"),
        ((P,), ValueError, "a recorded run is a pair"),
        ((P, G[:4]), ValueError, "one position more than there are steps"),
        ((P[:4], G[:3]), ValueError, "too short to decide"),
        ((P, np.full_like(G, np.nan)), ValueError, "finite"),
        ((P, G, G[:2]), ValueError, "points must have the shape of gradients"),
        (lambda model: None, TypeError, "import torch|must make an optimiser"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(step, kind, words):
    if words == "step failed|jax.jit":
        step = jax.jit(lambda theta, gradient: theta - gradient(theta), static_argnums=1)
    with pytest.raises(kind, match=words):
        fd.audit(step)


def test_options_are_checked():
    for options in ({"expected": 3}, {"statistics": 1}, {"closure": "yes"}):
        with pytest.raises(TypeError, match=next(iter(options))):
            fd.audit(descent, **options)
    with pytest.raises(ValueError, match="dtype must be one of"):
        fd.audit(descent, dtype="float8")
    with pytest.raises(ValueError, match="like must hold three parameters"):
        fd.audit(descent, like=np.zeros(2))


def test_the_record_is_frozen_and_its_text_is_the_report():
    audit = broken(missing_zero_grad)
    with pytest.raises(dataclasses.FrozenInstanceError):
        audit.method = None
    assert repr(audit) == str(audit) == "\n".join(audit.lines)
    assert audit.lines[0] == "SAM(lr=0.2, rho=0.025)"


# --- PyTorch, where it is installed ---------------------------------------------------------------------------


def train_by_hand(torch, forget=(), momentum_of_norm=0.0):
    """SAM as a training loop, with things that may be forgotten."""

    def make(model):
        parameters = list(model.parameters())
        optimiser = torch.optim.SGD(parameters, lr=LR)

        def train(loss):
            optimiser.zero_grad()
            loss().backward()
            length = torch.sqrt(sum((one.grad**2).sum() for one in parameters)).clamp(min=1e-300)
            ascents = [RHO * one.grad / length for one in parameters]
            with torch.no_grad():
                for one, ascent in zip(parameters, ascents, strict=True):
                    one.add_(ascent)
            if "zero_grad" not in forget:
                optimiser.zero_grad()
            if "statistics" not in forget:
                model["norm"].momentum = 0.0
            (loss.another() if "minibatch" in forget else loss()).backward()
            model["norm"].momentum = 0.1
            if "restore" not in forget:
                with torch.no_grad():
                    for one, ascent in zip(parameters, ascents, strict=True):
                        one.sub_(ascent)
            optimiser.step()

        return train

    return make


def test_optimisers_of_pytorch():
    torch = pytest.importorskip("torch")
    SGD = torch.optim.SGD
    plain = fd.audit(lambda p: SGD(p, lr=LR, momentum=0.9, dampening=0.5, weight_decay=0.1))
    assert (plain.method.dampening, plain.method.start, plain.method.weight_decay) == (0.5, "first", 0.1)
    assert plain.faults == ()
    assert fd.audit(lambda p: torch.optim.AdamW(p, lr=0.01)).method is not None
    assert fd.audit(lambda p: SGD(p, lr=LR, maximize=True)).faults == ("ascends",)
    for forgotten, words in {
        (): (),
        ("zero_grad",): ("missing zero_grad",),
        ("restore",): ("not restored",),
        ("minibatch",): ("other minibatch",),
        ("statistics",): ("statistics moved twice",),
    }.items():
        audit = fd.audit(train_by_hand(torch, forgotten))
        assert audit.faults == words, audit
    assert fd.audit(train_by_hand(torch), dtype="bfloat16").faults == ("perturbation lost",)
    with pytest.raises(TypeError, match="must make an optimiser"):
        fd.audit(lambda p: 3)
