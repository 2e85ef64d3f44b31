"""Least squares for numbers that are exact but for rounding: which coefficients, how sure, and what is left over."""

from __future__ import annotations

import dataclasses

import numpy as np

EXACT = 1e-9  # what a fit may leave over, as a share, in 64 bits
_OF_64 = 1e-12  # what a number may be off by that was learnt from steps in 64 bits
ROUNDED = 3e-6  # the same where some of it is in 32 bits: a unit in the last place is 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """target ≈ Σ c_name column_name.

    Attributes:
        numbers: c by name
        errors: their standard errors by name, at least those of rounding
        left: root mean square of what is left over, as a share of that of the target
    """

    numbers: dict[str, float]
    errors: dict[str, float]
    left: float

    def __getitem__(self, name: str) -> float:
        return self.numbers.get(name, 0.0)

    def is_zero(self, name: str, size: float = 1.0) -> bool:
        """Whether a number is zero within its error, or next to nothing beside `size`."""
        return abs(self[name]) <= max(30 * self.errors.get(name, 0.0), 1e-11 * size)


def fit(columns: dict[str, np.ndarray], target: np.ndarray) -> Fit:
    """Least squares; columns that nothing tells apart share their coefficient.

    Args:
        columns: by name, shape (rows,)
        target: shape (rows,)
    """
    names = list(columns)
    matrix = np.stack([columns[name] for name in names], axis=1)
    sizes = np.sqrt((matrix**2).mean(axis=0))
    sizes[sizes == 0] = 1.0
    scale = np.sqrt((target**2).mean()) or 1.0
    solved, _, rank, singular = np.linalg.lstsq(matrix / sizes, target / scale, rcond=1e-12)
    left = np.sqrt(((matrix / sizes @ solved - target / scale) ** 2).mean())
    noise = max(left, 2e-16 * max(1.0, float(np.abs(matrix).max() / scale)))
    spread = noise / np.maximum(singular[: max(rank, 1)].min(initial=np.inf), 1e-300) * np.ones(len(names))
    return Fit(
        dict(zip(names, map(float, solved * scale / sizes), strict=True)),
        dict(zip(names, map(float, spread * scale / sizes), strict=True)),
        float(left),
    )


def constant(values: np.ndarray, share: float) -> bool:
    """Whether numbers are one number, within a share of the largest."""
    values = np.asarray(values)
    return bool(values.size) and bool(np.ptp(values) <= share * np.abs(values).max())


def in_single(value: float) -> float | None:
    """The short number whose rounding to 32 bits this is: 0.1 for 0.10000000149011612; None if it is none."""
    for digits in range(1, 8):
        near = float(f"{value:.{digits}g}")
        rounded = float(np.float32(near))
        if rounded != near and abs(rounded - value) <= _OF_64 * abs(value):
            return near
    return None


def short(value: float, share: float) -> float:
    """The number with the fewest digits within a share of this one: 0.1 for 0.10000000003."""
    if (near := in_single(value)) is not None:
        return near
    for digits in range(1, 13):
        near = float(f"{value:.{digits}g}")
        if abs(near - value) <= share * abs(value):
            return near
    return value
