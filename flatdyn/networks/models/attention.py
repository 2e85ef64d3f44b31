"""Networks with attention: a transformer on patches of images, and one on characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks, generator, randomness
from flatdyn.networks.models.base import Network, affine, check_size, inputs_of, linear, shape_of

SPREAD = 0.02  # standard deviation of embeddings at the start, as is usual for transformers


class Layer(eqx.Module):
    """One layer of a transformer, normalized before each part.

    x ↦ y + W₂ gelu(W₁ LN(y)),   y = x + attention(LN(x))
    """

    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    attention: eqx.nn.MultiheadAttention
    wide: eqx.nn.Linear
    narrow: eqx.nn.Linear

    def __init__(self, width: int, heads: int, key: jax.Array):
        one, two, three = generator.keys(key, 3)
        self.norms = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=one)
        self.wide = linear(width, 2 * width, two)
        self.narrow = linear(2 * width, width, three)

    def outputs(self, x: jax.Array, batch: Any, mask: jax.Array | None) -> jax.Array:
        """(n, tokens, width) for x of that shape; where mask (tokens, tokens) is False, row does not see column."""
        y = batch.through(self.norms[0], x)
        x = x + jax.vmap(lambda one: self.attention(one, one, one, mask))(y)
        y = batch.through(self.norms[1], x)
        return x + affine(self.narrow, jax.nn.gelu(affine(self.wide, y)))


class _Transformer(Network):
    positions: eqx.AbstractVar[jax.Array]
    layers: eqx.AbstractVar[list[Layer]]
    norm: eqx.AbstractVar[eqx.nn.LayerNorm]

    def _transformed(self, x: jax.Array, batch: Any, mask: jax.Array | None = None) -> jax.Array:
        x = x + self.positions[: x.shape[1]]
        for layer in self.layers:
            x = layer.outputs(x, batch, mask)
        return batch.through(self.norm, x)


def _layers(width: int, depth: int, heads: int, key: jax.Array) -> list[Layer]:
    if width % heads:
        raise ValueError(f"heads must divide width, got heads {heads} and width {width}")
    check_size(depth * (8 * width + 16) * width, "take a smaller `width` or `depth`")
    return [Layer(width, heads, one) for one in generator.keys(key, depth)]


class ViT(_Transformer):
    """A transformer on patches of an image, or of a sequence.

        tokens = E · patch + position;  layers;  W mean(LN(tokens)) + b

    Args:
        shape: of one input, (height, width, channels) or (length, channels); inputs may come flat
        classes: number of outputs
        key: for the weights
        patch: side of a patch, which must divide all extents
        width: of a token
        depth: number of layers
        heads: of the attention, which must divide the width
    Raises:
        ValueError: if a number is out of range or does not divide
    References:
        Dosovitskiy et al., arXiv 2010.11929, but with the mean over the tokens in place of a class token.
    """

    embedding: eqx.nn.Linear
    positions: jax.Array
    layers: list[Layer]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear
    shape: tuple[int, ...] = eqx.field(static=True)
    patch: int = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        key: jax.Array,
        patch: int = 4,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
    ):
        classes, patch, width, depth, heads = checks.counts(
            classes=classes, patch=patch, width=width, depth=depth, heads=heads
        )
        checks.key(key)
        self.shape, self.patch = shape_of(shape), patch
        *extents, channels = self.shape
        if any(extent % patch for extent in extents):
            raise ValueError(f"patch must divide the extents {tuple(extents)}, got {patch}")
        tokens = math.prod(extent // patch for extent in extents)
        one, two, three, four = generator.keys(key, 4)
        self.layers = _layers(width, depth, heads, one)
        sides = patch ** len(extents) * channels + tokens + classes
        check_size(sides * width, "take a smaller `shape`, a smaller `width`, or fewer `classes`")
        self.embedding = linear(patch ** len(extents) * channels, width, two)
        self.positions = SPREAD * randomness.drawn(jax.random.normal, three, (tokens, width))
        self.norm = eqx.nn.LayerNorm(width)
        self.head = linear(width, classes, four)

    def outputs(self, x, batch):
        x = self._transformed(affine(self.embedding, self._patches(x)), batch)
        return affine(self.head, x.mean(axis=1))

    def _patches(self, x: jax.Array) -> jax.Array:
        """Patches row by row, (n, tokens, entries of a patch)."""
        *extents, channels = self.shape
        split = [part for extent in extents for part in (extent // self.patch, self.patch)]
        grid, inside = range(1, 1 + len(split), 2), range(2, 2 + len(split), 2)
        x = inputs_of(x, self.shape).reshape(x.shape[0], *split, channels)
        return x.transpose(0, *grid, *inside, x.ndim - 1).reshape(x.shape[0], len(self.positions), -1)


class CharTransformer(_Transformer):
    """A causal transformer on characters: the score of each one to come next, from those up to now.

        tokens = E_x + position;  layers in which token i sees tokens j ≤ i;  W LN(tokens) + b

    Args:
        vocabulary: number of different characters, which come as whole numbers from 0
        context: the longest text that it sees
        key: for the weights
        width: of a token
        depth: number of layers
        heads: of the attention, which must divide the width
    Raises:
        ValueError: if a number is out of range or does not divide
    """

    embedding: jax.Array
    positions: jax.Array
    layers: list[Layer]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, vocabulary: int, context: int, key: jax.Array, width: int = 32, depth: int = 1, heads: int = 4):
        width, depth, heads, context = checks.counts(width=width, depth=depth, heads=heads, context=context)
        checks.key(key)
        vocabulary = checks.count("vocabulary", vocabulary, at_least=2)
        one, two, three, four = generator.keys(key, 4)
        self.layers = _layers(width, depth, heads, one)
        check_size((2 * vocabulary + context) * width, "take a smaller `vocabulary`, `context` or `width`")
        self.embedding = SPREAD * randomness.drawn(jax.random.normal, two, (vocabulary, width))
        self.positions = SPREAD * randomness.drawn(jax.random.normal, three, (context, width))
        self.norm = eqx.nn.LayerNorm(width)
        self.head = linear(width, vocabulary, four)

    def outputs(self, x, batch):
        """Scores (n, length, vocabulary) for whole numbers (n, length), length ≤ context."""
        if not jnp.issubdtype(x.dtype, jnp.integer) or x.ndim != 2 or x.shape[1] > len(self.positions):
            limit = f"(n, length), length <= {len(self.positions)}"
            raise ValueError(f"characters must be whole numbers of shape {limit}, got {x.dtype} of shape {x.shape}")
        # What is no character becomes NaN, and the run says DIVERGED
        tokens = self.embedding.at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        seen = jnp.tri(x.shape[1], dtype=bool)
        return affine(self.head, self._transformed(tokens, batch, seen))
