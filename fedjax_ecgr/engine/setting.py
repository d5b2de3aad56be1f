"""What a round does, and the numbers that its parts take."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.aggregators import AGGREGATORS
from fedjax_ecgr.algorithms import ALGORITHMS, Outcome
from fedjax_ecgr.attacks import ATTACKS
from fedjax_ecgr.augmentations import AUGMENTATIONS
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine.local_steps import Work
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.regulators import REGULATORS
from fedjax_ecgr.samplers import SAMPLERS
from fedjax_ecgr.samplers.base import Sampler
from fedjax_ecgr.systems import SYSTEMS
from fedjax_ecgr.systems.base import System
from fedjax_ecgr.transforms import TRANSFORMS
from fedjax_ecgr.types import counting_dtype

_COUNTED = ("malicious_share", "sampler", "system")


class Setting(NamedTuple):
    """What a round does; static.

    Attributes:
      work: what every client does.
      outcome: what its algorithm makes of one client's round, see `client.outcome_of`.
      cohort_size: clients a round.
      placement: how they are laid out.
      sampler: who takes part.
      system: what they manage; None for everything, in no time.
      malicious_share: share of all clients that is malicious, where there is an attack; the number
        that counts is the one among the hyperparameters.
      eval_batch_size: test examples at once.
      bytes_up: what one client sends a round.
      bytes_down: what one client receives a round.
    """

    work: Work
    outcome: Callable[..., Outcome]
    cohort_size: int
    placement: Placement
    sampler: Sampler
    system: System | None = None
    malicious_share: float = 0.0
    eval_batch_size: int = 256
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def stacks(self) -> bool:
        """Whether all updates of a cohort are needed at once."""
        attack = self.work.attack
        together = attack is not None and attack.together is not None
        return together or self.work.algorithm.aggregator is not None


def fitted(setting: Setting, data: FederatedDataset) -> Setting:
    """Returns the setting with batches no larger than the room for one client's examples."""
    work = setting.work
    width = data.indices.shape[1]
    return setting._replace(work=work._replace(batch_size=min(work.batch_size, width)))


def numbers_of(setting: Setting) -> dict[str, Any]:
    """Returns the hyperparameters of a setting's parts, those given to their factories."""
    algorithm, attack = setting.work.algorithm, setting.work.attack
    numbers: dict[str, Any] = {
        "algorithm": dict(algorithm.hyperparameters),
        "regulator": dict(algorithm.regulator.hyperparameters),
    }
    if algorithm.transforms:
        numbers["transforms"] = {t.name: dict(t.hyperparameters) for t in algorithm.transforms}
    if setting.work.augmentations:
        numbers["augmentations"] = {
            a.name: dict(a.hyperparameters) for a in setting.work.augmentations
        }
    if attack is not None:
        numbers["malicious_share"] = setting.malicious_share
    others = {"aggregator": algorithm.aggregator, "attack": attack, "system": setting.system}
    for part, chosen in {**others, "sampler": setting.sampler}.items():
        if chosen is not None and chosen.hyperparameters:
            numbers[part] = dict(chosen.hyperparameters)
    return numbers


def typed(numbers: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Returns numbers as a round takes them: those that clients compute with as parameters are.

    The others are of clients, steps, seconds and bytes, of which a half-precision type holds few.
    """
    for path, number in jax.tree.leaves_with_path(numbers):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        _check_single(f"hyperparameters: {name}", number)
    counting = counting_dtype(dtype)
    return {
        name: jax.tree.map(partial(jnp.asarray, dtype=counting if name in _COUNTED else dtype), of)
        for name, of in numbers.items()
    }


def _check_single(field: str, number: Any) -> None:
    if np.ndim(number):
        raise check.InputError(
            f"{field}: shape {np.shape(number)} is not allowed, it must be one number "
            "(jax.vmap runs a round with each of several)"
        )


def check_names(wanted: Mapping[str, Any], given: Mapping[str, Any], where: str = "") -> None:
    """Raises `InputError` unless the numbers given are just those of the setting's parts."""
    place = f"hyperparameters of the {where}" if where else "hyperparameters"
    check.options(place, given, wanted)
    missing = [name for name in wanted if name not in given]
    if missing:
        raise check.InputError(f"{place}: {missing[0]!r} is missing")
    for name, inner in wanted.items():
        if isinstance(inner, Mapping):
            check_names(inner, given[name], name)


def check_numbers(setting: Setting, numbers: Mapping[str, Any]) -> None:
    """Raises `InputError` for hyperparameters that the parts' own factories would refuse.

    A part that is in no listing is asked for finite numbers alone.
    """
    if not isinstance(numbers, Mapping):
        raise check.InputError(
            f"hyperparameters: {check.shown(numbers)} is not allowed, it must be a dict like the "
            "simulation's own"
        )
    check_names(numbers_of(setting), numbers)
    algorithm, attack = setting.work.algorithm, setting.work.attack
    parts: dict[str, tuple[Mapping[str, Any], Any]] = {
        "algorithm": (ALGORITHMS, algorithm),
        "regulator": (REGULATORS, algorithm.regulator),
        "aggregator": (AGGREGATORS, algorithm.aggregator),
        "attack": (ATTACKS, attack),
        "sampler": (SAMPLERS, setting.sampler),
        "system": (SYSTEMS, setting.system),
    }
    made = {
        name: _made_of(name, listed, part, numbers.get(name, {}))
        for name, (listed, part) in parts.items()
    }
    if made["aggregator"] is not None:
        made["aggregator"].check(setting.cohort_size)
    several: dict[str, tuple[Mapping[str, Any], Sequence[Any]]] = {
        "transforms": (TRANSFORMS, algorithm.transforms),
        "augmentations": (AUGMENTATIONS, setting.work.augmentations),
    }
    for name, (listed, parts_) in several.items():
        for part in parts_:
            _made_of(name, listed, part, numbers[name][part.name])
    share = numbers.get("malicious_share", 0.0)
    check.number("malicious_share", share, low=0, high=1, high_open=True)


def _made_of(where: str, listed: Mapping[str, Any], part: Any, numbers: Mapping[str, Any]) -> Any:
    """Returns a part as its factory makes it of these numbers; as it is where none can be asked."""
    for name, value in numbers.items():
        try:
            check.number(name, value)
        except check.InputError as error:
            raise check.InputError(f"hyperparameters of the {where}: {error}") from None
        _check_single(f"hyperparameters of the {where}: {name}", value)
    if not numbers or part.name not in listed or check.is_traced(numbers):
        return part
    factory = listed[part.name]
    if factory().hyperparameters.keys() != numbers.keys():  # another one of the same name
        return part
    try:
        return factory(**{name: np.asarray(value).item() for name, value in numbers.items()})
    except check.InputError as error:
        raise check.InputError(f"hyperparameters of the {where}: {error}") from None
