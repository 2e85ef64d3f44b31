"""The transfer operator of processes whose state is two numbers: expectations until they leave a region, exactly.

operator(process, inside, start)    expected(payoff, running), leading(k), each with an error from a second grid
"""

from flatdyn.laws.plane.operators import Expectation as Expectation
from flatdyn.laws.plane.operators import Leading as Leading
from flatdyn.laws.plane.operators import PlaneOperator as PlaneOperator
from flatdyn.laws.plane.operators import operator as operator
from flatdyn.laws.plane.regions import rectangle_of as rectangle_of
