"""Flows and diffusions: exact solutions, arrival at SAM's jump, orders of modified equations, moments of the step."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.core import quadrature
from flatdyn.flows import Diffusion, Flow, solve

SADDLE = fd.landscapes.saddle((2, -2))  # x² − y²
CURVED = fd.Landscape.from_expression("x**4/4 - x**2/2 + x*y/3 + y**2", symbols="x y", box=[(-2, 2), (-2, 2)])
LINE = fd.Landscape.from_expression("w**4/4 - w**2/2", symbols="w", box=[(-2, 2)])


# --- flows ----------------------------------------------------------------------------------------------------


def test_a_flow_on_a_quadratic_is_the_exponential_and_one_that_runs_away_keeps_its_last_position():
    both = fd.Landscape.from_expression("x**2 - y**2 - z**3", symbols="x y z")  # z' = 3z² is infinite at t = 1/3
    start, times = np.array([[1.0, 0.5, 0.0], [-2.0, 0.1, 0.0], [0.0, 0.0, 1.0]]), np.array([0.0, 0.3, 1.0])
    found = solve(Flow(both, fd.GD(0.01)), start, times, max_steps=500)
    exact = start[:2, None, :2] * np.exp(np.outer(times, [-2, 2]))
    assert_allclose(found.theta[:2, :, :2], exact, rtol=1e-8)  # the solver's tolerance, 1e-9 a step
    assert found.arrival.min() == np.inf
    assert_array_equal(found.status, [fd.Status.UNDECIDED, fd.Status.UNDECIDED, fd.Status.DIVERGED])
    assert_allclose(found.theta[2, :2, 2], 1 / (1 - 3 * times[:2]), rtol=1e-7)
    assert_array_equal(found.theta[2, 2], found.theta[2, 1])


def test_fixed_steps_have_order_five():
    flow = lambda dt: Flow(CURVED, fd.USAM(0.1, 0.2), dt=dt)  # noqa: E731
    ends = [fd.simulate(flow(1 / n), np.array([0.8, -0.7]), n, every=n).final for n in (5, 10, 20, 200)]
    errors = np.abs(np.array(ends[:-1]) - ends[-1]).max(axis=1)
    assert np.log2(errors[:-1] / errors[1:]).min() > 4.9  # asymptotically 5, more while dt is large


def solved(flow, starts):
    """The solution at t = 8 from each start; always of 256 runs in the plane, so that one program serves all tests."""
    found = solve(flow, np.resize(starts, (256, 2)), [8.0])
    return found.theta[: len(starts), -1], found.arrival[: len(starts)], found.status[: len(starts)]


def stepped(flow, starts):
    """The same by fixed steps of 0.01, every position: (runs, steps + 1, 2), and the status of each run."""
    run = fd.simulate(flow, np.resize(starts, (256, 2)), 800)
    return run.theta[: len(starts)], run.status[: len(starts)]


def test_sam_arrives_in_the_time_that_theory_says_and_stays():
    rho, method = 0.5, fd.SAM(0.01, 0.5)
    for b, start in ((1.0, 0.3), (3.0, 0.45)):
        flow = Flow(fd.landscapes.saddle((b, -b)), method)  # up one axis, down the other
        starts = np.array([[start, 0.0], [0.0, start]])
        _, arrival, status = solved(flow, starts)
        assert_allclose(arrival, [np.log(1 + start / rho) / b, np.log(rho / (rho - start)) / b], atol=1e-9)
        assert (status == fd.Status.CONVERGED).all()
        path, status = stepped(flow, starts)
        last = int(np.ceil(arrival[0] / 0.01))
        assert status[0] == fd.Status.CONVERGED
        assert_array_equal(path[0, last:], path[0, -1:].repeat(801 - last, 0))  # no chattering: it does not move
        assert_allclose(path[0, -1], 0, atol=1e-4)  # of order dt² from the point itself


def test_the_papers_start_arrives_and_the_capture_set_is_exact():
    flow = Flow(SADDLE, fd.SAM(1e-2, 0.5))
    starts = np.concatenate([[[-3, -0.01]], np.random.default_rng(0).uniform(-2, 2, (255, 2))])
    captured = fd.quadratic.captured(starts, 0.5)
    assert 40 < captured.sum() < 100
    ends, arrival, status = solved(flow, starts)
    assert_allclose(arrival[0], 0.974290, atol=5e-7)  # six digits are known
    assert_array_equal(status == fd.Status.CONVERGED, captured)
    assert_allclose(ends[captured], 0, atol=1e-8)
    assert_array_equal(stepped(flow, starts)[1] == fd.Status.CONVERGED, captured)


def test_smoothed_sam_has_no_jump_and_its_flow_goes_through():
    flow = Flow(SADDLE, fd.SAM(1e-2, 0.5, eps=0.5))
    assert not flow.jumping
    found = fd.simulate(flow, np.array([0.1, 0.0]), 300)
    assert found.status == fd.Status.UNDECIDED
    assert 0 < found.final[0] < 1e-3
    # ε as a number that only a sweep knows: whether it jumps is decided inside

    @jax.jit
    @jax.vmap
    def swept(eps):
        flow = Flow(SADDLE, fd.SAM(1e-2, 0.5, eps=eps))
        return flow.step(flow.init(jnp.array([1e-3, 0.0]))).arrived

    assert_array_equal(swept(jnp.array([0.0, 0.5])), [True, False])


@eqx.filter_jit
def advanced(process, state, steps):
    """The position after `steps` steps, an array: a Python number would be a program of its own."""
    return process.position(jax.lax.fori_loop(0, steps, lambda _, s: process.step(s), state))


def test_a_start_at_the_saddle_rests_there():
    flow = Flow(SADDLE, fd.SAM(1e-2, 0.5))
    _, arrival, _ = solved(flow, np.zeros((1, 2)))
    assert arrival == 0
    assert_array_equal(stepped(flow, np.zeros((1, 2)))[0], 0)
    flow = Flow(SADDLE, fd.SAM(1e-2, 0.5), order=1)
    assert_array_equal(advanced(flow, flow.init(jnp.zeros(2)), jnp.array(10)), 0)


def test_basins_of_a_flow(reference):
    himmelblau = fd.landscapes.himmelblau()
    minima = [point for point in himmelblau.critical_points() if point.kind == "minimum"]
    flow = Flow(himmelblau, fd.GD(5e-3))  # explicit steps: stable up to dt of about 3/300
    # one size of chunks, the one that the last runs would shrink to: a single program
    found = fd.map_basins(flow, himmelblau.box, 201, minima, chunk=4096)
    counts = reference["7_basins"]["himmelblau"]["rows"][0]["counts"].values()  # Runge–Kutta of order 4, in NumPy
    order = [(3, 2), (3.5844, -1.8481), (-2.8051, 3.1313), (-3.7793, -3.2832)]
    for where, count in zip(order, list(counts)[:4], strict=True):
        number = np.linalg.norm(found.theta - np.array(where), axis=1).argmin()
        assert (found.labels == number).sum() == count  # no cell of 40,401 differs
    x, y = (axis[::20] for axis in found.coordinates())  # every twentieth cell each way, by an adaptive solver
    labels, grid = found.labels[::20, ::20].ravel(), np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    ends = scipy.integrate.solve_ivp(
        lambda t, w: -np.asarray(himmelblau.grad(w.reshape(-1, 2))).ravel(), (0, 3), grid.ravel(), rtol=1e-8, atol=1e-8
    ).y[:, -1]
    gaps = np.linalg.norm(ends.reshape(-1, 1, 2) - found.theta, axis=-1)
    assert_array_equal(labels[gaps.min(1) < 0.1], gaps.argmin(1)[gaps.min(1) < 0.1])
    assert (gaps.min(1) < 0.1).mean() > 0.95  # the rest starts so close to a boundary that t = 3 is too early


METHODS = {
    "GD": lambda lr: fd.GD(lr),
    "SAM": lambda lr: fd.SAM(lr, 0.2),
    "USAM": lambda lr: fd.USAM(lr, 0.3),
    "heavy ball": lambda lr: fd.GD(lr, momentum=0.5),
    "Nesterov": lambda lr: fd.GD(lr, momentum=0.5, nesterov=True),
    "SAM heavy ball": lambda lr: fd.SAM(lr, 0.2, momentum=0.4),
}
CASES = [("GD", False, 0), ("GD", False, 1), ("SAM", False, 1), ("USAM", False, 1), ("heavy ball", False, 0)]
CASES += [("heavy ball", False, 1), ("heavy ball", True, 0), ("heavy ball", True, 1), ("Nesterov", False, 1)]
CASES += [("Nesterov", True, 1), ("SAM heavy ball", True, 1)]


@pytest.mark.parametrize(("name", "inertia", "order"), CASES)
def test_a_method_stays_close_to_its_flow_to_the_order_said(name, inertia, order):
    start, end, errors = jnp.array([1.6, 1.2]), 0.5, []
    for steps in (100, 200, 400):
        method = METHODS[name](end / steps)
        process, flow = fd.Iteration(CURVED, method), Flow(CURVED, method, order=order, inertia=inertia)
        state = process.init(start)
        if method.inertial and not inertia:  # the velocity that belongs to the start
            state = fd.methods.State(state.theta, -method.lr / (1 - method.momentum) * flow.gradient(state.theta))
        process, flow = (fd.runs.stepping.prepared(p, start.dtype) for p in (process, flow))
        steps = jnp.array(steps)
        errors.append(np.abs(advanced(process, state, steps) - advanced(flow, flow.init(start), steps)).max())
    slope = np.log2(errors[-2] / errors[-1])
    assert_allclose(slope, order + 1, atol=0.12)  # asymptotically order + 1; the next order is a few per cent here


def test_the_correction_with_momentum_follows_from_the_recursion():
    """On a quadratic heavy ball multiplies by the root z of z² − (1 + μ − s) z + μ: ln z to second order in s = ηλ."""
    import sympy

    s, mu = sympy.symbols("s mu", positive=True)
    z = (1 + mu - s + sympy.sqrt((1 + mu - s) ** 2 - 4 * mu)) / 2
    second = sympy.diff(sympy.log(z), s, 2).subs(s, 0) / 2
    claimed = -(1 + mu) / (2 * (1 - mu) ** 3)
    for value in (sympy.Rational(1, 10), sympy.Rational(1, 2), sympy.Rational(9, 10)):
        assert sympy.simplify((second - claimed).subs(mu, value)) == 0


# --- cubature -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [0.0, 0.7, -3.0, 8.5, 12.0, np.nan])
def test_a_jump_on_the_line_is_integrated_exactly(centre):
    rule = quadrature.jumping(jnp.array([centre]))
    at = 20.0 if np.isnan(centre) else centre
    x = rule.nodes[:, 0]
    # E sign(ξ − c) = 1 − 2Φ(c) = −erf(c/√2);  E |ξ − c| = 2φ(c) + c(2Φ(c) − 1)
    assert_allclose(rule.mean(jnp.sign(x - at)), -scipy.special.erf(at / np.sqrt(2)), atol=1e-12)
    exact = 2 * scipy.stats.norm.pdf(at) + at * (2 * scipy.stats.norm.cdf(at) - 1)
    assert_allclose(rule.mean(jnp.abs(x - at)), exact, rtol=1e-12)
    assert_allclose([rule.mean(x), rule.mean(x**2), rule.mean(x**8)], [0, 1, 105], atol=1e-10)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.3, -1.2), (4.0, 3.0), (0.0, 8.9), (10.0, 0.0)])
def test_a_direction_in_the_plane_is_integrated_exactly(centre):
    rule, c = quadrature.jumping(jnp.array(centre)), np.hypot(*centre)
    away = rule.nodes - jnp.array(centre)
    length = jnp.linalg.norm(away, axis=1, keepdims=True)
    # the length of ξ − c has the Rice law, E |ξ − c| = √(π/2) ₁F₁(−½; 1; −c²/2); its gradient is E direction
    mean = np.sqrt(np.pi / 2) * float(scipy.special.hyp1f1(-0.5, 1, -(c**2) / 2))
    assert_allclose(rule.mean(length[:, 0]), mean, rtol=1e-9)
    towards = -np.sqrt(np.pi / 8) * float(scipy.special.hyp1f1(0.5, 2, -(c**2) / 2)) * np.array(centre)
    assert_allclose(rule.mean(away / length), towards, atol=1e-9)
    assert_allclose(rule.mean(rule.nodes[:, 0] ** 2 * rule.nodes[:, 1] ** 4), 3, rtol=1e-8)


def test_gauss_hermite_is_exact_for_polynomials():
    rule = quadrature.smooth(2, 5)
    assert_allclose(rule.mean(rule.nodes[:, 0] ** 8 * rule.nodes[:, 1] ** 2), 105, rtol=1e-12)
    with pytest.raises(TypeError, match="1 and 2 dimensions, got 3"):
        quadrature.jumping(jnp.zeros(3))


# --- moments: derived, published, of the simulated step ---------------------------------------------------------

COVARIANCE = np.array([[0.5, 0.2], [0.2, 0.3]])
NOISES = {
    "gaussian": fd.noise.Gaussian(covariance=COVARIANCE, batch_size=2),
    "curvature": fd.noise.Curvature(0.3),
    "state-dependent": fd.noise.StateDependent(lambda t: 0.3 + 0.1 * jnp.sin(t), batch_size=2),
}
AT = np.array([0.4, -0.3])


def agree(sampled, m, C):
    """Whether samples have this mean and covariance, to 4.5 standard errors in each of their numbers."""
    assert (np.abs(sampled.mean(0) - m) < 4.5 * np.sqrt(np.diag(C) / len(sampled))).all()
    products = (sampled - m)[:, :, None] * (sampled - m)[:, None]
    assert (np.abs(products.mean(0) - C) < 4.5 * products.std(0) / np.sqrt(len(sampled))).all()


@pytest.mark.parametrize(
    ("Method", "noise", "ascent"),
    [
        (fd.SAM, "gaussian", "shared"),
        (fd.SAM, "state-dependent", "independent"),
        (fd.SAM, "curvature", "full"),
        (fd.USAM, "state-dependent", "shared"),
        (fd.DNSAM, "gaussian", "shared"),
    ],
)
def test_derived_moments_are_those_of_the_very_step(Method, noise, ascent):
    method = Method(0.1, 0.4)
    process = fd.Iteration(CURVED, method, NOISES[noise], ascent)
    m, C = Diffusion(CURVED, method, NOISES[noise], form="derived", ascent=ascent).moments(AT)
    step = jax.jit(jax.vmap(lambda xi: process.position(process.driven(process.init(jnp.asarray(AT)), xi))))
    for seed in (0, 1):
        xi = np.random.default_rng(seed).normal(size=(40_000, process.draws))
        agree((AT - np.asarray(step(xi))) / method.lr, m, C)


DATA = {"a": np.array([1.0, 2.0, -1.0, 0.5]), "b": np.array([0.0, 1.0, 2.0, -1.0])}
EXAMPLES = fd.Landscape.from_examples("(a*x - b)**2/2 + y**2*x*b/4 + y**4/8", DATA, symbols="x y")


@pytest.mark.parametrize(
    ("noise", "ascent"),
    [
        (fd.noise.FiniteSum(2), "shared"),
        pytest.param(fd.noise.FiniteSum(2), "independent", marks=pytest.mark.slow),
        (fd.noise.FiniteSum(3, replace=False), "full"),
        (fd.noise.FiniteSum(4, ascent_size=2), "shared"),
    ],
)
def test_moments_over_minibatches(noise, ascent):
    method = fd.SAM(0.1, 0.3)
    m, C = Diffusion(EXAMPLES, method, noise, form="derived", ascent=ascent).moments(AT)
    process = fd.Iteration(EXAMPLES, method, noise, ascent)
    step = jax.jit(jax.vmap(lambda key: process.position(process.step(process.init(jnp.asarray(AT)), key))))
    for seed in (0, 1):
        agree((AT - np.asarray(step(jax.random.split(jax.random.key(seed), 20_000)))) / method.lr, m, C)


def test_plain_minibatches_have_the_covariance_of_sampling_theory():
    for noise in (fd.noise.FiniteSum(2), fd.noise.FiniteSum(3, replace=False), fd.noise.FiniteSum(4, replace=False)):
        plain = Diffusion(EXAMPLES, fd.GD(0.1), noise).moments(AT)
        summed = Diffusion(EXAMPLES, fd.USAM(0.1, 0.0), noise, form="derived").moments(AT)
        for a, b in zip(plain, summed, strict=True):
            assert_allclose(a, b, atol=1e-14)  # rounding


RADII = np.array([0.1, 0.05, 0.025])


@pytest.mark.parametrize("noise", ["state-dependent", "minibatch"])
@pytest.mark.parametrize("Method", [fd.USAM, fd.SAM, fd.DNSAM])
def test_derived_and_published_agree_to_first_order_in_rho(Method, noise):
    landscape = EXAMPLES if noise == "minibatch" else CURVED
    drawn = fd.noise.FiniteSum(2) if noise == "minibatch" else NOISES[noise]
    gaps = []
    for rho in RADII:
        forms = [
            Diffusion(landscape, Method(0.1, rho), drawn, form=form).moments(AT) for form in ("published", "derived")
        ]
        gaps.append([np.abs(a - b).max() for a, b in zip(*forms, strict=True)])
    slopes = np.log2(np.array(gaps)[:-1] / np.array(gaps)[1:])
    # What is neglected is ρ²; SAM's is ρ² ln ρ, as u = g/‖g‖ has an unbounded slope where the sampled gradient is 0.
    assert slopes[-1].min() > (1.7 if Method is fd.SAM else 1.85)


def test_sam_on_a_line_in_closed_form():
    """m = L' + ρL'' erf(L'/(s√2)), C = s² + 4ρL'' s φ(L'/s), against the expectations that it stands for."""
    from flatdyn.flows import moments

    process = fd.Iteration(LINE, fd.SAM(0.1, 0.2), fd.noise.Gaussian(0.5))

    @jax.jit
    def both(theta):
        return [moments.published(process, LINE.vector(theta), form) for form in ("line", None)]

    for theta in (-1.3, -0.2, 0.5, 0.9):
        for a, b in zip(*both(jnp.array([theta])), strict=True):
            assert_allclose(a, b, atol=1e-11)  # of the cubature


MASKED = [
    fd.USAM(0.1, 0.4),
    fd.USAM(0.1, 0.4, mask=(1, 0)),
    fd.DNSAM(0.1, 0.4, mask=(0, 1)),
    fd.DNSAM(0.1, 0.4, eps=0.3),
]


@pytest.mark.parametrize("method", MASKED, ids=["USAM", "masked USAM", "masked DNSAM", "smoothed DNSAM"])
def test_published_moments_of_linear_ascents_in_closed_form(method):
    """m = ∇L + r HM∇L, C = (I + r HM) Σ/B (I + r HM)ᵀ, r = ρ or ρ/(‖M∇L‖ + ε), with plain matrices."""
    g, H = np.asarray(CURVED.grad(AT)), np.asarray(CURVED.hessian(AT))
    M = np.eye(2) if method.mask is None else np.diag(np.asarray(method.mask, float))
    r = 0.4 / (np.linalg.norm(M @ g) + method.eps) if isinstance(method, fd.DNSAM) else 0.4
    spread = np.eye(2) + r * H @ M
    m, C = Diffusion(CURVED, method, NOISES["gaussian"]).moments(AT)
    assert_allclose(m, g + r * H @ M @ g, rtol=1e-12)
    assert_allclose(C, spread @ COVARIANCE / 2 @ spread.T, rtol=1e-12)


# --- diffusions -----------------------------------------------------------------------------------------------


def test_drift_and_variance_on_a_line_are_those_of_the_equation():
    """GD: b = −L' − (η/2) L'' L' in order 2, v = η s²/B; SAM in order 1: minus the published m, and η C."""
    x, lr = np.array([[-1.4, -0.2, 0.3], [0.6, 0.9, 1.7]]), 0.2
    slope, curvature = x**3 - x, 3 * x**2 - 1
    for order in (1, 2):
        line = Diffusion(LINE, fd.GD(lr), fd.noise.Gaussian(0.5, 4), order=order).on_a_line()
        assert_allclose(line["drift"](x), -slope * (1 + (order - 1) * lr / 2 * curvature), rtol=1e-12)
        assert_allclose(line["variance"](x), lr * 0.25 / 4, rtol=1e-12)
    s = 0.5 / 2
    line = Diffusion(LINE, fd.SAM(lr, 0.1), fd.noise.Gaussian(0.5, 4)).on_a_line()
    assert_allclose(line["drift"](x), -slope - 0.1 * curvature * scipy.special.erf(slope / s / np.sqrt(2)), rtol=1e-11)
    exact = lr * (s**2 + 4 * 0.1 * curvature * s * scipy.stats.norm.pdf(slope / s))
    assert_allclose(line["variance"](x), exact, rtol=1e-11)


@pytest.mark.parametrize("method", [fd.GD(0.1), fd.GD(0.1, momentum=0.7)])
def test_with_dt_equal_to_lr_sgd_is_its_own_diffusion(method):
    """Euler–Maruyama of order 1, symplectic with momentum, is the method itself; −ξ for ξ, as noise has no sign."""
    noise = NOISES["gaussian"]
    process, diffusion = fd.Iteration(CURVED, method, noise), Diffusion(CURVED, method, noise)
    assert diffusion.draws == process.draws == 2
    factor = np.linalg.cholesky(COVARIANCE / 2)
    state, other = process.init(jnp.asarray(AT)), diffusion.init(jnp.asarray(AT))
    for xi in np.random.default_rng(0).normal(size=(5, 2)):
        other = diffusion.driven(other, jnp.asarray(xi))
        state = process.driven(state, -jnp.linalg.solve(noise.factor(CURVED, None), factor @ xi))
        assert_allclose(diffusion.position(other), process.position(state), rtol=1e-12)


def test_steps_of_order_two_have_weak_order_two_in_dt():
    line, noise = fd.Landscape.from_expression("w**2/2 + w**3/12", symbols="w"), fd.noise.Gaussian(0.5)
    functions = [lambda w: w, lambda w: w**2]
    for order, slope in ((1, 1), (2, 2)):
        make = lambda dt, order=order: Diffusion(line, fd.GD(0.2), noise, order=order, dt=dt)  # noqa: E731
        exact = fd.flows.expectation(make(0.1), functions, 1.0, 1.0, (-1.7, 2.2))
        steps = [fd.transfer.expectation(make(1 / n), functions, 1.0, n, (-1.7, 2.2), panels=24) for n in (10, 20)]
        errors = np.abs(np.array(steps) - exact).max(axis=1)
        assert_allclose(np.log2(errors[0] / errors[1]), slope, atol=0.15)  # asymptotically


def test_an_ornstein_uhlenbeck_law_is_exact():
    """dw = −λw dt + √η s dW: Var(t) = η s² (1 − exp(−2λt))/(2λ); order 2 has the rate λ(1 + ηλ/2)."""
    quadratic, lr, s, rate = fd.landscapes.saddle((2.0,)), 0.1, 0.6, 2.0
    for order, slope in ((1, rate), (2, rate * (1 + lr * rate / 2))):
        diffusion = Diffusion(quadratic, fd.GD(lr), fd.noise.Gaussian(s), order=order)
        mean, square = fd.flows.expectation(diffusion, [lambda w: w, lambda w: w**2], 0.8, 1.5, (-1.5, 1.5))
        assert_allclose(mean, 0.8 * np.exp(-slope * 1.5), atol=1e-9)
        assert_allclose(square - mean**2, lr * s**2 * (1 - np.exp(-2 * slope * 1.5)) / (2 * slope), atol=1e-9)
    # SGD's own stationary variance is ηs²/(2λ(1 − x)), x = ηλ/2. Weak order 2 bounds its error by η², and it is
    # itself of order η: relative to it order 1 is off by x, order 2 by 2x.
    own, x = lr * s**2 / (rate * (2 - lr * rate)), lr * rate / 2
    assert_allclose(lr * s**2 / (2 * rate) / own, 1 - x, rtol=1e-12)
    assert_allclose(lr * s**2 / (2 * rate * (1 + x)) / own, (1 - x) / (1 + x), rtol=1e-12)


def test_an_underdamped_diffusion_has_the_langevin_equations_stationary_law():
    """η dp = −((1−μ)p + λθ)dt + √η s dW: Var θ = ηs²/(2λ(1−μ)), Var p = s²/(2(1−μ)), as η → 0 with η/(1−μ)² fixed."""
    lr, mu, s, rate, dt = 0.02, 0.8, 0.5, 1.0, 0.004
    diffusion = Diffusion(fd.landscapes.saddle((rate,)), fd.GD(lr, momentum=mu), fd.noise.Gaussian(s), dt=dt)
    run = fd.simulate(diffusion, np.zeros((4000, 1)), 1500, jax.random.key(0), every=1500)
    expected = lr * s**2 / (2 * rate * (1 - mu))
    # 1 − exp(−2·6·5) of it is reached; 4.5 standard errors of a variance from 4000 runs, and dt (1−μ)/(2η) of bias
    assert_allclose(run.final.var(), expected, rtol=4.5 * np.sqrt(2 / 4000) + 0.02)


def test_simulated_diffusions_follow_their_equation():
    """Euler–Maruyama by counter-based normals against the same steps without sampling."""
    steps, diffusion = 20, Diffusion(LINE, fd.SAM(0.05, 0.15), fd.noise.Gaussian(0.5))
    exact = fd.transfer.expectation(diffusion, [lambda w: w, lambda w: w**2], 0.5, steps, (-1.6, 1.8), panels=24)
    deviation = np.sqrt(exact[1] - exact[0] ** 2)
    for seed in range(3):
        final = fd.simulate(diffusion, np.full((20_000, 1), 0.5), steps, jax.random.key(seed), every=steps).final
        assert abs(final.mean() - exact[0]) < 4.5 * deviation / np.sqrt(20_000)


def test_state_dependent_noise_and_the_plane_run():
    diffusion = Diffusion(CURVED, fd.SAM(0.05, 0.1), NOISES["state-dependent"], form="derived")
    step = jax.jit(lambda theta, key: diffusion.position(diffusion.step(diffusion.init(theta), key)))
    assert np.isfinite(step(AT, jax.random.key(0))).all()
    drift, matrix = diffusion.coefficients(AT)
    assert_allclose(drift, -diffusion.moments(AT).mean, rtol=1e-12)
    assert_allclose(matrix, 0.05 * diffusion.moments(AT).covariance, rtol=1e-12)


# --- bad input ------------------------------------------------------------------------------------------------


PAIR = fd.Landscape.from_function(lambda t: t["x"] ** 2 - t["y"] ** 2, like={"x": jnp.zeros(()), "y": jnp.zeros(())})
TENSOR = fd.SAM(0.1, 0.1, scope="tensor")


@pytest.mark.parametrize("ascent", ["shared", "independent"])
@pytest.mark.parametrize(
    ("landscape", "method"),
    [(SADDLE, fd.SAM(0.1, 0.1, mask=[0, 1])), (SADDLE, fd.ASAM(0.1, 0.1, mask=[1, 0])), (PAIR, TENSOR)],
    ids=["SAM", "ASAM", "tensors"],
)
def test_moments_are_refused_where_an_ascent_jumps_along_a_line(landscape, method, ascent):
    """The rule knows one point at which it jumps: near it the mean of SAM on one coordinate was a fifth too large."""
    noise, easy = fd.noise.Gaussian(0.1), dataclasses.replace(method, eps=0.1)
    with pytest.raises(TypeError, match="a norm for each tensor, it jumps where a part of it does"):
        Diffusion(landscape, method, noise, form="derived", ascent=ascent)
    Diffusion(landscape, easy, noise, form="derived", ascent=ascent)
    Diffusion(landscape, method, noise, form="derived", ascent="full")


def test_bad_flows_are_refused():
    with pytest.raises(TypeError, match="follows one gradient"):
        Flow(SADDLE, fd.from_optax(__import__("optax").adam(1e-2)))
    with pytest.raises(ValueError, match="order must be 0"):
        Flow(SADDLE, fd.GD(0.1), order=2)
    with pytest.raises(ValueError, match="dt must be finite and > 0, got -1"):
        Flow(SADDLE, fd.GD(0.1), dt=-1)
    with pytest.raises(ValueError, match="needs a method with momentum"):
        Flow(SADDLE, fd.GD(0.1), inertia=True)
    with pytest.raises(ValueError, match="slides along the surface"):
        Flow(SADDLE, fd.SAM(0.1, 0.1, mask=[1, 0]))
    with pytest.raises(ValueError, match="slides along the surface"):
        Flow(PAIR, fd.SAM(0.1, 0.1, scope="tensor"))
    for method in (fd.SAM(0.1, 0.1, mask=[1, 0], scope="all"), fd.SAM(0.1, 0.1, mask=[1, 2]), TENSOR):
        assert Flow(SADDLE, method).jumping  # at critical points alone, so that it is known
    with pytest.raises(ValueError, match="increasing numbers"):
        solve(Flow(SADDLE, fd.GD(0.1)), np.ones(2), [1.0, 0.5])
    with pytest.raises(TypeError, match="flow must be a Flow"):
        solve(fd.Iteration(SADDLE, fd.GD(0.1)), np.ones(2), [1.0])


def test_bad_diffusions_are_refused():
    gaussian = fd.noise.Gaussian(0.5)
    with pytest.raises(TypeError, match="needs noise"):
        Diffusion(SADDLE, fd.USAM(0.1, 0.1), fd.noise.Exact(), form="derived")
    with pytest.raises(ValueError, match="form must be"):
        Diffusion(SADDLE, fd.GD(0.1), gaussian, form="guessed")
    with pytest.raises(ValueError, match="order 2 is published for GD"):
        Diffusion(SADDLE, fd.SAM(0.1, 0.1), gaussian, order=2)
    with pytest.raises(ValueError, match="take form='derived'"):
        Diffusion(SADDLE, fd.SAM(0.1, 0.1), gaussian, ascent="full")
    with pytest.raises(ValueError, match="know no ascent_size"):
        Diffusion(EXAMPLES, fd.SAM(0.1, 0.1), fd.noise.FiniteSum(4, ascent_size=2))
    with pytest.raises(ValueError, match="Nesterov"):
        Diffusion(SADDLE, fd.GD(0.1, momentum=0.5, nesterov=True), gaussian)
    with pytest.raises(TypeError, match="1 and 2 dimensions, this landscape has 3"):
        Diffusion(fd.landscapes.rosenbrock(3), fd.SAM(0.1, 0.1), gaussian)
    Diffusion(fd.landscapes.rosenbrock(3), fd.USAM(0.1, 0.1), gaussian)  # in closed form
    many = fd.Landscape.from_examples("(x - a)**2", {"a": np.arange(50.0)}, symbols="x")
    with pytest.raises(TypeError, match="sums over all minibatches"):
        Diffusion(many, fd.SAM(0.1, 0.1), fd.noise.FiniteSum(10))
    Diffusion(many, fd.GD(0.1), fd.noise.FiniteSum(10))  # Σ/B needs no sum
    with pytest.raises(TypeError, match="the noise FiniteSum needs a landscape made by"):
        Diffusion(SADDLE, fd.GD(0.1), fd.noise.FiniteSum(2))
    diffusion = Diffusion(LINE, fd.GD(0.1), gaussian)
    for ask in (diffusion.moments, diffusion.coefficients, lambda x: diffusion.on_a_line()["drift"](x[..., 0])):
        for bad in (np.nan, -np.inf):
            with pytest.raises(ValueError, match=f"theta must be finite, got {bad}"):
                ask(np.array([[0.5], [bad]]))
    with pytest.raises(ValueError, match="times must hold at least 1"):
        solve(Flow(LINE, fd.GD(0.1)), [0.5], [])
    with pytest.raises(ValueError, match="start must lie inside"):
        fd.flows.expectation(diffusion, [np.sin], 3.0, 1.0, (-2, 2))
    with pytest.raises(TypeError, match="one coordinate"):
        fd.flows.expectation(Diffusion(SADDLE, fd.GD(0.1), gaussian), [np.sin], 0.5, 1.0, (-2, 2))
    with pytest.raises(ValueError, match="do not resolve"):
        fd.flows.expectation(diffusion, [lambda w: w], 0.5, 1.0, (-30, 30), nodes=24)
    with pytest.raises(TypeError, match="with momentum"):
        Diffusion(LINE, fd.GD(0.1, momentum=0.5), gaussian).coefficients(np.array([0.5]))
