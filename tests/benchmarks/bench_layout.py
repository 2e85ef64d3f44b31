"""Walkers on Beale under noise-free SAM, float32: flatdyn against a plain vmap over the rows of an (N, 2) array.

Both do the same 500 steps for 100,000 walkers. The plain form is what one would write
first: `jax.grad` of the loss at an array of shape (2,), mapped over rows.
"""

import jax
import jax.numpy as jnp
import numpy as np
from paired import Rival, Row, paired

import flatdyn as fd

WALKERS, STEPS, LR, RHO, ROUNDS = 100_000, 500, 1e-4, 0.1, 7


def beale(w):
    x, y = w
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def sam_step(w):
    g = jax.grad(beale)(w)
    return w - LR * jax.grad(beale)(w + RHO * g / jnp.linalg.norm(g))


@jax.jit
def plain(w):
    return jax.lax.fori_loop(0, STEPS, lambda _, w: jax.vmap(sam_step)(w), w)


def rows() -> list[Row]:
    start = np.random.default_rng(0).uniform(-4.5, 4.5, (WALKERS, 2)).astype(np.float32)
    process = fd.Iteration(fd.landscapes.beale(), fd.SAM(LR, RHO))

    def ours():
        return fd.simulate(process, start, STEPS, every=STEPS, progress=False).final

    rivals = {"plain vmap over rows": Rival(lambda: plain(jnp.asarray(start)), wanted=2.5)}
    return paired("SAM on Beale without noise, float32", ours, rivals, WALKERS * STEPS, "walker-steps/s", ROUNDS)


if __name__ == "__main__":
    print(*rows(), sep="\n")
