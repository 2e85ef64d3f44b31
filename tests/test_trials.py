"""Small learning tasks on which methods are compared: what is trained, and what it is compared with."""

import functools

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import networks
from flatdyn.networks.benchmark.trials import AVERAGES, _falling

KEY = jax.random.key(3)
MODEL = functools.partial(networks.MLP, (2, 6, 2), norm="batch")


def arms():
    return tuple(networks.spirals(40, 1.0, seed=seed) for seed in (1, 2, 3))


PLAN = networks.TrialPlan(MODEL, arms, 0.1, 10, 20)


@pytest.fixture(scope="module")
def trial():
    return networks.trial(PLAN, KEY, 3)


@pytest.fixture(scope="module")
def table(trial):
    return trial.compare(trial.candidates([0.1, 0.2], [1e-2]), KEY, {"SGD, twice the steps": 2 * trial.steps})


def test_methods_on_spirals_have_the_settings_that_their_table_states():
    spirals = networks.spiral_trial(2, turns=1.0, points=40, hidden=3)
    again = networks.MLP((2, 3, 2), jax.random.key(1))
    assert_array_equal(spirals.starts[1], spirals.task.coordinates(again).astype("float32"))
    assert [len(part.y) for part in (spirals.train, spirals.valid, spirals.test)] == [40, 1000, 4000]
    first = fd.masks.named(spirals.task.landscape.vector(spirals.task.start).tree, "layers[0]")
    expected = {
        "SGD": fd.GD(0.25),
        "SGD, momentum": fd.GD(0.02, momentum=0.95),
        "LaLa": fd.LaLa(0.1, first, (0.03, 1.0), (1e-3, 1e-3), "AOAB"),
        "LOL": fd.LOL(0.1, first, 0.03, (1e-3, 1e-3), "AOAB"),
    }
    for name, method in expected.items():
        process = spirals.iteration(name, 0.5, 1e-3)
        assert eqx.tree_equal(process.method, method), name
        assert process.noise.batch_size == 25
    learnt = spirals.learn("SGD", 8, KEY, factor=0.5)
    run = fd.simulate(spirals.iteration("SGD", 0.5), spirals.starts, 8, KEY, 2)
    assert_array_equal(learnt, run.theta[:, 1:])
    adaptive = spirals.iteration("AdLaLa", 0.5, 1e-3).method
    assert adaptive.lr == 0.1
    assert [thermostat.temperature for thermostat in adaptive.thermostats[:2]] == [1e-3, 1e-3]
    with pytest.raises(ValueError, match="name must be"):
        spirals.iteration("RMSProp")


def test_a_step_falls_as_the_cosine_of_optax_does():
    """To the last bit, so that a notebook may say so; and not below its floor."""
    counts = np.arange(0, 310)
    ours = jax.jit(jax.vmap(_falling(fd.GD(0.1), 300, None).factor))(counts)
    assert_array_equal(ours, jax.jit(jax.vmap(optax.cosine_decay_schedule(1.0, 300)))(counts))
    assert _falling(fd.GD(0.1), 20, 0.5).factor(20) == 0.5


def test_what_is_compared_is_what_its_name_says(trial, table):
    """SGD is SAM with ρ = 0; an average from the last step on is the last iterate; a control takes twice the steps."""
    plain = fd.Scheduled(fd.GD(0.1, 0.9), optax.cosine_decay_schedule(1.0, 20))
    landscape = networks.with_weight_decay(trial.task.landscape, 5e-4)
    process = fd.Iteration(landscape, plain, fd.noise.FiniteSum(10))
    alone = networks.train(trial.task, process, trial.starts, 20, KEY, 20)
    # single precision, and two programs that round differently over 20 steps
    assert_allclose(table.theta[0], alone.theta, rtol=0, atol=1e-5)
    assert list(table.methods) == ["SGD", "SGD, twice the steps", "SWA", "SGD, weight decay", "SAM", "WASAM"]
    assert list(table.settings_of("SAM")) == ["0.1", "0.2"]
    assert eval(table.config["steps"])["SGD, twice the steps"] == 40
    assert not np.array_equal(table.ends("SWA"), trial.iterates(0.0, KEY))
    unaveraged = trial.sgd_or_sam(0.0, floor=AVERAGES["floor"], average_from=1.0)
    again = networks.train(trial.task, unaveraged, trial.starts, 20, KEY, 20, eval_sets=trial.eval_sets)
    assert_array_equal(trial.iterates(0.0, KEY), again.theta)


def test_flatness_is_that_of_the_chosen_ends(trial, table):
    flat = trial.flatness(table, KEY, 2)
    assert flat.candidates.shape == (8, 2)
    assert_array_equal(flat.free, [0, 1, 2, 4, 5, 6, 7])
    assert (np.abs(flat.ranks) <= 1).all()
    assert_array_equal(flat.chosen["SAM"], flat.candidates[table.number("SAM")])
    hessian = trial.task.landscape.hessian(np.asarray(table.ends("SAM")[0], float))
    # 20 products give the largest of 44 eigenvalues to 1 %; the Hessian is taken in the other precision
    assert_allclose(flat.chosen["SAM"][0], np.log(np.linalg.eigvalsh(hessian)[-1]), atol=0.02)
    last = trial.iterates(0.0, KEY)[:2]
    assert_allclose(flat.chosen["last iterate of SWA"], trial.sharpest(last)[0], atol=1e-6)
    directions = trial.sharpest(table.ends("SWA")[:2])[1]
    shares = networks.off_the_average(table.ends("SWA")[:2], last, directions)
    assert_allclose(flat.shares["SWA"], shares, rtol=1e-4)


def test_the_share_along_a_direction():
    share = networks.off_the_average([[0.0, 0.0]], [[3.0, 4.0]], [[1.0, 0.0]])
    assert_allclose(share, [9 / 25], rtol=1e-15)


def test_trials_with_one_network_share_its_programs(trial):
    wrong = networks.trial(PLAN._replace(wrong=0.3), KEY, 3, 0.5)
    assert wrong.task.landscape.function is trial.task.landscape.function
    assert_array_equal(wrong.starts, trial.starts)
    assert wrong.steps == 10
    labels = [
        (one.task.landscape.examples[1], one.eval_sets["valid"].y, one.eval_sets["test"].y) for one in (trial, wrong)
    ]
    spoilt = [int((right != other).sum()) for right, other in zip(*labels, strict=True)]
    assert spoilt == [12, 12, 0]  # 30 % of 40, where it is learnt and chosen
    with pytest.raises(ValueError, match="plan must be"):
        networks.trial("digit", KEY, 2)


def test_masks_for_sam_on_and_its_rivals(trial):
    masks = networks.norm_masks(trial, MODEL(KEY), with_fisher=True)
    sizes = {name: sum(leaf.sum() for leaf in jax.tree.leaves(mask)) for name, mask in masks.items()}
    assert sizes == {"all": trial.task.dim, "all but norm": trial.task.dim - 12, "norm": 12, "random": 12, "Fisher": 12}
    made = trial.masked("SAM", fd.SAM, masks, ([0.1], [0.5, 1.0]))
    assert {name: list(each) for name, each in made.items()} == {
        "SAM, all": ["0.1"],
        "SAM, all but norm": ["0.1"],
        "SAM, norm": ["0.5", "1"],
        "SAM, random": ["0.5", "1"],
        "SAM, Fisher": ["0.5", "1"],
    }


def test_a_step_of_sam_costs_two_of_sgd_and_that_of_sam_on_less():
    """Only the first gradient is spared, and of it the part for the weights: between one half and all of it."""
    network = networks.MLP((64, 48, 48, 10), KEY, norm="batch")
    task = networks.classifier(network, networks.split(networks.digits(), [100])[0])
    whole = networks.step_cost(task, fd.SAM(0.05, 0.1, 0.9))
    part = networks.step_cost(task, fd.SAM(0.05, 0.1, 0.9, mask=networks.norm_mask(network)))
    assert 1.9 < whole < 2.1
    assert 1.5 < part < 1.8


# --- conventions ------------------------------------------------------------------------------------------------


def test_the_authors_conventions_are_those_of_their_programs():
    """PyTorch's SAM, written out: no ascent sees the decay, the velocity is a sum of gradients, the step falls."""
    whole = PLAN._replace(batch_size=40, steps=4, weight_decay=0.1)  # one minibatch of all, in whatever order
    authors, ours = (networks.trial(whole, KEY, 2, conventions=word) for word in ("authors", "equations"))
    slope = jax.jit(jax.vmap(authors.task.landscape.grad))
    theta, velocity = authors.starts, 0.0
    for k in range(4):
        g = slope(theta)
        above = slope(theta + 0.3 * g / np.linalg.norm(g, axis=1, keepdims=True))
        velocity = 0.9 * velocity + above + 0.1 * theta
        theta = theta - 0.1 * 0.5 * (1 + np.cos(np.pi * k / 4)) * velocity
    ends = [
        fd.simulate(one.iteration(fd.SAM(0.1, 0.3, 0.9)), one.starts, 4, KEY, 4).theta[:, -1] for one in (authors, ours)
    ]
    assert_allclose(ends[0], theta, rtol=0, atol=1e-5)  # single precision, four steps
    assert np.abs(ends[1] - theta).max() > 1e-2  # the same method in equations: a tenth of the way


def test_each_process_of_a_trial_follows_its_conventions(trial):
    """The default is that of equations: the method as it is, fresh minibatches, decay in the loss."""
    sam, plan = fd.SAM(0.1, 0.3, 0.9), PLAN._replace(weight_decay=0.1)
    assert eqx.tree_equal(trial.iteration(sam).method.method, sam)
    assert isinstance(trial.sgd_or_sam().noise, fd.noise.FiniteSum)
    assert trial.sgd_or_sam().method.method.method.weight_decay == 0
    authors = networks.trial(plan, KEY, 3, conventions="authors")
    assert authors.task.landscape.function is trial.task.landscape.function  # without decay, and one program
    masks = networks.norm_masks(authors, MODEL(KEY))
    made = [
        authors.iteration(sam),
        authors.masked("SAM", fd.SAM, masks, ([0.3], [0.3]))["SAM, norm"]["0.3"],
        authors.sgd_or_sam(0.3),
        *(one for each in authors.candidates([0.3], [0.2]).values() for one in each.values()),
    ]
    decays = []
    for process in made:
        inner = getattr(process.method.method, "method", process.method.method)  # with or without an average
        decays.append(float(inner.weight_decay))
        assert (inner.units, inner.decay) == ("gradient", "coupled")
        assert eqx.tree_equal(process.noise, fd.noise.Epochs(10))
        assert process.landscape is authors.task.landscape
    assert_allclose(decays, [0.1, 0.1, 0.1005, *[0.1005] * 3, 0.3, *[0.1005] * 2], rtol=1e-12)
    assert authors.iteration(fd.SAM(0.1, 0.3, 0.9, weight_decay=0.2)).method.method.weight_decay == 0.2
    with pytest.raises(ValueError, match="of first order"):
        authors.iteration(fd.from_optax(optax.adam(0.1)))
    with pytest.raises(ValueError, match="decay is in the loss"):
        networks.Trial(trial.task, trial.starts, trial.eval_sets, 0.1, 10, 20, weight_decay=0.1)
    with pytest.raises(ValueError, match="conventions must be"):
        networks.trial(PLAN, KEY, 2, conventions="torch")


def test_spirals_are_passed_through_in_epochs_if_asked():
    spirals = networks.spiral_trial(2, turns=1.0, points=50, hidden=3)
    process = spirals.iteration("SGD", epochs=True)
    assert eqx.tree_equal(process.noise, fd.noise.Epochs(25))
    learnt = spirals.learn("SGD", 4, KEY, epochs=True)
    assert_array_equal(learnt, fd.simulate(process, spirals.starts, 4, KEY, 1).theta[:, 1:])
    with pytest.raises(TypeError, match="epochs must be True or False"):
        spirals.iteration("SGD", epochs="yes")
