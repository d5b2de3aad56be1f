"""What every algorithm takes besides its own numbers: parts, SGD's numbers, optimisers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.base import Aggregator
from fedjax_ecgr.regulators import Regulator
from fedjax_ecgr.transforms.base import Transform
from fedjax_ecgr.types import Array, Hyperparameters

Optimizer = Callable[[Array, Hyperparameters], optax.GradientTransformation]
ServerOptimizer = Callable[[Hyperparameters], optax.GradientTransformation]


class LocalCommon(TypedDict, total=False):
    """`Common` but for the server's step, for algorithms that have one of their own."""

    regulator: Regulator
    transforms: Sequence[Transform]
    aggregator: Aggregator | None
    learning_rate: float | Array | optax.Schedule
    momentum: float | Array
    weight_decay: float | Array
    decay: float | Array
    decay_every: float | Array
    optimizer: Optimizer


class Common(LocalCommon, total=False):
    """What every algorithm takes, besides its own numbers.

    Attributes:
      regulator: what stands between the local steps and the upload; identity by default.
      transforms: what is done to each client's update before it is sent, in this order; nothing by
        default.
      aggregator: what the server makes of the updates; their mean by default.
      learning_rate: η_0 > 0; in Python also an optax schedule over rounds.
      momentum: heavy-ball momentum of the clients' SGD, in [0, 1).
      weight_decay: times the parameters, added to the gradient (as in PyTorch's SGD).
      decay: factor by which the learning rate falls, in (0, 1].
      decay_every: rounds from one fall to the next: η_t = η_0 · decay^floor((t+1) / decay_every).
      server_learning_rate: the server's step size, a factor on the averaged update, > 0.
      optimizer: `(learning_rate, hyperparameters) -> optax.GradientTransformation` in place of SGD.
      server_optimizer: `hyperparameters -> optax.GradientTransformation` in place of SGD.
    """

    server_learning_rate: float | Array
    server_optimizer: ServerOptimizer


COMMON_DEFAULTS: dict[str, Any] = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "decay": 1.0,
    "decay_every": 10,
    "server_learning_rate": 1.0,
}
_RANGES: dict[str, dict[str, Any]] = {
    "learning_rate": {"low": 0, "low_open": True},
    "momentum": {"low": 0, "high": 1, "high_open": True},
    "weight_decay": {"low": 0},
    "decay": {"low": 0, "high": 1, "low_open": True},
    "decay_every": {"low": 1},
    "server_learning_rate": {"low": 0, "low_open": True},
}


def numbers_and_schedule(
    name: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any], Callable[[Array], Any]]:
    """Returns the numbers of `Common`, and the factor of a round; checks all that was given.

    Raises:
      InputError: for a part of another type, or a number out of range.
    """
    _check_parts(name, given)
    numbers = {key: given.get(key, default) for key, default in COMMON_DEFAULTS.items()}
    schedule: Callable[[Array], Any] = constant
    if callable(numbers["learning_rate"]):
        schedule, numbers["learning_rate"] = numbers["learning_rate"], 1.0
        _check_schedule(schedule)
    for key, value in numbers.items():
        check.number(key, value, **_RANGES[key])
    return numbers, schedule


def _check_schedule(schedule: Callable[[Array], Any]) -> None:
    def factor(round_index: Array) -> Array:
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules need it
            return jnp.asarray(schedule(round_index), float)

    try:
        shape = jax.eval_shape(factor, jnp.zeros((), jnp.int32)).shape
        wrong = f" and not an array of shape {shape}" if shape else ""
    except Exception as error:  # it is the user's code: it may raise anything
        wrong = f": {check.reason(error)}"
    if wrong:
        raise check.InputError(f"learning_rate: a schedule must return one number a round{wrong}")


_PARTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "regulator": (lambda x: isinstance(x, Regulator), "a Regulator, such as ecgr()"),
    "aggregator": (
        lambda x: x is None or isinstance(x, Aggregator),
        "an Aggregator, such as aggregators.median(), or None for the mean",
    ),
    "transforms": (
        lambda x: isinstance(x, Sequence) and all(isinstance(t, Transform) for t in x),
        "a list of Transforms, such as [transforms.clip(1.0)]",
    ),
    "optimizer": (
        callable,
        "a function (learning_rate, hyperparameters) -> optax.GradientTransformation",
    ),
    "server_optimizer": (
        callable,
        "a function hyperparameters -> optax.GradientTransformation",
    ),
}


def _check_parts(name: str, given: Mapping[str, Any]) -> None:
    for part, (fits, wanted) in _PARTS.items():
        if part in given and not fits(given[part]):
            shown = check.shown(given[part])
            raise check.InputError(f"{name}: {part}: {shown} is not allowed, it must be {wanted}")
    names = [transform.name for transform in given.get("transforms", ())]
    for transform in names:
        if names.count(transform) > 1:
            raise check.InputError(f"{name}: transforms: {transform!r} is there twice")


def sgd(learning_rate: Array, hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    """SGD with heavy-ball momentum and PyTorch's weight decay."""
    return optax.chain(
        optax.add_decayed_weights(hyperparameters["weight_decay"]),
        optax.sgd(learning_rate, momentum=hyperparameters["momentum"]),
    )


def server_sgd(hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    """SGD with the server learning rate, without momentum."""
    return optax.sgd(hyperparameters["server_learning_rate"])


def constant(round_index: Array) -> float:
    """The schedule of a learning rate that is one number: a factor of 1 in every round."""
    del round_index
    return 1.0
