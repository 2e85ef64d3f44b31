"""One way to draw each kind of result: `draw_*(ax, record)` draws into an axis you give, and never simulates.

    the plane           draw_landscape, draw_paths, draw_field, draw_critical_points, draw_manifold, draw_surface
    rare escapes        draw_least_noise, draw_quasipotential
    where runs end      draw_basins, draw_fractions, draw_labels, draw_branch, draw_capture_set
    numbers             draw_series, draw_sweep: with errors against a setting, beside the law
                        draw_gains: over a rival, for each task and method; draw_map: over two settings
                        draw_ratios: to each of several rivals
    against the step    draw_distance, draw_loss, draw_survival
    between attractors  draw_committor, draw_reactive_paths, draw_current
    curvature           draw_line, draw_plane, draw_density
    keys and labels     draw_key, explain, setting, quantity_name, set_ticks
    colours             method_color, method_style, styles, shades, rho_colors, basin_colors
    check_figure        what a figure lacks to stand alone, in plain sentences

Each notes what its markers, lines and shades mean; `draw_key(ax)` or `draw_key(figure)` writes that as a legend.
`import flatdyn.plotting` leaves matplotlib's settings alone; `plotting.use_style()` switches the house style on.

Example:
    >>> from matplotlib.figure import Figure
    >>> import flatdyn as fd
    >>> figure, rho = Figure(), 0.2
    >>> ax, sam = figure.add_subplot(), f"SAM, {fd.plotting.setting(rho=rho)}"
    >>> stays = {"SGD": ([37.7, 93.0], [0.4, 1.1]), sam: ([40.5, 210.0], [0.5, 3.0])}
    >>> bars = fd.plotting.draw_series(ax, [1, 16], stays)
    >>> _ = ax.set(xlabel=fd.plotting.quantity_name("batch_size"), ylabel="mean stay (steps)")
    >>> fd.plotting.check_figure(figure)
    []
"""

from flatdyn.plotting.basins import basin_colors as basin_colors
from flatdyn.plotting.basins import draw_basins as draw_basins
from flatdyn.plotting.basins import draw_branch as draw_branch
from flatdyn.plotting.basins import draw_fractions as draw_fractions
from flatdyn.plotting.basins import draw_labels as draw_labels
from flatdyn.plotting.colors import DIVERGED_COLOR as DIVERGED_COLOR
from flatdyn.plotting.colors import METHOD_COLORS as METHOD_COLORS
from flatdyn.plotting.colors import OTHER_COLORS as OTHER_COLORS
from flatdyn.plotting.colors import UNDECIDED_COLOR as UNDECIDED_COLOR
from flatdyn.plotting.colors import method_color as method_color
from flatdyn.plotting.colors import method_of as method_of
from flatdyn.plotting.colors import method_style as method_style
from flatdyn.plotting.colors import rho_colors as rho_colors
from flatdyn.plotting.colors import shades as shades
from flatdyn.plotting.colors import styles as styles
from flatdyn.plotting.crossings import draw_committor as draw_committor
from flatdyn.plotting.crossings import draw_current as draw_current
from flatdyn.plotting.crossings import draw_reactive_paths as draw_reactive_paths
from flatdyn.plotting.curvature import draw_density as draw_density
from flatdyn.plotting.curvature import draw_line as draw_line
from flatdyn.plotting.curvature import draw_plane as draw_plane
from flatdyn.plotting.keys import draw_key as draw_key
from flatdyn.plotting.keys import explain as explain
from flatdyn.plotting.keys import quantity_name as quantity_name
from flatdyn.plotting.keys import setting as setting
from flatdyn.plotting.luck import draw_least_noise as draw_least_noise
from flatdyn.plotting.luck import draw_quasipotential as draw_quasipotential
from flatdyn.plotting.maps import draw_capture_set as draw_capture_set
from flatdyn.plotting.maps import draw_map as draw_map
from flatdyn.plotting.planes import draw_critical_points as draw_critical_points
from flatdyn.plotting.planes import draw_field as draw_field
from flatdyn.plotting.planes import draw_landscape as draw_landscape
from flatdyn.plotting.planes import draw_manifold as draw_manifold
from flatdyn.plotting.planes import draw_paths as draw_paths
from flatdyn.plotting.planes import draw_surface as draw_surface
from flatdyn.plotting.ratios import draw_ratios as draw_ratios
from flatdyn.plotting.review import check_figure as check_figure
from flatdyn.plotting.series import draw_gains as draw_gains
from flatdyn.plotting.series import draw_series as draw_series
from flatdyn.plotting.series import draw_sweep as draw_sweep
from flatdyn.plotting.series import set_ticks as set_ticks
from flatdyn.plotting.style import use_style as use_style
from flatdyn.plotting.times import draw_distance as draw_distance
from flatdyn.plotting.times import draw_loss as draw_loss
from flatdyn.plotting.times import draw_survival as draw_survival
