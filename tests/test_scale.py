"""Rates: by a clock that is known, counts of operations that are known, and what is refused. No time is asserted."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import networks
from flatdyn.networks.benchmark import calls, scale, timing, workloads

TINY = scale.SIZES["cpu"]._replace(product=16, copy=2**10, networks=(3,), updates=3)
KEY = jax.random.key(0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by one second each time it is looked at: every call takes one."""
    seconds = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(seconds)))
    spent = itertools.count()
    monkeypatch.setattr(timing.time, "process_time", lambda: float(next(spent)))


def test_compiling_and_the_first_call_are_not_counted_and_inputs_are_fresh(monkeypatch):
    now, seen = [0.0], []
    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(timing.time, name, lambda: now[0])

    def make(key):
        now[0] += 1000  # what is outside the clock
        seen.append(np.asarray(jax.random.key_data(key)))
        return jax.random.normal(key, (3,)), "word"

    def function(x, word):
        assert word == "word"
        now[0] += 7  # when it is traced, once
        return x * 2

    found = timing.timed(function, make, repeat=5)
    assert found.compiling == 7
    assert (found.seconds, found.low, found.high) == (0, 0, 0)
    assert len(np.unique(seen, axis=0)) == len(seen) == 7  # to compile, to warm up, five times
    assert found.memory >= 2 * 3 * 8


def test_what_is_repeated_is_timed_as_it_is_called(monkeypatch):
    now = [0.0]
    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(timing.time, name, lambda: now[0])

    def function(number):
        now[0] += [100, 3, 1, 2, 9, 4][number]

    found = timing.repeated(function, 5)
    assert found[:5] == (3, 1, 9, 3, 97)


def test_on_a_cpu_seconds_are_the_processors():
    if jax.default_backend() == "cpu":
        found = timing.repeated(lambda number: timing.time.sleep(0.02), 5)
        assert found.seconds < 0.01 < 0.02 <= found.clock


def test_operations_are_counted():
    a, b = jnp.ones((6, 5)), jnp.ones((5, 4))
    assert timing.flops(jnp.matmul, a, b) == 2 * 6 * 5 * 4
    assert timing.flops(lambda x: x, a) == 0
    with pytest.raises(TypeError, match="function must be a JAX function"):
        timing.flops(float, np.ones(3))
    assert timing.flops(jnp.matmul, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (a, b))) == 2 * 6 * 5 * 4
    with pytest.raises(ValueError, match="repeat must be a whole number >= 5"):
        timing.timed(jnp.sin, lambda key: (a,), repeat=4)


def test_rates_are_work_over_seconds_and_records_are_kept_whole(clock, monkeypatch, tmp_path):
    def own(of, ceilings, repeat):
        task = networks.classifier(networks.MLP((2, 5, 2), KEY), networks.spirals(20))
        process = fd.Iteration(task.landscape, fd.GD(0.1), fd.noise.FiniteSum(4))
        yield workloads._advance(process, 3, 7, ceilings, repeat, what="arms", method="GD", each=4, unit="points/s")

    monkeypatch.setitem(workloads.PARTS, "images", own)
    record = scale.measure(TINY, ["images"], repeat=5, progress=False)
    ceilings, row = record.where(part="ceilings"), record.where(part="images")
    assert_array_equal(ceilings["rate"], [2 * 16**3] * 3 + [2 * 2**10 * workloads.COPIES])
    assert_array_equal(ceilings["precision"], ["float32", "float32, exact", "bfloat16", "float32"])
    assert (row["networks"], row["parameters"]) == (3, 27)
    assert row["rate"] == 3 * 7 * 4  # networks, steps, points; a second
    assert_allclose(row["of_copy"], 8 * 27 * 3 * 7 / ceilings["rate"][3])
    # forwards, backwards to the weights, and to the hidden units: 2 operations per weight and point each, and others
    least = 2 * 4 * (20 + 10)
    assert least < row["of_product"] * ceilings["rate"][0] / (3 * 7) < 10 * least
    assert record.config["device"] == record.device == timing.device_name()
    again = scale.Scale.load(record.save(tmp_path / "rates.npz"))
    for name, column in record.arrays().items():
        assert_array_equal(getattr(again, name), column)
    assert again.table("images").startswith("arms, GD, float32: 3 x 27: 84 points/s, ")


def test_half_precision_keeps_its_weights_whole():
    network = eqx.filter_eval_shape(lambda key: workloads.InHalf(networks.resnet8((4, 4, 1), 3, key, width=2)), KEY)
    x = jax.ShapeDtypeStruct((2, 16), jnp.float32)
    scores, used = eqx.filter_eval_shape(lambda network, x: network.forward(x), network, x)
    assert scores.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(used)} == {jnp.dtype(jnp.bfloat16)}
    assert network.network.stem.weight.dtype == jnp.float64


def test_the_size_follows_the_switch_and_else_the_device(monkeypatch):
    monkeypatch.delenv("FLATDYN_SCALE", raising=False)
    assert scale.chosen() == ("gpu" if jax.default_backend() == "gpu" else "cpu")
    for name in scale.SIZES:
        monkeypatch.setenv("FLATDYN_SCALE", name)
        assert scale.chosen() == name
    monkeypatch.setenv("FLATDYN_SCALE", "large")
    with pytest.raises(ValueError, match="FLATDYN_SCALE must be gpu or cpu, got 'large'"):
        scale.measure()


def test_data_that_are_missing_are_said_to_be(monkeypatch):
    def absent(*_):
        raise networks.DataMissing("install it")
        yield

    def nothing(*_):
        yield workloads._row("nothing", timing.Timing(1.0, *[np.nan] * 5), 1, "things/s")

    monkeypatch.setattr(workloads, "PARTS", None)
    monkeypatch.setattr(scale, "PARTS", {"ceilings": nothing, "training": absent})
    assert scale.measure(TINY).config["without data"] == "training"
    with pytest.raises(networks.DataMissing, match="install it"):
        scale.measure(TINY, ["training"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("huge",), "size must be 'gpu' or 'cpu' or a Size, got 'huge'"),
        (("cpu", ["speed"]), "parts must be among ceilings, .*, got 'speed'"),
        (("cpu", None, 3), "repeat must be a whole number >= 5"),
    ],
)
def test_bad_measurements_are_refused(arguments, message):
    size, parts, repeat = (*arguments, *(None, 7)[len(arguments) - 1 :])
    with pytest.raises(ValueError, match=message):
        scale.measure(size, parts, repeat=repeat)


# --- first calls ----------------------------------------------------------------------------------------------


def test_programs_and_seconds_of_a_call_are_counted_each_time(clock):
    double = jax.jit(lambda x: 2 * x)
    given = [np.zeros(3), np.zeros(3), np.zeros(4)]  # another shape needs another program

    found = calls.measure({"double": lambda: double(given.pop(0)), "nothing": lambda: None}, times=3)
    assert_array_equal(found.programs, [[1, 0, 1], [0, 0, 0]])
    assert_array_equal(found.clock, 1)  # of this clock every call takes one
    assert_array_equal(found.processor, 1)
    rows = found.table().splitlines()
    assert rows[2:] == ["| double | 1 | 1 | 1.0 | 1.000 |", "| nothing | 0 | 0 | 1.0 | 1.000 |"]


def test_what_fails_is_not_counted_any_longer():
    def failing(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), calls.programs() as compiled:
        failing(jax.jit(lambda x: x - 3)(np.ones(2)))
    jax.jit(lambda x: x - 4)(np.ones(2))
    assert len(compiled) == 1
    assert compiled[0] > 0


def test_calls_are_kept_in_a_file(tmp_path):
    found = calls.measure({"nothing": lambda: None})
    again = calls.Calls.load(found.save(tmp_path / "calls.npz"))
    assert_array_equal(again.clock, found.clock)
    assert again.device == found.device
    assert repr(again) == f"Calls(nothing on {found.device})"


@pytest.mark.parametrize(
    ("given", "times", "error", "message"),
    [
        ({}, 2, ValueError, "calls must hold at least one name -> function, got none"),
        ({"a": 3}, 2, TypeError, r"calls\['a'\] must be a function .*, got 3"),
        ({"a": lambda: None}, 1, ValueError, "times must be a whole number >= 2, got 1"),
    ],
)
def test_calls_that_are_none_are_refused(given, times, error, message):
    with pytest.raises(error, match=message):
        calls.measure(given, times)
