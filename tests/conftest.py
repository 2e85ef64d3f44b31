"""64-bit numbers for every test, how the tests compile, and the independent reference numbers.

The tests compile some five thousand small programs, most of which run for milliseconds: compiling was two thirds of
their processor time. So they compile quickly, for themselves and for the processes that they start:

- with few optimisations, which takes a third of the time. What a program computes is the same but for its last bits.
  The mark `optimised` asks for all optimisations: where a statement is about the last bits (how work is cut into
  chunks, what is resumed or moved to other devices), or where a program runs for longer than it is compiled.
- in one piece, as cutting a small program into pieces for several threads takes longer than it saves;
- with JAX 0.10, by the emitters of fused loops from before, as the newer ones take longer. 0.11 and later are faster.

The notebooks, which run beside the tests, `make thorough` and `make portability`, which ask for it by FLATDYN_PLAIN=1,
compile as users do.

Programs are dropped after each file, or a worker would come to hold those of all files: 5 GB.
"""

import csv
import gc
import json
import os
from pathlib import Path

import equinox as eqx
import jax
import matplotlib
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
matplotlib.use("Agg")

FLAGS = os.environ.get("XLA_FLAGS", "")
QUICK, QUICK_FLAGS = not os.environ.get("FLATDYN_PLAIN"), FLAGS
if QUICK:
    QUICK_FLAGS = f"{QUICK_FLAGS} --xla_cpu_parallel_codegen_split_count=1".strip()
if QUICK and jax.__version_info__ < (0, 11):
    QUICK_FLAGS += " --xla_cpu_use_fusion_emitters=false"

# Flags are read once, when the first device is asked for. What is put back is for the notebooks' kernels.
os.environ["XLA_FLAGS"] = QUICK_FLAGS
jax.devices()
os.environ["XLA_FLAGS"] = FLAGS

# What is imported stays: no need to walk through it again and again while JAX makes and drops small objects.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)

DATA = Path(__file__).parent / "data"
COMPILED = {}  # how the last test compiled


@pytest.fixture(autouse=True, scope="module")
def new_processes_compile_as_this_one():
    """Processes that a test starts compile as the test does, so that their results are the same in every bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", QUICK_FLAGS)
        yield
    drop_programs()


def drop_programs():
    """Drop what JAX keeps of compiled programs; derivatives by SymPy stay."""
    eqx.clear_caches()
    jax.clear_caches()
    gc.collect()


def pytest_collection_modifyitems(items):
    """In each file, tests that are marked `optimised` come last, so that programs are dropped once for them."""
    place = {}
    for item in items:
        place.setdefault(item.path, len(place))
    items.sort(key=lambda item: (place[item.path], wants_all_optimisations(item)))


def wants_all_optimisations(item):
    return item.get_closest_marker("optimised") is not None


def compiles_quickly(item):
    return QUICK and not wants_all_optimisations(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile with few optimisations, unless a test is marked `optimised`; set before fixtures are made."""
    few = compiles_quickly(item)
    if COMPILED.get("few") and not few:
        drop_programs()  # none of those that were compiled quickly is used again
    COMPILED["few"] = few
    jax.config.update("jax_disable_most_optimizations", few)


@pytest.fixture(autouse=True)
def processes_compile_as_their_test(request, monkeypatch):
    """The processes that a test starts compile as it does."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(compiles_quickly(request.node)))


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
