"""Which share of random starts ends at an attractor?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flatdyn.basins.maps import basin_stability
from flatdyn.core import checks


@dataclass(frozen=True, eq=False)
class _BasinShare:
    """One cell after the other: what is a trap is learnt by test runs of each process."""

    attractor: Any
    sampler: Any
    runs: int
    rules: Mapping[str, Any]
    __name__ = "basin_share"

    def __call__(self, process, key):
        return basin_stability(process, self.attractor, self.sampler, self.runs, key, progress=False, **self.rules)


def basin_share(attractor: Any, sampler: Any, runs: int, **rules: Any) -> _BasinShare:
    """The share of random starts that ends at one attractor, with its binomial error.

    Cells are asked one after the other, as each has its own search for what a run does not leave again.

    Args:
        attractor: a position, CriticalPoint, FixedPoint, Attractor or Region
        sampler: a box, for uniform starts, or a function (key, runs) -> starts of shape (runs, dim)
        runs: number of starts
        rules: max_steps, radius, tol, stay, check_every, bound: as for :func:`flatdyn.map_basins`
    Returns:
        an ask for :func:`flatdyn.sweep`, which needs a key: (value, stderr)
    """
    return _BasinShare(attractor, sampler, checks.count("runs", runs, at_least=1), rules)
