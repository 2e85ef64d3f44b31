"""Expectations of a diffusion on the line, without sampling: its backward equation on Chebyshev points.

    ∂u/∂t = b(x) ∂u/∂x + ½ v(x) ∂²u/∂x²,   u(x, 0) = f(x),   E f(θ_t) = u(θ₀, t)

References:
    Trefethen, Spectral Methods in MATLAB (2000), chapters 6 and 13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy

from flatdyn.core import checks, memory
from flatdyn.flows.diffusions import Diffusion


def expectation(
    process: Diffusion,
    functions: Sequence[Callable],
    start: float,
    time: float,
    interval: tuple[float, float],
    nodes: int = 128,
) -> np.ndarray:
    """Expectations of functions of the position of a diffusion, without sampling and without time steps.

        E f(θ_t) = u(θ₀, t),   u = exp(t A) f,   A = b D + ½ v D², v = 0 at the ends

    Spectrally accurate where drift, variance and functions are smooth, 1e-9 and better with a few nodes per width of
    the law that develops.

    Args:
        process: one coordinate, no momentum; its dt plays no role
        functions: f, each from an array of positions to an array of values
        start: θ₀
        time: t ≥ 0, in steps × lr
        interval: (a, c) around the paths, with ends where practically nothing arrives; there is no noise at them
        nodes: number of Chebyshev points; the result is compared with that of three quarters of them
    Returns:
        one number per function
    Raises:
        ValueError: if the start is outside, a number does not fit, or the nodes do not resolve the solution
        TypeError: if the process is not a diffusion on the line without momentum
    """
    checks.kind("process", process, Diffusion, "fd.flows.Diffusion(landscape, method, noise)")
    if not isinstance(process, Diffusion) or process.dim != 1 or process.method.inertial:
        raise TypeError(f"this needs a Diffusion with one coordinate and no momentum, got {process!r}")
    (low, high) = checks.interval("interval", interval)
    start = float(checks.number("start", start, one=True))
    if not low < start < high:
        raise ValueError(f"start must lie inside the interval ({low:g}, {high:g}), got {start:g}")
    time = checks.number("time", time, at_least=0, one=True)
    for one in checks.sequence("functions", functions, "functions"):
        checks.function("functions", one, "functions of an array of points", 1)
    nodes = checks.count("nodes", nodes, at_least=8)
    memory.check_memory(memory.array_bytes(12, nodes, nodes), "the generator", "take fewer `nodes`")
    fine, rough = (_expected(process, functions, start, time, low, high, n) for n in (nodes, 3 * nodes // 4))
    if not np.allclose(fine, rough, rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"{nodes} nodes on ({low:g}, {high:g}) do not resolve this: {fine} against {rough} with fewer. Take more "
            "nodes, a shorter time, or a shorter interval on which the coefficients vary less and at whose ends the "
            "drift leads inside"
        )
    return fine


def _expected(process, functions, start, time, low, high, nodes) -> np.ndarray:
    unit, derivative = _chebyshev(nodes)
    points, derivative = low + (unit + 1) / 2 * (high - low), derivative * 2 / (high - low)
    line = process.on_a_line()
    drift, variance = line["drift"](points), np.array(line["variance"](points))
    variance[[0, -1]] = 0  # paths leave the ends as the drift leads: inside, or for good where it leads outside
    generator = drift[:, None] * derivative + 0.5 * variance[:, None] * (derivative @ derivative)
    values = np.stack([np.asarray(function(points), float) for function in functions], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        values = scipy.linalg.expm(time * generator) @ values
    return scipy.interpolate.BarycentricInterpolator(points, values, rng=0)(start)


def _chebyshev(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in [−1, 1], increasing, and the matrix that differentiates the polynomial through values there."""
    angles = np.pi * np.arange(nodes) / (nodes - 1)
    points = -np.cos(angles)
    weights = np.where(np.isin(np.arange(nodes), [0, nodes - 1]), 2.0, 1.0) * (-1.0) ** np.arange(nodes)
    # x_i − x_j by the product formula: the plain difference loses digits near the ends.
    total, half = angles[:, None] + angles, angles[:, None] - angles
    differences = 2 * np.sin(total / 2) * np.sin(half / 2) + np.eye(nodes)
    matrix = np.outer(weights, 1 / weights) / differences
    matrix -= np.diag(matrix.sum(axis=1))
    return points, matrix
