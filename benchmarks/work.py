"""A federated training task as plain arrays and numbers, which every side reads from one file.

Only NumPy is needed here: programs of any library import this, whatever their environment holds.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Layer(NamedTuple):
    """One layer with parameters.

    Attributes:
      name: as in this project's parameter trees; conv…, bn… or fc….
      kernel: [kh, kw, in, out] of a convolution, [in, out] of a dense layer, [channels] of a batch
        normalisation.
      positions: at how many positions of an example the kernel is applied.
      bias: whether a bias is added.
    """

    name: str
    kernel: tuple[int, ...]
    positions: int = 1
    bias: bool = True


def _bncnn() -> tuple[Layer, ...]:
    channels, layers = (3, 64, 64, 128, 128, 256, 256), []
    for i, side in enumerate((32, 32, 16, 16, 8, 8), start=1):
        layers.append(Layer(f"conv{i}", (3, 3, channels[i - 1], channels[i]), side**2, bias=False))
        layers.append(Layer(f"bn{i}", (channels[i],), side**2))
    return (*layers, Layer("fc1", (4 * 4 * 256, 10)))


ARCHITECTURES: dict[str, tuple[Layer, ...]] = {
    "logistic": (Layer("fc1", (60, 10)),),
    "mlp": (Layer("fc1", (784, 200)), Layer("fc2", (200, 10))),
    "mlp64": (Layer("fc1", (64, 200)), Layer("fc2", (200, 10))),
    "digits": (Layer("fc1", (64, 64)), Layer("fc2", (64, 10))),
    "lenet": (
        Layer("conv1", (5, 5, 1, 6), 28**2),
        Layer("conv2", (5, 5, 6, 16), 10**2),
        Layer("fc1", (5 * 5 * 16, 120)),
        Layer("fc2", (120, 84)),
        Layer("fc3", (84, 10)),
    ),
    "cnn": (
        Layer("conv1", (3, 3, 3, 32), 30**2),
        Layer("conv2", (3, 3, 32, 64), 28**2),
        Layer("fc1", (14 * 14 * 64, 128)),
        Layer("fc2", (128, 10)),
    ),
    "bncnn": _bncnn(),
}
"""The models of the benchmark by name, layer by layer; shapes and counts follow from them."""


class Work(NamedTuple):
    """What is to be done; static.

    Attributes:
      model: a name in `ARCHITECTURES`.
      batch_size: examples a local step.
      local_epochs: passes over its examples that a client makes in a round.
      learning_rate: of plain SGD, in the first round.
      momentum: of plain SGD.
      cohort_size: clients a round, or None for all.
      beta: ECGR's β, or None for FedAvg without it.
      select_ratio: ECGR's ρ.
      decay: what the learning rate is multiplied by …
      decay_every: … after so many rounds.
      eval_every: rounds from one evaluation on the test examples to the next, or None for none.
      placement: how this project lays clients out; nobody else reads it.
      chunk_size: how many at once, likewise.
      members: simulations of a sweep, seeds by β by step sizes, run together; nobody else reads it.
      channels_last: whether PyTorch keeps images' channels together, which it does not by itself;
        nobody else reads it.
    """

    model: str
    batch_size: int
    local_epochs: int = 1
    learning_rate: float = 0.01
    momentum: float = 0.0
    cohort_size: int | None = None
    beta: float | None = None
    select_ratio: float = 0.5
    decay: float = 1.0
    decay_every: int = 10
    eval_every: int | None = None
    placement: str = "auto"
    chunk_size: int | None = None
    members: int = 1
    channels_last: bool = False


class Federation(NamedTuple):
    """Who holds what.

    Attributes:
      inputs: [N, *shape] uint8 or float32, client 0's examples, then client 1's, ….
      labels: [N] int32.
      sizes: [clients] int32, examples of each.
      mean: subtracted from the inputs, scalar.
      std: the inputs are then divided by it, scalar.
      test_inputs: [M, *shape], as `inputs`; M may be 0.
      test_labels: [M] int32.
    """

    inputs: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    @property
    def num_bytes(self) -> int:
        """What all arrays take together."""
        return sum(array.nbytes for array in self)


Parameters = dict[str, np.ndarray]  # "conv1/kernel" … in this project's layout


class Task(NamedTuple):
    """All that a side is given."""

    work: Work
    federation: Federation
    parameters: Parameters


def images(
    clients: int, size: int, shape: tuple[int, ...], *, tests: int = 0, seed: int = 0
) -> Federation:
    """Returns noise of bytes with ten classes to be told apart, `size` examples a client.

    Each class is brighter in a tenth of the features of its own.
    """
    rng = np.random.default_rng(seed)
    features = math.prod(shape)
    place = np.arange(features) * 10 // features

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 10, count).astype(np.int32)
        inputs = rng.integers(0, 200, (count, features), np.uint8)
        for label in range(10):
            inputs[np.ix_(labels == label, place == label)] += 50
        return inputs.reshape(count, *shape), labels

    inputs, labels = draw(clients * size)
    return Federation(
        inputs,
        labels,
        np.full(clients, size, np.int32),
        np.array(105, np.float32),
        np.array(60, np.float32),
        *draw(tests),
    )


def first_parameters(model: str, seed: int = 0) -> Parameters:
    """Draws a model's first parameters: U(±1/√fan-in), batch normalisation 1 and 0."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for layer in ARCHITECTURES[model]:
        if len(layer.kernel) == 1:
            drawn[f"{layer.name}/scale"] = np.ones(layer.kernel, np.float32)
            drawn[f"{layer.name}/bias"] = np.zeros(layer.kernel, np.float32)
            continue
        bound = 1 / math.sqrt(math.prod(layer.kernel[:-1]))
        shapes = {"kernel": layer.kernel} | ({"bias": layer.kernel[-1:]} if layer.bias else {})
        for name, shape in shapes.items():
            drawn[f"{layer.name}/{name}"] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return drawn


def operations(model: str) -> int:
    """Returns the useful floating-point operations of one training step on one example.

    Two for each multiply-add of a kernel: forward, for the kernel's gradient and, but for the first
    layer, for the input's gradient. Everything else (biases, ReLU, normalisation, the optimiser,
    what a way to convolve computes besides) does not count.
    """
    products = [
        math.prod(layer.kernel) * layer.positions
        for layer in ARCHITECTURES[model]
        if len(layer.kernel) > 1
    ]
    return 2 * (3 * sum(products) - products[0])


def operations_a_round(work: Work, federation: Federation) -> float:
    """Returns the useful operations of one round of all members, expected over cohorts."""
    share = (work.cohort_size or len(federation.sizes)) / len(federation.sizes)
    examples = share * float(federation.sizes.sum()) * work.local_epochs
    return operations(work.model) * examples * work.members


def write(path: Path, task: Task) -> None:
    """Writes a task to one `.npz` file."""
    arrays: dict[str, Any] = {
        "work": np.array(json.dumps(task.work._asdict())),
        **{f"federation/{name}": array for name, array in task.federation._asdict().items()},
        **{f"parameters/{name}": array for name, array in task.parameters.items()},
    }
    np.savez(path, **arrays)


def read(path: Path) -> Task:
    """Reads what `write` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Task(
            Work(**json.loads(str(file["work"]))),
            Federation(*(file[f"federation/{name}"] for name in Federation._fields)),
            {
                name.removeprefix("parameters/"): file[name]
                for name in file.files
                if name.startswith("parameters/")
            },
        )
