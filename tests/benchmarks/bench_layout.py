"""Walkers on Beale under noise-free SAM, float32: flatdyn against a plain vmap over the rows of an (N, 2) array.

Both do the same 500 steps for 100,000 walkers in this process, in turn, and the ratio of medians is printed. The
plain form is what one would write first: `jax.grad` of the loss at an array of shape (2,), mapped over rows.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import flatdyn as fd

WALKERS, STEPS, LR, RHO, REPEATS = 100_000, 500, 1e-4, 0.1, 7


def beale(w):
    x, y = w
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def sam_step(w):
    g = jax.grad(beale)(w)
    return w - LR * jax.grad(beale)(w + RHO * g / jnp.linalg.norm(g))


@jax.jit
def plain(w):
    return jax.lax.fori_loop(0, STEPS, lambda _, w: jax.vmap(sam_step)(w), w)


def main():
    start = np.random.default_rng(0).uniform(-4.5, 4.5, (WALKERS, 2)).astype(np.float32)
    process = fd.Iteration(fd.landscapes.beale(), fd.SAM(LR, RHO))
    rivals = {
        "plain vmap over rows": lambda: jax.block_until_ready(plain(jnp.asarray(start))),
        "flatdyn.simulate": lambda: fd.simulate(process, start, STEPS, every=STEPS, progress=False),
    }
    seconds = {name: [] for name in rivals}
    for run in rivals.values():  # compile
        run()
        run()
    for _ in range(REPEATS):
        for name, run in rivals.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
        print(f"{name:22} {WALKERS * STEPS / value / 1e6:6.0f} million walker-steps/s   {value:.3f} s ({spread})")
    print(f"ratio {median['plain vmap over rows'] / median['flatdyn.simulate']:.2f} (wanted: at least 2.5)")


if __name__ == "__main__":
    main()
