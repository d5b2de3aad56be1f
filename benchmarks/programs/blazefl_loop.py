"""BlazeFL (https://github.com/blazefl/blazefl), its FedAvg in a pool of threads, one a core.

Put together as its example is, a server handler and a client trainer of its own, for which Python
should be free-threaded. Clients' examples are tensors in memory, read a batch by index, where its
example has a data loader; and PyTorch itself takes one thread, as the clients fill the cores.
"""

import importlib.metadata
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from blazefl.contrib import fedavg
from torch import nn

from benchmarks import work
from benchmarks.programs import networks, torch_loop, wire

_SEED = 0


def main(path: str) -> None:
    """Answers orders for the task at `path`."""
    task = work.read(Path(path))
    device = networks.device()
    torch.set_num_threads(1)
    clients = torch_loop.clients(task.federation, device)
    network = partial(networks.network, task.work.model, task.parameters)
    first = torch_loop.flat(network().parameters())
    cohort_size = task.work.cohort_size or len(clients)

    def answer(rounds: int, shuffle: bool, cohorts: list[list[int]] | None) -> dict[str, Any]:
        common = {
            "model_selector": _Models(network),
            "model_name": task.work.model,
            "dataset": _Loaders(clients, shuffle),
            "num_clients": len(clients),
            "device": str(device),
            "batch_size": task.work.batch_size,
            "seed": _SEED,
        }
        server = fedavg.FedAvgBaseServerHandler(
            **common, global_round=rounds, sample_ratio=cohort_size / len(clients)
        )
        trainer = _Quiet(
            **common,
            epochs=task.work.local_epochs,
            lr=task.work.learning_rate,
            num_parallels=wire.cores(),
        )
        began = time.perf_counter()
        while not server.is_stopped():
            cohort = cohorts[server.round] if cohorts else server.sample_clients()
            trainer.local_process(server.downlink_package(), cohort)
            for package in trainer.uplink_package():
                server.load(package)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        return wire.Answer(
            seconds=seconds,
            losses=[],  # its trainer keeps none
            moved=float((torch_loop.flat(server.model.parameters()).cpu() - first).norm()),
            statistics=0.0,
            peak_bytes=torch_loop.peak_bytes(device),
        )._asdict()

    version = importlib.metadata.version("blazefl")
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    about = {**torch_loop.about(device), "blazefl": version, "free_threaded": free}
    wire.serve({**about, "name": f"BlazeFL {version}"}, answer)


class _Quiet(fedavg.FedAvgThreadPoolClientTrainer):
    """Its trainer without a progress bar."""

    def progress_fn(self, it: list[Future[Any]]) -> list[Future[Any]]:
        return it


class _Models(NamedTuple):
    """A model selector: every client's network begins as a new one."""

    make: Any

    def select_model(self, model_name: str) -> nn.Module:
        return self.make()


class _Loaders(NamedTuple):
    """A partitioned dataset of tensors."""

    clients: list[torch_loop.Client]
    shuffle: bool

    def get_dataloader(self, type_: Any, cid: int, batch_size: int, generator: Any) -> "_Batches":
        return _Batches(self.clients[cid], batch_size, generator if self.shuffle else None)


class _Batches:
    """Batches of a client's examples, shuffled by a generator where there is one."""

    def __init__(
        self, client: torch_loop.Client, batch_size: int, generator: torch.Generator | None
    ) -> None:
        self.client, self.batch_size, self.generator = client, batch_size, generator

    @property
    def dataset(self) -> torch.Tensor:
        """What the client's examples are counted by."""
        return self.client.labels

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        count = len(self.client.labels)
        order = torch.arange(count)
        if self.generator is not None:
            order = torch.randperm(count, generator=self.generator)
        for batch in order.to(self.client.labels.device).split(self.batch_size):
            yield self.client.inputs[batch], self.client.labels[batch]


if __name__ == "__main__":
    main(sys.argv[1])
