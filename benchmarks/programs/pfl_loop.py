"""pfl-research (https://github.com/apple/pfl-research), its own loop with its PyTorch model.

Put together as its image classification benchmark is: a `FederatedDataset` from slices held in
memory, users sampled at random, a `SimulatedBackend`, `FederatedAveraging` with a central learning
rate of 1. No privacy mechanism and no other postprocessor than the weighting; evaluation only where
the task asks for it, by its `CentralEvaluationCallback`.
"""

import importlib.metadata
import sys
import time
import types
from collections import deque
from pathlib import Path
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn
from torch.nn import functional

from benchmarks import work
from benchmarks.programs import networks, torch_loop, wire

_NEVER = 10**9
_EVALUATED_TOGETHER = 1000  # test examples


def main(path: str) -> None:
    """Answers orders for the task at `path`."""
    task = work.read(Path(path))
    device = networks.device()
    losses: list[torch.Tensor] | None = None  # of each batch, while they are looked at

    def loss(self: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = functional.cross_entropy(self(inputs), labels)
        if losses is not None:
            losses.append(value.detach() * len(labels))
        return value

    network = networks.network(task.work.model, task.parameters)
    network.loss, network.metrics = (types.MethodType(f, network) for f in (loss, metrics))
    model = PyTorchModel(
        model=network,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), 1.0),
    )
    first = model.get_parameters()
    waiting: deque[int] = deque()  # users to be sampled next, before any at random
    users = _users(task.federation, device)
    at_random = get_user_sampler("random", range(len(users)))
    backend = SimulatedBackend(
        training_data=FederatedDataset.from_slices(
            users, lambda: waiting.popleft() if waiting else at_random()
        ),
        val_data=None,
        postprocessors=[WeightByDatapoints()],
    )
    # One algorithm for all orders: its very first iteration evaluates every user.
    algorithm, iterations = FederatedAveraging(), 0
    cohort_size = task.work.cohort_size or len(users)

    def answer(rounds: int, shuffle: bool, cohorts: list[list[int]] | None) -> dict[str, Any]:
        nonlocal iterations, losses
        model.set_parameters(first)
        waiting.extend(user for cohort in cohorts or [] for user in cohort)
        losses = None if shuffle else []  # pfl itself never shuffles
        callbacks = _callbacks(task, device)
        iterations += rounds
        began = time.perf_counter()
        algorithm.run(
            algorithm_params=NNAlgorithmParams(
                central_num_iterations=iterations,
                evaluation_frequency=_NEVER,
                train_cohort_size=cohort_size,
                val_cohort_size=None,
            ),
            backend=backend,
            model=model,
            model_train_params=NNTrainHyperParams(
                local_learning_rate=task.work.learning_rate,
                local_num_epochs=task.work.local_epochs,
                local_batch_size=task.work.batch_size,
            ),
            model_eval_params=NNEvalHyperParams(local_batch_size=_EVALUATED_TOGETHER),
            callbacks=callbacks,
            send_metrics_to_platform=False,
        )
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        moved = model.get_model_difference(first)
        return wire.Answer(
            seconds=seconds,
            losses=_mean_losses(losses or [], rounds, task, cohort_size),
            moved=float(torch_loop.flat(moved[name] for name in model.variable_map).norm()),
            statistics=0.0,
            peak_bytes=torch_loop.peak_bytes(device),
        )._asdict()

    about = torch_loop.about(device)
    version = importlib.metadata.version("pfl")
    wire.serve({**about, "name": f"pfl {version}", "pfl": version}, answer)


@torch.no_grad()
def metrics(self: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, Weighted]:
    """Returns what pfl evaluates: loss and accuracy."""
    outputs = self(inputs)
    hits = (outputs.argmax(1) == labels).sum().item()
    total = functional.cross_entropy(outputs, labels, reduction="sum").item()
    return {"loss": Weighted(total, len(labels)), "accuracy": Weighted(hits, len(labels))}


def _users(
    federation: work.Federation, device: torch.device
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Returns each user's inputs and labels, on the device."""
    clients = torch_loop.clients(federation, device)
    return {user: (client.inputs, client.labels) for user, client in enumerate(clients)}


def _callbacks(task: work.Task, device: torch.device) -> list[CentralEvaluationCallback]:
    if task.work.eval_every is None:
        return []
    test = task.federation
    inputs = networks.tensors(test.test_inputs, test.mean, test.std).to(device)
    labels = torch.from_numpy(test.test_labels).long().to(device)
    return [
        CentralEvaluationCallback(
            Dataset(raw_data=(inputs, labels)),
            model_eval_params=NNEvalHyperParams(local_batch_size=_EVALUATED_TOGETHER),
            frequency=task.work.eval_every,
        )
    ]


def _mean_losses(
    losses: list[torch.Tensor], rounds: int, task: work.Task, cohort_size: int
) -> list[float]:
    """Returns each round's mean loss from those of its batches; all clients have one size."""
    if not losses:
        return []
    examples = cohort_size * int(task.federation.sizes[0]) * task.work.local_epochs
    return (torch.stack(losses).view(rounds, -1).sum(1) / examples).tolist()


if __name__ == "__main__":
    main(sys.argv[1])
