"""Blocks of rounds: what is compiled, once, and run between evaluations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.engine.round import RoundInfo, run_round
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.engine.state import State
from fedjax_ecgr.types import Array, PyTree


def compilable(setting: Setting) -> Any:
    """Returns `run_block` to be compiled: `(data, state, key, numbers, count, length)`."""
    return jax.jit(partial(run_block, setting), static_argnums=5, donate_argnums=1)


def compiled_block(
    compiled: Any, data: Callable[[], FederatedDataset]
) -> Callable[..., tuple[State, RoundInfo]]:
    """Returns `Simulation.block`, of what `compilable` returned and the data it is to run on."""

    def block(
        state: State, key: Array, hyperparameters: PyTree, count: int, length: int
    ) -> tuple[State, RoundInfo]:
        check.count("count", count, low=0, high=length)
        # of one type, whatever the user wrote: 0 and 0.5 are the same program
        numbers = jax.tree.map(lambda x: jnp.asarray(x, float), hyperparameters)
        return compiled(data(), state, key, numbers, jnp.int32(count), length)

    return block


def run_block(
    setting: Setting,
    data: FederatedDataset,
    state: State,
    key: Array,
    hyperparameters: PyTree,
    count: Array,
    length: int,
) -> tuple[State, RoundInfo]:
    """Runs `count` rounds in a program for `length`, so that no remainder compiles again."""
    traced = jax.jit(partial(run_round, setting), inline=True)  # once, for its shapes and the loop

    def one(state: State) -> tuple[State, RoundInfo]:
        return traced(data, state, key, hyperparameters)

    shapes = jax.eval_shape(one, state)[1]

    def step(state: State, index: Array) -> tuple[State, RoundInfo]:
        return jax.lax.cond(index < count, one, skip, state)

    def skip(state: State) -> tuple[State, RoundInfo]:
        return state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    return jax.lax.scan(step, state, jnp.arange(length, dtype=jnp.int32))
