"""Exact distributions of noisy steps, without sampling.

    transfer        expectations, survival and exit times of a step on the line, by its transfer operator
    plane           the same operator for states of two numbers: what to expect until a region is left
    stationary      how far a noisy method spreads around a point, in symbols and numbers
    epochs          shuffled passes through a few examples: all that an epoch can do, and its stationary law
    LinearRecursion any step s⁺ = A s + e, such as another package's sampler on a quadratic, for the same questions
    weak            how far the expectations of an SDE are from those of the method

The tests compare each of them with simulations.

Example:
    >>> import jax
    >>> import sympy
    >>> import flatdyn as fd
    >>> jax.config.update("jax_enable_x64", True)
    >>> h, tau, l = sympy.symbols("h tau lambda", positive=True)
    >>> fd.stationary.formula(fd.SGLD(h, tau), fd.landscapes.saddle((l,)))
    Matrix([[-2*tau/(lambda*(h*lambda - 2))]])
    >>> two_temperatures = fd.LaLa(0.1, first=(True, False), temperature=(1, 0.5))
    >>> fd.stationary.covariance(two_temperatures, fd.landscapes.saddle((2, 1)))[:2, :2].round(3).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    >>> fd.stationary.covariance(fd.laws.LinearRecursion([[1, 0.1], [-0.1, 0.9]], [[0, 0], [0, 0.2]])).round(3).tolist()
    [[1.114, -0.058], [-0.058, 1.167]]
"""

from flatdyn.laws import epochs as epochs
from flatdyn.laws import plane as plane
from flatdyn.laws import stationary as stationary
from flatdyn.laws import transfer as transfer
from flatdyn.laws import weak as weak
from flatdyn.laws.recursions import LinearRecursion as LinearRecursion
