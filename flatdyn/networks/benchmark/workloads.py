"""Workloads of the benchmark at two sizes: ceilings, ensembles, spectra, images, training.

:func:`flatdyn.networks.scale.measure` makes one table of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core.statistics import mean_sem_of
from flatdyn.curvature import extreme_eigenvalues, hessian_product
from flatdyn.methods import GD, SAM
from flatdyn.networks import data
from flatdyn.networks.benchmark.timing import Timing, flops, repeated, timed
from flatdyn.networks.data import files, preprocessing
from flatdyn.networks.models import MLP, Network, ViT, norm_mask, resnet8, resnet18
from flatdyn.networks.training import classifier, train
from flatdyn.noise import FiniteSum
from flatdyn.processes import Iteration
from flatdyn.runs import devices, stepping

COPIES = 10  # of the large array, in one timed call


class Size(NamedTuple):
    """How large everything is.

    Attributes:
        product: side of the square matrices multiplied for the ceiling
        copy: bytes copied for the ceiling
        networks: how many advance side by side
        updates: steps of networks in one timed call
        widths: of the hidden layers of the networks whose spectra are computed
        lanczos: products of the Hessian with a vector for a spectrum
        examples: that these Hessians are means over
        image: shape of the random images
        batch: of images
        deep: whether the residual network is ResNet-18, and what is learnt Fashion-MNIST; else ResNet-8, and digits
        width: of its first stage
        half: whether it is measured in bfloat16, too
        seeds, steps: of the networks trained
    """

    product: int
    copy: int
    networks: tuple[int, ...]
    updates: int
    widths: tuple[int, ...]
    lanczos: int
    examples: int
    image: tuple[int, int, int]
    batch: int
    deep: bool
    width: int
    half: bool
    seeds: int
    steps: int


SIZES = {
    "gpu": Size(
        product=8192,
        copy=2**30,
        networks=(1, 16, 256, 4096, 65536),
        updates=2**20,
        widths=(300, 1000, 3100),
        lanczos=80,
        examples=1797,
        image=(32, 32, 3),
        batch=512,
        deep=True,
        width=64,
        half=True,
        seeds=5,
        steps=4690,
    ),
    "cpu": Size(
        product=1024,
        copy=2**26,
        networks=(1, 16, 128),
        updates=2**11,
        widths=(20, 80, 280),
        lanczos=20,
        examples=256,
        image=(8, 8, 1),
        batch=64,
        deep=False,
        width=4,
        half=False,
        seeds=2,
        steps=40,
    ),
}


class Ceilings(dict):
    """What the device does at most, by name: floating-point operations per second by precision, bytes per second."""

    def shares(self, precision: str, operations: float, least_bytes: float, seconds: float) -> dict[str, float]:
        product, copy = self.get(precision, np.nan), self.get("copy", np.nan)
        return {"of_product": operations / seconds / product, "of_copy": least_bytes / seconds / copy}


def _row(what: str, timing: Timing, work: float, unit: str, **more: Any) -> dict:
    """One row of the table: `work` was done in each timed call."""
    empty = {"method": "", "precision": "float32", "networks": 1, "parameters": 0}
    empty |= dict.fromkeys(("of_product", "of_copy", "accuracy", "error"), np.nan)
    return {"what": what, "rate": work / timing.seconds, "unit": unit, **timing._asdict(), **empty, **more}


def _ceilings(size: Size, ceilings: Ceilings, repeat: int) -> Iterator[dict]:
    def squares(dtype: Any) -> Callable:
        shape = (2, size.product, size.product)
        return lambda key: tuple(jax.random.normal(key, shape, jnp.float32).astype(dtype))

    exact = lambda a, b: jnp.matmul(a, b, precision="highest")  # noqa: E731
    products = {"float32": (jnp.matmul, jnp.float32), "float32, exact": (exact, jnp.float32)}
    products["bfloat16"] = (jnp.matmul, jnp.bfloat16)
    for precision, (product, dtype) in products.items():
        timing = timed(product, squares(dtype), repeat)
        row = _row("matrix product", timing, 2.0 * size.product**3, "FLOP/s", precision=precision)
        ceilings[precision] = row["rate"]
        yield row
    # In one place, over and over: new memory would be slow for reasons of its own
    over = lambda x: jax.lax.fori_loop(0, COPIES, lambda _, x: x + 1, x)  # noqa: E731
    timing = timed(over, lambda key: (jax.random.normal(key, (size.copy // 4,), jnp.float32),), repeat)
    row = _row("copy", timing, 2.0 * size.copy * COPIES, "bytes/s")
    ceilings["copy"] = row["rate"]
    yield row


def _ensembles(size: Size, ceilings: Ceilings, repeat: int) -> Iterator[dict]:
    digits = data.digits()
    small = preprocessing.principal_components(preprocessing.split(digits, [500])[0], number=12)[0]
    key = jax.random.key(0)
    cases = {
        "MLP on digits": (classifier(MLP((64, 32, 32, 10), key), digits), 50),
        "MLP with a saddle": (classifier(MLP((12, 5, 10), key, jnp.tanh), small), 20),
    }
    for what, (task, batch) in cases.items():
        for name, method in {"GD": GD(0.1), "SAM": SAM(0.1, 0.1)}.items():
            process = Iteration(task.landscape, method, FiniteSum(batch))
            for number in size.networks:
                steps = int(np.clip(size.updates // number, 5, 500))
                try:
                    with devices.memory_guard(number):
                        row = _advance(process, number, steps, ceilings, repeat, what=what, method=name)
                except devices.TooMany:  # the rows before say how many fit
                    break
                yield row


def _advance(
    process: Iteration, number: int, steps: int, ceilings: Ceilings, repeat: int, each: int = 1, **more: Any
) -> dict:
    """The rate at which networks advance; `each` says what a step is worth, such as images."""
    process = stepping.prepared(process, jnp.float32)
    precision = more.get("precision", "float32")

    def make(key: jax.Array) -> tuple:
        starts = jax.random.normal(key, (number, process.dim), jnp.float32) / 10
        return process, stepping.at_rest(process, starts), stepping.seed_of(process, key), jnp.arange(number)

    def run(process: Iteration, carry: Any, seed: Any, runs: jax.Array) -> Any:
        return stepping.advanced(process, carry, seed, runs, steps, jnp.inf).state.theta.tree

    timing = timed(run, make, repeat)
    state = process.init(jnp.zeros(process.dim, jnp.float32))
    once = flops(lambda process, state, key: process.step(state, key), process, state, jax.random.key(0))
    least = 2 * 4 * process.dim * number * steps
    shares = ceilings.shares(precision, once * number * steps, least, timing.seconds)
    unit = more.pop("unit", "network-steps/s")
    counts = {"networks": number, "parameters": process.dim}
    return _row(timing=timing, work=number * steps * each, unit=unit, **counts, **shares, **more)


def _spectra(size: Size, ceilings: Ceilings, repeat: int) -> Iterator[dict]:
    digits = data.digits()
    some = preprocessing.split(digits, [min(size.examples, len(digits.y))])[0]
    for width in size.widths:
        network = MLP((64, width, width, 10), jax.random.key(0), jnp.tanh)
        task = classifier(network, some)
        with jax.default_matmul_precision("highest"):
            rows = list(_spectrum(size, task, ceilings, repeat))
            rows += [_against_double(size, task, network, some)] if width == size.widths[0] else []
        yield from rows


def _spectrum(size: Size, task: Any, ceilings: Ceilings, repeat: int) -> Iterator[dict]:
    """Rates of products with the Hessian of a network, and of Lanczos decompositions of it."""
    loss, start = task.landscape, task.start

    def vectors(key: jax.Array) -> tuple:
        return loss, start, jax.random.normal(key, start.shape, start.dtype)

    def lanczos(number: int) -> Any:
        key = jax.random.key(number)
        theta = start + jax.random.normal(key, start.shape, start.dtype) / 100
        return extreme_eigenvalues(
            loss, theta, size.lanczos, key, most=size.lanczos, starts=1, method="lanczos"
        ).largest

    timing = timed(hessian_product, vectors, repeat)
    operations = flops(hessian_product, *vectors(jax.random.key(0)))
    more = {"parameters": task.dim, "precision": "float32, exact"}
    share = operations / timing.seconds / ceilings["float32, exact"]
    yield _row("products Hv", timing, 1, "products/s", of_product=share, **more)
    yield _row(f"Lanczos, k = {size.lanczos}", repeated(lanczos), 1, "spectra/s", **more)


def _against_double(size: Size, task: Any, network: Network, some: data.Split) -> dict:
    """How far the largest eigenvalue here, in single precision, is from that in double precision on a CPU."""
    here = extreme_eigenvalues(task.landscape, task.start, size.lanczos, method="lanczos")
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        double = classifier(jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, float)), network), some)
        there = extreme_eigenvalues(double.landscape, double.start, size.lanczos, method="lanczos")
    off = float(abs(here.largest - there.largest) / there.largest)
    none = Timing(1.0, *[np.nan] * 5)
    return _row("largest eigenvalue against float64", none, off, "relative difference", parameters=task.dim)


class InHalf(Network):
    """A network that computes in bfloat16 from weights kept in single precision."""

    network: Network

    def forward(self, x, statistics=None):
        half = jax.tree.map(
            lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf, self.network
        )
        y, used = half.forward(x.astype(jnp.bfloat16), statistics)
        return y.astype(x.dtype), used


def _residual(size: Size, engine: str) -> Network:
    build = resnet18 if size.deep else resnet8
    return build(size.image, 10, jax.random.key(0), width=size.width, engine=engine)


def _methods(network: Network, lr: float, rho: float) -> dict[str, Any]:
    on = SAM(lr, rho, momentum=0.9, mask=norm_mask(network))
    return {"SGD": GD(lr, momentum=0.9), "SAM": SAM(lr, rho, momentum=0.9), "SAM-ON": on}


def _images(size: Size, ceilings: Ceilings, repeat: int) -> Iterator[dict]:
    pixels = data.random_pixels(size.image, 4 * size.batch).x
    labelled = data.Split(pixels, np.arange(len(pixels)) % 10)  # no label means anything: speed only
    network = _residual(size, "lax" if jax.default_backend() == "gpu" else "product")
    name = f"ResNet-{18 if size.deep else 8} on random pixels {'x'.join(map(str, size.image))}"
    for precision in ("float32", "bfloat16") if size.half else ("float32",):
        model = InHalf(network) if precision == "bfloat16" else network
        task = classifier(model, labelled)
        for method, rule in _methods(model, 0.01, 0.05).items():
            process = Iteration(task.landscape, rule, FiniteSum(size.batch))
            labels = {"what": name, "method": method, "precision": precision, "unit": "images/s"}
            yield _advance(process, 1, 5, ceilings, repeat, each=size.batch, **labels)


def _training(size: Size, ceilings: Ceilings, repeat: int) -> Iterator[dict]:
    if size.deep:
        name, (learnt, test) = "Fashion-MNIST", files.fashion_mnist("image")
    else:
        name, (learnt, test) = "digits", preprocessing.split(data.digits("image"), [1000, 797])
    shape = learnt.x.shape[1:]
    batch = min(128, size.batch)
    makers = {
        "ResNet-8": lambda key: resnet8(shape, 10, key, width=16 if size.deep else size.width),
        "ViT": lambda key: ViT(shape, 10, key, width=64 if size.deep else 16, depth=4 if size.deep else 1),
    }
    for model, make in makers.items():
        task = classifier(make(jax.random.key(0)), learnt)
        starts = task.starts(make, jax.random.key(1), size.seeds)
        for method, rule in _methods(make(jax.random.key(0)), 0.05, 0.05).items():
            process = Iteration(task.landscape, rule, FiniteSum(batch))
            trained = train(task, process, starts, size.steps, jax.random.key(2), size.steps, eval_sets={"test": test})
            metrics, spent = trained.last("test"), float(trained.seconds)
            learned = dict(zip(("accuracy", "error"), mean_sem_of(metrics), strict=True))
            more = {"method": method, "precision": str(starts.dtype), "networks": size.seeds, "parameters": task.dim}
            timing = Timing(spent, *[np.nan] * 5)  # once, compiling and evaluation included
            yield _row(
                f"{model} on {name}", timing, size.seeds * size.steps, "network-steps/s of the clock", **more, **learned
            )


PARTS = {
    "ceilings": _ceilings,
    "ensembles": _ensembles,
    "spectra": _spectra,
    "images": _images,
    "training": _training,
}
