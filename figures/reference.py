"""The reference of the site: each public name of flatdyn, where it stands, and its docstring as Sphinx reads it."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

# --- the public names -----------------------------------------------------------------------------------------


def public_names(module: ModuleType) -> list[str]:
    """Names in reading order: what a package hands on as `import x as x`, what a module defines.

    They are read from the text, as a module's namespace holds its helpers and loaded submodules too.
    """
    file = Path(module.__file__)
    stub = file.with_suffix(".pyi")
    names = []
    for node in ast.parse((stub if stub.exists() else file).read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names if alias.asname == alias.name]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


@functools.cache
def modules() -> dict[str, ModuleType]:
    """The public modules by their full names: flatdyn, and each module that is a public name of one."""
    public = {"flatdyn": importlib.import_module("flatdyn")}
    queue = list(public.values())
    for module in queue:
        inner = [getattr(module, name) for name in public_names(module)]
        new = [one for one in inner if isinstance(one, ModuleType) and one.__name__ not in public]
        public |= {one.__name__: one for one in new}
        queue += new
    reading = public["flatdyn"].__doc__  # the map of the house
    place = {name: reading.find(f"\n    {name.split('.')[1]} ") for name in public if "." in name}
    return dict(
        sorted(public.items(), key=lambda item: place.get(item[0], -1) % len(reading) if "." in item[0] else -1)
    )


class Entry:
    """A public object: the name it is documented by, and the module on whose page it stands."""

    def __init__(self, name: str, home: str, value: Any):
        self.name, self.home, self.value = name, home, value

    @property
    def sentence(self) -> str:
        """What it is, in one sentence; of a constant, its value or its keys."""
        if callable(self.value):
            return _sentence(self.value.__doc__)
        return ", ".join(f"`{key}`" for key in self.value) if isinstance(self.value, dict) else f"`{self.value!r}`"

    @property
    def directive(self) -> list[str]:
        """The lines by which Sphinx shows it."""
        if inspect.isclass(self.value):
            bases = any(entry_name(base) for base in self.value.__mro__[1:])
            return [f".. autoclass:: {self.name}", "   :members:", *["   :show-inheritance:"] * bases]
        if callable(self.value):
            return [f".. autofunction:: {self.name}"]
        return [f".. py:data:: {self.name}", "", f"   {inline(self.sentence)}"]


@functools.cache
def entries() -> dict[tuple[str, int], Entry]:
    """Each public object once: as flatdyn.NAME if that is public, on the page of the room that it comes from."""
    exporters: dict[tuple[str, int], list[str]] = {}
    values = {}
    for name, module in modules().items():
        for short in public_names(module):
            value = getattr(module, short)
            if not isinstance(value, ModuleType):
                exporters.setdefault((short, id(value)), []).append(name)
                values[short, id(value)] = value
    once = {}
    for (short, number), names in exporters.items():
        origin = getattr(values[short, number], "__module__", None) or ""
        rooms = [name for name in names if name != "flatdyn"] or names
        home = max(rooms, key=lambda room: len(os.path.commonpath([room.replace(".", "/"), origin.replace(".", "/")])))
        once[short, number] = Entry(f"{'flatdyn' if 'flatdyn' in names else home}.{short}", home, values[short, number])
    return once


def documented(name: str, inside: Any = None) -> str | None:
    """The name under which the pages have what `name` means inside a module or class.

    "" if it is not public, and None if it means nothing. What has no entry of its own, such as a field of a record, is
    found at its class.
    """
    parts = name.split(".")
    module = sys.modules.get(getattr(inside, "__module__", None) or "")
    for place in (inside, module, *modules().values()):
        start = modules()["flatdyn"] if parts[0] == "flatdyn" else place
        path = None if start is None else _path(start, parts[parts[0] == "flatdyn" :])
        if path is not None:
            return path
    return None


def _path(value: Any, parts: list[str]) -> str | None:
    path = entry_name(value)
    for part in parts:
        field = part in getattr(value, "__dataclass_fields__", ())
        if not hasattr(value, part) and not field:
            try:
                importlib.import_module(f"{value.__name__}.{part}")
            except (AttributeError, ModuleNotFoundError):
                return None
        owner, value = value, getattr(value, part, None)
        inherited = path and not isinstance(owner, ModuleType)
        own = inherited and not field and part in vars(owner) and getattr(value, "__doc__", None)
        path = f"{path}.{part}" if own else path if inherited else entry_name(value, part)
    return path or ""


def entry_name(value: Any, short: str | None = None) -> str | None:
    """The name by which a module or an object is documented, if it is."""
    if isinstance(value, ModuleType):
        return value.__name__ if value.__name__ in modules() else None
    entry = entries().get((getattr(value, "__name__", short), id(value)))
    return entry and entry.name


# --- pages -----------------------------------------------------------------------------------------------------


def api_page(name: str) -> str:
    return "api/index.rst" if name == "flatdyn" else f"api/{name}.rst"


def module_page(name: str) -> str:
    """What the module is for, a table of its names, and each name that is at home here."""
    module = modules()[name]
    shown = [(short, getattr(module, short)) for short in public_names(module)]
    inner = [value.__name__ for _, value in shown if isinstance(value, ModuleType)]
    objects = [entries()[short, id(value)] for short, value in shown if not isinstance(value, ModuleType)]
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", ""]
    rows = [(f":py:mod:`{one}`", _sentence(modules()[one].__doc__)) for one in inner if name != "flatdyn"]
    rows += [(f":py:obj:`{one.name.rpartition('.')[2]} <{one.name}>`", one.sentence) for one in objects]
    if rows:
        lines += [".. list-table::", "   :widths: auto", ""]
        lines += [f"   * - {link}\n     - {inline(sentence)}" for link, sentence in rows] + [""]
    for entry in objects:
        if entry.home == name:
            lines += [*entry.directive, ""]
    below = list(modules())[1:] if name == "flatdyn" else []
    if below:
        lines += [".. toctree::", "   :hidden:", "", *(f"   {one.removeprefix('flatdyn.')} <{one}>" for one in below)]
    return "\n".join(lines) + "\n"


def _sentence(text: str | None) -> str:
    """The first sentence of a docstring, or its first line."""
    first = inspect.cleandoc(text or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.?!]) (?=[A-ZΑ-Ω])", first)[0]


# --- docstrings as reStructuredText ---------------------------------------------------------------------------

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|References|Example):$")
MARKED = re.compile(r"(?P<role>:[\w:]+:`[^`]+`)|``(?P<two>.+?)``|`(?P<one>[^`]+)`|(?P<sign>[*|\\]|_(?!\w))")


def inline(text: str, inside: Any = None, names: dict[str, str] | None = None) -> str:
    """Plain text as reStructuredText: what is in backquotes is code, references lead to pages, and signs are signs.

    Words among `names` lead to what they name, too.
    """

    def marked(match: re.Match) -> str:
        if match["sign"]:
            return "\\" + match["sign"]
        if match["role"]:
            made = _reference(match["role"], inside)
        elif names and match["word"]:
            made = f":py:obj:`{match['word']} <{names[match['word']]}>`"
        else:
            made = f"``{match['two'] or match['one']}``"
        # A backslash and a space are nothing but the room that markup needs around it
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        return "\\ " * (before not in " ") + made + "\\ " * (after not in " ")

    words = "|".join(map(re.escape, sorted(names or (), key=len, reverse=True)))
    pattern = re.compile(rf"{MARKED.pattern}|(?P<word>\b(?:{words})\b)") if words else MARKED
    return pattern.sub(marked, text)


def _reference(role: str, inside: Any) -> str:
    name = role.split("`")[1]
    target = documented(name, inside)
    if target is None:
        return role  # Sphinx says that it leads nowhere
    return f":py:obj:`{name.removeprefix('flatdyn.')} <{target}>`" if target else f"``{name}``"


def readable(lines: list[str], inside: Any = None) -> list[str]:
    """A docstring for Sphinx: equations and overviews in a block of their own, lists with room, signs as they are."""
    made: list[str] = []
    section = block = example = False
    bullets: int | None = None
    names = _names(inside) if isinstance(inside, ModuleType) else None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            made += [""] * block
            section, block = bool(SECTION.match(line)), False
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if example or not line.strip():
            made.append(line)
        elif indent >= 4 and not section:
            made += [] if block else ["", ".. parsed-literal::", ""]
            block = True
            left = re.match(r" +\S+(?: \S+)*", line)[0]  # in an overview, the column of names
            made.append(inline(left, inside, names) + inline(line[len(left) :], inside))
        else:
            body, mark = line.strip(), ""
            if body.startswith("* "):
                body, mark = body[2:], "* "
                made += [""] * (bullets != indent)
                bullets = indent
            elif bullets is not None and indent <= bullets:
                made.append("")
                bullets = None
            made.append(" " * indent + mark + inline(body, inside))
    return made


def _names(module: ModuleType) -> dict[str, str]:
    """The public names of a module, with those of its rooms, and where they are documented."""
    names = {short: documented(short, module) for short in public_names(module)}
    return {short: target for short, target in names.items() if target}
