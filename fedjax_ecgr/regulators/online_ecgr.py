r"""Online ECGR: steps judged as they come, in a local optimiser that stores none of them.

An optax transformation, to stand behind a client's optimiser, in this project or in any program.
The sum S of the steps kept so far decides about the next step $d$ (what the optimiser would move,
with its sign): by its share along S,

$$a = \frac{\langle S, d\rangle}{\|S\|\,\|d\|}, \qquad
\text{convergent if } \|S + d\| \le \|S\|, \text{ that is } 2 a \|S\| \le -\|d\|, \text{ or if }
a < \theta,$$

since ECGR's greedy rule prefers the steps that keep $\|S\|$ small. A convergent step is taken whole
and joins S; an exploratory one is damped to $\beta d$. The first step is convergent.

It differs from exact ECGR (arXiv 2601.03584) in three ways. A step is judged when it comes, by
those before it alone, where ECGR chooses the k best of all τ in hindsight; so how many are
convergent is not ρτ but follows from θ. What is damped is really not walked, so that later
gradients are taken elsewhere, where ECGR walks all of it and re-weighs what is uploaded. And
lengths are not restored at the end: the client's update is as short as its damped steps make it.
It keeps P numbers, S, in place of τP, for one product and two lengths a step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_ecgr import check
from fedjax_ecgr.types import Array, PyTree


class OnlineState(NamedTuple):
    """What is kept: the sum of the convergent steps, and how many there were of both kinds."""

    convergent: PyTree
    num_convergent: Array
    num_exploratory: Array


def online_ecgr(
    beta: float | Array = 0.2, threshold: float | Array = 0.0
) -> optax.GradientTransformation:
    """Returns the transformation; chain it behind an optimiser.

    Args:
      beta: β in [0, 1], what is left of exploratory steps; 1 leaves the optimiser as it is.
      threshold: θ in [-1, 1]: a step whose cosine to S is below it is convergent; 1 leaves the
        optimiser as it is.

    Raises:
      InputError: for a number out of range.

    Example:
      >>> optimizer = optax.chain(optax.sgd(1.0), online_ecgr(beta=0.5))
      >>> params = jnp.array([0.0, 0.0])
      >>> state = optimizer.init(params)
      >>> for gradient in ([1.0, 0.0], [1.0, 0.1], [-1.0, 0.5]):
      ...     step, state = optimizer.update(jnp.array(gradient), state, params)
      ...     print([round(float(x), 3) for x in step])
      [-1.0, -0.0]
      [-0.5, -0.05]
      [1.0, -0.5]
    """
    check.number("beta", beta, low=0, high=1)
    check.number("threshold", threshold, low=-1, high=1)

    def init(params: PyTree) -> OnlineState:
        zeros, none = jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32)
        return OnlineState(zeros, none, none)

    def update(
        step: PyTree, state: OnlineState, params: PyTree | None = None
    ) -> tuple[PyTree, OnlineState]:
        del params
        kept = state.convergent
        along = optax.tree.vdot(kept, step)
        length, so_far = optax.tree.norm(step), optax.tree.norm(kept)
        first = so_far == 0
        convergent = first | (along < threshold * length * so_far) | (2 * along <= -(length**2))
        convergent |= jnp.asarray(threshold) >= 1  # parallel steps too, whose cosine is rounded
        factor = jnp.where(convergent, 1, jnp.asarray(beta, length.dtype))
        kept = jax.tree.map(lambda s, d: jnp.where(convergent, s + d, s), kept, step)
        counted = convergent.astype(jnp.int32)
        state = OnlineState(
            kept, state.num_convergent + counted, state.num_exploratory + 1 - counted
        )
        return jax.tree.map(lambda d: factor * d, step), state

    return optax.GradientTransformation(init, update)
