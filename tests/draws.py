"""Are the normal numbers normal and independent? Over as many draws as you like; the tests ask it of a million.

    python tests/draws.py --draws 1e9            float32 and float64; minutes. Ends with z-scores and p-values

A draw is made as an ensemble draws: for a seed, a run and a step, two numbers. Blocks of 512 runs × 512 steps, each at
another place of runs and steps, are put under: moments 1 to 6; χ² over 1000 cells of equal probability; numbers beyond
3, 4, 5 and 6 σ (float64: further than that there is none to count); products and products of squares of neighbours in
run, in step, on the diagonal and of the two coordinates; χ² over 32 × 32 cells of the two coordinates, and of
neighbours in run; and products with the next seed and with the two keys that `split` makes of one.
"""

from __future__ import annotations

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from flatdyn.core.algebra import Vector
from flatdyn.core.randomness import normals, run_key, seed_words, split

SIDE, CELLS, COARSE = 512, 1000, 32
THRESHOLDS = (3.0, 4.0, 5.0, 6.0)
POWERS = {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96), 5: (0, 945), 6: (15, 10170)}  # mean and variance of zᵖ
PAIRS = ("run", "step", "diagonal", "coordinates", "next seed", "split keys")


@partial(jax.jit, static_argnames="dtype")
def block(seed, other, run, step, dtype):
    """Sums over one block of SIDE² draws of two numbers."""
    like = Vector((jnp.zeros((), dtype), jnp.zeros((), dtype)))

    def drawn(key):
        return jnp.stack(normals(key, like).tree)

    def draw(make):
        runs, steps = run + jnp.arange(SIDE, dtype=jnp.uint32), step + jnp.arange(SIDE, dtype=jnp.uint32)
        return jax.vmap(jax.vmap(make, (None, 0)), (0, None))(runs, steps)

    z = draw(lambda i, k: drawn(run_key(seed, i, k)))
    second = draw(lambda i, k: drawn(run_key(other, i, k)))
    apart = draw(lambda i, k: jnp.stack([drawn(one)[0] for one in split(run_key(seed, i, k))]))
    z, second, apart = (x.astype(jnp.float64) for x in (z, second, apart))
    pairs = [(z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z[1:, 1:], z[:-1, :-1])]
    pairs += [(z[..., 0], z[..., 1]), (z, second), (apart[..., 0], apart[..., 1])]
    products = [((a * b).sum(), ((a * b) ** 2 - 1).sum(), a.size) for a, b in pairs]
    uniform = jax.scipy.special.ndtr(z)
    cells = jnp.zeros(CELLS, int).at[(uniform * CELLS).astype(int).ravel()].add(1)
    coarse = (uniform * COARSE).astype(int)
    squares = jnp.zeros(COARSE**2, int)
    plane = squares.at[(coarse[..., 0] * COARSE + coarse[..., 1]).ravel()].add(1)
    beside = squares.at[(coarse[1:] * COARSE + coarse[:-1])[..., 0].ravel()].add(1)
    beyond = jnp.stack([(jnp.abs(z) > at).sum() for at in THRESHOLDS])
    moments = jnp.stack([(z**power).sum() for power in POWERS])
    return {
        "products": jnp.array(products), "cells": cells, "plane": plane, "beside": beside, "beyond": beyond,
        "moments": moments, "largest": jnp.abs(z).max(),
    }  # fmt: skip


def report(dtype, draws: float) -> float:
    """Print all the statistics; the largest |z-score| is returned."""
    blocks = max(1, round(draws / (2 * SIDE**2)))
    total, largest = None, 0.0
    for number in range(blocks):
        # blocks lie along runs, along steps, and for eight seeds
        seed, other = (seed_words(jax.random.key(number % 8 + offset)) for offset in (0, 1))
        place = number // 8
        run, step = SIDE * (place % 256), SIDE * (place // 256)
        found = jax.device_get(block(seed, other, np.uint32(run), np.uint32(step), dtype))
        largest = max(largest, float(found.pop("largest")))
        found = {name: np.asarray(value) for name, value in found.items()}
        total = found if total is None else {name: total[name] + found[name] for name in found}
    n = 2 * SIDE**2 * blocks
    print(f"{np.dtype(dtype).name}: {n:.3g} draws, largest {largest:.3f} σ")
    scores = {}
    for (power, (mean, variance)), value in zip(POWERS.items(), total["moments"], strict=True):
        scores[f"moment {power}"] = (value / n - mean) / np.sqrt(variance / n)
    for name, (product, square, size) in zip(PAIRS, total["products"], strict=True):
        scores[f"{name}: product"] = product / np.sqrt(size)
        scores[f"{name}: product of squares"] = square / np.sqrt(8 * size)
    for at, value in zip(THRESHOLDS, total["beyond"], strict=True):
        expected = n * 2 * scipy.stats.norm.sf(at)
        low, high = scipy.stats.poisson.sf(value - 1, expected), scipy.stats.poisson.cdf(value, expected)
        scores[f"beyond {at:g} σ: {value} of {expected:.1f}"] = scipy.stats.norm.isf(max(min(low, high), 1e-300))
    for name in ("cells", "plane", "beside"):
        chi = scipy.stats.chisquare(total[name])
        scores[f"χ² of {name} {chi.statistic:.0f} of {len(total[name]) - 1}, p = {chi.pvalue:.3f}"] = (
            scipy.stats.norm.isf(max(chi.pvalue, 1e-300))
        )
    for name, score in scores.items():
        print(f"  {name:45} {score:+.2f}", flush=True)
    return max(map(abs, scores.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=float, default=1e9)
    parser.add_argument("--dtype", choices=("float32", "float64"), nargs="*", default=("float32", "float64"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    worst = max(report(np.dtype(name), options.draws) for name in options.dtype)
    raise SystemExit(f"a score of {worst:.1f} is more than chance" if worst > 5 else None)


if __name__ == "__main__":
    main()
