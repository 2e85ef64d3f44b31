"""Networks, in Equinox: each takes a whole batch, as those with BatchNorm must."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from flatdyn.core import checks, generator, memory, precision
from flatdyn.networks.models.normalization import Pass, normalization

_SMALL_PRODUCT = 2**17  # multiplications: beyond, the compiler's other kernel is as fast or faster


class Network(eqx.Module):
    """What flatdyn asks of a network of its own; any other Equinox module maps one input to one output.

    BatchNorm needs statistics of the activations. In training they are those of the minibatch. To evaluate a network
    they are computed anew from the training data, whatever the weights are: an average of weights (SWA) has its own.

    Subclasses implement `outputs`, and send what they normalize through the
    :class:`flatdyn.networks.models.normalization.Pass`.
    """

    def outputs(self, x: jax.Array, batch: Pass) -> jax.Array:
        """Outputs, shape (n, ...), for inputs (n, ...); normalization layers are `batch.through(layer, x)`."""
        raise NotImplementedError

    def forward(self, x: jax.Array, statistics: Any = None) -> tuple[jax.Array, Any]:
        """Outputs, shape (n, ...), for inputs (n, ...), and the statistics used: the given ones, or the batch's."""
        batch = Pass(statistics)
        return self.outputs(x, batch), batch.used


def check_size(parameters: int, remedy: str) -> None:
    """Refuse a network that does not fit into memory: weights, and as many random numbers to draw them from."""
    needed = memory.array_bytes(2, parameters, itemsize=precision.floating().itemsize)
    memory.check_memory(0, "the network's weights", remedy, device=needed)


def linear(inputs: int, outputs: int, key: jax.Array) -> eqx.nn.Linear:
    """x ↦ W x + b with weights uniform within ±1/√inputs: those of `eqx.nn.Linear`, with fewer compiled programs."""
    layer = eqx.filter_eval_shape(eqx.nn.Linear, inputs, outputs, key=key)
    keys, bound = generator.keys(key), 1 / math.sqrt(inputs)
    shapes = (outputs, inputs), (outputs,)
    drawn = [generator.uniform(one, shape, bound) for one, shape in zip(keys, shapes, strict=True)]
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, drawn)


def affine(linear: eqx.nn.Linear, x: jax.Array) -> jax.Array:
    """W x + b along the last axis of x, shape (..., inputs) -> (..., outputs)."""
    y = x @ linear.weight.T
    return y if linear.bias is None else y + linear.bias


def in_columns(x: jax.Array, *weights: jax.Array) -> bool:
    """Whether examples, shape (n, ...), are better kept in columns on the way through these weights.

    They are where the products are small, in single precision, on a CPU: there the compiler has a kernel for many small
    matrices at once, which wants its factors row by row.
    """
    small = x.ndim == 2 and all(len(x) * weight.size <= _SMALL_PRODUCT for weight in weights)
    return small and x.dtype == jnp.float32 and jax.local_devices()[0].platform == "cpu"


def _contracted(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    return jax.lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((), ())))


@jax.custom_jvp
def _product(weight: jax.Array, columns: jax.Array) -> jax.Array:
    """W A, shapes (outputs, inputs) and (inputs, n), whose gradient in A is written so that the kernel takes it.

    That gradient is Wᵀ Ḡ. Left alone, the compiler contracts both over their rows, which its kernel does not. So it is
    ((Ḡᵀ) W)ᵀ, with what is in brackets, and the result, written down.
    """
    return _contracted(weight, columns, 1, 0)


def _product_jvp(primals: tuple, tangents: tuple) -> tuple:
    (weight, columns), (dweight, dcolumns) = primals, tangents
    parts = []
    if not isinstance(dweight, SymbolicZero):
        parts.append(_contracted(dweight, columns, 1, 0))
    if not isinstance(dcolumns, SymbolicZero):
        parts.append(_turned(_contracted(_turned(dcolumns), weight, 1, 1)))
    return _product(weight, columns), sum(parts[1:], start=parts[0])


_product.defjvp(_product_jvp, symbolic_zeros=True)


def _turned(matrix: jax.Array) -> jax.Array:
    """The transpose, written down: not folded into a product before or after it."""
    held = jax.lax.optimization_barrier
    return held(jnp.swapaxes(held(matrix), 0, 1))


def inputs_of(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Inputs (n, ...) as (n, *shape): flat ones, or images without their one channel, are given their shape.

    Raises:
        ValueError: if the sizes differ
    """
    if math.prod(x.shape[1:]) != math.prod(shape):
        raise ValueError(f"inputs must have the shape {shape} that the network was built for, got {x.shape[1:]}")
    return x.reshape(x.shape[0], *shape)


def shape_of(shape: Sequence[int], *axes: str) -> tuple[int, ...]:
    """The shape of one input, checked; `axes` are their names, any number of them if none are given."""
    shape = checks.sequence("shape", shape, "whole numbers")
    wanted = f"({', '.join(axes)})" if axes else "the extents and, last, the channels"
    if len(shape) != len(axes) if axes else len(shape) < 2:
        raise ValueError(f"shape must be {wanted}, got {tuple(shape)}: a single channel is a 1 at the end")
    return tuple(checks.count("shape", extent, at_least=1) for extent in shape)


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
        checks.key(key)
        checks.function("activation", activation, "a function such as jax.nn.relu")
        widths = checks.sequence("widths", widths, "whole numbers")
        if len(widths) < 2:
            raise ValueError(f"widths must hold at least input and output, got {widths}")
        widths = [checks.count("widths", width, at_least=1) for width in widths]
        check_size(sum((a + 1) * b for a, b in itertools.pairwise(widths)), "take smaller `widths`")
        keys = generator.keys(key, len(widths) - 1)
        pairs = zip(widths[:-1], widths[1:], keys, strict=True)
        self.layers = [linear(a, b, one) for a, b, one in pairs]
        self.norms = [normalization(norm, width) for width in widths[1:-1]]
        self.activation = activation

    def outputs(self, x, batch):
        plain = all(norm is None for norm in self.norms)
        if plain and in_columns(x, *(layer.weight for layer in self.layers)):
            return self._in_columns(x)
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            x = self.activation(batch.through(norm, affine(layer, x)))
        return affine(self.layers[-1], x)

    def _in_columns(self, x: jax.Array) -> jax.Array:
        activation, y = jax.vmap(self.activation, 1, 1), None
        for layer in self.layers:
            y = _contracted(layer.weight, x, 1, 1) if y is None else _product(layer.weight, activation(y))
            y = y if layer.bias is None else y + layer.bias[:, None]
        return y.T
