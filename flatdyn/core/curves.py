"""What was measured along runs, kept in one array: which of its columns are whose."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from flatdyn.core import checks

Layout = dict[str, tuple[int, ...]]  # name -> shape of its value, in the order of the columns


def as_text(layout: Layout) -> str:
    """A layout as the text that a record keeps in its configuration."""
    return json.dumps([[name, list(shape)] for name, shape in layout.items()])


class Observed:
    """A record with an array `observed`, (..., columns), and the layout of its columns in its configuration."""

    config: dict[str, str]
    observed: np.ndarray

    @property
    def observed_names(self) -> list[str]:
        """Names of what was measured; none where it was one function's value, or nothing."""
        return list(self._layout())

    def curve(self, name: str) -> np.ndarray:
        """What was measured under a name, shape (runs, times, ...); NaN is a gap, where it was not finite."""
        checks.text("name", name)
        layout = self._layout()
        if name not in layout:
            known = ", ".join(layout) or "nothing by name"
            raise ValueError(f"name must be of what was measured, {known}, got {name!r}")
        names, shape = list(layout), layout[name]
        first = sum(math.prod(layout[word]) for word in names[: names.index(name)])
        return self.observed[..., first : first + math.prod(shape)].reshape(*self.observed.shape[:-1], *shape)

    def _layout(self) -> Layout:
        parts: list[Any] = json.loads(self.config.get("observed", "[]"))
        return {name: tuple(shape) for name, shape in parts}
