"""A network and its data as a landscape, so that every question can be asked of it."""

from flatdyn.networks.data import Split as Split
from flatdyn.networks.data import spirals as spirals
from flatdyn.networks.models import MLP as MLP
from flatdyn.networks.models import BatchNorm as BatchNorm
from flatdyn.networks.models import Network as Network
from flatdyn.networks.tasks import Classifier as Classifier
from flatdyn.networks.tasks import classifier as classifier
