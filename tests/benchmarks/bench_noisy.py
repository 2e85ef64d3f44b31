"""A million walkers on Beale under noisy SAM, float32, 1000 steps: flatdyn against a numba loop, diffrax and a C loop.

    θ⁺ = θ − η (∇L(p) + σ ξ),   p = θ + ρ g/‖g‖,   g = ∇L(θ) + σ ξ,   ξ ~ N(0, I)

All use every core. The numba loop draws with numba's own
normal generator in `prange`. diffrax integrates the SDE whose Euler–Maruyama step this is, once with the Brownian path
that its documentation recommends (VirtualBrownianTree) and once with its fastest (UnsafeBrownianPath). These take fewer
steps, and numba fewer walkers: their time is proportional. The C loop, if there is a compiler, is written for the
processor's vector units by hand: xorshift generator, inverse of the normal distribution by polynomials, no branches.
"""

import ctypes
import functools
import os
import resource
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from paired import Rival, Row, missing, paired

import flatdyn as fd

WALKERS, STEPS, LR, RHO, SIGMA, ROUNDS = 1_000_000, 1000, 1e-4, 0.1, 1.0, 3
DIFFRAX_STEPS = 20


def flatdyn_run(start):
    process = fd.Iteration(fd.landscapes.beale(), fd.SAM(LR, RHO), fd.noise.Gaussian(SIGMA))
    return fd.simulate(process, start, STEPS, jax.random.key(0), every=STEPS, progress=False).final


def numba_loop():
    """The rival, compiled when it first runs; ImportError without numba."""
    import numba

    @numba.njit(fastmath=True)
    def gradient(x, y):
        y2 = y * y
        a, b, c = np.float32(1.5) - x + x * y, np.float32(2.25) - x + x * y2, np.float32(2.625) - x + x * y2 * y
        gx = 2 * (a * (y - 1) + b * (y2 - 1) + c * (y2 * y - 1))
        return np.float32(gx), np.float32(2 * x * (a + 2 * b * y + 3 * c * y2))

    @numba.njit(parallel=True, fastmath=True)
    def numba_run(start, lr, rho, sigma, steps):
        out = np.empty_like(start)
        for i in numba.prange(len(start)):
            x, y = start[i]
            for _ in range(steps):
                n, m = np.float32(sigma * np.random.randn()), np.float32(sigma * np.random.randn())  # noqa: NPY002, numba's
                gx, gy = gradient(x, y)
                gx, gy = gx + n, gy + m
                scale = rho / np.sqrt(gx * gx + gy * gy)
                px, py = gradient(x + scale * gx, y + scale * gy)
                x, y = x - lr * (px + n), y - lr * (py + m)
            out[i, 0], out[i, 1] = x, y
        return out

    return numba_run


@functools.partial(jax.jit, static_argnames=("steps", "tree"))
def diffrax_run(start, key, steps, tree):
    def field(x, y):
        a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
        return 2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)), 2 * x * (a + 2 * b * y + 3 * c * y**2)

    def drift(t, w, args):
        gx, gy = field(w[0], w[1])
        scale = RHO / jnp.sqrt(gx**2 + gy**2)
        return -jnp.stack(field(w[0] + scale * gx, w[1] + scale * gy))

    def one(w, key):
        if tree:
            noise = diffrax.VirtualBrownianTree(0.0, steps * LR, tol=LR / 2, shape=(2,), key=key)
        else:
            noise = diffrax.UnsafeBrownianPath(shape=(2,), key=key)
        spread = diffrax.ControlTerm(lambda t, w, args: LR**0.5 * SIGMA * jnp.eye(2, dtype=w.dtype), noise)
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), spread)
        options = {"saveat": diffrax.SaveAt(t1=True), "max_steps": steps + 1, "adjoint": diffrax.ForwardMode()}
        return diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, steps * LR, LR, w, **options).ys[0]

    return jax.vmap(one)(start, jax.random.split(key, len(start)))


C_CODE = r"""
#include <math.h>
#include <stdint.h>
#define W 64
static inline float normal(uint32_t u) {            /* Giles 2011, branch-free */
    float q = ((float)(int32_t)(u >> 1) + 0.5f) * 4.656612873e-10f;
    float w = -logf(q * (2.0f - q));
    float c = w - 2.5f, t = sqrtf(w) - 3.0f;
    float x = w < 5.0f ? c : t, v = 0.0f;
    const float C[9] = {2.81022636e-08f,3.43273939e-07f,-3.5233877e-06f,-4.39150654e-06f,0.00021858087f,
                        -0.00125372503f,-0.00417768164f,0.246640727f,1.50140941f};
    const float T[9] = {-0.000200214257f,0.000100950558f,0.00134934322f,-0.00367342844f,0.00573950773f,
                        -0.0076224613f,0.00943887047f,1.00167406f,2.83297682f};
    for (int k = 0; k < 9; k++) v = v * x + (w < 5.0f ? C[k] : T[k]);
    float z = 1.41421356f * v * (1.0f - q);
    return (u & 1u) ? -z : z;
}
static inline void field(float x, float y, float *gx, float *gy) {
    float y2 = y*y, y3 = y2*y, a = 1.5f-x+x*y, b = 2.25f-x+x*y2, c = 2.625f-x+x*y3;
    *gx = 2*(a*(y-1)+b*(y2-1)+c*(y3-1)); *gy = 2*x*(a+2*b*y+3*c*y2);
}
void run(float *xs, float *ys, long n, long steps, float lr, float rho, float sigma, uint32_t seed) {
    for (long i = 0; i + W <= n; i += W) {
        uint32_t s[W], r[W]; float x[W], y[W];
        for (int k = 0; k < W; k++) {
            uint32_t h = seed + 0x9E3779B9u * (uint32_t)(i + k + 1);
            h ^= h >> 16; h *= 0x85EBCA6Bu; h ^= h >> 13; s[k] = h | 1u; h *= 0xC2B2AE35u; r[k] = (h ^ (h >> 16)) | 1u;
            x[k] = xs[i+k]; y[k] = ys[i+k];
        }
        for (long t = 0; t < steps; t++) {
            #pragma omp simd
            for (int k = 0; k < W; k++) {
                uint32_t a = s[k], b = r[k];
                a ^= a << 13; a ^= a >> 17; a ^= a << 5; s[k] = a;
                b ^= b << 6; b ^= b >> 21; b ^= b << 7; r[k] = b;
                float n1 = sigma * normal(a + b), n2 = sigma * normal((a ^ b) * 0x9E3779B9u);
                float gx, gy, px, py;
                field(x[k], y[k], &gx, &gy); gx += n1; gy += n2;
                float f = rho / sqrtf(gx*gx + gy*gy);
                field(x[k] + f*gx, y[k] + f*gy, &px, &py);
                x[k] -= lr * (px + n1); y[k] -= lr * (py + n2);
            }
        }
        for (int k = 0; k < W; k++) { xs[i+k] = x[k]; ys[i+k] = y[k]; }
    }
}
"""


def c_run():
    """A function that runs the C loop on all cores, or None without a compiler."""
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        return None
    folder = tempfile.mkdtemp()
    source, library = Path(folder) / "loop.c", Path(folder) / "loop.so"
    source.write_text(C_CODE)
    flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp-simd", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, source, "-o", library, "-lm"], check=True)
    loop = ctypes.CDLL(str(library)).run
    loop.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_long] * 2 + [ctypes.c_float] * 3 + [ctypes.c_uint32]
    cores = len(os.sched_getaffinity(0))

    def run(start):
        parts = np.array_split(start, cores)
        columns = [(np.ascontiguousarray(part[:, 0]), np.ascontiguousarray(part[:, 1])) for part in parts]
        with ThreadPoolExecutor(cores) as threads:  # ctypes lets go of the interpreter lock
            jobs = [
                threads.submit(loop, x.ctypes.data, y.ctypes.data, len(x), STEPS, LR, RHO, SIGMA, 1 + i)
                for i, (x, y) in enumerate(columns)
            ]
            for job in jobs:
                job.result()
        return np.concatenate([np.stack(pair, axis=1) for pair in columns])

    return run


def same_ends(rivals: dict, start: np.ndarray) -> None:
    """Raise unless all do the same thing: the mean ends agree within six of their standard errors."""
    means = {}
    for name, end in rivals.items():
        end = np.asarray(end)[np.isfinite(end).all(axis=1)]
        means[name] = end.mean(axis=0), end.std(axis=0, ddof=1) / np.sqrt(len(end))
    ours, error = means["flatdyn"]
    for name, (mean, other) in means.items():
        assert (abs(mean - ours) <= 6 * np.hypot(error, other)).all(), f"{name} ends at {mean}, flatdyn at {ours}"


def rows() -> list[Row]:
    start = np.random.default_rng(0).normal((1.0, 2.0), 0.05, (WALKERS, 2)).astype(np.float32)
    few, key = jnp.asarray(start[:20_000]), jax.random.key(0)
    numbers = np.float32(LR), np.float32(RHO), np.float32(SIGMA), STEPS
    ends = {"flatdyn": flatdyn_run(start)}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"a million walkers: peak memory {memory:.2f} GiB (wanted: below 2)")
    rivals = {
        "diffrax, VirtualBrownianTree": Rival(
            lambda: diffrax_run(start, key, DIFFRAX_STEPS, True), DIFFRAX_STEPS / STEPS, wanted=20
        ),
        "diffrax, UnsafeBrownianPath": Rival(
            lambda: diffrax_run(start, key, DIFFRAX_STEPS, False), DIFFRAX_STEPS / STEPS
        ),
    }
    for name, tree in (("diffrax, tree", True), ("diffrax, unsafe", False)):  # all the steps of a few walkers
        ends[name] = diffrax_run(few, key, STEPS, tree)
    try:
        prange = numba_loop()
        rivals["numba, prange"] = Rival(lambda: prange(start[: WALKERS // 4], *numbers), 1 / 4, wanted=6)
        ends["numba"] = prange(start[: WALKERS // 4], *numbers)
    except ImportError:
        missing("numba is not installed")
    if loop := c_run():
        rivals["C, by hand for vector units"] = Rival(lambda: loop(start), wanted=0.7)
        ends["C"] = loop(start)
    else:
        missing("there is no C compiler")
    same_ends(ends, start)
    work = "noisy SAM on Beale, float32"
    found = paired(work, lambda: flatdyn_run(start), rivals, WALKERS * STEPS, "walker-steps/s", ROUNDS)
    with jax.enable_x64(True):
        fewer = start[: WALKERS // 8].astype(np.float64)
        single = Rival(lambda: flatdyn_run(start), share=8)
        work = "noisy SAM on Beale, float64"
        double = paired(
            work,
            lambda: flatdyn_run(fewer),
            {"the same in float32": single},
            len(fewer) * STEPS,
            "walker-steps/s",
            ROUNDS,
        )
    return found + double


if __name__ == "__main__":
    print(*rows(), sep="\n")
