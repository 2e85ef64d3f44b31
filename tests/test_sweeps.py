"""Sweeps: cells that know nothing of each other, errors that hold, nothing asked twice, nothing lost."""

import functools
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import records
from flatdyn.core.hashing import identity

KEY = jax.random.key(0)
L = fd.landscapes.saddle((2.0, -2.0))


def noisy(lr=0.1, rho=0.0, momentum=0.0, batch_size=1, ascent="shared"):
    return fd.Iteration(L, fd.SAM(lr, rho, momentum), fd.noise.Gaussian(1.0, batch_size), ascent)


def gd(lr):
    return fd.Iteration(L, fd.GD(lr))


def drawn(process, key):
    return np.asarray(jax.random.normal(key, (2,)))


def reached(process, key):
    """Where 64 walkers are after 20 steps: mean of |x| with its standard error."""
    x = np.abs(fd.simulate(process, np.zeros((64, 2)), 20, key, every=20).final[:, 0])
    return x.mean(), x.std(ddof=1) / 8


# --- the Dataset ----------------------------------------------------------------------------------------------


def hyperparameters(process, key):
    return {"r": process.method.rho, "m": process.method.momentum, "b": process.noise.batch_size}


def test_a_grid_has_a_dimension_for_each_list_and_every_cell_its_own_answer():
    S = fd.sweep(
        noisy, {"rho": [0, 0.5], "momentum": (0.0, 0.9), "batch_size": np.array([1, 4, 16])}, hyperparameters, KEY
    )
    assert dict(S.sizes) == {"rho": 2, "momentum": 2, "batch_size": 3}
    for name, found in (("rho", S.r), ("momentum", S.m), ("batch_size", S.b)):
        assert_array_equal(found, S[name].broadcast_like(found).transpose(*found.dims))
    assert S.batch_size.dtype.kind == "i"
    assert S.r.sel(rho=0.5, momentum=0.9, batch_size=4) == 0.5


def test_points_lie_along_one_dimension():
    points = [{"rho": 0.1, "ascent": "full"}, {"ascent": "shared", "rho": 0.2}, {"rho": 0.1, "ascent": "shared"}]
    S = fd.sweep(noisy, points, lambda p, key: p.method.rho, KEY)
    assert dict(S.sizes) == {"point": 3}
    assert_array_equal(S.value, S.rho)
    assert list(S.ascent.values) == ["full", "shared", "shared"]
    grid = fd.sweep(noisy, {"rho": [0.1, 0.2], "ascent": ["full", "shared"]}, drawn, KEY)
    assert_array_equal(fd.sweep(noisy, points, drawn, KEY).value[1], grid.value.sel(rho=0.2, ascent="shared"))


def test_one_value_and_no_list_at_all():
    assert_array_equal(fd.sweep(gd, {"lr": 0.1}, lambda p, key: p.method.lr).value, [0.1])
    S = fd.sweep(noisy, {}, drawn, KEY, seeds=3)
    assert S.value.dims == ("value_0",)
    assert S.value_seeds.dims == ("seed", "value_0")


class Fitted(NamedTuple):
    value: float
    lower: float
    upper: float


class Mean(NamedTuple):
    value: float
    stderr: float
    censored: float


class Two(NamedTuple):
    left: float
    right: float


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (1, {"value"}),
        (jnp.float32(1.5), {"value"}),
        (True, {"value"}),
        ([1.0, 2.0], {"value"}),
        ((1.0, 0.1), {"value", "value_stderr"}),
        ((np.ones(3), 0.1), {"value", "value_stderr"}),
        ((1.0, 0.1, 0.2), {"value", "value_stderr", "value_censored"}),
        (Mean(1.0, 0.1, 0.2), {"value", "value_stderr", "value_censored"}),
        (Fitted(1.0, 0.5, 2.0), {"value", "value_lower", "value_upper"}),
        (Two(1.0, 2.0), {"left", "right"}),
        (
            {"mean (1, 2)": Mean(1.0, 0.1, 0.0), "x": 3},
            {"mean (1, 2)", "mean (1, 2)_stderr", "mean (1, 2)_censored", "x"},
        ),
    ],
)
def test_every_form_of_answer_survives_the_store_and_netcdf(answer, names, tmp_path):
    one, again = (fd.sweep(gd, {"lr": [0.1]}, lambda p, key: answer, store=tmp_path, version="1") for _ in range(2))
    assert set(one.data_vars) == names
    assert one.identical(again)
    one.to_netcdf(tmp_path / "sweep.nc", engine="scipy")
    assert xr.load_dataset(tmp_path / "sweep.nc", engine="scipy").equals(one)


def test_several_seeds_give_mean_spread_and_expected_error():
    def ask(process, key):
        x = np.asarray(jax.random.normal(key, (4, 2)))
        return {"x": (x[0], np.array([1.0, 2.0]), 0.5), "limits": Fitted(x[0, 0], -1.0, 1.0)}

    S = fd.sweep(noisy, {"rho": [0.0, 0.1]}, ask, KEY, seeds=5, dims={"x": ["coordinate"]}, units={"x": "steps"})
    every = S.x_seeds.values
    assert S.x_seeds.dims == ("rho", "seed", "coordinate")
    assert_allclose(S.x, every.mean(axis=1), rtol=1e-15)
    assert_allclose(S.x_stderr, every.std(axis=1, ddof=1) / np.sqrt(5), rtol=1e-14)
    assert_allclose(S.x_within, [[np.sqrt(5) / 5, np.sqrt(20) / 5]] * 2, rtol=1e-15)
    assert_array_equal(S.x_censored, np.full((2, 2), 0.5))
    assert S.limits_lower_seeds.dims == ("rho", "seed")  # the mean of interval ends means nothing
    assert {S[name].attrs["units"] for name in ("x", "x_stderr", "x_within", "x_seeds")} == {"steps"}
    assert "spread of 5 seeds" in S.x_stderr.attrs["long_name"]


def test_coordinates_have_units_and_attributes_are_text(tmp_path):
    S = fd.sweep(noisy, {"rho": [0.1], "lr": [0.1], "batch_size": [2]}, reached, KEY, units={"value": "theta"})
    assert S.lr.attrs == {"long_name": "step size η", "units": "inverse curvature"}
    assert S.rho.attrs["units"] == "theta"
    assert S.value.attrs["units"] == "theta"
    config, provenance = json.loads(S.attrs["config"]), json.loads(S.attrs["provenance"])
    assert "SAM" in config["process"]
    assert config["ask"] == "reached"
    assert provenance == records.provenance()
    S.to_netcdf(tmp_path / "sweep.nc", engine="scipy")
    assert xr.load_dataset(tmp_path / "sweep.nc", engine="scipy").identical(S)


def test_the_unit_of_rho_is_that_of_the_method():
    kinds = {"SAM": fd.SAM, "USAM": fd.USAM}

    def make(rho, kind="USAM"):
        return fd.Iteration(L, kinds[kind](0.1, rho))

    def unit(parameters):
        return fd.sweep(make, parameters, lambda p, key: 0.0).rho.attrs.get("units")

    assert unit({"rho": [0.1, 0.2]}) == "theta per gradient"
    assert unit({"rho": [0.1, 0.2], "kind": ["SAM"]}) == "theta"
    assert unit({"rho": [0.1, 0.2], "kind": ["SAM", "USAM"]}) is None


def test_results_that_are_not_finite_are_kept_and_counted():
    S = fd.sweep(gd, {"lr": [0.1, 0.2, 0.3]}, lambda p, key: np.inf if p.method.lr > 0.15 else 1.0)
    assert_array_equal(S.value, [1, np.inf, np.inf])
    assert S.attrs["not_finite"] == "2 of 3 results, the first at lr=0.2"


# --- chance ---------------------------------------------------------------------------------------------------


def test_a_cell_knows_nothing_of_the_others():
    small = fd.sweep(noisy, {"rho": [0.1, 0.3], "momentum": [0.0, 0.5]}, reached, KEY, seeds=2)
    large = fd.sweep(noisy, {"momentum": [0.5, 0.9, 0.0], "rho": [0.3, 0, 0.1]}, reached, KEY, seeds=3)
    same = large.sel(rho=small.rho, momentum=small.momentum).transpose("rho", "momentum", "seed")
    assert_array_equal(small.value_seeds, same.value_seeds[..., :2])
    again = fd.sweep(noisy, {"momentum": [0.0], "rho": [0.3]}, reached, KEY, seeds=2)
    for name in small.data_vars:
        assert_array_equal(again[name].squeeze(), small[name].sel(rho=0.3, momentum=0.0))


def test_keys_differ_between_cells_and_seeds_unless_asked_otherwise():
    lists = {"rho": np.arange(10) / 10, "ascent": ["shared", "full"]}
    S = fd.sweep(noisy, lists, drawn, KEY, seeds=3)
    assert len(np.unique(S.value_seeds)) == 10 * 2 * 3 * 2
    other = fd.sweep(noisy, lists, drawn, jax.random.key(1), seeds=3)
    assert not np.isin(S.value_seeds, other.value_seeds).any()
    common = fd.sweep(noisy, lists, drawn, KEY, seeds=3, common=True)
    assert len(np.unique(common.value_seeds)) == 3 * 2
    assert_array_equal(common.value[0, 0], common.value[-1, -1])


def test_a_number_is_the_same_value_however_it_is_written():
    whole, real = ({"batch_size": values} for values in ([1, 4], np.array([1.0, 4.0, 2.5])))
    a, b = (fd.sweep(noisy, lists, drawn, KEY) for lists in (whole, real))
    assert_array_equal(a.value, b.value.sel(batch_size=[1, 4]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_errors_over_seeds_cover_the_truth(seed):
    def ask(process, key):
        x = np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=16)
        return x.mean(), x.std(ddof=1) / 4

    cells = 70  # an error that lacks a factor √5 is ten standard errors away
    S = fd.sweep(gd, {"lr": np.arange(1, cells + 1) / cells}, ask, jax.random.key(seed), seeds=5)
    covered = (np.abs(S.value) <= scipy.stats.t.ppf(0.95, df=4) * S.value_stderr).mean()
    assert abs(covered - 0.9) < 4.5 * np.sqrt(0.09 / cells)  # binomial
    # both errors are of the same mean: variance 1/80, each estimated to a relative sqrt(2/degrees of freedom)
    for error, freedom in ((S.value_stderr, 4), (S.value_within, 5 * 15)):
        assert abs(float((error**2).mean()) * 80 - 1) < 4.5 * np.sqrt(2 / freedom / cells)


# --- programs and devices -------------------------------------------------------------------------------------


def test_other_values_need_no_new_program():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    traced = []

    def loss(theta):
        traced.append(1)
        return theta @ theta

    landscape = fd.Landscape.from_function(loss, 2)

    def make(lr, rho, momentum):
        return fd.Iteration(landscape, fd.SAM(lr, rho, momentum), fd.noise.Gaussian(1.0, 2))

    fd.sweep(make, {"lr": [0.1], "rho": [0.1], "momentum": [0.0, 0.5]}, reached, KEY)
    counts = len(traced), sum("backend_compile" in event for event in compiled)
    assert min(counts) > 0
    fd.sweep(make, {"lr": [0.2, 0.3], "rho": [0.0, 1], "momentum": [0.0, 0.7, 0.9]}, reached, KEY)
    assert (len(traced), sum("backend_compile" in event for event in compiled)) == counts


SCRIPT = """
import sys
import jax, numpy as np, flatdyn as fd
jax.config.update("jax_enable_x64", True)
L = fd.landscapes.saddle((2.0, -2.0))

def make(rho, momentum):
    return fd.Iteration(L, fd.SAM(0.1, rho, momentum), fd.noise.Gaussian(1.0, 4))

def ask(process, key):
    final = fd.simulate(process, np.zeros((101, 2)), 30, key, every=30).final
    return {"x": (final[:, 0].mean(), final[:, 0].std() / 10), "final": final[:3]}

def grid(**options):
    return fd.sweep(make, {"rho": [0.0, 0.2, 0.4], "momentum": [0, 0.5]}, ask, jax.random.key(7), seeds=2, **options)

def words(S):
    return {name: S[name].values.tobytes().hex() for name in S.variables}
"""


def script(code, *args, **env):
    command = [sys.executable, "-c", SCRIPT + code, *map(str, args)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=os.environ | env, text=True, **pipes)


def finished(process, timeout=300):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return out


@functools.cache
def alone():
    """What one process on one device finds."""
    names = {}
    exec(SCRIPT, names)
    return names["words"](names["grid"]())


DISTRIBUTED = """
import os, time
from pathlib import Path
from flatdyn.core.hashing import identity
rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
assert jax.process_count() == 2 and len(jax.devices()) == 6 and len(jax.local_devices()) == 2 + 2 * rank
print(identity(ask), identity(lambda process, key: {"a", "b", "c", "d"} & {1, 2} or fd.simulate(process, L)))
print(words(grid(store=folder)))
print(words(grid(store=folder)))
try:
    grid()
except ValueError as error:
    print(error)

def failing(process, key):
    if process.method.momentum == 0.5:
        raise OSError("no more")
    return 1.0

try:
    fd.sweep(make, {"rho": [0.1], "momentum": [0, 0.5]}, failing, jax.random.key(0), store=folder / "failing")
except RuntimeError as error:
    print(error)
"""


@pytest.mark.optimised
def test_two_processes_with_two_and_four_devices_find_what_one_finds_on_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runs = []
    for rank in range(2):  # all first seeds are done by one, all second ones by the other
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={2 + 2 * rank}"
        runs.append(script(DISTRIBUTED, rank, port, tmp_path, XLA_FLAGS=flags, PYTHONHASHSEED=str(rank)))
    identities = set()
    for run in runs:
        said = finished(run).splitlines()  # threads of the devices talk in between, and into each other's lines
        lines = [line for line in said if line.strip() and "[Gloo]" not in line and "peer ranks" not in line]
        same_tomorrow, first, second, alone_refused, problem = lines
        identities.add(same_tomorrow)
        assert eval(first) == eval(second) == alone()
        assert alone_refused == "2 processes share a sweep through a folder that all of them see: give store="
        assert problem == "ask, in the cell rho=0.1, momentum=0.5, seed 0: OSError: no more"
    assert len(identities) == 1
    assert len(list(tmp_path.glob("*.npz"))) == 12


# --- the store ------------------------------------------------------------------------------------------------


class Counted:
    """An ask that counts its calls, and can stop in one of them."""

    def __init__(self, stop=None, error=KeyboardInterrupt):
        self.calls, self.stop, self.error = 0, stop, error

    def __call__(self, process, key):
        self.calls += 1
        if self.calls == self.stop:
            raise self.error("stop")
        return drawn(process, key)


CALL = (noisy, {"rho": [0.0, 0.1, 0.2], "momentum": [0.0, 0.5]})


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_was_finished_before_an_interruption_is_not_asked_again(tmp_path, error):
    whole = fd.sweep(*CALL, drawn, KEY)
    ask = Counted(stop=4, error=error)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else RuntimeError) as caught:
        fd.sweep(*CALL, ask, KEY, store=tmp_path, version="1")
    if error is OSError:
        assert str(caught.value) == "ask, in the cell rho=0.1, momentum=0.5, seed 0: OSError: stop"
    assert len(list(tmp_path.glob("*.npz"))) == 3
    assert fd.sweep(*CALL, ask, KEY, store=tmp_path, version="1").equals(whole)
    assert ask.calls == 3 + 1 + 3
    larger = fd.sweep(
        noisy, {"momentum": [0.5, 0.0], "rho": [0.3, 0.2]}, ask, KEY, store=tmp_path, version="1", seeds=2
    )
    assert ask.calls == 7 + 2 + 4  # two new cells, and the second seed of all four
    assert_array_equal(larger.value_seeds.sel(seed=0, rho=0.2, momentum=0.5), whole.value.sel(rho=0.2, momentum=0.5))


def test_a_landscape_made_anew_in_every_cell_is_known_again(tmp_path):
    def make(rho):
        return fd.Iteration(fd.Landscape.from_function(lambda theta: theta @ theta, 2), fd.SAM(0.1, rho))

    ask = Counted()
    for _ in range(2):
        fd.sweep(make, {"rho": np.arange(40) / 40}, ask, KEY, store=tmp_path, version="1")
    assert ask.calls == 40


def test_damaged_and_foreign_files_are_never_read_as_data(tmp_path, caplog):
    ask = Counted()
    whole = fd.sweep(*CALL, ask, KEY, store=tmp_path, version="1")
    first, second, third, fourth, *_ = sorted(tmp_path.glob("*.npz"))
    content = second.read_bytes()
    first.write_bytes(content)  # another cell's
    second.write_bytes(content[: len(content) // 2])
    third.write_bytes(b"")
    fourth.write_bytes(content[:-30] + b"x" * 30)
    with caplog.at_level(logging.WARNING, "flatdyn"):
        assert fd.sweep(*CALL, ask, KEY, store=tmp_path, version="1").identical(whole)
    assert ask.calls == 6 + 4
    assert [message.split()[1:4] for message in caplog.messages].count(["is", "not", "a"]) == 3
    assert sum("holds another cell" in message for message in caplog.messages) == 1
    assert fd.sweep(*CALL, ask, KEY, store=tmp_path, version="1").identical(whole)
    assert ask.calls == 10


def test_another_question_process_key_or_precision_reads_nothing(tmp_path, monkeypatch):
    limit, other = 1.0, fd.Landscape.from_expression("x**2 - y**2 + 1", symbols="x y")

    def files():
        return len(list(tmp_path.glob("*.npz")))

    def asked(process, key):
        return limit

    lists = {"lr": [0.1]}
    for number, call in enumerate(
        [
            lambda: fd.sweep(gd, lists, asked, store=tmp_path),
            lambda: fd.sweep(gd, lists, lambda p, key: 1.0, store=tmp_path),
            lambda: fd.sweep(gd, lists, lambda p, key: 2.0, store=tmp_path),
            lambda: fd.sweep(gd, lists, asked, KEY, store=tmp_path),
            lambda: fd.sweep(gd, lists, asked, jax.random.key(1), store=tmp_path),
            lambda: fd.sweep(gd, lists, asked, store=tmp_path, version="a"),
            lambda: fd.sweep(gd, lists, asked, store=tmp_path, version="b"),
            lambda: fd.sweep(lambda lr: fd.Iteration(L, fd.GD(lr, 0.5)), lists, asked, store=tmp_path),
            lambda: fd.sweep(lambda lr: fd.Iteration(L, fd.SAM(lr, 0.1)), lists, asked, store=tmp_path),
            lambda: fd.sweep(lambda lr: fd.Iteration(L, fd.SAM(lr, 0.1 + 1e-12)), lists, asked, store=tmp_path),
            # the same gradient
            lambda: fd.sweep(lambda lr: fd.Iteration(other, fd.GD(lr)), lists, asked, store=tmp_path),
        ],
        start=1,
    ):
        call()
        assert files() == number
        call()
        assert files() == number
    limit = 2.0
    assert fd.sweep(gd, lists, asked, store=tmp_path).value == 2
    number = files()
    monkeypatch.setattr(fd.core.randomness, "NORMALS", "drawn otherwise")  # an ask may draw without the process' leave
    fd.sweep(gd, lists, asked, store=tmp_path)
    assert files() == number + 1


KILLED = """
import os, time
from pathlib import Path
folder = Path(sys.argv[1])
LOG = str(folder / "log")

def slow(process, key):
    time.sleep(0.01)
    with open(LOG, "a") as file:
        file.write(f"{float(process.method.rho)}\\n")
    return np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=50)

def run():
    lists, cells = {"rho": np.arange(80) / 80}, folder / "cells"
    S = fd.sweep(lambda rho: make(rho, 0.0), lists, slow, jax.random.key(0), store=cells)
    (folder / "value").write_bytes(S.value.values.tobytes())

for line in sys.stdin:  # a fresh process for each line, without the seconds that the imports take
    if (child := os.fork()) == 0:
        run()
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_kill_9_at_random_moments_repeats_nothing_and_loses_nothing(tmp_path):
    """Three times; `make kills` does it ten times."""
    rng, log = np.random.default_rng(), tmp_path / "log"  # moments differ from run to run, results must not

    read = {}

    def kept():
        for path in (tmp_path / "cells").glob("*.npz"):
            if path not in read:
                read[path] = float(records.load_arrays(path)[1]["cell"]["rho"])  # each one whole
        return set(read.values())

    def asked():
        return [float(line) for line in log.read_text().splitlines()] if log.exists() else []

    def start():
        launcher.stdin.write("\n")
        launcher.stdin.flush()
        return int(launcher.stdout.readline())

    launcher = script(KILLED, tmp_path)
    for _ in range(3):
        finished_before, asked_before = kept(), len(asked())
        child, deadline = start(), time.monotonic() + 60
        while len(asked()) == asked_before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        assert int(launcher.stdout.readline()) == -signal.SIGKILL, "the run had ended before it was killed"
        assert not finished_before & set(asked()[asked_before:]), "a finished cell was asked again"
        assert all(path.exists() for path in read), "a finished cell was lost"
        assert len(set(asked()) - kept()) <= 1  # the one under way
    start()
    assert int(launcher.stdout.readline()) == 0
    finished(launcher)
    assert set(asked()) == kept() == set(np.arange(80) / 80)
    assert len(asked()) <= 80 + 3

    def quick(process, key):
        return np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=50)

    whole = fd.sweep(noisy, {"rho": np.arange(80) / 80}, quick, jax.random.key(0))
    assert whole.value.values.tobytes() == (tmp_path / "value").read_bytes()


# --- what identifies an ask -----------------------------------------------------------------------------------

LIMIT = 1.0


def helper(x):
    return x < LIMIT


class Region:
    def __init__(self, radius):
        self.radius = radius


def test_a_function_is_what_its_code_reaches(monkeypatch):
    def outer(thing):
        return lambda process, key: thing

    def by_default(process, key, runs=10):
        return runs

    a = identity(lambda process, key: helper(0.5))
    assert a == identity(lambda process, key: helper(0.5))  # not its place or line
    assert a != identity(lambda process, key: helper(0.6))
    assert a != identity(lambda process, key: not helper(0.5))
    module, process = sys.modules[__name__], noisy()
    reaching = [
        lambda: identity(lambda process, key: helper(0.5)),
        lambda: identity(outer(helper)),
        lambda: identity(jax.jit(helper)),
        lambda: identity(jax.vmap(helper)),
        lambda: identity(functools.partial(helper, 1.0)),
    ]
    before = [word() for word in reaching]
    monkeypatch.setattr(module, "LIMIT", 2.0)
    assert all(word() != old for word, old in zip(reaching, before, strict=True))
    things = [1, 1.0, "1", True, None, (1,), [1], {1}, {"1": 1}, np.ones(2), np.ones(2, np.float32), np.zeros(2)]
    things += [jnp.arange(3), KEY, jax.random.key(1), process, noisy(lr=0.2), L, fd.Status.DIVERGED, np.sin, jnp.sum]
    things += [fd.simulate, fd, np, helper, range(3), slice(3), Fitted, Two(1, 2), functools.partial(helper, 1.0)]
    words = [identity(outer(thing)) for thing in things]
    assert len(set(words)) == len(things)
    assert words == [identity(outer(thing)) for thing in things]
    old = identity(by_default)
    by_default.__defaults__ = (20,)
    assert identity(by_default) != old


def test_what_cannot_be_told_apart_is_refused_or_named():
    region = Region(1.0)

    def ask(process, key):
        return region.radius

    with pytest.raises(ValueError, match=re.escape("cannot tell region in ask") + ".*version='1'"):
        identity(ask)
    assert identity(ask, "1") != identity(ask, "2")
    assert identity(ask, "1") != identity(lambda process, key: 2 * region.radius, "1")  # the code is looked at still
    assert identity(Counted(), "1") == identity(Counted(), "1")


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        ({"rho": []}, {}, "values of rho must hold at least one value"),
        ([], {}, "a list of points"),
        (3, {}, "must be lists by name"),
        ([{"rho": 1}, {"lr": 1}], {}, "point 1 has ['lr'], point 0 has ['rho']"),
        ([{"rho": 1}, {"rho": 1.0}], {}, "points must be different, got rho=1 twice"),
        ({"rho": [0.1, 0.2, 0.1]}, {}, "values of rho must be different, got 0.1 twice"),
        ({"rho": [0, 0.5, -0.0]}, {}, "got 0 twice"),
        ({"rho": [0.1, np.nan]}, {}, "values of rho must be finite, got nan"),
        ({"rho": [0.1, "full"]}, {}, "must be numbers, or texts, or True and False"),
        ({"rho": [None]}, {}, "let make_process look them up"),
        ({"rho": np.ones((2, 2))}, {}, "an array of shape (2, 2)"),
        ({"seed": [1]}, {}, "other than seed and point"),
        ({"radius": [1]}, {}, "got an unexpected keyword argument 'radius'"),
        ({"rho": [0.1, -1]}, {}, "make_process, in the cell rho=-1: rho must be finite and >= 0, got -1"),
        ({"ascent": ["up"]}, {}, "in the cell ascent='up': ascent must be one of"),
        ({"rho": [0.1]}, {"key": None}, "in the cell rho=0.1: this process is random: pass key"),
        ({"rho": [0.1]}, {"key": None, "seeds": 2}, "2 seeds need key"),
        ({"rho": [0.1]}, {"key": 3}, "key must be one JAX key"),
        ({"rho": [0.1]}, {"seeds": 0}, "seeds must be a whole number >= 1"),
        ({"rho": [0.1]}, {"units": {"speed": "m"}}, "units are given for ['speed']"),
        ({"rho": [0.1]}, {"dims": {"speed": ["x"]}}, "dims are given for ['speed']"),
        ({"rho": [0.1]}, {"dims": {"value": ["x", "y"]}}, "value has shape (2,), its dims are ('x', 'y')"),
        ({"rho": [0.1]}, {"dims": {"value": ["rho"]}}, "does not fit the dimensions ('rho',)"),
        ({"rho": [0.1]}, {"name": "rho"}, "need different names, got ['rho'] twice"),
    ],
)
def test_bad_input_is_refused_with_a_reason(parameters, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fd.sweep(noisy, parameters, drawn, **{"key": KEY} | options)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p, key: "far", "value must hold numbers, got 'far'"),
        (lambda p, key: None, "value must hold numbers, got None"),
        (lambda p, key: (1, 2, 3, 4), "give several results names"),
        (lambda p, key: (np.ones(2), np.ones(3)), "value has shape (2,), its stderr (3,)"),
        (lambda p, key: {"x": Two(1, 2)}, "give several results names"),
        (lambda p, key: {}, "names that are texts"),
        (lambda p, key: {"x": (1, 2), "x_stderr": 1}, "got ['x_stderr'] twice"),
        (
            lambda p, key: np.ones(1 + int(p.method.rho > 0.1)),
            "rho=0.2, seed 0: the ask gave value (2,), and value (1,)",
        ),
        (lambda p, key: {"a" if p.method.rho > 0.1 else "b": 1}, "the ask gave a (), and b () in another cell"),
    ],
)
def test_bad_answers_are_refused_with_the_cell(ask, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        fd.sweep(noisy, {"rho": [0.1, 0.2]}, ask, KEY)
    assert "in the cell rho=" in str(caught.value)


def test_a_store_that_is_a_file_and_a_function_that_makes_no_process(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ValueError, match="store must be a folder"):
        fd.sweep(noisy, {"rho": [0.1]}, drawn, KEY, store=tmp_path / "x")
    with pytest.raises(ValueError, match="must return a Process"):
        fd.sweep(lambda rho: L, {"rho": [0.1]}, drawn, KEY)
