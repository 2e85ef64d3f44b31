"""Small learning tasks on which methods are compared: the data in three parts, the networks, the plan of training.

trial("digits, wrong", key, runs=8)         one of TRIALS, ready to be trained; conventions="authors": as programs do
Trial.sgd_or_sam, Trial.iteration           how it is trained
Trial.candidates                            SGD, SWA, SAM, WASAM, and controls that cost as much
Trial.compare                               all of them trained, hyperparameters chosen on a part of their own
Trial.sharpest, off_the_average             how flat it is where they end
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from flatdyn.core import checks
from flatdyn.curvature import extreme_eigenvalues
from flatdyn.methods import GD, SAM, Averaged, Method, Scheduled, masks
from flatdyn.methods.base import FirstOrder
from flatdyn.networks import data
from flatdyn.networks.benchmark.plans import SEED, TRIALS, TrialPlan
from flatdyn.networks.benchmark.timing import flops
from flatdyn.networks.models import norm_mask
from flatdyn.networks.training import MethodComparison, Task, classifier, compare, train, with_weight_decay
from flatdyn.noise import Epochs, FiniteSum
from flatdyn.processes import Iteration

CONVENTIONS = ("equations", "authors")
WEIGHT_DECAY = 5e-4  # where it is not what is chosen
AVERAGES = {"floor": 0.5, "average_from": 0.75}  # of SWA and WASAM: the step stays at half its value from the middle on
EVERY = 10  # steps between the iterates that are averaged
CURVED = 300  # training examples on which the Hessian is taken


@dataclass(frozen=True, eq=False)
class Trial:
    """A task ready to be trained by several methods; see :func:`trial`, or give the parts yourself.

    Programs differ from the equations of papers in what is not the method. `conventions` says whose are taken:

                        "equations"                         "authors": of the authors' programs, PyTorch's
        weight decay    in the loss, so SAM's ascent and    λθ is added to the gradient at the unperturbed θ; neither
                        its gradient see it                 the ascent nor the gradient at p sees it
        velocity        a displacement, v⁺ = μv − ηₖ g      a sum of gradients, b⁺ = μb + g, θ⁺ = θ − ηₖ b⁺
        minibatches     drawn anew every step               shuffled passes: :class:`flatdyn.noise.Epochs`

    Attributes:
        task: evaluates the networks
        starts: θ₀ of the runs, shape (runs, dim)
        eval_sets: data by name: "valid" chooses hyperparameters, "test" is reported
        lr, batch_size, steps: of SGD with momentum
        conventions: "equations" or "authors"
        weight_decay: λ that the methods of :meth:`iteration` have of their own, under "authors"; where decay is in the
            loss, that of the task has it
    """

    task: Task
    starts: Any
    eval_sets: Mapping[str, data.Split]
    lr: float
    batch_size: int
    steps: int
    conventions: str = "equations"
    weight_decay: float = 0.0

    def __post_init__(self):
        checks.choice("conventions", self.conventions, CONVENTIONS)
        checks.number("weight_decay", self.weight_decay, at_least=0, one=True)
        if self.weight_decay and self.conventions == "equations":
            raise ValueError(
                f"weight_decay={self.weight_decay:g} is of methods, and decay is in the loss: give it to the task, or "
                "take conventions='authors'"
            )
        checks.kind("task", self.task, Task, "flatdyn.networks.classifier(network, data)")
        checks.coordinates("starts", self.starts, self.task.dim, finite=True)
        checks.mapping("eval_sets", self.eval_sets, "name -> Split")
        checks.number("lr", self.lr, above=0, one=True)
        checks.count("batch_size", self.batch_size, at_least=1)
        checks.count("steps", self.steps, at_least=1)

    def iteration(self, method: Any, steps: int | None = None, floor: float | None = None) -> Iteration:
        """A method in minibatches, whose step falls along half a cosine.

            ηₖ = η max(c, ½ (1 + cos(π k/n))),   c = floor, n = steps

        Args:
            method: with a step size lr; under the authors' conventions of first order, and it gets their velocity, and
                the trial's weight decay unless it has one of its own
            steps: n; those of the trial if not given
            floor: c ≥ 0; none if not given
        """
        checks.kind("method", method, Method, "fd.SAM(lr, rho)")
        steps = self.steps if steps is None else checks.count("steps", steps, at_least=1)
        falling = _falling(self._conventional(method), steps, floor)
        return Iteration(self.task.landscape, falling, self._noise(self.batch_size))

    def _conventional(self, method: Any) -> Method:
        """The method under the conventions of the trial."""
        if self.conventions == "equations":
            return method
        if not isinstance(method, FirstOrder):
            raise ValueError(
                f"conventions='authors' are numbers of a method of first order, such as fd.SAM, got {method!r}: "
                "take conventions='equations', or an Iteration of your own"
            )
        own = {} if "weight_decay" not in method.absent else {"weight_decay": self.weight_decay}
        return dataclasses.replace(method, units="gradient", **own)

    def _noise(self, batch_size: int) -> FiniteSum | Epochs:
        return FiniteSum(batch_size) if self.conventions == "equations" else Epochs(batch_size)

    def sgd_or_sam(
        self,
        rho: float = 0.0,
        *,
        lr: float | None = None,
        momentum: float = 0.9,
        batch_size: int | None = None,
        steps: int | None = None,
        weight_decay: float = WEIGHT_DECAY,
        floor: float = 0.0,
        average_from: float = 1.0,
    ) -> Iteration:
        """SAM in minibatches with momentum and a falling step; SGD where ρ = 0; with an average SWA or WASAM.

        All of them are one compiled program: SAM with ρ = 0 is SGD, and an average that begins with the last step is
        the last iterate.

        Args:
            rho: ascent radius ρ ≥ 0
            lr, batch_size, steps: those of the trial if not given
            momentum: μ in [0, 1)
            weight_decay: λ of ½ λ ‖θ‖², beside that of the trial; where it acts is a matter of the conventions
            floor: the least factor of the step; see :meth:`iteration`
            average_from: share of the steps from which every tenth iterate is averaged; 1 for no average
        """
        steps = self.steps if steps is None else checks.count("steps", steps, at_least=1)
        momentum = np.asarray(checks.number("momentum", momentum, at_least=0, below=1, one=True))
        share = checks.number("average_from", average_from, at_least=0, one=True)
        method, landscape = SAM(self.lr if lr is None else lr, rho, momentum), self.task.landscape
        if self.conventions == "equations":
            landscape = with_weight_decay(landscape, weight_decay)
        else:
            decay = checks.number("weight_decay", weight_decay, at_least=0, one=True) + self.weight_decay
            method = dataclasses.replace(self._conventional(method), weight_decay=np.asarray(decay))
        averaged = Averaged(_falling(method, steps, floor), round(share * steps), EVERY)
        return Iteration(landscape, averaged, self._noise(self.batch_size if batch_size is None else batch_size))

    def candidates(self, rhos: Sequence[float], decays: Sequence[float]) -> dict[str, dict[str, Iteration]]:
        """SGD, SWA, SAM and WASAM, with the controls that cost what SAM costs, or less.

        Args:
            rhos: ρ of SAM and of WASAM
            decays: weight decays of SGD
        Returns:
            method -> setting -> process, for :meth:`compare`
        """
        rhos = {f"{rho:g}": rho for rho in checks.numbers("rhos", rhos, ndim=1).tolist()}
        decays = checks.numbers("decays", decays, ndim=1).tolist()
        return {
            "SGD": {"": self.sgd_or_sam()},
            "SGD, twice the steps": {"": self.sgd_or_sam(steps=2 * self.steps)},
            "SWA": {"": self.sgd_or_sam(**AVERAGES)},
            "SGD, weight decay": {f"{value:g}": self.sgd_or_sam(weight_decay=value) for value in decays},
            "SAM": {setting: self.sgd_or_sam(rho) for setting, rho in rhos.items()},
            "WASAM": {setting: self.sgd_or_sam(rho, **AVERAGES) for setting, rho in rhos.items()},
        }

    def masked(
        self, name: str, method: Callable, masks: Mapping[str, Any], rhos: tuple[list[float], list[float]]
    ) -> dict[str, dict[str, Iteration]]:
        """A method such as SAM with each of several masks and each of several ρ.

        Args:
            name, method: "SAM" and fd.SAM, or the like
            masks: by name, as :func:`norm_masks` makes them
            rhos: ρ for masks of more than half of the parameters, and for smaller ones
        Returns:
            "SAM, mask" -> ρ -> process, for :meth:`compare`
        """
        checks.text("name", name)
        checks.function("method", method)
        if not isinstance(rhos, tuple) or len(rhos) != 2:
            raise ValueError(f"rhos must be a pair: for large masks, for small ones; got {checks.shown(rhos)}")
        large, small = (checks.numbers("rhos", each, ndim=1).tolist() for each in rhos)
        made = {}
        for word, mask in checks.mapping("masks", masks, "name -> mask").items():
            size = sum(np.sum(leaf) for leaf in jax.tree.leaves(mask))
            each = small if size < self.task.dim / 2 else large
            made[f"{name}, {word}"] = {f"{rho:g}": self.iteration(method(self.lr, rho, 0.9, mask=mask)) for rho in each}
        return made

    def compare(
        self,
        methods: Mapping[str, Mapping[str, Iteration]],
        key: jax.Array,
        steps: Mapping[str, int] | None = None,
    ) -> MethodComparison:
        """Train all candidates, and choose among the settings of each method: :func:`flatdyn.networks.compare`.

        Args:
            methods: method -> setting -> process
            key: a JAX key
            steps: of the methods that take another number of steps than the trial's
        """
        checks.mapping("methods", methods, "method -> setting -> Process")
        steps = {} if steps is None else checks.mapping("steps", steps, "method -> number of steps")
        lengths = dict.fromkeys(methods, self.steps) | dict(steps)
        return compare(self.task, methods, self.starts, lengths, key, self.eval_sets)

    def iterates(self, rho: float, key: jax.Array) -> np.ndarray:
        """The last iterates of SWA (ρ = 0) or WASAM, from which their averages are not taken, shape (runs, dim)."""
        process = self.sgd_or_sam(rho, floor=AVERAGES["floor"])
        return train(self.task, process, self.starts, self.steps, key, self.steps, eval_sets=self.eval_sets).theta

    def sharpest(
        self, theta: Any, examples: int = CURVED, tol: float = 1e-2, most: int = 20
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm of the largest eigenvalue of the Hessian, and its eigenvector, at each of some points.

            log λ_max of ∇²L at θ,   L the mean over the first training examples, with the decay of the task's own loss

        Args:
            theta: points, shape (points, dim)
            examples: how many; all if there are fewer
            tol: relative accuracy that is asked for
            most: products of the Hessian with a vector at most, for one point
        Returns:
            log λ_max, shape (points,); directions, shape (points, dim)
        """
        checks.coordinates("theta", theta, self.task.dim, finite=True)
        examples, landscape = checks.count("examples", examples, at_least=1), self.task.landscape
        tol = checks.number("tol", tol, above=0, one=True)
        some = landscape.batch(np.arange(min(examples, landscape.number)))
        spectra = [extreme_eigenvalues(some, point, 20, most=most, starts=1, tol=tol) for point in theta]
        return np.log([float(one.largest) for one in spectra]), np.stack([one.directions[0] for one in spectra])

    def flatness(self, table: MethodComparison, key: jax.Array, runs: int) -> Flatness:
        """How flat it is where SGD, SWA, SAM and WASAM end, and where the averages' own last iterates are.

        Args:
            table: what :meth:`compare` made of :meth:`candidates`, with this key
            runs: how many are looked at, the first ones
        """
        pairs = [self.sharpest(theta[:runs]) for theta in table.theta]
        logs, directions = (np.stack(part) for part in zip(*pairs, strict=True))
        free = np.flatnonzero(table.owner != list(table.methods).index("SGD, weight decay"))
        ranks = [spearmanr(logs[free, run], table.test[free, run]).statistic for run in range(logs.shape[1])]
        chosen = {name: logs[table.number(name)] for name in ("SGD", "SWA", "SAM", "WASAM")}
        shares = {}
        for name, rho in {"SWA": 0.0, "WASAM": float(table.setting("WASAM"))}.items():
            last = self.iterates(rho, key)[:runs]
            chosen[f"last iterate of {name}"] = self.sharpest(last)[0]
            shares[name] = off_the_average(table.ends(name)[:runs], last, directions[table.number(name)])
        return Flatness(logs, free, np.array(ranks), chosen, shares)


class Flatness(NamedTuple):
    """How flat it is where methods end; see :meth:`Trial.flatness`.

    Attributes:
        candidates: log λ_max of every candidate, shape (candidates, runs)
        free: indices of those without a chosen weight decay, which also sets the scale of the weights
        ranks: rank correlation of log λ_max and the reported metric over these, in each run, shape (runs,)
        chosen: method -> that of its chosen setting, shape (runs,); for the averages also "last iterate of SWA"
        shares: "SWA" and "WASAM" -> what :func:`off_the_average` says along the sharpest direction, shape (runs,)
    """

    candidates: np.ndarray
    free: np.ndarray
    ranks: np.ndarray
    chosen: dict[str, np.ndarray]
    shares: dict[str, np.ndarray]


def trial(
    plan: str | TrialPlan, key: jax.Array, runs: int, fraction: float = 1.0, *, conventions: str = "equations"
) -> Trial:
    """A task with its data, and networks from weights of their own.

    Trials with the same network share compiled programs.

    Args:
        plan: the name of one of TRIALS, such as "digits, wrong", or a TrialPlan of your own
        key: a JAX key, of the weights
        runs: number of networks
        fraction: of the steps
        conventions: "equations", or "authors" for the weight decay, the velocity and the minibatches of the programs
            that authors have released; see :class:`Trial`
    Raises:
        ValueError: if the name is not in TRIALS, or a number is out of range
        DataMissing: if the package that ships the data is not installed
    """
    if not isinstance(plan, TrialPlan):
        plan = TRIALS[checks.choice("plan", plan, tuple(TRIALS))]
    checks.key(key)
    checks.choice("conventions", conventions, CONVENTIONS)
    runs = checks.count("runs", runs, at_least=1)
    fraction = checks.number("fraction", fraction, above=0, one=True)
    steps = round(fraction * plan.steps)
    if steps < 1:
        raise ValueError(f"fraction must leave a step of the {plan.steps}, got {fraction:g}")
    *learnt, test = plan.parts()
    learnt = [data.flip_labels(part, plan.wrong, seed) if plan.wrong else part for seed, part in enumerate(learnt)]
    inside, outside = (plan.weight_decay, 0.0) if conventions == "equations" else (0.0, plan.weight_decay)
    task = _network(plan.model, plan.parts, inside, jax.config.jax_enable_x64).on(learnt[0])
    starts = task.starts(plan.model, key, runs).astype("float32")
    eval_sets = {"valid": learnt[1], "test": test}
    return Trial(task, starts, eval_sets, plan.lr, plan.batch_size, steps, conventions, outside)


def norm_masks(trial: Trial, network: eqx.Module, with_fisher: bool = False) -> dict[str, Any]:
    """What SAM-ON is compared with: masks of all parameters, all but the norm layers', these, and as many others.

    They are arrays, so that a method with any of them is the same compiled program.

    Args:
        trial: its task has a network like this
        network: with normalization layers
        with_fisher: whether to add those with the largest Fisher information, mean over the networks as they start
    Returns:
        "all", "all but norm", "norm", "random", and "Fisher" if it is wanted -> mask
    """
    checks.kind("trial", trial, Trial, "flatdyn.networks.trial(name, key, runs)")
    checks.flag("with_fisher", with_fisher)
    landscape = trial.task.landscape
    weights, on = landscape.vector(trial.task.start).tree, norm_mask(network)
    off, size = masks.complement(on), masks.count(weights, on)
    whole = {"all": masks.union(on, off), "all but norm": off, "norm": on}
    chosen = {name: masks.spread(mask, weights) for name, mask in whole.items()}
    chosen["random"] = masks.random(weights, size, jax.random.key(1))
    if with_fisher:
        scores = jax.jit(jax.vmap(functools.partial(masks.fisher, landscape)))(trial.starts)
        chosen["Fisher"] = masks.largest(jax.tree.map(lambda leaf: leaf.mean(axis=0), scores), size)
    return chosen


def step_cost(task: Task, method: Any, batch_size: int = 50) -> float:
    """Operations of a step in minibatches, as the compiler counts them, over those of a step of SGD with momentum."""
    checks.kind("task", task, Task, "flatdyn.networks.classifier(network, data)")
    checks.kind("method", method, Method, "fd.SAM(lr, rho)")
    noise, key = FiniteSum(batch_size), jax.random.key(0)
    plain, other = (Iteration(task.landscape, one, noise) for one in (GD(0.05, 0.9), method))
    counts = [flops(process.step, process.init(task.start), key) for process in (plain, other)]
    return counts[1] / counts[0]


def off_the_average(average: Any, iterate: Any, directions: Any) -> np.ndarray:
    """Share of the squared distance from an average to the last iterate that lies along a direction.

        ((θ − a) · v)² / ‖θ − a‖²,   v of length 1

    Args:
        average, iterate, directions: a, θ and v, each of shape (runs, dim)
    Returns:
        array (runs,)
    """
    parts = {"average": average, "iterate": iterate, "directions": directions}
    average, iterate, directions = (checks.numbers(name, part, ndim=2) for name, part in parts.items())
    if not average.shape == iterate.shape == directions.shape:
        raise ValueError(
            f"average, iterate and directions must have one shape, got {[np.shape(p) for p in parts.values()]}"
        )
    offset = iterate - average
    return (offset * directions).sum(axis=-1) ** 2 / (offset**2).sum(axis=-1)


@functools.cache
def _network(model: Callable, parts: Callable, weight_decay: float, _x64: bool) -> Task:
    """The task of a network on its data with right labels, once in each precision."""
    return classifier(model(jax.random.key(SEED)), parts()[0], weight_decay)


def _falling(method: Any, steps: int, floor: float | None) -> Scheduled:
    """The method, with its step along half a cosine; other steps or another floor need no new program."""
    floor = None if floor is None else checks.number("floor", checks.real(floor), at_least=0, one=True)
    return Scheduled(method, jax.tree_util.Partial(_factor, np.asarray(steps), floor))


def _factor(steps: Any, floor: float | None, count: jax.Array) -> jax.Array:
    """½ (1 + cos(π k/n)) in the order in which optax.cosine_decay_schedule computes it, and not below the floor."""
    factor = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(count, steps) / steps))
    return factor if floor is None else jnp.maximum(factor, floor)
