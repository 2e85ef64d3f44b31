"""How one step is taken: descent and sharpness-aware minimization, averages, blocks, Langevin methods, any of optax.

A method is one `step(grad, state)` that may evaluate the gradient field wherever it likes. `masks` select parameters
that it treats differently, and `constraints` hold parameters on a set.

Example:
    >>> import sympy
    >>> import flatdyn as fd
    >>> h, rho, l = sympy.symbols("h rho lambda")
    >>> fd.stability.jacobian(fd.USAM(h, rho), fd.landscapes.saddle((l,)), at=(0,))
    Matrix([[-h*lambda*(lambda*rho + 1) + 1]])
"""

from flatdyn.core.renaming import renamed
from flatdyn.methods.averaging import Averaged as Averaged
from flatdyn.methods.base import FirstOrder as FirstOrder
from flatdyn.methods.base import Method as Method
from flatdyn.methods.base import State as State
from flatdyn.methods.constrained import ConstrainedLangevin as ConstrainedLangevin
from flatdyn.methods.constrained import ConstrainedSGLD as ConstrainedSGLD
from flatdyn.methods.first_order import ASAM as ASAM
from flatdyn.methods.first_order import DNSAM as DNSAM
from flatdyn.methods.first_order import GD as GD
from flatdyn.methods.first_order import SAM as SAM
from flatdyn.methods.first_order import USAM as USAM
from flatdyn.methods.langevin import LOL as LOL
from flatdyn.methods.langevin import SGLD as SGLD
from flatdyn.methods.langevin import AdaptiveLangevin as AdaptiveLangevin
from flatdyn.methods.langevin import AdLaLa as AdLaLa
from flatdyn.methods.langevin import LaLa as LaLa
from flatdyn.methods.langevin import Langevin as Langevin
from flatdyn.methods.langevin import LeimkuhlerMatthews as LeimkuhlerMatthews
from flatdyn.methods.optax import from_optax as from_optax
from flatdyn.methods.partitioned import Alternating as Alternating
from flatdyn.methods.partitioned import Multirate as Multirate
from flatdyn.methods.schedules import Scheduled as Scheduled

__getattr__ = renamed(
    __name__, {}, {"Cosine": ("flatdyn.methods.schedules", "optax.cosine_decay_schedule(1.0, steps), a factor as well")}
)
