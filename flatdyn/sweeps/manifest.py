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
from flatdyn.core.leases import Leases
from flatdyn.sweeps.asking import Errand
from flatdyn.sweeps.grid import describe

_LONGEST = 3  # cells whose seconds are shown
_SHOWN = 20  # failures that are shown
_VALUES = 8  # of a parameter


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


def shown(folder: str | Path) -> str:
    """What is in the store of a sweep, as text: questions, parameters, seconds, versions, failures, who works now.

    Raises:
        ValueError: if there is no such folder, or no sweep in it
    """
    folder = stores.folder_of(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give the one that was store= of a sweep")
    here = {path.stem for path in folder.glob("*.npz")}
    manifests = [content for path in sorted(folder.glob("sweep-*.json")) if (content := read(path)) is not None]
    if not here and not manifests:
        raise ValueError(f"there is no sweep in {folder}: give the folder that was store= of one")
    lines = [f"{folder}: {len(here)} finished cells"]
    for content in manifests:
        lines += ["", *_of_one(content, here)]
        here -= set(_entries(content, "cells"))
    if here:
        lines += ["", f"{len(here)} cells stand in no manifest: their call was killed, or has not ended"]
    held = [path.name[1 : -len(".lease")] for path in folder.glob(".*.lease")]
    holders = sorted({str(holder) for name in held if (holder := Leases(folder, "").holder(name)) is not None})
    if holders:
        lines += ["", f"{len(held)} cells are being computed, or were when their call died: by {', '.join(holders)}"]
    return "\n".join(lines)


def _of_one(content: dict[str, Any], here: set[str]) -> list[str]:
    """The lines about one question. What is in a file may be anything."""
    cells, failures = _entries(content, "cells"), _entries(content, "failures")
    there = {name: entry for name, entry in cells.items() if name in here}
    given = content.get("parameters")
    parameters = {n: v for n, v in given.items() if isinstance(v, list)} if isinstance(given, dict) else {}
    lines = [f"{content.get('ask', 'a question')} of {_short(content.get('process', 'a process'))}"]
    for name, values in parameters.items():
        some = [str(value) for value in values]
        lines.append(f"  {name}: {', '.join(some if len(some) <= _VALUES else [*some[: _VALUES - 2], '…', some[-1]])}")
    lines.append(f"  cells: {len(there)} finished; {content.get('seeds', 1)} seeds each")
    if lost := len(cells) - len(there):
        lines.append(f"  {lost} cells were finished, but their files are gone")
    took = [(e["seconds"], e) for e in there.values() if isinstance(e.get("seconds"), int | float)]
    if took:
        took.sort(key=lambda one: -one[0])
        longest = "; ".join(f"{_called(entry)}: {seconds:.3g}" for seconds, entry in took[:_LONGEST])
        lines.append(f"  seconds: {sum(one for one, _ in took):.3g} in all; the longest {longest}")
    lines.append(
        f"  computed with: {_versions(content.get('provenance'))}; written {content.get('written', 'some time')}"
    )
    if failures:
        lines.append(f"  failures: {len(failures)}")
        lines += [f"    {entry.get('message', _called(entry))}" for entry in [*failures.values()][:_SHOWN]]
    return lines


def _called(entry: dict[str, Any]) -> str:
    return f"{entry.get('cell')}, seed {entry.get('seed')}"


def _short(text: Any, most: int = 100) -> str:
    one_line = " ".join(str(text).split())
    return one_line if len(one_line) <= most else one_line[: most - 2] + " …"


def _versions(provenance: Any) -> str:
    given = provenance if isinstance(provenance, dict) else {}
    versions = given.get("versions") if isinstance(given.get("versions"), dict) else {}
    parts = [f"{name} {number}" for name, number in {"Python": given.get("python", "?"), **versions}.items()]
    return ", ".join([*parts, str(given.get("device", "?")), "64 bits" if given.get("x64") else "32 bits"])


def _entries(content: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    entries = content.get(name)
    return {k: v for k, v in entries.items() if isinstance(v, dict)} if isinstance(entries, dict) else {}


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
