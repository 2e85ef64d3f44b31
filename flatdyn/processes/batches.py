"""All minibatches that a step can draw from a few examples, with their probabilities: for sums in place of samples."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from flatdyn.noise import FiniteSum
from flatdyn.processes.base import Iteration

MOST_BATCHES = 5000


def number_of_batches(process: Iteration) -> int:
    n, B, ordered = process.landscape.number, process.noise.batch_size, _ordered(process.noise)
    if process.noise.replace:
        number = n**B if ordered else math.comb(n + B - 1, B)
    else:
        number = math.perm(n, B) if ordered else math.comb(n, B)
    return number**2 if process.ascent == "independent" else number


def _ordered(noise: FiniteSum) -> bool:
    """Whether the order within a batch counts: it says which examples share an ascent."""
    return noise.ascent_size not in (None, noise.batch_size)


def all_batches(process: Iteration) -> tuple[jax.Array, jax.Array]:
    """Every minibatch, as rows of indices of examples, and its probability."""
    n, B, noise = process.landscape.number, process.noise.batch_size, process.noise
    if _ordered(noise):
        rows = itertools.product(range(n), repeat=B) if noise.replace else itertools.permutations(range(n), B)
    elif noise.replace:
        rows = itertools.combinations_with_replacement(range(n), B)
    else:
        rows = itertools.combinations(range(n), B)
    batches = np.array(list(rows)).reshape(-1, B)
    weights = np.ones(len(batches))
    if noise.replace and not _ordered(noise):
        counts = (batches[:, :, None] == np.arange(n)).sum(axis=1)
        weights = np.exp(scipy.special.gammaln(B + 1) - scipy.special.gammaln(counts + 1).sum(axis=1))  # multinomial
    return jnp.asarray(batches), jnp.asarray(weights / weights.sum())
