"""Modules of PyTorch as tasks: converted once, compared with PyTorch's own numbers, and run by JAX from then on."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, precision
from flatdyn.networks.data import Split
from flatdyn.networks.elsewhere import operations, optional
from flatdyn.networks.elsewhere.functions import first_sentence, of_forward
from flatdyn.networks.elsewhere.running import in_precision
from flatdyn.networks.training.tasks import Task, check_data

_COMPARED = 8  # examples on which outputs and gradients are compared with PyTorch's
_TOLERANCE = {"float64": 1e-6, "float32": 2e-5}  # some modules round to 32 bits on the way; a wrong formula is far off
_ONE_AT_A_TIME = threading.RLock()  # a module holds its parameters while it runs


def from_torch(module: Any, data: Split, loss: str | Callable = "cross_entropy", *, weight_decay: float = 0.0) -> Task:
    """The landscape of a PyTorch module, over those of its parameters that require a gradient.

        L(θ) = (1/n) Σᵢ ℓ(f(xᵢ; θ), yᵢ) + ½ λ ‖θ‖²

    The package tojax converts the module. Outputs and gradients for the first 8 examples are then compared with those
    of PyTorch, so that a version that was not tested is no risk; a module that differs is refused, with the versions.
    The one given is copied, and stays as it is. θ holds the parameters in the order of their names in alphabet:
    `task.landscape.vector(theta).tree` is {name: array}, for `load_state_dict`. Masks are such dictionaries too.

    The mode of each layer is kept. BatchNorm in training mode normalises a minibatch by itself, and to evaluate a
    network takes mean and variance of the training data at its weights, as flatdyn's own does, with the variance over
    n; PyTorch would take running averages of the minibatches', over n − 1. In evaluation mode (`module.eval()`) its
    running averages stay as they are, in training too. Dropout must be in evaluation mode: a landscape holds no chance.

    Args:
        module: a `torch.nn.Module` that takes a batch
        data: training data as the module takes it, so images as (n, channels, height, width); a tuple of arrays for
            several arguments
        loss: as for :func:`task`
        weight_decay: λ ≥ 0
    Returns:
        Classifier, Regressor, or a Task whose metric is the loss
    Raises:
        ImportError: if torch or tojax are not installed
        TypeError: if it is no module
        ValueError: if the module draws random numbers, cannot be converted, or differs from PyTorch's
    """
    torch = optional.needed("torch", "from_torch")
    checks.kind("module", module, torch.nn.Module, "a network of PyTorch; a function of JAX goes to networks.task")
    optional.needed("tojax", "from_torch")
    check_data(data)
    _check_modes(torch, module)
    converted = _Converted(torch, module)
    if not converted.parameters:
        raise ValueError("module has no parameter that requires a gradient")
    few = jax.tree.map(lambda leaf: np.asarray(leaf)[:_COMPARED], data.x)
    _compare(torch, module, converted, few)
    parameters = in_precision(jax.tree.map(jnp.asarray, converted.parameters), precision.floating())
    return of_forward(converted.forward, parameters, data, loss, weight_decay, type(module).__name__)


def _check_modes(torch: Any, module: Any) -> None:
    """Raise ValueError if a layer that draws random numbers is in training mode."""
    for name, layer in module.named_modules():
        share = getattr(layer, "p", getattr(layer, "dropout", 0))
        drawing = isinstance(share, float) and share > 0 and "dropout" in type(layer).__name__.lower()
        drawing |= isinstance(layer, torch.nn.MultiheadAttention | torch.nn.RNNBase) and bool(share)
        if layer.training and drawing:
            raise ValueError(
                f"module draws random numbers in {name or 'itself'} ({type(layer).__name__}), and a landscape holds no "
                "chance: call module.eval(), or .eval() of that layer, or set its p to 0"
            )


class _Converted:
    """A copy of a module without parameters and buffers of its own, which are put into it for each pass.

    Attributes:
        parameters: what is trained, by name; NumPy arrays
    """

    def __init__(self, torch: Any, module: Any):
        self._torch, self._module = torch, copy.deepcopy(module)
        self._places: dict[str, list] = {}  # a tensor may be shared
        self.parameters: dict[str, np.ndarray] = {}
        self._fixed: dict[str, np.ndarray] = {}
        names: dict[int, str] = {}
        for path, layer in self._module.named_modules():
            tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
            for attribute, tensor in tensors:
                name = names.setdefault(id(tensor), f"{path}.{attribute}" if path else attribute)
                self._places.setdefault(name, []).append((layer, attribute))
                trained = isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad
                value = tensor.detach().cpu()
                value = value.double() if value.is_floating_point() else value  # NumPy has no bfloat16
                (self.parameters if trained else self._fixed)[name] = value.numpy()
        for layer, attribute in (place for places in self._places.values() for place in places):
            delattr(layer, attribute)  # a plain attribute takes its place, which may hold an array of JAX

    def forward(self, tree: Any, x: Any, statistics: Any = None) -> tuple:
        """Outputs and statistics of BatchNorm, as in :class:`Task`."""
        fixed = in_precision(jax.tree.map(jnp.asarray, self._fixed), jax.tree.leaves(tree)[0].dtype)
        norm = operations.Normalizing(statistics)
        run = optional.needed("tojax", "from_torch").tojax(lambda tensors, x: self._pass(tensors, x, norm))
        with _ONE_AT_A_TIME:
            outputs = run({**fixed, **tree}, x if isinstance(x, tuple) else (x,))
        return outputs, norm.used

    def _pass(self, tensors: dict, x: tuple, norm: operations.Normalizing) -> Any:
        """Outputs, in the converter's mode."""
        try:
            for name, tensor in tensors.items():
                for layer, attribute in self._places[name]:
                    setattr(layer, attribute, tensor)
            with _corrected(self._torch, norm):
                return self._module(*x)
        finally:
            for layer, attribute in (place for places in self._places.values() for place in places):
                setattr(layer, attribute, None)


def _corrected(torch: Any, norm: operations.Normalizing) -> Any:
    """Within it PyTorch's operations that the converter lacks are those of :mod:`operations`."""
    functional = torch.nn.functional
    rules = {functional.gelu: operations.gelu, functional.batch_norm: norm}
    rules |= {torch.prelu: operations.prelu, functional.prelu: operations.prelu}
    rules |= {function: operations.convolution(1) for function in (torch.conv1d, functional.conv1d)}
    rules |= {function: operations.convolution(3) for function in (torch.conv3d, functional.conv3d)}
    for axes in (1, 2, 3):
        rules[getattr(functional, f"avg_pool{axes}d")] = operations.average_pool(axes)
        rules[getattr(functional, f"adaptive_avg_pool{axes}d")] = operations.adaptive_average_pool(axes)

    class Corrected(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            held = [a for a in args if isinstance(getattr(a, "data", None), jax.Array)]
            rule = rules.get(function)
            if rule is None or not held:
                return function(*args, **kwargs)
            args, kwargs = jax.tree.map(_array, (args, kwargs), is_leaf=_is_held)
            return type(held[0])(rule(*args, **kwargs))

    return Corrected()


def _is_held(value: Any) -> bool:
    return isinstance(getattr(value, "data", None), jax.Array)


def _array(value: Any) -> Any:
    """The array that the converter's stand-in for a tensor holds; anything else as it is."""
    return value.data if _is_held(value) else value


def _compare(torch: Any, module: Any, converted: _Converted, x: Any) -> None:
    """Raise ValueError if outputs, or gradients of a random sum of them, are not those of PyTorch."""
    kind = precision.floating()
    own = copy.deepcopy(module).cpu().to(torch.float64 if kind == np.float64 else torch.float32)
    x = jax.tree.map(lambda leaf: leaf.astype(kind) if leaf.dtype.kind == "f" else leaf, x)
    arguments = [torch.from_numpy(np.ascontiguousarray(leaf)) for leaf in (x if isinstance(x, tuple) else (x,))]
    before = {name: buffer.clone() for name, buffer in own.named_buffers()}
    try:
        outputs = own(*arguments)
    except Exception as error:  # whatever a module of the user's raises
        raise ValueError(
            f"module fails in PyTorch for the first {len(arguments[0])} inputs, of shape {tuple(arguments[0].shape)}: "
            f"see the error above"
        ) from error
    if not isinstance(outputs, torch.Tensor) or not outputs.is_floating_point() or len(outputs) != len(arguments[0]):
        raise ValueError(f"module must return one tensor (n, ...) of real numbers, got {type(outputs).__name__}")
    for name, buffer in own.named_buffers():
        layer = own.get_submodule(name.rpartition(".")[0])
        if not (torch.equal(buffer, before[name]) or hasattr(layer, "num_batches_tracked")):
            raise ValueError(
                f"module changes its buffer {name} in a pass, and only the averages of BatchNorm can be taken from the "
                "training data: call module.eval()"
            )
    weights = np.random.default_rng(0).normal(size=tuple(outputs.shape)).astype(kind)
    names = {name: own.get_parameter(name) for name in converted.parameters}
    slopes = torch.autograd.grad((outputs * torch.from_numpy(weights)).sum(), list(names.values()), allow_unused=True)
    wanted = [outputs] + [torch.zeros_like(p) if s is None else s for p, s in zip(names.values(), slopes, strict=True)]
    wanted = [tensor.detach().numpy() for tensor in wanted]

    @jax.jit
    def both(parameters, x):
        def total(parameters):
            outputs = converted.forward(parameters, x)[0]
            return (outputs * weights).sum(), outputs

        return jax.grad(total, has_aux=True)(parameters)

    try:
        gradients, outputs = both(in_precision(jax.tree.map(jnp.asarray, converted.parameters), kind), x)
    except Exception as error:  # the converter's, of many classes
        raise ValueError(
            f"module cannot be converted to JAX. It may draw random numbers (call module.eval()), branch on values, or "
            f"use what tojax lacks; {first_sentence(error)}; {optional.versions()}"
        ) from error
    for name, mine, theirs in zip(
        ("outputs", *names), (outputs, *(gradients[name] for name in names)), wanted, strict=True
    ):
        mine = np.asarray(mine)
        off = np.max(np.abs(mine - theirs), initial=0) if mine.shape == theirs.shape else np.inf
        if not off <= _TOLERANCE[kind.name] * (1 + np.max(np.abs(theirs), initial=0)):
            raise ValueError(
                f"module, converted to JAX, is another: {name if name == 'outputs' else f'the gradient in {name}'} "
                f"differs by {off:.2g} from PyTorch's. A layer of it is not converted rightly, which only a smaller "
                f"module would tell; {optional.versions()}"
            )
