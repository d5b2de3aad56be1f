"""Divisions of examples among clients: `name(examples, *, num_clients, seed, …)`, one a file.

Each returns a `FederatedDataset` in which every example belongs to exactly one client, and depends
on nothing but its arguments. A feature shift (noise, rotation, colour) returns changed inputs with
it; the others share the examples they were given. To list another one is to import it here.
"""

from fedjax_ecgr.data.federated import FederatedDataset
from fedjax_ecgr.data.hold_out import hold_out as hold_out
from fedjax_ecgr.data.partition.colour import colour as colour
from fedjax_ecgr.data.partition.dirichlet import dirichlet as dirichlet
from fedjax_ecgr.data.partition.iid import iid as iid
from fedjax_ecgr.data.partition.log_normal import log_normal as log_normal
from fedjax_ecgr.data.partition.mixture import mixture as mixture
from fedjax_ecgr.data.partition.natural import natural as natural
from fedjax_ecgr.data.partition.niid_classes import niid_classes as niid_classes
from fedjax_ecgr.data.partition.niid_dirichlet import niid_dirichlet as niid_dirichlet
from fedjax_ecgr.data.partition.noise import noise as noise
from fedjax_ecgr.data.partition.quantity import quantity as quantity
from fedjax_ecgr.data.partition.rotation import rotation as rotation
from fedjax_ecgr.data.partition.shards import shards as shards
from fedjax_ecgr.listing import listing

PARTITIONS = listing(globals(), FederatedDataset, given=["examples", "num_clients"])
