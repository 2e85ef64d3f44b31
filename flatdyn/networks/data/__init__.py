"""Data for networks: what comes with packages, what the user installs, and preprocessing."""

from flatdyn.networks.data.builtin import DataMissing as DataMissing
from flatdyn.networks.data.builtin import Graph as Graph
from flatdyn.networks.data.builtin import Nodes as Nodes
from flatdyn.networks.data.builtin import Pixels as Pixels
from flatdyn.networks.data.builtin import Split as Split
from flatdyn.networks.data.builtin import Text as Text
from flatdyn.networks.data.builtin import diabetes as diabetes
from flatdyn.networks.data.builtin import digits as digits
from flatdyn.networks.data.builtin import karate as karate
from flatdyn.networks.data.builtin import mnist5k as mnist5k
from flatdyn.networks.data.builtin import pydoc_text as pydoc_text
from flatdyn.networks.data.builtin import random_pixels as random_pixels
from flatdyn.networks.data.builtin import spirals as spirals
from flatdyn.networks.data.files import Documents as Documents
from flatdyn.networks.data.files import cifar10 as cifar10
from flatdyn.networks.data.files import fashion_mnist as fashion_mnist
from flatdyn.networks.data.files import mnist1d as mnist1d
from flatdyn.networks.data.files import mutag as mutag
from flatdyn.networks.data.files import reuters_r8 as reuters_r8
from flatdyn.networks.data.preprocessing import flip_labels as flip_labels
from flatdyn.networks.data.preprocessing import principal_components as principal_components
from flatdyn.networks.data.preprocessing import shuffled as shuffled
from flatdyn.networks.data.preprocessing import split as split
from flatdyn.networks.data.preprocessing import standardize as standardize
