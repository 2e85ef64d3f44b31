"""Langevin methods against exact stationary laws, orders of bias, and the recursions they contain as special cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import sympy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd

h, friction, temperature, curvature = sympy.symbols("h gamma tau lambda", positive=True)
WORDS = ["BAOAB", "ABOBA", "OBABO", "OABAO", "AOAB", "BAO", "ABO"]
COUPLED = fd.Landscape.from_expression("x**2 + x*y/2 + y**2/2", "x y")  # K = [[2, .5], [.5, 1]]


def at_rest(process, runs, steps, seed, **options):
    """Runs from the origin, the last positions and what is observed there."""
    found = fd.simulate(
        process, jnp.zeros((runs, process.dim)), steps, key=jax.random.key(seed), every=steps, **options
    )
    assert found.counts()["DIVERGED"] == 0
    return found.final, found.observed[:, -1]


# --- the harmonic oscillator: symbols, numbers, simulation -------------------------------------------------------


def textbook(word):
    """Var θ, Cov(θ, p), Var p on ½ λ θ², as independent work derived them (unit mass)."""
    if word in ("BAO", "ABO"):
        c = sympy.exp(-friction * h)
        bottom = 2 * c - h**2 * curvature + 2 if word == "BAO" else c * h**2 * curvature - 2 * c - 2
        if word == "BAO":
            return [
                temperature * (c + 1) ** 2 / (curvature * bottom),
                temperature * c * h * (c + 1) / bottom,
                temperature * (c + 1) * (c * h**2 * curvature - h**2 * curvature + 2) / bottom,
            ]
        return [
            -temperature * (c + 1) ** 2 / (c * curvature * bottom),
            temperature * h * (c + 1) / bottom,
            -2 * temperature * (c + 1) / bottom,
        ]
    shrink = 1 - h**2 * curvature / 4
    exact = temperature / curvature
    return {
        "BAOAB": [exact, 0, temperature * shrink],
        "ABOBA": [exact, 0, temperature / shrink],
        "OBABO": [exact / shrink, 0, temperature],
        "OABAO": [exact * shrink, 0, temperature],
        "AOAB": [exact, -h * temperature / 2, temperature],
    }[word]


@pytest.mark.parametrize("word", WORDS)
def test_stationary_moments_of_a_splitting_are_the_derived_formulas(word):
    law = fd.stationary.formula(fd.Langevin(h, friction, temperature, word), fd.landscapes.saddle((curvature,)))
    c = sympy.Symbol("c", positive=True)
    for found, expected in zip([law[0, 0], law[0, 1], law[1, 1]], textbook(word), strict=True):
        # With c = exp(−γh) for γ both are ratios of polynomials, which are equal if their difference cancels
        assert sympy.cancel((found - expected).subs(friction, -sympy.log(c) / h)) == 0


def test_overdamped_stationary_moments_are_the_derived_formulas():
    line = fd.landscapes.saddle((curvature,))
    sgld = fd.stationary.formula(fd.SGLD(h, temperature), line)[0, 0]
    assert sympy.simplify(sgld - temperature / (curvature * (1 - h * curvature / 2))) == 0
    twice = fd.stationary.formula(fd.LeimkuhlerMatthews(h, temperature), line)[0, 0]
    assert sympy.simplify(twice - temperature / curvature) == 0


def test_stationary_moments_are_those_of_independent_code(reference):
    rows, line = reference["9_langevin"]["splitting_stationary_moments"]["rows"], fd.landscapes.saddle((1.0,))
    for name, row in rows.items():
        found = fd.stationary.covariance(fd.Langevin(0.5, splitting=name.split()[0]), line)
        # solve_discrete_lyapunov on a 2 x 2 matrix, and the reference's own rounding
        assert_allclose([found[0, 0], found[0, 1], found[1, 1]], row["numeric_h0.5_lam1_beta1_gamma1"], atol=1e-13)
    expected = reference["9_langevin"]["euler_maruyama"]["h0p5_lam1_beta1"]
    assert_allclose(fd.stationary.covariance(fd.SGLD(0.5), line), [[expected]], rtol=1e-13)


def test_gradient_noise_enters_the_stationary_variance():
    lr, tau, lam, s = 0.3, 0.7, 1.5, 2.0
    noisy = fd.Iteration(fd.landscapes.saddle((lam,)), fd.SGLD(lr, tau), fd.noise.Gaussian(s))
    assert_allclose(fd.stationary.covariance(noisy), [[(2 * tau + lr * s**2) / (lam * (2 - lr * lam))]], rtol=1e-12)
    descent = fd.Iteration(fd.landscapes.saddle((lam,)), fd.GD(lr), fd.noise.Gaussian(s))
    assert_allclose(fd.stationary.covariance(descent), [[lr * s**2 / (lam * (2 - lr * lam))]], rtol=1e-12)


# A run's steps are those of the formulas, which hold for all words: of simulation three words show the law, with O in
# the middle, O twice, and O at the end.
LONG = [pytest.param(word, marks=() if word in ("BAOAB", "OABAO", "ABO") else pytest.mark.slow) for word in WORDS]


@pytest.mark.parametrize("word", LONG)
def test_simulated_moments_are_the_exact_ones(word):
    runs, process = 20_000, fd.Iteration(fd.landscapes.saddle((1.0,)), fd.Langevin(0.5, splitting=word))
    exact = fd.stationary.covariance(process)
    for seed in (0, 1):
        # from rest the law is reached like e^{−γt}: 40 time units leave e⁻⁴⁰
        theta, momentum = at_rest(process, runs, 80, seed, observe=lambda state: state.momentum.tree[0])
        found = np.cov(theta[:, 0], momentum)
        # a sample covariance of n normal pairs has variance (P_ii P_jj + P_ij²)/n: four standard errors
        error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / runs)
        assert (np.abs(found - exact) < 4 * error).all()


def test_without_a_stationary_law_it_says_so():
    with pytest.raises(ValueError, match=r"modulus 1\.\d+"):
        fd.stationary.covariance(fd.Langevin(2.1), fd.landscapes.saddle((1.0,)))  # h² λ > 4
    with pytest.raises(ValueError, match=r"moves by .*give a point at which it rests"):
        fd.stationary.covariance(fd.SGLD(0.1), fd.landscapes.saddle((1.0,)), at=[1.0])
    with pytest.raises(ValueError, match="no linear step"):
        fd.stationary.formula(fd.SGLD(h, temperature), fd.landscapes.double_well())
    with pytest.raises(TypeError, match="draws no random numbers"):
        fd.stationary.formula(fd.GD(h), fd.landscapes.saddle((curvature,)))


# --- beyond the quadratic: order of the bias --------------------------------------------------------------------


def quartic_moment(tau=1.0):
    """E θ² under exp(−θ⁴/(4τ)), by quadrature."""
    weight = lambda x: np.exp(-(x**4) / (4 * tau))  # noqa: E731
    return scipy.integrate.quad(lambda x: x * x * weight(x), -10, 10)[0] / scipy.integrate.quad(weight, -10, 10)[0]


QUARTIC = fd.Landscape.from_expression("x**4/4", "x")


def quartic_bias(method, seed):
    """E θ² of the runs less the exact one, with its standard error; in single precision, whose numbers come faster."""
    kept = round(1 / method.lr)  # once per unit of time: 10 units to forget the start, 90 to average over
    process = fd.Iteration(QUARTIC, method)
    start = jnp.zeros((20_000 if kept > 9 else 50_000, 1), jnp.float32)
    found = fd.simulate(process, start, 100 * kept, key=jax.random.key(seed), every=kept)
    assert found.counts()["DIVERGED"] == 0
    square = (found.theta[:, 11:, 0] ** 2).mean(axis=1, dtype=float)
    return square.mean() - quartic_moment(), square.std() / np.sqrt(len(square))


@pytest.mark.optimised
@pytest.mark.parametrize(
    ("build", "order", "steps"),
    [
        (fd.SGLD, 1, (1 / 20, 1 / 10)),
        (lambda lr: fd.Langevin(lr, splitting="OBABO"), 2, (1 / 6, 1 / 3)),
        pytest.param(lambda lr: fd.Langevin(lr, splitting="BAO"), 1, (1 / 12, 1 / 6), marks=pytest.mark.slow),
    ],
    ids=["SGLD", "OBABO", "BAO"],
)
def test_the_bias_on_a_quartic_has_the_order_of_the_method(build, order, steps):
    for seed in (0, 1):
        (small, error), (large, other) = (quartic_bias(build(lr), seed) for lr in steps)
        assert abs(small) > 5 * error  # there is a bias to speak of
        ratio = large / small
        spread = abs(ratio) * np.hypot(error / small, other / large)
        # Twice the step, 2^p times the bias, up to the next order: half a power, and four standard errors.
        assert 2 ** (order - 0.5) - 4 * spread < ratio < 2 ** (order + 0.5) + 4 * spread


@pytest.mark.optimised
def test_averaging_the_noise_of_two_steps_takes_the_first_order_away():
    (simple, error), (twice, other) = quartic_bias(fd.SGLD(0.1), 2), quartic_bias(fd.LeimkuhlerMatthews(0.1), 2)
    assert abs(twice) + 4 * np.hypot(error, other) < simple / 2


# --- adaptive Langevin ------------------------------------------------------------------------------------------


def adaptive_moments(row, runs, steps, seed, noise=None):
    method = fd.AdaptiveLangevin(row["h"], row["tau"], row["sigma"], row["eps"], scaling="code")
    bowl = fd.Landscape.from_function(lambda theta: row["lam"] / 2 * theta @ theta, dim=row["N"])
    process = fd.Iteration(bowl, method, noise or fd.noise.Exact())
    start = jnp.zeros((runs, row["N"]), jnp.float32)
    found = fd.simulate(process, start, steps, key=jax.random.key(seed), every=10, observe=lambda state: state.zeta[0])
    assert found.counts()["DIVERGED"] == 0
    late = len(found.times) // 3
    per_run = [(found.theta[:, late:] ** 2).mean(axis=(1, 2)), found.observed[:, late:].mean(axis=1)]
    per_run.append(((found.observed[:, late:] - per_run[1].mean()) ** 2).mean(axis=1))
    return [(x.mean(), x.std() / np.sqrt(runs)) for x in per_run]


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.slow), 1])  # τ and λ are 1 in the row 0
def test_adaptive_langevin_has_the_moments_of_independent_code(reference, number):
    row = reference["9_langevin"]["adaptive_langevin"]["rows"][number]
    for seed in (0, 1):
        found = adaptive_moments(row, 128, 2000, seed)
        for (value, error), name in zip(found, ("var_q", "xi_mean", "xi_var"), strict=True):
            expected, theirs = row["measured"][name]
            assert abs(value - expected) < 4 * np.hypot(error, theirs), name


def test_adaptive_langevin_absorbs_gradient_noise_it_is_not_told_of(reference):
    row, s = reference["9_langevin"]["adaptive_langevin"]["rows"][0], 2.0
    (square, error), (zeta, zeta_error), _ = adaptive_moments(row, 128, 2000, 0, fd.noise.Gaussian(s))
    # ζ takes up the noise: (σ² + h s²)/(2τ) = 0.7; the bias of order h² is below 1 % at h = 0.1
    assert abs(zeta - (row["sigma"] ** 2 + row["h"] * s**2) / (2 * row["tau"])) < 4 * zeta_error + 0.007
    assert abs(square - row["tau"] / row["lam"]) < 4 * error + 0.007


def test_the_two_scalings_of_adaptive_langevin_are_the_same_runs():
    eps = 0.5
    text = fd.AdaptiveLangevin(0.1, coupling=eps, start=0.3)
    code = fd.AdaptiveLangevin(0.1, coupling=eps**2, start=eps * 0.3, scaling="code")
    bowl = fd.Landscape.from_function(lambda theta: theta @ theta + theta[0] * theta[1], dim=2)
    runs = [
        fd.simulate(
            fd.Iteration(bowl, method), jnp.ones(2), 300, key=jax.random.key(0), observe=lambda state: state.zeta[0]
        )
        for method in (text, code)
    ]
    assert_allclose(runs[0].theta, runs[1].theta, atol=1e-11)  # rounding, through 300 steps
    assert_allclose(eps * runs[0].observed, runs[1].observed, atol=1e-11)


# --- partitions -------------------------------------------------------------------------------------------------


def test_different_temperatures_on_coupled_blocks_are_not_gibbs(reference):
    expected = reference["9_langevin"]["lala"]
    method = fd.LaLa(0.1, (True, False), (1, 1), (1, 0.5))
    found = fd.stationary.covariance(method, COUPLED)
    assert_allclose(found[:2, :2], expected["baoab_h0.1_cov_q"], atol=1e-13)
    assert_allclose(found[2:, 2:], expected["baoab_h0.1_cov_p"], atol=1e-13)
    # in continuous time heat flows: Cov(q, p) = 0.0625; the step changes it by O(h²)
    assert_allclose(abs(found[0, 3]), 0.0625, rtol=0.01)
    equal = fd.stationary.covariance(fd.LaLa(0.1, (True, False), (1, 2), (0.5, 0.5)), COUPLED)
    assert_allclose(equal[:2, :2], 0.5 * np.linalg.inv([[2, 0.5], [0.5, 1]]), rtol=1e-12)  # BAOAB: Gibbs, exactly


def test_lol_is_its_two_steps(reference):
    found = fd.stationary.covariance(fd.LOL(0.1, (True, False)), COUPLED)
    assert_allclose(found[:2, :2], reference["9_langevin"]["lol"]["cov_q"], atol=1e-13)


def driven_twice(method, drive):
    """Positions after two steps on COUPLED from (0.6, −0.8), under given normal numbers, one row of `drive` a step."""
    process = fd.Iteration(COUPLED, method)
    assert process.draws == drive.shape[1]
    state, path = process.init(jnp.array([0.6, -0.8])), []
    for row in drive:
        state = process.driven(state, jnp.asarray(row))
        path.append(np.asarray(process.position(state)))
    return np.array(path)


def slopes(x, y):
    return np.array([2 * x + y / 2, x / 2 + y])


def test_steps_of_two_blocks_are_their_words_with_numbers_of_their_own():
    """Frictions and temperatures of the blocks differ: letter by letter in plain numbers, from rest, two steps."""
    h, g, tau, drive = 0.2, np.array([0.7, 2.0]), np.array([0.3, 1.5]), np.random.default_rng(0).normal(size=(2, 4))
    q, p, path = np.array([0.6, -0.8]), np.zeros(2), []
    for row in drive:  # B A O A B
        p = p - h / 2 * slopes(*q)
        q = q + h / 2 * p
        p = np.exp(-g * h) * p + np.sqrt((1 - np.exp(-2 * g * h)) * tau) * row[:2]
        q = q + h / 2 * p
        p = p - h / 2 * slopes(*q)
        path.append(q)
    assert_allclose(driven_twice(fd.LaLa(h, (1, 0), tuple(g), tuple(tau)), drive[:, :2]), path, rtol=1e-13)

    q, p, zeta, path, sigma, eps = np.array([0.6, -0.8]), np.zeros(2), 0.4, [], 0.9, 0.6
    for row in drive:  # A, then C D E D C on the first and O on the second, A B
        q = q + h / 2 * p
        kick, cold = sigma * np.sqrt(h / 2), np.exp(-2.0 * h)
        first = np.exp(-h / 2 * eps * zeta) * p[0] + kick * row[0]
        zeta = zeta + h * eps * (first**2 - 0.3)
        first = np.exp(-h / 2 * eps * zeta) * (first + kick * row[2])
        p = np.array([first, cold * p[1] + np.sqrt((1 - cold**2) * 1.5) * row[1]])
        q = q + h / 2 * p
        p = p - h * slopes(*q)
        path.append(q)
    method = fd.AdLaLa(h, (1, 0), (0.3, 1.5), sigma, eps, friction=2.0, start=0.4)
    assert_allclose(driven_twice(method, drive), path, rtol=1e-13)

    q, p, path, c = np.array([0.6, -0.8]), 0.0, [], np.exp(-0.7 * h)
    for row in drive:  # B A O A B on the first, then a step of SGLD on the second
        p = p - h / 2 * slopes(*q)[0]
        q = q + np.array([h / 2 * p, 0])
        p = c * p + np.sqrt((1 - c**2) * 0.3) * row[0]
        q = q + np.array([h / 2 * p, 0])
        p = p - h / 2 * slopes(*q)[0]
        q = q + np.array([0, -h * slopes(*q)[1] + np.sqrt(2 * h * 1.5) * row[3]])
        path.append(q)
    assert_allclose(driven_twice(fd.LOL(h, (1, 0), 0.7, (0.3, 1.5)), drive), path, rtol=1e-13)


def test_partitions_in_simulation_have_the_exact_covariance():
    for method in (fd.LaLa(0.1, (1, 0), (1, 1), (1, 0.5)), fd.LOL(0.1, (1, 0))):
        process, runs = fd.Iteration(COUPLED, method), 10_000
        exact = fd.stationary.covariance(process)[:2, :2]
        theta, _ = at_rest(process, runs, 300, seed=2)
        error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / runs)
        assert (np.abs(np.cov(theta.T) - exact) < 4 * error).all()


def test_adlala_at_one_temperature_is_gibbs():
    method = fd.AdLaLa(0.1, (True, False), (1, 1), sigma=1.0, coupling=0.5, friction=1.0)
    found = fd.simulate(
        fd.Iteration(COUPLED, method), jnp.zeros((4000, 2), jnp.float32), 2000, key=jax.random.key(0), every=50
    ).theta[:, 10:]
    exact = np.linalg.inv([[2, 0.5], [0.5, 1]])
    for i, j in ((0, 0), (0, 1), (1, 1)):
        per_run = (found[..., i] * found[..., j]).mean(axis=1)
        # the O(h²) bias at h = 0.1 is below 1 % of the variances
        assert abs(per_run.mean() - exact[i, j]) < 4 * per_run.std() / np.sqrt(4000) + 0.01


def test_a_xi_for_each_block():
    method = fd.AdLaLa(0.1, [(1, 0, 0), (0, 1, 0)], (1, 1))
    process = fd.Iteration(fd.landscapes.saddle((1.0, 2.0, 3.0)), method)
    state = process.init(jnp.ones(3))
    assert len(state.zeta) == 3
    assert state.zeta[2] is None  # the last block has ordinary friction


# --- special cases that are known ---------------------------------------------------------------------------------


def test_sgld_is_gradient_descent_under_gaussian_noise():
    lr, tau, well = 0.05, 0.3, fd.landscapes.double_well(1)
    sampled = fd.transfer.exit_law(fd.Iteration(well, fd.SGLD(lr, tau)), (-3.0, 0.0), start=-1.0)
    descended = fd.Iteration(well, fd.GD(lr), fd.noise.Gaussian(np.sqrt(2 * tau / lr)))
    # the same kernel, so the same law up to the rounding of the noise's size
    assert_allclose(sampled.mean, fd.transfer.exit_law(descended, (-3.0, 0.0), start=-1.0).mean, rtol=1e-9)


def test_at_zero_temperature_methods_descend():
    landscape, start, key = fd.landscapes.beale(), jnp.array([1.0, 2.0]), jax.random.key(0)
    cold = fd.simulate(fd.Iteration(landscape, fd.SGLD(1e-4, 0.0)), start, 200, key=key)
    assert_array_equal(cold.theta, fd.simulate(fd.Iteration(landscape, fd.GD(1e-4)), start, 200).theta)
    # p ← c p, p −= h g, θ += h p is the heavy ball with v = h p, μ = c, η = h²
    lr, mu = 1e-2, 0.9
    moving = fd.Langevin(lr, friction=-np.log(mu) / lr, temperature=0.0, splitting="OBA")
    ball = fd.simulate(fd.Iteration(landscape, fd.GD(lr**2, momentum=mu)), start, 200)
    run = fd.simulate(fd.Iteration(landscape, moving), start, 200, key=key)
    assert_allclose(run.theta, ball.theta, rtol=1e-11)  # rounding, through 200 steps


def test_multipliers_of_a_splitting_give_its_stability_limit():
    line = fd.landscapes.saddle((1.0,))
    inside = fd.stability.multipliers(fd.Langevin(1.99, splitting="BAOAB"), line, at=[0.0])
    outside = fd.stability.multipliers(fd.Langevin(2.01, splitting="BAOAB"), line, at=[0.0])
    assert np.abs(inside).max() < 1 < np.abs(outside).max()
    exact = np.array(fd.stability.jacobian(fd.Langevin(0.5), line, at=[0]), float)
    assert_allclose(fd.stability.numeric_jacobian(fd.Langevin(0.5), line, at=[0.0]), exact, atol=1e-15)


def test_langevin_methods_are_asked_what_others_are_asked():
    well, ball = fd.landscapes.double_well(1), fd.escape.Box([(-4.0, 0.0)])
    process = fd.Iteration(well, fd.SGLD(0.1, 0.3))
    exact = fd.transfer.exit_law(process, (-4.0, 0.0), start=-1.0).mean
    for seed in (0, 1):
        mean, error, _ = fd.escape_times(process, [-1.0], ball, 2000, 50_000, jax.random.key(seed)).mean()
        assert abs(mean - exact) < 4 * error
    cold = fd.Iteration(well, fd.SGLD(0.05, 0.0))  # at zero temperature: the basins of gradient descent
    found = fd.map_basins(cold, [(-2, 2)], 9, attractors=[[-1.0], [1.0]], max_steps=2000, key=jax.random.key(1))
    assert (found.labels[:4] == 0).all()
    assert (found.labels[5:] == 1).all()


@pytest.mark.parametrize("friction", [(1.0, 2.0), np.array([1, 2]), np.array([1, 2], np.uint8), jnp.array([1.0, 2.0])])
def test_one_friction_for_each_coordinate_is_one_for_each_block(friction):
    process = fd.Iteration(COUPLED, fd.Langevin(0.1, friction, (0.3, 0.7)))
    blocks = fd.Iteration(COUPLED, fd.LaLa(0.1, (1, 0), (1.0, 2.0), (0.3, 0.7)))
    own, other = (one.step(one.init(jnp.array([0.4, -0.2])), jax.random.key(5)) for one in (process, blocks))
    assert_allclose(process.position(own), blocks.position(other), rtol=1e-14)  # rounding of a few operations


def test_weights_of_a_block_may_be_any_numbers():
    method = fd.AdaptiveLangevin(0.1, blocks=[(0.5, 1.0), (0.5, 0.0)])
    process = fd.Iteration(COUPLED, method)
    state = process.step(process.init(jnp.array([0.4, -0.2])), jax.random.key(5))
    assert np.isfinite(process.position(state)).all()


# --- bad input ----------------------------------------------------------------------------------------------------

BAD = [
    (lambda: fd.Langevin(0.1, splitting="BAB"), "letters A .* each occurs.*got 'BAB'"),
    (lambda: fd.Langevin(0.1, splitting="BAOABX"), "got 'BAOABX'"),
    (lambda: fd.Langevin(0.1, splitting=3), "got 3"),
    (lambda: fd.Langevin(0.1, friction=-1.0), "friction must be .*>= 0, got -1.0"),
    (lambda: fd.Langevin(0.1, temperature=-0.1), "temperature must be .*got -0.1"),
    (lambda: fd.Langevin(-0.1), "lr must be .*> 0, got -0.1"),
    (lambda: fd.SGLD(0.1, -1.0), "temperature must be .*got -1.0"),
    (lambda: fd.LeimkuhlerMatthews(0.0), "lr must be .*got 0.0"),
    (lambda: fd.AdaptiveLangevin(0.1, coupling=0.0), "coupling must be .*> 0, got 0.0"),
    (lambda: fd.AdaptiveLangevin(0.1, sigma=-1.0), "sigma must be .*got -1.0"),
    (lambda: fd.AdaptiveLangevin(0.1, scaling="book"), "'text' or 'code', got 'book'"),
    (lambda: fd.LaLa(0.1, (1, 0), friction=1.0), "friction must be a pair"),
    (lambda: fd.Iteration(COUPLED, fd.LaLa(0.1, (1, 1))), "block 2 is empty"),
    (lambda: fd.Iteration(COUPLED, fd.LOL(0.1, (0, 0))), "block 1 is empty"),
    (lambda: fd.Iteration(COUPLED, fd.LaLa(0.1, (1, 0, 0))), "block 1 must have one entry per coordinate, 2 in all"),
    (lambda: fd.Iteration(COUPLED, fd.Langevin(0.1, friction=(1.0, 2.0, 3.0))), "friction must be one number, or one"),
    (lambda: fd.Iteration(COUPLED, fd.LaLa(0.1, [(1, 0)])), "block 1 must be a list or a row of numbers, one per coor"),
    (lambda: fd.Iteration(COUPLED, fd.LOL(0.1, [(1, 0)])), "block 1 must be a list or a row of numbers, one per coor"),
    (lambda: fd.LaLa(0.1, None), "first must be .*got None: each block needs a mask"),
    (lambda: fd.LOL(0.1, None), "first must be .*got None"),
    (lambda: fd.AdLaLa(0.1, [(1, 0), None]), "first must be .*got None"),
    (lambda: fd.AdaptiveLangevin(0.1, blocks=[None, (1, 0)]), "blocks must be .*got None"),
    (lambda: fd.AdaptiveLangevin(0.1, scaling=np.array([1j, 0])), "scaling must be 'text' or 'code', got an array"),
    (lambda: fd.simulate(fd.Iteration(COUPLED, fd.SGLD(0.1)), jnp.zeros(2), 10), "this process is random: pass key"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_numbers_words_and_blocks_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_thermostats_variable_has_a_letter_of_its_own():
    state = fd.AdaptiveLangevin(0.1, 1.0).init(jnp.ones(2))
    with pytest.warns(DeprecationWarning, match="LangevinState.xi is now LangevinState.zeta"):
        assert state.xi is state.zeta
