"""Open the notebooks in JupyterLab, as copies with which one may play: `python figures/lab.py [JupyterLab's options]`.

The copies lie in build/lab, beside a copy of the figures that their pages show; JupyterLab saves there, and no tracked
file changes. They are renewed from the originals at each start. A copy whose code or text you have changed is yours: it
stays, and if its original has changed too, that is said. Delete it, or all of build/lab, to begin afresh.

    --dry-run        make the copies, say what would be started, and start nothing
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "build" / "lab"
COPIED = "copied.json"  # in the folder of copies: what each original was when it was copied
FIRST = "00_*.ipynb"


def word(path: Path) -> str:
    """A digest of what a user may have changed: of a notebook its cells, not the outputs of a run."""
    content = path.read_bytes()
    if path.suffix == ".ipynb":
        try:
            cells = json.loads(content)["cells"]
            content = json.dumps([(cell["cell_type"], "".join(cell["source"])) for cell in cells]).encode()
        except (ValueError, LookupError, TypeError):  # damaged: its bytes
            pass
    return hashlib.sha256(content).hexdigest()[:16]


def originals(root: Path) -> dict[str, Path]:
    """What is copied, by its place in the copy: notebooks, and what the pages show of the figures."""
    patterns = ("notebooks/*.ipynb", "notebooks/*.md", "figures/*.png", "figures/*.toml", "figures/*.md")
    patterns += ("figures/data/*.npz", "figures/data/*.json", "figures/data/results/*.json")
    paths = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return {path.relative_to(root).as_posix(): path for path in paths}


def renew(root: Path, lab: Path) -> list[str]:
    """Copy what is new or has changed, except over a user's own changes; return what to say about these."""
    try:
        copied = dict(json.loads((lab / COPIED).read_text()))
    except (OSError, ValueError, TypeError):  # none, or damaged: copies that differ are taken for the user's
        copied = {}
    here, lines = originals(root), []
    for name, path in here.items():
        copy, now = lab / name, word(path)
        mine = copy.exists() and word(copy) not in (copied.get(name), now)
        if mine and copied.get(name) != now:
            lines.append(f"{copy} has your changes and stays, though its original has changed: delete it to renew it")
        elif mine:
            lines.append(f"{copy} has your changes")
        elif copied.get(name) != now or not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f".{copy.name}.part")
            shutil.copyfile(path, partial)
            os.replace(partial, copy)
            copied[name] = now
    for name in sorted(set(copied) - set(here)):  # renamed or deleted
        if (lab / name).exists() and word(lab / name) != copied[name]:
            lines.append(f"{lab / name} has your changes and stays, though its original is gone")
            continue
        (lab / name).unlink(missing_ok=True)
        del copied[name]
    lab.mkdir(parents=True, exist_ok=True)
    (lab / COPIED).write_text(json.dumps(copied, indent=1))
    return lines


def command(lab: Path, options: list[str]) -> list[str]:
    """What starts JupyterLab on the first notebook; the user's options come last, so that they count."""
    first = next((path.name for path in sorted((lab / "notebooks").glob(FIRST))), "")
    place = f"/lab/tree/notebooks/{first}".rstrip("/")
    chosen = [f"--ServerApp.root_dir={lab}", f"--LabApp.default_url={place}"]
    return [sys.executable, "-m", "jupyterlab", *chosen, *options]


def main() -> None:
    options = [option for option in sys.argv[1:] if option != "--dry-run"]
    for line in renew(ROOT, LAB):
        print(line)
    start = command(LAB, options)
    print(f"the notebooks are copied to {LAB}: play there, no tracked file changes", flush=True)
    if len(options) < len(sys.argv) - 1:
        print(" ".join(start))
        return
    os.environ |= {"FLATDYN_FIGURES": str(LAB / "figures"), "FLATDYN_PROGRESS": "1"}
    os.execv(start[0], start)


if __name__ == "__main__":
    main()
