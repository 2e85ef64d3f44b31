"""A network and its data as a landscape, so that every question can be asked of it.

    models          perceptrons, convolutions, attention, graphs
    data            data sets that come with packages or that you install, and preprocessing
    training        tasks, training of many networks at once, comparison of methods
    elsewhere       networks of Flax, Haiku, Equinox and PyTorch as tasks
    saddles         saddles that are known exactly, and how noise pushes a network away
    benchmark       how far it scales; small tasks on which methods are compared

This package uses all the others. Escapes, sweeps and spectra work on a network as they do in the plane.

Five data sets come with the packages. Four others are read from a folder of yours, FLATDYN_DATA. If one is missing, the
error says how to install it; no substitute is used.

Example:
    >>> import jax
    >>> import numpy
    >>> import flatdyn as fd
    >>> from flatdyn import networks
    >>> jax.config.update("jax_enable_x64", True)
    >>> train, valid, test = networks.split(networks.digits(), [300, 500, 900])
    >>> make = lambda key: networks.MLP((64, 32, 10), key, norm="layer")
    >>> network = make(jax.random.key(0))
    >>> task = networks.classifier(network, train, weight_decay=1e-3)
    >>> task.landscape.dim
    2474

    Three radii of SAM-ON, which perturbs the normalization layers only, are trained side by side in one program.

    >>> sam = fd.SAM(lr=0.1, rho=0.1, momentum=0.9, mask=networks.norm_mask(network))
    >>> radii = fd.Extended(fd.Iteration(task.landscape, sam, fd.noise.FiniteSum(32)), ["rho"])
    >>> starts = radii.starts(task.starts(make, jax.random.key(1), 3), rho=[0.0, 0.5, 2.0])
    >>> run = networks.train(task, radii, starts, 100, jax.random.key(2), eval_sets={"valid": valid, "test": test})
    >>> run.metric("test").shape
    (3, 21)
    >>> bool(run.early_stopped(by="valid", name="test").min() > 0.8)
    True

    `zero_unit` builds a network at an exact saddle, whose escape direction is known in closed form.

    >>> small = networks.MLP((2, 3, 2), jax.random.key(0), jax.numpy.tanh)
    >>> saddle = networks.zero_unit(small, networks.spirals(40, 1.0), weight_decay=1e-3)
    >>> bool(saddle.verify().gradient < 1e-13), bool(saddle.eigenvalues[0] < 0)
    (True, True)

    A network from elsewhere is a function of its parameters and a batch; `networks.task` says how those of Flax, Haiku
    and Equinox become one, and `networks.from_torch` takes a module of PyTorch.

    >>> def apply(params, x):
    ...     return jax.numpy.tanh(x @ params["in"]) @ params["out"]
    >>> params = {"in": numpy.eye(2), "out": numpy.full((2, 2), 0.5)}
    >>> own = networks.task(apply, params, networks.spirals(40, 1.0))
    >>> ends = fd.curvature.extreme_eigenvalues(own.landscape, own.start)
    >>> print(f"{ends.largest:.4f} {ends.smallest:.4f}")
    0.2955 -0.1878
"""

from flatdyn.core.renaming import renamed
from flatdyn.networks.benchmark import scale as scale
from flatdyn.networks.benchmark.plans import TRIALS as TRIALS
from flatdyn.networks.benchmark.plans import TrialPlan as TrialPlan
from flatdyn.networks.benchmark.spirals import SpiralTrial as SpiralTrial
from flatdyn.networks.benchmark.spirals import spiral_trial as spiral_trial
from flatdyn.networks.benchmark.timing import flops as flops
from flatdyn.networks.benchmark.trials import CONVENTIONS as CONVENTIONS
from flatdyn.networks.benchmark.trials import Flatness as Flatness
from flatdyn.networks.benchmark.trials import Trial as Trial
from flatdyn.networks.benchmark.trials import norm_masks as norm_masks
from flatdyn.networks.benchmark.trials import off_the_average as off_the_average
from flatdyn.networks.benchmark.trials import step_cost as step_cost
from flatdyn.networks.benchmark.trials import trial as trial
from flatdyn.networks.data import DataMissing as DataMissing
from flatdyn.networks.data import Documents as Documents
from flatdyn.networks.data import Graph as Graph
from flatdyn.networks.data import Nodes as Nodes
from flatdyn.networks.data import Pixels as Pixels
from flatdyn.networks.data import Split as Split
from flatdyn.networks.data import Text as Text
from flatdyn.networks.data import cifar10 as cifar10
from flatdyn.networks.data import diabetes as diabetes
from flatdyn.networks.data import digits as digits
from flatdyn.networks.data import fashion_mnist as fashion_mnist
from flatdyn.networks.data import flip_labels as flip_labels
from flatdyn.networks.data import karate as karate
from flatdyn.networks.data import mnist1d as mnist1d
from flatdyn.networks.data import mnist5k as mnist5k
from flatdyn.networks.data import mutag as mutag
from flatdyn.networks.data import principal_components as principal_components
from flatdyn.networks.data import pydoc_text as pydoc_text
from flatdyn.networks.data import random_pixels as random_pixels
from flatdyn.networks.data import reuters_r8 as reuters_r8
from flatdyn.networks.data import shuffled as shuffled
from flatdyn.networks.data import spirals as spirals
from flatdyn.networks.data import split as split
from flatdyn.networks.data import standardize as standardize
from flatdyn.networks.elsewhere import from_torch as from_torch
from flatdyn.networks.elsewhere import task as task
from flatdyn.networks.models import MLP as MLP
from flatdyn.networks.models import BatchNorm as BatchNorm
from flatdyn.networks.models import CharTransformer as CharTransformer
from flatdyn.networks.models import CNN1d as CNN1d
from flatdyn.networks.models import CNN2d as CNN2d
from flatdyn.networks.models import Conv as Conv
from flatdyn.networks.models import GraphGCN as GraphGCN
from flatdyn.networks.models import Network as Network
from flatdyn.networks.models import NodeGCN as NodeGCN
from flatdyn.networks.models import ResNet as ResNet
from flatdyn.networks.models import ViT as ViT
from flatdyn.networks.models import norm_mask as norm_mask
from flatdyn.networks.models import resnet8 as resnet8
from flatdyn.networks.models import resnet18 as resnet18
from flatdyn.networks.saddles import Saddle as Saddle
from flatdyn.networks.saddles import critical_rho as critical_rho
from flatdyn.networks.saddles import linear_origin as linear_origin
from flatdyn.networks.saddles import split_unit as split_unit
from flatdyn.networks.saddles import tied_pair as tied_pair
from flatdyn.networks.saddles import zero_unit as zero_unit
from flatdyn.networks.saddles.transverse import displacement as displacement
from flatdyn.networks.saddles.transverse import transverse_escape as transverse_escape
from flatdyn.networks.saddles.transverse import transverse_exponent as transverse_exponent
from flatdyn.networks.training import Classifier as Classifier
from flatdyn.networks.training import MethodComparison as MethodComparison
from flatdyn.networks.training import Regressor as Regressor
from flatdyn.networks.training import Tally as Tally
from flatdyn.networks.training import Task as Task
from flatdyn.networks.training import Training as Training
from flatdyn.networks.training import classifier as classifier
from flatdyn.networks.training import compare as compare
from flatdyn.networks.training import count_wins as count_wins
from flatdyn.networks.training import factor as factor
from flatdyn.networks.training import paired as paired
from flatdyn.networks.training import regressor as regressor
from flatdyn.networks.training import train as train
from flatdyn.networks.training import trained as trained
from flatdyn.networks.training import with_weight_decay as with_weight_decay

__getattr__ = renamed(
    __name__,
    {
        "Comparison": "MethodComparison",
        "decayed": "with_weight_decay",
        "parts": "split",
        "standardised": "standardize",
        "tally": "count_wins",
        "wrong_labels": "flip_labels",
    },
)
