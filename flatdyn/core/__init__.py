"""What every package uses: checks of input, records of results, random numbers, statistics, and long work.

    checks          refuse bad input where it enters
    records         results: named arrays with status codes and provenance, saved whole or not at all
    precision       how many bits numbers have, and one warning where some are lost
    randomness      random numbers that belong to a run and a step
    statistics      numbers with honest errors
    algebra         one source, two algebras: an update rule in numbers and in symbols
    quadrature      expectations of functions that jump
    hashing         a hash of your functions and objects: of their code, and of the values that it uses
    programs        a hash of a compiled computation
    stores          where finished parts of long work are kept
    segments        long work in pieces, between which Ctrl-C stops it
    memory          refuse what does not fit, before it is allocated
    renaming        old public names, handed on with a warning

Nothing here knows of landscapes, methods or processes.

Example:
    >>> from flatdyn.core import checks, statistics
    >>> mean, stderr = statistics.mean_sem([1.0, 2.0, 6.0])
    >>> print(f"{mean:.1f} +- {stderr:.2f}")
    3.0 +- 1.53
    >>> checks.count("runs", -1, at_least=1)
    Traceback (most recent call last):
    ValueError: runs must be a whole number >= 1, got -1
"""

from flatdyn.core import records as records
from flatdyn.core import statistics as statistics
