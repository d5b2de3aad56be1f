r"""FedAdagrad (Reddi et al., arXiv 2003.00295).

Adagrad on the server, over the averaged update $\Delta_t = \sum_i p_i u_i$: steps fall in
coordinates that have moved much,

$$m_t = \beta_1 m_{t-1} + (1 - \beta_1)\,\Delta_t, \qquad v_t = v_{t-1} + \Delta_t^2, \qquad
w_{t+1} = w_t - \eta_s \frac{m_t}{\sqrt{v_t} + \tau},$$

by coordinates, $m = 0$ and $v = \tau^2$ at first.
"""

from typing import Unpack

import jax.numpy as jnp

from fedjax_ecgr.algorithms.adaptive import adaptive, check_numbers
from fedjax_ecgr.algorithms.base import Algorithm, algorithm
from fedjax_ecgr.algorithms.common import LocalCommon
from fedjax_ecgr.types import Array, Hyperparameters


def fedadagrad(
    *,
    server_learning_rate: float | Array = 0.1,
    b1: float | Array = 0.0,
    tau: float | Array = 1e-3,
    **common: Unpack[LocalCommon],
) -> Algorithm:
    """Returns FedAdagrad, Adagrad on the server.

    Args:
      server_learning_rate: η_s > 0, about how far every coordinate moves in the first round.
      b1: β_1 in [0, 1), how much of the mean is left in the next round; 0 is Adagrad as it is
        mostly used.
      tau: τ > 0, the adaptivity: small for steps of one size in all coordinates, large for steps
        in proportion to the update; also the root of the first v.
      **common: what every algorithm takes, see `fedjax_ecgr.algorithms.Common`; but for
        the server's optimizer, which this is.

    Raises:
      InputError: for an unknown option or a number out of range.

    Example:
      >>> fedadagrad().hyperparameters["b1"]
      0.0
    """
    own = {"b1": b1, "tau": tau}
    check_numbers(**own)
    return algorithm(
        "fedadagrad",
        {"server_learning_rate": server_learning_rate, **common},
        own=own,
        server_optimizer=adaptive(_second_moment),
    )


def _second_moment(v: Array, delta: Array, numbers: Hyperparameters) -> Array:
    del numbers
    return v + jnp.square(delta)
