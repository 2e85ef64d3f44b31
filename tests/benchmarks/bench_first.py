"""The first answer: the README's examples and a basin map, each in a fresh process, import and compiling included.

The rival is the start of Python with the packages alone on which flatdyn stands. So the ratio is the share of the
user's waiting that is not ours; 1 is the limit.
"""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from paired import Row

ROOT, ROUNDS = Path(__file__).resolve().parents[2], 3
ALONE = "import equinox, jax, numpy, sympy"
MAP = """
import flatdyn as fd
fd.map_basins(fd.Iteration(fd.landscapes.himmelblau(), fd.SAM(1e-3, 0.05)), [(-5, 5), (-5, 5)], 64)
"""


def examples() -> dict[str, str]:
    """The README's code, whose blocks go on from one another, and what else is asked first."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    return {f"README, all {len(blocks)} examples": "\n".join(blocks), "map_basins, 64 x 64": MAP}


def rows() -> list[Row]:
    programs = {"": ALONE} | examples()
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, code in programs.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
            seconds[name].append(time.perf_counter() - begun)
    alone, found = seconds.pop(""), []
    for name, taken in seconds.items():
        ratios = [base / own for base, own in zip(alone, taken, strict=True)]
        spread = statistics.median(ratios), min(ratios), max(ratios)
        found.append(Row(f"first: {name}", "imports alone", *spread, 1 / statistics.median(taken), "answers/s", None))
    return found


if __name__ == "__main__":
    print(*rows(), sep="\n")
