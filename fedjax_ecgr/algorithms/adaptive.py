r"""What the server's adaptive optimisers share (Reddi et al., arXiv 2003.00295, algorithm 2).

With $\Delta_t = \sum_i p_i u_i$, the averaged update, the server keeps moments of it and steps

$$m_t = \beta_1 m_{t-1} + (1 - \beta_1)\,\Delta_t, \qquad v_t = \mathrm{second}(v_{t-1}, \Delta_t),
\qquad w_{t+1} = w_t - \eta_s \frac{m_t}{\sqrt{v_t} + \tau},$$

from $m = 0$ and $v = \tau^2$, by coordinates. There is no correction of the bias towards these
first values, in which it differs from the optimisers of the same names; instead τ is large, often
0.001: it says how far coordinates that hardly move are scaled up. The second moment is what an
algorithm adds.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.algorithms.common import ServerOptimizer
from fedjax_ecgr.types import Array, Hyperparameters, PyTree

SecondMoment = Callable[[Array, Array, Hyperparameters], Array]
"""`(v, Δ, hyperparameters) -> the next v`, of one leaf."""


class Moments(NamedTuple):
    """What the server keeps.

    Attributes:
      round: how often it stepped, int32.
      first: m, like the parameters.
      second: v, like the parameters; of no meaning before the first step.
    """

    round: Array
    first: PyTree
    second: PyTree


def adaptive(second_moment: SecondMoment) -> ServerOptimizer:
    """Returns `hyperparameters -> optax.GradientTransformation`, the optimiser above.

    Args:
      second_moment: what makes v_t of v_{t−1} and Δ_t. All its numbers, with those named
        `server_learning_rate`, `b1` and `tau`, are the algorithm's hyperparameters.
    """
    return lambda hyperparameters: optax.GradientTransformation(
        _init, partial(_update, second_moment, hyperparameters)
    )


def check_numbers(**numbers: float | Array) -> None:
    """Raises `InputError` unless `tau` is above 0, and each other number (`b1` …) in [0, 1)."""
    for name, value in numbers.items():
        if name == "tau":
            check.number(name, value, low=0, low_open=True)
        else:
            check.number(name, value, low=0, high=1, high_open=True)


def _init(params: PyTree) -> Moments:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Moments(jnp.zeros((), jnp.int32), zeros, zeros)


def _update(
    second_moment: SecondMoment,
    numbers: Hyperparameters,
    direction: PyTree,
    state: Moments,
    params: PyTree = None,
) -> tuple[PyTree, Moments]:
    del params
    rate, b1, tau = (numbers[name] for name in ("server_learning_rate", "b1", "tau"))

    def next_second(v: Array, delta: Array) -> Array:
        # τ may be traced where a sweep varies it, but nothing is known of it in `_init`
        return second_moment(jnp.where(state.round == 0, tau**2, v), delta, numbers)

    first = jax.tree.map(lambda m, delta: b1 * m + (1 - b1) * delta, state.first, direction)
    second = jax.tree.map(next_second, state.second, direction)
    step = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + tau), first, second)
    return step, Moments(state.round + 1, first, second)
