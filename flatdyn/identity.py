"""What tells one function of yours from another: its code, and the values that its code reaches.

Files of unfinished work must not be read after the question has changed, and in a notebook a question changes with a
line of a function, a constant inside it, or a variable elsewhere that it uses. All of these enter the word that
:func:`identity` gives. What it cannot see into, it refuses.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import jax
import numpy as np
import sympy

from flatdyn import records

_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...), np.dtype, sympy.Basic, PurePath)
_OWN = Path(__file__).parent


def identity(function: Callable, version: str | None = None) -> str:
    """One word for what a function does, the same tomorrow.

    It changes with the bytecode and constants of the function, its default arguments, the values that it closes over,
    and the globals that it names: numbers, texts, arrays, containers and dataclasses of them by value, your own
    functions and classes likewise, your own modules by their file, installed libraries by name alone. Another Python
    version may give another word.

    Args:
        function: anything that can be called
        version: a text of your own; with it only the function's own code is looked at, not the values it reaches
    Raises:
        ValueError: if the function reaches something that cannot be told apart by value
    """
    if version is not None:
        inner = function.func if isinstance(function, functools.partial) else inspect.unwrap(function)
        code = getattr(inner, "__code__", None)
        return records.digest("version", version, "" if code is None else _of_code(code))
    return _of(function, getattr(function, "__name__", type(function).__name__), ())


def _of(value: Any, where: str, above: tuple[int, ...]) -> str:
    """The word of a value; `where` says for the error how it was reached, `above` ends circles."""
    kind = type(value).__qualname__
    if id(value) in above:
        return records.digest("again", str(above[::-1].index(id(value))))
    above = (*above, id(value))
    if type(value) is object:  # a mark for "not given", as jax.vmap closes over one
        return records.digest(kind)
    if isinstance(value, Enum):
        return records.digest(kind, value.name, _of(value.value, where, above))
    if isinstance(value, _PLAIN):
        return records.digest(kind, records.described(value))
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _of_array(value, where)
    if isinstance(value, Mapping):
        pairs = [_of(key, where, above) + _of(entry, f"{where}[{key!r}]", above) for key, entry in value.items()]
        return records.digest(kind, *pairs)
    if isinstance(value, (tuple, list)):
        return records.digest(kind, *(_of(entry, f"{where}[{i}]", above) for i, entry in enumerate(value)))
    if isinstance(value, (set, frozenset)):
        return records.digest(kind, *sorted(_of(entry, where, above) for entry in value))
    if isinstance(value, types.ModuleType):
        file = getattr(value, "__file__", None)
        return records.digest("module", value.__name__, "" if _installed(file) else Path(file).read_text())
    if isinstance(value, types.FunctionType):
        return _of_function(value, where, above)
    if isinstance(value, types.MethodType):
        return records.digest("method", _of(value.__func__, where, above), _of(value.__self__, where, above))
    if isinstance(value, functools.partial):
        parts = {"func": value.func, "args": value.args, **value.keywords}
        return records.digest("partial", *(n + _of(part, f"{where}.{n}", above) for n, part in parts.items()))
    if isinstance(value, type):
        return _of_class(value, where, above)
    if hasattr(value, "__wrapped__"):  # jax.jit, equinox.filter_jit, functools.cache
        return records.digest("wrapped", kind, _of(value.__wrapped__, where, above))
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        fields = [name + _of(getattr(value, name), f"{where}.{name}", above) for name in names]
        return records.digest(_of(type(value), where, above), *fields)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if callable(value) and name and _installed(_file(type(value))):  # a built-in function, a ufunc
        return records.digest(kind, str(getattr(value, "__module__", "")), name)
    raise ValueError(
        f"the store cannot tell {where} from another value, because it is of {type(value)}: give version='1', or "
        "another text, and change it when the question changes"
    )


def _of_array(value: Any, where: str) -> str:
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        return _of(array.tolist(), where, ())
    return records.digest("array", array)


def _of_function(function: types.FunctionType, where: str, above: tuple[int, ...]) -> str:
    """A library's function by name and what it closes over (jax.vmap(f) closes over f), your own by all of it."""
    held = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        held[name] = cell.cell_contents if cell != types.CellType() else None  # empty: not assigned yet
    if _installed(function.__code__.co_filename):
        code = f"{function.__module__}.{function.__code__.co_qualname}"
    else:
        code = _of_code(function.__code__)
        held |= {"__defaults__": function.__defaults__, "__kwdefaults__": function.__kwdefaults__}
        known = function.__globals__
        held |= {name: known[name] for name in sorted(_globals(function.__code__)) if name in known}
    return records.digest("function", code, *(n + _of(v, f"{n} in {where}", above) for n, v in held.items()))


def _of_class(kind: type, where: str, above: tuple[int, ...]) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if _installed(_file(kind)):
        return records.digest("class", name)
    own = {n: v for n, v in vars(kind).items() if isinstance(v, types.FunctionType) and not n.startswith("__")}
    own |= {n: v for n in ("__call__", "__init__") if isinstance(v := vars(kind).get(n), types.FunctionType)}
    parts = [n + _of(function, f"{where}.{n}", above) for n, function in own.items()]
    return records.digest("class", name, *parts, *(_of(base, where, above) for base in kind.__bases__))


def _of_code(code: types.CodeType) -> str:
    """Bytecode, names and constants: not the file, the lines, or the names of local variables."""
    constants = [_of_code(c) if isinstance(c, types.CodeType) else _of(c, code.co_name, ()) for c in code.co_consts]
    shape = f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags}"
    return records.digest(shape, code.co_code.hex(), " ".join(code.co_names), *constants)


def _globals(code: types.CodeType) -> set[str]:
    """Names that the code, or a function defined inside it, looks up among the globals."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(_globals(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _file(kind: type) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None) if kind.__module__ != "__main__" else "__main__"


@functools.cache
def _installed(file: str | None) -> bool:
    """Whether code is a library's, and so known by its name: compiled in, installed, or flatdyn's own."""
    if file is None or file.startswith("<frozen"):
        return True
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(_OWN):
        return True
    return any(path.is_relative_to(sysconfig.get_path(where)) for where in ("stdlib", "platstdlib"))
