"""This project's side: `fx.simulation` and `fx.run`, as a user would call them."""

import os
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedjax_ecgr as fx
from benchmarks import work
from benchmarks.programs import wire
from fedjax_ecgr import runs
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.engine.groups import grouped
from fedjax_ecgr.engine.waves import compile_group, outcomes_of, run_wave
from fedjax_ecgr.models.layers import conv, conv_pool, flatten
from fedjax_ecgr.models.mlp import head


def cnn(spec: fx.Spec) -> fx.Model:
    """Returns the CNN of pfl's CIFAR-10 benchmark without its dropout; parameters are given."""

    def init(key: jax.Array) -> tuple[Any, Any]:
        raise NotImplementedError("this model starts from parameters that are given")

    def apply(
        params: Any, stats: Any, inputs: jax.Array, *, mask: Any, train: bool, key: Any
    ) -> tuple[jax.Array, Any]:
        x = jax.nn.relu(conv(params["conv1"], inputs, "VALID"))
        x = jax.nn.relu(conv_pool(params["conv2"], x, "VALID"))
        return head(params, flatten(x)), stats

    return fx.Model("cnn", init, apply)


MODELS: dict[str, Callable[[fx.Spec], fx.Model]] = {
    "logistic": fx.models.logistic_regression,
    "mlp": fx.models.mlp,
    "mlp64": fx.models.mlp,
    "digits": partial(fx.models.mlp, hidden=(64,)),
    "lenet": fx.models.lenet,
    "cnn": cnn,
    "bncnn": fx.models.bncnn,
}


def main(path: str | None) -> None:
    """Answers orders for the task at `path`; without one, only says where it runs."""
    if path is None:
        wire.serve(_about(), _refuse)
        return
    task = work.read(Path(path))
    first_parameters, _ = _first(task)

    @cache
    def divided() -> fx.FederatedDataset:
        return _divided(task.federation)

    @cache
    def built(shuffle: bool, evaluate: bool = False) -> fx.Simulation:
        return _simulation(task, divided(), shuffle, evaluate)

    @cache
    def sweep(shuffle: bool, rounds: int) -> Any:
        members = _members(built(shuffle), task.work.members)
        (group,) = grouped(members)
        return members, group, compile_group(group, members, rounds)

    def swept(shuffle: bool, rounds: int) -> dict[str, Any]:
        members, group, compiled = sweep(shuffle, rounds)
        began = time.perf_counter()
        ends = [list(run_wave(group, compiled, members, w, rounds))[-1] for w in group.waves]
        seconds = time.perf_counter() - began
        first = outcomes_of(ends[0], 1, compiled.seconds, seconds)[0].history
        return _answer(first, first_parameters, seconds=seconds)

    def answer(
        rounds: int = 0,
        shuffle: bool = True,
        cohorts: Any = None,
        product: int = 0,
        set_up: bool = False,
        memory: bool = False,
        evaluate: bool = False,
    ) -> dict[str, Any]:
        if product:
            return {"operations_a_second": _product_rate(product)}
        if set_up:
            seconds = {
                "federation": _seconds(divided),
                "simulation": _seconds(lambda: built(shuffle)),
                "init": _seconds(lambda: built(shuffle).init(jax.random.key(0))),
            }
            return {"seconds": seconds, "peak_bytes": _peak_bytes()}
        if memory and task.work.members > 1:
            return {"bytes": sweep(shuffle, rounds)[2].memory}
        if memory:
            simulation = built(shuffle)
            return {"bytes": simulation.memory().peak(simulation.placement.chunk_size)}
        if task.work.members > 1:
            return swept(shuffle, rounds)
        done = fx.run(
            built(shuffle, evaluate), rounds=rounds, eval_every=task.work.eval_every or rounds
        )
        return _answer(done, first_parameters, seconds=done.run_seconds, evaluate=evaluate)

    wire.serve(_about(), answer)


def _answer(
    done: fx.History, first: Any, *, seconds: float, evaluate: bool = False
) -> dict[str, Any]:
    state = done.state
    return wire.Answer(
        seconds=seconds,
        losses=done.table["train_loss"].tolist(),
        moved=float(optax.tree.norm(jax.tree.map(jnp.subtract, state.params, first))),
        statistics=float(optax.tree.norm(state.batch_stats)) if state.batch_stats else 0.0,
        peak_bytes=_peak_bytes(),
        cohorts=done.cohorts.tolist(),
        compile_seconds=done.compile_seconds,
        accuracy=float(done.table["test_accuracy"][-1]) if evaluate else None,
    )._asdict()


def _members(simulation: fx.Simulation, count: int) -> list[fx.Member]:
    """Returns members of eight seeds by ten β by step sizes; the first is as the simulation is."""
    numbers = simulation.hyperparameters
    regulator, algorithm = numbers["regulator"], numbers["algorithm"]
    own = [
        {
            **numbers,
            "regulator": {**regulator, "beta": beta},
            "algorithm": {**algorithm, "learning_rate": rate},
        }
        for rate in algorithm["learning_rate"] * np.linspace(1, 2, -(-count // 80))
        for beta in np.linspace(regulator["beta"], 1, 10)
    ]
    return [fx.Member(simulation, number % 8, own[number // 8]) for number in range(count)]


def _refuse(**order: Any) -> dict[str, Any]:
    raise ValueError(f"there is no task for {order}")


def _seconds(part: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(part())
    return time.perf_counter() - began


def _divided(federation: work.Federation) -> fx.FederatedDataset:
    examples = fx.Examples(federation.inputs, federation.labels, federation.mean, federation.std)
    clients = len(federation.sizes)
    return from_owners(examples, np.repeat(np.arange(clients), federation.sizes), clients)


def _simulation(
    task: work.Task, data: fx.FederatedDataset, shuffle: bool, evaluate: bool
) -> fx.Simulation:
    spec, federation = task.work, task.federation
    test = data.examples._replace(inputs=federation.test_inputs, labels=federation.test_labels)
    regulator = fx.identity()
    if spec.beta is not None:
        regulator = fx.ecgr(beta=spec.beta, select_ratio=spec.select_ratio)
    return fx.simulation(
        fx.fedavg(
            regulator=regulator,
            learning_rate=spec.learning_rate,
            decay=spec.decay,
            decay_every=spec.decay_every,
            **_optimizer(spec),
        ),
        _model(task),
        data,
        test=test if spec.eval_every or evaluate else None,
        cohort_size=spec.cohort_size,
        batch_size=spec.batch_size,
        local_epochs=spec.local_epochs,
        shuffle=shuffle,
        placement=spec.placement,
        chunk_size=spec.chunk_size,
        eval_batch_size=1000,
    )


def _optimizer(spec: work.Work) -> dict[str, Any]:
    """Returns SGD's options; without momentum it need not keep any, as PyTorch's does not."""
    if spec.momentum:
        return {"momentum": spec.momentum}
    return {"optimizer": lambda learning_rate, numbers: optax.sgd(learning_rate)}


def _model(task: work.Task) -> fx.Model:
    """Returns the model, starting from the parameters given."""
    shape = task.federation.inputs.shape[1:]
    first = _first(task)
    return MODELS[task.work.model](fx.Spec(shape, 10))._replace(init=lambda key: first)


def _first(task: work.Task) -> tuple[Any, Any]:
    """Returns the task's parameters as a tree, and the statistics that go with them."""
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, array in task.parameters.items():
        layer, leaf = name.split("/")
        params.setdefault(layer, {})[leaf] = array
    stats = {
        layer: {"mean": np.zeros_like(leaves["scale"]), "var": np.ones_like(leaves["scale"])}
        for layer, leaves in params.items()
        if "scale" in leaves
    }
    return params, stats


def _about() -> dict[str, Any]:
    memory = jax.devices()[0].memory_stats() or {}
    return {
        "name": f"fedjax_ecgr {fx.__version__}",
        **runs.environment(),
        "cores_usable": wire.cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device_memory_bytes": memory.get("bytes_limit"),
        "kind": jax.default_backend(),
    }


def _peak_bytes() -> int:
    memory = jax.devices()[0].memory_stats() or {}
    return memory.get("peak_bytes_in_use") or wire.peak_memory()


def _product_rate(size: int) -> float:
    """Returns the best rate of a product of square matrices, in operations a second."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(matrix, matrix))
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


if __name__ == "__main__":
    # Read when a CPU is first used: small models run fastest with a client on each core.
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", wire.cores())
    # a program found compiled on disk would have no compile time to speak of
    jax.config.update("jax_enable_compilation_cache", False)
    # read when the accelerator is first used, which may be shared with another of these
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
    main(sys.argv[1] if len(sys.argv) > 1 else None)
