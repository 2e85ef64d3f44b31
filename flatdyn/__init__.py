"""Optimisers as dynamical systems: where does one end, how long does it stay at a saddle, how sharp is it there?

flatdyn runs gradient descent, sharpness-aware minimization (SAM), Langevin methods, or an optimiser of yours, and asks
such questions about the runs. Three lines to copy:

    >>> import flatdyn as fd
    >>> process = fd.Iteration(fd.landscapes.double_well(), fd.GD(lr=0.1))
    >>> fd.map_basins(process, box=[(-2.0, 2.0)], resolution=100)
    Basins(100 in float32: 50.00 % minimum (-1), 50.00 % minimum (1))

The packages, in reading order. `help(flatdyn.basins)` explains a package, with an example.

describe
    landscapes      losses, each one SymPy expression from which the JAX code is derived
    noise           how the gradient is sampled
    methods         how one step is taken, with masks and constraints on parameters
run
    processes       dynamical systems: a method on a landscape, or any map
    flows           ordinary and stochastic differential equations that approximate a method
    runs            simulate: one run or a million
    sweeps          sweep: one question for every cell of a grid of hyperparameters
    asks            mean_stay, share_captured, final_loss, …: the usual questions of a sweep, many cells at once
ask
    stability       is a point an attractor? Jacobians, multipliers, Lyapunov exponents
    fixedpoints     fixed points and cycles, their branches, bifurcations and manifolds
    basins          where does it end? Maps, fractions and boundaries of basins
    escape          how long does it stay, and where does it go? Escape times, committors, rates, closed forms
    laws            exact distributions of noisy steps, without sampling
    curvature       how sharp is it here? Eigenvalues, densities, slices of the loss
    audits          audit: which map does your own training code really run?
    packages        what do the optimisers and samplers of other packages run? Which method is the same?
show
    plotting        one function to draw each kind of result
    explorer        explore: drag a start or a radius, and see where it goes
    notebook        what a notebook prints and saves, and the ledger of claims
use all of the above
    networks        models, data, training, saddles, benchmark
used by all of the above
    core            checks of input, records of results, random numbers, statistics

JAX rounds to 32 bits unless `jax.config.update("jax_enable_x64", True)` comes first; the notebooks and tests use 64.

The first call of a kind compiles its programs, which takes seconds. JAX can keep them for the next session: before
Python starts, set JAX_COMPILATION_CACHE_DIR to a folder of yours, and JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS to 0.
The results are the same to the last bit. Use a folder on one kind of machine only: programs may use instructions that
another processor lacks. Keep it private: whoever can write to it can run code as you.
"""

import lazy_loader

from flatdyn.core.renaming import renamed

__version__ = "0.1.0"  # as in pyproject.toml

# Public names stand in __init__.pyi, for type checkers too; each room is loaded when one of its names is used.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_OLD = {"manifold": "invariant_manifold"}
_hand_on = renamed(__name__, _OLD)


def __getattr__(name: str):
    if name in _OLD:
        return _hand_on(name)
    globals()[name] = value = _load(name)
    return value
