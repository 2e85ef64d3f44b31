"""64-bit numbers for every test, how the tests compile, and the independent reference numbers.

The tests compile some five thousand small programs. On CPUs JAX 0.10 spends 40 % of that in newer emitters of fused
loops, and 0.11 and later are faster, so with 0.10 the tests use the emitters from before, for themselves and for the
processes that they start: a fifth less processor time in all. The notebooks, which run beside the tests, and
`make portability`, which asks for it by FLATDYN_PLAIN=1, compile as users do.
"""

import csv
import gc
import json
import os
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
matplotlib.use("Agg")

FLAGS = os.environ.get("XLA_FLAGS", "")
QUICK_FLAGS = FLAGS
if jax.__version_info__ < (0, 11) and not os.environ.get("FLATDYN_PLAIN"):
    QUICK_FLAGS = f"{FLAGS} --xla_cpu_use_fusion_emitters=false".strip()

# Flags are read once, when the first device is asked for. What is put back is for the notebooks' kernels.
os.environ["XLA_FLAGS"] = QUICK_FLAGS
jax.devices()
os.environ["XLA_FLAGS"] = FLAGS

# What is imported stays: no need to walk through it again and again while JAX makes and drops small objects.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True, scope="module")
def new_processes_compile_as_this_one():
    """Processes that a test starts compile as the test does, so that their results are the same in every bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", QUICK_FLAGS)
        yield


@pytest.fixture(scope="session")
def reference():
    """Numbers from code that shares nothing with flatdyn; see tests/data/README.md."""
    return json.loads((DATA / "reference.json").read_text())


@pytest.fixture(scope="session")
def official():
    """Rows (step, x, y, cosine) of the official Beale runs, by ρ."""
    with open(DATA / "beale_official.csv") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        table = [[float(row[name]) for name in ("rho", "step", "x", "y", "cos")] for row in rows]
    table = np.array(table)
    return {rho: table[table[:, 0] == rho][:, 1:] for rho in np.unique(table[:, 0])}
