"""How one step is taken: descent and sharpness-aware minimization, averages, blocks, Langevin methods, any of optax.

    GD, SAM, USAM, DNSAM, ASAM      descent, with the gradient taken at θ or uphill of it
    WSAM, GSAM, UnifiedSAM          what is followed is made of the gradients at θ and uphill of it
    LookSAM, FriendlySAM, MSAM,     uphill with the help of what was seen before
    LaggedSAM
    Lookahead                       iterates that are pulled back every k steps
    Averaged                        averages of iterates (SWA, WASAM)
    Scheduled, Switched, Started    numbers and methods that change in time; a velocity to start with
    Alternating, Multirate          blocks of parameters that are moved differently
    SGLD, Langevin, AdLaLa, ...     methods that sample at a temperature
    constraints, Constrained...     parameters that are held on a circle, a sphere, or orthogonal
    masks                           which parameters a method perturbs or moves
    from_optax(transformation)      any optimiser of optax

A method of your own is a class with one `step(grad, state)`, which may evaluate the gradient wherever it likes. Every
method runs in the plane and on the parameters of a network alike, and most of them on SymPy symbols.

Example:
    >>> import jax
    >>> import sympy
    >>> import flatdyn as fd
    >>> jax.config.update("jax_enable_x64", True)
    >>> h, rho, l = sympy.symbols("h rho lambda")
    >>> fd.stability.jacobian(fd.USAM(h, rho), fd.landscapes.saddle((l,)), at=(0,))
    Matrix([[-h*lambda*(lambda*rho + 1) + 1]])
    >>> wasam = fd.Averaged(fd.SAM(lr=0.05, rho=0.05), start=500, every=7)  # the average of SAM's iterates
    >>> fd.simulate(fd.Iteration(fd.landscapes.himmelblau(), wasam), [3.5, 2.5], 1).theta.shape
    (2, 2)
    >>> sphere = fd.ConstrainedLangevin(0.1, fd.constraints.Sphere(1.0), splitting="OBABO")
    >>> bowl, start = fd.landscapes.saddle((2, 1)), sphere.constraint.project(jax.numpy.array([1.0, 1.0]))
    >>> run = fd.simulate(fd.Iteration(bowl, sphere), start, 200, jax.random.key(0), observe=sphere.residual)
    >>> bool(run.observed.max() < 1e-12)
    True
"""

from flatdyn.core.renaming import renamed
from flatdyn.methods.averaging import Averaged as Averaged
from flatdyn.methods.base import FirstOrder as FirstOrder
from flatdyn.methods.base import Method as Method
from flatdyn.methods.base import State as State
from flatdyn.methods.constrained import ConstrainedLangevin as ConstrainedLangevin
from flatdyn.methods.constrained import ConstrainedSGLD as ConstrainedSGLD
from flatdyn.methods.family import GSAM as GSAM
from flatdyn.methods.family import WSAM as WSAM
from flatdyn.methods.family import UnifiedSAM as UnifiedSAM
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
from flatdyn.methods.lookahead import Lookahead as Lookahead
from flatdyn.methods.optax import from_optax as from_optax
from flatdyn.methods.partitioned import Alternating as Alternating
from flatdyn.methods.partitioned import Multirate as Multirate
from flatdyn.methods.remembering import MSAM as MSAM
from flatdyn.methods.remembering import FriendlySAM as FriendlySAM
from flatdyn.methods.remembering import LaggedSAM as LaggedSAM
from flatdyn.methods.remembering import LookSAM as LookSAM
from flatdyn.methods.schedules import Scheduled as Scheduled
from flatdyn.methods.starting import Started as Started
from flatdyn.methods.switching import Switched as Switched

__getattr__ = renamed(
    __name__, {}, {"Cosine": ("flatdyn.methods.schedules", "optax.cosine_decay_schedule(1.0, steps), a factor as well")}
)
