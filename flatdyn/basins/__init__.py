"""Where does it end? Basins of attraction: maps, fractions, boundaries.

    map_basins(process, box, resolution)        a map: which attractor is reached from each point of a grid
    basin_fractions(process, box, runs, key)    the fraction of each basin with its error, from random starts
    basin_stability(...)                        the fraction of one basin
    Mapper(process, attractors, ...)            the rules by which runs are assigned to attractors, for all of these
    fractions_in(make_process, ...)             fractions as a parameter varies
    boundaries                                  how entangled the basins are

Results are records: named arrays with a status for each run.

Example:
    >>> import jax
    >>> import flatdyn as fd
    >>> jax.config.update("jax_enable_x64", True)
    >>> well = fd.Iteration(fd.landscapes.double_well(), fd.GD(0.1))
    >>> mapper = fd.basins.Mapper(well, {"left": (-1.0,), "right": (1.0,)}, max_steps=500)
    >>> print(f"{fd.map_basins(mapper, [(-2.0, 1.0)], 300).fractions()['right']:.3f}")
    0.333

    If no attractors are given, they are discovered from the runs. Some of SAM's are saddles and a maximum: runs do
    not come to rest there, but circle close by, and such a set counts as one attractor.

    >>> sam = fd.Iteration(fd.landscapes.himmelblau(), fd.SAM(lr=3e-3, rho=0.8))
    >>> basins = fd.map_basins(sam, [(-5, 5), (-5, 5)], resolution=31)
    >>> sorted({attractor.kind for attractor in basins.attractors})
    ['maximum', 'minimum', 'saddle']
    >>> round(sum(basins.fractions()[a.name] for a in basins.attractors if a.kind != "minimum"), 1)
    0.2
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
