"""Runs labelled by the attractor that they reach: what maps and samples of basins have in common.

Attractors that are not given are discovered from some of the runs, and searched for again among those that reach none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.basins import arrivals
from flatdyn.basins.arrivals import Arrivals, Rules, Targets
from flatdyn.basins.attractors import Attractor, Region, digests, gap, padded, targets, unused
from flatdyn.basins.discovery import discover, scouts
from flatdyn.basins.labels import DIVERGED
from flatdyn.basins.mapper import Mapper
from flatdyn.core import checks, records, stores
from flatdyn.core.records import Status
from flatdyn.processes import Process
from flatdyn.runs import ensembles, fingerprints

_ONE_PLACE, _FEW = 1e-12, 64  # starts closer than this, relative to where they are, are one; runs that show the way
_SEARCHES = 3  # times that undecided runs are searched for more


def extent(process: Process, starts: np.ndarray, ends: Callable[[], np.ndarray]) -> float:
    """How large is what the starts, shape (runs, dim), fill: the diagonal of the box around them.

    Starts that are all at one place, but for rounding, say nothing about how near to each other two attractors may be:
    then it is the diagonal of the process's own box or, without one, how far the runs go, from `ends()`.
    """
    filled = _length(np.ptp(starts.astype(float), axis=0))
    if filled > _ONE_PLACE * np.abs(starts).max():
        return filled
    if process.box is not None:
        return _diagonal(process.box)
    gone = max(map(_length, ends()[:_FEW] - starts[:_FEW]))
    return gone or _length(starts[0]) or 1.0


def _diagonal(box: Any) -> float:
    return _length(np.diff(np.asarray(box, dtype=float), axis=1)[:, 0])


def _length(vector: np.ndarray) -> float:
    """‖v‖, whose squares neither vanish nor overflow: a power of two changes no digit."""
    power = np.frexp(np.abs(vector).max())[1]
    return float(np.ldexp(np.linalg.norm(np.ldexp(vector, -power)), power))


def labelled(mapper: Mapper, starts, box, key, chunk, progress, kept) -> dict[str, Any]:
    """The fields that grids and samples share."""
    process, rules = mapper.process, mapper.rules
    if chunk is not None:
        chunk = checks.count("chunk", chunk, at_least=1)

    def ends():
        steps, few = rules.max_steps, starts[:_FEW]
        return ensembles.simulate(process, few, steps, key, steps, bound=rules.bound, progress=progress).final

    diagonal = extent(process, starts, ends) if box is None else _diagonal(box)
    checks.squarable("the diagonal of the box of starts", diagonal, starts.dtype)
    rules = rules._replace(unit=min(1.0, diagonal))
    search = _Search(process, starts, rules, mapper.radius, diagonal, key, chunk, progress, *kept)
    search.prepare()
    if mapper.ends is not None:
        points, regions = mapper.ends
        result = search.run(points, regions)
    else:
        everyone = np.arange(len(starts))
        points, regions = search.discover(everyone, []), []
        result = search.run(points, regions)
        for _ in range(_SEARCHES):  # what no scout has reached, undecided runs may have
            left = everyone[result.status == Status.UNDECIDED]
            more = search.discover(left, points) if len(left) else []
            if not more:
                break
            points = points + more
            for old, new in zip(result, search.run(points, regions, left), strict=True):
                old[left] = new
    label = _region_labels(result, regions, len(points))
    status = np.where((label >= 0) & (result.status == Status.UNDECIDED), Status.CONVERGED, result.status)
    labels = np.where(result.status == Status.DIVERGED, DIVERGED, label).astype(np.int16)
    return {
        "config": search.config(points, regions),
        "provenance": records.provenance(),
        "labels": labels,
        "steps": result.steps,
        "status": status.astype(np.int8),
        "final": result.final,
        "names": np.array([end.name for end in (*points, *regions)], dtype=str),
        "kinds": np.array([attractor.kind for attractor in points], dtype=str),
        "periods": np.array([attractor.period for attractor in points], dtype=int),
        "theta": np.array([attractor.theta for attractor in points]).reshape(-1, process.dim),
        "points": padded(points, process.dim),
        "spread": np.array([attractor.spread for attractor in points]),
    }


@dataclass
class _Search:
    """One call's process, starts and rules."""

    process: Process
    starts: np.ndarray
    rules: Rules
    radius: float | None
    diagonal: float
    key: Any
    chunk: int | None
    progress: bool | None
    store: Any
    version: str | None

    def prepare(self) -> None:
        """Raise OSError if the store can't be written: attractors are looked for before the first file is."""
        if self.store is not None and not any(stores.folder_of(self.store).glob("*.npz")):
            stores.check_writable(stores.path_of(self.store) / "part.npz")

    @property
    def grain(self) -> float:
        """Positions closer than this are one attractor's."""
        return self.diagonal / 200

    def near(self, points: list[Attractor]) -> float:
        apart = gap(points) / 4
        return self.radius or min(apart if apart > 0 else self.grain / 8, self.diagonal / 20)

    def config(self, points: list[Attractor], regions: list[Region]) -> dict[str, str]:
        rules = {name: f"{value:g}" for name, value in self.rules._asdict().items() if name != "unit"}
        return {"process": records.described(self.process), "radius": f"{self.near(points):g}"} | rules

    def discover(self, runs: np.ndarray, known: list[Attractor]) -> list[Attractor]:
        """Attractors of some of the runs that are not near a known one, under names of their own."""
        most = scouts(self.process.dim)
        if len(runs) > most:  # by chance: a regular choice of a grid's rows would see the same columns only
            runs = np.sort(np.random.default_rng(0).choice(runs, most, replace=False))
        discovered = discover(
            self.process,
            self.starts[runs],
            max_steps=self.rules.max_steps,
            grain=self.grain,
            bound=self.rules.bound,
            key=self.key,
            progress=self.progress,
        )
        kept: list[Attractor] = []
        for attractor in discovered:
            if any(gap([attractor, other]) < self.grain for other in known):
                continue
            kept.append(dataclasses.replace(attractor, name=unused(attractor.name, [*known, *kept])))
        return kept

    def run(self, points: list[Attractor], regions: list[Region], runs: np.ndarray | None = None) -> Arrivals:
        """What becomes of the starts, or of some of them in a later pass."""
        rules, radius = self.rules, self.near(points)
        limits = {"max_steps": rules.max_steps, "bound": rules.bound, "dtype": self.starts.dtype}
        aims = targets(self.process, points, regions, radius, key=self.key, progress=self.progress, **limits)
        runs = np.arange(len(self.starts)) if runs is None else runs
        config = self.config(points, regions)
        if self.store is not None:
            config |= {"contents": self._identity(aims, regions, runs)}
        options = {"key": self.key, "chunk": self.chunk, "progress": self.progress, "store": self.store}
        return arrivals.decide(self.process, self.starts[runs], aims, rules, numbers=runs, config=config, **options)

    def _identity(self, aims: Targets, regions: list[Region], runs: np.ndarray) -> str:
        """What tells this call's unfinished work from another's."""
        dtype = self.starts.dtype
        moves = fingerprints.of_process(self.process, dtype, self.version)
        inside = digests([], regions, self.process.dim, dtype, self.version)
        numbers = [np.asarray(x) for x in (aims.points, aims.radius, aims.trap, aims.number, *self.rules)]
        return records.digest(moves, fingerprints.of_key(self.key), self.starts, runs, *numbers, *inside)


def _region_labels(result: Arrivals, regions: list[Region], number: int) -> np.ndarray:
    """Labels with the undecided runs given to the first region in which they ended."""
    label, open_ = result.label.copy(), result.status == Status.UNDECIDED
    for i, region in enumerate(regions):
        if open_.any():
            inside = np.asarray(jax.vmap(region.inside)(jnp.asarray(result.final)), dtype=bool)
            label[open_ & inside] = number + i
            open_ &= ~inside
    return label
