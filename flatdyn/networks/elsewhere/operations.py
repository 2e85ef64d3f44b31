"""Operations of PyTorch that its converter gets wrong, or lacks, in JAX: each as PyTorch defines it.

Seen in tojax 1.0.1: GELU is its approximation by tanh whatever is asked; BatchNorm takes images alone, and gives a
vector or a sequence other shapes, or other numbers where there are as many examples as channels; most averages over
windows fail; convolutions along one axis or three and PReLU are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def gelu(x: jax.Array, approximate: str = "none") -> jax.Array:
    """x Φ(x), or its approximation by tanh."""
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def prelu(x: jax.Array, weight: jax.Array) -> jax.Array:
    """max(x, 0) + w min(x, 0), one w or one for each channel."""
    shape = (1, -1, *[1] * (x.ndim - 2)) if x.ndim > 1 else (-1,)
    return jnp.where(x > 0, x, weight.reshape(shape) * x)


def convolution(axes: int):
    """The convolution along the last `axes` axes of x, shape (n, channels, ...)."""

    def convolved(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        pads = padding.upper() if isinstance(padding, str) else [(pad, pad) for pad in _each(padding, axes)]
        strides, gaps = _each(stride, axes), _each(dilation, axes)
        y = jax.lax.conv_general_dilated(
            x, weight, strides, pads, rhs_dilation=gaps, feature_group_count=groups, precision="highest"
        )
        return y if bias is None else y + bias.reshape(-1, *[1] * axes)

    return convolved


class Normalizing:
    """BatchNorm's operation on the way through a network: of a batch by itself, or by given statistics.

    Attributes:
        used: (mean, variance) of each layer in training mode, in the order in which they were met
    """

    def __init__(self, statistics: Any = None):
        self._given: Iterator | None = None if statistics is None else iter(statistics)
        self.used: list[tuple] = []

    def __call__(self, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        """w (x − m)/√(v + ε) + b for x of shape (n, channels, ...)."""
        axes = (0, *range(2, x.ndim))
        if not training:
            mean, variance = running_mean, running_var
        else:
            mean, variance = (x.mean(axes), x.var(axes)) if self._given is None else next(self._given)
            self.used.append((mean, variance))
        shape = (1, -1, *[1] * (x.ndim - 2))
        y = (x - mean.reshape(shape)) / jnp.sqrt(variance.reshape(shape) + eps)
        y = y if weight is None else y * weight.reshape(shape)
        return y if bias is None else y + bias.reshape(shape)


def average_pool(axes: int):
    """The mean over windows along the last `axes` axes."""

    def pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        size = _each(kernel_size, axes)
        step = size if stride is None or stride == () else _each(stride, axes)
        pads = _each(padding, axes)
        if ceil_mode:
            raise NotImplementedError("windows that reach beyond the end (ceil_mode) are not supported")
        around = ((0, 0),) * (x.ndim - axes) + tuple((pad, pad) for pad in pads)
        window, strides = (1,) * (x.ndim - axes) + size, (1,) * (x.ndim - axes) + step

        def total(x):
            return jax.lax.reduce_window(x, np.zeros((), x.dtype)[()], jax.lax.add, window, strides, around)

        if divisor_override is not None:
            return total(x) / divisor_override
        return total(x) / (np.prod(size) if count_include_pad else total(jnp.ones_like(x)))

    return pool


def adaptive_average_pool(axes: int):
    """The mean over windows ⌊i n/m⌋ … ⌈(i + 1) n/m⌉ along the last `axes` axes, of n places, m windows."""

    def pool(x, output_size):
        for number, axis in zip(_each(output_size, axes), range(x.ndim - axes, x.ndim), strict=True):
            places = x.shape[axis]
            number = places if number is None else number
            share = np.zeros((number, places))
            for i in range(number):
                first, last = i * places // number, -(-(i + 1) * places // number)
                share[i, first:last] = 1 / (last - first)
            x = jnp.moveaxis(jnp.tensordot(x, jnp.asarray(share, x.dtype), (axis, 1)), -1, axis)
        return x

    return pool


def _each(size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    return (size,) * axes if isinstance(size, int) or size is None else tuple(size) * (axes if len(size) == 1 else 1)
