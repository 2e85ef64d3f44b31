"""What is measured along runs: against dense Hessians, exact moments and the steps themselves; gaps, files, plots."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import curvature
from flatdyn.networks.training import training

KEY = jax.random.key(0)
WELL = fd.Landscape.from_function(lambda t: jnp.sum((t**2 - 1) ** 2) + t[0] * t[1] * t[2] + jnp.sum(jnp.cos(t)), 12)
STARTS = np.random.default_rng(0).normal(size=(3, 12))


def dense(landscape, theta, k, scale=None):
    """The k largest eigenvalues of S⁻¹ H S⁻¹ at each of many points."""
    hessians = np.asarray(jax.lax.map(landscape.hessian, jnp.asarray(theta).reshape(-1, landscape.dim)))
    if scale is not None:
        root = np.sqrt(np.asarray(scale).reshape(-1, landscape.dim))
        hessians = hessians / root[:, :, None] / root[:, None, :]
    return np.linalg.eigvalsh(hessians)[:, ::-1][:, :k].reshape(*np.shape(theta)[:-1], k)


def test_eigenvalues_of_many_runs_are_those_of_dense_hessians():
    process = fd.Iteration(WELL, fd.GD(0.02, 0.5))
    watched = {
        "top": curvature.TopEigenvalues(3, fresh=1),  # all but diagonal, and directions cross
        "last": curvature.TopEigenvalues(12),
        "half": lambda s: s.velocity.tree,
    }
    run = fd.simulate(process, STARTS, 30, every=3, observe=watched)
    assert run.observed_names == [
        "top",
        "top.residuals",
        "top.products",
        "last",
        "last.residuals",
        "last.products",
        "half",
    ]
    exact = dense(WELL, run.theta, 12)
    scale = np.abs(exact).max(axis=-1, keepdims=True)
    assert run.curve("top").shape == (3, 11, 3)
    assert (np.abs(run.curve("top") - exact[..., :3]) < 1e-6 * scale).all()  # its own tolerance
    assert_allclose(run.curve("last"), exact, atol=1e-6 * scale.max())  # all there are: the space is the whole space
    assert (run.curve("top.residuals") < 1.5e-3 * scale).all()  # the root of 1e-6, gaps being of the order of 1
    assert run.curve("half").shape == (3, 11, 12)
    other = fd.simulate(process, STARTS, 30, every=3, observe=watched, chunk=1)
    # rounding decides here and there whether another product is needed: each is right to its tolerance
    assert_allclose(other.curve("top"), run.curve("top"), atol=2e-6 * scale.max())
    with pytest.raises(ValueError, match=r"must be of what was measured, top, top\.residuals"):
        run.curve("bottom")


def test_eigenvalues_are_carried_along_the_training_of_a_network():
    """1e-6 at every tenth step, at a quarter at most of the products that the library's cold Lanczos takes."""
    data = fd.networks.spirals(200, 1.0)
    network = fd.networks.MLP((2, 30, 30, 2), KEY, jnp.tanh)
    task = fd.networks.classifier(network, data)
    assert task.dim > 1000
    process = fd.Iteration(task.landscape, fd.GD(0.3))
    run = fd.networks.train(task, process, task.start, 60, every=10, watch={"top": curvature.TopEigenvalues(3)})
    theta = fd.simulate(process, task.start, 60, every=10).theta
    exact = dense(task.landscape, theta, 3)
    assert (np.abs(run.curve("top")[0] - exact) < 1e-6 * exact[:, :1]).all()
    cold = curvature.extreme_eigenvalues(task.landscape, theta[-1], starts=1, method="lanczos")
    assert run.curve("top.products")[0, 1:].mean() <= int(cold.k) / 4


def test_preconditioned_eigenvalues_are_those_of_the_scaled_hessian():
    process = fd.Iteration(WELL, fd.from_optax(optax.adam(1e-2)))
    scale = np.linspace(1, 4, 12)
    watched = {
        "adam": curvature.TopEigenvalues(2, preconditioner="state"),
        "fixed": curvature.TopEigenvalues(2, preconditioner=lambda state: jnp.asarray(scale)),
        "P": lambda state: fd.stability.preconditioner(process, state),
    }
    run = fd.simulate(process, STARTS[:2], 20, every=5, observe=watched)
    fixed = dense(WELL, run.theta, 2, np.broadcast_to(scale, run.theta.shape))
    assert_allclose(run.curve("fixed"), fixed, atol=3e-6 * np.abs(fixed).max())
    exact = dense(WELL, run.theta[:, 1:], 2, run.curve("P")[:, 1:])  # before the first step it is Adam's ε alone
    # 1e-6 of the largest modulus, which is that of a negative eigenvalue in some of these
    assert_allclose(run.curve("adam")[:, 1:], exact, atol=1e-5 * np.abs(exact).max())


def test_norms_and_updates_are_those_of_the_steps():
    examples = fd.Landscape.from_examples(lambda t, x: jnp.sum((t - x) ** 4), STARTS, dim=12)
    process = fd.Extended(fd.Iteration(examples, fd.GD(1e-3), fd.noise.FiniteSum(1)), ["lr"])
    point = np.append(np.ones(12), 0.001)
    watched = {"g": curvature.GradientNorm(), "u": curvature.UpdateNorm(), "d": curvature.Distance(point[:12])}
    starts = process.starts(STARTS[:2], lr=[1e-3, 2e-3])
    run = fd.simulate(process, starts, 5, KEY, observe=watched)
    theta = process.theta(jnp.asarray(run.theta))
    assert_allclose(run.curve("u")[:, :-1], np.linalg.norm(np.diff(theta, axis=1), axis=-1), rtol=1e-12)
    assert_allclose(run.curve("d"), np.linalg.norm(theta - 1, axis=-1), rtol=1e-12)
    gradients = jax.vmap(jax.vmap(examples.grad))(theta)
    assert_allclose(run.curve("g"), np.linalg.norm(gradients, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("replace", [False, True])
def test_batch_sharpness_is_that_of_all_minibatches(replace):
    rng = np.random.default_rng(1)
    a = rng.normal(size=(6, 3))
    L = fd.Landscape.from_examples(lambda t, x: (x @ t - 1) ** 2 / 2, a, dim=3)
    start = np.array([1.0, -2.0, 0.5])
    draws = itertools.product(range(6), repeat=2) if replace else itertools.combinations(range(6), 2)
    pairs = np.array(list(draws))
    hessians = np.einsum("nbi,nbj->nij", a[pairs], a[pairs]) / 2
    g = np.einsum("nbi,nb->ni", a[pairs], a[pairs] @ start - 1) / 2
    exact = np.einsum("ni,nij,nj->n", g, hessians, g).mean() / (g**2).sum(axis=1).mean()
    watched = {"batch": curvature.BatchSharpness(2, 400, replace=replace), "all": curvature.BatchSharpness(6, 2)}
    run = fd.simulate(fd.Iteration(L, fd.GD(1e-9)), start, 20, observe=watched)
    value, error = run.curve("batch"), run.curve("batch.stderr")
    assert (np.abs(value - exact) < 4.5 * error).all()  # 21 of them, all but independent
    assert np.abs(value.mean() - exact) < 4 * error.mean() / np.sqrt(21)
    assert_allclose(value.std(ddof=1), error.mean(), rtol=0.6)  # the spread of 21 numbers is known to 15 %
    if not replace:
        whole, h = L.grad(jnp.asarray(start)), L.hessian(jnp.asarray(start))
        assert_allclose(run.curve("all")[0], whole @ h @ whole / (whole @ whole), rtol=1e-12)


def test_a_hessian_that_is_not_finite_leaves_a_gap_and_stops_nothing():
    """|x|^1.5 has no second derivative at 0, where its gradient is 0."""
    L = fd.Landscape.from_function(lambda t: jnp.sum(jnp.abs(t) ** 1.5) + jnp.sum(t**2), 2)
    process = fd.Iteration(L, fd.GD(0.0625))
    run = fd.simulate(process, [[0.0, 1.0], [0.5, 1.0]], 4, observe={"top": curvature.TopEigenvalues(1)})
    assert np.isnan(run.curve("top")[0]).all()
    assert np.isfinite(run.theta).all()
    exact = dense(L, run.theta[1], 1)
    assert_allclose(run.curve("top")[1], exact, rtol=1e-5)
    assert_array_equal(run.steps, 4)


DATA = fd.networks.spirals(60, 1.0)


def make(key):
    return fd.networks.MLP((2, 8, 2), key, norm="batch")


TASK = fd.networks.classifier(make(KEY), DATA, weight_decay=1e-3)
PROCESS = fd.Extended(fd.Iteration(TASK.landscape, fd.SAM(0.1, 0.1, 0.5), fd.noise.FiniteSum(20)), ["lr"])
NETWORKS = PROCESS.starts(TASK.starts(make, KEY, 3), lr=[0.05, 0.1, 1e200])
WATCH = {"top": curvature.TopEigenvalues(2), "batch": curvature.BatchSharpness(20, 4), "u": curvature.UpdateNorm()}


def train(**options):
    return fd.networks.train(TASK, PROCESS, NETWORKS, 20, KEY, 5, **({"chunk": 2, "watch": WATCH} | options))


@pytest.mark.optimised
def test_a_watched_training_is_the_same_goes_on_where_it_was_and_is_kept(tmp_path, monkeypatch):
    whole = train()
    assert_array_equal(whole.theta, train(watch=None).theta)
    assert_array_equal(whole.status, [0, 0, fd.Status.DIVERGED])
    assert np.isfinite(whole.curve("top")[:2]).all()
    assert np.isfinite(whole.curve("top")[2, 0]).all()
    assert np.isnan(whole.curve("top")[2, 1:]).all()
    run = fd.simulate(PROCESS, NETWORKS[:2], 20, KEY, every=5)
    exact = dense(TASK.landscape, PROCESS.theta(jnp.asarray(run.theta)), 2)
    assert (np.abs(whole.curve("top")[:2] - exact) < 1e-5 * np.abs(exact).max()).all()
    advance, calls, store = training._advance, [], tmp_path / "store"

    def impatient(*args):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return advance(*args)

    monkeypatch.setattr(training, "_advance", impatient)
    with pytest.raises(KeyboardInterrupt):
        train(store=store)
    monkeypatch.setattr(training, "_advance", advance)
    after = train(store=store)
    assert_array_equal(after.theta, whole.theta)
    assert_array_equal(after.observed, whole.observed)
    assert_array_equal(train(store=store).observed, whole.observed)  # a finished one is read
    train(store=store, watch={"top": curvature.TopEigenvalues(1)})
    assert len(list(store.glob("*.npz"))) == 2  # what is watched is part of what was asked
    again = fd.networks.Training.load(after.save(tmp_path / "kept.npz"))
    assert_array_equal(again.curve("batch.stderr"), whole.curve("batch.stderr"))


def test_a_record_of_before_there_was_watching_is_read(tmp_path):
    plain = train(watch=None)
    arrays = {name: values for name, values in plain.arrays().items() if name != "observed"}
    fd.records.save_arrays(tmp_path / "old.npz", arrays, plain.header())
    old = fd.networks.Training.load(tmp_path / "old.npz")
    assert old.observed.size == 0
    for record in (plain, old):
        assert "observed" not in record.to_xarray()
        assert len(record.to_dataframe()) == len(record.status)


def test_curves_are_drawn_with_their_gaps():
    curve = np.array([1.0, np.nan, 2.0])
    (drawn,) = fd.plotting.draw_series(Figure().subplots(), [0, 5, 10], {"network": curve})["network"]
    assert_array_equal(drawn.lines[0].get_ydata(), curve)


def test_what_cannot_be_watched_says_so():
    process = fd.Iteration(WELL, fd.GD(0.1))
    for observe, error, words in (
        (curvature.TopEigenvalues(1), TypeError, r"give observe=\{'a name': TopEigenvalues"),
        ({"top": 3}, TypeError, "must be an observer, or a function of the state"),
        ({"top": curvature.TopEigenvalues(13)}, ValueError, "k must be at most the 12 coordinates"),
        ({"b": curvature.BatchSharpness(2)}, TypeError, "needs a landscape made by Landscape.from_examples"),
        ({"d": curvature.Distance([1.0, 2.0])}, ValueError, r"point must have shape \(12,\)"),
        ({"p": curvature.TopEigenvalues(preconditioner=lambda s: jnp.ones(2))}, ValueError, r"P of shape \(12,\)"),
        ({"l": curvature.GradientNorm(fd.landscapes.beale())}, ValueError, "must have the 12 coordinates"),
    ):
        with pytest.raises(error, match=words):
            fd.simulate(process, STARTS, 2, observe=observe)
    with pytest.raises(TypeError, match="a method on a landscape"):
        fd.simulate(fd.Map(lambda t: t / 2, 2), [1.0, 1.0], 2, observe={"u": curvature.UpdateNorm()})
    lion = fd.Iteration(WELL, fd.from_optax(optax.lion(1e-3)))
    with pytest.raises(ValueError, match="pass what you divide the gradient by yourself"):
        fd.simulate(lion, STARTS, 2, observe={"p": curvature.TopEigenvalues(preconditioner="state")})
    with pytest.raises(ValueError, match="too few data for batch sharpness"):
        train(watch={"b": curvature.BatchSharpness(61)})
    with pytest.raises(ValueError, match="one minibatch says nothing of the error"):
        curvature.BatchSharpness(2, 1)
