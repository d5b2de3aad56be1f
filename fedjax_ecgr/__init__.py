"""Federated learning with ECGR, all clients simulated in parallel by one compiled JAX program."""

from fedjax_ecgr import aggregators as aggregators
from fedjax_ecgr import algorithms as algorithms
from fedjax_ecgr import attacks as attacks
from fedjax_ecgr import augmentations as augmentations
from fedjax_ecgr import metrics as metrics
from fedjax_ecgr import models as models
from fedjax_ecgr import regulators as regulators
from fedjax_ecgr import reports as reports
from fedjax_ecgr import runs as runs
from fedjax_ecgr import samplers as samplers
from fedjax_ecgr import sweeps as sweeps
from fedjax_ecgr import systems as systems
from fedjax_ecgr import trackers as trackers
from fedjax_ecgr import transforms as transforms
from fedjax_ecgr.algorithms import *  # noqa: F403
from fedjax_ecgr.algorithms import Algorithm as Algorithm
from fedjax_ecgr.check import InputError as InputError
from fedjax_ecgr.data import datasets as datasets
from fedjax_ecgr.data import partition as partition
from fedjax_ecgr.data.federated import Dataset as Dataset
from fedjax_ecgr.data.federated import Examples as Examples
from fedjax_ecgr.data.federated import FederatedDataset as FederatedDataset
from fedjax_ecgr.data.federated import Spec as Spec
from fedjax_ecgr.engine import DivergedError as DivergedError
from fedjax_ecgr.engine import History as History
from fedjax_ecgr.engine import Member as Member
from fedjax_ecgr.engine import Simulation as Simulation
from fedjax_ecgr.engine import run as run
from fedjax_ecgr.engine import run_members as run_members
from fedjax_ecgr.engine import simulate as simulate
from fedjax_ecgr.engine import simulation as simulation
from fedjax_ecgr.models.base import Model as Model
from fedjax_ecgr.programs import keep_programs as keep_programs
from fedjax_ecgr.regulators import *  # noqa: F403
from fedjax_ecgr.regulators import Regulator as Regulator
from fedjax_ecgr.regulators import reaggregate as reaggregate
from fedjax_ecgr.regulators import select as select
from fedjax_ecgr.sweeps import sweep as sweep
from fedjax_ecgr.version import __version__ as __version__
