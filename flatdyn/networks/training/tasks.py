"""A network on data as a landscape: the loss over all examples, which minibatches sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, generator, memory, precision, randomness
from flatdyn.core.renaming import renamed_attribute
from flatdyn.landscapes import Landscape
from flatdyn.networks.data import Split
from flatdyn.networks.models import Network
from flatdyn.networks.models.base import in_columns

_EVALUATED_AT_ONCE = 1024  # examples: what activations of a convolutional network leave room for
_SEEN = 4096  # training examples: BatchNorm's means and variances are known from them to a per cent or two


class Task(eqx.Module):
    """A network and its data, as a landscape over the network's parameters.

    Attributes:
        landscape: mean loss over the training data; :class:`flatdyn.noise.FiniteSum` samples it in minibatches
        forward: (parameters as a tree, inputs (n, ...), statistics or None) -> outputs (n, ...), statistics
        start: coordinates of the network as it was given, shape (dim,)
    """

    landscape: Landscape
    forward: Callable
    start: jax.Array

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.landscape.dim

    def coordinates(self, network: Any) -> jax.Array:
        """θ of a network like the one given, shape (dim,): an Equinox module, or the tree of its parameters."""
        if self._of_module:
            checks.kind("network", network, eqx.Module, "a network like the one that the task was made with")
            network = eqx.filter(network, eqx.is_inexact_array)
        return self.landscape.flatten(network)

    @property
    def _of_module(self) -> bool:
        """Whether the parameters are those of an Equinox module, not a tree of another kind."""
        return isinstance(self.landscape.form.numbers(), eqx.Module)

    def on(self, data: Split) -> Task:
        """The same network on other training data of the same shapes, which need no compiled programs of their own.

        Raises:
            ValueError: if inputs or labels have other shapes or types, or labels are no classes of the data before
        """
        checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
        old, new = self.landscape.examples, (jax.tree.map(_column, data.x), data.y)
        forms = [jax.tree.map(lambda leaf: (np.shape(leaf), np.asarray(leaf).dtype.kind), both) for both in (old, new)]
        if forms[0] != forms[1]:
            raise ValueError(f"data must have the shapes and types of the training data, {forms[0]}, got {forms[1]}")
        y, classes = np.asarray(data.y), np.asarray(old[1])
        if y.dtype.kind in "iu" and (y.min() < 0 or y.max() > classes.max()):
            raise ValueError(
                f"labels must be from 0 to {classes.max()}, as in the training data, got {y.min()} to {y.max()}"
            )
        new = jax.tree.map(lambda leaf, like: precision.on_device(leaf).astype(like.dtype), new, old)
        return eqx.tree_at(lambda task: task.landscape.examples, self, new)

    def starts(self, make: Callable[[jax.Array], Any], key: jax.Array, runs: int) -> jax.Array:
        """θ of networks with weights of their own, shape (runs, dim): `make` builds one, or its parameters, from a key.

        Run r has the key `jax.random.fold_in(key, r)`, so that more runs leave the first as they were.
        """
        checks.function("make", make, "a function from a key to a network", 1)
        checks.key(key)
        runs = checks.count("runs", runs, at_least=1)
        needed = memory.array_bytes(2, runs, randomness.room(self.dim), itemsize=self.start.dtype.itemsize)
        memory.check_memory(0, "the networks", "make fewer `runs`", device=needed)
        each = generator.folded(key, runs)
        return jax.vmap(lambda one: self._made(make, one))(each)

    def _made(self, make: Callable, key: jax.Array) -> jax.Array:
        """Coordinates of a network that `make` builds."""
        network = checks.called("make", make, key)
        if self._of_module and not isinstance(network, eqx.Module):
            raise TypeError(f"make must return a network like the one of the task, got {checks.shown(network)}")
        try:
            return self.coordinates(network)
        except ValueError as error:
            raise ValueError(f"make must return parameters like the task's: {error}") from None

    def scores(self, theta: Any, x: Any) -> jax.Array:
        """Outputs of the network, shape (n, ...), for inputs (n, ...), at θ, shape (dim,).

        BatchNorm takes its statistics from the training data at this θ, be it an iterate or an average of iterates;
        of more than 4096 training examples from as many, evenly spaced.
        """
        theta = checks.point("theta", theta, self.dim)
        x, (seen, _) = checks.tree("x", x), self.landscape.examples
        if jax.tree.structure(x) != jax.tree.structure(seen):
            raise ValueError(f"x must be inputs in the form of the training data, got {checks.shown(x)}")
        try:
            return _scores(self.forward, self.landscape, jnp.asarray(theta), jax.tree.map(jnp.asarray, x))
        except (TypeError, ValueError) as error:  # of JAX, where shapes do not fit
            shapes = [" and ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(tree)) for tree in (seen, x)]
            raise ValueError(
                f"x must be inputs in the form of the training data, of shape {shapes[0]} but for their number, "
                f"got {shapes[1]}"
            ) from error

    def evaluate(self, theta: Any, data: Split) -> np.ndarray:
        """The :attr:`metric` of θ, shape (..., dim), on data, shape (...)."""
        theta = checks.coordinates("theta", theta, self.dim, finite=True)
        checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
        theta = jnp.asarray(theta)
        sums = _evaluated(self, theta.reshape(-1, theta.shape[-1]), jax.tree.map(jnp.asarray, data))
        return np.asarray(sums).reshape(theta.shape[:-1]) / np.size(data.y)

    def metric_sum(self, theta: jax.Array, data: Split) -> jax.Array:
        """Sum of the metric over data at θ, shape (dim,): `evaluate` divides it by their number; for compiled code."""
        return self.example_metric(_scores(self.forward, self.landscape, theta, data.x), data.y).sum()

    def loss(self, theta: jax.Array) -> jax.Array:
        """Training loss at θ, shape (dim,), on at most 4096 examples, evenly spaced; for compiled code."""
        return self.landscape.batch(_some(self.landscape.number)).loss(theta)

    @property
    def metric(self) -> str:
        """Name of the metric that `evaluate` gives."""
        raise NotImplementedError

    def example_metric(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """The metric of each output and its label, an array like y; :attr:`metric` is its mean."""
        raise NotImplementedError

    judge = renamed_attribute("evaluate")
    mark = renamed_attribute("example_metric")
    measure = renamed_attribute("metric")
    total = renamed_attribute("metric_sum")


class Classifier(Task):
    """A network that classifies; its loss is the mean cross-entropy. See :func:`classifier`."""

    metric = "accuracy"

    def example_metric(self, outputs, y):
        return outputs.argmax(axis=-1) == y

    def accuracy(self, theta: Any, data: Split) -> np.ndarray:
        """Share of the examples whose largest score is that of their label; theta of shape (..., dim)."""
        return self.evaluate(theta, data)

    def border(self, theta: Any, reach: float = 1.0, resolution: int = 200) -> np.ndarray:
        """Length of the border between the classes in the plane, the shorter the smoother the classifier.

            (pairs of neighbours with different classes) / resolution,   on a grid over |x₁|, |x₂| ≤ reach

        in sides of that square, as a taxi drives: a straight border across it has length 1 if it runs along an axis,
        and 2 on the diagonal.

        Args:
            theta: parameters, shape (..., dim)
            reach: half the side of the square
            resolution: points on a side
        Returns:
            array (...)
        """
        theta = checks.coordinates("theta", theta, self.dim, finite=True)
        (reach,) = checks.floats(reach=reach)
        reach = checks.number("reach", reach, above=0)
        checks.in_range("reach", np.asarray(reach))
        resolution = checks.count("resolution", resolution, 2)
        memory.check_memory(memory.array_bytes(8, resolution, resolution), "the grid", "take a smaller `resolution`")
        theta, side = jnp.asarray(theta), np.linspace(-reach, reach, resolution)
        grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        each = [np.asarray(self.scores(one, grid)).argmax(axis=-1) for one in theta.reshape(-1, theta.shape[-1])]
        labels = np.reshape(each, (-1, resolution, resolution))
        crossed = sum((np.diff(labels, axis=axis) != 0).sum(axis=(1, 2)) for axis in (1, 2))
        return crossed.reshape(theta.shape[:-1]) / resolution


class Regressor(Task):
    """A network that fits numbers; its loss is half the mean squared error. See :func:`regressor`."""

    metric = "mean squared error"

    def example_metric(self, outputs, y):
        return (outputs - y) ** 2


def classifier(network: eqx.Module, data: Split, weight_decay: float = 0.0) -> Classifier:
    """The landscape of a network on labelled data.

        L(θ) = (1/n) Σᵢ −log softmax(f(xᵢ; θ))_{yᵢ} + ½ λ ‖θ‖²

    The decay is in the loss: SAM's ascent and its gradient at the perturbed point see it. In PyTorch they do not, as
    its optimisers add λθ at the unperturbed point. For that leave λ out here and give it to the method,
    `fd.SAM(lr, rho, momentum=0.9, weight_decay=5e-4)`. Without an ascent both are the same.

    Args:
        network: from a batch of inputs to the scores of the classes, or any Equinox module that maps one input
        data: training data; labels (n,), or (n, …) for scores (n, …, classes), such as the next token at every place
        weight_decay: λ ≥ 0
    Raises:
        ValueError: if weight_decay is below zero, or the labels are not whole numbers from 0 to below the number of
            classes, one for each row of scores
    """
    _check(network, data)
    return Classifier(*_described(network, *cross_entropy(data), weight_decay))


def regressor(network: eqx.Module, data: Split, weight_decay: float = 0.0) -> Regressor:
    """The landscape of a network that fits numbers.

        L(θ) = (1/n) Σᵢ ½ ‖f(xᵢ; θ) − yᵢ‖² + ½ λ ‖θ‖²

    Args:
        network: from a batch of inputs to outputs (n, ...), or any Equinox module that maps one input
        data: training data; y of the outputs' shape
        weight_decay: λ ≥ 0, in the loss; for PyTorch's see :func:`classifier`
    Raises:
        ValueError: if weight_decay is below zero, or y does not have the shape of the outputs
    """
    _check(network, data)
    return Regressor(*_described(network, *half_square(data), weight_decay))


def cross_entropy(data: Split) -> tuple[Split, Callable, Callable]:
    """Data with labels as numbers, the loss of scores and labels, and a check that scores fit the labels."""
    y = np.asarray(data.y)
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.ndim == 0 or not y.size or y.min() < 0:
        raise ValueError(f"labels must be whole numbers from 0, one per input, got {y.dtype} of shape {y.shape}")

    def entropy(scores, y):
        # A sum over all classes of which one is left: its gradient is a difference, where that of an index scatters.
        scores, axis = (scores.T, 0) if in_columns(scores) else (scores, -1)
        of_label = jax.nn.one_hot(y, scores.shape[axis], axis=axis, dtype=bool)
        return -jnp.where(of_label, jax.nn.log_softmax(scores, axis), 0).sum(axis=axis).mean()

    def fit(scores):
        if scores.shape[:-1] != y.shape or y.max() >= scores.shape[-1]:
            raise ValueError(
                f"labels of shape {y.shape} up to {y.max()} do not fit scores of shape {scores.shape}: one class a row"
            )

    return Split(data.x, y), entropy, fit


def half_square(data: Split) -> tuple[Split, Callable, Callable]:
    """Data, the loss of outputs and y, half the mean squared error, and a check that outputs have y's shape."""
    y = jnp.asarray(data.y, precision.floating())

    def loss(outputs, y):
        return ((outputs - y) ** 2).sum() / (2 * len(y))

    def fit(outputs):
        if outputs.shape != y.shape:
            raise ValueError(f"y must have the shape of the outputs, {outputs.shape}, got {y.shape}")

    return data, loss, fit


def _check(network: Any, data: Any) -> None:
    """Raise TypeError unless this is an Equinox module, and data; frameworks with modules of their own differ."""
    if not isinstance(network, eqx.Module) or not (isinstance(network, Network) or callable(network)):
        raise TypeError(
            "network must be a flatdyn.networks.Network or an Equinox module that can be called, "
            f"got {checks.shown(network)}: any other goes through networks.task(apply, params, data)"
        )
    check_data(data)


def check_data(data: Any) -> None:
    """Raise TypeError or ValueError unless this is a Split of arrays of numbers."""
    checks.kind("data", data, Split, "flatdyn.networks.Split(x, y)")
    for leaf in jax.tree.leaves(tuple(data)):
        if np.asarray(leaf).dtype.kind != "b":  # masks are data too
            checks.entries("data", leaf, "a Split of arrays of numbers")


def _described(network: eqx.Module, data: Split, error: Callable, fit: Callable, weight_decay: float) -> tuple:
    """Landscape, forward and start of a task of an Equinox module."""
    parameters, rest = eqx.partition(network, eqx.is_inexact_array)

    def forward(tree, x, statistics=None):
        whole = eqx.combine(tree, rest)
        return whole.forward(x, statistics) if isinstance(whole, Network) else (jax.vmap(whole)(x), None)

    return described(forward, parameters, data, error, fit, weight_decay, type(network).__name__)


def described(
    forward: Callable, parameters: Any, data: Split, error: Callable, fit: Callable, weight_decay: float, name: str
) -> tuple:
    """Landscape, forward and start of a task with the loss error(outputs, y) + ½ λ ‖θ‖².

    Args:
        forward: as in :class:`Task`
        parameters: a tree of floating-point arrays
        fit: raises an error if outputs, given as shapes, do not fit y
        name: of the landscape
    """
    weight_decay = checks.number("weight_decay", weight_decay, at_least=0, one=True)
    checks.in_range("weight_decay", weight_decay)
    x = jax.tree.map(_column, data.x)
    lengths = {len(leaf) for leaf in jax.tree.leaves((x, data.y))}
    if len(lengths) != 1:
        raise ValueError(f"inputs and labels must be as many, one label per input, got {sorted(lengths)}")

    def loss(tree, batch):
        x, y = batch
        misfit = error(forward(tree, x)[0], y)
        return misfit + decay(tree, weight_decay) if weight_decay else misfit

    fit(jax.eval_shape(forward, parameters, x)[0])
    landscape = Landscape.from_examples(loss, (x, data.y), like=parameters, batched=True, name=name)
    return landscape, forward, landscape.flatten(parameters)


def decay(tree: Any, weight_decay: Any) -> jax.Array:
    """The penalty ½ λ ‖θ‖² of parameters as a tree."""
    return weight_decay / 2 * sum((leaf**2).sum() for leaf in jax.tree.leaves(tree))


def _column(leaf: Any) -> jax.Array:
    """An array of inputs: real numbers in the precision of the session, tokens and other whole numbers as they are."""
    leaf = precision.on_device(leaf)
    return leaf.astype(precision.floating()) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _like(theta: jax.Array, tree: Any) -> Any:
    """Inputs in the precision of θ."""
    return jax.tree.map(lambda x: x.astype(theta.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


@eqx.filter_jit
def _scores(forward: Callable, landscape: Any, theta: jax.Array, x: Any) -> jax.Array:
    tree, (seen, _) = landscape.vector(theta).tree, landscape.examples
    some = _some(landscape.number)
    statistics = forward(tree, _like(theta, jax.tree.map(lambda leaf: leaf[some], seen)))[1]
    x, number = _like(theta, x), len(jax.tree.leaves(x)[0])
    if number <= _EVALUATED_AT_ONCE:
        return forward(tree, x, statistics)[0]
    blocks = -(-number // _EVALUATED_AT_ONCE)
    # The last examples are evaluated twice rather than with a program of their own.
    firsts = jnp.minimum(jnp.arange(blocks) * _EVALUATED_AT_ONCE, number - _EVALUATED_AT_ONCE)

    def block(first):
        some = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, _EVALUATED_AT_ONCE), x)
        return forward(tree, some, statistics)[0]

    rows = jax.lax.map(block, firsts)
    last = number - (blocks - 1) * _EVALUATED_AT_ONCE
    return jnp.concatenate([rows[:-1].reshape(-1, *rows.shape[2:]), rows[-1, -last:]])


@eqx.filter_jit
def _evaluated(task: Task, theta: jax.Array, data: Split) -> jax.Array:
    return jax.lax.map(lambda one: task.metric_sum(one, data), theta)


def _some(number: int) -> np.ndarray:
    """Which training examples stand for all."""
    return np.arange(0, number, -(-number // _SEEN))
