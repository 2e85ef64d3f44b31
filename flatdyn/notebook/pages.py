"""The words of a page, filled with the numbers of its full run.

figures/NAME.toml holds what a notebook says about its results:

    line = "one sentence for the gallery"
    answer = '''the Answer, in Markdown'''
    true = ["low(gain) > 0"]         what must be so for these words to be true, over the numbers
    finding = "for the README"       three notebooks have one
    [captions]
    main = "of figures/NAME.png"     and one for each further figure, by its suffix

All of them are templates over the numbers in figures/data/results/NAME.json; see :class:`flatdyn.notebook.Results`.
"""

from __future__ import annotations

import base64
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from flatdyn.core import checks
from flatdyn.notebook import ledger, output, pictures, results

ANSWER = "**Answer.**"
TEXTS = ("line", "answer", "finding")


def words(name: str) -> dict[str, Any]:
    """What figures/NAME.toml says, filled in: line, answer, captions, and finding if it has one.

    It is empty without that file, and before the notebook's first full run.

    Raises:
        ValueError: if the file is damaged, names a number that was not measured, or its words are no longer true
    """
    path = output.figures_folder() / f"{name}.toml"
    numbers = ledger.numbers() if name.startswith("00") else results.stored(name)[0]
    if not path.exists() or not numbers:
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        wrong = [statement for statement in table.get("true", []) if not results.follows(statement, numbers)]
        said = {key: results.filled(table[key], numbers).strip() for key in TEXTS if key in table}
        captions = table.get("captions", {})
        said["captions"] = {key: results.filled(text, numbers).strip() for key, text in captions.items()}
    except KeyError as error:
        raise ValueError(f"{path.name} names {error}, which is not there: measure it, or take it out") from None
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if wrong:
        raise ValueError(f"the words of {path.name} are no longer true: {'; '.join(wrong)}. Write them anew")
    return said


def figures(name: str) -> dict[str, Path]:
    """A notebook's figures, the one of its own name first, by suffix: {"main": …, "map": …}."""
    paths = sorted(output.figures_folder().glob(f"{name}*.png"))
    return {path.stem[len(name) + 1 :] or "main": path for path in paths}


def result(name: str) -> None:
    """Show what the full run of a notebook found: its figures with their captions, and its rows of the ledger.

    What is missing is said, with how to make it; the page goes on.
    """
    checks.text("name", name)
    from IPython.display import publish_display_data

    for data in shown(name):
        publish_display_data(data)


def shown(name: str) -> list[dict[str, str]]:
    """What :func:`result` shows: one bundle of MIME types for each figure, and one for the ledger's rows."""
    how = f"`make figures ONLY={name[:2]}`"
    try:
        captions, rows = words(name).get("captions", {}), ledger.cards(name)
        missing = "" if rows else f"*Nothing is settled here yet: {how} runs it at full size.*"
    except ValueError as error:
        captions, rows, missing = {}, "", f"*The results can't be shown: {error}*"
    bundles = []
    for key, path in figures(name).items():
        light = pictures.lighter(path.read_bytes())
        bundles.append({"image/png": base64.b64encode(light).decode() + "\n", "text/plain": f"figures/{path.name}"})
        if key in captions:
            which = "" if key == "main" else f", {key.replace('_', ' ')}"
            bundles.append(_text(f"**Figure {name[:2]}{which}.** {captions[key]}"))
    if not bundles:
        bundles.append(_text(f"*There is no figure yet: {how} makes it.*"))
    return [*bundles, *([_text(rows or missing)] if rows or missing else [])]


def overview() -> None:
    """Show every claim with its verdict, as notebook 00 does."""
    from IPython.display import publish_display_data

    publish_display_data(claims_shown())


def claims_shown() -> dict[str, str]:
    """What :func:`overview` shows."""
    return _text(ledger.markdown(notebooks=""))


def _text(markdown: str) -> dict[str, str]:
    return {"text/markdown": markdown, "text/plain": markdown.splitlines()[0]}


def answered(first: str, name: str) -> str:
    """A notebook's first text with its Answer made anew from the numbers; as it is where there are no words."""
    said = words(name)
    if "answer" not in said or ANSWER not in first:
        return first
    return f"{first[: first.index(ANSWER)]}{ANSWER} {said['answer']}"


def titles(folder: Path) -> dict[str, str]:
    """The notebooks in a folder in reading order: name -> question."""
    questions = {}
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        questions[path.stem] = first.splitlines()[0].removeprefix("# ").strip()
    return questions


def navigation(name: str, questions: dict[str, str]) -> str:
    """Links to the notebook before, to the overview, and to the next."""
    order = list(questions)
    place = order.index(name)
    links = [f"[← {questions[order[place - 1]]}]({order[place - 1]}.ipynb)"] if place else []
    links += [f"[Overview]({order[0]}.ipynb)"] if place > 1 else []
    links += [f"[{questions[order[place + 1]]} →]({order[place + 1]}.ipynb)"] if place + 1 < len(order) else []
    return " · ".join(links)


def linked(text: str, questions: dict[str, str]) -> str:
    """A text in which every notebook that is named, as in "notebook 05" or "notebooks 01 and 05", is a link."""
    files = {name[:2]: f"{name}.ipynb" for name in questions}

    def link(match: re.Match[str]) -> str:
        return f"[{match[0]}]({files[match[0]]})" if match[0] in files else match[0]

    phrase = r"[Nn]otebook \d\d(?!\d)|[Nn]otebooks \d\d(?!\d)(?:(?:, | and | or )\d\d(?!\d))*"
    return re.sub(phrase, lambda whole: re.sub(r"(?<!\d)\d\d(?!\d)", link, whole[0]), text)


def gallery(folder: Path, seconds: dict[str, float]) -> str:
    """The notebooks as a table in Markdown: question, answer, figure with caption, seconds of a small run."""
    rows = ["| | question and answer | | seconds |", "|---|---|---|---|"]
    for name, question in titles(folder).items():
        said = words(name)
        line = said.get("line", "").replace("|", "\\|")
        took = f"{seconds[name]:.0f}" if name in seconds else ""
        rows.append(f"| {name[:2]} | [{question}]({name}.ipynb)<br>{line} | {_thumbnail(name, said)} | {took} |")
    return "\n".join(rows)


def _thumbnail(name: str, said: dict[str, Any]) -> str:
    """A notebook's first figure, the first that has a caption, with the caption behind a fold."""
    paths, captions = figures(name), said.get("captions", {})
    key = next((key for key in captions if key in paths), next(iter(paths), None))
    if key is None:
        return ""
    image = f'<a href="{name}.ipynb"><img src="../figures/{paths[key].name}" width="260" alt=""></a>'
    caption = " ".join(captions.get(key, "").split()).replace("|", "\\|")
    return f"{image}<details><summary>caption</summary>{caption}</details>" if caption else image
