"""Losses L(θ), each one SymPy expression from which the JAX code is derived.

    L = landscapes.beale()
    L.loss(theta), L.grad(theta), L.hessian(theta)      numbers, by JAX; theta of shape (..., dim)
    L.expression, L.symbols                             the same loss in symbols
    L.critical_points()                                 where ∇L = 0, and of what kind

Your own: `Landscape.from_expression("x**2 - y**2 + x*y**3", symbols="x y")`, or, without symbolic questions,
`Landscape.from_function(loss, dim)`.

In a long session with many landscapes `landscapes.clear_programs()` frees the memory of compiled programs.

Example:
    >>> import flatdyn as fd
    >>> L = fd.landscapes.double_well()
    >>> L.expression
    (x**2 - 1)**2/4
    >>> [(point.kind, float(point.theta[0])) for point in L.critical_points()]
    [('minimum', -1.0), ('minimum', 1.0), ('maximum', 0.0)]
"""

from flatdyn.landscapes.base import Landscape as Landscape
from flatdyn.landscapes.catalogue import CATALOGUE as CATALOGUE
from flatdyn.landscapes.catalogue import beale as beale
from flatdyn.landscapes.catalogue import deep_linear as deep_linear
from flatdyn.landscapes.catalogue import double_well as double_well
from flatdyn.landscapes.catalogue import factorization as factorization
from flatdyn.landscapes.catalogue import flat_and_sharp as flat_and_sharp
from flatdyn.landscapes.catalogue import himmelblau as himmelblau
from flatdyn.landscapes.catalogue import monkey_saddle as monkey_saddle
from flatdyn.landscapes.catalogue import muller_brown as muller_brown
from flatdyn.landscapes.catalogue import rosenbrock as rosenbrock
from flatdyn.landscapes.catalogue import rosenbrock_saddle as rosenbrock_saddle
from flatdyn.landscapes.catalogue import saddle as saddle
from flatdyn.landscapes.catalogue import six_hump_camel as six_hump_camel
from flatdyn.landscapes.catalogue import styblinski_tang as styblinski_tang
from flatdyn.landscapes.catalogue import three_hump_camel as three_hump_camel
from flatdyn.landscapes.critical import CriticalPoint as CriticalPoint
from flatdyn.landscapes.programs import clear_programs as clear_programs
