"""Models behind one contract: a pure `init` and a pure `apply` (`base.py`), one family a file.

To list another one is to import it here; each takes a `Spec`.
"""

from fedjax_ecgr.listing import listing
from fedjax_ecgr.models.alexnet import alexnet as alexnet
from fedjax_ecgr.models.base import Model as Model
from fedjax_ecgr.models.bncnn import bncnn as bncnn
from fedjax_ecgr.models.fedavg_cnn import fedavg_cnn as fedavg_cnn
from fedjax_ecgr.models.flax_linen import from_linen as from_linen
from fedjax_ecgr.models.flax_nnx import from_nnx as from_nnx
from fedjax_ecgr.models.gru import gru as gru
from fedjax_ecgr.models.lenet import lenet as lenet
from fedjax_ecgr.models.logistic_regression import logistic_regression as logistic_regression
from fedjax_ecgr.models.mlp import mlp as mlp
from fedjax_ecgr.models.niid_cnn import niid_cnn as niid_cnn
from fedjax_ecgr.models.pfl_cnn import pfl_cnn as pfl_cnn
from fedjax_ecgr.models.pfllib_cnn import pfllib_cnn as pfllib_cnn
from fedjax_ecgr.models.resnet18 import resnet18 as resnet18
from fedjax_ecgr.models.vgg11 import vgg11 as vgg11
from fedjax_ecgr.ops.convolution import conv_general_dilated as conv_general_dilated

MODELS = listing(globals(), Model, given=["spec"])
