"""SAM's family against the programs of its authors and of packages, and against closed forms on quadratics."""

import collections
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.core.algebra import Vector
from flatdyn.methods import GSAM, MSAM, WSAM, FriendlySAM, LaggedSAM, Lookahead, LookSAM, UnifiedSAM
from flatdyn.runs import rest

DATA = json.loads((Path(__file__).parent / "data" / "family.json").read_text())
KEPT = (1, 2, 3, 4, 5, 10, 15, 20)


def beale(w):
    x, y = w
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def two_tensors(tree):
    a, b = tree
    return (a[0] * b[0] - 1) ** 2 / 2 + (a[1] * b[1] + b[2]) ** 2 / 2 + jnp.sum(a**4) / 4 + jnp.sum(b**2) / 2


def slopes_of_two(theta):
    return Vector(jax.grad(two_tensors)(theta.tree))


PROBLEMS = {"quadratic": lambda w: (4 * w[0] ** 2 + w[1] ** 2) / 2, "Beale": beale}


def made(row):
    """The method that a row of the data is, in our words."""
    arguments = dict(row["arguments"])
    if row["method"] == "Lookahead":
        own = {name: arguments.pop(name) for name in ("k", "alpha", "memory", "start") if name in arguments}
        return Lookahead(fd.GD(**arguments), **own)
    if row["method"] == "FriendlySAM":
        s, keep = arguments["sigma"], arguments["ema"]
        arguments |= {"sigma": s / (keep + s * (1 - keep)), "copy_first": True}
    return getattr(fd.methods, row["method"])(**arguments)


def run(method, grad, start):
    def one(state, _):
        state = method.step(grad, state)
        return state, method.stored(state) if isinstance(method, MSAM) else state.theta

    return jax.lax.scan(one, method.init(start), length=KEPT[-1])[1]


@pytest.fixture(scope="module")
def differences():
    """The largest difference of each row from ours: rows whose methods share a program run side by side in it."""

    def ours(method, beales, start):
        here = jax.grad(lambda w: jnp.where(beales, PROBLEMS["Beale"](w), PROBLEMS["quadratic"](w)))
        return run(method, here, start)

    groups, gaps = collections.defaultdict(list), {}
    for i, row in enumerate(DATA["rows"]):
        if row["problem"] in PROBLEMS:
            groups[jax.tree.structure(made(row))].append(i)
    for rows in groups.values():
        methods = jax.tree.map(lambda *x: jnp.stack(x), *(made(DATA["rows"][i]) for i in rows))
        beales = np.array([DATA["rows"][i]["problem"] == "Beale" for i in rows])
        starts = np.array([DATA["rows"][i]["path"][0] for i in rows])
        paths = jax.jit(jax.vmap(ours))(methods, beales, starts)
        for i, path in zip(rows, np.asarray(paths), strict=True):
            gaps[i] = np.abs(path[np.array(KEPT) - 1] - DATA["rows"][i]["path"][1:]).max()
    return gaps


def named(row):
    return f"{row['method']} {row['arguments']} {row['problem']} {row['source']}"


def tolerance(row):
    # pytorch_optimizer takes its norms in float32: ρ is off by up to 6e-8 of itself, for WSAM weighted ninefold, and 20
    # steps with momentum amplify that tenfold. It has no norm in Lookahead. The others add 1e-12 to lengths, up to
    # twice, which matters where a gradient is small; 20 steps amplify that tenfold, too.
    if "pytorch_optimizer" in row["source"] and row["method"] != "Lookahead":
        return 6e-7
    return 1e-14 if row["method"] == "Lookahead" else 2e-11


def test_iterates_are_those_of_the_authors_and_of_the_packages(differences):
    wrong = {named(DATA["rows"][i]): gap for i, gap in differences.items() if not gap <= tolerance(DATA["rows"][i])}
    assert not wrong
    rows = [DATA["rows"][i] for i in differences]
    assert {row["method"] for row in rows} == {
        "WSAM", "GSAM", "LookSAM", "FriendlySAM", "LaggedSAM", "UnifiedSAM", "MSAM", "Lookahead"
    }  # fmt: skip
    assert len(rows) == sum(row["problem"] in PROBLEMS for row in DATA["rows"]) > 60


def test_looksam_takes_what_is_across_from_all_parameters_or_from_each_tensor():
    rows = [row for row in DATA["rows"] if row["problem"] == "two tensors"]
    assert {row["arguments"]["layerwise"] for row in rows} == {True, False}
    paths = {}
    for row in rows:
        start = Vector((jnp.array(row["path"][0][:2]), jnp.array(row["path"][0][2:])))
        a, b = jax.jit(lambda start, row=row: run(made(row), slopes_of_two, start))(start).tree
        paths[row["arguments"]["layerwise"]] = path = np.concatenate([a, b], axis=1)[np.array(KEPT) - 1]
        assert_allclose(path, row["path"][1:], rtol=0, atol=tolerance(row))
    assert np.abs(paths[True] - paths[False]).max() > 1e-2  # the two are not one


@pytest.mark.parametrize("reset", [False, True])
def test_lookahead_is_optaxs(reset):
    inner = optax.sgd(0.1, momentum=0.9)
    other = optax.lookahead(inner, 3, 0.4, reset_state=reset)
    params = optax.LookaheadParams.init_synced(jnp.array([1.0, 1.5]))
    grad, path = jax.grad(PROBLEMS["quadratic"]), []

    @jax.jit
    def step(params, state):
        updates, state = other.update(grad(params.fast), state, params)
        return optax.apply_updates(params, updates), state

    state = other.init(params)
    for _ in range(KEPT[-1]):
        params, state = step(params, state)
        path.append((params.fast, params.slow))
    ours = Lookahead(fd.GD(0.1, 0.9), 3, 0.4, memory="reset" if reset else "keep")

    def both(state, _):
        state = ours.step(grad, state)
        return state, (state.theta, state.slow)

    fast, slow = jax.lax.scan(both, ours.init(jnp.array([1.0, 1.5])), length=KEPT[-1])[1]
    # the same sums in another order
    assert_allclose(np.stack([fast, slow], axis=1), np.array(path), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("start", "wanted"), [(0, [1, 0.9, 0.8, 0.85]), (1, [1, 0.9, 0.8, 0.7, 0.75]), (3, [1, 0.9, 0.8, 0.7])]
)
def test_the_first_pull_of_lookahead(start, wanted):
    """Unit gradients, step 0.1, k = 3, α = ½: the numbers of optax, torch_optimizer and timm."""
    method = Lookahead(fd.GD(0.1), 3, 0.5, start=start)
    state, path = method.init(np.array([1.0])), [1.0]
    for _ in wanted[1:]:
        state = method.step(lambda theta: 0 * theta + 1, state)
        path.append(float(state.theta[0]))
    assert_allclose(path, wanted, rtol=1e-15)  # sums of two or three numbers


# --- limits: where the family is one --------------------------------------------------------------------------


def test_each_is_sam_or_descent_at_the_ends_of_its_numbers():
    grad, start = jax.grad(beale), jnp.array([1.0, 1.5])
    sam, plain = (run(method, grad, start) for method in (fd.SAM(1e-3, 0.1, 0.9), fd.GD(1e-3, 0.9)))
    alike = {
        WSAM(1e-3, 0.1, 0.5, 0.9, decouple=False): sam,
        WSAM(1e-3, 0.1, 0.0, 0.9): plain,
        GSAM(1e-3, 0.1, 0.0, 0.9): sam,
        UnifiedSAM(1e-3, 0.1, 1.0, 0.9): sam,
        UnifiedSAM(1e-3, 1e-3, 0.0, 0.9): run(fd.USAM(1e-3, 1e-3, 0.9), grad, start),
        LookSAM(1e-3, 0.1, 1, 0.5, 0.9): sam,
        FriendlySAM(1e-3, 0.1, 0.0, momentum=0.9): sam,
        MSAM(1e-3, 0.0, 0.9): plain,
        LaggedSAM(1e-3, 0.0, 0.9): plain,
        Lookahead(fd.SAM(1e-3, 0.1, 0.9), 3, 1.0): sam,
    }
    for method, path in alike.items():
        # the same formula, rounded in another order, which 20 steps amplify by at most a hundred
        assert_allclose(run(method, grad, start), path, rtol=0, atol=1e-12, err_msg=repr(method))


# --- quadratics -----------------------------------------------------------------------------------------------

LR, RHO, EPS, ALPHA, K, MU = 0.1, 0.3, 0.2, 0.4, 3, 0.8
REACH = RHO / EPS
CURVATURES = (2.0, -1.0)
SADDLE = fd.landscapes.saddle(CURVATURES)


def blocks(entries):
    """Eigenvalues of one block for each curvature."""
    return np.concatenate([np.linalg.eigvals(np.reshape(entries(c), (2, 2))) for c in CURVATURES])


# What the docstrings say of the multipliers at a critical point, written out: those of each eigen-direction
FORMS = {
    WSAM(LR, RHO, 0.75, eps=EPS): lambda c: [1 - LR * c * (1 + 3 * REACH * c)],
    GSAM(LR, RHO, ALPHA, eps=EPS): lambda c: [1 - LR * c * (1 - ALPHA + REACH * c)],
    UnifiedSAM(LR, RHO, 0.3, eps=EPS): lambda c: [1 - LR * c * (1 + RHO * (0.7 + 0.3 / EPS) * c)],
    LookSAM(LR, RHO, K, ALPHA, eps=EPS): lambda c: [(1 - LR * c * (1 + REACH * c)) * (1 - LR * c) ** (K - 1), 0],
    FriendlySAM(LR, RHO, 0.6, 0.7, eps=EPS, copy_first=True): lambda c: np.linalg.eigvals(
        [[1 - LR * c * (1 + REACH * c * (1 - 0.6 * 0.3)), LR * c * REACH * 0.6 * 0.7], [0.3 * c, 0.7]]
    ),
    MSAM(LR, RHO, MU, eps=EPS): lambda c: np.roots(
        [1, LR * c - 1 - (MU - LR * c * REACH), MU - LR * c * REACH]  # a heavy ball's
    ),
    LaggedSAM(LR, RHO, eps=EPS): lambda c: np.roots([1, -(1 - LR * c + REACH * c), REACH * c]),
    Lookahead(fd.GD(LR), K, ALPHA, start=2): lambda c: [1 - ALPHA + ALPHA * (1 - LR * c) ** K, 0],
}


@pytest.mark.parametrize("method", FORMS, ids=lambda method: type(method).__name__)
def test_multipliers_at_a_saddle_are_their_closed_form(method):
    wanted = np.concatenate([np.asarray(FORMS[method](c), complex) for c in CURVATURES])
    ours = fd.stability.multipliers(method, SADDLE, at=(0, 0))
    # double eigenvalues, zeros here, are known to the root of rounding
    assert_allclose(np.sort_complex(ours), np.sort_complex(wanted), rtol=0, atol=3e-8)


@pytest.mark.parametrize("method", FORMS, ids=lambda method: type(method).__name__)
def test_the_jacobian_in_symbols_is_that_in_numbers_and_conditions_are_those_of_multipliers(method):
    symbolic = np.array(fd.stability.jacobian(method, SADDLE, at=(0, 0)), dtype=float)
    values = np.sort_complex(np.linalg.eigvals(symbolic).astype(complex))
    wanted = np.concatenate([np.asarray(FORMS[method](c), complex) for c in CURVATURES])
    assert_allclose(values, np.sort_complex(wanted), rtol=0, atol=3e-8)
    for c in CURVATURES:
        assert bool(fd.stability.conditions(method, c)) == (np.abs(FORMS[method](c)).max() < 1)


def test_the_window_in_which_looksam_is_held_by_a_saddle_narrows_with_k():
    """|1 + η b − η ρ b²/ε| < (1 + η b)^(1−k): at the edges of that window of radii the condition changes."""
    for k in (1, 2, 5):
        middle, half = (1 + LR) * EPS / LR, (1 + LR) ** (1 - k) * EPS / LR
        for edge in (middle - half, middle + half):
            for side in (-1, 1):
                rho = edge * (1 + side * 1e-6)
                held = bool(fd.stability.conditions(LookSAM(LR, rho, k, ALPHA, eps=EPS), -1.0))
                assert held == (abs(rho - middle) < half)


EDGED = [WSAM(0.1, 0.1, 0.9), WSAM(0.1, 0.1, 0.7, eps=0.1), UnifiedSAM(0.1, 0.1, 0.5), UnifiedSAM(0.1, 0.1, 0.0)]
EDGED += [UnifiedSAM(0.1, 0.1, 0.5, eps=0.1), GSAM(0.1, 0.1, 0.4), WSAM(0.1, 0.1, 0.6, weight_decay=0.3)]


@pytest.mark.parametrize("method", EDGED, ids=range(len(EDGED)))
def test_at_the_edge_of_stability_a_step_turns_the_gradient_round(method):
    """At 0.7/λ on a line of curvature λ the gradient's length is 0.7: it comes to rest on the other side."""
    edge = fd.stability.edge(method, 0.7)
    process = fd.Iteration(fd.landscapes.saddle((edge,)), method)
    there = process.position(process.step(process.init(jnp.array([0.7 / edge]))))[0]
    assert_allclose(there, -0.7 / edge, rtol=1e-12)  # sums of a few numbers: rounding


def test_an_edge_that_hangs_on_the_gradient_is_not_guessed():
    for method in (WSAM(0.1, 0.1, 0.9), UnifiedSAM(0.1, 0.1, 0.5), GSAM(0.1, 0.1, 0.4)):
        with pytest.raises(ValueError, match="give gradient_norm"):
            fd.stability.edge(method)


def test_a_saddle_holds_only_those_that_ascend_with_the_gradient_of_now():
    """A multiplier crosses 1 at ρ |λ| = ε/w, (1 − α) ε, …; for MSAM, LaggedSAM and FriendlySAM(σ = 1) nowhere."""
    for make, threshold in [
        (lambda rho: WSAM(LR, rho, 0.75, eps=EPS), EPS / 3),
        (lambda rho: GSAM(LR, rho, ALPHA, eps=EPS), (1 - ALPHA) * EPS),
        (lambda rho: UnifiedSAM(LR, rho, 0.3, eps=EPS), 1 / (0.7 + 0.3 / EPS)),
        (lambda rho: FriendlySAM(LR, rho, 0.6, 0.5, eps=EPS), EPS / 0.4),
    ]:
        assert not fd.stability.conditions(make(0.999 * threshold), -1.0)
        assert fd.stability.conditions(make(1.001 * threshold), -1.0)
    for rho in (0.1 * EPS, EPS, 3 * EPS, 10 * EPS):
        for method in (MSAM(LR, rho, MU, eps=EPS), LaggedSAM(LR, rho, eps=EPS), FriendlySAM(LR, rho, eps=EPS)):
            assert not fd.stability.conditions(method, -1.0)


def test_where_runs_end_on_a_line_of_curvature_one():
    """Amplitudes of two-cycles, and rests at a distance ρ from the minimum; 1998 steps leave (1 − η)^1998 = 3e-45."""
    lr, rho = 0.05, 0.3
    q = (1 - lr) ** (K - 1)
    plain = {
        WSAM(lr, rho, 0.75): lr * 3 * rho / (2 - lr),
        GSAM(lr, rho, ALPHA): lr * rho / (2 - lr),
        UnifiedSAM(lr, rho, 0.4): lr * rho * 0.4 / (2 - lr * (1 + rho * 0.6)),
        MSAM(lr, rho, 0.9): lr * rho / (2 * 1.9 - lr),
        LookSAM(lr, rho, K, ALPHA): lr * rho * q / (1 + (1 - lr) * q),
        FriendlySAM(lr, rho): rho,
        LaggedSAM(lr, rho): rho,
    }
    for method, amplitude in plain.items():
        state = jax.jit(lambda start, method=method: ended(method, start))(jnp.array([1.0]))
        assert_allclose(abs(state.theta[0]), amplitude, rtol=1e-9, err_msg=repr(method))
        if isinstance(method, MSAM):
            assert_allclose(abs(method.stored(state)[0]), amplitude + rho, rtol=1e-9)


def ended(method, start):
    """The state after 1998 steps, a multiple of K: LookSAM is seen before an ascent."""
    return jax.lax.fori_loop(0, 1998, lambda _, state: method.step(lambda theta: theta, state), method.init(start))


# --- maps that count their steps ------------------------------------------------------------------------------


def test_a_period_that_does_not_fit_is_refused():
    method = LookSAM(LR, RHO, K, ALPHA, eps=EPS)
    once = fd.stability.numeric_jacobian(method, SADDLE, at=(0, 0))
    assert_allclose(fd.stability.numeric_jacobian(method, SADDLE, at=(0, 0), period=2 * K), once @ once, rtol=1e-14)
    process = fd.Iteration(SADDLE, method)
    for ask in (
        lambda: fd.stability.multipliers(method, SADDLE, at=(0, 0), period=2),
        lambda: fd.fixedpoints.find(process, [(-1, 1)] * 2, period=K + 1),
        lambda: fd.fixedpoints.continue_in(lambda rho: process, "rho", (0.1, 0.2), [0.0, 0.0]),
    ):
        with pytest.raises(
            ValueError, match="multiple of 3, the steps after which the map of LookSAM repeats itself, got"
        ):
            ask()
    with pytest.raises(TypeError, match=r"same at every step.*repeats itself only after 3"):
        fd.laws.stationary.covariance(fd.Iteration(fd.landscapes.saddle((2.0, 1.0)), method, fd.noise.Gaussian(0.1)))


def test_exponents_are_means_over_the_period():
    method = LookSAM(LR, RHO, K, ALPHA, eps=EPS)
    wanted = sorted((np.log(abs(FORMS[method](c)[0])) / K for c in CURVATURES), reverse=True)
    exponents = fd.lyapunov_exponents(
        fd.Iteration(SADDLE, method), [0.0, 0.0], 20 * K, transient=10 * K, number=2, progress=False
    )
    assert_allclose(exponents.values, wanted, rtol=1e-12)


def test_rest_is_asked_over_a_period():
    """One step from an ascent, taken for all of them, would hold at this saddle: 1 + b − ρ b² = −0.95 in it, but not in
    five, (−0.95) 1.1⁴ < −1. A minimum holds, whatever step comes next."""
    lr, rho = 0.1, 20.5 * EPS
    method = LookSAM(lr, rho, 5, ALPHA, eps=EPS)
    process, minimum = fd.Iteration(SADDLE, method), fd.Iteration(fd.landscapes.saddle((0.1, 0.2)), method)
    assert -1 < 1 + lr - lr * rho / EPS < -0.9
    for asked, wanted in ((process, False), (minimum, True)):
        state = asked.init(jnp.zeros(2))
        states = [state]
        for _ in range(2):
            states.append(asked.step(states[-1]))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        assert rest.attracting(asked, stacked, 1e-12).tolist() == [wanted] * 3


def test_fixed_points_of_a_map_that_counts():
    process = fd.Iteration(fd.landscapes.double_well(), Lookahead(fd.GD(0.1), 2, 0.5))
    points = fd.fixedpoints.find(process, starts=8, progress=False)
    assert_allclose([point.theta[0] for point in points], [-1, 0, 1], atol=1e-9)
    assert [point.kind for point in points] == ["stable", "saddle", "stable"]
    curvatures = np.array([2.0, -1.0, 2.0])  # of (θ² − 1)²/4 at its three points
    assert_allclose([point.multipliers[0].real for point in points], 0.5 + 0.5 * (1 - 0.1 * curvatures) ** 2, rtol=1e-9)
    assert all(point.period == 2 and point.orbit.shape == (2, 1) for point in points)
    assert "stable fixed point at" in repr(points[0])


# --- what is asked of one gradient ----------------------------------------------------------------------------


def test_the_sharpness_of_several_parts_of_a_batch_is_averaged():
    """m-SAM: each part of a batch ascends by itself; the average in FriendlySAM is that of the whole batch."""
    L = fd.Landscape.from_examples(
        "(a*x - b)**2/2 + y**4/4", {"a": [1.0, 2.0, 3.0, 4.0], "b": [0.0, 1.0, 2.0, 5.0]}, symbols="x y"
    )
    theta, g = np.array([0.7, 1.2]), lambda i, w: np.array([ab[i][0] * (ab[i][0] * w[0] - ab[i][1]), w[1] ** 3])
    ab = [(1.0, 0.0), (2.0, 1.0), (3.0, 2.0), (4.0, 5.0)]
    noise = fd.noise.FiniteSum(4, replace=False, ascent_size=1)

    def moved(method):
        process = fd.Iteration(L, method, noise)
        step = jax.jit(lambda theta, key: process.position(process.step(process.init(theta), key)))
        return np.asarray(step(theta, jax.random.key(0))) - theta

    def ahead(i, direction):
        return g(i, theta + RHO * direction / np.linalg.norm(direction))

    whole = np.mean([g(i, theta) for i in range(4)], axis=0)
    each = np.array([ahead(i, g(i, theta)) for i in range(4)])
    assert_allclose(moved(WSAM(LR, RHO, 0.75)), -LR * (whole + 3 * (each.mean(axis=0) - whole)), rtol=1e-13)
    friendly = np.mean([ahead(i, g(i, theta) - 0.8 * 0.5 * whole) for i in range(4)], axis=0)
    assert_allclose(moved(FriendlySAM(LR, RHO, 0.8, 0.5)), -LR * friendly, rtol=1e-13)
    assert_allclose(moved(LaggedSAM(LR, RHO)), -LR * whole, rtol=1e-13)


def test_coupled_decay_pulls_at_theta_and_through_the_momentum():
    lr, mu, decay = 1e-3, 0.9, 0.3
    gradient = jax.jit(jax.grad(beale))

    def lagged(theta, velocity, last):
        length = np.linalg.norm(last)
        last = np.asarray(gradient(theta + 0.1 * last / (length or 1)))
        velocity = mu * velocity - lr * (last + decay * theta)
        return theta + velocity, velocity, last

    def weighted(theta, velocity, last):
        here = np.asarray(gradient(theta))
        there = np.asarray(gradient(theta + 0.1 * here / np.linalg.norm(here)))
        velocity = mu * velocity - lr * (here + decay * theta)
        return theta + velocity - lr * 3 * (there - here), velocity, last

    for method, rule in (
        (LaggedSAM(lr, 0.1, mu, weight_decay=decay), lagged),
        (WSAM(lr, 0.1, 0.75, mu, weight_decay=decay), weighted),
    ):
        state = np.array([1.0, 1.5]), np.zeros(2), np.zeros(2)
        for theta in np.asarray(jax.jit(lambda start, method=method: run(method, gradient, start))(state[0])):
            state = rule(*state)
            # the same formula, rounded in another order, which 20 steps amplify by at most a hundred
            assert_allclose(theta, state[0], rtol=0, atol=1e-13)


def test_decay_in_the_loss_is_a_steeper_landscape():
    gradient, start, decay = jax.grad(beale), jnp.array([1.0, 1.5]), 0.3
    steeper = jax.grad(lambda w: beale(w) + decay * jnp.sum(w**2) / 2)
    for make in (
        lambda **words: WSAM(1e-3, 0.1, 0.75, 0.9, **words),
        lambda **words: GSAM(1e-3, 0.1, 0.4, 0.9, **words),
        lambda **words: LookSAM(1e-3, 0.1, 2, 0.5, 0.9, **words),
        lambda **words: FriendlySAM(1e-3, 0.1, momentum=0.9, **words),
        lambda **words: MSAM(1e-3, 0.1, 0.9, units="gradient", **words),
    ):
        ours = jax.jit(lambda start, make=make: run(make(weight_decay=decay, decay="loss"), gradient, start))(start)
        # the same sum in another order
        assert_allclose(ours, jax.jit(lambda start, make=make: run(make(), steeper, start))(start), rtol=0, atol=1e-12)


def test_what_knows_one_gradient_of_theta_refuses_what_remembers():
    for method in (LookSAM(0.1, 0.1, 2, 0.5), FriendlySAM(0.1, 0.1), LaggedSAM(0.1, 0.1), WSAM(0.1, 0.1, 0.5, 0.9)):
        line = fd.landscapes.double_well()
        with pytest.raises(TypeError, match="flow needs a method that follows one gradient"):
            fd.flows.Flow(line, method)
        with pytest.raises(TypeError, match="diffusion needs a method that follows one gradient"):
            fd.flows.Diffusion(line, method, fd.noise.Gaussian(0.1), form="derived")
        with pytest.raises(TypeError, match="follows must be a method that follows one gradient"):
            fd.from_optax(optax.adam(0.1), follows=method)
        with pytest.raises(TypeError, match=r"jumps: ask escape_times|counts its steps"):
            fd.escape.exit_law(fd.Iteration(line, method, fd.noise.Gaussian(0.1)), (0.0, 2.0), 1.0)
    with pytest.raises(ValueError, match="LookSAM has no Jacobian at"):
        fd.stability.conditions(LookSAM(0.1, 0.1, 2, 0.5), -1.0)
    with pytest.raises(TypeError, match=r"FriendlySAM[\s\S]* has 3 numbers, too many"):
        fd.stability.conditions(FriendlySAM(0.1, 0.1, momentum=0.5, eps=0.1), -1.0)
    with pytest.raises(TypeError, match="MSAM remembers more than a velocity"):
        fd.stability.threshold(MSAM(0.1, 0.1, 0.5, eps=0.1), -1.0, "rho")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: WSAM(0.1, 0.1, 1.0), ValueError, "gamma must be finite and >= 0 and < 1, got 1.0"),
        (lambda: GSAM(0.1, 0.1, -1.0), ValueError, "alpha must be finite and >= 0, got -1.0"),
        (lambda: UnifiedSAM(0.1, 0.1, 1.5), ValueError, "blend must be finite and >= 0 and <= 1, got 1.5"),
        (lambda: LookSAM(0.1, 0.1, 0, 0.5), ValueError, "k must be"),
        (lambda: LookSAM(0.1, 0.1, 2.5, 0.5), ValueError, "k must be"),
        (lambda: FriendlySAM(0.1, 0.1, ema=1.0), ValueError, "ema must be"),
        (lambda: FriendlySAM(0.1, 0.1, ascents=2), ValueError, "FriendlySAM is one ascent .*got ascents=2"),
        (lambda: MSAM(0.1, 0.1, 0.0), ValueError, "momentum must be above 0, got 0"),
        (lambda: Lookahead(fd.GD(0.1), 0), ValueError, "k must be"),
        (lambda: Lookahead(fd.GD(0.1), 2, 1.5), ValueError, "alpha must be .*<= 1, got 1.5"),
        (lambda: Lookahead(fd.GD(0.1), memory="lose"), ValueError, "memory must be"),
        (lambda: Lookahead(fd.Averaged(fd.GD(0.1))), ValueError, r"use Averaged\(Lookahead"),
        (lambda: Lookahead("SGD"), TypeError, "method must be a Method, got 'SGD'"),
        (
            lambda: Lookahead(fd.ConstrainedSGLD(0.1, fd.constraints.Sphere(1.0))),
            ValueError,
            "a pull leaves the constraint",
        ),
    ],
)
def test_bad_numbers_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_probe_sees_the_first_step_from_rest():
    start, beales = np.array([1.0, 1.5]), fd.landscapes.beale()
    g = np.asarray(beales.grad(start))
    uphill = start + 0.1 * g / np.linalg.norm(g)
    for method, p in (
        (WSAM(1e-3, 0.1, 0.75), uphill),
        (LookSAM(1e-3, 0.1, 3, 0.5), uphill),
        (FriendlySAM(1e-3, 0.1), uphill),
        (FriendlySAM(1e-3, 0.1, copy_first=True), uphill),
        (MSAM(1e-3, 0.1, 0.9), start),
        (LaggedSAM(1e-3, 0.1), start),
    ):
        process = fd.Iteration(beales, method)
        seen = fd.probe(process, start)
        assert_allclose(seen.perturbed, p, rtol=1e-14)  # one formula, rounded twice
        moved = process.position(process.step(process.init(start))) - start
        assert_allclose(seen.followed, -moved / 1e-3, rtol=1e-12)  # a difference of numbers near 1, over 1e-3
