"""How to run a process, once or a million times: chunks, devices, guarded steps, progress.

    simulate(process, theta0, steps)    trajectories of many runs, with a status for each

Other rooms run their processes by the same queues, devices and guarded steps.
"""

from flatdyn.runs.ensembles import simulate as simulate
