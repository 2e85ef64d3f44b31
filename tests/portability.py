"""Notebooks and tests as on other machines: `python tests/portability.py` runs every row below and prints a table.

A row is a setting: another instruction set for compiled programs, other kernels of the linear algebra, several host
devices, another Python with the oldest and the newest allowed packages, or weights that are moved by 1e-7 of their
size before a training begins, which is what another machine's rounding soon amounts to.

    --list             name the rows, and say which of them this machine can run
    --row NAME         only this row; may be given several times
    --only NAME        only notebooks and test files whose name starts with NAME; may be given several times
    --notebooks-only   no tests                        --tests-only   no notebooks
    -k EXPRESSION      only tests that match, as in pytest
    --python PATH      a Python to be found besides those on PATH; may be given several times
    --jobs N           pieces at once (default: one per two cores, at least one)
    --again            repeat what is done; without it a run that was interrupted, or had other rows, goes on
    --table            print the table of what is done, run nothing

What is done is kept in build/portability, a file for each piece, with the environments of other Pythons. A piece, one
notebook or one test file, is repeated only if it or the library has changed. Exit status 1: something failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "portability"
PYTHONS = "3.11", "3.12", "3.13"
PIECE_TIMEOUT = 3600  # seconds
CORES = {"Prescott": "sse2", "Nehalem": "sse4_2", "Sandybridge": "avx", "Haswell": "avx2", "SkylakeX": "avx512f"}


@dataclass(frozen=True)
class Row:
    """One setting: variables of the environment, the Python, which of the allowed packages, which moved weights."""

    env: dict[str, str] = field(default_factory=dict)
    python: str = ""  # this one
    packages: str = ""  # those that are there
    needs: str = ""  # an instruction set
    moved: int = 0  # seed of the moved weights


ROWS = {"as it is": Row()}
ROWS |= {isa: Row({"XLA_FLAGS": f"--xla_cpu_max_isa={isa}"}, needs=isa.lower()) for isa in ("SSE4_2", "AVX", "AVX2")}
ROWS |= {core: Row({"OPENBLAS_CORETYPE": core}, needs=flag) for core, flag in CORES.items()}
ROWS |= {f"{n} devices": Row({"XLA_FLAGS": f"--xla_force_host_platform_device_count={n}"}) for n in (2, 4)}
ROWS |= {f"{python} {packages}": Row({}, python, packages) for python in PYTHONS for packages in ("oldest", "newest")}
ROWS |= {f"weights {seed}": Row(moved=seed) for seed in (1, 2, 3)}


def disturb(seed: int) -> None:
    """Move the starts of all runs of this process by a relative 1e-7, as the first cell of a notebook is told to."""
    import numpy as np

    from flatdyn.core import checks

    points, random = checks.points, np.random.default_rng(seed)

    def moved(name, value, dim):
        theta = points(name, value, dim)
        return theta * (1 + 1e-7 * random.normal(size=theta.shape).astype(theta.dtype)) if name == "theta0" else theta

    checks.points = moved


def instructions() -> set[str]:
    """What the processor can, as Linux names it; nothing if there is no telling."""
    try:
        return set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split())
    except (OSError, TypeError):
        return set()


def find_python(version: str, given: list[str]) -> str | None:
    """A Python of this version: this one, one of those given, or python3.12 on the path, if it starts."""
    for candidate in (sys.executable, *given, shutil.which(f"python{version}")):
        if candidate:
            code = "import sys; print(*sys.version_info[:2], sep='.')"
            answer = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
            if answer.stdout.strip() == version:
                return candidate
    return None


def obstacle(row: Row, pythons: list[str]) -> str | None:
    """Why this machine cannot run a row, or None."""
    if row.needs and row.needs not in instructions():
        return f"the processor has no {row.needs}"
    if row.python and find_python(row.python, pythons) is None:
        return f"there is no python{row.python}: give --python PATH"
    return None


def environment(row: Row, pythons: list[str]) -> str:
    """The Python of a row, in an environment of its own, which is made if it is not there."""
    if not row.python:
        return sys.executable
    folder = BUILD / f"venv-{row.python}-{row.packages}"
    python, ready = str(folder / "bin" / "python"), folder / "ready"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core, extras = project["dependencies"], project["optional-dependencies"]
    wanted = json.dumps([core, extras])
    if ready.exists() and ready.read_text() == wanted:
        return python

    def call(*command: str) -> str:
        return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout

    print(f"setting up Python {row.python} with the {row.packages} packages in {folder.relative_to(ROOT)}", flush=True)
    call(find_python(row.python, pythons), "-m", "venv", "--clear", str(folder))
    call(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv")
    install = python, "-m", "uv", "pip", "install", "-q", "--python", python
    # The lower bounds of the library's own dependencies are under test, not those of pytest and Jupyter.
    lowest = "lowest-direct" if row.packages == "oldest" else "highest"
    call(*install, "--only-binary", ":all:", "--resolution", lowest, *core)
    held = folder / "held.txt"
    held.write_text(call(python, "-m", "uv", "pip", "freeze", "--python", python))
    call(*install, "-c", str(held), *core, *extras["notebooks"], *extras["test"])
    call(*install, "--no-deps", "-e", ".")
    ready.write_text(wanted)
    return python


def pieces(chosen: argparse.Namespace, row: Row) -> list[Path]:
    """Notebooks and test files of a row; with moved weights those that train networks."""
    found = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")) if not chosen.tests_only else []
    if row.moved:
        found = [path for path in found if re.search(r"from flatdyn(\.networks\b| import networks)", path.read_text())]
    elif not chosen.notebooks_only:
        found += sorted((ROOT / "tests").glob("test_*.py"))
    return [path for path in found if not chosen.only or any(path.stem.startswith(name) for name in chosen.only)]


def library() -> str:
    """A digest of the library, what compares, and what it needs."""
    paths = [*sorted((ROOT / "flatdyn").rglob("*.py")), *(ROOT / name for name in ("conftest.py", "pyproject.toml"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def kept(name: str, path: Path) -> Path:
    return BUILD / "done" / name.replace(" ", "-") / f"{path.stem}.json"


def disturbed(path: Path, name: str, seed: int) -> Path:
    """A copy of a notebook whose runs start from moved weights."""
    notebook = json.loads(path.read_text())
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["source"] = [*first["source"], f"\n\nimport portability\n\nportability.disturb({seed})"]
    copy = BUILD / "copies" / name.replace(" ", "-") / path.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(json.dumps(notebook))
    return copy


def run_piece(name: str, row: Row, python: str, path: Path, stamp: str, match: str | None) -> dict:
    """Run one notebook or test file under a row's setting, and keep what came of it."""
    file = kept(name, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    target, report, log = (
        disturbed(path, name, row.moved) if row.moved else path,
        *map(file.with_suffix, (".xml", ".log")),
    )
    report.unlink(missing_ok=True)
    flags = [os.environ["XLA_FLAGS"]] if "XLA_FLAGS" in os.environ and "XLA_FLAGS" in row.env else []
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    env = os.environ | row.env | paths | {"FLATDYN_PLAIN": "1"}  # compiled as users do, see tests/conftest.py
    env |= {"XLA_FLAGS": " ".join([*flags, row.env["XLA_FLAGS"]])} if flags else {}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(target)]
    with open(log, "w") as out:
        try:
            subprocess.run(
                command + (["-k", match] if match else []),
                cwd=ROOT,
                env=env,
                stdout=out,
                stderr=out,
                timeout=PIECE_TIMEOUT,
                check=False,
            )
            failed, passed = read(report)
        except subprocess.TimeoutExpired:
            failed, passed = [f"not done in {PIECE_TIMEOUT} s"], 0
    result = {"stamp": stamp, "passed": passed, "failed": failed, "notebook": path.suffix == ".ipynb"}
    if not match:
        file.write_text(json.dumps(result))
    return result


def read(report: Path) -> tuple[list[str], int]:
    """Names of the cases that failed, and how many passed."""
    if not report.exists():
        return ["pytest did not start"], 0
    cases = list(ET.parse(report).iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return [case.get("name") for case in bad], len(cases) - len(bad) - skipped


def summary(results: dict[str, dict[str, dict]]) -> list[str]:
    """The table, a line a row: setting, notebooks and tests that passed and failed, names of those that failed."""
    lines = [f"{'setting':<14} {'notebooks':>16} {'tests':>16}  failed", "-" * 60]
    for name, done in results.items():
        cells = []
        for notebook in (True, False):
            mine = [one for one in done.values() if one["notebook"] == notebook]
            good = sum(not one["failed"] for one in mine) if notebook else sum(one["passed"] for one in mine)
            bad = sum(bool(one["failed"]) for one in mine) if notebook else sum(len(one["failed"]) for one in mine)
            cells.append(f"{good} passed, {bad}" if mine else "-")
        failed = [f"{stem[:20]}: {', '.join(one['failed'])}" for stem, one in done.items() if one["failed"]]
        lines.append(f"{name:<14} {cells[0]:>16} {cells[1]:>16}  {'; '.join(failed)}")
    return lines


def run_row(name: str, row: Row, chosen: argparse.Namespace, state: str) -> dict[str, dict]:
    """What came of each piece of a row, by the piece's name: kept from before, or run now."""
    paths, results = pieces(chosen, row), {}
    stamps = {path: hashlib.sha256(state.encode() + path.read_bytes()).hexdigest() for path in paths}
    for path in paths:
        if kept(name, path).exists() and not chosen.match:
            done = json.loads(kept(name, path).read_text())
            if chosen.table or (done["stamp"] == stamps[path] and not chosen.again):
                results[path.stem] = done
    left = [] if chosen.table else [path for path in paths if path.stem not in results]
    reason = obstacle(row, chosen.python) if left else None
    if reason:
        print(f"{name}: left out, {reason}", flush=True)
    if reason or not left:
        return results
    try:
        python = environment(row, chosen.python)
    except subprocess.CalledProcessError as error:
        return results | {"set-up": {"passed": 0, "failed": [f"exit status {error.returncode}"], "notebook": False}}

    def one(path: Path) -> dict:
        done = run_piece(name, row, python, path, stamps[path], chosen.match)
        outcome = f"failed: {', '.join(done['failed'])}" if done["failed"] else "ok"
        print(f"{name}: {path.stem} {outcome}", flush=True)
        return done

    with ThreadPoolExecutor(chosen.jobs) as slots:
        return results | {path.stem: done for path, done in zip(left, slots.map(one, left), strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--row", action="append", choices=list(ROWS), metavar="NAME", help="only this row")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only files starting with NAME")
    parser.add_argument("--notebooks-only", action="store_true")
    parser.add_argument("--tests-only", action="store_true")
    parser.add_argument("-k", dest="match", metavar="EXPRESSION", help="only tests that match")
    parser.add_argument("--python", action="append", default=[], metavar="PATH", help="a Python besides those on PATH")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), metavar="N")
    parser.add_argument("--again", action="store_true", help="repeat what is done")
    parser.add_argument("--table", action="store_true", help="print the table of what is done")
    chosen = parser.parse_args()
    if chosen.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {chosen.jobs}")
    if chosen.list:
        for name, row in ROWS.items():
            print(f"{name:<14} {obstacle(row, chosen.python) or ''}".rstrip())
        return 0
    state = library()
    results = {name: run_row(name, ROWS[name], chosen, state) for name in chosen.row or ROWS}
    print(*summary({name: done for name, done in results.items() if done}), sep="\n")
    return int(any(one["failed"] for done in results.values() for one in done.values()))


if __name__ == "__main__":
    sys.exit(main())
