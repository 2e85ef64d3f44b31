"""A network on data as a landscape: the loss over all examples, which minibatches sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.landscapes import Landscape
from flatdyn.networks.data import Split


class Classifier(NamedTuple):
    """A network that tells classes apart, as a landscape.

    Attributes:
        landscape: mean cross-entropy over the training data, a landscape over the network's parameters; FiniteSum
            samples it in minibatches
        apply: (coordinates θ (dim,), inputs (n, ...)) -> scores (n, classes)
        start: coordinates of the network as it was given, shape (dim,)
    """

    landscape: Landscape
    apply: Callable
    start: jax.Array

    def accuracy(self, theta: Any, data: Split) -> np.ndarray:
        """Share of the examples whose largest score is that of their label; theta of shape (..., dim)."""
        theta = jnp.asarray(theta)
        hits = _hits(self.apply, theta.reshape(-1, theta.shape[-1]), jnp.asarray(data.x), jnp.asarray(data.y))
        return np.asarray(hits).reshape(theta.shape[:-1])


def classifier(network: eqx.Module, data: Split, weight_decay: float = 0.0) -> Classifier:
    """The landscape of a network on labelled data.

        L(θ) = (1/n) Σᵢ −log softmax(f(xᵢ; θ))_{yᵢ} + ½ λ ‖θ‖²

    Args:
        network: from one input to the scores of the classes
        data: training data
        weight_decay: λ ≥ 0
    """
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)

    def scores(tree, x):
        return jax.vmap(eqx.combine(tree, rest))(x)

    def loss(tree, batch):
        x, y = batch
        chosen = jnp.take_along_axis(jax.nn.log_softmax(scores(tree, x)), y[:, None], axis=1)
        return -chosen.mean() + weight_decay / 2 * sum((leaf**2).sum() for leaf in jax.tree.leaves(tree))

    examples = (jnp.asarray(data.x, jnp.zeros(0).dtype), jnp.asarray(data.y))
    landscape = Landscape.from_examples(loss, examples, like=parameters, batched=True, name=type(network).__name__)
    return Classifier(
        landscape, lambda theta, x: scores(landscape.vector(theta).tree, x), landscape.flatten(parameters)
    )


@eqx.filter_jit
def _hits(apply: Callable, theta: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return jax.lax.map(lambda one: (apply(one, x).argmax(axis=-1) == y).mean(), theta)
