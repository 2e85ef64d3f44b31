"""The notebooks as pages: short, run, without clutter, and in agreement with what their full runs measured."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

import flatdyn as fd
from flatdyn.notebook import ledger, pages, renewal, results

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUESTIONS = pages.titles(ROOT / "notebooks")
OVERVIEW = NOTEBOOKS[0]
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def code(path):
    return "\n".join(source(cell) for cell in cells(path, "code"))


# --- stored output --------------------------------------------------------------------------------------------


@each
def test_a_notebook_was_run_and_holds_nothing_volatile(path):
    """nbval passes on a notebook without output, so an unrun one must be refused here."""
    notebook = json.loads(path.read_text())
    assert path.stat().st_size < 300 * 1024
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    for number, cell in enumerate(cells(path, "code"), start=1):
        assert cell["execution_count"] == number
        assert set(cell["metadata"]) <= {"tags"}
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            text = "".join(output.get("text", [])) + json.dumps(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"0x[0-9a-f]{6,}", text), "an address in memory"
            assert not re.search(r"(?<![\w.:/$}\\])/[\w.-]+/[\w.-]+", text), "an absolute path"


# Calls that a cell may end in: they return nothing, or a text with markup. The value of any other would be stored.
LAST_CALLS = {
    "print",
    "report",
    "show",
    "save_figure",
    "settle",
    "count",
    "use_style",
    "Markdown",
    "Math",
    "result",
    "overview",
    "explore",  # a still picture, and two lines of Python
}


@each
def test_no_object_and_no_digest_is_seen_in_an_output(path):
    """The text of an object holds addresses, digits of an axis' limits, or the wording of another package's version.

    So output is what is printed, a figure by `show`, or a text with markup; a figure is not displayed half-drawn. What
    nbval compares of a figure travels unseen.
    """
    for cell in cells(path, "code"):
        last = ast.parse(source(cell)).body[-1]
        if isinstance(last, ast.Expr):
            function = getattr(last.value, "func", None)
            name = getattr(function, "attr", getattr(function, "id", None))
            assert name in LAST_CALLS, f"{ast.unparse(last)} has a value: write `_ = ...`"
        for output in cell["outputs"]:
            data, printed = output.get("data", {}), "".join(output.get("text", []))
            assert not re.search(r"<matplotlib|\[Text\(|Text\(\d| at 0x|<\w+(\.\w+)+ object", printed)
            assert not re.search(r"range \S+ \S+ means", printed), "a digest is printed"
            plain = "".join(data.get("text/plain", []))
            if output["output_type"] == "execute_result":
                explored = r"Explorer of\nprocess = fd\..*\nrun = fd\..*"
                assert re.fullmatch(rf"<IPython\.core\.display\.(Markdown|Math) object>|{explored}", plain)
            elif output["output_type"] == "display_data" and not re.search(r"\.(result|overview)\(", source(cell)):
                assert re.fullmatch(r"<Figure size \d+x\d+ with \d+ Axes>", plain)
                assert "show(" in source(cell)
                assert data[fd.notebook.output.DIGEST]


# --- how it reads ---------------------------------------------------------------------------------------------


@each
def test_a_notebook_reads_as_it_should(path):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    markdown, blocks = cells(path, "markdown"), cells(path, "code")
    first = source(markdown[0])
    assert re.match(r"# .+\?\n", first), "the title is a question"
    assert "**Answer.**" in first
    assert "does not show.**" in source(markdown[-2]), "the last words say what it does not show; then come the links"
    assert "import flatdyn as fd" in source(blocks[0])
    if "import jax\n" in code(path):
        assert re.search(r'jax\.config\.update\("jax_enable_x64", True\)  # \w+', code(path))
    assert len(blocks) <= 18
    lines = [line for line in code(path).splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= 120, f"{len(lines)} lines of code"
    for cell in blocks:
        assert source(cell).strip(), "an empty cell"
        assert len(source(cell).splitlines()) <= 20
        assert not re.search(r"^\s*[%!]|;\s*$|^\s*class ", source(cell), re.M)
        for definition in re.findall(r"^def .*\n(?:[ \t].*\n|\n(?=[ \t]))*", source(cell) + "\n", re.M):
            assert len(definition.splitlines()) <= 6, "a function of more than five lines belongs into the library"
    for figure in re.findall(r"save_figure\(\w+, (.*?)[,)]", code(path)):
        assert figure.startswith(("NAME", 'f"{NAME}_')), "a figure bears its notebook's name"
    if path != OVERVIEW:
        assert f'fd.notebook.result("{path.stem}")' in source(blocks[0]), "what the full run found stands first"
        assert re.search(r"^## To copy", source(markdown[1]), re.M), "then a version in three lines"
        assert len(ast.parse(source(blocks[1])).body) <= 5
        assert f'NAME = "{path.stem}"' in code(path)


@each
def test_a_page_leads_to_the_next_and_to_every_notebook_that_it_names(path):
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    assert source(cells(path, "markdown")[-1]) == pages.navigation(path.stem, QUESTIONS)
    named = re.findall(r"[Nn]otebooks? (\d\d)", text)
    assert not named, f"notebook {named} is named without a link"
    for target in re.findall(r"\]\(([\w.]+\.ipynb)\)", text):
        assert (path.parent / target).exists(), target


# --- agreement with the full run ------------------------------------------------------------------------------


@each
def test_a_page_says_what_its_full_run_measured(path):
    """Answer, figures' captions, ledger rows: all made from the numbers, so that no old sentence stays behind."""
    notebook = nbformat.read(path, as_version=4)
    again = nbformat.reads(renewal.renewed(path, QUESTIONS), as_version=4)
    assert [cell.source for cell in again.cells] == [cell.source for cell in notebook.cells], "make pages"
    for new, old in zip(again.cells, notebook.cells, strict=True):
        texts = [
            [output.get("data", {}).get("text/markdown") for output in cell.get("outputs", [])] for cell in (new, old)
        ]
        assert texts[0] == texts[1], "make pages"


# What may stand in an Answer as a digit: formulas, links, and the names of things (Theorem 2, K9, p = 0.5 in a formula)
PLAIN = r"\$.*?\$|\[.*?\](?:\(.*?\))?|arXiv \S+|[A-Za-z]+ ?\d\b|\{.*?\}"


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("*.toml")), ids=lambda path: path.stem)
def test_no_measured_number_is_typed_into_an_answer(path):
    import tomllib

    table = tomllib.loads(path.read_text())
    assert path.stem in QUESTIONS
    assert {"line", "answer"} <= set(table)
    for key in ("line", "answer", "finding"):
        left = re.sub(PLAIN, " ", table.get(key, ""), flags=re.S)
        assert not re.search(r"\d\.\d|\d\(\d|\d ?%|\d\d", left), f"{key} holds a number that comes from nowhere: {left}"
    shown = pages.figures(path.stem)
    assert set(table.get("captions", {})) == set(shown), "one caption for each figure"


@each
def test_claims_that_a_notebook_settles_are_settled(path):
    settled = set(re.findall(r'settle\(\s*"(\w+)"', code(path)))
    numbers, claims = results.stored(path.stem)
    assert set(claims) == settled
    for entry in claims.values():
        assert entry.verdict in ledger.COLOURS
        assert entry.numbers, "a verdict rests on numbers"
    if "Results(" in code(path):
        assert numbers, "a full run has not been made"


def test_every_result_and_every_figure_belongs_to_a_notebook():
    for path in (ROOT / "figures" / "data" / "results").glob("*.json"):
        assert path.stem in QUESTIONS
    for path in [*(ROOT / "figures").glob("*.p[dn]*"), *(ROOT / "figures" / "data").glob("[0-9]*.npz")]:
        assert any(path.stem.startswith(stem) for stem in QUESTIONS), f"{path.name} is made by no notebook"
    for path in (ROOT / "figures").glob("*.pdf"):
        assert path.with_suffix(".png").exists()
        assert (ROOT / "figures" / "data" / f"{path.stem}.npz").exists()


# --- the pages about all --------------------------------------------------------------------------------------


def test_the_ledger_and_the_gallery_are_made_from_the_results():
    text = (ROOT / "figures" / "ledger.md").read_text()
    assert text == f"{renewal.LEDGER}\n\n{ledger.markdown()}\n", "make pages"
    readme = (ROOT / "notebooks" / "README.md").read_text()
    assert readme == f"{renewal.GALLERY}\n\n{pages.gallery(ROOT / 'notebooks', renewal.seconds())}\n", "make pages"


def test_notebooks_are_numbered_without_a_gap_and_listed():
    readme = (ROOT / "notebooks" / "README.md").read_text()
    for number, name in enumerate(QUESTIONS):
        assert f"({name}.ipynb)" in readme
        assert name.startswith(f"{number:02d}_")


WORDS_A_MINUTE = 238  # silent reading of English, the mean of 190 studies: Brysbaert, J. Mem. Lang. 109 (2019)


def test_the_overview_is_read_in_five_minutes():
    """What is folded away does not count, nor do tags, nor symbols and references, which are looked up and not read."""
    shown = "".join(
        output["data"]["text/markdown"]
        for cell in nbformat.read(OVERVIEW, as_version=4).cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    )
    references = r"^- \*\*[A-Z]\*\* .*$|\(\[\d\d\]\(\S+?\)\)"  # papers behind the letters, numbers of notebooks
    shown = re.sub(references, "", shown, flags=re.M)
    words = re.findall(r"\S*\w\S*", re.sub(r"<details>.*?</details>|<[^>]*>|\]\(\S+?\)", "", shown, flags=re.S))
    assert len(words) <= 5 * WORDS_A_MINUTE
