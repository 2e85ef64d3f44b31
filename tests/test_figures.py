"""Figures stand alone: colours that everyone can tell apart, keys for all that is drawn, and a check that says what
is missing."""

import itertools
import pickle

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose

from flatdyn import plotting
from flatdyn.basins import FractionCurve
from flatdyn.plotting.colors import METHOD_COLORS, OTHER_COLORS

# --- colours that everyone can tell apart ---------------------------------------------------------------------
# Matrices on linear RGB for the complete lack of one kind of cones: Machado, Oliveira and Fernandes, IEEE Trans.
# Vis. Comput. Graph. 15, 1291 (2009), table at severity 1.0.
VISION = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TOGETHER = [  # methods that share a figure
    ["GD", "heavy ball", "Nesterov", "SAM", "USAM", "DNSAM"],
    ["GD", "SAM", "SWA", "WASAM"],
    ["GD", "SAM", "USAM", "ASAM", "SAM-ON"],
    ["GD", "heavy ball", "Adam", "LaLa", "AdLaLa", "LOL"],
    ["GD", "heavy ball", "Langevin", "Adam"],
    ["GD", "SAM", "heavy ball", "multirate"],
]


def lab(color, vision="all cones"):
    """CIE L*a*b* of an sRGB colour under D65 (IEC 61966-2-1; CIE 15), as an eye of this kind sees it."""
    srgb = np.array(to_rgb(color))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    ratio = xyz @ linear / [0.95047, 1, 1.08883]
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one, other, vision="all cones"):
    """The distance ΔE of CIE 1976; 2.3 is just seen."""
    return np.linalg.norm(lab(one, vision) - lab(other, vision))


def test_distances_are_those_of_the_standard():
    assert_allclose(lab("white"), [100, 0, 0], atol=0.02)  # the matrix has 7 digits
    assert_allclose(lab("red"), [53.24, 80.09, 67.20], atol=0.02)  # published values of sRGB's red
    assert apart("red", "green", "deuteranopia") < 0.6 * apart("red", "green")
    for vision in VISION:  # grey stays grey: rows add up to 1
        assert_allclose(np.sum(VISION[vision], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("vision", VISION)
def test_methods_of_one_figure_differ_for_every_eye(vision):
    for group in TOGETHER:
        for one, other in itertools.combinations(group, 2):
            assert apart(METHOD_COLORS[one], METHOD_COLORS[other], vision) >= 15, (one, other)


def test_methods_differ_in_colour_and_in_grey():
    looks = {name: plotting.method_style(name) for name in METHOD_COLORS}
    for one, other in itertools.combinations(looks, 2):
        assert apart(looks[one]["color"], looks[other]["color"]) >= 20, (one, other)
        assert (looks[one]["marker"], looks[one]["ls"]) != (looks[other]["marker"], looks[other]["ls"]), (one, other)
    for group in TOGETHER:  # grey is lightness alone, which 16 colours cannot have to themselves
        assert len({looks[name]["marker"] for name in group}) == len(group)
    assert {name for group in TOGETHER for name in group} == set(METHOD_COLORS)


@pytest.mark.parametrize("vision", VISION)
def test_other_things_look_unlike_gd_and_sam_and_each_other(vision):
    for one in [*OTHER_COLORS, *plotting.shades(6)]:
        for method in ("GD", "SAM"):
            assert apart(one, METHOD_COLORS[method], vision) >= 20, (one, method)
    for one, other in itertools.combinations(OTHER_COLORS, 2):
        assert apart(one, other, vision) >= 20
    for n in range(2, 7):
        shades = plotting.shades(n)
        assert min(apart(*pair, vision) for pair in itertools.pairwise(shades)) >= 11
        light = [lab(shade)[0] for shade in shades]
        assert (np.diff(light) >= 9).all()  # in grey, too


@pytest.mark.parametrize("vision", VISION)
def test_basins_of_minima_and_saddles_differ_for_every_eye(vision):
    names = [*(f"minimum {i}" for i in range(4)), *(f"saddle {i}" for i in range(3)), "maximum"]
    curve = FractionCurve(
        parameter=np.zeros(1),
        names=np.array([*names, "diverged", "undecided"]),
        kinds=np.array([[*(name.split()[0] for name in names), "", ""]]),
        fractions=np.full((1, len(names) + 2), 0.1),
        stderr=np.zeros((1, len(names) + 2)),
        theta=np.zeros((1, len(names) + 2, 2)),
        config={"parameter": "rho"},
        provenance={},
    )
    colors = plotting.basin_colors(curve)
    for one, other in itertools.combinations(colors, 2):
        assert apart(colors[one], colors[other], vision) >= 14, (one, other)
    for name in names:  # shaded and with keys; at a glance they must not be read as a method
        assert min(apart(colors[name], METHOD_COLORS[method]) for method in ("GD", "SAM")) >= 30, name


def test_the_cycle_of_the_style_is_that_of_other_things():
    with plt.style.context("flatdyn.paper"):
        cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert [f"#{color.lstrip('#')}".upper() for color in cycle] == [color.upper() for color in OTHER_COLORS]


@pytest.mark.parametrize(
    ("label", "method"),
    {
        "SGD": "GD",
        "GD, twice the steps": "GD",
        r"SAM, $\rho = 0.5$": "SAM",
        "USAM": "USAM",
        "WASAM, late": "WASAM",
        "ASAM on gains": "ASAM",
        "SAM-ON": "SAM-ON",
        "SAM less SGD": "SAM",  # the first one
        "heavy ball": "heavy ball",
        "SGD, momentum": "heavy ball",
        "SGD with momentum 0.9": "heavy ball",
        "USAM, heavy ball": "USAM",
        "GD, Nesterov": "Nesterov",
        "AdLaLa": "AdLaLa",
        "LaLa": "LaLa",
        "SGLD": "Langevin",
        "Multirate, head fast": "multirate",
        "same": None,
        "Adamant": None,
        "digits": None,
    }.items(),
)
def test_a_label_tells_its_method(label, method):
    assert plotting.method_of(label) == method
    if method is None:
        with pytest.raises(ValueError, match=r"label must name a method, one of GD, .*got"):
            plotting.method_color(label)
    else:
        assert plotting.method_color(label) == plotting.method_style(label)["color"] == METHOD_COLORS[method]


def test_curves_of_one_method_have_its_colour_and_other_faces():
    names = ["SAM", "SAM, full", "SAM, late", "digits", "text"]
    looks = plotting.styles(names)
    assert [looks[name]["color"] for name in names] == [METHOD_COLORS["SAM"]] * 3 + list(OTHER_COLORS[:2])
    assert len({tuple(sorted(map(str, look.items()))) for look in looks.values()}) == len(names)
    assert looks["SAM, full"]["mfc"] == "white"
    given = plotting.styles(names, dict(zip(names, plotting.shades(5), strict=True)))
    assert [given[name]["color"] for name in names] == plotting.shades(5)
    with pytest.raises(ValueError, match="colors must be as many as labels, 5, got 2"):
        plotting.styles(names, ["red", "blue"])


def test_labels_follow_their_values():
    assert plotting.setting(rho=0.5, lr=1e-5) == r"$\rho = 0.5$, $\eta = 10^{-5}$"
    assert plotting.setting(batch_size=16, ascent="shared") == "$B = 16$, shared"
    assert plotting.setting(m=2.5e-7) == r"$m = 2.5 \times 10^{-7}$"
    assert plotting.quantity_name("momentum") == r"$\mu$"
    with pytest.raises(ValueError, match=r"rho must be one number, got \[0.1, 0.2\]"):
        plotting.setting(rho=[0.1, 0.2])


# --- keys -----------------------------------------------------------------------------------------------------


@pytest.fixture
def panel():
    """Named axes with a curve of GD."""
    with plt.style.context("flatdyn.paper"):
        figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], label="GD", **plotting.method_style("GD"))
    ax.set(xlabel="step", ylabel="loss", title="(a)")
    yield ax
    plt.close(figure)


def test_a_key_holds_each_label_and_meaning_once(panel):
    plotting.explain(panel, "start", marker="o", ls="none")
    plotting.explain(panel, "start", marker="s", ls="none")  # the last word counts
    plotting.explain(panel, "held", patch=True, color="0.8")
    legend = plotting.draw_key(pickle.loads(pickle.dumps(panel)))
    assert [text.get_text() for text in legend.get_texts()] == ["GD", "start", "held"]
    assert legend.legend_handles[1].get_marker() == "s"
    plotting.draw_key(panel.figure, fontsize=5)
    assert [text.get_text() for text in panel.figure.legends[0].get_texts()] == ["GD", "start", "held"]
    figure, empty = plt.subplots()
    assert plotting.draw_key(empty) is None
    plt.close(figure)


# --- what is missing ------------------------------------------------------------------------------------------


def found(ax, *words):
    """Sentences of the check that hold all these words."""
    return [one for one in plotting.check_figure(ax.figure) if all(word in one for word in words)]


def test_nothing_is_missing_from_a_whole_figure(panel):
    panel.fill_between([0, 1], [0, 0.9], [0.1, 1.1], color=plotting.method_color("GD"), alpha=0.2)  # its errors
    panel.axhline(0.5, color="grey")  # a reference
    panel.errorbar([0, 1], [1, 2], [0.1, 0.1], label="SAM", **plotting.method_style("SAM"))
    plotting.draw_key(panel)
    assert plotting.check_figure(panel.figure) == []


def test_axes_without_a_name(panel):
    plotting.draw_key(panel)
    panel.set_ylabel("")
    assert plotting.check_figure(panel.figure) == ["The y axis of '(a)' has no name."]
    panel.set_yticks([0, 1], ["never", "always"])  # words say what they are
    assert plotting.check_figure(panel.figure) == []


def test_a_shared_axis_is_named_once():
    figure, axes = plt.subplots(1, 2, sharey=True)
    for ax in axes:
        ax.plot([0, 1], [0, 1], color="black")
        ax.set_xlabel("step")
    axes[0].set_ylabel("loss")
    assert plotting.check_figure(figure) == []
    axes[1].set_xlabel("")
    assert plotting.check_figure(figure) == ["The x axis of axes 2 has no name."]
    plt.close(figure)


def test_labels_and_meanings_without_a_key(panel):
    assert plotting.check_figure(panel.figure) == ["In '(a)' no key shows 'GD': draw_key(ax)."]
    plotting.explain(panel, "start", marker="o", ls="none")
    assert found(panel, "no key shows 'GD' and 'start'")
    for i in range(4):
        plotting.explain(panel, str(i), marker="o", ls="none")
    assert found(panel, "no key shows 'GD', 'start', '0' and 3 more")
    plotting.draw_key(panel)
    assert plotting.check_figure(panel.figure) == []
    panel.get_legend().remove()
    panel.text(0.5, 0.5, "GD"), panel.text(0.1, 0, "start"), panel.text(0.1, 0.2, "0 1 2 3")  # labelled directly
    assert plotting.check_figure(panel.figure) == []


@pytest.mark.parametrize(
    ("look", "word"),
    [({"color": "#7A1D54"}, "colour #7a1d54"), ({"marker": "X"}, "marker 'X'"), ({"ls": ":"}, "line style ':'")],
)
def test_a_look_without_a_key(panel, look, word):
    panel.plot([0, 1], [1, 0], **plotting.method_style("GD") | look)
    plotting.draw_key(panel)
    assert found(panel, word, "'(a)' has no key") or found(panel, word, "'(a)' have no key")
    plotting.explain(panel, "another", **plotting.method_style("GD") | look)
    plotting.draw_key(panel)
    assert plotting.check_figure(panel.figure) == []


def test_a_shade_without_a_key(panel):
    plotting.draw_key(panel)
    panel.axhspan(0.2, 0.4, color="#9CCB5A")
    assert found(panel, "area of the colour #9ccb5a")
    plotting.explain(panel, "held", patch=True, color="#9CCB5A")
    plotting.draw_key(panel)
    assert plotting.check_figure(panel.figure) == []


def test_a_map_without_a_bar():
    figure, ax = plt.subplots()
    image = ax.imshow([[0.0, 1.0], [2.0, 3.0]])
    ax.set(xlabel="x", ylabel="y")
    assert found(ax, "neither a colour bar nor a key")
    bar = figure.colorbar(image)
    assert plotting.check_figure(figure) == ["A colour bar has no name: colorbar(label=...) at axes 2."]
    bar.set_label("steps")
    assert plotting.check_figure(figure) == []
    plt.close(figure)


def test_tick_labels_that_overlap(panel):
    plotting.draw_key(panel)
    panel.set_xticks([0, 0.5, 0.52], ["0", "a long word", "another word"])
    assert found(panel, "'a long word' and 'another word' overlap on the x axis")
    panel.set_xticks([0, 0.5, 0.52], ["0", "a long word", ""])
    assert plotting.check_figure(panel.figure) == []
    panel.set(xscale="log", xlim=(0.01, 3e-2))
    panel.set_xticks([0.01, 0.011], ["0.0100", "0.0110"], minor=True)
    assert found(panel, "overlap on the x axis")


def test_titles_that_overlap():
    figure, axes = plt.subplots(1, 2)
    for i, ax in enumerate(axes):
        ax.set_title(f"({'ab'[i]}) a title that is much too long to stand above its own panel alone")
    assert found(axes[0], "titles", "overlap")
    plt.close(figure)


def test_one_method_has_one_colour(panel):
    (line,) = panel.plot([0, 1], [0, 2], color="#7A1D54", label="GD, slow")
    plotting.draw_key(panel)
    assert found(panel, "GD has two colours", "#0072b2", "#7a1d54")
    line.set_color(METHOD_COLORS["SAM"])
    assert found(panel, "'GD, slow' in '(a)' has the colour of SAM.")
    line.set_label("digits")
    assert found(panel, "'digits' in '(a)' has the colour of SAM, and is something else.")
    panel.set_title("(a) SAM on digits and text")  # whose colour it then is
    assert not found(panel, "colour of SAM")
    panel.set_title("(a)")
    for rho, shade in zip([0.1, 0.5], plotting.rho_colors([0.1, 0.5]), strict=True):  # shades of one colour are one
        panel.plot([0, 1], [0, rho], color=shade, label=f"SAM, {plotting.setting(rho=rho)}")
    for m, shade in zip([1, 4], plotting.shades(2), strict=True):  # values of a parameter have shades of their own
        panel.plot([0, 1], [0, m], color=shade, label=f"SAM, {plotting.setting(m=m)}")
    line.set(label="text", color="black")
    plotting.draw_key(panel)
    assert plotting.check_figure(panel.figure) == []


def test_only_figures_are_checked(panel):
    with pytest.raises(TypeError, match="figure must be a Figure"):
        plotting.check_figure(panel)


def test_the_style_shows_figures_only_when_asked():
    """A figure that is begun in one cell and ended in another must not appear half-drawn after the first."""
    was, before = matplotlib.is_interactive(), matplotlib.rcParams.copy()
    try:
        plt.ion()
        plotting.use_style()
        assert not matplotlib.is_interactive()
    finally:
        matplotlib.rcParams.update(before)
        matplotlib.interactive(was)
