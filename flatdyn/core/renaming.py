"""Old public names: each is handed on for one release, with a warning that says the new one.

renamed              names of a module
renamed_keywords     keywords of a function
renamed_attribute    attributes and methods of a class
moved_keyword        a keyword that means something else now, given what it meant before
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_BETWEEN = {"flatdyn", "equinox", "importlib"}  # whose code stands between a user's line and this one
_Function = TypeVar("_Function", bound=Callable)


def renamed(
    module: str, names: Mapping[str, str], elsewhere: Mapping[str, tuple[str, str]] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of a module that hands old names on.

    Args:
        module: its `__name__`
        names: old name -> new name in the same module
        elsewhere: old name -> the module in which it still lies, and what to write in its place
    """
    others = elsewhere or {}

    def handed_on(name: str) -> Any:
        if name in others:
            home, instead = others[name]
            _warn(f"{module}.{name}", instead)
            return getattr(importlib.import_module(home), name)
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", f"{module}.{names[name]}")
        return getattr(importlib.import_module(module), names[name])

    return handed_on


def renamed_keywords(**names: str) -> Callable[[_Function], _Function]:
    """A decorator of a function some of whose keywords have new names.

    Args:
        names: old keyword = new keyword
    """

    def decorated(function: _Function) -> _Function:
        @functools.wraps(function)
        def handed_on(*args: Any, **options: Any) -> Any:
            for old in names.keys() & options.keys():
                if names[old] in options:
                    raise TypeError(f"{function.__name__}: {names[old]}, whose old name is {old}, is given twice")
                _warn(f"{function.__name__}({old}=)", f"{function.__name__}({names[old]}=)")
                options[names[old]] = options.pop(old)
            return function(*args, **options)

        return handed_on

    return decorated


def moved_keyword(function: str, old: str, new: str, given: Any, beside: Any) -> Any:
    """The value of the keyword `new`, which was given as `old`.

    Args:
        function: its name
        old, new: the keywords
        given, beside: what was given as the old one, and as the new one, which must be None
    """
    if beside is not None:
        raise TypeError(f"{function}: {new}, whose old name is {old}, is given twice")
    _warn(f"{function}({old}=)", f"{function}({new}=)")
    return given


class renamed_attribute:  # written like property
    """An old attribute or method of a class: `of = renamed_attribute("metric")` in its body.

    Args:
        new: the new name in the same class
    """

    def __init__(self, new: str):
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.old = owner.__name__, name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        _warn(f"{self.owner}.{self.old}", f"{self.owner}.{self.new}")
        return getattr(instance, self.new)


def _warn(old: str, new: str) -> None:
    """Say it at the line that uses the old name: Python shows a warning of this kind to whoever wrote that line."""
    frame = inspect.currentframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    warnings.warn_explicit(
        f"{old} is now {new}",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
