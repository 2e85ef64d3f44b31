"""The house: layers, set-up files, README. What no unit test sees."""

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import flatdyn as fd

ROOT = Path(__file__).parent.parent
ROOMS = sorted(path.parent.name for path in ROOT.glob("flatdyn/*/__init__.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# --- layers and tree ------------------------------------------------------------------------------------------


def test_imports_go_one_way():
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_module_has_a_purpose_and_stays_small():
    for path in (ROOT / "flatdyn").rglob("*.py"):
        text = path.read_text()
        assert text.startswith('"""'), f"{path.name} does not say what it is for"
        assert len(text.splitlines()) <= 400, f"{path.name} has grown a second purpose"


def test_a_number_that_was_checked_is_what_is_used():
    """`checks.number("x", x)` leaves x as it came: small whole numbers wrap around, SymPy's can't be written."""
    for path in (ROOT / "flatdyn").rglob("*.py"):
        for function in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)):
            # Of data whole numbers may be labels, and stay what they are; entries of a mask too
            if function.name.lstrip("_")[:5] != "check" and function.name not in ("_column", "entry_of"):
                names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
                given = {one.arg for one in (*function.args.args, *function.args.kwonlyargs)}
                given -= {name.id for name in names if isinstance(name.ctx, ast.Store)}
                checked = {name.id: name for node in ast.walk(function) for name in _checked_numbers(node)}
                later = {one.id for one in names if one.id in checked and _place(one) > _place(checked[one.id])}
                assert not given & later, f"{path.name}: {function.name} goes on with {given & later} as it was given"


def _place(node):
    return node.lineno, node.col_offset


def _checked_numbers(node):
    """The names that are checked by a call."""
    if not isinstance(node, ast.Call):
        return []
    single, several = ("checks.number", "checks.count", "checks.bound"), ("checks.floats", "checks.counts")
    values = node.args[1:2] if (name := ast.unparse(node.func)) in single else []
    values = [word.value for word in node.keywords] if name in several else values
    return [value for value in values if isinstance(value, ast.Name)]


def test_public_names_say_what_they_do():
    for name in (n for n in dir(fd) if not n.startswith("_")):
        assert getattr(fd, name).__doc__, f"flatdyn.{name} has no docstring"


def test_no_identifier_is_a_word_that_fits_anything():
    """A result, a message, a header: what is found or told can be any of them."""
    for path in (ROOT / "flatdyn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, field, None) for field in ("id", "attr", "arg", "name")}
            assert not names & {"found", "told", "_found", "_told"}, f"{path.name}:{node.lineno}"


def test_the_root_holds_what_it_should():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    folders = {"flatdyn", "notebooks", "tests", "figures", "findings", ".ci", ".github"}
    files = {"README.md", "environment.yml", "pyproject.toml", "requirements.lock", "Makefile", "LICENSE"}
    assert top <= folders | files | {"CITATION.cff", "conftest.py", ".gitignore"}


# --- set-up ---------------------------------------------------------------------------------------------------


def requirements():
    extras = PROJECT["optional-dependencies"]
    return [Requirement(text) for group in (PROJECT["dependencies"], *extras.values()) for text in group]


def locked():
    """name -> versions, one or more (the lock forks by Python version)."""
    versions = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, version = line.split(";")[0].strip().split("==")
        versions.setdefault(name.lower().replace("_", "-"), []).append(version)
    return versions


def test_the_lock_holds_every_requirement_at_an_allowed_version_and_no_address():
    assert not re.search(r"https?:|@|--hash|index", (ROOT / "requirements.lock").read_text())
    versions = locked()
    for requirement in requirements():
        found = versions.get(requirement.name.lower())
        assert found, f"{requirement.name} is not locked: run make lock"
        assert all(version in requirement.specifier for version in found)


def test_conda_users_get_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert "conda-forge" in environment["channels"]
    *conda, pip = environment["dependencies"]
    assert sorted(re.split("[=><]", spec)[0] for spec in conda) == ["pip", "python"]
    python = next(spec for spec in conda if spec.startswith("python")).split("=")[1]
    assert python in SpecifierSet(PROJECT["requires-python"])
    assert list(pip) == ["pip"]
    constraint, editable = pip["pip"]
    assert constraint == "-c requirements.lock"
    extras = set(re.fullmatch(r"-e \.\[(.*)\]", editable)[1].split(","))
    assert extras == set(PROJECT["optional-dependencies"]) - {"bench"}  # rivals of the benchmarks: nobody else's need


def imported(code):
    """Top-level names of everything that code imports, wherever it does."""
    for node in ast.walk(ast.parse(code)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        yield from (module.split(".")[0] for module in modules)


def test_every_import_is_declared():
    """tqdm, for one, is nobody's dependency: what is imported must stand in pyproject.toml."""
    names = {"yaml": "pyyaml", "IPython": "ipython", "PIL": "pillow", "sklearn": "scikit-learn"}
    declared = {requirement.name.lower() for requirement in requirements()} | {"flatdyn"}
    standard = set(sys.stdlib_module_names)
    by_hand = {"torch"}  # a rival whose usual build is gigabytes: no extra brings it, and only a benchmark looks for it
    for path in [*(ROOT / "flatdyn").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "figures").glob("*.py")]:
        text = path.read_text()
        for module in imported(text):
            own = (path.parent / f"{module}.py").exists() or f'("{module}")' in text  # which a test may make itself
            own |= path.parent.name == "benchmarks" and module in by_hand
            if module not in standard and not own:
                assert names.get(module, module).replace("_", "-") in declared, f"{path.name} imports {module}"


def made(*words):
    """What make prints; not as a part of the make that runs these tests, which would add its own lines and options."""
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *words], cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout


def planned(*words, **variables):
    """What make would run, as after a fresh clone."""
    return made("-n", "-B", *words, *(f"{name}={value}" for name, value in variables.items()))


def test_every_make_target_works_after_set_up_alone():
    targets = [line.split()[0] for line in made("help").splitlines()]
    assert {"figures", "test", "lab", "bench", "lock", "portability"} <= set(targets)
    for target in set(targets) - {"help", "clean"}:
        assert '-e ".[notebooks,test]"' in planned(target, UV=""), f"make {target} does not set up"
    assert re.search(r"MB to download.*GB on disk", planned("test"))
    assert "jupyter lab --port 8899 --allow-root notebooks" in planned("lab", ARGS="--port 8899 --allow-root")
    assert '-e ".[bench]"' in planned("bench", UV="")
    without, having = planned("lock", UV=""), planned("lock", UV="/bin/uv")
    assert re.search(r"pip install .* uv\n.*python -m uv pip compile", without)
    assert "/bin/uv pip compile" in having


def test_a_benchmark_runs_without_its_rivals():
    """What set-up does not install is imported where it is used, and its absence is said."""
    extra = {Requirement(text).name for text in PROJECT["optional-dependencies"]["bench"]}
    for path in (ROOT / "tests" / "benchmarks").glob("*.py"):
        tree = ast.parse(path.read_text())
        at_once = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))
        assert not extra & set(imported(at_once)), f"{path.name} needs {extra}"
        if extra & set(imported(path.read_text())):
            assert "except ImportError" in path.read_text()


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "make test" in readme
    assert "make figures" in readme


# --- README ---------------------------------------------------------------------------------------------------


# Most programs that JAX may compile for each block of the README, one after the other in one process. A program takes
# 20 ms, a long one seconds: this is most of the wait for a first answer.
PROGRAMS = [6, 8, 11, 13, 31, 3]

AFRESH = """
import sys, jax, flatdyn
compiled = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
print([m for m in ('matplotlib', 'scipy.optimize', 'diffrax', 'xarray') if m in sys.modules])
[getattr(flatdyn, name) for name in flatdyn.__all__]
print([m for m in ('IPython', 'ipywidgets', 'nbformat', 'pytest', 'optax', 'torch') if m in sys.modules])
for block in sys.argv[1:]:  # no name and no setting of one block helps the next; the imports are paid for once
    jax.config.update("jax_enable_x64", False)
    # Most programs run once: compiling them well costs more than it saves, but for the many steps of a map
    jax.config.update("jax_disable_most_optimizations", "map_basins" not in block)
    print(end="\\f")
    before = len(compiled)
    exec(block, {"__name__": "__main__"})
    print(sum(event.endswith("backend_compile_duration") for event in compiled[before:]), file=sys.stderr)
"""


def test_the_readmes_code_runs_and_prints_what_it_says_and_core_needs_neither_jupyter_nor_test_tools():
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert blocks
    done = subprocess.run([sys.executable, "-c", AFRESH, *blocks], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\f")[0].split() == ["[]", "[]"], "what is heavy is loaded when it is used, and some never"
    expected = [re.findall(r"print\(.*\)\s*# (.*)$", block, re.M) for block in blocks]
    assert [text.splitlines() for text in done.stdout.split("\f")[1:]] == expected
    programs = [int(line) for line in done.stderr.splitlines() if line.isdigit()]
    assert len(programs) == len(PROGRAMS)
    assert all(number <= most for number, most in zip(programs, PROGRAMS, strict=True)), programs


def test_a_type_checker_sees_the_public_names_and_signatures(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    wrong = (
        "import flatdyn as fd\nfd.SAM(lr=0.1, radius=0.5)\nfd.simulat\nfd.map_basins(fd.GD(0.1), resolution='fine')\n"
    )
    for i, block in enumerate([*blocks, wrong]):
        (tmp_path / f"example_{i}.py").write_text(block)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports", "--no-pretty"]
    command += ["--no-error-summary", "--cache-dir", str(tmp_path / "cache"), "."]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    errors = done.stdout.splitlines()
    assert not [line for line in errors if not line.startswith(f"example_{len(blocks)}.py")], done.stdout
    assert {int(line.split(":")[1]) for line in errors} == {2, 3, 4}, done.stdout + done.stderr


def test_the_readme_is_read_in_three_minutes():
    assert len((ROOT / "README.md").read_bytes()) <= 8192


@pytest.mark.parametrize("page", ["README.md", "notebooks/README.md", "figures/ledger.md"])
def test_the_pages_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_a_wheel_holds_every_package_and_the_files_beside_the_code():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [path.parent.relative_to(ROOT) for path in ROOT.glob("flatdyn/**/__init__.py")]
    assert sorted(setup["packages"]) == sorted(".".join(folder.parts) for folder in folders)
    kept = {
        path
        for package, names in setup["package-data"].items()
        for n in names
        for path in ROOT.glob(f"{package.replace('.', '/')}/{n}")
    }
    others = {path for path in ROOT.glob("flatdyn/**/*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert kept == others


def test_no_private_name_of_another_package_is_used():
    found = set()
    for path in [*(ROOT / "flatdyn").rglob("*.py"), *(ROOT / "figures").glob("*.py")]:
        tree, foreign = ast.parse(path.read_text()), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                foreign |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("flatdyn"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                foreign |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute):
                root = node.value
                names = [node.attr] if isinstance(root, ast.Name) and root.id in foreign else []
            else:
                continue
            private = [n for n in names if re.search(r"(^|\.)_(?!_)", n)]
            found |= {(path.name, name) for name in private}
    assert not found


def test_one_word_is_one_class():
    homes = {}
    for path in (ROOT / "flatdyn").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path.name)
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    assert not twice


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (fd, {"manifold": "invariant_manifold"}),
        (fd.escape, {"split": "multilevel_splitting", "levy_sandwich": "levy_bounds"}),
        (
            fd.networks,
            {
                "Comparison": "MethodComparison",
                "decayed": "with_weight_decay",
                "parts": "split",
                "standardised": "standardize",
                "tally": "count_wins",
                "wrong_labels": "flip_labels",
            },
        ),
    ],
)
def test_an_old_name_says_the_new_one(module, names):
    for old, new in names.items():
        with pytest.warns(
            DeprecationWarning, match=f"{module.__name__}.{old} is now {module.__name__}.{new}"
        ) as caught:
            assert getattr(module, old) is getattr(module, new)
        assert [one.filename for one in caught] == [__file__]  # or Python would not show it to whoever wrote the line
    with pytest.raises(AttributeError, match=r"attribute '?manifolde"):
        _ = module.manifolde


@pytest.mark.parametrize("room", ROOMS)
def test_the_example_of_a_room_runs(room):
    module = importlib.import_module(f"flatdyn.{room}")
    parsed = doctest.DocTestParser().get_doctest(module.__doc__, {}, room, None, None)
    assert parsed.examples
    said = []
    doctest.DocTestRunner().run(parsed, out=said.append)
    assert not said, "".join(said)
