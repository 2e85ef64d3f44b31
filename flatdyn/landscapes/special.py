"""Special functions of SymPy in JAX, with derivatives that are right everywhere, and which others are elementary."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.special
import sympy


def _polygamma(order, x):
    return jax.scipy.special.digamma(x) if order == 0 else jax.scipy.special.polygamma(order, x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _besseli(order, x):
    """I_n(x) for a whole n: a series near 0, where the recurrence I_{n+1} = I_{n−1} − (2n/x) I_n cancels."""
    order = abs(order)
    if order < 2:
        return (jax.scipy.special.i0, jax.scipy.special.i1)[order](x)
    near = jnp.abs(x) < 2
    far = jnp.where(near, 2, x)
    recurrence = _besseli(order - 2, far) - 2 * (order - 1) / far * _besseli(order - 1, far)
    half = jnp.where(near, x, 0) / 2
    series = sum(half ** (2 * k + order) / float(math.factorial(k) * math.factorial(k + order)) for k in range(14))
    return jnp.where(near, series, recurrence)


@_besseli.defjvp
def _besseli_jvp(order, primals, tangents):
    # Not JAX's own rule: its second derivative of I₀ at 0 is wrong.
    slope = (_besseli(order - 1, *primals) + _besseli(order + 1, *primals)) / 2
    return _besseli(order, *primals), slope * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _expint(order, x):
    return jax.scipy.special.expn(order, x) if order else jnp.exp(-x) / x


@_expint.defjvp
def _expint_jvp(order, primals, tangents):
    (x,) = primals
    slope = -_expint(order - 1, x) if order else -jnp.exp(-x) * (x + 1) / x**2  # E_n′ = −E_{n−1}
    return _expint(order, x), slope * tangents[0]


def _sinc(order, x):
    """The derivative of that order of sin(x)/x."""
    if order == 0:
        return jnp.sinc(x / jnp.pi)
    return jax.jvp(lambda y: _sinc(order - 1, y), (x,), (jnp.ones_like(x),))[1]


class Sinc(sympy.Function):
    """sin(x)/x and its derivatives, (order, x): SymPy writes them as quotients that are 0/0 at 0."""

    nargs = 2

    def fdiff(self, argindex=2):
        return Sinc(self.args[0] + 1, self.args[1])


def _whole(low: int, high: int | float = math.inf) -> Callable:
    return lambda order, *_: order.is_Integer and low <= order <= high


# SymPy's name -> the JAX function, and which arguments it takes.
SPECIAL: dict[str, tuple[Callable, Callable]] = {
    "erf": (jax.scipy.special.erf, lambda *_: True),
    "erfc": (jax.scipy.special.erfc, lambda *_: True),
    "erfinv": (jax.scipy.special.erfinv, lambda *_: True),
    "gamma": (jax.scipy.special.gamma, lambda *_: True),
    "loggamma": (jax.scipy.special.gammaln, lambda *_: True),
    "polygamma": (_polygamma, _whole(0)),
    "beta": (jax.scipy.special.beta, lambda *_: True),
    "besseli": (_besseli, _whole(-8)),
    "Ei": (jax.scipy.special.expi, lambda *_: True),
    "expint": (_expint, _whole(0)),
    "zeta": (lambda s, a=1.0: jax.scipy.special.zeta(s, a), lambda s, *_: s.is_number and s > 1),
    "sinc": (_sinc, lambda *_: True),
    "coth": (lambda x: 1 / jnp.tanh(x), lambda *_: True),  # SymPy writes it with exponentials that overflow
}
PREFIX = "jax_"  # SymPy's printer has formulas of its own for some names: quotients of gammas, which overflow
JAX_CODE = {PREFIX + name: function for name, (function, _) in SPECIAL.items()} | {"Sinc": _sinc}
ELEMENTARY = {
    *("exp", "log", "sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "atan2", "acot"),
    *("sinh", "cosh", "tanh", "sech", "csch", "asinh", "acosh", "atanh", "acoth", "Piecewise"),
}
