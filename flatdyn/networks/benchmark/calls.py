"""What a first answer costs: the programs that a call compiles and the seconds it takes, the first time and again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from flatdyn.core import checks, records
from flatdyn.core.records import Record
from flatdyn.networks.benchmark import timing

_COMPILED = "backend_compile_duration"  # how JAX's event ends: one for each program, from its cache on disk or anew


@dataclass(frozen=True, eq=False, repr=False)
class Calls(Record):
    """What calls cost; see :func:`measure`.

    Attributes:
        names: of the calls, shape (calls,)
        programs: compiled, shape (calls, times)
        clock: seconds of the clock, likewise
        processor: seconds of the processor, all cores together, likewise; other work prolongs them far less
    """

    names: np.ndarray
    programs: np.ndarray
    clock: np.ndarray
    processor: np.ndarray
    _form: ClassVar = {
        "names": "U calls",
        "programs": "iu calls times",
        "clock": "f calls times",
        "processor": "f calls times",
    }
    _units: ClassVar = {"programs": "1", "clock": "s", "processor": "s"}
    _asked: ClassVar = ("device",)

    @property
    def device(self) -> str:
        """What it was measured on."""
        return self.config["device"]

    def table(self) -> str:
        """In Markdown, one row for each call: programs and seconds of the processor, the first and the last time."""
        rows = [
            "| call | programs, first | programs, again | seconds, first | seconds, again |",
            "|---|---|---|---|---|",
        ]
        for name, programs, spent in zip(self.names, self.programs, self.processor, strict=True):
            cells = name, programs[0], programs[-1], f"{spent[0]:.1f}", f"{spent[-1]:.3f}"
            rows.append(f"| {' | '.join(map(str, cells))} |")
        return "\n".join(rows)

    def __repr__(self) -> str:
        return f"Calls({', '.join(self.names)} on {self.device})"


def measure(calls: Mapping[str, Callable[[], Any]], times: int = 2) -> Calls:
    """Make calls, one after the other, each several times; count the programs that they compile, and their seconds.

    What an earlier call has compiled, a later one does not compile again, so the order counts.

    Args:
        calls: name -> a function without arguments, such as `lambda: fd.simulate(process, [1.0, 2.0], 1000)`
        times: of each, at least 2: the first, and again
    Returns:
        Calls
    """
    times = checks.count("times", times, at_least=2)
    for name, call in checks.mapping("calls", calls, "name -> function").items():
        checks.function(f"calls[{name!r}]", call, "a function without arguments, such as lambda: fd.simulate(...)")
    if not calls:
        raise ValueError("calls must hold at least one name -> function, got none")
    costs = np.array([[_cost(call) for _ in range(times)] for call in calls.values()])
    return Calls(
        config={"device": timing.device_name()},
        provenance=records.provenance(),
        names=np.array(list(calls)),
        programs=costs[..., 0].astype(int),
        clock=costs[..., 1],
        processor=costs[..., 2],
    )


def _cost(call: Callable[[], Any]) -> tuple[float, float, float]:
    with programs() as compiled:
        clock, processor = timing.seconds(call)
    return len(compiled), clock, processor


@contextlib.contextmanager
def programs() -> Iterator[list[float]]:
    """The programs that JAX compiles inside, as the seconds that each took: `with programs() as compiled: …`.

    A program that comes from JAX's cache on disk counts, too.
    """
    compiled: list[float] = []

    def listener(event: str, duration: float, **_: Any) -> None:
        if event.endswith(_COMPILED):
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
