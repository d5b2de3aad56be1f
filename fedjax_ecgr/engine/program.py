"""A simulation as pure functions over its state, to be run here or composed by the user."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_ecgr import check, metrics
from fedjax_ecgr.algorithms import Algorithm, First, Outcome
from fedjax_ecgr.attacks.base import Attack
from fedjax_ecgr.augmentations import Augmentation
from fedjax_ecgr.data.federated import (
    Examples,
    FederatedDataset,
    check_clients,
    validate,
)
from fedjax_ecgr.engine import compatible, memory, stored, streams
from fedjax_ecgr.engine.block import compilable, compiled_block
from fedjax_ecgr.engine.client import Memories, Slot, at_client, head_of, outcome_of
from fedjax_ecgr.engine.cohort import check_system
from fedjax_ecgr.engine.evaluation import Evaluation, Tests, judge
from fedjax_ecgr.engine.local_steps import Extent, Work
from fedjax_ecgr.engine.memory import Memory
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.engine.placement import placement as choose_placement
from fedjax_ecgr.engine.round import RoundInfo, run_round
from fedjax_ecgr.engine.setting import Setting, check_numbers, fitted, numbers_of, typed
from fedjax_ecgr.engine.state import State, start_from, starting_point
from fedjax_ecgr.engine.widths import padded
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.samplers import uniform
from fedjax_ecgr.samplers.base import Sampler
from fedjax_ecgr.systems.base import System
from fedjax_ecgr.types import AnyArray, Array, Loss, PyTree

_MOST_STEPS = 2**31 - 1


class Simulation(NamedTuple):
    """A simulation as pure functions, to be jitted, scanned or vmapped as one likes.

    Attributes:
      init: `key -> State`.
      round: `(state, key, hyperparameters) -> (state, RoundInfo)`: one round. The same key serves
        all rounds; each folds its number in.
      block: `(state, key, hyperparameters, count, length) -> (state, RoundInfo)`: `count` rounds as
        one compiled program that holds `length`; the infos are [length, ...], those from `count` on
        meaningless. The state handed in is donated: do not use it again.
      evaluate: `(state, key=None, hyperparameters=None) -> Evaluation`, or None without test
        examples; key and numbers matter only to personal models that are trained for it.
      hyperparameters: `{"algorithm": …, "regulator": …}`, the numbers `round` and `block` take;
        also those of `transforms` and `augmentations` (by name), `aggregator`, `attack` (and
        `malicious_share`), `sampler` and `system`, where there are such.
      placement: the layout that was picked.
      memory: `() -> Memory`, the prediction of what is in use on each device; its first call
        compiles one round (scan) or two, unless a budget was given. `memory().peak(chunk_size)` is
        the peak, XLA's own account to within a few per cent.
      setting: the rest of what is static.
      inputs: the data, as programs take it; where the user's arrays are.
      with_data: `(data, *, test=None, client_test=None, validation=None) -> Simulation`, the same
        over other data of the same kind: as many clients, inputs and labels of the same shape. What
        is compiled for the one serves the other, where the largest clients are of about one size.
      check: `(key, hyperparameters) -> None`: raises `InputError` for a number out of range, or if
        nobody could ever take part.
    """

    init: Callable[[Array], State]
    round: Callable[..., tuple[State, RoundInfo]]
    block: Callable[..., tuple[State, RoundInfo]]
    evaluate: Callable[..., Evaluation] | None
    hyperparameters: Mapping[str, Any]
    placement: Placement
    memory: Callable[[], Memory]
    setting: Setting
    check: Callable[[Array, Mapping[str, Any]], None]
    inputs: "Inputs"
    with_data: Callable[..., "Simulation"]


class Inputs(NamedTuple):
    """The data of a simulation.

    Attributes:
      data: the clients' training data, with room for few different numbers of batches.
      tests: all that evaluations take besides models; None where there are none.
    """

    data: FederatedDataset
    tests: Tests | None


def simulation(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    *,
    test: Examples | None = None,
    client_test: FederatedDataset | None = None,
    validation: Examples | None = None,
    sampler: Sampler | None = None,
    system: System | None = None,
    attack: Attack | None = None,
    malicious_share: float = 0.0,
    augmentations: Sequence[Augmentation] = (),
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
      test: test examples, for `evaluate`; by default all of `client_test`.
      client_test: the test examples of each client, by which personal models are judged (see
        `fedjax_ecgr.partition.hold_out`); by default the test examples with owners, where the
        clients are the owners.
      validation: examples to choose hyperparameters by, on which the global model is evaluated too.
      sampler: who takes part; by default clients are drawn evenly.
      system: what clients' devices manage in a round, and in what time; everything by default.
      attack: what malicious clients do; nothing by default.
      malicious_share: share of all clients that is malicious, in [0, 1).
      augmentations: what changes images at random while clients train, in this order.
      cohort_size: clients a round, without replacement; all by default.
      batch_size: examples a local step.
      local_epochs: passes over its examples that a client makes in a round.
      shuffle: whether each pass has its own random order.
      loss: `(outputs [B, ..., classes], labels [B, ...]) -> [B, ...]`; labels are [B] or, for
        sequences, [B, length], where padding has label 0 and does not count.
      placement: `auto`, `scan`, `vmap` or `devices`; see `fedjax_ecgr.engine.placement.placement`.
      chunk_size: clients at once on one device.
      num_devices: devices that `devices` uses; all by default.
      memory_budget: GiB that arrays may take on each device, the process itself apart: chunks are
        made as small as that needs, unless `chunk_size` is given. What is needed is foretold by
        compiling one to three rounds, see `Simulation.memory`.
      eval_batch_size: test examples at once.

    Raises:
      InputError: if anything is out of range or does not fit together.
    """
    held = compatible.Held(test, client_test, validation)
    compatible.check_types(algorithm, model, data, held, sampler, system, attack, loss)
    check.part("shuffle", shuffle, bool, "True or False")
    if memory_budget is not None:
        check.number("memory_budget", memory_budget, low=0, low_open=True)
    batch_size = check.count("batch_size", batch_size)
    eval_batch_size = check.count("eval_batch_size", eval_batch_size)
    local_epochs = check.count("local_epochs", local_epochs)
    num_clients = data.num_clients
    if cohort_size is None:
        cohort_size = num_clients
    why = "the number of clients"
    cohort_size = check.count("cohort_size", cohort_size, high=num_clients, why=why)
    layout = choose_placement(
        placement, cohort_size, chunk_size=chunk_size, num_devices=num_devices
    )
    compatible.check_params(model)
    num_classes = compatible.num_classes_of(model, loss, data.examples)
    check.number("malicious_share", malicious_share, low=0, high=1, high_open=True)
    sampler = uniform() if sampler is None else sampler
    sampler.check(num_clients, cohort_size)
    if algorithm.aggregator is not None:
        algorithm.aggregator.check(cohort_size)
    work = Work(
        model,
        algorithm,
        loss,
        num_classes,
        batch_size,
        local_epochs,
        shuffle,
        attack,
        compatible.checked_augmentations(augmentations, data.examples),
    )
    setting = Setting(
        work,
        outcome_of(work),
        cohort_size,
        layout,
        sampler,
        system,
        malicious_share,
        eval_batch_size,
    )
    inputs = _inputs(setting, data, held)
    sent = _sent(setting, inputs.data)
    setting = _with_messages(setting, sent)
    first = _first(setting, num_clients, sent.upload.update)
    parts = _parts(setting, first)
    if memory_budget is not None:
        predict = _predicting(parts, inputs)
        asked_for = chunk_size is not None
        layout = memory.fit(layout, cohort_size, predict, memory_budget, exact=asked_for)
        parts = _parts(setting._replace(placement=layout), first)
    return _assembled(parts, inputs)


class _Parts(NamedTuple):
    """What a simulation is made of besides its data, whatever that is; static."""

    setting: Setting
    first: Callable[[Array], State]
    block: Any  # jitted
    judge: Any  # jitted


def _parts(setting: Setting, first: Callable[[Array], State]) -> _Parts:
    return _Parts(setting, first, compilable(setting), jax.jit(partial(judge, setting)))


def _inputs(setting: Setting, data: FederatedDataset, held: compatible.Held) -> Inputs:
    """Returns the data as programs take it, checked, with room for a round number of batches."""
    work = setting.work
    validate(data, work.num_classes)
    data = padded(_counted_in_int32(data), work.batch_size)
    most = _MOST_STEPS // -(-data.indices.shape[1] // work.batch_size)
    check.count(
        "local_epochs", work.local_epochs, high=most, why="local steps are counted in int32"
    )
    tests = compatible.tests_of(work, data, held)
    if tests is not None and tests.clients is not None:
        clients = _counted_in_int32(tests.clients)
        tests = tests._replace(clients=padded(clients, setting.eval_batch_size))
    return Inputs(data, tests)


def _counted_in_int32(data: FederatedDataset) -> FederatedDataset:
    """Returns the data with rows and sizes that can be counted with, whatever holds the user's."""

    def counted(x: AnyArray) -> AnyArray:
        return x if x.dtype == np.int32 else x.astype(np.int32)

    return data._replace(indices=counted(data.indices), sizes=counted(data.sizes))


def _assembled(parts: _Parts, inputs: Inputs) -> Simulation:
    """Returns the simulation of some parts over some data; nothing is put on a device yet."""
    setting, layout = parts.setting, parts.setting.placement
    numbers = numbers_of(setting)
    memory.check_fits(setting.work, _stated(parts.first, numbers)[0], inputs.data.indices.shape[1])

    @cache
    def on_devices() -> Inputs:
        # arrays for all programs, be the first to ask one that is being traced
        with jax.ensure_compile_time_eval():
            return Inputs(*stored.on_devices(layout, tuple(inputs)))

    def evaluate(
        state: State, key: Array | None = None, hyperparameters: PyTree | None = None
    ) -> Evaluation:
        given = numbers if hyperparameters is None else hyperparameters
        given = jax.tree.map(lambda x: jnp.asarray(x, float), given)
        key = streams.root(0) if key is None else key
        return parts.judge(*on_devices(), state, key, given)

    return Simulation(
        init=lambda key: stored.on_devices(layout, parts.first(key)),
        round=lambda *args, **named: run_round(setting, on_devices().data, *args, **named),
        block=compiled_block(parts.block, lambda: on_devices().data),
        evaluate=None if inputs.tests is None else evaluate,
        hyperparameters=numbers,
        placement=layout,
        memory=partial(_predicting(parts, inputs), layout.chunk_size == 1),
        setting=setting,
        check=partial(_check_numbers, setting, inputs.data),
        inputs=inputs,
        with_data=partial(_with_data, parts, inputs.data),
    )


def _with_data(
    parts: _Parts,
    before: FederatedDataset,
    data: FederatedDataset,
    *,
    test: Examples | None = None,
    client_test: FederatedDataset | None = None,
    validation: Examples | None = None,
) -> Simulation:
    """Returns the simulation over other data of the same kind, see `Simulation.with_data`."""
    check_clients("data", data)
    for name, one, other in (
        ("clients", data.num_clients, before.num_clients),
        ("inputs of shape", data.examples.inputs.shape[1:], before.examples.inputs.shape[1:]),
        ("inputs of type", data.examples.inputs.dtype, before.examples.inputs.dtype),
        ("labels of shape", data.examples.labels.shape[1:], before.examples.labels.shape[1:]),
    ):
        if one != other:
            raise check.InputError(
                f"data: {name} {one} is not allowed, the simulation was made for {other}"
            )
    held = compatible.Held(test, client_test, validation)
    return _assembled(parts, _inputs(parts.setting, data, held))


def _predicting(parts: _Parts, inputs: Inputs) -> Callable[[bool], Memory]:
    """Returns `one_by_one -> Memory`, which compiles once."""
    layout, numbers = parts.setting.placement, numbers_of(parts.setting)
    shapes = memory.Inputs(*stored.shapes(layout, (*inputs, *_stated(parts.first, numbers))))
    return cache(partial(memory.predict, parts.setting, parts.judge, shapes))


def _check_numbers(
    setting: Setting, data: FederatedDataset, key: Array, hyperparameters: Mapping[str, Any]
) -> None:
    check_numbers(setting, hyperparameters)
    check_system(setting, data, key, hyperparameters)


def _sent(setting: Setting, data: FederatedDataset) -> Outcome:
    """Returns the shapes of what a client makes of its round."""
    setting = fitted(setting, data)
    algorithm, model = setting.work.algorithm, setting.work.model
    num_clients = data.num_clients

    def outcome(
        params: PyTree, batch_stats: PyTree, key: Array, data: FederatedDataset, numbers: PyTree
    ) -> Outcome:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        numbers = typed(numbers, dtype)
        first = First(params, batch_stats, head_of(model, params), num_clients)
        start = starting_point(setting, start_from(setting, 1, first, params), key, numbers)
        memories = Memories(algorithm.init_client(first), algorithm.regulator.remember(params), ())
        zero, one = jnp.zeros((), jnp.int32), jnp.ones((), dtype)
        extent = Extent(zero, zero)
        malicious = () if setting.work.attack is None else zero > 0
        slot = Slot(zero, extent, one, malicious)
        # as the programs will ask, which spares them from tracing it again
        longest = None if setting.placement.alone else extent
        of_client = memories, data, slot, longest, jax.random.key_impl(key)
        if algorithm.gather is not None:
            gathered = algorithm.gather(*at_client(setting.work, start, *of_client))
            start = start._replace(local=start.local._replace(gathered=gathered))
        local = start.local
        optimizer = algorithm.optimizer(local.learning_rate, local.hyperparameters)
        check.keyless(f"{algorithm.name}: optimizer", optimizer.init(local.params))
        done = setting.outcome(setting.work.batch_size, start, *of_client)
        batch_stats = done.trained.batch_stats if done.batch_stats is None else done.batch_stats
        received = (algorithm.download(first), local.received, local.gathered)
        upload = done.upload._replace(each=(done.upload.each, local.gathered))
        return done._replace(upload=upload, batch_stats=batch_stats, state=received)

    numbers = jax.tree.map(lambda x: jnp.asarray(x, float), numbers_of(setting))
    key = jax.eval_shape(streams.root, 0)
    held = jax.eval_shape(stored.as_stored, data)
    return jax.eval_shape(outcome, *compatible.initial(model), key, held, numbers)


def _with_messages(setting: Setting, sent: Outcome) -> Setting:
    """Returns the setting that knows how many bytes one client sends and receives in a round."""
    update = sent.upload.update
    for transform in setting.work.algorithm.transforms:
        if transform.wire is not None:
            update = jax.eval_shape(transform.wire, sent.upload.update)
    upload = sent.upload._replace(update=update)
    return setting._replace(
        bytes_up=metrics.message_bytes((upload, sent.batch_stats)),
        bytes_down=metrics.message_bytes((sent.state, sent.batch_stats)),
    )


def _stated(first: Callable[[Array], State], numbers: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the shapes of the first state and of the hyperparameters."""
    state = jax.eval_shape(first, jax.eval_shape(streams.root, 0))
    return state, jax.tree.map(lambda x: jnp.asarray(x, float), numbers)


def _first(setting: Setting, num_clients: int, sent: PyTree) -> Callable[[Array], State]:
    """Returns `key -> state`, by a program that all simulations of a model share and a small one.

    Args:
      setting: what a round does; static.
      num_clients: N.
      sent: a pytree like a client's update, of shapes.
    """
    model = setting.work.model
    init = jax.jit(model.init)

    @jax.jit
    def start(params: PyTree, batch_stats: PyTree) -> State:
        first = First(params, batch_stats, head_of(model, params), num_clients)
        # the state will be donated: no array may be in it twice
        return jax.tree.map(jnp.copy, start_from(setting, num_clients, first, sent))

    return lambda key: start(*init(jax.random.fold_in(key, streams.INIT)))
