r"""The contract of a regulator: what may stand between a client's local steps and its upload.

A regulator sees every step delta

$$d_\lambda = w_{\lambda-1} - w_\lambda$$

of the trainable parameters, what the step really moved, so that momentum, proximal terms and
control variates are in it. After the last step it says what the client uploads in place of
$\sum_\lambda d_\lambda$. Any regulator works under any algorithm.

One that cannot say so without all deltas, and will not keep them, asks for the local steps a second
time (`Regulator.replay`): the first pass keeps what a decision takes, the second, over the same
steps, adds up what was decided.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from fedjax_ecgr.types import Array, Hyperparameters, PyTree


class Given(NamedTuple):
    """What a regulator is given besides the deltas.

    Attributes:
      hyperparameters: its numbers, traced.
      memory: what this client remembers of earlier rounds.
      direction: w_{t−1} − w_t, the server's last step, zeros in the first round; `()` unless the
        regulator needs it.
    """

    hyperparameters: Hyperparameters
    memory: PyTree = ()
    direction: PyTree = ()


class Init(Protocol):
    """Makes the state of a client that has not stepped yet."""

    def __call__(self, params: PyTree, max_steps: int, given: Given | None = None) -> PyTree:
        """Returns the first state.

        Args:
          params: a pytree whose leaves have the shapes and dtypes of the deltas.
          max_steps: the most steps that will be counted; static.
          given: None for the regulator's own numbers and a first memory.
        """
        ...


class Update(Protocol):
    """Takes in one local step."""

    def __call__(self, delta: PyTree, state: PyTree, active: Array | bool = True) -> PyTree:
        """Returns the state after one more step.

        Args:
          delta: what the step moved, like the parameters.
          state: the state so far.
          active: false for a step that only fills a ragged client up: it never counts.
        """
        ...


class Finalize(Protocol):
    """Ends a client's round."""

    def __call__(
        self, state: PyTree, total: PyTree, given: Given | None = None
    ) -> tuple[PyTree, PyTree]:
        """Returns `(update, info)`: what to upload, and diagnostics (arrays only).

        Args:
          state: the state after the last pass.
          total: the sum of all deltas, w_0 − w_τ, like the parameters.
          given: as in `Init`.
        """
        ...


class Begin(Protocol):
    """Makes the state before a second pass."""

    def __call__(self, params: PyTree, state: PyTree, given: Given | None = None) -> PyTree:
        """Returns that, from the parameters of `Init` and the state after the first pass."""
        ...


class Replay(NamedTuple):
    """A second pass over a client's local steps: computation in place of memory.

    Both passes take the same steps: the same first parameters, statistics and optimiser, the same
    batches and keys, and so the same deltas, to the rounding that a compiler may choose anew in
    each loop. It doubles the computation of the local steps. Whatever else comes of a client's
    round (its end point, loss, statistics) is the second pass's, so that all of it fits together.

    Attributes:
      init: `(params, state, given=None) -> state`: from the state after the first pass the one
        before the second; the parameters are those of `Regulator.init`.
      update: `(delta, state, active=True) -> state`, called in every local step of the second pass.
    """

    init: Begin
    update: Update


def _nothing(params: PyTree) -> PyTree:
    del params
    return ()


def _unchanged(memory: PyTree, info: PyTree, given: Given) -> PyTree:
    del info, given
    return memory


class Regulator(NamedTuple):
    """A regulator as pure functions: `init`, `update` a step, perhaps a replay, `finalize`.

    Attributes:
      name: what reports call it.
      hyperparameters: its numbers, the leaves a sweep varies.
      init: `(params, max_steps, given=None) -> state`.
      update: `(delta, state, active=True) -> state`, called in every local step inside the
        compiled loop.
      finalize: `(state, total, given=None) -> (update, info)`, of the state after the last pass and
        Σ d.
      replay: a second pass between `update` and `finalize`, or None.
      remember: `params -> memory` of a client before its first round; `()` by default.
      learn: `(memory, info, given) -> memory`, after a round in which the client took a step;
        unchanged by default.
      needs_direction: whether `Given.direction` is wanted.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    init: Init
    update: Update
    finalize: Finalize
    replay: Replay | None = None
    remember: Callable[[PyTree], PyTree] = _nothing
    learn: Callable[[PyTree, PyTree, Given], PyTree] = _unchanged
    needs_direction: bool = False
