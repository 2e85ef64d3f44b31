"""The usual questions of a sweep, ready-made: each gives a number with its error, and many cells are one program.

    mean_stay, median_stay          how long do runs stay in a region?
    share_captured                  which share of them is in a region in the end?
    final_loss                      how high are they?
    basin_share                     which share of random starts ends at an attractor?
    escapes, ensembles              a number of yours, of all escapes, or of all runs, of a cell
    flatdyn.networks.trained        how well are networks trained?

Cells that differ in numbers only, and their repetitions, move as one ensemble: that takes a fraction of the time that
one cell after the other takes. The numbers of a cell do not depend on what it is asked together with.

Example:
    >>> import jax
    >>> import flatdyn as fd
    >>> def noisy(lr, rho):
    ...     return fd.Iteration(fd.landscapes.saddle((-1.0,)), fd.SAM(lr, rho), fd.noise.Gaussian(1.0))
    >>> ask = fd.asks.mean_stay([0.0], fd.escape.Ball([0.0], 1.0), runs=256, max_steps=10_000)
    >>> stays = fd.sweep(noisy, {"lr": [0.1, 0.2], "rho": [0.0, 0.1]}, ask, jax.random.key(0))
    >>> dict(stays.sizes), sorted(stays.data_vars)
    ({'lr': 2, 'rho': 2}, ['value', 'value_censored', 'value_stderr'])
"""

from flatdyn.asks.base import Ask as Ask
from flatdyn.asks.basins import basin_share as basin_share
from flatdyn.asks.ends import ensembles as ensembles
from flatdyn.asks.ends import final_loss as final_loss
from flatdyn.asks.ends import share_captured as share_captured
from flatdyn.asks.stays import escapes as escapes
from flatdyn.asks.stays import mean_stay as mean_stay
from flatdyn.asks.stays import median_stay as median_stay
