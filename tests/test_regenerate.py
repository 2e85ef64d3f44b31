"""figures/regenerate.py on small notebooks of its own: reports, exit status, whole files."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from flatdyn.notebook import pictures

ROOT = Path(__file__).parent.parent


def notebook(*sources):
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return json.dumps(
        {
            "cells": [cell | {"id": f"cell-{i}", "source": source} for i, source in enumerate(sources)],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


SAVE = """
import matplotlib.pyplot as plt
from flatdyn.notebook import save_figure
figure, ax = plt.subplots()
ax.plot([1, 2])
save_figure(figure, "{name}", y=[1, 2])
"""


@pytest.fixture
def house(tmp_path):
    """A copy of the runner with notebooks to run."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text("# Title\n")
    script = tmp_path / "figures" / "regenerate.py"
    script.write_text((ROOT / "figures" / "regenerate.py").read_text())
    (tmp_path / "notebooks" / "01_good.ipynb").write_text(notebook(SAVE.format(name="01_good"), "print('done')"))
    return tmp_path


# A Python that has imported what the script imports, and forks for each run: imports are most of what one costs.
FORKING = """
import json, os, runpy, sys
import flatdyn, jupyter_client, nbclient, tqdm
import flatdyn.notebook.installing, flatdyn.notebook.renewal
flatdyn.notebook.keys.library()  # each run needs it
for line in sys.stdin:
    sys.argv, output = json.loads(line)
    if (child := os.fork()) == 0:
        os.setsid()
        for stream, number in (os.devnull, 0), (output + "out", 1), (output + "err", 2):
            os.dup2(os.open(stream, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forking():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", FORKING], **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def start(house, forking, tmp_path_factory):
    """The script with some arguments, in a process and a session of its own: its number, and a way to its end."""
    output = str(tmp_path_factory.mktemp("output")) + os.sep

    def started(*arguments):
        command = [str(house / "figures" / "regenerate.py"), *arguments]
        print(json.dumps([command, output]), file=forking.stdin, flush=True)
        return int(forking.stdout.readline()), lambda: ended(command)

    def ended(command):
        status = int(forking.stdout.readline())
        stdout, stderr = (Path(output + name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(command, status, stdout, stderr)

    return started


@pytest.fixture
def run(start):
    """The script with some arguments, to its end."""
    return lambda *arguments: start(*arguments)[1]()


def test_a_failing_cell_and_a_dead_kernel_are_reported_and_the_others_go_on(house, run):
    (house / "notebooks" / "01_good.ipynb").write_text(notebook("open('../ran', 'w').close()"))
    (house / "notebooks" / "02_bad.ipynb").write_text(notebook("a = 1", "1 / 0  # here"))
    (house / "notebooks" / "03_dead.ipynb").write_text(notebook("import os; os._exit(1)"))
    done = run("--jobs", "2")
    assert done.returncode == 1
    assert "02_bad.ipynb failed" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "1 / 0  # here" in done.stderr
    assert "03_dead.ipynb failed: its kernel died" in done.stderr
    assert "1 of 3 notebooks done" in done.stdout
    assert (house / "ran").exists()


def test_a_kernel_ends_with_its_notebook(house, run):
    """Or all of them would be held in memory until the last one has run."""
    (house / "notebooks" / "01_good.ipynb").write_text(
        notebook("import os, pathlib; _ = pathlib.Path('../kernel').write_text(str(os.getpid()))")
    )
    (house / "notebooks" / "02_next.ipynb").write_text(
        notebook("import os, pathlib; os.kill(int(pathlib.Path('../kernel').read_text()), 0)")  # which sends nothing
    )
    done = run("--jobs", "1")
    assert "ProcessLookupError" in done.stderr, done.stdout + done.stderr


def test_store_renews_output_without_volatile_metadata_and_again_changes_nothing(house, run):
    path = house / "notebooks" / "01_good.ipynb"
    slow = "import time\nfor i in range(3): print(i, flush=True); time.sleep(0.3)"  # sent in pieces
    path.write_text(notebook(SAVE.format(name="01_good"), slow))
    assert run("--store").returncode == 0
    first = path.read_text()
    stored = json.loads(first)
    assert [cell["execution_count"] for cell in stored["cells"] if cell["cell_type"] == "code"] == [1, 2]
    assert "left as it is" in str(stored["cells"][0]["outputs"])
    assert [output["text"] for output in stored["cells"][1]["outputs"]] == [["0\n", "1\n", "2\n"]]
    assert not (house / "figures" / "01_good.pdf").exists()
    assert run("--store").returncode == 0
    assert path.read_text() == first


def test_a_stored_picture_is_light_and_looks_as_before():
    fig, ax = plt.subplots(figsize=(4, 3))
    ax.imshow(np.linspace(0, 1, 400).reshape(20, 20))
    file = io.BytesIO()
    fig.savefig(file, format="png", facecolor="none")
    plt.close(fig)
    before = Image.open(file).convert("RGBA")
    stored = pictures.lighter(file.getvalue())
    after = Image.open(io.BytesIO(stored))
    assert after.mode == "P"
    assert len(stored) < 0.6 * len(file.getvalue())
    white = Image.alpha_composite(Image.new("RGBA", before.size, "white"), before).convert("RGB")
    apart = np.abs(np.asarray(after.convert("RGB"), int) - np.asarray(white, int))
    assert apart.mean() < 1  # of 255: a colour map of 400 shades and the edges of letters share 128 colours
    assert np.asarray(after.convert("RGB"))[0, 0].tolist() == [255, 255, 255]


def test_a_full_run_renews_the_pages(house, run):
    measure = (
        "from flatdyn.notebook import Results, result\n"
        "results = Results('02_new')\n"
        "results.add('y', 'y', 1)\n"
        "results.settle('S2', 'y > 0', condition='in the end')"
    )
    overview = house / "notebooks" / "00_all.ipynb"
    overview.write_text(notebook("import flatdyn as fd\nfd.notebook.overview()"))
    (house / "notebooks" / "02_new.ipynb").write_text(notebook(measure))
    assert run("--only", "02").returncode == 0
    assert "in the end" in overview.read_text()
    assert "in the end" in (house / "figures" / "ledger.md").read_text()


def test_list_only_unknown_names_and_what_a_killed_run_left(house, run):
    part = house / "figures" / ".01_good.pdf.abc.part"
    part.write_bytes(b"%PDF half")
    (house / "notebooks" / "01_good.ipynb").write_text(notebook("print('good')"))
    (house / "notebooks" / "02_bad.ipynb").write_text(notebook("1 / 0"))
    assert run("--list").stdout.split() == ["01_good", "02_bad"]
    assert run("--only", "01").returncode == 0
    assert not part.exists()
    unknown = run("--only", "07")
    assert unknown.returncode == 1
    assert "no notebook starts with 07; there are 01_good, 02_bad" in unknown.stderr
    assert run("--jobs", "0").returncode == 2


def test_interrupting_leaves_finished_figures_whole(house, start, run):
    slow = house / "notebooks" / "02_slow.ipynb"
    slow.write_text(notebook("import time; time.sleep(600)"))
    session, ended = start("--jobs", "2")
    figure, deadline = house / "figures" / "01_good.pdf", time.monotonic() + 120
    while not figure.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(0.5)
    os.killpg(session, signal.SIGINT)
    assert ended().returncode != 0
    assert figure.read_bytes().startswith(b"%PDF")
    assert figure.read_bytes().rstrip().endswith(b"%%EOF")
    assert not [p for p in (house / "figures").rglob("*") if p.name.startswith(".")]
    slow.write_text(notebook("print('quick now')"))  # the other notebook is finished, and not run again
    before = figure.stat().st_mtime_ns
    done = run()
    assert "1 of 2 notebooks are up to date" in done.stdout
    assert "02_slow: it has no record of a run" in done.stdout
    assert "2 of 2 notebooks done" in done.stdout
    assert figure.stat().st_mtime_ns == before


def test_figures_that_cannot_be_written_are_known_before_a_notebook_runs(house, run):
    ran = house / "ran"
    (house / "notebooks" / "01_good.ipynb").write_text(notebook(f"open({str(ran)!r}, 'w').close()"))
    (house / "figures" / "data").write_text("in the way")
    done = run()
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert not ran.exists()


def test_a_notebook_runs_once_and_then_only_with_a_reason_which_is_said(house, run):
    gone = house / "figures" / "data" / "made" / "02_gone.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("{}")
    done = run()
    assert not gone.exists()
    assert done.returncode == 0, done.stderr
    assert "01_good: it has no record of a run" in done.stdout
    assert "1 of 1 notebooks done" in done.stdout
    assert not list((house / "build" / "figures").iterdir())
    record = house / "figures" / "data" / "made" / "01_good.json"
    before = {path: path.read_bytes() for path in (house / "figures").rglob("01_good.*")}
    assert {path.name for path in before} == {"01_good.pdf", "01_good.png", "01_good.npz", "01_good.json"}
    assert str(house) not in record.read_text()
    key = json.loads(record.read_text())
    assert {"python", "jax", "numpy", "matplotlib"} <= set(key["versions"])
    assert {"flatdyn/notebook/output.py", "flatdyn/core/records.py"} <= set(key["modules"])
    assert "flatdyn/basins/maps.py" not in key["modules"]  # which nothing in it has asked for
    seen = {path: path.stat().st_mtime_ns for path in before}
    assert "1 of 1 notebooks are up to date: nothing to be done; FORCE=1" in run("--only", "01").stdout
    assert {path: path.stat().st_mtime_ns for path in before} == seen
    assert "01_good: asked for" in run("--dry-run", "--force").stdout
    record.write_text(json.dumps(key | {"versions": key["versions"] | {"jax": "0.9.0"}}))
    reason = f"01_good: jax 0.9.0 -> {key['versions']['jax']}"
    said = run("--dry-run").stdout
    assert reason in said
    assert "done" not in said
    done = run()
    assert reason in done.stdout
    assert "01_good: confirmed, 3 files stay as they are" in done.stdout, done.stdout + done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_a_warning_that_a_reader_would_see_is_reported_and_not_stored(house, run):
    path = house / "notebooks" / "01_good.ipynb"
    path.write_text(notebook("import warnings", "warnings.warn('rounded to 32 bits')"))
    done = run("--store")
    assert "01_good: cell 2 warns:" in done.stdout
    assert "rounded to 32 bits" in done.stdout
    assert "rounded" not in "".join(json.dumps(cell["outputs"]) for cell in json.loads(path.read_text())["cells"][:2])
