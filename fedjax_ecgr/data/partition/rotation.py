"""Feature shift by rotation: groups of clients see images turned by different angles.

Source: Ghosh, Chung, Yin, Ramchandran, "An Efficient Framework for Clustered Federated Learning"
(IFCA), arXiv 2006.04088, section 6: Rotated MNIST, whose clients form four groups that see the
images at 0°, 90°, 180° and 270°, and Rotated CIFAR, with two, at 0° and 180°. There each group has
all images of the source; here each image is one client's, at its angle. All these turns only move
pixels: nothing is interpolated.
"""

import numpy as np

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.federated import Examples, FederatedDataset
from fedjax_ecgr.data.partition.shift import check_images, divided, shifted


def rotation(
    examples: Examples,
    *,
    num_clients: int,
    rotations: int = 4,
    alpha: float | None = None,
    seed: int = 0,
) -> FederatedDataset:
    """Divides images evenly, then turns those of client i by (i mod rotations) · 360° / rotations.

    Args:
      examples: the N examples to divide, images of shape (height, width, channels).
      num_clients: number of clients, at most N.
      rotations: number of angles: 4 for square images (0°, 90°, 180°, 270°, anticlockwise), or 2
        (0°, 180°).
      alpha: concentration of a Dirichlet division that comes first, as in `dirichlet`; None deals
        examples evenly, as `iid` does.
      seed: of the division.

    Returns:
      The division, of a copy of the examples whose inputs are turned.

    Raises:
      InputError: if an argument is out of range, or inputs are not such images.

    >>> images = np.tile(np.array([[1, 2], [3, 4]], np.uint8), (2, 1, 1))[..., np.newaxis]
    >>> examples = Examples(images, np.array([0, 1]), mean=0.0, std=1.0)
    >>> clients = rotation(examples, num_clients=2, rotations=2)
    >>> clients.examples.inputs[clients.indices[1, 0], :, :, 0]
    array([[4, 3],
           [2, 1]], dtype=uint8)
    """
    if rotations not in (2, 4):
        raise InputError(f"rotations: {rotations!r} is not allowed, it must be 2 or 4")
    clients = divided(examples, num_clients, alpha, seed)
    height, width, _ = check_images(examples)
    if rotations == 4 and height != width:
        raise InputError(
            f"rotations: 4 is not allowed for images of {height} x {width}, it must be 2 where "
            "they are not square"
        )

    def turned(client: int, images: np.ndarray) -> np.ndarray:
        return np.rot90(images, client % rotations * (4 // rotations), axes=(1, 2))

    return shifted(clients, turned)
