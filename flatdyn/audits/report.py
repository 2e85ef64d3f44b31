"""What an audit says: the record, and the words for what it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from flatdyn.core.algebra import Vector
from flatdyn.methods import Method

# Words are facts: what somebody who knows the equations would not expect. Some are meant, as by sign descent.
FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "accumulation not divided": "gradients of several passes at one point are added, where their mean was expected",
        "ascends": "the step goes up the gradient",
        "average stored": "what it returns is an average of the iterates, at which no gradient is taken",
        "clipped gradient": "long gradients are shortened, all of it or each coordinate",
        "constant radius": "the radius was expected to follow a schedule, and stays what it was at first",
        "decay in the ascent": "the ascent goes along the gradient with weight decay",
        "decay of some tensors": "weight decay acts on some tensors, often those of two dimensions and more",
        "hidden state": "two runs from the same start with the same gradients differ: random numbers, a clock, globals",
        "low precision": "numbers are rounded to fewer bits than the parameters have, such as a norm in 32 bits",
        "missing zero_grad": "gradients of several passes are added, in one step or over all of them",
        "momentum of one gradient": "of two gradients that move the parameters, the momentum sees only one",
        "NaN at zero gradient": "where the gradient is zero the next parameters are no numbers",
        "never moves": "parameters stay where they are, all or some tensors",
        "norm of what is frozen": "the ascent is normalised by the gradient of parameters that never move, too",
        "normalised step": "the length of the step does not depend on that of the gradient",
        "not as expected": "iterates are not those of the method that was expected",
        "not restored": "the step starts from the perturbed parameters, not from those before the ascent",
        "other minibatch": "a gradient of the step is taken on another minibatch than the rest",
        "perturbation lost": "the ascent is less than the spacing of numbers as large as the parameters",
        "perturbed points stored": "after some calls the parameters are the perturbed ones",
        "sign step": "every coordinate moves by the same length",
        "stale gradient": "the ascent goes along a gradient of an earlier step",
        "statistics moved twice": "the second pass moves running statistics, such as those of BatchNorm",
        "unused ascent": "a gradient is taken at perturbed parameters, and not used",
    }
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What a training step really does; see :func:`flatdyn.audit`.

    Attributes:
        method: a flatdyn method that runs the same map, or None
        difference: the largest difference seen from that method's iterates, or from the nearest one's; NaN without one
        faults: words of :data:`flatdyn.audits.FAULTS`
        nearest: the method itself, or the one that comes closest; None if nothing does
        departs: the first step after which iterates differ from those of `nearest` by more than rounding; None if none
        numbers: what was measured, by name: lr, rho, momentum, weight_decay, ...
        lines: the report, line by line
    """

    method: Method | None
    difference: float
    faults: tuple[str, ...]
    nearest: Method | None
    departs: int | None
    numbers: Mapping[str, float | str]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    __repr__ = __str__


def shown(method: Method | None) -> str:
    """A method with the numbers that are not as usual: SAM(lr=0.1, rho=0.05)."""
    if method is None:
        return "no method of flatdyn"
    parts = []
    for field in sorted(dataclasses.fields(method), key=lambda field: field.kw_only):
        value = getattr(method, field.name, None)
        usual = value is None or isinstance(value, int | float | str)
        if not field.init or not field.repr or (usual and value == field.default):
            continue
        parts.append(f"{field.name}={_worded(value)}")
    return f"{type(method).__name__}({', '.join(parts)})"


def _worded(value: object) -> str:
    if isinstance(value, Method):
        return shown(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, int | bool | str):
        return repr(value)
    if isinstance(value, Vector) and all(isinstance(leaf, bool) for leaf in value.components):
        return repr(value.components)
    return "..."
