"""Curvature against dense Hessians, known spectra, exact quadrature, and functions whose slices are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import curvature
from flatdyn.core.records import Status

RNG = np.random.default_rng(0)
INPUTS = jnp.asarray(RNG.normal(size=(40, 10)))


def symmetric(eigenvalues, seed=0):
    """A dense matrix with these eigenvalues."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues), len(eigenvalues))))
    return (basis * eigenvalues) @ basis.T


class Quadratic(eqx.Module):
    """L = gᵀθ + θᵀHθ/2; its matrices are leaves, so that those of one size share a program."""

    hessian: jax.Array = eqx.field(converter=jnp.asarray)
    slope: jax.Array = eqx.field(converter=jnp.asarray, default=0.0)

    def __call__(self, theta):
        return jnp.sum(self.slope * theta) + theta @ self.hessian @ theta / 2


def network(seed):
    """Parameters of a 10-24-24-1 network: 889 numbers."""
    rng = np.random.default_rng(seed)
    shapes = [(24, 10), (24, 24), (1, 24)]
    return [{"w": rng.normal(size=shape) / np.sqrt(shape[1]), "b": np.zeros(shape[0])} for shape in shapes]


def fit(parameters):
    hidden = INPUTS
    for i, layer in enumerate(parameters):
        hidden = hidden @ layer["w"].T + layer["b"]
        hidden = jnp.tanh(hidden) if i < 2 else hidden
    return jnp.mean((hidden[:, 0] - jnp.sin(INPUTS.sum(axis=1))) ** 2)


# --- extreme eigenvalues --------------------------------------------------------------------------------------


def test_a_networks_extreme_eigenvalues_are_the_dense_ones():
    theta = network(0)
    landscape = fd.Landscape.from_function(fit, like=theta)
    flat = landscape.flatten(theta)
    dense = np.linalg.eigvalsh(landscape.hessian(flat))
    found = curvature.extreme_eigenvalues(landscape, flat)
    assert found.converged
    assert dense[0] < 0
    # converged to a relative residual of 1e-6; the error is of second order in it
    assert_allclose([found.largest, found.smallest], dense[[-1, 0]], atol=1e-6 * dense[-1], rtol=0)
    for row in found.starts:
        assert_allclose(row, dense[[-1, 0]], atol=1e-6 * dense[-1], rtol=0)
    assert_allclose(np.linalg.norm(found.directions, axis=1), 1, rtol=1e-12)
    as_tree = curvature.extreme_eigenvalues(landscape, theta, k=int(found.k))
    assert_allclose(as_tree.starts, found.starts, atol=1e-12 * dense[-1])


def test_too_few_products_are_reported_and_the_residuals_bound_the_error():
    eigenvalues = np.append(np.linspace(-0.02, 0.02, 59), 3.0)  # the smallest is the edge of a crowd
    loss = Quadratic(symmetric(eigenvalues))
    for seed in range(3):
        found = curvature.extreme_eigenvalues(
            loss, np.zeros(60), k=10, most=10, method="lanczos", key=jax.random.key(seed)
        )
        assert_array_equal(found.status, [Status.CONVERGED, Status.UNDECIDED])
        assert found.k == 10
        for value, residual in zip((found.largest, found.smallest), found.residuals, strict=True):
            # for symmetric H an eigenvalue lies within the residual; 1e-12: rounding of residuals near zero
            assert np.abs(eigenvalues - value).min() <= residual + 1e-12
        ends = np.array([found.largest, found.smallest])
        left = found.directions @ np.asarray(loss.hessian) - ends[:, None] * found.directions
        assert_allclose(found.residuals, np.linalg.norm(left, axis=1), rtol=1e-6, atol=1e-14)
        assert found.smallest > eigenvalues[0]  # a Rayleigh quotient
    patient = curvature.extreme_eigenvalues(loss, np.zeros(60), k=20, method="lanczos")
    assert patient.converged
    assert patient.k >= 40
    assert_allclose(patient.smallest, -0.02, rtol=1e-6)


@pytest.mark.parametrize("eigenvalues", [np.ones(60), np.repeat([-1.0, 0.0, 2.0], 20), np.zeros(60)])
def test_few_different_eigenvalues_end_the_search_early_and_exactly(eigenvalues):
    n = len(eigenvalues)
    found = curvature.extreme_eigenvalues(Quadratic(np.diag(eigenvalues)), np.ones(n), method="lanczos")
    assert found.converged
    assert_allclose([found.largest, found.smallest], [eigenvalues.max(), eigenvalues.min()], atol=1e-13)


def test_a_small_landscape_is_decomposed_whole():
    beale = fd.landscapes.beale()
    found = curvature.extreme_eigenvalues(beale, [0.0, 1.0])
    assert_allclose([found.largest, found.smallest], [27.75, -27.75], rtol=1e-12)  # H = [[0, 27.75], [27.75, 0]]
    assert found.k == 2
    assert curvature.extreme_eigenvalues(beale, [0.0, 1.0], method="lanczos").converged


# --- density --------------------------------------------------------------------------------------------------


PROBES = 300


def test_quadrature_is_exact_for_polynomials_up_to_twice_its_nodes():
    """zᵀHᵖz/dim = Σ w xᵖ for p ≤ 2k − 1, the defining property of the nodes."""
    H = symmetric(np.linspace(-1, 2, 12))
    key = jax.random.key(3)
    found = curvature.density(Quadratic(H), np.zeros(12), key, k=3, probes=PROBES)
    signs = np.asarray(jax.random.rademacher(key, (PROBES, 12), float))
    for power in range(6):
        exact = np.einsum("pi,ij,pj->p", signs, np.linalg.matrix_power(H, power), signs) / 12
        assert_allclose(np.sum(found.weights * found.nodes**power, axis=1), exact, atol=1e-12)


def test_a_diagonal_hessian_has_a_density_without_error():
    """Random signs give every coordinate the same weight, so each probe finds all eigenvalues with weight 1/dim."""
    eigenvalues = np.arange(12) - 1.0
    found = curvature.density(Quadratic(np.diag(eigenvalues)), np.ones(12), jax.random.key(0), probes=PROBES)
    assert_allclose(np.sort(found.nodes, axis=1), np.tile(eigenvalues, (PROBES, 1)), atol=1e-10)
    assert_allclose(found.weights, 1 / 12, rtol=1e-8)
    assert_allclose(found.trace, (54, 0), atol=1e-10)
    grid = np.linspace(-4, 14, 1801)
    values, errors = found.smoothed(grid, width=0.3)
    assert_allclose(np.sum(values) * 0.01, 1, rtol=1e-9)  # Gaussians: the trapezoidal rule is exact to rounding
    assert errors.max() < 1e-8


def test_the_errors_of_moments_are_those_of_random_signs():
    H = symmetric(np.linspace(-1, 3, 12) ** 3)
    off = H - np.diag(np.diag(H))
    expected = np.sqrt(2 * np.sum(off**2) / PROBES)  # Var zᵀHz = 2 Σ_{i≠j} H_ij²
    for seed in range(3):
        found = curvature.density(Quadratic(H), np.zeros(12), jax.random.key(seed), k=3, probes=PROBES)
        value, error = found.trace
        assert abs(value - np.trace(H)) < 5 * expected
        # standard deviation of a sample standard deviation: 4 % for normal numbers, at most 8 % here; 5 of them
        assert_allclose(error, expected, rtol=0.4)
        square, error = found.moment(2)
        assert abs(square - np.sum(H**2)) < 5 * error


SPECTRA = {
    "distinct": np.linspace(-1, 3, 24) ** 3,
    "one outlier": np.append(50, np.full(23, 0.01)),
    "two values": np.repeat([1.0, 4.0], [18, 6]),
    "three values and zero": np.repeat([-2.0, 0.0, 1.0, 5.0], 6),
    "a multiple of the identity": np.full(24, 3.0),
    "zero": np.zeros(24),
    "nearly equal": 1 + 1e-13 * np.arange(24),
    "a crowd and an outlier": np.append(-30, 1e-6 * np.arange(23)),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("k", [3, 24])
def test_nodes_stay_in_the_spectrum_and_means_are_right(name, k):
    """Krylov spaces that end early, at any scale, in both precisions: no node outside, no mean off its error."""
    for scale, rotated, x64 in [(1, 0, 1), (1, 1, 1), (1e-12, 1, 1), (1e12, 1, 1), (1e-170, 1, 1), (1e-25, 1, 0)]:
        with jax.enable_x64(bool(x64)):
            eigenvalues = scale * SPECTRA[name]
            H = symmetric(eigenvalues, seed=3) if rotated else np.diag(eigenvalues)
            loss = Quadratic(jnp.asarray((H + H.T) / 2, float))
            found = curvature.density(loss, jnp.zeros(24), jax.random.key(1), k=k)
            # rounding of the matrix, of the products and of the tridiagonal form: some ten units each in 24 dimensions
            slack = 30 * float(jnp.finfo(loss.hessian.dtype).eps) * np.abs(eigenvalues).max()
        assert found.nodes.min() >= eigenvalues.min() - slack
        assert found.nodes.max() <= eigenvalues.max() + slack
        assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-6)
        value, error = found.mean(lambda x: x)
        # 5 errors of 19 degrees of freedom: exceeded in one of 12,000 cases
        assert abs(value - eigenvalues.mean()) <= 5 * error + slack
        size = np.abs(eigenvalues).max() or 1
        value, error = found.mean(lambda x, size=size: np.exp(x / size))
        assert abs(value - np.exp(eigenvalues / size).mean()) <= 5 * error + slack / size * np.e


def test_few_different_eigenvalues_give_exact_means_without_error():
    """A diagonal Hessian gives every probe the same weights, and the Krylov space ends: nothing is left to chance."""
    for k in (3, 4, 40):
        found = curvature.density(Quadratic(np.diag([4.0, 1, 1, 1])), np.zeros(4), jax.random.key(0), k=k)
        used = found.weights > 0
        assert found.exact.all()
        assert_allclose(np.sort(found.nodes[used].reshape(-1, 2), axis=1), np.tile([1, 4], (20, 1)), rtol=1e-13)
        assert_allclose(np.sort(found.weights[used].reshape(-1, 2), axis=1), [[0.25, 0.75]] * 20, rtol=1e-13)
        assert_allclose(found.mean(np.log), (np.log(4) / 4, 0), atol=1e-14)
    wide = curvature.density(Quadratic(np.diag(np.full(400, 3.0))), np.zeros(400), jax.random.key(0))
    assert_allclose(wide.moment(2), (3600, 0), rtol=1e-12, atol=1e-9)
    with pytest.raises(ValueError, match="power must be"):
        wide.moment(10**400)  # beyond what any float can be raised to
    outlier = curvature.density(Quadratic(np.diag([50.0] + 399 * [0.01])), np.zeros(400), jax.random.key(0))
    value, error = outlier.mean(lambda x: np.log(np.abs(x)))
    assert_allclose(value, (np.log(50) + 399 * np.log(0.01)) / 400, rtol=1e-12)  # −4.584
    assert error < 1e-12
    one = curvature.density(lambda t: t[0] ** 2, np.zeros(1), jax.random.key(0))
    assert_allclose(one.mean(np.log), (np.log(2), 0), rtol=1e-14)


def test_a_mean_may_be_infinite_but_is_a_number():
    found = curvature.density(Quadratic(np.zeros((24, 24))), np.zeros(24), jax.random.key(0), k=3)
    with np.errstate(divide="ignore"):
        assert found.mean(lambda x: np.log(np.abs(x))) == (-np.inf, 0)
    assert found.trace == (0, 0)


@pytest.mark.parametrize(("name", "function"), [("distinct", np.square), ("one outlier", np.log)])
def test_the_stated_error_is_the_spread_over_keys(name, function):
    eigenvalues = SPECTRA[name]
    loss, true = Quadratic(symmetric(eigenvalues, seed=5)), function(eigenvalues).mean()
    found = [curvature.density(loss, np.zeros(24), jax.random.key(seed), k=24).mean(function) for seed in range(40)]
    values, errors = np.transpose(found)
    # Mean squares of 40 deviations and of 40 errors, each error from 20 probes of χ² with kurtosis up to 15:
    # known to √(2/40) and √(14/20/40), together 26 %; their root to 13 %; four of these
    assert 0.48 < np.sqrt(np.mean((values - true) ** 2) / np.mean(errors**2)) < 1.52


def test_what_the_nodes_cannot_resolve_is_in_the_error():
    """Every probe of a diagonal Hessian finds the same: the spread is 0, the error is that of the quadrature."""
    loss = Quadratic(np.diag(np.logspace(-4, 1, 24)))
    true = np.log(np.logspace(-4, 1, 24)).mean()
    for k in (3, 8):
        found = curvature.density(loss, np.zeros(24), jax.random.key(0), k=k)
        assert not found.exact.any()
        value, error = found.mean(np.log)
        assert abs(value - true) < 3 * error
        assert error < 3  # and not a number so large that it says nothing: log λ itself spreads by 3.5
        assert found.trace[1] < 1e-12  # a polynomial is integrated exactly
    alone = curvature.density(loss, np.zeros(24), jax.random.key(0), k=1)
    assert alone.mean(np.log)[1] == np.inf
    assert alone.trace[1] < 1e-12


def test_two_probes_that_say_the_same_are_not_drawn():
    """At Beale's saddle both (1, 1) and (1, −1) are eigenvectors: two equal probes would agree on a wrong trace."""
    for seed in range(8):
        found = curvature.density(fd.landscapes.beale(), [0.0, 1.0], jax.random.key(seed), probes=2)
        assert_allclose(found.trace, (0, 55.5), atol=1e-10)


# --- slices ---------------------------------------------------------------------------------------------------


def test_a_line_through_a_double_well():
    def loss(t):
        return (t[0] ** 2 - 1) ** 2 + t[1] ** 2

    line = curvature.slice1d(loss, np.array([-1.0, 0.0]), np.array([1.0, 0.0]), points=41, beyond=0.5)
    assert_allclose(line.alpha[[0, -1]], [-0.5, 1.5])
    x = 2 * line.alpha - 1
    assert_allclose(line.loss, (x**2 - 1) ** 2, atol=1e-14)
    assert line.length == 2
    over = curvature.interpolate(loss, np.array([-1.0, 0.0]), np.array([1.0, 0.0]))
    assert_allclose(over.bump, 1, rtol=1e-12)  # from 0 up to 1 at α = 1/2
    assert not over.monotone()
    down = curvature.interpolate(loss, np.array([0.0, 2.0]), np.array([1.0, 0.0]))
    assert down.monotone()
    assert down.bump == 0
    assert down.loss[0] == 5


def test_layers_move_alone_with_the_others_at_the_end():
    def loss(p):
        return jnp.sum(p["first"] ** 2) + jnp.sum((p["second"] ** 2 - 1) ** 2) * p["gain"][0]

    a = {"first": jnp.array([3.0, 4.0]), "gain": jnp.array([5.0]), "second": -jnp.ones((1, 1))}
    b = {"first": jnp.zeros(2), "gain": jnp.array([2.0]), "second": jnp.ones((1, 1))}
    line = curvature.interpolate(loss, a, b, points=11, by_layer=True)
    assert list(line.names) == ["['first']", "['gain']", "['second']"]
    alpha = line.alpha
    well = ((2 * alpha - 1) ** 2 - 1) ** 2
    assert_allclose(line.loss, 25 * (1 - alpha) ** 2 + well * (5 - 3 * alpha), atol=1e-12)
    expected = [25 * (1 - alpha) ** 2, np.zeros(11), 2 * well]  # the gain matters only where second is away from ±1
    assert_allclose(line.layer_loss, expected, atol=1e-12)
    assert_allclose(line.layer_bumps, [0, 0, 2], atol=1e-12)
    assert_allclose(line.length**2, 25 + 9 + 4, rtol=1e-12)


def test_planes_along_directions_and_through_points():
    H = symmetric([1.0, 2.0, -3.0, 4.0])
    loss = Quadratic(H)
    centre, one, two = RNG.normal(size=(3, 4))
    plane = curvature.slice2d(loss, centre, directions=(one, two), points=5, reach=2.0)
    for i, y in enumerate(plane.y):
        for j, x in enumerate(plane.x):
            theta = centre + x * one + y * two
            assert_allclose(plane.loss[i, j], theta @ H @ theta / 2, rtol=1e-12, atol=1e-12)
    plane = curvature.slice2d(loss, centre, through=(one, two), points=3, reach=0.0)
    assert_allclose(plane.directions @ plane.directions.T, np.eye(2), atol=1e-14)
    assert_allclose(centre + plane.marks @ plane.directions, [centre, one, two], atol=1e-12)
    assert_allclose([plane.x[0], plane.x[-1]], [plane.marks[:, 0].min(), plane.marks[:, 0].max()])
    wide = curvature.slice2d(loss, centre, through=(one, two), points=3, reach=0.25)
    for axis, low, high in zip((wide.x, wide.y), plane.marks.min(axis=0), plane.marks.max(axis=0), strict=True):
        assert_allclose(axis[[0, -1]], [low - (high - low) / 4, high + (high - low) / 4])
    with pytest.raises(ValueError, match="give neither directions nor filterwise"):
        curvature.slice2d(loss, centre, (one, two), through=(one, two))
    random = curvature.slice2d(loss, centre, key=jax.random.key(0), points=3)
    assert_allclose(np.linalg.norm(random.directions, axis=1), 1, rtol=1e-12)


def test_filter_normalised_planes_do_not_see_the_scale_of_layers():
    """A ReLU layer scaled up and the next one down is the same network, and the same picture."""

    def loss(p):
        hidden = jax.nn.relu(INPUTS @ p["in"].T + p["bias"])
        return jnp.mean((hidden @ p["out"].T) ** 2)

    theta = {"bias": RNG.normal(size=6), "in": RNG.normal(size=(6, 10)), "out": RNG.normal(size=(1, 6))}
    scaled = {"bias": 8 * theta["bias"], "in": 8 * theta["in"], "out": theta["out"] / 8}
    landscape = fd.Landscape.from_function(loss, like=theta)
    planes = [
        curvature.slice2d(landscape, t, key=jax.random.key(0), filterwise=True, points=7) for t in (theta, scaled)
    ]
    assert_allclose(planes[0].loss, planes[1].loss, rtol=1e-10)
    way = landscape.vector(jnp.asarray(planes[0].directions[0])).tree
    assert_allclose(np.linalg.norm(way["in"], axis=1), np.linalg.norm(theta["in"], axis=1), rtol=1e-12)
    assert_allclose(np.linalg.norm(way["bias"]), np.linalg.norm(theta["bias"]), rtol=1e-12)


# --- sharpness ------------------------------------------------------------------------------------------------


def highest(H, slope, rho):
    """max over ‖ε‖ ≤ ρ of gᵀε + εᵀHε/2 by the secular equation: ε = (μ − H)⁻¹ g, μ ≥ λmax, ‖ε‖ = ρ."""
    values, vectors = np.linalg.eigh(H)
    g = vectors.T @ slope
    gap = scipy.optimize.brentq(lambda m: np.linalg.norm(g / (values[-1] + m - values)) - rho, 1e-12, 1e6, xtol=1e-15)
    step = g / (values[-1] + gap - values)
    return g @ step + values @ step**2 / 2


def test_sharpness_of_quadratics_is_the_trust_region_maximum():
    loss = Quadratic(symmetric([-5.0, -1.0, 0.5, 2.0, 3.0]), np.zeros(5))
    for seed, rho in ((0, 0.1), (1, 1.0), (2, 5.0)):
        theta = np.random.default_rng(seed).normal(size=5)
        found = curvature.sharpness(loss, theta, rho, steps=2000, key=jax.random.key(seed))
        exact = highest(np.asarray(loss.hessian), np.asarray(loss.hessian) @ theta, rho)
        assert found.one_step <= found.ascent * (1 + 1e-12)
        assert_allclose([found.rho, found.loss], [rho, loss(jnp.asarray(theta))], rtol=1e-12)
        assert found.ascent == found.starts.max()
        risen = loss(jnp.asarray(theta + found.displacement)) - loss(jnp.asarray(theta))
        assert_allclose(found.ascent, risen, rtol=1e-10)
        assert found.ascent <= exact * (1 + 1e-9)  # a lower bound, up to rounding
        assert found.ascent >= exact * (1 - 1e-6)  # linear convergence
        assert np.linalg.norm(found.displacement) <= rho * (1 + 1e-12)
        grad = fd.Landscape.from_function(loss, 5).grad
        there = fd.SAM(0.1, rho).ascend(grad, jnp.asarray(theta))
        assert_allclose(found.one_step, loss(there) - loss(jnp.asarray(theta)), rtol=1e-10)


def test_sharpness_at_a_minimum_and_of_a_plane():
    loss = Quadratic(symmetric([0.1, 1.0, 2.0, 3.0, 4.0]), np.zeros(5))
    found = curvature.sharpness(loss, np.zeros(5), 0.5)
    assert found.one_step == 0  # the gradient vanishes: SAM's step is none
    assert_allclose(found.ascent, 4.0 * 0.5**2 / 2, rtol=1e-9)
    slope = np.array([3.0, 0.0, 4.0, 0.0, 0.0])
    flat = curvature.sharpness(Quadratic(np.zeros((5, 5)), slope), np.ones(5), 0.5)
    assert_allclose([flat.one_step, flat.ascent], 0.5 * 5, rtol=1e-12)
    assert curvature.sharpness(loss, np.ones(5), 0.0).ascent == 0


# --- records and refusals -------------------------------------------------------------------------------------


def test_records_are_kept_and_read_again(tmp_path):
    for record in (
        curvature.extreme_eigenvalues(Quadratic(np.eye(2)), np.ones(2)),
        curvature.slice1d(Quadratic(np.eye(2)), np.ones(2), np.zeros(2)),
    ):
        again = type(record).load(record.save(tmp_path / "record.npz"))
        for name, values in record.arrays().items():
            assert_array_equal(again.arrays()[name], values)
        assert repr(again) == repr(record)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda L, t: curvature.extreme_eigenvalues(L, t, k=1), "k must be"),
        (lambda L, t: curvature.extreme_eigenvalues(L, t, method="power"), "method must be"),
        (lambda L, t: curvature.extreme_eigenvalues(L, np.zeros((3, 2))), "one point"),
        (lambda L, t: curvature.extreme_eigenvalues(L, {"a": t}), "coordinates"),
        (lambda L, t: curvature.extreme_eigenvalues(lambda p: jnp.sum(p**0.5), t), "not finite"),
        (lambda L, t: curvature.density(L, t, jax.random.key(0), probes=1), "probes"),
        (lambda L, t: curvature.interpolate(L, t, np.zeros(3)), "theta_b"),
        (
            lambda L, t: curvature.interpolate(L, t, t + 1, by_layer=True),
            "by_layer=True needs a landscape with layers, beale has one array",
        ),
        (lambda L, t: curvature.slice2d(L, t), "key"),
        (lambda L, t: curvature.slice2d(L, t, through=(t + 1, t + 2)), "one line"),
        (lambda L, t: curvature.slice2d(L, t, directions=(t,)), "directions must be two"),
        (lambda L, t: curvature.sharpness(L, t, -1.0), "rho"),
        (lambda L, t: curvature.sharpness(lambda p: jnp.log(p[0]), t, 1.0), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(ask, words):
    with pytest.raises(ValueError, match=words):
        ask(fd.landscapes.beale(), np.zeros(2))


def test_a_loss_must_be_one():
    with pytest.raises(TypeError, match="Landscape or a JAX function"):
        curvature.slice1d(3.0, np.zeros(2), np.ones(2))
