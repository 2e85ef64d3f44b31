"""Graph convolutional networks of two layers: for the nodes of one graph, and for many small graphs."""

from __future__ import annotations

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, generator
from flatdyn.core.records import digest
from flatdyn.networks.data import Graph
from flatdyn.networks.models.base import Network, check_size


class Fixed:
    """Arrays that are no part of a network's tree, so that none of them is learnt; equal if their content is.

    Args:
        arrays: NumPy arrays
    """

    def __init__(self, *arrays: np.ndarray):
        self.arrays = arrays
        self._digest = digest(*arrays)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)


class Propagation(Fixed):
    """The normalized adjacency matrix of a graph, applied edge by edge.

        Â = D^(−½) (A + I) D^(−½),   D the row sums of A + I

    Args:
        graph: undirected, weights ≥ 0
    Raises:
        ValueError: if an edge joins a node with itself or one that does not exist, stands twice, or has a negative
            weight
    References:
        Kipf and Welling, arXiv 1609.02907, equation 2.
    """

    def __init__(self, graph: Graph):
        edges, weights = np.asarray(graph.edges), np.asarray(graph.weights, float)
        self.number = checks.count("number of nodes", graph.number, at_least=1)
        _check_edges(edges, weights, self.number)
        itself = np.arange(self.number)
        senders, receivers = np.concatenate([edges.T, edges.T[::-1], [itself, itself]], axis=1)
        strength = np.concatenate([weights, weights, np.ones(self.number)])
        degree = np.bincount(receivers, strength, self.number)
        entries = strength / np.sqrt(degree[senders] * degree[receivers])
        order = np.argsort(receivers, kind="stable")  # so that the sums run through memory once
        super().__init__(senders[order], receivers[order], entries[order])

    def __matmul__(self, values: jax.Array) -> jax.Array:
        """Â h for values h of the nodes, shape (nodes, width)."""
        senders, receivers, entries = self.arrays
        messages = jnp.asarray(entries, values.dtype)[:, None] * values[senders]
        return jax.ops.segment_sum(messages, receivers, self.number, indices_are_sorted=True)


class NodeGCN(Network):
    """A graph convolutional network of two layers for the nodes of one graph.

        Z = Â a(Â X W₁ + b₁) W₂ + b₂,   row i of Z the scores of node i,   a(h) = max(h, 0)

    Its inputs are indices of nodes, so that a :class:`Split` of nodes is its data and a minibatch some of the nodes;
    every pass goes through the whole graph. The scores of a node that does not exist are NaN.

    Args:
        graph: the graph, :class:`Graph`
        classes: how many
        key: for the weights, uniform within ±√(6/(inputs + outputs))
        hidden: width of the hidden layer
        features: X, shape (nodes, features); None for the identity, where W₁ is one row for each node
    Raises:
        ValueError: if the graph is not as :class:`Propagation` wants it, or features are not one row for each node
    References:
        Kipf and Welling, arXiv 1609.02907, equation 9, with biases as in their code's option.
    """

    weights: list[jax.Array]
    biases: list[jax.Array]
    graph: Propagation = eqx.field(static=True)
    features: Fixed | None = eqx.field(static=True)

    def __init__(self, graph: Graph, classes: int, key: jax.Array, hidden: int = 16, features: Any = None):
        classes, hidden = checks.counts(classes=classes, hidden=hidden)
        if features is not None:
            features = checks.numbers("features", features, ndim=2)
        checks.kind("graph", graph, Graph)
        checks.key(key)
        self.graph = Propagation(graph)
        self.features = None if features is None else Fixed(np.asarray(features, float))
        if features is not None and (np.ndim(features) != 2 or len(features) != graph.number):
            raise ValueError(f"features must have shape ({graph.number}, ...), got {np.shape(features)}")
        inputs = graph.number if features is None else np.shape(features)[1]
        self.weights, self.biases = _layers((inputs, hidden, classes), key)

    def outputs(self, x, batch):
        first = self.weights[0]
        mixed = first if self.features is None else jnp.asarray(self.features.arrays[0], first.dtype) @ first
        hidden = jax.nn.relu(self.graph @ mixed + self.biases[0])
        scores = self.graph @ (hidden @ self.weights[1]) + self.biases[1]
        return scores.at[x].get(mode="fill", fill_value=jnp.nan)


class GraphGCN(Network):
    """A graph convolutional network of two layers, a mean over the nodes, and a linear layer, for small graphs.

        H = a(Â a(Â X W₁ + b₁) W₂ + b₂),   scores = (mean of the rows of H) W₃ + b₃,   a(h) = max(h, 0)

    Its inputs are a mapping of adjacency (n, nodes, nodes), features (n, nodes, features) and mask (n, nodes), True at
    nodes that exist; the others fill the arrays up and change nothing.

    Args:
        features: how many a node has
        classes: how many
        key: for the weights, uniform within ±√(6/(inputs + outputs))
        hidden: width of both hidden layers
    References:
        Kipf and Welling, arXiv 1609.02907, equation 2, for the layers.
    """

    weights: list[jax.Array]
    biases: list[jax.Array]

    def __init__(self, features: int, classes: int, key: jax.Array, hidden: int = 16):
        features, classes, hidden = checks.counts(features=features, classes=classes, hidden=hidden)
        checks.key(key)
        self.weights, self.biases = _layers((features, hidden, hidden, classes), key)

    def outputs(self, x, batch):
        mask = x["mask"][..., None].astype(x["features"].dtype)
        spread = normalised(x["adjacency"], x["mask"])
        values = x["features"]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values = jax.nn.relu(spread @ (values @ weight) + bias)
        pooled = (values * mask).sum(axis=1) / mask.sum(axis=1)
        return pooled @ self.weights[-1] + self.biases[-1]


def normalised(adjacency: jax.Array, mask: jax.Array) -> jax.Array:
    """Normalized adjacency matrices of graphs that are filled up with nodes that do not exist.

        Â = D^(−½) (A + M) D^(−½),   M = diag(mask),   D the row sums of A + M

    Args:
        adjacency: A, shape (..., nodes, nodes), zero at nodes that do not exist
        mask: True at nodes that exist, shape (..., nodes)
    Returns:
        Â, of the shape of A, zero at nodes that do not exist
    References:
        Kipf and Welling, arXiv 1609.02907, equation 2.
    """
    own = mask.astype(adjacency.dtype)
    linked = adjacency + own[..., None] * jnp.eye(adjacency.shape[-1], dtype=adjacency.dtype)
    scale = own / jnp.sqrt(jnp.where(mask, linked.sum(axis=-1), 1))
    return scale[..., :, None] * linked * scale[..., None, :]


def _layers(widths: tuple[int, ...], key: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
    widths = tuple(checks.count("widths", width, at_least=1) for width in widths)
    check_size(sum((a + 1) * b for a, b in itertools.pairwise(widths)), "take fewer `hidden` units")
    keys = generator.keys(key, len(widths) - 1)
    pairs = list(zip(widths[:-1], widths[1:], keys, strict=True))
    bounds = [(6 / (a + b)) ** 0.5 for a, b, _ in pairs]
    weights = [generator.uniform(one, (a, b), bound) for (a, b, one), bound in zip(pairs, bounds, strict=True)]
    return weights, [jnp.zeros(width) for width in widths[1:]]


def _check_edges(edges: np.ndarray, weights: np.ndarray, number: int) -> None:
    if edges.ndim != 2 or edges.shape[1] != 2 or not np.issubdtype(edges.dtype, np.integer):
        raise ValueError(f"edges must be pairs of whole numbers, shape (edges, 2), got {edges.dtype} {edges.shape}")
    if weights.shape != edges.shape[:1]:
        raise ValueError(f"weights must be one for each of the {len(edges)} edges, got shape {weights.shape}")
    checks.number("weights", weights, at_least=0)
    wrong = (edges < 0).any(axis=1) | (edges >= number).any(axis=1) | (edges[:, 0] == edges[:, 1])
    if wrong.any():
        raise ValueError(f"edges must join different nodes from 0 to {number - 1}, got {edges[wrong][0].tolist()}")
    low, high = np.sort(edges, axis=1).T
    pairs, counts = np.unique(low * number + high, return_counts=True)
    if (counts > 1).any():
        twice = divmod(int(pairs[counts > 1][0]), number)
        raise ValueError(f"edges must stand once each, in one direction, got {twice} twice")
