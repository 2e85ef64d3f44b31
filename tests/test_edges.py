"""The edge of each method: against the multipliers of its step, its own two-cycles, and second moments by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import methods, stability

eta, rho, mu, eps, w, tau, share = sympy.symbols("eta rho mu epsilon w tau share", positive=True)
lam = sympy.Symbol("lambda", positive=True)

# Every method whose step has symbols; normalised ones smoothed, as they have no multipliers without.
METHODS = {
    "GD": fd.GD(eta),
    "heavy ball": fd.GD(eta, mu),
    "Nesterov": fd.GD(eta, mu, nesterov=True),
    "decoupled decay": fd.GD(eta, mu, weight_decay=w, decay="decoupled"),
    "coupled decay": fd.GD(eta, weight_decay=w),
    "dampening": fd.GD(eta, mu, dampening=tau, units="gradient"),
    "USAM": fd.USAM(eta, rho, mu),
    "USAM, two ascents": fd.USAM(eta, rho, ascents=2),
    "USAM, decay in the loss": fd.USAM(eta, rho, weight_decay=w, decay="loss"),
    "SAM": fd.SAM(eta, rho, mu, eps=eps),
    "SAM Nesterov": fd.SAM(eta, rho, mu, eps=eps, nesterov=True),
    "DNSAM": fd.DNSAM(eta, rho, eps=eps),
    "WSAM": methods.WSAM(eta, rho, share, eps=eps),
    "WSAM, apart": methods.WSAM(eta, rho, share, mu, eps=eps),
    "GSAM": methods.GSAM(eta, rho, share, eps=eps),
    "UnifiedSAM": methods.UnifiedSAM(eta, rho, share, mu, eps=eps),
    "LookSAM": methods.LookSAM(eta, rho, 3, share, eps=eps),
    "FriendlySAM": methods.FriendlySAM(eta, rho, share, mu, eps=eps),
    "MSAM": methods.MSAM(eta, rho, mu, eps=eps),
    "LaggedSAM": methods.LaggedSAM(eta, rho, eps=eps),
    "Lookahead": methods.Lookahead(fd.GD(eta, mu), 3, share),
    "SGLD": fd.SGLD(eta),
}
# Those whose edge is searched for, and of these those that may shrink again above it
NUMERIC = ("LookSAM", "FriendlySAM", "MSAM", "LaggedSAM", "Lookahead", "WSAM, apart", "SGLD")
WINDOWED = NUMERIC[:-1]


def with_numbers(method, numbers):
    """The method with numbers for its symbols, as a user writes it."""
    given = {
        field.name: getattr(method, field.name) for field in dataclasses.fields(method) if field.init and field.name
    }
    for name, value in given.items():
        if isinstance(value, fd.methods.Method):
            given[name] = with_numbers(value, numbers)
        elif isinstance(value, sympy.Symbol):
            given[name] = numbers[value]
    return type(method)(**given)


def spectral_radius(method):
    """Of the symbolic Jacobian on a line of curvature λ, as a function of λ's and of the numbers of its symbols."""
    matrix = stability.jacobian(method, fd.landscapes.saddle((lam,)), at=(0,))
    symbols = sorted(matrix.free_symbols - {lam}, key=str)
    entries = sympy.lambdify([lam, *symbols], matrix.tolist(), "numpy")

    def radius(curvatures, numbers):
        rows = entries(curvatures, *(numbers[symbol] for symbol in symbols))
        rows = [[np.broadcast_to(entry, curvatures.shape) for entry in row] for row in rows]
        return np.abs(np.linalg.eigvals(np.moveaxis(np.array(rows, float), -1, 0))).max(axis=-1)

    return radius


def contradictions(name, number, seed=0):
    method, rng = METHODS[name], np.random.default_rng(seed)
    radius, wrong = spectral_radius(method), []
    for _ in range(number):
        numbers = {
            eta: 10 ** rng.uniform(-3, 0),
            rho: 10 ** rng.uniform(-2, 0.5),
            mu: rng.uniform(0.05, 0.95),
            eps: 10 ** rng.uniform(-1, 1),
            w: rng.uniform(0.01, 0.5),
            tau: rng.uniform(0.05, 0.9),
            share: rng.uniform(0.05, 0.9),
        }
        edge = stability.edge(with_numbers(method, numbers))
        inside = edge * rng.uniform(0.001, 1, 8)
        tried = np.concatenate([edge * np.array([1 - 1e-6, 1 + 1e-6]), inside, edge * (1 + rng.exponential(1, 4))])
        found = radius(tried, numbers)
        # 1e-9: rounding of a double multiplier; below it nothing is decided
        fine = found[0] < 1 + 1e-9 < found[1] + 1e-8 and (found[2:10] < 1 + 1e-9).all()
        if name not in WINDOWED:
            fine = fine and (found[10:] > 1 - 1e-9).all()
        if not fine or not found[1] > 1:
            wrong.append((numbers, edge, found))
    return wrong


@pytest.mark.parametrize("name", METHODS)
def test_the_edge_is_where_multipliers_of_random_quadratics_pass_one(name):
    assert not contradictions(name, 200 if name not in NUMERIC else 25)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_edge_is_where_multipliers_of_ten_thousand_quadratics_pass_one(name):
    assert not contradictions(name, 10_000, seed=1)


CYCLES = {
    "SAM": (fd.SAM(0.05, 0.1), 20.0),
    "SAM Nesterov": (fd.SAM(0.05, 0.1, 0.5, nesterov=True), 15.0),
    "DNSAM": (fd.DNSAM(0.05, 0.1), 20.0),
    "WSAM": (methods.WSAM(0.05, 0.1, 0.8), 20.0),
    "WSAM, apart": (methods.WSAM(0.05, 0.1, 0.8, 0.5), 20.0),
    "GSAM": (methods.GSAM(0.05, 0.1, 0.7), 20.0),
    "UnifiedSAM": (methods.UnifiedSAM(0.05, 0.02, 0.5), 20.0),
    "FriendlySAM": (methods.FriendlySAM(0.05, 0.1, 0.5), 20.0),
    "MSAM": (methods.MSAM(0.05, 0.1, 0.6), 20.0),
    "MSAM in gradients": (methods.MSAM(0.05, 0.1, 0.6, units="gradient"), 20.0),
    "MSAM Nesterov": (methods.MSAM(0.05, 0.02, 0.3, nesterov=True, dampening=0.2), 18.0),
}


@pytest.mark.parametrize("name", CYCLES)
def test_normalised_methods_settle_on_their_edge(name):
    """On a line a run ends on a cycle between ±A, on which a step takes the gradient, λ A, to its negative."""
    method, curvature = CYCLES[name]
    run = fd.simulate(fd.Iteration(fd.landscapes.saddle((curvature,)), method), [0.03], 3000)
    before, last = run.theta[-2:, 0]
    assert_allclose(before, -last, rtol=1e-9)
    assert abs(last) > 1e-4
    assert_allclose(stability.edge(method, curvature * abs(last)), curvature, rtol=1e-7)  # what rounding leaves of A


def test_looksam_settles_on_its_edge_at_its_ascents():
    """Its cycle is at ± η λ ρ q/(1 + (1 − η λ) q), q = (1 − η λ)^(k−1), before every ascent, without momentum."""
    h, radius, k, curvature = 0.05, 0.1, 3, 30.0
    q = (1 - h * curvature) ** (k - 1)
    norm = curvature * h * curvature * radius * q / (1 + (1 - h * curvature) * q)
    response = stability.edge(methods.LookSAM(h, radius, k, 0.3), norm)
    shrinks = (1 - h * response * (1 + radius * response / norm)) * (1 - h * response) ** (k - 1)
    assert_allclose(abs(shrinks), 1, rtol=1e-10)
    assert response <= curvature * (1 + 1e-9)  # the cycle's own curvature is an edge, of this stretch or a later one


def test_averages_and_starts_have_the_edge_of_what_they_hold():
    sam = fd.SAM(0.05, 0.1, 0.5)
    expected = stability.edge(sam, 0.7)
    for method in (fd.Averaged(sam, start=3), fd.Averaged(fd.Started(sam, [0.1])), methods.Lookahead(sam, 1, 1.0)):
        assert_allclose(stability.edge(method, 0.7), expected, rtol=1e-12)
    with pytest.raises(TypeError, match="changes from step to step"):
        stability.edge(fd.Scheduled(fd.GD(0.1), lambda k: 1 / (k + 1)))


# --- optax --------------------------------------------------------------------------------------------------------

B1 = 0.9
OPTIMISERS = {
    "sgd": (optax.sgd(0.1), 2 / 0.1),
    "momentum": (optax.sgd(0.1, momentum=0.6), 3.2 / 0.1),
    "nesterov": (optax.sgd(0.1, momentum=0.6, nesterov=True), 3.2 / 2.2 / 0.1),
    "adam": (optax.adam(1e-3, b1=B1), (2 + 2 * B1) / (1 - B1) / 1e-3),
    "adamw": (optax.adamw(1e-3, b1=B1, weight_decay=0.1), (2 - 1e-4) * (1 + B1) / (1 - B1) / 1e-3),
    "amsgrad": (optax.amsgrad(1e-3, b1=0.5), 6 / 1e-3),
    "rmsprop": (optax.rmsprop(1e-2), 2 / 1e-2),
    "adagrad": (optax.adagrad(0.3), 2 / 0.3),
    "clipped adam": (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3, b1=B1)), 38 / 1e-3),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_edges_of_optimisers_of_optax_are_those_of_their_recursions(name):
    optimiser, expected = OPTIMISERS[name]
    assert_allclose(stability.edge(fd.from_optax(optimiser)), expected, rtol=1e-9)


def test_adam_on_a_line_ends_at_its_edge():
    """v falls until the preconditioned curvature is that of the edge, where the oscillation holds it up."""
    curvature, method = 3.0, fd.from_optax(optax.adam(1e-2, b1=B1, b2=0.99))
    process = fd.Iteration(fd.landscapes.saddle((curvature,)), method)
    divided = lambda state: curvature / stability.preconditioner(process, state)  # noqa: E731
    run = fd.simulate(process, [1.0], 6000, observe=divided)
    ratio = run.observed[3000:, 0] / stability.edge(method)
    assert abs(np.median(ratio) - 1) < 0.05  # it hovers: of the order of 1 − β₂ a step


def test_the_preconditioner_is_that_of_the_formula():
    """P = (1 − β₁ᵗ)(√(v/(1 − β₂ᵗ)) + ε), and √v + ε; of a network's tree in the order of its coordinates."""
    landscape = fd.Landscape.from_function(
        lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 4), like={"a": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)}
    )
    start = landscape.flatten({"a": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)})
    for optimiser, formula in (
        (
            optax.adam(1e-2, b1=0.8, b2=0.95, eps=1e-3),
            lambda v, t: (1 - 0.8**t) * (np.sqrt(v / (1 - 0.95**t)) + 1e-3),
        ),
        (optax.rmsprop(1e-2, decay=0.7, eps=1e-3, eps_in_sqrt=False), lambda v, t: np.sqrt(v) + 1e-3),
        (optax.sgd(1e-2, momentum=0.3), lambda v, t: np.ones_like(v)),
    ):
        process = fd.Iteration(landscape, fd.from_optax(optimiser))
        state, step = process.init(start), jax.jit(process.step)
        for _ in range(3):
            state = step(state)
        squares = optax.tree.get(state.inner, "nu", default=None)
        v = np.ones(3) if squares is None else np.asarray(landscape.flatten(squares))
        assert_allclose(stability.preconditioner(process, state), formula(v, 3), rtol=1e-10)
        assert_allclose(
            jax.jit(lambda state, p=process: stability.preconditioner(p, state))(state), formula(v, 3), rtol=1e-10
        )


def test_what_has_no_known_preconditioner_says_what_to_pass():
    for optimiser in (optax.lion(1e-3), optax.contrib.muon(1e-3), optax.adamax(1e-3), optax.novograd(1e-3)):
        with pytest.raises(ValueError, match="pass what you divide the gradient by yourself, as preconditioner="):
            stability.edge(fd.from_optax(optimiser))
    for optimiser in (optax.sign_sgd(0.1), optax.lamb(1e-3)):
        with pytest.raises(ValueError, match="no Jacobian at a critical point"):
            stability.edge(fd.from_optax(optimiser))
    with pytest.raises(TypeError, match="sees no preconditioner"):
        stability.edge(fd.from_optax(optax.adam(1e-3), follows=fd.SAM(1.0, 0.1)), 1.0)
    sam = fd.from_optax(optax.sgd(0.05), follows=fd.SAM(1.0, 0.1))
    assert_allclose(stability.edge(sam, 1.0), stability.edge(fd.SAM(0.05, 0.1), 1.0), rtol=1e-12)


# --- a Hessian as a whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        fd.Multirate(0.1, (False, True, True), 4, momentum=0.3),
        fd.Multirate(0.1, (True, False, False), 2),
        fd.USAM(0.1, 0.3, mask=(0, 1, 1)),
        fd.Alternating((fd.GD(0.1), fd.USAM(0.2, 0.1)), ((1, 0, 0), (0, 1, 1))),
    ],
    ids=["multirate with momentum", "multirate", "masked", "alternating"],
)
def test_the_edge_of_a_whole_hessian_is_where_its_multipliers_pass_one(method):
    matrix = np.array([[3.0, 0.4, -0.2], [0.4, 1.0, 0.3], [-0.2, 0.3, 0.5]])
    top = np.linalg.eigvalsh(matrix)[-1]
    form = lambda scale: fd.Landscape.from_function(lambda t: scale * (t @ matrix @ t) / 2, 3)  # noqa: E731
    edge = stability.edge(method, landscape=form(1.0))
    for factor, inside in ((1 - 1e-6, True), (1 + 1e-6, False)):
        found = stability.multipliers(method, form(factor * edge / top), at=np.zeros(3))
        assert (np.abs(found[0]) < 1) == inside


def test_the_edge_at_a_point_is_that_along_an_eigenvector():
    L = fd.landscapes.beale()
    assert_allclose(
        stability.edge(fd.USAM(0.05, 0.1), landscape=L, at=(3.0, 0.5)), stability.edge(fd.USAM(0.05, 0.1)), rtol=1e-12
    )
    method, top = fd.ASAM(1e-3, 0.3, eps=0.1), np.linalg.eigvalsh(L.hessian(jnp.array([3.0, 0.5])))[-1]
    stable = np.abs(stability.multipliers(method, L, at=(3.0, 0.5))).max() < 1
    assert (top < stability.edge(method, landscape=L, at=(3.0, 0.5))) == stable


# --- in mean square -----------------------------------------------------------------------------------------------

H = np.array([1.0, 2.0, 6.0])
LINE = fd.Landscape.from_examples("c*x**2/2", {"c": H}, symbols="x")


@pytest.mark.parametrize(("size", "replace"), [(1, True), (2, True), (2, False), (3, False)])
def test_the_mean_square_edge_of_gd_in_one_direction(size, replace):
    """E (1 − η h_B)² = 1: h = 2/η · h²/(h² + var(h_B))."""
    variance = H.var() / size * (1 if replace else (3 - size) / 2)
    found = stability.edge(fd.GD(0.1), landscape=LINE, noise=fd.noise.FiniteSum(size, replace))
    assert_allclose(found, 20 * 9 / (9 + variance), rtol=1e-10)


@pytest.mark.parametrize("loss", ["c*x**2/2 + 0*y", "c*(x-y)**2/4", "c*(3*x-y)**2/20"])
@pytest.mark.parametrize("size", [1, 2])
def test_directions_without_curvature_do_not_count(loss, size):
    """Examples that are interpolated leave such directions, whose multiplier is 1 at every step size."""
    curvatures = np.array([1.0, 2.0, 6.0])

    def example(theta, c):
        x, y = theta
        return {"+": c * x**2 / 2 + 0 * y, "-": c * (x - y) ** 2 / 4, "3": c * (3 * x - y) ** 2 / 20}[
            "+" if "+" in loss else "3" if "3*" in loss else "-"
        ]

    with jax.enable_x64(True):
        landscape = fd.Landscape.from_examples(example, jnp.asarray(curvatures), dim=2)
        found = stability.edge(fd.GD(0.1), landscape=landscape, at=(0.0, 0.0), noise=fd.noise.FiniteSum(size, True))
    # Sharpness is the mean, 3, in the direction that is curved; 1e-8: the multiplier of the others is known to 1e-13
    assert_allclose(found, 20 * 9 / (9 + curvatures.var() / size), rtol=1e-8)


def test_asam_is_told_that_no_norm_of_a_gradient_counts():
    with pytest.raises(TypeError, match="leave gradient_norm out"):
        stability.edge(fd.ASAM(0.1, 0.1), 1.0)


def test_the_mean_square_edge_of_other_steps_in_one_direction():
    """The heavy ball by its three second moments; USAM by all pairs of examples."""
    found = stability.edge(fd.GD(0.1, 0.6), landscape=LINE, noise=fd.noise.FiniteSum(2))
    f = found / 3
    first, second = 0.1 * f * 3, (0.1 * f) ** 2 * (9 + H.var() / 2)  # E ηh, E (ηh)²
    # θ⁺ = (1 − ηh) θ + μ v, v⁺ = μ v − ηh θ; of (θθ, θv, vv)
    whole = np.array(
        [
            [1 - 2 * first + second, 2 * 0.6 * (1 - first), 0.36],
            [second - first, 0.6 * (1 - 2 * first), 0.36],
            [second, -2 * 0.6 * first, 0.36],
        ]
    )
    assert_allclose(np.abs(np.linalg.eigvals(whole)).max(), 1, rtol=1e-10)
    found = stability.edge(fd.USAM(0.1, 0.2), landscape=LINE, noise=fd.noise.FiniteSum(2))
    pairs = found / 3 * (H[:, None] + H) / 2
    assert_allclose(((1 - 0.1 * pairs * (1 + 0.2 * pairs)) ** 2).mean(), 1, rtol=1e-10)
    sam = stability.edge(fd.DNSAM(0.1, 0.1), 0.5, landscape=LINE, noise=fd.noise.FiniteSum(2))
    assert_allclose(sam, found, rtol=1e-10)


def test_noise_that_goes_with_the_curvature_and_the_loss():
    """Σ = 2 L(θ) H/B: p⁺ᵢ = (1 − ηhᵢ)² pᵢ + η² hᵢ Σ hⱼ pⱼ/B in eigen-directions; what is off the diagonal decays."""
    h, L = np.array([3.0, 1.0]), fd.landscapes.saddle((3.0, 1.0))
    spread = lambda t: jnp.sqrt(2 * L.loss(t)) * jnp.diag(jnp.sqrt(jnp.asarray(h)))  # noqa: E731
    found = stability.edge(fd.GD(0.1), landscape=L, noise=fd.noise.StateDependent(spread, batch_size=2))
    f = found / 3
    matrix = np.diag((1 - 0.1 * f * h) ** 2) + (0.1 * f) ** 2 * np.outer(h, h) / 2
    assert_allclose(np.abs(np.linalg.eigvals(matrix)).max(), 1, rtol=1e-9)
    for additive in (fd.noise.Gaussian(0.3), fd.noise.Curvature(0.5)):  # it moves no edge
        assert_allclose(stability.edge(fd.GD(0.1), landscape=L, noise=additive), 20, rtol=1e-9)


def test_least_squares_shrink_below_their_mean_square_edge_and_grow_above():
    """Interpolating examples: E θθᵀ by hand over all minibatches, as a matrix on vec P."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 3))
    L = fd.Landscape.from_examples(lambda t, x: (x @ t) ** 2 / 2, a, dim=3)
    whole = np.linalg.eigvalsh(a.T @ a / 5)[-1]
    for size in (1, 2):
        edge = stability.edge(fd.GD(0.1), landscape=L, noise=fd.noise.FiniteSum(size))
        rows = np.stack(np.meshgrid(*[range(5)] * size, indexing="ij"), axis=-1).reshape(-1, size)
        hessians = np.stack([a[row].T @ a[row] / size for row in rows])
        for factor, sign in ((1 - 1e-6, -1), (1 + 1e-6, 1)):
            steps = np.eye(3) - 0.1 * factor * edge / whole * hessians
            moments = np.mean([np.kron(step, step) for step in steps], axis=0)
            assert np.sign(np.abs(np.linalg.eigvals(moments)).max() - 1) == sign
        assert edge < 20


def test_what_has_no_edge_says_so():
    with pytest.raises(ValueError, match="give gradient_norm"):
        stability.edge(methods.LookSAM(0.1, 0.1, 2, 0.5))
    with pytest.raises(TypeError, match="Multirate moves blocks"):
        stability.edge(fd.Multirate(0.1, (True, False), 2))
    with pytest.raises(TypeError, match="give landscape and at"):
        stability.edge(fd.ASAM(0.1, 0.1))
    with pytest.raises(ValueError, match="noise is of a landscape"):
        stability.edge(fd.GD(0.1), noise=fd.noise.FiniteSum(2))
    with pytest.raises(ValueError, match="positive curvature"):
        stability.edge(fd.GD(0.1), landscape=fd.landscapes.saddle((-1.0, -2.0)))
    with pytest.raises(TypeError, match="give numbers for the symbols"):
        stability.edge(methods.LookSAM(eta, rho, 2, 0.5), 1.0)
    with pytest.raises(TypeError, match="independent of others"):
        stability.edge(fd.GD(0.1), landscape=LINE, noise=fd.noise.Epochs(1))
    growing = fd.noise.StateDependent(lambda t: 0.5 * t)
    with pytest.raises(TypeError, match="under normal noise is not known"):
        stability.edge(fd.USAM(0.1, 0.1), landscape=fd.landscapes.saddle((1.0,)), noise=growing)
    with pytest.raises(ValueError, match="there is no edge"):
        stability.edge(methods.Lookahead(fd.GD(0.1), 2, 0.0))
    with pytest.warns(DeprecationWarning, match="edge_of_stability is now"):
        assert stability.edge_of_stability is stability.edge
