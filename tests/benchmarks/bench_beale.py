"""All four runs of the Beale figure, 87,683 steps each with the cosine recorded, compiling included.

The official code takes about ten minutes for the same work on a machine of this kind; wanted are 3 seconds.
"""

import time

import jax
import numpy as np

import flatdyn as fd


def main():
    jax.config.update("jax_enable_x64", True)
    landscape, start = fd.landscapes.beale(), np.array([1.0, 2.0])
    begun = time.perf_counter()
    for rho in (0.0, 0.1, 0.5, 1.0):
        process = fd.Iteration(landscape, fd.SAM(1e-3 / 80, rho))
        run = fd.simulate(process, start, 87_683, progress=False)
        cosine = np.asarray(fd.probe(process, run.theta).cosine)
        print(f"rho = {rho}: {time.perf_counter() - begun:.2f} s, {len(cosine)} cosines")


if __name__ == "__main__":
    main()
