"""Saddles of trained networks that are known exactly: where they lie, which way is out, and how steep it is there.

    zero_unit        a minimum, and a hidden unit without weights beside it
    tied_pair        the lowest point at which two hidden units are the same
    split_unit       a minimum, one unit of which is split into two
    linear_origin    a deep linear network with all weights zero

A network of one hidden layer is f(x) = Σⱼ vⱼ a(uⱼ·x̃) + b, with x̃ = (x, 1). In the directions that leave f unchanged to
first order the Hessian is what the residuals r̄ = ∂ℓ/∂f make of the second derivative of f:

    [ M  Cᵀ ]
    [ C  0  ] + λ I,    M = mean (r̄·v) a″ x̃ x̃ᵀ,   C = mean a′ r̄ x̃ᵀ        λ: weight decay
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy

from flatdyn.core import checks, memory, precision, randomness
from flatdyn.core.algebra import scaled
from flatdyn.curvature import extreme_eigenvalues, hessian_product
from flatdyn.networks.data import Split
from flatdyn.networks.models import MLP
from flatdyn.networks.saddles.hidden_units import described, hessian_block, hidden, resized, widths
from flatdyn.networks.saddles.minima import minimum
from flatdyn.networks.training import Classifier, Task, regressor
from flatdyn.processes.regions import Scored


class Tube(Scored):
    """‖Q (θ − c)‖ ≤ r: near a flat piece in some directions, anywhere in the others.

    Args:
        center: c, shape (dim,)
        basis: Q, orthonormal rows, shape (k, dim)
        radius: r > 0, in units of θ
    Raises:
        ValueError: if the radius is not positive
    """

    center: Any
    basis: Any
    radius: Any = eqx.field(converter=checks.plain)

    def __check_init__(self):
        checks.number("radius", self.radius, above=0, one=True)

    def score(self, theta):
        s, radius = scaled(jnp.asarray(self.radius, theta.dtype))
        return jnp.sum((s * (self.basis @ (theta - self.center))) ** 2) / radius**2


class Verified(NamedTuple):
    """What a saddle is, by computation; see :meth:`Saddle.verify`.

    Attributes:
        gradient: ‖∇L‖
        smallest: smallest eigenvalue of the whole Hessian, and its residual ‖Hv − λv‖
        residual: see there
        error: largest |eigenvalue of Q ∇²L Qᵀ − predicted|
        leak: largest ‖(1 − QᵀQ) ∇²L q‖ over the directions q: 0 if they are a part of the Hessian by themselves
    """

    gradient: float
    smallest: float
    residual: float
    error: float
    leak: float


@dataclass(frozen=True, eq=False)
class Saddle:
    """A saddle of a network and the directions that lead away from the set it lies in.

    Attributes:
        construction: which one made it
        task: network and data; `task.landscape` is what is descended
        theta: the saddle, shape (dim,)
        basis: Q, orthonormal rows, the transverse directions, shape (k, dim)
        block: predicted Hessian in them, Q ∇²L(θ) Qᵀ, shape (k, k)
        kept: whether every method keeps a run that starts with Q (θ − saddle) = 0 there, whatever the minibatches
        acted_on: how many of the directions, the first ones, examples act on: scores that rise together change no loss
    """

    construction: str
    task: Task
    theta: np.ndarray
    basis: np.ndarray
    block: np.ndarray
    kept: bool
    acted_on: int

    @property
    def landscape(self):
        """What is descended."""
        return self.task.landscape

    @property
    def eigenvalues(self) -> np.ndarray:
        """Predicted transverse eigenvalues, smallest first, shape (k,); those of the block, see :func:`split_unit`."""
        return np.linalg.eigvalsh(self.block)

    @property
    def direction(self) -> np.ndarray:
        """Unit vector of the smallest of them, shape (dim,)."""
        return np.linalg.eigh(self.block)[1][:, 0] @ self.basis

    def transverse(self, theta: Any) -> jax.Array:
        """‖Q (θ − saddle)‖ of points of shape (..., dim)."""
        theta = checks.coordinates("theta", theta, self.task.dim, finite=True)
        return jnp.linalg.norm((jnp.asarray(theta) - self.theta) @ self.basis.T, axis=-1)

    def inside(self, radius: float) -> Tube:
        """The region of θ whose transverse distance is at most `radius`, for :func:`flatdyn.escape_times`."""
        return Tube(self.theta, self.basis, radius)

    def start(self, distance: float, key: jax.Array, runs: int) -> jax.Array:
        """Points at a transverse distance, in directions equally likely, shape (runs, dim)."""
        checks.key(key)
        distance = checks.number("distance", distance, above=0, one=True)
        runs = checks.count("runs", runs, at_least=1)
        memory.check_memory(0, "the starts", "make fewer `runs`", device=memory.array_bytes(3, runs, len(self.theta)))
        normal = randomness.drawn(jax.random.normal, key, (runs, len(self.basis)))
        return self.theta + distance * normal / jnp.linalg.norm(normal, axis=1, keepdims=True) @ self.basis

    def verify(self) -> Verified:
        """Gradient and Hessian at the saddle against what is predicted; up to 300 parameters the whole Hessian."""
        products = np.asarray(_products(self.landscape, *map(precision.on_device, (self.theta, self.basis))))
        block = products @ self.basis.T
        ends = extreme_eigenvalues(self.landscape, self.theta)
        return Verified(
            gradient=float(np.linalg.norm(self.landscape.grad(self.theta))),
            smallest=float(ends.smallest),
            residual=float(ends.residuals[1]),
            error=float(np.abs(np.linalg.eigvalsh((block + block.T) / 2) - self.eigenvalues).max()),
            leak=float(np.linalg.norm(products - block @ self.basis, axis=1).max()),
        )

    def __repr__(self) -> str:
        dim, below = len(self.theta), int((self.eigenvalues < 0).sum())
        return f"Saddle({self.construction}, dim={dim}, transverse={len(self.basis)}, {below} of them downhill)"


@eqx.filter_jit
def _products(landscape: Any, theta: jax.Array, directions: jax.Array) -> jax.Array:
    return jax.lax.map(lambda v: hessian_product(landscape, theta, v), directions)


def zero_unit(network: MLP, data: Split, weight_decay: float = 0.0) -> Saddle:
    """The minimum of a small network, with one hidden unit more whose weights are all zero.

        Hessian transverse to it = λ I + [[0, Cᵀ], [C, 0]],   eigenvalues λ ± σₖ(C) and λ,   C = a′(0) mean r̄ x̃ᵀ

    The unit's gradient vanishes with its weights on every minibatch, so no method and no gradient noise moves it.

    Args:
        network: the small network, one hidden layer; its weights are where the minimum is looked for
        data: training data; whole numbers are classes (:func:`classifier`), real ones are fitted (:func:`regressor`)
        weight_decay: λ ≥ 0
    Returns:
        Saddle, of the network with the additional unit
    Raises:
        ValueError: if there is not one hidden layer, a(0) ≠ 0, a has a kink at 0, or no minimum is found
    """
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    activation = hidden(network).activation
    rise, odd = (float(activation(jnp.asarray(h)) + activation(jnp.asarray(-h))) for h in (0.0, 1e-4))
    if rise != 0 or abs(odd) > 1e-6:
        raise ValueError(
            f"a unit without weights needs an activation with a(0) = 0 and a slope there, got {activation}"
        )
    wide = resized(network, widths(network, +1))
    task, layout = described(wide, data, weight_decay)
    number = widths(network)[1]
    unit = np.concatenate(layout.unit(number))
    basis, inside = np.eye(task.dim)[unit], np.delete(np.eye(task.dim), unit, axis=0)
    theta = minimum(task.landscape, inside, inside @ np.asarray(task.start))
    block = hessian_block(task, layout, activation, theta, weight_decay, number, 0.0)
    return _saddle("zero_unit", task, theta, basis, block, True)


def tied_pair(network: MLP, data: Split, weight_decay: float = 0.0, units: tuple[int, int] = (0, 1)) -> Saddle:
    """The lowest point of a network at which two hidden units are the same, in weights in and out.

        Hessian in (d, −d)/√2 = λ I + [[M, Cᵀ], [C, 0]]

    By symmetry the gradient never drives the two apart, so where it vanishes along them it vanishes altogether, on
    every minibatch, for any activation. Downhill unless C = 0.

    Args:
        network: one hidden layer; its weights, the pair's averaged, are where the lowest point is looked for
        data, weight_decay: as for :func:`zero_unit`
        units: indices of the two
    Returns:
        Saddle
    Raises:
        ValueError: if there is not one hidden layer, there are no such two units, or no minimum is found
    """
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    activation, width = hidden(network).activation, widths(network)[1]
    units = [checks.count("units", unit) for unit in checks.sequence("units", units, "two hidden units")]
    if len(units) != 2 or len(set(units)) != 2 or not all(0 <= unit < width for unit in units):
        raise ValueError(f"units must be two of the hidden units 0 to {width - 1}, got {units}")
    task, layout = described(network, data, weight_decay)
    first, second = (np.concatenate(layout.unit(unit)) for unit in units)
    rows = np.eye(task.dim)
    basis = (rows[first] - rows[second]) / np.sqrt(2)
    others = np.delete(rows, np.concatenate([first, second]), axis=0)
    inside = np.concatenate([others, (rows[first] + rows[second]) / np.sqrt(2)])
    theta = minimum(task.landscape, inside, inside @ np.asarray(task.start))
    block = hessian_block(task, layout, activation, theta, weight_decay, units[0], 1.0)
    return _saddle("tied_pair", task, theta, basis, block, True)


def split_unit(network: MLP, data: Split, share: float = 0.5, unit: int = 0) -> Saddle:
    """The minimum of a small network, one hidden unit (u, v) of which is split into (u, s v) and (u, (1 − s) v).

        Hessian in ((1 − s) d, −s d)/√(s² + (1 − s)²) = s (1 − s)/(s² + (1 − s)²) · M

    Every s gives the same function, so these critical points form a line. Downhill where s (1 − s) M has a negative
    eigenvalue. At s = ½ its eigenvalues are some of the whole Hessian's; elsewhere the directions are not a part of the
    Hessian by themselves, and only the signs are: the smallest of the whole lies below. Minibatches keep the two units
    together at s = ½ alone: elsewhere they pull at them unequally.

    Args:
        network: the small network, one hidden layer and one output; its weights are where the minimum is looked for
        data: a regression, y of shape (n, 1). Without weight decay, which would settle s
        share: s, neither 0 nor 1
        unit: its index
    Returns:
        Saddle, of the network with the additional unit, the last one
    Raises:
        ValueError: if there is not one hidden layer and one output, s or the unit does not fit, or no minimum is found
    References:
        Fukumizu and Amari, Neural Networks 13, 317 (2000).
    """
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    activation, (_, width, outputs) = hidden(network).activation, widths(network)
    if outputs != 1 or np.issubdtype(np.asarray(data.y).dtype, np.integer):
        raise ValueError(f"a split needs a regression by a network with one output, got {outputs}: see tied_pair")
    share, unit = checks.number("share", share, one=True), checks.count("unit", unit)
    if share in (0, 1):
        raise ValueError(f"share must be neither 0 nor 1, got {share:g}: one of the two units would be idle")
    if not abs(share) < 1e100:
        raise ValueError(f"share must be below 1e100 in size, got {share:g}: its square must be a number")
    if unit >= width:
        raise ValueError(f"unit must be one of 0 to {width - 1}, got {unit}")
    small = described(network, data, 0.0)[0]
    whole = np.eye(small.dim)
    tree = small.landscape.vector(jnp.asarray(minimum(small.landscape, whole, np.asarray(small.start)))).tree
    (w, b), (v, c) = ((np.asarray(layer.weight), np.asarray(layer.bias)) for layer in tree.layers)
    halves = np.concatenate([v, (1 - share) * v[:, [unit]]], axis=1)
    halves[:, unit] *= share
    wide = resized(network, widths(network, +1), (np.r_[w, w[[unit]]], np.r_[b, b[unit]], halves, c))
    task, layout = described(wide, data, 0.0)
    rows, length = np.eye(task.dim), np.hypot(share, 1 - share)
    (first_in, first_out), (second_in, second_out) = layout.unit(unit), layout.unit(width)
    apart = ((1 - share) * rows[first_in] - share * rows[second_in]) / length
    basis = np.concatenate([apart, (rows[first_out] - rows[second_out]) / np.sqrt(2)])
    theta = np.asarray(task.start)
    block = hessian_block(task, layout, activation, theta, 0.0, unit, (1 - share) / length**2)
    block[-1], block[:, -1] = 0, 0  # along the line of all s; C = 0, as the small network's gradient in u is v C
    return _saddle("split_unit", task, theta, basis, block, share == 0.5)


def linear_origin(data: Split, depth: int = 2, width: int | None = None) -> Saddle:
    """A deep linear network f(x) = W_depth … W₁ x with all weights zero, under half the mean squared error.

        Hessian at depth 2: eigenvalues ±σₖ(mean y xᵀ), each `width` times, and 0;   at depth ≥ 3: 0 throughout

    The gradient vanishes on every minibatch. At depth ≥ 3 the loss still falls in some directions, as a power.

    Args:
        data: x of shape (n, inputs), y real, of shape (n, outputs)
        depth: number of matrices, at least 2
        width: of the hidden layers; as many as inputs if not given
    Returns:
        Saddle whose transverse directions are all
    Raises:
        ValueError: if the depth is below 2, or shapes do not fit
    """
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    x, y = np.asarray(data.x, float), np.asarray(data.y, float)
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(f"x and y must have shapes (n, inputs) and (n, outputs), got {x.shape} and {y.shape}")
    width = x.shape[1] if width is None else checks.count("width", width, at_least=1)
    depth = checks.count("depth", depth, at_least=2)
    dim = (depth - 2) * width**2 + width * (x.shape[1] + y.shape[1])
    memory.check_memory(memory.array_bytes(3, dim, dim), "the Hessian", "take a smaller `width` or `depth`")
    network = MLP((x.shape[1], *[width] * (depth - 1), y.shape[1]), jax.random.key(0), activation=_identity)
    bare = eqx.tree_at(lambda n: [layer.bias for layer in n.layers], network, [None] * depth)
    task = regressor(jax.tree.map(lambda leaf: 0 * leaf if eqx.is_inexact_array(leaf) else leaf, bare), data)
    block = np.zeros((task.dim, task.dim))
    if depth == 2:
        into, out = (layer.weight for layer in task.landscape.form.numbers().layers)
        for unit in range(width):
            block[np.ix_(out[:, unit], into[unit])] = -y.T @ x / len(x)
        block = block + block.T
    return _saddle("linear_origin", task, np.asarray(task.start), np.eye(task.dim), block, True)


# --- the parts ------------------------------------------------------------------------------------------------


def _identity(x):
    return x


def _saddle(construction: str, task: Task, theta: Any, basis: np.ndarray, block: np.ndarray, kept: bool) -> Saddle:
    """The record; for classes the basis is turned so that the last direction raises all scores alike."""
    acted_on = len(basis)
    if isinstance(task, Classifier):
        outputs = len(task.landscape.form.numbers().layers[-1].bias)
        turn = scipy.linalg.block_diag(np.eye(acted_on - outputs), scipy.linalg.helmert(outputs, full=True)[::-1])
        basis, block, acted_on = turn @ basis, turn @ block @ turn.T, acted_on - 1
    return Saddle(construction, task, np.asarray(theta), basis, block, kept, acted_on)
