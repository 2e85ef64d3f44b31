"""Drag a start or a radius and see where it goes: an explorer in a notebook, computed live.

    explorer = fd.explore("himmelblau", fd.SAM(0.001, rho=0.3))     shows itself when it ends a cell
    explorer.run, explorer.basins, explorer.escapes                 the records behind the picture
    explorer.set(lr=0.002, start=(0.1, 1.0))                        moves the controls from Python
    explorer.figure()                                               the same as a figure of matplotlib

Left is the plane: the loss, its critical points, basins, the path from a start that can be dragged. Right is what
follows from it: loss and distance against the step, multipliers on the unit circle, shares of the basins, how long runs
stay. Every number is an answer of `flatdyn.simulate`, `flatdyn.map_basins`, `flatdyn.escape_times` and
`flatdyn.stability` to the two lines of Python below the plane.

Example:
    >>> import flatdyn as fd
    >>> explorer = fd.explore("double_well", fd.GD(0.1), start=[0.3])
    >>> print(explorer.set(start=[-0.3]).run.final.round(3))
    [-1.]
"""

from flatdyn.explorer.exploring import Explorer as Explorer
from flatdyn.explorer.opening import explore as explore
