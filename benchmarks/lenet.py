"""LeNet on 28×28×1, 10 clients, batch 128: a round against PyTorch's, and ECGR's own cost."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fedjax_ecgr as fx
from benchmarks.measure import Row, in_turn
from benchmarks.peers import Peer
from fedjax_ecgr.data import from_owners

CLIENTS = 10
TASK: dict[str, Any] = {
    "learning_rate": 0.01,
    "momentum": 0.9,
    "batch_size": 128,
    "beta": 0.2,
    "select_ratio": 0.5,
    "mean": 128.0,
    "std": 73.0,
}


def against_torch(repeats: int, examples: int = 3000) -> Row:
    """ECGR under FedAvg against a plain PyTorch loop over clients; the same work on both sides."""
    data, model = _data(examples), fx.models.lenet(fx.Spec((28, 28, 1), 10))
    ordered, shuffled = (_simulation(data, model, fx.ecgr(), shuffle=s) for s in (False, True))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.npz"
        _write(path, data, model)
        with Peer("torch", Path(__file__).parent / "torch_loop.py", str(path)) as torch:
            losses = fx.run(ordered, rounds=2, eval_every=2).table["train_loss"]
            expected = torch.ask(rounds=2, shuffle=False, restart=True)["losses"]
            if not np.allclose(losses, expected, rtol=1e-3):
                raise RuntimeError(f"the two sides do different work: {losses} and {expected}")
            ours, compile_seconds = _rounds(shuffled)
            torch.ask(rounds=1, shuffle=True, restart=True)
            mine, theirs = in_turn(
                ours, lambda: torch.ask(rounds=1, shuffle=True, restart=False)["seconds"], repeats
            )
            about = torch.about
    row = Row(
        name=f"LeNet, {CLIENTS} clients × {examples}, batch 128, ECGR: one round",
        ours=mine,
        against=f"PyTorch {about['torch']} loop, {about['threads']} threads",
        theirs=theirs,
        target="≥ 1.0×",
        reached=False,
        compile_seconds=compile_seconds,
        details={
            "losses": {"ours": losses.tolist(), "theirs": expected},
            "client_updates_per_second": CLIENTS / float(np.median(mine)),
        },
    )
    return row._replace(reached=row.ratio >= 1.0)


def ecgr_over_fedavg(repeats: int, examples: int = 3000) -> Row:
    """What ECGR adds to a round of FedAvg with τ = 24 steps."""
    data, model = _data(examples), fx.models.lenet(fx.Spec((28, 28, 1), 10))
    ours, compile_seconds = _rounds(_simulation(data, model, fx.ecgr(), shuffle=True))
    plain, _ = _rounds(_simulation(data, model, fx.identity(), shuffle=True))
    mine, theirs = in_turn(ours, plain, repeats)
    steps = -(-examples // TASK["batch_size"])
    row = Row(
        name=f"ECGR, LeNet, τ = {steps}: one round",
        ours=mine,
        against="FedAvg without ECGR, here",
        theirs=theirs,
        target="≤ 5 % added",
        reached=False,
        compile_seconds=compile_seconds,
        details={},
    )
    return row._replace(reached=1 / row.ratio <= 1.05)


def _data(examples: int) -> fx.FederatedDataset:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, CLIENTS * examples).astype(np.int32)
    # images with something to learn: each class is bright in a row of its own
    inputs = rng.integers(0, 200, (len(labels), 28, 28, 1), np.uint8)
    inputs[np.arange(len(labels)), 2 * labels + 4] += 50
    stored = fx.Examples(
        inputs, labels, np.array(TASK["mean"], np.float32), np.array(TASK["std"], np.float32)
    )
    return from_owners(stored, np.repeat(np.arange(CLIENTS), examples), CLIENTS)


def _simulation(
    data: fx.FederatedDataset, model: fx.Model, regulator: fx.Regulator, *, shuffle: bool
) -> fx.Simulation:
    regulated = regulator.name == "ecgr"
    numbers = {"beta": TASK["beta"], "select_ratio": TASK["select_ratio"]} if regulated else {}
    algorithm = fx.fedavg(
        regulator=regulator._replace(hyperparameters=numbers),
        learning_rate=TASK["learning_rate"],
        momentum=TASK["momentum"],
    )
    return fx.simulation(algorithm, model, data, batch_size=TASK["batch_size"], shuffle=shuffle)


def _rounds(built: fx.Simulation) -> tuple[Callable[[], float], float]:
    """Returns a function that runs and times one round, warmed up, and the compile seconds."""
    key = jax.random.key(0)
    state = jax.block_until_ready(built.init(key))
    began = time.perf_counter()
    state, _ = jax.block_until_ready(built.block(state, key, built.hyperparameters, 0, 1))
    compile_seconds = time.perf_counter() - began

    def one() -> float:
        nonlocal state
        began = time.perf_counter()
        state, infos = built.block(state, key, built.hyperparameters, 1, 1)
        jax.block_until_ready((state, infos))
        return time.perf_counter() - began

    one()
    return one, compile_seconds


def _write(path: Path, data: fx.FederatedDataset, model: fx.Model) -> None:
    """Writes the data and the first parameters in PyTorch's layout."""
    params, _ = model.init(jax.random.fold_in(jax.random.key(0), np.uint32(2**32 - 1)))
    parameters = []
    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"])
        if name == "fc1":  # behind the flattening: H,W,C here, C,H,W there
            kernel = kernel.reshape(5, 5, 16, -1).transpose(2, 0, 1, 3).reshape(400, -1)
        kernel = kernel.T if kernel.ndim == 2 else kernel.transpose(3, 2, 0, 1)
        parameters += [kernel, np.asarray(layer["bias"])]
    inputs, labels = np.asarray(data.examples.inputs), np.asarray(data.examples.labels)
    arrays: dict[str, Any] = {
        "task": json.dumps(TASK),
        "inputs": inputs.reshape(CLIENTS, -1, *inputs.shape[1:]),
        "labels": labels.reshape(CLIENTS, -1),
        **{f"parameter_{i}": np.ascontiguousarray(p) for i, p in enumerate(parameters)},
    }
    np.savez(path, **arrays)
