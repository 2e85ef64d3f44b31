"""Normalization layers: BatchNorm without running state, how a forward pass applies them, and the mask of SAM-ON."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flatdyn.core import checks


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
        (width,) = checks.counts(width=width)
        self.weight, self.bias = jnp.ones(width), jnp.zeros(width)
        self.eps = checks.number("eps", eps, above=0, one=True)

    def __call__(self, x: jax.Array, statistics: Any = None) -> tuple[jax.Array, tuple]:
        """y for x of shape (n, ..., width), and (m, v), the given ones or the batch's."""
        axes = tuple(range(x.ndim - 1))
        mean, variance = (x.mean(axes), x.var(axes)) if statistics is None else statistics
        return self.weight * (x - mean) / jnp.sqrt(variance + self.eps) + self.bias, (mean, variance)


NORMS = (BatchNorm, eqx.nn.LayerNorm, eqx.nn.GroupNorm, eqx.nn.RMSNorm)


def normalization(norm: str | None, width: int, allowed: tuple = ("batch", "layer", None)) -> Any:
    """A normalization layer by its name, over `width` channels, which are the last axis.

    "batch": each channel over the batch and all places; "layer": each place over its channels; "group": each example
    over all places and a group of channels, 8 groups or as many as divide the width; None: none.

    Raises:
        ValueError: if `norm` is not among the `allowed`
    """
    if not (norm is None or isinstance(norm, str)) or norm not in allowed:
        words = [repr(word) for word in allowed]
        raise ValueError(f"norm must be {', '.join(words[:-1])} or {words[-1]}, got {checks.shown(norm)}")
    if norm == "group":
        groups = next(number for number in range(min(8, width), 0, -1) if width % number == 0)
        return eqx.nn.GroupNorm(groups, width)
    return {"batch": BatchNorm, "layer": eqx.nn.LayerNorm, None: lambda width: None}[norm](width)


class Pass:
    """One batch on its way through a network: `through(norm, x)` normalizes, and BatchNorm's statistics are kept.

    Attributes:
        used: (mean, variance) of each BatchNorm, in the order in which they were met
    """

    def __init__(self, statistics: Any = None):
        self._given = None if statistics is None else iter(statistics)
        self.used: list[tuple] = []

    def through(self, norm: Any, x: jax.Array) -> jax.Array:
        """What a normalization layer, or None, makes of x, shape (n, ..., channels)."""
        if norm is None:
            return x
        if isinstance(norm, BatchNorm):
            x, statistics = norm(x, None if self._given is None else next(self._given))
            self.used.append(statistics)
            return x
        if isinstance(norm, eqx.nn.GroupNorm):  # it takes one example, channels first
            return jnp.moveaxis(jax.vmap(norm)(jnp.moveaxis(x, -1, 1)), 1, -1)
        return jax.vmap(norm)(x.reshape(-1, x.shape[-1])).reshape(x.shape)


def norm_mask(network: eqx.Module) -> Any:
    """The mask of SAM-ON: the gains and shifts of the normalization layers, by their type.

        mᵢ = 1 if parameter i belongs to a BatchNorm, LayerNorm, GroupNorm or RMSNorm, else 0

    `fd.SAM(lr, rho, mask=norm_mask(network))` perturbs them alone. Whole leaves are selected, so the first of SAM's two
    gradients is not computed for the others.

    Args:
        network: any Equinox module
    Returns:
        a tree like the network's parameters with True or False at its leaves
    Raises:
        ValueError: if no parameter belongs to such a layer, or all do
    References:
        Müller, Vlaar, Rolnick, Hein, arXiv 2306.04226.
    """
    checks.kind("network", network, eqx.Module, "flatdyn.networks.MLP(widths, key, norm=...)")

    def is_norm(node: Any) -> bool:
        return isinstance(node, NORMS)

    parameters = eqx.filter(network, eqx.is_inexact_array)
    mask = jax.tree.map(lambda node: jax.tree.map(lambda _: is_norm(node), node), parameters, is_leaf=is_norm)
    chosen = jax.tree.leaves(mask)
    known = ", ".join(norm.__name__ for norm in NORMS)
    if not any(chosen):
        raise ValueError(
            f"{type(network).__name__} has no parameter in a normalization layer ({known}): "
            'build it with norm="batch", "layer" or "group", as its docstring says'
        )
    if all(chosen):
        raise ValueError(f"{type(network).__name__} has parameters in normalization layers ({known}) alone")
    return mask
