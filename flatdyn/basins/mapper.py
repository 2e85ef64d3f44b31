"""The rules of a basin search as an object: what moves, where its runs can end, and when a run is there to stay.

    mapper = Mapper(process, attractors, max_steps=50_000)
    map_basins(mapper, box, 400), basin_fractions(mapper, box, 10_000, key), ...

Every question about basins takes a Mapper in place of a process. Arguments of the question itself (process, attractors,
max_steps, ...) are a shorthand for a Mapper that is used once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from flatdyn.basins.arrivals import Rules
from flatdyn.basins.attractors import Attractor, given
from flatdyn.core import checks
from flatdyn.core.records import described
from flatdyn.processes import Process
from flatdyn.processes.regions import Region
from flatdyn.runs import stepping


@dataclass(frozen=True, eq=False, repr=False)
class Mapper:
    """What tells runs apart by where they end: a process, its attractors, and the rules of the search.

    Args:
        process: what moves
        attractors: positions, CriticalPoint, FixedPoint, Attractor or Region objects, or a dict name -> position or
            function θ -> bool; discovered from the runs if not given
        max_steps: after which a run stops; rounded up to a multiple of `check_every`
        radius: what is near an attractor; if not given, a quarter of the smallest distance between two of them, and at
            most 1/20 of the box's diagonal. Larger calls runs in transit arrived, smaller leaves oscillating ones
            undecided. Discovered attractors are different if they are 1/200 of the diagonal from each other
        tol: a run no longer moves if no number of its state changes by more than tol (1 + |it|) in a step, with the
            box's diagonal for 1 if that is less; rounding unit if not given. Larger stops slow runs early, as undecided
        stay: steps near an attractor before the trap counts; 0 if not given, 100 for a process with memory, whose
            velocity can carry it through
        check_every: steps between tests; `steps` are multiples of it
        bound: largest |coordinate|
    Raises:
        ValueError: if an attractor does not fit the process, or a rule is out of range
    """

    process: Process
    attractors: Any = None
    _: KW_ONLY
    max_steps: int = 20_000
    radius: float | None = None
    tol: float | None = None
    stay: int | None = None
    check_every: int = 10
    bound: float = 1e6

    def __post_init__(self):
        checks.kind("process", self.process, Process)
        ends = None if self.attractors is None else given(self.attractors, self.process.dim)
        object.__setattr__(self, "_ends", ends)
        _ = self.rules  # refused now if they do not fit
        if self.radius is not None:
            object.__setattr__(self, "radius", float(checks.number("radius", self.radius, above=0, one=True)))

    @property
    def rules(self) -> Rules:
        """The rules as numbers, with what was not given filled in for the precision of the session."""
        check_every = stepping.check_steps("check_every", self.check_every, at_least=1)
        max_steps, stay, tol = stepping.check_steps("max_steps", self.max_steps, at_least=1), self.stay, self.tol
        bound = checks.bound("bound", self.bound)
        if stay is None:
            stay = 100 if _with_memory(self.process) else 0
        unit = float(jnp.finfo(jnp.zeros(0).dtype).eps)
        tol = unit if tol is None else float(checks.number("tol", tol, at_least=0, one=True))
        rounded = stepping.check_steps("max_steps, rounded up,", -(-max_steps // check_every) * check_every)
        return Rules(rounded, check_every, checks.count("stay", stay), bound, tol)

    @property
    def ends(self) -> tuple[list[Attractor], list[Region]] | None:
        """Attractors and regions that were given; None if they are to be discovered."""
        return self._ends

    def __repr__(self) -> str:
        chosen = [f"{field.name}={getattr(self, field.name)!r}" for field in _RULES if _is_set(self, field)]
        ends = ["attractors discovered" if self.ends is None else f"{sum(map(len, self.ends))} attractors"]
        return f"Mapper({', '.join([described(self.process), *ends, *chosen])})"


_RULES = [field for field in dataclasses.fields(Mapper) if field.name not in ("process", "attractors")]


def _is_set(rules: Any, field: dataclasses.Field) -> bool:
    """Whether a rule differs from its default."""
    value = rules[field.name] if isinstance(rules, dict) else getattr(rules, field.name)
    return type(value) is not type(field.default) or value != field.default


def _with_memory(process: Process) -> bool:
    """Whether a state holds more numbers than the position."""
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((process.dim,), jnp.zeros(0).dtype))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact))
    return numbers > process.dim


def as_mapper(process: Process | Mapper, attractors: Any = None, **rules: Any) -> Mapper:
    """A mapper with a question's own attractors and rules, or the mapper that the question was given.

    Raises:
        ValueError: if there is a mapper, and attractors or rules besides
    """
    if not isinstance(process, Mapper):
        checks.kind("process", process, (Process, Mapper))
        return Mapper(process, attractors, **rules)
    besides = [field.name for field in _RULES if field.name in rules and _is_set(rules, field)]
    besides = ["attractors"] * (attractors is not None) + besides
    if besides:
        raise ValueError(f"the mapper has its own {', '.join(besides)}: give them to Mapper(...), or pass its process")
    return process
