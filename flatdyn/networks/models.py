"""Networks, in Equinox: each takes a whole batch, as those with BatchNorm must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn import checks


class Network(eqx.Module):
    """What flatdyn asks of a network of its own; any other Equinox module maps one input to one output.

    BatchNorm needs statistics of the activations. In training they are those of the minibatch. To judge a network they
    are found anew from the training data, whatever the weights are, so that an average of weights (SWA) has its own.
    """

    def forward(self, x: jax.Array, statistics: Any = None) -> tuple[jax.Array, Any]:
        """Outputs, shape (n, ...), for inputs (n, ...), and the statistics used: the given ones, or the batch's."""
        raise NotImplementedError


class BatchNorm(eqx.Module):
    """Normalization by the mean and variance of each channel over the batch.

        y = w (x − m)/√(v + ε) + b,   m, v over all axes but the last

    Args:
        width: number of channels
        eps: ε > 0
    References:
        Ioffe and Szegedy, arXiv 1502.03167, Algorithm 1.
    """

    weight: jax.Array
    bias: jax.Array
    eps: float = eqx.field(static=True)

    def __init__(self, width: int, eps: float = 1e-5):
        self.weight, self.bias = jnp.ones(width), jnp.zeros(width)
        self.eps = checks.number("eps", eps, above=0)

    def __call__(self, x: jax.Array, statistics: Any = None) -> tuple[jax.Array, tuple]:
        """y for x of shape (n, ..., width), and (m, v), the given ones or the batch's."""
        axes = tuple(range(x.ndim - 1))
        mean, variance = (x.mean(axes), x.var(axes)) if statistics is None else statistics
        return self.weight * (x - mean) / jnp.sqrt(variance + self.eps) + self.bias, (mean, variance)


class MLP(Network):
    """Fully connected layers, each but the last followed by a normalization, if any, and an activation.

        x ↦ W_k a(… a(norm(W₁ x + b₁)) …) + b_k

    Args:
        widths: of the input, the hidden layers and the output
        key: for the weights, uniform within ±1/√(fan-in)
        activation: a
        norm: "batch", "layer", or None
    Raises:
        ValueError: if there are fewer than two widths, one is below 1, or `norm` is another word
    """

    layers: list[eqx.nn.Linear]
    norms: list[Any]
    activation: Callable = eqx.field(static=True)

    def __init__(
        self, widths: Sequence[int], key: jax.Array, activation: Callable = jax.nn.relu, norm: str | None = None
    ):
        if len(widths) < 2:
            raise ValueError(f"widths must hold at least input and output, got {widths}")
        kinds = {"batch": BatchNorm, "layer": eqx.nn.LayerNorm, None: lambda width: None}
        if norm not in kinds:
            raise ValueError(f"norm must be 'batch', 'layer' or None, got {norm!r}")
        widths = [checks.count("widths", width, at_least=1) for width in widths]
        keys = jax.random.split(key, len(widths) - 1)
        pairs = zip(widths[:-1], widths[1:], keys, strict=True)
        self.layers = [eqx.nn.Linear(a, b, key=one) for a, b, one in pairs]
        self.norms = [kinds[norm](width) for width in widths[1:-1]]
        self.activation = activation

    def forward(self, x, statistics=None):
        used = []
        for i, (layer, norm) in enumerate(zip(self.layers[:-1], self.norms, strict=True)):
            x = jax.vmap(layer)(x)
            if isinstance(norm, BatchNorm):
                x, found = norm(x, None if statistics is None else statistics[i])
            else:
                x, found = x if norm is None else jax.vmap(norm)(x), None
            used.append(found)
            x = self.activation(x)
        return jax.vmap(self.layers[-1])(x), used
