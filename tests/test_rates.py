"""Which attractor is next, and how often: committors, rates, and what follows from them."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import flatdyn as fd
from flatdyn.escape import chains, operated
from flatdyn.escape.cores import cores_of

LINE = fd.Landscape.from_expression("w**4/4 - w**2/2", "w", box=[(-2, 2)], name="line")
WELLS = {"left": [-1.0], "right": [1.0]}
SGD = fd.Iteration(LINE, fd.GD(0.1), fd.noise.Gaussian(1.0))
ON_THE_LINE = {"radius": 0.2, "inside": (-3.0, 3.0)}

PLANE = fd.Landscape.from_expression("(x**2 - 1)**2/4 + y**2/2", "x y", box=[(-2, 2), (-2, 2)], name="wells")
PLANE_WELLS = {"left": [-1.0, 0.0], "right": [1.0, 0.0]}
COARSE = fd.Iteration(PLANE, fd.GD(0.2), fd.noise.Gaussian(1.8))  # few cells: steps of 0.36
BOX = [(-2.2, 2.2), (-1.5, 1.5)]


def within(value, exact, error, sigmas=4.0):
    """Whether all lie within so many standard errors: 4 are exceeded once in 16,000."""
    return bool((np.abs(np.asarray(value) - exact) <= sigmas * np.asarray(error) + 1e-12).all())


# --- committors -----------------------------------------------------------------------------------------------


def test_on_the_line_the_committor_is_that_of_the_diffusion_for_small_steps():
    """q = ∫ e^{U/D} between the cores; the scheme's and the overshoot's errors are of the size of a step."""
    from scipy.integrate import quad

    diffusion = fd.flows.Diffusion(LINE, fd.GD(0.01), fd.noise.Gaussian(5.0))  # D = lr s²/2 = 1/8
    at = np.array([-0.4, 0.0, 0.3])
    answer = fd.escape.committor(diffusion, WELLS, at[:, None], method="operator", **ON_THE_LINE)
    scale = [quad(lambda x: np.exp((x**4 / 4 - x**2 / 2) * 8), -0.8, end)[0] for end in (*at, 0.8)]
    # A walk is absorbed where it lands: on average 0.58 of a step's deviation, 0.05, beyond the edge; a tenth of the
    # way between the edges at most.
    assert np.abs(answer.of("right") - np.array(scale[:3]) / scale[3]).max() < 0.03
    assert answer.error.max() < 1e-8


def test_on_the_line_the_operator_agrees_with_runs_and_with_its_symmetry():
    at = np.array([[-0.7], [-0.3], [0.0], [0.5], [-1.1]])
    for process in (SGD, fd.Iteration(LINE, fd.SAM(0.1, 0.2), fd.noise.Gaussian(1.0))):
        exact = fd.escape.committor(process, WELLS, at, **ON_THE_LINE)
        assert np.allclose(exact.probability.sum(axis=-1) + exact.lost, 1, atol=1e-12)
        mirrored = fd.escape.committor(process, WELLS, -at, **ON_THE_LINE)
        assert np.allclose(exact.of("left"), mirrored.of("right"), atol=1e-9)  # both are accurate to 1e-9
        assert exact.probability[-1].tolist() == [1.0, 0.0]  # in a core
        runs = fd.escape.committor(process, WELLS, at, radius=0.2, method="runs", runs=4000, key=jax.random.key(1))
        assert within(runs.probability, exact.probability, runs.error)
        assert np.allclose(runs.probability.sum(axis=-1) + runs.lost + runs.undecided, 1, atol=1e-12)


def test_runs_that_leave_the_region_or_do_not_arrive_are_counted_as_such():
    options = {"radius": 0.2, "method": "runs", "runs": 500, "key": jax.random.key(0)}
    fenced = fd.escape.committor(SGD, WELLS, [[0.0]], inside=(-0.3, 0.3), **options)
    assert fenced.lost[0] > 0.9  # only a jump of five deviations gets past the fence
    short = fd.escape.committor(SGD, WELLS, [[0.0]], max_steps=2, **options)
    assert short.undecided[0] > 0.9
    for answer in (fenced, short):
        assert np.allclose(answer.probability.sum(axis=-1) + answer.lost + answer.undecided, 1)


def test_attractors_of_all_kinds_are_read():
    points = PLANE.critical_points()
    minima = [point for point in points if point.kind == "minimum"]
    assert len(cores_of(minima, 2, 0.1)) == 2
    basins = fd.map_basins(fd.Iteration(PLANE, fd.GD(0.1)), BOX, 4, minima, max_steps=100, progress=False)
    assert cores_of(basins, 2, 0.1).names == tuple(a.name for a in basins.attractors)
    regions = {"left": lambda theta: theta[0] < -0.8, "right": fd.escape.Ball([1.0, 0.0], 0.3)}
    labels = cores_of(regions, 2).labels([[-1.0, 5.0], [1.0, 0.2], [0.0, 0.0]])
    assert labels.tolist() == [0, 1, -1]
    cycle = fd.Attractor("cycle", np.zeros(1), "cycle", 2, np.array([[-0.5], [0.5]]))
    assert cores_of([cycle], 1, 0.1).labels([[0.45], [-0.55], [0.0]]).tolist() == [0, 0, -1]


# --- rates ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact():
    """By the operator on the line."""
    return fd.escape.rates(SGD, WELLS, **ON_THE_LINE)


def test_rates_on_the_line_are_those_of_exact_exit_laws(exact):
    """1/k is the mean time from the left core to the right one, but for the time that settling takes: tens of steps."""
    inside = (-3.0, 0.8)
    mean = fd.escape.exit_law(SGD, inside, -1.0).mean
    assert exact.rates[0, 1] == pytest.approx(exact.rates[1, 0], rel=1e-8)
    assert 1 / exact.rates[0, 1] == pytest.approx(mean, abs=40)
    assert mean > 5000  # so that 40 steps are little
    assert exact.lost.max() < 1e-12
    assert np.allclose(exact.stationary().value, 0.5, atol=1e-8)


def test_rates_by_runs_by_splitting_and_from_a_record_agree_with_the_operator(exact):
    runs = fd.escape.rates(
        SGD, WELLS, radius=0.2, method="runs", runs=50, steps=10_000, relax=200, key=jax.random.key(2)
    )
    assert runs.counts.sum() > 60
    assert within(runs.rates, exact.rates, runs.error)
    assert runs.spent.sum() == 100 * 10_000
    split = fd.escape.rates(
        SGD, WELLS, radius=0.2, method="splitting", walkers=100, replicates=6, relax=200, key=jax.random.key(3)
    )
    # the quasi-stationary law is another than the stationary one by about k times 30 steps, 0.5 %
    assert within(split.rates, exact.rates, split.error + 0.005 * exact.rates)
    record = fd.simulate(SGD, [[-1.0], [1.0]] * 8, 10_000, jax.random.key(4), every=1)
    seen = fd.escape.rates_from(record, WELLS, radius=0.2)
    assert within(seen.rates, exact.rates, seen.error)
    assert seen.spent.sum() == 16 * 10_000


def test_standard_errors_of_counted_rates_are_right():
    """Over keys, (k − k exact)/error has variance 1 or less; the sum of 2 × 12 squares exceeds 51 once in 1,000."""
    quick = fd.Iteration(LINE, fd.GD(0.2), fd.noise.Gaussian(1.2))
    exact = fd.escape.rates(quick, WELLS, radius=0.2, inside=(-4.0, 4.0)).rates
    off = ~np.eye(2, dtype=bool)
    total = 0.0
    for seed in range(12):
        counted = fd.escape.rates(
            quick, WELLS, radius=0.2, method="runs", runs=20, steps=2000, relax=100, key=jax.random.key(seed)
        )
        total += (((counted.rates - exact)[off] / counted.error[off]) ** 2).sum()
    assert 4 < total < 51


def test_reversible_dynamics_have_detailed_balance_and_a_flat_well_its_share():
    """Gradient noise with small steps on a line is reversible: π_i k_ij = π_j k_ji, between three wells, too."""
    tilted = fd.Landscape.from_expression("-cos(3*w)/3 + w**2/20 + w/20", "w", box=[(-3, 3)], name="three wells")
    process = fd.flows.Diffusion(tilted, fd.GD(0.1), fd.noise.Gaussian(1.8))  # D = 0.162, small steps of 0.57/√10
    wells = {name: [x] for name, x in (("left", -2.08), ("middle", 0.0), ("right", 2.04))}
    found = fd.escape.rates(process, wells, radius=0.3, inside=(-5.0, 5.0))
    shares = found.stationary().value
    flows = shares[:, None] * found.rates
    # the scheme is reversible but for terms of second order in the step
    assert np.abs(flows - flows.T).max() < 0.02 * flows.max()
    assert found.rates[0, 2] < 1e-3 * found.rates[0, 1]  # across the middle well hardly anything passes at once
    assert found.route("left", "right").names == ("left", "middle", "right")


@pytest.mark.slow
def test_the_operators_error_holds_what_a_law_that_has_not_settled_misses():
    """With rates of 1 % a step and momentum the quasi-stationary rate is 14 % above the stationary one."""
    heavy = fd.Iteration(LINE, fd.GD(0.1, momentum=0.5), fd.noise.Gaussian(1.5))
    options = {"radius": 0.2, "inside": (-2.5, 2.5)}
    settled = fd.escape.rates(heavy, WELLS, method="operator", **options)
    runs = fd.escape.rates(heavy, WELLS, method="runs", runs=50, steps=20_000, key=jax.random.key(0), **options)
    gap = np.abs(settled.rates - runs.rates)
    assert (gap <= settled.error + 4 * runs.error).all()
    assert (gap > 4 * runs.error)[0, 1]  # or there would be nothing to hold
    at = np.array([[-0.5], [0.0], [0.4]])
    exact = fd.escape.committor(heavy, WELLS, at, method="operator", **options)
    seen = fd.escape.committor(heavy, WELLS, at, method="runs", runs=4000, key=jax.random.key(1), **options)
    assert within(seen.probability, exact.probability, seen.error)


# --- what follows from rates ----------------------------------------------------------------------------------


def test_deeptime_counts_the_same_and_concludes_the_same():
    kept = json.loads((Path(__file__).parent / "data" / "deeptime.json").read_text())
    path = np.array([[float("0123".find(letter))] for letter in kept["labels"]])  # "." is -1: in no core
    answer = fd.escape.rates_from(path, {str(i): [float(i)] for i in range(4)}, radius=0.25)
    counts = np.array(kept["counts"])
    assert (answer.counts == counts - np.diag(np.diag(counts))).all()
    assert (answer.spent == counts.sum(axis=1)).all()
    # sums of at most 16 numbers in another order
    assert np.allclose(answer.stationary().value, kept["stationary"], rtol=1e-12)
    assert np.allclose(answer.passage_times().value, kept["passage_times"], rtol=1e-12)
    flux = answer.flux("0", "3")
    assert np.allclose(flux.forward, kept["forward"], rtol=1e-12)
    assert np.allclose(flux.backward, kept["backward"], rtol=1e-12)
    assert np.allclose(flux.net, kept["net_flux"], rtol=1e-10, atol=1e-16)
    assert flux.total == pytest.approx(kept["total_flux"], rel=1e-12)
    routes = answer.routes("0", "3")
    assert [list(map(int, route.names)) for route in routes] == [way for way, _ in kept["pathways"]]
    shares = [width / kept["total_flux"] for _, width in kept["pathways"]]
    assert np.allclose([route.share for route in routes], shares, rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_obeys_its_equations_over_many_powers_of_ten(seed):
    rng = np.random.default_rng(seed)
    number = 3 + seed
    rates = 10 ** rng.uniform(-12, 0, size=(number, number))
    np.fill_diagonal(rates, 0.0)
    shares = chains.stationary(rates)
    inflow, outflow = shares @ rates, shares * rates.sum(axis=1)
    assert np.allclose(inflow, outflow, rtol=1e-12)
    assert shares.sum() == pytest.approx(1)
    times = chains.passage_times(rates)
    for j in range(number):
        for i in (i for i in range(number) if i != j):
            assert rates[i].sum() * times[i, j] == pytest.approx(1 + rates[i] @ times[:, j], rel=1e-11)
    flux = chains.flux(rates, 0, number - 1)
    routes = chains.routes(flux, 0, number - 1)
    assert sum(share for _, share in routes) == pytest.approx(1, abs=1e-9)  # what is below 1e-12 is left out
    assert flux.net[:, -1].sum() == pytest.approx(flux.total, rel=1e-6)  # a difference of traffics, which may cancel
    assert all(way[0] == 0 and way[-1] == number - 1 for way, _ in routes)


def test_what_is_never_reached_takes_for_ever():
    rates = np.array([[0, 1e-3, 0], [2e-3, 0, 0], [0, 1e-2, 0.0]])
    times = chains.passage_times(rates)
    assert times[2, 0] == pytest.approx(100 + 500)
    assert np.isinf(times[:2, 2]).all()
    assert np.allclose(chains.stationary(rates), [2 / 3, 1 / 3, 0])
    with pytest.raises(ValueError, match="depend on the start"):
        chains.stationary(np.zeros((2, 2)))


def test_errors_of_what_follows_are_those_of_repetitions():
    """Two states: π₀ = b/(a + b), its error √((a σ_b)² + (b σ_a)²)/(a + b)², and 1/a with σ_a/a²."""
    a, b, sigma = 2e-3, 1e-3, np.array([[0, 1e-4], [2e-4, 0]])
    rates = np.array([[0, a], [b, 0]])
    value, error = chains.propagated(chains.stationary, rates, sigma)
    assert value[0] == pytest.approx(1 / 3)
    assert error[0] == pytest.approx(np.hypot(a * 2e-4, b * 1e-4) / (a + b) ** 2, rel=1e-3)  # one-sided differences
    _, error = chains.propagated(chains.passage_times, rates, sigma)
    assert error[0, 1] == pytest.approx(1e-4 / a**2, rel=1e-3)


# --- in the plane ---------------------------------------------------------------------------------------------


def test_in_the_plane_the_operator_agrees_with_runs():
    at = np.array([[-0.4, 0.0], [0.0, 0.6], [0.3, -0.5]])
    exact = fd.escape.committor(COARSE, PLANE_WELLS, at, method="operator", radius=0.4, inside=BOX)
    assert exact.of("left")[1] == pytest.approx(exact.of("right")[1], abs=1e-9)  # the grid is as symmetric as they are
    assert np.allclose(exact.probability.sum(axis=-1) + exact.lost, 1, atol=1e-12)
    runs = fd.escape.committor(
        COARSE, PLANE_WELLS, at, method="runs", radius=0.4, inside=BOX, runs=4000, key=jax.random.key(1)
    )
    assert within(runs.probability, exact.probability, runs.error + exact.error)
    assert within(runs.lost, exact.lost, np.sqrt((exact.lost + 1e-3) / 4000))
    assert exact.error.max() < 1e-3  # large steps make large cells, in which the cores are small


@pytest.mark.slow
def test_in_the_plane_rates_by_the_operator_are_symmetric_and_those_of_runs():
    between = fd.escape.rates(COARSE, PLANE_WELLS, method="operator", radius=0.4, inside=BOX)
    assert between.rates[0, 1] == pytest.approx(between.rates[1, 0], rel=1e-6)
    assert np.array_equal(between.rates > 0, ~np.eye(2, dtype=bool))
    quiet = fd.Iteration(PLANE, fd.GD(0.2), fd.noise.Gaussian(0.7))
    exact = fd.escape.rates(quiet, PLANE_WELLS, method="operator", radius=0.4, inside=BOX)
    assert exact.rates.max() < 1e-3  # so that the quasi-stationary law is the stationary one to a few percent
    runs = fd.escape.rates(
        quiet, PLANE_WELLS, method="runs", radius=0.4, inside=BOX, runs=100, steps=50_000, key=jax.random.key(2)
    )
    assert within(runs.rates, exact.rates, runs.error + 0.02 * exact.rates)


def differences(landscape, box, cells, diffusion, cores):
    """The committor of dX = −∇V dt + √(2D) dW to the second of two cores, by jumps between neighbours of a grid.

    Rates e^{−(V_j − V_i)/2D} are in detailed balance with e^{−V/D} and right to second order in the width of the grid.
    On the edge of the box, where a run is lost, it is 0.
    """
    from scipy import interpolate, sparse

    (left, right), (low, high) = box
    width = (right - left) / cells
    x, y = left + width * np.arange(cells + 1), low + width * np.arange(round((high - low) / width) + 1)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    value = np.asarray(landscape.loss(grid))
    value = np.minimum(value - value.min(), 600 * diffusion)
    number = np.arange(value.size).reshape(value.shape)
    rates = []
    for here, there in (((slice(-1),), (slice(1, None),)), ((..., slice(-1)), (..., slice(1, None)))):
        for i, j in ((here, there), (there, here)):
            jump = np.exp(-(value[j] - value[i]) / (2 * diffusion))
            rates.append((jump.ravel(), number[i].ravel(), number[j].ravel()))
    jumps, rows, columns = (np.concatenate(part) for part in zip(*rates, strict=True))
    matrix = sparse.csr_array((jumps, (rows, columns)), shape=(value.size, value.size))
    equations = (sparse.diags_array(np.asarray(matrix.sum(axis=1)).ravel()) - matrix).tocsr()
    inside = [(np.linalg.norm(grid - center, axis=-1) <= radius).ravel() for center, radius in cores]
    edge = np.ones(value.shape, bool)
    edge[1:-1, 1:-1] = False
    free = ~(inside[0] | inside[1] | edge.ravel())
    reached = inside[1].astype(float)
    reached[free] = sparse.linalg.spsolve(equations[free][:, free].tocsc(), -(equations[free] @ reached))
    return interpolate.RegularGridInterpolator((x, y), reached.reshape(value.shape))


@pytest.mark.slow
def test_the_committor_of_muller_brown_is_that_of_finite_differences_and_of_runs():
    """Overdamped Langevin at D = 15; the operator at two time steps, from which the limit is extrapolated."""
    import scipy.sparse.linalg  # noqa: F401

    landscape, box, diffusion = fd.landscapes.muller_brown(), [(-2.0, 1.2), (-0.8, 2.2)], 15.0
    minima = {"reactant": [-0.558, 1.442], "product": [0.623, 0.028]}
    at = np.array(
        [[-0.8, 0.6], [-0.5, 0.6], [-0.2, 0.5], [0.0, 0.45], [-0.7, 0.8], [-1.0, 1.0], [0.2, 0.3], [-0.3, 0.9]]
    )
    exact = differences(landscape, box, 320, diffusion, [(minima[name], 0.15) for name in minima])(at)

    def langevin(dt):
        return fd.flows.Diffusion(landscape, fd.GD(dt), fd.noise.Gaussian(np.sqrt(2 * diffusion / dt)))

    options = {"radius": 0.15, "inside": box}
    whole, half = (fd.escape.committor(langevin(dt), minima, at, method="operator", **options) for dt in (1e-4, 5e-5))
    assert max(whole.error.max(), half.error.max()) < 2e-4
    limit = 2 * half.of("product") - whole.of("product")
    assert np.abs(limit - exact).max() < 1e-3
    runs = fd.escape.committor(
        langevin(1e-4), minima, at, method="runs", runs=2000, key=jax.random.key(1), progress=False, **options
    )
    assert runs.undecided.max() == 0
    assert within(runs.probability, whole.probability, runs.error + whole.error)


# --- paths and currents ---------------------------------------------------------------------------------------


def test_reactive_paths_lead_from_the_last_visit_to_the_first_and_their_current_is_one():
    process = fd.Iteration(PLANE, fd.SAM(0.1, 0.1, momentum=0.5), fd.noise.Gaussian(1.2))  # its velocity is kept
    paths = fd.escape.reactive_paths(
        process, PLANE_WELLS, "left", "right", radius=0.3, runs=150, key=jax.random.key(0), progress=False
    )
    assert len(paths) == 150
    for number in range(len(paths)):
        gaps = [np.linalg.norm(paths.path(number) - place, axis=1) for place in PLANE_WELLS.values()]
        assert gaps[0][0] <= 0.3
        assert (gaps[0][1:] > 0.3).all()
        assert gaps[1][-1] <= 0.3
        assert (gaps[1][:-1] > 0.3).all()
    current = paths.current([(-2, 2), (-2, 2)], 20)
    through = current.flow[:, 9:11, 0].sum(axis=0) * 0.2  # through two columns of cells in the middle
    assert within(through, 1.0, np.sqrt((current.error[:, 9:11, 0] ** 2).sum(axis=0)) * 0.2)
    assert current.time.sum() * 0.04 == pytest.approx(paths.durations.mean(), rel=0.01)  # all but a few stay in the box


def test_a_reactive_path_is_a_piece_of_its_run():
    paths = fd.escape.reactive_paths(SGD, WELLS, 0, 1, radius=0.2, runs=3, key=jax.random.key(5), progress=False)
    for number in range(3):
        waited, steps = int(paths.waited[number]), int(paths.durations[number])
        whole = fd.simulate(SGD, [[-1.0]] * 3, waited + steps, jax.random.key(5), every=1).theta[number]
        assert np.array_equal(whole[waited:], paths.path(number))


# --- drawings, files, bad input -------------------------------------------------------------------------------


def test_drawings_and_files(tmp_path):
    from matplotlib.figure import Figure

    theta = np.array([[-1.0, 0.0], [0.0, 0.1], [1.0, 0.0], [-1.0, 0.1], [1.0, 0.2]])
    counts = {"waited": np.zeros(2, int), "undecided": np.array(0), "lost": np.array(0)}
    paths = fd.escape.ReactivePaths(config={}, provenance={}, theta=theta, first=np.array([0, 3, 5]), **counts)
    committor = fd.escape.committor(
        COARSE,
        PLANE_WELLS,
        box=[(-0.5, 0.5)] * 2,
        resolution=3,
        radius=0.4,
        method="runs",
        runs=20,
        key=jax.random.key(0),
    )
    assert committor.points.shape == (3, 3, 2)
    assert committor.probability.shape == (3, 3, 2)
    ax = Figure().add_subplot()
    fd.plotting.draw_committor(ax, committor, "left")
    assert len(fd.plotting.draw_reactive_paths(ax, paths)) == 2
    current = paths.current([(-2, 2), (-2, 2)], 5)
    fd.plotting.draw_current(ax, current)
    rates = fd.escape.rates_from(theta[:, :1], WELLS, radius=0.2)
    for record in (committor, paths, current, rates):
        again = type(record).load(record.save(tmp_path / "record.npz"))
        assert all(np.array_equal(again.arrays()[name], array) for name, array in record.arrays().items())
        assert repr(again) == repr(record)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attractors": {"left": [-1.0], "right": [-0.8]}}, "must not overlap"),
        ({"attractors": {"left": [-1.0]}}, "at least 2"),
        ({"attractors": {"left": [-1.0, 0.0], "right": [1.0, 0.0]}}, "shape"),
        ({"radius": None}, "give radius="),
        ({"radius": -1.0}, "radius"),
        ({"inside": None, "method": "operator"}, "inside must be given"),
        ({"inside": (-0.5, 3.0)}, "left"),
        ({"method": "guess"}, "method"),
        ({"method": "runs"}, "key"),
        ({"process": fd.Iteration(LINE, fd.GD(0.1)), "method": "splitting", "key": jax.random.key(0)}, "random"),
        (
            {"process": fd.Iteration(LINE, fd.GD(0.1), fd.noise.Gaussian(0.0)), "method": "operator"},
            "nothing in a step",
        ),
    ],
)
def test_rates_say_what_does_not_fit(change, words):
    with pytest.raises((ValueError, TypeError), match=words):
        fd.escape.rates(**{"process": SGD, "attractors": WELLS, **ON_THE_LINE, **change})


def test_cores_that_are_functions_and_overlap_are_seen_by_a_run():
    regions = {"all": lambda theta: theta[0] < 0.5, "right": lambda theta: theta[0] > 0.3}
    with pytest.raises(ValueError, match="'all' and 'right'"):
        fd.escape.rates(
            SGD, regions, method="runs", starts=[[-1.0], [1.0]], runs=5, steps=5000, relax=0, key=jax.random.key(0)
        )
    with pytest.raises(ValueError, match="starts must be given"):
        fd.escape.rates(SGD, regions, method="runs", key=jax.random.key(0))


@pytest.mark.parametrize(
    ("process", "attractors", "inside", "method"),
    [
        (SGD, WELLS, (-3.0, 3.0), "operator"),
        (SGD, WELLS, None, "runs"),
        (fd.Iteration(LINE, fd.GD(0.1)), WELLS, (-3.0, 3.0), "runs"),
        (fd.Iteration(LINE, fd.GD(0.1), fd.noise.Stable(1.5)), WELLS, (-3.0, 3.0), "runs"),
        (COARSE, PLANE_WELLS, BOX, "runs"),
    ],
    ids=["line", "no region", "no noise", "not normal", "plane"],
)
def test_the_operator_is_asked_where_it_knows_the_process(process, attractors, inside, method):
    points = [[0.3] * process.dim]
    on = fd.escape.committor(
        process, attractors, points, radius=0.2, inside=inside, runs=8, max_steps=50, key=jax.random.key(0)
    )
    assert on.config["method"] == method
    assert operated.usual(process, inside) == method  # of rates, too


@pytest.mark.slow
def test_rates_in_a_region_that_is_a_function_are_those_of_the_same_ball():
    found = [
        fd.escape.rates(COARSE, PLANE_WELLS, method="operator", radius=0.7, inside=inside)
        for inside in (fd.escape.Ball([0.0, 0.0], 1.9), lambda theta: theta @ theta <= 1.9**2)
    ]
    # The ball is cut where it ends, the function by bisection along lines
    assert found[0].rates == pytest.approx(found[1].rates, rel=1e-4)
