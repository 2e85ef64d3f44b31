"""How nbval compares: numbers may differ by one unit in their last printed place, stderr does not count.

Different processors round differently in the last bits, so a printed digit can flip by one; plain nbval would call
that a regression. Next to a number of order one, what is below 1e-12 of it is zero but for rounding. A number printed
with its standard error, 0.894(2), is a statistic, over noise or over a chaotic orbit: it may differ by four of its own
standard errors. Where that error is taken from a few runs it is uncertain itself: a cell with the tag `runs-3` says
that three runs are behind each of its numbers, and Student's and Fisher's distributions say what they may do.
Words, whole numbers and the number of lines stay exact.
"""

import os
import re
from decimal import Decimal
from typing import NamedTuple

os.environ.setdefault("FLATDYN_PROGRESS", "0")
# Tests run side by side, one per core: threads of the linear algebra would only wait for each other, spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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


def same_text(stored, new, limit=USUAL):
    """Whether two texts agree, line by line; see :func:`same_line`."""
    old, fresh = stored.split("\n"), new.split("\n")
    return len(old) == len(fresh) and all(same_line(*pair, limit) for pair in zip(old, fresh, strict=True))


def runs_behind(cell):
    """The N of a cell's tag `runs-N`, or None."""
    tags = [re.fullmatch(r"runs-(\d+)", tag) for tag in cell.get("metadata", {}).get("tags", [])]
    return next((int(tag[1]) for tag in tags if tag), None)


def texts(outputs):
    """The places of all texts among a cell's outputs, by kind: {kind: [(dictionary, key), ...]}."""
    places = {}
    for output in outputs:
        if "text" in output:
            places.setdefault(output["name"], []).append((output, "text"))
        for kind, content in output.get("data", {}).items():
            if isinstance(content, str):
                places.setdefault(kind, []).append((output["data"], kind))
    return places


def pytest_configure(config):
    if not config.pluginmanager.hasplugin("nbval"):
        return
    from nbval import plugin

    compare = plugin.IPyNbCell.compare_outputs

    def compare_with_tolerance(self, test, ref, skip_compare=None):
        stored, limit = texts(ref), allowed(runs_behind(self.cell))
        for kind, places in texts(test).items():
            for (new, key), (old, old_key) in zip(places, stored.get(kind, []), strict=False):
                if same_text(old[old_key], new[key], limit):
                    new[key] = old[old_key]
        return compare(self, test, ref, skip_compare=skip_compare)

    plugin.IPyNbCell.compare_outputs = compare_with_tolerance


def pytest_collectstart(collector):
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += ("stderr",)
