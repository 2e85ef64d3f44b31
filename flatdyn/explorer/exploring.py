"""The explorer as an object: its controls, and the records behind what a view shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from flatdyn.basins import Basins
from flatdyn.core.records import Ensemble
from flatdyn.escape import Escapes
from flatdyn.explorer import answers, messages, setups
from flatdyn.explorer.answers import Scene
from flatdyn.explorer.lanes import Lane
from flatdyn.explorer.setups import Setup
from flatdyn.processes import Iteration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COARSE, FINER = 64, (128, 256)  # points per side of the basin maps that follow one another
_QUIET = 0.25  # seconds without a move before finer maps are begun
_PLACE = "landscape", "expression"  # controls that change the scene
_OF_PATH = "start", "steps", "shown"  # controls of which basins and stays know less, or nothing

Stale = Callable[[], bool]
Send = Callable[[dict, list], None]  # a message and its binary parts


class _State(NamedTuple):
    """What a move of a control changes, all at once: the lanes read it while a view writes it."""

    values: dict[str, Any]
    setup: Setup
    scene: Scene


class Explorer:
    """Controls, and what is seen under them; made by :func:`flatdyn.explore`.

    Attributes:
        multipliers: of each critical point in view; None where the step jumps there
        basins: the finest map so far, as :func:`flatdyn.map_basins` gives it; None before there is one
        escapes: how long runs stay, as :func:`flatdyn.escape_times` gives it; None without noise
    """

    def __init__(self, own: Mapping[str, Any], values: Mapping[str, Any], box: Any = None):
        self._own, self._box = dict(own), box
        landscape = self._landscape(values)
        scene = answers.look(landscape, self._box_of(values))
        values = usual(scene, values["method"]) | {name: value for name, value in values.items() if value is not None}
        self._state = _State(values, self._read(values, landscape), scene)
        self._run: Ensemble | None = None
        self.multipliers: list[np.ndarray] | None = None
        self.basins: Basins | None = None
        self.escapes: Escapes | None = None
        self._send: Send | None = None
        self._widget: Any = None
        self._number, self._warm, self._mapped = 0, set(), None
        self._errors: list[Exception] = []
        self._fast = Lane("flatdyn explorer: path", self._failed)
        self._slow = Lane("flatdyn explorer: basins", self._failed)

    @property
    def values(self) -> dict[str, Any]:
        """The state of the controls by name, as a view sends it."""
        return self._state.values

    @property
    def setup(self) -> Setup:
        """What the controls stand for."""
        return self._state.setup

    @property
    def scene(self) -> Scene:
        """The loss in view and its critical points."""
        return self._state.scene

    @property
    def process(self) -> Iteration:
        """What moves."""
        return self.setup.process

    @property
    def run(self) -> Ensemble:
        """The path, as :func:`flatdyn.simulate` gives it."""
        if self._run is None:
            self.answer()
        assert self._run is not None
        return self._run

    @property
    def code(self) -> str:
        """Two lines of Python that give the same path."""
        return self.setup.code

    def __repr__(self) -> str:
        return f"Explorer of\n{self.code}"

    def set(self, **values: Any) -> Explorer:
        """Move controls from Python, and wait for the answer: `explorer.set(lr=0.02, start=(0.1, 1.0))`.

        Args:
            values: by name: landscape, expression, method, lr, rho, momentum, scale, batch_size, ascent, start, steps,
                seed, and shown, a list of "basins", "field", "perturbed" and "many"
        Returns:
            the explorer, whose `run`, `multipliers`, `basins` and `escapes` are those of the new state
        Raises:
            ValueError: if a control is unknown, or a value can't be used
        """
        if unknown := sorted(values.keys() - self.values.keys()):
            raise ValueError(f"there is no control {unknown[0]!r}: there are {', '.join(self.values)}")
        self._take(self.values | values)
        self._tell({"kind": "controls", "values": self.values, "ranges": ranges(self.scene)})
        self.answer()
        return self

    def answer(self) -> None:
        """Ask all that is seen, and wait: the path, the multipliers, the finest basins, how long runs stay."""
        self._errors.clear()
        self._fast.submit(self._quick)
        self.wait(np.inf)
        for error in self._errors:
            raise error

    def figure(self) -> Figure:
        """What is seen as a figure of matplotlib, for a paper or a page."""
        from flatdyn.explorer.figure import draw  # matplotlib's pyplot, which an explorer in a browser need not load

        if self._run is None:
            self.answer()
        return draw(self)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        from flatdyn.explorer import widget  # needs anywidget, which only a notebook does

        if self._widget is None:
            self._widget = widget.View(self)
        return widget.bundle(self._widget, self, **options)

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until all that is seen is up to date; whether it is."""
        return self._fast.wait(seconds) and self._slow.wait(seconds)  # the first gives the second its work

    def close(self) -> None:
        """End the work in the background."""
        self._fast.close()
        self._slow.close()

    # --- what a view asks and gets --------------------------------------------------------------------------

    def connect(self, send: Send) -> None:
        """From now on answers go to this view."""
        self._send = send

    def asked(self, message: Mapping[str, Any]) -> None:
        """A message of the view: "ready", or "set" with the values of its controls. Answers follow by themselves."""
        self._number = message.get("number", 0)
        if message.get("kind") == "ready":
            self._tell(self._greeting())
            self._tell(*messages.of_scene(self.setup, self.scene))
            self._mapped = None
        else:
            try:
                self._take(self.values | dict(message["values"]))
            except (ValueError, TypeError) as error:
                self._wrong(error)
                return
        self._fast.submit(self._quick)

    def _tell(self, message: dict, parts: list | None = None) -> None:
        if self._send is not None:
            self._send(message | {"number": self._number}, parts or [])

    def _wrong(self, error: Exception) -> None:
        self._tell({"kind": "wrong", "text": str(error) or type(error).__name__})

    def _failed(self, error: Exception) -> None:
        self._errors.append(error)
        self._mapped = None
        self._wrong(error)
        self._tell({"kind": "done"})

    def _greeting(self) -> dict:
        """All choices that the controls offer, and their state."""

        def own(name: str) -> list[str]:
            return [setups.OWN] if self._own[name] is not None else []

        return {
            "kind": "controls",
            "values": self.values,
            "ranges": ranges(self.scene),
            "landscapes": [*own("landscape"), *setups.landscapes(), setups.EXPRESSION],
            "methods": [*own("method"), *setups.METHODS],
            "ascents": list(setups.ASCENTS),
            "lengths": list(setups.STEPS),
            "own_noise": bool(own("noise")),
        }

    # --- the state of the controls --------------------------------------------------------------------------

    def _take(self, values: dict[str, Any]) -> None:
        """Take new values of all controls, or raise ValueError and stay as before."""
        before = self.values
        if any(values[name] != before[name] for name in _PLACE):
            landscape = self._landscape(values)
            scene = answers.look(landscape, self._box_of(values))
            given = {name: value for name, value in values.items() if str(value) != str(before[name])}
            values |= usual(scene, values["method"]) | given
            setup = self._read(values, landscape)
            self._state = _State(values, setup, scene)
            self._tell({"kind": "controls", "values": values, "ranges": ranges(scene)})
            self._tell(*messages.of_scene(setup, scene))
            return
        other = values["method"] != before["method"] and values["rho"] == before["rho"]
        if other:  # ρ is in another unit
            values["rho"] = usual(self.scene, values["method"])["rho"]
        self._state = _State(values, self._read(values, self.setup.landscape), self.scene)
        if other:
            self._tell({"kind": "controls", "values": values})

    def _landscape(self, values: Mapping[str, Any]):
        if values["landscape"] == setups.OWN:
            return self._own["landscape"]
        return setups.read_landscape(values["landscape"], values["expression"])

    def _box_of(self, values: Mapping[str, Any]) -> Any:
        return self._box if values["landscape"] == setups.OWN else None

    def _read(self, values: Mapping[str, Any], landscape: Any) -> Setup:
        return setups.from_controls(values, self._own, landscape)

    # --- the answers ----------------------------------------------------------------------------------------

    def _working(self, what: str, setup: Setup) -> None:
        """A sign of work before a program is compiled for the first time."""
        word = (what, jax.tree.structure(setup.process), setup.steps)
        if word not in self._warm:
            self._warm.add(word)
            self._tell({"kind": "working", "text": f"compiling: {what} …"})

    def _quick(self, stale: Stale) -> None:
        """What follows the hand: path and multipliers, then what else is shown."""
        state = self._state
        values, setup, scene = state
        shown = values["shown"]
        self._working("path", setup)
        self._run = run = answers.path(setup)
        self._tell(*messages.of_path(setup, scene, run))
        self._working("multipliers", setup)
        self.multipliers = answers.multipliers(setup, scene)
        self._tell(*messages.of_multipliers(setup, scene, self.multipliers))
        if "field" in shown:
            self._tell(*messages.of_field(*answers.field(setup, scene)))
        if "perturbed" in shown:
            self._tell(*messages.of_perturbed(answers.perturbed(setup, run.theta)))
        if "many" in shown:
            self._working("many runs", setup)
            self._tell(*messages.of_many(answers.many(setup, scene)))
        self._tell({"kind": "done"})
        if self._mapped != (question := _question(state)):
            self._mapped = question  # asked: who comes back to it before it is answered asks again
            self._slow.submit(lambda stale: self._thorough(stale, state))

    def _thorough(self, stale: Stale, state: _State) -> None:
        """Basins, coarse and then finer, and how long runs stay; dropped between two of them if there is news."""
        values, setup, scene = state
        maps = (COARSE, *FINER) if "basins" in values["shown"] else ()
        if maps or setup.process.random:
            self._working("basins and stays", setup)
        self.basins = None if not maps else self.basins
        for resolution in maps[:1]:
            self._map(setup, scene, resolution)
        stay = answers.stay(setup, scene)
        if scene is not self.scene:
            return
        self.escapes = stay and stay[0]
        self._tell(*messages.of_stay(setup, stay))
        if self._send is not None and not self._slow.pause(_QUIET, stale):
            return
        for resolution in maps[1:]:
            if stale():
                return
            self._map(setup, scene, resolution)

    def _map(self, setup: Setup, scene: Scene, resolution: int) -> None:
        basins = answers.basins(setup, scene, resolution)
        if scene is not self.scene:  # another landscape is in view by now
            return
        self.basins = basins
        self._tell(*messages.of_basins(self.basins))


def _question(state: _State) -> tuple:
    """What basins and stays depend on: of the start, stays need to know beside which critical point it is."""
    values, setup, scene = state
    center = scene.nearest(setup.start) if setup.process.random else None
    own = tuple((name, str(value)) for name, value in values.items() if name not in _OF_PATH)
    return own, "basins" in values["shown"], None if center is None else tuple(center.theta)


def ranges(scene: Scene) -> dict[str, Any]:
    """Ends of the sliders, from the size of the view and its curvature."""
    curvature, radii = scene.curvature, [*setups.METHODS, setups.OWN]
    return {
        "lr": [_short(1e-3 / curvature), _short(10 / curvature)],
        "rho": {name: _short(10 * _radius(scene, name)) for name in radii},
        "scale": _short(curvature * scene.diagonal),
    }


def usual(scene: Scene, method: str) -> dict[str, Any]:
    """Values to begin with: a fifth of 1/λ for the learning rate, a small radius, a start beside a saddle."""
    beside = [point for point in scene.points if point.kind != "minimum"] or list(scene.points)
    lows, highs = np.array(scene.box).T
    middle = beside[0].theta if beside else (lows + highs) / 2
    shift = 0.04 * (highs - lows) * np.array([1.0, 0.6])[: len(lows)]
    start = np.clip(middle + shift, lows, highs)
    values = {"lr": _short(0.2 / scene.curvature), "rho": _short(_radius(scene, method)), "momentum": 0.0}
    return values | {"start": [_short(x, 4) for x in start]}


def _radius(scene: Scene, method: str) -> float:
    """ρ in the method's own unit: of θ, of θ per gradient, or a share of θ."""
    if method == "ASAM":
        return 0.1
    return 0.5 / scene.curvature if method == "USAM" else 0.02 * scene.diagonal


def _short(value: float, digits: int = 2) -> float:
    return float(f"{value:.{digits}g}")
