r"""A little is enough (Baruch, Baruch, Goldberg, NeurIPS 2019, arXiv 1902.06156).

All malicious clients send the honest clients' mean, moved in every coordinate by a few of their
standard deviations: little enough to hide among them,

$$u_k = \mu_k + z\,\sigma_k, \qquad
\Phi(z_{\max}) = \frac{n - m - s}{n - m}, \qquad s = \Big\lfloor \frac n2 + 1 \Big\rfloor - m.$$

Of $n$ clients $m$ are malicious; with the $s$ honest ones that are still further out they are a
majority. A share of 0 or 1, where $z_{\max}$ would be infinite, counts as half a client more or
less. $\sigma_k^2$ is the mean of squares, divided by the number of honest clients.
"""

from typing import Any

import jax.numpy as jnp
from jax.scipy.special import ndtri

from fedjax_ecgr import check
from fedjax_ecgr.aggregators.matrix import Rows
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.attacks.colluding import colluding, mean_of, std_of
from fedjax_ecgr.types import Array


def lie(*, z: float | Array | None = None) -> Attack:
    """Returns the attack that hides within the spread of the honest updates.

    Args:
      z: by how many standard deviations the mean is moved, either way; by default z_max of the
        round's numbers of clients.

    Raises:
      InputError: if it is not a number.

    Example:
      >>> lie(z=1.5).hyperparameters
      {'z': 1.5}
    """
    numbers = {}
    if z is not None:
        check.number("z", z)
        numbers["z"] = z
    return Attack("lie", numbers, together=colluding(_lie))


def _lie(rows: Rows, attacking: Attacking) -> Array:
    z = attacking.hyperparameters.get("z")
    if z is None:
        z = z_max(rows.num_present, attacking.malicious.sum(dtype=jnp.int32), rows.values.dtype)
    mean = mean_of(rows)
    return mean + z.astype(mean.dtype) * std_of(rows, mean)


def z_max(num_honest: Array, num_malicious: Array, dtype: Any) -> Array:
    """Returns how many standard deviations away malicious clients still find a majority, scalar.

    Args:
      num_honest: n − m.
      num_malicious: m.
      dtype: of the result.
    """
    honest = jnp.maximum(num_honest, 1).astype(dtype)
    supporters = ((num_honest + num_malicious) // 2 + 1 - num_malicious).astype(dtype)
    half = 0.5 / honest
    return ndtri(jnp.clip((honest - supporters) / honest, half, 1 - half))
