"""Networks, in Equinox: perceptrons, convolutions, attention, graphs, and their normalization layers."""

from flatdyn.networks.models.attention import CharTransformer as CharTransformer
from flatdyn.networks.models.attention import ViT as ViT
from flatdyn.networks.models.base import MLP as MLP
from flatdyn.networks.models.base import Network as Network
from flatdyn.networks.models.convolutions import CNN1d as CNN1d
from flatdyn.networks.models.convolutions import CNN2d as CNN2d
from flatdyn.networks.models.convolutions import Conv as Conv
from flatdyn.networks.models.convolutions import ResNet as ResNet
from flatdyn.networks.models.convolutions import resnet8 as resnet8
from flatdyn.networks.models.convolutions import resnet18 as resnet18
from flatdyn.networks.models.graphs import GraphGCN as GraphGCN
from flatdyn.networks.models.graphs import NodeGCN as NodeGCN
from flatdyn.networks.models.normalization import BatchNorm as BatchNorm
from flatdyn.networks.models.normalization import norm_mask as norm_mask
