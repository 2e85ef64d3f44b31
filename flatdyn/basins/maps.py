"""Where does it end? Labels of starting points by the attractor that their runs reach.

    B = map_basins(process, box, 400)                      every point of a grid, attractors discovered from the runs
    B = map_basins(process, box, 400, attractors=points)   … by attractors that you name
    S = basin_fractions(process, box, 10_000, key)         random starts instead of a grid, in any dimension
    B.fractions(), B.errors()                              name -> share of the starts, and its binomial error

Entropies and dimensions of the boundaries in a map are computed by :mod:`flatdyn.boundaries`, and fractions as a
parameter varies by :mod:`flatdyn.basins.fractions`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.basins.labels import Basins, Sample
from flatdyn.basins.mapper import Mapper, as_mapper
from flatdyn.basins.searches import labelled
from flatdyn.core import checks, memory
from flatdyn.core.memory import array_bytes
from flatdyn.processes import Process


def map_basins(
    process: Process | Mapper,
    box: Any = None,
    resolution: int | Sequence[int] = 201,
    attractors: Any = None,
    *,
    axes: Sequence[int] | None = None,
    at: Any = None,
    max_steps: int = 20_000,
    radius: float | None = None,
    tol: float | None = None,
    stay: int | None = None,
    check_every: int = 10,
    bound: float = 1e6,
    key: jax.Array | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
    store: str | Path | None = None,
    version: str | None = None,
) -> Basins:
    """Which attractor is reached from each point of a grid, at rest.

    A run ends at the first of these, tested every `check_every` steps:

    * DIVERGED: a coordinate has left `bound`, or a number of the state is not finite (tested at every step);
    * CONVERGED: it has been near an attractor for `stay` steps and is inside its trap, a ball that test runs do not
      leave (:func:`flatdyn.basins.attractors.targets`); or it has entered an absorbing region;
    * it no longer moves, or has taken `max_steps`: then CONVERGED if within `radius` of an attractor or in a region,
      else UNDECIDED.

    A saddle's basin therefore includes runs that merely have not left it by `max_steps`. Increase `max_steps` for small
    steps, and for grids that contain the stable manifold.

    Args:
        process: what moves, or a :class:`flatdyn.basins.Mapper`, which has its attractors and rules; if random, run r
            draws with (key, r)
        box: range of each axis, ((lower, upper), ...); the process's own if not given
        resolution: points on each axis, or one number for all; both ends are points
        attractors: positions, CriticalPoint, FixedPoint, Attractor or Region objects, or a dict name -> position or
            function θ -> bool; discovered from the runs if not given
        axes: which coordinates vary, for a slice through a space of more dimensions; all if not given
        at: values of the other coordinates, shape (dim,)
        max_steps, radius, tol, stay, check_every, bound: the rules of the search, see :class:`flatdyn.basins.Mapper`
        key: a JAX key, if the process is random
        chunk: runs that advance together on a device; no result depends on it
        progress: show a bar; if not given, after two seconds
        store: a folder that keeps finished points; the same call goes on from there after an interruption
        version: a text that stands for what `store` can't see of the process or of a region, such as a callback
    Returns:
        Basins
    Raises:
        ValueError: if box, resolution, axes, at, an attractor or a rule does not fit, or the map does
            not fit into memory; if `store` is a file, or what it holds is damaged
        OSError: if `store` can't be written, before the first step; later on that is a warning
    """
    mapper = as_mapper(
        process,
        attractors,
        max_steps=max_steps,
        radius=radius,
        tol=tol,
        stay=stay,
        check_every=check_every,
        bound=bound,
    )
    process = mapper.process
    if axes is not None:
        axes = [checks.count("axes", axis) for axis in checks.sequence("axes", axes, "whole numbers")]
    axes, at = _slice(process, axes, at)
    box = process.box if box is None and len(axes) == process.dim else box
    if box is None:
        raise ValueError("basins are mapped over a box: give box=((lower, upper), ...), one pair per axis")
    box = checks.box(box, len(axes))
    several = isinstance(resolution, Sequence | np.ndarray | jax.Array) and getattr(resolution, "ndim", 1)
    counts = list(resolution) if several else [resolution] * len(axes)
    if len(counts) != len(axes):
        raise ValueError(f"resolution must be one number or {len(axes)}, one per axis, got {checks.shown(resolution)}")
    counts = [checks.count("resolution", count, at_least=2) for count in counts]
    _check_memory(process, math.prod(counts), "the map", "map fewer points, with a smaller `resolution`")
    starts = _grid(box, counts, axes, at)
    shape = tuple(reversed(counts))
    fields = labelled(mapper, starts, box, key, chunk, progress, (store, version))
    fields |= {
        name: fields[name].reshape(*shape, *fields[name].shape[1:]) for name in ("labels", "steps", "status", "final")
    }
    return Basins(box=np.array(box), axes=np.array(axes), at=at, **fields)


def basin_fractions(
    process: Process | Mapper,
    sampler: Any,
    runs: int,
    key: jax.Array,
    attractors: Any = None,
    *,
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
) -> Sample:
    """Which share of random starts reaches each attractor, with its standard error: basins in any dimension.

    Args:
        process: what moves, or a :class:`flatdyn.basins.Mapper`
        sampler: a box, for uniform starts, or a function (key, runs) -> starts of shape (runs, dim)
        runs: number of starts
        key: a JAX key, for the starts and for a process that is random
        attractors, max_steps, …: as for :func:`map_basins`; the default radius is taken from the box the starts fill
            or, if they are all at one place, from the process's own or from how far the runs go
    Returns:
        Sample
    Raises:
        ValueError: as for :func:`map_basins`, or if the sampler returns another shape
    """
    mapper = as_mapper(
        process,
        attractors,
        max_steps=max_steps,
        radius=radius,
        tol=tol,
        stay=stay,
        check_every=check_every,
        bound=bound,
    )
    checks.key(key)
    starts = draw_starts(mapper.process, sampler, runs, key)
    box = None if callable(sampler) else sampler
    return Sample(starts=starts, **labelled(mapper, starts, box, _moving(key), chunk, progress, (store, version)))


def draw_starts(process: Process, sampler: Any, runs: int, key: jax.Array) -> np.ndarray:
    """The starts of :func:`basin_fractions`, shape (runs, dim); arguments and errors as there."""
    checks.kind("process", process, Process)
    checks.key(key)
    runs = checks.count("runs", runs, at_least=1)
    _check_memory(process, runs, "the runs", "ask for fewer `runs`, with several keys one after the other")
    starting = jax.random.split(key)[0]
    if not callable(sampler):
        low, high = np.array(checks.box(sampler, process.dim)).T
        return np.asarray(jax.random.uniform(starting, (runs, process.dim), minval=low, maxval=high))
    checks.function("sampler", sampler, "a box, or a function of a key and a number", 2)
    starts = checks.points("what the sampler returns", sampler(starting, runs), process.dim)
    if starts.shape != (runs, process.dim):
        raise ValueError(f"the sampler must return shape ({runs}, {process.dim}), got {starts.shape}")
    return np.asarray(starts)


def _moving(key: jax.Array) -> jax.Array:
    """The key with which a random process moves; the other half draws the starts."""
    return jax.random.split(key)[1]


def basin_stability(
    process: Process | Mapper,
    attractor: Any,
    sampler: Any,
    runs: int,
    key: jax.Array,
    *,
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
) -> tuple[float, float]:
    """Probability that a run from a random start ends at one attractor (Menck et al., Nature Physics 9, 89 (2013)).

        S = P(run from θ₀ ends at the attractor),   θ₀ from `sampler`

    Args:
        process, sampler, runs, key: as for :func:`basin_fractions`
        attractor: a position, CriticalPoint, FixedPoint, Attractor or Region; of a Mapper that has attractors of its
            own, the name of one of them
        max_steps, …: as for :func:`map_basins`
    Returns:
        S and its standard error (:func:`flatdyn.statistics.binomial_error`)
    Raises:
        ValueError: as for :func:`basin_fractions`, or if a Mapper has no attractor of that name
    """
    mapper = as_mapper(
        process,
        max_steps=max_steps,
        radius=radius,
        tol=tol,
        stay=stay,
        check_every=check_every,
        bound=bound,
    )
    if mapper.ends is None:
        mapper = dataclasses.replace(mapper, attractors=[attractor])
        name = [*mapper.ends[0], *mapper.ends[1]][0].name
    else:
        names = [end.name for some in mapper.ends for end in some]
        name = checks.choice("attractor", attractor, names)
    sample = basin_fractions(mapper, sampler, runs, key, chunk=chunk, progress=progress, store=store, version=version)
    return sample.fractions()[name], sample.errors()[name]


# --- the parts ------------------------------------------------------------------------------------------------


def _slice(process: Process, axes: Sequence[int] | None, at: Any) -> tuple[tuple[int, ...], np.ndarray]:
    if axes is None:
        if process.dim > 3:
            raise ValueError(
                f"a grid over {process.dim} coordinates has too many points: map a slice with axes=(0, 1) and at=θ, "
                "or use basin_fractions"
            )
        return tuple(range(process.dim)), np.zeros(process.dim)
    axes = tuple(checks.count("axes", axis) for axis in axes)
    if len(set(axes)) != len(axes) or not axes or max(axes) >= process.dim:
        raise ValueError(f"axes must be different coordinates out of 0 … {process.dim - 1}, got {axes}")
    if at is None:
        raise ValueError(f"a slice needs the values of the other coordinates: give at=θ, shape ({process.dim},)")
    at = np.asarray(checks.points("at", np.asarray(at, dtype=float), process.dim))
    if at.ndim != 1:
        raise ValueError(f"at must have shape ({process.dim},), got {at.shape}")
    return axes, at


def _grid(box: Any, counts: list[int], axes: tuple[int, ...], at: np.ndarray) -> np.ndarray:
    """Points of the grid, the first axis fastest, shape (points, dim)."""
    kind = jnp.zeros(0).dtype
    mesh = np.meshgrid(*[np.linspace(*side, n) for side, n in zip(box, counts, strict=True)][::-1], indexing="ij")
    starts = np.tile(at.astype(kind), (mesh[0].size, 1))
    for axis, values in zip(axes, reversed(mesh), strict=True):
        starts[:, axis] = values.ravel()
    return starts


def _check_memory(process: Process, runs: int, what: str, remedy: str) -> None:
    """Starts, ends, and copies of them on their way; labels, steps, status, and whether they are finished."""
    number = array_bytes(6, process.dim, itemsize=jnp.zeros(0).dtype.itemsize) + 64
    memory.check_memory(runs * number, what, remedy)
