"""What a transformation of optax wants and holds, asked of it once, before any step is taken.

A transformation is two functions, so what it needs shows only when it is tried: on shapes, without a number computed.
:func:`examined` does so for parameters of one form, and says what does not fit in words of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.core.randomness import split

OFFERED = ("value", "grad", "value_fn", "grad_fn", "obj_fn")  # what `update` is given besides, where it wants it


# What a function that does not fit raises while it is traced; JAX's own errors are among them.
_FAULTS = (ValueError, TypeError, AttributeError, LookupError, NotImplementedError, AssertionError, ArithmeticError)


class OwnKey(eqx.Module):
    """In a state the place of a JAX key: a run's key at a step takes it, so there is nothing to keep."""

    shape: tuple[int, ...] = eqx.field(static=True)
    typed: bool = eqx.field(static=True)

    def filled(self, key: jax.Array) -> jax.Array:
        """One key, or several, in the form in which the transformation holds them."""
        keys = jax.random.split(key, self.shape) if self.shape else key
        return keys if self.typed else jax.random.key_data(keys)


class Unbounded(eqx.Module):
    """In a state the place of a number that starts as infinity or NaN, such as the best loss so far; kept as its bits.

    What is not finite in a state ends a run, and of such numbers that says nothing.
    """

    bits: jax.Array
    kind: str = eqx.field(static=True)

    @staticmethod
    def of(value: jax.Array) -> Unbounded:
        """A floating-point number or array of them."""
        return Unbounded(jax.lax.bitcast_convert_type(value, f"uint{8 * value.dtype.itemsize}"), value.dtype.name)

    @property
    def value(self) -> jax.Array:
        """The numbers."""
        return jax.lax.bitcast_convert_type(self.bits, self.kind)


def _is_place(node: Any) -> bool:
    return isinstance(node, OwnKey | Unbounded)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a transformation on parameters of one form.

    Attributes:
        dtypes: of the leaves of its state, after the first step as before it
        keys: which leaves are keys, as their places
        unbounded: which leaves start as infinity or NaN
        extras: names of further arguments that it takes
        wants_value: whether it looks at the loss's value
        calls: which functions among the further arguments it calls
        two_points: whether it moves a pair of slow and fast parameters (lookahead)
        averages: how many schedule-free averages it holds
    """

    dtypes: tuple[Any, ...]
    keys: dict[int, OwnKey]
    unbounded: frozenset[int]
    extras: tuple[str, ...]
    wants_value: bool
    calls: frozenset[str]
    two_points: bool
    averages: int

    def packed(self, state: Any) -> Any:
        """A state of the transformation as a run keeps it: arrays of settled types, places instead of keys."""
        leaves, tree = jax.tree.flatten(state)

        def kept(i: int, leaf: Any) -> Any:
            if i in self.keys:
                return self.keys[i]
            leaf = jnp.asarray(leaf).astype(self.dtypes[i])
            return Unbounded.of(leaf) if i in self.unbounded else leaf

        return jax.tree.unflatten(tree, [kept(i, leaf) for i, leaf in enumerate(leaves)])

    def unpacked(self, kept: Any, key: jax.Array | None) -> Any:
        """The state as the transformation knows it, its keys derived from the run's own key at this step."""
        if self.keys and key is None:
            raise ValueError("transformation draws random numbers: give its step a key, process.step(state, key)")
        keys = iter(split(key, len(self.keys)) if self.keys else ())
        nodes, tree = jax.tree.flatten(kept, is_leaf=_is_place)

        def whole(node: Any, dtype: Any) -> Any:
            if isinstance(node, OwnKey):
                return node.filled(next(keys))
            # a run is looked at in 64 bits, too, where some numbers stay in the precision they were made with
            return jnp.asarray(node.value if isinstance(node, Unbounded) else node).astype(dtype)

        return jax.tree.unflatten(tree, map(whole, nodes, self.dtypes))


def examined(transformation: Any, params: Any) -> Facts:
    """What a transformation wants and holds on parameters of a form, a tree of arrays or of shapes.

    Raises:
        ValueError: if it does not fit them, or wants what a landscape can't give
    """
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), params)
    leaves, tree = jax.tree.flatten(params)
    form = (_watched(transformation.init), tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    known = _known(transformation)
    if form not in known:
        known[form] = _examined(transformation, params)
    return known[form]


def holds_keys(transformation: Any, params: Callable) -> bool:
    """Whether its state holds JAX keys: on the parameters that `params` gives, if it was tried on none before."""
    known = _known(transformation)
    return any(facts.keys for facts in known.values()) if known else bool(examined(transformation, params()).keys)


_KNOWN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # it forgets a transformation that nobody holds


def _known(transformation: Any) -> dict:
    """Facts by form, kept with the function `update`, or the object that has it as a method."""
    update = transformation.update
    try:
        return _KNOWN.setdefault(update if isinstance(update, types.FunctionType) else transformation, {})
    except TypeError:  # it can't be watched: it is asked anew each time
        return {}


def _watched(function: Any) -> weakref.ref | None:
    return weakref.ref(function) if isinstance(function, types.FunctionType) else None


def _examined(transformation: Any, params: Any) -> Facts:
    with _without_warnings():
        try:
            state = jax.eval_shape(transformation.init, params)
            two_points = bool(_states_of(state, "optax", "LookaheadState"))
            both = pair(params, params) if two_points else params
            program, state = jax.make_jaxpr(transformation.init, return_shape=True)(both)
        except _FAULTS as error:
            raise ValueError(
                f"transformation does not fit {_form(params)} (see the error above): masks, labels and other trees in "
                f"it must be like the parameters{_remedy(params)}"
            ) from error
    if any(one.cache is not None for one in _states_of(state, "optax.contrib", "SAMState")):
        raise ValueError(
            "transformation holds optax.contrib.sam in its default mode, whose parameters are the perturbed point in "
            "between: write sam(..., opaque_mode=True), or fd.from_optax(optimizer, follows=fd.SAM(1.0, rho)), or "
            "fd.SAM(lr, rho)"
        )
    leaves, tree = jax.tree.flatten(state)
    keys = {i: place for i, leaf in enumerate(leaves) if (place := _key_place(leaf)) is not None}
    for _ in range(3):  # a state may begin in single precision and go on in double
        extras, wants_value, calls, after = _tried(transformation, params, both, jax.tree.unflatten(tree, leaves))
        new, new_tree = jax.tree.flatten(after)
        if new_tree != tree or [leaf.shape for leaf in new] != [leaf.shape for leaf in leaves]:
            raise ValueError(
                f"transformation changes the form of its state in a step, on {_form(params)}, and a run is a loop over "
                "states of one form: leave out optax.monitor, which does so (observe= of simulate looks at a run), or "
                "write your own with arrays of fixed shapes"
            )
        pairs = enumerate(zip(leaves, new, strict=True))
        dtypes = tuple(a.dtype if i in keys else jnp.promote_types(a.dtype, b.dtype) for i, (a, b) in pairs)
        leaves = [jax.ShapeDtypeStruct(leaf.shape, dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)]
    return Facts(
        dtypes=dtypes,
        keys=keys,
        unbounded=_not_finite(transformation, both, keys) if _says_infinity(program) else frozenset(),
        extras=extras,
        wants_value=wants_value,
        calls=calls,
        two_points=two_points,
        averages=len(_states_of(state, "optax.contrib", "ScheduleFreeState")),
    )


def _remedy(params: Any) -> str:
    single = jax.tree.structure(params) == jax.tree.structure(0)
    words = "; the coordinates of an expression are one array, and from_function(loss, like=tree) has leaves of its own"
    return words if single else ""


class _Untouched:
    """Stands for the loss's value: whoever computes with it fails, which tells that it is wanted."""


def _tried(transformation: Any, params: Any, both: Any, state: Any) -> tuple:
    """Which further arguments `update` takes, whether it wants the value, what it calls, and its next state."""
    names = _accepted(transformation.update)
    for value in (_Untouched(), None):
        calls: set[str] = set()
        while True:
            trial = _trial(transformation, names, value, calls)
            try:
                steps, after = jax.eval_shape(trial, params, both, state)
            except _FAULTS as error:
                word = re.search(r"unexpected keyword argument '(\w+)'", str(error))
                if isinstance(error, TypeError) and word and word[1] in names:
                    names = tuple(name for name in names if name != word[1])
                    continue
                if value is not None and "value" in names:
                    break  # it computes with the value
                raise ValueError(
                    f"transformation can take no step on {_form(params)}, for which see the error above: its update "
                    f"gets the gradient, its state, the parameters, and where it wants them {', '.join(OFFERED)}, but "
                    f"nothing else, and trees in it must be like the parameters{_remedy(params)}"
                ) from error
            if jax.tree.structure(steps) != jax.tree.structure(both) or _shapes(steps) != _shapes(both):
                raise ValueError(
                    f"transformation gives steps of another form than the parameters, {_form(params)}: those that take "
                    "one gradient per example, as differentially_private_aggregate does, have no place on a landscape, "
                    "whose gradient is one"
                )
            return names, value is None and "value" in names, frozenset(calls), after
    raise AssertionError("unreachable: the second trial returns or raises")


def _trial(transformation: Any, names: tuple[str, ...], value: Any, calls: set[str]) -> Callable:
    def square(params: Any) -> jax.Array:
        return sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(params))

    def value_fn(params: Any, grad_fn: Any = None, obj_fn: Any = None) -> jax.Array:
        calls.add("value_fn")
        return square(params)

    def grad_fn(params: Any, *_: Any) -> Any:
        calls.add("grad_fn")
        return params

    def trial(gradient: Any, both: Any, state: Any) -> tuple:
        given = {
            "value": square(gradient) if value is None else value,
            "grad": gradient,
            "value_fn": value_fn,
            "grad_fn": grad_fn,
            "obj_fn": value_fn,
        }
        return transformation.update(gradient, state, both, **{name: given[name] for name in names})

    return trial


def _accepted(update: Callable) -> tuple[str, ...]:
    """Which of the further arguments the signature of `update` admits."""
    try:
        parameters = inspect.signature(update).parameters
    except (TypeError, ValueError):  # a built-in function without one
        return ()
    open_end = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return tuple(name for name in OFFERED if open_end or name in parameters)


def pair(fast: Any, slow: Any) -> Any:
    """Fast and slow parameters as `optax.lookahead` takes them."""
    from optax import LookaheadParams  # loaded, as the transformation is made of it

    return LookaheadParams(fast=fast, slow=slow)


def evaluated(state: Any, params: Any) -> Any:
    """The point at which the loss of a schedule-free optimiser is judged, x = (y − (1 − b₁) z) / b₁."""
    from optax.contrib import schedule_free_eval_params

    return schedule_free_eval_params(_states_of(state, "optax.contrib", "ScheduleFreeState")[0], params)


def _states_of(state: Any, package: str, name: str) -> list:
    """The states of one class in a state; none if optax is not even loaded."""
    kind = getattr(sys.modules.get(package), name, ())
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in nodes if isinstance(node, kind)]


def _key_place(leaf: Any) -> OwnKey | None:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return OwnKey(leaf.shape, typed=True)
    raw = leaf.dtype == jnp.uint32 and leaf.ndim > 0 and leaf.shape[-1] == 2  # as jax.random.PRNGKey makes them
    return OwnKey(leaf.shape[:-1], typed=False) if raw else None


def _says_infinity(program: Any) -> bool:
    """Whether infinity or NaN is written in a program, or may be in what it holds."""
    held = [const for const in program.consts if not checks.is_traced(const)]
    held = [np.asarray(const) for const in held if jnp.issubdtype(const.dtype, jnp.floating)]
    return bool(re.search(r"\b(inf|nan)\b", str(program))) or not all(np.isfinite(const).all() for const in held)


def _not_finite(transformation: Any, both: Any, keys: dict[int, OwnKey]) -> frozenset[int]:
    """Which leaves of a state start as infinity or NaN, tried at θ = 1."""
    try:
        with jax.ensure_compile_time_eval(), _without_warnings():
            start = transformation.init(jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), both))
            return frozenset(
                i
                for i, leaf in enumerate(jax.tree.leaves(start))
                if i not in keys and not checks.is_traced(leaf)
                if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and not np.isfinite(np.asarray(leaf)).all()
            )
    except jax.errors.JAXTypeError:  # a number in it is being traced, of which nothing is known yet
        return frozenset()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Without lookahead's warning that it begins with one point for both, which is what is meant."""
    logger = logging.getLogger("absl")

    def other(record: logging.LogRecord) -> bool:
        return "has no attribute `fast`" not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _shapes(tree: Any) -> list:
    return [leaf.shape for leaf in jax.tree.leaves(tree)]


def _form(params: Any) -> str:
    leaves = jax.tree.leaves(params)
    if jax.tree.structure(params) == jax.tree.structure(0):
        return f"parameters that are one array of shape {leaves[0].shape}"
    shapes = ", ".join(
        f"{jax.tree_util.keystr(path)} {leaf.shape}" for path, leaf in jax.tree.leaves_with_path(params)[:4]
    )
    return f"parameters that are a tree of {len(leaves)} arrays ({shapes}{', ...' if len(leaves) > 4 else ''})"
