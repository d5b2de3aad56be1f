r"""Power of choice (Cho, Wang, Joshi, arXiv 2010.01243): those who are served worst take part.

Of d candidates, drawn without replacement in proportion to their numbers of examples, the m with
the largest losses $F_i(w_t)$ make the cohort, averaged evenly; of equals, any. The losses are those
of the present model over all of a candidate's examples ($\pi_{\text{pow-d}}$, for which it goes to
all d; bytes in a run's history count the cohort's alone), or, without any more communication, the
mean training losses that clients reported when they last took part, infinite before
($\pi_{\text{rpow-d}}$). Clients without examples come last, for they never report.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.samplers.base import Cohort, Heard, Population, Sampler
from fedjax_ecgr.samplers.by_size import draw_by
from fedjax_ecgr.types import Array, Hyperparameters, PyTree

LOSSES = {
    "exact": "of the present model, computed for every candidate",
    "reported": "of the training a client last took part in",
}
"""Which losses candidates are compared by."""


def power_of_choice(candidates: int = 20, losses: str = "reported") -> Sampler:
    """Returns the sampler that prefers clients with large losses.

    Args:
      candidates: d, how many are compared, from the cohort's size to the number of clients; with as
        many as the cohort nothing is preferred.
      losses: `exact`, of the present model, or `reported`, of a client's last training.

    Raises:
      InputError: for an unknown kind of losses, or d out of range.

    Example:
      >>> power_of_choice(candidates=5).name
      'power_of_choice'
    """
    check.count("candidates", candidates)
    check.known("losses", losses, LOSSES)

    def sample(
        key: Array,
        state: PyTree,
        population: Population,
        cohort_size: int,
        hyperparameters: Hyperparameters,
    ) -> Cohort:
        del hyperparameters
        drawn = draw_by(key, population.sizes, candidates)
        # in any order, as of equals the first are taken: at first no client has reported
        drawn = jax.random.permutation(jax.random.fold_in(key, 1), drawn)
        compared = population.losses(drawn) if losses == "exact" else state[drawn]
        compared = jnp.where(population.sizes[drawn] > 0, compared, -jnp.inf)
        chosen = drawn[jax.lax.top_k(compared, cohort_size)[1]]
        return Cohort(jnp.sort(chosen), jnp.ones(cohort_size))

    def check_sizes(num_clients: int, cohort_size: int) -> None:
        if not cohort_size <= candidates <= num_clients:
            raise InputError(
                f"candidates: {candidates} is not allowed, it must be from {cohort_size} (the "
                f"cohort size) to {num_clients} (the number of clients)"
            )

    if losses == "exact":
        return Sampler("power_of_choice", {}, sample, check=check_sizes)
    return Sampler("power_of_choice", {}, sample, _never_heard, _hear, check_sizes)


def _never_heard(num_clients: int) -> Array:
    return jnp.full(num_clients, jnp.inf)


def _hear(state: Array, heard: Heard) -> Array:
    clients = heard.cohort.clients
    told = jnp.where(heard.present, heard.losses.astype(state.dtype), state[clients])
    return state.at[clients].set(told)
