"""The published set-up on real Fashion-MNIST: against a plain PyTorch loop on the same images."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.work import Federation, Work, images
from experiments.fashion_mnist import DEBIAN, REGULATORS, published
from fedjax_ecgr import runs
from fedjax_ecgr.data.federated import Examples, held_examples
from fedjax_ecgr.runs.config import data_of, divided

CONFIG = published(REGULATORS["fedavg-ecgr"])
NUMBERS = ("learning_rate", "decay", "decay_every", "momentum")
TASK = Work(
    CONFIG.model.name,
    batch_size=CONFIG.batch_size,
    local_epochs=CONFIG.local_epochs,
    beta=CONFIG.regulator.options["beta"],
    select_ratio=CONFIG.regulator.options["select_ratio"],
    **{name: CONFIG.algorithm.options[name] for name in NUMBERS},
)


def measure(bench: Bench) -> Result:
    """Measures ECGR under FedAvg, α = 0.1; then both sides train on and are evaluated."""
    return compare(
        bench,
        Comparison(
            title="Fashion-MNIST, LeNet, published set-up, ECGR",
            task=TASK,
            # the package is 30 MB, and a quick look is to need nothing
            federation=images(10, 384, (28, 28, 1), tests=256) if bench.quick else federation(),
            program="torch_loop",
            targets={"cpu": at_least(1.5)},
            rounds=1,
            accuracy_after=2 if bench.quick else CONFIG.rounds,
        ),
    )


def federation(folder: Path = DEBIAN) -> Federation:
    """Returns Fashion-MNIST as the published set-up divides it for seed 0."""
    config = replace(CONFIG, dataset=runs.Choice("idx", {"data_path": str(folder)}))
    dataset = data_of(config)
    clients = divided(config, dataset)
    train, test = held_examples(clients), dataset.test
    return Federation(
        *_arrays(train),
        np.asarray(clients.sizes),
        np.reshape(train.mean, ()),
        np.reshape(train.std, ()),
        *_arrays(test),
    )


def _arrays(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(examples.inputs), np.asarray(examples.labels)
