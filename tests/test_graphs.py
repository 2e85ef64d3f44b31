"""Graph convolutional networks: against dense formulas, under relabelling and filling up, and on the karate club."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.networks.data import Graph, Split
from flatdyn.networks.models import graphs

nets = fd.networks
outputs = eqx.filter_jit(lambda network, x: network.forward(x)[0])


def random_graph(number=9, seed=0):
    """A graph with weights, some nodes without an edge, and its adjacency matrix."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((number, number)) < 0.4, 1)
    upper[:, -1] = False
    edges = np.argwhere(upper)
    graph = Graph(number, edges, rng.uniform(0.5, 2, len(edges)))
    dense = np.zeros((number, number))
    dense[tuple(edges.T)] = graph.weights
    return graph, dense + dense.T


def by_hand(adjacency):
    """The normalized adjacency matrix, equation 2 of Kipf and Welling."""
    linked = adjacency + np.eye(len(adjacency))
    scale = np.diag(linked.sum(axis=1) ** -0.5)
    return scale @ linked @ scale


def relu(x):
    return np.maximum(x, 0)


def shaken(network, seed=0):
    """The network with every weight and bias moved, so that no bias is zero."""
    weights, rest = eqx.partition(network, eqx.is_inexact_array)
    rng = np.random.default_rng(seed)
    return eqx.combine(jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), weights), rest)


def test_propagation_is_the_normalized_adjacency_matrix():
    graph, adjacency = random_graph()
    assert_allclose(graphs.Propagation(graph) @ jnp.eye(9), by_hand(adjacency), atol=1e-15)
    turned = graph._replace(edges=graph.edges[:, ::-1])
    assert_allclose(graphs.Propagation(turned) @ jnp.eye(9), by_hand(adjacency), atol=1e-15)
    # its largest eigenvalue is 1, with the square roots of the degrees
    strength = np.sqrt(adjacency.sum(axis=1) + 1)
    assert_allclose(graphs.Propagation(graph) @ strength[:, None], strength[:, None], rtol=1e-14)


@pytest.mark.parametrize("featured", [False, True])
def test_node_scores_are_those_of_the_dense_formula(featured):
    graph, adjacency = random_graph()
    features = np.random.default_rng(1).normal(size=(9, 4)) if featured else None
    network = shaken(nets.NodeGCN(graph, 3, jax.random.key(0), hidden=5, features=features))
    (one, two), (a, b) = (list(map(np.asarray, part)) for part in (network.weights, network.biases))
    spread = by_hand(adjacency)
    scores = spread @ relu(spread @ (features if featured else np.eye(9)) @ one + a) @ two + b
    x = np.array([3, 0, 8])
    assert_allclose(outputs(network, jnp.asarray(x)), scores[x], rtol=1e-12)
    task = nets.classifier(network, Split(x, np.array([0, 2, 1])))
    assert_allclose(task.scores(task.start, np.arange(9)), scores, rtol=1e-12)
    assert task.dim == sum(map(np.size, (one, two, a, b)))  # the graph is not learnt
    batch = task.landscape.batch(jnp.array([2]))
    assert_allclose(batch.loss(task.start), np.log(np.exp(scores[8]).sum()) - scores[8, 1], rtol=1e-12)


def test_relabelled_nodes_have_relabelled_scores():
    graph, _ = random_graph()
    rng = np.random.default_rng(2)
    new = rng.permutation(9)  # node i becomes node new[i]
    features = rng.normal(size=(9, 4))
    other = graph._replace(edges=new[graph.edges])
    moved = np.empty_like(features)
    moved[new] = features
    one = nets.NodeGCN(graph, 3, jax.random.key(0), features=features)
    two = nets.NodeGCN(other, 3, jax.random.key(0), features=moved)
    assert_allclose(outputs(two, jnp.asarray(new)), outputs(one, jnp.arange(9)), atol=1e-14)


def molecules(sizes=(4, 7, 2), places=7, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(places) < np.array(sizes)[:, None]
    adjacency = np.zeros((len(sizes), places, places))
    for i, size in enumerate(sizes):
        adjacency[i, :size, :size] = random_graph(size, seed + i)[1] > 0
    features = rng.normal(size=(len(sizes), places, 3)) * mask[..., None]
    return {"adjacency": adjacency, "features": features, "mask": mask}


def test_graph_scores_are_those_of_each_graph_alone():
    x = molecules()
    network = shaken(nets.GraphGCN(3, 2, jax.random.key(0), hidden=4))
    (one, two, three), (a, b, c) = (list(map(np.asarray, part)) for part in (network.weights, network.biases))
    expected = []
    for adjacency, features, mask in zip(*x.values(), strict=True):
        spread = by_hand(adjacency[mask][:, mask])
        hidden = relu(spread @ relu(spread @ features[mask] @ one + a) @ two + b)
        expected.append(hidden.mean(axis=0) @ three + c)
    assert_allclose(outputs(network, x), expected, rtol=1e-12)


def test_graph_scores_change_neither_with_the_order_of_nodes_nor_with_filling_up():
    x = molecules()
    network = shaken(nets.GraphGCN(3, 2, jax.random.key(0)))
    scores = outputs(network, x)
    order = np.random.default_rng(3).permutation(7)
    mixed = {
        "adjacency": x["adjacency"][:, order][:, :, order],
        "features": x["features"][:, order],
        "mask": x["mask"][:, order],
    }
    assert_allclose(outputs(network, mixed), scores, rtol=1e-12)
    more = {
        "adjacency": np.pad(x["adjacency"], ((0, 0), (0, 5), (0, 5))),
        "features": np.pad(x["features"], ((0, 0), (0, 5), (0, 0)), constant_values=9.0),  # no matter what stands there
        "mask": np.pad(x["mask"], ((0, 0), (0, 5))),
    }
    assert_allclose(outputs(network, more), scores, rtol=1e-12)


def test_the_two_forms_of_the_adjacency_agree():
    graph, adjacency = random_graph()
    dense = graphs.normalised(jnp.asarray(adjacency), jnp.ones(9, bool))
    assert_allclose(graphs.Propagation(graph) @ jnp.eye(9), dense, atol=1e-15)


def test_graphs_are_data_of_a_classifier():
    data = Split(molecules((4, 7, 2, 5)), np.array([0, 1, 0, 1]))
    task = nets.classifier(nets.GraphGCN(3, 2, jax.random.key(0)), data)
    losses = [float(task.landscape.batch(jnp.array([i])).loss(task.start)) for i in range(4)]
    assert_allclose(task.landscape.loss(task.start), np.mean(losses), rtol=1e-12)
    assert task.dim == 3 * 16 + 16 * 16 + 16 * 2 + 16 + 16 + 2


def test_networks_on_the_same_graph_have_the_same_tree():
    graph, _ = random_graph()
    make = lambda key: nets.NodeGCN(graph, 2, key)  # noqa: E731
    one, two = make(jax.random.key(0)), make(jax.random.key(1))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    other = nets.NodeGCN(graph._replace(weights=graph.weights * 2), 2, jax.random.key(0))
    assert jax.tree.structure(one) != jax.tree.structure(other)


def test_a_node_that_does_not_exist_has_no_scores():
    graph, _ = random_graph()
    scores = outputs(nets.NodeGCN(graph, 2, jax.random.key(0)), jnp.array([8, 9]))
    assert np.isfinite(scores[0]).all()
    assert np.isnan(scores[1]).all()


def test_two_labels_tell_the_karate_clubs_apart():
    graph, train, test = nets.karate()
    make = lambda key: nets.NodeGCN(graph, 2, key)  # noqa: E731
    task = nets.classifier(make(jax.random.key(0)), train)
    starts = task.starts(make, jax.random.key(1), 20)
    run = fd.simulate(fd.Iteration(task.landscape, fd.GD(0.5)), starts, 200, key=jax.random.key(0), every=200)
    accuracy = task.accuracy(run.final, test)
    # by chance 16 ± 2.8 of 32; 27 are 3.9 standard deviations above that, in each of 20 runs
    assert accuracy.min() >= 27 / 32
    assert (task.accuracy(run.final, train) == 1).all()


def edged(edges, weights=None):
    return Graph(4, np.array(edges), np.ones(len(edges)) if weights is None else np.array(weights))


BAD = [
    (lambda: graphs.Propagation(edged([[0, 4]])), r"different nodes from 0 to 3, got \[0, 4\]"),
    (lambda: graphs.Propagation(edged([[2, 2]])), r"different nodes.*got \[2, 2\]"),
    (lambda: graphs.Propagation(edged([[0, 1], [1, 0]])), r"once each, in one direction, got \(0, 1\) twice"),
    (lambda: graphs.Propagation(edged([[0, 1]], [-1.0])), "weights must be .*>= 0, got -1"),
    (lambda: graphs.Propagation(edged([[0, 1]], [1.0, 1.0])), r"one for each of the 1 edges, got shape \(2,\)"),
    (lambda: graphs.Propagation(edged([[0.0, 1.0]])), "pairs of whole numbers.*float64"),
    (
        lambda: nets.NodeGCN(edged([[0, 1]]), 2, jax.random.key(0), features=np.ones((3, 2))),
        r"features must have shape \(4, ...\), got \(3, 2\)",
    ),
    (lambda: nets.GraphGCN(3, 0, jax.random.key(0)), "classes must be .*>= 1, got 0"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_graphs_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
