r"""Adaptive ECGR: each client's β moves with what its last rounds showed.

ECGR (arXiv 2601.03584) damps exploratory steps by one β for all clients and rounds. Here client i
has a $\beta_i$ of its own, from the β given, and moves it after each of its rounds; a proposal of
this project, in two kinds of `feedback`:

`cosine` holds how far regulation turns an update. With $c = \cos(\sum_\lambda d_\lambda, \tilde u)$
of the round and the target $c^*$,

$$\beta_i \leftarrow \mathrm{clip}_{[0,1]}\big(\beta_i + \gamma\,(c^* - c)\big):$$

where regulation turned the update further than the target, β rises, else it falls. It rests at
$c = c^*$, at 0 or at 1.

`spread` damps more the more a client's steps disagree. With

$$v = 1 - \frac{\|\sum_\lambda d_\lambda\|^2}{\tau \sum_\lambda \|d_\lambda\|^2} \in [0, 1],
\qquad \beta_i \leftarrow (1 - \gamma)\,\beta_i + \gamma\,(1 - v),$$

0 for equal steps, 1 for steps that cancel. It rests at $\beta = 1 - v$; `target` means nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.regulators.base import Given, Regulator, Replay
from fedjax_ecgr.regulators.ecgr import ecgr
from fedjax_ecgr.regulators.reaggregation import ECGRInfo
from fedjax_ecgr.types import Array, PyTree

FEEDBACKS = {
    "cosine": "between the plain and the regulated update, held at the target",
    "spread": "of the client's steps: the more they disagree, the more is damped",
}


class AdaptiveInfo(NamedTuple):
    """What adaptive ECGR did to one client's update.

    Attributes:
      ecgr: as of `ecgr`.
      beta: the client's β in this round.
    """

    ecgr: ECGRInfo
    beta: Array


def adaptive_ecgr(
    beta: float | Array = 0.5,
    select_ratio: float | Array = 0.5,
    rate: float | Array = 0.5,
    target: float | Array = 0.9,
    feedback: str = "cosine",
    rule: str = "greedy",
    storage: str = "full",
    sketch_size: int = 1024,
) -> Regulator:
    """Returns ECGR whose β each client adapts, in its memory.

    Args:
      beta: β in [0, 1] of a client's first round.
      select_ratio: ρ in (0, 1], the share of convergent steps.
      rate: γ in [0, 1], how far β moves; 0 is ECGR.
      target: c* in [-1, 1], the cosine that `cosine` holds.
      feedback: what moves β: cosine or spread.
      rule: how convergent steps are chosen, as of `ecgr`.
      storage: what a client keeps of its step deltas, as of `ecgr`.
      sketch_size: numbers kept of each delta by `replay`, as of `ecgr`.

    Raises:
      InputError: if a number or a name is not allowed.

    Example:
      >>> adaptive_ecgr(feedback="spread").name
      'adaptive_ecgr'
    """
    inner = ecgr(beta, select_ratio, rule, storage, sketch_size)
    check.number("rate", rate, low=0, high=1)
    check.number("target", target, low=-1, high=1)
    check.known("feedback", feedback, FEEDBACKS)
    own = {"beta": beta, "select_ratio": select_ratio, "rate": rate, "target": target}

    def at(given: Given | None) -> Given:
        """What ECGR is given: the client's own β, or the first."""
        if given is None:
            return Given({"beta": beta, "select_ratio": select_ratio})
        numbers = given.hyperparameters
        used = jnp.where(given.memory < 0, numbers["beta"], given.memory)
        return Given({"beta": used, "select_ratio": numbers["select_ratio"]})

    def init(params: PyTree, max_steps: int, given: Given | None = None) -> PyTree:
        return inner.init(params, max_steps, at(given))

    def finalize(state: PyTree, total: PyTree, given: Given | None = None) -> tuple[PyTree, PyTree]:
        used = at(given)
        update, info = inner.finalize(state, total, used)
        return update, AdaptiveInfo(info, jnp.asarray(used.hyperparameters["beta"]))

    def learn(memory: PyTree, info: AdaptiveInfo, given: Given) -> Array:
        del memory
        numbers = given.hyperparameters
        if feedback == "cosine":
            moved = info.beta + numbers["rate"] * (numbers["target"] - info.ecgr.cosine)
            return jnp.clip(moved, 0, 1)
        return info.beta + numbers["rate"] * (1 - info.ecgr.spread - info.beta)

    replay = inner.replay
    if replay is not None:
        begin, again = replay
        replay = Replay(lambda params, state, given=None: begin(params, state, at(given)), again)
    return Regulator("adaptive_ecgr", own, init, inner.update, finalize, replay, _not_yet, learn)


def _not_yet(params: PyTree) -> Array:
    """A client's memory before its first round: β is the one given, which may be traced."""
    return jnp.full((), -1, jnp.result_type(*jax.tree.leaves(params)))
