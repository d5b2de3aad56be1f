"""Several processes that run one program, mostly each on a host of its own.

After `jax.distributed.initialize` every process runs the same Python with the same values, and
knows the devices of all. A mesh is of all of them; each process hands its own devices their part of
what all have, and gets the whole of what all of them computed. With one process it is as ever.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from fedjax_ecgr import check
from fedjax_ecgr.types import Array, PyTree


def devices_asked(num_devices: int | None) -> int:
    """Returns how many devices of all processes are to be used; all by default.

    Raises:
      InputError: if there are not so many, or others than all where there are several processes.
    """
    available = jax.device_count()
    if num_devices is None:
        return available
    low = 1 if jax.process_count() == 1 else available
    why = "the devices there are" if low == 1 else "the devices of all processes, which take part"
    check.count("num_devices", num_devices, low=low, high=available, why=why)
    return num_devices


def refuse_several(name: str) -> None:
    """Raises `InputError` in one of several processes, which would all write the same files."""
    if jax.process_count() > 1:
        raise check.InputError(
            f"{name}: {jax.process_count()} processes that run one program are not allowed, start "
            "each by itself, with a share of a study (--shard i/n), or record what run_members or "
            "run returns"
        )


def put(tree: PyTree, sharding: Sharding | None) -> PyTree:
    """Puts arrays on the devices of a sharding.

    Args:
      tree: arrays, on the host or a device, of the same values in every process; or such as have
        been put there already.
      sharding: where to; None for the default device.
    """
    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def one(x: Any) -> Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.device_put(x, sharding)
        held = np.asarray(x)
        held = held.astype(jnp.result_type(held), copy=False)  # as device_put takes it
        return jax.make_array_from_callback(held.shape, sharding, lambda index: held[index])

    return jax.tree.map(one, tree)


def fetch(tree: PyTree) -> PyTree:
    """Returns arrays on the host, those of all processes' devices in each of them.

    All processes must call it, with what the same program returned to them.
    """
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    def whole(x: Any) -> Any:
        there = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
        return x if there else multihost_utils.process_allgather(x, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))
