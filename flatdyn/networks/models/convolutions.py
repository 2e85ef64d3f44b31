"""Convolutional networks, with the channels last: small ones in one and two dimensions, and residual ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks, generator, randomness
from flatdyn.networks.models.base import Network, affine, check_size, inputs_of, linear, shape_of
from flatdyn.networks.models.normalization import normalization

ENGINES = ("product", "lax")
NORMS = ("batch", "layer", "group", None)


class Conv(eqx.Module):
    """A convolution with the borders padded by zeros, in any number of dimensions.

        y_p = Σ_o w_o x_{s p + o} + b,   o over a cube of odd side

    Two ways to compute it, with the same result up to rounding. "product" puts shifted slices side by side and takes
    one matrix product, which for many networks at once (vmap over the weights) is a batched product. "lax" is
    `jax.lax.conv_general_dilated`: on a CPU in single precision about twice as fast for one network on images from
    14 × 14, no faster for many, and up to several times slower for many on images of 8 × 8. On a GPU, not measured
    here, it should be the faster one for one network; for many it becomes a grouped convolution.

    Args:
        inputs, outputs: number of channels
        key: for the weights, normal with variance 2/fan-in
        dimensions: number of axes along which it moves
        side: of the cube, odd
        stride: s
        bias: whether there is b
        engine: "product" or "lax"
    Raises:
        ValueError: if a number is out of range or `engine` is another word
    References:
        He, Zhang, Ren, Sun, arXiv 1502.01852 (the variance).
    """

    weight: jax.Array
    bias: jax.Array | None
    stride: int = eqx.field(static=True)
    engine: str = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        key: jax.Array,
        dimensions: int = 2,
        side: int = 3,
        stride: int = 1,
        bias: bool = True,
        engine: str = "product",
    ):
        checks.key(key)
        checks.flag("bias", bias)
        inputs, outputs, dimensions, stride, side = checks.counts(
            inputs=inputs, outputs=outputs, dimensions=dimensions, stride=stride, side=side
        )
        if side % 2 == 0:
            raise ValueError(f"side must be odd, so that the output lies on the input, got {side}")
        checks.choice("engine", engine, ENGINES)
        if dimensions > 32:
            raise ValueError(f"dimensions must be at most 32, got {dimensions}")
        check_size(side**dimensions * inputs * outputs, "take fewer `inputs` or `outputs`")
        shape = (side,) * dimensions + (inputs, outputs)
        self.weight = randomness.drawn(jax.random.normal, key, shape) * (2 / (side**dimensions * inputs)) ** 0.5
        self.bias = jnp.zeros(outputs) if bias else None
        self.stride, self.engine = stride, engine

    def __call__(self, x: jax.Array) -> jax.Array:
        """y of shape (n, ⌈extent/s⌉, ..., outputs) for x of shape (n, extent, ..., inputs)."""
        y = self._lax(x) if self.engine == "lax" else self._product(x)
        return y if self.bias is None else y + self.bias

    def _product(self, x: jax.Array) -> jax.Array:
        side, dimensions = self.weight.shape[0], self.weight.ndim - 2
        reach = [-(-extent // self.stride) for extent in x.shape[1:-1]]
        padded = jnp.pad(x, [(0, 0), *[(side // 2,) * 2] * dimensions, (0, 0)])

        def shifted(offset: tuple[int, ...]) -> jax.Array:
            ends = (o + self.stride * (r - 1) + 1 for o, r in zip(offset, reach, strict=True))
            along = [slice(o, end, self.stride) for o, end in zip(offset, ends, strict=True)]
            return padded[(slice(None), *along)]

        slices = [shifted(offset) for offset in itertools.product(range(side), repeat=dimensions)]
        return jnp.concatenate(slices, axis=-1) @ self.weight.reshape(-1, self.weight.shape[-1])

    def _lax(self, x: jax.Array) -> jax.Array:
        side, dimensions = self.weight.shape[0], self.weight.ndim - 2
        axes = "DHW"[-dimensions:]
        return jax.lax.conv_general_dilated(
            x,
            self.weight,
            (self.stride,) * dimensions,
            [(side // 2,) * 2] * dimensions,
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )


class _Stack(Network):
    """Convolutions, each followed by a normalization and an activation; the mean over the places; a linear layer."""

    convolutions: list[Conv]
    norms: list[Any]
    head: eqx.nn.Linear
    shape: tuple[int, ...] = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        key: jax.Array,
        channels: Sequence[int] = (16, 32, 32),
        norm: str | None = None,
        activation: Callable = jax.nn.relu,
        side: int | None = None,
        engine: str = "product",
    ):
        checks.key(key)
        checks.function("activation", activation, "a function such as jax.nn.relu")
        channels = checks.sequence("channels", channels, "whole numbers")
        self.shape = shape_of(shape, *self._axes)
        if not len(channels):
            raise ValueError("channels must hold at least one number, one per convolution")
        *keys, last = generator.keys(key, len(channels) + 1)
        widths = [self.shape[-1], *(checks.count("channels", width, at_least=1) for width in channels)]
        side = {1: 5, 2: 3}[len(shape) - 1] if side is None else checks.count("side", side, at_least=1)
        weights = sum(side ** (len(shape) - 1) * a * b for a, b in itertools.pairwise(widths))
        check_size(weights, "take fewer `channels`, or a smaller `side`")
        self.convolutions = [
            Conv(a, b, one, len(shape) - 1, side, stride=1 if i == 0 else 2, bias=norm is None, engine=engine)
            for i, (a, b, one) in enumerate(zip(widths[:-1], widths[1:], keys, strict=True))
        ]
        self.norms = [normalization(norm, width, NORMS) for width in widths[1:]]
        self.head = linear(widths[-1], *checks.counts(classes=classes), last)
        self.activation = activation

    def outputs(self, x, batch):
        x = inputs_of(x, self.shape)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.activation(batch.through(norm, convolution(x)))
        return affine(self.head, x.mean(axis=tuple(range(1, x.ndim - 1))))


class CNN1d(_Stack):
    """A small convolutional network on sequences.

        x ↦ W mean(a(norm(w_k ∗ … a(norm(w₁ ∗ x)) …))) + b,   every convolution but the first with stride 2

    Args:
        shape: of one input, (length, channels); inputs may come flat
        classes: number of outputs
        key: for the weights
        channels: of the convolutions, one after the other
        norm: "batch", "layer" (over the channels of each place), "group", or None; with one there are no biases
        activation: a
        side: of the filters, odd; 5 if not given
        engine: how convolutions are computed, see :class:`flatdyn.networks.Conv`
    Raises:
        ValueError: if the shape has another form, a number is out of range, or a word is unknown
    """

    _axes = ("length", "channels")


class CNN2d(_Stack):
    """A small convolutional network on images; as :class:`CNN1d` but for the shape, and filters of side 3.

        x ↦ W mean(a(norm(w_k ∗ … a(norm(w₁ ∗ x)) …))) + b,   every convolution but the first with stride 2

    Args:
        shape: of one input, (height, width, channels); inputs may come flat
        classes, key, channels, norm, activation, side, engine: as for :class:`CNN1d`
    Raises:
        ValueError: if the shape has another form, a number is out of range, or a word is unknown
    """

    _axes = ("height", "width", "channels")


class Block(eqx.Module):
    """Two convolutions and a way around them: x ↦ a(norm(w₂ ∗ a(norm(w₁ ∗ x))) + x), or a projection of x."""

    convolutions: tuple[Conv, Conv]
    norms: tuple[Any, Any]
    projection: tuple[Conv, Any] | None

    def outputs(self, x: jax.Array, batch: Any, activation: Callable) -> jax.Array:
        """(n, height/s, width/s, channels) for x, (n, height, width, inputs)."""
        (first, second), (norm, other) = self.convolutions, self.norms
        y = activation(batch.through(norm, first(x)))
        y = batch.through(other, second(y))
        if self.projection is not None:
            convolution, norm = self.projection
            x = batch.through(norm, convolution(x))
        return activation(y + x)


class ResNet(Network):
    """A residual network in the form for small images: a stem of 3 × 3 and no pooling but at the end.

        stem; stages of blocks, each stage but the first halving the image and doubling the channels; mean; linear

    Args:
        shape: of one input, (height, width, channels); inputs may come flat
        classes: number of outputs
        key: for the weights
        blocks: in each stage
        width: channels of the first stage
        norm: "batch", "layer" (over the channels of each place), "group", or None
        activation: a, the same everywhere
        engine: how convolutions are computed, see :class:`flatdyn.networks.Conv`
    Raises:
        ValueError: if the shape has another form, a number is out of range, or a word is unknown
    References:
        He, Zhang, Ren, Sun, arXiv 1512.03385, section 4.2, but with projections (their option B).
    """

    stem: Conv
    norm: Any
    blocks: list[Block]
    head: eqx.nn.Linear
    shape: tuple[int, ...] = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        key: jax.Array,
        blocks: Sequence[int] = (1, 1, 1),
        width: int = 16,
        norm: str | None = "batch",
        activation: Callable = jax.nn.relu,
        engine: str = "product",
    ):
        checks.key(key)
        checks.function("activation", activation, "a function such as jax.nn.relu")
        blocks = checks.sequence("blocks", blocks, "whole numbers")
        self.shape = shape_of(shape, "height", "width", "channels")
        self.activation = activation
        blocks = [checks.count("blocks", n, at_least=1) for n in blocks]
        before = width = checks.count("width", width, at_least=1)
        weights = sum(18 * n * (width * 2**stage) ** 2 for stage, n in enumerate(blocks))
        check_size(weights, "take a smaller `width`, or fewer `blocks`")
        plan = [(stage, i) for stage, n in enumerate(blocks) for i in range(n)]
        if not plan:
            raise ValueError("blocks must hold at least one number, one per stage")
        keys = iter(generator.keys(key, 3 * len(plan) + 2))

        def normalized(a: int, b: int, **options: Any) -> tuple[Conv, Any]:
            convolution = Conv(a, b, next(keys), bias=norm is None, engine=engine, **options)
            return convolution, normalization(norm, b, NORMS)

        self.stem, self.norm = normalized(self.shape[-1], before)
        self.blocks = []
        for stage, i in plan:
            after, stride = width * 2**stage, 2 if stage and not i else 1
            around = normalized(before, after, side=1, stride=stride) if (before, stride) != (after, 1) else None
            pairs = normalized(before, after, stride=stride), normalized(after, after)
            self.blocks.append(Block(*zip(*pairs, strict=True), projection=around))
            before = after
        self.head = linear(before, *checks.counts(classes=classes), next(keys))

    def outputs(self, x, batch):
        x = self.activation(batch.through(self.norm, self.stem(inputs_of(x, self.shape))))
        for block in self.blocks:
            x = block.outputs(x, batch, self.activation)
        return affine(self.head, x.mean(axis=(1, 2)))


def resnet8(shape: Sequence[int], classes: int, key: jax.Array, width: int = 16, **options: Any) -> ResNet:
    """:class:`ResNet` of three stages of one block: 77,754 parameters for gray images and 10 classes."""
    checks.key(key)
    return ResNet(shape, classes, key, (1, 1, 1), width, **options)


def resnet18(shape: Sequence[int], classes: int, key: jax.Array, width: int = 64, **options: Any) -> ResNet:
    """:class:`ResNet` of four stages of two blocks: 11,173,962 parameters for colour images and 10 classes."""
    checks.key(key)
    return ResNet(shape, classes, key, (2, 2, 2, 2), width, **options)
