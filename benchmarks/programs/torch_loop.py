"""A plain PyTorch loop over clients, as published federated-learning code runs, made cheap.

One client after another, a fresh optimiser every round, the step deltas kept and the convergent
steps selected greedily. It is kept generous: tensors in memory, already normalised, batches by
index, no loader processes.
"""

import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import work
from benchmarks.programs import networks, wire


class Client(NamedTuple):
    """A client's examples, normalised and on the device."""

    inputs: torch.Tensor
    labels: torch.Tensor


def main(path: str) -> None:
    """Answers orders for the task at `path`."""
    task = work.read(Path(path))
    device = networks.device()
    model = networks.network(task.work.model, task.parameters)
    channels_last = task.work.channels_last
    model = model.to(device, memory_format=networks.layout(channels_last))
    federation = clients(task.federation, device, channels_last)
    test = tests(task.federation, device, channels_last)
    first, first_statistics = flat(model.parameters()), flat(running(model))

    def answer(
        rounds: int, shuffle: bool, cohorts: list[list[int]] | None, evaluate: bool = False
    ) -> dict[str, Any]:
        start, start_statistics, losses = first, first_statistics, []
        began = time.perf_counter()
        for index in range(rounds):
            cohort = cohorts[index] if cohorts else _cohort(task.work, len(federation))
            rate = task.work.learning_rate * task.work.decay ** (index // task.work.decay_every)
            start, start_statistics, loss = run_round(
                task.work._replace(learning_rate=rate),
                model,
                start,
                start_statistics,
                [federation[i] for i in cohort],
                shuffle,
            )
            losses.append(float(loss))
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        if evaluate:
            set_flat(model.parameters(), start)
            set_flat(running(model), start_statistics)
        return wire.Answer(
            seconds=seconds,
            losses=losses,
            moved=float((start - first).norm()),
            statistics=float(start_statistics.norm()),
            peak_bytes=peak_bytes(device),
            accuracy=accuracy(model, test) if evaluate else None,
        )._asdict()

    wire.serve(about(device), answer)


def about(device: torch.device) -> dict[str, Any]:
    """Returns what this side is."""
    return {
        "name": f"PyTorch {torch.__version__} loop",
        "kind": "gpu" if device.type == "cuda" else device.type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def peak_bytes(device: torch.device) -> int:
    """Returns the most memory used so far: the accelerator's, else the process's."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else wire.peak_memory()


def run_round(
    task: work.Work,
    model: nn.Module,
    start: torch.Tensor,
    start_statistics: torch.Tensor,
    cohort: list[Client],
    shuffle: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Runs one round of FedAvg, with ECGR where the task has a β.

    Returns:
      The new global parameters and statistics, flat, and the mean training loss.
    """
    total = sum(len(client.labels) for client in cohort)
    update, averaged = torch.zeros_like(start), torch.zeros_like(start_statistics)
    loss = start.new_zeros(())
    for client in cohort:
        weight = len(client.labels) / total
        set_flat(model.parameters(), start)
        set_flat(running(model), start_statistics)
        deltas, client_loss = train(task, model, start, client, shuffle)
        if task.beta is None:
            update += weight * (start - flat(model.parameters()))
        else:
            update += weight * regulate(torch.stack(deltas), task.beta, task.select_ratio)
        averaged += weight * flat(running(model))
        loss += weight * client_loss
    return start - update, averaged, loss


def train(
    task: work.Work, model: nn.Module, start: torch.Tensor, client: Client, shuffle: bool
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Takes a client's local steps; returns their deltas, if they are needed, and the mean loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=task.learning_rate, momentum=task.momentum)
    deltas, before, loss_sum = [], start, start.new_zeros(())
    for _ in range(task.local_epochs):
        count = len(client.labels)
        order = torch.randperm(count) if shuffle else torch.arange(count)
        for batch in order.to(client.labels.device).split(task.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(model(client.inputs[batch]), client.labels[batch])
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(batch)
            if task.beta is not None:
                after = flat(model.parameters())
                deltas.append(before - after)
                before = after
    return deltas, loss_sum / (task.local_epochs * len(client.labels))


def regulate(deltas: torch.Tensor, beta: float, select_ratio: float) -> torch.Tensor:
    """ECGR on [steps, parameters]."""
    total, chosen = torch.zeros_like(deltas[0]), []
    left = list(range(len(deltas)))
    for _ in range(max(1, int(len(deltas) * select_ratio))):
        best = left[int(torch.linalg.vector_norm(deltas[left] + total, dim=1).argmin())]
        left.remove(best)
        chosen.append(best)
        total = total + deltas[best]
    update = total + beta * deltas[left].sum(0)
    return update * (deltas.sum(0).norm() / update.norm())


@torch.no_grad()
def accuracy(model: nn.Module, test: Client) -> float:
    """Returns the share of examples whose largest output is at the label."""
    model.eval()
    batches = zip(test.inputs.split(1000), test.labels.split(1000), strict=True)
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    model.train()
    return hits / len(test.labels)


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Returns all of some tensors as one vector, a copy."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@torch.no_grad()
def set_flat(tensors: Iterable[torch.Tensor], values: torch.Tensor) -> None:
    """Sets tensors, which keep their memory formats, to what `flat` returned."""
    tensors = list(tensors)
    parts = values.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def running(model: nn.Module) -> list[torch.Tensor]:
    """Returns the running means and variances, and an empty tensor for a model without any."""
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    return [*buffers, next(model.parameters()).new_empty(0)]


def clients(
    federation: work.Federation, device: torch.device, channels_last: bool = False
) -> list[Client]:
    """Returns each client's examples, on the device."""
    inputs = networks.tensors(federation.inputs, federation.mean, federation.std, channels_last)
    inputs = inputs.to(device)
    labels = torch.from_numpy(federation.labels).long().to(device)
    sizes = federation.sizes.tolist()
    return [Client(*both) for both in zip(inputs.split(sizes), labels.split(sizes), strict=True)]


def tests(federation: work.Federation, device: torch.device, channels_last: bool) -> Client:
    """Returns the test examples, on the device."""
    number = np.array([len(federation.test_labels)])
    own = federation._replace(
        inputs=federation.test_inputs, labels=federation.test_labels, sizes=number
    )
    (client,) = clients(own, device, channels_last)
    return client


def _cohort(task: work.Work, clients: int) -> list[int]:
    if task.cohort_size is None:
        return list(range(clients))
    return torch.randperm(clients)[: task.cohort_size].tolist()


if __name__ == "__main__":
    main(sys.argv[1])
