"""Where does an optimiser end up, how long does it stay at a saddle, and how sharp is it there?

describe
    landscapes      losses, each one SymPy expression from which the JAX code is derived
    noise           how the gradient is sampled
    methods         how one step is taken, with masks and constraints on parameters
run
    processes       what moves: a method on a landscape, any map, hyperparameters as coordinates
    flows           ordinary and stochastic differential equations that stand for a method
    runs            simulate: one run or a million
    sweeps          sweep: one question in every cell of a grid
ask
    stability       when is a point an attractor? Jacobians, multipliers, Lyapunov exponents
    fixedpoints     fixed points and cycles, their branches, bifurcations and manifolds
    basins          where does it end? Maps, fractions, boundaries
    escape          how long does it stay? Times, rare escapes, closed forms
    laws            laws of noisy steps without sampling
    curvature       how sharp is it here? Eigenvalues, densities, slices
show
    plotting        one way to draw each kind of result
    notebook        what a notebook prints and saves, and the ledger of claims
and the wing that uses all of it
    networks        models, data, training, saddles, benchmark
core holds what all of them use.

The first call of a kind compiles its programs, which takes seconds. JAX keeps them for the next session in a folder of
your own: set JAX_COMPILATION_CACHE_DIR to it, and JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS to 0, before Python
starts. The results are the same to the last bit. This is your choice to make: a folder belongs to one kind of machine,
as its programs may use instructions that another processor lacks, and whoever can write to it can run code as you.
"""

import lazy_loader

from flatdyn.core.renaming import renamed

# Public names stand in __init__.pyi, for type checkers too; each room is loaded when one of its names is used.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_OLD = {"manifold": "invariant_manifold"}
_hand_on = renamed(__name__, _OLD)


def __getattr__(name: str):
    if name in _OLD:
        return _hand_on(name)
    globals()[name] = value = _load(name)
    return value
