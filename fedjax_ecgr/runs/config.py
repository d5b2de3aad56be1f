"""A run described by plain values: enough to repeat it, and nothing else."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_ecgr import check
from fedjax_ecgr.aggregators import AGGREGATORS
from fedjax_ecgr.algorithms import ALGORITHMS, Algorithm
from fedjax_ecgr.attacks import ATTACKS
from fedjax_ecgr.augmentations import AUGMENTATIONS
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.datasets import DATASETS
from fedjax_ecgr.data.federated import Dataset, Examples, FederatedDataset, by_owner
from fedjax_ecgr.data.held_out import with_validation
from fedjax_ecgr.data.partition import PARTITIONS, hold_out
from fedjax_ecgr.engine import Simulation, simulation
from fedjax_ecgr.engine.run import MAX_SEED
from fedjax_ecgr.models import MODELS
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.regulators import REGULATORS
from fedjax_ecgr.runs.parameters import Parameter, conform, parameters
from fedjax_ecgr.samplers import SAMPLERS
from fedjax_ecgr.systems import SYSTEMS
from fedjax_ecgr.transforms import TRANSFORMS


def mean() -> None:
    """Returns nothing: updates are averaged by weight."""


def none() -> None:
    """Returns nothing: all clients are honest."""


LISTINGS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "dataset": DATASETS,
    "partition": PARTITIONS,
    "model": MODELS,
    "algorithm": ALGORITHMS,
    "regulator": REGULATORS,
    "transforms": TRANSFORMS,
    "aggregator": {"mean": mean, **AGGREGATORS},
    "attack": {"none": none, **ATTACKS},
    "sampler": SAMPLERS,
    "system": SYSTEMS,
    "augmentations": AUGMENTATIONS,
}
"""What a configuration chooses by name, each from its listing."""

SEVERAL = ("transforms", "augmentations")
"""Of which any number is chosen, in an order."""

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


class Choice(NamedTuple):
    """One name of a listing and the options of its factory.

    Attributes:
      name: a name in the listing.
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
      dataset: where examples come from (`x.npz` is short for npz with the data_path x.npz).
      partition: how clients share them.
      model: what is trained.
      algorithm: the federated algorithm.
      regulator: what stands between local steps and the upload.
      transforms: what clients do to their updates before they send them, in this order.
      aggregator: what the server makes of the updates.
      attack: what malicious clients do.
      sampler: who takes part in a round.
      system: what clients' devices manage in a round, and in what time.
      augmentations: what changes images at random while clients train, in this order.
      malicious_share: share of all clients that is malicious, in [0, 1), where there is an attack.
      client_test_fraction: share of each client's examples held out for its own test, in [0, 1), by
        which every client is judged; by default none. Personal models need it. Partitions that
        shift inputs do too: there, these are all the test examples, or with 0 the source's are,
        which are not shifted.
      validation_fraction: share of the training examples, in (0, 1), that nobody trains on and the
        global model is judged by besides, to choose hyperparameters; by default none.
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
    transforms: tuple[Choice, ...] = ()
    aggregator: Choice = field(default=Choice("mean"))
    attack: Choice = field(default=Choice("none"))
    sampler: Choice = field(default=Choice("uniform"))
    system: Choice = field(default=Choice("ideal"))
    augmentations: tuple[Choice, ...] = ()
    malicious_share: float = 0.0
    client_test_fraction: float | None = None
    validation_fraction: float | None = None
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
            chosen = getattr(self, kind)
            if kind == "dataset":
                chosen = chosen_file(chosen)
            several = kind in SEVERAL
            complete = tuple(_complete(kind, c) for c in chosen) if several else None
            object.__setattr__(self, kind, complete if several else _complete(kind, chosen))
        for name, parameter in run_fields().items():
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
        check.number("malicious_share", self.malicious_share, low=0, high=1, high_open=True)
        if self.malicious_share and self.attack.name == "none":
            raise InputError("malicious_share: nobody attacks, choose an attack")
        for name, low_open in (("client_test_fraction", False), ("validation_fraction", True)):
            if getattr(self, name) is not None:
                share = getattr(self, name)
                check.number(name, share, low=0, high=1, low_open=low_open, high_open=True)

    @property
    def data_name(self) -> str:
        """What titles and folders call the data: a file or folder by the last part of its path."""
        options = self.dataset.options
        named = options.get("data_name") or options.get("data_path") or self.dataset.name
        return Path(named).name.removesuffix(".npz").replace("/", "-")

    @property
    def method(self) -> str:
        """What tables call it: the algorithm, and what is added to it."""
        added = [self.regulator.name, *(t.name for t in self.transforms), self.aggregator.name]
        return " + ".join(
            [self.algorithm.name, *(name for name in added if name not in ("identity", "mean"))]
        )


def flat(config: RunConfig) -> dict[str, Any]:
    """Returns a configuration's values by name; options as `kind.option` or `transform.option`."""
    values: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in SEVERAL:
            values[name] = ",".join(choice.name for choice in value)
            spaces = {choice.name: choice.options for choice in value}
        elif isinstance(value, Choice):
            values[name], spaces = value.name, {name: value.options}
        else:
            values[name], spaces = value, {}
        for space, options in spaces.items():
            values |= {f"{space}.{option}": number for option, number in options.items()}
    return values


def to_json(config: RunConfig) -> str:
    """Returns a configuration as JSON; numbers read back as the same numbers."""
    plain = {
        name: value._asdict() if isinstance(value, Choice) else value
        for name, value in vars(config).items()
    }
    for kind in SEVERAL:
        plain[kind] = [choice._asdict() for choice in getattr(config, kind)]
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"


def from_json(text: str) -> RunConfig:
    """Returns the configuration that `to_json` wrote; what is left out has its default.

    Raises:
      InputError: if the text is not such JSON, or holds a name that is not known.
    """
    given = from_text(text, "config")
    check.options("config", given, RunConfig.__annotations__)
    chosen: dict[str, Any] = {
        kind: _read_choice(kind, given[kind])
        for kind in LISTINGS
        if kind in given and kind not in SEVERAL
    }
    for kind in given.keys() & SEVERAL:
        listed = given[kind]
        if not isinstance(listed, list):
            raise InputError(f"{kind}: {listed!r} is not allowed, it must be a list")
        chosen[kind] = tuple(_read_choice(kind, choice) for choice in listed)
    return RunConfig(**{**given, **chosen})


def from_text(text: str, where: str) -> dict[str, Any]:
    """Returns the object that JSON describes.

    Args:
      text: JSON.
      where: what the text is, for messages.

    Raises:
      InputError: if the text is not JSON, no object, names something twice, or is nested so deeply,
        or holds such long numbers, that nobody meant it.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{where}: {name!r} is there twice")
        return dict(pairs)

    try:
        given = json.loads(text, object_pairs_hook=once)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{where}: not allowed, it is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    if not isinstance(given, dict):
        shown = text if len(text) < 60 else f"{text[:60]}…"
        raise InputError(f"{where}: {shown.strip()} is not allowed, it must be an object of fields")
    return given


def build(config: RunConfig) -> Simulation:
    """Returns the simulation that a configuration describes; nothing is compiled yet.

    Raises:
      InputError: if anything is out of range or does not fit together.
    """
    algorithm, dataset = method_of(config), data_of(config)
    model = model_of(config, dataset)
    clients, tests = federation_of(config, dataset, personal=algorithm.personal is not None)
    return simulation(algorithm, model, clients, **tests, **surroundings_of(config))


def method_of(config: RunConfig) -> Algorithm:
    """Returns the algorithm, with all that belongs to it.

    Raises:
      InputError: if a number is out of range.
    """
    return _make(
        "algorithm",
        config.algorithm,
        regulator=_make("regulator", config.regulator),
        transforms=_make_all("transforms", config.transforms),
        aggregator=_make("aggregator", config.aggregator),
    )


def model_of(config: RunConfig, dataset: Dataset) -> Model:
    """Returns the model for a dataset.

    Raises:
      InputError: if the model does not fit it.
    """
    return _make("model", config.model, dataset.spec)


def surroundings_of(config: RunConfig) -> dict[str, Any]:
    """Returns what `simulation` takes besides algorithm, model and data.

    Raises:
      InputError: if a number is out of range.
    """
    return {
        "sampler": _make("sampler", config.sampler),
        "system": _make("system", config.system),
        "attack": _make("attack", config.attack),
        "malicious_share": config.malicious_share,
        "augmentations": _make_all("augmentations", config.augmentations),
        "cohort_size": config.cohort_size,
        "batch_size": config.batch_size,
        "local_epochs": config.local_epochs,
        "shuffle": config.shuffle,
        "placement": config.placement,
        "chunk_size": config.chunk_size,
        "num_devices": config.num_devices,
        "memory_budget": config.memory_budget,
        "eval_batch_size": config.eval_batch_size,
    }


def federation_of(
    config: RunConfig, dataset: Dataset, *, personal: bool
) -> tuple[FederatedDataset, dict[str, Any]]:
    """Returns the clients' data, and the examples to judge models by that go with it.

    Args:
      config: what to run.
      dataset: `data_of(config)`.
      personal: whether clients are judged by models of their own.

    Raises:
      InputError: if the data cannot be divided so, or there is nothing to judge clients by.
    """
    clients = divided(config, dataset)
    test: Examples | None = dataset.test
    client_test = None
    shifted = clients.examples is not dataset.train  # and no client's inputs are like the source's
    share = config.client_test_fraction
    if share:
        clients, client_test = hold_out(clients, share, seed=partition_seed(config))
        test = None if shifted else test
    elif shifted and share is None:
        raise InputError(
            f"client_test_fraction: None is not allowed with {config.partition.name}, which shifts "
            "each client's inputs in a way of its own: each needs test examples, such as 0.25, or "
            "0 for the source's, which are not shifted"
        )
    elif personal and (dataset.test.owners is None or not by_owner(clients)):
        raise InputError(
            f"client_test_fraction: {share} is not allowed with {config.algorithm.name}, whose "
            "clients are judged by models of their own: each needs test examples, such as 0.25"
        )
    validation = dataset.validation
    if validation is not None and (shifted or personal):
        reason = f"{config.partition.name}, which shifts each client's inputs in a way of its own"
        if personal:
            reason = f"{config.algorithm.name}, whose clients are judged by models of their own"
        raise InputError(
            f"validation_fraction: {config.validation_fraction} is not allowed with {reason}; the "
            "global model is what validation examples judge"
        )
    return clients, {"test": test, "client_test": client_test, "validation": validation}


def data_of(config: RunConfig) -> Dataset:
    """Returns the data that a configuration describes.

    Raises:
      InputError: if it cannot be had.
    """
    dataset = _make("dataset", config.dataset, **from_run(config))
    share = config.validation_fraction
    return dataset if share is None else with_validation(dataset, share)


def from_run(config: RunConfig) -> dict[str, int]:
    """Returns what a dataset takes of the run: its seed, its number of clients."""
    seed = config.seed if config.data_seed is None else config.data_seed
    given = {"seed": seed, "num_clients": config.num_clients}
    takes = inspect.signature(DATASETS[config.dataset.name]).parameters.keys()
    return {name: value for name, value in given.items() if name in takes}


def divided(config: RunConfig, dataset: Dataset) -> FederatedDataset:
    """Returns the training examples as a configuration divides them.

    Raises:
      InputError: if it cannot.
    """
    seed, number = partition_seed(config), config.num_clients
    return _make("partition", config.partition, dataset.train, num_clients=number, seed=seed)


def partition_seed(config: RunConfig) -> int:
    """Returns the seed of the partition, which follows the run's if nothing else is said."""
    return config.seed if config.partition_seed is None else config.partition_seed


def run_fields() -> Mapping[str, Parameter]:
    """Returns the fields of a configuration that are no choice from a listing."""
    return parameters(RunConfig, leave_out=tuple(LISTINGS))


def chosen_file(dataset: Choice) -> Choice:
    """Returns what a dataset named by a file stands for, and any other as it is."""
    if isinstance(dataset.name, str) and dataset.name.endswith(".npz"):
        return Choice("npz", {**dataset.options, "data_path": dataset.name})
    return dataset


def options_of(kind: str, name: str) -> dict[str, Parameter]:
    """Returns the options that a name of a listing takes.

    Raises:
      InputError: for an unknown name.
    """
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
    """Returns what a factory makes; what it complains of is said to be its own."""
    try:
        return LISTINGS[kind][choice.name](*arguments, **from_run, **choice.options)
    except InputError as error:
        complaint = str(error).removeprefix(f"{choice.name}: ")
        raise InputError(f"{choice.name}: {complaint}") from None


def _make_all(kind: str, choices: Sequence[Choice]) -> tuple[Any, ...]:
    return tuple(_make(kind, choice) for choice in choices)


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
