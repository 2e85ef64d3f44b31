"""Networks that other packages define, as tasks: any function of parameters and inputs, and modules of PyTorch."""

from flatdyn.networks.elsewhere.functions import task as task
from flatdyn.networks.elsewhere.pytorch import from_torch as from_torch
