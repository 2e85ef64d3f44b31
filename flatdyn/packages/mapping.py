"""From the arguments of a package's class to the method, or the linear recursion, that runs the same map."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import sympy

import flatdyn.methods
from flatdyn.core import checks
from flatdyn.landscapes import saddle
from flatdyn.laws import stationary
from flatdyn.laws.recursions import LinearRecursion
from flatdyn.methods import GD, Method, from_optax
from flatdyn.methods.optax import FromOptax
from flatdyn.packages.entries import Case, Entry, entry, perhaps


def method(name: str, /, *args: Any, **options: Any) -> Method:
    """The flatdyn method that runs the same map as a package's optimiser, sampler, average or schedule.

        fd.packages.method("torch.optim.SGD", lr=0.1, momentum=0.9, nesterov=True)
        fd.packages.method("pytorch_optimizer.SAM", rho=0.05, lr=0.1, momentum=0.9)      the rest goes to its base, SGD
        fd.packages.method("torch.optim.swa_utils.AveragedModel", fd.GD(0.1), start=500)

    Arguments that are left out have the package's defaults, not flatdyn's. What wraps an optimiser (averages,
    lookahead, schedules) takes a flatdyn method in its place.

    Args:
        name: as it is imported, or an alias, see :func:`flatdyn.packages.names`
        args, options: its arguments, but for the parameters to be moved; `base` names another optimiser inside than SGD
    Returns:
        a method; :func:`entry` says by how much it differs from the package
    Raises:
        LookupError: if no method runs that map; the message gives the reason, and what to write instead
        ValueError: if the name or an argument is not known, or an argument is out of range
    Warns:
        UserWarning: if another version of the package is installed than the one that was tried
    """
    row, case, scope = settled(name, args, options)
    if case.method is None:
        raise LookupError(f"{row.name} ({row.package} {row.version}): {case.reason}{_and(case.instead)}")
    _tell(row)
    return _made(row, case, scope)


def recursion(name: str, /, *args: Any, curvature: Any = 1.0, **options: Any) -> LinearRecursion:
    """One step of a package's sampler or optimiser on the quadratic ½ k θ², as a linear recursion.

        s⁺ = A s + e,   E e eᵀ = Q

    It exists also where no method runs the same map, and :func:`flatdyn.laws.stationary.covariance` gives its exact
    law: fd.stationary.covariance(fd.packages.recursion("posteriors.sgmcmc.sghmc", lr=0.1, alpha=1.0)).

    Args:
        name, args, options: as for :func:`method`; numbers may be SymPy symbols
        curvature: k
    Returns:
        LinearRecursion of one coordinate: θ first, then its momentum if there is one
    Raises:
        LookupError: if its step is not linear there
        ValueError: if the name or an argument is not known, or an argument is out of range
    """
    curvature = checks.number("curvature", curvature, one=True)
    row, case, scope = settled(name, args, options)
    _tell(row)
    for key, value in scope.items():
        if not isinstance(value, dict) and np.ndim(value):
            raise ValueError(f"{key} must be one number in a recursion, got {checks.shown(value)}")
    if not row.matrix:
        if case.method is None:
            raise LookupError(f"{row.name} ({row.package} {row.version}): {case.reason}{_and(case.instead)}")
        return stationary.recursion(_made(row, case, scope), saddle((curvature,)))
    with np.errstate(all="ignore"):  # what is not finite is refused
        return _recursion(row, scope | {"k": curvature})


def _recursion(row: Entry, scope: dict) -> LinearRecursion:
    """The recursion of an entry's own matrix and noise."""
    if row.setup:
        scope = NAMES | scope
        _run(row, exec, row.setup, scope)
    matrix = _evaluated(row, row.matrix, scope)
    if row.gain:
        gain = sympy.Matrix(_evaluated(row, row.gain, scope))
        noise = gain * gain.T
    else:
        noise = _evaluated(row, row.noise, scope)
    step = LinearRecursion([list(line) for line in matrix], noise, row.stable)
    return _evaluated(row, row.around, scope | {"step": step}) if row.around else step


def _tell(row: Entry) -> None:
    """Warn if another version is installed than the one that was tried."""
    if row.note:
        warnings.warn(row.note, UserWarning, stacklevel=3)


def _and(text: str) -> str:
    return f". {text}" if text else ""


def settled(name: str, args: tuple, options: dict) -> tuple[Entry, Case, dict]:
    """The entry, the case that holds, and the arguments by name."""
    row = entry(name)
    known, scope = row.parameters(), {}
    if row.base:
        base = checks.text("base", options.pop("base", row.base))
        own = {key: options.pop(key) for key in list(options) if key in known.parameters or key in row.ignored}
        scope["sgd"] = _conventions(row, base, options)
        options = own
    _check_names(row, known, args, options)
    given = known.bind(*args, **{key: value for key, value in options.items() if key in known.parameters})
    given.apply_defaults()
    for key, value in given.arguments.items():
        given.arguments[key] = _checked(row, key, value, known.parameters[key].default)
    scope |= given.arguments
    if row.common:
        scope["common"] = _evaluated(row, row.common, scope)
    for case in row.cases:
        if _evaluated(row, case.when, scope):
            return row, case, scope
    raise ValueError(f"{row.name}: these arguments fit none of its cases; {row.name} is called ({row.signature})")


def _check_names(row: Entry, known: inspect.Signature, args: tuple, options: dict) -> None:
    """Raise ValueError for arguments that are unknown, missing, given twice, or too many."""
    called = f"; it is called ({row.signature})"
    for name in options:
        if name not in known.parameters and name not in row.ignored:
            near = difflib.get_close_matches(name, known.parameters, n=3, cutoff=0.5)
            raise ValueError(f"{row.name} takes no {name!r} here{perhaps(near)}{called}")
    if len(args) > len(known.parameters):
        raise ValueError(f"{row.name} takes {len(known.parameters)} arguments here, got {len(args)}{called}")
    for number, (name, parameter) in enumerate(known.parameters.items()):
        if number < len(args) and name in options:
            raise ValueError(f"{name} of {row.name} is given twice, by its place and by its name{called}")
        if number >= len(args) and name not in options and parameter.default is parameter.empty:
            raise ValueError(f"{name} of {row.name} must be given{called}")


def _checked(row: Entry, name: str, value: Any, default: Any) -> Any:
    """An argument, if it is of the kind that the entry's expressions go on with, else ValueError or TypeError."""
    conditions = " ".join(case.when for case in row.cases)
    if name in ("method", "optimizer") and default is inspect.Parameter.empty:
        return checks.kind(name, value, Method)
    if isinstance(default, bool):
        return checks.flag(name, value)
    if isinstance(default, str):
        return checks.text(name, value)
    if (callable(value) and f"callable({name})" in conditions) or name in ("factor", "lr_lambda"):
        return checks.function(name, value, "a function of the number of steps taken", number=1)
    if isinstance(value, str) and repr(value) in conditions:
        return value
    if name == "betas" and np.shape(value) != (2,):
        raise ValueError(f"betas must be two numbers, got {checks.shown(value)}")
    if value is default or name in ("mask", "groups", "betas", "swa_lrs"):
        return value  # None, or what is for the method to say
    if name in _COUNTS:
        return checks.count(name, value, at_least=1, at_most=_MOST)
    if isinstance(value, list | tuple):
        value = checks.entries(name, value)
    decides = (default is None or re.search(rf"\b{name}\b", conditions)) and not isinstance(value, sympy.Basic)
    if decides and (np.ndim(value) or checks.is_traced(value)):
        raise ValueError(f"{name} must be one number here, as it decides on the method, got {checks.shown(value)}")
    checked = checks.number(name, checks.real(value))
    return int(checked) if isinstance(value, int) else checked  # a whole number stays one


# Arguments that count steps, of which some are written out in the program
_COUNTS = ("k", "interval", "sync_period", "num_integration_steps", "total_steps", "epochs", "steps_per_epoch")
_MOST = 1_000_000


def _conventions(row: Entry, base: str, options: dict) -> dict:
    """The conventions of the optimiser inside: lr, momentum and what else a method of first order takes."""
    inside = entry(base)
    if unknown := [key for key in options if key not in inside.parameters().parameters and key not in inside.ignored]:
        raise ValueError(
            f"neither {row.name}, called ({row.signature}), nor {base} inside, called ({inside.signature}), "
            f"takes {unknown[0]!r}"
        )
    inner = method(base, **options)
    if type(inner) is FromOptax:
        return {"lr": 1.0, "inside": inner.transformation}
    if type(inner) is not GD:
        raise LookupError(
            f"{row.name} around {base}: only gradient descent with momentum, and what is one of optax's, can be put "
            "inside: fd.from_optax(transformation, follows=fd.SAM(lr, rho))"
        )
    names = ("lr", "momentum", "nesterov", "weight_decay", "decay", "dampening", "units", "start")
    return {name: getattr(inner, name) for name in names}


def _made(row: Entry, case: Case, scope: dict) -> Method:
    """The method of a case; with an optimiser of optax inside, that one on the gradient which the method follows."""
    sgd = scope.get("sgd", {})
    transformation = sgd.get("inside")
    if transformation is None:
        return _evaluated(row, case.method, scope)
    follows = _evaluated(row, case.method, scope | {"sgd": {"lr": 1.0}})
    if type(follows) not in _FOLLOWED:
        raise LookupError(f"{row.name} around another optimiser than SGD was not compared. Take SGD inside, or fd.SAM.")
    return from_optax(transformation, follows=follows)


# Those that hand one gradient to the optimiser inside, and remember nothing
_FOLLOWED = (
    flatdyn.methods.SAM,
    flatdyn.methods.ASAM,
    flatdyn.methods.USAM,
    flatdyn.methods.GSAM,
    flatdyn.methods.UnifiedSAM,
)


def _function(name: str) -> Any:
    """A function of numbers and of SymPy's symbols."""
    return lambda value: getattr(sympy if isinstance(value, sympy.Basic) else math, name)(value)


def _row(*values: Any) -> np.ndarray:
    """A row of numbers or symbols, that can be added and multiplied by numbers."""
    return np.array(values, dtype=object)


class _Optax:
    """optax, which is loaded when an expression uses it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(importlib.import_module("optax"), name)
        except ImportError as error:
            raise ValueError("optax is not installed, and the method is made of it: pip install optax") from error


# The expressions in table.toml are the library's own. They see these names, the arguments, and no others.
NAMES = {name: value for name, value in vars(flatdyn.methods).items() if name[0] != "_"}
NAMES |= {name: _function(name) for name in ("exp", "log", "sqrt")}
NAMES |= {one.__name__: one for one in (bool, callable, dict, float, isinstance, max, round, jnp.minimum, jnp.maximum)}
NAMES |= {"__builtins__": {}, "inf": math.inf, "row": _row, "optax": _Optax(), "LinearRecursion": LinearRecursion}


def _evaluated(row: Entry, text: str, scope: dict) -> Any:
    """What an expression of the table gives for these arguments."""
    return _run(row, eval, text, NAMES | scope)


def _run(row: Entry, how: Callable, text: str, names: dict) -> Any:
    """Evaluate or execute a text of the table; a refusal says which call it comes from."""
    try:
        return how(" ".join(text.split()), names)
    except (ValueError, TypeError, ArithmeticError) as error:
        if _is_ours(error):
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{row.name}: {error}") from error
        raise ValueError(f"{row.name}: an argument is out of range; it is called ({row.signature})") from error


def _is_ours(error: Exception) -> bool:
    """Whether flatdyn raised an error, in words of its own, and not the arithmetic of an expression."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_globals.get("__name__", "")
    return raised_in.startswith("flatdyn.") and raised_in != __name__
