"""Drawings are the same under any style of the user's, and of losses that are infinite, constant or huge."""

import warnings

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import plotting

HOSTILE = {
    "image.origin": "upper",
    "image.aspect": "equal",
    "image.interpolation": "bilinear",
    "image.cmap": "gray",
    "contour.negative_linestyle": "dashed",
    "lines.linestyle": "None",
    "lines.marker": "x",
    "axes.grid": True,
    "axes.xmargin": 0.3,
    "legend.loc": "lower left",
    "figure.dpi": 50,
}
STYLES = ["default", "dark_background", "ggplot", "classic", "flatdyn.paper", HOSTILE, {"image.origin": "lower"}]
COLORS = {"left": "red", "right": "blue", "diverged": "gray", "undecided": "yellow"}


@pytest.fixture(params=STYLES, ids=lambda style: style if isinstance(style, str) else str(len(style)))
def ax(request):
    with plt.style.context(["default", request.param]):
        figure, ax = plt.subplots(figsize=(3, 3))
        yield ax
        plt.close(figure)


@pytest.fixture(scope="module")
def basins():
    """The lower left corner goes left, the rest right."""
    corner = fd.Map(lambda t: jax.numpy.where((t < 0).all(), -2.0, 2.0) * jax.numpy.ones(2), 2)
    return fd.map_basins(corner, [(-1, 1)] * 2, (8, 6), {"left": (-2.0, -2.0), "right": (2.0, 2.0)}, max_steps=10)


def pixel(ax, x, y):
    """The colour that is drawn at data coordinates."""
    ax.figure.canvas.draw()
    picture = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3] / 255
    column, row = ax.transData.transform((x, y)).round().astype(int)
    return picture[picture.shape[0] - 1 - row, column]


def test_maps_lie_the_right_way_up(ax, basins):
    plotting.draw_basins(ax, basins, colors=COLORS, shade=False, attractors=False, legend=False)
    ax.grid(False)  # its lines are the user's
    assert_allclose(pixel(ax, -0.7, -0.7), [1, 0, 0], atol=0.01)
    for x, y in [(-0.7, 0.7), (0.7, -0.7), (0.7, 0.7)]:
        assert_allclose(pixel(ax, x, y), [0, 0, 1], atol=0.01)


def test_labels_lie_the_right_way_up(ax):
    labels = np.zeros((4, 5), int)
    labels[0, 0] = 1
    plotting.draw_labels(ax, [(0, 4), (0, 3)], labels, ["a", "b"], ["red", "blue"], legend=False)
    ax.grid(False)
    assert_allclose(pixel(ax, 0.1, 0.1), [0, 0, 1], atol=0.01)
    for x, y in [(0.1, 2.9), (3.9, 0.1), (1.0, 1.0)]:
        assert_allclose(pixel(ax, x, y), [1, 0, 0], atol=0.01)


def test_contours_are_solid_and_where_the_loss_is(ax):
    tilted = fd.Landscape.from_expression("x - 2*y", "x y", box=[(-1, 1)] * 2)
    drawn = plotting.draw_landscape(ax, tilted, levels=[-1.0, 1.0], resolution=11)
    for level, path in zip(drawn.levels, drawn.get_paths(), strict=True):
        x, y = path.vertices.T
        assert_allclose(x - 2 * y, level, atol=1e-12)
    assert all(style == (0, None) for style in drawn.get_linestyles())
    plane = fd.curvature.slice2d(tilted, [0.0, 0.0], through=([1.0, 0.0], [0.0, 1.0]), points=5)
    one = plotting.draw_plane(ax, plane, levels=[-1.0])
    assert all(style == (0, None) for style in one.get_linestyles())


# --- losses that are infinite, constant or huge ---------------------------------------------------------------


def draw(loss, **options):
    figure, ax = plt.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landscape = fd.Landscape.from_function(loss, dim=2, box=[(-1, 1)] * 2)
        drawn = plotting.draw_landscape(ax, landscape, resolution=21, **options)
        figure.canvas.draw()
    plt.close(figure)
    return drawn


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("spacing", ["log", "linear"])
def test_one_infinite_loss_leaves_the_rest(bad, spacing):
    drawn = draw(lambda t: jax.numpy.where((t == 0).all(), bad, t @ t), spacing=spacing)
    assert np.isfinite(drawn.levels).all()
    assert len(drawn.levels) == 14
    assert sum(len(path.vertices) for path in drawn.get_paths()) > 100


@pytest.mark.parametrize("constant", [0.0, -3.0, 1e300])
@pytest.mark.parametrize("spacing", ["log", "linear"])
def test_a_constant_loss_has_a_level_and_no_contours(constant, spacing):
    assert_array_equal(draw(lambda t: constant + 0 * t[0], spacing=spacing).levels, [constant])


def test_the_largest_losses_have_contours():
    drawn = draw(lambda t: 1.7e308 * t[0], spacing="linear")
    assert_allclose(drawn.levels / 1e308, np.linspace(-1.7, 1.7, 16)[1:-1], rtol=1e-12)


def test_a_loss_that_is_finite_nowhere_is_refused():
    with pytest.raises(ValueError, match="finite nowhere"):
        draw(lambda t: np.inf + t[0])


def test_one_value_of_a_parameter_is_drawn_as_a_block():
    figure, ax = plt.subplots()
    one = fd.fractions_in(
        lambda x: fd.Map(lambda t: t / 2, 1), "x", [1.0], [(-1, 1)], 4, jax.random.key(0), {"zero": (0.0,)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (area,) = plotting.draw_fractions(ax, one)
    assert_allclose(area.get_paths()[0].get_extents().get_points(), [[0.5, 0], [1.5, 1]])
    plt.close(figure)
    assert matplotlib.rcParams["image.origin"] == "upper"  # the user's style is left alone
