"""How nbval compares: numbers may differ by one unit in their last printed place, stderr and progress do not count.

Words, whole numbers and the number of lines stay exact. Different processors round differently in the last bits, so
a printed digit can flip by one; plain nbval would call that a regression.
"""

import os
import re
from decimal import Decimal

os.environ.setdefault("FLATDYN_PROGRESS", "0")

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w.])")


def last_place(token):
    """One unit in the last printed place (0 for a whole number), the value, and the number of digits."""
    value = Decimal(token)
    if not re.search(r"[.eE]", token):
        return Decimal(0), value, 99
    digits = sum(character.isdigit() for character in re.split("[eE]", token)[0])
    return Decimal(1).scaleb(value.as_tuple().exponent), value, digits


def same_text(stored, new, min_digits=3):
    """Whether two texts agree: the same but for numbers that differ by at most one unit in the last place."""
    if stored == new:
        return True
    if NUMBER.sub("#", stored) != NUMBER.sub("#", new):
        return False
    for a, b in zip(NUMBER.findall(stored), NUMBER.findall(new), strict=True):
        if a == b:
            continue
        (unit_a, value_a, digits_a), (unit_b, value_b, digits_b) = last_place(a), last_place(b)
        if max(digits_a, digits_b) < min_digits or abs(value_a - value_b) > min(unit_a, unit_b):
            return False
    return True


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
