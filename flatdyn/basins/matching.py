"""Which attractor is which, from one value of a parameter to the next: by their positions, or by their basins.

By distance an attractor that jumps is another one; by overlap it stays the same as long as it draws in the same starts.
The idea of both is that of Attractors.jl (Datseris, Luiz Rossi, Wagemakers, Chaos 33, 073151 (2023)).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import scipy

from flatdyn.basins.attractors import Attractor
from flatdyn.basins.labels import Labels
from flatdyn.core import checks

_SHARED = 0.5  # of the smaller basin's starts: with less, most of them have gone elsewhere


def match_attractors(known: Sequence[Attractor], present: Sequence[Attractor], reach: float) -> list[int]:
    """Which known attractor each present one is: the assignment of least total distance, none beyond `reach`.

    The distance of two attractors is the Hausdorff distance between their positions.

    Args:
        known, present: attractors
        reach: largest distance of a pair
    Returns:
        for each present one the index of its known one; len(known), len(known) + 1, … for those that are new
    Raises:
        ValueError: if `reach` is negative
        TypeError: if something is no attractor
    """
    for what, attractors in (("known", known), ("present", present)):
        for one in checks.sequence(what, attractors, "attractors"):
            checks.kind(what, one, Attractor)
    reach = checks.number("reach", reach, at_least=0, one=True)
    if not len(known) or not len(present):
        return list(range(len(known), len(known) + len(present)))
    distance = np.array([[_hausdorff(a.points, b.points) for b in known] for a in present])
    far = 1e3 * reach  # more than any set of admissible pairs can save
    return _assigned(np.where(distance <= reach, distance, far), distance <= reach, range(len(known)), len(known))


def match_by_overlap(before: Labels, indices: Sequence[int], after: Labels, known: int) -> list[int]:
    """Which attractor each one of `after` is: the assignment that keeps most starts, of those with enough in common.

        overlap of two basins A, B of the same starts: |A ∩ B| / min(|A|, |B|),   at least a half

    Args:
        before, after: labels of the same starts at two neighbouring values
        indices: for each attractor of `before` its index among all that are known
        known: how many are known
    Returns:
        for each attractor of `after` the index of its known one; known, known + 1, … for those that are new
    Raises:
        ValueError: if the labels are those of other starts, or there is not one index of its own for each attractor
    """
    checks.kind("before", before, Labels)
    checks.kind("after", after, Labels)
    known = checks.count("known", known)
    indices = [checks.count("indices", i, at_most=known - 1) for i in checks.sequence("indices", indices, "indices")]
    if len(set(indices)) < len(indices):
        raise ValueError(f"indices must be different, got {indices}")
    if before.labels.shape != after.labels.shape:
        raise ValueError(f"labels must be of the same starts, got {before.labels.shape} and {after.labels.shape}")
    if indices and len(indices) != len(before.attractors):
        raise ValueError(f"indices must be {len(before.attractors)}, one for each attractor, got {len(indices)}")
    here = (after.labels.ravel() == np.arange(len(after.attractors))[:, None]).astype(float)
    there = (before.labels.ravel() == np.arange(len(indices))[:, None]).astype(float)
    shared, smaller = here @ there.T, np.minimum(here.sum(axis=1)[:, None], there.sum(axis=1))
    enough = shared >= np.maximum(_SHARED * smaller, 1)
    return _assigned(np.where(enough, -shared, 0), enough, indices, known)


def _assigned(cost: np.ndarray, allowed: np.ndarray, columns: Sequence[int], known: int) -> list[int]:
    """The cheapest assignment of rows to columns by their numbers, new numbers for rows whose pair is not allowed."""
    pairs = zip(*scipy.optimize.linear_sum_assignment(cost), strict=True)
    matched = {i: columns[j] for i, j in pairs if allowed[i, j]}
    new = itertools.count(known)
    return [matched[i] if i in matched else next(new) for i in range(len(cost))]


def _hausdorff(a: np.ndarray, b: np.ndarray) -> float:
    distance = scipy.spatial.distance.cdist(a, b)
    return float(max(distance.min(axis=0).max(), distance.min(axis=1).max()))
