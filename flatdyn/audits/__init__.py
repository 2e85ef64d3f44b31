"""Which map does your training code really run? It is tried on small problems whose answer is known.

    audit(step)     a function, an optax transformation, a PyTorch optimiser, or a recorded run -> Audit
    FAULTS          the words for what it finds, each with a sentence

Of PyTorch it takes a function that makes an optimiser, `fd.audit(lambda params: torch.optim.SGD(params, lr=0.1))`, or a
function that makes your own step of training, which calls `loss()` for the loss at the parameters as they are:

    def make(model):
        optimiser = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1)

        def train(loss):
            loss().backward()
            optimiser.first_step()
            loss().backward()
            optimiser.second_step(zero_grad=True)

        return train

    fd.audit(make)

Example:
    >>> import numpy as np
    >>> import flatdyn as fd
    >>> def step(theta, gradient):  # SAM, as somebody wrote it
    ...     first = gradient(theta)
    ...     perturbed = theta + 0.05 * first / np.linalg.norm(first)
    ...     return theta - 0.1 * (first + gradient(perturbed))
    >>> audit = fd.audit(step)
    >>> audit.lines[0]  # twice the step, half the radius
    'SAM(lr=0.2, rho=0.025)'
    >>> audit.faults
    ('missing zero_grad', 'NaN at zero gradient')
"""

from flatdyn.audits.auditing import audit as audit
from flatdyn.audits.report import FAULTS as FAULTS
from flatdyn.audits.report import Audit as Audit
