"""Write the pages anew from the results: Answers, result cells, links, the overview, the ledger, the gallery.

It runs no notebook and takes seconds: a changed sentence in figures/NAME.toml needs no more.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from flatdyn.core import records
from flatdyn.notebook import ledger, output, pages

LEDGER = """# What holds

Made from what the notebooks measured. Notebook 00 shows the same, and the papers behind the letters."""
GALLERY = """# Notebooks

Each asks one question. The answers are those of the full runs; seconds are those of a small run on two cores."""
NAVIGATION = "navigation"  # tag of the last cell, which holds the links
FINDINGS = 3  # in the README, each from a notebook of its own
SECONDS = "seconds.json"  # how long each notebook took when its stored output was renewed


def renew(notebooks: Path) -> list[str]:
    """Renew every page that the results have changed, and return what could not be.

    Args:
        notebooks: the folder of notebooks; README.md stands beside it
    """
    questions, failures = pages.titles(notebooks), []
    for name in questions:
        path = notebooks / f"{name}.ipynb"
        try:
            _write(path, renewed(path, questions))
        except ValueError as error:
            failures.append(f"{path.name} was not renewed: {error}")
    for path, make in (
        (output.figures_folder() / "ledger.md", lambda _: f"{LEDGER}\n\n{ledger.markdown()}\n"),
        (notebooks / "README.md", lambda _: f"{GALLERY}\n\n{pages.gallery(notebooks, seconds())}\n"),
        (notebooks.parent / "README.md", _with_findings),
    ):
        try:
            _write(path, make(path))
        except ValueError as error:
            failures.append(f"{path.name} was not renewed: {error}")
    return failures


def renewed(path: Path, questions: dict[str, str]) -> str:
    """The text of a notebook's file with its generated parts made anew."""
    import nbformat

    name, notebook = path.stem, nbformat.read(path, as_version=4)
    notebook.cells[0].source = pages.answered(notebook.cells[0].source, name)
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and NAVIGATION not in cell.metadata.get("tags", []):
            cell.source = pages.linked(cell.source, questions)
        elif "notebook.result(" in cell.source:
            cell.outputs = [_displayed(data) for data in pages.shown(name)]
        elif "notebook.overview(" in cell.source:
            cell.outputs = [_displayed(pages.claims_shown())]
    if NAVIGATION not in notebook.cells[-1].metadata.get("tags", []):
        notebook.cells.append(nbformat.v4.new_markdown_cell(metadata={"tags": [NAVIGATION]}, id=NAVIGATION))
    notebook.cells[-1].source = pages.navigation(name, questions)
    return nbformat.writes(notebook) + "\n"


def _displayed(data: dict[str, str]) -> Any:
    import nbformat

    return nbformat.v4.new_output("display_data", data)


def _with_findings(readme: Path) -> str:
    """The README with the caption of its figure and with its findings, each between their marks.

    The findings are those of the three notebooks that have one; with fewer they stay as they are.
    """
    text = readme.read_text(encoding="utf-8")
    said = [pages.words(name).get("finding") for name in pages.titles(readme.parent / "notebooks")]
    rows = [f"- {finding}\n" for finding in said if finding]
    if len(rows) >= FINDINGS:
        text = _between("findings", "".join(rows), text)
    for name in re.findall(r"\]\(figures/(\w+)\.png\)", text)[:1]:
        caption = pages.words(name).get("captions", {}).get("main", "")
        text = _between("caption", "".join(f"{line}\n" for line in caption.splitlines()), text)
    return text


def _between(mark: str, content: str, text: str) -> str:
    """A text with `content` between <!-- mark --> and <!-- /mark -->."""
    both = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    return re.sub(both, lambda match: f"{match[1]}{content}{match[2]}", text, flags=re.S)


def seconds() -> dict[str, float]:
    """How long each notebook takes at the quick preset, by name; {} where it was not measured."""
    path = output.figures_folder() / "data" / SECONDS
    return json.loads(path.read_text()) if path.exists() else {}


def took(name: str, measured: float) -> None:
    """Keep how long a notebook took, in whole seconds; a change by less than half is that of another machine."""
    known = seconds()
    if not measured / 1.5 < known.get(name, 0) < measured * 1.5:
        table = dict(sorted((known | {name: max(1, round(measured))}).items()))
        records.write_whole(output.figures_folder() / "data" / SECONDS, (json.dumps(table, indent=1) + "\n").encode())


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        records.write_whole(path, text.encode())
