"""Hidden units of a network with one hidden layer: their coordinates, and the Hessian between them in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.networks.data import Split
from flatdyn.networks.models import MLP
from flatdyn.networks.training import Task, classifier, regressor


class UnitLayout(NamedTuple):
    """Indices of the coordinates of a network with one hidden layer."""

    into: np.ndarray
    bias: np.ndarray
    out: np.ndarray
    last: np.ndarray

    def unit(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of one unit: weights in with its bias, weights out."""
        return np.append(self.into[number], self.bias[number]), self.out[:, number]


def hidden(network: Any) -> MLP:
    """The network, if it is an MLP with one hidden layer and no normalization, else ValueError."""
    if not isinstance(network, MLP) or len(network.layers) != 2 or any(norm is not None for norm in network.norms):
        raise ValueError(
            "network must be a flatdyn.networks.MLP with one hidden layer and no normalization, "
            f"got {checks.shown(network)}"
        )
    if not jax.config.jax_enable_x64:
        raise ValueError('a saddle is found to 1e-13: call jax.config.update("jax_enable_x64", True) first')
    return network


def widths(network: MLP, more: int = 0) -> tuple[int, int, int]:
    """Inputs, hidden units and `more` of them, outputs."""
    (units, inputs), (outputs, _) = (layer.weight.shape for layer in network.layers)
    return inputs, units + more, outputs


def resized(network: MLP, widths: tuple[int, int, int], weights: tuple | None = None) -> MLP:
    """A network of other widths with given weights, or those of the given one and zeros in the units added."""
    wide = eqx.filter_eval_shape(MLP, widths, jax.random.key(0), network.activation)
    if weights is None:
        (w, b), (v, c) = ((np.asarray(layer.weight), np.asarray(layer.bias)) for layer in network.layers)
        more = widths[1] - len(b)
        weights = np.pad(w, ((0, more), (0, 0))), np.pad(b, (0, more)), np.pad(v, ((0, 0), (0, more))), c
    where = lambda n: [part for layer in n.layers for part in (layer.weight, layer.bias)]  # noqa: E731
    return eqx.tree_at(where, wide, list(map(precision.on_device, weights)))


def described(network: MLP, data: Split, weight_decay: float) -> tuple[Task, UnitLayout]:
    """The network on classes (whole numbers y) or real numbers, and where its weights are."""
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    whole = np.issubdtype(np.asarray(data.y).dtype, np.integer)
    task = (classifier if whole else regressor)(network, data, weight_decay)
    layers = task.landscape.form.numbers().layers
    return task, UnitLayout(*(np.asarray(part) for layer in layers for part in (layer.weight, layer.bias)))


def hessian_block(
    task: Task, layout: UnitLayout, activation: Callable, theta: Any, weight_decay: float, number: int, bend: float
) -> np.ndarray:
    """Hessian in directions that leave the function as it is to first order.

        [[bend · M, Cᵀ], [C, 0]] + λ I,   M = mean (r̄·v) a″(u·x̃) x̃ x̃ᵀ,   C = mean a′(u·x̃) r̄ x̃ᵀ,   x̃ = (x, 1)

    Args:
        task, layout: from :func:`described`
        activation: a
        theta: the point, shape (dim,)
        weight_decay: λ
        number: index of the hidden unit, whose u (with its bias) and v are taken
        bend: factor of M
    Returns:
        array (inputs + 1 + outputs,) squared: first the weights in, then those out
    """
    into, out = layout.unit(number)
    into, out, last, theta = map(precision.on_device, (into, out, layout.last, theta))
    block = _block(task.landscape, activation, theta, float(weight_decay), into, out, last, bend)
    return np.array(block)


@eqx.filter_jit
def _block(landscape, activation, theta, weight_decay, into, out, last, bend):
    x, point = landscape.examples[0], landscape.vector(theta)
    # The gradient in the output's bias is the residual r̄: so no loss is written twice
    single = jax.vmap(lambda i: landscape.array(landscape.batch_field(point, i[None])))(jnp.arange(len(x)))
    residual = single[:, last] - weight_decay * theta[last]
    tilde = jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1)
    u, v = theta[into], theta[out]
    slope = jax.grad(activation)
    first, second = jax.vmap(slope)(tilde @ u), jax.vmap(jax.grad(slope))(tilde @ u)
    bent = bend * (tilde.T * (second * (residual @ v))) @ tilde / len(x)
    crossed = (residual.T * first) @ tilde / len(x)
    whole = jnp.block([[bent, crossed.T], [crossed, jnp.zeros((len(v), len(v)))]])
    return whole + weight_decay * jnp.eye(len(whole))
