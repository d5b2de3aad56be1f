r"""The contract of a federated algorithm, and what all algorithms share.

An algorithm is a `NamedTuple` of small pure functions. In each round the engine

1. sends every client of the cohort the global parameters and `broadcast(server_state)`;
2. runs the client's local steps on the loss plus `objective`: an optimiser step, then `correct`;
3. regulates the step deltas, and lets `finish` make the upload and the client's next state;
4. averages the uploads, and lets `update_server` make the next global parameters.

To add one, write a file that returns an `Algorithm` from `algorithm(...)`, naming the functions in
which it differs from FedAvg, and list it in `fedjax_ecgr/algorithms/__init__.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.regulators import Regulator, identity
from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class Local(NamedTuple):
    """What a client knows throughout its round.

    Attributes:
      params: w_t, the global parameters it started from.
      received: what the server broadcast besides.
      state: the client's own state.
      learning_rate: η_t, scalar.
      hyperparameters: the algorithm's numbers.
    """

    params: PyTree
    received: PyTree
    state: PyTree
    learning_rate: Array
    hyperparameters: Hyperparameters


class Trained(NamedTuple):
    """Where a client's local steps ended.

    Attributes:
      params: w_τ, the local end point, before any regulation.
      update: what the regulator made of Σ d; like the parameters, in their units.
      num_steps: τ, in the parameters' dtype; at least 1.
    """

    params: PyTree
    update: PyTree
    num_steps: Array


class Upload(NamedTuple):
    """What a client sends, or the average of it over a cohort.

    Attributes:
      update: like the parameters; averaged with weights p_i = n_i / Σ n over the cohort.
      weighted: anything else that is averaged with the same weights.
      uniform: what is averaged with weight 1 / |cohort|.
    """

    update: PyTree
    weighted: PyTree = ()
    uniform: PyTree = ()


class Server(NamedTuple):
    """What the server knows when it closes a round.

    Attributes:
      params: w_t.
      state: the algorithm's server state.
      participation: |cohort| / N, scalar.
      hyperparameters: the algorithm's numbers.
    """

    params: PyTree
    state: PyTree
    participation: Array
    hyperparameters: Hyperparameters


Optimizer = Callable[[Array, Hyperparameters], optax.GradientTransformation]


class Algorithm(NamedTuple):
    """A federated algorithm as pure functions over pytrees.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      schedule: `round -> factor`, multiplies the learning rate; optax's schedules fit.
      optimizer: `(learning_rate, hyperparameters) -> optax.GradientTransformation`, made anew each
        round on each client.
      regulator: what stands between the local steps and the upload.
      init_server: `params -> server state`.
      init_client: `params -> state of one client`; `()` for an algorithm that keeps none.
      broadcast: `server state -> what each client of the cohort receives besides the parameters`.
      objective: `(params, local) -> scalar` added to the loss of each batch.
      correct: `(params, local) -> params`, after each optimiser step.
      finish: `(trained, local) -> (upload, client state)`.
      update_server: `(server, upload averaged) -> (params, server state)`.
    """

    name: str
    hyperparameters: Hyperparameters
    schedule: Callable[[Array], Any]
    optimizer: Optimizer
    regulator: Regulator
    init_server: Callable[[PyTree], PyTree]
    init_client: Callable[[PyTree], PyTree]
    broadcast: Callable[[PyTree], PyTree]
    objective: Callable[[PyTree, Local], Array | float]
    correct: Callable[[PyTree, Local], PyTree]
    finish: Callable[[Trained, Local], tuple[Upload, PyTree]]
    update_server: Callable[[Server, Upload], tuple[PyTree, PyTree]]

    def learning_rate(self, hyperparameters: Hyperparameters, round_index: Array) -> Array:
        """Returns η_t = η_0 · decay^floor((t + 1) / decay_every) · schedule(t), t from 0."""
        rate, decay, every = (
            hyperparameters[name] for name in ("learning_rate", "decay", "decay_every")
        )
        # A number of rounds needs float32, whatever the parameters are; and a division by a
        # constant may be compiled to a product with its reciprocal, whose floor is off by one.
        counting = counting_dtype(rate.dtype)
        falls = jnp.floor_divide(round_index.astype(counting) + 1, every.astype(counting))
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules need it
            factor = jnp.asarray(self.schedule(round_index), rate.dtype)
        return rate * (decay.astype(counting) ** falls).astype(rate.dtype) * factor


class Common(TypedDict, total=False):
    """What every algorithm takes, besides its own numbers.

    Attributes:
      regulator: what stands between the local steps and the upload; identity by default.
      learning_rate: η_0 > 0; in Python also an optax schedule over rounds.
      momentum: heavy-ball momentum of the clients' SGD, in [0, 1).
      weight_decay: times the parameters, added to the gradient (as in PyTorch's SGD).
      decay: factor by which the learning rate falls, in (0, 1].
      decay_every: rounds from one fall to the next: η_t = η_0 · decay^floor((t+1) / decay_every).
      server_learning_rate: factor on the averaged update, > 0.
      optimizer: `(learning_rate, hyperparameters) -> optax.GradientTransformation` in place of SGD.
    """

    regulator: Regulator
    learning_rate: float | Array | optax.Schedule
    momentum: float | Array
    weight_decay: float | Array
    decay: float | Array
    decay_every: float | Array
    server_learning_rate: float | Array
    optimizer: Optimizer


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


def algorithm(
    name: str,
    common: Common,
    *,
    own: Hyperparameters | None = None,
    init_server: Callable[[PyTree], PyTree] | None = None,
    init_client: Callable[[PyTree], PyTree] | None = None,
    broadcast: Callable[[PyTree], PyTree] | None = None,
    objective: Callable[[PyTree, Local], Array] | None = None,
    correct: Callable[[PyTree, Local], PyTree] | None = None,
    finish: Callable[[Trained, Local], tuple[Upload, PyTree]] | None = None,
    update_server: Callable[[Server, Upload], tuple[PyTree, PyTree]] | None = None,
) -> Algorithm:
    """Returns the algorithm that is FedAvg but for the functions named.

    Args:
      name: its name.
      common: what the user gave of `Common`.
      own: hyperparameters of its own, checked by the caller.
      init_server: see `Algorithm`, as are all that follow.
      init_client: by default `()`.
      broadcast: by default nothing.
      objective: by default 0.
      correct: by default no correction.
      finish: by default uploads the regulated update.
      update_server: by default w_t minus the averaged update times the server learning rate.

    Raises:
      InputError: for an unknown option or a number out of range.
    """
    given: dict[str, Any] = dict(common)
    check.options(name, given, [*Common.__annotations__, *(own or {})])
    _check_functions(name, given)
    schedule, learning_rate = _constant, given.get("learning_rate")
    if callable(learning_rate):
        schedule, given["learning_rate"] = learning_rate, 1.0
    numbers = {key: given.get(key, default) for key, default in COMMON_DEFAULTS.items()}
    for key, value in numbers.items():
        check.number(key, value, **_RANGES[key])
    return Algorithm(
        name=name,
        hyperparameters={**numbers, **(own or {})},
        schedule=schedule,
        optimizer=given.get("optimizer", sgd),
        regulator=given.get("regulator", identity()),
        init_server=init_server or _nothing,
        init_client=init_client or _nothing,
        broadcast=broadcast or _nothing,
        objective=objective or (lambda params, local: 0.0),
        correct=correct or (lambda params, local: params),
        finish=finish or (lambda trained, local: (Upload(trained.update), local.state)),
        update_server=update_server
        or (lambda server, upload: (descend(server, upload.update), ())),
    )


def _check_functions(name: str, given: Mapping[str, Any]) -> None:
    if not isinstance(given.get("regulator", identity()), Regulator):
        raise check.InputError(
            f"{name}: regulator: {given['regulator']!r} is not allowed, it must be a Regulator, "
            "such as ecgr()"
        )
    if not callable(given.get("optimizer", sgd)):
        raise check.InputError(
            f"{name}: optimizer: {type(given['optimizer']).__name__} is not allowed, it must be a "
            "function (learning_rate, hyperparameters) -> optax.GradientTransformation"
        )


def sgd(learning_rate: Array, hyperparameters: Hyperparameters) -> optax.GradientTransformation:
    """SGD with heavy-ball momentum and PyTorch's weight decay."""
    return optax.chain(
        optax.add_decayed_weights(hyperparameters["weight_decay"]),
        optax.sgd(learning_rate, momentum=hyperparameters["momentum"]),
    )


def counting_dtype(dtype: Any) -> Any:
    """Returns the type to count in beside parameters of `dtype`: float32, or float64 beside that.

    A half-precision type holds no more than the whole numbers to 256 (bfloat16) or 2048 (float16).
    """
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32


def descend(server: Server, update: PyTree) -> PyTree:
    """Returns w_t minus `update` times the server learning rate."""
    rate = server.hyperparameters["server_learning_rate"]
    return jax.tree.map(lambda w, u: w - rate * u, server.params, update)


def _constant(round_index: Array) -> float:
    del round_index
    return 1.0


def _nothing(state: PyTree) -> PyTree:
    del state
    return ()
