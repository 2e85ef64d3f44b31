"""The manifest of a sweep: what is in a store, for people. Parameters, versions, seconds per cell, failures.

One JSON file for each question stands beside the cells: `sweep-….json`. It says nothing that the cells need: it is
written anew from time to time and at the end, and `flatdyn sweeps show FOLDER` prints it.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from flatdyn.core import records, stores
from flatdyn.sweeps.asking import Errand
from flatdyn.sweeps.grid import describe

_LONGEST = 5  # cells whose seconds are shown
_SHOWN = 20  # failures that are shown


class Manifest:
    """What one call adds to the manifest of its question.

    Args:
        folder: of the store
        word: that identifies the question
        about: texts and lists by name: the question, the process, the parameters
    """

    def __init__(self, folder: Path, word: str, about: dict[str, Any]):
        self.path, self.about = folder / f"sweep-{word[:16]}.json", about
        self.cells: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self._written, self._new = time.monotonic(), not self.path.exists()

    def done(self, task: Errand, seconds: float | None, worker: str, new: bool) -> None:
        """A cell is finished: by a worker, or here; new, or read from the store."""
        entry = {"cell": describe(task.cell), "seed": task.seed, "seconds": seconds}
        self.cells[task.file] = entry | ({"worker": worker} if worker else {})
        self._new = self._new or new
        if time.monotonic() - self._written > stores.CHECKPOINT_SECONDS:
            self.write()

    def failed(self, task: Errand, error: Exception) -> None:
        """A cell could not be answered."""
        said = {"cell": describe(task.cell), "seed": task.seed, "message": str(error)}
        self.failures[task.file] = said | {"time": _now()}
        self._new = True

    def write(self) -> None:
        """Renew the file with what is new, and keep what is there; a full disk is no reason to stop."""
        self._written = time.monotonic()
        if not self._new:
            return
        before = read(self.path) or {}
        cells = _entries(before, "cells") | self.cells
        failures = {
            name: one for name, one in (_entries(before, "failures") | self.failures).items() if name not in cells
        }
        content = {**self.about, "provenance": records.provenance(), "written": _now()}
        content |= {"cells": cells, "failures": failures}
        with contextlib.suppress(OSError):
            records.write_whole(self.path, json.dumps(content, indent=1, ensure_ascii=False).encode())
            self._new = False


def read(path: Path) -> dict[str, Any] | None:
    """What a manifest holds; None if it can't be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def seconds_of(folder: Path) -> dict[str, float]:
    """What the cells in a folder took, by their text; the mean over seeds and questions."""
    took: dict[str, list[float]] = {}
    for path in folder.glob("sweep-*.json"):
        for entry in _entries(read(path) or {}, "cells").values():
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                took.setdefault(str(entry["cell"]), []).append(float(entry["seconds"]))
    return {cell: sum(several) / len(several) for cell, several in took.items()}


def _entries(content: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    entries = content.get(name)
    return {k: v for k, v in entries.items() if isinstance(v, dict)} if isinstance(entries, dict) else {}


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
