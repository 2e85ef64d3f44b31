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
"""

# describe
from flatdyn.methods import constraints as constraints
from flatdyn import landscapes as landscapes
from flatdyn.methods import masks as masks
from flatdyn import networks as networks
from flatdyn import methods as methods
from flatdyn import noise as noise
from flatdyn.landscapes import Landscape as Landscape
from flatdyn.methods import ASAM as ASAM
from flatdyn.methods import DNSAM as DNSAM
from flatdyn.methods import GD as GD
from flatdyn.methods import SAM as SAM
from flatdyn.methods import USAM as USAM
from flatdyn.methods import LOL as LOL
from flatdyn.methods import SGLD as SGLD
from flatdyn.methods import AdaptiveLangevin as AdaptiveLangevin
from flatdyn.methods import Averaged as Averaged
from flatdyn.methods import AdLaLa as AdLaLa
from flatdyn.methods import Alternating as Alternating
from flatdyn.methods import ConstrainedLangevin as ConstrainedLangevin
from flatdyn.methods import ConstrainedSGLD as ConstrainedSGLD
from flatdyn.methods import LaLa as LaLa
from flatdyn.methods import Langevin as Langevin
from flatdyn.methods import LeimkuhlerMatthews as LeimkuhlerMatthews
from flatdyn.methods import Multirate as Multirate
from flatdyn.methods import Scheduled as Scheduled
from flatdyn.methods import from_optax as from_optax

# run
from flatdyn.processes import Iteration as Iteration
from flatdyn.processes import Map as Map
from flatdyn.processes import Process as Process
from flatdyn.processes import probe as probe
from flatdyn.processes import Extended as Extended
from flatdyn.runs import simulate as simulate
from flatdyn import flows as flows
from flatdyn.sweeps import sweep as sweep

# ask
from flatdyn.basins import Attractor as Attractor
from flatdyn.basins import Region as Region
from flatdyn.basins import basin_fractions as basin_fractions
from flatdyn.basins import basin_stability as basin_stability
from flatdyn.basins import map_basins as map_basins
from flatdyn.basins import boundaries as boundaries
from flatdyn import escape as escape
from flatdyn.escape import escape_times as escape_times
from flatdyn import fixedpoints as fixedpoints
from flatdyn.stability import quadratic as quadratic
from flatdyn.basins import fractions_in as fractions_in
from flatdyn.stability import lyapunov_exponents as lyapunov_exponents
from flatdyn.fixedpoints import invariant_manifold as invariant_manifold
from flatdyn import stability as stability
from flatdyn.laws import stationary as stationary
from flatdyn.escape import survival as survival
from flatdyn.laws import transfer as transfer
from flatdyn.laws import weak as weak

# show
from flatdyn.notebook import ledger as ledger
from flatdyn import notebook as notebook
from flatdyn import plotting as plotting
from flatdyn.core import records as records
from flatdyn.core import statistics as statistics
from flatdyn.core.records import Status as Status
from flatdyn.core.renaming import renamed
from flatdyn.core.precision import PrecisionWarning as PrecisionWarning

__getattr__ = renamed(__name__, {"manifold": "invariant_manifold"})
