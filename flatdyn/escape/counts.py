"""Escapes as counts: runs collapsed to their distinct times, and what every estimate of survival needs of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flatdyn.core import checks


class RiskTable(NamedTuple):
    """Runs collapsed to their distinct times: escapes, censored runs, and runs at risk there (time ≥ this one)."""

    times: np.ndarray
    exits: np.ndarray
    lost: np.ndarray
    at_risk: np.ndarray

    @property
    def runs(self) -> float:
        return self.at_risk[0]

    @property
    def survival(self) -> np.ndarray:
        return np.cumprod(1 - self.exits / self.at_risk)

    def check_watched(self, name: str, time: float) -> None:
        """Raises ValueError if `time` is later than what was watched, while runs were still inside."""
        if time > self.times[-1] and self.survival[-1] > 0:
            last = f"{self.times[-1]:g}"
            raise ValueError(f"{name} must be at most {last}: some runs were still inside then, got {time:g}")

    def truncated(self, until: float) -> RiskTable:
        """The same runs, watched until `until` at most."""
        kept = self.times <= until
        times = np.union1d(self.times[kept], [until])
        exits, lost = (np.resize(np.append(x[kept], 0), len(times)) for x in (self.exits, self.lost))
        lost[-1] += (self.exits + self.lost)[~kept].sum()
        at_risk = np.maximum(np.cumsum((exits + lost)[::-1])[::-1], 1)  # none leaves where no run is at risk
        return RiskTable(times, exits, lost, at_risk)

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Escapes, and runs at risk, at given times."""
        place = np.searchsorted(self.times, times)
        at_risk = np.append(self.at_risk, 0)[place]
        exact = np.append(self.times, np.nan)[place] == times
        return np.where(exact, np.append(self.exits, 0)[place], 0), at_risk

    def area(self) -> np.ndarray:
        """Area under Ŝ from 0, and from just after each distinct time, to the last one: shape (1 + times,)."""
        heights = np.concatenate([[1.0], self.survival[:-1]])
        pieces = heights * np.diff(self.times, prepend=0.0)
        return np.append(np.cumsum(pieces[::-1])[::-1], 0.0)

    def effective_runs(self) -> np.ndarray:
        """n* at each distinct time after the first escape; where all have left, as before the last one did."""
        curve = self.survival
        with np.errstate(divide="ignore", invalid="ignore"):
            greenwood = np.cumsum(self.exits / (self.at_risk * (self.at_risk - self.exits)))
            runs = (1 - curve) / (curve * greenwood)
        inside = np.flatnonzero((curve > 0) & (curve < 1))
        return np.where(curve == 0, runs[inside[-1]] if len(inside) else self.at_risk[-1], runs)


def risk_table(steps: Any, escaped: Any, whose: str = "") -> RiskTable:
    """The table of a sample; raises ValueError, which names the sample as `whose` says, if it is none."""
    steps, escaped = checks.numbers(f"steps{whose}", steps), checks.flags(f"escaped{whose}", escaped)
    if steps.ndim != 1 or steps.shape != escaped.shape or steps.size == 0:
        raise ValueError(f"steps, escaped{whose} must be rows of one length > 0, got {steps.shape}, {escaped.shape}")
    checks.number("steps", steps, at_least=0)
    checks.number("steps of an escape", steps[escaped], above=0)
    times, where = np.unique(steps, return_inverse=True)
    exits = np.bincount(where, escaped, len(times))
    lost = np.bincount(where, ~escaped, len(times))
    return RiskTable(times.astype(float), exits, lost, np.cumsum((exits + lost)[::-1])[::-1])
