"""Two spirals, on which Leimkuhler, Matthews and Vlaar (arXiv 1908.11843) compare Langevin methods with SGD and Adam.

spiral_trial(runs)              data, networks, and where they start
SpiralTrial.iteration           a method with its settings, on minibatches
SpiralTrial.learn               all networks trained with it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks
from flatdyn.methods import GD, LOL, AdLaLa, LaLa, Method, from_optax, masks
from flatdyn.networks import data
from flatdyn.networks.models import MLP
from flatdyn.networks.training import Classifier, classifier
from flatdyn.noise import Epochs, FiniteSum
from flatdyn.processes import Iteration
from flatdyn.runs import simulate

METHODS = ("SGD", "SGD, momentum", "Adam", "LaLa", "AdLaLa", "LOL")
BATCH_SIZE = 25
TEMPERATURE = 1e-4  # of the thermostats


@dataclass(frozen=True, eq=False)
class SpiralTrial:
    """Networks that learn to tell two spirals apart; see :func:`spiral_trial`.

    Attributes:
        task: a classifier with one hidden layer
        starts: θ₀ of the runs in single precision, shape (runs, dim)
        train, valid, test: points to learn, to choose the step size on, and to report
    """

    task: Classifier
    starts: jax.Array
    train: data.Split
    valid: data.Split
    test: data.Split

    def __post_init__(self):
        checks.kind("task", self.task, Classifier, "flatdyn.networks.classifier(network, data)")
        checks.coordinates("starts", self.starts, self.task.dim, finite=True)
        for name in ("train", "valid", "test"):
            checks.kind(name, getattr(self, name), data.Split, "flatdyn.networks.Split(x, y)")

    def iteration(
        self, name: str, factor: Any = 1.0, temperature: Any = TEMPERATURE, epochs: bool = False
    ) -> Iteration:
        """A method on minibatches of 25 points, with settings that did well in a few tries.

            SGD             η = 0.5
            SGD, momentum   η = 0.04, μ = 0.95
            Adam            η = 0.01
            LaLa            η = 0.2; AOAB; γ = 0.03 for the hidden layer, 1 for the output layer
            AdLaLa          η = 0.2; weights and biases of the hidden layer with thermostats of their own, σ = 0.01,
                            ε = 0.05; the output layer with γ = 0.1
            LOL             η = 0.2; AOAB; γ = 0.03 for the hidden layer, overdamped output layer

        Args:
            name: one of these
            factor: c > 0 in c η
            temperature: τ ≥ 0 of the thermostats of LaLa, AdLaLa and LOL
            epochs: whether minibatches are shuffled passes through the points, as in the authors' program; they are
                drawn anew every step if not
        """
        factor = checks.number("factor", factor, above=0, one=True)
        temperature = checks.number("temperature", temperature, at_least=0, one=True)
        method = self._method(checks.choice("name", name, METHODS), factor, temperature)
        noise = Epochs if checks.flag("epochs", epochs) else FiniteSum
        return Iteration(self.task.landscape, method, noise(BATCH_SIZE))

    def _method(self, name: str, factor: Any, temperature: Any) -> Method:
        tree = self.task.landscape.vector(self.task.start).tree
        first, leaves = masks.named(tree, "layers[0]"), masks.each(tree)[:2]
        both = (temperature, temperature)
        match name:
            case "SGD":
                return GD(0.5 * factor)
            case "SGD, momentum":
                return GD(0.04 * factor, momentum=0.95)
            case "Adam":
                import optax  # needed by this method alone

                return from_optax(optax.adam(0.01 * factor))
            case "LaLa":
                return LaLa(0.2 * factor, first, (0.03, 1.0), both, "AOAB")
            case "AdLaLa":
                return AdLaLa(0.2 * factor, leaves, both, 0.01, 0.05, 0.1, 0.1, "code")
            case _:
                return LOL(0.2 * factor, first, 0.03, both, "AOAB")

    def learn(
        self,
        name: str,
        steps: int,
        key: jax.Array,
        *,
        factor: Any = 1.0,
        temperature: Any = TEMPERATURE,
        every: int | None = None,
        epochs: bool = False,
    ) -> np.ndarray:
        """Train all networks with one method; θ of shape (runs, steps // every, dim), without the start.

        Args:
            name, factor, temperature, epochs: as in :meth:`iteration`
            steps, key, every: as for `fd.simulate`; a quarter of the steps if `every` is not given
        """
        steps = checks.count("steps", steps, at_least=1)
        every = max(1, steps // 4) if every is None else checks.count("every", every, at_least=1)
        return simulate(self.iteration(name, factor, temperature, epochs), self.starts, steps, key, every).theta[:, 1:]


def spiral_trial(runs: int, *, turns: float = 3.0, points: int = 500, hidden: int = 100) -> SpiralTrial:
    """The two spirals as a learning task, and networks from weights of their own.

    Args:
        runs: number of networks; the i-th is made with the key `jax.random.key(i)`
        turns: of the spirals; the more, the harder
        points: to learn; 1000 and 4000 others choose the step size and are reported
        hidden: units of the hidden layer
    """
    runs, hidden = checks.count("runs", runs, at_least=1), checks.count("hidden", hidden, at_least=1)
    points = checks.count("points", points, at_least=2)
    if points % 2:
        raise ValueError(f"points must be even, half on each arm, got {points}")
    train, valid, test = (data.spirals(n, turns, seed=seed) for seed, n in enumerate((points, 1000, 4000), start=1))
    networks = [MLP((2, hidden, 2), jax.random.key(i)) for i in range(runs)]
    task = classifier(networks[0], train)
    starts = jnp.stack([task.coordinates(network) for network in networks]).astype("float32")
    return SpiralTrial(task, starts, train, valid, test)
