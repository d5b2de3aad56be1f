r"""The contract of a sampler: who takes part in a round, and with which weight."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class Population(NamedTuple):
    """All N clients, as the server knows them at the start of a round.

    Attributes:
      round: t, int32 scalar.
      sizes: [N] int32, n_i.
      losses: `clients [d] int32 -> [d]`: mean loss of w_t over each client's examples; computed
        only where it is called.
    """

    round: Array
    sizes: Array
    losses: Callable[[Array], Array]


class Cohort(NamedTuple):
    """Who takes part.

    Attributes:
      clients: [c] int32, in ascending order, each once.
      weights: [c] floating, at least 0, of any sum: the engine sets those of clients that take no
        step to 0 and divides by the sum.
    """

    clients: Array
    weights: Array


class Heard(NamedTuple):
    """What the server hears of a cohort at the end of a round.

    Attributes:
      cohort: who was asked.
      present: [c] bool, who sent something.
      losses: [c], mean training loss of each client over its local steps.
      hyperparameters: the sampler's numbers.
    """

    cohort: Cohort
    present: Array
    losses: Array
    hyperparameters: Hyperparameters


class Sampler(NamedTuple):
    """A way to choose cohorts, as pure functions.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      sample: `(key, state, population, cohort_size, hyperparameters) -> Cohort`; the size is
        static.
      init: `num_clients -> state` before the first round; `()` where none is kept.
      update: `(state, heard) -> state`, at the end of a round.
      check: `(num_clients, cohort_size) -> None`: raises `InputError` if there are too few
        clients; called before anything is compiled.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    sample: Callable[[Array, PyTree, Population, int, Hyperparameters], Cohort]
    init: Callable[[int], PyTree] = lambda num_clients: ()
    update: Callable[[PyTree, Heard], PyTree] = lambda state, heard: state
    check: Callable[[int, int], None] = lambda num_clients, cohort_size: None
