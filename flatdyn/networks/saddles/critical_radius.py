"""From which ρ on does SAM or USAM stay at the saddle of a network, for a given minibatch size?"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, segments
from flatdyn.core.statistics import mean_sem_of
from flatdyn.methods import SAM, USAM
from flatdyn.methods.base import Method
from flatdyn.networks.saddles.constructions import Saddle
from flatdyn.networks.saddles.transverse import transverse_exponent
from flatdyn.noise import FiniteSum


class Critical(NamedTuple):
    """The ρ at which a saddle begins to trap, with standard errors.

    Attributes:
        rule, rule_stderr: by averaging along the steepest direction alone, to first order in the step
        root, root_stderr: where the transverse Lyapunov exponent vanishes; NaN if it does not below `most`
        rhos, exponents: the exponents from which the root was interpolated
    """

    rule: float
    rule_stderr: float
    root: float
    root_stderr: float
    rhos: np.ndarray
    exponents: np.ndarray


def critical_rho(
    saddle: Saddle,
    method: Method,
    batch_size: int,
    key: jax.Array,
    *,
    batches: int = 4000,
    steps: int = 2000,
    chains: int = 8,
    most: float | None = None,
    points: int = 9,
    base: str = "frozen",
    progress: bool | None = None,
) -> Critical:
    """The ρ of SAM or USAM beyond which a saddle traps, as minibatches of a given size make it.

        rule:  ρ = |λ| / qᵀ E[H_B² / ‖g_B‖] q   (SAM),   |λ| / qᵀ E[H_B²] q   (USAM)
        root:  Λ(ρ) = 0

    with λ, q the smallest transverse eigenvalue and its direction, H_B and g_B Hessian and gradient of a minibatch at
    the saddle.

    Args:
        saddle: with a negative transverse eigenvalue
        method: SAM or USAM; its ρ is the unknown
        batch_size: B, drawn with replacement
        key: a JAX key
        batches: minibatches that the rule averages over
        steps, chains, base: as for :func:`transverse_exponent`
        most: largest ρ looked at; twice the rule's if not given
        points: values of ρ, twice: over the whole range, and around the root; 0 for the rule alone
        progress: show a bar for each part; if not given, after two seconds
    Returns:
        Critical
    Raises:
        TypeError: if the method is neither SAM nor USAM
        ValueError: if the saddle has no negative transverse eigenvalue, the method has a mask, weight decay, several
            ascents or another norm, or arguments do not fit
    """
    checks.kind("saddle", saddle, Saddle, "flatdyn.networks.zero_unit(network, data)")
    checks.kind("method", method, Method)
    checks.key(key)
    if type(method) not in (SAM, USAM):
        raise TypeError(f"the rule is known for SAM and USAM, got {method!r}: ask transverse_exponent")
    whole = method.mask is None and getattr(method, "p", 2) == 2 and getattr(method, "scope", "all") != "tensor"
    if not whole or method.ascents != 1:
        raise ValueError(
            f"the rule is of one ascent by the 2-norm of the whole gradient, got {method!r}: ask transverse_exponent"
        )
    if "weight_decay" not in method.absent:
        raise ValueError("the rule knows no weight decay of the method: put it into the loss of the saddle's network")
    lowest = float(saddle.eigenvalues[0])
    if lowest >= 0:
        raise ValueError(f"{saddle!r} has no direction down: its smallest transverse eigenvalue is {lowest:.3g}")
    noise, points = FiniteSum(batch_size), checks.count("points", points)
    batches = checks.count("batches", batches, at_least=2)
    memory.check_memory(batches * 64, "the minibatches' results", "average over fewer `batches`")
    memory.check_memory(points * len(saddle.basis) * 64, "the exponents", "look at fewer `points`")
    keys, at = jax.random.split(key, batches), (jnp.asarray(saddle.theta), jnp.asarray(saddle.direction))
    with segments.progress_bar(batches, "minibatches", progress) as bar:
        squares, lengths = segments.mapped(_sample, keys, saddle.landscape, noise, *at, bar=bar)
    each = np.asarray(squares / (lengths + method.eps) if type(method) is SAM else squares)
    mean, stderr = mean_sem_of(each)
    rule, spread = float(-lowest / mean), float(stderr / mean)
    most = 2 * rule if most is None else checks.number("most", most, above=0, one=True)
    rhos, result = np.linspace(0, most, points), Critical(rule, rule * spread, np.nan, np.nan, np.zeros(0), np.zeros(0))
    for _ in range(2 if points else 0):
        varied = eqx.tree_at(lambda m: m.rho, method, rhos)
        growth = transverse_exponent(saddle, varied, noise, steps, chains, key, base=base, progress=progress)
        result, after = result._replace(rhos=rhos, exponents=growth.value), int(np.argmax(growth.value < 0))
        if growth.value[0] <= 0 or growth.value[after] >= 0:
            break
        root, stderr = _crossing(rhos[after - 1 : after + 1], growth.chains[after - 1 : after + 1])
        result, width = result._replace(root=root, root_stderr=stderr), rhos[1] - rhos[0]
        rhos = np.linspace(max(root - width, 0), root + width, points)
    return result


def _crossing(rhos: np.ndarray, chains: np.ndarray) -> tuple[float, float]:
    """Where the mean over chains, shape (2, chains), crosses zero between two ρ, with its standard error."""
    left, right = chains.mean(axis=1)
    part = left / (left - right)
    there = chains[0] + part * (chains[1] - chains[0])
    error = mean_sem_of(there)[1] * (rhos[1] - rhos[0]) / (left - right)
    return float(rhos[0] + part * (rhos[1] - rhos[0])), float(error)


def _sample(key, landscape, noise, theta, direction):
    """‖H_B q‖² and ‖g_B‖ of a minibatch."""
    batch = noise.draw(key, landscape, landscape.vector(theta))
    field = lambda theta: landscape.array(noise.gradient(landscape, landscape.vector(theta), batch))  # noqa: E731
    gradient, product = jax.jvp(field, (theta,), (direction,))
    return product @ product, jnp.linalg.norm(gradient)
