"""A network and its data as a landscape, so that every question can be asked of it.

    models          perceptrons, convolutions, attention, graphs
    data            what comes with packages, what the user installs, preprocessing
    training        tasks, training of many networks at once, methods side by side
    saddles         saddles that are known exactly, and how noise pushes a network away
    benchmark       how far it scales

This is the wing that uses all the other rooms.

Example:
    >>> import jax
    >>> from flatdyn import networks
    >>> spirals = networks.spirals(40, 1.0)
    >>> task = networks.classifier(networks.MLP((2, 3, 2), jax.random.key(0)), spirals)
    >>> task.landscape.dim
    17
"""

from flatdyn.core.renaming import renamed
from flatdyn.networks.benchmark import scale as scale
from flatdyn.networks.benchmark.timing import flops as flops
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
from flatdyn.networks.training import paired as paired
from flatdyn.networks.training import regressor as regressor
from flatdyn.networks.training import train as train
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
