"""Where does an optimiser end up, how long does it stay at a saddle, and how sharp is it there?

Describe (landscapes, noise, methods), run (processes, simulate), ask (stability, fixed points, basins), show
(records, plotting).
"""

# describe
from flatdyn import constraints as constraints
from flatdyn import landscapes as landscapes
from flatdyn import masks as masks
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
from flatdyn.extended import Extended as Extended
from flatdyn.ensembles import simulate as simulate
from flatdyn import flows as flows
from flatdyn.sweeps import sweep as sweep

# ask
from flatdyn.attractors import Attractor as Attractor
from flatdyn.attractors import Region as Region
from flatdyn.basins import basin_fractions as basin_fractions
from flatdyn.basins import basin_stability as basin_stability
from flatdyn.basins import map_basins as map_basins
from flatdyn import boundaries as boundaries
from flatdyn import escape as escape
from flatdyn.escape import escape_times as escape_times
from flatdyn import fixedpoints as fixedpoints
from flatdyn import quadratic as quadratic
from flatdyn.fractions import fractions_in as fractions_in
from flatdyn.lyapunov import lyapunov_exponents as lyapunov_exponents
from flatdyn.manifolds import manifold as manifold
from flatdyn import stability as stability
from flatdyn import stationary as stationary
from flatdyn import survival as survival
from flatdyn import transfer as transfer
from flatdyn import weak as weak

# show
from flatdyn import ledger as ledger
from flatdyn import notebook as notebook
from flatdyn import plotting as plotting
from flatdyn import records as records
from flatdyn import statistics as statistics
from flatdyn.records import Status as Status
from flatdyn.precision import PrecisionWarning as PrecisionWarning
