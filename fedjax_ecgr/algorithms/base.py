r"""The contract of a federated algorithm, and what all algorithms share.

An algorithm is a `NamedTuple` of small pure functions. In each round the engine

1. sends every client of the cohort the global parameters and `broadcast(server_state)`;
2. runs `client` on each: it trains, once or more, by `client.train`, and makes the upload and the
   client's next state;
3. averages the uploads (or hands them to an aggregator), and lets `server` make a direction of
   them, along which the server's optimiser takes its step.

To add one, write a file that returns an `Algorithm` from `algorithm(...)`, naming the functions in
which it differs from FedAvg, and list it in `fedjax_ecgr/algorithms/__init__.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.base import Aggregator
from fedjax_ecgr.algorithms.common import (
    Common,
    Optimizer,
    ServerOptimizer,
    numbers_and_schedule,
    server_sgd,
    sgd,
)
from fedjax_ecgr.regulators import Regulator, identity
from fedjax_ecgr.transforms.base import Transform
from fedjax_ecgr.types import Array, Hyperparameters, Loss, PyTree, counting_dtype


class First(NamedTuple):
    """What a run starts from.

    Attributes:
      params: the first global parameters.
      batch_stats: the first statistics of the model.
      head: like the parameters, a Python bool a leaf: whether it belongs to the model's last layer
        (`Model.head`).
      num_clients: N, how many clients there are; static.
    """

    params: PyTree
    batch_stats: PyTree
    head: PyTree
    num_clients: int


class Seen(NamedTuple):
    """What a local step hands on besides its gradient.

    Attributes:
      batch_stats: the model's statistics after the batch.
      loss: the sum of the batch's losses, for the report.
      targets: of how many labels, int32: one an example but for sequences.
    """

    batch_stats: PyTree
    loss: Array
    targets: Array


class BatchLoss(Protocol):
    """The loss of one batch."""

    def __call__(
        self,
        params: PyTree,
        batch_stats: PyTree,
        *,
        per_example: Loss | None = None,
        mask: Array | None = None,
    ) -> tuple[Array, Seen]:
        """Returns the mean loss over the batch's labels, and `Seen`; differentiable twice.

        Args:
          params: the model's parameters.
          batch_stats: its statistics.
          per_example: `(outputs [B, ..., classes], labels [B, ...]) -> [B, ...]` in place of the
            run's loss.
          mask: [B] bool in place of `Batch.mask`, for a part of the batch.
        """
        ...


class Batch(NamedTuple):
    """One local step's examples, as the objective sees them.

    Attributes:
      inputs: [B, ...], normalised.
      labels: [B, ...] int32; 0 in the place of padding.
      mask: [B] bool, false at rows that only fill the batch up.
      targets: how many labels count, int32: all of the rows that are not masked but padding.
      loss: see `BatchLoss`.
      features: `(params, batch_stats) -> [B, F]`, what the model's last layer is given.
    """

    inputs: Array
    labels: Array
    mask: Array
    targets: Array
    loss: BatchLoss
    features: Callable[[PyTree, PyTree], Array]


Objective = Callable[[PyTree, PyTree, Batch], tuple[Array, Seen]]
"""`(params, batch_stats, batch) -> (what a local step descends on, Seen)`."""


class Trained(NamedTuple):
    """Where a client's local steps ended.

    Attributes:
      params: w_τ, the local end point, before any regulation.
      update: what the regulator made of Σ d; like the parameters, in their units.
      num_steps: τ, in the parameters' dtype; at least 1.
      batch_stats: the statistics after the last step.
      loss: mean training loss over the labels of all local steps, each before its step.
      drift: ‖w_t − w_τ‖₂.
      info: the regulator's own; None where nothing was regulated.
    """

    params: PyTree
    update: PyTree
    num_steps: Array
    batch_stats: PyTree
    loss: Array
    drift: Array
    info: PyTree


class Train(Protocol):
    """Local training."""

    def __call__(
        self,
        start: PyTree | None = None,
        batch_stats: PyTree | None = None,
        *,
        objective: Objective | None = None,
        correct: Callable[[PyTree], PyTree] | None = None,
        optimizer: optax.GradientTransformation | None = None,
        regulate: bool | Callable[[PyTree], PyTree] = True,
        epochs: int | None = None,
        stream: int = 0,
    ) -> Trained:
        """Runs the client's local steps.

        Args:
          start: where to start; the global parameters by default. Any pytree that `objective`
            understands will do.
          batch_stats: the first statistics; by default the client's. What `objective` hands on in
            `Seen.batch_stats` is carried from step to step, whatever it is.
          objective: what each step descends on; the loss of its batch by default.
          correct: `params -> params`, after each optimiser step; nothing by default.
          optimizer: in place of the algorithm's.
          regulate: whether the regulator makes the update of the steps' deltas, else it is their
            sum; or `params -> part`, the part of the parameters that it sees: the update is like
            that then.
          epochs: passes over the client's examples; those of the run by default.
          stream: which stream of randomness; two trainings of one stream see the same batches.
        """
        ...


class Client(NamedTuple):
    """One client in one round, as closures over its data.

    Attributes:
      number: which client it is, int32.
      size: n, its number of examples, int32.
      weight: p, its weight in the cohort's average.
      batch_stats: the global model's statistics.
      num_classes: how many labels there are.
      head: see `First`.
      train: local training, see `Train`.
      loss: `params -> scalar`, mean loss over all its labels, the model as it is evaluated.
      gradient: `params -> like params`, the gradient of that.
      label_counts: `() -> [num_classes]`, how many of each label it has, in the parameters'
        dtype, but float32 at least.
    """

    number: Array
    size: Array
    weight: Array
    batch_stats: PyTree
    num_classes: int
    head: PyTree
    train: Train
    loss: Callable[[PyTree], Array]
    gradient: Callable[[PyTree], PyTree]
    label_counts: Callable[[], Array]


class Local(NamedTuple):
    """What a client knows throughout its round.

    Attributes:
      params: w_t, the global parameters.
      received: what the server broadcast besides.
      state: the client's own state.
      direction: w_{t−1} − w_t, zeros in the first round; `()` unless the algorithm or the regulator
        needs it.
      learning_rate: η_t, scalar.
      hyperparameters: the algorithm's numbers.
      gathered: the average over the cohort of what `Algorithm.gather` made; `()` without it.
    """

    params: PyTree
    received: PyTree
    state: PyTree
    direction: PyTree
    learning_rate: Array
    hyperparameters: Hyperparameters
    gathered: PyTree = ()


class Upload(NamedTuple):
    """What a client sends, or what the server has of a cohort's.

    Attributes:
      update: averaged with weights p_i = n_i / Σ n over the cohort, or aggregated; transforms and
        attacks change this alone. Like the parameters, or a part of them.
      weighted: anything else that is averaged with the same weights.
      uniform: what is averaged with weight 1 / |cohort|.
      each: small things that the server gets of each client, [cohort, ...] leaves there; zeros of
        those that sent nothing.
    """

    update: PyTree
    weighted: PyTree = ()
    uniform: PyTree = ()
    each: PyTree = ()


class Outcome(NamedTuple):
    """What a client makes of its round.

    Attributes:
      upload: what it sends.
      state: its next state.
      trained: the training that the report is about.
      batch_stats: the statistics it sends; those of `trained` by default, `()` for none: the global
        ones stay as they are then.
    """

    upload: Upload
    state: PyTree
    trained: Trained
    batch_stats: PyTree | None = None


class Server(NamedTuple):
    """What the server knows when it closes a round.

    Attributes:
      params: w_t.
      state: the algorithm's server state.
      clients: [cohort] int32, who was asked.
      present: [cohort] bool, who sent something.
      participation: |cohort| / N, scalar.
      learning_rate: η_t, the clients', scalar.
      hyperparameters: the algorithm's numbers.
    """

    params: PyTree
    state: PyTree
    clients: Array
    present: Array
    participation: Array
    learning_rate: Array
    hyperparameters: Hyperparameters


class Algorithm(NamedTuple):
    """A federated algorithm as pure functions over pytrees.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      schedule: `round -> factor`, multiplies the learning rate; optax's schedules fit.
      optimizer: `(learning_rate, hyperparameters) -> optax.GradientTransformation`, made anew for
        each local training.
      server_optimizer: `hyperparameters -> optax.GradientTransformation`, which takes the
        direction of `server` for a gradient; its state stays with the server.
      regulator: what stands between the local steps and the upload.
      transforms: what is done to each client's update before it is sent, in this order.
      aggregator: what the server makes of the updates; None for the mean.
      init_server: `First -> server state`.
      init_client: `First -> state of one client`; `()` for an algorithm that keeps none.
      broadcast: `server state -> what each client of the cohort receives besides the parameters`.
      download: `First -> what of the parameters a client receives`, by which bytes are counted.
      gather: `(client, local) -> pytree`, what each client of the cohort sends before anybody
        trains; its average, with weights p_i, is in `Local.gathered` then. None for nothing: it is
        a second exchange of messages in the round.
      client: `(client, local) -> Outcome`.
      server: `(server, upload) -> (direction, server state)`; the direction is like the parameters.
      personal: `(client, local) -> (params, batch_stats)`, the model that a client is judged by;
        None for the global one. It may train.
      needs_direction: whether `Local.direction` is wanted.
    """

    name: str
    hyperparameters: Hyperparameters
    schedule: Callable[[Array], Any]
    optimizer: Optimizer
    server_optimizer: ServerOptimizer
    regulator: Regulator
    transforms: tuple[Transform, ...]
    aggregator: Aggregator | None
    init_server: Callable[[First], PyTree]
    init_client: Callable[[First], PyTree]
    broadcast: Callable[[PyTree], PyTree]
    download: Callable[[First], PyTree]
    gather: Callable[[Client, Local], PyTree] | None
    client: Callable[[Client, Local], Outcome]
    server: Callable[[Server, Upload], tuple[PyTree, PyTree]]
    personal: Callable[[Client, Local], tuple[PyTree, PyTree]] | None
    needs_direction: bool

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


def algorithm(
    name: str,
    common: Common,
    *,
    own: Hyperparameters | None = None,
    init_server: Callable[[First], PyTree] | None = None,
    init_client: Callable[[First], PyTree] | None = None,
    broadcast: Callable[[PyTree], PyTree] | None = None,
    download: Callable[[First], PyTree] | None = None,
    gather: Callable[[Client, Local], PyTree] | None = None,
    client: Callable[[Client, Local], Outcome] | None = None,
    server: Callable[[Server, Upload], tuple[PyTree, PyTree]] | None = None,
    server_optimizer: ServerOptimizer | None = None,
    personal: Callable[[Client, Local], tuple[PyTree, PyTree]] | None = None,
    needs_direction: bool = False,
) -> Algorithm:
    """Returns the algorithm that is FedAvg but for the functions named.

    Args:
      name: its name.
      common: what the user gave of `Common`.
      own: hyperparameters of its own, checked by the caller.
      init_server: see `Algorithm`, as are all that follow.
      init_client: by default `()`.
      broadcast: by default nothing.
      download: by default all of them.
      gather: by default nothing.
      client: by default trains once and uploads the regulated update.
      server: by default the direction is the averaged update.
      server_optimizer: by default SGD with the server learning rate.
      personal: by default the global model.
      needs_direction: by default not.

    Raises:
      InputError: for an unknown option, a number out of range, or a server optimizer beside the
        algorithm's own.
    """
    given: dict[str, Any] = dict(common)
    check.options(name, given, [*Common.__annotations__, *(own or {})])
    numbers, schedule = numbers_and_schedule(name, given)
    if server_optimizer is not None and "server_optimizer" in given:
        raise check.InputError(
            f"{name}: server_optimizer: not allowed, {name} is the server's optimizer by itself"
        )
    return Algorithm(
        name=name,
        hyperparameters={**numbers, **(own or {})},
        schedule=schedule,
        optimizer=given.get("optimizer", sgd),
        server_optimizer=given.get("server_optimizer", server_optimizer or server_sgd),
        regulator=given.get("regulator", identity()),
        transforms=tuple(given.get("transforms", ())),
        aggregator=given.get("aggregator"),
        init_server=init_server or _nothing,
        init_client=init_client or _nothing,
        broadcast=broadcast or _nothing,
        download=download or (lambda first: first.params),
        gather=gather,
        client=client or _train_and_send,
        server=server or (lambda server, upload: (upload.update, server.state)),
        personal=personal,
        needs_direction=needs_direction,
    )


def _train_and_send(client: Client, local: Local) -> Outcome:
    trained = client.train()
    return Outcome(Upload(trained.update), local.state, trained)


def _nothing(given: PyTree) -> PyTree:
    del given
    return ()
