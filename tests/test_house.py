"""The house: layers, set-up files, README. What no unit test sees."""

import ast
import doctest
import functools
import json
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
from flatdyn.notebook import pages, renewal

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


def test_every_finding_can_be_run_and_says_what_was_seen():
    scripts = sorted((ROOT / "findings").iterdir())
    assert len(scripts) > 10
    for path in scripts:
        assert path.suffix == ".sh", path.name
        assert path.stat().st_mode & 0o111 == 0o111, f"chmod +x findings/{path.name}"
        text = path.read_text()
        assert text.startswith("#!/usr/bin/env bash\n"), path.name
        assert {"Expected", "Seen"} <= set(re.findall(r"^# (\w+)", text, re.M)), path.name
        assert re.search(r"pip install [^#]*==", text), f"{path.name} pins no version"
        assert "flatdyn" not in text, path.name


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
    assert extras == set(PROJECT["optional-dependencies"]) - {
        "bench",
        "browser",
        "packages",
        "site",
    }  # one command's own, which installs it


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
    by_hand = {"torch"}  # a rival whose usual build is gigabytes: no benchmark brings it, it only looks for it
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
    assert "figures/lab.py --port 8899 --allow-root\n" in planned("lab", ARGS="--port 8899 --allow-root")
    assert "regenerate.py --only 03 --force" in " ".join(planned("figures", ONLY="03", FORCE="1").split())
    assert "--force" not in planned("figures", FORCE="0")
    for extra in ("bench", "browser", "packages", "site"):
        assert f'-e ".[{extra}]"' in planned(extra, UV="")
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


# Most programs that JAX may compile for each piece of code that a reader copies, one after the other in one process. A
# program takes 20 ms, a long one seconds: this is most of the wait for a first answer.
PROGRAMS = {
    "README: In twelve lines": 6,
    "README: Your own loss, your own optimiser": 6,
    "flatdyn": 10,
    "flatdyn.asks": 6,
    "flatdyn.audits": 1,
    "flatdyn.basins": 9,
    "flatdyn.core": 0,
    "flatdyn.curvature": 1,
    "flatdyn.escape": 16,
    "flatdyn.explorer": 12,
    "flatdyn.fixedpoints": 6,
    "flatdyn.flows": 4,
    "flatdyn.landscapes": 0,
    "flatdyn.laws": 2,
    "flatdyn.methods": 11,
    "flatdyn.networks": 36,
    "flatdyn.noise": 7,
    "flatdyn.notebook": 0,
    "flatdyn.packages": 2,
    "flatdyn.plotting": 3,
    "flatdyn.processes": 5,
    "flatdyn.runs": 3,
    "flatdyn.stability": 3,
    "flatdyn.sweeps": 2,
}

AFRESH = """
import contextlib, doctest, io, json, sys, traceback, warnings
import jax, flatdyn
heavy = [m for m in ("matplotlib", "scipy.optimize", "diffrax", "xarray") if m in sys.modules]
[getattr(flatdyn, name) for name in flatdyn.__all__]
tools = [m for m in ("IPython", "ipywidgets", "nbformat", "pytest", "optax", "torch") if m in sys.modules]
compiled, results = [], {}
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
warnings.simplefilter("error")
for name, text in json.load(sys.stdin).items():  # no name and no setting of one piece helps the next
    jax.config.update("jax_enable_x64", False)
    # Most programs run once: compiling them well costs more than it saves, but for the many steps of a map
    jax.config.update("jax_disable_most_optimizations", name != "flatdyn.basins")
    before, printed = len(compiled), io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            if ">>>" in text:
                doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(text, {}, name, None, None))
            else:
                exec(text, {"__name__": "__main__"})
        except Exception:
            traceback.print_exc(file=sys.stdout)
    results[name] = printed.getvalue(), sum(event.endswith("backend_compile_duration") for event in compiled[before:])
print(json.dumps([heavy, tools, results]))
"""


def copied():
    """What a reader copies: {where: text}, the README's blocks and the docstrings of the packages."""
    pieces = {}
    for section in (ROOT / "README.md").read_text().split("\n## "):
        for block in re.findall(r"```python\n(.*?)```", section, re.S):
            pieces[f"README: {section.splitlines()[0]}"] = block
    for path in [ROOT / "flatdyn" / "__init__.py", *(ROOT / "flatdyn" / room / "__init__.py" for room in ROOMS)]:
        pieces[".".join(path.parent.relative_to(ROOT).parts)] = ast.get_docstring(ast.parse(path.read_text()))
    return pieces


@pytest.fixture(scope="module")
def ran():
    """What happened in a new process: what `import flatdyn` loaded, and {where: (printed, programs compiled)}."""
    done = subprocess.run(
        [sys.executable, "-c", AFRESH], input=json.dumps(copied()), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_heavy_is_loaded_when_it_is_used_and_jupyter_and_test_tools_never(ran):
    heavy, tools, _ = ran
    assert heavy == tools == []


@pytest.mark.parametrize("where", PROGRAMS)
def test_what_a_reader_copies_prints_what_it_says(where, ran):
    text, (printed, programs) = copied()[where], ran[2][where]
    expected = re.findall(r"print\(.*\)\s*# (.*)$", text, re.M) if where.startswith("README") else []
    assert printed.splitlines() == expected, printed
    assert ">>>" in text or expected
    assert programs <= PROGRAMS[where]


def test_every_example_is_tried():
    assert set(copied()) == set(PROGRAMS)
    tried = {ROOT / "flatdyn" / room / "__init__.py" for room in ("", *ROOMS)}
    assert {path for path in (ROOT / "flatdyn").rglob("*.py") if ">>>" in path.read_text()} == tried


def test_a_type_checker_sees_the_public_names_and_signatures(tmp_path):
    parser = doctest.DocTestParser()
    blocks = [
        "".join(example.source for example in parser.get_examples(text)) if ">>>" in text else text
        for text in copied().values()
    ]
    wrong = (
        "import flatdyn as fd\nfd.SAM(lr=0.1, radius=0.5)\nfd.simulat\nfd.map_basins(fd.GD(0.1), resolution='fine')\n"
    )
    for i, block in enumerate([*blocks, wrong]):
        (tmp_path / f"example_{i}.py").write_text(block)
    # Equinox makes the signatures of methods and is read; to read what others say of their types takes half of the time
    others = ("diffrax", "jax", "matplotlib", "optax", "optimistix", "scipy", "sympy", "xarray")
    settings = tmp_path / "settings.ini"
    settings.write_text("[mypy]\n" + "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in others))
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--follow-imports=silent"]
    command += ["--ignore-missing-imports", "--no-pretty", "--no-error-summary"]
    command += ["--cache-dir", str(tmp_path / "cache"), "."]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True
    )
    errors = done.stdout.splitlines()
    assert not [line for line in errors if not line.startswith(f"example_{len(blocks)}.py")], done.stdout
    assert {int(line.split(":")[1]) for line in errors} == {2, 3, 4}, done.stdout + done.stderr


def test_the_readme_is_read_in_three_minutes():
    """Slow readers take 200 words a minute, most of them 238 (Brysbaert 2019); code and addresses are not counted."""
    readme = (ROOT / "README.md").read_text()
    assert len(readme.encode()) <= 8192
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", readme, flags=re.S)
    assert len(re.findall(r"[^\W_]+(?:['.-][^\W_]+)*", prose)) <= 3 * 200


def test_the_readme_has_three_findings_and_they_are_the_notebooks():
    (between,) = re.findall(r"<!-- findings -->\n- (.*?)\n<!-- /findings -->", (ROOT / "README.md").read_text(), re.S)
    findings = [" ".join(finding.split()) for finding in between.split("\n- ")]
    assert len(findings) == renewal.FINDINGS
    for finding in findings:
        stem = re.search(r"\(\[\d\d\]\(notebooks/(\w+)\.ipynb\)\)\.$", finding)[1]
        assert finding == pages.words(stem).get("finding", finding), "make pages"


def test_the_readmes_figure_has_its_caption():
    readme = (ROOT / "README.md").read_text()
    caption = pages.words(re.search(r"\]\(figures/(\w+)\.png\)", readme)[1])["captions"]["main"]
    assert f"<!-- caption -->\n{caption}\n<!-- /caption -->" in readme, "make pages"


def test_the_readmes_table_names_what_exists():
    rows = re.findall(r"^\| (.+\?) \| (.+) \| \[(\d\d)\]\(notebooks/(\d\d)", (ROOT / "README.md").read_text(), re.M)
    assert len(rows) == 9
    for _, functions, shown, linked in rows:
        assert shown == linked
        names = re.findall(r"`fd\.([\w.]+)`", functions)
        assert names
        for name in names:
            assert callable(functools.reduce(getattr, name.split("."), fd)), name


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (bibtex,) = re.findall(r"```bibtex\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    entry = dict(re.findall(r"(\w+) *= \{+(.*?)\}+,", bibtex))
    assert fd.__version__ == PROJECT["version"] == citation["version"] == entry["version"]
    assert entry["title"] == citation["title"]
    assert entry["year"] == str(citation["date-released"])[:4]
    assert entry["author"] == citation["authors"][0]["name"]


def test_help_shows_the_map_of_the_house():
    """What flatdyn has, one line each; and of each package what is in it."""
    rooms = re.findall(r"^    (\w+) {2,}\S.*$", fd.__doc__, re.M)
    modules = {path.stem for path in (ROOT / "flatdyn").glob("*.py")} - {"__init__", "__main__"}
    assert sorted(rooms) == sorted({*ROOMS, *modules})
    for path in (ROOT / "flatdyn").glob("*/*/__init__.py"):
        parent = ast.get_docstring(ast.parse((path.parent.parent / "__init__.py").read_text()))
        assert re.search(rf"^ +{path.parent.name}\b", parent, re.M), f"{path.parent} is not named in its package"


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
