"""Records: saved whole, read back equal, refused when damaged. Numbers and digests for notebooks."""

import os
import signal
import subprocess
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import flatdyn as fd
from flatdyn import notebook, records
from flatdyn.core.records import Ensemble


@pytest.fixture
def ensemble():
    process = fd.Iteration(fd.landscapes.himmelblau(), fd.SAM(1e-3, 0.1))
    return fd.simulate(process, np.array([[1.0, 2.0], [90.0, 90.0]]), 20)


def test_a_record_survives_the_disk(ensemble, tmp_path):
    path = ensemble.save(tmp_path / "folder" / "run.npz")
    back = Ensemble.load(path)
    for name, values in ensemble.arrays().items():
        assert_array_equal(getattr(back, name), values)
    assert back.config == ensemble.config
    assert back.provenance["versions"]["jax"]
    assert "1 diverged" in repr(back)


def test_the_same_record_gives_the_same_bytes(ensemble, tmp_path):
    a, b = ensemble.save(tmp_path / "a.npz"), ensemble.save(tmp_path / "b.npz")
    assert a.read_bytes() == b.read_bytes()


def test_a_truncated_or_damaged_record_is_refused(ensemble, tmp_path):
    whole = ensemble.save(tmp_path / "run.npz").read_bytes()
    damaged = tmp_path / "damaged.npz"
    for content in (b"", whole[:10], whole[: len(whole) // 2], whole[:-30], b"not a record"):
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a complete record.*compute it again"):
            Ensemble.load(damaged)
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    damaged.write_bytes(flipped)
    with pytest.raises(ValueError, match="not a complete record"):
        Ensemble.load(damaged)
    with pytest.raises(FileNotFoundError):
        Ensemble.load(tmp_path / "absent.npz")


def test_another_kind_of_record_is_refused(tmp_path):
    path = records.save_arrays(tmp_path / "x.npz", {"a": np.zeros(2)}, {"record": "Other"})
    with pytest.raises(ValueError, match="holds a Other record, not Ensemble"):
        Ensemble.load(path)


def test_records_are_read_without_pickle(tmp_path):
    np.savez(tmp_path / "evil.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="not a complete record"):
        Ensemble.load(tmp_path / "evil.npz")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    records.write_whole(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        records.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


WRITER = """
import os, signal, sys
from flatdyn.core.records import write_whole
for line in sys.stdin:  # a fresh process for each line, without the seconds that the imports take
    if (child := os.fork()) == 0:
        signal.alarm(60)  # ends even if nobody kills it
        for i in range(10**9):
            write_whole(sys.argv[1], bytes([i % 256]) * 200_000)
    print(child, flush=True)
    os.waitpid(child, 0)
"""


def test_kill_9_never_leaves_a_part(tmp_path):
    path = tmp_path / "x.bin"
    rng = np.random.default_rng(0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    launcher = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], **pipes)
    for _ in range(3):
        path.unlink(missing_ok=True)  # so that each process has written before it is killed
        launcher.stdin.write("\n")
        launcher.stdin.flush()
        child, deadline = int(launcher.stdout.readline()), time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1
    launcher.communicate()


# --- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (0.5, None, "0.500000"),
        (3, None, "3"),
        (True, None, "True"),
        (1e-9, None, "1.00000e-09"),
        (0.894123, 0.0021, "0.894(2)"),
        (0.8946, 0.0096, "0.89(1)"),
        (1234.5, 12.0, "1230(10)"),
        (9.3e-5, 2e-6, "9.3(2)e-05"),
        (0.0, 0.5, "0.0(5)"),
        (2664.2, 0.95, "2664(1)"),
        (14.203125, 0.0, "14.2031 (exact)"),
        (0.1254705144291, 3e-15, "0.125471 (exact)"),  # of runs that agree but for rounding
        (-12.54705144291, 8e-15, "-12.5471 (exact)"),
        (3e-16, 2e-16, "3(2)e-16"),
        (float("nan"), 0.0, "nan (exact)"),
        (float("inf"), 0.0, "inf (exact)"),
        (float("nan"), None, "nan"),
    ],
)
def test_numbers_as_text(value, uncertainty, text):
    assert notebook.number(value, uncertainty) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e3))
def test_a_number_with_its_uncertainty_can_be_read_back(value, uncertainty):
    text = notebook.number(value, uncertainty)
    head, _, tail = text.partition("(")
    exponent = tail.partition(")")[2] or "e0"
    assert abs(float(head + exponent) - value) <= 0.51 * 10 ** (1 + np.floor(np.log10(uncertainty)))


def test_report_prints_one_line_a_value(capsys):
    notebook.report({"a": 1.0, "longer": np.array([1.0, 2.0]), "word": "yes"}, sig=3, unc={"a": 0.1})
    assert capsys.readouterr().out == "a      = 1.0(1)\nlonger = 1.00, 2.00\nword   = yes\n"


def test_presets(monkeypatch):
    monkeypatch.setenv("FLATDYN_PRESET", "full")
    assert notebook.preset(quick=1, full=2) == 2
    monkeypatch.delenv("FLATDYN_PRESET")
    assert notebook.preset(quick=1, full=2) == 1
    monkeypatch.setenv("FLATDYN_PRESET", "huge")
    with pytest.raises(ValueError, match="quick or full, got 'huge'"):
        notebook.preset(quick=1, full=2)


def test_what_is_not_known_is_said_in_words(capsys):
    assert notebook.say("stay", 12.0, 0.5, unknown="beyond the cap") == (12.0, 0.5)
    value, error = notebook.say("stay", np.nan, np.inf, unknown="beyond the cap")
    assert (np.isnan(value), error) == (True, np.inf)
    notebook.say("stay", 3.0, np.inf)
    assert capsys.readouterr().out == "stay = 12.0(5)\nstay = beyond the cap\nstay = 3.00000\n"
    with pytest.raises(ValueError, match="error must be a number"):
        notebook.say("stay", 3.0, "large", unknown="beyond the cap")


def test_figures_are_written_by_the_full_preset_only_and_byte_identically(tmp_path, monkeypatch, ensemble, capsys):
    monkeypatch.setenv("FLATDYN_FIGURES", str(tmp_path))
    monkeypatch.delenv("FLATDYN_PRESET", raising=False)

    def save():
        figure, ax = plt.subplots()
        fd.plotting.draw_paths(ax, ensemble, label="run")
        notebook.save_figure(figure, "99_test", run=ensemble, extra=np.arange(3))
        plt.close(figure)

    save()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("FLATDYN_PRESET", "full")
    save()
    names = ["99_test.pdf", "99_test.png", "data/99_test.npz"]
    first = [(tmp_path / name).read_bytes() for name in names]
    save()
    assert [(tmp_path / name).read_bytes() for name in names] == first
    arrays, header = records.load_arrays(tmp_path / names[2])
    assert_array_equal(arrays["run.theta"], ensemble.theta)
    assert_array_equal(arrays["extra"], [0, 1, 2])
    assert header["config"]["run"]["steps"] == "20"
    assert "left as it is" in capsys.readouterr().out
