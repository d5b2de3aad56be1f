r"""Sorting each coordinate over the clients, by a network of comparisons.

Source: Batcher, "Sorting networks and their applications", 1968, as merge exchange (Knuth, The Art
of Computer Programming 3, 5.2.2, algorithm M). In every of the $\frac12 \lceil \log_2 n\rceil
(\lceil \log_2 n\rceil + 1)$ passes each row is compared with at most one other and the two put in
order, whatever the values: whole rows at once, of which a processor does many coordinates in one
instruction. XLA's own sort compares number by number on a CPU; of 100 clients of LeNet it took some
ten times as long.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr.types import Array


def sort_present(values: Array, present: Array) -> Array:
    """Returns [n, ...] values in rising order along the first axis, those not present last, as Inf.

    Args:
      values: [n, ...], without NaN.
      present: bool, one that broadcasts against the values from the left: [n] or [n, ...].

    Example:
      >>> sort_present(jnp.array([3.0, 1.0, 2.0]), jnp.array([True, False, True]))
      Array([ 2.,  3., inf], dtype=float32)
    """
    present = present.reshape(present.shape + (1,) * (values.ndim - present.ndim))
    partners = _partners(values.shape[0])

    takes_smaller = partners >= np.arange(values.shape[0])

    def exchange(rows: Array, with_whom: tuple[Array, Array]) -> tuple[Array, None]:
        partner, smaller = with_whom
        others, smaller = rows[partner], smaller.reshape(-1, *(1,) * (rows.ndim - 1))
        return jnp.where(smaller, jnp.minimum(rows, others), jnp.maximum(rows, others)), None

    rows = jnp.where(present, values, jnp.inf)
    return jax.lax.scan(exchange, rows, (jnp.asarray(partners), jnp.asarray(takes_smaller)))[0]


def _partners(n: int) -> np.ndarray:
    """Returns [passes, n]: the row that each row is compared with, itself where with none."""
    passes, top = [], 1 << max((n - 1).bit_length() - 1, 0)
    p = top if n > 1 else 0
    while p:
        q, r, d = top, 0, p
        while True:
            low = np.arange(n - d)
            low = low[(low & p) == r]
            partner = np.arange(n)
            partner[low], partner[low + d] = low + d, low
            passes.append(partner)
            if q == p:
                break
            q, r, d = q // 2, p, q - p
        p //= 2
    return np.array(passes, np.int32).reshape(len(passes), n)
