"""Networks that other packages define: the numbers of PyTorch, stored, and what is refused.

The same ResNet is written in plain JAX here, and where they are installed in Flax and, through its converter, PyTorch.
"""

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import networks

sys.path.insert(0, str(Path(__file__).parent))
import elsewhere

STORED = json.loads(elsewhere.STORED.read_text())
X, Y, BATCHES = elsewhere.data()
DATA = networks.Split(X, Y)
# Of all numbers below: rounding of sums in another order, through a Hessian or six steps of momentum. They are near 1.
ROUNDING = {"atol": 1e-11, "rtol": 1e-11}


# --- the stored numbers ---------------------------------------------------------------------------------------


def convolved(x, weight):
    return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME")


def resnet(params, state, x, training=False):
    """The ResNet of elsewhere.py: outputs, and PyTorch's running averages after the pass."""
    new = {}

    def norm(name, x):
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        if training:
            batch_mean, batch_variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            unbiased = batch_variance * (x[:, 0].size / (x[:, 0].size - 1))
            new[f"{name}.running_mean"] = 0.9 * mean + 0.1 * batch_mean
            new[f"{name}.running_var"] = 0.9 * variance + 0.1 * unbiased
            mean, variance = batch_mean, batch_variance
        column = lambda v: v[:, None, None]  # noqa: E731
        y = (x - column(mean)) / jnp.sqrt(column(variance) + 1e-5)
        return y * column(params[f"{name}.weight"]) + column(params[f"{name}.bias"])

    x = jax.nn.silu(norm("norm", convolved(x, params["stem.weight"])))
    inside = jax.nn.silu(norm("first_norm", convolved(x, params["first.weight"])))
    x = jax.nn.silu(x + norm("second_norm", convolved(inside, params["second.weight"])))
    outputs = x.mean((2, 3)) @ params["head.weight"].T + params["head.bias"]
    return (outputs, new) if training else outputs


def in_training(params, state, x):
    return resnet(params, state, x, training=True)


@pytest.fixture(scope="module")
def plain():
    params = elsewhere.parameters(elsewhere.RESNET)
    return networks.task(resnet, params, DATA, state=elsewhere.averages(), train=in_training)


@eqx.filter_jit
def trained(task, method):
    """Where a method ends on the minibatches of elsewhere.py."""

    def step(state, rows):
        batch = task.landscape.batch(rows)
        return method.step(batch.field, state), None

    last = jax.lax.scan(step, method.init(task.landscape.vector(task.start)), jnp.asarray(BATCHES))[0]
    return task.landscape.array(last.theta)


def check_against_pytorch(task, name):
    """Loss, eigenvalues, SGD and SAM are those that PyTorch computes by itself."""
    stored = STORED[name]
    assert_allclose(task.landscape.loss(task.start), stored["loss"], **ROUNDING)
    direction = jnp.asarray(stored["direction"])
    product = fd.curvature.hessian_product(task.landscape, task.start, direction)
    assert_allclose(product, stored["largest"] * direction, **ROUNDING)
    for words, rho in (("sgd", 0.0), ("sam", elsewhere.RHO)):
        method = fd.SAM(elsewhere.LR, rho, momentum=elsewhere.MOMENTUM)
        assert_allclose(trained(task, method), stored[words], **ROUNDING)


def test_a_resnet_in_plain_jax_has_the_numbers_of_pytorch(plain):
    assert plain.dim == len(STORED["resnet"]["sgd"])
    check_against_pytorch(plain, "resnet")


def test_state_alone_is_evaluation_mode_in_training_too(plain):
    params, state = elsewhere.parameters(elsewhere.RESNET), elsewhere.averages()
    frozen = networks.task(resnet, params, DATA, state=state)
    logits = np.asarray(STORED["resnet"]["logits in evaluation"])
    assert_allclose(frozen.scores(frozen.start, X), logits, **ROUNDING)
    entropy = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(Y)), Y])
    assert_allclose(frozen.landscape.loss(frozen.start), entropy, **ROUNDING)
    assert abs(float(plain.landscape.loss(plain.start)) - entropy) > 1e-3  # in training mode it is another loss


def test_averages_are_made_anew_from_the_training_data(plain):
    theta = np.asarray(plain.start) + 0.1
    tree = plain.landscape.vector(jnp.asarray(theta)).tree
    # A state that a pass over the training data leaves as it is, is theirs: it is found by passing 400 times, 0.9⁴⁰⁰
    state = jax.lax.fori_loop(0, 400, lambda _, s: in_training(tree, s, jnp.asarray(X))[1], elsewhere.averages())
    assert_allclose(plain.scores(theta, X[:3]), resnet(tree, state, X[:3]), **ROUNDING)
    batch = plain.landscape.batch(jnp.arange(5))
    outputs = in_training(tree, elsewhere.averages(), jnp.asarray(X[:5]))[0]
    entropy = -jax.nn.log_softmax(outputs)[np.arange(5), Y[:5]].mean()
    assert_allclose(batch.loss(theta), entropy, **ROUNDING)


# --- whole answers --------------------------------------------------------------------------------------------


def affine(params, x):
    return x @ params["w"] + params["b"]


WEIGHTS = {"b": np.zeros(2), "w": np.random.default_rng(3).normal(size=(2, 2)).astype(np.float32)}
SPIRALS = networks.spirals(40, 1.0, seed=1)


def test_training_comparison_and_starts_work_on_a_tree():
    task = networks.task(affine, WEIGHTS, SPIRALS, weight_decay=1e-2)
    assert (task.dim, task.start.dtype, task.metric) == (6, np.float64, "accuracy")
    assert_allclose(task.coordinates(WEIGHTS), task.start)
    make = lambda key: {"b": jnp.zeros(2), "w": jax.random.normal(key, (2, 2))}  # noqa: E731
    starts = task.starts(make, jax.random.key(0), 2)
    noise = fd.noise.FiniteSum(8)
    methods = {
        name: {"": fd.Iteration(task.landscape, method, noise)}
        for name, method in (("SGD", fd.GD(0.1)), ("SAM", fd.SAM(0.1, 0.1)))
    }
    splits = {"valid": SPIRALS, "test": SPIRALS}
    compared = networks.compare(task, methods, starts, 10, jax.random.key(1), splits, evaluations=1)
    assert_allclose(compared.metric("SAM"), task.evaluate(compared.ends("SAM"), SPIRALS))
    # logistic regression by hand, one full step
    w, b = np.asarray(WEIGHTS["w"], float), WEIGHTS["b"]
    share = np.exp(SPIRALS.x @ w + b) / np.exp(SPIRALS.x @ w + b).sum(1, keepdims=True) - np.eye(2)[SPIRALS.y]
    by_hand = np.r_[share.mean(0), (SPIRALS.x.T @ share / 40).ravel()] + 1e-2 * np.r_[b, w.ravel()]
    assert_allclose(task.landscape.grad(task.start), by_hand, atol=1e-14)


def test_a_mask_by_name_perturbs_a_part():
    task = networks.task(affine, WEIGHTS, SPIRALS)
    sam = fd.SAM(0.1, 0.2, mask={"b": True, "w": False})
    run = fd.simulate(fd.Iteration(task.landscape, sam), task.start, 1)
    ascent = np.asarray(task.landscape.grad(task.start)) * np.r_[1, 1, np.zeros(4)]
    step = 0.1 * task.landscape.grad(task.start + 0.2 * ascent / np.linalg.norm(ascent))
    assert_allclose(run.final, task.start - step, atol=1e-14)


def test_a_network_that_rests_at_a_saddle_can_be_asked_how_long_it_stays():
    """Two factors, f(x) = a b x to y = x: at (0, 0) the Hessian is −mean x² on the off-diagonal."""
    data = networks.Split(np.array([[1.0], [-2.0]]), np.array([[1.0], [-2.0]]))
    task = networks.task(lambda p, x: p["a"] * p["b"] * x, {"a": np.zeros(()), "b": np.zeros(())}, data, "square")
    multipliers = fd.stability.multipliers(fd.GD(0.1), task.landscape, at=task.start)
    assert_allclose(np.sort(multipliers.real), [1 - 0.25, 1 + 0.25])  # mean x² = 5/2
    process = fd.Iteration(task.landscape, fd.GD(0.1))
    start = np.full((1, 2), 1e-6)
    stays = fd.escape_times(process, start, inside=fd.escape.Ball(np.zeros(2), 0.1), max_steps=200)
    assert stays.steps[0] == np.ceil(np.log(0.1 / (np.sqrt(2) * 1e-6)) / np.log(1.25))


def test_a_loss_of_ones_own_is_a_mean_and_the_metric():
    def smooth(outputs, y):
        return -(jax.nn.log_softmax(outputs) * (0.9 * jax.nn.one_hot(y, 2) + 0.05)).sum(1)

    tasks = [
        networks.task(affine, WEIGHTS, SPIRALS, loss) for loss in (smooth, lambda outputs, y: smooth(outputs, y).mean())
    ]
    values = [float(task.landscape.loss(task.start)) for task in tasks]
    assert_allclose(values[0], values[1], rtol=1e-15)
    assert [task.metric for task in tasks] == ["loss", "loss"]
    assert_allclose([task.evaluate(task.start, SPIRALS) for task in tasks], values, rtol=1e-14)
    with pytest.raises(ValueError, match="the mean over a batch, not a sum: for a batch taken twice it is 2 times"):
        networks.task(affine, WEIGHTS, SPIRALS, lambda outputs, y: smooth(outputs, y).sum())


def test_dropout_with_a_key_is_the_same_at_every_step_and_off_in_evaluation():
    def dropped(params, x, key):
        return affine(params, x * jax.random.bernoulli(key, 0.5, x.shape) * 2)

    key = jax.random.key(4)
    task = networks.task(affine, WEIGHTS, SPIRALS, train=dropped, key=key)
    again = [float(task.landscape.loss(task.start)) for _ in range(2)]
    scores = dropped(WEIGHTS, SPIRALS.x, key)
    assert_allclose(again, [-jax.nn.log_softmax(scores)[np.arange(40), SPIRALS.y].mean()] * 2, rtol=1e-12)
    assert_allclose(task.scores(task.start, SPIRALS.x), affine(WEIGHTS, SPIRALS.x), rtol=1e-14)


def test_equinox_batchnorm_is_flatdyns():
    """The same perceptron with Equinox' layer, whose state is declared, and with flatdyn's, which has none."""
    own = networks.MLP((2, 5, 2), jax.random.key(0), norm="batch")
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(5, axis_name="batch", mode="batch", dtype=jnp.float64)
    network = SimpleNamespace(layers=own.layers, norm=norm)
    params, rest = eqx.partition([network.layers, norm], eqx.is_inexact_array)

    def run(params, state, x, inference):
        layers, norm = eqx.nn.inference_mode(eqx.combine(params, rest), inference)

        def one(x, state):
            x, state = norm(layers[0](x), state)
            return layers[1](jax.nn.relu(x)), state

        return jax.vmap(one, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    theirs = networks.task(
        lambda params, state, x: run(params, state, x, True)[0],
        params,
        SPIRALS,
        state=state,
        train=lambda params, state, x: run(params, state, x, False),
    )
    ours = networks.classifier(own, SPIRALS)
    assert_allclose(theirs.landscape.loss(theirs.start), ours.landscape.loss(ours.start), rtol=1e-12)
    assert_allclose(theirs.scores(theirs.start, SPIRALS.x[:3]), ours.scores(ours.start, SPIRALS.x[:3]), rtol=1e-9)


# --- what is refused ------------------------------------------------------------------------------------------


class ScopeCollectionNotFound(Exception):
    """Named as that of Flax, which is not installed where these tests run."""


class InvalidRngError(Exception):
    """Likewise."""


def raising(error):
    def apply(params, x):
        raise error

    return apply


def by_the_batch(params, x):
    return affine(params, (x - x.mean(0)) / x.std(0))


def moved(share):
    def train(params, state, x):
        return affine(params, x), jax.tree.map(lambda s: share(s, x.mean()), state)

    return train


def stateful(share, apply=lambda params, state, x: affine(params, x)):
    return lambda: networks.task(apply, WEIGHTS, SPIRALS, state={"m": np.zeros(())}, train=moved(share))


BAD = [
    (lambda: networks.task(affine, {"w": np.ones((2, 2), int)}, SPIRALS), ValueError, r"floating.*int64 at \['w'\]"),
    (lambda: networks.task(affine, {}, SPIRALS), ValueError, "params must hold at least one array"),
    (
        lambda: networks.task(affine, {"params": WEIGHTS, "batch_stats": WEIGHTS}, SPIRALS),
        ValueError,
        'collections params and batch_stats.*params=variables."params".',
    ),
    (lambda: networks.task(lambda p, x: (x, p), WEIGHTS, SPIRALS), TypeError, "outputs alone, got a pair: .*`state`"),
    (
        lambda: networks.task(lambda p, x: x.sum(), WEIGHTS, SPIRALS),
        TypeError,
        r"\(n, ...\).*n inputs, got an array of",
    ),
    (lambda: networks.task(lambda p, x: p["q"], WEIGHTS, SPIRALS), TypeError, r"apply must take \(params, x\)"),
    (
        lambda: networks.task(raising(ScopeCollectionNotFound("no batch_stats here")), WEIGHTS, SPIRALS),
        TypeError,
        "state that was not declared: give it as `state`.*it said: no batch_stats here",
    ),
    (
        lambda: networks.task(raising(InvalidRngError("needs PRNG")), WEIGHTS, SPIRALS),
        TypeError,
        "draws random numbers, and has no key: switch.*evaluation mode.*key=",
    ),
    (lambda: networks.task(affine, WEIGHTS, SPIRALS, key=jax.random.key(0)), ValueError, r"train\(params, ..., key\)"),
    (lambda: networks.task(by_the_batch, WEIGHTS, SPIRALS), ValueError, "depend on the others.*as `train`"),
    (
        lambda: networks.task(
            lambda p, x: affine(p, x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)), WEIGHTS, SPIRALS
        ),
        ValueError,
        "depend on the others.*dropout",
    ),
    (stateful(lambda s, mean: s + mean), ValueError, r"\['m'\] is no running average"),  # a sum
    (stateful(lambda s, mean: jnp.maximum(s, mean)), ValueError, r"\['m'\] is no running average"),
    (
        lambda: networks.task(
            lambda p, s, x: affine(p, x),
            WEIGHTS,
            SPIRALS,
            state={"m": np.ones(())},
            train=lambda p, s, x: (affine(p, x - s["m"]), {"m": 0.9 * s["m"] + 0.1 * x.mean()}),
        ),
        ValueError,
        "its outputs depend on the state",
    ),
    (
        lambda: networks.task(
            lambda p, s, x: affine(p, x), WEIGHTS, SPIRALS, state={"m": np.ones(())}, train=lambda p, s, x: affine(p, x)
        ),
        TypeError,
        r"train must return \(outputs, new state\)",
    ),
    (lambda: networks.task(affine, WEIGHTS, SPIRALS, "hinge"), ValueError, "'cross_entropy' or 'square', got 'hinge'"),
    (lambda: networks.task(affine, WEIGHTS, SPIRALS, lambda a, y: a), ValueError, "a number for each of its 40 exam"),
    (lambda: networks.task(affine, WEIGHTS, SPIRALS).coordinates({"w": 1}), ValueError, "tree must be like that"),
]


@pytest.mark.parametrize(("build", "kind", "message"), BAD)
def test_what_does_not_fit_is_refused_with_the_remedy(build, kind, message):
    with pytest.raises(kind, match=message):
        build()


def test_a_running_average_is_accepted_whatever_its_memory():
    for share in (lambda s, mean: 0.99 * s + 0.01 * mean, lambda s, mean: mean, lambda s, mean: s):
        stateful(share)()


def test_an_absent_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'from_torch needs the package torch.*pip install "torch==.*" "tojax=='):
        networks.from_torch(None, DATA)


def test_operations_that_the_converter_lacks_are_pytorchs():
    """By their definitions, in NumPy; where PyTorch is installed from_torch compares with it."""
    operations = networks.elsewhere.operations
    x = np.random.default_rng(5).normal(size=(3, 2, 7))
    mean = lambda first, last: x[..., first:last].mean(-1)  # noqa: E731
    # windows ⌊i 7/3⌋ … ⌈(i + 1) 7/3⌉
    windows = np.stack([mean(0, 3), mean(2, 5), mean(4, 7)], -1)
    assert_allclose(operations.adaptive_average_pool(1)(jnp.asarray(x), 3), windows, rtol=1e-14)
    pool = operations.average_pool(1)
    padded = np.stack([mean(0, 2) * 2 / 3, mean(1, 4), mean(3, 6), mean(5, 7) * 2 / 3], -1)
    assert_allclose(pool(jnp.asarray(x), 3, 2, 1), padded, rtol=1e-14)
    assert_allclose(pool(jnp.asarray(x), 3, 2, 1, False, False)[..., 0], mean(0, 2), rtol=1e-14)
    assert_allclose(operations.gelu(jnp.asarray(1.0)), 0.8413447460685429, rtol=1e-14)  # Φ(1)
    assert_allclose(operations.gelu(jnp.asarray(1.0), "tanh"), 0.8411919906082768, rtol=1e-12)


# --- the packages themselves, where they are installed --------------------------------------------------------


def test_from_torch_has_the_numbers_of_pytorch():
    pytest.importorskip("torch")
    pytest.importorskip("tojax")
    largest = lambda task: fd.curvature.extreme_eigenvalues(task.landscape, task.start, method="dense").largest  # noqa: E731
    module = elsewhere.resnet()
    before = copy.deepcopy(module.state_dict())
    task = networks.from_torch(module, DATA)
    check_against_pytorch(task, "resnet")
    assert_allclose(task.scores(task.start, X), STORED["resnet"]["logits in training"], **ROUNDING)
    frozen = networks.from_torch(module.eval(), DATA)
    assert_allclose(frozen.scores(frozen.start, X), STORED["resnet"]["logits in evaluation"], **ROUNDING)
    assert all((value == before[name]).all() for name, value in module.state_dict().items())
    assert_allclose(largest(task), STORED["resnet"]["largest"], **ROUNDING)
    transformer = networks.from_torch(elsewhere.vit(), DATA)
    assert_allclose(largest(transformer), STORED["vit"]["largest"], **ROUNDING)
    check_against_pytorch(transformer, "vit")
    assert_allclose(transformer.scores(transformer.start, X), STORED["vit"]["logits in evaluation"], **ROUNDING)


def test_from_torch_refuses_what_jax_would_compute_otherwise(monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("tojax")
    flat, linear = torch.nn.Flatten(), torch.nn.Linear(16, 3)
    module = torch.nn.Sequential(flat, linear, torch.nn.Dropout(0.1))
    with pytest.raises(ValueError, match=r"random numbers in 2 \(Dropout\).*module.eval\(\)"):
        networks.from_torch(module, DATA)
    assert networks.from_torch(module.eval(), DATA).dim == 51
    with pytest.raises(TypeError, match="module must be a Module, got 3"):
        networks.from_torch(3, DATA)
    with pytest.raises(ValueError, match=r"cannot be converted.*_weight_norm.*tojax 1"):
        networks.from_torch(
            torch.nn.Sequential(flat, torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(16, 3))), DATA
        )
    rule = networks.elsewhere.operations.gelu
    monkeypatch.setattr(networks.elsewhere.operations, "gelu", lambda x, approximate="none": rule(x, "tanh"))
    with pytest.raises(ValueError, match=r"is another: outputs differs by .* from PyTorch's"):
        networks.from_torch(torch.nn.Sequential(flat, linear, torch.nn.GELU()), DATA)


def test_from_torch_converts_every_layer_in_use():
    torch = pytest.importorskip("torch")
    pytest.importorskip("tojax")
    nn = torch.nn
    torch.manual_seed(0)
    tied = nn.Linear(16, 16)
    for layers in (
        [nn.Conv2d(1, 4, 3), nn.AvgPool2d(2, 2, 1), nn.GroupNorm(2, 4), nn.Flatten(), nn.GELU(), nn.Linear(16, 3)],
        [nn.Flatten(2), nn.Conv1d(1, 12, 3, 2), nn.BatchNorm1d(12), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.PReLU()],
        [nn.Flatten(), tied, nn.Tanh(), tied, nn.BatchNorm1d(16), nn.LayerNorm(16), nn.Linear(16, 3)],
    ):
        networks.from_torch(nn.Sequential(*layers), DATA)  # which compares outputs and gradients by itself


def test_flax_nnx_has_the_numbers_of_pytorch():
    nnx, channels = pytest.importorskip("flax.nnx"), elsewhere.CHANNELS

    class Layers(nnx.Module):
        def __init__(self, rngs):
            for name, inputs in (("stem", 1), ("first", channels), ("second", channels)):
                layer = nnx.Conv(inputs, channels, (3, 3), padding=1, use_bias=False, rngs=rngs, param_dtype=float)
                setattr(self, name, layer)
            for name in elsewhere.NORMS:
                setattr(self, name, nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=rngs, param_dtype=float))
            self.head = nnx.Linear(channels, 3, rngs=rngs, param_dtype=float)

        def __call__(self, x):
            x = nnx.silu(self.norm(self.stem(x)))
            x = nnx.silu(x + self.second_norm(self.second(nnx.silu(self.first_norm(self.first(x))))))
            return self.head(x.mean((1, 2)))

    # PyTorch's name -> where nnx has it, and its axes in PyTorch's order
    turned = {"stem": (2, 3, 1, 0), "first": (2, 3, 1, 0), "second": (2, 3, 1, 0), "head": (1, 0)}
    network = Layers(nnx.Rngs(0))
    for name, value in elsewhere.parameters(elsewhere.RESNET).items():
        layer, kind = name.split(".")
        axes = turned.get(layer) if kind == "weight" else None
        place = "bias" if kind == "bias" else "kernel" if axes else "scale"
        getattr(getattr(network, layer), place).set_value(jnp.asarray(value if axes is None else value.transpose(axes)))
    for name, value in elsewhere.averages().items():
        layer, kind = name.split(".")
        getattr(getattr(network, layer), kind[8:]).set_value(jnp.asarray(value))
    network.eval()
    graph, params, state = nnx.split(network, nnx.Param, ...)
    network.train()
    moving = nnx.split(network, nnx.Param, ...)[0]

    def train(params, state, x):
        network = nnx.merge(moving, params, state)
        outputs = network(x)
        return outputs, nnx.split(network, nnx.Param, ...)[2]

    data = networks.Split(X.transpose(0, 2, 3, 1), Y)
    apply = lambda params, state, x: nnx.merge(graph, params, state)(x)  # noqa: E731
    frozen = networks.task(apply, params, data, state=state)
    assert_allclose(frozen.scores(frozen.start, data.x), STORED["resnet"]["logits in evaluation"], **ROUNDING)
    task = networks.task(apply, params, data, state=state, train=train)
    assert_allclose(task.scores(task.start, data.x), STORED["resnet"]["logits in training"], **ROUNDING)
    ends = fd.curvature.extreme_eigenvalues(task.landscape, task.start, method="dense")
    assert_allclose(ends.largest, STORED["resnet"]["largest"], **ROUNDING)
    for words, rho in (("sgd", 0.0), ("sam", elsewhere.RHO)):
        method = fd.SAM(elsewhere.LR, rho, momentum=elsewhere.MOMENTUM)
        tree = task.landscape.vector(trained(task, method)).tree
        where = nnx.merge(graph, tree, state)
        mine = []
        for name in sorted(elsewhere.RESNET):
            layer, kind = name.split(".")
            axes = turned.get(layer) if kind == "weight" else None
            place = "bias" if kind == "bias" else "kernel" if axes else "scale"
            value = np.asarray(getattr(getattr(where, layer), place)[...])
            mine.append((value if axes is None else value.transpose(np.argsort(axes))).ravel())
        assert_allclose(np.concatenate(mine), STORED["resnet"][words], **ROUNDING)


def test_flax_linen_and_haiku_declare_their_state():
    linen = pytest.importorskip("flax.linen")
    haiku = pytest.importorskip("haiku")
    x = SPIRALS.x

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, train=False):
            x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(linen.Dense(5)(x))
            return linen.Dense(2)(linen.relu(x))

    model = Net()
    variables = model.init(jax.random.key(0), x[:1])
    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}
    with pytest.raises(TypeError, match=r"state that was not declared.*Tried to access"):
        networks.task(lambda params, x: model.apply({"params": params}, x), params, SPIRALS)
    train = lambda p, s, x: model.apply({"params": p, **s}, x, train=True, mutable=["batch_stats"])  # noqa: E731
    apply = lambda p, s, x: model.apply({"params": p, **s}, x)  # noqa: E731
    task = networks.task(apply, params, SPIRALS, state=state, train=train)
    assert_allclose(task.scores(task.start, x), train(params, state, x)[0], atol=1e-6)  # given in 32 bits

    def body(x, training):
        x = haiku.BatchNorm(True, True, 0.9)(haiku.Linear(5)(x), is_training=training)
        return haiku.Linear(2)(jax.nn.relu(x))

    net = haiku.without_apply_rng(haiku.transform_with_state(body))
    params, state = net.init(jax.random.key(0), x[:1], True)
    apply = lambda p, s, x: net.apply(p, s, x, False)[0]  # noqa: E731
    train = lambda p, s, x: net.apply(p, s, x, True)  # noqa: E731
    task = networks.task(apply, params, SPIRALS, state=state, train=train)
    assert_allclose(task.scores(task.start, x), train(params, state, x)[0], atol=1e-6)
    wrong = haiku.transform(body).apply
    with pytest.raises(TypeError, match=r"hk\.without_apply_rng|state that was not declared"):
        networks.task(wrong, params, SPIRALS)
