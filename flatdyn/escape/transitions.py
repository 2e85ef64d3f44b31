"""How often do runs go from one attractor to another? Rates, and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from flatdyn.core import checks, memory, precision, records
from flatdyn.core.records import Ensemble, Record
from flatdyn.core.statistics import mean_sem_of
from flatdyn.escape import chains, counting, operated
from flatdyn.escape.advance import Advance
from flatdyn.escape.cores import Cores, cores_of, index_of, refuse_overlap, region_of
from flatdyn.escape.splitting import climbed
from flatdyn.processes import Process
from flatdyn.processes.regions import check_score
from flatdyn.runs import queues, stepping

METHODS = ("operator", "runs", "splitting")
_RUN_BYTES = 64  # of a run's state, number and outcome, besides its counts
_PARTS = 20  # into which one recorded run is cut, for its error


class Estimate(NamedTuple):
    """Numbers with their standard errors, arrays of one shape."""

    value: np.ndarray
    error: np.ndarray


class Route(NamedTuple):
    """A way from one attractor to another: the names on it, and its share of the traffic between the two."""

    names: tuple[str, ...]
    share: float


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rates(Record):
    """Rates between attractors; see :func:`rates`.

    Attributes:
        names: of the attractors, shape (attractors,)
        rates: k_ij of transitions from i to j, per step that belongs to i; 0 on the diagonal, shape
            (attractors, attractors)
        error: standard errors; by the operator estimates of its error
        lost: rates at which runs of each left `inside` or the finite numbers, shape (attractors,)
        counts: transitions that were seen, shape (attractors, attractors); 0 with spent where nothing was counted
        spent: steps that belonged to each, shape (attractors,)
        dt: time per step, in steps × lr for continuous time; 1 for a discrete process
    """

    names: np.ndarray
    rates: np.ndarray
    error: np.ndarray
    lost: np.ndarray
    counts: np.ndarray
    spent: np.ndarray
    dt: np.ndarray
    _form: ClassVar = {
        "names": "U attractors",
        "rates": "f attractors attractors",
        "error": "f attractors attractors",
        "lost": "f attractors",
        "counts": "f attractors attractors",
        "spent": "f attractors",
        "dt": "f",
    }
    _units: ClassVar = dict.fromkeys(("rates", "error", "lost"), "1/steps") | {
        "counts": "1",
        "spent": "steps",
        "dt": "time per step",
    }

    @property
    def generator(self) -> np.ndarray:
        """Q: the rates, with minus their sum on the diagonal; what is lost does not count."""
        return self.rates - np.diag(self.rates.sum(axis=1))

    def rate(self, source: Any, target: Any) -> Estimate:
        """k of the transitions from one attractor to another, by name or number."""
        i, j = self._pair(source, target)
        return Estimate(self.rates[i, j], self.error[i, j])

    def stationary(self) -> Estimate:
        """Share of time that belongs to each attractor in the long run, π Q = 0.

        Raises:
            ValueError: if it depends on the start, as no transition joins some of the attractors
        """
        return Estimate(*chains.propagated(chains.stationary, self.rates, self.error))

    def passage_times(self) -> Estimate:
        """Mean steps from each attractor to the first visit of each other, shape (attractors, attractors).

        Infinite where no transitions lead there.
        """
        return Estimate(*chains.propagated(chains.passage_times, self.rates, self.error))

    def committor(self, source: Any, target: Any) -> Estimate:
        """Probability of visiting `target` before `source`, from each attractor."""
        i, j = self._pair(source, target)
        return Estimate(*chains.propagated(lambda k: chains.committor(k, i, j), self.rates, self.error))

    def flux(self, source: Any, target: Any) -> chains.Flux:
        """Traffic on the way from one attractor to another, per step."""
        return chains.flux(self.rates, *self._pair(source, target))

    def routes(self, source: Any, target: Any) -> list[Route]:
        """All ways from one attractor to another, the widest first, with shares of the traffic that sum to 1."""
        i, j = self._pair(source, target)
        ways = chains.routes(chains.flux(self.rates, i, j), i, j)
        return [Route(tuple(str(self.names[s]) for s in path), share) for path, share in ways]

    def route(self, source: Any, target: Any) -> Route:
        """The most travelled way from one attractor to another.

        Raises:
            ValueError: if no transitions lead there
        """
        ways = self.routes(source, target)
        if not ways:
            raise ValueError(f"no transitions lead from {source!r} to {target!r}")
        return ways[0]

    def _pair(self, source: Any, target: Any) -> tuple[int, int]:
        names = [str(name) for name in self.names]
        pair = [index_of(names, word, value) for word, value in (("source", source), ("target", target))]
        if pair[0] == pair[1]:
            raise ValueError(f"source and target must be two attractors, got {names[pair[0]]!r} twice")
        return pair[0], pair[1]

    def __repr__(self) -> str:
        number = len(self.names)
        seen = f", {int(self.counts.sum())} transitions" if self.spent.any() else ""
        return f"Rates(between {number} attractors: {', '.join(map(str, self.names))}{seen}; {self.dtype})"


def rates(
    process: Process,
    attractors: Any,
    *,
    method: str | None = None,
    radius: float | None = None,
    inside: Any = None,
    starts: Any = None,
    runs: int = 100,
    steps: int = 100_000,
    relax: int = 1000,
    key: jax.Array | None = None,
    scores: Mapping[str, Callable] | None = None,
    walkers: int = 1000,
    replicates: int = 10,
    max_steps: int = 1_000_000,
    panels: int | None = None,
    progress: bool | None = None,
) -> Rates:
    """How often runs go from each attractor to each other.

        k_ij = transitions from i to j / steps that belong to i

    A step belongs to the attractor in whose core the run was last; a transition is the step with which it comes into
    the core of another. By "operator" and "runs" a run is in its stationary law; by "splitting", and by the operator in
    the plane, in the quasi-stationary law that it settles to before it is first at another attractor. That differs by
    about k_ij times the steps that settling takes; the operator's error holds this difference, that of splitting does
    not.

    Args:
        process: what moves
        attractors: as for :func:`flatdyn.escape.committor`, at least two
        method: "runs" (anything); "splitting" (transitions too rare for runs); "operator" (one or two coordinates,
            normal numbers: no sampling); if not given, the operator where that is one coordinate with `inside`, else
            runs
        radius: of the cores of what is a position
        inside: a region that is not to be left, outside of which a run is lost; the operator needs it
        starts: a point in each core, shape (attractors, dim); centres if not given
        runs, steps, relax: runs from each attractor, steps of each that are counted, and before those how many are not
        key: a JAX key, except for the operator
        scores: for splitting, name -> JAX function θ -> how far a run has come from that attractor to the others, at
            most 1; from the distances to the cores if not given
        walkers, replicates, relax, max_steps: for splitting, as of :func:`flatdyn.escape.multilevel_splitting`
        panels: for the operator, how finely it is cut; the error is from half as many on the line, from a second order
            in the plane
        progress: show a bar; if not given, after two seconds
    Returns:
        Rates
    Raises:
        ValueError: if attractors overlap, starts are not in their cores, or transitions are too rare or too frequent
        TypeError: if the method does not know the process
    """
    checks.kind("process", process, Process)
    cores = cores_of(attractors, process.dim, radius, at_least=2)
    method = checks.choice("method", method, (*METHODS, None))
    if method is None:
        method = operated.usual(process, inside)
    config = {"process": records.described(process), "attractors": ", ".join(cores.names), "method": method}
    counted = {"counts": np.zeros((len(cores), len(cores))), "spent": np.zeros(len(cores))}
    if method == "operator":
        if inside is None:
            raise ValueError(
                "inside must be given: the region that the operator covers, outside of which a run is lost"
            )
        arrays = operated.rates(process, cores, inside, panels)
    else:
        begins = _begins(cores, starts, process)
        if method == "runs":
            counts = _counted(process, cores, begins, inside, runs, steps, relax, key, progress)
            arrays = counting.estimated(counts)
            counted = {"counts": counts.transitions.sum(axis=0), "spent": counts.spent.sum(axis=0)}
            config |= {"runs": str(runs), "steps": str(steps), "relax": str(relax)}
        else:
            sizes = {"walkers": walkers, "replicates": replicates, "relax": relax, "max_steps": max_steps}
            arrays = _split(process, cores, begins, inside, key, scores, progress, sizes)
            config |= {name: str(size) for name, size in sizes.items()}
    return _record(config, cores.names, *arrays, dt=getattr(process, "dt", 1.0), **counted)


def rates_from(
    path: Any,
    attractors: Any,
    *,
    radius: float | None = None,
    every: int | None = None,
    parts: int | None = None,
    dt: float = 1.0,
) -> Rates:
    """Rates between attractors from runs that were recorded, of whatever it was.

        k_ij = N_ij / T_i

    A step belongs to the attractor in whose core the run was last; steps before the first visit of any do not count.
    What happens between two records is not seen: keep records so dense that no visit is missed.

    Args:
        path: positions in order of time, shape (times, dim) or (runs, times, dim), or what `simulate` returned. A run
            ends where its positions are no longer finite
        attractors: as for :func:`flatdyn.escape.committor`, at least two
        radius: of the cores of what is a position
        every: steps from one record to the next; 1, or what the ensemble says, if not given
        parts: into which each run is cut: the standard errors are those of independent parts. If not given, 20 of a
            single run, 1 of several
        dt: time per step, which the result keeps
    Returns:
        Rates
    Raises:
        ValueError: if attractors overlap, an attractor is never visited, or the path has another shape
    """
    gaps = None
    if isinstance(path, Ensemble):
        gaps, path = np.diff(path.times), path.theta
    path = checks.entries("path", path, "positions, shape (times, dim) or (runs, times, dim)")
    if path.ndim not in (2, 3) or path.shape[-2] < 2:
        raise ValueError(f"path must have shape (times, dim) or (runs, times, dim), times >= 2, got {path.shape}")
    path = path if path.ndim == 3 else path[None]
    if every is not None or gaps is None:
        gaps = np.full(path.shape[1] - 1, checks.count("every", 1 if every is None else every, at_least=1))
    if parts is None:
        parts = min(_PARTS, path.shape[1] - 1) if len(path) == 1 else 1
    parts = checks.count("parts", parts, at_least=1, at_most=path.shape[1] - 1)
    dt = checks.number("dt", dt, above=0, one=True)
    cores = cores_of(attractors, path.shape[-1], radius, at_least=2)
    labels = cores.labels(path)
    counts = counting.recorded(labels, gaps, len(cores), parts)
    never = [name for name, spent in zip(cores.names, counts.spent.sum(axis=0), strict=True) if spent == 0]
    if never:
        raise ValueError(
            f"path never is in the core of {never[0]!r}: leave it out, or give a longer run or larger cores"
        )
    config = {"path": f"{path.shape[0]} runs of {path.shape[1]} records", "attractors": ", ".join(cores.names)}
    kept = {"counts": counts.transitions.sum(axis=0), "spent": counts.spent.sum(axis=0)}
    return _record(config, cores.names, *counting.estimated(counts), dt=dt, **kept)


def _record(config, names, rates, error, lost, *, counts, spent, dt) -> Rates:
    arrays = {"rates": rates, "error": error, "lost": lost, "counts": counts, "spent": spent, "dt": dt}
    arrays = {name: np.asarray(value, float) for name, value in arrays.items()}
    return Rates(config=config, provenance=records.provenance(), names=np.array(names), **arrays)


def _begins(cores: Cores, starts: Any, process: Process) -> np.ndarray:
    """A point in each core."""
    dim, given = process.dim, starts is not None
    starts = np.asarray(cores.centers) if starts is None else checks.entries("starts", starts, "points")
    if starts.shape != (len(cores), dim):
        raise ValueError(f"starts must have shape ({len(cores)}, {dim}), one in each core, got {starts.shape}")
    unknown = [name for name, start in zip(cores.names, starts, strict=True) if not np.isfinite(start).all()]
    if unknown:
        raise ValueError(f"starts must be given, a point in each core: the core of {unknown[0]!r} is a function")
    labels = cores.labels(starts)
    for i in np.flatnonzero(labels != np.arange(len(cores))) if given else ():
        raise ValueError(f"starts must be in their cores, but {starts[i]} is not in that of {cores.names[i]!r}")
    return starts.astype(precision.floating())


def _counted(process, cores, begins, inside, runs, steps, relax, key, progress) -> counting.Counts:
    runs, steps = checks.count("runs", runs, at_least=1), stepping.check_steps("steps", steps, at_least=1)
    relax, number = stepping.check_steps("relax", relax), len(cores)
    stepping.check_steps("relax + steps", relax + steps)
    each = memory.array_bytes(4, process.dim) + memory.array_bytes(2, number, number, itemsize=4) + _RUN_BYTES
    memory.check_memory(each * runs * number, "the runs", "ask for fewer `runs`")
    starts = np.repeat(begins, runs if process.random else 1, axis=0)
    limits = (precision.on_device(np.int32(x)) for x in (relax, steps))
    task = counting.Counting(*stepping.prepared((cores, region_of(inside, process.dim)), starts.dtype), *limits)
    seen = queues.run(process, starts, task, key=key, progress=progress)
    refuse_overlap(cores, seen.place[seen.ended == counting.OVERLAP])
    lost = (seen.ended == counting.LOST)[:, None] & (seen.last[:, None] == np.arange(number))
    never = [name for name, spent in zip(cores.names, seen.spent.sum(axis=0), strict=True) if spent == 0]
    if never:
        raise ValueError(f"no step is left that belongs to {never[0]!r}: take a smaller `relax`, or more `runs`")
    return counting.Counts(seen.transitions, seen.spent, lost)


def _split(process, cores, begins, inside, key, scores, progress, sizes) -> tuple:
    """Rates out of each attractor by splitting, shared among the others as the walkers that arrived are."""
    if not process.random:
        raise TypeError(f"only a random process goes from one attractor to another, got {process!r}")
    key = checks.key(key)
    scores = {} if scores is None else checks.mapping("scores", scores, "name of an attractor -> JAX function")
    if unknown := [name for name in scores if name not in cores.names]:
        raise ValueError(f"scores must be of attractors, {', '.join(map(repr, cores.names))}, got {unknown[0]!r}")
    region, number = region_of(inside, process.dim), len(cores)
    rates, error, lost = np.zeros((number, number)), np.zeros((number, number)), np.zeros(number)
    for i, (name, begin) in enumerate(zip(cores.names, begins, strict=True)):
        own = scores.get(name)
        if own is not None:
            check_score(f"scores[{name!r}]", own, process.dim)
        score = Advance(cores, i, region, own)
        climb = climbed(process, begin, score, jax.random.fold_in(key, i), levels=None, progress=progress, **sizes)
        ends = np.where(climb.reached, cores.labels(climb.ends), number)
        ends = np.where(climb.reached & (ends < 0), number + 1, ends)  # out of the region, or of the finite numbers
        arrived = np.maximum(climb.reached.sum(axis=1), 1)
        shares = np.stack([(ends == j).sum(axis=1) / arrived for j in (*range(number), number + 1)], axis=1)
        mean, sem = mean_sem_of(climb.rates[:, None] * shares)
        if not climb.rare:
            raise ValueError(
                f"runs leave {name!r} after about {1 / climb.rates.mean():.3g} steps, which is not rare: ask with "
                'method="runs"'
            )
        unseen = climb.rates.mean() * np.sqrt(0.5) / climb.reached.sum()  # as of half an arrival: none was seen
        rates[i], error[i], lost[i] = mean[:-1], np.maximum(sem[:-1], np.where(mean[:-1] > 0, 0.0, unseen)), mean[-1]
    np.fill_diagonal(error, 0.0)
    return rates, error, lost
