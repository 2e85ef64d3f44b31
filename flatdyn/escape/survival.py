"""How long do runs stay, when not all of them were seen to leave? Means, quantiles, curves and rates with errors.

Every function takes two arrays with one entry for each run: `steps`, the time of its escape T, and `escaped`. Where
`escaped` is False the run was still inside at that time, and T is known to be larger: it is censored. Leaving such
runs out, or counting the cap as their escape, would make every process look faster than it is.

    Ŝ(k) = Π_{j ≤ k} (1 − dⱼ/nⱼ)        Kaplan–Meier, for S(k) = P(T > k)

with dⱼ escapes at time j among the nⱼ runs then inside. The reason why a run is censored must not depend on where it
is: a common cap is fine, throwing out runs that look slow is not. Times may be steps or real numbers.

References:
    Kaplan and Meier, JASA 53, 457 (1958); Andersen et al., Statistical Models Based on Counting Processes (1993).
    The tests compare with scipy.stats, whose logrank (1.17) multiplies counts as integers too narrow for 10⁶ runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy

from flatdyn.core import checks
from flatdyn.core.statistics import binomial_error, sem_of_interval
from flatdyn.escape.counts import RiskTable, risk_table

_LATE_ESCAPES = 10  # fewer than these after the median escape say nothing about the tail: then all are used


class Mean(NamedTuple("Mean", [("value", float), ("stderr", float), ("censored", float)])):
    """A mean that unpacks into exactly (value, standard error, share of censored runs); `estimator` says how."""

    def __new__(cls, value: float, stderr: float, censored: float, estimator: str = ""):
        self = super().__new__(cls, float(value), float(stderr), float(censored))
        self.estimator = estimator
        return self

    def __repr__(self) -> str:
        return f"Mean({self.value:.6g} +- {self.stderr:.2g}, {self.censored:.3g} censored: {self.estimator})"


class Quantile(NamedTuple("Quantile", [("value", float), ("lower", float), ("upper", float)])):
    """A quantile and its confidence interval of `level`; infinite where it lies beyond what was watched."""

    def __new__(cls, value: float, lower: float, upper: float, level: float = 0.95):
        self = super().__new__(cls, float(value), float(lower), float(upper))
        self.level = level
        return self

    @property
    def stderr(self) -> float:
        """Standard error, as if the law were normal: :func:`flatdyn.statistics.sem_of_interval`."""
        return float(sem_of_interval(self.lower, self.upper, self.level))


class Survival(NamedTuple):
    """P(T > k) at `steps`, with a pointwise confidence band; arrays of one shape."""

    steps: np.ndarray
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Rate(NamedTuple):
    """An escape rate per unit of `steps`, from `events` escapes later than `after`."""

    value: float
    stderr: float
    lower: float
    upper: float
    events: int
    after: float


class Comparison(NamedTuple):
    """See :func:`compare`. Ratios are a over b, each with its standard error and its interval (lower, upper)."""

    statistic: float
    pvalue: float
    mean_ratio: float
    mean_interval: tuple[float, float]
    hazard_ratio: float
    hazard_interval: tuple[float, float]
    estimator: str
    mean_stderr: float
    hazard_stderr: float


def mean(
    steps: Any, escaped: Any, *, restricted: bool = False, until: float | None = None, after: float | None = None
) -> Mean:
    """Mean escape time with its standard error, censored runs accounted for.

        no censoring     T̄ = (1/n) Σ Tᵢ
        censoring        Σ Ŝ up to the last time K,  plus Ŝ(K)/h,   h = escapes / time at risk, both after `after`
        restricted       mean of min(T, K) alone, without any assumption on what comes later

    The second assumes that from `after` on the rate is constant, as it is for a process in its quasi-stationary state.
    `estimator` says so if it is seen to change between the two halves of the late escapes (by 2.5 standard errors), or
    if the tail was watched too shortly to see it: raise the cap then. The standard error, from the influence of each
    run on Ŝ and h, does not know of a wrong assumption. It is that of the estimate; the variance that lifelines'
    `restricted_mean_survival_time(..., return_variance=True)` returns is that of min(T, K) itself, n times as large.

    Args:
        steps: time of escape, or time until which a run was seen inside, shape (runs,)
        escaped: whether it escaped, shape (runs,) bool
        restricted: mean of min(T, K)
        until: K of the restricted mean; the last time if not given
        after: where the tail begins; if not given, the median of the observed escapes (0 if fewer than 10 came later)
    Returns:
        Mean: value, standard error, share of censored runs. None escaped: infinite value; a single run: infinite error
    Raises:
        ValueError: if the arrays do not fit each other; if `until` is not for a restricted mean, or beyond the last
            time; if nothing escaped later than `after`
    """
    table = risk_table(steps, escaped)
    if until is not None:
        if not checks.flag("restricted", restricted):
            raise ValueError("until belongs to the restricted mean: give restricted=True with it")
        until = checks.number("until", until, above=0, one=True)
        table.check_watched("until", until)
        table = table.truncated(until)
    share = table.lost.sum() / table.runs
    last, tail = table.times[-1], float(table.survival[-1])
    if checks.flag("restricted", restricted):
        stderr = _mean_error(table, 0.0) if table.exits.any() else last * float(binomial_error(0, table.runs))
        return Mean(table.area()[0], stderr, share, f"mean of min(escape time, {last:g})")
    if not table.exits.any():
        bound = _rate(table, 0.0, 0.90).upper
        exceeds = f"if the rate is constant it exceeds {1 / bound:.3g} (95 %)" if bound < np.inf else "nothing was seen"
        return Mean(np.inf, np.inf, 1.0, f"no run escaped; {exceeds}")
    if tail == 0:
        name = "sample mean" if share == 0 else "Kaplan-Meier mean"
        return Mean(table.area()[0], _mean_error(table, 0.0), share, name)
    late = _rate(table, _start_of_tail(table, after), 0.95)
    if late.events == 0:
        raise ValueError(f"no run escaped after {late.after:g}: choose a smaller `after`, or ask for restricted=True")
    name = f"mean up to {last:g} plus exponential tail at the rate after {late.after:g} ({late.events} escapes)"
    value = table.area()[0] + tail / late.value
    return Mean(value, _mean_error(table, tail / late.value, late), share, name + _trend(table, late.after))


def quantile(steps: Any, escaped: Any, q: float, level: float = 0.95) -> Quantile:
    """The smallest time by which a share q has escaped, with a confidence interval.

        k_q = min {k : Ŝ(k) ≤ 1 − q}

    The interval inverts the band of :func:`survival`; without censoring it is the exact one between order statistics.

    Args:
        steps, escaped: as for :func:`mean`
        q: share in (0, 1)
        level: of the interval
    Returns:
        Quantile: value, lower, upper. Where the share was not reached the value is infinite and `lower` is what is
        known: at most the last time watched
    """
    q = checks.number("q", q, above=0, below=1, one=True)
    table, level = risk_table(steps, escaped), checks.number("level", level, above=0, below=1, one=True)
    height = 1 - q + 1e-12  # Ŝ is a product of shares: it may round to just above the height that it has
    reached = [np.flatnonzero(curve <= height) for curve in _band(table, table.times, level)[1:]]
    value, lower, upper = (float(table.times[places[0]]) if len(places) else np.inf for places in reached)
    return Quantile(value, min(lower, float(table.times[-1])), upper, level)


def median(steps: Any, escaped: Any, level: float = 0.95) -> Quantile:
    """The median escape time; :func:`quantile` at ½."""
    return quantile(steps, escaped, 0.5, level)


def survival(steps: Any, escaped: Any, at: Any = None, level: float = 0.95) -> Survival:
    """The share of runs that are still inside after k steps, P(T > k), by Kaplan and Meier, with a confidence band.

    The band is pointwise: Clopper and Pearson's exact interval for a share, of n* runs,

        n* = Ŝ (1 − Ŝ)/V,   V = Greenwood's variance of Ŝ

    which is the number of runs as long as none was censored. It does not collapse where Ŝ is 1 or 0.

    Args:
        steps, escaped: as for :func:`mean`
        at: times, shape (times,); 0 and every time that occurs if not given
        level: of the band
    Returns:
        Survival: steps, value, lower, upper, each of shape (times,)
    Raises:
        ValueError: if `at` is negative, or beyond the last time watched while runs were still inside
    References:
        Korn and Graubard, Survey Methodology 24, 193 (1998), for the effective number.
    """
    table, level = risk_table(steps, escaped), checks.number("level", level, above=0, below=1, one=True)
    if at is None:
        at = np.union1d([0], table.times)
    at = np.asarray(checks.number("at", checks.numbers("at", at), at_least=0))
    table.check_watched("at", at.max(initial=0))
    return _band(table, at, level)


def rate(steps: Any, escaped: Any, after: float | None = None, level: float = 0.95) -> Rate:
    """The rate at which runs leave once they are in their quasi-stationary state.

        h = d/E,   d escapes later than `after`,   E = Σ max(Tᵢ − after, 0)

    the maximum likelihood estimate of an exponential tail; for whole steps of a geometric one, where h is the share of
    the remaining runs that leaves in a step, 1 − (leading eigenvalue of the transfer operator). The interval is that
    of a Poisson count, too wide by (1 − h)^(−½) for a geometric law; the error √(d + ½)/E is not zero for d = 0.

    Args:
        steps, escaped: as for :func:`mean`
        after: where the tail begins; as for :func:`mean` if not given
        level: of the interval
    Raises:
        ValueError: if no run was watched beyond `after`
    """
    table, level = risk_table(steps, escaped), checks.number("level", level, above=0, below=1, one=True)
    after = _start_of_tail(table, after)
    if after >= table.times[-1]:
        raise ValueError(f"no run was watched beyond {after:g}: choose a smaller `after`")
    return _rate(table, after, level)


def compare(a: Any, b: Any, level: float = 0.95) -> Comparison:
    """Does one process leave at another rate than the other, and by how much?

        log-rank test    z = (O − E)/√V,  O, E: escapes of a, seen and expected if both had one rate at every time
        mean ratio       mean(a)/mean(b), interval and error from those of the logarithms
        hazard ratio     Mantel–Haenszel: Σ dᵃ nᵇ/n over Σ dᵇ nᵃ/n; > 1 where a leaves faster

    Where the order of the two rates changes in time the test may miss the difference, and one hazard ratio hides it.

    Args:
        a, b: (steps, escaped), or anything with attributes `steps` and `escaped`
        level: of the intervals
    Raises:
        ValueError: if no run of either escaped
    References:
        Mantel, Cancer Chemotherapy Reports 50, 163 (1966); Greenland and Robins, Biometrics 41, 55 (1985), for the
        error of the hazard ratio.
    """
    width = scipy.stats.norm.ppf(0.5 + checks.number("level", level, above=0, below=1, one=True) / 2)
    for name, x in {"a": a, "b": b}.items():
        if not hasattr(x, "escaped") and not (isinstance(x, tuple | list) and len(x) == 2):
            raise TypeError(f"{name} must be a pair (steps, escaped), or an Escapes, got {checks.shown(x)}")
    a, b = ((x.steps, x.escaped) if hasattr(x, "escaped") else x for x in (a, b))
    first, second = risk_table(*a, " of a"), risk_table(*b, " of b")
    if not (first.exits.any() or second.exits.any()):
        raise ValueError("no run of either sample escaped: there is nothing to compare; run longer")
    times = np.union1d(first.times[first.exits > 0], second.times[second.exits > 0])
    (da, na), (db, nb) = first.at(times), second.at(times)
    d, n = da + db, na + nb
    excess = da.sum() - (d * na / n).sum()
    variance = (d * (na / n) * (nb / n) * (n - d) / np.maximum(n - 1, 1)).sum()
    z = excess / np.sqrt(variance) if variance > 0 else 0.0
    up, down = (da * nb / n).sum(), (db * na / n).sum()
    spread = (d * na * nb / n**2).sum()
    rates, rates_stderr, rates_interval = _ratio(
        up, down, np.sqrt(spread / (up * down)) if up * down > 0 else np.inf, width
    )
    mean_a, mean_b = mean(*a), mean(*b)
    relative = np.hypot(*(m.stderr / m.value if m.value < np.inf else np.inf for m in (mean_a, mean_b)))
    means, means_stderr, means_interval = _ratio(mean_a.value, mean_b.value, relative, width)
    pvalue, how = 2 * scipy.stats.norm.sf(abs(z)), f"a: {mean_a.estimator}; b: {mean_b.estimator}"
    return Comparison(
        statistic=float(z),
        pvalue=float(pvalue),
        mean_ratio=means,
        mean_interval=means_interval,
        hazard_ratio=rates,
        hazard_interval=rates_interval,
        estimator=how,
        mean_stderr=means_stderr,
        hazard_stderr=rates_stderr,
    )


# --- estimates from the counts -------------------------------------------------------------------------------


def _mean_error(table: RiskTable, tail: float, late: Rate | None = None) -> float:
    """Standard error of the area under Ŝ plus tail = Ŝ(K)/h, from the influence of each run on it.

    Escapes at u act on all of the area after u; per unit of Λ(u) = d/n they take area/(1 − d/n) away.
    """
    n = table.runs
    if n < 2:
        return np.inf
    hazard = table.exits / table.at_risk
    beyond = table.area()[1:] + tail
    lever = np.divide(beyond, 1 - hazard, out=np.zeros_like(beyond), where=hazard < 1) * n / table.at_risk
    drift = np.cumsum(lever * hazard)
    of_exits, of_lost = drift - lever, drift
    if late is not None:
        exposure = np.maximum(table.times - late.after, 0)
        total = exposure @ (table.exits + table.lost)
        leave = table.times > late.after
        of_exits = of_exits - tail / late.value * (leave - late.value * exposure) * n / total
        of_lost = of_lost + tail * exposure * n / total
    unit = 2.0 ** np.frexp(max(np.abs(of_exits).max(), np.abs(of_lost).max()))[1]  # squares may be beyond all numbers
    squares = table.exits @ (of_exits / unit) ** 2 + table.lost @ (of_lost / unit) ** 2
    return float(unit * np.sqrt(squares / (n * (n - 1))))


def _start_of_tail(table: RiskTable, after: float | None) -> float:
    if after is not None:
        return float(checks.number("after", after, at_least=0, one=True))
    middle = table.times[np.searchsorted(np.cumsum(table.exits), table.exits.sum() / 2)]
    return float(middle) if table.exits[table.times > middle].sum() >= _LATE_ESCAPES else 0.0


def _rate(table: RiskTable, after: float, level: float) -> Rate:
    events = float(table.exits[table.times > after].sum())
    exposure = float(np.maximum(table.times - after, 0) @ (table.exits + table.lost))
    if exposure == 0:
        return Rate(0.0, np.inf, 0.0, np.inf, 0, after)
    lower = scipy.stats.gamma.ppf((1 - level) / 2, events) if events else 0.0
    upper = scipy.stats.gamma.ppf((1 + level) / 2, events + 1)
    stderr = float(np.sqrt(events + 0.5) / exposure)
    return Rate(events / exposure, stderr, float(lower / exposure), float(upper / exposure), int(events), after)


def _trend(table: RiskTable, after: float) -> str:
    """The remark of the estimator if the late rate is not seen to be constant."""
    late = np.where(table.times > after, table.exits, 0)
    middle = table.times[np.searchsorted(np.cumsum(late), late.sum() / 2)]
    first, second = _rate(table.truncated(middle), after, 0.95), _rate(table, middle, 0.95)
    error = np.sqrt(1 / max(first.events, 1) + 1 / max(second.events, 1))
    change = np.log(second.value / first.value) / error if min(first.events, second.events) >= _LATE_ESCAPES else 0.0
    watched = table.times[-1] - after
    if abs(change) > 2.5:
        return f"; the rate still changes there ({change:+.1f} standard errors), so the tail is a guess"
    # The median escape of an exponential law comes before the middle of the time watched, or there.
    if watched < after / 2 and error > 0.05:
        return f"; watched for only {watched:g} more, too short to tell whether the rate is constant"
    return ""


def _band(table: RiskTable, at: np.ndarray, level: float) -> Survival:
    """Ŝ and its band at given times."""
    place = np.searchsorted(table.times, at, side="right") - 1
    watched = np.append(table.at_risk, 0)[np.searchsorted(table.times, at)]
    value = np.append(table.survival, 1.0)[place]  # place −1: before the first time
    runs = np.where(value == 1, watched, np.append(table.effective_runs(), 1.0)[place])
    kept, gone = runs * value, runs * (1 - value)
    lower = scipy.stats.beta.ppf((1 - level) / 2, np.where(kept > 0, kept, 1), gone + 1)
    upper = scipy.stats.beta.ppf((1 + level) / 2, kept + 1, np.where(gone > 0, gone, 1))
    return Survival(at, value, np.where(kept > 0, lower, 0.0), np.where(gone > 0, upper, 1.0))


def _ratio(up: float, down: float, error: float, width: float) -> tuple[float, float, tuple[float, float]]:
    """up/down, its standard error, and its interval, from the error of its logarithm; ∞ and (0, ∞) if that is ∞.

    r = up/down,   s.e. = r s,   (r exp(−w s), r exp(w s)),   s the error of log r, w the interval's width in units of s
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.float64(up) / np.float64(down))
    if error == np.inf:
        return value, np.inf, (0.0, np.inf)
    return value, value * float(error), (value * float(np.exp(-error * width)), value * float(np.exp(error * width)))
