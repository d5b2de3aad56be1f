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

from typing import Any, Unpack

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
from fedjax_ecgr.types import Array, PyTree


def random_steps(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns ECGR with k steps at random in place of the convergent ones."""
    base = fx.ecgr(beta, select_ratio)

    def finalize(state: Any, total: PyTree, given: Given | None = None) -> tuple[PyTree, PyTree]:
        numbers = base.hyperparameters if given is None else given.hyperparameters
        _, info = base.finalize(state, total, given)
        drawn = jax.random.uniform(_key(total), state.mask.shape)
        order = jnp.argsort(jnp.where(state.mask, drawn, jnp.inf))
        place = jnp.argsort(order)
        chosen = state.mask & (place < info.selection.chosen.sum())
        dtype = jnp.result_type(*jax.tree.leaves(total))
        weights = jnp.where(chosen, 1, jnp.asarray(numbers["beta"], dtype))
        weights = jnp.where(state.mask, weights, 0)
        blend = jax.tree.map(lambda d: jnp.tensordot(weights, d, 1), state.rows)
        return _of_length(blend, optax.tree.norm(total)), ()

    return base._replace(name="random_steps", finalize=finalize)


def turned(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns Σ d turned by the angle that ECGR turns it by, into a random direction."""
    base = fx.ecgr(beta, select_ratio)

    def finalize(state: Any, total: PyTree, given: Given | None = None) -> tuple[PyTree, PyTree]:
        _, info = base.finalize(state, total, given)
        drawn, length = optax.tree.random_like(_key(total), total), optax.tree.norm(total)
        along = optax.tree.vdot(total, drawn) / jnp.maximum(length, _TINY) ** 2
        across = jax.tree.map(lambda r, t: r - along * t, drawn, total)
        across = _of_length(across, length * jnp.sqrt(jnp.maximum(1 - info.cosine**2, 0)))
        return jax.tree.map(lambda t, a: info.cosine * t + a, total, across), ()

    return base._replace(name="turned", finalize=finalize)


def damped(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns ECGR without the re-scale: what is damped is lost."""
    base = fx.ecgr(beta, select_ratio)

    def finalize(state: Any, total: PyTree, given: Given | None = None) -> tuple[PyTree, PyTree]:
        update, info = base.finalize(state, total, given)
        return jax.tree.map(lambda u: u / info.rescale, update), ()

    return base._replace(name="damped", finalize=finalize)


def shortened(beta: Array | float = 0.2, select_ratio: Array | float = 0.5) -> Regulator:
    """Returns Σ d, as long as ECGR's blend before the re-scale."""
    base = fx.ecgr(beta, select_ratio)

    def finalize(state: Any, total: PyTree, given: Given | None = None) -> tuple[PyTree, PyTree]:
        _, info = base.finalize(state, total, given)
        return jax.tree.map(lambda t: t / info.rescale, total), ()

    return base._replace(name="shortened", finalize=finalize)


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
