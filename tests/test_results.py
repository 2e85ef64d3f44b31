"""Numbers, verdicts, sentences: what a page says follows from what was measured, and a change of it is caught."""

import json

import pytest

from flatdyn.notebook import Number, Results, ledger, pages, renewal, results


@pytest.fixture
def full(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATDYN_FIGURES", str(tmp_path))
    monkeypatch.setenv("FLATDYN_PRESET", "full")
    return tmp_path


def measured(gain=(3.9, 0.4), wins=5, **statement):
    page = Results("07_x")
    page.add("gain", "gain in points", *gain)
    page.add("wins", "tasks won", wins)
    words = {"holds": "low(gain) > 0 and wins >= 5", "condition": "By {gain} points.", "otherwise": "Only {gain}."}
    page.settle("K6", **words | statement)
    return ledger.entries()[0]


def test_numbers_are_counted_beyond_two_errors(full, monkeypatch):
    page = Results("07_x")
    pairs = [(1.0, 0.4), (1.0, 0.6), (-3.0, 1.0), (2, 0)]
    gains = [page.add(f"gain_{i}", "gain", *pair) for i, pair in enumerate(pairs)]
    page.count("gain", "gain", gains)
    page.count("gain_1", "gain", gains, than=1)
    assert [page.numbers[f"gain_{word}"] for word in ("above", "below", "all")] == [2, 1, 4]
    assert [page.numbers[f"gain_1_{word}"] for word in ("above", "below", "all")] == [1, 1, 4]
    monkeypatch.setenv("FLATDYN_PRESET", "quick")
    page.count("again", "gain", gains)
    assert "again_above" not in page.numbers


@pytest.mark.parametrize(
    ("number", "form", "text"),
    [
        (Number(3.9, 0.4), "", "3.9(4)"),
        (Number(0.152, 0.003), "%", "15.2(3) %"),
        (Number(7), "", "7"),
        (Number(12345), "", "12,345"),
        (Number(0.25), "", "0.25"),
        (Number(3.94, 0.4), ".1f", "3.9"),
        (Number(3.3e-17), "", "0"),  # zero but for rounding, whose digits are those of the machine
        (Number(-2e-16), "", "0"),
        (Number(float("inf")), "", "inf"),
        (Number(float("nan")), "", "nan"),
        (Number(-0.0004, 0.0001), "", "-4(1)e-04"),
    ],
)
def test_a_number_is_written_with_its_error(number, form, text):
    assert format(number, form) == text
    assert results.filled(f"{{x:{form}}}" if form else "{x}", {"x": number}) == text


@pytest.mark.parametrize(
    ("expression", "truth"),
    [
        ("low(a) > 0", True),  # 3 − 2·1
        ("low(a) > 1", False),
        ("high(a) < 5", False),  # 5 is not below 5
        ("high(a) <= 5", True),
        ("a > 2 and not a > 4", True),
        ("abs(b) == 2 and max(a, b) == 3 and sqrt(4) == 2", True),
        ("low(a) > high(b)", True),
        ("a > 2 * a.error", True),
        ("1 < a < 4", True),
    ],
)
def test_what_follows_from_numbers(expression, truth):
    assert results.follows(expression, {"a": Number(3, 1), "b": Number(-2)}) is truth


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("a", "needs a comparison"),
        ("low(3) > 0", "name of one measured number"),
        ("a >", "no expression"),
        ("open('x')", "no expression"),
        ("a / (a - 3) > 1", "no expression"),
        ("1e300 ** (9 * a) > 1", "no expression"),
    ],
)
def test_what_is_no_statement_is_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        results.follows(expression, {"a": Number(3, 1)})
    with pytest.raises(KeyError, match="unknown"):
        results.follows("unknown > 1", {})


@pytest.mark.parametrize("number", [(float("nan"), 0.1), (3.9, float("nan")), (3.9, float("inf"))])
def test_what_is_not_known_decides_nothing(full, number):
    """A comparison with NaN is false: it would be the verdict "fails"."""
    with pytest.raises(ValueError, match="rests on a number that was not measured: 'gain, which is"):
        measured(gain=number)
    with pytest.raises(ValueError, match="gain, which is"):
        measured(gain=number, holds="wins >= 5", visible="low(gain) > 0")
    entry = measured(gain=number, holds="wins >= 5", condition="In {wins} tasks.")  # it is not needed here
    assert entry.verdict == "holds"


def test_a_small_run_without_an_error_says_that_it_can_not_show_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FLATDYN_FIGURES", str(tmp_path))
    page = Results("07_x")
    page.add("gain", "gain", 1.0, float("nan"))
    page.settle("K6", "low(gain) > 0", condition="By {gain}.")
    assert "can't show it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("case", "verdict", "sentence"),
    [
        ({}, "holds", "By 3.9(4) points."),
        ({"scope": "setting"}, "holds in a stated setting", "By 3.9(4) points."),
        ({"scope": "variant"}, "holds only for a variant", "By 3.9(4) points."),
        ({"gain": (0.7, 0.4)}, "fails", "Only 0.7(4)."),
        ({"wins": 4}, "fails", "Only 3.9(4)."),
        ({"visible": "high(gain) < 1"}, "not visible at this scale", "Only 3.9(4)."),
    ],
)
def test_verdicts_are_computed(full, case, verdict, sentence):
    entry = measured(**case)
    assert (entry.verdict, entry.sentence) == (verdict, sentence)
    assert list(entry.numbers) == (["gain", "wins"])
    text = ledger.markdown()
    assert f'<span style="color:{ledger.COLOURS[verdict]}">●</span> **{verdict}**\n' in text
    assert f"**{verdict}** | 1 |" in text
    assert f"| in all | {len(ledger.claims())} |" in text


def test_a_changed_number_changes_verdict_and_sentence(full):
    """Nothing but numbers and templates is stored: an old verdict can't stay beside a new number."""
    measured()
    path = full / "data" / "results" / "07_x.json"
    content = json.loads(path.read_text())
    content["numbers"]["gain"]["value"] = -1.0
    path.write_text(json.dumps(content))
    (entry,) = ledger.entries()
    assert (entry.verdict, entry.sentence) == ("fails", "Only -1.0(4).")


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "fails"], "holds in a stated setting"),
        (["holds only for a variant", "fails"], "holds only for a variant"),
        (["fails", "not visible at this scale"], "fails"),
        (["not visible at this scale"], "not visible at this scale"),
        ([], "open"),
    ],
)
def test_several_notebooks_make_one_verdict(verdicts, word):
    entries = [type("Entry", (), {"verdict": verdict}) for verdict in verdicts]
    assert ledger.verdict(entries) == word


def test_the_small_size_prints_numbers_and_no_verdict(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FLATDYN_FIGURES", str(tmp_path))
    monkeypatch.delenv("FLATDYN_PRESET", raising=False)
    page = Results("07_x")
    page.add("gain", "gain in points", 3.9, 0.4)
    page.settle("K6", "low(gain) > 0", condition="By {gain}.")
    page.settle("K7", "high(gain) < 0", condition="By {gain}.")
    page.settle("K8", "low(loss) > 0", condition="By {gain}.")
    printed = capsys.readouterr().out
    assert "gain in points = 3.9(4)" in printed
    words = "the small size shows it too", "the small size does not show it", "the small size can't show it"
    assert all(printed.count(word) == 1 for word in words)
    assert "holds\n" not in printed
    assert "By 3.9" not in printed
    assert ledger.entries() == []


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"claim": "Z9"}, "claim 'Z9' is not in"),
        ({"scope": "here"}, "scope must be one of"),
        ({"condition": ""}, "needs a sentence"),
        ({"scope": "setting", "condition": "", "otherwise": "no"}, "needs a condition"),
        ({"holds": "loss > 0"}, "not measured"),
        ({"condition": "{loss}"}, "not measured"),
        ({"condition": "{"}, "no template"),
        ({"shows": ["loss"]}, "shows must be one of"),
    ],
)
def test_claims_without_substance_are_refused(full, case, message):
    page = Results("01_x")
    page.add("gain", "gain", 1, 0.1)
    with pytest.raises(ValueError, match=message):
        page.settle(**{"claim": "K1", "holds": "gain > 0", "condition": "by {gain}"} | case)


@pytest.mark.parametrize(
    ("case", "message"),
    [({"key": "two words"}, "must be a word"), ({"key": "gain"}, "is taken"), ({"error": -1}, "must be >= 0")],
)
def test_numbers_without_a_name_are_refused(case, message):
    page = Results("01_x")
    page.add("gain", "gain", 1, 0.1)
    with pytest.raises(ValueError, match=message):
        page.add(**{"key": "other", "label": "other", "value": 1.0, "error": 0.1} | case)


def test_a_damaged_file_is_named(full):
    path = full / "data" / "results" / "07_x.json"
    path.parent.mkdir(parents=True)
    for content in ("{", "{}", '{"numbers": {}, "claims": {"K6": {"holds": "gain > 0"}}}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"07_x\.json holds no results"):
            ledger.entries()


# --- pages ----------------------------------------------------------------------------------------------------

NOTEBOOK = """# Is it so?

Some words, and notebook 08.

**Answer.** What stood here before: 17 points.
"""
WORDS = """
line = "By {gain} points."
answer = "Yes, by {gain} points in {wins} tasks."
true = ["low(gain) > 0"]
[captions]
"""


@pytest.fixture
def house(full):
    """A folder with two notebooks, words and results of the first."""
    import nbformat

    (full / "notebooks").mkdir()
    (full / "README.md").write_text("<!-- findings -->\n<!-- /findings -->\n")
    for name, first in {"07_x": NOTEBOOK, "08_y": "# Is it not?\n"}.items():
        parts = [nbformat.v4.new_markdown_cell(first, id="a")]
        parts += [nbformat.v4.new_code_cell(f'fd.notebook.result("{name}")', id="b")]
        nbformat.write(nbformat.v4.new_notebook(cells=parts), full / "notebooks" / f"{name}.ipynb")
    (full / "07_x.toml").write_text(WORDS)
    measured()
    return full


def page(house, name="07_x"):
    import nbformat

    cells = nbformat.read(house / "notebooks" / f"{name}.ipynb", as_version=4).cells
    shown = [output["data"]["text/markdown"] for output in cells[1].outputs]
    return cells[0].source, "\n".join(shown), cells[-1].source


def test_pages_are_made_from_words_and_numbers_and_again_changes_nothing(house):
    assert renewal.renew(house / "notebooks") == []
    first, shown, links = page(house)
    assert first.endswith("**Answer.** Yes, by 3.9(4) points in 5 tasks.")
    assert "[08](08_y.ipynb)" in first
    assert "By 3.9(4) points." in shown
    assert "make figures ONLY=07" in shown, "a figure that is missing is said, with how to make it"
    assert links == "[Is it not? →](08_y.ipynb)"
    assert "By 3.9(4) points." in (house / "notebooks" / "README.md").read_text()
    assert "make figures ONLY=08" in page(house, "08_y")[1]
    before = {path: path.read_bytes() for path in house.rglob("*.*")}
    assert renewal.renew(house / "notebooks") == []
    assert {path: path.read_bytes() for path in house.rglob("*.*")} == before


def test_a_new_number_makes_new_pages_and_false_words_are_reported(house):
    renewal.renew(house / "notebooks")
    measured(gain=(4.1, 0.3))
    assert renewal.renew(house / "notebooks") == []
    assert page(house)[0].endswith("Yes, by 4.1(3) points in 5 tasks.")
    measured(gain=(0.1, 0.3))
    failures = renewal.renew(house / "notebooks")
    assert any("no longer true: low(gain) > 0" in failure for failure in failures)
    assert page(house)[0].endswith("Yes, by 4.1(3) points in 5 tasks."), "nothing false is written"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("{wins}", "{losses}", "losses"), ("{wins}", "{wins", "no template"), ("[captions]", "[captions", "07_x.toml")],
)
def test_words_that_can_not_be_filled_are_reported_and_shown(house, old, new, message):
    (house / "07_x.toml").write_text(WORDS.replace(old, new))
    with pytest.raises(ValueError, match=message):
        pages.words("07_x")
    assert any(message in failure for failure in renewal.renew(house / "notebooks"))
    assert "can't be shown" in pages.shown("07_x")[-1]["text/markdown"]


def test_links_are_put_where_notebooks_are_named_and_only_once():
    questions = {"07_x": "?", "08_y": "?"}
    text = pages.linked("See notebooks 07 and 08, notebook 99, 07 runs, [07](07_x.ipynb).", questions)
    wanted = "See notebooks [07](07_x.ipynb) and [08](08_y.ipynb), notebook 99, 07 runs, [07](07_x.ipynb)."
    assert text == wanted
    assert pages.linked(text, questions) == wanted


def test_seconds_change_only_by_much(house):
    renewal.took("07_x", 10.2)
    renewal.took("07_x", 14)
    assert renewal.seconds() == {"07_x": 10}
    renewal.took("07_x", 25)
    assert renewal.seconds() == {"07_x": 25}


def test_a_claim_has_one_sentence_where_notebooks_agree_and_each_has_its_own_where_they_differ(full):
    for name, gain in (("07_x", 3.9), ("08_y", 2.9), ("09_z", -3.9)):
        page = Results(name)
        page.add("gain", "gain", gain, 0.1)
        page.settle("K6", "gain > 0", condition="By {gain}.", otherwise="Only {gain}.")
        if name == "08_y":
            shown, folded = ledger.cards().split("<details>")[:2]
            assert "By 3.9(1)." in shown
            assert "By 2.9(1)." not in shown
            assert "By 2.9(1)." in folded
    shown = ledger.cards().split("<details>")[0]
    assert all(sentence in shown for sentence in ("By 3.9(1).", "By 2.9(1).", "Only -3.9(1)."))
