r"""ECGR: Exploratory-Convergent Gradient Re-aggregation (arXiv 2601.03584).

Once a round, on each client, with step deltas $d_1 \dots d_\tau$, the rows of $D$:

1. select $k = \max(1, \lfloor \tau\rho \rfloor)$ *convergent* steps $C$; greedily, by default:
   from $S = 0$, $k$ times, the step that makes $\|S + d_\lambda\|$ smallest joins $S$. The others
   are the *exploratory* steps $E$;
2. blend $u = \sum_{\lambda\in C} d_\lambda + \beta \sum_{\lambda\in E} d_\lambda$;
3. re-scale $\tilde u = u\,\|\sum_\lambda d_\lambda\| / \|u\|$: only the direction is
   regulated.

All that the selection needs is the Gram matrix $G = DD^\top$, since
$\|S + d_\lambda\|^2 = \|S\|^2 + 2 r_\lambda + G_{\lambda\lambda}$ with
$r = \sum_{j\in C} G_{j\cdot}$: $O(k\tau)$ scalars after one matrix product. And
$\tilde u = D^\top c$ for a coefficient vector $c$.
"""

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.regulators.base import Given, Regulator
from fedjax_ecgr.regulators.reaggregation import ECGRInfo, check_options, regulated
from fedjax_ecgr.regulators.replay import replaying
from fedjax_ecgr.regulators.rows import BITS, Rows, empty, store
from fedjax_ecgr.types import Array, PyTree

STORAGES = {
    "full": "each delta as it is: exact",
    "bfloat16": "each delta rounded to bfloat16: half the memory, entries off by up to 0.2 %",
    "replay": "sketches, then the same local steps again: little memory, twice the computation",
}
"""What a client in flight keeps of its step deltas."""


def ecgr(
    beta: Array | float = 0.2,
    select_ratio: Array | float = 0.5,
    rule: str = "greedy",
    storage: str = "full",
    sketch_size: int = 1024,
) -> Regulator:
    r"""Returns ECGR as a regulator, applied per local step (arXiv 2601.03584).

    `update` stores something of the step's delta, `finalize` re-aggregates. With P parameters and
    room for τ steps (those of the federation's largest client), a client in flight holds

    - `full`: τ P numbers; the same result as `reaggregate` on the stacked deltas.
    - `bfloat16`: half the bytes of float32. Each entry is rounded to 8 significant bits; G and the
      sums are accumulated in the parameters' type, so the result is that of `reaggregate` on the
      rounded deltas.
    - `replay`: m τ + 2 P numbers, m the sketch size, and a byte for each parameter. G's diagonal is
      exact, the rest is estimated from sketches, unbiased, with a standard deviation of about
      $\sqrt{2/m}$ times the two lengths or less: steps with nearly the same score may swap. The
      local steps then run again, at twice the computation, to add up what was selected; so blend
      and length are exact for that selection. `smallest_norm`, or m ≥ P, is exact altogether.

    G takes time quadratic in τ; in the client's own steps, nearly, where τ is above 512 (under
    `vmap` in those of the client with most).

    Args:
      beta: β in [0, 1], the weight of the exploratory steps; 1 gives back the plain update.
      select_ratio: ρ in (0, 1], the share of convergent steps; 1 gives back the plain update.
      rule: how convergent steps are chosen: greedy, smallest_norm, nearest_mean or cosine_mean.
      storage: what a client keeps of its step deltas: full, bfloat16 (half the memory) or replay
        (memory for the sketches alone, at twice the computation).
      sketch_size: m, numbers kept of each delta by `replay`; more selects more like the exact rule.

    Raises:
      InputError: if β, ρ, the rule, the storage or the size is not allowed.

    Example:
      >>> regulator = ecgr(beta=0.0, select_ratio=0.7)
      >>> state = regulator.init({"w": jnp.zeros(2)}, max_steps=4)
      >>> for delta in ([3.0, 0.0], [1.0, 1.0], [-1.0, -0.5]):
      ...     state = regulator.update({"w": jnp.array(delta)}, state)
      >>> update, info = regulator.finalize(state, {"w": jnp.array([3.0, 0.5])})
      >>> [round(float(x), 4) for x in update["w"]]
      [0.0, 3.0414]
    """
    check_options(beta, select_ratio, rule)
    check.known("storage", storage, STORAGES)
    check.count("sketch_size", sketch_size)
    own = {"beta": beta, "select_ratio": select_ratio}
    if storage == "replay":
        return replaying(own, rule, sketch_size)

    def init(params: PyTree, max_steps: int, given: Given | None = None) -> Rows:
        del given

        def rows(p: Array) -> Array:
            return jnp.zeros((max_steps, *p.shape), BITS if storage == "bfloat16" else p.dtype)

        return empty(jax.tree.map(rows, params))

    def finalize(state: Rows, total: PyTree, given: Given | None = None) -> tuple[PyTree, ECGRInfo]:
        numbers = own if given is None else given.hyperparameters
        dtype = jnp.result_type(*jax.tree.leaves(total))
        exact = total if storage == "full" else None
        return regulated(state.rows, state.mask, dtype, rule=rule, total=exact, **numbers)

    return Regulator("ecgr", own, init, _update, finalize)


def _update(delta: PyTree, state: Rows, active: Array | bool = True) -> Rows:
    return store(state, delta, active)
