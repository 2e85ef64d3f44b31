"""Processes that differ in numbers only, side by side in one program: the cells of a sweep as one ensemble.

    for group in batches(processes): …            which of them can go together
    cohort = joined(processes, keys, runs, dtype)  a process like any other, for chunks, queues and devices
    starts = cohort.starts(theta0)                 `runs` of each process, one process after the other

A run carries the numbers of its own process in its state, and draws what it would draw if its process were alone: with
the key of that process, by its number among the runs of that process. So what becomes of it does not depend on which
processes are beside it, nor on how many. For points in the plane, and all whose coordinates are kept one by one, that
holds to the last bit; networks agree to rounding, as XLA chooses the order of a sum by what lies beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks, precision, randomness, records
from flatdyn.processes import Process
from flatdyn.runs import stepping

_SMALL = 16  # numbers of an array up to which each run carries its own
_ROWS, _GROWTH = 64, 8  # tables of few sizes: others would be other programs
_MOST_RUNS, _MOST_BYTES = 1 << 17, 1 << 23  # of positions of a batch: beyond, more would be no faster


class CohortState(NamedTuple):
    """State of a run of a cohort.

    Attributes:
        inner: of its process
        numbers: of its process, a tuple of arrays
        words: what is added to the words of a key, so that it becomes the key of its process, a tuple
        row: which process it is, as a number of the type of the coordinates
    """

    inner: Any
    numbers: tuple
    words: tuple
    row: jax.Array


class Cohort(Process):
    """Processes of one form; made by :func:`joined`. A position is that of the process, and behind it the row.

    Attributes:
        numbers: small arrays of floating numbers of all processes, with the rows in front
        words: added to the words of keys, shape (rows, 2)
        shared: what all of them have in common: all other leaves
        tree: the structure of one of them
        places: which leaves the numbers are
        size: how many processes; further rows are empty
        runs: of each process
    """

    numbers: tuple
    words: jax.Array
    shared: tuple
    tree: Any = eqx.field(static=True)
    places: tuple[int, ...] = eqx.field(static=True)
    size: int = eqx.field(static=True)
    runs: int = eqx.field(static=True)
    inner_dim: int = eqx.field(static=True)
    inner_random: bool = eqx.field(static=True)

    @property
    def dim(self) -> int:
        return self.inner_dim + 1

    @property
    def random(self) -> bool:
        return self.inner_random

    @property
    def box(self) -> None:
        return None

    def starts(self, theta: np.ndarray) -> np.ndarray:
        """Starts of all runs from those of one process, shape (runs, dim of the process)."""
        rows = np.repeat(np.arange(self.size), len(theta)).astype(theta.dtype)
        return np.concatenate([np.tile(theta, (self.size, 1)), rows[:, None]], axis=1)

    def slices(self) -> list[slice]:
        """Where the runs of each process are."""
        return [slice(i * self.runs, (i + 1) * self.runs) for i in range(self.size)]

    def init(self, theta):
        row = theta[-1].astype(jnp.int32)
        numbers = tuple(table[row] for table in self.numbers)
        words = self.words[row, 0], self.words[row, 1]
        return CohortState(self._process(numbers).init(theta[:-1]), numbers, words, theta[-1])

    def step(self, state, key=None):
        key = None if key is None else randomness.shifted(key, state.words)
        return state._replace(inner=self._process(state.numbers).step(state.inner, key))

    def position(self, state):
        return jnp.append(self._process(state.numbers).position(state.inner), state.row)

    def coordinates(self, state):
        return self._process(state.numbers).coordinates(state.inner)

    def beside(self, state):
        return self._process(state.numbers).beside(state.inner)

    def possible(self, state):
        return self._process(state.numbers).possible(state.inner)

    def _process(self, numbers: tuple) -> Process:
        leaves, rest = [], iter(self.shared)
        own = dict(zip(self.places, numbers, strict=True))
        for place in range(len(self.places) + len(self.shared)):
            leaves.append(own[place] if place in own else next(rest))
        return jax.tree.unflatten(self.tree, leaves)


class Within(eqx.Module):
    """A test of θ, shape (dim,), as one of a position of a cohort."""

    test: Callable

    def __call__(self, z):
        return self.test(z[:-1])


# --- which can go together --------------------------------------------------------------------------------------


def batches(processes: Sequence[Process], runs: int = 1, theta0: Any = None) -> list[list[int]]:
    """Which processes can go together, as lists of their indices; each list in order, and not larger than pays.

    Args:
        processes: any
        runs: of each of them
        theta0: their starts, which say how much memory a run takes
    """
    groups: dict[Any, list[int]] = {}
    for i, form in enumerate(_forms(processes)):
        groups.setdefault(form, []).append(i)
    width = np.shape(theta0)[-1] if np.ndim(theta0) else 1
    most = max(1, min(_MOST_RUNS, _MOST_BYTES // (8 * width)) // runs)
    return [group[first : first + most] for group in groups.values() for first in range(0, len(group), most)]


def _forms(processes: Sequence[Process]) -> list[Any]:
    """The form of each; repetitions of one cell are the same process."""
    first = {id(process): i for i, process in reversed(list(enumerate(processes)))}
    own = {i: _form(processes[i], i) for i in first.values()}
    return [own[first[id(process)]] for process in processes]


def _form(process: Process, index: int) -> Any:
    """What processes have in common that can go together, as something to compare; the index if nothing can."""
    leaves, tree = _flat(process)
    if any(isinstance(leaf, sympy.Basic) for leaf in leaves):
        return index
    parts = tuple((np.shape(leaf),) if _is_small(leaf) else _word(leaf) for leaf in leaves)
    try:
        hash((tree, parts))
    except TypeError:  # what can't be compared goes alone
        return index
    return tree, parts, type(process), process.random


def _flat(process: Process) -> tuple[list, Any]:
    return jax.tree.flatten(process, is_leaf=lambda leaf: isinstance(leaf, sympy.Basic))


def _is_small(leaf: Any) -> bool:
    """Whether it is a number or a small array that a run can carry."""
    if isinstance(leaf, (float, np.floating)):
        return True
    kind = getattr(leaf, "dtype", None)
    return kind is not None and not checks.is_traced(leaf) and _is_floating(kind) and np.size(leaf) <= _SMALL


def _is_floating(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind == "f"


def _word(leaf: Any) -> Any:
    """What is the same for leaves that are shared: a number's value, or the object itself."""
    plain = isinstance(leaf, (bool, int, str, sympy.Basic))
    return (type(leaf), leaf) if plain else ("the same", id(leaf))


def described(processes: Sequence[Process]) -> list[str]:
    """Texts for the records of processes that go together: the first in full, as the text of an object is slow."""
    first, size = records.described(processes[0]), len(processes)
    return [first] + [f"number {i} of {size} that differ in numbers from {first}" for i in range(1, size)]


# --- together -----------------------------------------------------------------------------------------------------


def joined(processes: Sequence[Process], keys: Sequence | None, runs: int, dtype: Any) -> Cohort:
    """One process of several that `batches` has put together.

    Args:
        processes: at least one
        keys: one for each, if they are random
        runs: of each process
        dtype: the precision of the runs
    Raises:
        ValueError: if they can't go together, a key is missing, or a number is out of range or a symbol
    """
    first, size = processes[0], len(processes)
    forms = len(set(_forms(processes)))
    if forms > 1:
        raise ValueError(f"processes must differ in numbers only to go together, got {forms} forms of {size}")
    leaves, tree = _flat(first)
    if any(isinstance(leaf, sympy.Basic) for leaf in leaves):
        return joined([stepping.prepared(first, dtype)] * size, keys, runs, dtype)
    places = tuple(i for i, leaf in enumerate(leaves) if _is_small(leaf))
    columns = list(zip(*([leaves] + [jax.tree.leaves(process) for process in processes[1:]]), strict=True))
    with np.errstate(over="ignore"):  # such numbers are refused below, by their names
        tables = [np.stack([np.asarray(value, float) for value in columns[place]]) for place in places]
    for i in {i for table in tables for i in _out_of_range(table)}:
        stepping.prepared(processes[i], dtype)
    shared = jax.tree.leaves(stepping.prepared(first, dtype))
    rows = _ROWS
    while rows < size:
        rows *= _GROWTH
    return Cohort(
        numbers=tuple(precision.on_device(_padded(table, rows), dtype) for table in tables),
        words=precision.on_device(_padded(_words(first, keys, runs, size), rows)),
        shared=tuple(leaf for i, leaf in enumerate(shared) if i not in places),
        tree=tree,
        places=places,
        size=size,
        runs=runs,
        inner_dim=first.dim,
        inner_random=bool(first.random),
    )


DRIVER = 0  # the seed with which a cohort is driven; each run adds its own words to the key


def driving_key(cohort: Cohort) -> jax.Array | None:
    """The key that a cohort is run with; None if it is not random."""
    return jax.random.key(DRIVER) if cohort.random else None


def _words(process: Process, keys: Sequence | None, runs: int, size: int) -> np.ndarray:
    """What makes of the words of the key of a run, at a step, those that it has when its process is alone.

    Both count with the number of the run and the step, from the mixed words of a key: modulo 2³², exactly.
    """
    if not process.random:
        return np.zeros((size, 2), np.uint32)
    for key in [None] * size if keys is None else keys:
        stepping.check_key(process, key)
    own = np.stack([np.asarray(randomness.seed_words(key)) for key in keys])
    before = np.stack([np.arange(size) * runs % 2**32, np.zeros(size)], axis=1).astype(np.uint32)
    return own - np.asarray(randomness.seed_words(jax.random.key(DRIVER))) - before


def _padded(table: np.ndarray, rows: int) -> np.ndarray:
    """Further rows like the first, so that idle ones are possible ones."""
    return np.concatenate([table, np.repeat(table[:1], rows - len(table), axis=0)])


def _out_of_range(table: np.ndarray) -> list[int]:
    """Rows with numbers that 32 bits do not hold, where JAX has no more."""
    if jax.config.jax_enable_x64:
        return []
    sizes, range_ = np.abs(table.reshape(len(table), -1)), np.finfo(np.float32)
    wrong = np.isfinite(sizes) & ((sizes > range_.max) | ((sizes > 0) & (sizes < range_.tiny) & (table.ndim == 1)))
    return list(np.flatnonzero(wrong.any(axis=1)))
