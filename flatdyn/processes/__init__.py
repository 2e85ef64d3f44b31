"""Dynamical systems. Every question is asked of a process: a state, and a step from it to the next.

    Iteration(landscape, method, noise, ascent)     a method on a loss
    Map(step, dim)                                  any map of yours
    Extended(process, names)                        hyperparameters as constant coordinates: one program for many
    probe(landscape, method, points)                the point to which SAM ascends, and its gradients

`processes.flat` gives the state of any process as one row of numbers, with its derivatives; `processes.regions` has
the regions that runs leave or end in.

Example:
    >>> import jax.numpy as jnp
    >>> import flatdyn as fd
    >>> step = fd.Iteration(fd.landscapes.saddle((1.0,)), fd.GD(lr=0.5))
    >>> state = step.init(jnp.array([8.0]))
    >>> float(step.position(step.step(state))[0])
    4.0
"""

from flatdyn.processes.base import Iteration as Iteration
from flatdyn.processes.base import Map as Map
from flatdyn.processes.base import OnLandscape as OnLandscape
from flatdyn.processes.base import Process as Process
from flatdyn.processes.extended import Extended as Extended
from flatdyn.processes.probes import Probe as Probe
from flatdyn.processes.probes import probe as probe
