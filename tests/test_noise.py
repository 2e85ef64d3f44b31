"""How noise enters a step, and the three ways a SAM step can see its sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd

SIGMA, BATCH, RHO, LR = 0.7, 4, 0.3, 0.1
Q = fd.landscapes.saddle((2.0, -1.0))
RUNS = 40_000


def one_step(method, ascent, start, key):
    process = fd.Iteration(Q, method, noise=fd.noise.Gaussian(SIGMA, BATCH), ascent=ascent)
    return fd.simulate(process, np.tile(start, (RUNS, 1)), 1, key=jax.random.key(key), every=1).final


@pytest.mark.parametrize("key", [0, 1, 2])
@pytest.mark.parametrize(
    ("ascent", "factor"),
    # USAM on a quadratic: step = −η [λ(1 + ρλ) w + n], Var n = σ²/B · (1 + ρλ)², 1 + ρ²λ², 1
    [("shared", lambda c: (1 + RHO * c) ** 2), ("independent", lambda c: 1 + RHO**2 * c**2), ("full", lambda c: 1.0)],
)
def test_usam_sees_its_sample_in_three_ways(ascent, factor, key):
    start = np.array([0.5, 1.0])
    moved = one_step(fd.USAM(LR, RHO), ascent, start, key) - start
    for i, curvature in enumerate((2.0, -1.0)):
        variance = LR**2 * SIGMA**2 / BATCH * factor(curvature)
        mean = -LR * curvature * (1 + RHO * curvature) * start[i]
        # five standard errors of a mean, and of a variance of normal numbers
        assert abs(moved[:, i].mean() - mean) < 5 * np.sqrt(variance / RUNS)
        assert abs(moved[:, i].var() / variance - 1) < 5 * np.sqrt(2 / RUNS)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 5 / np.sqrt(RUNS)


@pytest.mark.parametrize("key", [0, 1])
def test_sam_at_the_saddle_has_the_exact_first_step_variance(key):
    # One dimension, w = 0, λ = −b: shared noise moves by −η(Z − bρ sign Z), so the variance is
    # η² (s² − 2bρ s √(2/π) + b²ρ²), s² = σ²/B; noiseless ascent perturbs by 0 there and leaves η² s².
    line = fd.landscapes.saddle((-1.0,))
    s = SIGMA / np.sqrt(BATCH)
    for ascent, exact in [("shared", s**2 - 2 * RHO * s * np.sqrt(2 / np.pi) + RHO**2), ("full", s**2)]:
        process = fd.Iteration(line, fd.SAM(LR, RHO), noise=fd.noise.Gaussian(SIGMA, BATCH), ascent=ascent)
        final = fd.simulate(process, np.zeros((RUNS, 1)), 1, key=jax.random.key(key)).final[:, 0]
        fourth = (final**4).mean() / (final**2).mean() ** 2
        # the standard error of a mean square, from its own fourth moment
        assert abs((final**2).mean() / (LR**2 * exact) - 1) < 5 * np.sqrt((fourth - 1) / RUNS)


def test_dnsam_divides_the_samples_gradient_by_the_length_of_the_full_one():
    """p = θ + ρ g/(‖∇L‖ + ε), g = ∇L + s z: with given z the step is a formula."""
    H, theta, z, s = np.diag([2.0, -1.0]), np.array([0.5, 1.0]), np.array([0.9, -1.7]), SIGMA / np.sqrt(BATCH)
    for ascent, seen in (("shared", H @ theta + s * z), ("full", H @ theta)):
        process = fd.Iteration(Q, fd.DNSAM(LR, RHO, eps=0.2), fd.noise.Gaussian(SIGMA, BATCH), ascent=ascent)
        found = process.position(process.driven(process.init(jnp.asarray(theta)), jnp.asarray(z)))
        p = theta + RHO * seen / (np.linalg.norm(H @ theta) + 0.2)
        assert_allclose(found, theta - LR * (H @ p + s * z), rtol=1e-13)


def test_scale_may_differ_between_coordinates():
    process = fd.Iteration(Q, fd.GD(LR), noise=fd.noise.Gaussian(np.array([0.0, 2.0])))
    final = fd.simulate(process, np.zeros((RUNS, 2)), 1, key=jax.random.key(0)).final
    assert (final[:, 0] == 0).all()
    assert abs(final[:, 1].std() / (2 * LR) - 1) < 5 / np.sqrt(2 * RUNS)


def test_zero_noise_is_the_exact_gradient():
    noisy = fd.Iteration(Q, fd.SAM(LR, RHO), noise=fd.noise.Gaussian(0.0))
    exact = fd.Iteration(Q, fd.SAM(LR, RHO))
    start = np.array([0.5, 1.0])
    assert_allclose(
        fd.simulate(noisy, start, 20, key=jax.random.key(0)).theta, fd.simulate(exact, start, 20).theta, rtol=1e-14
    )


def test_a_function_and_an_expression_see_the_same_noise():
    function = fd.Landscape.from_function(lambda t: t[0] ** 2 - t[1] ** 2 / 2, 2)
    start, key = np.array([0.5, 1.0]), jax.random.key(3)
    for dtype in (np.float32, np.float64):
        paths = [
            fd.simulate(fd.Iteration(L, fd.SAM(LR, RHO), fd.noise.Gaussian(1.0)), start.astype(dtype), 5, key).theta
            for L in (function, Q)
        ]
        assert_allclose(paths[0], paths[1], rtol=1e-5 if dtype == np.float32 else 1e-13)


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match=r"scale must be .*>= 0, got -1"):
        fd.noise.Gaussian(-1.0)
    with pytest.raises(ValueError, match=r"batch_size must be .*>= 1, got 0"):
        fd.noise.Gaussian(1.0, batch_size=0)
    with pytest.raises(ValueError, match="random: pass key"):
        fd.simulate(fd.Iteration(Q, fd.GD(LR), fd.noise.Gaussian(1.0)), jnp.zeros(2), 1)


# --- every kind of noise --------------------------------------------------------------------------------------

SIGMAS = np.array([[1.0, 0.3], [0.3, 0.5]])


def deviations(w):
    return jnp.stack([w[0], 3 * w[1]])


def root(w):
    return jnp.array([[1.0, 0.0], [2.0, 1.0]]) * w[1]


def kicks(noise, start, key, landscape=Q, runs=RUNS):
    """What one step of gradient descent with η = 1 adds to that without noise, shape (runs, 2)."""
    process = fd.Iteration(landscape, fd.GD(1.0), noise=noise)
    final = fd.simulate(process, np.tile(start, (runs, 1)), 1, key=jax.random.key(key)).final
    return -(final - start + np.asarray(landscape.grad(start)))


@pytest.mark.parametrize(("key", "batch_size"), [(0, 1), (1, 4), (2, 25)])
@pytest.mark.parametrize(
    ("noise", "covariance"),
    [
        (lambda B: fd.noise.Gaussian(covariance=SIGMAS, batch_size=B), SIGMAS),
        (lambda B: fd.noise.Gaussian((0.5, 2.0), B), np.diag([0.25, 4.0])),
        (lambda B: fd.noise.Curvature(0.7, B), 0.7 * np.diag([2.0, 1.0])),  # |diag(2, −1)|
        # |A| = (A²)^½ by hand: A = [[0, 2], [2, 0]] has |A| = 2 I
        (lambda B: fd.noise.Curvature(0.5, B, matrix=[[0.0, 2.0], [2.0, 0.0]]), np.eye(2)),
        (lambda B: fd.noise.StateDependent(deviations, B), np.diag([0.25, 9.0])),
        (lambda B: fd.noise.StateDependent(root, B), [[1, 2], [2, 5]]),
    ],
)
def test_covariance_is_what_was_asked_for_over_the_batch_size(noise, covariance, batch_size, key):
    found, exact = kicks(noise(batch_size), np.array([0.5, 1.0]), key), np.asarray(covariance) / batch_size
    deviation = np.sqrt(np.diag(exact))
    assert (np.abs(found.mean(axis=0)) < 5 * deviation / np.sqrt(RUNS)).all()
    # standard error of a covariance of normal numbers: √((Σᵢᵢ Σⱼⱼ + Σᵢⱼ²)/n)
    error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / RUNS)
    assert (np.abs(np.cov(found.T) - exact) < 5 * error).all()


A, B = np.array([1.0, 2.0, -1.0, 0.5, 3.0]), np.array([0.0, 1.0, 2.0, -1.0, 0.5])
TARGETS = fd.Landscape.from_examples("a*(x - b)**2/2 + y**2/2", {"a": A, "b": B}, symbols="x y")


def test_a_mean_over_examples_is_one_landscape_in_symbols_and_numbers():
    theta = np.array([0.3, -0.7])
    assert_allclose(TARGETS.loss(theta), np.mean(A * (0.3 - B) ** 2 / 2) + 0.49 / 2, rtol=1e-14)
    assert_allclose(TARGETS.grad(theta), [np.mean(A * (0.3 - B)), -0.7], rtol=1e-14)
    x, y = TARGETS.symbols
    assert_allclose(float(TARGETS.expression.subs({x: 0.3, y: -0.7})), TARGETS.loss(theta), rtol=1e-14)
    (point,) = TARGETS.critical_points()
    assert_allclose(point.theta, [np.sum(A * B) / np.sum(A), 0], atol=1e-12)

    def loss(theta, example):
        return example["a"] * (theta[0] - example["b"]) ** 2 / 2 + theta[1] ** 2 / 2

    function = fd.Landscape.from_examples(loss, {"a": A, "b": B}, dim=2)
    assert_allclose(function.grad(theta), TARGETS.grad(theta), rtol=1e-14)
    for replace in (True, False):
        noise, key = fd.noise.FiniteSum(2, replace), jax.random.key(0)
        paths = [
            fd.simulate(fd.Iteration(L, fd.SAM(0.1, 0.2), noise), theta, 20, key).theta for L in (TARGETS, function)
        ]
        assert_allclose(*paths, rtol=1e-11)


@pytest.mark.parametrize("key", [0, 1, 2])
@pytest.mark.parametrize(("replace", "batch_size"), [(True, 3), (True, 8), (False, 1), (False, 3), (False, 5)])
def test_minibatches_have_the_textbook_covariance(replace, batch_size, key):
    start = np.array([0.3, -0.7])
    found, n = kicks(fd.noise.FiniteSum(batch_size, replace), start, key, TARGETS), len(A)
    each = A * (start[0] - B)
    exact = each.var() / batch_size * (1 if replace else (n - batch_size) / (n - 1))
    assert_allclose(found[:, 1], 0, atol=1e-12)  # all examples agree about y
    if exact == 0:  # the whole data set, without replacement: the exact gradient
        assert_allclose(found, 0, atol=1e-12)
        return
    fourth = (found[:, 0] ** 4).mean() / found[:, 0].var() ** 2
    assert abs(found[:, 0].mean()) < 5 * np.sqrt(exact / RUNS)
    assert abs(found[:, 0].var() / exact - 1) < 5 * np.sqrt((fourth - 1) / RUNS)


def test_each_part_of_a_batch_makes_its_own_ascent():
    # Without replacement a batch of all five, each alone: θ⁺ = θ − η (1/n) Σ ∇ℓᵢ(θ + ρ ∇ℓᵢ/‖∇ℓᵢ‖), whatever the order.
    start = np.array([0.3, -0.7])
    noise = fd.noise.FiniteSum(5, replace=False, ascent_size=1)
    found = fd.simulate(fd.Iteration(TARGETS, fd.SAM(0.1, 0.2), noise), start, 1, jax.random.key(0)).final
    gradients = np.stack([A * (start[0] - B), np.full(5, start[1])], axis=1)
    at = start + 0.2 * gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    exact = start - 0.1 * np.mean([A * (at[:, 0] - B), at[:, 1]], axis=1)
    assert_allclose(found, exact, rtol=1e-13)
    whole = fd.Iteration(TARGETS, fd.SAM(0.1, 0.2), fd.noise.FiniteSum(5, replace=False))
    plain = fd.simulate(fd.Iteration(TARGETS, fd.SAM(0.1, 0.2)), start, 1).final
    assert_allclose(fd.simulate(whole, start, 1, jax.random.key(0)).final, plain, rtol=1e-13)
    assert not np.allclose(found, plain, rtol=1e-3)


def test_a_vanishing_sample_takes_the_gradient_to_zero():
    noises = [fd.noise.Gaussian(covariance=SIGMAS, batch_size=3), fd.noise.Gaussian((0.5, 2.0), 3)]
    noises.append(fd.noise.StateDependent(lambda w: jnp.array([[1.0, 0.4], [2.0, -1.0]]) * w[1], 3))
    for noise in noises:
        theta = Q.vector(jnp.array([0.5, 1.3]))
        gradient = noise.gradient(Q, theta, Q.vector(noise.vanishing(Q, theta)))
        assert_allclose(Q.array(gradient), 0, atol=1e-14)
    line = fd.landscapes.saddle((-1.0,))
    theta, noise = line.vector(jnp.array([0.5])), fd.noise.Gaussian(0.3, 4)
    assert_allclose(noise.vanishing(line, theta), 0.5 / 0.15, rtol=1e-14)


def test_a_step_under_given_numbers_is_the_step_under_a_key():
    for ascent in ("shared", "independent", "full"):
        process = fd.Iteration(Q, fd.SAM(LR, RHO), fd.noise.Gaussian(covariance=SIGMAS), ascent=ascent)
        state, key = process.init(jnp.array([0.5, 1.0])), jax.random.key(7)
        drawn = jnp.concatenate([Q.array(xi) for xi in process.draw(key, state.theta)])
        drawn = drawn if ascent == "independent" else drawn[:2]
        assert process.draws == len(drawn)
        assert_allclose(process.driven(state, drawn).theta.tree, process.step(state, key).theta.tree, rtol=1e-14)


def test_bad_noises_are_refused():
    with pytest.raises(ValueError, match=r"covariance must be positive semidefinite, got the eigenvalue -1"):
        fd.noise.Gaussian(covariance=[[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="covariance must be symmetric"):
        fd.noise.Gaussian(covariance=[[1.0, 2.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"either scale .* or covariance"):
        fd.noise.Gaussian()
    with pytest.raises(ValueError, match=r"covariance must have shape .* got \(3, 3\)"):
        fd.Iteration(Q, fd.GD(LR), fd.noise.Gaussian(covariance=np.eye(3)))
    with pytest.raises(ValueError, match=r"standard deviations, got shape \(2, 2\): use covariance="):
        fd.noise.Gaussian(np.eye(2))
    with pytest.raises(TypeError, match="noise made of normal numbers"):
        fd.Iteration(TARGETS, fd.GD(LR), fd.noise.FiniteSum(2)).draws  # noqa: B018
    with pytest.raises(ValueError, match="scale must be finite and >= 0"):
        fd.noise.Curvature(-1.0)
    with pytest.raises(ValueError, match="must have shape"):
        fd.Iteration(Q, fd.GD(LR), fd.noise.StateDependent(lambda w: jnp.zeros(3)))
    with pytest.raises(ValueError, match="batch_size=6 is larger than the 5 examples"):
        fd.Iteration(TARGETS, fd.GD(LR), fd.noise.FiniteSum(6, replace=False))
    with pytest.raises(TypeError, match="from_examples"):
        fd.Iteration(Q, fd.GD(LR), fd.noise.FiniteSum(2))
    with pytest.raises(ValueError, match="ascent_size must divide"):
        fd.noise.FiniteSum(4, ascent_size=3)
    with pytest.raises(ValueError, match="leading length"):
        fd.Landscape.from_examples("a*x", {"a": [1, 2], "b": [1]}, symbols="x")
    with pytest.raises(ValueError, match="examples must be finite"):
        fd.Landscape.from_examples("a*x", {"a": [1, np.nan]}, symbols="x")
    with pytest.raises(ValueError, match=r"give dim, their number, or like"):
        fd.Landscape.from_examples(lambda theta, x: x * theta[0], [1.0, 2.0])
