"""How far does it scale? Rates of networks in training and of their spectra, beside what the device could do.

    scale       what is measured, and the record of it

Compiling is outside the clock, and each number says on what device it was measured.
"""

from flatdyn.networks.benchmark import scale as scale
