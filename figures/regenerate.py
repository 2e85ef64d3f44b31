"""Run the notebooks: `python figures/regenerate.py` writes every figure, the numbers behind it, and the ledger.

Then the pages are renewed: the Answers, what each notebook shows of its full run, notebook 00, ledger.md, the gallery.

    --list           name the notebooks and the files each one owns
    --only NAME      only notebooks whose name starts with NAME; may be given several times
    --jobs N         notebooks at once (default: one per two cores, at least one)
    --store          instead of figures, renew the notebooks' stored output at the quick preset
    --pages          run nothing: renew the pages alone, after a sentence has changed in figures/*.toml

A notebook runs in a kernel of this Python. A failing cell is reported with its traceback, the other notebooks go
on, and the exit status is 1. Files are written whole, so an interrupted run leaves what is finished. The next run
goes on from there (figures/unfinished.json says which notebooks were done, with which code); one with --only runs what
it names.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

FIGURES = Path(__file__).resolve().parent
ROOT = FIGURES.parent
NOTEBOOKS = ROOT / "notebooks"
CELL_TIMEOUT = 1800
UNFINISHED = FIGURES / "unfinished.json"


def notebooks(only: list[str]) -> list[Path]:
    """All notebooks in reading order, or those whose names start with one of `only`."""
    found = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    unknown = [name for name in only if not any(path.stem.startswith(name) for path in found)]
    if unknown:
        sys.exit(f"no notebook starts with {', '.join(unknown)}; there are {', '.join(p.stem for p in found)}")
    return [path for path in found if not only or any(path.stem.startswith(name) for name in only)]


class ThisEnvironment(AsyncKernelManager):
    """Kernels of this very environment, whatever the user has installed as "python3"."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python"
        )


async def run(path: Path, preset: str, bar: tqdm) -> nbformat.NotebookNode:
    """Execute one notebook in its folder and return it with its output."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        km=ThisEnvironment(),
        timeout=CELL_TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=40"],
        on_cell_executed=lambda **_: bar.update(),
    )
    chosen = {"FLATDYN_PRESET": preset, "FLATDYN_FIGURES": str(FIGURES), "FLATDYN_PROGRESS": "0"}
    await client.async_execute(env=os.environ | chosen)
    return notebook


def normalised(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what changes from run to run or machine to machine, so that a rerun gives no difference."""
    from flatdyn.notebook import pages, pictures

    language = {"name": "python"}
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook.metadata["language_info"] = language
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.outputs = joined([output for output in cell.outputs if output.get("name") != "stderr"])
            for output in cell.outputs:
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
                if "image/png" in output.get("data", {}):
                    picture = pictures.lighter(base64.b64decode(output.data["image/png"]), pages.SHOWN)
                    output.data["image/png"] = base64.b64encode(picture).decode() + "\n"
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Printed text in one piece: into how many the kernel cuts it depends on the machine's speed."""
    whole = []
    for output in outputs:
        if whole and output.output_type == "stream" and whole[-1].get("name") == output.name:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def explain(path: Path, error: BaseException) -> str:
    """What went wrong in a notebook, for the terminal."""
    if isinstance(error, (CellExecutionError, CellTimeoutError)):
        return f"{path.name} failed:\n{error}"
    if isinstance(error, DeadKernelError):
        return f"{path.name} failed: its kernel died (out of memory?)"
    return f"{path.name} failed: {type(error).__name__}: {error}"


class Finished:
    """Which notebooks a run that was interrupted has finished: by their source, the library's, and the figures there.

    Args:
        fresh: whether to forget what an earlier run has done
    """

    def __init__(self, fresh: bool):
        import flatdyn

        parts = sorted(Path(flatdyn.__file__).parent.rglob("*.py")), [ROOT / "requirements.lock", Path(__file__)]
        files = [path for part in parts for path in part if path.exists()]
        self.code = hashlib.sha256(b"".join(path.read_bytes() for path in files) + sys.version.encode()).hexdigest()
        try:
            self.words = {} if fresh else dict(json.loads(UNFINISHED.read_text()))
        except (OSError, ValueError, TypeError):  # none, or damaged: all is done again
            self.words = {}

    def holds(self, path: Path) -> bool:
        return self.words.get(path.stem) == self._word(path)

    def add(self, path: Path) -> None:
        from flatdyn.core.records import write_whole

        self.words[path.stem] = self._word(path)
        write_whole(UNFINISHED, json.dumps(self.words, indent=1).encode())

    def _word(self, path: Path) -> str:
        """A digest of a notebook's cells, the code and its figures as they are."""
        cells = [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]
        told = hashlib.sha256(json.dumps([self.code, cells]).encode())
        for figure in sorted([*FIGURES.glob(f"{path.stem}*.p*"), *FIGURES.glob(f"data/{path.stem}*.npz")]):
            told.update(figure.name.encode() + figure.read_bytes())
        return told.hexdigest()


async def run_all(paths: list[Path], jobs: int, store: bool, finished: Finished | None = None) -> list[str]:
    """Run notebooks, `jobs` at once, and return the reports of those that failed."""
    os.environ["FLATDYN_FIGURES"] = str(FIGURES)
    from flatdyn.core.records import write_whole
    from flatdyn.notebook import renewal

    slots, failures = asyncio.Semaphore(jobs), []
    cells = sum(cell.cell_type == "code" for path in paths for cell in nbformat.read(path, as_version=4).cells)
    with tqdm(total=cells, unit=" cells", disable=None) as bar:

        async def one(path: Path) -> None:
            async with slots:
                bar.set_postfix_str(path.stem[:30])
                begun = time.monotonic()
                try:
                    notebook = await run(path, "quick" if store else "full", bar)
                except Exception as error:
                    failures.append(explain(path, error))
                    return
                if finished is not None:
                    finished.add(path)
                if store:
                    renewal.took(path.stem, time.monotonic() - begun)
                    write_whole(path, (nbformat.writes(normalised(notebook)) + "\n").encode())

        await asyncio.gather(*(one(path) for path in paths))
    return failures


def renew_pages() -> list[str]:
    """Write the pages anew from the results: Answers, result cells, overview, ledger, gallery. It runs no notebook."""
    os.environ["FLATDYN_FIGURES"] = str(FIGURES)
    from flatdyn.notebook import renewal

    return renewal.renew(NOTEBOOKS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the notebooks and their figures")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only notebooks starting with NAME")
    parser.add_argument("--pages", action="store_true", help="renew the pages alone, without running a notebook")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), metavar="N")
    parser.add_argument("--store", action="store_true", help="renew stored output at the quick preset")
    chosen = parser.parse_args()
    paths = notebooks(chosen.only)
    if chosen.list:
        for path in paths:
            owned = sorted(p.name for p in FIGURES.glob(f"{path.stem}*.p*"))
            print(path.stem, *owned, sep="\n    ")
        return 0
    if chosen.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {chosen.jobs}")
    for part in FIGURES.rglob(".*.part"):  # what a run that was killed had begun to write
        part.unlink()
    from flatdyn.core import stores

    try:
        for folder in (NOTEBOOKS,) if chosen.store else (FIGURES, FIGURES / "data", ROOT):
            stores.check_writable(folder / "figure", what="figures")
    except OSError as error:
        sys.exit(str(error))
    finished = None if chosen.store else Finished(fresh=bool(chosen.only))
    todo = [path for path in paths if finished is None or not finished.holds(path)]
    if len(todo) < len(paths):
        print(f"{len(paths) - len(todo)} notebooks were finished before the interruption; {len(todo)} are left")
    if chosen.pages:
        todo = []
    failures = asyncio.run(run_all(todo, chosen.jobs, chosen.store, None if chosen.only else finished))
    done = len(paths) - len(failures)
    failures += renew_pages()
    if not chosen.store and not failures and not chosen.only:
        UNFINISHED.unlink(missing_ok=True)
    for report in failures:
        print(f"\n{report}", file=sys.stderr)
    print(f"{done} of {len(paths)} notebooks done" + (", see above" if failures else ""))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
