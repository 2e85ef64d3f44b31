"""One formula, one place: the symbolic map is the simulated map, over landscapes × methods.

The SymPy form and the JAX form of a step come from the same source line; this holds them together, and so guards the
two vector types, the two norms, and the compiled gradients.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

import flatdyn as fd

METHODS = {
    "GD": lambda lr, rho: fd.GD(lr),
    "heavy ball": lambda lr, rho: fd.GD(lr, momentum=0.9),
    "Nesterov": lambda lr, rho: fd.GD(lr, momentum=0.7, nesterov=True),
    "SAM": lambda lr, rho: fd.SAM(lr, rho),
    "SAM heavy ball": lambda lr, rho: fd.SAM(lr, rho, momentum=0.9),
    "SAM Nesterov, smoothed": lambda lr, rho: fd.SAM(lr, rho, momentum=0.5, eps=0.3, nesterov=True),
    "DNSAM": lambda lr, rho: fd.DNSAM(lr, rho),
    "USAM": lambda lr, rho: fd.USAM(lr, rho),
    "USAM heavy ball": lambda lr, rho: fd.USAM(lr, rho, momentum=0.9),
    "ASAM": lambda lr, rho: fd.ASAM(lr, rho, momentum=0.5),
    "ASAM, maximum norm": lambda lr, rho: fd.ASAM(lr, rho, p=np.inf, shift=0.1),
    "ASAM, unnormalised": lambda lr, rho: fd.ASAM(lr, rho, normalized=False),
}
FEW = ("beale", "factorization", "three_hump_camel")  # enough for variants of a method that is tried on all
CASES = [(place, name) for place in fd.landscapes.CATALOGUE for name in METHODS if "ASAM" not in name or place in FEW]
# A step knows of a landscape its gradient alone: one step with and one without momentum show that of each landscape,
# the few show each method. All other pairs say the same once more, and `make thorough` tries them.
BOTH = ("SAM", "USAM heavy ball")


def tier(place, name):
    return pytest.param(place, name, marks=() if place in FEW or name in BOTH else pytest.mark.slow)


@pytest.mark.parametrize(("landscape_name", "name"), [tier(*case) for case in CASES])
def test_symbols_and_numbers_are_the_same_map(landscape_name, name):
    landscape = fd.landscapes.CATALOGUE[landscape_name]()
    rng = np.random.default_rng(len(name) + 100 * len(landscape_name))
    lower, upper = np.array(landscape.box).T / 2
    points = rng.uniform(lower, upper, (2, landscape.dim))
    # A step small enough that the perturbed point stays where the loss is of moderate size.
    steepest = float(np.abs(landscape.hessian(points)).max())
    method = METHODS[name](0.1 / steepest, 0.2 / steepest)
    process = fd.Iteration(landscape, method)

    symbols = fd.stability.state_symbols(method, landscape)
    symbolic = sympy.lambdify([symbols], list(fd.stability.update_map(method, landscape)), "numpy", cse=True)
    for theta in points:
        start, unravel = ravel_pytree(process.init(jnp.asarray(theta)))
        state = np.concatenate([theta, rng.normal(size=start.size - theta.size) * 0.1])
        step = lambda flat, unravel=unravel: ravel_pytree(process.step(unravel(flat)))[0]  # noqa: E731
        # 1e-10 is asked for; both sides are double precision with a few hundred operations
        assert_allclose(step(jnp.asarray(state)), symbolic(state), rtol=1e-10, atol=1e-10)
        exact = np.array(fd.stability.jacobian(method, landscape, at=state), dtype=float)
        slopes = jax.jacfwd(step)(jnp.asarray(state))
        assert_allclose(slopes, exact, rtol=1e-10, atol=1e-10 * max(1, np.abs(exact).max()))
