"""The papers' claims that are tested, in our words; what was measured is not here."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


@cache
def claims() -> dict[str, dict[str, str]]:
    """The claims by id: {"claim": …, "source": …}, in the papers' order."""
    table = tomllib.loads(files("flatdyn.notebook").joinpath("claims.toml").read_text(encoding="utf-8"))
    return {name: {"claim": text, "source": table["papers"][name[0]]} for name, text in table["claims"].items()}
