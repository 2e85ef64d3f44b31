"""64-bit numbers for every test, and the independent reference numbers."""

import csv
import json
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
matplotlib.use("Agg")

DATA = Path(__file__).parent / "data"


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
