"""Run the notebooks: `python figures/regenerate.py` writes every figure, the numbers behind it, and the ledger.

Then the pages are renewed: the Answers, what each notebook shows of its full run, notebook 00, ledger.md, the gallery.

    --list           name the notebooks and the files each one owns
    --dry-run        say which notebooks would run, and why; run nothing
    --only NAME      only notebooks whose name starts with NAME; may be given several times
    --force          run them even if they are up to date
    --jobs N         notebooks at once (default: one per two cores, at least one)
    --store          instead of figures, renew the notebooks' stored output at the quick preset
    --pages          run nothing: renew the pages alone, after a sentence has changed in figures/*.toml

A notebook is up to date, and does not run, if its code cells, the modules of flatdyn that its last run had imported,
the versions of Python and of the numerical packages, and its files are those of figures/data/made/NAME.json. Comments,
docstrings and prose do not count. --only does not change that: a notebook that is up to date runs with --force alone.

A notebook runs in a kernel of this Python and writes into build/figures. When it has ended, what agrees with the stored
files within rounding, or within four standard errors where errors are stored, stays as it is and counts as confirmed;
the rest is renewed, and the difference reported. A failing cell is reported with its traceback, the other notebooks go
on, and the exit status is 1. An interrupted run leaves what is finished, and the next run goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

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
SCRATCH = ROOT / "build" / "figures"
REASONS = 3  # that are named of each notebook


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


async def run(path: Path, preset: str, figures: Path, bar: Any) -> tuple[nbformat.NotebookNode, list[str]]:
    """Execute one notebook in its folder; return it with its output, and the modules that its kernel has imported."""
    from flatdyn.notebook import keys

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(keys.PROBE))
    last = len(notebook.cells) - 1  # which is ours
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisEnvironment,  # made by the client, which then ends its kernel with the notebook
        timeout=CELL_TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=40"],
        on_cell_executed=lambda cell_index, **_: bar.update(cell_index < last),
    )
    chosen = {"FLATDYN_PRESET": preset, "FLATDYN_FIGURES": str(figures), "FLATDYN_PROGRESS": "0"}
    await client.async_execute(env=os.environ | chosen)
    printed = "".join(output.text for output in notebook.cells.pop().outputs if output.get("name") == "stdout")
    return notebook, json.loads(printed)


def normalised(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what changes from run to run or machine to machine, so that a rerun gives no difference."""
    from flatdyn.notebook import pictures

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
                    picture = pictures.lighter(base64.b64decode(output.data["image/png"]))
                    output.data["image/png"] = base64.b64encode(picture).decode() + "\n"
    return notebook


def warned(notebook: nbformat.NotebookNode) -> list[str]:
    """What a reader would see in red: the first line of what each cell has written to stderr."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = [[o.text for o in cell.outputs if o.get("name") == "stderr" and o.text.strip()] for cell in cells]
    return [f"cell {i} warns: {text[0].strip().splitlines()[0]}" for i, text in enumerate(texts, 1) if text]


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


def stale(paths: list[Path], modules: dict[str, str]) -> dict[Path, list[str]]:
    """The notebooks whose figures are to be made again, with the reasons."""
    from flatdyn.notebook import keys

    why = {path: keys.reasons(FIGURES, path.stem, nbformat.read(path, as_version=4), modules) for path in paths}
    return {path: reasons for path, reasons in why.items() if reasons}


def announce(paths: list[Path], todo: dict[Path, list[str]], force: bool) -> None:
    """Say which notebooks are renewed and why, and how many are not."""
    for path, reasons in todo.items():
        more = f", and {len(reasons) - REASONS} more" if len(reasons) > REASONS else ""
        print(f"{path.stem}: {', '.join(reasons[:REASONS])}{more}")
    if len(todo) < len(paths):
        how = "" if force else "; FORCE=1 or --force makes them again"
        print(f"{len(paths) - len(todo)} of {len(paths)} notebooks are up to date: nothing to be done{how}")


async def run_all(paths: list[Path], jobs: int, store: bool, modules: dict[str, str]) -> list[str]:
    """Run notebooks, `jobs` at once, and return the reports of those that failed."""
    os.environ["FLATDYN_FIGURES"] = str(FIGURES)
    from flatdyn.core import segments
    from flatdyn.core.records import write_whole
    from flatdyn.notebook import installing, renewal

    slots, failures = asyncio.Semaphore(jobs), []
    cells = sum(cell.cell_type == "code" for path in paths for cell in nbformat.read(path, as_version=4).cells)
    with segments.progress_bar(cells, "cells", True) as bar:

        async def one(path: Path) -> None:
            async with slots:
                bar.set_postfix_str(path.stem[:30])
                begun = time.monotonic()
                try:
                    if store:
                        notebook, _ = await run(path, "quick", FIGURES, bar)
                        renewal.took(path.stem, time.monotonic() - begun)
                        for sentence in warned(notebook):
                            tqdm.write(f"{path.stem}: {sentence}")
                        write_whole(path, (nbformat.writes(normalised(notebook)) + "\n").encode())
                        return
                    full = installing.Run(path, modules, FIGURES, SCRATCH / path.stem)
                    report = full.install((await run(path, "full", full.scratch, bar))[1])
                except Exception as error:
                    failures.append(explain(path, error))
                    return
                tqdm.write(f"{time.monotonic() - begun:5.0f} s  {report}")

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
    parser.add_argument("--dry-run", action="store_true", help="say which notebooks would run, and why")
    parser.add_argument("--force", action="store_true", help="run notebooks that are up to date, too")
    parser.add_argument("--pages", action="store_true", help="renew the pages alone, without running a notebook")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), metavar="N")
    parser.add_argument("--store", action="store_true", help="renew stored output at the quick preset")
    chosen = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # a log that is read while the notebooks run
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
    from flatdyn.notebook import keys

    try:
        for folder in (NOTEBOOKS,) if chosen.store else (FIGURES, FIGURES / "data", SCRATCH):
            stores.check_writable(folder / "figure", what="figures")
    except OSError as error:
        sys.exit(str(error))
    modules = {} if chosen.pages or chosen.store else keys.library()
    todo = {path: ["asked for"] for path in paths} if chosen.force or chosen.store else {}
    if not (chosen.pages or chosen.store):
        todo |= stale(paths, modules)
        announce(paths, todo, chosen.force)
    if chosen.dry_run:
        return 0
    if not chosen.only:
        for record in (FIGURES / keys.MADE).glob("*.json"):
            if record.stem not in {path.stem for path in paths}:
                record.unlink()  # its notebook has another name now, or is gone
    failures = asyncio.run(run_all(list(todo), chosen.jobs, chosen.store, modules)) if todo else []
    done = len(paths) - len(failures)
    failures += renew_pages()
    for report in failures:
        print(f"\n{report}", file=sys.stderr)
    print(f"{done} of {len(paths)} notebooks done" + (", see above" if failures else ""))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
