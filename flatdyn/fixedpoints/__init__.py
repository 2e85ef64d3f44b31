"""Every fixed point and short cycle of a process in a box, how they change with a parameter, and their manifolds.

    find(process, box)                      all fixed points and cycles
    continue_in(make, values, ...)          branches over a parameter, with bifurcations
    curve_in(make, ...)                     curves of bifurcations in two parameters
    invariant_manifold(process, point)          stable and unstable manifolds of a saddle

All of it is computed in 64 bits, whatever the precision of the session.
"""

from flatdyn.fixedpoints.continuation import Branch as Branch
from flatdyn.fixedpoints.continuation import Curve as Curve
from flatdyn.fixedpoints.continuation import continue_in as continue_in
from flatdyn.fixedpoints.continuation import curve_in as curve_in
from flatdyn.fixedpoints.manifolds import Manifold as Manifold
from flatdyn.fixedpoints.manifolds import invariant_manifold as invariant_manifold
from flatdyn.fixedpoints.search import FixedPoint as FixedPoint
from flatdyn.fixedpoints.search import FixedPoints as FixedPoints
from flatdyn.fixedpoints.search import find as find
