"""How one step is taken."""

from flatdyn.methods.base import FirstOrder as FirstOrder
from flatdyn.methods.base import Method as Method
from flatdyn.methods.base import State as State
from flatdyn.methods.base import from_optax as from_optax
from flatdyn.methods.descent import GD as GD
from flatdyn.methods.sharpness import DNSAM as DNSAM
from flatdyn.methods.sharpness import SAM as SAM
from flatdyn.methods.sharpness import USAM as USAM
