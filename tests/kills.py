"""Kill -9 and full disks, ten of each for every kind of work that keeps what is finished: `make kills`.

    python tests/kills.py [--times 10] [--only escapes --only figures ...]

Each kind of work is done once undisturbed, then killed at ten random moments, then on a disk that fills up on the way,
ten times. After each, what is kept must be whole, hold what it held before, and not be computed again; the end must be
the undisturbed result, bit for bit. A line of the table counts what happened; a broken promise ends the program.
"""

import argparse
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import flatdyn as fd
from flatdyn import records
from flatdyn.core import stores
from flatdyn.networks.training import training
from flatdyn.runs import queues

jax.config.update("jax_enable_x64", True)
os.environ.setdefault("FLATDYN_PROGRESS", "0")
ROOT = Path(__file__).parent.parent
KEY = jax.random.key  # made in the children: this process must not start JAX before it forks
LOG = None  # the file in which a child tells what it has finished


def tell(*words) -> None:
    if LOG is not None:
        with open(LOG, "a") as file:
            file.write(" ".join(map(str, words)) + "\n")


# --- the kinds of work: what is asked, what is logged, what is kept -------------------------------------------


def sweep(store):
    landscape = fd.landscapes.saddle((2.0, -2.0))

    def ask(process, key):
        time.sleep(0.01)
        tell(repr(float(process.method.rho)))
        return np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=50)

    lists = {"rho": np.arange(80) / 80}
    options = {"store": store, "version": "1"}
    return fd.sweep(lambda rho: fd.Iteration(landscape, fd.SAM(0.1, rho)), lists, ask, KEY(0), **options).value.values


def escapes(store):
    process = fd.Iteration(fd.landscapes.saddle((2.0, -2.0)), fd.GD(0.01), fd.noise.Gaussian(1.0))
    found = fd.escape_times(process, jnp.zeros(2), fd.escape.Ball((0.0, 0.0), 0.6), 20_000, 4000, KEY(1), store=store)
    return np.column_stack([found.steps, found.exit])


def maps(store):
    process = fd.Iteration(fd.landscapes.himmelblau(), fd.GD(2e-4))
    points = [(3.0, 2.0), (-2.805118, 3.131313), (-3.77931, -3.283186), (3.584428, -1.848127)]
    found = fd.map_basins(process, ((-5, 5), (-5, 5)), 160, points, max_steps=40_000, store=store)
    return np.stack([found.labels, found.steps])


def train(store):
    data = fd.networks.spirals(200, 1.0)
    task = fd.networks.classifier(fd.networks.MLP((2, 16, 2), KEY(2)), data)
    starts = task.starts(lambda key: fd.networks.MLP((2, 16, 2), key), KEY(3), 4)
    process = fd.Iteration(task.landscape, fd.SAM(0.1, 0.05, momentum=0.5), fd.noise.FiniteSum(20))
    found = fd.networks.train(task, process, starts, 6000, KEY(4), 300, eval_sets={"data": data}, chunk=2, store=store)
    return np.column_stack([found.theta, found.loss, found.metrics[..., 0]])


WORK = {"sweep": sweep, "train": train, "escapes": escapes, "maps": maps}


def watched() -> None:
    """In a child: log what is finished, and keep it ever so often."""
    stores.CHECKPOINT_SECONDS = 0.05
    put, advance = queues._Work.put, training._advance

    def logged_put(self, runs, results):
        put(self, runs, results)
        tell(*map(int, runs))

    def logged_advance(process, before, seed, numbers, steps):
        carry = jax.block_until_ready(advance(process, before, seed, numbers, steps))
        if steps:
            tell(*(f"{int(numbers[0])}:{k}" for k in range(int(before.taken[0]), int(carry.taken[0]))))
        return carry

    queues._Work.put, training._advance = logged_put, logged_advance


def logged(log: Path, since: int = 0) -> list[str]:
    return log.read_text()[since:].split() if log.exists() else []


def kept(store: Path) -> set[str]:
    """The pieces in a store, named as in the log; raises if anything there can't be read."""
    files = [records.load_arrays(path) for path in store.glob("*.npz")]
    if not files:
        return set()
    arrays, header = files[0]
    if "cell" in header:
        return {repr(float(header["cell"]["rho"])) for _, header in files}
    if "parts" in arrays:
        return {f"{start}:{k}" for start, _, _, done in arrays["parts"].tolist() for k in range(done)}
    return set(map(str, np.flatnonzero(arrays["finished"]).tolist()))


# --- children -------------------------------------------------------------------------------------------------


def child(work, store, log: Path, result: Path, prepare=lambda: None) -> int:
    """Fork a process that works; it writes its result, and the warnings that it gave."""
    if (pid := os.fork()) == 0:
        global LOG
        status = 1
        try:
            LOG = log
            signal.alarm(600)  # ends even if nobody kills it
            watched()
            prepare()
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                np.save(result, work(store))
            result.with_suffix(".txt").write_text("\n".join(str(warning.message) for warning in warned))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def must(promise: bool, what: str) -> None:
    if not promise:
        sys.exit(f"BROKEN: {what}")


def kills(name: str, times: int, folder: Path) -> str:
    """Kill the work at random moments, then let it end."""
    work, store, log, result = WORK[name], folder / "store", folder / "log", folder / "result.npy"
    # All children run the same programs: the first, which nobody kills, compiles them
    jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    must(ended(child(work, None, folder / "log0", folder / "whole.npy")) == 0, "undisturbed")
    whole, everything = np.load(folder / "whole.npy"), set(logged(folder / "log0"))
    killed = again = 0
    while killed < times:
        before, size = kept(store), log.stat().st_size if log.exists() else 0
        must(before != everything, f"{name} was done after {killed} kills: give it more work")
        pid, deadline = child(work, store, log, result), time.monotonic() + 120
        while not logged(log, size) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(random.uniform(0.0, 0.25))
        os.kill(pid, signal.SIGKILL)
        must(ended(pid) == -signal.SIGKILL, f"{name} ended before it was killed")
        killed += 1
        new, now = set(logged(log, size)), kept(store)
        must(before <= now, f"{name} lost what was kept")
        must(not before & new, f"{name} repeated what was kept")
        again += len(new - now)
    size, before = log.stat().st_size, kept(store)
    must(ended(child(work, store, log, result)) == 0, "the last run")
    must(not before & set(logged(log, size)), f"{name} repeated what was kept at the end")
    must(kept(store) == everything, f"{name} lacks something")
    must(np.load(result).tobytes() == whole.tobytes(), f"{name} ends differently after kills")
    under_way = f"{again} of {len(everything)} under way or not yet kept when killed"
    return f"{killed} kills: end bit-equal; kept pieces lost 0, repeated 0; {under_way}"


def full_from(number: int) -> None:
    """In a child: the disk is full from one write on."""
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(1)
        if len(calls) > number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    os.fsync = full


def full(name: str, times: int, folder: Path) -> str:
    """Let the disk fill up at random moments; the work must end, and another run must take up what was kept."""
    work, log, result = WORK[name], folder / "fulllog", folder / "full.npy"
    whole, everything, taken = np.load(folder / "whole.npy"), set(logged(folder / "log0")), 0
    for i in range(times):
        store = folder / f"full{i}"
        number = random.randint(2, 40 if name == "sweep" else 4)  # a map looks twice before it begins
        must(ended(child(work, store, log, result, lambda number=number: full_from(number))) == 0, f"{name}, disk full")
        must(np.load(result).tobytes() == whole.tobytes(), f"{name} ends differently on a full disk")
        said = result.with_suffix(".txt").read_text()
        must("No space left" in said and "keep the result yourself" in said, f"{name} said {said!r}")
        before, size = kept(store), log.stat().st_size
        must(ended(child(work, store, log, result)) == 0, "after the disk was full")
        must(not before & set(logged(log, size)), f"{name} repeated what was kept")
        must(np.load(result).tobytes() == whole.tobytes(), f"{name} ends differently after a full disk")
        taken += len(before)
    kept_then = f"{taken / times:.0f} of {len(everything)} kept by then, repeated 0"
    return f"{times} full disks: result bit-equal each time, reported with path and size; {kept_then}"


# --- figures --------------------------------------------------------------------------------------------------

CELL = """
import os, time
import matplotlib.pyplot as plt
from flatdyn.notebook import preset, save_figure
preset(quick=1, full=2)
open({log!r}, "a").write("{name}\\n")
time.sleep(0.3)
figure, ax = plt.subplots()
ax.plot(range({number}))
save_figure(figure, "{name}", y=[{number}])
"""


def house(folder: Path, number: int = 4) -> Path:
    """A copy of the runner with small notebooks."""
    (folder / "figures").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    (folder / "README.md").write_text("# Title\n")
    script = folder / "figures" / "regenerate.py"
    script.write_text((ROOT / "figures" / "regenerate.py").read_text())
    for i in range(1, number + 1):
        source = CELL.format(log=str(folder / "log"), name=f"{i:02}_x", number=i + 2)
        cell = {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "id": "a",
            "source": source,
        }
        book = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (folder / "notebooks" / f"{i:02}_x.ipynb").write_text(json.dumps(book))
    return script


def triples(folder: Path) -> dict[str, tuple[str, ...]]:
    """Digests of each figure's three files; raises if one is a part."""
    found = {}
    for path in sorted((folder / "figures").glob("*.pdf")):
        data = folder / "figures" / "data" / f"{path.stem}.npz"
        records.load_arrays(data)
        pdf, png = path.read_bytes(), path.with_suffix(".png").read_bytes()
        must(pdf.rstrip().endswith(b"%%EOF") and png.endswith(b"IEND\xaeB`\x82"), f"{path} is a part")
        found[path.stem] = tuple(hashlib.sha256(content).hexdigest() for content in (pdf, png, data.read_bytes()))
    return found


def killed_figures(times: int, folder: Path) -> str:
    whole = folder / "undisturbed"
    subprocess.run([sys.executable, str(house(whole))], check=True, capture_output=True)
    script, log, killed, repeated = house(folder / "killed"), folder / "killed" / "log", 0, 0
    made = folder / "killed" / "figures" / "data" / "made"
    while killed < times:
        if len(done := [path.stem for path in made.glob("*.json")]) == 4:
            shutil.rmtree(made)  # another round
            done = []
        size = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(
            [sys.executable, str(script), "--jobs", "1"], start_new_session=True, stderr=-3, stdout=-3
        )
        deadline = time.monotonic() + 120
        while not logged(log, size) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 4))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        repeated += len(set(done) & set(logged(log, size)))
        triples(folder / "killed")
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True)
    must(repeated == 0, f"{repeated} finished notebooks ran again")
    must(triples(folder / "killed") == triples(whole), "figures end differently after kills")
    return f"{killed} kills of `make figures`: figures byte-equal; finished notebooks lost 0, repeated 0; no part read"


def full_figures(times: int, folder: Path) -> str:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import kills, matplotlib.pyplot as plt\n"
        "from flatdyn.notebook import save_figure\n"
        "figure, ax = plt.subplots(); ax.plot([1, 2])\n"
        "for number in range(int(sys.argv[2])):\n"
        "    save_figure(figure, '01_x', y=[number]); before = kills.triples(kills.Path(sys.argv[3]))\n"
        "    fsync = os.fsync; kills.full_from(number % 3)\n"
        "    try: save_figure(figure, '01_x', y=[-1])\n"
        "    except OSError as error: assert 'No space' in str(error), error\n"
        "    else: raise SystemExit('saved on a full disk')\n"
        "    os.fsync = fsync\n"
        "    assert kills.triples(kills.Path(sys.argv[3])) == before\n"
    )
    env = os.environ | {
        "FLATDYN_PRESET": "full",
        "FLATDYN_FIGURES": str(folder / "full" / "figures"),
        "MPLBACKEND": "Agg",
    }
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(times), str(folder / "full")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    must(done.returncode == 0, done.stderr)
    return f"{times} full disks: the figure that was there is whole, its three files of one time; the error says so"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--only", action="append", choices=[*WORK, "figures"])
    chosen = parser.parse_args()
    for name in chosen.only or [*WORK, "figures"]:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            tests = (killed_figures, full_figures) if name == "figures" else (kills, full)
            for test in tests:
                outcome = test(chosen.times, folder) if name == "figures" else test(name, chosen.times, folder)
                print(f"{name:8} {outcome}", flush=True)


if __name__ == "__main__":
    main()
