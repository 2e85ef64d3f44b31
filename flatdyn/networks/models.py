"""Networks, in Equinox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax

from flatdyn import checks


class MLP(eqx.Module):
    """Fully connected layers with an activation between them.

        x ↦ W_k a(… a(W₁ x + b₁) …) + b_k

    Args:
        widths: of the input, the hidden layers and the output
        key: for the weights, uniform within ±1/√(fan-in)
        activation: a
    Raises:
        ValueError: if there are fewer than two widths, or one is below 1
    """

    layers: list[eqx.nn.Linear]
    activation: Callable = eqx.field(static=True)

    def __init__(self, widths: Sequence[int], key: jax.Array, activation: Callable = jax.nn.relu):
        if len(widths) < 2:
            raise ValueError(f"widths must hold at least input and output, got {widths}")
        widths = [checks.count("widths", width, at_least=1) for width in widths]
        keys = jax.random.split(key, len(widths) - 1)
        pairs = zip(widths[:-1], widths[1:], keys, strict=True)
        self.layers = [eqx.nn.Linear(a, b, key=one) for a, b, one in pairs]
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Output of shape (widths[-1],) for one input of shape (widths[0],)."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
