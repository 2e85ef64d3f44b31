"""Methods side by side: pairs of runs, choices on one split, metrics on another, and how they are counted."""

import dataclasses

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import networks
from flatdyn.networks.training.comparison import _best as best

KEY = jax.random.key(5)
DATA, VALID, TEST = (networks.spirals(60, 1.0, seed=seed) for seed in (1, 2, 3))
EVAL_SETS = {"valid": VALID, "test": TEST}


def make(key):
    return networks.MLP((2, 8, 2), key)


TASK = networks.classifier(make(KEY), DATA)
STARTS = TASK.starts(make, KEY, 4)


def descent(lr, rho=0.0, weight_decay=0.0):
    landscape = networks.with_weight_decay(TASK.landscape, weight_decay)
    return fd.Iteration(landscape, fd.SAM(lr, rho, 0.9), fd.noise.FiniteSum(20))


@pytest.fixture(scope="module")
def comparison():
    plain = descent(0.1)
    methods = {
        "SGD": {"": plain},
        "SGD, any step": {"0.1": plain, "0.001": descent(0.001), "1e30": descent(1e30, weight_decay=1.0)},
        "longer": {"": plain},
        "SAM": {"0.05": descent(0.1, 0.05), "0.2": descent(0.1, 0.2), "0.2, decay": descent(0.1, 0.2, 0.1)},
    }
    return networks.compare(
        TASK, methods, STARTS, {name: 20 + 20 * (name == "longer") for name in methods}, KEY, EVAL_SETS
    )


def test_candidates_are_the_runs_of_train_with_the_same_key(comparison):
    alone = networks.train(TASK, descent(0.1, 0.2), STARTS, 20, KEY, 2, eval_sets=EVAL_SETS)
    assert_array_equal(comparison.theta[6], alone.theta)
    assert_array_equal(comparison.test[6], alone.last("test"))
    assert_array_equal(comparison.stopped[6], alone.early_stopped("valid", "test"))
    assert_array_equal(comparison.loss[6], alone.loss[:, -1])


def test_the_same_process_gives_no_difference_and_more_steps_begin_alike(comparison):
    assert_array_equal(comparison.theta[0], comparison.theta[1])
    assert comparison.gain("SGD", "SGD") == (0, 0)
    halfway = networks.train(TASK, descent(0.1), STARTS, 40, KEY, 20, eval_sets=EVAL_SETS)
    assert_allclose(halfway.metric("test")[:, 1], comparison.metric("SGD"), rtol=0, atol=0)
    assert_array_equal(halfway.last("test"), comparison.metric("longer"))


def test_what_is_chosen_is_best_on_the_one_split_and_evaluated_on_the_other(comparison):
    assert_array_equal(comparison.owner, [0, 1, 1, 1, 2, 3, 3, 3])
    assert np.isnan(comparison.valid[3]).all()  # it left the finite numbers, and is not chosen
    assert (comparison.status[3] == fd.Status.DIVERGED).all()
    of_sam = comparison.valid[5:].mean(axis=1)
    assert comparison.number("SAM") == 5 + of_sam.argmax()
    assert comparison.setting("SAM") == ["0.05", "0.2", "0.2, decay"][of_sam.argmax()]
    assert comparison.number("SGD, any step") in (1, 2)
    for row in (0, 5, 6):
        assert_array_equal(comparison.test[row], TASK.evaluate(comparison.theta[row], TEST))


def test_gains_are_means_of_differences_in_pairs(comparison):
    d = comparison.test[comparison.number("SAM")] - comparison.test[0]
    assert_allclose(comparison.gain("SAM", "SGD"), (d.mean(), d.std(ddof=1) / 2), rtol=1e-12)
    d = comparison.test[comparison.number("SAM")] - comparison.stopped[0]
    assert_allclose(comparison.gain("SAM", "SGD", over_stopped=True)[0], d.mean(), rtol=1e-12)
    assert networks.paired([1.0, np.nan, 3.0]) == (2, 1)
    with pytest.raises(ValueError, match="at least two pairs of runs that reached the end, got 1"):
        networks.paired([1.0, np.nan])


def test_every_setting_has_its_gain_and_the_chosen_one_its_ends(comparison):
    mean, stderr = comparison.gains("SAM", "SGD")
    assert list(comparison.settings_of("SAM")) == ["0.05", "0.2", "0.2, decay"]
    chosen = list(comparison.settings_of("SAM")).index(comparison.setting("SAM"))
    assert (mean[chosen], stderr[chosen]) == comparison.gain("SAM", "SGD")
    assert_allclose(mean, (comparison.test[5:] - comparison.test[0]).mean(axis=1), rtol=1e-12)
    assert_array_equal(comparison.ends("SAM"), comparison.theta[5 + chosen])


def test_a_factor_is_the_mean_of_logarithms_with_its_error():
    value, error = networks.factor(np.log([2.0, 8.0]))
    assert_allclose((value, error), (4, 4 * np.log(2)), rtol=1e-14)  # d̄ = log 4, s.e. = log 2


def test_a_task_on_other_data_is_the_same_program():
    other = TASK.on(VALID)
    assert other.landscape.function is TASK.landscape.function
    assert other.forward is TASK.forward
    again = networks.classifier(make(KEY), VALID)
    assert_array_equal(other.landscape.loss(STARTS[0]), again.landscape.loss(STARTS[0]))
    fewer = networks.Split(VALID.x[:5], VALID.y[:5])
    for wrong, message in (
        (fewer, "shapes and types"),
        (networks.Split(VALID.x, VALID.y + 1), "labels must be from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            TASK.on(wrong)


def test_of_squared_errors_the_smaller_is_better(comparison):
    errors = dataclasses.replace(comparison, config=comparison.config | {"metric": "mean squared error"})
    gained, error = comparison.gain("SAM", "SGD")
    assert errors.gain("SAM", "SGD") == (-gained, error)
    valid, owner = np.array([[0.5, 0.1], [0.2, 0.2], [np.nan, 0.0], [np.nan, np.nan]]), np.array([0, 0, 0, 1])
    assert_array_equal(best(valid, owner, "mean squared error"), [1, 3])
    assert_array_equal(best(valid, owner, "accuracy"), [0, 3])


def test_weight_decay_of_a_landscape_is_that_of_a_task():
    with_decay = networks.classifier(make(KEY), DATA, weight_decay=0.3).landscape
    own, theta = networks.with_weight_decay(TASK.landscape, 0.3), STARTS[1]
    assert_allclose(own.loss(theta), with_decay.loss(theta), rtol=1e-14)
    some = np.arange(7)
    assert_allclose(own.batch(some).loss(theta), with_decay.batch(some).loss(theta), rtol=1e-14)
    many = fd.Extended(descent(0.1, 0.2, 0.1), ["landscape.function.weight_decay"])  # a number like any other
    z = many.starts(STARTS[0], landscape__function__weight_decay=[0.0, 0.3])
    assert_array_equal(z[:, -1], [0, 0.3])


def test_wins_ties_and_losses():
    gains = [(0.3, 0.1), (0.2, 0.1), (-0.05, 0.1), (-1.0, 0.4), (0.0, 0.0), (0.1, 0.0)]
    assert networks.count_wins(gains) == (2, 3, 1)
    assert networks.count_wins(gains, errors=0) == (3, 1, 2)
    assert networks.count_wins(dict(enumerate(gains)).values()) == (2, 3, 1)
    assert networks.count_wins([]) == (0, 0, 0)


def test_old_names_of_a_comparison_say_the_new_ones(comparison, tmp_path):
    with pytest.warns(DeprecationWarning, match="MethodComparison.marks is now MethodComparison.metric"):
        assert_array_equal(comparison.marks("SAM"), comparison.metric("SAM"))
    methods = {"SGD": {"": descent(0.1)}}
    with pytest.warns(DeprecationWarning, match=r"compare\(.*\) is now") as said:
        found = networks.compare(TASK, methods, STARTS[:2], 2, KEY, watch=EVAL_SETS, judged=1)
    assert {str(warning.message) for warning in said} == {
        "compare(watch=) is now compare(eval_sets=)",
        "compare(judged=) is now compare(evaluations=)",
    }
    assert said[0].filename == __file__  # the line to change
    assert found.test.shape == (1, 2)
    old = comparison.header() | {"config": {"measure": "accuracy"}}
    path = fd.records.save_arrays(tmp_path / "old.npz", comparison.arrays(), old)
    with pytest.raises(ValueError, match=r"another version of flatdyn \(different: metric\): compute it again"):
        networks.MethodComparison.load(path)


def test_what_is_missing_is_said():
    methods = {"SGD": {"": descent(0.1)}}
    with pytest.raises(ValueError, match="eval_sets must hold the split 'valid', got test"):
        networks.compare(TASK, methods, STARTS, 2, KEY, {"test": TEST})
    with pytest.raises(ValueError, match="each with at least one process"):
        networks.compare(TASK, {"SGD": {}}, STARTS, 2, KEY, EVAL_SETS)
    with pytest.raises(ValueError, match="evaluations must divide the steps"):
        networks.compare(TASK, methods, STARTS, 25, KEY, EVAL_SETS)
    with pytest.raises(ValueError, match="steps must be given for SGD, got SAM"):
        networks.compare(TASK, methods, STARTS, {"SAM": 2}, KEY, EVAL_SETS)
