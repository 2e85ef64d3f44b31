"""How to run a process, once or a million times: chunks, devices, guarded steps, progress.

    simulate(process, theta0, steps)    trajectories of many runs, with a status for each

Other packages run their processes by the same queues, devices and guarded steps.

Example:
    >>> import flatdyn as fd
    >>> run = fd.simulate(fd.Iteration(fd.landscapes.saddle((1.0,)), fd.GD(lr=0.5)), [8.0], steps=3)
    >>> run.theta[:, 0].tolist()
    [8.0, 4.0, 2.0, 1.0]
"""

from flatdyn.runs.ensembles import simulate as simulate
