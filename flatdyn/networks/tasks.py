"""A network on data as a landscape: the loss over all examples, which minibatches sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn import checks
from flatdyn.landscapes import Landscape
from flatdyn.networks.data import Split
from flatdyn.networks.models import Network


class Classifier(NamedTuple):
    """A network that tells classes apart, as a landscape.

    Attributes:
        landscape: mean cross-entropy over the training data, a landscape over the network's parameters; FiniteSum
            samples it in minibatches
        forward: (parameters as a tree, inputs (n, ...), statistics or None) -> scores (n, classes), statistics
        start: coordinates of the network as it was given, shape (dim,)
    """

    landscape: Landscape
    forward: Callable
    start: jax.Array

    def coordinates(self, network: eqx.Module) -> jax.Array:
        """θ of a network like the one given, shape (dim,)."""
        return self.landscape.flatten(eqx.filter(network, eqx.is_inexact_array))

    def scores(self, theta: Any, x: Any) -> jax.Array:
        """Scores (n, classes) for inputs (n, ...), at θ, shape (dim,).

        BatchNorm takes its statistics from the training data at this θ, be it an iterate or an average of iterates.
        """
        return _scores(self.forward, self.landscape, jnp.asarray(theta), jnp.asarray(x))

    def accuracy(self, theta: Any, data: Split) -> np.ndarray:
        """Share of the examples whose largest score is that of their label; theta of shape (..., dim)."""
        theta, x, y = jnp.asarray(theta), jnp.asarray(data.x), jnp.asarray(data.y)
        hits = _hits(self.forward, self.landscape, theta.reshape(-1, theta.shape[-1]), x, y)
        return np.asarray(hits).reshape(theta.shape[:-1]) / len(y)

    def border(self, theta: Any, reach: float = 1.0, resolution: int = 200) -> np.ndarray:
        """Length of the border between the classes in the plane, the shorter the smoother the classifier.

            (pairs of neighbours with different classes) / resolution,   on a grid over |x₁|, |x₂| ≤ reach

        in sides of that square, as a taxi drives: a straight border across it has length 1 if it runs along an axis,
        and 2 on the diagonal.

        Args:
            theta: parameters, shape (..., dim)
            reach: half the side of the square
            resolution: points on a side
        Returns:
            array (...)
        """
        theta, side = jnp.asarray(theta), np.linspace(-reach, reach, checks.count("resolution", resolution, 2))
        grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        each = [np.asarray(self.scores(one, grid)).argmax(axis=-1) for one in theta.reshape(-1, theta.shape[-1])]
        labels = np.reshape(each, (-1, resolution, resolution))
        crossed = sum((np.diff(labels, axis=axis) != 0).sum(axis=(1, 2)) for axis in (1, 2))
        return crossed.reshape(theta.shape[:-1]) / resolution


def classifier(network: eqx.Module, data: Split, weight_decay: float = 0.0) -> Classifier:
    """The landscape of a network on labelled data.

        L(θ) = (1/n) Σᵢ −log softmax(f(xᵢ; θ))_{yᵢ} + ½ λ ‖θ‖²

    Args:
        network: from a batch of inputs to the scores of the classes, or any Equinox module that maps one input
        data: training data
        weight_decay: λ ≥ 0
    Raises:
        ValueError: if weight_decay is below zero, or the labels are not whole numbers from 0, as many as inputs
    """
    checks.number("weight_decay", weight_decay, at_least=0)
    x, y = jnp.asarray(data.x, jnp.zeros(0).dtype), jnp.asarray(data.y)
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.shape != x.shape[:1] or y.min() < 0:
        raise ValueError(f"labels must be whole numbers from 0, one per input, got {y.dtype} of shape {y.shape}")
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)

    def forward(tree, x, statistics=None):
        whole = eqx.combine(tree, rest)
        return whole.forward(x, statistics) if isinstance(whole, Network) else (jax.vmap(whole)(x), None)

    def loss(tree, batch):
        x, y = batch
        chosen = jnp.take_along_axis(jax.nn.log_softmax(forward(tree, x)[0]), y[:, None], axis=1)
        return -chosen.mean() + weight_decay / 2 * sum((leaf**2).sum() for leaf in jax.tree.leaves(tree))

    landscape = Landscape.from_examples(loss, (x, y), like=parameters, batched=True, name=type(network).__name__)
    return Classifier(landscape, forward, landscape.flatten(parameters))


@eqx.filter_jit
def _scores(forward: Callable, landscape: Any, theta: jax.Array, x: jax.Array) -> jax.Array:
    tree, (seen, _) = landscape.vector(theta).tree, landscape.examples
    statistics = forward(tree, seen.astype(theta.dtype))[1]
    return forward(tree, x.astype(theta.dtype), statistics)[0]


@eqx.filter_jit
def _hits(forward: Callable, landscape: Any, theta: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return jax.lax.map(lambda one: (_scores(forward, landscape, one, x).argmax(axis=-1) == y).sum(), theta)
