"""Saddles of trained networks that are known exactly, and how noise pushes a network away from them."""

from flatdyn.networks.saddles.constructions import Saddle as Saddle
from flatdyn.networks.saddles.constructions import linear_origin as linear_origin
from flatdyn.networks.saddles.constructions import split_unit as split_unit
from flatdyn.networks.saddles.constructions import tied_pair as tied_pair
from flatdyn.networks.saddles.constructions import zero_unit as zero_unit
from flatdyn.networks.saddles.critical_radius import critical_rho as critical_rho
