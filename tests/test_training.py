"""Training many networks: the numbers of `simulate`, metrics on the way, and nothing lost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.networks.training import training

pytestmark = pytest.mark.optimised  # a training is the simulation bit for bit: both compiled alike

DATA, OTHER = fd.networks.spirals(120, 1.0), fd.networks.spirals(60, 1.0, seed=7)
KEY = jax.random.key(3)


def make(key):
    return fd.networks.MLP((2, 32, 2), key, norm="batch")


TASK = fd.networks.classifier(make(KEY), DATA, weight_decay=1e-3)
PROCESS = fd.Extended(
    fd.Iteration(TASK.landscape, fd.SAM(0.1, 0.1, momentum=0.5), fd.noise.FiniteSum(20)), ["rho", "lr"]
)
STARTS = PROCESS.starts(TASK.starts(make, KEY, 5), rho=[0.0, 0.05, 0.1, 0.2, 0.4], lr=0.1)


def train(**options):
    return fd.networks.train(
        TASK, PROCESS, STARTS, 40, KEY, 10, eval_sets={"train": DATA, "other": OTHER}, **({"chunk": 2} | options)
    )


@pytest.fixture(scope="module")
def whole():
    return train()


def test_training_is_simulation_and_says_what_networks_are_worth(whole):
    run = fd.simulate(PROCESS, STARTS, 40, KEY, every=10)
    assert_array_equal(whole.theta, run.final)
    theta = PROCESS.theta(run.theta)
    assert_allclose(whole.metric("other"), TASK.accuracy(theta, OTHER), rtol=1e-15)
    assert_allclose(whole.loss, jax.jit(jax.vmap(jax.vmap(TASK.landscape.loss)))(theta), rtol=1e-12)
    assert_array_equal(whole.times, [0, 10, 20, 30, 40])
    best = whole.metric("other").argmax(axis=1)
    assert_array_equal(whole.early_stopped("other", "train"), whole.metric("train")[np.arange(5), best])
    assert whole.seconds > 0
    assert "0x" not in whole.config["process"]  # another Python has other addresses, and must find its file
    assert whole.provenance["device"]
    with pytest.raises(ValueError, match="'test' was not evaluated, only train, other"):
        whole.metric("test")


def test_of_squared_errors_the_smallest_stops_a_run_and_the_first_of_equals(whole):
    metrics = np.zeros((3, 5, 2))
    metrics[..., 0] = [[5, 3, 4, 3, 9], [1, 2, 3, 4, 5], [7, 6, np.nan, np.nan, np.nan]]
    metrics[..., 1] = np.arange(15).reshape(3, 5)
    some = {"loss": whole.loss[:3], "theta": whole.theta[:3], "status": whole.status[:3], "metrics": metrics}
    errors = dataclasses.replace(whole, config=whole.config | {"metric": "mean squared error"}, **some)
    assert_array_equal(errors.early_stopped("train", "other"), [1, 5, 11])
    shares = dataclasses.replace(whole, **some)
    assert_array_equal(shares.early_stopped("train", "other"), [4, 9, 10])


def renamed(thing, old, new, *args):
    """What an old name gives is what the new one gives."""
    name = next(kind.__name__ for kind in type(thing).__mro__ if old in vars(kind))
    with pytest.warns(DeprecationWarning, match=f"{name}.{old} is now {name}.{new}") as caught:
        found = getattr(thing, old)
    assert caught[0].filename == __file__  # or Python would not show it to whoever wrote the line
    wanted = getattr(thing, new)
    if args:
        found, wanted = found(*args), wanted(*args)
    assert_array_equal(found, wanted)


def test_old_names_of_training_say_the_new_ones(whole):
    for old, new, *args in (
        ("marks", "metrics"),
        ("watched", "eval_names"),
        ("of", "metric", "other"),
        ("final", "last", "other"),
        ("stopped", "early_stopped", "train", "other"),
    ):
        renamed(whole, old, new, *args)
    renamed(TASK, "measure", "metric")
    renamed(TASK, "judge", "evaluate", TASK.start, OTHER)
    renamed(TASK, "total", "metric_sum", TASK.start, OTHER)
    renamed(TASK, "mark", "example_metric", np.eye(2), np.array([0, 0]))
    sets = {"train": DATA, "other": OTHER}
    with pytest.warns(DeprecationWarning, match=r"train\(watch=\) is now train\(eval_sets=\)"):
        found = fd.networks.train(TASK, PROCESS, STARTS[:1], 1, KEY, watch=sets)
    assert list(found.eval_names) == list(sets)
    with pytest.raises(TypeError, match="eval_sets, whose old name is watch, is given twice"):
        train(watch=sets)


def test_a_record_of_an_earlier_version_is_refused(whole, tmp_path):
    """Its arrays had other names; nothing of it is read."""
    arrays, old = whole.arrays(), {"metrics": "marks", "eval_names": "watched"}
    arrays = {old.get(name, name): values for name, values in arrays.items()}
    path = fd.records.save_arrays(tmp_path / "old.npz", arrays, whole.header())
    different = "eval_names, marks, metrics, watched"
    with pytest.raises(ValueError, match=rf"another version of flatdyn \(different: {different}\): compute it again"):
        fd.networks.Training.load(path)
    config = {"measure" if name == "metric" else name: value for name, value in whole.config.items()}
    path = fd.records.save_arrays(path, whole.arrays(), whole.header() | {"config": config})
    with pytest.raises(ValueError, match=r"another version of flatdyn \(different: metric\): compute it again"):
        fd.networks.Training.load(path)


def test_pin_the_words_of_a_file_of_unfinished_training(tmp_path):
    """Those of the first version, so that what an earlier version has begun goes on."""
    train(store=tmp_path)
    arrays, header = fd.records.load_arrays(next(tmp_path.glob("*.npz")))
    assert {name for name in arrays if not name.startswith("carry.")} == {"loss", "marks", "parts", "seconds"}
    assert set(header) == {"process", "steps", "every", "measure", "fingerprint"}


def test_chunks_do_not_change_the_networks(whole):
    # a matrix product over five networks is another program than over two: rounding only
    assert_allclose(train(chunk=5).theta, whole.theta, rtol=1e-12, atol=1e-14)


def test_an_interrupted_training_goes_on_where_it_was(whole, tmp_path, monkeypatch):
    store, calls = tmp_path / "training", []
    advance = training._advance

    def impatient(*args):
        calls.append(1)
        if len(calls) > patience:
            raise KeyboardInterrupt
        return advance(*args)

    monkeypatch.setattr(training, "_advance", impatient)
    for patience in (3, 4, 1):  # noqa: B007, the first call compiles; 12 are needed
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            train(store=store)
    with np.load(next(store.glob("*.npz"))) as kept:
        assert 0 < kept["parts"][:, 3].sum() < 40 * 3
    monkeypatch.setattr(training, "_advance", lambda *args: calls.append(1) or advance(*args))
    after = train(store=store)
    assert_array_equal(after.theta, whole.theta)
    assert_array_equal(after.loss, whole.loss)
    assert_array_equal(after.metrics, whole.metrics)
    done = len(calls)
    assert_array_equal(train(store=store).metrics, whole.metrics)  # a finished one is read
    assert len(calls) == done + 1  # but for one that compiles


def test_another_training_has_a_file_of_its_own_and_a_damaged_one_is_refused(tmp_path):
    train(store=tmp_path)
    (file,) = tmp_path.glob("*.npz")
    fd.networks.train(
        TASK, PROCESS, STARTS + 1e-3, 40, KEY, 10, eval_sets={"train": DATA, "other": OTHER}, store=tmp_path
    )
    assert len(list(tmp_path.glob("*.npz"))) == 2
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a complete record"):
        train(store=tmp_path)


def test_an_ensemble_that_does_not_fit_is_cut(whole, tmp_path, monkeypatch):
    advance = training._advance

    def small(process, carry, *args):
        if len(carry.alive) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 80000000000 bytes.")
        return advance(process, carry, *args)

    monkeypatch.setattr(training, "_advance", small)
    for options in ({}, {"store": tmp_path}):  # the file of what was not begun does not bind the second attempt
        with pytest.warns(
            UserWarning, match=r"5 runs at once do not fit into the device's memory: going on with chunk=2"
        ):
            found = train(chunk=5, **options)
        assert_array_equal(found.theta, whole.theta)
    monkeypatch.setattr(training, "_advance", lambda *args: small(None, args[1]._replace(alive=np.ones(3))))
    with (
        pytest.warns(UserWarning, match="chunk="),
        pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"),
    ):
        train(chunk=5)  # not even one fits


def test_a_network_that_leaves_the_finite_numbers_keeps_its_last_weights():
    process = fd.Iteration(TASK.landscape, fd.GD(1e200))
    found = fd.networks.train(TASK, process, TASK.start, 4, every=1)
    assert found.status[0] == fd.Status.DIVERGED
    assert np.isfinite(found.theta).all()
    assert np.isfinite(found.loss[0, 0])
    assert np.isnan(found.loss[0, -1])


def test_a_process_of_something_else_is_refused():
    with pytest.raises(ValueError, match=f"moves 2 coordinates, the task's networks have {TASK.dim}"):
        fd.networks.train(TASK, fd.Iteration(fd.landscapes.beale(), fd.GD(0.1)), jnp.zeros(2), 10)


def test_settings_of_a_sweep_are_trained_together_with_the_numbers_of_each_alone():
    """Up to rounding: a sum is taken in another order where other networks lie beside it."""
    sets = {"other": OTHER}
    ask = fd.networks.trained(TASK, TASK.starts(make, KEY, 3), 20, eval_sets=sets)

    def process(lr, rho):
        return fd.Iteration(TASK.landscape, fd.SAM(lr, rho, momentum=0.5), fd.noise.FiniteSum(20))

    grid = {"lr": [0.05, 0.1], "rho": [0.0, 0.1]}
    assert ask.batches([process(lr, rho) for lr in grid["lr"] for rho in grid["rho"]]) == [[0, 1, 2, 3]]
    swept = fd.sweep(process, grid, ask, KEY)
    assert set(swept) == {"loss", "loss_stderr", "other", "other_stderr"}
    key = fd.sweep(process, grid, lambda p, key: jax.random.key_data(key), KEY).value
    for lr, rho in ((0.05, 0.1), (0.1, 0.0)):
        cell = swept.sel(lr=lr, rho=rho)
        own = jax.random.wrap_key_data(jnp.asarray(key.sel(lr=lr, rho=rho).values))
        alone = fd.networks.train(TASK, process(lr, rho), TASK.starts(make, KEY, 3), 20, own, eval_sets=sets)
        assert_allclose(cell.loss, alone.loss[:, -1].mean(), rtol=1e-9)
        assert_allclose(cell.other, alone.last("other").mean(), rtol=1e-12)  # counts of right answers
    with pytest.raises(ValueError, match="other names than loss"):
        fd.networks.trained(TASK, STARTS[:, :-2], 20, eval_sets={"loss": OTHER})
    with pytest.raises(TypeError, match="then must be"):
        fd.networks.trained(TASK, STARTS[:, :-2], 20, "last")
