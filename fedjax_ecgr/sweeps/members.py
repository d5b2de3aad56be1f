"""Configurations as members of a sweep, with as few programs and copies of the data as they need.

What is static of a configuration decides on the program: names, counts, every option that is no
hyperparameter. Seeds, hyperparameters and who holds which examples are given to it.
"""

from collections.abc import Mapping
from typing import Any

from fedjax_ecgr.algorithms import Algorithm
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.federated import Dataset
from fedjax_ecgr.engine import Member, Simulation, simulation
from fedjax_ecgr.engine.groups import check_member
from fedjax_ecgr.engine.setting import Setting, numbers_of
from fedjax_ecgr.kinds import write
from fedjax_ecgr.runs.config import (
    RunConfig,
    data_of,
    federation_of,
    flat,
    from_run,
    method_of,
    model_of,
    partition_seed,
    surroundings_of,
)

_OF_DATA = ("dataset", "partition")
_NOT_STATIC = (
    "seed", "data_seed", "partition_seed", "client_test_fraction", "malicious_share",
    "target_accuracy",
)  # fmt: skip


def build(configs: Mapping[str, RunConfig], axes: tuple[str, ...] = ()) -> list[Member]:
    """Returns the members that configurations describe; nothing is compiled yet.

    Args:
      configs: what each runs.
      axes: options that differ, by which a message calls a member.

    Raises:
      InputError: if anything is out of range or does not fit together.
    """
    making, members = _Making(), []
    for config in configs.values():
        try:
            members.append(making.member(config))
            check_member(members[-1], config.rounds)
        except InputError as error:
            values = flat(config)
            called = ", ".join(f"{n}={write(values[n])}" for n in axes if n in values)
            raise InputError(f"{error} (of the member {called})" if called else error) from None
    return members


def program_of(config: RunConfig) -> str:
    """Returns what decides on a member's program, as far as its configuration says.

    Raises:
      InputError: if an option of it is out of range.
    """
    return repr(config.dataset) + _static(config, method_of(config), surroundings_of(config))


class _Making:
    """Members one after another, each with what those before it have made."""

    def __init__(self) -> None:
        self._datasets: dict[Any, Dataset] = {}
        self._first: dict[Any, Simulation] = {}
        self._over: dict[Any, Simulation] = {}

    def member(self, config: RunConfig) -> Member:
        algorithm, options = method_of(config), surroundings_of(config)
        loaded = repr((config.dataset, from_run(config), config.validation_fraction))
        if loaded not in self._datasets:
            self._datasets[loaded] = data_of(config)
        dataset = self._datasets[loaded]
        stored = str(dataset.train.inputs.dtype)
        program = dataset.spec, stored, _static(config, algorithm, options)
        share = config.client_test_fraction
        over = program, loaded, repr((config.partition, partition_seed(config), share))
        if over not in self._over:
            personal = algorithm.personal is not None
            clients, tests = federation_of(config, dataset, personal=personal)
            first = self._first.get(program)
            if first is None:
                model = model_of(config, dataset)
                made = simulation(algorithm, model, clients, **tests, **options)
                self._first[program] = made
            else:
                made = first.with_data(clients, **tests)
            self._over[over] = made
        made = self._over[over]
        return Member(made, config.seed, numbers_of(_setting(made.setting, algorithm, options)))


def _static(config: RunConfig, algorithm: Algorithm, options: Mapping[str, Any]) -> str:
    """Returns what decides on the program, the kind of data apart."""
    values = {
        name: value
        for name, value in flat(config).items()
        if name.partition(".")[0] not in (*_OF_DATA, *_NOT_STATIC)
    }
    parts = {
        "algorithm": algorithm,
        "regulator": algorithm.regulator,
        "aggregator": algorithm.aggregator,
        **{name: options[name] for name in ("attack", "sampler", "system")},
        **{part.name: part for part in (*algorithm.transforms, *options["augmentations"])},
    }
    for space, part in parts.items():
        for name in () if part is None else part.hyperparameters:
            values.pop(f"{space}.{name}", None)
    return repr(sorted(values.items()))


def _setting(setting: Setting, algorithm: Algorithm, options: Mapping[str, Any]) -> Setting:
    """Returns the setting of a program with a member's own parts."""
    work = setting.work._replace(
        algorithm=algorithm, attack=options["attack"], augmentations=options["augmentations"]
    )
    own = {name: options[name] for name in ("sampler", "system", "malicious_share")}
    return setting._replace(work=work, **own)
