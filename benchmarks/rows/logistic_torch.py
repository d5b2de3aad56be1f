"""Multinomial logistic regression on synthetic(1, 1), 30 ragged clients, batch 10, 20 epochs."""

import numpy as np

import fedjax_ecgr as fx
from benchmarks.measure import Bench, Comparison, Result, at_least, compare
from benchmarks.work import Federation, Work

CLIENTS = 30
TASK = Work("logistic", batch_size=10, local_epochs=20, learning_rate=0.01)


def measure(bench: Bench) -> Result:
    """Measures FedAvg against a plain PyTorch loop; clients differ in size by a hundred times."""
    return compare(
        bench,
        Comparison(
            title=f"logistic regression, {CLIENTS} ragged, E 20",
            task=TASK,
            federation=federation(largest=100 if bench.quick else None),
            program="torch_loop",
            targets={"cpu": at_least(20)},
            rounds=1,
        ),
    )


def federation(largest: int | None) -> Federation:
    """Returns the training examples of synthetic(1, 1), of each client `largest` at most."""
    train = fx.datasets.synthetic(num_clients=CLIENTS, max_size=largest).train
    assert train.owners is not None
    order = np.argsort(np.asarray(train.owners), kind="stable")
    inputs, labels = np.asarray(train.inputs)[order], np.asarray(train.labels)[order]
    return Federation(
        inputs,
        labels.astype(np.int32),
        np.bincount(np.asarray(train.owners), minlength=CLIENTS).astype(np.int32),
        np.array(0, np.float32),
        np.array(1, np.float32),
        inputs[:0],
        labels[:0].astype(np.int32),
    )
