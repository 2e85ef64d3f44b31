"""Iterates of the authors' own optimisers, as they released them, in 64 bits; see tests/data/README.md."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd

DATA = json.loads((Path(__file__).parent / "data" / "authors.json").read_text())
SHAPES = DATA["shapes"]
KEPT = (0, 1, 2, 6, 12)  # steps whose positions are stored
ASCENDING = [row for row in DATA["paths"] if row["call"] != "AdLaLa"]
# Twelve steps of size one tenth on a loss of curvature below 5: rounding is multiplied by less than a thousand.
ROUNDING = 1e-12


def loss_of(shapes):
    """½ v·H v + Σ v⁴/10, v all ten parameters in a row: tensors that belong together."""
    i = np.arange(10)
    matrix = np.cos(np.outer(i, i) + 1.0) / (1 + abs(i[:, None] - i))
    matrix = (matrix + matrix.T) / 2 + 2 * np.eye(10)

    def loss(tree):
        v = jnp.concatenate([tree[name].reshape(-1) for name in shapes])
        return 0.5 * v @ matrix @ v + 0.1 * (v**4).sum()

    return fd.Landscape.from_function(loss, like={name: jnp.zeros(shape) for name, shape in shapes.items()})


@pytest.fixture(scope="module")
def landscape():
    return loss_of(SHAPES)


def tree_of(row, shapes=SHAPES):
    ends = np.cumsum([np.prod(shape) for shape in shapes.values()])[:-1]
    return {
        k: part.reshape(shape) for part, (k, shape) in zip(np.split(np.asarray(row), ends), shapes.items(), strict=True)
    }


def row_of(tree, shapes=SHAPES):
    return np.concatenate([np.asarray(tree[name]).reshape(-1) for name in shapes])


def named(word, inside=True):
    return {name: (word in name) == inside for name in SHAPES}


def method_of(row):
    """flatdyn's method with the numbers of a call of theirs; their norms have 1e-16 added."""
    mask = named("norm") if row.get("only_norm") else named("norm", False) if row.get("no_norm") else None
    common = {name: row[name] for name in ("rho", "momentum", "nesterov")} | {"lr": 0.05, "mask": mask}
    if row["call"] in ("SAM", "SAM_ON"):
        return fd.SAM(eps=1e-16, **common)
    scaled = None if row.get("normalize_bias") else named("weight")
    p = np.inf if row.get("p") == "infinity" else 2
    return fd.ASAM(shift=row["eta"], scaled=scaled, p=p, **common)


def name_of(row):
    given = {k: v for k, v in row.items() if k not in ("source", "call", "path")}
    return f"{row['call']} of {row['source']}, {given}"


@pytest.mark.parametrize("row", ASCENDING, ids=name_of)
def test_sam_asam_and_sam_on_take_the_authors_steps(row, landscape):
    start = landscape.flatten(tree_of(row["path"][0]))
    run = fd.simulate(fd.Iteration(landscape, method_of(row)), start, KEPT[-1])
    seen = [row_of(landscape.vector(run.theta[step]).tree) for step in KEPT]
    assert_allclose(seen, row["path"], atol=ROUNDING)
    assert abs(seen[-1] - seen[0]).max() > 0.1


def test_adlala_takes_the_authors_steps_with_their_normal_numbers(landscape):
    """Their program begins with half a kick; it draws twice for each tensor of the first layer, once for the others."""
    (row,) = [row for row in DATA["paths"] if row["call"] == "AdLaLa"]
    first, second = ({name: name == own for name in SHAPES} for own in ("fc.weight", "fc.bias"))
    numbers = [row[name] for name in ("sigma", "coupling", "friction", "start")]
    method = fd.AdLaLa(row["lr"], [first, second], tuple(row["temperature"]), *numbers, scaling="code")
    state = method.init(landscape.vector(landscape.flatten(tree_of(row["path"][0]))))
    state = dataclasses.replace(state, momentum=-row["lr"] / 2 * landscape.field(state.theta))
    for drawn, position in zip(row["normals"], row["path"][1:], strict=True):
        w1, w2, b1, b2, *others = drawn
        normals = [np.concatenate([w, b, *others]) for w, b in ((w1, b1), (w2, b2))]
        vectors = [landscape.vector(landscape.flatten(tree_of(xi))) for xi in normals]
        state = method.step(landscape.field, state, *vectors)
        assert_allclose(row_of(state.theta.tree), position, atol=ROUNDING)


OTHERS = {(row["call"], row.get("momentum")): row for row in DATA["others"] if row["call"] != "orthogonal"}
ORTHOGONAL = [row for row in DATA["others"] if row["call"] == "orthogonal"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_multirate_takes_the_authors_steps(landscape, momentum):
    """`weight_decay` of their stepslow, which has none, is read from the group. The momenta start at the gradient."""
    row = OTHERS["Multirate", momentum]
    moves = row["k"] - 1  # one of k batches renews the slow momentum, and nothing moves
    method = fd.Multirate(moves * row["lr"], named(row["fast"]), moves, momentum)
    state = method.init(landscape.vector(landscape.flatten(tree_of(row["path"][0]))))
    if momentum:
        state = dataclasses.replace(state, momentum=landscape.field(state.theta))
    for position in row["path"][1:]:
        state = method.step(landscape.field, state)
        assert_allclose(row_of(state.theta.tree), position, atol=ROUNDING)


def test_circles_take_the_authors_steps_without_noise(landscape):
    """Their ξ turns with the old θ (one line of two), and the kick has the gradient of where it is."""
    row = OTHERS["circle", None]
    held = {name: fd.constraints.Circle(row["radius"]) if name == "fc.weight" else None for name in SHAPES}
    method = fd.ConstrainedLangevin(row["lr"], held, friction=row["friction"], temperature=0.0)
    state = method.init(landscape.vector(landscape.flatten(tree_of(row["path"][0]))))
    given = dict(zip(SHAPES, row["start"]["momentum"], strict=True))
    slack = {"fc.weight": [row["start"]["xi_momentum"]]}
    parts = [part for name in sorted(SHAPES) for part in ([given[name], *slack.get(name, [])])]
    leaves, tree = jax.tree.flatten(state.momentum)
    parts = [jnp.reshape(jnp.asarray(part), leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    state = dataclasses.replace(state, momentum=jax.tree.unflatten(tree, parts))
    for position in row["path"][1:]:
        state = method.step(landscape.field, state, 0 * state.theta)
        assert_allclose(row_of(state.theta.tree), position, atol=ROUNDING)


@pytest.mark.parametrize("row", ORTHOGONAL, ids=lambda row: next(iter(row["shapes"])))
def test_orthogonal_weights_take_the_authors_steps_without_noise(row):
    """Their lr is η², their momentum p/η. The old transposed weight of a wide matrix is renewed (one line)."""
    shapes = {name: tuple(shape) for name, shape in row["shapes"].items()}
    landscape, eta = loss_of(shapes), np.sqrt(row["lr"])
    held = {name: None if name == "bias" else fd.constraints.Orthogonal() for name in shapes}
    method = fd.ConstrainedLangevin(eta, held, row["friction"], temperature=0.0, splitting="OBA")
    state = method.init(landscape.vector(landscape.flatten(tree_of(row["path"][0], shapes))))
    given = {name: eta * np.reshape(part, shapes[name]) for name, part in zip(shapes, row["start"], strict=True)}
    leaves, tree = jax.tree.flatten(state.momentum)
    parts = [jnp.asarray(given[name]) for name in sorted(shapes)]
    # the momentum of a wide matrix is kept as that of its transpose
    parts = [part if part.shape == leaf.shape else part.T for part, leaf in zip(parts, leaves, strict=True)]
    state = dataclasses.replace(state, momentum=jax.tree.unflatten(tree, parts))
    for position in row["path"][1:]:
        state = method.step(landscape.field, state, 0 * state.theta)
        assert_allclose(row_of(state.theta.tree, shapes), position, atol=ROUNDING)
