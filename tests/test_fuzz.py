"""Odd arguments: every public name refuses them in words of its own, or gives an answer without silent NaN.

`make fuzz` makes 10,000 such calls; here are some hundred, at least one of every name.
"""

import ast
import enum
import importlib
import inspect
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import flatdyn

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_recipes import RECIPES, WITHOUT

CALLS = 400


def public_modules():
    """What `import flatdyn as fd` shows."""
    shown = [getattr(flatdyn, name) for name in flatdyn.__all__]
    return [flatdyn, *(thing for thing in shown if isinstance(thing, types.ModuleType))]


def public_names():
    """Callables that these modules define or hand on, by name."""
    for module in public_modules():
        source = Path(inspect.getsourcefile(module))
        tree = ast.parse((source.with_suffix(".pyi") if module is flatdyn else source).read_text())
        names = {a.asname for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names if a.asname}
        names |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for name in sorted(names):
            thing = getattr(module, name)
            if callable(thing) and not name.startswith("_"):
                yield name if module is flatdyn else f"{module.__name__.removeprefix('flatdyn.')}.{name}", thing


def public_methods(thing):
    """Functions of a class, its own and inherited ones, that are flatdyn's."""
    for name, owner in [(name, kind) for kind in thing.__mro__ for name in vars(kind)]:
        if owner.__module__.startswith("flatdyn") and not name.startswith("_"):
            value = inspect.getattr_static(owner, name)
            if isinstance(value, types.FunctionType | staticmethod | classmethod):
                yield owner.__name__, name


# What functions return or raise, and tuples of data: checked where it is taken.
POINTS = ("fixedpoints.FixedPoint", "landscapes.CriticalPoint")
RESULTS = (flatdyn.records.Record, flatdyn.methods.State, tuple, list, Exception, enum.Enum)


def known(*words):
    named = {name.split(" ")[0] for name in RECIPES} | set(WITHOUT)
    return any(word in named | {name.split(".")[-1] for name in named if name[0].islower()} for word in words)


def test_every_public_name_has_a_recipe_or_a_reason():
    missing = []
    for name, thing in public_names():
        result = inspect.isclass(thing) and (issubclass(thing, RESULTS) or name in POINTS)
        if not result and not known(name, name.split(".")[-1], thing.__name__):
            missing.append(name)
        if inspect.isclass(thing):
            kinds = {kind.__name__ for kind in thing.__mro__}
            for owner, method in public_methods(thing):
                if not known(f"{owner}.{method}", method, *(f"{kind}.{method}" for kind in kinds)):
                    missing.append(f"{owner}.{method}")
    assert not missing, f"give these a recipe, or a reason in WITHOUT: {sorted(set(missing))}"


def test_a_name_has_either_a_recipe_or_a_reason():
    assert not set(RECIPES) & set(WITHOUT)
    for module in ("flatdyn.escape", "flatdyn.landscapes"):  # what the walk above has to see
        assert importlib.import_module(module) in public_modules()


@pytest.mark.parametrize("seed", [0])
def test_odd_arguments_are_refused_or_answered(seed, tmp_path):
    fuzz, kept = Path(__file__).parent / "fuzz.py", tmp_path / "answers.jsonl"
    command = [sys.executable, str(fuzz), "--calls", str(CALLS), "--seed", str(seed), "--kept", str(kept)]
    environment = os.environ | {"PYTHONPATH": str(Path(flatdyn.__file__).parents[1]), "FLATDYN_PROGRESS": "0"}
    environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # each program runs once: compiling is what takes time
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert len(kept.read_text().splitlines()) == CALLS, done.stderr
    assert done.returncode == 0, done.stdout
