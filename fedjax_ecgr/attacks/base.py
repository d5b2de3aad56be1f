r"""The contract of an attack: what malicious clients do, at one of three places.

A share of all clients is malicious, the same ones throughout a run, drawn from its key. An attack
may falsify the labels they train on; change what each of them sends (behind all transforms, which
honest clients apply); or, knowing what every honest client of the cohort sends, decide together
what all malicious ones send.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class Attacking(NamedTuple):
    """What malicious clients know.

    Attributes:
      key: the attack's randomness in this round (of one client, where it acts alone).
      weights: [c], p_i of the cohort, 0 for those that send nothing; p_i alone where it acts alone.
      malicious: [c] bool, who of the cohort is malicious and sends something; true where it acts
        alone.
      present: [c] bool, who sends something; true where it acts alone.
      params: w_t, the global parameters the cohort started from.
      hyperparameters: the attack's numbers.
    """

    key: Array
    weights: Array
    malicious: Array
    present: Array
    params: PyTree
    hyperparameters: Hyperparameters


class Attack(NamedTuple):
    """An attack, as pure functions; what is None is not attacked.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      labels: `(labels [B, ...], num_classes, hyperparameters) -> labels`, of malicious clients.
      alone: `(update, attacking) -> update`, of one malicious client.
      together: `(updates, attacking) -> updates`, [c, ...] leaves: the whole cohort's; only the
        rows of malicious clients may change. The updates are then kept stacked, as for an
        aggregator.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    labels: Callable[[Array, int, Hyperparameters], Array] | None = None
    alone: Callable[[PyTree, Attacking], PyTree] | None = None
    together: Callable[[PyTree, Attacking], PyTree] | None = None
