"""Memory is asked for before it is taken, and long work hears Ctrl-C."""

import inspect
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import flatdyn as fd
from flatdyn import curvature, escape, networks
from flatdyn.core import memory, quadrature, segments

# --- what is free, and allowed --------------------------------------------------------------------------------

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 64 GiB free, no groups and no limits of the process; files are added by the tests."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "resource", None)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    write("proc/meminfo", f"MemTotal: {2**30} kB\nMemFree: 1 kB\nMemAvailable: {64 * 2**20} kB")
    return write


def test_the_machines_free_memory_counts(machine):
    assert memory.free_bytes() == 64 * GIB


def test_limits_of_a_container_count(machine):
    machine("proc/self/cgroup", "0::/")
    machine("cgroup/memory.max", 8 * GIB)
    machine("cgroup/memory.current", 5 * GIB)
    machine("cgroup/memory.stat", f"anon 1\ninactive_file {2 * GIB}\nactive_file 3")
    assert memory.free_bytes() == 5 * GIB  # files that were read give their memory back


def test_the_tightest_of_nested_groups_counts(machine):
    machine("proc/self/cgroup", "3:cpu:/elsewhere\n0::/batch/job/step")
    machine("cgroup/batch/job/step/memory.max", "max")
    machine("cgroup/batch/job/step/memory.current", 1)
    machine("cgroup/batch/job/memory.max", 32 * GIB)
    machine("cgroup/batch/job/memory.high", 9 * GIB)
    machine("cgroup/batch/job/memory.current", 7 * GIB)
    machine("cgroup/batch/memory.max", 40 * GIB)
    machine("cgroup/batch/memory.current", 1 * GIB)
    assert memory.free_bytes() == 2 * GIB
    machine("cgroup/batch/memory.current", 39 * GIB)
    assert memory.free_bytes() == 1 * GIB
    machine("cgroup/batch/memory.current", 41 * GIB)
    assert memory.free_bytes() == 0


def test_groups_of_version_one_count_and_may_be_hidden(machine):
    machine("proc/self/cgroup", "4:cpuacct,memory:/docker/abc\n1:name=systemd:/")
    machine("cgroup/memory/memory.limit_in_bytes", 6 * GIB)  # the container sees its own group as the root
    machine("cgroup/memory/memory.usage_in_bytes", 3 * GIB)
    machine("cgroup/memory/memory.stat", f"total_inactive_file {GIB}\ninactive_file 0")
    assert memory.free_bytes() == 4 * GIB


def test_ulimit_counts(machine, monkeypatch):
    class Limits:
        RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA = -1, "as", "data"

        @staticmethod
        def getrlimit(which):
            return {"as": (20 * GIB, -1), "data": (-1, -1)}[which]

    monkeypatch.setattr(memory, "resource", Limits)
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 4096)
    machine("proc/self/statm", f"{4 * GIB // 4096} 1 1 1 0 {GIB // 4096} 0")
    assert memory.free_bytes() == 16 * GIB
    Limits.getrlimit = staticmethod(lambda which: {"as": (-1, -1), "data": (3 * GIB, -1)}[which])
    assert memory.free_bytes() == 2 * GIB


def test_a_machine_that_tells_nothing_refuses_only_the_impossible(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    monkeypatch.setattr(memory, "resource", None)
    monkeypatch.setattr(memory.os, "sysconf_names", {})
    memory.check_memory(2**40, "this", "less")
    with pytest.raises(ValueError, match=r"this would take 256 TiB, but no machine has so much memory: less"):
        memory.check_memory(2**48, "this", "less")


def test_a_little_is_taken_without_a_look(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    memory.check_memory(2**23, "this", "less", device=2**23)
    with pytest.raises(ValueError, match="this would take 16 MiB, but 0 KiB of memory are free"):
        memory.check_memory(2**24, "this", "less", device=1)


def test_a_device_has_memory_of_its_own(machine, monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 16 * GIB, "bytes_in_use": 6 * GIB}

    memory.check_memory(30 * GIB, "this", "less", device=20 * GIB)
    with pytest.raises(ValueError, match=r"this would take 60 GiB, but 64 GiB of memory are free and allowed here"):
        memory.check_memory(40 * GIB, "this", "less", device=20 * GIB)  # on a CPU both are one
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(), Device()])
    memory.check_memory(40 * GIB, "this", "less", device=15 * GIB)
    with pytest.raises(ValueError, match=r"take 17 GiB, but the devices have 20 GiB free: less"):
        memory.check_memory(0, "this", "less", device=17 * GIB)


# --- everyone asks --------------------------------------------------------------------------------------------

L = fd.landscapes.beale()
GD = fd.Iteration(L, fd.GD(1e-3))
NOISY = fd.Iteration(L, fd.GD(1e-3), fd.noise.Gaussian(1.0))
LINE = fd.Iteration(fd.landscapes.double_well(), fd.GD(0.1), fd.noise.Gaussian(1.0))
KEY, AT = jax.random.key(0), np.array([3.0, 0.5])
BALL = escape.Ball(AT, 0.5)
BOX = ((-1.0, 4.0), (-1.0, 2.0))


def big(dim):
    """A landscape of many coordinates, whose Hessian nobody could store."""
    return fd.Landscape.from_function(lambda t: (t**2).sum(), dim=dim)


def task():
    return networks.regressor(networks.MLP((2, 1), KEY), networks.Split(np.zeros((4, 2)), np.zeros((4, 1))))


def trained(**numbers):
    one = task()
    return networks.train(one, fd.Iteration(one.landscape, fd.GD(0.1)), one.start, **numbers)


ABSURD = {  # what is asked, and of which function
    "simulate": (fd.simulate, lambda f, n: f(GD, AT, n)),
    "simulate, observing": (
        fd.simulate,
        lambda f, n: f(GD, AT, min(n, 10**6), every=1, observe=lambda s: jnp.zeros(10**6)),
    ),
    "escape_times": (fd.escape_times, lambda f, n: f(NOISY, AT, BALL, n, 10, KEY)),
    "split, walkers": (escape.multilevel_splitting, lambda f, n: f(NOISY, AT, BALL, KEY, walkers=n)),
    "split, replicates": (escape.multilevel_splitting, lambda f, n: f(NOISY, AT, BALL, KEY, replicates=n)),
    "sweep": (fd.sweep, lambda f, n: f(lambda lr: GD, {"lr": [0.1]}, lambda p, k: 0.0, KEY, seeds=n)),
    "train": (
        networks.train,
        lambda f, n: trained(steps=2**31 - 1, every=1, eval_sets={str(i): None for i in range(99)}),
    ),
    "slice1d": (curvature.slice1d, lambda f, n: f(L, AT, 0 * AT, n)),
    "slice2d": (curvature.slice2d, lambda f, n: f(L, AT, key=KEY, points=n)),
    "interpolate": (curvature.interpolate, lambda f, n: f(L, AT, 0 * AT, n)),
    "density": (curvature.density, lambda f, n: f(L, AT, KEY, 2, n)),
    "density, steps": (curvature.density, lambda f, n: f(big(10**6), np.zeros(10**6), KEY, n, 2)),
    "eigenvalues": (curvature.extreme_eigenvalues, lambda f, n: f(big(10**6), np.zeros(10**6), n, most=n)),
    "eigenvalues, starts": (curvature.extreme_eigenvalues, lambda f, n: f(L, AT, starts=n, method="lanczos")),
    "eigenvalues, dense": (
        curvature.extreme_eigenvalues,
        lambda f, n: f(big(10**6), np.zeros(10**6), method="dense"),
    ),
    "sharpness": (curvature.sharpness, lambda f, n: f(L, AT, 0.1, starts=n)),
    "exit_law": (escape.exit_law, lambda f, n: f(LINE, (-1.0, 1.0), 0.5, n)),
    "exit_law, momentum": (
        escape.exit_law,
        lambda f, n: f(fd.Iteration(LINE.landscape, fd.GD(0.1, 0.5), LINE.noise), (-1.0, 1.0), 0.5, n),
    ),
    "covariance": (fd.stationary.covariance, lambda f, n: f(fd.SGLD(0.1, 1.0), big(10**6))),
    "simulated_error": (
        fd.weak.simulated_error,
        lambda f, n: f(LINE, fd.flows.Diffusion(LINE.landscape, LINE.method, LINE.noise), np.mean, [0.5], 1.0, n, KEY),
    ),
    "flows.expectation": (
        fd.flows.expectation,
        lambda f, n: f(fd.flows.Diffusion(LINE.landscape, LINE.method, LINE.noise), [np.abs], 0.5, 1.0, (-1.0, 2.0), n),
    ),
    "lyapunov_exponents": (fd.lyapunov_exponents, lambda f, n: f(GD, AT, 2**31 - 2000, number=2)),
    "fixedpoints.find": (fd.fixedpoints.find, lambda f, n: f(GD, BOX, 2, starts=n)),
    "manifold": (fd.invariant_manifold, lambda f, n: f(GD, AT, "stable", max_steps=2**31 - 1)),
    "msd_theory": (escape.displacement.msd_theory, lambda f, n: f(fd.GD(0.1), 1.0, n)),
    "heavy_ball_msd": (escape.displacement.heavy_ball_msd, lambda f, n: f(0.1, 1.0, n)),
    "langevin_msd": (escape.displacement.langevin_msd, lambda f, n: f(0.1, 1.0, n, 0.5)),
    "cubature, nodes": (quadrature.smooth, lambda f, n: f(1, n)),
    "cubature, dim": (quadrature.smooth, lambda f, n: f(n)),
    "random_pixels": (networks.random_pixels, lambda f, n: f((32, 32, 3), n)),
    "spirals": (networks.spirals, lambda f, n: f(2 * n)),
    "MLP": (networks.MLP, lambda f, n: f((2, n, 2), KEY)),
    "ViT": (networks.ViT, lambda f, n: f((8, 8, 1), 10, KEY, width=4 * n)),
    "ViT, depth": (networks.ViT, lambda f, n: f((8, 8, 1), 10, KEY, depth=n)),
    "CharTransformer": (networks.CharTransformer, lambda f, n: f(n, 8, KEY)),
    "Conv": (networks.Conv, lambda f, n: f(3, n, KEY)),
    "ResNet": (networks.ResNet, lambda f, n: f((8, 8, 1), 10, KEY, width=n)),
    "ResNet, blocks": (networks.ResNet, lambda f, n: f((8, 8, 1), 10, KEY, blocks=(1, n))),
    "CNN1d": (networks.CNN1d, lambda f, n: f((8, 1), 10, KEY, channels=(4, n))),
    "GraphGCN": (networks.GraphGCN, lambda f, n: f(7, 2, KEY, hidden=n)),
    "starts": (networks.Task.starts, lambda f, n: f(task(), lambda key: networks.MLP((2, 1), key), KEY, n)),
    "linear_origin": (
        networks.linear_origin,
        lambda f, n: f(networks.Split(np.zeros((4, 2)), np.zeros((4, 1))), 3, n),
    ),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_sizes_are_refused_at_once_with_a_remedy(name):
    """The remedy names the function's own arguments, and nothing is taken before."""
    function, ask = ABSURD[name]
    for size in (10**10, 2**63):
        begun = time.process_time()
        with pytest.raises(
            ValueError, match=r"would take (over )?[\d.e+]+ [GT]iB, but|`?\w+`? must be at most"
        ) as caught:
            ask(function, size)
        # A second, and what tracing a step takes the first time
        assert time.process_time() - begun < 5
        named = re.findall(r"`(\w+)`", str(caught.value)) or re.findall(r"^(\w+) must be", str(caught.value))
        assert named, caught.value
        assert set(named) <= set(inspect.signature(function).parameters), named


# --- segments -------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when it is told to."""
    now = [0.0]
    monkeypatch.setattr(segments.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize("cost", [1e-7, 1e-4, 0.3, 5.0])
def test_segments_cover_everything_and_take_half_a_second_or_one_step(clock, cost):
    total, covered, longest = int(60 / cost), 0, 0.0
    for done, now in segments.cut(total):
        assert done == covered
        covered += now
        clock[0] += now * cost
        longest = max(longest, now * cost)
    assert covered == total
    # what a segment may take: half a second, as the one before lets expect
    assert longest <= max(0.5 * (1 + 1e-9), cost)


def test_segments_follow_a_step_that_becomes_dear(clock):
    taken = []
    for done, now in segments.cut(10**9):
        taken.append(now * (1e-6 if done < 10**6 else 1e-3))
        clock[0] += taken[-1]
        if len(taken) == 40:
            break
    slow = next(i for i, seconds in enumerate(taken) if seconds > 1)
    assert max(taken[slow + 6 :]) <= 0.5 * (1 + 1e-9)  # shorter by a factor of 4 each


def test_segments_stop(clock):
    stopped, seen = threading.Event(), []
    for done, now in segments.cut(100, stopped=stopped):
        seen.append((done, now))
        if done >= 1:
            stopped.set()
    assert seen == [(0, 1), (1, 64)]


def root(row, scale):
    return jnp.sqrt(row["x"] * scale), row["x"].sum()


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_mapped_is_a_map_however_it_is_cut(monkeypatch, seconds):
    monkeypatch.setattr(segments, "_SEGMENT_SECONDS", seconds)
    monkeypatch.setattr(segments, "_ROWS", 7)
    rows = {"x": jax.random.uniform(KEY, (23, 3))}
    found = segments.mapped(root, rows, jnp.asarray(3.0))
    expected = jax.jit(lambda rows: jax.lax.map(lambda row: root(row, 3.0), rows))(rows)
    for a, b in zip(found, expected, strict=True):
        assert_array_equal(a, b)


def test_splitting_does_not_depend_on_the_segments(monkeypatch):
    """States, scores and steps are carried from one to the next: the same to the last bit, whatever the clock says."""

    def ask():
        return escape.multilevel_splitting(
            LINE, np.ones(1), escape.Ball([1.0], 0.8), KEY, walkers=50, replicates=2, relax=20, progress=False
        )

    whole = ask()
    monkeypatch.setattr(segments, "_SEGMENT_SECONDS", 1e-3)
    assert_array_equal(whole.rates, ask().rates)


# --- laws without noise, or with too little -------------------------------------------------------------------


def test_an_exit_law_without_noise_is_that_of_one_run():
    quiet, down = fd.noise.Gaussian(0.0), fd.landscapes.saddle((-1.0,))
    law = escape.exit_law(fd.Iteration(down, fd.GD(0.1), quiet), (-1.0, 1.0), 0.01)
    # 0.01 · 1.1ᵏ ≥ 1 from k = ln 100/ln 1.1 = 48.3 on
    assert (law.mean, law.right, law.median) == (49.0, 1.0, 49)
    assert_array_equal(law.survival([0, 48, 49, 10**9]), [1, 1, 0, 0])
    # There it rests, and there it goes round for ever
    for start, method in ((0.0, fd.GD(0.1)), (0.01, fd.SAM(0.1, 0.2))):
        law = escape.exit_law(fd.Iteration(down, method, quiet), (-1.0, 1.0), start)
        assert law.mean == np.inf
        assert_array_equal(law.survival([0, 10**9]), 1)


def test_an_exit_law_that_no_panels_resolve_is_refused():
    process = fd.Iteration(fd.landscapes.saddle((-1.0,)), fd.GD(0.1), fd.noise.Gaussian(1e-9))
    with pytest.raises(ValueError, match="so little noise"):
        escape.exit_law(process, (-1.0, 1.0), 0.01)


# --- Ctrl-C ---------------------------------------------------------------------------------------------------


def test_an_interrupt_is_heard_within_two_seconds_and_the_next_call_works():
    """A real SIGINT, in threads and without; all the others are in tests/interrupts.py."""
    script = Path(__file__).parent / "interrupts.py"
    ran = subprocess.run(
        [sys.executable, script, "escape_times", "sharpness"], capture_output=True, text=True, timeout=300, check=False
    )
    found = dict(re.findall(r"^(\w+): ([\d.]+) s$", ran.stdout, re.MULTILINE))
    assert set(found) == {"escape_times", "sharpness"}, ran.stdout + ran.stderr
    # Two seconds on a machine of its own: beside other tests the clock goes on while the process waits for a core
    assert all(float(seconds) < 8 for seconds in found.values()), found
