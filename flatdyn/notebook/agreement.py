"""When two runs agree: printed numbers, stored arrays and stored results, on machines that round differently.

What is printed. Different processors round differently in the last bits, so a printed digit can flip by one. Next to a
number of order one, what is below 1e-12 of it is zero but for rounding. A number printed with its standard error,
0.894(2), is a statistic, over noise or over a chaotic orbit: it may differ by four of its own standard errors. Words,
whole numbers and the number of lines stay exact. nbval compares by this rule, see conftest.py.

What is stored has all its digits. An array agrees if it differs by at most 1e-9 of its range: 64-bit rounding, 1e-16,
grows to 1e-12 in some thousand steps, more where the problem is badly conditioned, and what is seen in a figure or
read in its text begins at 1e-6. Single precision has 7 of these 16 digits, so its arrays may differ by 1e-4. An array
whose error is stored too, as NAME_error, NAME_sem or NAME_stderr, may differ by four of these errors. All else is
exact: words, whole numbers, where there is a NaN.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

# A number, with a standard error in brackets (0.894(2), 9.3(2)e-05) or without.
NUMBER = re.compile(r"(?<![\w.])([-+]?(?:\d+\.\d*|\.\d+|\d+))(\(\d+\))?([eE][-+]?\d+)?(?![\w.(])")


class Allowed(NamedTuple):
    """How far two values may lie apart in standard errors, and their standard errors from each other as a ratio."""

    errors: float = 4
    ratio: float = 4


USUAL = Allowed()


def allowed(runs=None):
    """What errors from `runs` runs allow: as much as is seen once in a thousand pairs of independent repetitions.

    Two means of n runs differ by √2 standard errors times a Student number with 2(n − 1) degrees of freedom; the
    squared ratio of their errors is a Fisher number with n − 1 and n − 1.
    """
    if runs is None:
        return USUAL
    from scipy import stats

    errors = 2**0.5 * stats.t.ppf(1 - 0.5e-3, 2 * (runs - 1))
    ratio = stats.f.ppf(1 - 0.5e-3, runs - 1, runs - 1) ** 0.5
    return Allowed(max(USUAL.errors, errors), max(USUAL.ratio, ratio))


def parts(match):
    """Value, one unit in its last printed place (0 for a bare whole number), standard error, number of digits."""
    mantissa, error, exponent = match.groups()
    scale = Decimal(f"1{exponent or ''}")
    value = Decimal(mantissa)
    unit = Decimal(1).scaleb(value.as_tuple().exponent) * scale
    if error is not None:
        # the digit in brackets counts units of the last decimal, or is a whole number: 0.894(2), 1230(10)
        spread = int(error[1:-1]) * (unit if "." in mantissa else scale)
        return value * scale, unit, spread, 99
    if "." not in mantissa and exponent is None:
        return value, Decimal(0), Decimal(0), 99
    return value * scale, unit, Decimal(0), sum(character.isdigit() for character in mantissa)


def same_number(stored, new, limit=USUAL, largest=Decimal(0), min_digits=3):
    """Equal, one unit apart in the last place, both zero beside `largest`, or apart by what their errors allow."""
    if stored[0] == new[0]:
        return True
    (value_a, unit_a, spread_a, digits_a), (value_b, unit_b, spread_b, digits_b) = parts(stored), parts(new)
    distance = abs(value_a - value_b)
    if spread_a and spread_b:
        low, high = sorted((spread_a, spread_b))
        return distance <= Decimal(limit.errors) * high and high <= Decimal(limit.ratio) * low
    if (unit_a == 0) != (unit_b == 0):  # a whole number has become a decimal
        return False
    if unit_a and max(abs(value_a), abs(value_b)) <= largest * Decimal("1e-12"):
        return True
    return max(digits_a, digits_b) >= min_digits and distance <= max(unit_a, unit_b)


def same_line(stored, new, limit=USUAL):
    """Whether two lines agree: the same but for numbers that agree in the sense of :func:`same_number`."""
    if stored == new:
        return True
    if NUMBER.sub("#", stored) != NUMBER.sub("#", new):
        return False
    pairs = list(zip(NUMBER.finditer(stored), NUMBER.finditer(new), strict=True))
    largest = max(abs(parts(one)[0]) for pair in pairs for one in pair)
    return all(same_number(old, fresh, limit, largest) for old, fresh in pairs)


def runs_behind(cell):
    """The N of a cell's tag `runs-N`, or None."""
    tags = [re.fullmatch(r"runs-(\d+)", tag) for tag in cell.get("metadata", {}).get("tags", [])]
    return next((int(tag[1]) for tag in tags if tag), None)


def same_text(stored, new, limit=USUAL):
    """Whether two texts agree, line by line; see :func:`same_line`."""
    old, fresh = stored.split("\n"), new.split("\n")
    return len(old) == len(fresh) and all(same_line(*pair, limit) for pair in zip(old, fresh, strict=True))


# --- what is stored -------------------------------------------------------------------------------------------

ZERO = 1e-14  # a number without an error up to this size is zero but for rounding
ROUNDING = {8: 1e-9, 4: 1e-4, 2: 1e-2}  # of the range, by bytes of a number; see above
ULPS = 64  # units in the last place of the largest number: the range of an array that hardly varies is no scale
ERRORS = ("_error", "_sem", "_stderr")  # endings of an array that holds the error of another
PAIRS = {"fractions": "stderr", "mean": "error"}  # names of a quantity and its error, within one record
OF_THE_MACHINE = {"device", "provenance"}  # not of the result


def error_of(name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The array that holds the errors of another, if one of its shape does."""
    head, dot, last = name.rpartition(".")
    names = [name + ending for ending in ERRORS] + ([head + dot + PAIRS[last]] if last in PAIRS else [])
    known = [arrays[other] for other in names if other in arrays]
    return next((error for error in known if error.shape == arrays[name].shape and error.dtype.kind == "f"), None)


def is_error(name: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether an array holds the errors of another."""
    head, dot, last = name.rpartition(".")
    of_record = [head + dot + value for value, error in PAIRS.items() if error == last]
    return any(name.removesuffix(ending) in arrays for ending in ERRORS if name.endswith(ending)) or any(
        other in arrays for other in of_record
    )


def array_difference(
    name: str, stored: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], limit: Allowed = USUAL
) -> str | None:
    """What differs between two arrays of one name, in words, or None if they agree.

    Args:
        name: a name in both
        stored, new: all arrays of the two files, among which the errors may be
        limit: how far statistics may lie apart
    """
    old, fresh = stored[name], new[name]
    if old.shape != fresh.shape:
        return f"shape {old.shape} -> {fresh.shape}"
    if old.dtype.kind != fresh.dtype.kind:
        return f"type {old.dtype} -> {fresh.dtype}"
    if np.array_equal(old, fresh, equal_nan=old.dtype.kind in "fc"):
        return None
    errors = [error_of(name, arrays) for arrays in (stored, new)]
    known = old.dtype.kind in "iuf" and all(error is not None for error in errors)
    if old.dtype.kind not in "fc" and not known:
        return f"{np.sum(old != fresh)} of {old.size} entries differ"
    if not np.array_equal(np.isfinite(old), np.isfinite(fresh)) or not _same_infinite(old, fresh):
        return "other entries are missing or infinite"
    good = np.isfinite(old)
    kind = np.complex128 if old.dtype.kind == "c" else np.float64
    apart = np.abs(np.where(good, fresh, 0).astype(kind) - np.where(good, old, 0).astype(kind))
    within, span = _rounding(old[good], min(old.dtype.itemsize, fresh.dtype.itemsize))
    if is_error(name, stored):
        low, high = np.minimum(old, fresh), np.maximum(old, fresh)
        bad = good & (apart > within) & (high > limit.ratio * low)
        return f"{np.sum(bad)} of {old.size} errors differ by more than {limit.ratio:g} times" if bad.any() else None
    if known:
        error = np.nan_to_num(np.maximum(*errors), nan=0.0, posinf=0.0)  # no error is known there
        bad = (apart > within) & ~(apart <= limit.errors * error)
        if not bad.any():
            return None
        worst = (apart[bad & (error > 0)] / error[bad & (error > 0)]).max(initial=0.0)
        by = f"by up to {worst:.2g} standard errors" if worst else "and have no error"
        return f"{np.sum(bad)} of {old.size} entries differ {by}"
    return f"differs by {apart.max() / span:.2g} of its range" if (apart > within).any() else None


def _same_infinite(old: np.ndarray, fresh: np.ndarray) -> bool:
    bad = ~np.isfinite(old)
    return np.array_equal(old[bad], fresh[bad], equal_nan=True)


def _rounding(values: np.ndarray, size: int) -> tuple[float, float]:
    """How far numbers of so many bytes may lie apart by rounding, and their range."""
    if not values.size:
        return 0.0, 1.0
    largest = float(np.abs(values).max())
    if values.dtype.kind not in "fc":
        return 0.0, largest or 1.0
    complex_numbers = values.dtype.kind == "c"
    parts = [values.real, values.imag] if complex_numbers else [values]
    span, size = float(max(np.ptp(part) for part in parts)), size // (2 if complex_numbers else 1)
    unit = float(np.finfo(f"f{size}").eps)
    return max(ROUNDING[size] * span, ULPS * unit * largest), span or largest or 1.0


def arrays_differences(
    stored: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], limit: Allowed = USUAL
) -> list[str]:
    """What differs between two sets of named arrays, one line each."""
    lines = [f"{name} is new" for name in new if name not in stored]
    lines += [f"{name} is gone" for name in stored if name not in new]
    for name in stored:
        if name in new and (difference := array_difference(name, stored, new, limit)):
            lines.append(f"{name}: {difference}")
    return lines


def only_rounding(stored: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays that agree do so to rounding, without the help of their errors."""
    return not any(
        array_difference(name, {name: stored[name]}, {name: new[name]}) for name in stored if stored[name].size
    )


def results_differences(stored: Any, new: Any, limit: Allowed = USUAL, place: str = "") -> list[str]:
    """What differs between two trees of results as JSON holds them, one line each.

    A table with "value" and "error" is a measured number. What says on which machine it was measured is not compared.
    """
    return list(_differences(stored, new, limit, place))


def _differences(stored: Any, new: Any, limit: Allowed, place: str) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(new, dict):
        if {"value", "error"} <= stored.keys() & new.keys():
            values = [(table["value"], table["error"]) for table in (stored, new)]
            if all(isinstance(part, int | float) for pair in values for part in pair):
                if difference := _measured_difference(*values, limit):
                    yield f"{place}: {difference}"
                stored, new = ({k: v for k, v in t.items() if k not in ("value", "error")} for t in (stored, new))
        for key in [*stored, *(key for key in new if key not in stored)]:
            here = f"{place}.{key}" if place else str(key)
            if key in OF_THE_MACHINE:
                continue
            if key not in stored or key not in new:
                yield f"{here} is {'new' if key in new else 'gone'}"
            else:
                yield from _differences(stored[key], new[key], limit, here)
    elif isinstance(stored, list) and isinstance(new, list) and len(stored) == len(new):
        for number, pair in enumerate(zip(stored, new, strict=True)):
            yield from _differences(*pair, limit, f"{place}[{number}]")
    elif isinstance(stored, str) and isinstance(new, str):
        if not same_text(stored, new, limit):
            yield f"{place}: {_short(stored)} -> {_short(new)}"
    elif isinstance(stored, float) and isinstance(new, float):
        if _measured_difference((stored, 0), (new, 0), limit):
            yield f"{place}: {stored!r} -> {new!r}"
    elif type(stored) is not type(new) or stored != new:
        yield f"{place}: {_short(stored)} -> {_short(new)}"


def _measured_difference(old: tuple[float, float], fresh: tuple[float, float], limit: Allowed) -> str | None:
    arrays = [{"x": np.array(float(value)), "x_error": np.array(float(error))} for value, error in (old, fresh)]
    if old[1] == fresh[1] == 0 and max(abs(old[0]), abs(fresh[0])) <= ZERO:
        return None
    if old[1] == fresh[1] == 0:
        return f"{old[0]!r} -> {fresh[0]!r}" if array_difference("x", *({"x": a["x"]} for a in arrays)) else None
    for name in ("x", "x_error"):
        if array_difference(name, *arrays, limit):
            high = max(old[1], fresh[1])
            apart = f", {abs(fresh[0] - old[0]) / high:.2g} standard errors apart" if high > 0 else ""
            return f"{old[0]:.6g} ± {old[1]:.2g} -> {fresh[0]:.6g} ± {fresh[1]:.2g}{apart}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
