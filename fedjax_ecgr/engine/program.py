"""A simulation as pure functions over its state, to be run here or composed by the user."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_ecgr import check, metrics
from fedjax_ecgr.algorithms import Algorithm, Local, Trained
from fedjax_ecgr.data.federated import Examples, FederatedDataset, check_examples, validate
from fedjax_ecgr.engine import memory
from fedjax_ecgr.engine.block import compiled_block
from fedjax_ecgr.engine.client import Work
from fedjax_ecgr.engine.evaluation import Evaluation, EvaluationSet, evaluate, evaluation_set
from fedjax_ecgr.engine.memory import Memory
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.engine.placement import placement as choose_placement
from fedjax_ecgr.engine.round import RoundInfo, Setting, State, run_round, start_from
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.types import Array, Loss, PyTree

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
      memory: `() -> Memory`, the prediction of what is in use on each device; its first call
        compiles one round (scan) or two, unless a budget was given. `memory().peak(chunk_size)` is
        the peak, XLA's own account to within a few per cent.
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
    memory: Callable[[], Memory]
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
    memory_budget: float | None = None,
    eval_batch_size: int = 256,
) -> Simulation:
    """Returns a federated simulation as pure functions; nothing is compiled yet but for a budget.

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
      placement: `auto`, `scan`, `vmap` or `devices`; see `fedjax_ecgr.engine.placement`.
      chunk_size: clients at once on one device.
      num_devices: devices that `devices` uses; all by default.
      memory_budget: GiB that arrays may take on each device, the process itself apart: chunks are
        made as small as that needs, unless `chunk_size` is given. What is needed is foretold by
        compiling one to three rounds, see `Simulation.memory`.
      eval_batch_size: test examples at once.

    Raises:
      InputError: if anything is out of range or does not fit together.
    """
    if memory_budget is not None:
        check.number("memory_budget", memory_budget, low=0, low_open=True)
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
    judged = None if test is None else evaluation_set(test, data, _num_classes(model, loss, test))
    judge = jax.jit(partial(evaluate, model, loss, eval_batch_size))
    inputs = _inputs(setting, data, judged, numbers)
    predict = cache(partial(memory.predict, setting, judge, inputs))
    if memory_budget is not None:
        asked_for = chunk_size is not None
        layout = memory.fit(layout, cohort_size, predict, memory_budget, exact=asked_for)
        setting = setting._replace(placement=layout)
    data, judged = _on_devices(layout, (data, judged))
    upload_bytes, download_bytes = _messages(algorithm, model)
    return Simulation(
        init=partial(_init, setting, num_clients),
        round=partial(run_round, setting, data),
        block=compiled_block(setting, data),
        evaluate=None if test is None else lambda s: judge(judged, s.params, s.stats),
        hyperparameters=numbers,
        placement=layout,
        memory=partial(predict, layout.chunk_size == 1),
        setting=setting,
        upload_bytes=upload_bytes,
        download_bytes=download_bytes,
    )


def _init(setting: Setting, num_clients: int, key: Array) -> State:
    # copies: the state will be donated, and what a model's init returns may be the user's own
    state = jax.tree.map(jnp.array, _first(setting, num_clients, key))
    return _on_devices(setting.placement, state)


def _first(setting: Setting, num_clients: int, key: Array) -> State:
    params, stats = setting.work.model.init(jax.random.fold_in(key, _INIT))
    return start_from(setting.work.algorithm, num_clients, params, stats)


def _inputs(
    setting: Setting, data: FederatedDataset, judged: EvaluationSet | None, numbers: PyTree
) -> memory.Inputs:
    """Returns the shapes of all that the simulation's programs are given."""
    first = partial(_first, setting, data.num_clients)
    state = jax.eval_shape(first, jax.eval_shape(jax.random.key, 0))
    numbers = jax.tree.map(lambda x: jnp.asarray(x, float), numbers)
    return memory.Inputs(*_shapes(setting.placement, (data, judged, state, numbers)))


def _as_stored(tree: PyTree) -> PyTree:
    """Arrays as devices hold them: integers as int32."""
    tree = jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda x: x.astype(jnp.int32) if x.dtype == jnp.int64 else x, tree)


def _on_devices(layout: Placement, tree: PyTree) -> PyTree:
    """Puts arrays on the device, or a copy on each device of the mesh."""
    tree, everywhere = _as_stored(tree), _everywhere(layout)
    return tree if everywhere is None else jax.device_put(tree, everywhere)


def _shapes(layout: Placement, tree: PyTree) -> PyTree:
    """Returns what `_on_devices` would, of arrays or shapes, without any array."""
    everywhere = _everywhere(layout)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        jax.eval_shape(_as_stored, tree),
    )


def _everywhere(layout: Placement) -> NamedSharding | None:
    return None if layout.mesh is None else NamedSharding(layout.mesh, PartitionSpec())


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
