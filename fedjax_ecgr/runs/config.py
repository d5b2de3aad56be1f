"""A run described by plain values: enough to repeat it, and nothing else."""

import inspect
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.datasets import DATASETS, arrays
from fedjax_ecgr.data.federated import Dataset
from fedjax_ecgr.data.partition import PARTITIONS
from fedjax_ecgr.engine import Simulation, simulation
from fedjax_ecgr.engine.run import MAX_SEED
from fedjax_ecgr.models import MODELS
from fedjax_ecgr.regulators import REGULATORS
from fedjax_ecgr.runs.parameters import Parameter, conform, parameters

LISTINGS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "dataset": DATASETS,
    "partition": PARTITIONS,
    "model": MODELS,
    "algorithm": ALGORITHMS,
    "regulator": REGULATORS,
}
"""What a configuration chooses by name, each from its listing."""

PRECISIONS = {
    "highest": "the parameters' own type: float32",
    "high": "several passes of a shorter type, where the device has one: nearly float32",
    "tensorfloat32": "factors of 10 bits on a device that has them: 3e-4 off, relatively",
    "bfloat16": "factors of 7 bits on a device that has them: 2e-3 off, relatively",
    "default": "what the device does fastest (on some GPUs TF32)",
}
"""Precisions of matrix products and convolutions, as `jax.default_matmul_precision` has them.

A CPU computes all of them as the first. The errors are those of a product of two 256 × 256 matrices
of normal numbers, rounded so beforehand.
"""


_FROM_RUN = ("seed", "num_clients")  # no options of a factory's own: a run has one of each
_ARRAYS = [name for name in inspect.signature(arrays).parameters if name != "name"]


class Choice(NamedTuple):
    """One name of a listing and the options of its factory.

    Attributes:
      name: a name in the listing (for a dataset also a path that ends in `.npz`).
      options: the factory's keyword arguments, by name; those not given are filled in.
    """

    name: str
    options: Mapping[str, Any] = {}  # never written to


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes.

    Names are known and options are complete once it is made: an option that was not given holds its
    default, so that a recorded configuration means the same when a default changes. Ranges are
    checked by the factories, in `build`.

    Attributes:
      dataset: where examples come from: a name, or a file `x.npz` with the arrays train_inputs,
        train_labels, test_inputs and test_labels (and, if need be, num_classes, mean, std,
        train_owners, test_owners).
      partition: how clients share them.
      model: what is trained.
      algorithm: the federated algorithm.
      regulator: what stands between local steps and the upload.
      num_clients: number of clients.
      cohort_size: clients a round, sampled without replacement; all by default.
      rounds: how many rounds.
      local_epochs: passes over its examples that a client makes in a round.
      batch_size: examples a local step.
      shuffle: whether each pass has its own random order.
      eval_every: rounds from one evaluation to the next; the last round is always evaluated.
      eval_batch_size: test examples at once; a matter of speed and memory only.
      target_accuracy: in [0, 1]; the summary says in which round it was reached.
      seed: of everything random.
      data_seed: of what a dataset draws, if that is not to follow the seed.
      partition_seed: of the partition, if that is not to follow the seed.
      placement: auto, scan, vmap or devices: how clients are laid out over the hardware.
      chunk_size: clients at once on one device.
      num_devices: devices that `devices` uses; all by default.
      memory_budget: GiB that arrays may take on each device, the process itself apart; chunks are
        made as small as that needs.
      precision: of matrix products: highest, high, tensorfloat32, bfloat16 or default.

    Raises:
      InputError: for an unknown name, option, precision or type of value, or a number that nothing
        else checks before a run starts.
    """

    dataset: Choice = field(default=Choice("digits"))
    partition: Choice = field(default=Choice("dirichlet"))
    model: Choice = field(default=Choice("mlp"))
    algorithm: Choice = field(default=Choice("fedavg"))
    regulator: Choice = field(default=Choice("identity"))
    num_clients: int = 10
    cohort_size: int | None = None
    rounds: int = 50
    local_epochs: int = 1
    batch_size: int = 32
    shuffle: bool = True
    eval_every: int = 1
    eval_batch_size: int = 256
    target_accuracy: float | None = None
    seed: int = 0
    data_seed: int | None = None
    partition_seed: int | None = None
    placement: str = "auto"
    chunk_size: int | None = None
    num_devices: int | None = None
    memory_budget: float | None = None
    precision: str = "highest"

    def __post_init__(self) -> None:
        for kind in LISTINGS:
            object.__setattr__(self, kind, _complete(kind, getattr(self, kind)))
        for name, parameter in parameters(RunConfig).items():
            conform("", parameter, getattr(self, name))
        check.known("precision", self.precision, PRECISIONS)
        for name, low in (("num_clients", 1), ("rounds", 1), ("eval_every", 1)):
            check.count(name, getattr(self, name), low=low)
        check.count("seed", self.seed, low=0, high=MAX_SEED)
        for name in ("data_seed", "partition_seed"):
            if getattr(self, name) is not None:
                check.count(name, getattr(self, name), low=0)
        if self.target_accuracy is not None:
            check.number("target_accuracy", self.target_accuracy, low=0, high=1)

    @property
    def method(self) -> str:
        """What tables call it: the algorithm, and the regulator if there is one."""
        algorithm, regulator = self.algorithm.name, self.regulator.name
        return algorithm if regulator == "identity" else f"{algorithm} + {regulator}"


def to_json(config: RunConfig) -> str:
    """Returns a configuration as JSON; numbers read back as the same numbers."""
    plain = {
        name: value._asdict() if isinstance(value, Choice) else value
        for name, value in vars(config).items()
    }
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"


def from_json(text: str) -> RunConfig:
    """Returns the configuration that `to_json` wrote; what is left out has its default.

    Raises:
      InputError: if the text is not such JSON, or holds a name that is not known.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise InputError(f"config: not JSON: {error}") from None
    if not isinstance(given, dict):
        raise InputError(f"config: {given!r} is not allowed, it must be an object of fields")
    check.options("config", given, RunConfig.__annotations__)
    chosen = {kind: _read_choice(kind, given[kind]) for kind in LISTINGS if kind in given}
    return RunConfig(**{**given, **chosen})


def build(config: RunConfig) -> Simulation:
    """Returns the simulation that a configuration describes; nothing is compiled yet.

    Raises:
      InputError: if anything is out of range or does not fit together.
    """
    regulator = _make("regulator", config.regulator)
    algorithm = _make("algorithm", config.algorithm, regulator=regulator)
    dataset = _dataset(config)
    model = _make("model", config.model, dataset.spec)
    clients = _make(
        "partition",
        config.partition,
        dataset.train,
        num_clients=config.num_clients,
        seed=config.seed if config.partition_seed is None else config.partition_seed,
    )
    return simulation(
        algorithm,
        model,
        clients,
        test=dataset.test,
        cohort_size=config.cohort_size,
        batch_size=config.batch_size,
        local_epochs=config.local_epochs,
        shuffle=config.shuffle,
        placement=config.placement,
        chunk_size=config.chunk_size,
        num_devices=config.num_devices,
        memory_budget=config.memory_budget,
        eval_batch_size=config.eval_batch_size,
    )


def options_of(kind: str, name: str) -> dict[str, Parameter]:
    """Returns the options that a name of a listing takes.

    Raises:
      InputError: for an unknown name.
    """
    if kind == "dataset" and _is_file(name):
        return {}
    found = parameters(check.known(kind, name, LISTINGS[kind]))
    return {name: p for name, p in found.items() if name not in _FROM_RUN}


def _complete(kind: str, choice: Choice) -> Choice:
    """Returns `choice` with its options checked by name and type, and all of them there."""
    takes_options = options_of(kind, choice.name)
    check.options(choice.name, choice.options, takes_options)
    given = {
        name: conform(f"{choice.name}: ", takes_options[name], value)
        for name, value in choice.options.items()
    }
    return Choice(choice.name, {name: p.default for name, p in takes_options.items()} | given)


def _make(kind: str, choice: Choice, *arguments: Any, **from_run: Any) -> Any:
    return LISTINGS[kind][choice.name](*arguments, **from_run, **choice.options)


def _dataset(config: RunConfig) -> Dataset:
    if _is_file(config.dataset.name):
        return _read(Path(config.dataset.name))
    seed = config.seed if config.data_seed is None else config.data_seed
    from_run = {"seed": seed, "num_clients": config.num_clients}
    factory = DATASETS[config.dataset.name]
    taken = from_run.keys() & inspect.signature(factory).parameters.keys()
    return _make("dataset", config.dataset, **{name: from_run[name] for name in taken})


def _is_file(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".npz")


def _read(path: Path) -> Dataset:
    """Reads the user's own arrays; never executes what a file holds."""
    if path.exists() and not zipfile.is_zipfile(path):
        raise InputError(f"dataset: {str(path)!r} cannot be read: not an .npz archive")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"dataset: {str(path)!r} cannot be read: {reason}") from None
    check.options(path.name, held, _ARRAYS)
    for name in _ARRAYS[:4]:
        if name not in held:
            raise InputError(f"{path.name}: the array {name!r} is missing")
    if "num_classes" in held:
        held["num_classes"] = held["num_classes"][()]  # the number in the array
    return arrays(**held, name=path.stem)


def _read_choice(kind: str, given: Any) -> Choice:
    if not isinstance(given, dict) or not isinstance(given.get("options", {}), dict):
        raise InputError(
            f'{kind}: {given!r} is not allowed, it must be {{"name": …, "options": {{…}}}}'
        )
    check.options(kind, given, Choice._fields)
    if not isinstance(given.get("name"), str):
        known = ", ".join(LISTINGS[kind])
        raise InputError(f"{kind}: a name is missing, it must be text (known: {known})")
    return Choice(**given)
