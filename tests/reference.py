"""Checks the engine against runs of the method's official implementation.

    python -m tests.reference PATH…

takes files in the format of `tests/data/reference/README.md`, or folders of them, runs each in
float64 through the public API, and prints one line for each with the largest absolute error. Exits
with 1 if an error is above the tolerance: 1e-9, or 1e-6 for FedNova, whose reference rounds to
float32.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fedjax_ecgr as fx
from fedjax_ecgr.data import from_owners

PyTree = Any
Arrays = Mapping[str, np.ndarray]
FOLDER = Path(__file__).parent / "data" / "reference"


class Verdict(NamedTuple):
    """How one file fared: the largest absolute error, what is allowed, and a remark."""

    path: Path
    error: float
    tolerance: float
    remark: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        word = "ok  " if self.passed else "FAIL"
        return (
            f"{word} {self.path.name:36} largest error {self.error:.1e}"
            f" (tolerance {self.tolerance:.0e}){self.remark}"
        )


def check(path: Path) -> Verdict:
    """Runs one file's cases in float64."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    with jax.enable_x64(True):
        return _check_run(path, arrays) if "config" in arrays else _check_selection(path, arrays)


# Whole runs.


def _dense(arrays: Arrays, name: str) -> PyTree:
    return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}


def _dense_after_flattening(arrays: Arrays, name: str, channels: int) -> PyTree:
    """A layer whose inputs PyTorch flattens as C,H,W and this project as H,W,C."""
    weight = arrays[f"{name}.weight"]
    side = int(np.sqrt(weight.shape[1] // channels))
    kernel = weight.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)
    return {"kernel": kernel.reshape(-1, weight.shape[0]), "bias": arrays[f"{name}.bias"]}


def _kernel(weight: np.ndarray) -> np.ndarray:
    return weight.transpose(2, 3, 1, 0)


def _mlp(arrays: Arrays) -> tuple[PyTree, PyTree]:
    return {"fc1": _dense(arrays, "fc1"), "fc2": _dense(arrays, "fc2")}, {}


def _lenet(arrays: Arrays) -> tuple[PyTree, PyTree]:
    convolutions = {
        name: {"kernel": _kernel(arrays[f"{name}.weight"]), "bias": arrays[f"{name}.bias"]}
        for name in ("conv1", "conv2")
    }
    return {
        **convolutions,
        "fc1": _dense_after_flattening(arrays, "fc1", channels=16),
        "fc2": _dense(arrays, "fc2"),
        "fc3": _dense(arrays, "fc3"),
    }, {}


def _bncnn(arrays: Arrays) -> tuple[PyTree, PyTree]:
    params = {
        "conv1": {"kernel": _kernel(arrays["conv.weight"])},
        "fc1": _dense_after_flattening(arrays, "fc", channels=4),
    }
    if "bn.weight" in arrays:  # control variates cover it too; statistics they do not
        params["bn1"] = {"scale": arrays["bn.weight"], "bias": arrays["bn.bias"]}
    stats = {}
    if "bn.running_mean" in arrays:
        stats["bn1"] = {"mean": arrays["bn.running_mean"], "var": arrays["bn.running_var"]}
    return params, stats


class _Kind(NamedTuple):
    build: Callable[[fx.Spec], fx.Model]
    convert: Callable[[Arrays], tuple[PyTree, PyTree]]


MODELS = {
    "mlp": _Kind(lambda spec: fx.models.mlp(spec, hidden=(8,)), _mlp),
    "lenet": _Kind(lambda spec: fx.models.lenet(spec), _lenet),
    "bncnn": _Kind(lambda spec: fx.models.bncnn(spec, blocks=((4,),), hidden=()), _bncnn),
}
ALGORITHMS: dict[str, Callable[..., fx.Algorithm]] = {
    "FedAvg": fx.fedavg,
    "FedProx": fx.fedprox,
    "FedNova": fx.fednova,
    "Scaffold": fx.scaffold,
}


def _check_run(path: Path, arrays: Arrays) -> Verdict:
    config = json.loads(str(arrays["config"]))
    name = config["algorithm"].removesuffix("ECGR")
    data = _federation(arrays)
    kind = MODELS[config["model"]]
    num_classes = kind.convert(_prefixed(arrays, "round_0/"))[0]
    outputs = num_classes[max(num_classes)]["bias"].size
    spec = fx.Spec(data.examples.inputs.shape[1:], outputs)
    params, stats = jax.tree.map(jnp.asarray, kind.convert(_prefixed(arrays, "round_0/")))
    model = kind.build(spec)._replace(init=lambda key: (params, stats))
    simulation = fx.simulation(
        _algorithm(name, config),
        model,
        data,
        batch_size=config["batch_size"],
        local_epochs=config["local_epochs"],
        shuffle=False,
    )
    key = jax.random.key(0)
    state, one_round = simulation.init(key), jax.jit(simulation.round)
    errors = []
    for r in range(1, config["rounds"] + 1):
        state, info = one_round(state, key, simulation.hyperparameters)
        expected = kind.convert(_prefixed(arrays, f"round_{r}/"))
        errors.append(_largest((state.params, state.batch_stats), expected))
        if f"control_{r}/" in {name[: len(f"control_{r}/")] for name in arrays}:
            control = kind.convert(_prefixed(arrays, f"control_{r}/"))[0]
            errors.append(_largest(state.server.algorithm, control))
        errors.extend(_selections(arrays, r - 1, info))
    return Verdict(path, float(np.max(errors)), 1e-6 if name == "FedNova" else 1e-9)


def _algorithm(name: str, config: Mapping[str, Any]) -> fx.Algorithm:
    options: dict[str, Any] = {
        "learning_rate": config["learning_rate"],
        "momentum": config["momentum"],
    }
    if config["algorithm"].endswith("ECGR"):
        options["regulator"] = fx.ecgr(config["beta"], config["select_ratio"])
    if config.get("lr_halved_every"):
        options |= {"decay": 0.5, "decay_every": config["lr_halved_every"]}
    if name == "FedProx":
        options["mu"] = config["mu"]
    return ALGORITHMS[name](**options)


def _federation(arrays: Arrays) -> fx.FederatedDataset:
    clients = sorted(int(name[2:]) for name in arrays if name.startswith("x_"))
    inputs = [arrays[f"x_{client}"] for client in clients]
    owners = np.repeat(np.arange(len(clients)), [len(x) for x in inputs])
    stacked = np.concatenate(inputs)
    examples = fx.Examples(
        stacked.transpose(0, 2, 3, 1) if stacked.ndim == 4 else stacked,
        np.concatenate([arrays[f"y_{client}"] for client in clients]),
        mean=np.zeros(()),
        std=np.ones(()),
    )
    return from_owners(examples, owners, len(clients))


def _selections(arrays: Arrays, round_index: int, info: Any) -> Iterator[float]:
    """Yields 0 where a client's convergent steps are the reference's, inf where they are not."""
    for client in range(info.cohort.size):
        expected = arrays.get(f"convergent_{round_index}_{client}")
        if expected is not None:
            chosen = np.flatnonzero(info.clients.regulator.selection.chosen[client])
            yield 0.0 if np.array_equal(chosen, np.sort(expected)) else np.inf


def _prefixed(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def _largest(actual: PyTree, expected: PyTree) -> float:
    differences = jax.tree.map(lambda a, e: np.abs(np.asarray(a) - e).max(), actual, expected)
    return float(np.max(jax.tree.leaves(differences)))


# Selections and single updates.


def _greedy_scores(deltas: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.cumsum(deltas[order], axis=0), axis=1)


def _norms(deltas: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.linalg.norm(deltas[order], axis=1)


def _distances(deltas: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.linalg.norm(deltas[order] - deltas.mean(axis=0), axis=1)


def _cosines(deltas: np.ndarray, order: np.ndarray) -> np.ndarray:
    mean = deltas.mean(axis=0)
    return deltas[order] @ mean / np.linalg.norm(deltas[order], axis=1) / np.linalg.norm(mean)


# What a rule minimises, at each of its choices. Choices are compared by it, since the reference
# breaks ties (two steps are always equally far from their mean) by its own rounding.
SCORES = {
    "greedy": _greedy_scores,
    "smallest_norm": _norms,
    "nearest_mean": _distances,
    "cosine_mean": _cosines,
}


def _check_selection(path: Path, arrays: Arrays) -> Verdict:
    errors, ties = [], 0
    shapes = [x.shape for name, x in arrays.items() if name.endswith("/deltas")]
    most, width = (max(sizes) for sizes in zip(*shapes, strict=True))
    for case in sorted({name.split("/")[0] for name in arrays}, key=int):
        deltas = _wide(arrays[f"{case}/deltas"], width)
        beta, ratio = arrays[f"{case}/beta"], arrays[f"{case}/select_ratio"]
        room = np.pad(deltas, [(0, most - len(deltas)), (0, 0)])
        whole, per_step = _all_of(room, np.arange(most) < len(deltas), beta, ratio)
        for rule, score in SCORES.items():
            expected = arrays.get(f"{case}/{rule}")
            if expected is None:
                continue
            order = np.asarray(whole[rule][1].selection.order)
            order = order[order >= 0]
            if order.size != expected.size:
                errors.append(np.inf)
                continue
            ties += not np.array_equal(order, expected)
            errors.append(np.abs(score(deltas, order) - score(deltas, expected)).max())
        expected = _wide(arrays[f"{case}/update_greedy"], width)
        errors.append(np.abs(whole["greedy"][0] - expected).max())
        errors.append(np.abs(per_step - expected).max())
    remark = f"; {ties} exact tie(s) broken otherwise" if ties else ""
    return Verdict(path, float(np.max(errors)), 1e-9, remark)


def _wide(array: np.ndarray, width: int) -> np.ndarray:
    """Appends zeros, of which no length or product knows: one shape, and so one program."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])])


@jax.jit
def _all_of(deltas: Array, mask: Array, beta: Array, ratio: Array) -> tuple[dict[str, Any], Array]:
    """What each rule makes of the deltas as a whole, and ECGR's update of one step at a time."""
    options = {"beta": beta, "select_ratio": ratio, "mask": mask}
    whole = {rule: fx.reaggregate(deltas, rule=rule, **options) for rule in SCORES}
    return whole, _per_step(deltas, mask, beta, ratio)


def _per_step(deltas: Array, mask: Array, beta: Array, ratio: Array) -> Array:
    """The update of the regulator that is fed step by step, as the engine does it."""
    regulator = fx.ecgr(beta, ratio)
    state = regulator.init(jnp.zeros_like(deltas[0]), len(deltas) + 1)
    state, _ = jax.lax.scan(
        lambda state, step: (regulator.update(step[0], state, step[1]), None), state, (deltas, mask)
    )
    return regulator.finalize(state, deltas.sum(axis=0))[0]


def files_of(folder: Path) -> list[Path]:
    """Returns the files of a folder; selection.npz, which takes longest, comes first."""
    return sorted(folder.glob("*.npz"), reverse=True)


def main(arguments: list[str]) -> int:
    """Checks the files named, or those in the folders named; by default the project's own."""
    places = [Path(argument) for argument in arguments] or [FOLDER]
    paths = [p for place in places for p in (files_of(place) if place.is_dir() else [place])]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        what = f"{missing[0]}: no such file" if missing else "no .npz files there"
        print(f"error: {what}", file=sys.stderr)
        return 2
    failed = 0
    # most of it is compilation, which takes one core: a process for each, started anew for JAX
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        for verdict in processes.map(check, paths):
            print(verdict, flush=True)
            failed += not verdict.passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
