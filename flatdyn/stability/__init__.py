"""When is a point an attractor, and how fast do neighbouring orbits separate?

    update_map, jacobian, multipliers       the one-step map in symbols and numbers
    conditions, region, threshold           where a direction attracts
    edge(method, ...)                       the sharpness at which it just stops shrinking; preconditioner, of Adam
    transient_growth(process, at=...)       how far a disturbance grows before a stable point takes it back
    lyapunov_exponents(process, ...)        how fast neighbouring orbits separate
    quadratic                               normalised SAM on quadratics, exactly

All of it is computed in 64 bits, whatever the precision of the session.

Example:
    >>> import sympy
    >>> import flatdyn as fd
    >>> h, l = sympy.symbols("h lambda")
    >>> fd.stability.jacobian(fd.GD(h), fd.landscapes.saddle((l,)), at=(0,))
    Matrix([[-h*lambda + 1]])
    >>> fd.stability.multipliers(fd.GD(0.5), fd.landscapes.saddle((1.0, -1.0)), at=(0, 0)).real.tolist()
    [1.5, 0.5]
"""

from flatdyn.core.renaming import renamed
from flatdyn.stability import quadratic as quadratic
from flatdyn.stability.directions import Threshold as Threshold
from flatdyn.stability.directions import conditions as conditions
from flatdyn.stability.directions import region as region
from flatdyn.stability.directions import threshold as threshold
from flatdyn.stability.edges import edge as edge
from flatdyn.stability.kreiss import kreiss_constant as kreiss_constant
from flatdyn.stability.lyapunov import Exponents as Exponents
from flatdyn.stability.lyapunov import lyapunov_exponents as lyapunov_exponents
from flatdyn.stability.multipliers import is_critical as is_critical
from flatdyn.stability.multipliers import jacobian as jacobian
from flatdyn.stability.multipliers import kind_of as kind_of
from flatdyn.stability.multipliers import multipliers as multipliers
from flatdyn.stability.multipliers import numeric_jacobian as numeric_jacobian
from flatdyn.stability.multipliers import orbit_jacobian as orbit_jacobian
from flatdyn.stability.multipliers import state_symbols as state_symbols
from flatdyn.stability.multipliers import symbolic_state as symbolic_state
from flatdyn.stability.multipliers import unperturbed as unperturbed
from flatdyn.stability.multipliers import update_map as update_map
from flatdyn.stability.preconditioners import preconditioner as preconditioner
from flatdyn.stability.transients import TransientGrowth as TransientGrowth
from flatdyn.stability.transients import transient_growth as transient_growth

__getattr__ = renamed(__name__, {"edge_of_stability": "edge"})
