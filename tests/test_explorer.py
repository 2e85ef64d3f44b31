"""The explorer: what it shows is what the library's questions say; the newest move wins; bad input is a sentence."""

import base64
import json
import re
import threading

import jax
import numpy as np
import pytest

import flatdyn as fd
from flatdyn.explorer import answers, exploring, messages, page, setups
from flatdyn.explorer.lanes import Lane

SAME = {"progress": False}


@pytest.fixture(scope="module")
def explorer():
    """One explorer with a view that keeps what it is sent; its programs are compiled once for this file."""
    made = fd.explore("double_well", "SAM", start=[0.4], steps=100)
    made.sent = []
    made.connect(lambda message, parts: made.sent.append((message, parts)))
    made.asked({"kind": "ready"})
    assert made.wait()
    yield made
    made.close()


def kinds(explorer):
    return [message["kind"] for message, _ in explorer.sent]


def test_what_is_shown_is_what_the_questions_say(explorer):
    explorer.set(lr=0.07, rho=0.2, momentum=0.0, start=[0.6])
    run = fd.simulate(explorer.process, [0.6], 100, **SAME)
    basins = fd.map_basins(explorer.process, [(-2, 2)], 256, list(explorer.scene.points), max_steps=2000, **SAME)
    assert np.array_equal(explorer.run.theta, run.theta)
    assert np.array_equal(explorer.basins.labels, basins.labels)
    message = messages.of_basins(explorer.basins)[0]
    assert dict(zip(message["names"], message["shares"], strict=True)).items() >= basins.fractions().items()


def test_the_two_lines_give_the_same_path(explorer):
    for changes in ({"lr": 0.03}, {"scale": 0.5, "batch_size": 2.0, "seed": 3, "start": [-0.3]}):
        explorer.set(**changes)
        names = {"fd": fd, "jax": jax}
        exec(explorer.code, names)
        assert np.array_equal(names["run"].theta, explorer.run.theta)
    explorer.set(scale=0.0)


def test_lines_of_a_text_give_its_landscape():
    explorer = fd.explore("(x**2 - 1)**2/4 + x/10", "GD", steps=50)
    names = {"fd": fd}
    exec(explorer.code, names)
    assert np.array_equal(names["run"].theta, answers.path(explorer.setup).theta)


@pytest.mark.parametrize("method", ["GD", "Nesterov", "USAM"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_multipliers_are_those_of_stability(method, momentum):
    landscape = fd.landscapes.saddle()
    scene = answers.look(landscape)
    setup = setups.Setup(landscape, setups.METHODS[method], 0.1, 0.2, momentum, start=(0.1, 0.2), words=("", method))
    (found,) = answers.multipliers(setup, scene)
    exact = fd.stability.multipliers(setup.process, at=scene.points[0].theta)
    assert found == pytest.approx(exact, abs=1e-14)  # both are forward derivatives in 64 bits
    inside = bool((np.abs(exact) < 1).all())
    assert ("view: none" in answers.words(setup, scene, [found])) is not inside


def test_a_normalised_ascent_has_no_multipliers():
    landscape = fd.landscapes.saddle()
    scene = answers.look(landscape)
    for name, expected in (("SAM", None), ("DNSAM", list), ("GD", list)):
        setup = setups.Setup(landscape, setups.METHODS[name], start=(0.1, 0.2), words=("", name))
        found = answers.multipliers(setup, scene)
        assert (found is None) is (setup.process.method.jumps or expected is None)
    assert "no multipliers" in answers.words(setup, scene, None)


def test_perturbed_points_are_where_the_gradient_is_taken():
    landscape = fd.landscapes.saddle((2.0, -2.0))
    setup = setups.Setup(landscape, setups.METHODS["SAM"], 0.1, 0.3, start=(0.1, 0.2), words=("", "SAM"))
    theta = np.array([[3.0, 4.0]])
    assert answers.perturbed(setup, theta) == pytest.approx(theta + 0.3 * np.array([[0.6, -0.8]]), abs=1e-14)


def test_sliders_compile_nothing(explorer, monkeypatch):
    monkeypatch.setattr(exploring, "FINER", (128,))

    def move(shift):
        for name, value in (("lr", 0.08), ("rho", 0.3), ("scale", 1.5), ("batch_size", 7.0), ("seed", 5)):
            explorer.set(**{name: value + (int(shift) if name == "seed" else shift * value / 10)})
        explorer.set(start=[0.9 + shift / 100], scale=0.0)

    def listen(name, seconds, **_):
        if name.endswith("backend_compile_duration"):
            compiled.append(name)

    move(0)  # now each kind of answer has been met, a run that comes to rest for one
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        move(1)
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []


BAD = [
    ({"lr": -1}, "lr must be"),
    ({"lr": None}, "lr must be a number, got None"),
    ({"rho": "x"}, "rho must be a number"),
    ({"momentum": 1.5}, "momentum must be"),
    ({"scale": -1}, "noise must be"),
    ({"scale": 1.0, "batch_size": 0.5}, "batch size must be"),
    ({"start": [float("nan")]}, "start must be finite"),
    ({"start": [0.1, 0.2]}, "start must have"),
    ({"steps": 10**7}, "steps must be at most"),
    ({"seed": -1}, "seed must be"),
    ({"ascent": "up"}, "ascent must be one of"),
    ({"method": "foo"}, "method must be one of"),
    ({"landscape": "nowhere"}, "landscape must be one of"),
    ({"landscape": "expression", "expression": ""}, "expression is empty"),
    ({"landscape": "expression", "expression": "x**2 +"}, "can't be used"),
    ({"landscape": "expression", "expression": "x + y + z"}, "can't be used"),
    ({"landscape": "expression", "expression": "log(-1 - x**2)"}, "can't be used|finite nowhere"),
]


@pytest.mark.parametrize(("values", "text"), BAD, ids=[str(values) for values, _ in BAD])
def test_a_bad_value_is_a_sentence_and_changes_nothing(explorer, values, text):
    before, run = dict(explorer.values), explorer.run
    explorer.sent.clear()
    explorer.asked({"kind": "set", "number": 1, "values": values})
    assert explorer.wait()
    (message, _), *others = explorer.sent
    assert message["kind"] == "wrong"
    assert not others
    with pytest.raises(ValueError, match=text):
        explorer.set(**values)
    assert explorer.values == before
    assert explorer.run is run


def test_an_unknown_control_is_named(explorer):
    with pytest.raises(ValueError, match="there is no control 'eta': there are"):
        explorer.set(eta=0.1)


def test_poles_in_view_are_said():
    scene = answers.look(setups.read_landscape("expression", "log(x**2) + y**2"))
    assert "the loss is not finite at 101 of 10201 points in view" in scene.note  # the column x = 0 of the grid


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((fd.landscapes.rosenbrock(3),), "one or two coordinates, this has 3"),
        (("beale", "Adam"), "method must be one of"),
        (("beale", 3), "method must be"),
        ((3,), "landscape must be"),
        (("beale", "SAM", 0.5), "noise must be"),
    ],
)
def test_what_explore_cannot_use(arguments, text):
    with pytest.raises((ValueError, TypeError), match=text):
        fd.explore(*arguments)


def test_own_objects_are_known_by_name_where_they_have_one():
    known = fd.explore(fd.landscapes.double_well(), fd.GD(0.1, momentum=0.5), fd.noise.Gaussian(0.5, batch_size=4))
    assert known.code.startswith(
        "process = fd.Iteration(fd.landscapes.double_well(), fd.GD(lr=0.1, momentum=0.5), "
        "fd.noise.Gaussian(0.5, batch_size=4.0))"
    )
    mine = fd.explore(fd.landscapes.saddle((3.0, -1.0)), fd.SAM(0.1, 0.1, eps=1e-3), fd.noise.Curvature(0.5))
    assert "(landscape, dataclasses.replace(method, " in mine.code
    assert mine.setup.process.method.eps == 1e-3
    assert isinstance(mine.process.noise, fd.noise.Curvature)


def test_the_stay_has_its_exact_law_on_the_line(explorer):
    explorer.set(lr=0.1, scale=1.5, start=[0.9])
    message, (counts, edges, law) = messages.of_stay(explorer.setup, answers.stay(explorer.setup, explorer.scene))
    counts, edges, law = (np.frombuffer(part, np.float32) for part in (counts, edges, law))
    runs = answers.RUNS
    assert counts.sum() == runs
    assert len(edges) == len(law) + 1
    expected = np.maximum(law, 1.0)  # bars where fewer than one run is expected weigh as one
    # χ² of the bars: mean their number, standard deviation √(2 n); five of them
    assert ((counts - law) ** 2 / expected).sum() < len(law) + 5 * np.sqrt(2 * len(law))
    assert "exact mean" in message["text"]
    explorer.set(scale=0.0)
    assert explorer.escapes is None


def test_stays_are_of_the_point_beside_the_start(explorer):
    explorer.set(scale=1.5, lr=0.1, start=[0.9])
    right = explorer.escapes
    explorer.set(start=[0.8])
    assert explorer.escapes is right  # the same point, nothing to ask
    explorer.set(start=[-0.9])
    assert (explorer.escapes.start < 0).all()
    explorer.set(scale=0.0)


def test_what_is_set_with_another_landscape_is_kept():
    explorer = fd.explore("double_well", "GD", steps=100, shown=[])
    explorer.set(landscape="expression", expression="x**4/4 - x**2/2", start=[0.123], lr=0.0321)
    assert (explorer.setup.start, explorer.setup.lr) == ((0.123,), 0.0321)


def test_basins_that_are_not_shown_are_not_kept(explorer):
    explorer.set(shown=["basins"])
    assert explorer.basins is not None
    explorer.set(shown=[])
    assert explorer.basins is None
    explorer.set(shown=["basins"])


# --- the newest move wins -----------------------------------------------------------------------------------


def test_of_jobs_that_wait_the_newest_alone_is_run():
    done, gate, begun = [], threading.Event(), threading.Event()
    lane = Lane("test", lambda error: done.append(str(error)))

    def first(stale):
        begun.set()
        assert gate.wait(10)
        done.append(("first", stale()))

    lane.submit(first)
    assert begun.wait(10)
    for number in range(5):
        lane.submit(lambda stale, number=number: done.append((number, stale())))
    gate.set()
    assert lane.wait(10)
    assert done == [("first", True), (4, False)]


def test_a_lane_outlives_a_job_that_fails():
    told = []
    lane = Lane("test", told.append)
    lane.submit(lambda stale: 1 / 0)
    assert lane.wait(10)
    lane.submit(lambda stale: told.append("well"))
    assert lane.wait(10)
    assert isinstance(told[0], ZeroDivisionError)
    assert told[1:] == ["well"]
    unheard = Lane("test", lambda error: 1 / 0)
    unheard.submit(lambda stale: 1 / 0)
    unheard.submit(lambda stale: told.append("still there"))
    assert unheard.wait(10)
    assert told.pop() == "still there"
    lane.close()
    lane.submit(lambda stale: told.append("late"))
    assert lane.wait(1)
    assert told[-1] == "well"


def test_finer_maps_are_dropped_for_a_newer_move(explorer):
    explorer.set(lr=0.05)
    explorer.sent.clear()
    for number in range(8):
        explorer.asked({"kind": "set", "number": number, "values": {"lr": 0.05 + 0.001 * number}})
    assert explorer.wait()
    sizes = [message["shape"][0] for message, _ in explorer.sent if message["kind"] == "basins"]
    assert sizes[-2:] == [128, 256]
    assert sizes.count(256) == 1
    assert explorer.basins.config["process"] == fd.map_basins(explorer.process, [(-2, 2)], 2, **SAME).config["process"]


# --- the view -----------------------------------------------------------------------------------------------


def test_a_notebook_stores_the_widget_and_a_picture(explorer):
    pytest.importorskip("anywidget")
    explorer = fd.explore("double_well", "SAM", start=[0.4], steps=100)
    data = explorer._repr_mimebundle_()
    data = data[0] if isinstance(data, tuple) else data
    assert data["image/png"].startswith(b"\x89PNG")
    assert "model_id" in data["application/vnd.jupyter.widget-view+json"]
    assert data["text/plain"] == repr(explorer)


def test_a_view_gets_every_kind_of_answer(explorer):
    explorer.sent.clear()
    explorer.set(shown=["basins", "field", "perturbed", "many"], lr=0.066)
    assert set(kinds(explorer)) >= {"path", "multipliers", "field", "perturbed", "many", "basins", "stay", "done"}
    for message, parts in explorer.sent:
        assert all(isinstance(part, bytes) for part in parts), message["kind"]
    explorer.set(shown=["basins"])


def test_the_page_without_a_kernel_shows_the_same(tmp_path):
    path = page.write_page(tmp_path / "p.html", ["saddle"], ["GD"], rates=[0.3], momenta=[0.5])
    text = path.read_text()
    stored = json.loads(re.search(r'id="answers">(.*?)</script>', text, re.S)[1])
    (cell,) = stored["planes"]["saddle"]["cells"]
    process = fd.Iteration(fd.landscapes.saddle(), fd.GD(cell["lr"], momentum=cell["momentum"]))
    axis = np.linspace(-2, 2, stored["starts"])
    starts = np.stack([part.ravel() for part in np.meshgrid(axis, axis)], axis=-1)
    steps = stored["every"] * (stored["points"] - 1)
    run = fd.simulate(process, starts, steps, every=stored["every"], **SAME)
    places = np.frombuffer(base64.b64decode(cell["paths"]), "<u2").reshape(run.theta.shape) / 65535
    room = stored["room"]
    shown = -2 + 4 * (places * (1 + 2 * room) - room)
    # sixteen bits of the view and the room around it, to which paths are cut
    assert shown == pytest.approx(np.clip(run.theta, -2 - 4 * room, 2 + 4 * room), abs=4 * (1 + 2 * room) / 65535)
    basins = fd.map_basins(process, [(-2, 2)] * 2, 40, [[0.0, 0.0]], max_steps=2000, **SAME)
    assert (
        dict(zip(cell["basins"][0]["names"], cell["basins"][0]["shares"], strict=True))["diverged"]
        == (basins.fractions()["diverged"])
    )
    for piece in ("mount(", "flatdyn-explorer", "stillCarrier"):
        assert piece in text
