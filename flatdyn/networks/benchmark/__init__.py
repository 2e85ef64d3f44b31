"""How far does it scale, and which method is better? Rates of networks, and small tasks on which methods are compared.

scale       rates beside what the device could do; compiling is outside the clock
trials      small learning tasks, how they are trained, and what is compared on them
calls       programs and seconds of a first call, and of the same call again
spirals     two spirals, for Langevin methods beside SGD and Adam
"""

from flatdyn.networks.benchmark import calls as calls
from flatdyn.networks.benchmark import scale as scale
