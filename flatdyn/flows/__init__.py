"""Continuous time: the ordinary and stochastic differential equations that approximate a method.

    Flow(landscape, method)                 θ' = −G(θ), and modified equations
    Diffusion(landscape, method, noise)     dθ = b dt + √η σ dW, published and derived
    solve(flow, theta0, times)              a flow to given accuracy, with the time of arrival
    expectation(diffusion, functions, ...)  E u(θ_t) of a diffusion on the line, without sampling

Time is steps × lr. Both are processes: simulate, map_basins, ... work on them as on an Iteration.

Example:
    >>> import flatdyn as fd
    >>> flow = fd.flows.Flow(fd.landscapes.saddle((1.0,)), fd.GD(lr=0.1))
    >>> solution = fd.flows.solve(flow, [1.0], [0.0, 1.0])
    >>> print(f"{solution.theta[-1, 0]:.6f}")  # exp(-1)
    0.367879
"""

from flatdyn.flows.diffusions import Diffusion as Diffusion
from flatdyn.flows.kolmogorov import expectation as expectation
from flatdyn.flows.moments import Moments as Moments
from flatdyn.flows.odes import Flow as Flow
from flatdyn.flows.solutions import Solution as Solution
from flatdyn.flows.solutions import solve as solve
