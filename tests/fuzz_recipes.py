"""A valid, cheap call of every public name, from which single arguments are replaced; or the reason why there is none.

A recipe makes (callable, arguments by name). Positional-only and starred arguments are given names by a lambda.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import xarray

import flatdyn as fd
from flatdyn import boundaries, curvature, escape, fixedpoints, flows, networks, plotting, quadratic, stability
from flatdyn.basins import draw_starts

matplotlib.use("Agg")

BOX = [(-2.0, 2.0), (-2.0, 2.0)]
AT = [0.5, 0.25]
RULES = {"max_steps": 60, "check_every": 10, "progress": False}
WORDS = "((x**2 - 1)**2 + 2*y**2)/4"


class Fixtures:
    """What many calls share: made once, small, and of the same shapes, so that compiled programs are shared."""

    @functools.cached_property
    def results(self):
        results = fd.notebook.Results("00_fuzz")
        with contextlib.redirect_stdout(io.StringIO()):
            results.add("gain", "gain", 1.0, 0.1)
        return results

    @functools.cached_property
    def folder(self):
        folder = tempfile.mkdtemp(prefix="flatdyn-fuzz-")
        os.environ["FLATDYN_FIGURES"] = folder  # nothing is written anywhere else
        os.chdir(folder)
        return folder

    @functools.cached_property
    def key(self):
        return jax.random.key(0)

    @functools.cached_property
    def L(self):
        return fd.Landscape.from_expression(WORDS, "x y", box=BOX, name="wells")

    @functools.cached_property
    def line(self):
        return fd.Landscape.from_expression("w**4/4 - w**2/2", "w", box=[(-2, 2)], name="line")

    @functools.cached_property
    def symbolic(self):
        import sympy

        return fd.landscapes.rosenbrock(a=sympy.Symbol("a", real=True))

    @functools.cached_property
    def function(self):
        return fd.Landscape.from_function(lambda t: jnp.sum((t**2 - 1) ** 2), dim=2, box=BOX)

    @functools.cached_property
    def examples(self):
        return fd.Landscape.from_examples(
            "(a*x - b)**2 + y**2", {"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 2.0]}, symbols="x y"
        )

    @functools.cached_property
    def process(self):
        return fd.Iteration(self.L, fd.GD(0.1))

    @functools.cached_property
    def sam(self):
        return fd.Iteration(self.L, fd.SAM(0.1, 0.1, eps=0.1))

    @functools.cached_property
    def noisy(self):
        return fd.Iteration(self.L, fd.GD(0.1), fd.noise.Gaussian(1.0))

    @functools.cached_property
    def noisy_line(self):
        return fd.Iteration(self.line, fd.GD(0.1), fd.noise.Gaussian(0.5))

    @functools.cached_property
    def map(self):
        return fd.Map(lambda t: 0.5 * t, 2, BOX)

    @functools.cached_property
    def flow(self):
        return flows.Flow(self.L, fd.GD(0.1))

    @functools.cached_property
    def diffusion(self):
        return flows.Diffusion(self.L, fd.GD(0.1), fd.noise.Gaussian(0.3))

    @functools.cached_property
    def line_diffusion(self):
        return flows.Diffusion(self.line, fd.GD(0.1), fd.noise.Gaussian(0.5))

    @functools.cached_property
    def ensemble(self):
        return fd.simulate(self.process, [AT, [0.1, 0.1]], 5, progress=False)

    @functools.cached_property
    def explorer(self):
        return fd.explore(self.L, "GD", start=AT, steps=5, shown=[])

    @functools.cached_property
    def watched(self):
        return fd.simulate(self.process, AT, 2, observe={"d": curvature.Distance([0.0, 0.0])}, progress=False)

    @functools.cached_property
    def basins(self):
        return fd.map_basins(self.process, BOX, 6, {"left": (-1.0, 0.0), "right": (1.0, 0.0)}, **RULES)

    @functools.cached_property
    def halves(self):
        labels = np.tile(np.arange(130) // 65, (130, 1))
        return type(self.basins)(
            **self.basins.__dict__ | {"labels": labels, "steps": 0 * labels, "status": 0 * labels + 1}
        )

    @functools.cached_property
    def escapes(self):
        return fd.escape_times(self.noisy, AT, escape.Ball([0.0, 0.0], 1.1), 60, 400, self.key, progress=False)

    @functools.cached_property
    def passing(self):
        return fd.Iteration(self.line, fd.GD(0.1), fd.noise.Gaussian(1.5))

    @functools.cached_property
    def committor(self):
        points = np.stack(np.meshgrid([0.0, 1.0], [0.0, 1.0]), axis=-1)
        half, none = np.full((2, 2, 2), 0.5), np.zeros((2, 2))
        arrays = {"points": points, "probability": half, "error": 0 * half, "lost": none, "undecided": none}
        return escape.Committor(config={}, provenance={}, names=np.array(["left", "right"]), **arrays)

    @functools.cached_property
    def rates(self):
        return escape.rates_from(
            [[-1.0], [0.0], [1.0], [0.9], [0.0], [-1.1]], {"left": [-1.0], "right": [1.0]}, radius=0.2
        )

    @functools.cached_property
    def crossing(self):
        theta = np.array([[-1.0, 0.0], [0.0, 0.1], [1.0, 0.0], [-1.0, 0.1], [1.0, 0.2]])
        counts = {"waited": np.zeros(2, int), "undecided": np.array(0), "lost": np.array(0)}
        return escape.ReactivePaths(config={}, provenance={}, theta=theta, first=np.array([0, 3, 5]), **counts)

    @functools.cached_property
    def luck(self):
        return escape.least_noise(self.noisy, [1.0, 0.0], [0.5, 0.25], steps=4, attempts=1)

    @functools.cached_property
    def field(self):
        return escape.quasipotential(self.noisy, BOX, [1.0, 0.0], resolution=3, steps=4)

    @functools.cached_property
    def curve(self):
        make = lambda lr: fd.Iteration(self.L, fd.GD(lr))  # noqa: E731
        return fd.fractions_in(make, "lr", [0.1, 0.2], BOX, 16, self.key, {"right": (1.0, 0.0)}, **RULES)

    @functools.cached_property
    def branch(self):
        return fixedpoints.continue_in(self.heavy, "lr", (1.0, 2.5), [1.0, 0.0])

    def heavy(self, lr, momentum=0.5):
        return fd.Iteration(self.L, fd.GD(lr, momentum=momentum))

    @functools.cached_property
    def manifold(self):
        return fd.invariant_manifold(self.process, [0.0, 0.0], "unstable", spacing=0.5)

    @functools.cached_property
    def split(self):
        x = np.linspace(-1, 1, 24).reshape(12, 2)
        return networks.Split(x, (x[:, 0] > 0).astype(int))

    @functools.cached_property
    def numbers(self):
        return networks.Split(self.split.x, self.split.x @ np.array([[1.0], [2.0]]))

    @functools.cached_property
    def bent(self):
        """Numbers that no unit of tanh fits exactly, so that the fit has an isolated minimum."""
        return networks.Split(self.split.x, np.sin(3 * self.split.x[:, :1]) + self.split.x[:, 1:] ** 2)

    def make(self, key):
        return networks.MLP((2, 3, 2), key, jnp.tanh)

    @functools.cached_property
    def network(self):
        return self.make(self.key)

    @functools.cached_property
    def task(self):
        return networks.classifier(self.network, self.split)

    @functools.cached_property
    def saddle(self):
        return networks.zero_unit(self.network, self.split, 1e-2)

    @functools.cached_property
    def trainer(self):
        return fd.Iteration(self.task.landscape, fd.GD(0.1), fd.noise.FiniteSum(4))

    @functools.cached_property
    def training(self):
        return networks.train(
            self.task,
            self.trainer,
            self.starts,
            4,
            self.key,
            2,
            eval_sets={"a": self.split, "b": self.split},
            progress=False,
        )

    @functools.cached_property
    def starts(self):
        return self.task.starts(self.make, self.key, 2)

    @functools.cached_property
    def plan(self):
        model = functools.partial(networks.MLP, (2, 3, 2), norm="batch")
        return networks.TrialPlan(model, lambda: (self.split, self.split, self.split), 0.1, 4, 10)

    @functools.cached_property
    def trial(self):
        return networks.trial(self.plan, self.key, 2)

    @functools.cached_property
    def spirals(self):
        return networks.spiral_trial(2, turns=1.0, points=40, hidden=3)

    @functools.cached_property
    def comparison(self):
        methods = {
            "GD": {"0.1": self.trainer},
            "SAM": {"0.1": fd.Iteration(self.task.landscape, fd.SAM(0.1, 0.1), fd.noise.FiniteSum(4))},
        }
        return networks.compare(
            self.task, methods, self.starts, 4, self.key, {"valid": self.split, "test": self.split}, evaluations=2
        )

    @functools.cached_property
    def density(self):
        return curvature.density(self.L, AT, self.key, k=2, probes=2)

    @functools.cached_property
    def plane(self):
        return curvature.slice2d(self.L, AT, [[1.0, 0.0], [0.0, 1.0]], points=5)

    @functools.cached_property
    def sliced(self):
        return curvature.slice1d(self.L, [-1.0, 0.0], [1.0, 0.0], points=5)

    @functools.cached_property
    def threshold(self):
        import sympy

        return sympy.symbols("lr rho", positive=True)

    @functools.cached_property
    def condition(self):
        lr, rho = self.threshold
        return stability.conditions(fd.USAM(lr, rho), -1)

    @functools.cached_property
    def fixed(self):
        return fixedpoints.find(self.process, BOX, starts=4)

    @functools.cached_property
    def graph(self):
        return networks.Graph(3, np.array([[0, 1], [1, 2]]), np.ones(2))

    @functools.cached_property
    def extended(self):
        return fd.Extended(self.process, ["lr"])

    @functools.cached_property
    def orthogonal(self):
        return fd.Iteration(self.L, fd.ConstrainedLangevin(0.1, fd.constraints.Sphere(1.0)))

    @property
    def figure(self):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2, 2))
        figure.add_subplot()
        return figure

    @property
    def ax(self):
        return self.figure.axes[0]

    @property
    def ax3(self):
        return self.figure.add_subplot(projection="3d")

    @functools.cached_property
    def record(self):
        return self.ensemble.save(os.path.join(self.folder, "ensemble.npz"))


RECIPES = {}


def recipe(name, make, /):
    """`make(f)` gives (callable, arguments)."""
    RECIPES[name] = make


def call(name, function, /, **arguments):
    """A recipe whose arguments need no fixtures but `f -> value` where callable with the name `f`."""
    recipe(name, lambda f: (function, {k: v(f) if isinstance(v, From) else v for k, v in arguments.items()}))


class From(SimpleNamespace):
    """An argument that is made from the fixtures."""

    def __call__(self, f):
        return self.make(f)


def of(make):
    return From(make=make)


key, process, L = of(lambda f: f.key), of(lambda f: f.process), of(lambda f: f.L)
noisy, line, noisy_line = of(lambda f: f.noisy), of(lambda f: f.line), of(lambda f: f.noisy_line)
split, task, saddle, network = (
    of(lambda f: f.split),
    of(lambda f: f.task),
    of(lambda f: f.saddle),
    of(lambda f: f.network),
)
method = of(lambda f: fd.GD(0.1))
gaussian = of(lambda f: fd.noise.Gaussian(0.3))
ax = of(lambda f: f.ax)


def bound(name, get, /, **arguments):
    """A method of a thing from the fixtures."""
    recipe(name, lambda f: (get(f), {k: v(f) if isinstance(v, From) else v for k, v in arguments.items()}))


# --- describe ---------------------------------------------------------------------------------------------------

call(
    "Landscape.from_expression",
    fd.Landscape.from_expression,
    expression="a*x**2 + y**4",
    symbols="x y",
    box=BOX,
    parameters={"a": 1.0},
    name="mine",
)
call(
    "Landscape.from_function",
    fd.Landscape.from_function,
    loss=lambda t: jnp.sum(t**2),
    dim=2,
    box=BOX,
    name="mine",
    like=None,
)
call(
    "Landscape.from_examples",
    fd.Landscape.from_examples,
    loss="(a*x - b)**2 + y**2",
    examples={"a": [1.0, 2.0], "b": [0.0, 1.0]},
    symbols="x y",
    box=BOX,
    name="mine",
    parameters=None,
)
bound("Landscape.loss", lambda f: f.L.loss, theta=AT)
bound("Landscape.grad", lambda f: f.L.grad, theta=AT)
bound("Landscape.hessian", lambda f: f.L.hessian, theta=AT)
bound("FunctionLandscape.loss", lambda f: f.function.loss, theta=AT)
bound("Landscape.critical_points", lambda f: f.L.critical_points)
bound("ExamplesLandscape.loss", lambda f: f.examples.loss, theta=AT)
bound(
    "FunctionLandscape.flatten",
    lambda f: f.task.landscape.flatten,
    tree=of(lambda f: f.task.landscape.vector(f.task.start).tree),
)
for _name, _arguments in {
    "beale": {}, "himmelblau": {}, "monkey_saddle": {}, "muller_brown": {}, "six_hump_camel": {},
    "three_hump_camel": {},
    "deep_linear": {"depth": 2, "width": 1, "target": 1.0}, "double_well": {"dim": 2, "stiffness": 1.0},
    "factorization": {"target": 1.0}, "flat_and_sharp": {"flat": 1.0, "sharp": 16.0, "barrier": 1 / 16},
    "rosenbrock": {"dim": 2, "a": 1.0, "b": 100.0}, "rosenbrock_saddle": {"dim": 2, "a": 1.0, "b": 100.0},
    "saddle": {"curvatures": (2.0, -2.0)}, "styblinski_tang": {"dim": 2},
}.items():  # fmt: skip
    call(f"landscapes.{_name}", getattr(fd.landscapes, _name), **_arguments)

call("GD", fd.GD, lr=0.1, momentum=0.5, nesterov=False)
call("SAM", fd.SAM, lr=0.1, rho=0.1, momentum=0.5, eps=0.1, mask=(True, False), nesterov=False)
call("DNSAM", fd.DNSAM, lr=0.1, rho=0.1, momentum=0.5, eps=0.1, mask=None, nesterov=False)
call("USAM", fd.USAM, lr=0.1, rho=0.1, momentum=0.5, mask=None, nesterov=False)
call(
    "ASAM",
    fd.ASAM,
    lr=0.1,
    rho=0.1,
    momentum=0.5,
    eps=0.1,
    shift=0.1,
    p=2,
    scaled=None,
    mask=None,
    normalized=True,
    nesterov=False,
)
for _name, _arguments in {
    "WSAM": {"gamma": 0.6, "decouple": False}, "GSAM": {"alpha": 0.4}, "UnifiedSAM": {"blend": 0.5},
    "LookSAM": {"k": 2, "alpha": 0.4, "layerwise": False},
    "FriendlySAM": {"sigma": 0.5, "ema": 0.9, "copy_first": True}, "MSAM": {}, "LaggedSAM": {},
}.items():  # fmt: skip
    _common = {"lr": 0.1, "rho": 0.1, "momentum": 0.5, "eps": 0.1, "mask": (True, False), "nesterov": False}
    call(_name, getattr(fd.methods, _name), **_common, **_arguments)
call("Lookahead", fd.methods.Lookahead, method=method, k=2, alpha=0.5, memory="reset", start=1)
call("SGLD", fd.SGLD, lr=0.1, temperature=1.0)
call("Langevin", fd.Langevin, lr=0.1, friction=1.0, temperature=1.0, splitting="BAOAB")
call("LeimkuhlerMatthews", fd.LeimkuhlerMatthews, lr=0.1, temperature=1.0)
call(
    "AdaptiveLangevin",
    fd.AdaptiveLangevin,
    lr=0.1,
    temperature=1.0,
    sigma=1.0,
    coupling=1.0,
    blocks=None,
    start=0.0,
    scaling="text",
    splitting="AOAB",
)
call("LaLa", fd.LaLa, lr=0.1, first=(True, False), friction=(1.0, 1.0), temperature=(1.0, 0.5), splitting="BAOAB")
call(
    "AdLaLa",
    fd.AdLaLa,
    lr=0.1,
    first=(True, False),
    temperature=(1.0, 1.0),
    sigma=0.01,
    coupling=0.05,
    friction=0.1,
    start=0.0,
    scaling="text",
    splitting="AOAB",
)
call("LOL", fd.LOL, lr=0.1, first=(True, False), friction=1.0, temperature=(1.0, 1.0), splitting="BAOAB")
call(
    "ConstrainedLangevin",
    fd.ConstrainedLangevin,
    lr=0.1,
    constraint=of(lambda f: fd.constraints.Circle(3.0)),
    friction=1.0,
    temperature=1.0,
    splitting="AOAB",
)
call(
    "ConstrainedSGLD",
    fd.ConstrainedSGLD,
    lr=0.1,
    constraint=of(lambda f: fd.constraints.Circle(3.0)),
    temperature=1.0,
    along="new",
)
call("Multirate", fd.Multirate, lr=0.1, fast=(True, False), k=2, momentum=0.5, blocks=None, rates=None)
call(
    "Alternating", fd.Alternating, methods=of(lambda f: (fd.GD(0.1), fd.GD(0.2))), blocks=((True, False), (False, True))
)
call("Averaged", fd.Averaged, method=method, start=0.0, every=1.0, decay=None, copy_first=False)
SCHEDULE = of(lambda f: __import__("optax").cosine_decay_schedule(1.0, 10))
call("Scheduled", fd.Scheduled, method=of(lambda f: fd.SAM(0.1, 0.1)), factor=SCHEDULE, rho=SCHEDULE)
call("Started", fd.Started, method=of(lambda f: fd.GD(0.1, 0.9)), velocity=AT)
call(
    "Switched",
    lambda stages, memory: fd.Switched(stages, (fd.GD(0.2), None), memory=memory),
    stages=of(lambda f: (fd.GD(0.1), 3)),
    memory="keep",
)
call(
    "from_optax",
    fd.from_optax,
    transformation=of(lambda f: __import__("optax").sgd(0.1)),
    follows=None,
    at="gradient",
)

call("noise.Gaussian", fd.noise.Gaussian, scale=0.1, batch_size=2, covariance=None)
call("noise.Gaussian covariance", fd.noise.Gaussian, scale=None, batch_size=2, covariance=[[1.0, 0.5], [0.5, 1.0]])
call("noise.Curvature", fd.noise.Curvature, scale=1.0, batch_size=2, matrix=[[1.0, 0.5], [0.5, 1.0]])
call("noise.StateDependent", fd.noise.StateDependent, function=lambda t: 0.1 + t**2, batch_size=2)
call("noise.Stable", fd.noise.Stable, alpha=1.5, scale=0.1, batch_size=2, isotropic=False)
call("noise.FiniteSum", fd.noise.FiniteSum, batch_size=2, replace=True, ascent_size=1, micro_size=1)
call("noise.Epochs", fd.noise.Epochs, batch_size=2, last="drop", ascent_size=1, micro_size=1)
bound("Epochs.steps", lambda f: fd.noise.Epochs(2).steps, examples=5)

call("constraints.Circle", fd.constraints.Circle, radius=3.0)
call("constraints.Sphere", fd.constraints.Sphere, radius=1.0)
call("constraints.Orthogonal", fd.constraints.Orthogonal, shape=(2, 1))
call("constraints.Implicit", fd.constraints.Implicit, function=lambda t: jnp.sum(t**2) - 1)
call(
    "constraints.named",
    fd.constraints.named,
    theta=of(lambda f: {"w": np.ones(2), "b": np.ones(1)}),
    rules=of(lambda f: {"w": fd.constraints.Circle(3.0)}),
)
bound("Constraint.project", lambda f: fd.constraints.Sphere(1.0).project, theta=of(lambda f: np.array(AT)))
bound("Circle.project", lambda f: fd.constraints.Circle(1.0).project, theta=of(lambda f: np.array(AT)))

_tree = of(lambda f: {"w": np.ones((2, 2)), "b": np.ones(2)})
call("masks.where", fd.masks.where, theta=_tree, predicate=lambda name, leaf: "w" in name)
recipe("masks.named", lambda f: ((lambda theta, word: fd.masks.named(theta, word)), {"theta": _tree(f), "word": "w"}))
call("masks.each", fd.masks.each, theta=_tree)
call("masks.complement", fd.masks.complement, mask=(True, False))
recipe("masks.union", lambda f: ((lambda a, b: fd.masks.union(a, b)), {"a": (True, False), "b": (False, True)}))
call("masks.spread", fd.masks.spread, mask={"w": True, "b": False}, theta=_tree)
call("masks.random", fd.masks.random, theta=_tree, size=2, key=key)
call("masks.largest", fd.masks.largest, scores=_tree, size=2)
call("masks.fisher", fd.masks.fisher, landscape=of(lambda f: f.examples), theta=AT)
call("masks.count", fd.masks.count, theta=_tree, mask=of(lambda f: {"w": True, "b": False}))

# --- run --------------------------------------------------------------------------------------------------------

call("Iteration", fd.Iteration, landscape=L, method=method, noise=gaussian, ascent="shared")
bound("Iteration.project", lambda f: f.orthogonal.project, theta=AT)
call("Map", fd.Map, function=lambda t: t / 2, dim=2, box=BOX)
call("Extended", fd.Extended, process=process, names=["lr"])
bound("Extended.starts", lambda f: f.extended.starts, theta=AT, lr=0.1)
bound("Extended.theta", lambda f: f.extended.theta, z=of(lambda f: f.extended.starts(AT, lr=0.1)))
bound("Extended.inside", lambda f: f.extended.inside, region=of(lambda f: escape.Ball([0.0, 0.0], 1.0)))
call("probe", fd.probe, process=of(lambda f: f.sam), theta=AT)
call(
    "simulate",
    fd.simulate,
    process=process,
    theta0=AT,
    steps=5,
    key=None,
    every=1,
    observe=None,
    bound=1e6,
    tol=1e-9,
    chunk=None,
    progress=False,
)
call("simulate noisy", fd.simulate, process=noisy, theta0=AT, steps=5, key=key, every=5, progress=False)
call(
    "sweep",
    fd.sweep,
    make_process=of(lambda f: lambda lr: fd.Iteration(f.L, fd.GD(lr))),
    parameters={"lr": [0.1, 0.2]},
    ask=lambda p, k: 1.0,
    key=key,
    seeds=2,
    common=False,
    name="value",
    dims=None,
    units=None,
    store=None,
    executor=None,
    version=None,
    progress=False,
)
# Each ask is made, and asked of one process.
bound(
    "asks.escapes",
    lambda f: lambda **given: fd.asks.escapes(**given)(f.noisy, f.key),
    then=of(lambda f: lambda escapes: escapes.rate().value),
    theta0=AT,
    inside=of(lambda f: escape.Ball([0.0, 0.0], 1.5)),
    runs=60,
    max_steps=100,
    chunk=None,
    name="rate",
)
for _ask in (fd.asks.mean_stay, fd.asks.median_stay):
    bound(
        f"asks.{_ask.__name__}",
        lambda f, ask=_ask: lambda **given: ask(**given)(f.noisy, f.key),
        theta0=AT,
        inside=of(lambda f: escape.Ball([0.0, 0.0], 1.5)),
        runs=60,
        max_steps=100,
    )
bound(
    "asks.ensembles",
    lambda f: lambda **given: fd.asks.ensembles(**given)(f.process, None),
    then=of(lambda f: lambda ensemble, process: ensemble.final.mean()),
    theta0=AT,
    steps=5,
    runs=3,
    every=1,
    bound=1e6,
    chunk=None,
    name="ends",
)
bound(
    "asks.final_loss",
    lambda f: lambda **given: fd.asks.final_loss(**given)(f.process, None),
    theta0=AT,
    steps=5,
    runs=3,
)
bound(
    "asks.share_captured",
    lambda f: lambda **given: fd.asks.share_captured(**given)(f.process, None),
    theta0=AT,
    inside=of(lambda f: escape.Ball([0.0, 0.0], 1.5)),
    steps=5,
    runs=3,
)
bound(
    "asks.basin_share",
    lambda f: lambda **given: fd.asks.basin_share(**given)(f.process, f.key),
    attractor=[1.0, 0.0],
    sampler=BOX,
    runs=20,
    max_steps=60,
    radius=0.1,
    tol=None,
    stay=None,
    check_every=10,
    bound=1e6,
)
call("flows.Flow", flows.Flow, landscape=L, method=method, dt=0.1, order=0, inertia=False)
call(
    "flows.Diffusion",
    flows.Diffusion,
    landscape=L,
    method=method,
    noise=gaussian,
    order=1,
    form="published",
    ascent="shared",
    dt=0.1,
)
bound("Diffusion.coefficients", lambda f: f.diffusion.coefficients, theta=AT)
bound("Diffusion.moments", lambda f: f.diffusion.moments, theta=AT)
bound("Diffusion.on_a_line", lambda f: f.line_diffusion.on_a_line)
call(
    "flows.solve",
    flows.solve,
    flow=of(lambda f: f.flow),
    theta0=AT,
    times=[0.0, 0.5, 1.0],
    rtol=1e-6,
    atol=1e-8,
    max_steps=200,
)
call(
    "flows.expectation",
    flows.expectation,
    process=of(lambda f: f.line_diffusion),
    functions=[lambda w: w],
    start=0.5,
    time=0.5,
    interval=(-1.8, 1.8),
    nodes=64,
)

# --- ask --------------------------------------------------------------------------------------------------------

call(
    "basins.match_attractors",
    fd.basins.match_attractors,
    known=of(lambda f: f.basins.attractors),
    present=of(lambda f: f.basins.attractors),
    reach=0.5,
)
call(
    "basins.match_by_overlap",
    fd.basins.match_by_overlap,
    before=of(lambda f: f.basins),
    indices=[0, 1],
    after=of(lambda f: f.basins),
    known=2,
)
call(
    "basins.Mapper",
    fd.basins.Mapper,
    process=process,
    attractors={"left": (-1.0, 0.0)},
    max_steps=200,
    radius=0.1,
    tol=1e-9,
    stay=5,
    check_every=5,
    bound=1e3,
)
call(
    "map_basins",
    fd.map_basins,
    process=process,
    box=BOX,
    resolution=4,
    attractors=None,
    axes=None,
    at=None,
    max_steps=60,
    radius=1e-2,
    tol=None,
    stay=None,
    check_every=10,
    bound=1e6,
    key=None,
    chunk=None,
    progress=False,
    store=None,
)
call(
    "map_basins given",
    fd.map_basins,
    process=process,
    box=BOX,
    resolution=(4, 4),
    attractors={"left": (-1.0, 0.0), "right": (1.0, 0.0)},
    max_steps=60,
    radius=1e-2,
    progress=False,
)
call(
    "basin_fractions",
    fd.basin_fractions,
    process=process,
    sampler=BOX,
    runs=16,
    key=key,
    attractors={"left": (-1.0, 0.0), "right": (1.0, 0.0)},
    max_steps=60,
    radius=1e-2,
    tol=None,
    stay=None,
    check_every=10,
    bound=1e6,
    chunk=None,
    progress=False,
    store=None,
)
call(
    "basin_stability",
    fd.basin_stability,
    process=process,
    attractor=(1.0, 0.0),
    sampler=BOX,
    runs=16,
    key=key,
    max_steps=60,
    radius=1e-2,
    progress=False,
)
call(
    "fractions_in",
    fd.fractions_in,
    make_process=of(lambda f: lambda lr: fd.Iteration(f.L, fd.GD(lr))),
    parameter="lr",
    values=[0.1, 0.2],
    matching="distance",
    sampler=BOX,
    runs=16,
    key=key,
    attractors={"left": (-1.0, 0.0), "right": (1.0, 0.0)},
    reach=None,
    progress=False,
    store=None,
    max_steps=60,
)
call("Attractor", fd.Attractor, name="a", theta=np.array(AT), kind="point", period=1, points=np.array([AT]), spread=0.0)
call("Region", fd.Region, name="far", inside=lambda t: t[0] > 1, absorbing=False)
call("boundaries.basin_entropy", boundaries.basin_entropy, basins=of(lambda f: f.halves), size=5)
call("boundaries.box_dimension", boundaries.box_dimension, basins=of(lambda f: f.halves))
call(
    "boundaries.uncertainty_exponent",
    boundaries.uncertainty_exponent,
    process=process,
    box=BOX,
    scales=[0.8, 0.4, 0.2],
    runs=200,
    key=key,
    attractors={"left": (-1.0, 0.0), "right": (1.0, 0.0)},
    max_steps=60,
)
call(
    "audit",
    fd.audit,
    step=lambda theta, gradient: theta - 0.1 * gradient(theta),
    expected=fd.GD(0.1),
    like=np.zeros(4),
    dtype="float64",
    statistics=False,
    closure=None,
)
call(
    "escape_times",
    fd.escape_times,
    process=noisy,
    theta0=AT,
    inside=of(lambda f: escape.Ball([0.0, 0.0], 1.5)),
    runs=60,
    max_steps=100,
    key=key,
    chunk=None,
    progress=False,
    store=None,
)
bound("Escapes.mean", lambda f: f.escapes.mean, restricted=True, until=50)
bound("Escapes.median", lambda f: f.escapes.median, level=0.9)
bound("Escapes.quantile", lambda f: f.escapes.quantile, q=0.25, level=0.9)
bound("Escapes.survival", lambda f: f.escapes.survival, at=[1, 5], level=0.9)
bound("Escapes.rate", lambda f: f.escapes.rate, after=1, level=0.9)
bound("Escapes.compare", lambda f: f.escapes.compare, other=of(lambda f: f.escapes), level=0.9)
call("escape.Ball", escape.Ball, center=[0.0, 0.0], radius=1.0)
call("escape.Box", escape.Box, sides=BOX)
call("escape.HalfSpace", escape.HalfSpace, normal=[1.0, 0.0], offset=1.0)
call("escape.Sublevel", escape.Sublevel, landscape=L, level=1.0)
bound("Ball()", lambda f: escape.Ball([0.0, 0.0], 1.0), theta=of(lambda f: np.array(AT)))
call(
    "escape.multilevel_splitting",
    escape.multilevel_splitting,
    process=of(lambda f: fd.Iteration(f.L, fd.GD(0.1), fd.noise.Gaussian(0.7))),
    theta0=AT,
    inside=of(lambda f: escape.Ball([0.0, 0.0], 1.4)),
    key=key,
    score=None,
    walkers=40,
    replicates=2,
    levels=[0.7, 0.8, 0.9],
    relax=10,
    max_steps=1000,
    progress=False,
)
_wells = {"left": [-1.0], "right": [1.0]}
_passing = of(lambda f: f.passing)
call(
    "escape.committor",
    escape.committor,
    process=_passing,
    attractors=_wells,
    points=[[0.0], [0.5]],
    method="operator",
    radius=0.2,
    inside=(-4.0, 4.0),
    panels=4,
    progress=False,
)
call(
    "escape.committor runs",
    escape.committor,
    process=_passing,
    attractors=_wells,
    points=None,
    method="runs",
    radius=0.2,
    inside=None,
    box=[(-0.5, 0.5)],
    resolution=2,
    runs=3,
    max_steps=50,
    key=key,
    progress=False,
)
bound("Committor.of", lambda f: f.committor.of, name="left")
call(
    "escape.rates",
    escape.rates,
    process=_passing,
    attractors=_wells,
    method="operator",
    radius=0.2,
    inside=(-4.0, 4.0),
    panels=4,
)
call(
    "escape.rates runs",
    escape.rates,
    process=_passing,
    attractors=_wells,
    method="runs",
    radius=0.2,
    inside=None,
    starts=[[-1.0], [1.0]],
    runs=3,
    steps=50,
    relax=1,
    key=key,
    progress=False,
)
call(
    "escape.rates splitting",
    escape.rates,
    process=of(lambda f: fd.Iteration(f.line, fd.GD(0.1), fd.noise.Gaussian(0.7))),
    attractors=_wells,
    method="splitting",
    radius=0.2,
    starts=None,
    key=key,
    scores=None,
    walkers=60,
    replicates=2,
    relax=10,
    max_steps=5000,
    progress=False,
)
call(
    "escape.rates_from",
    escape.rates_from,
    path=[[-1.0], [0.0], [1.0], [0.9], [0.0], [-1.1]],
    attractors=_wells,
    radius=0.2,
    every=1,
    parts=1,
    dt=1.0,
)
_between = {"source": "left", "target": "right"}
for _method in ("rate", "committor", "flux", "route", "routes"):
    bound(f"Rates.{_method}", lambda f, name=_method: getattr(f.rates, name), **_between)
bound("Rates.stationary", lambda f: f.rates.stationary)
bound("Rates.passage_times", lambda f: f.rates.passage_times)
call(
    "escape.reactive_paths",
    escape.reactive_paths,
    process=_passing,
    attractors=_wells,
    **_between,
    radius=0.2,
    inside=None,
    start=None,
    runs=3,
    max_steps=200,
    key=key,
    progress=False,
)
bound("ReactivePaths.path", lambda f: f.crossing.path, number=0)
bound("ReactivePaths.current", lambda f: f.crossing.current, box=BOX, cells=3)
call(
    "escape.exit_law",
    escape.exit_law,
    process=noisy_line,
    inside=(-1.0, 1.0),
    start=0.0,
    panels=4,
    sides=None,
    box=None,
    progress=False,
)
bound("ExitLaw.quantile", lambda f: escape.exit_law(f.noisy_line, (-1.0, 1.0), 0.0, 4).quantile, q=0.5)
bound("ExitLaw.survival", lambda f: escape.exit_law(f.noisy_line, (-1.0, 1.0), 0.0, 4).survival, steps=[1, 10])
call(
    "escape.least_noise",
    escape.least_noise,
    process=noisy_line,
    start=[-1.0],
    target=None,
    inside=of(lambda f: escape.HalfSpace([1.0], -0.5)),
    tolerance=0.0,
    steps=4,
    max_steps=8,
    attempts=1,
    rtol=1e-3,
    progress=False,
)
call(
    "escape.quasipotential",
    escape.quasipotential,
    process=noisy_line,
    box=[(-1.5, -0.5)],
    start=[-1.0],
    resolution=3,
    steps=4,
    max_steps=8,
    rtol=1e-3,
    progress=False,
)
bound(
    "LeastNoise.log_mean",
    lambda f: escape.least_noise(f.noisy_line, [-1.0], [-0.5], steps=4, attempts=1).log_mean,
    batch_size=[1.0, 2.0],
)
_displaced = {"lr": 0.1, "drift": -1.0, "steps": 5, "momentum": 0.5, "noise": 1.0, "batch_size": 2}
call("escape.heavy_ball_msd", escape.heavy_ball_msd, **_displaced)
call("escape.langevin_msd", escape.langevin_msd, velocity="rest", **_displaced)
call("escape.overdamped_msd", escape.overdamped_msd, **_displaced)
call("escape.ou_msd", escape.ou_msd, lr=0.1, drift=-1.0, times=[0.0, 1.0], noise=1.0, batch_size=2)
call(
    "escape.msd_theory",
    escape.msd_theory,
    method=of(lambda f: fd.USAM(0.1, 0.1)),
    curvature=-1.0,
    steps=5,
    scale=1.0,
    batch_size=2,
    ascent="shared",
    start=0.0,
)
call("escape.published_gap", escape.published_gap, lr=0.1, curvature=-1.0, rho=0.1, times=[0.0, 1.0], batch_size=2)
call(
    "escape.published_momentum_msd",
    escape.published_momentum_msd,
    lr=0.1,
    curvature=-1.0,
    steps=5,
    momentum=0.5,
    noise=None,
    batch_size=2,
)
call(
    "escape.sam_first_step_variance",
    escape.sam_first_step_variance,
    lr=0.1,
    curvature=-1.0,
    rho=0.1,
    scale=None,
    batch_size=2,
)
call("escape.short_time_series", escape.short_time_series, variant="A", order=2)
call(
    "escape.variant_msd",
    escape.variant_msd,
    variant="A",
    curvature=-1.0,
    rho=0.1,
    lr=0.1,
    steps=5,
    batch_size=2,
    continuous=False,
)
_well = lambda x: x**4 / 4 - x**2 / 2  # noqa: E731
call(
    "escape.exit_probability_1d",
    escape.exit_probability_1d,
    potential=_well,
    diffusion=0.1,
    interval=(-1.0, 1.0),
    start=[0.0, 0.5],
)
call(
    "escape.first_passage_1d",
    escape.first_passage_1d,
    interval=(-1.0, 1.0),
    start=0.0,
    potential=_well,
    diffusion=0.1,
    drift=None,
    variance=None,
    reflecting=None,
)
call(
    "escape.first_passage_1d drift",
    escape.first_passage_1d,
    interval=(-1.0, 1.0),
    start=0.0,
    potential=None,
    diffusion=None,
    drift=lambda x: -x,
    variance=lambda x: 1 + x**2,
    reflecting="left",
)
call(
    "escape.mean_first_passage_1d",
    escape.mean_first_passage_1d,
    potential=_well,
    diffusion=0.1,
    interval=(-1.0, 1.0),
    start=0.0,
    reflecting=None,
)
call("escape.jump_time", escape.jump_time, lr=0.1, alpha=1.5, scale=0.1, distances=[1.0, 2.0], batch_size=2.0, dim=None)
call("escape.kramers", escape.kramers, landscape=L, minimum=[1.0, 0.0], saddle=[0.0, 0.0], diffusion=0.1)
call(
    "escape.levy_bounds",
    escape.levy_bounds,
    lr=0.1,
    curvature=-1.0,
    scale=1.0,
    radius=1.0,
    steps=[1, 5],
    batch_size=2,
)
call("escape.ornstein_uhlenbeck", escape.ornstein_uhlenbeck, curvature=1.0, diffusion=0.1, radius=1.0)
call("fixedpoints.find", fixedpoints.find, process=process, box=BOX, period=1, starts=4)
call(
    "fixedpoints.continue_in",
    fixedpoints.continue_in,
    make_process=of(lambda f: f.heavy),
    parameter="lr",
    values=(0.1, 0.2),
    start=[1.0, 0.0],
    period=1,
    box=BOX,
    scale=1.0,
    most=50,
)
call(
    "fixedpoints.curve_in",
    fixedpoints.curve_in,
    make_process=of(lambda f: f.heavy),
    parameters=("lr", "momentum"),
    ranges=((1.0, 2.0), (0.3, 0.6)),
    start=of(lambda f: f.branch.bifurcations[0]),
    second=0.5,
    scale=1.0,
    most=5,
)
bound("Branch.at", lambda f: f.branch.at, parameter=2.0)
call("quadratic.kappa", quadratic.kappa, ratio=[0.1, 0.2])
call("quadratic.capture_curve", quadratic.capture_curve, ratio=[0.1, 0.2], rho=0.5)
call("quadratic.captured", quadratic.captured, theta=AT, rho=0.5)
call("quadratic.capture_boundary", quadratic.capture_boundary, stable=[0.1, 0.2], rho=0.5, curvatures=(1.0, -1.0))
call("quadratic.flow_fixed_points", quadratic.flow_fixed_points, curvatures=[2.0, -2.0], rho=0.5)
call("quadratic.capture_bounds", quadratic.capture_bounds, theta=AT, rho=0.5, curvatures=[2.0, -2.0])
call("quadratic.arrival_time", quadratic.arrival_time, theta=AT, rho=0.5, curvatures=[2.0, -2.0])
call(
    "quadratic.two_cycle",
    quadratic.two_cycle,
    method=of(lambda f: fd.SAM(0.1, 0.1)),
    curvatures=[2.0, -2.0],
    direction=0,
)
call("quadratic.chaotic_band", quadratic.chaotic_band, lr=0.1, rho=0.1, curvature=-1.0)
call("quadratic.crisis_lr", quadratic.crisis_lr, curvature=-1.0, momentum=0.0)
call(
    "lyapunov_exponents", fd.lyapunov_exponents, process=process, theta0=AT, steps=40, key=None, transient=10, number=1
)
call(
    "invariant_manifold",
    fd.invariant_manifold,
    process=process,
    saddle=[0.0, 0.0],
    kind="unstable",
    box=BOX,
    spacing=0.5,
    offset=1e-3,
    max_steps=200,
)
call("stability.state_symbols", stability.state_symbols, method=method, landscape=L)
call("stability.update_map", stability.update_map, method=method, landscape=L)
call("stability.jacobian", stability.jacobian, method=method, landscape=L, at=[0.0, 0.0])
call("stability.multipliers", stability.multipliers, process=process, landscape=None, at=[0.0, 0.0], period=1)
call("stability.multipliers method", stability.multipliers, process=method, landscape=L, at=[0.0, 0.0], period=1)
call("stability.numeric_jacobian", stability.numeric_jacobian, process=process, landscape=None, at=[0.0, 0.0], period=1)
call(
    "stability.transient_growth",
    stability.transient_growth,
    process=process,
    landscape=None,
    at=[1.0, 0.0],
    period=1,
    most=50,
    kreiss=True,
)
call("stability.kreiss_constant", stability.kreiss_constant, matrix=np.array([[0.5, 1.0], [0.0, 0.4]]))
call("stability.kind_of", stability.kind_of, multipliers=np.array([0.5, 2.0]), tol=1e-9)
call("stability.is_critical", stability.is_critical, landscape=L, theta=[0.0, 0.0], partly=False)
call("stability.conditions", stability.conditions, method=of(lambda f: fd.USAM(*f.threshold)), curvature=-1.0)
call(
    "stability.region",
    stability.region,
    condition=of(lambda f: f.condition),
    grids=of(lambda f: dict(zip(f.threshold, ([0.1, 0.2], [0.5, 2.0]), strict=True))),
)
call(
    "stability.threshold",
    stability.threshold,
    method=of(lambda f: fd.USAM(*f.threshold)),
    curvature=-1.0,
    parameter="rho",
)
call(
    "stability.edge",
    stability.edge,
    method=of(lambda f: fd.SAM(0.1, 0.1)),
    gradient_norm=1.0,
    landscape=None,
    at=None,
    noise=None,
)
call(
    "stability.edge minibatches",
    stability.edge,
    method=of(lambda f: fd.GD(0.1)),
    gradient_norm=None,
    landscape=of(lambda f: f.examples),
    at=[0.0, 0.0],
    noise=of(lambda f: fd.noise.FiniteSum(2)),
)
call(
    "stability.preconditioner",
    stability.preconditioner,
    process=process,
    state=of(lambda f: f.process.init(np.zeros(2))),
)
call("stability.symbolic_state", stability.symbolic_state, method=method, coordinates=of(lambda f: f.L.symbols))
call("stationary.covariance", fd.stationary.covariance, process=noisy, landscape=None, at=[1.0, 0.0])
_passes = of(lambda f: fd.Iteration(f.examples, fd.GD(0.1), fd.noise.Epochs(2)))
call("epochs.outcomes", fd.laws.epochs.outcomes, process=_passes, theta=AT)
call("epochs.stationary_law", fd.laws.epochs.stationary_law, process=_passes)
call("epochs.line_law", fd.laws.epochs.line_law, curvatures=[1.0, 2.0], targets=[0.5, -1.0], lr=0.1)
call("stationary.recursion", fd.stationary.recursion, process=noisy, landscape=None, at=[1.0, 0.0])
call("stationary.derivatives", fd.stationary.derivatives, process=noisy)
call(
    "stationary.formula",
    fd.stationary.formula,
    method=of(lambda f: fd.SGLD(0.1)),
    landscape=of(lambda f: fd.landscapes.saddle((1, 2))),
)
_euler = {"matrix": [[1.0, 0.1], [-0.1, 0.9]], "noise_covariance": [[0.0, 0.0], [0.0, 0.2]]}
_one = of(lambda f: fd.laws.LinearRecursion(**_euler))
call("LinearRecursion", fd.laws.LinearRecursion, stable="h k < a", **_euler)
call("stationary.covariance recursion", lambda process: fd.stationary.covariance(process), process=_one)
call("LinearRecursion.then", lambda other: fd.laws.LinearRecursion(**_euler).then(other), other=_one)
call("LinearRecursion.repeated", lambda steps: fd.laws.LinearRecursion(**_euler).repeated(steps), steps=3)
call(
    "packages.method",
    lambda name, lr, momentum, nesterov: fd.packages.method(name, lr=lr, momentum=momentum, nesterov=nesterov),
    name="torch.optim.SGD",
    lr=0.1,
    momentum=0.9,
    nesterov=True,
)
call(
    "packages.method around",
    lambda name, method, decay: fd.packages.method(name, method, decay=decay),
    name="timm.utils.ModelEmaV2",
    method=of(lambda f: fd.GD(0.1)),
    decay=0.9,
)
call(
    "packages.recursion",
    lambda name, curvature, lr, alpha: fd.packages.recursion(name, curvature=curvature, lr=lr, alpha=alpha),
    name="posteriors.sgmcmc.sghmc",
    curvature=2.0,
    lr=0.1,
    alpha=1.0,
)
call("packages.entry", fd.packages.entry, name="optax.sgd")
call("packages.names", fd.packages.names, package="torch")
call("packages.table", fd.packages.table, package="optax")
_times = {"steps": np.arange(1, 41), "escaped": np.ones(40, bool)}
call("survival.mean", fd.survival.mean, restricted=False, until=None, after=None, **_times)
call("survival.quantile", fd.survival.quantile, q=0.5, level=0.9, **_times)
call("survival.median", fd.survival.median, level=0.9, **_times)
call("survival.survival", fd.survival.survival, at=[1, 5], level=0.9, **_times)
call("survival.rate", fd.survival.rate, after=1.0, level=0.9, **_times)
call(
    "survival.compare",
    fd.survival.compare,
    a=of(lambda f: (_times["steps"], _times["escaped"])),
    b=of(lambda f: (_times["steps"] + 3, _times["escaped"])),
    level=0.9,
)
call(
    "transfer.expectation",
    fd.transfer.expectation,
    process=noisy_line,
    functions=[lambda w: w],
    start=0.5,
    steps=2,
    interval=(-1.8, 1.8),
    panels=4,
)
call(
    "weak.weak_errors",
    fd.weak.weak_errors,
    landscape=line,
    method=lambda lr: fd.GD(lr),
    noise=of(lambda f: fd.noise.Gaussian(0.5)),
    equations={"first": {"order": 1}},
    lrs=[0.5, 0.25],
    functions=[lambda w: w],
    start=0.5,
    time=0.5,
    interval=(-1.8, 1.8),
)
call(
    "weak.simulated_error",
    fd.weak.simulated_error,
    iteration=noisy,
    diffusion=of(lambda f: f.diffusion),
    function=lambda t: t[0],
    start=AT,
    time=0.5,
    runs=8,
    key=key,
)
call("curvature.sharpness", curvature.sharpness, loss=L, theta=AT, rho=0.1, steps=3, starts=2, key=key)
call(
    "curvature.filter_normalised",
    curvature.filter_normalised,
    landscape=of(lambda f: f.task.landscape),
    theta=of(lambda f: f.task.start),
    direction=of(lambda f: jnp.ones(f.task.dim)),
)
call(
    "curvature.interpolate",
    curvature.interpolate,
    loss=L,
    theta_a=[-1.0, 0.0],
    theta_b=[1.0, 0.0],
    points=5,
    by_layer=False,
)
call(
    "curvature.TopEigenvalues",
    curvature.TopEigenvalues,
    k=1,
    preconditioner=None,
    landscape=None,
    tol=1e-6,
    fresh=10,
    most=50,
    key=None,
)
call(
    "curvature.BatchSharpness",
    curvature.BatchSharpness,
    batch_size=2,
    batches=4,
    replace=False,
    landscape=None,
    key=None,
)
call("curvature.GradientNorm", curvature.GradientNorm, landscape=None)
call("curvature.UpdateNorm", curvature.UpdateNorm)
call("curvature.Distance", curvature.Distance, point=[0.0, 1.0])
call(
    "simulate watched",
    fd.simulate,
    process=process,
    theta0=AT,
    steps=4,
    every=2,
    observe=of(lambda f: {"top": curvature.TopEigenvalues(1)}),
    progress=False,
)
bound("Observed.curve", lambda f: f.watched.curve, name="d")
call("curvature.slice1d", curvature.slice1d, loss=L, a=[-1.0, 0.0], b=[1.0, 0.0], points=5, beyond=0.1)
call(
    "curvature.slice2d",
    curvature.slice2d,
    loss=L,
    centre=AT,
    directions=None,
    through=None,
    points=5,
    reach=1.0,
    key=key,
    filterwise=False,
)
call("curvature.density", curvature.density, loss=L, theta=AT, key=key, k=2, probes=2)
call(
    "curvature.extreme_eigenvalues",
    curvature.extreme_eigenvalues,
    loss=L,
    theta=AT,
    k=2,
    key=key,
    most=4,
    starts=1,
    tol=None,
    method=None,
)
call(
    "curvature.hessian_product",
    curvature.hessian_product,
    landscape=L,
    theta=of(lambda f: jnp.array(AT)),
    vector=of(lambda f: jnp.array([1.0, 0.0])),
)
bound("Density.mean", lambda f: f.density.mean, function=np.abs)
bound("Density.moment", lambda f: f.density.moment, power=2)
bound("Density.smoothed", lambda f: f.density.smoothed, grid=np.linspace(-1, 4, 5), width=0.5)
bound("Line.monotone", lambda f: f.sliced.monotone, tol=1e-6)
call("statistics.mean_sem", fd.statistics.mean_sem, values=np.arange(12.0).reshape(4, 3), axis=0)
call("statistics.sem_of_interval", fd.statistics.sem_of_interval, lower=1.0, upper=2.0, level=0.9)
call("statistics.batch_mean", fd.statistics.batch_mean, series=np.arange(40.0), batches=4)
call("statistics.binomial_error", fd.statistics.binomial_error, count=3, runs=10)
call("basins.draw_starts", draw_starts, process=process, sampler=BOX, runs=4, key=key)

# --- networks ---------------------------------------------------------------------------------------------------

call("networks.MLP", networks.MLP, widths=(2, 3, 2), key=key, activation=jnp.tanh, norm=None)
call(
    "networks.CNN1d",
    networks.CNN1d,
    shape=(6, 1),
    classes=2,
    key=key,
    channels=(2,),
    norm=None,
    activation=jnp.tanh,
    side=3,
    engine="product",
)
call(
    "networks.CNN2d",
    networks.CNN2d,
    shape=(6, 6, 1),
    classes=2,
    key=key,
    channels=(2,),
    norm=None,
    activation=jnp.tanh,
    side=3,
    engine="product",
)
call(
    "networks.Conv",
    networks.Conv,
    inputs=1,
    outputs=2,
    key=key,
    dimensions=2,
    side=3,
    stride=1,
    bias=True,
    engine="product",
)
call(
    "networks.ResNet",
    networks.ResNet,
    shape=(6, 6, 1),
    classes=2,
    key=key,
    blocks=(1,),
    width=2,
    norm="batch",
    activation=jnp.tanh,
    engine="product",
)
call("networks.ViT", networks.ViT, shape=(4, 4, 1), classes=2, key=key, patch=2, width=4, depth=1, heads=2)
call("networks.CharTransformer", networks.CharTransformer, vocabulary=5, context=4, key=key, width=4, depth=1, heads=2)
call("networks.GraphGCN", networks.GraphGCN, features=3, classes=2, key=key, hidden=2)
call("networks.NodeGCN", networks.NodeGCN, graph=of(lambda f: f.graph), classes=2, key=key, hidden=2, features=None)
call("networks.BatchNorm", networks.BatchNorm, width=2, eps=1e-5)
call("networks.norm_mask", networks.norm_mask, network=of(lambda f: networks.MLP((2, 3, 2), f.key, norm="batch")))
call("networks.classifier", networks.classifier, network=network, data=split, weight_decay=1e-3)
call(
    "networks.regressor",
    networks.regressor,
    network=of(lambda f: networks.MLP((2, 3, 1), f.key)),
    data=of(lambda f: f.numbers),
    weight_decay=1e-3,
)
WEIGHTS = {"b": np.zeros(2), "w": np.array([[0.3, -0.2], [0.1, 0.4]])}


def _affine(params, x):
    return x @ params["w"] + params["b"]


def _shifted(params, state, x):
    return _affine(params, x - state["mean"])


def _centred(params, state, x):
    mean = x.mean(0)
    return _affine(params, x - mean), {"mean": 0.9 * state["mean"] + 0.1 * mean}


def _noisy(params, x, key):
    return _affine(params, x * jax.random.bernoulli(key, 0.5, x.shape))


call("networks.task", networks.task, apply=_affine, params=WEIGHTS, data=split, loss="cross_entropy", weight_decay=1e-3)
call(
    "networks.task with a state",
    networks.task,
    apply=_shifted,
    params=WEIGHTS,
    data=split,
    state={"mean": np.zeros(2)},
    train=_centred,
)
call("networks.task with a key", networks.task, apply=_affine, params=WEIGHTS, data=split, train=_noisy, key=key)
call(
    "networks.task with a loss",
    networks.task,
    apply=_affine,
    params=WEIGHTS,
    data=of(lambda f: f.numbers),
    loss=lambda outputs, y: ((outputs - y) ** 2).sum(1),
)
bound("Task.coordinates", lambda f: f.task.coordinates, network=network)
bound("Task.starts", lambda f: f.task.starts, make=of(lambda f: f.make), key=key, runs=2)
bound("Task.scores", lambda f: f.task.scores, theta=of(lambda f: f.task.start), x=of(lambda f: f.split.x))
bound("Task.evaluate", lambda f: f.task.evaluate, theta=of(lambda f: f.task.start), data=split)
bound("Classifier.accuracy", lambda f: f.task.accuracy, theta=of(lambda f: f.task.start), data=split)
bound("Classifier.border", lambda f: f.task.border, theta=of(lambda f: f.task.start), reach=1.0, resolution=4)
call(
    "networks.train",
    networks.train,
    task=task,
    process=of(lambda f: f.trainer),
    starts=of(lambda f: f.starts),
    steps=4,
    key=key,
    every=2,
    eval_sets=of(lambda f: {"a": f.split}),
    watch=None,
    store=None,
    chunk=None,
    progress=False,
)
bound(
    "networks.trained",
    lambda f: lambda **given: networks.trained(**given)(fd.Iteration(f.task.landscape, fd.GD(0.1)), None),
    task=task,
    starts=of(lambda f: f.starts),
    steps=4,
    then=None,
    every=2,
    eval_sets=of(lambda f: {"a": f.split}),
)
bound("Training.last", lambda f: f.training.last, name="a")
bound("Training.metric", lambda f: f.training.metric, name="a")
bound("Training.early_stopped", lambda f: f.training.early_stopped, by="a", name="b")
call(
    "networks.compare",
    networks.compare,
    task=task,
    methods=of(lambda f: {"GD": {"0.1": f.trainer}}),
    starts=of(lambda f: f.starts),
    steps=4,
    key=key,
    eval_sets=of(lambda f: {"valid": f.split, "test": f.split}),
    choose="valid",
    report="test",
    evaluations=2,
)
bound("MethodComparison.gain", lambda f: f.comparison.gain, name="SAM", over="GD", stopped=False, over_stopped=False)
bound("MethodComparison.metric", lambda f: f.comparison.metric, name="SAM", stopped=False)
bound("MethodComparison.number", lambda f: f.comparison.number, name="SAM")
bound("MethodComparison.setting", lambda f: f.comparison.setting, name="SAM")
call(
    "networks.with_weight_decay",
    networks.with_weight_decay,
    landscape=of(lambda f: f.task.landscape),
    weight_decay=1e-3,
)
bound("MethodComparison.gains", lambda f: f.comparison.gains, name="SAM", over="GD")
bound("MethodComparison.ends", lambda f: f.comparison.ends, name="SAM")
bound("MethodComparison.settings_of", lambda f: f.comparison.settings_of, name="SAM")
bound("Task.on", lambda f: f.task.on, data=split)
call(
    "networks.trial",
    networks.trial,
    plan=of(lambda f: f.plan),
    key=key,
    runs=2,
    fraction=1.0,
    conventions="authors",
)
call(
    "networks.Trial",
    networks.Trial,
    task=task,
    starts=of(lambda f: f.starts),
    eval_sets=of(lambda f: {"valid": f.split, "test": f.split}),
    lr=0.1,
    batch_size=4,
    steps=10,
    conventions="authors",
    weight_decay=1e-3,
)
call("networks.spiral_trial", networks.spiral_trial, runs=2, turns=1.0, points=40, hidden=3)
call(
    "networks.SpiralTrial",
    networks.SpiralTrial,
    task=of(lambda f: f.spirals.task),
    starts=of(lambda f: f.spirals.starts),
    train=split,
    valid=split,
    test=split,
)
bound(
    "SpiralTrial.learn",
    lambda f: f.spirals.learn,
    name="LOL",
    steps=4,
    key=key,
    factor=0.5,
    temperature=1e-4,
    every=2,
    epochs=True,
)
bound("SpiralTrial.iteration", lambda f: f.spirals.iteration, name="LOL", factor=0.5, temperature=1e-4, epochs=True)
bound("Trial.iteration", lambda f: f.trial.iteration, method=method, steps=4, floor=0.5)
bound(
    "Trial.sgd_or_sam",
    lambda f: f.trial.sgd_or_sam,
    rho=0.1,
    lr=0.1,
    momentum=0.9,
    batch_size=4,
    steps=4,
    weight_decay=1e-3,
    floor=0.5,
    average_from=0.5,
)
bound("Trial.candidates", lambda f: f.trial.candidates, rhos=[0.1], decays=[0.1])
bound("Trial.masked", lambda f: f.trial.masked, name="SAM", method=fd.SAM, masks={}, rhos=([0.1], [0.2]))
bound("Trial.sharpest", lambda f: f.trial.sharpest, theta=of(lambda f: f.trial.starts), examples=4, tol=0.1, most=4)
call(
    "networks.norm_masks",
    networks.norm_masks,
    trial=of(lambda f: f.trial),
    network=of(lambda f: f.plan.model(f.key)),
    with_fisher=False,
)
call("networks.step_cost", networks.step_cost, task=task, method=method, batch_size=4)
call(
    "networks.off_the_average",
    networks.off_the_average,
    average=[[0.0, 0.0]],
    iterate=[[1.0, 1.0]],
    directions=[[1.0, 0.0]],
)
call("networks.factor", networks.factor, logarithms=[0.1, 0.2, 0.3])
call("networks.paired", networks.paired, differences=[0.1, 0.2, 0.3])
call("networks.count_wins", networks.count_wins, gains=[(0.1, 0.01), (-0.1, 0.2)], errors=2.0)
call(
    "networks.critical_rho",
    networks.critical_rho,
    saddle=saddle,
    method=of(lambda f: fd.SAM(0.1, 0.1)),
    batch_size=4,
    key=key,
    batches=20,
    steps=20,
    chains=2,
    most=1.0,
    points=3,
    base="frozen",
)
call(
    "networks.displacement",
    networks.displacement,
    saddle=saddle,
    method=method,
    noise=of(lambda f: fd.noise.FiniteSum(4)),
    base="frozen",
    ascent="shared",
)
call(
    "networks.transverse_escape",
    networks.transverse_escape,
    saddle=saddle,
    method=method,
    noise=of(lambda f: fd.noise.FiniteSum(4)),
    starts=of(lambda f: f.saddle.start(1e-3, f.key, 2)),
    radius=0.1,
    max_steps=20,
    key=key,
    base="moving",
    ascent="shared",
)
call(
    "networks.transverse_exponent",
    networks.transverse_exponent,
    saddle=saddle,
    method=method,
    noise=of(lambda f: fd.noise.FiniteSum(4)),
    steps=20,
    chains=2,
    key=key,
    base="frozen",
    ascent="shared",
    transient=5,
)
call("networks.zero_unit", networks.zero_unit, network=network, data=split, weight_decay=1e-2)
call("networks.tied_pair", networks.tied_pair, network=network, data=split, weight_decay=1e-2, units=(0, 1))
call(
    "networks.split_unit",
    networks.split_unit,
    network=of(lambda f: networks.MLP((2, 1, 1), f.key, jnp.tanh)),
    data=of(lambda f: f.bent),
    share=0.5,
    unit=0,
)
call("networks.linear_origin", networks.linear_origin, data=of(lambda f: f.numbers), depth=2, width=2)
bound("Saddle.inside", lambda f: f.saddle.inside, radius=0.1)
bound("Saddle.start", lambda f: f.saddle.start, distance=1e-3, key=key, runs=2)
bound("Saddle.transverse", lambda f: f.saddle.transverse, theta=of(lambda f: f.saddle.theta))
bound("Saddle.verify", lambda f: f.saddle.verify)
call("networks.flops", lambda function: networks.flops(function, np.ones(3)), function=of(lambda f: jnp.sin))
call("networks.split", networks.split, data=split, sizes=[4, 4], seed=0)
recipe(
    "networks.principal_components",
    lambda f: (
        (lambda train, other, number: networks.principal_components(train, other, number=number)),
        {"train": f.split, "other": f.split, "number": 1},
    ),
)
recipe(
    "networks.standardize",
    lambda f: ((lambda train, other: networks.standardize(train, other)), {"train": f.split, "other": f.split}),
)
call("networks.shuffled", networks.shuffled, data=split, seed=0)
call("networks.flip_labels", networks.flip_labels, data=split, fraction=0.2, seed=0)
call("networks.digits", networks.digits, shape="flat")
call("networks.diabetes", networks.diabetes)
call("networks.karate", networks.karate, labelled=(0, 33))
call("networks.mnist5k", networks.mnist5k, shape="flat", side=14)
call("networks.pydoc_text", networks.pydoc_text, context=32)
call("networks.random_pixels", networks.random_pixels, shape=(4, 4, 1), number=3, seed=0)
call("networks.spirals", networks.spirals, number=20, turns=1.0, spread=0.02, seed=0)
for _name, _arguments in {
    "cifar10": {"shape": "flat", "side": 32},
    "fashion_mnist": {"shape": "flat", "side": 28},
    "mutag": {},
    "reuters_r8": {"words": 100},
}.items():
    call(f"networks.{_name}", getattr(networks, _name), folder=of(lambda f: f.folder), **_arguments)

# --- show -------------------------------------------------------------------------------------------------------

recipe("plotting.basin_colors", lambda f: ((lambda result: plotting.basin_colors(result)), {"result": f.basins}))
call(
    "plotting.draw_basins",
    plotting.draw_basins,
    ax=ax,
    basins=of(lambda f: f.basins),
    colors=None,
    shade=True,
    attractors=True,
    legend=False,
)
call(
    "plotting.draw_branch",
    plotting.draw_branch,
    ax=ax,
    branch=of(lambda f: f.branch),
    coordinate=0,
    color="black",
    label="x",
)
call("plotting.draw_fractions", plotting.draw_fractions, ax=ax, curve=of(lambda f: f.curve), colors=None, legend=False)
call(
    "plotting.draw_labels",
    plotting.draw_labels,
    ax=ax,
    box=BOX,
    labels=np.array([[0, 1], [1, 0]]),
    names=["a", "b"],
    colors=["red", "blue"],
    legend=False,
)
call(
    "plotting.draw_density",
    plotting.draw_density,
    ax=ax,
    density=of(lambda f: f.density),
    width=0.5,
    box=(-1.0, 4.0),
    color="black",
    label="x",
    points=11,
)
call("plotting.draw_line", plotting.draw_line, ax=ax, line=of(lambda f: f.sliced), layers=(), color="black", label="x")
call(
    "plotting.draw_plane",
    plotting.draw_plane,
    ax=ax,
    plane=of(lambda f: f.plane),
    names=(),
    levels=4,
    spacing="log",
    marks=True,
    gid=None,
)
call(
    "plotting.draw_critical_points",
    plotting.draw_critical_points,
    ax=ax,
    points=of(lambda f: f.L.critical_points()),
    color="black",
    legend=False,
)
call("plotting.draw_field", plotting.draw_field, ax=ax, process=process, box=BOX, resolution=3, color="black")
call(
    "plotting.draw_landscape",
    plotting.draw_landscape,
    ax=ax,
    landscape=L,
    box=BOX,
    levels=4,
    spacing="log",
    resolution=5,
)
call(
    "plotting.draw_quasipotential",
    plotting.draw_quasipotential,
    ax=ax,
    field=of(lambda f: f.field),
    levels=4,
    bar=False,
    label=None,
)
call(
    "plotting.draw_least_noise",
    plotting.draw_least_noise,
    ax=ax,
    luck=of(lambda f: f.luck),
    color="black",
    label="cheapest",
)
call("plotting.draw_manifold", plotting.draw_manifold, ax=ax, manifold=of(lambda f: f.manifold), color="black")
call(
    "plotting.draw_paths",
    plotting.draw_paths,
    ax=ax,
    ensemble=of(lambda f: f.ensemble),
    color="black",
    label="x",
    ends=True,
)
call("plotting.draw_reactive_paths", plotting.draw_reactive_paths, ax=ax, paths=of(lambda f: f.crossing), most=2)
call("plotting.draw_current", plotting.draw_current, ax=ax, current=of(lambda f: f.crossing.current(BOX, 3)), least=0.1)
call(
    "plotting.draw_committor",
    plotting.draw_committor,
    ax=ax,
    committor=of(lambda f: f.committor),
    name="left",
    bar=False,
    half=True,
)
call(
    "plotting.draw_surface",
    plotting.draw_surface,
    ax=of(lambda f: f.ax3),
    landscape=L,
    box=BOX,
    paths=(),
    resolution=4,
    zlim=(0.0, 2.0),
)
call("plotting.rho_colors", plotting.rho_colors, values=[0.1, 0.2])
call("plotting.shades", plotting.shades, number=3)
call("plotting.styles", plotting.styles, labels=["SAM", "digits"], colors=["red", "blue"])
call("plotting.method_of", plotting.method_of, label="SAM, noisy")
call("plotting.method_color", plotting.method_color, label="SAM, noisy")
call("plotting.method_style", plotting.method_style, label="SAM, noisy")
call("plotting.quantity_name", plotting.quantity_name, name="rho")
call("plotting.setting", lambda rho: plotting.setting(rho=rho), rho=0.5)
call("plotting.explain", plotting.explain, ax=ax, label="start", patch=False)
call("plotting.draw_key", plotting.draw_key, target=ax)
call("plotting.check_figure", plotting.check_figure, figure=of(lambda f: matplotlib.figure.Figure()))
call("plotting.set_ticks", plotting.set_ticks, ax=ax, values=[1.0, 2.0], axis="x")
call(
    "plotting.draw_series",
    plotting.draw_series,
    ax=ax,
    x=[0.0, 1.0],
    series={"SAM": ([1.0, 2.0], [0.1, 0.1])},
    laws={"SAM": ([0.0, 1.0], [1.0, 2.0])},
    seen="simulated",
    law="theory",
    band=False,
    colors=None,
    reference={"SGD": 1.0},
    ticks=True,
    legend=False,
)
call(
    "plotting.draw_sweep",
    plotting.draw_sweep,
    ax=ax,
    sweep=of(lambda f: xarray.Dataset({"answer": ("rho", [1.0, 2.0])}, {"rho": [0.1, 0.2]})),
    value="answer",
    along="rho",
    law=None,
    law_name="theory",
    label="SAM",
    colors=None,
)
call(
    "plotting.draw_gains",
    plotting.draw_gains,
    ax=ax,
    gains={("digits", "SAM"): (1.0, 0.5)},
    over="SGD",
    of="test accuracy",
    unit="points",
    colors=None,
    legend=False,
)
call(
    "plotting.draw_ratios",
    plotting.draw_ratios,
    ax=ax,
    ratios={("basins", "numba"): (1.2, 1.1, 1.4)},
    name="times as fast",
    spread="all rounds",
    equal="as fast",
    legend=False,
)
call(
    "plotting.draw_map",
    plotting.draw_map,
    ax=ax,
    x=[1.0, 2.0],
    y=[1.0, 2.0],
    values=[[1.0, 2.0], [3.0, 4.0]],
    name="steps",
    numbers=None,
    limits=(1.0, 4.0),
    log=False,
    contours={"growth 0": [[-1.0, 1.0], [-1.0, 1.0]]},
    bar=False,
    legend=False,
)
call(
    "plotting.draw_capture_set",
    plotting.draw_capture_set,
    ax=ax,
    rho=0.5,
    box=BOX,
    captured=np.array([[True, False], [False, True]]),
    resolution=5,
    legend=False,
)
call(
    "plotting.draw_distance",
    plotting.draw_distance,
    ax=ax,
    runs=of(lambda f: {"SAM": f.ensemble}),
    point=(0.0, 0.0),
    of="the saddle",
    colors=None,
    legend=False,
)
call(
    "plotting.draw_loss",
    plotting.draw_loss,
    ax=ax,
    runs=of(lambda f: {"SAM": f.ensemble}),
    landscape=L,
    above=0.0,
    colors=None,
    legend=False,
)
call(
    "plotting.draw_survival",
    plotting.draw_survival,
    ax=ax,
    escapes=of(lambda f: {"SAM": f.escapes}),
    laws=of(lambda f: {"SAM": escape.exit_law(f.noisy_line, (-1.0, 1.0), 0.0, 4)}),
    at=[1, 10],
    level=0.9,
    bounds={"theorem": [[1.0, 2.0], [0.1, 0.1], [0.9, 0.9]]},
    colors=None,
    legend=False,
)
call("notebook.number", fd.notebook.number, value=0.1234, uncertainty=0.01, sig=3)
call("notebook.report", fd.notebook.report, values={"a": 1.0}, sig=3, unc=None)
call("notebook.say", fd.notebook.say, name="a", value=1.0, error=0.1)
call("notebook.preset", fd.notebook.preset, quick=1, full=2)
call("notebook.digest", fd.notebook.digest, figure=of(lambda f: f.figure))
call("notebook.show", fd.notebook.show, figure=of(lambda f: f.figure))
call(
    "notebook.save_figure",
    fd.notebook.save_figure,
    figure=of(lambda f: f.figure),
    name="00_fuzz",
    data=of(lambda f: f.ensemble),
)
call("notebook.Results", fd.notebook.Results, name="00_fuzz")
bound("Results.add", lambda f: fd.notebook.Results("00_fuzz").add, key="gain", label="gain", value=1.0, error=0.1)
bound("Results.settle", lambda f: f.results.settle, claim="K1", holds="low(gain) > 0", condition="here {gain}")
bound("Results.count", lambda f: f.results.count, key="gain", label="gain", numbers=[], than=0.0)
call("notebook.Number", fd.notebook.Number, value=1.0, error=0.1, label="gain")
call("notebook.result", fd.notebook.result, name="00_fuzz")
call("ledger.cards", fd.ledger.cards, notebook="00_fuzz")
call("ledger.markdown", fd.ledger.markdown, notebooks="../notebooks/")
call(
    "explore",
    fd.explore,
    landscape="saddle",
    method="SAM",
    noise=fd.noise.Gaussian(0.5),
    start=AT,
    steps=5,
    ascent="shared",
    seed=0,
    box=BOX,
    shown=["field"],
)
bound("Explorer.set", lambda f: f.explorer.set, lr=0.1, rho=0.1, momentum=0.0, scale=0.0, seed=1, start=AT, steps=5)
bound("Record.save", lambda f: f.ensemble.save, path=of(lambda f: os.path.join(f.folder, "again.npz")))
bound("Record.load", lambda f: fd.records.Ensemble.load, path=of(lambda f: f.record))
bound("Record.to_xarray", lambda f: f.ensemble.to_xarray, split_complex=True)
bound("Record.to_dataframe", lambda f: f.ensemble.to_dataframe, over=["dim"])
bound("Ensemble.counts", lambda f: f.ensemble.counts)
bound("FractionCurve.of_kind", lambda f: lambda kind: f.curve.of_kind(kind), kind="minimum")
bound("FractionCurve.at", lambda f: lambda value, kind: f.curve.at(value, kind), value=0.1, kind="minimum")
bound("Labels.of_kind", lambda f: lambda kind: f.basins.of_kind(kind), kind="minimum")
call(
    "records.save_arrays",
    fd.records.save_arrays,
    path=of(lambda f: os.path.join(f.folder, "arrays.npz")),
    arrays={"a": np.ones(2)},
    header={"a": 1},
)
call("records.load_arrays", fd.records.load_arrays, path=of(lambda f: f.record))

# --- names without a recipe -------------------------------------------------------------------------------------

CONTRACT = "part of a contract: compiled code calls it with what flatdyn itself made"
BASE = "a base class: what it asks for is checked where one of its kind is taken"
INNER = "flatdyn's own part, whose callers check"
NOTHING = "takes no arguments"

_contract = """begin measure once
        init step position check gap possible ascend gradient draw following parts sample driven spread factor
        vanishing leading_to field look seen towards renewed stored keyed check_sample cycles climb coupled
        decays followed moved pull seasoned perturbed length scoped shapes vanishes_apart pulled
        vector array value score outputs forward drift feasible lift lower nearest residual retract shake
        example_metric metric_sum slack tangent thermal single pieces masked tangency of header misfit arrays Task.loss
        Method.project Alternating.project Wrapper.project"""
_bases = """Landscape Process OnLandscape Method FirstOrder Noise Normal Minibatches Constraint Free Exact Network Task
        Classifier Regressor Saddle asks.Ask Ask.batches Ask.together"""
_inner = """masks.check masks.masked masks.match masks.pick masks.settled notebook.measured notebook.check_figures
        stability.orbit_jacobian stability.unperturbed stability.quadratic.has_two_cycles
        records.damaged records.described records.digest records.misfit records.packed
        records.write_beside records.write_together records.write_whole statistics.mean_sem_of Record.from_arrays
        Process.beside OnLandscape.beside Process.coordinates Entry Case methods.masks.check_tree_of_arrays
        OnLandscape.coordinates Scored.excess Box.excess HalfSpace.excess Sublevel.excess Explorer.asked
        Explorer.connect"""
_empty = """Labels.counts Labels.errors Labels.fractions Basins.coordinates
        ledger.claims ledger.entries ledger.counted ledger.numbers ledger.verdict ledger.papers notebook.overview
        plotting.use_style notebook.is_full notebook.figures_folder
        networks.mnist1d records.provenance landscapes.clear_programs
        LinearRecursion.multipliers LinearRecursion.numbers Entry.parameters
        Explorer.answer Explorer.close Explorer.figure Explorer.wait"""

WITHOUT = (
    dict.fromkeys(
        _contract.split(),
        CONTRACT,
    )
    | dict.fromkeys(
        _bases.split(),
        BASE,
    )
    | dict.fromkeys(
        _inner.split(),
        INNER,
    )
    | dict.fromkeys(
        _empty.split(),
        NOTHING,
    )
    | dict.fromkeys(("Trial.iterates", "Trial.flatness"), "trains networks, by names that check what they are given")
    | {"networks.from_torch": "needs PyTorch and its converter, which these calls do without"}
    | dict.fromkeys(("explorer.Explorer",), "made by explore")
    | dict.fromkeys(("audits.Audit",), "a result, whose numbers are flatdyn's own")
    | dict.fromkeys(("networks.resnet8", "networks.resnet18"), "a ResNet of many layers, which takes seconds to make")
)
