"""One way to draw each kind of result: `draw_*(ax, record)` draws into an axis you give, and never simulates.

`import flatdyn.plotting` leaves matplotlib's settings alone; `plotting.use_style()` switches the house style on.

Example:
    >>> from matplotlib.figure import Figure
    >>> import flatdyn as fd
    >>> ax = Figure().add_subplot()
    >>> run = fd.simulate(fd.Iteration(fd.landscapes.saddle(), fd.GD(0.1)), [[1.0, 0.5], [1.0, -0.5]], steps=3)
    >>> _ = fd.plotting.draw_paths(ax, run)
    >>> len(ax.lines) >= 2
    True
"""

from flatdyn.plotting.basins import basin_colors as basin_colors
from flatdyn.plotting.basins import draw_basins as draw_basins
from flatdyn.plotting.basins import draw_branch as draw_branch
from flatdyn.plotting.basins import draw_fractions as draw_fractions
from flatdyn.plotting.basins import draw_labels as draw_labels
from flatdyn.plotting.curvature import draw_density as draw_density
from flatdyn.plotting.curvature import draw_line as draw_line
from flatdyn.plotting.curvature import draw_plane as draw_plane
from flatdyn.plotting.planes import draw_critical_points as draw_critical_points
from flatdyn.plotting.planes import draw_field as draw_field
from flatdyn.plotting.planes import draw_landscape as draw_landscape
from flatdyn.plotting.planes import draw_manifold as draw_manifold
from flatdyn.plotting.planes import draw_paths as draw_paths
from flatdyn.plotting.planes import draw_surface as draw_surface
from flatdyn.plotting.style import DIVERGED_COLOR as DIVERGED_COLOR
from flatdyn.plotting.style import METHOD_COLORS as METHOD_COLORS
from flatdyn.plotting.style import UNDECIDED_COLOR as UNDECIDED_COLOR
from flatdyn.plotting.style import rho_colors as rho_colors
from flatdyn.plotting.style import use_style as use_style
