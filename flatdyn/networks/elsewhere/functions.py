"""A function of parameters and inputs, from any package that writes networks for JAX, as a task."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.networks.data import Split
from flatdyn.networks.elsewhere.running import Running, check_state, in_precision
from flatdyn.networks.training.tasks import Classifier, Regressor, Task, check_data, cross_entropy, described
from flatdyn.networks.training.tasks import half_square as half_square_of

LOSSES = ("cross_entropy", "square")
_CHECKED = 8  # examples on which it is asked how the state moves


class LossTask(Task):
    """A network with a loss of the user's. Its metric is that loss.

    Attributes:
        error: (outputs, y) -> mean over the batch
    """

    error: Callable

    metric = "loss"

    def example_metric(self, outputs, y):
        return jnp.broadcast_to(self.error(outputs, y), y.shape)


def task(
    apply: Callable,
    params: Any,
    data: Split,
    loss: str | Callable = "cross_entropy",
    *,
    state: Any = None,
    train: Callable | None = None,
    key: jax.Array | None = None,
    weight_decay: float = 0.0,
) -> Task:
    """The landscape of a network that is a function of its parameters: Flax, Haiku, Equinox, or a plain tree.

        L(θ) = (1/n) Σᵢ ℓ(f(xᵢ; θ), yᵢ) + ½ λ ‖θ‖²

    How the packages' networks become such functions; x is always a batch, (n, ...):

        Flax nnx     graph, params, state = nnx.split(model, nnx.Param, ...), after model.eval()
                     apply = lambda params, state, x: nnx.merge(graph, params, state)(x)
        Flax linen   apply = lambda params, x: model.apply({"params": params}, x)
        Haiku        apply = hk.without_apply_rng(hk.transform(f)).apply
        Equinox      params, rest = eqx.partition(model, eqx.is_inexact_array)
                     apply = lambda params, x: jax.vmap(eqx.combine(params, rest))(x)

    State is what a network keeps besides parameters, such as the running averages of BatchNorm. Without `train` it
    stays as it is given: the network is in evaluation mode, in training too. With `train` a minibatch is normalised by
    itself, as in flatdyn's own networks, and to evaluate a network its averages are made anew from the training data
    at its weights. (They are read off from how a pass moves the state, s⁺ = m s + (1 − m) b. Packages differ in whether
    b holds the variance with n or n − 1.) A landscape holds no chance: with `key`, a network draws the same random
    numbers at every step, so that dropout leaves out the same places of the batch.

    Args:
        apply: the network in evaluation mode: (params, x) -> outputs (n, ...), or (params, state, x) -> outputs
        params: a tree of floating-point arrays, θ
        data: training data
        loss: "cross_entropy" of scores and labels, as :func:`classifier`; "square", half the mean squared error, as
            :func:`regressor`; or a function (outputs, y) -> the mean over a batch, or a number for each example, (n,)
        state: a tree of arrays, if the network has a state
        train: the network in training mode: (params, x) -> outputs, or (params, state, x) -> (outputs, new state)
        key: of the random numbers that the network draws in training mode; `train` is given it as its last argument
        weight_decay: λ ≥ 0
    Returns:
        Classifier, Regressor, or a Task whose metric is the loss
    Raises:
        TypeError: if a function fails for such arguments, say as it has a state or draws random numbers
        ValueError: if parameters, data or loss do not fit, params holds a state, or a state is no running average
    """
    checks.function("apply", apply, "a function from parameters and inputs to outputs")
    check_data(data)
    if train is not None:
        checks.function("train", train, "a function like apply, in training mode")
    if key is not None:
        key = checks.key(key)
        if train is None:
            raise ValueError("key is for random numbers in training mode: give that as train(params, ..., key) too")
    parameters = _parameters(params)
    forward = _forward(apply, parameters, data, None if state is None else check_state(state), train, key)
    return of_forward(forward, parameters, data, loss, weight_decay, getattr(apply, "__name__", "network"))


def of_forward(
    forward: Callable, parameters: Any, data: Split, loss: str | Callable, weight_decay: Any, name: str
) -> Task:
    """The task of a forward pass as in :class:`Task`, with a loss as in :func:`task`."""
    name = "network" if name == "<lambda>" else name
    if callable(loss):
        error, fit = _of_user(loss, data)
        return LossTask(*described(forward, parameters, data, error, fit, weight_decay, name), error)
    checks.choice("loss", loss, LOSSES)
    kind, parts = (Classifier, cross_entropy) if loss == "cross_entropy" else (Regressor, half_square_of)
    data, error, fit = parts(data)
    return kind(*described(forward, parameters, data, error, fit, weight_decay, name))


# --- the forward pass -----------------------------------------------------------------------------------------


def _forward(apply: Callable, parameters: Any, data: Split, state: Any, train: Callable | None, key: Any) -> Callable:
    """(parameters, x, statistics or None) -> outputs, statistics, as in :class:`Task`; checked on a few examples."""
    last = () if key is None else (key,)
    few = jax.tree.map(lambda leaf: precision.on_device(np.asarray(leaf)[:_CHECKED]), data.x)
    kind = precision.floating()
    few = jax.tree.map(lambda leaf: leaf.astype(kind) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, few)
    if state is None:
        _check_outputs("apply", _called("apply", apply, (parameters, few), "(params, x)"), few)
        _check_evaluating(apply, (parameters,), few)
        if train is None:
            return lambda tree, x, statistics=None: (apply(tree, x), None)
        order = "(params, x, key)" if last else "(params, x)"
        _check_outputs("train", _called("train", train, (parameters, few, *last), order), few)

        def stateless(tree, x, statistics=None):
            return (train(tree, x, *last) if statistics is None else apply(tree, x)), ()

        return stateless
    state = in_precision(state, kind)
    _check_outputs("apply", _called("apply", apply, (parameters, state, few), "(params, state, x)"), few)
    _check_evaluating(apply, (parameters, state), few)
    if train is None:
        return lambda tree, x, statistics=None: (apply(tree, in_precision(state, _kind(tree)), x), None)
    order = "(params, state, x, key)" if last else "(params, state, x)"
    pair = _called("train", train, (parameters, state, few, *last), order)
    if not (isinstance(pair, tuple) and len(pair) == 2 and _same(pair[1], state)):
        raise TypeError(
            "train must return (outputs, new state), with arrays of the same shapes in the same places as in `state`, "
            f"got {_shown(pair)}"
        )
    _check_outputs("train", pair[0], few)
    running = Running.of(lambda tree, state, x: train(tree, state, x, *last), parameters, state, few)

    def forward(tree, x, statistics=None):
        if statistics is not None:
            return apply(tree, statistics, x), statistics
        outputs, new = train(tree, running.empty(_kind(tree)), x, *last)
        return outputs, running.statistics(new)

    return forward


def _kind(tree: Any) -> Any:
    """The type of the parameters' numbers."""
    return jax.tree.leaves(tree)[0].dtype


def _same(new: Any, state: Any) -> bool:
    """Whether two states have the same arrays in the same places; their precision may differ."""
    same = jax.tree.structure(new) == jax.tree.structure(state)
    return same and all(a.shape == b.shape for a, b in zip(*map(jax.tree.leaves, (new, state)), strict=True))


# --- what was given -------------------------------------------------------------------------------------------


def _parameters(params: Any) -> Any:
    """Parameters in the precision of the session.

    Raises:
        ValueError: if they hold a state, or something else than floating-point arrays
    """
    if isinstance(params, Mapping) and "params" in params and len(params) > 1:
        others = ", ".join(sorted(str(name) for name in params if name != "params"))
        raise ValueError(
            f"params holds the collections params and {others}, and what is no parameter must not be trained: give "
            'params=variables["params"], and the others as `state`'
        )
    for leaf in jax.tree.leaves(params, is_leaf=_is_variable):
        names = {kind.__name__ for kind in type(leaf).__mro__}
        if _is_variable(leaf) and "Param" not in names:
            raise ValueError(
                f"params holds a variable of kind {type(leaf).__name__}, which is no parameter: write "
                "graph, params, state = nnx.split(model, nnx.Param, ...) and give the last as `state`"
            )
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise ValueError(f"params must hold at least one array of floating-point numbers, got {checks.shown(params)}")
    for path, leaf in jax.tree.leaves_with_path(params):
        if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            raise ValueError(
                f"params must hold floating-point arrays alone, got {checks.shown(leaf)} at "
                f"{jax.tree_util.keystr(path) or 'the top'}: for an Equinox network take "
                "eqx.partition(network, eqx.is_inexact_array), for nnx nnx.split(model, nnx.Param, ...)"
            )
        checks.reals("params", leaf)
    return in_precision(jax.tree.map(precision.on_device, params), precision.floating())


def _is_variable(leaf: Any) -> bool:
    """Whether this is a variable of Flax nnx, whose class says what it is for."""
    return any(kind.__name__ == "Variable" and kind.__module__.startswith("flax.nnx") for kind in type(leaf).__mro__)


_RANDOM = re.compile(r"\brng|rngs?\b|prng|requires a key|dropout", re.IGNORECASE)
_STATEFUL = re.compile(
    r"batch_stats|mutable|with_state|\bcollection|ScopeVariableNotFound|no value for '|number of leaves", re.IGNORECASE
)


def _called(name: str, function: Callable, arguments: tuple, order: str) -> Any:
    """What a function of the user's returns, as shapes; an error of any package becomes a sentence with the remedy."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # packages have their own, of many classes
        said = f"{type(error).__name__}: {error}"
        if _RANDOM.search(said):
            why = (
                "draws random numbers, and has no key: switch the network to evaluation mode (deterministic, "
                "inference; in Haiku hk.without_apply_rng), or give its training mode as train(...) and key="
            )
        elif _STATEFUL.search(said):
            why = (
                "has a state that was not declared: give it as `state`, with apply(params, state, x), and if "
                "minibatches shall be normalised by themselves train(params, state, x) -> (outputs, new state)"
            )
        else:
            why = ""
        if why:
            raise TypeError(f"{name} {why}; {first_sentence(error)}") from error
        raise TypeError(
            f"{name} must take {order}, a batch of inputs, and be written for JAX, but it failed: see the error above; "
            f"got {checks.shown(function)}"
        ) from error


def first_sentence(error: Exception) -> str:
    """The first sentence of a package's own message."""
    return f"it said: {re.split(r'[.:] |$', str(error), maxsplit=1, flags=re.MULTILINE)[0].rstrip('.')}"


def _check_outputs(name: str, outputs: Any, x: Any) -> None:
    """Raise TypeError if these are no outputs for a batch."""
    if isinstance(outputs, tuple | list) and len(outputs) == 2:
        raise TypeError(
            f"{name} must return outputs alone, got a pair: if the second is a new state, give the old one as `state`, "
            "and this function as `train`"
        )
    number = len(jax.tree.leaves(x)[0])
    shape = getattr(outputs, "shape", None)
    if shape is None or not jnp.issubdtype(outputs.dtype, jnp.floating) or not shape or shape[0] != number:
        raise TypeError(f"{name} must return an array (n, ...) of real numbers for n inputs, got {_shown(outputs)}")


def _check_evaluating(apply: Callable, known: tuple, x: Any) -> None:
    """Raise ValueError if what the network makes of an example depends on the others in its batch, or on its place."""

    number = len(jax.tree.leaves(x)[0])
    places = sorted({number // 2, number - 1})  # at the first place dropout may leave out what it does for one alone

    @jax.jit
    def both(known, x):
        ones = [jax.tree.map(lambda leaf, at=at: leaf[at : at + 1], x) for at in places]
        return apply(*known, x)[np.array(places)], jnp.concatenate([apply(*known, one) for one in ones])

    together, alone = map(np.asarray, both(known, x))
    rounding = np.sqrt(np.finfo(together.dtype).eps)  # what another order of the sums rounds is far below
    scale = 1 + np.max(np.abs(np.nan_to_num(together)))
    if not np.allclose(together, alone, rtol=0, atol=rounding * scale, equal_nan=True):
        raise ValueError(
            "apply: the outputs for an example depend on the others of its batch, as in training mode (BatchNorm by "
            "the minibatch, dropout): give the evaluation mode as `apply`, and this one as `train`"
        )


def _shown(outputs: Any) -> str:
    """What a function returned, given as shapes, for a message."""
    if isinstance(outputs, jax.ShapeDtypeStruct):
        return f"an array of shape {outputs.shape} and type {outputs.dtype}"
    if isinstance(outputs, tuple):
        return f"({', '.join(map(_shown, outputs))})"
    return checks.shown(outputs)


def _of_user(loss: Callable, data: Split) -> tuple[Callable, Callable]:
    """The mean over a batch of a loss of the user's, and a check of outputs, given as shapes."""
    checks.function("loss", loss, "a function (outputs, y) -> the mean over the batch, or one number an example", 2)
    number = len(np.asarray(data.y))

    def error(outputs, y):
        return loss(outputs, y).mean()

    def fit(outputs):
        y = jax.ShapeDtypeStruct(np.shape(data.y), precision.on_device(np.asarray(data.y)[:1]).dtype)
        shape = checks.traced("loss", loss, outputs, y, what="a function (outputs, y) of arrays (n, ...)")
        if getattr(shape, "shape", None) not in ((), (number,)) or not jnp.issubdtype(shape.dtype, jnp.floating):
            raise ValueError(
                f"loss must return the mean over a batch, or a number for each of its {number} examples, "
                f"got {_shown(shape)}"
            )
        if shape.shape == ():
            _check_mean(loss, outputs, np.asarray(data.y)[:2])

    return error, fit


def _check_mean(loss: Callable, outputs: Any, y: np.ndarray) -> None:
    """Raise ValueError if the loss of a batch taken twice is another: it is a sum then, and no mean."""
    some = np.random.default_rng(0).uniform(0.2, 0.8, (len(y), *outputs.shape[1:]))
    once, twice = (float(loss(*(jnp.asarray(np.repeat(a, times, 0)) for a in (some, y)))) for times in (1, 2))
    if np.isfinite(once) and np.isfinite(twice) and abs(twice - once) > 1e-3 * abs(once):
        raise ValueError(
            "loss must return the mean over a batch, not a sum: for a batch taken twice it is "
            f"{twice / once:.3g} times as large"
        )
