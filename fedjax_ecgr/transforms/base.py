r"""The contract of a transform: what a client does to its update before it sends it.

Clipping, noise and compression are transforms. They run in the order given, on each client alone,
behind the regulator and the algorithm's `client`, so that the average stays a running sum. A
transform may keep a state of each client from round to round (the error that compression left).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from fedjax_ecgr import check
from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class Sending(NamedTuple):
    """What a client knows when it sends.

    Attributes:
      key: the randomness of this transform on this client in this round.
      weight: p_i, the client's weight in the cohort's average, scalar.
      largest_weight: max_j p_j over the cohort, scalar.
      participants: how many clients of the cohort send something, scalar of the parameters' dtype.
      hyperparameters: the transform's numbers.
    """

    key: Array
    weight: Array
    largest_weight: Array
    participants: Array
    hyperparameters: Hyperparameters


class Transform(NamedTuple):
    """A change of a client's update, as pure functions.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      init: `params -> state` of one client before its first round; `()` where none is kept.
      update: `(update, state, sending) -> (update, state)`; the update is like the parameters.
      wire: `update -> arrays`: what is sent of an update, a pytree of arrays by whose shapes and
        dtypes bytes are counted; None where the update is sent as it is. It is never run, only
        traced for shapes; of several transforms the last that has one counts.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, Sending], tuple[PyTree, PyTree]]
    wire: Callable[[PyTree], PyTree] | None = None


def from_optax(transformation: optax.GradientTransformation, name: str) -> Transform:
    """Returns an optax transformation as a transform of updates, its state kept by each client.

    Args:
      transformation: any whose update needs no parameters, and that keeps no random key.
      name: what reports call it.

    Raises:
      InputError: when it is to be initialised, if it keeps a key: all clients would draw the same.

    Example:
      >>> from_optax(optax.clip_by_global_norm(1.0), "clip").name
      'clip'
    """

    def init(params: PyTree) -> PyTree:
        state = transformation.init(params)
        instead = " (a Transform is given each client's own key, Sending.key)"
        check.keyless(f"transforms: {name}", state, instead)
        return state

    def update(update: PyTree, state: PyTree, sending: Sending) -> tuple[PyTree, PyTree]:
        del sending
        with jax.numpy_dtype_promotion("standard"):  # some of optax's need it
            return transformation.update(update, state)

    return Transform(name, {}, init, update)
