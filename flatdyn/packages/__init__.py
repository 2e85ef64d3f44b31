"""What other packages really run, and which flatdyn method runs the same map.

    method("torch.optim.SGD", lr=0.1)    the method, or an error that gives the reason why there is none
    entry("torch.optim.SGD")             the map in words and as a formula, the version tried, the difference
    table("torch")                       all of it as a table in Markdown
    names("torch")                       what is known
    recursion("posteriors.sghmc", …)     one step of a sampler on a quadratic, for its exact law

Every entry was run beside the method that it names; the data lie in table.toml. For an optimiser that is not in it,
hand the optimiser itself to from_optax, or write its step.

Example:
    >>> import flatdyn as fd
    >>> fd.packages.method("torch.optim.SGD", lr=0.1, momentum=0.9)
    GD(inertial=True, weight_decay=0.0, units='gradient', lr=0.1, momentum=0.9)
    >>> try:
    ...     fd.packages.method("sam_sps.SAM_SPS")
    ... except LookupError as error:
    ...     print(str(error).partition(",")[0])
    sam_sps.SAM_SPS (sam_sps 1.0.0): Polyak's step size along SAM's gradient needs the loss at the perturbed point
    >>> step = fd.packages.recursion("posteriors.sgmcmc.sghmc", lr=0.5, alpha=1.0)  # of ½ θ², at temperature 1
    >>> fd.stationary.covariance(step)[0, 0].round(3).item()
    2.154
"""

from flatdyn.packages.entries import Case as Case
from flatdyn.packages.entries import Entry as Entry
from flatdyn.packages.entries import entry as entry
from flatdyn.packages.entries import names as names
from flatdyn.packages.entries import table as table
from flatdyn.packages.mapping import method as method
from flatdyn.packages.mapping import recursion as recursion
