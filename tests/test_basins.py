"""Basin maps: against independent counts, closed forms and linear theory; and what no result may depend on."""

import hashlib
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.basins import Basins, Sample
from flatdyn.basins.attractors import given
from flatdyn.basins.labels import DIVERGED, UNDECIDED
from flatdyn.core import segments
from flatdyn.runs import queues

H, BEALE = fd.landscapes.himmelblau(), fd.landscapes.beale()
BOX = [(-5, 5), (-5, 5)]
COUNTED = 0.002  # what fractions may differ from the reference by; the same rule on a 401 grid differs by 2e-4


def flow(landscape):
    """−∇L/(1 + ‖∇L‖) by the midpoint rule: the gradient flow's own curves, hence its basins, and never stiff."""

    def velocity(theta):
        g = landscape.grad(theta)
        return -g / (1 + jnp.linalg.norm(g))

    def step(theta, h=0.01):
        return theta + h * velocity(theta + h / 2 * velocity(theta))

    return fd.Map(step, 2, box=landscape.box)


def method(row):
    kind = row["method"].split()[0]
    return {"GD": fd.GD, "SAM": fd.SAM, "USAM": fd.USAM}[kind](row["eta"], *([row["rho"]] if "rho" in row else []))


# --- independent counts ---------------------------------------------------------------------------------------


@pytest.mark.optimised
@pytest.mark.parametrize("number", range(6))
def test_himmelblau_fractions_are_those_of_independent_code(reference, number):
    row = reference["7_basins"]["himmelblau"]["rows"][number]
    short = {"minimum": "min", "maximum": "max", "saddle": "saddle"}
    points = {f"{short[p.kind]}({p.theta[0]:.4f},{p.theta[1]:.4f})": p.theta for p in H.critical_points()}
    flows = "flow" in row["method"]
    process, side = (flow(H), 101) if flows else (fd.Iteration(H, method(row)), 201)  # on 101 a flow's differ by 4e-4
    rules = {"max_steps": 5000, "radius": 0.25, "progress": False}  # a quarter of the reference's steps: all arrive
    found = fd.map_basins(process, BOX, side, points, **rules).fractions()
    for name, expected in row["fractions"].items():
        ours = found["undecided" if name == "other" else name]
        assert abs(ours - expected) <= COUNTED, (row["method"], name, ours, expected)


VALLEY = 9.864512  # a sublevel of Beale in which the valleys are apart (theory: L ≥ 9.8645 where they would meet)
SADDLES = {"saddle(0,1)": (0.0, 1.0), "saddle(0.1005,-2.6445)": (0.1005379373, -2.644513585)}


def sublevels(absorbing):
    def low(theta):
        return BEALE.loss(theta) < VALLEY

    tests = {
        "left valley x<0": lambda t: low(t) & (t[0] < 0),
        "min(3,0.5) component": lambda t: low(t) & (t[0] > 0) & (t[1] > -2.6445),
        "down valley y<-2.6445": lambda t: low(t) & (t[0] > 0) & (t[1] <= -2.6445),
    }
    return {name: fd.Region(name, inside, absorbing) for name, inside in tests.items()}


# Three rows ask each method at a tenth of the step, with as many more steps, where another row stays.
@pytest.mark.optimised
@pytest.mark.parametrize("number", [0, 1, 2, 6, *(pytest.param(row, marks=pytest.mark.slow) for row in (3, 4, 5))])
def test_beale_fractions_are_those_of_independent_code(reference, number):
    row = reference["7_basins"]["beale"]["rows"][number]
    if "flow" in row["method"]:
        attractors, process, steps = sublevels(True), flow(BEALE), 20_000
    else:
        attractors, process, steps = SADDLES | sublevels(False), fd.Iteration(BEALE, method(row)), row["N"] // 4
    # after a quarter of the reference's steps each fraction is its last one within 2e-4, in row 3 within 1.4e-3
    rules = {"radius": 0.1, "max_steps": steps, "tol": 0.0, "progress": False}
    found = fd.map_basins(process, [(-4.5, 4.5)] * 2, 121, attractors, **rules).fractions()
    for name, expected in row["fractions"].items():
        ours = found.get("undecided" if name == "other" else name, 0.0)
        assert abs(ours - expected) <= COUNTED, (row["method"], name, ours, expected)


# --- exactly known basins -------------------------------------------------------------------------------------


def newton(theta):
    z = theta[0] + 1j * theta[1]
    z = z - (z**3 - 1) / (3 * z**2)
    return jnp.stack([z.real, z.imag])


NEWTON = fd.Map(newton, 2)
ROOTS = np.array([(1, 0), (-0.5, 3**0.5 / 2), (-0.5, -(3**0.5) / 2)])


def test_newtons_map_for_three_roots_of_one():
    found = fd.map_basins(NEWTON, [(-1, 1)] * 2, 250, ROOTS, max_steps=200, check_every=1)
    assert_allclose(list(found.fractions().values())[:3], 1 / 3, atol=0.005)
    x, y = found.coordinates()
    z = x + 1j * y[:, None]
    with np.errstate(all="ignore"):
        for _ in range(200):
            z = z - (z**3 - 1) / (3 * z**2)
    plain = np.argmin(np.abs(z[..., None] - (ROOTS[:, 0] + 1j * ROOTS[:, 1])), axis=-1)
    # two ways to round can part only where the boundary is within rounding: no point of 62,500 is, give or take a few
    assert (plain != found.labels)[np.isfinite(z)].sum() <= 5


def test_newtons_three_basins_in_a_disc_are_equal_by_symmetry():
    def disc(key, runs):
        radius, angle = np.asarray(jax.random.uniform(key, (2, runs)))
        angle = 2 * np.pi * angle
        return 2 * np.sqrt(radius)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    for seed in range(3):
        found = fd.basin_fractions(NEWTON, disc, 20_000, jax.random.key(seed), ROOTS, max_steps=200, check_every=1)
        for name in found.names:  # 4 standard errors, nine comparisons: a false alarm once in 1700 times
            assert abs(found.fractions()[name] - 1 / 3) <= 4 * found.errors()[name]


def test_capture_set_of_the_symmetric_saddle():
    lr, rho, side = 1e-3, 0.5, 81
    saddle = fd.landscapes.saddle((2, -2))  # x² − y²
    box = [(-4 * rho, 4 * rho)] * 2
    found = fd.map_basins(
        fd.Iteration(saddle, fd.SAM(lr, rho)), box, side, [(0.0, 0.0)], bound=20 * rho, max_steps=10_000
    )
    points = np.stack(np.meshgrid(*found.coordinates()), axis=-1)
    exact = fd.quadratic.captured(points, rho)
    differ = (found.labels == 0) != exact
    # the set is the flow's; with finite η its boundary moves by O(η), less than a cell of 0.05: only cells that have a
    # neighbour of the other kind may differ
    padded = np.pad(exact, 1, mode="edge")
    neighbours = np.stack([padded[1 + i : side + 1 + i, 1 + j : side + 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    assert not (differ & (neighbours == exact).all(axis=0)).any()
    assert set(found.counts()) == {"point (0, 0)", "diverged", "undecided"}
    # two points of the grid are fixed without being critical, exactly: (0, ±ρ), where SAM looks at the saddle itself
    assert_array_equal(points[found.labels == UNDECIDED], [(0, -rho), (0, rho)])


@pytest.mark.parametrize("rho", [0.015, 0.022, 0.028, 0.033, 0.065, 0.08])
def test_usam_is_trapped_on_himmelblau_where_linear_theory_says(rho):
    points = H.critical_points()
    process = fd.Iteration(H, fd.USAM(1e-3, rho))
    attracting = {i for i, p in enumerate(points) if np.abs(fd.stability.multipliers(process, at=p.theta)).max() < 1}
    starts = np.concatenate([p.theta + 1e-3 * np.array([[1, 0], [0, 1], [-1, -1]]) for p in points])
    key = jax.random.key(0)
    found = fd.basin_fractions(process, lambda key, runs: starts, len(starts), key, points, max_steps=5000)
    ends = found.labels.reshape(len(points), 3)
    held = {i for i in range(len(points)) if (ends[i] == i).all()}
    assert held == attracting
    saddles = {i for i in attracting if points[i].kind == "saddle"}
    assert saddles == {i for i, p in enumerate(points) if p.kind == "saddle" and rho * -p.eigenvalues[0] > 1}


def test_basin_stability_of_a_double_well():
    well = fd.Iteration(fd.landscapes.double_well(1), fd.GD(0.01))
    for seed in range(3):
        value, error = fd.basin_stability(well, (1.0,), [(-1.0, 2.0)], 3000, jax.random.key(seed), max_steps=2000)
        assert abs(value - 2 / 3) <= 4 * error  # the basin of 1 is x > 0, two thirds of the box
        assert_allclose(error, np.sqrt(value * (1 - value) / 3000), rtol=1e-3)


# --- discovery ------------------------------------------------------------------------------------------------


SIDE = 45  # one size of maps, so that few programs are compiled
SHORT = {"max_steps": 5000}  # five times as many as any run needs


@pytest.fixture(scope="module")
def discovered():
    return fd.map_basins(fd.Iteration(H, fd.SAM(1e-3, 0.5)), BOX, SIDE, **SHORT)


def test_discovered_attractors_give_the_same_fractions_as_given_ones(discovered):
    ours = discovered
    known = fd.map_basins(fd.Iteration(H, fd.SAM(1e-3, 0.5)), BOX, SIDE, H.critical_points(), **SHORT)
    assert len(ours.attractors) == 9
    for attractor in ours.attractors:
        point = min(H.critical_points(), key=lambda p, a=attractor: np.linalg.norm(p.theta - a.theta))
        assert attractor.kind == point.kind
        name = next(a.name for a in known.attractors if np.allclose(a.theta, point.theta))
        assert ours.fractions()[attractor.name] == known.fractions()[name]


def test_a_chaotic_band_is_one_attractor_and_not_noise():
    found = fd.map_basins(fd.Iteration(H, fd.SAM(1e-3, 1.0)), BOX, SIDE, **SHORT)
    saddles = [a for a in found.attractors if a.kind == "saddle"]
    assert len(saddles) == 4
    assert any(a.period == 0 for a in saddles)
    assert found.counts()["undecided"] == 0


class Logistic(eqx.Module):
    """r is a number that the map holds: other values need no new program."""

    r: float

    def __call__(self, x):
        return self.r * x * (1 - x)


@pytest.mark.parametrize(("r", "period"), [(2.8, 1), (3.2, 2), (3.5, 4), (3.83, 3), (3.7, 0)])
def test_points_cycles_and_bands_of_the_logistic_map(r, period):
    found = fd.map_basins(fd.Map(Logistic(r), 1), [(0.01, 0.99)], 101, max_steps=5000)
    (attractor,) = found.attractors
    assert attractor.period == period
    assert found.fractions()[attractor.name] == 1
    if period:
        x = attractor.points[:, 0]
        assert_allclose(np.sort(r * x * (1 - x)), np.sort(x), atol=1e-9)
        assert len(x) == period


def test_two_points_that_no_run_connects_are_two_attractors():
    found = fd.map_basins(fd.Map(lambda x: jnp.where(x < 0, x / 2 - 1, x / 2 + 1), 1), [(-5, 5)], 200)
    assert_allclose(sorted(a.theta[0] for a in found.attractors), [-2, 2], atol=1e-6)
    assert list(found.fractions().values())[:2] == [0.5, 0.5]


def test_a_run_that_drifts_away_slowly_is_no_attractor():
    # x grows like √(2k): never at rest, no bound reached
    found = fd.map_basins(fd.Map(lambda x: x + 1 / x, 1), [(1.0, 3.0)], 32, max_steps=4000)
    assert found.attractors == []
    assert found.counts() == {"diverged": 0, "undecided": 32}


def test_a_run_that_creeps_on_a_flat_floor_is_no_attractor_and_one_that_converges_slowly_is():
    def floor(theta):  # across: at rest at once, or bouncing; along: 4e-7 a step, 0.001 in a quarter, of a box of 3
        return jnp.stack([theta[0] + 4e-7, -0.5 * jnp.sign(theta[1]) * 0.01])

    creeping = fd.map_basins(fd.Map(floor, 2), [(0.0, 3.0), (-1.0, 1.0)], 12, max_steps=10_000)
    assert creeping.attractors == []
    slow = fd.map_basins(fd.Map(lambda t: t * (1 - 1e-3), 1), [(1.0, 3.0)], 12, max_steps=10_000)
    assert len(slow.attractors) == 1  # e⁻¹⁰ of the way is left, and a tenth of that each quarter


def test_small_basins_that_no_scout_saw_are_found_among_the_undecided():
    def two(theta):  # only starts within 0.01 of 0 stay there: 21 of 20,001
        return jnp.where(jnp.abs(theta) < 0.01, theta / 2, theta + (jnp.sign(theta) - theta) / 2)

    found = fd.map_basins(fd.Map(two, 1), [(-10.0, 10.0)], 20_001, max_steps=400)
    assert len(found.attractors) == 3
    assert found.counts()["undecided"] == 0
    (x,) = found.coordinates()
    assert min(found.counts()[a.name] for a in found.attractors) == (np.abs(x) < 0.01).sum() < 25


# --- rules ----------------------------------------------------------------------------------------------------


def test_nan_is_diverged_and_counted():
    broken = fd.Map(lambda t: jnp.where(t[0] > 0.5, jnp.nan, t / 2), 2)
    found = fd.map_basins(broken, [(-1, 1)] * 2, 41, [(0.0, 0.0)])
    x, _ = found.coordinates()
    assert_array_equal(found.labels == DIVERGED, np.tile(x > 0.5, (41, 1)))
    assert_array_equal(found.status == fd.Status.DIVERGED, found.labels == DIVERGED)
    assert np.isfinite(found.final).all()
    assert found.counts()["diverged"] == 41 * (x > 0.5).sum()


def test_an_attractor_that_is_missing_leaves_the_rest_undecided():
    points = {name: p.theta for name, p in zip("abcd", H.critical_points()[:4], strict=True)}
    whole = fd.map_basins(fd.Iteration(H, fd.GD(1e-3)), BOX, SIDE, points, **SHORT)
    three = {name: points[name] for name in "abc"}
    found = fd.map_basins(fd.Iteration(H, fd.GD(1e-3)), BOX, SIDE, three, **SHORT)
    assert found.counts()["undecided"] == whole.counts()["d"] > 0
    assert (found.status == fd.Status.UNDECIDED).sum() == whole.counts()["d"]
    assert "undecided" in repr(found)
    for name in "abc":
        assert found.counts()[name] == whole.counts()[name]


def test_a_run_passing_a_saddle_is_not_held_by_it():
    # x² − y² ends in a double well: GD from near the stable manifold stays near the saddle for hundreds of steps
    well = fd.Landscape.from_expression("x**2/2 + y**4/4 - y**2/2", "x y", box=[(-2, 2)] * 2)
    starts = np.array([[1.0, 1e-8], [1.0, -1e-8], [0.0, 1e-10], [1.0, 0.0]])
    found = fd.basin_fractions(
        fd.Iteration(well, fd.GD(0.05)), lambda key, runs: starts, 4, jax.random.key(0), well.critical_points()
    )
    kinds = [found.attractors[label].theta[1] for label in found.labels]
    assert kinds == [1.0, -1.0, 1.0, 0.0]  # the last starts on the stable manifold itself


def test_with_momentum_a_run_must_stay():
    fast = fd.Iteration(H, fd.GD(1e-3, momentum=0.95))
    found = fd.map_basins(fast, BOX, SIDE, H.critical_points(), **SHORT)
    ends = fd.simulate(fast, np.stack(np.meshgrid(*found.coordinates()), -1).reshape(-1, 2), 5000, every=5000)
    nearest = np.argmin(
        np.linalg.norm(ends.final[:, None] - np.array([a.theta for a in found.attractors]), axis=-1), axis=1
    )
    assert_array_equal(found.labels.ravel(), nearest)


def test_a_run_is_not_over_while_a_schedule_pauses():
    """Twenty steps of size 0, then steps of plain descent: the basins are those of descent, that much later."""
    well, box = fd.landscapes.double_well(), [(-2.0, 2.0)]
    late = fd.methods.Scheduled(fd.GD(0.1), lambda k: jnp.where(k < 20, 0.0, 1.0))
    paused, plain = (
        fd.map_basins(fd.Iteration(well, method), box, 10, attractors=[[-1.0], [1.0]], max_steps=1000)
        for method in (late, fd.GD(0.1))
    )
    assert_array_equal(paused.labels, plain.labels)
    assert set(plain.labels.ravel()) == {0, 1}
    away = plain.steps > 10  # the others are near their minimum at the first look, after ten steps
    assert_array_equal(paused.steps[away], plain.steps[away] + 20)


def test_steps_are_those_at_which_a_run_came_near():
    halving = fd.Map(lambda t: t / 2, 1)
    found = fd.map_basins(halving, [(1.0, 1000.0)], 2, [(0.0,)], radius=0.1, check_every=1)
    assert_array_equal(found.steps, [4, 14])  # 1/2^4 < 0.1, 1000/2^14 < 0.1
    found = fd.map_basins(halving, [(1.0, 1000.0)], 2, [(0.0,)], radius=0.1, check_every=5)
    assert_array_equal(found.steps, [5, 15])


def test_regions_decide_at_the_end_or_on_entry():
    right = fd.Map(lambda t: t + 1.0, 1)
    starts = [(0.0, 1.0)]
    at_end = fd.map_basins(right, starts, 2, {"far": lambda t: t[0] > 50}, max_steps=100)
    assert at_end.counts() == {"far": 2, "diverged": 0, "undecided": 0}
    assert (at_end.steps == 100).all()
    on_entry = fd.map_basins(right, starts, 2, [fd.Region("far", lambda t: t[0] > 50, absorbing=True)], max_steps=100)
    assert_array_equal(on_entry.steps, [60, 50])
    both = {"start": (0.0,), "far": fd.Region("far", lambda t: t[0] > 50, absorbing=True)}
    assert fd.map_basins(right, starts, 2, both, max_steps=100).counts()["far"] == 2
    through = fd.Region("through", lambda t: (t[0] > 20) & (t[0] < 40), absorbing=False)
    assert fd.map_basins(right, starts, 2, [through], max_steps=100).counts()["undecided"] == 2


def test_a_slice_is_the_plane_map_where_coordinates_do_not_interact():
    plane = fd.Iteration(fd.landscapes.styblinski_tang(2), fd.GD(0.01))
    space = fd.Iteration(fd.landscapes.styblinski_tang(4), fd.GD(0.01))
    minima = np.array([p.theta for p in plane.landscape.critical_points() if p.kind == "minimum"])
    one = np.unique(minima[:, 0])
    assert len(one) == 2
    steps = {"max_steps": 1000}  # the least curvature of a minimum is 17: they are there after 100
    two = fd.map_basins(plane, BOX, 21, minima, **steps)
    rules = {"attractors": list(itertools.product(one, repeat=4)), "at": [9.0, 1.0, 9.0, -2.0]} | steps
    cut = fd.map_basins(space, BOX, 21, axes=(0, 2), **rules)
    assert (cut.labels >= 0).all()
    assert len(np.unique(cut.labels)) == len(np.unique(two.labels)) == 4
    ends = np.array([a.theta for a in cut.attractors])[cut.labels]
    assert_allclose(ends[..., [0, 2]], np.array([a.theta for a in two.attractors])[two.labels], atol=1e-3)
    turned = fd.map_basins(space, BOX, (21, 11), axes=(2, 0), **rules)
    assert turned.labels.shape == (11, 21)
    other = np.array([a.theta for a in turned.attractors])[turned.labels]
    assert_allclose(other, np.swapaxes(ends, 0, 1)[::2], atol=1e-3)


# --- what no result may depend on -----------------------------------------------------------------------------


@pytest.mark.optimised
@pytest.mark.parametrize("noise", [fd.noise.Exact(), fd.noise.Gaussian(30.0, 4)])
def test_chunks_do_not_change_a_bit(noise):
    process = fd.Iteration(H, fd.SAM(1e-3, 0.1), noise)
    maps = [
        fd.map_basins(process, BOX, SIDE, H.critical_points(), key=jax.random.key(1), max_steps=500, chunk=chunk)
        for chunk in (1, None)  # the fewest lanes that there are, and all that there is work for
    ]
    for name in ("labels", "steps", "status", "final"):
        assert_array_equal(getattr(maps[1], name), getattr(maps[0], name))


@pytest.mark.optimised
def test_the_order_of_points_does_not_matter():
    process = fd.Iteration(H, fd.SAM(1e-3, 0.3))
    starts = np.random.default_rng(0).uniform(-5, 5, (2000, 2))
    order = np.random.default_rng(1).permutation(2000)
    key = jax.random.key(0)
    one = fd.basin_fractions(process, lambda k, n: starts, 2000, key, H.critical_points(), **SHORT)
    two = fd.basin_fractions(process, lambda k, n: starts[order], 2000, key, H.critical_points(), **SHORT)
    for name in ("labels", "steps", "final"):
        assert_array_equal(getattr(one, name)[order], getattr(two, name))


@pytest.mark.optimised
def test_an_interrupted_map_goes_on_and_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
    process = fd.Iteration(H, fd.SAM(1e-3, 0.3), fd.noise.Gaussian(1.0, 4))
    one = H.critical_points()[:1]  # three quarters of the runs go on to the end, so that there is time to interrupt
    call = {"process": process, "box": BOX, "resolution": SIDE, "attractors": one, "chunk": 256}
    call |= {"max_steps": 5000, "key": jax.random.key(2), "progress": False}
    whole = fd.map_basins(**call)
    folder = tmp_path / "map"

    class Impatient:
        def __init__(self, total, unit, shown):
            self.done = 0 if unit == "points" else -np.inf  # the search for traps has a bar of its own

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update(self, number=0):
            self.done += number
            if self.done > 300:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segments, "progress_bar", Impatient)
        with pytest.raises(KeyboardInterrupt):
            fd.map_basins(**call, store=folder)
    (file,) = folder.glob("*.npz")
    kept = np.load(file)["finished"].sum()
    assert 300 < kept < SIDE**2
    taken = []
    put = queues._Work.put
    monkeypatch.setattr(queues._Work, "put", lambda self, runs, new: (taken.extend(runs), put(self, runs, new)))
    resumed = fd.map_basins(**call, store=folder)
    assert len(taken) == SIDE**2 - kept  # nothing finished is repeated
    for name in ("labels", "steps", "status", "final"):
        assert_array_equal(getattr(resumed, name), getattr(whole, name))
    with monkeypatch.context() as patch:
        patch.setattr(queues, "_worker", lambda *args: pytest.fail("another call's runs are begun"))
        with pytest.raises(pytest.fail.Exception, match="another call's runs are begun"):
            fd.map_basins(**(call | {"key": jax.random.key(3)}), store=folder)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete record"):
        fd.map_basins(**call, store=folder)


def test_maps_and_samples_are_records(discovered, tmp_path):
    found = discovered
    again = Basins.load(found.save(tmp_path / "map.npz"))
    assert again.fractions() == found.fractions()
    assert [repr(a) for a in again.attractors] == [repr(a) for a in found.attractors]
    assert hashlib.sha256(again.save(tmp_path / "b.npz").read_bytes()).digest() == (
        hashlib.sha256((tmp_path / "map.npz").read_bytes()).digest()
    )
    far = {"none": (0.0, 0.0)}
    sample = fd.basin_fractions(fd.Iteration(H, fd.GD(1e-3)), BOX, 64, jax.random.key(0), far, max_steps=500)
    assert Sample.load(sample.save(tmp_path / "sample.npz")).counts() == sample.counts()
    assert (sample.labels == UNDECIDED).all()


# --- bad input ------------------------------------------------------------------------------------------------

GD, KEY = fd.Iteration(H, fd.GD(1e-3)), jax.random.key(0)
TEN = fd.Iteration(fd.landscapes.rosenbrock(10), fd.GD(1e-4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fd.map_basins(GD, [(5, -5), (-5, 5)]), "lower < upper.*5, -5"),
        (lambda: fd.map_basins(GD, [(-5, np.inf), (-5, 5)]), "finite lower < upper"),
        (lambda: fd.map_basins(GD, BOX, 1), "resolution must be a whole number >= 2, got 1"),
        (lambda: fd.map_basins(GD, BOX, (9, 9, 9)), "resolution must be one number or 2"),
        (lambda: fd.map_basins(GD, BOX, np), "resolution must be a whole number, got <module"),
        (lambda: fd.map_basins(GD, BOX, [[9], [9, 9]]), "resolution must be a whole number, got"),
        (lambda: fd.map_basins(NEWTON), r"give box=\(\(lower, upper\)"),
        (lambda: fd.map_basins(TEN), "10 coordinates.*axes=.*basin_fractions"),
        (lambda: fd.map_basins(TEN, BOX, axes=(0, 1)), "a slice needs.*at="),
        (lambda: fd.map_basins(TEN, BOX, axes=(0, 10), at=np.zeros(10)), "axes must be different coordinates"),
        (lambda: fd.map_basins(TEN, BOX, axes=(0, 1), at=np.zeros(3)), r"at must have shape \(10,\)"),
        (lambda: fd.map_basins(GD, BOX, attractors=[(0.0, 0.0, 0.0)]), r"position of shape \(2,\)"),
        (lambda: fd.map_basins(GD, BOX, attractors=[(0.0, np.nan)]), "finite position"),
        (lambda: fd.map_basins(GD, BOX, attractors=[(0.0, 0.0), (0.0, 0.0)]), "different names"),
        (lambda: fd.map_basins(GD, BOX, attractors={"diverged": (0.0, 0.0)}), "other than 'diverged'"),
        (lambda: fd.map_basins(GD, BOX, attractors=3), "attractors must be a list or a dict"),
        (lambda: fd.map_basins(GD, BOX, radius=0), "radius must be finite and > 0, got 0"),
        (lambda: fd.map_basins(GD, BOX, max_steps=0), "max_steps must be a whole number >= 1"),
        (lambda: fd.map_basins(GD, BOX, check_every=0), "check_every must be a whole number >= 1"),
        (lambda: fd.map_basins(GD, BOX, check_every=10**20), "check_every must be below 2.*31"),
        (lambda: fd.map_basins(GD, BOX, max_steps=2**31), "max_steps must be below 2.*31"),
        (lambda: fd.map_basins(GD, BOX, max_steps=2**31 - 1), "max_steps, rounded up, must be below 2.*31"),
        (lambda: fd.map_basins(GD, BOX, bound=0), "bound must be > 0"),
        (lambda: fd.map_basins(GD, BOX, tol=-1), "tol must be finite and >= 0"),
        (lambda: fd.map_basins(GD, BOX, chunk=0), "chunk must be a whole number >= 1"),
        (lambda: fd.map_basins(fd.Iteration(H, fd.GD(1e-3), fd.noise.Gaussian(1.0))), "pass key="),
        (lambda: fd.basin_fractions(GD, BOX, 0, KEY), "runs must be a whole number >= 1"),
        (
            lambda: fd.basin_fractions(GD, lambda k, n: np.zeros((n, 3)), 5, jax.random.key(0)),
            "what the sampler returns",
        ),
        (lambda: fd.basin_fractions(GD, lambda k, n: np.zeros((3, 2)), 5, jax.random.key(0)), "must return shape"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_attractors_are_read_from_what_users_have():
    points, regions = given([H.critical_points()[0], *fd.fixedpoints.find(GD)[:1], (1.0, 2.0)], 2)
    assert [p.kind for p in points] == [H.critical_points()[0].kind, fd.fixedpoints.find(GD)[0].kind, "point"]
    assert regions == []
    points, regions = given({"a": (1.0, 2.0), "b": lambda t: t[0] > 0}, 2)
    assert (points[0].name, regions[0].name, regions[0].absorbing) == ("a", "b", False)
