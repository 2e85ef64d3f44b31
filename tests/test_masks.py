"""Masks: what they select, in every form in which parameters come, and that bad ones are named."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn import masks
from flatdyn.core.algebra import Vector

PARAMS = {"norm": {"gain": jnp.ones(3), "bias": jnp.zeros(3)}, "weight": jnp.arange(-3.0, 3).reshape(2, 3)}
NETWORK = fd.Landscape.from_function(lambda p: sum(jnp.sum(leaf**4) for leaf in jax.tree.leaves(p)), like=PARAMS)
KEY = jax.random.key(0)


def flat(mask, like=PARAMS):
    """A mask as one row of numbers, in the order of the leaves."""
    full = jax.tree.map(lambda m, leaf: np.broadcast_to(np.asarray(m, float), leaf.shape).ravel(), mask, like)
    return np.concatenate(jax.tree.leaves(full))


# --- what they select -----------------------------------------------------------------------------------------


def test_leaves_are_selected_by_name_and_by_predicate():
    assert masks.named(PARAMS, "norm") == {"norm": {"gain": True, "bias": True}, "weight": False}
    assert masks.named(PARAMS, "gain", "weight") == {"norm": {"gain": True, "bias": False}, "weight": True}
    assert masks.where(PARAMS, lambda path, leaf: leaf.ndim > 1) == masks.named(PARAMS, "weight")
    network = eqx.partition(eqx.nn.MLP(2, 1, 4, 1, key=KEY), eqx.is_array)[0]
    assert masks.count(network, masks.named(network, ".bias")) == 4 + 1
    with pytest.raises(ValueError, match=r"mask is empty: .* none of \['norm'\]\['bias'\], \['norm'\]\['gain'\], "):
        masks.named(PARAMS, "attention")


def test_each_leaf_is_selected_by_one_mask():
    assert_array_equal(sum(flat(mask) for mask in masks.each(PARAMS)), np.ones(12))


@pytest.mark.parametrize("size", [1, 5, 12])
def test_sparse_masks_have_the_size_that_was_asked_for(size):
    for mask in (masks.random(PARAMS, size, KEY), masks.largest(PARAMS, size)):
        assert flat(mask).sum() == size == masks.count(PARAMS, mask)
        assert flat(masks.complement(mask)).sum() == 12 - size
        assert all(leaf.dtype == bool for leaf in jax.tree.leaves(mask))


def test_the_largest_are_the_largest_and_ties_go_to_the_earlier():
    assert_array_equal(masks.largest(PARAMS, 2)["weight"], [[1, 1, 0], [0, 0, 0]])  # −3, −2
    assert_array_equal(masks.largest(PARAMS, 3)["weight"], [[1, 1, 0], [0, 0, 1]])  # and 2
    assert_array_equal(flat(masks.largest(PARAMS, 4))[:6], [0, 0, 0, 1, 0, 0])  # a gain, before ±1 of the weights


def test_random_masks_select_every_coordinate_equally_often():
    drawn = np.array([flat(masks.random(PARAMS, 3, key)) for key in jax.random.split(KEY, 400)])
    # binomial with share 1/4: twelve counts within 4.5 standard errors
    assert np.abs(drawn.mean(0) - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 400)
    assert_array_equal(flat(masks.random(PARAMS, 3, KEY)), flat(masks.random(PARAMS, 3, KEY)))


def test_fisher_information_of_a_linear_model():
    """ℓ = (wᵀx − y)²/2 has ∂ℓ/∂w = (wᵀx − y) x."""
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(20, 3)), rng.normal(size=20), rng.normal(size=3)
    line = fd.Landscape.from_examples(
        lambda p, e: (p["w"] @ e["x"] - e["y"]) ** 2 / 2, {"x": x, "y": y}, like={"w": jnp.zeros(3)}
    )
    exact = (((x @ w - y)[:, None] * x) ** 2).mean(0)
    found = masks.fisher(line, w)
    assert_allclose(found["w"], exact, rtol=1e-13)
    assert np.argmax(masks.largest(found, 1)["w"]) == np.argmax(exact)
    with pytest.raises(TypeError, match="made by Landscape"):
        masks.fisher(NETWORK, np.ones(12))


def test_a_mask_that_is_spread_selects_the_same():
    mask = masks.named(PARAMS, "norm")
    spread = masks.spread(mask, PARAMS)
    assert all(leaf.dtype == bool for leaf in jax.tree.leaves(spread))
    assert_array_equal(flat(spread), flat(mask))
    assert_array_equal(flat(masks.spread(spread, PARAMS)), flat(mask))
    with pytest.raises(ValueError, match="must be a tree like the parameters"):
        masks.spread({"norm": True}, PARAMS)


def test_complements_and_unions_of_flags_arrays_and_weights():
    some = np.array([[True, False, True], [False, False, True]])
    whole = {"norm": {"gain": True, "bias": False}, "weight": False}
    mixed = {"norm": {"gain": False, "bias": jnp.array([0.0, 0.5, 1.0])}, "weight": some}
    assert masks.complement(whole) == {"norm": {"gain": False, "bias": True}, "weight": True}
    assert_array_equal(flat(masks.complement(mixed)), 1 - flat(mixed))
    assert_array_equal(flat(masks.union(whole, mixed)), np.maximum(flat(whole), flat(mixed)))
    assert masks.union(whole, masks.complement(whole))["weight"] is True
    assert masks.complement((1, 0)) == (False, True)
    assert_array_equal(masks.complement(np.array([1, 0])), [0, 1])


# --- in every form --------------------------------------------------------------------------------------------

ROW = [True, False, True, False]
FORMS = [tuple(ROW), ROW, np.array(ROW), jnp.array(ROW), np.array(ROW, float), [1, 0, 1.0, 0]]


@pytest.mark.parametrize("mask", FORMS, ids=lambda mask: type(mask).__name__)
@pytest.mark.parametrize("kind", ["expression", "array", "list", "tuple"])
def test_rows_fit_coordinates_and_arrays(kind, mask):
    theta = np.array([0.5, 1.0, -1.5, 2.0])
    if kind == "expression":
        landscape = fd.landscapes.styblinski_tang(4)
    elif kind == "array":
        landscape = fd.Landscape.from_function(lambda t: jnp.sum(t**4 - t), dim=4)
    else:
        wrap = {"list": list, "tuple": tuple}[kind]
        landscape = fd.Landscape.from_function(lambda t: jnp.sum(t[0] ** 4 - t[0]), like=wrap([jnp.zeros((2, 2))]))
        mask = wrap([np.reshape(np.asarray(mask), (2, 2))])
    process = fd.Iteration(landscape, fd.SAM(0.01, 0.1, mask=mask))
    moved = fd.probe(process, theta).perturbed - theta
    assert_array_equal(moved != 0, ROW)
    assert_allclose(np.linalg.norm(moved), 0.1, rtol=1e-13)


def test_what_is_masked_out_is_not_seen_even_if_infinite():
    a = Vector({"w": jnp.array([1.0, jnp.inf]), "b": jnp.array([jnp.nan])})
    kept = masks.masked({"w": np.array([True, False]), "b": False}, a)
    assert_array_equal(kept.tree["w"], [1, 0])
    assert_array_equal(kept.tree["b"], [0])
    assert masks.masked(None, a) is a


def test_a_pick_is_one_or_the_other_or_a_mixture_of_both():
    a, b = Vector((1.0, 2.0, 3.0)), Vector((-1.0, -2.0, jnp.nan))
    assert masks.pick((True, False, True), a, b).tree == (1.0, -2.0, 3.0)
    assert_allclose(masks.pick((0.25, 0, 1), a, b).tree, (-0.5, -2.0, 3.0))
    x, y = sympy.symbols("x y")
    assert masks.pick((True, False), Vector((x, x)), Vector((y, y))).tree == (x, y)
    assert masks.masked((True, False), Vector((x, y))).tree == (x, 0)


def test_single_precision_stays_single():
    with jax.enable_x64(False):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
        mask = masks.random(params, 5, KEY)
    for vector in (masks.masked(mask, Vector(params)), masks.pick(mask, Vector(params), 2.0 * Vector(params))):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(vector)} == {"float32"}


def test_flags_are_part_of_the_program_and_arrays_are_not():
    def leaves(mask):
        return [x for x in jax.tree.leaves(eqx.filter(fd.SAM(0.1, 0.1, mask=mask), eqx.is_array)) if x.ndim]

    assert leaves((1.0, np.int64(0))) == []
    assert len(leaves(np.array([1.0, 0.0]))) == 1


# --- bad masks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("landscape", "mask", "message"),
    [
        (NETWORK, {"norm": {"gain": 1, "bias": 0}}, "mask must be a tree like the parameters"),
        (NETWORK, np.ones(12), "mask must be a tree like the parameters"),
        (
            NETWORK,
            {"norm": {"gain": 1, "bias": 0}, "weight": np.ones(6)},
            r"shape \(2, 3\) at \['weight'\], got \(6,\)",
        ),
        (NETWORK, {"norm": {"gain": 0, "bias": 0}, "weight": np.zeros((2, 3))}, "mask is empty"),
        (fd.landscapes.beale(), {"x": 1, "y": 0}, "list or a row of numbers, one per coordinate"),
        (fd.landscapes.beale(), np.eye(2), "list or a row of numbers, one per coordinate"),
        (fd.landscapes.beale(), [(1, 0)], "list or a row of numbers, one per coordinate"),
        (fd.landscapes.beale(), ((1,), (0,)), "list or a row of numbers, one per coordinate"),
        (fd.landscapes.beale(), [1, 0, 1], "one entry per coordinate, 2 in all, got 3"),
        (fd.landscapes.beale(), np.zeros(2), "mask is empty"),
    ],
)
def test_masks_that_do_not_fit_are_refused(landscape, mask, message):
    with pytest.raises(ValueError, match=message):
        fd.Iteration(landscape, fd.SAM(0.1, 0.1, mask=mask))


@pytest.mark.parametrize(
    ("theta", "mask"), [(np.ones(2), 3), (np.ones(2), np.float32(0.1)), (np.ones(2), np.ones(3)), (PARAMS, 0.5)]
)
def test_only_a_mask_that_fits_is_counted(theta, mask):
    with pytest.raises(ValueError, match="mask must"):
        masks.count(theta, mask)


def test_weights_that_are_not_zero_are_counted():
    assert masks.count(np.ones(2), True) == masks.count(np.ones(2), np.array([0.5, 2.0])) == 2
    assert masks.count(Vector((1.0, 2.0)), (0.5, 0.0)) == masks.count(Vector((1.0, 2.0)), (3, 0)) == 1


def test_no_mask_has_no_complement():
    for ask in (lambda: masks.complement(None), lambda: masks.union((1, 0), None)):
        with pytest.raises(ValueError, match=r"mask must be .*got None"):
            ask()
    with pytest.raises(ValueError, match=r"blocks must be .*got None"):
        fd.Alternating((fd.GD(0.1), fd.GD(0.2)), ((1, 0), None))
    with pytest.raises(ValueError, match=r"blocks must be .*got None"):
        fd.Multirate(0.1, blocks=(None, (1, 0)), rates=(1, 2))


@pytest.mark.parametrize("size", [0, 13, 1.5])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match="size must be"):
        masks.random(PARAMS, size, KEY)
