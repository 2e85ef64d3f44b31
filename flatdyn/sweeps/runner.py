"""One question asked in every cell of a grid of hyperparameters, with repetitions, and never twice.

    S = sweep(lambda rho, momentum: Iteration(L, SAM(lr, rho, momentum), noise), {"rho": …, "momentum": …}, ask, key)
    S.value.sel(momentum=0.9).plot()

Cells are independent of each other: the results of one depend on its own hyperparameters, so that a list of values
can grow and a sweep can be cut, stopped, continued and spread over machines without a change in the last bit.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from flatdyn.core import checks, memory, randomness, records, segments
from flatdyn.core.hashing import identity
from flatdyn.core.leases import Leases
from flatdyn.methods import ASAM, USAM, UnifiedSAM
from flatdyn.processes import Process
from flatdyn.sweeps import travel
from flatdyn.sweeps.asking import Question
from flatdyn.sweeps.engine import Asked, Gathering
from flatdyn.sweeps.grid import Results, Store, cell_keys, check_signature, plan
from flatdyn.sweeps.handing import Handing, check_executor, longest_first
from flatdyn.sweeps.manifest import Manifest, seconds_of
from flatdyn.sweeps.results import Layout
from flatdyn.sweeps.workers import Processes

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
    executor: Executor | None = None,
    workers: int | None = None,
) -> xr.Dataset:
    """Ask the same question of a process at many hyperparameters, with error bars.

        result(cell, s) = ask(make_process(**cell), key(cell, s)),   s = 0 … seeds − 1

    The key of a cell comes from `key`, the cell's own names and values, and s, by `jax.random.fold_in`. So a value
    that is added to a list, another order of the lists, or more seeds leave all other results as they were.

    Numbers of a method are arrays to the compiled program, so other values need no new one. What changes the shape of
    the state does, once: momentum 0 has no velocity. Make the landscape outside of `make_process`, or each cell
    compiles anew.

    With `workers` or an `executor` the cells are asked in other processes, here or on other machines, as these become
    free; the longest first, if the store knows how long they take. A worker that dies costs its cells another try on
    another worker. Workers compute as this process does: the same precision, versions and keys. The numbers are those
    of one process, bit for bit, where the processors are of one kind.

    Calls that share a `store` at the same time share the work: each does what no other has begun, and returns the
    whole. One that dies holds its cells for half a minute at most. So do the processes of a run after
    `jax.distributed.initialize()`, each of which makes the same call.

    An ask may answer many cells as one program. Then it has two methods: `batches(processes)` gives lists of indices
    of processes that can go together, `together(processes, keys)` the answers of such a list, in order. Cells of which
    this is not possible stand in a list alone.

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
        executor: who asks, any `concurrent.futures.Executor`: `Client(...).get_executor()` of Dask, loky's
            `get_reusable_executor()`, mpi4py's `MPIPoolExecutor`, those of executorlib; of the standard library
            `ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))`. It is not shut down. Functions and
            classes of a notebook travel to the workers; modules must be there. What the ask prints there and warns of
            is told here, but by workers with threads, as Dask's, in their own log
        workers: number of processes that this call starts on this machine instead. Each takes some seconds to start
            and compiles its own programs
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
        RuntimeError: if `ask` raises anything else; if two workers in turn die in the same cell; if a worker has other
            versions; if the executor is closed. What was finished before is in the store
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
    check_executor(executor, workers)
    if workers is not None:
        workers = checks.count("workers", workers, at_least=1)
    question = Question(make_process, ask, name)
    kept = None if store is None else Store(store, records.digest(identity(ask, version), name), version)
    if kept is None and jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes share a sweep through a folder that all of them see: give store="
        )
    asked = Asked([], [], {}, [])
    first, ascents = "", set()
    for cell in grid.cells:  # a bad value is refused now, not after hours
        process = question.built(cell, key)
        first = first or records.described(process)
        ascents.add(_ascent_unit(getattr(process, "method", None)))
        word = kept.word(process) if kept else ""
        travelling = "" if executor is None and workers is None else travel.of_process(process)
        for seed, of_cell in enumerate(cell_keys(key, cell, seeds, common)):
            header = kept.header(word, of_cell, cell, seed) if kept else None
            asked.add(cell, seed, header, of_cell, process if question.joins else None, travelling)
    known = KNOWN | {"rho": ("ascent radius ρ", ascents.pop() if len(ascents) == 1 else "")}
    config = {"process": first, "ask": getattr(ask, "__name__", repr(type(ask)))}
    config |= {"key": key_words, "seeds": str(seeds), "common": str(common)}
    layout = Layout(grid, seeds, dict(dims or {}), dict(units or {}), known)
    manifest = None
    if kept is not None:
        values = {name: np.asarray(values).tolist() for name, (_, values) in grid.coords.items()}
        about = {"ask": config["ask"], "process": first, "parameters": values, "seeds": seeds, "common": common}
        manifest = Manifest(kept.folder.path, records.digest(kept.ask, key_words), about | {"key": key_words})
    results = _carried_out(question, asked, kept, manifest, layout, progress, executor, workers)
    attrs = {"config": json.dumps(config), "provenance": json.dumps(_distinct([given for _, given in results]))}
    return layout.dataset([answer for answer, _ in results], attrs)


def _ascent_unit(method: Any) -> str:
    """In what ρ is measured; that of ASAM is a share of θ, that of UnifiedSAM between two units."""
    if isinstance(method, ASAM | UnifiedSAM):
        return ""
    return "theta per gradient" if isinstance(method, USAM) else "theta"


def _distinct(provenances: Sequence[dict]) -> Any:
    """The provenance of the cells; a list if they differ, as after an upgrade in the middle of a sweep."""
    texts = list(dict.fromkeys(json.dumps(one_cell, sort_keys=True) for one_cell in provenances))
    return json.loads(texts[0]) if len(texts) == 1 else [json.loads(text) for text in texts]


def _carried_out(
    question: Question,
    asked: Asked,
    store: Store | None,
    manifest: Manifest | None,
    layout: Layout,
    progress: bool | None,
    executor: Executor | None,
    workers: int | None,
) -> list[tuple[Results, dict]]:
    """Results and provenance of all cells and seeds, in order: from the store, from here, or from workers.

    Raises:
        ValueError, RuntimeError: that of a cell; and what :class:`flatdyn.sweeps.handing.Handing` raises
        OSError: if there is work to do and the store can't be written
    """
    rank, count = jax.process_index(), jax.process_count()
    with contextlib.ExitStack() as at_end:
        if store is not None:
            at_end.callback(store.finish)
            at_end.callback(manifest.write)
        bar = at_end.enter_context(segments.progress_bar(len(asked.tasks), "cells", progress if rank == 0 else False))
        work = Gathering(question, asked, store, manifest, layout, bar)
        left = work.read()
        if left and store is not None:
            store.prepare()
            work.leases = Leases(store.folder.path, secrets.token_hex(8))
            at_end.callback(work.leases.close)
        left.sort(key=lambda task: task.index % count != rank)  # of several processes each begins with its own share
        if executor is None and workers is None:
            work.here(work.units(left))
        elif left:
            most = None if workers is None else -(-len(left) // workers)
            units = longest_first(work.units(left, most), seconds_of(store.folder.path) if store else {})
            if executor is None:
                executor = Processes(min(workers, len(units)))
                at_end.callback(executor.shutdown, cancel_futures=True)
            Handing(work, executor).run(units)
    return [work.results[i] for i in range(len(asked.tasks))]
