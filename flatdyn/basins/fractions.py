"""Basin fractions as a parameter varies, with the same name for the same attractor all along.

    curve = fractions_in(lambda rho: Iteration(L, SAM(lr, rho)), "rho", values, box)
    curve.fractions        shape (values, names): attractors, then diverged, undecided

At each value the attractors are discovered anew (or are the ones you give) and matched with those at the value before,
by their positions or by their basins. So a name, and its colour in a plot, stays with one attractor. An attractor that
disappears keeps its name, with a fraction of zero, and has it again if it returns to where it was.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from flatdyn.basins.attractors import Attractor, digests, unused
from flatdyn.basins.labels import Labels, Sample
from flatdyn.basins.mapper import Mapper, as_mapper
from flatdyn.basins.maps import basin_fractions, draw_starts
from flatdyn.basins.matching import match_attractors, match_by_overlap
from flatdyn.basins.searches import extent
from flatdyn.core import checks, records, stores
from flatdyn.core.hashing import of_object
from flatdyn.core.records import Record
from flatdyn.core.segments import progress_bar
from flatdyn.core.statistics import binomial_error
from flatdyn.processes import Process
from flatdyn.runs import fingerprints


@dataclass(frozen=True, eq=False, repr=False)
class FractionCurve(Record):
    """Basin fractions against a parameter; see :func:`fractions_in`.

    Attributes:
        parameter: values, shape (values,)
        names: of attractors and regions in order of appearance, then "diverged", "undecided", shape (names,)
        fractions, stderr: shares and their binomial standard errors, shape (values, names)
        theta: positions of the attractors, NaN where one does not exist, shape (values, names, dim)
        kinds: of the attractors, "" where one does not exist, shape (values, names)
    """

    parameter: np.ndarray
    names: np.ndarray
    fractions: np.ndarray
    stderr: np.ndarray
    theta: np.ndarray
    kinds: np.ndarray
    _form: ClassVar = {
        "parameter": "fiu values",
        "names": "U names",
        "fractions": "fiu values names",
        "stderr": "fiu values names",
        "theta": "fiu values attractors dim",
        "kinds": "U values attractors",
    }
    _units: ClassVar = {"fractions": "1", "stderr": "1", "parameter": ""}

    def __getitem__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Fraction and standard error of one name, each of shape (values,)."""
        names = list(self.names)
        if name not in names:
            raise KeyError(f"{name!r} is none of {', '.join(names)}")
        return self.fractions[:, names.index(name)], self.stderr[:, names.index(name)]

    def of_kind(self, *kinds: str) -> tuple[np.ndarray, np.ndarray]:
        """Share of the starts that end at attractors of these kinds, and its error, each of shape (values,)."""
        for kind in kinds:
            checks.text("kind", kind)
        share = np.where(np.isin(self.kinds, kinds), self.fractions, 0).sum(axis=1)
        runs = int(self.config["runs"])
        return share, binomial_error(share * runs, runs)

    def at(self, value: float, *kinds: str) -> tuple[float, float]:
        """The same at one value of the parameter.

        Raises:
            ValueError: if the curve has no such value
        """
        value = checks.number("value", value, one=True)
        places = np.flatnonzero(np.isclose(self.parameter, value, rtol=1e-9, atol=0))  # 0.3 may be 0.1 + 0.2
        if not len(places):
            known = ", ".join(f"{one:g}" for one in self.parameter)
            raise ValueError(f"value must be one at which the curve was computed, {known}; got {value:g}")
        share, error = self.of_kind(*kinds)
        return float(share[places[0]]), float(error[places[0]])

    def __repr__(self) -> str:
        what = self.config["parameter"]
        span = f"{what} = {self.parameter[0]:g} to {self.parameter[-1]:g}"
        return f"FractionCurve({len(self.parameter)} values, {span}: {', '.join(self.names)})"


def fractions_in(
    make_process: Callable[[float], Process | Mapper],
    parameter: str,
    values: Sequence[float],
    sampler: Any,
    runs: int,
    key: jax.Array,
    attractors: Any = None,
    *,
    matching: str = "distance",
    reach: float | None = None,
    max_steps: int = 20_000,
    radius: float | None = None,
    tol: float | None = None,
    stay: int | None = None,
    check_every: int = 10,
    bound: float = 1e6,
    chunk: int | None = None,
    progress: bool | None = None,
    store: str | Path | None = None,
    version: str | None = None,
) -> FractionCurve:
    """Shares of random starts that reach each attractor, at each value of a parameter.

    The starts are the same at all values, so that differences along the curve have smaller errors than its points.

    Args:
        make_process: the process at a value of the parameter (ρ, lr, momentum, a landscape parameter), or a
            :class:`flatdyn.basins.Mapper` of it
        parameter: its name, for records and axes
        values: where to look, in the order in which attractors are matched
        sampler, runs, key: as for :func:`flatdyn.basin_fractions`
        attractors: as there; or a function of the value that returns them
        matching: which attractor is which at the next value: "distance", by their positions, or "overlap", by the
            starts that both drew in; see :mod:`flatdyn.basins.matching`
        reach: by distance: attractors at neighbouring values are the same if not further apart than this; a tenth of
            the diagonal of the box that the starts fill if not given
        progress: show a bar; if not given, after two seconds
        store: a folder that keeps every finished value; the same call goes on from there
        version: a text that stands for what `store` can't see of the process or of a region, such as a callback
        max_steps, …: as for :func:`flatdyn.map_basins`
    Returns:
        FractionCurve
    Raises:
        ValueError: as for :func:`flatdyn.basin_fractions`; if there are no values, or `reach` is not positive
    """
    if callable(attractors):
        checks.function("attractors", attractors, "attractors, or a function from a value to attractors", 1)
    checks.function("make_process", make_process, "a function from a value to a Process", 1)
    checks.text("parameter", parameter)
    checks.key(key)
    values = np.atleast_1d(np.asarray(checks.number("values", values), dtype=float))
    if len(values) == 0:
        raise ValueError(f"values of {parameter} must hold at least one number")
    checks.choice("matching", matching, ("distance", "overlap"))
    if reach is not None:
        reach = checks.number("reach", reach, above=0, one=True)
    kept, samples = None if store is None else _Kept(store, version), []
    try:
        with progress_bar(len(values), "values", progress) as bar:
            for value in values:
                process = checks.called("make_process", make_process, float(value))
                ends = checks.called("attractors", attractors, float(value)) if callable(attractors) else attractors
                mapper = as_mapper(
                    process,
                    ends,
                    max_steps=max_steps,
                    radius=radius,
                    tol=tol,
                    stay=stay,
                    check_every=check_every,
                    bound=bound,
                )
                call = functools.partial(basin_fractions, mapper, sampler, runs, key, chunk=chunk, progress=False)
                samples.append(call() if kept is None else kept.get(mapper, sampler, runs, key, call))
                bar.update()
    finally:
        if kept is not None:
            kept.folder.finish()
    reach = extent(process, samples[0].starts, lambda: samples[0].final) / 10 if reach is None else reach
    config = {"parameter": parameter, "runs": str(runs), "matching": matching, "reach": f"{reach:g}"}
    config |= samples[0].config
    return FractionCurve(
        config=config, provenance=records.provenance(), parameter=values, **_joined(samples, matching, reach)
    )


class _Kept:
    """The samples of finished values, each in a file that is named by what it depends on."""

    def __init__(self, store: Any, version: str | None):
        self.folder, self.version = stores.Folder(store, "sample"), version

    def get(self, mapper: Mapper, sampler, runs, key, draw: Callable[[], Sample]) -> Sample:
        """One value's sample, from its file if it is there, else drawn and kept."""
        word = self._word(mapper, draw_starts(mapper.process, sampler, runs, key), sampler, key)
        header = {"record": Sample.__name__, "fingerprint": word}
        before = self.folder.read(word[:32], header)
        if before is not None:
            try:
                return Sample.from_arrays(before[0], header | before[1], self.folder.file(word[:32]))
            except ValueError as error:
                self.folder.refuse(error)
        self.folder.prepare()
        sample = draw()
        self.folder.write(word[:32], sample.arrays(), sample.header() | header)
        return sample

    def _word(self, mapper: Mapper, starts: np.ndarray, sampler, key) -> str:
        """What the sample depends on."""
        process, (points, regions) = mapper.process, mapper.ends or ([], [])
        box = "drawn" if callable(sampler) else np.asarray(sampler, float)  # the box says what is near
        ends = digests(points, regions, process.dim, starts.dtype, self.version)
        rules = (mapper.ends is None, *mapper.rules, mapper.radius)
        how = of_object(rules, "the rules", self.version)
        moves = fingerprints.of_process(process, starts.dtype, self.version)
        return records.digest(moves, how, starts, box, fingerprints.of_key(key), *ends)


def _joined(samples: list[Labels], matching: str, reach: float) -> dict[str, np.ndarray]:
    """Arrays over values and names, with attractors matched from value to value."""
    known: list[Attractor] = []  # by column, where each was seen last
    regions: list[str] = []
    rows = []
    for sample in samples:
        present = sample.attractors
        if matching == "distance":
            columns = match_attractors(known, present, reach)
        else:
            columns = match_by_overlap(*(rows[-1] if rows else (sample, [])), sample, len(known))
        for attractor, column in zip(present, columns, strict=True):
            if column == len(known):
                known.append(dataclasses.replace(attractor, name=unused(attractor.name, known)))
            else:
                known[column] = dataclasses.replace(attractor, name=known[column].name)
        regions += [str(name) for name in sample.names[len(present) :] if str(name) not in regions]
        rows.append((sample, columns))
    names = [attractor.name for attractor in known] + regions + ["diverged", "undecided"]
    shape = len(samples), len(names)
    fractions, stderr = np.zeros(shape), np.full(shape, binomial_error(0, samples[0].labels.size))
    theta, kinds = np.full((*shape, samples[0].final.shape[-1]), np.nan), np.full(shape, "", dtype="U16")
    for i, (sample, columns) in enumerate(rows):
        shares, errors = sample.fractions(), sample.errors()
        for attractor, column in zip(sample.attractors, columns, strict=True):
            theta[i, column], kinds[i, column] = attractor.theta, attractor.kind
        others = range(len(known), len(names))
        for j, name in [*zip(columns, sample.names, strict=False), *((j, names[j]) for j in others)]:
            fractions[i, j], stderr[i, j] = shares.get(str(name), 0.0), errors.get(str(name), 0.0)
    return {"names": np.array(names), "fractions": fractions, "stderr": stderr, "theta": theta, "kinds": kinds}
