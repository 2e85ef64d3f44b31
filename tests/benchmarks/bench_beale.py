"""The four runs of the Beale figure, 87,683 steps each with the cosine recorded, against the plainest form in JAX.

The official code takes about ten minutes for the same work on two cores; wanted are 3 seconds, compiling included.
The plain form is `lax.scan` over a step written by hand, which keeps positions and cosines.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from paired import Rival, Row, paired

import flatdyn as fd

START, LR, RADII, STEPS, ROUNDS = np.array([1.0, 2.0]), 1e-3 / 80, (0.0, 0.1, 0.5, 1.0), 87_683, 5


def flatdyn_runs():
    cosines = []
    for rho in RADII:
        process = fd.Iteration(fd.landscapes.beale(), fd.SAM(LR, rho))
        run = fd.simulate(process, START, STEPS, progress=False)
        cosines.append(np.asarray(fd.probe(process, run.theta).cosine))
    return np.stack(cosines)


@jax.jit
def scanned(rho):
    def loss(w):
        x, y = w
        return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2

    def step(w, _):
        g = jax.grad(loss)(w)
        up = jax.grad(loss)(w + rho * g / jnp.linalg.norm(g))
        return w - LR * up, g @ up / (jnp.linalg.norm(g) * jnp.linalg.norm(up))

    return jax.lax.scan(step, jnp.asarray(START), length=STEPS + 1)[1]


def rows() -> list[Row]:
    jax.config.update("jax_enable_x64", True)
    begun = time.perf_counter()
    cosines = flatdyn_runs()
    print(f"the four runs, compiling included: {time.perf_counter() - begun:.2f} s (wanted: 3)")
    plain = np.stack([scanned(rho) for rho in RADII])
    assert np.allclose(cosines[0], plain[0], atol=1e-6), "the cosines of gradient descent differ"
    rivals = {"lax.scan by hand": Rival(lambda: [scanned(rho) for rho in RADII])}
    amount = len(RADII) * STEPS
    return paired("the runs of the Beale figure, float64", flatdyn_runs, rivals, amount, "steps/s", ROUNDS)


if __name__ == "__main__":
    print(*rows(), sep="\n")
