"""How soon is Ctrl-C heard? Long calls, each interrupted when it is well under way; a table of what it took.

    python tests/interrupts.py                 all of them; some minutes
    python tests/interrupts.py simulate split  those

A call is made twice: first with a small setting, which compiles what can be compiled beforehand, then with one that
would take hours. A second later the process sends itself SIGINT. After the KeyboardInterrupt the small call is
made again, and has to give what it gave before.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

import flatdyn as fd  # noqa: E402
from flatdyn import curvature, escape, networks  # noqa: E402

AFTER, DEAF = 1.0, 120.0  # seconds until the interrupt, and until the process gives up
KEY = jax.random.key(0)
BEALE = fd.landscapes.beale()
AT = np.array([3.0, 0.5])
NOISY = fd.Iteration(BEALE, fd.SAM(1e-3, 0.1), fd.noise.Gaussian(0.1))
DATA = networks.spirals(400)
LARGE = networks.spirals(100_000)
NETWORK = networks.MLP((2, 40, 40, 2), KEY, jnp.tanh)
TASK = networks.classifier(NETWORK, DATA)
STEPS = fd.Iteration(TASK.landscape, fd.SAM(0.1, 0.1), fd.noise.FiniteSum(50))


@functools.cache
def saddle():
    small = networks.MLP((2, 3, 2), KEY, jnp.tanh)
    return networks.zero_unit(small, DATA, 1e-3)


def many(number):
    return np.tile(AT, (number, 1))


def trained(steps, every, runs=1, **eval_sets):
    starts = jnp.tile(TASK.start, (runs, 1))
    return networks.train(TASK, STEPS, starts, steps, KEY, every, eval_sets=eval_sets, progress=False).theta


# name -> (call with a size, small size, large size)
CASES = {
    "simulate": (lambda n: fd.simulate(NOISY, many(1000), n, KEY, every=n).final, 20, 2**30),
    "simulate, network": (lambda n: fd.simulate(STEPS, TASK.start, n, KEY, every=n).final, 3, 2**30),
    "escape_times": (lambda n: fd.escape_times(NOISY, AT, escape.Ball(AT, 1.0), 100, n, KEY).steps, 20, 2**30),
    "split": (
        lambda n: (
            escape.multilevel_splitting(
                fd.Iteration(BEALE, fd.GD(0.01), fd.noise.Gaussian(1.2)),
                AT,
                escape.Ball(AT, 1.0),
                KEY,
                walkers=64,
                replicates=2,
                relax=n,
            ).rates
        ),
        100,
        2**30,
    ),
    "train": (lambda n: trained(n, n), 4, 2**30),
    "train, judging": (lambda n: trained(2, 1, n, test=LARGE), 2, 1000),
    "lyapunov_exponents": (lambda n: fd.lyapunov_exponents(NOISY, AT, n, KEY, transient=10).values, 100, 2**26),
    "transverse_exponent": (
        lambda n: networks.transverse_exponent(saddle(), fd.SAM(0.1, 0.1), fd.noise.FiniteSum(20), n, 2, KEY).value,
        20,
        2**26,
    ),
    "critical_rho": (
        lambda n: networks.critical_rho(saddle(), fd.USAM(0.1, 0.1), 20, KEY, batches=n, points=0).rule,
        4,
        10**7,
    ),
    "extreme_eigenvalues": (
        lambda n: curvature.extreme_eigenvalues(TASK.landscape, TASK.start, n, most=n, starts=100).largest,
        5,
        1500,
    ),
    "density": (lambda n: curvature.density(TASK.landscape, TASK.start, KEY, 40, n).nodes, 2, 10**4),
    "sharpness": (lambda n: curvature.sharpness(TASK.landscape, TASK.start, 0.5, steps=n).ascent, 4, 2**30),
    "slice2d": (lambda n: curvature.slice2d(TASK.landscape, TASK.start, key=KEY, points=n).loss, 3, 3000),
    "exit_law": (
        lambda n: (
            escape.exit_law(
                fd.Iteration(fd.landscapes.double_well(), fd.GD(0.1, 0.5), fd.noise.Gaussian(1.0)), (-1.0, 1.0), 0.5, n
            ).mean
        ),
        5,
        36,
    ),
    "fixedpoints.find": (
        lambda n: len(fd.fixedpoints.find(fd.Iteration(BEALE, fd.GD(0.01)), ((-1, 4), (-1, 2)), 2, starts=n)),
        2,
        10**5,
    ),
    "manifold": (
        lambda n: (
            fd.invariant_manifold(fd.Iteration(BEALE, fd.GD(1e-9)), np.array([0.0, 1.0]), "unstable", max_steps=n).ends
        ),
        10,
        10**8,
    ),
    "flows.solve": (
        lambda n: fd.flows.solve(
            fd.flows.Flow(BEALE, fd.GD(0.1)), AT + np.random.default_rng(0).normal(size=(n, 2)) / 9, [1000.0]
        ).theta[:1],
        256,
        10**6,
    ),
    "map_basins": (
        lambda n: fd.map_basins(fd.Iteration(BEALE, fd.GD(1e-9)), resolution=8, max_steps=n).labels,
        20,
        10**9,
    ),
    "basin_fractions": (
        lambda n: fd.basin_fractions(fd.Iteration(BEALE, fd.GD(1e-9)), BEALE.box, 64, KEY, [AT], max_steps=n).labels,
        20,
        10**9,
    ),
}


def heard(call, small, large) -> tuple[float, bool]:
    """Seconds from the interrupt to its KeyboardInterrupt, and whether the next call gives what it gave before."""
    before, sent = call(small), []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timers = [threading.Timer(AFTER, send), threading.Timer(DEAF, lambda: (print("deaf", flush=True), os._exit(1)))]
    for timer in timers:
        timer.start()
    try:
        call(large)
        return float("nan"), False
    except KeyboardInterrupt:
        took = time.perf_counter() - sent[0]
    finally:
        for timer in timers:
            timer.cancel()
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]
    return took, not threads and np.array_equal(np.asarray(before), np.asarray(call(small)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without it
    for name in sys.argv[1:] or CASES:
        took, well = heard(*CASES[name])
        print(f"{name}: {took:.2f} s{'' if well else ', and the next call is not well'}", flush=True)
