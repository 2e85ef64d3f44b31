"""Whether a notebook's figures are up to date: the key with which they were made, against the key of now.

A key holds digests and versions, line by line, so that two branches merge and a reader sees what changed:

    cells       the code cells: not the prose, not the outputs
    modules     every module of the library that the run had imported when it ended, and the style of the plots
    versions    Python's, and those of the numerical packages that the run had imported
    files       the notebook's figures, their data and its results, as they lie in the folder of figures

Code counts as its syntax tree without comments and docstrings. What renders pages from stored results is left out, for
no figure and no number passes through it. Not in the key: the device, and what is set by environment variables.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

MADE = "data/made"  # in the folder of figures: NAME.json for each notebook
RENDERING = {f"flatdyn/notebook/{name}.py" for name in ("pages", "ledger", "claims", "pictures", "renewal")}
STYLE = "flatdyn/paper.mplstyle"
DRAWING = ("flatdyn/plotting/", "flatdyn/notebook/", STYLE)  # what changes pictures, but no number in them
PACKAGES = {  # import name -> distribution
    **{name: name for name in ("jax", "jaxlib", "numpy", "scipy", "sympy", "mpmath", "matplotlib", "equinox")},
    **{name: name for name in ("diffrax", "optax", "xarray", "mlxtend", "networkx", "mnist1d")},
    "sklearn": "scikit-learn",
}

# Run in the kernel after the last cell. It needs no name that a notebook may have given to something else.
PROBE = "__import__('builtins').print(__import__('json').dumps(sorted(__import__('sys').modules)))"


class Key(NamedTuple):
    """What a notebook's figures depend on; see the head of this module."""

    cells: str
    modules: dict[str, str]
    versions: dict[str, str]
    files: dict[str, str]

    def text(self) -> bytes:
        return (json.dumps(self._asdict(), indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


@functools.cache
def code_digest(source: str) -> str:
    """A digest of what code does: not of its comments, docstrings and layout."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a magic of IPython
        return digest(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                del node.body[0]
    return digest(ast.unparse(tree))


def cells_digest(notebook: Mapping[str, Any]) -> str:
    """Of the code cells of a notebook as nbformat reads it."""
    cells = ("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    return digest("\n".join(code_digest(cell) for cell in cells))


def library() -> dict[str, str]:
    """Digests of all modules of the library, and of the style of the plots, by path."""
    import flatdyn

    root = Path(flatdyn.__file__).parent
    modules = {f"flatdyn/{path.relative_to(root).as_posix()}": path for path in sorted(root.rglob("*.py"))}
    digests = {name: code_digest(path.read_text("utf-8")) for name, path in modules.items() if name not in RENDERING}
    return digests | {STYLE: digest((root / "paper.mplstyle").read_bytes())}


def reached(names: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Those modules of the library that are among the imported ones, which are given by name."""
    paths = [name.replace(".", "/") for name in names if name.split(".")[0] == "flatdyn"]
    known = {path + ending for path in paths for ending in (".py", "/__init__.py")} | ({STYLE} if paths else set())
    return {path: word for path, word in modules.items() if path in known}


def versions(names: Iterable[str]) -> dict[str, str]:
    """Of Python, and of the numerical packages among the imported modules."""
    tops = {name.split(".")[0] for name in names}
    installed = {dist: _version(dist) for name, dist in sorted(PACKAGES.items()) if name in tops}
    return {"python": ".".join(platform.python_version_tuple()[:2])} | installed


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def owned(figures: Path, name: str) -> list[str]:
    """The files in the folder of figures that belong to a notebook by their names, relative to the folder."""
    patterns = [f"{stem}{name}{more}.{kind}" for more in ("", "_*") for stem, kind in _KINDS]
    patterns += [f"data/results/{name}.json"]
    return sorted({path.relative_to(figures).as_posix() for pattern in patterns for path in figures.glob(pattern)})


_KINDS = ("", "pdf"), ("", "png"), ("data/", "npz")


def file_digests(figures: Path, names: Iterable[str]) -> dict[str, str]:
    """Digests of those of the files that are there."""
    return {name: digest((figures / name).read_bytes()) for name in sorted(names) if (figures / name).is_file()}


def record(figures: Path, name: str) -> Path:
    """Where the key lies with which a notebook's figures were made."""
    return figures / MADE / f"{name}.json"


def made(figures: Path, name: str) -> Key | None:
    """The key with which a notebook's figures were made; None if there is none that can be read."""
    try:
        key = Key(**json.loads(record(figures, name).read_text("utf-8")))
        tables = (key.modules, key.versions, key.files)
        whole = all(isinstance(v, str) for table in tables for v in table.values()) and isinstance(key.cells, str)
    except Exception:  # none, damaged, or with the marks of a merge
        return None
    return key if whole else None


def reasons(figures: Path, name: str, notebook: Mapping[str, Any], modules: Mapping[str, str]) -> list[str]:
    """Why a notebook's figures are to be made again; [] if they are up to date.

    Args:
        figures: the folder of figures
        name: the notebook's name, without suffix
        notebook: as nbformat reads it
        modules: the library as it is now, see :func:`library`
    """
    old = made(figures, name)
    if old is None:
        return ["its record can't be read" if record(figures, name).exists() else "it has no record of a run"]
    current = {dist: _version(dist) for dist in old.versions if dist != "python"} | versions([])
    lines = [f"{what} {old.versions.get(what)} -> {now}" for what, now in current.items() if old.versions[what] != now]
    if old.versions["python"] == current["python"]:  # another Python writes its syntax trees otherwise
        lines += ["its code changed"] * (old.cells != cells_digest(notebook))
        lines += [
            f"{path} {'changed' if path in modules else 'is gone'}"
            for path, word in old.modules.items()
            if modules.get(path) != word
        ]
    files = file_digests(figures, {*old.files, *owned(figures, name)})
    for path in sorted({*old.files, *files}):
        if path not in files:
            lines.append(f"{path} is missing")
        elif old.files.get(path) != files[path]:
            lines.append(f"{path} {'was changed' if path in old.files else 'is new'}")
    return lines


def draws_alike(old: Key | None, new: Key) -> bool:
    """Whether the same numbers give the same picture: nothing that draws has changed."""
    if old is None or old.cells != new.cells:
        return False
    if any(old.versions.get(what) != new.versions.get(what) for what in ("matplotlib", "python")):
        return False
    drawing = {path for path in {*old.modules, *new.modules} if path.startswith(DRAWING)}
    return all(old.modules.get(path) == new.modules.get(path) for path in drawing)
