# The public names in reading order. `flatdyn/__init__.py` loads a room when one of its names is first used.

# describe
# ask
from . import asks as asks
from . import audits as audits
from . import basins as basins
from . import curvature as curvature
from . import escape as escape
from . import explorer as explorer
from . import fixedpoints as fixedpoints

# run
from . import flows as flows
from . import landscapes as landscapes
from . import laws as laws
from . import methods as methods

# the wing that uses all of it
from . import networks as networks
from . import noise as noise

# show
from . import notebook as notebook

# what others run
from . import packages as packages
from . import plotting as plotting
from . import processes as processes
from . import runs as runs
from . import stability as stability
from . import sweeps as sweeps
from .audits import audit as audit
from .basins import Attractor as Attractor
from .basins import Region as Region
from .basins import basin_fractions as basin_fractions
from .basins import basin_stability as basin_stability
from .basins import boundaries as boundaries
from .basins import fractions_in as fractions_in
from .basins import map_basins as map_basins
from .core import records as records
from .core import statistics as statistics
from .core.precision import PrecisionWarning as PrecisionWarning
from .core.records import Status as Status
from .escape import escape_times as escape_times
from .escape import survival as survival
from .explorer import explore as explore
from .fixedpoints import invariant_manifold as invariant_manifold
from .landscapes import Landscape as Landscape
from .laws import stationary as stationary
from .laws import transfer as transfer
from .laws import weak as weak
from .methods import ASAM as ASAM
from .methods import DNSAM as DNSAM
from .methods import GD as GD
from .methods import LOL as LOL
from .methods import SAM as SAM
from .methods import SGLD as SGLD
from .methods import USAM as USAM
from .methods import AdaptiveLangevin as AdaptiveLangevin
from .methods import AdLaLa as AdLaLa
from .methods import Alternating as Alternating
from .methods import Averaged as Averaged
from .methods import ConstrainedLangevin as ConstrainedLangevin
from .methods import ConstrainedSGLD as ConstrainedSGLD
from .methods import LaLa as LaLa
from .methods import Langevin as Langevin
from .methods import LeimkuhlerMatthews as LeimkuhlerMatthews
from .methods import Multirate as Multirate
from .methods import Scheduled as Scheduled
from .methods import Started as Started
from .methods import Switched as Switched
from .methods import constraints as constraints
from .methods import from_optax as from_optax
from .methods import masks as masks
from .notebook import ledger as ledger
from .processes import Extended as Extended
from .processes import Iteration as Iteration
from .processes import Map as Map
from .processes import Process as Process
from .processes import probe as probe
from .runs import simulate as simulate
from .stability import lyapunov_exponents as lyapunov_exponents
from .stability import quadratic as quadratic
from .sweeps import sweep as sweep

__version__: str
