"""What makes a notebook's figures stale, and what does not."""

import json
import re

import pytest

from flatdyn.notebook import keys

CODE = '"""Says."""\nimport math\n\n\ndef f(x):\n    """Twice."""\n    return 2 * x  # exactly\n'


def test_comments_docstrings_and_layout_do_not_count():
    same = '"""Says more."""\nimport math\n# here\ndef f(x):\n    """The double."""\n    return (2 * x)\n'
    assert keys.code_digest(CODE) == keys.code_digest(same)
    assert keys.code_digest(CODE) != keys.code_digest(CODE.replace("2 * x", "3 * x"))
    assert keys.code_digest("x = 1\n'a text that is used'") != keys.code_digest("x = 1\n'another'")
    assert keys.code_digest("%time f(2)") != keys.code_digest("%time f(3)")
    assert keys.code_digest("def f():\n    'only this'") == keys.code_digest("def f():\n    'or that'")


def book(*sources, prose="Why"):
    cells = [{"cell_type": "code", "source": source, "outputs": []} for source in sources]
    return {"cells": [{"cell_type": "markdown", "source": prose}, *cells]}


def test_a_notebooks_prose_and_outputs_do_not_count():
    one = book("a = 1", "b = 2  # two")
    two = book("a = 1  # one", ["b =", " 2"], prose="How")
    two["cells"][1]["outputs"] = [{"text": "1"}]
    assert keys.cells_digest(one) == keys.cells_digest(two)
    assert keys.cells_digest(one) != keys.cells_digest(book("b = 2", "a = 1"))
    assert keys.cells_digest(one) != keys.cells_digest(book("a = 1\nb = 2"))


def test_the_librarys_modules_are_known_by_the_names_of_imports():
    library = keys.library()
    names = ["flatdyn", "flatdyn.core", "flatdyn.core.records", "numpy.linalg", "flatdyn.notebook.pages", "flatdynamic"]
    assert set(keys.reached(names, library)) == {
        "flatdyn/__init__.py",
        "flatdyn/core/__init__.py",
        "flatdyn/core/records.py",
        "flatdyn/paper.mplstyle",
    }
    assert keys.reached(["numpy"], library) == {}
    assert set(keys.versions(["numpy.linalg", "sklearn", "os"])) == {"python", "numpy", "scikit-learn"}


MODULES = {"flatdyn/a.py": "1", "flatdyn/plotting/b.py": "2"}


@pytest.fixture
def figures(tmp_path):
    """A folder with the figures of one notebook, and the key with which they were made."""
    (tmp_path / "data" / "made").mkdir(parents=True)
    for name in ("01_x.pdf", "01_x_map.png", "data/01_x.npz", "02_y.pdf"):
        (tmp_path / name).write_text(name)
    files = keys.file_digests(tmp_path, keys.owned(tmp_path, "01_x"))
    assert set(files) == {"01_x.pdf", "01_x_map.png", "data/01_x.npz"}
    key = keys.Key(keys.cells_digest(book("a = 1")), MODULES, keys.versions(["numpy"]), files)
    keys.record(tmp_path, "01_x").write_bytes(key.text())
    return tmp_path


def why(figures, notebook=None, modules=MODULES):
    return keys.reasons(figures, "01_x", notebook or book("a = 1"), modules)


def test_each_reason_is_said_and_nothing_else_is_one(figures):
    assert why(figures) == []
    assert why(figures, book("a = 2")) == ["its code changed"]
    assert why(figures, modules=MODULES | {"flatdyn/a.py": "3"}) == ["flatdyn/a.py changed"]
    assert why(figures, modules={"flatdyn/a.py": "1"}) == ["flatdyn/plotting/b.py is gone"]
    assert why(figures, modules=MODULES | {"flatdyn/c.py": "1"}) == []
    (figures / "01_x.pdf").write_text("edited")
    (figures / "01_x_map.png").unlink()
    (figures / "data" / "01_x_gpu.npz").write_text("measured elsewhere")
    (figures / "02_y.pdf").write_text("of another notebook")
    assert why(figures) == ["01_x.pdf was changed", "01_x_map.png is missing", "data/01_x_gpu.npz is new"]


def test_a_changed_version_is_said(figures):
    place = keys.record(figures, "01_x")
    key = json.loads(place.read_text())
    key["versions"] |= {"numpy": "1.0", "nothing-of-this-name": "2.0"}
    place.write_text(json.dumps(key))
    lines = why(figures)
    assert re.fullmatch(r"numpy 1\.0 -> [\d.]+\S*", lines[0])
    assert lines[1:] == ["nothing-of-this-name 2.0 -> not installed"]
    key["versions"] = key["versions"] | {"python": "3.0"}
    del key["versions"]["numpy"], key["versions"]["nothing-of-this-name"]
    place.write_text(json.dumps(key))
    (line,) = why(figures, book("a = 2"))  # syntax trees of two Pythons are not compared
    assert line.startswith("python 3.0 -> 3.")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 1}', "<<<<<<< HEAD\n", '{"cells": "", "modules": 1}'])
def test_a_damaged_record_means_that_all_is_made_again(figures, content):
    keys.record(figures, "01_x").write_text(content)
    assert why(figures) == ["its record can't be read"]
    keys.record(figures, "01_x").unlink()
    assert why(figures) == ["it has no record of a run"]


def test_only_what_draws_makes_another_picture_of_the_same_numbers(figures):
    old = keys.made(figures, "01_x")
    assert keys.draws_alike(old, old._replace(modules=MODULES | {"flatdyn/a.py": "3"}))
    assert not keys.draws_alike(old, old._replace(modules=MODULES | {"flatdyn/plotting/b.py": "3"}))
    assert not keys.draws_alike(old, old._replace(cells="other"))
    assert not keys.draws_alike(old, old._replace(versions=old.versions | {"matplotlib": "4"}))
    assert not keys.draws_alike(None, old)
