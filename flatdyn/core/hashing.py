"""A hash of functions and objects of yours: of their code, and of the values that the code reaches.

Cached work must be invalidated when the user's function changes: its code, its constants, or the variables elsewhere
that it uses. All of these enter the hash of :func:`identity`, which refuses what it cannot see into.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import dis
import fractions
import functools
import importlib.util
import inspect
import logging
import re
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import jax
import numpy as np
import sympy

from flatdyn.core import checks, records

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, type(...), type(NotImplemented))
_PLAIN += (np.dtype, PurePath, fractions.Fraction, decimal.Decimal, datetime.date, datetime.timedelta)
_DESCRIPTORS = (property, functools.cached_property, functools.partialmethod, classmethod, staticmethod)
_OWN = Path(__file__).parents[1]


def identity(function: Callable, version: str | None = None) -> str:
    """A hash of what a function does, the same tomorrow.

    It changes with the bytecode and constants of the function, its default arguments, the values that it closes over,
    and the globals that it names: numbers, texts, arrays, containers and dataclasses of them by value, your own
    functions and classes likewise, your own modules by their file and by the values of them that it names, installed
    libraries by name alone. Another Python version may give another hash.

    Args:
        function: anything that can be called
        version: a text of your own; with it only the function's own code is looked at, not the values it reaches
    Raises:
        ValueError: if the function reaches something that cannot be identified by its value
    """
    if stated(version) is not None:
        return _versioned(function, version)
    return _Walk(None).of(function, getattr(function, "__name__", type(function).__name__))


def of_object(value: Any, where: str, version: str | None = None) -> str:
    """A hash of an object by all that can be seen of it; of the functions in it as :func:`identity`.

    Args:
        value: the object
        where: its name in an error
        version: a text that stands for what can't be seen, and for the values that functions reach
    Raises:
        ValueError: if something in it cannot be identified by its value, and there is no version
    """
    return _Walk(stated(version)).of(value, where)


def of_array(value: Any) -> str:
    """A hash of an array, a JAX key or a number: of its type, shape and values."""
    weak = str(getattr(value, "weak_type", False))
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return records.digest("key", str(value.dtype), np.asarray(jax.random.key_data(value)))
    if isinstance(value, np.ma.MaskedArray):
        return records.digest("masked", np.ma.getmaskarray(value), np.asarray(value.filled()))
    return records.digest("array", weak, np.asarray(value))


def stated(version: Any) -> str | None:
    """A version if it is a text, or None for none, else raise TypeError."""
    return None if version is None else checks.text("version", version)


def hidden(what: str) -> ValueError:
    """The error for something on which an answer depends and which nothing in Python shows."""
    return ValueError(
        f"the store cannot tell {what}: give version='1', or another text, and change it when the question changes"
    )


def _versioned(function: Callable, version: str) -> str:
    inner = function.func if isinstance(function, functools.partial) else inspect.unwrap(function)
    code = getattr(inner, "__code__", None)
    return records.digest("version", version, "" if code is None else _Walk(version).code(code, ""))


class _Walk:
    """One walk through all that an object reaches. Functions, classes and modules are entered once.

    Attributes:
        version: what stands for things that can't be seen; None if they are errors
        seen: id -> index in the order of entering, and the object, which keeps the id its own
    """

    def __init__(self, version: str | None):
        self.version = version
        self.seen: dict[int, tuple[str, Any]] = {}
        self.above: list[int] = []  # containers that are being looked at: a list may hold itself

    def of(self, value: Any, where: str) -> str:
        """The hash of a value; `where` says for an error how it was reached."""
        if isinstance(value, (types.FunctionType, types.ModuleType, type)):
            return self._once(value, where)
        if id(value) in self.above:
            return records.digest("again", str(self.above[::-1].index(id(value))))
        self.above.append(id(value))
        try:
            return self._of(value, where)
        finally:
            self.above.pop()

    def all(self, parts: Mapping[str, Any], where: str) -> list[str]:
        """Hashes of named parts, names included."""
        return [name + self.of(part, f"{where}.{name}") for name, part in parts.items()]

    def _once(self, value: Any, where: str) -> str:
        if id(value) in self.seen:
            return records.digest("known", self.seen[id(value)][0])
        self.seen[id(value)] = str(len(self.seen)), value
        if isinstance(value, types.FunctionType):
            return self._function(value, where)
        return self._class(value, where) if isinstance(value, type) else self._module(value, where, ())

    def _of(self, value: Any, where: str) -> str:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}" if _is_library(kind) else self.of(kind, f"the class of {where}")
        if kind is object:  # a mark for "not given", as jax.vmap closes over one
            return records.digest(name)
        if isinstance(value, Enum):
            return records.digest(name, value.name, self.of(value.value, where))
        if isinstance(value, (np.ndarray, np.generic, jax.Array)):
            return self._array(value, where)
        if isinstance(value, _PLAIN):
            return records.digest(name, records.described(value))
        if isinstance(value, (sympy.Basic, sympy.MatrixBase)):
            return records.digest(name, sympy.srepr(value))  # unlike its text, with all digits and assumptions
        if isinstance(value, (Mapping, tuple, list, collections.deque, set, frozenset)):
            return self._container(value, name, where)
        return self._object(value, name, where)

    def _container(self, value: Any, name: str, where: str) -> str:
        own = {n: v for n, v in getattr(value, "__dict__", {}).items() if not n.startswith("__")}
        if isinstance(value, Mapping):
            entries = [self.of(key, where) + self.of(entry, f"{where}[{key!r}]") for key, entry in value.items()]
        elif isinstance(value, (tuple, list, collections.deque)):
            entries = [self.of(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
        else:  # in an order of its own, which differs from process to process: each entry by itself
            entries = sorted(_Walk(self.version).of(entry, where) for entry in value)
        return records.digest(name, *entries, "own", *self.all(own, where))

    def _object(self, value: Any, name: str, where: str) -> str:
        if isinstance(value, types.MethodType):
            return records.digest("method", *self.all({"func": value.__func__, "self": value.__self__}, where))
        if isinstance(value, functools.partial):
            return records.digest(name, *self.all({"f": value.func, "args": value.args, **value.keywords}, where))
        if isinstance(value, types.SimpleNamespace):
            return records.digest(name, *self.all(vars(value), where))
        if isinstance(value, (slice, re.Pattern, logging.Logger)) or type(value) is jax.ShapeDtypeStruct:
            names = {slice: ("start", "stop", "step"), re.Pattern: ("pattern", "flags"), logging.Logger: ("name",)}
            parts = names.get(type(value), ("shape", "dtype") if hasattr(value, "dtype") else ("name",))
            return records.digest(name, *self.all({part: getattr(value, part) for part in parts}, where))
        if isinstance(value, jax.tree_util.PyTreeDef):
            return records.digest(name, self._tree(value, where))
        if isinstance(value, _DESCRIPTORS):
            parts = ("fget", "fset", "func", "__func__", "args", "keywords")
            return records.digest(name, *self.all({p: getattr(value, p) for p in parts if hasattr(value, p)}, where))
        if _is_library(type(value)):
            if known := _by_name(value):
                return records.digest("library", known)
            if isinstance(value, np.vectorize):
                names = ("pyfunc", "otypes", "excluded", "signature")
                return records.digest(name, *self.all({n: getattr(value, n) for n in names}, where))
            if hasattr(value, "__wrapped__"):  # jax.jit, equinox.filter_jit, functools.cache; rules of custom_jvp
                own = {n: v for n, v in getattr(value, "__dict__", {}).items() if not n.startswith("_")}
                return records.digest("wrapped", name, self.of(value.__wrapped__, where), *self.all(own, where))
            if isinstance(value, types.BuiltinMethodType):
                parts = {"self": value.__self__} if value.__self__ is not None else {}
                return records.digest(name, value.__qualname__, *self.all(parts, where))
        if dataclasses.is_dataclass(value):
            fields = [field.name for field in dataclasses.fields(value)]
            held = {n: getattr(value, n) for n in fields if hasattr(value, n)}
            held |= {n: v for n, v in sorted(getattr(value, "__dict__", {}).items()) if n not in held}
            cached = {
                n for n in held if isinstance(inspect.getattr_static(type(value), n, 0), functools.cached_property)
            }
            shown = {n: v for n, v in held.items() if n not in cached}
            return records.digest(name, *self.all(shown, where))
        if self.version is not None:
            return records.digest("version", self.version, name)
        raise hidden(f"{where} from another value, because it is of {type(value)}")

    def _array(self, value: Any, where: str) -> str:
        if getattr(value.dtype, "hasobject", False):
            return self.of(value.tolist(), where)
        return of_array(value)

    def _tree(self, tree: Any, where: str) -> str:
        """The structure of a tree, by a tree that has it and holds nothing."""
        try:
            hollow = jax.tree.unflatten(tree, [...] * tree.num_leaves)
        except Exception:  # whatever a class of someone else's does with leaves that are no arrays
            if self.version is None:
                raise hidden(f"{where} from another value, because its tree cannot be built without leaves") from None
            return self.version
        return self.of(hollow, where)

    def _function(self, function: types.FunctionType, where: str) -> str:
        """A library's function by name and what it closes over (jax.vmap(f) closes over f), your own by all of it."""
        held, code = {}, function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            held[name] = cell.cell_contents if cell != types.CellType() else None  # empty: not assigned yet
        own = not installed(code.co_filename)
        if own and self.version is not None:
            return records.digest("function", self.code(code, where), self.version)
        if own:
            held |= {"__defaults__": function.__defaults__, "__kwdefaults__": function.__kwdefaults__}
            held |= {name: v for name, v in sorted(vars(function).items()) if not name.startswith("__")}
            held |= _globals(function)
        word = self.code(code, where) if own else f"{function.__module__}.{code.co_qualname}"
        attributes = _attributes(code) if own else ()
        return records.digest(
            "function", word, *(n + self._held(v, f"{n} in {where}", attributes) for n, v in held.items())
        )

    def _held(self, value: Any, where: str, attributes: Iterable[str]) -> str:
        """A value that code reaches; of a module also what the code may read from it, as it is now."""
        if isinstance(value, types.ModuleType):
            return self._module(value, where, attributes)
        return self.of(value, where)

    def _module(self, module: types.ModuleType, where: str, attributes: Iterable[str]) -> str:
        file = getattr(module, "__file__", None)
        if (file is not None and installed(file)) or module.__name__ in sys.stdlib_module_names:
            return records.digest("module", module.__name__)
        content = b"" if file is None or not Path(file).is_file() else Path(file).read_bytes()
        named = {name: vars(module)[name] for name in attributes if name in vars(module)}
        words = [name + self._held(value, f"{where}.{name}", attributes) for name, value in named.items()]
        return records.digest("module", module.__name__, content.hex(), *words)

    def _class(self, kind: type, where: str) -> str:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if _is_library(kind):
            return records.digest("class", name)
        if issubclass(kind, Enum):
            parts = {member.name: member.value for member in kind}
            parts |= {n: v for n, v in vars(kind).items() if isinstance(v, types.FunctionType) and n not in vars(Enum)}
        else:
            parts = {n: v for n, v in vars(kind).items() if _tells(v, n)}
        words = self.all(parts, where)
        return records.digest("class", name, *words, *(self.of(base, where) for base in kind.__bases__))

    def code(self, code: types.CodeType, where: str) -> str:
        """Bytecode, names and constants: not the file, the lines, or the names of local variables."""
        constants = [
            self.code(c, where) if isinstance(c, types.CodeType) else self.of(c, f"a constant of {code.co_name}")
            for c in code.co_consts
        ]
        shape = f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags}"
        instructions = code.co_code.hex() + getattr(code, "co_exceptiontable", b"").hex()
        return records.digest(shape, instructions, " ".join(code.co_names), *constants)


def _tells(value: Any, name: str) -> bool:
    """Whether an entry of a class is something of its author's, and not the bookkeeping of Python or a library."""
    if isinstance(value, types.FunctionType):
        return "__create_fn__" not in value.__code__.co_qualname  # what dataclasses write
    if isinstance(value, _DESCRIPTORS):
        return True
    if name.startswith("__") or name == "_abc_impl":
        return False
    return not (_is_library(type(value)) and hasattr(type(value), "__get__"))  # slots and fields of named tuples


def _globals(function: types.FunctionType) -> dict[str, Any]:
    """Values of the globals that a function, or one defined inside it, names; modules that it imports itself too."""
    known, code = function.__globals__, function.__code__
    reached = {name: known[name] for name in sorted(_named(code, ("LOAD_GLOBAL", "LOAD_NAME"))) if name in known}
    for name in sorted(_named(code, ("IMPORT_NAME",))):
        reached[f"import {name}"] = sys.modules.get(name) or _unloaded(name)
    return reached


def _unloaded(name: str) -> bytes | None:
    """The text of a module of yours that has not been imported yet."""
    try:
        file = getattr(importlib.util.find_spec(name), "origin", None)
    except (ImportError, ValueError, AttributeError):
        return None
    return None if installed(file) or not Path(file).is_file() else Path(file).read_bytes()


def _named(code: types.CodeType, operations: tuple[str, ...]) -> set[str]:
    names = {step.argval for step in dis.get_instructions(code) if step.opname in operations}
    return names.union(*(_named(c, operations) for c in code.co_consts if isinstance(c, types.CodeType)))


def _attributes(code: types.CodeType) -> list[str]:
    """Names that the code, or a function defined inside it, may look up in a module."""
    inner = [_attributes(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return sorted(set(code.co_names).union(*inner))


def _by_name(value: Any) -> str | None:
    """The name under which an installed library has exactly this object: a ufunc, a compiled function, jax.nn.relu."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    for place in (module, "numpy", "scipy.special") if isinstance(name, str) else ():
        named = sys.modules.get(place) if isinstance(place, str) else None
        if named is not None and installed(getattr(named, "__file__", None)):
            for part in name.split("."):
                named = getattr(named, part, None)
            if named is value:
                return f"{place}.{name}"
    return None


@functools.cache
def _is_library(kind: type) -> bool:
    """Whether a class is a library's, and so known by its name."""
    if kind.__module__ == "__main__":
        return False
    return installed(getattr(sys.modules.get(kind.__module__), "__file__", None))


@functools.cache
def installed(file: str | None) -> bool:
    """Whether code is a library's, and so known by its name: compiled in, installed, or flatdyn's own."""
    if file is None or file.startswith("<frozen"):
        return True
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(_OWN):
        return True
    return any(path.is_relative_to(sysconfig.get_path(where)) for where in ("stdlib", "platstdlib"))
