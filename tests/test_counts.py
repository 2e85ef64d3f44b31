"""Methods whose steps differ by a count: what asks for one map, or for each step's, sees the count."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn import stability

BOWL = fd.landscapes.saddle((2.0, 1.0))
LINE = fd.landscapes.saddle((1.0,))
LR, STEPS = 0.1, 6


def fall(k):
    return 1 / (1 + k)


def rise(k):
    return jnp.minimum(k / 10, 1.0)


# --- second moments, step by step -----------------------------------------------------------------------------
# A noisy path at curvature 1 from 0 is linear in its draws: each row holds how much of every draw is in w, so that its
# square is the variance. Plain loops from the docstrings; draws enter as g = w + ξ.

DRAWS = np.eye(STEPS)


def descent(sizes, mu=0.0, tau=0.0, first=None, velocity=0.0):
    """How much of each draw, and of one, is in w after every step; `first` is the share that b₁ takes of g₀."""
    w, v, path = np.zeros(STEPS + 1), np.append(np.zeros(STEPS), velocity), []
    for k, size in enumerate(sizes):
        share = first if first is not None and k == 0 else 1 - tau
        v = mu * v - size * share * (w + np.append(DRAWS[k], 0))
        w = w + v
        path.append(w)
    return np.array(path)


def looking_ahead():
    fast, slow, path = np.zeros(STEPS + 1), np.zeros(STEPS + 1), []
    for k in range(STEPS):
        fast = fast - LR * (fast + np.append(DRAWS[k], 0))
        if k % 2 == 1:
            fast = slow = slow + 0.3 * (fast - slow)
        path.append(fast)
    return np.array(path)


PLAIN = descent([LR] * STEPS)
COUNTED = {
    "schedule": (fd.Scheduled(fd.GD(LR), fall), descent([LR / (1 + k) for k in range(STEPS)])),
    "optax": (fd.from_optax(optax.sgd(lambda k: LR / (1 + k))), descent([LR / (1 + k) for k in range(STEPS)])),
    "switch": (fd.Switched((fd.GD(LR), 2), (fd.GD(0.5), None)), descent([LR, LR, 0.5, 0.5, 0.5, 0.5])),
    "first": (fd.GD(LR, 0.9, dampening=0.5, start="first"), descent([LR] * STEPS, 0.9, 0.5, first=1.0)),
    "twice": (fd.GD(LR, 0.9, start="twice"), descent([LR] * STEPS, 0.9, first=1.9)),
    "velocity": (fd.Started(fd.GD(LR, 0.9), [0.7]), descent([LR] * STEPS, 0.9, velocity=0.7)),
    "lookahead": (fd.methods.Lookahead(fd.GD(LR), 2, 0.3), looking_ahead()),
    "average": (fd.Averaged(fd.GD(LR)), np.cumsum(PLAIN, axis=0) / np.arange(2, STEPS + 2)[:, None]),
}


@pytest.mark.parametrize("name", COUNTED)
def test_displacements_are_of_the_steps_that_a_method_takes(name):
    method, path = COUNTED[name]
    found = fd.escape.msd_theory(method, 1.0, STEPS, scale=1.0)
    assert_allclose(found[1:], (path**2).sum(axis=1), rtol=1e-12)  # sums of a few products: rounding
    still = fd.escape.msd_theory(fd.GD(LR, 0.9 if "velocity" in name else 0.0), 1.0, STEPS, scale=1.0)
    assert np.abs(found / np.where(still, still, 1) - 1)[1:].max() > 0.05  # a count that is ignored would be seen


# --- the map in the end ---------------------------------------------------------------------------------------


def multipliers(method):
    return stability.multipliers(method, BOWL, at=(0.0, 0.0))


def test_multipliers_of_a_schedule_are_those_past_its_warm_up():
    assert_allclose(multipliers(fd.Scheduled(fd.GD(LR), rise)), [0.9, 0.8], rtol=1e-12)
    # a step that falls for ever is that of a late step, as for optax: within 1/LATE of standing still
    assert_allclose(multipliers(fd.Scheduled(fd.GD(LR), fall)), [1, 1], atol=1e-6)
    assert_allclose(
        fd.stationary.covariance(fd.Scheduled(fd.SGLD(LR, 1.0), rise), LINE), [[1 / (1 - LR / 2)]], rtol=1e-12
    )
    assert_allclose(fd.stationary.covariance(fd.Scheduled(fd.SGLD(LR, 1.0), fall), LINE), [[1]], rtol=1e-6)


LOOK = fd.methods.LookSAM(LR, 0.1, 2, 0.5, eps=0.1)
AHEAD = fd.methods.Lookahead(fd.GD(LR), 3, 0.5)
FIRST = fd.GD(LR, 0.9, dampening=0.5, start="first")


@pytest.mark.parametrize("inner", [LOOK, AHEAD], ids=["LookSAM", "Lookahead"])
def test_what_counts_inside_of_another_method_keeps_its_period(inner):
    alone = multipliers(inner)
    later = fd.Switched((fd.GD(LR), 5), (inner, None), memory="reset")
    assert later.period == inner.period > 1
    assert_allclose(multipliers(later), alone, rtol=1e-12, atol=1e-12)
    block = fd.Alternating([inner, fd.GD(0.2)], [(1, 0), (0, 1)])
    assert block.period == inner.period
    found = multipliers(block)
    for wanted in (alone[1], 0.8**inner.period):  # that of curvature 2, and descent's at curvature 1
        assert np.abs(found - wanted).min() < 1e-12


def test_blocks_are_asked_past_what_their_first_steps_do():
    block = fd.Alternating([FIRST, fd.from_optax(optax.sgd(lambda k: jnp.minimum(k, 10) / 100))], [(1, 0), (0, 1)])
    usual = fd.Alternating([fd.GD(LR, 0.9, dampening=0.5), fd.GD(LR)], [(1, 0), (0, 1)])
    found, wanted = map(multipliers, (block, usual))
    for value in wanted[np.abs(wanted) > 0.01]:
        assert np.abs(found - value).min() < 1e-6  # optax computes its step size in 32 bits
    assert fd.Alternating([fd.SAM(LR, 0.1), fd.GD(LR)], [(1, 0), (0, 1)]).jumps


@pytest.mark.parametrize(
    "method",
    [
        fd.Averaged(fd.GD(LR)),
        fd.Averaged(fd.GD(LR), every=5, decay=0.9),
        fd.Averaged(fd.GD(LR), decay=lambda n: 0.5 + 0.2 * (n % 2)),
        fd.Scheduled(fd.GD(LR), lambda k: 1 + 0.5 * (k % 3)),
        fd.Switched((fd.GD(LR), 5), (fd.Averaged(fd.GD(LR)), None), memory="reset"),
    ],
    ids=["uniform", "every", "decay", "schedule", "inside"],
)
def test_what_never_comes_to_one_map_has_none(method):
    with pytest.raises(ValueError, match="one step is not their map"):
        multipliers(method)


def test_an_average_that_forgets_is_a_map():
    assert_allclose(multipliers(fd.Averaged(fd.GD(LR), decay=0.6, start=7)), [0.9, 0.8, 0.6, 0.6], rtol=1e-12)
    warm = fd.Averaged(fd.GD(LR), decay=lambda n: jnp.minimum(0.6, (1 + n) / (10 + n)))
    assert_allclose(multipliers(warm), [0.9, 0.8, 0.6, 0.6], rtol=1e-12)


def test_a_law_in_symbols_is_of_a_map_that_is_the_same_at_every_step():
    h, T, k = sympy.symbols("h T lambda", positive=True)
    with pytest.raises(TypeError, match="only after 3: ask simulate"):
        fd.stationary.formula(fd.methods.Lookahead(fd.SGLD(h, T), 3), fd.landscapes.saddle((k,)))


@pytest.mark.parametrize(
    ("method", "name"),
    [(fd.SAM(LR, 0.1), "p"), (fd.SAM(LR, 0.1), "ascents"), (LOOK, "k"), (AHEAD, "k"), (AHEAD, "start")],
)
def test_what_is_part_of_the_program_has_no_schedule(method, name):
    with pytest.raises(TypeError, match=f"{name} is no number of the method"):
        fd.Scheduled(method, **{name: fall})


def test_simulated_moments_agree():
    """Of the one that is furthest from a law of one step; 20,000 runs, so one in 10⁴ keys is beyond four deviations."""
    process = fd.Iteration(LINE, COUNTED["first"][0], fd.noise.Gaussian(1.0))
    ends = fd.simulate(process, np.zeros((20_000, 1)), STEPS, jax.random.key(1), every=STEPS).final[:, 0]
    wanted = fd.escape.msd_theory(COUNTED["first"][0], 1.0, STEPS, scale=1.0)[-1]
    assert abs(np.mean(ends**2) / wanted - 1) < 4 * np.sqrt(2 / 20_000)
