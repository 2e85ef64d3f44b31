"""Objects of the right kind, functions, words, flags, keys."""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, Sequence, ValuesView
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel, _SHORT.maxlong = 60, 80, 2, 30


def is_traced(value: Any) -> bool:
    """Whether a value is being traced by JAX, which has no number for it yet."""
    return isinstance(value, jax.core.Tracer)


def any_traced(tree: Any) -> bool:
    """Whether JAX is tracing anything in a tree."""
    return any(map(is_traced, jax.tree.leaves(tree)))


def shown(value: Any) -> str:
    """A value in a few words, for messages."""
    if value is None or isinstance(value, bool | int | float | complex):
        return _SHORT.repr(value)
    if is_traced(value):
        return f"a value of shape {value.shape} that a transformation of JAX passes through"
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "a JAX key" if value.ndim == 0 else f"JAX keys of shape {value.shape}"
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    try:
        words = " ".join((repr(value) if isinstance(value, tuple | str) else _SHORT.repr(value)).split())
    except Exception:  # what an object says of itself may fail, too
        words = f"an object of class {type(value).__name__}"
    words = re.sub(r" at 0x[0-9a-f]+", "", words)
    return words if len(words) <= 100 else f"{words[:60]}... ({type(value).__name__})"


def kind(name: str, value: Any, wanted: type | tuple[type, ...], remedy: str = "") -> Any:
    """Return `value` if it is of a class, else raise TypeError with how to make one.

    Args:
        name: of the argument
        wanted: the class, or several
        remedy: how to make one, if the class does not say so itself by its attribute `made_by`
    """
    if isinstance(value, wanted):
        return value
    classes = wanted if isinstance(wanted, tuple) else (wanted,)
    remedy = remedy or next((one.made_by for one in classes if hasattr(one, "made_by")), "")
    words = " or ".join(f"{'an' if one.__name__[0] in 'AEIOU' else 'a'} {one.__name__}" for one in classes)
    raise TypeError(f"{name} must be {words}, got {shown(value)}{': write ' + remedy if remedy else ''}")


def function(name: str, value: Any, what: str = "a function", number: int | None = None) -> Any:
    """Return `value` if it can be called, with `number` arguments if given, else raise TypeError saying what it is."""
    if not callable(value):
        raise TypeError(f"{name} must be {what}, got {shown(value)}")
    if number is not None:
        try:
            takes = inspect.signature(value)
        except (TypeError, ValueError):  # a built-in function without one
            return value
        try:
            takes.bind(*[None] * number)
        except TypeError:
            raise TypeError(f"{name} must be {what}, got {shown(value)}, which takes {takes}") from None
    return value


def traced(name: str, value: Callable, *shapes: Any, what: str = "a JAX function") -> Any:
    """What a user's function returns for arrays of such shapes, as shapes; TypeError if JAX can't follow it."""
    function(name, value, what)
    try:
        return jax.eval_shape(value, *shapes)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        why = "it needs the values of its argument" if isinstance(error, jax.errors.JAXTypeError) else "it failed"
        given = ", ".join(str(tuple(leaf.shape)) for leaf in jax.tree.leaves(shapes))
        raise TypeError(
            f"{name} must be {what}, written with jax.numpy, but for an argument of shape {given} {why}: "
            f"see the error above; got {shown(value)}"
        ) from error


def called(name: str, value: Callable, *arguments: Any) -> Any:
    """What a user's function returns for some arguments; a ValueError or TypeError of its own says in which it was."""
    try:
        return value(*arguments)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        at = ", ".join(map(shown, arguments))
        early = isinstance(error, jax.errors.JAXTypeError)
        why = "it needs the value of its argument, which JAX has not yet: write it with jax.numpy" if early else error
        kind = type(error) if type(error) in (ValueError, TypeError) else ValueError
        raise kind(f"{name} failed for {at}: {why}") from error


def text(name: str, value: Any) -> str:
    """Return `value` if it is a text, else raise TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {shown(value)}")
    return value


def choice(name: str, value: Any, words: Iterable[str | None]) -> Any:
    """Return `value` if it is one of some words, else raise ValueError with all of them."""
    words = tuple(words)
    if not (value is None or isinstance(value, str)) or value not in words:
        known = " or ".join(map(repr, words)) if len(words) == 2 else f"one of {', '.join(map(repr, words))}"
        raise ValueError(f"{name} must be {known}, got {shown(value)}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return True or False, else raise TypeError."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def mapping(name: str, value: Any, what: str) -> Mapping:
    """Return `value` if it is a dict with texts for keys, else raise TypeError saying of what."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dict, {what}, got {shown(value)}")
    return value


def sequence(name: str, value: Any, what: str) -> Sequence:
    """Return a list or tuple, or an array or what a dict holds as a list, else raise TypeError saying of what."""
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
        return list(value)
    if isinstance(value, ValuesView | KeysView | ItemsView):
        return list(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a list of {what}, got {shown(value)}")
    return value


def listed(value: Any) -> list | None:
    """What there is to go through in a value, a generator too, as a list; None if there is nothing, as in a text."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        return None
    try:
        return list(value)
    except TypeError:  # arrays say that one can, also those without an axis
        return None


def key(value: Any, name: str = "key", why: str = "") -> jax.Array:
    """Return one JAX key, `jax.random.key(0)` or the older `PRNGKey(0)`, else raise ValueError."""
    remedy = f"pass {name}=jax.random.key(0), or another seed"
    if value is None:
        raise ValueError(f"{why or f'{name} is missing'}: {remedy}")
    if isinstance(value, jax.Array):
        typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if (typed and value.ndim == 0) or (value.dtype == jnp.uint32 and value.ndim == 1 and value.size >= 2):
            return value
    raise ValueError(f"{name} must be one JAX key, such as jax.random.key(0), got {shown(value)}")
