"""Other ways to look at runs: several passes as one, several calls of a step as one step, an average's iterates."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from flatdyn.audits.fits import fit
from flatdyn.audits.runs import Recording, distinct


def accumulated(run: Recording) -> Recording | None:
    """Calls of a step that are all at one point as one call, of the mean; None if they are not."""
    made = []
    for calls in run.calls:
        if len(calls) < 2 or any(not np.array_equal(call.point, calls[0].point) for call in calls):
            return None
        gradient = np.mean([call.gradient for call in calls], axis=0)
        made.append(
            (dataclasses.replace(calls[0], gradient=gradient, shift=np.mean([c.shift for c in calls], axis=0)),)
        )
    return dataclasses.replace(run, calls=tuple(made))


def together(run: Recording, number: int) -> Recording:
    """Several steps as one."""
    steps = len(run.calls) // number
    calls = [sum(run.calls[i * number : (i + 1) * number], ()) for i in range(steps)]
    positions = run.positions[: steps * number + 1 : number]
    made = dataclasses.replace(run, positions=positions, calls=tuple(calls))
    return accumulated(made) or made


def first_points(run: Recording) -> np.ndarray:
    """Where the first gradient of each step was asked for, shape (steps, dim)."""
    return np.array([calls[0].point for calls in run.calls])


def _firsts(run: Recording) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where the first gradient of each step was asked for, and the parameters before the step."""
    return [(calls[0].point, at) for calls, at in zip(run.calls, run.positions, strict=False) if calls]


def behind_average(runs: list[Recording]) -> tuple[list[Recording], float | None] | None:
    """The iterates of which runs return an average, and d of an exponential one, None of a uniform one.

    a⁺ = a + share (θ − a), where θ is the point at which the next gradient is asked for.
    """
    shares: list[float] = []
    if not runs or all(np.array_equal(first, at) for run in runs for first, at in _firsts(run)):
        return None
    for run in runs:
        if len(run.calls) < 4 or not all(run.calls):
            return None
        points = first_points(run)
        gaps, moves = points[1:] - run.positions[:-2], run.moves[:-1]
        for gap, move in zip(gaps, moves, strict=True):
            one = fit({"gap": gap}, move)
            if one.left > 1e-8:
                return None
            shares.append(one["gap"])
    by_step = np.array(shares).reshape(len(runs), -1)
    if np.ptp(by_step, axis=0).max() > 1e-8 or np.allclose(by_step, 1, atol=1e-8):
        return None
    share, uniform = by_step[0], 1 / np.arange(2, by_step.shape[1] + 2)
    if np.ptp(share) <= 1e-8:
        decay: float | None = float(1 - share[-1])
    elif np.ptp(share[1:]) <= 1e-8 and abs(share[0] - 1) <= 1e-8:
        decay = float(1 - share[-1])
    elif np.allclose(share, uniform, atol=1e-8):
        decay = None
    else:
        return None
    made = [dataclasses.replace(run, positions=first_points(run), calls=run.calls[:-1]) for run in runs]
    return made, decay


def on_other_minibatch(runs: list[Recording]) -> bool:
    """Whether calls of one step at different points see different minibatches."""
    for run in runs:
        for k, calls in enumerate(run.calls):
            kept = distinct(calls)
            moved = any(not np.array_equal(call.point, kept[0].point) for call in kept[1:])
            if moved and len({call.batch for call in kept}) > 1 and (k or kept[-1].batch[1]):
                return True
    return False


def of_old_minibatch(runs: list[Recording]) -> bool:
    """Whether a gradient is asked for on the minibatch of an earlier step."""
    return any(call.batch[0] < k for run in runs for k, calls in enumerate(run.calls) for call in calls)


def moves_statistics_again(runs: list[Recording]) -> bool:
    """Whether more than one call of a step moves running statistics."""
    return any(sum(call.counted for call in calls) > 1 for run in runs for calls in run.calls)


def coarse(runs: list[Recording]) -> str | None:
    """The type of few bits on whose grid all points lie at which gradients were asked for; None in 64 bits."""
    points = [call.point for run in runs for calls in run.calls for call in calls[-1:]]
    numbers = np.concatenate(points) if points else np.zeros(0)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return None

    for name, kind in (("bfloat16", jnp.bfloat16), ("float16", np.float16), ("float32", np.float32)):
        with np.errstate(over="ignore"):
            if np.array_equal(numbers.astype(kind).astype(np.float64), numbers):
                return name
    return None
