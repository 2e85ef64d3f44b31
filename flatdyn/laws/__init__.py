"""Laws of noisy steps without sampling.

    transfer        expectations, survival and exit times of a step on the line, by its transfer operator
    stationary      how far a noisy method spreads around a point, in symbols and numbers
    weak            how far the expectations of an SDE are from the method's

The tests hold each of them to simulations.

Example:
    >>> import sympy
    >>> import flatdyn as fd
    >>> h, tau, l = sympy.symbols("h tau lambda", positive=True)
    >>> fd.stationary.formula(fd.SGLD(h, tau), fd.landscapes.saddle((l,)))
    Matrix([[-2*tau/(lambda*(h*lambda - 2))]])
"""

from flatdyn.laws import stationary as stationary
from flatdyn.laws import transfer as transfer
from flatdyn.laws import weak as weak
