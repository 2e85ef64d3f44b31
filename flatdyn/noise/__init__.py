"""How the gradient is sampled: what of a step is random, and how it enters ∇L.

A noise draws its sample ξ once a step, before any gradient is evaluated, and then answers ∇ℓ(θ; ξ) at whatever
points the method asks for. So both gradients of a SAM step share their minibatch, unless the process says
otherwise (`ascent` of :class:`flatdyn.Iteration`).

    Exact()                             ∇ℓ = ∇L
    Gaussian(scale, batch_size)         additive, the same everywhere
    Curvature(scale, batch_size)        covariance proportional to |∇²L|
    StateDependent(spread, batch_size)  any covariance Σ(θ) of yours
    Stable(alpha, scale, batch_size)    heavy tails: α-stable, without a variance
    FiniteSum(batch_size, replace)      minibatches of a landscape that is a mean over examples; accumulated, too
    Epochs(batch_size, last)            the same in shuffled passes through the examples, as programs make them

The batch size B means the same in all of them: the mean of B examples' gradients, so covariance Σ/B where there is one.

Example:
    >>> import jax
    >>> import flatdyn as fd
    >>> L = fd.Landscape.from_examples("(x - c)**2/2", {"c": [1.0, 2.0, 6.0]}, symbols="x")
    >>> passes = fd.noise.Epochs(batch_size=1)
    >>> passes.steps(L)
    3
    >>> run = fd.simulate(fd.Iteration(L, fd.GD(lr=0.01), passes), [3.0], 3, jax.random.key(0))
    >>> (abs(run.theta[1:, 0] - 3) < 0.001).tolist()  # from the minimum, to it after an epoch
    [False, False, True]
"""

from flatdyn.noise.base import Exact as Exact
from flatdyn.noise.base import Noise as Noise
from flatdyn.noise.minibatches import Epochs as Epochs
from flatdyn.noise.minibatches import FiniteSum as FiniteSum
from flatdyn.noise.minibatches import Minibatches as Minibatches
from flatdyn.noise.normal import Curvature as Curvature
from flatdyn.noise.normal import Gaussian as Gaussian
from flatdyn.noise.normal import Normal as Normal
from flatdyn.noise.normal import StateDependent as StateDependent
from flatdyn.noise.stable import Stable as Stable
