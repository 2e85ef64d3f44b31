"""200 cells of escape times, 4 seeds of 256 runs each, as one ensemble and one cell after the other.

    E T of SAM at a saddle in the plane, η × ρ × μ × B = 5 × 4 × 2 × 5, float32, at most 20 000 steps

Both are `fd.sweep`, with the same keys: once with the ready-made ask, which puts cells that differ in numbers only into
one program, and once with a function that asks `fd.escape_times`, as a sweep must of a function that it does not know.
The function is asked with one of the four seeds: its time is proportional. The numbers are compared as well.
"""

import jax
import numpy as np
from paired import Rival, Row, paired

import flatdyn as fd

RUNS, MOST, SEEDS, ROUNDS = 256, 20_000, 4, 3
GRID = {
    "lr": [0.02, 0.04, 0.06, 0.08, 0.1],
    "rho": [0.0, 0.1, 0.2, 0.3],
    "momentum": [0.0, 0.9],
    "batch_size": [1, 4, 16, 64, 256],
}
L, BALL, AT, KEY = fd.landscapes.saddle((1.0, -1.0)), fd.escape.Ball([0.0, 0.0], 1.0), [0.0, 0.0], jax.random.key(0)


def process(lr, rho, momentum, batch_size):
    return fd.Iteration(L, fd.SAM(lr, rho, momentum), fd.noise.Gaussian(1.0, batch_size))


def one_cell(process, key):
    return fd.escape_times(process, AT, BALL, RUNS, MOST, key, progress=False).mean()


def swept(ask, seeds):
    return fd.sweep(process, GRID, ask, KEY, seeds=seeds, progress=False)


def compared() -> str:
    """How many of the means are the same, and how far the others are apart, in standard errors."""
    together, alone = swept(fd.asks.mean_stay(AT, BALL, RUNS, MOST), 1), swept(one_cell, 1)
    same = np.asarray(together.value == alone.value)
    apart = np.abs(together.value - alone.value) / alone.value_stderr
    return f"{same.sum()} of {same.size} means are the same, the others within {float(apart.max()):.2g} standard errors"


def rows() -> list[Row]:
    ask = fd.asks.mean_stay(AT, BALL, RUNS, MOST)
    cells = SEEDS * int(np.prod([len(values) for values in GRID.values()]))
    rivals = {"one cell after the other": Rival(lambda: swept(one_cell, 1).value.values, 1 / SEEDS, wanted=5)}
    return paired(
        "a sweep of 200 cells, 4 seeds", lambda: swept(ask, SEEDS).value.values, rivals, cells, "cells/s", ROUNDS
    )


if __name__ == "__main__":
    print(compared())
    print(*rows(), sep="\n")
