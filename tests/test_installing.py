"""What a run made takes the place of what is stored only where it differs."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from flatdyn import notebook
from flatdyn.core import records
from flatdyn.notebook import installing, keys

NAME = "01_x"
X = np.linspace(0, 1, 30)
IMPORTED = ["flatdyn", "flatdyn.core.records", "flatdyn.plotting.style", "matplotlib", "numpy"]


@pytest.fixture
def once(tmp_path, monkeypatch):
    """One run of a notebook that draws, measures, and leaves the report and what lies in the folder of figures."""
    figures, scratch = tmp_path / "figures", tmp_path / "build" / NAME
    (figures / "data").mkdir(parents=True)
    (figures / "regenerate.py").write_text("")
    path = tmp_path / f"{NAME}.ipynb"
    path.write_text('{"cells": []}')
    monkeypatch.setenv("FLATDYN_PRESET", "full")
    monkeypatch.setenv("FLATDYN_FIGURES", str(scratch))
    modules = dict.fromkeys(("flatdyn/__init__.py", "flatdyn/core/records.py", "flatdyn/plotting/style.py"), "1")

    def run(y=X**2, error=None, color="C0", gain=0.5, changed=(), title="", saved=(NAME,)):
        run = installing.Run(path, modules | dict.fromkeys(changed, "2"), figures, scratch)
        for name in saved:
            figure, ax = plt.subplots(figsize=(2, 1))
            ax.plot(X, y, color=color)
            ax.set_title(title)
            data = {"y": y} if error is None else {"y": y, "y_sem": np.full(30, error)}
            notebook.save_figure(figure, name, **data)
            plt.close(figure)
        notebook.Results(NAME).add("gain", "gain", gain, 0.1)
        report = run.install(IMPORTED)
        assert not scratch.exists()
        return report, {path.relative_to(figures).as_posix(): path.read_bytes() for path in figures.rglob("*.*")}

    return run


DATA, RESULTS, MADE = f"data/{NAME}.npz", f"data/results/{NAME}.json", f"data/made/{NAME}.json"
FILES = {f"{NAME}.pdf", f"{NAME}.png", DATA, RESULTS}


def changed(before, after):
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_a_first_run_installs_all_and_a_second_confirms_it_byte_for_byte(once):
    report, first = once()
    assert "4 files renewed" in report
    assert set(first) == FILES | {MADE, "regenerate.py"}
    report, again = once()
    assert report == f"{NAME}: confirmed, 4 files stay as they are"
    assert again == first


def test_last_digits_of_another_machine_change_nothing(once):
    _, first = once()
    report, after = once(y=X**2 * (1 + 1e-12), gain=0.5 * (1 + 1e-13))
    assert "confirmed, 4 files" in report
    assert after == first


def test_a_changed_curve_renews_its_three_files_and_says_by_how_much(once):
    _, first = once()
    report, after = once(y=X**2 * 1.001)
    assert changed(first, after) == FILES - {RESULTS} | {MADE}
    assert f"{DATA}: y: differs by 0.001 of its range" in report
    assert f"{NAME}.png: its data were renewed" in report


def test_what_is_within_its_errors_is_confirmed_though_the_picture_differs(once):
    _, first = once(error=0.1)
    report, after = once(y=X**2 + 0.1, error=0.1)
    assert "confirmed, 4 files" in report
    assert after == first
    report, _ = once(y=X**2 + 0.5, error=0.1)
    assert "y: 30 of 30 entries differ by up to 5 standard errors" in report


def test_what_a_picture_shows_counts_even_if_its_data_do_not_hold_it(once, monkeypatch):
    _, first = once()
    save = notebook.save_figure
    monkeypatch.setattr(notebook, "save_figure", lambda figure, name, y: save(figure, name, y=X**2))
    report, after = once(y=X**2 * 1.01)
    assert changed(first, after) == FILES - {RESULTS} | {MADE}
    assert "the picture shows other numbers, though the data agree" in report


def test_another_style_renews_the_picture_alone(once):
    _, first = once()
    report, after = once(color="C1", changed=["flatdyn/plotting/style.py"])
    assert changed(first, after) == {f"{NAME}.pdf", f"{NAME}.png", MADE}
    assert "it may be drawn otherwise" in report


def test_a_change_of_the_library_that_draws_nothing_confirms(once):
    _, first = once()
    report, after = once(y=X**2 * (1 + 1e-12), changed=["flatdyn/core/records.py"])
    assert "confirmed" in report
    assert changed(first, after) == {MADE}


def test_a_result_beyond_its_error_is_renewed_and_named(once):
    _, first = once()
    assert "confirmed" in once(gain=0.8)[0]
    report, after = once(gain=1.0)
    assert changed(first, after) == {RESULTS, MADE}
    assert "numbers.gain: 0.5 ± 0.1 -> 1 ± 0.1, 5 standard errors apart" in report


def test_deleted_edited_and_damaged_files_are_made_again(once, tmp_path):
    _, first = once()
    figures = tmp_path / "figures"
    (figures / f"{NAME}.png").unlink()
    (figures / f"{NAME}.pdf").write_text("edited")
    arrays, header = records.load_arrays(figures / DATA)
    records.save_arrays(figures / DATA, arrays | {"y": arrays["y"] * (1 + 1e-12)}, header)
    (figures / RESULTS).write_text("{")
    report, after = once()
    assert after == first
    assert f"{NAME}.png: it is new" in report
    assert f"{DATA}: it was changed by other hands" in report


@pytest.mark.parametrize("content", [b"", b"PK half"])
def test_damaged_data_without_a_record_are_made_again(once, tmp_path, content):
    _, first = once()
    (tmp_path / "figures" / MADE).unlink()
    (tmp_path / "figures" / DATA).write_bytes(content)
    (tmp_path / "figures" / RESULTS).write_bytes(content)
    report, after = once()
    assert after == first
    assert "the stored one can't be read" in report


def test_a_figure_that_is_no_longer_written_is_named(once):
    once(saved=(NAME, f"{NAME}_map"))
    report, after = once()
    assert f"{NAME}_map.pdf is no longer written: delete it" in report
    assert f"{NAME}_map.pdf" in after


def test_an_installation_that_fails_leaves_all_as_it_was(once, tmp_path, monkeypatch):
    _, first = once()

    figures, write = tmp_path / "figures", records.write_together

    def full(contents):
        if any(figures in path.parents for path in contents):
            raise OSError("No space left on device")
        write(contents)

    monkeypatch.setattr(records, "write_together", full)
    with pytest.raises(OSError, match="No space"):
        once(y=X)
    monkeypatch.undo()
    assert {path.relative_to(figures).as_posix(): path.read_bytes() for path in figures.rglob("*.*")} == first


def test_a_record_names_no_place_and_no_machine(once, tmp_path):
    _, files = once()
    assert str(tmp_path).encode() not in files[MADE]
    assert set(json.loads(files[MADE])) == {"cells", "modules", "versions", "files"}
    assert set(json.loads(files[MADE])["files"]) == FILES
    assert keys.reasons(tmp_path / "figures", NAME, {"cells": []}, {}) != []
