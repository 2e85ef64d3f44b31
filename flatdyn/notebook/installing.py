"""A notebook's new figures take the place of the old ones only where they differ by more than rounding and chance.

A run writes into a folder of its own, which begins as a copy of the folder of figures. When it has ended, each new file
is compared with the stored one by :mod:`flatdyn.notebook.agreement`. What agrees stays as it is, byte for byte, and
counts as confirmed; what differs is renewed, and the report says by how much.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from flatdyn.core import records
from flatdyn.notebook import agreement, keys

SHOWN = 4  # differences of a file that a report lists


class Run:
    """A full run of one notebook in a folder of its own.

    Args:
        path: of the notebook
        modules: the library as it is before the run, see :func:`flatdyn.notebook.keys.library`
        figures: the folder of figures
        scratch: the run's own folder; what is there is deleted
    """

    def __init__(self, path: Path, modules: Mapping[str, str], figures: Path, scratch: Path):
        self.name, self.cells, self.modules = path.stem, keys.cells_digest(json.loads(path.read_text("utf-8"))), modules
        self.figures, self.scratch = figures, scratch
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(figures, scratch, ignore=shutil.ignore_patterns("*.py", "__pycache__", "made", ".*"))
        self._before = self._stamps()

    def _stamps(self) -> dict[str, tuple[int, int, int]]:
        """Which file it is, by path: a file that was written has another."""
        stats = {path: path.stat() for path in self.scratch.rglob("*") if path.is_file()}
        return {
            path.relative_to(self.scratch).as_posix(): (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            for path, stat in stats.items()
        }

    def install(self, imported: Iterable[str]) -> str:
        """Renew what differs, keep what agrees, write the key; all or nothing. Return the report.

        Args:
            imported: names of the modules that the run had imported when it ended
        """
        imported = list(imported)
        written = sorted(path for path, stamp in self._stamps().items() if self._before.get(path) != stamp)
        mine = {*written, *keys.owned(self.figures, self.name)}
        old = keys.made(self.figures, self.name)
        new = keys.Key(self.cells, keys.reached(imported, self.modules), keys.versions(imported), {})
        stored = keys.file_digests(self.figures, mine)
        damaged = {path for path in stored if old and old.files.get(path, stored[path]) != stored[path]}
        alike = keys.draws_alike(old, new)
        contents, renewed, kept = {}, {}, []
        for path in sorted(written, key=lambda path: path.endswith((".pdf", ".png"))):  # pictures after their data
            content = (self.scratch / path).read_bytes()
            if stored.get(path) == keys.digest(content):
                kept.append(path)
                continue
            if path in damaged:
                why = ["it was changed by other hands"]
            else:
                why = self._differences(path, content, renewed, alike)
            if why:
                renewed[path], contents[self.figures / path] = why, content
            else:
                kept.append(path)
        files = stored | {path: keys.digest(contents[self.figures / path]) for path in renewed}
        key = new._replace(files=dict(sorted(files.items()))).text()
        place = keys.record(self.figures, self.name)
        if not place.exists() or place.read_bytes() != key:
            contents[place] = key
        if contents:
            records.write_together(contents)
        shutil.rmtree(self.scratch, ignore_errors=True)
        idle = [path for path in mine if path.endswith((".pdf", ".png")) and path not in written]
        return self._report(renewed, kept, idle)

    def _differences(self, path: str, content: bytes, renewed: Mapping[str, list[str]], alike: bool) -> list[str]:
        """Why a file is to be renewed; [] if the stored one agrees."""
        place = self.figures / path
        if not place.exists():
            return ["it is new"]
        if path.endswith((".pdf", ".png")):
            data = f"data/{Path(path).stem}.npz"
            if data in renewed:
                return ["its data were renewed"]
            return [] if alike and (self.figures / data).exists() else ["it may be drawn otherwise"]
        if path.endswith(".npz"):
            return data_differences(place, self.scratch / path)
        if path.endswith(".json"):
            try:
                stored = json.loads(place.read_bytes())
            except ValueError:
                return ["the stored one can't be read"]
            return agreement.results_differences(stored, json.loads(content))
        return ["it differs"]

    def _report(self, renewed: Mapping[str, list[str]], kept: list[str], idle: list[str]) -> str:
        """One line for the notebook, and one for each file whose numbers were renewed."""
        if not renewed:
            lines = [f"{self.name}: confirmed, {len(kept)} files stay as they are"]
        else:
            lines = [f"{self.name}: {len(renewed)} files renewed, {len(kept)} confirmed"]
        for path, why in renewed.items():
            more = f"; and {len(why) - SHOWN} more" if len(why) > SHOWN else ""
            lines.append(f"    {path}: {'; '.join(why[:SHOWN])}{more}")
        lines += [f"    {path} is no longer written: delete it" for path in sorted(idle)]
        return "\n".join(lines)


def data_differences(stored: Path, new: Path) -> list[str]:
    """What differs between the data of two runs of a figure: arrays, settings, and what the picture shows.

    Where arrays agree by their errors alone, the picture of the other run shows other numbers: then only what it
    consists of is compared.
    """
    fresh, head = records.load_arrays(new)
    try:
        old, old_head = records.load_arrays(stored)
    except ValueError:
        return ["the stored one can't be read"]
    lines = agreement.arrays_differences(old, fresh)
    lines += agreement.results_differences(old_head.get("config"), head.get("config"), place="config")
    if lines:
        return lines
    shown = [table.get("digest") for table in (old_head, head)]
    if shown[0] is None and shown[1] is not None:
        return ["the stored one does not hold what its picture shows"]
    if None in shown:
        return []
    if not agreement.only_rounding(old, fresh):
        shown = [agreement.NUMBER.sub("#", text) for text in shown]
    return [] if agreement.same_text(*shown) else ["the picture shows other numbers, though the data agree"]
