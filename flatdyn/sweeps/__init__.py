"""One question asked in every cell of a grid of hyperparameters, with repetitions, and never twice.

    sweep(question, grid, ...)      an xarray.Dataset, kept cell by cell in a folder

The same call goes on where it was interrupted.
"""

from flatdyn.sweeps.runner import sweep as sweep
