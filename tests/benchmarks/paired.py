"""Programs that do the same work, timed in turn, so that what else the machine does hardly moves their ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Rival(NamedTuple):
    """Another program for the same work.

    Attributes:
        run: does it, and returns what can be waited for
        share: of the work, if it does only a part: its time is proportional
        wanted: the ratio that is aimed at; None where the comparison is for information
    """

    run: Callable[[], Any]
    share: float = 1.0
    wanted: float | None = None


class Row(NamedTuple):
    """How often we do the work while a rival does it once: the median over rounds, the lowest and the highest round.

    Attributes:
        rate: how much of the work we do in a second of the clock, in `unit`
    """

    work: str
    rival: str
    ratio: float
    low: float
    high: float
    rate: float
    unit: str
    wanted: float | None

    def __str__(self) -> str:
        wanted = "" if self.wanted is None else f"   wanted: {self.wanted:g}"
        return (
            f"{self.work:34} {self.rate:10.4g} {self.unit:28} {self.ratio:8.3g} x {self.rival:26} "
            f"({self.low:.3g} to {self.high:.3g}){wanted}"
        )


def paired(
    work: str, ours: Callable[[], Any], rivals: Mapping[str, Rival], amount: float, unit: str, rounds: int = 5
) -> list[Row]:
    """Time ours and every rival in turn, after a first call of each that compiles.

    Args:
        work: what is done, in words
        ours: does it
        rivals: by name
        amount: of `unit`s that ours does
    """
    runs = {None: Rival(ours)} | dict(rivals)
    for one in runs.values():
        jax.block_until_ready(one.run())
    seconds: dict[str | None, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        order = list(runs) if number % 2 == 0 else list(runs)[::-1]
        for name in order:
            begun = time.perf_counter()
            jax.block_until_ready(runs[name].run())
            seconds[name].append((time.perf_counter() - begun) / runs[name].share)
    own, rows = seconds.pop(None), []
    for name, theirs in seconds.items():
        ratios = [their / our for our, their in zip(own, theirs, strict=True)]
        spread = statistics.median(ratios), min(ratios), max(ratios)
        rows.append(Row(work, name, *spread, amount / statistics.median(own), unit, rivals[name].wanted))
    return rows


def missing(what: str) -> None:
    """Say which rival is not there."""
    print(f"{what}: its comparison is left out")
