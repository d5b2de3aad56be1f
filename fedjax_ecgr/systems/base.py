r"""The contract of a system: what the clients' devices manage in a round, and in what time.

It keeps a virtual clock: simulated seconds, a column of the history, from each client's speed and
bandwidth. It decides how many local steps each client of the cohort really takes; none means that
the client dropped out or missed the deadline.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class Task(NamedTuple):
    """What the clients of a cohort are asked to do.

    Attributes:
      clients: [c] int32.
      num_steps: [c] int32, the local steps τ_i that each would take.
      bytes_down: what each receives, scalar (a Python number).
      bytes_up: what each sends, scalar (a Python number).
      round: t, int32 scalar.
    """

    clients: Array
    num_steps: Array
    bytes_down: float
    bytes_up: float
    round: Array


class Work(NamedTuple):
    """What the clients of a cohort manage.

    Attributes:
      num_steps: [c] int32, from 0 (dropped out) to the steps asked for.
      seconds: how long the round takes, scalar: the server waits for the slowest client that
        still counts, or until its deadline.
    """

    num_steps: Array
    seconds: Array


class System(NamedTuple):
    """The clients' devices, as pure functions.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      init: `(key, num_clients, hyperparameters) -> devices`: what differs from client to client for
        a whole run, [N, ...] leaves.
      work: `(key, devices, task, hyperparameters) -> Work`.
      check: `(devices, task of all clients, hyperparameters) -> None`: raises `InputError` if
        nobody could ever take part; called with concrete values, before a run's program is
        compiled.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    init: Callable[[Array, int, Hyperparameters], PyTree]
    work: Callable[[Array, PyTree, Task, Hyperparameters], Work]
    check: Callable[[PyTree, Task, Hyperparameters], None] = lambda devices, task, numbers: None
