"""What follows from the rates between some states: long-run shares, mean passage times, committors, routes.

    dP/dk = P Q,      Q_ij = k_ij per step for i ≠ j,    rows sum to 0

Rates of rare events span many powers of ten, and differences of them would be lost in rounding. So states are
eliminated one after the other with sums and products of positive numbers alone, and every answer is as accurate,
relative to itself, as the rates are.

References:
    Grassmann, Taksar, Heyman, Oper. Res. 33, 1107 (1985): elimination without subtraction;
    Metzner, Schütte, Vanden-Eijnden, Multiscale Model. Simul. 7, 1192 (2009): reactive flux and dominant pathways.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_NUDGE = 1e-4  # of a rate, by which it is changed to see what depends on it: errors of 1e-8 of the change
_MOST_ROUTES = 1000
_SPENT = 1e-12  # share of the flux below which what is left is rounding


class Flux(NamedTuple):
    """Traffic from a state a to a state b, on the paths that left a last and reach b before a again.

    Attributes:
        net: f_ij − f_ji where that is positive, per step, shape (states, states)
        total: how often per step such a path begins
        forward: the committor: probability of reaching b before a, shape (states,)
        backward: probability that a was visited after b, seen from the past, shape (states,)
    """

    net: np.ndarray
    total: float
    forward: np.ndarray
    backward: np.ndarray


def ended(rates: np.ndarray, exits: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Solve (D − k) u = g,  D_ii = Σ_j k_ij + e_i: what is collected until the chain ends.

    Args:
        rates: k, shape (states, states); its diagonal does not count
        exits: e ≥ 0, rates at which each state ends the chain, shape (states,)
        gains: g ≥ 0, collected per step there, shape (states,)
    Returns:
        u, shape (states,); infinite from where the chain may go on for ever while it collects
    """
    k, out, gains = np.array(rates, float), np.array(exits, float), np.array(gains, float)
    np.fill_diagonal(k, 0.0)
    leads = _leads(k)
    stuck = ~(leads @ (out > 0))
    endless = leads @ (stuck & (leads @ (gains > 0)))
    u = np.where(endless, np.inf, 0.0)
    free = np.flatnonzero(~stuck & ~endless)
    out = out[free] + k[np.ix_(free, np.flatnonzero(stuck))].sum(axis=1)  # to where nothing is collected any more
    u[free] = _eliminated(k[np.ix_(free, free)], out, gains[free])
    return u


def _eliminated(k: np.ndarray, out: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The solution where every state leads to an end, by elimination without a subtraction."""
    size, u = len(k), u.copy()
    total = np.zeros(size)
    for s in range(size - 1, -1, -1):
        total[s] = k[s, :s].sum() + out[s]
        share = k[:s, s] / total[s]
        k[:s, :s] += np.outer(share, k[s, :s])
        k[range(s), range(s)] = 0.0
        out[:s] += share * out[s]
        u[:s] += share * u[s]
    with np.errstate(divide="ignore", over="ignore"):  # beyond 1e308 steps
        for s in range(size):
            u[s] = (u[s] + k[s, :s] @ u[:s]) / total[s]
    return u


def _leads(k: np.ndarray) -> np.ndarray:
    """Whether the chain may come from each state to each other, in any number of steps."""
    leads = np.eye(len(k), dtype=bool) | (k > 0)
    for _ in range(len(k).bit_length()):
        leads = leads @ leads
    return leads


def stationary(rates: np.ndarray) -> np.ndarray:
    """Long-run shares π of the states, π Q = 0.

    Raises:
        ValueError: if they depend on the start: there are several classes of states that are never left
    """
    k = np.array(rates, float)
    np.fill_diagonal(k, 0.0)
    leads = _leads(k)
    recurrent = (leads <= leads.T).all(axis=1)  # wherever it leads, it comes back from
    kept = np.flatnonzero(recurrent)
    if not leads[np.ix_(kept, kept)].all():
        raise ValueError(
            "the long-run shares depend on the start: no transition was seen between some of the states; see longer "
            "runs, or ask for passage times"
        )
    shares = np.zeros(len(k))
    shares[kept] = _shares(k[np.ix_(kept, kept)])
    return shares


def _shares(k: np.ndarray) -> np.ndarray:
    size, total = len(k), np.zeros(len(k))
    for s in range(size - 1, 0, -1):
        total[s] = k[s, :s].sum()
        k[:s, :s] += np.outer(k[:s, s] / total[s], k[s, :s])
        k[range(s), range(s)] = 0.0
    shares = np.ones(size)
    for s in range(1, size):
        shares[s] = shares[:s] @ k[:s, s] / total[s]
        shares[: s + 1] /= shares[: s + 1].max()
    return shares / shares.sum()


def passage_times(rates: np.ndarray) -> np.ndarray:
    """Mean steps from state i to the first visit of state j, shape (states, states); 0 on the diagonal."""
    size = len(rates)
    times = np.zeros((size, size))
    for j in range(size):
        rest = np.flatnonzero(np.arange(size) != j)
        times[rest, j] = ended(rates[np.ix_(rest, rest)], rates[rest, j], np.ones(size - 1))
    return times


def committor(rates: np.ndarray, a: int, b: int) -> np.ndarray:
    """Probability of reaching state b before state a from each state, shape (states,)."""
    rest = np.flatnonzero(~np.isin(np.arange(len(rates)), [a, b]))
    reached = np.zeros(len(rates))
    reached[b] = 1.0
    exits = rates[rest, a] + rates[rest, b]
    reached[rest] = ended(rates[np.ix_(rest, rest)], exits, rates[rest, b])
    return reached


def flux(rates: np.ndarray, a: int, b: int) -> Flux:
    """Traffic from state a to state b."""
    k = np.array(rates, float)
    np.fill_diagonal(k, 0.0)
    shares = stationary(k)
    with np.errstate(divide="ignore", invalid="ignore"):
        past = np.where(shares[:, None] > 0, (shares[:, None] * k).T / shares[:, None], 0.0)  # seen backwards in time
    forward, backward = committor(k, a, b), committor(past, b, a)
    traffic = shares[:, None] * backward[:, None] * k * forward
    net = np.maximum(traffic - traffic.T, 0.0)
    return Flux(net, float(traffic[a].sum()), forward, backward)


def widest(net: np.ndarray, a: int, b: int) -> tuple[list[int], float]:
    """The path from a to b whose narrowest link carries most, again and again between the ends of that link.

    Returns:
        the states in order, and what its narrowest link carries; an empty path and 0 if nothing leads there
    """
    if a == b:
        return [a], np.inf
    width = _widths(net, a)[b]
    if width == 0:
        return [], 0.0
    # On every widest path lies a link of just this width; past it, only wider ones are of interest.
    wide = np.where(net >= width, net, 0.0)
    wider = np.where(net > width, net, 0.0)
    before, after = _widths(wide, a) > 0, _widths(wide.T, b) > 0
    links = [(i, j) for i, j in np.argwhere(wide == width) if before[i] and after[j]]
    ways = []
    for i, j in links:
        first, last = widest(wider, a, int(i)), widest(wider, int(j), b)
        if first[0] and last[0]:
            ways.append((min(first[1], last[1]), first[0] + last[0]))
    if not ways:  # several links of the same width on the way: any such path
        return _some_path(wide, a, b), float(width)
    return max(ways)[1], float(width)


def _widths(net: np.ndarray, a: int) -> np.ndarray:
    """The widest way from a to each state: of each path its narrowest link, of those the widest."""
    width, open_ = np.zeros(len(net)), np.ones(len(net), bool)
    width[a] = np.inf
    while open_.any():
        s = int(np.argmax(np.where(open_, width, -1.0)))
        open_[s] = False
        width = np.maximum(width, np.minimum(width[s], net[s]))
    return width


def _some_path(net: np.ndarray, a: int, b: int) -> list[int]:
    """The shortest path along links that are there."""
    before, ring = {a: a}, [a]
    while ring and b not in before:
        ring = [j for i in ring for j in np.flatnonzero(net[i]).tolist() if before.setdefault(j, i) == i and j != a]
    path = [b]
    while path[-1] != a:
        path.append(before[path[-1]])
    return path[::-1]


def routes(traffic: Flux, a: int, b: int) -> list[tuple[list[int], float]]:
    """All routes from a to b: the widest, what is widest without it, and so on; each with its share of the traffic."""
    net, taken = traffic.net.copy(), []
    while len(taken) < _MOST_ROUTES:
        path, width = widest(net, a, b)
        if width <= _SPENT * traffic.total:
            break
        taken.append((path, width / traffic.total))
        for i, j in itertools.pairwise(path):
            net[i, j] = max(net[i, j] - width, 0.0)
    return taken


def propagated(function: Callable, rates: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A function of the rates with its standard error, if the rates' errors are small and independent.

    A rate of which nothing was seen is changed by its error, others by a little of themselves.
    """
    value = np.asarray(function(rates), float)
    square = np.zeros_like(value)
    for i, j in np.argwhere(errors > 0):
        step = rates[i, j] * _NUDGE if rates[i, j] > 0 else errors[i, j]
        nudged = rates.copy()
        nudged[i, j] += step
        with np.errstate(invalid="ignore"):
            slope = np.where(np.isfinite(value), (np.asarray(function(nudged), float) - value) / step, np.inf)
        square = square + (np.nan_to_num(slope, nan=np.inf, posinf=np.inf, neginf=np.inf) * errors[i, j]) ** 2
    return value, np.sqrt(square)
