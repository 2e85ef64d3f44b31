"""A million walkers in a double well under BAOAB, float32, 500 steps: flatdyn against a numba loop.

    B A O A B on L = (x² − 1)²/4 + y²/2, γ = 1, τ = 0.3, h = 0.1: two gradients and two normal numbers a step

Both use every core. AOAB takes one gradient a step.
"""

import jax
import numpy as np
from paired import Rival, Row, missing, paired

import flatdyn as fd

WALKERS, STEPS, LR, FRICTION, TEMPERATURE, ROUNDS = 1_000_000, 500, 0.1, 1.0, 0.3, 3
WELL = fd.Landscape.from_expression("(x**2 - 1)**2/4 + y**2/2", "x y")


def flatdyn_run(start, word):
    process = fd.Iteration(WELL, fd.Langevin(LR, FRICTION, TEMPERATURE, word))
    return fd.simulate(process, start, STEPS, jax.random.key(0), every=STEPS, progress=False).final


def numba_loop():
    """The rival, compiled; ImportError without numba."""
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def numba_run(start, h, c, s, steps):
        out = np.empty_like(start)
        for i in numba.prange(len(start)):
            x, y = start[i]
            p, q = np.float32(0), np.float32(0)
            half = np.float32(h / 2)
            for _ in range(steps):
                p, q = p - half * x * (x * x - 1), q - half * y
                x, y = x + half * p, y + half * q
                p = c * p + s * np.float32(np.random.randn())  # noqa: NPY002, numba's
                q = c * q + s * np.float32(np.random.randn())  # noqa: NPY002
                x, y = x + half * p, y + half * q
                p, q = p - half * x * (x * x - 1), q - half * y
            out[i, 0], out[i, 1] = x, y
        return out

    return numba_run


def rows() -> list[Row]:
    start = np.ones((WALKERS, 2), np.float32)
    decay = np.exp(-FRICTION * LR)
    spread = np.float32(np.sqrt((1 - decay**2) * TEMPERATURE))
    rivals = {"AOAB, one gradient a step": Rival(lambda: flatdyn_run(start, "AOAB"))}
    try:
        loop = numba_loop()
        rivals["numba, prange"] = Rival(
            lambda: loop(start[: WALKERS // 4], np.float32(LR), np.float32(decay), spread, STEPS), 1 / 4, wanted=6
        )
    except ImportError:
        missing("numba is not installed")
    work = "Langevin, BAOAB in a double well, float32"
    return paired(work, lambda: flatdyn_run(start, "BAOAB"), rivals, WALKERS * STEPS, "walker-steps/s", ROUNDS)


if __name__ == "__main__":
    print(*rows(), sep="\n")
