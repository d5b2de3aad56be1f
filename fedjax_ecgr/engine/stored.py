"""Arrays as devices hold them, and on which."""

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_ecgr.engine import hosts
from fedjax_ecgr.engine.placement import Placement
from fedjax_ecgr.types import Array, PyTree


def as_stored(tree: PyTree) -> PyTree:
    """Arrays as devices hold them: integers as int32."""
    # copied, for a device may use the memory given; `jnp.asarray` compiles a program a shape
    tree = jax.tree.map(lambda x: x if isinstance(x, Array) else jax.device_put(np.array(x)), tree)
    return jax.tree.map(narrowed, tree)


def narrowed(x: Any) -> Any:
    """Returns an array as devices hold it: integers of 64 bits as int32."""
    return x.astype(np.int32) if x.dtype == np.int64 else x


def on_devices(layout: Placement, tree: PyTree) -> PyTree:
    """Puts arrays on the device, or a copy on each device of the mesh."""
    tree, everywhere = as_stored(tree), _everywhere(layout)
    return tree if everywhere is None else hosts.put(tree, everywhere)


def shapes(layout: Placement, tree: PyTree) -> PyTree:
    """Returns what `on_devices` would, of arrays or shapes, without any array."""
    everywhere = _everywhere(layout)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        jax.eval_shape(as_stored, tree),
    )


def _everywhere(layout: Placement) -> NamedSharding | None:
    return None if layout.mesh is None else NamedSharding(layout.mesh, PartitionSpec())
