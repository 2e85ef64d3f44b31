"""The contract of an ask that answers many cells together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from flatdyn.processes import Process


class Ask:
    """A question of a process that may be put to several processes at once; :func:`flatdyn.sweep` does so.

        ask(process, key)               the answer of one cell
        ask.batches(processes)          which cells can be asked together: lists of indices
        ask.together(processes, keys)   the answers of such cells

    An answer is what :func:`flatdyn.sweep` takes: a number, an array, (value, stderr), (value, stderr, censored), a
    NamedTuple or a dict of these. It does not depend on the other cells: one cell is asked as a batch of one.

    Your own is a subclass with :meth:`batches` and :meth:`together`; make it a dataclass, so that a store knows it by
    the values of its fields.
    """

    @property
    def __name__(self) -> str:
        return getattr(self, "name", type(self).__name__)

    def __repr__(self) -> str:
        return f"fd.asks.{self.__name__}"

    def __call__(self, process: Process, key: jax.Array | None = None) -> Any:
        return self.together([process], [key])[0]

    def batches(self, processes: Sequence[Process]) -> list[list[int]]:
        """Which processes can be asked together, as lists of their indices."""
        raise NotImplementedError

    def together(self, processes: Sequence[Process], keys: Sequence[jax.Array | None]) -> list[Any]:
        """The answer of each of several processes that :meth:`batches` has put into one list."""
        raise NotImplementedError
