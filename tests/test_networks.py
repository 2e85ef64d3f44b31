"""Networks on data as landscapes, against plain NumPy, and what an average of weights needs besides."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd

DATA = fd.networks.spirals(60, 1.0, seed=3)


def by_hand(network, x, statistics=None):
    """Scores of an MLP with BatchNorm, and (mean, variance) of each layer, in NumPy."""
    found = []
    for i, (layer, norm) in enumerate(zip(network.layers[:-1], network.norms, strict=True)):
        x = x @ np.asarray(layer.weight).T + np.asarray(layer.bias)
        mean, variance = (x.mean(0), x.var(0)) if statistics is None else statistics[i]
        found.append((mean, variance))
        x = np.asarray(norm.weight) * (x - mean) / np.sqrt(variance + 1e-5) + np.asarray(norm.bias)
        x = np.maximum(x, 0)
    last = network.layers[-1]
    return x @ np.asarray(last.weight).T + np.asarray(last.bias), found


def entropy(scores, y):
    return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y])


def test_a_network_with_batchnorm_is_what_numpy_computes():
    network = fd.networks.MLP((2, 5, 4, 2), jax.random.key(0), norm="batch")
    task = fd.networks.classifier(network, DATA, weight_decay=0.1)
    scores, found = by_hand(network, DATA.x)
    expected = entropy(scores, DATA.y) + 0.05 * float(task.start @ task.start)
    assert_allclose(task.landscape.loss(task.start), expected, rtol=1e-12)
    other = np.random.default_rng(0).normal(size=(7, 2))
    assert_allclose(task.scores(task.start, other), by_hand(network, other, found)[0], rtol=1e-10)
    hits = (by_hand(network, other, found)[0].argmax(axis=1) == np.arange(7) % 2).mean()
    assert task.accuracy(task.start, fd.networks.Split(other, np.arange(7) % 2)) == hits


def test_an_average_of_weights_has_batchnorm_statistics_of_its_own():
    network = fd.networks.MLP((2, 8, 2), jax.random.key(1), norm="batch")
    task = fd.networks.classifier(network, DATA)
    process = fd.Iteration(task.landscape, fd.Averaged(fd.GD(0.5), start=10), fd.noise.FiniteSum(20))
    state_of = lambda state: state.inner.theta.tree.layers[0].weight  # noqa: E731
    run = fd.simulate(process, task.start, 40, key=jax.random.key(0), observe=state_of)
    average = eqx.combine(task.landscape.vector(jnp.asarray(run.final)).tree, network)
    iterate = run.observed[-1]
    assert np.abs(np.asarray(average.layers[0].weight) - iterate).max() > 1e-3  # there is something to re-estimate
    _, own = by_hand(average, DATA.x)
    assert_allclose(task.scores(run.final, DATA.x[:5]), by_hand(average, DATA.x[:5], own)[0], rtol=1e-9)


def test_a_minibatch_with_batchnorm_is_normalised_by_itself():
    network = fd.networks.MLP((2, 5, 2), jax.random.key(2), norm="batch")
    task = fd.networks.classifier(network, DATA)
    some = jnp.array([0, 3, 7, 20])
    batch = task.landscape.batch(some)
    assert_allclose(batch.loss(task.start), entropy(by_hand(network, DATA.x[some])[0], DATA.y[some]), rtol=1e-12)


def test_layernorm_and_other_modules_need_no_statistics():
    for network in (
        fd.networks.MLP((2, 5, 2), jax.random.key(0), norm="layer"),
        eqx.nn.MLP(2, 2, 5, 1, key=jax.random.key(0)),
    ):
        task = fd.networks.classifier(network, DATA)
        together, alone = task.scores(task.start, DATA.x), task.scores(task.start, DATA.x[:1])
        assert_allclose(together[:1], alone, rtol=1e-12)
        assert_allclose(task.coordinates(network), task.start)


def test_the_border_of_a_straight_cut_has_its_length():
    network = fd.networks.MLP((2, 2), jax.random.key(0))
    task = fd.networks.classifier(network, DATA)
    # class 1 where a·x > 0: along an axis one crossing in each of 200 rows, on the diagonal one in each row and column
    cut = lambda a: np.concatenate([np.zeros(2), a, np.zeros(2)])  # noqa: E731, weights (2, 2) by rows, then biases
    borders = task.border(np.stack([cut([1.0, 0.01]), cut([1.0, 0.99])]))
    assert_allclose(borders, [1, 2], atol=0.03)  # a few of the 200 cells at the ends


def test_spirals_are_two_arms():
    x, y = fd.networks.spirals(2000, 2.0, spread=0.0, seed=1)
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    # each point lies on its arm: the angle is 4π r, plus half a turn on the other arm
    off = np.angle(np.exp(1j * (angle - 4 * np.pi * radius - np.pi * y)))
    assert np.abs(off).max() < 1e-9
    assert y.mean() == 0.5
    assert radius.max() <= 1


BAD = [
    (lambda: fd.networks.spirals(7), "number must be even.*got 7"),
    (lambda: fd.networks.spirals(10, turns=-1), "turns must be .*got -1"),
    (lambda: fd.networks.MLP((2,), jax.random.key(0)), "at least input and output"),
    (lambda: fd.networks.MLP((2, 3, 2), jax.random.key(0), norm="group"), "'batch', 'layer' or None, got 'group'"),
    (
        lambda: fd.networks.classifier(
            fd.networks.MLP((2, 3, 2), jax.random.key(0)), fd.networks.Split(DATA.x, DATA.y + 0.5)
        ),
        "labels must be whole numbers",
    ),
    (lambda: fd.networks.classifier(fd.networks.MLP((2, 2), jax.random.key(0)), DATA, -1.0), "weight_decay must be"),
    (lambda: fd.Landscape.from_function(lambda tree: 0.0, dim=2, like=jnp.zeros(2)), "either dim.*or like"),
    (lambda: fd.Landscape.from_function(lambda tree: 0.0, like={"n": 3}), "floating-point arrays alone"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_networks_and_data_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_regressor_is_half_the_mean_squared_error():
    rng = np.random.default_rng(0)
    data = fd.networks.Split(rng.normal(size=(30, 3)), rng.normal(size=(30, 2)))
    network = fd.networks.MLP((3, 4, 2), jax.random.key(0))
    task = fd.networks.regressor(network, data, weight_decay=0.3)
    outputs = np.asarray(network.forward(jnp.asarray(data.x))[0])
    square = ((outputs - data.y) ** 2).sum(axis=1).mean()
    assert_allclose(task.landscape.loss(task.start), square / 2 + 0.15 * float(task.start @ task.start), rtol=1e-12)
    assert_allclose(task.evaluate(task.start, data), square / 2, rtol=1e-12)  # two outputs: the mean is half the sum
    with pytest.raises(ValueError, match=r"y must have the shape of the outputs, \(30, 2\), got \(30,\)"):
        fd.networks.regressor(network, data._replace(y=data.y[:, 0]))


def test_many_examples_are_evaluated_in_blocks(monkeypatch):
    network = fd.networks.MLP((2, 5, 2), jax.random.key(0), norm="batch")
    data = fd.networks.spirals(700, 1.0)
    whole = fd.networks.classifier(network, data).scores(fd.networks.classifier(network, data).start, data.x)
    monkeypatch.setattr(fd.networks.training.tasks, "_EVALUATED_AT_ONCE", 64)  # 700 is no multiple of it
    task = fd.networks.classifier(network, data)
    assert_allclose(task.scores(task.start, data.x), whole, rtol=1e-12)


def test_starts_are_networks_of_their_own_and_more_leave_the_first_alone():
    make = lambda key: fd.networks.MLP((2, 4, 2), key)  # noqa: E731
    task = fd.networks.classifier(make(jax.random.key(9)), DATA)
    few, more = (task.starts(make, jax.random.key(0), runs) for runs in (2, 5))
    assert_allclose(more[:2], few, rtol=1e-15)
    assert len(np.unique(more[:, 0])) == 5
    assert_allclose(few[1], task.coordinates(make(jax.random.fold_in(jax.random.key(0), 1))), rtol=1e-15)


@pytest.mark.optimised
def test_a_layer_starts_with_the_weights_of_equinox():
    layers, keys = fd.networks.MLP((3, 5, 2), jax.random.key(4)).layers, jax.random.split(jax.random.key(4))
    for layer, key in zip(layers, keys, strict=True):
        assert eqx.tree_equal(layer, eqx.nn.Linear(layer.in_features, layer.out_features, key=key))


def test_tokens_stay_whole_numbers_and_labels_may_stand_at_every_place():
    tokens = np.arange(24).reshape(4, 6) % 3
    network = eqx.nn.Embedding(3, 3, key=jax.random.key(0))
    data = fd.networks.Split(tokens, (tokens + 1) % 3)
    task = fd.networks.classifier(_EachToken(network), data)
    table = np.asarray(network.weight)
    assert_allclose(task.landscape.loss(task.start), entropy(table[tokens.ravel()], data.y.ravel()), rtol=1e-12)


class _EachToken(eqx.Module):
    table: eqx.nn.Embedding

    def __call__(self, tokens):
        return jax.vmap(self.table)(tokens)


@pytest.mark.parametrize("ascent_size", [pytest.param(None, marks=pytest.mark.slow), 20])
def test_micro_batches_make_the_step_of_the_large_batch(ascent_size):
    task = fd.networks.classifier(fd.networks.MLP((2, 8, 2), jax.random.key(0)), DATA, weight_decay=1e-3)
    ends = []
    for size in (None, 5):
        noise = fd.noise.FiniteSum(40, ascent_size=ascent_size, micro_size=size)
        process = fd.Iteration(task.landscape, fd.SAM(0.1, 0.2, momentum=0.9), noise)
        ends.append(fd.simulate(process, task.start, 20, jax.random.key(1), every=20).final)
    assert_allclose(ends[1], ends[0], atol=1e-14)  # sums in another order, 20 steps
    assert np.abs(ends[0] - task.start).max() > 0.1


def test_a_micro_batch_must_divide_what_a_gradient_sees():
    with pytest.raises(ValueError, match="micro_size must divide the 20 examples of a gradient, got 8"):
        fd.noise.FiniteSum(40, ascent_size=20, micro_size=8)
