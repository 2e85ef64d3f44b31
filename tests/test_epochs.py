"""Shuffled passes through the data: every example once, orders that belong to run and epoch, and what follows them."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.core import randomness
from flatdyn.networks.training import training

KEY = jax.random.key(5)
UNLIKELY = 1e-5  # probability of a false alarm of one test of chance


def telling(n):
    """A landscape with ∇ℓᵢ = eᵢ: a step of η = 1 says which examples it took, and how much each counted."""
    return fd.Landscape.from_examples(lambda theta, e: -theta @ e, np.eye(n), dim=n)


def taken(noise, n, steps, runs, key=KEY, **options):
    """Weights of the examples in each step, shape (runs, steps, n)."""
    process = fd.Iteration(telling(n), fd.GD(1.0), noise)
    return np.diff(fd.simulate(process, np.zeros((runs, n)), steps, key, every=1, **options).theta, axis=1)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (70, 16)])  # ranks up to 64 examples, swaps beyond
@pytest.mark.parametrize("last", ["drop", "keep"])
def test_every_example_comes_once_in_an_epoch(n, size, last):
    noise = fd.noise.Epochs(size, last)
    steps, rest = noise.steps(n), n % size
    assert steps == (math.ceil(n / size) if last == "keep" else n // size)
    found = taken(noise, n, 2 * steps, 3).reshape(3, 2, steps, n)
    sizes = np.full(steps, size)
    if last == "keep" and rest:
        sizes[-1] = rest
    counts = found * sizes[:, None]  # the gradient of a minibatch is the mean over its own examples
    assert_allclose(counts, np.round(counts), atol=1e-12)
    assert_allclose(counts.sum(axis=-1), np.broadcast_to(sizes, (3, 2, steps)), atol=1e-12)
    once = np.round(counts.sum(axis=2))
    assert_array_equal(once.max(axis=-1), 1)
    assert_array_equal(once.sum(axis=-1), sizes.sum())
    orders = once if last == "drop" and rest else counts[:, :, 0]  # what is left out, or comes first, is another
    assert len(np.unique(np.round(orders.reshape(6, n)), axis=0)) > 3


def numbered(orders):
    """The number of each order among all, shape (...,) from (..., n)."""
    n = orders.shape[-1]
    return np.unique(orders @ n ** np.arange(n), return_inverse=True)[1].reshape(orders.shape[:-1])


@pytest.mark.parametrize("key", [0, 1, 2])
def test_all_orders_are_equally_likely_in_every_epoch_whatever_came_before(key):
    orders = taken(fd.noise.Epochs(1), 4, 12, 6000, jax.random.key(key)).argmax(axis=-1).reshape(6000, 3, 4)
    number = numbered(orders)
    for epoch in range(3):
        assert scipy.stats.chisquare(np.bincount(number[:, epoch], minlength=24)).pvalue > UNLIKELY
    for pair in ((number[:, 0], number[:, 1]), (number[:-1, 0], number[1:, 0])):  # next epoch, neighbouring run
        table = np.bincount(24 * pair[0] + pair[1], minlength=576)  # ten of each are expected
        assert scipy.stats.chisquare(table).pvalue > UNLIKELY


def test_swaps_leave_nothing_of_the_start():
    """The shuffle of many examples, asked for few, where all orders can be counted; and of many, place by place."""
    number = 6000

    @jax.jit
    def orders(seed):
        def one(run):
            key = randomness.run_key(seed, run, jnp.uint32(0))
            few = randomness.swapped(*randomness.split(key), jnp.arange(5), 5, 38)
            return few, randomness.shuffled(key, jnp.arange(100), 100)

        return jax.vmap(one)(jnp.arange(number, dtype=jnp.uint32))

    for key in range(3):
        few, many = map(np.asarray, orders(randomness.seed_words(jax.random.key(key))))
        assert scipy.stats.chisquare(np.bincount(numbered(few), minlength=120)).pvalue > UNLIKELY
        assert (np.sort(many, axis=1) == np.arange(100)).all()
        table = np.stack([np.bincount(column, minlength=100) for column in many.T])
        chi = ((table - number / 100) ** 2).sum() / (number / 100)
        assert scipy.stats.chi2.sf(chi, 99**2) > UNLIKELY
        for gap in (1, 50):  # two places together
            apart = np.bincount((many[:, gap] - many[:, 0]) % 100, minlength=100)[1:]
            assert scipy.stats.chisquare(apart).pvalue > UNLIKELY


@pytest.mark.parametrize("rounds", [24, 36])
def test_the_ideal_swap_or_not_shuffle_of_four_is_uniform_as_fast_as_said(rounds):
    """All that a round can do to four cards, with its probability: the distance to uniform falls by 0.625 a round."""
    orders = list(itertools.permutations(range(4)))
    law = dict.fromkeys(orders, 0.0) | {orders[0]: 1.0}
    moves = []
    for total in range(4):
        pairs = [(x, (total - x) % 4) for x in range(4) if x < (total - x) % 4]
        for swapped in itertools.product((False, True), repeat=len(pairs)):
            move = list(range(4))
            for (x, y), swap in zip(pairs, swapped, strict=True):
                move[x], move[y] = (y, x) if swap else (x, y)
            moves.append((move, 0.25 * 0.5 ** len(pairs)))
    for _ in range(rounds):
        after = dict.fromkeys(orders, 0.0)
        for order, share in law.items():
            for move, chance in moves:
                after[tuple(move[x] for x in order)] += share * chance
        law = after
    distance = sum(abs(share - 1 / 24) for share in law.values()) / 2
    assert 0 < distance < 2 * 0.625**rounds  # 36 rounds, those of four examples: 3e-8


def test_the_numbers_belong_to_run_and_step():
    """Bit for bit, however many runs there are, in whatever chunks, and in lanes that others have left."""
    noise = fd.noise.Epochs(2)
    whole = taken(noise, 5, 9, 130)
    assert_array_equal(whole[:3], taken(noise, 5, 9, 3))
    assert_array_equal(whole, taken(noise, 5, 9, 130, chunk=64))
    saddle = fd.Landscape.from_examples("-(x - c)**2/2", {"c": [-1.0, 0.3, 0.9, -0.2]}, symbols="x")
    process = fd.Iteration(saddle, fd.SAM(0.2, 0.05, momentum=0.5), noise)
    starts = np.linspace(-0.5, 0.5, 300)[:, None]
    escapes = fd.escape_times(process, starts, fd.escape.Ball([0.0], 1.0), max_steps=200, key=KEY, chunk=16)
    paths = np.abs(fd.simulate(process, starts, int(escapes.steps.max()), KEY, every=1).theta[..., 0])
    assert len(np.unique(escapes.steps)) > 5
    assert_array_equal(escapes.steps, (paths > 1).argmax(axis=1))


def test_a_training_goes_on_within_its_epoch(tmp_path, monkeypatch):
    data = fd.networks.spirals(50, 1.0)
    task = fd.networks.classifier(fd.networks.MLP((2, 4, 2), KEY), data)
    process = fd.Iteration(task.landscape, fd.GD(0.1), fd.noise.Epochs(8, "keep"))
    starts = np.tile(task.start, (2, 1))
    advance, calls = training._advance, []

    def impatient(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return advance(*args)

    def train(store):
        return fd.networks.train(task, process, starts, 24, KEY, 5, store=store, chunk=2).theta

    whole = train(None)
    monkeypatch.setattr(training, "_advance", impatient)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert_array_equal(train(tmp_path), whole)


C = np.array([1.0, -2.0, 0.5, 4.0, -1.5, 0.7])
SUM = fd.Landscape.from_examples("(x - c)**4/4 + y**2/2*c", {"c": C}, symbols="x y")


def ended(method, noise, ascent="shared", steps=3):
    return fd.simulate(fd.Iteration(SUM, method, noise, ascent), [0.3, -0.7], steps, KEY).final[0]


def test_sizes_within_a_minibatch_mean_what_they_mean_elsewhere():
    sam = fd.SAM(0.01, 0.1)
    assert_allclose(ended(sam, fd.noise.Epochs(6)), ended(sam, fd.noise.Exact()), rtol=1e-13)  # all in each
    each = fd.noise.FiniteSum(6, replace=False, ascent_size=1)
    assert_allclose(ended(sam, fd.noise.Epochs(6, ascent_size=1)), ended(sam, each), rtol=1e-13)
    whole, parts = fd.noise.Epochs(4, "keep"), fd.noise.Epochs(4, "keep", micro_size=2)  # the last has two
    assert_allclose(ended(sam, parts), ended(sam, whole), rtol=1e-13)


class Pairs(fd.methods.Method):
    """Descends along two minibatches a step."""

    samples = 2

    def init(self, theta):
        return fd.methods.State(theta)

    def step(self, grad, state):
        return fd.methods.State(state.theta - (grad(state.theta) + grad.further[0](state.theta)))


def test_several_samples_in_a_step_are_the_next_ones_of_the_pass():
    process = fd.Iteration(telling(6), Pairs(), fd.noise.Epochs(1))
    moves = np.diff(fd.simulate(process, np.zeros((4, 6)), 6, KEY, every=1).theta, axis=1)
    assert_array_equal(moves.sum(axis=-1), 2)
    assert_array_equal(moves.reshape(4, 2, 3, 6).sum(axis=2), 1)
    five = fd.Iteration(telling(5), Pairs(), fd.noise.Epochs(1))  # an epoch ends within a step
    moves = np.diff(fd.simulate(five, np.zeros((4, 5)), 5, KEY, every=1).theta, axis=1)
    assert_array_equal(moves.sum(axis=1), 2)


def test_an_independent_ascent_passes_through_the_data_in_an_order_of_its_own():
    """USAM on ℓᵢ = hᵢ x²/2 moves by −η h_d (1 + ρ h_a) x: with ln hᵢ incommensurate the pair (d, a) can be read off."""
    h = np.sqrt([2.0, 3.0, 5.0])
    line = fd.Landscape.from_examples("h*x**2/2", {"h": h}, symbols="x")
    process = fd.Iteration(line, fd.USAM(0.01, 0.1), fd.noise.Epochs(1), "independent")
    x = fd.simulate(process, np.ones((2000, 1)), 3, KEY, every=1).theta[..., 0]
    moved = (x[:, :-1] - x[:, 1:]) / x[:, :-1] / 0.01
    table = (h[:, None] * (1 + 0.1 * h)).ravel()
    found = np.abs(moved[..., None] - table).argmin(axis=-1)
    assert_allclose(moved, table[found], rtol=1e-10)
    descent, ascent = numbered(found // 3), numbered(found % 3)
    assert descent.max() == ascent.max() == 5  # passes, both, and
    assert scipy.stats.chisquare(np.bincount(6 * descent + ascent, minlength=36)).pvalue > UNLIKELY


def test_exponents_follow_the_pass():
    """One epoch multiplies by Π (1 − η hᵢ) in any order, so that whole epochs have no error; so has a schedule."""
    h = np.array([0.5, 1.0, 3.0, 7.0])
    line = fd.Landscape.from_examples("h*(x - h)**2/2", {"h": h}, symbols="x")
    process = fd.Iteration(line, fd.GD(0.1), fd.noise.Epochs(1))
    (value,), _ = fd.lyapunov_exponents(process, [0.3], 40, KEY, transient=4)
    assert_allclose(value, np.log(np.abs(1 - 0.1 * h)).mean(), rtol=1e-12)
    falling = fd.Iteration(fd.landscapes.saddle((1.0,)), fd.Scheduled(fd.GD(0.5), lambda k: 1 / (1 + k)))
    (value,), _ = fd.lyapunov_exponents(falling, [0.3], 40, transient=10)
    assert_allclose(value, np.log(1 - 0.5 / (1 + np.arange(10, 50))).mean(), rtol=1e-12)


def test_what_does_not_fit_is_refused():
    L, epochs = telling(6), fd.noise.Epochs
    cases = [
        (ValueError, lambda: epochs(2, "repeat"), "last must be"),
        (ValueError, lambda: epochs(0), "batch_size must be"),
        (ValueError, lambda: epochs(4, ascent_size=3), "ascent_size must divide batch_size=4, got 3"),
        (ValueError, lambda: epochs(7).steps(6), "larger than the 6 examples of an epoch: take at most 6"),
        (ValueError, lambda: fd.Iteration(L, fd.GD(0.1), epochs(7)), "larger than the 6 examples of an epoch"),
        (ValueError, lambda: fd.Iteration(L, fd.GD(0.1), epochs(4, "keep", ascent_size=2)), "of 6 examples has 2"),
        (
            ValueError,
            lambda: fd.Iteration(L, fd.GD(0.1), epochs(4, "keep", micro_size=4)),
            "must divide the 2 examples",
        ),
        (TypeError, lambda: fd.Iteration(fd.landscapes.beale(), fd.GD(0.1), epochs(2)), "the noise Epochs needs"),
        (TypeError, lambda: fd.flows.Diffusion(L, fd.GD(0.1), epochs(2), form="derived"), "of one epoch are not"),
        (TypeError, lambda: fd.flows.Diffusion(L, fd.GD(0.1), epochs(2)), "take FiniteSum in place of Epochs"),
        (TypeError, lambda: fd.stationary.covariance(fd.Iteration(L, fd.GD(0.1), epochs(2))), "normal numbers"),
        (
            TypeError,
            lambda: fd.stationary.covariance(fd.Iteration(L, fd.Averaged(fd.GD(0.1)), epochs(2))),
            "normal numbers",
        ),
        (ValueError, lambda: fd.simulate(fd.Iteration(L, fd.GD(0.1), epochs(2)), np.zeros(6), 2), "pass key="),
        (ValueError, lambda: (p := fd.Iteration(L, fd.GD(0.1), epochs(2))).step(p.init(jnp.zeros(6))), "pass key="),
    ]
    for kind, ask, words in cases:
        with pytest.raises(kind, match=words):
            ask()
