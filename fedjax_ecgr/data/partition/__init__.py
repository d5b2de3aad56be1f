"""Divisions of examples among clients: `name(examples, *, num_clients, seed, …)`.

Each returns a `FederatedDataset` in which every example belongs to exactly one client, and depends
on nothing but its arguments. A new one is a file and a line here.
"""

from collections.abc import Callable

from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.data.hold_out import hold_out
from fedjax_ecgr.data.partition.dirichlet import dirichlet
from fedjax_ecgr.data.partition.iid import iid
from fedjax_ecgr.data.partition.natural import natural
from fedjax_ecgr.data.partition.quantity import quantity
from fedjax_ecgr.data.partition.shards import shards

PARTITIONS: dict[str, Callable[..., FederatedDataset]] = {
    "dirichlet": dirichlet,
    "iid": iid,
    "natural": natural,
    "quantity": quantity,
    "shards": shards,
}

__all__ = ["PARTITIONS", "dirichlet", "hold_out", "iid", "natural", "quantity", "shards"]
