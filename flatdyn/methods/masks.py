"""Which parameters a method treats differently: masks as data, not as methods.

A mask has the form of θ: one entry per coordinate, or a tree like the network's, with True or False for a whole leaf
or an array of the leaf's shape. True and False are settled when a program is compiled, so that what is masked out is
not computed at all; arrays may vary from run to run, and may hold weights.

    named(theta, "norm", "bias")      leaves whose path contains a word
    where(theta, predicate)           leaves of which predicate(path, leaf) holds
    random(theta, size, key)          coordinates drawn at random, as a control of equal size
    largest(scores, size)             by magnitude, or by Fisher information: fisher(landscape, theta)

SAM-ON, which perturbs the normalization layers only, is SAM or ASAM with mask=named(params, "norm"); its opposite has
the complement as mask. Masks for sparse SAM of the same size, where size = count(params, mask):

    random(params, size, key)                             at random
    largest(params, size)                                 by magnitude
    largest(fisher(landscape, theta), size)               by Fisher information

References:
    SAM-ON: Müller, Vlaar, Rolnick, Hein, arXiv 2306.04226. Sparse SAM by Fisher information: Mi, Shen, Ren, Zhou, Sun,
    Ji, Tao, arXiv 2210.05177.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from flatdyn.core import checks
from flatdyn.core.algebra import Vector, is_coordinates

# --- masks from a tree of parameters --------------------------------------------------------------------------


def where(theta: Any, predicate: Callable[[str, Any], bool]) -> Any:
    """A mask of whole leaves.

        mᵢ = predicate(path of leaf i, leaf i),   path such as ".layers[0].weight"

    Args:
        theta: parameters, any tree of arrays
        predicate: of the path as text and the leaf
    Returns:
        a tree like `theta` with True or False at its leaves
    Raises:
        ValueError: if the mask would be empty; it lists the paths
    """
    check_tree_of_arrays("theta", theta)
    checks.function("predicate", predicate, "a function of a leaf's path and the leaf", 2)
    mask = jax.tree.map_with_path(lambda path, leaf: _holds(predicate, jax.tree_util.keystr(path), leaf), theta)
    if not any(jax.tree.leaves(mask)):
        paths = ", ".join(jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(theta))
        raise ValueError(f"mask is empty: the predicate holds for none of {paths}")
    return mask


def _holds(predicate: Callable, path: str, leaf: Any) -> bool:
    return bool(checks.called("predicate", predicate, path, leaf))


def named(theta: Any, *words: str) -> Any:
    """A mask of the leaves whose path contains one of the words; see :func:`where`."""
    for word in words:
        checks.text("words", word)
    return where(theta, lambda path, _: any(word in path for word in words))


def each(theta: Any) -> list[Any]:
    """One mask per leaf, for partitions by layer."""
    leaves, tree = jax.tree.flatten(check_tree_of_arrays("theta", theta))
    return [jax.tree.unflatten(tree, [i == j for j in range(len(leaves))]) for i in range(len(leaves))]


def complement(mask: Any) -> Any:
    """1 − m."""
    return jax.tree.map(_opposite, settled(mask, needed=True))


def union(*masks: Any) -> Any:
    """What any of the masks selects: the largest of their entries."""
    masks = tuple(settled(mask, needed=True) for mask in masks)
    if len({(jax.tree.structure(mask)) for mask in masks}) != 1:
        raise ValueError(
            f"each mask must be a tree of one and the same form, got {' and '.join(map(checks.shown, masks))}"
        )
    return jax.tree.map(lambda *entries: any(entries) if all(map(_is_flag, entries)) else _largest_of(entries), *masks)


def random(theta: Any, size: int, key: jax.Array) -> Any:
    """A mask of `size` coordinates drawn at random without replacement: the control for a mask of that size.

    Args:
        theta: parameters, any tree of arrays
        size: number of coordinates
        key: a JAX key
    Returns:
        a tree like `theta` with arrays of True and False
    Raises:
        ValueError: if `size` is not between 1 and the number of coordinates
    """
    check_tree_of_arrays("theta", theta)
    scores = jax.random.permutation(checks.key(key), count(theta)).astype(float)
    return largest(_like(theta, scores), size)


def largest(scores: Any, size: int) -> Any:
    """A mask of the `size` coordinates with the largest |score|: parameters for "by magnitude", Fisher information, …

    Ties go to the earlier coordinate. The smallest are the complement's.

    Args:
        scores: a tree of arrays like θ
        size: number of coordinates
    Returns:
        a tree like `scores` with arrays of True and False
    Raises:
        ValueError: if `size` is not between 1 and the number of coordinates
    """
    total = count(check_tree_of_arrays("scores", scores))
    size = checks.count("size", size, at_least=1)
    if size > total:
        raise ValueError(f"size must be at most the {total} coordinates there are, got {size}")
    leaves = [leaf if _is_boolean(leaf) else checks.entries("scores", leaf) for leaf in jax.tree.leaves(scores)]
    flat = np.abs(np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in leaves]))
    chosen = np.zeros(total, bool)
    chosen[np.argsort(-flat, kind="stable")[:size]] = True
    return _like(scores, chosen)


def fisher(landscape: Any, theta: Any) -> Any:
    """Diagonal of the empirical Fisher information of a landscape that is a mean over examples.

        Fᵢ = (1/n) Σₖ (∂ℓₖ/∂θᵢ)²

    Args:
        landscape: made by :meth:`flatdyn.Landscape.from_examples`
        theta: coordinates (dim,)
    Returns:
        F, in the form in which the landscape keeps its parameters
    Raises:
        TypeError: if the landscape is not a mean over examples
    """
    if not hasattr(landscape, "batch_field") or isinstance(landscape, type):
        raise TypeError(f"fisher needs a landscape made by Landscape.from_examples, got {landscape!r}")
    point = landscape.vector(checks.point("theta", theta, landscape.dim))
    gradients = jax.lax.map(lambda i: landscape.batch_field(point, i[None]), jnp.arange(landscape.number))
    return gradients.map(lambda leaf: (leaf**2).mean(axis=0)).tree


def count(theta: Any, mask: Any = None) -> Any:
    """How many coordinates a tree has, or of them those that a mask of the same form selects."""
    leaves = jax.tree.leaves(check_tree_of_arrays("theta", theta))
    if mask is None:
        return sum(map(np.size, leaves))
    if not _is_array(getattr(theta, "tree", theta)):
        _check_tree(settled(mask), theta if isinstance(theta, Vector) else Vector(theta), "mask")
    entries = jax.tree.leaves(match(settled(mask), theta))
    pairs = list(zip(entries, leaves, strict=False))
    if len(entries) != len(leaves) or any(not _is_flag(m) and np.shape(m) != np.shape(leaf) for m, leaf in pairs):
        raise ValueError(f"mask must have the form of theta, got {checks.shown(mask)}")
    return sum(
        np.size(leaf) * bool(m) if _is_flag(m) else ((m if hasattr(m, "sum") else np.asarray(m)) != 0).sum()
        for m, leaf in pairs
    )


def spread(mask: Any, theta: Any) -> Any:
    """The same mask as arrays of True and False, one entry per coordinate: masks of one form share a compiled program.

    Args:
        mask: a tree like `theta`, with True or False for whole leaves or arrays of the leaves' shapes
        theta: parameters, any tree of arrays
    Returns:
        a tree like `theta` with arrays of True and False
    """
    count(theta, mask)  # refuses what does not fit
    return jax.tree.map(lambda m, leaf: np.broadcast_to(m, np.shape(leaf)).astype(bool), mask, theta)


# --- what methods do with them --------------------------------------------------------------------------------


def settled(mask: Any, name: str = "mask", needed: bool = False) -> Any:
    """The mask with entries 0 and 1 as False and True, so that they are part of the program; a field's converter.

    Args:
        needed: whether there must be one, as for each of several blocks; else None is everything
    """
    if mask is None and needed:
        raise ValueError(f"{name} must be a tree of True and False, or of numbers, got None: each block needs a mask")
    what = "a mask" if name == "mask" else f"{name}, a mask,"

    def entry_of(entry: Any) -> Any:
        if _is_flag(entry):
            return bool(entry)
        if not checks.is_traced(entry) and (
            not isinstance(entry, bool | int | float | np.generic | np.ndarray | jax.Array)
            or _kind(entry) not in "biuf"
        ):
            raise ValueError(f"{what} must hold True and False, or numbers, got {checks.shown(entry)} in it")
        if checks.is_traced(entry) or _is_boolean(entry):
            return entry
        checks.number(name, entry)
        checks.in_range(name, entry)
        return _signed(entry)

    if (
        isinstance(mask, str | bytes | set)
        or hasattr(mask, "made_by")  # a method, a landscape: trees of numbers too, but not parameters
        or (mask is not None and jax.tree.leaves(mask) == [])
    ):
        raise ValueError(f"{what} must be a tree of True and False, or of numbers, got {checks.shown(mask)}")
    return jax.tree.map(entry_of, mask)


def _signed(entry: Any) -> Any:
    """Weights as they are, but for whole numbers without a sign, of which 1 − m would wrap around."""
    if isinstance(entry, np.generic | int):
        return float(entry)
    if _kind(entry) == "u" and not isinstance(entry, bool | int | float):
        return entry.astype(np.int32 if entry.dtype.itemsize < 4 else float)
    return entry


def _kind(entry: Any) -> str:
    """The kind of an entry's type, as NumPy writes it; "?" for keys of JAX."""
    return getattr(getattr(entry, "dtype", np.asarray(0.0).dtype), "kind", "?")


def match(value: Any, theta: Any) -> Any:
    """A mask, or numbers per coordinate or leaf, in the form of the vector `theta`."""
    if isinstance(value, Vector):
        return value
    if is_coordinates(getattr(theta, "tree", None)):
        return Vector(tuple(value))
    if _is_array(getattr(theta, "tree", theta)) and isinstance(value, tuple | list):
        value = jnp.asarray(value)
    return Vector(value) if isinstance(theta, Vector) else value


def pick(mask: Any, a: Any, b: Any) -> Any:
    """m a + (1 − m) b for vectors a and b; where m is True or False only the one that is picked is computed."""
    if mask is None:
        return a
    mask = match(mask, a)
    if not isinstance(mask, Vector):
        return _pick(mask, a, b)
    return mask.map(_pick, a, b)


def masked(mask: Any, a: Any) -> Any:
    """m ⊙ a; all of it if there is no mask."""
    if mask is None:
        return a
    mask = match(mask, a)
    return mask.map(_times, a) if isinstance(mask, Vector) else _times(mask, a)


def check(mask: Any, theta: Any, name: str = "mask") -> None:
    """Raise ValueError if a mask does not have the form of the vector θ, or selects nothing."""
    if mask is None or checks.any_traced(mask):
        return
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(theta)]
    tree = getattr(theta, "tree", theta)
    if not is_coordinates(tree) and not _is_array(tree):
        _check_tree(mask, theta, name)
    else:
        row = isinstance(mask, tuple | list) and jax.tree_util.all_leaves(mask) and not any(map(np.ndim, mask))
        if not row and (isinstance(mask, tuple | list | dict) or np.ndim(mask) != 1):
            raise ValueError(f"{name} must be a list or a row of numbers, one per coordinate, got {checks.shown(mask)}")
        entries, dim = sum(np.size(leaf) for leaf in jax.tree.leaves(mask)), sum(map(np.prod, shapes))
        if entries != dim:
            raise ValueError(f"{name} must have one entry per coordinate, {int(dim)} in all, got {entries}")
    if not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(mask)):
        raise ValueError(f"{name} is empty: no coordinate would be selected; leave it out, or select some")


def _check_tree(mask: Any, theta: Vector, name: str) -> None:
    wanted, given = jax.tree.structure(theta.tree), jax.tree.structure(mask)
    if wanted != given:
        raise ValueError(f"{name} must be a tree like the parameters, got {checks.shown(mask)}")
    for (path, leaf), entry in zip(jax.tree.leaves_with_path(theta.tree), jax.tree.leaves(mask), strict=True):
        if not _is_flag(entry) and np.shape(entry) != np.shape(leaf):
            place = jax.tree_util.keystr(path)
            raise ValueError(
                f"{name} must be True, False or of shape {np.shape(leaf)} at {place}, got {np.shape(entry)}"
            )


def check_tree_of_arrays(name: str, tree: Any) -> Any:
    """Return a tree of numbers, else raise ValueError."""
    leaves = jax.tree.leaves(tree)
    if (
        not leaves
        or isinstance(tree, str)
        or hasattr(tree, "made_by")  # a noise, a method: trees of numbers too, but not parameters
        or not all(isinstance(getattr(leaf, "shape", None), tuple) or isinstance(leaf, int | float) for leaf in leaves)
    ):
        raise ValueError(f"{name} must be a tree of arrays, such as a network's parameters, got {checks.shown(tree)}")
    return tree


def _is_array(tree: Any) -> bool:
    return isinstance(tree, np.ndarray | jax.Array | jax.ShapeDtypeStruct)


def _is_boolean(entry: Any) -> bool:
    """Whether an entry of a mask is an array of True and False."""
    return _is_array(entry) and entry.dtype == np.dtype(bool)


def _opposite(entry: Any) -> Any:
    if _is_flag(entry):
        return not entry
    return ~entry if _is_boolean(entry) else 1 - entry


def _largest_of(entries: tuple) -> Any:
    return functools.reduce(jnp.maximum, map(jnp.asarray, entries))


def _is_flag(entry: Any) -> bool:
    """Whether an entry of a mask is one Python or NumPy 0 or 1."""
    return isinstance(entry, bool | int | float | np.generic) and entry in (0, 1)


def _pick(m: Any, a: Any, b: Any) -> Any:
    if _is_flag(m):
        return a if m else b
    if isinstance(a, sympy.Basic):
        return m * a + (1 - m) * b
    m = jnp.asarray(m)
    return jnp.where(m, a, b) if m.dtype == bool else m * a + (1 - m) * b


def _times(m: Any, a: Any) -> Any:
    if _is_flag(m):
        return a if m else (sympy.Integer(0) if isinstance(a, sympy.Basic) else jnp.zeros_like(a))
    # where, not a product: what is masked out may be infinite
    return jnp.where(m, a, jnp.zeros_like(a)) if _is_boolean(m) else m * a


def _like(tree: Any, flat: Any) -> Any:
    """Numbers one by one in the form of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])
    parts = np.split(np.asarray(flat), ends[:-1])
    return jax.tree.unflatten(structure, [p.reshape(np.shape(leaf)) for p, leaf in zip(parts, leaves, strict=True)])
