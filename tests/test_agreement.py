"""Stored arrays and results of two machines: rounding and statistics agree, a change does not."""

import numpy as np
import pytest

from flatdyn.notebook import agreement

RANDOM = np.random.default_rng(0)
CURVE = np.cumsum(RANDOM.normal(size=500))
MEANS, SEMS = np.linspace(1, 2, 50), np.full(50, 0.1)


def differences(old, new):
    return agreement.arrays_differences(
        {name: np.asarray(array) for name, array in old.items()},
        {name: np.asarray(array) for name, array in new.items()},
    )


ROUNDED = 1 + 1e-11  # what badly conditioned work leaves of 1e-16

AGREE = {
    "equal": ({"x": CURVE}, {"x": CURVE}),
    "rounding": ({"x": CURVE}, {"x": CURVE * ROUNDED}),
    "single precision": ({"x": CURVE.astype("f4")}, {"x": (CURVE * (1 + 1e-5)).astype("f4")}),
    "complex": ({"x": CURVE * 1j}, {"x": CURVE * 1j * ROUNDED}),
    "one number": ({"x": 3.0}, {"x": 3.0 * (1 + 1e-15)}),
    "a large constant": ({"x": [1e9, 1e9 + 1e-6]}, {"x": [1e9 + 1e-6, 1e9]}),  # the last place
    "missing in both": ({"x": [1.0, np.nan, np.inf, 0.0]}, {"x": [1.0, np.nan, np.inf, 1e-12]}),
    "empty": ({"x": np.zeros((3, 0))}, {"x": np.zeros((3, 0))}),
    "three of its errors": ({"x": MEANS, "x_sem": SEMS}, {"x": MEANS + 0.3, "x_sem": SEMS}),
    "an error twice as large": ({"x": MEANS, "x_error": SEMS}, {"x": MEANS, "x_error": 2 * SEMS}),
    "a record's error": ({"r.fractions": MEANS, "r.stderr": SEMS}, {"r.fractions": MEANS + 0.3, "r.stderr": SEMS}),
    "counts with errors": ({"n": [100, 90], "n_stderr": [5.0, 5.0]}, {"n": [90, 100], "n_stderr": [5.0, 5.0]}),
}


@pytest.mark.parametrize("case", AGREE)
def test_rounding_and_statistics_agree(case):
    old, new = AGREE[case]
    assert differences(old, new) == []
    assert differences(new, old) == []


NAN = [1.0, np.nan]
DIFFER = {
    "scaled by 1.001": ({"x": CURVE}, {"x": CURVE * 1.001}, "x: differs by"),
    "one entry": ({"x": CURVE}, {"x": np.where(np.arange(500) == 7, 99.0, CURVE)}, "of its range"),
    "a flip": ({"x": CURVE}, {"x": CURVE[::-1]}, "x: differs by"),
    "tiny numbers": ({"x": [1e-30, 2e-30]}, {"x": [2e-30, 2e-30]}, "x: differs by 1 of its range"),
    "shape": ({"x": CURVE}, {"x": CURVE[1:]}, "x: shape (500,) -> (499,)"),
    "type": ({"x": [1]}, {"x": [1.0]}, "x: type"),
    "one label": ({"x": [1, 2, 3]}, {"x": [1, 2, 4]}, "x: 1 of 3 entries differ"),
    "a word": ({"x": ["saddle"]}, {"x": ["node"]}, "x: 1 of 1 entries differ"),
    "new and gone": ({"x": [1]}, {"y": [1]}, "y is new"),
    "missing": ({"x": [1.0, 2.0]}, {"x": NAN}, "missing or infinite"),
    "other infinity": ({"x": [1.0, np.inf]}, {"x": [1.0, -np.inf]}, "missing or infinite"),
    "five of its errors": ({"x": MEANS, "x_sem": SEMS}, {"x": MEANS + 0.5, "x_sem": SEMS}, "5 standard errors"),
    "no error there": ({"x": MEANS, "x_sem": 0 * SEMS}, {"x": MEANS + 0.3, "x_sem": 0 * SEMS}, "have no error"),
    "error unknown": ({"x": MEANS, "x_sem": NAN * 25}, {"x": MEANS + 0.3, "x_sem": NAN * 25}, "entries differ"),
    "an error ten times": ({"x": MEANS, "x_error": SEMS}, {"x": MEANS, "x_error": 10 * SEMS}, "more than 4 times"),
    "an error of another shape": ({"x": MEANS, "x_sem": SEMS[1:]}, {"x": MEANS + 0.3, "x_sem": SEMS[1:]}, "range"),
}


@pytest.mark.parametrize("case", DIFFER)
def test_a_change_is_said(case):
    old, new, words = DIFFER[case]
    assert words in "\n".join(differences(old, new))


def test_rounding_is_told_from_statistics():
    old, near, far = ({"x": MEANS + shift, "x_sem": SEMS} for shift in (0, 1e-12, 0.3))
    assert agreement.only_rounding(old, near)
    assert not agreement.only_rounding(old, far)


MEASURED = {
    "numbers": {"gain": {"label": "gain", "value": 0.5, "error": 0.1}, "n": {"label": "n", "value": 3.0, "error": 0.0}},
    "claims": {"K1": {"holds": "low(gain) > 0", "shows": ["gain"]}},
    "device": "1 x cpu",
    "text": "loss = 0.894(2)",
}


def changed(**changes):
    tree = {name: dict(part) if isinstance(part, dict) else part for name, part in MEASURED.items()}
    for place, value in changes.items():
        *path, last = place.split("__")
        part = tree
        for name in path:
            part[name] = dict(part[name])
            part = part[name]
        part[last] = value
    return tree


def test_results_agree_within_their_errors_on_any_device():
    other = changed(numbers__gain__value=0.8, device="8 x gpu", text="loss = 0.896(2)", numbers__n__value=3 + 1e-15)
    assert agreement.results_differences(MEASURED, other) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"numbers__gain__value": 1.0}, "numbers.gain: 0.5 ± 0.1 -> 1 ± 0.1, 5 standard errors apart"),
        ({"numbers__gain__error": 1.0}, "numbers.gain: 0.5 ± 0.1 -> 0.5 ± 1"),
        ({"numbers__n__value": 4.0}, "numbers.n: 3.0 -> 4.0"),
        ({"numbers__gain__label": "loss"}, "numbers.gain.label: 'gain' -> 'loss'"),
        ({"claims__K1__holds": "gain > 1"}, "claims.K1.holds"),
        ({"claims__K1__shows": []}, "claims.K1.shows"),
        ({"claims__K1__shows": ["n"]}, "claims.K1.shows[0]"),
        ({"claims__K2": {}}, "claims.K2 is new"),
        ({"text": "loss = 0.994(2)"}, "text: "),
    ],
)
def test_a_changed_result_is_said(change, words):
    assert words in "\n".join(agreement.results_differences(MEASURED, changed(**change)))
    assert agreement.results_differences(changed(**change), MEASURED)


def test_exact_numbers_that_are_zero_but_for_rounding_agree():
    tables = [{"residual": {"value": value, "error": 0}} for value in (2.2e-16, -1.1e-15, 0.0, 1e-12)]
    assert all(agreement.results_differences(tables[0], table) == [] for table in tables[:3])
    assert agreement.results_differences(tables[0], tables[3]), "1e-12 is none"
