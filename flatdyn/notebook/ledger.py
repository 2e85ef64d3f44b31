"""The ledger: each claim of the papers, the verdict, and the numbers that it follows from.

Claims are data (claims.toml). What notebooks measured lies in figures/data/results/. The ledger is made from the two:
nothing in it is typed.
"""

from __future__ import annotations

import re
from collections import Counter

from flatdyn.core import checks
from flatdyn.notebook import results
from flatdyn.notebook.claims import claims as claims
from flatdyn.notebook.results import FAILS, SCOPES, UNSEEN, Number, Settled

OPEN = "open"
WORDS = ("holds", "setting", "variant", "fails", "unseen", "open")
SHORT = dict(zip((*SCOPES.values(), FAILS, UNSEEN, OPEN), WORDS, strict=True))
COLOURS = dict(zip(SHORT, ("#009E73", "#0072B2", "#B8860B", "#D55E00", "#777777", "#000000"), strict=True))


def entries() -> list[Settled]:
    """What notebooks have settled, in the papers' order of the claims; of one claim by notebook.

    Raises:
        ValueError: if a file of results is damaged
    """
    names = sorted(path.stem for path in results.folder().glob("*.json"))
    settled = [entry for name in names for entry in results.stored(name)[1].values()]
    order = list(claims())
    return sorted(settled, key=lambda entry: (order.index(entry.claim), entry.notebook))


def verdict(settled: list[Settled]) -> str:
    """One word for a claim that several notebooks have looked at: what they agree on, or the settings it hangs on."""
    words = {entry.verdict for entry in settled}
    words = words - {UNSEEN} or words
    if len(words) <= 1:
        return next(iter(words), OPEN)
    return SCOPES["variant"] if words == {SCOPES["variant"], FAILS} else SCOPES["setting"]


def counted() -> dict[str, int]:
    """How many claims have each verdict."""
    settled = entries()
    count = Counter(verdict([entry for entry in settled if entry.claim == claim]) for claim in claims())
    return {word: count[word] for word in COLOURS if count[word]}


def numbers() -> dict[str, Number]:
    """The counts as numbers for templates: claims, and claims_holds, claims_setting, … by verdict."""
    count = counted()
    by_verdict = {f"claims_{short}": Number(count.get(word, 0), 0, f"claims: {word}") for word, short in SHORT.items()}
    return by_verdict | {"claims": Number(len(claims()), 0, "claims in all")}


def cards(notebook: str | None = None, notebooks: str = "../notebooks/") -> str:
    """The claims as Markdown: verdict, one sentence, numbers behind a fold.

    Where several notebooks look at one claim and differ, each has its sentence; where they agree, the first has it.
    What else they say stands behind the fold, but for a claim that fails, and on the page of one notebook.

    Args:
        notebook: only the claims that this one settles
        notebooks: the folder that links lead to, from where the text is read
    """
    if notebook is not None:
        checks.text("notebook", notebook)
    settled = entries() if notebook is None else list(results.stored(notebook)[1].values())
    parts = []
    for name, claim in claims().items():
        mine = [entry for entry in settled if entry.claim == name]
        if mine or notebook is None:
            word = verdict(mine)
            head = f"**{name}** {claim['claim']}<br>{_coloured(word)}"
            one = len({entry.verdict for entry in mine}) == 1
            every = notebook is None
            place = notebooks if every else None
            lines = [_line(entry, one, place, _first(entry) if every else entry.sentence) for entry in mine]
            seen = 1 if one and every else len(lines)
            whole = [_line(entry, one, place, entry.sentence) for entry in mine]
            more = [line for i, line in enumerate(whole) if i >= seen or line != lines[i]]
            parts.append("\n".join([head, "", *lines[:seen], "", *_folded(more, mine)]).rstrip())
    return "\n\n".join(parts)


def _coloured(word: str, short: bool = False) -> str:
    """A verdict with a dot in its colour; where colours are taken out, as forges do, the dot and the word stay.

    Short, it is an aside before a sentence: "in a stated setting", "only for a variant".
    """
    shown = word.removeprefix("holds ") if short else word
    return f'<span style="color:{COLOURS[word]}">●</span> **{shown}**'


def _first(entry: Settled) -> str:
    """The first sentence of what is said; all of it where the claim fails, since there it says why."""
    if entry.verdict not in SCOPES.values():
        return entry.sentence
    return re.split(r"(?<=\.)\s+(?=[A-Z])", entry.sentence, maxsplit=1)[0]


def _line(entry: Settled, alone: bool, notebooks: str | None, sentence: str) -> str:
    word = "" if alone else f"{_coloured(entry.verdict, short=True)}: "
    place = "" if notebooks is None else f" ([{entry.notebook[:2]}]({notebooks}{entry.notebook}.ipynb))"
    return f"- {word}{sentence}{place}"


def _folded(lines: list[str], settled: list[Settled]) -> list[str]:
    """What stands behind the fold: further sentences, and the numbers."""
    rows = [f"| {_cell(n.label)} | {n} |" for entry in settled for n in entry.numbers.values()]
    if not rows:
        return []
    head = "more, and numbers" if lines else "numbers"
    more = [*lines, ""] if lines else []
    return [f"<details><summary>{head}</summary>", "", *more, "| measured | |", "|---|---|", *rows, "", "</details>"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def markdown(notebooks: str = "../notebooks/") -> str:
    """The whole ledger as Markdown: how many claims have which verdict, and every claim; see :func:`cards`."""
    count = counted()
    head = ["| verdict | claims |", "|---|---|", *(f"| {_coloured(word)} | {count[word]} |" for word in count)]
    return "\n".join([*head, f"| in all | {sum(count.values())} |", "", cards(notebooks=notebooks)])


def papers() -> str:
    """The papers behind the letters of the claims, as Markdown."""
    sources = {name.rstrip("0123456789"): claim["source"] for name, claim in claims().items()}
    return "\n".join(f"- **{letter}** {source}" for letter, source in sources.items())
