"""Federated learning with ECGR, all clients simulated in parallel by one compiled JAX program."""

from fedjax_ecgr import aggregators, attacks, metrics, models, samplers, systems, transforms
from fedjax_ecgr.algorithms import Algorithm, fedavg, fednova, fedprox, scaffold
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data import datasets, partition
from fedjax_ecgr.data.federated import Dataset, Examples, FederatedDataset, Spec
from fedjax_ecgr.engine import DivergedError, History, Simulation, run, simulate, simulation
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.regulators import Regulator, ecgr, identity, reaggregate, select
from fedjax_ecgr.version import __version__

__all__ = [
    "Algorithm",
    "Dataset",
    "DivergedError",
    "Examples",
    "FederatedDataset",
    "History",
    "InputError",
    "Model",
    "Regulator",
    "Simulation",
    "Spec",
    "__version__",
    "aggregators",
    "attacks",
    "datasets",
    "ecgr",
    "fedavg",
    "fednova",
    "fedprox",
    "identity",
    "metrics",
    "models",
    "partition",
    "reaggregate",
    "run",
    "samplers",
    "scaffold",
    "select",
    "simulate",
    "simulation",
    "systems",
    "transforms",
]
