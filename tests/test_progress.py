"""Progress bars end well whatever ended the work, and a log is not flooded."""

import contextlib
import io
import itertools
import sys

import pytest
from tqdm import notebook, std

from flatdyn.core import progress, segments


class InNotebooks(progress.Vanishing, notebook.tqdm):
    """A bar as a kernel with widgets gets it."""


@pytest.mark.parametrize("delay", [0, 60], ids=["drawn", "not yet drawn"])
@pytest.mark.parametrize("ended", ["whole", "early", "by an error", "by an interrupt while it drew"])
def test_a_bar_in_a_notebook_vanishes(ended, delay, monkeypatch):
    pytest.importorskip("ipywidgets")
    bar = InNotebooks(total=10, delay=delay, display=False)
    assert bar.container.comm is not None
    if "interrupt" in ended:
        bar.update(3)
        monkeypatch.setattr(std.tqdm, "update", interrupted)
    with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt), bar:
        bar.update(10 if ended == "whole" else 3)
        if "error" in ended:
            raise ZeroDivisionError
    assert bar.container.comm is None  # the widget is closed: nothing of it stays on the page
    style = bar.container.children[1].bar_style
    assert (style == "danger") is ("interrupt" in ended)  # tqdm's own, hidden with the widget


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_without_that_a_bar_would_stay_red():
    """What the test above can see."""
    pytest.importorskip("ipywidgets")
    with notebook.tqdm(total=10, leave=False, display=False) as bar:
        bar.update(3)
    assert bar.container.children[1].bar_style == "danger"
    assert bar.container.comm is not None


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_bar_draws_and_leaves_an_empty_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    with segments.progress_bar(10, "steps", True) as bar:
        bar.update(3)
    drawn = sys.stderr.getvalue().split("\r")
    assert "0.00/10.0" in drawn[1]
    assert not drawn[-1].strip()
    assert not drawn[-2].strip()


@pytest.mark.parametrize("total", [600, 0])
def test_in_a_log_there_is_a_line_every_30_seconds_at_most(total, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("FLATDYN_PROGRESS", "1")
    seconds = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))
    with segments.progress_bar(total, "steps", None) as bar:
        for _ in range(100):  # one a second
            bar.update(5)
    lines = sys.stderr.getvalue().split("\n")
    assert lines.pop() == ""
    assert len(lines) == 3
    assert not any("\r" in line for line in lines)
    assert lines[0].startswith("25% 150/600 [00:30<01:30, 5.00 steps/s]" if total else "150 steps [00:30")


def test_short_work_and_hidden_bars_write_nothing_in_a_log(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("FLATDYN_PROGRESS", "1")
    for shown in (None, False):
        with segments.progress_bar(10, "steps", shown) as bar:
            bar.update(10)
    monkeypatch.setenv("FLATDYN_PROGRESS", "0")
    with segments.progress_bar(10, "steps", None) as bar:
        bar.update(10)
    assert sys.stderr.getvalue() == ""


def test_who_asks_for_progress_has_a_line_at_once(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with segments.progress_bar(10, "steps", True) as bar:
        assert "0.00/10.0" in sys.stderr.getvalue()
        bar.update(10)
    assert sys.stderr.getvalue().count("\n") == 1


@pytest.mark.parametrize("missing", [None, "closed"])
def test_without_a_stderr_nothing_fails(missing, monkeypatch, capsys):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed if missing else None)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with segments.progress_bar(10, "steps", True) as bar:
        bar.update(10)
    assert capsys.readouterr().out == ""
