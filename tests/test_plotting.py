"""Drawing functions draw what the record holds, and refuse what cannot be drawn."""

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import plotting

L = fd.landscapes.himmelblau()


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_paths_are_the_trajectories(ax):
    run = fd.simulate(fd.Iteration(L, fd.GD(1e-2)), np.array([[1.0, 1.0], [90.0, 90.0]]), 30)
    lines = plotting.draw_paths(ax, run, label="GD")
    assert_array_equal(np.array([line.get_xydata() for line in lines]), run.theta)
    assert lines[0].get_label() == "GD"
    # the diverged run ends in a grey cross
    assert [m.get_marker() for m in ax.lines if m.get_color() == plotting.DIVERGED_COLOR] == ["x"]


def test_log_levels_span_decades_above_the_minimum(ax):
    levels = plotting.draw_landscape(ax, L).levels
    assert_allclose(np.diff(np.log(levels - levels.min() + 1e-9))[5:], np.diff(np.log(levels))[5:], atol=0.5)
    assert levels.max() / levels.min() > 1e3
    linear = plotting.draw_landscape(ax, L, spacing="linear", levels=9).levels
    assert_allclose(np.diff(linear), linear[1] - linear[0])
    assert_array_equal(plotting.draw_landscape(ax, L, levels=[1.0, 2.0]).levels, [1, 2])


def test_a_field_points_along_the_step(ax):
    arrows = plotting.draw_field(ax, fd.Iteration(L, fd.GD(1e-4)), resolution=5)
    directions = np.stack([arrows.U, arrows.V], -1)
    gradient = np.asarray(L.grad(arrows.XY))
    assert_allclose(directions, -gradient / np.linalg.norm(gradient, axis=1, keepdims=True), atol=1e-9)


def test_labels_lie_where_their_cells_are(ax):
    labels = np.array([[0, 0, 1], [0, 2, 1]])
    image = plotting.draw_labels(ax, [(0, 2), (0, 1)], labels, ["a", "b", "c"], ["red", "green", "blue"])
    assert_array_equal(image.get_array(), labels)
    assert tuple(image.get_extent()) == (-0.5, 2.5, -0.5, 1.5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]


def test_critical_points_have_a_marker_per_kind(ax):
    drawn = plotting.draw_critical_points(ax, L.critical_points(), legend=True)
    assert set(drawn) == {"minimum", "saddle", "maximum"}
    assert len(ax.lines) == 9


def test_a_surface_carries_its_paths():
    figure, ax = plt.subplots(subplot_kw={"projection": "3d"})
    q = fd.landscapes.saddle()
    run = fd.simulate(fd.Iteration(q, fd.GD(0.05)), np.array([1.0, 0.1]), 100)
    plotting.draw_surface(ax, q, paths=[(run, "GD", "blue")])
    x, y, z = ax.lines[0].get_data_3d()
    assert_allclose(z, x**2 - y**2, atol=1e-12)
    assert np.abs(y).max() <= 2  # what leaves the box is cut
    assert len(y) < 100
    for path in ((run, "GD"), run.theta, "GD"):
        with pytest.raises(TypeError, match=r"paths must hold \(ensemble, label, colour\)"):
            plotting.draw_surface(ax, q, paths=[path])
    plt.close(figure)


def test_colors_are_the_same_everywhere():
    colors = plotting.rho_colors([0, 0.1, 1.0])
    assert colors[0] == plotting.rho_colors([0])[0]
    assert len(set(colors)) == 3


def test_what_cannot_be_drawn_is_refused(ax):
    with pytest.raises(ValueError, match=r"two coordinates.*got 3"):
        plotting.draw_landscape(ax, fd.landscapes.rosenbrock(3))
    with pytest.raises(ValueError, match="no box to draw in"):
        plotting.draw_landscape(ax, fd.Landscape.from_expression("x*y", symbols="x y"))
    with pytest.raises(ValueError, match="'log' or 'linear', got 'cubic'"):
        plotting.draw_landscape(ax, L, spacing="cubic")
    with pytest.raises(ValueError, match="resolution"):
        plotting.draw_landscape(ax, L, resolution=1)
    with pytest.raises(ValueError, match="names must hold at least one"):
        plotting.draw_labels(ax, [(0, 1), (0, 1)], np.zeros((2, 2), int), (), ())


def test_the_style_makes_vector_files_reproducible():
    with plt.style.context("flatdyn.paper"):
        assert plt.rcParams["pdf.fonttype"] == 42
        assert plt.rcParams["svg.hashsalt"] == "flatdyn"


def test_a_branch_is_solid_where_it_attracts(ax):
    def usam(rho):
        return fd.Iteration(fd.landscapes.factorization(), fd.USAM(0.05, rho))

    branch = fd.fixedpoints.continue_in(usam, "rho", (0.5, 2.0), (0.0, 0.0))
    lines = plotting.draw_branch(ax, branch, label="origin")
    assert [line.get_linestyle() for line in lines] == ["--", "-"]
    assert lines[0].get_xdata()[-1] == lines[1].get_xdata()[0]
    assert ax.lines[-1].get_marker() == "P"
    assert ax.get_xlabel() == r"$\rho$"


# --- basins ---------------------------------------------------------------------------------------------------


def test_basins_are_drawn_with_what_is_missing_named(ax):
    points = [point for point in L.critical_points() if point.kind == "minimum"][:3]
    basins = fd.map_basins(fd.Iteration(L, fd.GD(1e-3)), [(-5, 5)] * 2, (41, 31), points)
    image = fd.plotting.draw_basins(ax, basins, shade=False)
    assert image.get_array().shape == (31, 41, 3)
    colors = fd.plotting.basin_colors(basins)
    names = [*map(str, basins.names), "diverged", "undecided"]
    for j, i in [(0, 0), (30, 40), (3, 30)]:
        expected = matplotlib.colors.to_rgb(colors[names[basins.labels[j, i]]])
        assert_allclose(image.get_array()[j, i], expected)
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"{basins.counts()['undecided']} undecided" in shown
    assert shown[3:] == [shown[3], "attractor: minimum"]  # no runs diverged: not in the legend
    left, right, low, high = image.get_extent()
    assert (left, right) == (-5.125, 5.125)  # half a cell beyond the outermost points
    assert_allclose((low, high), (-5 - 1 / 6, 5 + 1 / 6))


def test_darker_means_later_and_colours_are_shared(ax):
    basins = fd.map_basins(fd.Iteration(L, fd.SAM(1e-3, 0.5)), [(-5, 5)] * 2, 41, max_steps=5000)
    pixels = fd.plotting.draw_basins(ax, basins).get_array()
    shares, errors = basins.fractions(), basins.errors()
    assert basins.of_kind("maximum") == (shares["maximum (-0.271, -0.923)"], errors["maximum (-0.271, -0.923)"])
    several = sum(share for name, share in shares.items() if name.startswith(("saddle", "minimum")))
    assert_allclose(basins.of_kind("saddle", "minimum")[0], several, rtol=1e-12)  # a sum of 8 shares, up to rounding
    assert basins.of_kind("point")[0] == 0
    one = basins.labels == 0
    order = np.argsort(basins.steps[one], kind="stable")
    assert (np.diff(pixels[one].sum(axis=1)[order]) <= 1e-12).all()
    curve = fd.fractions_in(
        lambda rho: fd.Iteration(L, fd.SAM(1e-3, rho)),
        "rho",
        [0.4, 0.5],
        [(-5, 5)] * 2,
        400,
        jax.random.key(0),
    )
    colors = fd.plotting.basin_colors(basins, curve)
    assert set(map(str, curve.names)) | set(map(str, basins.names)) == set(colors)
    areas = fd.plotting.draw_fractions(ax, curve, colors=colors, gid="chaotic")
    assert len(areas) == (curve.fractions > 0).any(axis=0).sum()
    assert {area.get_gid() for area in areas} == {"chaotic"}


def test_only_plane_maps_are_drawn(ax):
    line = fd.map_basins(fd.Iteration(fd.landscapes.double_well(1), fd.GD(0.01)), [(-1, 2)], 11)
    with pytest.raises(ValueError, match="over two axes"):
        fd.plotting.draw_basins(ax, line)


# --- curvature ------------------------------------------------------------------------------------------------


def test_a_line_shows_the_loss_or_the_layers_that_are_asked_for(ax):
    parabola = fd.Landscape.from_function(
        lambda p: p["w"].sum() ** 2 + 3 * p["b"] ** 2, like={"b": np.zeros(()), "w": np.zeros(2)}
    )
    line = fd.curvature.interpolate(
        parabola, {"b": np.ones(()), "w": np.ones(2)}, {"b": np.zeros(()), "w": np.zeros(2)}, 5, by_layer=True
    )
    (whole,) = plotting.draw_line(ax, line, label="all")
    assert_allclose(whole.get_ydata(), 7 * (1 - line.alpha) ** 2, atol=1e-12)
    (alone,) = plotting.draw_line(ax, line, layers=["w"])
    assert alone.get_label() == "['w']"
    assert_allclose(alone.get_ydata(), 4 * (1 - line.alpha) ** 2, atol=1e-12)
    with pytest.raises(ValueError, match=r"got \['norm'\]; there are \['b'\], \['w'\]"):
        plotting.draw_line(ax, line, layers=["norm"])
    with pytest.raises(ValueError, match="interpolate with by_layer=True"):
        plotting.draw_line(ax, fd.curvature.slice1d(L, [0.0, 0.0], [1.0, 1.0], 3), layers="w")


def test_a_plane_bears_contours_and_the_points_it_was_laid_through(ax):
    plane = fd.curvature.slice2d(L, [0.0, 0.0], through=([2.0, 0.0], [1.0, 1.0]), points=11)
    contours = plotting.draw_plane(ax, plane, names=["a", "b", "c"], levels=[50.0, 100.0])
    assert_array_equal(contours.levels, [50, 100])
    assert_allclose(ax.lines[0].get_xydata(), [[0, 0], [2, 0], [1, 1]], atol=1e-12)
    assert [text.get_text() for text in ax.texts] == ["50", "100", "a", "b", "c"]
    plotting.draw_plane(ax, plane, gid="chaotic")
    assert [artist.get_gid() for artist in (*ax.collections, *ax.lines)] == [None, "chaotic", None, "chaotic"]
    with pytest.raises(ValueError, match=r"the plane has marks, 3, got \['a'\]"):
        plotting.draw_plane(ax, plane, names=["a"])


def test_a_density_has_its_eigenvalues_under_its_peaks(ax):
    """Random signs see a diagonal matrix without error: two eigenvalues, a quarter of them at 4."""
    found = fd.curvature.density(lambda x: 2 * x[0] ** 2 + (x[1:] ** 2).sum() / 2, np.zeros(4), jax.random.key(0))
    line = plotting.draw_density(ax, found, width=0.1)
    x, y = line.get_data()
    assert_allclose(np.sum(y * np.gradient(x)), 1, rtol=2e-3)  # 4 standard deviations on either side, and a grid
    assert_allclose(np.sum((y * np.gradient(x))[x > 2.5]), 0.25, rtol=2e-3)
    assert abs(x[np.argmax(y)] - 1) <= x[1] - x[0]
    assert ax.get_yscale() == "log"
    drawn = plotting.draw_density(ax, found, box=(0, 2), points=11)
    assert_allclose(drawn.get_xdata(), np.linspace(0, 2, 11))
    with pytest.raises(ValueError, match="width"):
        plotting.draw_density(ax, found, width=0)


# --- numbers with errors, against a setting or the step -------------------------------------------------------------


def key_of(ax):
    """What stands in the key."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_series_are_points_with_their_errors_beside_lines_of_laws(ax):
    x, values, errors = [0.0, 0.5, 1.0], [1.0, 2.0, np.nan], [0.1, 0.2, 0.3]
    drawn = plotting.draw_series(
        ax,
        x,
        {"SAM": (values, errors), "digits": values},
        laws={"SAM": ([0, 1], [1, 3])},
        reference={"SGD": 1.5},
        ticks=True,
    )
    points, _, (bars,) = drawn["SAM"][0]
    assert_array_equal(points.get_xydata(), np.transpose([x, values]))
    assert_allclose([bar[:, 1] for bar in bars.get_segments()[:2]], [[0.9, 1.1], [1.8, 2.2]])
    assert_array_equal(drawn["SAM"][1].get_xydata(), [[0, 1], [1, 3]])
    assert points.get_color() == drawn["SAM"][1].get_color() == plotting.method_color("SAM")
    assert (points.get_linestyle(), drawn["SAM"][1].get_marker()) == ("None", "None")
    assert key_of(ax) == ["SGD", "SAM", "digits", "simulated", "theory"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "0.5", "1"]
    ax.set(xlabel="x", ylabel="y")
    assert plotting.check_figure(ax.figure) == []


def test_series_with_ends_are_bands_or_bars(ax):
    ends = [[1.0, 2.0], [0.5, 1.0], [3.0, 3.5]]
    bars = plotting.draw_series(ax, [1, 2], {"a": ends}, gid="chaotic")["a"][0]
    assert_allclose([bar[:, 1] for bar in bars[2][0].get_segments()], [[0.5, 3], [1, 3.5]])
    assert {part.get_gid() for part in bars.get_children()} == {"chaotic"}
    line, shade = plotting.draw_series(ax, {"b": [1, 2]}, {"b": ends}, band=True, gid="chaotic")["b"]
    assert_allclose(shade.get_datalim(ax.transData).get_points(), [[1, 0.5], [2, 3.5]])
    assert line.get_gid() == shade.get_gid() == "chaotic"
    assert_allclose(
        plotting.draw_series(ax, {"c": [[1], [0.5]]}, {"c": [2]})["c"][0][2][0].get_segments(), [[[0.5, 2], [1.5, 2]]]
    )
    with pytest.raises(ValueError, match=r"x\['c'\] must be places or \(places, standard errors >= 0\)"):
        plotting.draw_series(ax, {"c": [[1], [-0.5]]}, {"c": [2]})
    for wrong in ([1.0], [[1, 2], [-1, 0]], np.zeros((4, 2))):
        with pytest.raises(ValueError, match=r"series\['a'\] must"):
            plotting.draw_series(ax, [1, 2], {"a": wrong})


def test_series_above_words_stand_beside_each_other(ax):
    drawn = plotting.draw_series(ax, ["two layers", "eight layers"], {"free": [1, 2], "held": ([2, 3], [0.1, 0.1])})
    assert [text.get_text() for text in ax.get_xticklabels()] == ["two layers", "eight layers"]
    free, held = (bars[0].get_xdata() for (bars,) in drawn.values())
    assert (free < held).all()
    assert_array_equal(np.round([free, held]), [[0, 1], [0, 1]])
    assert drawn["free"][0][0].get_linestyle() == "None"


def test_a_sweep_is_drawn_with_the_errors_it_has(ax):
    cells = {"rho": [0.1, 0.2, 0.4], "ascent": ["shared", "full"]}
    value = np.arange(6.0).reshape(3, 2)
    parts = {"seen": value, "seen_stderr": value / 10, "law": value + 1}
    sweep = xarray.Dataset({name: (tuple(cells), part) for name, part in parts.items()}, cells)
    drawn = plotting.draw_sweep(ax, sweep, "seen", "rho", law="law", law_name="exact law", label="SAM")
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "exact law"
    assert list(drawn) == ["SAM, shared", "SAM, full"]
    for i, (bars, law) in enumerate(drawn.values()):
        assert_array_equal(bars[0].get_xydata(), np.transpose([cells["rho"], value[:, i]]))
        assert_allclose([np.ptp(bar[:, 1]) for bar in bars[2][0].get_segments()], value[:, i] / 5)
        assert_array_equal(law.get_ydata(), value[:, i] + 1)
    assert (ax.get_xlabel(), ax.get_ylabel()) == (r"$\rho$", "seen")
    one = plotting.draw_sweep(ax, sweep.sel(ascent="full"), "seen", "rho", label="USAM")
    assert list(one) == ["USAM"]
    with pytest.raises(ValueError, match="value must be a result of the sweep, got 'mean'; there are seen"):
        plotting.draw_sweep(ax, sweep, "mean", "rho")
    usual = plotting.draw_sweep(ax, sweep)  # the first result, along the longest list of numbers
    assert list(usual) == ["shared", "full"]
    assert_array_equal(usual["full"][0][0].get_xydata(), np.transpose([cells["rho"], value[:, 1]]))
    with pytest.raises(ValueError, match="along must be given, as no parameter of the sweep is of numbers"):
        plotting.draw_sweep(ax, sweep.isel(rho=0))
    with pytest.raises(ValueError, match="sweep must hold a result to draw"):
        plotting.draw_sweep(ax, sweep[[]])


def test_gains_stand_in_the_row_of_their_task(ax):
    gains = {("digits", "SAM"): (1.0, 0.5), ("digits", "SWA"): (-1.0, 0.2), ("text", "SWA"): (0.3, 0.1)}
    drawn = plotting.draw_gains(ax, gains, over="SGD")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["digits", "text"]
    x, y = drawn["SWA"][0].get_data()
    assert_allclose(x, [-1, 0.3])
    assert_allclose(np.round(y), [0, -1])
    assert_allclose(drawn["SAM"][2][0].get_segments()[0][:, 0], [0.5, 1.5])
    assert ax.get_xlabel() == "test accuracy minus that of SGD (points)"
    assert key_of(ax) == ["SAM", "SWA", "one standard error"]
    assert plotting.check_figure(ax.figure) == []
    with pytest.raises(TypeError, match=r"gains must be a dict, \(task, method\) -> .* got the key 'digits'"):
        plotting.draw_gains(ax, {"digits": (1.0, 0.5)}, over="SGD")


def test_ratios_stand_below_the_work_that_both_do(ax):
    ratios = {
        ("basins", "numba"): (1.2, 1.1, 1.5),
        ("networks", "torch"): (70.0, 60.0, 80.0),
        ("basins", "C by hand"): (0.5, 0.4, 0.5),
    }
    bars = plotting.draw_ratios(ax, ratios)
    x, y = bars[0].get_data()
    assert_array_equal(x, [1.2, 0.5, 70.0])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["numba", "C by hand", "torch"]
    heads = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert heads["basins"] > y[0] > y[1] > heads["networks"] > y[2]
    assert_allclose(bars[2][0].get_segments()[0][:, 0], [1.1, 1.5])
    assert key_of(ax) == ["lowest to highest round", "as fast"]
    assert ax.get_xscale() == "log"
    assert plotting.check_figure(ax.figure) == []
    for ends in [(1.2, 1.3, 1.5), (1.2, 1.1, 1.15), (1.2, 0.0, 1.5), (1.2, 1.1)]:
        with pytest.raises(ValueError, match=r"ratios\[\('a', 'b'\)\] must be \(ratio, lowest, highest\), 0 < lowest"):
            plotting.draw_ratios(ax, {("a", "b"): ends})
    with pytest.raises(TypeError, match=r"ratios must be a dict, \(work, rival\) -> .* got the key 'a'"):
        plotting.draw_ratios(ax, {"a": (1.0, 1.0, 1.0)})


def test_a_map_has_its_numbers_in_its_cells(ax):
    values = [[1.0, 20.0, np.inf], [3.0, np.nan, 400.0]]
    image = plotting.draw_map(ax, [1, 4, 16], [0.0, 0.9], values, name="steps", numbers=True, log=True, limits=(1, 100))
    assert_array_equal(image.get_array(), values)
    assert {text.get_position(): text.get_text() for text in ax.texts} == {
        (0, 0): "1",
        (1, 0): "20",
        (2, 0): "–",
        (0, 1): "3",
        (1, 1): "–",
        (2, 1): "400",
    }
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "4", "16"]
    assert image.colorbar.extend == "max"
    ax.set(xlabel="$B$", ylabel=r"$\mu$")
    assert plotting.check_figure(ax.figure) == []


def test_a_map_has_a_curve_where_growth_is_zero(ax):
    x, y = np.linspace(0, 1, 5), np.linspace(0, 1, 4)
    z = x + 0 * y[:, None] - 0.3
    image = plotting.draw_map(ax, x, y, np.zeros((4, 5)), name="share", limits=(0, 1), contours={"growth 0": z})
    assert_array_equal(image.get_array(), np.zeros((4, 5)))
    (curve,) = (one for one in ax.collections if hasattr(one, "levels"))
    assert_allclose(curve.get_paths()[0].vertices[:, 0], 0.3)
    assert key_of(ax) == ["growth 0"]
    with pytest.raises(ValueError, match=r"values must have one row for each y and one column for each x, \(4, 5\)"):
        plotting.draw_map(ax, x, y, np.zeros((5, 4)), name="share")


def test_the_capture_set_has_its_exact_boundary(ax):
    box, rho = [(-2, 2), (-1, 3)], 0.5
    image, lines = plotting.draw_capture_set(ax, rho, box, resolution=81)
    corners = np.stack(np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-1, 3, 81)), axis=-1)
    assert_array_equal(image.get_array(), fd.quadratic.captured(corners, rho))
    assert len(lines) == 4
    x, y = lines[0].get_data()
    inside = (x > 0.01) & (x < 2)
    assert_allclose(y[inside], fd.quadratic.capture_boundary(x[inside], rho), rtol=1e-6)  # of its own 1e-10, by far
    assert key_of(ax) == [r"exact boundary, $\rho = 0.5$", "escapes", "ends at the saddle"]
    plotting.draw_capture_set(ax, 1.5, box, captured=np.ones((3, 2), bool))
    assert any("1.5" in label for label in key_of(ax))
    assert plotting.check_figure(ax.figure) == []


def test_distances_and_losses_are_those_of_the_runs(ax):
    bowl = fd.landscapes.saddle()
    runs = {
        f"SAM, {plotting.setting(rho=rho)}": fd.simulate(fd.Iteration(bowl, fd.SAM(0.1, rho)), [1.0, 0.5], 20)
        for rho in (0.1, 0.5)
    }
    runs["two"] = fd.simulate(fd.Iteration(bowl, fd.GD(0.1)), [[1.0, 0.5], [0.5, 1.0]], 20)
    drawn = plotting.draw_distance(ax, runs, (0, 1), of="(0, 1)")
    assert [len(lines) for lines in drawn.values()] == [1, 1, 2]
    for name, lines in drawn.items():
        theta = np.reshape(runs[name].theta, (len(lines), 21, 2))
        for line, path in zip(lines, theta, strict=True):
            assert_allclose(line.get_ydata(), np.hypot(path[:, 0], path[:, 1] - 1), rtol=1e-6)
    assert key_of(ax) == list(runs)
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "distance from (0, 1)")
    assert plotting.check_figure(ax.figure) == []
    (line,) = plotting.draw_loss(ax, {"two": runs[r"SAM, $\rho = 0.1$"]}, bowl, above=-1.0)["two"]
    assert_allclose(line.get_ydata(), bowl.loss(runs[r"SAM, $\rho = 0.1$"].theta) + 1)
    with pytest.raises(ValueError, match="landscape must have as many coordinates as the runs, 2, this has 3"):
        plotting.draw_loss(ax, runs, fd.landscapes.rosenbrock(3))


def escapes(steps, escaped):
    """Escapes with these times, from 0 on the line."""
    runs = len(steps)
    places = np.zeros((runs, 1))
    return fd.escape.Escapes(
        steps=np.array(steps),
        escaped=np.array(escaped),
        diverged=np.zeros(runs, bool),
        start=places,
        exit=places,
        dt=np.ones(()),
        config={},
        provenance={},
    )


def test_survival_is_a_band_or_points_beside_the_law(ax):
    seen = escapes([1, 2, 2, 5], [True, True, True, False])
    line, shade = plotting.draw_survival(ax, {"SAM": seen}, gid="chaotic")["SAM"]
    assert_allclose(line.get_ydata(), [1, 0.75, 0.25, 0.25, 0.25, 0.25])
    assert line.get_gid() == shade.get_gid() == "chaotic"
    assert key_of(ax) == ["SAM", "95 % interval"]
    assert plotting.check_figure(ax.figure) == []
    law = fd.escape.ExitLaw(mean=2.0, factor=0.5, right=0.5, head=np.ones(1))
    ax.clear()
    bars, curve = plotting.draw_survival(
        ax, {"SAM": seen}, laws={"SAM": law}, at=[1, 3, 9], level=0.9, bounds={"theorem": ([1, 2], [0, 0], [1, 1])}
    )["SAM"]
    assert_array_equal(bars[0].get_xydata(), [[1, 0.75], [3, 0.25]])  # nothing was seen at 9
    assert_allclose(curve.get_ydata(), 0.5 ** curve.get_xdata())
    assert sorted(key_of(ax)) == ["90 % interval", "SAM", "exact law", "simulated", "theorem"]
    assert plotting.check_figure(ax.figure) == []


def test_what_existing_drawings_mean_is_in_their_key(ax):
    run = fd.simulate(fd.Iteration(L, fd.GD(1e-2)), np.array([[1.0, 1.0], [90.0, 90.0]]), 30)
    plotting.draw_paths(ax, run, color=plotting.method_color("GD"), label="GD")
    kinds = list(plotting.draw_critical_points(ax, L.critical_points()))
    plotting.draw_key(ax)
    assert key_of(ax) == ["GD", "start", "end", "last point of a run that diverged", *kinds]
