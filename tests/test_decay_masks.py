"""Weight decay of some parameters: as PyTorch's groups have it, and in what reads a method for a closed form."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.core.algebra import Vector
from flatdyn.methods import masks

STORED = json.loads((Path(__file__).parent / "data" / "torch_groups.json").read_text())
START = {"b": jnp.array([3.0, -1.0]), "w": jnp.array([[1.0, 2.0], [-1.0, 0.5]])}
CURVES = {"b": jnp.array([2.0, 0.5]), "w": jnp.array([[4.0, 1.0], [2.0, 0.5]])}
MATRICES = masks.where(START, lambda path, leaf: leaf.ndim > 1)  # timm's rule
TREE = fd.Landscape.from_function(lambda t: sum(jnp.sum(CURVES[name] * t[name] ** 2) for name in t) / 2, like=START)
HALF = {"b": jnp.full(2, 0.5), "w": jnp.full((2, 2), 0.5)}
BOWL = fd.landscapes.saddle((2.0, 1.0))


def path_of(method, steps=6):
    start = TREE.array(Vector(START))
    return fd.simulate(fd.Iteration(TREE, method), start, steps).theta[1:]


@pytest.mark.parametrize("row", STORED["runs"], ids=range(len(STORED["runs"])))
def test_no_decay_on_vectors_is_a_group_of_pytorch(row):
    inside = {"units": "gradient", "start": "first"} if "dampening" in row["arguments"] else {}
    method = fd.GD(**row["arguments"], **inside, weight_decay=0.3, decay_mask=MATRICES)
    assert_allclose(path_of(method), row["path"], rtol=0, atol=1e-14)  # rounding of numbers of order one


@pytest.mark.parametrize("decay", ["coupled", "decoupled", "loss"])
@pytest.mark.parametrize("kind", [fd.SAM, fd.methods.LaggedSAM, fd.methods.WSAM], ids=lambda kind: kind.__name__)
def test_a_mask_of_everything_is_none_and_what_is_spared_has_no_decay(kind, decay):
    """Beside a plain loop of one step with a mask of numbers: half of the decay is half of λ."""
    more = {"gamma": 0.7} if kind is fd.methods.WSAM else {}
    whole = kind(0.1, 0.05, **more, weight_decay=0.3, decay=decay)
    masked = kind(0.1, 0.05, **more, weight_decay=0.6, decay=decay, decay_mask=HALF)
    assert_allclose(path_of(masked), path_of(whole), rtol=0, atol=1e-14)
    if decay != "loss":  # seen by no ascent: the first step of what is spared is that without decay
        spared = kind(0.1, 0.05, **more, weight_decay=0.3, decay=decay, decay_mask=MATRICES)
        bare = kind(0.1, 0.05, **more)
        assert_allclose(path_of(spared, 1)[:, :2], path_of(bare, 1)[:, :2], rtol=0, atol=1e-15)
        assert np.abs(path_of(spared, 1) - path_of(bare, 1))[:, 2:].min() > 0.01


@pytest.mark.parametrize("decay", ["coupled", "decoupled", "loss"])
def test_what_is_read_off_a_method_sees_the_mask(decay):
    method = fd.GD(0.1, weight_decay=0.5, decay=decay, decay_mask=[1, 0])
    assert_allclose(fd.stability.multipliers(method, BOWL, at=[0, 0]), [0.9, 0.75], rtol=1e-12)
    assert fd.stability.jacobian(method, BOWL, at=(0, 0)) == fd.stability.jacobian(method, BOWL)
    pulled = fd.flows.Flow(BOWL, method).gradient(BOWL.vector(jnp.ones(2)))
    assert_allclose(BOWL.array(pulled), [2.5, 1.0], rtol=1e-14)
    drift = fd.flows.Diffusion(BOWL, method, fd.noise.Gaussian(0.1)).moments(np.ones(2)).mean
    assert_allclose(drift, [2.5, 1.0], rtol=1e-14)
    with pytest.raises(ValueError, match="masked method"):
        fd.stability.conditions(method, 1.0)
    with pytest.raises(ValueError, match="masked method"):
        fd.stability.edge(method)


def test_bad_masks_of_decay_are_refused():
    with pytest.raises(ValueError, match="there is none: give weight_decay"):
        fd.GD(0.1, decay_mask=[1, 0])
    with pytest.raises(ValueError, match="decay_mask"):
        fd.Iteration(BOWL, fd.GD(0.1, weight_decay=0.1, decay_mask=[1, 0, 1]))
    with pytest.raises(ValueError, match="two-cycles in closed form"):
        fd.quadratic.two_cycle(fd.SAM(0.1, 0.1, weight_decay=0.1, decay_mask=[1, 0]), [1.0, 2.0], 0)
