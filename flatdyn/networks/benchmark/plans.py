"""Small learning tasks: the data in three parts, the network, and how it is trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from flatdyn.networks import data
from flatdyn.networks.models import MLP, CharTransformer, CNN2d, NodeGCN

SEED = 16  # of the division of the data
WRONG = 0.3  # share of the labels that are wrong, in the tasks that say so


class TrialPlan(NamedTuple):
    """A small learning task, and how it is trained.

    Attributes:
        model: key -> network
        parts: () -> data to learn, to choose the hyperparameters on, and to report
        lr, batch_size, steps: of SGD with momentum, set by hand
        wrong: share of the labels that are wrong in the first two parts
        weight_decay: λ of ½ λ ‖θ‖² in the task's own loss, where SAM's ascent sees it. PyTorch adds λθ at the
            unperturbed point: `trial(plan, ..., conventions="authors")` makes it a number of the methods instead
    """

    model: Callable
    parts: Callable
    lr: float
    batch_size: int
    steps: int
    wrong: float = 0.0
    weight_decay: float = 0.0


@functools.cache
def _digits(form: str) -> tuple[data.Split, ...]:
    return data.split(data.digits(form), (600, 400, 797), SEED)


def _mnist() -> tuple[data.Split, ...]:
    return data.split(data.mnist5k(side=14), (1000, 1000, 2000), SEED)


@functools.cache
def _text() -> data.Text:
    return data.pydoc_text(16)


def _characters() -> tuple[data.Split, ...]:
    return data.split(_text().data, (2000, 500, 1000), SEED)


def _club() -> tuple[data.Split, ...]:
    nodes = data.karate()
    return (nodes.train, *data.split(nodes.test, (10, 22), SEED))


def _transformer(key: jax.Array) -> CharTransformer:
    return CharTransformer(len(_text().vocabulary), 16, width=16, heads=2, key=key)


def _graph(key: jax.Array) -> NodeGCN:
    return NodeGCN(data.karate().graph, 2, key=key)


_flat, _images = functools.partial(_digits, "flat"), functools.partial(_digits, "image")
_perceptron = functools.partial(MLP, (64, 32, 32, 10))
_normed = functools.partial(MLP, (64, 48, 48, 10), norm="batch")
_convolutions = functools.partial(CNN2d, (8, 8, 1), 10, channels=(8, 16), norm="batch")
_wide = functools.partial(MLP, (196, 48, 10))

TRIALS = {
    "digits": TrialPlan(_perceptron, _flat, 0.05, 50, 1000),
    "digits, BatchNorm": TrialPlan(_normed, _flat, 0.05, 50, 600),
    "digits, CNN": TrialPlan(_convolutions, _images, 0.2, 50, 300),
    "text, transformer": TrialPlan(_transformer, _characters, 0.3, 16, 500),
    "graph, GCN": TrialPlan(_graph, _club, 0.05, 2, 200),
    "digits, wrong": TrialPlan(_perceptron, _flat, 0.05, 50, 1000, WRONG),
    "digits, BatchNorm, wrong": TrialPlan(_normed, _flat, 0.05, 50, 600, WRONG),
    "MNIST subset": TrialPlan(_wide, _mnist, 0.05, 50, 1000),
}
