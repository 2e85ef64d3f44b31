"""Constraints on parameters, with what a Langevin step needs of each.

    Circle(r)       θᵢ² + sᵢ² = r² for each weight, sᵢ a slack variable: |θᵢ| ≤ r
    Sphere(r)       ‖θ‖ = r
    Orthogonal()    WᵀW = I for a tall matrix, W Wᵀ = I for a wide one
    Implicit(g)     g(θ) = 0 for a smooth g

`named` gives each leaf of a network's parameters its own.

References:
    Leimkuhler, Vlaar, Pouchon, Storkey, arXiv 2106.10704 (circle and orthogonality for networks);
    Hairer, Lubich, Wanner, Geometric Numerical Integration, Springer 2006, chapter VII (RATTLE).
"""

from flatdyn.methods.constraints.base import Constraint as Constraint
from flatdyn.methods.constraints.base import Free as Free
from flatdyn.methods.constraints.base import named as named
from flatdyn.methods.constraints.circles import Circle as Circle
from flatdyn.methods.constraints.circles import Sphere as Sphere
from flatdyn.methods.constraints.equations import Implicit as Implicit
from flatdyn.methods.constraints.equations import Orthogonal as Orthogonal
