"""All benchmarks in one run, each in a process of its own, and one record of them.

    python tests/benchmarks/record.py              measure, and compare with the stored record of such a machine
    python tests/benchmarks/record.py --store      and store it for notebook 22: figures/data/ratios_*.json
    python tests/benchmarks/record.py --only noisy

A ratio has fallen if its best round is below the worst round of the stored record: then the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from paired import Row

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / "figures" / "data"
PACKAGES = ("flatdyn", "jax", "jaxlib", "numpy", "numba", "diffrax", "torch")


def machine() -> dict:
    """What the ratios depend on: the device, its cores, versions, and how busy it is."""
    from flatdyn.networks.benchmark.timing import device_name

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": device_name(),
        "cores": cores,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": versions,
    }


def file_of(told: dict) -> Path:
    """Where the record of this kind of machine is kept."""
    kind = re.sub(r"[^a-z0-9]+", "_", f"{told['device']} {told['cores']} cores".lower()).strip("_")
    return FOLDER / f"ratios_{kind}.json"


def measured(only: str) -> list[Row]:
    """The rows of all benchmarks, in the order of their files."""
    rows = []
    for path in sorted(HERE.glob(f"bench_{only}*.py")):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.json"
            done = subprocess.run([sys.executable, __file__, "--run", path.stem, "--into", file], check=False)
            if done.returncode:
                sys.exit(f"{path.name} failed")
            new = [Row(*row) for row in json.loads(file.read_text())]
        print(*new, sep="\n", flush=True)
        rows += new
    return rows


def fallen(new: list[Row], old: list[Row]) -> list[str]:
    """What has fallen by more than the rounds of either record differ."""
    before = {(row.work, row.rival): row for row in old}
    pairs = [(before[row.work, row.rival], row) for row in new if (row.work, row.rival) in before]
    return [
        f"{now.work}, against {now.rival}: {was.ratio:.3g} before ({was.low:.3g} to {was.high:.3g}), "
        f"now {now.ratio:.3g} ({now.low:.3g} to {now.high:.3g})"
        for was, now in pairs
        if now.high < was.low
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="benchmarks whose file begins with bench_ONLY")
    parser.add_argument("--store", action="store_true", help="keep the record; rows that were not measured stay")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        chosen.into.write_text(json.dumps(importlib.import_module(chosen.run).rows()))
        return
    told = machine()
    print(f"{told['device']}, {told['cores']} cores, load {told['load']}")
    rows, file = measured(chosen.only), file_of(told)
    old = [Row(**row) for row in json.loads(file.read_text())["rows"]] if file.exists() else []
    lower = fallen(rows, old)
    print(f"compared with {len(old)} rows of {file.name}: {len(lower)} have fallen", *lower, sep="\n  ")
    if chosen.store:
        kept = {(row.work, row.rival): row for row in [*old, *rows]}
        FOLDER.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(told | {"rows": [row._asdict() for row in kept.values()]}, indent=1) + "\n")
    sys.exit(1 if lower else 0)


if __name__ == "__main__":
    main()
