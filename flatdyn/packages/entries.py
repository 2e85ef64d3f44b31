"""What is known of other packages' optimisers and samplers: the entries of table.toml, by name."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import re
import tomllib
from importlib import metadata
from importlib.resources import files

from flatdyn.core import checks


@dataclasses.dataclass(frozen=True)
class Case:
    """What a call is in flatdyn, for some of its arguments.

    Attributes:
        when: for which, a condition in the arguments; the first case that holds counts
        method: the method that runs the same map, an expression in the arguments; None if there is none
        difference: the largest difference from the package that was measured over 20 steps, in units of θ; None if
            none was, because it draws random numbers of its own: then its law was compared
        reason: why there is no such method
        instead: what to write instead, or the nearest; may stand beside a method, as a word of care
    """

    when: str = "True"
    method: str | None = None
    difference: float | None = None
    reason: str = ""
    instead: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one optimiser, sampler, average or schedule of a package really runs.

    Attributes:
        name: as it is imported, such as "torch.optim.SGD"
        aliases: other names
        package: the distribution that holds it, as pip calls it
        version: the release that was tried
        signature: its arguments that change the map, with its own defaults, as Python writes them
        ignored: arguments that do not change the map
        base: name of the entry to which all other arguments go; "" if it wraps none
        map: what it does, in words
        formula: the same as an equation; h is its step size, g the gradient
        cases: what that is in flatdyn
        common: arguments that several cases share, as `**common`
        positions: the method's function of its state that gives what the package stores as its parameters; "" for θ
        matrix, noise: A and Q of its step on ½ k θ², for :func:`flatdyn.packages.recursion`: expressions in the
            arguments and in k; "" if there is none of its own
        gain: G in place of the noise Q = G Gᵀ
        setup: statements before them
        around: what is done with that `step` to make it a call
        stable: when it is stable
    """

    name: str
    package: str
    version: str
    signature: str
    map: str
    formula: str
    cases: tuple[Case, ...]
    aliases: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    base: str = ""
    common: str = ""
    positions: str = ""
    matrix: str = ""
    noise: str = ""
    gain: str = ""
    setup: str = ""
    around: str = ""
    stable: str = ""

    @property
    def installed(self) -> str | None:
        """The version that is installed here; None if none is."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None

    @property
    def note(self) -> str:
        """What is to be said of the version that is installed, if it is another than the one that was tried."""
        here = self.installed
        if here is None or here.partition("+")[0] == self.version:
            return ""
        return (
            f"{self.package} {here} is installed, and what is known of {self.name} is of {self.version}: "
            f"pip install {self.package}=={self.version}, or run `make packages` to see what has changed"
        )

    def parameters(self) -> inspect.Signature:
        """The arguments with their defaults."""
        return _signature(self.signature)

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.package} {self.version})", f"  called  {self.name}({self.signature})"]
        lines += [f"  does    {self.map}", f"  i.e.    {self.formula}"]
        lines += [f"  common  {self.common}"] if self.common else []
        for case in self.cases:
            condition = "" if case.when == "True" else f"if {case.when}: "
            size = "" if case.difference is None else f"   (largest difference {case.difference:.1g})"
            lines.append(f"  flatdyn {condition}{case.method or 'none: ' + case.reason}{size}")
            lines += [f"          {case.instead}"] if case.instead else []
        return "\n".join(lines + ([f"  note    {self.note}"] if self.note else []))


@functools.cache
def entries() -> dict[str, Entry]:
    """All entries by name, in the order of the file."""
    table = tomllib.loads(files("flatdyn.packages").joinpath("table.toml").read_text(encoding="utf-8"))
    rows = {}
    for row in table["entry"]:
        cases = tuple(Case(**_flat(case)) for case in row.pop("case"))
        lists = {name: tuple(row.pop(name, ())) for name in ("aliases", "ignored")}
        version = row.pop("version", None) or table["versions"][row["package"]]
        rows[row["name"]] = Entry(cases=cases, version=version, **lists, **_flat(row))
    return rows


def _flat(row: dict) -> dict:
    """The same row with the line breaks of its texts as spaces."""
    return {name: " ".join(value.split()) if isinstance(value, str) else value for name, value in row.items()}


@functools.cache
def _signature(text: str) -> inspect.Signature:
    """The signature that Python's words for arguments and defaults make; nothing is run."""
    arguments = ast.parse(f"def f({text}): pass").body[0].args
    positional = arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    kinds = [inspect.Parameter.POSITIONAL_OR_KEYWORD] * len(positional)
    kinds += [inspect.Parameter.KEYWORD_ONLY] * len(arguments.kwonlyargs)
    empty = inspect.Parameter.empty
    return inspect.Signature(
        [
            inspect.Parameter(one.arg, kind, default=empty if default is None else ast.literal_eval(default))
            for (one, default), kind in zip(pairs, kinds, strict=True)
        ]
    )


@functools.cache
def _by_any_name() -> dict[str, str]:
    """Every name and alias, in small letters -> the name."""
    return {alias.lower(): name for name, row in entries().items() for alias in (name, *row.aliases)}


def names(package: str | None = None) -> list[str]:
    """The names that are known, of one package or of all.

    Raises:
        ValueError: if nothing of that package is known
    """
    if package is None:
        return list(entries())
    checks.text("package", package)
    wanted = _plain(package)
    chosen = [name for name, row in entries().items() if wanted in _packages(row)]
    if not chosen:
        known = sorted({row.package for row in entries().values()})
        near = difflib.get_close_matches(wanted, known, n=3)
        raise ValueError(
            f"package {package!r} is not known{perhaps(near)}; known are {', '.join(known)}; "
            "a transformation of optax runs by fd.from_optax"
        )
    return chosen


def entry(name: str) -> Entry:
    """What is known of one optimiser, sampler, average or schedule: a record that prints itself.

    Args:
        name: as it is imported, such as "torch.optim.SGD", or an alias; capitals do not matter
    Raises:
        ValueError: if it is not known; the message lists near names and the versions that were tried
    """
    checks.text("name", name)
    known = _by_any_name()
    if (key := name.strip().lower()) in known:
        return entries()[known[key]]
    last = {}
    for alias in known:
        last.setdefault(alias.rpartition(".")[2].rpartition(":")[2], []).append(alias)
    near = difflib.get_close_matches(key, known, n=4, cutoff=0.6)
    ending = key.rpartition(".")[2].rpartition(":")[2]
    near += [alias for word in difflib.get_close_matches(ending, last, n=3, cutoff=0.8) for alias in last[word]]
    near = list(dict.fromkeys(known[alias] for alias in near))[:6]
    tried = {f"{row.package} {row.version}" for row in entries().values() if not near or row.name in near}
    raise ValueError(
        f"name must be one that is in the table, got {name!r}{perhaps(near)}. Tried were {', '.join(sorted(tried))}; "
        "fd.packages.table() shows all"
    )


def perhaps(near: list[str]) -> str:
    """The near names, as an aside in an error."""
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _packages(row: Entry) -> set[str]:
    """The names under which a package is known: of the distribution, and as what it is imported."""
    return {_plain(row.package)} | {_plain(re.split("[.:]", name)[0]) for name in (row.name, *row.aliases)}


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def table(package: str | None = None) -> str:
    """What packages really run and what that is in flatdyn, as a table in Markdown.

    Args:
        package: one package, such as "torch"; all if not given
    Raises:
        ValueError: if nothing of that package is known
    """
    rows = ["| call | version | what it runs | flatdyn | largest difference |", "|---|---|---|---|---|"]
    for row in (entries()[name] for name in names(package)):
        for number, case in enumerate(row.cases):
            does = f"{row.map} {_code(row.formula)}" if number == 0 else ""
            called = f"`{row.name}`" + ("" if case.when == "True" else f", {_code(case.when)}")
            method = re.sub(r"\*\*common\b", row.common[len("dict(") : -1], case.method or "")
            equal = _code(method) if method else f"none: {case.reason}"
            size = "" if case.difference is None else f"{case.difference:.1g}"
            cells = (called, f"{row.package} {row.version}", does, f"{equal} {case.instead}".strip(), size)
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
