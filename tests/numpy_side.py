"""A benchmark's other side: FedAvg on logistic regression, written out in NumPy alone."""

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import work
from benchmarks.programs import wire
from benchmarks.work import Federation, Work


def numpy_round(task: Work, data: Federation, params, cohort, order):
    """FedAvg's round on multinomial logistic regression; returns parameters and mean loss."""
    starts = np.concatenate([[0], np.cumsum(data.sizes)])
    total = data.sizes[cohort].sum()
    update, mean_loss = [np.zeros_like(p) for p in params], 0.0
    for client in cohort:
        x = (data.inputs[starts[client] : starts[client + 1]] - data.mean) / data.std
        y = data.labels[starts[client] : starts[client + 1]]
        kernel, bias = (p.copy() for p in params)
        for _ in range(task.local_epochs):
            rows = order(len(y))
            for batch in np.split(rows, range(task.batch_size, len(y), task.batch_size)):
                logits = x[batch] @ kernel + bias
                share = np.exp(logits - logits.max(1, keepdims=True))
                share /= share.sum(1, keepdims=True)
                losses = -np.log(share[np.arange(len(batch)), y[batch]])
                mean_loss += losses.sum() / (total * task.local_epochs)
                share[np.arange(len(batch)), y[batch]] -= 1
                kernel -= task.learning_rate * x[batch].T @ share / len(batch)
                bias -= task.learning_rate * share.mean(0)
        weight = len(y) / total
        update = [
            u + weight * (p - q) for u, p, q in zip(update, params, (kernel, bias), strict=True)
        ]
    return [p - u for p, u in zip(params, update, strict=True)], mean_loss


def main(*flags: str) -> None:
    """The side in NumPy; does other work, or says it runs elsewhere, when told to."""
    *flags, path = flags
    task, data, parameters = work.read(Path(path))
    if "wrong" in flags:
        task = task._replace(learning_rate=2 * task.learning_rate)
    first = [parameters["fc1/kernel"].astype(float), parameters["fc1/bias"].astype(float)]
    rng = np.random.default_rng(0)

    def answer(rounds, shuffle, cohorts):
        params, losses, began = first, [], time.perf_counter()
        for index in range(rounds):
            cohort = cohorts[index] if cohorts else rng.permutation(len(data.sizes))[:3]
            order = rng.permutation if shuffle else np.arange
            params, loss = numpy_round(task, data, params, np.array(cohort), order)
            losses.append(float(loss))
        moved = np.sqrt(sum(np.square(p - q).sum() for p, q in zip(params, first, strict=True)))
        print("a library's chatter")  # must not come between the answers
        return wire.Answer(
            time.perf_counter() - began, losses, float(moved), 0.0, wire.peak_memory()
        )._asdict()

    kind = "tpu" if "elsewhere" in flags else "cpu"
    wire.serve({"name": "NumPy", "kind": kind}, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
