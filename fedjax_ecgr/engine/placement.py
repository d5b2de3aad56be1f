"""How clients meet the hardware: three ways to lay out the client axis, with the same numbers.

- `scan`: one client after another inside the program: the way on a CPU, where it measured several
  times faster than `vmap`.
- `vmap`: a chunk of clients at once, over stacked parameters: the way on an accelerator.
- `devices`: the axis over a mesh with `jax.shard_map`, scan or vmap inside, one `psum` at the end.

All keep a running sum over chunks, so that memory grows with the chunk and not with the cohort.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from fedjax_ecgr import check
from fedjax_ecgr.engine.hosts import devices_asked
from fedjax_ecgr.types import Array, PyTree

# (context, one client's slot, longest) -> (what is summed over clients, what is kept of each);
# longest is the largest extent of the clients that run at once, None for a client that runs alone
ClientFunction = Callable[[PyTree, PyTree, Any], tuple[PyTree, PyTree]]

AXIS = "clients"
KINDS = {
    "auto": "the best of the others for this machine",
    "scan": "one client after another",
    "vmap": "a chunk of clients at once",
    "devices": "over all devices, scan or vmap on each",
}
# A chunk of this many clients keeps an accelerator busy; more mostly costs memory.
_DEFAULT_CHUNK = 64


class Placement(NamedTuple):
    """A layout of the client axis; static.

    Attributes:
      chunk_size: clients at once on one device; 1 is `scan`.
      mesh: the devices the axis is spread over, or None for the default device alone.
      inside: within a program that is laid out over a mesh already, of which the clients' axis has
        so many devices: that number.
      beside: the axis of a `vmap` around it all, whose members wait for one another's clients; None
        where there is none.
    """

    chunk_size: int
    mesh: Mesh | None = None
    inside: int = 1
    beside: str | None = None

    @property
    def num_devices(self) -> int:
        """Number of devices clients are spread over."""
        return self.inside if self.mesh is None else self.mesh.size

    @property
    def alone(self) -> bool:
        """Whether clients run one by one, and wait for no other."""
        return self.chunk_size == 1 and self.beside is None

    def __str__(self) -> str:
        inner = "scan" if self.chunk_size == 1 else f"vmap, {self.chunk_size} clients at once"
        return inner if self.mesh is None else f"devices, {self.mesh.size} of them, each {inner}"


def placement(
    kind: str, cohort_size: int, *, chunk_size: int | None = None, num_devices: int | None = None
) -> Placement:
    """Returns the placement that a user asked for.

    Args:
      kind: `scan`, `vmap`, `devices`, or `auto`: scan on a CPU, vmap on an accelerator, and either
        over all devices where there are several.
      cohort_size: clients a round.
      chunk_size: clients at once on one device; by default 1 for scan and 64 for vmap (or as many
        as there are). Peak memory grows with it.
      num_devices: how many devices to use, for `devices`; all by default.

    Raises:
      InputError: for an unknown kind, or a number that is not allowed.
    """
    check.known("placement", kind, KINDS)
    if chunk_size is not None:
        chunk_size = check.count("chunk_size", chunk_size)
    available = devices_asked(num_devices)
    natural = "scan" if jax.default_backend() == "cpu" else "vmap"
    if kind == "auto":
        kind = "devices" if available > 1 else natural
    if kind == "scan" and chunk_size not in (None, 1):
        raise check.InputError(f"chunk_size: {chunk_size} is not allowed, scan takes one by one")
    if kind != "devices" and num_devices not in (None, 1):
        raise check.InputError(
            f"num_devices: {num_devices} is not allowed, {kind} uses one device (devices: several)"
        )
    mesh = None
    if kind == "devices":
        devices = jax.devices()[:num_devices]
        mesh = jax.make_mesh((len(devices),), (AXIS,), (AxisType.Auto,), devices=devices)
    share = -(-cohort_size // (mesh.size if mesh else 1))
    one_by_one = kind == "scan" or (kind == "devices" and natural == "scan")
    return Placement(min(chunk_size or (1 if one_by_one else _DEFAULT_CHUNK), share), mesh)


def map_reduce(
    function: ClientFunction,
    placement: Placement,
    context: PyTree,
    slots: PyTree,
    extent: Callable[[PyTree], tuple[Array, ...]],
) -> tuple[PyTree, PyTree]:
    """Applies `function` to every client slot, laid out as `placement` says.

    Clients of a chunk wait for the longest of them, and devices for one another. So clients of like
    extent share a chunk, and chunks are dealt out for devices to have equal work.

    Args:
      function: `(context, slot, longest) -> (summand, kept)` for one client.
      placement: the layout.
      context: what all clients share.
      slots: [clients, ...] leaves, what differs. All-zero slots may be added at the end; they must
        contribute nothing to the sum.
      extent: `slot -> NamedTuple of int32`: first what the client's work is proportional to, then
        whatever else tells how much of it there is.

    Returns:
      The sum over clients, and what is kept of each, stacked [clients, ...].
    """
    clients = jax.tree.leaves(slots)[0].shape[0]
    multiple = placement.chunk_size * placement.num_devices
    slots = jax.tree.map(lambda x: _pad(x, -clients % multiple), slots)
    if multiple > 1:
        order = _dealt(jax.vmap(extent)(slots), placement)
        slots = jax.tree.map(lambda x: x[order], slots)
    on_one = partial(_on_one_device, function, placement, extent)
    if placement.num_devices == 1 and placement.mesh is None:
        total, kept = on_one(context, slots)
    else:
        replicated, split = PartitionSpec(), PartitionSpec(AXIS)
        total, kept = jax.shard_map(
            lambda context, slots: _summed(on_one(context, slots)),
            mesh=placement.mesh,  # None for the one around
            axis_names={AXIS},
            in_specs=(replicated, split),
            out_specs=(replicated, split),
            check_vma=False,  # gradients are taken of each client's own copy: none to be summed
        )(context, slots)
    if multiple > 1:
        kept = jax.tree.map(lambda x: x[jnp.argsort(order)], kept)
    return total, jax.tree.map(lambda x: x[:clients], kept)


def _dealt(extents: tuple[Array, ...], placement: Placement) -> Array:
    """Returns the order in which clients stand, device by device and chunk by chunk: [clients].

    The longest first, and each chunk to the device that has least to do so far (Graham 1969), of
    those that have not got their equal number of chunks.
    """
    order = jnp.lexsort([-extent for extent in reversed(extents)]).astype(jnp.int32)
    order = order.reshape(-1, placement.chunk_size)
    devices = placement.num_devices
    if devices == 1:
        return order.reshape(-1)
    share = order.shape[0] // devices

    def deal(given: tuple[Array, Array], work: Array) -> tuple[tuple[Array, Array], Array]:
        done, chunks = given
        device = jax.lax.argmin(jnp.where(chunks < share, done, jnp.inf), 0, jnp.int32)
        place = device * share + chunks[device]
        return (done.at[device].add(work), chunks.at[device].add(1)), place

    nothing = jnp.zeros(devices, jnp.float32), jnp.zeros(devices, jnp.int32)
    longest = extents[0][order[:, 0]].astype(jnp.float32)
    _, places = jax.lax.scan(deal, nothing, longest)
    return jnp.zeros_like(order).at[places].set(order).reshape(-1)


def _summed(results: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    return jax.lax.psum(results[0], AXIS), results[1]


def _on_one_device(
    function: ClientFunction,
    placement: Placement,
    extent: Callable[[PyTree], tuple[Array, ...]],
    context: PyTree,
    slots: PyTree,
) -> tuple[PyTree, PyTree]:
    chunk_size, alone, beside = placement.chunk_size, placement.alone, placement.beside
    function = jax.jit(function, inline=True)  # traced once, for what the sum is like and the loop

    def of_all(longest: PyTree) -> PyTree:
        # the same for all members around, so that a loop over it is one loop for all of them
        return longest if beside is None else jax.lax.pmax(longest, beside)

    def one(slot: PyTree) -> tuple[PyTree, PyTree]:
        summand, kept = function(context, slot, None if alone else of_all(extent(slot)))
        return summand, jax.tree.map(lambda x: x[None], kept)

    def several(chunk: PyTree) -> tuple[PyTree, PyTree]:
        longest = of_all(jax.tree.map(jnp.max, jax.vmap(extent)(chunk)))
        summands, kept = jax.vmap(function, in_axes=(None, 0, None))(context, chunk, longest)
        return jax.tree.map(lambda x: x.sum(axis=0), summands), kept

    def step(total: PyTree, chunk: PyTree) -> tuple[PyTree, PyTree]:
        if chunk_size == 1:
            summed, kept = one(jax.tree.map(lambda x: x[0], chunk))
        else:
            summed, kept = several(chunk)
        return jax.tree.map(jnp.add, total, summed), kept

    chunks = jax.tree.map(lambda x: x.reshape(-1, chunk_size, *x.shape[1:]), slots)
    slot = jax.tree.map(lambda x: x[0], slots)
    longest = None if alone else extent(slot)
    shapes = jax.eval_shape(lambda slot: function(context, slot, longest)[0], slot)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, kept = jax.lax.scan(step, zero, chunks)
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), kept)


def _pad(array: Array, missing: int) -> Array:
    return jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
