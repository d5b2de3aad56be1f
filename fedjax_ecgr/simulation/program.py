"""A simulation as pure functions over its state, to be run here or composed by the user."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_ecgr import check, metrics
from fedjax_ecgr.algorithms import Algorithm, Local, Trained
from fedjax_ecgr.data.federated import Examples, FederatedDataset, check_examples, validate
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.simulation.client import Loss, Work
from fedjax_ecgr.simulation.evaluation import Evaluation, evaluate, evaluation_set
from fedjax_ecgr.simulation.placement import Placement
from fedjax_ecgr.simulation.placement import placement as choose_placement
from fedjax_ecgr.simulation.round import RoundInfo, Setting, State, run_round, start_from

Array = jax.Array
PyTree = Any

# The stream of the first parameters; rounds' streams are their numbers, all smaller.
_INIT = np.uint32(2**32 - 1)


class Simulation(NamedTuple):
    """A simulation as pure functions, to be jitted, scanned or vmapped as one likes.

    Attributes:
      init: `key -> State`.
      round: `(state, key, hyperparameters) -> (state, RoundInfo)`: one round. The same key serves
        all rounds; each folds its number in.
      block: `(state, key, hyperparameters, count, length) -> (state, RoundInfo)`: `count` rounds as
        one compiled program that holds `length`; the infos are [length, ...], those from `count` on
        meaningless. The state handed in is donated: do not use it again.
      evaluate: `state -> Evaluation` of the global model, or None without test examples.
      hyperparameters: `{"algorithm": …, "regulator": …}`, the numbers `round` and `block` take.
      placement: the layout that was picked.
      setting: the rest of what is static.
      upload_bytes: what one client sends a round.
      download_bytes: what one client receives a round.
    """

    init: Callable[[Array], State]
    round: Callable[..., tuple[State, RoundInfo]]
    block: Callable[..., tuple[State, RoundInfo]]
    evaluate: Callable[[State], Evaluation] | None
    hyperparameters: Mapping[str, Any]
    placement: Placement
    setting: Setting
    upload_bytes: int
    download_bytes: int


def simulation(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    *,
    test: Examples | None = None,
    cohort_size: int | None = None,
    batch_size: int = 32,
    local_epochs: int = 1,
    shuffle: bool = True,
    loss: Loss = optax.softmax_cross_entropy_with_integer_labels,
    placement: str = "auto",
    chunk_size: int | None = None,
    num_devices: int | None = None,
    eval_batch_size: int = 256,
) -> Simulation:
    """Returns a federated simulation as pure functions; nothing is compiled yet.

    Args:
      algorithm: the federated algorithm, with its regulator.
      model: the model.
      data: the clients' data.
      test: test examples, for `evaluate`.
      cohort_size: clients a round, sampled without replacement; all by default.
      batch_size: examples a local step.
      local_epochs: passes over its examples that a client makes in a round.
      shuffle: whether each pass has its own random order.
      loss: `(outputs [B, classes], labels [B]) -> [B]`.
      placement: `auto`, `scan`, `vmap` or `devices`; see `fedjax_ecgr.simulation.placement`.
      chunk_size: clients at once on one device.
      num_devices: devices that `devices` uses; all by default.
      eval_batch_size: test examples at once.

    Raises:
      InputError: if anything is out of range or does not fit together.
    """
    for name, number in (
        ("batch_size", batch_size),
        ("local_epochs", local_epochs),
        ("eval_batch_size", eval_batch_size),
    ):
        check.count(name, number)
    num_clients = data.num_clients
    if cohort_size is None:
        cohort_size = num_clients
    check.count("cohort_size", cohort_size, high=num_clients, why="the number of clients")
    layout = choose_placement(
        placement, cohort_size, chunk_size=chunk_size, num_devices=num_devices
    )
    num_classes = _num_classes(model, loss, data.examples)
    validate(data, num_classes)
    if test is not None:
        check_examples(test, num_classes, prefix="test_")

    work = Work(
        model, algorithm, loss, min(batch_size, data.indices.shape[1]), local_epochs, shuffle
    )
    setting = Setting(work, cohort_size, layout)
    numbers = {
        "algorithm": dict(algorithm.hyperparameters),
        "regulator": dict(algorithm.regulator.hyperparameters),
    }
    data = _on_devices(layout, data)
    upload_bytes, download_bytes = _messages(algorithm, model)
    return Simulation(
        init=partial(_init, setting, num_clients),
        round=partial(run_round, setting, data),
        block=_compiled_block(setting, data),
        evaluate=None if test is None else _evaluation(setting, eval_batch_size, test, data),
        hyperparameters=numbers,
        placement=layout,
        setting=setting,
        upload_bytes=upload_bytes,
        download_bytes=download_bytes,
    )


def _init(setting: Setting, num_clients: int, key: Array) -> State:
    params, stats = setting.work.model.init(jax.random.fold_in(key, _INIT))
    state = start_from(setting.work.algorithm, num_clients, params, stats)
    # copies: the state will be donated, and what a model's init returns may be the user's own
    state = jax.tree.map(jnp.array, state)
    return _on_devices(setting.placement, state)


def _compiled_block(
    setting: Setting, data: FederatedDataset
) -> Callable[..., tuple[State, RoundInfo]]:
    compiled = jax.jit(partial(_block, setting), static_argnums=5, donate_argnums=1)

    def block(
        state: State, key: Array, hyperparameters: PyTree, count: int, length: int
    ) -> tuple[State, RoundInfo]:
        check.count("count", count, low=0, high=length)
        # of one type, whatever the user wrote: 0 and 0.5 are the same program
        numbers = jax.tree.map(lambda x: jnp.asarray(x, float), hyperparameters)
        return compiled(data, state, key, numbers, jnp.int32(count), length)

    return block


def _block(
    setting: Setting,
    data: FederatedDataset,
    state: State,
    key: Array,
    hyperparameters: PyTree,
    count: Array,
    length: int,
) -> tuple[State, RoundInfo]:
    """Runs `count` rounds in a program for `length`, so that no remainder compiles again."""
    one = partial(run_round, setting, data, key=key, hyperparameters=hyperparameters)
    shapes = jax.eval_shape(one, state)[1]

    def step(state: State, index: Array) -> tuple[State, RoundInfo]:
        return jax.lax.cond(index < count, one, skip, state)

    def skip(state: State) -> tuple[State, RoundInfo]:
        return state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    return jax.lax.scan(step, state, jnp.arange(length, dtype=jnp.int32))


def _evaluation(
    setting: Setting, batch_size: int, test: Examples, data: FederatedDataset
) -> Callable[[State], Evaluation]:
    work = setting.work
    judged = evaluation_set(test, data, _num_classes(work.model, work.loss, test))
    judged = _on_devices(setting.placement, judged)
    run = jax.jit(partial(evaluate, work.model, work.loss, batch_size))
    return lambda state: run(judged, state.params, state.stats)


def _on_devices(layout: Placement, tree: PyTree) -> PyTree:
    """Puts arrays on the device, or a copy on each device of the mesh; integers as int32."""
    tree = jax.tree.map(jnp.asarray, tree)
    tree = jax.tree.map(lambda x: x.astype(jnp.int32) if x.dtype == jnp.int64 else x, tree)
    if layout.mesh is None:
        return tree
    return jax.device_put(tree, NamedSharding(layout.mesh, PartitionSpec()))


def _num_classes(model: Model, loss: Loss, examples: Examples) -> int:
    """Returns the width of the outputs; raises `InputError` if data, model and loss clash."""

    def forward(key: Array, inputs: Array) -> tuple[Array, Array]:
        params, stats = model.init(key)
        dtype = jnp.result_type(*jax.tree.leaves(params))
        outputs, _ = model.apply(
            params, stats, inputs.astype(dtype), mask=jnp.ones(2, bool), train=False, key=key
        )
        return outputs, loss(outputs, jnp.zeros(2, jnp.int32))

    inputs = jax.ShapeDtypeStruct((2, *examples.inputs.shape[1:]), jnp.float32)
    try:
        outputs, losses = jax.eval_shape(forward, jax.eval_shape(jax.random.key, 0), inputs)
    except Exception as error:  # a model is the user's code: it may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise check.InputError(
            f"model: {model.name} does not take inputs of shape {inputs.shape[1:]}: {reason}"
        ) from error
    for name, shape, wanted in (
        ("model: outputs of", outputs.shape, outputs.ndim == 2 and len(outputs) == 2),
        ("loss:", losses.shape, losses.shape == (2,)),
    ):
        if not wanted:
            expected = "(2,), one number an example" if name == "loss:" else "(2, classes)"
            raise check.InputError(
                f"{name} shape {shape} for 2 examples is not allowed, it must be {expected}"
            )
    return outputs.shape[1]


def _messages(algorithm: Algorithm, model: Model) -> tuple[int, int]:
    """Returns the bytes that one client sends and receives in a round."""

    def messages(key: Array) -> tuple[PyTree, PyTree]:
        params, stats = model.init(key)
        one = jnp.ones((), jnp.result_type(*jax.tree.leaves(params)))
        received = algorithm.broadcast(algorithm.init_server(params))
        numbers = jax.tree.map(lambda x: one, dict(algorithm.hyperparameters))
        local = Local(params, received, algorithm.init_client(params), one, numbers)
        upload, _ = algorithm.finish(Trained(params, params, one), local)
        return (upload, stats), (params, received, stats)

    sent, received = jax.eval_shape(messages, jax.eval_shape(jax.random.key, 0))
    return metrics.message_bytes(sent), metrics.message_bytes(received)
