"""What travels to a worker: the question, by value where no module has it, and what the worker must have in common.

Functions and classes of a notebook travel whole, with what they reach; those of a module by its name, and the worker's
file must be the same. A worker that has other versions is refused before it unpacks anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import io
import pickle
import platform
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import equinox as eqx
import jax
import numpy as np

from flatdyn.core import records
from flatdyn.core.hashing import installed
from flatdyn.processes import Process

_SETTINGS = ("enable_x64", "default_matmul_precision", "threefry_partitionable", "default_prng_impl")
_SMALL = 1 << 16  # numbers of an array that are compared
_MADE = ("__dict__", "__weakref__", "__annotations__", "__abstractmethods__", "_abc_impl", "__match_args__")
_MADE += ("__annotate_func__", "__annotations_cache__", "__firstlineno__", "__static_attributes__")
_MADE += ("__dataclass_fields__", "__dataclass_params__", "__parameters__", "__module__", "__qualname__")


def packed(question: Any) -> tuple[bytes, dict[str, str]]:
    """The question in bytes, and the modules of yours that it names, with a hash of each file.

    Raises:
        ValueError: if something in it can't travel, saying what, and what to do
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=pickle.DEFAULT_PROTOCOL)
    try:
        pickler.dump(question)
    except Exception as error:
        parts = {"make_process": question.make_process, "ask": question.ask}
        where, value = next(filter(None, (_culprit(part, name) for name, part in parts.items())), ("ask", question.ask))
        raise ValueError(
            f"{where}, of {type(value)}, can't travel to a worker ({type(error).__name__}: {error}): make it inside "
            "the function that uses it, or pass what it is made from"
        ) from error
    return buffer.getvalue(), {name: word for name in sorted(pickler.modules) if (word := _file_word(name))}


def unpacked(content: bytes, modules: dict[str, str]) -> Any:
    """The question on the worker.

    Raises:
        ImportError: if a module is not there, or is another, saying what to do
    """
    remedy = "give the workers the same file (Client.upload_file of Dask), or define it in the notebook or script"
    try:
        question = pickle.loads(content)
    except ModuleNotFoundError as error:
        raise ImportError(f"there is no module {error.name!r}: {remedy}") from error
    for name, word in modules.items():
        if _file_word(name) != word:
            raise ImportError(f"module {name!r} is not that of the process which asks: {remedy}")
    return question


def _file_word(module: str) -> str | None:
    """A hash of the file of a module that is not installed, but yours; None for others."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or installed(file) or not Path(file).is_file():
        return None
    return records.digest(Path(file).read_bytes().hex())


class _Pickler(cloudpickle.Pickler):
    """Notes which modules are named, and takes classes of Equinox apart so that they become what they were.

    Other classes are made empty by their metaclass and filled afterwards. That of Equinox looks at the fields when a
    class is made, and would find none: instances would come without their numbers.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.modules: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if isinstance(obj, types.ModuleType):
            self.modules.add(obj.__name__)
        if reduced is NotImplemented or isinstance(reduced, str):
            if isinstance(obj, (type, types.FunctionType)):
                self.modules.add(obj.__module__)
        elif isinstance(obj, type) and issubclass(obj, eqx.Module):
            return _taken_apart(obj)
        return reduced


def _taken_apart(kind: type) -> tuple:
    """How a class of Equinox is made again: with its fields first, then with what its methods reach."""
    held = {name: value for name, value in vars(kind).items() if name not in _MADE}
    own = inspect.get_annotations(kind)
    fields = {name: _field(field) for name, field in kind.__dataclass_fields__.items() if name in own}
    init = held.get("__init__")
    if getattr(init, "__module__", None) is None or "__create_fn__" in init.__code__.co_qualname:
        held.pop("__init__", None)  # written by the dataclass
    later = {name: value for name, value in held.items() if name not in fields}
    functions = sorted(name for name, value in later.items() if isinstance(value, types.FunctionType))
    others = sorted(set(later) - set(functions) - {"__doc__"})
    made = (type(kind), kind.__name__, kind.__bases__, kind.__module__, kind.__qualname__, own, fields)
    return _put_together, (*made, functions, others), later, None, None, _filled


def _field(field: Any) -> dict[str, Any]:
    options = {n: getattr(field, n) for n in ("init", "repr", "hash", "compare", "kw_only")}
    options["metadata"] = dict(field.metadata)
    given = {name: getattr(field, name) for name in ("default", "default_factory")}
    return options | {name: value for name, value in given.items() if value is not dataclasses.MISSING}


def _put_together(
    metaclass: type,
    name: str,
    bases: tuple,
    module: str,
    qualname: str,
    annotations: dict,
    fields: dict,
    functions: list,
    others: list,
) -> type:
    """The class with its fields; its methods are there by name, as what is abstract is looked for now."""
    body = {"__module__": module, "__qualname__": qualname, "__annotations__": annotations}
    body |= {field: dataclasses.field(**options) for field, options in fields.items()}
    body |= dict.fromkeys(others) | dict.fromkeys(functions, lambda *_: None)
    return types.new_class(name, bases, {"metaclass": metaclass}, lambda space: space.update(body))


def _filled(kind: type, later: dict[str, Any]) -> None:
    for name, value in later.items():
        setattr(kind, name, value)


def _culprit(value: Any, where: str, depth: int = 6) -> tuple[str, Any] | None:
    """The innermost thing that can't be packed, with how it is reached."""
    with contextlib.suppress(Exception):
        _Pickler(io.BytesIO()).dump(value)
        return None
    if depth:
        for name, part in _reached(value):
            thing, *inside = where.split(" in ", 1)
            place = " in ".join([thing + name, *inside]) if name[0] in ".[" else f"{name} in {where}"
            if (inner := _culprit(part, place, depth - 1)) is not None:
                return inner
    return where, value


def _reached(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, functools.partial):
        yield from (("the function", value.func), ("its arguments", (*value.args, value.keywords)))
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        with contextlib.suppress(ValueError):  # a cell that is empty still
            yield from zip(value.__code__.co_freevars, (c.cell_contents for c in value.__closure__ or ()), strict=True)
        named = {*value.__code__.co_names}.union(
            *(c.co_names for c in value.__code__.co_consts if hasattr(c, "co_names"))
        )
        yield from ((name, value.__globals__[name]) for name in sorted(named) if name in value.__globals__)
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", entry) for key, entry in value.items())
    elif isinstance(value, (list, tuple, set)):
        yield from ((f"[{i}]", entry) for i, entry in enumerate(value))
    else:
        yield from ((f".{name}", entry) for name, entry in getattr(value, "__dict__", {}).items())


# --- what both sides must have in common ----------------------------------------------------------------------


@functools.cache
def versions() -> dict[str, str]:
    """What a worker must have as well: Python, packages, and flatdyn's own files."""
    own = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        own.update(str(path.relative_to(root)).encode() + path.read_bytes())
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python} | records.provenance()["versions"] | {"the files of flatdyn": own.hexdigest()[:12]}


def misfit(asked: dict[str, str]) -> str | None:
    """What this worker has in another version than the process that asks; None if nothing."""
    here = versions()
    different = [f"{n} {here.get(n, 'none')} instead of {asked[n]}" for n in asked if asked[n] != here.get(n)]
    return f"it has {', '.join(different)}: install the same there" if different else None


def settings() -> dict[str, Any]:
    """How JAX computes here."""
    return {name: getattr(jax.config, f"jax_{name}") for name in _SETTINGS}


@contextlib.contextmanager
def as_there(given: dict[str, Any]) -> Iterator[None]:
    """Compute as the process that asks, in this thread and for this while."""
    with contextlib.ExitStack() as stack:
        for name, value in given.items():
            if value != getattr(jax.config, f"jax_{name}"):
                stack.enter_context(getattr(jax, name)(value))
        yield


def of_process(process: Process) -> str:
    """A short word for a process: the numbers in it, so that a worker which makes another one is noticed."""
    leaves, words = jax.tree.leaves(process), []
    for leaf in leaves:
        shown = isinstance(leaf, (bool, int, float, np.ndarray, np.generic, jax.Array))
        key = shown and isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if key else leaf) if shown else np.zeros(0)
        words += [f"{type(leaf).__name__ if not shown else array.dtype}{array.shape}"]
        words += [array] if array.size <= _SMALL and not array.dtype.hasobject else []
    return records.digest(*words)[:16]


def key_words(key: jax.Array | None) -> tuple[np.ndarray, str | None] | None:
    """A key as it travels: its words, and the name of its kind, if it has one."""
    if key is None or not jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        return None if key is None else (np.asarray(key), None)
    return np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key))


def key_of(words: tuple[np.ndarray, str | None] | None) -> jax.Array | None:
    """The key from what :func:`key_words` gave."""
    if words is None:
        return None
    data = jax.device_put(words[0])
    return data if words[1] is None else jax.random.wrap_key_data(data, impl=words[1])
