"""The numbers that a notebook measures, and what follows from them for the claims.

A notebook adds each number once, under a short name, with its standard error. Verdicts, the Answer, captions and the
ledger are made from these numbers alone: a verdict is an expression over them, a sentence is a template over them. So
no sentence can stay behind when a number changes. The full run writes figures/data/results/NAME.json.
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flatdyn.core import checks, records
from flatdyn.notebook import agreement, output
from flatdyn.notebook import claims as listed

SCOPES = {"": "holds", "setting": "holds in a stated setting", "variant": "holds only for a variant"}
FAILS, UNSEEN = "fails", "not visible at this scale"
ERRORS = 2  # standard errors between a number and its low or high end, in an expression


class Number(float):
    """A measured number: a float that knows its standard error and what it is.

    In a template `{name}` is the value with its error, 0.894(2); `{name:%}` the same in percent; `{name:.2f}` and the
    like format the value alone. An exact number stands without an error.
    """

    label: str
    error: float

    def __new__(cls, value: float, error: float = 0.0, label: str = "") -> Number:
        number = super().__new__(cls, output.measured("value", value))
        number.error, number.label = output.measured("error", error), checks.text("label", label)
        return number

    def __format__(self, form: str) -> str:
        if form == "%":
            return f"{Number(100 * self, 100 * self.error)} %"
        if form:
            return format(float(self), form)
        if self.error == 0 and (abs(self) <= agreement.ZERO or (math.isfinite(self) and self == round(self))):
            return f"{round(float(self)):,}"
        return output.number(float(self), self.error).removesuffix(" (exact)")

    def __str__(self) -> str:
        return format(self)


def low(number: Number) -> float:
    """The number less two of its standard errors."""
    return float(number) - ERRORS * _error(number)


def high(number: Number) -> float:
    """The number and two of its standard errors."""
    return float(number) + ERRORS * _error(number)


def _error(number: Any) -> float:
    if not isinstance(number, Number):
        raise ValueError(f"low(...) and high(...) take the name of one measured number, got {number!r}")
    return number.error


def follows(expression: str, numbers: Mapping[str, Number]) -> bool:
    """Whether an expression over measured numbers is true, such as "low(gain) > 0 and wins >= 5".

    `low(x)` and `high(x)` are two standard errors below and above x. There are abs, min, max and sqrt besides.

    Raises:
        KeyError: if a number that it names was not measured, or is NaN, or has no finite error
        ValueError: if it is no such expression
    """
    for name in named([expression], numbers):  # a comparison with NaN is false, and would decide
        if math.isnan(numbers[name]) or not math.isfinite(numbers[name].error):
            raise KeyError(f"{name}, which is {float(numbers[name])} with the error {numbers[name].error}")
    import simpleeval  # needed by notebooks alone

    functions = {"low": low, "high": high, "abs": abs, "min": min, "max": max, "sqrt": math.sqrt}
    try:
        value = simpleeval.simple_eval(expression, names=dict(numbers), functions=functions)
    except simpleeval.NameNotDefined as error:
        raise KeyError(error.name) from None
    except (simpleeval.InvalidExpression, SyntaxError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{expression!r} is no expression over measured numbers: {error}") from None
    if not isinstance(value, bool):
        raise ValueError(f"{expression!r} is {value!r}; a verdict needs a comparison, such as 'low(gain) > 0'")
    return value


def filled(template: str, numbers: Mapping[str, Number]) -> str:
    """A template with its numbers filled in.

    Raises:
        KeyError: if a number that it names was not measured
        ValueError: if it is no template
    """
    try:
        return template.format_map(numbers)
    except (ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{template!r} is no template: {error}. A brace that is meant is written twice") from None


def named(texts: Iterable[str], numbers: Mapping[str, Number]) -> list[str]:
    """The names of the numbers that expressions and templates use, in the order in which they were measured."""
    words = {word for text in texts for word in _words(text)}
    return [name for name in numbers if name in words]


def _words(text: str) -> set[str]:
    plain = "".join(character if character.isidentifier() or character.isdigit() else " " for character in text)
    return set(plain.split())


class Results:
    """What one notebook measures: numbers with their errors, and the claims that rest on them.

    At the full preset each call writes figures/data/results/NAME.json anew. At the quick preset nothing is written, and
    no verdict is printed: only the numbers, and whether they show it too.

    Args:
        name: the notebook's own name, without suffix
    """

    def __init__(self, name: str):
        checks.text("name", name)
        self.name = name
        self.numbers: dict[str, Number] = {}
        self.claims: dict[str, dict[str, Any]] = {}

    def add(self, key: str, label: str, value: float, error: float = 0.0) -> Number:
        """Measure a number: print `label = value(error)` and keep it under a short name.

        Args:
            key: its name in expressions and templates, such as "gain_text"
            label: what it is, in words, with its unit
            value, error: the number and its standard error; 0 where it is exact or counted
        """
        checks.text("key", key)
        checks.text("label", label)
        if not key.isidentifier():
            raise ValueError(f"key, the name of a number in templates, must be a word such as 'gain_text', got {key!r}")
        if key in self.numbers:
            raise ValueError(f"key {key!r} is taken: it is {self.numbers[key].label}")
        number = Number(output.measured("value", value), output.measured("error", error), label)
        if number.error < 0:
            raise ValueError(f"error must be >= 0, got {number.error}")
        self.numbers[key] = number
        print(f"{label} = {number}")
        self._write()
        return number

    def count(self, key: str, label: str, numbers: Iterable[Number], than: float = 0.0) -> None:
        """Count numbers that lie above another by two standard errors, and below it; at the full preset.

        It adds `key_above`, `key_below` and `key_all`. A few numbers of a small run are not counted: whether they lie
        within two standard errors may differ from machine to machine.

        Args:
            key: what the names begin with
            label: what the numbers are
            numbers: measured ones, such as :meth:`add` returns
            than: what they are compared with
        """
        than = checks.number("than", than, one=True)
        numbers = [
            checks.kind("numbers", one, Number, "results.add(key, label, value, error)")
            for one in checks.sequence("numbers", numbers, "numbers")
        ]
        if output.is_full():
            self.add(f"{key}_above", f"{label}: above {than:g}", sum(low(number) > than for number in numbers))
            self.add(f"{key}_below", f"{label}: below {than:g}", sum(high(number) < than for number in numbers))
            self.add(f"{key}_all", f"{label}: in all", len(numbers))

    def settle(
        self,
        claim: str,
        holds: str,
        *,
        scope: str = "",
        condition: str = "",
        otherwise: str = "",
        visible: str = "True",
        shows: Iterable[str] = (),
    ) -> None:
        """Say what follows for a claim: the verdict is computed, the sentence is filled in.

        Args:
            claim: id in claims.toml, such as "K1"
            holds: expression over the numbers, true if the claim holds; see :func:`follows`
            scope: how far that reaches: "" (it holds), "setting" (in a stated setting), "variant" (only for a variant
                of the method or of the claim)
            condition: one sentence, a template over the numbers: the setting or variant in which it holds
            otherwise: one sentence for the case that it fails
            visible: expression, false if the numbers can't decide
            shows: further numbers to list, by key; those that are named in expressions and sentences always are
        Raises:
            ValueError: if the claim is not in the list, or a number that is named was not measured (full preset)
        """
        checks.text("claim", claim)
        checks.choice("scope", scope, tuple(SCOPES))
        checks.text("condition", condition)
        checks.text("otherwise", otherwise)
        if claim not in listed.claims():
            raise ValueError(f"claim {claim!r} is not in claims.toml, which has {', '.join(listed.claims())}")
        if scope and not condition:
            raise ValueError(f"scope {scope!r} needs a condition: a sentence that says which {scope}")
        if not (condition or otherwise):
            raise ValueError("a verdict needs a sentence: condition=, for the case that it holds, or otherwise=")
        shows = [checks.choice("shows", key, tuple(self.numbers)) for key in shows]
        for name, expression in (("holds", holds), ("visible", visible)):
            try:
                follows(checks.text(name, expression), self.numbers)
            except KeyError:
                continue  # the small size may lack it; the full run says so
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        statement = {"holds": holds, "scope": scope, "condition": condition, "otherwise": otherwise, "visible": visible}
        self.claims[claim] = statement | {"shows": shows}
        print(f"{claim}: {listed.claims()[claim]['claim']}")
        if not output.is_full():
            print(f"  stated: {holds}\n  {_at_small_size(statement, self.numbers)}")
            return
        settled = Settled(claim, self.name, self.claims[claim], self.numbers)
        print(f"  {settled.verdict}: {settled.sentence}")
        self._write()

    def _write(self) -> None:
        if output.is_full():
            numbers = {key: {"label": n.label, "value": float(n), "error": n.error} for key, n in self.numbers.items()}
            content = {"numbers": numbers, "claims": self.claims, "device": records.provenance()["device"]}
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            records.write_whole(folder() / f"{self.name}.json", text.encode())


def _at_small_size(statement: Mapping[str, str], numbers: Mapping[str, Number]) -> str:
    try:
        shown = follows(statement["visible"], numbers) and follows(statement["holds"], numbers)
    except KeyError:
        return "the small size can't show it: it lacks some of the numbers"
    return "the small size shows it too" if shown else "the small size does not show it"


class Settled:
    """A claim as one notebook has settled it: verdict and sentence follow from the numbers.

    Raises:
        ValueError: if a number that it rests on is missing
    """

    def __init__(self, claim: str, notebook: str, statement: Mapping[str, Any], numbers: Mapping[str, Number]):
        self.claim, self.notebook, self.holds = claim, notebook, statement["holds"]
        try:
            if not follows(statement["visible"], numbers):
                self.verdict = UNSEEN
            else:
                self.verdict = SCOPES[statement["scope"]] if follows(statement["holds"], numbers) else FAILS
            given = statement["condition"], statement["otherwise"]
            chosen = given[0] if self.verdict in SCOPES.values() else given[1]
            self.sentence = filled(chosen or f"This was expected: {self.holds}.", numbers)
            texts = (statement["holds"], statement["visible"], *_fields(chosen))
            keys = [*named(texts, numbers), *statement["shows"]]
            self.numbers = {key: numbers[key] for key in dict.fromkeys(keys)}
        except KeyError as error:
            raise ValueError(f"{claim} in {notebook} rests on a number that was not measured: {error}") from None


def _fields(template: str) -> list[str]:
    """The names between the braces of a template."""
    return [field for _, field, _, _ in string.Formatter().parse(template) if field]


def folder() -> Path:
    """Where the results lie."""
    return output.figures_folder() / "data" / "results"


def stored(name: str) -> tuple[dict[str, Number], dict[str, Settled]]:
    """Numbers and settled claims of a notebook, as its full run has left them; both empty if it has not run.

    Raises:
        ValueError: if the file is damaged
    """
    path = folder() / f"{name}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    try:
        rows = content["numbers"].items()
        numbers = {key: Number(row["value"], row["error"], row["label"]) for key, row in rows}
        settled = {claim: Settled(claim, name, words, numbers) for claim, words in content["claims"].items()}
    except Exception as error:  # a file that was edited by hand can break the reader anywhere
        raise _damaged(path, error) from None
    return numbers, settled


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} holds no results of a notebook: {error}. Delete it and run its notebook again")
