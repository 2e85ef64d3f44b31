"""How nbval compares: numbers may differ by one unit in their last printed place, stderr does not count.

Different processors round differently in the last bits, so a printed digit can flip by one; plain nbval would call
that a regression. A number printed with its standard error, 0.894(2), is a statistic, over noise or over a chaotic
orbit: it may differ by four of its own standard errors. Words, whole numbers and the number of lines stay exact.
"""

import os
import re
from decimal import Decimal

os.environ.setdefault("FLATDYN_PROGRESS", "0")
# Tests run side by side, one per core: threads of the linear algebra would only wait for each other, spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A number, with a standard error in brackets (0.894(2), 9.3(2)e-05) or without.
NUMBER = re.compile(r"(?<![\w.])([-+]?(?:\d+\.\d*|\.\d+|\d+))(\(\d+\))?([eE][-+]?\d+)?(?![\w.(])")


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


def same_number(stored, new, min_digits=3, errors=4):
    """Equal, or one unit apart in the last place, or apart by at most `errors` of their stated standard errors."""
    if stored[0] == new[0]:
        return True
    (value_a, unit_a, spread_a, digits_a), (value_b, unit_b, spread_b, digits_b) = parts(stored), parts(new)
    distance = abs(value_a - value_b)
    if spread_a and spread_b:
        return distance <= errors * max(spread_a, spread_b) and max(spread_a, spread_b) <= 4 * min(spread_a, spread_b)
    if (unit_a == 0) != (unit_b == 0):  # a whole number has become a decimal
        return False
    return max(digits_a, digits_b) >= min_digits and distance <= min(unit_a, unit_b)


def same_text(stored, new):
    """Whether two texts agree: the same but for numbers that agree in the sense of :func:`same_number`."""
    if stored == new:
        return True
    if NUMBER.sub("#", stored) != NUMBER.sub("#", new):
        return False
    pairs = zip(NUMBER.finditer(stored), NUMBER.finditer(new), strict=True)
    return all(same_number(old, fresh) for old, fresh in pairs)


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
        stored = texts(ref)
        for kind, places in texts(test).items():
            for (new, key), (old, old_key) in zip(places, stored.get(kind, []), strict=False):
                if same_text(old[old_key], new[key]):
                    new[key] = old[old_key]
        return compare(self, test, ref, skip_compare=skip_compare)

    plugin.IPyNbCell.compare_outputs = compare_with_tolerance


def pytest_collectstart(collector):
    if type(collector).__name__ == "IPyNbFile":
        collector.skip_compare += ("stderr",)
