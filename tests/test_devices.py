"""No result depends on the number of devices: all questions are asked in one new Python for each number."""

import functools
import hashlib
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_models import ensemble

import flatdyn as fd
from flatdyn.runs import devices as places

pytestmark = pytest.mark.optimised  # a statement about the last bits, here and in other processes

BEALE, HIMMELBLAU = fd.landscapes.beale(), fd.landscapes.himmelblau()


def words(arrays):
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]


def simulated():
    grid = np.random.default_rng(0).uniform(-5, 5, (101, 2))
    process = fd.Iteration(HIMMELBLAU, fd.SAM(1e-3, 0.1), fd.noise.Gaussian(1.0, 4))
    chunk = 50 if len(jax.devices()) > 1 else None
    found = fd.simulate(process, grid, 40, key=jax.random.key(1), every=8, chunk=chunk)
    return found.theta, found.status


def escaped():
    process = fd.Iteration(BEALE, fd.SAM(1e-3, 0.3), fd.noise.Gaussian(3.0))
    ball = fd.escape.Ball([0.0, 1.0], 0.2)
    found = fd.escape_times(process, np.array([0.0, 1.0]), ball, 999, 5000, jax.random.key(0))
    return found.steps, found.exit


def mapped():
    process = fd.Iteration(HIMMELBLAU, fd.SAM(1e-3, 0.1), fd.noise.Gaussian(30.0, 4))
    points, box = HIMMELBLAU.critical_points(), [(-5, 5)] * 2
    found = fd.map_basins(process, box, 33, points, key=jax.random.key(3), max_steps=2000)
    return found.labels, found.steps, found.final


def trained():
    return (ensemble()[1](),)


ASKED = (simulated, escaped, mapped, trained)


@functools.cache
def here(question):
    return words(question())


@functools.cache
def elsewhere(devices):
    """What the questions find on so many devices."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "FLATDYN_PROGRESS": "0"}
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found.pop("devices") == devices
    return found


# Neither divides the 101 starts, 999 runs and 33 rows that are asked about
NUMBERS = [4, pytest.param(2, marks=pytest.mark.slow)]


@pytest.mark.parametrize("devices", NUMBERS)
@pytest.mark.parametrize("question", [simulated, escaped, mapped])
def test_devices_do_not_change_a_bit(question, devices):
    assert len(jax.devices()) == 1
    assert elsewhere(devices)[question.__name__] == here(question)


@pytest.mark.parametrize("devices", NUMBERS)
def test_an_ensemble_is_its_networks_one_at_a_time_on_any_number_of_devices(devices):
    starts, run = ensemble()
    together = run()
    assert np.abs(together - starts).max(axis=1).min() > 0.03  # they go somewhere
    assert_allclose(run(chunk=1), together, atol=1e-12)  # rounding, grown over eight steps
    (found,) = elsewhere(devices)["trained"]
    assert_allclose(found, together, atol=1e-12)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    words_of = {"devices": len(jax.devices())}
    for question in ASKED:
        arrays = question()
        words_of[question.__name__] = [a.tolist() for a in arrays] if question is trained else words(arrays)
    print(json.dumps(words_of))


@pytest.mark.skipif(jax.device_count() > 1 or jax.default_backend() != "cpu", reason="of the cores of one CPU device")
@pytest.mark.parametrize("cores", [1, 2, 3])
def test_networks_are_cut_for_the_cache_and_no_core_waits_for_the_last_chunk(cores, monkeypatch):
    monkeypatch.setattr(places, "places", lambda: jax.local_devices() * cores)
    process, starts = fd.Map(lambda theta: theta / 2, 1000), np.zeros((100, 1000))
    parts = places.chunks(process, starts, None)
    assert len(parts) % cores == 0
    assert sum(part.length for part in parts) == 100
    assert parts[0].size * starts[0].nbytes <= 2**18
    assert len(places.chunks(process, starts[:5], None)) == 1
    assert [part.length for part in places.chunks(process, starts, 40)] == [34, 34, 32]
