"""What a notebook needs besides the science: two sizes, numbers and figures that can be checked, the ledger.

    preset(quick=..., full=...)     the size of this run
    report, say, measured           numbers with their errors
    Results                         the numbers that verdicts and sentences follow from
    show, save_figure               a figure, and the numbers it is held to
    result, overview                what the full run found, on the notebook's page and for all claims
    ledger                          each claim, the verdict, and what was measured

The library itself needs none of it.

Example:
    >>> import flatdyn as fd
    >>> fd.notebook.number(0.8941, 0.0023)
    '0.894(2)'
"""

from flatdyn.notebook import ledger as ledger
from flatdyn.notebook.output import check_figures as check_figures
from flatdyn.notebook.output import digest as digest
from flatdyn.notebook.output import figures_folder as figures_folder
from flatdyn.notebook.output import is_full as is_full
from flatdyn.notebook.output import measured as measured
from flatdyn.notebook.output import number as number
from flatdyn.notebook.output import preset as preset
from flatdyn.notebook.output import report as report
from flatdyn.notebook.output import save_figure as save_figure
from flatdyn.notebook.output import say as say
from flatdyn.notebook.output import show as show
from flatdyn.notebook.pages import overview as overview
from flatdyn.notebook.pages import result as result
from flatdyn.notebook.results import Number as Number
from flatdyn.notebook.results import Results as Results
