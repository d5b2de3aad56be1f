"""Feature shift: examples are divided first, then each client's inputs are changed, all alike.

Only inputs change, in a copy; labels, and the mean and standard deviation that inputs are
normalised by, stay those of the source. Test examples held out of such a division (`hold_out`) are
shifted as their client's training examples are.

uint8 inputs stay uint8: what a shift makes of them is rounded and clipped to [0, m], with m the
largest value of all examples (255 in most images, 16 in the digits), which is what 1 is where
pixels are in [0, 1]. Floating inputs are neither scaled nor clipped.
"""

from collections.abc import Callable

import numpy as np

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.federated import Examples, FederatedDataset
from fedjax_ecgr.data.partition.dirichlet import dirichlet
from fedjax_ecgr.data.partition.iid import iid


def divided(
    examples: Examples, num_clients: int, alpha: float | None, seed: int
) -> FederatedDataset:
    """Returns the division before the shift: `iid`, or `dirichlet` where there is an `alpha`."""
    if np.asarray(examples.inputs).dtype == np.int32:
        raise InputError("inputs: tokens are not allowed, they must be numbers that can be shifted")
    if alpha is None:
        return iid(examples, num_clients=num_clients, seed=seed)
    return dirichlet(examples, num_clients=num_clients, alpha=alpha, seed=seed)


def shifted(
    clients: FederatedDataset, change: Callable[[int, np.ndarray], np.ndarray]
) -> FederatedDataset:
    """Returns `clients` with other inputs.

    Args:
      clients: a division in which nobody shares an example.
      change: takes a client's number and its inputs, [n, *input_shape] as stored, and returns as
        many, in any floating type or as stored.
    """
    before = np.asarray(clients.examples.inputs)
    after, scale = before.copy(), full_scale(before)
    for client, (row, size) in enumerate(zip(clients.indices, clients.sizes, strict=True)):
        rows = row[:size]
        changed = change(client, before[rows])
        if before.dtype == np.uint8:
            changed = np.clip(np.rint(changed), 0, scale)
        after[rows] = changed.astype(before.dtype)
    return clients._replace(examples=clients.examples._replace(inputs=after))


def own_rng(seed: int, client: int) -> np.random.Generator:
    """Returns a stream of a client's own, unlike those that data and divisions are drawn by."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, client)))


def full_scale(inputs: np.ndarray) -> float:
    """Returns the largest value of uint8 inputs, and 1 for floating ones."""
    return float(inputs.max()) if inputs.dtype == np.uint8 else 1.0


def check_images(examples: Examples) -> tuple[int, int, int]:
    """Returns height, width and channels; raises `InputError` unless inputs are images."""
    shape = np.shape(examples.inputs)
    if len(shape) != 4:
        raise InputError(
            f"inputs: shape {shape} is not allowed, it must be (examples, height, width, channels)"
        )
    return shape[1:]
