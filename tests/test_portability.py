"""The portability run: its rows, its table, what it keeps, and the moved weights that stand in for another machine."""

import argparse
import json

import numpy as np
import portability
import pytest

import flatdyn as fd
from flatdyn.core import checks

CHOSEN = argparse.Namespace(
    only=["00"], notebooks_only=True, tests_only=False, again=False, table=False, match=None, jobs=1, python=[]
)


def test_rows_cover_instruction_sets_kernels_devices_pythons_and_weights():
    settings = [value for row in portability.ROWS.values() for value in row.env.values()]
    for isa in ("SSE4_2", "AVX", "AVX2"):
        assert f"--xla_cpu_max_isa={isa}" in settings
    assert {"Haswell", "SkylakeX"} <= set(settings)
    assert "--xla_force_host_platform_device_count=4" in settings
    versions = {(row.python, row.packages) for row in portability.ROWS.values() if row.python}
    assert versions == {(version, which) for version in ("3.11", "3.12", "3.13") for which in ("oldest", "newest")}
    assert len({row.moved for row in portability.ROWS.values()}) == 4


def test_a_row_that_cannot_run_says_why(monkeypatch):
    monkeypatch.setattr(portability, "instructions", lambda: {"sse2"})
    assert portability.obstacle(portability.ROWS["AVX2"], []) == "the processor has no avx2"
    monkeypatch.setattr(portability.shutil, "which", lambda name: None)
    assert "give --python PATH" in portability.obstacle(portability.Row(python="3.99"), [])
    assert portability.obstacle(portability.Row(), []) is None


def test_moved_weights_are_moved_by_a_ten_millionth_and_nothing_else_is(monkeypatch):
    monkeypatch.setattr(checks, "points", checks.points)  # put back at the end
    portability.disturb(1)
    start = np.linspace(1, 2, 200)
    bowl = fd.Landscape.from_function(lambda theta: theta @ theta / 2, 200)
    moved = fd.simulate(fd.Iteration(bowl, fd.GD(0.1)), start, 1).theta[0] / start - 1
    assert moved.std() == pytest.approx(1e-7, rel=5 / np.sqrt(400))  # five standard errors of 200 normal numbers
    assert (checks.points("at", start, 200) == start).all()


def test_a_piece_is_repeated_only_if_something_has_changed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(portability, "BUILD", tmp_path)
    ran = []

    def instead(command, **options):
        ran.append(options["env"]["XLA_FLAGS"])
        report = next(word for word in command if word.startswith("--junitxml=")).partition("=")[2]
        with open(report, "w") as file:
            file.write('<x><testcase name="Cell 0"/><testcase name="Cell 1"><failure/></testcase></x>')

    monkeypatch.setattr(portability.subprocess, "run", instead)
    row = portability.Row({"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"})
    for state in ("one", "one", "two"):
        results = portability.run_row("SSE4_2", row, CHOSEN, state)
    assert len(ran) == 2
    assert ran[0].endswith("--xla_cpu_max_isa=SSE4_2")
    line = portability.summary({"SSE4_2": results})[-1].split()
    assert line == ["SSE4_2", "0", "passed,", "1", "-", "00_what_is_claimed_a:", "Cell", "1"]


def test_a_copy_with_moved_weights_is_the_notebook_but_for_its_first_cell(monkeypatch, tmp_path):
    monkeypatch.setattr(portability, "BUILD", tmp_path)
    path = next((portability.ROOT / "notebooks").glob("18*.ipynb"))
    old, new = (json.loads(one.read_text())["cells"] for one in (path, portability.disturbed(path, "weights 2", 2)))
    different = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    assert len(different) == 1
    assert "".join(new[different[0]]["source"]).endswith("portability.disturb(2)")
