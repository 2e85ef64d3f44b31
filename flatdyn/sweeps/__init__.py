"""One question asked in every cell of a grid of hyperparameters, with repetitions, and never twice.

    sweep(make_process, parameters, ask, key)       an xarray.Dataset; cells are kept in a folder

The same call goes on where it was interrupted.

Example:
    >>> import flatdyn as fd
    >>> L = fd.landscapes.saddle((1.0,))
    >>> def after_ten_steps(process, key):
    ...     return fd.simulate(process, [1.0], 10, progress=False).final[0]
    >>> S = fd.sweep(lambda lr: fd.Iteration(L, fd.GD(lr)), {"lr": [0.5, 1.0, 2.0]}, after_ten_steps)
    >>> S["value"].values.tolist()
    [0.0009765625, 0.0, 1.0]
"""

from flatdyn.sweeps.runner import sweep as sweep
