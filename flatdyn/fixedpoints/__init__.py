"""Every fixed point and short cycle of a process in a box, how they change with a parameter, and their manifolds.

    find(process, box)                      all fixed points and cycles
    continue_in(make_process, ...)          a branch over a parameter, with its bifurcations
    curve_in(make_process, ...)             the curve of a bifurcation in two parameters
    invariant_manifold(process, point, ...) stable and unstable manifolds of a saddle

All of it is computed in 64 bits, whatever the precision of the session.

Example:
    >>> import flatdyn as fd
    >>> well = fd.landscapes.double_well()
    >>> [(point.kind, round(float(point.theta[0]), 6)) for point in fd.fixedpoints.find(fd.Iteration(well, fd.GD(0.1)))]
    [('stable', -1.0), ('repelling', 0.0), ('stable', 1.0)]
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
