"""A network on data as a landscape; training, many networks at once; methods side by side."""

from flatdyn.networks.training.asks import trained as trained
from flatdyn.networks.training.comparison import MethodComparison as MethodComparison
from flatdyn.networks.training.comparison import Tally as Tally
from flatdyn.networks.training.comparison import compare as compare
from flatdyn.networks.training.comparison import count_wins as count_wins
from flatdyn.networks.training.comparison import factor as factor
from flatdyn.networks.training.comparison import paired as paired
from flatdyn.networks.training.comparison import with_weight_decay as with_weight_decay
from flatdyn.networks.training.tasks import Classifier as Classifier
from flatdyn.networks.training.tasks import Regressor as Regressor
from flatdyn.networks.training.tasks import Task as Task
from flatdyn.networks.training.tasks import classifier as classifier
from flatdyn.networks.training.tasks import regressor as regressor
from flatdyn.networks.training.training import Training as Training
from flatdyn.networks.training.training import train as train
