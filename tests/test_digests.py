"""What is printed and drawn is compared by the same rule on every machine: rounding does not count, a change does."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from flatdyn import notebook
from flatdyn.notebook import agreement

ROOT = Path(__file__).parent.parent

ROUNDING = 1e-13  # relative, of a number that some hundred operations in 64 bits have made
GRID = np.linspace(0, 1, 40)
FIELD = np.add.outer(GRID**2, np.sin(5 * GRID))


def digest_of(figure):
    text = notebook.digest(figure)
    plt.close(figure)
    return text


# --- a figure with every kind of artist -----------------------------------------------------------------------


def gallery(change=lambda name, data: data):
    """Its digest; `change` may alter the data of each artist by name."""
    figure = plt.figure(figsize=(8, 6))
    lines, logs, contours, image, bars = (figure.add_subplot(2, 3, i + 1) for i in range(5))
    solid = figure.add_subplot(2, 3, 6, projection="3d")
    lines.plot(GRID, change("curve", np.sin(9 * GRID)))
    lines.plot(GRID, change("nothing", np.zeros(40)))
    lines.axhline(0.5)
    logs.loglog(1 + GRID, change("logs", np.exp(-30 * GRID)))
    contours.contour(GRID, GRID, change("contours", FIELD))
    contours.plot(GRID, np.random.default_rng().normal(size=40) * 1e3, gid="chaotic")  # and the axes with it
    image.imshow(change("image", FIELD))
    bars.bar([1, 2, 3], change("bars", np.array([1.0, 2.0, 5.0])))
    bars.errorbar([1, 2], change("errorbars", np.array([1.0, 2.0])), [0.1, 0.2])
    bars.scatter(GRID, change("points", GRID**2), c=change("colours", GRID))
    bars.fill_between(GRID, change("band", GRID), 2)
    bars.quiver(GRID, GRID, change("arrows", GRID + 1), -GRID)
    bars.pcolormesh(change("corners", np.linspace(0, 1, 41)), np.linspace(0, 1, 41), change("mesh", FIELD))
    bars.set_ylim(-1, 6)
    solid.plot(GRID, GRID, change("space", GRID**2))
    return digest_of(figure)


NAMES = ["curve", "logs", "contours", "image", "bars", "errorbars", "points", "colours", "band"]
NAMES += ["arrows", "corners", "mesh", "space"]


@pytest.fixture(scope="module")
def stored():
    return gallery()


@pytest.mark.parametrize("seed", range(4))
def test_rounding_of_everything_that_is_plotted_does_not_count(stored, seed):
    rng = np.random.default_rng(seed)

    def rounded(name, data):
        noise = rng.uniform(-1, 1, (2, *data.shape))
        relative = data * (1 + ROUNDING * noise[0])
        # a sum of terms of order one leaves some 1e-16 of them, zero or not; logarithms show that, so none there
        return relative if name == "logs" else relative + 1e-15 * noise[1]

    assert agreement.same_text(stored, gallery(rounded))


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_a_thousandth_counts(stored, name):
    assert not agreement.same_text(stored, gallery(lambda one, data: data * 1.001 if one == name else data))


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose], ids=lambda turn: turn.__name__)
@pytest.mark.parametrize("name", ["image", "mesh", "contours"])
def test_a_picture_turned_counts(stored, name, turn):
    assert not agreement.same_text(stored, gallery(lambda one, data: turn(data) if one == name else data))


def test_digests_cover_every_kind_of_artist():
    figure = plt.figure()
    flat, solid = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
    x = np.linspace(0, 1, 5)
    flat.scatter(x, x**2)
    flat.quiver(x, x, x, -x)
    flat.fill_between(x, x, 2 * x)
    flat.contour(x, x, np.add.outer(x, x))
    flat.pcolormesh(np.add.outer(x, x))
    solid.plot(x, x, x)
    text = notebook.digest(figure)
    for name in ("points x", "arrows u", "outline", "contour levels", "image", "line3d z"):
        assert name in text
    plt.close(figure)


def test_one_pixel_counts_in_a_large_map_and_so_does_its_orientation():
    labels = np.random.default_rng(0).integers(0, 4, (321, 321))

    def drawn(labels, **look):
        figure, ax = plt.subplots()
        ax.imshow(labels, **look)
        return digest_of(figure)

    changed = labels.copy()
    changed[200, 100] = (changed[200, 100] + 1) % 4
    before = drawn(labels, origin="lower", extent=(0, 1, 0, 1))
    for after in (
        drawn(changed, origin="lower", extent=(0, 1, 0, 1)),
        drawn(labels, origin="upper", extent=(0, 1, 0, 1)),
        drawn(labels, origin="lower", extent=(0, 1, 1, 0)),
    ):
        assert not agreement.same_text(before, after)


def test_zero_but_for_rounding_is_zero_and_far_outside_is_at_the_border():
    figure, (alone, beside, cut) = plt.subplots(1, 3)
    alone.plot([1.0, 2.0], [3.923e-18, -6.2e-32])
    beside.plot([1.0, 2.0], [1e6, 1e6 + 1e-9])
    cut.plot([1.0, 2.0, 3.0], [0.0, -7.862e104, 1.0])
    cut.set_ylim(-1, 2)
    first, second, third = (block.splitlines() for block in digest_of(figure).split("[||]\n")[1:])
    assert (
        first[1] == "  line y n 2 range 0.00000e-09 0.00000e-09 means 0.000000000e-09 0.000000000e-09 0.000000000e-09"
    )
    assert second[1].startswith("  line y n 2 range 1000000.000 1000000.000 means")
    assert third[1].startswith("  line y n 3 range -4.00000 1.00000 means")


def test_what_a_chaotic_artist_does_to_its_axes_changes_nothing_else():
    texts = set()
    for size in (1.0, 1e5):
        figure, ax = plt.subplots()
        ax.plot(GRID, GRID**2)
        ax.plot(GRID, size * GRID, gid="chaotic")
        ax.contour(GRID, GRID, FIELD)
        texts.add(digest_of(figure))
    assert len(texts) == 1
    assert "line y n 40\n" in texts.pop()


# --- numbers --------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e9, 1e9), st.integers(1, 9), st.floats(-ROUNDING, ROUNDING))
@example(0.25, 1, -ROUNDING)  # in the middle between two texts
@example(0.125, 2, ROUNDING)
@example(999999.5, 6, -ROUNDING)
@example(1.0, 6, -ROUNDING)
@example(3.0, 1, -ROUNDING)
def test_rounding_of_a_reported_number_does_not_count(value, sig, noise):
    for unc in (None, 0.0):
        old, new = (notebook.number(one, unc, sig=sig) for one in (value, value * (1 + noise)))
        assert agreement.same_text(f"x = {old}", f"x = {new}"), (old, new)


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e6), st.floats(-ROUNDING, ROUNDING), st.floats(-ROUNDING, ROUNDING))
@example(2.5, 1.0, -ROUNDING, -ROUNDING)
@example(0.95, 0.095, ROUNDING, -ROUNDING)
def test_rounding_of_a_number_and_of_its_error_does_not_count(value, error, noise, noise_of_error):
    assume(error > ROUNDING * abs(value))  # it holds at least that
    old = notebook.number(value, error)
    new = notebook.number(value * (1 + noise), error * (1 + noise_of_error))
    assert agreement.same_text(f"x = {old}", f"x = {new}"), (old, new)


@pytest.mark.parametrize(
    ("stored", "new", "agree"),
    [
        ("x = 0.500000", "x = 0.500001", True),
        ("x = 0.500000", "x = 0.500002", False),
        ("x = 1.00000e-09", "x = 1.00001e-09", True),
        ("x = 1.00000", "x = 0.999999", True),  # one unit of the coarser text
        ("x = 1.00000", "x = 0.999989", False),
        ("x = 3.923e-18, 1.000", "x = 6.218e-32, 1.000", True),  # zero but for rounding beside the other
        ("x = 3.923e-18", "x = 6.218e-32", False),  # nothing to tell the scale by
        ("x = 3.923e-10, 1.000", "x = 6.218e-10, 1.000", False),
        ("x = 0.5", "x = 0.6", False),  # one unit is too much where there is one digit
        ("n = 12", "n = 13", False),
        ("n = 12", "n = 12.0", False),
        ("3 runs, 0.25", "4 runs, 0.25", False),
        ("x = 0.894(2)", "x = 0.900(2)", True),
        ("x = 0.894(2)", "x = 0.903(2)", False),
        ("x = 0.894(2)", "x = 0.894(9)", False),  # an error four times as large is another experiment
        ("x = 1230(10)", "x = 1260(10)", True),
        ("x = 1230(10)", "x = 1290(10)", False),
        ("x = 8.95(1)e-05", "x = 8.98(1)e-05", True),
        ("x = 8.95(1)e-05", "x = 9.05(1)e-05", False),
        ("holds", "fails", False),
        ("a = 1.000\n", "a = 1.000\nb = 2.000\n", False),
    ],
)
def test_printed_numbers_agree_within_their_last_place_or_their_error(stored, new, agree):
    assert agreement.same_text(stored, new) is agree
    assert agreement.same_text(new, stored) is agree


def test_reported_zeros_are_zero(capsys):
    notebook.report({"scalar": 3.9e-17, "array": [1e-7, 3e-20, -1.0], "small": 3e-9}, sig=3)
    notebook.report({"meant": 3.9e-17}, sig=3, zero=0)
    said = "scalar = 0.00\narray  = 1.00e-07, 0.00, -1.00\nsmall  = 3.00e-09\nmeant = 3.90e-17\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("runs", [3, 4, 8])
def test_errors_of_few_runs_hold_between_repetitions(runs):
    """Two machines train the same few networks to different ends: that counts once in a thousand pairs."""
    pairs, rng = 40_000, np.random.default_rng(runs)
    samples = rng.normal(size=(2, pairs, runs))
    (one, two), (low, high) = samples.mean(axis=2), np.sort(samples.std(axis=2, ddof=1) / runs**0.5, axis=0)
    limit = agreement.allowed(runs)
    apart, ratio = np.abs(one - two) > limit.errors * high, high > limit.ratio * low
    # the larger of two errors is at least their root mean square, so the bound is not reached; five binomial errors
    assert apart.mean() <= 1e-3 + 5 * (1e-3 / pairs) ** 0.5
    assert ratio.mean() == pytest.approx(1e-3, abs=5 * (1e-3 / pairs) ** 0.5) or limit.ratio == agreement.USUAL.ratio
    # four errors, as if the error were known, would not do
    assert (np.abs(one - two) > 4 * high).mean() > 1e-3 or runs == 8


def test_a_tag_says_how_many_runs_are_behind_a_cell():
    assert agreement.runs_behind({"metadata": {"tags": ["other", "runs-3"]}}) == 3
    assert agreement.runs_behind({"metadata": {}}) is None
    few = agreement.allowed(3)
    assert agreement.same_text("accuracy = 9.9(3)", "accuracy = 13(3)", few)
    assert not agreement.same_text("accuracy = 9.9(3)", "accuracy = 13(3)")
    assert not agreement.same_text("accuracy = 93.7(1)", "accuracy = 91.7(1)", few)


def test_cells_that_name_a_number_of_runs_say_as_many_as_there_are():
    """`seeds` and its like, in the quick preset whose output is stored."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        tags = {agreement.runs_behind(cell) for cell in cells} - {None}
        settings = "".join("".join(cell["source"]) for cell in cells)
        for runs in tags:
            assert f"quick=({runs}" in settings or f"quick={runs}" in settings or runs >= 8, path.name
