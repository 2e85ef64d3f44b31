"""Where does it end? Basins of attraction: maps, fractions, boundaries.

    map_basins(process, box, resolution)        each point of a grid by the attractor that its run reaches
    basin_fractions(process, box, runs, key)    shares with errors, by random starts
    basin_stability(...)                        the share of one attractor
    Mapper(process, attractors, ...)            the rules of the search, for all of these
    fractions_in(make_process, ...)             shares as a parameter varies
    boundaries                                  how entangled the basins are

The answers are records: named arrays with a status for each run.

Example:
    >>> import flatdyn as fd
    >>> well = fd.Iteration(fd.landscapes.double_well(), fd.GD(0.1))
    >>> mapper = fd.basins.Mapper(well, {"left": (-1.0,), "right": (1.0,)}, max_steps=500)
    >>> print(f"{fd.map_basins(mapper, [(-2.0, 1.0)], 300).fractions()['right']:.3f}")
    0.333
"""

from flatdyn.basins import boundaries as boundaries
from flatdyn.basins.attractors import Attractor as Attractor
from flatdyn.basins.fractions import FractionCurve as FractionCurve
from flatdyn.basins.fractions import fractions_in as fractions_in
from flatdyn.basins.labels import Basins as Basins
from flatdyn.basins.labels import Labels as Labels
from flatdyn.basins.labels import Sample as Sample
from flatdyn.basins.mapper import Mapper as Mapper
from flatdyn.basins.maps import basin_fractions as basin_fractions
from flatdyn.basins.maps import basin_stability as basin_stability
from flatdyn.basins.maps import draw_starts as draw_starts
from flatdyn.basins.maps import map_basins as map_basins
from flatdyn.basins.matching import match_attractors as match_attractors
from flatdyn.basins.matching import match_by_overlap as match_by_overlap
from flatdyn.processes.regions import Region as Region
