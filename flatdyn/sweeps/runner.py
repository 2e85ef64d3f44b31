"""One question asked in every cell of a grid of hyperparameters, with repetitions, and never twice.

    S = sweep(lambda rho, momentum: Iteration(L, SAM(lr, rho, momentum), noise), {"rho": …, "momentum": …}, ask, key)
    S.value.sel(momentum=0.9).plot()

Cells are independent of each other: the results of one depend on its own hyperparameters, so that a list of values
can grow and a sweep can be cut, stopped, continued and spread over machines without a change in the last bit.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from flatdyn.core import checks, memory, randomness, records, segments
from flatdyn.core.hashing import identity
from flatdyn.methods import ASAM, USAM, UnifiedSAM
from flatdyn.processes import Process
from flatdyn.runs import stepping
from flatdyn.sweeps.grid import Results, Store, cell_key, check_signature, describe, plan
from flatdyn.sweeps.results import Layout, as_results
from flatdyn.sweeps.together import Meeting

if TYPE_CHECKING:
    import xarray as xr

KNOWN = {  # hyperparameter -> what it is, unit; that of ρ depends on the method
    "lr": ("step size η", "inverse curvature"),
    "momentum": ("momentum μ", "1"),
    "eps": ("smoothing ε of the norm", "gradient"),
    "batch_size": ("batch size B", "examples"),
    "scale": ("standard deviation of one example's gradient", "gradient"),
}


def sweep(
    make_process: Callable[..., Process],
    parameters: Mapping[str, Iterable] | Sequence[Mapping[str, Any]],
    ask: Callable[[Process, jax.Array | None], Any],
    key: jax.Array | None = None,
    *,
    seeds: int = 1,
    common: bool = False,
    name: str = "value",
    dims: Mapping[str, Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
    store: str | Path | None = None,
    version: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Ask the same question of a process at many hyperparameters, with error bars.

        result(cell, s) = ask(make_process(**cell), key(cell, s)),   s = 0 … seeds − 1

    The key of a cell comes from `key`, the cell's own names and values, and s, by `jax.random.fold_in`. So a value
    that is added to a list, another order of the lists, or more seeds leave all other results as they were.

    Numbers of a method are arrays to the compiled program, so other values need no new one. What changes the shape of
    the state does, once: momentum 0 has no velocity. Make the landscape outside of `make_process`, or each cell
    compiles anew.

    After `jax.distributed.initialize()` every process of the run makes the same call, with a `store` that all of them
    see, computes every n-th cell on its own devices, and returns the whole. Its numbers are those of one process, bit
    for bit.

    Args:
        make_process: the process at the hyperparameters of a cell, which it takes by name. It is called for all cells
            before the first question is asked, so that a bad value is refused at once
        parameters: lists of numbers, of texts, or of True and False, by name: the grid is their full product. Or a
            list of points, each a dict name -> value
        ask: (process, key) -> a number, an array, (value, stderr), (value, stderr, censored), a NamedTuple with `value`
            among its fields, or a dict that gives several of these names; the same names and shapes in all cells. NaN
            is kept, and counted in the attributes
        key: a JAX key; needed if a process is random, or for more than one seed
        seeds: repetitions of each cell with independent keys
        common: the same keys in all cells, which makes the errors of differences between cells smaller
        name: of a result to which the ask gives none
        dims: result -> names of the dimensions of its array; `name_0, name_1, …` if not given
        units: units of results and hyperparameters; those of lr, rho, momentum, eps, batch_size, scale are known
        store: a folder that keeps every finished cell and seed; the same call goes on from there. Without it an
            interruption loses everything
        version: a text that stands for the values `ask` reaches, and for what can't be seen of a process, if the store
            cannot tell them apart; change it with them. If not given, a change in the code of `ask`, of a variable
            that it uses, or of anything in the process, boxes included, makes the cells anew
        progress: show a bar; if not given, after two seconds
    Returns:
        Dataset with a dimension for each hyperparameter (or `point`, with the hyperparameters along it) and for each
        result x:

        * x: the result; for several seeds their mean
        * x_stderr: standard error of x. One seed: as the ask gave it. Several: from the spread of the seeds,
          √(Σ (xₛ − x)² / (n (n − 1))), to be used with Student's t of n − 1 degrees of freedom. It includes the
          randomness within runs as well
        * x_within: several seeds: the error that the ask's own errors let expect, √(Σ sₛ²) / n. Where x_stderr is
          larger by more than chance, the ask's error misses something
        * x_censored: as the ask gave it, or the mean over seeds
        * x_seeds: several seeds: all of them, along the dimension `seed`
        * x_lower, …: other fields of a NamedTuple; several seeds: x_lower_seeds, …

        Attributes `config` and `provenance` (what the cells were computed with, a list if that changed) are JSON texts
    Raises:
        ValueError: if a list of values is empty, repeats itself or is not finite; if `make_process` does not take a
            name or refuses a value; if a key is missing; if cells give different names or shapes; in each case saying
            where. If `ask` raises ValueError
        RuntimeError: if `ask` raises anything else. What was finished before is in the store
        OSError: if the store can't be written, before anything is asked; later on that is a warning
    """
    checks.function("make_process", make_process, "a function from hyperparameters to a Process")
    checks.function("ask", ask, "a function of a process and a key", 2)
    checks.flag("common", common)
    checks.text("name", name)
    seeds = checks.count("seeds", seeds, at_least=1)
    for what, given in (("dims", dims), ("units", units)):
        checks.mapping(what, {} if given is None else given, "result -> names" if what == "dims" else "name -> unit")
    grid = plan(parameters)
    memory.check_memory(len(grid.cells) * seeds * 1024, "the results", "ask for fewer `seeds`, or smaller `parameters`")
    check_signature(make_process, grid.cells[0])
    if key is None and seeds > 1:
        raise ValueError(f"{seeds} seeds need key=jax.random.key(0), or another seed")
    key_words = "" if key is None else np.asarray(randomness.seed_words(key)).tobytes().hex()
    first, ascents = "", set()
    for cell in grid.cells:  # a bad value is refused now, not after hours
        process = _built(make_process, cell, key)
        first = first or records.described(process)
        ascents.add(_ascent_unit(getattr(process, "method", None)))
    known = KNOWN | {"rho": ("ascent radius ρ", ascents.pop() if len(ascents) == 1 else "")}
    config = {"process": first, "ask": getattr(ask, "__name__", repr(type(ask)))}
    config |= {"key": key_words, "seeds": str(seeds), "common": str(common)}
    kept = None if store is None else Store(store, records.digest(identity(ask, version), name), version)
    layout = Layout(grid, seeds, dict(dims or {}), dict(units or {}), known)
    work = [(cell, seed) for cell in grid.cells for seed in range(seeds)]
    try:
        results = _Run(make_process, ask, key, work, common, name, kept).all(layout, progress)
    finally:
        if kept is not None:
            kept.finish()
    attrs = {"config": json.dumps(config), "provenance": json.dumps(_distinct([given for _, given in results]))}
    return layout.dataset([answer for answer, _ in results], attrs)


def _ascent_unit(method: Any) -> str:
    """In what ρ is measured; that of ASAM is a share of θ, that of UnifiedSAM between two units."""
    if isinstance(method, ASAM | UnifiedSAM):
        return ""
    return "theta per gradient" if isinstance(method, USAM) else "theta"


def _built(make_process: Callable, cell: Mapping[str, Any], key: jax.Array | None) -> Process:
    with _blame("make_process", cell):
        process = make_process(**cell)
        if not isinstance(process, Process):
            raise ValueError(f"it must return a Process, got {type(process)}")
        stepping.check_key(process, key)
    return process


@contextlib.contextmanager
def _blame(who: str, cell: Mapping[str, Any], seed: int | None = None):
    """Errors that say in which cell they happened."""
    where = f"{who}, in the cell {describe(cell, seed)}"
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except Exception as error:
        raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error


def _distinct(provenances: Sequence[dict]) -> Any:
    """The provenance of the cells; a list if they differ, as after an upgrade in the middle of a sweep."""
    texts = list(dict.fromkeys(json.dumps(one_cell, sort_keys=True) for one_cell in provenances))
    return json.loads(texts[0]) if len(texts) == 1 else [json.loads(text) for text in texts]


# --- running, on one process or several -----------------------------------------------------------------------


@dataclass
class _Run:
    """One call's question and work."""

    make_process: Callable
    ask: Callable
    key: jax.Array | None
    work: list[tuple[dict, int]]
    common: bool
    name: str
    kept: Store | None

    def all(self, layout: Layout, progress: bool | None) -> list[tuple[Results, dict]]:
        """Answer and provenance of every cell and seed, in order, from all processes."""
        rank, count = jax.process_index(), jax.process_count()
        if count == 1:
            return list(self.share(range(len(self.work)), layout, progress).values())
        if self.kept is None:
            raise ValueError(f"{count} processes share a sweep through a folder that all of them see: give store=")
        word = records.digest(*(describe(*item) for item in self.work), str(self.key))
        meeting = Meeting(self.kept.folder.path, word)
        try:
            results = self.share(range(rank, len(self.work), count), layout, progress)
            self.kept.check_complete()
        except Exception as error:  # the others wait, and learn of it before it is raised
            meeting.tell(str(error))
            raise RuntimeError(f"process {rank}: {error}") from error
        except BaseException:
            meeting.tell("interrupted")
            raise
        places = {i: self.kept.header(*self._asked(*self.work[i]), *self.work[i]) for i in range(len(self.work))}

        def missing() -> bool:
            for i in places.keys() - results.keys():
                if self.kept.there(places[i]) and (kept := self.kept.read(places[i])) is not None:
                    results[i] = kept
            return len(results) < len(places)

        meeting.wait(missing)
        meeting.leave()
        return [results[i] for i in range(len(self.work))]

    def share(self, numbers: range, layout: Layout, progress: bool | None) -> dict[int, tuple[Results, dict]]:
        """Answers and provenance of some of the work, by index."""
        results = {}
        with segments.progress_bar(len(numbers), "cells", progress if jax.process_index() == 0 else False) as bar:
            for i in numbers:
                results[i] = self.one(*self.work[i])
                with _blame("ask", *self.work[i]):
                    layout.check(results[i][0])
                bar.update()
        return results

    def _asked(self, cell: dict, seed: int) -> tuple[Process, jax.Array | None]:
        """The process and the key of a cell."""
        return _built(self.make_process, cell, self.key), cell_key(self.key, cell, seed, self.common)

    def one(self, cell: dict, seed: int) -> tuple[Results, dict]:
        """From its file if it is there, else asked and kept at once."""
        process, key = self._asked(cell, seed)
        header = self.kept.header(process, key, cell, seed) if self.kept else None
        before = self.kept.read(header) if self.kept else None
        if before is not None:
            return before
        if self.kept:
            self.kept.prepare()
        with _blame("ask", cell, seed):
            result = as_results(self.ask(process, key), self.name)
        provenance = records.provenance()
        if self.kept:
            self.kept.write(header, result, provenance)
        return result, provenance
