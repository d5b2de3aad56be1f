"""A recurrent network over tokens: next characters, or one label a sequence."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import count
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model, check_tokens, check_widths
from fedjax_ecgr.models.layers import dense
from fedjax_ecgr.models.mlp import head_init, headed
from fedjax_ecgr.types import Array, DType, PyTree


def gru(
    spec: Spec, embedding: int = 8, hidden: Sequence[int] = (128,), dtype: DType = jnp.float32
) -> Model:
    """Returns an embedding, gated recurrent units (Cho et al., 2014) and a dense layer.

    A unit is cuDNN's and PyTorch's: with x_t its input and h its state,

        r, z = σ(W_r x_t + b_r + U_r h + c_r), σ(W_z x_t + b_z + U_z h + c_z)
        h ← (1 − z) tanh(W_n x_t + b_n + r (U_n h + c_n)) + z h

    Where an example has one label, the last state is classified, else every position's; a position
    sees nothing behind it, so that padding may hold any token. The embedding of 8 numbers is that
    of LEAF's network for Shakespeare.

    Parameters are {"embedding" [vocabulary, E], "gru1": {"input", "state"}, …, "fc1"}; the kernels
    [in, 3 H] hold r, z and n side by side. As in PyTorch, the embedding starts as N(0, 1) and units
    as U(±1/√H). With a vocabulary and classes of 80, the default has 63,952 parameters.

    Args:
      spec: of tokens.
      embedding: E, numbers that stand for a token.
      hidden: H of each layer.
      dtype: dtype of the parameters.

    Raises:
      InputError: the data are not tokens, or a width is not a positive whole number.
    """
    vocabulary = check_tokens("gru", spec)
    count("embedding", embedding)
    check_widths("hidden", hidden)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        embedding_key, head_key, *keys = jax.random.split(key, 2 + len(hidden))
        params = {"embedding": jax.random.normal(embedding_key, (vocabulary, embedding), dtype)}
        widths = (embedding, *hidden)
        for number, (own, inputs, units) in enumerate(
            zip(keys, widths[:-1], widths[1:], strict=True), start=1
        ):
            params[f"gru{number}"] = _unit_init(own, inputs, units, dtype)
        return {**params, **head_init(head_key, (widths[-1], spec.num_classes), dtype)}, {}

    def body(params: PyTree, stats: PyTree, inputs: Array, **_: Any) -> tuple[Array, PyTree]:
        x = jnp.take(params["embedding"], inputs, axis=0)
        for number in range(1, len(hidden) + 1):
            x = _run(params[f"gru{number}"], x)
        return x if spec.target_shape else x[:, -1], stats

    model = headed("gru", init, body)
    # representations of single positions are nothing that an algorithm could compare
    return model._replace(features=None) if spec.target_shape else model


def _unit_init(key: Array, inputs: int, units: int, dtype: Any) -> PyTree:
    bound = 1 / math.sqrt(units)
    shapes = {
        name: {"kernel": (width, 3 * units), "bias": (3 * units,)}
        for name, width in (("input", inputs), ("state", units))
    }
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.uniform(own, shape, dtype, -bound, bound)
        for own, shape in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _run(params: PyTree, inputs: Array) -> Array:
    """Returns the states of one layer: [B, T, in] → [B, T, H]."""
    # what the inputs add is one product for all positions; only the state's must wait
    added = dense(params["input"], inputs)

    def step(state: Array, added: Array) -> tuple[Array, Array]:
        r, z, n = jnp.split(added, 3, axis=-1)
        state_r, state_z, state_n = jnp.split(dense(params["state"], state), 3, axis=-1)
        z = jax.nn.sigmoid(z + state_z)
        new = jnp.tanh(n + jax.nn.sigmoid(r + state_r) * state_n)
        state = (1 - z) * new + z * state
        return state, state

    units = params["state"]["kernel"].shape[0]
    first = jnp.zeros((inputs.shape[0], units), inputs.dtype)
    _, states = jax.lax.scan(step, first, jnp.moveaxis(added, 1, 0))
    return jnp.moveaxis(states, 0, 1)
