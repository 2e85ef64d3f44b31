"""Models against plain NumPy loops, their symmetries, their sizes, what SAM-ON costs on them, and ensembles of them."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import masks, networks

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@eqx.filter_jit
def forward(network, x, statistics=None):
    return network.forward(x, statistics)


@eqx.filter_jit
def applied(layer, *args):
    return layer(*args)


def is_conv(node):
    return isinstance(node, networks.Conv)


def made(build, *args, **options):
    """A network with random numbers everywhere, drawn by NumPy: nothing is compiled to build it."""
    shapes = eqx.filter_eval_shape(build, *args, **options)
    rng = np.random.default_rng(1)
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    draw = lambda leaf: jnp.asarray(0.6 * rng.normal(size=leaf.shape) + 0.2) if is_shape(leaf) else leaf  # noqa: E731
    return jax.tree.map(draw, shapes)


def numbers(network):
    """Number of parameters, of a network or of its shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(network) if hasattr(leaf, "size"))


def entropy_task(network, x, classes=3):
    return networks.classifier(network, networks.Split(x, np.arange(len(x)) % classes))


# --- convolutions ---------------------------------------------------------------------------------------------


def convolved(x, weight, bias, stride):
    """The definition, place by place."""
    side, dimensions = weight.shape[0], weight.ndim - 2
    reach = side // 2
    padded = np.pad(x, [(0, 0), *[(reach, reach)] * dimensions, (0, 0)])
    y = np.zeros((len(x), *(-(-extent // stride) for extent in x.shape[1:-1]), weight.shape[-1])) + bias
    for place in itertools.product(*map(range, y.shape[1:-1])):
        for offset in itertools.product(range(side), repeat=dimensions):
            at = tuple(stride * p + o for p, o in zip(place, offset, strict=True))
            y[(slice(None), *place)] += padded[(slice(None), *at)] @ weight[offset]
    return y


@pytest.mark.parametrize(
    ("extents", "side", "stride"), [((7,), 5, 1), ((6,), 3, 2), ((5, 4), 3, 1), ((5, 6), 3, 2), ((3, 4), 1, 2)]
)
def test_a_convolution_is_its_definition_by_either_engine(extents, side, stride):
    x = RNG.normal(size=(2, *extents, 3))
    for engine in ("product", "lax"):
        conv = made(networks.Conv, 3, 4, KEY, len(extents), side, stride, engine=engine)
        expected = convolved(x, np.asarray(conv.weight), np.asarray(conv.bias), stride)
        assert_allclose(applied(conv, x), expected, atol=1e-13)  # sums of at most 27 products of order 1


def test_the_engine_is_the_same_everywhere():
    network = eqx.filter_eval_shape(networks.resnet8, (8, 8, 1), 3, KEY, engine="lax")
    assert {node.engine for node in jax.tree.leaves(network, is_leaf=is_conv) if is_conv(node)} == {"lax"}


def test_what_moves_in_the_image_moves_in_the_convolution_and_not_in_the_mean():
    x = np.zeros((1, 9, 9, 1))
    x[0, 3:5, 3:6, 0] = RNG.normal(size=(2, 3))
    moved = np.roll(x, (1, 2), axis=(1, 2))
    network = made(networks.CNN2d, (9, 9, 1), 3, KEY, channels=(4,))
    conv = network.convolutions[0]
    assert_allclose(np.roll(applied(conv, x), (1, 2), axis=(1, 2)), applied(conv, moved), atol=1e-14)
    assert_allclose(forward(network, x)[0], forward(network, moved)[0], rtol=1e-12)


# --- normalization --------------------------------------------------------------------------------------------


def test_statistics_go_in_as_they_came_out():
    network = made(networks.ResNet, (3, 2, 1), 3, KEY, (1, 1), 4)
    x, other = RNG.normal(size=(2, 10, 6))
    here, used = forward(network, x)
    assert len(used) == 6
    again, same = forward(network, x, used)
    assert_allclose(again, here, rtol=1e-12)
    jax.tree.map(assert_array_equal, same, used)
    # With statistics given an example does not depend on the others; with those of the batch it does
    mixed = np.concatenate([x[:5], other[5:]])
    assert_allclose(forward(network, mixed, used)[0][:5], here[:5], rtol=1e-10)
    assert np.abs(forward(network, mixed)[0][:5] - here[:5]).max() > 0.01
    order = RNG.permutation(10)
    assert_allclose(forward(network, x[order])[0], here[order], rtol=1e-10)


def test_batchnorm_in_a_small_convolutional_network_is_what_numpy_computes():
    network = made(networks.CNN1d, (6, 1), 3, KEY, channels=(4, 4), norm="batch", side=3)
    x = RNG.normal(size=(5, 6))
    y, given = x[..., None], [(RNG.normal(size=4), RNG.uniform(0.5, 2, size=4)) for _ in range(2)]
    for conv, norm, (mean, variance), stride in zip(network.convolutions, network.norms, given, (1, 2), strict=True):
        y = convolved(y, np.asarray(conv.weight), 0, stride)
        y = np.maximum(np.asarray(norm.weight) * (y - mean) / np.sqrt(variance + 1e-5) + np.asarray(norm.bias), 0)
    expected = y.mean(axis=1) @ np.asarray(network.head.weight).T + np.asarray(network.head.bias)
    assert_allclose(forward(network, x, given)[0], expected, rtol=1e-11)


def test_group_and_layer_normalization_are_what_numpy_computes():
    x = RNG.normal(size=(3, 5, 12))
    layer, group = (
        networks.models.normalization.normalization(word, 12, ("layer", "group")) for word in ("layer", "group")
    )
    through = eqx.filter_jit(lambda norm, x: networks.models.normalization.Pass().through(norm, x))
    by_place = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    assert_allclose(through(layer, x), by_place, atol=1e-12)
    assert group.groups == 6  # the most up to 8 that divide 12
    parts = x.reshape(3, 5, 6, 2)
    by_group = (parts - parts.mean((1, 3), keepdims=True)) / np.sqrt(parts.var((1, 3), keepdims=True) + 1e-5)
    assert_allclose(through(group, x), by_group.reshape(x.shape), atol=1e-12)


# --- attention ------------------------------------------------------------------------------------------------


def normalised(x, norm):
    centred = x - x.mean()
    return np.asarray(norm.weight) * centred / np.sqrt((centred**2).mean() + 1e-5) + np.asarray(norm.bias)


def linear(x, layer):
    return np.asarray(layer.weight) @ x + (0 if layer.bias is None else np.asarray(layer.bias))


def read_by_hand(network, text):
    """Scores of a CharTransformer for one text, token by token."""
    x = [np.asarray(network.embedding)[c] + np.asarray(network.positions)[i] for i, c in enumerate(text)]
    for layer in network.layers:
        y = [normalised(token, layer.norms[0]) for token in x]
        heads, size = layer.attention.num_heads, len(x[0]) // layer.attention.num_heads
        projections = (layer.attention.query_proj, layer.attention.key_proj, layer.attention.value_proj)
        query, key, value = ([linear(token, part).reshape(heads, size) for token in y] for part in projections)
        for i in range(len(x)):
            seen = np.zeros((heads, size))
            for h in range(heads):
                weights = np.exp([query[i][h] @ key[j][h] / np.sqrt(size) for j in range(i + 1)])
                seen[h] = sum(w * value[j][h] for j, w in enumerate(weights / weights.sum()))
            x[i] = x[i] + linear(seen.ravel(), layer.attention.output_proj)
        for i, token in enumerate(x):
            wide = linear(normalised(token, layer.norms[1]), layer.wide)
            gelu = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
            x[i] = token + linear(gelu, layer.narrow)
    return np.array([linear(normalised(token, network.norm), network.head) for token in x])


def test_a_transformer_is_what_numpy_computes_and_does_not_look_ahead():
    network = made(networks.CharTransformer, 7, 6, KEY, width=8, depth=2, heads=2)
    text = RNG.integers(7, size=(2, 6))
    scores = np.asarray(forward(network, text)[0])
    assert scores.shape == (2, 6, 7)
    for row, found in zip(text, scores, strict=True):
        assert_allclose(found, read_by_hand(network, row), atol=1e-11)
    changed = text.copy()
    changed[:, 3] = (text[:, 3] + 1) % 7
    after = np.asarray(forward(network, changed)[0])
    assert_array_equal(after[:, :3], scores[:, :3])
    assert (np.abs(after[:, 3:] - scores[:, 3:]).max(axis=(0, 2)) > 1e-3).all()


def test_the_next_character_is_a_class_and_what_is_no_character_is_not_read_as_one():
    network = made(networks.CharTransformer, 5, 4, KEY, width=4, heads=2)
    text = RNG.integers(5, size=(6, 5))
    task = networks.classifier(network, networks.Split(text[:, :-1], text[:, 1:]))
    scores = np.asarray(forward(network, text[:, :-1])[0])
    own = np.take_along_axis(scores, text[:, 1:, None], axis=-1)[..., 0]
    assert_allclose(task.landscape.loss(task.start), (np.log(np.exp(scores).sum(-1)) - own).mean(), rtol=1e-12)
    text[0, 2], text[1, 1] = 5, -1
    scores = np.asarray(forward(network, text[:, :-1])[0])
    assert np.isnan(scores[0, 2:]).all()
    assert np.isnan(scores[1, 1:]).all()
    assert np.isfinite(scores[2:]).all()


def test_patches_are_tokens_in_no_order_but_that_of_their_positions():
    network = made(networks.ViT, (4, 6, 2), 3, KEY, patch=2, width=4, depth=1, heads=2)
    x = RNG.normal(size=(2, 4, 6, 2))
    patches = np.stack([x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i in range(2) for j in range(3)])
    order = RNG.permutation(6)
    rows = patches[order].reshape(2, 3, *patches.shape[1:])
    moved = rows.transpose(2, 0, 3, 1, 4, 5).reshape(x.shape)  # the image put together in that order
    other = eqx.tree_at(lambda network: network.positions, network, network.positions[order])
    here = forward(network, x)[0]
    assert_allclose(forward(other, moved)[0], here, rtol=1e-10)
    assert np.abs(forward(network, moved)[0] - here).max() > 1e-3
    assert_allclose(forward(network, x.reshape(2, -1))[0], here, rtol=1e-12)
    sequence = eqx.filter_eval_shape(networks.ViT, (8, 3), 3, KEY, patch=4)
    assert sequence.positions.shape == (2, 32)
    assert sequence.embedding.in_features == 12


# --- sizes and masks ------------------------------------------------------------------------------------------


def test_small_products_in_single_precision_have_the_derivatives_of_plain_ones():
    network = made(networks.MLP, (64, 32, 10), KEY, jnp.tanh)
    wide, rest = eqx.partition(network, eqx.is_inexact_array)
    single = jax.tree.map(lambda leaf: (leaf / 4).astype(jnp.float32), wide)
    x, along = RNG.normal(size=(32, 64)), jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape)), wide)

    def loss(tree, x):
        return (eqx.combine(tree, rest).forward(x)[0] ** 2).mean()

    def derivatives(tree, x, along):
        gradient, change = jax.jvp(lambda tree: jax.grad(loss)(tree, x), (tree,), (along,))
        return gradient, change, jax.jvp(lambda x: loss(tree, x), (x,), (x,))[1]

    as_kind = lambda tree, kind: jax.tree.map(lambda leaf: leaf.astype(kind), tree)  # noqa: E731
    small = as_kind((single, x, along), jnp.float32)
    if jax.default_backend() == "cpu":  # what is compared with the plain form is not the plain form
        assert "optimization_barrier" in str(jax.make_jaxpr(jax.grad(loss))(*small[:2]))
    found, plain = jax.jit(derivatives)(*small), jax.jit(derivatives)(*as_kind(small, jnp.float64))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        scale = np.abs(other).max()  # sums of up to 2048 products in single precision
        assert_allclose(one, other, rtol=0, atol=1e-5 * scale)


def test_models_have_the_sizes_that_they_should():
    shapes = eqx.filter_eval_shape(networks.resnet18, (32, 32, 3), 10, KEY)
    # 3·3·3·64 + 64·9·64·4 + (64 + 128)·9·128 + … + projections + 2 per normalized channel + 512·10 + 10
    assert numbers(shapes) == 11_173_962
    assert numbers(eqx.filter_eval_shape(networks.resnet8, (28, 28, 1), 10, KEY)) == 77_754
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), float)
    scores, used = eqx.filter_eval_shape(lambda network, x: network.forward(x), shapes, image)
    assert scores.shape == (2, 10)
    assert [len(mean.shape) for mean, _ in used] == [1] * 20  # 17 convolutions and 3 projections
    assert [mean.shape[0] for mean, _ in used][-1] == 512


NORMED = {
    "MLP batch": (lambda: networks.MLP((4, 8, 8, 2), KEY, norm="batch"), 2 * 16),
    "CNN2d group": (lambda: networks.CNN2d((6, 6, 1), 2, KEY, (4, 6), "group"), 2 * 10),
    "ResNet layer": (lambda: networks.resnet8((8, 8, 1), 2, KEY, width=2, norm="layer"), 2 * (3 * 2 + 3 * 4 + 3 * 8)),
    "ViT": (lambda: networks.ViT((4, 4, 1), 2, KEY, width=8, depth=2, heads=2), 2 * 5 * 8),
    "CharTransformer": (lambda: networks.CharTransformer(5, 4, KEY, width=8), 2 * 3 * 8),
    "equinox": (lambda: eqx.nn.Sequential([eqx.nn.Linear(3, 2, key=KEY), eqx.nn.RMSNorm(2)]), 2 * 2),
}


@pytest.mark.parametrize("name", NORMED)
def test_normalization_layers_are_found_by_type(name):
    build, size = NORMED[name]
    network = made(build)
    parameters = eqx.filter(network, eqx.is_inexact_array)
    mask = networks.norm_mask(network)
    assert 0 < masks.count(parameters, mask) == size < masks.count(parameters)
    assert jax.tree.structure(mask) == jax.tree.structure(parameters)


BAD = [
    (
        lambda: networks.norm_mask(made(networks.MLP, (3, 4, 2), KEY)),
        'MLP has no parameter in .*BatchNorm.*: build it with norm="batch"',
    ),
    (lambda: networks.norm_mask(eqx.nn.LayerNorm(3)), "LayerNorm has parameters in .* alone"),
    (
        lambda: networks.CNN2d((28, 28), 10, KEY),
        r"\(height, width, channels\), got \(28, 28\): a single channel is a 1",
    ),
    (lambda: networks.CNN1d((9, 1), 2, KEY, side=4), "side must be odd.*got 4"),
    (lambda: networks.CNN1d((9, 1), 2, KEY, channels=()), "channels must hold"),
    (lambda: networks.CNN2d((9, 9, 1), 2, KEY, norm="none"), "'batch', 'layer', 'group' or None, got 'none'"),
    (lambda: networks.CNN2d((9, 9, 1), 2, KEY, engine="fft"), "engine must be 'product' or 'lax', got 'fft'"),
    (lambda: networks.resnet8((9, 9, 1), 2, KEY, width=0), "width must be a whole number >= 1, got 0"),
    (lambda: networks.ResNet((9, 9, 1), 2, KEY, blocks=()), "blocks must hold"),
    (lambda: networks.ViT((8, 8, 1), 2, KEY, patch=3), r"patch must divide the extents \(8, 8\), got 3"),
    (lambda: networks.ViT((8, 8, 1), 10**20, KEY), "classes must be at most 2147483647, got 1000"),
    (lambda: networks.NodeGCN(networks.Graph(2, [[0, 1]], [1.0]), 2, KEY, hidden=10**10), "hidden must be at most"),
    (lambda: networks.ViT((8, 8, 1), 2, KEY, heads=3), "heads must divide width, got heads 3 and width 32"),
    (lambda: made(networks.CharTransformer, 5, 4, KEY).forward(jnp.zeros((2, 3))), "characters must be whole numbers"),
    (lambda: made(networks.CharTransformer, 5, 4, KEY).forward(jnp.zeros((2, 5), int)), "length <= 4"),
    (lambda: made(networks.CNN2d, (4, 4, 1), 2, KEY).forward(jnp.zeros((2, 5, 5))), r"shape \(4, 4, 1\).*got \(5, 5\)"),
]


def test_whole_numbers_of_eight_bits_do_not_wrap_around():
    small = np.uint8(5), np.int8(4), KEY, np.uint8(200), np.uint8(1), np.uint8(2)
    assert made(lambda: networks.CharTransformer(*small)).embedding.shape == (5, 200)
    assert made(lambda: networks.Conv(np.uint8(100), np.uint8(100), KEY)).weight.shape == (3, 3, 100, 100)
    noise = fd.noise.FiniteSum(np.uint8(200), ascent_size=np.uint8(100))
    assert noise == fd.noise.FiniteSum(200, ascent_size=100)


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_models_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        eqx.filter_eval_shape(build)


# --- cost and ensembles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [lambda: networks.CNN2d((8, 8, 1), 3, KEY, (8, 16), "batch"), lambda: networks.ViT((8, 8, 1), 3, KEY, depth=1)],
    ids=["CNN2d", "ViT"],
)
def test_sam_costs_two_gradients_and_sam_on_less(network):
    """Without the weights' gradients the first of two costs 2 of 3 passes: 5/3 of SGD in all, and a little more."""
    network = made(network)
    task = entropy_task(network, RNG.normal(size=(32, 64)))

    def flops(method):
        process = fd.Iteration(task.landscape, method, fd.noise.FiniteSum(16))
        state = jax.eval_shape(process.init, task.start)
        return jax.jit(lambda state, key: process.step(state, key)).lower(state, KEY).cost_analysis()["flops"]

    once = flops(fd.GD(0.1))
    assert 1.97 < flops(fd.SAM(0.1, 0.05)) / once < 2.05
    assert 1.6 < flops(fd.SAM(0.1, 0.05, mask=networks.norm_mask(network))) / once < 1.75


def ensemble():
    """Six small networks with BatchNorm, and how to take eight SAM steps on minibatches with them."""
    rng = np.random.default_rng(5)
    make = lambda key: networks.CNN1d((6, 1), 3, key, channels=(18,), norm="batch", side=3)  # noqa: E731
    task = entropy_task(made(make, KEY), rng.normal(size=(24, 6)))
    process = fd.Iteration(task.landscape, fd.SAM(0.1, 0.2), fd.noise.FiniteSum(8))
    starts = rng.normal(size=(6, task.dim)) / 2
    return starts, lambda **cut: fd.simulate(process, starts, 8, key=jax.random.key(1), every=8, **cut).final
