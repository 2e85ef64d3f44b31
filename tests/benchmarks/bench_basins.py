"""A 1000 x 1000 basin map of Himmelblau under SAM, float64: flatdyn against a compiled loop and two plain forms.

A run ends when it is near a minimum, has diverged, or after 20,000 steps; tested every 10 steps. flatdyn finds out by
itself, within the time that is measured, within which distances of which critical points nothing leaves any more.

* numba: a `prange` loop over the points with early exit at minima, on all cores; and the same loop when it is handed
  the traps that flatdyn has found, at saddles too;
* vmap of while_loop: what one would write first in JAX, waits for the slowest point; on fewer points, scaled up;
* Python loop: NumPy arithmetic point by point, on very few points, scaled up.

The first needs numba (`pip install -e ".[bench]"`); the rest runs without it.
"""

import resource

import jax
import jax.numpy as jnp
import numpy as np
from paired import Rival, Row, missing, paired

import flatdyn as fd
from flatdyn.basins import attractors

SIDE, LR, RHO, STEPS, EVERY, ROUNDS = 1000, 1e-3, 0.05, 20_000, 10, 3
BOX = [(-5, 5), (-5, 5)]
LANDSCAPE = fd.landscapes.himmelblau()
POINTS = LANDSCAPE.critical_points()
PROCESS = fd.Iteration(LANDSCAPE, fd.SAM(LR, RHO))


def himmelblau_gradient(x, y):
    a, b = x * x + y - 11, x + y * y - 7
    return 4 * x * a + 2 * b, 2 * a + 4 * y * b


def with_numba(starts, centres, radius, trap):
    import numba

    gradient = numba.njit(himmelblau_gradient)

    @numba.njit(parallel=True)
    def run(starts, centres, radius, trap, lr, rho, steps, every):
        labels = np.full(len(starts), -1)
        for i in numba.prange(len(starts)):
            x, y = starts[i]
            for k in range(1, steps + 1):
                gx, gy = gradient(x, y)
                length = np.sqrt(gx * gx + gy * gy)
                if length == 0:
                    length = 1.0
                gx, gy = gradient(x + rho * gx / length, y + rho * gy / length)
                x -= lr * gx
                y -= lr * gy
                if not (abs(x) <= 1e6 and abs(y) <= 1e6):
                    labels[i] = -2
                    break
                if k % every == 0:
                    best = np.inf
                    for a in range(len(centres)):
                        square = (x - centres[a, 0]) ** 2 + (y - centres[a, 1]) ** 2
                        if square < best:
                            best, near = square, a
                    labels[i] = near if best <= radius[near] ** 2 else -1
                    if best <= trap[near] ** 2:
                        break
        return labels

    return lambda: run(starts, centres, radius, trap, LR, RHO, STEPS, EVERY)


def with_vmap(starts, centres, radius, trap):
    field = jax.grad(lambda w: (w[0] ** 2 + w[1] - 11) ** 2 + (w[0] + w[1] ** 2 - 7) ** 2)

    def step(w):
        g = field(w)
        return w - LR * field(w + RHO * g / jnp.linalg.norm(g))

    def nearest(w):
        square = ((w - centres) ** 2).sum(axis=1)
        return jnp.argmin(square), jnp.sqrt(square.min())

    def going(carry):
        w, k = carry
        near, distance = nearest(w)
        return (k < STEPS) & (distance > trap[near]) & (jnp.abs(w) <= 1e6).all()

    def one(w):
        def ten(carry):
            return jax.lax.fori_loop(0, EVERY, lambda _, w: step(w), carry[0]), carry[1] + EVERY

        w, _ = jax.lax.while_loop(going, ten, (w, 0))
        near, distance = nearest(w)
        return jnp.where(distance <= radius[near], near, -1)

    centres, radius, trap = map(jnp.asarray, (centres, radius, trap))
    run = jax.jit(jax.vmap(one))
    return lambda: np.asarray(run(starts))


def with_python(starts, centres, radius, trap):
    def gradient(w):
        return np.array(himmelblau_gradient(*w))

    def one(w):
        for k in range(1, STEPS + 1):
            g = gradient(w)
            w = w - LR * gradient(w + RHO * g / np.linalg.norm(g))
            if k % EVERY == 0:
                square = ((w - centres) ** 2).sum(axis=1)
                near = int(np.argmin(square))
                if square[near] <= trap[near] ** 2:
                    return near
        return near if square[near] <= radius[near] ** 2 else -1

    return lambda: np.array([one(w) for w in starts])


def rows() -> list[Row]:
    jax.config.update("jax_enable_x64", True)

    def ours():
        return fd.map_basins(PROCESS, BOX, SIDE, POINTS, max_steps=STEPS, progress=False)

    basin_map = ours()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"a map of {SIDE} x {SIDE} points: peak memory {memory:.2f} GiB")
    radius = float(basin_map.config["radius"])
    points, _ = attractors.given(POINTS, 2)
    aims = attractors.targets(PROCESS, points, [], radius, max_steps=STEPS, bound=1e6, dtype=np.float64)
    centres = np.array([point.theta for point in POINTS])
    sizes = np.asarray(aims.radius)[: len(points)], np.asarray(aims.trap)[: len(points)]
    starts = np.stack(np.meshgrid(*basin_map.coordinates()), axis=-1).reshape(-1, 2)
    minima = sizes[0], np.where([point.kind == "minimum" for point in POINTS], sizes[1], 0.0)
    rivals = {}
    try:
        for name, known, wanted in (("exit at minima", minima, 1.0), ("handed all traps", sizes, 1.5)):
            loop = with_numba(starts, centres, *known)
            odd = np.mean(loop() != basin_map.labels.ravel())
            print(f"numba, {name}: labels that differ: {odd:.0e}")
            rivals[f"numba, {name}"] = Rival(loop, wanted=wanted)
    except ImportError:
        missing("numba is not installed")
    rng = np.random.default_rng(0)
    for name, make, number in (("vmap of while_loop", with_vmap, 20_000), ("Python loop", with_python, 50)):
        chosen = rng.choice(len(starts), number, replace=False)
        run = make(starts[chosen], centres, *minima)
        assert np.mean(run() != basin_map.labels.ravel()[chosen]) <= 0.02, f"{name} finds other basins"
        rivals[name] = Rival(run, number / len(starts), wanted=20)
    found = paired("basins of 1000 x 1000 points, float64", ours, rivals, SIDE**2, "points/s", ROUNDS)
    return found + small()


def small() -> list[Row]:
    """A small map: what the search for attractors adds to the runs."""

    def drawn(known):
        return lambda: fd.map_basins(PROCESS, BOX, 64, known, max_steps=STEPS, progress=False)

    return paired(
        "basins of 64 x 64 points, attractors known",
        drawn(POINTS),
        {"the same with their search": Rival(drawn(None))},
        64**2,
        "points/s",
        ROUNDS,
    )


if __name__ == "__main__":
    print(*rows(), sep="\n")
