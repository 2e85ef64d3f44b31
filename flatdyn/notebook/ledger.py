"""The ledger: each claim of the papers, what was measured, and the verdict.

The claims are data (flatdyn/notebook/claims.toml). A notebook settles one with :func:`settle`, which at the full preset
writes figures/data/ledger/ID_NN.json, where NN is the notebook's number: a claim may be settled on several systems.
Notebook 00 and figures/ledger.md are made from these files alone.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from flatdyn.core import checks, records
from flatdyn.notebook import output

VERDICTS = ("holds", "holds only if", "fails", "not visible at this scale")


@cache
def claims() -> dict[str, dict[str, str]]:
    """The claims by id: {"claim": …, "source": …}, in the papers' order."""
    table = tomllib.loads(files("flatdyn.notebook").joinpath("claims.toml").read_text(encoding="utf-8"))
    return {name: {"claim": text, "source": table["papers"][name[0]]} for name, text in table["claims"].items()}


def settle(
    claim: str,
    verdict: str,
    *,
    condition: str,
    measured: Mapping[str, tuple[float, float]],
    notebook_name: str,
) -> None:
    """Write a claim's verdict with the numbers it rests on, and print it.

    Args:
        claim: id in claims.toml, such as "K1"
        verdict: one of :data:`VERDICTS`
        condition: under which it was measured, and on which the verdict depends
        measured: what -> (value, uncertainty); uncertainty 0 for exact and counted quantities
        notebook_name: the notebook that shows it, without suffix
    Raises:
        ValueError: if the claim is not in the list, the verdict is another word, or nothing was measured
    """
    checks.text("claim", claim)
    checks.text("condition", condition)
    checks.text("notebook_name", notebook_name)
    checks.mapping("measured", measured, "what -> (value, uncertainty)")
    if claim not in claims():
        raise ValueError(f"claim {claim!r} is not in claims.toml, which has {', '.join(claims())}")
    checks.choice("verdict", verdict, VERDICTS)
    pairs = (isinstance(pair, tuple | list | np.ndarray) and np.size(pair) == 2 for pair in measured.values())
    if not measured or not all(pairs):
        raise ValueError("measured must hold at least one value with its uncertainty: {'what': (value, uncertainty)}")
    entry = {
        "claim": claim,
        "verdict": verdict,
        "condition": condition,
        "measured": {
            what: output.number(output.measured(what, v), output.measured(what, u)) for what, (v, u) in measured.items()
        },
        "notebook": notebook_name,
        "device": records.provenance()["device"],
    }
    print(f"{claim}: {claims()[claim]['claim']}\n  {verdict}: {condition}")
    for what, text in entry["measured"].items():
        print(f"  {what} = {text}")
    if output.is_full():
        text = json.dumps(entry, indent=1, ensure_ascii=False) + "\n"
        records.write_whole(folder() / f"{claim}_{notebook_name[:2]}.json", text.encode())


def folder() -> Path:
    """Where the entries lie."""
    return output.figures_folder() / "data" / "ledger"


def entries() -> list[dict[str, Any]]:
    """The entries that notebooks have written, in the papers' order of the claims; of one claim by notebook.

    Raises:
        ValueError: if a file is damaged or no entry
    """
    read = [_read(path) for path in sorted(folder().glob("*.json"))]
    order = list(claims())
    return sorted(read, key=lambda entry: (order.index(entry["claim"]), entry["notebook"]))


def _read(path: Path) -> dict[str, Any]:
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        texts = [entry[name] for name in ("claim", "verdict", "condition", "notebook")]
        whole = all(isinstance(text, str) for text in (*texts, *entry["measured"].values())) and texts[0] in claims()
    except Exception:  # a damaged file can break the reader anywhere
        whole = False
    if not whole:
        raise ValueError(f"{path} is no entry of the ledger: delete it and run its notebook again")
    return entry


def markdown(*, missing: bool = False) -> str:
    """The ledger as a Markdown table; with `missing`, claims that no notebook has settled yet are listed too."""
    missing = checks.flag("missing", missing)
    settled = entries()
    lines = ["| | claim | verdict | condition | measured | notebook |", "|---|---|---|---|---|---|"]
    for name, claim in claims().items():
        rows = [_row(entry) for entry in settled if entry["claim"] == name] or [["open", "", "", ""]] * missing
        for row in rows:
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (name, claim["claim"], *row)) + " |")
    return "\n".join(lines)


def _row(entry: dict[str, Any]) -> list[str]:
    measured = "; ".join(f"{what} {text}" for what, text in entry["measured"].items())
    return [entry["verdict"], entry["condition"], measured, entry["notebook"][:2]]
