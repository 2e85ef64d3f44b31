"""What the controls of an explorer stand for: a landscape, a method, its numbers, a start; and the same as Python."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from flatdyn import methods, noise
from flatdyn.core import checks
from flatdyn.landscapes import Landscape
from flatdyn.landscapes.catalogue import CATALOGUE
from flatdyn.methods import Method
from flatdyn.processes import Iteration
from flatdyn.processes.base import ASCENTS

OWN, EXPRESSION = "yours", "expression"  # in place of a name: what `explore` was given, and a text to be read
NUMBERS = ("lr", "rho", "momentum")  # hyperparameters that have a slider
STEPS = (100, 500, 2000, 5000)  # lengths of a path; another length is another program
BOX = ((-2.0, 2.0), (-2.0, 2.0))  # that is seen of a landscape without a box of its own
_LONGEST, _LARGEST_BATCH = 20_000, 10**9

METHODS: dict[str, Method] = {
    "GD": methods.GD(0.1),
    "Nesterov": methods.GD(0.1, nesterov=True),
    "SAM": methods.SAM(0.1, rho=0.1),
    "USAM": methods.USAM(0.1, rho=0.1),
    "DNSAM": methods.DNSAM(0.1, rho=0.1),
    "ASAM": methods.ASAM(0.1, rho=0.1),
}


def check_plane(landscape: Landscape) -> None:
    """Raise ValueError if a landscape has more than two coordinates."""
    if landscape.dim > 2:
        raise ValueError(
            f"the explorer shows landscapes of one or two coordinates, this has {landscape.dim}: ask simulate, and "
            "map_basins with axes= for a slice"
        )


@functools.cache
def landscapes() -> tuple[str, ...]:
    """Names of the catalogue's landscapes that have one or two coordinates."""
    return tuple(name for name in CATALOGUE if CATALOGUE[name]().dim <= 2)


def read_landscape(name: str, expression: str = "") -> Landscape:
    """A landscape by its name in the catalogue, or from a text in x, or in x and y.

    Raises:
        ValueError: if there is none of that name, the text can't be read, or it has more than two coordinates
    """
    if name != EXPRESSION:
        checks.choice("landscape", name, (*landscapes(), EXPRESSION))
        return CATALOGUE[name]()
    if not expression.strip():
        raise ValueError("expression is empty: write a loss in x and y, such as (x**2 - 1)**2/4 + y**2/2")
    try:
        landscape = Landscape.from_expression(expression, "x y", BOX)
    except ValueError as error:
        raise ValueError(f"the expression can't be used: {error}") from None
    if not landscape.expression.has(landscape.symbols[1]):
        return Landscape.from_expression(expression, "x", BOX[:1])
    return landscape


@dataclass(frozen=True)
class Setup:
    """One state of the controls; it does not change.

    Args:
        landscape: what is descended: one or two coordinates
        method: a method, whose numbers are replaced by those below where it has them
        lr, rho, momentum: η, ρ and μ; None leaves the method's own
        scale: standard deviation of a gradient's noise, in units of ∇L; 0 is without
        batch_size: by which its variance is divided
        ascent: which minibatch SAM's ascent sees, as of :class:`flatdyn.Iteration`
        start: θ₀
        steps: how long the path is
        seed: of all random numbers
        words: how landscape and method are called in Python, (landscape, method)
        sampled: a noise of yours in place of `scale` and `batch_size`
    """

    landscape: Landscape
    method: Method
    lr: float | None = None
    rho: float | None = None
    momentum: float | None = None
    scale: float = 0.0
    batch_size: float = 1.0
    ascent: str = "shared"
    start: tuple[float, ...] = ()
    steps: int = STEPS[2]
    seed: int = 0
    words: tuple[str, str] = (OWN, OWN)
    sampled: noise.Noise | None = None

    def __post_init__(self):
        checks.kind("landscape", self.landscape, Landscape)
        checks.kind("method", self.method, Method)
        check_plane(self.landscape)
        start = checks.point("start", np.asarray(self.start, float), self.landscape.dim)
        object.__setattr__(self, "start", tuple(float(x) for x in np.asarray(start)))
        object.__setattr__(self, "steps", checks.count("steps", self.steps, at_least=1, at_most=_LONGEST))
        object.__setattr__(self, "seed", checks.count("seed", self.seed))
        object.__setattr__(self, "scale", float(checks.number("noise", self.scale, at_least=0, one=True)))
        batch = checks.number("batch size", self.batch_size, at_least=1, at_most=_LARGEST_BATCH, one=True)
        object.__setattr__(self, "batch_size", float(batch))
        _ = self.process  # a number that does not suit the method is refused here

    @property
    def numbers(self) -> dict[str, float]:
        """The hyperparameters that have a slider, as far as the method has them."""
        own = numbers_of(self.method)
        return own | {name: float(getattr(self, name)) for name in own if getattr(self, name) is not None}

    @property
    def called(self) -> str:
        """The method's name."""
        return type(self.method).__name__ if self.words[1] == OWN else self.words[1]

    @property
    def noise(self) -> noise.Noise:
        """How the gradient is sampled."""
        if self.sampled is not None:
            return self.sampled
        return noise.Gaussian(self.scale, batch_size=self.batch_size) if self.scale else noise.Exact()

    @functools.cached_property
    def process(self) -> Iteration:
        """What moves."""
        method = dataclasses.replace(self.method, **self.numbers)
        return Iteration(self.landscape, method, self.noise, ascent=self.ascent)

    @property
    def key(self) -> jax.Array | None:
        """The key of its random numbers, or None if it has none."""
        return jax.random.key(self.seed) if self.process.random else None

    @property
    def code(self) -> str:
        """The two lines of Python that run the path."""
        landscape, method = self.words
        sampled = ""
        if self.sampled is not None:
            sampled = ", noise"
        elif self.scale:
            sampled = f", fd.noise.Gaussian({self.scale!r}, batch_size={self.batch_size!r})"
        ascent = f', ascent="{self.ascent}"' if self.ascent != "shared" else ""
        key = f", key=jax.random.key({self.seed})" if self.process.random else ""
        return (
            f"process = fd.Iteration({landscape}, {self._method_word(method)}{sampled}{ascent})\n"
            f"run = fd.simulate(process, {list(self.start)!r}, {self.steps}{key})"
        )

    def _method_word(self, name: str) -> str:
        numbers = ", ".join(f"{name}={value!r}" for name, value in self.numbers.items())
        if name == OWN:
            return f"dataclasses.replace(method, {numbers})" if numbers else "method"
        kind = type(METHODS[name]).__name__
        return f"fd.{kind}({numbers}{', nesterov=True' if name == 'Nesterov' else ''})"


def name_of(landscape: Landscape) -> str:
    """The name of a landscape that is one of the catalogue's as it stands there; else "yours"."""
    same = [name for name in landscapes() if eqx.tree_equal(CATALOGUE[name](), landscape) is True]
    return same[0] if same else OWN


def method_name(method: Method) -> str:
    """The name of a method that differs from one of `METHODS` in the numbers with a slider alone; else "yours"."""
    for name, template in METHODS.items():
        numbers = numbers_of(method)
        if type(method) is type(template) and repr(dataclasses.replace(template, **numbers)) == repr(method):
            return name
    return OWN


def numbers_of(method: Method) -> dict[str, float]:
    """Learning rate, radius and momentum of a method, as far as they are single numbers."""
    own = {name: getattr(method, name) for name in NUMBERS if hasattr(method, name)}
    return {name: float(value) for name, value in own.items() if isinstance(value, int | float)}


def landscape_word(name: str, landscape: Landscape, expression: str) -> str:
    """How a landscape is written in Python."""
    if name == OWN:
        return "landscape"
    if name != EXPRESSION:
        return f"fd.landscapes.{name}()"
    symbols = " ".join(symbol.name for symbol in landscape.symbols)
    return f'fd.Landscape.from_expression({expression.strip()!r}, "{symbols}")'


def from_controls(values: Mapping[str, Any], own: Mapping[str, Any], landscape: Landscape) -> Setup:
    """The setup of what a view sends: names, numbers and texts.

    Args:
        values: landscape, expression, method, lr, rho, momentum, scale, batch_size, ascent, start, steps, seed
        own: "landscape", "method" and "noise" that `explore` was given, or None
        landscape: that the first two values stand for
    Raises:
        ValueError: saying which control has a value that can't be used, and what it may be
    """
    name, text = values["landscape"], values["expression"]
    method = own["method"] if values["method"] == OWN else METHODS[checks.choice("method", values["method"], METHODS)]
    numbers = {key: _number(key, values[key]) for key in numbers_of(method)}
    return Setup(
        landscape,
        method,
        **numbers,
        scale=_number("noise", values["scale"]),
        batch_size=_number("batch size", values["batch_size"]),
        ascent=checks.choice("ascent", values["ascent"], ASCENTS),
        start=tuple(values["start"]),
        steps=values["steps"],
        seed=values["seed"],
        words=(landscape_word(name, landscape, text), values["method"]),
        sampled=own["noise"],
    )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}: write digits, such as 0.1")
    return value
