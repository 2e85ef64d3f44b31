"""Mean squared displacement at a saddle: independent numbers, plain recursions, simulation, published claims."""

import functools
import itertools

import jax
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import escape

ASCENT = {"B": "full", "C": "shared", "D": "independent"}


@pytest.fixture(scope="module")
def rows(reference):
    return reference["3_msd_saddle"]


def usam_msd(row, variant):
    method = fd.USAM(row["eta"], row["rho"])
    return escape.msd_theory(method, -row["l"], row["k"], batch_size=row["B"], ascent=ASCENT[variant])[-1]


# --- reference numbers ----------------------------------------------------------------------------------------


def test_exact_variances_of_every_variant(rows):
    for row in rows["numbers"]["rows"]:
        sgd = escape.msd_theory(fd.GD(row["eta"]), -row["l"], row["k"], batch_size=row["B"])[-1]
        assert_allclose(sgd, row["sgd_disc"], rtol=1e-12)
        for variant in "ABCD":
            closed = escape.variant_msd(variant, -row["l"], row["rho"], row["eta"], row["k"], row["B"])[-1]
            assert_allclose(closed, row[f"{variant}_var_disc"], rtol=1e-12)
            # differences cancel: their error is that of the variances, 1e-12 of sgd
            assert_allclose(sgd - closed, row[f"{variant}_diff_disc"], atol=1e-12 * sgd)
            if variant != "A":
                assert_allclose(usam_msd(row, variant), row[f"{variant}_var_disc"], rtol=1e-12)


def test_diffusion_forms(rows):
    for row in rows["numbers"]["rows"]:
        asked = {"lr": row["eta"], "steps": row["k"], "batch_size": row["B"], "continuous": True}
        sgd = escape.variant_msd("A", -row["l"], 0.0, **asked)[-1]
        assert_allclose(sgd, row["sgd_sde"], rtol=1e-12)
        for variant in "ABCD":
            gap = sgd - escape.variant_msd(variant, -row["l"], row["rho"], **asked)[-1]
            assert_allclose(gap, row[f"{variant}_diff_sde"], atol=1e-12 * sgd)
        claim = escape.published_gap(row["eta"], -row["l"], row["rho"], row["t"], row["B"])
        assert_allclose(claim, row["claim"], rtol=1e-12)


def test_short_time_expansions(rows):
    for name, expected in rows["short_time_expansions"]["rows"].items():
        found = escape.short_time_series(name[0])
        for power in (1, 2, 3):
            symbols = {symbol.name: symbol for symbol in sympy.symbols("l rho", positive=True)}
            assert sympy.expand(found[power] - sympy.sympify(expected[f"t^{power}"], locals=symbols)) == 0


def test_heavy_ball(rows):
    for row in rows["heavy_ball_exact_var"]["rows"]:
        asked = {"noise": row["noise"], "batch_size": row["B"]}
        closed = escape.heavy_ball_msd(row["eta"], row["mu"], row["k"], row["beta"], **asked)[-1]
        # the two reference columns differ from each other by up to 5e-13
        assert_allclose(closed, row["var_recursion"], rtol=1e-11)
        method = fd.GD(row["eta"], momentum=row["beta"])
        exact = escape.msd_theory(method, row["mu"], row["k"], scale=row["noise"] ** 0.5, batch_size=row["B"])[-1]
        assert_allclose(exact, row["var_recursion"], rtol=1e-12)
        rough = escape.overdamped_msd(row["eta"], row["mu"], row["k"], row["beta"], **asked)
        assert_allclose(rough, row["overdamped_approx"], rtol=1e-12)


def test_the_published_momentum_formula_is_far_off(rows):
    for row in rows["momentum_formula_comparison"]["rows"]:
        eta, mu, k, beta = (row[name] for name in ("eta", "mu", "k", "beta"))
        asked = {"noise": row["noise"], "batch_size": row["B"]}
        exact = escape.msd_theory(fd.GD(eta, momentum=beta), mu, k, scale=row["noise"] ** 0.5, batch_size=row["B"])[-1]
        assert_allclose(exact, row["discrete_exact"], rtol=1e-12)
        assert_allclose(escape.heavy_ball_msd(eta, mu, k, beta, **asked)[-1], exact, rtol=1e-11)
        published = escape.published_momentum_msd(eta, mu, k, beta, **asked)
        assert_allclose(published.velocity, row["thm3_term1"], rtol=1e-10)
        assert_allclose(published.diffusion, row["thm3_term2"], rtol=1e-10)
        assert_allclose(published.total / exact, row["ratio_thm3_over_exact"], rtol=1e-9)
        for velocity, name in (("rest", "zero"), ("stationary", "stationary")):
            found = escape.langevin_msd(eta, mu, k, beta, **asked, velocity=velocity)[-1]
            # the reference's closed form cancels: up to 1e-8 at k = 1
            assert_allclose(found, row[f"underdamped_v0_{name}"], rtol=1e-7)


def test_sam_first_step(rows):
    assert_allclose(
        escape.sam_first_step_variance(0.01, -1.0, 0.1, batch_size=16), rows["sam_first_step_var"]["value"], rtol=1e-12
    )


@pytest.mark.parametrize(("curvature", "scale"), [(2.0, 0.7), (-3.0, 0.4), (-3.0, None)])
def test_sams_first_step_by_quadrature(curvature, scale):
    """E (Z + λρ sign Z)² over a normal Z of deviation σ/√B, with σ = √|λ| if it is not given."""
    lr, rho, batch = 0.05, 0.3, 9
    s = (abs(curvature) ** 0.5 if scale is None else scale) / 3
    z = np.linspace(0, 10, 200_001) * s
    law = np.exp(-((z / s) ** 2) / 2) * 2 / (s * np.sqrt(2 * np.pi))
    exact = lr**2 * np.trapezoid(law * (z + curvature * rho) ** 2, z)
    found = escape.sam_first_step_variance(lr, curvature, rho, scale, batch)
    assert_allclose(found, exact, rtol=1e-8)


def test_independent_simulations_agree(rows):
    row = rows["monte_carlo"]["params"]
    for name, (variance, error) in rows["monte_carlo"]["var_and_se"].items():
        if name == "sgd":
            exact = escape.msd_theory(fd.GD(row["eta"]), -row["l"], row["k"], batch_size=row["B"])[-1]
        elif name in ASCENT:
            exact = usam_msd(row, name)
        else:
            continue  # SAM has no closed recursion
        assert abs(variance - exact) < 4 * error


# --- our own independent computations -------------------------------------------------------------------------


def plain_recursion(lr, rho, momentum, nesterov, lam, variance, steps, ascent):
    """Variance of USAM by hand: second moments of (w, v), the step written out once more."""
    m = lam * (1 + rho * lam)
    gains = {"shared": [1 + rho * lam], "full": [1.0], "independent": [1.0, rho * lam]}[ascent]
    push = lr * (1 + momentum if nesterov else 1)
    carry = momentum**2 if nesterov else momentum
    a = np.array([[1 - push * m, carry], [-lr * m, momentum]])
    p, kept = np.zeros((2, 2)), [0.0]
    for _ in range(steps):
        p = a @ p @ a.T
        for gain in gains:
            kick = -gain * np.array([push, lr])
            p = p + variance * np.outer(kick, kick)
        kept.append(p[0, 0])
    return np.array(kept)


@pytest.mark.parametrize("ascent", ["shared", "full", "independent"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("momentum", "lam"), [(0.0, -1.3), (0.9, -1.3), (0.5, 2.0)])
def test_against_a_plain_recursion(momentum, lam, nesterov, ascent):
    method = fd.USAM(0.03, 0.2, momentum=momentum, nesterov=nesterov)
    found = escape.msd_theory(method, lam, 60, scale=0.7, batch_size=3, ascent=ascent)
    assert_allclose(found, plain_recursion(0.03, 0.2, momentum, nesterov, lam, 0.49 / 3, 60, ascent), rtol=1e-11)


@pytest.mark.parametrize("momentum", [0.0, 0.2, 0.9, 0.999])
@pytest.mark.parametrize("drift", [-2.0, -1e-3, 0.0, 0.4, 30.0, 100.0])
def test_the_closed_form_of_the_heavy_ball(momentum, drift):
    exact = escape.msd_theory(fd.GD(0.02, momentum=momentum), drift, 300, scale=1.0)
    assert_allclose(escape.heavy_ball_msd(0.02, drift, 300, momentum), exact, rtol=1e-9)


def test_the_closed_form_at_double_roots():
    for root in (-1, 1):
        drift = (1 + root * np.sqrt(0.81)) ** 2 / 0.1  # (1 ± √μ)² = ηM
        exact = escape.msd_theory(fd.GD(0.1, momentum=0.81), drift, 100, scale=1.0)
        assert_allclose(escape.heavy_ball_msd(0.1, drift, 100, 0.81), exact, rtol=1e-9)


def test_single_precision_elsewhere_does_not_matter():
    double = escape.msd_theory(fd.USAM(0.1, 0.3), -1.0, 10)
    with jax.enable_x64(False):
        assert_allclose(escape.msd_theory(fd.USAM(0.1, 0.3), -1.0, 10), double, rtol=1e-14)


def test_a_start_beside_the_saddle():
    found = escape.msd_theory(fd.GD(0.1), -1.0, 10, scale=0.5, start=0.3)
    rest = escape.msd_theory(fd.GD(0.1), -1.0, 10, scale=0.5)
    assert_allclose(found - rest, (0.3 * (1.1 ** np.arange(11) - 1)) ** 2, rtol=1e-10, atol=1e-16)


CASES = {
    "sgd": (fd.GD(0.02), "shared"),
    "heavy ball": (fd.GD(0.02, momentum=0.8), "shared"),
    "usam shared": (fd.USAM(0.02, 0.3, momentum=0.5), "shared"),
    "usam independent": (fd.USAM(0.02, 0.3), "independent"),
    "usam full, nesterov": (fd.USAM(0.02, 0.3, momentum=0.5, nesterov=True), "full"),
}


@pytest.mark.parametrize("name", CASES)
def test_simulation_spreads_as_it_should(name):
    method, ascent = CASES[name]
    walk = fd.Iteration(fd.landscapes.saddle((-1.0,)), method, fd.noise.Gaussian(1.0, batch_size=4), ascent)
    exact = escape.msd_theory(method, -1.0, 40, batch_size=4, ascent=ascent)
    runs = 20_000
    for seed in range(3):
        run = fd.simulate(walk, np.zeros((runs, 1)), 40, jax.random.key(seed), every=20)
        spread = (run.theta[:, 1:, 0] ** 2).mean(axis=0)
        # squares of normal numbers: relative standard error √(2/runs) = 1 %
        assert (np.abs(spread / exact[[20, 40]] - 1) < 4.5 * np.sqrt(2 / runs)).all()


def test_simulated_sam_takes_its_first_step_as_it_should():
    walk = fd.Iteration(fd.landscapes.saddle((-1.0,)), fd.SAM(0.02, 0.1), fd.noise.Gaussian(1.0, batch_size=4))
    exact = escape.sam_first_step_variance(0.02, -1.0, 0.1, batch_size=4)
    for seed in range(3):
        squares = fd.simulate(walk, np.zeros((20_000, 1)), 1, jax.random.key(seed)).final ** 2
        assert abs(squares.mean() - exact) < 4.5 * squares.std() / np.sqrt(20_000)


@pytest.mark.parametrize("ascent", ["shared", "full"])
def test_simulated_sam_agrees_with_an_independent_simulation(rows, ascent):
    row = rows["monte_carlo"]["params"]
    variance, error = rows["monte_carlo"]["var_and_se"][f"SAM_{ascent}"]
    noise = fd.noise.Gaussian(1.0, batch_size=row["B"])
    walk = fd.Iteration(fd.landscapes.saddle((-1.0,)), fd.SAM(row["eta"], row["rho"]), noise, ascent)
    for seed in range(3):
        squares = fd.simulate(walk, np.zeros((20_000, 1)), row["k"], jax.random.key(seed), every=row["k"]).final ** 2
        assert abs(squares.mean() - variance) < 4.5 * np.hypot(squares.std() / np.sqrt(20_000), error)


# --- what of the claims holds ---------------------------------------------------------------------------------


def test_the_claimed_gap_is_twice_that_of_the_variant_with_its_scaling():
    """lim gap/claim as t → 0 and ρ → 0: 1 in A, ½ in B, infinite in C, and the other sign in D."""
    lr, rho, steps = 1e-6, 1e-3, 1000
    asked = {"curvature": -1.0, "lr": lr, "steps": steps}
    sgd = escape.variant_msd("B", rho=0.0, **asked)[-1]
    gaps = {name: sgd - escape.variant_msd(name, rho=rho, **asked)[-1] for name in "ABCD"}
    ratios = {name: gap / escape.published_gap(lr, -1.0, rho, lr * steps) for name, gap in gaps.items()}
    # next terms are of relative order t = 1e-3, ρ = 1e-3 and 1/steps
    assert_allclose([ratios["A"], ratios["B"]], [1, 0.5], rtol=5e-3)
    assert ratios["C"] > 500
    assert ratios["D"] < 0.01 * ratios["C"]
    l, rho = sympy.symbols("l rho", positive=True)
    assert escape.short_time_series("D")[1] == -(l**3) * rho**2


def test_the_langevin_form_approaches_the_heavy_ball_as_the_step_shrinks():
    """At fixed γ = (1 − μ)/η and time, the error is of first order in η."""
    errors = []
    for lr in (0.02, 0.01, 0.005):
        momentum, steps = 1 - 2 * lr, round(2 / lr)
        exact = escape.heavy_ball_msd(lr, -0.2 * lr, steps, momentum)[-1]
        errors.append(abs(escape.langevin_msd(lr, -0.2 * lr, steps, momentum)[-1] / exact - 1))
    assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 1, atol=0.1)


def test_the_overdamped_limit():
    """Good for many steps and η|M| ≪ (1 − μ)²/4, wrong for few."""
    exact = escape.heavy_ball_msd(1e-6, -1.0, 100_000, 0.9)
    rough = escape.overdamped_msd(1e-6, -1.0, np.array([1, 100_000]), 0.9)
    assert_allclose(rough[1] / exact[-1], 1, atol=1e-3)
    assert rough[0] > 50 * exact[1]


def test_sam_has_no_linear_step():
    with pytest.raises(ValueError, match="not linear"):
        escape.msd_theory(fd.SAM(0.1, 0.1), -1.0, 5)
    with pytest.raises(ValueError, match="not linear"):
        escape.msd_theory(fd.SAM(0.1, 0.1, eps=0.1), -1.0, 5)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: escape.msd_theory(fd.GD(0.1), np.nan, 5), "curvature must be finite"),
        (lambda: escape.msd_theory(fd.GD(0.1), -1.0, -5), "steps must be"),
        (lambda: escape.msd_theory(fd.GD(0.1), -1.0, 5, batch_size=0), "batch_size must be"),
        (lambda: escape.msd_theory(fd.USAM(0.1, 0.1), -1.0, 5, ascent="none"), "ascent must be"),
        (lambda: escape.variant_msd("E", -1.0, 0.1, 0.1, 5), "variant must be one of 'A', 'B', 'C', 'D'"),
        (lambda: escape.heavy_ball_msd(0.0, -1.0, 5), "lr must be"),
        (lambda: escape.heavy_ball_msd(0.1, -1.0, 5, 1.0), "momentum must be"),
        (lambda: escape.langevin_msd(0.1, -1.0, 5, 0.9, velocity="zero"), "velocity must be"),
        (lambda: escape.langevin_msd(0.1, -1.0, 5, 0.9, velocity=np.array([0, 1])), "velocity must be"),
        (lambda: escape.variant_msd("A", -1e200, 0.1, 0.1, 5), "drift of curvature and rho must be finite"),
        (lambda: escape.sam_first_step_variance(0.1, -1.0, -0.1), "rho must be"),
        (lambda: escape.ou_msd(0.1, -1.0, [-1.0]), "times must be"),
    ],
)
def test_bad_input(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


FORMS = {
    "heavy ball": lambda lr, drift, noise, mu: escape.heavy_ball_msd(lr, drift, 4, mu, noise=noise),
    "equation": lambda lr, drift, noise, mu: escape.ou_msd(lr, drift, lr * np.arange(5), noise=noise),
    "overdamped": lambda lr, drift, noise, mu: escape.overdamped_msd(lr, drift, np.arange(5), mu, noise=noise),
    "at rest": lambda lr, drift, noise, mu: escape.langevin_msd(lr, drift, 4, mu, noise=noise),
    "stationary": lambda lr, drift, noise, mu: escape.langevin_msd(
        lr, drift, 4, mu, noise=noise, velocity="stationary"
    ),
    "published": lambda lr, drift, noise, mu: (
        escape.published_momentum_msd(lr, drift, np.arange(5), mu, noise=noise).total
    ),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("unit", [2.0**-500, 2.0**500])
def test_displacements_know_no_units(name, unit):
    """η → u η, λ → λ/u, c → c/u² leaves θ as it is, and c → u² c takes θ to u θ: powers of two change no digit."""
    for drift, mu in itertools.product((-2.0, 3.0), (0.0, 0.6)):
        expected = FORMS[name](0.1, drift, 1.5, mu)
        assert_array_equal(FORMS[name](0.1 * unit, drift / unit, 1.5 / unit**2, mu), expected)
        assert_array_equal(FORMS[name](0.1, drift, 1.5 * unit**2, mu), expected * unit**2)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("lr", [1e-300, 1e-160, 1e160, 1e300])
def test_displacements_of_extreme_steps_are_numbers(name, lr):
    """0 at the start and without noise, else above 0 or, beyond the largest number, infinite; never NaN."""
    for drift, mu, noise in itertools.product((-1e300, -1.0, 0.0), (0.0, 0.5, 1e-320), (0.0, 1e-300, 1e300)):
        found = FORMS[name](lr, drift, noise, mu)
        assert found[0] == 0
        assert (found >= 0 if noise else found == 0).all()


def test_the_published_gap_knows_no_units():
    gap, unit = escape.published_gap, 2.0**300
    assert_array_equal(gap(0.1, -2.0 * unit, 0.3 / unit, [0.0, 0.5 / unit]), gap(0.1, -2.0, 0.3, [0.0, 0.5]))
    assert gap(0.1, -1e300, 0.0, [1.0]) == 0
    assert gap(0.1, -1e300, 0.1, [1.0]) == np.inf


def test_the_langevin_form_is_resolved_up_to_where_it_is_refused():
    """ηM = 100 against the closed form: Var = (c/(2γM/η)) (1 − e^{−γt} (…)) at rest, in units of η."""
    mu, drift = 0.9, 100.0
    gamma, omega2 = 1 - mu, drift
    t = np.arange(21.0)
    turn = np.sqrt(omega2 - gamma**2 / 4)
    # ∫₀ᵗ h(s)² ds of h = e^{−γs/2} sin(Ωs)/Ω
    integral = lambda z: (np.exp(z * t) - 1) / z  # noqa: E731
    exact = (integral(-gamma + 0j) / 2 - integral(-gamma + 2j * turn).real / 2).real / turn**2
    found = escape.langevin_msd(1.0, drift, 20, mu)
    assert_allclose(found, exact, rtol=1e-9, atol=1e-15)
    with pytest.raises(ValueError, match=r"lr \* drift must be at most 100, got 200: take a smaller `lr`"):
        escape.langevin_msd(2.0, drift, 20, mu)


def test_displacements_beyond_the_largest_number_are_infinite():
    msd = functools.partial(escape.msd_theory, fd.USAM(0.1, 0.1, 0.5), -1.0, 3)
    assert_array_equal(msd(scale=2.0**500), 2.0**1000 * msd(scale=1.0))  # powers of two change no digit
    assert_array_equal(msd(scale=2.0**-500), 2.0**-1000 * msd(scale=1.0))
    assert_array_equal(msd(scale=1e300), [0, np.inf, np.inf, np.inf])
    assert_array_equal(escape.msd_theory(fd.USAM(0.1, 0.1), -1e200, 2, scale=1.0), [0, np.inf, np.inf])
    variance = escape.sam_first_step_variance
    assert variance(1e-320, -1e300, 1e300) == np.inf
    assert variance(1e200, -1.0, 0.1) == np.inf
    assert variance(1e200, -1.0, 0.0, scale=0.0) == 0.0
    assert_allclose(variance(1e-200, 1.0, 1e250, scale=0.0), 1e100)
    # σ = −λρ leaves 2 − 2√(2/π) of a square that is beyond the largest number
    assert_allclose(variance(1e-200, -1.0, 1e250, scale=1e250), 1e100 * (2 - np.sqrt(8 / np.pi)))
