r"""Controls: each keeps one thing that ECGR does to an update, and gives up the others.

A client's ũ has a direction of its own and the length of Σ d; the mean of all ũ has another length
than the mean of all Σ d, too, for directions that agree more add up to more.

| name | of a client's update: direction | length |
|---|---|---|
| `random_steps` | k steps at random in place of the convergent ones | ‖Σ d‖ |
| `turned` | Σ d, turned by ECGR's angle into a random direction | ‖Σ d‖ |
| `damped` | ECGR's | ‖u‖, that is without the re-scale |
| `shortened` | Σ d | ‖u‖ |

| algorithm, under `ecgr` | direction of the server's step | its length |
|---|---|---|
| `plain_as_long` | Σ p Δ | ‖Σ p ũ‖ |
| `ecgr_as_short` | Σ p ũ | ‖Σ p Δ‖ |

Regulators get no key: what is random here is drawn from the bits of the client's own update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import optax

import fedjax_ecgr as fx
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.algorithms.base import (
    Algorithm,
    Client,
    Common,
    Local,
    Outcome,
    Server,
    Upload,
    algorithm,
)
from fedjax_ecgr.regulators import REGULATORS, Regulator
from fedjax_ecgr.regulators.base import Given
from fedjax_ecgr.types import Array, Hyperparameters, PyTree


def random_steps(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns ECGR with k steps at random in place of the convergent ones."""

    def change(done: _Done) -> PyTree:
        mask, info = done.state.mask, done.info
        drawn = jnp.where(mask, jax.random.uniform(_key(done.total), mask.shape), jnp.inf)
        chosen = jnp.argsort(jnp.argsort(drawn)) < info.selection.chosen.sum()
        weights = jnp.where(mask, jnp.where(chosen, 1, done.numbers["beta"]), 0)
        dtype = jnp.result_type(*jax.tree.leaves(done.total))
        blend = jax.tree.map(lambda d: jnp.tensordot(weights.astype(dtype), d, 1), done.state.rows)
        return _of_length(blend, optax.tree.norm(done.total))

    return _changed("random_steps", beta, select_ratio, change)


def turned(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns Σ d turned by the angle that ECGR turns it by, into a random direction."""

    def change(done: _Done) -> PyTree:
        total, cosine = done.total, done.info.cosine
        drawn, length = optax.tree.random_like(_key(total), total), optax.tree.norm(total)
        along = optax.tree.vdot(total, drawn) / jnp.maximum(length, _TINY) ** 2
        across = jax.tree.map(lambda r, t: r - along * t, drawn, total)
        across = _of_length(across, length * jnp.sqrt(jnp.maximum(1 - cosine**2, 0)))
        return jax.tree.map(lambda t, a: cosine * t + a, total, across)

    return _changed("turned", beta, select_ratio, change)


def damped(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns ECGR without the re-scale: what is damped is lost."""
    return _changed(
        "damped",
        beta,
        select_ratio,
        lambda done: jax.tree.map(lambda u: u / done.info.rescale, done.update),
    )


def shortened(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns Σ d, as long as ECGR's blend before the re-scale."""
    return _changed(
        "shortened",
        beta,
        select_ratio,
        lambda done: jax.tree.map(lambda t: t / done.info.rescale, done.total),
    )


class _Done(NamedTuple):
    """What ECGR made of a client's steps."""

    update: PyTree
    total: PyTree
    info: Any
    state: Any
    numbers: Hyperparameters


def _changed(
    name: str,
    beta: Array | float,
    select_ratio: Array | float,
    change: Callable[[_Done], PyTree],
) -> Regulator:
    """Returns ECGR whose update is changed at the end."""
    base = fx.ecgr(beta, select_ratio)

    def finalize(state: Any, total: PyTree, given: Given | None = None) -> tuple[PyTree, PyTree]:
        numbers = base.hyperparameters if given is None else given.hyperparameters
        update, info = base.finalize(state, total, given)
        return change(_Done(update, total, info, state, numbers)), ()

    return base._replace(name=name, finalize=finalize)


def plain_as_long(**common: Unpack[Common]) -> Algorithm:
    """Returns FedAvg whose step is as long as the regulated updates' mean."""
    return algorithm("plain_as_long", common, client=_both, server=_plain_as_long)


def ecgr_as_short(**common: Unpack[Common]) -> Algorithm:
    """Returns FedAvg of regulated updates whose step is as long as the plain updates' mean."""
    return algorithm("ecgr_as_short", common, client=_both, server=_ecgr_as_short)


def _both(client: Client, local: Local) -> Outcome:
    trained = client.train()
    plain = jax.tree.map(jnp.subtract, local.params, trained.params)
    return Outcome(Upload(plain, weighted=trained.update), local.state, trained)


def _plain_as_long(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    return _of_length(upload.update, optax.tree.norm(upload.weighted)), server.state


def _ecgr_as_short(server: Server, upload: Upload) -> tuple[PyTree, PyTree]:
    return _of_length(upload.weighted, optax.tree.norm(upload.update)), server.state


_TINY = 1e-18  # its square is a number of float32 still


def _of_length(tree: PyTree, length: Array) -> PyTree:
    scale = length / jnp.maximum(optax.tree.norm(tree), _TINY)
    return jax.tree.map(lambda x: x * scale, tree)


def _key(total: PyTree) -> Array:
    bits = jax.lax.bitcast_convert_type(optax.tree.norm(total).astype(jnp.float32), jnp.uint32)
    return jax.random.key(bits)


def enlist() -> None:
    """Lists the controls, so that configurations and sweeps of this process know them."""
    REGULATORS.update({one.__name__: one for one in (damped, random_steps, shortened, turned)})
    ALGORITHMS.update({one.__name__: one for one in (ecgr_as_short, plain_as_long)})
