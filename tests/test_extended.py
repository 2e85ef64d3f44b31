"""Hyperparameters as coordinates: one program gives what each process gives alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd

L = fd.landscapes.beale()
NOISE = fd.noise.Gaussian(0.5)
MANY = fd.Extended(fd.Iteration(L, fd.SAM(0.01, 0.1, momentum=0.5), NOISE), ["rho", "lr", "momentum", "noise.scale"])
RHO, LR, MOMENTUM, SCALE = [0.05, 0.2, 0.0], [1e-3, 2e-3, 1e-3], [0.0, 0.9, 0.5], [1.0, 0.5, 0.1]


def alone(i):
    method = fd.SAM(LR[i], RHO[i], momentum=jnp.asarray(MOMENTUM[i]))
    return fd.Iteration(L, method, fd.noise.Gaussian(SCALE[i]))


def test_every_run_is_that_of_its_own_process():
    starts = MANY.starts([1.0, 1.0], rho=RHO, lr=LR, momentum=MOMENTUM, noise__scale=SCALE)
    together = fd.simulate(MANY, starts, 50, jax.random.key(0), every=50)
    for i in range(3):
        rows = jnp.tile(jnp.array([1.0, 1.0]), (3, 1))  # run i has the random numbers of run i
        apart = fd.simulate(alone(i), rows, 50, jax.random.key(0), every=50).final[i]
        assert_allclose(MANY.theta(together.final)[i], apart, rtol=1e-13)  # rounding of another program
    assert_array_equal(together.final[:, 2:], starts[:, 2:])  # what stays put stays put


def test_escape_times_are_those_of_each_process():
    well = fd.landscapes.saddle((-1.0, 2.0))
    many = fd.Extended(fd.Iteration(well, fd.USAM(0.1, 0.1), fd.noise.Gaussian(0.1)), ["rho"])
    ball = fd.escape.Ball([0.0, 0.0], 1.0)
    rho = np.repeat([0.0, 0.4], 200)
    found = fd.escape_times(many, many.starts([0.0, 0.0], rho=rho), many.inside(ball), key=jax.random.key(0))
    for i, value in enumerate((0.0, 0.4)):
        process = fd.Iteration(well, fd.USAM(0.1, value), fd.noise.Gaussian(0.1))
        apart = fd.escape_times(process, jnp.zeros((400, 2)), ball, key=jax.random.key(0))
        assert_array_equal(found.steps[rho == value], apart.steps[200 * i : 200 * (i + 1)])
    apart = fd.escape_times(many, many.starts([0.0, 0.0], rho=0.1), lambda z: z[1] < 1, 2, 5, jax.random.key(0))
    assert "0x" not in apart.config["inside"]  # another Python has other addresses, and must find its file
    assert many.inside(ball).score(jnp.array([2.0, 0.0, 0.4])) == ball.score(jnp.array([2.0, 0.0]))


def test_one_point_is_one_run():
    starts = MANY.starts([1.0, 1.0], rho=0.1, lr=0.01, momentum=0.5, noise__scale=0.1)
    assert starts.shape == (6,)
    assert MANY.dim == 6
    assert MANY.starts(jnp.zeros((4, 2)), rho=0.1, lr=0.01, momentum=0.5, noise__scale=0.1).shape == (4, 6)


BAD = [
    (lambda: MANY.starts([1.0, 1.0], rho=-0.1, lr=0.01, momentum=0.5, noise__scale=0.1), "rho must be .*-0.1"),
    (lambda: MANY.starts([1.0, 1.0], rho=[0.1, np.nan], lr=0.01, momentum=0.5, noise__scale=0.1), "rho must be finite"),
    (lambda: MANY.starts([1.0, 1.0], rho=[], lr=0.01, momentum=0.5, noise__scale=0.1), "rho must hold at least 1"),
    (lambda: MANY.starts([1.0, 1.0], rho=10**400, lr=0.01, momentum=0.5, noise__scale=0.1), "rho must be finite"),
    (lambda: MANY.starts([1.0, 1.0], rho=0.1), "values must be given for rho, lr, momentum, noise.scale, got rho"),
    (
        lambda: MANY.starts(jnp.zeros((3, 2)), rho=[0.1, 0.2], lr=0.01, momentum=0.5, noise__scale=0.1),
        r"as many as runs, got lengths \[2, 3\]",
    ),
    (lambda: fd.Extended(alone(0), ["radius"]), "no number radius"),
    (lambda: fd.Extended(alone(0), []), "at least one name"),
    (lambda: fd.Extended(alone(0), ["rho", "rho"]), "none twice"),
    (lambda: fd.Extended(alone(0), ["nesterov"]), "nesterov must be one number to vary, it is False"),
    (lambda: fd.Extended(fd.Iteration(L, fd.GD(0.1)), ["momentum"]), "momentum cannot vary from 0"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_names_and_values_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
