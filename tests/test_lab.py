"""`make lab` opens copies: what a user changes there is kept, and no tracked file changes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("lab", ROOT / "figures" / "lab.py")
lab = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lab)


def book(source, output=""):
    return json.dumps({"cells": [{"cell_type": "code", "source": [source], "outputs": [output]}]})


@pytest.fixture
def house(tmp_path):
    for folder in ("notebooks", "figures/data/results", "figures/data/made"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "figures" / "lab.py").write_text((ROOT / "figures" / "lab.py").read_text())
    for name in ("00_first.ipynb", "01_x.ipynb"):
        (tmp_path / "notebooks" / name).write_text(book("a = 1"))
    for name in ("01_x.png", "01_x.pdf", "data/01_x.npz", "data/results/01_x.json", "data/made/01_x.json"):
        (tmp_path / "figures" / name).write_text(name)
    return tmp_path


@pytest.fixture
def renew(house):
    copy = house / "build" / "lab"
    return copy / "notebooks" / "01_x.ipynb", lambda: lab.renew(house, copy)


def test_the_command_copies_what_pages_show_and_opens_the_first_notebook(house):
    command = [sys.executable, str(house / "figures" / "lab.py"), "--port", "8899", "--dry-run", "--no-browser"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    copy = house / "build" / "lab"
    assert done.stdout.split()[-4:] == [
        "--LabApp.default_url=/lab/tree/notebooks/00_first.ipynb",
        *command[2:4],
        "--no-browser",
    ]
    assert f"--ServerApp.root_dir={copy}" in done.stdout
    copies = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    shown = {"figures/01_x.png", "figures/data/01_x.npz", "figures/data/results/01_x.json"}
    assert copies == {"copied.json", "notebooks/00_first.ipynb", "notebooks/01_x.ipynb"} | shown


def test_a_copy_that_was_only_run_is_renewed_when_its_original_changes(house, renew):
    copy, start = renew
    assert start() == []
    copy.write_text(book("a = 1", "an output"))
    assert start() == []
    assert "an output" in copy.read_text()
    (house / "notebooks" / "01_x.ipynb").write_text(book("a = 2"))
    assert start() == []
    assert copy.read_text() == book("a = 2")


def test_a_users_changes_stay_and_this_is_said(house, renew):
    copy, start = renew
    start()
    copy.write_text(book("a = 7"))
    assert start() == [f"{copy} has your changes"]
    (house / "notebooks" / "01_x.ipynb").write_text(book("a = 2"))
    for _ in range(2):
        (line,) = start()
        assert "stays, though its original has changed" in line
        assert copy.read_text() == book("a = 7")
    (house / "notebooks" / "01_x.ipynb").unlink()
    (line,) = start()
    assert "though its original is gone" in line
    assert copy.exists()
    copy.write_text(book("a = 1"))  # taken back
    assert start() == []
    assert not copy.exists()


@pytest.mark.parametrize("state", [None, "", "{", "[1]"])
def test_without_a_readable_state_nothing_of_the_users_is_lost(renew, state):
    copy, start = renew
    start()
    copy.write_text(book("a = 7"))
    place = copy.parent.parent / "copied.json"
    place.unlink() if state is None else place.write_text(state)
    (line,) = start()
    assert "has your changes" in line
    assert copy.read_text() == book("a = 7")
    copy.write_text("no notebook any more")
    (line,) = start()
    assert "has your changes" in line


def test_a_deleted_copy_comes_again(renew):
    copy, start = renew
    start()
    copy.unlink()
    assert start() == []
    assert copy.read_text() == book("a = 1")
