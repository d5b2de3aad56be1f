"""How much memory a simulation takes, foretold, and the chunk of clients that fits a budget.

XLA lays out all memory of a program when it compiles it, so the prediction is XLA's own account of
the round (`memory_analysis`), linear in the number of clients at once: two programs tell of every
chunk size. Nothing is allocated. It is of a block of one round; a longer block also holds the
`RoundInfo` of each of its rounds.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr import check, metrics
from fedjax_ecgr.engine import streams
from fedjax_ecgr.engine.block import compilable
from fedjax_ecgr.engine.local_steps import Work
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.types import PyTree

GIB = 2**30


class Memory(NamedTuple):
    """Bytes in use on each device; the process itself (Python, programs) is not counted.

    Attributes:
      data: the training and test examples.
      state: global parameters, statistics, the server's state and what all clients keep.
      fixed: what a round takes besides, however many clients run at once; 0 for scan, where it
        cannot be told from the one client's.
      per_client: what each client at once adds.
      evaluation: what an evaluation takes besides; never at the same time as a round.
    """

    data: int
    state: int
    fixed: int
    per_client: int
    evaluation: int

    def training(self, chunk_size: int) -> int:
        """Returns what a round takes besides, with `chunk_size` clients at once."""
        return self.fixed + chunk_size * self.per_client

    def peak(self, chunk_size: int) -> int:
        """Returns the most bytes in use at any time, with `chunk_size` clients at once."""
        return self.data + self.state + max(self.training(chunk_size), self.evaluation)


class Inputs(NamedTuple):
    """What the programs of a simulation are given; shapes are enough.

    Attributes:
      data: the clients' data.
      test: what evaluation takes besides models, or None.
      state: the state of the simulation.
      numbers: its hyperparameters.
    """

    data: PyTree
    test: PyTree
    state: PyTree
    numbers: PyTree


def predict(setting: Setting, evaluation: Any, inputs: Inputs, one_by_one: bool) -> Memory:
    """Returns the memory a simulation takes; compiles one round or two, and the evaluation.

    Args:
      setting: what a round does, its chunk size apart; static.
      evaluation: `(data, test, state, key, numbers)`, jitted.
      inputs: what both are given.
      one_by_one: whether clients are to run one after another, which is a program of another kind,
        without a client axis, than chunks of several.
    """
    state = inputs.state
    held = metrics.message_bytes((inputs.data, inputs.test)), metrics.message_bytes(state)
    judging = 0
    if inputs.test is not None:
        key = jax.eval_shape(streams.root, 0)
        judging = _temporary(evaluation.lower(inputs.data, inputs.test, state, key, inputs.numbers))
    if one_by_one:
        return Memory(*held, 0, _round(setting, inputs, 1), judging)
    two, three = (_round(setting, inputs, chunk_size) for chunk_size in (2, 3))
    return Memory(*held, max(3 * two - 2 * three, 0), max(three - two, 1), judging)


def fit(
    layout: Placement,
    cohort_size: int,
    predict: Callable[[bool], Memory],
    budget: float,
    *,
    exact: bool,
) -> Placement:
    """Returns the layout with the largest chunk that fits, no larger than the one given.

    Chunks are evened out: 10 clients of which 9 fit at once are two chunks of 5.

    Args:
      layout: the layout to start from.
      cohort_size: clients a round.
      predict: `one_by_one -> Memory`.
      budget: GiB allowed on each device.
      exact: whether the chunk size was asked for, and is not to be changed.

    Raises:
      InputError: if not even one client fits, or not the chunk asked for.
    """
    memory = predict(layout.chunk_size == 1)
    if memory.peak(layout.chunk_size) > budget * GIB and not exact:
        share = -(-cohort_size // layout.num_devices)
        room = int((budget * GIB - memory.data - memory.state - memory.fixed) // memory.per_client)
        chunks = -(-share // max(room, 1))
        layout = layout._replace(chunk_size=-(-share // chunks))
        memory = predict(layout.chunk_size == 1)
    needed = memory.peak(layout.chunk_size)
    if needed > budget * GIB:
        evaluates = memory.evaluation > memory.training(layout.chunk_size)
        what = "evaluation (see eval_batch_size)" if evaluates else str(layout)
        raise check.InputError(
            f"memory_budget: {budget:g} GiB is not allowed, {what} needs {gib(needed)}"
        )
    return layout


def check_fits(work: Work, state: PyTree, width: int) -> None:
    """Raises `InputError` if a run cannot fit, however it is laid out; nothing is allocated.

    Counted is what is certain: the state, and what a regulator keeps of one client. The rest takes
    compiling to know, see `predict`.

    Args:
      work: what every client does.
      state: shapes of the state.
      width: the most examples of a client.
    """
    steps = work.local_epochs * -(-width // work.batch_size)
    regulator = work.algorithm.regulator
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    kept = jax.eval_shape(lambda params: regulator.init(params, steps), state.params)
    limit = available()
    for what, held in (
        (f"model {work.model.name}: its {numbers:,} parameters take", state.params),
        (f"algorithm {work.algorithm.name}: its state and its clients' takes", state),
        (f"regulator {regulator.name}: one client's {steps:,} local steps take", kept),
    ):
        needed = metrics.message_bytes(held)
        if limit is not None and needed > limit:
            raise check.InputError(
                f"{what} {gib(needed)}, which is not allowed on a device of {gib(limit)}"
            )


def gib(size: int) -> str:
    """Returns a number of bytes as text: 1.5 GiB."""
    return f"{size / GIB:.3g} GiB"


def _round(setting: Setting, inputs: Inputs, chunk_size: int) -> int:
    layout = setting.placement._replace(chunk_size=chunk_size)
    block = compilable(setting._replace(placement=layout))
    key, count = jax.eval_shape(streams.root, 0), jax.ShapeDtypeStruct((), jnp.int32)
    return _temporary(block.lower(inputs.data, inputs.state, key, inputs.numbers, count, 1))


def available() -> int | None:
    """Returns the bytes of a device's memory; None where nobody says."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit:
        return int(limit)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def beyond_arguments(compiled: Any) -> int:
    """Returns what a compiled program takes beyond its arguments, in bytes on one device."""
    account = compiled.memory_analysis()
    results = account.output_size_in_bytes - account.alias_size_in_bytes
    return account.temp_size_in_bytes + results


def _temporary(lowered: Any) -> int:
    return beyond_arguments(lowered.compile())
