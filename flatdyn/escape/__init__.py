"""How long does it stay, and where does it go? Escape times, committors and rates, exactly and from simulations.

    X = escape_times(process, theta0, Ball(center, radius), runs, max_steps, key)
    X.mean(), X.median(), X.survival()         estimates with errors; runs that have not escaped yet are accounted for
    exit_law(process, interval, start)         the exact law of the escape time, on the line
    multilevel_splitting(process, theta0, ...) escapes that are too rare for direct simulation
    least_noise(process, start, target)        the cheapest noise that leads there, on which E T for large batches hangs
    quasipotential(process, box, start)        the cost of the cheapest noise to each point of a box
    mean_first_passage_1d, kramers, ...        closed forms and quadratures, for comparison

    committor(process, attractors, points)     which attractor is reached next, and from where
    rates(process, attractors)                 how often runs go from one attractor to another: long-run shares, mean
                                               passage times, routes; rates_from(path, attractors) of a recorded run
    reactive_paths(process, attractors, source, target)    sampled ways from one to another, and their current

Example:
    >>> import jax
    >>> import flatdyn as fd
    >>> jax.config.update("jax_enable_x64", True)
    >>> line, noise = fd.landscapes.saddle((-1.0,)), fd.noise.Gaussian(1.0, batch_size=16)
    >>> sgd = fd.Iteration(line, fd.GD(0.1), noise)
    >>> print(f"{fd.escape.exit_law(sgd, (-1, 1), start=0.0).mean:.2f}")
    37.70
    >>> sam = fd.Iteration(line, fd.SAM(0.1, rho=0.2), noise, ascent="shared")
    >>> exact = fd.escape.exit_law(sam, (-1, 1), start=0.0).mean
    >>> times = fd.escape_times(sam, [0.0], fd.escape.Ball([0.0], 1.0), 1000, max_steps=10_000, key=jax.random.key(0))
    >>> mean, stderr, censored = times.mean()
    >>> print(f"{exact:.2f}", abs(mean - exact) < 4 * stderr)
    83.19 True

    `ascent` says which minibatch the ascent of SAM uses: "shared" with the descent, as most programs do, or "full",
    the gradient without noise, as some proofs assume. Without noise in its ascent SAM stays thirty times longer.

    >>> full = fd.Iteration(line, fd.SAM(0.1, rho=0.2), noise, ascent="full")
    >>> print(f"{fd.escape.exit_law(full, (-1, 1), start=0.0).mean:.1f}")
    2664.2

    Between attractors: a run belongs to the one that it visited last. Of a run that was recorded, or of a process:

    >>> path = [[-1.0], [-0.2], [0.9], [1.1], [0.3], [-0.9], [-1.1], [-0.1], [1.0]]
    >>> between = fd.escape.rates_from(path, {"left": [-1.0], "right": [1.0]}, radius=0.2)
    >>> between
    Rates(between 2 attractors: left, right, 3 transitions; float64)
    >>> print(between.rate("left", "right").value, between.passage_times().value[1, 0])
    0.4 3.0
"""

from flatdyn.core.renaming import renamed
from flatdyn.escape import survival as survival
from flatdyn.escape.chains import Flux as Flux
from flatdyn.escape.committors import Committor as Committor
from flatdyn.escape.committors import committor as committor
from flatdyn.escape.crossings import Current as Current
from flatdyn.escape.crossings import ReactivePaths as ReactivePaths
from flatdyn.escape.crossings import reactive_paths as reactive_paths
from flatdyn.escape.displacement import heavy_ball_msd as heavy_ball_msd
from flatdyn.escape.displacement import langevin_msd as langevin_msd
from flatdyn.escape.displacement import msd_theory as msd_theory
from flatdyn.escape.displacement import ou_msd as ou_msd
from flatdyn.escape.displacement import overdamped_msd as overdamped_msd
from flatdyn.escape.displacement import sam_first_step_variance as sam_first_step_variance
from flatdyn.escape.luck import LeastNoise as LeastNoise
from flatdyn.escape.luck import least_noise as least_noise
from flatdyn.escape.passage import FirstPassage as FirstPassage
from flatdyn.escape.passage import exit_probability_1d as exit_probability_1d
from flatdyn.escape.passage import first_passage_1d as first_passage_1d
from flatdyn.escape.passage import mean_first_passage_1d as mean_first_passage_1d
from flatdyn.escape.published import VARIANTS as VARIANTS
from flatdyn.escape.published import published_gap as published_gap
from flatdyn.escape.published import published_momentum_msd as published_momentum_msd
from flatdyn.escape.published import short_time_series as short_time_series
from flatdyn.escape.published import variant_msd as variant_msd
from flatdyn.escape.quasipotentials import QuasiPotential as QuasiPotential
from flatdyn.escape.quasipotentials import quasipotential as quasipotential
from flatdyn.escape.splitting import Splitting as Splitting
from flatdyn.escape.splitting import multilevel_splitting as multilevel_splitting
from flatdyn.escape.theory import jump_time as jump_time
from flatdyn.escape.theory import kramers as kramers
from flatdyn.escape.theory import levy_bounds as levy_bounds
from flatdyn.escape.theory import ornstein_uhlenbeck as ornstein_uhlenbeck
from flatdyn.escape.times import Escapes as Escapes
from flatdyn.escape.times import escape_times as escape_times
from flatdyn.escape.transitions import Rates as Rates
from flatdyn.escape.transitions import Route as Route
from flatdyn.escape.transitions import rates as rates
from flatdyn.escape.transitions import rates_from as rates_from
from flatdyn.laws.transfer import ExitLaw as ExitLaw
from flatdyn.laws.transfer import exit_law as exit_law
from flatdyn.processes.regions import Ball as Ball
from flatdyn.processes.regions import Box as Box
from flatdyn.processes.regions import HalfSpace as HalfSpace
from flatdyn.processes.regions import Sublevel as Sublevel

__getattr__ = renamed(__name__, {"levy_sandwich": "levy_bounds", "split": "multilevel_splitting"})
