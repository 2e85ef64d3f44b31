"""The loss along a line, layer by layer along it, and on a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from flatdyn.core import checks, memory, randomness, records, segments
from flatdyn.core.algebra import norm
from flatdyn.core.records import Record
from flatdyn.curvature.points import Loss, coordinates, placed
from flatdyn.landscapes import Landscape


@dataclass(frozen=True, eq=False, repr=False)
class Line(Record):
    """The loss along the line through two points a and b; see :func:`slice1d` and :func:`interpolate`.

    Attributes:
        alpha: position, 0 at a and 1 at b, shape (points,)
        loss: L there, NaN where L is, shape (points,)
        length: ‖b − a‖, in units of θ, shape ()
        names: of the layers that were also moved alone, shape (layers,); empty if not asked for
        layer_loss: L with one layer on its way and all others at b, shape (layers, points)
    """

    alpha: np.ndarray
    loss: np.ndarray
    length: np.ndarray
    names: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype="<U1"))
    layer_loss: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    _form: ClassVar = {
        "alpha": "fiu points",
        "loss": "fiu points",
        "length": "fiu",
        "names": "U layers",
    }
    _dims: ClassVar = {"layer_loss": "layers points"}
    _units: ClassVar = {"alpha": "1", "length": "theta", "layer_loss": "loss"}

    @property
    def bump(self) -> float:
        """Largest rise on the way, max over α < α′ of L(α′) − L(α); 0 where the loss never rises."""
        return float(_largest_rise(self.loss))

    @property
    def layer_bumps(self) -> np.ndarray:
        """The same for each layer moved alone, shape (layers,)."""
        return _largest_rise(self.layer_loss)

    def monotone(self, tol: float = 1e-6) -> bool:
        """Whether the loss never rises by more than tol · max |L|, which allows for rounding."""
        tol = checks.number("tol", tol, at_least=0, one=True)
        return self.bump <= tol * float(np.abs(self.loss).max())

    def __repr__(self) -> str:
        ends = f"loss {self.loss[0]:.4g} to {self.loss[-1]:.4g}, bump {self.bump:.2g}"
        return f"Line({len(self.alpha)} points, {len(self.names)} layers: {ends})"


def slice1d(loss: Loss, a: Any, b: Any, points: int = 51, beyond: float = 0.0, *, progress: bool | None = None) -> Line:
    """The loss on the line through two points.

        L(θ(α)),   θ(α) = (1 − α) a + α b,   α from −beyond to 1 + beyond

    Args:
        loss: a landscape, or a JAX function of an array (dim,) or a tree
        a, b: the points, shape (dim,), or trees
        points: number of α, equally spaced
        beyond: how far to go on past both points, in units of α
        progress: show a bar; if not given, after two seconds
    Returns:
        Line
    Raises:
        ValueError: if an argument does not fit
    """
    landscape, a = placed(loss, a, "a")
    b = coordinates(landscape, b, "b", "a")
    points = checks.count("points", points, at_least=2)
    memory.check_memory(points * 64, "the line", "ask for fewer `points`")
    beyond = checks.number("beyond", beyond, at_least=0, one=True)
    checks.in_range("beyond", beyond)
    alpha = np.linspace(-beyond, 1 + beyond, points)
    return Line(
        config={"loss": records.described(landscape), "beyond": f"{beyond:g}"},
        provenance=records.provenance(),
        alpha=alpha,
        loss=_along(landscape, [a], b, alpha, progress)[0],
        length=scipy.linalg.norm(np.asarray(b - a, dtype=float)),  # which neither over- nor underflows
    )


def interpolate(
    loss: Loss, theta_a: Any, theta_b: Any, points: int = 51, by_layer: bool = False, *, progress: bool | None = None
) -> Line:
    """The loss on the straight way from one point to another: all parameters together, or also layer by layer.

        L(θ(α)),                  θ(α) = (1 − α) θ_a + α θ_b,   0 ≤ α ≤ 1
        L with θ(α) in layer l,   θ_b in all others              (by_layer)

    `line.monotone()` says whether the loss never rises from θ_a to θ_b, `line.bump` by how much it does.

    Args:
        loss: a landscape, or a JAX function of an array (dim,) or a tree
        theta_a, theta_b: where from, where to; shape (dim,), or trees
        points: number of α, equally spaced, both ends included
        by_layer: whether each leaf of the tree is also moved alone
        progress: show a bar; if not given, after two seconds
    Returns:
        Line, with names and layer_loss if by_layer
    Raises:
        ValueError: if an argument does not fit, or there are no layers because θ is one array
    References:
        Goodfellow, Vinyals, Saxe, arXiv 1412.6544; Vlaar and Frankle, arXiv 2106.16004;
        Lucas et al., arXiv 2104.11044 (the largest rise, there Δ).
    """
    checks.flag("by_layer", by_layer)
    landscape, a = placed(loss, theta_a, "theta_a")
    b = coordinates(landscape, theta_b, "theta_b", "theta_a")
    line = slice1d(landscape, a, b, points, progress=progress)
    config = line.config | {"by_layer": str(by_layer)}
    if not by_layer:
        return Line(config, line.provenance, line.alpha, line.loss, line.length)
    names, masks = _layers(landscape, "by_layer=True needs a")
    ways = _along(landscape, [jnp.where(mask, a, b) for mask in masks], b, line.alpha, progress)
    return Line(config, line.provenance, line.alpha, line.loss, line.length, np.array(names), np.stack(ways))


@dataclass(frozen=True, eq=False, repr=False)
class Plane(Record):
    """The loss on a plane; see :func:`slice2d`.

    Attributes:
        x, y: coordinates along the two directions, shape (points,) each
        loss: L(centre + x d₁ + y d₂), NaN where L is, shape (points of y, points of x)
        directions: d₁, d₂, shape (2, dim)
        marks: (x, y) of the centre, and of the points that the plane was laid through, shape (1 or 3, 2)
    """

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    directions: np.ndarray
    marks: np.ndarray
    _form: ClassVar = {
        "x": "fiu columns",
        "y": "fiu rows",
        "loss": "fiu rows columns",
        "directions": "fiu two dim",
        "marks": "fiu points two",
    }
    _units: ClassVar = dict.fromkeys(("x", "y", "marks"), "directions") | {"directions": "theta"}


def slice2d(
    loss: Loss,
    centre: Any,
    directions: Sequence[Any] | None = None,
    *,
    through: Sequence[Any] | None = None,
    points: int = 51,
    reach: float = 1.0,
    key: jax.Array | None = None,
    filterwise: bool = False,
    progress: bool | None = None,
) -> Plane:
    """The loss on a plane: along two directions, random ones, or through three points.

        L(centre + x d₁ + y d₂)

    Args:
        loss: a landscape, or a JAX function of an array (dim,) or a tree
        centre: the point, shape (dim,), or a tree
        directions: d₁ and d₂ in the form of centre, taken as they are; without them and without `through` they are
            random, of length 1
        through: two further points in the form of centre: d₁ points to the first, d₂ is orthogonal to it in the
            plane of the three, both of length 1
        points: on each axis
        reach: x and y go from −reach to reach; with `through`, past the three points by reach times their extent
        key: a JAX key for random directions
        filterwise: scale directions by :func:`filter_normalised`; only for parameters in a tree, not with `through`
        progress: show a bar; if not given, after two seconds
    Returns:
        Plane
    Raises:
        ValueError: if an argument does not fit, or the three points lie on one line
    """
    checks.flag("filterwise", filterwise)
    for name, given in {"directions": directions, "through": through}.items():
        if given is not None and len(checks.sequence(name, given, "points or directions")) != 2:
            raise ValueError(f"{name} must be two, got {checks.shown(given)}")
    if key is not None:
        checks.key(key)
    landscape, centre = placed(loss, centre, "centre")
    points = checks.count("points", points, at_least=2)
    memory.check_memory(points**2 * 64, "the plane", "ask for fewer `points`")
    reach = checks.number("reach", reach, at_least=0, one=True)
    checks.in_range("reach", reach)
    if through is not None and (directions is not None or filterwise):
        raise ValueError("through lays the plane through three points: give neither directions nor filterwise")
    marks = np.zeros((1, 2))
    if through is not None:
        others = [coordinates(landscape, point, f"through[{i}]", "centre") for i, point in enumerate(through)]
        pair, marks = _through(centre, others)
    elif directions is not None:
        pair = jnp.stack([coordinates(landscape, d, f"directions[{i}]", "centre") for i, d in enumerate(directions)])
    elif key is None:
        raise ValueError("random directions need key=jax.random.key(0), or another seed; or give directions or through")
    else:
        pair = randomness.drawn(jax.random.normal, key, (2, landscape.dim), dtype=centre.dtype)
        pair = _units(pair)
    if pair.shape[0] != 2:
        raise ValueError(f"a plane needs two directions, got {pair.shape[0]}")
    if filterwise:
        pair = jnp.stack([filter_normalised(landscape, centre, d) for d in pair])
    ends = [(-reach, reach)] * 2
    if through is not None:
        ends = [(low - reach * (high - low), high + reach * (high - low)) for low, high in _extents(marks)]
    x, y = (np.linspace(low, high, points) for low, high in ends)
    grid = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2), centre.dtype)
    with segments.progress_bar(points**2, "points", progress) as bar:
        values = segments.mapped(_on_plane, grid, landscape, centre, pair, bar=bar).reshape(points, points)
    config = {"loss": records.described(landscape), "filterwise": str(filterwise)}
    return Plane(config, records.provenance(), x, y, values, np.asarray(pair), marks)


def filter_normalised(landscape: Landscape, theta: Any, direction: Any) -> jax.Array:
    """A direction whose every filter is as long as that filter of the parameters.

        dᶠ ← dᶠ ‖θᶠ‖/‖dᶠ‖

    A filter is a row (first axis) of a leaf with two axes or more; a leaf with one axis (biases, gains) counts as one
    filter. Scaling a whole layer up and the next one down, which leaves a ReLU network as it is, then leaves the
    picture as it is.

    Args:
        landscape: one over a tree of parameters
        theta, direction: shape (dim,), or trees
    Returns:
        direction, shape (dim,)
    Raises:
        ValueError: if θ is one array
    References:
        Li, Xu, Taylor, Studer, Goldstein, arXiv 1712.09913 (they leave one-axis leaves out, or copy θ there).
    """
    checks.kind("landscape", landscape, Landscape)
    _layers(landscape, "filter normalisation needs a")
    theta, direction = coordinates(landscape, theta), coordinates(landscape, direction, "direction", "theta")

    return _filterwise(landscape, theta, direction)


# --- the parts ------------------------------------------------------------------------------------------------


@eqx.filter_jit
def _filterwise(landscape: Landscape, theta: jax.Array, direction: jax.Array) -> jax.Array:
    def scaled(weights, way):
        rows = (weights.shape[0], -1) if weights.ndim > 1 else (1, -1)
        w, d = weights.reshape(rows), way.reshape(rows)
        length = jnp.linalg.norm(d, axis=1, keepdims=True)
        return (d * jnp.linalg.norm(w, axis=1, keepdims=True) / jnp.where(length > 0, length, 1)).reshape(way.shape)

    return landscape.array(landscape.vector(theta).map(scaled, landscape.vector(direction)))


@jax.jit
def _units(pair: jax.Array) -> jax.Array:
    return jax.vmap(lambda d: d / norm(d))(pair)


def _along(landscape: Landscape, starts: list, b: jax.Array, alpha: np.ndarray, progress: bool | None) -> list:
    """The loss on the way from each start to b, one array (points,) for each."""
    alpha = jnp.asarray(alpha, b.dtype)
    with segments.progress_bar(len(starts) * len(alpha), "points", progress) as bar:
        return [segments.mapped(_on_line, alpha, landscape, a, b, bar=bar) for a in starts]


def _on_line(s: jax.Array, landscape: Landscape, a: jax.Array, b: jax.Array) -> jax.Array:
    return landscape.loss((1 - s) * a + s * b)


def _on_plane(xy: jax.Array, landscape: Landscape, centre: jax.Array, pair: jax.Array) -> jax.Array:
    return landscape.loss(centre + xy @ pair)


def _largest_rise(loss: np.ndarray) -> np.ndarray:
    """max over i ≤ j of Lⱼ − Lᵢ along the last axis."""
    return (loss - np.minimum.accumulate(loss, axis=-1)).max(axis=-1, initial=0)


def _layers(landscape: Landscape, what: str) -> tuple[list[str], list[np.ndarray]]:
    """Names of the leaves, and for each which coordinates (dim,) are its own."""
    form = getattr(landscape, "form", None)
    if form is None or len(form.shapes) == 1:
        raise ValueError(f"{what} landscape with layers, {landscape.name} has one array of parameters, not a tree")
    tree = form.numbers()
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree), strict=True)
    everywhere = np.arange(landscape.dim)
    return [jax.tree_util.keystr(path) for path in paths], [np.isin(everywhere, np.asarray(leaf)) for leaf in leaves]


def _through(centre: jax.Array, others: list[jax.Array]) -> tuple[jax.Array, np.ndarray]:
    """Orthonormal directions (2, dim) of the plane through three points, and their coordinates (3, 2)."""
    if len(others) != 2:
        raise ValueError(f"through must hold two points besides the centre, got {len(others)}")
    first, second = (np.asarray(other - centre, dtype=float) for other in others)
    d1 = first / (np.linalg.norm(first) or 1)
    across = second - (second @ d1) * d1
    if not (first.any() and np.linalg.norm(across) > 1e-8 * np.linalg.norm(second)):
        raise ValueError("the three points lie on one line: ask slice1d instead")
    pair = np.stack([d1, across / np.linalg.norm(across)])
    return jnp.asarray(pair, centre.dtype), np.vstack([np.zeros(2), np.stack([first, second]) @ pair.T])


def _extents(marks: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(marks.min(axis=0), marks.max(axis=0), strict=True))
