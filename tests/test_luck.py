"""The least noise of an escape: against closed forms, dynamic programming and exact exit laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.escape import Ball, Box, HalfSpace, least_noise, quasipotential

LINE = fd.landscapes.saddle((1.0,))
NOISE = fd.noise.Gaussian(1.0, batch_size=4)
OUT = Ball([0.0], 1.0)
LR, RHO, REACH = 0.1, 0.2, 3.0  # θ, and normal numbers up to which the programs below look


def iteration(method, ascent="shared", landscape=LINE, noise=NOISE):
    return fd.Iteration(landscape, method, noise, ascent=ascent)


@pytest.fixture(scope="module")
def least():
    """The least noise of processes on the line, each searched for once."""
    known = {}

    def get(name):
        if name not in known:
            known[name] = least_noise(
                PROCESSES[name], [0.0], inside=OUT, attempts=ATTEMPTS.get(name, 1), progress=False
            )
        return known[name]

    return get


PROCESSES = {
    "GD": iteration(fd.GD(LR)),
    "USAM": iteration(fd.USAM(LR, RHO)),
    "heavy ball": iteration(fd.GD(LR, momentum=0.5)),
    "SAM, full": iteration(fd.SAM(LR, RHO), "full"),
    "SAM, shared": iteration(fd.SAM(LR, RHO)),
    "SAM, independent": iteration(fd.SAM(LR, RHO), "independent"),
}


ATTEMPTS = {"SAM, full": 4, "SAM, shared": 2, "SAM, independent": 2}  # others have no other way out than ± one


def dynamic_programming(steps, size=401, sweeps=None):
    """V(0) = min over z of ‖z‖²/2 + V(F(0, z)), V = 0 outside of (−1, 1), by iteration on a grid.

    Interpolation between points h apart adds up to V″ h²/8 a step: 19 (0.005)²/8 × 60 steps = 0.4 % of 9.5 at most,
    and a tenth of that is seen, as most steps are near 0, where V is flat.
    """
    x = np.linspace(-1, 1, size)
    after, cost = (np.concatenate(part, axis=1) for part in zip(*steps(x[:, None]), strict=True))
    place = np.clip((after + 1) / (x[1] - x[0]), 0, size - 1 - 1e-9)
    left, out = place.astype(int), np.abs(after) >= 1
    share, cost, after = jnp.asarray(place - left), jnp.asarray(cost), None

    @jax.jit
    def improved(V):
        return jnp.minimum(V, jnp.where(out, cost, cost + (1 - share) * V[left] + share * V[left + 1]).min(axis=1))

    V = jnp.full(size, 1e3)
    for sweep in range(1000):
        V, before = improved(V), V
        if np.abs(V - before).max() < 1e-9 or sweep + 1 == sweeps:
            return float(V[size // 2])
    raise AssertionError("no limit")


def pushed(drift, size=LR):
    """Steps θ + drift(θ) − size z."""
    z = np.linspace(-REACH, REACH, 1201)[None]
    return lambda x: [(x + drift(x) - size * z, z**2 / 2 + 0 * x)]


def shared(x):
    """Both branches of SAM's step, u = ±1, by the length r of the sampled gradient θ + z = r u, r = 0 included."""
    r = np.linspace(0, REACH, 601)[None]
    return [(x - LR * u * (r + RHO), (u * r - x) ** 2 / 2) for u in (1, -1)]


def independent(x):
    """An ascent along u costs θ²/2 if θ itself points the other way, as its own sample is to turn it round."""
    z = np.linspace(-REACH, REACH, 1201)[None]
    return [(x - LR * (x + RHO * u + z), z**2 / 2 + np.where(u * x > 0, 0, x**2 / 2)) for u in (1, -1)]


PROGRAMS = {
    "GD": pushed(lambda x: -LR * x),
    "USAM": pushed(lambda x: -LR * (1 + RHO) * x, LR * (1 + RHO)),
    "SAM, shared": shared,
    "SAM, independent": independent,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_least_noise_is_that_of_dynamic_programming(name, least):
    assert_allclose(least(name).cost, dynamic_programming(PROGRAMS[name]), rtol=1e-3)


def test_an_ascent_without_noise_rides_on_the_jump_at_a_minimum(least):
    """From 0 by next to nothing to 0⁻, whose ascent leads on to η λ ρ, and steps outward from there.

    In y = θ + ρ the steps are y⁺ = (1 − ηλ) y − η z, from y = (ρ + ηλρ)/(1 − ηλ): V = ((1 + ρ)² − y²) λ(2 − ηλ)/(2η)
    in the best number of steps, if that were no whole one.
    """
    on = least("SAM, full")
    shifted = (LR * RHO + RHO) / (1 - LR)
    assert_allclose(on.cost, ((1 + RHO) ** 2 - shifted**2) * (2 - LR) / (2 * LR), rtol=1e-4)  # of so many steps
    assert on.riding[1] or on.riding[0]


@pytest.mark.slow
def test_an_ascent_without_noise_by_dynamic_programming(least):
    """V jumps at θ = 0, which a grid smears: 13.124 and 13.118 at 801 and 1601 points, after so many sweeps."""
    at = dynamic_programming(pushed_by_sam, 1601, sweeps=600)
    assert_allclose(least("SAM, full").cost, at, rtol=1e-3)


def pushed_by_sam(x):
    z = np.linspace(-REACH, REACH, 1201)[None]
    return [(x - LR * (x + RHO * np.sign(x) + z), z**2 / 2 + 0 * x)]


@pytest.mark.slow
def test_heavy_ball_by_dynamic_programming(least):
    """In the pair (θ, v), on a grid and one twice as fine: errors fall like h², so a third of the change is left."""
    costs = []
    for size in (101, 201):
        theta, v = np.linspace(-1, 1, size), np.linspace(-0.35, 0.35, size)
        z = np.linspace(-REACH, REACH, 241)
        moved = 0.5 * v[None, :, None] - LR * (theta[:, None, None] + z)
        after = theta[:, None, None] + moved
        place = [(after + 1) / (theta[1] - theta[0]), (moved + 0.35) / (v[1] - v[0])]
        out, cost = np.abs(after) >= 1, jnp.asarray(z**2 / 2)

        @jax.jit
        def improved(V, out=out, place=place, cost=cost):
            onwards = jax.scipy.ndimage.map_coordinates(V, place, order=1, mode="constant", cval=1e3)
            return jnp.minimum(V, jnp.where(out, cost, cost + onwards).min(axis=2))

        V = jnp.full((size, size), 1e3)
        for _ in range(150):
            V = improved(V)
        costs.append(float(V[size // 2, size // 2]))
    assert_allclose(least("heavy ball").cost, costs[1] + (costs[1] - costs[0]) / 3, rtol=1e-3)


def test_straight_problems_have_closed_forms(least):
    """V = L²/(2 sup Var θ_n) where θ is normal: GD's λ(2 − ηλ)L²/(2η), and the same with other numbers."""
    assert_allclose(least("GD").cost, (2 - LR) / (2 * LR), rtol=1e-8)
    a, b = 1 - LR * (1 + RHO), LR * (1 + RHO)
    assert_allclose(least("USAM").cost, (1 - a**2) / (2 * b**2), rtol=1e-8)
    J = np.array([[1 - LR, 0.5], [-LR, 0.5]])
    law = np.linalg.solve(np.eye(4) - np.kron(J, J), np.full(4, LR**2))  # both numbers move by −η z
    assert_allclose(least("heavy ball").cost, 1 / (2 * law[0]), rtol=1e-8)


def test_each_answer_is_certified(least):
    for name in PROCESSES:
        on = least(name)
        assert on.gradient_norm < 1e-5, name  # 1e-7 is seen; V's error is its square
        assert on.curvature > 0.1, name  # 0.5 to 1 is seen
        assert on.miss < 1e-9, name
        assert on.replayed < 1e-9, name
        assert on.settled, name
        assert on.riding.any() == name.startswith("SAM"), name
        assert_allclose(np.sum(on.noise**2) / 2, on.cost, rtol=1e-12)
        assert_allclose(np.abs(on.path[-1]), 1, rtol=1e-8)


def test_the_noise_leads_there_step_by_step(least):
    for name in PROCESSES:
        process, on = PROCESSES[name], least(name)
        process = fd.Iteration(LINE, process.method, fd.noise.Gaussian(1.0), ascent=process.ascent)
        state = process.init(jnp.array([0.0]))
        for z in on.noise:
            state = process.driven(state, jnp.asarray(z))
        assert_allclose(process.position(state), on.path[-1], rtol=1e-8)


def test_a_search_that_follows_derivatives_alone_gets_sam_wrong(least):
    """With ε > 0 the step has derivatives everywhere; V is above that of the jump, on which paths can't ride."""
    assert least("SAM, shared").cost < 0.7 * least("GD").cost
    smooth = iteration(fd.SAM(LR, RHO, eps=0.3))
    assert least("SAM, shared").cost < least_noise(smooth, [0.0], inside=OUT, progress=False, attempts=2).cost


@pytest.mark.parametrize(
    ("name", "batches", "slopes"),
    [
        ("GD", (1.0, 1.5, 2.5), (9.554, 9.600)),
        ("SAM, full", (1.0, 1.5), (13.163,)),
        ("SAM, shared", (1, 2, 3), (7.41, 7.13)),
    ],
)
def test_slopes_of_the_log_mean_exit_time_approach_the_cost(name, batches, slopes, least):
    """ln E T against B, from exit laws.

    Shared noise approaches V far more slowly. A step that rides needs a normal number beyond c, not near it, and of
    variance 1/B that has the chance exp(−B c²/2)/(c √(2πB)) for c √B > 1: a factor √B for each such step, k/(2B) more
    in the slope.
    """
    process = PROCESSES[name]
    noises = [fd.noise.Gaussian(1.0, size) for size in batches]
    laws = [fd.escape.exit_law(iteration(process.method, process.ascent, LINE, one), (-1, 1), 0.0) for one in noises]
    seen = np.diff([np.log(law.mean) for law in laws]) / np.diff(batches)
    assert_allclose(seen, slopes, rtol=1e-3)
    away = np.abs(seen / least(name).cost - 1)
    assert away.max() < (0.012 if name != "SAM, shared" else 0.2)
    assert name != "SAM, shared" or away[1] < 0.8 * away[0]


def test_points_and_coordinates():
    """Quasi-potential of GD's discrete Ornstein-Uhlenbeck law: Σ λᵢ (2 − η λᵢ) xᵢ²/(2 η s²)."""
    curvature, at, s = np.array([1.0, 3.0]), np.array([0.7, -0.4]), 0.5
    process = iteration(fd.GD(LR), landscape=fd.landscapes.saddle((1.0, 3.0)), noise=fd.noise.Gaussian(s, 7))
    V = np.sum(curvature * (2 - LR * curvature) * at**2 / (2 * LR * s**2))
    on = least_noise(process, [0.0, 0.0], at, attempts=1, progress=False)
    assert_allclose(on.cost, V, rtol=1e-8)
    assert_allclose(on.log_mean(7), 7 * V, rtol=1e-8)
    assert_allclose(on.log_mean([1, 2]), [V, 2 * V], rtol=1e-8)
    box = Box([(-0.6, 0.7), (-2.0, 2.0)])  # left by the lower side of x
    out = least_noise(process, [0.0, 0.0], inside=box, attempts=1, progress=False)
    assert_allclose(out.cost, 1.9 * 0.6**2 / (2 * LR * s**2), rtol=1e-7)
    assert out.path[-1, 0] < -0.59


def test_where_no_noise_is_needed():
    unstable = iteration(fd.GD(LR), landscape=fd.landscapes.saddle((-1.0,)))
    on = least_noise(unstable, [0.1], inside=OUT, progress=False)
    assert on.cost == 0
    assert on.steps == 25  # 0.1 × 1.1²⁵ is the first beyond 1
    top = least_noise(unstable, [0.0], inside=OUT, progress=False, attempts=2)
    assert top.cost < 1e-6
    assert top.settled


def test_a_record_of_the_least_noise(tmp_path, least):
    on = least("GD")
    again = fd.escape.LeastNoise.load(on.save(tmp_path / "luck.npz"))
    assert repr(again) == repr(on) == f"LeastNoise(cost 9.5 in {on.steps} steps; float64)"
    assert_allclose(again.path, on.path)


class Scoreless:
    def __call__(self, theta):
        return theta[0] > 1


def test_what_has_no_least_noise_is_refused():
    good = {"process": PROCESSES["GD"], "start": [0.0], "inside": OUT, "progress": False}
    batches = fd.Landscape.from_examples("(w - a)**2", {"a": [0.0, 1.0]}, symbols="w")
    half = fd.landscapes.saddle((1.0, 1.0))
    one_sided = fd.noise.Gaussian([1.0, 0.0])
    cases = [
        ({"process": iteration(fd.GD(LR), noise=fd.noise.Exact())}, TypeError, "must be random"),
        ({"process": iteration(fd.GD(LR), "shared", batches, fd.noise.FiniteSum(1))}, TypeError, "normal numbers"),
        ({"start": [2.0]}, ValueError, "inside the region that is to be left"),
        ({"target": [0.0], "inside": None}, ValueError, "outside of the target"),
        ({"target": [2.0]}, ValueError, "either target"),
        ({"inside": None}, ValueError, "either target"),
        ({"inside": Scoreless()}, TypeError, "score"),
        ({"inside": Ball([0.0, 0.0], 1.0)}, ValueError, "coordinates"),
        ({"process": iteration(fd.SAM(LR, RHO, p=np.inf))}, TypeError, "one ascent"),
        ({"process": iteration(fd.SAM(LR, RHO), landscape=half, noise=one_sided), "start": [0.0, 0.0],
          "inside": Ball([0.0, 0.0], 1.0)}, ValueError, "every coordinate"),
        ({"process": iteration(fd.GD(LR), landscape=half, noise=one_sided), "start": [0.0, 0.0], "attempts": 1,
          "max_steps": 16, "inside": HalfSpace([0.0, 1.0], 1.0)}, ValueError, "no attempt reached the target"),
        ({"steps": 0}, ValueError, "steps"),
        ({"attempts": 0}, ValueError, "attempts"),
        ({"tolerance": -1.0}, ValueError, "tolerance"),
    ]  # fmt: skip
    for changed, error, words in cases:
        with pytest.raises(error, match=words):
            least_noise(**good | changed)


@pytest.mark.slow
@pytest.mark.parametrize(("ascent", "programmed"), [("shared", 4.6733), ("independent", 5.4141), ("full", 8.2336)])
def test_sam_over_a_barrier_by_dynamic_programming(ascent, programmed):
    """From the minimum −1 of w⁴/4 − w²/2 to w > 0: dynamic programming at 451 and 901 points, and what they lead to:
    4.6782, 4.6745; 5.4181, 5.4151; 8.282, 8.257 (which falls like h, to 8.232, as V jumps at −1)."""
    well = fd.Landscape.from_expression("w**4/4 - w**2/2", "w")
    on = least_noise(iteration(fd.SAM(0.05, RHO), ascent, well), [-1.0], HalfSpace([-1.0], 0.0), progress=False)
    assert_allclose(on.cost, programmed, rtol=1e-3)
    assert_allclose(on.programmed, programmed, rtol=6e-3)  # at 401 points


# --- more coordinates, other methods, differential equations ---------------------------------------------------


def test_in_the_plane_an_ascent_turns_to_any_side_on_the_jump(least):
    """Where all directions are alike the cheapest path is straight, and that of the line."""
    process = iteration(fd.SAM(LR, RHO), landscape=fd.landscapes.saddle((1.0, 1.0)))
    on = least_noise(process, [0.0, 0.0], inside=Ball([0.0, 0.0], 1.0), steps=32, attempts=2, progress=False)
    assert_allclose(on.cost, least("SAM, shared").cost, rtol=1e-3)  # 33 steps are the best, and cost 0.0007 less
    across = on.path - np.outer(on.path @ on.path[-1], on.path[-1])
    assert np.abs(across[on.path @ on.path[-1] > 0.1]).max() < 1e-2
    assert on.riding.sum() > 10
    assert repr(on).endswith("in 32 steps, others not known to cost more; float64)")
    assert on.replayed < 1e-6  # a direction is known to 1e-16/1e-9, and moves θ by ηλρ
    assert abs(on.curvature) < 1e-3  # the path can be turned as a whole


def test_adam_from_optax(least):
    """With ε as large as the noise its steps have derivatives; it takes shorter ones than GD, so V is above that."""
    adam = iteration(fd.from_optax(optax.adam(LR, eps=1.0)), noise=fd.noise.Gaussian(1.0))
    on = least_noise(adam, [0.0], inside=OUT, attempts=2, max_steps=64, progress=False)
    assert on.gradient_norm < 1e-5
    assert on.curvature > 0
    state = adam.init(jnp.array([0.0]))
    for z in on.noise:
        state = adam.driven(state, jnp.asarray(z))
    assert_allclose(adam.position(state), on.path[-1], rtol=1e-8)
    assert least("GD").cost < on.cost < 2 * least("GD").cost


def test_a_network_leaves_its_saddle_along_the_direction_in_which_runs_spread():
    """Nearby it is straight: V = R²/(2 λ), λ the largest eigenvalue of the covariance η² s² Σ Jᵏ (Jᵏ)ᵀ of θ_n."""
    x = np.linspace(-1, 1, 24).reshape(12, 2)
    split = fd.networks.Split(x, (x[:, 0] > 0).astype(int))
    saddle = fd.networks.zero_unit(fd.networks.MLP((2, 3, 2), jax.random.key(0), jnp.tanh), split, 0.1)
    at, lr, steps, radius = np.asarray(saddle.theta), 0.2, 64, 0.01
    process = fd.Iteration(saddle.landscape, fd.GD(lr), fd.noise.Gaussian(0.1))
    on = least_noise(process, at, inside=Ball(at, radius), steps=steps, attempts=1, progress=False)
    multipliers = 1 - lr * np.linalg.eigvalsh(np.asarray(saddle.landscape.hessian(jnp.asarray(at))))
    spread = max(np.sum(multipliers[:, None] ** (2 * np.arange(steps)), axis=1))
    assert_allclose(on.cost, radius**2 / (2 * (lr * 0.1) ** 2 * spread), rtol=1e-3)  # the rest falls as R²
    assert on.curvature > 0


def test_a_diffusion_has_the_action_of_freidlin_and_wentzell():
    """Steps of dt of dθ = −θ dt + √η dW cost (2 − dt) x²/(2η): x²/η, up to dt; those of dt = η are GD's."""
    diffusion = fd.flows.Diffusion(LINE, fd.GD(LR), NOISE, dt=0.02)
    on = least_noise(diffusion, [0.0], inside=OUT, attempts=1, progress=False)
    assert_allclose(on.cost, (2 - 0.02) / (2 * LR), rtol=1e-7)


class MaierStein(fd.processes.Process):
    """du = (u − u³ − β u v²) dt + dW,   dv = −(1 + u²) v dt + dW, by steps of dt."""

    beta: float
    dt: float
    dim, draws, random, box = 2, 2, True, None

    def init(self, theta):
        return theta

    def position(self, state):
        return state

    def driven(self, state, normals):
        u, v = state
        drift = jnp.stack([u - u**3 - self.beta * u * v**2, -(1 + u**2) * v])
        return state + self.dt * drift + jnp.sqrt(self.dt) * normals


def without_dt(costs):
    """The limit of two costs, at dt and dt/2, whose errors fall like dt²."""
    return costs[1] + (costs[1] - costs[0]) / 3


@pytest.mark.slow
@pytest.mark.parametrize(("beta", "barrier", "error"), [(1.0, 0.5, 2e-4), (10.0, 0.338, 1e-3)])
def test_the_barrier_of_maier_and_stein(beta, barrier, error):
    """1/2 for β ≤ 4, along the axis (Maier, Stein, PRL 71, 1783 (1993)); beside it for β = 10: 0.338 ± 0.001 by the
    geometric minimum action method in the tests of CriticalTransitions.jl (test/issue14.jl)."""
    options = {"attempts": 2, "max_steps": 512, "rtol": 1e-4, "progress": False}
    ways = [least_noise(MaierStein(beta, dt), [-1.0, 0.0], [0.0, 0.0], **options) for dt in (0.1, 0.05)]
    assert_allclose(without_dt([way.cost for way in ways]), barrier, atol=error)
    aside = np.abs(ways[1].path[:, 1]).max()
    assert (aside > 0.3) if beta > 4 else (aside < 1e-3)


@pytest.mark.slow
def test_the_barrier_of_muller_and_brown():
    """2 ΔL/(η s²) from the deepest minimum to the saddle, ΔL = 146.700 − 40.665 (Müller, Brown 1979), in small steps.

    Largest curvature × dt is 1.6 at first, so a hundredth of V is left by the first step size and 3e-3 by both.
    """
    landscape, costs = fd.landscapes.muller_brown(), []
    for dt in (2e-4, 1e-4):
        diffusion = fd.flows.Diffusion(landscape, fd.GD(dt), fd.noise.Gaussian(1.0))
        options = {"attempts": 1, "max_steps": 512, "rtol": 1e-4, "progress": False}
        way = least_noise(diffusion, [-0.55822363, 1.44172584], [-0.82200156, 0.6243128], **options)
        costs.append(float(way.cost) * dt / 2)
    assert_allclose(without_dt(costs), 146.6995172 - 40.6648435, rtol=1e-3)


# --- the quasi-potential ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bowl():
    """GD on a quadratic, and its field."""
    process = iteration(fd.GD(LR), landscape=fd.landscapes.saddle((1.0, 3.0)), noise=fd.noise.Gaussian(0.5, 7))
    return process, quasipotential(process, [(-1, 1), (-0.7, 0.9)], [0.0, 0.0], resolution=5, progress=False)


def test_the_field_of_a_quadratic_is_that_of_its_discrete_law(bowl):
    """Σ λᵢ (2 − η λᵢ) xᵢ²/(2 η s²) in all places, and its slope."""
    field = bowl[1]
    x, y = np.meshgrid(*field.axes)
    V = (1.9 * x**2 + 3 * 1.7 * y**2) / (2 * LR * 0.25)
    assert_allclose(field.values, V, atol=1e-8 * V.max())
    assert_allclose(field.slope[..., 0], 1.9 * x / (LR * 0.25), atol=1e-5 * 76)  # it converges as the root of V does
    assert field.change < 1e-6


@pytest.mark.slow
def test_a_field_is_least_noise_at_each_point():
    """Out of one of two wells, with a hill that paths go round on either side."""
    wells = fd.Landscape.from_expression("((x**2 - 1)**2 + 2*y**2)/4 + exp(-8*x**2 - 8*y**2)/3", "x y", name="hill")
    process = iteration(fd.USAM(LR, RHO), landscape=wells, noise=fd.noise.Gaussian(0.5))
    field = quasipotential(
        process, [(-1.2, 0.0), (-0.8, 0.8)], [-1.0, 0.0], resolution=5, max_steps=128, progress=False
    )
    # 4e-5 is seen, on top of the hill, where 128 steps are few
    assert_allclose(field.values, field.values[::-1], rtol=1e-4)  # as y and −y are the same
    for row, column in ((2, 4), (1, 3)):
        at = [field.axes[0][column], field.axes[1][row]]
        one = least_noise(process, [-1.0, 0.0], at, attempts=4, max_steps=128, progress=False)
        assert_allclose(field.values[row, column], one.cost, rtol=1e-4)


def test_a_field_on_a_line_and_what_it_refuses(tmp_path, bowl):
    well = fd.Landscape.from_expression("w**4/4 - w**2/2", "w")
    diffusion = fd.flows.Diffusion(well, fd.GD(0.02), fd.noise.Gaussian(1.0))
    on = quasipotential(diffusion, [(-1, -0.2)], [-1.0], resolution=4, steps=256)
    gradient = 2 * (on.axes[0] ** 4 / 4 - on.axes[0] ** 2 / 2 + 0.25) / 0.02
    assert_allclose(on.values, gradient, atol=0.01 * gradient.max())  # 2 ΔL/(η s²), up to what dt = η makes
    again = fd.escape.QuasiPotential.load(on.save(tmp_path / "field.npz"))
    assert repr(again) == repr(on)
    with pytest.raises(TypeError, match="signs of ascents"):
        quasipotential(PROCESSES["SAM, shared"], [(-1, 1)], [0.0])
    with pytest.raises(TypeError, match="least_noise for single points"):
        quasipotential(iteration(fd.GD(LR), landscape=fd.landscapes.saddle((1.0,) * 3)), [(-1, 1)] * 3, [0.0] * 3)
    with pytest.raises(ValueError, match="resolution"):
        quasipotential(bowl[0], [(-1, 1)] * 2, [0.0, 0.0], resolution=1)


def test_paths_and_fields_are_drawn(bowl):
    figure = Figure()
    ax = figure.add_subplot()
    contours = fd.plotting.draw_quasipotential(ax, bowl[1], levels=[1.0, 10.0, 50.0])
    assert len(contours.levels) == 3
    path = least_noise(bowl[0], [0.0, 0.0], [1.0, 0.5], steps=16, attempts=1, progress=False)
    (x, y) = fd.plotting.draw_least_noise(ax, path, label="cheapest").get_data()
    assert_allclose([x[-1], y[-1]], [1.0, 0.5])
