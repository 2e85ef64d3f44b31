"""Put plausible one-line mistakes into the library, one at a time, and see whether a test notices.

    python tests/mutations.py --number 200                 # drawn at random over all modules
    python tests/mutations.py --only "flatdyn/escape/*"    # only modules whose path fits
    python tests/mutations.py --list                       # show what would be tried

A mistake is a changed sign, operator, comparison, constant, keyword or branch, or a check that is lost. Sizes, limits
and tolerances (whole numbers above nine, numbers below 1e-4) and how a drawing looks (line widths, colours, places of
a legend) are left alone: another choice there is no mistake. The module with the mistake is put into a copy of the
tree, and the test files that mention the module's names run on it, the most likely first, until one fails or the
processor time for this mistake is used up. What no test notices has survived: it needs a test, or a reason. Results go
to a file of JSON lines, and the same call goes on where it was stopped. It is not part of `make test`, since 200
mistakes take about an hour and a half of processor time.
"""

from __future__ import annotations

import argparse
import ast
import collections
import fnmatch
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("flatdyn", "tests", "figures", "conftest.py", "pyproject.toml", "README.md")
FILES_PER_MISTAKE = 8

OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Pow: ("**", "*"),
    ast.Mod: ("%", "//"),
}
COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
PAIRS = [
    ("min", "max"),
    ("minimum", "maximum"),
    ("argmin", "argmax"),
    ("any", "all"),
    ("sin", "cos"),
    ("sum", "mean"),
    ("floor", "ceil"),
    ("real", "imag"),
    ("log", "log1p"),
    ("zeros", "ones"),
]
TWINS = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
KEYWORDS = ("axis", "ddof", "keepdims", "replace", "side", "endpoint", "k", "key", "bound", "length", "default")
LOOKS = ("lw", "ms", "mew", "mec", "mfc", "alpha", "zorder", "color", "fontsize", "figsize", "loc", "bbox_to_anchor")


class Mistake(NamedTuple):
    """One change of the source text of a module."""

    file: str
    line: int
    begin: int  # offsets in bytes
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old!r} -> {self.new!r}"


# --- mistakes -------------------------------------------------------------------------------------------------


class _Finder(ast.NodeVisitor):
    """Collects mistakes; leaves out annotations, texts, messages of errors, and what is only displayed."""

    def __init__(self, file: str, source: bytes):
        self.file, self.source, self.found = file, source, []
        lines = source.splitlines(keepends=True)
        self.starts = [sum(map(len, lines[:i])) for i in range(len(lines) + 1)]

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.AST) -> str:
        begin, end = self.span(node)
        return self.source[begin:end].decode()

    def add(self, line: int, begin: int, end: int, new: str) -> None:
        old = self.source[begin:end].decode()
        if old != new and "\n" not in old:
            self.found.append(Mistake(self.file, line, begin, end, old, new))

    def between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Change an operator, which stands between two operands."""
        begin, end = self.span(left)[1], self.span(right)[0]
        gap = self.source[begin:end].decode()
        if gap.count(old) == 1 and "\n" not in gap:
            place = begin + len(gap[: gap.index(old)].encode())
            self.add(left.end_lineno, place, place + len(old), new)

    def visit_BinOp(self, node):
        if type(node.op) in OPERATORS and not isinstance(node.left, (ast.Constant, ast.JoinedStr)):
            self.between(node.left, node.right, *OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        if type(node.op) in OPERATORS:
            old, new = OPERATORS[type(node.op)]
            self.between(node.target, node.value, f"{old}=", f"{new}=")
        self.generic_visit(node)

    def visit_Compare(self, node):
        if len(node.ops) == 1:
            self.between(node.left, node.comparators[0], *COMPARISONS[type(node.ops[0])])
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        self.between(node.values[0], node.values[1], old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, (ast.USub, ast.Not)):
            begin, end = self.span(node)
            self.add(node.lineno, begin, end, f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node):
        begin, end = self.span(node)
        if isinstance(node.value, bool):
            self.add(node.lineno, begin, end, str(not node.value))
        elif isinstance(node.value, int) and node.value < 10:  # an index, a power, a factor
            self.add(node.lineno, begin, end, str(node.value + 1))
        elif isinstance(node.value, float) and (node.value == 0 or node.value > 1e-4):
            self.add(node.lineno, begin, end, repr(2 * node.value if node.value else 1.0))

    def visit_IfExp(self, node):
        begin, end = self.span(node)
        swapped = f"({self.text(node.orelse)} if {self.text(node.test)} else {self.text(node.body)})"
        self.add(node.lineno, begin, end, swapped)
        self.generic_visit(node)

    def visit_If(self, node):
        if all(isinstance(inner, ast.Raise) for inner in node.body) and not node.orelse:  # a check that is lost
            self.add(node.lineno, *self.span(node.test), "False")
        self.generic_visit(node)

    def visit_keyword(self, node):
        if node.arg not in LOOKS:
            self.visit(node.value)

    def visit_Call(self, node):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in TWINS:
            end = self.span(node.func)[1]
            self.add(node.func.end_lineno, end - len(name), end, TWINS[name])
        if len(node.args) >= 2 and all(isinstance(a, (ast.Name, ast.Attribute)) for a in node.args[:2]):
            begin, end = self.span(node.args[0])[0], self.span(node.args[1])[1]
            self.add(node.args[0].lineno, begin, end, f"{self.text(node.args[1])}, {self.text(node.args[0])}")
        for keyword in node.keywords:
            if keyword.arg in KEYWORDS and (node.args or keyword is not node.keywords[0]):
                begin, end = self.span(keyword)
                before = self.source[:begin].rstrip()
                if before.endswith(b","):
                    self.add(keyword.lineno, len(before) - 1, end, "")
        self.generic_visit(node)

    def visit_FunctionDef(self, node):
        if node.name == "__repr__":
            return
        for child in [*node.args.defaults, *filter(None, node.args.kw_defaults), *_body(node)]:
            self.visit(child)

    def visit_ClassDef(self, node):
        for child in _body(node):
            self.visit(child)

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node):
        if not any(getattr(target, "id", "").startswith("__") for target in node.targets):
            self.generic_visit(node)

    def visit_Raise(self, node):
        pass

    visit_JoinedStr = visit_Import = visit_ImportFrom = visit_Raise


def _body(node: ast.AST) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def mistakes(path: Path) -> list[Mistake]:
    """All mistakes that are tried in one module; each gives a text that Python can still compile."""
    source = path.read_bytes()
    finder = _Finder(str(path.relative_to(ROOT)), source)
    for node in _body(ast.parse(source)):
        finder.visit(node)
    return [one for one in finder.found if _compiles(mutated(source, one))]


def mutated(source: bytes, one: Mistake) -> bytes:
    return source[: one.begin] + one.new.encode() + source[one.end :]


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def draw(modules: list[Path], number: int, seed: int) -> list[Mistake]:
    """So many mistakes: modules take turns in random order, and each gives one of its own at random."""
    rng = random.Random(seed)
    left = {path: rng.sample(found, len(found)) for path in sorted(modules) if (found := mistakes(path))}
    drawn = []
    while len(drawn) < number and left:
        for path in rng.sample(list(left), len(left)):
            drawn.append(left[path].pop())
            if not left[path]:
                del left[path]
    return drawn[:number]


# --- which tests ----------------------------------------------------------------------------------------------


def test_files(module: Path) -> list[Path]:
    """Test files that speak of a module, or of one that imports it, the most likely first."""
    texts = {path: collections.Counter(re.findall(r"\w+", path.read_text())) for path in ROOT.glob("tests/test_*.py")}
    score = collections.Counter()
    for weight, around in ((1.0, [module]), (0.1, _importers(module))):
        for place in around:
            names = _defined(place)
            for path, words in texts.items():
                score[path] += weight * sum(min(words[name], 10) for name in names) / (len(names) or 1)
    for path in texts:
        if module.stem in path.stem or path.stem.removeprefix("test_") in (module.stem, module.parent.name):
            score[path] += 5
    return [path for path, value in score.most_common(FILES_PER_MISTAKE) if value > 0]


def _defined(module: Path) -> list[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [n.name for n in ast.parse(module.read_text()).body if isinstance(n, kinds) and not n.name.startswith("_")]


def _importers(module: Path) -> list[Path]:
    """Modules that import this one by name."""
    dotted = ".".join(module.relative_to(ROOT).with_suffix("").parts)
    package, _, name = dotted.rpartition(".")
    named = re.compile(rf"^\s*(from {re.escape(dotted)} import|from {re.escape(package)} import .*\b{name}\b)", re.M)
    return [path for path in ROOT.glob("flatdyn/**/*.py") if path.stem != "__init__" and named.search(path.read_text())]


# --- running --------------------------------------------------------------------------------------------------


def try_one(one: Mistake, tree: Path, seconds: float) -> dict:
    """Run tests on the tree with the mistake in it; says who noticed, if anybody did."""
    target, source = tree / one.file, (ROOT / one.file).read_bytes()
    files = [path.name for path in test_files(ROOT / one.file)]
    target.write_bytes(mutated(source, one))
    tried, noticed, used = [], "", 0.0
    try:
        while files and not noticed and used < seconds:
            tried.append(files.pop(0))
            noticed, took = _failing(tree, tried[-1], seconds - used)
            used += took
    finally:
        target.write_bytes(source)
    return {"mistake": str(one), "noticed": noticed, "tried": tried, "left": files, "seconds": round(used, 1)}


def _failing(tree: Path, file: str, seconds: float) -> tuple[str, float]:
    """The first test in a file that fails, "" if all pass or time runs out, and the processor seconds it took."""
    report = tree / "report.txt"
    report.write_text("")
    pid = os.fork()  # heavy libraries are imported already
    if pid == 0:
        _child(tree, file, report, seconds)
    _, status, usage = os.wait4(pid, 0)
    text, took = report.read_text(), usage.ru_utime + usage.ru_stime
    if failed := re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.M):
        return failed[0], took
    if status == 0 and re.search(r"\d+ passed", text):
        return "", took
    out_of_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
    return "" if out_of_time else f"{file} (crash)", took


def _child(tree: Path, file: str, report: Path, seconds: float) -> None:
    """Run one test file in a process of its own, and end it here whatever happens."""
    try:
        # The soft limit sends SIGXCPU, a hard one SIGKILL, which would be taken for a crash
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 30))
        out = os.open(report, os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[0] = str(tree)
        import pytest

        options = ["-o", "addopts=", "-p", "no:cacheprovider", "-x", "-q", "-rfE", "--tb=no", "-m", "not slow"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins that are imported already
        pytest.main([f"tests/{file}", *options])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def copy_tree(folder: str) -> Path:
    tree = Path(folder)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, tree / name)
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in {line.split("/")[0] for line in names} - set(COPIED):  # a test that misses a file would notice anything
        (tree / name).symlink_to(ROOT / name)
    return tree


def run(drawn: list[Mistake], results: Path, seconds: float, share: tuple[int, int]) -> None:
    """Try all that are not in the file of results yet; `share` = (i, n) takes every n-th from the i-th on."""
    done = {json.loads(line)["mistake"] for line in results.read_text().splitlines()} if results.exists() else set()
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "FLATDYN_PROGRESS": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    import equinox  # noqa: F401
    import jax  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import scipy.optimize  # noqa: F401
    import sympy  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="mutations") as folder:
        tree = copy_tree(folder)
        for number, one in enumerate(drawn):
            if number % share[1] != share[0] or str(one) in done:
                continue
            outcome = try_one(one, tree, seconds)
            with open(results, "a") as file:
                file.write(json.dumps(outcome) + "\n")
            print(f"{number:4} {outcome['seconds']:6} s  {one}  {outcome['noticed'] or 'SURVIVED'}", flush=True)


def summary(results: Path) -> None:
    """The share noticed, for each module and in all, and what survived."""
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    table = collections.defaultdict(list)
    for row in rows:
        table[row["mistake"].split(":")[0]].append(bool(row["noticed"]))
    for module, noticed in sorted(table.items()):
        print(f"{sum(noticed):3} of {len(noticed):3}  {module}")
    survived = [row["mistake"] for row in rows if not row["noticed"]]
    print(f"{len(rows) - len(survived)} of {len(rows)} mistakes noticed")
    print(*(f"survived: {mistake}" for mistake in survived), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=200, help="how many mistakes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="only modules whose path fits")
    parser.add_argument("--seconds", type=float, default=240, help="processor time for each mistake")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutations.jsonl")
    parser.add_argument("--share", default="0/1", metavar="I/N", help="every N-th mistake from the I-th on")
    parser.add_argument("--list", action="store_true", help="show the mistakes and their tests, run nothing")
    chosen = parser.parse_args()
    modules = [path for path in ROOT.glob("flatdyn/**/*.py") if fnmatch.fnmatch(path.relative_to(ROOT), chosen.only)]
    drawn = draw(modules, chosen.number, chosen.seed)
    if chosen.list:
        for one in drawn:
            print(one, *(path.stem for path in test_files(ROOT / one.file)), sep="  ")
        return
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    run(drawn, chosen.results, chosen.seconds, tuple(map(int, chosen.share.split("/"))))
    summary(chosen.results)


if __name__ == "__main__":
    main()
