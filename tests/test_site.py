"""The site: what is gathered for it. Building it needs Sphinx, which `make site` installs; gathering does not."""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "figures"))
reference, website = map(importlib.import_module, ("reference", "website"))
sys.path.remove(str(ROOT / "figures"))


@pytest.fixture(scope="module")
def gathered():
    return website.gathered()


def test_every_public_name_has_one_entry(gathered):
    texts, _, _ = gathered
    pages = "\n".join(text for name, text in texts.items() if name.startswith("api/"))
    directives = re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)$", pages, re.M)
    assert len(directives) == len(set(directives))
    names = [name for name in dir(reference.modules()["flatdyn"]) if not name.startswith("_")]
    assert len(names) > 60
    for room, module in reference.modules().items():
        for name in reference.public_names(module) if room != "flatdyn" else names:
            target = reference.documented(name, module)
            assert target in directives, f"{room}.{name}"
            if not isinstance(getattr(module, name), ModuleType):
                assert f"`{name} <{target}>`" in texts[reference.api_page(room)], f"{room}'s table lacks {name}"
            assert reference.documented(f"{room}.{name}") == target  # by this path, too


def test_every_notebook_is_in_whole_and_in_order(gathered):
    texts, files, _ = gathered
    notebooks = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    listed = re.findall(r"<(\S+)>$", texts["notebooks/index.md"].split("{toctree}")[1], re.M)
    assert [f"{name}.ipynb" for name in listed] == notebooks
    for name in notebooks:
        stored, shown = (json.loads((ROOT / "notebooks" / name).read_text()), json.loads(texts[f"notebooks/{name}"]))
        assert [cell["cell_type"] for cell in shown["cells"]] == [cell["cell_type"] for cell in stored["cells"]]
        for before, after in zip(stored["cells"], shown["cells"], strict=True):
            assert len(before.get("outputs", [])) == len(after.get("outputs", []))
            if before["cell_type"] == "code":
                assert after["source"] == before["source"]
        texts_of_cells = [cell["source"] for cell in shown["cells"] if cell["cell_type"] == "markdown"]
        assert sum(text.startswith("# ") for text in texts_of_cells) == 1, "a second title makes two pages of one"
    assert all((ROOT / name).is_file() for name in files)


def test_every_link_of_every_page_leads_to_a_page_or_a_file(gathered):
    texts, files, raw_files = gathered
    checked = 0
    for name, text in texts.items():
        if name.endswith(".ipynb"):
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        for match in website.LINK.finditer(text):
            target = (ROOT / name).parent.joinpath(match["path"]).resolve().relative_to(ROOT).as_posix()
            pages = {re.sub(r"\.\w+$", ".html", page) for page in texts} if match["raw"] else texts
            known = (raw_files | website.MADE) if match["raw"] else files
            assert target in pages or target in known, f"{name}: {match['path']}"
            checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    ("link", "led"),
    [
        ("[a](README.md)", "[a](index.md)"),
        ("[a](../README.md#two-commands)", "[a](../index.md#two-commands)"),
        ("[a](../figures/ledger.md)", "[a](../figures/ledger.md)"),
        ("[a](../flatdyn/methods/masks.py)", "[a](../api/flatdyn.methods.masks.rst)"),
        ("[a](../flatdyn/processes/base.py)", "[a](../api/flatdyn.processes.rst)"),
        ("[a](../notebooks)", "[a](index.md)"),
        ('<a href="README.md"><img src="../LICENSE"></a>', '<a href="index.html"><img src="../LICENSE"></a>'),
        ("[a](no_such_page.md)", FileNotFoundError),
        ("[a](../flatdyn/no_such_module.py)", FileNotFoundError),
        ("![a](../figures/no_such_figure.png)", FileNotFoundError),
    ],
)
def test_a_link_is_led_to_the_page_or_refused(link, led):
    if led is FileNotFoundError:
        with pytest.raises(FileNotFoundError, match=r"notebooks/README\.md links to .*no_such"):
            website.led(link, "notebooks/README.md", set(), set())
    else:
        assert website.led(link, "notebooks/README.md", set(), set()) == led


def test_what_is_no_link_stays():
    text = "[a](https://arxiv.org/abs/2301.06308) [b](#here) <a href='mailto:a@b.c'>"
    assert website.led(text, "README.md", set(), set()) == text


def test_every_reference_in_a_public_docstring_means_something():
    for entry in reference.entries().values():
        members = vars(entry.value).values() if inspect.isclass(entry.value) else ()
        module = sys.modules.get(getattr(entry.value, "__module__", None) or "")
        for value in (entry.value, *members) if callable(entry.value) else ():
            text = getattr(value, "__doc__", None) or ""
            for name in re.findall(r":(?:func|class|meth|attr|data|mod|exc):`([^`]+)`", text):
                inside = entry.value if inspect.isclass(entry.value) else module
                assert reference.documented(name, inside) is not None, f"{entry.name}: {name}"


def test_a_docstring_becomes_what_sphinx_reads():
    docstring = """First passage out of |θ| < 1, `a*b` by `a_`.

    T = min {k ≥ 1 : |θₖ| ≥ 1},   as :func:`flatdyn.escape_times` has it

Then:
* one, of *all*
* two
Args:
    x, y: numbers
    **options: of :class:`Ball`
Example:
    >>> 2 * 3
    6
"""
    lines = reference.readable(docstring.splitlines(), reference.modules()["flatdyn.escape"])
    assert lines == [
        r"First passage out of \|θ\| < 1, ``a*b`` by ``a_``\ .",
        "",
        "",
        ".. parsed-literal::",
        "",
        r"    T = min {k ≥ 1 : \|θₖ\| ≥ 1},   as :py:obj:`escape_times <flatdyn.escape_times>` has it",
        "",
        "",
        "Then:",
        "",
        r"* one, of \*all\*",
        "* two",
        "",
        "Args:",
        "    x, y: numbers",
        r"    \*\*options: of :py:obj:`Ball <flatdyn.escape.Ball>`",
        "Example:",
        "    >>> 2 * 3",
        "    6",
    ]


def test_finished_pages_are_searched_for_links_that_lead_nowhere(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.html").write_text(
        '<a href="inner/b.html?v=1#here">b</a><a href="https://arxiv.org">c</a><p id="top">'
    )
    (tmp_path / "inner" / "b.html").write_text('<p id="here"><a href="../a.html#top">a</a><a href="#here">b</a>')
    assert website.broken(tmp_path) == []
    wrong = '<a href="b.html#gone">b</a><img src="no.png"><script src="https://cdn.example/x.js"></script>'
    (tmp_path / "inner" / "b.html").write_text('<p id="here">' + wrong)
    assert website.broken(tmp_path) == [
        "inner/b.html loads https://cdn.example/x.js",
        "inner/b.html links to b.html#gone",
        "inner/b.html links to no.png",
    ]
