"""How long a compiled program takes: compiling outside the clock, fresh inputs, medians; and what device it ran on.

On a CPU seconds are those of the processor, all cores together, which other work on the machine prolongs far less than
those of the clock; a rate is then one per core. On other devices they are those of the clock.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from flatdyn.core import checks


class Timing(NamedTuple):
    """Seconds of one call.

    Attributes:
        seconds: median; on a CPU of the processor, else of the clock
        low, high: fastest and slowest, likewise
        clock: median of the clock
        compiling: seconds of the clock that compiling took, once
        memory: bytes of arguments, results and temporary arrays; NaN where the compiler does not say
    """

    seconds: float
    low: float
    high: float
    clock: float
    compiling: float
    memory: float


def timed(function: Callable, make: Callable[[jax.Array], tuple], repeat: int = 7) -> Timing:
    """Time function(*make(key)), compiled as one program, on the default device.

    Compiling and a first call are not counted; each of the others has inputs of its own, made before the clock starts,
    and is waited for.

    Args:
        function: of what `make` gives to a tree of arrays
        make: from a key to the arguments; arrays are handed over, everything else becomes part of the program
        repeat: calls, at least 5
    """
    repeat = checks.count("repeat", repeat, at_least=5)
    first, static = eqx.partition(make(jax.random.key(0)), eqx.is_array)
    begun = time.perf_counter()
    program = jax.jit(lambda arrays: function(*eqx.combine(arrays, static))).lower(first).compile()
    compiling = time.perf_counter() - begun

    def call(number: int) -> tuple[float, float]:
        arrays = jax.block_until_ready(eqx.filter(make(jax.random.fold_in(jax.random.key(1), number)), eqx.is_array))
        return seconds(lambda: program(arrays))

    call(0)
    return _summary([call(number) for number in range(1, repeat + 1)], compiling, _memory(program))


def repeated(function: Callable[[int], Any], repeat: int = 5) -> Timing:
    """Time function(number) as it is called, with whatever it does outside compiled programs; the first call is extra.

    Args:
        function: from 0, 1, … to anything that holds arrays
        repeat: calls after the first, at least 5
    """
    repeat = checks.count("repeat", repeat, at_least=5)
    first = seconds(lambda: function(0))[0]
    summary = _summary(
        [seconds(lambda number=number: function(number)) for number in range(1, repeat + 1)], 0.0, np.nan
    )
    return summary._replace(compiling=first - summary.clock)


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """How long a call takes until its result is there: on the clock, and of the processor."""
    begun, spent = time.perf_counter(), time.process_time()
    jax.block_until_ready(function())
    return time.perf_counter() - begun, time.process_time() - spent


def flops(function: Callable, *args: Any) -> float:
    """Floating-point operations of function(*args), as XLA counts them before it optimizes; NaN if it does not say.

    A loop counts as one turn. Nothing is computed, so the arguments may be shapes, as `jax.eval_shape` gives them.

    Example:
        flops(process.step, process.init(theta), key)               of one step
    """
    checks.function("function", function)
    kinds = jax.Array, np.ndarray, jax.ShapeDtypeStruct
    arrays, static = eqx.partition(args, lambda leaf: isinstance(leaf, kinds))

    def program(arrays: Any) -> Any:
        return function(*eqx.combine(arrays, static))

    checks.traced("function", program, arrays)
    cost = jax.jit(program).lower(arrays).cost_analysis()
    return np.nan if cost is None else float(cost.get("flops", 0.0))


def device_name() -> str:
    """The kind of the default device: of a GPU as JAX names it, of a CPU its model."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"cpu: {names[0] if names else platform.processor() or platform.machine()}"


def _summary(taken: list[tuple[float, float]], compiling: float, memory: float) -> Timing:
    clock, processor = map(np.array, zip(*taken, strict=True))
    steady = processor if jax.default_backend() == "cpu" else clock
    ends = float(np.median(steady)), float(steady.min()), float(steady.max())
    return Timing(*ends, float(np.median(clock)), compiling, memory)


def _memory(program: Any) -> float:
    analysis = program.memory_analysis()
    if analysis is None:
        return np.nan
    return float(analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes)
