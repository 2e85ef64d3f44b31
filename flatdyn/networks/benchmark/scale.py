"""How far does it scale? Rates of networks in training and of their spectra, beside what the device could do at most.

One switch: the environment variable FLATDYN_SCALE is `gpu` or `cpu`; without it the size follows the default
device of JAX. The same code runs at both sizes:

    from flatdyn.networks import scale
    record = scale.measure()                          # all parts, at the size of this device
    record = scale.measure("cpu", parts=["spectra"])
    print(record.table("spectra"))
    record.save("rates.npz")

The rates are those of this library, not of the fastest program for the purpose.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from flatdyn.core import checks, records, segments
from flatdyn.core.records import Record
from flatdyn.networks.benchmark.timing import device_name
from flatdyn.networks.benchmark.workloads import PARTS, SIZES, Ceilings, Size
from flatdyn.networks.data import DataMissing


@dataclass(frozen=True, eq=False, repr=False)
class Scale(Record):
    """A table of rates; see :func:`measure`. All arrays have one entry per row.

    Attributes:
        part: "ceilings", "ensembles", "spectra", "images" or "training"
        what: what was computed, and by which network
        method: the method that moved the network, or "" if none did
        precision: of the numbers
        networks: how many at once
        parameters: of each
        rate: per second of what `unit` says; on a CPU per second of one core
        unit: of the rate
        seconds, low, high: of one timed call: median, fastest, slowest; on a CPU of the processor, else of the clock
        clock: median seconds of the clock
        compiling: seconds before the first call
        of_product: share of the ceiling for matrix products in that precision, by XLA's count of operations
        of_copy: share of the ceiling for copying, if θ were read and written once a step and nothing else
        memory: bytes of the compiled program
        accuracy, error: on the test data, with its standard error over the networks; NaN where nothing was learnt
    """

    part: np.ndarray
    what: np.ndarray
    method: np.ndarray
    precision: np.ndarray
    networks: np.ndarray
    parameters: np.ndarray
    rate: np.ndarray
    unit: np.ndarray
    seconds: np.ndarray
    low: np.ndarray
    high: np.ndarray
    clock: np.ndarray
    compiling: np.ndarray
    of_product: np.ndarray
    of_copy: np.ndarray
    memory: np.ndarray
    accuracy: np.ndarray
    error: np.ndarray
    _form: ClassVar = dict.fromkeys(("part", "what", "method", "precision", "unit"), "U rows")
    _form |= dict.fromkeys(("networks", "parameters", "rate", "seconds", "low", "high", "clock"), "fiu rows")
    _form |= dict.fromkeys(("compiling", "of_product", "of_copy", "memory", "accuracy", "error"), "fiu rows")
    _units: ClassVar = dict.fromkeys(("low", "high", "clock", "compiling"), "s") | {"memory": "bytes", "rate": ""}
    _units |= dict.fromkeys(("networks", "parameters", "of_product", "of_copy", "accuracy", "error"), "1")

    @property
    def device(self) -> str:
        """What it was measured on."""
        return self.config["device"]

    def where(self, **wanted: Any) -> dict[str, np.ndarray]:
        """The columns, in those rows alone whose entries are as wanted: where(part="spectra", what="products Hv")."""
        rows = np.all([self.arrays()[name] == value for name, value in wanted.items()], axis=0)
        return {name: column[rows] for name, column in self.arrays().items()}

    def table(self, part: str) -> str:
        """The rows of a part as text, one a line."""
        rows = self.where(part=part)
        lines = []
        for i in range(len(rows["rate"])):
            what = ", ".join(filter(None, (str(rows[name][i]) for name in ("what", "method", "precision"))))
            title = f"{what}: {rows['networks'][i]} x {rows['parameters'][i]}" if rows["parameters"][i] else what
            line = f"{title}: {rows['rate'][i]:.3g} {rows['unit'][i]}"
            for name, label in (("of_product", "product"), ("of_copy", "copy")):
                if np.isfinite(rows[name][i]):
                    line += f", {100 * rows[name][i]:.2g} % of {label}"
            if np.isfinite(rows["accuracy"][i]):
                line += f", accuracy {100 * rows['accuracy'][i]:.1f} +- {100 * rows['error'][i]:.1f} %"
            lines.append(line)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Scale({len(self.rate)} rates on {self.device})"


def chosen() -> str:
    """The size that FLATDYN_SCALE names, or that of JAX's default device: "gpu" or "cpu".

    Raises:
        ValueError: if the variable is another word
    """
    name = os.environ.get("FLATDYN_SCALE") or ("gpu" if jax.default_backend() == "gpu" else "cpu")
    if name not in SIZES:
        raise ValueError(f"FLATDYN_SCALE must be {' or '.join(SIZES)}, got {name!r}")
    return name


def measure(
    size: str | Size | None = None, parts: Sequence[str] | None = None, *, repeat: int = 7, progress: bool | None = None
) -> Scale:
    """Measure rates in single precision (training: in the session's), with the ceilings of the device beside them.

        rate = work / median seconds;   share = operations per second / those of one large matrix product

    On a CPU seconds are those of the processor, which other work on the machine prolongs less than those of the clock:
    all rates are per core there.

    Parts, after the "ceilings", which are always measured:

        ensembles   M networks on digits, of 3,466 and of 125 parameters, in GD and SAM: network-steps per second
        spectra     products of the Hessian with a vector, and Lanczos decompositions, of networks of growing size
        images      a residual network in SGD, SAM and SAM-ON on random pixels: images per second, speed only
        training    ResNet-8 and a ViT in SGD, SAM and SAM-ON on Fashion-MNIST; at the size "cpu" for 40 steps on digits

    Args:
        size: "gpu", "cpu", a :class:`Size`, or what FLATDYN_SCALE and the device say
        parts: which; all if not given
        repeat: timed calls per rate, at least 5, after one that is not counted
        progress: show a bar; if not given, after two seconds
    Returns:
        Scale
    Raises:
        ValueError: if the size or a part is unknown, or `repeat` is below 5
        DataMissing: if a part that was named needs data that are not there; of all parts it is left out, and said so
    """
    size = chosen() if size is None else size
    if isinstance(size, str) and size not in SIZES:
        raise ValueError(f"size must be {' or '.join(map(repr, SIZES))} or a Size, got {size!r}")
    wanted = list(PARTS if parts is None else parts)
    for part in wanted:
        if part not in PARTS:
            raise ValueError(f"parts must be among {', '.join(PARTS)}, got {part!r}")
    repeat = checks.count("repeat", repeat, at_least=5)
    numbers = SIZES[size] if isinstance(size, str) else size
    load = f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else "unknown"
    rows: list[dict] = []
    missing: list[str] = []
    ceilings = Ceilings()
    with segments.progress_bar(0, "rates", progress) as bar:
        for part in ("ceilings", *(part for part in wanted if part != "ceilings")):
            # Threads that train do not see the switch: what is learnt has the session's precision
            with jax.enable_x64(jax.config.jax_enable_x64 and part == "training"):
                try:
                    for row in PARTS[part](numbers, ceilings, repeat):
                        rows.append({"part": part, **row})
                        bar.update(1)
                except DataMissing:
                    if parts is not None:
                        raise
                    missing.append(part)
    config = {
        "size": size if isinstance(size, str) else "own",
        "device": device_name(),
        "load": load,
        "repeat": str(repeat),
    }
    config |= {"products": str(jax.config.jax_default_matmul_precision or "default"), "numbers": repr(numbers)}
    config |= {"without data": ", ".join(missing)} if missing else {}
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Scale(config=config, provenance=records.provenance(), **columns)
