"""The transfer operator of a noisy step on the line, as a matrix.

    (K u)(x) = ∫ u(F(x, z)) φ(z) dz   over the z with F(x, z) inside (a, b)

u is kept at Gauss–Legendre nodes of panels that end where the step jumps (at critical points, for SAM), and the
integral over z is cut where SAM's direction flips and where F leaves a panel edge of that kind. So everything
converges spectrally, to about 1e-10. With heavy-ball momentum u is a function of the pair (θ_{k−1}, θ_k).

References:
    Nyström's method: Kress, Linear Integral Equations (3rd ed.), chapter 12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flatdyn.core import checks, memory, segments
from flatdyn.core.quadrature import Panels
from flatdyn.methods import FirstOrder, State
from flatdyn.noise import Normal
from flatdyn.processes import Iteration, Process
from flatdyn.runs import stepping

_REACH = 9.5  # of z in standard deviations: beyond it lies 1e-21
_ORDER = 20  # Gauss-Legendre nodes of each stretch of z
_SCAN = 32  # cells per stretch of z in which a crossing is looked for
_PANEL = 2.5  # length of a panel in standard deviations of a step
_NODES = {False: 16, True: 10}  # per panel, for points and for pairs of points
_MOST = {False: 2400, True: 360}  # nodes in all
_ROWS = 4096  # worked on at a time
_PIECES = 1 << 9, 1 << 16  # pairs of points that a compiled step takes


class _Points(NamedTuple):
    """K on functions of θ: matrix (n, n), and the probability of stepping out above, (n,)."""

    nodes: np.ndarray
    matrix: np.ndarray
    right: np.ndarray

    def ones(self):
        return np.ones(len(self.nodes))

    def apply(self, values):
        return self.matrix @ values


class _Pairs(NamedTuple):
    """K on functions of (θ_{k−1}, θ_k): matrix (previous, current, next), and the same of stepping out above."""

    nodes: np.ndarray
    matrix: np.ndarray
    right: np.ndarray

    def ones(self):
        return np.ones_like(self.right)

    def apply(self, values):
        return np.einsum("ijk,jk->ij", self.matrix, values, optimize=True)


class _First(NamedTuple):
    """The first step from θ₀: weights of the nodes it reaches, and of θ₀ as the previous point of a pair."""

    row: np.ndarray
    right: float
    previous: np.ndarray | None

    def value(self, values: np.ndarray) -> float:
        return float(self.row @ values if self.previous is None else self.previous @ values @ self.row)


def built(process: Process, interval: Any, start: float, panels: int | None, progress) -> tuple[Any, _First]:
    """K on functions of θ, or of pairs with momentum, and the first step from the start.

    The arguments are those of :func:`flatdyn.laws.transfer.exit_law`.
    """
    (low, high), pairs = fits(process, interval, start)
    swing(process, low, high)  # refused now if steps there are not finite
    if panels is not None:
        panels = checks.count("panels", panels, at_least=1)
        number = panels * _NODES[pairs]
        needed = 4 * memory.array_bytes(*[number] * (3 if pairs else 2))
        memory.check_memory(needed, "the transfer operator", "cut the interval into fewer `panels`")
    with jax.enable_x64(True):
        process = stepping.prepared(process, jnp.float64)
        grid = _grid(process, low, high, panels, pairs)
        nodes, here = grid.nodes, np.array([float(start)])
        row, right = _rows(process, grid, here, here)
        if not pairs:
            return _Points(nodes, *_rows(process, grid, nodes, nodes, progress)), _First(row[0], right[0], None)
        before, now = (part.ravel() for part in np.meshgrid(nodes, nodes, indexing="ij"))
        matrix, above = _rows(process, grid, before, now, progress)
        shape = (len(nodes), len(nodes))
        operator = _Pairs(nodes, matrix.reshape(*shape, -1), above.reshape(shape))
        return operator, _First(row[0], right[0], grid.row(start))


class LineOperator:
    """K of a process without memory on functions that may jump at some places, and its rows anywhere.

    Args:
        process, panels: as for :func:`flatdyn.laws.transfer.exit_law`
        interval: (a, b)
        jumps: places in (a, b) at which the functions may jump
    """

    def __init__(self, process: Process, interval: tuple[float, float], panels: int, jumps: np.ndarray):
        with jax.enable_x64(True):
            self._process = stepping.prepared(process, jnp.float64)
            self._grid = _grid(self._process, *interval, panels, False, jumps)
        self.nodes = self._grid.nodes
        self.matrix = self.rows(self.nodes)

    def rows(self, points: np.ndarray) -> np.ndarray:
        """Weights of the nodes in (K u) at points, (points, nodes)."""
        with jax.enable_x64(True):
            return _rows(self._process, self._grid, points, points)[0]


def followed(process: Process, holds: Callable, start: np.ndarray, most: int, bar: Any) -> tuple[int, np.ndarray, bool]:
    """A run with all normal numbers zero: steps until it is outside, where it is then, whether it returns for ever.

    Args:
        holds: whether a position (dim,) is inside, in JAX
        start: shape (dim,)
    """
    process = stepping.prepared(process, jnp.float64)
    state = process.init(jnp.asarray(start, jnp.float64))
    run = (state, state, jnp.asarray(0), jnp.asarray(False))
    for done, now in segments.cut(most, bar=bar):
        run, inside = _followed(process, holds, run, jnp.asarray(done + now))
        if run[3] or not inside:
            break
    return int(run[2]), np.asarray(process.position(run[0])), bool(run[3])


class Between(eqx.Module):
    """Whether a position on the line is in an interval."""

    ends: Any

    def __call__(self, theta):
        return (theta[0] > self.ends[0]) & (theta[0] < self.ends[1])


@eqx.filter_jit
def _followed(process, holds, run, until):
    """The run after `until` steps in all; to the state it was in at the last power of 2 it may come back."""

    def same(a, b):
        return jnp.all(jnp.stack([jnp.all(x == y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)]))

    def inside(state):
        return holds(process.position(state))

    def step(run):
        state, kept, steps, back = run
        new = process.driven(state, jnp.zeros(process.draws))
        back, steps = same(new, kept), steps + 1
        kept = jax.tree.map(lambda a, b: jnp.where((steps & (steps - 1)) == 0, a, b), new, kept)
        return new, kept, steps, back

    run = jax.lax.while_loop(lambda run: (run[2] < until) & ~run[3] & inside(run[0]), step, run)
    return run, inside(run[0])


def panels(process: Process, low: float, high: float, pairs: bool) -> int:
    """How many panels resolve what happens within the standard deviation of a step."""
    deviation = max(float(np.median(np.abs(swing(process, low, high)))) / 2, 1e-12)
    return int(np.clip(np.ceil((high - low) / (_PANEL * deviation)), 4, _MOST[pairs] // _NODES[pairs]))


def swing(process: Process, low: float, high: float) -> np.ndarray:
    """How far apart the normal numbers 1 and −1 lead from points of the interval."""
    with jax.enable_x64(True):
        points, process = np.linspace(low, high, 65), stepping.prepared(process, jnp.float64)
        ends = [_positions(process, points, points, z) for z in (1.0, -1.0)]
    if not np.isfinite(ends).all():
        raise ValueError(f"interval must be where steps are finite, got ({low:g}, {high:g}): take a shorter one")
    return ends[0] - ends[1]


def _grid(
    process: Process, low: float, high: float, number: int | None, pairs: bool, more: np.ndarray | None = None
) -> Panels:
    order, number = _NODES[pairs], number or panels(process, low, high, pairs)
    jumps = _critical(process, low, high)
    jumps = jumps if more is None else np.union1d(jumps, more)
    ends = np.array([low, *jumps, high])
    cuts = [max(1, round(number * side / (high - low))) for side in np.diff(ends)]
    pieces = [np.linspace(a, b, n + 1)[:-1] for a, b, n in zip(ends[:-1], ends[1:], cuts, strict=True)]
    return Panels(np.array([*np.concatenate(pieces), high]), jumps, order)


def _rows(
    process: Process, grid: Panels, before: np.ndarray, now: np.ndarray, progress: bool | None = False
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the nodes reached from the pairs (before, now), (rows, nodes), and the probability to pass above."""
    parts = []
    with segments.progress_bar(len(now), "rows", progress) as bar:
        for i in range(0, len(now), _ROWS):
            parts.append(_block(process, grid, before[i : i + _ROWS], now[i : i + _ROWS]))
            bar.update(len(now[i : i + _ROWS]))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _block(process, grid, before, now):
    size, count = len(grid.nodes), len(now)
    rows, extra, outer = _outer(process, now)
    before, now = before[rows], now[rows]
    kinks = _kinks(process, now) if extra is None else np.full(len(now), _REACH)
    cuts = _cuts(process, grid, before, now, extra, kinks)
    unit, weights = np.polynomial.legendre.leggauss(_ORDER)
    half, middle = np.diff(cuts) / 2, (cuts[:, 1:] + cuts[:, :-1]) / 2
    z = middle[..., None] + half[..., None] * unit
    mass = outer[:, None, None] * half[..., None] * weights * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    index = np.broadcast_to(np.arange(len(now))[:, None, None], z.shape)
    used = mass > 0
    z, mass, index = z[used], mass[used], index[used]
    y = _positions(process, before[index], now[index], z, None if extra is None else extra[index])
    out = rows[index]
    above = np.bincount(out, mass * (y >= grid.edges[-1]), minlength=count)
    kept = (y > grid.edges[0]) & (y < grid.edges[-1])
    y, mass, out = y[kept], mass[kept], out[kept]
    panel = grid.panel(y)
    basis = grid.basis(y, panel)
    first = out * size + panel * grid.order
    matrix = sum(np.bincount(first + j, mass * basis[:, j], minlength=count * size) for j in range(grid.order))
    return matrix.reshape(count, size), above


def _outer(process: Process, now: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Rows repeated for each value of a second driving number: row, value, weight. One driving number: once each."""
    if process.draws == 1:
        return np.arange(len(now)), None, np.ones(len(now))
    unit, weights = np.polynomial.legendre.leggauss(2 * _ORDER)
    kinks = np.clip(_kinks(process, now), -_REACH, _REACH)
    ends = np.stack([np.full(len(now), -_REACH), kinks, np.full(len(now), _REACH)], axis=1)
    half, middle = np.diff(ends) / 2, (ends[:, 1:] + ends[:, :-1]) / 2
    z = (middle[..., None] + half[..., None] * unit).reshape(len(now), -1)
    mass = (half[..., None] * weights).reshape(len(now), -1) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return np.repeat(np.arange(len(now)), z.shape[1]), z.ravel(), mass.ravel()


def _cuts(process, grid, before, now, extra, kinks) -> np.ndarray:
    """Where the integral over z is cut, (rows, cuts), sorted: at kinks, and where F crosses a jump or an end."""
    fixed = np.broadcast_to([-_REACH, -_REACH / 3, _REACH / 3, _REACH], (len(now), 4))
    ends = np.sort(np.concatenate([fixed, np.clip(kinks, -_REACH, _REACH)[:, None]], axis=1), axis=1)
    inset = 1e-11 * np.linspace(1, -1, _SCAN + 1)  # F is two-valued at a kink
    z = np.linspace(ends[:, :-1], ends[:, 1:], _SCAN + 1, axis=2) + inset
    index = np.broadcast_to(np.arange(len(now))[:, None, None], z.shape)

    def position(z, index):
        return _positions(process, before[index], now[index], z, None if extra is None else extra[index])

    y = position(z.ravel(), index.ravel()).reshape(z.shape)
    cuts = [ends]
    for target in (grid.edges[0], *grid.jumps, grid.edges[-1]):
        above = y >= target
        row, stretch, cell = np.nonzero(above[:, :, 1:] != above[:, :, :-1])
        if len(row):
            bracket = z[row, stretch, cell], z[row, stretch, cell + 1]
            index_of = (row.astype(float), np.full(len(row), target))
            root = _root(lambda z, row, at: position(z, row.astype(int)) - at, bracket, args=index_of)
            cuts.append(_ragged(row, root, len(now)))
    return np.sort(np.concatenate(cuts, axis=1), axis=1)


def _root(function: Callable, bracket: tuple, args: tuple = ()) -> np.ndarray:
    """Where a function of arrays vanishes in brackets, element by element."""
    from scipy.optimize import elementwise  # half a second, which those who ask for no roots need not wait

    return elementwise.find_root(function, bracket, args=args).x


def _ragged(row: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    """Values as a table with one line per row, filled up at the far end of z."""
    order = np.argsort(row, kind="stable")
    row, values = row[order], values[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    table = np.full((rows, place.max() + 1), _REACH)
    table[row, place] = values
    return table


# --- what is asked of the process -----------------------------------------------------------------------------


def fits(process: Process, interval: Any, start: float) -> tuple[tuple[float, float], bool]:
    """The interval, and whether the process has momentum; else the errors of exit_law."""
    (low, high) = checks.interval("interval", interval)
    if not (process.random and process.dim == 1 and hasattr(process, "driven")):
        raise TypeError(f"this needs a random process with one coordinate, driven by normal numbers; got {process!r}")
    if not 1 <= process.draws <= 2:
        raise TypeError(f"this needs one or two normal numbers a step, got {process.draws}")
    start = checks.number("start", start, one=True)
    if not low < start < high:
        raise ValueError(f"start must lie inside the interval ({low:g}, {high:g}), got {start:g}")
    memory = _memory(process)
    method = getattr(process, "method", None)
    if memory and not is_heavy_ball(process):
        raise TypeError(
            "this knows no memory but that of heavy-ball momentum from rest, whose velocity is its last move, without "
            f"decoupled decay; got {process!r}"
        )
    if isinstance(method, FirstOrder) and method.jumps_elsewhere:
        raise TypeError(
            "it is known of a step that jumps where ∇ℓ(θ) vanishes, and nowhere else: take one ascent, and decay that "
            f"is coupled or in the landscape, or eps > 0; got {process!r}"
        )
    return (low, high), bool(memory)


def _memory(process: Process) -> int:
    """How many numbers a state holds besides its position."""
    state = jax.eval_shape(process.init, jax.ShapeDtypeStruct((1,), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(state)) - 1


def is_heavy_ball(process: Process) -> bool:
    """Whether all that a process of one coordinate remembers is its last move."""
    method = getattr(process, "method", None)
    first_order = isinstance(method, FirstOrder) and not method.remembers
    if not (isinstance(process, Iteration) and first_order and _memory(process) == 1):
        return False
    return not (method.nesterov or method.units == "gradient" or method.decays("decoupled"))


def _positions(process: Process, before: np.ndarray, now: np.ndarray, z: Any, extra: np.ndarray | None = None):
    """F after the pair (before, now) under z, all of one length. In pieces of two sizes, so that two are compiled."""
    z = np.broadcast_to(z, now.shape)
    normals = np.stack([z] if extra is None and process.draws == 1 else [z, z if extra is None else extra], axis=1)
    size = next((size for size in _PIECES if len(z) <= size), _PIECES[-1])
    length = len(z) + -len(z) % size
    parts = [np.resize(part, (length, *part.shape[1:])) for part in (before, now, normals)]
    pieces = [_driven(process, *(part[i : i + size] for part in parts)) for i in range(0, length, size)]
    return np.concatenate(pieces)[: len(z)]


@eqx.filter_jit
def _driven(process, before, now, normals):
    def one(before, now, normals):
        state = process.init(now[None])
        if isinstance(state, State) and state.velocity is not None:  # the heavy ball's velocity is its last move
            state = State(state.theta, state.theta - process.init(before[None]).theta)
        return process.position(process.driven(state, normals))[0]

    return jax.vmap(one)(before, now, normals)


def _critical(process: Process, low: float, high: float) -> np.ndarray:
    """Where ∇L = 0 inside (a, b): there the direction of a SAM step jumps."""
    if not isinstance(process, Iteration):
        return np.zeros(0)
    points = np.linspace(low, high, 1025)[1:-1]
    gradient = np.asarray(process.landscape.grad(points[:, None]))[:, 0]
    exact, cell = points[gradient == 0], np.flatnonzero(gradient[1:] * gradient[:-1] < 0)
    if not len(cell):
        return exact
    root = _root(lambda x: np.asarray(process.landscape.grad(x[:, None]))[:, 0], (points[cell], points[cell + 1]))
    return np.sort(np.concatenate([exact, root]))


def _kinks(process: Process, now: np.ndarray) -> np.ndarray:
    """The z at which the gradient seen by an ascent vanishes, so that its direction flips."""
    if not isinstance(process, Iteration) or process.ascent == "full" or not isinstance(process.noise, Normal):
        return np.full(len(now), _REACH)
    kinks = np.asarray(_vanishing(process, now))
    return np.where(np.isfinite(kinks), kinks, _REACH)


@eqx.filter_jit
def _vanishing(process, now):
    landscape, noise = process.landscape, process.noise
    return jax.vmap(lambda x: noise.vanishing(landscape, landscape.vector(x[None]))[0])(now)
