"""Flower (https://flower.ai), its simulation engine: Ray actors, one a core, and its FedAvg.

The server app answers orders between runs of the strategy, so that starting Ray and its actors is
in no timing. Each actor reads the task once and keeps all clients' tensors and one network, which
is kinder than loading a client's partition for each of its rounds.
"""

import importlib.metadata
import logging
import os
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

# before the imports that read them: nothing is sent anywhere
os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}

import torch
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn

from benchmarks import work
from benchmarks.programs import networks, torch_loop, wire

logging.getLogger("flwr").setLevel(logging.WARNING)  # a dozen lines a round otherwise

_PATH = "BENCHMARK_TASK"  # environment variable: actors are not given arguments

client_app, server_app = ClientApp(), ServerApp()


def main(path: str) -> None:
    """Answers orders for the task at `path`."""
    root = str(Path(__file__).parents[2])
    os.environ |= {_PATH: path, "PYTHONPATH": root}  # which the actors inherit
    actors = wire.cores()
    accelerated = torch.cuda.is_available()
    run_simulation(
        server_app,
        client_app,
        num_supernodes=len(work.read(Path(path)).federation.sizes),
        backend_config={
            # a cluster of its own, whatever else runs here
            "init_args": {"address": "local", "num_cpus": actors, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 1 / actors if accelerated else 0.0},
        },
    )


class Chosen(FedAvg):
    """FedAvg whose clients may be named: a node is then told whose examples to take."""

    cohorts: list[list[int]] | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Samples nodes as FedAvg does, and hands the named clients out to them."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if self.cohorts is None:
            return messages
        return [
            Message(
                content=RecordDict(
                    {"arrays": arrays, "config": ConfigRecord({**config, "client": client})}
                ),
                message_type=MessageType.TRAIN,
                dst_node_id=message.metadata.dst_node_id,
            )
            for message, client in zip(messages, self.cohorts[server_round - 1], strict=True)
        ]


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Answers orders until there are no more."""
    task = work.read(Path(os.environ[_PATH]))
    device = networks.device()
    clients = len(task.federation.sizes)
    first = networks.network(task.work.model, task.parameters)
    start = torch_loop.flat(first.parameters())
    cohort_size = task.work.cohort_size or clients
    strategy = Chosen(
        fraction_train=cohort_size / clients,
        fraction_evaluate=0.0,
        min_train_nodes=cohort_size,
        min_available_nodes=clients,
    )

    def answer(rounds: int, shuffle: bool, cohorts: list[list[int]] | None) -> dict[str, Any]:
        strategy.cohorts = cohorts
        began = time.perf_counter()
        done = strategy.start(
            grid,
            ArrayRecord(first.state_dict()),
            num_rounds=rounds,
            train_config=ConfigRecord({"shuffle": shuffle}),
        )
        seconds = time.perf_counter() - began
        end = torch_loop.flat(done.arrays.to_torch_state_dict().values())
        return wire.Answer(
            seconds=seconds,
            losses=[float(one["train_loss"]) for one in done.train_metrics_clientapp.values()],
            moved=float((end - start).norm()),
            statistics=0.0,
            peak_bytes=0,  # the actors' memory is not this process's
        )._asdict()

    version = importlib.metadata.version("flwr")
    about = torch_loop.about(device)
    wire.serve({**about, "name": f"Flower {version}", "flwr": version}, answer)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Takes a client's local steps."""
    task, clients, network = _held()
    config = message.content["config"]
    client = clients[int(config.get("client", context.node_config["partition-id"]))]
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    start = torch_loop.flat(network.parameters())
    _, loss = torch_loop.train(task, network, start, client, bool(config["shuffle"]))
    metrics = MetricRecord({"train_loss": float(loss), "num-examples": len(client.labels)})
    return Message(
        content=RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics}),
        reply_to=message,
    )


@cache
def _held() -> tuple[work.Work, list[torch_loop.Client], nn.Module]:
    """Returns what an actor keeps: the task, all clients' tensors and a network."""
    task, device = work.read(Path(os.environ[_PATH])), networks.device()
    network = networks.network(task.work.model, task.parameters).to(device)
    return task.work, torch_loop.clients(task.federation, device), network


if __name__ == "__main__":
    # Under its own name, as the actors find what they run by the name of its module.
    from benchmarks.programs import flower_loop

    flower_loop.main(sys.argv[1])
