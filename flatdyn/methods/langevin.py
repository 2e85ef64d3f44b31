"""Langevin methods: sampling exp(−L/τ) instead of descending L, built from blocks that are named by letters.

    A(t)   θ += t p                                   drift
    B(t)   p −= t ∇ℓ(θ; ξ)                            kick
    O(t)   p ← c p + √((1 − c²) τ) R, c = e^{−γ t}    thermostat; or that of Nosé and Hoover, see thermostats

A word of these letters is one step: every letter that occurs k times acts for the time η/k each time. Blocks of
parameters with thermostats of their own make the partitioned methods: LaLa, AdLaLa; LOL has an overdamped block.

References:
    Leimkuhler and Matthews, Molecular Dynamics, Springer 2015, chapter 7 (splittings);
    Leimkuhler, Matthews, Vlaar, arXiv 1908.11843 (AdLaLa, LOL).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx

from flatdyn.core import checks
from flatdyn.core.algebra import sqrt
from flatdyn.core.renaming import renamed_attribute
from flatdyn.methods import masks
from flatdyn.methods.base import Method, State, hyperparameter
from flatdyn.methods.partitioned import Alternating, check_partition
from flatdyn.methods.thermostats import Friction, NoseHoover, check_form, check_positive, spread_over


class SGLD(Method):
    """Stochastic gradient Langevin dynamics: the Euler–Maruyama step of dθ = −∇L dt + √(2τ) dW.

        θ⁺ = θ − η ∇ℓ(θ; ξ) + √(2 η τ) R,   R ~ N(0, I)

    On ½ λ θ² with gradient noise of variance s² the stationary variance is (2τ + η s²) / (λ (2 − η λ)).

    Args:
        lr: step size η > 0, a time
        temperature: τ ≥ 0 in units of the loss: a number, or one per coordinate or leaf
    Raises:
        ValueError: if lr or temperature is out of range
    References:
        Welling and Teh, ICML 2011, with the temperature and scaling of arXiv 1908.11843.
    """

    lr: Any = hyperparameter()
    temperature: Any = hyperparameter(default=1.0)
    draws = 1
    several = ("temperature",)

    def __check_init__(self):
        checks.number("lr", self.lr, above=0)
        check_positive("temperature", self.temperature)

    def check(self, theta):
        check_form("temperature", self.temperature, theta)

    def init(self, theta):
        return State(theta)

    def step(self, grad, state, noise):
        spread = sqrt(2 * self.lr * spread_over(self.temperature, noise))
        return State(state.theta - self.lr * grad(state.theta) + spread * noise)


class KickState(eqx.Module):
    """State of :class:`LeimkuhlerMatthews`: parameters, and the normal vector of the last step."""

    theta: Any
    noise: Any


class LeimkuhlerMatthews(SGLD):
    """The overdamped limit of BAOAB: SGLD with the noise of two steps averaged.

        θ⁺ = θ − η ∇ℓ(θ; ξ) + √(η τ / 2) (R + R⁺)

    It costs what SGLD costs, and its stationary law is right to order η² instead of η; on a quadratic it is exact. The
    noise before the first step is taken to be zero.

    Args:
        lr, temperature: as for :class:`SGLD`
    Raises:
        ValueError: if lr or temperature is out of range
    References:
        Leimkuhler and Matthews, Applied Mathematics Research eXpress 2013, 34.
    """

    def init(self, theta):
        return KickState(theta, 0 * theta)

    def step(self, grad, state, noise):
        spread = sqrt(self.lr * spread_over(self.temperature, noise) / 2)
        return KickState(state.theta - self.lr * grad(state.theta) + spread * (state.noise + noise), noise)


# --- methods made of words ------------------------------------------------------------------------------------


class LangevinState(eqx.Module):
    """State of :class:`SplittingMethod`: parameters, momenta, and one ζ for each thermostat that has one."""

    theta: Any
    momentum: Any
    zeta: Any = None

    xi = renamed_attribute("zeta")  # ξ is the sample


class SplittingMethod(Method):
    """One step is a word of the letters A, B, O; see the module. Each thermostat acts on its own block of parameters.

    A minibatch, or any other noise of the gradient, is drawn once a step, and shared by all letters B of the word.

    Attributes:
        lr: η > 0, the time that a step takes
        splitting: the word
        thermostats: what O does, one for each block
        blocks: masks of the blocks, as many as thermostats; None for everything
    """

    lr: Any = hyperparameter()
    splitting: str = eqx.field(static=True)
    thermostats: tuple
    blocks: tuple

    def __check_init__(self):
        checks.number("lr", self.lr, above=0)
        check_word(self.splitting)

    @property
    def draws(self):
        return self.splitting.count("O") * max(thermostat.draws for thermostat in self.thermostats)

    def check(self, theta):
        for thermostat in self.thermostats:
            thermostat.check(theta)
        if self.blocks[0] is not None:
            check_partition(self.blocks, theta)

    def init(self, theta):
        own = [one.init(theta, block) for one, block in zip(self.thermostats, self.blocks, strict=True)]
        return LangevinState(theta, 0 * theta, tuple(own))

    def step(self, grad, state, *noise):
        theta, momentum, zeta = state.theta, state.momentum, state.zeta
        each = self.draws // self.splitting.count("O")
        for letter in self.splitting:
            time = self.lr / self.splitting.count(letter)
            if letter == "A":
                theta = theta + time * momentum
            elif letter == "B":
                momentum = momentum - time * grad(theta)
            else:
                momentum, zeta = self._thermostats(momentum, time, zeta, noise[:each])
                noise = noise[each:]
        return LangevinState(theta, momentum, zeta)

    def _thermostats(self, momentum, time, zeta, noise):
        after, own = momentum, []
        for thermostat, block, before in zip(self.thermostats, self.blocks, zeta, strict=True):
            moved, new = thermostat.act(momentum, time, before, block, *noise[: thermostat.draws])
            after = masks.pick(block, moved, after)
            own.append(new)
        return after, tuple(own)


class Langevin(SplittingMethod):
    """Underdamped Langevin dynamics by a splitting that is named by its letters.

        dθ = p dt,   dp = −∇L dt − γ p dt + √(2γτ) dW;   stationary law ∝ exp(−(L + ½ p·p)/τ)

    "BAOAB" has the smallest error in θ of those of its cost (none on a quadratic), "OBABO" and "OABAO" keep p exact.
    "AOAB" is the order of the AdLaLa authors' code: one gradient a step, and the law of θ is that of BAOAB.

    Args:
        lr: η > 0, the time of a step; on a curvature λ it must satisfy η² λ < 4
        friction: γ ≥ 0, a number, or one per coordinate or leaf
        temperature: τ ≥ 0, likewise
        splitting: a word of A, B, O in which each occurs
    Raises:
        ValueError: if a number is out of range, or the word is not one
    References:
        Leimkuhler and Matthews, Applied Mathematics Research eXpress 2013, 34.
    """

    def __init__(self, lr: Any, friction: Any = 1.0, temperature: Any = 1.0, splitting: str = "BAOAB"):
        self.lr, self.splitting = checks.real(lr), splitting
        self.thermostats, self.blocks = (Friction(friction, temperature),), (None,)

    @property
    def friction(self):
        return self.thermostats[0].friction

    @property
    def temperature(self):
        return self.thermostats[0].temperature


class AdaptiveLangevin(SplittingMethod):
    """Langevin dynamics whose friction adapts itself, so that gradient noise of unknown strength is absorbed.

        dθ = p dt,   dp = −∇L dt − ε ζ p dt + σ dW,   dζ = ε (p·p − N τ) dt

    With noise of variance s² per step in the gradient σ² is σ² + η s² in the mean of ζ, and θ and p keep their law.
    The authors' program starts with half a kick, so that its momenta are half a step ahead; here they are not.

    Args:
        lr: η > 0, the time of a step
        temperature: τ ≥ 0, a number
        sigma: σ ≥ 0
        coupling: ε > 0
        blocks: masks of blocks that have a ζ each, such as `masks.each(params)`; one ζ for all if not given
        start: ζ at the start
        scaling: "text" as above, or "code" as in the authors' program; :class:`NoseHoover` has the map between them
        splitting: a word of A, B, O; the authors' is A C D E D C A, then a full B
    Raises:
        ValueError: if a number is out of range, a block is empty, blocks overlap, or the word is not one
    References:
        Jones and Leimkuhler, J. Chem. Phys. 135, 084125 (2011); arXiv 1908.11843.
    """

    def __init__(
        self,
        lr: Any,
        temperature: Any = 1.0,
        sigma: Any = 1.0,
        coupling: Any = 1.0,
        blocks: Any = None,
        start: Any = 0.0,
        scaling: str = "text",
        splitting: str = "AOAB",
    ):
        self.lr, self.splitting = checks.real(lr), splitting
        blocks = (None,) if blocks is None else checks.sequence("blocks", blocks, "masks")
        if not len(blocks):
            raise ValueError("blocks must hold at least one mask, got none")
        whole = len(blocks) == 1 and blocks[0] is None
        self.blocks = (None,) if whole else tuple(masks.settled(one, "blocks", needed=True) for one in blocks)
        self.thermostats = (NoseHoover(temperature, sigma, coupling, start, scaling),) * len(self.blocks)


class LaLa(SplittingMethod):
    """Langevin dynamics with a friction and a temperature for each of two blocks.

        dθᵢ = pᵢ dt,   dpᵢ = −∇ᵢL dt − γᵢ pᵢ dt + √(2γᵢτᵢ) dWᵢ,   i = 1, 2

    With equal temperatures the stationary law is Gibbs'. With different ones it is not, if the blocks are coupled: heat
    flows from the one to the other.

    Args:
        lr: η > 0
        first: mask of the first block; the second is the rest
        friction: (γ₁, γ₂) ≥ 0
        temperature: (τ₁, τ₂) ≥ 0
        splitting: a word of A, B, O
    Raises:
        ValueError: if a number is out of range, the mask is empty or full, or the word is not one
    References:
        arXiv 1908.11843 names the method; the step is our reading of it.
    """

    def __init__(
        self, lr: Any, first: Any, friction: Any = (1, 1), temperature: Any = (1, 1), splitting: str = "BAOAB"
    ):
        self.lr, self.splitting = checks.real(lr), splitting
        self.thermostats = tuple(map(Friction, _pair("friction", friction), _pair("temperature", temperature)))
        self.blocks = _two_blocks(first)


class AdLaLa(SplittingMethod):
    """Adaptive Langevin dynamics on the first block, Langevin dynamics on the rest.

        A₁ A₂  C₁ D₁ E₁ D₁ C₁ | O₂  A₂ A₁  then  B₁ B₂     (letters as in the module, A halved)

    Args:
        lr: η > 0
        first: mask of the first block, or a list of masks that have a ζ each (weights and biases of a layer, say)
        temperature: (τ₁, τ₂) ≥ 0
        sigma, coupling: σ ≥ 0, ε > 0 of the first block
        friction: γ ≥ 0 of the second
        start, scaling, splitting: as for :class:`AdaptiveLangevin`
    Raises:
        ValueError: if a number is out of range, a mask is empty or full, or the word is not one
    References:
        Leimkuhler, Matthews, Vlaar, arXiv 1908.11843, Algorithm 1, and the authors' program.
    """

    def __init__(
        self,
        lr: Any,
        first: Any,
        temperature: Any = (1, 1),
        sigma: Any = 0.01,
        coupling: Any = 0.05,
        friction: Any = 0.1,
        start: Any = 0.0,
        scaling: str = "text",
        splitting: str = "AOAB",
    ):
        self.lr, self.splitting = checks.real(lr), splitting
        hot, cold = _pair("temperature", temperature)
        several = isinstance(first, list)
        own = tuple(masks.settled(one, "first", needed=True) for one in (first if several else [first]))
        self.blocks = (*own, _two_blocks(masks.union(*own))[1])
        self.thermostats = (NoseHoover(hot, sigma, coupling, start, scaling),) * len(own) + (Friction(friction, cold),)


def LOL(lr: Any, first: Any, friction: Any = 1.0, temperature: Any = (1, 1), splitting: str = "BAOAB") -> Alternating:
    """Langevin dynamics on the first block, overdamped Langevin dynamics on the rest.

        a word of A, B, O on the first block with the rest held, then a step of SGLD on the rest, at the new first block

    Args:
        lr: η > 0, the time of both steps
        first: mask of the first block; the second is the rest
        friction: γ ≥ 0 of the first
        temperature: (τ₁, τ₂) ≥ 0
        splitting: a word of A, B, O
    Raises:
        ValueError: if a number is out of range, the mask is empty or full, or the word is not one
    References:
        arXiv 1908.11843 names the method; the step is our reading of it.
    """
    one, other = _pair("temperature", temperature)
    return Alternating((Langevin(lr, friction, one, splitting), SGLD(lr, other)), _two_blocks(first))


# --- what the blocks share ------------------------------------------------------------------------------------


def check_word(word: Any) -> None:
    """Raise ValueError unless a splitting is a word of A, B, O in which each occurs."""
    if not isinstance(word, str) or set(word) != set("ABO"):
        raise ValueError(
            "splitting must be a word of the letters A (drift), B (kick), O (thermostat) in which each occurs, such as "
            f"'BAOAB', got {word!r}"
        )


def _pair(name: str, value: Any) -> tuple:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} must be a pair, one for the first block and one for the rest, got {value!r}")
    return tuple(value)


def _two_blocks(first: Any) -> tuple:
    first = masks.settled(first, "first", needed=True)
    return first, masks.settled(masks.complement(first))
